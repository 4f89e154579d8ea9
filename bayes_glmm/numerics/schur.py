r"""Cholesky factor of the Schur complement that is left beside the largest factor's effects.

Two forms of one thing, the lower triangle of a symmetric positive definite matrix ``S`` in a
flat array, factored in place ``S = R R'``:

- ``DenseSchur``: all of it, by LAPACK;
- ``SparseSchur``: the pattern of ``R`` alone, column by column. The pattern depends on the
  data only and is found once, in a fill-reducing order (Davis 2006, chapters 4 and 7). Of
  the inverse the entries at the pattern are formed (Takahashi's recurrence).

``choose_schur`` takes the one with less work: nested factors leave a sparse factor, crossed
ones a full matrix.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from scipy import sparse
from scipy.linalg.lapack import get_lapack_funcs
from scipy.sparse.linalg import splu

from .compiled import Indices, Vector, kernel

POTRF, POTRS, POTRI, TRTRS = get_lapack_funcs(("potrf", "potrs", "potri", "trtrs"), dtype=float)

SMALL = 48  # up to this order nothing beats LAPACK
ADVANTAGE = 8.0  # of a LAPACK flop over one of the sparse kernels
LARGEST = 40_000  # order of a full matrix
LARGE = 1e6  # flops of a factorisation that is worth using more than once

Slots = tuple[np.ndarray, np.ndarray]
NO_SLOTS: Slots = (np.zeros(0, np.int64), np.zeros(1, np.int64))


class DenseSchur:
    """``S`` of order ``size`` as a full matrix; ``values`` is its rows end to end."""

    def __init__(self, size: int):
        if size > LARGEST:
            raise MemoryError(
                f"crossed random effects leave a full matrix of order {size:,} "
                f"({8 * size**2 / 2**30:.0f} GiB); up to {LARGEST:,} is served: make the factor "
                "with most levels the only large one, or fit by GEE."
            )
        self.size = size
        self.slots: Slots = NO_SLOTS
        self.values = np.empty(size * size)
        self.inverse = self.values
        self.costly = size**3 / 3 > LARGE

    def clear(self) -> None:
        """Set ``S`` to the identity."""
        self.values[:] = 0.0
        self.values[:: self.size + 1] = 1.0

    def factorise(self) -> bool:
        """Factor in place; False if ``S`` is not positive definite."""
        if not self.size:
            return True
        # row-major lower is column-major upper: no copy
        upper, info = POTRF(self._square(self.values).T, lower=0, clean=0, overwrite_a=1)
        self.values = upper.T.ravel()
        return info == 0

    def _square(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(self.size, self.size)

    def log_root(self) -> float:
        """``log|R|``."""
        return float(np.log(self.values[:: self.size + 1]).sum()) if self.size else 0.0

    def solve(self, z: np.ndarray) -> np.ndarray:
        """``S^{-1} z``; ``z`` may be overwritten."""
        if not self.size:
            return z
        return POTRS(self._square(self.values).T, z, lower=0, overwrite_b=1)[0]

    def scatter(self, z: np.ndarray) -> np.ndarray:
        """``R^{-T} z``: standard normal ``z`` becomes ``N(0, S^{-1})``."""
        if not self.size:
            return z
        return TRTRS(self._square(self.values).T, z, lower=0)[0]

    def invert(self) -> None:
        """Form the lower triangle of ``S^{-1}`` in ``inverse``, placed as in ``values``."""
        if self.size:
            inverse = POTRI(self._square(self.values).T, lower=0)[0]
            self.inverse = inverse.T.ravel()

    def entries(self, i: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Entries ``(i, k)`` of ``S^{-1}``, ``i >= k``."""
        return self._square(self.inverse)[i, k]


@dataclass(frozen=True, eq=False)
class FactorPattern:
    """Where a sparse Cholesky factor may be non-zero.

    Attributes
    ----------
    starts, rows
        Entries ``starts[c]:starts[c + 1]`` are column ``c``'s, their rows ascending, the
        diagonal first.
    row_starts, row_columns, row_entries
        For each row its columns left of the diagonal, and where these entries stand.
    """

    starts: np.ndarray
    rows: np.ndarray
    row_starts: np.ndarray
    row_columns: np.ndarray
    row_entries: np.ndarray

    @property
    def flops(self) -> float:
        """Multiplications of a factorisation."""
        return float(np.sum(np.diff(self.starts).astype(float) ** 2))


@kernel(types.void(Indices, Indices, Indices, Indices, Indices, Indices))
def count_entries(begins, columns, parent, mark, column_counts, row_counts):
    """Elimination tree and entries per column and row of the factor.

    ``columns[begins[i]:begins[i + 1]]`` are row ``i``'s columns left of the diagonal.
    """
    for i in range(parent.size):
        parent[i], mark[i] = -1, -1
        for e in range(begins[i], begins[i + 1]):
            k = columns[e]
            while k != -1 and k < i:
                above, mark[k] = mark[k], i  # path compression: mark leads to an ancestor
                if above == -1:
                    parent[k] = i
                k = above
    for i in range(parent.size):
        mark[i] = -1
    for i in range(parent.size):
        mark[i] = i
        for e in range(begins[i], begins[i + 1]):
            k = columns[e]
            while mark[k] != i:
                mark[k] = i
                column_counts[k] += 1
                row_counts[i] += 1
                k = parent[k]


@kernel(types.void(Indices, Indices, Indices, Indices, Indices, Indices, Indices, Indices, Indices))
def list_entries(begins, columns, parent, mark, starts, rows, row_starts, row_columns, row_entries):
    """Fill the lists of ``FactorPattern``, given their starts."""
    filled = starts[:-1].copy()
    for i in range(parent.size):
        mark[i] = -1
    for i in range(parent.size):
        mark[i] = i
        rows[filled[i]] = i
        filled[i] += 1
        at = row_starts[i]
        for e in range(begins[i], begins[i + 1]):
            k = columns[e]
            while mark[k] != i:
                mark[k] = i
                rows[filled[k]], row_columns[at], row_entries[at] = i, k, filled[k]
                filled[k] += 1
                at += 1
                k = parent[k]


def factor_pattern(lower: Any) -> FactorPattern:
    """Find the pattern of the factor of a matrix, given its lower triangle (CSR)."""
    strict: Any = sparse.tril(lower, -1, format="csr")
    begins, columns = strict.indptr.astype(np.int64), strict.indices.astype(np.int64)
    size = len(begins) - 1
    parent, mark = np.empty(size, np.int64), np.empty(size, np.int64)
    column_counts, row_counts = np.ones(size, np.int64), np.zeros(size, np.int64)
    count_entries(begins, columns, parent, mark, column_counts, row_counts)
    starts = np.concatenate([[0], np.cumsum(column_counts)])
    row_starts = np.concatenate([[0], np.cumsum(row_counts)])
    rows = np.empty(starts[-1], np.int64)
    row_columns, row_entries = np.empty((2, row_starts[-1]), np.int64)
    list_entries(
        begins, columns, parent, mark, starts, rows, row_starts, row_columns, row_entries
    )  # fmt: skip
    return FactorPattern(starts, rows, row_starts, row_columns, row_entries)


@kernel(types.boolean(Indices, Indices, Indices, Indices, Indices, Vector))
def factor_sparse(starts, rows, row_starts, row_columns, row_entries, values):
    """Factor in place, column by column from the left; False if not positive definite."""
    place = np.empty(starts.size - 1, np.int64)
    for c in range(starts.size - 1):
        for p in range(starts[c], starts[c + 1]):
            place[rows[p]] = p
        for e in range(row_starts[c], row_starts[c + 1]):
            first = row_entries[e]
            multiplier = values[first]
            for p in range(first, starts[row_columns[e] + 1]):
                values[place[rows[p]]] -= multiplier * values[p]
        pivot = values[starts[c]]
        if not pivot > 0.0:
            return False
        root = np.sqrt(pivot)
        values[starts[c]] = root
        for p in range(starts[c] + 1, starts[c + 1]):
            values[p] /= root
    return True


@kernel(types.void(Indices, Indices, Vector, Vector))
def eliminate_sparse(starts, rows, values, z):
    """``z := R^{-1} z``."""
    for c in range(starts.size - 1):
        z[c] /= values[starts[c]]
        for p in range(starts[c] + 1, starts[c + 1]):
            z[rows[p]] -= values[p] * z[c]


@kernel(types.void(Indices, Indices, Vector, Vector))
def substitute_sparse(starts, rows, values, z):
    """``z := R^{-T} z``."""
    for c in range(starts.size - 2, -1, -1):
        for p in range(starts[c] + 1, starts[c + 1]):
            z[c] -= values[p] * z[rows[p]]
        z[c] /= values[starts[c]]


@kernel(types.void(Indices, Indices, Vector, Vector))
def invert_sparse(starts, rows, values, inverse):
    """Entries of ``(R R')^{-1}`` at the pattern of ``R``, from the last column to the first.

    With ``R = (r, l)'`` in column ``c`` and ``Z`` the inverse of what follows it:
    ``Z l`` at the pattern gives the column, ``-Z l / r``, and the diagonal,
    ``(1 / r + l'Zl / r) / r``.
    """
    place = np.full(starts.size - 1, -1, np.int64)
    for c in range(starts.size - 2, -1, -1):
        first, last = starts[c], starts[c + 1]
        root = values[first]
        for p in range(first, last):
            place[rows[p]] = p
            inverse[p] = 0.0
        for p in range(first + 1, last):
            k = rows[p]
            inverse[p] -= inverse[starts[k]] * values[p]
            for q in range(starts[k] + 1, starts[k + 1]):
                other = place[rows[q]]
                if other >= 0:  # the row is in column c's pattern too
                    inverse[other] -= inverse[q] * values[p]
                    inverse[p] -= inverse[q] * values[other]
        diagonal = 1.0 / root
        for p in range(first + 1, last):
            inverse[p] /= root
            diagonal -= values[p] * inverse[p]
        inverse[first] = diagonal / root
        for p in range(first, last):
            place[rows[p]] = -1


class SparseSchur:
    """``S`` at the pattern of its factor; ``values`` holds it column by column.

    Parameters
    ----------
    pattern
        Of the factor.
    begins, others
        The sets of effects that occur together: level ``g`` of the largest factor has
        ``others[begins[g]:begins[g + 1]]``, ascending.
    """

    def __init__(self, pattern: FactorPattern, begins: np.ndarray, others: np.ndarray):
        self.pattern = pattern
        self.size = len(pattern.starts) - 1
        columns = np.repeat(np.arange(self.size), np.diff(pattern.starts))
        self.keys = columns * self.size + pattern.rows
        self.slots = self._slots(begins, others)
        self.values = np.empty(len(pattern.rows))
        self.inverse = np.empty_like(self.values)
        self.costly = ADVANTAGE * pattern.flops > LARGE

    def _slots(self, begins: np.ndarray, others: np.ndarray) -> Slots:
        """Where the pairs ``i >= k`` of each level's effects stand, row by row of the triangle."""
        counts = np.diff(begins)
        starts = np.concatenate([[0], np.cumsum(counts * (counts + 1) // 2)]).astype(np.int64)
        left, right = np.empty((2, starts[-1]), np.int64)
        list_pairs(begins, starts, left, right)
        return np.searchsorted(self.keys, others[right] * self.size + others[left]), starts

    def clear(self) -> None:
        """Set ``S`` to the identity."""
        self.values[:] = 0.0
        self.values[self.pattern.starts[:-1]] = 1.0

    def factorise(self) -> bool:
        """Factor in place; False if ``S`` is not positive definite."""
        p = self.pattern
        return factor_sparse(
            p.starts, p.rows, p.row_starts, p.row_columns, p.row_entries, self.values
        )

    def log_root(self) -> float:
        """``log|R|``."""
        return float(np.log(self.values[self.pattern.starts[:-1]]).sum())

    def solve(self, z: np.ndarray) -> np.ndarray:
        """``S^{-1} z``; ``z`` is overwritten."""
        eliminate_sparse(self.pattern.starts, self.pattern.rows, self.values, z)
        return self.scatter(z)

    def scatter(self, z: np.ndarray) -> np.ndarray:
        """``R^{-T} z``: standard normal ``z`` becomes ``N(0, S^{-1})``; ``z`` is overwritten."""
        substitute_sparse(self.pattern.starts, self.pattern.rows, self.values, z)
        return z

    def invert(self) -> None:
        """Form the entries of ``S^{-1}`` at the pattern in ``inverse``."""
        invert_sparse(self.pattern.starts, self.pattern.rows, self.values, self.inverse)

    def entries(self, i: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Entries ``(i, k)`` of ``S^{-1}``, ``i >= k``, at the pattern."""
        return self.inverse[np.searchsorted(self.keys, k * self.size + i)]


@kernel(types.void(Indices, Indices, Indices, Indices))
def list_pairs(begins, starts, left, right):
    """List the pairs ``i >= k`` of each level's positions, row by row of the triangle."""
    for g in range(begins.size - 1):
        at = starts[g]
        for i in range(begins[g], begins[g + 1]):
            for k in range(begins[g], i + 1):
                left[at], right[at] = i, k
                at += 1


def choose_order(begins: np.ndarray, others: np.ndarray, size: int):
    """Choose how ``S`` is stored, and the order of its rows.

    Parameters
    ----------
    begins, others
        The effects that occur together with each level of the largest factor.
    size
        Order of ``S``.

    Returns
    -------
    position, pattern
        ``position[k]`` is the row of effect ``k``; ``pattern`` is that of the sparse factor,
        or None where a full matrix is less work.
    """
    natural = np.arange(size)
    counts = np.diff(begins).astype(float)
    dense_work = float(size) ** 3 / 3
    # each set is a clique: the work on the largest bounds that of the factor from below
    if size <= SMALL or ADVANTAGE * np.max(counts, initial=0.0) ** 3 / 3 > dense_work:
        return natural, None
    together = sparse.csr_array(
        (np.ones(len(others)), others, begins), shape=(len(begins) - 1, size)
    )
    joint = sparse.csr_array(together.T @ together)
    if ADVANTAGE * joint.nnz**2 / size > dense_work * 4:  # columns of that mean length
        return natural, None
    best = natural, factor_pattern(joint)
    if 2 * len(best[1].rows) > joint.nnz + size:  # there is fill: another order may have less
        order = splu(
            sparse.csc_array(joint + sparse.eye_array(size) * joint.sum(axis=0).max()),
            permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True},
        ).perm_c  # fmt: skip
        reordered = factor_pattern(joint[np.argsort(order)][:, np.argsort(order)])
        if reordered.flops < best[1].flops:
            best = order.astype(np.int64), reordered
    return best if ADVANTAGE * best[1].flops < dense_work else (natural, None)


KERNELS = (
    count_entries, list_entries, list_pairs, factor_sparse, eliminate_sparse, substitute_sparse,
    invert_sparse,
)  # fmt: skip
