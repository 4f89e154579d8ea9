"""A variance component: posterior, prior and profile likelihood over one axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from .canvas import INK, SOFT, drawn, sheet, wrapped
from .forest import Mark

LIMIT = float(np.exp(-1.920729))  # relative likelihood at the end of a 95 % profile interval


@dataclass(frozen=True)
class Curves:
    """What is known of one SD: each may be absent.

    ``grid`` is the axis; ``prior`` its density there; ``draws`` of the posterior;
    ``profile`` the grid and log-likelihood of the profile.
    """

    grid: np.ndarray
    prior: np.ndarray | None = None
    draws: np.ndarray | None = None
    profile: tuple[np.ndarray, np.ndarray] | None = None
    marks: Sequence[Mark] = ()


def density(draws: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Kernel density of draws on ``[0, inf)``; mass beyond zero is reflected."""
    kernel = gaussian_kde(draws)
    return np.where(grid >= 0, kernel(grid) + kernel(-grid), 0.0)


def relative(profile: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Likelihood divided by its largest value on the grid."""
    return np.exp(profile[1] - np.max(profile[1]))


@drawn
def component(curves: Curves, axis: str, colors: tuple[str, str]) -> Figure:
    """Draw densities (left axis), relative profile likelihood (right) and estimates (below).

    ``colors`` are those of the posterior and of the likelihood.
    """
    strip = 0.22 * len(curves.marks) + 0.1
    figure = sheet(2.7 + strip + 0.55)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.7, max(strip, 0.2)])
    _densities(upper, curves, colors[0])
    if curves.profile is not None:
        _profile(upper, curves.profile, colors[1])
    for row, mark in enumerate(curves.marks):
        style = mark.style
        lower.plot([mark.low, mark.high], [row, row], color=style.color, lw=1.6)
        lower.plot(
            mark.estimate, row, style.marker, color=style.color, mfc=style.face, ms=5, mew=1.2
        )
    lower.set_ylim(len(curves.marks) - 0.5, -0.5)
    lower.set_yticks(range(len(curves.marks)), [wrapped(m.label) for m in curves.marks])
    lower.tick_params(axis="y", length=0)
    lower.spines["left"].set_visible(False)
    lower.set_xlim(curves.grid[0], curves.grid[-1])
    lower.set_xlabel(axis)
    figure.legend(loc="outside upper center", ncols=3, handlelength=1.8, columnspacing=1.4)
    return figure


def _densities(axes, curves: Curves, color: str) -> None:
    if curves.draws is not None:
        height = density(curves.draws, curves.grid)
        axes.fill_between(curves.grid, height, color=color, alpha=0.25, lw=0)
        axes.plot(curves.grid, height, color=color, lw=1.8, label="posterior")
    if curves.prior is not None:
        axes.plot(curves.grid, curves.prior, color=SOFT, lw=1.6, ls=(0, (5, 2)), label="prior")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("density")
    axes.tick_params(axis="x", labelbottom=False)


def _profile(axes, profile: tuple[np.ndarray, np.ndarray], color: str) -> None:
    twin = axes.twinx()
    twin.spines["right"].set_visible(True)
    twin.plot(profile[0], relative(profile), color=color, lw=1.8, label="profile likelihood")
    twin.axhline(LIMIT, color=color, lw=0.8, ls=":")
    twin.text(
        0.995,
        LIMIT + 0.015,
        "95 %",
        color=INK,
        fontsize=7.5,
        ha="right",
        transform=(twin.get_yaxis_transform()),
    )
    twin.set_ylim(0, 1.05)
    twin.set_ylabel("relative likelihood")
