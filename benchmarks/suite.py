"""The benchmark from the first case to the last."""

import tempfile
import warnings
from argparse import Namespace
from contextlib import closing
from pathlib import Path

from . import ours, python_peers, r_peers
from .answer import Tolerance
from .cases import Case, cases, posteriors
from .clock import Budget, race
from .contender import Missing, first_line
from .machine import describe
from .record import Record
from .results import COLUMNS, SAMPLED_COLUMNS, cells, sampled_cells
from .rows import Row, row_of
from .sampling import PACKAGES, Chains, sample_all
from .terminal import say, show


def chosen(quick: bool, only: list[str]) -> tuple[list, list]:
    """Return the cases and posteriors whose names have one of the texts."""

    def wanted(name: str) -> bool:
        return not only or any(text.lower() in name.lower() for text in only)

    sampled = [p for p in posteriors(quick) if wanted(f"{p.data}: posterior")]
    return [case for case in cases(quick) if wanted(case.name)], sampled


def list_cases(quick: bool, only: list[str]) -> None:
    """Print the names of the cases."""
    timed, sampled = chosen(quick, only)
    for name in [case.name for case in timed] + [f"{p.data}: posterior" for p in sampled]:
        say(name)


def run(options: Namespace, out: Path | None) -> Record:
    """Time what the options choose, show it as it comes, and write it where ``out`` says."""
    warnings.simplefilter("ignore")
    timed, sampled = chosen(options.quick, options.only)
    budget = Budget(least=1, most=5, seconds=1.0) if options.quick else Budget()
    record = Record(
        machine=describe(options.threads),
        options={"Mode": "quick" if options.quick else "full", "Date": options.date},
        tolerance=Tolerance(),
        chains=Chains(),
    )
    with tempfile.TemporaryDirectory() as folder:
        for case in timed:
            rows = time_case(case, Path(folder), budget, record.tolerance)
            record.rows += rows
            record.keep(out)
            show(case.name, COLUMNS, [cells(row) for row in rows])
    packages = options.packages or PACKAGES
    for group in sample_all([] if options.no_posteriors else sampled, record.chains, packages):
        record.posteriors.append(group)
        record.keep(out)
        body = [sampled_cells(row, group[0]) for row in group]
        show(f"{group[0].problem}: posterior", SAMPLED_COLUMNS, body)
    say(record.load())
    if out is not None:
        record.finish(out, options.name)
        say(f"Written: {out / options.name}.md and .json.")
    return record


def time_case(case: Case, folder: Path, budget: Budget, tolerance: Tolerance) -> list[Row]:
    """Time one case: ours first, then the peers that are there, then those that are missing."""
    try:
        with closing(r_peers.RPeers(case, folder)) as in_r:
            found = [*ours.contenders(case), *python_peers.contenders(case), *in_r.contenders]
            present = [c for c in found if not isinstance(c, Missing)]
            timings = race(present, budget)
    except Exception as error:  # one case that cannot be set up does not end the others
        return [Row(case.name, ours.NAME, remark=f"failed: {first_line(error)}")]
    rows = [
        row_of(case.name, contender, timing, timings[0], tolerance)
        for contender, timing in zip(present, timings, strict=True)
    ]
    missing = [c for c in found if isinstance(c, Missing)]
    return rows + [Row(case.name, c.name, remark=f"not installed: {c.install}") for c in missing]
