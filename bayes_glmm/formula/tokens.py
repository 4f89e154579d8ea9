"""Formula text as a row of tokens, with parentheses matched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from unicodedata import is_normalized

from .expression import FormulaError

_MAX_TEXT = 10_000
_MAX_DEPTH = 50
_CLOSES = {"(": ")", "[": "]"}
_STEP = {"(": 1, "[": 1, ")": -1, "]": -1}
_TOKEN = re.compile(
    r"""(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<name>[^\W\d]\w*)
    |(?P<string>"[^"'\\{}`\n]*"|'[^"'\\{}`\n]*')
    |(?P<mark>\|\||\*\*|==|!=|<=|>=|[-+*/:^|(),~=<>.\[\]])
    |(?P<space>\s+)""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of formula text: number, name, string or mark."""

    kind: str
    text: str


def tokenise(text: str) -> list[Token]:
    """Cut formula text into tokens; ``^`` becomes ``**``, spaces are dropped.

    Raises
    ------
    FormulaError
        For characters without a meaning here (so for every way of quoting code),
        parentheses that do not match, and text too long or nested too deeply.
    """
    if not isinstance(text, str):
        raise FormulaError(
            f"A formula is text such as 'y ~ x + (1 | g)', got {type(text).__name__}: write it so."
        )
    if len(text) > _MAX_TEXT:
        raise FormulaError(
            f"The formula has {len(text)} characters, at most {_MAX_TEXT} are read: shorten it."
        )
    tokens: list[Token] = []
    opened: list[str] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            raise FormulaError(
                f"The character {text[position]!r} has no meaning in a formula: rename columns "
                "with unusual names, as in data.rename(columns={'old name': 'new_name'})."
            )
        position = found.end()
        if found.lastgroup == "name":
            _check_name(found[0])
        _match(found[0], opened)
        if found.lastgroup != "space":
            tokens.append(Token(found.lastgroup, "**" if found[0] == "^" else found[0]))
    if opened:
        raise FormulaError(
            f"The formula ends without a closing {opened[-1]}: match the parentheses."
        )
    return tokens


def _check_name(name: str) -> None:
    """Refuse names that Python reads in its own way."""
    if name.startswith("__") or not is_normalized("NFKC", name):
        raise FormulaError(
            f"The name '{name}' means something else to Python: rename the column, without "
            "leading '__' and without ligatures or raised letters."
        )


def _match(mark: str, opened: list[str]) -> None:
    """Keep the stack of the parentheses that are to be closed."""
    if mark in _CLOSES:
        opened.append(_CLOSES[mark])
    elif mark in _STEP and (not opened or opened.pop() != mark):
        raise FormulaError(f"A {mark} closes what was not opened: match the parentheses.")
    if len(opened) > _MAX_DEPTH:
        raise FormulaError(
            f"Parentheses are nested more than {_MAX_DEPTH} deep: simplify the formula."
        )


def join(tokens: Sequence[Token]) -> str:
    """Text of the tokens, spaced so that no two of them fuse."""
    return " ".join(token.text for token in tokens)


def split(tokens: Sequence[Token], marks: str) -> list[list[Token]]:
    """Pieces between marks outside parentheses; each but the first begins with its mark."""
    pieces: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += _STEP.get(token.text, 0)
        if depth == 0 and token.text in marks.split():
            pieces.append([token])
        else:
            pieces[-1].append(token)
    return pieces


def closing(tokens: Sequence[Token], start: int) -> int:
    """Position of the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(tokens)):
        depth += _STEP.get(tokens[i].text, 0)
        if depth == 0:
            return i
    raise ValueError(f"the parenthesis at token {start} is not closed")


def is_call(tokens: Sequence[Token], *names: str) -> bool:
    """Whether the tokens are exactly one call ``name( … )`` of one of these names."""
    if len(tokens) < 3 or tokens[0].text not in names or tokens[1].text != "(":
        return False
    return closing(tokens, 1) == len(tokens) - 1
