"""Compose a family with a link into one density in ``eta``, for NumPy and for Numba.

Families and links are duck-typed here: a family has ``parts`` and ``log_density``, a link
has the functions that ``parts`` names.
"""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from types import CodeType, FunctionType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Bound:
    """A family with its link, as NumPy functions of ``eta`` (link scale, shape (n,)).

    Where the link has no mean (``eta <= link.lowest``) the log density is -inf, and every
    derivative zero: searches turn back, and quadrature nodes there have no weight.

    Attributes
    ----------
    family, link
        Their objects.
    dispersion
        What quasi-likelihoods take as given where it is no factor of the variance.
    """

    family: Any
    link: Any
    dispersion: float = 1.0

    def inside(self, eta):
        """Tell where the link has a mean."""
        return eta > self.link.lowest

    def _compose(self, formula, outside, y, trials, eta, dispersion):
        """Values of ``formula`` where the link has a mean, and ``outside`` elsewhere."""
        bounded = np.isfinite(self.link.lowest)
        inside = self.inside(eta)
        safe = np.where(inside, eta, self.link.lowest + 1.0) if bounded else eta
        parts = [getattr(self.link, part)(safe) for part in self.family.parts]
        found = formula(y, trials, dispersion, *parts)
        if not bounded:
            return found
        return tuple(np.where(inside, f, other) for f, other in zip(found, outside, strict=True))

    def log_density(self, y, trials, eta, dispersion=1.0):
        """``(l, l', l'', l''')`` in ``eta`` without ``log_scale`` and ``log_base``."""
        outside = (-np.inf, 0.0, 0.0, 0.0)
        return self._compose(self.family.log_density, outside, y, trials, eta, dispersion)

    def dispersion_derivatives(self, y, trials, eta, dispersion):
        """``d(l, l', l'') / d log(dispersion)``, without ``log_scale``'s."""
        formula, outside = self.family.dispersion_derivatives, (0.0, 0.0, 0.0)
        return self._compose(formula, outside, y, trials, eta, dispersion)

    def log_likelihood(self, y, trials, eta, dispersion=1.0):
        """``log f(y | eta)`` row by row, all constants included."""
        scale = self.family.log_scale(y, trials, dispersion)[0]
        rest = scale + self.family.log_base(y, trials)
        return self.log_density(y, trials, eta, dispersion)[0] + rest

    def variance(self, mean, trials):
        """Variance per trial at the given dispersion, that of a row of several trials included."""
        family, given = self.family, self.dispersion
        return family.variance(mean, given) * family.excess(trials, given)

    def mean(self, eta):
        """``mu`` (per trial), response scale."""
        return self.link.inverse(eta)[0]


@lru_cache
def bind_numpy(family, link, dispersion: float = 1.0) -> Bound:
    """Return the NumPy functions of a family with a link; ``dispersion`` as in ``Bound``."""
    return Bound(family, link, dispersion)


@dataclass(frozen=True, eq=False)
class Blocks:
    """A family with its link as compiled functions over blocks of rows.

    All have one signature, ``(y, trials, eta, dispersion, low, n, out)``, and are passed to
    kernels as first-class functions, so that one cached kernel serves every family. They take
    the ``n`` rows of ``y`` and ``trials`` from ``low`` on and the first ``n`` elements of
    ``eta``, and fill the first ``n`` columns of ``out``.

    Attributes
    ----------
    density
        Rows of ``out``: the log density (without constant) and its three derivatives in
        ``eta``.
    score
        The first two of these, at less cost.
    spread
        Derivatives of ``l, l', l''`` with respect to log dispersion; zeros for families
        without one.
    has_dispersion
        Whether ``spread`` matters.
    log_scale
        The family's own, in NumPy: ``(y, trials, dispersion)`` to the part of the log density
        that does not depend on ``eta``, and its derivative.
    """

    density: Any
    score: Any
    spread: Any
    has_dispersion: bool
    log_scale: Any


# names in the code below that ``_rebind`` fills in
formula: Any = None
part0: Any = None
part1: Any = None
composed: Any = None
anywhere: Any = None
lowest: Any = None
inf = np.inf


def _compose_one(y, trials, eta, dispersion):
    return formula(y, trials, dispersion, part0(eta))


def _compose_two(y, trials, eta, dispersion):
    return formula(y, trials, dispersion, part0(eta), part1(eta))


def _density_inside(y, trials, eta, dispersion):
    inside = eta > lowest
    at = eta if inside else lowest + 1.0
    value, first, second, third = anywhere(y, trials, at, dispersion)
    return (
        value if inside else -inf,
        first if inside else 0.0,
        second if inside else 0.0,
        third if inside else 0.0,
    )


def _spread_inside(y, trials, eta, dispersion):
    inside = eta > lowest
    value, first, second = anywhere(y, trials, eta if inside else lowest + 1.0, dispersion)
    return value if inside else 0.0, first if inside else 0.0, second if inside else 0.0


def _density(y, trials, eta, dispersion, low, n, out):
    y, trials = y[low : low + n], trials[low : low + n]
    value, first, second, third = out[0], out[1], out[2], out[3]
    for i in range(n):
        value[i], first[i], second[i], third[i] = composed(y[i], trials[i], eta[i], dispersion)


def _score(y, trials, eta, dispersion, low, n, out):
    y, trials = y[low : low + n], trials[low : low + n]
    value, first = out[0], out[1]
    for i in range(n):
        value[i], first[i], _, _ = composed(y[i], trials[i], eta[i], dispersion)


def _spread(y, trials, eta, dispersion, low, n, out):
    y, trials = y[low : low + n], trials[low : low + n]
    value, first, second = out[0], out[1], out[2]
    for i in range(n):
        value[i], first[i], second[i] = composed(y[i], trials[i], eta[i], dispersion)


def _no_dispersion(y, trials, dispersion, *parts):
    return 0.0, 0.0, 0.0


def _rebind(function, name: str, names: dict) -> FunctionType:
    """Give a copy of ``function`` that looks its global names up in ``names``.

    The copy has a name of its own, since Numba's disk cache tells functions by their names.
    """
    code: CodeType = function.__code__.replace(co_name=name, co_qualname=name)
    return FunctionType(code, names | {"__name__": function.__module__}, name)


def _names_of(function, scalars: dict) -> dict:
    """Find what the global names of a family's or link's function stand for in compiled code.

    Raises
    ------
    TypeError
        If a name is neither a known scalar function nor a number nor a plain function.
    """
    found = {}
    for name in function.__code__.co_names:
        value = scalars.get(name, function.__globals__.get(name))
        if isinstance(value, FunctionType):
            value = _compile_scalar(value, scalars)
        elif name not in scalars and not isinstance(value, int | float):
            raise TypeError(
                f"{function.__qualname__} uses the name {name!r}, which compiled code does not "
                f"know: use {', '.join(sorted(scalars))}, numbers and plain functions."
            )
        found[name] = value
    return found


def _compile_scalar(function, scalars: dict):
    """Turn a bare-name function of arrays into a compiled one of scalars."""
    from .compiled import inlined

    names = _names_of(function, scalars)
    return inlined(_rebind(function, f"scalar_{function.__name__}", names))


def _fingerprint(*functions) -> str:
    """Hash what functions compute, so that families defined anywhere are cached apart."""
    digest = sha256()
    for f in functions:
        code = f.__code__
        used = {n: f.__globals__.get(n) for n in code.co_names}
        constants = [c for c in code.co_consts if not isinstance(c, CodeType)]
        numbers = {n: v for n, v in used.items() if isinstance(v, int | float)}
        helpers = {n: _fingerprint(v) for n, v in used.items() if isinstance(v, FunctionType)}
        digest.update(repr((code.co_code, code.co_names, constants, numbers, helpers)).encode())
    return digest.hexdigest()[:12]


@lru_cache
def bind_numba(family, link) -> Blocks:
    """Compile a family with its link, or load it from the cache of compiled kernels."""
    from . import scalar
    from .compiled import BLOCK_SIGNATURE, FirstClass, compile_function, inlined

    words = (
        "arctan", "exp", "log", "log1p", "expm1", "erfc", "erfcx", "where", "minimum", "maximum",
    )  # fmt: skip
    scalars = {word: getattr(scalar, word) for word in words} | {"abs": abs}
    parts = [getattr(link, part) for part in family.parts]
    spread = family.dispersion_derivatives if family.has_dispersion else _no_dispersion
    name = f"{family.name}_{link.name}_{_fingerprint(family.log_density, spread, *parts)}"
    compiled_parts = {f"part{i}": _compile_scalar(p, scalars) for i, p in enumerate(parts)}
    compose = (_compose_one, _compose_two)[len(parts) - 1]

    def block(template, function, guard):
        names = compiled_parts | {"formula": _compile_scalar(function, scalars)}
        whole = inlined(_rebind(compose, f"{name}_composed", names))
        if np.isfinite(link.lowest):
            names = {"anywhere": whole, "lowest": float(link.lowest), "inf": np.inf}
            whole = inlined(_rebind(guard, f"{name}_inside", names))
        named = _rebind(template, f"{name}{template.__name__}", {"composed": whole})
        return FirstClass(compile_function(named, BLOCK_SIGNATURE), BLOCK_SIGNATURE)

    return Blocks(
        density=block(_density, family.log_density, _density_inside),
        score=block(_score, family.log_density, _density_inside),
        spread=block(_spread, spread, _spread_inside),
        has_dispersion=family.has_dispersion,
        log_scale=family.log_scale,
    )
