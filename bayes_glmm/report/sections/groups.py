"""Group effects: caterpillar plots of the posterior and of the conditional modes."""

import numpy as np

from ...fit import Fit
from ..document import Block, Fold, Paragraph, Picture, Table
from ..figures.caterpillar import NAMED, Effects, caterpillar
from ..material import Material, attempt
from ..numbers import decimals_for, fixed, interval
from ..scales import scale_of

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
    picture = Picture(
        f"effects-{group.group}-{column}",
        caterpillar(list(group.levels), effects, f"effect of {name}, {axis}"),
        _spoken(name, group.levels, effects[0]),
        _caption(name, group.n_levels, effects[0].label),
    )
    if group.n_levels <= NAMED:
        return [picture]
    return [picture, _extremes(name, group.levels, effects[0])]


def _effects(material: Material, label: str, fit: Fit, group: str, column: str) -> Effects:
    table = fit.tidy(("ran_vals",))
    table = table.loc[(table.group == group) & (table.term == column)]
    kind = "posterior means" if fit.draws is not None else "conditional modes"
    arrays = (table[c].to_numpy(float) for c in ("estimate", "conf_low", "conf_high"))
    return Effects(f"{label}: {kind}", material.style(label), *arrays)


def _lead(effects: list[tuple[str, Fit]]) -> Paragraph:
    """How to read the figures."""
    text = (
        "Each level's effect with its 95 % interval, sorted. Effects are drawn towards zero, the "
        "more so the less data a level has (shrinkage)."
    )
    if len(effects) > 1:
        text += (
            " Conditional modes take the SD as known, so that their intervals are a little short; "
            "posterior intervals allow for not knowing it."
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
