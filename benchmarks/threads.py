"""How many threads numerical libraries may use; set before any of them is imported."""

import os

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def limit_threads(count: int) -> None:
    """Give BLAS, OpenMP, Numba and Rayon ``count`` threads, here and in child processes."""
    os.environ.update(dict.fromkeys(VARIABLES, str(count)))


def free_threads() -> dict[str, str]:
    """Return the environment without those limits, for samplers that run chains in parallel."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES}
