"""Closed inverses and estimators against dense, one-cluster-at-a-time algebra."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bayes_glmm.numerics.clusters import Clusters
from bayes_glmm.numerics.working_correlation import STRUCTURES, WorkingCorrelation

SIZES = [1, 4, 2, 7, 3, 1]


@pytest.fixture
def clusters():
    """Unequal clusters with missing waves, negative waves among them."""
    rng = np.random.default_rng(3)
    waves = [np.sort(rng.choice(np.arange(-3, 9), m, replace=False)) for m in SIZES]
    return Clusters.from_labels(np.repeat(np.arange(len(SIZES)), SIZES), np.concatenate(waves))


def by_cluster(clusters):
    return [slice(a, a + m) for a, m in zip(clusters.start, clusters.size, strict=True)]


def all_pairs(clusters):
    return [
        (j, k)
        for rows in by_cluster(clusters)
        for j in range(rows.start, rows.stop)
        for k in range(j + 1, rows.stop)
    ]


def test_registry_holds_every_structure():
    assert set(STRUCTURES.values()) == set(WorkingCorrelation.__subclasses__())


@pytest.mark.parametrize("alpha", [-0.12, 0.0, 0.45, 0.95])
@pytest.mark.parametrize("name", STRUCTURES)
def test_solve_is_the_dense_inverse(name, alpha, clusters):
    structure = STRUCTURES[name]
    alpha = np.full(structure.n_parameters, alpha)
    rows = np.random.default_rng(1).normal(size=(3, sum(SIZES)))
    dense = np.concatenate(
        [
            np.linalg.solve(structure.matrix(alpha, clusters.wave[at]), rows[:, at].T).T
            for at in by_cluster(clusters)
        ],
        axis=1,
    )
    # condition of the matrices is at most (1 + 6 (.95))/.05 = 134
    np.testing.assert_allclose(structure.solve(alpha, rows, clusters), dense, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", [-0.9, -0.2, -0.16, 0.3, 0.99, 1.1])
@pytest.mark.parametrize("name", ["exchangeable", "ar1"])
def test_positive_definite_as_the_eigenvalues_say(name, alpha):
    structure, clusters = STRUCTURES[name], Clusters.from_labels(np.repeat([0, 1], [2, 7]))
    alpha = np.array([alpha])
    least = min(
        np.linalg.eigvalsh(structure.matrix(alpha, clusters.wave[at]))[0]
        for at in by_cluster(clusters)
    )
    assert structure.is_positive_definite(alpha, clusters) == (least > 0)


def test_exchangeable_estimators_are_sums_over_pairs(clusters):
    rng = np.random.default_rng(4)
    r, weight = rng.normal(size=(2, sum(SIZES)))
    weight = np.abs(weight)
    pairs = all_pairs(clusters)
    structure = STRUCTURES["exchangeable"]
    moment = sum(r[j] * r[k] for j, k in pairs) / (1.3 * (len(pairs) - 2))
    assert structure.moment(r, 1.3, 2, clusters)[0] == pytest.approx(moment, rel=1e-12)
    weighted = sum(weight[j] * weight[k] * r[j] * r[k] for j, k in pairs)
    total = sum(weight[j] * weight[k] for j, k in pairs)
    assert structure.equation(r, weight, clusters)[0] == pytest.approx(weighted / total, rel=1e-12)


def test_ar1_equation_is_least_squares_over_pairs(clusters):
    rng = np.random.default_rng(5)
    u, weight = rng.normal(size=(2, sum(SIZES)))
    weight, u = np.abs(weight), u + 1
    lagged = [(j, k, clusters.wave[k] - clusters.wave[j]) for j, k in all_pairs(clusters)]

    def criterion(a):
        return sum(weight[j] * weight[k] * (u[j] * u[k] - a**lag) ** 2 for j, k, lag in lagged)

    best = min(
        (minimize_scalar(criterion, bounds=b, method="bounded", options={"xatol": 1e-12})
         for b in ((-0.999, 0), (0, 0.999))),
        key=lambda found: found.fun,
    )  # fmt: skip
    # minimising a function finds its argument to the square root of rounding
    assert STRUCTURES["ar1"].equation(u, weight, clusters)[0] == pytest.approx(best.x, abs=1e-6)


def test_ar1_moment_averages_lag_one_products_by_cluster(clusters):
    r = np.random.default_rng(6).normal(size=sum(SIZES))
    products, squares = [], []
    for at in by_cluster(clusters):
        adjacent = np.diff(clusters.wave[at]) == 1
        if adjacent.any():
            products.append(np.mean((r[at][1:] * r[at][:-1])[adjacent]))
        squares.append(np.mean(r[at] ** 2))
    found = STRUCTURES["ar1"].moment(r, 9.0, 9, clusters)[0]
    assert found == pytest.approx(np.mean(products) / np.mean(squares), rel=1e-12)


def test_clusters_sum_spread_and_pair(clusters):
    assert clusters.size.tolist() == SIZES and clusters.largest == 7
    rows = np.arange(2.0 * sum(SIZES)).reshape(2, -1)
    expected = np.array([rows[:, at].sum(axis=1) for at in by_cluster(clusters)]).T
    np.testing.assert_array_equal(clusters.total(rows), expected)
    np.testing.assert_array_equal(clusters.spread(expected)[0], np.repeat(expected[0], SIZES))
    found = sorted((int(j), int(k)) for a, b in clusters.pairs() for j, k in zip(a, b, strict=True))
    assert found == all_pairs(clusters) and clusters.n_pairs == len(found)


def test_waves_count_rows_without_a_time():
    assert Clusters.from_labels(np.array([0, 0, 1, 2, 2, 2])).wave.tolist() == [0, 1, 0, 0, 1, 2]
