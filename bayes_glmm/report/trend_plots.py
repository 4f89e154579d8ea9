"""Fitted trends, as figures for a notebook and for the report.

>>> plot_trend(fit, "time", by="diet").savefig("trend.png")
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..fit import Fit, check_fit
from ..trends import trend, values_of
from .bins import binned, means_at
from .figures import trend as figures
from .figures.canvas import styled

PLACES, BINS = 24, 12  # values of the column that have a mean each; more are put into bins
NONE = np.zeros(0)


def plot_trend(
    fit: Fit,
    column: str,
    by: str | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    effects: str = "averaged",
    level: float = 0.95,
    data: bool = True,
) -> Figure:
    """Draw the mean response along a column with its band, and the data's means over it.

    Parameters
    ----------
    fit, column, by, at, effects, level
        As in ``trend``.
    data
        Whether to draw the means of the response at the values of ``column`` (or in bins of
        about equal size); the area of a mark goes by the rows behind it. They are of the
        data as they are, whatever the other columns, except that an offset is put where the curve
        has it. Left out where ``by`` is numeric with many values, and beside the mean of a typical
        group where that is not the mean over groups: data average over groups.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError, NotServedError
        As ``trend``.
    """
    check_fit(fit, "plot_trend")
    found = curves_of(fit, column, by, at, effects, level, data)
    label = axis_label(fit.model) + ", typical group" * _apart(fit, effects)
    return styled(figures.trend_figure)(found, column, label, stretched(fit.model))


def curves_of(
    fit: Fit, column: str, by: str | None, at, effects: str, level: float, data: bool
) -> list[figures.Curve]:
    """Fitted curves with what is drawn beside each."""
    table = trend(fit, column, by, at=at, effects=effects, level=level)
    curves = []
    for value in [None] if by is None else values_of(fit, by, (at or {}).get(by)):
        mine: pd.DataFrame = table if value is None else table.loc[table[by] == value]
        label = "" if value is None else f"{by} {value:.4g}" if _number(value) else f"{by} {value}"
        seen = (NONE,) * 3
        if data and not _apart(fit, effects):
            seen = observed(fit, column, by, value, offset_of(fit, mine))
        columns = ("estimate", "conf_low", "conf_high")
        numbers = (mine[name].to_numpy(float) for name in (column, *columns))
        curves.append(figures.Curve(label, *numbers, *seen))
    return curves


def _number(value) -> bool:
    return isinstance(value, float | np.floating)


def _apart(fit: Fit, effects: str) -> bool:
    """Tell whether the curve is of a typical group, and not also the mean over groups."""
    mixed = fit.estimand == "conditional" and bool(fit.model.design.groups)
    return effects == "zero" and mixed and fit.model.link.name != "identity"


def stretched(model) -> bool:
    """Tell whether small counts need room beside large ones."""
    return model.family.name in ("poisson", "negative_binomial") and model.design.y.max() > 20


def offset_of(fit: Fit, rows: pd.DataFrame) -> float:
    """Offset of the rows of a curve, the mean where it varies along it."""
    return float(np.mean(fit.model.design.new_fixed(rows)[1]))


def observed(
    fit: Fit, column: str, by: str | None, value, offset: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, mean response and weights of the rows of one curve, at the curve's offset."""
    design = fit.model.design.in_user_order()
    mine = np.ones(design.n, bool) if by is None else (design.frame[by] == value).to_numpy()
    y, trials, moved = design.y[mine], design.trials[mine], design.offset[mine] - offset
    if not mine.any():
        return NONE, NONE, NONE
    if np.any(moved):
        link = fit.model.link.name
        if link not in ("log", "identity"):
            return NONE, NONE, NONE
        y, trials = (y - moved, trials) if link == "identity" else (y, trials * np.exp(moved))
    x = design.frame[column].to_numpy(float)[mine]
    center, _ = binned(x, PLACES if len(np.unique(x)) <= PLACES else BINS)
    places, means, _ = means_at(center, y, trials)
    return places, means, means_at(center, np.ones(len(y)), np.ones(len(y)))[2]


def axis_label(model) -> str:
    """Name the mean response."""
    design = model.design
    if model.family.has_trials:
        return "share of successes"
    if model.family.name == "bernoulli":
        levels = design.response_levels
        return f"share with {design.response_name} = {levels[1] if levels else 1}"
    return f"mean of {design.response_name}"
