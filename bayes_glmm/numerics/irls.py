r"""Generalized linear models without random effects, by Newton's method.

Each step solves a weighted least-squares problem (iteratively reweighted least squares),
with the observed information where it is positive definite, else the expected one; they
agree for canonical links.

A dispersion that only scales the information (gaussian, gamma) is estimated afterwards. Any
other (negative binomial, beta-binomial) is estimated with the coefficients, by Newton's method
on the profile log-likelihood of its logarithm,

.. math:: \ell_p' = \partial_\phi \ell, \qquad
   \ell_p'' = \partial_\phi^2 \ell - \partial_{\phi\beta} \ell\,
   (\partial_\beta^2 \ell)^{-1} \partial_{\beta\phi} \ell .
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from .groups import Rows, distinct_rows

DECREMENT = 1e-16  # of the log-likelihood, relative to its size
LIMIT = 50
DIFFERENCE = 1e-4  # of the log dispersion, for its second derivative
# beyond, a family with a dispersion is its limit: an estimate that runs off is held here
LARGEST_LOG_DISPERSION = 18.0


@dataclass(frozen=True, eq=False)
class GLMOptimum:
    """Where the search ended.

    Attributes
    ----------
    beta, eta
        Coefficients ``(p,)`` and linear predictor ``(n,)``, link scale.
    dispersion
        Its maximum-likelihood estimate; 1 for families without one.
    information
        Expected information of ``beta``, ``(p, p)``.
    observed
        Observed information of ``beta`` and the log dispersion, ``(p + 1, p + 1)``; of
        ``beta`` alone for families without one.
    loglik
        With all constants.
    converged, iterations
        How it went.
    """

    beta: np.ndarray
    eta: np.ndarray
    dispersion: float
    information: np.ndarray
    observed: np.ndarray
    loglik: float
    converged: bool
    iterations: int


def starting_mean(family, link, y: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Means half-way between each response and the overall mean, inside the link's range."""
    interval = link.mean_range
    # half an event keeps the mean of counts off zero
    pooled = (y.sum() + 0.5) / (trials.sum() + 1.0) if family.support.integer else y.mean()
    mu = 0.5 * (y / trials + pooled)
    floor = 0.1 * abs(pooled) if interval.low == 0.0 else -np.inf
    return np.minimum(np.maximum(mu, floor), 0.999 if interval.high == 1.0 else np.inf)


def expected_weights(bound, eta: np.ndarray, trials: np.ndarray, dispersion: float) -> np.ndarray:
    """``trials (dmu/deta)^2 / Var(y)``: the expected information of ``eta``, ``(n,)``."""
    mu, slope, *_ = (np.broadcast_to(a, eta.shape) for a in bound.link.inverse(eta))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = bound.family.variance(mu, dispersion) * bound.family.excess(trials, dispersion)
        weights = trials * slope * slope / variance
    return np.where(np.isfinite(weights), weights, 0.0)


def solve(X: np.ndarray, weights: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve ``X'WX d = right``; raises LinAlgError where ``X'WX`` is not positive definite."""
    return cho_solve(cho_factor(X.T @ (weights[:, None] * X), lower=True), right)


class Evaluator:
    """The log-likelihood of a generalized linear model, by its parts.

    Parameters
    ----------
    bound
        Family and link (``bind.bind_numpy``).
    rows
        Data; ``X`` of full column rank.
    blocks
        The same compiled (``bind.bind_numba``), or None.
    """

    def __init__(self, bound, rows: Rows, blocks=None):
        self.bound, self.rows, self.blocks = bound, rows, blocks
        self.distinct = distinct_rows(rows.y, rows.trials) if bound.family.has_dispersion else None

    def eta(self, beta) -> np.ndarray:
        """Linear predictor, ``(n,)``."""
        return self.rows.X @ beta + self.rows.offset

    def density(self, eta, dispersion: float) -> np.ndarray:
        """``l`` less its constants and three derivatives, ``(4, n)``."""
        return self._parts("density", self.bound.log_density, 4, eta, dispersion)

    def spread(self, eta, dispersion: float) -> np.ndarray:
        """``l`` and its first two derivatives, each by log dispersion, ``(3, n)``."""
        return self._parts("spread", self.bound.dispersion_derivatives, 3, eta, dispersion)

    def _parts(self, name: str, formula, count: int, eta, dispersion: float) -> np.ndarray:
        y, trials = self.rows.y, self.rows.trials
        out = np.empty((count, len(eta)))
        if self.blocks is not None:
            getattr(self.blocks, name)(y, trials, eta, dispersion, 0, len(eta), out)
        else:
            out[:] = [np.broadcast_to(a, eta.shape) for a in formula(y, trials, eta, dispersion)]
        return out

    def log_scale(self, dispersion: float) -> tuple[float, float]:
        """Sum of ``log_scale`` and of its derivative."""
        return total_log_scale(self.bound.family.log_scale, self.distinct, dispersion)

    def dispersion_score(self, eta, log_dispersion: float) -> float:
        """Give the derivative of the log-likelihood by log dispersion."""
        dispersion = float(np.exp(log_dispersion))
        return float(self.spread(eta, dispersion)[0].sum() + self.log_scale(dispersion)[1])


def total_log_scale(log_scale, distinct, dispersion: float) -> tuple[float, float]:
    """Sum of a family's ``log_scale`` over rows, and of its derivative by log dispersion."""
    if distinct is None:
        return 0.0, 0.0
    y, trials, count = distinct
    value, slope = log_scale(y, trials, dispersion)
    return float(value @ count), float(slope @ count)


def fit_glm(bound, rows: Rows, blocks=None) -> GLMOptimum:
    """Maximise the likelihood of a generalized linear model.

    Under separation the maximum does not exist: steps stop when the log-likelihood no longer
    rises by more than rounding, with large finite coefficients. Likewise a dispersion whose
    likelihood rises for ever towards the family's limit is held where it is that limit.

    Parameters
    ----------
    bound
        Family and link (``bind.bind_numpy``).
    rows
        Data; ``X`` of full column rank.
    blocks
        The same compiled (``bind.bind_numba``), which is faster; None does without.
    """
    model, family = Evaluator(bound, rows, blocks), bound.family
    mu = starting_mean(family, bound.link, rows.y, rows.trials)
    dispersion = float(family.rough_dispersion(rows.y, rows.trials, mu))
    beta = start_inside(model, mu, dispersion)
    if family.has_dispersion and not family.dispersion_is_scale:
        found, dispersion = climb_both(model, beta, dispersion)
    else:
        found = climb(model, beta, dispersion)
        if family.has_dispersion:
            dispersion = dispersion_given(model, found.eta, dispersion)
    weights = expected_weights(bound, found.eta, rows.trials, dispersion)
    value = float(model.density(found.eta, dispersion)[0].sum())
    constant = model.log_scale(dispersion)[0] + float(family.log_base(rows.y, rows.trials).sum())
    return GLMOptimum(
        found.beta, found.eta, dispersion, rows.X.T @ (weights[:, None] * rows.X),
        observed_information(model, found.eta, dispersion),
        value + constant, found.converged, found.iterations,
    )  # fmt: skip


def start_inside(model: Evaluator, mu: np.ndarray, dispersion: float) -> np.ndarray:
    """Coefficients of a weighted regression of ``g(mu)``, pulled in until every row has a mean.

    Pulled towards a constant predictor; rows that it does not reach keep the first answer.
    """
    rows, link = model.rows, model.bound.link
    target = link.link(mu)
    weights = expected_weights(model.bound, target, rows.trials, dispersion)
    beta = least_squares(rows.X, weights, target - rows.offset)
    level = np.broadcast_to(link.link(np.mean(mu)), target.shape)
    centre = least_squares(rows.X, np.ones(len(target)), level - rows.offset)
    for _ in range(20):
        if np.all(model.eta(beta) > link.lowest):
            break
        beta = 0.5 * (beta + centre)
    return beta


@dataclass(frozen=True, eq=False)
class Climbed:
    """Where Newton's method for ``beta`` ended."""

    beta: np.ndarray
    eta: np.ndarray
    converged: bool
    iterations: int


def climb(model: Evaluator, beta: np.ndarray, dispersion: float) -> Climbed:
    """Newton's method for ``beta`` at a dispersion, steps halved until the likelihood rises."""
    X, trials, bound = model.rows.X, model.rows.trials, model.bound
    eta = model.eta(beta)
    value, l1, l2, _ = model.density(eta, dispersion)
    converged, iteration = False, 0
    for iteration in range(1, LIMIT + 1):  # noqa: B007
        step = newton_step(bound, X, eta, trials, dispersion, l1, l2)
        decrement = float(step @ (X.T @ l1))
        if decrement <= DECREMENT * (1.0 + abs(value.sum())):
            converged = True
            break
        for _ in range(40):
            new_eta = model.eta(beta + step)
            new = model.density(new_eta, dispersion)
            if new[0].sum() >= value.sum() - 1e-12 * abs(value.sum()):
                break
            step = 0.5 * step
        else:
            break
        stalled = new[0].sum() - value.sum() < 1e-13 * (1.0 + abs(value.sum())) and decrement < 1e-6
        beta, eta, (value, l1, l2, _) = beta + step, new_eta, new
        if stalled:
            converged = True
            break
    return Climbed(beta, eta, converged, iteration)


def climb_both(model: Evaluator, beta: np.ndarray, dispersion: float) -> tuple[Climbed, float]:
    """Newton's method for the log dispersion on the likelihood maximised over ``beta``.

    Steps are at most 2, and keep between the points where the slope was seen to be positive
    and negative.
    """
    x, found = float(np.log(dispersion)), climb(model, beta, dispersion)
    low, high = -LARGEST_LOG_DISPERSION, LARGEST_LOG_DISPERSION
    converged, iterations = False, found.iterations
    for _ in range(LIMIT):
        slope = model.dispersion_score(found.eta, x)
        information = profile_information(observed_information(model, found.eta, np.exp(x)))
        low, high = (x, high) if slope > 0 else (low, x)
        step = slope / information if information > 0 else np.sign(slope)
        if abs(slope * step) <= 1e-14 or high - low < 1e-12:
            converged = True
            break
        new = x + float(np.clip(step, -2.0, 2.0))
        new = new if low < new < high else 0.5 * (low + high)
        if abs(new) > LARGEST_LOG_DISPERSION - 1e-3:
            converged = True
            break
        x = new
        found = climb(model, found.beta, float(np.exp(x)))
        iterations += found.iterations
    found = Climbed(found.beta, found.eta, converged and found.converged, iterations)
    return found, float(np.exp(x))


def observed_information(model: Evaluator, eta: np.ndarray, dispersion: float) -> np.ndarray:
    """Minus second derivatives by ``beta`` and log dispersion, the latter by differences."""
    X, x = model.rows.X, float(np.log(dispersion))
    l2 = model.density(eta, dispersion)[2]
    block = -(X.T @ (l2[:, None] * X))
    if not model.bound.family.has_dispersion:
        return block
    across = -(X.T @ model.spread(eta, dispersion)[1])
    ends = [model.dispersion_score(eta, x + side * DIFFERENCE) for side in (-1, 1)]
    corner = (ends[0] - ends[1]) / (2 * DIFFERENCE)
    return np.block([[block, across[:, None]], [across[None, :], np.array([[corner]])]])


def profile_information(observed: np.ndarray) -> float:
    """Information of the last parameter with the others estimated; 0 where it has none."""
    block, across = observed[:-1, :-1], observed[:-1, -1]
    try:
        return float(observed[-1, -1] - across @ np.linalg.solve(block, across))
    except np.linalg.LinAlgError:
        return 0.0


def newton_step(bound, X, eta, trials, dispersion, l1, l2) -> np.ndarray:
    """Newton's step with the observed information, or the expected one where that fails."""
    try:
        return solve(X, -l2, X.T @ l1)
    except LinAlgError:
        weights = expected_weights(bound, eta, trials, dispersion)
        return least_squares(X, weights, l1 / np.maximum(weights, 1e-12))


def least_squares(X: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weighted least squares of least norm."""
    root = np.sqrt(weights)
    return np.linalg.lstsq(root[:, None] * X, root * target, rcond=None)[0]


def dispersion_given(model: Evaluator, eta: np.ndarray, start: float) -> float:
    """Maximum-likelihood dispersion at a linear predictor: the root of its score."""
    from scipy.optimize import brentq  # a quarter second, which few fits need

    centre = np.log(start)
    for reach in (2.0, 10.0, 40.0):
        ends = [model.dispersion_score(eta, centre + side * reach) for side in (-1, 1)]
        if ends[0] > 0 > ends[1]:
            score = partial(model.dispersion_score, eta)
            root: Any = brentq(score, centre - reach, centre + reach, xtol=1e-14)
            return float(np.exp(root))
    return start
