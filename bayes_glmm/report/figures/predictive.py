"""Posterior predictive checks: one figure for each kind of response."""

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from .canvas import FAINT, INK, SOFT, drawn, sheet

BINS = 30  # bars of a rootogram at most


@drawn
def rootogram(observed: np.ndarray, replicated: np.ndarray, color: str, axis: str) -> Figure:
    """Frequencies of counts: bars observed, line and band predicted; square-root scale.

    ``observed`` (n,), ``replicated`` (draws, n). The square root makes deviations of rare
    and common counts comparable (Kleiber & Zeileis 2016).
    """
    edges = count_edges(observed, replicated)
    bars = np.histogram(observed, edges)[0]
    frequency = np.array([np.histogram(row, edges)[0] for row in replicated])
    low, middle, high = np.quantile(frequency, [0.025, 0.5, 0.975], axis=0)
    figure = sheet(2.9)
    axes = figure.subplots()
    x = np.arange(len(bars))
    axes.bar(x, bars, color=FAINT, edgecolor=SOFT, width=0.9, label="observed")
    axes.fill_between(x, low, high, color=color, alpha=0.25, lw=0, label="95 % of replicates")
    axes.plot(x, middle, "o-", color=color, ms=3, lw=1.4, label="median of replicates")
    axes.set_yscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
    axes.set_ylim(0, 1.1 * max(bars.max(), high.max()))
    names = bin_names(edges)
    step = max(1, len(names) // 8)
    axes.set_xticks(x[::step], names[::step])
    width = int(edges[2] - edges[1])
    bins = f" (bins of {width}, named by their lowest count; zero apart)" if width > 1 else ""
    axes.set_xlabel(f"{axis}{bins}")
    axes.set_ylabel("rows (square-root scale)")
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1.2)
    return figure


def count_edges(observed: np.ndarray, replicated: np.ndarray) -> np.ndarray:
    """Edges of bins of counts: zero, then equal steps from one; the last bin is open.

    Steps are of one count where that gives at most ``BINS`` bins.
    """
    top = int(max(observed.max(), np.quantile(replicated, 0.999), 2))
    step = -(-top // BINS)
    return np.array([-0.5, *(np.arange(1, top + 1, step) - 0.5), np.inf])


def bin_names(edges: np.ndarray) -> list[str]:
    """Name bins by their lowest count; the last, open one as ``90+``."""
    lowest = (edges[:-1] + 0.5).astype(int)
    return [*map(str, lowest[:-1]), f"{lowest[-1]}+"]


@drawn
def calibration(
    observed: np.ndarray, mean: np.ndarray, rng: np.random.Generator, color: str
) -> Figure:
    """Calibration of probabilities: isotonic regression of 0/1 on the predicted probability.

    The band holds 95 % of the curves that responses drawn from the predictions give
    (Dimitriadis, Gneiting & Jordan 2021).
    """
    order = np.argsort(mean, kind="stable")
    p = mean[order]
    grid = np.linspace(p[0], p[-1], 120)
    simulated = (rng.random((300, len(p))) < p).astype(float)
    curves = np.array([np.interp(grid, p, isotonic_regression(y).x) for y in simulated])
    low, high = np.quantile(curves, [0.025, 0.975], axis=0)
    figure = sheet(3.7)
    axes, rug = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    axes.fill_between(grid, low, high, color=SOFT, alpha=0.25, lw=0, label="if calibrated, 95 %")
    axes.plot([0, 1], [0, 1], color=SOFT, lw=0.9, ls=(0, (3, 2)))
    axes.plot(p, isotonic_regression(observed[order]).x, color=color, lw=1.8, label="observed")
    axes.set_ylabel("observed frequency")
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    rug.hist(
        [p[observed[order] == 0], p[observed[order] == 1]],
        40,
        range=(0, 1),
        stacked=True,
        color=[FAINT, color],
    )
    rug.set_ylabel("rows")
    rug.set_xlabel("predicted probability")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@drawn
def intervals(observed: np.ndarray, replicated: np.ndarray, color: str, axis: str) -> Figure:
    """Each row's 95 % predictive interval, sorted by its median, with the observation."""
    low, middle, high = np.quantile(replicated, [0.025, 0.5, 0.975], axis=0)
    order = np.lexsort((replicated.mean(0), middle))
    x = np.arange(1, len(order) + 1)
    outside = ((observed < low) | (observed > high))[order]
    figure = sheet(3.1)
    axes = figure.subplots()
    axes.vlines(x, low[order], high[order], color=color, alpha=0.45, lw=min(4, 240 / len(x)))
    seen = observed[order]
    axes.plot(x[~outside], seen[~outside], "o", color=INK, ms=3, label="observed, inside")
    axes.plot(x[outside], seen[outside], "X", color="#D55E00", ms=6, label="observed, outside")
    axes.set_xlabel("rows, sorted by predicted value")
    axes.set_ylabel(axis)
    axes.grid(axis="y", color=FAINT, lw=0.6)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@drawn
def distribution(observed: np.ndarray, replicated: np.ndarray, color: str, axis: str) -> Figure:
    """Distribution functions of replicated responses (thin) and of the observed one."""
    figure = sheet(2.9)
    axes = figure.subplots()
    share = np.arange(1, len(observed) + 1) / len(observed)
    for row in replicated[:: max(1, len(replicated) // 60)]:
        axes.plot(np.sort(row), share, color=color, lw=0.5, alpha=0.4, rasterized=True)
    axes.plot(np.sort(observed), share, color=INK, lw=1.8, label="observed")
    axes.plot([], [], color=color, label="replicates")
    axes.set_xlabel(axis)
    axes.set_ylabel("share of rows at or below")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
