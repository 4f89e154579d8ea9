r"""The Laplace approximation for several grouping factors, nested or crossed: one node.

.. math:: \ell = \sum_j l_j(\hat\eta_j) - \tfrac12 \hat u'\hat u - \tfrac12 \log|H|,
   \quad H = I + A'WA, \quad W = -l'' \text{ at the joint mode } \hat u

with ``a_j`` the row ``L'z_j`` over all factors. With ``h_j = a_j'H^{-1}a_j``,
``r_j = h_j l'''_j / 2`` and ``v = H^{-1} A'r`` (the modes move with the parameters),

.. math:: t = l' + r - W A v, \qquad
   \Gamma_f = \sum_j z_{jf} [t_j \hat u_f + l'_j v_f - w_j (H^{-1}a_j)_f]'

are the derivatives with respect to the fixed part of ``eta`` and to the factor ``L_f``: the
formulas of ``quadrature`` at one node, ``Q = -H^{-1}/2``.
"""

import numpy as np
from numba import types

from .cholesky import KERNELS as CHOLESKY_KERNELS
from .cholesky import BlockedCholesky, gather, make_pattern, spread_out
from .compiled import IndexTable, Integer, Matrix, Vector, kernel
from .pieces import Pieces
from .small import NEWTON_DECREMENT, NEWTON_ROUGH, NEWTON_ROUNDS, STALLED

QUICK = 0.01  # fall of the Newton decrement that an old factor must bring


@kernel(
    types.void(
        Matrix, IndexTable, Integer, Vector, Vector, Vector, Vector, Vector, Matrix, Matrix
    )
)  # fmt: skip
def factor_gradient(Z, places, low, u, v, t, l1, l2, p, gamma):
    """Add ``sum_j z_j [t_j u + l'_j v + l''_j p_j]'`` of one factor's effects to ``gamma``.

    The effects of row ``j`` are ``places[j, low:]`` of ``u`` and ``v``; ``p`` holds
    ``H^{-1} a_j`` at them, one row an effect.
    """
    q = Z.shape[0]
    for e in range(q):
        for j in range(t.size):
            place = places[j, low + e]
            inner = t[j] * u[place] + l1[j] * v[place] + l2[j] * p[low + e, j]
            for d in range(q):
                gamma[d, e] += Z[d, j] * inner


KERNELS = (*CHOLESKY_KERNELS, factor_gradient)


def compile_all() -> None:
    """Compile the kernels, or load them from disk."""
    for k in KERNELS:
        k.compiled  # noqa: B018


class Laplace:
    """The Laplace approximation over the effects of several factors.

    Parameters
    ----------
    blocks
        The family (``bind.bind_numba``).
    y, trials
        Shape ``(n,)``, rows sorted by the levels of the first factor.
    ranked
        Grouping factors, the largest first.
    """

    nodes = 1

    def __init__(self, blocks, y, trials, ranked):
        self.blocks, self.y, self.trials, self.ranked = blocks, y, trials, ranked
        self.pattern = make_pattern(ranked)
        self.cholesky = BlockedCholesky(self.pattern, ranked[0].q)
        self.x = np.zeros((ranked[0].levels, ranked[0].q))  # modes of u: the largest factor
        self.z = np.zeros(self.pattern.size)  # and the others
        self.rows = np.empty((4, len(y)))
        self.factored = self.proper = False
        self.index = np.array(ranked[0].index, np.int64)
        self.Z = [np.array(f.Z.T, float, order="C") for f in ranked]
        first = self.index[:, None] * ranked[0].q + np.arange(ranked[0].q)
        # where each row's effects stand in (x, z)
        self.places = np.concatenate([first, self.x.size + self.pattern.columns], axis=1)

    def use_nodes(self, nodes: int) -> None:
        """Only one node is offered."""

    def directions(self, factors) -> tuple[np.ndarray, np.ndarray]:
        """``L'z`` of every row for the largest factor and for the others, one row an effect."""
        parts = [
            np.ascontiguousarray((f.Z @ L).T) for f, L in zip(self.ranked, factors, strict=True)
        ]
        return parts[0], np.concatenate(parts[1:]) if len(parts) > 1 else np.zeros((0, len(self.y)))

    def spread_out(self, a, c, x, z) -> np.ndarray:
        """Give ``A (x, z)``: effects to rows, ``(n,)``."""
        out = np.zeros(len(self.y))
        spread_out(a, c, self.index, self.pattern.columns, x, z, out)
        return out

    def gather(self, a, c, values) -> tuple[np.ndarray, np.ndarray]:
        """Give ``A' values``: rows to effects."""
        x, z = np.zeros_like(self.x), np.zeros_like(self.z)
        gather(a, c, self.index, self.pattern.columns, values, x, z)
        return x, z

    def find_mode(self, base, dispersion: float, a, c) -> bool:
        """Newton's method for the joint mode, steps halved until the integrand rises.

        Where factoring ``H`` is much work its last factor serves as long as it brings the
        mode nearer quickly. On return ``rows`` holds the density and its derivatives and
        ``cholesky`` the factor of ``H`` at the mode. False where it was not found.
        """
        x, z, best, decrement = self.x, self.z, -np.inf, np.inf
        step: tuple[np.ndarray, np.ndarray] = np.zeros_like(x), np.zeros_like(z)
        reuse = self.factored and self.cholesky.schur.costly
        self.factored = False
        for _ in range(NEWTON_ROUNDS):
            eta = base + self.spread_out(a, c, x, z)
            self.blocks.density(self.y, self.trials, eta, dispersion, 0, len(eta), self.rows)
            value = self.rows[0].sum() - 0.5 * (np.sum(x * x) + z @ z)
            if not value >= best - 1e-9 * (1.0 + abs(best)) or value == -np.inf:
                reuse = False
                if best == -np.inf:
                    if not (x.any() or z.any()):
                        return False
                    x, z = np.zeros_like(x), np.zeros_like(z)
                else:
                    step = 0.5 * step[0], 0.5 * step[1]
                    x, z = self.x + step[0], self.z + step[1]
                continue
            best, self.x, self.z = value, x, z
            gx, gz = self.gather(a, c, self.rows[1])
            gx, gz = gx - x, gz - z
            fresh = not reuse
            if fresh and not self.factorise(a, c):
                return False
            step = self.cholesky.solve(gx, gz)
            last, decrement = decrement, np.sum(step[0] * gx) + step[1] @ gz
            if decrement <= NEWTON_DECREMENT or STALLED * last < decrement <= NEWTON_ROUGH:
                self.factored = self.proper if fresh else self.factorise(a, c) and self.proper
                return self.factored
            # a factor just made serves the next step too, if there is a large one to save
            reuse = self.cholesky.schur.costly and self.proper
            reuse = reuse and (fresh or decrement < QUICK * last)
            x, z = x + step[0], z + step[1]
        return False

    def factorise(self, a, c) -> bool:
        """Factor ``H``, or with the positive weights alone where it is not positive definite.

        ``proper`` tells which it was. False if neither can be factored.
        """
        self.proper = self.cholesky.factorise(-self.rows[2], a, c)
        return self.proper or self.cholesky.factorise(np.maximum(-self.rows[2], 0.0), a, c)

    def __call__(self, base, dispersion: float, factors) -> Pieces:
        """Approximate at the fixed part ``base`` of ``eta`` and the factors ``L``."""
        a, c = self.directions(factors)
        nothing = [np.full_like(L, np.nan) for L in factors]
        if not self.find_mode(base, dispersion, a, c):
            self.x, self.z = np.zeros_like(self.x), np.zeros_like(self.z)
            return Pieces(-np.inf, np.full_like(base, np.nan), nothing, np.nan)
        _, l1, l2, l3 = self.rows
        chol = self.cholesky
        squares = np.sum(self.x**2) + self.z @ self.z
        value = self.rows[0].sum() - 0.5 * (squares + chol.log_determinant())
        chol.select_inverse(a, c)
        r = 0.5 * chol.h * l3
        vx, vz = chol.solve(*self.gather(a, c, r))
        shift = self.spread_out(a, c, vx, vz)
        t = l1 + r + l2 * shift
        gammas = self.by_factor(t, l1, l2, vx, vz)
        return Pieces(float(value), t, gammas, self.by_dispersion(base, dispersion, a, c, shift))

    def by_factor(self, t, l1, l2, vx, vz) -> list[np.ndarray]:
        """``Gamma_f`` of every factor."""
        u, v = np.r_[self.x.ravel(), self.z], np.r_[vx.ravel(), vz]
        p = np.concatenate([self.cholesky.along, self.cholesky.across])
        gammas, low = [], 0
        for Z, f in zip(self.Z, self.ranked, strict=True):
            gammas.append(np.zeros((f.q, f.q)))
            factor_gradient(Z, self.places, low, u, v, t, l1, l2, p, gammas[-1])
            low += f.q
        return gammas

    def by_dispersion(self, base, dispersion, a, c, shift) -> float:
        """Give the derivative by log dispersion."""
        if not self.blocks.has_dispersion:
            return 0.0
        spread = np.empty((3, len(self.y)))
        eta = base + self.spread_out(a, c, self.x, self.z)
        self.blocks.spread(self.y, self.trials, eta, dispersion, 0, len(eta), spread)
        return float(np.sum(spread[0] + spread[1] * shift + 0.5 * spread[2] * self.cholesky.h))

    def conditional(self, factors) -> list[tuple[np.ndarray, np.ndarray]]:
        """Modes of ``b = L u`` and their SDs from ``H^{-1}``, the largest factor first."""
        inverse, modes, low = [self.cholesky.first], [self.x], 0
        for f in self.ranked[1:]:
            inverse.append(self.cholesky.other_blocks(low, f.levels, f.q))
            high = low + f.levels * f.q
            modes.append(self.z[self.pattern.position[low:high]].reshape(f.levels, f.q))
            low = high
        out = []
        for L, u, block in zip(factors, modes, inverse, strict=True):
            covariance = L @ block @ L.T
            out.append((u @ L.T, np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))))
        return out

    def scatter(self, factors, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Draw ``b = L u``, ``u ~ N(0, H^{-1})``: ``(draws, levels, q)``, the largest first."""
        first, rest = self.ranked[0], self.ranked[1:]
        cuts = np.cumsum([0, *(f.levels * f.q for f in rest)])
        out = [np.empty((draws, f.levels, f.q)) for f in self.ranked]
        for k in range(draws):
            x, z = self.cholesky.scatter(
                rng.standard_normal((first.levels, first.q)), rng.standard_normal(cuts[-1])
            )
            ends = zip(rest, cuts, cuts[1:], strict=False)
            place = self.pattern.position
            parts = [z[place[a:b]].reshape(f.levels, f.q) for f, a, b in ends]
            for kept, L, u in zip(out, factors, [x, *parts], strict=True):
                kept[k] = u @ L.T
        return out

    def working_information(self, weights, factors, columns) -> np.ndarray:
        """``X'WX - X'WA H^{-1} A'WX``: information of ``beta`` with the effects estimated."""
        a, c = self.directions(factors)
        self.factored = False
        self.cholesky.factorise(np.array(weights, float), a, c)
        seen = []
        for column in columns.T:
            solved = self.cholesky.solve(*self.gather(a, c, weights * column))
            seen.append(columns.T @ (weights * self.spread_out(a, c, *solved)))
        p = columns.shape[1]
        return columns.T @ (weights[:, None] * columns) - np.array(seen).reshape(p, p)
