"""Boundary tests and profile likelihoods."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import bayes_glmm as bg
from bayes_glmm.frequentist.inference import profile
from bayes_glmm.methods import NotServedError

FOLDER = Path(__file__).parents[1] / "reference"
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
BC4 = "y ~ log_base4 * trt + log_age + visit + (1 + visit | subject)"

# data set, entry of boundary_tests -> formula, family, nodes, group, term
BOUNDARY = {
    ("cbpp", "laplace"): (CBPP, "binomial", 1, "herd", None),
    ("cbpp", "exact_ml"): (CBPP, "binomial", "auto", "herd", "Intercept"),
    ("bacteria", "laplace"): ("y01 ~ trt + week_gt2 + (1 | id)", "bernoulli", 1, "id", None),
    ("bacteria", "exact_ml"): ("y01 ~ trt + week_gt2 + (1 | id)", "bernoulli", "auto", "id", None),
    ("toenail", "exact_ml"): (
        "y01 ~ treatment * time + (1 | patient_id)",
        "bernoulli",
        "auto",
        "patient_id",
        None,
    ),
    ("epil", "exact_ri"): (
        "y ~ log_base4 * trt + log_age + v4 + (1 | subject)",
        "poisson",
        "auto",
        "subject",
        None,
    ),
    ("epil", "slope_laplace"): (BC4, "poisson", 1, "subject", "visit"),
}


def fitted(dataset, formula, family, nodes):
    return bg.GLMM(formula, bg.load_dataset(dataset), family=family).fit(bg.ML(nodes=nodes))


@pytest.fixture(scope="module")
def cbpp():
    return fitted("cbpp", CBPP, "binomial", 25)


@pytest.fixture(scope="module")
def slopes():
    return fitted("epil", BC4, "poisson", 1)


@pytest.mark.parametrize(("dataset", "entry"), BOUNDARY)
def test_against_reference(dataset, entry):
    formula, family, nodes, group, term = BOUNDARY[dataset, entry]
    file = (FOLDER / f"{dataset}.json").read_text(encoding="utf-8")
    expected = json.loads(file)["boundary_tests"][entry]
    test = bg.boundary_test(fitted(dataset, formula, family, nodes), group, term)
    # both log-likelihoods to 1e-4
    assert test.statistic == pytest.approx(expected["lrt"], abs=4e-4)
    (p_value,) = (v for k, v in expected.items() if k.startswith("p_mixture"))
    assert test.p_value == pytest.approx(p_value, rel=1e-3)
    df = (1, 2) if entry == "slope_laplace" else (0, 1)
    assert test.df == df and test.weights == (0.5, 0.5)
    assert test.p_naive == pytest.approx(chi2.sf(test.statistic, df[1]))


def test_the_test_says_what_it_is(cbpp):
    words = repr(bg.boundary_test(cbpp, "herd"))
    assert "Intercept by herd" in words and "0.5 chi2(0) + 0.5 chi2(1)" in words


def test_a_zero_variance_has_p_one():
    y = np.tile([1, 0, 0, 1, 0], 12)
    data = pd.DataFrame({"y": y, "g": np.repeat(np.arange(12), 5)})
    fit = bg.GLMM("y ~ 1 + (1 | g)", data, family="bernoulli").fit(bg.ML(nodes=9))
    test = bg.boundary_test(fit, "g")
    assert test.statistic == 0 and test.p_value == 1
    low, high = fit.confint(method="profile").iloc[1][["conf_low", "conf_high"]]
    assert low == 0 and 0.1 < high < 5


def test_another_zero_variance_is_mentioned():
    rng = np.random.default_rng(1)
    g, h = np.repeat(np.arange(15), 6), rng.integers(0, 10, 90)
    y = np.tile([1, 0, 0, 1, 0, 1], 15)
    data = pd.DataFrame({"y": y, "g": g, "h": h})
    fit = bg.GLMM("y ~ 1 + (1 | g) + (1 | h)", data, family="bernoulli").fit("laplace")
    assert fit.variance.estimate[0] == 0
    assert "sd_g[Intercept] is zero too" in repr(bg.boundary_test(fit, "h"))


def test_unknown_effects_are_refused(cbpp, slopes):
    with pytest.raises(ValueError, match="'cow' is not a grouping factor: use one of herd"):
        bg.boundary_test(cbpp, "cow")
    with pytest.raises(ValueError, match="'x' is not a random effect of 'herd'"):
        bg.boundary_test(cbpp, "herd", "x")
    with pytest.raises(ValueError, match="give term=, one of Intercept, visit"):
        bg.boundary_test(slopes, "subject")
    glm = cbpp.model.fit("glm")
    with pytest.raises(NotServedError, match="use a fit by ML"):
        bg.boundary_test(glm, "herd")
    with pytest.raises(ValueError, match="'period' is not a parameter"):
        profile(cbpp, "period", [0.0])


def test_profile_of_a_standard_deviation(cbpp):
    sd = cbpp.variance.estimate[0]
    grid = np.array([2.0, 0.0, sd, 0.3, 1.0])
    values = profile(cbpp, "sd_herd[Intercept]", grid)
    assert values[2] == pytest.approx(cbpp.loglik, abs=1e-9)
    assert np.all(values <= cbpp.loglik + 1e-9)
    # at zero it is the model without the effect
    assert values[1] == pytest.approx(cbpp.model.fit("glm").loglik, abs=1e-8)


def parameters(fit):
    return [(fit, name) for name in fit.parameter_names]


def test_end_points_lie_where_the_profile_has_fallen(cbpp, slopes):
    fallen = 0.5 * chi2.ppf(0.9, 1)
    for fit in (cbpp, slopes):
        table = fit.confint(0.9, method="profile")
        assert list(table.columns) == ["term", "conf_low", "conf_high"]
        assert list(table.term) == fit.parameter_names
        for name, low, high in table.itertuples(index=False):
            drop = fit.loglik - profile(fit, name, [low, high])
            np.testing.assert_allclose(drop, fallen, atol=1e-4, err_msg=name)


def test_profiles_are_near_wald_where_the_likelihood_is_near_gaussian(slopes):
    wald, found = slopes.confint(), slopes.confint(method="profile")
    width = wald.conf_high - wald.conf_low
    np.testing.assert_allclose(found.conf_low, wald.conf_low, atol=0.08 * width.max())
    np.testing.assert_allclose(found.conf_high, wald.conf_high, atol=0.08 * width.max())


def test_profile_of_a_gaussian_model():
    """Against the closed form of one-way balanced data."""
    rng = np.random.default_rng(4)
    groups, size = 12, 6
    g = np.repeat(np.arange(groups), size)
    y = 1 + rng.normal(size=groups)[g] + rng.normal(size=groups * size)
    fit = bg.GLMM("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g}), family="gaussian").fit("ml")
    means = y.reshape(groups, size).mean(axis=1)
    within = np.sum((y - means[g]) ** 2)
    between = size * np.sum((means - means.mean()) ** 2)
    n = groups * size

    def loglik(sd, residual):
        top = residual**2 + size * sd**2
        logs = (n - groups) * np.log(residual**2) + groups * np.log(top)
        return -0.5 * (n * np.log(2 * np.pi) + logs + within / residual**2 + between / top)

    residuals = np.linspace(0.7, 1.6, 20001)
    for sd in (0.0, 0.5, 1.5):
        (value,) = profile(fit, "sd_g[Intercept]", [sd])
        assert value == pytest.approx(loglik(sd, residuals).max(), abs=1e-6)
    assert fit.confint(method="profile").conf_low.iloc[-1] > 0.5


def test_levels_outside_zero_and_one_are_refused(cbpp):
    with pytest.raises(ValueError, match="between 0 and 1"):
        cbpp.confint(95, method="profile")
