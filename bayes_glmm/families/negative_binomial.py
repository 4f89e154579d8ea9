"""The two negative binomial families: Poisson counts whose mean varies as a gamma variable."""

from typing import ClassVar

import numpy as np
from numpy import abs, exp, inf, log, log1p, maximum, minimum, where
from scipy.special import gammaln

from .base import Family, Interval
from .special import rising


class NegativeBinomial(Family):
    r"""``y | eta ~ NB(mu, theta)``, ``Var(y) = mu + mu^2 / theta``; ``dispersion`` is theta.

    The quadratic form ("NB2"; ``nbinom2`` of glmmTMB, ``glm.nb`` of MASS): the Poisson as
    theta grows. With ``p = mu / (theta + mu)``,
    ``l = y log(mu) - (y + theta) log(1 + mu / theta)``.
    """

    name: ClassVar = "negative_binomial"
    links: ClassVar = ("log", "sqrt")
    parts: ClassVar = ("log_inverse",)
    has_dispersion: ClassVar = True
    dispersion_name: ClassVar = "size theta, Var = mu + mu²/theta"
    limit: ClassVar = ("poisson", 1)
    support: ClassVar = Interval(0, inf, closed_low=True, integer=True)
    pymc: ClassVar = ("NegativeBinomial", {"mu": "mean", "alpha": "dispersion"})
    latex: ClassVar = r"\mathrm{NB}(\mu_i, \mu_i + \mu_i^2 / \phi)"

    @staticmethod
    def log_density(y, trials, dispersion, log_mean):
        """``l`` and its derivatives, by ``p`` and its logit ``log(mu / theta)``."""
        a, a1, a2, a3 = log_mean
        d = a - log(dispersion)
        e = exp(-abs(d))
        p = where(d >= 0.0, 1.0, e) / (1.0 + e)
        v = e / ((1.0 + e) * (1.0 + e))  # p (1 - p)
        total = y + dispersion
        slope = y - total * p
        w = total * v
        return (
            y * a - total * (maximum(d, 0.0) + log1p(e)),
            slope * a1,
            slope * a2 - w * a1 * a1,
            slope * a3 - 3.0 * w * a1 * a2 - w * (1.0 - 2.0 * p) * a1 * a1 * a1,
        )

    @staticmethod
    def dispersion_derivatives(y, trials, dispersion, log_mean):
        """``d(l, l', l'') / d log(theta)``: theta moves, and ``p`` with ``dp = -p (1 - p)``."""
        a, a1, a2, _ = log_mean
        d = a - log(dispersion)
        e = exp(-abs(d))
        p = where(d >= 0.0, 1.0, e) / (1.0 + e)
        v = e / ((1.0 + e) * (1.0 + e))
        total = y + dispersion
        slope = total * v - dispersion * p
        w = dispersion * v - total * v * (1.0 - 2.0 * p)
        return (
            total * p - dispersion * (maximum(d, 0.0) + log1p(e)),
            slope * a1,
            slope * a2 - w * a1 * a1,
        )

    @staticmethod
    def log_scale(y, trials, dispersion):
        """``log Gamma(y + theta) - log Gamma(theta) - y log(theta)``."""
        return rising(log(dispersion), y)[:2]

    @staticmethod
    def log_base(y, trials):
        """``-log(y!)``."""
        return -gammaln(y + 1.0)

    @staticmethod
    def variance(mu, dispersion):
        """``mu + mu^2 / theta``."""
        return mu * (1.0 + mu / dispersion)

    @staticmethod
    def rough_dispersion(y, trials, mu):
        """``sum mu^2 / sum ((y - mu)^2 - mu)``, by moments."""
        return np.sum(mu * mu) / np.maximum(np.sum((y - mu) ** 2 - mu), 0.01 * np.sum(mu * mu))

    @staticmethod
    def recession(y, trials):
        """Give -1 for counts of zero: their likelihood rises as ``eta`` falls."""
        return where(y == 0.0, -1.0, 0.0)

    @staticmethod
    def simulate(rng, mu, trials, dispersion):
        """Poisson counts of gamma means of shape theta, as floats."""
        return rng.poisson(
            minimum(mu * rng.gamma(dispersion, 1.0 / dispersion, np.shape(mu)), 9e18)
        ).astype(float)


class NegativeBinomial1(NegativeBinomial):
    r"""``y | eta ~ NB(mu, phi)``, ``Var(y) = mu (1 + phi)``; ``dispersion`` is phi.

    The linear form ("NB1"; ``nbinom1`` of glmmTMB): the Poisson as phi vanishes. With
    ``a = mu / phi``, ``l = y log(mu) - a log(1 + phi) + R(a, y)``, ``R`` of ``rising``.
    """

    name: ClassVar = "negative_binomial1"
    dispersion_name: ClassVar = "excess variance phi, Var = mu (1 + phi)"
    limit: ClassVar = ("poisson", -1)
    pymc: ClassVar = ("NegativeBinomial", {"mu": "mean", "alpha": "mean / dispersion"})
    latex: ClassVar = r"\mathrm{NB}(\mu_i, \mu_i (1 + \phi))"

    @staticmethod
    def log_density(y, trials, dispersion, log_mean):
        """``l`` and its derivatives: those of ``R`` in ``log a``, and the link's."""
        a, a1, a2, a3 = log_mean
        r, r1, r2, r3 = rising(a - log(dispersion), y)
        fall = log1p(dispersion) / dispersion * exp(minimum(a, 300.0))
        slope = y + r1 - fall
        bend = r2 - fall
        return (
            y * a + r - fall,
            slope * a1,
            slope * a2 + bend * a1 * a1,
            slope * a3 + 3.0 * bend * a1 * a2 + (r3 - fall) * a1 * a1 * a1,
        )

    @staticmethod
    def dispersion_derivatives(y, trials, dispersion, log_mean):
        """``d(l, l', l'') / d log(phi)``: minus those of ``R`` in ``log a``, and of the rest."""
        a, a1, a2, _ = log_mean
        _, r1, r2, r3 = rising(a - log(dispersion), y)
        mu = exp(minimum(a, 300.0))
        fall = mu * (1.0 / (1.0 + dispersion) - log1p(dispersion) / dispersion)
        slope = -r2 - fall
        return -r1 - fall, slope * a1, slope * a2 - (r3 + fall) * a1 * a1

    @staticmethod
    def log_scale(y, trials, dispersion):
        """``-y log(1 + phi)``."""
        return -y * log1p(dispersion), -y * dispersion / (1.0 + dispersion)

    @staticmethod
    def variance(mu, dispersion):
        """``mu (1 + phi)``."""
        return mu * (1.0 + dispersion)

    @staticmethod
    def rough_dispersion(y, trials, mu):
        """``sum (y - mu)^2 / sum mu - 1``, by moments."""
        return np.maximum(np.sum((y - mu) ** 2) / np.sum(mu) - 1.0, 0.05)

    @staticmethod
    def simulate(rng, mu, trials, dispersion):
        """Poisson counts of gamma means of scale phi, as floats."""
        means = rng.gamma(np.maximum(mu / dispersion, 1e-300), dispersion)
        return rng.poisson(minimum(means, 9e18)).astype(float)
