r"""Simulation-based calibration: that the posterior sampled is the posterior of the model.

Parameters are drawn from their priors, data from the model at them, and the posterior is sampled
given the data. The rank of each true value among ``DRAWS`` posterior draws is then uniform, if
and only if the sampler draws from that posterior (Talts, Betancourt, Simpson, Vehtari & Gelman
2018, arXiv:1804.06788). The joint log-likelihood is ranked too: it finds errors that leave each
parameter's rank uniform (Modrák et al. 2023, *Bayesian Analysis*).

Ranks are held against the simultaneous 95 % envelope of the empirical distribution function of
uniform numbers (Säilynoja, Bürkner & Vehtari 2022, *Statistics and Computing* 32), by ArviZ.

Run it as ``python -m studies.calibration``; about twenty minutes on two idle cores.
"""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.ecdf_utils import ecdf_pit

import bayes_glmm as bg
from bayes_glmm.bayesian.tree import linear_predictor, log_densities

from .figures import envelopes

DRAWS = 99  # of each posterior; ranks are 0 … 99
ENVELOPE, REPLICATES = 0.95, 2000
HERE = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Structure:
    """A model to simulate from.

    Attributes
    ----------
    title
        What it is, in words.
    formula, family, priors
        Of the model, every prior stated.
    rows
        Makes the covariates and groups.
    link
        None is the family's own.
    draws
        Of each of four chains. With several factors NUTS samples: a quarter of the usual is
        plenty for ``DRAWS`` ranks, and half as long.
    """

    title: str
    formula: str
    family: str
    priors: bg.Priors
    rows: Callable[[np.random.Generator], pd.DataFrame]
    link: str | None = None
    draws: int = 1000

    def model(self, frame: pd.DataFrame, y) -> bg.GLMM:
        """Build the model of responses ``y``."""
        given = {"family": self.family, "link": self.link, "priors": self.priors}
        return bg.GLMM(self.formula, frame.assign(y=y), **given)


def one_factor(groups: int, size: int, **columns) -> Callable:
    """Make groups of ``size`` rows, with a covariate within and one between them."""

    def rows(rng) -> pd.DataFrame:
        index = np.repeat(np.arange(groups), size)
        return pd.DataFrame(
            {"g": index, "x": rng.standard_normal(groups * size), "w": index % 2 * 1.0, **columns}
        )

    return rows


def crossed(first: int, second: int) -> Callable:
    """Make every level of one factor meet every level of the other."""

    def rows(rng) -> pd.DataFrame:
        f, g = np.divmod(np.arange(first * second), second)
        return pd.DataFrame({"f": f, "g": g, "x": rng.standard_normal(first * second)})

    return rows


def nested(outer: int, inner: int, size: int) -> Callable:
    """Rows within groups within groups."""

    def rows(rng) -> pd.DataFrame:
        n = outer * inner * size
        index = np.arange(n)
        return pd.DataFrame(
            {"a": index // (inner * size), "b": index // size, "x": rng.standard_normal(n)}
        )

    return rows


NARROW = bg.Priors(beta=bg.Normal(0, 1), sd=bg.HalfNormal(1))
STRUCTURES = {
    "binomial": Structure(
        "Binomial counts, 12 groups of 3", "cbind(y, n - y) ~ x + w + (1 | g)", "binomial",
        NARROW, one_factor(12, 3, n=8),
    ),
    "bernoulli": Structure(
        "Binary responses, 15 groups of 5", "y ~ x + w + (1 | g)", "bernoulli",
        bg.Priors(beta=bg.StudentT(5, 0, 1), sd=bg.HalfStudentT(4, 1)), one_factor(15, 5),
    ),
    "ones": Structure(
        "Counts with a random effect for each row", "y ~ x + w + (1 | g)", "poisson",
        NARROW, one_factor(30, 1),
    ),
    "slopes": Structure(
        "Counts with correlated intercepts and slopes, 12 groups of 5", "y ~ x + (x | g)",
        "poisson", bg.Priors(beta=bg.Normal(0, 1), sd=bg.HalfNormal(0.7), corr=bg.LKJ(2)),
        one_factor(12, 5),
    ),
    "gaussian": Structure(
        "Normal responses, 10 groups of 4", "y ~ x + w + (1 | g)", "gaussian",
        bg.Priors(beta=bg.Normal(0, 1), sd=bg.Exponential(1), dispersion=bg.Gamma(3, 3)),
        one_factor(10, 4),
    ),
    "negative-binomial": Structure(
        "Negative binomial counts, 12 groups of 6", "y ~ x + (1 | g)", "negative_binomial",
        bg.Priors(beta=bg.Normal(0, 0.7), sd=bg.HalfNormal(0.7), dispersion=bg.Gamma(4, 2)),
        one_factor(12, 6),
    ),
    "probit": Structure(
        "Binary responses, probit link, inverse-gamma variance, 20 groups of 4",
        "y ~ x + (1 | g)", "bernoulli",
        bg.Priors(beta=bg.Normal(0, 0.7), sd=bg.InverseGamma(2, 0.5)), one_factor(20, 4), "probit",
    ),
    "crossed": Structure(
        "Binary responses, 12 by 10 levels crossed", "y ~ x + (1 | f) + (1 | g)", "bernoulli",
        NARROW, crossed(12, 10), draws=250,
    ),
    "nested": Structure(
        "Counts, 3 rows in 4 groups in 8 groups", "y ~ x + (1 | a / b)", "poisson",
        bg.Priors(beta=bg.Normal(0, 0.7), sd=bg.HalfNormal(0.7)), nested(8, 4, 3), draws=250,
    ),
}  # fmt: skip


def calibrate(name: str, simulations: int, seed: int) -> tuple[pd.DataFrame, dict]:
    """Simulate, fit and rank.

    Returns
    -------
    ranks, counts
        Ranks, one column a quantity, one row a simulation; and how many fits were made, failed
        (with the first reason) and did not converge.
    """
    structure = STRUCTURES[name]
    streams = np.random.SeedSequence(seed, spawn_key=(list(STRUCTURES).index(name),)).spawn(2)
    frame = structure.rows(np.random.default_rng(streams[0]))
    template = structure.model(frame, 1)
    truth = template.prior_predictive(simulations, seed=int(streams[1].generate_state(1)[0]))
    ranks, failed, unsettled, samplers = [], [], 0, []
    for k in range(simulations):
        drawn = truth["prior"].isel(draw=[k])
        y = truth["prior_predictive"]["y"].to_numpy()[0, k]
        try:
            model = structure.model(frame, y)
            fit = model.fit(bg.Integrated(draws=structure.draws, seed=k + 1))
        except Exception as error:  # counted, never passed over
            failed.append(f"{type(error).__name__}: {error}")
            continue
        ranks.append(ranks_of(fit, drawn))
        unsettled += not fit.converged
        samplers.append(fit.details["sampler"])
        logging.getLogger("studies").info("%s: %d of %d", name, k + 1, simulations)
    counts = {
        "fits": len(ranks),
        "failed": len(failed),
        "reason": failed[0] if failed else "",
        "unsettled": unsettled,
        "nuts": samplers.count("nuts"),
    }
    return pd.DataFrame(ranks), counts


def ranks_of(fit, truth: xr.DataTree) -> dict[str, int]:
    """Rank each true value among thinned draws; of effects the first level's."""
    posterior = fit.draws["posterior"].to_dataset()
    size = posterior.sizes["chain"] * posterior.sizes["draw"]
    at = np.linspace(0, size - 1, DRAWS).astype(int)
    found = {}
    for name in truth.data_vars:
        value = truth[name].to_numpy()[0, 0]
        draws = posterior[name].to_numpy().reshape(size, *value.shape)[at]
        if name.startswith("b_"):  # first level
            value, draws = value[0], draws[:, 0]
            labels = posterior[f"{name[2:]}_term"].to_numpy()
        else:
            dims = truth[name].dims[2:]
            labels = truth[name][dims[0]].to_numpy() if dims else [""]
        less = (draws < value).sum(axis=0)
        for label, rank in zip(labels, np.atleast_1d(less), strict=True):
            found[f"{name}[{label}]" if label else name] = int(rank)
    likelihood = fit.draws["log_likelihood"]["y"].to_numpy().reshape(size, -1).sum(axis=1)[at]
    found["log-likelihood"] = int((likelihood < log_likelihood(fit.model, truth)).sum())
    return found


def log_likelihood(model, truth: xr.DataTree) -> float:
    """Joint log-likelihood of the data at the true parameters and effects."""
    design = model.design.in_user_order()
    values = {name: truth[name].to_numpy()[0] for name in truth.data_vars}
    effects = [values[f"b_{block.group}"] for block in design.groups]
    eta = linear_predictor(design, values["beta"], effects)
    return float(log_densities(model, design, eta, values.get("dispersion", np.ones(1))).sum())


@dataclass(frozen=True)
class Envelope:
    """Ranks of one quantity against the envelope of uniform ranks.

    Attributes
    ----------
    at, above, low, high
        Points in (0, 1); empirical distribution function and envelope there, less the point.
    """

    at: np.ndarray
    above: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, ranks: np.ndarray, seed: int) -> "Envelope":
        """Compare; ranks are made continuous by a uniform share of one."""
        rng = np.random.default_rng(seed)
        uniform = (ranks + rng.random(len(ranks))) / (DRAWS + 1)
        at, above, low, high = ecdf_pit(uniform, ENVELOPE, REPLICATES, rng=rng)
        return cls(at, above - at, low - at, high - at)

    @property
    def outside(self) -> float:
        """Largest excess over the envelope, in its half width there; at most 0 inside."""
        centre, half = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
        inside = half > 0
        excess = np.abs(self.above - centre)[inside] / half[inside] - 1.0
        return float(np.round(np.max(excess), 9))  # the step itself may lie on the envelope


def report(fits: pd.DataFrame, found: dict, command: str) -> str:
    """Write what was found, one section a structure.

    Parameters
    ----------
    fits
        A row of counts for each structure.
    found
        Structure -> quantity -> Envelope.
    command
        That wrote them.
    """
    every = [e for envelopes in found.values() for e in envelopes.values()]
    lines = [
        "# Simulation-based calibration of `Integrated()`",
        "",
        "Parameters are drawn from the priors, data from the model, and the posterior is sampled "
        f"given the data. The rank of the true value among {DRAWS} posterior draws must be "
        "uniform. For each quantity the empirical distribution function of the ranks is held "
        f"against the simultaneous {100 * ENVELOPE:g} % envelope of uniform ranks: by chance "
        f"{100 - 100 * ENVELOPE:g} % of the quantities leave it. Here "
        f"{sum(e.outside > 0 for e in every)} of {len(every)} do.",
        "",
        "| structure | simulations | failed | not converged | by NUTS | quantities | outside |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in fits.to_dict("records"):
        envelopes = found[row["structure"]]
        out = [f"{q} (by {100 * e.outside:.0f} %)" for q, e in envelopes.items() if e.outside > 0]
        lines.append(
            f"| {STRUCTURES[row['structure']].title} | {row['fits']} | {row['failed']} | "
            f"{row['unsettled']} | {row['nuts']} | {len(envelopes)} | {', '.join(out) or 'none'} |"
        )
    lines += [
        "",
        "*not converged*: fits that said so themselves; they are counted here like the others. "
        "With several factors NUTS gives 4 x 250 draws, enough for ranks but often short of what "
        "a fit asks of itself (R-hat at most 1.01 in every effect, 400 effective draws). "
        "*outside*: by how much of the envelope's half width, at the worst point.",
        "",
    ]
    for name in found:
        lines += [f"## {STRUCTURES[name].title}", "", f"`{STRUCTURES[name].formula}`", ""]
        lines += [f"![Ranks less uniform, with envelope](calibration-{name}.png)", ""]
    lines += [f"Written by `{command}`.", ""]
    return "\n".join(lines)


def update(path: Path, table: pd.DataFrame) -> None:
    """Replace the rows of a structure in a committed table."""
    if path.exists():
        before = pd.read_csv(path, keep_default_na=False)
        kept = before.loc[~before["structure"].isin(table["structure"])]
        table = pd.concat([kept, table], ignore_index=True)
    order = pd.Categorical(table["structure"], list(STRUCTURES))
    table = table.iloc[order.codes.argsort(kind="stable")].reset_index(drop=True)
    table.to_csv(path, index=False, lineterminator="\n")


def envelopes_of(ranks: pd.DataFrame) -> dict[str, dict[str, Envelope]]:
    """Envelope of every quantity of every structure."""
    return {
        str(name): {
            str(quantity): Envelope.of(part["rank"].to_numpy(), seed=1)
            for quantity, part in rows.groupby("quantity", sort=False)
        }
        for name, rows in ranks.groupby("structure", sort=False)
    }


def write(folder: Path, command: str) -> dict[str, dict[str, Envelope]]:
    """Write report and figures from the ranks that a folder holds; return the envelopes."""
    fits = pd.read_csv(folder / "calibration_fits.csv", keep_default_na=False)
    found = envelopes_of(pd.read_csv(folder / "calibration.csv"))
    for name, quantities in found.items():
        (folder / f"calibration-{name}.png").write_bytes(envelopes(quantities).png)
    text = report(fits, found, command)
    (folder / "calibration.md").write_text(text, encoding="utf-8", newline="\n")
    return found


def main() -> None:
    """Run the study, structure by structure, and write its report anew after each."""
    parser = argparse.ArgumentParser(prog="python -m studies.calibration", description=__doc__)
    parser.add_argument("--simulations", type=int, default=250)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", nargs="+", choices=list(STRUCTURES), default=list(STRUCTURES))
    what.add_argument("--report", action="store_true", help="write it from the ranks of before")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    command = f"python -m studies.calibration --simulations {given.simulations} --seed {given.seed}"
    for name in [] if given.report else given.only:
        started = perf_counter()
        ranked, counts = calibrate(name, given.simulations, given.seed)
        long = ranked.melt(var_name="quantity", value_name="rank")
        long.insert(0, "structure", name)
        update(given.out / "calibration.csv", long)
        update(given.out / "calibration_fits.csv", pd.DataFrame([{"structure": name, **counts}]))
        worst = max(e.outside for e in write(given.out, command)[name].values())
        print(f"{name}: {counts}, worst {worst:+.2f}, {perf_counter() - started:.0f} s", flush=True)
    write(given.out, command)


if __name__ == "__main__":
    main()
