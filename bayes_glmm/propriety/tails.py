r"""How fast the posterior falls as standard deviations go to infinity.

Let ``sd_r`` of a set ``S`` of effects go to infinity in proportion to ``s``, and with them the
coefficients ``A`` that have Student-t priors (``nu_k`` degrees of freedom), while coefficients
``F`` with flat priors are integrated over. If the likelihood falls at least exponentially,

.. math:: \int L \asymp s^{-\mathrm{margin}} \frac{ds}{s}, \quad \mathrm{margin}(S, A) =
   \sum_{r \in S} (\alpha_r - 1) + \sum_{k \in A} \nu_k + \kappa([X_F, X_A, Z_S]) - p_F

with ``alpha_r`` the power of the tail of the prior of ``sd_r`` and ``kappa`` the codimension of
the recession cone (``cones``). A margin of zero or less leaves no posterior. The theorem is this
package's own: derived (in ``docs/propriety.md``) and checked by quadrature in the tests.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from ..priors import Prior
from .cones import Cone, Effects, cone_of

MOST_SUBSETS = 4096
GENERIC_DIRECTIONS = 12  # random subspaces tried for effects that are correlated
SEED = 1  # of these directions: a check gives the same answer every time


@dataclass(frozen=True, eq=False)
class Deviation:
    """One standard deviation: its name, prior, and the column it scales."""

    name: str
    group: str
    prior: Prior
    index: np.ndarray
    z: np.ndarray
    n_levels: int
    correlated: tuple[int, ...] = ()  # positions of its correlated set, itself included
    eta: float = 1.0  # of the LKJ prior of that set

    @property
    def alpha(self) -> float:
        """Power of the prior's tail."""
        return self.prior.tail


@dataclass(frozen=True, eq=False)
class Tail:
    """The posterior along one way to infinity.

    Attributes
    ----------
    deviations, terms
        Names of the standard deviations and coefficients that go there.
    margin
        Minus the power of ``s``; the posterior does not exist where it is zero or less.
    cone
        The recession cone of the columns concerned; None where ``kappa >= 0`` decides.
    generic
        Whether correlated effects go there along a generic direction.
    """

    deviations: tuple[str, ...]
    terms: tuple[str, ...]
    margin: float
    cone: Cone | None
    generic: bool = False


@dataclass(frozen=True, eq=False)
class TailProblem:
    """Rows, flat columns, Student-t columns and the standard deviations of a model."""

    sign: np.ndarray
    X_flat: np.ndarray
    X_heavy: np.ndarray
    heavy: tuple[tuple[str, float], ...]  # term, degrees of freedom
    deviations: tuple[Deviation, ...]

    @property
    def heavy_tailed(self) -> tuple[int, ...]:
        """Positions of the standard deviations whose prior has a power tail."""
        return tuple(k for k, d in enumerate(self.deviations) if np.isfinite(d.alpha))

    @property
    def too_many(self) -> bool:
        """Whether there are more subsets than can be looked at."""
        return 2 ** (len(self.heavy_tailed) + len(self.heavy)) > MOST_SUBSETS

    def tails(self) -> list[Tail]:
        """Every way to infinity, the smallest margin first."""
        found = [self._tail(S, A) for S, A in self._subsets()]
        for S in _nonempty(self.heavy_tailed):
            found += self._generic(S)
        return sorted(found, key=lambda tail: tail.margin)

    def cone(self, S: Sequence[int], A: Sequence[int] = ()) -> Cone:
        """Recession cone of flat columns, the columns ``A`` and the effects ``S``."""
        chosen = [self.deviations[k] for k in S]
        effects = [Effects(d.index, d.z[:, None], d.n_levels) for d in chosen]
        return cone_of(self.sign, self._columns(A), effects)

    def _columns(self, A: Sequence[int]) -> np.ndarray:
        return np.hstack([self.X_flat, self.X_heavy[:, list(A)]])

    def _subsets(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        columns = range(len(self.heavy))
        for S in ((), *_nonempty(self.heavy_tailed)):
            for A in ((), *_nonempty(tuple(columns))):
                if S or (A and self.X_flat.shape[1]):
                    yield S, A

    def _weight(self, S, A) -> float:
        """Give the margin but for ``kappa``."""
        weight = sum(self.deviations[k].alpha - 1.0 for k in S)
        return weight + sum(self.heavy[k][1] for k in A) - self.X_flat.shape[1]

    def _tail(self, S, A) -> Tail:
        names = tuple(self.deviations[k].name for k in S)
        terms = tuple(self.heavy[k][0] for k in A)
        weight = self._weight(S, A)
        if weight > 0:  # kappa is at least 0
            return Tail(names, terms, weight, None)
        cone = self.cone(S, A)
        return Tail(names, terms, weight + cone.kappa, cone)

    def without(self, groups: Collection[str]) -> "TailProblem":
        """Leave out the standard deviations of some factors: they stay bounded."""
        kept = [k for k, d in enumerate(self.deviations) if d.group not in groups]
        at = {old: new for new, old in enumerate(kept)}
        found = (self.deviations[k] for k in kept)
        moved = (replace(d, correlated=tuple(at[j] for j in d.correlated)) for d in found)
        return replace(self, deviations=tuple(moved))

    def along_subspaces(self, group: str, decay: Callable[[int], float]) -> Iterator[Tail]:
        """Effects of one factor large in generic subspaces of every dimension ``m``.

        ``decay(m)`` is the power at which the prior of their covariance matrix falls there.
        """
        members = [d for d in self.deviations if d.group == group]
        names = tuple(d.name for d in members)
        Z = np.column_stack([d.z for d in members])
        rng = np.random.default_rng(SEED)
        for m in range(1, len(members) + 1):
            weight = decay(m) - self.X_flat.shape[1]
            if weight > 0:  # kappa is at least 0
                continue
            for _ in range(GENERIC_DIRECTIONS if m < len(members) else 1):
                V = rng.standard_normal((len(members), m)) if m < len(members) else np.eye(m)
                effects = Effects(members[0].index, Z @ V, members[0].n_levels)
                cone = cone_of(self.sign, self.X_flat, [effects])
                yield Tail(names, (), weight + cone.kappa, cone, generic=True)

    def _generic(self, S: tuple[int, ...]) -> Iterator[Tail]:
        """Correlated effects large in a generic subspace ``V`` of their coefficients only.

        With ``d`` standard deviations large and the correlation matrix within ``1/s`` of rank
        ``m``, LKJ(eta) has density ``s^-(d - m)(2 eta + d - m - 1)``.
        """
        sets = {self.deviations[k].correlated for k in S}
        choices = []
        for one in sets:
            members = tuple(k for k in S if self.deviations[k].correlated == one)
            ranks = range(1, len(members)) if len(one) > 1 else ()
            choices.append([(members, len(one), m) for m in (*ranks, len(members))])
        for choice in product(*choices):
            if any(m < len(members) for members, _, m in choice):
                yield from self._along(S, choice)

    def _along(self, S, choice) -> Iterator[Tail]:
        cost = 0.0
        for members, size, m in choice:
            d = len(members)
            eta = self.deviations[members[0]].eta + 0.5 * (size - d)
            cost += (d - m) * (2.0 * eta + d - m - 1.0)
        weight = self._weight(S, ()) + cost
        if weight > 0:
            return
        rng = np.random.default_rng(SEED)
        names = tuple(self.deviations[k].name for k in S)
        for _ in range(GENERIC_DIRECTIONS):
            effects = []
            for members, _, m in choice:
                one = self.deviations[members[0]]
                Z = np.column_stack([self.deviations[k].z for k in members])
                V = rng.standard_normal((len(members), m)) if m < len(members) else np.eye(m)
                effects.append(Effects(one.index, Z @ V, one.n_levels))
            cone = cone_of(self.sign, self.X_flat, effects)
            yield Tail(names, (), weight + cone.kappa, cone, generic=True)


def _nonempty(items: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for size in range(1, len(items) + 1):
        yield from combinations(items, size)
