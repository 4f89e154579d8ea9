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
from math import inf, log

import numpy as np
from scipy.special import roots_hermitenorm

from .compiled import FixedTypes
from .groups import chunks_of
from .pieces import Pieces, in_threads
from .scalar_integral import find_modes, integrate_scalar
from .small import NEWTON_DECREMENT, NEWTON_ROUNDS
from .vector_integral import integrate_vector

CHUNK_ROWS = 512  # rows worked on at a time: they stay in the first-level cache
THREAD_WORK = 200_000  # rows times nodes from which a second thread pays


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
        self.use_nodes(nodes)
        n, G, q = len(y), factor.levels, factor.q
        self.scalar = q == 1
        self._kernel = FixedTypes(integrate_scalar if self.scalar else integrate_vector)
        self.chunks = chunks_of(self.starts, CHUNK_ROWS)
        parts = len(self.chunks) - 1 if self.scalar else G
        self.Z = np.array(factor.Z.T, float, order="C")
        self.modes, self.mean = np.zeros((G, q)), np.empty((G, q))
        self.value, self.t = np.empty(G), np.empty(n)
        self.gamma, self.gamma_dispersion = np.empty((parts, q, q)), np.empty(parts)
        self.precision, self.second = np.empty((G, q, q)), np.empty((G, q, q))

    def use_nodes(self, nodes: int) -> None:
        """Change the rule; modes are kept."""
        self.nodes = nodes
        self.rule = gauss_hermite(nodes, self.factor.q)

    def __call__(self, base, dispersion: float, factors, moments: bool = False) -> Pieces:
        """Integrate at the fixed part ``base`` of ``eta`` and the factor ``L = factors[0]``.

        With ``moments`` the posterior means of ``u`` are left in ``mean`` and ``second``.
        """
        run = self._scalar if self.scalar else self._vector
        work = len(self.y) * (len(self.rule[1]) + 3)
        arguments = (base, dispersion, factors[0], moments)
        failures = sum(
            in_threads(lambda a, b: run(a, b, *arguments), len(self.gamma), work // THREAD_WORK)
        )
        if failures:
            self.modes[:] = 0.0
            return Pieces(-inf, self.t, [np.full_like(factors[0], np.nan)], np.nan)
        gammas = [self.gamma.sum(axis=0)]
        return Pieces(float(self.value.sum()), self.t, gammas, float(self.gamma_dispersion.sum()))

    def _scalar(self, first: int, last: int, base, dispersion, L, moments) -> int:
        b, (x, log_factor) = self.blocks, self.rule
        return self._kernel(
            find_modes.pointer, b.density, b.score, b.spread, b.has_dispersion, moments,
            self.y, self.trials, base, dispersion, self.Z[0], L[0, 0],
            self.starts, self.chunks, first, last,
            x[:, 0], log_factor, NEWTON_DECREMENT, NEWTON_ROUNDS,
            self.modes.ravel(), self.value, self.t, self.gamma.ravel(), self.gamma_dispersion,
            self.precision.ravel(), self.mean.ravel(), self.second.ravel(),
        )  # fmt: skip

    def _vector(self, first: int, last: int, base, dispersion, L, moments) -> int:
        b = self.blocks
        return self._kernel(
            b.density, b.score, b.spread, b.has_dispersion,
            self.y, self.trials, base, dispersion, self.Z, L, self.starts, first, last,
            *self.rule, NEWTON_DECREMENT, NEWTON_ROUNDS,
            self.modes, self.value, self.t, self.gamma, self.gamma_dispersion,
            self.precision, self.mean, self.second,
        )  # fmt: skip

    def conditional(self, factors) -> list[tuple[np.ndarray, np.ndarray]]:
        """Modes of ``b = L u`` and their SDs from the curvature, shape ``(levels, q)`` each."""
        L = factors[0]
        covariance = L @ np.linalg.inv(self.precision) @ L.T
        return [(self.modes @ L.T, np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)))]

    def posterior_means(self, base, dispersion, factors) -> list[tuple[np.ndarray, np.ndarray]]:
        """``E[b | y]`` and the SDs of ``b | y`` by the rule, shape ``(levels, q)`` each."""
        self(base, dispersion, factors, moments=True)
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
