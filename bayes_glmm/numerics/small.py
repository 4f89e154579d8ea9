"""What the searches for conditional modes share: small Cholesky factors, and when to stop."""

from math import sqrt

from .compiled import helper

# A mode is found when its Newton decrement (squared distance to the mode in conditional
# standard deviations) is this small: the log-determinant is of first order in the distance,
# and the optimiser sees errors of it as noise. Newton's method squares the decrement.
NEWTON_DECREMENT = 1e-20
# Rounding may keep it above that in very large groups: from here on a decrement that no
# longer falls is as good.
NEWTON_ROUGH = 1e-12
STALLED = 0.25
NEWTON_ROUNDS = 200


@helper
def factor(H, g, R, i, q):
    """Factor ``H[g] = R[i] R[i]'`` (lower triangle); False if it is not positive definite."""
    for d in range(q):
        for e in range(d + 1):
            s = H[g, d, e]
            for k in range(e):
                s -= R[i, d, k] * R[i, e, k]
            if d > e:
                R[i, d, e] = s / R[i, e, e]
            elif s > 0.0:
                R[i, d, d] = sqrt(s)
            else:
                return False
    return True


@helper
def solve_lower(R, g, b, row, q):
    """Replace ``b[row]`` by ``R[g]^{-1} b[row]``."""
    for i in range(q):
        s = b[row, i]
        for k in range(i):
            s -= R[g, i, k] * b[row, k]
        b[row, i] = s / R[g, i, i]


@helper
def solve_upper(R, g, b, row, q):
    """Replace ``b[row]`` by ``R[g]^{-T} b[row]``."""
    for i in range(q - 1, -1, -1):
        s = b[row, i]
        for k in range(i + 1, q):
            s -= R[g, k, i] * b[row, k]
        b[row, i] = s / R[g, i, i]
