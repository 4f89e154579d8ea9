"""An integrated density sampled by an independence Metropolis chain over importance proposals."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np

from ..numerics.convergence import pareto_k
from .importance import WIDE, Proposal, effective_weights, level_of, metropolis, refitted
from .integrated_nodes import raise_nodes
from .interpolation import Exact
from .sampled import Sampled
from .tree import thinning

PILOT = 400  # proposals that the level is chosen with
# proposals for a draw: with more of them fewer draws repeat the one before. Measured on five
# data sets, the effective size of 1,000 draws is about 550, 850 and 900 with 1, 1.5 and 2
FEWEST, MOST = 1.25, 3.0
DENSITIES = 3e8  # rows times nodes that all proposals may cost before they become fewer
BLOCK = 20_000_000  # values of log L_g held for proposals of which some are not kept
WIDE_DRAWS = 1500  # and one fiftieth of it more for each unknown, to learn the shape from
REFITS = 2  # of the proposal to its weighted draws
FINITE = 0.5  # k-hat up to which importance ratios have a finite variance: no refit
# up to here, with thousands of proposals, sums of them can be relied on (Vehtari, Simpson,
# Gelman, Yao & Gabry 2024, section 3.2.4)
COVERED = 0.7


def covered(khat: float) -> bool:
    """Tell whether the proposals covered the posterior."""
    return khat <= COVERED


def proposals_per_draw(target, method) -> float:
    """Give how many proposals each draw may cost."""
    density = target.density
    effects = density.factors[density.largest].q
    rows = len(density.alike.rows.y)
    cost = method.chains * method.draws * rows * (density.nodes**effects + 5) * target.cost
    return float(np.clip(DENSITIES / cost, FEWEST, MOST))


def wide_draws(size: int) -> int:
    """Count the wide proposals for ``size`` unknowns."""
    return WIDE_DRAWS + WIDE_DRAWS // 50 * size


def by_importance(make_target: Callable, method, proposal: Proposal, rng) -> Sampled:
    """Sample by an independence Metropolis chain over proposals.

    The posterior of a standard deviation may be far from normal at its mode, with a long tail
    that draws around the mode do not reach, so that neither their k-hat tells: wide proposals
    come first, and the ones used are fitted to them. Where k-hat is still too large they are
    fitted again, to all draws, and the chain is run anew. The nodes are raised where they are
    too few at wide proposals.

    Parameters
    ----------
    make_target
        Gives the log posterior (``interpolation.quickest``) with the density's present nodes.
    method
        An ``Integrated``.
    proposal
        At the mode.
    rng
        Generator.
    """
    wide = replace(proposal, df=WIDE)
    xi, proposed = wide.draw(rng, wide_draws(len(proposal.centre)))
    target, log_ratio, checks = raise_nodes(make_target, xi, proposed, rng)
    proposal = refitted(xi, log_ratio, proposal)
    found = best = one_round(target, method, proposal, rng)
    for refits in range(1, REFITS + 1):
        if best.details["khat"] <= FINITE:
            break
        tried, ratios = cast("tuple", found.proposals)
        proposal = refitted(tried, ratios, proposal)
        found = one_round(target, method, proposal, rng)
        found.details["refits"] = refits
        best = min(best, found, key=lambda r: r.details["khat"])
    return replace(best, node_checks=checks)


def one_round(target, method, proposal: Proposal, rng) -> Sampled:
    """Draw candidates from the proposal, and walk over them.

    Proposals of a small importance ratio are thinned out beforehand (``importance``), so that
    the chain seldom stays.
    """
    shape = method.chains, method.draws
    pilot, pilot_density = proposal.draw(rng, PILOT)
    before = target(pilot)[0] - pilot_density
    level = level_of(before, proposals_per_draw(target, method))
    xi, value, ratio, by_group, tried = candidates(
        target, proposal, level, shape[0] * shape[1], rng
    )
    position, moved = metropolis(np.maximum(ratio, level).reshape(shape), rng)
    rows = position + np.arange(shape[0])[:, None] * shape[1]
    levels = target.density.factors[target.density.largest].levels
    held = rows[:, :: thinning(rows.size, levels)]
    kept = target.by_group(xi[held.ravel()]) if by_group is None else by_group[held.ravel()]
    return Sampled(
        xi=xi[rows],
        by_group=kept.reshape(*held.shape, levels),
        statistics={"logp": value[rows], "log_weight": ratio[rows]},
        details={
            "sampler": "importance",
            "khat": pareto_k(tried[1]),
            "proposals": len(tried[1]),
            "importance_ess": effective_weights(tried[1]),
            "acceptance": float(moved.mean()),
            "refits": 0,
            **target.details,
        },
        proposals=tried,
    )


def candidates(target, proposal: Proposal, level: float, size: int, rng) -> tuple:
    """Draw proposals until ``size`` of them are kept, each with probability ``min(1, r / level)``.

    Returns
    -------
    xi, value, log_ratio, by_group
        Of those kept; the last None where the target does not have it at hand.
    tried
        All proposals and their log ratios.
    """
    density = target.density
    levels = density.factors[density.largest].levels
    points, values, ratios = np.empty((size, density.size)), np.empty(size), np.empty(size)
    by_group = np.empty((size, levels)) if isinstance(target, Exact) else None
    tried_points, tried_ratios, have = [], [], 0
    step = size if by_group is None else min(size, max(BLOCK // levels, 1))
    while have < size:
        xi, proposed = proposal.draw(rng, step)
        value, groups = target(xi)
        ratio = value - proposed
        tried_points.append(xi)
        tried_ratios.append(ratio)
        kept = np.flatnonzero(np.log(rng.random(step)) <= ratio - level)[: size - have]
        at = slice(have, have + len(kept))
        points[at], values[at], ratios[at] = xi[kept], value[kept], ratio[kept]
        if by_group is not None and groups is not None:
            by_group[at] = groups[kept]
        have += len(kept)
        step = min(step, int(1.1 * (size - have) * sum(map(len, tried_ratios)) / max(have, 1)) + 50)
    return points, values, ratios, by_group, (
        np.concatenate(tried_points), np.concatenate(tried_ratios),
    )  # fmt: skip
