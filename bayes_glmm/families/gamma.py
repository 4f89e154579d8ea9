"""The gamma family."""

from typing import ClassVar

import numpy as np
from numpy import exp, inf, log, minimum, pi, where
from scipy.special import digamma, gammaln

from .base import Family, Interval
from .special import stirling, stirling_slopes


class Gamma(Family):
    r"""``y | eta ~ Gamma`` of mean ``mu`` and SD ``phi mu``; ``dispersion`` is phi.

    phi is the coefficient of variation: the shape is ``nu = phi^-2``, and glmmTMB's and R's
    ``dispersion`` of a gamma model is ``phi^2``. ``l = -nu (y / mu - 1 - log(y / mu))``.

    The default link is the logarithm, under which coefficients are ratios of means and every
    linear predictor has a mean; the inverse, the canonical link and R's default, is also
    offered.
    """

    name: ClassVar = "gamma"
    links: ClassVar = ("log", "inverse")
    parts: ClassVar = ("log_inverse",)
    has_dispersion: ClassVar = True
    dispersion_is_scale: ClassVar = True
    dispersion_name: ClassVar = "coefficient of variation"
    support: ClassVar = Interval(0, inf)
    pymc: ClassVar = ("Gamma", {"alpha": "dispersion^-2", "beta": "dispersion^-2 / mean"})
    latex: ClassVar = r"\mathrm{Gamma}(\mu_i, \phi^2 \mu_i^2)"

    @staticmethod
    def log_density(y, trials, dispersion, log_mean):
        """``l`` and its derivatives, by the ratio ``r = y / mu`` with ``dr = -r d log(mu)``."""
        a, a1, a2, a3 = log_mean
        shape = 1.0 / (dispersion * dispersion)
        r = y * exp(minimum(-a, 300.0))
        excess = r - 1.0
        return (
            -shape * (excess + a - log(y)),
            shape * excess * a1,
            shape * (excess * a2 - r * a1 * a1),
            shape * (excess * a3 - 3.0 * r * a1 * a2 + r * a1 * a1 * a1),
        )

    @staticmethod
    def dispersion_derivatives(y, trials, dispersion, log_mean):
        """``d(l, l', l'') / d log(phi)``: all are proportional to ``phi^-2``."""
        a, a1, a2, _ = log_mean
        shape = -2.0 / (dispersion * dispersion)
        r = y * exp(minimum(-a, 300.0))
        excess = r - 1.0
        return (
            -shape * (excess + a - log(y)),
            shape * excess * a1,
            shape * (excess * a2 - r * a1 * a1),
        )

    @staticmethod
    def log_scale(y, trials, dispersion):
        """``nu log(nu) - nu - log Gamma(nu)``, by Stirling's series for a large shape."""
        shape = 1.0 / (dispersion * dispersion)
        large = np.maximum(shape, 8.0)
        small = np.minimum(shape, 8.0)
        value = where(
            shape > 8.0,
            0.5 * log(large / (2.0 * pi)) - stirling(large),
            small * log(small) - small - gammaln(small),
        )
        gap = where(  # nu (log(nu) - digamma(nu))
            shape > 8.0,
            0.5 - stirling_slopes(1.0, large)[0],
            small * (log(small) - digamma(small)),
        )
        zero = np.zeros(np.shape(y))
        return value + zero, -2.0 * gap + zero

    @staticmethod
    def log_base(y, trials):
        """``-log(y)``."""
        return -log(y)

    @staticmethod
    def variance(mu, dispersion):
        """``(phi mu)^2``."""
        return np.square(dispersion * mu)

    @staticmethod
    def rough_dispersion(y, trials, mu):
        """Root mean square of ``(y - mu) / mu``."""
        return np.sqrt(np.mean((y / mu - 1.0) ** 2))

    @staticmethod
    def simulate(rng, mu, trials, dispersion):
        """Draw gamma responses; a mean too small to have one gives the least positive number."""
        shape = 1.0 / np.square(dispersion)
        return np.maximum(rng.gamma(shape, mu / shape), np.finfo(float).tiny)
