"""A document as Markdown (GitHub's and GitLab's), figures as PNG files beside it."""

import re
from collections.abc import Sequence

from .document import (
    Block,
    Bullets,
    Code,
    Document,
    Equations,
    Fold,
    Heading,
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

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$])")


def write_markdown(document: Document, figures: str = "figures") -> str:
    """Give the text; pictures are linked as ``figures/<name>.png``."""
    parts = [f"# {_plain(document.title)}"]
    if document.question:
        parts.append(f"*{_plain(document.question)}*")
    if document.notes:
        parts.append(_plain(document.notes))
    for section in document.sections:
        parts.append(f"## {_plain(section.title)}")
        parts += [_block(block, figures) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def write_index_markdown(entries: Sequence[tuple[str, str, str]]) -> str:
    """List reports ``(folder, title, question)``, for reading on a forge."""
    lines = ["# Reports", "", "One model each, every method side by side.", ""]
    lines += [
        f"- [{_plain(title)}]({folder}/report.md): {_plain(question)}"
        for folder, title, question in entries
    ]
    return "\n".join(lines) + "\n"


def _block(block: Block, figures: str) -> str:
    match block:
        case Subtitle(text):
            return f"### {_plain(text)}"
        case Paragraph(text, kind):
            quote = "> " if kind in ("note", "warning") else ""
            return quote + inline(text)
        case Bullets(items):
            return "\n".join(f"- {inline(item)}" for item in items)
        case Equations(latex):
            return "\n\n".join(f"```math\n{_readable(line)}\n```" for line in latex)
        case Table():
            return _table(block)
        case Picture(name, _, alt, caption):
            return f"![{_plain(alt)}]({figures}/{name}.png)\n\n{inline(caption)}"
        case Fold(summary, blocks):
            inner = "\n\n".join(_block(b, figures) for b in blocks)
            return f"<details><summary>{_plain(summary)}</summary>\n\n{inner}\n\n</details>"


def _readable(latex: str) -> str:
    r"""Replace ``\operatorname``, which GitHub refuses."""
    return re.sub(r"\\operatorname\{(\w+)\}", r"\\mathrm{\1}\\,", latex)


def _table(table: Table) -> str:
    head = "| " + " | ".join(map(_plain, table.columns)) + " |"
    marks = ["--:" if k in table.numeric else ":--" for k in range(len(table.columns))]
    lines = [head, "| " + " | ".join(marks) + " |"]
    for row in table.rows:
        if isinstance(row, Heading):
            cells = [f"**{inline(row.text)}**"] + [""] * (len(table.columns) - 1)
        else:
            cells = [inline(cell, in_table=True) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return inline(table.caption) + "\n\n" + "\n".join(lines)


def inline(text: Text, in_table: bool = False) -> str:
    """Markdown of a piece of text; characters that mean something are escaped."""
    return "".join(_span(span, in_table) for span in spans(text))


def _span(span: Inline, in_table: bool) -> str:
    match span:
        case Code(text):
            return _code(text, in_table)
        case Strong(text):
            return f"**{_plain(text)}**"
        case Math(latex):
            return f"${_readable(latex)}$"
        case Key(label, _, marker):
            return f"{marker} {_plain(label)}"
        case str():
            return _plain(span)


def _plain(text: str) -> str:
    """Escape marks, and the characters that open HTML; a line stays a line."""
    text = _SPECIAL.sub(r"\\\1", " ".join(text.split("\n")))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str, in_table: bool) -> str:
    text = " ".join(text.split("\n"))
    text = text.replace("|", "\\|") if in_table else text
    fence = "`" * (max([0, *map(len, re.findall("`+", text))]) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
