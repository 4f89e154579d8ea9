"""An integrated density sampled by an independence Metropolis chain over importance proposals."""

from typing import cast

import numpy as np

from ..numerics.convergence import pareto_k
from .density import log_density
from .importance import Proposal, effective_weights, metropolis, refitted, resample
from .sampled import Sampled

PILOT = 400  # proposals that the nodes are chosen with, and chains start from
THINNED = 3  # most proposals for a kept draw: the chain's autocorrelation is then small
DENSITIES = 5e8  # rows times nodes that proposals beyond the first for each draw may cost
REFITS = 2  # of the proposal to its weighted draws
COVERED = 0.5  # k-hat up to which importance ratios have a finite variance


def covered(khat: float) -> bool:
    """Tell whether the proposals covered the posterior."""
    return khat <= COVERED


def proposals_per_draw(density, method) -> int:
    """Give how many proposals each kept draw may cost."""
    effects = density.factors[density.largest].q
    cost = method.chains * method.draws * len(density.rows.y) * (density.nodes**effects + 5)
    return int(np.clip(DENSITIES / cost, 1, THINNED))


def by_importance(density, method, proposal: Proposal, pilot, rng) -> Sampled:
    """Sample by an independence Metropolis chain over proposals.

    Where k-hat is too large the proposal is fitted to the weighted draws, and the chain is
    run anew: the posterior of a standard deviation may be far from normal at its mode.
    """
    found = one_round(density, method, proposal, pilot, rng)
    for refits in range(1, REFITS + 1):
        if covered(found.details["khat"]):
            break
        better = refitted(*cast("tuple", found.proposals))
        found = one_round(density, method, better, better.draw(rng, PILOT), rng)
        found.details["refits"] = refits
    return found


def one_round(density, method, proposal: Proposal, pilot, rng) -> Sampled:
    """Draw proposals once, and walk over them."""
    thin = proposals_per_draw(density, method)
    shape = method.chains, method.draws * thin
    starts, starts_density = pilot
    xi, proposed = proposal.draw(rng, shape[0] * shape[1])
    value, by_group = log_density(density, xi)
    ratio = value - proposed
    value_before, by_group_before = log_density(density, starts)
    before = value_before - starts_density
    khat = pareto_k(ratio)
    chosen = resample(before, rng, shape[0])
    position, moved = metropolis(ratio.reshape(shape), before[chosen], rng)
    acceptance = float(moved.mean())
    position = position[:, thin - 1 :: thin]
    rows = np.where(position < 0, 0, position + np.arange(shape[0])[:, None] * shape[1])
    at_start = position < 0
    origin = np.broadcast_to(chosen[:, None], position.shape)[at_start]

    def kept(array, first):
        out = array[rows]
        out[at_start] = first[origin]
        return out

    return Sampled(
        xi=kept(xi, starts),
        by_group=kept(by_group, by_group_before),
        statistics={
            "logp": kept(value, value_before),
            "log_weight": kept(ratio, before),
        },
        details={
            "sampler": "importance",
            "khat": khat,
            "proposals": len(xi),
            "importance_ess": effective_weights(ratio),
            "acceptance": acceptance,
            "refits": 0,
        },
        proposals=(xi, ratio),
    )
