"""The response of a formula as numbers: values, or successes out of trials."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype

from ..formula import Response
from .columns import (
    DataError,
    as_numbers,
    column_of,
    elementwise,
    is_factor,
    levels_of,
    operand,
    row_labels,
)


def make_response(
    frame: pd.DataFrame, response: Response
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Compute the response.

    Returns
    -------
    y : ndarray of shape (n,)
        Values, or successes; 0 and 1 for a response of two levels (the first is 0).
    trials : ndarray of shape (n,)
        Trials of ``cbind`` and ``p``, else ones.
    levels : tuple of str
        What 0 and 1 stand for, where the response is logical or has two levels.

    Raises
    ------
    DataError
        For other numbers of levels, and for counts that are negative, not whole, or
        more than the trials: the message names the rows.
    """
    ones = np.ones(len(frame))
    if response.kind == "plain" and response.names == (response.first,):
        column = column_of(frame, response.first)
        if is_factor(column):
            y, levels = _two_levels(column)
            return y, ones, levels
        levels = ("False", "True") if is_bool_dtype(column.dtype) else ()
        return as_numbers(column, frame), ones, levels
    columns = {name: operand(column_of(frame, name), frame) for name in response.names}
    first = elementwise(response.first, columns, frame)
    if response.second is None:
        return first, ones, ()
    second = elementwise(response.second, columns, frame)
    trials = first + second if response.kind == "cbind" else second
    _check_whole(response.first, first, frame)
    _check_whole(response.second, second, frame)
    _check_trials(response, first, trials, frame)
    return first, trials, ()


def _two_levels(column: pd.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    levels = levels_of(column)
    if isinstance(column.dtype, pd.CategoricalDtype) and len(column.cat.categories) == 2:
        levels = column.cat.categories  # a declared level may be absent
    if len(levels) != 2:
        listed = ", ".join(map(str, levels[:10]))
        raise DataError(
            f"The response '{column.name}' has levels ({listed}), {len(levels)} of them, where a "
            "response is numbers, or has two levels, of which the first counts as 0: convert "
            "numbers that are text by pandas.to_numeric, or recode the levels."
        )
    y = (column == levels[1]).to_numpy(dtype=np.float64)
    return y, tuple(str(level) for level in levels)


def _check_whole(text: str, counts: np.ndarray, frame: pd.DataFrame) -> None:
    bad = counts != np.floor(counts)
    if bad.any():
        raise DataError(
            f"The count '{text}' is not whole in {row_labels(frame, bad)}: successes, failures "
            "and trials are whole numbers, so correct these rows."
        )


def _check_trials(
    response: Response, successes: np.ndarray, trials: np.ndarray, frame: pd.DataFrame
) -> None:
    rules = (
        (successes < 0, "there are fewer than 0 successes"),
        (trials < successes, "there are fewer trials than successes"),
        (trials == 0, "there are no trials"),
    )
    for bad, what in rules:
        if bad.any():
            raise DataError(
                f"In {response.text} {what} in {row_labels(frame, bad)}: "
                "0 <= successes <= trials and trials > 0 are needed, so correct or drop these rows."
            )
