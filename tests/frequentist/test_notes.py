"""Every message a maximum-likelihood fit can give, on data that call for it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.frequentist.notes import of_the_search
from bayes_glmm.numerics.optimise import maximise

RNG = np.random.default_rng(1)
G = np.repeat(np.arange(20), 5)
X = RNG.normal(size=100)
B = RNG.normal(size=20)
ROWS = pd.DataFrame({"g": pd.Categorical(G), "x": X})


def codes(formula, family="bernoulli", nodes="auto", rows=ROWS, **columns):
    fit = bg.GLMM(formula, rows.assign(**columns), family=family).fit(bg.ML(nodes=nodes))
    return fit, {m.code for m in fit.messages}


def coin(size=100, seed=2):
    return np.random.default_rng(seed).integers(0, 2, size)


def test_a_plain_fit_has_nothing_to_say():
    _, found = codes("y ~ x + (1 | g)", "poisson", y=RNG.poisson(np.exp(1 + 0.5 * B[G])))
    assert found == set()


def test_levels_of_one_kind_only():
    """As all parameters grow the likelihood tends to 2^-20 at least: no maximum in reach."""
    fit, found = codes("y ~ 1 + (1 | g)", y=G % 2)
    assert {"variance-without-limit", "nodes-too-few"} <= found
    assert fit.variance.estimate[0] > 100


def test_one_binary_response_per_level():
    _, found = codes("y ~ x + (1 | i)", y=coin(), i=pd.Categorical(np.arange(100)), nodes=9)
    assert "variance-not-identified" in found


def test_one_count_per_level_is_overdispersion_and_fine():
    y = RNG.poisson(np.exp(1 + RNG.normal(size=100)))
    _, found = codes("y ~ x + (1 | i)", "poisson", y=y, i=pd.Categorical(np.arange(100)))
    assert "variance-not-identified" not in found


def test_few_levels():
    _, found = codes("y ~ x + (1 | g)", rows=ROWS[G < 3], y=coin(15), nodes=9)
    assert "few-levels" in found


def test_a_correlation_of_one():
    """Effects that are a multiple of one another have correlation one in truth."""
    y = np.random.default_rng(5).poisson(np.exp(1 + B[G] * (1 + 0.5 * X)))
    fit, found = codes("y ~ x + (x | g)", "poisson", y=y, nodes=1)
    assert "correlation-at-limit" in found
    assert fit.varcorr()["corr"].iloc[-1] == pytest.approx(1.0, abs=1e-4)


def test_zero_variance_names_the_effect():
    fit, found = codes("y ~ x + (1 | g)", y=coin(seed=3), nodes=9)
    assert found == {"zero-variance"}
    assert "standard deviation of Intercept by g is zero" in str(fit.messages[0])


def test_separation_is_told_with_the_failure_it_causes():
    fit, found = codes("y ~ x + (1 | g)", y=(X > 0).astype(int))
    assert {"separation", "not-converged", "information-not-positive-definite"} <= found
    assert not fit.converged


def test_counts_in_the_millions_converge():
    """The log-likelihood's rounding exceeds the last steps' rise; the slope decides then."""
    y = np.random.default_rng(4).poisson(np.exp(17 + 0.5 * B[G]))
    fit, found = codes("y ~ x + (1 | g)", "poisson", y=y)
    assert fit.converged and found == set()


def ridge(x):
    """Rosenbrock's function: a search with few steps allowed does not reach its maximum."""
    value = -(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)
    slope = 400 * x[0] * (x[1] - x[0] ** 2)
    return value, np.array([slope + 2 * (1 - x[0]), -200 * (x[1] - x[0] ** 2)])


def test_a_second_search_takes_over_and_says_so(monkeypatch):
    from bayes_glmm.numerics import optimise

    real, calls = optimise.bfgs, []

    def short_of_breath(objective, x, inverse, **options):
        calls.append(1)
        return real(objective, x, inverse, **({"limit": 2} if len(calls) == 1 else options))

    monkeypatch.setattr(optimise, "bfgs", short_of_breath)
    monkeypatch.setattr(optimise, "newton_step", lambda objective, optimum, covariance: optimum)
    optimum, _ = maximise(ridge, np.array([-1.2, 1.0]), np.eye(2) / 100)
    np.testing.assert_allclose(optimum.x, [1, 1], atol=1e-4)
    assert optimum.converged and optimum.first_failure
    maximum = SimpleNamespace(optimum=optimum, proper=True)
    assert [m.code for m in of_the_search(maximum)] == ["second-optimiser"]


@pytest.mark.parametrize(
    ("family", "simpler", "formula"),
    [
        ("negative_binomial", "poisson", "y ~ x + (1 | g)"),
        ("negative_binomial1", "poisson", "y ~ x + (1 | g)"),
        ("beta_binomial", "binomial", "p(y, n) ~ x + (1 | g)"),
    ],
)
def test_a_dispersion_without_a_finite_estimate_gives_the_simpler_family(family, simpler, formula):
    """Counts that vary less than the limit family allows: the likelihood rises to the limit."""
    y = np.random.default_rng(7).permuted(np.tile([1, 2, 3, 2, 2], 20))
    y[G < 4] += 1  # some variation between groups, so that the SD is not zero
    fit, found = codes(formula, family, nodes=9, y=y, n=4)
    plain, _ = codes(formula, simpler, nodes=9, y=y, n=4)
    assert "dispersion-at-limit" in found and fit.converged
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-6)
    np.testing.assert_allclose(fit.beta, plain.beta, atol=1e-6)
    np.testing.assert_allclose(fit.se(), plain.se(), rtol=1e-5)
    assert np.isnan(fit.variance.std_error[-1])
    low, high = fit.confint(method="profile").iloc[-1][["conf_low", "conf_high"]]
    at_the_limit = low if family == "negative_binomial1" else high
    assert at_the_limit == (0.0 if family == "negative_binomial1" else np.inf)
    without = bg.GLMM(formula, ROWS.assign(y=y, n=4), family=family).fit("glm")
    assert "dispersion-at-limit" in {m.code for m in without.messages}
    assert np.isnan(without.variance.std_error[-1]) and np.all(np.isfinite(without.se()))
