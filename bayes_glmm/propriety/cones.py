r"""Recession cones of the likelihood, and their codimension, by one linear program.

With rows ``a_i`` of the columns ``M`` and signs ``s_i`` the cone

.. math:: C(M) = \{w : s_i a_i'w \ge 0 \;(s_i \ne 0),\quad a_i'w = 0 \;(s_i = 0)\}

holds the directions along which no row's likelihood falls to zero. ``kappa = codim C(M)`` is
the rank of the rows that are zero on all of it: the equalities and the implicit equalities.
Those are the rows with ``t_i = 0`` at the solution of ``max sum t_i`` under ``s_i a_i'w >= t_i``,
``0 <= t_i <= 1`` (``t`` is 0 or 1 there, as ``C`` is a cone; Konis 2007).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

TOLERANCE = 1e-9  # relative size of a singular value that counts as zero
LARGEST = 1e6  # of a direction whose smallest step is one; beyond, rounding decides the program


class NotDecidedError(ArithmeticError):
    """The linear program is too ill conditioned to be trusted."""


@dataclass(frozen=True, eq=False)
class Effects:
    """Columns of a random term: row i has ``Z[i]`` in the columns of level ``index[i]``."""

    index: np.ndarray
    Z: np.ndarray
    n_levels: int

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.n_levels * self.Z.shape[1]

    def columns(self) -> sparse.csr_array:
        """Give the columns, shape (n, width)."""
        n, m = self.Z.shape
        cells = self.index[:, None] * m + np.arange(m)
        rows = np.repeat(np.arange(n), m)
        return sparse.csr_array((self.Z.ravel(), (rows, cells.ravel())), shape=(n, self.width))

    def take(self, rows: np.ndarray) -> "Effects":
        """Return some of the rows."""
        return Effects(self.index[rows], self.Z[rows], self.n_levels)


@dataclass(frozen=True, eq=False)
class Cone:
    """The cone of columns ``[X, Z_1, …]``.

    Attributes
    ----------
    kappa
        Its codimension.
    dimension
        Its dimension: the number of columns less ``kappa``.
    direction
        A direction inside it, shape (columns,); zero where the cone is the origin.
    rises
        Rows whose likelihood rises along it, shape (n,).
    """

    kappa: int
    dimension: int
    direction: np.ndarray
    rises: np.ndarray


def cone_of(sign: np.ndarray, X: np.ndarray, effects: Sequence[Effects] = ()) -> Cone:
    """Find the cone of rows with signs +1, -1 or 0, shape (n,).

    Raises
    ------
    NotDecidedError
        If rounding, not the data, would decide.
    """
    sizes = [_sizes(X), *(np.tile(_sizes(e.Z), e.n_levels) for e in effects)]
    X = X / sizes[0]
    effects = [Effects(e.index, e.Z / _sizes(e.Z), e.n_levels) for e in effects]
    first, back = _distinct(sign, X, effects)
    sign, X, effects = sign[first], X[first], [e.take(first) for e in effects]
    M: Any = sparse.hstack([sparse.csr_array(X), *(e.columns() for e in effects)], format="csr")
    open_rows = sign != 0
    signed = sparse.diags_array(sign[open_rows]) @ M[open_rows]
    direction, free = _interior(M[~open_rows], signed)
    rises = np.zeros(len(sign), bool)
    rises[open_rows] = free
    kappa = rank(X[~rises], [e.take(~rises) for e in effects])
    return Cone(kappa, M.shape[1] - kappa, direction / np.concatenate(sizes), rises[back])


def _sizes(columns: np.ndarray) -> np.ndarray:
    """Largest entry of each column, one where all are zero."""
    size = np.abs(columns).max(axis=0, initial=0.0)
    return np.where(size > 0, size, 1.0)


def _distinct(sign, X, effects) -> tuple[np.ndarray, np.ndarray]:
    """First of each set of equal rows, and to which set each row belongs."""
    parts = [sign[:, None], X, *(np.column_stack([e.index, e.Z]) for e in effects)]
    table = np.ascontiguousarray(np.hstack(parts) + 0.0)  # -0 becomes 0
    packed = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).ravel()
    _, first, back = np.unique(packed, return_index=True, return_inverse=True)
    return first, back


def _interior(equal: Any, above: Any) -> tuple[np.ndarray, np.ndarray]:
    """Give a direction inside ``{equal w = 0, above w >= 0}`` and the rows positive there."""
    m, k = above.shape
    if m == 0:
        return np.zeros(k), np.zeros(0, bool)
    from scipy.optimize import linprog  # most checks are decided without it: a quarter second

    solution: Any = linprog(
        np.r_[np.zeros(k), -np.ones(m)],
        A_ub=sparse.hstack([-above, sparse.eye_array(m)], format="csr"),
        b_ub=np.zeros(m),
        A_eq=sparse.hstack([equal, sparse.csr_array((equal.shape[0], m))], format="csr"),
        b_eq=np.zeros(equal.shape[0]),
        bounds=[(None, None)] * k + [(0, 1)] * m,
        method="highs",
    )
    if solution.status != 0:
        raise NotDecidedError(f"The linear program ended without a solution: {solution.message}")
    w, free = solution.x[:k], solution.x[k:] > 0.5
    if free.any() and np.abs(w).max() > LARGEST:
        raise NotDecidedError("The columns are too nearly dependent to decide separation.")
    return w if free.any() else np.zeros(k), free


def rank(X: np.ndarray, effects: Sequence[Effects] = ()) -> int:
    """Rank of ``[X, Z_1, …]``: the term with most levels is eliminated level by level."""
    if not len(X):
        return 0
    if not effects:
        return _dense_rank(X)
    largest = max(effects, key=lambda e: e.n_levels)
    others = [e.columns().toarray() for e in effects if e is not largest]
    rest = np.hstack([X, *others])
    order = np.argsort(largest.index, kind="stable")
    starts = np.flatnonzero(np.diff(largest.index[order], prepend=-1))
    found, left = 0, []
    for rows in np.split(order, starts[1:]):
        U, values, _ = np.linalg.svd(largest.Z[rows], full_matrices=False)
        U = U[:, values > TOLERANCE * max(values[0], 1e-300)]
        found += U.shape[1]
        left.append(rest[rows] - U @ (U.T @ rest[rows]))
    return found + _dense_rank(np.vstack(left), np.abs(rest).max(axis=0, initial=0.0))


def _dense_rank(X: np.ndarray, scale: np.ndarray | None = None) -> int:
    """Rank of columns, each judged against ``scale`` (its largest entry by default)."""
    if X.size == 0:
        return 0
    scale = np.abs(X).max(axis=0) if scale is None else scale
    X = X / np.where(scale > 0, scale, 1.0)
    values = np.linalg.svd(np.linalg.qr(X, mode="r"), compute_uv=False)
    return int((values > TOLERANCE * max(values[0], 1.0)).sum())
