"""Compose a family with a link into one density in ``eta``, for NumPy and for Numba.

Families and links are duck-typed here: a family has ``parts`` and ``log_density``, a link
has the functions that ``parts`` names.
"""

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Bound:
    """A family with its link, as NumPy functions of ``eta`` (link scale, shape (n,))."""

    family: object
    link: object

    def _parts(self, eta):
        return [getattr(self.link, part)(eta) for part in self.family.parts]

    def log_density(self, y, trials, eta, dispersion=1.0):
        """``(l, l', l'', l''')`` in ``eta`` without the constant ``log_base``."""
        return self.family.log_density(y, trials, dispersion, *self._parts(eta))

    def dispersion_derivatives(self, y, trials, eta, dispersion):
        """``d(l, l', l'') / d log(dispersion)``."""
        return self.family.dispersion_derivatives(y, trials, dispersion, *self._parts(eta))

    def log_likelihood(self, y, trials, eta, dispersion=1.0):
        """``log f(y | eta)`` row by row, the constant included."""
        return self.log_density(y, trials, eta, dispersion)[0] + self.family.log_base(y, trials)

    def mean(self, eta):
        """``mu`` (per trial), response scale."""
        return self.link.inverse(eta)[0]


@lru_cache
def bind_numpy(family, link) -> Bound:
    """Return the NumPy functions of a family with a link."""
    return Bound(family, link)
