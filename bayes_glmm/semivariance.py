r"""The empirical variogram of a gaussian model's residuals, and the one that the fit implies.

.. math:: \gamma(u) = \tfrac12 E\,(r_{ij} - r_{ik})^2, \qquad |t_{ij} - t_{ik}| = u,

with ``r = y - X beta`` the residuals from the mean. Uncorrelated rows of a subject give a flat
variogram, a correlation that decays with the distance one that rises; its value near zero is the
variance of measurement error, and what it stays below the total variance is the variance between
subjects (Diggle, Heagerty, Liang & Zeger 2002, *Analysis of Longitudinal Data*, section 3.4).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .choices import choose
from .fit import Fit, Variance, check_fit
from .methods import NotServedError
from .population.rows import covariances

FEW_LAGS = 60  # distinct lags up to which each is a row of its own
BINS = 20  # of about equally many pairs where there are more


@dataclass(frozen=True, eq=False)
class Variogram:
    """Semivariances of residuals by the distance in time.

    Attributes
    ----------
    table
        Rows by ascending lag: ``lag`` (mean of the pairs', unit of the times), ``pairs``
        (their number), ``semivariance`` (mean of ``(r_j - r_k)^2 / 2``, squared unit of the
        response) and ``fitted``, its expectation at the fit's variance parameters; NaN where
        the method has none.
    total
        Variance of the residuals by pairs of rows of different subjects.
    total_fitted
        Mean variance of a row that the fit implies; NaN where the method has none.
    time, by
        Columns of the times and of the subjects.
    label
        The fit's.
    """

    table: pd.DataFrame
    total: float
    total_fitted: float
    time: str
    by: str
    label: str


def variogram(
    fit: Fit, time: str | None = None, by: str | None = None, bins: int | None = None
) -> Variogram:
    """Compute the variogram of ``y - X beta`` within subjects.

    Parameters
    ----------
    fit
        Of a gaussian model with identity link, by any method.
    time, by
        Columns of the times and the subjects; None are those of the residual correlation, or
        for the subjects the only grouping factor.
    bins
        Classes of lags with about equally many pairs; None takes each distinct lag alone where
        they are at most 60, and 20 classes otherwise.

    Raises
    ------
    NotServedError
        For other families and links, whose residuals have no constant variance.
    ValueError
        For absent columns, or subjects of one row each.
    """
    check_fit(fit, "variogram")
    model = fit.model
    if not model.is_linear:
        raise NotServedError(
            f"variogram() got family={model.family.name!r} with link={model.link.name!r}, whose "
            "rows differ in variance: it serves gaussian models with identity link."
        )
    if bins is not None and (isinstance(bins, bool) or bins < 1):
        raise ValueError(f"variogram(bins={bins!r}) must be a whole number of at least 1.")
    time, by = _columns(model, time, by)
    design = model.design.in_user_order()
    when = _times(design.frame, time)
    subject = _subjects(design.frame, by)
    residual = design.y - design.offset - design.X @ fit.beta
    pairs = list(_pairs(subject, when))
    if not pairs:
        raise ValueError(
            f"variogram(by={by!r}) got one row in each subject: give the column of the subjects "
            "that were measured repeatedly."
        )
    j, k = (np.concatenate(side) for side in zip(*pairs, strict=True))
    lag = np.abs(when[j] - when[k])
    half = 0.5 * (residual[j] - residual[k]) ** 2
    implied, total_fitted = np.full(len(j), np.nan), np.nan
    if fit.variance is not None and fit.estimand == "conditional":
        implied, total_fitted = _implied(fit.model, fit.variance, design, j, k)
    number = np.unique(_classes(lag, bins), return_inverse=True)[1]
    count = np.bincount(number)
    lag, semivariance, fitted = (np.bincount(number, a) / count for a in (lag, half, implied))
    table = pd.DataFrame(
        {"lag": lag, "pairs": count, "semivariance": semivariance, "fitted": fitted}
    )
    return Variogram(table, _between(residual, half, j), total_fitted, time, by, fit.label)


def _columns(model, time: str | None, by: str | None) -> tuple[str, str]:
    """Take what is not given from the residual correlation or the only factor."""
    residual = model.residual
    time = time or (residual.time if residual is not None else None)
    by = by or (residual.by if residual is not None else None)
    groups = [g.group for g in model.design.groups]
    if by is None and len(groups) == 1:
        by = groups[0]
    if time is None or by is None:
        raise ValueError(
            f"variogram(time={time!r}, by={by!r}) needs the columns of the times and the subjects: "
            "give both."
        )
    for column in (time, *by.split(":")):
        if column not in model.design.frame:
            raise ValueError(
                f"variogram() got the column {column!r}, which the model has not used: "
                f"{choose(column, map(str, model.design.frame))}"
            )
    return time, by


def _times(frame: pd.DataFrame, time: str) -> np.ndarray:
    try:
        return frame[time].to_numpy(float)
    except (TypeError, ValueError):
        raise ValueError(
            f"variogram(time={time!r}) names a column that holds no numbers: give one that does."
        ) from None


def _subjects(frame: pd.DataFrame, by: str) -> np.ndarray:
    """Give each row the number of its subject, ``(n,)``."""
    columns = [frame[c].astype(str) for c in by.split(":")]
    return pd.MultiIndex.from_arrays(columns).factorize()[0]


def _pairs(subject: np.ndarray, when: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of all pairs within subjects, the earlier first, subjects of one size together."""
    order = np.lexsort((when, subject))
    size = np.bincount(subject)
    start = np.cumsum(size) - size
    for m in np.unique(size[size > 1]):
        rows = order[start[size == m][:, None] + np.arange(m)]
        first, second = np.triu_indices(m, 1)
        yield rows[:, first].ravel(), rows[:, second].ravel()


def _classes(lag: np.ndarray, bins: int | None) -> np.ndarray:
    """Give each pair the number of its class."""
    distinct, number = np.unique(lag, return_inverse=True)
    if bins is None and len(distinct) <= FEW_LAGS:
        return number
    cuts = np.quantile(lag, np.linspace(0, 1, (bins or BINS) + 1)[1:-1])
    return np.searchsorted(cuts, lag, side="left")


def _between(residual: np.ndarray, half: np.ndarray, j: np.ndarray) -> float:
    """Mean of ``(r - r')^2 / 2`` over pairs of rows of different subjects, without listing them."""
    n = len(residual)
    every = 0.5 * (n * float(residual @ residual) - float(residual.sum()) ** 2)
    return (every - float(half.sum())) / (0.5 * n * (n - 1) - len(j))


# --- what the fit implies --------------------------------------------------------------------


def _implied(
    model, estimated: Variance, design, j: np.ndarray, k: np.ndarray
) -> tuple[np.ndarray, float]:
    """Give ``Var(y_j - y_k) / 2`` of each pair and the mean variance of a row at the estimates."""
    kinds = np.array([c.kind for c in estimated.components])
    residual = float(estimated.estimate[kinds == "dispersion"][0]) ** 2
    found, variance = residual * (1.0 - _correlations(model, estimated, j, k)), residual
    effects = estimated.estimate[np.isin(kinds, ["sd", "corr"])]
    for block, (D,) in zip(design.groups, covariances(design.groups, effects[None]), strict=True):
        own = np.einsum("ia,ab,ib->i", block.Z, D, block.Z)
        shared = np.einsum("ia,ab,ib->i", block.Z[j], D, block.Z[k])
        same = block.index[j] == block.index[k]
        found += 0.5 * (own[j] + own[k]) - np.where(same, shared, 0.0)
        variance = variance + own.mean()
    return found, float(variance)


def _correlations(model, estimated: Variance, j: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Residual correlation of each pair of rows."""
    repeated = model.repeated
    if repeated is None:
        return np.zeros(len(j))
    cluster, time = (model.design.to_user(a) for a in (repeated.cluster, repeated.time))
    times, number = np.unique(np.sort([time[j], time[k]], axis=0), axis=1, return_inverse=True)
    kind = repeated.correlation
    each = [kind.correlation(estimated.residual, kind.geometry(pair))[0, 1] for pair in times.T]
    return np.where(cluster[j] == cluster[k], np.array(each)[number], 0.0)
