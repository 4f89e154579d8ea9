r"""Blocked Cholesky factor of ``H = I + A'WA`` for several grouping factors.

The effects of the largest factor come first. Its part of ``H`` is block diagonal, one small
block ``A_g = R_g R_g'`` for each level, and is eliminated level by level; what remains for
all other effects is a Schur complement, full or sparse (``schur``), as in MixedModels.jl

.. math:: S = D - \sum_g \tilde B_g \tilde B_g', \qquad \tilde B_g = B_g R_g^{-T},

where ``B_g`` has a row for each other effect that occurs together with level ``g``. These
rows are the *pattern*: it depends on the data alone and is found once. Of ``H^{-1}`` only
the entries at the pattern are formed.
"""

from dataclasses import dataclass

import numpy as np
from numba import types

from . import schur
from .compiled import Cube, IndexTable, Indices, Integer, Matrix, Vector, helper, kernel
from .schur import DenseSchur, FactorPattern, SparseSchur, choose_order
from .small import factor, solve_lower, solve_upper


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where the other factors' effects meet the levels of the largest factor.

    Attributes
    ----------
    starts
        First row of each level of the largest factor, and ``n``.
    columns
        Positions among the other effects that a row involves, ``(n, s)``.
    meets
        Row of ``B`` for each of them, ``(n, s)``.
    begins, others
        Level ``g`` meets the other effects ``others[begins[g]:begins[g + 1]]``, ascending.
    size
        Number of other effects.
    position
        Place of each other effect, factor by factor and level by level, ``(size,)``: their
        order is one that keeps the factor sparse.
    sparse
        Pattern of the Schur complement's factor, None for a full one.
    """

    starts: np.ndarray
    columns: np.ndarray
    meets: np.ndarray
    begins: np.ndarray
    others: np.ndarray
    size: int
    position: np.ndarray
    sparse: FactorPattern | None


def make_pattern(ranked) -> Pattern:
    """Find the pattern of factors (``groups.Factor``), rows sorted by the first."""
    first, rest = ranked[0], ranked[1:]
    offsets = np.cumsum([0, *(f.levels * f.q for f in rest)])
    columns = [
        offset + f.index[:, None] * f.q + np.arange(f.q)
        for offset, f in zip(offsets, rest, strict=False)
    ]
    table = np.concatenate(columns, axis=1) if rest else np.zeros((len(first.index), 0), np.int64)
    size = int(offsets[-1])
    _, begins, others = meeting(first, table, size)
    position, pattern = choose_order(begins, others, size)
    table = np.array(position[table], np.int64, order="C")
    meets, begins, others = meeting(first, table, size)
    return Pattern(first.starts(), table, meets, begins, others, size, position, pattern)


def meeting(first, table: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``meets``, ``begins`` and ``others`` of ``Pattern``, given the columns of each row."""
    keys = first.index[:, None] * max(size, 1) + table
    pairs, meets = np.unique(keys, return_inverse=True)
    begins = np.searchsorted(pairs, np.arange(first.levels + 1) * max(size, 1)).astype(np.int64)
    meets = np.array(meets.reshape(table.shape), np.int64, order="C")
    return meets, begins, (pairs % max(size, 1)).astype(np.int64)


@helper
def add_block(T, m, begin, others, slots, slot_start, size, S):
    """Add the lower triangle ``T`` of one level's ``m`` other effects to ``S``, where it stands.

    ``slots`` lists the places of the triangle's entries where ``S`` is sparse.
    """
    if slots.size:
        at = slot_start
        for i in range(m):
            for k in range(i + 1):
                S[slots[at]] += T[i, k]
                at += 1
        return
    for i in range(m):
        row = others[begin + i] * size
        for k in range(i + 1):
            S[row + others[begin + k]] += T[i, k]


@helper
def take_block(S, begin, m, others, slots, slot_start, size, T):
    """Copy the entries of ``S`` at one level's ``m`` other effects to both triangles of ``T``."""
    if slots.size:
        at = slot_start
        for i in range(m):
            for k in range(i + 1):
                T[i, k] = T[k, i] = S[slots[at]]
                at += 1
        return
    for i in range(m):
        row = others[begin + i] * size
        for k in range(i + 1):
            T[i, k] = T[k, i] = S[row + others[begin + k]]


@helper
def most_met(begins):
    """Count the other effects that a level meets: the most over the levels."""
    most = 0
    for g in range(begins.size - 1):
        most = max(most, begins[g + 1] - begins[g])
    return most


@kernel(
    types.int64(
        Vector, Matrix, Matrix, Indices, IndexTable, Indices, Indices, Indices, Indices, Integer,
        Cube, Cube, Matrix, Vector,
    )
)  # fmt: skip
def assemble(w, a, c, starts, meets, begins, others, slots, slot_starts, size, A, R, B, S):
    """Fill ``A``, its factors ``R``, ``B~`` and the lower triangle of ``S``, now the identity.

    Parameters
    ----------
    w
        Row weights ``-l''``, ``(n,)``.
    a, c
        ``L'z`` of a row for the largest factor, ``(q, n)``, and for the others, ``(s, n)``.

    Returns
    -------
    Number of levels whose block is not positive definite.
    """
    q, s = a.shape[0], c.shape[0]
    most, failures = most_met(begins), 0
    T = np.empty((most, most))
    for g in range(starts.size - 1):
        begin, m = begins[g], begins[g + 1] - begins[g]
        for i in range(m):
            for d in range(q):
                B[begin + i, d] = 0.0
            for k in range(i + 1):
                T[i, k] = 0.0
        for d in range(q):
            for e in range(q):
                A[g, d, e] = 0.0
            A[g, d, d] = 1.0
        for j in range(starts[g], starts[g + 1]):
            for d in range(q):
                for e in range(d + 1):
                    A[g, d, e] += w[j] * a[d, j] * a[e, j]
            for k in range(s):
                weighted = w[j] * c[k, j]
                for d in range(q):
                    B[meets[j, k], d] += weighted * a[d, j]
                for other in range(s):
                    if meets[j, other] <= meets[j, k]:
                        T[meets[j, k] - begin, meets[j, other] - begin] += weighted * c[other, j]
        if not factor(A, g, R, g, q):
            failures += 1
            continue
        for i in range(begin, begin + m):
            solve_lower(R, g, B, i, q)
        for i in range(m):
            for d in range(q):
                here = B[begin + i, d]
                for k in range(i + 1):
                    T[i, k] -= here * B[begin + k, d]
        add_block(T, m, begin, others, slots, slot_starts[g], size, S)
    return failures


@kernel(types.void(Cube, Matrix, Indices, Indices, Matrix, Vector))
def eliminate(R, B, begins, others, x, z):
    """Forward half of a solve: ``x_g := R_g^{-1} x_g``, ``z := z - B~ x``."""
    q = x.shape[1]
    for g in range(begins.size - 1):
        solve_lower(R, g, x, g, q)
        for i in range(begins[g], begins[g + 1]):
            for d in range(q):
                z[others[i]] -= B[i, d] * x[g, d]


@kernel(types.void(Cube, Matrix, Indices, Indices, Matrix, Vector))
def substitute(R, B, begins, others, x, z):
    """Backward half of a solve: ``x_g := R_g^{-T} (x_g - B~_g' z)``."""
    q = x.shape[1]
    for g in range(begins.size - 1):
        for i in range(begins[g], begins[g + 1]):
            for d in range(q):
                x[g, d] -= B[i, d] * z[others[i]]
        solve_upper(R, g, x, g, q)


@kernel(types.void(Matrix, Matrix, Indices, IndexTable, Matrix, Vector, Vector))
def spread_out(a, c, index, columns, x, z, out):
    """Add ``A (x, z)`` to ``out``: effects to rows, ``(n,)``."""
    for d in range(a.shape[0]):
        for j in range(out.size):
            out[j] += a[d, j] * x[index[j], d]
    for k in range(c.shape[0]):
        for j in range(out.size):
            out[j] += c[k, j] * z[columns[j, k]]


@kernel(types.void(Matrix, Matrix, Indices, IndexTable, Vector, Matrix, Vector))
def gather(a, c, index, columns, values, x, z):
    """Add ``A' values`` to ``x`` and ``z``: rows to effects."""
    for d in range(a.shape[0]):
        for j in range(values.size):
            x[index[j], d] += a[d, j] * values[j]
    for k in range(c.shape[0]):
        for j in range(values.size):
            z[columns[j, k]] += c[k, j] * values[j]


@helper
def level_inverse(R, B, T, begin, m, g, first, second, q):
    """Blocks of ``H^{-1}`` for level ``g``, given those of ``S^{-1}`` at its ``m`` effects.

    ``second[i] = -S^{-1} B~ R^{-1}`` at the pattern and
    ``first[g] = R^{-T} (I + B~' S^{-1} B~) R^{-1}``.
    """
    for d in range(q):
        for e in range(q):
            first[g, d, e] = 1.0 if d == e else 0.0
    for i in range(m):
        for d in range(q):
            value = 0.0
            for k in range(m):
                value -= T[i, k] * B[begin + k, d]
            second[begin + i, d] = value
        for d in range(q):
            for e in range(q):
                first[g, d, e] -= B[begin + i, d] * second[begin + i, e]
        solve_upper(R, g, second, begin + i, q)


@kernel(
    types.void(
        Matrix, Matrix, Indices, IndexTable, Indices, Indices, Indices, Indices, Integer,
        Cube, Matrix, Vector, Cube, Matrix, Vector, Matrix, Matrix,
    )
)  # fmt: skip
def select(
    a, c, starts, meets, begins, others, slots, slot_starts, size,
    R, B, inverse, first, second, h, along, across,
):  # fmt: skip
    """Select entries of ``H^{-1}``, from ``inverse = S^{-1}``.

    Fills ``first`` (blocks of the largest factor), ``second`` (rows at the pattern), and for
    each row ``H^{-1} a_j`` at the row's own effects: ``along`` for the largest factor,
    ``(q, n)``, ``across`` for the others, ``(s, n)``; ``h_j = a_j'H^{-1}a_j``.
    """
    q, s = a.shape[0], c.shape[0]
    most = most_met(begins)
    T = np.empty((most, most))
    for g in range(starts.size - 1):
        begin, m = begins[g], begins[g + 1] - begins[g]
        take_block(inverse, begin, m, others, slots, slot_starts[g], size, T)
        level_inverse(R, B, T, begin, m, g, first, second, q)
        for d in range(q):
            solve_right(R, g, first, d, q)
        for d in range(q):
            for e in range(d):
                first[g, d, e], first[g, e, d] = first[g, e, d], first[g, d, e]
        for d in range(q):
            solve_right(R, g, first, d, q)
        for j in range(starts[g], starts[g + 1]):
            h[j] = 0.0
            for d in range(q):
                value = 0.0
                for e in range(q):
                    value += first[g, d, e] * a[e, j]
                for k in range(s):
                    value += second[meets[j, k], d] * c[k, j]
                along[d, j] = value
                h[j] += a[d, j] * value
            for k in range(s):
                value = 0.0
                for d in range(q):
                    value += second[meets[j, k], d] * a[d, j]
                for other in range(s):
                    value += T[meets[j, k] - begin, meets[j, other] - begin] * c[other, j]
                across[k, j] = value
                h[j] += c[k, j] * value


@helper
def solve_right(R, g, X, d, q):
    """Replace row ``X[g, d]`` by ``R[g]^{-T} X[g, d]``."""
    for i in range(q - 1, -1, -1):
        value = X[g, d, i]
        for k in range(i + 1, q):
            value -= R[g, k, i] * X[g, d, k]
        X[g, d, i] = value / R[g, i, i]


class BlockedCholesky:
    """``H = I + A'WA``: factor, solve, determinant and selected inverse.

    Parameters
    ----------
    pattern
        Of the factors.
    q
        Effects of one level of the largest factor.

    Attributes
    ----------
    schur
        The Schur complement of the other effects, its factor and inverse.
    first
        Blocks of ``H^{-1}`` of the largest factor's levels, after ``select_inverse``.
    h, along, across
        What ``select`` says, after ``select_inverse``.
    """

    def __init__(self, pattern: Pattern, q: int):
        self.pattern = p = pattern
        levels = len(p.starts) - 1
        n, s = p.columns.shape
        self.schur: DenseSchur | SparseSchur = (
            DenseSchur(p.size) if p.sparse is None else SparseSchur(p.sparse, p.begins, p.others)
        )
        self.A, self.R = np.empty((levels, q, q)), np.empty((levels, q, q))
        self.B = np.empty((len(p.others), q))
        self.first, self.second = np.empty((levels, q, q)), np.empty((len(p.others), q))
        self.h, self.along, self.across = np.empty(n), np.empty((q, n)), np.empty((s, n))

    def factorise(self, w, a, c) -> bool:
        """Factor ``H`` at row weights ``w``; False if it is not positive definite."""
        p, S = self.pattern, self.schur
        S.clear()
        failures = assemble(
            w, a, c, p.starts, p.meets, p.begins, p.others, *S.slots, p.size,
            self.A, self.R, self.B, S.values,
        )  # fmt: skip
        return failures == 0 and S.factorise()

    def log_determinant(self) -> float:
        """``log |H|``."""
        small = np.log(np.diagonal(self.R, axis1=1, axis2=2)).sum()
        return float(2.0 * (small + self.schur.log_root()))

    def solve(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``H^{-1} (x, z)``; ``x`` of shape ``(levels, q)``, ``z`` for the other effects."""
        p = self.pattern
        x, z = x.copy(), z.copy()
        eliminate(self.R, self.B, p.begins, p.others, x, z)
        z = self.schur.solve(z)
        substitute(self.R, self.B, p.begins, p.others, x, z)
        return x, z

    def scatter(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normal ``(x, z)``, shaped as in ``solve``, into ``N(0, H^{-1})``."""
        p = self.pattern
        x, z = x.copy(), z.copy()
        z = self.schur.scatter(z)
        substitute(self.R, self.B, p.begins, p.others, x, z)
        return x, z

    def select_inverse(self, a, c) -> None:
        """Form the entries of ``H^{-1}`` at the pattern."""
        p, S = self.pattern, self.schur
        S.invert()
        select(
            a, c, p.starts, p.meets, p.begins, p.others, *S.slots, p.size,
            self.R, self.B, S.inverse, self.first, self.second, self.h, self.along, self.across,
        )  # fmt: skip

    def other_blocks(self, low: int, levels: int, q: int) -> np.ndarray:
        """Blocks of ``H^{-1}`` of another factor, ``(levels, q, q)``, after ``select_inverse``.

        Its effects are ``low, low + 1, …`` among the others, level by level.
        """
        place = self.pattern.position[low : low + levels * q].reshape(levels, q)
        i, k = place[:, :, None], place[:, None, :]
        return self.schur.entries(np.maximum(i, k), np.minimum(i, k))


KERNELS = (assemble, eliminate, substitute, select, spread_out, gather, *schur.KERNELS)
