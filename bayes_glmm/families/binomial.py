"""The binomial family, and the Bernoulli family as its case of one trial."""

from typing import ClassVar

import numpy as np
from numpy import inf, where
from scipy.special import gammaln

from .base import Family, Interval


class Binomial(Family):
    """``y | eta ~ Binomial(trials, mu)``: successes out of a known number of trials.

    ``l = y log(mu) + (trials - y) log(1 - mu)``, taken from the link's own logarithms, so
    that neither underflows.
    """

    name: ClassVar = "binomial"
    links: ClassVar = ("logit", "probit", "cloglog", "loglog", "cauchit")
    parts: ClassVar = ("log_inverse", "log_complement")
    has_trials: ClassVar = True
    support: ClassVar = Interval(0, inf, closed_low=True, integer=True)
    pymc: ClassVar = ("Binomial", {"n": "trials", "logit_p": "logit_mean"})
    latex: ClassVar = r"\mathrm{Binomial}(n_i, \mu_i)"

    @staticmethod
    def log_density(y, trials, dispersion, log_success, log_failure):
        """``l`` and its derivatives: the link's logarithms weighted by the counts."""
        a, a1, a2, a3 = log_success
        b, b1, b2, b3 = log_failure
        failures = trials - y
        return (
            y * a + failures * b,
            y * a1 + failures * b1,
            y * a2 + failures * b2,
            y * a3 + failures * b3,
        )

    @staticmethod
    def log_base(y, trials):
        """Logarithm of the binomial coefficient."""
        return gammaln(trials + 1.0) - gammaln(y + 1.0) - gammaln(trials - y + 1.0)

    @staticmethod
    def variance(mu, dispersion):
        """``mu (1 - mu)`` per trial."""
        return mu * (1.0 - mu)

    @staticmethod
    def recession(y, trials):
        """Rows of successes only rise with ``eta``, rows of failures only fall."""
        return where(y == trials, 1.0, where(y == 0.0, -1.0, 0.0))

    @staticmethod
    def simulate(rng, mu, trials, dispersion):
        """Binomial counts, as floats like every response."""
        return rng.binomial(trials.astype(int), mu).astype(float)


class Bernoulli(Binomial):
    """``y | eta ~ Bernoulli(mu)``: the binomial with one trial a row."""

    name: ClassVar = "bernoulli"
    support: ClassVar = Interval(0, 1, closed_low=True, closed_high=True, integer=True)
    has_trials: ClassVar = False
    pymc: ClassVar = ("Bernoulli", {"logit_p": "logit_mean"})
    latex: ClassVar = r"\mathrm{Bernoulli}(\mu_i)"

    @staticmethod
    def simulate(rng, mu, trials, dispersion):
        """Zeros and ones: ten times faster than binomial counts of one trial."""
        return (rng.random(np.shape(mu)) < mu).astype(float)
