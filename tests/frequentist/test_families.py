"""ML() and GLM() under every family with a dispersion and the links beside the canonical ones."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import bayes_glmm as bg
from bayes_glmm.families import FAMILIES, LINKS
from bayes_glmm.methods import NotServedError
from bayes_glmm.numerics.bind import bind_numba, bind_numpy
from bayes_glmm.numerics.covariance import Covariance
from bayes_glmm.numerics.groups import Factor, Rows
from bayes_glmm.numerics.marginal import Marginal

EPIL = "y ~ log_base4 * trt + log_age + v4"
TICKS = "ticks ~ year + height_scaled + (1 | brood) + (1 | location)"
HITS = "cbind(hits, rest) ~ year + height_scaled + (1 | brood)"
CBPP = "cbind(incidence, size - incidence) ~ period"
BY_SUBJECT = " + (1 | subject)"

# entry of the reference -> data set, formula, family, link
REFERENCE = {
    "nb2_glm": ("epil", EPIL, "negative_binomial", None),
    "nb1_glm": ("epil", EPIL, "negative_binomial1", None),
    "nb2_ri": ("epil", EPIL + BY_SUBJECT, "negative_binomial", None),
    "nb1_ri": ("epil", EPIL + BY_SUBJECT, "negative_binomial1", None),
    "nb2_crossed": ("grouseticks", TICKS, "negative_binomial", None),
    "nb1_crossed": ("grouseticks", TICKS, "negative_binomial1", None),
    "poisson_sqrt": ("sleepstudy", "count ~ days" + BY_SUBJECT, "poisson", "sqrt"),
    "nb2_sqrt": ("sleepstudy", "count ~ days" + BY_SUBJECT, "negative_binomial", "sqrt"),
    "gamma_log_glm": ("sleepstudy", "reaction ~ days", "gamma", None),
    "gamma_log": ("sleepstudy", "reaction ~ days" + BY_SUBJECT, "gamma", "log"),
    "gamma_log_slope": ("sleepstudy", "reaction ~ days + (days | subject)", "gamma", "log"),
    "gamma_inverse": ("sleepstudy", "hundreds ~ days" + BY_SUBJECT, "gamma", "inverse"),
    "gaussian_inverse": ("sleepstudy", "hundreds ~ days" + BY_SUBJECT, "gaussian", "inverse"),
    "betabinomial_glm": ("cbpp", CBPP, "beta_binomial", None),
    "betabinomial_logit": ("grouseticks", HITS, "beta_binomial", None),
    "betabinomial_probit": ("grouseticks", HITS, "beta_binomial", "probit"),
    "betabinomial_cloglog": ("grouseticks", HITS, "beta_binomial", "cloglog"),
    "loglog_mirrored": ("cbpp", CBPP + " + (1 | herd)", "binomial", "loglog"),
}


def frame(dataset):
    """The data set with the columns that the reference script adds."""
    data = bg.load_dataset(dataset)
    if dataset == "sleepstudy":
        data = data.assign(hundreds=data.reaction / 100, count=data.reaction.round())
    if dataset == "grouseticks":
        hits = np.minimum(data.ticks, 10)
        data = data.assign(hits=hits, rest=10 - hits)
    return data


def model(entry):
    dataset, formula, family, link = REFERENCE[entry]
    return bg.GLMM(formula, frame(dataset), family=family, link=link)


@pytest.mark.parametrize("entry", REFERENCE)
def test_against_glmmtmb(entry, reference):
    expected, m = reference("families", entry), model(entry)
    fit = m.fit("laplace" if m.design.groups else "glm")
    fixed = pd.DataFrame(expected["fixed"]).T
    sign = -1 if entry == "loglog_mirrored" else 1  # fitted there as cloglog of the failures
    assert fit.converged
    assert fit.loglik == pytest.approx(expected["loglik"], abs=1e-4)
    assert np.max(np.abs(fit.beta - sign * fixed["est"]) / fixed["se"]) < 1e-3
    if entry != "gamma_log_glm":  # there R's Pearson estimate, not the maximum, scales the SEs
        np.testing.assert_allclose(fit.se(), fixed["se"], rtol=1e-3)
    table = fit.varcorr()
    for group, part in dict(expected["random"]).items():
        for term, value in part["sd"].items():
            name = "Intercept" if term == "(Intercept)" else term
            row = table[(table.group == group) & (table.term == name) & table.sd.notna()]
            assert abs(row.sd.item() - value) < 1e-3 * fit.variance.std_error[row.index[0]]
    if m.family.has_dispersion:
        error = fit.variance.std_error[-1]
        assert abs(fit.dispersion - expected["dispersion"]) < 1e-3 * error
        # glmmTMB's is the log of theta, phi, a + b, and of the gaussian's and gamma's variance
        power = 2 if m.family.dispersion_is_scale else 1
        assert power * error / fit.dispersion == pytest.approx(
            expected["internal_par_se"]["betad"], rel=1e-3
        )


def test_gamma_glm_is_rs():
    """R's summary.glm scales by Pearson's statistic over n - p; glmmTMB by the ML estimate."""
    m = model("gamma_log_glm")
    fit = m.fit("glm")
    mu = np.exp(m.design.X @ fit.beta)
    pearson = np.sum((m.design.y / mu - 1) ** 2) / (m.design.n - 2)
    expected = np.sqrt(pearson * np.diag(np.linalg.inv(m.design.X.T @ m.design.X)))
    np.testing.assert_allclose(fit.se(), expected, rtol=1e-10)


def brute_force(bound, rows, factor, beta, sd, dispersion):
    """The log-likelihood by the trapezoid rule over each level's effect, all constants in.

    The integrand and its derivatives vanish at both ends, where the rule is exact to rounding
    once its step is a fraction of the integrand's width.
    """
    base, total = rows.X @ beta + rows.offset, 0.0
    u = np.linspace(-14, 14, 20001)
    for level in range(factor.levels):
        j = factor.index == level
        eta = base[j] + sd * u[:, None]
        rowwise = bound.log_likelihood(rows.y[j], rows.trials[j], eta, dispersion)
        f = rowwise.sum(axis=1) - 0.5 * u * u
        total += f.max() + np.log(np.exp(f - f.max()).sum() * (u[1] - u[0]))
    return total - 0.5 * factor.levels * np.log(2 * np.pi)


PAIRS = [
    ("beta_binomial", "logit", (0.3, -0.5), 0.9, 2.5),
    ("beta_binomial", "loglog", (0.3, -0.5), 0.7, 2.5),
    ("beta_binomial", "cauchit", (0.3, -0.5), 0.6, 4.0),
    ("binomial", "loglog", (0.3, -0.5), 0.8, 1.0),
    ("binomial", "cauchit", (0.3, -0.5), 0.5, 1.0),
    ("bernoulli", "cauchit", (0.3, -0.5), 0.4, 1.0),
    ("negative_binomial", "log", (0.5, -0.5), 0.8, 1.7),
    ("negative_binomial1", "log", (0.5, -0.5), 0.8, 1.7),
    ("gamma", "log", (0.5, -0.5), 0.8, 0.6),
    # means where the predictor is far from zero, beyond which there is no density
    ("negative_binomial", "sqrt", (5.0, -0.5), 0.4, 1.7),
    ("negative_binomial1", "sqrt", (5.0, -0.5), 0.4, 1.7),
    ("poisson", "sqrt", (5.0, -0.5), 0.5, 1.0),
    ("gamma", "inverse", (5.0, -0.3), 0.5, 0.4),
    ("gaussian", "inverse", (5.0, -0.3), 0.4, 0.1),
]


@pytest.mark.parametrize(("family", "link", "beta", "sd", "dispersion"), PAIRS)
def test_many_nodes_are_the_integral(family, link, beta, sd, dispersion):
    family, link = FAMILIES[family], LINKS[link]
    bound = bind_numpy(family, link)
    rng, n = np.random.default_rng(3), 16
    factor = Factor(np.repeat(np.arange(4), 4), np.ones((n, 1)), 4, Covariance(((0,),)))
    X, offset = np.c_[np.ones(n), rng.normal(size=n)], rng.normal(scale=0.1, size=n)
    trials = rng.integers(1, 15, n).astype(float) if family.has_trials else np.ones(n)
    eta = X @ np.array(beta) + rng.normal(scale=sd, size=4)[factor.index]
    y = family.simulate(rng, bound.mean(eta), trials, dispersion)
    rows = Rows(y, trials, offset, X)
    constant = float(family.log_base(y, trials).sum())
    marginal = Marginal(bind_numba(family, link), rows, [factor], constant, 101)
    x = np.array([*beta, sd, *([np.log(dispersion)] if family.has_dispersion else [])])
    expected = brute_force(bound, rows, factor, np.array(beta), sd, dispersion)
    # 101 nodes leave a Cauchy tail's share of the integral out
    tolerance = 1e-6 if link.name == "cauchit" else 1e-9
    assert marginal(x)[0] == pytest.approx(expected, rel=tolerance)


def test_joint_maximum_of_a_glm():
    """NB1's coefficients and phi are correlated: one at a time they would stop short."""
    m = model("nb1_glm")
    fit = m.fit("glm")
    bound, d = bind_numpy(m.family, m.link), m.design

    def minus(x):
        eta = d.X @ x[:-1]
        return -bound.log_likelihood(d.y, d.trials, eta, np.exp(x[-1])).sum()

    at = np.r_[fit.beta, np.log(fit.dispersion)]
    better = optimize.minimize(minus, at + 0.01, method="BFGS", options={"gtol": 1e-6})
    assert minus(at) <= better.fun + 1e-9


@pytest.mark.parametrize("method", ["pql", "gee"])
@pytest.mark.parametrize("entry", ["nb2_ri", "nb1_ri", "betabinomial_logit"])
def test_quasi_likelihood_refuses_what_it_cannot_estimate(entry, method):
    with pytest.raises(NotServedError, match="not a factor of the variance"):
        model(entry).fit(method)


@pytest.mark.parametrize("entry", ["gamma_log", "gamma_inverse", "poisson_sqrt"])
def test_pql_is_near_ml_where_levels_say_much(entry):
    m = model(entry)
    ml, pql = m.fit("laplace"), m.fit(bg.PQL(likelihood="ml"))
    assert pql.converged
    # ten rows of each of 18 subjects, with effects ten times as large as their errors
    assert np.max(np.abs(pql.beta - ml.beta) / ml.se()) < 0.1
    assert pql.variance.estimate[0] == pytest.approx(ml.variance.estimate[0], rel=0.05)


def test_predictions_and_simulations_of_every_family():
    for entry in ("nb2_ri", "nb1_ri", "gamma_inverse", "betabinomial_logit", "poisson_sqrt"):
        m = model(entry)
        fit = m.fit("laplace")
        assert np.all(np.isfinite(fit.predict()["estimate"]))
        drawn = fit.simulate(n=3, seed=1).to_numpy()
        trials = m.design.to_user(m.design.trials)
        assert not any(m.family.outside(column, trials).any() for column in drawn.T)
        middle = m.design.y.mean()
        assert 0.4 * middle < drawn.mean() < 2.5 * middle


def test_one_trial_a_row_has_no_dispersion():
    data = pd.DataFrame({"y": [0, 1, 1, 0], "x": range(4)})
    with pytest.raises(ValueError, match="says nothing about its dispersion"):
        bg.GLMM("y ~ x", data, family="beta_binomial")
