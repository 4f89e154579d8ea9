r"""Adaptive Gauss-Hermite quadrature over one grouping factor; one node is Laplace.

The marginal likelihood of group ``g`` with effects ``b = L u``, ``u ~ N(0, I_q)``, is

.. math:: L_g = \int \exp\{f_g(u)\} (2\pi)^{-q/2} du, \quad
   f_g(u) = \sum_j l_j(\eta_j) - u'u/2, \quad \eta_j = o_j + a_j'u, \quad a_j = L'z_j.

With the mode ``m``, the observed curvature ``H = I + sum_j w_j a_j a_j' = R R'``,
``w = -l''``, and the product rule of probabilists' Gauss-Hermite nodes ``x_k`` with weights
that sum to one (Liu & Pierce 1994; Pinheiro & Bates 1995),

.. math:: \log L_g = -\tfrac12 \log|H| + \log \sum_k \exp\{f_g(u_k) + x_k'x_k/2 + \log w_k\},
   \quad u_k = m + R^{-T} x_k.

The gradient is that of this sum, nodes moving with mode and curvature. With posterior node
weights ``omega_k``, ``G = sum_k omega_k f'(u_k)``, ``C = sum_k omega_k x_k (R^{-1} f'(u_k))'``,
``P`` the symmetric part of the lower triangle of ``C`` with halved diagonal (the derivative of
a Cholesky factor), ``Q = -R^{-T} (I/2 + P) R^{-1}``, ``r_j = -l'''_j a_j'Q a_j`` and
``v = H^{-1}(G + sum_j r_j a_j)``:

.. math:: t_j = \sum_k \omega_k l'_{jk} + r_j - w_j a_j'v, \qquad
   \Gamma = \sum_j z_j \Bigl[\sum_k \omega_k l'_{jk} u_k
     + (r_j - w_j a_j'v)\, m + 2 w_j Q a_j + l'_j v\Bigr]'

are the derivatives with respect to the fixed part of ``eta_j`` and to ``L``. At one node
``G = C = 0`` and this is the exact gradient of the Laplace approximation.
"""

from functools import lru_cache
from itertools import product
from math import exp, inf, log

import numpy as np
from numba import types
from scipy.special import roots_hermitenorm

from .compiled import Cube, Indices, Integer, Matrix, Real, Vector, helper, kernel
from .groups import chunks_of
from .pieces import Pieces, in_threads
from .small import factor, solve_lower, solve_upper


@lru_cache
def gauss_hermite(nodes: int, q: int) -> tuple[np.ndarray, np.ndarray]:
    """Product rule for a standard normal in ``q`` dimensions.

    Returns
    -------
    x, log_factor
        Nodes, shape ``(nodes**q, q)``, and ``x_k'x_k / 2 + log w_k`` with ``sum w_k = 1``.
    """
    x, w = roots_hermitenorm(nodes)
    log_factor = 0.5 * x**2 + np.log(w) - 0.5 * log(2 * np.pi)
    grid = np.array(list(product(x, repeat=q)))
    factor = np.array([sum(c) for c in product(log_factor, repeat=q)])
    return np.ascontiguousarray(grid), factor


@helper
def directions(L, Z, low, high, a, q):
    """``a_j = L'z_j`` for the rows ``low:high``, shape ``(q, rows)``."""
    for d in range(q):
        for j in range(high - low):
            a[d, j] = 0.0
        for c in range(q):
            if L[c, d] != 0.0:
                for j in range(high - low):
                    a[d, j] += L[c, d] * Z[c, low + j]


@helper
def predictor(base, a, u, starts, first, last, eta, q):
    """``eta_j = o_j + a_j'u`` with the ``u`` of the row's group."""
    low = starts[first]
    for g in range(first, last):
        for j in range(starts[g] - low, starts[g + 1] - low):
            eta[j] = base[low + j]
    for d in range(q):
        for g in range(first, last):
            x = u[g - first, d]
            for j in range(starts[g] - low, starts[g + 1] - low):
                eta[j] += a[d, j] * x


@helper
def curvature(rows, a, begin, end, H, g, q, clip):
    """``H[g] = I - sum_j l''_j a_j a_j'``, with positive ``l''`` set to zero if ``clip``."""
    for d in range(q):
        for e in range(d + 1):
            s = 1.0 if d == e else 0.0
            for j in range(begin, end):
                w = -rows[2, j]
                if clip and w < 0.0:
                    w = 0.0
                s += w * a[d, j] * a[e, j]
            H[g, d, e] = s
            H[g, e, d] = s


DENSITY = types.FunctionType(types.void(Vector, Vector, Vector, Real, *[Vector] * 4))
SCORE = types.FunctionType(types.void(Vector, Vector, Vector, Real, *[Vector] * 2))
SPREAD = types.FunctionType(types.void(Vector, Vector, Vector, Real, *[Vector] * 3))


@helper
def find_modes(
    density, y, trials, base, dispersion, a, starts, first, last, tolerance, limit,
    mode, precision, R, eta, rows, trial, step, best,
):  # fmt: skip
    """Newton's method for the modes of the groups ``first:last``, all at once.

    A step that does not raise ``f`` is halved. A group is done when its Newton decrement
    ``f'H^{-1}f'`` is below ``tolerance``; on return ``rows`` holds the density and its
    derivatives at the modes, ``precision = R R'`` the observed curvatures, ``best`` the
    values ``f(mode)``. Returns the number of groups not done after ``limit`` rounds.
    """
    q = mode.shape[1]
    low, high = starts[first], starts[last]
    for g in range(first, last):
        best[g - first] = -inf
        for d in range(q):
            trial[g - first, d] = mode[g, d]
    busy = 0
    for _ in range(limit):
        predictor(base, a, trial, starts, first, last, eta, q)
        density(
            y[low:high], trials[low:high], eta[: high - low], dispersion,
            rows[0, : high - low], rows[1, : high - low],
            rows[2, : high - low], rows[3, : high - low],
        )  # fmt: skip
        busy = 0
        for g in range(first, last):
            i = g - first
            begin, end = starts[g] - low, starts[g + 1] - low
            f = 0.0
            for d in range(q):
                f -= 0.5 * trial[i, d] * trial[i, d]
            for j in range(begin, end):
                f += rows[0, j]
            if not f >= best[i] - 1e-9 * (1.0 + abs(best[i])) or f == -inf:
                busy += 1
                for d in range(q):
                    step[i, d] *= 0.5
                    # a start without a finite value gives way to zero
                    trial[i, d] = 0.0 if best[i] == -inf else mode[g, d] + step[i, d]
                continue
            best[i] = f
            for d in range(q):
                mode[g, d] = trial[i, d]
                s = -trial[i, d]
                for j in range(begin, end):
                    s += rows[1, j] * a[d, j]
                step[i, d] = s
            curvature(rows, a, begin, end, precision, g, q, False)
            proper = factor(precision, g, R, i, q)
            if not proper:
                curvature(rows, a, begin, end, precision, g, q, True)
                factor(precision, g, R, i, q)
            solve_lower(R, i, step, i, q)
            decrement = 0.0
            for d in range(q):
                decrement += step[i, d] * step[i, d]
            if decrement > tolerance or not proper:
                busy += 1
                solve_upper(R, i, step, i, q)
                for d in range(q):
                    trial[i, d] = mode[g, d] + step[i, d]
        if busy == 0:
            return 0
    return busy


@helper
def curvature_weights(R, i, C, Q, q):
    """``Q = -R^{-T} (I/2 + P) R^{-1}``: what multiplies ``dH`` in the gradient.

    ``C[i]`` is overwritten.
    """
    for d in range(q):
        for e in range(d):
            Q[d, e] = 0.5 * C[i, d, e]
            Q[e, d] = Q[d, e]
        Q[d, d] = 0.5 + 0.5 * C[i, d, d]
    for d in range(q):
        solve_upper(R, i, Q, d, q)
    for d in range(q):
        for e in range(d):
            Q[d, e], Q[e, d] = Q[e, d], Q[d, e]
    for d in range(q):
        solve_upper(R, i, Q, d, q)
        for e in range(q):
            Q[d, e] = -Q[d, e]


@kernel(
    types.int64(
        DENSITY, SCORE, SPREAD, types.boolean,
        Vector, Vector, Vector, Real, Matrix, Matrix, Indices, Indices, Integer, Integer,
        Matrix, Vector, Real, Integer,
        Matrix, Vector, Vector, Cube, Vector, Cube, Matrix, Cube,
    )
)  # fmt: skip
def integrate(
    density, score, spread, has_dispersion,
    y, trials, base, dispersion, Z, L, starts, chunks, first_chunk, last_chunk,
    nodes, log_factor, tolerance, limit,
    mode, value, t, gamma, gamma_dispersion, precision, mean, second,
):  # fmt: skip
    """Integrate every group of the chunks ``first_chunk:last_chunk``.

    A chunk is a run of groups ``chunks[c]:chunks[c + 1]``, a group a run of rows
    ``starts[g]:starts[g + 1]``; rows are contiguous.

    Parameters
    ----------
    density, score, spread, has_dispersion
        The family (``bind.Blocks``).
    y, trials, base
        Response, trials and fixed part of ``eta``, shape ``(n,)``.
    Z, L
        Columns of the effects, ``(q, n)``, and the factor of their covariance, ``(q, q)``.
    nodes, log_factor
        The rule (``gauss_hermite``).
    tolerance, limit
        Newton decrement at which a mode is found, and the most rounds.
    mode
        In: starts; out: conditional modes of ``u``, ``(groups, q)``.
    value
        Out: ``log L_g`` without the family's constant.
    t, gamma, gamma_dispersion
        Out: derivatives by ``eta`` (rows), ``L`` and log dispersion (sums over a chunk).
    precision, mean, second
        Out: curvature ``H`` at the modes; ``E[u | y]`` and ``E[uu' | y]`` by the rule.

    Returns
    -------
    Number of groups whose mode was not found.
    """
    q = L.shape[0]
    groups = 0
    size = 0
    for c in range(first_chunk, last_chunk):
        groups = max(groups, chunks[c + 1] - chunks[c])
        size = max(size, starts[chunks[c + 1]] - starts[chunks[c]])
    a = np.empty((q, size))
    eta = np.empty(size)
    rows = np.empty((4, size))
    at_node = np.empty((2, size))
    spreads = np.empty((3, size))
    mean_score = np.empty(size)
    best = np.empty(groups)
    total = np.empty(groups)
    mean_spread = np.empty(groups)
    trial = np.empty((groups, q))
    step = np.empty((groups, q))
    gradient = np.empty((groups, q))
    R = np.empty((groups, q, q))
    C = np.empty((groups, q, q))
    outer = np.empty((groups, q, q))
    score_z = np.empty(q)
    slope = np.empty((1, q))
    Q = np.empty((q, q))
    Qa = np.empty(q)
    failures = 0

    for c in range(first_chunk, last_chunk):
        first, last = chunks[c], chunks[c + 1]
        low, high = starts[first], starts[last]
        n = high - low
        directions(L, Z, low, high, a, q)
        failures += find_modes(
            density, y, trials, base, dispersion, a, starts, first, last, tolerance, limit,
            mode, precision, R, eta, rows, trial, step, best,
        )  # fmt: skip

        for j in range(n):
            mean_score[j] = 0.0
        for g in range(first, last):
            i = g - first
            total[i] = 0.0
            mean_spread[i] = 0.0
            for d in range(q):
                gradient[i, d] = 0.0
                mean[g, d] = 0.0
                for e in range(q):
                    C[i, d, e] = 0.0
                    outer[i, d, e] = 0.0
                    second[g, d, e] = 0.0

        for k in range(log_factor.size):
            central = True
            for d in range(q):
                central = central and nodes[k, d] == 0.0
            for g in range(first, last):
                i = g - first
                for d in range(q):
                    trial[i, d] = nodes[k, d]
                solve_upper(R, i, trial, i, q)
                for d in range(q):
                    trial[i, d] += mode[g, d]
            predictor(base, a, trial, starts, first, last, eta, q)
            if central:
                for j in range(n):
                    at_node[0, j] = rows[0, j]
                    at_node[1, j] = rows[1, j]
            else:
                score(
                    y[low:high], trials[low:high], eta[:n], dispersion,
                    at_node[0, :n], at_node[1, :n],
                )  # fmt: skip
            if has_dispersion:
                spread(
                    y[low:high], trials[low:high], eta[:n], dispersion,
                    spreads[0, :n], spreads[1, :n], spreads[2, :n],
                )  # fmt: skip
            for g in range(first, last):
                i = g - first
                begin, end = starts[g] - low, starts[g + 1] - low
                f = log_factor[k] - best[i]
                for j in range(begin, end):
                    f += at_node[0, j]
                for d in range(q):
                    f -= 0.5 * trial[i, d] * trial[i, d]
                    s = 0.0
                    for j in range(begin, end):
                        s += at_node[1, j] * Z[d, low + j]
                    score_z[d] = s
                omega = exp(f)
                total[i] += omega
                for j in range(begin, end):
                    mean_score[j] += omega * at_node[1, j]
                for d in range(q):
                    s = -trial[i, d]
                    for e in range(q):
                        s += L[e, d] * score_z[e]
                        outer[i, d, e] += omega * score_z[d] * trial[i, e]
                        second[g, d, e] += omega * trial[i, d] * trial[i, e]
                    slope[0, d] = s
                    mean[g, d] += omega * trial[i, d]
                    gradient[i, d] += omega * s
                solve_lower(R, i, slope, 0, q)
                for d in range(q):
                    for e in range(q):
                        C[i, d, e] += omega * nodes[k, d] * slope[0, e]
                if has_dispersion:
                    for j in range(begin, end):
                        mean_spread[i] += omega * spreads[0, j]

        if has_dispersion:
            for g in range(first, last):
                for d in range(q):
                    trial[g - first, d] = mode[g, d]
            predictor(base, a, trial, starts, first, last, eta, q)
            spread(
                y[low:high], trials[low:high], eta[:n], dispersion,
                spreads[0, :n], spreads[1, :n], spreads[2, :n],
            )  # fmt: skip
        gamma_dispersion[c] = 0.0
        for d in range(q):
            for e in range(q):
                gamma[c, d, e] = 0.0
        for g in range(first, last):
            i = g - first
            begin, end = starts[g] - low, starts[g + 1] - low
            scale = 1.0 / total[i]
            value[g] = best[i] + log(total[i])
            for d in range(q):
                value[g] -= log(R[i, d, d])
                gradient[i, d] *= scale
                mean[g, d] *= scale
                for e in range(q):
                    C[i, d, e] *= scale
                    second[g, d, e] *= scale
                    gamma[c, d, e] += outer[i, d, e] * scale
            curvature_weights(R, i, C, Q, q)
            for j in range(begin, end):
                form = 0.0
                for d in range(q):
                    for e in range(q):
                        form += a[d, j] * Q[d, e] * a[e, j]
                r = -rows[3, j] * form
                eta[j] = r
                for d in range(q):
                    gradient[i, d] += r * a[d, j]
                if has_dispersion:
                    gamma_dispersion[c] -= spreads[2, j] * form
            solve_lower(R, i, gradient, i, q)
            solve_upper(R, i, gradient, i, q)
            for j in range(begin, end):
                w = -rows[2, j]
                shift = 0.0
                for d in range(q):
                    shift += a[d, j] * gradient[i, d]
                    s = 0.0
                    for e in range(q):
                        s += Q[d, e] * a[e, j]
                    Qa[d] = s
                net = eta[j] - w * shift
                t[low + j] = mean_score[j] * scale + net
                for d in range(q):
                    for e in range(q):
                        gamma[c, d, e] += Z[d, low + j] * (
                            net * mode[g, e] + 2.0 * w * Qa[e] + rows[1, j] * gradient[i, e]
                        )
                if has_dispersion:
                    gamma_dispersion[c] += spreads[1, j] * shift
            if has_dispersion:
                gamma_dispersion[c] += mean_spread[i] * scale
    return failures


CHUNK_ROWS = 256  # rows worked on at a time: they stay in the first-level cache
THREAD_WORK = 200_000  # rows times nodes from which a second thread pays
NEWTON_DECREMENT = 1e-15  # the log-determinant is of first order in the mode's error
NEWTON_ROUNDS = 200


class Quadrature:
    """The integral over one factor's effects, for a given rule.

    Modes are kept between calls as starts of the next search.

    Parameters
    ----------
    blocks
        The family (``bind.bind_numba``).
    y, trials
        Shape ``(n,)``, rows sorted by level.
    factor
        The grouping factor.
    nodes
        Nodes per dimension.
    """

    def __init__(self, blocks, y, trials, factor, nodes: int):
        self.blocks, self.y, self.trials, self.factor = blocks, y, trials, factor
        self.starts = factor.starts()
        self.chunks = chunks_of(self.starts, CHUNK_ROWS)
        self.Z = np.array(factor.Z.T, float, order="C")
        self.modes = np.zeros((factor.levels, factor.q))
        self.use_nodes(nodes)
        n, G, q, C = len(y), factor.levels, factor.q, len(self.chunks) - 1
        self.value, self.t = np.empty(G), np.empty(n)
        self.gamma, self.gamma_dispersion = np.empty((C, q, q)), np.empty(C)
        self.precision, self.mean = np.empty((G, q, q)), np.empty((G, q))
        self.second = np.empty((G, q, q))

    def use_nodes(self, nodes: int) -> None:
        """Change the rule; modes are kept."""
        self.nodes = nodes
        self.rule = gauss_hermite(nodes, self.factor.q)

    def __call__(self, base, dispersion: float, factors) -> Pieces:
        """Integrate at the fixed part ``base`` of ``eta`` and the factor ``L = factors[0]``."""
        b = self.blocks

        def run(first: int, last: int) -> int:
            return integrate(
                b.density, b.score, b.spread, b.has_dispersion,
                self.y, self.trials, base, dispersion, self.Z, factors[0],
                self.starts, self.chunks, first, last, *self.rule,
                NEWTON_DECREMENT, NEWTON_ROUNDS, self.modes, self.value, self.t,
                self.gamma, self.gamma_dispersion, self.precision, self.mean, self.second,
            )  # fmt: skip

        work = len(self.y) * (len(self.rule[1]) + 3)
        failures = sum(in_threads(run, len(self.chunks) - 1, work // THREAD_WORK))
        value = -inf if failures else float(self.value.sum())
        return Pieces(value, self.t, [self.gamma.sum(axis=0)], float(self.gamma_dispersion.sum()))

    def conditional(self, factors) -> list[tuple[np.ndarray, np.ndarray]]:
        """Modes of ``b = L u`` and their SDs from the curvature, shape ``(levels, q)`` each."""
        L = factors[0]
        covariance = L @ np.linalg.inv(self.precision) @ L.T
        return [(self.modes @ L.T, np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)))]

    def posterior_means(self, factors) -> list[tuple[np.ndarray, np.ndarray]]:
        """``E[b | y]`` and the SDs of ``b | y`` by the rule, shape ``(levels, q)`` each."""
        L = factors[0]
        centred = self.second - self.mean[:, :, None] * self.mean[:, None, :]
        variance = np.einsum("dc,gce,de->gd", L, centred, L)
        return [(self.mean @ L.T, np.sqrt(np.maximum(variance, 0.0)))]

    def working_information(self, weights, factors, columns) -> np.ndarray:
        """``X'WX - X'WZL H^{-1} L'Z'WX``: information of ``beta`` with the effects estimated."""
        f, L = self.factor, factors[0]
        a = f.Z @ L
        H = np.eye(f.q) + f.sum_by_level(weights[:, None, None] * a[:, :, None] * a[:, None, :])
        B = f.sum_by_level(weights[:, None, None] * a[:, :, None] * columns[:, None, :])
        seen = np.einsum("gdi,gdj->ij", B, np.linalg.solve(H, B))
        return columns.T @ (weights[:, None] * columns) - seen
