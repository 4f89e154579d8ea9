r"""Bias of penalised quasi-likelihood: how far below the truth its SD and coefficients are.

Levels of one factor, ``eta = a + x b + sigma u_g`` with ``x = -1/2, 1/2`` by turns and ``b = 1``,
are fitted by ``PQL()`` over a grid of families, level sizes, intercepts ``a`` and ``sigma``. With
many levels the variation between data sets averages out, and what is left is the bias of the
expansion. Beside it stand what a user sees: PQL's own SD and the median *information* of a level,
the sum of its working weights. The warning ``bias-likely`` reads the bias off from these two
(``bayes_glmm.frequentist.pql_bias``).

Run it as ``python -m studies.pql_bias``; some minutes on one core.
"""

import argparse
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

import bayes_glmm as bg
from bayes_glmm.frequentist.pql import pose
from bayes_glmm.frequentist.pql_bias import (
    LEAST,
    SPREAD,
    bias_of_binary,
    bias_of_counts,
    median_by_level,
)
from bayes_glmm.frequentist.working_model import iterate
from bayes_glmm.numerics.threads import one_blas_thread

LEVELS = 400
HERE = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Cell:
    """One design: rows per level, trials per row, intercept and SD on the scale of eta."""

    family: str
    size: int
    trials: int
    intercept: float
    sigma: float

    def model(self) -> bg.GLMM:
        """Make the model; its responses are placeholders."""
        n = LEVELS * self.size
        x = np.tile([-0.5, 0.5], n)[:n]
        y = np.arange(n) % 2
        frame = pd.DataFrame({"y": y, "m": self.trials, "x": x})
        frame["g"] = np.repeat(np.arange(LEVELS), self.size)
        response = "p(y, m)" if self.family == "binomial" else "y"
        return bg.GLMM(f"{response} ~ x + (1 | g)", frame, family=self.family)


def cells() -> list[Cell]:
    """Give the grid of designs."""
    binary = [Cell("bernoulli", *c) for c in product((2, 5, 10, 20, 50), (1,), (0, -2), SDS)]
    grouped = [Cell("binomial", *c) for c in product((2,), (2, 5, 50), (0, -2), SDS)]
    counts = product((2, 5, 20), (1,), (-1.5, 0, 1.5), COUNT_SDS)
    return [*binary, *grouped, *(Cell("poisson", *c) for c in counts)]


SDS, COUNT_SDS = (0.5, 1.0, 2.0, 3.0, 4.0), (0.25, 0.5, 1.0, 1.5)


def study(cell: Cell, datasets: int, seed: int) -> dict:
    """Mean estimates of one design, with their Monte Carlo standard errors."""
    model = cell.model()
    problem, g = pose(model, bg.PQL()), model.design.groups[0].index
    x = model.design.X[:, 1]
    key = [ord(cell.family[1]), cell.size, cell.trials, int(10 * cell.intercept) % 97]
    sequence = np.random.SeedSequence(seed, spawn_key=(*key, int(100 * cell.sigma)))
    found = []
    for child in sequence.spawn(datasets):
        rng = np.random.default_rng(child)
        eta = cell.intercept + x + cell.sigma * rng.standard_normal(LEVELS)[g]
        y = model.family.simulate(rng, model.link.inverse(eta)[0], model.design.trials, 1.0)
        working = iterate(problem.with_response(y))
        if working.converged:
            information = median_by_level(g, working.weight)
            found.append([abs(working.theta[0]), working.solution.beta[1], information])
    sd, slope, information = np.array(found).T
    return {
        **vars(cell),
        "datasets": len(found),
        "failed": datasets - len(found),
        "pql_sd": sd.mean(),
        "information": information.mean(),
        "sd_bias": sd.mean() / cell.sigma - 1,
        "sd_bias_error": sd.std(ddof=1) / cell.sigma / np.sqrt(len(found)),
        "slope_bias": slope.mean() - 1,
        "slope_bias_error": slope.std(ddof=1) / np.sqrt(len(found)),
    }


def prediction(row) -> float:
    """Give what the warning's formula says of a row of the table, as a bias below zero."""
    if row.family == "poisson":
        return -bias_of_counts(row.pql_sd, row.information)
    return -bias_of_binary(row.pql_sd, row.size * row.trials, row.information)


def fit_formulas(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Fit the two formulas of ``pql_bias`` to the table: least squares of the relative bias.

    Residuals are weighted by Monte Carlo error and a misfit of two per cent.
    """
    counts = table.family == "poisson"
    found = []
    for part in (table[~counts], table[counts]):
        log_s, log_i = np.log(part.pql_sd), np.log(part.information)
        log_n = np.log(part["size"] * part.trials)
        columns = [log_s, log_n, log_n**2, log_n - np.log(4) - log_i]
        X = np.column_stack([np.ones(len(part)), *columns])
        if (part.family == "poisson").all():
            X = np.column_stack([np.ones(len(part)), log_s, log_i])
        weight = 1 / np.hypot(part.sd_bias_error, 0.02)

        def residual(c, X=X, part=part, weight=weight):
            return (-1 / (1 + np.exp(-X @ c)) - part.sd_bias) * weight

        found.append(least_squares(residual, np.r_[0.0, 1.0, -1.0, np.zeros(X.shape[1] - 3)]).x)
    return found[0], found[1]


def report(table: pd.DataFrame, command: str) -> str:
    """Write the table with Monte Carlo standard errors, the formulas, and what they say."""
    binary, counts = fit_formulas(table)
    predicted = np.array([prediction(row) for row in table.itertuples()])
    clear = table[(table.sd_bias < -LEAST) & (table.sd_bias_error < 0.02)]
    binary_rows: Any = clear[clear.family != "poisson"]
    ratio = clear.sd_bias / predicted[clear.index]
    lines = [
        "# Bias of penalised quasi-likelihood",
        "",
        f"Levels of one factor ({LEVELS} of them), eta = a + x b + sigma u with b = 1; relative "
        "bias of the SD and of b in per cent with Monte Carlo standard errors, *PQL SD* and "
        "*information* (sum of the working weights of the median level) as a user sees them, and "
        "what the warning's formula makes of these two.",
        "",
        "| family | rows | trials | a | sigma | PQL SD | information | bias of SD | formula | "
        "bias of b | failed |",
        "|---|" + "---:|" * 10,
    ]
    rows: Any = table.itertuples()
    for row, guess in zip(rows, predicted, strict=True):
        lines.append(
            f"| {row.family} | {row.size} | {row.trials} | {row.intercept:g} | {row.sigma:g} | "
            f"{row.pql_sd:.2f} | {row.information:.2g} | "
            f"{percent(row.sd_bias, row.sd_bias_error)} | {100 * guess:.0f} | "
            f"{percent(row.slope_bias, row.slope_bias_error)} | {row.failed} of "
            f"{row.failed + row.datasets} |"
        )
    lines += [
        "",
        "Formulas, N trials and information I of a level, s PQL's SD, true SD (1 + k) s:",
        "",
        f"- binary and binomial: log k = {numbers(binary)} in (1, log s, log N, (log N)^2, "
        "log(N / 4I))",
        f"- Poisson: log k = {numbers(counts)} in (1, log s, log I)",
        "",
        f"Where the bias is over {100 * LEAST:.0f} % and known to 2 %, it is {ratio.min():.2f} to "
        f"{ratio.max():.2f} times the formula's ({100 * np.mean(np.abs(ratio - 1) <= SPREAD):.0f} "
        f"% of the designs within {1 - SPREAD:g} to {1 + SPREAD:g}, the range that the warning "
        f"states). Of binary responses b loses "
        f"{(binary_rows.slope_bias / binary_rows.sd_bias).median():.2f} times the SD's share "
        f"(median); of counts next to nothing. The warning is given "
        f"where the formula says {100 * LEAST:.0f} % or more.",
        "",
        f"Written by `{command}`.",
        "",
    ]
    return "\n".join(lines)


def numbers(values) -> str:
    """Write coefficients with three decimals."""
    return "(" + ", ".join(f"{v:.3f}" for v in values) + ")"


def percent(value: float, error: float) -> str:
    """``-12 ± 2``."""
    return f"{100 * value:.0f} ± {100 * error:.0f}"


def main() -> None:
    """Run the study and write its report."""
    parser = argparse.ArgumentParser(prog="python -m studies.pql_bias", description=__doc__)
    parser.add_argument("--datasets", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report-only", action="store_true", help="from the numbers that exist")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    started, path = perf_counter(), given.out / "pql_bias.csv"
    command = f"python -m studies.pql_bias --datasets {given.datasets} --seed {given.seed}"
    if not given.report_only:
        given.out.mkdir(parents=True, exist_ok=True)
        with one_blas_thread(), np.errstate(all="ignore"):
            rows = [study(cell, given.datasets, given.seed) for cell in cells()]
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
    text = report(pd.read_csv(path), command)
    (given.out / "pql_bias.md").write_text(text, encoding="utf-8", newline="\n")
    print(f"{text}\n{perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
