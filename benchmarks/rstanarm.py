"""rstanarm on a posterior: what its R process is given, under our priors."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from .answer import canonical
from .cases import Problem
from .frames import factors, frame, write_csv
from .r_session import HINT
from .sampler import SD_MEAN, model_of

SCRIPT = Path(__file__).with_suffix(".R")
# R starts a process for each chain, which takes longer than the chains of smaller data
ROWS_FOR_CORES = 1000


@cache
def missing() -> str:
    """Say how to install it; empty where it is."""
    if shutil.which("Rscript") is None:
        return HINT
    script = "quit(status = !requireNamespace('rstanarm', quietly = TRUE))"
    there = subprocess.run(["Rscript", "--vanilla", "-e", script], capture_output=True, check=False)
    return "" if there.returncode == 0 else "apt install r-cran-rstanarm"


def command(problem: Problem, chains, folder: Path) -> list[str]:
    """Write data and specification into a folder; return the command that samples.

    rstanarm centres its predictors, so that its prior of the intercept is not quite ours.
    """
    data = frame(problem.data)
    (intercept, *slopes) = [prior.pymc[1] for prior in model_of(problem, data).priors.beta]
    specification = {
        "data": str(write_csv(problem.data, folder)),
        "levels": factors(data),
        "formula": problem.formula,
        "family": {"bernoulli": "binomial"}.get(problem.family, problem.family),
        "intercept": {"mean": intercept["mu"], "sd": intercept["sigma"]},
        "prior": {"mean": [p["mu"] for p in slopes], "sd": [p["sigma"] for p in slopes]},
        "sd_mean": SD_MEAN,
        "cores": os.cpu_count() if len(data) >= ROWS_FOR_CORES else 1,
    } | {name: getattr(chains, name) for name in ("chains", "draws", "tune", "seed")}
    path = folder / f"{problem.data}.json"
    path.write_text(json.dumps(specification), encoding="utf-8")
    return ["Rscript", "--vanilla", str(SCRIPT), str(path)]


def renamed(summary: dict) -> dict:
    """Give a summary the parameter names that all packages share."""
    return summary | {
        what: {n if n.startswith("sd ") else canonical(n): v for n, v in summary[what].items()}
        for what in ("mean", "sd")
    }
