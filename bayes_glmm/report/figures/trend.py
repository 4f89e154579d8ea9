"""The fitted mean along a covariate with its band, and the observed means over it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from .canvas import FAINT, sheet, shorten
from .raw import HUES, MARKERS, stretch

LARGEST, SMALLEST = 42.0, 8.0  # area of the marks of most and fewest rows


@dataclass(frozen=True, eq=False)
class Curve:
    """One fitted curve with its limits, and the means of the data that belong to it.

    ``places``, ``means`` and ``weights`` are empty where no data are drawn.
    """

    label: str
    x: np.ndarray
    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    places: np.ndarray
    means: np.ndarray
    weights: np.ndarray


def trend_figure(curves: Sequence[Curve], xlabel: str, ylabel: str, log: bool = False) -> Figure:
    """Draw curves as lines with bands, and means as marks whose area goes by the rows behind.

    ``log`` draws counts as log(1 + y).
    """
    figure = sheet(3.1)
    axes = figure.subplots()
    most = max((c.weights.max() for c in curves if c.weights.size), default=1.0)
    for number, curve in enumerate(curves):
        color, marker = HUES[number % 5], MARKERS[number % 5]
        axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.18, lw=0)
        axes.plot(curve.x, curve.estimate, color=color, lw=1.8, label=curve.label)
        area = np.maximum(LARGEST * curve.weights / most, SMALLEST)
        axes.scatter(
            curve.places,
            curve.means,
            s=area,
            marker=marker,
            color=color,
            alpha=0.75,
            lw=0,
            zorder=3,
        )
    if log:
        stretch(axes)
    axes.set_xlabel(shorten(xlabel, 50))
    axes.set_ylabel(shorten(ylabel, 40))
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    if any(curve.label for curve in curves):
        figure.legend(loc="outside upper center", ncols=min(len(curves), 3))
    return figure
