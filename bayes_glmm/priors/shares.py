"""Priors between two bounds, for shares and serial correlations."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import betainc, betaincinv, betaln

from .base import AMOUNT, FINITE, Prior


@dataclass(frozen=True)
class Beta(Prior):
    """Beta prior of a share, or stretched of a serial correlation.

    ``z = (x - lower) / (upper - lower)`` has the density ``z^(a - 1) (1 - z)^(b - 1) / B(a, b)`` on
    (0, 1); mean ``a / (a + b)``. ``Beta(a, a, -1, 1)`` is symmetric about no correlation.
    Improper with ``a`` or ``b`` zero.
    """

    roles: ClassVar = frozenset({"share", "serial"})
    domain: ClassVar = {"a": AMOUNT, "b": AMOUNT, "lower": FINITE, "upper": FINITE}
    a: float
    b: float
    lower: float = 0.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        """Refuse bounds in the wrong order."""
        super().__post_init__()
        if not self.lower < self.upper:
            raise ValueError(f"{self.describe()} needs its lower bound below its upper.")

    @property
    def proper(self) -> bool:
        """Whether both shapes are positive."""
        return self.a > 0 and self.b > 0

    @property
    def support(self) -> tuple[float, float]:
        """The bounds."""
        return self.lower, self.upper

    def _unit(self, x):
        return (x - self.lower) / (self.upper - self.lower)

    def _logkernel(self, x, log=np.log):
        z = self._unit(x)
        return (self.a - 1.0) * log(z) + (self.b - 1.0) * log(1.0 - z)

    def _logpdf(self, x):
        z = self._unit(x)
        density = -betaln(self.a, self.b) - np.log(self.upper - self.lower)
        for power, log_z in ((self.a - 1.0, np.log(z)), (self.b - 1.0, np.log1p(-z))):
            density = density + (power * log_z if power else 0.0)
        return np.broadcast_to(density, np.shape(x))

    def _cdf(self, x):
        return betainc(self.a, self.b, self._unit(x))

    def _ppf(self, q):
        return self.lower + (self.upper - self.lower) * betaincinv(self.a, self.b, q)

    def _pymc(self):
        return "Beta", {"alpha": self.a, "beta": self.b}

    @property
    def is_pymcs(self) -> bool:
        """Whether the bounds are 0 and 1."""
        return self.support == (0.0, 1.0)

    def of_pymc(self, variable):
        """Stretch it to the bounds."""
        return self.lower + (self.upper - self.lower) * variable

    def to_pymc(self, value):
        """Undo ``of_pymc``."""
        return self._unit(value)
