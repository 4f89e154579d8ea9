"""The data of the benchmark: the package's own, and simulated clusters."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import bayes_glmm as bg

SIMULATED, CROSSED, COMPLETE, NESTED = "simulated", "crossed", "complete", "nested"
RATINGS = "ratings"


@cache
def frame(name: str) -> pd.DataFrame:
    """Return a data set by name; ``simulated-20000`` has 20,000 groups of five rows.

    ``crossed-10000`` and ``nested-10000`` have 10,000 rows, ``complete-316`` each of 316
    levels with each of 24 others once.

    ``ratings-70000`` has 70,000 rows of a linear model. cbpp gets the column ``healthy``, because
    the package glmm takes column names only inside ``cbind()``; milk gets ``time2``, the square of
    ``time``, because formula languages write it differently.
    """
    kind, _, size = name.partition("-")
    if kind in MAKERS:
        return MAKERS[kind](int(size))
    data = bg.load_dataset(name)
    if name == "cbpp":
        return data.assign(healthy=data["size"] - data["incidence"])
    return data.assign(time2=data["time"] ** 2) if name == "milk" else data


def simulated_clusters(groups: int, rows: int = 5, seed: int = 1) -> pd.DataFrame:
    """Simulate a random-intercept logistic model: sd 1, one covariate per row, one per group."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=g.size)
    z = rng.integers(0, 2, size=groups)[g]
    eta = -0.5 + 0.5 * x + 0.3 * z + rng.normal(size=groups)[g]
    y = (rng.random(g.size) < 1 / (1 + np.exp(-eta))).astype(int)
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": g})


def simulated_crossed(rows: int, seed: int = 1) -> pd.DataFrame:
    """Simulate two crossed factors: a level of ``g`` per 20 rows, 100 levels of ``h``."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(rows // 20, size=rows), rng.integers(100, size=rows)
    eta = rng.normal(size=rows // 20)[g] + 0.7 * rng.normal(size=100)[h]
    return _binary(rng, eta, {"g": g, "h": h})


def simulated_complete(levels: int, seed: int = 1) -> pd.DataFrame:
    """Simulate a complete crossing: each of ``levels`` levels of ``g`` once with 24 of ``h``."""
    rng = np.random.default_rng(seed)
    g, h = np.repeat(np.arange(levels), 24), np.tile(np.arange(24), levels)
    eta = rng.normal(size=levels)[g] + 0.7 * rng.normal(size=24)[h]
    return _binary(rng, eta, {"g": g, "h": h})


def simulated_nested(rows: int, seed: int = 1) -> pd.DataFrame:
    """Simulate three nested factors: 5 rows a ``g``, 10 ``g`` an ``h``, 20 ``h`` a ``k``."""
    rng = np.random.default_rng(seed)
    g = np.arange(rows) // 5
    h, k = g // 10, g // 200
    sizes = [int(f[-1]) + 1 for f in (g, h, k)]
    effects = [
        sd * rng.normal(size=m)[f]
        for sd, m, f in zip((1.0, 0.5, 0.5), sizes, (g, h, k), strict=True)
    ]
    return _binary(rng, np.sum(effects, axis=0), {"g": g, "h": h, "k": k})


def simulated_ratings(rows: int, seed: int = 1) -> pd.DataFrame:
    """Simulate ratings like lme4's InstEval: 3,000 raters crossed with 1,100 rated at 70,000 rows.

    Standard deviations .33, .52 and 1.18, those of InstEval.
    """
    rng = np.random.default_rng(seed)
    raters, rated = rows * 3 // 70, rows * 11 // 700
    rater, other = rng.integers(raters, size=rows), rng.integers(rated, size=rows)
    service = rng.integers(2, size=rows)
    effects = 0.33 * rng.normal(size=raters)[rater] + 0.52 * rng.normal(size=rated)[other]
    y = 3.2 - 0.1 * service + effects + 1.18 * rng.normal(size=rows)
    return pd.DataFrame({"y": y, "service": service, "rater": rater, "rated": other})


def _binary(rng, random_part: np.ndarray, groups: dict) -> pd.DataFrame:
    """Draw a logistic response with one covariate."""
    x = rng.normal(size=len(random_part))
    eta = -0.5 + 0.5 * x + random_part
    y = (rng.random(len(x)) < 1 / (1 + np.exp(-eta))).astype(int)
    return pd.DataFrame({"y": y, "x": x, **groups})


MAKERS = {
    SIMULATED: simulated_clusters,
    CROSSED: simulated_crossed,
    COMPLETE: simulated_complete,
    NESTED: simulated_nested,
    RATINGS: simulated_ratings,
}


def factors(data: pd.DataFrame) -> dict[str, list[str]]:
    """Return the levels of every categorical column, in their order."""
    return {
        column: [str(level) for level in data[column].cat.categories]
        for column in data.columns
        if isinstance(data[column].dtype, pd.CategoricalDtype)
    }


def write_csv(name: str, folder: Path) -> Path:
    """Write a data set where R can read it."""
    path = folder / f"{name}.csv"
    if not path.exists():
        frame(name).to_csv(path, index=False)
    return path
