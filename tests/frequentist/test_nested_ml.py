"""ML() of two nested factors: brute force, boundary tests, profiles, cost, and Laplace's bias."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

import bayes_glmm as bg
from bayes_glmm.frequentist.inference import profile
from bayes_glmm.methods import NotServedError


def nested_data(groups=12, inner=3, rows=4, seed=2):
    """Bernoulli rows over two nested levels with SDs of one."""
    rng = np.random.default_rng(seed)
    a = np.repeat(np.arange(groups), inner * rows)
    b = np.tile(np.repeat(np.arange(inner), rows), groups)
    x = rng.normal(size=len(a))
    eta = 0.3 - 0.5 * x + rng.normal(size=groups)[a] + rng.normal(size=(groups, inner))[a, b]
    y = (rng.random(len(a)) < 1 / (1 + np.exp(-eta))).astype(int)
    return pd.DataFrame({"y": y, "x": x, "a": a, "b": b})


def nested_loglik(data, beta, sd_a, sd_b, points=91):
    """Log-likelihood by the trapezoidal rule over both effects, 9 SDs to each side."""
    z = np.linspace(-9, 9, points)
    log_normal = -0.5 * z**2 - 0.5 * np.log(2 * np.pi) + np.log(z[1] - z[0])
    fixed = beta[0] + beta[1] * data.x.to_numpy()
    shift = sd_a * z[:, None] + sd_b * z  # (points of a, points of b)
    sign = (2 * data.y - 1).to_numpy()
    total = 0.0
    for _, rows in data.groupby("a").indices.items():
        by_a = log_normal.copy()
        for _, own in data.iloc[rows].groupby("b").indices.items():
            j = rows[own]
            density = -np.logaddexp(0.0, -sign[j, None, None] * (fixed[j, None, None] + shift))
            by_a += logsumexp(density.sum(axis=0) + log_normal, axis=1)
        total += logsumexp(by_a)
    return total


def test_four_effects_of_nested_factors_are_served_by_laplace():
    m = bg.GLMM("y ~ x + (x | a/b)", nested_data(), family="bernoulli")
    with pytest.raises(NotServedError, match=r"2 nested grouping factors .* with 4 effects"):
        m.fit(bg.ML(nodes=5))


def test_nested_factors_against_maximisation_by_brute_force():
    data = nested_data()
    fit = bg.GLMM("y ~ x + (1 | a/b)", data, family="bernoulli").fit("ml")
    assert fit.converged and fit.details["nodes"] > 5 and not fit.messages

    def minus(p):
        return -nested_loglik(data, p[:2], p[2], p[3])

    best = minimize(minus, np.array([0.3, -0.5, 1.0, 1.0]), method="BFGS", tol=1e-6)
    # the ladder stops where two rises move the log-likelihood by less than 1e-5
    assert fit.loglik == pytest.approx(-best.fun, abs=1e-5)
    table = fit.varcorr().set_index("group")
    found = np.array([*fit.beta, *table.sd[["a", "a:b"]]])
    errors = np.array([*fit.se(), *fit.variance.std_error])
    # the optimum is flat: log-likelihoods within 1e-5 are estimates within .005 SE
    assert np.max(np.abs(found - best.x) / errors) < 0.005
    means = fit.details["posterior_means"]
    assert set(means) == {"a", "a:b"}
    assert means["a:b"]["estimate"].shape == fit.effects["a:b"].estimate.shape == (36, 1)


def test_nested_factors_with_slopes():
    data = nested_data(groups=25, rows=6)
    for formula in ("y ~ x + (x | a) + (1 | a:b)", "y ~ x + (1 | a) + (x || a:b)"):
        m = bg.GLMM(formula, data, family="bernoulli")
        five, seven = m.fit(bg.ML(nodes=5)), m.fit(bg.ML(nodes=7))
        assert five.converged and five.loglik_kind == "adaptive quadrature, 5 nodes"
        # binary rows, SDs of one: five nodes are right to some hundredths
        assert five.loglik == pytest.approx(seven.loglik, abs=0.05)
        assert abs(m.fit("laplace").loglik - seven.loglik) > abs(five.loglik - seven.loglik)


def test_rules_too_costly_for_auto_are_not_tried(monkeypatch):
    data = nested_data()
    m = bg.GLMM("y ~ x + (1 | a/b)", data, family="bernoulli")
    monkeypatch.setattr("bayes_glmm.frequentist.ml.MOST_DENSITIES", len(data) * 9**2)
    fit = m.fit(bg.ML(tolerance=1e-12))
    (note,) = fit.messages
    assert note.code == "nodes-too-costly" and fit.details["nodes"] == 9
    assert "stopped at 9 nodes" in note.happened and "moved by" in note.happened
    monkeypatch.setattr("bayes_glmm.frequentist.ml.MOST_DENSITIES", len(data) * 5**2)
    (note,) = m.fit(bg.ML()).messages
    assert "no other rule was tried" in note.happened
    monkeypatch.setattr("bayes_glmm.frequentist.ml.MOST_DENSITIES", 10)
    fit = m.fit(bg.ML())
    assert [note.code for note in fit.messages] == ["laplace-only"]
    assert fit.loglik_kind == "Laplace"


@pytest.mark.parametrize(("dropped", "left"), [("a", "(1 | a:b)"), ("a:b", "(1 | a)")])
def test_boundary_tests_of_nested_factors(dropped, left):
    """The null has one factor and the same nodes: its log-likelihood is on the same scale."""
    data = nested_data(groups=30)
    fit = bg.GLMM("y ~ x + (1 | a/b)", data, family="bernoulli").fit(bg.ML(nodes=15))
    null = bg.GLMM(f"y ~ x + {left}", data, family="bernoulli").fit(bg.ML(nodes=15))
    test = bg.boundary_test(fit, dropped)
    assert test.loglik == fit.loglik
    # two searches of the same function, each within a decrement of 1e-8
    assert test.loglik_null == pytest.approx(null.loglik, abs=1e-7)
    assert test.statistic == pytest.approx(2 * (fit.loglik - null.loglik), abs=1e-6)


def test_profile_of_a_nested_standard_deviation():
    data = nested_data(groups=20)
    fit = bg.GLMM("y ~ x + (1 | a/b)", data, family="bernoulli").fit(bg.ML(nodes=9))
    without = bg.GLMM("y ~ x + (1 | a)", data, family="bernoulli").fit(bg.ML(nodes=9))
    found = profile(fit, "sd_a:b[Intercept]", [0.0, fit.varcorr().set_index("group").sd["a:b"]])
    # an SD of zero is the model without the factor
    np.testing.assert_allclose(found, [without.loglik, fit.loglik], atol=1e-6)


def test_a_zero_outer_variance_is_found():
    data = nested_data(groups=15)
    # the same number of successes in every outer group: they differ by less than chance
    data["y"] = np.tile([1, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0], 15)
    m = bg.GLMM("y ~ x + (1 | a/b)", data, family="bernoulli")
    fit, alone = m.fit(bg.ML(nodes=9)), bg.GLMM("y ~ x + (1 | a:b)", data, family="bernoulli")
    table = fit.varcorr().set_index("group")
    assert table.sd["a"] == 0.0
    assert "zero-variance" in [note.code for note in fit.messages]
    assert fit.loglik == pytest.approx(alone.fit(bg.ML(nodes=9)).loglik, abs=1e-7)


@pytest.mark.slow
def test_laplace_is_biased_where_quadrature_is_not():
    """Pairs of binary rows: Laplace puts the inner SD far too low on average."""
    found = []
    for seed in range(20):
        data = nested_data(groups=150, inner=4, rows=2, seed=seed)
        m = bg.GLMM("y ~ x + (1 | a/b)", data, family="bernoulli")
        for method in (bg.ML(nodes=1), bg.ML(nodes=15)):
            found.append(m.fit(method).varcorr().set_index("group").sd[["a", "a:b"]])
    sds = np.array(found).reshape(20, 2, 2)
    mean, error = sds.mean(axis=0), sds.std(axis=0, ddof=1) / np.sqrt(20)
    # the truth is one: quadrature within 3 standard errors, Laplace's inner SD beyond 4
    assert np.all(np.abs(mean[1] - 1) < 3 * error[1])
    assert mean[0, 1] < 1 - 4 * error[0, 1]
