"""Many small matrices at once, one for each level of a grouping factor."""

import numpy as np
from scipy import sparse
from scipy.linalg import get_lapack_funcs

_solve_triangular, _invert = get_lapack_funcs(("trtrs", "potri"), dtype=float)


def consecutive(sizes: list[int]) -> tuple[slice, ...]:
    """Slices of these lengths, one after the other."""
    ends = np.cumsum(sizes, dtype=int)
    return tuple(slice(int(e - s), int(e)) for e, s in zip(ends, sizes, strict=True))


def indicator(effects) -> sparse.csr_array:
    """Write the columns of several factors side by side: sparse, ``(n, sum of levels * q)``."""
    n = len(effects[0].index)
    at = consecutive([e.n_levels * e.Z.shape[1] for e in effects])
    columns = [
        part.start + e.Z.shape[1] * e.index[:, None] + np.arange(e.Z.shape[1])
        for e, part in zip(effects, at, strict=True)
    ]
    where, values = np.hstack(columns), np.hstack([e.Z for e in effects])
    pointer = np.arange(0, where.size + 1, where.shape[1])
    return sparse.csr_array((values.ravel(), where.ravel(), pointer), shape=(n, at[-1].stop))


def triangular(root: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
    """Solve with a lower triangular matrix, C-ordered, or its transpose."""
    if not root.size:
        return right.copy()
    # LAPACK reads columns, so the C-ordered lower root is an upper matrix to it
    return _solve_triangular(root.T, right, lower=0, trans=0 if transpose else 1)[0]


def inverse_of(root: np.ndarray) -> np.ndarray:
    """``(root root')^{-1}`` of a lower triangular matrix, C-ordered: two thirds of ``n^3``."""
    if not root.size:
        return root.copy()
    # as above; what comes back is the upper triangle, column by column: the lower by rows
    lower = np.tril(_invert(root.T, lower=0)[0].T)
    lower += np.tril(lower, -1).T
    return lower


def cholesky_blocks(blocks: np.ndarray) -> np.ndarray:
    """Factor many small matrices ``(G, q, q)``, all at once: a loop over q only."""
    if blocks.shape[1] == 1:
        return np.sqrt(blocks)
    root = np.zeros_like(blocks)
    for j in range(blocks.shape[1]):
        left = root[:, j:, :j] @ root[:, j, :j, None]
        column = blocks[:, j:, j] - left[:, :, 0]
        root[:, j:, j] = column / np.sqrt(column[:, :1])
    return root


def solve_blocks(roots: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve ``roots[g] x = right``, lower triangular, for every g: ``(G, q, q)``."""
    if len(right) == 1:
        return right / roots
    out = np.empty_like(roots)
    for i in range(roots.shape[1]):
        known = (roots[:, i, None, :i] @ out[:, :i])[:, 0]
        out[:, i] = (right[i] - known) / roots[:, i, i, None]
    return out


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``left @ right`` of stacks; where the inner side is 1, by broadcasting, which is faster."""
    return left * right if left.shape[-1] == 1 else left @ right


def multiply_blocks(blocks: np.ndarray, rows):
    """Multiply rows (G q, …), dense or sparse, by a block-diagonal matrix ``(G, q, q)``."""
    G, q, _ = blocks.shape
    if not sparse.issparse(rows):
        return product(blocks, rows.reshape(G, q, rows.shape[1])).reshape(rows.shape)
    columns = np.broadcast_to(q * np.arange(G)[:, None, None] + np.arange(q), (G, q, q))
    pointer = np.arange(0, G * q * q + 1, q)
    return sparse.csr_array((blocks.ravel(), columns.ravel(), pointer), shape=(G * q, G * q)) @ rows


def inner_by_level(left, right, q: int) -> np.ndarray:
    """Inner products of the q rows of each level: ``(G q, m)`` twice to ``(G, q, q)``.

    ``right`` may be sparse, and then ``left`` too.
    """
    G, m = left.shape[0] // q, left.shape[1]
    if not sparse.issparse(right):
        return left.reshape(G, q, m) @ right.reshape(G, q, m).transpose(0, 2, 1)
    out = np.empty((G, q, q))
    for a in range(q):
        for b in range(q):
            out[:, a, b] = right[b::q].multiply(left[a::q]).sum(axis=1)
    return out


def inner(left, right) -> float:
    """Sum of the products of entries, of arrays or sparse matrices of one shape."""
    if sparse.issparse(left) and sparse.issparse(right):
        return float(left.multiply(right).sum())
    return float(np.vdot(as_dense(left), as_dense(right)))


def as_dense(matrix) -> np.ndarray:
    """Write a sparse matrix out; an array passes through."""
    return matrix.toarray() if sparse.issparse(matrix) else matrix
