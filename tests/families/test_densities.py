"""Every family with every link: against SciPy, differences, and NumPy against Numba."""

import numpy as np
import pytest
from scipy import stats

from bayes_glmm.families import FAMILIES, LINKS
from bayes_glmm.numerics.bind import bind_numba, bind_numpy

PAIRS = [(f, LINKS[name]) for f in FAMILIES.values() for name in f.links]
IDS = [f"{f.name}-{link.name}" for f, link in PAIRS]
DISPERSION = 1.3
DISTRIBUTIONS = {
    "gaussian": lambda y, mu, trials: stats.norm.logpdf(y, mu, DISPERSION),
    "bernoulli": lambda y, mu, trials: stats.bernoulli.logpmf(y, mu),
    "binomial": lambda y, mu, trials: stats.binom.logpmf(y, trials, mu),
    "poisson": lambda y, mu, trials: stats.poisson.logpmf(y, mu),
}

pairs = pytest.mark.parametrize(("family", "link"), PAIRS, ids=IDS)


def responses(family, eta, seed=1):
    """Responses of the family, and trials, of the shape of ``eta``."""
    rng = np.random.default_rng(seed)
    trials = np.full(eta.shape, 7.0) if family.has_trials else np.ones(eta.shape)
    draws = {
        "gaussian": lambda: rng.normal(1, 2, eta.shape),
        "poisson": lambda: rng.poisson(3, eta.shape).astype(float),
    }
    return draws.get(
        family.name, lambda: rng.binomial(trials.astype(int), 0.4).astype(float)
    )(), trials


def four(bound, y, trials, eta):
    return np.array(
        [np.broadcast_to(a, eta.shape) for a in bound.log_density(y, trials, eta, DISPERSION)]
    )


def test_every_family_has_a_distribution_here():
    assert set(DISTRIBUTIONS) == set(FAMILIES)


@pairs
def test_log_likelihood_is_scipys(family, link):
    eta = np.linspace(-3, 1.2, 41)
    bound = bind_numpy(family, link)
    y, trials = responses(family, eta)
    expected = DISTRIBUTIONS[family.name](y, bound.mean(eta), trials)
    found = bound.log_likelihood(y, trials, eta, DISPERSION)
    # SciPy's log pmf of a mean near 1 loses digits of 1 - mu, ours does not
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@pairs
def test_derivatives_are_those_of_the_log_density(family, link):
    eta = np.linspace(-6, 2.5, 69)
    bound = bind_numpy(family, link)
    y, trials = responses(family, eta)
    h = 1e-3
    shifts = np.array([four(bound, y, trials, eta + k * h) for k in (-2, -1, 1, 2)])
    # five-point differences: truncation h^4/30 times the fifth derivative, rounding 1e-16/h
    weights = np.array([1, -8, 8, -1])[:, None, None] / (12 * h)
    slopes = (weights * shifts).sum(axis=0)
    exact = four(bound, y, trials, eta)
    scale = np.abs(exact).max(axis=1, keepdims=True)
    assert np.max(np.abs(slopes[:3] - exact[1:]) / np.maximum(scale[1:], 1)) < 1e-8


@pytest.mark.parametrize(("family", "link"), [p for p in PAIRS if p[0].has_dispersion])
def test_dispersion_derivatives(family, link):
    eta = np.linspace(-2, 1.5, 31)
    bound = bind_numpy(family, link)
    y, trials = responses(family, eta)
    h = 1e-4
    up, down = (
        np.array([np.broadcast_to(a, eta.shape) for a in bound.log_density(y, trials, eta, d)])
        for d in (DISPERSION * np.exp(h), DISPERSION * np.exp(-h))
    )
    exact = np.array(
        [
            np.broadcast_to(a, eta.shape)
            for a in bound.dispersion_derivatives(y, trials, eta, DISPERSION)
        ]
    )
    # central differences of a smooth function: h^2/6 times a third derivative of order 10
    np.testing.assert_allclose((up - down)[:3] / (2 * h), exact, rtol=1e-6, atol=1e-6)


@pairs
def test_numba_equals_numpy(family, link):
    eta = np.concatenate([np.linspace(-25, 25, 2001), [-1e-9, 0.0, 1e-9]])
    y, trials = responses(family, eta)
    blocks, bound = bind_numba(family, link), bind_numpy(family, link)
    out = np.empty((4, eta.size))
    blocks.density(y, trials, eta, DISPERSION, 0, eta.size, out)
    exact = four(bound, y, trials, eta)
    # formulas with cancellation (probit: 1 - r (eta + r) for eta -> -inf) magnify the last
    # bit by |eta|^4: 4e5 * 1e-16 at eta = -25, so the bound is relative to the largest
    # term for the third derivative there and 1e-13 relative elsewhere
    centre = np.abs(eta) < 8
    np.testing.assert_allclose(out[:3, centre], exact[:3, centre], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(out, exact, rtol=1e-9, atol=1e-9)
    pair = np.empty((2, eta.size))
    blocks.score(y, trials, eta, DISPERSION, 0, eta.size, pair)
    np.testing.assert_array_equal(pair, out[:2])


@pairs
def test_blocks_take_a_part_of_the_rows(family, link):
    eta = np.linspace(-2, 2, 50)
    y, trials = responses(family, eta)
    blocks = bind_numba(family, link)
    whole, part = np.empty((4, 50)), np.zeros((4, 60))
    blocks.density(y, trials, eta, DISPERSION, 0, 50, whole)
    blocks.density(y, trials, eta[20:].copy(), DISPERSION, 20, 30, part)
    np.testing.assert_array_equal(part[:, :30], whole[:, 20:])
    assert not part[:, 30:].any()


@pairs
def test_far_tails_stay_finite(family, link):
    eta = np.array([-700.0, -300.0, -80.0, -40.0, 40.0, 80.0, 300.0, 700.0])
    blocks = bind_numba(family, link)
    for low in (True, False):
        trials = np.full(eta.shape, 7.0) if family.has_trials else np.ones(eta.shape)
        y = np.zeros(eta.shape) if low else (trials if family.name != "poisson" else 3 * trials)
        out = np.empty((4, eta.size))
        blocks.density(y, trials, eta, DISPERSION, 0, eta.size, out)
        assert np.all(np.isfinite(out))


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_links_invert_their_inverse(link):
    eta = np.linspace(-5, 1.2, 63)
    np.testing.assert_allclose(link.link(link.inverse(eta)[0]), eta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_parts_of_a_link_agree(link):
    """The logarithms are those of the mean, and each part's derivatives are its own."""
    eta = np.linspace(-4, 1.0, 51)
    mean = link.inverse(eta)[0]
    targets = {"inverse": mean}
    if link.mean_range.low == 0:
        targets["log_inverse"] = np.log(mean)
    if link.mean_range.high == 1:
        targets["log_complement"] = np.log1p(-mean)
    h = 1e-3
    for name, value in targets.items():
        part = getattr(link, name)
        np.testing.assert_allclose(part(eta)[0], value, rtol=1e-11, atol=1e-14)
        at = [
            np.array([np.broadcast_to(a, eta.shape) for a in part(eta + k * h)])
            for k in (-2, -1, 1, 2)
        ]
        slopes = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
        exact = np.array([np.broadcast_to(a, eta.shape) for a in part(eta)])
        np.testing.assert_allclose(slopes[:3], exact[1:], rtol=1e-8, atol=1e-8)


def test_a_family_with_an_unknown_name_is_refused():
    import bayes_glmm.families.poisson as module

    class Odd(type(FAMILIES["poisson"])):
        name = "odd"

        @staticmethod
        def log_density(y, trials, dispersion, log_mean, mean):
            return module.gammaln(y), y, y, y

    with pytest.raises(TypeError, match="uses the name 'gammaln'"):
        bind_numba(Odd(), LINKS["log"])
