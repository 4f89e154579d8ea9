"""The comparison: methods, estimates, log-likelihoods, forest plots."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from ...fit import SCALE_OF, Fit
from ..document import Block, Heading, Paragraph, Picture, Subtitle, Table, Text
from ..figures.forest import Mark, Panel, forest
from ..material import AVERAGED, CONDITIONAL, Material, attempt
from ..numbers import ABSENT, decimals_for, duration, fixed, interval, significant
from ..scales import scale_of
from .population import agreement, contrasts, derived, shrinkage, what_is_what

MEANING = {
    CONDITIONAL: "the effect within one level of the groups, its group effect held fixed",
    AVERAGED: "the effect on the mean over all levels, group effects averaged out",
}


def comparison(material: Material) -> list[Block]:
    """How each method went, estimates by estimand, forest plots, log-likelihoods."""
    blocks: list[Block] = [Subtitle("How each method went"), _methods(material)]
    for estimand in (CONDITIONAL, AVERAGED):
        blocks += attempt(f"{estimand} estimates", lambda e=estimand: _block(material, e))
    blocks += attempt("table of log-likelihoods", lambda: _likelihoods(material))
    blocks += attempt("criteria of working correlations", lambda: _criteria(material))
    return blocks


def _methods(material: Material) -> Table:
    """One row per method: what it estimates, how it went, how long it took."""
    rows = [_method_row(material, label, fit) for label, fit in material.fits.items()]
    rows += [
        (material.key(label), "failed", reason, ABSENT, ABSENT)
        for label, reason in material.comparison.failures.items()
    ]
    columns = ("method", "converged", "coefficients and notes", "divergences", "time")
    caption = "A method that failed says why; notes are explained further down."
    return Table(columns, rows, caption, frozenset({3, 4}))


def _method_row(material: Material, label: str, fit: Fit) -> tuple[Text, ...]:
    codes = ", ".join(dict.fromkeys(m.code for m in fit.messages))
    divergences = fit.details.get("divergences")
    return (
        material.key(label),
        "yes" if fit.converged else "no",
        f"{fit.estimand}{f'; {codes}' if codes else ''}",
        ABSENT if divergences is None else str(int(divergences)),
        duration(fit.seconds.total),
    )


def _block(material: Material, estimand: str) -> list[Block]:
    """Table and forest plot of one estimand, and what is to be said about it."""
    tables = _tidy(material.comparison.by_estimand(estimand))
    if estimand == AVERAGED:
        tables |= derived(material)
    if not tables and estimand == AVERAGED:
        return [Paragraph("No method with population-averaged coefficients gave a fit.")]
    if not tables:
        return []
    caption = (
        f"A coefficient is {MEANING[estimand]}. Unit: {scale_of(material.model).axis}. SE is the "
        "standard error, for draws the posterior SD."
    )
    shown = [
        Subtitle(f"{estimand.capitalize()} coefficients"),
        *attempt("forest plot", lambda: [_forest(material, tables, estimand)]),
        _estimates(material, tables, caption),
    ]
    if estimand == CONDITIONAL:
        return [*shown, *attempt("what PQL does", lambda: shrinkage(material))]
    return [
        shown[0],
        *what_is_what(material),
        *shown[1:],
        *attempt("agreement with GEE", lambda: agreement(material)),
        *attempt("means over the population", lambda: contrasts(material)),
    ]


def _tidy(fits: Mapping[str, Fit]) -> dict[str, pd.DataFrame]:
    """Tidy rows of each fit that has an estimate, with the kind of their intervals."""
    tables = {}
    for label, fit in fits.items():
        table = fit.tidy()
        table = table.assign(kind=[_kind(fit, row) for row in table.itertuples()])
        tables[label] = table[table["estimate"].notna()]
    return tables


def _estimates(material: Material, tables: Mapping[str, pd.DataFrame], caption: str) -> Table:
    """Rows by parameter, one method each, digits by the smallest standard error."""
    draws = any("rhat" in table and table["rhat"].notna().any() for table in tables.values())
    columns = ["method", "estimate", "SE", "95 % interval", "kind"]
    columns += ["R-hat", "ESS"] if draws else []
    rows: list = []
    for name, table in _by_parameter(tables).items():
        decimals = max(
            decimals_for(e, v) for e, v in zip(table.std_error, table.estimate, strict=True)
        )
        rows.append(Heading(name))
        rows += [_estimate(material, row, decimals, draws) for row in table.itertuples()]
    return Table(columns, rows, caption, frozenset({1, 2, 3, 5, 6}))


def _by_parameter(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tidy rows of all methods by parameter, in the order of the first that has it."""
    labelled = [table.assign(label=label) for label, table in tables.items()]
    whole = pd.concat(labelled, ignore_index=True)
    names = [_name(row) for row in whole.itertuples()]
    whole = whole.assign(parameter=names)
    order = sorted(dict.fromkeys(names), key=lambda n: names.index(n))
    order.sort(key=lambda n: whole.effect[names.index(n)] != "fixed")
    return {name: whole.loc[whole.parameter == name] for name in order}


def _name(row) -> str:
    """``SD of herd``, ``SD of herd, x``, ``corr(Intercept, x) of herd``; others as they are."""
    if not row.group:
        return row.term
    if not row.term.startswith("sd("):
        return f"{row.term} of {row.group}"
    column = row.term[3:-1]
    return f"SD of {row.group}{'' if column == 'Intercept' else f', {column}'}"


def _estimate(material: Material, row, decimals: int, draws: bool) -> tuple[Text, ...]:
    cells: tuple[Text, ...] = (
        material.key(row.label),
        fixed(row.estimate, decimals),
        fixed(row.std_error, decimals),
        interval(row.conf_low, row.conf_high, decimals),
        ABSENT if row.conf_low != row.conf_low else row.kind,
    )
    if not draws:
        return cells
    return (
        *cells,
        fixed(getattr(row, "rhat", np.nan), 3),
        fixed(getattr(row, "ess_bulk", np.nan), 0),
    )


WORKING = {"log": "log scale", "logit": "logit scale", "atanh": "Fisher's z"}


def _kind(fit: Fit, row) -> str:
    """Name the kind of an interval, with the degrees of freedom where it is one of t."""
    if fit.draws is not None:
        return "equal-tailed"
    if row.effect != "fixed":
        known = fit.variance.components if fit.variance else ()
        (component,) = (c for c in known if (c.group, str(c)) == (row.group, row.term))
        return f"Wald, {WORKING[SCALE_OF[component.kind]]}"
    if fit.df is None:
        return "Wald"
    df = float(row.df if np.ndim(fit.df) else fit.df)
    return f"Wald, t with {significant(df, 3)} df" if df > 0 else "none: t has no df"


def _likelihoods(material: Material) -> list[Block]:
    fits = {k: f for k, f in material.fits.items() if f.loglik is not None}
    if not fits:
        return [Paragraph("No method here has a log-likelihood.")]
    rows = [
        (material.key(k), str(f.loglik_kind), fixed(f.loglik, 3), str(f.npar), fixed(f.aic, 2))
        for k, f in fits.items()
    ]
    without = [k for k in material.fits if k not in fits]
    caption = (
        "Log-likelihoods with all constants, and AIC. Only rows computed in the same way "
        "compare exactly: Laplace approximates the integral that quadrature computes."
    )
    if any(f.loglik_kind == "conditional" for f in fits.values()):
        caption += (
            " A conditional log-likelihood is of the responses given each level's total, and "
            "compares with no other."
        )
    if without:
        caption += f" None for {', '.join(without)}: they maximise no likelihood of the data."
    columns = ("method", "computed by", "log-likelihood", "parameters", "AIC")
    return [Subtitle("Log-likelihoods"), Table(columns, rows, caption, frozenset({2, 3, 4}))]


def _criteria(material: Material) -> list[Block]:
    """QIC, QICu and CIC where there are several GEEs."""
    table = material.comparison.qic()
    if table.empty:
        return []
    rows = [
        (material.key(r.label), str(r.corr), fixed(r.cic, 3), fixed(r.qic, 2), fixed(r.qicu, 2))
        for r in cast("Iterable[Any]", table.itertuples())
    ]
    columns = ("method", "working correlation", "CIC", "QIC", "QICu")
    caption = (
        "Criteria of estimating equations, smaller is better and only differences mean something. "
        "With one mean structure CIC, the part of QIC that depends on the working correlation, "
        "tells them apart with the least noise; QICu compares mean structures only. "
        f"All are at the dispersion {significant(float(table['scale'].iloc[0]), 3)}."
    )
    return [
        Subtitle("Which working correlation"),
        Table(columns, rows, caption, frozenset({2, 3, 4})),
    ]


def _forest(material: Material, tables: Mapping[str, pd.DataFrame], estimand: str) -> Picture:
    panels = [
        Panel(title, [_mark(material, row) for row in table.itertuples()], *_axis(table))
        for title, table in _by_parameter(tables).items()
    ]
    axis = f"{scale_of(material.model).axis}, {estimand} coefficients"
    spoken = "; ".join(f"{p.title}: {_spoken(p.marks)}" for p in panels)
    caption = (
        f"Estimates and 95 % intervals of {estimand} coefficients. Each panel has its own scale; "
        "the dashed line is zero"
    )
    if len(tables) > 1:
        caption += (
            ", the faint line the first method's estimate. Look for marks that stand away from "
            "the others, and for intervals that are shorter than the others'"
        )
    return Picture(
        f"forest-{estimand}",
        forest(panels, axis),
        f"Forest plot of {estimand} estimates. {spoken}.",
        f"{caption}.",
    )


def _axis(table: pd.DataFrame) -> tuple[bool, bool]:
    """Whether a parameter's axis must show zero, and whether it begins there."""
    first = table.iloc[0]
    is_sd = first.effect != "fixed" and not str(first.term).startswith("corr(")
    return first.effect == "fixed" and first.term != "Intercept", is_sd


def _mark(material: Material, row) -> Mark:
    return Mark(row.label, material.style(row.label), row.estimate, row.conf_low, row.conf_high)


def _spoken(marks: Sequence[Mark]) -> str:
    return ", ".join(f"{m.label} {significant(m.estimate, 3)}" for m in marks)
