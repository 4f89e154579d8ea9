"""Priors, methods and residual correlation in a model file: tables read, and written back."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from pydantic import ValidationInfo

from ..choices import choose
from ..methods import SHORTHAND, Method
from ..priors import Prior, Priors
from ..priors.text import parse_prior, prior_text
from ..residual import KINDS, ResidualCorrelation
from ..toml import pairs


def read_priors(table: Any) -> Priors:
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


def priors_toml(priors: Priors) -> list[str]:
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


def read_method(entry: Any, info: ValidationInfo) -> Method:
    """Turn one entry of [[methods]] into its Method; ``seed`` of the file is its default."""
    name, options = _chosen(entry, "name", SHORTHAND, "a method", "a method")
    standard = SHORTHAND[name]
    allowed = _checked_options(name, standard, options)
    given = {key: getattr(standard, key) for key in allowed}
    if "seed" in allowed:
        given["seed"] = info.data.get("seed", 1)
    return type(standard)(**given | options)


def method_table(method: Method) -> dict[str, Any]:
    """Name a method and those of its options that are not the defaults."""
    options = {f.name: getattr(method, f.name) for f in fields(method)}
    plain = type(method)()
    changed = {k: v for k, v in options.items() if v != getattr(plain, k) or k == "seed"}
    return {"name": method.name, **changed}


def read_residual(table: Any) -> ResidualCorrelation | None:
    """Turn the table [residual] into a residual correlation: its kind and its options."""
    if table is None or isinstance(table, ResidualCorrelation):
        return table
    name, options = _chosen(table, "kind", KINDS, "[residual]", "a residual correlation")
    _checked_options(name, KINDS[name], options)
    for field in fields(KINDS[name]):
        if field.name not in options and field.default is MISSING:
            raise ValueError(f"{name!r} needs {field.name} = the name of a column.")
    return KINDS[name](**options)


def _chosen(
    table: Any, key: str, allowed: Iterable[str], place: str, what: str
) -> tuple[str, dict[str, Any]]:
    """Read what a table chooses by ``key``, and the options beside it."""
    if not isinstance(table, Mapping) or key not in table:
        raise ValueError(
            f"got {table!r}, but {place} is a table with a {key}: {key} is one of "
            f"{', '.join(allowed)}."
        )
    options = dict(table)
    name = options.pop(key)
    if name not in allowed:
        raise ValueError(f"{name!r} is not {what}: {choose(str(name), allowed)}")
    return name, options


def _checked_options(name: str, owner: Any, options: Iterable[str]) -> list[str]:
    """Return the options that a dataclass has; refuse others."""
    allowed = [field.name for field in fields(owner) if field.init]
    for key in options:
        if key not in allowed:
            what = choose(key, allowed) if allowed else "it has none."
            raise ValueError(f"{key!r} is not an option of {name!r}: {what}")
    return allowed
