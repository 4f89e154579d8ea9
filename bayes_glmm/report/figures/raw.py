"""The data as they are: mean response along a covariate, by a factor, with group lines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from .canvas import FAINT, SOFT, drawn, sheet, shorten

HUES = ("#0072B2", "#D55E00", "#009E73", "#B5478B", "#E69F00")
MARKERS = "osD^v"


@dataclass(frozen=True)
class Line:
    """Mean responses of one part of the data along the covariate."""

    label: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class RawData:
    """What to draw: mean lines, thin lines or points behind them, names on the axes.

    ``ticks`` names the positions 0, 1, … of a factor on the horizontal axis.
    ``points`` are ``(x, y, number of the line)``. ``log`` draws counts as log(1 + y).
    """

    lines: Sequence[Line]
    xlabel: str
    ylabel: str
    threads: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    points: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    ticks: Sequence[str] = ()
    log: bool = False


@drawn
def raw(data: RawData) -> Figure:
    """Draw the data."""
    figure = sheet(3.1)
    axes = figure.subplots()
    for x, y in data.threads:
        axes.plot(x, y, "-", color=FAINT if len(data.threads) > 20 else "#b8c1cb", lw=0.9, zorder=1)
        axes.plot(x, y, ".", color=SOFT, ms=3, alpha=0.6, zorder=1)
    if data.points is not None:
        _points(axes, data.points, len(data.lines))
    for number, line in enumerate(data.lines):
        color, marker = HUES[number % 5], MARKERS[number % 5]
        axes.plot(line.x, line.y, marker, ls="-", color=color, ms=5, lw=2, label=line.label)
    if data.log:
        stretch(axes)
    if data.ticks:
        axes.set_xticks(range(len(data.ticks)), [shorten(t, 12) for t in data.ticks])
        axes.set_xlim(-0.4, len(data.ticks) - 0.6)
    axes.set_xlabel(shorten(data.xlabel, 50))
    axes.set_ylabel(shorten(data.ylabel, 40))
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    if any(line.label for line in data.lines):
        figure.legend(loc="outside upper center", ncols=min(len(data.lines), 3))
    return figure


def stretch(axes) -> None:
    """Draw counts as log(1 + y), which gives small ones room beside large ones."""
    axes.set_yscale("function", functions=(np.log1p, np.expm1))
    top = axes.get_ylim()[1]
    axes.set_yticks([t for t in (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if t <= top])
    axes.set_ylim(bottom=-0.1)


def _points(axes, points: tuple[np.ndarray, np.ndarray, np.ndarray], lines: int) -> None:
    x, y, number = points
    for k in range(lines):
        mine = number == k
        axes.plot(
            x[mine],
            y[mine],
            MARKERS[k % 5],
            color=HUES[k % 5],
            ms=3,
            alpha=0.35,
            mew=0,
            zorder=2,
            rasterized=True,
        )
