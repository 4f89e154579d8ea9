"""What every prior is: a density that knows its scale, whether it is proper, and its tail."""

from dataclasses import dataclass, fields
from math import inf, isfinite, isnan, log
from numbers import Real
from typing import ClassVar

import numpy as np

# what a hyperparameter may be: its set in words, and the test
FINITE = "finite", isfinite
POSITIVE = "positive and finite", lambda value: 0 < value < inf
WIDTH = "positive (infinite is improper)", lambda value: value > 0
BOUND = "a number (infinite is improper)", lambda value: True
SHARE = "between 0 and 1", lambda value: 0 < value < 1
AMOUNT = "finite and at least 0 (0 is improper)", lambda value: 0 <= value < inf


class ImproperPriorError(ValueError):
    """A prior does not integrate to one, so that the posterior may not exist."""


class ImproperPosteriorError(ValueError):
    """The posterior does not exist, or is not known to, so that it is not sampled."""


@dataclass(frozen=True)
class Prior:
    """A prior for one parameter: a coefficient, a standard deviation or a correlation.

    A kind of prior states its density once, on the scale ``stated_on``. The public
    methods work on the parameter's own scale, *value*: the coefficient itself, or the
    standard deviation. Where the density is stated on the variance ``v = sd^2``, the
    Jacobian ``2 sd`` is applied here and nowhere else.

    Hyperparameters are finite numbers, or at the limits (0 or infinity) at which the
    prior becomes improper: such a prior can be written down, so that it can be refused
    by name.
    """

    # of "coefficient", "sd", "corr", "covariance", "joint", "rate", "share", "serial"
    roles: ClassVar[frozenset[str]]
    domain: ClassVar[dict[str, tuple]] = {}  # hyperparameter -> what it may be

    def __post_init__(self) -> None:
        """Turn hyperparameters into floats and refuse impossible ones."""
        kind = type(self).__name__
        for name, (words, allowed) in self.domain.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(f"{kind}({name}={value!r}) must be a number.")
            if isnan(value) or not allowed(value):
                raise ValueError(f"{kind}({name}={value:g}) must be {words}.")
            object.__setattr__(self, name, float(value))
        if self.stated_on not in ("value", "variance"):
            raise ValueError(f"{kind}(on={self.stated_on!r}) must be 'value' or 'variance'.")

    @property
    def stated_on(self) -> str:
        """The scale of the density: "value" (coefficient, SD, correlation) or "variance"."""
        return getattr(self, "on", "value")

    @property
    def proper(self) -> bool:
        """Whether the density integrates to one."""
        return True

    @property
    def tail(self) -> float:
        """The power ``alpha`` of ``density ~ value^-alpha`` far out; inf where lighter."""
        return inf if self.proper else 0.0

    @property
    def origin(self) -> float:
        """The power ``c`` of ``density ~ value^c`` at zero, for SDs; inf where it vanishes faster.

        The density is integrable at zero where ``c > -1``.
        """
        return inf if self.support[0] > 0 else 0.0

    @property
    def support(self) -> tuple[float, float]:
        """Lowest and highest value of the parameter, on its own scale."""
        return (-inf, inf) if "coefficient" in self.roles else (0.0, inf)

    @property
    def pymc(self) -> tuple[str, dict[str, float]]:
        """PyMC's distribution of the quantity of ``stated_on``, and its parameters."""
        self._need_proper("distribution in PyMC")
        return self._pymc()

    @property
    def is_pymcs(self) -> bool:
        """Whether the variable of ``pymc`` is the parameter itself."""
        return self.stated_on == "value" and type(self).of_pymc is Prior.of_pymc

    def of_pymc(self, variable):
        """Quantity of ``stated_on`` from the variable of ``pymc``, numbers or symbols."""
        return variable

    def to_pymc(self, value):
        """Undo ``of_pymc``."""
        return value

    def describe(self) -> str:
        """``HalfStudentT(df=4, scale=2.5)``: the prior in words, four digits."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        shown = (f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v!r}" for k, v in values)
        return f"{type(self).__name__}({', '.join(shown)})"

    def _need_proper(self, what: str) -> None:
        if not self.proper:
            raise ImproperPriorError(f"{self.describe()} is improper and has no {what}.")

    def logpdf(self, value):
        """Log density of a value of the parameter; ``-inf`` outside the support.

        That of an improper prior is its kernel, not normalised.
        """
        value = np.asarray(value, float)
        low, high = self.support
        inside = (value >= low) & (value <= high)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            form = self._logpdf if self.proper else self._logkernel
            if self.stated_on == "variance":
                density = form(value * value) + np.log(2.0 * value)
                density = np.where(value == 0.0, -inf, density)
            else:
                density = form(value)
        return np.where(np.isnan(value), np.nan, np.where(inside, density, -inf))[()]

    def log_density_inside(self, value: float) -> float:
        """``logpdf`` of one number inside the support, without checks: what samplers call."""
        form = self._logpdf if self.proper else self._logkernel
        if self.stated_on == "variance":
            return float(form(value * value)) + log(2.0 * value)
        return float(form(value))

    def cdf(self, value):
        """Probability that the parameter is at most ``value``."""
        self._need_proper("quantiles")
        low, high = self.support
        value = np.clip(np.asarray(value, float), low, high)
        with np.errstate(divide="ignore", over="ignore"):
            below = self._cdf(value * value if self.stated_on == "variance" else value)
        return np.clip(below, 0.0, 1.0)

    def ppf(self, probability):
        """Quantile: the value the parameter stays below with that probability."""
        self._need_proper("quantiles")
        with np.errstate(divide="ignore", over="ignore"):
            quantile = self._ppf(np.asarray(probability, float))
        return np.sqrt(quantile) if self.stated_on == "variance" else quantile

    def rvs(self, rng: np.random.Generator, size=None):
        """Draw values of the parameter, by inversion."""
        return self.ppf(rng.random(size))

    def log_kernel(self, value, log=np.log):
        """Log density of an improper prior up to a constant, inside the support.

        ``log`` makes it a formula of the caller's own symbols, as in the PyMC graph.
        """
        if self.stated_on == "variance":
            return self._logkernel(value * value, log) + log(2.0 * value)
        return self._logkernel(value, log)

    def _logpdf(self, x):
        raise NotImplementedError

    def _logkernel(self, x, log=np.log):
        """Flat, unless a kind of prior has another improper limit."""
        return 0.0 * x

    def _cdf(self, x):
        raise NotImplementedError

    def _ppf(self, q):
        raise NotImplementedError

    def _pymc(self) -> tuple[str, dict[str, float]]:
        raise NotImplementedError
