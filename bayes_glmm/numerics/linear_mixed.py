r"""The profiled (restricted) likelihood of a linear mixed model with correlated residuals.

.. math:: y = X\beta + \sum_g Z_g b_g + e, \qquad b_g \sim N(0, \sigma^2\Lambda_g\Lambda_g'),
   \quad e \sim N(0, \sigma^2 R(\alpha))

With whitened rows (``correlated_rows``) it is the model of ``mixed_model_equations``: beta and
sigma drop out in closed form (Bates et al. 2015, section 3), which leaves ``theta``, the entries
of the Lambdas relative to sigma, and ``alpha``. With :math:`V = R + Z\Lambda\Lambda'Z'` minus
twice the log-likelihood changes with ``alpha`` by

.. math:: \mathrm{tr}(Q\,dR) - y'P\,dR\,Py / \sigma^2, \qquad
   L^{-1}QL = I - FF',

``Q = P`` for REML and :math:`V^{-1}` for ML, of which only the blocks of the clusters are
needed: ``F`` has one column for each effect of a row's own level of the largest factor, and one
for each other effect and coefficient.

The likelihood does not change when a combination of the columns of ``X`` is added to ``y``: what
least squares fits is taken off before any cross-product is formed, where it would cost digits, and
added to beta at the end.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .correlated_rows import CorrelatedRows, Whitening
from .level_blocks import as_dense, consecutive, triangular
from .mixed_model_equations import MixedModelEquations
from .mixed_model_solution import Solution
from .moments import moment_variances
from .standardise import standardise

FARTHEST = 10.0  # times the usual size of an effect, above or below: a guess is not farther


@dataclass(frozen=True, eq=False)
class ResidualStructure:
    """How residuals are correlated.

    Attributes
    ----------
    rows
        Clusters and times.
    correlation, derivatives
        ``(alpha, geometry) -> (m, m)`` and ``(k, m, m)``.
    size
        Number of parameters ``alpha``.
    """

    rows: CorrelatedRows
    correlation: Callable[[np.ndarray, np.ndarray], np.ndarray]
    derivatives: Callable[[np.ndarray, np.ndarray], np.ndarray]
    size: int


class LinearMixed:
    """A linear mixed model: data and structure, free of the parameters.

    Parameters
    ----------
    y, X
        Response less offset, shape ``(n,)``; fixed-effect columns of full rank, ``(n, p)``.
    effects
        One object per grouping factor with ``index`` (n,), ``Z`` (n, q), ``n_levels``,
        ``blocks`` and ``relationship``; rows best sorted by the factor with most levels. May be
        empty.
    residual
        Correlation of the residuals, None where they are independent. Its clusters must lie
        within the levels of every factor.

    Attributes
    ----------
    level, left
        Least squares of the response: coefficients of the standardised columns ``(p,)``, and
        residuals ``(n,)``, which stand for the response.
    size
        Number of parameters ``(theta, alpha)``.
    slices
        Entries of each factor in ``theta``.
    """

    def __init__(
        self, y: np.ndarray, X: np.ndarray, effects, residual: ResidualStructure | None = None
    ) -> None:
        self.n, self.p = X.shape
        self.effects, self.residual = tuple(effects), residual
        self.standard = standardise(X)
        self._take(y)
        self.equations = (
            MixedModelEquations(self.standard.columns, self.effects) if self.effects else None
        )
        self.factors = self.equations.factors if self.equations else ()
        self.slices = consecutive([f.size for f in self.factors])
        self.n_theta = sum(f.size for f in self.factors)
        self.size = self.n_theta + (residual.size if residual else 0)

    def _take(self, y: np.ndarray) -> None:
        self.y = y
        self.level, self.left = self.standard.least_squares(y)

    @cached_property
    def _independent(self) -> Any:
        """Cross-products for uncorrelated residuals, collected once."""
        return self._products(self.equations, self.standard.columns, self.left)

    def _products(self, equations, X: np.ndarray, y: np.ndarray) -> Any:
        if equations is None:
            return FixedColumns(X, y)
        return equations.cross_products(y, np.ones(len(y)))

    @cached_property
    def outer_jacobian(self) -> np.ndarray:
        """Derivatives of the user's coefficients by the standardised ones, ``(p, p)``."""
        return self.standard.outer_jacobian(self.p)

    def with_response(self, y: np.ndarray) -> "LinearMixed":
        """Give the same model of another response."""
        twin = copy(self)
        twin._take(y)
        twin.__dict__.pop("_independent", None)
        return twin

    def degrees_of_freedom(self, reml: bool) -> int:
        """``n - p`` for REML, n for ML."""
        return self.n - self.p if reml else self.n

    @property
    def inner_effects(self) -> tuple:
        """Effects of the standardised columns."""
        return self.equations.inner if self.equations else ()

    def likely_theta(self) -> np.ndarray:
        """Guess ``theta`` from moments, kept within a factor of ten of effects of usual size.

        Never zero, where the criterion is flat for reasons of symmetry.
        """
        e = self.equations
        if e is None:
            return np.zeros(0)
        effects = [s.effects for s in e.start]
        *variances, left = moment_variances(self.left, self.standard.columns, effects)
        if not left > 0:
            return e.unit_theta
        sd = np.sqrt(np.maximum(np.array(variances) / left, 0.0))
        return e.uncorrelated(np.clip(sd, 1 / FARTHEST, FARTHEST))

    def at(self, theta: np.ndarray, alpha: np.ndarray) -> "LinearState":
        """Solve the model at its variance parameters.

        Raises
        ------
        numpy.linalg.LinAlgError
            If ``R`` or ``X'V^{-1}X`` is not positive definite.
        """
        if self.residual is None:
            return LinearState(self, self._independent.solve(theta), alpha, None, None)
        structure = self.residual
        whitening = structure.rows.whiten(lambda geometry: structure.correlation(alpha, geometry))
        columns = [self.standard.columns, self.left[:, None], *(e.Z for e in self.inner_effects)]
        white = whitening(np.hstack(columns))
        cuts = np.cumsum([c.shape[1] for c in columns])[:-1]
        X, y, *Z = np.split(white, cuts, axis=1)
        effects = [replace(e, Z=z) for e, z in zip(self.inner_effects, Z, strict=True)]
        equations = self.equations and self.equations.with_columns(X, effects)
        solution = self._products(equations, X, y[:, 0]).solve(theta)
        return LinearState(self, solution, alpha, whitening, WhiteRows(X, y[:, 0], tuple(effects)))


@dataclass(frozen=True, eq=False)
class WhiteRows:
    """Whitened standardised columns of the model, ``y`` less its least-squares fit."""

    X: np.ndarray
    y: np.ndarray
    effects: tuple

    def residuals(self, solution) -> np.ndarray:
        """Residuals at the solution, which are ``L' P y``."""
        found = self.y - self.X @ solution.beta
        for e, v, L in zip(self.effects, solution.spherical, solution.lower, strict=True):
            found = found - np.einsum("ia,ia->i", e.Z @ L, v[e.index])
        return found


@dataclass(frozen=True, eq=False)
class LinearState:
    """The model at one value of its variance parameters.

    Attributes
    ----------
    model
        Data and structure.
    solution
        The solved equations, in standardised columns, of the response less its ``level``.
    alpha
        Parameters of the residual correlation.
    whitening, white
        Of correlated residuals, else None.
    """

    model: LinearMixed
    solution: Any
    alpha: np.ndarray
    whitening: Whitening | None
    white: WhiteRows | None

    @cached_property
    def beta(self) -> np.ndarray:
        """Generalized least squares estimate in the user's columns, shape ``(p,)``."""
        return self.model.standard.outer(self.model.level + self.solution.beta)

    @cached_property
    def beta_covariance(self) -> np.ndarray:
        """``(X'V^{-1}X)^{-1}`` in the user's columns; times sigma² it is Var(beta)."""
        jacobian = self.model.outer_jacobian
        return jacobian @ self.solution.beta_covariance() @ jacobian.T

    @property
    def effects(self) -> list[np.ndarray]:
        """Best linear unbiased predictions, one array ``(levels, q)`` per factor."""
        return self.solution.effects

    def variance(self, reml: bool) -> float:
        """Give the estimate of sigma² at these parameters."""
        return self.solution.rss / self.model.degrees_of_freedom(reml)

    def criterion(self, reml: bool, variance: float | None = None) -> float:
        """Minus twice the (restricted) log-likelihood; profiled over sigma² where it is None.

        The restricted likelihood is that of the user's columns: scaling a column changes it.
        """
        total = self.solution.criterion(reml, variance)
        if self.whitening is not None:
            total += self.whitening.log_det
        if reml and self.model.p:
            total += 2.0 * float(np.log(np.abs(np.diag(self.model.standard.R))).sum())
        return total

    def gradient(self, reml: bool, variance: float | None = None) -> np.ndarray:
        """Differentiate ``criterion`` by ``(theta, alpha)``."""
        by_theta = self.solution.gradient(reml, variance)
        if self.whitening is None or self.white is None or self.model.residual is None:
            return by_theta
        derivatives, sigma2 = self.model.residual.derivatives, variance or self.variance(reml)
        by_alpha = self.whitening.slopes(
            lambda geometry: derivatives(self.alpha, geometry),
            loaded_rows(self.solution, self.white, reml),
            self.white.residuals(self.solution) / np.sqrt(sigma2),
        )
        return np.concatenate([by_theta, by_alpha])

    def conditional_covariance(self) -> list[np.ndarray]:
        """Give ``Var(b | y)`` by level at known beta: ``(levels, q, q)`` per factor, sigma = 1."""
        return self.solution.prediction_covariance(False)

    def prediction_covariance(self) -> list[np.ndarray]:
        """Give ``Var(b - b^)`` by level, beta estimated (Henderson 1975), at sigma = 1."""
        return self.solution.prediction_covariance()


def loaded_rows(solution, white: WhiteRows, reml: bool) -> np.ndarray:
    """Give ``F`` with ``I - F F'`` the whitened ``P`` (REML) or ``V^{-1}`` within clusters.

    ``U = Z_1 T'`` spans the largest factor; the columns of the others and of X, less what it
    takes of them, are loaded with the inverse root of the Schur complement.
    """
    columns = [white.X] if reml else []
    if not white.effects:
        return np.hstack([triangular(solution.root, c.T).T for c in columns] or [white.X[:, :0]])
    e = solution.products.equations
    first, r = e.first, e.n_rest
    U = np.einsum("iab,ib->ia", solution.T[first.index], first.Z)
    parts = []
    if r:
        taken = as_dense(solution.T_rest).reshape(first.n_levels, -1, r)[first.index]
        rest = e.Z_rest.toarray() - np.einsum("ia,iar->ir", U, taken)
        parts.append(e.multiply_rest(solution.lower, rest.T, transpose=True).T)
    if reml:
        taken = solution.TB[first.index, :, : e.p]
        parts.append(white.X - np.einsum("ia,iap->ip", U, taken))
    if not parts:
        return U
    m = sum(part.shape[1] for part in parts)
    return np.hstack([U, triangular(solution.root[:m, :m], np.hstack(parts).T).T])


class FixedColumns:
    """Cross-products of a model without random effects."""

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        self.n, self.p = X.shape
        self.XX, self.Xy, self.yy = X.T @ X, X.T @ y, float(y @ y)

    def solve(self, theta: np.ndarray) -> "FixedSolution":
        """Solve the normal equations; ``theta`` is empty."""
        return FixedSolution(self)


class FixedSolution(Solution):
    """Least squares, with the verbs of a solution that has random effects."""

    def __init__(self, columns: FixedColumns) -> None:
        self.columns = columns
        self.root = np.linalg.cholesky(columns.XX)
        forward = triangular(self.root, columns.Xy)
        self.beta = triangular(self.root, forward, transpose=True)
        self.rss = columns.yy - float(forward @ forward)
        self.log_det, self.log_det_beta = 0.0, 2.0 * float(np.log(np.diag(self.root)).sum())
        self.spherical, self.lower = [], []

    @cached_property
    def effects(self) -> list[np.ndarray]:
        """No factor: nothing."""
        return []

    def beta_covariance(self) -> np.ndarray:
        """``(X'X)^{-1}``, shape ``(p, p)``."""
        inverse = triangular(self.root, np.eye(len(self.root)))
        return inverse.T @ inverse

    def forms(self, reml: bool) -> list[np.ndarray]:
        """No factor: nothing."""
        return []

    def prediction_covariance(self, reml: bool = True) -> list[np.ndarray]:
        """No factor: nothing."""
        return []

    def gradient(self, reml: bool, phi: float | None = 1.0) -> np.ndarray:
        """No ``theta``: empty."""
        return np.zeros(0)

    def degrees_of_freedom(self, reml: bool) -> int:
        """``n - p`` for REML, n for ML."""
        return self.columns.n - self.columns.p if reml else self.columns.n
