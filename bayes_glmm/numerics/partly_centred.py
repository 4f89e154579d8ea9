r"""Effects of one factor as variables of about unit posterior scale, with derivatives.

With ``b_g = L u_g``, ``u_g ~ N(0, I_q)``, what the data say about ``b_g`` is about normal, of
precision ``W_g`` and mean ``W_g^{-1} e_g``. The variables are

.. math:: r_g = K_g' u_g - K_g^{-1} L' e_g, \qquad K_g K_g' = M_g = I + L' W_g L, \qquad
   \log \pi(r_g) = -\tfrac12 u_g'u_g - \log|K_g|,

``K_g`` upper triangular. Given the data ``u_g`` has about the precision ``M_g`` and the mean
``M_g^{-1} L' e_g``, so that ``r_g`` is about standard normal at every ``L``: non-centred where
the data say little about the effect or ``L`` is near zero, centred where they say much (the
partial non-centring of Papaspiliopoulos, Roberts & Skold 2007).

``e_g = s_g - sum_p C_gp b_p`` subtracts what the effects ``b_p`` of levels that ``g`` lies within
explain, so that a nested effect moves with those above it (the hierarchical centring of
Gelfand, Sahu & Carlin 1995). Any ``W``, ``s`` and ``C`` give the same posterior; only the mixing
of a sampler depends on them.

Derivatives go backwards through these formulas; that of a Cholesky factor is (Giles 2008,
section 2.3.4, for the upper factor) ``dK = K Psi(K^{-1} dM K^{-T})``, ``Psi`` the upper triangle
with halved diagonal.
"""

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numba import types

from .compiled import Cube, Indices, Matrix, Vector, kernel
from .groups import Factor


@kernel(types.float64(Matrix, Cube, Matrix, Matrix, Cube, Matrix, Matrix, Matrix))
def effects_from_raw(L, W, e, raw, K, v, u, b):
    """Fill ``K``, ``v = K^{-1} L'e``, ``u`` and ``b`` of every level; return the log density.

    Shapes: ``L (q, q)``, ``W`` and ``K (levels, q, q)``, the others ``(levels, q)``. The
    constant of the normal density is left out.
    """
    q = L.shape[0]
    total = 0.0
    for g in range(raw.shape[0]):
        for j in range(q - 1, -1, -1):
            for i in range(j, -1, -1):
                left = 1.0 if i == j else 0.0
                for c in range(q):
                    for d in range(q):
                        left += L[c, i] * W[g, c, d] * L[d, j]
                for m in range(j + 1, q):
                    left -= K[g, i, m] * K[g, j, m]
                K[g, i, j] = sqrt(left) if i == j else left / K[g, j, j]
        for j in range(q - 1, -1, -1):
            s = 0.0
            for c in range(j, q):
                s += L[c, j] * e[g, c]
            for m in range(j + 1, q):
                s -= K[g, j, m] * v[g, m]
            v[g, j] = s / K[g, j, j]
        for j in range(q):
            s = raw[g, j] + v[g, j]
            for i in range(j):
                s -= K[g, i, j] * u[g, i]
            u[g, j] = s / K[g, j, j]
            total -= 0.5 * u[g, j] ** 2 + log(K[g, j, j])
        for c in range(q):
            s = 0.0
            for d in range(c + 1):
                s += L[c, d] * u[g, d]
            b[g, c] = s
    return total


@kernel(types.void(Matrix, Cube, Matrix, Cube, Matrix, Matrix, Matrix, Matrix, Matrix, Matrix))
def gradient_of_raw(L, W, e, K, v, u, by_b, by_raw, by_e, by_L):
    """Carry derivatives by ``b`` back to ``raw``, ``e`` and ``L``, the log density's added.

    ``by_raw`` and ``by_e`` are filled, ``by_L`` is added to.
    """
    q = L.shape[0]
    inverse, bar, P, half = np.zeros((q, q)), np.empty((q, q)), np.empty((q, q)), np.empty((q, q))
    y = np.empty(q)
    for g in range(u.shape[0]):
        for j in range(q):  # K^{-1}, upper triangular
            inverse[j, j] = 1.0 / K[g, j, j]
            for i in range(j - 1, -1, -1):
                s = 0.0
                for m in range(i + 1, j + 1):
                    s += K[g, i, m] * inverse[m, j]
                inverse[i, j] = -s / K[g, i, i]
        for i in range(q):
            by_raw[g, i] = 0.0
        for j in range(q):
            by_u = -u[g, j]
            for c in range(j, q):
                by_u += L[c, j] * by_b[g, c]
                by_L[c, j] += by_b[g, c] * u[g, j]
            for i in range(j + 1):
                by_raw[g, i] += inverse[i, j] * by_u
        for i in range(q):  # K^{-T} by_raw: by L'e
            y[i] = 0.0
            for m in range(i + 1):
                y[i] += inverse[m, i] * by_raw[g, m]
        for c in range(q):
            by_e[g, c] = 0.0
            for j in range(c + 1):
                by_e[g, c] += L[c, j] * y[j]
                by_L[c, j] += e[g, c] * y[j]
        # by K, then P with <P, K^{-1} dM K^{-T}> the change
        for i in range(q):
            for j in range(i, q):
                bar[i, j] = -u[g, i] * by_raw[g, j] - y[i] * v[g, j]
            bar[i, i] -= inverse[i, i]
        for i in range(q):
            for j in range(i, q):
                s = 0.0
                for m in range(i + 1):
                    s += K[g, m, i] * bar[m, j]
                P[i, j] = P[j, i] = 0.5 * s
        for i in range(q):  # P K^{-1}
            for j in range(q):
                s = 0.0
                for m in range(j + 1):
                    s += P[i, m] * inverse[m, j]
                half[i, j] = s
        for i in range(q):  # by M: K^{-T} P K^{-1}
            for j in range(q):
                s = 0.0
                for m in range(i + 1):
                    s += inverse[m, i] * half[m, j]
                bar[i, j] = s
        for c in range(q):
            for d in range(q):
                for i in range(d + 1):
                    slope = 2.0 * W[g, c, d] * L[d, i]
                    for j in range(c + 1):
                        by_L[c, j] += slope * bar[i, j]


@kernel(types.void(Matrix, Indices, Matrix, Vector))
def add_to_rows(Z, index, b, eta):
    """Add ``z_j'b`` of each row's level to ``eta``; ``Z`` has shape ``(q, n)``."""
    for d in range(Z.shape[0]):
        for j in range(index.size):
            eta[j] += Z[d, j] * b[index[j], d]


@kernel(types.void(Matrix, Indices, Vector, Matrix))
def sum_over_rows(Z, index, t, by_b):
    """Add ``sum_j z_j t_j`` over the rows of each level to ``by_b``."""
    for d in range(Z.shape[0]):
        for j in range(index.size):
            by_b[index[j], d] += Z[d, j] * t[j]


@kernel(types.void(Cube, Indices, Matrix, Matrix))
def subtract_above(C, parent, b, e):
    """Subtract ``C_g b`` of the level above each level ``g`` from ``e``."""
    for g in range(parent.size):
        for c in range(C.shape[1]):
            for d in range(C.shape[2]):
                e[g, c] -= C[g, c, d] * b[parent[g], d]


@kernel(types.void(Cube, Indices, Matrix, Matrix))
def subtract_below(C, parent, by_e, by_b):
    """Subtract ``C_g' by_e`` of each level ``g`` from the derivative by the level above it."""
    for g in range(parent.size):
        for c in range(C.shape[1]):
            for d in range(C.shape[2]):
                by_b[parent[g], d] -= C[g, c, d] * by_e[g, c]


KERNELS = (
    effects_from_raw, gradient_of_raw, add_to_rows, sum_over_rows, subtract_above, subtract_below,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Information:
    """What the data say about one factor's effects, as a normal likelihood.

    Attributes
    ----------
    W
        Precision of each level's effects, ``(levels, q, q)``, not negative definite anywhere.
    s
        Precision times mean, where the effects above are zero, ``(levels, q)``.
    above
        For factors that this one is nested in: which of the other factors it is, ``C``
        ``(levels, q, its q)``, and the level of it that each level lies within.
    """

    W: np.ndarray
    s: np.ndarray
    above: tuple[tuple[int, np.ndarray, np.ndarray], ...] = ()


class PartlyCentred:
    """The effects of one factor, and the derivatives of a log density through them.

    Parameters
    ----------
    factor
        The grouping factor, over the rows of ``eta``.
    information
        Of the data about its effects.

    Notes
    -----
    What ``effects`` found is kept for ``gradient``, so one object serves one thread. ``by_b``
    gathers derivatives by the effects, from rows and from factors nested in this one.
    """

    def __init__(self, factor: Factor, information: Information):
        self.levels, self.q = factor.levels, factor.q
        self.index = np.array(factor.index, np.int64)
        self.Z = np.array(factor.Z.T, float, order="C")
        self.W, self.s = (np.array(a, float, order="C") for a in (information.W, information.s))
        self.above = information.above
        self.K = np.zeros((self.levels, self.q, self.q))
        shape = (self.levels, self.q)
        self.u, self.b, self.v, self.e, self.by_b, self.by_raw, self.by_e = (
            np.zeros(shape) for _ in range(7)
        )

    @property
    def size(self) -> int:
        """Number of variables."""
        return self.levels * self.q

    def effects(self, L: np.ndarray, raw: np.ndarray, others: list["PartlyCentred"]) -> float:
        """Find ``b`` of the variables ``raw (size,)``; return their log density.

        ``others`` are all factors; the effects of those above this one are known.
        """
        self.e[:] = self.s
        for k, C, parent in self.above:
            subtract_above(C, parent, others[k].b, self.e)
        self.by_b[:] = 0.0
        shaped = raw.reshape(self.levels, self.q)
        return effects_from_raw(L, self.W, self.e, shaped, self.K, self.v, self.u, self.b)

    def add_to(self, eta: np.ndarray) -> None:
        """Add ``Z b`` to ``eta (n,)``."""
        add_to_rows(self.Z, self.index, self.b, eta)

    def gradient(
        self, L: np.ndarray, t: np.ndarray, others: list["PartlyCentred"]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give derivatives by ``raw`` and ``L``, from those by ``eta``, ``t (n,)``.

        Those of the log density of ``raw`` are among them. Factors nested in this one have
        gone before.
        """
        sum_over_rows(self.Z, self.index, t, self.by_b)
        by_L = np.zeros((self.q, self.q))
        gradient_of_raw(
            L, self.W, self.e, self.K, self.v, self.u, self.by_b, self.by_raw, self.by_e, by_L
        )
        for k, C, parent in self.above:
            subtract_below(C, parent, self.by_e, others[k].by_b)
        return self.by_raw.ravel(), by_L
