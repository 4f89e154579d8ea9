"""Kernels of ``draws`` for one scalar effect: its integral, and its exact conditional draws.

The twins for several effects are in ``draws_vector``; formulas are in ``draws``.
"""

from math import inf, log, sqrt

import numpy as np
from numba import types

from .compiled import Block, Indices, Integer, Matrix, Real, Vector, helper, kernel
from .random_numbers import States, uniform
from .scalar import exp
from .scalar_integral import find_modes, predictor

# of the hat below the bound of Devroye: room for the error of the normaliser
CAUTION = 0.98


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
        Block, Block, Vector, Vector, Matrix, Vector, Vector, Vector, Indices, Indices,
        Integer, Integer, Vector, Vector, Real, Integer, Vector, Matrix,
    )
)  # fmt: skip
def integrate_scalar_draws(
    density, score, y, trials, base, dispersion, z, scale, starts, chunks,
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
    by_row = np.empty((8, rows))
    at_mode, at_node, a, eta = by_row[0:4], by_row[4:6], by_row[6], by_row[7]
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
            busy = find_modes(
                density, y, trials, base[d], dispersion[d], low, n, bounds, groups,
                tolerance, limit, a, m, u, step, best, H, eta, at_mode,
            )  # fmt: skip
            if busy > 0:
                for g in range(groups):
                    value[d, first + g] = -inf
                continue
            for g in range(groups):
                H[g] = 1.0 / sqrt(H[g])
            for k in range(x.size):
                for g in range(groups):
                    u[g] = m[g] + H[g] * x[k]
                predictor(base[d], low, a, u, bounds, groups, eta)
                score(y, trials, eta, dispersion[d], low, n, at_node)
                for g in range(groups):
                    f = log_factor[k] - best[g] - 0.5 * u[g] * u[g]
                    for j in range(bounds[g], bounds[g + 1]):
                        f += at_node[0, j]
                    omega[g] = f
                for g in range(groups):
                    total[g] += exp(omega[g])
            for g in range(groups):
                value[d, first + g] = best[g] + log(total[g] * H[g])


@kernel(
    types.int64(
        Block, Block, Vector, Vector, Matrix, Vector, Vector, Vector, Indices, Indices,
        Integer, Integer, Real, Integer, Vector, Matrix, States, Matrix,
    )
)  # fmt: skip
def draw_scalar_effects(
    density, score, y, trials, base, dispersion, z, scale, starts, chunks,
    first_draw, last_draw, tolerance, limit, start, value, states, effect,
):  # fmt: skip
    """Draw ``u`` of every group from its log-concave conditional, by rejection.

    ``value`` holds ``log L_g`` (``integrate_scalar_draws``), ``states`` a random stream for
    each draw, ``effect`` the draws, ``(draws, groups)``. Returns how many proposals lay above
    the hat: none, where the conditional is log-concave.
    """
    rows, size = sizes(starts, chunks)
    by_row = np.empty((6, rows))
    at_mode, a, eta = by_row[0:4], by_row[4], by_row[5]
    by_group = np.empty((5, size))
    u, step, best, H, m = by_group[0], by_group[1], by_group[2], by_group[3], by_group[4]
    bounds = np.empty(size + 1, np.uint64)
    half_log_2pi = 0.5 * log(2.0 * np.pi)
    above = 0
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
            find_modes(
                density, y, trials, base[d], dispersion[d], low, n, bounds, groups,
                tolerance, limit, a, m, u, step, best, H, eta, at_mode,
            )  # fmt: skip
            for g in range(groups):
                # log density at the mode, of u; L_g is an integral over N(0, 1)
                height = CAUTION * exp(best[g] - value[d, first + g] - half_log_2pi)
                begin = starts[first + g]
                count = starts[first + g + 1] - begin
                while True:
                    distance, log_hat = 2.0 * uniform(states, d), 0.0
                    if distance >= 1.0:  # the exponential tail
                        log_hat = log(distance - 1.0) if distance > 1.0 else -700.0
                        distance = 1.0 - log_hat
                    side = distance / height
                    if uniform(states, d) < 0.5:
                        side = -side
                    trial = m[g] + side
                    for j in range(count):
                        eta[j] = base[d, begin + j] + scale[d] * z[begin + j] * trial
                    score(y, trials, eta, dispersion[d], begin, count, at_mode)
                    f = -0.5 * trial * trial
                    for j in range(count):
                        f += at_mode[0, j]
                    if f - best[g] > log_hat + 1e-9:
                        above += 1
                    if log(uniform(states, d)) + log_hat <= f - best[g]:
                        effect[d, first + g] = trial
                        break
    return above
