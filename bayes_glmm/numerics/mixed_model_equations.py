r"""Henderson's mixed model equations of a weighted linear mixed model, and its criteria.

.. math:: z = X\beta + \sum_g Z_g b_g + e, \qquad b_g \sim N(0, \phi\,\Lambda_g\Lambda_g'),
   \quad e \sim N(0, \phi W^{-1})

With :math:`b = \Lambda u` the equations (Henderson 1963) are

.. math:: \begin{pmatrix} \Lambda'Z'WZ\Lambda + I & \Lambda'Z'WX \\ X'WZ\Lambda & X'WX
   \end{pmatrix} \begin{pmatrix} u \\ \beta \end{pmatrix} =
   \begin{pmatrix} \Lambda'Z'Wz \\ X'Wz \end{pmatrix}.

The rows of the grouping factor with most levels form a block-diagonal part, which is
eliminated level by level; a dense Schur complement is left for the other factors and beta.
Zero variances are ordinary points. With :math:`V = W^{-1} + Z\Lambda\Lambda'Z'` and
:math:`P = V^{-1} - V^{-1}X(X'V^{-1}X)^{-1}X'V^{-1}`, minus twice the log-likelihood, profiled
over beta, is

.. math:: \log|V| + [\log|X'V^{-1}X|]_{REML} + z'Pz/\phi + \nu\log(2\pi\phi),

:math:`\nu = n - p` for REML (Patterson & Thompson 1971) and n for ML; its derivative by
:math:`\Lambda_g` is :math:`2\sum_l (Z_{gl}'QZ_{gl} - Z_{gl}'Pz\,z'PZ_{gl}/\phi)\Lambda_g` with
:math:`Q = P` for REML and :math:`V^{-1}` for ML.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import get_lapack_funcs

from .covariance import Covariance

# the coupling of the largest factor with the others is kept dense where it is small or full
SMALL, FULL = 200_000, 0.25

(_solve_triangular,) = get_lapack_funcs(("trtrs",), dtype=float)


class MixedModelEquations:
    """The structure that stays while weights, response and variances change.

    Parameters
    ----------
    X
        Fixed-effect columns, shape ``(n, p)``.
    effects
        One object per grouping factor with ``index`` (n,), ``Z`` (n, q), ``n_levels`` and
        ``blocks``; rows are sorted by the factor with most levels (the first among equals).

    Attributes
    ----------
    factors
        The entries of each factor's Lambda.
    slices
        Where they stand in ``theta``.
    rest
        ``(position, columns)`` of each factor but the largest: its columns in the dense part.

    Raises
    ------
    ValueError
        If the rows are not sorted by the largest factor.
    """

    def __init__(self, X: np.ndarray, effects) -> None:
        self.X, self.effects = X, tuple(effects)
        self.p = X.shape[1]
        self.largest = int(np.argmax([e.n_levels for e in self.effects]))
        self.first = self.effects[self.largest]
        if np.any(np.diff(self.first.index) < 0):
            raise ValueError("rows must be sorted by the grouping factor with most levels")
        self.start = np.flatnonzero(np.diff(self.first.index, prepend=-1))
        self.factors = tuple(Covariance(e.blocks) for e in self.effects)
        self.slices = consecutive([f.size for f in self.factors])
        others = [k for k in range(len(self.effects)) if k != self.largest]
        widths = [self.effects[k].n_levels * self.factors[k].q for k in others]
        self.rest = tuple(zip(others, consecutive(widths), strict=True))
        self.n_rest = sum(widths)
        if others:
            self.Z_first = indicator([self.first])
            self.Z_rest = indicator([self.effects[k] for k in others])

    def unit_theta(self) -> np.ndarray:
        """Give uncorrelated effects of root mean square 1 on the linear predictor."""
        scale = zip(self.factors, self._row_scale(), strict=True)
        return np.concatenate([np.diag(s)[f.entries] for f, s in scale])

    def theta_scale(self) -> np.ndarray:
        """Give each entry's size where its effect has root mean square 1: no zeros."""
        scale = zip(self.factors, self._row_scale(), strict=True)
        return np.concatenate([s[f.entries[0]] for f, s in scale])

    def _row_scale(self) -> list[np.ndarray]:
        root = [np.sqrt(np.mean(e.Z**2, axis=0)) for e in self.effects]
        return [1 / np.where(r > 0, r, 1.0) for r in root]

    def cross_products(self, z: np.ndarray, weight: np.ndarray) -> "CrossProducts":
        """Collect all that the equations need of response ``z`` (n,) and ``weight`` (n,)."""
        first, q = self.first, self.first.Z.shape[1]
        columns = np.vstack([self.X.T, z])
        weighted = columns * weight
        A = np.empty((first.n_levels, q, q))
        B = np.empty((first.n_levels, q, self.p + 1))
        for a in range(q):
            Za = first.Z[:, a]
            B[:, a] = np.add.reduceat(weighted * Za, self.start, axis=1).T
            for b in range(a + 1):
                total = np.add.reduceat(weight * Za * first.Z[:, b], self.start)
                A[:, a, b] = A[:, b, a] = total
        coupling, rest, rest_columns = self._rest_products(weight, columns)
        return CrossProducts(
            self, A, B, coupling, rest, rest_columns, weighted @ columns.T, np.log(weight).sum()
        )

    def _rest_products(self, weight, columns):
        """``Z_1'W Z_r`` (sparse unless small or full), ``Z_r'W Z_r`` and ``Z_r'W [X, z]``."""
        height = self.first.n_levels * self.first.Z.shape[1]
        if not self.rest:
            return np.empty((height, 0)), np.empty((0, 0)), np.empty((0, self.p + 1))
        weighted = self.Z_rest.copy()
        weighted.data *= np.repeat(weight, np.diff(weighted.indptr))
        coupling = (self.Z_first.T @ weighted).tocsr()
        if height * self.n_rest < SMALL or coupling.nnz > FULL * height * self.n_rest:
            coupling = coupling.toarray()
        return coupling, (self.Z_rest.T @ weighted).toarray(), weighted.T @ columns.T

    def multiply_rest(self, lower, rows: np.ndarray, transpose: bool = False) -> np.ndarray:
        """Multiply rows (r, …) of the other factors by their ``Lambda``, or its transpose."""
        out = np.empty_like(rows)
        for k, part in self.rest:
            L = lower[k].T if transpose else lower[k]
            shaped = rows[part].reshape(self.effects[k].n_levels, len(L), -1)
            out[part] = (L @ shaped).reshape(rows[part].shape)
        return out


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Weighted cross-products, free of the variances.

    Attributes
    ----------
    equations
        Their structure.
    A
        ``Z_1'W Z_1`` by level of the largest factor, shape ``(G, q, q)``.
    B
        ``Z_1'W [X, z]``, shape ``(G, q, p + 1)``.
    coupling, rest, rest_columns
        ``Z_1'W Z_r`` (G q, r), ``Z_r'W Z_r`` (r, r) and ``Z_r'W [X, z]`` (r, p + 1) with the
        r columns of the other factors.
    columns
        ``[X, z]'W [X, z]``, shape ``(p + 1, p + 1)``.
    log_weight
        Sum of the logarithms of the weights.
    """

    equations: MixedModelEquations
    A: np.ndarray
    B: np.ndarray
    coupling: Any
    rest: np.ndarray
    rest_columns: np.ndarray
    columns: np.ndarray
    log_weight: float

    def solve(self, theta: np.ndarray) -> "Solution":
        """Solve the equations at ``theta`` (entries of the Lambdas, factors in order).

        Raises
        ------
        numpy.linalg.LinAlgError
            If ``X'V^{-1}X`` is not positive definite to working precision.
        """
        return Solution(self, np.asarray(theta, float))


class Solution:
    """The solved equations at one ``theta``: estimates, predictions, criterion.

    Attributes
    ----------
    beta
        Generalized least squares estimate, shape ``(p,)``.
    effects
        Best linear unbiased predictions ``b``, one array ``(levels, q)`` per factor.
    rss
        ``z'Pz``.
    log_det, log_det_beta
        ``log|V|`` and ``log|X'V^{-1}X|``.
    """

    def __init__(self, products: CrossProducts, theta: np.ndarray) -> None:
        e = products.equations
        self.products, self.theta = products, theta
        self.lower = [f.factor(theta[s]) for f, s in zip(e.factors, e.slices, strict=True)]
        self._eliminate_first()
        self._factor_schur()
        self._predict()

    def _eliminate_first(self) -> None:
        """Remove the largest factor: what is left are inner products in ``V_1^{-1}``.

        ``V_1 = W^{-1} + Z_1 Lambda_1 Lambda_1' Z_1'``, and ``T'T = Lambda_1 (Lambda_1'A
        Lambda_1 + I)^{-1} Lambda_1'`` level by level.
        """
        c, L = self.products, self.lower[self.products.equations.largest]
        root = cholesky_blocks(L.T @ c.A @ L + np.eye(len(L)))
        self.T = solve_blocks(root, L.T)
        self.TA, TB = self.T @ c.A, self.T @ c.B
        self.T_rest = multiply_blocks(self.T, c.coupling)
        U = TB.reshape(-1, TB.shape[2])
        self.TB = TB
        self.S_rest = c.rest - as_dense(self.T_rest.T @ self.T_rest)
        self.S_mixed = c.rest_columns - self.T_rest.T @ U
        self.S = c.columns - U.T @ U
        self.log_det = 2 * np.log(np.einsum("gii->gi", root)).sum() - c.log_weight

    def _factor_schur(self) -> None:
        """Factor the Schur complement of the other factors (spherical) and beta."""
        e = self.products.equations
        r, p = e.n_rest, e.p
        C = np.empty((r + p, r + p))
        half = e.multiply_rest(self.lower, self.S_rest, transpose=True)
        C[:r, :r] = e.multiply_rest(self.lower, half.T, transpose=True) + np.eye(r)
        C[:r, r:] = e.multiply_rest(self.lower, self.S_mixed[:, :p], transpose=True)
        C[r:, :r] = C[:r, r:].T
        C[r:, r:] = self.S[:p, :p]
        self.root = np.linalg.cholesky(C)
        diagonal = 2 * np.log(np.diag(self.root))
        self.log_det += diagonal[:r].sum()
        self.log_det_beta = diagonal[r:].sum()

    def _predict(self) -> None:
        """Find beta, ``Z'Pz`` and the predictions ``b = Lambda Lambda' Z'Pz``."""
        c, e = self.products, self.products.equations
        r, p = e.n_rest, e.p
        spherical = e.multiply_rest(self.lower, self.S_mixed[:, p], transpose=True)
        forward = triangular(self.root, np.concatenate([spherical, self.S[:p, p]]))
        found = triangular(self.root, forward, transpose=True)
        self.rss = float(self.S[p, p] - forward @ forward)
        self.beta = found[r:]
        b = e.multiply_rest(self.lower, found[:r])
        score = self.S_mixed[:, p] - self.S_mixed[:, :p] @ self.beta - self.S_rest @ b
        left = c.B[:, :, p] - c.B[:, :, :p] @ self.beta
        left = (left - (c.coupling @ b).reshape(left.shape))[:, :, None]
        first = left - self.TA.transpose(0, 2, 1) @ (self.T @ left)
        self.scores = self._by_factor(
            first[:, :, 0], lambda k, part: score[part].reshape(-1, e.factors[k].q)
        )
        self.effects = [k @ L @ L.T for k, L in zip(self.scores, self.lower, strict=True)]

    def _by_factor(self, first, rest) -> list[np.ndarray]:
        """Put the largest factor's array among those of the others, factors in order."""
        e = self.products.equations
        found = {k: rest(k, part) for k, part in e.rest} | {e.largest: first}
        return [found[k] for k in range(len(e.effects))]

    def beta_covariance(self) -> np.ndarray:
        """``(X'V^{-1}X)^{-1}``, shape ``(p, p)``; times phi it is the covariance of beta."""
        r = self.products.equations.n_rest
        inverse = triangular(self.root[r:, r:], np.eye(len(self.root) - r))
        return inverse.T @ inverse

    def forms(self, reml: bool) -> list[np.ndarray]:
        """``Z_l'QZ_l Lambda`` by level, ``(levels, q, q)`` per factor; Q is P or ``V^{-1}``."""
        c, e = self.products, self.products.equations
        r = e.n_rest
        m = r + e.p if reml else r
        root = triangular(self.root[:m, :m], np.eye(m))
        inverse = root.T @ root
        back = self.TA.transpose(0, 2, 1)
        # Z_1'V_1^{-1} [Z_r, X] and its coefficients in the inverse, Lambda_r put in
        rest = c.coupling - multiply_blocks(back, self.T_rest)
        columns = (c.B - back @ self.TB)[:, :, : m - r].reshape(c.coupling.shape[0], m - r)
        loaded = e.multiply_rest(self.lower, inverse[:r])
        turned = e.multiply_rest(self.lower, loaded[:, :r].T).T
        q = e.factors[e.largest].q
        used = inner_by_level(rest @ turned + columns @ loaded[:, r:].T, rest, q)
        used += inner_by_level(rest @ loaded[:, r:] + columns @ inverse[r:, r:], columns, q)
        first = (c.A - back @ self.TA - used) @ self.lower[e.largest]
        whole = np.hstack([self.S_rest, self.S_mixed[:, : m - r]])
        solved = np.vstack([loaded, inverse[r:]])

        def by_level(k, part):
            q = e.factors[k].q
            rows, right = whole[part].reshape(-1, q, m), solved[:, part].T.reshape(-1, q, m)
            return rows @ right.transpose(0, 2, 1)

        return self._by_factor(first, by_level)

    def prediction_covariance(self) -> list[np.ndarray]:
        r"""Var(b - b^) by level, beta estimated: ``(levels, q, q)`` per factor, at phi = 1.

        :math:`\Sigma - \Sigma Z'PZ\Sigma` with :math:`\Sigma = \Lambda\Lambda'` (Henderson 1975).
        """
        return [
            L @ L.T - L @ L.T @ form @ L.T
            for L, form in zip(self.lower, self.forms(True), strict=True)
        ]

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
        for factor, L, k, form in zip(
            e.factors, self.lower, self.scores, self.forms(reml), strict=True
        ):
            parts.append(factor.gradient(2 * (form.sum(axis=0) - k.T @ k @ L / phi)))
        return np.concatenate(parts)

    def degrees_of_freedom(self, reml: bool) -> int:
        """``n - p`` for REML, n for ML."""
        n, p = self.products.equations.X.shape
        return n - p if reml else n


def consecutive(sizes: list[int]) -> tuple[slice, ...]:
    """Slices of these lengths, one after the other."""
    ends = np.cumsum(sizes, dtype=int)
    return tuple(slice(int(e - s), int(e)) for e, s in zip(ends, sizes, strict=True))


def indicator(effects) -> sparse.csr_array:
    """Write the columns of several factors side by side: sparse, ``(n, sum of levels * q)``."""
    n = len(effects[0].index)
    at = consecutive([e.n_levels * e.Z.shape[1] for e in effects])
    columns = [
        part.start + e.Z.shape[1] * e.index[:, None] + np.arange(e.Z.shape[1])
        for e, part in zip(effects, at, strict=True)
    ]
    where, values = np.hstack(columns), np.hstack([e.Z for e in effects])
    pointer = np.arange(0, where.size + 1, where.shape[1])
    return sparse.csr_array((values.ravel(), where.ravel(), pointer), shape=(n, at[-1].stop))


def triangular(root: np.ndarray, right: np.ndarray, transpose: bool = False) -> np.ndarray:
    """Solve with a lower triangular matrix, C-ordered, or its transpose."""
    if not root.size:
        return right.copy()
    # LAPACK reads columns, so the C-ordered lower root is an upper matrix to it
    return _solve_triangular(root.T, right, lower=0, trans=0 if transpose else 1)[0]


def cholesky_blocks(blocks: np.ndarray) -> np.ndarray:
    """Factor many small matrices ``(G, q, q)``, all at once: a loop over q only."""
    root = np.zeros_like(blocks)
    for j in range(blocks.shape[1]):
        left = root[:, j:, :j] @ root[:, j, :j, None]
        column = blocks[:, j:, j] - left[:, :, 0]
        root[:, j:, j] = column / np.sqrt(column[:, :1])
    return root


def solve_blocks(roots: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve ``roots[g] x = right``, lower triangular, for every g: ``(G, q, q)``."""
    out = np.empty_like(roots)
    for i in range(roots.shape[1]):
        known = (roots[:, i, None, :i] @ out[:, :i])[:, 0]
        out[:, i] = (right[i] - known) / roots[:, i, i, None]
    return out


def multiply_blocks(blocks: np.ndarray, rows):
    """Multiply rows (G q, …), dense or sparse, by a block-diagonal matrix ``(G, q, q)``."""
    G, q, _ = blocks.shape
    if not sparse.issparse(rows):
        return (blocks @ rows.reshape(G, q, rows.shape[1])).reshape(rows.shape)
    columns = np.broadcast_to(q * np.arange(G)[:, None, None] + np.arange(q), (G, q, q))
    pointer = np.arange(0, G * q * q + 1, q)
    return sparse.csr_array((blocks.ravel(), columns.ravel(), pointer), shape=(G * q, G * q)) @ rows


def inner_by_level(left: np.ndarray, right, q: int) -> np.ndarray:
    """Inner products of the q rows of each level: ``(G q, m)`` twice to ``(G, q, q)``."""
    G, m = left.shape[0] // q, left.shape[1]
    if not sparse.issparse(right):
        return left.reshape(G, q, m) @ right.reshape(G, q, m).transpose(0, 2, 1)
    out = np.empty((G, q, q))
    for a in range(q):
        for b in range(q):
            out[:, a, b] = right[b::q].multiply(left[a::q]).sum(axis=1)
    return out


def as_dense(matrix) -> np.ndarray:
    """Write a sparse matrix out; an array passes through."""
    return matrix.toarray() if sparse.issparse(matrix) else matrix
