"""The gaussian family: normal errors with standard deviation ``dispersion``."""

from math import pi
from typing import ClassVar

import numpy as np
from numpy import inf, log

from .base import Family, Interval


class Gaussian(Family):
    r"""``y | eta ~ N(mu, dispersion^2)``; ``dispersion`` is the residual SD, response scale.

    ``l = -(y - mu)^2 / (2 dispersion^2) - log(dispersion)``.
    """

    name: ClassVar = "gaussian"
    links: ClassVar = ("identity", "log", "inverse")
    parts: ClassVar = ("inverse",)
    has_dispersion: ClassVar = True
    dispersion_is_scale: ClassVar = True
    dispersion_name: ClassVar = "residual standard deviation"
    support: ClassVar = Interval(-inf, inf)
    pymc: ClassVar = ("Normal", {"mu": "mean", "sigma": "dispersion"})
    latex: ClassVar = r"\mathrm{N}(\mu_i, \sigma^2)"

    @staticmethod
    def log_density(y, trials, dispersion, mean):
        """``l`` and its derivatives in ``eta`` by the chain rule through ``mu``."""
        mu, mu1, mu2, mu3 = mean
        precision = 1.0 / (dispersion * dispersion)
        r = (y - mu) * precision
        return (
            -0.5 * r * (y - mu) - log(dispersion),
            r * mu1,
            r * mu2 - precision * mu1 * mu1,
            r * mu3 - 3.0 * precision * mu1 * mu2,
        )

    @staticmethod
    def dispersion_derivatives(y, trials, dispersion, mean):
        """``d(l, l', l'') / d log(dispersion)``: both derivatives scale as dispersion^-2."""
        mu, mu1, mu2, _ = mean
        precision = 1.0 / (dispersion * dispersion)
        r = (y - mu) * precision
        return (
            r * (y - mu) - 1.0,
            -2.0 * r * mu1,
            -2.0 * (r * mu2 - precision * mu1 * mu1),
        )

    @staticmethod
    def log_base(y, trials):
        """``-log(2 pi) / 2`` for each row."""
        return np.full(np.shape(y), -0.5 * log(2 * pi))

    @staticmethod
    def variance(mu, dispersion):
        """``dispersion^2``, whatever the mean."""
        return np.broadcast_to(np.square(dispersion), np.shape(mu))

    @staticmethod
    def rough_dispersion(y, trials, mu):
        """Give the SD of the responses."""
        return float(np.std(y)) or 1.0

    @staticmethod
    def simulate(rng, mu, trials, dispersion):
        """Draw normal responses around ``mu``."""
        return rng.normal(mu, dispersion)
