"""The data sets ``sires`` and ``sires_pedigree``: ``python -m studies.sires`` writes their CSVs.

Weaning weights of calves by 30 sires in 25 herds. The sires are sons of six grandsires out of
unrelated dams, so that half-brothers share a quarter of their genes. Half of them are young,
with two to five calves each, and these are where relatives help. A sire's effect is half his
breeding value: with heritability 0.3 of a total SD of 20 kg within herds its SD is
``sqrt(0.3 / 4) * 20 = 5.5`` kg, and the residual SD the rest of the 20.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import bayes_glmm.datasets
from bayes_glmm.pedigree import relationship_matrix

SEED = 1
GRANDSIRES, SONS, HERDS = 6, 5, 25
MEAN, BULL_CALVES, WITHIN, HERITABILITY, HERD_SD = 215.0, 18.0, 20.0, 0.3, 10.0
SIRE_SD = float(np.sqrt(HERITABILITY / 4)) * WITHIN
RESIDUAL_SD = float(np.sqrt(WITHIN**2 - SIRE_SD**2))
FOLDER = Path(bayes_glmm.datasets.__file__).parent


def pedigree() -> pd.DataFrame:
    """List the sires and their sires."""
    sons = [f"S{k + 1:02d}" for k in range(GRANDSIRES * SONS)]
    grandsires = [f"G{k // SONS + 1}" for k in range(len(sons))]
    return pd.DataFrame({"individual": sons, "sire": grandsires})


def true_effects(seed: int = SEED) -> pd.Series:
    """Effects of the sires, kg; half their breeding values."""
    sons = pedigree()["individual"]
    A = relationship_matrix(pedigree(), dam=None).loc[sons, sons]
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    return pd.Series(SIRE_SD * np.linalg.cholesky(A) @ rng.normal(size=len(sons)), index=sons)


def simulate(seed: int = SEED) -> pd.DataFrame:
    """Draw the calves."""
    rng = np.random.default_rng(seed)
    effects = true_effects(seed)
    young = np.arange(len(effects)) % 2 == 1
    calves = np.where(young, rng.integers(2, 6, len(effects)), rng.integers(15, 41, len(effects)))
    sire = np.repeat(effects.index, calves)
    n = len(sire)
    herd, sex = rng.integers(0, HERDS, n), rng.choice(["heifer", "bull"], n)
    herds = rng.normal(0.0, HERD_SD, HERDS)
    mean = MEAN + BULL_CALVES * (sex == "bull") + herds[herd] + effects[sire].to_numpy()
    weight = mean + rng.normal(0.0, RESIDUAL_SD, n)
    return pd.DataFrame(
        {
            "sire": sire,
            "herd": [f"H{k + 1:02d}" for k in herd],
            "sex": sex,
            "weight": weight.round(1),
        }
    )


if __name__ == "__main__":
    simulate().to_csv(FOLDER / "sires.csv", index=False, lineterminator="\n")
    pedigree().to_csv(FOLDER / "sires_pedigree.csv", index=False, lineterminator="\n")
