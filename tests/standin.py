"""Hand-made fits with known numbers: what the result contract is tested on."""

import numpy as np
import pandas as pd
import xarray as xr

import bayes_glmm as bg
from bayes_glmm.datatree import dataset
from bayes_glmm.fit import Fit, GroupEffects, Seconds, Variance, components_of
from bayes_glmm.messages import message


def slope_model():
    """Twelve rows, correlated intercept and slope on four levels, gaussian."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"y": rng.normal(size=12), "x": np.tile([0.0, 1, 2], 4), "g": list("cccaaabbbddd")},
        index=[f"row {i}" for i in range(12)],
    )
    return bg.GLMM("y ~ x + (1 + x | g)", frame, family="gaussian")


BETA = np.array([0.5, -1.0])
VCOV = np.array([[0.04, -0.01], [-0.01, 0.09]])
VARIANCE = np.array([0.8, 0.3, -0.4, 1.2])  # two SDs, their correlation, the residual SD
ERRORS = np.array([0.2, 0.1, 0.25, 0.15])


def asymptotic_fit(model=None, method=None) -> Fit:
    """Make a fit as ML would return it."""
    model = model or slope_model()
    joint = np.zeros((6, 6))
    joint[:2, :2] = VCOV
    jacobian = np.array([0.8, 0.3, 1 - 0.4**2, 1.2])
    joint[2:, 2:] = np.diag((ERRORS / jacobian) ** 2)
    effects = {"g": GroupEffects(np.arange(8.0).reshape(4, 2) / 10, np.full((4, 2), 0.5))}
    return Fit(
        model=model,
        method=method or bg.ML(nodes=1),
        beta=BETA,
        vcovs={"model": VCOV, "robust": 4 * VCOV},
        variance=Variance(components_of(model), VARIANCE, ERRORS),
        effects=effects,
        loglik=-10.0,
        loglik_kind="Laplace",
        npar=6,
        joint_cov=joint,
        messages=(message("zero-variance", component="sd_g[x]"),),
        seconds=Seconds(0.1, 0.2, 0.3),
        details={"nodes": pd.DataFrame({"nodes": [1], "loglik": [-10.0]}), "alpha": 0.3},
    )


def posterior_fit(model=None) -> Fit:
    """Make a fit as NUTS would return it: 2 chains of 500 draws."""
    model = model or slope_model()
    rng = np.random.default_rng(8)
    shape = (2, 500)
    draws = {
        "beta": rng.multivariate_normal(BETA, VCOV, shape),
        "sd_g": rng.gamma(4, 0.2, (*shape, 2)),
        "corr_g": rng.uniform(-0.9, 0.9, (*shape, 1)),
        "b_g": rng.normal(size=(*shape, 4, 2)),
        "dispersion": rng.gamma(9, 0.1, shape),
    }
    flat = [a.reshape(1000, -1) for k, a in draws.items() if k != "b_g"]
    components = np.concatenate(flat[1:], axis=1)
    b = draws["b_g"]
    return Fit(
        model=model,
        method=bg.NUTS(draws=500, chains=2),
        beta=flat[0].mean(axis=0),
        vcovs={"model": np.cov(flat[0].T)},
        variance=Variance(components_of(model), components.mean(0), components.std(0, ddof=1)),
        effects={"g": GroupEffects(b.mean((0, 1)), b.std((0, 1), ddof=1))},
        draws=xr.DataTree.from_dict({"posterior": dataset(model, draws)}),
        details={"divergences": 0},
    )
