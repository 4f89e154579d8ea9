"""Posteriors against Bambi: each in a fresh process, with empty and with filled caches."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from .cases import Problem
from .threads import free_threads

PACKAGES = ("bayes_glmm", "bambi", "bambi-nutpie")
TOLERANCE = 0.25  # posterior standard deviations between posterior means


@dataclass(frozen=True)
class Chains:
    """What both samplers are asked for; every other setting is the package's default."""

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    seed: int = 1


@dataclass(frozen=True)
class Sampled:
    """One package on one posterior.

    ``cold`` and ``warm`` are seconds of the whole process, from its start to its draws, with
    empty and with filled caches; ``again`` is a second fit in the warm process, formula
    included. ``ess`` is the least bulk effective sample size over coefficients and standard
    deviations; ``difference`` that of posterior means from ours in posterior SDs.
    """

    problem: str
    package: str
    cold: float | None = None
    warm: float | None = None
    again: float | None = None
    ess: float | None = None
    rhat: float | None = None
    divergences: int | None = None
    mib: float | None = None
    difference: float | None = None
    remark: str = ""

    @property
    def rate(self) -> float | None:
        """Effective draws per second of the whole warm process."""
        return self.ess / self.warm if self.ess and self.warm else None

    @property
    def rate_again(self) -> float | None:
        """Effective draws per second of the second fit."""
        return self.ess / self.again if self.ess and self.again else None

    def as_dict(self) -> dict:
        """Return it for JSON."""
        return asdict(self) | {"ess_per_second": self.rate, "ess_per_second_again": self.rate_again}


def cache_environment(folder: str) -> dict[str, str]:
    """Point every compilation cache into one folder."""
    flags = [os.environ.get("PYTENSOR_FLAGS", ""), f"base_compiledir={folder}/pytensor"]
    return free_threads() | {
        "PYTENSOR_FLAGS": ",".join(filter(None, flags)),
        "NUMBA_CACHE_DIR": f"{folder}/numba",
        "XDG_CACHE_HOME": f"{folder}/cache",
    }


def process(package: str, problem: Problem, chains: Chains, again: bool, environment: dict):
    """Run one sampler process: seconds to its first draws, and its summaries.

    Raises
    ------
    RuntimeError
        With the last line of its messages, if it failed.
    """
    options = [f"--{name}={value}" for name, value in asdict(chains).items()]
    command = [sys.executable, "-m", "benchmarks.sampler", package, problem.data, *options]
    start, first, found = time.perf_counter(), None, []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as messages:
        child = subprocess.Popen(
            command + ["--again"] * again,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            encoding="utf-8",
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        for line in child.stdout:
            if line.startswith("@@"):
                first = first or time.perf_counter() - start
                found.append(json.loads(line[2:]))
        if child.wait() != 0:
            messages.seek(0)
            last = messages.read().strip().splitlines()[-1:] or ["no message"]
            raise RuntimeError(last[0])
    return first, [record for record in found if "mean" in record]


def measure(package: str, problem: Problem, chains: Chains) -> tuple[Sampled, dict | None]:
    """Sample one posterior cold, warm and again; also return the summary of the warm draws."""
    needed = package.split("-")[0]
    if find_spec(needed) is None:
        return Sampled(problem.data, package, remark=f"not installed: pip install {needed}"), None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = cache_environment(folder)
        try:
            cold, _ = process(package, problem, chains, False, environment)
            warm, (first, second) = process(package, problem, chains, True, environment)
        except RuntimeError as error:
            return Sampled(problem.data, package, remark=f"failed: {error}"), None
    kept = {name: first[name] for name in ("ess", "rhat", "divergences")}
    sampled = Sampled(
        problem.data, package, cold, warm, second["fit_seconds"], mib=second["mib"], **kept
    )
    return sampled, first


def compare(sampled: Sampled, summary: dict | None, ours: dict | None) -> Sampled:
    """Add how far the posterior means are from ours."""
    if summary is None or ours is None:
        return sampled
    if set(summary["mean"]) != set(ours["mean"]):
        remark = f"cannot be compared: its parameters are {sorted(summary['mean'])}"
        return Sampled(**asdict(sampled) | {"remark": remark})
    gaps = [
        abs(summary["mean"][name] - mean) / ours["sd"][name] for name, mean in ours["mean"].items()
    ]
    remark = "" if max(gaps) <= TOLERANCE else "the posteriors differ"
    return Sampled(**asdict(sampled) | {"difference": max(gaps), "remark": remark})


def sample_all(problems: list[Problem], chains: Chains) -> Iterator[list[Sampled]]:
    """Measure every package on each problem in turn."""
    for problem in problems:
        pairs = [measure(package, problem, chains) for package in PACKAGES]
        ours = pairs[0][1]
        yield [compare(sampled, summary, ours) for sampled, summary in pairs]
