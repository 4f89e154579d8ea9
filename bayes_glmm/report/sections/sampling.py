"""Whether the samplers worked: R-hat, effective sample sizes, rank plots, their agreement."""

import numpy as np

from ...agreement import LIMIT, agreement, worst
from ...datatree import draws_of
from ...fit import Fit
from ..document import Block, Code, Paragraph, Picture, Subtitle, Table, Text
from ..figures.ranks import ranks
from ..material import Material, attempt
from ..numbers import count, decimals_for, fixed, percent, significant

PANELS = 12  # of the rank plot


def sampling(material: Material) -> list[Block]:
    """R-hat and effective sample sizes, and rank plots."""
    if material.posterior is None:
        return [Paragraph("No method drew samples.")]
    label, fit = material.posterior
    blocks = attempt("agreement of the samplers", lambda: _agreement(material))
    for each, sampled in material.posteriors.items():
        if "khat" in sampled.details or "node_table" in sampled.details:
            blocks += attempt(f"how {each} sampled", lambda m=each: _integrated(material, m))
    return [
        *attempt("sampler diagnostics", lambda: _diagnostics(label, fit)),
        *attempt("rank plots", lambda: [_ranks(fit)]),
        *blocks,
    ]


def _diagnostics(label: str, fit: Fit) -> list[Block]:
    if fit.diagnostics is None:
        return [Paragraph(f"{label} has no diagnostics.", "warning")]
    named = zip(fit.parameter_names, fit.tidy().itertuples(), strict=True)
    rows = [_diagnosed(name, row) for name, row in named]
    rows += _worst(fit)
    tree = fit.draws["posterior"]
    size = f"{tree.sizes['chain']} chains of {tree.sizes['draw']} draws"
    divergences = count(int(fit.details.get("divergences") or 0), "divergence")
    caption = (
        f"{label}: {size}, {divergences}. R-hat compares chains and should be at most 1.01; ESS "
        "is the number of independent draws that would be as precise, for the centre (bulk) and "
        "the interval ends (tail), 400 or more are wanted; MCSE is the Monte Carlo error of the "
        "posterior mean."
    )
    columns = ("parameter", "posterior mean", "MCSE", "R-hat", "ESS bulk", "ESS tail")
    return [Table(columns, rows, caption, frozenset(range(1, 6)))]


def _diagnosed(name: str, row) -> tuple[Text, ...]:
    error = row.std_error / np.sqrt(row.ess_bulk) if row.ess_bulk > 0 else np.nan
    return (
        Code(name),
        fixed(row.estimate, decimals_for(error, row.estimate)),
        significant(error),
        fixed(row.rhat, 3),
        fixed(row.ess_bulk, 0),
        fixed(row.ess_tail, 0),
    )


def _worst(fit: Fit) -> list[tuple[Text, ...]]:
    """One row for all effects of each factor: their worst values."""
    if fit.diagnostics is None:
        return []
    diagnostics = fit.diagnostics.reset_index()
    rows = []
    for group, part in diagnostics[diagnostics.effect == "ran_vals"].groupby("group", sort=False):
        rows.append(
            (
                f"worst of {len(part)} effects of {group}",
                "",
                "",
                fixed(part.rhat.max(), 3),
                fixed(part.ess_bulk.min(), 0),
                fixed(part.ess_tail.min(), 0),
            )
        )
    return rows


def _agreement(material: Material) -> list[Block]:
    """Set the posteriors of one model beside each other, in Monte Carlo standard errors."""
    table = agreement(material.posteriors)
    if table.empty:
        return []
    blocks: list[Block] = [Subtitle("Do the samplers agree?")]
    for pair in worst(table):
        blocks.append(Paragraph(f"{pair}.", "plain" if pair.agree else "warning"))
    columns = ("parameter", "first", "second", "difference", "MCSE", "in MCSE", "SD ratio")
    rows = [
        (
            Code(row["parameter"]),
            material.key(row["label"]),
            material.key(row["other"]),
            significant(row["difference"], 2),
            significant(row["mcse"], 2),
            fixed(row["z"], 1),
            fixed(row["sd_ratio"], 3),
        )
        for row in table.to_dict("records")
    ]
    caption = (
        "Posterior means of the first sampler minus those of the second. Both sample one "
        "posterior, so that the differences, divided by their Monte Carlo standard errors (MCSE), "
        f"should look like standard normal numbers: beyond {LIMIT:g} one of the two is wrong."
    )
    return [*blocks, Table(columns, rows, caption, frozenset({3, 4, 5, 6}))]


def _integrated(material: Material, label: str) -> list[Block]:
    """How an integrated posterior was made: nodes, proposals, k-hat."""
    details = material.posteriors[label].details
    said = f" integrated {details['integrated']} out of the model by quadrature with "
    said += f"{count(int(details['nodes']), 'node')} per effect"
    if details["sampler"] == "importance":
        said += (
            f", and walked over {count(int(details['proposals']), 'independent proposal')} "
            f"({percent(details['acceptance'])} accepted). The Pareto k-hat of their importance "
            f"ratios is {fixed(details['khat'], 2)}: up to 0.7 they can be relied on."
        )
    else:
        said += ", and sampled what is left by NUTS."
    blocks: list[Block] = [Subtitle(f"How {label} sampled"), Paragraph((material.key(label), said))]
    table = details["node_table"]
    if len(table) < 2 and table["nodes"].iloc[0] == table["more"].iloc[0]:
        return blocks
    rows = [(f"{r.nodes} to {r.more}", significant(r.change, 2)) for r in table.itertuples()]
    caption = (
        "What more nodes per effect change: the standard deviation, over draws from the posterior, "
        "of the change of the log posterior density. Posterior means move by about as much, in "
        "posterior SDs."
    )
    return [*blocks, Table(("nodes", "change"), rows, caption, frozenset({1}))]


def _ranks(fit: Fit) -> Picture:
    draws = draws_of(fit)
    names = list(draws)
    if len(names) > PANELS and fit.diagnostics is not None:
        rhat = fit.tidy()["rhat"].to_numpy()
        names = [names[i] for i in sorted(np.argsort(-rhat, kind="stable")[:PANELS])]
    image = ranks({name: draws[name] for name in names})
    some = f" The {PANELS} parameters with the largest R-hat." if len(draws) > len(names) else ""
    caption = (
        "Rank plots: how the draws of each chain (one line each) rank among all draws. Chains "
        "that explore the same posterior give flat lines, nearly all inside the grey band; a "
        f"slope or a peak is a chain that stayed elsewhere.{some}"
    )
    return Picture("ranks", image, f"Rank histograms of {len(names)} parameters by chain.", caption)
