"""Replicates of a simulation, each with a random stream of its own.

Replicate ``r`` has the ``r``-th child of the seed's sequence, so that the numbers do not depend
on the number of workers. Workers are threads: the kernels release the interpreter's lock, and
threads need no start-up, no copies of the data and no guard in the user's script.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..numerics.pieces import available_cores
from ..numerics.threads import one_blas_thread
from ..progress import Progress, counting
from .chi_bar import likelihood_ratio

LIFT = 0.3  # of the start's SD: where a refit starts from an SD that is estimated as zero
BELOW = -1e-4  # a likelihood ratio less than this: the larger model was not maximised


@dataclass(frozen=True)
class Failed:
    """A replicate without a result, and why."""

    reason: str


def replicated(
    task: Callable[[np.random.Generator], Any],
    sequence: np.random.SeedSequence,
    replicates: int,
    workers: int | None,
    progress: Progress,
    what: str = "bootstrap refits",
) -> list:
    """Run ``task`` with one random stream per replicate; one that raises gives ``Failed``."""
    whole(replicates, "replicates", 2)
    workers = available_cores() if workers is None else whole(workers, "workers", 1)

    def guarded(child: np.random.SeedSequence):
        try:
            return task(np.random.default_rng(child))
        except Exception as error:  # one refit's failure must leave the others standing
            kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
            return Failed(f"{kind}{error}")

    results = []
    # held over the whole run: limits set and reset by threads in turn would undo each other
    with counting(progress, replicates, what) as tell, one_blas_thread():
        if workers == 1:
            found = map(guarded, sequence.spawn(replicates))
            for done, result in enumerate(found, 1):
                results.append(result)
                tell(done)
            return results
        with ThreadPoolExecutor(workers, thread_name_prefix="bootstrap") as pool:
            for done, result in enumerate(pool.map(guarded, sequence.spawn(replicates)), 1):
                results.append(result)
                tell(done)
    return results


def likelihood_ratios(
    refits: Callable[[np.random.Generator], tuple[float, float, Callable[[], float]]],
    sequence: np.random.SeedSequence,
    replicates: int,
    workers: int | None,
    progress: Progress,
) -> tuple[np.ndarray, list[Failed]]:
    """Return likelihood ratios of simulated responses, and the replicates that have none.

    ``refits`` simulates one response from the smaller model and gives the maximised
    log-likelihoods of the smaller and the larger model, and a function that searches the larger
    one anew: a search that started beside the wrong maximum may end below the smaller model.
    """

    def ratio(rng: np.random.Generator) -> float:
        less, more, anew = refits(rng)
        if 2.0 * (more - less) < BELOW:
            more = anew()
        if 2.0 * (more - less) < BELOW:
            raise RuntimeError("the larger model ended below the smaller one")
        return likelihood_ratio(less, more)

    what = "simulated likelihood ratios"
    found = replicated(ratio, sequence, replicates, workers, progress, what)
    ratios = [r for r in found if not isinstance(r, Failed)]
    return np.array(ratios, float), [r for r in found if isinstance(r, Failed)]


def whole(value, name: str, least: int) -> int:
    """Check an integer option."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"bootstrap({name}={value!r}) must be an integer of at least {least}.")
    return int(value)
