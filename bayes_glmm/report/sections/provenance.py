"""What the methods report, and what is needed to make the report again."""

import platform
from importlib.metadata import PackageNotFoundError, version

from ... import __version__
from ...fit import Fit
from ...messages import Message
from ..document import Block, Bullets, Code, Paragraph, Strong, Table, Text
from ..material import Material
from ..numbers import duration, listing

PACKAGES = (
    "pymc",
    "pytensor",
    "nutpie",
    "arviz",
    "numba",
    "formulaic",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
)
_CONTENT = {"profiles.csv": "profiles", "ranking.csv": "ranks of all levels"}


def messages(material: Material) -> list[Block]:
    """Every message once, with the methods it came from."""
    senders: dict[Message, list[str]] = {}
    for label, fit in material.fits.items():
        for note in dict.fromkeys(fit.messages):
            senders.setdefault(note, []).append(label)
    items: list[Text] = [_message(material, note, who) for note, who in senders.items()]
    items += [
        (Strong(f"{label} failed"), f": {reason}")
        for label, reason in material.comparison.failures.items()
    ]
    if not items:
        return [Paragraph("Nothing: every method converged without a note.")]
    silent = [label for label, fit in material.fits.items() if not fit.messages]
    if silent:
        items.append((Strong(listing(silent)), ": nothing to report."))
    return [Bullets(items)]


def _message(material: Material, note: Message, labels: list[str]) -> Text:
    everyone = len(labels) == len(material.fits) and len(labels) > 1
    who = "All methods" if everyone else listing(labels)
    return (
        *(Strong(who), " ", Code(note.code), f" ({note.severity}): {note.happened} "),
        *(Strong("Why:"), f" {note.why} ", Strong("What to try:"), f" {note.remedy}"),
    )


def provenance(material: Material) -> list[Block]:
    """Command, seed, versions, times."""
    items: list[Text] = []
    if material.command:
        items.append(("Command: ", Code(material.command)))
    if material.about.seed is not None:
        items.append(
            f"Seed {material.about.seed}; each method that draws has a stream of its own, derived "
            "from the seed and its label."
        )
    items.append(f"bayes_glmm {__version__} on Python {platform.python_version()}; {_versions()}.")
    more = "".join(f", {_CONTENT[name]} in {name}" for name in material.tables)
    items.append(f"All estimates and intervals are also in comparison.csv{more}, beside this file.")
    return [Bullets(items), _times(material.fits)]


def _versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _times(fits: dict[str, Fit]) -> Table:
    rows = [
        (label, *(duration(s) for s in (t.setup, t.compile, t.run, t.total)))
        for label, t in ((label, fit.seconds) for label, fit in fits.items())
    ]
    caption = "Wall-clock time by stage; the only numbers here that change from run to run."
    columns = ("method", "set-up", "compilation", "fit", "total")
    return Table(columns, rows, caption, frozenset({1, 2, 3, 4}))
