"""Interleaved timing: in every round each contender runs once, so that drift hits all."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from .answer import Answer
from .contender import Run, first_line


@dataclass(frozen=True)
class Budget:
    """How often a fit is repeated: at least ``least`` and at most ``most`` times.

    Between the two, a contender goes on until it has used ``seconds``. One that took more than
    ``slow`` seconds to warm up is timed once.
    """

    least: int = 2
    most: int = 9
    seconds: float = 3.0
    slow: float = 20.0


@dataclass
class Timing:
    """All timed runs of one contender, or the reason why there are none."""

    runs: list[Run] = field(default_factory=list)
    failure: str | None = None
    warm_up: float = 0.0

    @property
    def seconds(self) -> float:
        """Median wall-clock seconds."""
        return median(run.seconds for run in self.runs)

    @property
    def fastest(self) -> float:
        """Least wall-clock seconds."""
        return min(run.seconds for run in self.runs)

    @property
    def processor(self) -> float:
        """Median processor seconds, all threads together."""
        return median(run.processor for run in self.runs)

    @property
    def mib(self) -> float | None:
        """Largest rise of memory during a run, MiB."""
        rises = [run.mib for run in self.runs if run.mib is not None]
        return max(rises, default=None)

    @property
    def answer(self) -> Answer | None:
        """What the last run answered."""
        return self.runs[-1].answer if self.runs else None

    def wants_more(self, budget: Budget) -> bool:
        """Whether another run is due."""
        if self.failure or len(self.runs) >= budget.most:
            return False
        used = sum(run.seconds for run in self.runs)
        least = 1 if self.warm_up > budget.slow else budget.least
        return len(self.runs) < least or used < budget.seconds


def race(contenders: Sequence, budget: Budget) -> list[Timing]:
    """Warm every contender up once, then time them in turn, each round from another start."""
    timings = [Timing() for _ in contenders]
    for contender, timing in zip(contenders, timings, strict=True):
        attempt(contender, timing)
        timing.warm_up = sum(run.seconds for run in timing.runs)
        timing.runs.clear()
    start = 0
    while due := [i for i, timing in enumerate(timings) if timing.wants_more(budget)]:
        turn = start % len(due)
        for i in due[turn:] + due[:turn]:
            attempt(contenders[i], timings[i])
        start += 1
    return timings


def attempt(contender, timing: Timing) -> None:
    """Run once; a failure is recorded and ends the contender's turns, nothing else."""
    try:
        timing.runs.append(contender.run())
    except Exception as error:
        timing.failure = first_line(error)
        timing.runs.clear()
