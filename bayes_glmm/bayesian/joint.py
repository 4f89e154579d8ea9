r"""The posterior density over the coordinates and the effects of all factors but the largest.

.. math:: \log \pi(\xi, r \mid y) = \log \int f\Bigl(y \Bigm| o + X\beta + Z L u + \sum_k Z_k b_k,
   \phi\Bigr) \varphi(u)\, du + \sum_k \log \pi(r_k \mid L_k) + \log \pi(\xi)

``r_k`` are the partly centred variables (``numerics.partly_centred``) of the effects ``b_k`` of
the other factors, ``u`` the largest factor's effects, which quadrature integrates out. It is
the density of ``build_graph`` with ``u`` integrated out, in other variables.
"""

from collections.abc import Callable
from itertools import pairwise
from math import inf, isfinite

import numpy as np

from ..numerics.partly_centred import Information, PartlyCentred
from .density import IntegratedDensity


class JointDensity:
    """Log posterior of the coordinates, followed by the other factors' variables.

    Parameters
    ----------
    integrated
        The density of the coordinates given the other effects. Its state is used, so one
        object serves one thread.
    information
        For each of ``integrated.others``, what the data say about its effects: any is right, a
        good one mixes well.

    Attributes
    ----------
    size
        Number of unknowns.
    """

    def __init__(self, integrated: IntegratedDensity, information: list[Information]):
        self.integrated, self.information = integrated, information
        self.coordinates = integrated.coordinates
        self.centred = [
            PartlyCentred(integrated.factors[k], known)
            for k, known in zip(integrated.others, information, strict=True)
        ]
        # coarser factors first: the effects that others lie within
        self.order = sorted(range(len(information)), key=lambda i: self.centred[i].levels)
        cuts = np.cumsum([integrated.size, *(c.size for c in self.centred)])
        self.at = [slice(a, b) for a, b in pairwise(cuts)]
        self.size = int(cuts[-1])

    @property
    def coordinate_count(self) -> int:
        """Number of coordinates, which come first."""
        return self.integrated.size

    def copy(self) -> "JointDensity":
        """Give the same density with a state of its own."""
        old = self.integrated
        own = IntegratedDensity(old.model, old.nodes)
        own.integral.modes[:] = old.integral.modes
        return JointDensity(own, self.information)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log posterior density and its gradient; -inf where it cannot be had."""
        with np.errstate(all="ignore"):
            value, gradient = self._evaluate(x)
        if not (isfinite(value) and np.isfinite(gradient).all()):
            return -inf, np.full(self.size, np.nan)
        return value, gradient

    def _evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        c, integrated = self.coordinates, self.integrated
        xi = x[: integrated.size]
        gradient = np.zeros(self.size)
        total, by_prior = c.log_prior_at(xi)
        factors = [c.factor_at(xi, k) for k in integrated.others]
        if not isfinite(total):
            return -inf, gradient
        extra = np.zeros(len(integrated.rows.y))
        total += self.find_effects(x, factors)
        for centred in self.centred:
            centred.add_to(extra)
        value, by_xi, t = integrated.likelihood(xi, extra)
        if not isfinite(value):
            return -inf, gradient
        own = gradient[: integrated.size]
        for i in reversed(self.order):
            by_raw, by_L = self.centred[i].gradient(factors[i], t, self.centred)
            gradient[self.at[i]] = by_raw
            c.fill_gradient(own, xi, integrated.others[i], by_L)
        own += by_xi + by_prior
        return value + total, gradient

    def find_effects(self, x: np.ndarray, factors: list[np.ndarray]) -> float:
        """Find the other factors' effects at one point; return the variables' log density."""
        return sum(
            self.centred[i].effects(factors[i], x[self.at[i]], self.centred) for i in self.order
        )

    # many points

    def effects(self, x: np.ndarray) -> dict[int, np.ndarray]:
        """Effects ``b`` of the other factors by factor, ``(draws, levels, q)``."""
        others = self.integrated.others
        factors = [self.coordinates.factor(x[:, : self.integrated.size], k) for k in others]
        found = [np.empty((len(x), c.levels, c.q)) for c in self.centred]
        for d in range(len(x)):
            self.find_effects(x[d], [L[d] for L in factors])
            for b, centred in zip(found, self.centred, strict=True):
                b[d] = centred.b
        return dict(zip(others, found, strict=True))

    def log_likelihoods(self, x: np.ndarray, effects: dict[int, np.ndarray]) -> np.ndarray:
        """``log L_g`` of the integrated factor's levels given the others, ``(draws, levels)``.

        Without the family's constants; -inf where it cannot be had. ``effects`` are those at
        ``x``.
        """
        integrated = self.integrated
        beta, L, dispersion = integrated.arguments(x[:, : integrated.size])
        with np.errstate(all="ignore"):
            added = others_added(integrated, effects)
            return integrated.many().by_group(beta, L, dispersion, added)


def others_added(density: IntegratedDensity, effects: dict[int, np.ndarray]) -> Callable | None:
    """Give what other factors' effects add to ``eta`` in draws ``a:b``, as ``ManyDraws`` asks.

    ``effects`` by factor, ``(draws, levels, q)``; None where there are none.
    """
    if not effects:
        return None
    factors = density.factors

    def added(a: int, b: int) -> np.ndarray:
        eta = np.zeros((b - a, len(density.rows.y)))
        for k, values in effects.items():
            for column in range(factors[k].q):
                of_level = np.ascontiguousarray(values[a:b, :, column])
                eta += factors[k].Z[:, column] * of_level[:, factors[k].index]
        return eta

    return added
