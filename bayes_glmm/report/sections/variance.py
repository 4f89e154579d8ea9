"""Variance components: posterior, prior and profile likelihood; the boundary test."""

from typing import Any

import numpy as np
from scipy.interpolate import Akima1DInterpolator

from ...datatree import draws_of
from ...estimands import SHARE, heritability, icc, median_factor, median_ratio
from ...fit import Component, Fit, datatree_name
from ..document import Block, Code, Heading, Paragraph, Picture, Subtitle, Table, Text
from ..figures.canvas import INK
from ..figures.component import LIMIT, Curves, component, density, relative
from ..figures.forest import Mark
from ..material import Material, attempt
from ..numbers import ABSENT, fixed, interval, listing, p_value, significant
from ..scales import scale_of

POINTS = 25  # of a profile
FINE = 400  # of a drawn curve
FEW_LEVELS = 30  # up to here the mixture of the boundary test is clearly conservative


def variance(material: Material) -> list[Block]:
    """One figure per standard deviation, then the tests of a zero one."""
    if not material.sds():
        return [Paragraph("The model has no random effects.")]
    blocks: list[Block] = [_meaning(material)]
    for c in material.sds():
        what = f"figure of {datatree_name(c)}"
        blocks += attempt(what, lambda c=c: [_picture(material, c)])
    blocks += attempt("intraclass correlations", lambda: _shares(material))
    for group, multiple in material.about.heritability.items():
        blocks += attempt("heritability", lambda g=group, m=multiple: _heritability(material, g, m))
    return [*blocks, Subtitle("Is a standard deviation zero?"), *_tests(material)]


def _meaning(material: Material) -> Paragraph:
    scale = scale_of(material.model)
    text = (
        f"A standard deviation here is that of the group effects on the link scale ({scale.axis}), "
        "not of the response."
    )
    if scale.ratio is not None:
        text += (
            f" At an SD of 1, the {scale.of} of two random levels differ by a median factor "
            f"of {significant(float(median_factor(1.0)))}."
        )
    text += (
        " Each figure shows what the data say (profile likelihood, 1 at its peak; above the dotted "
        "line lies its 95 % interval), what the prior said, and the posterior, which combines the "
        "two. Where the posterior follows the prior rather than the likelihood, the data say "
        "little. Below the curves are the methods' estimates and 95 % intervals."
    )
    return Paragraph(text)


# --- the figure -----------------------------------------------------------------------


def _picture(material: Material, c: Component) -> Picture:
    curves, missing = _curves(material, c)
    title = f"SD of {c.group}{'' if c.term == 'Intercept' else f', {c.term}'}"
    axis = f"{title}, {scale_of(material.model).axis}"
    colors = [
        material.style(pair[0]).color if pair else INK
        for pair in (material.posterior, material.likelihood)
    ]
    image = component(curves, axis, (colors[0], colors[1]))
    by = f" by {material.likelihood[0]}" if material.likelihood else ""
    caption = f"{title}. Profile likelihood{by}{_profile_interval(curves)}."
    if missing:
        caption += f" Not available: {listing(missing)}."
    return Picture(f"sd-{c.group}-{c.term}", image, _spoken(title, curves), caption)


def _curves(material: Material, c: Component) -> tuple[Curves, list[str]]:
    marks = _marks(material, c)
    draws = _draws(material, c)
    missing = [] if draws is not None else ["posterior"]
    grid = np.linspace(0.0, _upper(marks, draws, _profile_limit(material, c)), FINE)
    try:
        profile = _profile(material, c, grid[-1])
    except Exception as error:  # the figure stands without it and says so
        profile = None
        missing.append(f"profile likelihood ({error})".replace(".)", ")"))
    return Curves(grid, _prior(material, c, grid), draws, profile, marks), missing


def _draws(material: Material, c: Component) -> np.ndarray | None:
    if material.posterior is None:
        return None
    return draws_of(material.posterior[1])[datatree_name(c)].ravel()


def _marks(material: Material, c: Component) -> list[Mark]:
    found = []
    for label, fit in material.mixed.items():
        estimate, low, high = material.sd_estimate(fit, c)
        if np.isfinite(estimate):
            found.append(Mark(label, material.style(label), estimate, low, high))
    return found


def _profile_limit(material: Material, c: Component) -> float:
    """Upper end of the profile interval, or 0: at a zero estimate the axis must reach it."""
    try:
        limits = material.profiles()[1].set_index("term")
    except Exception:  # the figure says what it lacks
        return 0.0
    return float(limits.conf_high[datatree_name(c)])


def _upper(marks: list[Mark], draws: np.ndarray | None, limit: float) -> float:
    """End of the axis: beyond the posterior's bulk and every estimate."""
    ends = [m.high for m in marks if np.isfinite(m.high) and m.high < 5 * max(m.estimate, 0.1)]
    ends += [1.3 * m.estimate for m in marks]
    ends += [] if draws is None else [float(np.quantile(draws, 0.998))]
    ends += [1.3 * limit] if np.isfinite(limit) else []
    return 1.05 * max([*ends, 0.1])


def _prior(material: Material, c: Component, grid: np.ndarray) -> np.ndarray:
    group = next(g for g in material.model.design.groups if g.group == c.group)
    prior = material.model.priors.sd[c.group][group.columns.index(c.term)]
    with np.errstate(over="ignore"):
        height = np.exp(prior.logpdf(np.maximum(grid, 1e-9)))
    return np.where(np.isfinite(height), height, np.nan)


def _profile(material: Material, c: Component, upper: float) -> tuple[np.ndarray, np.ndarray]:
    """Profile log-likelihood on a coarse grid, then a smooth curve through it."""
    coarse = np.linspace(0.0, upper, POINTS)
    values = np.asarray(material.profile(c, coarse), float)
    good = np.isfinite(values)
    if good.sum() < 4:
        raise ValueError("it could not be computed at enough values")
    fine = np.linspace(coarse[good][0], coarse[good][-1], FINE)
    return fine, Akima1DInterpolator(coarse[good], values[good], method="makima")(fine)


def _profile_interval(curves: Curves) -> str:
    """Say where the profile is above the 95 % line; open at the axis's end."""
    if curves.profile is None:
        return ""
    grid, inside = curves.profile[0], relative(curves.profile) >= LIMIT
    low, high = float(grid[inside][0]), float(grid[inside][-1])
    if inside[-1]:
        return f": 95 % interval from {significant(low)}, beyond the axis"
    return f": 95 % interval {significant(low)} to {significant(high)}"


def _spoken(title: str, curves: Curves) -> str:
    parts = [f"{m.label} {significant(m.estimate, 3)}" for m in curves.marks]
    if curves.draws is not None:
        mode = curves.grid[np.argmax(density(curves.draws, curves.grid))]
        parts.append(f"posterior mode {significant(float(mode))}")
    if curves.profile is not None:
        peak = curves.profile[0][np.argmax(curves.profile[1])]
        parts.append(f"profile likelihood peaks at {significant(float(peak))}")
    return f"{title}: density of posterior and prior, and profile likelihood. {', '.join(parts)}."


# --- intraclass correlations ------------------------------------------------------------


def _shares(material: Material) -> list[Block]:
    """Intraclass correlations and median ratios, rows by level shared, one method each."""
    tables, reason = {}, ""
    for label, fit in material.mixed.items():
        try:
            tables[label] = icc(fit).set_index("group")
        except ValueError as error:
            reason = str(error)
    title = Subtitle("How alike are responses of one level?")
    if not tables:
        return [title, Paragraph(f"No intraclass correlation: {reason}")]
    ratios = {k: _ratios(material.mixed[k]) for k in tables}
    responses = {k: _responses(material.mixed[k], table) for k, table in tables.items()}
    both = any(table is not None for table in responses.values())
    named = any(table is not None for table in ratios.values())
    rows: list = []
    first = next(iter(tables.values()))
    for group in first.index:
        rows.append(Heading(f"two responses of one {group}"))
        rows += [
            _share(material, k, t.loc[group], responses[k], ratios[k], group)
            for k, t in tables.items()
        ]
    columns = ["method", "ICC, latent" if both else "ICC", "95 % interval"]
    columns += ["ICC, responses", "95 % interval"] if both else []
    columns += ["median ratio", "95 % interval"] if named else []
    numeric = frozenset(range(1, len(columns)))
    caption = _share_caption(material, first, named)
    if both:
        mean = next(t.scale.iloc[0] for t in responses.values() if t is not None)
        caption += (
            " Beside it the correlation of the responses themselves, "
            f"{mean.removeprefix('response ')}: smaller, the more so "
            "the farther that mean is from one half."
        )
    return [title, Table(columns, rows, caption, numeric)]


def _responses(fit: Fit, latent):
    """Correlations of the binary responses themselves; None where there is but one scale."""
    if not latent.scale.iloc[0].startswith("latent"):
        return None
    return icc(fit, scale="response").set_index("group")


def _ratios(fit: Fit):
    if scale_of(fit.model).ratio is None:
        return None
    table = median_ratio(fit)
    return table.loc[table.term == "Intercept"].set_index("group")


def _share(material: Material, label: str, row, responses, ratios, group: str) -> tuple[Text, ...]:
    cells: tuple[Text, ...] = (
        material.key(label),
        fixed(row.icc, 3),
        interval(row.conf_low, row.conf_high, 3),
    )
    if responses is not None:
        own = responses.loc[group]
        cells = (*cells, fixed(own.icc, 3), interval(own.conf_low, own.conf_high, 3))
    if ratios is None:
        return cells
    ratio = ratios.loc[group]
    limits = interval(ratio.conf_low, ratio.conf_high, 2)
    return (*cells, fixed(ratio.estimate, 2), limits)


def _share_caption(material: Material, table, named: bool) -> str:
    on = table.scale.iloc[0]
    scale = scale_of(material.model)
    if on.startswith("latent"):
        what = (
            "of the latent variables whose sign is the response (the link fixes their residual "
            "variance)"
        )
    elif on in ("response", SHARE):
        what = "of the responses"
    else:
        what = f"of the responses at mean {on.removeprefix('response at mean ')}"
    shared = (
        "Intraclass correlation: the share of a row's variance that all rows of the level have in "
        "common; the residual correlation of rows near in time comes on top of it."
    )
    text = (
        shared
        if on == SHARE
        else (
            f"Intraclass correlation: that {what} of two rows that share the level and differ in "
            "nothing that the model knows."
        )
    )
    if len(material.model.design.groups) > 1:
        text += " Rows of a nested level share the levels around it too."
    if any(c.term != "Intercept" for c in material.sds()):
        text += " With random slopes: where their variables are zero."
    if named:
        text += (
            f" The median ratio is that of the {scale.of} of two random levels, the higher to the "
            "lower, all else equal."
        )
    return f"{text} Intervals by the delta method, or of the posterior; none at an SD of zero."


def _heritability(material: Material, group: str, multiple: float) -> list[Block]:
    """Heritability by every method that has the variances."""
    rows = []
    for label, fit in material.mixed.items():
        row = heritability(fit, group, multiple).iloc[0]
        limits = interval(row.conf_low, row.conf_high, 2)
        rows.append((material.key(label), fixed(row.heritability, 2), limits))
    times = "" if multiple == 1 else f"{multiple:g} times "
    caption = (
        f"Heritability: {times}the variance between levels of {group}, as a share of that and the "
        "residual variance. Variances of other factors are left out: individuals are compared "
        "within them. Intervals by the delta method, or of the posterior; none at an SD of zero."
    )
    columns = ("method", "heritability", "95 % interval")
    return [Subtitle("How heritable is it?"), Table(columns, rows, caption, frozenset({1, 2}))]


# --- the boundary test ----------------------------------------------------------------


def _tests(material: Material) -> list[Block]:
    if material.likelihood is None:
        return [Paragraph("No boundary test: no method with a likelihood gave a fit.")]
    rows, failures, remarks = [], [], []
    for c in material.sds():
        try:
            test = material.boundary(c)
        except Exception as error:  # the other components have their rows
            failures.append(Paragraph(f"No test of {datatree_name(c)}: {error}", "warning"))
            continue
        rows.append(_row(c, test))
        if test.note:
            remarks.append(Paragraph((Code(datatree_name(c)), f": {test.note}"), "note"))
    label = material.likelihood[0]
    caption: Text = (
        "Is the SD zero? Likelihood-ratio test by ",
        material.key(label),
        ". Zero is the edge of what an SD can be, so under the hypothesis the estimate is zero in "
        "half of all samples: the reference is a mixture of chi-squares (with 0 degrees of freedom "
        "a point at zero), and the naive p-value, which ignores that, is too large.",
        _with_few_levels(material),
    )
    columns = ("SD", "statistic", "reference", "p", "naive p")
    table = Table(columns, rows, caption, frozenset({1, 3, 4}))
    return [*([table] if rows else []), *remarks, *failures]


def _with_few_levels(material: Material) -> str:
    """Say that the mixture errs on the safe side with few levels, and what does not."""
    if min(g.n_levels for g in material.model.design.groups) > FEW_LEVELS:
        return ""
    return (
        " With few levels the estimate is zero in more than half of such samples, and the "
        "mixture's p-value is too large as well; boundary_test(fit, group, bootstrap=500) gives "
        "one by simulation."
    )


def _row(c: Component, test: Any) -> tuple[Text, ...]:
    mixture = " + ".join(
        f"{'½' if w == 0.5 else significant(w)} χ²({d})"
        for w, d in zip(test.weights, test.df, strict=True)
    )
    return (
        Code(datatree_name(c)),
        significant(test.statistic, 4),
        mixture or ABSENT,
        p_value(test.p_value).removeprefix("p ").removeprefix("= "),
        p_value(test.p_naive).removeprefix("p ").removeprefix("= "),
    )
