r"""The covariance of a factor's effects through its signed Cholesky factor.

``b = L u``, ``Var(b) = L L'``; ``L`` is lower triangular within each set of correlated
columns and zero elsewhere. ``theta`` holds its entries, set by set, column by column, with
any sign: a standard deviation passes smoothly through zero, and what is reported are the
absolute values. For one scalar effect ``theta`` is the SD itself.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Covariance:
    """Where the entries of ``theta`` stand in ``L``.

    Attributes
    ----------
    blocks
        Partition of the ``q`` columns into sets that may be correlated.
    """

    blocks: tuple[tuple[int, ...], ...]

    @property
    def q(self) -> int:
        """Number of effects of one level."""
        return sum(len(block) for block in self.blocks)

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns in ``L`` of the entries of ``theta``."""
        found = [
            (row, column)
            for block in self.blocks
            for k, column in enumerate(block)
            for row in block[k:]
        ]
        rows, columns = np.array(found, np.int64).T
        return rows, columns

    @property
    def size(self) -> int:
        """Length of ``theta``."""
        return len(self.entries[0])

    @property
    def diagonal(self) -> np.ndarray:
        """Which entries of ``theta`` are diagonal in ``L``, shape ``(size,)`` of bool."""
        return self.entries[0] == self.entries[1]

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Correlated pairs ``(i, j)``, ``i > j``, set by set, column by column."""
        return tuple(
            (i, j) for block in self.blocks for k, j in enumerate(block) for i in block[k + 1 :]
        )

    def factor(self, theta: np.ndarray) -> np.ndarray:
        """``L``, shape ``(q, q)``."""
        L = np.zeros((self.q, self.q))
        L[self.entries] = theta
        return L

    def signs(self, theta: np.ndarray) -> np.ndarray:
        """Factors of +-1 that make the diagonal of ``L`` non-negative and leave ``L L'``."""
        L = self.factor(theta)
        return np.where(np.diag(L)[self.entries[1]] < 0.0, -1.0, 1.0)

    def theta_of(self, L: np.ndarray) -> np.ndarray:
        """Entries of ``theta`` for the covariance ``L L'``, the diagonal not negative."""
        theta = np.zeros(self.size)
        rows, columns = self.entries
        for block in self.blocks:
            part = L[list(block)]
            lower = np.linalg.qr(part.T, mode="r").T  # part @ part.T = lower @ lower.T
            for k, column in enumerate(block):
                sign = -1.0 if lower[k, k] < 0.0 else 1.0
                for m, row in enumerate(block[k:], start=k):
                    theta[(rows == row) & (columns == column)] = sign * lower[m, k]
        return theta

    def gradient(self, gamma: np.ndarray) -> np.ndarray:
        """Give derivatives by ``theta`` from those by ``L``."""
        return gamma[self.entries]

    def components(self, theta: np.ndarray) -> np.ndarray:
        """Give standard deviations, then correlations of the pairs (NaN where an SD is zero)."""
        L = self.factor(theta)
        sd = np.sqrt((L**2).sum(axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            corr = [np.float64(L[i] @ L[j]) / (sd[i] * sd[j]) for i, j in self.pairs]
        return np.concatenate([sd, np.array(corr, float)])

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """Give derivatives of ``components`` by ``theta``; rows of a zero SD are NaN."""
        L = self.factor(theta)
        m = len(self.pairs)
        out = np.zeros((self.q + m, self.q, self.q))
        sd = np.sqrt((L**2).sum(axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = L / sd[:, None]
            for i in range(self.q):
                out[i, i] = unit[i]
            for k, (i, j) in enumerate(self.pairs):
                corr = unit[i] @ unit[j]
                out[self.q + k, i] = (unit[j] - corr * unit[i]) / sd[i]
                out[self.q + k, j] = (unit[i] - corr * unit[j]) / sd[j]
        return out[:, *self.entries]
