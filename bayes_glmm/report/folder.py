"""The folder of a report: what is written, under which names, and the index of folders."""

import os
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd

from ..comparison import Comparison
from .document import Document, Section, safe_names
from .html import write_html, write_index_html
from .markdown import write_index_markdown, write_markdown
from .material import About, Material, attempt
from .sections import SECTIONS

MORE_TABLES = ("profiles.csv", "ranking.csv")  # written where they could be made


def write_report(
    about: Any,
    comparison: Comparison,
    out: str | Path,
    command: str = "",
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write ``index.html``, ``report.md`` with ``figures/``, and tables.

    ``comparison.csv``, and where they could be made ``ranking.csv`` and ``profiles.csv``. A
    part that cannot be made is replaced by a sentence that says why, and the rest is written.
    Each file is written under another name, then renamed.

    Parameters
    ----------
    about
        A model file (``load_model``), or ``About(title, question)``.
    comparison
        What ``compare`` returned.
    out
        Folder; made if absent. Files of an earlier report are replaced.
    command
        The command that made the report, as it will be printed.
    progress
        Called with the name of each stage before it starts.

    Returns
    -------
    Path
        Of ``index.html``.

    Raises
    ------
    ValueError
        If no method gave a fit and ``about`` cannot make the model.
    """
    return write_document(make_document(about, comparison, command, progress), comparison, out)


def write_document(document: Document, comparison: Comparison, out: str | Path) -> Path:
    """Write a report whose content is built; see ``write_report``."""
    out = Path(out)
    pictures = {f"{p.name}.png": p.image.png for p in document.pictures()}
    for name, png in pictures.items():
        _replace(out / "figures" / name, png)
    for stale in set((out / "figures").glob("*.png")) - {out / "figures" / n for n in pictures}:
        stale.unlink()
    _replace(out / "report.md", write_markdown(document).encode())
    tables = {"comparison.csv": _csv(comparison.to_frame())} | dict(document.tables)
    for name, text in tables.items():
        _replace(out / name, text.encode())
    for stale in {out / name for name in MORE_TABLES} - {out / name for name in tables}:
        stale.unlink(missing_ok=True)
    return _replace(out / "index.html", write_html(document).encode())


def make_document(
    about: Any,
    comparison: Comparison,
    command: str = "",
    progress: Callable[[str], None] | None = None,
) -> Document:
    """Build the report's content."""
    heading = About.of(about)
    model = _model(about, comparison)
    material = Material(heading, comparison, model, command, progress or _silent)
    sections = []
    for slug, title, build in SECTIONS:
        material.progress(f"report: {title}")
        blocks = attempt(f"“{title}”", lambda build=build: build(material))
        if blocks:
            sections.append(Section(slug, title, blocks))
    tables = {k: _csv(pd.concat(v.values())) for k, v in material.tables.items()}
    return Document(heading.title, heading.question, heading.notes, safe_names(sections), tables)


def _csv(frame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def _silent(stage: str) -> None:
    """Report no progress."""


def _model(about: Any, comparison: Comparison):
    fits = iter(comparison.fits.values())
    first = next(fits, None)
    if first is not None:
        return first.model
    if not hasattr(about, "model"):
        raise ValueError(
            "No method gave a fit, so there is no model to report: give a model file, or see "
            f"why the methods failed: {comparison.failures}."
        )
    return about.model()


def _replace(path: Path, data: bytes) -> Path:
    """Write a file under another name beside it, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


# --- the index of reports -------------------------------------------------------------


class _Head(HTMLParser):
    """Title and description of a report's page."""

    def __init__(self):
        super().__init__()
        self.title, self.question, self._inside = "", "", False

    def handle_starttag(self, tag, attrs):
        """Note the description, and that the title begins."""
        attributes = dict(attrs)
        if tag == "meta" and attributes.get("name") == "description":
            self.question = attributes.get("content") or ""
        self._inside = tag == "title"

    def handle_endtag(self, tag):
        """Note that the title ends."""
        self._inside = False

    def handle_data(self, data):
        """Collect the title."""
        if self._inside:
            self.title += data


def write_index(reports: str | Path) -> Path:
    """Write ``index.html`` and ``README.md`` that list the reports in a folder's subfolders.

    Returns
    -------
    Path
        Of ``index.html``.
    """
    reports = Path(reports)
    entries = []
    for page in sorted(reports.glob("*/index.html")):
        head = _Head()
        head.feed(page.read_text(encoding="utf-8")[:20_000])
        entries.append((page.parent.name, head.title or page.parent.name, head.question))
    _replace(reports / "README.md", write_index_markdown(entries).encode())
    return _replace(reports / "index.html", write_index_html(entries).encode())
