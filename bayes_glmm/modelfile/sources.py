"""Where a model file's data and known covariances come from: tables [data] and [covariance]."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ..choices import choose
from ..datasets import dataset_info, load_dataset

if TYPE_CHECKING:
    import pandas as pd


STRICT = ConfigDict(extra="forbid", frozen=True)


def _as_labels(values: Any) -> Any:
    """Level labels are text: 1 and "1" mean the same level."""
    return [str(value) for value in values] if isinstance(values, list) else values


class DataSource(BaseModel):
    """Table [data]: where the rows come from and which columns are coded factors.

    Attributes
    ----------
    dataset
        Name of an example data set; or
    file
        A CSV file, relative to the model file.
    factors
        Columns that are codes, not numbers (in a CSV an integer code would be a slope);
        their levels are in numeric or alphabetical order unless ``levels`` gives another.
    levels
        Order of a factor's levels; the first is the reference.
    missing
        "raise" refuses missing values, "drop" leaves those rows out and says how many.
    """

    model_config = STRICT
    dataset: str | None = None
    file: str | None = None
    factors: tuple[str, ...] = ()
    levels: dict[str, Annotated[tuple[str, ...], BeforeValidator(_as_labels)]] = {}
    missing: Literal["raise", "drop"] = "raise"

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return None if name is None else dataset_info(name).name

    @field_validator("file")
    @classmethod
    def _exists(cls, name: str | None, info: ValidationInfo) -> str | None:
        return _file_there(name, info)

    @model_validator(mode="after")
    def _one_source(self) -> "DataSource":
        if (self.dataset is None) == (self.file is None):
            raise ValueError(
                'give either dataset = "…" (an example data set) or file = "….csv", one of them.'
            )
        return self

    @property
    def name(self) -> str:
        """The data set, or the file's name without its ending."""
        return self.dataset or Path(str(self.file)).stem

    def read(self, folder: Path) -> "pd.DataFrame":
        """Read the rows; ``folder`` is that of the model file.

        Raises
        ------
        ValueError
            For a factor that is no column, or a label that is not among its levels.
        """
        import pandas as pd

        factors = dict.fromkeys([*self.factors, *self.levels])
        if self.dataset is not None:
            frame = load_dataset(self.dataset)
        else:
            frame = pd.read_csv(folder / str(self.file), dtype=dict.fromkeys(factors, str))
        for column in factors:
            if column not in frame:
                raise ValueError(f"the factor {column!r} is no column: {choose(column, frame)}")
            values: Any = frame[column]
            frame[column] = _as_factor(values, self.levels.get(column))
        return frame


def _as_factor(values: "pd.Series", order: Iterable[str] | None) -> "pd.Categorical":
    """Make a column categorical, with levels in the given, else in natural order."""
    import pandas as pd

    labels = values.astype(object).where(values.isna(), values.astype(str))
    found = list(labels.dropna().unique())
    if order is None:
        return pd.Categorical(labels, categories=sorted(found, key=_natural))
    order = list(order)
    strange = [label for label in found if label not in order]
    if strange:
        raise ValueError(
            f"the levels of {values.name!r} lack {strange[0]!r}, which is in the data: "
            f"got {order}, needed all of {sorted(found, key=_natural)}."
        )
    return pd.Categorical(labels, categories=order)


def _natural(label: str) -> tuple[bool, float, str]:
    """Sort numbers as numbers, and before words."""
    try:
        return (False, float(label), label)
    except ValueError:
        return (True, 0.0, label)


class CovarianceSource(BaseModel):
    """An entry of table [covariance]: where the known covariance of a factor's levels is.

    Attributes
    ----------
    file
        A CSV file with the matrix: a header of labels, and the labels in its first column; or
    pedigree
        A CSV file of a pedigree, from which ``relationship_matrix`` makes it; or
    dataset
        Name of an example data set that is a pedigree. Files are relative to the model file.
    individual, sire, dam
        Columns of the pedigree; without a column ``dam`` it is one of sires and their sires.
    """

    model_config = STRICT
    file: str | None = None
    pedigree: str | None = None
    dataset: str | None = None
    individual: str = "individual"
    sire: str = "sire"
    dam: str = "dam"

    @field_validator("dataset")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        return None if name is None else dataset_info(name).name

    @field_validator("file", "pedigree")
    @classmethod
    def _exists(cls, name: str | None, info: ValidationInfo) -> str | None:
        return _file_there(name, info)

    @model_validator(mode="after")
    def _one_source(self) -> "CovarianceSource":
        if sum(source is not None for source in (self.file, self.pedigree, self.dataset)) != 1:
            raise ValueError(
                'give one of file = "….csv" (the matrix), pedigree = "….csv" and dataset = "…".'
            )
        return self

    def read(self, folder: Path) -> "pd.DataFrame":
        """Read or make the labelled matrix; ``folder`` is that of the model file."""
        import pandas as pd

        from ..pedigree import relationship_matrix

        if self.file is not None:
            matrix = pd.read_csv(folder / self.file, index_col=0, dtype={0: str})
            return matrix.set_axis(matrix.index.astype(str))
        if self.dataset is not None:
            pedigree = load_dataset(self.dataset)
        else:
            pedigree = pd.read_csv(folder / str(self.pedigree), dtype=str)
        dam = self.dam if self.dam in pedigree else None
        return relationship_matrix(pedigree, individual=self.individual, sire=self.sire, dam=dam)


def _file_there(name: str | None, info: ValidationInfo) -> str | None:
    """Refuse a file that is not there."""
    folder = _path(info).parent
    if name is not None and not (folder / name).is_file():
        raise ValueError(
            f"there is no file {name!r} in {folder}: give a path relative to the model file."
        )
    return name


def _path(info: ValidationInfo) -> Path:
    return Path((info.context or {})["path"])
