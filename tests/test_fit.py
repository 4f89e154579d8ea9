"""The result contract, on fits whose numbers are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from standin import BETA, ERRORS, VARIANCE, VCOV, asymptotic_fit, posterior_fit

import bayes_glmm as bg
from bayes_glmm.fit import HEAVY, heavy

TERMS = ["Intercept", "x"]
NAMES = [*TERMS, "sd_g[Intercept]", "sd_g[x]", "corr_g[Intercept~x]", "dispersion"]


@pytest.fixture(scope="module")
def fit():
    return asymptotic_fit()


@pytest.fixture(scope="module")
def posterior():
    return posterior_fit()


@pytest.mark.parametrize(
    "function",
    [
        lambda model: bg.anova(model, model),
        bg.icc,
        bg.median_ratio,
        lambda model: bg.heritability(model, "herd"),
        lambda model: bg.rank_levels(model, "herd"),
        lambda model: bg.boundary_test(model, "herd"),
        lambda model: bg.wald_test(model, "period"),
        lambda model: bg.score_test(model, "period"),
        lambda model: bg.trend(model, "time"),
        lambda model: bg.plot_trend(model, "time"),
        bg.variogram,
        bg.plot_variogram,
        bg.plot_residuals,
    ],
)
def test_a_model_that_was_not_fitted_is_refused(function):
    with pytest.raises(ValueError, match=r"got a GLMM: give a fit, as model\.fit\('ml'\)"):
        function(asymptotic_fit().model)


def test_coefficients_and_errors_are_labelled(fit):
    assert list(fit.fixef().index) == TERMS
    np.testing.assert_allclose(fit.se(), np.sqrt(np.diag(VCOV)))
    np.testing.assert_allclose(fit.se("robust"), 2 * fit.se("model"))
    assert fit.vcov().loc["Intercept", "x"] == -0.01


def test_an_absent_kind_of_covariance_is_refused(fit):
    with pytest.raises(ValueError, match="has no 'naive' covariance: use 'model' or 'robust'"):
        fit.se("naive")


def test_varcorr_has_a_row_per_sd_and_per_pair(fit):
    table = fit.varcorr()
    assert list(table.columns) == ["group", "term", "term2", "sd", "corr"]
    assert list(table["sd"].dropna()) == [0.8, 0.3]
    pair = table.iloc[2]
    assert (pair["term"], pair["term2"], pair["corr"]) == ("Intercept", "x", -0.4)
    assert fit.dispersion == 1.2


def test_wald_limits_by_hand(fit):
    table = fit.confint(0.9).set_index("term")
    assert list(table.index) == NAMES
    z = stats.norm.ppf(0.95)
    assert table.loc["x", "conf_low"] == pytest.approx(-1.0 - z * 0.3)
    assert table.loc["sd_g[x]", "conf_high"] == pytest.approx(0.3 * np.exp(z * 0.1 / 0.3))
    low = np.tanh(np.arctanh(-0.4) - z * 0.25 / (1 - 0.16))
    assert table.loc["corr_g[Intercept~x]", "conf_low"] == pytest.approx(low)


def test_posterior_limits_are_quantiles_of_the_draws(posterior):
    table = posterior.confint().set_index("term")
    draws = posterior.draws["posterior"]
    expected = np.quantile(draws["sd_g"][..., 1], [0.025, 0.975])
    np.testing.assert_allclose(table.loc["sd_g[x]"], expected)
    assert posterior.interval_kind == "equal-tailed posterior"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": 1.5}, "must lie between 0 and 1"),
        ({"method": "posterior"}, "use 'wald', 'profile' or 'boot'"),
    ],
)
def test_confint_refuses_what_it_cannot_give(fit, options, words):
    with pytest.raises(ValueError, match=words):
        fit.confint(**options)


def test_tidy_has_broom_mixed_columns_in_order(fit):
    table = fit.tidy(("fixed", "ran_pars", "ran_vals"))
    assert list(table.columns) == (
        ["effect", "group", "level", "term", "estimate", "std_error", "conf_low", "conf_high"]
    )
    assert list(table["effect"].value_counts()[["fixed", "ran_pars", "ran_vals"]]) == [2, 4, 8]
    assert list(table["estimate"][:6]) == [*BETA, *VARIANCE]
    assert list(table["std_error"][2:6]) == list(ERRORS)


def test_group_effects_follow_the_levels(fit):
    table = fit.ranef()
    assert list(table.columns) == ["group", "level", "term", "estimate", "sd"]
    b_slope = table[(table["level"] == "b") & (table["term"] == "x")]
    assert b_slope["estimate"].item() == pytest.approx(0.3)


def test_group_effect_limits_come_from_draws(posterior):
    table = posterior.tidy(("ran_vals",)).set_index(["level", "term"])
    draws = posterior.draws["posterior"]["b_g"].sel(g="c", g_term="x")
    assert table.loc[("c", "x"), "conf_low"] == pytest.approx(np.quantile(draws, 0.025))


def test_glance_and_aic(fit, posterior):
    row = fit.glance().iloc[0]
    assert row["aic"] == 2 * 6 + 20
    assert row["seconds"] == pytest.approx(0.6)
    assert posterior.aic is None
    assert posterior.loglik is None


def test_a_zero_sd_has_no_wald_interval():
    fit = asymptotic_fit()
    zero = fit.variance.estimate.copy()
    zero[1] = 0.0
    errors = fit.variance.std_error.copy()
    errors[1] = np.nan
    variance = type(fit.variance)(fit.variance.components, zero, errors)
    low, high = variance.interval(0.95)
    assert np.isnan([low[1], high[1]]).all()
    assert np.isfinite(np.delete(low, 1)).all()


def test_asymptotic_draws_have_the_moments_of_the_fit(fit):
    tree = fit.to_datatree()
    posterior = tree["posterior"]
    assert tree.attrs["kind"] == "asymptotic"
    assert dict(posterior.sizes) == {
        "chain": 4, "draw": 1000, "term": 2, "g_term": 2, "g_pair": 1, "g": 4
    }  # fmt: skip
    beta = posterior["beta"].to_numpy().reshape(-1, 2)
    # 4,000 independent draws: the standard error of a mean is sd / sqrt(4000); 4 of them
    assert np.all(np.abs(beta.mean(0) - BETA) < 4 * np.sqrt(np.diag(VCOV) / 4000))
    # of a covariance, sqrt((v_ii v_jj + v_ij^2) / 4000)
    error = np.sqrt((np.outer(np.diag(VCOV), np.diag(VCOV)) + VCOV**2) / 4000)
    assert np.all(np.abs(np.cov(beta.T) - VCOV) < 4 * error)
    logs = np.log(posterior["sd_g"].to_numpy().reshape(-1, 2))
    np.testing.assert_allclose(logs.mean(0), np.log([0.8, 0.3]), atol=4 * 0.34 / np.sqrt(4000))


def test_asymptotic_draws_repeat_with_the_seed(fit):
    a, b = fit.to_datatree(), fit.to_datatree()
    assert a.identical(b)


def test_draws_are_handed_out_as_they_are(posterior):
    assert posterior.to_datatree() is posterior.draws


def test_repr_shows_estimates_and_messages(fit):
    text = repr(fit)
    assert "Laplace of y ~ x + (1 + x | g) (conditional)" in text
    assert "corr(Intercept, x)" in text
    assert "[zero-variance]" in text


@pytest.mark.parametrize("verb", HEAVY)
def test_every_heavy_verb_is_where_the_table_says(verb):
    assert callable(heavy(verb))


def test_predictions_of_the_fitted_rows_by_hand(fit):
    table = fit.predict()
    frame = fit.model.design.frame
    levels = {"a": 0, "b": 1, "c": 2, "d": 3}
    b = fit.effects["g"].estimate[[levels[g] for g in frame["g"]]]
    x = frame["x"].to_numpy()
    np.testing.assert_allclose(table["estimate"], 0.5 - x + b[:, 0] + b[:, 1] * x)
    assert list(table.index) == list(frame.index)
    assert table["std_error"].isna().all()


def test_predictions_without_group_effects_have_delta_method_errors(fit):
    table = fit.predict({"x": [0.0, 2.0]}, effects="zero")
    np.testing.assert_allclose(table["estimate"], [0.5, -1.5])
    expected = [0.2, np.sqrt(0.04 - 4 * 0.01 + 4 * 0.09)]
    np.testing.assert_allclose(table["std_error"], expected)


def test_an_unseen_level_is_named(fit):
    with pytest.raises(ValueError, match="new"):
        fit.predict(pd.DataFrame({"x": [0.0], "g": ["new"]}))


def test_posterior_predictions_are_summaries_of_draws(posterior):
    new = {"x": [1.0], "g": ["d"]}
    draws = posterior.draws["posterior"]
    eta = draws["beta"].sum("term") + draws["b_g"].sel(g="d").sum("g_term")
    row = posterior.predict(new).iloc[0]
    assert row["estimate"] == pytest.approx(float(eta.mean()))
    assert row["conf_high"] == pytest.approx(np.quantile(eta, 0.975))


@pytest.mark.parametrize("option", [{"scale": "odds"}, {"effects": "marginal"}])
def test_unknown_prediction_options_are_refused(fit, option):
    with pytest.raises(ValueError, match="is not known: use"):
        fit.predict(**option)


def test_simulated_responses_have_the_model_moments(fit):
    draws = fit.simulate(n=4000, seed=5)
    d = fit.model.design.in_user_order()
    R = np.array([[0.8**2, -0.4 * 0.8 * 0.3], [-0.4 * 0.8 * 0.3, 0.3**2]])
    variance = np.einsum("ni,ij,nj->n", d.X, R, d.X) + 1.2**2
    # 4 standard errors of a mean, and of a variance (sqrt(2 / n) relative)
    assert np.all(np.abs(draws.mean(axis=1) - d.X @ BETA) < 4 * np.sqrt(variance / 4000))
    assert np.all(np.abs(draws.var(axis=1) / variance - 1) < 4 * np.sqrt(2 / 4000))


def test_simulation_from_a_posterior_uses_its_draws(posterior):
    table = posterior.simulate(n=3)
    assert table.shape == (12, 3)
    assert table.equals(posterior.simulate(n=3))


@pytest.mark.parametrize("make", [asymptotic_fit, posterior_fit])
def test_a_fit_is_the_same_after_saving(make, tmp_path):
    fit = make()
    path = fit.save(tmp_path / "a.fit")
    back = bg.load_fit(path)
    pd.testing.assert_frame_equal(back.tidy(), fit.tidy())
    pd.testing.assert_frame_equal(back.ranef(), fit.ranef())
    pd.testing.assert_frame_equal(back.model.design.frame, fit.model.design.frame)
    assert back.messages == fit.messages
    assert (back.method, back.label, back.loglik) == (fit.method, fit.label, fit.loglik)
    assert back.details.keys() == fit.details.keys()
    assert back.to_datatree().identical(fit.to_datatree())
    assert not list(tmp_path.glob("*.part"))


def test_saving_keeps_factors_and_priors(tmp_path):
    model = bg.GLMM(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        bg.load_dataset("cbpp"),
        family="binomial",
        link="probit",
        priors=bg.Priors(sd=bg.HalfNormal(1.0), beta_for={"period": bg.Normal(0, 0.1)}),
    )
    back = bg.load_fit(model.fit("glm").save(tmp_path / "cbpp.fit")).model
    assert back.design.terms == model.design.terms
    assert list(back.design.groups[0].levels) == list(model.design.groups[0].levels)
    pd.testing.assert_frame_equal(back.priors_table(), model.priors_table())


def test_another_file_is_no_fit(tmp_path):
    (tmp_path / "x.fit").write_text("hello")
    with pytest.raises(ValueError, match="is not a saved fit"):
        bg.load_fit(tmp_path / "x.fit")
