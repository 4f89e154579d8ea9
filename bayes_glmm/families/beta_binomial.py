"""The beta-binomial family: binomial counts whose probability varies from row to row."""

from typing import ClassVar

import numpy as np
from numpy import log

from .binomial import Binomial
from .special import rising


class BetaBinomial(Binomial):
    r"""``y | eta ~ BetaBinomial(trials, mu, s)``; ``dispersion`` is ``s = a + b``.

    Binomial with a probability drawn, row by row, from ``Beta(a, b)``, ``a = s mu``,
    ``b = s (1 - mu)`` (Crowder 1978). ``Var(y) = n mu (1 - mu) (s + n) / (s + 1)``, the
    correlation of two trials of a row is ``1 / (s + 1)``, and the binomial is the limit as
    ``s`` grows. With ``R`` of ``rising``,

    ``l = y log(mu) + (n - y) log(1 - mu) + R(a, y) + R(b, n - y)``.
    """

    name: ClassVar = "beta_binomial"
    has_dispersion: ClassVar = True
    dispersion_name: ClassVar = "a + b of the beta distribution"
    limit: ClassVar = ("binomial", 1)
    pymc: ClassVar = (
        "BetaBinomial",
        {"n": "trials", "alpha": "dispersion * mean", "beta": "dispersion * complement"},
    )
    latex: ClassVar = r"\mathrm{BetaBinomial}(n_i, \phi \mu_i, \phi (1 - \mu_i))"

    @staticmethod
    def log_density(y, trials, dispersion, log_success, log_failure):
        """``l`` and its derivatives: the binomial's, and those of both ``R`` through the link."""
        a, a1, a2, a3 = log_success
        b, b1, b2, b3 = log_failure
        failures = trials - y
        log_s = log(dispersion)
        r, r1, r2, r3 = rising(a + log_s, y)
        q, q1, q2, q3 = rising(b + log_s, failures)
        up = y + r1
        down = failures + q1
        return (
            y * a + failures * b + r + q,
            up * a1 + down * b1,
            up * a2 + r2 * a1 * a1 + down * b2 + q2 * b1 * b1,
            up * a3 + 3.0 * r2 * a1 * a2 + r3 * a1 * a1 * a1
            + down * b3 + 3.0 * q2 * b1 * b2 + q3 * b1 * b1 * b1,
        )  # fmt: skip

    @staticmethod
    def dispersion_derivatives(y, trials, dispersion, log_success, log_failure):
        """``d(l, l', l'') / d log(s)``: the derivatives of both ``R`` in ``log a``, ``log b``."""
        a, a1, a2, _ = log_success
        b, b1, b2, _ = log_failure
        log_s = log(dispersion)
        _, r1, r2, r3 = rising(a + log_s, y)
        _, q1, q2, q3 = rising(b + log_s, trials - y)
        return (
            r1 + q1,
            r2 * a1 + q2 * b1,
            r2 * a2 + r3 * a1 * a1 + q2 * b2 + q3 * b1 * b1,
        )

    @staticmethod
    def log_scale(y, trials, dispersion):
        """``-R(s, n)``."""
        value, slope, _, _ = rising(log(dispersion), trials)
        return -value, -slope

    @staticmethod
    def variance(mu, dispersion):
        """``mu (1 - mu)``: per trial, of a row with one; ``excess`` has the factor for more."""
        return mu * (1.0 - mu)

    @staticmethod
    def excess(trials, dispersion):
        """``(s + n) / (s + 1)``: how many times the binomial's the variance is."""
        return (dispersion + trials) / (dispersion + 1.0)

    @staticmethod
    def rough_dispersion(y, trials, mu):
        """By moments: the excess of Pearson's statistic over the binomial's."""
        pearson = np.sum((y - trials * mu) ** 2 / (trials * mu * (1.0 - mu)))
        # E pearson = sum (s + n) / (s + 1) = rows + sum (n - 1) / (s + 1)
        correlation = (pearson - len(y)) / np.maximum(np.sum(trials - 1.0), 1.0)
        return 1.0 / np.clip(correlation, 0.01, 0.7) - 1.0

    @staticmethod
    def simulate(rng, mu, trials, dispersion):
        """Binomial counts of beta probabilities, as floats."""
        least = 1e-12  # of a and b: NumPy draws from no smaller ones
        a, b = np.maximum(dispersion * mu, least), np.maximum(dispersion * (1.0 - mu), least)
        return rng.binomial(trials.astype(int), rng.beta(a, b)).astype(float)
