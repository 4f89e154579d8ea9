"""Paper, ink and printing of every figure: one look, drawn without pyplot's global state.

Figures are narrow (4.6 inches), so that their text stays legible at a phone's width, and
white, so that they read on a dark page. Fonts are matplotlib's own: the same input gives the
same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..document import Image

WIDTH = 4.6  # inches
DPI = 160
INK, SOFT, FAINT = "#1f2933", "#6b7785", "#d5dbe1"

STYLE: dict[Any, Any] = {
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.unicode_minus": True,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "path.simplify": True,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "bayes_glmm",
    "text.color": INK,
    "text.parse_math": False,  # labels of the data are not formulas
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


@dataclass(frozen=True)
class MethodStyle:
    """How a method looks everywhere: colour, marker in figures and as a character, filled."""

    color: str
    marker: str
    character: str
    filled: bool = True

    @property
    def face(self) -> str:
        """Colour inside the marker."""
        return self.color if self.filled else "white"


# Okabe & Ito's colours, told apart by colour-blind readers; the marker says it a second time
STYLES = {
    "NUTS": MethodStyle("#0072B2", "o", "●"),
    "Integrated": MethodStyle("#56B4E9", "h", "⬢"),
    "ML": MethodStyle("#D55E00", "s", "■"),
    "Laplace": MethodStyle("#E69F00", "D", "◆"),
    "REML": MethodStyle("#882255", "<", "◀"),
    "PQL": MethodStyle("#009E73", "^", "▲"),
    "MQL": MethodStyle("#44AA99", ">", "▶"),
    "GEE": MethodStyle("#B5478B", "v", "▼"),
    "ConditionalLogit": MethodStyle("#8C6D31", "p", "⬟"),
    "GLM": MethodStyle("#595959", "X", "✕"),
    "OLS": MethodStyle("#332288", "*", "★"),
}
OTHER = MethodStyle("#4B9CD3", "P", "✚")
HOLLOW = {
    "●": "○",
    "⬢": "⬡",
    "■": "□",
    "◆": "◇",
    "▲": "△",
    "▼": "▽",
    "⬟": "⬠",
    "◀": "◁",
    "▶": "▷",
    "★": "☆",
    "✕": "×",
    "✚": "✛",
}


def method_styles(methods: dict) -> dict[str, MethodStyle]:
    """Label -> style for methods by label; a second one of a kind is hollow."""
    styles, seen = {}, set()
    for label, method in methods.items():
        kind = "Laplace" if getattr(method, "nodes", None) == 1 else type(method).__name__
        style = STYLES.get(kind, OTHER)
        styles[label] = hollow(style) if kind in seen else style
        seen.add(kind)
    return styles


def hollow(style: MethodStyle) -> MethodStyle:
    """Give the same style with an empty marker."""
    character = HOLLOW.get(style.character, style.character)
    return MethodStyle(style.color, style.marker, character, filled=False)


def styled(figure: Callable[..., Figure]) -> Callable[..., Figure]:
    """Make a function that returns a matplotlib Figure draw it in our style."""

    @wraps(figure)
    def draw(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            made = figure(*args, **kwargs)
            made.draw_without_rendering()  # ticks are made now, in this style
            return made

    return draw


def drawn(figure: Callable[..., Figure]) -> Callable[..., Image]:
    """Make a function that returns a matplotlib Figure return an Image in our style."""

    @wraps(figure)
    def draw(*args, **kwargs) -> Image:
        with matplotlib.rc_context(STYLE):
            return _print(figure(*args, **kwargs))

    return draw


class Sheet(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


def sheet(height: float, width: float = WIDTH) -> Figure:
    """Give an empty figure; sizes in inches."""
    return Sheet(figsize=(width, height), layout="constrained", dpi=DPI)


def _print(figure: Figure) -> Image:
    svg, png = BytesIO(), BytesIO()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once for both formats
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(svg, format="svg", metadata=nothing)
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return Image(svg.getvalue(), png.getvalue(), float(figure.get_size_inches()[0]))


def wrapped(label: str) -> str:
    """Break a method's label after its first comma: ``GEE,`` above ``exchangeable``."""
    head, comma, rest = label.partition(", ")
    return f"{head},\n{shorten(rest, 20)}" if comma else shorten(label, 20)


def shorten(label: str, longest: int = 28) -> str:
    """Leave out the middle of a label that would push the axes off the figure."""
    if len(label) <= longest:
        return label
    tail = longest // 2 - 1  # what tells terms of one factor apart often stands last
    return f"{label[: longest - 1 - tail]}…{label[-tail:]}"
