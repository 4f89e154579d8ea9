"""The model in mathematical notation, its columns, and its priors."""

import re

from ..document import Block, Code, Equations, Fold, Math, Paragraph, Table, Text
from ..material import Material
from ..mathml import upright
from ..numbers import ABSENT, interval, listing, percent, significant
from ..scales import effect, level, spread

LONGEST = 62  # characters of a line of the linear predictor
WRITTEN = 7  # with more columns the linear predictor is written with vectors


def model(material: Material) -> list[Block]:
    """Show formula, equations, symbols and priors."""
    m = material.model
    family = f"{m.family.name}, link {m.link.name}"
    return [
        Paragraph(("In code: ", Code(m.formula), f", family {family}.")),
        Equations(equations(m)),
        Paragraph(
            (
                "Row ",
                Math("i"),
                " of ",
                f"{m.design.n}; the response ",
                Math("y_i"),
                " is ",
                Code(m.design.response_name),
                *_trials(m),
                f". {_between_levels(m)}",
            )
        ),
        *_priors(material),
    ]


def _trials(m) -> list:
    return [" successes of ", Math("n_i"), " trials"] if m.family.has_trials else []


def equations(m) -> list[str]:
    """LaTeX lines: response, linear predictor, group effects."""
    mean = m.link.latex.format(r"\mu_i")
    response = rf"y_i \mid b \sim {m.family.latex}"
    return [response, *_residual(m), *_predictor(mean, _summands(m)), *_effects(m)]


def _residual(m) -> list[str]:
    """Correlation of two rows of one cluster, for models that have one."""
    if m.residual is None:
        return []
    formulas = {
        "exponential": r"\exp(-\mathrm{phi}\,|t_i - t_j|)",
        "ar1": r"\mathrm{rho}^{|t_i - t_j|}",
        "compound_symmetry": r"\mathrm{rho}",
        "unstructured": r"\mathrm{corr}_{t_i t_j}",
    }
    nugget = r"(1 - \mathrm{nugget}) " if "nugget" in m.priors.residual else ""
    same = rf"{upright(m.residual.by)}[i] = {upright(m.residual.by)}[j]"
    return [rf"\mathrm{{cor}}(y_i, y_j \mid b) = {nugget}{formulas[m.residual.name]}, \quad {same}"]


def _predictor(mean: str, summands: list[str]) -> list[str]:
    """Write the linear predictor, broken before a plus sign where the line gets long."""
    lines = [f"{mean} = {summands[0]}"]
    room = LONGEST
    for summand in summands[1:]:
        length = len(re.sub(r"\\[a-z]+|[{}_,\\]", "", summand)) + 3  # as it is shown
        room -= length
        if room < 0:
            lines.append(rf"\quad {{}} + {summand}")
            room = LONGEST - length
        else:
            lines[-1] += f" + {summand}"
    return lines


def _summands(m) -> list[str]:
    terms = m.design.terms
    if len(terms) > WRITTEN:
        fixed = [r"x_i^\top \beta"]
    else:
        fixed = [
            rf"\beta_{{{k}}}" if t == "Intercept" else rf"\beta_{{{k}}}\,{upright(t)}_i"
            for k, t in enumerate(terms)
        ]
    random = [_random(g) for g in m.design.groups]
    offsets = [upright(text) + "_i" for text in m.design.formula.offsets]
    return [*fixed, *random, *offsets]


def _effect_name(group: str, column: str | None = None) -> str:
    inside = upright(group)
    return f"b_{{{inside}}}" if column is None else f"b_{{{inside},{upright(column)}}}"


def _random(g) -> str:
    """Contribution of one grouping factor to row i."""
    pieces = []
    for column in g.columns:
        name = upright(g.group) if g.q == 1 else f"{upright(g.group)},{upright(column)}"
        symbol = f"b_{{{name}[i]}}"
        pieces.append(symbol if column == "Intercept" else rf"{symbol}\,{upright(column)}_i")
    return " + ".join(pieces)


def _effects(m) -> list[str]:
    """Distributions of the group effects; one line per correlated set."""
    lines = []
    for g in m.design.groups:
        for block in g.blocks:
            names = [_effect_name(g.group, g.columns[j] if g.q > 1 else None) for j in block]
            if len(block) == 1:
                sigma = names[0].replace("b_", r"\sigma_", 1)
                A = "" if g.covariance is None else rf"\,A_{{{upright(g.group)}}}"
                lines.append(rf"{names[0]} \sim \mathrm{{N}}(0, {sigma}^2{A})")
            else:
                joint = ", ".join(names)
                lines.append(rf"({joint}) \sim \mathrm{{N}}(0, \Sigma_{{{upright(g.group)}}})")
    return lines


def _between_levels(m) -> str:
    """Say how the levels of each factor depend on one another."""
    if not m.related:
        return "Group effects are independent between levels."
    some = [g for g in m.design.groups if g.covariance is not None]
    facts = [
        f"{g.n_levels - g.n_observed} relatives without rows among the levels of {g.group}"
        for g in some
        if g.n_levels > g.n_observed
    ]
    text = f"Effects of the levels of {listing(m.related)} have the known covariance A between them"
    text += f", with {listing(facts)}" if facts else ""
    others = len(m.design.groups) > len(some)
    return text + ("; other group effects are independent between levels." if others else ".")


def _priors(material: Material) -> list[Block]:
    table = material.model.priors_table()
    rows = [_prior_row(material.model, row) for row in table.itertuples(index=False)]
    chosen = int((~table["default"]).sum())
    which = (
        "All are the package's defaults."
        if not chosen
        else f"{chosen} chosen for this model, the others the package's defaults."
    )
    caption = (
        "Priors of the Bayesian fit, the range that holds 95 % of each, and what that range means: "
        f"for a coefficient, what a change of its column by one does. {which}"
    )
    columns = ("parameter", "prior", "95 % range", "which means", "set by")
    why = {row.parameter: row.why for row in table.itertuples(index=False)}
    reasons = Table(
        ("parameter", "reason"),
        [(Code(k), str(v)) for k, v in why.items()],
        "Where the default widths come from.",
    )
    return [
        Table(columns, rows, caption, frozenset({2})),
        Fold("Why these priors", [reasons]),
    ]


def _prior_row(m, row) -> tuple[Text, ...]:
    low, high = row.range_low, row.range_high
    scale = " (stated on the variance)" if row.scale == "variance" else ""
    return (
        Code(row.parameter),
        f"{row.prior}{scale}",
        f"{significant(low, 2)} to {significant(high, 2)}" if low == low else ABSENT,
        _meaning(m, row),
        "package" if row.default else "user",
    )


def _meaning(m, row) -> str:
    """Say what the range of a prior means for the response."""
    parameter, low, high = row.parameter, row.range_low, row.range_high
    if parameter == "beta[Intercept]":
        return level(m, low, high)
    if parameter.startswith("sd_"):
        return spread(m, low, high)
    if parameter.startswith("covariance_"):
        return "the standard deviations above, and correlations"
    if parameter.startswith("corr_"):
        return f"correlation {interval(low, high, 2)}"
    if parameter == "r2":
        return f"variance explained, as a share: {interval(low, high, 2)}"
    if parameter == "residual_phi":
        return f"{row.means}, in units of {m.residual.time}"
    if parameter == "residual_nugget":
        return f"single rows' share of the residual variance: {percent(low)} to {percent(high)}"
    if parameter.startswith("residual_"):
        return f"correlation {interval(low, high, 2)}"
    if parameter == "dispersion":
        return f"{m.family.dispersion_name}: {significant(low)} to {significant(high)}"
    return effect(m, low, high)
