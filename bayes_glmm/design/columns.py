"""The user's columns: their checks, and their coding as numbers and factors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from pandas.api import types

from ..formula.expression import evaluate, shorten


class DataError(ValueError):
    """The data do not fit the formula; the message says which column or rows, and what to do."""


def as_frame(data: Any) -> pd.DataFrame:
    """Copy of the data as a pandas frame.

    Parameters
    ----------
    data : DataFrame, mapping of columns, list of records, or a frame with ``to_pandas()``

    Raises
    ------
    DataError
        For other types, for no rows, and for column names that occur twice.
    """
    if hasattr(data, "to_pandas"):
        data = data.to_pandas()
    if isinstance(data, pd.DataFrame):
        frame = data.copy(deep=False)  # pandas copies what either writes to
    elif isinstance(data, dict) or (isinstance(data, list) and _are_records(data)):
        frame = _build_frame(data)
    else:
        raise DataError(
            f"The data are of type {type(data).__name__}: give a pandas or polars DataFrame, "
            "a dict of columns or a list of records."
        )
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(f"The data have more than one column {repeated[0]!r}: rename or drop one.")
    if frame.empty:
        raise DataError(
            f"The data have {frame.shape[0]} rows and {frame.shape[1]} columns: "
            "give at least one row."
        )
    return frame


def _are_records(data: list[Any]) -> bool:
    return all(isinstance(row, dict) for row in data)


def _build_frame(data: Any) -> pd.DataFrame:
    try:
        return pd.DataFrame(data)
    except ValueError as error:
        raise DataError(
            f"The data do not form a table ({error}): give columns of one length."
        ) from None


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """One column; names are unique, so it is a Series."""
    return cast(pd.Series, frame[name])


def check_names(frame: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise DataError for the first name that is no column, with the closest one."""
    columns = [str(column) for column in frame.columns]
    for name in names:
        if name in frame.columns:
            continue
        folded = {column.casefold(): column for column in columns}
        close = difflib.get_close_matches(name.casefold(), folded, n=1)
        listed = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
        raise DataError(
            f"The data have no column '{name}'"
            + (f", did you mean '{folded[close[0]]}'" if close else "")
            + f": the columns are {listed}."
        )


def row_labels(frame: pd.DataFrame, bad: np.ndarray) -> str:
    """Labels of the rows where `bad` is true: the first few, and how many there are."""
    labels = [str(label) for label in frame.index[bad][:5]]
    count = int(np.count_nonzero(bad))
    more = f", … ({count} rows in all)" if count > len(labels) else ""
    return f"row{'s' if count > 1 else ''} {', '.join(labels)}{more}"


def complete_rows(frame: pd.DataFrame, names: Sequence[str], missing: str) -> pd.DataFrame:
    """Rows without a missing value in any of the named columns.

    Raises
    ------
    DataError
        With ``missing="raise"`` when values are missing, with the count by column;
        with ``missing="drop"`` when no row is left.
    """
    columns = list(dict.fromkeys(names))
    if not columns:
        return frame
    absent = np.column_stack([pd.isna(column_of(frame, name).array) for name in columns])
    rows = absent.any(axis=1)
    if not rows.any():
        return frame
    counts = zip(columns, absent.sum(axis=0), strict=True)
    where = ", ".join(f"{name} {count}" for name, count in counts if count)
    found = f"{int(rows.sum())} of {len(frame)} rows have missing values (by column: {where})"
    if missing == "raise":
        raise DataError(f"{found}: fill them in, or drop these rows with missing='drop'.")
    if rows.all():
        raise DataError(f"{found}, so none is left: fill values in or use fewer columns.")
    return frame.loc[~rows]


def is_factor(values: pd.Series) -> bool:
    """Whether a column is text or categorical."""
    return isinstance(values.dtype, pd.CategoricalDtype) or _is_text(values)


def _is_text(values: pd.Series) -> bool:
    if types.is_object_dtype(values.dtype):
        return bool(len(values)) and all(isinstance(value, str) for value in values)
    return types.is_string_dtype(values.dtype)


def as_numbers(values: pd.Series, frame: pd.DataFrame) -> np.ndarray:
    """Return a numeric or logical column as float64 of shape (n,), all finite."""
    name = values.name
    if is_factor(values):
        raise DataError(
            f"The column '{name}' holds {_describe(values)} where numbers are needed: "
            "convert it, or use it as a term of its own."
        )
    if types.is_datetime64_any_dtype(values.dtype) or types.is_timedelta64_dtype(values.dtype):
        start = f" - frame['{name}'].min()" if types.is_datetime64_any_dtype(values.dtype) else ""
        raise DataError(
            f"The column '{name}' holds {_describe(values)} where numbers are needed: write "
            f"them in a unit, such as days, (frame['{name}']{start}).dt.days."
        )
    try:
        if types.is_complex_dtype(values.dtype):
            raise TypeError
        numbers = values.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"The column '{name}' holds {_describe(values)}, neither numbers nor levels: "
            "convert it to numbers, text or a categorical."
        ) from None
    infinite = ~np.isfinite(numbers)
    if infinite.any():
        raise DataError(
            f"The column '{name}' is infinite in {row_labels(frame, infinite)}: "
            "correct or remove these rows."
        )
    return numbers


def _describe(values: pd.Series) -> str:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return "levels (categorical)"
    return "text" if _is_text(values) else f"values of type {values.dtype}"


def levels_of(values: pd.Series) -> pd.Index:
    """Levels that occur: in category order, or sorted (integers by size, text by code point)."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.remove_unused_categories().cat.categories
    unique = pd.Index(values.unique())
    try:
        return unique.sort_values()
    except TypeError:
        raise DataError(
            f"The column '{values.name}' mixes types, such as numbers and text: make it one type."
        ) from None


def as_factor(values: pd.Series, levels: pd.Index) -> pd.Series:
    """Return the column as a categorical with exactly these levels.

    Raises
    ------
    DataError
        For a value that is not among the levels.
    """
    codes = _codes(values, levels)
    if (codes < 0).any():
        seen = ", ".join(repr(value) for value in pd.Index(values)[codes < 0].unique()[:5])
        raise DataError(
            f"The column '{values.name}' has the level {seen}, which the data of the model "
            f"do not have: use its levels, {', '.join(map(str, levels[:20]))}."
        )
    factor = pd.Categorical.from_codes(codes, categories=levels)
    return pd.Series(factor, index=values.index, name=values.name)


def _codes(values: pd.Series, levels: pd.Index) -> np.ndarray:
    """Position of each value among the levels, -1 for one that is not there; shape (n,)."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return levels.get_indexer(pd.Index(values))
    codes = values.cat.codes.to_numpy()
    return np.where(codes < 0, -1, levels.get_indexer(values.cat.categories)[codes])


def operand(values: pd.Series, frame: pd.DataFrame) -> np.ndarray:
    """Value of a column inside an expression: numbers, or levels to compare with."""
    if is_factor(values):
        return values.astype(object).to_numpy()
    return as_numbers(values, frame)


def elementwise(text: str, columns: Mapping[str, Any], frame: pd.DataFrame) -> np.ndarray:
    """Values of a checked expression for the rows of `frame`, shape (n,), all finite."""
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(evaluate(text, columns), dtype=np.float64)
    except (TypeError, ValueError, ArithmeticError):
        raise DataError(
            f"The expression '{text}' cannot be computed: arithmetic needs numbers, and text "
            "can only be compared by == and !=, so convert the columns."
        ) from None
    value = np.array(np.broadcast_to(value, (len(frame),)))
    check_finite(value[:, None], (text,), frame)
    return value


def check_finite(values: np.ndarray, names: Sequence[str], frame: pd.DataFrame) -> None:
    """Raise DataError when a column of `values`, shape (n, k), is not finite, naming rows."""
    bad = ~np.isfinite(values)
    if bad.any():
        column = int(np.argmax(bad.any(axis=0)))
        raise DataError(
            f"The values of {shorten(names[column])} are not finite in "
            f"{row_labels(frame, bad[:, column])}: correct these rows or change the term."
        )
