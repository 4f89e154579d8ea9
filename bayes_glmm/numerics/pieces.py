"""What an integral over random effects returns, and running it in threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Pieces(NamedTuple):
    """A marginal log-likelihood (no family constant) and its derivatives.

    Attributes
    ----------
    value
        -inf where a conditional mode was not found.
    t
        By the fixed part of ``eta``, ``(n,)``.
    gammas
        By the Cholesky factor ``L`` of each grouping factor, ``(q, q)``.
    dispersion
        By log dispersion.
    """

    value: float
    t: np.ndarray
    gammas: list[np.ndarray]
    dispersion: float


@cache
def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores(), thread_name_prefix="bayes_glmm")


def in_threads(run: Callable[[int, int], int], size: int, wanted: int) -> list[int]:
    """Call ``run(first, last)`` over parts of ``range(size)``, at most ``wanted`` at a time."""
    threads = max(1, min(wanted, available_cores(), size))
    if threads == 1:
        return [run(0, size)]
    cuts = np.linspace(0, size, threads + 1).astype(int)
    tasks = [_pool().submit(run, int(a), int(b)) for a, b in pairwise(cuts)]
    return [task.result() for task in tasks]
