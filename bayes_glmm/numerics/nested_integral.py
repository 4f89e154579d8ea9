"""Kernel of ``nested``: the sums over nodes and their exact derivatives.

Outer groups are worked on in chunks, the rows of a chunk in parts of a few hundred rows that
stay in the first-level cache. For one outer and one inner node the density of a whole part is
one call: all its inner levels stand at the same node of their rules.
"""

from math import log

import numpy as np
from numba import types

from .compiled import Block, Cube, Indices, Integer, Matrix, Real, Vector, helper, kernel
from .nested_modes import find_joint_modes, predictor, solve_group
from .scalar import exp
from .vector_integral import directions

# Sums of exponentials are relative to their first term, and rescaled only if a later one is
# larger by this much in the logarithm: its exponential and their products are still numbers.
FAR = 300.0
LOWEST = -1e300  # stands for a first term of zero


@helper
def rescale(sums, i, low, high, by_row, ratio):
    """Multiply the running sums of level ``i`` with the rows ``low:high`` by ``ratio``."""
    for k in range(sums.shape[0]):
        sums[k, i] *= ratio
    for k in range(by_row.shape[0]):
        for j in range(low, high):
            by_row[k, j] *= ratio


@helper
def weighted(weight, derivative):
    """Their product; 0 at weight zero, where the derivative may be infinite."""
    return weight * derivative if weight > 0.0 else 0.0


@helper
def sum_inner_nodes(
    score, spread, has_dispersion, y, trials, dispersion, low, bounds, owner, first, last,
    a, x, log_factor, T, centre, fixed, eta, at_node, spreads, off, omega, level, sums, by_row,
):  # fmt: skip
    """Sum over the inner nodes for the levels ``first:last`` of one part, at an outer node.

    ``fixed`` is ``eta`` at the levels' ``centre``, ``owner`` the level of each row. Added up,
    relative to ``exp(level)``: the weights, the derivative by dispersion, ``x`` and ``x x'``
    (``sums``, by level); ``l'`` and ``x l'`` (``by_row``).
    """
    q = centre.shape[0]
    start, stop = np.int64(bounds[first]), np.int64(bounds[last])
    n, before = stop - start, bounds[first]
    level_of, fixed, S = owner[start:stop], fixed[start:stop], by_row[0, start:stop]
    values, l1, by_dispersion = at_node[0], at_node[1], spreads[0]
    for k in range(log_factor.size):
        for i in range(first, last):
            omega[i] = log_factor[k]
        for d in range(q):
            distance, middle, along = off[d], centre[d], a[d, start:stop]
            for i in range(first, last):
                distance[i] = T[d, d, i] * x[k, d]
            for e in range(d + 1, q):
                for i in range(first, last):
                    distance[i] += T[e, d, i] * x[k, e]
            for i in range(first, last):
                u = middle[i] + distance[i]
                omega[i] -= 0.5 * u * u
            if d == 0:
                for j in range(n):
                    eta[j] = fixed[j] + along[j] * distance[level_of[j]]
            else:
                for j in range(n):
                    eta[j] += along[j] * distance[level_of[j]]
        score(y, trials, eta, dispersion, low + start, n, at_node)
        if has_dispersion:
            spread(y, trials, eta, dispersion, low + start, n, spreads)
        for i in range(first, last):
            f = omega[i]
            for j in range(bounds[i] - before, bounds[i + 1] - before):
                f += values[j]
            if k == 0:
                level[i] = max(f, LOWEST)
            elif f > level[i] + FAR:
                rescale(sums, i, bounds[i], bounds[i + 1], by_row, exp(level[i] - f))
                level[i] = f
            omega[i] = f - level[i]
        for i in range(first, last):
            omega[i] = exp(omega[i])
        for i in range(first, last):
            sums[0, i] += omega[i]
        if has_dispersion:
            for i in range(first, last):
                for j in range(bounds[i] - before, bounds[i + 1] - before):
                    sums[1, i] += weighted(omega[i], by_dispersion[j])
        for d in range(q):
            at = 2 + d * (1 + q)
            for i in range(first, last):
                sums[at, i] += omega[i] * x[k, d]
            for e in range(q):
                product = x[k, d] * x[k, e]
                for i in range(first, last):
                    sums[at + 1 + e, i] += omega[i] * product
        for j in range(n):
            l1[j] = weighted(omega[level_of[j]], l1[j])
            S[j] += l1[j]
        for d in range(q):
            along, share = by_row[1 + d, start:stop], x[k, d]
            for j in range(n):
                along[j] += share * l1[j]


@helper
def weights_of_curvature(T, C, share, i, q, scratch, N):
    """Replace ``N[:, :, i]`` by ``-T'(I/2 + P)T``, ``P`` from ``share * C T'``: see ``nested``."""
    M, MT = scratch[0], scratch[1]
    for d in range(q):
        for e in range(d + 1):
            s = 0.0
            for k in range(e + 1):
                s += C[d, k, i] * T[e, k, i]
            M[d, e] = 0.5 * share * s
            M[e, d] = M[d, e]
        M[d, d] += 0.5
    for d in range(q):
        for e in range(q):
            MT[d, e] = 0.0
            for k in range(e, q):
                MT[d, e] += M[d, k] * T[k, e, i]
    for d in range(q):
        for e in range(q):
            s = 0.0
            for k in range(d, q):
                s -= T[k, d, i] * MT[k, e]
            N[d, e, i] = s


@helper
def times_inverse(T, W, share, i, scratch):
    """Replace the rows ``w`` of ``W[:, :, i]`` by ``share * w T'T``."""
    p, q = W.shape[0], W.shape[1]
    for c in range(p):
        for d in range(q):
            scratch[0, 0, d] = 0.0
            for e in range(d + 1):
                scratch[0, 0, d] += T[d, e, i] * W[c, e, i]
        for e in range(q):
            W[c, e, i] = 0.0
            for d in range(e, q):
                W[c, e, i] += share * T[d, e, i] * scratch[0, 0, d]


@helper
def turn(a, j, i, g, K, N, W, Q, bent, out):
    """Write ``Q A_j`` to ``out[:, j]``; returns ``A_j'Q A_j``. ``bent`` is scratch."""
    p, q = W.shape[0], W.shape[1]
    form = 0.0
    for d in range(p):  # c - K'a
        bent[d] = a[q + d, j]
        for e in range(q):
            bent[d] -= K[e, d, i] * a[e, j]
    for d in range(p):
        out[q + d, j] = 0.0
        for e in range(p):
            out[q + d, j] += Q[d, e, g] * bent[e]
        for e in range(q):
            out[q + d, j] -= 0.5 * W[d, e, i] * a[e, j]
        form += out[q + d, j] * a[q + d, j]
    for e in range(q):
        out[e, j] = 0.0
        for d in range(q):
            out[e, j] += N[e, d, i] * a[d, j]
        for d in range(p):
            out[e, j] -= 0.5 * W[d, e, i] * bent[d] + K[e, d, i] * out[q + d, j]
        form += out[e, j] * a[e, j]
    return form


@kernel(
    types.int64(
        Block, Block, Block, types.boolean, types.boolean,
        Vector, Vector, Vector, Real, Matrix, Matrix,
        Indices, Indices, Indices, Indices, Indices, Integer, Integer,
        Matrix, Vector, Matrix, Vector, Real, Integer,
        Matrix, Matrix, Vector, Vector, Cube, Vector,
        Cube, Cube, Cube, Matrix, Cube, Matrix, Cube,
    )
)  # fmt: skip
def integrate_nested(
    density, score, spread, has_dispersion, moments,
    y, trials, base, dispersion, Z, L,
    row_starts, inner_starts, chunks, parts, part_starts, first_chunk, last_chunk,
    x, log_factor, x_outer, log_factor_outer, tolerance, limit,
    mode_inner, mode_outer, value, t, gamma, gamma_dispersion,
    variance_inner, regression, variance_outer, mean_inner, second_inner, mean_outer, second_outer,
):  # fmt: skip
    """Integrate the outer groups of the chunks ``first_chunk:last_chunk``.

    Rows are contiguous by inner level, inner levels by outer group.

    Parameters
    ----------
    density, score, spread, has_dispersion
        The family (``bind.Blocks``).
    moments
        Whether the means and second moments are wanted.
    y, trials, base
        Response, trials and fixed part of ``eta``, shape ``(n,)``.
    Z, L
        Columns of the effects, ``(q + p, n)``, the ``q`` inner ones first, and the factor of
        their covariance, ``(q + p, q + p)``.
    row_starts, inner_starts
        First row of each inner level, ``(M + 1,)``; first inner level of each outer group,
        ``(G + 1,)``.
    chunks, parts, part_starts
        Cuts of the outer groups into chunks; cuts of the inner levels into parts; first part
        of each chunk.
    x, log_factor, x_outer, log_factor_outer
        The rules (``gauss_hermite``).
    tolerance, limit
        Newton decrement at which a mode is found, and the most rounds.
    mode_inner, mode_outer
        In: starts; out: the joint modes, ``(q, M)`` and ``(p, G)``.
    value
        Out: ``log L_g`` without the family's constant, ``(G,)``.
    t, gamma, gamma_dispersion
        Out: derivatives by ``eta`` (rows), by ``L`` (chunks; only the blocks of one factor)
        and log dispersion (chunks).
    variance_inner, regression, variance_outer
        Out: ``H_ii^{-1}``, the variance of ``u`` given ``v``, ``(M, q, q)``; ``K``,
        ``(M, q, p)``; the block of ``v`` in ``H^{-1}``, ``(G, p, p)``.
    mean_inner, second_inner, mean_outer, second_outer
        Out: first and second moments of ``u`` and ``v`` given ``y`` by the rule.

    Returns
    -------
    Number of groups whose mode was not found.
    """
    q, p = mode_inner.shape[0], mode_outer.shape[0]
    r = q + p
    size, levels, rows, failures = 0, 0, 0, 0
    for c in range(first_chunk, last_chunk):
        i, e = inner_starts[chunks[c]], inner_starts[chunks[c + 1]]
        size, levels = max(size, chunks[c + 1] - chunks[c]), max(levels, e - i)
        rows = max(rows, row_starts[e] - row_starts[i])
    part_rows = 0
    for k in range(part_starts[first_chunk], part_starts[last_chunk]):
        part_rows = max(part_rows, row_starts[parts[k + 1]] - row_starts[parts[k]])

    a, at_mode, at_node = np.empty((r, rows)), np.empty((4, rows)), np.empty((2, part_rows))
    spreads, chunk_spreads = np.empty((3, part_rows)), np.empty((3, rows))
    by_row, row_sums = np.empty((1 + q, rows)), np.empty((1, rows))
    eta, fixed, form = np.empty(rows), np.empty(rows), np.empty(rows)
    u, centre, off = np.empty((q, levels)), np.empty((q, levels)), np.empty((q, levels))
    step_u, m_u, K = np.empty((q, levels)), np.empty((q, levels)), np.empty((q, p, levels))
    T, omega, level = np.empty((q, q, levels)), np.empty(levels), np.empty(levels)
    N, sums = np.empty((q, q, levels)), np.empty((2 + q + q * q, levels))
    v, s, step_v, m_v = (
        np.empty((p, size)),
        np.empty((p, size)),
        np.empty((p, size)),
        np.empty((p, size)),
    )
    Tv, Q, best = np.empty((p, p, size)), np.empty((p, p, size)), np.empty(size)
    last_decrement, outer_level = np.empty(size), np.empty(size)
    # sums over the outer nodes: by inner level and by outer group
    inner_sums = np.empty((2 * (q + q * q) + p * q, levels))
    G_u, mean_u = inner_sums[0:q], inner_sums[q : 2 * q]
    at = 2 * q
    C_u = inner_sums[at : at + q * q].reshape((q, q, levels))
    second_u = inner_sums[at + q * q : at + 2 * q * q].reshape((q, q, levels))
    W = inner_sums[at + 2 * q * q :].reshape((p, q, levels))
    outer_sums = np.empty((2 + 2 * p + 3 * p * p + q * q, size))
    total, D = outer_sums[0], outer_sums[1]
    G_v, mean_v = outer_sums[2 : 2 + p], outer_sums[2 + p : 2 + 2 * p]
    at = 2 + 2 * p
    C_v = outer_sums[at : at + p * p].reshape((p, p, size))
    gamma_v = outer_sums[at + p * p : at + 2 * p * p].reshape((p, p, size))
    second_v = outer_sums[at + 2 * p * p : at + 3 * p * p].reshape((p, p, size))
    gamma_u = outer_sums[at + 3 * p * p :].reshape((q, q, size))
    w = max(q, p)
    small = np.empty((5, w, w))
    by_z, slope, slope_v, reduced = np.empty(r), np.empty(q), np.empty(p), np.empty(p)
    bent, turned, expected, cross = np.empty(p), np.empty((r, rows)), np.empty(q), np.empty((q, q))
    bounds = np.empty(levels + 1, np.uint64)  # unsigned: no test for negative positions
    owner, cuts = np.empty(rows, np.uint64), np.empty(size + 1, np.int64)

    for c in range(first_chunk, last_chunk):
        g0, groups = chunks[c], chunks[c + 1] - chunks[c]
        i0 = inner_starts[g0]
        inner = inner_starts[g0 + groups] - i0
        low = row_starts[i0]
        n = row_starts[i0 + inner] - low
        for i in range(inner + 1):
            bounds[i] = np.uint64(row_starts[i0 + i] - low)
        for i in range(inner):
            for j in range(bounds[i], bounds[i + 1]):
                owner[j] = np.uint64(i)
        for g in range(groups + 1):
            cuts[g] = inner_starts[g0 + g] - i0
        directions(L, Z, low, n, a)
        fixed_part, z, t_c = base[low : low + n], Z[:, low : low + n], t[low : low + n]
        for i in range(inner):
            for d in range(q):
                m_u[d, i] = mode_inner[d, i0 + i]
        for g in range(groups):
            for d in range(p):
                m_v[d, g] = mode_outer[d, g0 + g]
        failures += find_joint_modes(
            density, y, trials, fixed_part, dispersion, low, n, bounds, cuts, groups,
            tolerance, limit, a, m_u, m_v, u, v, step_u, step_v, best, last_decrement,
            small, T, K, Tv, eta, at_mode,
        )  # fmt: skip
        for i in range(inner):
            for k in range(inner_sums.shape[0]):
                inner_sums[k, i] = 0.0
        for g in range(groups):
            for k in range(outer_sums.shape[0]):
                outer_sums[k, g] = 0.0
        for j in range(n):
            row_sums[0, j] = 0.0

        # the sums over nodes
        for k in range(log_factor_outer.size):
            for g in range(groups):
                for d in range(p):
                    s[d, g] = 0.0
                    for e in range(d, p):
                        s[d, g] += Tv[e, d, g] * x_outer[k, e]
                    v[d, g] = m_v[d, g] + s[d, g]
                for i in range(cuts[g], cuts[g + 1]):
                    for d in range(q):
                        centre[d, i] = m_u[d, i]
                        for e in range(p):
                            centre[d, i] -= K[d, e, i] * s[e, g]
            predictor(fixed_part, a, bounds, cuts, groups, centre, v, fixed)
            for i in range(inner):
                for d in range(sums.shape[0]):
                    sums[d, i] = 0.0
            for d in range(1 + q):
                for j in range(n):
                    by_row[d, j] = 0.0
            for part in range(part_starts[c], part_starts[c + 1]):
                sum_inner_nodes(
                    score, spread, has_dispersion, y, trials, dispersion, low, bounds, owner,
                    parts[part] - i0, parts[part + 1] - i0, a, x, log_factor, T, centre,
                    fixed, eta, at_node, spreads, off, omega, level, sums, by_row,
                )  # fmt: skip
            for g in range(groups):
                f = log_factor_outer[k] - best[g]
                for d in range(p):
                    f -= 0.5 * v[d, g] * v[d, g]
                for i in range(cuts[g], cuts[g + 1]):
                    f += level[i] + log(sums[0, i])
                if k == 0:
                    outer_level[g] = max(f, LOWEST)
                elif f > outer_level[g] + FAR:
                    ratio = exp(outer_level[g] - f)
                    for i in range(cuts[g], cuts[g + 1]):
                        rescale(inner_sums, i, bounds[i], bounds[i + 1], row_sums, ratio)
                    rescale(outer_sums, g, 0, 0, row_sums, ratio)
                    outer_level[g] = f
                weight = exp(f - outer_level[g])
                if weight == 0.0:
                    continue
                total[g] += weight
                for d in range(p):
                    slope_v[d], reduced[d], by_z[q + d] = -v[d, g], 0.0, 0.0
                for i in range(cuts[g], cuts[g + 1]):
                    share = 1.0 / sums[0, i]
                    D[g] += weight * share * sums[1, i]
                    for d in range(r):
                        if d < q:
                            by_z[d] = 0.0
                        for j in range(bounds[i], bounds[i + 1]):
                            by_z[d] += share * z[d, j] * by_row[0, j]
                    for j in range(bounds[i], bounds[i + 1]):
                        row_sums[0, j] += weight * share * by_row[0, j]
                    for d in range(q):  # E(u | v) and E(f' | v)
                        expected[d] = centre[d, i]
                        for e in range(d, q):
                            expected[d] += T[e, d, i] * share * sums[2 + e * (1 + q), i]
                        slope[d] = -expected[d]
                        for e in range(q):
                            slope[d] += L[e, d] * by_z[e]
                    for d in range(q):  # E(x f' | v), and E(l'_j z_j u' | v) by the way
                        for e in range(q):
                            cross[d, e] = 0.0
                            for j in range(bounds[i], bounds[i + 1]):
                                cross[d, e] += share * z[e, j] * by_row[1 + d, j]
                        at = 2 + d * (1 + q)
                        for e in range(q):
                            product = -centre[e, i] * sums[at, i] * share
                            for b in range(e, q):
                                product -= T[b, e, i] * sums[at + 1 + b, i] * share
                            for b in range(q):
                                product += L[b, e] * cross[d, b]
                            C_u[d, e, i] += weight * product
                    for e in range(q):
                        for d in range(q):
                            product = by_z[e] * centre[d, i]
                            for b in range(d, q):
                                product += T[b, d, i] * cross[b, e]
                            gamma_u[e, d, g] += weight * product
                    for d in range(q):
                        G_u[d, i] += weight * slope[d]
                        for e in range(p):
                            W[e, d, i] += weight * s[e, g] * slope[d]
                            reduced[e] -= K[d, e, i] * slope[d]
                    if moments:
                        for d in range(q):
                            mean_u[d, i] += weight * expected[d]
                            for e in range(q):
                                square = centre[d, i] * expected[e]
                                square += (expected[d] - centre[d, i]) * centre[e, i]
                                for b in range(d, q):
                                    for h in range(e, q):
                                        xx = share * sums[3 + b * (1 + q) + h, i]
                                        square += T[b, d, i] * T[h, e, i] * xx
                                second_u[d, e, i] += weight * square
                for d in range(p):
                    for e in range(p):
                        slope_v[d] += L[q + e, q + d] * by_z[q + e]
                        gamma_v[e, d, g] += weight * by_z[q + e] * v[d, g]
                        second_v[d, e, g] += weight * v[d, g] * v[e, g]
                    G_v[d, g] += weight * slope_v[d]
                    mean_v[d, g] += weight * v[d, g]
                for d in range(p):
                    for e in range(p):
                        C_v[d, e, g] += weight * x_outer[k, d] * (slope_v[e] + reduced[e])

        # the derivatives: nodes move with the modes and the curvature
        if has_dispersion:
            predictor(fixed_part, a, bounds, cuts, groups, m_u, m_v, eta)
            spread(y, trials, eta, dispersion, low, n, chunk_spreads)
        gamma_dispersion[c] = 0.0
        for d in range(r):
            for e in range(r):
                gamma[c, d, e] = 0.0
        l1, l2, l3 = at_mode[1], at_mode[2], at_mode[3]
        for g in range(groups):
            share = 1.0 / total[g]
            logarithm = best[g] + outer_level[g] + log(total[g])
            weights_of_curvature(Tv, C_v, share, g, p, small, Q)
            for d in range(p):
                logarithm += log(Tv[d, d, g])
                v[d, g] = share * G_v[d, g]
            for i in range(cuts[g], cuts[g + 1]):
                weights_of_curvature(T, C_u, share, i, q, small, N)
                times_inverse(T, W, share, i, small)
                for d in range(q):
                    logarithm += log(T[d, d, i])
                    u[d, i] = share * G_u[d, i]
                for j in range(bounds[i], bounds[i + 1]):
                    form[j] = turn(a, j, i, g, K, N, W, Q, bent, turned)
                    for d in range(q):
                        u[d, i] -= l3[j] * form[j] * a[d, j]
                    for d in range(p):
                        v[d, g] -= l3[j] * form[j] * a[q + d, j]
            value[g0 + g] = logarithm
            solve_group(cuts[g], cuts[g + 1], g, T, K, Tv, u, v)
            by_dispersion = share * D[g]
            for i in range(cuts[g], cuts[g + 1]):
                for j in range(bounds[i], bounds[i + 1]):
                    shift = 0.0
                    for d in range(q):
                        shift += a[d, j] * u[d, i]
                    for d in range(p):
                        shift += a[q + d, j] * v[d, g]
                    net = l2[j] * shift - l3[j] * form[j]
                    t_c[j] = share * row_sums[0, j] + net
                    for e in range(r):
                        m, move = (m_u[e, i], u[e, i]) if e < q else (m_v[e - q, g], v[e - q, g])
                        change = net * m - 2.0 * l2[j] * turned[e, j] + l1[j] * move
                        for d in range(r):
                            gamma[c, d, e] += z[d, j] * change
                    if has_dispersion:
                        by_dispersion += chunk_spreads[1, j] * shift
                        by_dispersion -= chunk_spreads[2, j] * form[j]
            gamma_dispersion[c] += by_dispersion
            for d in range(q):
                for e in range(q):
                    gamma[c, d, e] += share * gamma_u[d, e, g]
            for d in range(p):
                for e in range(p):
                    gamma[c, q + d, q + e] += share * gamma_v[d, e, g]

            # what the fit reports
            for d in range(p):
                mode_outer[d, g0 + g] = m_v[d, g]
                mean_outer[g0 + g, d] = share * mean_v[d, g]
                for e in range(p):
                    second_outer[g0 + g, d, e] = share * second_v[d, e, g]
                    variance = 0.0
                    for b in range(p):
                        variance += Tv[b, d, g] * Tv[b, e, g]
                    variance_outer[g0 + g, d, e] = variance
            for i in range(cuts[g], cuts[g + 1]):
                for d in range(q):
                    mode_inner[d, i0 + i] = m_u[d, i]
                    mean_inner[i0 + i, d] = share * mean_u[d, i]
                    for e in range(p):
                        regression[i0 + i, d, e] = K[d, e, i]
                    for e in range(q):
                        second_inner[i0 + i, d, e] = share * second_u[d, e, i]
                        variance = 0.0
                        for b in range(q):
                            variance += T[b, d, i] * T[b, e, i]
                        variance_inner[i0 + i, d, e] = variance
    return failures
