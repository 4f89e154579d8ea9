"""The part of an error that says what is allowed, and which of it comes close."""

from collections.abc import Iterable
from difflib import get_close_matches


def choose(name: str, allowed: Iterable[str]) -> str:
    """Say what is allowed instead of ``name``: "allowed are ml, pql; did you mean 'ml'?"."""
    allowed = list(allowed)
    return f"allowed are {', '.join(allowed)}{hint(name, allowed)}"


def hint(name: str, allowed: Iterable[str]) -> str:
    """End a sentence that refuses ``name``: "; did you mean 'ml'?", or "." if none is close.

    Upper and lower case are one here.
    """
    lower = {word.lower(): word for word in allowed}
    close = get_close_matches(name.lower(), lower, n=1)
    return f"; did you mean {lower[close[0]]!r}?" if close else "."
