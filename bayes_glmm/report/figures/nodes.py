"""How the log-likelihood settles as quadrature nodes are added."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ..numbers import power_of_ten
from .canvas import FAINT, SOFT, MethodStyle, drawn, sheet


@drawn
def nodes(
    labels: Sequence[str], changes: np.ndarray, tolerance: float, style: MethodStyle
) -> Figure:
    """Draw the change of the log-likelihood at each rise, on a log axis, and the tolerance.

    ``labels`` are the numbers of nodes reached; ``changes`` absolute, zeros at the axis's foot.
    """
    figure = sheet(2.1)
    axes = figure.subplots()
    floor = 0.1 * min(tolerance, changes[changes > 0].min(initial=tolerance))
    at = np.arange(len(labels))
    shown = np.maximum(changes, floor)
    axes.axhspan(floor, tolerance, color=FAINT, alpha=0.6, lw=0)
    axes.plot(at, shown, color=style.color, lw=1.2)
    axes.plot(at, shown, style.marker, color=style.color, mfc=style.face, ms=5, ls="none")
    axes.axhline(tolerance, color=SOFT, lw=0.8, ls=(0, (3, 2)))
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axes.set_ylim(bottom=floor)
    axes.set_xticks(at, labels)
    axes.set_xlabel("nodes")
    axes.set_ylabel("change of the\nlog-likelihood")
    return figure
