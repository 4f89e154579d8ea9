r"""Draws from a density of few dimensions by proposals from a multivariate split t distribution.

Independent proposals ``x`` have log ratios ``r = log target - log proposal``. A proposal is kept
as a candidate with probability ``min{1, exp(r - c)}``; candidates are then draws from the target
where ``r <= c``, and too few elsewhere. An independence Metropolis chain over them, which moves
from ``x`` to ``x'`` with probability ``min{1, exp(max(r', c) - max(r, c))}``, has the target as its
distribution (the rejection sampling chain of Tierney 1994, section 2.3.4). It seldom stays, and
unlike resampled draws its autocorrelation is seen by R-hat and the effective sample size. It
starts at a candidate, which it forgets within a few draws. The Pareto k-hat of all ratios says
whether the proposals cover the target (Vehtari, Simpson, Gelman, Yao & Gabry 2024).
"""

from dataclasses import dataclass
from math import lgamma, log, pi

import numpy as np
from scipy.linalg import solve_triangular

DF = 8  # tails heavier than a posterior's, at an efficiency of .9 for a normal one
WIDE = 3  # of proposals that are to find out how wide the posterior is
# of proposals fitted to weighted draws: the log of an SD that may be near zero has an exponential
# tail, which k-hat takes for a heavier one unless the proposals' is heavier still
HEAVY = 5


@dataclass(frozen=True, eq=False)
class Proposal:
    r"""Multivariate split t distribution (Geweke 1989, *Econometrica* 57).

    ``x = centre + U e``, ``U`` the upper triangular root of ``covariance``: the axis of each
    coordinate moves those before it as they are expected to move. ``e`` has the multivariate t
    distribution, stretched by ``left`` or ``right`` on the two sides of each axis. The posterior
    of a log SD has one long tail, which a symmetric proposal misses unless it is wide everywhere.

    Attributes
    ----------
    centre, covariance
        Location ``(d,)`` and scale matrix ``(d, d)``.
    left, right
        Stretch below and above the centre along each axis, ``(d,)``.
    df
        Degrees of freedom.
    """

    centre: np.ndarray
    covariance: np.ndarray
    left: np.ndarray | float = 1.0
    right: np.ndarray | float = 1.0
    df: int = DF

    def draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Give ``size`` proposals ``(size, d)`` and their log densities."""
        d, df = len(self.centre), self.df
        root = upper_root(self.covariance)
        normal = rng.standard_normal((size, d))
        chi_square = rng.chisquare(df, size)
        squares = (normal**2).sum(axis=1) * df / chi_square
        stretch = np.where(normal < 0.0, self.left, self.right)
        constant = lgamma(0.5 * (df + d)) - lgamma(0.5 * df) - 0.5 * d * log(df * pi)
        log_density = constant - np.log(np.diag(root)).sum() - np.log(stretch).sum(axis=1)
        log_density = log_density - 0.5 * (df + d) * np.log1p(squares / df)
        e = normal * stretch * np.sqrt(df / chi_square)[:, None]
        return self.centre + e @ root.T, log_density


def upper_root(matrix: np.ndarray) -> np.ndarray:
    """Upper triangular ``U`` with ``U U' = matrix``."""
    return np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]


def refitted(points: np.ndarray, log_ratio: np.ndarray, before: Proposal) -> Proposal:
    """Give the proposal at the mean of weighted points ``(size, d)``, as wide as they are.

    On each side of an axis it has the points' root mean square there. Their covariance is drawn
    towards that of the proposal ``before``, which counts for ``d^2`` points: the
    ``d (d + 1) / 2`` covariances of many coordinates are not known from a few hundred points.
    """
    weight = np.exp(log_ratio - log_ratio.max())
    weight = weight / weight.sum()
    centre = weight @ points
    away = points - centre
    known = effective_weights(log_ratio)
    share = known / (known + points.shape[1] ** 2)
    covariance = share * (weight[:, None] * away).T @ away + (1.0 - share) * before.covariance
    e = solve_triangular(upper_root(covariance), away.T).T
    below = e < 0.0
    left, right = (
        np.sqrt(weight @ np.where(side, e**2, 0.0) / (weight @ side)) for side in (below, ~below)
    )
    return Proposal(centre, covariance, left, right, HEAVY)


def effective_weights(log_ratio: np.ndarray) -> float:
    """Effective number of importance weights, ``(sum w)^2 / sum w^2`` (Kong 1992)."""
    weight = np.exp(log_ratio - log_ratio.max())
    return float(weight.sum() ** 2 / (weight**2).sum())


def without_replacement(log_ratio: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Positions of different points drawn in proportion to their importance ratios.

    The largest of the log ratios with Gumbel noise added (Efraimidis & Spirakis 2006).
    """
    return np.argsort(-(log_ratio + rng.gumbel(size=len(log_ratio))))[:size]


def level_of(log_ratio: np.ndarray, proposals: float) -> float:
    """Give ``c`` at which one of ``proposals`` is kept: the mean of ``min(1, exp(r - c))``.

    With the ``k`` smallest of ``n`` ratios ``w`` below ``e^c``, the mean is
    ``(sum w / e^c + n - k) / n``.
    """
    top = log_ratio.max()
    w = np.sort(np.exp(log_ratio - top))
    n = len(w)
    below = np.arange(1, n + 1)
    room = n / proposals - (n - below)
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = np.where(room > 0, np.cumsum(w) / room, np.inf)
    fits = levels <= np.append(w[1:], np.inf)
    return float(np.log(levels[fits.argmax()]) + top)


def metropolis(log_ratio: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
    """Walk over proposals, one chain a row, from the first of them.

    Parameters
    ----------
    log_ratio
        Of the proposals, ``(chains, draws)``.

    Returns
    -------
    position, moved
        Draw whose proposal each draw is, and whether it is new; ``(chains, draws)`` each.
    """
    chains, draws = log_ratio.shape
    threshold = np.log(rng.random((chains, draws)))
    position, moved = np.empty((chains, draws), int), np.empty((chains, draws), bool)
    at, here = np.zeros(chains, int), np.full(chains, -np.inf)
    for k in range(draws):
        accept = threshold[:, k] <= log_ratio[:, k] - here
        at = np.where(accept, k, at)
        here = np.where(accept, log_ratio[:, k], here)
        position[:, k], moved[:, k] = at, accept
    return position, moved
