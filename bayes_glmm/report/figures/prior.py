"""What priors say before the data: densities of SDs, and means of responses drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ...priors.implied import APART
from ..numbers import fixed, percent, power_of_ten
from .canvas import FAINT, INK, SOFT, drawn, sheet, shorten

COLOR = "#7A5195"  # the prior's own: no method has it
BINS = 40


@dataclass(frozen=True)
class Density:
    """Density of one SD on a grid, its 5, 50 and 95 % quantiles, and the share beyond the grid.

    ``ratio`` names what is drawn above: ``exp`` of the distance of a high to a low level, or the
    prior; empty where there is nothing.
    """

    label: str
    grid: np.ndarray
    height: np.ndarray
    quantiles: tuple[float, float, float]
    beyond: float
    ratio: str = ""
    span: tuple[float, float] | None = None  # ends of the axis; those of the grid where None


def deviations_figure(densities: Sequence[Density], axis: str) -> Figure:
    """Draw one panel per SD: median and central 90 %; ratios on the axis above."""
    figure = sheet(0.3 + sum(2.2 if d.ratio else 1.6 for d in densities))
    panels = figure.subplots(len(densities), 1, squeeze=False)[:, 0]
    for axes, density in zip(panels, densities, strict=True):
        _deviation(axes, density)
        axes.set_xlabel(f"{density.label}, {axis}")
    return figure


deviations = drawn(deviations_figure)


def implied_figure(rows: Sequence[tuple[Density, Density | None]], axis: str) -> Figure:
    """Draw one row per SD; beside it the intraclass correlation, where there is one."""
    beside = any(share is not None for _, share in rows)
    figure = sheet(0.3 + sum(2.2 if d.ratio else 1.8 for d, _ in rows), 7.4 if beside else 4.6)
    grid = figure.subplots(len(rows), 1 + beside, squeeze=False)
    for axes, (density, share) in zip(grid, rows, strict=True):
        _deviation(axes[0], density)
        axes[0].set_xlabel(f"{density.label}, {axis}")
        if share is not None:
            _deviation(axes[1], share)
            axes[1].set_xlim(0, 1)
            axes[1].set_xlabel(share.label)
            axes[1].set_ylabel("")
        elif beside:
            axes[1].set_axis_off()
    return figure


def priors_figure(densities: Sequence[Density]) -> Figure:
    """Draw one panel per prior, two a row; ``ratio`` is the prior in words."""
    rows = -(-len(densities) // 2)
    figure = sheet(0.2 + 1.75 * rows, 7.4)
    figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.06)
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, density in zip(panels, densities, strict=False):
        axes.set_title(shorten(density.label, 34))
        axes.set_xlabel(shorten(density.ratio, 58), fontsize=7.5, color=SOFT)
        if density.height.any():
            _curve(axes, density)
            axes.set_xlim(*(density.span or (density.grid[0], density.grid[-1])))
        else:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "improper: no distribution", ha="center", transform=axes.transAxes)
    for axes in panels[len(densities) :]:
        axes.set_axis_off()
    return figure


def _deviation(axes, d: Density) -> None:
    _curve(axes, d)
    axes.set_xlim(0, d.grid[-1])
    axes.set_ylabel("prior density")
    if d.beyond >= 0.005:
        _beyond(axes, d.beyond)
    if d.ratio:
        _ratios(axes, d)


def _curve(axes, d: Density) -> None:
    """Density, median and the central 90 %."""
    low, middle, high = d.quantiles
    inside = (d.grid >= low) & (d.grid <= high)
    axes.fill_between(d.grid, d.height, where=inside, color=COLOR, alpha=0.25, lw=0)
    axes.plot(d.grid, d.height, color=COLOR, lw=1.6)
    top = d.height.max()
    if middle <= d.grid[-1]:
        at = np.interp(middle, d.grid, d.height)
        axes.vlines(middle, 0, at, color=COLOR, lw=1.2)
        top = min(top, 8 * at)  # a density may be infinite at zero: the axis is that of the rest
    axes.set_ylim(0, 1.1 * top)
    axes.set_yticks([])


def _beyond(axes, share: float, side: str = "right") -> None:
    """Say what share lies outside the axis, at its end."""
    right = side == "right"
    text = f"{percent(share)} →" if right else f"← {percent(share)}"
    place = 0.99 if right else 0.01
    axes.text(place, 0.9, text, ha=side, va="top", fontsize=8, color=INK, transform=axes.transAxes)


def _ratios(axes, d: Density) -> None:
    """Mark powers of ten of the ratio of a high to a low level above the panel."""
    most = int(APART * d.grid[-1] / np.log(10))
    step = max(1, -(-most // 5))
    powers = 10.0 ** np.arange(0, most + 1, step) if most else np.array([1.0, 2.0, 5.0])
    above = axes.secondary_xaxis("top")
    above.set_xticks(
        np.log(powers) / APART,
        [f"{p:g}" if p <= 1000 else power_of_ten(p) for p in powers],
    )
    above.set_xlabel(f"{d.ratio}, high to low level")
    above.spines["top"].set_visible(True)


@dataclass(frozen=True)
class Means:
    """Means drawn from the prior, and those observed, of all rows or of the levels of a factor.

    ``edges`` are the bins; draws outside them are counted and named at the end of the axis.
    """

    label: str
    drawn: np.ndarray
    observed: np.ndarray
    edges: np.ndarray


def means_figure(panels: Sequence[Means], axis: str, scale: str) -> Figure:
    """Histograms of means under the prior, observed ones marked; ``scale`` linear, log, log1p."""
    figure = sheet(0.75 + 1.35 * len(panels))
    rows = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        _means(axes, panel)
    _scale(rows[-1], panels[0].edges, scale)
    rows[-1].set_xlabel(axis)
    figure.legend(*rows[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


means = drawn(means_figure)


def _means(axes, panel: Means) -> None:
    counts = np.histogram(panel.drawn, panel.edges)[0] / panel.drawn.size
    axes.stairs(counts, panel.edges, fill=True, color=COLOR, alpha=0.45, label="under the prior")
    many = panel.observed.size > 1
    axes.plot(
        panel.observed,
        np.full(panel.observed.size, 0.06),
        "|",
        ms=11,
        mew=0.8 if many else 2.2,
        color=INK,
        alpha=0.7 if many else 1.0,
        transform=axes.get_xaxis_transform(),
        label="observed",
    )
    axes.set_ylim(0, 1.25 * max(counts.max(), 1e-9))
    axes.set_yticks([])
    axes.set_title(panel.label)
    for side, outside in (
        ("left", panel.drawn < panel.edges[0]),
        ("right", panel.drawn > panel.edges[-1]),
    ):
        if np.mean(outside) >= 0.005:
            _beyond(axes, float(np.mean(outside)), side)
    axes.grid(axis="x", color=FAINT, lw=0.6)
    axes.spines["left"].set_color(SOFT)


def _scale(axes, edges: np.ndarray, scale: str) -> None:
    """Set the scale of the shared axis, with few ticks."""
    if scale == "log1p":
        axes.set_xscale("function", functions=(np.log1p, np.expm1))
        top = int(np.log10(max(edges[-1], 1)))
        step = max(1, -(-top // 5))
        ticks = [0.0, *(10.0 ** np.arange(0, top + 1, step))]
        axes.set_xticks(ticks, [fixed(t, 0) if t <= 1000 else power_of_ten(t) for t in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    elif scale == "log":
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
