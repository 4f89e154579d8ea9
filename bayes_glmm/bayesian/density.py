r"""The posterior density with the effects of one factor integrated out.

.. math:: \log \pi(\xi \mid y) = \log \int f(y \mid o + X\beta + Z L u, \phi)\, \varphi(u)\, du
   + \log \pi(\xi)

``xi`` are the ``Coordinates``: it is the density that ``build_graph`` writes, with ``u``
integrated out by adaptive Gauss-Hermite quadrature, and its exact gradient.
"""

import numpy as np

from ..frequentist.likelihood import factors_of
from ..numerics.bind import bind_numba, bind_numpy
from ..numerics.draws import ManyDraws, log_concave
from ..numerics.groups import Rows, alike_levels, distinct_rows, largest_first, sort_rows
from ..numerics.irls import total_log_scale
from ..numerics.quadrature import Quadrature
from ..numerics.standardise import standardise
from .coordinates import Coordinates


class IntegratedDensity:
    """Log posterior of a model's coordinates, one factor's effects integrated out.

    Parameters
    ----------
    model
        The GLMM.
    nodes
        Quadrature nodes per effect.

    Attributes
    ----------
    size
        Number of coordinates.
    """

    def __init__(self, model, nodes: int):
        d = model.design
        factors = factors_of(model)
        self.model = model
        self.largest = largest_first(factors)[0]
        self.others = [k for k in range(len(factors)) if k != self.largest]
        rows, self.factors = sort_rows(
            Rows(d.y, d.trials, d.offset, d.X), factors, [factors[self.largest]]
        )
        standard = standardise(rows.X)
        rows = Rows(rows.y, rows.trials, rows.offset, standard.columns)
        self.rows = Rows(*(np.array(a, float, order="C") for a in vars(rows).values()))
        self.coordinates = Coordinates(model, standard)
        self.size = self.coordinates.size
        self.blocks = bind_numba(model.family, model.link)
        y, trials = self.rows.y, self.rows.trials
        self.distinct = distinct_rows(y, trials) if self.blocks.has_dispersion else None
        self.constant = float(model.family.log_base(y, trials).sum())
        factor = self.factors[self.largest]
        self.integral = Quadrature(self.blocks, y, trials, factor, nodes)
        self.alike = alike_levels(self.rows, factor)

    @property
    def nodes(self) -> int:
        """Quadrature nodes per effect."""
        return self.integral.nodes

    def use_nodes(self, nodes: int) -> None:
        """Change the quadrature rule."""
        self.integral.use_nodes(nodes)

    def likelihood(self, xi: np.ndarray, extra=0.0) -> tuple:
        """Marginal log-likelihood at one point, its gradient by ``xi``, and by ``eta``.

        ``extra`` is what other factors add to ``eta``.
        """
        c = self.coordinates
        nothing = -np.inf, np.full(self.size, np.nan), None
        dispersion = float(c.dispersion(xi[None])[0])
        base = self.rows.X @ xi[: c.p] + self.rows.offset + extra
        L = c.factor(xi[None], self.largest)[0]
        if not (np.all(np.isfinite(base)) and np.all(np.isfinite(L)) and 0 < dispersion < np.inf):
            return nothing
        pieces = self.integral(base, dispersion, [L])
        scale, by_scale = total_log_scale(self.blocks.log_scale, self.distinct, dispersion)
        gradient = np.zeros(self.size)
        gradient[: c.p] = self.rows.X.T @ pieces.t
        by_sd, by_z = c.pull_back(xi, self.largest, pieces.gammas[0])
        gradient[c.sd_at[self.largest]] = by_sd
        gradient[c.z_at[self.largest]] = by_z
        if c.has_dispersion:
            slope = c.scales[self.size - 1].slope(xi[-1]) / dispersion
            gradient[-1] = (pieces.dispersion + by_scale) * slope
        return pieces.value + scale + self.constant, gradient, pieces.t

    def __call__(self, xi: np.ndarray) -> tuple[float, np.ndarray]:
        """Log posterior density and its gradient; -inf where it cannot be had."""
        c = self.coordinates
        with np.errstate(all="ignore"):
            prior = float(c.log_prior(xi[None])[0])
            if not np.isfinite(prior):
                return -np.inf, np.full(self.size, np.nan)
            value, gradient, _ = self.likelihood(xi)
            gradient = gradient + c.log_prior_gradient(xi)
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return -np.inf, np.full(self.size, np.nan)
        return value + prior, gradient

    def many(self, threads: int | None = None, start: np.ndarray | None = None) -> ManyDraws:
        """Give the integrals at many points, with the present nodes.

        Searches start from the modes at the last evaluation, or from ``start``.
        """
        modes = self.integral.modes if start is None else start
        factor = self.factors[self.largest]
        return ManyDraws(
            self.blocks, self.rows, factor, self.nodes, modes, threads, alike=self.alike
        )

    def arguments(self, xi: np.ndarray) -> tuple:
        """Coefficients, ``L`` and dispersion of many points, as ``ManyDraws`` takes them."""
        c = self.coordinates
        return xi[:, : c.p], c.factor(xi, self.largest), c.dispersion(xi)

    def log_scales(self, dispersion: np.ndarray) -> np.ndarray:
        """Family's constant in ``eta`` at each dispersion, summed over rows."""
        if self.distinct is None:
            return np.zeros(len(dispersion))
        with np.errstate(all="ignore"):
            return np.array(
                [total_log_scale(self.blocks.log_scale, self.distinct, d)[0] for d in dispersion]
            )

    def log_constants(self, dispersion: np.ndarray) -> np.ndarray:
        """All of the family's constants by level of the factor, ``(draws, levels)``."""
        y, trials = self.rows.y, self.rows.trials
        factor = self.factors[self.largest]
        base = np.broadcast_to(self.model.family.log_base(y, trials), y.shape)
        fixed = factor.sum_by_level(np.array(base, float))
        if self.distinct is None:
            return np.broadcast_to(fixed, (len(dispersion), factor.levels))
        scales = [self.blocks.log_scale(y, trials, d)[0] for d in dispersion]
        rows = [factor.sum_by_level(np.array(np.broadcast_to(s, y.shape), float)) for s in scales]
        return fixed + np.array(rows)

    def concave(self, dispersion: np.ndarray) -> bool:
        """Tell whether the family's log density is concave in ``eta`` at these dispersions."""
        bound = bind_numpy(self.model.family, self.model.link)
        ends = sorted({float(np.min(dispersion)), float(np.max(dispersion))})
        return log_concave(bound, self.rows.y, self.rows.trials, ends)


def log_density(density, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log posterior at many points, ``(draws,)``, and ``log L_g``, ``(draws, levels)``."""
    arguments = density.arguments(xi)
    with np.errstate(all="ignore"):
        by_group = density.many().by_group(*arguments)
        total = by_group.sum(axis=1) + density.log_scales(arguments[2]) + density.constant
        total = total + density.coordinates.log_prior(xi)
    return np.where(np.isfinite(total), total, -np.inf), by_group
