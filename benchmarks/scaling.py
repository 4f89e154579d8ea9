"""Seconds and memory as the rows grow: ``python -m benchmarks.scaling [--rows 10000 100000]``.

Each size runs in a process of its own, after a small fit of the same structure, so that
compilation and imports are not counted. Linear growth has exponent 1: the exponent of a row is
the logarithm of its seconds over those of the row above, divided by that of the numbers of rows.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from math import log
from pathlib import Path

from .threads import limit_threads

HERE = Path(__file__).parent
ROWS = (10_000, 100_000, 1_000_000)
SMALL = 4_000  # rows of the fit that warms up
COLUMNS = (
    "structure", "rows", "model s", "fit s", "exponent", "evaluations", "data MiB", "MiB", "notes",
)  # fmt: skip
STRUCTURES = {
    "one factor, 9 nodes": ("simulated", 9),
    "two crossed factors, Laplace": ("crossed", 1),
    "three nested factors, Laplace": ("nested", 1),
}


@dataclass(frozen=True)
class Measured:
    """One structure at one size; ``mib`` is the peak during model and fit, over the data's."""

    structure: str
    rows: int
    model: float
    fit: float
    evaluations: int
    data_mib: float
    mib: float | None
    notes: tuple[str, ...]


def measure(structure: str, rows: int) -> Measured:
    """Time model and fit in this process."""
    from time import perf_counter

    import bayes_glmm as bg

    from .cases import crossed, nested, simulated
    from .frames import frame
    from .memory import PeakMeter

    kind, nodes = STRUCTURES[structure]
    make = {"simulated": lambda n: simulated(n // 5), "crossed": crossed, "nested": nested}[kind]

    def run(problem):
        started = perf_counter()
        model = bg.GLMM(problem.formula, data, family=problem.family)
        made = perf_counter()
        fit = model.fit(bg.ML(nodes=nodes))
        fit.se()
        return fit, made - started, perf_counter() - made

    data = frame(make(SMALL).data)
    run(make(SMALL))
    data = frame(make(rows).data)
    meter = PeakMeter()
    meter.start()
    fit, model_seconds, fit_seconds = run(make(rows))
    return Measured(
        structure,
        rows,
        model_seconds,
        fit_seconds,
        fit.details["optimiser"]["evaluations"],
        float(data.memory_usage(deep=True).sum() / 2**20),
        meter.stop(),
        tuple(m.code for m in fit.messages),
    )


def in_process(structure: str, rows: int) -> Measured:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--one", structure, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{structure}, {rows} rows: {done.stderr.strip().splitlines()[-1]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def cells(measured: Measured, before: Measured | None) -> list[str]:
    """Write one row of the table."""
    from .results import number

    growth = None
    if before is not None:
        growth = log(measured.fit / before.fit) / log(measured.rows / before.rows)
    return [
        measured.structure, f"{measured.rows:,}", number(measured.model), number(measured.fit),
        number(growth, 2), str(measured.evaluations), number(measured.data_mib),
        number(measured.mib), ", ".join(measured.notes),
    ]  # fmt: skip


def body(found: list[Measured]) -> list[list[str]]:
    """Write the rows of the table, structure by structure."""
    lines = []
    for _, group in groupby(found, lambda m: m.structure):
        several = list(group)
        lines.append(cells(several[0], None))
        lines += [cells(after, before) for before, after in pairwise(several)]
    return lines


def write(found: list[Measured], machine: dict, folder: Path) -> None:
    """Write ``scaling.md`` and ``scaling.json``."""
    from .record import table

    folder.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine, "rows": [asdict(m) for m in found]}
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    (folder / "scaling.json").write_text(text, encoding="utf-8")
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items())
    parts = [
        "# Seconds and memory as the rows grow",
        "Written by `python -m benchmarks.scaling`; [README](../README.md). "
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; one thread for "
        f"BLAS; kernels compiled before. {versions}.",
        table(COLUMNS, body(found)),
    ]
    (folder / "scaling.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder to write into")
    parser.add_argument("--one", nargs=2, metavar=("STRUCTURE", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit_threads(1)
    if options.one:
        structure, rows = options.one
        print(json.dumps(asdict(measure(structure, int(rows)))))
        return
    from .machine import PYTHON_PACKAGES, describe
    from .terminal import say, show

    machine = describe(1)
    kept = ("Python", *(p for p in PYTHON_PACKAGES if p in ("bayes_glmm", "numpy", "numba")))
    machine["versions"] = {k: v for k, v in machine["versions"].items() if k in kept}
    found = []
    for structure in STRUCTURES:
        found += [in_process(structure, rows) for rows in sorted(options.rows)]
        show(structure, COLUMNS, body(found[-len(options.rows) :]))
    write(found, machine, options.out)
    say(f"Written: {options.out / 'scaling.md'} and scaling.json.")


if __name__ == "__main__":
    main()
