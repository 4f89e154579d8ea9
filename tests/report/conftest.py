"""A comparison whose numbers are known, with labels that try to be markup."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayes_glmm as bg
from bayes_glmm.datatree import dataset
from bayes_glmm.fit import Fit, GroupEffects, Seconds, Variance, components_of
from bayes_glmm.messages import message
from bayes_glmm.report import About
from bayes_glmm.report.folder import make_document
from bayes_glmm.report.material import Material

HOSTILE = "<script>alert(1)</script>|*x*"
BETA = np.array([-1.4, -1.0])
VCOV = np.array([[0.05, -0.02], [-0.02, 0.09]])
FAILURE = "Broken does <b>not</b> serve this | model: use ML() instead."


@pytest.fixture(scope="session")
def model():
    """Twenty-four rows of counts of eight herds, one of them named like a script."""
    rng = np.random.default_rng(5)
    herds = [HOSTILE, *"bcdefgh"]
    frame = pd.DataFrame(
        {
            "herd": np.repeat(herds, 3),
            "period": pd.Categorical(np.tile(["1", "2", "2"], 8)),
            "size": rng.integers(5, 20, 24),
        }
    )
    frame["cases"] = rng.binomial(frame["size"], 0.2)
    return bg.GLMM("cbind(cases, size - cases) ~ period + (1 | herd)", frame, family="binomial")


def _fit(model, method, shift, sd, **more) -> Fit:
    effects = GroupEffects(np.linspace(-0.8, 0.8, 8)[:, None], np.full((8, 1), 0.3))
    return Fit(
        model,
        method,
        BETA + shift,
        {"model": VCOV},
        Variance(components_of(model), np.array([sd]), np.array([0.17])),
        {"herd": effects},
        seconds=Seconds(0.1, 0.2, 0.3),
        **more,
    )


def _posterior(model) -> Fit:
    rng = np.random.default_rng(8)
    shape = (4, 100)
    draws = {
        "beta": rng.multivariate_normal(BETA, VCOV, shape),
        "sd_herd": rng.gamma(16, 0.04, (*shape, 1)),
        "b_herd": rng.normal(0, 0.3, (*shape, 8, 1)) + np.linspace(-0.8, 0.8, 8)[:, None],
    }
    trials = model.design.to_user(model.design.trials)
    replicated = rng.binomial(trials.astype(int), 0.2, (*shape, 24))
    likelihood = rng.normal(-2.0, 0.1, replicated.shape)
    rows = xr.Dataset({"y": ("observation", model.design.to_user(model.design.y))})
    tree = {
        "posterior": dataset(model, draws),
        "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "observation"), replicated)}),
        "observed_data": rows,
        "log_likelihood": xr.Dataset({"y": (("chain", "draw", "observation"), likelihood)}),
    }
    return _fit(
        model,
        bg.NUTS(draws=100),
        0.02,
        0.64,
        draws=xr.DataTree.from_dict(tree),
        diagnostics=_diagnostics(model),
        details={"divergences": 0},
    )


def _diagnostics(model) -> pd.DataFrame:
    keys = [("fixed", "", "", term) for term in model.design.terms]
    keys += [("ran_pars", "herd", "", "sd(Intercept)")]
    keys += [("ran_vals", "herd", level, "Intercept") for level in model.design.groups[0].levels]
    index = pd.MultiIndex.from_tuples(keys, names=["effect", "group", "level", "term"])
    values = {"rhat": 1.002, "ess_bulk": 1234.0, "ess_tail": 987.0}
    return pd.DataFrame(values, index=index)


@pytest.fixture(scope="session")
def comparison(model):
    """NUTS, ML, PQL, GEE and a method that failed."""
    note = message("few-clusters", clusters=8, kind="robust", reference="t with 6 df")
    gee = Fit(model, bg.GEE(), 0.9 * BETA, {"robust": VCOV}, estimand="population-averaged")
    found = bg.compare(
        [
            _posterior(model),
            _fit(model, bg.ML(), 0.0, 0.6, loglik=-31.4, loglik_kind="quadrature", npar=3),
            _fit(model, bg.PQL(), 0.3, 0.42, messages=(note,)),
            gee,
        ]
    )
    found.failures["Broken"] = FAILURE
    return found


@pytest.fixture(scope="session")
def about():
    """Headings of the report, one of them marked up."""
    return About("Herds & <i>periods</i>", "Does incidence *fall*?", seed=7, notes="A note.")


@pytest.fixture(scope="session")
def material(about, comparison, model):
    """What the sections draw on."""
    return Material(about, comparison, model, "bayes-glmm compare herds.toml")


@pytest.fixture(scope="session")
def document(about, comparison):
    """The content of the report."""
    return make_document(about, comparison, "bayes-glmm compare herds.toml")
