"""Expressions of columns: what a formula may contain, checked, and evaluated without ``eval``.

Formula text comes from model files and is data, not a program.  Every piece of it that
would reach a Python evaluator (formulaic evaluates calls) passes `check_expression`
first: the text is parsed with :mod:`ast` and refused unless each node is on a short
list.  What the gate returns is text written afresh from the checked tree, so that no
quoting trick can make another parser read it differently.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ELEMENTWISE: dict[str, Callable[[Any], Any]] = {
    "I": lambda x: x,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "expit": lambda x: 1.0 / (1.0 + np.exp(-np.asarray(x))),
    "sqrt": np.sqrt,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
}
"""Functions of one column, element by element; natural logarithms, angles in radians."""

# transforms that learn from the column (formulaic's): allowed keywords
_STATEFUL = {
    "scale": {"center", "scale", "ddof"},
    "center": set(),
    "poly": {"degree", "raw"},
    "bs": {"df", "knots", "degree", "include_intercept", "lower_bound", "upper_bound"},
    "cr": {"df", "knots", "constraints", "lower_bound", "upper_bound"},
    "cs": {"df", "knots", "constraints", "lower_bound", "upper_bound"},
    "cc": {"df", "knots", "constraints", "lower_bound", "upper_bound"},
}
_CONTRASTS = ("treatment", "sum", "helmert", "poly", "diff", "SAS")
_NUMPY = ("log", "log1p", "exp", "sqrt", "abs", "sin", "cos")
_HINTS = {
    "factor": "C(x) makes a column a factor",
    "ns": "cr(x, df=…) is the natural cubic spline",
    "s": "smooth terms are not served; bs(x, df=…) and cr(x, df=…) are splines",
    "exp10": "10 to the power x is exp(2.302585092994046 * x)",
    "lag": "make the lagged column in the data, within each group",
    "hashed": "C(x) makes a column a factor",
    "offset": "offset(…) stands on its own, added with +",
    "cbind": "cbind(successes, failures) stands left of ~",
}

MAX_POWER = 6
_MAX_NODES = 200
_MAX_NUMBER = 1e12
_MAX_COLUMNS = 20  # of one spline or polynomial
_SAFE_STRING = re.compile(r"[\w .,+\-<>=/]{0,100}")

_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARE = {
    ast.Lt: operator.lt,
    ast.Gt: operator.gt,
    ast.LtE: operator.le,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class FormulaError(ValueError):
    """The formula text is not one this package reads; the message says what to write."""


@dataclass(frozen=True)
class Expression:
    """A checked expression of data columns.

    Attributes
    ----------
    text : str
        The expression written afresh from its checked tree.
    names : tuple of str
        Columns it uses, in order of appearance.
    coded, plain : frozenset of str
        Columns used inside ``C()``, and those used otherwise.
    calls : frozenset of str
        Functions it calls.
    """

    text: str
    names: tuple[str, ...]
    coded: frozenset[str]
    plain: frozenset[str]
    calls: frozenset[str]


def check_expression(text: str, *, learned: bool = False) -> Expression:
    """Check an expression against the whitelist and write it afresh.

    Parameters
    ----------
    text : str
        Python syntax, powers as ``**``.
    learned : bool
        Whether transforms that learn from the data (``C poly bs cr cs cc scale
        center``) are allowed: yes in model terms, no in responses and offsets.

    Raises
    ------
    FormulaError
        For anything but arithmetic, comparisons and listed functions of columns.
    """
    tree = _parse(text)
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        raise FormulaError(
            f"The expression {shorten(text)} is longer than {_MAX_NODES} parts: "
            "compute it as a column of the data."
        )
    gate = _Gate(text, learned)
    gate.value(tree)
    return Expression(
        ast.unparse(tree),
        tuple(dict.fromkeys(gate.names)),
        frozenset(gate.coded),
        frozenset(gate.plain),
        frozenset(gate.calls),
    )


def evaluate(text: str, columns: Mapping[str, Any]) -> Any:
    """Value of an elementwise expression that `check_expression` has passed.

    The tree is walked; no Python evaluator is involved.

    Parameters
    ----------
    text : str
        ``Expression.text``.
    columns : mapping
        Column name to array of shape (n,).

    Returns
    -------
    array of shape (n,), or a number where the expression names no column.
    """
    return _value(_parse(text), columns)


def _parse(text: str) -> ast.expr:
    if _is_name(text):
        return ast.Name(text)
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise FormulaError(
            f"{shorten(text)} is not an expression: write arithmetic of columns such as "
            "log(x), I(x^2) or size - incidence."
        ) from None


def _is_name(text: str) -> bool:
    """Whether the text is one column name; words of Python such as `class` may be columns."""
    return text.isidentifier() and text not in ("True", "False", "None", "in")


def _value(node: ast.expr, columns: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name(id=name):
            return columns[name]
        case ast.Constant(value=value):
            return value
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, columns), _value(right, columns))
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, columns)
            return -value if isinstance(op, ast.USub) else value
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _COMPARE[type(op)](_value(left, columns), _value(right, columns))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[argument]):
            return ELEMENTWISE[name](_value(argument, columns))
    raise TypeError(f"{shorten(ast.unparse(node))} has not passed check_expression")


def shorten(text: str) -> str:
    """Quote a piece of formula in a message: one line, at most 60 characters."""
    text = " ".join(text.split())
    for mark in ("( ", " (", " )", " ,", " . ", "[ ", " ]"):
        text = text.replace(mark, mark.strip())
    return f"'{text if len(text) <= 60 else text[:57] + '…'}'"


class _Gate:
    """One walk over a tree: refuses what is not listed, collects names and calls."""

    def __init__(self, text: str, learned: bool) -> None:
        self.text, self.learned = text, learned
        self.names: list[str] = []
        self.plain: list[str] = []
        self.coded: list[str] = []
        self.calls: list[str] = []

    def refuse(self, what: str, instead: str) -> FormulaError:
        return FormulaError(f"In {shorten(self.text)}, {what} is not allowed: {instead}.")

    def value(self, node: ast.expr) -> None:
        """Check a node that stands for a number per row."""
        match node:
            case ast.Name():
                self.column(node, self.plain)
            case ast.Constant():
                self.number(node)
            case ast.BinOp(op=ast.Pow()):
                self.power(node)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self.value(left)
                self.value(right)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                self.value(operand)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                self.value(left)
                if isinstance(right, ast.Constant) and isinstance(right.value, str):
                    self.constant(right)
                else:
                    self.value(right)
            case ast.Call():
                self.call(node)
            case ast.Attribute():
                raise self.refuse(
                    "a name with a dot",
                    'rename the column, as in data.rename(columns={"a.b": "a_b"})',
                )
            case _:
                raise self.refuse(
                    f"{type(node).__name__}",
                    "use arithmetic and the functions " + ", ".join(_functions(self.learned)),
                )

    def column(self, node: ast.Name, kind: list[str]) -> None:
        kind.append(node.id)
        self.names.append(node.id)

    def number(self, node: ast.Constant) -> None:
        value: Any = node.value
        if type(value) not in (int, float):
            raise self.refuse(f"{value!r:.40}", "only numbers and columns take part in arithmetic")
        if not abs(value) <= _MAX_NUMBER:
            raise self.refuse(f"a number beyond {_MAX_NUMBER:g}", "rescale the column")

    def constant(self, node: ast.expr) -> None:
        """Check an option of a call: a number, a word, True, False, None, or a list of them."""
        match node:
            case ast.Constant(value=str() as word):
                if not _SAFE_STRING.fullmatch(word):
                    raise self.refuse("that text", "use letters, digits, spaces and .,+-<>=/_ only")
            case ast.Constant(value=True | False | None):
                pass
            case ast.Constant():
                self.number(node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as operand):
                self.number(operand)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                for item in items:
                    self.constant(item)
            case _:
                raise self.refuse(shorten(ast.unparse(node)), "options are numbers, words or lists")

    def power(self, node: ast.BinOp) -> None:
        self.value(node.left)
        exponent: Any = None
        match node.right:
            case (
                ast.Constant(value=number)
                | ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=number))
            ):
                exponent = number
        small = type(exponent) in (int, float) and abs(exponent) <= MAX_POWER
        # a power of numbers alone could grow without bound when repeated
        if not small or not any(isinstance(part, ast.Name) for part in ast.walk(node.left)):
            raise self.refuse(
                "that power", f"powers are of columns, with a number of at most {MAX_POWER}"
            )

    def call(self, node: ast.Call) -> None:
        name = self.function(node.func)
        self.calls.append(name)
        if any(isinstance(a, ast.Starred) for a in node.args) or any(
            k.arg is None for k in node.keywords
        ):
            raise self.refuse("a starred argument", "write the arguments out")
        if name == "C":
            self.factor(node)
        elif name in _STATEFUL:
            self.transform(name, node)
        elif len(node.args) == 1 and not node.keywords:
            self.value(node.args[0])
        else:
            raise self.refuse(f"{name}() with options", f"{name}(x) takes one argument")

    def function(self, node: ast.expr) -> str:
        """Name that the call refers to: the function's, or ``np``."""
        match node:
            case ast.Attribute(value=ast.Name(id="np"), attr=attribute) if attribute in _NUMPY:
                return "np"
            case ast.Name(id=name) if name in _functions(self.learned):
                return name
            case ast.Name(id=name) if name in _functions(True):
                raise self.refuse(
                    f"{name}()", "outside the model terms only functions by row are served"
                )
            case ast.Name(id=name) if name in _HINTS:
                raise self.refuse(f"{name}()", _HINTS[name])
        raise self.refuse(
            f"{shorten(ast.unparse(node))} as a function",
            "the functions served are " + ", ".join(_functions(self.learned)),
        )

    def factor(self, node: ast.Call) -> None:
        """Check ``C(column)`` and ``C(column, contr.sum)``."""
        options = [*node.args[1:], *(k.value for k in node.keywords)]
        if (
            not node.args
            or not isinstance(node.args[0], ast.Name)
            or len(options) > 1
            or any(k.arg != "contrasts" for k in node.keywords)
        ):
            raise self.refuse(
                shorten(ast.unparse(node)),
                "write C(column) or C(column, contr.sum), and set the levels in the data",
            )
        self.column(node.args[0], self.coded)
        for option in options:
            self.contrast(option)

    def contrast(self, node: ast.expr) -> None:
        arguments: Iterator[ast.expr] = iter(())
        if isinstance(node, ast.Call):
            if any(k.arg is None for k in node.keywords):
                raise self.refuse("a starred argument", "write the arguments out")
            arguments = iter([*node.args, *(k.value for k in node.keywords)])
            node = node.func
        match node:
            case ast.Attribute(value=ast.Name(id="contr"), attr=attribute) if (
                attribute in _CONTRASTS
            ):
                self.calls.append("contr")
            case _:
                raise self.refuse(
                    shorten(ast.unparse(node)),
                    "the contrasts are " + ", ".join(f"contr.{c}" for c in _CONTRASTS),
                )
        for argument in arguments:
            self.constant(argument)

    def transform(self, name: str, node: ast.Call) -> None:
        """Check a transform that learns from its column, and bound the columns it makes."""
        if not node.args:
            raise self.refuse(f"{name}()", f"write {name}(column, …)")
        self.value(node.args[0])
        for option in node.args[1:]:
            self.constant(option)
            self.size(name, option)
        for keyword in node.keywords:
            if keyword.arg not in _STATEFUL[name]:
                raise self.refuse(
                    f"{name}({keyword.arg}=…)",
                    f"its options are {', '.join(sorted(_STATEFUL[name])) or 'none'}",
                )
            self.constant(keyword.value)
            if keyword.arg in ("df", "degree"):
                self.size(name, keyword.value)

    def size(self, name: str, node: ast.expr) -> None:
        number = node.value if isinstance(node, ast.Constant) else None
        if type(number) is int and not 0 < number <= _MAX_COLUMNS:
            raise self.refuse(
                f"{name}() of size {number:g}", f"df and degree lie between 1 and {_MAX_COLUMNS}"
            )


def _functions(learned: bool) -> tuple[str, ...]:
    return (*ELEMENTWISE, "C", *_STATEFUL) if learned else tuple(ELEMENTWISE)
