"""The integral over two nested factors: gradient, twin, brute force, Laplace, extreme data."""

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.special import logsumexp

from bayes_glmm.numerics.bind import bind_numba, bind_numpy
from bayes_glmm.numerics.covariance import Covariance
from bayes_glmm.numerics.groups import Factor, Rows, is_nested
from bayes_glmm.numerics.laplace import Laplace
from bayes_glmm.numerics.marginal import Marginal, nodes_allowed
from bayes_glmm.numerics.nested import Nested
from bayes_glmm.numerics.reference import integrate_nested_group

from .problems import central_differences, nested, one_factor, pair, several_factors

FAMILIES = [
    "bernoulli-logit",
    "bernoulli-probit",
    "binomial-cloglog",
    "poisson-log",
    "gaussian-identity",
    "gaussian-log",
    "negative_binomial-log",
    "gamma-log",
    "beta_binomial-logit",
]
EFFECTS = [(1, 1), (2, 1), (1, 2)]  # of an inner level, of an outer group
CASES = [(name, 1, 1) for name in FAMILIES] + [
    (name, q, p) for name in ("binomial-logit", "gaussian-log") for q, p in EFFECTS[1:]
]


def marginal_of(name, rows, factors, nodes=1):
    return Marginal(bind_numba(*pair(name)), rows, factors, 0.0, nodes)


def parameters(marginal, seed=3):
    return np.random.default_rng(seed).normal(scale=0.6, size=marginal.layout.size)


def at(marginal, x):
    """Fixed part, dispersion and Cholesky factors at ``x``, rows as in ``marginal``."""
    beta, thetas, dispersion = marginal.layout.split(x)
    base = marginal.rows.X @ beta + marginal.rows.offset
    return base, dispersion, marginal.cholesky_factors(thetas)


@pytest.mark.parametrize("nodes", [1, 3, 7])
@pytest.mark.parametrize(("name", "q", "p"), CASES)
def test_gradient(name, q, p, nodes):
    marginal = marginal_of(name, *nested(name, q, p), nodes)
    assert isinstance(marginal.integral, Nested)
    x = parameters(marginal)
    # the step's fourth power times a fifth derivative of the order of 1e9, as in one factor
    np.testing.assert_allclose(
        marginal(x)[1], central_differences(lambda z: marginal(z)[0], x), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize(("name", "q", "p"), CASES)
def test_kernel_equals_its_numpy_twin(name, q, p, nodes):
    """The twin sums the full product rule over the effects of all levels of a group."""
    rows, factors = nested(name, q, p, sizes=((2, 1), (3,)))
    marginal = marginal_of(name, rows, factors, nodes)
    base, dispersion, L = at(marginal, parameters(marginal))
    pieces = marginal.integral(base, dispersion, L)
    finer, coarser = marginal.ranked
    value, by_dispersion, gammas = 0.0, 0.0, [np.zeros((q, q)), np.zeros((p, p))]
    t = np.empty(len(base))
    for g in range(coarser.levels):
        j = coarser.index == g
        inner = np.unique(finer.index[j], return_inverse=True)[1]
        twin, parts = integrate_nested_group(
            bind_numpy(*pair(name)), marginal.rows.y[j], marginal.rows.trials[j], base[j],
            dispersion, inner, (finer.Z[j], coarser.Z[j]), L, nodes,
        )  # fmt: skip
        value, by_dispersion = value + twin.value, by_dispersion + twin.dispersion
        t[j] = twin.t
        gammas = [a + b for a, b in zip(gammas, parts, strict=True)]
    # modes agree to 1e-10 (decrement 1e-20): values to its square, derivatives to it
    np.testing.assert_allclose(pieces.value, value, rtol=1e-11)
    np.testing.assert_allclose(pieces.t, t, atol=1e-8)
    np.testing.assert_allclose(pieces.dispersion, by_dispersion, atol=1e-8)
    for found, expected in zip(pieces.gammas, gammas, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize(("name", "q", "p"), CASES)
def test_one_node_is_laplace(name, q, p):
    rows, factors = nested(name, q, p)
    marginal = marginal_of(name, rows, factors)
    base, dispersion, L = at(marginal, parameters(marginal))
    laplace = Laplace(marginal.blocks, marginal.rows.y, marginal.rows.trials, marginal.ranked)
    expected, found = laplace(base, dispersion, L), marginal.integral(base, dispersion, L)
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-11)
    np.testing.assert_allclose(found.t, expected.t, atol=1e-9)
    np.testing.assert_allclose(found.dispersion, expected.dispersion, atol=1e-9)
    for ours, theirs in zip(found.gammas, expected.gammas, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    conditional = zip(marginal.integral.conditional(L), laplace.conditional(L), strict=True)
    for ours, theirs in conditional:
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-9)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-9)
    weights = np.linspace(0.5, 2.0, len(base))
    np.testing.assert_allclose(
        marginal.integral.working_information(weights, L, marginal.rows.X),
        laplace.working_information(weights, L, marginal.rows.X),
        rtol=1e-9,
    )


def log_weights(rows, factors, name, x, half=10.0, step=0.2):
    """Log integrand of each outer group on a grid: brute force by the trapezoidal rule.

    For integrands analytic around the real line the rule errs by ``exp(-2 pi width / step)``.

    Returns
    -------
    grid, levels
        Points of one axis; by outer group its inner levels and ``(…v, level, …u)`` log
        integrals: the log density of the level's rows at each ``v`` and ``u``.
    """
    outer, inner = factors
    grid = np.arange(-half, half + step / 2, step)
    beta, thetas = x[:2], np.split(x[2:], [outer.covariance.size])
    L_outer, L_inner = (
        outer.covariance.factor(thetas[0]),
        inner.covariance.factor(thetas[1][: inner.covariance.size]),
    )
    base, bound = rows.X @ beta + rows.offset, bind_numpy(*pair(name))
    axes = [
        np.stack(np.meshgrid(*[grid] * f.q, indexing="ij"), axis=-1).reshape(-1, f.q)
        for f in factors
    ]
    found = []
    for g in range(outer.levels):
        levels = np.unique(inner.index[outer.index == g])
        by_level = np.zeros((len(axes[0]), len(levels), len(axes[1])))
        for k, level in enumerate(levels):
            for j in np.flatnonzero(inner.index == level):
                eta = base[j] + (axes[0] @ L_outer.T @ outer.Z[j])[:, None]
                eta = eta + axes[1] @ L_inner.T @ inner.Z[j]
                by_level[:, k] += bound.log_density(rows.y[j], rows.trials[j], eta)[0]
        by_level += normal(axes[1], step)
        found.append((levels, by_level))
    return axes, found


def normal(points, step):
    """Log of the standard normal density times the volume of a grid cell."""
    q = points.shape[1]
    return -0.5 * (points**2).sum(axis=1) - 0.5 * q * np.log(2 * np.pi) + q * np.log(step)


def brute_force(rows, factors, name, x, step=0.2, half=10.0):
    axes, found = log_weights(rows, factors, name, x, half, step)
    prior = normal(axes[0], step)
    return sum(logsumexp(prior + logsumexp(by_level, axis=2).sum(axis=1)) for _, by_level in found)


@pytest.mark.parametrize(
    ("name", "q", "p", "nodes"),
    [
        ("bernoulli-logit", 1, 1, 41),
        ("binomial-probit", 1, 1, 41),
        ("poisson-log", 1, 1, 41),
        ("bernoulli-logit", 1, 2, 31),
        ("bernoulli-logit", 2, 1, 31),
    ],
)
def test_many_nodes_are_the_integral(name, q, p, nodes):
    rows, factors = nested(name, q, p, sizes=((2, 3), (2,), (1, 1, 2)))
    marginal = marginal_of(name, rows, factors, nodes)
    theta = {1: [0.9], 2: [0.8, -0.4, 0.6]}
    x = np.array([0.3, -0.5, *theta[p], *[0.9 * s for s in theta[q]]])
    # the nodes: binary rows at SDs below one settle to 1e-9 by 31 nodes
    np.testing.assert_allclose(marginal(x)[0], brute_force(rows, factors, name, x), rtol=1e-9)


def test_draws_have_the_conditional_covariance():
    """Joint covariance of all effects against the inverse of the dense curvature."""
    name = "binomial-logit"
    rows, factors = nested(name, 1, 2, sizes=((2, 3), (1,)))
    marginal = marginal_of(name, rows, factors)
    x = parameters(marginal)
    draws = marginal.scatter(x, 20_000, np.random.default_rng(1))
    base, dispersion, (L_inner, L_outer) = at(marginal, x)
    finer, coarser = marginal.ranked
    A = np.zeros((len(base), 7))  # two outer groups with two effects, three inner levels
    for j in range(len(base)):
        g, i = coarser.index[j], finer.index[j]
        A[j, 2 * g : 2 * g + 2], A[j, 4 + i] = coarser.Z[j] @ L_outer, (finer.Z[j] @ L_inner)[0]
    modes = np.concatenate([m.ravel() for m, _ in marginal.conditional(x)])
    wide = block_diag(L_outer, L_outer, *[L_inner] * 3)
    eta = base + A @ np.linalg.solve(wide, modes)
    bound = bind_numpy(*pair(name))
    l2 = bound.log_density(marginal.rows.y, marginal.rows.trials, eta, dispersion)[2]
    expected = wide @ np.linalg.inv(np.eye(7) - (A.T * l2) @ A) @ wide.T
    found = np.cov(np.concatenate([d.reshape(20_000, -1) for d in draws], axis=1).T)
    sd = np.sqrt(np.diag(expected))
    # a correlation's standard error is at most 1 / sqrt(20,000) = .007, here 4 of them
    np.testing.assert_allclose(found / np.outer(sd, sd), expected / np.outer(sd, sd), atol=0.028)


def test_sums_survive_a_first_node_that_is_far_too_low():
    """The first nodes stand at rates of exp(10) and more, the next ones at common rates."""
    name = "poisson-log"
    rows, factors = nested(name, sizes=((1, 2), (2,)))
    for x in ([0.3, -0.5, -4.0, 1.0], [0.3, -0.5, 1.0, -4.0], [0.3, -0.5, -3.0, -3.0]):
        found = marginal_of(name, rows, factors, 41)(np.array(x))[0]
        # SDs of four on counts: settled to 1e-6 at 41 nodes
        expected = brute_force(rows, factors, name, np.array(x), step=0.05)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_posterior_means_are_those_of_the_integral():
    name = "bernoulli-logit"
    rows, factors = nested(name, sizes=((2, 3), (2,), (1, 1, 2)))
    marginal = marginal_of(name, rows, factors, 41)
    x = np.array([0.3, -0.5, 1.1, 0.8])
    means = marginal.posterior_means(x)
    assert means is not None
    axes, found = log_weights(rows, factors, name, x)
    v, u = axes[0][:, 0], axes[1][:, 0]
    for g, (levels, by_level) in enumerate(found):
        total = normal(axes[0], 0.2) + logsumexp(by_level, axis=2).sum(axis=1)
        weight = np.exp(total - logsumexp(total))
        mean = weight @ v
        check(means[0], g, 1.1 * mean, 1.1 * np.sqrt(weight @ v**2 - mean**2))
        for k, level in enumerate(levels):
            given = np.exp(by_level[:, k] - logsumexp(by_level[:, k], axis=1, keepdims=True))
            mean = weight @ (given @ u)
            sd = np.sqrt(weight @ (given @ u**2) - mean**2)
            check(means[1], level, 0.8 * mean, 0.8 * sd)


def check(found, level, mean, sd):
    np.testing.assert_allclose(found[0][level, 0], mean, atol=1e-8)
    np.testing.assert_allclose(found[1][level, 0], sd, atol=1e-8)


@pytest.mark.parametrize("nodes", [1, 5])
def test_order_of_rows_and_labels_does_not_matter(nodes):
    name = "binomial-logit"
    rows, factors = nested(name, 2, 1, labels=False)
    marginal = marginal_of(name, rows, factors, nodes)
    x = parameters(marginal)
    value, gradient = marginal(x)
    modes = marginal.conditional(x)
    rng = np.random.default_rng(5)
    order = rng.permutation(len(rows.y))
    names = [rng.permutation(f.levels) for f in factors]
    moved = [
        Factor(new[f.index][order], f.Z[order], f.levels, f.covariance)
        for f, new in zip(factors, names, strict=True)
    ]
    other = marginal_of(name, rows.take(order), moved, nodes)
    value_moved, gradient_moved = other(x)
    np.testing.assert_allclose(value_moved, value, rtol=1e-13)
    np.testing.assert_allclose(gradient_moved, gradient, atol=1e-9)
    for new, before, after in zip(names, modes, other.conditional(x), strict=True):
        np.testing.assert_allclose(after[0][new], before[0], atol=1e-9)
        np.testing.assert_allclose(after[1][new], before[1], rtol=1e-9)


def test_order_of_the_factors_does_not_matter():
    name = "poisson-log"
    rows, (outer, inner) = nested(name)
    value, gradient = marginal_of(name, rows, [outer, inner], 5)(np.array([0.1, 0.2, 0.5, 0.9]))
    again, slope = marginal_of(name, rows, [inner, outer], 5)(np.array([0.1, 0.2, 0.9, 0.5]))
    assert again == value
    np.testing.assert_array_equal(slope, gradient[[0, 1, 3, 2]])


@pytest.mark.parametrize("nodes", [1, 9])
def test_a_zero_standard_deviation_is_the_model_without_the_factor(nodes):
    name = "bernoulli-probit"
    rows, (outer, inner) = nested(name)
    both = marginal_of(name, rows, [outer, inner], nodes)
    for kept, x, rest in ((outer, [0.2, -0.3, 0.8, 0.0], 2), (inner, [0.2, -0.3, 0.0, 0.8], 3)):
        alone, slope = marginal_of(name, rows, [kept], nodes)(np.array([0.2, -0.3, 0.8]))
        value, gradient = both(np.array(x))
        np.testing.assert_allclose(value, alone, rtol=1e-12)
        np.testing.assert_allclose(gradient[[0, 1, rest]], slope, atol=1e-9)
        # even in the standard deviation that is zero
        np.testing.assert_allclose(gradient[5 - rest], 0.0, atol=1e-9)


@pytest.mark.parametrize("name", ["bernoulli-logit", "bernoulli-probit", "binomial-cloglog"])
@pytest.mark.parametrize("sd", [5.0, 50.0, 500.0])
def test_extreme_groups_at_large_standard_deviations(name, sd):
    """Groups and levels of only failures and only successes: the modes lie far out."""
    outer, inner = np.repeat(np.arange(4), 6), np.repeat(np.arange(8), 3)
    y = np.repeat([0.0, 1.0, 0.0, 1.0], 6)
    y[15:18] = 1.0
    rows = Rows(y, np.ones(24), np.zeros(24), np.ones((24, 1)))
    scalar, ones = Covariance(((0,),)), np.ones((24, 1))
    factors = [Factor(outer, ones, 4, scalar), Factor(inner, ones, 8, scalar)]
    for start in (0.0, 30.0, -30.0):
        for sds in ((sd, sd), (sd, 1.0), (1.0, sd)):
            value, gradient = marginal_of(name, rows, factors, 9)(np.array([start, *sds]))
            assert np.isfinite(value) and value < 0 and np.all(np.isfinite(gradient))


def test_warm_and_cold_starts_agree():
    name = "poisson-log"
    rows, factors = nested(name)
    warm = marginal_of(name, rows, factors, 5)
    x = np.array([0.2, -0.1, 0.5, 0.8])
    cold_value, cold_gradient = marginal_of(name, rows, factors, 5)(x)
    for far in ([3.0, 2.0, 3.0, 3.0], [-4.0, 1.0, 0.01, 2.0]):
        warm(np.array(far))
        value, gradient = warm(x)
        np.testing.assert_allclose(value, cold_value, rtol=1e-12)
        np.testing.assert_allclose(gradient, cold_gradient, atol=1e-8)


def large(seed=7, groups=60):
    """Groups of all sizes: chunks of many groups, and groups of many parts."""
    rng = np.random.default_rng(seed)
    sizes = [tuple(rng.integers(1, 12, rng.integers(1, 8))) for _ in range(groups)]
    sizes[3], sizes[5] = (300, 400, 5, 700), (2000,)
    return tuple(sizes)


def test_threads_change_nothing(monkeypatch):
    name = "bernoulli-logit"
    rows, factors = nested(name, sizes=large())
    x = np.array([0.1, -0.2, 0.7, 0.4])
    value, gradient = marginal_of(name, rows, factors, 5)(x)
    monkeypatch.setattr("bayes_glmm.numerics.nested.THREAD_WORK", 1000)
    monkeypatch.setattr("bayes_glmm.numerics.pieces.available_cores", lambda: 3)
    threaded, slope = marginal_of(name, rows, factors, 5)(x)
    assert threaded == value
    np.testing.assert_array_equal(slope, gradient)


def test_cuts_into_chunks_and_parts_change_nothing(monkeypatch):
    name = "poisson-log"
    rows, factors = nested(name, sizes=large())
    x = np.array([0.1, -0.2, 0.7, 0.4])
    value, gradient = marginal_of(name, rows, factors, 5)(x)
    for size in (1, 40, 100_000):
        monkeypatch.setattr("bayes_glmm.numerics.nested.CHUNK_ROWS", size)
        again, slope = marginal_of(name, rows, factors, 5)(x)
        # sums over chunks are rounded otherwise; each group's value is not
        np.testing.assert_allclose(again, value, rtol=1e-13)
        np.testing.assert_allclose(slope, gradient, atol=1e-9)


def test_levels_without_rows_add_nothing():
    name = "poisson-log"
    rows, (outer, inner) = nested(name, labels=False)
    wider = [
        Factor(outer.index + 1, outer.Z, outer.levels + 2, outer.covariance),
        Factor(2 * inner.index + 1, inner.Z, 2 * inner.levels + 2, inner.covariance),
    ]
    x = np.array([0.1, -0.2, 0.7, 0.4])
    value, gradient = marginal_of(name, rows, [outer, inner], 5)(x)
    with_empty = marginal_of(name, rows, wider, 5)
    again, slope = with_empty(x)
    np.testing.assert_allclose(again, value, rtol=1e-13)
    np.testing.assert_allclose(slope, gradient, atol=1e-10)
    (_, outer_sd), (mode, sd) = with_empty.conditional(x)
    np.testing.assert_allclose(sd[0], 0.4)  # nothing known: the prior's
    np.testing.assert_allclose(outer_sd[0], 0.7)
    assert mode[0] == 0.0


def test_which_factors_are_nested():
    name = "poisson-log"
    _, (outer, inner) = nested(name)
    assert is_nested([inner, outer]) and nodes_allowed([outer, inner])
    assert not is_nested([inner]) and not is_nested([outer, inner])
    assert not is_nested(
        [inner, Factor(inner.index.copy(), inner.Z, inner.levels, inner.covariance)]
    )
    _, crossed = several_factors(name, "crossed")
    assert not is_nested(crossed[::-1]) and not nodes_allowed(crossed)
    _, vector = several_factors(name, "nested")
    assert nodes_allowed(vector)
    rows, (outer, inner) = nested(name, 2, 2)  # four dimensions
    assert is_nested([inner, outer]) and not nodes_allowed([outer, inner])
    assert isinstance(marginal_of(name, rows, [outer, inner]).integral, Laplace)
    assert nodes_allowed(one_factor(name, 3)[1])


def test_gaussian_identity_is_exact_at_any_node():
    name = "gaussian-identity"
    rows, factors = nested(name, 1, 2)
    values = [marginal_of(name, rows, factors, k)(np.full(7, 0.4))[0] for k in (1, 2, 9)]
    np.testing.assert_allclose(values, values[0], rtol=1e-12)
