"""The quasi-score against the log density, far into the tails, and Fisher scoring."""

import numpy as np
import pytest

from bayes_glmm.families import FAMILIES, get_link
from bayes_glmm.numerics.bind import bind_numpy
from bayes_glmm.numerics.quasi_likelihood import fisher_scoring, quasi_score, start_predictor

# their dispersion is a factor of the variance, or there is none
PAIRS = [
    (f, get_link(link, f))
    for f in FAMILIES.values()
    if f.dispersion_is_scale or not f.has_dispersion
    for link in f.links
]


def case(family, rng, n=40):
    trials = rng.integers(1, 9, n).astype(float) if family.has_trials else np.ones(n)
    mean = rng.uniform(0.2, 0.8, n)
    return family.simulate(rng, mean, trials, 0.3), trials


@pytest.mark.parametrize(("family", "link"), PAIRS, ids=str)
def test_score_is_the_derivative_of_the_log_density(family, link):
    bound, rng = bind_numpy(family, link), np.random.default_rng(1)
    y, trials = case(family, rng)
    high = 30.0 if np.isinf(link.mean_range.high) else 12.0
    for eta in np.linspace(-12 if np.isinf(link.lowest) else 0.05, high, 23):
        eta = np.full(len(y), eta)
        score, information = quasi_score(bound, y, trials, eta)
        expected = bound.log_density(y, trials, eta)[1]
        # where V(mu) > 1e-8 the digits lost in 1 - mu leave 1e-16/1e-8, times y - mu
        np.testing.assert_allclose(score, expected, rtol=1e-7, atol=1e-12)
        assert (information > 0).all()


@pytest.mark.parametrize(("family", "link"), PAIRS, ids=str)
def test_information_is_the_variance_of_the_score(family, link):
    bound = bind_numpy(family, link)
    eta = np.linspace(-2, 1, 7) if np.isinf(link.lowest) else np.linspace(0.3, 3, 7)
    trials = np.full(7, 3.0 if family.has_trials else 1.0)
    support = np.arange(4.0 if family.has_trials else 2.0 if family.name == "bernoulli" else 60)
    if family.name == "gaussian":
        slope = link.inverse(eta)[1]
        expected = np.broadcast_to(slope, eta.shape) ** 2
    elif family.name == "gamma":  # Var(y) = mu^2
        mean, slope = link.inverse(eta)[:2]
        expected = (slope / mean) ** 2
    else:
        density = [np.exp(bound.log_likelihood(np.full(7, y), trials, eta)) for y in support]
        scores = [bound.log_density(np.full(7, y), trials, eta)[1] for y in support]
        expected = sum(p * s**2 for p, s in zip(density, scores, strict=True))
    found = quasi_score(bound, eta * 0, trials, eta)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize(("family", "link"), PAIRS, ids=str)
def test_scoring_ends_where_the_score_vanishes(family, link):
    bound, rng = bind_numpy(family, link), np.random.default_rng(2)
    y, trials = case(family, rng)
    X = np.c_[np.ones(40), rng.normal(size=40)]
    offset = rng.normal(scale=0.1, size=40)
    found = fisher_scoring(bound, y, trials, offset, X)
    assert found.converged
    score, information = quasi_score(bound, y, trials, X @ found.beta + offset)
    total = X.T @ score
    # a last step of 1e-8 standard errors leaves a score below that, in its own SD
    assert np.sqrt(total @ np.linalg.solve((X.T * information) @ X, total)) < 1e-7


@pytest.mark.parametrize(("family", "link"), PAIRS, ids=str)
def test_start_is_inside_the_range(family, link):
    bound = bind_numpy(family, link)
    y = np.array([0.0, 1.0, 0.0, 1.0])
    assert np.isfinite(start_predictor(bound, y, np.ones(4))).all()


def test_separation_does_not_converge():
    family, link = FAMILIES["bernoulli"], get_link("logit", FAMILIES["bernoulli"])
    x = np.arange(6.0)
    X, ones = np.c_[np.ones(6), x], np.ones(6)
    found = fisher_scoring(bind_numpy(family, link), (x > 2).astype(float), ones, 0 * x, X)
    assert not found.converged
