r"""Affine maps that give the unknowns of a density about unit scale and no correlation.

With ``C`` the Laplace covariance of the coordinates ``xi``, ``P`` the precision of the other
variables ``r`` given ``xi``, and ``B = d^2 log pi / dr dxi``,

.. math:: \xi = \hat\xi + C^{1/2} z_1, \qquad
   r = \hat r + P^{-1} B (\xi - \hat\xi) + P^{-1/2} z_2 .
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from .joint import JointDensity

DIFFERENCE = 1e-2  # step of second derivatives, in posterior standard deviations
DENSE = 600  # other variables up to which P is found whole, one by one; beyond it is one
LEAST = 0.1  # eigenvalue of P: a standard normal prior alone gives about one


@dataclass(frozen=True, eq=False)
class Whitening:
    """The affine map from the sampler's variables ``z`` to the unknowns.

    Attributes
    ----------
    centre
        ``(size,)``.
    root
        Of the coordinates' covariance, ``(d, d)``.
    slope
        Of the other variables' means by the coordinates, ``(size - d, d)``.
    rest
        Root of the other variables' conditional covariance; None is the identity.
    """

    centre: np.ndarray
    root: np.ndarray
    slope: np.ndarray
    rest: np.ndarray | None

    def unknowns(self, z: np.ndarray) -> np.ndarray:
        """Unknowns at ``z``, shape ``(…, size)``."""
        d = len(self.root)
        xi = z[..., :d] @ self.root.T
        raw = z[..., d:] if self.rest is None else z[..., d:] @ self.rest.T
        return self.centre + np.concatenate([xi, raw + xi @ self.slope.T], axis=-1)

    def gradient(self, by_x: np.ndarray) -> np.ndarray:
        """Give derivatives by ``z`` from those by the unknowns, ``(size,)``."""
        d = len(self.root)
        by_raw = by_x[d:]
        by_xi = (by_x[:d] + by_raw @ self.slope) @ self.root
        return np.concatenate([by_xi, by_raw if self.rest is None else by_raw @ self.rest])


def whiten_coordinates(centre: np.ndarray, covariance: np.ndarray) -> Whitening:
    """Give the map of a density of the coordinates alone."""
    d = len(centre)
    return Whitening(centre, np.linalg.cholesky(covariance), np.zeros((0, d)), None)


def whiten(joint: JointDensity, mode: np.ndarray, covariance: np.ndarray) -> Whitening:
    """Give the map of a joint density, at the mode of the coordinates and their covariance."""
    d, others = joint.coordinate_count, joint.size - joint.coordinate_count
    centre = np.concatenate([mode, np.zeros(others)])
    root = np.linalg.cholesky(covariance)
    alone = 1.0 / np.sqrt(np.diag(np.linalg.inv(covariance)))  # SDs given the other coordinates
    cross = second_derivatives(joint, centre, range(d), DIFFERENCE * alone)[:, d:]
    cross = np.where(np.isfinite(cross), cross, 0.0)
    if others > DENSE:
        return Whitening(centre, root, cross.T, None)
    steps = np.full(others, DIFFERENCE)
    found = second_derivatives(joint, centre, range(d, joint.size), steps)[:, d:]
    if not np.isfinite(found).all():
        return Whitening(centre, root, cross.T, None)
    values, vectors = np.linalg.eigh(-0.5 * (found + found.T))
    precision = (vectors * np.maximum(values, LEAST)) @ vectors.T
    factor = cho_factor(precision, lower=True)
    rest = solve_triangular(factor[0], np.eye(others), lower=True).T
    return Whitening(centre, root, cho_solve(factor, cross.T), rest)


def second_derivatives(density, x: np.ndarray, positions, steps) -> np.ndarray:
    """Rows of the Hessian by central differences of the gradient, ``(positions, size)``."""
    rows = np.empty((len(positions), len(x)))
    for row, i, step in zip(rows, positions, steps, strict=True):
        moved = np.zeros(len(x))
        moved[i] = step
        row[:] = (density(x + moved)[1] - density(x - moved)[1]) / (2.0 * step)
    return rows
