"""Whether the sampler worked: R-hat, effective sample sizes, rank plots."""

import numpy as np

from ...fit import Fit
from ..document import Block, Code, Paragraph, Picture, Table, Text
from ..figures.ranks import ranks
from ..material import Material, attempt, draws_of
from ..numbers import count, decimals_for, fixed, significant

PANELS = 12  # of the rank plot


def sampling(material: Material) -> list[Block]:
    """R-hat and effective sample sizes, and rank plots."""
    if material.posterior is None:
        return [Paragraph("No method drew samples.")]
    label, fit = material.posterior
    return [
        *attempt("sampler diagnostics", lambda: _diagnostics(label, fit)),
        *attempt("rank plots", lambda: [_ranks(fit)]),
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
