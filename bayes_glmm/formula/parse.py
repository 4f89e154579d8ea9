"""lme4-style formula text, read into its parts; no data are involved.

``cbind(incidence, size - incidence) ~ period + offset(log(w)) + (1 | herd)`` has a
response, fixed terms (a formulaic right-hand side), offsets, and random terms
``(columns | grouping factor)``.  The algebra of terms (``+ - * / : ^``) is expanded
here, so that formulaic receives a plain sum of checked terms.

The syntax is that of lme4 (Bates, Maechler, Bolker & Walker 2015, JSS 67(1), Table 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .expression import FormulaError, shorten
from .terms import Algebra, Reader
from .tokens import Token, closing, is_call, join, split, tokenise

__all__ = ["Formula", "FormulaError", "RandomTerm", "Response", "parse_formula"]


@dataclass(frozen=True)
class Response:
    """The left-hand side: ``plain`` y, ``cbind`` (successes, failures), ``p`` (successes, trials).

    Attributes
    ----------
    kind : {"plain", "cbind", "p"}
    first, second : str
        Expressions of columns; ``second`` is None for a plain response.
    names : tuple of str
        Columns they use.
    """

    kind: Literal["plain", "cbind", "p"]
    first: str
    second: str | None
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """The response as written in a formula."""
        if self.kind == "plain":
            return self.first
        return f"{self.kind}({self.first}, {self.second})"


@dataclass(frozen=True)
class RandomTerm:
    """Random effects ``(columns | group)`` whose columns may be correlated with each other.

    Attributes
    ----------
    columns : str
        A formulaic right-hand side with explicit intercept, ``"1 + x"`` or ``"0 + x"``.
    group : tuple of str
        Columns whose combination is the grouping factor: ``("a", "b")`` is a:b.
    correlated : bool
        False when ``||`` split this term off.  As in lme4, the columns of one factor
        stay correlated with each other under ``||``.
    """

    columns: str
    group: tuple[str, ...]
    correlated: bool


@dataclass(frozen=True)
class Formula:
    """A parsed formula.

    Attributes
    ----------
    text : str
        As the user wrote it.
    response : Response
    fixed : str
        Formulaic right-hand side with explicit intercept: ``"1 + period"``, ``"0 + x"``.
    offsets : tuple of str
        Expressions that are added to the linear predictor with coefficient one.
    random : tuple of RandomTerm
        In the order of the text; ``||`` and ``/`` are expanded.
    variables : tuple of str
        Columns of the data that the predictor (fixed, offsets, random) uses as values.
    coded : frozenset of str
        Those of `variables` that are used inside ``C()``.
    plain : frozenset of str
        Those that are used otherwise; a column may be in both.
    """

    text: str
    response: Response
    fixed: str
    offsets: tuple[str, ...]
    random: tuple[RandomTerm, ...]
    variables: tuple[str, ...]
    coded: frozenset[str]
    plain: frozenset[str]

    @property
    def grouping(self) -> tuple[str, ...]:
        """Columns that grouping factors are made of."""
        return tuple(dict.fromkeys(name for term in self.random for name in term.group))


def parse_formula(text: str) -> Formula:
    """Read lme4-style formula text.

    Parameters
    ----------
    text : str
        For example ``"y ~ x + (x | g)"``.

    Raises
    ------
    FormulaError
        When the text is not such a formula, or would run anything but listed functions.

    Examples
    --------
    >>> parse_formula("y ~ x + (1 | a/b)").random[1].group
    ('a', 'b')
    """
    tokens = tokenise(text)
    left, right = _sides(tokens)
    reader = Reader()
    response = _response(left, reader)
    fixed: list[Token] = []
    offsets: list[str] = []
    random: list[RandomTerm] = []
    for sign, summand in _summands(right):
        inner, bar = _bar(summand)
        if bar is not None:
            _only_plus(sign, summand)
            random += _random(inner, bar, reader)
        elif is_call(summand, "offset"):
            _only_plus(sign, summand)
            offsets.append(reader.offset(summand[2:-1]))
        else:
            fixed += [Token("mark", sign), *summand]
    terms = Algebra(fixed, reader).model()
    if terms == "0" and not random:
        raise FormulaError("The formula leaves no term to estimate: add a column, 1, or (1 | g).")
    reader.check_shadowing(response.names)
    return Formula(
        text,
        response,
        terms,
        tuple(offsets),
        tuple(random),
        tuple(reader.names),
        frozenset(reader.coded),
        frozenset(reader.plain),
    )


def _sides(tokens: list[Token]) -> tuple[list[Token], list[Token]]:
    tildes = [i for i, token in enumerate(tokens) if token.text == "~"]
    if len(tildes) != 1 or tildes[0] == 0 or tildes[0] == len(tokens) - 1:
        raise FormulaError(
            f"A formula has a response, one ~ and terms, got {shorten(join(tokens))}: "
            "write 'y ~ x + (1 | g)'."
        )
    return tokens[: tildes[0]], tokens[tildes[0] + 1 :]


def _summands(tokens: Sequence[Token]) -> Iterable[tuple[str, list[Token]]]:
    sign = "+"
    for i, piece in enumerate(split(tokens, "+ -")):
        body = piece[1:] if i else piece
        if i and piece[0].text == "-":
            sign = "-" if sign == "+" else "+"
        if body:
            yield sign, body
            sign = "+"
        elif i == len(split(tokens, "+ -")) - 1:
            raise FormulaError(f"The formula ends with {piece[0].text}: remove it or add a term.")


def _only_plus(sign: str, tokens: Sequence[Token]) -> None:
    if sign == "-":
        raise FormulaError(
            f"The term {shorten(join(tokens))} is subtracted: random effects and offsets are "
            "only added, so drop it."
        )


def _response(tokens: list[Token], reader: Reader) -> Response:
    kind = tokens[0].text
    if kind not in ("cbind", "p") or not is_call(tokens, "cbind", "p"):
        if not is_call(tokens, kind) and any(t.text in ("cbind", ",") for t in tokens):
            raise FormulaError(
                f"The response {shorten(join(tokens))} is not served: write cbind(s, f) alone."
            )
        only = reader.response(tokens)
        return Response("plain", only.text, None, only.names)
    pieces = [piece[i > 0 :] for i, piece in enumerate(split(tokens[2:-1], ","))]
    if len(pieces) != 2 or not all(pieces):
        given = sum(map(bool, pieces))
        other = "failures" if kind == "cbind" else "trials"
        raise FormulaError(
            f"{kind}() takes two columns, got {given}: write {kind}(successes, {other})."
        )
    first, second = (reader.response(piece) for piece in pieces)
    names = tuple(dict.fromkeys(first.names + second.names))
    return Response("cbind" if kind == "cbind" else "p", first.text, second.text, names)


def _bar(tokens: list[Token]) -> tuple[list[Token], int | None]:
    """Tokens of a parenthesised random term without its parentheses, and where its bar is."""
    inner = tokens
    while inner and inner[0].text == "(" and closing(inner, 0) == len(inner) - 1:
        inner = inner[1:-1]
        pieces = split(inner, "| ||")
        if len(pieces) == 2:
            return inner, len(pieces[0])
    if any(token.text in ("|", "||") for token in tokens):
        raise FormulaError(
            f"The bar in {shorten(join(tokens))} does not form a random term: "
            "add each as its own parenthesis, + (x | g)."
        )
    return tokens, None


def _random(tokens: list[Token], bar: int, reader: Reader) -> list[RandomTerm]:
    algebra = Algebra(tokens[:bar], reader)
    if bar == 0:
        raise FormulaError(
            f"Nothing stands left of the bar in {shorten(join(tokens))}: write (1 | g)."
        )
    if tokens[bar].text == "|":
        columns, correlated = [algebra.model()], True
    else:
        columns, correlated = algebra.single(), False
    if columns in ([], ["0"]):
        raise FormulaError(
            f"In {shorten(join(tokens))} there is no column left of the bar: write (1 | g)."
        )
    return [
        RandomTerm(each, group, correlated)
        for group in _grouping(tokens[bar + 1 :])
        for each in columns
    ]


def _grouping(tokens: list[Token]) -> list[tuple[str, ...]]:
    """Read the grouping factors of ``a``, ``a:b``, ``a/b/c``: each a tuple of column names."""
    groups: list[tuple[str, ...]] = []
    nest: tuple[str, ...] = ()
    for i, level in enumerate(split(tokens, "/")):
        pieces = [piece[j > 0 :] for j, piece in enumerate(split(level[i > 0 :], ":"))]
        if any(len(piece) != 1 or piece[0].kind != "name" for piece in pieces):
            raise FormulaError(
                f"The grouping factor {shorten(join(tokens))} is not served: name columns "
                "of the data, as g, a:b or a/b, and compute anything else as a column first."
            )
        nest += tuple(piece[0].text for piece in pieces)
        groups.append(nest)
    if len(set(nest)) < len(nest):
        raise FormulaError(
            f"The grouping factor {shorten(join(tokens))} names a column twice: drop one."
        )
    return groups
