"""Formula and data become arrays: response, fixed-effect columns, random-effect blocks.

The linear predictor of the model is ``eta = offset + X beta + sum_g Z_g b_g[index_g]``.
This is the only folder that hands anything to formulaic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.transforms import C

from ..formula import Formula
from ..formula.expression import ELEMENTWISE
from .columns import (
    DataError,
    as_factor,
    as_frame,
    as_numbers,
    check_finite,
    check_names,
    column_of,
    complete_rows,
    elementwise,
    is_factor,
    levels_of,
    operand,
)
from .grouping import GroupBlock, Grouping, check_group_names, make_grouping
from .rank import check_rank
from .response import make_response

__all__ = ["Design", "build_design"]


@dataclass(frozen=True, eq=False)
class _Columns:
    """How a right-hand side became columns, kept for new data."""

    names: tuple[str, ...]
    spec: ModelSpec | None  # None for "1" and "0", which need no data

    def matrix(self, frame: pd.DataFrame) -> np.ndarray:
        """Columns for these rows, shape (n, len(names))."""
        if self.spec is None:
            return np.ones((len(frame), len(self.names)))
        return _materialise(self.spec, frame)[0]


@dataclass(frozen=True, eq=False)
class _Recipe:
    """Everything learned from the data that new data are coded with."""

    levels: Mapping[str, pd.Index]
    fixed: _Columns
    random: tuple[tuple[Grouping, tuple[_Columns, ...]], ...]


@dataclass(frozen=True, eq=False)
class Design:
    """The arrays of a model; rows are sorted stably by the largest grouping factor.

    Attributes
    ----------
    formula : Formula
    frame : DataFrame
        The rows used, in the user's order and with the user's index.
    order : ndarray of shape (n,), int64
        ``array_sorted = array_user[order]``.
    y : ndarray of shape (n,)
        Response: values, counts, or successes.
    trials : ndarray of shape (n,)
        Trials of ``cbind`` and ``p`` responses, else ones.
    offset : ndarray of shape (n,)
        Sum of the offsets, on the link scale.
    X : ndarray of shape (n, p)
        Fixed-effect columns.
    terms : tuple of str
        Their names, formulaic's: ``"Intercept"``, ``"period[T.2]"``.
    groups : tuple of GroupBlock
        One per grouping factor, in the order of the formula.
    response_name : str
        The response as written.
    response_levels : tuple of str
        For a two-level response, what 0 and 1 stand for; else empty.
    n_dropped : int
        Rows left out for missing values.
    dropped_columns : tuple of str
        Columns of the formula in which values were missing.

    Notes
    -----
    All arrays are C-contiguous and cannot be written to.
    """

    formula: Formula
    frame: pd.DataFrame = field(repr=False)
    order: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    trials: np.ndarray = field(repr=False)
    offset: np.ndarray = field(repr=False)
    X: np.ndarray = field(repr=False)
    terms: tuple[str, ...]
    groups: tuple[GroupBlock, ...] = field(repr=False)
    response_name: str
    response_levels: tuple[str, ...]
    n_dropped: int
    dropped_columns: tuple[str, ...]
    recipe: _Recipe = field(repr=False)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def p(self) -> int:
        """Number of fixed-effect columns."""
        return self.X.shape[1]

    @property
    def largest(self) -> int:
        """Position of the grouping factor with most levels, the first among equals.

        Raises
        ------
        ValueError
            Without grouping factors.
        """
        return int(np.argmax([block.n_levels for block in self.groups]))

    def in_user_order(self) -> Design:
        """Return the same rows in the user's order, with ``order`` the identity."""
        back = np.empty_like(self.order)
        back[self.order] = np.arange(self.n)
        return _reorder(self, back, np.arange(self.n))

    def to_user(self, array: np.ndarray) -> np.ndarray:
        """Rows of an array of shape (n, …) put back into the user's order."""
        array = np.asarray(array)
        if array.shape[:1] != (self.n,):
            raise ValueError(
                f"Got {array.shape[:1]} rows, needed {self.n}: pass one value per row."
            )
        back = np.empty_like(array)
        back[self.order] = array
        return back

    def new_fixed(self, frame: Any) -> tuple[np.ndarray, np.ndarray]:
        """Fixed-effect columns and offset for other rows; grouping columns are not needed.

        Transforms that learned from the data (``scale``, ``poly``, splines) keep what
        they learned.  The response need not be present.

        Parameters
        ----------
        frame : DataFrame or what `build_design` takes

        Returns
        -------
        X : ndarray of shape (m, p)
        offset : ndarray of shape (m,)
            Both in the order of `frame`.

        Raises
        ------
        DataError
            For absent columns, missing values, and levels of factors not seen before.
        """
        values = self._new_values(as_frame(frame), self.formula.variables)
        return self.recipe.fixed.matrix(values), _offset(values, self.formula)

    def new_data(
        self, frame: Any, *, new_levels: Literal["raise", "zero"] = "raise"
    ) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """All columns of the model for other rows.

        Parameters
        ----------
        frame : DataFrame or what `build_design` takes
        new_levels : {"raise", "zero"}
            A level of a grouping factor that the model has not seen raises, or gets
            index -1 (a group effect of zero).

        Returns
        -------
        X, offset
            As `new_fixed`.
        groups : list of (index, Z), shapes (m,) and (m, q)
            One per grouping factor, in the order of `frame`.

        Raises
        ------
        DataError
            As `new_fixed`, and for unseen levels under "raise".
        """
        if new_levels not in ("raise", "zero"):
            raise ValueError(f"new_levels is {new_levels!r}: use 'raise' or 'zero'.")
        data = as_frame(frame)
        values = self._new_values(data, (*self.formula.variables, *self.formula.grouping))
        groups = []
        for grouping, pieces in self.recipe.random:
            index = grouping.index(data)
            if new_levels == "raise" and (index < 0).any():
                _raise_unseen(data, grouping, index < 0)
            groups.append((index, np.hstack([piece.matrix(values) for piece in pieces])))
        return *self.new_fixed(data), groups

    def new_columns(self, frame: Any) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Columns of fixed and random effects for other rows, of no particular level.

        Parameters
        ----------
        frame : DataFrame or what `build_design` takes
            The response and the grouping columns need not be present.

        Returns
        -------
        X, offset
            As `new_fixed`.
        Z : list of ndarray, shape (m, q)
            One per grouping factor, in the order of `frame`.

        Raises
        ------
        DataError
            As `new_fixed`.
        """
        values = self._new_values(as_frame(frame), self.formula.variables)
        Z = [
            np.hstack([piece.matrix(values) for piece in pieces])
            for _, pieces in self.recipe.random
        ]
        return self.recipe.fixed.matrix(values), _offset(values, self.formula), Z

    def _new_values(self, data: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
        check_names(data, names)
        complete_rows(data, names, "raise")
        return _predictors(data, self.formula, self.recipe.levels)


def build_design(
    formula: Formula,
    data: Any,
    *,
    missing: Literal["raise", "drop"] = "raise",
    also: tuple[str, ...] = (),
) -> Design:
    """Build the arrays of a model from its formula and data.

    Parameters
    ----------
    formula : Formula
    data : DataFrame, dict of columns, list of records, or a frame with ``to_pandas()``
        It is copied.
    missing : {"raise", "drop"}
        What happens to rows with a missing value in any column of the formula.
    also : tuple of str
        Columns that are needed besides, complete like those of the formula.

    Raises
    ------
    DataError
        When the data do not fit the formula: the message names columns and rows.
    """
    if missing not in ("raise", "drop"):
        raise ValueError(f"missing is {missing!r}: use 'raise' or 'drop'.")
    whole = as_frame(data)
    used = (*formula.response.names, *formula.variables, *formula.grouping, *also)
    names = tuple(dict.fromkeys(used))
    check_names(whole, names)
    frame = complete_rows(whole, names, missing)
    y, trials, response_levels = make_response(frame, formula.response)
    levels = _factor_levels(frame, formula)
    values = _predictors(frame, formula, levels)
    columns = cache(lambda rhs: _build_columns(rhs, values))  # x + (x | g) has one side twice
    X, fixed = columns(formula.fixed)
    check_rank(X, fixed.names)
    built = [_build_group(frame, columns, formula, group) for group in _factors(formula)]
    groups = tuple(block for block, _ in built)
    check_group_names([block.group for block in groups])
    n = np.arange(len(frame))
    design = Design(
        formula=formula,
        frame=frame,
        order=n,
        y=y,
        trials=trials,
        offset=_offset(values, formula),
        X=X,
        terms=fixed.names,
        groups=groups,
        response_name=formula.response.text,
        response_levels=response_levels,
        n_dropped=len(whole) - len(frame),
        dropped_columns=_incomplete(whole, names) if len(frame) < len(whole) else (),
        recipe=_Recipe(levels, fixed, tuple(recipe for _, recipe in built)),
    )
    return sort_rows(design)


def sort_rows(design: Design) -> Design:
    """Sort the user's rows stably by the largest grouping factor."""
    design = design.in_user_order()
    if not design.groups:
        return design
    order = np.argsort(design.groups[design.largest].index, kind="stable")
    return _reorder(design, order, order)


def _incomplete(frame: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if column_of(frame, name).isna().any())


def _reorder(design: Design, rows: np.ndarray, order: np.ndarray) -> Design:
    """Take the rows of every array in the given sequence."""

    def take(array: np.ndarray) -> np.ndarray:
        taken = np.ascontiguousarray(array[rows])
        taken.setflags(write=False)
        return taken

    order = np.array(order, dtype=np.int64)
    order.setflags(write=False)
    groups = tuple(replace(b, index=take(b.index), Z=take(b.Z)) for b in design.groups)
    arrays = {name: take(getattr(design, name)) for name in ("y", "trials", "offset", "X")}
    return replace(design, order=order, groups=groups, **arrays)


def _factor_levels(frame: pd.DataFrame, formula: Formula) -> dict[str, pd.Index]:
    """Levels that occur, for each column of the predictor that is a factor."""
    levels = {
        name: levels_of(column_of(frame, name))
        for name in formula.variables
        if name in formula.coded or is_factor(column_of(frame, name))
    }
    for name, found in levels.items():
        if len(found) < 2:
            raise DataError(
                f"The factor '{name}' has one level ('{found[0]}') in the rows used: "
                "drop it from the formula."
            )
    return levels


def _predictors(
    frame: pd.DataFrame, formula: Formula, levels: Mapping[str, pd.Index]
) -> pd.DataFrame:
    """Only the columns that the predictor uses, as categoricals and float64.

    Numbers are float64 because powers and products of integers would wrap around.
    """
    values = {}
    for name in formula.variables:
        column = column_of(frame, name)
        if name in levels:
            values[name] = as_factor(column, levels[name])
        if name not in levels or (name in formula.plain and not is_factor(column)):
            values[name] = as_numbers(column, frame)
    return pd.DataFrame(values, index=frame.index)


def _code(values: Any, contrasts: Any = None) -> Any:
    """``C()``: a column that is also used as a number keeps integer names for its levels."""
    whole = values.dtype == np.float64 and bool((values == np.floor(values)).all())
    return C(values.astype(np.int64) if whole else values, contrasts)


def _offset(values: pd.DataFrame, formula: Formula) -> np.ndarray:
    total = np.zeros(len(values))
    if not formula.offsets:
        return total
    columns = {name: operand(column_of(values, name), values) for name in values.columns}
    for text in formula.offsets:
        total += elementwise(text, columns, values)
    return total


def _build_columns(rhs: str, values: pd.DataFrame) -> tuple[np.ndarray, _Columns]:
    if rhs in ("0", "1"):
        columns = _Columns(("Intercept",) * int(rhs), None)
        return columns.matrix(values), columns
    matrix, spec = _materialise(rhs, values)
    names = tuple(spec.column_names)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(
            f"Two columns of the model are called '{twice[0]}', by which their coefficients are "
            "told apart: rename the column of the data."
        )
    return matrix, _Columns(names, spec)


_CONTEXT = {**ELEMENTWISE, "C": _code}


def _materialise(spec: str | ModelSpec, values: pd.DataFrame) -> tuple[np.ndarray, ModelSpec]:
    """Let formulaic build the columns of a checked right-hand side.

    Raises
    ------
    DataError
        Where a transform cannot be computed for these values.
    """
    source = ModelSpec.from_spec(spec) if isinstance(spec, str) else spec
    try:
        with np.errstate(all="ignore"):
            built = source.get_model_matrix(
                values, context=_CONTEXT, na_action="ignore", output="numpy"
            )
    except Exception as error:  # formulaic wraps whatever a transform raises
        text = spec if isinstance(spec, str) else " + ".join(map(str, spec.formula))
        reason = str(error.__cause__ or error).split("\n")[0]
        if "beyond upper and/or lower bounds" in reason:
            raise DataError(_beyond(cast(ModelSpec, source))) from error
        raise DataError(
            f"The columns of '{text}' cannot be computed ({reason}): change the term or the data."
        ) from error
    matrix = np.array(built, dtype=np.float64, order="C")
    built_spec = cast(ModelSpec, built.model_spec)
    check_finite(matrix, built_spec.column_names, values)
    return matrix, built_spec


def _beyond(spec: ModelSpec) -> str:
    """Say where the splines of a right-hand side are known."""
    bounds = [
        f"{term} is known from {state['lower_bound']:g} to {state['upper_bound']:g}"
        for term, state in spec.transform_state.items()
        if {"lower_bound", "upper_bound"} <= set(state)
    ]
    return (
        f"Got values beyond those that a spline serves ({'; '.join(bounds) or 'its bounds'}): "
        "give rows within, or wider bounds in the formula, as in bs(x, df=4, upper_bound=10), or "
        "use cr(), which goes on as a straight line."
    )


def _factors(formula: Formula) -> list[tuple[str, ...]]:
    """Distinct grouping factors in formula order; a:b and b:a are one."""
    found = {frozenset(term.group): term.group for term in reversed(formula.random)}
    first = dict.fromkeys(frozenset(term.group) for term in formula.random)
    return [found[key] for key in first]


def _build_group(
    frame: pd.DataFrame,
    columns: Callable[[str], tuple[np.ndarray, _Columns]],
    formula: Formula,
    group: tuple[str, ...],
) -> tuple[GroupBlock, tuple[Grouping, tuple[_Columns, ...]]]:
    """Collect every random term on one grouping factor; ``columns`` builds a right-hand side."""
    grouping, index = make_grouping(frame, group)
    matrices, pieces, blocks = [], [], []
    width = 0
    for term in formula.random:
        if set(term.group) != set(group):
            continue
        matrix, piece = columns(term.columns)
        matrices.append(matrix)
        pieces.append(piece)
        blocks.append(tuple(range(width, width + matrix.shape[1])))
        width += matrix.shape[1]
    names = tuple(name for piece in pieces for name in piece.names)
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        instead = "(0 + x | g)" if repeated[0] == "Intercept" else "each column once"
        raise DataError(
            f"The random effect '{repeated[0]}' stands twice on '{grouping.name}': "
            f"write {instead} in the second term."
        )
    block = GroupBlock(
        grouping.name, names, grouping.labels, index, np.hstack(matrices), tuple(blocks)
    )
    return block, (grouping, tuple(pieces))


def _raise_unseen(frame: pd.DataFrame, grouping: Grouping, unseen: np.ndarray) -> None:
    rows = frame.loc[unseen, list(grouping.columns)].drop_duplicates().astype(str)
    labels = [":".join(row) for row in rows.to_numpy()]
    alike = [label for label in labels if label in set(map(str, grouping.labels))]
    if alike:
        raise DataError(
            f"The level {alike[0]} of '{grouping.name}' is of another type in these rows than in "
            "the data of the model, such as a number where they have text: convert the column."
        )
    raise DataError(
        f"The level{'s' if len(labels) > 1 else ''} {', '.join(labels[:5])}"
        f"{', …' * (len(labels) > 5)} of '{grouping.name}' {'were' if len(labels) > 1 else 'was'} "
        "not in the data of the model: pass new_levels='zero' to predict at a group effect of zero."
    )
