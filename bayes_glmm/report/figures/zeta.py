"""Profile plots: the signed root of the likelihood ratio against each parameter."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from matplotlib.figure import Figure

from .canvas import FAINT, SOFT, MethodStyle, drawn, sheet, shorten

Z = 1.959964  # at the ends of a 95 % interval


@dataclass(frozen=True)
class Curve:
    """One parameter's profile.

    ``value, zeta`` by increasing value; ``wald`` what a Wald interval takes for ``zeta``, NaN
    where there is none; ``low, high`` the ends of the profile interval.
    """

    title: str
    value: np.ndarray
    zeta: np.ndarray
    wald: np.ndarray
    estimate: float
    low: float
    high: float


@drawn
def zeta(curves: Sequence[Curve], style: MethodStyle) -> Figure:
    """Draw one panel per parameter, in two columns; Wald's is dashed."""
    columns = 1 if len(curves) == 1 else 2
    rows = ceil(len(curves) / columns)
    figure = sheet(1.45 * rows + 0.35)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for position, axes in enumerate(grid.flat):
        if position < len(curves):
            _panel(axes, curves[position], style)
        else:
            axes.set_axis_off()
    figure.supylabel("ζ of the profile", fontsize=9)
    return figure


def _panel(axes, curve: Curve, style: MethodStyle) -> None:
    axes.axhspan(-Z, Z, color=FAINT, alpha=0.45, lw=0)
    axes.axhline(0, color=SOFT, lw=0.6)
    axes.plot(curve.value, curve.wald, color=SOFT, lw=1.1, ls=(0, (4, 2)))
    axes.plot(curve.value, curve.zeta, color=style.color, lw=1.7)
    axes.plot(curve.estimate, 0, style.marker, color=style.color, mfc=style.face, ms=4.5)
    for limit, side in ((curve.low, -Z), (curve.high, Z)):
        if np.isfinite(limit):
            reached = float(np.interp(limit, curve.value, curve.zeta))
            foot = reached if abs(reached) < Z else side
            axes.plot([limit, limit], [-3.3, foot], color=style.color, lw=0.9, ls=":")
    axes.set_ylim(-3.3, 3.3)
    axes.set_yticks([-2, 0, 2])
    axes.set_title(shorten(curve.title, 30), fontsize=8.5)
    axes.locator_params(axis="x", nbins=5)
