r"""The marginal log-likelihood of a mixed model and its exact gradient: the one integral.

.. math:: \ell(\beta, \theta, \log\phi) = \log \int f(y \mid \eta = o + X\beta + Z\Lambda(\theta)u,
   \phi)\, \varphi(u)\, du

One factor, or two of which one is nested in the other: adaptive Gauss-Hermite, any number of
nodes. Other factors: Laplace, which is one node.

Parameters are one vector: ``beta``, then ``theta`` factor by factor, then log dispersion where
the family has one.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .groups import (
    Factor,
    Rows,
    by_size,
    distinct_rows,
    is_nested,
    largest_first,
    sort_rows,
)
from .irls import total_log_scale
from .pieces import Pieces

MOST_DIMENSIONS = 3  # of the product rule


class NoEffects:
    """The density itself, where there is nothing to integrate."""

    nodes = 1
    modes = np.zeros(0)

    def __init__(self, blocks, y, trials):
        self.blocks, self.y, self.trials = blocks, y, trials
        self.rows = np.empty((4, len(y)))

    def __call__(self, base, dispersion, factors) -> Pieces:
        """Evaluate at the linear predictor ``base``."""
        n, by_dispersion = len(self.y), 0.0
        self.blocks.density(self.y, self.trials, base, dispersion, 0, n, self.rows)
        if self.blocks.has_dispersion:
            spread = np.empty((3, n))
            self.blocks.spread(self.y, self.trials, base, dispersion, 0, n, spread)
            by_dispersion = float(spread[0].sum())
        return Pieces(float(self.rows[0].sum()), self.rows[1], [], by_dispersion)

    def conditional(self, factors) -> list:
        """No effects, no modes."""
        return []

    def working_information(self, weights, factors, columns) -> np.ndarray:
        """``X'WX``."""
        return columns.T @ (weights[:, None] * columns)


def nodes_allowed(factors: list[Factor]) -> bool:
    """Tell whether more than one node can be used."""
    served = len(factors) == 1 or is_nested(by_size(factors))
    return served and dimensions(factors) <= MOST_DIMENSIONS


def dimensions(factors: list[Factor]) -> int:
    """Dimensions of the product rule: effects of one level of each factor."""
    return sum(f.q for f in factors)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the parts of the parameter vector stand."""

    p: int
    thetas: tuple[int, ...]
    has_dispersion: bool

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.p + sum(self.thetas) + self.has_dispersion

    def split(self, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], float]:
        """``beta``, ``theta`` by factor, dispersion (1 where the family has none)."""
        cuts = self.p + np.cumsum((0, *self.thetas))
        thetas = [x[a:b] for a, b in pairwise(cuts)]
        return x[: self.p], thetas, float(np.exp(x[-1])) if self.has_dispersion else 1.0

    def theta_slice(self, k: int) -> slice:
        """Where the ``theta`` of factor ``k`` stands."""
        start = self.p + sum(self.thetas[:k])
        return slice(start, start + self.thetas[k])


class Marginal:
    """The marginal log-likelihood of arrays as a function of the parameter vector.

    Parameters
    ----------
    blocks
        The family with its link (``bind.bind_numba``).
    rows
        Response and fixed part.
    factors
        Grouping factors; their order is that of ``theta``.
    constant
        Sum of the family's ``log_base``: what depends on no parameter.
    nodes
        Quadrature nodes per effect.

    Attributes
    ----------
    evaluations
        Calls so far.

    Notes
    -----
    Conditional modes are kept as starts of the next evaluation, so one object serves one
    thread at a time.
    """

    def __init__(self, blocks, rows: Rows, factors: list[Factor], constant: float, nodes: int = 1):
        self.rank = largest_first(factors)
        ranked = [factors[k] for k in self.rank]
        self.nested = len(factors) == 2 and nodes_allowed(factors)
        if factors:  # nested levels by outer, then by inner level
            rows, ranked = sort_rows(rows, ranked, ranked[::-1] if self.nested else ranked[:1])
        self.rows = Rows(*(np.array(a, float, order="C") for a in vars(rows).values()))
        self.factors = factors
        self.ranked = ranked
        self.constant = constant
        self.blocks = blocks
        has_dispersion = blocks.has_dispersion
        self.distinct = distinct_rows(rows.y, rows.trials) if has_dispersion else None
        self.layout = Layout(
            self.rows.X.shape[1], tuple(f.covariance.size for f in factors), blocks.has_dispersion
        )
        self.integral = self._integral(nodes)
        self.evaluations = 0

    def _integral(self, nodes: int) -> Any:
        y, trials = self.rows.y, self.rows.trials
        if not self.factors:
            return NoEffects(self.blocks, y, trials)
        if self.nested:
            from .nested import Nested

            return Nested(self.blocks, y, trials, self.ranked, nodes)
        if nodes_allowed(self.factors):
            from .quadrature import Quadrature

            return Quadrature(self.blocks, y, trials, self.ranked[0], nodes)
        from .laplace import Laplace

        return Laplace(self.blocks, y, trials, self.ranked)

    @property
    def dense(self) -> int:
        """Rows of the dense matrix that is factored: effects of all factors but the largest."""
        return 0 if self.nested else sum(f.levels * f.q for f in self.ranked[1:])

    def use_nodes(self, nodes: int) -> None:
        """Change the quadrature rule; modes are kept as starts."""
        if nodes != self.integral.nodes:
            self.integral.use_nodes(nodes)

    def cholesky_factors(self, thetas: list[np.ndarray]) -> list[np.ndarray]:
        """``L`` of each factor, the largest first."""
        return [self.factors[k].covariance.factor(thetas[k]) for k in self.rank]

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log-likelihood with all constants, and its gradient; -inf where it cannot be had."""
        self.evaluations += 1
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            value, gradient = self._evaluate(x)
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return -np.inf, np.full(len(x), np.nan)
        return value, gradient

    def _evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        beta, thetas, dispersion = self.layout.split(x)
        base = self.rows.X @ beta + self.rows.offset
        if not (np.all(np.isfinite(base)) and 0 < dispersion < np.inf):
            return -np.inf, np.full(len(x), np.nan)
        pieces = self.integral(base, dispersion, self.cholesky_factors(thetas))
        scale, by_scale = total_log_scale(self.blocks.log_scale, self.distinct, dispersion)
        by_theta = [np.zeros(0)] * len(self.factors)
        for k, gamma in zip(self.rank, pieces.gammas, strict=True):
            by_theta[k] = self.factors[k].covariance.gradient(gamma)
        parts = [self.rows.X.T @ pieces.t, *by_theta]
        if self.layout.has_dispersion:
            parts.append(np.array([pieces.dispersion + by_scale]))
        return pieces.value + scale + self.constant, np.concatenate(parts)

    def conditional(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Conditional modes and SDs of the effects at the last evaluation, in factor order."""
        factors = self.cholesky_factors(self.layout.split(x)[1])
        return self._in_order(self.integral.conditional(factors))

    def posterior_means(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]] | None:
        """``E[b | y]`` and SDs by quadrature, in factor order; None under Laplace."""
        if self.integral.nodes == 1:
            return None
        beta, thetas, dispersion = self.layout.split(x)
        base = self.rows.X @ beta + self.rows.offset
        L = self.cholesky_factors(thetas)
        return self._in_order(self.integral.posterior_means(base, dispersion, L))

    def scatter(self, x: np.ndarray, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Draws of ``b`` minus its mode, jointly normal by Laplace, in factor order.

        For several factors, whose effects are correlated given the data; shape
        ``(draws, levels, q)`` each.
        """
        self(x)
        factors = self.cholesky_factors(self.layout.split(x)[1])
        return self._in_order(self.integral.scatter(factors, draws, rng))

    def _in_order(self, ranked: list) -> list:
        found = dict(zip(self.rank, ranked, strict=True))
        return [found[k] for k in range(len(ranked))]
