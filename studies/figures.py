"""The figures of the studies, in the look of the package's reports."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bayes_glmm.report.figures.canvas import FAINT, INK, SOFT, drawn, sheet

COLORS = ("#0072B2", "#D55E00", "#009E73", "#B5478B", "#E69F00", "#595959")
LADDER = ("#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#08519c", "#08306b")  # light to dark
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # the reports' style has no formulas
LARGEST = 1e9  # of an odds ratio that is shown


def _logarithmic(axes: Axes, which: str) -> None:
    """Make an axis logarithmic, labelled in plain numbers at powers of ten."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(10, numticks=6))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())


@drawn
def likelihood(marginal) -> Figure:
    """Draw the relative likelihood of sigma on a logarithmic axis."""
    figure = sheet(2.6)
    axes = figure.subplots()
    inside = (marginal.sigma > 1e-4) & (marginal.sigma < 30)
    height = np.exp(marginal.log_likelihood - marginal.log_likelihood.max())
    axes.fill_between(marginal.sigma[inside], height[inside], color=COLORS[0], alpha=0.2, lw=0)
    axes.plot(marginal.sigma[inside], height[inside], color=COLORS[0], lw=1.8)
    _logarithmic(axes, "x")
    axes.set_ylim(0, 1.05)
    axes.set_xlim(1e-4, 30)
    axes.set_xlabel("SD between clusters (log odds)")
    axes.set_ylabel("relative likelihood")
    return figure


@drawn
def ranges(found: dict) -> Figure:
    """Draw medians and ranges of odds ratios, one row a prior."""
    figure = sheet(0.27 * len(found) + 0.8)
    axes = figure.subplots()
    for k, (low, median, high) in enumerate(found.values()):
        open_end = high > LARGEST
        axes.plot([low, min(high, LARGEST)], [k, k], color=COLORS[0], lw=2.2, alpha=0.45)
        axes.plot(min(median, LARGEST), k, "o", color=COLORS[0], ms=5)
        if open_end:
            axes.plot(LARGEST, k, ">", color=COLORS[0], ms=5, alpha=0.6)
    axes.axvline(1, color=FAINT, lw=0.8, zorder=0)
    _logarithmic(axes, "x")
    axes.set_xlim(0.7, 3 * LARGEST)
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("odds ratio of a high to a low cluster")
    return figure


@drawn
def densities(posteriors: dict, highest: float = 3.0) -> Figure:
    """Draw posterior densities of sigma."""
    figure = sheet(3.1)
    axes = figure.subplots()
    for (label, found), color in zip(posteriors.items(), COLORS, strict=False):
        inside = found.marginal.sigma < highest
        height = found.density[inside]
        axes.plot(found.marginal.sigma[inside], height, color=color, lw=1.6, label=label)
    axes.set_ylim(0, 2.0)
    axes.set_xlim(0, highest)
    axes.set_xlabel("SD between clusters (log odds)")
    axes.set_ylabel("posterior density")
    axes.legend()
    return figure


@drawn
def spread(posteriors: dict, title: str, lowest: float = 1e-7, highest: float = 10.0) -> Figure:
    """Draw posterior densities of log sigma."""
    figure = sheet(2.8)
    axes = figure.subplots()
    for (label, found), color in zip(posteriors.items(), LADDER, strict=False):
        inside = (found.marginal.sigma > lowest) & (found.marginal.sigma < highest)
        height = found.log_density[inside]
        axes.plot(found.marginal.sigma[inside], height, color=color, lw=1.7, label=label)
    _logarithmic(axes, "x")
    axes.set_xlim(lowest, highest)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("SD between clusters (log odds)")
    axes.set_ylabel("posterior density of log SD")
    axes.legend(title=title, title_fontsize=8.5)
    return figure


@drawn
def chains(runs: dict) -> Figure:
    """Draw traces of sigma, one panel a model."""
    figure = sheet(1.9 * len(runs) + 0.3)
    panels = np.atleast_1d(figure.subplots(len(runs), 1, sharex=True))
    for axes, (label, sigma) in zip(panels, runs.items(), strict=True):
        step = max(1, sigma.shape[1] // 1000)
        for chain, color in zip(sigma, COLORS, strict=False):
            at = np.arange(0, sigma.shape[1], step)
            axes.plot(at, chain[::step], color=color, lw=0.5, alpha=0.8)
        _logarithmic(axes, "y")
        axes.set_ylabel("SD", color=INK)
        axes.set_title(label)
        axes.axhline(1, color=SOFT, lw=0.5, ls=":")
    panels[-1].set_xlabel("iteration")
    return figure


@drawn
def envelopes(found: dict) -> Figure:
    """Draw distribution functions of ranks less uniform ones, inside their envelopes."""
    columns = 3
    rows = -(-len(found) // columns)
    figure = sheet(1.25 * rows + 0.5)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(found) :]:
        axes.set_visible(False)
    for axes, (name, e) in zip(grid.flat, found.items(), strict=False):
        axes.fill_between(e.at, e.low, e.high, color=FAINT, lw=0, step="mid")
        axes.step(e.at, e.above, where="mid", color=COLORS[int(e.outside > 0)], lw=1.2)
        axes.axhline(0, color=SOFT, lw=0.6)
        axes.set_title(name, fontsize=7.5)
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    figure.supxlabel("rank of the true value, as a share", fontsize=9)
    figure.supylabel("ECDF less uniform", fontsize=9)
    return figure
