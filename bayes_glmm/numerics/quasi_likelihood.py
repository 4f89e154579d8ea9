r"""The quasi-score of a generalized linear model and Fisher scoring on it.

For mean :math:`\mu(\eta)` per trial, :math:`m` trials and variance function :math:`V`, one row has

.. math:: s = \frac{(y - m\mu)\,\mu'}{V(\mu)}, \qquad w = \frac{m\,\mu'^2}{V(\mu)},

the quasi-score and its information in :math:`\eta` at dispersion 1, or at the one given where it
is no factor of the variance (McCullagh & Nelder 1989):
the working response is :math:`\eta + s/w` with weight :math:`w`, the Pearson residual
:math:`s/\sqrt{w}`.
"""

from dataclasses import dataclass

import numpy as np

# where V(mu) is smaller, mu has lost digits to rounding near the edge of its range
SMALLEST_VARIANCE = 1e-8
SMALLEST_INFORMATION = 1e-280


def quasi_score(bound, y, trials, eta) -> tuple[np.ndarray, np.ndarray]:
    """Give the quasi-score and its information, row by row.

    Parameters
    ----------
    bound
        Family with link, from ``bind_numpy``.
    y, trials, eta
        Response, trials and linear predictor, shape ``(n,)``.

    Returns
    -------
    score, information
        Shape ``(n,)``, per unit of ``eta``. Near the edge of the mean's range, where
        ``1 - mu`` has no digits left, they come from the log density, whose tails are stable.
    """
    if np.isfinite(bound.link.lowest):  # no mean: not a number, and the step is halved
        eta = np.where(bound.inside(eta), eta, np.nan)
    mean, slope = bound.link.inverse(eta)[:2]
    variance = bound.variance(mean, trials)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = (y - trials * mean) * slope / variance
        information = trials * slope * slope / variance
    edge = ~(variance > SMALLEST_VARIANCE)
    if edge.any():
        y, trials, eta = y[edge], trials[edge], eta[edge]
        given, expected = bound.dispersion, trials * mean[edge]
        score[edge] = bound.log_density(y, trials, eta, given)[1]
        # E(-l'') = -l'' at y = E(y), since l'' is linear in y
        information[edge] = -bound.log_density(expected, trials, eta, given)[2]
    return score, np.maximum(information, SMALLEST_INFORMATION)


def start_predictor(bound, y, trials) -> np.ndarray:
    """Give ``g`` of the response moved inside the range of the mean, shape ``(n,)``.

    ``(y + 1/2)/(m + 1)`` for means in (0, 1), ``y + 1/2`` for counts, ``y`` for means on the
    whole line; a positive mean of a real response starts no lower than a tenth of its mean.
    """
    reach, support = bound.link.mean_range, bound.family.support
    if np.isfinite(reach.high):
        return bound.link.link((y + 0.5) / (trials + 1.0))
    if np.isinf(reach.low):
        return bound.link.link(np.array(y, float))
    if support.integer:
        return bound.link.link(y + 0.5)
    return bound.link.link(np.maximum(y, 0.1 * np.mean(np.abs(y)) + np.finfo(float).tiny))


@dataclass(frozen=True, eq=False)
class Scored:
    """Where Fisher scoring ended: ``beta (p,)``, iterations used, whether it converged."""

    beta: np.ndarray
    iterations: int
    converged: bool


def fisher_scoring(bound, y, trials, offset, X, *, tolerance=1e-8, limit=50) -> Scored:
    r"""Solve :math:`\sum_i x_i s_i(\beta) = 0`, rows independent: the GLM estimate.

    Parameters
    ----------
    bound
        Family with link.
    y, trials, offset
        Shape ``(n,)``.
    X
        Shape ``(n, p)``, full column rank.
    tolerance
        Step accepted as the last, in standard errors.
    limit
        Most evaluations of the score.

    Notes
    -----
    The first step regresses the working response at ``start_predictor``. A later step that
    makes the next one longer, in standard errors, is halved until it does not.
    """
    eta = start_predictor(bound, y, trials)
    score, information = quasi_score(bound, y, trials, eta)
    beta = weighted_regression(X, eta - offset + score / information, information)[0]
    step, length, before = np.zeros_like(beta), np.inf, np.inf
    for iteration in range(1, limit + 1):
        score, information = quasi_score(bound, y, trials, X @ (beta + step) + offset)
        following, length = weighted_regression(X, score / information, information)
        if not length <= 2 * before:  # longer, or not a number
            step = step / 2
            continue
        beta, step, before = beta + step, following, length
        if length <= tolerance * np.sqrt(np.mean(score * score / information)):
            return Scored(beta + step, iteration, True)
    return Scored(beta, limit, False)


def weighted_regression(X, z, weight) -> tuple[np.ndarray, float]:
    """Regress ``z`` on ``X``; give coefficients and the square root of the fitted sum of squares.

    Both are NaN where the weighted columns are no longer independent.
    """
    scaled = X * weight[:, None]
    right = scaled.T @ z
    try:
        beta = np.linalg.solve(scaled.T @ X, right)
    except np.linalg.LinAlgError:
        return np.full(X.shape[1], np.nan), np.nan
    return beta, float(np.sqrt(max(beta @ right, 0.0)))
