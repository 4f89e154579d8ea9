"""Henderson's equations against dense generalized least squares and numerical derivatives."""

from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from bayes_glmm.numerics import mixed_model_equations as mme
from bayes_glmm.numerics import schur
from bayes_glmm.numerics.level_blocks import cholesky_blocks, solve_blocks
from bayes_glmm.numerics.newton import difference_hessian, minimise
from bayes_glmm.numerics.relationship import Relationship

N, P = 80, 3
# levels and correlated sets of columns for each factor; whether its levels are related
STRUCTURES = {
    "one scalar": [(20, ((0,),))],
    "one correlated": [(20, ((0, 1),))],
    "crossed scalars": [(5, ((0,),)), (20, ((0,),))],
    "nested in nested": [(20, ((0,),)), (10, ((0, 1),)), (2, ((0,),))],
    "three, mixed": [(20, ((0, 2), (1,))), (7, ((0, 1),)), (4, ((0,),))],
    "related": [(20, ((0,),), True)],
    "related slopes": [(20, ((0, 2), (1,)), True)],
    "related beside fewer": [(20, ((0, 1),), True), (7, ((0,),))],
    "related beside more": [(8, ((0, 1),), True), (20, ((0, 1),)), (4, ((0,),), True)],
}


# the Schur complement of the smaller factors taken as dense, and as sparse
KINDS = [(name, False) for name in STRUCTURES] + [
    (name, True)
    for name, factors in STRUCTURES.items()
    if len(factors) > 1 or name.startswith("related")
]


@dataclass
class Effects:
    index: np.ndarray
    Z: np.ndarray
    n_levels: int
    blocks: tuple
    A: np.ndarray
    relationship: Relationship | None


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}, sparse" if kind[1] else kind[0])
def problem(request, monkeypatch):
    name, is_sparse = request.param
    if is_sparse:  # whatever their size
        monkeypatch.setattr(mme, "FEW", 0)
        monkeypatch.setattr(schur, "SMALL", 0)
        monkeypatch.setattr(schur, "ADVANTAGE", 1e-9)
    rng = np.random.default_rng(1)
    effects = []
    for levels, blocks, *related in STRUCTURES[name]:
        own = levels - 3 * len(related)  # three relatives without rows
        index = rng.permutation(np.r_[np.arange(own), rng.integers(0, own, N - own)])
        q = sum(map(len, blocks))
        Z = np.c_[np.ones(N), rng.normal(size=(N, q - 1))]
        A = kinship(levels, rng) if related else np.eye(levels)
        relationship = Relationship.of(A) if related else None
        effects.append(Effects(index, Z, levels, blocks, A, relationship))
    if name.startswith("nested"):
        for inner, outer in pairwise(effects):
            outer.index = inner.index // (inner.n_levels // outer.n_levels)
    order = np.argsort(max(effects, key=lambda e: e.n_levels).index, kind="stable")
    for effect in effects:
        effect.index, effect.Z = effect.index[order], effect.Z[order]
    X = np.c_[np.ones(N), rng.normal(size=(N, P - 1))]
    z, weight = rng.normal(size=N), rng.uniform(0.2, 3, N)
    equations = mme.MixedModelEquations(X, effects)
    assert (equations.sparsity is not None) == is_sparse
    theta = rng.normal(size=sum(f.size for f in equations.factors))
    return SimpleNamespace(equations=equations, X=X, z=z, weight=weight, theta=theta)


def kinship(levels, rng):
    """Covariance of individuals with two parents among those before them, half of each."""
    P = np.zeros((levels, levels))
    for i in range(3, levels):
        P[i, rng.choice(i, 2, replace=False)] = 0.5
    root = np.linalg.inv(np.eye(levels) - P)
    return root @ np.diag(rng.uniform(0.4, 1.0, levels)) @ root.T


def dense(problem, theta):
    """V, P and the covariances of the effects, written out."""
    V, sigmas = np.diag(1 / problem.weight), []
    e = problem.equations
    for factor, part, effect in zip(e.factors, e.slices, e.effects, strict=True):
        L = factor.factor(theta[part])
        sigmas.append(L @ L.T)
        V = V + (effect.Z @ sigmas[-1] @ effect.Z.T) * effect.A[np.ix_(effect.index, effect.index)]
    inverse = np.linalg.inv(V)
    information = problem.X.T @ inverse @ problem.X
    P_ = inverse - inverse @ problem.X @ np.linalg.solve(information, problem.X.T @ inverse)
    return V, P_, information, sigmas


def dense_criterion(problem, theta, reml, phi):
    V, P_, information, _ = dense(problem, theta)
    nu = N - P if reml else N
    extra = np.linalg.slogdet(information)[1] if reml else 0.0
    rss = problem.z @ P_ @ problem.z
    return np.linalg.slogdet(V)[1] + extra + rss / phi + nu * np.log(2 * np.pi * phi)


def solve(problem, theta):
    return problem.equations.cross_products(problem.z, problem.weight).solve(theta)


@pytest.mark.parametrize("small", [0, 10**9], ids=["sparse", "dense"])
@pytest.mark.parametrize("reml", [True, False])
def test_criterion_and_gradient(problem, reml, small, monkeypatch):
    monkeypatch.setattr(mme, "SMALL", small)
    monkeypatch.setattr(mme, "FULL", 1.0 if small == 0 else 0.0)
    for theta in (problem.theta, np.zeros_like(problem.theta), 30 * problem.theta):
        solution = solve(problem, theta)
        value = dense_criterion(problem, theta, reml, 2.3)
        assert solution.criterion(reml, 2.3) == pytest.approx(value, rel=1e-11)
        steps = 1e-5 * np.maximum(np.abs(theta), 0.1)
        numeric = [
            (dense_criterion(problem, theta + h, reml, 2.3)
             - dense_criterion(problem, theta - h, reml, 2.3)) / (2 * d)
            for d, h in zip(steps, np.diag(steps), strict=True)
        ]  # fmt: skip
        # rounding 1e-13 of a value near 300 over a step of 1e-6, and truncation of 1e-10
        np.testing.assert_allclose(solution.gradient(reml, 2.3), numeric, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("reml", [True, False])
def test_sums_of_forms_over_levels(problem, reml):
    found = solve(problem, problem.theta)
    for form, total in zip(found.forms(reml), found.form_sums(reml), strict=True):
        # the same terms in another order
        np.testing.assert_allclose(total, form.sum(axis=0), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reml", [True, False])
def test_profiled_scale_is_where_its_derivative_vanishes(problem, reml):
    solution = solve(problem, problem.theta)
    phi = solution.rss / (N - P if reml else N)
    assert solution.criterion(reml, None) == pytest.approx(solution.criterion(reml, phi), rel=1e-14)
    for other in (0.9 * phi, 1.1 * phi):
        assert solution.criterion(reml, other) > solution.criterion(reml, None)
    np.testing.assert_allclose(
        solution.gradient(reml, None), solution.gradient(reml, phi), rtol=1e-12
    )


def test_estimates_predictions_and_their_covariances(problem):
    solution = solve(problem, problem.theta)
    V, P_, information, sigmas = dense(problem, problem.theta)
    beta = np.linalg.solve(information, problem.X.T @ np.linalg.solve(V, problem.z))
    np.testing.assert_allclose(solution.beta, beta, rtol=1e-10)
    np.testing.assert_allclose(solution.beta_covariance(), np.linalg.inv(information), rtol=1e-9)
    assert solution.rss == pytest.approx(problem.z @ P_ @ problem.z, rel=1e-11)
    covariances = solution.prediction_covariance()
    for effect, sigma, b, cov in zip(
        problem.equations.effects, sigmas, solution.effects, covariances, strict=True
    ):
        for level in range(effect.n_levels):
            C = (effect.Z * effect.A[effect.index, level][:, None]) @ sigma  # Cov(z, b_level)
            own = effect.A[level, level] * sigma
            np.testing.assert_allclose(b[level], C.T @ P_ @ problem.z, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(cov[level], own - C.T @ P_ @ C, rtol=1e-8, atol=1e-10)


def test_rows_may_come_in_any_order(problem):
    """No factor is eliminated where the rows are not sorted by the largest; nothing else moves."""
    mixed = np.random.default_rng(5).permutation(N)
    e = problem.equations
    effects = [replace(f, index=f.index[mixed], Z=f.Z[mixed]) for f in e.effects]
    other = mme.MixedModelEquations(problem.X[mixed], effects)
    assert other.largest == -1
    found = other.cross_products(problem.z[mixed], problem.weight[mixed]).solve(problem.theta)
    expected = solve(problem, problem.theta)
    for reml in (True, False):
        assert found.criterion(reml) == pytest.approx(expected.criterion(reml), rel=1e-11)
        gradient = expected.gradient(reml)
        np.testing.assert_allclose(found.gradient(reml), gradient, rtol=1e-8, atol=1e-8)
    for one, two in zip(found.effects, expected.effects, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-10)
    both = zip(found.prediction_covariance(), expected.prediction_covariance(), strict=True)
    for one, two in both:
        np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-10)


def test_small_blocks_are_factored_and_solved():
    rng = np.random.default_rng(2)
    square = rng.normal(size=(6, 4, 4))
    blocks = square @ square.transpose(0, 2, 1) + np.eye(4)
    root = cholesky_blocks(blocks)
    np.testing.assert_allclose(root, np.linalg.cholesky(blocks), rtol=1e-12, atol=1e-13)
    right = rng.normal(size=(4, 4))
    np.testing.assert_allclose(root @ solve_blocks(root, right), np.broadcast_to(right, (6, 4, 4)), atol=1e-12)  # fmt: skip  # noqa: E501


def test_newton_finds_the_minimum_and_its_curvature():
    # Rosenbrock's valley: minimum at (1, 1), Hessian there [[802, -400], [-400, 200]]
    def valley(x):
        slope = [-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)]
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, np.array(slope)

    found = minimise(valley, np.array([-1.2, 1.0]), np.ones(2))
    assert found.converged
    np.testing.assert_allclose(found.x, 1.0, atol=1e-9)
    hessian = difference_hessian(valley, found.x, np.ones(2))
    np.testing.assert_allclose(hessian, [[802, -400], [-400, 200]], rtol=1e-6)


def test_newton_leaves_a_saddle_and_respects_a_bound():
    def double_well(x):  # minima at -1 and 1, a maximum at 0; infinite beyond 1.2
        if abs(x[0]) > 1.2:
            return np.inf, np.full(1, np.nan)
        return float(x[0] ** 4 - 2 * x[0] ** 2), 4 * x**3 - 4 * x

    found = minimise(double_well, np.array([0.05]), np.ones(1))
    assert found.converged and found.x[0] == pytest.approx(1.0, abs=1e-9)
