"""Averages over the population: mixed-model fits on the scale of GEE, and what PQL does to both."""

import numpy as np
import pandas as pd

from ...comparison import affordable_draws
from ...fit import Component, Fit
from ...population import LOGISTIC, PopulationAveraged
from ..document import Block, Code, Heading, Inline, Paragraph, Table, Text
from ..material import Material, tidy_fixed
from ..numbers import decimals_for, fixed, interval, listing, percent, significant
from ..scales import scale_of

FAR_BELOW = 0.8  # ratio of PQL's SD to the likelihood's that is worth a paragraph
MOST_COLUMNS = 4  # whose contrasts are shown


def derived(material: Material) -> dict[str, pd.DataFrame]:
    """Tidy rows of the averaged fits by label, where averaging changes coefficients."""
    if material.model.link.name == "identity" and not material.averaged:
        return {}
    kind = {True: "equal-tailed", False: "delta method"}
    tables = {}
    for label, rows in material.averages.groupby("label", sort=False):
        drawn = material.fits[rows["of"].iloc[0]].draws is not None
        tables[str(label)] = rows.assign(effect="fixed", group="", level="", kind=kind[drawn])
    return tables


def what_is_what(material: Material) -> list[Block]:
    """Say what the rows of the population-averaged block are."""
    said = []
    direct = list(material.averaged)
    if direct:
        said.append(f"{listing(direct)} estimate these coefficients themselves.")
    if material.model.link.name == "identity":
        said.append(
            "Under the identity link the coefficients of a mixed model are averages over the "
            "population as they stand: rows called “averaged” repeat those of the table above."
        )
    elif len(material.averages):
        said.append(
            "Rows called “averaged” are the mixed-model fits of the table above with their group "
            "effects integrated out: the coefficients of the generalized linear model nearest to "
            "their means over the population, which is what GEE with independent rows tends to "
            "if the mixed model is right."
        )
    if any(material.averages["how"] == "attenuation formula"):
        said.append(_formula(material))
    return [Paragraph(" ".join(said))] if said else []


def _formula(material: Material) -> str:
    link = material.model.link.name
    name = "The attenuation formula of Zeger, Liang & Albert (1988)"
    if link == "logit":
        return (
            f"{name} divides conditional coefficients by √(1 + {LOGISTIC:.3f} σ²), σ² the variance "
            "of the group effects: an approximation."
        )
    if link == "probit":
        return f"{name} divides conditional coefficients by √(1 + σ²), which is exact here."
    return f"{name} adds half the variance of the group effects to the intercept, exactly."


def agreement(material: Material) -> list[Block]:
    """Say how far the averaged reference fit is from GEE's, in robust standard errors."""
    robust = {k: f for k, f in material.averaged.items() if type(f.method).__name__ == "GEE"}
    if material.reference is None or not robust:
        return []
    label = f"{material.reference[0]}, averaged"
    rows = material.averages[material.averages["label"] == label]
    if rows.empty:
        return []
    words = []
    for name, fit in robust.items():
        distance = np.abs(np.asarray(rows["estimate"]) - fit.beta) / fit.se().to_numpy()
        k = int(np.argmax(distance))
        words.append(f"{significant(float(distance[k]))} from {name} ({fit.terms[k]})")
    lead = "In robust standard errors, the largest distance of "
    tail = (
        f" is {listing(words)}. Both use the same rows, so that far more than one would put the "
        "mixed model, or rows missing at random, in doubt."
    )
    return [Paragraph((lead, material.key(label), tail))]


# --- means and contrasts -------------------------------------------------------------------


def contrasts(material: Material) -> list[Block]:
    """Means over the population at two values of a column, and what they differ by."""
    pairs = contrast_pairs(material)
    averages = _averages(material)
    if not pairs or not averages:
        return []
    rows: list = []
    shown = set()
    for column, low, high in pairs:
        tables = {label: pa.compare(column, low, high) for label, pa in averages.items()}
        for k, row in next(iter(tables.values())).iterrows():
            heading = Heading((Code(column), f": {row.quantity}, {row.contrast}"))
            if heading in shown:  # the mean at a factor's first level stands in every pair
                continue
            shown.add(heading)
            rows.append(heading)
            picked = {label: table.loc[k] for label, table in tables.items()}
            decimals = max(decimals_for(r.std_error, r.estimate) for r in picked.values())
            rows += [_contrast(material, label, r, decimals) for label, r in picked.items()]
    caption = (
        "Means of the response over the population: every row of the data is given the first "
        "value of the column, then the second, its other columns as they are, and the predicted "
        "means are averaged, group effects integrated out. These are what a decision about "
        "everybody turns on, and all methods estimate the same."
    )
    columns = ("method", "estimate", "SE", "95 % interval")
    return [Table(columns, rows, caption, frozenset({1, 2, 3}))]


def contrast_pairs(material: Material) -> list[tuple[str, object, object]]:
    """Columns of two values in the data, or factors (first level and each other), to compare."""
    design = material.model.design
    found: list[tuple[str, object, object]] = []
    for name in design.formula.variables:
        if name in design.recipe.levels:
            first, *others = design.recipe.levels[name]
            found += [(name, first, other) for other in others]
        else:
            values = np.unique(design.frame[name].to_numpy())
            found += [(name, *values)] if len(values) == 2 else []
    return found[:MOST_COLUMNS]


def _averages(material: Material) -> dict[str, PopulationAveraged]:
    """Average the first direct method, the reference and the likelihood's fit."""
    chosen: dict[str, Fit] = dict(list(material.averaged.items())[:1])
    for pair in (material.reference, material.likelihood):
        if pair is not None:
            chosen[pair[0]] = pair[1]
    found = {}
    for label, fit in chosen.items():
        name = label if label in material.averaged else f"{label}, averaged"
        if label in material.averaged or name in set(material.averages["label"]):
            found[name] = fit.population_averaged(draws=affordable_draws(fit))
    return found


def _contrast(material: Material, label: str, row, decimals: int) -> tuple[Text, ...]:
    return (
        material.key(label),
        fixed(row.estimate, decimals),
        fixed(row.std_error, decimals),
        interval(row.conf_low, row.conf_high, decimals),
    )


# --- what a shrunken SD does ---------------------------------------------------------------


def shrinkage(material: Material) -> list[Block]:
    """Say what PQL's SD, where it is far below the likelihood's, does to an effect.

    Of the terms of highest order the one farthest from zero, in the likelihood's standard
    errors, is followed from one method to the other, conditional and averaged.
    """
    if material.likelihood is None:
        return []
    label, fit = material.likelihood
    pql = {k: f for k, f in material.mixed.items() if type(f.method).__name__ == "PQL"}
    blocks: list[Block] = []
    for name, other in pql.items():
        components = [c for c in material.sds() if _is_below(material, fit, other, c)]
        if components:
            words = _shrunken(material, label, fit, name, other, components[0])
            blocks.append(Paragraph(words, "note"))
            break  # a second working model says the same
    return blocks


def _is_below(material: Material, fit: Fit, other: Fit, component: Component) -> bool:
    estimate, low, _ = material.sd_estimate(fit, component)
    shrunk = material.sd_estimate(other, component)[0]
    return bool(shrunk < FAR_BELOW * estimate and shrunk < low)


def _shrunken(
    material: Material, label: str, fit: Fit, name: str, other: Fit, component: Component
) -> tuple[Inline, ...]:
    sds = [material.sd_estimate(f, component)[0] for f in (fit, other)]
    of = component.group + ("" if component.term == "Intercept" else f", {component.term}")
    said: list[Inline] = [
        material.key(name),
        f" puts the SD of {of} at {significant(sds[1])}, {percent(1 - sds[1] / sds[0])} below the "
        f"{significant(sds[0])} of ",
        material.key(label),
        ": its linearised response is poor where so few responses stand for a level.",
    ]
    term = _telling(fit)
    if term is None:
        return tuple(said)
    one, two = (tidy_fixed(f).loc[term] for f in (fit, other))
    said += [
        " Conditional coefficients shrink with it: ",
        Code(term),
        f" is {_shown(two)} instead of {_shown(one)}{_ratios(material, one, two)}, a factor of "
        f"{significant(two.estimate / one.estimate)}{_verdicts(one, two)}.",
    ]
    return (*said, *_averaged(material, label, name, term))


def _telling(fit: Fit) -> str | None:
    """Name the coefficient to follow."""
    terms = [t for t in fit.terms if t != "Intercept"]
    if not terms:
        return None
    order = max(t.count(":") for t in terms)
    z = (fit.fixef() / fit.se()).abs()
    return max((t for t in terms if t.count(":") == order), key=lambda t: z[t])


def _shown(row) -> str:
    decimals = decimals_for(row.std_error, row.estimate)
    limits = interval(row.conf_low, row.conf_high, decimals)
    return f"{fixed(row.estimate, decimals)} ({limits})"


def _ratios(material: Material, one, two) -> str:
    scale = scale_of(material.model)
    if scale.ratio is None:
        return ""
    values = [significant(float(np.exp(row.estimate)), 3) for row in (two, one)]
    return f" ({scale.ratio} {values[0]} instead of {values[1]})"


def _verdicts(one, two) -> str:
    clear = [row.conf_low > 0 or row.conf_high < 0 for row in (one, two)]
    if clear[0] == clear[1]:
        return f"; both intervals {'exclude' if clear[0] else 'include'} zero"
    return f"; its interval {'excludes' if clear[1] else 'includes'} zero, the other's does not"


def _averaged(material: Material, label: str, name: str, term: str) -> tuple[Inline, ...]:
    """Compare the same coefficient after averaging, where a smaller SD attenuates less."""
    of = {str(k): _pairs(rows) for k, rows in material.averages.groupby("label")}
    one, two = (of.get(f"{k}, averaged") for k in (label, name))
    if one is None or two is None:
        return ()
    ratio = significant(two[term][0] / one[term][0], 3)
    farthest = max(one, key=lambda t: abs(two[t][0] - one[t][0]) / one[t][1])
    return (
        " Averaged over the population, where a smaller SD attenuates less, it is "
        f"{_against(one[term], two[term])}, a factor of {ratio}; what differs most then is ",
        Code(farthest),
        f", {_against(one[farthest], two[farthest])}.",
    )


def _pairs(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Estimate and standard error by term."""
    columns = (rows["term"], rows["estimate"], rows["std_error"])
    return {str(t): (float(e), float(s)) for t, e, s in zip(*columns, strict=True)}


def _against(one: tuple[float, float], two: tuple[float, float]) -> str:
    decimals = decimals_for(one[1], one[0])
    return f"{fixed(two[0], decimals)} against {fixed(one[0], decimals)}"
