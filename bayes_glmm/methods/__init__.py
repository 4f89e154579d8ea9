"""The methods of estimation: frozen objects that hold options and name their engine as text.

An engine is a function ``fit(model, method) -> Fit`` found by ``Method.load``; this package
imports none, so that naming a method costs nothing. Options are checked here, once.
"""

from ..choices import hint
from .base import Method, NotServedError
from .gee import GEE
from .likelihood import GLM, ML, OLS, REML, ConditionalLogit
from .posterior import NUTS, Integrated
from .quasi import MQL, PQL

__all__ = [
    "GEE",
    "GLM",
    "ML",
    "MQL",
    "NUTS",
    "OLS",
    "PQL",
    "REML",
    "SHORTHAND",
    "ConditionalLogit",
    "Integrated",
    "Method",
    "NotServedError",
    "get_method",
]

SHORTHAND = {
    m.name: m
    for m in (
        GLM(),
        OLS(),
        ML(),
        REML(),
        PQL(),
        MQL(),
        GEE(),
        ConditionalLogit(),
        NUTS(),
        Integrated(),
    )
} | {"laplace": ML(nodes=1)}


def get_method(method: str | Method) -> Method:
    """Return the method a string stands for; a Method passes through.

    Raises
    ------
    ValueError
        If the string names no method.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, type) and issubclass(method, Method):
        raise ValueError(f"method={method.__name__} is a class: write {method.__name__}().")
    if not isinstance(method, str) or method not in SHORTHAND:
        raise ValueError(
            f"method={method!r} is not known: give one of {', '.join(map(repr, SHORTHAND))}, "
            f"or an object such as bg.ML(nodes=25){hint(str(method), SHORTHAND)}"
        )
    return SHORTHAND[method]
