"""Polynomials that stand for integrals: right where they are used, and only where they pay."""

from itertools import product

import arviz_stats
import numpy as np
import pytest

import bayes_glmm as bg
from bayes_glmm.bayesian import interpolation
from bayes_glmm.bayesian.density import IntegratedDensity, log_density
from bayes_glmm.bayesian.importance import Proposal
from bayes_glmm.bayesian.integrated import find_mode
from bayes_glmm.bayesian.interpolation import Exact, Interpolated, monomials, quickest, terms


def model(family: str = "bernoulli", levels: int = 150):
    """Five rows in each group."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(levels), 5)
    x = rng.standard_normal(len(g))
    eta = 0.3 + 0.5 * x + rng.standard_normal(levels)[g]
    if family == "bernoulli":
        y = (rng.random(len(g)) < 1.0 / (1.0 + np.exp(-eta))).astype(int)
    else:
        y = rng.poisson(np.exp(eta) * rng.gamma(3.0, 1.0 / 3.0, len(g)))
    return bg.GLMM("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family=family)


def at_mode(of):
    """Density, mode and inverse Hessian, and points from about the posterior."""
    density = IntegratedDensity(of, 11)
    mode, covariance = find_mode(density, density)
    density(mode)
    rng = np.random.default_rng(7)
    return density, mode, covariance, rng.multivariate_normal(mode, covariance, 40), rng


@pytest.mark.parametrize(("size", "degree"), [(1, 3), (3, 4), (5, 2)])
def test_monomials_are_all_products(size, degree):
    e = np.random.default_rng(1).normal(size=(4, size))
    powers = [a for a in product(range(degree + 1), repeat=size) if sum(a) <= degree]
    every = np.stack([np.prod(e**a, axis=1) for a in np.array(powers)], axis=1)
    found = monomials(e, degree)
    assert found.shape == (4, terms(size, degree)) == every.shape
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(every, axis=1), rtol=1e-13)


@pytest.mark.parametrize("family", ["bernoulli", "negative_binomial"])
def test_errors_fall_with_the_degree(family):
    """Even and odd apart, by about one over the root of the 150 groups for each degree."""
    density, mode, covariance, points, rng = at_mode(model(family))
    value, by_group = log_density(density, points)
    worst = []
    for degree in (2, 3, 4, 5):
        found = Interpolated(density, mode, covariance, degree, rng)
        worst.append(np.abs(found(points)[0] - value).max())
        levels = found.by_group(points)
        # the sum over levels is the value, but for what does not depend on them
        rest = found(points)[0] - levels.sum(axis=1)
        np.testing.assert_allclose(rest, value - by_group.sum(axis=1), atol=1e-9)
        assert np.abs(levels - by_group).max() <= worst[-1]
    assert worst[2] < 0.2 * worst[0]
    assert worst[3] < 0.2 * worst[1]
    assert worst[3] < 0.01


def test_beyond_the_ellipsoid_everything_is_integrated():
    density, mode, covariance, _, rng = at_mode(model())
    found = Interpolated(density, mode, covariance, 3, rng)
    axes = np.linalg.cholesky(covariance).T
    far = mode + np.concatenate([k * axes for k in (-9.0, -6.01, 6.01, 9.0)])
    value, by_group = log_density(density, far)
    np.testing.assert_array_equal(found(far)[0], value)
    np.testing.assert_array_equal(found.by_group(far), by_group)
    impossible = np.array([[0.0, 0.0, 800.0]])  # no finite standard deviation
    assert found(impossible)[0] == -np.inf


def test_used_where_it_is_right_and_pays(monkeypatch):
    density, mode, covariance, points, rng = at_mode(model())
    given = density, Proposal(mode, covariance), points
    assert isinstance(quickest(*given, 10_000, rng), Interpolated)
    assert isinstance(quickest(*given, 50, rng), Exact)  # as many points as densities
    monkeypatch.setattr(interpolation, "SPREAD", 1e-9)
    assert isinstance(quickest(*given, 10_000, rng), Exact)  # never right enough
    monkeypatch.undo()
    monkeypatch.setattr(interpolation, "DEAR", 1e12)
    assert isinstance(quickest(*given, 10_000, rng), Exact)  # quick as it is


def test_a_point_without_a_density_makes_it_unfit(monkeypatch):
    density, mode, covariance, points, rng = at_mode(model())
    exact = log_density(density, points)

    def failing(density, xi):
        value, by_group = log_density(density, xi)
        by_group[0, 0] = -np.inf
        return value, by_group

    monkeypatch.setattr(interpolation, "log_density", failing)
    found = Interpolated(density, mode, covariance, 3, rng)
    assert not found.finite
    assert not found.settles(points, exact)


def test_both_ways_give_one_posterior(monkeypatch):
    of = model()
    quick = of.fit(bg.Integrated(seed=1))
    assert quick.details["interpolation_degree"] in interpolation.DEGREES
    assert quick.details["interpolation_error"] <= 0.01
    monkeypatch.setattr(interpolation, "DEAR", np.inf)
    exact = of.fit(bg.Integrated(seed=2))
    assert exact.details["interpolation_degree"] == 0
    ours, theirs = (f.draws["posterior"].to_dataset() for f in (quick, exact))
    for name in ("beta", "sd_g", "b_g"):
        errors = [arviz_stats.mcse(p[name]).to_numpy() for p in (ours, theirs)]
        gap = (ours[name] - theirs[name]).mean(("chain", "draw")).to_numpy()
        # of 153 numbers, 4.5 standard errors are exceeded once in a thousand times
        assert np.all(np.abs(gap) < 4.5 * np.hypot(*errors))
    # levels and draws as they should be: each draw's integrals, quadrature at that draw
    density = IntegratedDensity(of, quick.details["nodes"])
    found = quick.draws["log_likelihood_by_group"]["y"].to_numpy()
    posterior = quick.draws["posterior"]
    beta, sd = posterior["beta"].to_numpy()[2, :5], posterior["sd_g"].to_numpy()[2, :5]
    inner = np.array([density.coordinates.standard.inner(b) for b in beta])
    given = inner, sd[:, :, None], np.ones(5)
    by_group = density.many().by_group(*given) + density.log_constants(np.ones(5))
    np.testing.assert_allclose(found[2, :5], by_group, atol=0.01)


def test_polynomials_that_are_wrong_at_the_draws_are_given_up(monkeypatch):
    """Those that passed at the points they were checked at, and are wrong where they led."""
    monkeypatch.setattr(interpolation, "DEGREES", (1,))
    monkeypatch.setattr(Interpolated, "settles", lambda self, points, exact: True)
    fit = model().fit(bg.Integrated(seed=1))
    assert fit.details["interpolation_degree"] == 0
    monkeypatch.undo()
    monkeypatch.setattr(interpolation, "DEAR", np.inf)
    exact = model().fit(bg.Integrated(seed=2))
    # both are right: 4,000 draws each, so that means differ by sqrt(2 / 3,000) SDs; four of them
    assert np.all(np.abs(fit.beta - exact.beta) < 4.0 * np.sqrt(2 / 3000) * exact.se())


def test_a_part_of_the_draws_by_group_is_held(monkeypatch):
    """Of the same draws, which do not depend on what is held."""
    of = model(levels=60)
    every = of.fit(bg.Integrated(draws=40))
    for module in ("integrated", "integrated_importance", "integrated_nuts"):
        monkeypatch.setattr(f"bayes_glmm.bayesian.{module}.thinning", lambda draws, points: 3)
    for method in (bg.Integrated(draws=40), bg.Integrated("nuts", draws=40, tune=50)):
        some = of.fit(method).draws["log_likelihood_by_group"]["y"]
        assert list(some["draw"]) == list(range(0, 40, 3))
        if method.method == "auto":
            kept = every.draws["log_likelihood_by_group"]["y"][:, ::3]
            np.testing.assert_array_equal(some.to_numpy(), kept.to_numpy())
