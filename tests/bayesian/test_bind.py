"""PyMC's densities and automatic derivatives against the families' own formulas."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest

from bayes_glmm.bayesian.bind import bind_pytensor, quantity
from bayes_glmm.families import FAMILIES, LINKS, Link, get_family, get_link
from bayes_glmm.numerics.bind import bind_numpy

PAIRS = [(family, link) for family in FAMILIES for link in get_family(family).links]
PARTS = ("inverse", "log_inverse", "log_complement")
each_pair = pytest.mark.parametrize(("family", "link"), PAIRS)


def compiled(inputs, outputs):
    return pytensor.function(inputs, outputs, mode="FAST_COMPILE", on_unused_input="ignore")


WRITTEN = [
    (name, part)
    for name, link in LINKS.items()
    for part in PARTS
    if getattr(link, part) is not getattr(Link, part)
]


@pytest.mark.parametrize(("name", "part"), WRITTEN)
def test_symbolic_links_are_the_numpy_links(name, part):
    eta = np.array([-700.0, -40, -3, -0.5, 0, 0.5, 3, 40, 700])
    eta = eta if np.isinf(LINKS[name].lowest) else np.exp(eta / 10)
    expected = getattr(LINKS[name], part)(eta)
    x = pt.dvector()
    values = [
        pt.as_tensor_variable(v) + 0 * x for v in getattr(bind_pytensor(LINKS[name]), part)(x)
    ]
    for ours, theirs in zip(expected, compiled([x], values)(eta), strict=True):
        # the same formula on the same numbers; libm may differ in the last digit
        np.testing.assert_allclose(theirs, np.broadcast_to(ours, eta.shape), 1e-13, 1e-300)


def density(family, link):
    """PyMC's log density of y given eta with two derivatives, and ours, as functions."""
    family = get_family(family)
    link = get_link(link, family)
    y, trials, eta, dispersion = pt.dvector(), pt.dvector(), pt.dvector(), pt.dscalar()
    known = {"trials": trials, "dispersion": dispersion}
    name, parameters = family.pymc
    arguments = {
        parameter: known[what] if what in known else quantity(what, link, eta, dispersion)
        for parameter, what in parameters.items()
    }
    logp = pm.logp(getattr(pm, name).dist(**arguments), y)
    # PyMC differentiates after these rewrites, which make the logarithms stable
    total = pm.pytensorf.rewrite_pregrad(pt.sum(logp))
    first = pytensor.grad(total, eta)
    second = pytensor.grad(pt.sum(first), eta)
    theirs = compiled([y, trials, eta, dispersion], [logp, first, second])
    bound = bind_numpy(family, link)

    def ours(y, trials, eta, dispersion):
        _, l1, l2, _ = bound.log_density(y, trials, eta, dispersion)
        return bound.log_likelihood(y, trials, eta, dispersion), l1, l2

    return theirs, ours


def responses(family, n, rng):
    if family == "gaussian":
        return rng.normal(size=n), np.ones(n)
    if family == "gamma":
        return rng.gamma(2, size=n), np.ones(n)
    kind = get_family(family)
    if np.isinf(kind.support.high) and not kind.has_trials:
        return rng.poisson(3, n) ** 2.0, np.ones(n)
    trials = rng.integers(1, 30, n).astype(float) if kind.has_trials else np.ones(n)
    return rng.binomial(trials.astype(int), 0.5).astype(float), trials


@each_pair
def test_log_density_and_automatic_derivatives(family, link):
    rng = np.random.default_rng(1)
    theirs, ours = density(family, link)
    eta = np.linspace(-4, 3, 60)
    eta = eta if np.isinf(LINKS[link].lowest) else np.linspace(0.1, 5, 60)
    y, trials = responses(family, len(eta), rng)
    for got, expected in zip(theirs(y, trials, eta, 1.3), ours(y, trials, eta, 1.3), strict=True):
        # cancellation in log(mu) - log(1 - mu) and in autodiff's products costs three digits
        np.testing.assert_allclose(got, np.broadcast_to(expected, eta.shape), 1e-10, 1e-10)


def exact_in_pymc(family, link, eta):
    """Where PyMC's own formula holds: its arguments are finite, and it changes to no limit."""
    if family == "beta_binomial":  # a and b are positive doubles
        bound = LINKS[link]
        return np.minimum(bound.log_inverse(eta)[0], bound.log_complement(eta)[0]) > -700
    if family == "negative_binomial1":  # beyond a size of 1e10 it is PyMC's Poisson
        return eta < 20
    return eta > -300 if family == "gamma" else np.full(len(eta), True)


@each_pair
def test_far_tails_stay_finite(family, link):
    theirs, ours = density(family, link)
    eta = np.array([-700.0, -300, -40, 40, 250, 299])
    eta = eta if np.isinf(LINKS[link].lowest) else np.abs(eta) ** np.sign(eta)
    for y in (0.0, 1.0):
        if not get_family(family).support.contains(np.array(y)):
            continue
        rows = np.full(len(eta), y), np.ones(len(eta)), eta, 1.3
        value, slope, _ = theirs(*rows)
        expected = ours(*rows)
        assert np.all(np.isfinite(slope)) and np.all(np.isfinite(value))
        same = exact_in_pymc(family, link, eta)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(value[same], expected[0][same], rtol=1e-9, atol=1e-12)
            expected = np.broadcast_to(expected[1], 6)
            np.testing.assert_allclose(slope[same], expected[same], 1e-9, 1e-12)
        assert np.all(np.isfinite(theirs(rows[0], rows[1], np.full(6, 700.0), 1.3)[1]))


def test_unknown_quantity():
    with pytest.raises(ValueError, match="'median' is not known: use one of mean, logit_mean"):
        quantity("median", get_link("log", get_family("poisson")), pt.dvector())
