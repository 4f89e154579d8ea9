r"""Association of binary responses by odds ratios of pairs.

The joint probability :math:`p_{jk}` of two successes follows from the means and the odds ratio
:math:`\psi = e^{\alpha}` (Plackett 1965),

.. math:: \psi = \frac{p_{jk}\,(1 - \mu_j - \mu_k + p_{jk})}{(\mu_j - p_{jk})(\mu_k - p_{jk})},

and with it the covariance :math:`V_{jk} = p_{jk} - \mu_j\mu_k` of a cluster. alpha solves

.. math:: \sum_i \sum_{j<k} \frac{\partial p_{jk}}{\partial\alpha}
   \frac{y_j y_k - p_{jk}}{p_{jk}(1 - p_{jk})} = 0
   \quad\text{or}\quad
   \sum_i \sum_{j<k} \frac{\partial\zeta_{jk}}{\partial\alpha}
   \frac{y_j - \zeta_{jk}}{\zeta_{jk}(1 - \zeta_{jk})} = 0,
   \quad \zeta_{jk} = E(y_j \mid y_k).

The first ("moment") is Lipsitz, Laird & Harrington's (1991) and the first-order equation of
Liang, Zeger & Qaqish (1992); the second ("alternating") is alternating logistic regressions
(Carey, Zeger & Diggle 1993): the logit of :math:`\zeta_{jk}` is :math:`\alpha y_k` and an offset.
The derivative here is the whole one, offset included, so that the order of the rows does not
matter: it is the derivative of the pair's log-likelihood. Unlike correlations, odds ratios are
not confined by the means.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ...methods import GEE, NotServedError
from ...numerics.quasi_likelihood import quasi_score
from .problem import KINDS, Equations, Rows
from .solve import solve_or_nan

PIECE = 20_000  # pairs: arrays of them take 160 kB
LONGEST_STEP = 1.0  # of a log odds ratio in one iteration


class Means(NamedTuple):
    """Means, their derivatives in the predictor, residuals and standardised columns."""

    mu: np.ndarray
    slope: np.ndarray
    r: np.ndarray
    columns: np.ndarray


class Block(NamedTuple):
    """Clusters of one size: ``rows`` (K, m), their pairs ``first, second, kind`` (K, P)."""

    rows: np.ndarray
    first: np.ndarray
    second: np.ndarray
    kind: np.ndarray
    at: np.ndarray  # clusters


class Pair(NamedTuple):
    """Joint probabilities of pairs: 11, 10, 01, 00, and the derivative of 11 by alpha."""

    p11: np.ndarray
    p10: np.ndarray
    p01: np.ndarray
    p00: np.ndarray
    by_alpha: np.ndarray


def plackett(mu1: np.ndarray, mu2: np.ndarray, alpha: np.ndarray | float) -> Pair:
    r"""Give the joint probabilities of binary pairs with log odds ratio ``alpha``.

    The root :math:`p_{11} = 2\psi\mu_1\mu_2 / (a + \sqrt{a^2 - 4\psi(\psi-1)\mu_1\mu_2})`,
    :math:`a = 1 + (\psi - 1)(\mu_1 + \mu_2)`, is regular at :math:`\psi = 1`; for negative ``a``
    its other form keeps the digits.
    """
    psi = np.exp(alpha)
    a = 1 + (psi - 1) * (mu1 + mu2)
    root = np.sqrt(a * a - 4 * psi * (psi - 1) * mu1 * mu2)
    positive = a > 0
    p11 = np.where(
        positive,
        2 * psi * mu1 * mu2 / np.where(positive, a + root, 1.0),
        (a - root) / np.where(positive, 1.0, 2 * (psi - 1)),
    )
    cells = p11, mu1 - p11, mu2 - p11, 1 - mu1 - mu2 + p11
    with np.errstate(divide="ignore"):  # an empty cell leaves no slope
        return Pair(*cells, 1 / np.sum([1 / cell for cell in cells], axis=0))


class Terms(NamedTuple):
    """What each pair adds to the equation of alpha, shape ``(K, P)``.

    ``score``, its expected derivative ``information``, and the expected derivatives
    ``by_first, by_second`` of minus the score in the predictors of the two rows.
    """

    score: np.ndarray
    information: np.ndarray
    by_first: np.ndarray
    by_second: np.ndarray


@dataclass(frozen=True, eq=False)
class OddsRatio:
    """Log odds ratios of pairs, one for all or one for each class; see ``Association``.

    Raises
    ------
    NotServedError
        If a class has no pairs.
    """

    rows: Rows
    method: GEE

    def __post_init__(self) -> None:
        counts = sum(
            (np.bincount(b.kind.ravel(), minlength=self.count) for b in self.blocks),
            np.zeros(self.count, int),
        )
        if not counts.all():
            lag = int(np.argmin(counts)) + 1
            more = " or more" * (lag == self.count)
            which = "" if self.count == 1 else f" {lag}{more} waves apart"
            raise NotServedError(
                f"GEE(corr={self.method.corr!r}) got no pairs of rows within a cluster{which}: use "
                "corr='independence', a smaller m, or a cluster or time column with more."
            )

    @property
    def name(self) -> str:
        """As the method has it."""
        return str(self.method.corr)

    @property
    def count(self) -> int:
        """Log odds ratios."""
        return int(self.method.m or 1)

    @cached_property
    def blocks(self) -> list[Block]:
        """Pairs of rows, cluster size by cluster size, in pieces that stay in a cache."""
        wave, of_row = self.rows.clusters.wave, self.rows.clusters.of_row
        found = []
        for pattern in self.rows.clusters.size_patterns:
            j, k = np.triu_indices(pattern.rows.shape[1], 1)
            pieces = -(-len(pattern.rows) * max(len(j), 1) // PIECE)
            for rows in np.array_split(pattern.rows, pieces):
                first, second = rows[:, j], rows[:, k]
                kind = np.minimum(wave[second] - wave[first], self.count) - 1
                found.append(Block(rows, first, second, kind, of_row[rows[:, 0]]))
        return found

    def of_pairs(self, alpha: np.ndarray, block: Block):
        """Log odds ratios of the pairs, or the one of all."""
        return alpha[block.kind] if self.count > 1 else alpha[0]

    def on(self, rows: Rows) -> "OddsRatio":
        """Give the same of rows with other columns or offsets."""
        return replace(self, rows=rows)

    kinds = KINDS

    def robust(self, solution) -> None:
        """Give none: how alpha is estimated does not matter to first order."""
        return

    def start(self) -> np.ndarray:
        """Zeros: independent pairs."""
        return np.zeros(self.count)

    def state(self, beta, alpha) -> Means:
        """Give means and residuals."""
        rows = self.rows
        eta = beta @ rows.X + rows.offset
        mu, slope = rows.bound.link.inverse(eta)[:2]
        score, information = quasi_score(rows.bound, rows.y, rows.trials, eta)
        root = np.sqrt(information)
        return Means(mu, slope, score / root, rows.X * root)

    def terms(self, state: Means, alpha, block: Block) -> Terms:
        """Give what pairs add to the equation of alpha."""
        mu1, mu2 = state.mu[block.first], state.mu[block.second]
        y1, y2 = self.rows.y[block.first], self.rows.y[block.second]
        pair = plackett(mu1, mu2, self.of_pairs(alpha, block))
        g = pair.by_alpha
        # of p11, by the two predictors
        by1 = g * (1 / pair.p00 + 1 / pair.p10) * state.slope[block.first]
        by2 = g * (1 / pair.p00 + 1 / pair.p01) * state.slope[block.second]
        if self.method.association == "moment":
            expected, by_alpha = pair.p11, g
            observed = y1 * y2
        else:
            observed, success = y1, y2 == 1
            given = np.where(success, mu2, 1 - mu2)
            sign = np.where(success, 1.0, -1.0)
            expected = np.where(success, pair.p11, pair.p10) / given
            by_alpha = sign * g / given
            by1 = (np.where(success, 0.0, state.slope[block.first]) + sign * by1) / given
            by2 = sign * (by2 - expected * state.slope[block.second]) / given
        weight = by_alpha / (expected * (1 - expected))
        return Terms(weight * (observed - expected), weight * by_alpha, weight * by1, weight * by2)

    def estimate(self, state: Means, alpha) -> np.ndarray:
        """Take a scoring step for alpha, none longer than ``LONGEST_STEP``."""
        score, information = np.zeros((2, self.count))
        for block in self.blocks:
            terms = self.terms(state, alpha, block)
            score += np.bincount(block.kind.ravel(), terms.score.ravel(), self.count)
            information += np.bincount(block.kind.ravel(), terms.information.ravel(), self.count)
        return alpha + np.clip(score / information, -LONGEST_STEP, LONGEST_STEP)

    def correlations(self, state: Means, alpha, block: Block) -> np.ndarray:
        """Correlation matrices of clusters of one size, shape ``(K, m, m)``."""
        K, m = block.rows.shape
        mu1, mu2 = state.mu[block.first], state.mu[block.second]
        pair = plackett(mu1, mu2, self.of_pairs(alpha, block))
        spread = np.sqrt(mu1 * (1 - mu1) * mu2 * (1 - mu2))
        matrix = np.empty((K, m, m))
        j, k = np.triu_indices(m, 1)
        matrix[:, j, k] = matrix[:, k, j] = (pair.p11 - mu1 * mu2) / spread
        matrix[:, np.arange(m), np.arange(m)] = 1.0
        return matrix

    def equations(self, state: Means, alpha) -> Equations:
        """Multiply by the inverse of each cluster's correlation."""
        solved = np.empty(state.columns.shape)
        for block in self.blocks:
            columns = state.columns[:, block.rows].transpose(1, 2, 0)
            matrix = self.correlations(state, alpha, block)
            try:
                found = np.linalg.solve(matrix, columns)
            except np.linalg.LinAlgError:
                found = np.full(columns.shape, np.nan)
            solved[:, block.rows] = found.transpose(2, 0, 1)
        return Equations(state.r, state.columns, solved, self.rows.clusters)

    def scale(self, state: Means) -> float:
        """Give 1: the variance of a binary response is its mean's."""
        return 1.0

    def least_eigenvalue(self, solution) -> float:
        """Give that of all clusters' matrices; NaN where they do not exist."""
        state = self.state(solution.beta, solution.alpha)
        matrices = [self.correlations(state, solution.alpha, block) for block in self.blocks]
        if not all(np.isfinite(matrix).all() for matrix in matrices):
            return np.nan
        return min(float(np.linalg.eigvalsh(matrix)[:, 0].min()) for matrix in matrices)

    def details(self, solution) -> dict:
        """Give names and standard errors of the log odds ratios."""
        names = ["all pairs"]
        if self.count > 1:
            names = [f"lag {lag}" for lag in range(1, self.count)] + [f"lag {self.count} or more"]
        return {"alpha_names": names, "alpha_std_error": self.std_error(solution)}

    def std_error(self, solution) -> np.ndarray:
        r"""Robust standard errors of alpha, shape ``(count,)``.

        With the equations stacked, :math:`\hat\alpha - \alpha \approx C^{-1} \sum_i (u_i -
        E B^{-1} s_i)`: ``C`` and ``E`` the expected derivatives of minus alpha's equation in
        alpha and beta.
        """
        state, clusters = self.state(solution.beta, solution.alpha), self.rows.clusters
        equations = self.equations(state, solution.alpha)
        score = np.zeros((self.count, clusters.count))
        C, E = np.zeros(self.count), np.zeros((self.count, self.rows.p))
        for block in self.blocks:
            terms = self.terms(state, solution.alpha, block)
            for kind in range(self.count):
                mine = block.kind == kind
                score[kind, block.at] = np.sum(terms.score * mine, axis=1)
                C[kind] += np.sum(terms.information[mine])
                for by, at in ((terms.by_first, block.first), (terms.by_second, block.second)):
                    E[kind] += self.rows.X[:, at[mine]] @ by[mine]
        through = solve_or_nan(equations.information, equations.scores)
        return np.sqrt(np.sum(((score - E @ through) / C[:, None]) ** 2, axis=1))


def refuse_not_binary(model, method: GEE) -> None:
    """Refuse a response that is not binary.

    Raises
    ------
    NotServedError
        Naming what serves.
    """
    d = model.design
    if model.family.name not in ("bernoulli", "binomial") or np.any(d.trials != 1):
        raise NotServedError(
            f"GEE(corr={method.corr!r}) describes pairs of binary responses, got "
            f"family={model.family.name!r}"
            + (" with several trials a row" if np.any(d.trials != 1) else "")
            + ": use corr='exchangeable' or another correlation, or one row for each trial."
        )
