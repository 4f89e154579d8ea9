r"""Sums over independent blocks that expansions in the covariance of the responses need.

.. math:: V = \sum_g \sum_{i \ge j} D_{g,ij} V_{g,ij} + \sigma^2 R, \qquad
   V_{g,ij} = z_{gi} A_g z_{gj}' \; (+ \text{transpose for } i \ne j)

``z_{gi}`` has one column for each level, holding the ``i``-th random-effect column in its rows.
For directions ``V_k``, these derivatives and others, the forms are

.. math:: X'V^{-1}X, \quad X'V^{-1}V_kV^{-1}X, \quad X'V^{-1}V_kV^{-1}V_lV^{-1}X, \quad
   \mathrm{tr}(V^{-1}V_kV^{-1}V_l).

A block with independent residuals and more rows than columns of effects and X is rotated by QR of
these columns: the rows below the triangle are noise alone, so that a block of any length costs no
more than one with as many rows as columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .row_blocks import AlikeBlocks, RowBlocks

BUDGET = 2e7  # numbers in the arrays of the blocks that are worked on together


@dataclass(frozen=True, eq=False)
class AlikeMatrices:
    """Matrices of clusters of residuals that are alike.

    Attributes
    ----------
    rows
        Of each cluster, shape ``(clusters, m)``.
    matrices
        Correlation, then the directions of V that are its derivatives; ``(1 + k, m, m)``.
    """

    rows: np.ndarray
    matrices: np.ndarray


@dataclass(frozen=True, eq=False)
class Forms:
    """The sums, for ``r`` directions.

    Attributes
    ----------
    precision
        ``X'V^{-1}X``, shape ``(p, p)``.
    linear
        ``X'V^{-1}V_kV^{-1}X``, shape ``(r, p, p)``.
    quadratic
        ``X'V^{-1}V_kV^{-1}V_lV^{-1}X``, shape ``(r, r, p, p)``.
    traces
        ``tr(V^{-1}V_kV^{-1}V_l)``, shape ``(r, r)``.
    """

    precision: np.ndarray
    linear: np.ndarray
    quadratic: np.ndarray
    traces: np.ndarray

    def __add__(self, other: "Forms") -> "Forms":
        """Add up blocks."""
        return Forms(
            self.precision + other.precision,
            self.linear + other.linear,
            self.quadratic + other.quadratic,
            self.traces + other.traces,
        )


@dataclass(frozen=True, eq=False)
class MixedRows:
    """The rows of a linear mixed model, without its parameters.

    Attributes
    ----------
    X
        Fixed-effect columns, shape ``(n, p)``.
    effects
        One object per grouping factor with ``index``, ``Z``, ``n_levels``, ``blocks`` and
        ``covariance`` (A; None is the identity).
    blocks
        The independent rows.
    correlated
        Whether residuals are.
    """

    X: np.ndarray
    effects: tuple
    blocks: RowBlocks
    correlated: bool = False

    @property
    def entries(self) -> list[tuple[int, int, int]]:
        """Factor, row and column of each free entry of the covariances of effects."""
        return [
            (k, i, j)
            for k, e in enumerate(self.effects)
            for block in e.blocks
            for at, j in enumerate(block)
            for i in block[at:]
        ]

    @property
    def largest(self) -> int:
        """Order of the largest dense matrix that the forms need."""
        return max(self.order(alike) for alike in self.blocks.alike)

    def order(self, alike: AlikeBlocks) -> int:
        """Rows of each block, rotated where that makes them fewer."""
        m = alike.rows.shape[1]
        return m if self.correlated else min(m, self.width(alike))

    def width(self, alike: AlikeBlocks) -> int:
        """Count the columns of effects and X in each block."""
        return int(self.cuts(alike)[-1]) + self.X.shape[1]

    def cuts(self, alike: AlikeBlocks) -> np.ndarray:
        """Give where the columns of each factor begin, and where they end."""
        pairs = zip(alike.levels, self.effects, strict=True)
        return np.cumsum([0, *(levels.shape[1] * e.Z.shape[1] for levels, e in pairs)])

    def columns(self, part: AlikeBlocks) -> np.ndarray:
        """Columns of effects, level by level, then X, of each block: rotated, or as they are."""
        (count, m), k = part.rows.shape, self.width(part)
        if self.order(part) == m:
            return self._dense(part, slice(0, m))
        step = max(k, int(BUDGET // (count * k)))
        root = np.empty((count, 0, k))
        for low in range(0, m, step):
            whole = np.concatenate([root, self._dense(part, slice(low, low + step))], axis=1)
            root = np.linalg.qr(whole, mode="r")
        return root

    def _dense(self, part: AlikeBlocks, some: slice) -> np.ndarray:
        """Write some rows of each block, ``(blocks, rows, columns)``."""
        rows, cuts = part.rows[:, some], self.cuts(part)
        count, m = rows.shape
        found = np.zeros((count, m, self.width(part)))
        block, place = np.arange(count)[:, None], np.arange(m)
        for e, at, codes in zip(self.effects, cuts[:-1], part.codes, strict=True):
            q = e.Z.shape[1]
            for a in range(q):
                found[block, place, at + q * codes[:, some] + a] = e.Z[rows, a]
        found[:, :, cuts[-1] :] = self.X[rows]
        return found

    def derivatives(self, part: AlikeBlocks, columns: np.ndarray) -> Iterator[np.ndarray]:
        """Yield those of V by the entries of the covariances of effects, ``(blocks, m, m)``."""
        cuts = self.cuts(part)
        for k, i, j in self.entries:
            q, A = self.effects[k].Z.shape[1], self.effects[k].covariance
            left, right = (columns[:, :, cuts[k] + a : cuts[k + 1] : q] for a in (i, j))
            if A is not None:
                levels = part.levels[k]
                right = right @ A[levels[:, :, None], levels[:, None, :]]
            one = left @ right.transpose(0, 2, 1)
            yield one if i == j else one + one.transpose(0, 2, 1)


@dataclass(frozen=True, eq=False)
class MixedCovariance:
    """The covariance of a linear mixed model's responses at its parameters.

    Attributes
    ----------
    rows
        The model without its parameters.
    D
        Covariance of each factor's effects, shape ``(q, q)``.
    sigma2
        Residual variance.
    residual
        Correlated residuals; empty where they are independent.
    """

    rows: MixedRows
    D: tuple[np.ndarray, ...]
    sigma2: float
    residual: tuple[AlikeMatrices, ...] = ()

    @property
    def size(self) -> int:
        """Number of directions: the entries of the Ds, sigma squared, those of the residuals."""
        of_residual = len(self.residual[0].matrices) if self.residual else 1
        return len(self.rows.entries) + of_residual

    def forms(self) -> Forms:
        """Sum over all blocks.

        Raises
        ------
        numpy.linalg.LinAlgError
            If V is not positive definite.
        """
        p, r = self.rows.X.shape[1], self.size
        shapes = (p, p), (r, p, p), (r, r, p, p), (r, r)
        total = Forms(*map(np.zeros, shapes))
        for alike in self.rows.blocks.alike:
            whole = alike.rows.shape[1] * self.rows.width(alike)
            each = 2 * max(r * self.rows.order(alike) ** 2, whole)
            for part in alike.parts(max(1, int(BUDGET // each))):
                total += self._part(part)
        return total

    def _part(self, part: AlikeBlocks) -> Forms:
        """Forms of alike blocks, all at once."""
        columns = self.rows.columns(part)
        directions = list(self.rows.derivatives(part, columns))
        R = self._residual(part, columns.shape[1])
        V = self.sigma2 * R[0]
        for (k, i, j), one in zip(self.rows.entries, directions, strict=True):
            V = V + self.D[k][i, j] * one
        found = forms_of(V, [*directions, *R], columns[:, :, self.rows.cuts(part)[-1] :])
        noise = len(directions)
        spare = part.rows.size - columns.shape[0] * columns.shape[1]
        found.traces[noise, noise] += spare / self.sigma2**2
        return found

    def _residual(self, part: AlikeBlocks, m: int) -> list[np.ndarray]:
        """Give the residuals' correlation in each block, and its directions."""
        count = len(part.rows)
        if not self.residual:
            return [np.broadcast_to(np.eye(m), (count, m, m))]
        found = np.zeros((len(self.residual[0].matrices), count, m, m))
        for alike in self.residual:
            block = self.rows.blocks.block[alike.rows[:, 0]] - part.first
            mine = (block >= 0) & (block < count)
            place = self.rows.blocks.place[alike.rows[mine]]
            where = block[mine][:, None, None], place[:, :, None], place[:, None, :]
            found[:, *where] = alike.matrices[:, None]
        return list(found)


def forms_of(V: np.ndarray, directions: list[np.ndarray], X: np.ndarray) -> Forms:
    r"""Sum the forms over blocks.

    With :math:`V = LL'` they are sums of products of entries of the symmetric
    :math:`L^{-1}V_kL^{-T}`, and of these times :math:`L^{-1}X`.

    Parameters
    ----------
    V
        Shape ``(blocks, m, m)``.
    directions
        Each of the same shape.
    X
        Shape ``(blocks, m, p)``.
    """
    inverse = np.linalg.inv(np.linalg.cholesky(V))
    turned = inverse.transpose(0, 2, 1)
    r, p = len(directions), X.shape[2]
    white = np.empty((r, *V.shape))
    for k, one in enumerate(directions):
        np.matmul(inverse @ one, turned, out=white[k])
    white_X = inverse @ X
    rows = V.shape[0] * V.shape[1]
    moved = (white @ white_X).transpose(0, 3, 1, 2).reshape(r * p, rows)
    flat, flat_X = white.reshape(r, -1), white_X.transpose(2, 0, 1).reshape(p, rows)
    return Forms(
        precision=flat_X @ flat_X.T,
        linear=(moved @ flat_X.T).reshape(r, p, p),
        quadratic=(moved @ moved.T).reshape(r, p, r, p).transpose(0, 2, 1, 3),
        traces=flat @ flat.T,
    )
