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
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from .covariance_factor import CovarianceFactor

# a coupling of the largest factor with the others that is fuller than this is kept dense
DENSE = 0.25


class MixedModelEquations:
    """The structure that stays while weights, response and variances change.

    Parameters
    ----------
    X
        Fixed-effect columns, shape ``(n, p)``.
    effects
        One object per grouping factor with ``index`` (n,), ``Z`` (n, q), ``n_levels`` and
        ``blocks``; rows are sorted by the factor with most levels (the first among equals).

    Raises
    ------
    ValueError
        If the rows are not sorted by the largest factor.
    """

    def __init__(self, X: np.ndarray, effects) -> None:
        self.X, self.effects = X, tuple(effects)
        self.n, self.p = X.shape
        self.largest = int(np.argmax([e.n_levels for e in self.effects]))
        self.first = self.effects[self.largest]
        if np.any(np.diff(self.first.index) < 0):
            raise ValueError("rows must be sorted by the grouping factor with most levels")
        self.start = np.flatnonzero(np.diff(self.first.index, prepend=-1))
        self.rest = tuple(e for k, e in enumerate(self.effects) if k != self.largest)
        self.factors = tuple(CovarianceFactor(e.blocks) for e in self.effects)
        self.n_rest = sum(e.n_levels * e.Z.shape[1] for e in self.rest)
        if self.rest:
            self.Z_first, self.Z_rest = indicator([self.first]), indicator(self.rest)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each factor's entries stand in ``theta``."""
        ends = np.cumsum([f.size for f in self.factors])
        return tuple(slice(e - f.size, e) for e, f in zip(ends, self.factors, strict=True))

    @property
    def n_theta(self) -> int:
        """Entries of ``theta``, all factors together."""
        return sum(f.size for f in self.factors)

    def start_theta(self, sd: float) -> np.ndarray:
        """Give uncorrelated effects that each add ``sd`` to the linear predictor (root mean square)."""
        parts = []
        for effect, factor in zip(self.effects, self.factors, strict=True):
            scale = np.sqrt(np.mean(effect.Z**2, axis=0))
            parts.append(factor.from_lower(np.diag(sd / np.where(scale > 0, scale, 1.0))))
        return np.concatenate(parts)

    def cross_products(self, z: np.ndarray, weight: np.ndarray) -> "CrossProducts":
        """Collect everything of response ``z`` (n,) and ``weight`` (n,) the equations need."""
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
        """``Z_1'W Z_r`` (sparse unless full), ``Z_r'W Z_r`` and ``Z_r'W [X, z]``."""
        height = self.first.n_levels * self.first.Z.shape[1]
        if not self.rest:
            return np.empty((height, 0)), np.empty((0, 0)), np.empty((0, self.p + 1))
        weighted = self.Z_rest.multiply(weight[:, None]).tocsr()
        coupling = (self.Z_first.T @ weighted).tocsr()
        if coupling.nnz > DENSE * height * self.n_rest:
            coupling = coupling.toarray()
        rest = (self.Z_rest.T @ weighted).toarray()
        return coupling, rest, weighted.T @ columns.T


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
    coupling: np.ndarray | sparse.csr_array
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
    """The solved equations at one ``theta``: estimates, predictions, criteria.

    Attributes
    ----------
    beta
        Generalized least squares estimate, shape ``(p,)``.
    effects
        Best linear unbiased predictions ``b``, one ``(levels, q)`` array per factor.
    rss
        ``z'Pz``.
    """

    def __init__(self, products: CrossProducts, theta: np.ndarray) -> None:
        self.products, self.theta = products, theta
        self.lower = [
            f.lower(theta[s])
            for f, s in zip(products.equations.factors, products.equations.slices, strict=True)
        ]
        self._eliminate_first()
        self._factor_schur()
        self._back_substitute()

    def _eliminate_first(self) -> None:
        """Remove the largest factor: what is left are inner products in ``V_1^{-1}``."""
        c, Lambda = self.products, self.lower[self.products.equations.largest]
        height = c.A.shape[0] * c.A.shape[1]
        root = cholesky_blocks(Lambda.T @ c.A @ Lambda + np.eye(len(Lambda)))
        self.T = solve_blocks(root, Lambda.T)  # (G, q, q): T'T = Lambda (..)^{-1} Lambda'
        self.TA = self.T @ c.A
        self.U = self.T @ c.B
        self.U_rest = block_product(self.T, c.coupling)
        U = self.U.reshape(height, -1)
        self.S_rest = c.rest - as_dense(self.U_rest.T @ self.U_rest)
        self.S_mixed = c.rest_columns - self.U_rest.T @ U
        self.S = c.columns - U.T @ U
        self.log_det_first = 2 * np.log(np.einsum("gii->gi", root)).sum()

    def _factor_schur(self) -> None:
        """Factor the Schur complement of the other factors (spherical) and beta."""
        r, p = self.products.equations.n_rest, self.products.equations.p
        C = np.empty((r + p, r + p))
        half = self._scaled_rest(self.S_rest)
        C[:r, :r] = self._scaled_rest(half.T) + np.eye(r)
        C[:r, r:] = self._scaled_rest(self.S_mixed[:, :p])
        C[r:, :r] = C[:r, r:].T
        C[r:, r:] = self.S[:p, :p]
        self.root = np.linalg.cholesky(C)
        diagonal = np.log(np.diag(self.root))
        self.log_det = (
            self.log_det_first + 2 * diagonal[:r].sum() - self.products.log_weight
        )  # log |V|
        self.log_det_beta = 2 * diagonal[r:].sum()  # log |X'V^{-1}X|

    def _back_substitute(self) -> None:
        """Find beta, ``Z'Pz`` and the predictions ``b = Lambda Lambda' Z'Pz`` of every factor."""
        c, e = self.products, self.products.equations
        r, p = e.n_rest, e.p
        right = np.concatenate([self._scaled_rest(self.S_mixed[:, p]), self.S[:p, p]])
        forward = solve_triangular(self.root, right, lower=True, check_finite=False)
        found = solve_triangular(self.root, forward, lower=True, trans=1, check_finite=False)
        self.rss = float(self.S[p, p] - forward @ forward)
        self.beta = found[r:]
        b_rest = self._scaled_rest(found[:r], transpose=False)
        score_rest = self.S_mixed[:, p] - self.S_mixed[:, :p] @ self.beta - self.S_rest @ b_rest
        left = c.B[:, :, p] - c.B[:, :, :p] @ self.beta
        left = left - (c.coupling @ b_rest).reshape(left.shape)
        score_first = left - np.einsum("gba,gb->ga", self.TA, np.einsum("gab,gb->ga", self.T, left))
        self.scores = self._in_order(score_first, score_rest[:, None], (-1,))
        self.effects = [
            k @ L @ L.T for k, L in zip(self.scores, self.lower, strict=True)
        ]

    def _scaled_rest(self, rows: np.ndarray, transpose: bool = True) -> np.ndarray:
        """Multiply rows (r, …) of the other factors by ``Lambda_r'`` (or ``Lambda_r``)."""
        e = self.products.equations
        out, at = np.empty_like(rows), 0
        for k, effect in enumerate(e.effects):
            if k == e.largest:
                continue
            L = self.lower[k].T if transpose else self.lower[k]
            block = slice(at, at + effect.n_levels * len(L))
            shaped = rows[block].reshape(effect.n_levels, len(L), -1)
            out[block] = (L @ shaped).reshape(rows[block].shape)
            at = block.stop
        return out

    def _in_order(self, first, rest, shape) -> list[np.ndarray]:
        """Split rows of the other factors by factor and put the largest in its place."""
        e = self.products.equations
        found, at = [], 0
        for k, effect in enumerate(e.effects):
            if k == e.largest:
                found.append(first)
                continue
            q = effect.Z.shape[1]
            part = rest[at : at + effect.n_levels * q]
            found.append(part.reshape(effect.n_levels, q, *shape).squeeze(-1))
            at += effect.n_levels * q
        return found
