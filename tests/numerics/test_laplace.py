"""Laplace for several factors: dense algebra, differences, and one factor as a special case."""

import numpy as np
import pytest
from scipy.optimize import minimize

from bayes_glmm.numerics.bind import bind_numba, bind_numpy
from bayes_glmm.numerics.laplace import Laplace
from bayes_glmm.numerics.marginal import Marginal

from .problems import central_differences, one_factor, pair, several_factors

STRUCTURES = ["crossed", "nested", "three", "vector"]


def dense_directions(factors, cholesky):
    """``A = Z L`` of all factors side by side, shape (n, effects)."""
    parts = []
    for f, L in zip(factors, cholesky, strict=True):
        full = np.zeros((len(f.index), f.levels, f.q))
        full[np.arange(len(f.index)), f.index] = f.Z @ L
        parts.append(full.reshape(len(f.index), -1))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", ["binomial-logit", "poisson-log", "gaussian-identity"])
def test_value_and_conditional_effects_by_dense_algebra(name, structure):
    rows, factors = several_factors(name, structure)
    marginal = Marginal(bind_numba(*pair(name)), rows, factors, 0.0)
    x = np.random.default_rng(4).normal(scale=0.6, size=marginal.layout.size)
    value = marginal(x)[0]
    beta, thetas, dispersion = marginal.layout.split(x)
    cholesky = [f.covariance.factor(t) for f, t in zip(factors, thetas, strict=True)]
    A = dense_directions(factors, cholesky)
    base, bound = rows.X @ beta + rows.offset, bind_numpy(*pair(name))

    def negative(u):
        value, l1, *_ = bound.log_density(rows.y, rows.trials, base + A @ u, dispersion)
        return 0.5 * u @ u - value.sum(), u - A.T @ l1

    u = minimize(negative, np.zeros(A.shape[1]), jac=True, method="BFGS", tol=1e-9).x
    density, _, l2, _ = bound.log_density(rows.y, rows.trials, base + A @ u, dispersion)
    H = np.eye(len(u)) - A.T @ (np.broadcast_to(l2, density.shape)[:, None] * A)
    dense = density.sum() - 0.5 * u @ u - 0.5 * np.linalg.slogdet(H)[1]
    np.testing.assert_allclose(value, dense, rtol=1e-9)

    inverse, cut = np.linalg.inv(H), 0
    for f, L, (mode, sd) in zip(factors, cholesky, marginal.conditional(x), strict=True):
        size = f.levels * f.q
        part = u[cut : cut + size].reshape(f.levels, f.q) @ L.T
        np.testing.assert_allclose(mode, part, atol=1e-6)
        block = inverse[cut : cut + size, cut : cut + size].reshape(f.levels, f.q, f.levels, f.q)
        variance = np.einsum("de,gegh,dh->gd", L, block, L)
        np.testing.assert_allclose(sd, np.sqrt(variance), rtol=1e-6)
        cut += size


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    "name", ["binomial-probit", "poisson-log", "gaussian-identity", "gaussian-log"]
)
def test_gradient(name, structure):
    rows, factors = several_factors(name, structure)
    marginal = Marginal(bind_numba(*pair(name)), rows, factors, 0.0)
    x = np.random.default_rng(5).normal(scale=0.5, size=marginal.layout.size)
    exact = marginal(x)[1]
    np.testing.assert_allclose(
        central_differences(lambda p: marginal(p)[0], x), exact, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("q", [1, 2, 3])
def test_one_factor_is_quadrature_with_one_node(q):
    name = "bernoulli-cloglog"
    rows, factors = one_factor(name, q)
    marginal = Marginal(bind_numba(*pair(name)), rows, factors, 0.0, 1)
    other = Marginal(bind_numba(*pair(name)), rows, factors, 0.0, 1)
    other.integral = Laplace(other.blocks, other.rows.y, other.rows.trials, other.ranked)
    x = np.random.default_rng(6).normal(scale=0.6, size=marginal.layout.size)
    (value, gradient), (again, slope) = marginal(x), other(x)
    np.testing.assert_allclose(again, value, rtol=1e-12)
    np.testing.assert_allclose(slope, gradient, atol=1e-7)
    for mine, theirs in zip(marginal.conditional(x), other.conditional(x), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-7)


def test_more_than_three_effects_on_a_level():
    """Beyond the product rule's dimensions the blocked factor serves."""
    from bayes_glmm.numerics.covariance import Covariance
    from bayes_glmm.numerics.groups import Factor

    name = "poisson-log"
    rows, (f,) = one_factor(name, 3, per=6)
    Z = np.c_[f.Z, f.Z[:, 1] ** 2]
    factors = [Factor(f.index, Z, f.levels, Covariance(((0, 1), (2, 3))))]
    marginal = Marginal(bind_numba(*pair(name)), rows, factors, 0.0)
    assert isinstance(marginal.integral, Laplace)
    x = np.random.default_rng(7).normal(scale=0.4, size=marginal.layout.size)
    exact = marginal(x)[1]
    np.testing.assert_allclose(
        central_differences(lambda p: marginal(p)[0], x), exact, rtol=1e-6, atol=1e-6
    )


def test_order_of_rows_and_factors_does_not_matter():
    name = "binomial-logit"
    rows, factors = several_factors(name, "crossed")
    x = np.array([0.1, -0.2, 0.6, 0.9])
    blocks = bind_numba(*pair(name))
    value, gradient = Marginal(blocks, rows, factors, 0.0)(x)
    order = np.random.default_rng(8).permutation(len(rows.y))
    shuffled = Marginal(blocks, rows.take(order), [f.take(order) for f in factors], 0.0)(x)
    swapped = Marginal(blocks, rows, factors[::-1], 0.0)(x[[0, 1, 3, 2]])
    np.testing.assert_allclose([shuffled[0], swapped[0]], value, rtol=1e-12)
    np.testing.assert_allclose(shuffled[1], gradient, atol=1e-8)
    np.testing.assert_allclose(swapped[1][[0, 1, 3, 2]], gradient, atol=1e-8)
