"""ML() against glmmTMB, lme4 and exact quadrature, and at the edges."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.methods import NotServedError

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
TOENAIL = "y01 ~ treatment * time + (1 | patient_id)"
BACTERIA = "y01 ~ trt + week_gt2 + (1 | id)"
EPIL = "y ~ log_base4 * trt + log_age + v4 + (1 | subject)"
OHIO = "resp ~ age * smoke + (1 | id)"
BROOD = "ticks ~ year + height_scaled + (1 | brood)"

# data set, entry -> formula, family, link, nodes
REFERENCE = {
    ("cbpp", "exact"): (CBPP, "binomial", None, "auto"),
    ("cbpp", "laplace_tmb"): (CBPP, "binomial", None, 1),
    ("bacteria", "exact"): (BACTERIA, "bernoulli", None, "auto"),
    ("bacteria", "laplace_tmb"): (BACTERIA, "bernoulli", None, 1),
    ("bacteria", "probit_exact"): (BACTERIA, "bernoulli", "probit", "auto"),
    ("toenail", "exact"): (TOENAIL, "bernoulli", None, "auto"),
    ("toenail", "laplace_tmb"): (TOENAIL, "bernoulli", None, 1),
    ("epil", "bc2_exact"): (EPIL, "poisson", None, "auto"),
    ("epil", "bc2_laplace_tmb"): (EPIL, "poisson", None, 1),
    ("epil", "bc3_laplace_tmb"): (EPIL + " + (1 | obs)", "poisson", None, 1),
    ("epil", "bc4_laplace_tmb"): (
        "y ~ log_base4 * trt + log_age + visit + (1 + visit | subject)",
        "poisson",
        None,
        1,
    ),
    ("ohio", "exact"): (OHIO, "bernoulli", None, "auto"),
    ("ohio", "laplace_tmb"): (OHIO, "bernoulli", None, 1),
    ("ohio", "probit_exact"): (OHIO, "bernoulli", "probit", "auto"),
    ("grouseticks", "brood_exact"): (BROOD, "poisson", None, "auto"),
    ("grouseticks", "brood_laplace_tmb"): (BROOD, "poisson", None, 1),
    ("grouseticks", "three_laplace_tmb"): (
        "ticks ~ year + height_scaled + (1 | brood) + (1 | index) + (1 | location)",
        "poisson",
        None,
        1,
    ),
    ("sleepstudy", "slope_ml"): ("reaction ~ days + (days | subject)", "gaussian", None, "auto"),
    ("sleepstudy", "uncor_ml"): ("reaction ~ days + (days || subject)", "gaussian", None, 1),
    ("penicillin", "ml"): ("diameter ~ 1 + (1 | plate) + (1 | sample)", "gaussian", None, "auto"),
}


def model(dataset, formula, family, link=None):
    return bg.GLMM(formula, bg.load_dataset(dataset), family=family, link=link)


def agree(fit, expected, estimates=1e-3):
    """Log-likelihood to 1e-4, estimates to ``estimates`` SE, standard errors to 1e-3."""
    fixed = pd.DataFrame(expected["fixed"]).T
    assert fit.loglik == pytest.approx(expected["loglik"], abs=1e-4)
    assert np.max(np.abs(fit.beta - fixed["est"]) / fixed["se"]) < estimates
    np.testing.assert_allclose(fit.se(), fixed["se"], rtol=1e-3)
    table = fit.varcorr()
    sds = {
        (group.split(".")[0], term): value
        for group, parts in expected["random"].items()
        for term, value in parts["sd"].items()
    }
    for (group, term), value in sds.items():
        name = "Intercept" if term == "(Intercept)" else term
        row = table[(table.group == group) & (table.term == name) & table.sd.notna()]
        error = fit.variance.std_error[row.index[0]]
        assert abs(row.sd.item() - value) < estimates * error
    assert fit.converged


@pytest.mark.parametrize(("dataset", "entry"), REFERENCE)
def test_against_reference(dataset, entry, reference):
    formula, family, link, nodes = REFERENCE[dataset, entry]
    fit = model(dataset, formula, family, link).fit(bg.ML(nodes=nodes))
    expected = reference(dataset, entry)
    agree(fit, expected)
    for group, part in expected["random"].items():
        if "log_sd_se" in part:
            row = fit.variance.components.index(
                next(c for c in fit.variance.components if c.group == group)
            )
            relative = fit.variance.std_error[row] / fit.variance.estimate[row]
            assert relative == pytest.approx(part["log_sd_se"], rel=1e-3)


def test_salamander(reference):
    path = Path(__file__).parents[3] / "shared" / "data" / "salamander_mating.csv"
    if not path.exists():
        pytest.skip("the salamander data are not committed and the shared folder is not present")
    formula = "mate ~ 0 + cross + (1 | female) + (1 | male)"
    fit = bg.GLMM(formula, pd.read_csv(path), family="bernoulli").fit("laplace")
    expected = reference("salamander_mating", "laplace_tmb")
    agree(fit, expected)
    assert fit.loglik == pytest.approx(-209.27659, abs=1e-5)


def test_conditional_modes_are_lme4s(reference):
    # lme4's curvature at the mode is the Fisher one, the same for the canonical link; its
    # estimates differ from ours by 1e-5 SE
    fit = model("cbpp", CBPP, "binomial").fit(bg.ML(nodes=25))
    table = fit.ranef().set_index("level")
    for level, value in reference("cbpp", "agq25")["ranef_head"]["herd"].items():
        assert table.estimate[level] == pytest.approx(value["(Intercept)"]["mode"], abs=1e-4)
        assert table.sd[level] == pytest.approx(value["(Intercept)"]["sd"], abs=1e-4)


def test_modes_of_crossed_factors_are_lme4s(reference):
    formula = "ticks ~ year + height_scaled + (1 | brood) + (1 | index) + (1 | location)"
    fit = model("grouseticks", formula, "poisson").fit("laplace")
    table = fit.ranef().set_index(["group", "level"])
    # lme4 (other optimiser) agrees with glmmTMB to 1e-3 here
    for group, levels in reference("grouseticks", "three_laplace")["ranef_head"].items():
        for level, value in levels.items():
            mode, sd = value["(Intercept)"]["mode"], value["(Intercept)"]["sd"]
            assert table.estimate[group, level] == pytest.approx(mode, abs=2e-3)
            assert table.sd[group, level] == pytest.approx(sd, abs=2e-3)


def test_nodes_are_raised_until_the_answer_settles():
    fit = model("toenail", TOENAIL, "bernoulli").fit(bg.ML(tolerance=1e-4))
    table = fit.details["node_table"]
    assert list(table.columns) == ["nodes", "loglik", "sd_patient_id[Intercept]"]
    changes = table.loglik.diff().abs()
    assert np.all(changes.iloc[-2:] < 1e-4) and changes.iloc[-3] > 1e-4
    assert fit.details["nodes"] == table.nodes.iloc[-1] >= 61
    assert fit.loglik_kind == f"adaptive quadrature, {table.nodes.iloc[-1]} nodes"
    assert fit.label == "ML"


def test_nodes_that_are_not_enough_are_reported(monkeypatch):
    monkeypatch.setattr("bayes_glmm.frequentist.ml.LADDERS", {1: (3, 5, 7)})
    fit = model("toenail", TOENAIL, "bernoulli").fit(bg.ML())
    assert fit.details["nodes"] == 7
    assert "nodes-too-few" in [m.code for m in fit.messages]


def test_posterior_means_beside_modes():
    fit = model("cbpp", CBPP, "binomial").fit(bg.ML(nodes=25))
    means = fit.details["posterior_means"]["herd"]
    modes = fit.effects["herd"]
    assert means["estimate"].shape == modes.estimate.shape
    assert 0.001 < np.abs(means["estimate"] - modes.estimate).max() < 0.1
    np.testing.assert_allclose(means["sd"], modes.sd, rtol=0.2)


def test_vector_effects_by_quadrature():
    formula = "y ~ log_base4 * trt + log_age + visit + (1 + visit | subject)"
    epil = model("epil", formula, "poisson")
    laplace, fit = epil.fit("laplace"), epil.fit(bg.ML())
    assert fit.details["nodes"] > 1 and not fit.messages
    # Poisson counts of this size: Laplace is close, quadrature settles to 1e-5
    assert 1e-4 < abs(fit.loglik - laplace.loglik) < 0.5
    assert fit.loglik == pytest.approx(epil.fit(bg.ML(nodes=25)).loglik, abs=2e-5)


@pytest.mark.parametrize("terms", ["(1 + x | g)", "(x || g)", "(1 | g) + (0 + x | g)"])
def test_parameters_and_covariances_have_their_places(terms):
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(40), 8)
    x = rng.normal(size=320)
    b = rng.normal(size=(40, 2)) * [0.8, 0.5]
    eta = 1 + 0.3 * x + b[g, 0] + b[g, 1] * x
    data = pd.DataFrame({"y": rng.poisson(np.exp(eta)), "x": x, "g": g})
    fit = bg.GLMM(f"y ~ x + {terms}", data, family="poisson").fit("laplace")
    correlated = terms == "(1 + x | g)"
    assert fit.npar == 4 + correlated
    assert fit.joint_cov.shape == (4 + correlated, 4 + correlated)
    np.testing.assert_allclose(fit.joint_cov[:2, :2], fit.vcov())
    sds = fit.varcorr().sd.dropna()
    np.testing.assert_allclose(
        np.sqrt(np.diag(fit.joint_cov))[2:4], fit.variance.std_error[:2] / sds, rtol=1e-10
    )
    # within 4 SE of the truth
    assert np.all(np.abs(sds - [0.8, 0.5]) < 4 * fit.variance.std_error[:2])


def zero_variance(seed=1, groups=20, size=5):
    """Bernoulli data whose groups vary less than chance alone makes them."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), size)
    y = np.tile((np.arange(size) < 2).astype(int), groups)
    return pd.DataFrame({"y": y, "x": rng.normal(size=len(g)), "g": g})


@pytest.mark.parametrize("nodes", [1, 15, "auto"])
def test_a_zero_variance_is_zero_and_says_so(nodes):
    m = bg.GLMM("y ~ x + (1 | g)", zero_variance(), family="bernoulli")
    fit, glm = m.fit(bg.ML(nodes=nodes)), m.fit("glm")
    assert fit.variance.estimate[0] == 0.0 and np.isnan(fit.variance.std_error[0])
    assert [message.code for message in fit.messages] == ["zero-variance"]
    assert fit.loglik == pytest.approx(glm.loglik, abs=1e-9)
    np.testing.assert_allclose(fit.beta, glm.beta, atol=1e-6)
    np.testing.assert_allclose(fit.se(), glm.se(), rtol=1e-3)
    assert np.isnan(fit.joint_cov[2]).all() and fit.converged
    assert np.all(fit.effects["g"].estimate == 0) and np.all(fit.effects["g"].sd == 0)
    assert np.isnan(fit.confint().conf_low.iloc[2])


def test_one_of_two_variances_zero():
    data = zero_variance(groups=30, size=6)
    rng = np.random.default_rng(5)
    data["h"] = rng.integers(0, 12, len(data))
    b = rng.normal(scale=1.5, size=12)
    data["y"] = (rng.random(len(data)) < 1 / (1 + np.exp(-b[data["h"]]))).astype(int)
    alone = bg.GLMM("y ~ x + (1 | h)", data, family="bernoulli").fit("laplace")
    fit = bg.GLMM("y ~ x + (1 | g) + (1 | h)", data, family="bernoulli").fit("laplace")
    if fit.variance.estimate[0] == 0.0:
        assert fit.loglik == pytest.approx(alone.loglik, abs=1e-6)
        np.testing.assert_allclose(fit.variance.estimate[1], alone.variance.estimate[0], rtol=1e-4)
    assert fit.loglik >= alone.loglik - 1e-6


def test_scale_and_order_do_not_matter():
    data = bg.load_dataset("epil")
    base = bg.GLMM(EPIL, data, family="poisson").fit(bg.ML(nodes=9))
    odd = data.sample(frac=1, random_state=1).assign(log_age=lambda d: d["log_age"] * 1e7 + 3e8)
    fit = bg.GLMM(EPIL, odd, family="poisson").fit(bg.ML(nodes=9))
    assert fit.loglik == pytest.approx(base.loglik, abs=1e-7)
    assert fit.beta[3] * 1e7 == pytest.approx(base.beta[3], rel=1e-4)
    assert fit.converged
    assert list(fit.ranef().level) == list(base.ranef().level)
    np.testing.assert_allclose(fit.ranef().estimate, base.ranef().estimate, atol=1e-4)


def test_no_fixed_effects():
    data = bg.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ 0 + (1 | herd)"
    for nodes in (1, 9):
        fit = bg.GLMM(formula, data, family="binomial").fit(bg.ML(nodes=nodes))
        assert fit.converged and fit.beta.shape == (0,) and fit.variance.estimate[0] > 1


def test_gaussian_identity_is_exact():
    fit = model("sleepstudy", "reaction ~ days + (1 | subject)", "gaussian").fit(bg.ML())
    assert fit.loglik_kind == "exact" and not fit.messages
    assert fit.dispersion == pytest.approx(30.895, abs=1e-2)
    nine = model("sleepstudy", "reaction ~ days + (1 | subject)", "gaussian").fit(bg.ML(nodes=9))
    assert nine.loglik == pytest.approx(fit.loglik, abs=1e-8)


def test_crossed_factors_are_served_by_laplace():
    m = model("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "gaussian")
    with pytest.raises(NotServedError, match=r"2 grouping factors.*neither.*use ML\(nodes=1\)"):
        m.fit(bg.ML(nodes=9))
    data = zero_variance(groups=30).assign(h=lambda d: np.arange(len(d)) % 7)
    fit = bg.GLMM("y ~ x + (1 | g) + (1 | h)", data, family="bernoulli").fit(bg.ML())
    assert "laplace-only" in [message.code for message in fit.messages]
    assert fit.loglik_kind == "Laplace"


def test_a_model_without_random_terms_is_sent_to_glm():
    m = model("epil", "y ~ trt", "poisson")
    with pytest.raises(NotServedError, match=r"use GLM\(\) instead"):
        m.fit("ml")


def test_toenail_is_found_from_its_laplace_and_back():
    """The surface at one node is curved: the search must not stop on the way."""
    fit = model("toenail", TOENAIL, "bernoulli").fit("laplace")
    record = fit.details["optimiser"]
    assert record["decrement"] < 1e-8 and record["evaluations"] < 60
    assert fit.variance.estimate[0] == pytest.approx(4.5709, abs=1e-3)
