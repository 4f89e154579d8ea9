"""Write a fit to one file and read it back: data, model, estimates and draws.

The file is a zip of ``fit.json`` (text: formula, priors, method, labels, messages) and
``arrays.npz`` (numbers, bit for bit). Nothing in it is executed on reading: formulas and
priors pass the same gates as in a model file.
"""

import io
import json
import os
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from . import __version__
from .fit import Fit, GroupEffects, Seconds, Variance, components_of
from .messages import Message
from .methods import SHORTHAND
from .model import GLMM
from .priors import Prior, Priors
from .priors.text import parse_prior, prior_text
from .residual import KINDS, ResidualCorrelation

FORMAT = 1


class StorageError(ValueError):
    """A file is not a saved fit, or one of another format."""


def save_fit(fit: Fit, path: str | os.PathLike) -> Path:
    """Write a fit; a file that is there already is replaced only once all is written.

    Parameters
    ----------
    fit
        Any fit.
    path
        Of the file; ``.fit`` is the usual ending.

    Returns
    -------
    Path
        The file written.
    """
    store = _Store()
    text = {
        "format": FORMAT,
        "version": __version__,
        "model": _model_out(fit.model, store),
        "method": {"name": fit.method.name, "options": asdict(fit.method)},
        "fit": _fit_out(fit, store),
        "draws": None if fit.draws is None else _tree_out(fit.draws, store),
    }
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fit.json", json.dumps(text, ensure_ascii=False))
        archive.writestr("arrays.npz", store.packed())
    os.replace(temporary, path)
    return path


def load_fit(path: str | os.PathLike) -> Fit:
    """Read a fit that ``save_fit`` wrote.

    Raises
    ------
    StorageError
        If the file is not a saved fit or has a newer format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = json.loads(archive.read("fit.json"))
            packed = io.BytesIO(archive.read("arrays.npz"))
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError):
        raise StorageError(
            f"{path} is not a saved fit: give a file that fit.save() wrote."
        ) from None
    if text["format"] > FORMAT:
        raise StorageError(
            f"{path} has format {text['format']} and this is bayes_glmm {__version__}, which "
            f"reads formats up to {FORMAT}: update the package."
        )
    with np.load(packed, allow_pickle=False) as arrays:
        model = _model_in(text["model"], arrays)
        standard = type(SHORTHAND[text["method"]["name"]])
        draws = None if text["draws"] is None else _tree_in(text["draws"], arrays)
        return _fit_in(text["fit"], arrays, model, standard(**text["method"]["options"]), draws)


class _Store:
    """Arrays under running names, for one npz."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def put(self, array) -> dict:
        """Keep an array; the dict that comes back stands for it in the JSON text."""
        array = np.asarray(array)
        if array.dtype.kind in "OUST":
            return {"labels": [None if pd.isna(x) else str(x) for x in array.ravel()]}
        name = f"a{len(self.arrays)}"
        self.arrays[name] = array
        return {"array": name}

    def packed(self) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, **self.arrays)  # pyright: ignore[reportArgumentType]
        return buffer.getvalue()


def _get(reference: dict, arrays) -> np.ndarray:
    if "labels" in reference:
        return np.asarray(reference["labels"], object)
    return arrays[reference["array"]]


def _model_out(model: GLMM, store: _Store) -> dict:
    frame = model.design.frame
    stated = model.stated
    return {
        "formula": model.formula,
        "family": model.family.name,
        "link": model.link.name,
        "residual": _residual_out(model.residual),
        "priors": {f.name: _priors_out(getattr(stated, f.name)) for f in fields(stated)},
        "covariance": {
            g.group: {"levels": list(g.levels), "matrix": store.put(g.covariance)}
            for g in model.design.groups
            if g.covariance is not None
        },
        "index": store.put(frame.index),
        "columns": {str(name): _column_out(c, store) for name, c in frame.items()},
    }


def _priors_out(value):
    """Write a prior or a table of priors as text; None and flags stay."""
    if isinstance(value, Prior):
        return prior_text(value)
    return {k: prior_text(p) for k, p in value.items()} if isinstance(value, dict) else value


def _priors_in(value) -> Any:
    if isinstance(value, dict):
        return {k: parse_prior(p) for k, p in value.items()}
    return parse_prior(value) if isinstance(value, str) else value


def _column_out(column: pd.Series, store: _Store) -> dict:
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = column.cat.categories
        return {
            "codes": store.put(column.cat.codes),
            "levels": store.put(levels),
            "ordered": bool(column.cat.ordered),
        }
    return store.put(column.to_numpy())


def _column_in(text: dict, arrays):
    if "codes" in text:
        levels = _get(text["levels"], arrays)
        return pd.Categorical.from_codes(_get(text["codes"], arrays), levels, text["ordered"])
    return _get(text, arrays)


def _model_in(text: dict, arrays) -> GLMM:
    columns = {name: _column_in(c, arrays) for name, c in text["columns"].items()}
    frame = pd.DataFrame(columns, index=_get(text["index"], arrays))
    priors = Priors(**{k: _priors_in(v) for k, v in text["priors"].items()})
    given = {name: text[name] for name in ("formula", "family", "link")}
    given["residual"] = _residual_in(text.get("residual"))
    covariance = {
        group: pd.DataFrame(_get(kept["matrix"], arrays), kept["levels"], kept["levels"])
        for group, kept in text.get("covariance", {}).items()
    }
    return GLMM(data=frame, priors=priors, covariance=covariance or None, **given)


def _residual_out(residual: ResidualCorrelation | None) -> dict | None:
    return None if residual is None else {"kind": residual.name, **asdict(residual)}


def _residual_in(text: dict | None) -> ResidualCorrelation | None:
    if text is None:
        return None
    options = {k: v for k, v in text.items() if k != "kind"}
    return KINDS[text["kind"]](**options)


def _fit_out(fit: Fit, store: _Store) -> dict:
    plain = ("loglik", "loglik_kind", "npar", "estimand", "converged")
    variance, diagnostics = fit.variance, fit.diagnostics
    return {
        **{name: _plain(getattr(fit, name)) for name in plain},
        "df": fit.df if fit.df is None or not np.ndim(fit.df) else store.put(fit.df),
        "beta": store.put(fit.beta),
        "vcovs": {k: store.put(v) for k, v in fit.vcovs.items()},
        "variance": variance and [store.put(variance.estimate), store.put(variance.std_error)],
        "components": variance and [asdict(c) for c in variance.components],
        "effects": {k: [store.put(e.estimate), store.put(e.sd)] for k, e in fit.effects.items()},
        "messages": [asdict(m) for m in fit.messages],
        "seconds": asdict(fit.seconds),
        "joint_cov": None if fit.joint_cov is None else store.put(fit.joint_cov),
        "diagnostics": None if diagnostics is None else _table_out(diagnostics.reset_index()),
        "details": {k: _detail_out(v, store) for k, v in fit.details.items()},
    }


def _fit_in(text: dict, arrays, model: GLMM, method, draws) -> Fit:
    plain = ("loglik", "loglik_kind", "npar", "estimand", "converged")
    diagnostics = text["diagnostics"]
    variance = None
    if text["variance"] is not None:
        known = {str(asdict(c)): c for c in components_of(model)}
        components = tuple(known[str(c)] for c in text["components"])
        variance = Variance(components, *(_get(r, arrays) for r in text["variance"]))
    return Fit(
        model=model,
        method=method,
        beta=_get(text["beta"], arrays),
        vcovs={k: _get(r, arrays) for k, r in text["vcovs"].items()},
        variance=variance,
        effects={
            k: GroupEffects(*(_get(r, arrays) for r in pair)) for k, pair in text["effects"].items()
        },
        messages=tuple(Message(**m) for m in text["messages"]),
        seconds=Seconds(**text["seconds"]),
        draws=draws,
        joint_cov=None if text["joint_cov"] is None else _get(text["joint_cov"], arrays),
        diagnostics=None
        if diagnostics is None
        else _table_in(diagnostics).set_index(["effect", "group", "level", "term"]),
        details={k: _detail_in(v, arrays) for k, v in text["details"].items()},
        df=_get(text["df"], arrays) if isinstance(text.get("df"), dict) else text.get("df"),
        **{name: text[name] for name in plain},
    )


def _plain(value: Any) -> Any:
    """NumPy scalars as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _table_out(table: pd.DataFrame) -> dict:
    return {str(k): [_plain(x) for x in table[k]] for k in table}


def _table_in(text: dict) -> pd.DataFrame:
    return pd.DataFrame(text)


def _detail_out(value: Any, store: _Store) -> dict:
    if isinstance(value, pd.DataFrame):
        return {"table": _table_out(value)}
    if isinstance(value, np.ndarray):
        return store.put(value)
    if isinstance(value, dict):
        return {"dict": {k: _detail_out(v, store) for k, v in value.items()}}
    return {"value": json.loads(json.dumps(_plain(value), default=str))}


def _detail_in(text: dict, arrays) -> Any:
    if "table" in text:
        return _table_in(text["table"])
    if "dict" in text:
        return {k: _detail_in(v, arrays) for k, v in text["dict"].items()}
    return text["value"] if "value" in text else _get(text, arrays)


def _tree_out(tree: xr.DataTree, store: _Store) -> dict:
    """Each group's variables with their dims, its coordinates and attributes."""
    groups = {
        name: {
            "variables": {k: [list(v.dims), store.put(v)] for k, v in node.data_vars.items()},
            "coords": {k: store.put(v) for k, v in node.coords.items()},
            "attrs": _attributes(node.attrs),
        }
        for name, node in tree.children.items()
    }
    return {"groups": groups, "attrs": _attributes(tree.attrs)}


def _attributes(attrs) -> dict:
    return {k: json.loads(json.dumps(_plain(v), default=str)) for k, v in attrs.items()}


def _tree_in(text: dict, arrays) -> xr.DataTree:
    groups = {}
    for name, node in text["groups"].items():
        variables = {k: (dims, _get(r, arrays)) for k, (dims, r) in node["variables"].items()}
        coords = {k: _get(r, arrays) for k, r in node["coords"].items()}
        groups[name] = xr.Dataset(variables, coords, node["attrs"])
    tree = xr.DataTree.from_dict(groups)
    tree.attrs.update(text["attrs"])
    return tree
