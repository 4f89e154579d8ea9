r"""Working correlations of rows within a cluster: estimation, and the inverse in closed form.

A structure offers the two estimators in use for its parameter :math:`\alpha`. *Moment*
estimators (Liang & Zeger 1986) average products of Pearson residuals; the *estimating
equation* (Prentice 1988, with independent pairs, as in geepack) solves

.. math:: \sum_i \sum_{j<k} w_{ij} w_{ik}\, \frac{\partial \rho_{ijk}}{\partial\alpha}
   (u_{ij} u_{ik} - \rho_{ijk}(\alpha)) = 0

over all pairs, with standardised residuals :math:`u` and weights :math:`w` (trials).
Arrays carry rows on their last axis, sorted by cluster. A new structure is a new class here.
"""

from typing import ClassVar

import numpy as np
from scipy.optimize import root_scalar

from .clusters import Clusters


class WorkingCorrelation:
    """What a structure offers; ``alpha`` is an array of shape ``(n_parameters,)``."""

    name: ClassVar[str]
    n_parameters: ClassVar[int] = 1
    uses_waves: ClassVar[bool] = False

    @staticmethod
    def moment(r: np.ndarray, scale: float, p: int, clusters: Clusters) -> np.ndarray:
        """Estimate ``alpha`` from Pearson residuals ``r`` (n,), their scale and p coefficients."""
        raise NotImplementedError

    @staticmethod
    def equation(u: np.ndarray, weight: np.ndarray, clusters: Clusters) -> np.ndarray:
        """Estimate ``alpha`` from residuals ``u`` (n,) of variance 1, rows weighted."""
        raise NotImplementedError

    @staticmethod
    def solve(alpha: np.ndarray, rows: np.ndarray, clusters: Clusters) -> np.ndarray:
        """Multiply ``rows`` (…, n) by the inverse of the block-diagonal correlation."""
        raise NotImplementedError

    @staticmethod
    def is_positive_definite(alpha: np.ndarray, clusters: Clusters) -> bool:
        """Tell whether every cluster's correlation matrix is."""
        raise NotImplementedError

    @staticmethod
    def matrix(alpha: np.ndarray, wave: np.ndarray) -> np.ndarray:
        """Write out the correlation of one cluster with these waves, shape ``(m, m)``."""
        raise NotImplementedError


class Independence(WorkingCorrelation):
    """``corr(y_j, y_k) = 0``."""

    name: ClassVar = "independence"
    n_parameters: ClassVar = 0

    @staticmethod
    def moment(r, scale, p, clusters):
        """No parameter."""
        return np.empty(0)

    @staticmethod
    def equation(u, weight, clusters):
        """No parameter."""
        return np.empty(0)

    @staticmethod
    def solve(alpha, rows, clusters):
        """Return the rows as they are."""
        return rows

    @staticmethod
    def is_positive_definite(alpha, clusters):
        """Return True."""
        return True

    @staticmethod
    def matrix(alpha, wave):
        """Identity."""
        return np.eye(len(wave))


class Exchangeable(WorkingCorrelation):
    """``corr(y_j, y_k) = alpha`` for every pair of a cluster."""

    name: ClassVar = "exchangeable"

    @staticmethod
    def moment(r, scale, p, clusters):
        """Sum of pair products over ``scale (pairs - p)`` (Liang & Zeger 1986)."""
        products = np.sum(clusters.total(r) ** 2) - np.sum(r * r)
        return np.array([products / (2 * scale * (clusters.n_pairs - p))])

    @staticmethod
    def equation(u, weight, clusters):
        """Weighted mean of all pair products."""
        weighted = weight * u
        products = np.sum(clusters.total(weighted) ** 2) - np.sum(weighted**2)
        pairs = np.sum(clusters.total(weight) ** 2) - np.sum(weight**2)
        return np.array([products / pairs])

    @staticmethod
    def solve(alpha, rows, clusters):
        r"""Apply :math:`(I - \alpha 11' / (1 + (m-1)\alpha)) / (1 - \alpha)`."""
        (alpha,) = alpha
        shrink = alpha / (1.0 + (clusters.size - 1) * alpha)
        return (rows - clusters.spread(shrink * clusters.total(rows))) / (1.0 - alpha)

    @staticmethod
    def is_positive_definite(alpha, clusters):
        """``-1/(m - 1) < alpha < 1`` for the largest cluster size m."""
        return bool(alpha[0] < 1 and 1 + (clusters.largest - 1) * alpha[0] > 0)

    @staticmethod
    def matrix(alpha, wave):
        """Write ``alpha`` off the diagonal."""
        return np.where(np.eye(len(wave), dtype=bool), 1.0, alpha[0])


class AR1(WorkingCorrelation):
    """``corr(y_j, y_k) = alpha^|wave_j - wave_k|``, integer waves, some of them missing or not."""

    name: ClassVar = "ar1"
    uses_waves: ClassVar = True

    @staticmethod
    def moment(r, scale, p, clusters):
        """Mean lag-1 product over mean square, each averaged by cluster first, as gee::gee does.

        With clusters of one size this is Pearson's statistic over N as the scale. Only rows
        one wave apart enter.
        """
        lag1 = clusters.gap == 1
        products = np.where(lag1, r * np.roll(r, 1), 0.0)
        pairs = clusters.total(lag1.astype(float))
        have = pairs > 0
        mean_product = np.mean(clusters.total(products)[have] / pairs[have])
        return np.array([mean_product / np.mean(clusters.total(r * r) / clusters.size)])

    @staticmethod
    def equation(u, weight, clusters):
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

    @staticmethod
    def solve(alpha, rows, clusters):
        """Apply the tridiagonal inverse of a Markov chain observed at the waves."""
        rho = np.where(clusters.gap > 0, np.power(alpha[0], clusters.gap), 0.0)
        innovation = rows - rho * np.roll(rows, 1, axis=-1)
        innovation /= 1.0 - rho * rho
        return innovation - np.roll(rho * innovation, -1, axis=-1)

    @staticmethod
    def is_positive_definite(alpha, clusters):
        """``|alpha| < 1``."""
        return bool(abs(alpha[0]) < 1)

    @staticmethod
    def matrix(alpha, wave):
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


STRUCTURES = {s.name: s for s in (Independence, Exchangeable, AR1)}
