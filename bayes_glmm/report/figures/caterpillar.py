"""Caterpillar plots: group effects in order, with intervals, by one or two methods."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from .canvas import FAINT, SOFT, MethodStyle, drawn, sheet, shorten

NAMED = 40  # with more levels their names are left out


@dataclass(frozen=True)
class Effects:
    """One method's effects of one column, each array of shape (levels,), in one order."""

    label: str
    style: MethodStyle
    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


@drawn
def caterpillar(levels: Sequence[str], effects: Sequence[Effects], axis: str) -> Figure:
    """Draw the effects, sorted by the first method's estimate; named rows if they are few."""
    order = np.argsort(effects[0].estimate, kind="stable")
    if len(levels) <= NAMED:
        return _rows([str(levels[i]) for i in order], effects, order, axis)
    return _bands(effects, order, axis)


def _rows(names: Sequence[str], effects: Sequence[Effects], order: np.ndarray, axis: str) -> Figure:
    step = 0.15 * len(effects) + 0.06
    figure = sheet(step * len(names) + 0.75)
    axes = figure.subplots()
    rows = np.arange(len(names))
    for position, one in enumerate(effects):
        shift = 0.3 * ((len(effects) - 1) / 2 - position)
        axes.hlines(rows + shift, one.low[order], one.high[order], color=one.style.color, lw=1.4)
        axes.plot(
            one.estimate[order],
            rows + shift,
            one.style.marker,
            color=one.style.color,
            mfc=one.style.face,
            ms=4,
            ls="none",
            label=one.label,
        )
    axes.axvline(0, color=SOFT, lw=0.8, ls=(0, (3, 2)), zorder=1)
    axes.set_yticks(rows, [shorten(name) for name in names])
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(axis)
    figure.legend(loc="outside upper center", ncols=len(effects))
    return figure


def _bands(effects: Sequence[Effects], order: np.ndarray, axis: str) -> Figure:
    """One panel per method, levels along the horizontal axis; intervals off zero are dark."""
    figure = sheet(1.75 * len(effects) + 0.4)
    panels = figure.subplots(len(effects), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    ranks = np.arange(1, len(order) + 1)
    for axes, one in zip(panels, effects, strict=True):
        low, high = one.low[order], one.high[order]
        off = (low > 0) | (high < 0)
        width = min(2.0, 240 / len(order))
        for chosen, alpha in ((~off, 0.3), (off, 0.85)):
            axes.vlines(
                ranks[chosen],
                low[chosen],
                high[chosen],
                color=one.style.color,
                lw=width,
                alpha=alpha,
                rasterized=True,
            )
        axes.plot(ranks, one.estimate[order], ".", color="black", ms=2, rasterized=True)
        axes.axhline(0, color=SOFT, lw=0.8, ls=(0, (3, 2)))
        axes.set_title(one.label)
        axes.set_xlim(0, len(order) + 1)
    panels[-1].set_xlabel(f"levels, sorted by {effects[0].label}")
    figure.supylabel(axis, fontsize=9)
    return figure
