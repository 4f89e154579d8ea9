r"""What each row of the data allows of its linear predictor.

A row holds ``eta`` where its likelihood falls to zero as ``eta`` grows and as it falls; it
lets ``eta`` go where the likelihood keeps a positive limit. A row of successes only lets it go
up, a count of zero down; a positive count holds it.
"""

import numpy as np

from ..families import Family, Link

BINARY = ("bernoulli", "binomial", "beta_binomial")
COUNTS = ("poisson", "negative_binomial", "negative_binomial1")
DISCRETE = (*BINARY, *COUNTS)

# the likelihood of a row that lets go of eta falls at least exponentially on the other side
LIGHT = {
    **dict.fromkeys(BINARY, ("logit", "probit", "cloglog", "loglog")),
    "poisson": ("log", "sqrt"),
    "negative_binomial": ("log",),
    "negative_binomial1": ("log", "sqrt"),
    "gamma": ("log", "inverse"),
    "gaussian": ("identity",),
}


def is_discrete(family: Family) -> bool:
    """Whether the likelihood of a row is a probability, at most one."""
    return family.name in DISCRETE


def has_light_tails(family: Family, link: Link) -> bool:
    """Whether the likelihood falls at least exponentially in ``eta`` wherever it falls."""
    return link.name in LIGHT.get(family.name, ())


def row_signs(family: Family, link: Link, y: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Directions of ``eta`` in which the likelihood of each row keeps a positive limit.

    Returns
    -------
    ndarray of shape (n,)
        +1: as ``eta`` grows; -1: as it falls; 0: in neither; NaN: in both, so that the row says
        nothing of large ``eta``.
    """
    low, high = _mean_limits(link)
    up = _keeps(family, high, y, trials)
    down = _keeps(family, low, y, trials)
    return np.where(up & down, np.nan, up.astype(float) - down)


def _mean_limits(link: Link) -> tuple[float, float]:
    """Mean as ``eta`` falls and as it grows without bound."""
    low, high = link.mean_range.low, link.mean_range.high
    if link.name == "sqrt":
        return high, high
    if link.name == "inverse":  # only eta > 0 is a mean: zero far up, infinite at zero
        return high, low
    return low, high


def _keeps(family: Family, mean: float, y: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Whether the likelihood of each row is positive at a limit of its mean."""
    if family.name in BINARY:
        return (y == 0) if mean == 0 else (y == trials)
    if family.name in COUNTS:
        return (y == 0) if mean == 0 else np.zeros(y.shape, bool)
    return np.full(y.shape, family.name == "gaussian" and bool(np.isfinite(mean)))
