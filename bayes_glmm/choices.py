"""The part of an error that says what is allowed, and which of it comes close."""

from collections.abc import Iterable
from difflib import get_close_matches


def choose(name: str, allowed: Iterable[str]) -> str:
    """Say what is allowed instead of ``name``: "allowed are ml, pql; did you mean 'ml'?"."""
    allowed = list(allowed)
    close = get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"allowed are {', '.join(allowed)}{hint}"
