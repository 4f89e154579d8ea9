"""Priors on the positive line, for standard deviations; each states its scale."""

from dataclasses import dataclass
from math import inf, isfinite, lgamma, log, pi, sqrt
from typing import ClassVar, Literal

import numpy as np
from scipy.special import (
    betainc,
    erf,
    gammainc,
    gammaincc,
    gammainccinv,
    gammaincinv,
    ndtr,
    ndtri,
    stdtrit,
)

from .base import AMOUNT, FINITE, POSITIVE, SHARE, WIDTH, Prior
from .coefficients import student_t_logpdf

SD = frozenset({"sd"})


@dataclass(frozen=True)
class _HalfScale(Prior):
    """A density folded at zero, with one ``scale``; improper where that is infinite."""

    roles: ClassVar = SD
    domain: ClassVar = {"scale": WIDTH}

    @property
    def proper(self) -> bool:
        """Whether ``scale`` is finite."""
        return isfinite(self.scale)  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class HalfNormal(_HalfScale):
    """Half-normal prior of a standard deviation: ``|x|`` for ``x ~ N(0, scale^2)``.

    Density ``sqrt(2 / pi) exp(-(sd / scale)^2 / 2) / scale`` above zero; mean
    ``scale sqrt(2 / pi)``, tail lighter than any power.
    """

    scale: float

    def _logpdf(self, x):
        return 0.5 * log(2 / pi) - log(self.scale) - 0.5 * (x / self.scale) ** 2

    def _cdf(self, x):
        return erf(x / (self.scale * sqrt(2)))

    def _ppf(self, q):
        return self.scale * ndtri(0.5 * (1.0 + q))

    def _pymc(self):
        return "HalfNormal", {"sigma": self.scale}


@dataclass(frozen=True)
class HalfStudentT(_HalfScale):
    """Half-Student-t prior of a standard deviation (Gelman 2006).

    Density proportional to ``(1 + (sd / scale)^2 / df)^(-(df + 1) / 2)`` above zero; a few
    degrees of freedom give a broad peak at zero and a tail that lets the data speak.
    """

    domain: ClassVar = {"df": POSITIVE, "scale": WIDTH}
    df: float
    scale: float

    @property
    def tail(self) -> float:
        """``df + 1``."""
        return self.df + 1.0 if self.proper else 0.0

    def _logpdf(self, x):
        return log(2.0) + student_t_logpdf(x / self.scale, self.df) - log(self.scale)

    def _cdf(self, x):
        square = (x / self.scale) ** 2
        return betainc(0.5, 0.5 * self.df, square / (self.df + square))

    def _ppf(self, q):
        return self.scale * stdtrit(self.df, 0.5 * (1.0 + q))

    def _pymc(self):
        return "HalfStudentT", {"nu": self.df, "sigma": self.scale}


@dataclass(frozen=True)
class HalfCauchy(_HalfScale):
    """Half-Cauchy prior of a standard deviation (Gelman 2006; Polson & Scott 2012).

    Density ``2 / (pi scale (1 + (sd / scale)^2))`` above zero; median ``scale``, no mean.
    """

    scale: float

    @property
    def tail(self) -> float:
        """2."""
        return 2.0 if self.proper else 0.0

    def _logpdf(self, x):
        return log(2 / pi) - log(self.scale) - np.log1p((x / self.scale) ** 2)

    def _cdf(self, x):
        return 2.0 / pi * np.arctan(x / self.scale)

    def _ppf(self, q):
        return self.scale * np.tan(0.5 * pi * q)

    def _pymc(self):
        return "HalfCauchy", {"beta": self.scale}


@dataclass(frozen=True)
class Exponential(Prior):
    """Exponential prior of a standard deviation.

    Density ``rate exp(-rate sd)`` above zero; mean and standard deviation ``1 / rate``.
    Improper with ``rate=0``.
    """

    roles: ClassVar = SD
    domain: ClassVar = {"rate": AMOUNT}
    rate: float

    @property
    def proper(self) -> bool:
        """Whether ``rate`` is positive."""
        return self.rate > 0

    def _logpdf(self, x):
        return log(self.rate) - self.rate * x

    def _cdf(self, x):
        return -np.expm1(-self.rate * x)

    def _ppf(self, q):
        return -np.log1p(-q) / self.rate

    def _pymc(self):
        return "Exponential", {"lam": self.rate}


@dataclass(frozen=True)
class PC(Prior):
    """Penalised-complexity prior of a standard deviation: ``P(sd > upper) = prob``.

    The exponential density with ``rate = -log(prob) / upper``, which penalises the distance
    from the model without the effect at a constant rate (Simpson, Rue, Riebler, Martins &
    Sørbye 2017). Improper with ``upper=inf``.
    """

    roles: ClassVar = SD
    domain: ClassVar = {"upper": WIDTH, "prob": SHARE}
    upper: float
    prob: float

    @property
    def exponential(self) -> Exponential:
        """The same prior by its rate."""
        return Exponential(-log(self.prob) / self.upper)

    @property
    def proper(self) -> bool:
        """Whether ``upper`` is finite."""
        return isfinite(self.upper)

    def _logpdf(self, x):
        return self.exponential._logpdf(x)

    def _cdf(self, x):
        return self.exponential._cdf(x)

    def _ppf(self, q):
        return self.exponential._ppf(q)

    def _pymc(self):
        return self.exponential._pymc()


@dataclass(frozen=True)
class Gamma(Prior):
    """Gamma prior of a standard deviation.

    Density ``rate^shape sd^(shape - 1) exp(-rate sd) / Gamma(shape)`` above zero; mean
    ``shape / rate``, variance ``shape / rate^2``. Shape 2 and a small rate keep the mode off
    zero (Chung, Rabe-Hesketh, Dorie, Gelman & Liu 2013). Improper with shape or rate zero.
    """

    roles: ClassVar = SD
    domain: ClassVar = {"shape": AMOUNT, "rate": AMOUNT}
    shape: float
    rate: float

    @property
    def proper(self) -> bool:
        """Whether shape and rate are positive."""
        return self.shape > 0 and self.rate > 0

    @property
    def tail(self) -> float:
        """Infinite where ``rate`` is positive, else ``1 - shape``."""
        return np.inf if self.rate > 0 else 1.0 - self.shape

    @property
    def origin(self) -> float:
        """``shape - 1``."""
        return self.shape - 1.0

    def _logkernel(self, x, log=np.log):
        return (self.shape - 1.0) * log(x) - self.rate * x

    def _logpdf(self, x):
        constant = self.shape * log(self.rate) - lgamma(self.shape)
        return constant + (self.shape - 1.0) * np.log(x) - self.rate * x

    def _cdf(self, x):
        return gammainc(self.shape, self.rate * x)

    def _ppf(self, q):
        return gammaincinv(self.shape, q) / self.rate

    def _pymc(self):
        return "Gamma", {"alpha": self.shape, "beta": self.rate}


@dataclass(frozen=True)
class LogNormal(Prior):
    """Log-normal prior of a standard deviation: ``log(sd) ~ N(meanlog, sdlog^2)``.

    Density ``exp(-((log sd - meanlog) / sdlog)^2 / 2) / (sd sdlog sqrt(2 pi))`` above zero;
    median ``exp(meanlog)``, mean ``exp(meanlog + sdlog^2 / 2)``. Improper with ``sdlog=inf``.
    """

    roles: ClassVar = SD
    domain: ClassVar = {"meanlog": FINITE, "sdlog": WIDTH}
    meanlog: float
    sdlog: float

    @property
    def proper(self) -> bool:
        """Whether ``sdlog`` is finite."""
        return isfinite(self.sdlog)

    @property
    def tail(self) -> float:
        """Infinite where proper, else 1: the log-uniform limit."""
        return np.inf if self.proper else 1.0

    @property
    def origin(self) -> float:
        """Infinite where proper, else -1."""
        return np.inf if self.proper else -1.0

    def _logkernel(self, x, log=np.log):
        return -log(x)

    def _logpdf(self, x):
        logx = np.log(x)
        z = (logx - self.meanlog) / self.sdlog
        density = -0.5 * z**2 - logx - log(self.sdlog) - 0.5 * log(2 * pi)
        return np.where(x > 0, density, -np.inf)

    def _cdf(self, x):
        return ndtr((np.log(x) - self.meanlog) / self.sdlog)

    def _ppf(self, q):
        return np.exp(self.meanlog + self.sdlog * ndtri(q))

    def _pymc(self):
        return "LogNormal", {"mu": self.meanlog, "sigma": self.sdlog}


@dataclass(frozen=True)
class InverseGamma(Prior):
    """Inverse-gamma prior, by custom of the variance: ``1 / sd^2 ~ Gamma(shape, rate=scale)``.

    Density ``scale^shape x^(-shape - 1) exp(-scale / x) / Gamma(shape)`` above zero, of the
    variance (``on="variance"``) or of the parameter itself (``on="value"``); mean
    ``scale / (shape - 1)`` (shape > 1). Improper with shape or scale zero. With both small it
    is proper in name only: the posterior is driven by the small number (Natarajan &
    McCulloch 1998), so keep it for comparison.
    """

    roles: ClassVar = SD
    domain: ClassVar = {"shape": AMOUNT, "scale": AMOUNT}
    shape: float
    scale: float
    on: Literal["value", "variance"] = "variance"

    @property
    def proper(self) -> bool:
        """Whether shape and scale are positive."""
        return self.shape > 0 and self.scale > 0

    @property
    def tail(self) -> float:
        """``2 shape + 1`` on the variance, ``shape + 1`` on the value."""
        return (2.0 if self.on == "variance" else 1.0) * self.shape + 1.0

    @property
    def origin(self) -> float:
        """Infinite where ``scale`` is positive, else minus the tail's power."""
        return np.inf if self.scale > 0 else -self.tail

    def _logkernel(self, x, log=np.log):
        return -(self.shape + 1.0) * log(x) - self.scale / x

    @classmethod
    def from_odds_ratio(cls, ratio: float, df: float = 1.0) -> "InverseGamma":
        """Elicit the prior of a variance from the range of the odds ratios of groups.

        With ``1 / sd^2 ~ Gamma(df / 2, rate=b)`` the effect of a group is Student-t with ``df``
        degrees of freedom, and its odds ratio ``exp(effect)`` lies between ``1 / ratio`` and
        ``ratio`` with probability .95 for ``b = df log(ratio)^2 / (2 t^2)``, ``t`` the 97.5 %
        quantile (Fong, Rue & Wakefield 2010). The same holds of ratios of means, log link.

        Parameters
        ----------
        ratio
            Upper end of the range, above 1.
        df
            Degrees of freedom; 1 is a Cauchy effect, the widest tail in use.
        """
        if not (ratio > 1 and isfinite(ratio) and 0 < df < inf):
            raise ValueError(
                f"from_odds_ratio(ratio={ratio!r}, df={df!r}) needs a finite ratio above 1 and "
                "positive finite degrees of freedom."
            )
        t = float(stdtrit(df, 0.975))
        return cls(0.5 * df, df * log(ratio) ** 2 / (2.0 * t * t))

    def _logpdf(self, x):
        constant = self.shape * log(self.scale) - lgamma(self.shape)
        density = constant - (self.shape + 1.0) * np.log(x) - self.scale / x
        return np.where(x > 0, density, -np.inf)

    def _cdf(self, x):
        return gammaincc(self.shape, self.scale / x)

    def _ppf(self, q):
        return self.scale / gammainccinv(self.shape, q)

    def _pymc(self):
        return "InverseGamma", {"alpha": self.shape, "beta": self.scale}


@dataclass(frozen=True)
class Power(Prior):
    """Power prior of a standard deviation: density proportional to ``sd^-k`` above zero.

    Improper for every ``k``: ``k=0`` is uniform, ``k=-1`` uniform on the variance, ``k=1``
    the log-uniform prior, the limit of InverseGamma(0, 0), under which no GLMM has a posterior
    (Natarajan & McCulloch 1995). It is refused, unless ``Priors(allow_improper=True)`` opens
    the check that the posterior exists.
    """

    roles: ClassVar = SD
    domain: ClassVar = {"k": FINITE}
    k: float

    @property
    def proper(self) -> bool:
        """Never."""
        return False

    @property
    def tail(self) -> float:
        """``k``."""
        return self.k

    @property
    def origin(self) -> float:
        """``-k``."""
        return -self.k

    def _logkernel(self, x, log=np.log):
        return -self.k * log(x)


@dataclass(frozen=True)
class UniformShrinkage(Prior):
    """Uniform-shrinkage prior of a variance (Natarajan & Kass 2000).

    The shrinkage ``1 / (1 + weight sd^2)`` of a typical group towards the mean is uniform on
    (0, 1): density ``weight (1 + weight sd^2)^-2`` of the variance above zero, median of the SD
    ``weight^-1/2``. Proper, without moments.

    ``weight`` is the information that the data of a typical group hold about its effect. None
    takes it from the data, as the mean over the groups of ``sum_j w_j z_j^2`` with the weights
    of the fit without random effects: the prior then depends on the response (an empirical
    Bayes prior), and the table of priors says so.
    """

    roles: ClassVar = SD
    weight: float | None = None

    def __post_init__(self) -> None:
        """Refuse a weight that is not positive and finite."""
        if self.weight is None:
            return
        if isinstance(self.weight, bool) or not 0 < self.weight < inf:
            raise ValueError(
                f"UniformShrinkage(weight={self.weight!r}) must be positive and finite."
            )
        object.__setattr__(self, "weight", float(self.weight))

    @property
    def tail(self) -> float:
        """3."""
        return 3.0

    @property
    def origin(self) -> float:
        """1: the density of the variance is finite at zero."""
        return 1.0

    @property
    def stated_on(self) -> str:
        """The variance."""
        return "variance"

    @property
    def _information(self) -> float:
        if self.weight is None:
            raise ValueError(
                "UniformShrinkage() takes its weight from a model's data: give it to a model's "
                "priors, or a weight."
            )
        return self.weight

    def _logpdf(self, x):
        w = self._information
        return log(w) - 2.0 * np.log1p(w * x)

    def _cdf(self, x):
        return 1.0 - 1.0 / (1.0 + self._information * x)

    def _ppf(self, q):
        return q / ((1.0 - q) * self._information)

    def of_pymc(self, variable):
        """Variance at a probability."""
        return self._ppf(variable)

    def to_pymc(self, value):
        """Undo ``of_pymc``."""
        return self._cdf(value)

    def _pymc(self):
        return "Uniform", {"lower": 0.0, "upper": 1.0}
