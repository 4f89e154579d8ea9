r"""Errors of a linear mixed model's estimates, with the variances estimated.

With ``psi`` the variance parameters and ``A`` their covariance, the inverse of the observed
(restricted) information, and ``C(psi)`` the covariance of beta:

- Satterthwaite's degrees of freedom of a contrast (Fai & Cornelius 1996; Giesbrecht & Burns
  1985): :math:`2 (l'Cl)^2 / (g'Ag)`, ``g`` the derivative of ``l'Cl`` by ``psi``;
- the prediction error variance of a BLUP: Henderson's, for known variances, plus
  :math:`d'Ad`, ``d`` the derivative of the prediction by ``psi`` (Kackar & Harville 1984).

All derivatives are central differences along each parameter of the solved equations and of
the exact gradient. The parameters are those that see standardised columns of the effects
(``LinearSearch.directions``), among which no information is lost to the origin of a column.
"""

from dataclasses import dataclass

import numpy as np

from ..fit import Fit
from ..numerics.newton import inverse_information
from .lmm_search import LinearMaximum, LinearSearch

STEP = 1e-4  # of a difference, relative


@dataclass(frozen=True, eq=False)
class VarianceErrors:
    """What the estimation of the variances adds.

    ``psi`` holds the inner coordinates of the free entries of ``(theta, working alpha)`` and the
    log of sigma squared.

    Attributes
    ----------
    covariance
        ``A``, shape ``(m, m)``; NaN where the information is not positive definite.
    turn
        Derivatives of the free entries and the log of sigma squared by ``psi``, ``(m, m)``.
    positions
        Of the free entries in ``(theta, working alpha)``, shape ``(m - 1,)``.
    vcov_slopes
        Derivatives of the covariance of beta by ``psi``, shape ``(m, p, p)``.
    effect_slopes
        Derivatives of the BLUPs, one array ``(m, levels, q)`` per factor.
    proper
        Whether the information is positive definite.
    """

    covariance: np.ndarray
    turn: np.ndarray
    positions: np.ndarray
    vcov_slopes: np.ndarray
    effect_slopes: list[np.ndarray]
    proper: bool

    @property
    def outer_covariance(self) -> np.ndarray:
        """Covariance of the free entries and the log of sigma squared."""
        return self.turn @ self.covariance @ self.turn.T

    def correction(self, k: int) -> np.ndarray:
        """Give ``d'Ad`` for the effects of a factor, ``(levels, q)``."""
        slopes = self.effect_slopes[k]
        return np.einsum("mlq,mn,nlq->lq", slopes, self.covariance, slopes)


def variance_errors(search: LinearSearch, maximum: LinearMaximum, sigma2: float) -> VarianceErrors:
    """Work them out at the maximum."""
    reml, x = search.reml, maximum.x
    positions = np.flatnonzero(maximum.free)
    nu = search.problem.degrees_of_freedom(reml)
    information, vcov_slopes, effect_slopes = [], [], []
    turn = search.directions(maximum.free)
    directions = np.zeros((len(x), len(positions)))
    directions[positions] = turn
    inner = np.linalg.solve(turn, x[positions])
    for size, direction in zip(np.abs(inner), directions.T, strict=True):
        h = STEP * max(size, 0.1)
        points = (x + side * h * direction for side in (1.0, -1.0))
        up, down = (_at(search, at, directions, sigma2, nu) for at in points)
        rows, covs, effects = (
            [(a - b) / (2 * h) for a, b in zip(u, d, strict=True)]
            for u, d in zip(up, down, strict=True)
        )
        information.append(rows[0] / 2)
        vcov_slopes.append(sigma2 * covs[0])
        effect_slopes.append(effects)
    m = len(positions) + 1
    half = np.zeros((m, m))
    half[:-1] = np.reshape(information, (m - 1, m))
    half[-1, :-1] = half[:-1, -1]
    half[-1, -1] = nu / 2
    half[:-1, :-1] = (half[:-1, :-1] + half[:-1, :-1].T) / 2
    covariance, proper = inverse_information(half)
    vcov_slopes.append(sigma2 * maximum.state.beta_covariance)
    effect_slopes.append([np.zeros_like(b) for b in maximum.state.effects])
    by_factor = [np.array([s[k] for s in effect_slopes]) for k in range(len(effect_slopes[-1]))]
    whole = np.eye(len(covariance))
    whole[:-1, :-1] = turn
    return VarianceErrors(covariance, whole, positions, np.array(vcov_slopes), by_factor, proper)


def _at(search: LinearSearch, x, directions, sigma2: float, nu: int):
    """Gradient by ``psi``, covariance of beta over sigma squared, and effects at a point."""
    state = search.state(x)
    gradient = directions.T @ (state.gradient(search.reml, sigma2) * search.slope(x))
    by_log = nu - state.solution.rss / sigma2
    return [np.append(gradient, by_log)], [state.beta_covariance], list(state.effects)


def satterthwaite(
    contrasts: np.ndarray, vcov: np.ndarray, vcov_slopes: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """Degrees of freedom of contrasts ``(k, p)``, shape ``(k,)``."""
    value = np.einsum("ki,ij,kj->k", contrasts, vcov, contrasts)
    slopes = np.einsum("ki,mij,kj->mk", contrasts, vcov_slopes, contrasts)
    spread = np.einsum("mk,mn,nk->k", slopes, covariance, slopes)
    return 2.0 * value**2 / spread


def contrast_df(fit: Fit, contrasts: np.ndarray) -> np.ndarray:
    """Degrees of freedom of contrasts ``(k, p)`` of a fit by REML, shape ``(k,)``.

    Kenward & Roger's too: for a single contrast theirs differ by the information alone.
    """
    d, vcov = fit.details, np.asarray(fit.vcov("model"))
    return satterthwaite(contrasts, vcov, d["vcov_slopes"], d["variance_cov"])


def denominator_df(fit: Fit, L: np.ndarray) -> float:
    r"""Denominator degrees of freedom of the F test of ``L beta = c`` (Fai & Cornelius 1996).

    With independent contrasts of ``nu_i`` degrees of freedom the statistic is a sum of squared
    t variables, whose mean ``E = sum nu_i / (nu_i - 2)`` that of ``F(q, df)`` is matched to.
    """
    values, vectors = np.linalg.eigh(L @ np.asarray(fit.vcov("model")) @ L.T)
    nu = contrast_df(fit, vectors.T @ L)
    q = len(nu)
    if q == 1:
        return float(nu[0])
    total = float(np.sum(nu[nu > 2] / (nu[nu > 2] - 2)))
    return 2 * total / (total - q) if total > q and values[0] > 0 else float("nan")
