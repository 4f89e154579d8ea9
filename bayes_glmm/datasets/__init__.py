"""Example data sets: thirteen CSVs that come with the package, and one that is downloaded.

``load_dataset(name)`` gives a data frame whose coded factors are categorical, in the level
order of ``levels.json``; ``dataset_info(name)`` says what the data are, where they come from
and under which licence. Naming and describing data sets needs no pandas.
"""

import json
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DatasetInfo", "dataset_info", "dataset_names", "load_dataset"]

_FOLDER = Path(__file__).parent
_DOWNLOADED = "salamander"


@dataclass(frozen=True)
class DatasetInfo:
    """What a data set is.

    Attributes
    ----------
    name : str
        The name that ``load_dataset`` takes.
    title, description, question : str
        What was observed, and what the data were collected to answer.
    source, licence : str
        Where the data come from; the licence as an SPDX expression.
    columns : dict of str to str
        The meaning of each column.
    groups : tuple of str
        Columns that label units: categorical, levels in order of appearance unless
        ``levels`` gives them.
    levels : dict of str to tuple of str
        Level order of the coded factors; the first level is the reference.
    """

    name: str
    title: str
    description: str
    question: str
    source: str
    licence: str
    columns: dict[str, str]
    groups: tuple[str, ...]
    levels: dict[str, tuple[str, ...]]


def dataset_names() -> tuple[str, ...]:
    """Return the names of all data sets, in the order of the catalogue."""
    return tuple(_catalogue())


def dataset_info(name: str) -> DatasetInfo:
    """Describe a data set without reading it.

    Raises
    ------
    ValueError
        For an unknown name, with the names that exist.
    """
    entry = _catalogue().get(name)
    if entry is None:
        raise ValueError(_unknown(name))
    levels = entry.get("levels") or _shipped_levels().get(name, {}).get("factor_levels", {})
    return DatasetInfo(
        name=name,
        title=entry["title"],
        description=entry["description"],
        question=entry["question"],
        source=entry["source"],
        licence=entry["licence"],
        columns=entry["columns"],
        groups=tuple(entry["groups"]),
        levels={column: tuple(order) for column, order in levels.items()},
    )


def load_dataset(name: str) -> "pd.DataFrame":
    """Load an example data set by name.

    Parameters
    ----------
    name : str
        One of ``dataset_names()``. ``salamander`` is downloaded once and cached, unless the
        folder named by the environment variable ``BAYES_GLMM_DATA`` holds it.

    Returns
    -------
    pandas.DataFrame
        A fresh copy. Coded factors and grouping columns are categorical with text labels;
        ``attrs["dataset"]`` is the name.

    Raises
    ------
    ValueError
        For an unknown name, with the names that exist.
    OSError
        Where a download fails, saying how to supply the file.
    """
    info = dataset_info(name)
    if name == _DOWNLOADED:
        from .salamander import read_salamander

        frame = read_salamander()
    else:
        import pandas as pd

        factors = {*info.levels, *info.groups}
        frame = pd.read_csv(_FOLDER / f"{name}.csv", dtype=dict.fromkeys(factors, str))
    return _with_factors(frame, info)


def _with_factors(frame: "pd.DataFrame", info: DatasetInfo) -> "pd.DataFrame":
    """Make the factors of ``info`` categorical, in their stated order or that of appearance."""
    import pandas as pd

    for column in dict.fromkeys([*info.levels, *info.groups]):
        order = info.levels.get(column) or frame[column].dropna().unique()
        frame[column] = pd.Categorical(frame[column], categories=list(order))
    frame.attrs["dataset"] = info.name
    return frame


@cache
def _catalogue() -> dict:
    return tomllib.loads((_FOLDER / "catalogue.toml").read_text(encoding="utf-8"))


@cache
def _shipped_levels() -> dict:
    return json.loads((_FOLDER / "levels.json").read_text(encoding="utf-8"))


def _unknown(name: object) -> str:
    names = dataset_names()
    close = get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "choose one of them."
    return f"there is no data set {name!r}: the data sets are {', '.join(names)}; {hint}"
