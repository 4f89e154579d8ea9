r"""Size of the test of a zero variance: how often it rejects when there is no variance.

Groups of five Bernoulli responses, ``logit P(y = 1) = 0`` in every group, are fitted with and
without ``b_g ~ N(0, sd^2)``. The likelihood ratio is compared with

- the mixture ``chi2(0) / 2 + chi2(1) / 2`` (what ``boundary_test`` reports as ``p_value``),
- the naive ``chi2(1)`` (``p_naive``),
- the parametric bootstrap (``p_boot``) in its warp-speed form (Giacomini, Politis & White 2013,
  *Econometric Theory* 29): one bootstrap data set for each data set, pooled.

Run it as ``python -m studies.boundary_size``; some minutes on one core.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from scipy.stats import chi2

import bayes_glmm as bg
from bayes_glmm.frequentist.bootstrap import Failed, lifted, refit, replicated
from bayes_glmm.frequentist.likelihood import Likelihood

SIZE, NODES = 5, 9
LEVELS = (0.05, 0.10)
HERE = Path(__file__).parent / "results"


class Setting:
    """The two models of data sets with a number of groups."""

    def __init__(self, groups: int):
        self.groups = groups
        y = np.tile([0, 1, 0, 1, 1], groups)
        data = pd.DataFrame({"y": y, "g": np.repeat(np.arange(groups), SIZE)})
        model = bg.GLMM("y ~ 1 + (1 | g)", data, family="bernoulli")
        self.large = Likelihood.of(model, NODES)
        self.small = self.large.with_factors([])
        self.start = lifted(self.large, self.large.outer(self.large.start[0]))

    def ratio(self, y: np.ndarray) -> tuple[float, float]:
        """Likelihood ratio, and the fitted probability under the null."""
        null = self.small.with_rows(replace(self.small.rows, y=y)).maximise()
        start = self.start.copy()
        start[0] = null.x[0]
        ratio = 2.0 * (refit(self.large, y, start).loglik - null.loglik)
        if ratio < -1e-6:
            raise RuntimeError("the larger model ended below the smaller one")
        return max(ratio, 0.0), float(y.mean())

    def pair(self, rng: np.random.Generator) -> tuple[float, float]:
        """One data set's ratio, and that of one data set simulated from its null fit."""
        n = self.groups * SIZE
        ratio, probability = self.ratio(rng.binomial(1, 0.5, n).astype(float))
        return ratio, self.ratio(rng.binomial(1, probability, n).astype(float))[0]


def study(groups: int, datasets: int, seed: int, workers: int | None) -> dict:
    """Rejection rates with one number of groups."""
    sequence = np.random.SeedSequence(seed, spawn_key=(groups,))
    what = f"data sets of {groups} groups"
    found = replicated(Setting(groups).pair, sequence, datasets, workers, True, what)
    good = np.array([f for f in found if not isinstance(f, Failed)])
    ratios, pool = good.T
    at_least = len(pool) - np.searchsorted(np.sort(pool), ratios - 1e-6)
    p = {
        "mixture": np.where(ratios > 1e-6, 0.5 * chi2.sf(ratios, 1), 1.0),
        "naive": chi2.sf(ratios, 1),
        "bootstrap": (1 + at_least) / (1 + len(pool)),
    }
    row = {"groups": groups, "datasets": len(good), "failed": datasets - len(good)}
    row["zero_share"] = float(np.mean(ratios <= 1e-6))
    for name, values in p.items():
        for level in LEVELS:
            row[f"{name}_{100 * level:g}"] = float(np.mean(values <= level))
    return row


def report(table: pd.DataFrame, command: str) -> str:
    """Write the table with Monte Carlo standard errors, and what it says."""
    kinds = [c for c in table if c.startswith(("mixture", "naive", "bootstrap"))]
    heads = [c.replace("_", " at ") + " %" for c in kinds]
    lines = [
        "# Size of the test of a zero variance",
        "",
        f"Groups of {SIZE} Bernoulli responses (logit link) without any variation between groups; "
        f"random-intercept model by adaptive quadrature with {NODES} nodes against the model "
        "without random effects. Rejections in per cent of the data sets, with their Monte Carlo "
        "standard errors; P(LR = 0) is the share of likelihood ratios that are zero.",
        "",
        f"| groups | data sets | failed | P(LR = 0) | {' | '.join(heads)} |",
        "|" + "---:|" * (4 + len(heads)),
    ]
    for r in table.to_dict("records"):
        cells = [percent(r[c], r["datasets"]) for c in ("zero_share", *kinds)]
        lines.append(f"| {r['groups']} | {r['datasets']} | {r['failed']} | {' | '.join(cells)} |")
    lines += [
        "",
        "- *mixture*: `chi2(0)/2 + chi2(1)/2`, the `p_value` of `boundary_test`. It takes "
        "P(LR = 0) to be one half; with few groups more ratios are zero, and the test is "
        "conservative.",
        "- *naive*: `chi2(1)`, which ignores the boundary.",
        "- *bootstrap*: the parametric bootstrap in its warp-speed form, one bootstrap data set "
        "for each data set (Giacomini, Politis & White 2013): the `p_boot` of `boundary_test`. Its "
        "critical value is simulated too, so that its standard error is about 1.4 times as large.",
        "",
        f"Written by `{command}`.",
        "",
    ]
    return "\n".join(lines)


def percent(share: float, n: int) -> str:
    """``5.1 ± 0.5``."""
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / n):.1f}"


def main() -> None:
    """Run the study and write its report."""
    parser = argparse.ArgumentParser(prog="python -m studies.boundary_size", description=__doc__)
    parser.add_argument("--datasets", type=int, default=2000)
    parser.add_argument("--groups", type=int, nargs="+", default=[10, 20, 30, 100])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=None, help="threads; default: cores")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    started = perf_counter()
    rows = [study(g, given.datasets, given.seed, given.workers) for g in given.groups]
    table = pd.DataFrame(rows)
    groups = " ".join(map(str, given.groups))
    command = (
        f"python -m studies.boundary_size --datasets {given.datasets} --groups {groups} "
        f"--seed {given.seed}"
    )
    given.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(given.out / "boundary_size.csv", index=False, lineterminator="\n")
    text = report(table, command)
    (given.out / "boundary_size.md").write_text(text, encoding="utf-8", newline="\n")
    print(f"{text}\n{perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
