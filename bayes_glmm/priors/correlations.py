"""The prior of a correlation matrix."""

from dataclasses import dataclass
from math import log
from typing import ClassVar

import numpy as np
from scipy.special import betainc, betaincinv, betaln

from .base import AMOUNT, Prior


@dataclass(frozen=True)
class LKJ(Prior):
    """Prior of a correlation matrix (Lewandowski, Kurowicka & Joe 2009).

    Density proportional to ``det(R)^(eta - 1)`` over the correlation matrices of dimension
    ``d``; ``eta = 1`` is uniform, larger values favour weak correlation. One correlation has
    ``(r + 1) / 2 ~ Beta(a, a)``, ``a = eta + (d - 2) / 2``. Improper with ``eta=0``.

    The canonical partial correlations, of ``i`` and ``j < i`` given ``0 .. j - 1``, are
    independent: ``(p + 1) / 2 ~ Beta(a_j, a_j)``, ``a_j = eta + (d - 2 - j) / 2``; with
    ``cholesky_rows`` they make ``R``. Draws and the graph use this form.
    """

    roles: ClassVar = frozenset({"corr"})
    domain: ClassVar = {"eta": AMOUNT}
    eta: float

    @property
    def proper(self) -> bool:
        """Whether ``eta`` is positive."""
        return self.eta > 0

    @property
    def support(self) -> tuple[float, float]:
        """A correlation lies between -1 and 1."""
        return -1.0, 1.0

    def partial_shapes(self, dimension: int) -> np.ndarray:
        """``a_j`` for each partial correlation: pairs (i, j), i > j, column by column."""
        return np.array([self.eta + 0.5 * (dimension - 2 - j) for _, j in pairs(dimension)])

    def logpdf(self, value):
        """Log density of correlation matrices ``value``, shape (..., d, d)."""
        value = np.asarray(value, float)
        d = value.shape[-1]
        eigenvalues = np.linalg.eigvalsh(value)
        inside = np.all(eigenvalues > 0, axis=-1)
        logdet = np.sum(np.log(np.where(eigenvalues > 0, eigenvalues, 1.0)), axis=-1)
        k = np.arange(1, d)  # Lewandowski et al. (2009), equation 16
        shape = self.eta + 0.5 * (d - k - 1)
        normaliser = np.sum(
            (2 * self.eta - 2 + d - k) * (d - k) * log(2.0) + (d - k) * betaln(shape, shape)
        )
        return np.where(inside, (self.eta - 1.0) * logdet - normaliser, -np.inf)[()]

    def cdf(self, value, dimension: int = 2):
        """Probability that one correlation of ``dimension`` effects is at most ``value``."""
        self._need_proper("quantiles")
        a = self.eta + 0.5 * (dimension - 2)
        return betainc(a, a, 0.5 * (np.clip(value, -1.0, 1.0) + 1.0))

    def ppf(self, probability, dimension: int = 2):
        """Quantile of one correlation of ``dimension`` effects."""
        self._need_proper("quantiles")
        a = self.eta + 0.5 * (dimension - 2)
        return 2.0 * betaincinv(a, a, probability) - 1.0

    def rvs(self, rng: np.random.Generator, size: int = 1, dimension: int = 2) -> np.ndarray:
        """Draw correlation matrices, shape (size, dimension, dimension)."""
        self._need_proper("draws")
        shape = self.partial_shapes(dimension)
        partial = 2.0 * rng.beta(shape, shape, (size, len(shape))) - 1.0
        factors = np.array([cholesky_factor(p, dimension) for p in partial])
        return factors @ np.swapaxes(factors, -1, -2)

    def _pymc(self):
        return "LKJCorr", {"eta": self.eta}


def pairs(dimension: int) -> list[tuple[int, int]]:
    """Return the strict lower triangle (i, j), i > j, column by column."""
    return [(i, j) for j in range(dimension) for i in range(j + 1, dimension)]


def cholesky_rows(partial, dimension: int, sqrt=np.sqrt) -> list[list]:
    """Cholesky factor of a correlation matrix from its canonical partial correlations.

    ``L_ij = p_ij prod_{k<j} sqrt(1 - p_ik^2)``, ``L_ii = prod_{k<i} sqrt(1 - p_ik^2)``
    (Lewandowski et al. 2009). ``partial`` is indexed as ``pairs``; entries may be numbers or
    symbols, with their own ``sqrt``.
    """
    index = {pair: position for position, pair in enumerate(pairs(dimension))}
    rows = []
    for i in range(dimension):
        row, left = [], 1.0
        for j in range(i):
            p = partial[index[i, j]]
            row.append(p * left)
            left = left * sqrt(1.0 - p * p)
        rows.append([*row, left, *[0.0] * (dimension - 1 - i)])
    return rows


def cholesky_factor(partial, dimension: int) -> np.ndarray:
    """``cholesky_rows`` as an array (dimension, dimension)."""
    return np.array(cholesky_rows(partial, dimension))
