"""Every family with every link: against SciPy, differences, and NumPy against Numba."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy import stats

from bayes_glmm.families import FAMILIES, LINKS, get_family
from bayes_glmm.families.special import rising
from bayes_glmm.numerics.bind import bind_numba, bind_numpy

PAIRS = [(f, LINKS[name]) for f in FAMILIES.values() for name in f.links]
IDS = [f"{f.name}-{link.name}" for f, link in PAIRS]
DISPERSION = 1.3


def size_and_share(mu):
    """SciPy's parameters of a negative binomial of size ``DISPERSION``."""
    return DISPERSION, DISPERSION / (DISPERSION + mu)


DISTRIBUTIONS = {
    "gaussian": lambda y, mu, trials: stats.norm.logpdf(y, mu, DISPERSION),
    "bernoulli": lambda y, mu, trials: stats.bernoulli.logpmf(y, mu),
    "binomial": lambda y, mu, trials: stats.binom.logpmf(y, trials, mu),
    "poisson": lambda y, mu, trials: stats.poisson.logpmf(y, mu),
    "negative_binomial": lambda y, mu, trials: stats.nbinom.logpmf(y, *size_and_share(mu)),
    "negative_binomial1": lambda y, mu, trials: stats.nbinom.logpmf(
        y, mu / DISPERSION, 1 / (1 + DISPERSION)
    ),
    "gamma": lambda y, mu, trials: stats.gamma.logpdf(y, DISPERSION**-2, scale=mu * DISPERSION**2),
    "beta_binomial": lambda y, mu, trials: stats.betabinom.logpmf(
        y, trials, DISPERSION * mu, DISPERSION * (1 - mu)
    ),
}

pairs = pytest.mark.parametrize(("family", "link"), PAIRS, ids=IDS)


def responses(family, eta, seed=1):
    """Responses of the family, and trials, of the shape of ``eta``."""
    rng = np.random.default_rng(seed)
    trials = np.full(eta.shape, 7.0) if family.has_trials else np.ones(eta.shape)
    draws = {
        "gaussian": lambda: rng.normal(1, 2, eta.shape),
        "gamma": lambda: rng.gamma(2, 1, eta.shape),
    }
    counts = np.isinf(family.support.high) and not family.has_trials
    if counts:  # some beyond the terms that are summed one by one
        draws.setdefault(family.name, lambda: rng.poisson(3, eta.shape) ** 2 * 1.0)
    return draws.get(
        family.name, lambda: rng.binomial(trials.astype(int), 0.4).astype(float)
    )(), trials


def inside(link, eta):
    """The same number of predictors, where the link has a mean."""
    return eta if np.isinf(link.lowest) else np.linspace(0.5, 4, eta.size)


def four(bound, y, trials, eta):
    return np.array(
        [np.broadcast_to(a, eta.shape) for a in bound.log_density(y, trials, eta, DISPERSION)]
    )


def test_every_family_has_a_distribution_here():
    assert set(DISTRIBUTIONS) == set(FAMILIES)


@pairs
def test_log_likelihood_is_scipys(family, link):
    eta = inside(link, np.linspace(-3, 1.2, 41))
    bound = bind_numpy(family, link)
    y, trials = responses(family, eta)
    expected = DISTRIBUTIONS[family.name](y, bound.mean(eta), trials)
    found = bound.log_likelihood(y, trials, eta, DISPERSION)
    # SciPy's log pmf of a mean near 1 loses digits of 1 - mu, ours does not
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@pairs
def test_derivatives_are_those_of_the_log_density(family, link):
    eta = inside(link, np.linspace(-6, 2.5, 69))
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


WITH_DISPERSION = [p for p in PAIRS if p[0].has_dispersion]


@pytest.mark.parametrize(("family", "link"), WITH_DISPERSION)
def test_dispersion_derivatives(family, link):
    eta = inside(link, np.linspace(-2, 1.5, 31))
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
    wide = np.linspace(-25, 25, 2001) if np.isinf(link.lowest) else np.linspace(0.01, 25, 2001)
    eta = np.concatenate([wide, [-1e-9, 0.0] if np.isinf(link.lowest) else [-3.0, 0.0]])
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
    # what is not asked for is left out, and then other sums are fused with their products
    np.testing.assert_allclose(pair, out[:2], rtol=1e-14, atol=1e-14)


@pairs
def test_blocks_take_a_part_of_the_rows(family, link):
    eta = inside(link, np.linspace(-2, 2, 50))
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
    eta = eta if np.isinf(link.lowest) else np.abs(eta) ** np.sign(eta)
    blocks = bind_numba(family, link)
    for low in (True, False):
        trials = np.full(eta.shape, 7.0) if family.has_trials else np.ones(eta.shape)
        counts = np.isinf(family.support.high) and not family.has_trials
        y = np.full(eta.shape, 0.0 if family.support.closed_low else 1e-3)
        y = y if low else (3 * trials if counts else trials)
        out = np.empty((4, eta.size))
        blocks.density(y, trials, eta, DISPERSION, 0, eta.size, out)
        assert np.all(np.isfinite(out))


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_links_invert_their_inverse(link):
    eta = inside(link, np.linspace(-5, 1.2, 63))
    np.testing.assert_allclose(link.link(link.inverse(eta)[0]), eta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_parts_of_a_link_agree(link):
    """The logarithms are those of the mean, and each part's derivatives are its own."""
    eta = inside(link, np.linspace(-4, 1.0, 51))
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


@pytest.mark.parametrize("dispersion", [1e-3, 0.2, 1.3, 2.9, 40.0, 1e5])
@pytest.mark.parametrize("name", [f.name for f in FAMILIES.values() if f.has_dispersion])
def test_the_scale_part_has_its_derivative(name, dispersion):
    """Against SciPy the sum is tested above; here the slope, on both sides of every switch."""
    family = FAMILIES[name]
    y, trials = responses(family, np.zeros(30))
    h = 1e-4
    at = [family.log_scale(y, trials, dispersion * np.exp(k * h))[0] for k in (-2, -1, 1, 2)]
    slopes = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
    exact = family.log_scale(y, trials, dispersion)[1]
    # rounding of the values, up to 1e6, over the step
    np.testing.assert_allclose(exact, slopes, rtol=1e-8, atol=1e-11 * np.max(np.abs(at)) + 1e-10)


@pytest.mark.parametrize(("family", "link"), [p for p in PAIRS if np.isfinite(p[1].lowest)])
def test_without_a_mean_there_is_no_density(family, link):
    eta = np.array([-5.0, -1e-12, 0.0])
    y, trials = responses(family, eta)
    blocks, bound = bind_numba(family, link), bind_numpy(family, link)
    out, spread = np.empty((4, 3)), np.empty((3, 3))
    blocks.density(y, trials, eta, DISPERSION, 0, 3, out)
    blocks.spread(y, trials, eta, DISPERSION, 0, 3, spread)
    for found in (out, four(bound, y, trials, eta)):
        assert np.all(found[0] == -np.inf) and not found[1:].any()
    assert not spread.any()


LIMITS = {
    "negative_binomial": ("poisson", 1e8),
    "negative_binomial1": ("poisson", 1e-8),
    "beta_binomial": ("binomial", 1e8),
}


@pytest.mark.parametrize("name", LIMITS)
def test_near_its_limit_a_family_is_the_limit(name):
    """The first order of the difference is ``Var - Var_limit`` times the second difference.

    What is left is of second order, ``(1e-8 (y + mu)^2)^2``, and rounding.
    """
    limit, dispersion = LIMITS[name]
    family, simple = FAMILIES[name], FAMILIES[limit]
    link = LINKS[family.default_link]
    eta = np.linspace(-2, 5, 60) if limit == "poisson" else np.linspace(-4, 4, 60)
    rng = np.random.default_rng(2)
    trials = np.full(60, 30.0) if family.has_trials else np.ones(60)
    y = simple.simulate(rng, link.inverse(eta)[0], trials, 1.0)
    near, at = bind_numpy(family, link), bind_numpy(simple, link)
    mu = trials * at.mean(eta)
    if limit == "poisson":
        by = 1e-8 * (mu if name == "negative_binomial" else 1.0)
        first = by * ((y - mu) ** 2 - y) / (2 * mu)
    else:
        p, q = mu / trials, 1 - mu / trials
        first = 0.5e-8 * (
            y * (y - 1) / p + (trials - y) * (trials - y - 1) / q - trials * (trials - 1)
        )
    gain = near.log_likelihood(y, trials, eta, dispersion) - at.log_likelihood(y, trials, eta)
    rounding = 1e-14 * (1 + np.abs(y * np.log(np.maximum(y, 1))) + mu + trials * 5)
    np.testing.assert_allclose(gain, first, rtol=1e-4, atol=np.max(rounding))
    l = near.log_density(y, trials, eta, dispersion)  # noqa: E741
    for found, expected in zip(l[1:], at.log_density(y, trials, eta)[1:], strict=True):
        # derivatives differ by the first order, at most 1e-8 (y + mu)^2, as well
        np.testing.assert_allclose(found, expected, atol=1e-8 * np.max(y + mu + trials) ** 2)


def exact_rising(log_a, y):
    """``R(a, y)`` and its derivatives in ``log a``, to 50 digits, as the sums they are."""
    a = Decimal(float(log_a)).exp()
    product, first, second, third = Decimal(1), Decimal(0), Decimal(0), Decimal(0)
    for k in range(int(y)):
        q, g = k / (a + k), a / (a + k)
        product *= 1 + k / a
        first, second, third = first - q, second + q * g, third + q * g * (q - g)
    return product.ln(), first, second, third


@pytest.mark.parametrize("y", [0, 1, 2, 7, 8, 9, 30, 1000])
def test_rising_factorials(y):
    places = np.concatenate([np.linspace(-300, 40, 18), np.linspace(-6, 20, 40)])
    with localcontext() as context:
        context.prec = 50
        exact = np.array([[float(v) for v in exact_rising(x, y)] for x in places])
    found = np.array([rising(x, np.float64(y)) for x in places])
    # 1e-16 a term, and a term of the value is up to |log a| large
    scale = 2e-15 * max(y, 1)
    np.testing.assert_allclose(found[:, 1:], exact[:, 1:], rtol=1e-15, atol=scale)
    np.testing.assert_allclose(found[:, 0], exact[:, 0], rtol=2e-15, atol=scale)


@pytest.mark.parametrize("name", [f.name for f in FAMILIES.values()])
def test_simulated_responses_have_the_mean_and_the_variance(name):
    family = FAMILIES[name]
    link, rng = LINKS[family.default_link], np.random.default_rng(3)
    mean = link.inverse(np.float64(0.4))[0]
    trials = np.full(200_000, 7.0) if family.has_trials else np.ones(200_000)
    y = family.simulate(rng, np.full(200_000, mean), trials, DISPERSION)
    variance = family.variance(mean, DISPERSION) * family.excess(trials[0], DISPERSION) * trials[0]
    assert not family.outside(y, trials).any()
    assert abs(y.mean() - trials[0] * mean) < 5 * np.sqrt(variance / y.size)
    # kurtosis of these is at most 40: the relative SD of a variance is below sqrt(40 / n)
    assert y.var() / variance == pytest.approx(1, abs=5 * np.sqrt(40 / y.size))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nbinom1", "negative_binomial1"),
        ("nbinom2", "negative_binomial"),
        ("betabinomial", "beta_binomial"),
        ("Gamma", "gamma"),
        ("negative_binomal", "negative_binomial"),
    ],
)
def test_names_of_other_software_are_told_ours(name, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        get_family(name)


def test_a_family_with_an_unknown_name_is_refused():
    import bayes_glmm.families.poisson as module

    class Odd(type(FAMILIES["poisson"])):
        name = "odd"

        @staticmethod
        def log_density(y, trials, dispersion, log_mean, mean):
            return module.gammaln(y), y, y, y

    with pytest.raises(TypeError, match="uses the name 'gammaln'"):
        bind_numba(Odd(), LINKS["log"])
