r"""Kenward & Roger's small-sample inference for linear mixed models fitted by REML.

With :math:`\Phi = (X'V^{-1}X)^{-1}`, directions ``V_i``, the derivatives of V by its parameters,
``W`` the inverse of their expected information, :math:`I_{ij} = \mathrm{tr}(P V_i P V_j) / 2`, and
:math:`\Phi_i = \Phi X'V^{-1}V_iV^{-1}X \Phi`, the derivative of :math:`\Phi`,

.. math:: \Phi_A = \Phi + 2\Phi \Big\{ \sum_{ij} W_{ij}
   X'V^{-1}V_i P V_j V^{-1}X \Big\} \Phi
   - \tfrac12 \Big( \Phi_M - \sum_i a_i \Phi_i \Big), \qquad
   M = \sum_{ij} W_{ij} V_{ij}, \quad a = W I_M .

The first sum allows for the variance that estimated parameters add to the estimate of beta, and
for the bias of :math:`\hat\Phi` (Kenward & Roger 1997, *Biometrics* 53, 983-997). The second
derivatives ``V_ij`` bend that bias: :math:`\Phi_M / 2` is the term in ``R_ij`` of that paper, and
:math:`a / 2` takes off the bias that REML estimates have where V is not linear in its parameters
(Cox & Snell 1968; Kenward & Roger 2009, *Computational Statistics & Data Analysis* 53,
2583-2595). Only what of ``M`` no change of parameters could make is left, so that the result does
not depend on the parameters chosen. Here they are the entries of the covariances of effects, of
standardised columns, sigma squared and the parameters of the residual correlation. Without a
residual correlation V is linear in them, ``M`` is zero and the results are those of pbkrtest
(Halekoh & Højsgaard 2014); nothing is left of it either for compound symmetry and unstructured
correlations, which other parameters make linear.

For :math:`L\beta = c` with ``q`` rows the statistic
:math:`F = (L\hat\beta - c)'(L\Phi_AL')^{-1}(L\hat\beta - c) / q` times a scale has the mean and
variance of an F distribution, and its distribution exactly in the balanced designs of the analysis
of variance and for Hotelling's T squared.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..fit import Fit
from ..methods import NotServedError
from ..numerics.covariance_forms import AlikeMatrices, Forms, MixedCovariance, MixedRows
from ..numerics.row_blocks import RowBlocks
from ..numerics.threads import one_blas_thread
from .lmm_search import LinearMaximum, LinearSearch, rows_of

KIND = "kenward-roger"  # of a covariance of the coefficients
MOST_ROWS = 4000  # order of a dense matrix
FEW_ROWS = 500  # below, BLAS threads cost more than they save
FLAT = 1e-9  # least eigenvalue of a scaled information that is not rounding error
UNMOVED = 1e-6  # change of Phi, relative, along what the information does not tell


@dataclass(frozen=True, eq=False)
class SmallSample:
    """What Kenward & Roger's inference needs; columns as the user has them.

    Attributes
    ----------
    vcov
        Adjusted covariance of the coefficients, shape ``(p, p)``.
    vcov_slopes
        Derivatives of the covariance of beta by the parameters, shape ``(r, p, p)``.
    covariance
        W, shape ``(r, r)``: a generalised inverse where the information is singular.
    rank
        Of the information.
    """

    vcov: np.ndarray
    vcov_slopes: np.ndarray
    covariance: np.ndarray
    rank: int


def independent_rows(search: LinearSearch, label: str) -> MixedRows:
    """Arrange the rows in independent blocks.

    Raises
    ------
    NotServedError
        If one is too large.
    """
    problem, repeated = search.problem, search.repeated
    effects = problem.inner_effects
    blocks = RowBlocks(problem.n, effects, repeated.cluster if repeated else None)
    rows = MixedRows(problem.standard.columns, effects, blocks, repeated is not None)
    if (largest := rows.largest) > MOST_ROWS:
        raise NotServedError(
            f"{label} got {largest:,} rows or effects that depend on each other through crossed or "
            f"related levels, and serves {MOST_ROWS:,} in one block: use REML(df='satterthwaite')."
        )
    return rows


def small_sample(
    search: LinearSearch, maximum: LinearMaximum, sigma2: float, rows: MixedRows
) -> SmallSample:
    """Work it out at the estimates; see the module.

    Variances of zero are parameters like others, as pbkrtest takes them; parameters of the residual
    correlation at a limit are taken as known.
    """
    with one_blas_thread() if rows.largest < FEW_ROWS else nullcontext():
        expansion = expand(search, maximum, sigma2, rows)
    J = search.problem.outer_jacobian
    return SmallSample(
        J @ expansion.adjusted @ J.T,
        J @ expansion.slopes @ J.T,
        expansion.covariance,
        expansion.rank,
    )


def expand(
    search: LinearSearch, maximum: LinearMaximum, sigma2: float, rows: MixedRows
) -> "Expansion":
    """Expand the covariance of beta in standardised columns.

    Once for W, and where residuals are correlated once more with M, which W weighs.
    """
    problem, x = search.problem, maximum.x
    D = tuple(sigma2 * L @ L.T for L in maximum.state.solution.lower)
    free = maximum.free[problem.n_theta :]
    residual = residual_directions(search, x, sigma2, free)
    expansion = Expansion(MixedCovariance(rows, D, sigma2, residual).forms())
    if not free.any():
        return expansion
    last = len(rows.entries)  # sigma squared and the residual correlation come last
    weights = expansion.covariance[last:, last:]
    residual = residual_directions(search, x, sigma2, free, weights)
    return Expansion(MixedCovariance(rows, D, sigma2, residual).forms(), bent=True)


def residual_directions(
    search: LinearSearch, x: np.ndarray, sigma2: float, free: np.ndarray, weights=None
) -> tuple[AlikeMatrices, ...]:
    """Give the residuals' correlation and its free directions, and with ``weights`` also M.

    ``weights`` are the entries of W for sigma squared and the free parameters.
    """
    if search.repeated is None:
        return ()
    kind, alpha = search.repeated.correlation, search.alpha(x)
    found = []
    for pattern in rows_of(search.repeated).patterns:
        g = pattern.geometry
        slopes = kind.derivatives(alpha, g)[free]
        matrices = [kind.correlation(alpha, g), *(sigma2 * slopes)]
        if weights is not None:
            whole = np.zeros((len(alpha), len(alpha)))
            whole[np.ix_(free, free)] = weights[1:, 1:]
            bent = sigma2 * kind.curvature(alpha, g, whole)
            matrices.append(2.0 * np.tensordot(weights[0, 1:], slopes, 1) + bent)
        found.append(AlikeMatrices(pattern.rows, np.array(matrices)))
    return tuple(found)


class Expansion:
    """The expansion of the covariance of beta in that of the responses.

    Parameters
    ----------
    forms
        Of the directions.
    bent
        Whether the last direction is M.
    """

    def __init__(self, forms: Forms, bent: bool = False) -> None:
        self.forms = forms
        self.size = len(forms.traces) - bent
        self.phi = np.linalg.inv(forms.precision)

    @cached_property
    def slopes(self) -> np.ndarray:
        """Derivatives of Phi by the parameters, shape ``(r, p, p)``."""
        return self._all_slopes[: self.size]

    @cached_property
    def _all_slopes(self) -> np.ndarray:
        return self.phi @ self.forms.linear @ self.phi

    @cached_property
    def information(self) -> np.ndarray:
        """Expected information of all directions, by the restricted likelihood."""
        f, turned = self.forms, self.phi @ self.forms.linear
        twice = np.einsum("ab,ijba->ij", self.phi, f.quadratic)
        return (f.traces - 2.0 * twice + np.einsum("iab,jba->ij", turned, turned)) / 2.0

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sizes, and eigenvalues and vectors of the information relative to them.

        Sizes are by the information with beta known, which is never zero.
        """
        own = self.information[: self.size, : self.size]
        size = np.sqrt(np.diag(self.forms.traces)[: self.size] / 2.0)
        values, vectors = np.linalg.eigh(own / np.outer(size, size))
        return size, values, vectors

    @property
    def rank(self) -> int:
        """Rank of the parameters' information."""
        values = self._spectrum[1]
        return int(np.sum(values > FLAT * values[-1]))

    @cached_property
    def covariance(self) -> np.ndarray:
        """W; NaN where a singular information does not tell all on which Phi depends."""
        size, values, vectors = self._spectrum
        lost = self.size - self.rank
        null = np.tensordot(vectors[:, :lost].T / size, self.slopes, 1)
        error = np.sqrt(np.diag(self.phi))
        if lost and np.max(np.abs(null) / np.outer(error, error), initial=0.0) > UNMOVED:
            return np.full((self.size, self.size), np.nan)
        kept = vectors[:, lost:] / size[:, None]
        return (kept / values[lost:]) @ kept.T

    @property
    def adjusted(self) -> np.ndarray:
        """The adjusted covariance, shape ``(p, p)``."""
        r, W, phi = self.size, self.covariance, self.phi
        linear = self.forms.linear[:r]
        between = np.einsum("iab,ij,jbc->ac", linear, W, phi @ linear, optimize=True)
        within = np.einsum("ij,ijab->ab", W, self.forms.quadratic[:r, :r])
        found = phi + 2.0 * phi @ (within - between) @ phi
        if len(self._all_slopes) > r:
            straight = W @ self.information[:r, r]
            found -= (self._all_slopes[r] - np.tensordot(straight, self.slopes, 1)) / 2.0
        return (found + found.T) / 2.0


def has_small_sample(fit: Fit) -> bool:
    """Whether a fit's covariance, tests and intervals are Kenward & Roger's."""
    return next(iter(fit.vcovs), "") == KIND


def scaled_f(fit: Fit, L: np.ndarray) -> tuple[float, float]:
    r"""Scale and denominator degrees of freedom of the F test of ``L beta = c``.

    From :math:`A_1 = \sum W_{ij} \mathrm{tr}(\Theta\Phi_i) \mathrm{tr}(\Theta\Phi_j)` and
    :math:`A_2 = \sum W_{ij} \mathrm{tr}(\Theta\Phi_i\Theta\Phi_j)` with
    :math:`\Theta = L'(L\Phi L')^{-1}L`; see ``match_f``.
    """
    d = fit.details
    slopes = np.linalg.solve(L @ np.asarray(fit.vcov("model")) @ L.T, L @ d["vcov_slopes"] @ L.T)
    W = d["variance_cov"]
    traces = np.trace(slopes, axis1=1, axis2=2)
    A1 = float(traces @ W @ traces)
    A2 = float(np.einsum("iab,ij,jba->", slopes, W, slopes, optimize=True))
    return match_f(A1, A2, len(L))


def match_f(A1: float, A2: float, q: int) -> tuple[float, float]:
    r"""Match mean and variance of the statistic to those of an F distribution.

    For one contrast the scale is 1 and the degrees of freedom are :math:`2 / A_1`, which are
    Satterthwaite's with the expected information. For several see Kenward & Roger (1997, section
    3); with two degrees of freedom or fewer an F distribution has no mean to be matched, and both
    numbers are NaN.
    """
    if q == 1:
        return 1.0, 2.0 / A1
    A1, A2 = np.float64(A1), np.float64(A2)  # whose divisions by zero are infinite
    with np.errstate(divide="ignore", invalid="ignore"):
        B = (A1 + 6.0 * A2) / (2.0 * q)
        g = ((q + 1.0) * A1 - (q + 4.0) * A2) / ((q + 2.0) * A2)
        below = 3.0 * q + 2.0 * (1.0 - g)
        c1, c2, c3 = g / below, (q - g) / below, (q + 2.0 - g) / below
        mean = 1.0 - A2 / q  # the inverse of the statistic's
        rho = (mean / (1.0 - c2 * B)) ** 2 * (1.0 + c1 * B) / (1.0 - c3 * B) / q
        df = 4.0 + (q + 2.0) / (q * rho - 1.0)
    if not (df > 2.0 and mean > 0.0):
        return float("nan"), float("nan")
    return float(df * mean / (df - 2.0)), float(df)
