r"""Unconstrained coordinates of a model's parameters, and the prior density over them.

In this order: coefficients of the standardised columns; for each factor its standard
deviations, then its canonical partial correlations ``p = tanh z``; the dispersion. Positive
parameters are ``lower + exp(x)``, or ``lower + (upper - lower) / (1 + exp(-x))`` where the prior
ends at ``upper``. The density of a parameter becomes that of its coordinate by the Jacobian.
"""

from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, isinf
from typing import Any

import numpy as np
from scipy.special import expit, log_expit

from ..numerics.covariance import Covariance
from ..priors.coefficients import Normal
from ..priors.correlations import cholesky_rows, pairs

# of central differences of one-dimensional log prior densities, in coordinates of order one:
# truncation 1e-9 times the third derivative, rounding about 1e-11
DIFFERENCE = 1e-4
IMPLAUSIBLE = 1e-3
LARGEST = 300.0  # coordinate beyond which a positive parameter is taken for infinite


@dataclass(frozen=True)
class Scale:
    """A positive parameter with its prior.

    Attributes
    ----------
    prior
        Of the parameter itself.
    """

    prior: Any

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value."""
        low, high = self.prior.support
        return max(low, 0.0), high

    def value(self, x):
        """Give the parameter at the coordinate ``x``."""
        low, high = self.bounds
        if np.isinf(high):
            with np.errstate(over="ignore"):
                return low + np.exp(x)
        return low + (high - low) * expit(x)

    def coordinate(self, value: float) -> float:
        """Give the coordinate of a value, which is moved inside the bounds."""
        low, high = self.bounds
        if np.isinf(high):
            return float(np.log(max(value - low, 1e-3 * value, 1e-300)))
        share = np.clip((value - low) / (high - low), 0.01, 0.99)
        return float(np.log(share / (1.0 - share)))

    def at(self, x: float) -> tuple[float, float]:
        """Give the parameter and its derivative at one coordinate."""
        low, high = self.bounds
        if isinf(high):
            size = exp(x) if x < LARGEST else inf
            return low + size, size
        share = 1.0 / (1.0 + exp(-x)) if x > -LARGEST else 0.0
        return low + (high - low) * share, (high - low) * share * (1.0 - share)

    def log_density_and_slope(self, x: float) -> tuple[float, float]:
        """Log prior density of one coordinate, and its derivative."""
        low, high = self.bounds
        below, here, above = (self.at(x + step)[0] for step in (-DIFFERENCE, 0.0, DIFFERENCE))
        if not low < below or not above < high:  # rounded to an end, where there is no density
            return -inf, 0.0
        density = self.prior.log_density_inside
        value, slope = density(here), (density(above) - density(below)) / (2.0 * DIFFERENCE)
        if isinf(high):
            return value + x, slope + 1.0
        share = (here - low) / (high - low)
        return value + float(self._log_jacobian(x)), slope + 1.0 - 2.0 * share

    def _log_jacobian(self, x):
        low, high = self.bounds
        return x if isinf(high) else np.log(high - low) + log_expit(x) + log_expit(-x)

    def log_density(self, x):
        """Log prior density of the coordinate."""
        return self.prior.logpdf(self.value(x)) + self._log_jacobian(x)


class Coordinates:
    """The map from coordinates to parameters, its derivative, and the log prior.

    Parameters
    ----------
    model
        The GLMM.
    standard
        Its columns standardised (``numerics.standardise``).
    """

    def __init__(self, model, standard):
        self.model, self.standard = model, standard
        self.p = model.design.p
        self.groups = model.design.groups
        self.covariances = [Covariance(g.blocks) for g in self.groups]
        priors = model.priors
        self.scales: dict[int, Scale] = {}  # by position
        self.shapes: dict[int, float] = {}  # of partial correlations, by position
        self.sd_at: list[slice] = []
        self.z_at: list[slice] = []
        position = self.p
        for g, covariance in zip(self.groups, self.covariances, strict=True):
            self.sd_at.append(slice(position, position + g.q))
            for prior in priors.sd[g.group]:
                self.scales[position] = Scale(prior)
                position += 1
            self.z_at.append(slice(position, position + len(covariance.pairs)))
            for columns in (c for c in g.blocks if len(c) > 1):
                for a in priors.corr[g.group].partial_shapes(len(columns)):
                    self.shapes[position] = float(a)
                    position += 1
        self.has_dispersion = priors.dispersion is not None
        if self.has_dispersion:
            self.scales[position] = Scale(priors.dispersion)
            position += 1
        self.size = position
        self.beta_steps = np.array([_quartile_width(prior) for prior in priors.beta]) * DIFFERENCE
        self.inverse_R = np.linalg.inv(standard.R)
        normal = {k: q for k, q in enumerate(priors.beta) if isinstance(q, Normal) and q.proper}
        self.normal = (
            np.array(list(normal), int),
            np.array([prior.mean for prior in normal.values()]),
            np.array([prior.sd for prior in normal.values()]),
        )
        self.log_normal = float(np.sum(np.log(self.normal[2]) + 0.5 * np.log(2.0 * np.pi)))
        self.other_priors = {k: q for k, q in enumerate(priors.beta) if k not in normal}

    # parameters

    def beta(self, xi: np.ndarray) -> np.ndarray:
        """Coefficients of the user's columns, ``(draws, p)``."""
        return self.standard.outer(xi[:, : self.p].T).T

    def sd(self, xi: np.ndarray, k: int) -> np.ndarray:
        """Give the standard deviations of factor ``k``, ``(draws, q)``."""
        at = range(*self.sd_at[k].indices(self.size))
        return np.stack([self.scales[i].value(xi[:, i]) for i in at], axis=1)

    def dispersion(self, xi: np.ndarray) -> np.ndarray:
        """Dispersion, ``(draws,)``; one where the family has none."""
        if not self.has_dispersion:
            return np.ones(len(xi))
        return self.scales[self.size - 1].value(xi[:, -1])

    def unit_factor(self, xi: np.ndarray, k: int) -> np.ndarray:
        """Cholesky factor of the correlation matrix of factor ``k``, ``(draws, q, q)``."""
        partial = np.tanh(xi[:, self.z_at[k]])
        L = np.zeros((len(xi), self.groups[k].q, self.groups[k].q))
        L[:] = np.eye(self.groups[k].q)
        start = 0
        for columns in (c for c in self.groups[k].blocks if len(c) > 1):
            m = len(columns) * (len(columns) - 1) // 2
            local = [partial[:, start + i] for i in range(m)]
            for i, row in zip(columns, cholesky_rows(local, len(columns)), strict=True):
                for j, entry in zip(columns, row, strict=True):
                    L[:, i, j] = entry
            start += m
        return L

    def factor(self, xi: np.ndarray, k: int) -> np.ndarray:
        """``L`` with ``b = L u`` of factor ``k``, ``(draws, q, q)``."""
        return self.sd(xi, k)[:, :, None] * self.unit_factor(xi, k)

    def factor_at(self, xi: np.ndarray, k: int) -> np.ndarray:
        """``factor`` at one point, ``(q, q)``."""
        if self.groups[k].q == 1:
            at = self.sd_at[k].start
            return np.full((1, 1), self.scales[at].at(float(xi[at]))[0])
        return self.factor(xi[None], k)[0]

    def dispersion_at(self, xi: np.ndarray) -> tuple[float, float]:
        """Dispersion at one point, and the derivative of its log by its coordinate."""
        if not self.has_dispersion:
            return 1.0, 0.0
        value, slope = self.scales[self.size - 1].at(float(xi[-1]))
        return value, slope / value if 0.0 < value < inf else 0.0

    def named(self, xi: np.ndarray) -> dict[str, np.ndarray]:
        """Parameters under the contract's names, each ``(draws, …)``."""
        found = {"beta": self.beta(xi)}
        for k, g in enumerate(self.groups):
            found[f"sd_{g.group}"] = self.sd(xi, k)
            if g.pairs:
                L = self.unit_factor(xi, k)
                first, second = np.array(g.pairs).T
                found[f"corr_{g.group}"] = np.sum(L[:, first] * L[:, second], axis=2)
        if self.has_dispersion:
            found["dispersion"] = self.dispersion(xi)
        return found

    def start(self, x: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Carry the likelihood's start (``Likelihood.start``) to coordinates.

        Where the likelihood has no maximum its start is far away; each parameter is moved to
        where its prior has its mass.
        """
        xi, spread = np.zeros(self.size), np.ones(self.size)
        beta = self.standard.outer(x[: self.p])
        plausible = [_plausible(p, b) for p, b in zip(self.model.priors.beta, beta, strict=True)]
        xi[: self.p] = self.standard.inner(np.array(plausible))
        position = self.p
        for k, covariance in enumerate(self.covariances):
            theta = x[position : position + covariance.size]
            variance = np.diag(inverse)[position : position + covariance.size]
            sds = theta[covariance.diagonal]
            for i, sd, v in zip(
                range(*self.sd_at[k].indices(self.size)), sds, variance[covariance.diagonal],
                strict=True,
            ):  # fmt: skip
                near = _plausible(self.scales[i].prior, sd)
                xi[i] = self.scales[i].coordinate(near)
                spread[i] = min(v / near**2, 1.0)
            position += covariance.size
        if self.has_dispersion:
            scale = self.scales[self.size - 1]
            xi[-1] = scale.coordinate(_plausible(scale.prior, float(np.exp(x[-1]))))
            spread[-1] = inverse[-1, -1]
        found = np.diag(spread)
        found[: self.p, : self.p] = inverse[: self.p, : self.p]
        return xi, found

    # derivatives

    def pull_back(self, xi: np.ndarray, k: int, gamma: np.ndarray) -> tuple:
        """Give derivatives by SD and correlation coordinates from those by ``L``, ``(q, q)``.

        Of ``U_ic = p_ic prod_{m<c} sqrt(1 - p_im^2)`` by ``z_ij``: ``U_ij`` with ``p_ij``
        replaced by ``1 - p_ij^2`` for ``c = j``, ``-p_ij U_ic`` for ``c > j``.
        """
        if self.groups[k].q == 1:
            at = self.sd_at[k].start
            return gamma[0] * self.scales[at].at(float(xi[at]))[1], np.zeros(0)
        one = xi[None]
        U, sd = self.unit_factor(one, k)[0], self.sd(one, k)[0]
        at = range(*self.sd_at[k].indices(self.size))
        slopes = np.array([self.scales[i].at(float(xi[i]))[1] for i in at])
        by_sd = np.sum(gamma * U, axis=1) * slopes
        by_unit = gamma * sd[:, None]
        by_z, position = [], self.z_at[k].start
        for columns in (c for c in self.groups[k].blocks if len(c) > 1):
            count = len(columns)
            p = dict(
                zip(
                    pairs(count),
                    np.tanh(xi[position : position + count * (count - 1) // 2]),
                    strict=True,
                )
            )
            position += len(p)
            for (i, j), value in p.items():
                row = columns[i]
                left = np.prod([np.sqrt(1.0 - p[i, m] ** 2) for m in range(j)])
                slope = by_unit[row, columns[j]] * left * (1.0 - value**2)
                later = list(columns[j + 1 : i + 1])
                by_z.append(slope - value * (by_unit[row, later] @ U[row, later]))
        return by_sd, np.array(by_z)

    def fill_gradient(self, gradient: np.ndarray, xi: np.ndarray, k: int, gamma) -> None:
        """Put the derivatives by factor ``k``'s coordinates in their places."""
        gradient[self.sd_at[k]], gradient[self.z_at[k]] = self.pull_back(xi, k, gamma)

    # prior

    def log_prior(self, xi: np.ndarray) -> np.ndarray:
        """Log prior density of coordinates ``(draws, size)``, up to a constant."""
        beta = self.beta(xi)
        total = np.zeros(len(xi))
        for k, prior in enumerate(self.model.priors.beta):
            total += prior.logpdf(beta[:, k])
        for i, scale in self.scales.items():
            total += scale.log_density(xi[:, i])
        for i, a in self.shapes.items():
            total += a * log_sech_squared(xi[:, i])
        return total

    def log_prior_at(self, xi: np.ndarray) -> tuple[float, np.ndarray]:
        """``log_prior`` at one point, and its gradient."""
        gradient = np.zeros(self.size)
        total = 0.0
        if self.p:
            total, by_beta = self._coefficients_at(self.inverse_R @ xi[: self.p])
            gradient[: self.p] = self.inverse_R.T @ by_beta
        for i, scale in self.scales.items():
            value, gradient[i] = scale.log_density_and_slope(float(xi[i]))
            total += value
        for i, a in self.shapes.items():
            total += a * float(log_sech_squared(xi[i]))
            gradient[i] = -2.0 * a * np.tanh(xi[i])
        return total, gradient

    def _coefficients_at(self, beta: np.ndarray) -> tuple[float, np.ndarray]:
        """Log prior density of coefficients, and its gradient: normal ones all at once."""
        at, mean, sd = self.normal
        away = (beta[at] - mean) / sd
        by_beta = np.empty(self.p)
        by_beta[at] = -away / sd
        total = -0.5 * float(away @ away) - self.log_normal
        for k, prior in self.other_priors.items():
            value, step = float(beta[k]), float(self.beta_steps[k])
            low, high = prior.support
            if not low < value - step or not value + step < high:
                return -inf, by_beta
            density = prior.log_density_inside
            total += density(value)
            by_beta[k] = (density(value + step) - density(value - step)) / (2.0 * step)
        return total, by_beta


def _plausible(prior, value: float) -> float:
    """Move a value inside all but ``IMPLAUSIBLE`` of its prior."""
    if not prior.proper:
        return value
    return float(np.clip(value, prior.ppf(IMPLAUSIBLE / 2), prior.ppf(1.0 - IMPLAUSIBLE / 2)))


def _quartile_width(prior) -> float:
    """Where a coefficient's prior changes; one where it is flat."""
    return float(prior.ppf(0.75) - prior.ppf(0.25)) if prior.proper else 1.0


def log_sech_squared(z):
    """``log(1 - tanh(z)^2)``, without cancellation."""
    size = np.abs(z)
    return 2.0 * (np.log(2.0) - size - np.log1p(np.exp(-2.0 * size)))
