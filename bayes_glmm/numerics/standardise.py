"""Columns made orthogonal with unit mean square, so that every search sees one scale."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import qr, solve_triangular

from .level_blocks import triangular

FAR = 10.0  # standard deviations of a column between its mean and zero
OBLIQUE = 1 / FAR  # share of an intercept outside the span of a column as far as that, at most
DEPENDENT = 1e-10  # share of a column outside the span of others, that is rounding


@dataclass(frozen=True, eq=False)
class Standardised:
    """``X = columns @ R``; the coefficients of ``columns`` are ``R beta``.

    Attributes
    ----------
    columns
        Shape ``(n, p)``; by ``standardise`` ``columns' columns = n I``.
    R
        Upper triangular, ``(p, p)``.
    """

    columns: np.ndarray
    R: np.ndarray

    def least_squares(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Regress ``y`` on the columns: coefficients of ``columns``, and what is left of ``y``.

        What is left comes from differences, so that it keeps its digits however large the fitted
        part is; a second regression takes off what rounding left in the first.
        """
        found, left = np.zeros(self.columns.shape[1]), y
        for _ in range(2):
            step = self.columns.T @ left / len(y)
            found, left = found + step, left - self.columns @ step
        return found, left

    def inner(self, beta: np.ndarray) -> np.ndarray:
        """Coefficients of the standardised columns."""
        return self.R @ beta

    def outer(self, inner: np.ndarray) -> np.ndarray:
        """Coefficients of the user's columns."""
        return solve_triangular(self.R, inner) if inner.size else inner

    def outer_jacobian(self, size: int) -> np.ndarray:
        """Differentiate all ``size`` parameters in the user's terms by the inner ones."""
        p = len(self.R)
        jacobian = np.eye(size)
        if p:
            jacobian[:p, :p] = solve_triangular(self.R, np.eye(p))
        return jacobian


@dataclass(frozen=True, eq=False)
class StandardisedEffects:
    """``Z = columns @ T``, so that the Lambda of the effects of ``columns`` is ``T Lambda``.

    The columns have unit mean squares and are orthogonal within correlated effects: a covariance
    of correlated effects is one whatever the origin of their columns.

    Attributes
    ----------
    effects
        Those of ``columns``.
    T
        Lower triangular with a positive diagonal, ``(q, q)``.
    """

    effects: Any
    T: np.ndarray

    @cached_property
    def _back(self) -> np.ndarray:
        return triangular(self.T, np.eye(len(self.T)))

    @cached_property
    def is_oblique(self) -> bool:
        """Whether correlated columns nearly depend on each other, as an intercept and a year."""
        return bool(np.any(np.diag(self.T) < OBLIQUE * np.linalg.norm(self.T, axis=0)))

    def inner(self, factor: np.ndarray) -> np.ndarray:
        """Lambda of the effects of ``columns``."""
        return self.T @ factor

    def outer(self, inner: np.ndarray) -> np.ndarray:
        """Effects of the user's columns, given those of ``columns``, ``(..., q)``."""
        return inner @ self._back.T

    def outer_covariance(self, inner: np.ndarray) -> np.ndarray:
        """Covariance of the same, ``(..., q, q)``."""
        return self.outer(np.swapaxes(self.outer(inner), -1, -2))


def distance_from_zero(columns: np.ndarray) -> np.ndarray:
    """Give each column's mean over its standard deviation, absolute; zero if it is constant."""
    mean, sd = columns.mean(axis=0), columns.std(axis=0)
    varies = sd > 0
    return np.where(varies, np.abs(mean) / np.where(varies, sd, 1.0), 0.0)


def usual_size(Z: np.ndarray) -> np.ndarray:
    """Give each effect's SD where its part of the predictor has root mean square 1, ``(q,)``."""
    root = np.sqrt(np.mean(Z**2, axis=0))
    return 1 / np.where(root > 0, root, 1.0)


def standardise_effects(effects: Any) -> StandardisedEffects:
    """Standardise the columns of a factor; those that depend on each other are scaled only."""
    scaled = scale_effects(effects)
    columns, T = scaled.effects.Z, scaled.T
    for block in effects.blocks:
        if len(block) == 1:
            continue
        last_first = list(block)[::-1]  # an upper triangle turned round is a lower one
        part = standardise(columns[:, last_first])
        diagonal = np.diag(part.R)
        if np.all(np.abs(diagonal) > DEPENDENT):
            sign, size = np.sign(diagonal), np.diag(T)[last_first]
            columns[:, last_first] = part.columns * sign
            T[np.ix_(last_first, last_first)] = sign[:, None] * part.R * size
    return scaled


def scale_effects(effects: Any) -> StandardisedEffects:
    """Scale the columns of a factor to unit mean squares."""
    usual = usual_size(effects.Z)
    return StandardisedEffects(replace(effects, Z=effects.Z * usual), np.diag(1 / usual))


def standardise(X: np.ndarray) -> Standardised:
    """Orthogonalise the columns of ``X`` (full column rank) by QR, in their order."""
    n, p = X.shape
    if p == 0:
        return Standardised(X, np.zeros((0, 0)))
    scale = np.abs(X).max(axis=0)
    scale[scale == 0.0] = 1.0
    factors: Any = qr(X / scale, mode="economic")
    Q, R = factors
    root = np.sqrt(n)
    return Standardised(np.ascontiguousarray(Q * root), R * scale / root)


def centre(X: np.ndarray) -> Standardised:
    """Take their means off columns far from zero, where the first column is an intercept.

    Against lost digits, for weights that may vanish: of rows without weight orthogonal columns
    are not independent, where those of the user may be.
    """
    R = np.eye(X.shape[1])
    if not X.shape[1] or not np.all(X[:, 0] == 1.0):
        return Standardised(X, R)
    far, mean = distance_from_zero(X) >= FAR, X.mean(axis=0)
    R[0, far] = mean[far]
    return Standardised(X - np.where(far, mean, 0.0), R)
