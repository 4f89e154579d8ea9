r"""What each row says that the earlier rows of its cluster do not: its innovation.

.. math:: w = L^{-1} e, \qquad R = L L', \qquad
   \log N(e; 0, \sigma^2 R) = \sum_j \log N(w_j; 0, \sigma^2) - \log L_{jj}

for the residuals ``e`` of a cluster in order of time: term ``j`` is the log density of row ``j``
given the rows before it. The derivative goes back through the Cholesky factor (Smith 1995;
Murray 2016, *Differentiation of the Cholesky decomposition*, section 4).

Clusters that share a correlation matrix share its factor. ``size`` has a row (rows of a cluster,
clusters) for each such pattern; ``rows`` are the rows cluster by cluster; ``place`` says where in
``values``, the distinct correlations, the entries below the diagonal of each pattern's matrix are,
row by row.
"""

import numpy as np
from numba import types

from .compiled import IndexTable, Indices, Vector, helper, kernel

SINGULAR = 1e-12  # conditional variance of a row by the total's, below which rounding decides
ARRANGED = (IndexTable, Indices, Indices)
TWO = types.UniTuple(Vector, 2)


@helper
def factor(values, place, first, L):
    """Factor one correlation matrix into ``L``; tell whether it is positive definite."""
    for i in range(len(L)):
        for j in range(i + 1):
            left = 1.0 if i == j else values[place[first + i * (i - 1) // 2 + j]]
            for k in range(j):
                left -= L[i, k] * L[j, k]
            if i > j:
                L[i, j] = left / L[j, j]
            elif left > SINGULAR:
                L[i, i] = np.sqrt(left)
            else:
                return False
    return True


@helper
def by_matrix(L, by_L):
    """Turn derivatives by the factor, below and on the diagonal, into those by the matrix."""
    m = len(L)
    for j in range(m - 1, -1, -1):
        for i in range(j + 1, m):
            by_L[j, j] -= L[i, j] * by_L[i, j] / L[j, j]
        for i in range(j, m):
            by_L[i, j] /= L[j, j]
            for k in range(j):
                by_L[j, k] -= by_L[i, j] * L[i, k]
        for i in range(j + 1, m):
            for k in range(j):
                by_L[i, k] -= by_L[i, j] * L[j, k]
        by_L[j, j] /= 2.0


@kernel(TWO(Vector, Vector, *ARRANGED))
def innovations(values, residuals, size, place, rows):
    """Innovations and ``log L_jj`` of each row, both ``(n,)``.

    Where a matrix is not positive definite its rows have infinite ``log L_jj``, and so no density.
    """
    n = len(residuals)
    white, log_scale = np.zeros(n), np.full(n, np.inf)
    entry, row = 0, 0
    for p in range(len(size)):
        m, clusters = size[p, 0], size[p, 1]
        L = np.empty((m, m))
        if factor(values, place, entry, L):
            log_diagonal, w = np.log(np.diag(L)), np.empty(m)
            for c in range(clusters):
                at = rows[row + c * m : row + (c + 1) * m]
                for j in range(m):
                    left = residuals[at[j]]
                    for k in range(j):
                        left -= L[j, k] * w[k]
                    w[j] = left / L[j, j]
                    white[at[j]], log_scale[at[j]] = w[j], log_diagonal[j]
        entry += m * (m - 1) // 2
        row += m * clusters
    return white, log_scale


@kernel(TWO(Vector, Vector, Vector, Vector, *ARRANGED))
def pull_back(values, white, by_white, by_log_scale, size, place, rows):
    """Differentiate by ``values`` and ``residuals``, given the derivatives by both outputs.

    Patterns whose matrix is not positive definite have none: zero.
    """
    by_values, by_residuals = np.zeros(len(values)), np.zeros(len(white))
    entry, row = 0, 0
    for p in range(len(size)):
        m, clusters = size[p, 0], size[p, 1]
        L, by_L = np.empty((m, m)), np.zeros((m, m))
        if factor(values, place, entry, L):
            w, z = np.empty(m), np.empty(m)
            for c in range(clusters):
                at = rows[row + c * m : row + (c + 1) * m]
                for j in range(m):
                    w[j], z[j] = white[at[j]], by_white[at[j]]
                for i in range(m - 1, -1, -1):  # z = L^-T by_white, row by row of L
                    z[i] /= L[i, i]
                    for j in range(i):
                        z[j] -= L[i, j] * z[i]
                    for j in range(i + 1):
                        by_L[i, j] -= z[i] * w[j]
                    by_L[i, i] += by_log_scale[at[i]] / L[i, i]
                    by_residuals[at[i]] = z[i]
            by_matrix(L, by_L)
            for i in range(m):
                for j in range(i):
                    by_values[place[entry + i * (i - 1) // 2 + j]] += by_L[i, j]
        entry += m * (m - 1) // 2
        row += m * clusters
    return by_values, by_residuals


@kernel(Vector(Vector, Vector, *ARRANGED))
def correlate(values, noise, size, place, rows):
    """Correlate independent ``w`` to ``L w``, ``(n,)``; NaN where there is no ``L``."""
    found = np.full(len(noise), np.nan)
    entry, row = 0, 0
    for p in range(len(size)):
        m, clusters = size[p, 0], size[p, 1]
        L = np.empty((m, m))
        if factor(values, place, entry, L):
            for c in range(clusters):
                at = rows[row + c * m : row + (c + 1) * m]
                for i in range(m):
                    total = 0.0
                    for j in range(i + 1):
                        total += L[i, j] * noise[at[j]]
                    found[at[i]] = total
        entry += m * (m - 1) // 2
        row += m * clusters
    return found
