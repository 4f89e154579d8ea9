r"""The posterior density with the effects of one factor integrated out.

.. math:: \log \pi(\xi \mid y) = \log \int f(y \mid o + X\beta + Z L u, \phi)\, \varphi(u)\, du
   + \log \pi(\xi)

``xi`` are the ``Coordinates``: it is the density that ``build_graph`` writes, with ``u``
integrated out by adaptive Gauss-Hermite quadrature, and its exact gradient.
"""

from math import inf, isfinite

import numpy as np

from ..frequentist.likelihood import factors_of
from ..numerics.bind import bind_numba, bind_numpy
from ..numerics.draws import ManyDraws, log_concave
from ..numerics.groups import (
    Rows,
    alike_levels,
    distinct_by_level,
    distinct_rows,
    largest_first,
    sort_rows,
)
from ..numerics.irls import total_log_scale
from ..numerics.quadrature import Quadrature
from ..numerics.standardise import standardise
from .coordinates import Coordinates

TOGETHER = 8_192  # constants worked on at a time


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
    def group(self) -> str:
        """Name of the factor that is integrated out."""
        return self.model.design.groups[self.largest].group

    @property
    def nodes(self) -> int:
        """Quadrature nodes per effect."""
        return self.integral.nodes

    def use_nodes(self, nodes: int) -> None:
        """Change the quadrature rule."""
        self.integral.use_nodes(nodes)

    def likelihood(self, xi: np.ndarray, extra: float | np.ndarray = 0.0) -> tuple:
        """Marginal log-likelihood at one point, its gradient by ``xi``, and by ``eta``.

        ``extra`` is what other factors add to ``eta``.
        """
        c = self.coordinates
        nothing = -inf, np.full(self.size, np.nan), None
        dispersion, log_slope = c.dispersion_at(xi)
        base = self.rows.X @ xi[: c.p] + self.rows.offset + extra
        L = c.factor_at(xi, self.largest)
        if not (isfinite(base.sum()) and isfinite(L.sum()) and 0 < dispersion < inf):
            return nothing
        pieces = self.integral(base, dispersion, [L])
        scale, by_scale = total_log_scale(self.blocks.log_scale, self.distinct, dispersion)
        gradient = np.zeros(self.size)
        gradient[: c.p] = pieces.t @ self.rows.X
        c.fill_gradient(gradient, xi, self.largest, pieces.gammas[0])
        if c.has_dispersion:
            gradient[-1] = (pieces.dispersion + by_scale) * log_slope
        return pieces.value + scale + self.constant, gradient, pieces.t

    def __call__(self, xi: np.ndarray) -> tuple[float, np.ndarray]:
        """Log posterior density and its gradient; -inf where it cannot be had."""
        with np.errstate(all="ignore"):
            prior, by_prior = self.coordinates.log_prior_at(xi)
            if not isfinite(prior):
                return -inf, np.full(self.size, np.nan)
            value, gradient, _ = self.likelihood(xi)
            gradient = gradient + by_prior
        if not (isfinite(value) and np.isfinite(gradient).all()):
            return -inf, np.full(self.size, np.nan)
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
        y, trials, count = self.distinct
        return self._scales(dispersion, y, trials, count)

    def log_constants(self, dispersion: np.ndarray) -> np.ndarray:
        """All of the family's constants by level of the factor, ``(draws, levels)``."""
        y, trials = self.rows.y, self.rows.trials
        factor = self.factors[self.largest]
        base = np.broadcast_to(self.model.family.log_base(y, trials), y.shape)
        fixed = factor.sum_by_level(np.array(base, float))
        if self.distinct is None:
            return np.broadcast_to(fixed, (len(dispersion), factor.levels))
        counts = distinct_by_level(y, trials, factor)
        some_y, some_trials, _ = self.distinct
        return fixed + self._scales(dispersion, some_y, some_trials, counts)

    def _scales(self, dispersion: np.ndarray, y, trials, counts) -> np.ndarray:
        """Constants of distinct rows at each dispersion, times their ``counts``."""
        step = max(1, TOGETHER // len(y))
        parts = []
        with np.errstate(all="ignore"):
            for a in range(0, len(dispersion), step):
                some = dispersion[a : a + step, None]
                scale = self.blocks.log_scale(y, trials, some)[0]
                parts.append(np.broadcast_to(scale, (len(some), len(y))) @ counts)
        return np.concatenate(parts)

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
