"""Residuals of a linear model: their variogram, their spread along the fit, their quantiles."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri
from scipy.stats import beta

from .canvas import FAINT, SOFT, sheet

DATA, FITTED = "#0072B2", "#D55E00"
LARGEST = 60.0  # area of the mark of the lag with most pairs


def variogram_figure(found) -> Figure:
    """Draw semivariances as discs whose area goes by the pairs behind them, and the fitted ones."""
    figure = sheet(2.9)
    axes = figure.subplots()
    table = found.table
    area = np.maximum(LARGEST * table["pairs"] / table["pairs"].max(), 4.0)
    axes.scatter(table["lag"], table["semivariance"], s=area, color=DATA, alpha=0.8, lw=0)
    axes.axhline(found.total, color=SOFT, lw=1.0, ls=(0, (4, 2)))
    axes.annotate(
        "total variance, between subjects",
        (0, found.total),
        (4, 3),
        textcoords="offset points",
        fontsize=8,
        color=SOFT,
    )
    if np.isfinite(found.total_fitted):
        axes.plot(table["lag"], table["fitted"], color=FITTED, lw=1.7)
        axes.annotate(
            found.label,
            tuple(table[["lag", "fitted"]].iloc[len(table) // 3]),
            (6, -8),
            textcoords="offset points",
            va="top",
            fontsize=8.5,
            color=FITTED,
        )
    highest = max(found.total, table["semivariance"].max(), np.nanmax([0, *table["fitted"]]))
    axes.set_ylim(0, 1.15 * highest)
    axes.set_xlim(0, None)
    axes.set_xlabel(f"distance in {found.time}, within {found.by}")
    axes.set_ylabel("semivariance of residuals")
    return figure


def residuals_figure(fitted: np.ndarray, residual: np.ndarray) -> Figure:
    """Draw standardised residuals along the fitted values, and against normal quantiles."""
    figure = sheet(2.7, width=6.4)
    left, right = figure.subplots(1, 2)
    left.axhline(0, color=SOFT, lw=0.8)
    left.plot(fitted, residual, "o", ms=2.6, color=DATA, alpha=0.5, mew=0)
    left.set_xlabel("fitted value")
    left.set_ylabel("residual, in SDs")
    _quantiles(right, np.sort(residual))
    return figure


def _quantiles(axes: Axes, ordered: np.ndarray) -> None:
    """Ordered residuals against normal quantiles, with the range of each under normality."""
    n = len(ordered)
    rank = np.arange(1, n + 1)
    expected = ndtri((rank - 0.375) / (n + 0.25))  # Blom's approximate normal scores
    low, high = (ndtri(beta.ppf(p, rank, n + 1 - rank)) for p in (0.025, 0.975))
    axes.fill_between(expected, low, high, color=FAINT, lw=0)
    axes.plot(expected, expected, color=SOFT, lw=0.8)
    axes.plot(expected, ordered, "o", ms=2.6, color=DATA, alpha=0.6, mew=0)
    axes.set_xlabel("normal quantile")
    axes.set_ylabel("residual, in SDs")
