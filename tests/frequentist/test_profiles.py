"""Profile likelihoods at and near the ends of a parameter's range, and as frames for plots."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, minimize
from scipy.stats import chi2, norm

import bayes_glmm as bg
from bayes_glmm.frequentist.inference import profile
from bayes_glmm.frequentist.profiles import likelihood_of
from bayes_glmm.methods import NotServedError

Z = norm.ppf(0.975)


@pytest.fixture(scope="module")
def cbpp():
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return bg.GLMM(formula, bg.load_dataset("cbpp"), family="binomial").fit(bg.ML(nodes=9))


def slopes(seed):
    """Few groups with a small slope SD: its correlation is estimated at or near one."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(15), 6), np.tile(np.linspace(-1, 1, 6), 15)
    y = rng.poisson(np.exp(0.5 + rng.normal(size=15)[g] * 0.7 * (1 + 0.5 * x)))
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    return bg.GLMM("y ~ x + (x | g)", data, family="poisson").fit(bg.ML(nodes=3))


@pytest.fixture(scope="module")
def at_one():
    fit = slopes(1)
    assert fit.variance.estimate[2] == pytest.approx(1, abs=1e-6)
    return fit


def brute_force_correlation(fit, rho):
    """The same maximum over coefficients and non-negative SDs by SciPy's simplex search."""
    likelihood, x, _ = likelihood_of(fit)
    p = likelihood.layout.p

    def negative(free):
        sd1, sd2 = free[p:]
        theta = [sd1, rho * sd2, np.sqrt(1 - rho**2) * sd2]
        return -likelihood(np.r_[free[:p], theta])[0]

    bounds = [(None, None)] * p + [(0, None)] * 2
    options = {"maxiter": 2000, "xatol": 1e-6, "fatol": 1e-8}
    found = [
        minimize(negative, [*x[:p], 0.4, sd], bounds=bounds, method="Nelder-Mead", options=options)
        for sd in (0.01, 0.3)
    ]
    return -min(f.fun for f in found)


@pytest.mark.parametrize("rho", [-1.0, -0.5, 0.3, 0.95])
def test_profile_of_a_correlation_against_brute_force(at_one, rho):
    (found,) = profile(at_one, "corr_g[Intercept~x]", [rho])
    # the simplex stops within about 1e-6 of the maximum
    assert found == pytest.approx(brute_force_correlation(at_one, rho), abs=1e-5)


def test_a_correlation_is_free_where_one_sd_may_be_zero(at_one):
    null = profile(at_one, "sd_g[x]", [0.0])[0]
    assert 2 * (at_one.loglik - null) < chi2.ppf(0.95, 1)
    limits = at_one.confint(method="profile").set_index("term").loc["corr_g[Intercept~x]"]
    assert tuple(limits) == (-1.0, 1.0)
    # at 50 % the SD is not within reach of zero, so that the correlation is bounded below
    limits = at_one.confint(0.5, method="profile").set_index("term").loc["corr_g[Intercept~x]"]
    assert -1 < limits.conf_low < 1 and limits.conf_high == 1
    (low,) = profile(at_one, "corr_g[Intercept~x]", [limits.conf_low])
    assert 2 * (at_one.loglik - low) == pytest.approx(chi2.ppf(0.5, 1), abs=1e-4)


def test_wald_gives_no_interval_for_a_correlation_of_one(at_one):
    wald = at_one.confint().set_index("term").loc["corr_g[Intercept~x]"]
    assert wald.isna().all()


def test_a_variance_that_is_zero_at_the_estimate_may_be_positive_along_a_profile():
    """The derivative by an SD of zero is zero: a search that starts there would stay."""
    g = np.repeat(np.arange(10), 8)
    y = np.tile([3, 1, 2, 0, 2, 1, 4, 3], 10)  # every group alike: no variation between them
    x = np.where(g % 2, 1.0, -1.0)
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    fit = bg.GLMM("y ~ x + (1 | g)", data, family="poisson").fit(bg.ML(nodes=9))
    assert fit.variance.estimate[0] == 0
    likelihood, _, _ = likelihood_of(fit)

    def negative(free):
        return -likelihood(np.array([free[0], 1.0, free[1]]))[0]

    best = minimize(negative, [0.5, 1.0], method="Nelder-Mead", options={"xatol": 1e-6})
    assert best.x[1] > 0.3
    # the simplex stops within 1e-4 of log-likelihood
    assert profile(fit, "x", [1.0])[0] == pytest.approx(-best.fun, abs=2e-4)


def test_frame_covers_three_zetas_and_agrees_with_the_intervals(cbpp):
    frame = cbpp.profile()
    assert list(frame.columns) == ["parameter", "value", "loglik", "zeta"]
    assert list(frame.parameter.unique()) == cbpp.parameter_names
    limits = cbpp.confint(method="profile").set_index("term")
    for name, table in frame.groupby("parameter"):
        assert table.value.is_monotonic_increasing and table.zeta.is_monotonic_increasing
        # the walk ends at the first point beyond 3; it aims at 3 by the slope of the last point
        np.testing.assert_allclose(table.zeta.iloc[[0, -1]], [-3, 3], atol=0.05)
        assert 20 <= len(table) <= 32
        drop = cbpp.loglik - table.loglik
        np.testing.assert_allclose(table.zeta**2, 2 * drop, atol=1e-9)
        # linear interpolation between points 0.25 apart on a nearly linear curve
        ends = np.interp([-Z, Z], table.zeta, table.value)
        width = limits.loc[name].conf_high - limits.loc[name].conf_low
        np.testing.assert_allclose(ends, limits.loc[name], atol=2e-3 * width)


def test_frame_of_some_parameters_and_fewer_points(cbpp):
    (name,) = cbpp.profile("sd_herd[Intercept]", points=7).parameter.unique()
    assert name == "sd_herd[Intercept]"
    assert 6 <= len(cbpp.profile(["Intercept"], points=7)) <= 10
    with pytest.raises(ValueError, match="points=3"):
        cbpp.profile(points=3)
    with pytest.raises(ValueError, match="'herd' is not a parameter"):
        cbpp.profile("herd")
    with pytest.raises(NotServedError, match="use a fit by ML"):
        cbpp.model.fit("pql").profile()


def test_frame_of_an_sd_begins_at_zero_and_of_a_correlation_ends_at_one(at_one):
    frame = at_one.profile(["sd_g[x]", "corr_g[Intercept~x]"])
    sd, corr = (t for _, t in frame.groupby("parameter", sort=False))
    assert sd.value.iloc[0] == 0 and sd.zeta.iloc[0] > -3
    assert corr.value.iloc[-1] == pytest.approx(1) and corr.value.iloc[0] == -1
    # nowhere below the likelihood with the slope's SD at zero
    assert corr.loglik.min() == pytest.approx(sd.loglik.iloc[0], abs=1e-8)


def test_a_correlation_with_an_sd_of_zero_is_anything():
    g, x = np.repeat(np.arange(10), 8), np.tile(np.linspace(-1, 1, 8), 10)
    y = np.tile([4, 2, 1, 0, 1, 2, 4, 2], 10) * np.where(g > 5, 3, 1)
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    fit = bg.GLMM("y ~ x + (x | g)", data, family="poisson").fit("laplace")
    assert fit.variance.estimate[1] == 0 and np.isnan(fit.variance.estimate[2])
    limits = fit.confint(method="profile").set_index("term").loc["corr_g[Intercept~x]"]
    assert tuple(limits) == (-1.0, 1.0)
    frame = fit.profile("corr_g[Intercept~x]")
    assert list(frame.value) == [-1, 1] and np.all(frame.zeta == 0)


def test_profile_of_a_glm_against_its_deviance():
    data = bg.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period"
    fit = bg.GLMM(formula, data, family="binomial").fit("glm")
    held = "cbind(incidence, size - incidence) ~ second + third + offset(o)"
    period = data.period.astype(str)
    data = data.assign(second=1.0 * (period == "2"), third=1.0 * (period == "3"))

    def loglik(value):  # of period 4 held at value
        o = np.where(period == "4", value, 0.0)
        return bg.GLMM(held, data.assign(o=o), family="binomial").fit("glm").loglik

    high = brentq(lambda v: 2 * (fit.loglik - loglik(v)) - Z**2, -1.5, 0.5)
    limits = fit.confint(method="profile").set_index("term").loc["period[T.4]"]
    assert limits.conf_high == pytest.approx(high, abs=1e-4)  # of a standard error of 0.4


def test_profile_of_a_gaussian_glm_reaches_its_dispersion():
    """Closed form: ``-2 log LR`` of a residual SD ``s`` is ``n (r - 1 - log r)``."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.normal(size=30)})
    fit = bg.GLMM("y ~ 1", data, family="gaussian").fit("glm")
    sd = np.std(data.y)
    for s in fit.confint(method="profile").set_index("term").loc["dispersion"]:
        ratio = (sd / s) ** 2
        assert 30 * (ratio - 1 - np.log(ratio)) == pytest.approx(Z**2, abs=1e-3)


def test_a_limit_that_does_not_exist_is_infinite():
    """Separation: one level has successes only, so its coefficient has no upper limit."""
    x = np.repeat([0, 1], 30)
    y = np.r_[np.tile([0, 1, 1], 10), np.ones(30)].astype(int)
    fit = bg.GLMM("y ~ x", pd.DataFrame({"y": y, "x": x}), family="bernoulli").fit("glm")
    limits = fit.confint(method="profile").set_index("term").loc["x"]
    assert limits.conf_high == np.inf and 0 < limits.conf_low < 10
    (low,) = profile(fit, "x", [limits.conf_low])
    assert 2 * (fit.loglik - low) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-3)
    assert np.isfinite(fit.profile("x").value).all()


def test_separation_ends_in_a_fit_and_its_profile_is_open():
    """The same with a random effect: the search ends far out, flat, with a message."""
    x = np.repeat([0, 1], 30)
    y = np.r_[np.tile([0, 1, 1], 10), np.ones(30)].astype(int)
    data = pd.DataFrame({"y": y, "x": x, "g": np.tile(np.arange(10), 6)})
    fit = bg.GLMM("y ~ x + (1 | g)", data, family="bernoulli").fit(bg.ML(nodes=5))
    assert "separation" in [m.code for m in fit.messages]
    limits = fit.confint(method="profile").set_index("term").loc["x"]
    assert limits.conf_high == np.inf
    # without variation between groups the lower limit is that without random effects, above
    assert limits.conf_low == pytest.approx(1.8876, abs=1e-3)
