"""The data set ``ten_clusters``: ``python -m studies.ten_clusters`` writes its CSV.

Ten clusters of fifteen Bernoulli responses, ``x = j / 15``, no intercept, ``beta = 5``, variance
0.5 between clusters (McCulloch 1997). The seed is the first of 1, 2, 3, … under which the
maximum-likelihood estimate of the standard deviation is not zero.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import bayes_glmm.datasets

SEED = 3
CLUSTERS, SIZE, BETA, VARIANCE = 10, 15, 5.0, 0.5
FILE = Path(bayes_glmm.datasets.__file__).parent / "ten_clusters.csv"


def simulate(seed: int = SEED) -> pd.DataFrame:
    """Draw the data set."""
    rng = np.random.default_rng(seed)
    b = rng.normal(0, np.sqrt(VARIANCE), CLUSTERS)
    x = np.tile(np.arange(1, SIZE + 1) / SIZE, CLUSTERS)
    cluster = np.repeat(np.arange(CLUSTERS), SIZE)
    y = rng.binomial(1, 1 / (1 + np.exp(-BETA * x - b[cluster])))
    return pd.DataFrame({"cluster": cluster + 1, "x": x, "y": y})


if __name__ == "__main__":
    simulate().to_csv(FILE, index=False, lineterminator="\n")
