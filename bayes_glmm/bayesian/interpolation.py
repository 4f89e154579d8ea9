r"""The log-likelihoods of an integrated density as polynomials in the coordinates.

With much data every :math:`\log L_g(\xi)` is nearly a polynomial of low degree where the
posterior is, and an integral takes milliseconds where a polynomial takes microseconds:

.. math:: \log L_g(\xi) \approx \sum_{|\alpha| \le k} c_{g\alpha} e^\alpha, \quad
   e = U^{-1} (\xi - \hat\xi) / R, \quad |e| \le 1,

``U U'`` the inverse Hessian at the mode. The coefficients are those of weighted least squares
at some dozen random points. Beyond the ellipsoid ``|e| = 1`` everything is integrated, so that
no tail is extrapolated, and the prior is exact everywhere. Like the nodes of the quadrature a
polynomial is used only if it is right at posterior draws.
"""

from itertools import combinations_with_replacement, pairwise
from math import comb

import numpy as np
from scipy.linalg import solve_triangular

from .density import IntegratedDensity, log_density
from .importance import Proposal, upper_root
from .integrated_nodes import SPREAD

DEGREES = (3, 4, 5)
RADIUS = 6.0  # of the ellipsoid, in posterior SDs: a tail in a thousand proposals lies beyond
POINTS = 1.5  # for each term of the polynomial
DEAR = 5e7  # rows times nodes times densities, about half a second, from which it pays
SHARE = 1.0 / 3.0  # of the densities wanted, that the polynomial's points may be at most
# weights of the least squares fall with the posterior density, but not below this: the terms
# of high degree are found far out, and the errors wanted are those at posterior draws
LEAST = 0.1
HELD = 4_000_000  # values of log L_g held at a time


class Exact:
    """An integrated density, every point integrated."""

    cost = 1.0  # of a density, beside an integral

    def __init__(self, density: IntegratedDensity):
        self.density = density
        self.details = {"interpolation_degree": 0, "interpolation_error": 0.0}

    def __call__(self, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Log posterior at many points, and ``log L_g`` where it is at hand."""
        return log_density(self.density, xi)

    def by_group(self, xi: np.ndarray) -> np.ndarray:
        """``log L_g`` without the family's constants, ``(draws, levels)``."""
        return log_density(self.density, xi)[1]


class Interpolated:
    """An integrated density by polynomials inside an ellipsoid, and integrated beyond.

    Parameters
    ----------
    density
        With its nodes.
    centre, covariance
        Mode of the coordinates, and inverse Hessian there.
    degree
        Of the polynomials.
    rng
        Generator of the points they are fitted at.

    Attributes
    ----------
    finite
        Whether there was a density at every point.
    details
        ``interpolation_degree``, and ``interpolation_error``: the root mean square error of
        the log density at posterior draws.
    """

    cost = 0.1  # of a density beside an integral: some points lie beyond the ellipsoid

    def __init__(self, density: IntegratedDensity, centre, covariance, degree: int, rng):
        self.density, self.centre, self.degree = density, centre, degree
        self.root = RADIUS * upper_root(covariance)
        d = len(centre)
        count = int(POINTS * terms(d, degree)) + 2 * d
        direction = rng.standard_normal((count, d))
        direction /= np.linalg.norm(direction, axis=1)[:, None]
        radius = np.sqrt(rng.random(count))
        weight = np.maximum(np.exp(-0.25 * (RADIUS * radius) ** 2), LEAST)
        e = direction * radius[:, None]
        self.coefficients = self._least_squares(e, weight)
        self.finite = bool(np.isfinite(self.coefficients).all())
        self.total = self.coefficients.sum(axis=1)
        self.details = {"interpolation_degree": degree, "interpolation_error": np.inf}

    def _least_squares(self, e: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Coefficients ``(terms, levels)`` by values at the points ``e``."""
        Q, triangle = np.linalg.qr(weight[:, None] * monomials(e, self.degree))
        levels = self.density.factors[self.density.largest].levels
        projected = np.zeros((Q.shape[1], levels))
        xi = self.centre + e @ self.root.T
        for a, b in blocks(len(xi), levels):
            values = log_density(self.density, xi[a:b])[1]
            projected += (weight[a:b, None] * Q[a:b]).T @ values
        return solve_triangular(triangle, projected, check_finite=False)

    def __call__(self, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Log posterior at many points; ``log L_g`` is not at hand."""
        density, (e, inside) = self.density, self.standardised(xi)
        value = np.empty(len(xi))
        value[inside] = monomials(e[inside], self.degree) @ self.total
        near = xi[inside]
        with np.errstate(all="ignore"):
            scales = density.log_scales(density.coordinates.dispersion(near))
            value[inside] += density.constant + scales + density.coordinates.log_prior(near)
        beyond = np.flatnonzero(~inside)
        levels = density.factors[density.largest].levels
        for a, b in blocks(len(beyond), levels):
            value[beyond[a:b]] = log_density(density, xi[beyond[a:b]])[0]
        return np.where(np.isfinite(value), value, -np.inf), None

    def by_group(self, xi: np.ndarray) -> np.ndarray:
        """``log L_g`` without the family's constants, ``(draws, levels)``."""
        e, inside = self.standardised(xi)
        found = monomials(e, self.degree) @ self.coefficients
        if not inside.all():
            found[~inside] = log_density(self.density, xi[~inside])[1]
        return found

    def standardised(self, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give ``e`` of each point, and whether it lies inside the ellipsoid."""
        e = solve_triangular(self.root, (xi - self.centre).T, check_finite=False).T
        return e, np.einsum("ij,ij->i", e, e) <= 1.0

    def settles(self, points: np.ndarray, exact: tuple[np.ndarray, np.ndarray]) -> bool:
        """Tell whether it is right at posterior draws, whose densities are known.

        Errors of the log density are to be as small as those of the nodes, and so is the error
        of every ``log L_g``.
        """
        value, by_group = exact
        if not self.finite or not np.isfinite(value).all():
            return False
        error = float(np.sqrt(np.mean((self(points)[0] - value) ** 2)))
        self.details["interpolation_error"] = error
        worst = float(np.abs(self.by_group(points) - by_group).max())
        return error <= SPREAD and worst <= SPREAD


def quickest(density: IntegratedDensity, around: Proposal, points, wanted: int, rng):
    """Give the density by polynomials where that is right and pays, otherwise as it is.

    Parameters
    ----------
    density
        With its nodes.
    around
        Its centre is the mode of the coordinates, its covariance the inverse Hessian there.
    points
        Draws, about the posterior's, where the polynomials are checked.
    wanted
        How many densities will be asked for.
    rng
        Generator.
    """
    effects = density.factors[density.largest].q
    work = len(density.alike.rows.y) * (density.nodes**effects + 5)
    if work * wanted < DEAR:
        return Exact(density)
    exact = log_density(density, points)
    for degree in DEGREES:
        if POINTS * terms(density.size, degree) > SHARE * wanted:
            break
        found = Interpolated(density, around.centre, around.covariance, degree, rng)
        if found.settles(points, exact):
            return found
    return Exact(density)


def terms(size: int, degree: int) -> int:
    """Count the monomials of ``size`` variables up to a degree."""
    return comb(size + degree, degree)


def monomials(e: np.ndarray, degree: int) -> np.ndarray:
    """All products of up to ``degree`` coordinates, ``(points, terms)``."""
    count, size = e.shape
    found = np.empty((terms(size, degree), count))
    place: dict[tuple, int] = {(): 0}
    found[0] = 1.0
    for k in range(1, degree + 1):
        for chosen in combinations_with_replacement(range(size), k):
            place[chosen] = len(place)
            found[place[chosen]] = found[place[chosen[:-1]]] * e[:, chosen[-1]]
    return found.T


def blocks(count: int, levels: int) -> list[tuple[int, int]]:
    """Cut ``count`` points into blocks whose values by level are held at a time."""
    step = max(HELD // levels, 1)
    return list(pairwise([*range(0, count, step), count])) if count else []
