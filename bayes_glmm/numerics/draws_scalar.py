"""Kernels of ``draws`` for one scalar effect: its integral, and its exact conditional draws.

The twins for several effects are in ``draws_vector``; formulas are in ``draws``.
"""

from math import inf, sqrt

import numpy as np
from numba import types

from .compiled import Block, Indices, Integer, Matrix, Real, Vector, helper, kernel
from .random_numbers import States, uniform
from .scalar import exp, log
from .scalar_integral import ModeSearch, predictor

# where the hull touches the log density, in SDs of the curvature from the mode: sqrt(2) is best
# for a normal density, of which the hull then covers .89
TOUCHING = sqrt(2.0)
ATTEMPTS = 10_000  # proposals for one draw, of which more than one in three is taken
# share of a chunk's groups without their draw, above which trials of all are one call: the rows
# of one group in a call of their own take four times as long
TOGETHER = 0.25


@helper
def sizes(starts, chunks):
    """Rows and groups of the largest chunks."""
    rows, groups = 0, 0
    for c in range(chunks.size - 1):
        groups = max(groups, chunks[c + 1] - chunks[c])
        rows = max(rows, starts[chunks[c + 1]] - starts[chunks[c]])
    return rows, groups


@kernel(
    types.void(
        ModeSearch, Block, Block, Vector, Vector, Matrix, Vector, Vector, Vector, Indices, Indices,
        Integer, Integer, Vector, Vector, Real, Integer, Vector, Matrix,
    )
)  # fmt: skip
def integrate_scalar_draws(
    search, density, score, y, trials, base, dispersion, z, scale, starts, chunks,
    first_draw, last_draw, x, log_factor, tolerance, limit, start, value,
):  # fmt: skip
    """Integrate every group at the draws ``first_draw:last_draw``; see ``scalar_integral``.

    Parameters
    ----------
    base, dispersion, scale
        Fixed part of ``eta`` ``(draws, n)``, dispersion and SD of each draw.
    start
        Where the searches for the modes of ``u`` start, ``(groups,)``: the same for every
        draw, so that no result depends on another.
    value
        Out: ``log L_g`` without the family's constant, ``(draws, groups)``; -inf where a mode
        was not found.
    """
    rows, size = sizes(starts, chunks)
    by_row = np.empty((9, rows))
    at_mode, at_node, a, eta, centre = (
        by_row[0:4], by_row[4:6], by_row[6], by_row[7], by_row[8]
    )  # fmt: skip
    by_group = np.empty((7, size))
    u, step, best, total = by_group[0], by_group[1], by_group[2], by_group[3]
    omega, H, m = by_group[4], by_group[5], by_group[6]
    bounds = np.empty(size + 1, np.uint64)
    for c in range(chunks.size - 1):
        first, groups = chunks[c], chunks[c + 1] - chunks[c]
        low, n = starts[first], starts[chunks[c + 1]] - starts[first]
        for g in range(groups + 1):
            bounds[g] = np.uint64(starts[first + g] - low)
        for d in range(first_draw, last_draw):
            for j in range(n):
                a[j] = scale[d] * z[low + j]
            for g in range(groups):
                m[g] = start[first + g]
                total[g] = 0.0
            busy = search(
                density, y, trials, base[d], dispersion[d], low, n, bounds, groups,
                tolerance, limit, a, m, u, step, best, H, eta, at_mode,
            )  # fmt: skip
            if busy > 0:
                for g in range(groups):
                    value[d, first + g] = -inf
                continue
            # eta at a node is a line in x: its two parts are found once for all nodes
            predictor(base[d], low, a, m, bounds, groups, centre)
            for g in range(groups):
                H[g] = 1.0 / sqrt(H[g])
                for j in range(bounds[g], bounds[g + 1]):
                    a[j] *= H[g]
            for k in range(x.size):
                for j in range(n):
                    eta[j] = centre[j] + a[j] * x[k]
                score(y, trials, eta, dispersion[d], low, n, at_node)
                for g in range(groups):
                    at = m[g] + H[g] * x[k]
                    f = log_factor[k] - best[g] - 0.5 * at * at
                    for j in range(bounds[g], bounds[g + 1]):
                        f += at_node[0, j]
                    omega[g] = f
                for g in range(groups):
                    total[g] += exp(omega[g])
            for g in range(groups):
                value[d, first + g] = best[g] + log(total[g] * H[g])


@kernel(
    types.int64(
        ModeSearch, Block, Block, Vector, Vector, Matrix, Vector, Vector, Vector, Indices, Indices,
        Indices, Indices, Integer, Integer, Real, Integer, Vector, States, Matrix,
    )
)  # fmt: skip
def draw_scalar_effects(
    search, density, score, y, trials, base, dispersion, z, scale, starts, chunks,
    members, member_starts, first_draw, last_draw, tolerance, limit, start, states, effect,
):  # fmt: skip
    """Draw ``u`` of every level from its log-concave conditional, by rejection from a hull.

    Levels ``members[member_starts[g]:member_starts[g + 1]]`` share the rows of group ``g``, and
    so their conditional distribution. ``states`` holds a random stream for each draw,
    ``effect`` the draws, ``(draws, levels)``. Returns how often the hull failed: never, where
    the conditional is log-concave.
    """
    rows, size = sizes(starts, chunks)
    by_row = np.empty((9, rows))
    at_mode, at_trial, a, eta, own = by_row[0:4], by_row[4:6], by_row[6], by_row[7], by_row[8]
    by_group = np.empty((13, size))
    u, step, best, H, m = by_group[0], by_group[1], by_group[2], by_group[3], by_group[4]
    top, left, right = by_group[5], by_group[6], by_group[7]
    before, after = by_group[8], by_group[9]  # areas of the hull outside left and right
    log_hull, value, slopes = by_group[10], by_group[11], by_group[12]
    bounds = np.empty(size + 1, np.uint64)
    waiting = np.empty(size, np.int64)
    failures = 0
    for c in range(chunks.size - 1):
        first, groups = chunks[c], chunks[c + 1] - chunks[c]
        low, n = starts[first], starts[chunks[c + 1]] - starts[first]
        for g in range(groups + 1):
            bounds[g] = np.uint64(starts[first + g] - low)
        for d in range(first_draw, last_draw):
            for j in range(n):
                a[j] = scale[d] * z[low + j]
            for g in range(groups):
                m[g] = start[first + g]
            search(
                density, y, trials, base[d], dispersion[d], low, n, bounds, groups,
                tolerance, limit, a, m, u, step, best, H, eta, at_mode,
            )  # fmt: skip
            # f'' <= -1: nothing lies higher than this
            for g in range(groups):
                slope = -m[g]
                for j in range(bounds[g], bounds[g + 1]):
                    slope += at_mode[1, j] * a[j]
                top[g] = best[g] + 0.5 * slope * slope
            for g in range(groups):
                step[g] = TOUCHING / sqrt(H[g])
            for side in (-1.0, 1.0):
                for g in range(groups):
                    u[g] = m[g] + side * step[g]
                predictor(base[d], low, a, u, bounds, groups, eta)
                score(y, trials, eta, dispersion[d], low, n, at_trial)
                for g in range(groups):
                    height, slope = -0.5 * u[g] * u[g], -u[g]
                    for j in range(bounds[g], bounds[g + 1]):
                        height += at_trial[0, j]
                        slope += at_trial[1, j] * a[j]
                    value[g], slopes[g] = height, slope
                for g in range(groups):
                    inverse = 1.0 / slopes[g]
                    meets = u[g] + (top[g] - value[g]) * inverse
                    if side < 0.0:
                        left[g], before[g] = meets, inverse
                    else:
                        right[g], after[g] = meets, -inverse
            busy = 0
            for g in range(groups):
                waiting[g] = member_starts[first + g]
                if not (before[g] > 0.0 and after[g] > 0.0 and right[g] >= left[g]):
                    failures += 1
                    waiting[g] = member_starts[first + g + 1]
                busy += waiting[g] < member_starts[first + g + 1]
            for _ in range(ATTEMPTS * (members.size + 1)):
                if busy == 0:
                    break
                for g in range(groups):
                    if waiting[g] == member_starts[first + g + 1]:
                        continue
                    middle = right[g] - left[g]
                    area = before[g] + middle + after[g]
                    share, log_hull[g] = area * uniform(states, d) - before[g], 0.0
                    if share < 0.0:
                        log_hull[g] = log(uniform(states, d))
                        u[g] = left[g] + log_hull[g] * before[g]
                    elif share <= middle:
                        u[g] = left[g] + share
                    else:
                        log_hull[g] = log(uniform(states, d))
                        u[g] = right[g] - log_hull[g] * after[g]
                # one call for all rows, unless most groups have their draws
                together = busy > TOGETHER * groups
                if together:
                    predictor(base[d], low, a, u, bounds, groups, eta)
                    score(y, trials, eta, dispersion[d], low, n, at_trial)
                for g in range(groups):
                    if waiting[g] == member_starts[first + g + 1]:
                        continue
                    height = -0.5 * u[g] * u[g] - top[g]
                    if together:
                        for j in range(bounds[g], bounds[g + 1]):
                            height += at_trial[0, j]
                    else:
                        begin, count = starts[first + g], starts[first + g + 1] - starts[first + g]
                        for j in range(count):
                            own[j] = base[d, begin + j] + a[begin - low + j] * u[g]
                        score(y, trials, own, dispersion[d], begin, count, at_trial)
                        for j in range(count):
                            height += at_trial[0, j]
                    if height > log_hull[g] + 1e-9:
                        failures += 1
                    if log(uniform(states, d)) + log_hull[g] <= height:
                        effect[d, members[waiting[g]]] = u[g]
                        waiting[g] += 1
                        busy -= waiting[g] == member_starts[first + g + 1]
            failures += busy
    return failures
