"""What a posterior's draws are reduced to: estimates, diagnostics, messages."""

import numpy as np
import pandas as pd
import xarray as xr

from ..fit import TIDY, Fit, GroupEffects, Variance, components_of, variables_of
from ..messages import Message, message
from ..numerics.convergence import diagnostics

SETTLED = 1.01  # R-hat of Vehtari et al. (2021)
PER_CHAIN = 100  # effective draws wanted per chain, for R-hat itself to be trusted


def summarise(model, method, tree: xr.DataTree) -> Fit:
    """Reduce draws to the estimates of the result contract, with diagnostics and messages."""
    posterior = tree["posterior"]
    beta = posterior["beta"].to_numpy().reshape(-1, model.design.p)
    found = diagnose(model, posterior.to_dataset())
    stats = tree["sample_stats"].to_dataset()
    divergences = int(stats["diverging"].sum()) if "diverging" in stats else 0
    notes = (*_diverged(divergences, method), *_unsettled(found, method), *_thinned(tree))
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
        diagnostics=found,
        details={"divergences": divergences, "draws": method.draws * method.chains},
    )


def _mean_and_sd(draws) -> tuple[np.ndarray, np.ndarray]:
    """Over chains and draws; some hundred parameters at a time, as the sums take copies."""
    values = draws.to_numpy()
    shape = values.shape[2:]
    flat = values.reshape(*values.shape[:2], int(np.prod(shape)))
    found = np.empty((2, flat.shape[2]))
    for a in range(0, flat.shape[2], 500):
        part = flat[:, :, a : a + 500]
        found[:, a : a + 500] = part.mean(axis=(0, 1)), part.std(axis=(0, 1), ddof=1)
    mean, sd = found.reshape(2, *shape)
    return mean, sd


def _variance(model, posterior) -> Variance | None:
    """Posterior means and SDs along ``components_of``, whose order is that of the variables."""
    names = variables_of(model)
    if not names:
        return None
    found = [_mean_and_sd(posterior[name]) for name in names]
    mean, sd = (np.concatenate([np.atleast_1d(pair[k]) for pair in found]) for k in (0, 1))
    return Variance(components_of(model), mean, sd)


def diagnose(model, posterior: xr.Dataset) -> pd.DataFrame:
    """R-hat and bulk and tail effective sample sizes of every parameter.

    Indexed by the first columns of ``Fit.tidy``: ``effect, group, level, term``.
    """
    names = ["beta", *variables_of(model), *(f"b_{g.group}" for g in model.design.groups)]
    values = [posterior[name].to_numpy() for name in names]
    tables = [diagnostics(v.reshape(*v.shape[:2], int(np.prod(v.shape[2:])))) for v in values]
    table = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    keys = [("fixed", "", "", term) for term in model.design.terms]
    keys += [("ran_pars", c.group, "", str(c)) for c in components_of(model)]
    keys += [
        ("ran_vals", g.group, level, term)
        for g in model.design.groups
        for level in g.levels
        for term in g.columns
    ]
    return pd.DataFrame(table, pd.MultiIndex.from_tuples(keys, names=TIDY[:4]))


def _diverged(count: int, method) -> tuple[Message, ...]:
    total = method.draws * method.chains
    return (message("divergences", count=count, total=total),) if count else ()


def _thinned(tree: xr.DataTree) -> tuple[Message, ...]:
    """Say which groups hold a part of the draws only."""
    by_group = {name: node.attrs.get("thinning", 1) for name, node in tree.children.items()}
    thinned = {name: str(thin) for name, thin in by_group.items() if thin > 1}
    if not thinned:
        return ()
    return (message("draws-thinned", groups=", ".join(thinned), thin=", ".join(thinned.values())),)


def _unsettled(found: pd.DataFrame, method) -> tuple[Message, ...]:
    """Name the worst parameter, where R-hat or an effective sample size is not good enough."""
    notes = []
    worst = found["rhat"].fillna(np.inf).to_numpy()
    if worst.max() > SETTLED:
        name = _name(found.index[worst.argmax()])
        notes.append(message("rhat-high", rhat=worst.max(), parameter=name))
    least = found[["ess_bulk", "ess_tail"]].to_numpy().min(axis=1)
    if least.min() < PER_CHAIN * method.chains:
        name = _name(found.index[least.argmin()])
        notes.append(message("ess-low", ess=least.min(), parameter=name))
    return tuple(notes)


def _name(key: tuple[str, str, str, str]) -> str:
    """``sd(Intercept) of herd``, ``Intercept of herd 3``, or the coefficient."""
    _, group, level, term = key
    return f"{term} of {group} {level}".strip() if group else term
