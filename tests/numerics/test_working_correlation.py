"""Closed inverses and estimators against dense, one-cluster-at-a-time algebra."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bayes_glmm.numerics.clusters import Clusters
from bayes_glmm.numerics.working_correlation import (
    AR1,
    STRUCTURES,
    Exchangeable,
    Fixed,
    Independence,
    MDependent,
    Unstructured,
    WorkingCorrelation,
)

WAVES = 12  # of the clusters below

SIZES = [1, 4, 2, 7, 3, 1]


@pytest.fixture
def clusters():
    """Unequal clusters with missing waves."""
    rng = np.random.default_rng(3)
    waves = [np.sort(rng.choice(WAVES, m, replace=False)) for m in SIZES]
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


def leaves(kind):
    """Classes below a class that have none below themselves."""
    below = kind.__subclasses__()
    return {kind} if not below else set().union(*map(leaves, below))


def test_registry_holds_every_structure():
    assert set(STRUCTURES.values()) == leaves(WorkingCorrelation)


def decaying(size, rate=0.6):
    """Write out a positive definite matrix with one value for each lag."""
    return rate ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)) / 2)


EXAMPLES = [
    (Independence(), []),
    *[(kind, [alpha]) for kind in (Exchangeable(), AR1()) for alpha in (-0.12, 0.0, 0.45, 0.95)],
    (MDependent(1), [0.4]),
    (MDependent(3), [0.3, -0.1, 0.1]),
    (Unstructured(), decaying(WAVES)[np.triu_indices(WAVES, 1)]),
    (Fixed(tuple(map(tuple, decaying(WAVES, 0.8)))), []),
]


@pytest.mark.parametrize(("structure", "alpha"), EXAMPLES, ids=lambda x: getattr(x, "name", ""))
def test_solve_is_the_dense_inverse(structure, alpha, clusters):
    alpha = np.array(alpha, float)
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


def test_solve_is_the_dense_inverse_where_all_clusters_are_alike():
    clusters = Clusters.from_labels(np.repeat(np.arange(5), 4))
    alpha, rows = np.array([0.5, 0.2]), np.random.default_rng(2).normal(size=(3, 20))
    dense = np.linalg.inv(np.kron(np.eye(5), MDependent(2).matrix(alpha, np.arange(4))))
    found = MDependent(2).solve(alpha, rows, clusters)
    np.testing.assert_allclose(found, rows @ dense, rtol=0, atol=1e-12)


def test_a_singular_matrix_gives_nan():
    clusters = Clusters.from_labels(np.array([0, 0, 1, 1]))
    assert np.isnan(MDependent(1).solve(np.array([1.0]), np.ones((1, 4)), clusters)).all()


@pytest.mark.parametrize("alpha", [-0.9, -0.2, -0.16, 0.3, 0.99, 1.1])
@pytest.mark.parametrize("kind", [Exchangeable, AR1, MDependent])
def test_positive_definite_as_the_eigenvalues_say(kind, alpha):
    structure, clusters = kind(), Clusters.from_labels(np.repeat([0, 1], [2, 7]))
    alpha = np.array([alpha])
    least = min(
        np.linalg.eigvalsh(structure.matrix(alpha, clusters.wave[at]))[0]
        for at in by_cluster(clusters)
    )
    assert structure.is_positive_definite(alpha, clusters) == (least > 0)
    if least > 0:
        assert structure.least_eigenvalue(alpha, clusters) == pytest.approx(least, rel=1e-10)


def test_only_patterns_that_occur_must_be_positive_definite():
    # waves 0 and 2 never meet 1: the matrix of all three has a negative eigenvalue
    clusters = Clusters(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]))
    alpha = np.array([0.9, -0.9, 0.9])
    assert np.linalg.eigvalsh(Unstructured().matrix(alpha, np.arange(3)))[0] < 0
    assert Unstructured().least_eigenvalue(alpha, clusters) == pytest.approx(0.1)


def products_of(clusters, r, weight, chosen):
    """Mean over clusters of a cluster's mean product, and the weighted mean over all pairs."""
    means, total, pairs = [], 0.0, 0.0
    for at in by_cluster(clusters):
        mine = [(j, k) for j, k in all_pairs(clusters) if at.start <= j < at.stop and chosen(j, k)]
        if mine:
            means.append(np.mean([r[j] * r[k] for j, k in mine]))
        total += sum(weight[j] * weight[k] * r[j] * r[k] for j, k in mine)
        pairs += sum(weight[j] * weight[k] for j, k in mine)
    return np.mean(means), total / pairs


def test_m_dependent_estimators_average_by_lag(clusters):
    rng = np.random.default_rng(7)
    r, weight = rng.normal(size=(2, sum(SIZES)))
    weight = np.abs(weight)
    square = np.mean([np.mean(r[at] ** 2) for at in by_cluster(clusters)])
    for lag in (1, 2, 3):
        moment, equation = products_of(
            clusters, r, weight, lambda j, k, lag=lag: clusters.wave[k] - clusters.wave[j] == lag
        )
        found = MDependent(3).moment(r, 9.0, 9, clusters)[lag - 1]
        assert found == pytest.approx(moment / square, rel=1e-12)
        found = MDependent(3).equation(r, weight, clusters)[lag - 1]
        assert found == pytest.approx(equation, rel=1e-12)
    informed = MDependent(3).informed(clusters)
    lags = [clusters.wave[k] - clusters.wave[j] for j, k in all_pairs(clusters)]
    assert informed.tolist() == [lags.count(lag) for lag in (1, 2, 3)]


def test_one_dependent_moments_are_those_of_ar1(clusters):
    r = np.random.default_rng(8).normal(size=sum(SIZES))
    one, other = (kind.moment(r, 1.0, 0, clusters) for kind in (MDependent(1), AR1()))
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_unstructured_estimators_average_by_pair_of_waves():
    rng = np.random.default_rng(9)
    waves = [np.sort(rng.choice(4, m, replace=False)) for m in rng.integers(1, 5, 30)]
    code = np.repeat(np.arange(30), [len(w) for w in waves])
    clusters = Clusters.from_labels(code, np.concatenate(waves))
    r, weight = rng.normal(size=(2, len(code)))
    weight = np.abs(weight)
    square = np.mean([np.mean(r[at] ** 2) for at in by_cluster(clusters)])
    moment = Unstructured().moment(r, 9.0, 9, clusters)
    equation = Unstructured().equation(r, weight, clusters)
    assert Unstructured().count(clusters) == len(moment) == 6
    for place, (a, b) in enumerate(zip(*np.triu_indices(4, 1), strict=True)):
        one, other = products_of(
            clusters, r, weight, lambda j, k, ab=(a, b): (clusters.wave[j], clusters.wave[k]) == ab
        )
        assert moment[place] == pytest.approx(one / square, rel=1e-12)
        assert equation[place] == pytest.approx(other, rel=1e-12)
    full = Unstructured().matrix(moment, np.arange(4))
    np.testing.assert_array_equal(full, full.T)
    np.testing.assert_array_equal(full[np.triu_indices(4, 1)], moment)


def test_exchangeable_estimators_are_sums_over_pairs(clusters):
    rng = np.random.default_rng(4)
    r, weight = rng.normal(size=(2, sum(SIZES)))
    weight = np.abs(weight)
    pairs = all_pairs(clusters)
    structure = Exchangeable()
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
    assert AR1().equation(u, weight, clusters)[0] == pytest.approx(best.x, abs=1e-6)


def test_ar1_moment_averages_lag_one_products_by_cluster(clusters):
    r = np.random.default_rng(6).normal(size=sum(SIZES))
    products, squares = [], []
    for at in by_cluster(clusters):
        adjacent = np.diff(clusters.wave[at]) == 1
        if adjacent.any():
            products.append(np.mean((r[at][1:] * r[at][:-1])[adjacent]))
        squares.append(np.mean(r[at] ** 2))
    found = AR1().moment(r, 9.0, 9, clusters)[0]
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
