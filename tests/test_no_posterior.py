"""The report on posteriors that do not exist: its quadrature, its sampler, and NUTS beside it."""

import numpy as np
import pytest
from scipy import integrate
from scipy.special import log_expit

import bayes_glmm as bg
from studies.gibbs import gibbs
from studies.no_posterior import BETA, PROPER, nuts_against, posteriors_of, power
from studies.sigma import Marginal, marginal_of


@pytest.fixture(scope="module")
def model(models):
    return bg.load_model(models / "ten_clusters.toml").model()


def flat_marginal(limit: float) -> Marginal:
    """A likelihood that is exp(-sigma) far out and ``limit`` at zero."""
    log_sigma = np.linspace(-40, 8, 40_001)
    value = np.log(limit) - np.exp(log_sigma)
    return Marginal(log_sigma, value, np.zeros(40_001), np.ones(40_001))


def test_summaries_of_a_posterior_on_the_grid_are_those_of_the_exponential():
    found = flat_marginal(0.5).posterior(lambda s: np.zeros(s.shape))
    summary = found.summary()
    # trapezoids of step 1.2e-3: error of order 1e-6
    assert summary["mean"] == pytest.approx(1, abs=1e-5)
    assert summary["median"] == pytest.approx(np.log(2), abs=1e-5)
    assert summary["high"] == pytest.approx(-np.log(0.025), abs=1e-4)
    assert found.below(1.0) == pytest.approx(1 - np.exp(-1), abs=1e-5)


def test_truncations_of_the_log_uniform_prior_have_no_limit():
    shares = [flat_marginal(0.5).posterior(power(1.0, e)).below(0.05) for e in (1e-3, 1e-6, 1e-12)]
    # mass log(0.05 / e) below, and a constant above
    odds = np.array(shares) / (1 - np.array(shares))
    expected = np.log(0.05 / np.array([1e-3, 1e-6, 1e-12]))
    assert np.ptp(odds / expected) < 0.02 * odds[0] / expected[0]


@pytest.mark.slow
def test_marginal_likelihood_is_that_of_nested_integrals(model):
    d = model.design
    marginal = marginal_of(model)

    def likelihood(beta, sigma):
        total = 1.0
        for level in range(10):
            rows = d.groups[0].index == level
            sign, x = 2 * d.y[rows] - 1, d.X[rows, 0]

            def inner(u, sign=sign, x=x):
                return np.exp(log_expit(sign * (beta * x + sigma * u)).sum() - 0.5 * u * u)

            total *= integrate.quad(inner, -9, 9, epsabs=0, epsrel=1e-9, limit=200)[0]
        return total * np.exp(-0.005 * beta**2)

    values = [
        np.log(integrate.quad(lambda b, s=s: likelihood(b, s), 0, 20, epsrel=1e-6)[0])
        for s in (0.5, 1.5)
    ]
    at = np.interp(np.log([0.5, 1.5]), marginal.log_sigma, marginal.log_likelihood)
    # quad was asked for 1e-6
    assert at[1] - at[0] == pytest.approx(values[1] - values[0], abs=1e-5)


def test_the_sampler_falls_where_there_is_no_posterior(model):
    sigma = gibbs(model, 3000, seed=1)
    assert sigma.shape == (4, 3000)
    assert np.median(sigma[:, 1500:]) < 0.2
    assert sigma.min() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("label", PROPER)
def test_nuts_agrees_with_quadrature_under_every_proper_prior(model, label):
    posterior = posteriors_of(model, marginal_of(model))[label]
    distances = nuts_against(model, PROPER[label], posterior, 2500)
    assert max(distances.values()) < 4, distances


def test_the_priors_of_the_report_are_proper_and_the_others_are_refused(model):
    for prior in PROPER.values():
        assert bg.check_propriety(model.with_priors(sd=prior, beta=BETA)).verdict == "proper"
    chosen = bg.Priors(sd=bg.Power(1), beta=BETA, allow_improper=True)
    with pytest.raises(bg.ImproperPosteriorError):
        bg.build_graph(model.with_priors(chosen))
