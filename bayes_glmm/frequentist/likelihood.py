"""The likelihood of a model and the search for its maximum, in one object.

Inside, columns are standardised; what goes in and comes out are the user's parameters in one
vector: ``beta``, ``theta`` (signed Cholesky entries, factor by factor), log dispersion.
ML, profiles, boundary tests and bootstraps are all searches of this object.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..numerics.bind import bind_numba, bind_numpy
from ..numerics.covariance import Covariance
from ..numerics.groups import Factor, Rows
from ..numerics.irls import expected_weights, fit_glm
from ..numerics.marginal import Marginal, nodes_allowed
from ..numerics.optimise import Optimum, maximise
from ..numerics.standardise import standardise
from ..numerics.threads import one_blas_thread

MANY_EFFECTS = 1500  # beside the largest factor's: from here on BLAS may use its threads
ZERO_GAIN = 1e-7  # log-likelihood given up by setting a variance to zero
LEAST_INFORMATION = 1e-8  # of a row about a standardised coefficient, in a search's start
AT_LIMIT = 23.0  # log dispersion that stands for its limit: there a family is the simpler one


@dataclass(frozen=True, eq=False)
class Maximum:
    """A maximum of the likelihood in the user's parameters.

    Attributes
    ----------
    x
        Parameter vector.
    covariance
        Inverse observed information of ``x``; NaN rows and columns for parameters that are
        fixed or on the boundary, all NaN where it is not positive definite.
    optimum
        The search: log-likelihood, evaluations, convergence.
    zero
        ``(factor, column)`` of the standard deviations that are zero.
    proper
        Whether the information is positive definite.
    dispersion_at_limit
        Whether the dispersion is held where the family is the simpler one, ``family.limit``.
    """

    x: np.ndarray
    covariance: np.ndarray
    optimum: Optimum
    zero: tuple[tuple[int, int], ...]
    proper: bool
    dispersion_at_limit: bool = False

    @property
    def loglik(self) -> float:
        """Log-likelihood with all constants."""
        return self.optimum.value


class Likelihood:
    """Log-likelihood of rows and grouping factors under a family with its link.

    Parameters
    ----------
    family, link
        Of the model.
    rows, factors
        The data (``numerics.groups``).
    nodes
        Quadrature nodes.
    """

    def __init__(self, family, link, rows: Rows, factors: list[Factor], nodes: int = 1):
        self.family, self.link, self.rows, self.factors = family, link, rows, factors
        self.standard = standardise(rows.X)
        constant = float(family.log_base(rows.y, rows.trials).sum())
        inner_rows = replace(rows, X=self.standard.columns)
        blocks = bind_numba(family, link)
        self.marginal = Marginal(blocks, inner_rows, factors, constant, nodes)
        self.layout = self.marginal.layout

    @classmethod
    def of(cls, model, nodes: int = 1) -> "Likelihood":
        """Return the likelihood of a GLMM."""
        d = model.design
        rows = Rows(d.y, d.trials, d.offset, d.X)
        return cls(model.family, model.link, rows, factors_of(model), nodes)

    def with_rows(self, rows: Rows) -> "Likelihood":
        """Return the likelihood of other rows with the same grouping."""
        nodes = self.marginal.integral.nodes
        return Likelihood(self.family, self.link, rows, self.factors, nodes)

    def with_factors(self, factors: list[Factor]) -> "Likelihood":
        """Return the likelihood of the same rows under other random effects."""
        nodes = self.marginal.integral.nodes if nodes_allowed(factors) else 1
        return Likelihood(self.family, self.link, self.rows, factors, nodes)

    def reordered(self, k: int, blocks, x: np.ndarray) -> tuple["Likelihood", np.ndarray]:
        """Put the columns of factor ``k`` in another order within their correlated sets.

        Returns
        -------
        likelihood, x
            The same function of the covariance, and the same parameters in its terms.
        """
        before, after = self.factors[k].covariance, Covariance(blocks)
        factors = list(self.factors)
        factors[k] = replace(factors[k], covariance=after)
        part = self.layout.theta_slice(k)
        x = x.copy()
        x[part] = after.theta_of(before.factor(x[part]))
        return self.with_factors(factors), x

    def use_nodes(self, nodes: int) -> None:
        """Change the quadrature rule; conditional modes are kept as starts."""
        self.marginal.use_nodes(nodes)

    # coordinates

    def inner(self, x: np.ndarray) -> np.ndarray:
        """Parameters of the standardised columns."""
        p = self.layout.p
        return np.concatenate([self.standard.inner(x[:p]), x[p:]])

    def outer(self, inner: np.ndarray) -> np.ndarray:
        """Parameters in the user's terms."""
        p = self.layout.p
        return np.concatenate([self.standard.outer(inner[:p]), inner[p:]])

    @cached_property
    def outer_jacobian(self) -> np.ndarray:
        """Derivative of the user's parameters by the inner ones."""
        return self.standard.outer_jacobian(self.layout.size)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log-likelihood and gradient in the user's parameters."""
        value, gradient = self.marginal(self.inner(x))
        return value, np.linalg.solve(self.outer_jacobian.T, gradient)

    # starts

    @cached_property
    def glm(self):
        """The fit without random effects, in standardised columns."""
        bound = bind_numpy(self.family, self.link)
        return fit_glm(bound, self.marginal.rows, self.marginal.blocks)

    @cached_property
    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the start inside and the approximate inverse information there.

        GLM coefficients, and moment estimates of the SDs.

        With ``s_g = sum_j l'_j z_j`` and ``w_g = sum_j w_j z_j^2`` at the GLM fit,
        ``E s_g^2 = w_g + sd^2 w_g^2``.
        """
        m = self.marginal
        bound = bind_numpy(self.family, self.link)
        glm = self.glm
        weights = expected_weights(bound, glm.eta, m.rows.trials, glm.dispersion)
        scores = np.broadcast_to(
            bound.log_density(m.rows.y, m.rows.trials, glm.eta, glm.dispersion)[1], weights.shape
        )
        thetas, informations = [np.zeros(0)] * len(self.factors), [np.zeros(0)] * len(self.factors)
        for k, factor in zip(m.rank, m.ranked, strict=True):
            thetas[k], informations[k] = start_of_factor(factor, scores, weights, len(m.rank))
        information = m.integral.working_information(weights, m.cholesky_factors(thetas), m.rows.X)
        tail = [np.log([glm.dispersion])] if self.layout.has_dispersion else []
        x = np.concatenate([glm.beta, *thetas, *tail])
        inverse = np.zeros((len(x), len(x)))
        p = self.layout.p
        inverse[:p, :p] = inverse_information(information, len(m.rows.y))
        of_dispersion = np.maximum(glm.observed[-1:, -1], 1.0) if len(tail) else np.zeros(0)
        after = np.concatenate([np.zeros(0), *informations, of_dispersion])
        inverse[range(p, len(x)), range(p, len(x))] = 1 / after
        return x, inverse

    # the search

    def maximise(self, start=None, inverse=None, fixed=()) -> Maximum:
        """Find the maximum.

        Parameters
        ----------
        start, inverse
            The user's parameters to start from and their approximate inverse information;
            by default from the fit without random effects.
        fixed
            Positions of ``theta`` or the log dispersion held at their start.
        """
        with self.blas_threads():
            return self._maximise(start, inverse, fixed)

    def blas_threads(self):
        """One BLAS thread, unless there is a large dense matrix to factor."""
        return nullcontext() if self.marginal.dense >= MANY_EFFECTS else one_blas_thread()

    def _maximise(self, start, inverse, fixed) -> Maximum:
        x = self.start[0] if start is None else self.inner(np.asarray(start, float))
        spread = self.start[1] if inverse is None else self._spread(inverse)
        free = np.setdiff1d(np.arange(len(x)), np.asarray(fixed, int))
        optimum, covariance, x = self._search(x, spread, free)
        simpler = self._at_the_limit(x, optimum, free)
        if simpler is not None:
            free = free[free != len(x) - 1]
            optimum, covariance, x = self._search(simpler, spread, free)
        zero: tuple[tuple[int, int], ...] = ()
        inside = free
        for _ in range(3):
            found = self._zero_variances(x, optimum, covariance, inside)
            if not found or set(found) <= set(zero):
                break
            zero = tuple(found)
            positions = np.concatenate([self._entries(k, column) for k, column in zero])
            x = x.copy()
            x[positions] = 0.0
            inside = np.setdiff1d(free, positions)
            optimum, covariance, x = self._search(x, spread, inside)
            better = self._off_the_boundary(x, zero)
            if better is None:
                free = inside
                continue
            zero, inside = (), free
            optimum, covariance, x = self._search(better, spread, free)
        maximum = self._maximum(x, optimum, covariance, zero, free)
        return replace(maximum, dispersion_at_limit=simpler is not None)

    def _at_the_limit(self, x, optimum: Optimum, free) -> np.ndarray | None:
        """Move the dispersion to the family's limit, if no log-likelihood is lost by it."""
        if self.family.limit is None or len(x) - 1 not in free:
            return None
        moved = x.copy()
        moved[-1] = AT_LIMIT * self.family.limit[1]
        return moved if self.marginal(moved)[0] >= optimum.value - ZERO_GAIN else None

    def _spread(self, inverse: np.ndarray) -> np.ndarray:
        """Carry an approximate inverse information inside; what it does not know is the start's."""
        unknown = np.isnan(np.diag(inverse))
        back = np.linalg.inv(self.outer_jacobian)
        spread = back @ np.nan_to_num(inverse) @ back.T
        if np.any(unknown):
            rough = self.start[1]
            spread[unknown] = rough[unknown]
            spread[:, unknown] = rough[:, unknown]
        return spread

    def conditional(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Conditional modes and SDs of the effects at ``x``, in the order of the factors."""
        with self.blas_threads():
            self.marginal(self.inner(x))
            return self.marginal.conditional(self.inner(x))

    def _search(self, x, spread, free):
        """Maximise over the parameters ``free``, the others held."""

        def objective(part):
            whole = x.copy()
            whole[free] = part
            value, gradient = self.marginal(whole)
            return value, gradient[free]

        optimum, covariance = maximise(objective, x[free], spread[np.ix_(free, free)])
        whole = x.copy()
        whole[free] = optimum.x
        return optimum, covariance, whole

    def _entries(self, k: int, column: int) -> np.ndarray:
        """Positions of row ``column`` of the Cholesky factor of factor ``k``."""
        rows, _ = self.factors[k].covariance.entries
        return self.layout.theta_slice(k).start + np.flatnonzero(rows == column)

    def _zero_variances(self, x, optimum: Optimum, covariance, free) -> list[tuple[int, int]]:
        """Find standard deviations that can be set to zero at no loss of log-likelihood.

        Only those within one standard error of zero are tried.
        """
        found = []
        error = np.full(len(x), np.inf)
        if covariance is not None:
            error[free] = np.sqrt(np.diag(covariance))
        for k, factor in enumerate(self.factors):
            for column in range(factor.q):
                entries = self._entries(k, column)
                held = not np.all(np.isin(entries, free)) and np.any(x[entries])
                if held or np.any(np.abs(x[entries]) > error[entries]):
                    continue
                without = x.copy()
                without[entries] = 0.0
                if self.marginal(without)[0] >= optimum.value - ZERO_GAIN:
                    found.append((k, column))
        return found

    def _off_the_boundary(self, x, zero) -> np.ndarray | None:
        """Look for a higher log-likelihood at positive values of the SDs that are zero."""
        best, value = None, self.marginal(x)[0] + 10 * ZERO_GAIN
        for k, column in zero:
            position = self._entries(k, column)[-1]
            scale = abs(self.start[0][position])
            for size in (0.1, 0.5, 1.0, 2.0):
                trial = x.copy()
                trial[position] = size * scale
                higher = self.marginal(trial)[0]
                if higher > value:
                    best, value = trial, higher
        return best

    def _maximum(self, x, optimum, covariance, zero, free) -> Maximum:
        inner = np.full((len(x), len(x)), np.nan)
        if covariance is not None:
            inner[np.ix_(free, free)] = covariance
        known = np.where(np.isnan(inner), 0.0, inner)
        outer = self.outer_jacobian @ known @ self.outer_jacobian.T
        sign = np.ones(len(x))
        for k, factor in enumerate(self.factors):
            part = self.layout.theta_slice(k)
            sign[part] = factor.covariance.signs(x[part])
        x, outer = x * sign, outer * np.outer(sign, sign)
        held = np.setdiff1d(np.arange(len(x)), free)
        if covariance is None:
            outer[:] = np.nan
        outer[held] = np.nan
        outer[:, held] = np.nan
        return Maximum(self.outer(x), outer, optimum, zero, covariance is not None)


def factors_of(model) -> list[Factor]:
    """Give the grouping factors of a GLMM in the order of its terms."""
    return [Factor(g.index, g.Z, g.n_levels, Covariance(g.blocks)) for g in model.design.groups]


def inverse_information(information: np.ndarray, rows: int) -> np.ndarray:
    """Invert; where the data are separated there is hardly any, and the inverse is bounded."""
    values, vectors = np.linalg.eigh(information)
    return vectors / np.maximum(values, LEAST_INFORMATION * rows) @ vectors.T


def start_of_factor(factor: Factor, scores, weights, shares: int) -> tuple[np.ndarray, np.ndarray]:
    """Moment estimates of a factor's SDs and rough information of its ``theta``."""
    s = factor.sum_by_level(scores[:, None] * factor.Z)
    w = factor.sum_by_level(weights[:, None] * factor.Z**2)
    typical = np.sqrt((w**2).sum(axis=0) / np.maximum(w.sum(axis=0), 1e-300))
    least = 0.3 / np.sqrt(np.maximum(typical, 1e-300))
    moment = (s**2 - w).sum(axis=0) / np.maximum((w**2).sum(axis=0), 1e-300)
    sd = np.maximum(np.sqrt(np.maximum(moment, 0.0) / shares), least)
    rows, columns = factor.covariance.entries
    share = sd * sd * w / (1.0 + sd * sd * w)  # reliability of each level's effect
    both = (share[:, rows] * share[:, columns]).sum(axis=0) / sd[rows] ** 2
    theta = np.where(rows == columns, sd[rows], 0.0)
    return theta, np.maximum(np.where(rows == columns, 2.0 * both, both), 1e-8)
