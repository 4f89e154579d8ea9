"""One way to do a case's job: a package, called as its users call it."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from .answer import Answer
from .memory import PeakMeter


@dataclass(frozen=True)
class Run:
    """One timed fit: wall and processor seconds, MiB taken, and what it answered."""

    seconds: float
    processor: float
    mib: float | None
    answer: Answer


@dataclass(frozen=True)
class Missing:
    """A peer that is not installed."""

    name: str
    install: str


class InProcess:
    """A Python package timed in this process.

    Parameters
    ----------
    name
        For the tables.
    call
        Does the whole job: estimates and standard errors.
    read
        Turns what ``call`` returns into an Answer; not timed.
    formula
        Whether the job includes formula and data handling.
    """

    def __init__(
        self,
        name: str,
        call: Callable[[], Any],
        read: Callable[[Any], Answer],
        formula: bool = True,
    ):
        self.name, self.call, self.read, self.formula = name, call, read, formula

    def run(self) -> Run:
        """Time the job once."""
        gc.collect()
        meter = PeakMeter()
        meter.start()
        processor, wall = time.process_time(), time.perf_counter()
        raw = self.call()
        seconds, used = time.perf_counter() - wall, time.process_time() - processor
        return Run(seconds, used, meter.stop(), self.read(raw))


def first_line(error: BaseException) -> str:
    """Say in one line what went wrong."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return shorten(line, 160, placeholder=" …")
