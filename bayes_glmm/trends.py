r"""The fitted mean along one numeric column, with a band: what a trend or a spline looks like.

Rows are made in which one column runs through its range, a second takes each of its levels, and
all others stay where they are typical. Their mean responses come from ``fit.predict`` (a typical
group, ``b = 0``) or ``fit.population_averaged`` (the mean over groups, :math:`E\,g^{-1}(x'\beta +
z'b)`), which agree under the identity link. Bands are pointwise: of draws equal-tailed, of other
fits ``x'\beta \pm t\,(x'Vx)^{1/2}`` on the link scale, carried to the response.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .choices import choose
from .fit import Fit, check_fit

KINDS = ("averaged", "zero")
FEW = 5  # values of ``by`` that make a curve each; more are taken at their quartiles


def trend(
    fit: Fit,
    column: str,
    by: str | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    effects: str = "averaged",
    points: int = 60,
    level: float = 0.95,
) -> pd.DataFrame:
    """Give the mean response along a column of the predictor, with pointwise limits.

    Parameters
    ----------
    fit
        Any fit that has every coefficient.
    column
        Numeric, or a factor whose levels are numbers; it runs from its least to its largest value,
        within the rows of each level of ``by`` where that is a factor.
    by
        One curve for each of its levels; of a numeric column for each of its values where they
        are five at most, else for its quartiles.
    at
        Values of other columns instead of the typical ones (the mean of a number, the first
        level of a factor), and a list of the values of ``by`` that are wanted.
    effects
        "averaged" is the mean over the population, random effects integrated out; "zero" that of
        a typical group. Coefficients that are population-averaged already (GEE) give the same.
    points
        On each curve.
    level
        Coverage of the band at each point, not of the whole curve.

    Returns
    -------
    DataFrame
        ``column``, ``by``, the other columns of the predictor, and ``estimate, std_error,
        conf_low, conf_high`` on the scale of the response (per trial).

    Raises
    ------
    ValueError
        If a column or an option is unknown, or levels of ``column`` are not numbers.
    NotServedError
        If the method does not estimate every coefficient, or ``effects="averaged"`` does not
        exist under its link.
    """
    check_fit(fit, "trend")
    if effects not in KINDS:
        raise ValueError(f"trend(effects={effects!r}) is not known: use 'averaged' or 'zero'.")
    if points < 2:
        raise ValueError(f"trend(points={points!r}) must be at least 2.")
    rows = trend_rows(fit, column, by, at or {}, points)
    if effects == "zero":
        found = fit.predict(rows, effects="zero", level=level)
    else:
        found = fit.population_averaged(level=level).means(rows)
    return pd.concat([rows, found], axis=1)


def trend_rows(
    fit: Fit, column: str, by: str | None, at: Mapping[str, Any], points: int
) -> pd.DataFrame:
    """Make the rows of ``trend``: curve by curve, ``column`` ascending."""
    frame = fit.model.design.frame
    names = fit.model.design.formula.variables
    for asked in (column, *([by] if by is not None else []), *at):
        if asked not in names:
            raise ValueError(
                f"trend() got {asked!r}, not a column of the predictor: {choose(str(asked), names)}"
            )
    if by == column or column in at:
        raise ValueError(f"trend() takes {column!r} along the curve: give another column.")
    others = {n: at.get(n, typical(fit, n)) for n in names if n not in (column, by)}
    curves = []
    for value in [None] if by is None else values_of(fit, by, at.get(by)):
        mine = (frame[by] == value).to_numpy() if value is not None else np.zeros(0, bool)
        part = frame.loc[mine, column] if mine.any() and _is_factor(fit, by) else frame[column]
        curve = {column: along(fit, column, part, points)}
        curves.append(pd.DataFrame(curve | ({} if by is None else {by: value}) | others))
    return pd.concat(curves, ignore_index=True)


def typical(fit: Fit, name: str) -> Any:
    """Mean of a number, first level of a factor."""
    if _is_factor(fit, name):
        return fit.model.design.recipe.levels[name][0]
    return float(fit.model.design.frame[name].astype(float).mean())


def values_of(fit: Fit, by: str, wanted: Any = None) -> list:
    """Values of ``by`` that have a curve each."""
    if wanted is not None:
        many = isinstance(wanted, Iterable) and not isinstance(wanted, str)
        return list(wanted) if many else [wanted]
    if _is_factor(fit, by):
        return list(fit.model.design.recipe.levels[by])
    numbers = fit.model.design.frame[by].astype(float)
    distinct = np.unique(numbers)
    return list(distinct if len(distinct) <= FEW else np.quantile(numbers, [0.25, 0.5, 0.75]))


def along(fit: Fit, column: str, part: pd.Series, points: int) -> np.ndarray:
    """Values of ``column`` on a curve: its levels where it is a factor, else an even grid."""
    if not _is_factor(fit, column):
        numbers = part.astype(float)
        return np.linspace(numbers.min(), numbers.max(), points)
    levels = fit.model.design.recipe.levels[column]
    if not pd.api.types.is_numeric_dtype(levels):
        raise ValueError(
            f"trend() got {column!r}, a factor with levels such as {levels[0]!r}, which have no "
            "places on an axis: take it as by=, or compare its levels with "
            "fit.population_averaged().compare()."
        )
    return levels[levels.isin(part.unique())].to_numpy()


def _is_factor(fit: Fit, name: str | None) -> bool:
    return name in fit.model.design.recipe.levels
