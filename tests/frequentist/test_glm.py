"""GLM() against R's glm, and what it says and refuses to hide."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import bayes_glmm as bg

CASES = {
    ("cbpp", "glm"): ("cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial", None),
    ("toenail", "glm"): ("y01 ~ treatment * time + (1 | patient_id)", "bernoulli", None),
    ("bacteria", "glm"): ("y01 ~ trt + week_gt2", "bernoulli", None),
    ("epil", "glm"): ("y ~ log_base4 * trt + log_age + v4", "poisson", None),
    ("ohio", "glm"): ("resp ~ age * smoke", "bernoulli", None),
    ("ohio", "glm_probit"): ("resp ~ age * smoke", "bernoulli", "probit"),
    ("grouseticks", "glm"): ("ticks ~ year + height_scaled", "poisson", None),
    ("sleepstudy", "ols"): ("reaction ~ days", "gaussian", None),
}


@pytest.mark.parametrize(("dataset", "entry"), CASES)
def test_against_r(dataset, entry, reference):
    formula, family, link = CASES[dataset, entry]
    expected = reference(dataset, entry)
    fit = bg.GLMM(formula, bg.load_dataset(dataset), family=family, link=link).fit("glm")
    fixed = pd.DataFrame(expected["fixed"]).T
    # R stops at a relative change of the deviance of 1e-8, its weights one step earlier
    np.testing.assert_allclose(fit.beta, fixed["est"], atol=1e-4 * fixed["se"].min())
    np.testing.assert_allclose(fit.se(), fixed["se"], rtol=1e-4)
    assert fit.loglik == pytest.approx(expected["loglik"], abs=1e-6)
    assert fit.npar == expected.get("df", len(fit.beta) + (family == "gaussian"))
    assert fit.converged


def test_ignored_random_terms_are_named():
    data = bg.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    with_herd = bg.GLMM(formula, data, family="binomial").fit("glm")
    assert [m.code for m in with_herd.messages] == ["random-terms-ignored"]
    assert "(Intercept | herd)" in with_herd.messages[0].happened
    without = bg.GLMM(formula.replace(" + (1 | herd)", ""), data, family="binomial").fit("glm")
    assert not without.messages
    np.testing.assert_allclose(without.beta, with_herd.beta)


@pytest.mark.parametrize("link", ["cloglog", "probit"])
def test_offsets_and_links_against_statsmodels(link):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"x": rng.normal(size=200), "o": rng.normal(scale=0.3, size=200)})
    data["y"] = rng.integers(0, 2, 200)
    fit = bg.GLMM("y ~ x + offset(o)", data, family="bernoulli", link=link).fit("glm")
    theirs = sm.GLM(
        data["y"],
        sm.add_constant(data[["x"]]),
        family=sm.families.Binomial(
            link={"cloglog": sm.families.links.CLogLog(), "probit": sm.families.links.Probit()}[
                link
            ]
        ),
        offset=data["o"],
    ).fit(tol=1e-12)
    np.testing.assert_allclose(fit.beta, theirs.params, atol=1e-6)
    np.testing.assert_allclose(fit.se(), theirs.bse, rtol=1e-4)
    assert fit.loglik == pytest.approx(theirs.llf, abs=1e-8)


def test_gaussian_with_a_log_link():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"x": rng.normal(size=100)})
    data["y"] = np.exp(1 + 0.5 * data["x"]) + rng.normal(scale=0.4, size=100)
    fit = bg.GLMM("y ~ x", data, family="gaussian", link="log").fit("glm")
    theirs = sm.GLM(
        data["y"],
        sm.add_constant(data[["x"]]),
        family=sm.families.Gaussian(sm.families.links.Log()),
    ).fit(tol=1e-12)
    np.testing.assert_allclose(fit.beta, theirs.params, atol=1e-6)
    np.testing.assert_allclose(fit.se(), theirs.bse, rtol=1e-5)
    residual = data["y"] - np.exp(fit.beta[0] + fit.beta[1] * data["x"])
    assert fit.dispersion == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-8)


def test_separated_data_stop_with_finite_numbers():
    data = pd.DataFrame({"x": np.arange(20.0), "y": (np.arange(20) >= 10).astype(int)})
    fit = bg.GLMM("y ~ x", data, family="bernoulli").fit("glm")
    assert np.all(np.isfinite(fit.beta)) and fit.loglik > -1e-3
    assert "separation" in [m.code for m in fit.messages]


def test_a_constant_response():
    data = pd.DataFrame({"x": np.arange(6.0), "y": np.zeros(6, int)})
    fit = bg.GLMM("y ~ 1", data, family="poisson").fit("glm")
    assert np.all(np.isfinite(fit.beta)) and np.exp(fit.beta[0]) < 1e-5
