"""Predictions and simulated responses from any fit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from .fit import Fit, variables_of
from .frequentist.lmm_search import rows_of
from .methods import NotServedError
from .numerics.correlated_rows import simulate_rows

SCALES = ("response", "link")
EFFECTS = ("conditional", "zero")


def predict(
    fit: Fit,
    data: pd.DataFrame | None = None,
    *,
    scale: str = "response",
    effects: str | None = None,
    new_levels: str = "raise",
    level: float = 0.95,
) -> pd.DataFrame:
    r"""Predict the mean response (per trial) or the linear predictor of each row.

    Parameters
    ----------
    fit
        Any fit.
    data
        New rows with the formula's columns, or None for the rows that were fitted.
    scale
        "response" for ``g^{-1}(eta)``, "link" for ``eta``.
    effects
        "conditional" adds the group effects, ``eta = x'beta + z'b + offset``; "zero" sets
        them to zero (a typical group, not the population average). The default is
        "conditional" where the fit has group effects.
    new_levels
        What an unseen level of a grouping factor means under "conditional": "raise", or
        "zero" effects. "zero" needs no grouping columns.
    level
        Coverage of the interval.

    Returns
    -------
    DataFrame
        ``estimate, std_error, conf_low, conf_high`` with the index of ``data``. Posterior
        mean, SD and equal-tailed limits for draws; else the plug-in value with Wald limits
        built on the link scale. They exist without group effects only ("zero"): the error
        of a plug-in group effect is not had from modes and coefficients apart, and is NaN.

    Raises
    ------
    ValueError
        If an option is unknown, a column is missing, or a level is unseen under "raise".
    NotServedError
        If the method does not estimate every coefficient.
    """
    effects = effects or ("conditional" if fit.effects else "zero")
    _check_options(fit, scale, effects)
    X, offset, blocks, index = _rows(fit, data, effects, new_levels)
    summarise = _posterior_summary if fit.draws is not None else _plug_in
    columns = summarise(fit, X, offset, blocks, scale, level)
    names = ["estimate", "std_error", "conf_low", "conf_high"]
    return pd.DataFrame(dict(zip(names, columns, strict=True)), index=index)


def refuse_missing(fit: Fit, verb: str) -> None:
    """Refuse a fit without some of the coefficients.

    Raises
    ------
    NotServedError
        Naming them.
    """
    missing = [t for t, b in zip(fit.terms, fit.beta, strict=True) if np.isnan(b)]
    if missing:
        raise NotServedError(
            f"{verb}() needs every coefficient and {fit.label} does not estimate "
            f"{', '.join(missing)}: use a fit of the mixed model by ML() or NUTS()."
        )


def _check_options(fit: Fit, scale: str, effects: str) -> None:
    refuse_missing(fit, "predict")
    if scale not in SCALES:
        raise ValueError(f"predict(scale={scale!r}) is not known: use 'response' or 'link'.")
    if effects not in EFFECTS:
        raise ValueError(f"predict(effects={effects!r}) is not known: use 'conditional' or 'zero'.")
    if effects == "conditional" and not fit.effects:
        raise ValueError(
            f"predict(effects='conditional') needs group effects and {fit.label} has none: "
            "use effects='zero', or fit by 'ml' or 'nuts'."
        )


def _rows(fit: Fit, data, effects: str, new_levels: str):
    """Design of the rows to predict, in the user's order: X, offset, [(group, index, Z)]."""
    design = fit.model.design
    if data is None:
        d = design.in_user_order()
        blocks = [(g.group, g.index, g.Z) for g in d.groups] if effects == "conditional" else []
        return d.X, d.offset, blocks, d.frame.index
    data = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
    if effects == "zero":
        return *design.new_fixed(data), [], data.index
    X, offset, parts = design.new_data(data, new_levels=new_levels)
    named = zip(design.groups, parts, strict=True)
    return X, offset, [(g.group, *part) for g, part in named], data.index


def _effect(values: np.ndarray, index: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """``z'b`` row by row, shape ``(…, n)``; ``values`` (…, levels, q); index -1 gives zero."""
    rows = np.einsum("...nq,nq->...n", values[..., np.maximum(index, 0), :], Z)
    return np.where(index >= 0, rows, 0.0)


def _plug_in(fit: Fit, X, offset, blocks, scale, level):
    eta = X @ fit.beta + offset
    if blocks:
        for group, index, Z in blocks:
            eta = eta + _effect(fit.effects[group].estimate, index, Z)
        se = np.full(len(eta), np.nan)
    else:
        se = np.sqrt(np.einsum("np,pq,nq->n", X, fit.vcov().to_numpy(), X))
    half = fit.critical(level, X) * se
    if scale == "link":
        return eta, se, eta - half, eta + half
    mean, slope, *_ = fit.model.link.inverse(eta)
    ends = [fit.model.link.inverse(eta + side)[0] for side in (-half, half)]
    return mean, np.abs(slope) * se, *ends


def _posterior_eta(fit: Fit, X, offset, blocks) -> np.ndarray:
    """Linear predictor of every draw, shape ``(draws, n)``."""
    posterior = fit.draws["posterior"]

    def flat(name: str) -> np.ndarray:
        a = posterior[name].to_numpy()
        return a.reshape(-1, *a.shape[2:])

    eta = flat("beta") @ X.T + offset
    for group, index, Z in blocks:
        eta += _effect(flat(f"b_{group}"), index, Z)
    return eta


def _posterior_summary(fit: Fit, X, offset, blocks, scale, level):
    values = _posterior_eta(fit, X, offset, blocks)
    if scale == "response":
        values = fit.model.link.inverse(values)[0]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return values.mean(axis=0), values.std(axis=0, ddof=1), low, high


def simulate(fit: Fit, n: int = 1, *, effects: str = "new", seed: int = 1) -> pd.DataFrame:
    """Simulate responses of the fitted rows.

    Parameters
    ----------
    fit
        A fit of a full probability model (not GEE).
    n
        Number of data sets.
    effects
        "new" draws group effects from their fitted distribution; "conditional" keeps those
        estimated (the posterior draw's own, for draws).
    seed
        Of the fit's own stream.

    Returns
    -------
    DataFrame
        Columns ``sim_1 … sim_n``; parameters are the estimates, or for draws one posterior
        draw per data set.

    Raises
    ------
    NotServedError
        If the fit has no distribution to simulate from.
    """
    refuse_missing(fit, "simulate")
    if fit.variance is None and fit.loglik is None:
        raise NotServedError(
            f"{fit.label} has no distribution to simulate from: use a fit by 'ml' or 'nuts'."
        )
    if not fit.model.family.has_dispersion and fit.details.get("scale", 1.0) != 1.0:
        raise NotServedError(
            f"{fit.label} has a variance that no {fit.model.family.name} distribution has: use a "
            "fit with dispersion='fixed', or family='negative_binomial' or 'beta_binomial'."
        )
    if fit.method.name == "mql":
        raise NotServedError(
            f"{fit.label} has no distribution of the responses given the levels: "
            "use a fit by 'pql', 'ml' or 'nuts'."
        )
    if effects not in ("new", "conditional"):
        raise ValueError(f"simulate(effects={effects!r}) is not known: use 'new' or 'conditional'.")
    rng = np.random.default_rng(fit.method.stream(seed))
    d, family = fit.model.design.in_user_order(), fit.model.family
    columns = {}
    for k, parameters in enumerate(_parameter_sets(fit, n, rng)):
        eta = d.X @ parameters["beta"] + d.offset
        for g in d.groups:
            if f"sd_{g.group}" not in parameters:  # a method without random effects
                continue
            b = _new_effects(g, parameters, rng) if effects == "new" else parameters[f"b_{g.group}"]
            eta = eta + _effect(b, g.index, g.Z)
        mean = fit.model.link.inverse(eta)[0]
        dispersion = parameters.get("dispersion", 1.0)
        if (noise := parameters.get("noise")) is not None:
            columns[f"sim_{k + 1}"] = mean + dispersion * noise(rng)
        else:
            columns[f"sim_{k + 1}"] = family.simulate(rng, mean, d.trials, dispersion)
    return pd.DataFrame(columns, index=d.frame.index)


def _correlated_noise(model, values: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    """Give a source of standard residuals in the user's order, for parameters of correlation."""
    repeated, design = model.repeated, model.design
    correlation, rows = repeated.correlation, rows_of(repeated)
    roots = rows.whiten(lambda time: correlation.correlation(values, time)).roots
    return lambda rng: design.to_user(simulate_rows(rows, roots, rng.standard_normal(design.n)))


def _parameter_sets(fit: Fit, n: int, rng):
    """Yield ``n`` parameter sets under the DataTree's names.

    ``noise`` is a source of residuals, where they are correlated and the fit knows by how much.
    """
    names = [name for name in variables_of(fit.model) if name.startswith("residual_")]
    if fit.draws is not None:
        posterior = fit.draws["posterior"]
        for _ in range(n):
            at = {"chain": rng.integers(posterior.sizes["chain"])}
            at["draw"] = rng.integers(posterior.sizes["draw"])
            drawn = {k: v.isel(at).to_numpy() for k, v in posterior.data_vars.items()}
            if names:
                values = np.concatenate([np.ravel(drawn[name]) for name in names])
                drawn["noise"] = _correlated_noise(fit.model, values)
            yield drawn
        return
    fixed: dict[str, Any] = {"beta": fit.beta} | {
        f"b_{k}": e.estimate for k, e in fit.effects.items()
    }
    if fit.variance is not None:
        for g in fit.model.design.groups:
            sd, corr = fit.variance.of(g.group)
            fixed |= {f"sd_{g.group}": sd, f"corr_{g.group}": corr}
        if fit.variance.residual.size:
            fixed["noise"] = _correlated_noise(fit.model, fit.variance.residual)
    if fit.dispersion is not None:
        fixed["dispersion"] = fit.dispersion
    for _ in range(n):
        yield fixed


def _new_effects(g, parameters, rng) -> np.ndarray:
    """Draw ``b ~ N(0, A x diag(sd) R diag(sd))``, shape ``(levels, q)``."""
    R = np.eye(g.q)
    for (i, j), r in zip(g.pairs, parameters.get(f"corr_{g.group}", ()), strict=True):
        R[i, j] = R[j, i] = r
    values, vectors = np.linalg.eigh(R)  # unlike Cholesky, serves a correlation of one
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    u = rng.standard_normal((g.n_levels, g.q))
    if g.root is not None:
        u = g.root @ u
    return (u @ root.T) * parameters[f"sd_{g.group}"]
