"""The keys of a model file."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)

from ..families import get_family, get_link
from ..formula import parse_formula
from ..methods import Method
from ..priors import Priors
from ..residual import ResidualCorrelation
from ..toml import pairs
from .options import method_table, priors_toml, read_method, read_priors, read_residual
from .sources import STRICT, CovarianceSource, DataSource

if TYPE_CHECKING:
    import pandas as pd

    from ..model import GLMM


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

    model_config = STRICT
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
    residual: Annotated[InstanceOf[ResidualCorrelation] | None, BeforeValidator(read_residual)] = (
        None
    )
    priors: Annotated[InstanceOf[Priors], BeforeValidator(read_priors)] = Priors()
    methods: Annotated[
        tuple[Annotated[InstanceOf[Method], BeforeValidator(read_method)], ...],
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
        from ..model import GLMM

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
            options = {
                f.name: getattr(self.residual, f.name) for f in fields(self.residual) if f.init
            }
            lines += ["", "[residual]", *pairs({"kind": self.residual.name, **options})]
        lines += priors_toml(self.priors)
        for method in self.methods:
            lines += ["", "[[methods]]", *pairs(method_table(method))]
        if self.report != ReportOptions():
            lines += ["", "[report]", *pairs(self.report.model_dump(exclude_defaults=True))]
        return "\n".join(lines) + "\n"
