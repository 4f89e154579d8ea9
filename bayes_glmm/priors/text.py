"""Priors as text: read from model files and written back, never evaluated.

>>> parse_prior("HalfStudentT(4, scale=2.5)")
HalfStudentT(df=4.0, scale=2.5)
"""

import ast
from dataclasses import fields

from .. import priors as kinds
from ..choices import choose
from .base import Prior

__all__ = ["PRIORS", "parse_prior", "prior_text"]

# what the name of a prior in a file may be
PRIORS = {
    name: kind
    for name in kinds.__all__
    if isinstance(kind := getattr(kinds, name), type) and issubclass(kind, Prior)
}
del PRIORS["Prior"]

LONGEST_PRIOR = 200  # characters; nothing that long is a prior


def parse_prior(text: str) -> Prior:
    """Read a prior as one writes it in Python, ``HalfStudentT(4, scale=2.5)``.

    Raises
    ------
    ValueError
        If the text is anything but a known prior with literal numbers.
    """
    call = _call(text)
    if call is None:
        got = repr(text)[:80]
        raise ValueError(f"{got} is not a prior: write one such as 'HalfStudentT(4, 2.5)'.")
    name = call.func.id  # pyright: ignore[reportAttributeAccessIssue]
    if name not in PRIORS:
        raise ValueError(f"{name!r} is not a prior: {choose(name, PRIORS)}")
    wanted = ", ".join(field.name for field in fields(PRIORS[name]))
    try:
        values = [ast.literal_eval(value) for value in call.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        return PRIORS[name](*values, **named)
    except TypeError:
        raise ValueError(f"{text!r} does not fit: {name} takes ({wanted}).") from None
    except ValueError as error:
        if "malformed" not in str(error):
            raise
        raise ValueError(f"{text!r} does not fit: {name} takes numbers ({wanted}).") from None


def _call(text: str) -> ast.Call | None:
    """Parse ``Name(…)``; None for all else."""
    if not isinstance(text, str) or len(text) > LONGEST_PRIOR:
        return None
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return node if is_call else None  # pyright: ignore[reportReturnType]


def prior_text(prior: Prior) -> str:
    """Write a prior so that ``parse_prior`` reads back the same numbers."""
    inside = ", ".join(f"{f.name}={getattr(prior, f.name)!r}" for f in fields(prior))
    return f"{type(prior).__name__}({inside})"
