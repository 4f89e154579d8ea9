"""Integrated(): the posterior with the effects of one factor integrated out by quadrature.

What is left is sampled by importance proposals, or by NUTS where these do not cover the
posterior; the integrated effects are drawn from their conditional distribution afterwards.
Neither PyMC nor nutpie is imported unless NUTS is needed.
"""

import logging
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from time import perf_counter
from typing import cast

import numpy as np
import pandas as pd
import xarray as xr

from ..fit import Fit, Seconds
from ..frequentist.likelihood import Likelihood, factors_of
from ..messages import Message, message
from ..methods import NotServedError
from ..numerics.bind import bind_numba
from ..numerics.convergence import pareto_k
from ..numerics.groups import by_size
from ..numerics.marginal import MOST_DIMENSIONS
from ..numerics.optimise import Optimum, maximise
from ..numerics.threads import one_blas_thread
from ..propriety import require_posterior
from .density import IntegratedDensity
from .importance import Proposal, effective_weights, metropolis, refitted, resample
from .summary import summarise
from .tree import posterior_tree

log = logging.getLogger("bayes_glmm")

LADDER = {1: (7, 15, 31, 63, 127, 201), 2: (5, 9, 17, 33), 3: (5, 9, 15)}
PILOT = 400  # proposals the nodes are chosen with
CHECKED = 20  # draws at which the nodes are checked
# SD, over these draws, of the change of the log density by more nodes: posterior means move
# by about as much, in posterior SDs
SPREAD = 0.01
THINNED = 3  # most proposals for a kept draw: the chain's autocorrelation is then small
DENSITIES = 5e8  # rows times nodes that proposals beyond the first for each draw may cost
REFITS = 2  # of the proposal to its weighted draws
COVERED = 0.5  # k-hat up to which importance ratios have a finite variance
VERSIONS = ("bayes_glmm", "numba", "numpy", "scipy")


@dataclass(frozen=True, eq=False)
class Sampled:
    """Draws of the coordinates and how they were made.

    Attributes
    ----------
    xi
        ``(chains, draws, size)``.
    by_group
        Integrated log-likelihood without constants, ``(chains, draws, levels)``.
    statistics
        Of the sampler, by chain and draw.
    details
        For ``Fit.details``.
    proposals
        All importance proposals and their log ratios.
    """

    xi: np.ndarray
    by_group: np.ndarray
    statistics: dict[str, np.ndarray]
    details: dict
    proposals: tuple[np.ndarray, np.ndarray] | None = None


def fit(model, method) -> Fit:
    """Sample the posterior.

    Parameters
    ----------
    model
        The GLMM.
    method
        An ``Integrated``.

    Returns
    -------
    Fit
        As of ``NUTS``. ``details`` holds ``sampler``, ``khat``, ``importance_ess``,
        ``acceptance``, ``nodes`` and ``node_table``; the DataTree also the group
        ``log_likelihood_by_group``: the log-likelihood of each level's rows together with its
        effects integrated out, for leave-one-group-out. ``converged`` also says that the
        nodes settled and the proposals covered the posterior.

    Raises
    ------
    NotServedError
        If there is nothing to integrate, or more than quadrature can; the message names NUTS.
    ImproperPosteriorError
        If improper priors were allowed, and the posterior does not exist or may not.
    """
    check(model)
    doubts = require_posterior(model)
    started = perf_counter()
    compile_kernels(model)
    compiled = perf_counter()
    streams = method.stream(method.seed).spawn(3)
    with one_blas_thread():
        density = IntegratedDensity(model, first_nodes(model))
        mode = find_mode(model, density)
        set_up = perf_counter()
        sampled, notes = sample(model, method, density, mode, streams[0])
        tree = tree_of(model, method, density, sampled, streams[1:])
    found = summarise(model, method, tree)
    seconds = Seconds(set_up - compiled, compiled - started, perf_counter() - set_up)
    return replace(
        found,
        seconds=seconds,
        converged=found.converged and not notes,
        messages=(*doubts, *notes, *found.messages),
        details={**found.details, **sampled.details},
    )


def check(model) -> None:
    """Refuse what is not served, naming what is."""
    reason = refusal(model)
    if reason:
        raise NotServedError(f"Integrated() got {reason}: use NUTS().")


def refusal(model) -> str:
    """Say why a model is not served; empty where it is."""
    groups = model.design.groups
    if not groups:
        return "a model without random effects, so that there is nothing to integrate"
    if not model.design.p:
        return "a model without a coefficient"
    if len(groups) > 1:
        names = ", ".join(g.group for g in groups)
        return f"{len(groups)} grouping factors ({names}), and integrates those of one"
    if any(matrix is not None for matrix in model.priors.covariance.values()):
        return "a prior of a whole covariance matrix, and takes those of SDs and correlations"
    largest = by_size(factors_of(model))[0]
    if largest.q > MOST_DIMENSIONS:
        return f"{largest.q} effects per level, and quadrature is offered up to {MOST_DIMENSIONS}"
    return ""


def compile_kernels(model) -> None:
    """Compile the family and the kernels, or load them from disk."""
    bind_numba(model.family, model.link)
    if by_size(factors_of(model))[0].q == 1:
        from ..numerics.draws_scalar import draw_scalar_effects, integrate_scalar_draws
        from ..numerics.scalar_integral import integrate_scalar

        kernels = (integrate_scalar, integrate_scalar_draws, draw_scalar_effects)
    else:
        from ..numerics.draws_vector import draw_vector_effects, integrate_vector_draws
        from ..numerics.vector_integral import integrate_vector

        kernels = (integrate_vector, integrate_vector_draws, draw_vector_effects)
    for kernel in kernels:
        _ = kernel.compiled


# the mode


def first_nodes(model) -> int:
    """Nodes the search for the mode starts with; one where the integrand is gaussian."""
    if model.family.name == "gaussian" and model.link.name == "identity":
        return 1
    return LADDER[by_size(factors_of(model))[0].q][0]


def find_mode(model, density: IntegratedDensity) -> tuple[Optimum, np.ndarray | None]:
    """Find the posterior mode of the coordinates and the inverse Hessian there."""
    start, inverse = density.coordinates.start(*Likelihood.of(model).start)
    return maximise(density, start, inverse)


# the draws


def sample(model, method, density, mode, stream) -> tuple[Sampled, list[Message]]:
    """Sample the coordinates."""
    optimum, covariance = mode
    if covariance is None:
        raise NotServedError(
            "Integrated() found no posterior mode with a negative definite Hessian "
            f"({optimum.reason}): use NUTS()."
        )
    rng = np.random.default_rng(stream)
    density(optimum.x)  # its modes are the starts from here on
    proposal = Proposal(optimum.x, covariance)
    pilot, pilot_density = proposal.draw(rng, PILOT)
    table, settled = choose_nodes(density, pilot, pilot_density, rng)
    notes = [] if settled else [message("integral-unsettled", **table[-1])]
    if len(table) > 1:
        optimum, better = maximise(density, optimum.x, covariance)
        covariance = covariance if better is None else better
        proposal = Proposal(optimum.x, covariance)
        pilot, pilot_density = proposal.draw(rng, PILOT)
    details = {"nodes": density.nodes, "node_table": pd.DataFrame(table)}
    if method.method != "nuts":
        found = by_importance(density, method, proposal, (pilot, pilot_density), rng)
        details |= found.details
        if method.method == "importance" or found.details["khat"] <= COVERED:
            if not found.details["khat"] <= COVERED:
                notes.append(message("importance-not-covered", khat=found.details["khat"]))
            return replace(found, details=details), notes
        log.info("Integrated: k-hat %.2f, going on by NUTS", found.details["khat"])
    from .integrated_nuts import by_nuts

    found = by_nuts(density, method, optimum.x, covariance, stream)
    return replace(found, details={**details, **found.details}), notes


def log_density(density, xi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log posterior at many points, ``(draws,)``, and ``log L_g``, ``(draws, levels)``."""
    arguments = density.arguments(xi)
    with np.errstate(all="ignore"):
        by_group = density.many().by_group(*arguments)
        total = by_group.sum(axis=1) + density.log_scales(arguments[2]) + density.constant
        total = total + density.coordinates.log_prior(xi)
    return np.where(np.isfinite(total), total, -np.inf), by_group


def choose_nodes(density, pilot, pilot_density, rng) -> tuple[list[dict], bool]:
    """Raise the nodes until more of them change the log density alike at posterior draws.

    Returns
    -------
    table, settled
        Rows ``nodes, more, change``: ``change`` is the SD, over ``CHECKED`` draws, of the
        difference between the log densities with ``more`` and with ``nodes`` nodes.
    """
    if density.nodes == 1:
        return [{"nodes": 1, "more": 1, "change": 0.0}], True
    table: list[dict] = []
    ladder = LADDER[density.factors[density.largest].q]
    ratio = log_density(density, pilot)[0] - pilot_density
    points = pilot[resample(ratio, rng, CHECKED)]
    value = log_density(density, points)[0]
    for nodes, more in pairwise(ladder):
        density.use_nodes(more)
        finer = log_density(density, points)[0]
        change = float(np.std(finer - value))
        table.append({"nodes": nodes, "more": more, "change": change})
        if change <= SPREAD:
            density.use_nodes(nodes)
            return table, True
        value = finer
    return table, False


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
        if found.details["khat"] <= COVERED:
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


# what a Fit holds


def tree_of(model, method, density, sampled: Sampled, streams) -> xr.DataTree:
    """Draw the effects, and gather everything under the contract's names."""
    shape = sampled.xi.shape[:2]
    xi = sampled.xi.reshape(-1, density.size)
    c = density.coordinates
    named = c.named(xi)
    arguments = density.arguments(xi)
    by_group = sampled.by_group.reshape(len(xi), -1)
    concave = density.concave(arguments[2])
    block = model.design.groups[density.largest]
    named[f"b_{block.group}"] = density.many().effects(*arguments, by_group, streams[0], concave)
    draws = {name: x.reshape(*shape, *x.shape[1:]) for name, x in named.items()}
    attributes = {k: v for k, v in sampled.details.items() if np.isscalar(v)}
    statistics = xr.Dataset(
        {k: (("chain", "draw"), v) for k, v in sampled.statistics.items()}, attrs=attributes
    )
    tree = posterior_tree(model, draws, statistics, np.random.default_rng(streams[1]))
    integrated = by_group + density.log_constants(arguments[2])
    tree["log_likelihood_by_group"] = xr.Dataset(
        {"y": (("chain", "draw", block.group), integrated.reshape(*shape, -1))},
        coords={block.group: list(block.levels)},
    )
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    tree.attrs.update(kind="posterior", method=repr(method), seed=method.seed, versions=versions)
    return tree
