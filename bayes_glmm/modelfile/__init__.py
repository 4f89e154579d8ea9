"""Model files: a question, a model and the methods to compare, as TOML.

>>> loaded = load_model("models/cbpp.toml")
>>> loaded.model().fit(loaded.methods[0])

A model file is data, not a program: formulas go through the package's gate, and priors are
read, never evaluated. The keys are those of ``ModelFile``; every error names the file, the
key, and what is allowed.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..choices import choose
from .schema import ModelFile, ReportOptions
from .sources import CovarianceSource, DataSource

__all__ = ["ModelFile", "ModelFileError", "load_model"]


class ModelFileError(ValueError):
    """A model file cannot be used: one sentence per error, each with file and key."""


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
        details = error.errors()
        inside = {detail["loc"][0] for detail in details if len(detail["loc"]) > 1}
        # a list whose entries are wrong counts as too short besides
        told = [d for d in details if d["type"] != "too_short" or d["loc"][0] not in inside]
        sentences = [f"{path}: {_sentence(detail)}" for detail in told]
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
