"""Integrated(): the posterior with the effects of one factor integrated out by quadrature.

What is left is sampled by importance proposals, or by NUTS where these do not cover the
posterior; the integrated effects are drawn from their conditional distribution afterwards.
Neither PyMC nor nutpie is imported unless NUTS is needed.
"""

import logging
from dataclasses import replace
from importlib.metadata import version
from time import perf_counter

import numpy as np
import pandas as pd
import xarray as xr

from ..fit import Fit, Seconds
from ..frequentist.likelihood import Likelihood, factors_of
from ..messages import Message, message
from ..methods import NotServedError
from ..numerics.bind import bind_numba
from ..numerics.groups import by_size
from ..numerics.marginal import MOST_DIMENSIONS
from ..numerics.optimise import Optimum, maximise
from ..numerics.threads import one_blas_thread
from ..propriety import require_posterior
from .density import IntegratedDensity
from .importance import Proposal
from .integrated_importance import PILOT, by_importance, covered
from .integrated_nodes import choose_nodes, first_nodes
from .sampled import Sampled
from .summary import summarise
from .tree import posterior_tree

log = logging.getLogger("bayes_glmm")

VERSIONS = ("bayes_glmm", "numba", "numpy", "scipy")


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
        As of ``NUTS``. ``details`` holds ``integrated`` (the factor), ``sampler``, ``khat``,
        ``importance_ess``, ``acceptance``, ``nodes`` and ``node_table``; the DataTree also
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
    if model.priors.joint is not None:
        return "a joint prior of coefficients and SDs, and takes independent ones"
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


# the draws


def find_mode(model, density: IntegratedDensity) -> tuple[Optimum, np.ndarray | None]:
    """Find the posterior mode of the coordinates and the inverse Hessian there."""
    start, inverse = density.coordinates.start(*Likelihood.of(model).start)
    return maximise(density, start, inverse)


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
    group = model.design.groups[density.largest].group
    details = {"integrated": group, "nodes": density.nodes, "node_table": pd.DataFrame(table)}
    if method.method != "nuts":
        found = by_importance(density, method, proposal, (pilot, pilot_density), rng)
        details |= found.details
        enough = covered(found.details["khat"])
        if method.method == "importance" or enough:
            if not enough:
                notes.append(message("importance-not-covered", khat=found.details["khat"]))
            return replace(found, details=details), notes
        log.info("Integrated: k-hat %.2f, going on by NUTS", found.details["khat"])
    from .integrated_nuts import by_nuts

    found = by_nuts(density, method, optimum.x, covariance, stream)
    return replace(found, details={**details, **found.details}), notes


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
    named[f"b_{block.group}"] = density.many().effects(*arguments, streams[0], concave)
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
