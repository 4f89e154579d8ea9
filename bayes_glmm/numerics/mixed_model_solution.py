"""The mixed model equations solved at one point: estimates, predictions, criterion, gradient.

Formulas and notation are those of ``mixed_model_equations``. The Lambdas within are those of the
standardised columns of the effects; what comes out is in the user's terms.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from .level_blocks import (
    as_dense,
    cholesky_blocks,
    inner,
    inner_by_level,
    inverse_of,
    multiply_blocks,
    product,
    solve_blocks,
    triangular,
)
from .sparse_root import SparseRoot

if TYPE_CHECKING:
    from .mixed_model_equations import CrossProducts


class Solution:
    """The solved equations at one ``theta``: estimates, predictions, criterion.

    Attributes
    ----------
    beta
        Generalized least squares estimate, shape ``(p,)``.
    spherical
        ``v`` with the predictions ``b = Lambda v``, one array ``(levels, q)`` per factor.
    rss
        ``z'Pz``.
    log_det, log_det_beta
        ``log|V|`` and ``log|X'V^{-1}X|``.
    """

    def __init__(self, products: "CrossProducts", theta: np.ndarray) -> None:
        e = products.equations
        self.products, self.theta = products, theta
        parts = zip(e.factors, e.slices, e.standard, strict=True)
        self.lower = [s.inner(f.factor(theta[part])) for f, part, s in parts]
        self.lower_first = self.lower[e.largest] if e.largest >= 0 else np.zeros((1, 1))
        self._eliminate_first()
        self._factor_schur()
        self._predict(self._estimate())

    def _eliminate_first(self) -> None:
        """Remove the largest factor: what is left are inner products in ``V_1^{-1}``.

        ``V_1 = W^{-1} + Z_1 Lambda_1 Lambda_1' Z_1'``, and ``T'T = Lambda_1 (Lambda_1'A
        Lambda_1 + I)^{-1} Lambda_1'`` level by level.
        """
        c, L = self.products, self.lower_first
        root = cholesky_blocks(L.T @ c.A @ L + np.eye(len(L)))
        self.T = solve_blocks(root, L.T)
        self.TA, TB = product(self.T, c.A), product(self.T, c.B)
        U = TB.reshape(-1, TB.shape[2])
        self.TB = TB
        if c.equations.n_rest:
            self.T_rest = multiply_blocks(self.T, c.coupling)
            inner = self.T_rest.T @ self.T_rest
            self.S_rest = c.rest - (inner if sparse.issparse(c.rest) else as_dense(inner))
            self.S_mixed = c.rest_columns - self.T_rest.T @ U
        self.S = c.columns - U.T @ U
        self.log_det = 2 * np.log(np.einsum("gii->gi", root)).sum() - c.log_weight
        self.log_det += c.equations.log_det_relatives

    def _factor_schur(self) -> None:
        """Factor the Schur complement of the other factors (spherical) and beta."""
        e = self.products.equations
        r, p = e.n_rest, e.p
        if not r:
            self.root = np.linalg.cholesky(self.S[:p, :p])
            self.log_det_beta = 2 * np.log(np.diag(self.root)).sum()
            return
        C = np.empty((r + p, r + p))
        self.loaded = e.multiply_rest(self.lower, self.S_rest, transpose=True).T  # S Lambda
        C[:r, :r] = e.multiply_rest(self.lower, self.loaded, transpose=True)
        C[:r, :r].flat[:: r + 1] += 1.0
        if e.precision is not None:
            C[:r, :r] += e.precision.toarray()
        C[:r, r:] = e.multiply_rest(self.lower, self.S_mixed[:, :p], transpose=True)
        C[r:, :r] = C[:r, r:].T
        C[r:, r:] = self.S[:p, :p]
        self.root = np.linalg.cholesky(C)
        diagonal = 2 * np.log(np.diag(self.root))
        self.log_det += diagonal[:r].sum()
        self.log_det_beta = diagonal[r:].sum()

    def _estimate(self) -> np.ndarray:
        """Find beta and ``z'Pz``, and give ``u`` of the other factors, shape ``(r,)``."""
        e = self.products.equations
        r, p = e.n_rest, e.p
        right = self.S[:p, p]
        if r:
            spherical = e.multiply_rest(self.lower, self.S_mixed[:, p], transpose=True)
            right = np.concatenate([spherical, right])
        forward = triangular(self.root, right)
        found = triangular(self.root, forward, transpose=True)
        self.rss: float = np.float64(self.S[p, p] - forward @ forward)
        self.beta = found[r:]
        return found[:r]

    def _predict(self, u: np.ndarray) -> None:
        """Find ``Z'Pz`` and the spherical predictions, ``v = A Lambda' Z'Pz``."""
        c, e = self.products, self.products.equations
        p = e.p
        left = c.B[:, :, p] - c.B[:, :, :p] @ self.beta
        score = u
        if e.n_rest:
            b = e.multiply_rest(self.lower, u)
            score = self.S_mixed[:, p] - self.S_mixed[:, :p] @ self.beta - self.S_rest @ b
            left = left - (c.coupling @ b).reshape(left.shape)
        left = left[:, :, None]
        first = left - product(self.TA.transpose(0, 2, 1), product(self.T, left))
        self.scores = self._by_factor(
            first[:, :, 0], lambda k, part: score[part].reshape(-1, e.factors[k].q)
        )
        self.spherical = self._by_factor(
            first[:, :, 0] @ self.lower_first, lambda k, part: u[part].reshape(-1, e.factors[k].q)
        )

    @cached_property
    def effects(self) -> list[np.ndarray]:
        """Best linear unbiased predictions ``b``, one array ``(levels, q)`` per factor."""
        parts = zip(self.products.equations.standard, self.spherical, self.lower, strict=True)
        return [s.outer(v @ L.T) for s, v, L in parts]

    def _by_factor(self, first, rest) -> list[np.ndarray]:
        """Put the largest factor's array among those of the others, factors in order."""
        e = self.products.equations
        found = {e.largest: first} | {k: rest(k, part) for k, part in e.rest}
        return [found[k] for k in range(len(e.effects))]

    def beta_covariance(self) -> np.ndarray:
        """``(X'V^{-1}X)^{-1}``, shape ``(p, p)``; times phi it is the covariance of beta."""
        r = self.products.equations.n_rest
        inverse = triangular(self.root[r:, r:], np.eye(len(self.root) - r))
        return inverse.T @ inverse

    @cached_property
    def inverse(self) -> Any:
        """``C^{-1}`` of the spherical effects of the other factors, beta apart: ``(r, r)``."""
        r = self.products.equations.n_rest
        return inverse_of(self.root[:r, :r])

    @cached_property
    def fixed_columns(self) -> np.ndarray:
        """``F = C^{-1} Lambda'Z_r'V_1^{-1}X``, shape ``(r, p)``."""
        r = self.products.equations.n_rest
        return triangular(self.root[:r, :r], self.root[r:, :r].T, transpose=True)

    def _load(self, rows: np.ndarray) -> Any:
        """Multiply rows (r, …) by the ``Lambda`` of the other factors."""
        return self.products.equations.multiply_rest(self.lower, rows)

    @cached_property
    def _turned(self) -> Any:
        """``Lambda C^{-1} Lambda'`` of the other factors, ``(r, r)``."""
        return self._load(self._load(self.inverse).T)

    @cached_property
    def _meeting(self) -> Any:
        """``Z_1'V_1^{-1}Z_r``, shape ``(G q, r)``, sparse where the coupling is."""
        return self.products.coupling - multiply_blocks(self.TA.transpose(0, 2, 1), self.T_rest)

    def _without_rest(self, reml: bool) -> np.ndarray:
        """``Z_l'QZ_l`` of the largest factor, ``(G, q, q)``, but for what the others take."""
        c, e = self.products, self.products.equations
        back = self.TA.transpose(0, 2, 1)
        form = c.A - product(back, self.TA)
        if not (reml and e.p):
            return form
        q = len(self.lower_first)
        columns = (c.B - product(back, self.TB))[:, :, : e.p].reshape(len(c.A) * q, e.p)
        if e.n_rest:
            columns = columns - self._meeting @ self._load(self.fixed_columns)  # Z_1'V^{-1}X
        return form - inner_by_level(columns @ self.beta_covariance(), columns, q)

    @cached_property
    def _taken_by_rest(self) -> np.ndarray:
        """What the other factors take of ``Z_l'V_1^{-1}Z_l``, by level: ``(G, q, q)``."""
        q = len(self.lower_first)
        return inner_by_level(self._meeting @ self._turned, self._meeting, q)

    def _total_taken(self) -> np.ndarray:
        """Sum the same over the levels, ``(q, q)``, from the levels' meetings in pairs alone."""
        q = len(self.lower_first)
        total = np.empty((q, q))
        for a in range(q):
            for b in range(a + 1):
                pairs = self._meeting[a::q].T @ self._meeting[b::q]
                total[a, b] = total[b, a] = inner(pairs, self._turned)
        return total

    def _rest_form(self, k: int, part: slice, reml: bool) -> np.ndarray:
        """``Z_l'QZ_l Lambda`` of one of the other factors, ``(levels, q, q)``.

        ``Z_r'V^{-1}Z_r Lambda = S Lambda C^{-1}`` and ``Lambda'Z_r'V^{-1}X = F``.
        """
        q = self.products.equations.factors[k].q
        form = inner_by_level(self.loaded[part], self.inverse[part], q)
        if not reml:
            return form
        F = self.fixed_columns
        mixed = self.S_mixed[part, : F.shape[1]] - self.loaded[part] @ F
        return form - inner_by_level(mixed @ self.beta_covariance(), F[part], q)

    def forms(self, reml: bool) -> list[np.ndarray]:
        """``Z_l'QZ_l Lambda`` by level, ``(levels, q, q)`` per factor; Q is P or ``V^{-1}``.

        Z and Lambda are those of the standardised columns. REML takes
        ``Z'V^{-1}X M^{-1} X'V^{-1}Z Lambda`` from what ML has.
        Of related levels they are the blocks of ``Z'QZ (A x Lambda)``.
        """
        e = self.products.equations
        first = self._without_rest(reml)
        if e.n_rest:
            first = first - self._taken_by_rest
        return self._by_factor(
            first @ self.lower_first, lambda k, part: self._rest_form(k, part, reml)
        )

    def form_sums(self, reml: bool) -> list[np.ndarray]:
        """Give the sums of ``forms`` over the levels, ``(q, q)`` per factor, which cost less."""
        e = self.products.equations
        first = self._without_rest(reml).sum(axis=0)
        if e.n_rest:
            first = first - self._total_taken()
        return self._by_factor(
            first @ self.lower_first,
            lambda k, part: self._rest_form(k, part, reml).sum(axis=0),
        )

    def prediction_covariance(self, reml: bool = True) -> list[np.ndarray]:
        r"""Var(b - b^) by level, beta estimated or known: ``(levels, q, q)`` per factor, phi = 1.

        :math:`\Sigma - \Sigma Z'QZ\Sigma` with :math:`\Sigma = \Lambda\Lambda'` (Henderson 1975),
        Q being P or :math:`V^{-1}`; of related levels by the inverse of the equations.
        """
        e = self.products.equations
        found = [
            L @ L.T - L @ L.T @ form @ L.T
            for L, form in zip(self.lower, self.forms(reml), strict=True)
        ]
        for k, part in e.rest:
            if e.related[k]:
                L = self.lower[k]
                found[k] = L @ self._inverse_blocks(part, len(L), reml) @ L.T
        return [s.outer_covariance(C) for s, C in zip(e.standard, found, strict=True)]

    def _inverse_blocks(self, part: slice, q: int, reml: bool) -> np.ndarray:
        """Var(v - v^) of one of the other factors by level, ``(levels, q, q)``."""
        own = self.inverse[part, part]
        found = np.empty((own.shape[0] // q, q, q))
        for a in range(q):
            for b in range(q):
                found[:, a, b] = own[a::q, b::q].diagonal()
        F = self.fixed_columns[part]
        return found + inner_by_level(F @ self.beta_covariance(), F, q) if reml else found

    def criterion(self, reml: bool, phi: float | None = 1.0) -> float:
        """Minus twice the (restricted) log-likelihood; None profiles over ``phi``."""
        nu = self.degrees_of_freedom(reml)
        phi = self.rss / nu if phi is None else phi
        beta = self.log_det_beta if reml else 0.0
        return self.log_det + beta + self.rss / phi + nu * np.log(2 * np.pi * phi)

    def gradient(self, reml: bool, phi: float | None = 1.0) -> np.ndarray:
        """Differentiate ``criterion`` by ``theta``, at fixed or profiled ``phi``."""
        e = self.products.equations
        phi = self.rss / self.degrees_of_freedom(reml) if phi is None else phi
        parts = []
        for factor, k, v, form in zip(
            e.factors, self.scores, self.spherical, self.form_sums(reml), strict=True
        ):
            parts.append(factor.gradient(2 * (form - k.T @ v / phi)))
        return np.concatenate(parts) @ e.inner_jacobian

    def degrees_of_freedom(self, reml: bool) -> int:
        """``n - p`` for REML, n for ML."""
        n, p = self.products.equations.X.shape
        return n - p if reml else n


class SparseSolution(Solution):
    r"""The same where the complement ``C`` of the other factors is sparse, beta its border.

    .. math:: \begin{pmatrix} C & K \\ K' & S_\beta \end{pmatrix}^{-1} =
       \begin{pmatrix} C^{-1} + F M^{-1} F' & -F M^{-1} \\ -M^{-1} F' & M^{-1} \end{pmatrix},
       \qquad F = C^{-1} K, \quad M = S_\beta - K'F.

    Of ``C^{-1}`` only the entries at the pattern of its factor are formed: where two effects
    meet in a level of the largest factor.
    """

    def _factor_schur(self) -> None:
        """Factor ``C``, and ``M`` with the response as its last row and column."""
        e = self.products.equations
        assert e.sparsity is not None
        self.Lambda = e.block_lambda(self.lower)
        self.loaded = self.S_rest @ self.Lambda
        products = self.Lambda.T @ self.loaded
        self.C = SparseRoot(e.sparsity, products if e.precision is None else products + e.precision)
        K = self.Lambda.T @ self.S_mixed
        self.F = self.C.solve(K)
        self.M = self.S - K.T @ self.F
        self.root = np.linalg.cholesky(self.M[:-1, :-1])
        self.log_det += self.C.log_det
        self.log_det_beta = 2 * np.log(np.diag(self.root)).sum()

    def _estimate(self) -> np.ndarray:
        """Find beta and ``z'Pz``, and give ``u`` of the other factors, shape ``(r,)``."""
        forward = triangular(self.root, self.M[:-1, -1])
        self.rss = np.float64(self.M[-1, -1] - forward @ forward)
        self.beta = triangular(self.root, forward, transpose=True)
        return self.F[:, -1] - self.F[:, :-1] @ self.beta

    def beta_covariance(self) -> np.ndarray:
        """``(X'V^{-1}X)^{-1} = M^{-1}``, shape ``(p, p)``; times phi the covariance of beta."""
        inverse = triangular(self.root, np.eye(len(self.root)))
        return inverse.T @ inverse

    def _load(self, rows: Any) -> Any:
        """Multiply rows (r, …) by the ``Lambda`` of the other factors."""
        return self.Lambda @ rows

    @cached_property
    def inverse(self) -> Any:
        """Entries of ``C^{-1}`` at the pattern of its factor, sparse ``(r, r)``."""
        return self.C.inverse

    @cached_property
    def fixed_columns(self) -> np.ndarray:
        """``F = C^{-1} Lambda'Z_r'V_1^{-1}X``, shape ``(r, p)``."""
        return self.F[:, :-1]
