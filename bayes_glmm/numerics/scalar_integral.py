"""Kernel of ``quadrature`` for one scalar effect, ``b = s u``: the formulas with ``q = 1``.

Groups are worked on in chunks of a few hundred rows that stay in the first-level cache; the
density of a whole chunk is one call. Its twin is ``vector_integral``.
"""

from math import inf, log, sqrt

import numpy as np
from numba import types

from .compiled import (
    Block,
    Indices,
    Integer,
    Matrix,
    PointerType,
    Positions,
    Real,
    Vector,
    helper,
    kernel,
)
from .scalar import exp
from .small import NEWTON_ROUGH, STALLED


@helper
def predictor(base, low, a, u, bounds, groups, eta):
    """``eta_j = o_j + a_j u_g`` for the rows of every group ``g`` of a chunk."""
    fixed = base[low : low + eta.size]
    for g in range(groups):
        x = u[g]
        for j in range(bounds[g], bounds[g + 1]):
            eta[j] = fixed[j] + a[j] * x


@kernel(
    types.int64(
        Block, Vector, Vector, Vector, Real, Integer, Integer, Positions, Integer, Real, Integer,
        Vector, Vector, Vector, Vector, Vector, Vector, Vector, Matrix,
    )
)  # fmt: skip
def find_modes(
    density, y, trials, base, dispersion, low, n, bounds, groups, tolerance, limit,
    a, m, u, step, best, H, eta, rows,
):  # fmt: skip
    """Newton's method for the modes of a chunk's groups, all at once.

    A step that does not raise ``f`` is halved. A group is done when its Newton decrement
    ``f'^2 / H`` is below ``tolerance``, or as small as rounding lets it be. On return
    ``rows`` holds the density and its derivatives at the modes ``m``, ``H`` the observed
    curvatures, ``best`` the values ``f(m)``. Returns the number of groups not done after
    ``limit`` rounds.
    """
    density_at, l1, l2 = rows[0], rows[1], rows[2]
    done = np.zeros(groups, np.bool_)
    for g in range(groups):
        best[g] = -inf
        u[g] = m[g]
        step[g] = inf
    busy = groups
    for _ in range(limit):
        predictor(base, low, a, u, bounds, groups, eta)
        density(y, trials, eta, dispersion, low, n, rows)
        for g in range(groups):
            if done[g]:
                continue
            f, slope, curvature, clipped = -0.5 * u[g] * u[g], -u[g], 1.0, 1.0
            for j in range(bounds[g], bounds[g + 1]):
                f += density_at[j]
                slope += l1[j] * a[j]
                w = -l2[j] * a[j] * a[j]
                curvature += w
                clipped += max(w, 0.0)
            if not f >= best[g] - 1e-9 * (1.0 + abs(best[g])) or f == -inf:
                step[g] *= 0.5
                # a start without a finite value gives way to zero
                u[g] = 0.0 if best[g] == -inf else m[g] + step[g]
                continue
            best[g], m[g], H[g] = f, u[g], curvature
            # where f is not concave, the step by the weights that are positive
            last, step[g] = step[g], slope / (curvature if curvature > 0.0 else clipped)
            decrement = slope * step[g]
            stalled = decrement <= NEWTON_ROUGH and step[g] ** 2 > STALLED * last**2
            if curvature > 0.0 and (decrement <= tolerance or stalled):
                done[g] = True
                busy -= 1
            else:
                u[g] = m[g] + step[g]
        if busy == 0:
            break
    return busy


ModeSearch = PointerType(find_modes.signature)


@kernel(
    types.int64(
        ModeSearch, Block, Block, Block, types.boolean, types.boolean,
        Vector, Vector, Vector, Real, Vector, Real, Indices, Indices, Integer, Integer,
        Vector, Vector, Real, Integer,
        Vector, Vector, Vector, Vector, Vector, Vector, Vector, Vector,
    )
)  # fmt: skip
def integrate_scalar(
    search, density, score, spread, has_dispersion, moments,
    y, trials, base, dispersion, z, scale, starts, chunks, first_chunk, last_chunk,
    x, log_factor, tolerance, limit,
    mode, value, t, gamma, gamma_dispersion, precision, mean, second,
):  # fmt: skip
    """Integrate every group of the chunks ``first_chunk:last_chunk``.

    A chunk is a run of groups ``chunks[c]:chunks[c + 1]``, a group a run of rows
    ``starts[g]:starts[g + 1]``; rows are contiguous.

    Parameters
    ----------
    search
        ``find_modes``, compiled apart since several kernels call it.
    density, score, spread, has_dispersion
        The family (``bind.Blocks``).
    moments
        Whether ``mean`` and ``second`` are wanted.
    y, trials, base
        Response, trials and fixed part of ``eta``, shape ``(n,)``.
    z, scale
        Column of the effect, ``(n,)``, and its signed standard deviation.
    x, log_factor
        The rule (``gauss_hermite``), ``(nodes,)`` each.
    tolerance, limit
        Newton decrement at which a mode is found, and the most rounds.
    mode
        In: starts; out: conditional modes of ``u``, ``(groups,)``.
    value
        Out: ``log L_g`` without the family's constant.
    t, gamma, gamma_dispersion
        Out: derivatives by ``eta`` (rows), ``scale`` and log dispersion (sums over a chunk).
    precision, mean, second
        Out, ``(groups,)``: curvature at the modes; ``E[u | y]`` and ``E[u^2 | y]`` by the rule.

    Returns
    -------
    Number of groups whose mode was not found.
    """
    rows, size, failures = 0, 0, 0
    for c in range(first_chunk, last_chunk):
        size = max(size, chunks[c + 1] - chunks[c])
        rows = max(rows, starts[chunks[c + 1]] - starts[chunks[c]])
    by_row = np.empty((12, rows))
    at_mode, at_node, spreads = by_row[0:4], by_row[4:6], by_row[6:9]
    a, eta, S = by_row[9], by_row[10], by_row[11]
    l1, l2, l3, node_l, node_l1 = at_mode[1], at_mode[2], at_mode[3], at_node[0], at_node[1]
    by_group = np.empty((10, size))
    u, step, best, total, G = by_group[0], by_group[1], by_group[2], by_group[3], by_group[4]
    C, outer, D, omega, root = by_group[5], by_group[6], by_group[7], by_group[8], by_group[9]
    bounds = np.empty(size + 1, np.uint64)  # unsigned: no test for negative positions

    for c in range(first_chunk, last_chunk):
        first, groups = chunks[c], chunks[c + 1] - chunks[c]
        low, n = starts[first], starts[chunks[c + 1]] - starts[first]
        z_c, t_c = z[low : low + n], t[low : low + n]
        m, H = mode[first : first + groups], precision[first : first + groups]
        for g in range(groups + 1):
            bounds[g] = np.uint64(starts[first + g] - low)
        for j in range(n):
            a[j] = scale * z_c[j]
            S[j] = 0.0
        failures += search(
            density, y, trials, base, dispersion, low, n, bounds, groups, tolerance, limit,
            a, m, u, step, best, H, eta, at_mode,
        )  # fmt: skip
        for g in range(groups):
            root[g] = 1.0 / sqrt(H[g])
            total[g], G[g], C[g], outer[g], D[g] = 0.0, 0.0, 0.0, 0.0, 0.0
            if moments:
                mean[first + g], second[first + g] = 0.0, 0.0

        # the sums over nodes
        for k in range(x.size):
            for g in range(groups):
                u[g] = m[g] + root[g] * x[k]
            predictor(base, low, a, u, bounds, groups, eta)
            score(y, trials, eta, dispersion, low, n, at_node)
            if has_dispersion:
                spread(y, trials, eta, dispersion, low, n, spreads)
            for g in range(groups):
                f = log_factor[k] - best[g] - 0.5 * u[g] * u[g]
                for j in range(bounds[g], bounds[g + 1]):
                    f += node_l[j]
                omega[g] = f
            for g in range(groups):
                omega[g] = exp(omega[g])
            for g in range(groups):
                weight, by_z = omega[g], 0.0
                for j in range(bounds[g], bounds[g + 1]):
                    by_z += node_l1[j] * z_c[j]
                    S[j] += weight * node_l1[j]
                slope = scale * by_z - u[g]
                total[g] += weight
                outer[g] += weight * by_z * u[g]
                G[g] += weight * slope
                C[g] += weight * x[k] * root[g] * slope
                if has_dispersion:
                    for j in range(bounds[g], bounds[g + 1]):
                        D[g] += weight * spreads[0, j]
                if moments:
                    mean[first + g] += weight * u[g]
                    second[first + g] += weight * u[g] * u[g]

        # the derivatives: nodes move with the mode and the curvature
        if has_dispersion:
            predictor(base, low, a, m, bounds, groups, eta)
            spread(y, trials, eta, dispersion, low, n, spreads)
        gamma[c] = 0.0
        gamma_dispersion[c] = 0.0
        for g in range(groups):
            share = 1.0 / total[g]
            value[first + g] = best[g] + log(total[g] * root[g])
            Q = -0.5 * (1.0 + C[g] * share) / H[g]
            v = G[g] * share
            for j in range(bounds[g], bounds[g + 1]):
                v -= l3[j] * Q * a[j] * a[j] * a[j]
            v /= H[g]
            by_scale, by_dispersion = outer[g] * share, D[g] * share
            for j in range(bounds[g], bounds[g + 1]):
                net = l2[j] * a[j] * v - l3[j] * Q * a[j] * a[j]
                t_c[j] = S[j] * share + net
                by_scale += z_c[j] * (net * m[g] - 2.0 * l2[j] * Q * a[j] + l1[j] * v)
                if has_dispersion:
                    by_dispersion += (spreads[1, j] * v - spreads[2, j] * Q * a[j]) * a[j]
            gamma[c] += by_scale
            gamma_dispersion[c] += by_dispersion
            if moments:
                mean[first + g] *= share
                second[first + g] *= share
    return failures
