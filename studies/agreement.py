r"""Whether `Integrated()` samples the posterior that NUTS samples from the graph.

Both have the same target, written twice: PyMC's graph with every effect sampled, and a density
whose effects are integrated out by quadrature and drawn afterwards. Their posteriors are compared
at lengths where a difference would show: both are sampled again and again, every time with seeds
and warm-up of their own, until each quantity has ``WANTED`` effective draws of its mean and of its
square, the least of which says how well the SD is known: that of a normal quantity to
``1 / sqrt(2 WANTED)`` = 1 %, the ratio of two such SDs to 1.4 %.

Means are to differ by at most 4 Monte Carlo standard errors, SDs by at most 5 %. The quantities
are all coefficients, SDs, correlations and dispersions, and the effects of ``LEVELS`` levels of
each factor.

Run it as ``python -m studies.agreement``; an hour and a half on two idle cores, nearly all of it
NUTS. The salamander data are downloaded, or read from the folder ``BAYES_GLMM_DATA``.
"""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

import bayes_glmm as bg
from bayes_glmm.agreement import LIMIT, compared
from bayes_glmm.datatree import draws_of

WANTED = 5000  # effective draws of every quantity and of its square
ROUNDS = 40  # at most, of each sampler
LEVELS = 3  # of each factor, evenly spaced
SDS = 0.05  # by which posterior SDs may differ
NUTS = bg.NUTS(draws=5000, target_accept=0.95)
INTEGRATED = bg.Integrated(draws=4000)
HERE = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """A model of a data set, under the default priors.

    Attributes
    ----------
    title
        What it is, in words.
    formula, family
        Of the model.
    data
        Name of a data set of the package, or what simulates one.
    """

    title: str
    formula: str
    family: str
    data: str | Callable[[], pd.DataFrame]

    @property
    def model(self) -> bg.GLMM:
        """Build it."""
        frame = bg.load_dataset(self.data) if isinstance(self.data, str) else self.data()
        return bg.GLMM(self.formula, frame, family=self.family)


COLUMNS = 38  # beside the intercept and x


def many_columns() -> pd.DataFrame:
    """Simulate 100 groups of 20 binary responses and 39 columns, correlated and off centre."""
    rng = np.random.default_rng(8)
    index = np.repeat(np.arange(100), 20)
    common = rng.standard_normal(2000)
    columns = 2.0 + 0.5 * common[:, None] + rng.standard_normal((2000, COLUMNS))
    frame = pd.DataFrame(columns, columns=[f"v{k}" for k in range(COLUMNS)])
    x = rng.standard_normal(2000)
    slopes = rng.normal(0.0, 0.2, COLUMNS)
    eta = 0.5 * x + (columns - 2.0) @ slopes + rng.standard_normal(100)[index]
    y = (rng.random(2000) < 1.0 / (1.0 + np.exp(-eta))).astype(int)
    return frame.assign(y=y, x=x, g=[f"g{k}" for k in index])


EPIL = "y ~ log_base4 * trt + log_age"
TICKS = "ticks ~ year + height_scaled"
CASES = {
    "cbpp": Case(
        "cbpp: binomial counts, 15 herds",
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", "cbpp",
    ),
    "bacteria": Case(
        "bacteria: binary, 50 children", "y01 ~ trt + week_gt2 + (1 | id)", "bernoulli",
        "bacteria",
    ),
    "epil-2": Case(
        "epil, model II: counts, 59 patients", EPIL + " + v4 + (1 | subject)", "poisson", "epil"
    ),
    "epil-3": Case(
        "epil, model III: an effect of each of the 236 rows as well",
        EPIL + " + v4 + (1 | subject) + (1 | obs)", "poisson", "epil",
    ),
    "epil-4": Case(
        "epil, model IV: correlated intercepts and slopes",
        EPIL + " + visit + (visit | subject)", "poisson", "epil",
    ),
    "sleepstudy": Case(
        "sleepstudy: normal, correlated intercepts and slopes of 18 subjects",
        "reaction ~ days + (days | subject)", "gaussian", "sleepstudy",
    ),
    "grouseticks-1": Case(
        "grouseticks: counts, 118 broods", TICKS + " + (1 | brood)", "poisson", "grouseticks"
    ),
    "salamander": Case(
        "salamander: binary, 60 females and 60 males crossed",
        "mate ~ type_f * type_m + (1 | female) + (1 | male)", "bernoulli", "salamander",
    ),
    "grouseticks-3": Case(
        "grouseticks: 403 chicks in 118 broods in 63 locations",
        TICKS + " + (1 | index) + (1 | brood) + (1 | location)", "poisson", "grouseticks",
    ),
    "ohio": Case(
        "ohio: binary, 537 children", "resp ~ age * smoke + (1 | id)", "bernoulli", "ohio"
    ),
    "toenail": Case(
        "toenail: binary, 294 patients who differ widely",
        "y01 ~ treatment * time + (1 | patient_id)", "bernoulli", "toenail",
    ),
    "p40": Case(
        "40 coefficients: binary, 100 groups of 20, simulated",
        "y ~ x + " + " + ".join(f"v{k}" for k in range(COLUMNS)) + " + (1 | g)", "bernoulli",
        many_columns,
    ),
}  # fmt: skip


def quantities(fit) -> dict[str, np.ndarray]:
    """Draws ``(chains, draws)`` of the parameters and of the effects of a few levels."""
    found = draws_of(fit)
    for block in fit.model.design.groups:
        effects = fit.draws["posterior"][f"b_{block.group}"].to_numpy()
        for level in np.linspace(0, len(block.levels) - 1, LEVELS).astype(int):
            for k, column in enumerate(block.columns):
                name = f"{column} of {block.group} {block.levels[level]}"
                found[name] = effects[:, :, level, k]
    return found


@dataclass(frozen=True, eq=False)
class Long:
    """Draws of one sampler, in rounds with seeds of their own.

    Attributes
    ----------
    draws
        ``(chains, draws)`` by quantity; every round adds chains.
    rounds, divergences, remarks
        How many rounds, divergent transitions in all of them, and the codes of the warnings
        that the fits gave themselves.
    details
        Of the first round's fit.
    """

    draws: dict[str, np.ndarray]
    rounds: int
    divergences: int
    remarks: tuple[str, ...]
    details: dict

    @property
    def effective(self) -> pd.DataFrame:
        """R-hat and effective draws of each quantity, and of its square about the mean."""
        from arviz_stats.base.array import array_stats

        values = np.stack(list(self.draws.values()), axis=-1)
        axes: Any = {"chain_axis": 0, "draw_axis": 1}
        squares = (values - values.mean(axis=(0, 1))) ** 2
        table = {
            "rhat": array_stats.rhat(values, **axes),
            "ess": array_stats.ess(values, method="mean", **axes),
            "ess_squares": array_stats.ess(squares, method="mean", **axes),
        }
        return pd.DataFrame(table, index=list(self.draws))

    @property
    def least(self) -> float:
        """Least effective number of draws of a quantity or of its square."""
        return float(self.effective[["ess", "ess_squares"]].to_numpy().min())


def sample_long(model: bg.GLMM, method, wanted: float, rounds: int) -> Long:
    """Sample round by round until every quantity has ``wanted`` effective draws."""
    found: dict[str, list[np.ndarray]] = {}
    divergences, remarks, details = 0, [], {}
    for k in range(rounds):
        fit = model.fit(replace(method, seed=method.seed + k))
        for name, draws in quantities(fit).items():
            found.setdefault(name, []).append(draws)
        divergences += fit.details["divergences"]
        remarks += [m.code for m in fit.messages if m.severity != "info"]
        details = details or dict(fit.details)
        pooled = {name: np.concatenate(parts) for name, parts in found.items()}
        long = Long(pooled, k + 1, divergences, tuple(dict.fromkeys(remarks)), details)
        least = long.least
        logging.getLogger("studies").info("%s, round %d: %.0f", method.label, k + 1, least)
        if least >= wanted:
            break
    return long


def compare(model: bg.GLMM, wanted: float = WANTED, rounds: int = ROUNDS):
    """Sample both ways and compare.

    Returns
    -------
    table, run
        A row a quantity; and how the samplers went.
    """
    exact = sample_long(model, INTEGRATED, wanted, rounds)
    nuts = sample_long(model, NUTS, wanted, rounds)
    table = compared(exact.draws, nuts.draws)
    for name, long in (("integrated", exact), ("nuts", nuts)):
        table[f"mean_{name}"] = [x.mean() for x in long.draws.values()]
        table[f"sd_{name}"] = [x.std(ddof=1) for x in long.draws.values()]
        for column, values in long.effective.items():
            table[f"{column}_{name}"] = values.to_numpy()
    run = {
        "sampler": exact.details["sampler"],
        "khat": exact.details.get("khat", np.nan),
        "nodes": exact.details["nodes"],
        "integrated_draws": exact.rounds * INTEGRATED.draws * INTEGRATED.chains,
        "integrated_remarks": " ".join(exact.remarks),
        "nuts_draws": nuts.rounds * NUTS.draws * NUTS.chains,
        "nuts_remarks": " ".join(nuts.remarks),
        "divergences": nuts.divergences,
    }
    return table, run


# the report


def report(table: pd.DataFrame, runs: pd.DataFrame, command: str) -> str:
    """Write what was found: the worst quantity of each model, then all quantities."""
    farthest = np.abs(table["z"]).max()
    ratio = np.abs(table["sd_ratio"] - 1).max()
    lines = [
        "# `Integrated()` against long runs of NUTS",
        "",
        "Two ways to one posterior under the default priors: `NUTS()` samples every effect on the "
        "graph of `build_graph`, `Integrated()` integrates the largest factor's effects out by "
        f"quadrature and draws them afterwards. Each was run in rounds (NUTS {NUTS.chains} chains "
        f"of {NUTS.draws} draws, `target_accept={NUTS.target_accept}`, `Integrated` "
        f"{INTEGRATED.chains} of {INTEGRATED.draws}) until every quantity and its square had "
        f"{WANTED:,} effective draws, as far as {ROUNDS} rounds allow.",
        "",
        f"Of {len(table)} quantities of {len(runs)} models the means differ by at most "
        f"{farthest:.1f} Monte Carlo standard errors of their difference (asked: {LIMIT:g}; "
        f"{np.mean(np.abs(table['z']) > 2):.1%} differ by more than 2, by chance 4.6 %), the SDs "
        f"by at most {ratio:.1%} (asked: {SDS:.0%}; the Monte Carlo error of a ratio is "
        f"{table['sd_ratio_mcse'].median():.1%} at the median and "
        f"{table['sd_ratio_mcse'].max():.1%} at most).",
        "",
        "| model | quantities | largest difference of means, in MCSE | SD ratio farthest from 1 "
        "(± its Monte Carlo error) |",
        "|---|---:|---|---|",
    ]
    for name, part in table.groupby("case", sort=False):
        rows = part.to_dict("records")
        mean = max(rows, key=lambda row: abs(row["z"]))
        sd = max(rows, key=lambda row: abs(np.log(row["sd_ratio"])))
        lines.append(
            f"| {CASES[str(name)].title} | {len(part)} | {mean['z']:+.1f} ({mean['parameter']}) | "
            f"{sd['sd_ratio']:.3f} ± {sd['sd_ratio_mcse']:.3f} ({sd['parameter']}) |"
        )
    lines += [
        "",
        "## How the samplers went",
        "",
        "| model | `Integrated` by | k-hat | nodes | draws | least ESS | NUTS draws | least ESS | "
        "R-hat | divergences |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for run in runs.to_dict("records"):
        part = table.loc[table["case"] == run["case"]]
        mine, theirs = (
            min(part[f"ess_{of}"].min(), part[f"ess_squares_{of}"].min())
            for of in ("integrated", "nuts")
        )
        khat = f"{run['khat']:.2f}" if np.isfinite(run["khat"]) else ""
        lines.append(
            f"| {CASES[run['case']].title} | {run['sampler']} | {khat} | {run['nodes']} | "
            f"{run['integrated_draws']} | {mine:.0f} | {run['nuts_draws']} | {theirs:.0f} | "
            f"{part['rhat_nuts'].max():.3f} | {run['divergences']} |"
        )
    lines += [
        "",
        "*least ESS*: effective draws of the quantity, or of its square, that has fewest. "
        "*R-hat*: over the chains of all rounds.",
        "",
    ]
    for name, part in table.groupby("case", sort=False):
        case = CASES[str(name)]
        lines += [f"## {case.title}", "", f"`{case.formula}`", ""]
        lines += [
            "| quantity | mean | SD | difference / MCSE | SD ratio |",
            "|---|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {row['parameter']} | {row['mean_nuts']:.4g} | {row['sd_nuts']:.4g} | "
            f"{row['z']:+.1f} | {row['sd_ratio']:.3f} ± {row['sd_ratio_mcse']:.3f} |"
            for row in part.to_dict("records")
        ]
        lines.append("")
    lines += ["Means and SDs are those of NUTS.", "", f"Written by `{command}`.", ""]
    return "\n".join(lines)


def update(path: Path, table: pd.DataFrame) -> None:
    """Replace the rows of a model in a committed table."""
    if path.exists():
        before = pd.read_csv(path, keep_default_na=False, na_values=[""])
        kept = before.loc[~before["case"].isin(table["case"])]
        table = pd.concat([kept, table], ignore_index=True) if len(kept) else table
    order = pd.Categorical(table["case"], list(CASES)).codes.argsort(kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")


def write(folder: Path, command: str) -> None:
    """Write the report from the tables that a folder holds."""
    table, runs = (pd.read_csv(folder / name) for name in ("agreement.csv", "agreement_runs.csv"))
    text = report(table, runs, command)
    (folder / "agreement.md").write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    """Run the study, model by model, and write its report anew after each."""
    parser = argparse.ArgumentParser(prog="python -m studies.agreement", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    what.add_argument("--report", action="store_true", help="write it from the tables of before")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    command = "python -m studies.agreement"
    for name in [] if given.report else given.only:
        started = perf_counter()
        table, run = compare(CASES[name].model)
        update(given.out / "agreement.csv", table.assign(case=name))
        update(given.out / "agreement_runs.csv", pd.DataFrame([{"case": name, **run}]))
        write(given.out, command)
        farthest, ratio = table["z"].abs().max(), (table["sd_ratio"] - 1).abs().max()
        seconds = perf_counter() - started
        print(f"{name}: {run}, z {farthest:.1f}, SDs {ratio:.1%}, {seconds:.0f} s", flush=True)
    write(given.out, command)


if __name__ == "__main__":
    main()
