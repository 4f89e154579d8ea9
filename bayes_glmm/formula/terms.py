"""The algebra of model terms: sums, products, nests and powers, expanded to a plain sum."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .expression import MAX_POWER, Expression, FormulaError, check_expression
from .tokens import Token, closing, join

_MAX_TERMS = 1_000

Terms = dict[frozenset[str], tuple[str, ...]]
"""Terms of a model in order; a term is the tuple of its factors, () the intercept."""


class Reader:
    """Checks expressions and remembers which columns and functions the formula uses.

    Attributes
    ----------
    names : dict
        Columns of the predictor, in order of appearance.
    coded, plain : set
        Those of them used inside ``C()``, and those used otherwise.
    calls : set
        Functions called anywhere in the formula.
    """

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.coded: set[str] = set()
        self.plain: set[str] = set()
        self.calls: set[str] = set()
        self._factors: dict[str, Expression] = {}

    def response(self, tokens: Sequence[Token]) -> Expression:
        """Check an expression of the left-hand side."""
        found = check_expression(join(tokens))
        self.calls |= found.calls
        return found

    def offset(self, tokens: Sequence[Token]) -> str:
        """Check the expression inside ``offset()``."""
        found = check_expression(join(tokens))
        if not found.names:
            raise FormulaError(f"In offset({found.text}) no column is used: name one.")
        self._use(found)
        return found.text

    def factor(self, tokens: Sequence[Token]) -> str:
        """Check a factor of a term; it counts as used once `use_factor` says so."""
        found = check_expression(join(tokens), learned=True)
        if not found.names:
            raise FormulaError(f"The term '{found.text}' uses no column: name one or drop it.")
        self._factors[found.text] = found
        return found.text

    def use_factor(self, text: str) -> None:
        """Count the columns of a checked factor as used."""
        self._use(self._factors[text])

    def _use(self, found: Expression) -> None:
        self.names.update(dict.fromkeys(found.names))
        self.calls |= found.calls
        self.coded |= found.coded
        self.plain |= found.plain

    def check_shadowing(self, response: Iterable[str]) -> None:
        """Raise FormulaError when one name is both a column and a function."""
        both = sorted(self.calls & {*self.names, *response})
        if both:
            raise FormulaError(
                f"The name '{both[0]}' is used as a function and as a column: rename the column."
            )


class Algebra:
    """Expands sums, products, nests and powers of terms (Wilkinson & Rogers 1973).

    Precedence, loosest first: ``+ -``, ``* /``, ``:``, ``**``.
    """

    def __init__(self, tokens: list[Token], reader: Reader) -> None:
        self.tokens, self.reader, self.at = tokens, reader, 0

    def model(self) -> str:
        """Write one right-hand side for formulaic, terms sorted by degree as R does."""
        terms = self._expand()
        rows = sorted((t for t in terms.values() if t), key=len)
        return " + ".join(["1" if frozenset() in terms else "0", *(":".join(t) for t in rows)])

    def single(self) -> list[str]:
        """Write one right-hand side per term: the expansion of ``||``."""
        terms = sorted(self._expand().values(), key=len)
        return [f"0 + {':'.join(term)}" if term else "1" for term in terms]

    def _expand(self) -> Terms:
        """All terms; the intercept is there unless 0 or -1 removes it."""
        terms: Terms = {frozenset(): ()}
        if self.tokens:
            self._sum(terms)
        if self.at < len(self.tokens):
            raise self._unread()
        for factor in (factor for term in terms.values() for factor in term):
            self.reader.use_factor(factor)
        return terms

    def _peek(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    def _unread(self) -> FormulaError:
        where = join(self.tokens[max(0, self.at - 2) : self.at + 3])
        if self._peek() == ".":
            return FormulaError(
                f"The dot near '{where}' is not read: list the columns for which '.' stands, and "
                "rename columns that have a dot in their name."
            )
        return FormulaError(
            f"The formula cannot be read near '{where}': write columns and functions joined "
            "by + - * / : ^."
        )

    def _sum(self, terms: Terms) -> Terms:
        """Add signed summands to `terms`."""
        while True:
            negative = False
            while self._peek() in ("+", "-"):
                negative ^= self._peek() == "-"
                self.at += 1
            if self._peek() == "0":
                self.at += 1
                if negative or self._peek() not in ("+", "-", ")", ""):
                    raise FormulaError("0 is part of a term: write 0 + x for no intercept.")
                terms.pop(frozenset(), None)
            else:
                _add(terms, self._product(), negative)
            if self._peek() not in ("+", "-"):
                return terms

    def _product(self) -> Terms:
        left = self._interaction()
        while self._peek() in ("*", "/"):
            mark = self._peek()
            self.at += 1
            right = self._interaction()
            if mark == "*":
                left = _union(left, right, _cross(left, right))
            else:  # a/b is a + a:b; a sum on the left nests as a whole
                whole = tuple(dict.fromkeys(f for term in left.values() for f in term))
                left = _union(left, _cross({frozenset(whole): whole}, right))
        return left

    def _interaction(self) -> Terms:
        left = self._power()
        while self._peek() == ":":
            self.at += 1
            left = _cross(left, self._power())
        return left

    def _power(self) -> Terms:
        base = self._atom()
        while self._peek() == "**":
            self.at += 1
            exponent = self._peek()
            if not exponent.isdecimal() or not 1 <= int(exponent[:9]) <= MAX_POWER:
                raise FormulaError(
                    f"The power '{exponent}' of terms is not served: use a whole number from 1 "
                    f"to {MAX_POWER}, or I(x^{exponent}) for a power of a column."
                )
            if len(base) == 1:
                name = ":".join(*base.values())
                raise FormulaError(
                    f"In a formula, {name}^{exponent} is {name} itself: write I({name}^{exponent})"
                    f" for the power or poly({name}, {exponent}) for a polynomial."
                )
            self.at += 1
            once = base
            for _ in range(int(exponent) - 1):
                base = _union(base, _cross(base, once))
        return base

    def _atom(self) -> Terms:
        if self.at >= len(self.tokens):
            raise self._unread()
        token = self.tokens[self.at]
        if token.text == "(":
            self.at += 1
            inside = self._sum({})
            if self._peek() != ")":
                raise self._unread()
            self.at += 1
            return inside
        if token.text == "1":
            self.at += 1
            return {frozenset(): ()}
        if token.kind == "number":
            raise FormulaError(
                f"The number {token.text} is not a term: use 0 or 1 for the intercept, and "
                "I(2 * x) for a multiple of a column."
            )
        if token.kind != "name":
            raise self._unread()
        return self._factor()

    def _factor(self) -> Terms:
        """Take a column or a call, with its dots and parentheses."""
        end = self.at + 1
        while end + 1 < len(self.tokens) and self.tokens[end].text == ".":
            end += 2
        if end < len(self.tokens) and self.tokens[end].text == "(":
            end = closing(self.tokens, end) + 1
        factor = self.reader.factor(self.tokens[self.at : end])
        self.at = end
        return {frozenset((factor,)): (factor,)}


def _add(terms: Terms, other: Terms, negative: bool) -> None:
    """Add the other terms, or remove them."""
    for key, term in other.items():
        if not negative:
            terms.setdefault(key, term)
        elif key and key not in terms:
            raise FormulaError(
                f"In the formula, '- {':'.join(term)}' removes a term that is not there: drop it."
            )
        else:
            terms.pop(key, None)


def _union(*sets: Terms) -> Terms:
    """Terms of all sets, each where and as it came first."""
    union: Terms = {}
    for terms in sets:
        for key, term in terms.items():
            union.setdefault(key, term)
    return union


def _cross(left: Terms, right: Terms) -> Terms:
    """All products of a term of `left` with one of `right`."""
    if len(left) * len(right) > _MAX_TERMS:
        raise FormulaError(f"The formula expands to more than {_MAX_TERMS} terms: simplify it.")
    pairs = ((a, b) for a in left.values() for b in right.values())
    products = (tuple(dict.fromkeys(a + b)) for a, b in pairs)
    return _union(*({frozenset(term): term} for term in products))


def term_of(column: str) -> str:
    """Name the term of a column: ``period`` for ``period[T.2]``."""
    return re.sub(r"\[[^\]]*\]", "", column)
