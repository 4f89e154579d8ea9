"""The no-U-turn sampler on the PyMC graph, run by nutpie.

nutpie compiles the graph's log density and gradient through Numba; most of the seconds of a
small model go there, so a model keeps what was compiled for it as long as it lives.
"""

import logging
import os
from dataclasses import replace
from importlib.metadata import version
from time import perf_counter
from weakref import WeakKeyDictionary

import numpy as np
import nutpie
import xarray as xr

from ..datatree import dims_and_coords
from ..fit import Fit, Seconds
from ..methods import NotServedError
from ..propriety import require_posterior
from .graph import build_graph
from .summary import summarise
from .tree import posterior_tree

log = logging.getLogger("bayes_glmm")

# up to here the mass matrix has low-rank terms, which follow correlated coefficients (columns
# are not centred); beyond, learning them costs far more than it saves: on toenail (298
# unknowns) 18 times the processor time of a diagonal matrix for the same effective size
MANY_UNKNOWNS = 150
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
VERSIONS = ("bayes_glmm", "pymc", "pytensor", "nutpie", "numba", "numpy")

_compiled: WeakKeyDictionary = WeakKeyDictionary()


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
    sampler, seconds = _compile(model)
    start = perf_counter()
    raw = _sample(model, sampler, method, streams[0])
    names, _ = dims_and_coords(model)
    draws = {name: raw["posterior"][name].to_numpy() for name in names}
    statistics = raw["sample_stats"].to_dataset()[list(STATISTICS)]
    tree = posterior_tree(model, draws, statistics, np.random.default_rng(streams[1]))
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    tree.attrs.update(kind="posterior", method=repr(method), seed=method.seed, versions=versions)
    found = summarise(model, method, tree)
    seconds = replace(seconds, run=perf_counter() - start)
    return replace(found, seconds=seconds, messages=(*doubts, *found.messages))


def _compile(model) -> tuple:
    """Build and compile a model's graph, or take what was compiled for it before."""
    if model in _compiled:
        return _compiled[model], Seconds()
    start = perf_counter()
    graph = build_graph(model)
    built = perf_counter()
    log.info("NUTS: compiling the log density")
    names, _ = dims_and_coords(model)
    # data become constants, so that what depends on them alone is computed once
    _compiled[model] = nutpie.compile_pymc_model(
        graph, freeze_model=True, var_names=list(names), jitter_rvs=_jittered(model, graph)
    )
    return _compiled[model], Seconds(setup=built - start, compile=perf_counter() - built)


def _jittered(model, graph) -> set | None:
    """Name what is moved at random from its prior's centre to start a chain; None is everything.

    A coefficient or an effect moved by up to one may lead where the link has no mean.
    """
    if np.isinf(model.link.lowest):
        return None
    fixed = ("beta", "raw_beta", "raw_b")
    return {v for v in graph.free_RVs if not v.name.startswith(fixed)}


def _unknowns(model) -> int:
    """Coefficients and group effects: nearly all that is sampled."""
    return model.design.p + sum(block.n_levels * block.q for block in model.design.groups)


def _sample(model, sampler, method, stream: np.random.SeedSequence) -> xr.DataTree:
    log.info("NUTS: sampling %d chains of %d + %d", method.chains, method.tune, method.draws)
    return nutpie.sample(
        sampler,
        draws=method.draws,
        tune=method.tune,
        chains=method.chains,
        cores=min(method.chains, os.cpu_count() or 1),
        seed=int(stream.generate_state(1)[0]),
        target_accept=method.target_accept,
        adaptation="low_rank" if _unknowns(model) <= MANY_UNKNOWNS else "diag",
        save_warmup=False,
        progress_bar=False,
    )
