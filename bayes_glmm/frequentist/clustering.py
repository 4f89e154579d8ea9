"""Which rows form a cluster, and in which order: for methods with a cluster-robust covariance.

Clusters must be independent of each other, so with several grouping factors the cluster is
the one in which all others are nested.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..design import Design, GroupBlock
from ..design.columns import (
    DataError,
    as_numbers,
    check_names,
    column_of,
    complete_rows,
    is_factor,
)
from ..design.grouping import make_grouping
from ..methods import NotServedError
from ..numerics.clusters import Clusters


@dataclass(frozen=True, eq=False)
class ClusteredRows:
    """Rows of a design arranged by cluster.

    Attributes
    ----------
    name
        The clustering column.
    rows
        Rows of the design in the arranged order, shape (n,).
    clusters
        The clusters of the arranged rows.
    labels
        The times that the waves 0, 1, 2, … stand for, where each has its own row in a
        working correlation; else None.
    """

    name: str
    rows: np.ndarray
    clusters: Clusters
    labels: tuple | None = None


def arrange(
    design: Design,
    method: str,
    cluster: str | None,
    time: str | None,
    waves: str,
    labels: tuple | None = None,
) -> ClusteredRows:
    """Sort rows by cluster, and by wave within it.

    Parameters
    ----------
    design
        Of the model.
    method
        The method's name, for messages.
    cluster
        A column of the data, a grouping factor of the formula (``"batch:cask"``), or None:
        the factor in which all others are nested.
    time
        Column that orders the rows of a cluster; None is row order.
    waves
        What times mean beyond order: nothing ("none"), lags, so that they must be integers
        ("lags"), or rows of a correlation ("labels"). They must not repeat in a cluster unless
        "none".
    labels
        For "labels": the times in the order of the rows; None is those of the data, sorted.

    Raises
    ------
    NotServedError
        If the formula has no grouping factor, or crossed ones, and ``cluster`` is None.
    DataError
        If a column is absent, has missing values, or cannot be read as clusters or times.
    """
    name, code = cluster_code(design, method, cluster)
    if time is None and labels is not None:
        raise DataError(
            f"{method}(waves={labels!r}) names times, so {method}(time='column') must say where "
            "they are."
        )
    wave = None if time is None else read_waves(design, method, time, waves == "lags")
    if wave is not None and waves == "labels":
        wave, labels = label_waves(design, method, str(time), wave, labels)
    rows = np.argsort(code, kind="stable") if wave is None else np.lexsort((wave, code))
    code = np.cumsum(np.diff(code[rows], prepend=code[rows[0]]) != 0)
    if wave is None or waves == "none":
        return ClusteredRows(name, rows, Clusters.from_labels(code), labels)
    clusters = Clusters.from_labels(code, wave[rows].astype(np.int64))
    refuse_repeated(design, clusters, rows, name, str(time))
    return ClusteredRows(name, rows, clusters, labels)


def label_waves(
    design: Design, method: str, time: str, value: np.ndarray, labels: tuple | None
) -> tuple[np.ndarray, tuple]:
    """Give each row the number of its time in a correlation, and the times in order.

    Raises
    ------
    DataError
        If a row's time is not among the labels.
    """
    dtype = column_of(design.frame, time).dtype
    names = dtype.categories.tolist() if isinstance(dtype, pd.CategoricalDtype) else None
    times, wave = np.unique(value, return_inverse=True)
    found = tuple(t if names is None else names[int(t)] for t in times.tolist())
    if labels is None:
        return wave, found
    strange = [t for t in found if t not in labels]
    if strange:
        raise DataError(
            f"{method}(waves=…) names no row of the correlation for {time} = {strange[0]!r}: give "
            f"one for each of {list(found)}."
        )
    return np.array([labels.index(t) for t in found])[wave], labels


def cluster_code(design: Design, method: str, cluster: str | None) -> tuple[str, np.ndarray]:
    """Give the name of the clustering and the cluster of each row of the design, shape (n,)."""
    if cluster is None:
        group = outermost(design, method)
        return group.group, group.index
    for group in design.groups:
        if group.group == cluster:
            return group.group, group.index
    check_names(design.frame, (cluster,))
    complete_rows(design.frame, (cluster,), "raise")
    return cluster, make_grouping(design.frame, (cluster,))[1][design.order]


def outermost(design: Design, method: str) -> GroupBlock:
    """Give the grouping factor in which all others are nested, found from the data.

    Raises
    ------
    NotServedError
        If there is none.
    """
    if not design.groups:
        raise NotServedError(
            f"{method} got a formula without a grouping factor: name the clusters by "
            f"{method}(cluster='column') or add (1 | g); for independent rows use GLM()."
        )
    outer = min(design.groups, key=lambda g: g.n_levels)
    crossed = [g.group for g in design.groups if not is_nested(g.index, outer.index)]
    if crossed:
        raise NotServedError(
            f"{method} needs one factor whose levels are independent clusters, but {crossed[0]!r} "
            f"and {outer.group!r} are crossed: choose one by {method}(cluster=…), or use ML() or "
            "NUTS(), which serve crossed effects."
        )
    return outer


def is_nested(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Tell whether every level of ``inner`` lies within one level of ``outer``."""
    home = np.empty(inner.max() + 1, dtype=outer.dtype)
    home[inner] = outer
    return bool(np.array_equal(home[inner], outer))


def read_waves(design: Design, method: str, time: str, waves: bool) -> np.ndarray:
    """Read the time of each row of the design, shape (n,); categories count 0, 1, 2, ….

    Raises
    ------
    DataError
        If the column is absent, missing somewhere, text, or not integer where lags matter.
    """
    check_names(design.frame, (time,))
    complete_rows(design.frame, (time,), "raise")
    column = column_of(design.frame, time)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy().astype(float)[design.order]
    if is_factor(column):
        raise DataError(
            f"{method}(time={time!r}) names a column of text, which has no order: give numbers "
            "or an ordered categorical."
        )
    values = as_numbers(column, design.frame)
    fraction = np.flatnonzero(values != np.round(values))
    if waves and fraction.size:
        raise DataError(
            f"{method}(time={time!r}) got {values[fraction[0]]:g} in row "
            f"{design.frame.index[fraction[0]]}, but lags need integer waves: number the visits "
            "in a column of its own, or use corr='exchangeable'."
        )
    return values[design.order]


def refuse_repeated(
    design: Design, clusters: Clusters, rows: np.ndarray, name: str, time: str
) -> None:
    """Refuse two rows of one cluster at the same time.

    Raises
    ------
    DataError
        Naming the first such pair.
    """
    same = (clusters.of_row[1:] == clusters.of_row[:-1]) & (np.diff(clusters.wave) == 0)
    if same.any():
        at = int(np.flatnonzero(same)[0])
        first, second = (design.frame.index[design.order[rows[i]]] for i in (at, at + 1))
        raise DataError(
            f"Rows {first} and {second} are in the same cluster of {name!r} at the same "
            f"{time!r}: times must differ within a cluster, so mend the times or choose a "
            "finer cluster."
        )
