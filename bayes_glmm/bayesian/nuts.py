"""The no-U-turn sampler on the PyMC graph, run by nutpie.

Chains start about the posterior mode and move in coordinates in which the density is nearly
standard normal there (``metric``), so that uncentred or correlated columns cost nothing and a
short warm-up serves. Most of a small model's seconds go into compiling the graph; machine code
serves all models that differ in their numbers only, and is kept on disk (``machine``).
"""

import logging
import os
from collections.abc import Container
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import nutpie
import xarray as xr
from pymc.initial_point import make_initial_point_fn

from ..datatree import dims_and_coords
from ..fit import Fit, Seconds
from ..frequentist.likelihood import Likelihood
from ..methods import NotServedError
from ..propriety import require_posterior
from .arrangement import partials_of
from .graph import build_graph
from .machine import Machine, machine_of
from .metric import Layout, Metric, sound_metric
from .summary import summarise
from .tree import posterior_tree, sign

log = logging.getLogger("bayes_glmm")

STATISTICS = (
    "diverging",
    "depth",
    "maxdepth_reached",
    "n_steps",
    "step_size",
    "mean_tree_accept",
    "energy",
    "logp",
)
SMALL = 0.1  # SD of an effect on the linear predictor by the residual's: where chains start above
SHRUNK = 0.95  # of correlations, which keeps a matrix off the edge
# quantiles of a prior between which chains start; wide for a serial correlation, whose usual values
# in fine units of time are next to one
CENTRAL = {"rate": (0.01, 0.99), "share": (0.01, 0.99), "serial": (1e-6, 1 - 1e-6)}
PACKAGES = ("bayes_glmm", "pymc", "pytensor", "nutpie", "numba", "numpy")


@dataclass(frozen=True, eq=False)
class Prepared:
    """What sampling a model needs.

    Attributes
    ----------
    machine
        The compiled graph.
    data
        Values of its containers.
    metric
        Where chains start, and the coordinates they move in.
    shapes
        Of the variables wanted as draws, by name.
    """

    machine: Machine
    data: dict[str, np.ndarray]
    metric: Metric
    shapes: dict[str, tuple[int, ...]]

    @property
    def sampler(self):
        """Give nutpie's model."""
        return self.machine.with_data(self.data, self.metric)

    def named(self, raw: xr.DataTree) -> dict[str, np.ndarray]:
        """Split nutpie's draws ``(chains, draws, all)`` into variables."""
        values = raw["posterior"]["values"].to_numpy()
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()])[:-1]
        parts = np.split(values, ends, axis=2)
        return {
            name: part.reshape(*values.shape[:2], *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


_prepared: WeakKeyDictionary = WeakKeyDictionary()


def fit(model, method) -> Fit:
    """Sample the posterior.

    Parameters
    ----------
    model
        The GLMM.
    method
        A ``NUTS``.

    Returns
    -------
    Fit
        Posterior means, SDs and covariance; draws and predictive draws in ``draws``, R-hat
        and effective sample sizes in ``diagnostics``, ``divergences`` in ``details``.
        ``converged`` says that no transition diverged and every R-hat is at most 1.01.

    Raises
    ------
    NotServedError
        If the model has no fixed-effect column.
    ImproperPosteriorError
        If improper priors were allowed, and the posterior does not exist or may not.
    """
    if not model.design.p:
        raise NotServedError(
            "NUTS needs a coefficient: add the intercept or a column to the formula."
        )
    doubts = require_posterior(model)
    streams = method.stream(method.seed).spawn(2)
    prepared, seconds = prepare(model)
    start = perf_counter()
    raw = _sample(prepared.sampler, method, streams[0])
    draws = prepared.named(raw)
    statistics = raw["sample_stats"].to_dataset()[list(STATISTICS)]
    tree = posterior_tree(model, draws, statistics, np.random.default_rng(streams[1]))
    sign(tree, method, PACKAGES)
    found = summarise(model, method, tree)
    seconds = replace(seconds, run=perf_counter() - start)
    return replace(found, seconds=seconds, messages=(*doubts, *found.messages))


def prepare(model) -> tuple[Prepared, Seconds]:
    """Compile a model's graph and find its metric, or take what was found for it before."""
    if model in _prepared:
        return _prepared[model], Seconds()
    start = perf_counter()
    graph = build_graph(model)
    built = perf_counter()
    dims, coords = dims_and_coords(model)
    shapes = {name: tuple(len(coords[dim]) for dim in of) for name, of in dims.items()}
    machine, data, _ = machine_of(graph, shapes)
    compiled = perf_counter()
    point = starting_point(model, graph)
    x = np.concatenate([np.ravel(point[name]) for name in machine.shapes])
    related = {f"raw_b_{g.group}" for g in model.design.groups if g.covariance is not None}
    layout, scale = layout_of(machine.shapes, related), scale_of(model, machine.shapes)
    metric = sound_metric(machine.gradient(data), x, scale, layout)
    _prepared[model] = Prepared(machine, data, metric, shapes)
    setup = built - start + perf_counter() - compiled
    return _prepared[model], Seconds(setup=setup, compile=compiled - built)


def starting_point(model, graph) -> dict[str, np.ndarray]:
    """Give unconstrained values with the likelihood's SDs and dispersion where these are free.

    They are those of the Laplace fit; with residual correlation of the REML fit.
    """
    free = {v.name for v in graph.free_RVs}
    known = laplace_scales(model) if model.residual is None else reml_scales(model)
    wanted: Any = {name: value for name, value in known.items() if name in free}
    start = make_initial_point_fn(model=graph, overrides=wanted, return_transformed=True)
    point = start(None)
    usual = graph.initial_point()
    # a prior may end short of the likelihood's estimate
    return {k: v if np.all(np.isfinite(v)) else usual[k] for k, v in point.items()}


def laplace_scales(model) -> dict[str, np.ndarray]:
    """Give standard deviations and dispersion of the Laplace fit, kept off zero and infinity."""
    if not model.design.groups:
        return {}
    likelihood = Likelihood.of(model)
    rough, best = likelihood.start[0], likelihood.maximise().x
    found = {}
    for k, (group, factor) in enumerate(zip(model.design.groups, likelihood.factors, strict=True)):
        part = likelihood.layout.theta_slice(k)
        sds, moments = (
            np.linalg.norm(factor.covariance.factor(theta[part]), axis=1) for theta in (best, rough)
        )
        found[f"sd_{group.group}"] = np.clip(np.nan_to_num(sds), moments / 3.0, 10.0 * moments)
    if likelihood.layout.has_dispersion:
        moment = rough[-1]
        found["dispersion"] = np.exp(np.clip(np.nan_to_num(best[-1]), moment - 2.0, moment + 2.0))
    return found


def reml_scales(model) -> dict[str, np.ndarray]:
    """Give SDs, residual correlation and dispersion of the REML fit, kept off limits.

    Nothing where the algebra of REML does not serve the model.
    """
    if not model.is_linear:
        return {}
    try:
        fit = model.fit("reml")
    except NotServedError:
        return {}
    dispersion = np.asarray(fit.dispersion)
    found = {"dispersion": dispersion}
    for g in model.design.groups:
        size = np.sqrt(np.mean(g.Z**2, axis=0))
        found[f"sd_{g.group}"] = np.maximum(fit.variance.of(g.group)[0], SMALL * dispersion / size)
    values, priors = fit.variance.residual, model.priors.residual
    if "corr" in priors:
        partial = partials_of(SHRUNK * values, len(model.repeated.labels))
        return found | {"raw_residual_corr": 0.5 * (partial + 1.0)}
    for parameter, value in zip(model.repeated.parameters, values, strict=True):
        prior, name = priors[parameter.name], f"residual_{parameter.name}"
        if prior.proper:
            value = np.clip(value, *(prior.ppf(q) for q in CENTRAL[parameter.kind]))
            name = name if prior.is_pymcs else f"raw_{name}"
            found[name] = np.asarray(prior.to_pymc(value))
    return found


def layout_of(shapes: dict[str, tuple[int, ...]], related: Container[str] = ()) -> Layout:
    """Find the effects among the graph's unconstrained values ``raw_b_<group>_<column>``.

    Levels that are related meet in the density, so that theirs are no blocks.
    """
    at, effects, held = 0, {}, [np.zeros(0, int)]
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        group = name.rsplit("_", 1)[0]
        if name.startswith("raw_b_"):
            if group not in related:
                effects.setdefault(group, []).append(np.arange(at, at + size))
        elif not name.startswith(("beta", "raw_beta")):
            held.append(np.arange(at, at + size))
        at += size
    stacked = [np.stack(columns, axis=1) for columns in effects.values()]
    return Layout(at, stacked, np.concatenate(held))


def scale_of(model, shapes: dict[str, tuple[int, ...]]) -> np.ndarray:
    """Rough size of a change that matters: one on the link scale, or one logarithm."""
    root_mean_square = np.sqrt(np.mean(model.design.X**2, axis=0))
    sizes = 1.0 / np.maximum(root_mean_square, np.finfo(float).tiny)
    found = {name: np.ones(int(np.prod(shape))) for name, shape in shapes.items()}
    if "beta" in found:
        found["beta"] = sizes
    for k, size in enumerate(sizes):  # priors of several kinds
        if f"raw_beta_{k}" in found:
            found[f"raw_beta_{k}"][:] = size
    return np.concatenate(list(found.values()))


def _sample(sampler, method, stream: np.random.SeedSequence) -> xr.DataTree:
    log.info("NUTS: sampling %d chains of %d + %d", method.chains, method.tune, method.draws)
    return nutpie.sample(
        sampler,
        draws=method.draws,
        tune=method.tune,
        chains=method.chains,
        cores=min(method.chains, os.cpu_count() or 1),
        seed=int(stream.generate_state(1)[0]),
        target_accept=method.target_accept,
        adaptation="diag",
        save_warmup=False,
        progress_bar=False,
    )
