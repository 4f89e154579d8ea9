"""Group effects: caterpillar plots of the posterior and of the conditional modes."""

import numpy as np
import pandas as pd
from scipy.special import ndtri

from ...fit import Fit
from ...methods import NotServedError
from ..document import Block, Fold, Paragraph, Picture, Table
from ..figures.caterpillar import NAMED, Effects, caterpillar
from ..material import Material, attempt
from ..numbers import decimals_for, fixed, interval
from ..scales import scale_of

TOP = 3  # size of the top that probabilities are given for, with twice as many levels or more
RANKED = 10  # levels shown in a ranking
EXTREMES = 5  # levels listed at either end where names are left out of the figure


def groups(material: Material) -> list[Block]:
    """One figure per grouping factor and column."""
    sources = _sources(material)
    if not sources:
        return [Paragraph("No method with group effects gave a fit.")]
    blocks: list[Block] = [_lead(sources)]
    for group in material.model.design.groups:
        for column in group.columns:
            what = f"effects of {group.group}"
            blocks += attempt(what, lambda g=group, c=column: _one(material, sources, g, c))
    return blocks


def _sources(material: Material) -> list[tuple[str, Fit]]:
    """Find the posterior, and the conditional modes by the likelihood (else by any method)."""
    having = [(k, f) for k, f in material.mixed.items() if f.effects]
    posterior = [pair for pair in having if pair == material.posterior]
    modes = [pair for pair in having if pair == material.likelihood]
    modes = modes or [pair for pair in having if pair[1].draws is None][:1]
    return posterior + modes


def _one(material: Material, sources: list[tuple[str, Fit]], group, column: str) -> list[Block]:
    effects = [_effects(material, label, fit, group.group, column) for label, fit in sources]
    axis = scale_of(material.model).axis
    name = group.group if column == "Intercept" else f"{group.group} ({column})"
    if not any(np.any(e.estimate) for e in effects):  # nothing to draw or to rank
        text = f"The SD of {name} is estimated as zero, and so is the effect of every level."
        return [Paragraph(text)]
    picture = Picture(
        f"effects-{group.group}-{column}",
        caterpillar(list(group.levels), effects, f"effect of {name}, {axis}"),
        _spoken(name, group.levels, effects[0]),
        _caption(name, group.n_levels, effects[0].label),
    )
    blocks: list[Block] = [picture]
    if group.n_levels > NAMED:
        blocks.append(_extremes(name, group.levels, effects[0]))
    if group.n_levels > 2:
        what = f"ranks of {name}"
        blocks += attempt(what, lambda: [_ranking(material, sources, group, column, name)])
    return blocks


def _ranking(material: Material, sources, group, column: str, name: str) -> Table:
    """Give the levels most likely to be highest, by the first source's expected ranks."""
    top = TOP if group.n_levels >= 2 * TOP else 1
    ranked = {label: material.ranking(label, group.group, column, top) for label, _ in sources}
    for label, table in ranked.items():
        part = f"{label} {group.group} {column}"
        material.keep("ranking.csv", part, table.assign(top=top, method=label))
    tables = {label: table.set_index("level") for label, table in ranked.items()}
    first = sources[0][0]
    rows = [_ranked(level, first, tables) for level in tables[first].index[:RANKED]]
    several = f"the {top} highest" if top > 1 else "the highest"
    effects = [f"{_predicted(fit)}, {label}" for label, fit in sources]
    ranks = [f"expected rank, {label}" for label in tables]
    chance = [f"P({'top ' + str(top) if top > 1 else 'top'}), {label}" for label in tables]
    caption = (
        f"Who is highest among the {group.n_levels} levels of {name}? In the order of the expected "
        f"ranks by {first}, whose 95 % interval of the rank is last; with the probability of being "
        f"{'among ' if top > 1 else ''}{several}"
        ". Wide rank intervals mean that the order of the estimates is largely chance"
    )
    if len(tables[first]) > RANKED:
        caption += f"; the first {RANKED} are shown, all are in ranking.csv"
    columns = ("level", *effects, *ranks, *chance, f"95 % interval of rank, {first}")
    return Table(columns, rows, f"{caption}.", frozenset(range(1, len(columns))))


def _ranked(level: str, first: str, tables) -> tuple[str, ...]:
    row = tables[first].loc[level]
    return (
        str(level),
        *(fixed(t.estimate[level], decimals_for(row.sd)) for t in tables.values()),
        *(fixed(t.expected_rank[level], 1) for t in tables.values()),
        *(_chance(table.p_top[level]) for table in tables.values()),
        f"{row.rank_low:.0f} to {row.rank_high:.0f}",
    )


def _predicted(fit: Fit) -> str:
    """Name what stands for a level's effect."""
    if fit.draws is not None:
        return "posterior mean"
    return "BLUP" if fit.model.is_linear else "effect"


def _chance(p: float) -> str:
    return "< 0.01" if 0 < p < 0.005 else fixed(p, 2)


def _effects(material: Material, label: str, fit: Fit, group: str, column: str) -> Effects:
    table = _with_limits(fit)
    table = table.loc[(table.group == group) & (table.term == column)]
    kind = "posterior means" if fit.draws is not None else "conditional modes"
    arrays = (table[c].to_numpy(float) for c in ("estimate", "conf_low", "conf_high"))
    return Effects(f"{label}: {kind}", material.style(label), *arrays)


def _with_limits(fit: Fit) -> pd.DataFrame:
    """Effects with 95 % limits, the error corrected for estimated parameters where it is had."""
    if fit.draws is not None:
        return fit.tidy(("ran_vals",))
    try:
        table = fit.ranef("mode", "corrected")
    except NotServedError:
        table = fit.ranef()
    half = ndtri(0.975) * table["sd"]
    return table.assign(conf_low=table["estimate"] - half, conf_high=table["estimate"] + half)


def _lead(effects: list[tuple[str, Fit]]) -> Paragraph:
    """How to read the figures."""
    text = (
        "Each level's effect with its 95 % interval, sorted. Effects are drawn towards zero, the "
        "more so the less data a level has (shrinkage)."
    )
    if len(effects) > 1:
        text += (
            " Conditional modes have the error of their prediction corrected for estimated "
            "parameters (Booth & Hobert 1998) where the method is a likelihood one; posterior "
            "intervals allow for not knowing the parameters anyway."
        )
    return Paragraph(text)


def _caption(name: str, levels: int, first: str) -> str:
    text = f"Effects of the {levels} levels of {name}, sorted by {first}"
    if levels > NAMED:
        text += "; names are left out, dots are the estimates, intervals that exclude zero are dark"
    return f"{text}."


def _extreme_order(one: Effects) -> list[int]:
    order = np.argsort(one.estimate, kind="stable").tolist()
    return order[:EXTREMES] + order[-EXTREMES:]


def _extremes(name: str, levels, one: Effects) -> Fold:
    rows = []
    for i in _extreme_order(one):
        low, high = float(one.low[i]), float(one.high[i])
        decimals = decimals_for((high - low) / 4)
        estimate = fixed(float(one.estimate[i]), decimals)
        rows.append((str(levels[i]), estimate, interval(low, high, decimals)))
    caption = f"The {EXTREMES} lowest and the {EXTREMES} highest levels of {name} ({one.label})."
    table = Table(("level", "effect", "95 % interval"), rows, caption, frozenset({1, 2}))
    return Fold(f"Lowest and highest levels of {name}", [table])


def _spoken(name: str, levels, one: Effects) -> str:
    low, high = np.argmin(one.estimate), np.argmax(one.estimate)
    ends = [f"{levels[i]} ({fixed(one.estimate[i], 2)})" for i in (low, high)]
    return f"Caterpillar plot of the effects of {name}: lowest {ends[0]}, highest {ends[1]}."
