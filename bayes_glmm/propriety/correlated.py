r"""What residual correlation adds to the question whether the posterior exists.

A gaussian density is unbounded only where its covariance becomes singular and the residuals are
zero in the directions that vanish. Without correlation that is the limit of a residual SD of
zero; with it there are the limits in which the correlation matrix loses rank. A density stays
bounded there if the columns of X and Z, with what the limit leaves free beside them, do not fit the
data exactly (``docs/propriety.md``).
"""

import numpy as np

from ..priors import Prior
from .cones import TOLERANCE, Effects, rank


def bounded_at_limits(spec) -> bool:
    """Tell whether the likelihood is bounded where the correlation matrix loses rank.

    False where it is not known to be. Limits that the priors of the parameters keep away from,
    faster than any power, do not matter.
    """
    if spec.model.residual is None:
        return True
    if not spec.model.is_linear:
        return False
    if "corr" in spec.priors.residual:
        return _in_every_direction(spec)
    free = _left_free(spec)
    return all(spec.leaves_residual([effects]) for effects in free) and _sums_remain(spec)


def _left_free(spec) -> list[Effects]:
    """Columns that each limit leaves free: the rest of the rows' space vanishes there."""
    repeated, priors, n = spec.model.repeated, spec.priors.residual, spec.design.n
    cluster, time = repeated.cluster, repeated.time
    constant = Effects(cluster, np.ones((n, 1)), len(repeated.levels))
    found = []
    if "phi" in priors and np.isfinite(priors["phi"].origin):
        found.append(constant)
    if "nugget" in priors:
        _, point = np.unique(np.stack([cluster, time]), axis=1, return_inverse=True)
        if point.max() + 1 < n:  # rows at one time of one cluster are equal without a nugget
            found.append(Effects(point.ravel(), np.ones((n, 1)), int(point.max()) + 1))
    if "rho" in priors:
        low, high = priors["rho"].support
        if high >= repeated.serial_range[1]:
            found.append(constant)
        if low <= -1.0 and repeated.correlation.time is not None:
            sign = np.where(time % 2 == 0, 1.0, -1.0)
            found.append(Effects(cluster, sign[:, None], len(repeated.levels)))
    return found


def _sums_remain(spec) -> bool:
    """Whether the sums of the largest clusters keep a residual, where these sums may vanish."""
    repeated, prior = spec.model.repeated, spec.priors.residual.get("rho")
    if prior is None or repeated.correlation.time is not None:
        return True
    if prior.support[0] > repeated.serial_range[0]:
        return True
    d, size = spec.design, np.bincount(repeated.cluster)
    sums = (np.flatnonzero(size == size.max())[:, None] == repeated.cluster).astype(float)
    columns = np.hstack([sums @ d.X, *(sums @ e.columns().toarray() for e in spec.effects)])
    y = d.y - d.offset
    left = sums @ y - columns @ np.linalg.lstsq(columns, sums @ y)[0]
    return bool(np.linalg.norm(left) > TOLERANCE * np.linalg.norm(y))


def _in_every_direction(spec) -> bool:
    """Whether no combination of the times is fitted exactly in the complete clusters.

    Their residuals ``E``, clusters by times, have ``E v`` nonzero for every ``v`` if the columns
    of the responses by time are independent, beside those of X and Z by time.
    """
    repeated, d = spec.model.repeated, spec.design
    times, size = len(repeated.labels), np.bincount(repeated.cluster)
    complete = np.flatnonzero(size == times)
    rows = np.lexsort((repeated.time, repeated.cluster))
    rows = rows[np.isin(repeated.cluster[rows], complete)].reshape(-1, times)
    columns = np.hstack([d.X, *(e.columns().toarray() for e in spec.effects)])
    beside = columns[rows].reshape(len(rows), -1)
    beside = beside[:, np.any(beside != 0.0, axis=0)]
    target = (d.y - d.offset)[rows]
    return rank(np.hstack([beside, target])) == rank(beside) + times


def infinite_weight(spec) -> tuple[str, Prior, str] | None:
    """Give an improper prior of a residual parameter, and where it leaves no posterior.

    The last is empty where the likelihood may vanish fast enough at the end with infinite weight.
    """
    improper = {k: p for k, p in spec.priors.residual.items() if not p.proper}
    if not improper:
        return None
    name, prior = next(iter(improper.items()))
    where = ""
    if name == "phi" and prior.tail <= 1.0:
        where = "as phi grows, a half-life of zero, where residuals are independent"
    elif name == "phi" and prior.origin <= -1.0 and "nugget" in spec.priors.residual:
        where = "as phi falls to zero, where beside the nugget all rows of a cluster are correlated"
    elif name == "nugget" and prior.logpdf(1.0) == np.inf:
        where = "near a nugget of one, where residuals are independent"
    return f"residual_{name}", prior, where
