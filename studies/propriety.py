"""A sweep of random small designs and priors: verdicts against integrated likelihoods.

Run ``python -m studies.propriety`` (about ten minutes); it writes ``studies/results/propriety.md``.
Each case is a design of a few groups, a family, and priors. The package's verdict comes from
linear programming; the number it is held against is the slope of the likelihood, integrated
on grids by code that shares nothing with the package (``studies/tails.py``). A case in which
a verdict "proper" meets a posterior that does not exist, or the reverse, is a contradiction.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

import bayes_glmm as bg

from .tails import Small, diverges, slope

CASES = 1000
SEED = 1
ROUNDING = 0.3  # a slope further than this from an integer decides nothing
NORMAL = 2.0
OUT = Path(__file__).parent / "results" / "propriety.md"


@dataclass(frozen=True, eq=False)
class Case:
    """A design and its priors; ``normal`` is the SD of the coefficients' prior, None for flat."""

    small: Small
    sd: tuple[bg.Priors, ...]  # one prior per random column
    normal: float | None

    def model(self) -> bg.GLMM:
        """Make the package's model."""
        beta = bg.Flat() if self.normal is None else bg.Normal(0, self.normal)
        names = {"1": "Intercept", "x": "x"}
        small = self.small
        chosen = {f"g[{names[c]}]": p for c, p in zip(small.random, self.sd, strict=True)}
        chosen = {"sd_for": chosen, "allow_improper": True}
        chosen |= {"intercept": beta} if "1" in small.fixed else {}
        chosen |= {"beta": beta} if "x" in small.fixed else {}
        frame = pd.DataFrame(small.columns)
        priors = bg.Priors(**chosen)
        return bg.GLMM(small.formula, frame, family=small.family, link=small.link, priors=priors)

    def numerically(self) -> str:
        """Decide by integration: "exists", "does not exist" or "not decided"."""
        if any(prior.origin <= -1 for prior in self.sd):
            return "does not exist"
        if self.normal is None and diverges(self.small):
            return "does not exist"
        clear = True
        for S in _subsets(self.small.random):
            alphas = [p.tail for c, p in zip(self.small.random, self.sd, strict=True) if c in S]
            if not np.isfinite(alphas).all():
                continue
            found = slope(self.small, S, self.normal)
            if np.isnan(found) or abs(found - round(found)) > ROUNDING:
                clear = False
            elif sum(1.0 - a for a in alphas) + round(found) >= 0:
                return "does not exist"
        return "exists" if clear else "not decided"


def _subsets(columns: tuple) -> Iterator[tuple]:
    for size in range(1, len(columns) + 1):
        yield from combinations(columns, size)


def random_case(rng: np.random.Generator) -> Case:
    """Draw a design and priors; half of the designs have a covariate."""
    family, link = [
        ("bernoulli", "logit"),
        ("bernoulli", "probit"),
        ("bernoulli", "cloglog"),
        ("binomial", "logit"),
        ("poisson", "log"),
    ][rng.integers(5)]
    fixed, random = [
        (("1",), ("1",)),
        (("1",), ("1",)),
        (("x",), ("1",)),
        (("1",), ("x",)),
        (("1", "x"), ("1",)),
        (("1", "x"), ("x",)),
        (("1",), ("1", "x")),
    ][rng.integers(7)]
    levels = int(rng.integers(2, 6))
    group = np.repeat(np.arange(levels), rng.integers(1, 4, levels))
    n = len(group)
    x = rng.choice([-1.0, 0.0, 1.0, 2.0], n)
    x[rng.integers(n)] = 1.0
    if {"1", "x"} <= set(fixed) and len(set(x)) == 1:
        x[0] -= 1.0
    trials = np.full(n, 2.0) if family == "binomial" else None
    chance = np.clip(rng.beta(0.7, 0.7, levels)[group], 0.02, 0.98)
    if family == "poisson":
        y = rng.poisson(-np.log(chance) * 0.7)
    else:
        y = rng.binomial(1 if trials is None else 2, chance)
    small = Small(y.astype(float), x, group, fixed, random, family, link, trials)
    sd = tuple(random_prior(rng) for _ in random)
    return Case(small, sd, None if rng.random() < 0.6 else NORMAL)


def random_prior(rng: np.random.Generator):
    """Draw a prior of a standard deviation, most with a power tail."""
    return [
        lambda: bg.Flat(),
        lambda: bg.Uniform(0, np.inf, on="variance"),
        lambda: bg.Power(float(rng.choice([-3, -2, -0.5, 0.5, 1.0]))),
        lambda: bg.HalfCauchy(1),
        lambda: bg.HalfStudentT(float(rng.choice([0.5, 2, 3])), 1),
        lambda: bg.InverseGamma(float(rng.choice([0.01, 0.5, 1])), 0.5),
        lambda: bg.InverseGamma(0, 0.5),
        lambda: bg.HalfNormal(1),
    ][rng.integers(8)]()


def _flat_sd(prior):
    return bg.Uniform(0, np.inf) if isinstance(prior, bg.Flat) else prior


def sweep(cases: int = CASES, seed: int = SEED, say=lambda text: None) -> pd.DataFrame:
    """Check ``cases`` random cases; one row each."""
    rng = np.random.default_rng(seed)
    rows = []
    while len(rows) < cases:
        case = random_case(rng)
        case = Case(case.small, tuple(map(_flat_sd, case.sd)), case.normal)
        try:
            model = case.model()
        except ValueError as error:
            if "rank" in str(error) or "zero in every row" in str(error):
                continue  # columns that the package refuses
            raise
        report = bg.check_propriety(model)
        rows.append(
            {
                "verdict": report.verdict,
                "numerically": case.numerically(),
                "design": case.small.formula,
                "family": f"{case.small.family}, {case.small.link}",
                "coefficients": "flat" if case.normal is None else "normal",
                "sd": "; ".join(p.describe() for p in case.sd),
                "kappa": report.kappa,
                "y": case.small.y.astype(int).tolist(),
                "x": case.small.x.tolist(),
                "group": case.small.group.tolist(),
            }
        )
        if len(rows) % 50 == 0:
            say(f"{len(rows)} of {cases}")
    return pd.DataFrame(rows)


def contradictions(table: pd.DataFrame) -> pd.DataFrame:
    """Rows whose verdict and number exclude each other."""
    exists = table.verdict.isin(["proper", "likely proper"])
    wrong = exists & (table.numerically == "does not exist")
    wrong |= (table.verdict == "improper") & (table.numerically == "exists")
    return table[wrong]


def write(table: pd.DataFrame, path: Path = OUT) -> None:
    """Write the counts."""
    counts = Counter(zip(table.verdict, table.numerically, strict=True))
    columns = ("exists", "does not exist", "not decided")
    lines = [
        "# Verdicts of the propriety check against integrated likelihoods",
        "",
        f"{len(table)} random small designs and priors (seed {SEED}), written by",
        "`python -m studies.propriety`. Rows: what `check_propriety` says, by linear programming.",
        "Columns: what the likelihood integrated on grids says, by its slope far out; *not",
        f"decided* where the slope is further than {ROUNDING} from an integer or the grid too "
        "narrow.",
        "",
        f"| verdict | {' | '.join(columns)} |",
        "|---|---:|---:|---:|",
    ]
    for verdict in ("proper", "likely proper", "improper", "unknown"):
        cells = " | ".join(str(counts[verdict, column]) for column in columns)
        lines.append(f"| {verdict} | {cells} |")
    lines += ["", f"Contradictions: {len(contradictions(table))}.", "", "By design:", ""]
    lines += ["| design | cases | proper | likely proper | improper |", "|---|---:|---:|---:|---:|"]
    for name, rows in table.groupby("design"):
        said = Counter(rows.verdict)
        row = (name, len(rows), said["proper"], said["likely proper"], said["improper"])
        lines.append(
            f"| `{row[0].replace('|', chr(92) + '|')}` | {' | '.join(map(str, row[1:]))} |"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)
    found = sweep(say=lambda text: print(text, file=sys.stderr, flush=True))
    write(found)
    print(OUT.read_text(encoding="utf-8"))
    if len(contradictions(found)):
        print(contradictions(found).to_string())
        sys.exit(1)
