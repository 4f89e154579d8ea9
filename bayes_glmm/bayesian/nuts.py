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
import pandas as pd
import xarray as xr
from arviz_stats import ess, rhat  # pyright: ignore[reportPrivateImportUsage]

from ..datatree import dims_and_coords
from ..fit import TIDY, Fit, GroupEffects, Seconds, Variance, components_of
from ..messages import Message, message
from ..methods import NotServedError
from ..propriety import require_posterior
from .graph import build_graph
from .tree import posterior_tree

log = logging.getLogger("bayes_glmm")

SETTLED = 1.01  # R-hat of Vehtari et al. (2021)
PER_CHAIN = 100  # effective draws wanted per chain, for R-hat itself to be trusted
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


def summarise(model, method, tree: xr.DataTree) -> Fit:
    """Reduce draws to the estimates of the result contract, with diagnostics and messages."""
    posterior = tree["posterior"]
    beta = posterior["beta"].to_numpy().reshape(-1, model.design.p)
    diagnostics = diagnose(model, posterior.to_dataset())
    divergences = int(tree["sample_stats"]["diverging"].to_numpy().sum())
    notes = (*_diverged(divergences, method), *_unsettled(diagnostics, method))
    return Fit(
        model=model,
        method=method,
        beta=beta.mean(axis=0),
        vcovs={"posterior": np.atleast_2d(np.cov(beta, rowvar=False))},
        variance=_variance(model, posterior),
        effects={
            block.group: GroupEffects(*_mean_and_sd(posterior[f"b_{block.group}"]))
            for block in model.design.groups
        },
        converged=divergences == 0 and not any(note.code == "rhat-high" for note in notes),
        messages=notes,
        draws=tree,
        diagnostics=diagnostics,
        details={"divergences": divergences, "draws": method.draws * method.chains},
    )


def _mean_and_sd(draws) -> tuple[np.ndarray, np.ndarray]:
    values = draws.to_numpy()
    return values.mean(axis=(0, 1)), values.std(axis=(0, 1), ddof=1)


def _variance(model, posterior) -> Variance | None:
    """Posterior means and SDs along ``components_of``, whose order is that of the variables."""
    names = _in_order(model)
    if not names:
        return None
    found = [_mean_and_sd(posterior[name]) for name in names]
    mean, sd = (np.concatenate([np.atleast_1d(pair[k]) for pair in found]) for k in (0, 1))
    return Variance(components_of(model), mean, sd)


def _in_order(model) -> list[str]:
    """Variables of the variance components: SDs, then correlations, group by group."""
    names = []
    for block in model.design.groups:
        names += [f"sd_{block.group}"] + [f"corr_{block.group}"] * bool(block.pairs)
    return names + ["dispersion"] * model.family.has_dispersion


def diagnose(model, posterior: xr.Dataset) -> pd.DataFrame:
    """R-hat and bulk and tail effective sample sizes of every parameter.

    Indexed by the first columns of ``Fit.tidy``: ``effect, group, level, term``.
    """
    names = ["beta", *_in_order(model), *(f"b_{g.group}" for g in model.design.groups)]
    tables = {
        "rhat": rhat(posterior[names]),
        "ess_bulk": ess(posterior[names], method="bulk"),
        "ess_tail": ess(posterior[names], method="tail"),
    }
    keys = [("fixed", "", "", term) for term in model.design.terms]
    keys += [("ran_pars", c.group, "", str(c)) for c in components_of(model)]
    keys += [
        ("ran_vals", g.group, level, term)
        for g in model.design.groups
        for level in g.levels
        for term in g.columns
    ]
    values = {
        column: np.concatenate([np.ravel(table[name].to_numpy()) for name in names])
        for column, table in tables.items()
    }
    return pd.DataFrame(values, pd.MultiIndex.from_tuples(keys, names=TIDY[:4]))


def _diverged(count: int, method) -> tuple[Message, ...]:
    total = method.draws * method.chains
    return (message("divergences", count=count, total=total),) if count else ()


def _unsettled(diagnostics: pd.DataFrame, method) -> tuple[Message, ...]:
    """Name the worst parameter, where R-hat or an effective sample size is not good enough."""
    notes = []
    worst = diagnostics["rhat"].fillna(np.inf).to_numpy()
    if worst.max() > SETTLED:
        name = _name(diagnostics.index[worst.argmax()])
        notes.append(message("rhat-high", rhat=worst.max(), parameter=name))
    least = diagnostics[["ess_bulk", "ess_tail"]].to_numpy().min(axis=1)
    if least.min() < PER_CHAIN * method.chains:
        name = _name(diagnostics.index[least.argmin()])
        notes.append(message("ess-low", ess=least.min(), parameter=name))
    return tuple(notes)


def _name(key: tuple[str, str, str, str]) -> str:
    """``sd(Intercept) of herd``, ``Intercept of herd 3``, or the coefficient."""
    _, group, level, term = key
    return f"{term} of {group} {level}".strip() if group else term
