r"""Working correlations of rows within a cluster: estimation, and the inverse in closed form.

A structure offers the two estimators in use for its parameter :math:`\alpha`. *Moment*
estimators (Liang & Zeger 1986) average products of Pearson residuals; the *estimating
equation* (Prentice 1988, with independent pairs, as in geepack) solves

.. math:: \sum_i \sum_{j<k} w_{ij} w_{ik}\, \frac{\partial \rho_{ijk}}{\partial\alpha}
   (u_{ij} u_{ik} - \rho_{ijk}(\alpha)) = 0

over all pairs, with standardised residuals :math:`u` and weights :math:`w` (trials).
Arrays carry rows on their last axis, sorted by cluster. A new structure is a new class here.
Exchangeable and AR(1) correlations have closed inverses; the others are inverted once for each
pattern of waves.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.optimize import root_scalar

from .clusters import Clusters, Pattern


class WorkingCorrelation:
    """What a structure offers; ``alpha`` is an array of shape ``(count(clusters),)``.

    Attributes
    ----------
    name
        As methods and tables have it.
    waves
        What the waves mean: nothing ("none"), their differences are "lags", or each has a row
        of the matrix ("labels": they count 0, 1, 2, …).
    """

    name: ClassVar[str]
    waves: ClassVar[Literal["none", "lags", "labels"]] = "none"

    def count(self, clusters: Clusters) -> int:
        """Count the parameters."""
        return 1

    def informed(self, clusters: Clusters) -> np.ndarray:
        """Count the pairs of rows that inform each parameter's moment estimator."""
        return np.array([clusters.n_pairs])

    def moment(self, r: np.ndarray, scale: float, p: int, clusters: Clusters) -> np.ndarray:
        """Estimate ``alpha`` from Pearson residuals ``r`` (n,), their scale and p coefficients."""
        raise NotImplementedError

    def equation(self, u: np.ndarray, weight: np.ndarray, clusters: Clusters) -> np.ndarray:
        """Estimate ``alpha`` from residuals ``u`` (n,) of variance 1, rows weighted."""
        raise NotImplementedError

    def solve(self, alpha: np.ndarray, rows: np.ndarray, clusters: Clusters) -> np.ndarray:
        """Multiply ``rows`` (…, n) by the inverse of the block-diagonal correlation."""
        raise NotImplementedError

    def least_eigenvalue(self, alpha: np.ndarray, clusters: Clusters) -> float:
        """Give the least eigenvalue of all clusters' correlation matrices."""
        raise NotImplementedError

    def is_positive_definite(self, alpha: np.ndarray, clusters: Clusters) -> bool:
        """Tell whether every cluster's correlation matrix is."""
        return bool(self.least_eigenvalue(alpha, clusters) > 0)

    def matrix(self, alpha: np.ndarray, wave: np.ndarray) -> np.ndarray:
        """Write out the correlation of one cluster with these waves, shape ``(m, m)``."""
        raise NotImplementedError


class Independence(WorkingCorrelation):
    """``corr(y_j, y_k) = 0``."""

    name: ClassVar = "independence"

    def count(self, clusters):
        """None."""
        return 0

    def informed(self, clusters):
        """None to be informed."""
        return np.empty(0, int)

    def moment(self, r, scale, p, clusters):
        """No parameter."""
        return np.empty(0)

    def equation(self, u, weight, clusters):
        """No parameter."""
        return np.empty(0)

    def solve(self, alpha, rows, clusters):
        """Return the rows as they are."""
        return rows

    def least_eigenvalue(self, alpha, clusters):
        """Return 1."""
        return 1.0

    def matrix(self, alpha, wave):
        """Identity."""
        return np.eye(len(wave))


class Exchangeable(WorkingCorrelation):
    """``corr(y_j, y_k) = alpha`` for every pair of a cluster."""

    name: ClassVar = "exchangeable"

    def moment(self, r, scale, p, clusters):
        """Sum of pair products over ``scale (pairs - p)`` (Liang & Zeger 1986)."""
        products = np.sum(clusters.total(r) ** 2) - np.sum(r * r)
        return np.array([products / (2 * scale * (clusters.n_pairs - p))])

    def equation(self, u, weight, clusters):
        """Weighted mean of all pair products."""
        weighted = weight * u
        products = np.sum(clusters.total(weighted) ** 2) - np.sum(weighted**2)
        pairs = np.sum(clusters.total(weight) ** 2) - np.sum(weight**2)
        return np.array([products / pairs])

    def solve(self, alpha, rows, clusters):
        r"""Apply :math:`(I - \alpha 11' / (1 + (m-1)\alpha)) / (1 - \alpha)`."""
        (alpha,) = alpha
        shrink = alpha / (1.0 + (clusters.size - 1) * alpha)
        return (rows - clusters.spread(shrink * clusters.total(rows))) / (1.0 - alpha)

    def least_eigenvalue(self, alpha, clusters):
        """``1 - alpha`` or ``1 + (m - 1) alpha``, m the largest cluster size."""
        if clusters.largest == 1:
            return 1.0
        return float(min(1 - alpha[0], 1 + (clusters.largest - 1) * alpha[0]))

    def matrix(self, alpha, wave):
        """Write ``alpha`` off the diagonal."""
        return np.where(np.eye(len(wave), dtype=bool), 1.0, alpha[0])


def mean_square(r: np.ndarray, clusters: Clusters) -> float:
    """Mean square of residuals, averaged by cluster first, as gee::gee does.

    The scale of moment estimators that average products by cluster: with clusters of one size
    it is Pearson's statistic over N, so that nothing is lost for p, here as there.
    """
    return float(np.mean(clusters.total(r * r) / clusters.size))


class AR1(WorkingCorrelation):
    """``corr(y_j, y_k) = alpha^|wave_j - wave_k|``, integer waves, some of them missing or not."""

    name: ClassVar = "ar1"
    waves: ClassVar = "lags"

    def informed(self, clusters):
        """Rows one wave apart."""
        return np.array([np.sum(clusters.gap == 1)])

    def moment(self, r, scale, p, clusters):
        """Mean lag-1 product over mean square; see ``mean_square``. Rows one wave apart enter."""
        lag1 = clusters.gap == 1
        products = np.where(lag1, r * np.roll(r, 1), 0.0)
        pairs = clusters.total(lag1.astype(float))
        have = pairs > 0
        mean_product = np.mean(clusters.total(products)[have] / pairs[have])
        return np.array([mean_product / mean_square(r, clusters)])

    def equation(self, u, weight, clusters):
        r"""Least squares of :math:`\alpha^{lag}` on the pair products: the root in (-1, 1)."""
        lags = int(
            (
                clusters.wave[clusters.start + clusters.size - 1] - clusters.wave[clusters.start]
            ).max()
        )
        products, pairs = np.zeros(lags + 1), np.zeros(lags + 1)
        weighted = weight * u
        for first, second in clusters.pairs():
            lag = clusters.wave[second] - clusters.wave[first]
            products += np.bincount(lag, weighted[first] * weighted[second], lags + 1)
            pairs += np.bincount(lag, weight[first] * weight[second], lags + 1)
        present = np.flatnonzero(pairs)
        return np.array([_fit_powers(present, products[present], pairs[present])])

    def solve(self, alpha, rows, clusters):
        """Apply the tridiagonal inverse of a Markov chain observed at the waves."""
        rho = np.where(clusters.gap > 0, np.power(alpha[0], clusters.gap), 0.0)
        innovation = rows - rho * np.roll(rows, 1, axis=-1)
        innovation /= 1.0 - rho * rho
        return innovation - np.roll(rho * innovation, -1, axis=-1)

    def least_eigenvalue(self, alpha, clusters):
        """Give that of the longest pattern of waves; negative wherever ``|alpha| >= 1``."""
        if abs(alpha[0]) >= 1:
            return float(1 - abs(alpha[0]))
        return min(
            float(np.linalg.eigvalsh(self.matrix(alpha, pattern.wave))[0])
            for pattern in clusters.lag_patterns
        )

    def is_positive_definite(self, alpha, clusters):
        """``|alpha| < 1``."""
        return bool(abs(alpha[0]) < 1)

    def matrix(self, alpha, wave):
        """Powers of ``alpha`` by distance."""
        return np.power(alpha[0], np.abs(np.subtract.outer(wave, wave)))


def _fit_powers(lag: np.ndarray, products: np.ndarray, pairs: np.ndarray) -> float:
    r"""Minimise :math:`\sum_l c_l (\alpha^l - s_l/c_l)^2` over (-1, 1): grid, then the root."""
    edge = 1 - 1e-6
    grid = np.linspace(-edge, edge, 401)
    # c a^2l - 2 s a^l, the criterion without its constant
    value = (grid[:, None] ** (2 * lag)) @ pairs - 2 * (grid[:, None] ** lag) @ products
    best = int(np.argmin(value))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]

    def slope(a: float) -> float:
        return float(np.sum(lag * a ** (lag - 1) * (pairs * a**lag - products)))

    if slope(low) >= 0:
        return float(low)
    if slope(high) <= 0:
        return float(high)
    return float(root_scalar(slope, bracket=(low, high), xtol=1e-14).root)


class Patterned(WorkingCorrelation):
    """A correlation that is written out and inverted once for each pattern of waves."""

    def patterns(self, clusters: Clusters) -> list[Pattern]:
        """Group the clusters whose matrices are the same."""
        return clusters.patterns

    def solve(self, alpha, rows, clusters):
        """Multiply by each pattern's inverse; NaN where a matrix has none."""
        patterns = self.patterns(clusters)
        inverses = [_inverse(self.matrix(alpha, pattern.wave)) for pattern in patterns]
        if len(patterns) == 1:  # every cluster alike: no rows to gather
            shape = (*rows.shape[:-1], *patterns[0].rows.shape)
            return (rows.reshape(shape) @ inverses[0]).reshape(rows.shape)
        solved = np.empty(rows.shape)
        for pattern, inverse in zip(patterns, inverses, strict=True):
            solved[..., pattern.rows] = rows[..., pattern.rows] @ inverse
        return solved

    def least_eigenvalue(self, alpha, clusters):
        """Over the patterns."""
        return min(
            float(np.linalg.eigvalsh(self.matrix(alpha, pattern.wave))[0])
            for pattern in self.patterns(clusters)
        )


def _inverse(matrix: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.full(matrix.shape, np.nan)


@dataclass(frozen=True)
class MDependent(Patterned):
    """``corr(y_j, y_k) = alpha_l`` for rows ``l <= m`` waves apart, 0 beyond: stationary."""

    m: int = 1
    name: ClassVar = "m-dependent"
    waves: ClassVar = "lags"

    def count(self, clusters):
        """One for each lag."""
        return self.m

    def patterns(self, clusters):
        """Only lags matter."""
        return clusters.lag_patterns

    def _sums(self, r, weight, clusters) -> tuple[np.ndarray, np.ndarray]:
        """Sum products of residuals and of weights by cluster and lag, each shape ``(K, m)``."""
        products, pairs = np.zeros((2, clusters.count * (self.m + 1)))
        weighted = weight * r
        for first, second in clusters.pairs(self.m):
            lag = clusters.wave[second] - clusters.wave[first]
            near = lag <= self.m
            first, second = first[near], second[near]
            cell = clusters.of_row[first] * (self.m + 1) + lag[near]
            products += np.bincount(cell, weighted[first] * weighted[second], len(products))
            pairs += np.bincount(cell, weight[first] * weight[second], len(pairs))
        shape = clusters.count, self.m + 1
        return products.reshape(shape)[:, 1:], pairs.reshape(shape)[:, 1:]

    def informed(self, clusters):
        """Pairs of rows at each lag."""
        ones = np.ones(len(clusters.of_row))
        return self._sums(ones, ones, clusters)[1].sum(axis=0).astype(int)

    def moment(self, r, scale, p, clusters):
        """Mean lag-l product, each cluster averaged first, over ``mean_square``."""
        products, pairs = self._sums(r, np.ones(len(r)), clusters)
        have = pairs > 0
        averages = np.where(have, products / np.where(have, pairs, 1), 0)
        return averages.sum(axis=0) / have.sum(axis=0) / mean_square(r, clusters)

    def equation(self, u, weight, clusters):
        """Weighted mean of the products at each lag."""
        products, pairs = self._sums(u, weight, clusters)
        return products.sum(axis=0) / pairs.sum(axis=0)

    def matrix(self, alpha, wave):
        """``alpha_l`` on the bands up to m."""
        by_lag = np.r_[1.0, alpha]
        lag = np.abs(np.subtract.outer(wave, wave))
        return np.where(lag <= self.m, by_lag[np.minimum(lag, self.m)], 0.0)


@dataclass(frozen=True)
class Unstructured(Patterned):
    """``corr(y_j, y_k)`` is a parameter for each pair of waves; ``alpha`` row by row above."""

    name: ClassVar = "unstructured"
    waves: ClassVar = "labels"

    @staticmethod
    def _products(r, clusters) -> np.ndarray:
        """Sum products of residuals over clusters for each pair of waves, ``(T(T-1)/2,)``."""
        T = int(clusters.wave.max()) + 1
        table = np.zeros((clusters.count, T))
        table[clusters.of_row, clusters.wave] = r
        return (table.T @ table)[np.triu_indices(T, 1)]

    def count(self, clusters):
        """One for each pair of waves."""
        T = int(clusters.wave.max()) + 1
        return T * (T - 1) // 2

    def informed(self, clusters):
        """Clusters that have both waves."""
        return self._products(np.ones(len(clusters.of_row)), clusters).astype(int)

    def moment(self, r, scale, p, clusters):
        """Mean product over the K clusters with both waves, over ``mean_square``.

        Liang & Zeger (1986) divide by ``K - p``; gee::gee, whose estimates these are, by K: its
        ``mean_square`` divides by the rows, with no degrees of freedom either, so that the ratio
        is a correlation whatever p is.
        """
        return self._products(r, clusters) / (self.informed(clusters) * mean_square(r, clusters))

    def equation(self, u, weight, clusters):
        """Weighted mean of a pair's products."""
        return self._products(weight * u, clusters) / self._products(weight, clusters)

    def matrix(self, alpha, wave):
        """Rows and columns of these waves."""
        T = round((1 + np.sqrt(1 + 8 * len(alpha))) / 2)
        upper = np.zeros((T, T))
        upper[np.triu_indices(T, 1)] = alpha
        full = np.eye(T) + upper + upper.T
        return full[np.ix_(wave, wave)]


@dataclass(frozen=True)
class Fixed(Patterned):
    """A correlation matrix that is given, one row for each wave."""

    given: tuple[tuple[float, ...], ...] = ((1.0,),)
    name: ClassVar = "fixed"
    waves: ClassVar = "labels"

    def count(self, clusters):
        """None."""
        return 0

    def informed(self, clusters):
        """None to be informed."""
        return np.empty(0, int)

    def moment(self, r, scale, p, clusters):
        """No parameter."""
        return np.empty(0)

    def equation(self, u, weight, clusters):
        """No parameter."""
        return np.empty(0)

    def matrix(self, alpha, wave):
        """Rows and columns of these waves."""
        return np.array(self.given)[np.ix_(wave, wave)]


# name -> structure; the m-dependent and the fixed one need more than their name
STRUCTURES = {s.name: s for s in (Independence, Exchangeable, AR1, MDependent, Unstructured, Fixed)}
