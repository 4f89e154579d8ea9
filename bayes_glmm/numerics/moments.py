r"""Variances of a linear mixed model from moments: where a search may start.

With residuals ``r = My`` of least squares and ``Z_i`` the columns of one effect of one factor,

.. math:: E\,|Z_i'r|^2 = \sum_j v_j \|Z_i'MZ_j\|_F^2 + v_e \|MZ_i\|_F^2, \qquad
   E\,r'r = \sum_j v_j \|MZ_j\|_F^2 + v_e (n - p)

are linear equations in the variances: MINQUE(0) (Rao 1971, J. Multivar. Anal. 1, 445-456),
correlations between effects left out.
"""

from itertools import combinations_with_replacement

import numpy as np

from .level_blocks import indicator


def moment_variances(y: np.ndarray, Q: np.ndarray, effects) -> np.ndarray:
    """Give the variance of each effect, factors in order, and of the residual last.

    Parameters
    ----------
    y
        Response, shape ``(n,)``.
    Q
        Fixed-effect columns with ``Q'Q = n I``, shape ``(n, p)``.
    effects
        One object per grouping factor with ``index`` (n,), ``Z`` (n, q) and ``n_levels``.

    Returns
    -------
    ndarray
        Shape ``(k + 1,)``; what is small may be estimated as negative.
    """
    n, p = Q.shape
    residual = y - Q @ (Q.T @ y) / n
    columns = [(e, a) for e in effects for a in range(e.Z.shape[1])]
    fixed = [_by_level(e, e.Z[:, a], Q) for e, a in columns]  # Z_i'Q
    k = len(columns)
    system, right = np.empty((k + 1, k + 1)), np.empty(k + 1)
    for i, j in combinations_with_replacement(range(k), 2):
        square, turned = _meeting(columns[i], columns[j], fixed[j])
        square -= 2 * np.sum(fixed[i] * turned) / n
        square += np.sum((fixed[i].T @ fixed[i]) * (fixed[j].T @ fixed[j])) / n**2
        system[i, j] = system[j, i] = square
    for i, (e, a) in enumerate(columns):
        system[i, k] = system[k, i] = e.Z[:, a] @ e.Z[:, a] - np.sum(fixed[i] ** 2) / n
        right[i] = np.sum(np.bincount(e.index, e.Z[:, a] * residual, e.n_levels) ** 2)
    system[k, k], right[k] = n - p, residual @ residual
    return np.linalg.lstsq(system, right, rcond=None)[0]


def _by_level(e, z: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sum ``z`` times rows (n, p) by level, shape ``(levels, p)``."""
    sums = [np.bincount(e.index, z * column, e.n_levels) for column in rows.T]
    return np.array(sums).reshape(rows.shape[1], e.n_levels).T


def _meeting(one, other, right: np.ndarray) -> tuple[float, np.ndarray]:
    """``|Z_i'Z_j|^2`` of two effects, of one factor or of two, and ``Z_i'Z_j`` times ``right``."""
    (e, a), (f, b) = one, other
    if e is f:
        diagonal = np.bincount(e.index, e.Z[:, a] * e.Z[:, b], e.n_levels)
        return float(diagonal @ diagonal), diagonal[:, None] * right
    whole = indicator([e])[:, a :: e.Z.shape[1]].T @ indicator([f])[:, b :: f.Z.shape[1]]
    return float(np.sum(whole.data**2)), whole @ right
