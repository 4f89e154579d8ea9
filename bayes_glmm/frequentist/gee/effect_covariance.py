r"""The covariance that random effects give the linear predictors of a cluster.

Effects are normal with covariance :math:`D_f` for each level of factor ``f``. Its entries, in the
contract's order (the variances of a factor, then its covariances), are the parameters
:math:`\alpha`, and the covariance of two rows' predictors is linear in them:

.. math:: c_{jk} = \sum_f [j, k \text{ share a level of } f]\, z_{fj}' D_f z_{fk}, \qquad
   v_j = c_{jj}.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ...design import GroupBlock

START = 0.25  # of a variance whose column has mean square one
LONGEST_STEP = 1.0  # of a variance whose column has mean square one, in one iteration
SINGULAR = 1e-10  # least eigenvalue, relative to the largest, of a matrix that is singular
STEPS, SETTLED = 5_000, 1e-13  # of the projected gradient: most steps, and the last one's size


class Entry(NamedTuple):
    """Which entry of which factor's matrix a parameter is."""

    factor: int
    row: int
    column: int


class EffectCovariance:
    """Covariances of the effects as a vector of parameters.

    Parameters
    ----------
    blocks
        Grouping factors of the design.
    order
        Rows of the design in the order of the clusters.
    """

    def __init__(self, blocks: Sequence[GroupBlock], order: np.ndarray) -> None:
        self.index = [b.index[order] for b in blocks]
        self.Z = [b.Z[order] for b in blocks]
        self.entries: list[Entry] = []
        self.matrices: list[np.ndarray] = []  # numbers of the parameters of what may correlate
        for f, block in enumerate(blocks):
            at = np.full((block.q, block.q), -1)
            for a, b in [(a, a) for a in range(block.q)] + list(block.pairs):
                at[a, b] = at[b, a] = len(self.entries)
                self.entries.append(Entry(f, a, b))
            self.matrices += [at[np.ix_(columns, columns)] for columns in block.blocks]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self.entries)

    @property
    def of_one(self) -> bool:
        """Whether there is a single effect: predictors of a cluster then correlate perfectly."""
        return self.size == 1

    @cached_property
    def is_covariance(self) -> np.ndarray:
        """Which parameters are off the diagonal."""
        return np.array([e.row != e.column for e in self.entries])

    @cached_property
    def unit(self) -> np.ndarray:
        """What a parameter is measured in: its columns have mean square one; ``(size,)``."""
        scale = [np.sqrt(np.mean(z**2, axis=0)) for z in self.Z]
        return np.array(
            [1 / (scale[e.factor][e.row] * scale[e.factor][e.column]) for e in self.entries]
        )

    def start(self) -> np.ndarray:
        """Give moderate variances, and no covariances."""
        return np.where(self.is_covariance, 0.0, START * self.unit)

    @cached_property
    def by_row(self) -> np.ndarray:
        """Derivatives of each row's variance ``v`` by the parameters, shape ``(size, n)``."""
        return np.array(
            [
                (1 + (e.row != e.column))
                * self.Z[e.factor][:, e.row]
                * self.Z[e.factor][:, e.column]
                for e in self.entries
            ]
        )

    def by_pair(self, rows: np.ndarray) -> np.ndarray:
        """Differentiate ``c`` of rows ``(K, m)`` in clusters: shape ``(size, K, m, m)``."""
        found = np.empty((self.size, *rows.shape, rows.shape[1]))
        for out, (f, a, b) in zip(found, self.entries, strict=True):
            left, right, level = (
                x[rows] for x in (self.Z[f][:, a], self.Z[f][:, b], self.index[f])
            )
            np.multiply(left[:, :, None], right[:, None, :], out=out)
            if a != b:
                out += right[:, :, None] * left[:, None, :]
            out *= level[:, :, None] == level[:, None, :]
        return found

    def step(self, alpha: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Move the parameters, by no more than is safe."""
        longest = np.max(np.abs(step / self.unit))
        return alpha + step * min(1.0, LONGEST_STEP / longest) if longest > 0 else alpha + step

    def exists(self, alpha: np.ndarray) -> bool:
        """Tell whether the matrices are positive semidefinite."""
        return all(np.linalg.eigvalsh((alpha / self.unit)[at])[0] >= 0.0 for at in self.matrices)

    def held(self, alpha: np.ndarray) -> np.ndarray:
        """Which parameters belong to a singular matrix: they have no standard errors."""
        found = np.zeros(self.size, bool)
        for at in self.matrices:
            values = np.linalg.eigvalsh((alpha / self.unit)[at])
            if values[0] <= SINGULAR * values[-1]:
                found[at] = True
        return found

    def nearest(self, alpha: np.ndarray, score: np.ndarray, information: np.ndarray) -> np.ndarray:
        r"""Take the scoring step as far as the matrices stay positive semidefinite.

        Maximises :math:`s'\delta - \delta' I \delta / 2` over :math:`\alpha + \delta` in the cone,
        by accelerated projected gradient (Beck & Teboulle 2009). A point that this leaves as it
        is satisfies the equations as far as the boundary allows.
        """
        # off the diagonal twice: lengths are then Frobenius norms, in which clipping eigenvalues
        # is the projection
        unit = self.unit / np.where(self.is_covariance, np.sqrt(2.0), 1.0)
        s, M, x = score * unit, information * np.outer(unit, unit), alpha / unit
        origin, ahead, momentum = x, x, 1.0
        rate = 1.0 / np.linalg.eigvalsh((M + M.T) / 2)[-1]
        for _ in range(STEPS):
            before, x = x, self._clip((ahead + rate * (s - M @ (ahead - origin))) * unit) / unit
            if np.max(np.abs(x - ahead)) <= SETTLED * (1.0 + np.max(np.abs(x))):
                break
            if (ahead - x) @ (x - before) > 0:  # the momentum points uphill: start it anew
                momentum = 1.0
            after = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
            ahead, momentum = x + (momentum - 1.0) / after * (x - before), after
        return x * unit

    def _clip(self, alpha: np.ndarray) -> np.ndarray:
        """Set negative eigenvalues to zero."""
        out = alpha / self.unit
        for at in self.matrices:
            values, vectors = np.linalg.eigh(out[at])
            if values[0] < 0.0:
                out[at] = (vectors * np.maximum(values, 0.0)) @ vectors.T
        return out * self.unit

    def components(self, alpha: np.ndarray) -> np.ndarray:
        """Give SDs and correlations, NaN for a correlation with an SD of zero; ``(size,)``."""
        sd = np.sqrt(alpha)[self._diagonals]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.is_covariance, alpha / sd.prod(axis=0), sd[0])

    def working_jacobian(self, alpha: np.ndarray) -> np.ndarray:
        r"""Differentiate log SDs and atanh correlations by the parameters, ``(size, size)``.

        :math:`\log\sigma_a = \tfrac12 \log\alpha_{aa}`, and for
        :math:`\rho = \alpha_{ab} / \sqrt{\alpha_{aa}\alpha_{bb}}`,
        :math:`d\rho = \rho (d\alpha_{ab}/\alpha_{ab} - d\alpha_{aa}/2\alpha_{aa} -
        d\alpha_{bb}/2\alpha_{bb})`. Not finite at a variance of zero.
        """
        found = np.zeros((self.size, self.size))
        value, first, second = self.components(alpha), *self._diagonals
        for k in range(self.size):
            if not self.is_covariance[k]:
                found[k, k] = 0.5 / alpha[k]
                continue
            slope = 1.0 - value[k] ** 2
            found[k, k] = 1.0 / np.sqrt(alpha[first[k]] * alpha[second[k]]) / slope
            for a in (first[k], second[k]):
                found[k, a] = -value[k] / (2.0 * alpha[a] * slope)
        return found

    @cached_property
    def _diagonals(self) -> np.ndarray:
        """Numbers of the variances that each parameter lies between, shape ``(2, size)``."""
        at = {(e.factor, e.row): k for k, e in enumerate(self.entries) if e.row == e.column}
        pairs = [(at[e.factor, e.row], at[e.factor, e.column]) for e in self.entries]
        return np.array(pairs).T
