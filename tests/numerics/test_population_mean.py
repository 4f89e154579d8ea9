"""Means over a normal linear predictor against scipy's adaptive integration."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from bayes_glmm.families import get_family, get_link
from bayes_glmm.numerics.population_mean import population_mean

CASES = [(0.0, -1.0), (0.3, 2.0), (1.0, 0.3), (4.0, -1.7), (4.0, 3.0), (12.0, -6.0)]
FAMILY = {"log": "poisson", "identity": "gaussian"}


def link_of(name):
    return get_link(name, get_family(FAMILY.get(name, "bernoulli")))


def integral(f, eta, sd) -> float:
    """``E f(eta + sd Z)``, cut where the function bends so that no piece is missed."""
    if sd == 0:
        return f(eta)
    bends = (np.array([-10, -3, -1, 0, 1, 3, 10]) - eta) / sd
    cuts = np.unique(np.clip([-9, -3, 0, 3, 9, *bends], -9, 9))
    pieces = [
        quad(lambda z: f(eta + sd * z) * norm.pdf(z), a, b, epsabs=1e-14, epsrel=1e-13)[0]
        for a, b in pairwise(cuts)
    ]
    return sum(pieces)


@pytest.mark.parametrize(
    "name", ["logit", "probit", "cloglog", "loglog", "cauchit", "log", "identity"]
)
@pytest.mark.parametrize(("sd", "eta"), CASES)
def test_mean_and_derivatives_are_the_integrals(name, sd, eta):
    """Both are accurate to about 1e-13; a lognormal mean relative to its size."""
    link = link_of(name)
    found = population_mean(link, eta, sd**2)
    for k, (value, scale) in enumerate(zip(found, (1, 1, 0.5), strict=True)):

        def f(x, k=k):
            return float(np.broadcast_to(link.inverse(np.asarray(x, float))[k], ()))

        if name == "log":  # exp(eta + sd z) phi(z) = exp(eta + sd^2 / 2) phi(z - sd)
            expected = scale * np.exp(eta + sd * sd / 2)
        else:
            expected = scale * integral(f, eta, sd)
        assert float(value) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_shapes_are_kept_and_large_arrays_are_cut_into_chunks():
    eta = np.random.default_rng(1).normal(size=(3, 17_000))
    mean, slope, bend = population_mean(link_of("logit"), eta, np.array([[0.1], [1.0], [9.0]]))
    assert mean.shape == slope.shape == bend.shape == eta.shape
    one = population_mean(link_of("logit"), eta[2, -1], 9.0)
    # other SDs in one call give more nodes; both rules are accurate to 1e-13
    assert [mean[2, -1], slope[2, -1], bend[2, -1]] == pytest.approx(one, abs=1e-12)


def test_very_large_spread_tends_to_a_probit():
    """At SD 5000 the nodes are capped: the error stays below the bound that is stated."""
    mean = population_mean(link_of("logit"), 2500.0, 5000.0**2)[0]
    assert float(mean) == pytest.approx(norm.cdf(0.5), abs=1e-3)


def test_a_link_that_ends_has_no_mean_over_a_normal():
    sqrt = get_link("sqrt", get_family("poisson"))
    with pytest.raises(ValueError, match="part of the line only"):
        population_mean(sqrt, 1.0, 0.1)
    assert population_mean(sqrt, 3.0, 0.0)[0] == pytest.approx(9.0)
