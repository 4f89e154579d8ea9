r"""Where a sampler of ``JointDensity`` starts: at the mode of Laplace's posterior.

Laplace's approximation over the effects of all factors gives the mode of the coordinates and
the inverse Hessian there, and the effects' conditional modes.
"""

from math import inf, isfinite

import numpy as np

from ..numerics.bind import bind_numpy
from ..numerics.groups import largest_first
from ..numerics.irls import expected_weights, total_log_scale
from ..numerics.laplace import Laplace
from .density import IntegratedDensity
from .joint import JointDensity
from .level_information import AtMode, information


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


def joint_density(laplace: LaplacePosterior, mode: np.ndarray) -> JointDensity:
    """Give the joint density whose variables suit the Laplace posterior at ``mode``.

    There all the other factors' variables are zero.
    """
    density = laplace.density
    laplace(mode)
    at = at_mode(laplace, mode)
    density.integral.modes[:] = laplace.modes()[0]
    return JointDensity(density, information(at, density.largest, density.others))


def at_mode(laplace: LaplacePosterior, mode: np.ndarray) -> AtMode:
    """Describe the joint mode of the effects that the last evaluation, at ``mode``, found."""
    d = laplace.density
    c, count = d.coordinates, len(d.factors)
    L = [c.factor_at(mode, k) for k in range(count)]
    modes = dict(zip(laplace.rank, laplace.modes(), strict=True))
    effects = [modes[k] @ L[k].T for k in range(count)]
    eta = d.rows.X @ mode[: c.p] + d.rows.offset
    for f, b in zip(d.factors, effects, strict=True):
        eta = eta + np.sum(f.Z * b[f.index], axis=1)
    bound = bind_numpy(d.model.family, d.model.link)
    weights = expected_weights(bound, eta, d.rows.trials, c.dispersion_at(mode)[0])
    return AtMode(weights, laplace.integral.rows[1].copy(), d.factors, L, effects)
