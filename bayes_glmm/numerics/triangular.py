r"""The map ``x = centre + P' L^-T z`` with sparse lower triangular ``L``, and gradients through it.

``order`` is the coordinate of each row of ``L``; ``L`` is given by its diagonal and, below it, by
columns: the entries of column ``j`` are ``value[start[j]:start[j + 1]]``, in rows ``row[…]``.
"""

import numpy as np

from .compiled import Indices, Vector, kernel

ARGUMENTS = (Vector, Vector, Indices, Vector, Indices, Indices, Vector)


@kernel(Vector(*ARGUMENTS))
def outer(z, centre, order, diagonal, start, row, value):
    """Coordinates ``x`` of ``z``, by back substitution; all of shape ``(d,)``."""
    y = z.copy()
    x = np.empty_like(z)
    for j in range(len(z) - 1, -1, -1):
        total = y[j]
        for k in range(start[j], start[j + 1]):
            total -= value[k] * y[row[k]]
        y[j] = total / diagonal[j]
        x[order[j]] = centre[order[j]] + y[j]
    return x


@kernel(Vector(*ARGUMENTS))
def inner_gradient(gradient, centre, order, diagonal, start, row, value):
    """Gradient by ``z`` from that by ``x``, by forward substitution."""
    w = gradient[order]
    for j in range(len(w)):
        w[j] /= diagonal[j]
        for k in range(start[j], start[j + 1]):
            w[row[k]] -= value[k] * w[j]
    return w
