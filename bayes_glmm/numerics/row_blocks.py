"""Rows in independent blocks: those that levels, related levels or clusters connect.

The covariance of the responses is zero between blocks, so that dense algebra within each, many
of one size at once, does what sparse algebra would.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True, eq=False)
class AlikeBlocks:
    """Blocks with as many rows, and as many levels of every factor.

    Attributes
    ----------
    first
        Number of the first block; the others follow.
    rows
        Row numbers, shape ``(blocks, m)``.
    levels
        By factor, the levels that occur in each block, shape ``(blocks, L)``.
    codes
        By factor, the place of each row's level among them, shape ``(blocks, m)``.
    """

    first: int
    rows: np.ndarray
    levels: tuple[np.ndarray, ...]
    codes: tuple[np.ndarray, ...]

    def parts(self, most: int) -> Iterator["AlikeBlocks"]:
        """Split into sets of at most ``most`` blocks."""
        for low in range(0, len(self.rows), most):
            some = slice(low, low + most)
            yield AlikeBlocks(
                self.first + low,
                self.rows[some],
                tuple(levels[some] for levels in self.levels),
                tuple(codes[some] for codes in self.codes),
            )


class RowBlocks:
    """The independent blocks of a mixed model's rows.

    Parameters
    ----------
    n
        Number of rows.
    effects
        One object per grouping factor with ``index`` (n,), ``n_levels`` and ``covariance``: a
        known covariance between levels (levels, levels), or None.
    cluster
        Cluster of each row with correlated residuals, shape ``(n,)``; None where they are
        independent.

    Attributes
    ----------
    alike
        The blocks; those of one shape together.
    block, place
        Block of each row, numbered as ``alike`` has them, and the row's place in it; ``(n,)``.
    """

    def __init__(self, n: int, effects, cluster: np.ndarray | None = None) -> None:
        found = connected_rows(n, effects, cluster)
        sizes = np.bincount(found)
        rows = _Sorted(np.arange(n), found, len(sizes))
        levels = [_Sorted(*_homes(e.index, found), len(sizes)) for e in effects]
        shapes = np.column_stack([sizes, *(s.counts for s in levels)])
        kinds, kind = np.unique(shapes, axis=0, return_inverse=True)
        self.alike: list[AlikeBlocks] = []
        self.block, self.place = np.empty((2, n), np.int64)
        first = 0
        for k in range(len(kinds)):
            mine = np.flatnonzero(kind.ravel() == k)
            where = rows.table(mine)
            codes = tuple(
                _places(e.n_levels, s)[e.index[where]] for e, s in zip(effects, levels, strict=True)
            )
            tables = tuple(s.table(mine) for s in levels)
            self.alike.append(AlikeBlocks(first, where, tables, codes))
            self.block[where] = first + np.arange(len(mine))[:, None]
            self.place[where] = np.arange(where.shape[1])
            first += len(mine)


class _Sorted:
    """Things sorted by the block they are in."""

    def __init__(self, things: np.ndarray, home: np.ndarray, blocks: int) -> None:
        order = np.argsort(home, kind="stable")
        self.things = things[order]
        self.counts = np.bincount(home, minlength=blocks)
        self.starts = np.cumsum(self.counts) - self.counts
        self.place = np.arange(len(things)) - np.repeat(self.starts, self.counts)

    def table(self, blocks: np.ndarray) -> np.ndarray:
        """Give the things of blocks that have as many, shape ``(blocks, count)``."""
        return self.things[self.starts[blocks][:, None] + np.arange(int(self.counts[blocks[0]]))]


def _homes(index: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the levels that occur, and the block of each."""
    levels, first = np.unique(index, return_index=True)
    return levels, block[first]


def _places(n_levels: int, levels: _Sorted) -> np.ndarray:
    """Give the place of each level among those of its block."""
    found = np.zeros(n_levels, np.int64)
    found[levels.things] = levels.place
    return found


def connected_rows(n: int, effects, cluster: np.ndarray | None) -> np.ndarray:
    """Give each row the number of its block, ``0, 1, …``, shape ``(n,)``.

    Rows, levels and clusters are the nodes of a graph. Levels are related where their known
    covariance is not zero.
    """
    tails, heads, size = [], [], n
    for e in effects:
        tails.append(np.arange(n))
        heads.append(size + e.index)
        if e.covariance is not None:
            seen = np.unique(e.index)
            one, other = np.nonzero(e.covariance[np.ix_(seen, seen)])
            tails.append(size + seen[one])
            heads.append(size + seen[other])
        size += e.n_levels
    if cluster is not None:
        tails.append(np.arange(n))
        heads.append(size + cluster)
        size += int(cluster.max()) + 1
    if not tails:
        return np.arange(n)
    edges = np.concatenate(tails), np.concatenate(heads)
    graph = sparse.coo_array((np.ones(len(edges[0]), bool), edges), shape=(size, size))
    label = connected_components(graph, directed=False)[1][:n]
    return np.unique(label, return_inverse=True)[1].ravel()
