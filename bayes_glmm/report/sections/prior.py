"""What the priors say before the data: differences of groups, and responses they expect."""

import numpy as np

from ...priors.implied import APART, LATENT, RATIOS, high_to_low, intraclass
from ..document import Block, Heading, Paragraph, Picture, Subtitle, Table, Text
from ..figures.prior import Means, deviations, means
from ..material import Material, attempt
from ..numbers import count, percent, significant
from ..prior_plots import (
    PROBABILITIES,
    axis_label,
    axis_of,
    density_of,
    panels_of,
    per_unit,
    shared_deviations,
)
from ..scales import scale_of

PANELS = 4  # of a figure
LARGEST = 8.9e18  # near the most that NumPy's Poisson draws


def prior(material: Material) -> list[Block]:
    """Show what follows from the priors alone."""
    improper = [row for row in material.model.priors.assigned if not row.prior.proper]
    if improper:
        return [
            Paragraph(
                f"The prior {improper[0].prior.describe()} of {improper[0].parameter} is improper: "
                "it gives no range of values a probability, so it says nothing before the data.",
                "warning",
            )
        ]
    lead = (
        "A prior is best judged by what follows from it: how far groups would be apart, and which "
        "data it would expect. Nothing here has seen the responses, except where a default takes "
        "its scale from them; the observed values are marked to compare."
    )
    blocks: list[Block] = [Paragraph(lead)]
    if material.sds():
        blocks += attempt("densities of the SDs", lambda: _differences(material))
    return [*blocks, *attempt("prior predictive distribution", lambda: _predictive(material))]


# --- standard deviations --------------------------------------------------------------


def _differences(material: Material) -> list[Block]:
    """Draw each distinct prior of an SD, and tabulate the ratio and the ICC it implies."""
    shared = shared_deviations(material.model)
    shown = [density_of(material.model, one) for one in shared[:PANELS]]
    ratio = RATIOS.get(material.model.link.name)
    caption = (
        "Prior density of each standard deviation of group effects; the line is its median, the "
        "shaded part holds 90 %."
    )
    if ratio:
        caption += (
            f" Above: the {ratio} of a high to a low level, at the 97.5 % and the 2.5 % quantile "
            "of the levels."
        )
    if any(d.beyond >= 0.005 for d in shown):
        caption += " A number with an arrow is the share beyond the axis."
    if len(shared) > PANELS:
        caption += f" The first {PANELS} of {len(shared)} are drawn."
    medians = (f"{d.label}: median {significant(d.quantiles[1])}" for d in shown)
    alt = f"Prior density of {'; '.join(medians)}."
    image = deviations(shown, scale_of(material.model).axis)
    return [
        Subtitle("How far groups would be apart"),
        Picture("prior-sd", image, alt, caption),
        _implied(material, shared),
    ]


def _implied(material: Material, shared) -> Table:
    """Quantiles of each SD and what they mean: exact, as each is a function of the SD."""
    link = material.model.link.name
    rows: list = []
    for one in shared:
        term = one.term
        sd = np.array([float(one.prior.ppf(p)) for p in PROBABILITIES])
        rows += [Heading(one.label), ("SD", *map(significant, sd))]
        if link in RATIOS:
            name = f"{RATIOS[link]}, high to low level{per_unit(term)}"
            rows.append((name, *map(significant, high_to_low(sd, link))))
        else:
            rows.append((f"high minus low level{per_unit(term)}", *map(significant, APART * sd)))
        if link in LATENT and term == "Intercept":
            rows.append(("intraclass correlation", *map(significant, intraclass(sd, link))))
    caption = (
        "Quantiles of the priors of the SDs, and of what follows from them. A high and a low level "
        "are at the 97.5 % and the 2.5 % quantile of the levels, 3.92 SDs apart"
    )
    if link in LATENT:
        caption += "; the intraclass correlation is of latent variables, with this factor alone"
    return Table(("", "5 %", "50 %", "95 %"), rows, f"{caption}.", frozenset({1, 2, 3}))


# --- responses ------------------------------------------------------------------------


def _predictive(material: Material) -> list[Block]:
    """Draw means of responses under the prior, with those observed."""
    m = material.model
    tree = material.prior_predictive()
    drawn = np.asarray(tree["prior_predictive"]["y"])[0]
    whole = np.all(np.isfinite(drawn), axis=1)
    design = m.design.in_user_order()
    panels = panels_of(m, design, drawn[whole])
    scale, edges = axis_of(m, panels)
    pictures = [Means(label, d, o, edges) for label, d, o in panels]
    image = means(pictures[:PANELS], axis_label(m), scale)
    caption = (
        f"{count(int(whole.sum()), 'data set')} drawn from the priors for the rows of the data: "
        "the mean of all rows, and the means of single levels. Marks below are the observed values."
    )
    if scale == "log1p" and np.max(drawn[whole]) >= LARGEST:
        caption += " Counts are held at 9 × 10¹⁸, the most that can be drawn."
    outside = [float(np.mean((p.drawn < edges[0]) | (p.drawn > edges[-1]))) for p in pictures]
    if max(outside) >= 0.005:
        caption += (
            f" The axis leaves out {percent(outside[0])} of the means of all rows (shares at its "
            "ends with arrows)."
        )
    alt = f"Means under the prior: middle 90 % of the mean of all rows {_range(panels[0][1])}."
    blocks: list[Block] = [
        Subtitle("Which data the priors expect"),
        Picture("prior-predictive", image, alt, caption),
        _statistics(m, panels),
    ]
    if not np.all(whole):
        blocks.append(
            Paragraph(
                f"In {percent(1 - float(np.mean(whole)))} of the draws the linear predictor of "
                f"some row lies where the link {m.link.name} has no mean; they are left out.",
                "note",
            )
        )
    return blocks


def _statistics(m, panels) -> Table:
    """Quantiles of the means' level and spread under the prior, and where the data lie in them."""
    rows = [_row("mean of all rows", panels[0][1][:, 0], float(panels[0][2][0]))]
    for label, drawn, observed in panels[1:]:
        group = label.removeprefix("means of levels of ")
        rows.append(_row(f"SD of means of {group}", drawn.std(1), float(observed.std())))
        if np.isfinite(m.family.support.high) or m.family.has_trials:
            edge = [np.mean((v < 0.01) | (v > 0.99), axis=-1) for v in (drawn, observed)]
            name = f"levels of {group} below 1 % or above 99 %"
            rows.append(_row(name, edge[0], float(edge[1])))
    caption = (
        "Statistics of responses drawn from the priors, and of the data. The last column is the "
        "share of draws below the observed value, ties counted half: near 0 or 1 the data are not "
        "what the priors expect. A wide range is no fault by itself, but an absurd one is "
        "information that the priors leave out."
    )
    columns = ("statistic", "observed", "5 %", "50 %", "95 %", "share below")
    return Table(columns, rows, caption, frozenset({1, 2, 3, 4, 5}))


def _row(name: str, drawn: np.ndarray, observed: float) -> tuple[Text, ...]:
    below = float(np.mean(drawn < observed) + 0.5 * np.mean(drawn == observed))
    quantiles = np.quantile(drawn, PROBABILITIES)
    return (name, *map(significant, (observed, *quantiles)), f"{below:.2f}")


def _range(drawn: np.ndarray) -> str:
    low, high = np.quantile(drawn, [0.05, 0.95])
    return f"{significant(float(low))} to {significant(float(high))}"
