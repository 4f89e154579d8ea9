"""What a report is made of, before it is HTML or Markdown.

Sections build these blocks once; ``html`` and ``markdown`` write them. Text is plain text
or one of the inline marks below, never markup: labels of the data are escaped by the
writers, whatever they contain.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True)
class Code:
    """Text of a program: a formula, a command, a column."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Text that carries the sentence."""

    text: str


@dataclass(frozen=True)
class Math:
    """A formula in a line of text, in the LaTeX that ``mathml`` reads."""

    latex: str


@dataclass(frozen=True)
class Key:
    """A method's label with its colour and marker, as in the figures."""

    label: str
    color: str
    marker: str  # a character that looks like the figure's marker


type Inline = str | Code | Strong | Math | Key
type Text = Inline | Sequence[Inline]


def spans(text: Text) -> tuple[Inline, ...]:
    """Give text as a tuple of its inline pieces."""
    return (text,) if isinstance(text, str | Code | Strong | Math | Key) else tuple(text)


@dataclass(frozen=True)
class Subtitle:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text; ``kind`` tells how it is set off."""

    text: Text
    kind: Literal["plain", "lead", "note", "warning"] = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[Text]


@dataclass(frozen=True)
class Equations:
    """Displayed formulas, one a line, in the LaTeX that ``mathml`` reads."""

    latex: Sequence[str]


@dataclass(frozen=True)
class Heading:
    """A row of a table that names the rows below it."""

    text: Text


@dataclass(frozen=True)
class Table:
    """Columns, rows of cells (or ``Heading`` rows) and a caption.

    ``numeric`` are the positions of columns set to the right, with figures of one width.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Text] | Heading]
    caption: Text
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Image:
    """A drawn figure as SVG and PNG bytes; ``width`` in inches."""

    svg: bytes
    png: bytes
    width: float


@dataclass(frozen=True)
class Picture:
    """A figure in the report: what it shows (``alt``) and what to look at (``caption``)."""

    name: str
    image: Image
    alt: str
    caption: Text


@dataclass(frozen=True)
class Fold:
    """Blocks that are closed until asked for."""

    summary: str
    blocks: Sequence["Block"]


type Block = Subtitle | Paragraph | Bullets | Equations | Table | Picture | Fold


@dataclass(frozen=True)
class Section:
    """A titled part of the report; ``slug`` is its address."""

    slug: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    question: str
    notes: str
    sections: Sequence[Section] = field(default_factory=tuple)
    tables: Mapping[str, str] = field(default_factory=dict)  # file name -> CSV

    def pictures(self) -> list[Picture]:
        """All figures in order, folded ones included."""
        return [p for section in self.sections for p in _pictures(section.blocks)]


def _pictures(blocks: Sequence[Block]) -> list[Picture]:
    found: list[Picture] = []
    for block in blocks:
        if isinstance(block, Picture):
            found.append(block)
        elif isinstance(block, Fold):
            found += _pictures(block.blocks)
    return found


def safe_names(sections: Sequence[Section]) -> list[Section]:
    """Give every figure a name that is a file name everywhere, and different from the others.

    Names hold labels of the data: ``sd-batch:cask`` becomes ``sd-batch-cask``.
    """
    taken: set[str] = set()
    return [replace(s, blocks=[_safe(block, taken) for block in s.blocks]) for s in sections]


def _safe(block: Block, taken: set[str]) -> Block:
    if isinstance(block, Fold):
        return replace(block, blocks=[_safe(inner, taken) for inner in block.blocks])
    if not isinstance(block, Picture):
        return block
    stem = re.sub(r"[^a-z0-9]+", "-", block.name.lower()).strip("-")[:60] or "figure"
    number, name = 1, stem
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return replace(block, name=name)
