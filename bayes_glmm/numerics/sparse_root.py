r"""Sparse Cholesky factor of the Schur complement that nested factors leave.

For ``(1 | a/b)`` it is block-diagonal. ``Sparsity`` finds its pattern once, ``SparseRoot``
factors it at one point, solves, and forms the entries of its inverse at the pattern.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from .schur import FactorPattern, SparseSchur, choose_order


@dataclass(frozen=True, eq=False)
class Sparsity:
    """Where ``C`` may be non-zero, in an order that keeps its factor sparse.

    Attributes
    ----------
    position
        Row of ``C`` for each effect of the smaller factors, shape ``(r,)``.
    factor
        Pattern of the Cholesky factor.
    """

    position: np.ndarray
    factor: FactorPattern

    @staticmethod
    def of(meeting: Any, q: int) -> "Sparsity | None":
        """Find it from the coupling's pattern; None where a full matrix is less work.

        ``meeting`` is sparse with a row for each of the ``q`` effects of each level of the
        largest factor, and a column for each effect of the others.
        """
        levels = sparse.csr_array(meeting)[::q]
        levels.sort_indices()
        begins, others = (a.astype(np.int64) for a in (levels.indptr, levels.indices))
        position, pattern = choose_order(begins, others, levels.shape[1])
        return None if pattern is None else Sparsity(position, pattern)


class SparseRoot:
    """Cholesky factor of ``C = Lambda'S Lambda + I``, ``S`` sparse, and what it solves.

    Parameters
    ----------
    sparsity
        Of ``C``.
    loaded
        ``Lambda'S Lambda``, sparse, shape ``(r, r)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If ``C`` is not positive definite to working precision.
    """

    def __init__(self, sparsity: Sparsity, loaded: Any) -> None:
        self.sparsity = sparsity
        none = np.zeros(0, np.int64)
        self.schur = SparseSchur(sparsity.factor, np.zeros(1, np.int64), none)
        self.schur.clear()
        entries = sparse.coo_array(loaded)
        row, column = sparsity.position[entries.coords[0]], sparsity.position[entries.coords[1]]
        low = row >= column
        keys = column[low].astype(np.int64) * self.schur.size + row[low]
        at = np.searchsorted(self.schur.keys, keys)
        np.add.at(self.schur.values, at, entries.data[low])
        if not self.schur.factorise():
            raise np.linalg.LinAlgError("the mixed model equations are not positive definite")

    @property
    def log_det(self) -> float:
        """``log|C|``."""
        return 2 * self.schur.log_root()

    def solve(self, right: np.ndarray) -> np.ndarray:
        """``C^{-1}`` times the columns of ``right``, shape ``(r, m)``."""
        out, position = np.empty_like(right), self.sparsity.position
        for column in range(right.shape[1]):
            z = np.empty(len(right))
            z[position] = right[:, column]
            out[:, column] = self.schur.solve(z)[position]
        return out

    @cached_property
    def inverse(self) -> Any:
        """Entries of ``C^{-1}`` at the pattern of the factor, symmetric, sparse ``(r, r)``."""
        self.schur.invert()
        size = self.schur.size
        effect = np.argsort(self.sparsity.position)
        column, row = np.divmod(self.schur.keys, size)
        lower = sparse.csr_array(
            (self.schur.inverse, (effect[row], effect[column])), shape=(size, size)
        )
        return (lower + lower.T - sparse.diags_array(lower.diagonal())).tocsr()
