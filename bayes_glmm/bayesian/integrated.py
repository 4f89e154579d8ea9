"""Integrated(): the posterior with the effects of one factor integrated out by quadrature.

What is left is sampled by importance proposals, or by NUTS where these do not cover the
posterior or other factors' effects are left; the integrated effects are drawn from their
conditional distribution afterwards.
Neither PyMC nor nutpie is imported unless NUTS is needed.
"""

import logging
from dataclasses import replace
from time import perf_counter

import numpy as np
import pandas as pd
import xarray as xr

from ..fit import Fit, Seconds
from ..frequentist.likelihood import Likelihood, factors_of
from ..messages import Message, message
from ..methods import NotServedError
from ..numerics.beside import compiled_beside
from ..numerics.bind import bind_numba
from ..numerics.groups import by_size
from ..numerics.marginal import MOST_DIMENSIONS
from ..numerics.optimise import maximise
from ..numerics.schur import LARGEST
from ..numerics.threads import one_blas_thread
from ..propriety import require_posterior
from .density import IntegratedDensity, log_density
from .importance import Proposal, without_replacement
from .integrated_importance import MOST, by_importance, covered, wide_draws
from .integrated_nodes import (
    CHECKED,
    STILL_ENOUGH,
    at_draws,
    change_between,
    check_nodes,
    choose_nodes,
    first_nodes,
    more_nodes,
)
from .interpolation import Exact, quickest
from .joint import others_added
from .joint_start import LaplacePosterior
from .sampled import Sampled
from .summary import summarise
from .tree import pointwise, posterior_tree, sign, thinning

log = logging.getLogger("bayes_glmm")

PILOT = 100  # proposals for the points that the nodes are chosen at
PACKAGES = ("bayes_glmm", "numba", "numpy", "scipy")


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
        ``importance_ess``, ``acceptance``, ``nodes``, ``node_table``, ``interpolation_degree``
        (of the polynomials that stand for the integrals where data are many; 0 for none) and
        ``interpolation_error`` (of the log density at posterior draws); the DataTree also
        ``log_likelihood_by_group``: the log-likelihood of each level's rows together, the
        integrated factor's effects integrated out, for leave-one-group-out. With several
        factors it is given the others' effects (its attribute ``given``): it tells how well a
        new level of the integrated factor is predicted among known levels of the others.
        ``converged`` also says that the
        nodes settled and the proposals covered the posterior.

    Raises
    ------
    NotServedError
        If there is nothing to integrate, or more than quadrature can; the message names NUTS.
    ImproperPosteriorError
        If improper priors were allowed, and the posterior does not exist or may not.
    """
    check(model, method)
    doubts = require_posterior(model)
    started = perf_counter()
    compile_kernels(model)
    compiled = perf_counter()
    streams = method.stream(method.seed).spawn(3)
    with one_blas_thread():
        density = IntegratedDensity(model, first_nodes(model))
        laplace = laplace_posterior(density) if len(density.factors) > 1 else None
        mode, covariance = find_mode(density, laplace or density)
        set_up = perf_counter()
        if laplace is None:
            sampled, notes = sample(method, density, mode, covariance, streams[0])
        else:
            from .integrated_several import sample_several

            sampled, notes = sample_several(laplace, method, mode, covariance, streams[0])
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


def check(model, method) -> None:
    """Refuse what is not served, naming what is."""
    reason = refusal(model)
    if reason:
        raise NotServedError(f"Integrated() got {reason}: use NUTS().")
    if method.method == "importance" and len(model.design.groups) > 1:
        names = ", ".join(g.group for g in model.design.groups)
        raise NotServedError(
            f"Integrated(method='importance') got {len(model.design.groups)} grouping factors "
            f"({names}), and importance proposals serve one: use Integrated()."
        )


def refusal(model) -> str:
    """Say why a model is not served; empty where it is."""
    groups = model.design.groups
    if not groups:
        return "a model without random effects, so that there is nothing to integrate"
    if not model.design.p:
        return "a model without a coefficient"
    if any(matrix is not None for matrix in model.priors.covariance.values()):
        return "a prior of a whole covariance matrix, and takes those of SDs and correlations"
    if model.priors.joint is not None:
        return "a joint prior of coefficients and SDs, and takes independent ones"
    if model.residual is not None:
        return "residuals that are correlated within clusters, where Integrated() has none"
    if any(g.covariance is not None for g in groups):
        return "levels with a known covariance, and integrates over independent ones"
    largest = by_size(factors_of(model))[0]
    if largest.q > MOST_DIMENSIONS:
        return f"{largest.q} effects per level, and quadrature is offered up to {MOST_DIMENSIONS}"
    return ""


def laplace_posterior(density: IntegratedDensity) -> LaplacePosterior:
    """Give the posterior by Laplace's approximation, or refuse to hold its full matrix."""
    try:
        return LaplacePosterior(density)
    except MemoryError:
        others = sum(f.levels * f.q for k, f in enumerate(density.factors) if k in density.others)
        raise NotServedError(
            f"Integrated() got {others:,} effects besides those of {density.group}, crossed so "
            f"that their mode takes a full matrix of that order, and serves up to {LARGEST:,}: "
            "use NUTS()."
        ) from None


def compile_kernels(model) -> None:
    """Compile the family and the kernels, or load them from disk."""
    if by_size(factors_of(model))[0].q == 1:
        from ..numerics.draws_scalar import draw_scalar_effects, integrate_scalar_draws
        from ..numerics.scalar_integral import find_modes, integrate_scalar

        density = (find_modes, integrate_scalar)
        drawing = (draw_scalar_effects, integrate_scalar_draws)
    else:
        from ..numerics.draws_vector import draw_vector_effects, integrate_vector_draws
        from ..numerics.vector_integral import integrate_vector

        density, drawing = (integrate_vector,), (draw_vector_effects, integrate_vector_draws)
    if len(model.design.groups) > 1:
        from ..numerics import laplace, partly_centred

        density = (*density, *laplace.KERNELS, *partly_centred.KERNELS)
    with compiled_beside(drawing):
        bind_numba(model.family, model.link)
        for kernel in density:
            _ = kernel.compiled
    for kernel in drawing:
        _ = kernel.compiled


# the draws


def find_mode(density: IntegratedDensity, target) -> tuple[np.ndarray, np.ndarray]:
    """Find the mode of the coordinates under ``target``, and the inverse Hessian there."""
    start, inverse = density.coordinates.start(*Likelihood.of(density.model).start)
    optimum, covariance = maximise(target, start, inverse)
    if covariance is None:
        raise NotServedError(
            "Integrated() found no posterior mode with a negative definite Hessian "
            f"({optimum.reason}): use NUTS()."
        )
    return optimum.x, covariance


def sample(method, density, mode, covariance, stream) -> tuple[Sampled, list[Message]]:
    """Sample the coordinates of a model of one factor."""
    rng = np.random.default_rng(stream)
    density(mode)  # its modes are the starts from here on
    points = likely(density, Proposal(mode, covariance), rng)
    table, _ = choose_nodes(density, at_draws(density, points))
    if len(table) > 1:
        optimum, better = maximise(density, mode, covariance)
        mode, covariance = optimum.x, covariance if better is None else better
    given = method, density, Proposal(mode, covariance), points
    found, notes = by_either(*given, rng, stream)
    drawn, value = some_draws(found, rng)
    if found.interpolated and change_between(value, at_draws(density, drawn)()) > STILL_ENOUGH:
        found, notes = by_either(*given, rng, stream, polynomials=False)
        drawn, value = some_draws(found, rng)
    table += found.node_checks
    if more_nodes(density):
        table.append(check_nodes(density, at_draws(density, drawn)))
    if not more_nodes(density) or table[-1]["change"] > STILL_ENOUGH:
        notes.append(message("integral-unsettled", **table[-1]))
    details = {
        "integrated": density.group,
        "nodes": density.nodes,
        "node_table": pd.DataFrame(table),
    }
    return replace(found, details={**details, **found.details}), notes


def some_draws(found: Sampled, rng) -> tuple[np.ndarray, np.ndarray]:
    """Take ``CHECKED`` of the draws, and the log densities that they were accepted with."""
    flat = found.xi.reshape(-1, found.xi.shape[-1])
    at = rng.choice(len(flat), CHECKED, replace=False)
    return flat[at], found.statistics["logp"].ravel()[at]


def by_either(
    method, density, proposal: Proposal, points, rng, stream, polynomials: bool = True
) -> tuple[Sampled, list[Message]]:
    """Sample by importance proposals, or by NUTS where these were not wanted or do not cover."""
    details, checks = {}, []
    if method.method != "nuts":
        wanted = int(MOST * method.chains * method.draws) + wide_draws(density.size)

        def make_target():
            if polynomials:
                return quickest(density, proposal, points, wanted, rng)
            return Exact(density)

        tried = by_importance(make_target, method, proposal, rng)
        khat = tried.details["khat"]
        if covered(khat):
            return tried, []
        if method.method == "importance":
            return tried, [message("importance-not-covered", khat=khat)]
        log.info("Integrated: k-hat %.2f, going on by NUTS", khat)
        details, checks = tried.details, tried.node_checks
    from .integrated_nuts import by_nuts

    found = by_nuts(density, method, proposal, stream)
    return replace(found, details={**details, **found.details}, node_checks=checks), []


def likely(density, proposal: Proposal, rng) -> np.ndarray:
    """Give ``CHECKED`` points about as posterior draws are."""
    pilot, proposed = proposal.draw(rng, PILOT)
    ratio = log_density(density, pilot)[0] - proposed
    return pilot[without_replacement(ratio, rng, CHECKED)]


# what a Fit holds


def tree_of(model, method, density, sampled: Sampled, streams) -> xr.DataTree:
    """Draw the effects, and gather everything under the contract's names."""
    shape = sampled.xi.shape[:2]
    xi = sampled.xi.reshape(-1, density.size)
    c = density.coordinates
    named = c.named(xi)
    arguments = density.arguments(xi)
    concave = density.concave(arguments[2])
    block = model.design.groups[density.largest]
    added = others_added(density, sampled.others)
    effects = density.many().effects(*arguments, streams[0], concave, added)
    every = sampled.others | {density.largest: effects}
    named |= {f"b_{g.group}": every[k] for k, g in enumerate(model.design.groups)}
    draws = {name: x.reshape(*shape, *x.shape[1:]) for name, x in named.items()}
    attributes = {k: v for k, v in sampled.details.items() if np.isscalar(v)}
    statistics = xr.Dataset(
        {k: (("chain", "draw"), v) for k, v in sampled.statistics.items()}, attrs=attributes
    )
    tree = posterior_tree(model, draws, statistics, np.random.default_rng(streams[1]))
    tree["log_likelihood_by_group"] = log_likelihood_by_group(density, sampled, block)
    tree["log_likelihood_by_group"].attrs["given"] = ", ".join(
        n for n in named if n != f"b_{block.group}"
    )
    sign(tree, method, PACKAGES)
    return tree


def log_likelihood_by_group(density, sampled: Sampled, block) -> xr.Dataset:
    """Log-likelihood of each level's rows together, all constants included."""
    chains, size = sampled.xi.shape[:2]
    thin = thinning(chains * size, len(block.levels))
    xi = sampled.xi[:, ::thin].reshape(-1, density.size)
    constants = density.log_constants(density.coordinates.dispersion(xi))
    found = sampled.by_group + constants.reshape(sampled.by_group.shape)
    return pointwise(block.group, list(block.levels), found, size, thin)
