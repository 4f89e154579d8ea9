"""The integral over one factor: gradient, twin, brute force, extreme data."""

from itertools import pairwise
from math import pi

import numpy as np
import pytest
from scipy import integrate as scipy_integrate
from scipy import stats
from scipy.special import logsumexp

from bayes_glmm.numerics.bind import bind_numba, bind_numpy
from bayes_glmm.numerics.covariance import Covariance
from bayes_glmm.numerics.groups import Factor, Rows, chunks_of
from bayes_glmm.numerics.marginal import Marginal
from bayes_glmm.numerics.quadrature import gauss_hermite
from bayes_glmm.numerics.reference import integrate_group

from .problems import central_differences, one_factor, pair

SCALAR = [
    "bernoulli-logit",
    "bernoulli-probit",
    "binomial-cloglog",
    "poisson-log",
    "gaussian-identity",
    "gaussian-log",
]
VECTOR = [("binomial-logit", 2), ("poisson-log", 3), ("gaussian-log", 2)]


def marginal_of(name, rows, factors, nodes):
    return Marginal(bind_numba(*pair(name)), rows, factors, 0.0, nodes)


def parameters(marginal, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=0.6, size=marginal.layout.size)
    return x


@pytest.mark.parametrize("nodes", [1, 2, 7, 40])
def test_rule_integrates_polynomials(nodes):
    x, log_factor = gauss_hermite(nodes, 1)
    weights = np.exp(log_factor - 0.5 * x[:, 0] ** 2)
    for power in range(0, min(2 * nodes, 20), 2):
        moment = stats.norm.moment(power) if power else 1.0
        # exact up to degree 2 nodes - 1
        np.testing.assert_allclose(weights @ x[:, 0] ** power, moment, rtol=1e-11)


@pytest.mark.parametrize("nodes", [1, 3, 7, 25])
@pytest.mark.parametrize("name", SCALAR)
def test_gradient_of_one_scalar_effect(name, nodes):
    marginal = marginal_of(name, *one_factor(name), nodes)
    x = parameters(marginal)
    exact = marginal(x)[1]
    # value error 1e-15 of the Newton decrement over the step 1e-4
    np.testing.assert_allclose(
        central_differences(lambda p: marginal(p)[0], x), exact, rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("nodes", [1, 3, 7])
@pytest.mark.parametrize(("name", "q"), VECTOR)
def test_gradient_of_a_vector_of_effects(name, q, nodes):
    marginal = marginal_of(name, *one_factor(name, q), nodes)
    x = parameters(marginal)
    exact = marginal(x)[1]
    # with few nodes in several dimensions the sum is rough in the parameters
    np.testing.assert_allclose(
        central_differences(lambda p: marginal(p)[0], x), exact, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("nodes", [1, 7])
@pytest.mark.parametrize(("name", "q"), [(s, 1) for s in SCALAR] + VECTOR)
def test_kernels_equal_their_numpy_twin(name, q, nodes):
    rows, factors = one_factor(name, q)
    marginal = marginal_of(name, rows, factors, nodes)
    x = parameters(marginal)
    beta, thetas, dispersion = marginal.layout.split(x)
    base = rows.X @ beta + rows.offset
    L = factors[0].covariance.factor(thetas[0])
    pieces = marginal.integral(base, dispersion, [L])
    bound, starts = bind_numpy(*pair(name)), factors[0].starts()
    twins = [
        integrate_group(
            bound, rows.y[a:b], rows.trials[a:b], base[a:b], dispersion, factors[0].Z[a:b], L, nodes
        )
        for a, b in pairwise(starts)
    ]
    # modes agree to 3e-8 (decrement 1e-15): values to its square, derivatives to it
    np.testing.assert_allclose(pieces.value, sum(g.value for g in twins), rtol=1e-12)
    np.testing.assert_allclose(pieces.t, np.concatenate([g.t for g in twins]), atol=1e-7)
    np.testing.assert_allclose(pieces.gammas[0], sum(g.gamma for g in twins), atol=1e-6)
    np.testing.assert_allclose(pieces.dispersion, sum(g.dispersion for g in twins), atol=1e-6)
    np.testing.assert_allclose(marginal.integral.modes, [g.mode for g in twins], atol=1e-7)


@pytest.mark.parametrize("name", ["bernoulli-logit", "bernoulli-probit", "poisson-log"])
def test_many_nodes_are_the_integral(name):
    rows, factors = one_factor(name, levels=4)
    x = np.array([0.3, -0.5, 1.2])
    value = marginal_of(name, rows, factors, 41)(x)[0]
    bound = bind_numpy(*pair(name))
    base = rows.X @ x[:2] + rows.offset
    total = 0.0
    for g in range(4):
        j = factors[0].index == g

        def integrand(u, j=j):
            l = bound.log_density(rows.y[j], rows.trials[j], base[j] + 1.2 * u)[0]  # noqa: E741
            return np.exp(l.sum() - 0.5 * u * u) / np.sqrt(2 * pi)

        total += np.log(scipy_integrate.quad(integrand, -12, 12, epsabs=0, epsrel=1e-12)[0])
    np.testing.assert_allclose(value, total, rtol=1e-10)


def test_two_dimensions_are_the_integral():
    name = "binomial-logit"
    rows, factors = one_factor(name, 2, levels=2)
    x = np.array([0.3, -0.5, 0.9, -0.4, 0.7])
    value = marginal_of(name, rows, factors, 31)(x)[0]
    bound, L = bind_numpy(*pair(name)), np.array([[0.9, 0.0], [-0.4, 0.7]])
    base = rows.X @ x[:2] + rows.offset
    total = 0.0
    for g in range(2):
        j = factors[0].index == g

        def integrand(v, u, j=j):
            eta = base[j] + factors[0].Z[j] @ L @ [u, v]
            l = bound.log_density(rows.y[j], rows.trials[j], eta)[0]  # noqa: E741
            return np.exp(l.sum() - 0.5 * (u * u + v * v)) / (2 * pi)

        total += np.log(scipy_integrate.dblquad(integrand, -9, 9, -9, 9, epsrel=1e-9)[0])
    np.testing.assert_allclose(value, total, rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "blocks", "nodes"),
    [
        ("bernoulli-logit", ((0, 1),), 31),
        ("poisson-log", ((0,), (1,)), 31),
        ("binomial-probit", ((0, 1, 2),), 21),
        ("bernoulli-logit", ((0,), (1, 2)), 21),
    ],
)
def test_product_rules_are_the_integral(name, blocks, nodes):
    """Correlated or not, in two and three dimensions: the trapezoidal rule on a grid."""
    q = sum(map(len, blocks))
    rows, factors = one_factor(name, q, levels=3, blocks=blocks)
    marginal = marginal_of(name, rows, factors, nodes)
    theta = np.array([0.8, -0.3, 0.5, 0.7, 0.2, 0.6])[: factors[0].covariance.size]
    x = np.array([0.3, -0.5, *theta])
    step = 0.25  # spectral accuracy: errors of exp(-2 pi 3 / step) for these integrands
    axis = np.arange(-8, 8 + step / 2, step)
    u = np.stack(np.meshgrid(*[axis] * q, indexing="ij"), axis=-1).reshape(-1, q)
    prior = -0.5 * (u**2).sum(axis=1) + q * np.log(step / np.sqrt(2 * pi))
    bound, L = bind_numpy(*pair(name)), factors[0].covariance.factor(theta)
    base, total = rows.X @ x[:2] + rows.offset, 0.0
    for g in range(3):
        f = prior.copy()
        for j in np.flatnonzero(factors[0].index == g):
            eta = base[j] + u @ (L.T @ factors[0].Z[j])
            f += bound.log_density(rows.y[j], rows.trials[j], eta)[0]
        total += logsumexp(f)
    # few rows and SDs below one: these nodes settle to 1e-9
    np.testing.assert_allclose(marginal(x)[0], total, rtol=1e-8)


def test_posterior_means_are_those_of_the_integral():
    name = "poisson-log"
    rows, factors = one_factor(name, levels=3)
    marginal = marginal_of(name, rows, factors, 31)
    x = np.array([0.3, -0.5, 1.1])
    ((mean, sd),) = marginal.posterior_means(x)
    bound, base = bind_numpy(*pair(name)), rows.X @ x[:2] + rows.offset
    u = np.linspace(-9, 9, 20001)
    for g in range(3):
        j = factors[0].index == g
        eta = base[j] + 1.1 * u[:, None]
        f = bound.log_density(rows.y[j], rows.trials[j], eta)[0].sum(axis=1) - 0.5 * u * u
        weight = np.exp(f - f.max())
        weight /= weight.sum()
        b = 1.1 * u
        np.testing.assert_allclose(mean[g, 0], weight @ b, atol=1e-8)
        np.testing.assert_allclose(sd[g, 0], np.sqrt(weight @ b**2 - (weight @ b) ** 2), atol=1e-7)


@pytest.mark.parametrize("name", ["bernoulli-logit", "bernoulli-probit", "binomial-cloglog"])
@pytest.mark.parametrize("sd", [5.0, 50.0, 500.0])
def test_extreme_groups_at_large_standard_deviations(name, sd):
    """Groups of only failures and only successes: the modes lie far out."""
    index = np.repeat(np.arange(4), 6)
    trials = np.ones(24)
    y = np.repeat([0.0, 1.0, 0.0, 1.0], 6)
    y[20] = 0.0
    rows = Rows(y, trials, np.zeros(24), np.ones((24, 1)))
    factors = [Factor(index, np.ones((24, 1)), 4, Covariance(((0,),)))]
    for start in (0.0, 30.0, -30.0):
        marginal = marginal_of(name, rows, factors, 9)
        value, gradient = marginal(np.array([start, sd]))
        assert np.isfinite(value) and value < 0 and np.all(np.isfinite(gradient))


def test_warm_and_cold_starts_agree():
    name = "poisson-log"
    rows, factors = one_factor(name)
    warm = marginal_of(name, rows, factors, 5)
    for far in ([3.0, 2.0, 3.0], [-4.0, 1.0, 0.01]):
        warm(np.array(far))
        x = np.array([0.2, -0.1, 0.5])
        value, gradient = warm(x)
        cold_value, cold_gradient = marginal_of(name, rows, factors, 5)(x)
        np.testing.assert_allclose(value, cold_value, rtol=1e-12)
        np.testing.assert_allclose(gradient, cold_gradient, atol=1e-7)


@pytest.mark.parametrize("nodes", [1, 7])
def test_order_of_rows_does_not_matter(nodes):
    name = "binomial-logit"
    rows, factors = one_factor(name)
    order = np.random.default_rng(5).permutation(len(rows.y))
    x = np.array([0.2, -0.3, 0.8])
    sorted_value, sorted_gradient = marginal_of(name, rows, factors, nodes)(x)
    value, gradient = marginal_of(name, rows.take(order), [factors[0].take(order)], nodes)(x)
    np.testing.assert_allclose(value, sorted_value, rtol=1e-13)
    np.testing.assert_allclose(gradient, sorted_gradient, rtol=1e-9)


def test_a_zero_standard_deviation_is_the_model_without_effects():
    name = "poisson-log"
    rows, factors = one_factor(name)
    without = Marginal(bind_numba(*pair(name)), rows, [], 0.0)
    for nodes in (1, 9):
        value, gradient = marginal_of(name, rows, factors, nodes)(np.array([0.2, -0.3, 0.0]))
        expected, slope = without(np.array([0.2, -0.3]))
        np.testing.assert_allclose(value, expected, rtol=1e-13)
        np.testing.assert_allclose(gradient, [*slope, 0.0], atol=1e-9)


def test_scalar_and_vector_kernels_agree():
    """Two effects, the second with a zero SD: the vector kernel is then the scalar one."""
    name = "bernoulli-probit"
    rows, both = one_factor(name, 2, blocks=((0,), (1,)))
    one = [Factor(both[0].index, both[0].Z[:, :1], both[0].levels, Covariance(((0,),)))]
    for nodes in (1, 9):
        value, gradient = marginal_of(name, rows, one, nodes)(np.array([0.1, 0.2, 0.9]))
        two, slope = marginal_of(name, rows, both, nodes)(np.array([0.1, 0.2, 0.9, 0.0]))
        np.testing.assert_allclose(two, value, rtol=1e-12)
        np.testing.assert_allclose(slope[:3], gradient, atol=1e-8)


def test_threads_change_nothing(monkeypatch):
    name = "bernoulli-logit"
    rows, factors = one_factor(name, levels=900, per=5)
    x = np.array([0.1, -0.2, 0.7])
    value, gradient = marginal_of(name, rows, factors, 7)(x)
    monkeypatch.setattr("bayes_glmm.numerics.quadrature.THREAD_WORK", 1000)
    monkeypatch.setattr("bayes_glmm.numerics.pieces.available_cores", lambda: 3)
    threaded, slope = marginal_of(name, rows, factors, 7)(x)
    assert threaded == value
    np.testing.assert_array_equal(slope, gradient)


def test_chunks_cover_all_groups():
    starts = np.array([0, 3, 4, 1000, 1001, 1002, 1010])
    for rows in (1, 5, 100, 5000):
        cuts = chunks_of(starts, rows)
        assert cuts[0] == 0 and cuts[-1] == 6 and np.all(np.diff(cuts) > 0)
