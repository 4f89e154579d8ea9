"""The families' and links' formulas as PyTensor expressions, re-bound and never rewritten."""

from functools import lru_cache
from types import FunctionType, SimpleNamespace

import pytensor.tensor as pt

from ..families import Link

# what the bare names in families/ mean for PyTensor variables
SYMBOLIC = {
    "abs": pt.abs,
    "arctan": pt.arctan,
    "erfc": pt.erfc,
    "erfcx": pt.erfcx,
    "exp": pt.exp,
    "expm1": pt.expm1,
    "log": pt.log,
    "log1p": pt.log1p,
    "maximum": pt.maximum,
    "minimum": pt.minimum,
    "where": pt.switch,
}


def symbolic(function):
    """Return a function of ``families`` with its bare names bound to PyTensor.

    The code object is the original's: constants are those of its module, and only the names
    in ``SYMBOLIC`` change meaning.
    """
    return FunctionType(function.__code__, {**function.__globals__, **SYMBOLIC})


@lru_cache
def bind_pytensor(link: Link) -> SimpleNamespace:
    """Return the parts of a link (``inverse``, ``log_inverse``, …) for PyTensor variables."""
    parts = ("inverse", "log_inverse", "log_complement")
    return SimpleNamespace(**{part: symbolic(getattr(link, part)) for part in parts})


def quantity(name: str, link: Link, eta, dispersion=1.0):
    """Express what a family's ``pymc`` entry asks of the linear predictor and the dispersion.

    Parameters
    ----------
    name
        One of ``QUANTITIES``.
    link
        The link.
    eta
        Linear predictor, shape (n,).
    dispersion
        The family's, a scalar.
    """
    if name not in QUANTITIES:
        raise ValueError(f"quantity={name!r} is not known: use one of {', '.join(QUANTITIES)}.")
    return QUANTITIES[name](bind_pytensor(link), link, eta, dispersion)


def _logit_mean(bound, link, eta, dispersion):
    """Logit of the mean from the link's two logarithms, so that neither tail is lost."""
    if link.name == "logit":
        return eta
    return bound.log_inverse(eta)[0] - bound.log_complement(eta)[0]


def _share(part):
    """``dispersion`` times the mean or its complement, held above zero in the far tails."""

    def value(bound, link, eta, dispersion):
        return dispersion * pt.exp(pt.maximum(getattr(bound, part)(eta)[0], SMALLEST_LOG_SHARE))

    return value


SMALLEST_LOG_SHARE = -700.0
QUANTITIES = {
    "mean": lambda bound, link, eta, dispersion: bound.inverse(eta)[0],
    "logit_mean": _logit_mean,
    "mean / dispersion": lambda bound, link, eta, dispersion: bound.inverse(eta)[0] / dispersion,
    "dispersion * mean": _share("log_inverse"),
    "dispersion * complement": _share("log_complement"),
    "dispersion^-2": lambda bound, link, eta, dispersion: dispersion**-2,
    "dispersion^-2 / mean": lambda bound, link, eta, dispersion: (
        dispersion**-2 / bound.inverse(eta)[0]
    ),
}
