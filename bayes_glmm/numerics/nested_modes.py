r"""Joint modes of two nested levels: Newton's method on curvature of arrow shape.

Arrays over inner levels and outer groups have the level as their last axis; rows of ``a`` are
``A_j``, first the ``q`` inner effects, then the outer ones. With ``H_ii = R_ii R_ii'``,

.. math:: T_i = R_{ii}^{-1}, \quad K_i = H_{ii}^{-1} H_{iv}, \quad
   T_v = \mathrm{chol}\bigl(H_{vv} - \sum_i H_{vi} K_i\bigr)^{-1}

are all that is kept of the Cholesky factor of ``H``: it has no entries outside the arrow.
"""

from math import inf

import numpy as np

from .compiled import helper
from .small import NEWTON_ROUGH, STALLED, factor


@helper
def invert(R, T, i, q):
    """Write the inverse of the lower triangle ``R[0]`` to ``T[:, :, i]``."""
    for d in range(q):
        T[d, d, i] = 1.0 / R[0, d, d]
        for e in range(d):
            s = 0.0
            for k in range(e, d):
                s -= R[0, d, k] * T[k, e, i]
            T[d, e, i] = s / R[0, d, d]
            T[e, d, i] = 0.0


@helper
def apply_inverse(T, x, i, q):
    """Replace ``x[:, i]`` by ``T'T x[:, i]``; returns ``|T x|^2``."""
    squares = 0.0
    for d in range(q - 1, -1, -1):
        s = 0.0
        for e in range(d + 1):
            s += T[d, e, i] * x[e, i]
        x[d, i] = s
        squares += s * s
    for d in range(q):
        s = 0.0
        for e in range(d, q):
            s += T[e, d, i] * x[e, i]
        x[d, i] = s
    return squares


@helper
def factor_group(second, lowest, a, q, bounds, first, last, g, small, T, K, Tv):
    """Factor ``H`` of group ``g`` with inner levels ``first:last``.

    The weights are ``-second``, but at least ``lowest``. ``small`` is scratch. False if ``H``
    is not positive definite.
    """
    p = a.shape[0] - q
    H, R, S, B, across = small[0:1], small[1:2], small[2:3], small[3], small[4]
    for d in range(p):
        for e in range(d + 1):
            S[0, d, e] = 1.0 if d == e else 0.0
    for i in range(first, last):
        for d in range(q):
            for e in range(d + 1):
                s = 1.0 if d == e else 0.0
                for j in range(bounds[i], bounds[i + 1]):
                    s += max(-second[j], lowest) * a[d, j] * a[e, j]
                H[0, d, e] = s
        if not factor(H, 0, R, 0, q):
            return False
        invert(R, T, i, q)
        for d in range(p):
            for e in range(q):
                across[d, e] = 0.0
                for j in range(bounds[i], bounds[i + 1]):
                    across[d, e] += max(-second[j], lowest) * a[q + d, j] * a[e, j]
            for e in range(q):  # R_vi = H_vi T_i'
                B[d, e] = 0.0
                for k in range(e + 1):
                    B[d, e] += across[d, k] * T[e, k, i]
            for e in range(q):
                K[e, d, i] = 0.0
                for k in range(e, q):
                    K[e, d, i] += T[k, e, i] * B[d, k]
            for e in range(d + 1):
                for j in range(bounds[i], bounds[i + 1]):
                    S[0, d, e] += max(-second[j], lowest) * a[q + d, j] * a[q + e, j]
                for k in range(q):
                    S[0, d, e] -= B[d, k] * B[e, k]
    if not factor(S, 0, R, 0, p):
        return False
    invert(R, Tv, g, p)
    return True


@helper
def solve_group(first, last, g, T, K, Tv, inner, outer):
    """Replace ``(inner, outer)`` of group ``g`` by ``H^{-1} (inner, outer)``.

    Returns the quadratic form ``x'H^{-1}x`` of what was there.
    """
    q, p = inner.shape[0], outer.shape[0]
    form = 0.0
    for i in range(first, last):
        for d in range(p):
            for e in range(q):
                outer[d, g] -= K[e, d, i] * inner[e, i]
        form += apply_inverse(T, inner, i, q)
    form += apply_inverse(Tv, outer, g, p)
    for i in range(first, last):
        for e in range(q):
            for d in range(p):
                inner[e, i] -= K[e, d, i] * outer[d, g]
    return form


@helper
def predictor(base, a, bounds, cuts, groups, u, v, eta):
    """``eta_j = o_j + A_j'(u_i, v_g)`` for the rows of a chunk; ``base`` is theirs."""
    q, p = u.shape[0], v.shape[0]
    for g in range(groups):
        for i in range(cuts[g], cuts[g + 1]):
            for j in range(bounds[i], bounds[i + 1]):
                eta[j] = base[j]
            for d in range(q):
                x, along = u[d, i], a[d]
                for j in range(bounds[i], bounds[i + 1]):
                    eta[j] += along[j] * x
            for d in range(p):
                x, along = v[d, g], a[q + d]
                for j in range(bounds[i], bounds[i + 1]):
                    eta[j] += along[j] * x


@helper
def place(first, last, g, step_u, step_v, mode_u, mode_v, u, v):
    """Put group ``g`` at its mode plus its step."""
    for i in range(first, last):
        for d in range(u.shape[0]):
            u[d, i] = mode_u[d, i] + step_u[d, i]
    for d in range(v.shape[0]):
        v[d, g] = mode_v[d, g] + step_v[d, g]


@helper
def forget(first, last, g, u, v):
    """Put group ``g`` at zero."""
    for i in range(first, last):
        for d in range(u.shape[0]):
            u[d, i] = 0.0
    for d in range(v.shape[0]):
        v[d, g] = 0.0


@helper
def slopes(first, last, g, a, bounds, l1, u, v, slope_u, slope_v):
    """``f'(u, v)`` of group ``g``."""
    q, p = u.shape[0], v.shape[0]
    for d in range(p):
        slope_v[d, g] = -v[d, g]
    for i in range(first, last):
        for d in range(q):
            slope_u[d, i] = -u[d, i]
            for j in range(bounds[i], bounds[i + 1]):
                slope_u[d, i] += l1[j] * a[d, j]
        for d in range(p):
            for j in range(bounds[i], bounds[i + 1]):
                slope_v[d, g] += l1[j] * a[q + d, j]


@helper
def integrand(first, last, g, bounds, density_at, u, v):
    """``f(u, v)`` of group ``g``."""
    f = 0.0
    for d in range(v.shape[0]):
        f -= 0.5 * v[d, g] * v[d, g]
    for i in range(first, last):
        for d in range(u.shape[0]):
            f -= 0.5 * u[d, i] * u[d, i]
        for j in range(bounds[i], bounds[i + 1]):
            f += density_at[j]
    return f


@helper
def find_joint_modes(
    density, y, trials, base, dispersion, low, n, bounds, cuts, groups, tolerance, limit,
    a, mode_u, mode_v, u, v, step_u, step_v, best, last_decrement, small, T, K, Tv, eta, rows,
):  # fmt: skip
    """Newton's method for the joint modes of a chunk's groups, all at once.

    Rules as in ``scalar_integral.find_modes``. On return ``rows`` holds the density and its
    derivatives at the modes, ``T, K, Tv`` the factored curvature, ``best`` the values ``f``.
    Returns the number of groups not done after ``limit`` rounds.
    """
    q = u.shape[0]
    done = np.zeros(groups, np.bool_)
    for g in range(groups):
        best[g], last_decrement[g] = -inf, inf
        forget(cuts[g], cuts[g + 1], g, step_u, step_v)
        place(cuts[g], cuts[g + 1], g, step_u, step_v, mode_u, mode_v, u, v)
    busy = groups
    for _ in range(limit):
        predictor(base, a, bounds, cuts, groups, u, v, eta)
        density(y, trials, eta, dispersion, low, n, rows)
        for g in range(groups):
            if done[g]:
                continue
            first, last = cuts[g], cuts[g + 1]
            f = integrand(first, last, g, bounds, rows[0], u, v)
            if not f >= best[g] - 1e-9 * (1.0 + abs(best[g])) or f == -inf:
                if best[g] == -inf:  # a start without a finite value gives way to zero
                    forget(first, last, g, u, v)
                else:
                    for i in range(first, last):
                        for d in range(q):
                            step_u[d, i] *= 0.5
                    for d in range(v.shape[0]):
                        step_v[d, g] *= 0.5
                    place(first, last, g, step_u, step_v, mode_u, mode_v, u, v)
                continue
            best[g] = f
            for i in range(first, last):
                for d in range(q):
                    mode_u[d, i] = u[d, i]
            for d in range(v.shape[0]):
                mode_v[d, g] = v[d, g]
            slopes(first, last, g, a, bounds, rows[1], u, v, step_u, step_v)
            proper, lowest = False, -inf
            for _ in range(2):  # where f is not concave, the step by the weights that are positive
                if factor_group(rows[2], lowest, a, q, bounds, first, last, g, small, T, K, Tv):
                    proper = lowest < 0.0
                    break
                lowest = 0.0
            decrement = solve_group(first, last, g, T, K, Tv, step_u, step_v)
            stalled = STALLED * last_decrement[g] < decrement <= NEWTON_ROUGH
            last_decrement[g] = decrement
            if proper and (decrement <= tolerance or stalled):
                done[g] = True
                busy -= 1
            else:
                place(first, last, g, step_u, step_v, mode_u, mode_v, u, v)
        if busy == 0:
            break
    return busy
