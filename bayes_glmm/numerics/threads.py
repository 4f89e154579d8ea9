"""One BLAS thread for algebra on small matrices, where starting more costs more than they save."""

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    """Find the loaded BLAS libraries, once: it takes milliseconds."""
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager:
    """Limit BLAS to one thread inside a ``with`` block."""
    return _controller().limit(limits=1, user_api="blas")
