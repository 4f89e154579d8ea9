r"""Where a sampler of ``JointDensity`` starts, and the scale it moves on, from Laplace's posterior.

Laplace's approximation over the effects of all factors gives the mode of the coordinates and
the inverse Hessian ``C`` there, the effects' conditional modes, and how much the data say about
each level's effects with everything else integrated out,

.. math:: W_g = L^{-T} \{ (H^{-1})_{gg}^{-1} - I \} L^{-1},

``(H^{-1})_{gg}`` the conditional covariance of ``u_g``. With ``P`` the precision of the other
factors' variables ``r`` given ``xi``, and ``B = d^2 log pi / dr dxi``, both of the density
itself there, the sampler's variables ``z`` are about independent of unit scale in

.. math:: \xi = \hat\xi + C^{1/2} z_1, \qquad
   r = \hat r + P^{-1} B (\xi - \hat\xi) + P^{-1/2} z_2 .
"""

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.sparse.linalg import splu

from ..numerics.bind import bind_numpy
from ..numerics.groups import Factor, is_nested, largest_first, parents
from ..numerics.irls import expected_weights, total_log_scale
from ..numerics.laplace import Laplace
from ..numerics.partly_centred import Information
from .density import IntegratedDensity
from .joint import JointDensity

DIFFERENCE = 1e-2  # step of second derivatives, in posterior standard deviations
CHUNK = 256  # levels worked on at a time: bounds the memory
DENSE = 400  # other effects up to which their precision is found whole: a square root's cost


class LaplacePosterior:
    """Log posterior of the coordinates, the effects of all factors by Laplace's approximation.

    Parameters
    ----------
    density
        Of the same model: rows, factors and coordinates are its.
    """

    def __init__(self, density: IntegratedDensity):
        self.density = density
        self.rank = largest_first(density.factors)
        ranked = [density.factors[k] for k in self.rank]
        rows = density.rows
        self.integral = Laplace(density.blocks, rows.y, rows.trials, ranked)
        self.size = density.size

    def __call__(self, xi: np.ndarray) -> tuple[float, np.ndarray]:
        """Log posterior density and its gradient; -inf where it cannot be had."""
        with np.errstate(all="ignore"):
            value, gradient = self._evaluate(xi)
        if not (isfinite(value) and np.isfinite(gradient).all()):
            return -inf, np.full(self.size, np.nan)
        return value, gradient

    def _evaluate(self, xi: np.ndarray) -> tuple[float, np.ndarray]:
        d = self.density
        c = d.coordinates
        prior, gradient = c.log_prior_at(xi)
        dispersion, log_slope = c.dispersion_at(xi)
        base = d.rows.X @ xi[: c.p] + d.rows.offset
        factors = self.factors(xi)
        finite = isfinite(prior + base.sum()) and all(np.isfinite(L).all() for L in factors)
        if not (finite and 0 < dispersion < inf):
            return -inf, gradient
        pieces = self.integral(base, dispersion, factors)
        scale, by_scale = total_log_scale(d.blocks.log_scale, d.distinct, dispersion)
        own = np.zeros(self.size)
        own[: c.p] = pieces.t @ d.rows.X
        for k, gamma in zip(self.rank, pieces.gammas, strict=True):
            c.fill_gradient(own, xi, k, gamma)
        if c.has_dispersion:
            own[-1] = (pieces.dispersion + by_scale) * log_slope
        return pieces.value + scale + d.constant + prior, gradient + own

    def factors(self, xi: np.ndarray) -> list[np.ndarray]:
        """``L`` of each factor, the largest first."""
        return [self.density.coordinates.factor_at(xi, k) for k in self.rank]

    def modes(self) -> list[np.ndarray]:
        """Modes of ``u`` at the last evaluation, ``(levels, q)``, in the order of ``rank``."""
        integral = self.integral
        found, low = [integral.x.copy()], 0
        for f in integral.ranked[1:]:
            place = integral.pattern.position[low : low + f.levels * f.q]
            found.append(integral.z[place].reshape(f.levels, f.q))
            low += f.levels * f.q
        return found


def joint_density(density: IntegratedDensity, laplace: LaplacePosterior, mode: np.ndarray):
    """Give the joint density whose variables suit the Laplace posterior at ``mode``.

    At the mode all its variables are zero.
    """
    laplace(mode)
    factors = dict(zip(laplace.rank, laplace.factors(mode), strict=True))
    modes = dict(zip(laplace.rank, laplace.modes(), strict=True))
    effects = {k: u @ factors[k].T for k, u in modes.items()}
    density.integral.modes[:] = modes[density.largest]
    eta = density.rows.X @ mode[: density.coordinates.p] + density.rows.offset
    for k, f in enumerate(density.factors):
        eta = eta + np.sum(f.Z * effects[k][f.index], axis=1)
    dispersion = density.coordinates.dispersion_at(mode)[0]
    bound = bind_numpy(density.model.family, density.model.link)
    weights = expected_weights(bound, eta, density.rows.trials, dispersion)
    scores = laplace.integral.rows[1]
    information = []
    for k in density.others:
        finer = [j for j in density.others if j != k and lies_within(density.factors[j], density.factors[k])]
        coarser = [j for j in density.others if j != k and lies_within(density.factors[k], density.factors[j])]
        gone = [density.largest, *finer]
        f = density.factors[k]
        eliminated = Eliminated(weights, [(density.factors[j], factors[j]) for j in gone])
        W = eliminated.blocks(f, f, np.arange(f.levels))
        s = f.sum_by_level(scores[:, None] * f.Z) + np.einsum("gcd,gd->gc", W, effects[k])
        above = []
        for j in coarser:
            parent = parents(f, density.factors[j])
            C = eliminated.blocks(f, density.factors[j], parent)
            s = s + np.einsum("gcd,gd->gc", C, effects[j][parent])
            above.append((density.others.index(j), np.ascontiguousarray(C), parent))
        information.append(Information(W, s, tuple(above)))
    return JointDensity(density, information)


def lies_within(finer: Factor, coarser: Factor) -> bool:
    """Tell whether each level of the first lies within one of the second."""
    return finer.levels > coarser.levels and is_nested([finer, coarser])


class Eliminated:
    """Information of rows with some factors' effects eliminated.

    ``w - w A (I + A'wA)^{-1} A'w``, ``A`` the rows ``L'z_j`` of the eliminated factors.
    """

    def __init__(self, weights, gone):
        self.weights = weights
        self.A = sparse.hstack([columns_of(f, f.Z @ L) for f, L in gone], format="csc")
        weighted = self.A.multiply(weights[:, None]).tocsc()
        self.solver = splu(sparse.csc_matrix(sparse.eye(self.A.shape[1]) + self.A.T @ weighted))
        self.weighted = weighted

    def blocks(self, left: Factor, right: Factor, partner: np.ndarray) -> np.ndarray:
        """Blocks between each level of ``left`` and its partner of ``right``, ``(levels, q, q')``."""
        found = left.sum_by_level(
            self.weights[:, None, None] * left.Z[:, :, None] * right.Z[:, None, :]
        )
        ours = self.weighted.T @ columns_of(left, left.Z)
        theirs = ours if left is right else self.weighted.T @ columns_of(right, right.Z)
        for first in range(0, left.levels, CHUNK):
            levels = np.arange(first, min(first + CHUNK, left.levels))
            a = dense_columns(ours, levels, left.q)
            b = self.solver.solve(a.reshape(len(a), -1)).reshape(a.shape)
            c = dense_columns(theirs, partner[levels], right.q)
            found[levels] -= np.einsum("egc,egd->gcd", b, c)
        return found


def columns_of(factor: Factor, Z: np.ndarray):
    """``Z`` spread over the levels' columns, sparse, ``(n, levels q)``."""
    n, q = Z.shape
    column = factor.index[:, None] * q + np.arange(q)
    row = np.repeat(np.arange(n), q)
    return sparse.csc_matrix((Z.ravel(), (row, column.ravel())), shape=(n, factor.levels * q))


def dense_columns(matrix, levels: np.ndarray, q: int) -> np.ndarray:
    """Columns of some levels' effects, ``(rows, levels, q)``."""
    at = levels[:, None] * q + np.arange(q)
    return matrix[:, at.ravel()].toarray().reshape(-1, len(levels), q)


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
        """Derivatives by ``z`` from those by the unknowns, ``(size,)``."""
        d = len(self.root)
        by_raw = by_x[d:]
        by_xi = (by_x[:d] + by_raw @ self.slope) @ self.root
        return np.concatenate([by_xi, by_raw if self.rest is None else by_raw @ self.rest])


def whiten(joint: JointDensity, centre: np.ndarray, covariance: np.ndarray) -> Whitening:
    """Find the map at ``centre``, with the coordinates' Laplace covariance."""
    d = joint.coordinate_count
    root = np.linalg.cholesky(covariance)
    steps = DIFFERENCE * np.sqrt(1.0 / np.diag(np.linalg.inv(covariance)))
    cross = second_derivatives(joint, centre, range(d), steps)[:, d:]
    others = joint.size - d
    if others > DENSE:
        return Whitening(centre, root, cross.T, None)
    found = second_derivatives(joint, centre, range(d, joint.size), np.full(others, DIFFERENCE))
    precision = -0.5 * (found[:, d:] + found[:, d:].T)
    values, vectors = np.linalg.eigh(precision)
    precision = (vectors * np.maximum(values, 0.1)) @ vectors.T  # of a normal prior it is about 1
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
