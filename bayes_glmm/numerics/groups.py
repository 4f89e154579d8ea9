"""Rows and the grouping factors over them, as the kernels want them."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array

from .covariance import Covariance


@dataclass(frozen=True, eq=False)
class Rows:
    """What is observed: arrays with one row an observation.

    Attributes
    ----------
    y, trials, offset
        Shape ``(n,)``; the offset is on the link scale.
    X
        Fixed-effect columns, ``(n, p)``.
    """

    y: np.ndarray
    trials: np.ndarray
    offset: np.ndarray
    X: np.ndarray

    def take(self, order: np.ndarray) -> "Rows":
        """Give the same rows in another order."""
        return Rows(*(a[order] for a in (self.y, self.trials, self.offset, self.X)))


def distinct_rows(y: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, ...]:
    """Give the pairs of response and trials that occur, and how often; continuous ones as they are.

    What depends on them alone is then computed once for a pair.
    """
    if not np.array_equal(y, np.floor(y)):
        return y, trials, np.ones(len(y))
    pairs, count = np.unique(y + 1j * trials, return_counts=True)
    return pairs.real.copy(), pairs.imag.copy(), count.astype(float)


def distinct_by_level(y: np.ndarray, trials: np.ndarray, factor: "Factor") -> csr_array:
    """Count the rows of each of the ``distinct_rows`` in each level, ``(pairs, levels)``."""
    kind = np.arange(len(y))
    if np.array_equal(y, np.floor(y)):
        kind = np.unique(y + 1j * trials, return_inverse=True)[1]
    counts = coo_array((np.ones(len(y)), (kind, factor.index)), (kind.max() + 1, factor.levels))
    return counts.tocsr()


@dataclass(frozen=True, eq=False)
class Factor:
    """One grouping factor with its effects.

    Attributes
    ----------
    index
        Level of each row, ``(n,)`` of int64.
    Z
        Columns of the effects, ``(n, q)``.
    levels
        Number of levels.
    covariance
        Structure of the effects' covariance.
    """

    index: np.ndarray
    Z: np.ndarray
    levels: int
    covariance: Covariance

    @property
    def q(self) -> int:
        """Number of effects of one level."""
        return self.Z.shape[1]

    def take(self, order: np.ndarray) -> "Factor":
        """Give the factor over the same rows in another order."""
        return Factor(self.index[order], self.Z[order], self.levels, self.covariance)

    def starts(self) -> np.ndarray:
        """First row of each level, and ``n``; the rows are sorted by level."""
        return np.searchsorted(self.index, np.arange(self.levels + 1)).astype(np.int64)

    def sum_by_level(self, values: np.ndarray) -> np.ndarray:
        """Sum rows by level: ``(n, …)`` to ``(levels, …)``."""
        flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
        sums = np.empty((self.levels, flat.shape[1]))
        for k, column in enumerate(flat.T):
            sums[:, k] = np.bincount(self.index, column, self.levels)
        return sums.reshape(self.levels, *values.shape[1:])


@dataclass(frozen=True, eq=False)
class Alike:
    """Levels with the same rows, which have the same integral at every parameter vector.

    Attributes
    ----------
    rows, factor
        Of one level for each set of alike levels, sorted by level.
    of
        The set each level belongs to, ``(levels,)``.
    """

    rows: Rows
    factor: Factor
    of: np.ndarray

    def members(self) -> tuple[np.ndarray, np.ndarray]:
        """Levels in the order of their sets, and where each set starts among them."""
        order = np.argsort(self.of, kind="stable")
        starts = np.searchsorted(self.of[order], np.arange(self.factor.levels + 1))
        return order.astype(np.int64), starts.astype(np.int64)


def alike_levels(rows: Rows, factor: Factor) -> Alike:
    """Find the levels whose rows are the same, in any order; rows are sorted by level."""
    table = np.c_[rows.y, rows.trials, rows.offset, rows.X, factor.Z] + 0.0  # no negative zeros
    order = np.lexsort([*table.T, factor.index])
    table, starts = table[order], factor.starts()
    sets: dict[bytes, int] = {}
    first: list[int] = []
    of = np.empty(factor.levels, np.int64)
    for level in range(factor.levels):
        key = table[starts[level] : starts[level + 1]].tobytes()
        of[level] = sets.setdefault(key, len(sets))
        if of[level] == len(first):
            first.append(level)
    kept = np.isin(factor.index, first)
    new = np.empty(factor.levels, np.int64)
    new[first] = np.arange(len(first))
    taken = Factor(new[factor.index[kept]], factor.Z[kept], len(first), factor.covariance)
    return Alike(rows.take(kept), taken, of)


def largest_first(factors: list[Factor]) -> list[int]:
    """Order of the factors by number of effects, the largest first (ties: first come)."""
    return sorted(range(len(factors)), key=lambda k: -factors[k].levels)


def by_size(factors: list[Factor]) -> list[Factor]:
    """Give the factors in the order of ``largest_first``."""
    return [factors[k] for k in largest_first(factors)]


def parents(finer: Factor, coarser: Factor) -> np.ndarray:
    """Level of ``coarser`` that each level of ``finer`` lies in; 0 for a level without rows."""
    parent = np.zeros(finer.levels, np.int64)
    parent[finer.index] = coarser.index
    return parent


def is_nested(ranked: list[Factor]) -> bool:
    """Tell whether there are two factors, each level of the first within one of the second.

    Factors that split the rows alike are not: neither is the finer one.
    """
    if len(ranked) != 2 or ranked[0].levels == ranked[1].levels:
        return False
    finer, coarser = ranked
    return bool(np.all(parents(finer, coarser)[finer.index] == coarser.index))


def sort_rows(rows: Rows, factors: list[Factor], keys: list[Factor]) -> tuple[Rows, list[Factor]]:
    """Sort everything stably by the levels of ``keys``, the first key first, unless sorted."""
    order = np.lexsort([f.index for f in reversed(keys)])
    if np.all(order[1:] > order[:-1]):
        return rows, factors
    return rows.take(order), [f.take(order) for f in factors]


def chunks_of(starts: np.ndarray, rows: int) -> np.ndarray:
    """Cut consecutive groups into runs of about ``rows`` rows; shape ``(chunks + 1,)``.

    The cuts depend on the data alone, so that sums over chunks are the same for any number
    of threads.
    """
    groups = len(starts) - 1
    targets = np.arange(rows, starts[-1], rows)
    cuts = np.searchsorted(starts, targets, side="left")
    return np.unique(np.concatenate([[0], cuts, [groups]])).astype(np.int64)
