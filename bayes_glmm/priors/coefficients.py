"""Priors on the whole line, for coefficients; Uniform and Flat serve standard deviations too."""

from dataclasses import dataclass
from math import inf, isfinite, lgamma, log, pi
from typing import ClassVar, Literal

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from .base import BOUND, FINITE, POSITIVE, WIDTH, Prior

COEFFICIENT = frozenset({"coefficient"})


@dataclass(frozen=True)
class Normal(Prior):
    """Normal prior of a coefficient.

    Density ``exp(-((x - mean) / sd)^2 / 2) / (sd sqrt(2 pi))`` on the real line; mean
    ``mean``, standard deviation ``sd``. Improper with ``sd=inf``.
    """

    roles: ClassVar = COEFFICIENT
    domain: ClassVar = {"mean": FINITE, "sd": WIDTH}
    mean: float
    sd: float

    @property
    def proper(self) -> bool:
        """Whether ``sd`` is finite."""
        return isfinite(self.sd)

    def _logpdf(self, x):
        return -0.5 * ((x - self.mean) / self.sd) ** 2 - log(self.sd) - 0.5 * log(2 * pi)

    def _cdf(self, x):
        return ndtr((x - self.mean) / self.sd)

    def _ppf(self, q):
        return self.mean + self.sd * ndtri(q)

    def _pymc(self):
        return "Normal", {"mu": self.mean, "sigma": self.sd}


@dataclass(frozen=True)
class StudentT(Prior):
    """Student-t prior of a coefficient.

    Density proportional to ``(1 + z^2 / df)^(-(df + 1) / 2)``, ``z = (x - location) / scale``,
    on the real line; mean ``location`` (df > 1), variance ``scale^2 df / (df - 2)`` (df > 2).
    Improper with ``scale=inf``. For logistic regression: Gelman, Jakulin, Pittau & Su (2008).
    """

    roles: ClassVar = COEFFICIENT
    domain: ClassVar = {"df": POSITIVE, "location": FINITE, "scale": WIDTH}
    df: float
    location: float
    scale: float

    @property
    def proper(self) -> bool:
        """Whether ``scale`` is finite."""
        return isfinite(self.scale)

    @property
    def tail(self) -> float:
        """``df + 1``."""
        return self.df + 1.0 if self.proper else 0.0

    def _logpdf(self, x):
        z = (x - self.location) / self.scale
        return student_t_logpdf(z, self.df) - log(self.scale)

    def _cdf(self, x):
        return stdtr(self.df, (x - self.location) / self.scale)

    def _ppf(self, q):
        return self.location + self.scale * stdtrit(self.df, q)

    def _pymc(self):
        return "StudentT", {"nu": self.df, "mu": self.location, "sigma": self.scale}


@dataclass(frozen=True)
class Cauchy(Prior):
    """Cauchy prior of a coefficient: Student-t with one degree of freedom.

    Density ``1 / (pi scale (1 + z^2))``, ``z = (x - location) / scale``, on the real line;
    median ``location``, no moments. Improper with ``scale=inf``.
    """

    roles: ClassVar = COEFFICIENT
    domain: ClassVar = {"location": FINITE, "scale": WIDTH}
    location: float
    scale: float

    @property
    def proper(self) -> bool:
        """Whether ``scale`` is finite."""
        return isfinite(self.scale)

    @property
    def tail(self) -> float:
        """2."""
        return 2.0 if self.proper else 0.0

    def _logpdf(self, x):
        return -np.log1p(((x - self.location) / self.scale) ** 2) - log(pi * self.scale)

    def _cdf(self, x):
        return 0.5 + np.arctan((x - self.location) / self.scale) / pi

    def _ppf(self, q):
        return self.location + self.scale * np.tan(pi * (q - 0.5))

    def _pymc(self):
        return "Cauchy", {"alpha": self.location, "beta": self.scale}


@dataclass(frozen=True)
class Uniform(Prior):
    """Uniform prior of a coefficient, a standard deviation, a variance, a share or a correlation.

    Density ``1 / (upper - lower)`` between the bounds, of the parameter itself
    (``on="value"``) or of the variance (``on="variance"``; the density of the standard
    deviation is then proportional to itself). Improper with an infinite bound, as the
    uniform priors of Gelman (2006) are.
    """

    roles: ClassVar = frozenset({"coefficient", "sd", "share", "serial"})
    domain: ClassVar = {"lower": BOUND, "upper": BOUND}
    lower: float
    upper: float
    on: Literal["value", "variance"] = "value"

    def __post_init__(self) -> None:
        """Refuse bounds in the wrong order, and a negative variance."""
        super().__post_init__()
        if not self.lower < self.upper:
            raise ValueError(f"{self.describe()} needs its lower bound below its upper.")
        if self.on == "variance" and self.lower < 0:
            raise ValueError(f"{self.describe()} reaches below zero, which no variance does.")

    @property
    def proper(self) -> bool:
        """Whether both bounds are finite."""
        return isfinite(self.upper - self.lower)

    @property
    def tail(self) -> float:
        """Infinite where proper, else 0 (-1 on the variance)."""
        return inf if self.proper else (-1.0 if self.on == "variance" else 0.0)

    @property
    def support(self) -> tuple[float, float]:
        """The bounds, on the parameter's own scale."""
        if self.on == "variance":
            return float(np.sqrt(self.lower)), float(np.sqrt(self.upper))
        return self.lower, self.upper

    @property
    def origin(self) -> float:
        """Infinite where ``lower`` is positive, else 0 (1 on the variance)."""
        return inf if self.lower > 0 else float(self.on == "variance")

    def _logpdf(self, x):
        return np.full(np.shape(x), -log(self.upper - self.lower))

    def _cdf(self, x):
        return (x - self.lower) / (self.upper - self.lower)

    def _ppf(self, q):
        return self.lower + q * (self.upper - self.lower)

    def _pymc(self):
        return "Uniform", {"lower": self.lower, "upper": self.upper}


@dataclass(frozen=True)
class Flat(Prior):
    """The flat prior, "no prior": density 1 everywhere, on an SD density 1 above zero.

    It is improper: with separated data a flat coefficient has no posterior, and a half-flat
    standard deviation has none with few groups (Gelman 2006). It is refused, unless
    ``Priors(allow_improper=True)`` opens the check that the posterior exists.
    """

    roles: ClassVar = frozenset({"coefficient", "sd"})

    @property
    def proper(self) -> bool:
        """Never."""
        return False


def student_t_logpdf(z, df: float):
    """Log density of the standard Student-t distribution."""
    constant = lgamma(0.5 * (df + 1)) - lgamma(0.5 * df) - 0.5 * log(df * pi)
    return constant - 0.5 * (df + 1) * np.log1p(z * z / df)
