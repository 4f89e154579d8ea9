"""Results on disk: ``latest.json`` (or another name) for programs, ``latest.md`` for people."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median

from .answer import Tolerance
from .results import COLUMNS, SAMPLED_COLUMNS, cells, sampled_cells
from .rows import Row
from .sampling import TOLERANCE, Chains, Sampled


@dataclass
class Record:
    """Everything one run of the benchmark found."""

    machine: dict
    options: dict
    tolerance: Tolerance
    chains: Chains
    rows: list[Row] = field(default_factory=list)
    posteriors: list[list[Sampled]] = field(default_factory=list)

    def write(self, folder: Path, name: str) -> None:
        """Write both files."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
        (folder / f"{name}.md").write_text(self.markdown(), encoding="utf-8")

    def keep(self, folder: Path | None) -> None:
        """Write what there is so far, in case the run is cut short."""
        if folder is not None:
            self.write(folder, "unfinished")

    def finish(self, folder: Path, name: str) -> None:
        """Write everything in the place of the last results of that name."""
        self.write(folder, "unfinished")
        for suffix in ("json", "md"):
            (folder / f"unfinished.{suffix}").replace(folder / f"{name}.{suffix}")

    def as_dict(self) -> dict:
        """Return it for JSON."""
        return {
            "machine": self.machine,
            "options": self.options,
            "rows": [row.as_dict() for row in self.rows],
            "posteriors": [s.as_dict() for group in self.posteriors for s in group],
        }

    def markdown(self) -> str:
        """Return it for people."""
        parts = ["# Timings", *self._preface()]
        for case, rows in groupby(self.rows, lambda row: row.case):
            parts += [f"## {case}", table(COLUMNS, [cells(row) for row in rows])]
        for group in self.posteriors:
            body = [sampled_cells(row, group[0]) for row in group]
            parts += [f"## {group[0].problem}: posterior", table(SAMPLED_COLUMNS, body)]
        return "\n\n".join(filter(None, parts)) + "\n"

    def load(self) -> str:
        """Say how much of the time went to other processes."""
        shares = [row.seconds / row.processor for row in self.rows if row.processor]
        if not shares:
            return ""
        return (
            f"Wall-clock seconds are {median(shares):.2f} times processor seconds at the median: "
            "far above 1 means that the machine was busy, and the timings should be repeated."
        )

    def _preface(self) -> list[str]:
        m = self.machine
        versions = ", ".join(f"{name} {v}" for name, v in m["versions"].items())
        stated = "".join(f"{name} {value}. " for name, value in self.options.items() if value)
        return [
            "Written by `python -m benchmarks`; [README](../README.md) says what the columns are. "
            f"{stated}".strip(),
            f"{m['processor']}, {m['cores']} cores, {m['system']}; {m['threads']} thread(s) for "
            f"BLAS, OpenMP, Numba and Rayon (samplers: their own default). {versions}.",
            f"A ratio is given where the answers agree: {self.tolerance}; posterior means within "
            f"{TOLERANCE:g} posterior standard deviations. Posteriors: {self.chains.chains} "
            f"chains of {self.chains.draws} draws after {self.chains.tune}.",
            self.load(),
        ]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    rule = ["---", *["---:"] * (len(columns) - 2), "---"]
    lines = [columns, rule, *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )
