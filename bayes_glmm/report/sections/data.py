"""The data: rows, groups, response, and a picture of them before any model."""

import numpy as np
import pandas as pd

from ..bins import binned, means_at
from ..document import Block, Bullets, Code, Picture, Table, Text
from ..figures.raw import Line, RawData, raw
from ..material import Material, attempt
from ..numbers import count, fixed, percent, significant

DISTINCT = 8  # more values of a covariate are put into as many bins
THREADS = 60  # with more levels their lines are left out


def data(material: Material) -> list[Block]:
    """Summary sentences, the table of groups, and the picture."""
    m = material.model
    items: list[Text] = [_rows(m), _response(m), *_messages(m)]
    blocks: list[Block] = [Bullets(items)]
    if m.design.groups:
        blocks.append(_groups(m))
    return blocks + attempt("picture of the data", lambda: _picture(m))


def _rows(m) -> Text:
    design = m.design
    dropped = f"; {count(design.n_dropped, 'row')} with missing values dropped"
    return f"{count(design.n, 'row')}{dropped if design.n_dropped else ', none missing'}."


def _messages(m) -> list[Text]:
    return [f"{note.happened}" for note in m.messages if note.code != "rows-dropped"]


def _response(m) -> Text:
    """Put the response in numbers, by kind."""
    y, trials = m.design.y, m.design.trials
    name = Code(m.design.response_name)
    total = f"{percent(y.sum() / trials.sum())}"
    if m.family.has_trials:
        events = f"{fixed(y.sum(), 0)} of {fixed(trials.sum(), 0)} trials ({total})"
        sizes = f"{_range(trials)} trials a row"
        return ("Response ", name, f": successes in {events}; {sizes}.")
    if m.family.name == "bernoulli":
        return ("Response: ", Code(_one(m)), f" in {fixed(y.sum(), 0)} rows ({total}).")
    spread = f"mean {significant(y.mean(), 3)}, variance {significant(y.var(ddof=1), 3)}"
    extremes = f"from {y.min():g} to {y.max():g}"
    zeros = f", {percent(np.mean(y == 0))} zeros" if _counts(m) else ""
    return ("Response ", name, f": {spread}, {extremes}{zeros}.")


def _counts(m) -> bool:
    """Tell whether the response is counts without a known upper end."""
    return m.family.support.integer and not _of_successes(m)


def _of_successes(m) -> bool:
    return m.family.has_trials or m.family.name == "bernoulli"


def _one(m) -> str:
    """Say what a response of one is: ``y = 1``, or the name of the level."""
    levels = m.design.response_levels
    return f"{m.design.response_name} = {levels[1] if levels else 1}"


def _groups(m) -> Table:
    """Levels of each grouping factor and rows per level."""
    rows = []
    for group in m.design.groups:
        sizes = np.bincount(group.index, minlength=group.n_levels)
        rows.append(
            (
                Code(group.group),
                fixed(group.n_levels, 0),
                _range(sizes),
                f"{np.median(sizes):g}",
                ", ".join(group.columns),
            )
        )
    columns = ("grouping factor", "levels", "rows per level", "median", "effects that vary")
    return Table(columns, rows, "Grouping factors.", frozenset({1, 2, 3}))


def _range(sizes: np.ndarray) -> str:
    low, high = int(sizes.min()), int(sizes.max())
    return str(low) if low == high else f"{low} to {high}"


# --- the picture ----------------------------------------------------------------------


def _picture(m) -> list[Block]:
    """Mean response along the richest covariate, split by a factor; nothing without either."""
    frame = _frame(m)
    along, split = _choose(m, frame)
    if along is None:
        return []
    drawing, how = _raw(m, frame, along, split)
    by = f", by {split}" if split else ""
    behind = ", thin lines are levels of " + m.design.groups[0].group if drawing.threads else ""
    points = _points(drawing)
    caption = f"The data: {drawing.ylabel} along {along}{by} ({how}){behind}{points}. No model yet."
    alt = f"{drawing.ylabel} along {along}{by}: {_spoken(drawing)}."
    return [Picture("data", raw(drawing), alt, caption)]


def _frame(m) -> pd.DataFrame:
    """Covariates, response per trial, trials and first group, in the design's rows."""
    names = [name for name in m.design.formula.variables if name in m.design.frame]
    frame: pd.DataFrame = m.design.frame.iloc[m.design.order][names].reset_index(drop=True)
    block = m.design.groups[0].index if m.design.groups else np.zeros(m.design.n, int)
    hidden = {" y": m.design.y, " trials": m.design.trials, " group": block}
    return frame.assign(**hidden)


def _choose(m, frame: pd.DataFrame) -> tuple[str | None, str | None]:
    """Pick the horizontal axis (most values) and the split (a factor of at most five levels)."""
    names = [c for c in frame if not str(c).startswith(" ")]
    values = {name: len(frame[name].unique()) for name in names}
    if not names:
        return None, None
    along = max(names, key=lambda name: values[name])
    others = [n for n in names if n != along and 2 <= values[n] <= 5]
    return along, others[0] if others else None


def _raw(m, frame: pd.DataFrame, along: str, split: str | None) -> tuple[RawData, str]:
    ticks, x = _positions(frame[along])
    center, how = binned(x, DISTINCT)
    names, number = _parts(frame, split)
    y, trials = frame[" y"].to_numpy(), frame[" trials"].to_numpy()
    lines = [
        Line(name, *means_at(center[number == k], y[number == k], trials[number == k])[:2])
        for k, name in enumerate(names)
    ]
    counts = not _of_successes(m)
    drawing = RawData(
        lines,
        along,
        _ylabel(m),
        threads=() if counts else _threads(m, frame, x),
        points=(_jitter(x, bool(ticks)), y, number) if counts else None,
        ticks=ticks,
        log=_counts(m) and float(y.max()) > 20,
    )
    return drawing, how


def _parts(frame: pd.DataFrame, split: str | None) -> tuple[list[str], np.ndarray]:
    """Names of the parts, and the part of each row."""
    if split is None:
        return [""], np.zeros(len(frame), int)
    levels, codes = _positions(frame[split])
    values, number = np.unique(codes, return_inverse=True)
    return [f"{split} {levels[int(v)] if levels else f'{v:g}'}" for v in values], number


def _ylabel(m) -> str:
    if _of_successes(m):
        return "share of successes" if m.family.has_trials else f"share of rows with {_one(m)}"
    return m.design.response_name


def _positions(column) -> tuple[list[str], np.ndarray]:
    """Numbers as they are; levels of a factor at 0, 1, …."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return [], column.to_numpy(float)
    coded = column if hasattr(column, "cat") else column.astype("category")
    coded = coded.cat.remove_unused_categories()
    return [str(c) for c in coded.cat.categories], coded.cat.codes.to_numpy(float)


def _threads(m, frame: pd.DataFrame, x: np.ndarray):
    """Lines of single levels, where there are few and they are more than zeros and ones."""
    if not m.family.has_trials or not m.design.groups:
        return ()
    if m.design.groups[0].n_levels > THREADS:
        return ()
    group, y, trials = (frame[name].to_numpy() for name in (" group", " y", " trials"))
    each = (group == level for level in range(m.design.groups[0].n_levels))
    return [means_at(x[mine], y[mine], trials[mine])[:2] for mine in each]


def _jitter(x: np.ndarray, factor: bool) -> np.ndarray:
    """Move points of a factor or of few values sideways, so that they do not hide each other."""
    if not factor and len(np.unique(x)) > DISTINCT:
        return x
    width = 0.12 if factor else 0.02 * np.ptp(x)
    return x + width * (np.random.default_rng(0).random(len(x)) - 0.5) * 2


def _points(drawing: RawData) -> str:
    if drawing.points is None:
        return ""
    moved = bool(drawing.ticks) or len(np.unique(drawing.lines[0].x)) < DISTINCT
    return f", points are rows{', moved a little sideways' if moved else ''}"


def _spoken(drawing: RawData) -> str:
    ends = [
        f"{line.label or 'mean'} from {significant(line.y[0])} to {significant(line.y[-1])}"
        for line in drawing.lines
    ]
    return "; ".join(ends)
