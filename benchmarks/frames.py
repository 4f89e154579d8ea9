"""The data of the benchmark: the package's own, and simulated clusters."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import bayes_glmm as bg

SIMULATED = "simulated"


@cache
def frame(name: str) -> pd.DataFrame:
    """Return a data set by name; ``simulated-20000`` has 20,000 groups of five rows.

    cbpp gets the column ``healthy``, because the package glmm takes column names only inside
    ``cbind()``.
    """
    if name.startswith(SIMULATED):
        return simulated_clusters(int(name.split("-")[1]))
    data = bg.load_dataset(name)
    return data.assign(healthy=data["size"] - data["incidence"]) if name == "cbpp" else data


def simulated_clusters(groups: int, rows: int = 5, seed: int = 1) -> pd.DataFrame:
    """Simulate a random-intercept logistic model: sd 1, one covariate per row, one per group."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=g.size)
    z = rng.integers(0, 2, size=groups)[g]
    eta = -0.5 + 0.5 * x + 0.3 * z + rng.normal(size=groups)[g]
    y = (rng.random(g.size) < 1 / (1 + np.exp(-eta))).astype(int)
    return pd.DataFrame({"y": y, "x": x, "z": z, "g": g})


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
