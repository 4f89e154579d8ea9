r"""Henderson's mixed model equations of a weighted linear mixed model, and its criteria.

.. math:: z = X\beta + \sum_g Z_g b_g + e, \qquad b_g \sim N(0, \phi\,\Lambda_g\Lambda_g'),
   \quad e \sim N(0, \phi W^{-1})

With :math:`b = \Lambda u` the equations (Henderson 1963) are

.. math:: \begin{pmatrix} \Lambda'Z'WZ\Lambda + I & \Lambda'Z'WX \\ X'WZ\Lambda & X'WX
   \end{pmatrix} \begin{pmatrix} u \\ \beta \end{pmatrix} =
   \begin{pmatrix} \Lambda'Z'Wz \\ X'Wz \end{pmatrix}.

The rows of the grouping factor with most levels form a block-diagonal part, which is
eliminated level by level; a Schur complement is left for the other factors and beta. It is
dense where these are crossed, and sparse where they are nested in one another.
Levels with a known covariance ``A`` have :math:`v \sim N(0, A \otimes I)` instead of u, and
:math:`A^{-1} \otimes I` instead of I in the equations (Henderson 1976); their factor is never the
one eliminated.
Zero variances are ordinary points. With :math:`V = W^{-1} + Z\Lambda\Lambda'Z'` and
:math:`P = V^{-1} - V^{-1}X(X'V^{-1}X)^{-1}X'V^{-1}`, minus twice the log-likelihood, profiled
over beta, is

.. math:: \log|V| + [\log|X'V^{-1}X|]_{REML} + z'Pz/\phi + \nu\log(2\pi\phi),

:math:`\nu = n - p` for REML (Patterson & Thompson 1971) and n for ML; its derivative by
:math:`\Lambda_g` is :math:`2\sum_l (Z_{gl}'QZ_{gl} - Z_{gl}'Pz\,z'PZ_{gl}/\phi)\Lambda_g` with
:math:`Q = P` for REML and :math:`V^{-1}` for ML.
"""

from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from .covariance import Covariance
from .level_blocks import consecutive, indicator, product, triangular
from .mixed_model_solution import Solution, SparseSolution
from .sparse_root import Sparsity
from .standardise import StandardisedEffects, scale_effects, standardise_effects, usual_size

# the coupling of the largest factor with the others is kept dense where it is small or full
SMALL, FULL = 200_000, 0.25
FEW = 100  # effects of the other factors: below, a dense complement costs least


class NoEffects:
    """One level whose effect has no columns: in the place of a factor to eliminate."""

    n_levels = 1

    def __init__(self, n: int) -> None:
        self.index, self.Z = np.zeros(n, np.int64), np.zeros((n, 1))


class MixedModelEquations:
    """The structure that stays while weights, response and variances change.

    Parameters
    ----------
    X
        Fixed-effect columns, shape ``(n, p)``.
    effects
        One object per grouping factor with ``index`` (n,), ``Z`` (n, q), ``n_levels``,
        ``blocks`` and ``relationship`` (None where its levels are independent). The factor with
        most levels (the first among equals) is eliminated where the rows are sorted by it and
        its levels are independent; otherwise none is, which costs more.

    Attributes
    ----------
    factors
        The entries of each factor's Lambda.
    slices
        Where they stand in ``theta``.
    standard, inner
        The factors' effects standardised, and those of the standardised columns, which the
        cross-products are of: a column far from zero costs no digits.
    largest, first
        Position of the factor that is eliminated, -1 for none, and that factor.
    related, precision, log_det_relatives
        Which factors have related levels; ``A^{-1} - I`` of the other factors' effects, sparse
        ``(r, r)``, None where all are independent; and the sum of ``log|A|``.
    rest
        ``(position, columns)`` of each factor but the largest: its columns in the complement.
    sparsity
        Of the complement; None where it is taken as dense.
    """

    def __init__(self, X: np.ndarray, effects) -> None:
        self.X, self.effects = X, tuple(effects)
        self.standard = tuple(standardise_effects(e) for e in self.effects)
        self.inner = tuple(s.effects for s in self.standard)
        self.p = X.shape[1]
        self.related = tuple(e.relationship is not None for e in self.effects)
        largest = int(np.argmax([e.n_levels for e in self.effects]))
        is_sorted = bool(np.all(np.diff(self.effects[largest].index) >= 0))
        self.largest = largest if is_sorted and not self.related[largest] else -1
        self.first: Any = NoEffects(len(X)) if self.largest < 0 else self.inner[largest]
        self.starts = np.flatnonzero(np.diff(self.first.index, prepend=-1))
        self.factors = tuple(Covariance(e.blocks) for e in self.effects)
        self.slices = consecutive([f.size for f in self.factors])
        others = [k for k in range(len(self.effects)) if k != self.largest]
        widths = [self.effects[k].n_levels * self.factors[k].q for k in others]
        self.rest = tuple(zip(others, consecutive(widths), strict=True))
        self.n_rest = sum(widths)
        self.precision, self.log_det_relatives = self._relatives()
        self.sparsity = None
        if others:
            self.Z_first = indicator([self.first])
            self.Z_rest = indicator([self.inner[k] for k in others])
            self.sparsity = self._find_sparsity()

    def _find_sparsity(self) -> Sparsity | None:
        """Find which entries of the complement may differ from zero, whatever the columns."""
        if self.n_rest < FEW:
            return None
        ones = [m.copy() for m in (self.Z_first, self.Z_rest)]
        for m in ones:
            m.data[:] = 1.0
        if self.precision is None:
            return Sparsity.of(ones[0].T @ ones[1], self.first.Z.shape[1])
        by_row = ones[1] if self.largest < 0 else (ones[0].T @ ones[1])[:: self.first.Z.shape[1]]
        return Sparsity.of(sparse.vstack([by_row, *self._meeting_relatives()]), 1)

    def _relatives(self) -> tuple[Any, float]:
        """Write ``A^{-1} - I`` of the other factors' effects, and sum ``log|A|``."""
        if not any(self.related):
            return None, 0.0
        parts, log_det = [], 0.0
        for k, part in self.rest:
            q, size = self.factors[k].q, part.stop - part.start
            found = sparse.csr_array((size, size))
            if self.related[k]:
                relationship = self.effects[k].relationship
                found = sparse.kron(relationship.precision, sparse.eye_array(q))
                found = found - sparse.eye_array(size)
                log_det += q * relationship.log_det
            parts.append(found)
        return sparse.csr_array(sparse.block_diag(parts)), log_det

    def _meeting_relatives(self):
        """Yield sets of effects, a row each, that meet in ``A^{-1}``, or in one level."""
        pairs = sparse.coo_array(sparse.tril(self.precision, -1))
        rows = np.repeat(np.arange(pairs.nnz), 2)
        columns = np.column_stack(pairs.coords).ravel()
        yield sparse.csr_array(
            (np.ones(len(rows)), (rows, columns)), shape=(pairs.nnz, self.n_rest)
        )
        for k, part in self.rest:
            q, levels = self.factors[k].q, self.effects[k].n_levels
            columns = np.arange(part.start, part.stop)
            within = (np.arange(levels * q) // q, columns)
            yield sparse.csr_array((np.ones(levels * q), within), shape=(levels, self.n_rest))

    def block_lambda(self, lower) -> sparse.csr_array:
        """Write the ``Lambda`` of the other factors, ``(r, r)``, sparse."""
        data, columns, sizes = [], [], []
        for k, part in self.rest:
            L, levels = lower[k], self.effects[k].n_levels
            q = len(L)
            data.append(np.tile(L.ravel(), levels))
            starts = part.start + q * np.arange(levels)
            block = np.broadcast_to(starts[:, None, None] + np.arange(q), (levels, q, q))
            columns.append(block.ravel())
            sizes.append(np.full(levels * q, q))
        pointer = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
        shape = (self.n_rest, self.n_rest)
        return sparse.csr_array((np.concatenate(data), np.concatenate(columns), pointer), shape)

    def with_columns(self, X: np.ndarray, inner) -> "MixedModelEquations":
        """Give the same structure, dense, with other values in ``X`` and standardised columns."""
        twin = copy(self)
        twin.X, twin.inner, twin.sparsity = X, tuple(inner), None
        if self.largest >= 0:
            twin.first = twin.inner[self.largest]
        if self.rest:
            twin.Z_first = indicator([twin.first])
            twin.Z_rest = indicator([twin.inner[k] for k, _ in self.rest])
        return twin

    @cached_property
    def inner_jacobian(self) -> np.ndarray:
        """Derivatives of the standardised effects' ``theta`` by the user's, ``(m, m)``.

        The first is this matrix times the second: the entries of ``T Lambda``. Along them no
        search sees the origin and the scale of columns.
        """
        found = np.zeros((sum(f.size for f in self.factors),) * 2)
        for f, part, s in zip(self.factors, self.slices, self.standard, strict=True):
            rows, columns = f.entries
            found[part, part] = s.T[np.ix_(rows, rows)] * (columns[:, None] == columns)
        return found

    def directions(self, free: np.ndarray) -> np.ndarray:
        """Give the steps of free entries that are ones of the inner entries, as columns.

        Entries that are held are zeros of a Lambda, so that the others' part of
        ``inner_jacobian`` is the map of theirs.
        """
        part = np.ascontiguousarray(self.inner_jacobian[np.ix_(free, free)])
        return triangular(part, np.eye(len(part)))

    @cached_property
    def outer_jacobian(self) -> np.ndarray:
        """Inverse of ``inner_jacobian``."""
        return self.directions(np.arange(len(self.inner_jacobian)))

    @cached_property
    def start(self) -> list[StandardisedEffects]:
        """Columns in which a search may take the effects as uncorrelated: the user's, scaled.

        Where these nearly depend on each other, so do their effects, and the standardised serve.
        """
        pairs = zip(self.standard, self.effects, strict=True)
        return [s if s.is_oblique else scale_effects(e) for s, e in pairs]

    def uncorrelated(self, sd: np.ndarray) -> np.ndarray:
        """Give ``theta`` where effects of the columns of ``start`` have these SDs, in one array."""
        parts, last = [], 0
        for f, s in zip(self.factors, self.start, strict=True):
            own, last = np.diag(sd[last : last + f.q]), last + f.q
            parts.append(s.outer(own).T[f.entries])
        return np.concatenate(parts)

    @property
    def unit_theta(self) -> np.ndarray:
        """Give ``theta`` of such effects of root mean square 1 on the linear predictor."""
        return self.uncorrelated(np.ones(sum(f.q for f in self.factors)))

    @cached_property
    def theta_scale(self) -> np.ndarray:
        """Give each entry's size where its effect has root mean square 1: no zeros."""
        pairs = zip(self.factors, self.effects, strict=True)
        return np.concatenate([usual_size(e.Z)[f.entries[0]] for f, e in pairs])

    def cross_products(self, z: np.ndarray, weight: np.ndarray) -> "CrossProducts":
        """Collect all that the equations need of response ``z`` (n,) and ``weight`` (n,)."""
        first, q = self.first, self.first.Z.shape[1]
        columns = np.vstack([self.X.T, z])
        weighted = columns * weight
        A = np.empty((first.n_levels, q, q))
        B = np.empty((first.n_levels, q, self.p + 1))
        for a in range(q):
            Za = first.Z[:, a]
            B[:, a] = np.add.reduceat(weighted * Za, self.starts, axis=1).T
            for b in range(a + 1):
                total = np.add.reduceat(weight * Za * first.Z[:, b], self.starts)
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
        rest = (self.Z_rest.T @ weighted).tocsr()
        if self.sparsity is not None:
            return coupling, rest, weighted.T @ columns.T
        if height * self.n_rest < SMALL or coupling.nnz > FULL * height * self.n_rest:
            coupling = coupling.toarray()
        return coupling, rest.toarray(), weighted.T @ columns.T

    def multiply_rest(self, lower, rows: np.ndarray, transpose: bool = False) -> np.ndarray:
        """Multiply rows (r, …) of the other factors by their ``Lambda``, or its transpose."""
        out = np.empty_like(rows)
        for k, part in self.rest:
            L = lower[k].T if transpose else lower[k]
            shaped = rows[part].reshape(self.effects[k].n_levels, len(L), -1)
            out[part] = product(L, shaped).reshape(rows[part].shape)
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
    rest: Any
    rest_columns: np.ndarray
    columns: np.ndarray
    log_weight: float

    def solve(self, theta: np.ndarray) -> Solution:
        """Solve the equations at ``theta`` (entries of the Lambdas, factors in order).

        Raises
        ------
        numpy.linalg.LinAlgError
            If ``X'V^{-1}X`` is not positive definite to working precision.
        """
        kind = Solution if self.equations.sparsity is None else SparseSolution
        return kind(self, np.asarray(theta, float))
