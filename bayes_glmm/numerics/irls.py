r"""Generalized linear models without random effects, by Newton's method.

Each step solves a weighted least-squares problem (iteratively reweighted least squares),
with the observed information where it is positive definite, else the expected one; they
agree for canonical links.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import brentq

from .groups import Rows

DECREMENT = 1e-16  # of the log-likelihood, relative to its size
LIMIT = 50


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
    loglik
        With all constants.
    converged, iterations
        How it went.
    """

    beta: np.ndarray
    eta: np.ndarray
    dispersion: float
    information: np.ndarray
    loglik: float
    converged: bool
    iterations: int


def starting_mean(family, link, y: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Means half-way between each response and the overall mean, inside the link's range."""
    interval = link.mean_range
    pooled = (y.sum() + 0.5) / (trials.sum() + 1.0) if interval.low == 0.0 else y.mean()
    mu = 0.5 * (y / trials + pooled)
    floor = 0.1 * abs(pooled) if interval.low == 0.0 else -np.inf
    return np.minimum(np.maximum(mu, floor), 0.999 if interval.high == 1.0 else np.inf)


def expected_weights(bound, eta: np.ndarray, trials: np.ndarray, dispersion: float) -> np.ndarray:
    """``trials (dmu/deta)^2 / Var(y)``: the expected information of ``eta``, ``(n,)``."""
    mu, slope, *_ = (np.broadcast_to(a, eta.shape) for a in bound.link.inverse(eta))
    variance = bound.family.variance(mu, dispersion)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = trials * slope * slope / variance
    return np.where(np.isfinite(weights), weights, 0.0)


def solve(X: np.ndarray, weights: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve ``X'WX d = right``; raises LinAlgError where ``X'WX`` is not positive definite."""
    return cho_solve(cho_factor(X.T @ (weights[:, None] * X), lower=True), right)


def fit_glm(bound, rows: Rows, density: Callable | None = None) -> GLMOptimum:
    """Maximise the likelihood of a generalized linear model.

    Under separation the maximum does not exist: steps stop when the log-likelihood no longer
    rises by more than rounding, with large finite coefficients.

    Parameters
    ----------
    bound
        Family and link (``bind.bind_numpy``).
    rows
        Data; ``X`` of full column rank.
    density
        ``(eta, dispersion) -> (l, l', l'', l''')``; ``bound``'s by default.
    """
    X, y, trials, offset = rows.X, rows.y, rows.trials, rows.offset
    evaluate = density or (lambda eta, dispersion: bound.log_density(y, trials, eta, dispersion))
    mu = starting_mean(bound.family, bound.link, y, trials)
    dispersion = first_dispersion(bound, y, mu)
    target = bound.link.link(mu) - offset
    weights = expected_weights(bound, target + offset, trials, dispersion)
    beta = least_squares(X, weights, target)
    eta = X @ beta + offset
    value, l1, l2, _ = evaluate(eta, dispersion)
    converged, iteration = False, 0
    for iteration in range(1, LIMIT + 1):  # noqa: B007
        step = newton_step(bound, X, eta, trials, dispersion, l1, l2)
        decrement = float(step @ (X.T @ np.broadcast_to(l1, eta.shape)))
        if decrement <= DECREMENT * (1.0 + abs(value.sum())):
            converged = True
            break
        for _ in range(40):
            new_eta = X @ (beta + step) + offset
            new = evaluate(new_eta, dispersion)
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
    if bound.family.has_dispersion:
        dispersion = dispersion_given(bound, y, trials, eta, dispersion)
        value = evaluate(eta, dispersion)[0]
    weights = expected_weights(bound, eta, trials, dispersion)
    return GLMOptimum(
        beta, eta, dispersion, X.T @ (weights[:, None] * X),
        float(value.sum() + bound.family.log_base(y, trials).sum()), converged, iteration,
    )  # fmt: skip


def newton_step(bound, X, eta, trials, dispersion, l1, l2) -> np.ndarray:
    """Newton's step with the observed information, or the expected one where that fails."""
    l1, l2 = np.broadcast_to(l1, eta.shape), np.broadcast_to(l2, eta.shape)
    try:
        return solve(X, -l2, X.T @ l1)
    except LinAlgError:
        weights = expected_weights(bound, eta, trials, dispersion)
        return least_squares(X, weights, l1 / np.maximum(weights, 1e-12))


def least_squares(X: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weighted least squares of least norm."""
    root = np.sqrt(weights)
    return np.linalg.lstsq(root[:, None] * X, root * target, rcond=None)[0]


def first_dispersion(bound, y: np.ndarray, mu: np.ndarray) -> float:
    """Rough dispersion: the spread of the responses; 1 for families without one."""
    return float(np.std(y)) or 1.0 if bound.family.has_dispersion else 1.0


def dispersion_given(bound, y, trials, eta, start: float) -> float:
    """Maximum-likelihood dispersion at a linear predictor: the root of its score."""

    def score(log_dispersion: float) -> float:
        d = bound.dispersion_derivatives(y, trials, eta, np.exp(log_dispersion))[0]
        return float(np.sum(d))

    centre = np.log(start)
    for reach in (2.0, 10.0, 40.0):
        if score(centre - reach) > 0 > score(centre + reach):
            root: Any = brentq(score, centre - reach, centre + reach, xtol=1e-14)
            return float(np.exp(root))
    return start
