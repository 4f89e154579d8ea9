"""A document as one HTML file that needs nothing else: styles and figures are inside."""

from base64 import b64encode
from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from .document import (
    Bullets,
    Code,
    Document,
    Equations,
    Fold,
    Heading,
    Image,
    Inline,
    Key,
    Math,
    Paragraph,
    Picture,
    Strong,
    Subtitle,
    Table,
    Text,
    spans,
)
from .mathml import mathml

LARGEST_SVG = 100_000  # bytes; larger drawings are put in as PNG
PIXELS_PER_INCH = 130  # of a figure on a page that is wide enough

KINDS = {
    kind: kind.__name__.lower()
    for kind in (Subtitle, Paragraph, Bullets, Equations, Table, Picture, Fold, Heading)
}


def write_html(document: Document) -> str:
    """Give the whole page."""
    return _environment().get_template("report.html.j2").render(document=document)


def write_index_html(entries: Sequence[tuple[str, str, str]]) -> str:
    """Give the page that lists reports: ``(folder, title, question)``."""
    return _environment().get_template("index.html.j2").render(entries=entries)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bayes_glmm.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"inline": inline, "mathml": _display, "source": source}
    environment.filters |= {"kind": lambda block: KINDS.get(type(block), "row")}
    environment.globals |= {"pixels": lambda image: round(image.width * PIXELS_PER_INCH)}
    return environment


def inline(text: Text) -> Markup:
    """HTML of a piece of text; every character of the data escaped."""
    return Markup("").join(map(_span, spans(text)))


def _span(span: Inline) -> Markup:
    match span:
        case Code(text):
            return Markup("<code>{}</code>").format(text)
        case Strong(text):
            return Markup("<strong>{}</strong>").format(text)
        case Math(latex):
            return Markup(mathml(latex))
        case Key(label, color, marker):
            mark = Markup('<span class="mark" style="color:{}" aria-hidden="true">{}</span>')
            return mark.format(color, marker) + Markup('<span class="label">{}</span>').format(
                label
            )
        case str():
            return escape(span)


def _display(latex: str) -> Markup:
    return Markup(mathml(latex, display=True))


def source(image: Image) -> str:
    """Give the data address of a figure: SVG where it is small, PNG where it is dense."""
    small = len(image.svg) <= LARGEST_SVG
    kind, data = ("svg+xml", image.svg) if small else ("png", image.png)
    return f"data:image/{kind};base64,{b64encode(data).decode()}"
