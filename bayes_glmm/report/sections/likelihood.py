"""The likelihood: whether the quadrature nodes are enough, and profiles of every parameter."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd

from ...fit import Component, Fit, Variance
from ...methods import NotServedError
from ..document import Block, Code, Paragraph, Picture, Subtitle, Table, Text
from ..figures.nodes import nodes
from ..figures.zeta import Curve, zeta
from ..material import Material, TooLargeError, attempt
from ..numbers import ABSENT, decimals_for, fixed, interval, listing, significant

PANELS = 12  # of the profile plot
FEW = 4  # rows of a node table that need no figure


def likelihood(material: Material) -> list[Block]:
    """Node table, then profile plots."""
    if material.likelihood is None:
        return [Paragraph("No method with a likelihood gave a fit.")]
    label, fit = material.likelihood
    return [
        *attempt("node table", lambda: _nodes(material, label, fit)),
        *attempt("profile plots", lambda: _profiles(material, label, fit)),
    ]


# --- nodes ------------------------------------------------------------------------------


def _nodes(material: Material, label: str, fit: Fit) -> list[Block]:
    title = Subtitle("Are the quadrature nodes enough?")
    table = fit.details.get("node_table")
    if fit.loglik_kind in ("exact", "restricted"):
        text = "The response is normal, so that the integral over the group effects is exact."
        return [title, Paragraph(text)]
    if table is None or "Laplace" in str(fit.loglik_kind):
        return [title, _one_node(material, label)]
    whole = _with_laplace(material, table)
    blocks: list[Block] = [title, _node_table(material, label, fit, whole)]
    tolerance = getattr(fit.method, "tolerance", None)
    if len(table) >= FEW and tolerance:
        blocks.append(_node_picture(material, label, table, tolerance))
    return blocks


def _one_node(material: Material, label: str) -> Paragraph:
    text = (
        " took the integral over the group effects by Laplace's approximation, one node at their "
        "mode. Its error cannot be read off the fit itself: it is small with many observations per "
        "level, and the SDs come out biased with few, above all binary, ones. "
    )
    if material.posterior:
        text += f"Compare the SDs with {material.posterior[0]}'s, which need no such approximation."
    return Paragraph((material.key(label), text))


def _with_laplace(material: Material, table: pd.DataFrame) -> pd.DataFrame:
    """Put the Laplace fit of the comparison, where there is one, before the other rows."""
    others = [f.details.get("node_table") for f in material.mixed.values()]
    single = [
        t
        for t in others
        if t is not None and len(t) == 1 and str(t.nodes.iloc[0]) == "1" and t is not table
    ]
    whole = pd.concat([*single[:1], table], ignore_index=True)
    return whole.reindex(columns=table.columns)


def _node_table(material: Material, label: str, fit: Fit, table: pd.DataFrame) -> Table:
    names = [c for c in table.columns if c.startswith(("sd_", "dispersion"))][:4]
    changes = table.loglik.diff()
    rows = []
    for i, row in enumerate(table.to_dict("records")):
        name = "1 (Laplace)" if str(row["nodes"]) == "1" else str(row["nodes"])
        change = ABSENT if i == 0 else significant(float(changes.iloc[i]), 2)
        values = [fixed(float(row[c]), 4) for c in names]
        rows.append((name, fixed(float(row["loglik"]), 4), change, *values))
    tolerance = getattr(fit.method, "tolerance", None)
    rule = (
        f" Nodes were added until two changes in a row were below {significant(tolerance, 1)}: one "
        "is not enough, since the values do not settle from one side."
        if len(table) > 1 and tolerance
        else ""
    )
    caption: Text = (
        material.key(label),
        ": log-likelihood and estimates by the number of quadrature nodes per effect. The integral "
        "over the group effects is a weighted sum over nodes, exact as their number grows; what "
        f"moves from row to row is numerical error, not information.{rule}",
    )
    columns = ("nodes", "log-likelihood", "change", *names)
    return Table(columns, rows, caption, frozenset(range(1, len(columns))))


def _node_picture(material: Material, label: str, table: pd.DataFrame, tolerance: float) -> Picture:
    changes = np.abs(np.diff(table.loglik.to_numpy(float)))
    reached = [str(n) for n in table.nodes[1:]]
    image = nodes(reached, changes, tolerance, material.style(label))
    spoken = ", ".join(f"{n}: {significant(c)}" for n, c in zip(reached, changes, strict=True))
    caption = (
        f"How far the log-likelihood moved when the nodes were raised to the number below, by "
        f"{label}; the band holds what was accepted."
    )
    return Picture("nodes", image, f"Changes of the log-likelihood by nodes: {spoken}.", caption)


# --- profiles -----------------------------------------------------------------------------


def _profiles(material: Material, label: str, fit: Fit) -> list[Block]:
    title = Subtitle("Profiles of the parameters")
    try:
        frame, limits = material.profiles()
    except (NotServedError, TooLargeError) as reason:
        return [title, Paragraph(f"No profiles: {reason}")]
    material.keep("profiles.csv", label, frame.assign(method=label))
    curves = _curves(fit, frame, limits)
    image = zeta(curves, material.style(label))
    left = len(limits) - len(curves)
    more = f" {left} more coefficients are in the table and in profiles.csv." if left else ""
    caption: Text = (
        "Profiles by ",
        material.key(label),
        ": at each value of a parameter the others are fitted anew, and ζ is the root of twice "
        "the fall of the log-likelihood, with the sign of the distance from the estimate. Dashed "
        "is what the Wald interval takes it for: where the two part, trust the profile. The band "
        f"holds the 95 % interval, whose ends are dotted.{more}",
    )
    spoken = f"Profile plots of {listing([c.title for c in curves])}."
    return [
        title,
        Picture("profiles", image, spoken, caption),
        _limits_table(material, label, fit, limits),
    ]


def _curves(fit: Fit, frame: pd.DataFrame, limits: pd.DataFrame) -> list[Curve]:
    """Variance components and as many coefficients as find room, in the fit's order."""
    names = fit.parameter_names
    p = len(fit.beta)
    values, errors = _values(fit)
    by_name = limits.set_index("term")
    room = max(PANELS - (len(names) - p), 0)
    first = [k for k in range(p) if names[k] in by_name.index]  # by REML there are none
    chosen = [*first[:room], *range(p, len(names))][:PANELS]
    out = []
    for k in chosen:
        part = frame.loc[frame.parameter == names[k]]
        part = part.loc[np.isfinite(part.zeta)]
        low, high = by_name.loc[names[k], ["conf_low", "conf_high"]]
        value, zetas = part.value.to_numpy(float), part.zeta.to_numpy(float)
        kind = "" if k < p else cast("Variance", fit.variance).components[k - p].kind
        wald = _wald(kind, value, float(values[k]), float(errors[k]))
        out.append(Curve(names[k], value, zetas, wald, float(values[k]), float(low), float(high)))
    return out


def _wald(kind: str, value: np.ndarray, estimate: float, error: float) -> np.ndarray:
    """Give what Wald takes for zeta: a line; for SDs in the log, for correlations in atanh."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if not kind:
            return (value - estimate) / error
        if kind == "corr":
            return (np.arctanh(value) - np.arctanh(estimate)) * (1 - estimate**2) / error
        return (np.log(value) - np.log(estimate)) * estimate / error


def _values(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors of all parameters, in the order of their names."""
    estimates, errors = [fit.beta], [fit.se().to_numpy()]
    if fit.variance is not None:
        estimates.append(fit.variance.estimate)
        errors.append(fit.variance.std_error)
    return np.concatenate(estimates), np.concatenate(errors)


def _limits_table(material: Material, label: str, fit: Fit, limits: pd.DataFrame) -> Table:
    wald = fit.confint()
    values, errors = _values(fit)
    rows, one_sided = [], []
    components: Sequence[Component | None] = [None] * len(fit.beta)
    components = [*components, *(fit.variance.components if fit.variance else ())]
    by_name = limits.set_index("term")
    for k, name in enumerate(fit.parameter_names):
        if name not in by_name.index:
            continue
        decimals = decimals_for(float(errors[k]), float(values[k]))
        profile = by_name.loc[name]
        c = components[k]
        shown = interval(float(profile.conf_low), float(profile.conf_high), decimals)
        if c is not None and c.kind == "sd" and profile.conf_low == 0:
            one_sided.append(name)
            shown = f"0 (one-sided) to {fixed(float(profile.conf_high), decimals)}"
        rows.append(
            (
                Code(name),
                fixed(float(values[k]), decimals),
                interval(float(wald.conf_low[k]), float(wald.conf_high[k]), decimals),
                shown,
            )
        )
    caption: list = ["95 % intervals by ", material.key(label), ": Wald beside profile likelihood."]
    if len(limits) < len(fit.parameter_names):
        caption.append(" The restricted likelihood has no coefficients to profile.")
    if one_sided:
        caption.append(
            f" For {listing(one_sided)} the data do not exclude zero, the edge of what an SD can "
            "be: its interval is one-sided, and a Wald interval on the log scale, which never "
            "reaches zero, says too much."
        )
    columns = ("parameter", "estimate", "Wald", "profile")
    return Table(columns, rows, caption, frozenset({1, 2, 3}))
