r"""The joint prior of all coefficients and standard deviations by the variance they explain.

.. math:: R^2 \sim \mathrm{Beta}(\mu\psi, (1 - \mu)\psi), \quad \tau^2 = R^2 / (1 - R^2), \quad
   \phi \sim \mathrm{Dirichlet}(\alpha, \dots, \alpha)

.. math:: \beta_k \sim N(0, \sigma^2 \tau^2 \phi_k / s_k^2), \quad
   \mathrm{sd}_j = \sigma \tau \sqrt{\phi_j} / s_j

(Aguilar & Bürkner 2023), ``s`` the SD of a column (1 for an intercept) and ``sigma`` the residual
SD on the link scale (``residual_scale``).
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import log
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import (
    betainc,
    betaincinv,
    betaln,
    expit,
    gammaln,
    log_expit,
    polygamma,
)

from .base import POSITIVE, SHARE, Prior
from .deviations import HalfNormal
from .implied import LATENT

RESERVED = ("r2", "phi", "component")  # names of variables and dims


@dataclass(frozen=True)
class R2D2M2(Prior):
    r"""Prior of the share of variance explained, divided among all terms (Aguilar & Bürkner 2023).

    ``R2``, the variance that coefficients and group effects explain together as a share of that
    plus the residual variance, is ``Beta(mean * precision, (1 - mean) * precision)``. It is divided
    by ``phi ~ Dirichlet(concentration)`` among the coefficients (but the intercept) and the
    standard deviations of group effects, each for its column divided by the column's SD. More
    terms then share the same variance, where independent priors would expect more of it.

    The default, uniform ``R2`` and ``concentration=0.5``, is that of brms. A concentration below
    one lets few terms explain most, a larger one spreads ``R2`` evenly. Given to
    ``Priors(joint=…)``, it takes the place of ``beta`` and ``sd``; the intercept, correlations and
    the dispersion keep priors of their own. As a distribution it is that of ``R2``.

    The residual standard deviation on the link scale is the dispersion (gaussian, link identity);
    that of the latent variable for links of a probability, pi / sqrt(3) for the logit and 1 for the
    probit; otherwise ``sqrt(Var(y)) |g'(mu)|`` of one row at the mean response, the pseudo-variance
    of Piironen & Vehtari (2017): ``1 / sqrt(mean)`` for Poisson and log.
    """

    roles: ClassVar = frozenset({"joint"})
    domain: ClassVar = {"mean": SHARE, "precision": POSITIVE, "concentration": POSITIVE}
    mean: float = 0.5
    precision: float = 2.0
    concentration: float = 0.5

    @property
    def support(self) -> tuple[float, float]:
        """A share lies between 0 and 1."""
        return 0.0, 1.0

    @property
    def shapes(self) -> tuple[float, float]:
        """Both parameters of the beta distribution of ``R2``."""
        return self.mean * self.precision, (1.0 - self.mean) * self.precision

    def _logpdf(self, x):
        a, b = self.shapes
        return (a - 1.0) * np.log(x) + (b - 1.0) * np.log1p(-x) - betaln(a, b)

    def _cdf(self, x):
        return betainc(*self.shapes, x)

    def _ppf(self, q):
        return betaincinv(*self.shapes, q)

    def _pymc(self):
        return "Beta", dict(zip(("alpha", "beta"), self.shapes, strict=True))

    def log_density_of_variances(self, v, count: int, log=np.log):
        """Log density of ``v = R2 / (1 - R2) * phi``, shape (components,), as a formula.

        ``sum v = R2 / (1 - R2)``, and ``phi`` and that sum have the Jacobian ``sum^(1 - count)``.
        These are the coordinates of the graph: data inform each variance by itself.
        """
        (a, b), c = self.shapes, self.concentration
        total = v.sum()
        kernel = (a - count * c) * log(total) - (a + b) * log(1.0 + total)
        constant = gammaln(count * c) - count * gammaln(c) - betaln(a, b)
        return kernel + (c - 1.0) * log(v).sum() + constant

    def log_density_of_shares(self, phi):
        """Log density of ``phi``, shape (..., components), over all components but the last."""
        phi = np.asarray(phi, float)
        count, a = phi.shape[-1], self.concentration
        with np.errstate(divide="ignore"):
            kernel = (a - 1.0) * np.sum(np.log(phi), axis=-1) if a != 1.0 else 0.0
        return kernel + gammaln(count * a) - count * gammaln(a)


@dataclass(frozen=True, eq=False)
class SharedVariance:
    """An ``R2D2M2`` prior in its model.

    Attributes
    ----------
    prior
        The prior.
    components
        What shares the variance: names of coefficients, then ``herd[Intercept]`` of effects.
    unit
        SD of each with ``R2 / (1 - R2) * phi`` one, and dispersion one; shape (components,).
    by_dispersion
        Whether the residual SD is the dispersion times the above.
    coefficients
        Positions of these among the terms of the model.
    effects
        Group -> positions of its standard deviations among the components.
    """

    prior: R2D2M2
    components: tuple[str, ...]
    unit: np.ndarray
    by_dispersion: bool
    coefficients: tuple[int, ...]
    effects: dict[str, slice]

    def scales(self, variances, dispersion, sqrt=np.sqrt):
        """SD of every component from ``R2 / (1 - R2) * phi``, shape (..., components).

        ``dispersion`` broadcasts against it; both may be symbols, with their own ``sqrt``.
        """
        found = sqrt(variances) * self.unit
        return found * dispersion if self.by_dispersion else found

    def shares(self, rng: np.random.Generator, shape) -> np.ndarray:
        """Draw ``phi``, shape (*shape, components)."""
        return rng.dirichlet(np.full(len(self.components), self.prior.concentration), shape)


class ResidualScale(NamedTuple):
    """SD of the residual on the link scale, and where it comes from."""

    value: float
    by_dispersion: bool
    why: str


def residual_scale(design, family, link) -> ResidualScale:
    """SD of what the linear predictor leaves unexplained of one response, link scale."""
    if link.name in LATENT:
        value = float(np.sqrt(LATENT[link.name]))
        return ResidualScale(value, False, f"residual SD of the latent variable {value:.4g}")
    if family.dispersion_is_scale and link.name == "identity":
        return ResidualScale(1.0, True, "residual SD is the dispersion")
    total, trials = float(np.sum(design.y)), float(np.sum(design.trials))
    if family.support.integer:  # half an event keeps the mean inside its range
        high = link.mean_range.high
        total, trials = max(total, 0.5), trials + 0.5 * (total >= trials * high)
    mu = np.array(total / trials)
    slope = abs(float(link.inverse(link.link(mu))[1]))
    rough = 1.0
    if family.has_dispersion and not family.dispersion_is_scale:
        rough = family.rough_dispersion(design.y, design.trials, np.full(design.y.shape, mu))
    value = float(np.sqrt(family.variance(mu, rough))) / slope
    by = " times the dispersion" if family.dispersion_is_scale else ""
    why = f"residual SD {value:.4g}{by}, on the link scale at the mean response"
    return ResidualScale(value, family.dispersion_is_scale, why)


@dataclass(frozen=True)
class SharedMargin(Prior):
    """What an ``R2D2M2`` prior says of one coefficient or standard deviation alone.

    ``sd = unit * sqrt(R2 / (1 - R2) * phi)``, ``phi ~ Beta(a, (count - 1) a)`` one of ``count``
    shares, times the dispersion where that has the prior ``scale``; a coefficient is
    ``N(0, sd^2)``. There is no closed form: log densities and distribution functions are
    integrated on a grid (relative error about 1e-6).
    """

    roles: ClassVar = frozenset({"coefficient", "sd"})
    joint: R2D2M2
    count: int
    unit: float
    scale: Prior | None
    coefficient: bool

    @property
    def proper(self) -> bool:
        """Whether the dispersion's prior is."""
        return self.scale is None or self.scale.proper

    @property
    def support(self) -> tuple[float, float]:
        """The line for a coefficient, what is above zero for an SD."""
        return (-np.inf, np.inf) if self.coefficient else (0.0, np.inf)

    @property
    def tail(self) -> float:
        """``2 b + 1``, ``b`` the second shape of ``R2``; that of the dispersion if heavier."""
        other = np.inf if self.scale is None else self.scale.tail
        return min(2.0 * self.joint.shapes[1] + 1.0, other)

    @property
    def origin(self) -> float:
        """``2 min(a, concentration) - 1``, ``a`` the first shape of ``R2``: always above -1."""
        share = np.inf if self.count == 1 else self.joint.concentration
        other = np.inf if self.scale is None else self.scale.origin
        return min(2.0 * min(self.joint.shapes[0], share) - 1.0, other)

    def describe(self) -> str:
        """Give the formula, with the unit as a number."""
        unit = [] if self.unit == 1.0 else [f"{self.unit:.4g}"]
        unit += [] if self.scale is None else ["dispersion"]
        sd = " ".join([*unit, "sqrt(phi R2 / (1 - R2))"])
        return f"Normal(0, {sd})" if self.coefficient else sd

    @property
    def _standard(self) -> "_LogDistribution":
        return _standard(replace(self, unit=1.0))

    def _log_size(self, x) -> np.ndarray:
        return np.log(np.maximum(np.abs(x) / self.unit, np.finfo(float).tiny))

    def _logpdf(self, x):
        y = self._log_size(x)
        log_density = self._standard.log_density(y) - y - log(self.unit)
        return log_density - log(2.0) if self.coefficient else log_density

    def _cdf(self, x):
        below = np.where(x == 0, 0.0, expit(self._standard.logit(self._log_size(x))))
        return 0.5 * (1.0 + np.sign(x) * below) if self.coefficient else below

    def _ppf(self, q):
        if not self.coefficient:
            return self.unit * np.exp(self._standard.ppf(q))
        distance = 2.0 * np.asarray(q, float) - 1.0
        return np.sign(distance) * self.unit * np.exp(self._standard.ppf(np.abs(distance)))


STEP = 0.5  # of trapezoidal rules on the logistic scale: error of the order exp(-2 pi^2 / step)
FAR = 36.0  # expit(36) is the last double below one
POINTS = 801  # of the grid of log SDs
FACTORS = 160  # nodes of the log of a factor


class _LogDistribution:
    """A distribution of the log of a positive quantity, by its values on a grid."""

    def __init__(self, grid: np.ndarray, density, below, above):
        from scipy.interpolate import CubicSpline

        with np.errstate(divide="ignore"):
            log_density, logit = np.log(density), np.log(below) - np.log(above)
        keep = np.isfinite(log_density) & np.isfinite(logit) & (np.diff(logit, prepend=-np.inf) > 0)
        self.grid, self._logit = grid[keep], logit[keep]
        self._log_density = CubicSpline(self.grid, log_density[keep])
        self._logit_below = CubicSpline(self.grid, self._logit)

    def log_density(self, y):
        """Log density; beyond the grid its tails go on straight."""
        inside = np.clip(y, self.grid[0], self.grid[-1])
        return self._log_density(inside) + self._log_density(inside, 1) * (y - inside)

    def logit(self, y):
        """Log odds of the distribution function."""
        inside = np.clip(y, self.grid[0], self.grid[-1])
        return self._logit_below(inside) + self._logit_below(inside, 1) * (y - inside)

    def ppf(self, q):
        """Invert the distribution function: interpolation, then one step of Newton's method."""
        with np.errstate(divide="ignore"):
            wanted = np.log(q) - np.log1p(-np.asarray(q, float))
        held = np.clip(wanted, self._logit[0], self._logit[-1])
        y = np.interp(held, self._logit, self.grid)
        y = y - (self._logit_below(y) - held) / self._logit_below(y, 1)
        return np.where(np.isinf(wanted), wanted, y)

    def times(self, prior: Prior) -> "_LogDistribution":
        """Distribution of the product with an independent positive quantity of that prior."""
        low = log(prior.ppf(0.5)) - FAR / (1.0 + min(prior.origin, 1.0))
        high = log(prior.ppf(1.0 - 1e-13))
        node, weight = np.polynomial.legendre.leggauss(FACTORS)
        log_factor = 0.5 * (high + low) + 0.5 * (high - low) * node
        weight = weight * np.exp(prior.logpdf(np.exp(log_factor)) + log_factor)
        weight = weight / weight.sum()
        moved = self.grid[:, None] - log_factor
        logit = self.logit(moved)
        density = np.exp(self.log_density(moved)) @ weight
        return _LogDistribution(self.grid, density, expit(logit) @ weight, expit(-logit) @ weight)


@lru_cache(maxsize=32)
def _standard(margin: "SharedMargin") -> _LogDistribution:
    """Distribution of ``log sd``, or of the log of a coefficient's size, for unit one."""
    if margin.coefficient:
        return _standard(replace(margin, coefficient=False)).times(HalfNormal(1.0))
    low, high = -FAR / (margin.origin + 1.0), FAR / (margin.tail - 1.0)
    grid = np.linspace(min(low, -10.0), max(high, 10.0), POINTS)
    found = _explained(grid, margin.joint, margin.count)
    return found if margin.scale is None else found.times(margin.scale)


def _explained(grid: np.ndarray, joint: R2D2M2, count: int) -> _LogDistribution:
    """Distribution of ``log sqrt(R2 / (1 - R2) * phi)``."""
    a, b = joint.shapes
    log_share, weight = _shares(joint.concentration, (count - 1) * joint.concentration)
    t = 2.0 * grid[:, None] - log_share  # logit of R2
    density = 2.0 * np.exp(a * log_expit(t) + b * log_expit(-t) - betaln(a, b))
    below, above = betainc(a, b, expit(t)), betainc(b, a, expit(-t))
    return _LogDistribution(grid, density @ weight, below @ weight, above @ weight)


def _shares(a: float, rest: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of ``log phi`` and their weights, for ``phi ~ Beta(a, rest)``; 1 where it is alone."""
    if rest == 0.0:
        return np.zeros(1), np.ones(1)
    spread = float(np.sqrt(polygamma(1, a) + polygamma(1, rest)))  # of logit phi
    step = min(STEP, 0.8 * spread)
    t = np.arange(-2.0 * FAR / min(a, 1.0), FAR / min(rest, 1.0) + step, step)
    weight = step * np.exp(a * log_expit(t) + rest * log_expit(-t) - betaln(a, rest))
    return log_expit(t), weight
