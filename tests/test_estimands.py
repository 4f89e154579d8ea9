"""Intraclass correlations and median ratios against formulas and simulations."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, logit
from standin import VARIANCE, asymptotic_fit, posterior_fit

import bayes_glmm as bg
from bayes_glmm.estimands import median_factor, predictor_of_mean
from bayes_glmm.fit import Variance, components_of
from bayes_glmm.methods import NotServedError
from bayes_glmm.numerics.population_mean import population_mean

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def cbpp():
    return bg.GLMM(CBPP, bg.load_dataset("cbpp"), family="binomial").fit(bg.ML(nodes=25))


def crossed(family, link=None, y=None, formula="y ~ 1 + (1 | g) + (1 | h)", **columns):
    """Twenty-four rows of two crossed factors."""
    frame = pd.DataFrame({"g": np.repeat(list("abcdef"), 4), "h": np.tile(list("wxyz"), 6)})
    frame["y"] = np.tile([0, 1, 1], 8) if y is None else y
    return bg.GLMM(formula, frame.assign(**columns), family=family, link=link)


def known(model, estimate, log_covariance=None) -> bg.Fit:
    """A fit with these components; the covariance is of their logarithms."""
    estimate = np.asarray(estimate, float)
    joint = np.zeros((1 + len(estimate),) * 2)
    joint[1:, 1:] = 0.01 * np.eye(len(estimate)) if log_covariance is None else log_covariance
    error = estimate * np.sqrt(np.diag(joint)[1:])
    return bg.Fit(
        model,
        bg.ML(nodes=1),
        np.zeros(1),
        {"model": np.eye(1)},
        Variance(components_of(model), estimate, error),
        joint_cov=joint,
    )


def test_the_latent_scale_by_hand(cbpp):
    variance = cbpp.variance.estimate[0] ** 2
    table = bg.icc(cbpp)
    assert list(table.columns) == [
        "group", "term", "icc", "std_error", "conf_low", "conf_high", "scale",
    ]  # fmt: skip
    row = table.iloc[0]
    value = variance / (variance + np.pi**2 / 3)
    assert row.icc == pytest.approx(value, rel=1e-12)
    # d icc / d sigma = 2 sigma R / (sigma^2 + R)^2; differences of 1e-5 leave 1e-9
    R = np.pi**2 / 3
    slope = 2 * np.sqrt(variance) * R / (variance + R) ** 2
    assert row.std_error == pytest.approx(slope * cbpp.variance.std_error[0], rel=1e-6)
    half = 1.959964 * row.std_error / (value * (1 - value))
    assert row.conf_low == pytest.approx(expit(logit(value) - half), rel=1e-5)
    assert row.conf_high == pytest.approx(expit(logit(value) + half), rel=1e-5)
    assert row.scale == "latent (logit)"


@pytest.mark.parametrize(
    ("link", "residual"), [("logit", np.pi**2 / 3), ("probit", 1.0), ("cloglog", np.pi**2 / 6)]
)
def test_links_fix_the_residual_variance(link, residual):
    table = bg.icc(known(crossed("bernoulli", link), [1.2, 0.5]))
    total = 1.44 + 0.25 + residual
    assert list(table.icc) == pytest.approx([1.44 / total, 0.25 / total])


def test_a_latent_correlation_is_that_of_simulated_latent_variables():
    """Correlation of 400,000 simulated pairs with Gumbel errors: Monte Carlo error .0016."""
    rng = np.random.default_rng(4)
    n, sd = 400_000, 0.9
    shared = rng.normal(0, sd, n)
    pair = [shared + stats.gumbel_l.rvs(size=n, random_state=rng) for _ in range(2)]
    table = bg.icc(known(crossed("bernoulli", "cloglog"), [sd, 0.0]))
    assert table.icc[0] == pytest.approx(np.corrcoef(pair[0], pair[1])[0, 1], abs=4.5 * 0.0016)


def test_a_log_link_against_simulated_counts():
    """Correlation of simulated Poisson counts that share one of two effects, at mean 3.

    The correlation of 10^6 heavy-tailed pairs has a Monte Carlo error of about .003, from the
    spread over ten simulations, which the test takes itself.
    """
    rng = np.random.default_rng(8)
    s, t, mean = 0.5, 0.4, 3.0
    found = []
    for _ in range(10):
        shared = rng.normal(0, s, 100_000)
        pair = [
            rng.poisson(mean * np.exp(shared + rng.normal(0, t, 100_000) - (s**2 + t**2) / 2))
            for _ in range(2)
        ]
        found.append(np.corrcoef(pair[0], pair[1])[0, 1])
    y = np.tile([2.0, 4.0, 3.0], 8)
    table = bg.icc(known(crossed("poisson", y=y), [s, t]))
    assert table.icc[0] == pytest.approx(np.mean(found), abs=4.5 * np.std(found) / np.sqrt(10))
    assert table.scale[0] == "response at mean 3"
    a = np.expm1(s**2) / (np.expm1(s**2 + t**2) + 1 / mean)  # the Poisson case in closed form
    assert table.icc[0] == pytest.approx(a, rel=1e-9)
    other = bg.icc(known(crossed("poisson", y=y), [s, t]), mean=30.0)
    assert other.icc[0] == pytest.approx(a * (np.expm1(0.41) + 1 / 3) / (np.expm1(0.41) + 1 / 30))


def test_the_delta_method_against_simulated_components():
    """Errors of both correlations against draws of correlated log SDs with small spread.

    The delta method's own error is of the order of the variance of the log SDs (4e-4, relative);
    200,000 draws leave .0016.
    """
    spread = np.array([[4e-4, -2e-4], [-2e-4, 3e-4]])
    fit = known(crossed("bernoulli"), [1.2, 0.7], spread)
    draws = np.exp(
        np.log([1.2, 0.7]) + np.random.default_rng(1).multivariate_normal([0, 0], spread, 200_000)
    )
    shares = draws**2 / ((draws**2).sum(axis=1, keepdims=True) + np.pi**2 / 3)
    np.testing.assert_allclose(bg.icc(fit).std_error, shares.std(axis=0), rtol=0.01)
    ratios = bg.median_ratio(fit)
    np.testing.assert_allclose(ratios.std_error, median_factor(draws).std(axis=0), rtol=0.01)


def test_rows_of_a_nested_level_share_the_outer_one_too():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {"a": np.repeat(list("pqrs"), 6), "b": np.tile(np.repeat([1, 2, 3], 2), 4)}
    )
    frame["y"] = rng.normal(size=24)
    model = bg.GLMM("y ~ 1 + (1 | a/b)", frame, family="gaussian")
    table = bg.icc(known(model, [2.0, 1.0, 3.0])).set_index("group")
    assert table.icc["a"] == pytest.approx(4 / 14)
    assert table.icc["a:b"] == pytest.approx(5 / 14)
    assert (table.scale == "response").all()


def test_a_factor_with_one_row_a_level_is_residual_variation():
    model = crossed("poisson", formula="y ~ 1 + (1 | g) + (1 | o)", o=np.arange(24))
    table = bg.icc(known(model, [0.5, 0.4]), mean=2.0)
    assert list(table.group) == ["g"]
    assert table.icc[0] == pytest.approx(np.expm1(0.25) / (np.expm1(0.41) + 0.5))


def test_random_slopes_are_taken_where_their_variables_are_zero():
    table = bg.icc(asymptotic_fit())
    sd, residual = VARIANCE[0], VARIANCE[3]
    assert table.icc[0] == pytest.approx(sd**2 / (sd**2 + residual**2))
    assert table.term[0] == "Intercept"
    fit = known(crossed("gaussian", formula="y ~ 1 + (0 + x | g)", x=np.arange(24.0)), [1.0, 1.0])
    with pytest.raises(ValueError, match="needs a random intercept"):
        bg.icc(fit)


def test_draws_give_the_posterior_of_the_correlation():
    fit = posterior_fit()
    posterior = fit.draws["posterior"]
    sd = posterior["sd_g"].to_numpy()[..., 0].ravel()
    share = sd**2 / (sd**2 + posterior["dispersion"].to_numpy().ravel() ** 2)
    row = bg.icc(fit, level=0.8).iloc[0]
    assert row.icc == pytest.approx(share.mean())
    assert row.std_error == pytest.approx(share.std(ddof=1))
    assert [row.conf_low, row.conf_high] == pytest.approx(np.quantile(share, [0.1, 0.9]))


def test_a_zero_standard_deviation_has_no_wald_interval():
    spread = np.array([[np.nan, np.nan], [np.nan, 0.01]])
    table = bg.icc(known(crossed("bernoulli"), [0.0, 0.7], spread))
    zero, other = table.iloc[0], table.iloc[1]
    assert zero.icc == 0
    assert np.isnan([zero.std_error, zero.conf_low, zero.conf_high]).all()
    assert other.conf_low < other.icc < other.conf_high
    ratio = bg.median_ratio(known(crossed("bernoulli"), [0.0, 0.7], spread)).iloc[0]
    assert ratio.estimate == 1 and np.isnan(ratio.conf_low)


def test_the_only_standard_deviation_may_be_zero():
    model = crossed("bernoulli", formula="y ~ 1 + (1 | g)")
    row = bg.icc(known(model, [0.0], np.full((1, 1), np.nan))).iloc[0]
    assert row.icc == 0 and np.isnan([row.std_error, row.conf_low, row.conf_high]).all()


def test_median_odds_ratio(cbpp):
    """exp(.9539 sigma); the limits are those of sigma's own interval."""
    row = bg.median_ratio(cbpp).iloc[0]
    assert row.estimate == pytest.approx(np.exp(0.9539 * cbpp.variance.estimate[0]), rel=1e-4)
    limits = cbpp.confint().iloc[-1]
    assert row.conf_low == pytest.approx(median_factor(limits.conf_low), rel=1e-6)
    assert row.conf_high == pytest.approx(median_factor(limits.conf_high), rel=1e-6)
    assert row.ratio == "odds ratio"


def test_a_median_ratio_is_the_median_of_simulated_ratios():
    """Of 400,000 pairs of levels; Monte Carlo error of the median of log ratios .002."""
    rng = np.random.default_rng(6)
    gap = np.abs(rng.normal(0, 0.8, 400_000) - rng.normal(0, 0.8, 400_000))
    assert np.log(median_factor(0.8)) == pytest.approx(np.median(gap), abs=0.009)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
def test_the_response_scale_is_the_covariance_of_integrated_responses(link):
    """Nested integrals over a grid of 2001 x 801 points, whose error is far below 1e-8."""
    sds, mu = np.array([1.3, 0.6]), 0.2
    model = crossed("bernoulli", link)
    z, inner = np.linspace(-9, 9, 2001), np.linspace(-9, 9, 801)
    w, v = (p / p.sum() for p in map(stats.norm.pdf, (z, inner)))

    def given(eta, shared, rest):
        at = eta + shared * z[:, None] + rest * inner
        return model.link.inverse(at)[0] @ v

    eta = brentq(lambda e: given(e, *sds) @ w - mu, -20, 20, xtol=1e-13)
    pairs = (sds, sds[::-1])
    expected = [((given(eta, *p) ** 2) @ w - mu**2) / (mu * (1 - mu)) for p in pairs]
    table = bg.icc(known(model, sds), scale="response", mean=mu)
    assert list(table.icc) == pytest.approx(expected, abs=1e-8)
    assert set(table.scale) == {"response at mean 0.2"}


def test_the_response_scale_of_a_simulated_population():
    """Correlation of 400,000 pairs of responses of one level: Monte Carlo error .0016."""
    rng = np.random.default_rng(3)
    eta = predictor_of_mean(crossed("bernoulli").link, 0.3, np.array(4.0))
    p = expit(float(eta) + rng.normal(0, 2.0, 400_000))
    one, other = (rng.random(400_000) < p for _ in range(2))
    table = bg.icc(known(crossed("bernoulli"), [2.0, 0.0]), scale="response", mean=0.3)
    assert table.icc[0] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=4.5 * 0.0016)


def test_the_response_scale_by_default_at_the_observed_share(cbpp):
    table = bg.icc(cbpp, scale="response")
    y = cbpp.model.design
    assert table.scale[0] == f"response at mean {y.y.sum() / y.trials.sum():.3g}"
    assert 0 < table.conf_low[0] < table.icc[0] < bg.icc(cbpp).icc[0]  # below the latent one
    sds = np.array([[[0.5], [1.0]], [[1.5], [2.0]]])
    variances = sds[..., 0] ** 2
    eta = predictor_of_mean(cbpp.model.link, 0.1, variances)
    assert eta.shape == (2, 2)
    again = [
        population_mean(cbpp.model.link, e, v)[0]
        for e, v in zip(eta.flat, variances.flat, strict=True)
    ]
    assert again == pytest.approx([0.1] * 4, rel=1e-12)


def test_what_is_not_defined_is_refused(cbpp):
    with pytest.raises(ValueError, match="use latent or response"):
        bg.icc(cbpp, scale="observed")
    with pytest.raises(ValueError, match="gaussian family: use response"):
        bg.icc(asymptotic_fit(), scale="latent")
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        bg.icc(cbpp, scale="response", mean=1.5)
    with pytest.raises(NotServedError, match="estimates no variance components"):
        bg.icc(cbpp.model.fit("gee"))
    with pytest.raises(NotServedError, match="not defined for the gaussian family"):
        bg.icc(known(crossed("gaussian", "log", y=np.arange(1.0, 25.0)), [1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="depend on the mean, of log links"):
        bg.icc(cbpp, mean=2.0)
    with pytest.raises(ValueError, match="must be positive"):
        bg.icc(known(crossed("poisson"), [1.0, 1.0]), mean=-1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        bg.icc(cbpp, level=95)
    with pytest.raises(NotServedError, match=r"link 'probit'.*it needs link logit"):
        bg.median_ratio(known(crossed("bernoulli", "probit"), [1.0, 1.0]))
    for method in ("mql", "gee", "glm"):
        with pytest.raises(NotServedError, match=r"working model|no variance components"):
            bg.icc(cbpp.model.fit(method))
        with pytest.raises(NotServedError, match="no median ratio: use a fit of a mixed model"):
            bg.median_ratio(cbpp.model.fit(method))
    # GLM's residual SD is no SD of effects
    with pytest.raises(NotServedError, match="estimates no variance components"):
        bg.icc(crossed("gaussian", "identity", y=np.arange(1.0, 25.0)).fit("glm"))
    without = replace(cbpp, joint_cov=None)
    assert np.isnan(bg.icc(without).std_error).all()


# heritability


def test_heritability_is_a_multiple_of_the_share():
    """By the printed formula, and the delta method by differences on the logit scale."""
    frame = bg.load_dataset("sires")
    A = bg.relationship_matrix(bg.load_dataset("sires_pedigree"), dam=None)
    formula = "weight ~ sex + (1 | sire) + (1 | herd)"
    given = {"family": "gaussian", "covariance": {"sire": A}}
    fit = bg.GLMM(formula, frame, **given).fit("reml")
    sire, _, sigma = fit.variance.estimate
    row = bg.heritability(fit, "sire", 4.0).iloc[0]
    share = sire**2 / (sire**2 + sigma**2)
    assert row.heritability == pytest.approx(4 * share)
    # logit(share) = 2 log sire - 2 log sigma, whose variance is that of the working scales
    at = [len(fit.beta), len(fit.beta) + 2]
    contrast = np.array([2.0, -2.0])
    error = np.sqrt(contrast @ fit.joint_cov[np.ix_(at, at)] @ contrast)
    limits = 4 / (1 + np.exp(-np.log(share / (1 - share)) + 1.959964 * error * np.array([1, -1])))
    np.testing.assert_allclose([row.conf_low, row.conf_high], limits, rtol=1e-5)
    assert row.std_error == pytest.approx(4 * share * (1 - share) * error, rel=1e-6)
    assert bg.heritability(fit, "sire").heritability[0] == pytest.approx(share)


def test_heritability_refuses_what_has_none():
    fit = bg.GLMM(
        "reaction ~ days + (0 + days | subject)", bg.load_dataset("sleepstudy"), family="gaussian"
    ).fit("reml")
    with pytest.raises(ValueError, match="needs a random intercept and 'subject' has none"):
        bg.heritability(fit, "subject")
    with pytest.raises(ValueError, match="'cow' is not a grouping factor"):
        bg.heritability(fit, "cow")
    with pytest.raises(ValueError, match="must be a positive number: 1 for animals"):
        bg.heritability(fit, "subject", 0.0)
    with pytest.raises(bg.NotServedError, match=r"fitted by REML\(\) or NUTS\(\)"):
        bg.heritability(fit.model.fit("glm"), "subject")


def test_heritability_needs_a_matrix_of_relationships():
    """A hundred times the matrix is the same model with a hundredth of the variance."""
    pedigree = bg.load_dataset("sires_pedigree")
    A = bg.relationship_matrix(pedigree, dam=None)
    formula, data = "weight ~ sex + (1 | sire)", bg.load_dataset("sires")
    fits = [
        bg.GLMM(formula, data, family="gaussian", covariance={"sire": k * A}).fit("reml")
        for k in (1.0, 100.0)
    ]
    assert fits[0].loglik == pytest.approx(fits[1].loglik, abs=1e-6)
    assert 0 < bg.heritability(fits[0], "sire", 4.0).heritability[0] < 4
    with pytest.raises(ValueError, match="mean diagonal of 1"):
        bg.heritability(fits[1], "sire", 4.0)


def test_beside_a_residual_correlation_the_icc_is_a_share_of_variance():
    model = bg.GLMM(
        "protein ~ diet + time + (1 | cow)",
        bg.load_dataset("milk"),
        family="gaussian",
        residual=bg.residual.Exponential("time", by="cow"),
    )
    fit = model.fit("reml")
    row = bg.icc(fit).iloc[0]
    assert row.scale == "share of a row's variance"
    sd, residual = fit.variance.estimate[0], fit.variance.estimate[-1]
    assert row.icc == pytest.approx(sd**2 / (sd**2 + residual**2))
