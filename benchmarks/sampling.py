"""Posteriors against other packages: fresh processes, with empty and with filled caches."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from . import stan
from .cases import Problem
from .threads import free_threads

# ours first: the others are compared with it
PACKAGES = ("bayes_glmm-integrated", "bayes_glmm", *stan.PACKAGES, "bambi", "bambi-nutpie")
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


def process(command: list[str], environment: dict):
    """Run one sampler process: seconds to its first draws, and its summaries.

    Raises
    ------
    RuntimeError
        With the last line of its messages, if it failed.
    """
    start, first, found = time.perf_counter(), None, []
    with TemporaryFile("w+", encoding="utf-8") as messages:
        child = subprocess.Popen(
            command,
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


class Trial:
    """One package on one problem, with compilation caches of its own.

    rstanarm compiles nothing, so that its first process is warm already; brms is given a file
    for its compiled model.
    """

    def __init__(self, package: str, problem: Problem, chains: Chains, caches: str):
        self.package, self.problem, self.chains = package, problem, chains
        self.environment = cache_environment(f"{caches}/{package}")
        self.caches = Path(caches)
        self.sampled = Sampled(problem.data, package)
        self.summary: dict | None = None
        needed = package.split("-")[0]
        if self.in_r:
            if hint := stan.missing(package):
                self._end(f"not installed: {hint}")
        elif find_spec(needed) is None:
            self._end(f"not installed: pip install {needed}")

    @property
    def in_r(self) -> bool:
        """Whether it is an R package."""
        return self.package in stan.PACKAGES

    def command(self, again: bool) -> list[str]:
        """Return the command of a process."""
        if self.in_r:
            return stan.command(self.package, self.problem, self.chains, self.caches, again)
        options = [f"--{name}={value}" for name, value in asdict(self.chains).items()]
        module = [sys.executable, "-m", "benchmarks.sampler", self.package, self.problem.data]
        return module + options + ["--again"] * again

    def _end(self, remark: str) -> None:
        self.sampled = replace(self.sampled, remark=remark)

    def run(self, again: bool):
        """Run a process, unless an earlier one failed; None where there is nothing to tell."""
        if self.sampled.remark:
            return None
        try:
            return process(self.command(again), self.environment)
        except RuntimeError as error:
            self._end(f"failed: {error}")
            return None

    def cold(self) -> None:
        """Sample with empty caches."""
        if self.in_r and self.package != stan.COMPILING:
            return
        if found := self.run(again=False):
            self.sampled = replace(self.sampled, cold=found[0])

    def warm(self) -> None:
        """Sample with filled caches, and again in the same process."""
        if found := self.run(again=True):
            seconds, summaries = found
            self.summary, *later = summaries
            if self.in_r:
                self.summary = stan.renamed(self.summary)
            kept = {name: self.summary[name] for name in ("ess", "rhat", "divergences")}
            again = later[0]["fit_seconds"] if later else None
            mib = summaries[-1]["mib"]
            self.sampled = replace(self.sampled, warm=seconds, again=again, mib=mib, **kept)


def compare(sampled: Sampled, summary: dict | None, ours: dict | None) -> Sampled:
    """Add how far the posterior means are from ours."""
    if summary is None or ours is None:
        return sampled
    if set(summary["mean"]) != set(ours["mean"]):
        remark = f"cannot be compared: its parameters are {sorted(summary['mean'])}"
        return replace(sampled, remark=remark)
    gap = max(
        abs(summary["mean"][name] - mean) / ours["sd"][name] for name, mean in ours["mean"].items()
    )
    remark = "" if gap <= TOLERANCE else "the posteriors differ"
    return replace(sampled, difference=gap, remark=remark)


def sample_all(
    problems: list[Problem], chains: Chains, packages: Sequence[str] = PACKAGES
) -> Iterator[list[Sampled]]:
    """Measure every package on each problem: all of them cold, then all of them warm."""
    for problem in problems:
        with TemporaryDirectory(ignore_cleanup_errors=True) as caches:
            trials = [Trial(package, problem, chains, caches) for package in packages]
            for trial in trials:
                trial.cold()
            for trial in trials:
                trial.warm()
        ours = trials[0].summary
        yield [compare(trial.sampled, trial.summary, ours) for trial in trials]
