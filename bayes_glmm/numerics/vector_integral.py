"""Kernel of ``quadrature`` for several effects on one level, group by group.

The formulas are those of the docstring of ``quadrature``; its twin for one effect, and the
faster one, is ``scalar_integral``.
"""

from math import exp, inf, log

import numpy as np
from numba import types

from .compiled import Block, Cube, Indices, Integer, Matrix, Real, Vector, helper, kernel
from .small import NEWTON_ROUGH, STALLED, factor, solve_lower, solve_upper


@helper
def directions(L, Z, low, n, a):
    """``a_j = L'z_j`` for ``n`` rows from ``low`` on, shape ``(q, n)``."""
    q = L.shape[0]
    for d in range(q):
        for j in range(n):
            a[d, j] = 0.0
            for c in range(q):
                a[d, j] += L[c, d] * Z[c, low + j]


@helper
def predictor(base, low, n, a, u, eta):
    """``eta_j = o_j + a_j'u``."""
    for j in range(n):
        eta[j] = base[low + j]
        for d in range(u.shape[1]):
            eta[j] += a[d, j] * u[0, d]


@helper
def curvature(rows, a, n, lowest, H):
    """``H = I + sum_j w_j a_j a_j'``, weights ``w_j = -l''_j`` but at least ``lowest``."""
    q = H.shape[1]
    for d in range(q):
        for e in range(q):
            H[0, d, e] = 1.0 if d == e else 0.0
            for j in range(n):
                H[0, d, e] += max(-rows[2, j], lowest) * a[d, j] * a[e, j]


@helper
def find_mode(
    density, y, trials, base, dispersion, low, n, tolerance, limit, a, m, u, step, H, R, eta, rows
):
    """Newton's method for one group's mode, steps halved until ``f`` rises.

    Returns ``f(m)``, or NaN if the Newton decrement stayed above ``tolerance``. On return
    ``rows`` holds the density and its derivatives at ``m`` and ``H = R R'`` its curvature.
    """
    q = m.shape[1]
    best, decrement = -inf, inf
    for d in range(q):
        u[0, d] = m[0, d]
        step[0, d] = 0.0
    for _ in range(limit):
        predictor(base, low, n, a, u, eta)
        density(y, trials, eta, dispersion, low, n, rows)
        f = 0.0
        for d in range(q):
            f -= 0.5 * u[0, d] * u[0, d]
        for j in range(n):
            f += rows[0, j]
        if not f >= best - 1e-9 * (1.0 + abs(best)) or f == -inf:
            for d in range(q):
                step[0, d] *= 0.5
                u[0, d] = 0.0 if best == -inf else m[0, d] + step[0, d]
            continue
        best = f
        for d in range(q):
            m[0, d] = u[0, d]
            step[0, d] = -u[0, d]
            for j in range(n):
                step[0, d] += rows[1, j] * a[d, j]
        curvature(rows, a, n, -inf, H)
        proper = factor(H, 0, R, 0, q)
        if not proper:  # where f is not concave, the step by the weights that are positive
            curvature(rows, a, n, 0.0, H)
            factor(H, 0, R, 0, q)
        solve_lower(R, 0, step, 0, q)
        last, decrement = decrement, 0.0
        for d in range(q):
            decrement += step[0, d] * step[0, d]
        stalled = STALLED * last < decrement <= NEWTON_ROUGH
        if proper and (decrement <= tolerance or stalled):
            return best
        solve_upper(R, 0, step, 0, q)
        for d in range(q):
            u[0, d] = m[0, d] + step[0, d]
    return np.nan


@helper
def curvature_weights(R, C, Q):
    """``Q = -R^{-T} (I/2 + P) R^{-1}``: what multiplies ``dH`` in the gradient."""
    q = Q.shape[0]
    for d in range(q):
        for e in range(d):
            Q[d, e] = 0.5 * C[d, e]
            Q[e, d] = Q[d, e]
        Q[d, d] = 0.5 + 0.5 * C[d, d]
    for d in range(q):
        solve_upper(R, 0, Q, d, q)
    for d in range(q):
        for e in range(d):
            Q[d, e], Q[e, d] = Q[e, d], Q[d, e]
    for d in range(q):
        solve_upper(R, 0, Q, d, q)
        for e in range(q):
            Q[d, e] = -Q[d, e]


@kernel(
    types.int64(
        Block, Block, Block, types.boolean,
        Vector, Vector, Vector, Real, Matrix, Matrix, Indices, Integer, Integer,
        Matrix, Vector, Real, Integer,
        Matrix, Vector, Vector, Cube, Vector, Cube, Matrix, Cube,
    )
)  # fmt: skip
def integrate_vector(
    density, score, spread, has_dispersion,
    y, trials, base, dispersion, Z, L, starts, first_group, last_group,
    x, log_factor, tolerance, limit,
    mode, value, t, gamma, gamma_dispersion, precision, mean, second,
):  # fmt: skip
    """Integrate the groups ``first_group:last_group``; see ``scalar_integral``.

    ``Z`` has shape ``(q, n)``, ``L`` ``(q, q)``, ``x`` ``(nodes, q)``, ``mode`` and ``mean``
    ``(groups, q)``, ``gamma`` (by group), ``precision`` and ``second`` ``(groups, q, q)``.
    """
    q = L.shape[0]
    rows, failures = 0, 0
    for g in range(first_group, last_group):
        rows = max(rows, starts[g + 1] - starts[g])
    a, at_mode, at_node = np.empty((q, rows)), np.empty((4, rows)), np.empty((2, rows))
    spreads, eta, S, form = np.empty((3, rows)), np.empty(rows), np.empty(rows), np.empty(rows)
    m, u, step = np.empty((1, q)), np.empty((1, q)), np.empty((1, q))
    by_z, v, Qa = np.empty((1, q)), np.empty((1, q)), np.empty((1, q))
    H, R = np.empty((1, q, q)), np.empty((1, q, q))
    C, Q = np.empty((q, q)), np.empty((q, q))

    for g in range(first_group, last_group):
        low, n = starts[g], starts[g + 1] - starts[g]
        directions(L, Z, low, n, a)
        for d in range(q):
            m[0, d] = mode[g, d]
        best = find_mode(
            density, y, trials, base, dispersion, low, n, tolerance, limit,
            a, m, u, step, H, R, eta, at_mode,
        )  # fmt: skip
        if not np.isfinite(best):
            failures += 1
            continue
        total, by_dispersion, log_root = 0.0, 0.0, 0.0
        for j in range(n):
            S[j] = 0.0
        for d in range(q):
            mode[g, d] = m[0, d]
            mean[g, d] = 0.0
            v[0, d] = 0.0
            log_root += log(R[0, d, d])
            for e in range(q):
                C[d, e], gamma[g, d, e], second[g, d, e] = 0.0, 0.0, 0.0
                precision[g, d, e] = H[0, d, e]

        # the sums over nodes
        for k in range(log_factor.size):
            for d in range(q):
                u[0, d] = x[k, d]
            solve_upper(R, 0, u, 0, q)
            f = log_factor[k] - best
            for d in range(q):
                u[0, d] += m[0, d]
                f -= 0.5 * u[0, d] * u[0, d]
            predictor(base, low, n, a, u, eta)
            score(y, trials, eta, dispersion, low, n, at_node)
            for j in range(n):
                f += at_node[0, j]
            omega = exp(f)
            total += omega
            for j in range(n):
                S[j] += omega * at_node[1, j]
            for d in range(q):
                by_z[0, d] = 0.0
                for j in range(n):
                    by_z[0, d] += at_node[1, j] * Z[d, low + j]
            for d in range(q):
                step[0, d] = -u[0, d]
                for e in range(q):
                    step[0, d] += L[e, d] * by_z[0, e]
                    gamma[g, d, e] += omega * by_z[0, d] * u[0, e]
                    second[g, d, e] += omega * u[0, d] * u[0, e]
                v[0, d] += omega * step[0, d]
                mean[g, d] += omega * u[0, d]
            solve_lower(R, 0, step, 0, q)
            for d in range(q):
                for e in range(q):
                    C[d, e] += omega * x[k, d] * step[0, e]
            if has_dispersion:
                spread(y, trials, eta, dispersion, low, n, spreads)
                for j in range(n):
                    by_dispersion += omega * spreads[0, j]

        # the derivatives: nodes move with the mode and the curvature
        value[g] = best - log_root + log(total)
        share = 1.0 / total
        by_dispersion *= share
        if has_dispersion:
            predictor(base, low, n, a, m, eta)
            spread(y, trials, eta, dispersion, low, n, spreads)
        for d in range(q):
            v[0, d] *= share
            mean[g, d] *= share
            for e in range(q):
                C[d, e] *= share
                gamma[g, d, e] *= share
                second[g, d, e] *= share
        curvature_weights(R, C, Q)
        for j in range(n):
            form[j] = 0.0
            for d in range(q):
                for e in range(q):
                    form[j] += a[d, j] * Q[d, e] * a[e, j]
            for d in range(q):
                v[0, d] -= at_mode[3, j] * form[j] * a[d, j]
        solve_lower(R, 0, v, 0, q)
        solve_upper(R, 0, v, 0, q)
        for j in range(n):
            shift = 0.0
            for d in range(q):
                shift += a[d, j] * v[0, d]
                Qa[0, d] = 0.0
                for e in range(q):
                    Qa[0, d] += Q[d, e] * a[e, j]
            net = at_mode[2, j] * shift - at_mode[3, j] * form[j]
            t[low + j] = S[j] * share + net
            for e in range(q):
                change = net * m[0, e] - 2.0 * at_mode[2, j] * Qa[0, e] + at_mode[1, j] * v[0, e]
                for d in range(q):
                    gamma[g, d, e] += Z[d, low + j] * change
            if has_dispersion:
                by_dispersion += spreads[1, j] * shift - spreads[2, j] * form[j]
        gamma_dispersion[g] = by_dispersion
    return failures
