"""Kernels compiled by a second process while this one compiles others.

Numba compiles under one lock, so threads do not help. The second process puts what it makes into
the cache folder, where this one finds it; should it fail, this one compiles all. It is this
module, run with the kernels' names: ``python -m bayes_glmm.numerics.beside module:kernel …``.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.spawn import get_executable
from pathlib import Path

from .compiled import Kernel, cache_folder

PATIENCE = 120.0  # seconds that the second process may take longer than this one


@contextmanager
def compiled_beside(kernels: Sequence[Kernel]) -> Iterator[None]:
    """Have a second process compile kernels that are not in the cache, and wait at the end.

    Without a second processor or a cache folder nothing is done, nor are errors of the second
    process raised: the kernels are then compiled where they are first called.
    """
    missing = [kernel for kernel in kernels if not kernel.is_cached]
    child = _start(missing) if missing else None
    try:
        yield
    finally:
        if child is not None:
            try:
                child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _start(kernels: Sequence[Kernel]) -> subprocess.Popen | None:
    """Start the second process; None where there cannot be one."""
    executable = get_executable()
    if executable is None or (os.cpu_count() or 1) < 2 or cache_folder() is None:
        return None
    source = str(Path(__file__).parents[2])  # of this package, however it was found
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    try:
        return subprocess.Popen(
            [os.fsdecode(executable), "-m", __name__, *(kernel.address for kernel in kernels)],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:  # processes may be forbidden
        return None


def main(addresses: Sequence[str]) -> None:
    """Compile kernels, each given as ``module:name``."""
    for address in addresses:
        module, name = address.split(":")
        _ = getattr(import_module(module), name).compiled


if __name__ == "__main__":
    main(sys.argv[1:])
