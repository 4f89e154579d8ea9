"""The Poisson family."""

from typing import ClassVar

from numpy import inf, minimum, where
from scipy.special import gammaln

from .base import Family, Interval


class Poisson(Family):
    """``y | eta ~ Poisson(mu)``; ``l = y log(mu) - mu``."""

    name: ClassVar = "poisson"
    links: ClassVar = ("log", "sqrt")
    parts: ClassVar = ("log_inverse", "inverse")
    support: ClassVar = Interval(0, inf, closed_low=True, integer=True)
    pymc: ClassVar = ("Poisson", {"mu": "mean"})
    latex: ClassVar = r"\mathrm{Poisson}(\mu_i)"

    @staticmethod
    def log_density(y, trials, dispersion, log_mean, mean):
        """``l`` and its derivatives, term by term."""
        a, a1, a2, a3 = log_mean
        mu, mu1, mu2, mu3 = mean
        return y * a - mu, y * a1 - mu1, y * a2 - mu2, y * a3 - mu3

    @staticmethod
    def log_base(y, trials):
        """``-log(y!)``."""
        return -gammaln(y + 1.0)

    @staticmethod
    def variance(mu, dispersion):
        """``mu``."""
        return mu

    @staticmethod
    def recession(y, trials):
        """Give -1 for counts of zero: their likelihood rises as ``eta`` falls."""
        return where(y == 0.0, -1.0, 0.0)

    @staticmethod
    def simulate(rng, mu, trials, dispersion):
        """Poisson counts, as floats; means are held at 9e18, the most that NumPy draws from."""
        return rng.poisson(minimum(mu, 9e18)).astype(float)
