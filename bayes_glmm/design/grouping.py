"""Grouping factors: their levels, and the random effects that stand on one of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from .columns import DataError, _codes, _describe, column_of, is_factor, levels_of

_RESERVED = ("chain", "draw", "term", "observation", "beta", "dispersion")


def check_group_names(groups: Sequence[str]) -> None:
    """Raise DataError where a grouping factor would clash with a name of the results."""
    taken = {f"{kind}_{group}" for group in groups for kind in ("sd", "b", "corr")}
    for group in groups:
        for name in (group, *group.split(":")):
            if name in _RESERVED or name in taken or name.endswith(("_term", "_pair")):
                raise DataError(
                    f"The grouping column '{name}' has a name that the results use: "
                    "rename the column."
                )


@dataclass(frozen=True, eq=False)
class GroupBlock:
    """All random effects on one grouping factor.

    Attributes
    ----------
    group : str
        ``"herd"``, ``"batch:cask"``.
    columns : tuple of str
        Names of the q random-effect columns.
    levels : tuple of str
        Labels of the levels. With ``covariance`` the last may be relatives without rows.
    index : ndarray of shape (n,), int64
        Level of each row.
    Z : ndarray of shape (n, q)
        Row i adds ``Z[i] @ b[index[i]]`` to the linear predictor.
    blocks : tuple of tuple of int
        Partition of the columns into sets that may be correlated: ``((0, 1),)`` for
        ``(x | g)``, ``((0,), (1,))`` for ``(x || g)``.
    covariance : ndarray of shape (n_levels, n_levels), or None
        Known covariance ``A`` between the levels: ``Cov(vec b) = A x D`` (Kronecker product),
        ``D`` the covariance of the q effects of a level with ``a = 1``. None: independent levels.
    """

    group: str
    columns: tuple[str, ...]
    levels: tuple[str, ...]
    index: np.ndarray
    Z: np.ndarray
    blocks: tuple[tuple[int, ...], ...]
    covariance: np.ndarray | None = None

    @functools.cached_property
    def root(self) -> np.ndarray | None:
        """Lower Cholesky factor of ``covariance``, None where levels are independent."""
        return None if self.covariance is None else np.linalg.cholesky(self.covariance)

    @functools.cached_property
    def relationship(self) -> Any:
        """Inverse of ``covariance``, sparse, and its determinant; None as ``covariance`` is."""
        from ..numerics.relationship import Relationship  # loads Numba

        return None if self.covariance is None else Relationship.of(self.covariance)

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @functools.cached_property
    def n_observed(self) -> int:
        """Number of levels that have rows: relatives may have none."""
        return self.n_levels if self.covariance is None else len(np.unique(self.index))

    @property
    def q(self) -> int:
        """Number of random-effect columns."""
        return len(self.columns)

    @functools.cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Correlated pairs (i, j), i > j, column by column of the lower triangle."""
        return tuple(
            (i, j) for block in self.blocks for k, j in enumerate(block) for i in block[k + 1 :]
        )

    @functools.cached_property
    def distant_origins(self) -> tuple[tuple[int, int, float], ...]:
        """Intercepts that belong to a value of another column far from all rows.

        Triples (intercept, column, distance): the mean of the column is ``FAR`` or more of its
        standard deviations from zero, where the intercept's effects are.
        """
        if self.q == 1:
            return ()
        from ..numerics.standardise import FAR, distance_from_zero  # loads SciPy

        distance = distance_from_zero(self.Z)
        constant = np.flatnonzero(np.all(self.Z == 1.0, axis=0))
        return tuple(
            (int(i), int(j), float(distance[j]))
            for i in constant
            for j in np.flatnonzero(distance >= FAR)
        )

    @property
    def pair_names(self) -> tuple[str, ...]:
        """Names of the correlated pairs, ``"Intercept~x"``."""
        return tuple(f"{self.columns[j]}~{self.columns[i]}" for i, j in self.pairs)


@dataclass(frozen=True, eq=False)
class Grouping:
    """Coding of one grouping factor, the observed combinations of its columns.

    Attributes
    ----------
    columns : tuple of str
        ``("batch", "cask")`` for batch:cask.
    parts : tuple of Index
        Levels of each column.
    keys : ndarray of shape (n_levels,)
        Observed combinations as mixed-radix integers, ascending: lexicographic in the
        order of the columns' levels.
    labels : tuple of str
        Levels, parts joined by ``:``.
    """

    columns: tuple[str, ...]
    parts: tuple[pd.Index, ...]
    keys: np.ndarray
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """``"batch:cask"``."""
        return ":".join(self.columns)

    def with_relatives(self, labels: Sequence[Any]) -> Grouping:
        """Add levels of a factor of one column after those of the data; numbers stay numbers."""
        if not labels:
            return self
        (levels,) = self.parts
        more = levels.append(pd.Index([like(levels, label) for label in labels]))
        names = (*self.labels, *map(str, labels))
        return replace(self, parts=(more,), keys=np.arange(len(more)), labels=names)

    def index(self, frame: pd.DataFrame) -> np.ndarray:
        """Level of each row, shape (n,), -1 for one that the coding does not have."""
        key, known = _combine(frame, self.columns, self.parts)
        at = np.searchsorted(self.keys, key)
        at[at == len(self.keys)] = 0
        return np.where(known & (self.keys[at] == key), at, -1)


def like(levels: pd.Index, label: Any) -> Any:
    """Write a label as the column does its levels: a number where these are numbers."""
    if not types.is_integer_dtype(levels.dtype):
        return str(label)
    try:
        return int(label)
    except ValueError:
        return str(label)


def make_grouping(frame: pd.DataFrame, columns: tuple[str, ...]) -> tuple[Grouping, np.ndarray]:
    """Coding of a grouping factor and the level of each row, shape (n,).

    Raises
    ------
    DataError
        For a column of floating-point numbers or dates, for fewer than two levels, and
        for two levels that read the same.
    """
    for column in columns:
        _check_grouping(column_of(frame, column))
    parts = tuple(levels_of(column_of(frame, column)) for column in columns)
    key, _ = _combine(frame, columns, parts)
    keys, index = np.unique(key, return_inverse=True)
    labels = _labels(keys, parts)
    name = ":".join(columns)
    if len(keys) < 2:
        raise DataError(
            f"The grouping factor '{name}' has one level ('{labels[0]}') in the rows used: a "
            "variance between groups needs at least two, so drop the term."
        )
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(f"Two levels of '{name}' both read '{twice}': rename one of them.")
    return Grouping(columns, parts, keys, labels), index.astype(np.int64)


def _check_grouping(values: pd.Series) -> None:
    mixed = types.is_object_dtype(values.dtype)
    if types.is_float_dtype(values.dtype) or (mixed and any(isinstance(v, float) for v in values)):
        raise DataError(
            f"The grouping column '{values.name}' holds floating-point numbers: groups need "
            "integers, text or a categorical, so convert it, as in "
            f"data['{values.name}'].astype('Int64')."
        )
    if not (
        is_factor(values)
        or types.is_integer_dtype(values.dtype)
        or types.is_bool_dtype(values.dtype)
        or mixed
    ):
        raise DataError(
            f"The grouping column '{values.name}' holds {_describe(values)}: groups need "
            "integers, text or a categorical, so convert it, as in .astype(str)."
        )


def _combine(
    frame: pd.DataFrame, columns: tuple[str, ...], parts: tuple[pd.Index, ...]
) -> tuple[np.ndarray, np.ndarray]:
    key = np.zeros(len(frame), dtype=np.int64)
    known = np.ones(len(frame), dtype=bool)
    for column, levels in zip(columns, parts, strict=True):
        code = _codes(column_of(frame, column), levels)
        known &= code >= 0
        key = key * len(levels) + code
    return key, known


def _labels(keys: np.ndarray, parts: tuple[pd.Index, ...]) -> tuple[str, ...]:
    texts: list[list[str]] = []
    rest = keys
    for levels in reversed(parts):
        names = [str(level) for level in levels]
        texts.append([names[code] for code in (rest % len(levels)).tolist()])
        rest = rest // len(levels)
    return tuple(map(":".join, zip(*reversed(texts), strict=True)))
