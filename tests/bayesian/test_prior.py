"""Draws from the priors alone, against moments and probabilities known in closed form."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_glmm as bg
from bayes_glmm.bayesian.prior import prior_predictive

N = 24
RNG = np.random.default_rng(8)
FRAME = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "k": RNG.integers(0, 2, N),
        "t": RNG.uniform(1, 5, N),
        "x": np.tile([-1.0, 0.5, 2.0], 8),
        "g": RNG.permutation(np.repeat(list("abcdef"), 4)),  # not sorted
    },
    index=RNG.permutation(N) + 100,
)
NARROW = bg.Priors(intercept=bg.Normal(1, 0.5), beta=bg.Normal(0.3, 0.2))


def responses(model, draws=4000, seed=1):
    return np.asarray(model.prior_predictive(draws, seed)["prior_predictive"]["y"])[0]


def test_gaussian_responses_have_the_moments_of_the_model():
    """E y = x'm; Var y = prior variance of x'beta + E sd'R sd terms + E dispersion^2."""
    priors = bg.Priors(
        intercept=bg.Normal(1, 0.5),
        beta=bg.Normal(0.3, 0.2),
        sd=bg.HalfNormal(0.7),
        dispersion=bg.HalfNormal(0.4),
    )
    model = bg.GLMM("y ~ x + (x | g)", FRAME, family="gaussian", priors=priors)
    y = responses(model, 20_000)
    x = FRAME["x"].to_numpy()  # the user's order
    # correlations are symmetric about zero, so that they add nothing to the variance
    variance = 0.25 + 0.04 * x**2 + 0.49 * (1 + x**2) + 0.16
    # five standard errors: of a mean, and of a variance of kurtosis below 9, n = 20,000
    assert np.all(np.abs(y.mean(0) - (1 + 0.3 * x)) < 5 * np.sqrt(variance / 20_000))
    assert np.all(np.abs(y.var(0) / variance - 1) < 5 * np.sqrt(8 / 20_000))


def test_effects_have_the_drawn_correlation():
    priors = bg.Priors(sd=bg.Uniform(1, 1.001), corr=bg.LKJ(0.3))
    model = bg.GLMM("y ~ x + (x | g)", FRAME, family="gaussian", priors=priors)
    tree = model.prior_predictive(4000)["prior"]
    b, r = np.asarray(tree["b_g"])[0], np.asarray(tree["corr_g"])[0, :, 0]
    product = b[..., 0] * b[..., 1]  # mean r, variance 1 + r^2 <= 2, given r
    slope = np.sum(product.mean(1) * r) / np.sum(r * r)
    error = np.sqrt(2 / 6 / np.sum(r * r))
    assert abs(slope - 1) < 5 * error + 0.002  # sd^2 is up to 1.002


def test_probabilities_are_those_of_the_mixture():
    """P(y = 1) = E Phi(eta) = Phi(m / sqrt(1 + v)) under a probit with normal priors."""
    priors = bg.Priors(
        intercept=bg.Normal(1, 0.5), beta=bg.Normal(0.3, 0.2), sd=bg.Uniform(0.8, 0.8001)
    )
    model = bg.GLMM("k ~ x + (1 | g)", FRAME, family="bernoulli", link="probit", priors=priors)
    y = responses(model, 8000)
    x = FRAME["x"].to_numpy()
    expected = stats.norm.cdf((1 + 0.3 * x) / np.sqrt(1 + 0.25 + 0.04 * x**2 + 0.64))
    assert np.all(np.abs(y.mean(0) - expected) < 5 * 0.5 / np.sqrt(8000))


def test_offsets_and_trials_are_those_of_the_rows():
    model = bg.GLMM("cbind(k, 3 - k) ~ 1 + offset(x)", FRAME, family="binomial")
    y = responses(model.with_priors(intercept=bg.Normal(0.2, 1e-6)), 4000)
    expected = 3 / (1 + np.exp(-0.2 - FRAME["x"].to_numpy()))
    assert np.all(np.abs(y.mean(0) - expected) < 5 * np.sqrt(0.75 / 4000))
    assert y.max() == 3


def test_draws_are_labelled_in_the_users_order_and_repeatable():
    model = bg.GLMM("y ~ x + (1 | g)", FRAME, family="gaussian", priors=NARROW)
    tree = model.prior_predictive(50, seed=3)
    assert set(tree.children) == {"prior", "prior_predictive", "observed_data"}
    assert list(tree["prior_predictive"]["observation"].values) == list(FRAME.index)
    assert np.array_equal(tree["observed_data"]["y"], FRAME["y"])
    assert tree["prior"]["b_g"].dims == ("chain", "draw", "g", "g_term")
    assert np.array_equal(responses(model, 50, 3), tree["prior_predictive"]["y"][0])
    assert not np.array_equal(responses(model, 50, 4), tree["prior_predictive"]["y"][0])
    assert np.array_equal(prior_predictive(model, 50, 3)["prior"]["beta"], tree["prior"]["beta"])


def test_where_the_link_has_no_mean_there_is_no_response():
    model = bg.GLMM("t ~ 1", FRAME, family="gamma", link="inverse")
    model = model.with_priors(intercept=bg.Normal(1, 1), dispersion=bg.HalfNormal(1))
    missing = np.isnan(responses(model, 4000))
    assert np.all(missing == missing[:, :1])  # one linear predictor for all rows
    share = stats.norm.cdf(-1)
    assert abs(missing.mean() - share) < 5 * np.sqrt(share * (1 - share) / 4000)


def test_heavy_tails_are_drawn_without_an_error():
    model = bg.GLMM("k ~ x + (1 | g)", FRAME, family="poisson")
    for sd in (bg.HalfCauchy(50), bg.InverseGamma(0.01, 0.01)):
        y = responses(model.with_priors(sd=sd, beta=bg.Cauchy(0, 10)), 500)
        assert np.all(np.isfinite(y) & (y >= 0))


def test_improper_priors_say_nothing():
    model = bg.GLMM("y ~ x + (1 | g)", FRAME, family="gaussian")
    flat = model.with_priors(sd=bg.Flat(), allow_improper=True)
    with pytest.raises(bg.ImproperPriorError, match=r"of sd_g\[Intercept\] is improper, so noth"):
        flat.prior_predictive()


@pytest.mark.parametrize("draws", [0, -3, 2.5, True, "many"])
def test_a_number_of_draws_is_needed(draws):
    model = bg.GLMM("y ~ x", FRAME, family="gaussian")
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        model.prior_predictive(draws)
