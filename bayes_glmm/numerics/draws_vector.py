"""Kernels of ``draws`` for several effects on one level, or one that is not log-concave."""

from math import inf, log, sqrt

import numpy as np
from numba import types

from .compiled import Block, Cube, Indices, Integer, Matrix, Real, Vector, kernel
from .random_numbers import States, normal, uniform
from .scalar import exp
from .small import solve_upper
from .vector_integral import directions, find_mode, predictor

DF = 5  # of the proposals


@kernel(
    types.void(
        Block, Block, Vector, Vector, Matrix, Vector, Matrix, Cube, Indices,
        Integer, Integer, Matrix, Vector, Real, Integer, Matrix, Matrix,
    )
)  # fmt: skip
def integrate_vector_draws(
    density, score, y, trials, base, dispersion, Z, L, starts,
    first_draw, last_draw, x, log_factor, tolerance, limit, start, value,
):  # fmt: skip
    """Integrate every group at the draws ``first_draw:last_draw``; see ``draws_scalar``.

    ``Z`` has shape ``(q, n)``, ``L`` ``(draws, q, q)``, ``x`` ``(nodes, q)``, ``start``
    ``(groups, q)``.
    """
    q, groups = Z.shape[0], starts.size - 1
    rows = 0
    for g in range(groups):
        rows = max(rows, starts[g + 1] - starts[g])
    a, at_mode, at_node, eta = (
        np.empty((q, rows)), np.empty((4, rows)), np.empty((2, rows)), np.empty(rows)
    )  # fmt: skip
    m, u, step = np.empty((1, q)), np.empty((1, q)), np.empty((1, q))
    H, R = np.empty((1, q, q)), np.empty((1, q, q))
    for d in range(first_draw, last_draw):
        for g in range(groups):
            low, n = starts[g], starts[g + 1] - starts[g]
            directions(L[d], Z, low, n, a)
            for e in range(q):
                m[0, e] = start[g, e]
            best = find_mode(
                density, y, trials, base[d], dispersion[d], low, n, tolerance, limit,
                a, m, u, step, H, R, eta, at_mode,
            )  # fmt: skip
            if not np.isfinite(best):
                value[d, g] = -inf
                continue
            total, log_root = 0.0, 0.0
            for e in range(q):
                log_root += log(R[0, e, e])
            for k in range(log_factor.size):
                for e in range(q):
                    u[0, e] = x[k, e]
                solve_upper(R, 0, u, 0, q)
                f = log_factor[k] - best
                for e in range(q):
                    u[0, e] += m[0, e]
                    f -= 0.5 * u[0, e] * u[0, e]
                predictor(base[d], low, n, a, u, eta)
                score(y, trials, eta, dispersion[d], low, n, at_node)
                for j in range(n):
                    f += at_node[0, j]
                total += exp(f)
            value[d, g] = best - log_root + log(total)


@kernel(
    types.int64(
        Block, Block, Vector, Vector, Matrix, Vector, Matrix, Cube, Indices,
        Integer, Integer, Real, Integer, Matrix, Integer, States, Cube,
    )
)  # fmt: skip
def draw_vector_effects(
    density, score, y, trials, base, dispersion, Z, L, starts,
    first_draw, last_draw, tolerance, limit, start, steps, states, effect,
):  # fmt: skip
    """Draw ``u`` of every group by ``steps`` steps of an independence Metropolis chain.

    Proposals have the multivariate t distribution (5 df) at the conditional mode with its
    curvature. ``effect`` has shape ``(draws, groups, q)``. Returns the acceptances.
    """
    q, groups = Z.shape[0], starts.size - 1
    rows = 0
    for g in range(groups):
        rows = max(rows, starts[g + 1] - starts[g])
    a, at_mode, eta = np.empty((q, rows)), np.empty((4, rows)), np.empty(rows)
    m, u, step = np.empty((1, q)), np.empty((1, q)), np.empty((1, q))
    H, R = np.empty((1, q, q)), np.empty((1, q, q))
    accepted = 0
    for d in range(first_draw, last_draw):
        for g in range(groups):
            low, n = starts[g], starts[g + 1] - starts[g]
            directions(L[d], Z, low, n, a)
            for e in range(q):
                m[0, e] = start[g, e]
            best = find_mode(
                density, y, trials, base[d], dispersion[d], low, n, tolerance, limit,
                a, m, u, step, H, R, eta, at_mode,
            )  # fmt: skip
            current = best  # log of target over proposal at the mode
            for e in range(q):
                effect[d, g, e] = m[0, e]
            for _ in range(steps):
                chi_square = 0.0
                for _ in range(DF):
                    chi_square += normal(states, d) ** 2
                stretch, squares = sqrt(DF / chi_square), 0.0
                for e in range(q):
                    u[0, e] = stretch * normal(states, d)
                    squares += u[0, e] ** 2
                log_ratio = 0.5 * (DF + q) * log(1.0 + squares / DF)
                solve_upper(R, 0, u, 0, q)
                for e in range(q):
                    u[0, e] += m[0, e]
                    log_ratio -= 0.5 * u[0, e] * u[0, e]
                predictor(base[d], low, n, a, u, eta)
                score(y, trials, eta, dispersion[d], low, n, at_mode)
                for j in range(n):
                    log_ratio += at_mode[0, j]
                if log(uniform(states, d)) <= log_ratio - current:
                    current = log_ratio
                    accepted += 1
                    for e in range(q):
                        effect[d, g, e] = u[0, e]
    return accepted
