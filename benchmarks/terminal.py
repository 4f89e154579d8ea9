"""Results on the terminal, a table as soon as a case is done."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

console = Console()
if not console.is_terminal:
    console = Console(width=120)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; numbers are set to the right, only the last column is folded."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    last = len(columns) - 1
    for i, column in enumerate(columns):
        words = i in (0, last)
        table.add_column(column, justify="left" if words else "right", no_wrap=i < last)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def say(text: str) -> None:
    """Print a line."""
    console.print(text, highlight=False)
