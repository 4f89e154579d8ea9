r"""The generalized linear model that is nearest to given means.

It solves :math:`\sum_i w_i x_i (g^{-1})'(\eta_i) (m_i - \mu_i)/V(\mu_i) = 0`: the score of the
model with the means ``m`` as its responses, which is linear in them.
"""

import numpy as np

from ..families import get_family
from ..numerics.bind import Bound

SCORING_ROUNDS = 50
SETTLED = 1e-12  # last step of the linear predictor
NEAR = 1e-6  # what is accepted after the last round
EDGE = 1e-12  # distance that a mean is kept from the edge of its range, for the start


def nearest(bound: Bound, rows, mean: np.ndarray) -> np.ndarray:
    """Coefficients of the generalized linear model nearest to marginal means, by Fisher scoring.

    Parameters
    ----------
    bound
        Working family with the link.
    rows
        ``X`` of full column rank, ``offset`` and ``weight``; see ``Rows``.
    mean
        Shape ``(draws, n)``.

    Returns
    -------
    ndarray
        Shape ``(draws, p)``; NaN where the steps did not settle.
    """
    X, one = rows.X, np.ones_like(mean)
    eta = _link_of(bound, mean)
    beta = _regress(X, rows.weight * _information(bound, eta), eta - rows.offset)
    for _ in range(SCORING_ROUNDS):
        eta = beta @ X.T + rows.offset
        score = bound.log_density(mean, one, eta)[1]
        information = _information(bound, eta)
        step = _regress(X, rows.weight * information, score / information)
        beta = beta + step
        if np.all(np.abs(step @ X.T) <= SETTLED * (1 + np.abs(eta))):
            return beta
    settled = np.all(np.abs(step @ X.T) <= NEAR * (1 + np.abs(eta)), axis=1)
    return np.where(settled[:, None], beta, np.nan)


def score_per_mean(bound: Bound, eta: np.ndarray) -> np.ndarray:
    """Differentiate the score by the response, in which it is linear: ``g^{-1}' / V``."""
    one = np.ones_like(eta)
    return bound.log_density(one, one, eta)[1] - bound.log_density(0.0 * one, one, eta)[1]


def _information(bound: Bound, eta: np.ndarray) -> np.ndarray:
    """Give the expected information of ``eta`` per trial: minus the curvature at the mean."""
    curvature = bound.log_density(bound.mean(eta), np.ones_like(eta), eta)[2]
    return np.maximum(-curvature, 1e-280)


def _link_of(bound: Bound, mean: np.ndarray) -> np.ndarray:
    """``g(m)``, kept finite where the mean has reached the edge of its range."""
    low, high = bound.link.mean_range.low, bound.link.mean_range.high
    inside = np.clip(mean, EDGE if low == 0 else None, 1 - EDGE if high == 1 else None)
    return bound.link.link(inside)


def _regress(X: np.ndarray, weight: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Weighted regression of every row of ``z (draws, n)`` on ``X``; shape ``(draws, p)``."""
    information = np.matmul(X.T, weight[:, :, None] * X)
    right = (weight * z) @ X
    return np.linalg.solve(information, right[:, :, None])[:, :, 0]


def working_family(family):
    """Give the family whose quasi-likelihood GEE would use: without a dispersion of its own."""
    if family.has_dispersion and not family.dispersion_is_scale:
        return get_family("binomial" if family.has_trials else "poisson")
    return family
