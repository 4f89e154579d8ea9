r"""Estimating equations of a conditionally specified model (Zeger, Liang & Albert 1988).

The coefficients are those of the mixed model,
:math:`E(y_{ij} \mid b_i) = h(\eta_{ij} + z_{ij} b_i)` with :math:`b_i \sim N(0, \sigma^2)`, but
only the two moments that it implies are used:

.. math:: \mu_{ij} = E\,h(\eta_{ij} + z_{ij} b), \quad
   V_{ij,ij} = E\,v(h)/m_{ij} + \mathrm{Var}\,h, \quad
   V_{ij,ik} = \mathrm{Cov}\{h(\eta_{ij} + z_{ij} b), h(\eta_{ik} + z_{ik} b)\},

here by Gauss-Hermite quadrature where the authors expand. beta solves
:math:`\sum_i D_i' V_i^{-1} (y_i - \mu_i) = 0` and the variance

.. math:: \sum_i \sum_{j<k} \frac{\partial V_{ij,ik}}{\partial\sigma^2}
   \frac{e_{ij} e_{ik} - V_{ij,ik}}{V_{ij,ij} V_{ik,ik}} = 0.

The mean depends on the variance, so that the robust covariance is the sandwich of both equations
together.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ...fit import Variance, components_of
from ...methods import GEE, NotServedError
from .problem import Equations, Rows
from .solve import solve_or_nan

NODES = 41
START = 0.25  # of the variance
LONGEST_STEP = 1.0  # of the variance in one iteration


class Moments(NamedTuple):
    """Marginal moments by row, and conditional means at the nodes.

    ``r`` are standardised residuals, ``root`` the marginal standard deviations (n,); ``slope``
    and ``by_variance`` the derivatives of the mean in the predictor and in the variance (n,);
    ``h, h1, h2`` the conditional mean and its derivatives, centred, at the nodes (n, Q), and
    ``raw1`` the first of them not centred; ``variance`` that of the random effect.
    """

    r: np.ndarray
    columns: np.ndarray
    root: np.ndarray
    slope: np.ndarray
    by_variance: np.ndarray
    h: np.ndarray
    h1: np.ndarray
    h2: np.ndarray
    raw1: np.ndarray
    variance: float


class Pairs(NamedTuple):
    """What pairs of clusters of one size add to the equation of the variance, (K, m, m).

    Zero on and below the diagonal. ``score``, its expected derivative ``information``, and
    the expected derivatives ``by_first, by_second`` of minus the score in the two predictors.
    """

    score: np.ndarray
    information: np.ndarray
    by_first: np.ndarray
    by_second: np.ndarray


@dataclass(frozen=True, eq=False)
class RandomEffects:
    """The covariance that a random effect implies; alpha is its variance. See ``Association``.

    ``z`` is the column of the random effect, shape ``(n,)``.
    """

    rows: Rows
    z: np.ndarray

    name = "random-effects"
    kinds = ("robust", "naive")

    @cached_property
    def rule(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights for a standard normal."""
        x, w = np.polynomial.hermite_e.hermegauss(NODES)
        return x, w / w.sum()

    def on(self, rows: Rows) -> "RandomEffects":
        """Give the same of rows with other columns or offsets."""
        return replace(self, rows=rows)

    def start(self) -> np.ndarray:
        """Give a moderate variance."""
        return np.array([START])

    def state(self, beta, alpha) -> Moments:
        """Integrate mean, variance and their derivatives."""
        rows, z = self.rows, self.z[:, None]
        x, w = self.rule
        eta = (beta @ rows.X + rows.offset)[:, None] + z * np.sqrt(alpha[0]) * x
        h, h1, h2 = (np.broadcast_to(part, eta.shape) for part in rows.bound.link.inverse(eta)[:3])
        mu, slope, bend = h @ w, h1 @ w, h2 @ w
        within = rows.bound.family.variance(h, 1.0) @ w / rows.trials
        centred = h - mu[:, None]
        root = np.sqrt(within + centred**2 @ w)
        r = (rows.y / rows.trials - mu) / root
        return Moments(
            r,
            rows.X * (slope / root),
            root,
            slope,
            0.5 * self.z**2 * bend,
            centred,
            h1 - slope[:, None],
            h2 - bend[:, None],
            h1,
            float(alpha[0]),
        )

    def correlations(self, state: Moments, rows: np.ndarray) -> np.ndarray:
        """Correlation matrices of clusters of one size, shape ``(K, m, m)``."""
        h = state.h[rows] / state.root[rows][..., None]
        matrix = (h * self.rule[1]) @ h.swapaxes(1, 2)
        diagonal = np.arange(rows.shape[1])
        matrix[:, diagonal, diagonal] = 1.0
        return matrix

    def pairs(self, state: Moments, rows: np.ndarray) -> Pairs:
        r"""Give what pairs add to the equation of the variance.

        By :math:`\partial E f(b)/\partial\sigma^2 = E f''(b)/2`, regular at a variance of zero.
        """
        w, z = self.rule[1], self.z[rows]
        weight = np.triu(np.ones((rows.shape[1],) * 2), 1)

        def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return (a[rows] * w) @ b[rows].swapaxes(1, 2)

        bend = 0.5 * (z**2)[:, :, None] * products(state.h2, state.h)
        by_alpha = bend + 0.5 * (z**2)[:, None, :] * products(state.h, state.h2)
        by_alpha += z[:, :, None] * z[:, None, :] * products(state.raw1, state.raw1)
        slope, root, r = products(state.h1, state.h), state.root[rows], state.r[rows]
        spread = root[:, :, None] * root[:, None, :]
        weight = weight * by_alpha / spread**2
        apart = spread * r[:, :, None] * r[:, None, :] - products(state.h, state.h)
        return Pairs(
            weight * apart, weight * by_alpha, weight * slope, weight * slope.swapaxes(1, 2)
        )

    def estimate(self, state: Moments, alpha) -> np.ndarray:
        """Take the variance's part of a scoring step for both; it does not go below zero."""
        scores, J = self.stacked(state)
        step = solve_or_nan(J, scores.sum(axis=1))[-1]
        return np.maximum(alpha + np.clip(step, -LONGEST_STEP, LONGEST_STEP), 0.0)

    def equations(self, state: Moments, alpha) -> Equations:
        """Multiply by the inverse of each cluster's correlation, that of the state.

        Residuals are moved to the variance ``alpha`` along their derivative, so that beta's step
        allows for that of the variance.
        """
        solved = np.empty(state.columns.shape)
        for pattern in self.rows.clusters.size_patterns:
            columns = state.columns[:, pattern.rows].transpose(1, 2, 0)
            matrix = self.correlations(state, pattern.rows)
            found = solve_or_nan(matrix, columns)
            solved[:, pattern.rows] = found.transpose(2, 0, 1)
        r = state.r - state.by_variance / state.root * (alpha[0] - state.variance)
        return Equations(r, state.columns, solved, self.rows.clusters)

    def stacked(self, state: Moments) -> tuple[np.ndarray, np.ndarray]:
        """Give cluster scores of (beta, variance) and the derivative ``J`` of minus their sum.

        Shapes ``(p + 1, K)`` and ``(p + 1, p + 1)``; the derivative is the expected one.
        """
        equations, p = self.equations(state, np.array([state.variance])), self.rows.p
        of_row = self.rows.clusters.of_row
        scores, J = np.zeros((p + 1, self.rows.clusters.count)), np.zeros((p + 1, p + 1))
        scores[:p], J[:p, :p] = equations.scores, equations.information
        J[:p, p] = equations.solved @ (state.by_variance / state.root)
        for pattern in self.rows.clusters.size_patterns:
            rows = pattern.rows
            pairs = self.pairs(state, rows)
            scores[p, of_row[rows[:, 0]]] = pairs.score.sum(axis=(1, 2))
            J[p, p] += pairs.information.sum()
            by_row = pairs.by_first.sum(axis=2) + pairs.by_second.sum(axis=1)
            J[p, :p] += self.rows.X[:, rows.ravel()] @ by_row.ravel()
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
        """Covariance of beta, that of the variance's estimate allowed for; shape ``(p, p)``."""
        return self.sandwich(solution)[:-1, :-1]

    def sandwich(self, solution) -> np.ndarray:
        r"""Robust covariance of (beta, variance), shape ``(p + 1, p + 1)``.

        :math:`J^{-1} (\sum_i g_i g_i') J^{-\prime}` with the cluster scores :math:`g_i` of both
        equations and ``J`` the expected derivative of minus their sum. A variance of zero is
        taken as known; its row and column are NaN.
        """
        p = self.rows.p
        scores, J = self.stacked(self.state(solution.beta, solution.alpha))
        found = np.full((p + 1, p + 1), np.nan)
        free = slice(0, p + (solution.alpha[0] > 0))
        half = solve_or_nan(J[free, free], scores[free])
        found[free, free] = half @ half.T
        return found

    def conditional_parts(self, model, solution) -> dict:
        """Give what a fit of a conditional model has besides: the SD and its covariance."""
        covariance, variance = self.sandwich(solution), float(solution.alpha[0])
        sd = np.sqrt(variance)
        factor = np.ones(len(covariance))
        with np.errstate(divide="ignore", invalid="ignore"):
            factor[-1] = 0.5 / variance if variance > 0 else np.nan  # d log(sd)
        joint = covariance * np.outer(factor, factor)
        return {
            "estimand": "conditional",
            "variance": Variance(
                components_of(model), np.array([sd]), np.array([sd * np.sqrt(joint[-1, -1])])
            ),
            "joint_cov": joint,
        }


def refuse_not_one_effect(model, method: GEE) -> None:
    """Refuse models with other random effects than one of one factor, or with a dispersion.

    Raises
    ------
    NotServedError
        Naming what serves.
    """
    groups = model.design.groups
    if len(groups) != 1 or groups[0].q != 1 or method.cluster not in (None, groups[0].group):
        raise NotServedError(
            "GEE(corr='random-effects') serves one random effect of one grouping factor, which is "
            f"the cluster, and got {model.formula!r}: use ML() or PQL() for the mixed model, or "
            "another corr for population-averaged coefficients."
        )
    if model.family.has_dispersion:
        raise NotServedError(
            f"GEE(corr='random-effects') got family={model.family.name!r}, whose dispersion it "
            "does not estimate: use ML() or PQL()."
        )
