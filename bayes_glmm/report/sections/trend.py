"""The fitted trend: mean response along a numeric column with its band, over the data."""

import numpy as np
import pandas as pd

from ...fit import Fit
from ..document import Block, Code, Paragraph, Picture
from ..figures.canvas import drawn
from ..figures.trend import Curve, trend_figure
from ..material import Material, attempt
from ..numbers import fixed, listing
from ..trend_plots import axis_label, curves_of, stretched

FEWEST, MOST = 4, 5  # values that make a trend; curves in one figure


def trend(material: Material) -> list[Block]:
    """Draw the reference's fitted means along the numeric column of most values."""
    column, by = choose_columns(material.model)
    if material.reference is None or column is None:
        return []
    label, fit = material.reference
    return attempt("fitted trend", lambda: _drawn(material, label, fit, column, by))


def choose_columns(model) -> tuple[str | None, str | None]:
    """Pick the column along the axis, and the first factor of few levels for the curves."""
    design = model.design
    levels = design.recipe.levels
    values = {
        name: len(np.unique(design.frame[name].astype(float)))
        for name in design.formula.variables
        if name not in levels or pd.api.types.is_numeric_dtype(levels[name])
    }
    found = [name for name in values if values[name] >= FEWEST]
    if not found:
        return None, None
    column = max(found, key=lambda name: values[name])
    split = (n for n in levels if n != column and len(levels[n]) <= MOST)
    return column, next(split, None)


def _drawn(material: Material, label: str, fit: Fit, column: str, by: str | None) -> list[Block]:
    model = fit.model
    averaged = not np.isfinite(model.link.lowest)  # else no mean over normal effects
    effects = "averaged" if averaged else "zero"
    curves = curves_of(fit, column, by, None, effects, 0.95, data=True)
    image = drawn(trend_figure)(curves, column, axis_label(model), stretched(model))
    whose = "averaged over the group effects" if averaged else "of a typical group"
    split = f", by {by}" if by else ""
    others = [n for n in model.design.formula.variables if n not in (column, by)]
    kept = f" Other columns ({listing(others)}) are at their mean or first level." if others else ""
    caption = (
        f"Mean response along {column}{split}, {whose}, with 95 % limits at each point (not of the "
        f"whole curve), and the means of the data, whose area goes by the rows behind them.{kept}"
    )
    alt = f"{axis_label(model)} along {column}{split}: {'; '.join(_spoken(c) for c in curves)}."
    words = Paragraph((material.key(label), " as it runs along ", Code(column), ":"))
    return [words, Picture("trend", image, alt, caption)]


def _spoken(curve: Curve) -> str:
    ends = f"from {fixed(curve.estimate[0], 2)} to {fixed(curve.estimate[-1], 2)}"
    return f"{curve.label or 'mean'} {ends}"
