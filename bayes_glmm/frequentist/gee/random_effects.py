r"""Estimating equations of a conditionally specified model (Zeger, Liang & Albert 1988).

The coefficients are those of the mixed model,
:math:`E(y_{ij} \mid b_i) = h(\eta_{ij} + u_{ij})` with :math:`u_{ij} = z_{ij}'b_i` normal, of
covariance :math:`c_{jk}(\alpha)` within a cluster (``effect_covariance``), but only the two
moments that it implies are used:

.. math:: \mu_{ij} = E\,h(\eta_{ij} + u_{ij}), \quad
   V_{ij,ij} = E\,v(h)/m_{ij} + \mathrm{Var}\,h, \quad
   V_{ij,ik} = \mathrm{Cov}\{h(\eta_{ij} + u_{ij}), h(\eta_{ik} + u_{ik})\},

here exactly where the authors expand. With
:math:`f_t = E\,h(\eta + \sqrt{v} x) \mathrm{He}_t(x) / \sqrt{t!}`, :math:`x` standard normal,
by Gauss-Hermite quadrature, Mehler's formula gives the covariance of two rows whose predictors
correlate by :math:`\rho`: :math:`\sum_{t \ge 1} \rho^t f_{jt} f_{kt}`, and likewise that of any
two functions. beta solves :math:`\sum_i D_i' V_i^{-1} (y_i - \mu_i) = 0` and each parameter of the
effects' covariance

.. math:: \sum_i \sum_{j<k} \frac{\partial V_{ij,ik}}{\partial\alpha}
   \frac{e_{ij} e_{ik} - V_{ij,ik}}{V_{ij,ij} V_{ik,ik}} = 0.

The mean depends on alpha, so that the robust covariance is the sandwich of all equations together.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ...fit import Variance, components_of
from ...methods import GEE, NotServedError
from ..clustering import cluster_code, is_nested
from .effect_covariance import EffectCovariance
from .problem import Equations, Rows
from .solve import solve_or_nan

NODES = 41


class Moments(NamedTuple):
    """Marginal moments by row, and conditional means in Hermite polynomials.

    ``r`` are standardised residuals, ``root`` the marginal standard deviations (n,); ``columns``
    the derivatives of the mean in units of these (p, n), ``by_alpha`` those by alpha (size, n);
    ``h, h1, h2`` the coefficients of the conditional mean and its derivatives in the predictor,
    (n, NODES); ``spread`` the standard deviation of the predictor (n,).
    """

    r: np.ndarray
    columns: np.ndarray
    root: np.ndarray
    by_alpha: np.ndarray
    h: np.ndarray
    h1: np.ndarray
    h2: np.ndarray
    spread: np.ndarray
    alpha: np.ndarray


class Pairs(NamedTuple):
    """What pairs of clusters of one size add to the equations of alpha.

    ``score`` (size, K); its expected derivative ``information`` (size, size), and the expected
    derivative ``by_row`` of minus the score in the predictors of the rows, (size, K, m).
    """

    score: np.ndarray
    information: np.ndarray
    by_row: np.ndarray


@dataclass(frozen=True, eq=False)
class RandomEffects:
    """The covariance that random effects imply; alpha is theirs. See ``Association``."""

    rows: Rows
    effects: EffectCovariance

    name = "random-effects"
    kinds = ("robust", "naive")

    @cached_property
    def rule(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes ``x``, and values at them of the normalised Hermite polynomials by weights.

        The polynomials, ``(NODES, NODES)`` by node and degree, are orthonormal under the weights.
        """
        x, w = np.polynomial.hermite_e.hermegauss(NODES)
        P = np.ones((NODES, NODES))
        P[:, 1] = x
        for t in range(2, NODES):
            P[:, t] = (x * P[:, t - 1] - np.sqrt(t - 1) * P[:, t - 2]) / np.sqrt(t)
        return x, (w / w.sum())[:, None] * P

    def on(self, rows: Rows) -> "RandomEffects":
        """Give the same of rows with other columns or offsets."""
        return replace(self, rows=rows)

    def start(self) -> np.ndarray:
        """Give moderate variances."""
        return self.effects.start()

    def state(self, beta, alpha) -> Moments:
        """Integrate mean, variance and their derivatives."""
        rows, (x, project) = self.rows, self.rule
        # a single effect moves all rows of a cluster alike, up to sign
        spread = (
            np.sqrt(alpha[0]) * self.effects.Z[0][:, 0]
            if self.effects.of_one
            else np.sqrt(np.maximum(alpha @ self.effects.by_row, 0.0))
        )
        eta = (beta @ rows.X + rows.offset)[:, None] + spread[:, None] * x
        at_nodes = (np.broadcast_to(part, eta.shape) for part in rows.bound.link.inverse(eta)[:3])
        value, *slopes = at_nodes
        h, h1, h2 = (part @ project for part in (value, *slopes))
        within = rows.bound.family.variance(value, 1.0) @ project[:, 0] / rows.trials
        root = np.sqrt(within + np.sum(h[:, 1:] ** 2, axis=1))
        r = (rows.y / rows.trials - h[:, 0]) / root
        by_alpha = 0.5 * h2[:, 0] * self.effects.by_row
        return Moments(r, rows.X * (h1[:, 0] / root), root, by_alpha, h, h1, h2, spread, alpha)

    def predictor_correlations(
        self, state: Moments, by_pair: np.ndarray, rows
    ) -> np.ndarray | None:
        """Correlations of the predictors, shape ``(K, m, m)``; None where all are one."""
        if self.effects.of_one:
            return None
        spread = state.spread[rows]
        with np.errstate(invalid="ignore", divide="ignore"):
            rho = np.tensordot(state.alpha, by_pair, 1) / (spread[:, :, None] * spread[:, None, :])
        return np.clip(np.nan_to_num(rho), -1.0, 1.0)  # a predictor without variance: any will do

    def correlations(self, state: Moments, rows: np.ndarray) -> np.ndarray:
        """Correlation matrices of clusters of one size, shape ``(K, m, m)``."""
        rho = self.predictor_correlations(state, self.effects.by_pair(rows), rows)
        h = state.h[rows] / state.root[rows][..., None]
        matrix = mehler(h, h, rho)
        diagonal = np.arange(rows.shape[1])
        matrix[:, diagonal, diagonal] = 1.0
        return matrix

    def pairs(self, state: Moments, rows: np.ndarray) -> Pairs:
        r"""Give what pairs add to the equations of alpha.

        By :math:`\partial E f(u)/\partial v = E f''(u)/2` and :math:`\partial
        E f(u_j) g(u_k)/\partial c_{jk} = E f'(u_j) g'(u_k)`, regular at a variance of zero.
        """
        effects = self.effects
        by_pair = effects.by_pair(rows)
        rho = self.predictor_correlations(state, by_pair, rows)
        h, h1, h2, root, r = (
            part[rows] for part in (state.h, state.h1, state.h2, state.root, state.r)
        )
        bend, slope, covariance = mehler(h2, h, rho), mehler(h1, h, rho), mehler(h, h, rho)
        own = effects.by_row[:, rows]
        by_alpha = by_pair * mehler(h1, h1, rho, mean=True)
        by_alpha += 0.5 * own[:, :, :, None] * bend
        by_alpha += 0.5 * own[:, :, None, :] * bend.swapaxes(1, 2)
        spread = root[:, :, None] * root[:, None, :]
        weight = np.triu(np.ones((rows.shape[1],) * 2), 1) * by_alpha / spread**2
        apart = spread * r[:, :, None] * r[:, None, :] - covariance
        score = np.sum(weight * apart, axis=(2, 3))
        size = effects.size
        information = weight.reshape(size, -1) @ by_alpha.reshape(size, -1).T
        by_row = np.sum(weight * slope, axis=3) + np.sum(weight * slope.swapaxes(1, 2), axis=2)
        return Pairs(score, information, by_row)

    def estimate(self, state: Moments, alpha) -> np.ndarray:
        """Take alpha's part of a scoring step for all; its matrices stay positive semidefinite."""
        p = self.rows.p
        scores, J = self.stacked(state)
        total = scores.sum(axis=1)
        step = solve_or_nan(J, total)[p:]
        proposed = self.effects.step(alpha, step)
        if not np.isfinite(step).all() or self.effects.exists(proposed):
            return proposed
        return self.effects.nearest(alpha, total[p:], J[p:, p:])

    def equations(self, state: Moments, alpha) -> Equations:
        """Multiply by the inverse of each cluster's correlation, that of the state.

        Residuals are moved to ``alpha`` along their derivative, so that beta's step allows for
        that of alpha.
        """
        solved = np.empty(state.columns.shape)
        for pattern in self.rows.clusters.size_patterns:
            columns = state.columns[:, pattern.rows].transpose(1, 2, 0)
            matrix = self.correlations(state, pattern.rows)
            found = solve_or_nan(matrix, columns)
            solved[:, pattern.rows] = found.transpose(2, 0, 1)
        r = state.r - (alpha - state.alpha) @ state.by_alpha / state.root
        return Equations(r, state.columns, solved, self.rows.clusters)

    def stacked(self, state: Moments) -> tuple[np.ndarray, np.ndarray]:
        """Give cluster scores of (beta, alpha) and the derivative ``J`` of minus their sum.

        Shapes ``(p + size, K)`` and ``(p + size, p + size)``; the derivative is the expected one.
        """
        equations, p, size = self.equations(state, state.alpha), self.rows.p, self.effects.size
        of_row = self.rows.clusters.of_row
        scores = np.zeros((p + size, self.rows.clusters.count))
        J = np.zeros((p + size, p + size))
        scores[:p], J[:p, :p] = equations.scores, equations.information
        J[:p, p:] = equations.solved @ (state.by_alpha / state.root).T
        for pattern in self.rows.clusters.size_patterns:
            rows = pattern.rows
            pairs = self.pairs(state, rows)
            scores[p:, of_row[rows[:, 0]]] = pairs.score
            J[p:, p:] += pairs.information
            J[p:, :p] += pairs.by_row.reshape(size, -1) @ self.rows.X[:, rows.ravel()].T
        return scores, J

    def scale(self, state: Moments) -> float:
        """Give 1: the moments of the response are those of its family."""
        return 1.0

    def least_eigenvalue(self, solution) -> float:
        """Give that of all clusters' matrices; a model's covariances are positive definite."""
        state = self.state(solution.beta, solution.alpha)
        if not np.isfinite(state.root).all():
            return np.nan
        return min(
            float(np.linalg.eigvalsh(self.correlations(state, pattern.rows))[:, 0].min())
            for pattern in self.rows.clusters.size_patterns
        )

    def details(self, solution) -> dict:
        """Nothing else."""
        return {}

    def robust(self, solution) -> np.ndarray:
        """Covariance of beta, the estimate of alpha allowed for; shape ``(p, p)``."""
        return self.sandwich(solution)[: self.rows.p, : self.rows.p]

    def sandwich(self, solution) -> np.ndarray:
        r"""Robust covariance of (beta, alpha), shape ``(p + size, p + size)``.

        :math:`J^{-1} (\sum_i g_i g_i') J^{-\prime}` with the cluster scores :math:`g_i` of all
        equations and ``J`` the expected derivative of minus their sum. The entries of a singular
        matrix are taken as known; their rows and columns are NaN. All are where the iterations
        stopped at no solution, with covariances that are not positive definite.
        """
        scores, J = self.stacked(self.state(solution.beta, solution.alpha))
        found = np.full(J.shape, np.nan)
        if not solution.converged and not self.least_eigenvalue(solution) > 0:
            return found
        free = np.flatnonzero(np.r_[np.ones(self.rows.p, bool), ~self.effects.held(solution.alpha)])
        half = solve_or_nan(J[np.ix_(free, free)], scores[free])
        found[np.ix_(free, free)] = half @ half.T
        return found

    def conditional_parts(self, model, solution) -> dict:
        """Give what a fit of a conditional model has besides: components and covariance."""
        p, covariance = self.rows.p, self.sandwich(solution)
        known = np.flatnonzero(np.isfinite(np.diag(covariance)))
        jacobian = np.eye(len(covariance))
        jacobian[p:, p:] = self.effects.working_jacobian(solution.alpha)
        joint, kept = np.full_like(covariance, np.nan), np.ix_(known, known)
        joint[kept] = jacobian[kept] @ covariance[kept] @ jacobian[kept].T
        components, estimate = components_of(model), self.effects.components(solution.alpha)
        slope = [c.scale.slope(x) for c, x in zip(components, estimate, strict=True)]
        errors = np.array(slope) * np.sqrt(np.diag(joint)[p:])
        return {
            "estimand": "conditional",
            "variance": Variance(components, estimate, errors),
            "joint_cov": joint,
        }


def mehler(left: np.ndarray, right: np.ndarray, rho, mean: bool = False) -> np.ndarray:
    r"""Covariances :math:`\sum_{t \ge 1} \rho^t f_{jt} g_{kt}`, shape ``(K, m, m)``.

    Parameters
    ----------
    left, right
        Hermite coefficients ``f`` and ``g`` of the rows of clusters, shape ``(K, m, NODES)``.
    rho
        Correlations of the predictors, ``(K, m, m)``; None for one.
    mean
        Whether to add ``t = 0``: the expected product.
    """
    first = 0 if mean else 1
    if rho is None:
        return left[:, :, first:] @ right[:, :, first:].swapaxes(1, 2)
    total = np.zeros(rho.shape)
    for t in reversed(range(1, left.shape[2])):
        total += left[:, :, None, t] * right[:, None, :, t]
        total *= rho
    return total + left[:, :, None, 0] * right[:, None, :, 0] if mean else total


def pose_effects(model, method: GEE, rows: Rows) -> RandomEffects:
    """Check that a model's effects can be told from products of pairs; arrange them.

    Raises
    ------
    NotServedError
        If there are none, they reach beyond the clusters, a level has one row, or the family has
        a dispersion. Naming what serves.
    """
    groups, use = model.design.groups, "use ML() or PQL() for the mixed model, or another corr."
    _, cluster = cluster_code(model.design, "GEE", method.cluster)
    outside = [g.group for g in groups if not is_nested(g.index, cluster)]
    alone = [g.group for g in groups if g.n_levels == model.design.n]
    got = f"GEE(corr='random-effects') got {model.formula!r}"
    if not groups:
        raise NotServedError(f"{got}, which has no random effects: {use}")
    if outside:
        raise NotServedError(
            f"{got}, whose factor {outside[0]!r} reaches over several clusters of "
            f"{rows.cluster!r}: {use}"
        )
    if alone:
        raise NotServedError(
            f"{got}, whose factor {alone[0]!r} has one row in each level, so that no product of "
            f"two rows tells its variance: {use}"
        )
    if model.family.has_dispersion:
        raise NotServedError(
            f"GEE(corr='random-effects') got family={model.family.name!r}, whose dispersion it "
            "does not estimate: use ML() or PQL()."
        )
    return RandomEffects(rows, EffectCovariance(groups, rows.order))
