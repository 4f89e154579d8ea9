"""The profiled likelihood of linear mixed models against dense algebra and differences of it."""

from dataclasses import dataclass

import numpy as np
import pytest

from bayes_glmm.numerics.correlated_rows import CorrelatedRows, simulate_rows
from bayes_glmm.numerics.covariance import Covariance
from bayes_glmm.numerics.linear_mixed import LinearMixed, ResidualStructure
from bayes_glmm.numerics.relationship import Relationship
from bayes_glmm.numerics.threads import one_blas_thread
from bayes_glmm.residual import AR1, CompoundSymmetry, Exponential, Unstructured

P = 3
CORRELATIONS = {
    "independent": (None, []),
    "exponential": (Exponential("t", "g"), [0.7]),
    "nugget": (Exponential("t", "g", nugget=True), [0.4, 0.3]),
    "ar1": (AR1("t", "g"), [-0.6]),
    "compound symmetry": (CompoundSymmetry(by="g"), [0.35]),
    "unstructured": (Unstructured("t", "g"), [0.5, 0.2, -0.1, 0.4, 0.3, 0.6]),
}
# levels in units of clusters: none, one factor of the clusters, clusters in herds, with slopes
STRUCTURES = {
    "no effects": [],
    "intercepts": [(1, ((0,),))],
    "slopes": [(1, ((0, 1),))],
    "nested": [(1, ((0, 1),)), (3, ((0,),))],
    "related": [(1, ((0, 1),), 0.6), (3, ((0,),))],  # of levels: correlation .6
}


@dataclass
class Effect:
    index: np.ndarray
    Z: np.ndarray
    n_levels: int
    blocks: tuple
    A: np.ndarray

    @property
    def relationship(self) -> Relationship | None:
        return Relationship.of(self.A) if np.count_nonzero(self.A) > self.n_levels else None


@pytest.fixture(autouse=True)
def small_matrices():
    with one_blas_thread():
        yield


@pytest.fixture(params=STRUCTURES)
def structure(request):
    return STRUCTURES[request.param]


@pytest.fixture(params=CORRELATIONS)
def problem(request, structure):
    """Nine clusters of two to four rows at integer times out of four, rows of a cluster mixed."""
    rng = np.random.default_rng(3)
    times = [np.sort(rng.permutation(4)[: rng.integers(2, 5)]) for _ in range(9)]
    cluster = np.repeat(np.arange(9), [len(t) for t in times])
    time = np.concatenate(times).astype(float)
    n = len(time)
    mixed = np.lexsort((rng.random(n), cluster))
    cluster, time = cluster[mixed], time[mixed]
    X = np.c_[np.ones(n), time, rng.normal(size=n)]
    effects = []
    for size, blocks, *related in structure:
        q = sum(map(len, blocks))
        index = cluster // size
        levels, rho = index.max() + 1, sum(related)
        A = (1 - rho) * np.eye(levels) + rho
        effects.append(Effect(index, np.c_[np.ones(n), time][:, :q], levels, blocks, A))
    spec, alpha = CORRELATIONS[request.param]
    residual = None
    if spec is not None:
        rows = CorrelatedRows(cluster, time, spec.alike, spec.geometry)
        residual = ResidualStructure(rows, spec.correlation, spec.derivatives, len(alpha))
    y = rng.normal(size=n) + cluster
    model = LinearMixed(y, X, effects, residual)
    theta = rng.normal(size=model.n_theta)
    R = np.eye(n)
    if spec is not None:
        for k in range(9):
            (at,) = np.nonzero(cluster == k)
            at = at[np.argsort(time[at])]
            R[np.ix_(at, at)] = spec.correlation(np.array(alpha), spec.geometry(time[at]))
    return model, theta, np.array(alpha), X, y, R


def dense(model, theta, X, y, R, reml, variance=None):
    """Minus twice the log-likelihood, beta, and predictions, written out."""
    V, parts = R.copy(), []
    for e, part in zip(model.effects, model.slices, strict=True):
        L = Covariance(e.blocks).factor(theta[part])
        V += (e.Z @ L @ L.T @ e.Z.T) * e.A[np.ix_(e.index, e.index)]
        parts.append((e, L @ L.T))
    inverse = np.linalg.inv(V)
    information = X.T @ inverse @ X
    beta = np.linalg.solve(information, X.T @ inverse @ y)
    left = inverse @ (y - X @ beta)
    nu = len(y) - reml * X.shape[1]
    rss = (y - X @ beta) @ left
    phi = rss / nu if variance is None else variance
    value = np.linalg.slogdet(V)[1] + rss / phi + nu * np.log(2 * np.pi * phi)
    value += np.linalg.slogdet(information)[1] if reml else 0.0
    effects = [
        np.array([(e.Z.T * e.A[k, e.index]) @ left @ sigma for k in range(e.n_levels)])
        for e, sigma in parts
    ]
    return value, beta, effects, np.linalg.inv(information)


@pytest.mark.parametrize("reml", [True, False])
def test_criterion_estimates_and_predictions_are_those_of_dense_algebra(problem, reml):
    model, theta, alpha, X, y, R = problem
    state = model.at(theta, alpha)
    for variance in (None, 1.7):
        value, beta, effects, covariance = dense(model, theta, X, y, R, reml, variance)
        # two factorisations of a well-conditioned matrix of order 30: rounding
        assert state.criterion(reml, variance) == pytest.approx(value, rel=1e-11)
        np.testing.assert_allclose(state.beta, beta, rtol=1e-9)
        np.testing.assert_allclose(state.beta_covariance, covariance, rtol=1e-9, atol=1e-13)
        for found, expected in zip(state.effects, effects, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("variance", [None, 1.7])
def test_gradient_is_that_of_the_criterion(problem, reml, variance):
    model, theta, alpha, *_ = problem
    gradient = model.at(theta, alpha).gradient(reml, variance)
    at = np.concatenate([theta, alpha])
    h = 1e-5

    def criterion(x):
        return model.at(x[: model.n_theta], x[model.n_theta :]).criterion(reml, variance)

    differences = [
        (criterion(at + h * e) - criterion(at - h * e)) / (2 * h) for e in np.eye(len(at))
    ]
    # central differences: error h^2 times the third derivative plus rounding / h, below 1e-7
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-6)


def test_correlating_rows_undoes_whitening():
    rng = np.random.default_rng(1)
    cluster, time = np.repeat(np.arange(4), 5), rng.random(20)
    spec = Exponential("t", "g")
    rows = CorrelatedRows(cluster, time, "lags", spec.geometry)
    whitening = rows.whiten(lambda t: spec.correlation(np.array([1.3]), t))
    noise = rng.normal(size=20)
    made = simulate_rows(rows, whitening.roots, noise)
    np.testing.assert_allclose(whitening(made[:, None])[:, 0], noise, rtol=1e-12, atol=1e-12)


def test_clusters_with_the_same_lags_share_one_factor():
    cluster = np.repeat(np.arange(6), 3)
    time = np.tile([0.0, 1.0, 4.0], 6) + np.repeat(np.arange(6.0), 3)
    geometry = Exponential("t", "g").geometry
    assert len(CorrelatedRows(cluster, time, "lags", geometry).patterns) == 1
    assert len(CorrelatedRows(cluster, time, "times", geometry).patterns) == 6
