"""NUTS against the exact posterior, its diagnostics, and its random streams."""

import os

import arviz_stats
import numpy as np
import pytest
from scipy import optimize, special, stats

import bayes_glmm as bg
from bayes_glmm.bayesian import nuts

NODES = np.linspace(-6, 6, 81)


def exact_log_posterior(model):
    """Log posterior of rows ``(beta, log sd)``: b integrated by the trapezoidal rule, 81 points.

    Written for a binomial logit model with one scalar effect, from scratch. A herd's integrand
    is at least .3 wide and points are .15 sd apart, so that the rule's error, about
    exp(-2 (pi width / spacing)^2), is below 1e-5 for every sd the posterior reaches.
    """
    design = model.design
    index = design.groups[0].index
    y, trials, X = design.y, design.trials, design.X
    (sd_prior,) = model.priors.sd["herd"]
    means, sds = ([getattr(p, name) for p in model.priors.beta] for name in ("mean", "sd"))
    weights = stats.norm.pdf(NODES) * (NODES[1] - NODES[0])
    base = stats.binom.logpmf(y, trials, 0.5) + trials * np.log(2)

    def log_posterior(points):
        beta, sd = points[:, :-1], np.exp(points[:, -1])
        eta = (beta @ X.T)[:, :, None] + sd[:, None, None] * NODES
        rows = y[:, None] * eta - trials[:, None] * np.logaddexp(0, eta)
        groups = np.zeros((len(points), index.max() + 1, len(NODES)))
        np.add.at(groups, (slice(None), index), rows)
        integral = special.logsumexp(groups, axis=2, b=weights).sum(axis=1)
        prior = stats.norm(means, sds).logpdf(beta).sum(axis=1)
        prior += np.log(2) + stats.t(sd_prior.df, 0, sd_prior.scale).logpdf(sd) + points[:, -1]
        return integral + prior + base.sum()

    return log_posterior


@pytest.fixture(scope="module")
def exact(cbpp):
    """Posterior means of beta and sd with their Monte Carlo errors, by importance sampling.

    10,000 draws of a t distribution with 7 degrees of freedom at the mode.
    """
    log_posterior = exact_log_posterior(cbpp)
    start = np.r_[-1.4, -1.0, -1.1, -1.6, np.log(0.65)]
    found = optimize.minimize(lambda x: -log_posterior(x[None])[0], start)
    h = 1e-3 * np.eye(5)
    curvature = [
        [
            log_posterior(found.x + np.array([a + b, a - b, b - a, -a - b])) @ [1, -1, -1, 1]
            for a in h
        ]
        for b in h
    ]
    covariance = np.linalg.inv(np.array(curvature) / -4e-6)
    proposal = stats.multivariate_t(found.x, 1.2 * covariance, df=7, seed=1)
    points = proposal.rvs(10_000)
    log_target = np.concatenate([log_posterior(part) for part in np.array_split(points, 40)])
    weights = special.softmax(log_target - proposal.logpdf(points))
    values = np.c_[points[:, :-1], np.exp(points[:, -1])]
    mean = weights @ values
    return mean, np.sqrt(weights**2 @ (values - mean) ** 2)


def test_posterior_means_are_exact(cbpp_posterior, exact):
    mean, error = exact
    posterior = cbpp_posterior.draws["posterior"].to_dataset()
    found = [posterior[name].mean(("chain", "draw")) for name in ("beta", "sd_herd")]
    mcse = [arviz_stats.mcse(posterior[name]) for name in ("beta", "sd_herd")]
    combined = np.hypot(np.concatenate(mcse), error)
    assert np.all(error < np.concatenate(mcse))  # the yardstick is the finer one
    assert np.all(np.abs(np.concatenate(found) - mean) < 4 * combined)


def test_default_settings_converge(cbpp_posterior):
    fit = cbpp_posterior
    assert fit.converged
    assert fit.messages == ()
    assert fit.details["divergences"] == 0
    assert fit.diagnostics["rhat"].max() <= 1.01
    assert fit.draws["posterior"].sizes["chain"] == 4
    assert fit.draws["posterior"].sizes["draw"] == 1000
    assert not any("raw_" in name for name in fit.draws["posterior"].data_vars)
    assert fit.seconds.compile > 0
    assert "nutpie" in fit.draws.attrs["versions"]
    assert fit.draws.attrs["seed"] == 1


@pytest.mark.filterwarnings("ignore:Estimated shape parameter:UserWarning")  # one herd's k-hat
def test_arviz_reads_the_tree(cbpp_posterior):
    """Leave-one-out and power scaling need log_likelihood and log_prior by the right names."""
    tree = cbpp_posterior.draws
    assert np.isfinite(arviz_stats.loo(tree).elpd)
    table = arviz_stats.psense_summary(tree, var_names=["beta", "sd_herd"])
    assert len(table) == 5


def test_same_numbers_for_any_number_of_cores(cbpp, cbpp_posterior, monkeypatch):
    short = bg.NUTS(draws=40, tune=40, chains=2)
    one, two = (
        monkeypatch.setattr(os, "cpu_count", lambda k=k: k) or cbpp.fit(short) for k in (1, 2)
    )
    assert cbpp in nuts._prepared  # compiled once for the session
    np.testing.assert_array_equal(one.draws["posterior"]["beta"], two.draws["posterior"]["beta"])
    replicated = (f.draws["posterior_predictive"]["y"] for f in (one, two))
    np.testing.assert_array_equal(*replicated)
    other = cbpp.fit(bg.NUTS(draws=40, tune=40, chains=2, seed=2))
    assert np.any(other.draws["posterior"]["beta"] != one.draws["posterior"]["beta"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "formula", "family"),
    [
        ("bacteria", "y01 ~ trt + week_gt2 + (1 | id)", "bernoulli"),
        ("epil", "y ~ log_base4 * trt + log_age + v4 + (1 | subject)", "poisson"),
    ],
)
def test_examples_converge_by_default(name, formula, family):
    fit = bg.GLMM(formula, bg.load_dataset(name), family=family).fit("nuts")
    assert fit.converged
    assert fit.messages == ()


@pytest.mark.slow
def test_correlated_effects_recover_the_likelihoods_answer(reference):
    """sleepstudy: with 18 subjects the posterior is centred near REML's estimates.

    The priors are wide (2.5 SDs of the response), so the posterior mean of a coefficient is
    within a tenth of its SD of the estimate and SDs are a little above theirs.
    """
    model = bg.GLMM(
        "reaction ~ days + (days | subject)", bg.load_dataset("sleepstudy"), family="gaussian"
    )
    fit = model.fit(bg.NUTS(target_accept=0.95))
    assert np.all(np.abs(fit.fixef() - [251.405, 10.467]) < 0.1 * fit.se())
    sd = fit.varcorr()["sd"].dropna()
    assert np.all(np.abs(sd / [24.74, 5.92] - 1) < 0.2)
    assert fit.dispersion == pytest.approx(25.59, rel=0.05)
    assert fit.diagnostics["rhat"].max() < 1.02
