"""Rows that come in clusters: sums within them, without a loop over clusters.

Arrays carry rows on their last axis, sorted by cluster, so that a sum within clusters is one
``np.add.reduceat``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Pattern:
    """Clusters with rows at the same waves.

    ``rows`` are row numbers, shape ``(clusters, m)``; ``wave`` has shape ``(m,)``.
    """

    rows: np.ndarray
    wave: np.ndarray


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters of sorted rows.

    Attributes
    ----------
    of_row
        Cluster of each row, ``0, 0, 1, 1, 1, …``, shape ``(n,)``, not decreasing, no gaps.
    wave
        Integer time of each row, increasing within each cluster, shape ``(n,)``; differences
        are lags.
    """

    of_row: np.ndarray
    wave: np.ndarray

    @classmethod
    def from_labels(cls, of_row: np.ndarray, wave: np.ndarray | None = None) -> "Clusters":
        """Make clusters of sorted codes; without waves, rows count 0, 1, 2, … in each."""
        if wave is None:
            start = np.flatnonzero(np.r_[True, of_row[1:] != of_row[:-1]])
            wave = np.arange(len(of_row)) - np.repeat(start, np.diff(np.r_[start, len(of_row)]))
        return cls(of_row, wave)

    @cached_property
    def start(self) -> np.ndarray:
        """First row of each cluster, shape ``(K,)``."""
        return np.flatnonzero(np.r_[True, self.of_row[1:] != self.of_row[:-1]])

    @cached_property
    def size(self) -> np.ndarray:
        """Rows of each cluster, shape ``(K,)``."""
        return np.diff(np.r_[self.start, len(self.of_row)])

    @property
    def count(self) -> int:
        """Number of clusters."""
        return len(self.start)

    @cached_property
    def largest(self) -> int:
        """Rows of the largest cluster."""
        return int(self.size.max())

    @cached_property
    def n_pairs(self) -> int:
        """Pairs of rows that share a cluster."""
        return int(np.sum(self.size * (self.size - 1)) // 2)

    @cached_property
    def gap(self) -> np.ndarray:
        """Waves since the row before in the same cluster, 0 at a cluster's first row; ``(n,)``."""
        gap = np.diff(self.wave, prepend=self.wave[:1])
        gap[self.start] = 0
        return gap

    def total(self, rows: np.ndarray) -> np.ndarray:
        """Sum over each cluster: ``(…, n)`` to ``(…, K)``."""
        return np.add.reduceat(rows, self.start, axis=-1)

    def spread(self, totals: np.ndarray) -> np.ndarray:
        """Give each row its cluster's value: ``(…, K)`` to ``(…, n)``."""
        return np.repeat(totals, self.size, axis=-1)

    @cached_property
    def patterns(self) -> list[Pattern]:
        """The distinct sets of waves, with their clusters."""
        return self._alike(self.wave)

    @cached_property
    def lag_patterns(self) -> list[Pattern]:
        """The distinct sets of waves since a cluster's first row, with their clusters."""
        return self._alike(self.wave - self.spread(self.wave[self.start]))

    @cached_property
    def size_patterns(self) -> list[Pattern]:
        """The distinct cluster sizes, with their clusters; waves count the rows."""
        return self._alike(np.arange(len(self.of_row)) - self.spread(self.start))

    def _alike(self, wave: np.ndarray) -> list[Pattern]:
        found = []
        for m in np.unique(self.size):
            rows = self.start[self.size == m][:, None] + np.arange(m)
            table = wave[rows]
            if (table == table[0]).all():
                found.append(Pattern(rows, table[0]))
                continue
            kinds, kind = np.unique(table, axis=0, return_inverse=True)
            order = np.argsort(kind.ravel(), kind="stable")
            ends = np.cumsum(np.bincount(kind.ravel()))[:-1]
            found += map(Pattern, np.split(rows[order], ends), kinds)
        return found

    def pairs(self, furthest: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give every pair of rows of one cluster once, as ``(first, second)`` row numbers.

        One block of pairs for each distance in row order, up to ``furthest``, so the largest
        cluster, not the number of clusters, sets the length of the loop.
        """
        last = self.largest - 1 if furthest is None else min(furthest, self.largest - 1)
        for distance in range(1, last + 1):
            first = np.flatnonzero(self.of_row[distance:] == self.of_row[:-distance])
            yield first, first + distance
