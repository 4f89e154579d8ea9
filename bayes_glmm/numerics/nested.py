r"""Adaptive Gauss-Hermite quadrature over two nested factors; one node is Laplace.

Outer group ``g`` has effects ``v`` and ``m`` inner levels with effects ``u_i``, all standard
normal: ``w = (u_1, ..., u_m, v)``,

.. math:: f(w) = \sum_j l_j(\eta_j) - w'w/2, \quad \eta_j = o_j + A_j'w, \quad
   A_j'w = a_j'u_{i(j)} + c_j'v,

``a_j`` and ``c_j`` being ``L'z_j`` of the two factors. At the joint mode the curvature
``H = I + sum_j w_j A_j A_j'``, ``w_j = -l''_j``, has the shape of an arrow, and its Cholesky
factor ``R``, the outer effects last, has the same shape. So the nodes ``w + R^{-T} x`` of the
product rule factorise (Pinheiro & Chao 2006): with ``x_k`` for the outer and ``x_l`` for the
inner effects,

.. math:: v_k = \hat v + R_{vv}^{-T} x_k, \qquad
   u_{ikl} = \hat u_i - K_i (v_k - \hat v) + R_{ii}^{-T} x_l, \quad K_i = H_{ii}^{-1} H_{iv},

and with ``m`` inner levels there are ``nodes^(1+1)``, not ``nodes^(1+m)``, densities to sum:

.. math:: \log L_g = -\tfrac12 \log|H| + \log \sum_k e^{x_k'x_k/2 - v_k'v_k/2} w_k
   \prod_i \sum_l e^{\sum_{j \in i} l_j(\eta_{jkl}) - u_{ikl}'u_{ikl}/2 + x_l'x_l/2} w_l .

The gradient is that of ``quadrature``'s docstring for ``w``, written on the arrow: nodes move
with ``R^{-T}``, whose adjoint is ``-E(s psi')`` with ``s = R^{-T} x`` and
``psi = R^{-1} f'``, expectations by the posterior weights of the nodes. Differentiating the
blocked Cholesky factor backwards gives ``Q``, what multiplies ``dH``: with
``T = R^{-1}``, ``P(C)`` the symmetric part of the lower triangle of ``C`` with halved diagonal
and ``W_i = E(s_v f'_i') H_ii^{-1}``,

.. math:: Q_{vv} = -T_v'(\tfrac12 I + P(E x_k \psi_v')) T_v, \quad
   N_i = -T_i'(\tfrac12 I + P(E x_l \psi_i')) T_i, \\
   Q_{vi} = -\tfrac12 W_i - Q_{vv} K_i', \quad
   Q_{ii} = N_i + \tfrac12 (K_i W_i + W_i'K_i') + K_i Q_{vv} K_i' .

With ``r_j = -l'''_j A_j'Q A_j`` and ``d = H^{-1}(E f' + sum_j r_j A_j)``,

.. math:: t_j = E\,l'_j + r_j - w_j A_j'd, \qquad
   \Gamma = \sum_j z_j \bigl[E\,l'_j u + (r_j - w_j A_j'd)\, \hat u + 2 w_j (Q A_j)_u
     + l'_j d_u\bigr]'

for the inner factor, with ``v`` for ``u`` for the outer one.
"""

from math import inf

import numpy as np
from scipy.linalg import block_diag

from .compiled import FixedTypes
from .groups import chunks_of, parents
from .nested_integral import integrate_nested
from .pieces import Pieces, in_threads
from .quadrature import CHUNK_ROWS, THREAD_WORK, gauss_hermite
from .small import NEWTON_DECREMENT, NEWTON_ROUNDS


class Nested:
    """The integral over the effects of two nested factors, for a given rule.

    Modes are kept between calls as starts of the next search.

    Parameters
    ----------
    blocks
        The family (``bind.bind_numba``).
    y, trials
        Shape ``(n,)``, rows sorted by outer, then by inner level.
    ranked
        The finer and the coarser factor.
    nodes
        Nodes per effect.
    """

    def __init__(self, blocks, y, trials, ranked, nodes: int):
        self.blocks, self.y, self.trials = blocks, y, trials
        self.finer, self.coarser = ranked
        self.parent = parents(*ranked)
        self._kernel = FixedTypes(integrate_nested)
        # inner levels in the order of the rows
        self.order = np.argsort(self.parent, kind="stable")
        place = np.empty_like(self.order)
        place[self.order] = np.arange(len(place))
        M, G = self.finer.levels, self.coarser.levels
        q, p = self.finer.q, self.coarser.q
        self.row_starts = np.searchsorted(place[self.finer.index], np.arange(M + 1))
        self.inner_starts = np.searchsorted(self.parent[self.order], np.arange(G + 1))
        self.cut()
        self.use_nodes(nodes)
        self.Z = np.concatenate([self.finer.Z.T, self.coarser.Z.T]).astype(float, order="C")
        self.u, self.v = np.zeros((q, M)), np.zeros((p, G))
        self.value, self.t = np.empty(G), np.empty(len(y))
        chunks = len(self.chunks) - 1
        self.gamma, self.gamma_dispersion = np.empty((chunks, q + p, q + p)), np.empty(chunks)
        self.given, self.regression = np.empty((M, q, q)), np.empty((M, q, p))
        self.variance = np.empty((G, p, p))
        self.mean = np.empty((M, q)), np.empty((G, p))
        self.second = np.empty((M, q, q)), np.empty((G, p, p))

    def cut(self) -> None:
        """Cut the outer groups into chunks, and the inner levels of each chunk into parts."""
        self.chunks = chunks_of(self.row_starts[self.inner_starts], CHUNK_ROWS)
        parts, counts = [], []
        for g, h in zip(self.chunks[:-1], self.chunks[1:], strict=True):
            i, e = self.inner_starts[g], self.inner_starts[h]
            starts = self.row_starts[i : e + 1] - self.row_starts[i]
            cuts = i + chunks_of(starts, CHUNK_ROWS) if e > i else np.array([i])
            parts.append(cuts[:-1])
            counts.append(len(cuts) - 1)
        self.parts = np.concatenate([*parts, [self.finer.levels]]).astype(np.int64)
        self.part_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def use_nodes(self, nodes: int) -> None:
        """Change the rule; modes are kept."""
        self.nodes = nodes
        self.rules = *gauss_hermite(nodes, self.finer.q), *gauss_hermite(nodes, self.coarser.q)

    def __call__(self, base, dispersion: float, factors, moments: bool = False) -> Pieces:
        """Integrate at the fixed part ``base`` of ``eta`` and the factors ``L``, finer first.

        With ``moments`` the posterior means of ``u`` and ``v`` are left in ``mean`` and
        ``second``.
        """
        L = np.ascontiguousarray(block_diag(*factors), float)
        work = len(self.y) * (len(self.rules[1]) * len(self.rules[3]) + 3)
        failures = sum(
            in_threads(
                lambda first, last: self._run(first, last, base, dispersion, L, moments),
                len(self.gamma),
                work // THREAD_WORK,
            )
        )
        if failures:
            self.u[:], self.v[:] = 0.0, 0.0
            return Pieces(-inf, self.t, [np.full_like(f, np.nan) for f in factors], np.nan)
        gamma, q = self.gamma.sum(axis=0), self.finer.q
        gammas = [gamma[:q, :q], gamma[q:, q:]]
        return Pieces(float(self.value.sum()), self.t, gammas, float(self.gamma_dispersion.sum()))

    def _run(self, first: int, last: int, base, dispersion, L, moments) -> int:
        b = self.blocks
        return self._kernel(
            b.density, b.score, b.spread, b.has_dispersion, moments,
            self.y, self.trials, base, dispersion, self.Z, L,
            self.row_starts, self.inner_starts, self.chunks, self.parts, self.part_starts,
            first, last, *self.rules, NEWTON_DECREMENT, NEWTON_ROUNDS,
            self.u, self.v, self.value, self.t, self.gamma, self.gamma_dispersion,
            self.given, self.regression, self.variance,
            self.mean[0], self.second[0], self.mean[1], self.second[1],
        )  # fmt: skip

    def conditional(self, factors) -> list[tuple[np.ndarray, np.ndarray]]:
        """Modes of ``b = L u`` and their SDs from ``H^{-1}``, the finer factor first."""
        outer, K = self.variance[self.parent[self.order]], self.regression
        inner = self.given + K @ outer @ K.swapaxes(1, 2)
        return self._by_factor(factors, (self.u.T, self.v.T), (inner, self.variance))

    def scatter(self, factors, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Draw ``b = L u``, ``u ~ N(0, H^{-1})``: ``(draws, levels, q)``, the finer first."""
        M, G = self.finer.levels, self.coarser.levels
        z_outer = rng.standard_normal((draws, G, self.coarser.q, 1))
        z_inner = rng.standard_normal((draws, M, self.finer.q, 1))
        v = np.linalg.cholesky(self.variance) @ z_outer
        u = np.linalg.cholesky(self.given) @ z_inner
        u -= self.regression @ v[:, self.parent[self.order]]
        back = np.argsort(self.order)
        return [u[..., 0][:, back] @ factors[0].T, v[..., 0] @ factors[1].T]

    def posterior_means(self, base, dispersion, factors) -> list[tuple[np.ndarray, np.ndarray]]:
        """``E[b | y]`` and the SDs of ``b | y`` by the rule, the finer factor first."""
        self(base, dispersion, factors, moments=True)
        centred = [
            s - m[:, :, None] * m[:, None, :] for s, m in zip(self.second, self.mean, strict=True)
        ]
        return self._by_factor(factors, self.mean, centred)

    def _by_factor(self, factors, locations, covariances):
        """Carry spherical effects to ``b``, levels in the factors' own order."""
        out = []
        for L, u, C in zip(factors, locations, covariances, strict=True):
            variance = np.einsum("dc,gce,de->gd", L, C, L)
            out.append((u @ L.T, np.sqrt(np.maximum(variance, 0.0))))
        back = np.argsort(self.order)
        return [(out[0][0][back], out[0][1][back]), out[1]]

    def working_information(self, weights, factors, columns) -> np.ndarray:
        """``X'WX - X'WA H^{-1} A'WX``: information of ``beta`` with the effects estimated."""
        a, c = (f.Z @ L for f, L in zip((self.finer, self.coarser), factors, strict=True))
        inner, outer = self.finer.sum_by_level, self.coarser.sum_by_level

        def cross(left, right):
            return weights[:, None, None] * left[:, :, None] * right[:, None, :]

        H, H_vi = np.eye(a.shape[1]) + inner(cross(a, a)), inner(cross(c, a))
        B = inner(cross(a, columns))
        solved, K = np.linalg.solve(H, B), np.linalg.solve(H, H_vi.swapaxes(1, 2))
        S = np.eye(c.shape[1]) + outer(cross(c, c))
        C = outer(cross(c, columns))
        np.subtract.at(S, self.parent, H_vi @ K)
        np.subtract.at(C, self.parent, H_vi @ solved)
        seen = np.einsum("gdi,gdj->ij", B, solved)
        seen += np.einsum("gdi,gdj->ij", C, np.linalg.solve(S, C))
        return columns.T @ (weights[:, None] * columns) - seen
