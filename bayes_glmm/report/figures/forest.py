"""Forest plot: estimates and intervals of several methods, one small panel per parameter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite, nan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .canvas import FAINT, SOFT, MethodStyle, drawn, sheet, shorten, wrapped


@dataclass(frozen=True)
class Mark:
    """One method's answer: NaN limits where it has no interval."""

    label: str
    style: MethodStyle
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """One parameter: its name and a mark per method.

    ``zero``: the axis must show zero. ``floor``: it begins there.
    """

    title: str
    marks: Sequence[Mark]
    zero: bool = True
    floor: bool = False


@drawn
def forest(panels: Sequence[Panel], axis: str) -> Figure:
    """Draw the panels in two columns, each with its own scale; ``axis`` names the unit."""
    columns = 1 if len(panels) == 1 else 2
    panels = [p for k in range(0, len(panels), columns) for p in aligned(panels[k : k + columns])]
    rows = ceil(len(panels) / columns)
    lines = max(sum(wrapped(m.label).count("\n") * 0.5 + 1 for m in p.marks) for p in panels)
    figure = sheet(rows * (0.22 * lines + 0.52) + 0.3)
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False))
    for position, axes in enumerate(grid.flat):
        if position < len(panels):
            _panel(axes, panels[position], named=position % columns == 0)
        else:
            axes.set_axis_off()
    figure.supxlabel(axis, fontsize=9)
    return figure


def aligned(panels: Sequence[Panel]) -> list[Panel]:
    """Give panels that stand side by side the same methods; one without an answer has a gap."""
    methods = {m.label: m for p in panels for m in p.marks}

    def filled(panel: Panel) -> Panel:
        own = {m.label: m for m in panel.marks}
        absent = {k: Mark(k, m.style, nan, nan, nan) for k, m in methods.items() if k not in own}
        return replace(panel, marks=[(own | absent)[label] for label in methods])

    return [filled(panel) for panel in panels]


def _panel(axes: Axes, panel: Panel, named: bool) -> None:
    for row, mark in enumerate(panel.marks):
        if not isfinite(mark.estimate):
            continue
        style = mark.style
        axes.plot([mark.low, mark.high], [row, row], color=style.color, lw=1.6, zorder=2)
        axes.plot(
            mark.estimate,
            row,
            style.marker,
            color=style.color,
            mfc=style.face,
            ms=5,
            mew=1.2,
            zorder=3,
        )
    first = next(m for m in panel.marks if isfinite(m.estimate))
    if len(panel.marks) > 1:
        axes.axvline(first.estimate, color=first.style.color, lw=1, alpha=0.35, zorder=1)
    if panel.zero:
        axes.axvline(0, color=SOFT, lw=0.8, ls=(0, (3, 2)), zorder=1)
    low, high = _limits(panel)
    axes.set_xlim(low, high)
    axes.set_ylim(len(panel.marks) - 0.4, -0.6)
    axes.set_yticks(range(len(panel.marks)))
    axes.set_yticklabels([wrapped(m.label) for m in panel.marks] if named else [])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_title(shorten(panel.title, 22))
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=4)


def _limits(panel: Panel) -> tuple[float, float]:
    """Range of the panel: every estimate, and limits unless one method's dwarf the others'."""
    estimates = [m.estimate for m in panel.marks if isfinite(m.estimate)]
    widths = [m.high - m.low for m in panel.marks if isfinite(m.high - m.low)]
    reach = 4 * float(np.median(widths)) if widths else 1.0
    ends = [x for m in panel.marks for x in (m.low, m.high) if isfinite(x)]
    low = max(min([*ends, *estimates]), min(estimates) - reach)
    high = min(max([*ends, *estimates]), max(estimates) + reach)
    if panel.zero:
        low, high = min(low, 0.0), max(high, 0.0)
    pad = 0.05 * ((high - low) or 1.0)
    return (0.0 if panel.floor else low - pad), high + pad
