"""The families' and links' formulas as PyTensor expressions, re-bound and never rewritten."""

from functools import lru_cache
from types import FunctionType, SimpleNamespace

import pytensor.tensor as pt

from ..families import Link

# what the bare names in families/ mean for PyTensor variables
SYMBOLIC = {
    "abs": pt.abs,
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


def quantity(name: str, link: Link, eta):
    """Express what a family's ``pymc`` entry asks of the linear predictor.

    Parameters
    ----------
    name
        "mean" (response scale) or "logit_mean" (its logit, from the link's two logarithms,
        so that neither tail is lost).
    link
        The link.
    eta
        Linear predictor, shape (n,).
    """
    bound = bind_pytensor(link)
    if name == "mean":
        return bound.inverse(eta)[0]
    if name == "logit_mean":
        if link.name == "logit":
            return eta
        return bound.log_inverse(eta)[0] - bound.log_complement(eta)[0]
    raise ValueError(f"quantity={name!r} is not known: use 'mean' or 'logit_mean'.")
