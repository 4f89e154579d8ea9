"""Progress on stderr: a bar on a terminal, one line per stage elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = bool | Callable[[int, int], None]


@contextmanager
def counting(progress: Progress, total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many of ``total`` steps are done.

    Parameters
    ----------
    progress
        False shows nothing; True a bar on a terminal, elsewhere a line at the start; a
        function is called with ``(done, total)``.
    total
        Number of steps.
    what
        What is counted, for example "bootstrap refits".
    """
    if callable(progress):
        yield lambda done: progress(done, total)
    elif not progress:
        yield lambda done: None
    elif not sys.stderr.isatty():
        print(f"{total} {what} ...", file=sys.stderr, flush=True)
        yield lambda done: None
    else:
        yield from _bar(total, what)


def _bar(total: int, what: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
