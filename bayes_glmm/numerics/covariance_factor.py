r"""Random-effect covariances through their factor: :math:`\Sigma = \Lambda \Lambda'`.

``Lambda`` is lower triangular with one dense block for each set of columns that may be
correlated. Its entries ``theta``, block by block and column by column, may have either sign:
no bounds are needed, and a zero variance is an ordinary point.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class CovarianceFactor:
    """The entries of ``Lambda`` for one grouping factor.

    Attributes
    ----------
    blocks
        Partition of the q random-effect columns into correlated sets: ``((0, 1),)`` for
        ``(x | g)``, ``((0,), (1,))`` for ``(x || g)``.
    """

    blocks: tuple[tuple[int, ...], ...]

    @cached_property
    def q(self) -> int:
        """Number of columns."""
        return sum(map(len, self.blocks))

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the free entries, shape ``(m,)`` each."""
        at = [(i, j) for b in self.blocks for k, j in enumerate(b) for i in b[k:]]
        return np.array([i for i, _ in at]), np.array([j for _, j in at])

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Correlated pairs ``(i, j)``, i > j, column by column."""
        return tuple((i, j) for b in self.blocks for k, j in enumerate(b) for i in b[k + 1 :])

    @property
    def size(self) -> int:
        """Number of entries m."""
        return len(self.entries[0])

    def lower(self, theta: np.ndarray) -> np.ndarray:
        """Write ``Lambda`` out, shape ``(q, q)``."""
        full = np.zeros((self.q, self.q))
        full[self.entries] = theta
        return full

    def from_lower(self, full: np.ndarray) -> np.ndarray:
        """Pick the free entries of a ``(q, q)`` array, shape ``(m,)``."""
        return full[self.entries]

    def summary(self, theta: np.ndarray) -> np.ndarray:
        """Give SDs, then correlations of ``pairs`` (NaN beside a zero SD); shape ``(m,)``."""
        full = self.lower(theta)
        sd = np.sqrt(np.sum(full**2, axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            corr = [full[i] @ full[j] / (sd[i] * sd[j]) for i, j in self.pairs]
        return np.r_[sd, corr]

    def summary_jacobian(self, theta: np.ndarray) -> np.ndarray:
        """Differentiate log SDs and atanh correlations by ``theta``, shape ``(m, m)``.

        NaN in the rows of zero SDs and of their correlations.
        """
        full, values = self.lower(theta), self.summary(theta)
        sd, corr = values[: self.q], values[self.q :]
        rows, columns = self.entries
        jacobian = np.zeros((self.size, self.size))
        with np.errstate(invalid="ignore", divide="ignore"):
            log_sd = full[rows, columns] / sd[rows] ** 2
            jacobian[rows, np.arange(self.size)] = log_sd
            for k, (i, j) in enumerate(self.pairs):
                for one, other in ((i, j), (j, i)):
                    at = np.flatnonzero(rows == one)
                    slope = full[other, columns[at]] / (sd[i] * sd[j]) - corr[k] * log_sd[at]
                    jacobian[self.q + k, at] = slope / (1 - corr[k] ** 2)
        return jacobian
