"""Rows put to a residual correlation: the cluster and the time of each."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..residual import ResidualCorrelation, ResidualParameter
from .build import Design
from .columns import DataError, as_numbers, column_of, is_factor, levels_of
from .grouping import make_grouping

MOST_TIMES = 30  # that a correlation for each pair serves


@dataclass(frozen=True, eq=False)
class RepeatedRows:
    """The rows of a design as a residual correlation sees them.

    Attributes
    ----------
    correlation
        As the user gave it.
    levels
        Labels of the clusters.
    cluster
        Cluster of each row of the design, shape ``(n,)``.
    time
        Its time, shape ``(n,)``: a number, or where correlations belong to labelled times the
        number of the time.
    labels
        The distinct times, in order.
    parameters
        Of the correlation, for these times.
    """

    correlation: ResidualCorrelation
    levels: tuple[str, ...]
    cluster: np.ndarray
    time: np.ndarray
    labels: tuple
    parameters: tuple[ResidualParameter, ...]

    @property
    def gaps(self) -> np.ndarray:
        """Times between a row and the next of its cluster, repeats left out; 1 if there is none."""
        order = np.lexsort((self.time, self.cluster))
        same = np.diff(self.cluster[order]) == 0
        gaps = np.diff(self.time[order])[same]
        gaps = gaps[gaps > 0]
        return gaps if gaps.size else np.ones(1)

    @property
    def gap(self) -> float:
        """Median of the gaps."""
        return float(np.median(self.gaps))

    @property
    def starts(self) -> list[np.ndarray]:
        """Values of the correlation's parameters from which to search."""
        return self.correlation.starts(self.gaps, len(self.labels))

    @property
    def span(self) -> float:
        """Longest time between two rows of one cluster."""
        order = np.lexsort((self.time, self.cluster))
        start = np.flatnonzero(np.diff(self.cluster[order], prepend=-1))
        time = self.time[order]
        return float(np.max(np.maximum.reduceat(time, start) - np.minimum.reduceat(time, start)))

    @property
    def serial_range(self) -> tuple[float, float]:
        """Least and largest serial correlation that is possible."""
        return self.correlation.serial_range(int(np.bincount(self.cluster).max()))


def put_rows(correlation: ResidualCorrelation, design: Design) -> RepeatedRows:
    """Read clusters and times of the rows; nothing is missing there (``build_design``).

    Raises
    ------
    DataError
        If times are text, not whole where they must be, too many, repeated within a cluster, or
        if no cluster has two rows.
    """
    frame, kind = design.frame, type(correlation).__name__
    grouping, cluster = make_grouping(frame, tuple(correlation.by.split(":")))
    time, labels = _times(correlation, frame, kind)
    if np.bincount(cluster).max() < 2:
        raise DataError(
            f"{kind}(by={correlation.by!r}) got clusters of one row each, which say nothing about "
            "a correlation: give the column of the subjects that were measured repeatedly."
        )
    if not correlation.repeats_allowed:
        _refuse_repeated(correlation, frame, cluster, time, kind)
    return RepeatedRows(
        correlation,
        grouping.labels,
        cluster[design.order],
        time[design.order],
        labels,
        correlation.parameters(labels),
    )


def _times(correlation, frame: pd.DataFrame, kind: str) -> tuple[np.ndarray, tuple]:
    """Time of each row in the user's order, and the distinct times."""
    if correlation.time is None:
        return np.zeros(len(frame)), ()
    column = column_of(frame, correlation.time)
    if correlation.labelled_times:
        time, labels = _labelled(column, correlation, frame, kind)
        if (k := len(labels)) > MOST_TIMES:
            raise DataError(
                f"{kind}(time={correlation.time!r}) got {k:,} distinct times, whose pairs have "
                f"{k * (k - 1) // 2:,} correlations, and serves {MOST_TIMES}: use Exponential(), "
                "or a column of fewer times, such as the number of the visit."
            )
        return time, labels
    value = _numbers(column, correlation, frame, kind)
    if correlation.whole_times and (strange := np.flatnonzero(value != np.round(value))).size:
        raise DataError(
            f"{kind}(time={correlation.time!r}) needs whole-numbered times and got "
            f"{value[strange[0]]:g}: use Exponential(), which takes any times."
        )
    return value, tuple(np.unique(value).tolist())


def _numbers(column: pd.Series, correlation, frame: pd.DataFrame, kind: str) -> np.ndarray:
    if is_factor(column):
        raise DataError(
            f"{kind}(time={correlation.time!r}) names a column of labels, which have no "
            "distances: give a column of numbers."
        )
    return as_numbers(column, frame)


def _labelled(column: pd.Series, correlation, frame, kind: str) -> tuple[np.ndarray, tuple]:
    """Give each time its number: categories in their order, numbers by size."""
    if is_factor(column):
        levels = levels_of(column)
        return levels.get_indexer(pd.Index(column)).astype(float), tuple(map(str, levels))
    value = _numbers(column, correlation, frame, kind)
    times, number = np.unique(value, return_inverse=True)
    return number.astype(float), tuple(f"{t:g}" for t in times)


def _refuse_repeated(correlation, frame, cluster, time, kind: str) -> None:
    """Refuse two rows of one cluster at one time, which would be perfectly correlated."""
    order = np.lexsort((time, cluster))
    same = (np.diff(cluster[order]) == 0) & (np.diff(time[order]) == 0)
    if not same.any():
        return
    at = int(np.flatnonzero(same)[0])
    first, second = (frame.index[order[i]] for i in (at, at + 1))
    nugget = ", or use nugget=True" if kind == "Exponential" else ""
    raise DataError(
        f"Rows {first} and {second} have the same {correlation.time!r} within one level of "
        f"{correlation.by!r} ({int(same.sum())} such pairs), and {kind}() needs different times: "
        f"mend the times, name finer clusters by by={nugget}."
    )
