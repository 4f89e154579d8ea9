"""Rank plots of chains (Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021)."""

from collections.abc import Mapping
from math import ceil

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binom, rankdata

from .canvas import FAINT, SOFT, drawn, sheet, shorten

BINS = 20
CHAINS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#B5478B", "#56B4E9", "#595959", "#000000")


def rank_counts(draws: np.ndarray) -> np.ndarray:
    """Rank histograms of chains, shape (chains, BINS): ranks among all draws together."""
    ranks = rankdata(draws, axis=None).reshape(draws.shape)
    edges = np.linspace(0.5, draws.size + 0.5, BINS + 1)
    return np.array([np.histogram(chain, edges)[0] for chain in ranks])


@drawn
def ranks(parameters: Mapping[str, np.ndarray]) -> Figure:
    """Draw rank histograms, one panel per parameter, one line per chain.

    ``parameters`` maps names to draws of shape (chains, draws).
    """
    columns = min(3, len(parameters))
    rows = ceil(len(parameters) / columns)
    figure = sheet(1.25 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, (name, draws) in zip(grid.flat, parameters.items(), strict=False):
        _panel(axes, name, draws)
    for axes in list(grid.flat)[len(parameters) :]:
        axes.set_axis_off()
    figure.supxlabel("rank among all draws, low to high", fontsize=9)
    figure.supylabel("draws per bin", fontsize=9)
    return figure


def _panel(axes, name: str, draws: np.ndarray) -> None:
    counts = rank_counts(draws)
    length = draws.shape[1]
    low, high = binom.ppf([0.005, 0.995], length, 1 / BINS)
    edges = np.arange(BINS + 1)
    axes.axhspan(low, high, color=FAINT, alpha=0.6, lw=0)
    axes.axhline(length / BINS, color=SOFT, lw=0.8)
    for chain, color in zip(counts, CHAINS, strict=False):
        axes.stairs(chain, edges, color=color, lw=1.1, baseline=None)
    axes.set_title(shorten(name, 24), fontsize=7.5)
    axes.set_xticks([])
    axes.set_ylim(0, max(1.3 * high, counts.max() * 1.05))
