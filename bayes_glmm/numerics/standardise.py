"""Columns made orthogonal with unit mean square, so that every search sees one scale."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import qr, solve_triangular


@dataclass(frozen=True, eq=False)
class Standardised:
    """``X = columns @ R``; the coefficients of ``columns`` are ``R beta``.

    Attributes
    ----------
    columns
        Shape ``(n, p)``, ``columns' columns = n I``.
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
