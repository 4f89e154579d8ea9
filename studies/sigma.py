r"""Posteriors of one standard deviation by quadrature, for any prior, over one likelihood.

With ``beta ~ N(0, s^2)`` for the only coefficient, ``I(sigma)`` is the package's own marginal
likelihood (adaptive Gauss-Hermite quadrature with many nodes) integrated over ``beta`` on a grid.
The posterior of ``sigma`` is ``I(sigma) pi(sigma)``: one likelihood, many priors.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp

from bayes_glmm.frequentist.likelihood import Likelihood

NODES = 41
BETA_SD = 10.0
LOWEST, HIGHEST = -9.0, 4.5  # of log sigma, where the likelihood is computed


@dataclass(frozen=True, eq=False)
class Marginal:
    """``log I`` on a fine grid of ``log sigma``, with the conditional moments of ``beta``."""

    log_sigma: np.ndarray
    log_likelihood: np.ndarray
    beta_mean: np.ndarray
    beta_square: np.ndarray

    @property
    def sigma(self) -> np.ndarray:
        """The grid of standard deviations."""
        return np.exp(self.log_sigma)

    def posterior(self, log_prior) -> "Posterior":
        """Posterior under a log density of ``sigma``, up to a constant."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            weight = self.log_likelihood + log_prior(self.sigma) + self.log_sigma
        return Posterior(self, np.exp(weight - weight.max()))


@dataclass(frozen=True, eq=False)
class Posterior:
    """Weights on the grid, with respect to ``log sigma``; trapezoids, so ends count half."""

    marginal: Marginal
    weight: np.ndarray

    @property
    def cumulative(self) -> np.ndarray:
        """Distribution function on the grid."""
        middle = 0.5 * (self.weight[1:] + self.weight[:-1]) * np.diff(self.marginal.log_sigma)
        total = np.concatenate([[0.0], np.cumsum(middle)])
        return total / total[-1]

    def mean(self, values: np.ndarray) -> float:
        """Posterior mean of a function given on the grid."""
        return float(np.sum(self.weight * values) / np.sum(self.weight))

    def quantile(self, probability) -> np.ndarray:
        """Quantile of ``sigma``."""
        return np.exp(np.interp(probability, self.cumulative, self.marginal.log_sigma))

    def below(self, sigma: float) -> float:
        """Posterior probability of a smaller standard deviation."""
        return float(np.interp(np.log(sigma), self.marginal.log_sigma, self.cumulative))

    @property
    def density(self) -> np.ndarray:
        """Density with respect to ``sigma``, on the grid."""
        return self.log_density / self.marginal.sigma

    @property
    def log_density(self) -> np.ndarray:
        """Density with respect to ``log sigma``, on the grid."""
        steps = np.gradient(self.marginal.log_sigma)
        return self.weight / np.sum(self.weight * steps)

    def summary(self) -> dict[str, float]:
        """Mean, median and 95 % interval of ``sigma``, mean and SD of ``beta``."""
        low, median, high = self.quantile([0.025, 0.5, 0.975])
        m = self.marginal
        beta = self.mean(m.beta_mean)
        return {
            "mean": self.mean(m.sigma),
            "median": float(median),
            "low": float(low),
            "high": float(high),
            "beta": beta,
            "beta_sd": float(np.sqrt(self.mean(m.beta_square) - beta**2)),
        }


def marginal_of(model, lowest: float = -30.0, highest: float = 12.0) -> Marginal:
    """``I(sigma)`` of a model with one coefficient and one random intercept.

    Beyond the computed range ``log I`` is continued by its limit at zero, and by its power far
    out.
    """
    likelihood = Likelihood.of(model, NODES)
    beta = np.linspace(-4.0, 30.0, 273)
    log_sigma = np.linspace(LOWEST, HIGHEST, 136)
    value = np.array([[likelihood(np.array([b, np.exp(s)]))[0] for b in beta] for s in log_sigma])
    value = value - 0.5 * (beta / BETA_SD) ** 2
    log_i = logsumexp(value, axis=1)
    weight = np.exp(value - log_i[:, None])
    fine = np.linspace(lowest, highest, 40_001)
    inside = np.clip(fine, LOWEST, HIGHEST)
    spline = CubicSpline(log_sigma, log_i)
    slope = float(spline(HIGHEST, 1))
    continued = spline(inside) + slope * np.maximum(fine - HIGHEST, 0.0)
    moments = (CubicSpline(log_sigma, weight @ beta**k)(inside) for k in (1, 2))
    return Marginal(fine, continued, *moments)
