"""rstanarm and brms on a posterior: what their R process is given, under our priors."""

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
from .sampler import LONG, SD_MEAN, model_of

PACKAGES = ("rstanarm", "brms")
COMPILING = "brms"  # rstanarm's models are compiled when it is installed
SCRIPT = Path(__file__).with_suffix(".R")
# R starts a process for each chain, which takes longer than the chains of smaller data
ROWS_FOR_CORES = 1000


@cache
def missing(package: str) -> str:
    """Say how to install a package; empty where it is."""
    if shutil.which("Rscript") is None:
        return HINT
    script = f"quit(status = !requireNamespace('{package}', quietly = TRUE))"
    there = subprocess.run(["Rscript", "--vanilla", "-e", script], capture_output=True, check=False)
    return "" if there.returncode == 0 else f"apt install r-cran-{package}"


def command(package: str, problem: Problem, chains, folder: Path, again: bool) -> list[str]:
    """Write data and specification into a folder; return the command that samples.

    rstanarm centres its predictors, so that its prior of the intercept is not quite ours.
    """
    data = frame(problem.data)
    priors = [prior.pymc[1] for prior in model_of(problem, data).priors.beta]
    specification = {
        "package": package,
        "data": str(write_csv(problem.data, folder)),
        "levels": factors(data),
        "formula": brms_formula(problem) if package == "brms" else problem.formula,
        "fixed": f"~ {problem.fixed}",
        "groups": list(problem.groups),
        "family": family(package, problem),
        "mean": [p["mu"] for p in priors],
        "sd": [p["sigma"] for p in priors],
        "sd_mean": SD_MEAN,
        "cores": os.cpu_count() if len(data) >= ROWS_FOR_CORES else 1,
        "compiled": str(folder / f"{package}-{problem.data}.rds"),
        "again": again,
        "long": LONG,
    } | {name: getattr(chains, name) for name in ("chains", "draws", "tune", "seed")}
    path = folder / f"{package}-{problem.data}.json"
    path.write_text(json.dumps(specification), encoding="utf-8")
    return ["Rscript", "--vanilla", str(SCRIPT), str(path)]


def brms_formula(problem: Problem) -> str:
    """Write the model in brms's syntax, with an intercept that is not centred."""
    response = "incidence | trials(size)" if problem.grouped else problem.response
    random = " + ".join(f"(1 | {g})" for g in problem.groups)
    return f"{response} ~ 0 + Intercept + {problem.fixed} + {random}"


def family(package: str, problem: Problem) -> str:
    """Name the family: rstanarm has no ``bernoulli``."""
    rename = problem.family == "bernoulli" and package == "rstanarm"
    return "binomial" if rename else problem.family


def renamed(summary: dict) -> dict:
    """Give a summary the parameter names that all packages share."""
    return summary | {
        what: {n if n.startswith("sd ") else canonical(n): v for n, v in summary[what].items()}
        for what in ("mean", "sd")
    }
