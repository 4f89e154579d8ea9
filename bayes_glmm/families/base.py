r"""What a family and a link are: the formulas every method shares, each written once.

A link says how the mean depends on the linear predictor, through value and three
derivatives in ``eta``; a family says how the log density depends on the *parts* a link
offers (``inverse``: the mean; ``log_inverse``: its logarithm; ``log_complement``:
``log(1 - mean)``). Composing the two gives ``(l, l', l'', l''')`` in ``eta`` for every
pair, in forms that stay accurate far in the tails.

The functions use bare names (``exp``, ``where``, ``erfcx``) and nothing array-specific, so
the same code is valid NumPy as it stands and is re-bound to Numba scalars and to PyTensor.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A set of real numbers or of integers: where a mean or a response may lie."""

    low: float
    high: float
    closed_low: bool = False
    closed_high: bool = False
    integer: bool = False

    def contains(self, x: np.ndarray) -> np.ndarray:
        """Tell, element by element, whether ``x`` lies inside."""
        above = x >= self.low if self.closed_low else x > self.low
        below = x <= self.high if self.closed_high else x < self.high
        inside = above & below & np.isfinite(x)
        return inside & (x == np.round(x)) if self.integer else inside

    def __str__(self) -> str:
        """Say the set in words, for messages."""
        if self.integer and np.isinf(self.high):
            return f"the integers {self.low:g}, {self.low + 1:g}, {self.low + 2:g}, …"
        if self.integer:
            return f"the integers {self.low:g} to {self.high:g}"
        if np.isinf(self.low) and np.isinf(self.high):
            return "the real numbers"
        left, right = "[" if self.closed_low else "(", "]" if self.closed_high else ")"
        return f"the interval {left}{self.low:g}, {self.high:g}{right}"


class _Singleton:
    """One stateless instance per class: equal and hashed by class, so cheap to compare."""

    name: ClassVar[str]

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class Link(_Singleton):
    """``eta = g(mu)`` and its inverse.

    Each part takes ``eta`` (any shape, link scale) and returns four values of that shape:
    the function and its first three derivatives in ``eta``.
    """

    mean_range: ClassVar[Interval]  # the means the inverse link can reach
    latex: ClassVar[str]  # g, with {} for its argument
    # eta must be larger: elsewhere there is no mean, and the density is zero
    lowest: ClassVar[float] = -np.inf

    @staticmethod
    def link(mu):
        """``eta = g(mu)``."""
        raise NotImplementedError

    @staticmethod
    def inverse(eta):
        """``mu`` and its derivatives."""
        raise NotImplementedError

    @staticmethod
    def log_inverse(eta):
        """``log(mu)`` and its derivatives (links whose mean is positive)."""
        raise NotImplementedError

    @staticmethod
    def log_complement(eta):
        """``log(1 - mu)`` and its derivatives (links onto (0, 1))."""
        raise NotImplementedError


class Family(_Singleton):
    """A response distribution given its mean, and for some a dispersion.

    ``parts`` names the functions of the link that ``log_density`` takes, in order, each as
    the tuple (value, first, second, third derivative) in ``eta``.
    """

    links: ClassVar[tuple[str, ...]]  # names allowed, the default first
    parts: ClassVar[tuple[str, ...]]
    has_dispersion: ClassVar[bool] = False
    # Var(y) = dispersion^2 V(mu): estimates of eta do not depend on it, and quasi-likelihood
    # has it as a free factor
    dispersion_is_scale: ClassVar[bool] = False
    dispersion_name: ClassVar[str] = ""  # what `dispersion` is, in words
    # the family that this one becomes as the log dispersion goes to +inf (1) or -inf (-1)
    limit: ClassVar[tuple[str, int] | None] = None
    has_trials: ClassVar[bool] = False
    support: ClassVar[Interval]
    pymc: ClassVar[tuple[str, dict[str, str]]]  # distribution, parameter -> quantity
    latex: ClassVar[str]  # of y | b

    @property
    def default_link(self) -> str:
        """The link taken when none is named: the first of ``links``."""
        return self.links[0]

    @staticmethod
    def log_density(y, trials, dispersion, *parts):
        """``log f(y | eta)`` less ``log_scale`` and ``log_base``, and derivatives in ``eta``."""
        raise NotImplementedError

    @staticmethod
    def dispersion_derivatives(y, trials, dispersion, *parts):
        """Give derivatives of ``(l, l', l'')`` with respect to ``log(dispersion)``."""
        raise NotImplementedError

    @staticmethod
    def log_scale(y, trials, dispersion):
        """Give the part of ``log f`` that depends on the dispersion and not on ``eta``.

        Returns
        -------
        value, slope
            Row by row, and the derivative with respect to ``log(dispersion)``. It is computed
            once for a likelihood, outside the integral, and in NumPy only.
        """
        zero = np.zeros(np.shape(y))
        return zero, zero

    @staticmethod
    def log_base(y, trials):
        """Give the part of ``log f`` that depends on no parameter."""
        raise NotImplementedError

    @staticmethod
    def variance(mu, dispersion):
        """``Var(y)`` per trial at mean ``mu``, response scale."""
        raise NotImplementedError

    @staticmethod
    def excess(trials, dispersion):
        """How many times ``trials * variance`` the variance of a row of several trials is."""
        return 1.0

    @staticmethod
    def rough_dispersion(y, trials, mu):
        """Give a first estimate of the dispersion where the means are about ``mu``."""
        return 1.0

    @staticmethod
    def simulate(rng, mu, trials, dispersion):
        """Draw responses with mean ``mu`` (per trial), of the broadcast shape."""
        raise NotImplementedError

    @staticmethod
    def recession(y, trials):
        """Tell in which direction of ``eta`` the likelihood of each row does not fall.

        +1: as ``eta`` grows; -1: as it falls; 0: in neither, the row holds ``eta`` bounded.
        """
        return np.zeros(np.shape(y))

    def outside(self, y: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """Tell, row by row, whether ``y`` lies outside the family's support."""
        beyond = y > trials if self.has_trials else np.zeros(y.shape, bool)
        return ~self.support.contains(y) | beyond
