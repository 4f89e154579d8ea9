"""Model files: a question, a model and the methods to compare, as TOML.

>>> loaded = load_model("models/cbpp.toml")
>>> loaded.model().fit(loaded.methods[0])

A model file is data, not a program: formulas go through the package's gate, and priors are
read, never evaluated. The keys are those of ``ModelFile``; every error names the file, the
key, and what is allowed.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .choices import choose
from .datasets import dataset_info, load_dataset
from .families import get_family, get_link
from .formula import parse_formula
from .methods import SHORTHAND, Method
from .priors import Prior, Priors
from .priors.text import parse_prior, prior_text
from .residual import KINDS, ResidualCorrelation
from .toml import pairs

if TYPE_CHECKING:
    import pandas as pd

    from .model import GLMM

__all__ = ["ModelFile", "ModelFileError", "load_model"]


class ModelFileError(ValueError):
    """A model file cannot be used: one sentence per error, each with file and key."""


def _read_priors(table: Any) -> Priors:
    """Turn the table [priors] into Priors; some of its keys are tables themselves."""
    if not isinstance(table, Mapping):
        raise ValueError(f"got {table!r}, but [priors] is a table such as sd = 'HalfNormal(1)'.")
    allowed = [field.name for field in fields(Priors)]
    chosen = {}
    for key, value in table.items():
        if key not in allowed:
            raise ValueError(f"{key!r} is not a key of [priors]: {choose(key, allowed)}")
        if key == "allow_improper":
            chosen[key] = value
        elif not (key.endswith("_for") or key == "residual"):
            chosen[key] = _prior_at(key, value)
        elif isinstance(value, Mapping):
            chosen[key] = {k: _prior_at(f"{key}.{k}", v) for k, v in value.items()}
        else:
            raise ValueError(f"{key} = {value!r} must be a table, one prior per name.")
    return Priors(**chosen)


def _prior_at(key: str, text: Any) -> Prior:
    try:
        return parse_prior(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _read_method(entry: Any, info: ValidationInfo) -> Method:
    """Turn one entry of [[methods]] into its Method; ``seed`` of the file is its default."""
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ValueError(f"got {entry!r}, but a method is a table with a name: {_methods()}")
    options = dict(entry)
    name = options.pop("name")
    if name not in SHORTHAND:
        raise ValueError(f"{name!r} is not a method: {choose(str(name), SHORTHAND)}")
    standard = SHORTHAND[name]
    allowed = _checked_options(name, standard, options)
    given = {key: getattr(standard, key) for key in allowed}
    if "seed" in allowed:
        given["seed"] = info.data.get("seed", 1)
    return type(standard)(**given | options)


def _checked_options(name: str, owner: Any, options: Iterable[str]) -> list[str]:
    """Return the options that a dataclass has; refuse others."""
    allowed = [field.name for field in fields(owner)]
    for key in options:
        if key not in allowed:
            what = choose(key, allowed) if allowed else "it has none."
            raise ValueError(f"{key!r} is not an option of {name!r}: {what}")
    return allowed


def _read_residual(table: Any) -> ResidualCorrelation | None:
    """Turn the table [residual] into a residual correlation: its kind and its options."""
    if table is None or isinstance(table, ResidualCorrelation):
        return table
    if not isinstance(table, Mapping) or "kind" not in table:
        raise ValueError(f"got {table!r}, but [residual] is a table with a kind: {_kinds()}")
    options = dict(table)
    name = options.pop("kind")
    if name not in KINDS:
        raise ValueError(f"{name!r} is not a residual correlation: {choose(str(name), KINDS)}")
    _checked_options(name, KINDS[name], options)
    for field in fields(KINDS[name]):
        if field.name not in options and field.default is MISSING:
            raise ValueError(f"{name!r} needs {field.name} = the name of a column.")
    return KINDS[name](**options)


def _kinds() -> str:
    return f"kind is one of {', '.join(KINDS)}."


def _methods() -> str:
    return f"name is one of {', '.join(SHORTHAND)}."


def _as_labels(values: Any) -> Any:
    """Level labels are text: 1 and "1" mean the same level."""
    return [str(value) for value in values] if isinstance(values, list) else values


_STRICT = ConfigDict(extra="forbid", frozen=True)


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

    model_config = _STRICT
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


def _file_there(name: str | None, info: ValidationInfo) -> str | None:
    """Refuse a file that is not there."""
    folder = _path(info).parent
    if name is not None and not (folder / name).is_file():
        raise ValueError(
            f"there is no file {name!r} in {folder}: give a path relative to the model file."
        )
    return name


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

    model_config = _STRICT
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

        from .pedigree import relationship_matrix

        if self.file is not None:
            matrix = pd.read_csv(folder / self.file, index_col=0, dtype={0: str})
            return matrix.set_axis(matrix.index.astype(str))
        if self.dataset is not None:
            pedigree = load_dataset(self.dataset)
        else:
            pedigree = pd.read_csv(folder / str(self.pedigree), dtype=str)
        dam = self.dam if self.dam in pedigree else None
        return relationship_matrix(pedigree, individual=self.individual, sire=self.sire, dam=dam)


class ReportOptions(BaseModel):
    """Table [report]: what the report adds.

    Attributes
    ----------
    notes
        A paragraph below the question.
    heritability
        Grouping factor -> multiple of its share of the variance that is the heritability: 4 for
        sires, 1 for animals.
    """

    model_config = _STRICT
    notes: str = ""
    heritability: dict[str, Annotated[float, Field(gt=0)]] = {}


def _all_methods() -> list[dict[str, str]]:
    return [{"name": name} for name in ("nuts", "ml", "laplace", "pql", "gee", "glm")]


class ModelFile(BaseModel):
    """A question, its model and the methods to compare; what ``load_model`` returns.

    Attributes
    ----------
    title, question
        What the report is headed with.
    formula, family, link
        As ``GLMM`` takes them; ``link`` None is the family's default.
    data : DataSource
        Where the rows come from.
    covariance : dict of CovarianceSource
        Known covariances between levels, by grouping factor.
    residual : ResidualCorrelation or None
        Of a gaussian model: ``kind`` (exponential, ar1, compound_symmetry, unstructured) and its
        options, as ``kind = "exponential", time = "time", by = "cow", nugget = true``.
    priors : Priors
        The priors that are not the package's defaults.
    seed
        Seed of every method that draws and states no seed of its own.
    methods : tuple of Method
        What to compare; all of them with their defaults where the file lists none.
    report : ReportOptions
        What the report adds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    title: str = Field(min_length=1)
    question: str = Field(min_length=1)
    formula: str
    family: str
    link: str | None = None
    seed: Annotated[int, Field(ge=0)] = 1
    data: DataSource
    covariance: dict[str, CovarianceSource] = {}
    residual: Annotated[InstanceOf[ResidualCorrelation] | None, BeforeValidator(_read_residual)] = (
        None
    )
    priors: Annotated[InstanceOf[Priors], BeforeValidator(_read_priors)] = Priors()
    methods: Annotated[
        tuple[Annotated[InstanceOf[Method], BeforeValidator(_read_method)], ...],
        Field(default_factory=_all_methods, min_length=1, validate_default=True),
    ]
    report: ReportOptions = ReportOptions()
    _path: Path = PrivateAttr()

    @field_validator("formula")
    @classmethod
    def _parses(cls, text: str) -> str:
        parse_formula(text)
        return text

    @field_validator("family")
    @classmethod
    def _family(cls, name: str) -> str:
        return get_family(name).name

    @field_validator("link")
    @classmethod
    def _link(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None and "family" in info.data:
            get_link(name, get_family(info.data["family"]))
        return name

    @field_validator("methods")
    @classmethod
    def _distinct(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        labels = [method.label for method in methods]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"{label!r} is listed twice: each method needs its own label.")
        return methods

    def model_post_init(self, context: Any) -> None:
        """Remember where the file lies."""
        self._path = Path(context["path"])

    @property
    def path(self) -> Path:
        """Where the model file lies."""
        return self._path

    @property
    def name(self) -> str:
        """The file's name without its ending: ``cbpp``."""
        return self._path.stem

    def frame(self) -> "pd.DataFrame":
        """Read the data."""
        return self.data.read(self._path.parent)

    def model(self) -> "GLMM":
        """Make the model; raises what ``GLMM`` raises."""
        from .model import GLMM

        folder = self._path.parent
        known = {group: source.read(folder) for group, source in self.covariance.items()}
        return GLMM(
            self.formula,
            self.frame(),
            family=self.family,
            link=self.link,
            priors=self.priors,
            residual=self.residual,
            covariance=known or None,
            missing=self.data.missing,
        )

    def to_toml(self) -> str:
        """Write the model file as text that ``load_model`` reads back to the same."""
        head = ("title", "question", "formula", "family", "link", "seed")
        lines = pairs({key: getattr(self, key) for key in head})
        lines += ["", "[data]", *pairs(self.data.model_dump(exclude_defaults=True))]
        if self.covariance:
            known = {g: s.model_dump(exclude_defaults=True) for g, s in self.covariance.items()}
            lines += ["", "[covariance]", *pairs(known)]
        if self.residual is not None:
            options = {f.name: getattr(self.residual, f.name) for f in fields(self.residual)}
            lines += ["", "[residual]", *pairs({"kind": self.residual.name, **options})]
        lines += _priors_toml(self.priors)
        for method in self.methods:
            lines += ["", "[[methods]]", *pairs(_method_table(method))]
        if self.report != ReportOptions():
            lines += ["", "[report]", *pairs(self.report.model_dump(exclude_defaults=True))]
        return "\n".join(lines) + "\n"


def load_model(path: str | Path) -> ModelFile:
    """Read and check a model file.

    Parameters
    ----------
    path
        A TOML file with the keys of ``ModelFile``.

    Returns
    -------
    ModelFile
        Frozen; ``.model()`` gives the GLMM, ``.methods`` the methods to fit.

    Raises
    ------
    ModelFileError
        One sentence per error, naming the file, the key and what is allowed.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(f"{path}: there is no such model file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: cannot be read as UTF-8 text ({error}).") from None
    except tomllib.TOMLDecodeError as error:
        raise ModelFileError(f"{path}: is not valid TOML ({error}).") from None
    try:
        return ModelFile.model_validate(raw, context={"path": path})
    except ValidationError as error:
        sentences = [f"{path}: {_sentence(detail)}" for detail in error.errors()]
        raise ModelFileError("\n".join(sentences)) from None


_TABLES: dict[tuple, type[BaseModel]] = {
    (): ModelFile,
    ("data",): DataSource,
    ("report",): ReportOptions,
}


def _sentence(detail: Any) -> str:
    """Turn one of pydantic's error records into one sentence: key, what was got, what to do."""
    where, kind = tuple(detail["loc"]), detail["type"]
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in where)
    table = CovarianceSource if where[0] == "covariance" else _TABLES.get(where[:-1])
    if kind == "extra_forbidden" and table is not None:
        return f"{key!r} is not a key: {choose(str(where[-1]), table.model_fields)}"
    if kind == "missing":
        return f"the key {key!r} is missing: every model file needs it."
    if kind == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    got = "" if isinstance(detail["input"], Mapping) else f" = {detail['input']!r}"
    return f"{key}{got}: {detail['msg'][0].lower()}{detail['msg'][1:]}."


def _path(info: ValidationInfo) -> Path:
    return Path((info.context or {})["path"])


def _priors_toml(priors: Priors) -> list[str]:
    """Write [priors] and its tables, leaving out what is the package's default."""
    given = {field.name: getattr(priors, field.name) for field in fields(priors)}
    single = {k: prior_text(v) for k, v in given.items() if isinstance(v, Prior)}
    single |= {"allow_improper": True} if priors.allow_improper else {}
    lines = ["", "[priors]", *pairs(single)] if single else []
    for key, table in given.items():
        if isinstance(table, Mapping) and table:
            texts = {name: prior_text(prior) for name, prior in table.items()}
            lines += ["", f"[priors.{key}]", *pairs(texts)]
    return lines


def _method_table(method: Method) -> dict[str, Any]:
    """Name a method and those of its options that are not the defaults."""
    options = {f.name: getattr(method, f.name) for f in fields(method)}
    plain = type(method)()
    changed = {k: v for k, v in options.items() if v != getattr(plain, k) or k == "seed"}
    return {"name": method.name, **changed}
