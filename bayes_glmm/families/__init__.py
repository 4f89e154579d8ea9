"""Families and links by name.

>>> get_family("binomial").default_link
'logit'
"""

from difflib import get_close_matches

from .base import Family, Interval, Link
from .beta_binomial import BetaBinomial
from .binomial import Bernoulli, Binomial
from .gamma import Gamma
from .gaussian import Gaussian
from .links import (
    Cauchit,
    Cloglog,
    Identity,
    Inverse,
    Log,
    Logit,
    Loglog,
    Probit,
    Sqrt,
)
from .negative_binomial import NegativeBinomial, NegativeBinomial1
from .poisson import Poisson

__all__ = ["Family", "Interval", "Link", "get_family", "get_link"]

FAMILIES = {
    f.name: f
    for f in (
        Gaussian(),
        Bernoulli(),
        Binomial(),
        BetaBinomial(),
        Poisson(),
        NegativeBinomial(),
        NegativeBinomial1(),
        Gamma(),
    )
}
LINKS = {
    g.name: g
    for g in (
        Identity(),
        Log(),
        Inverse(),
        Sqrt(),
        Logit(),
        Probit(),
        Cloglog(),
        Loglog(),
        Cauchit(),
    )
}
# what other software calls them
ELSEWHERE = {
    "nbinom": "negative_binomial",
    "nbinom2": "negative_binomial",
    "negative_binomial2": "negative_binomial",
    "negbinomial": "negative_binomial",
    "nb": "negative_binomial",
    "nb2": "negative_binomial",
    "nbinom1": "negative_binomial1",
    "nb1": "negative_binomial1",
    "normal": "gaussian",
    "betabinomial": "beta_binomial",
    "1/mu": "inverse",
}


def _lookup(kind: str, name, known: dict):
    if isinstance(name, str) and name in known:
        return known[name]
    words = {**{n: n for n in known}, **{a: n for a, n in ELSEWHERE.items() if n in known}}
    close = get_close_matches(str(name).lower(), words, n=1)
    hint = f"; did you mean {words[close[0]]!r}?" if close else "."
    raise ValueError(
        f"{kind}={name!r} is not known: give one of {', '.join(map(repr, known))}{hint}"
    )


def get_family(name: str | Family) -> Family:
    """Return the family of that name; a Family passes through."""
    return name if isinstance(name, Family) else _lookup("family", name, FAMILIES)


def get_link(name: str | Link | None, family: Family) -> Link:
    """Return the link of that name, or the family's default, and check that they go together.

    Raises
    ------
    ValueError
        If the name is unknown or the family has no such link.
    """
    link = name if isinstance(name, Link) else _lookup("link", name or family.default_link, LINKS)
    if link.name not in family.links:
        raise ValueError(
            f"link={link.name!r} does not go with family={family.name!r}: "
            f"use {' or '.join(map(repr, family.links))}."
        )
    return link
