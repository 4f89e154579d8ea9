"""Partly centred effects against the formulas in plain NumPy, and against differences."""

import numpy as np
import pytest

from bayes_glmm.numerics.covariance import Covariance
from bayes_glmm.numerics.groups import Factor
from bayes_glmm.numerics.partly_centred import Information, PartlyCentred


def upper_root(M: np.ndarray) -> np.ndarray:
    """Upper triangular ``K`` with ``K K' = M``."""
    return np.linalg.cholesky(M[::-1, ::-1])[::-1, ::-1]


class Problem:
    """Rows with a factor of ``q`` effects nested in one of two, both partly centred."""

    def __init__(self, q: int, seed: int = 1):
        rng = np.random.default_rng(seed)
        index, parent = np.repeat(np.arange(5), 4), np.array([0, 1, 1, 0, 1])
        self.factors = [
            Factor(index, rng.standard_normal((20, q)), 5, Covariance((tuple(range(q)),))),
            Factor(parent[index], rng.standard_normal((20, 2)), 2, Covariance(((0, 1),))),
        ]
        self.known = [self.information(rng, 5, q), self.information(rng, 2, 2)]
        C = rng.standard_normal((5, q, 2))
        self.known[0] = Information(self.known[0].W, self.known[0].s, ((1, C, parent),))
        self.L = [np.tril(rng.standard_normal((k, k))) for k in (q, 2)]
        self.raw = [rng.standard_normal(f.levels * f.q) for f in self.factors]
        self.centred = [PartlyCentred(*both) for both in zip(self.factors, self.known, strict=True)]
        self.target = rng.standard_normal(20)

    @staticmethod
    def information(rng, levels: int, q: int) -> Information:
        root = rng.standard_normal((levels, q, q))
        return Information(root @ root.swapaxes(1, 2), rng.standard_normal((levels, q)))

    def value(self, L, raw) -> float:
        """Log density of the variables, and of a normal response around the effects."""
        eta = np.zeros(20)
        total = sum(self.centred[i].effects(L[i], raw[i], self.centred) for i in (1, 0))
        for centred in self.centred:
            centred.add_to(eta)
        self.t = self.target - eta
        return float(total - 0.5 * self.t @ self.t)

    def gradient(self):
        return [self.centred[i].gradient(self.L[i], self.t, self.centred) for i in (0, 1)]


@pytest.mark.parametrize("q", [1, 2, 3])
def test_effects_follow_the_formula(q):
    problem = Problem(q)
    problem.value(problem.L, problem.raw)
    fine, coarse = problem.centred
    known, L = problem.known[0], problem.L[0]
    ((_, C, parent),) = known.above
    total = 0.0
    for g, raw in enumerate(problem.raw[0].reshape(5, q)):
        K = upper_root(np.eye(q) + L.T @ known.W[g] @ L)
        e = known.s[g] - C[g] @ coarse.b[parent[g]]
        u = np.linalg.solve(K.T, raw + np.linalg.solve(K, L.T @ e))
        np.testing.assert_allclose(fine.b[g], L @ u, rtol=1e-10)  # rounding of small systems
        total -= 0.5 * u @ u + np.log(np.diag(K)).sum()
    alone = fine.effects(L, problem.raw[0], problem.centred)
    assert alone == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("q", [1, 2, 3])
def test_gradient_is_exact(q):
    problem = Problem(q)
    problem.value(problem.L, problem.raw)
    found = problem.gradient()
    h = 1e-5
    for i in (0, 1):
        by_raw, by_L = found[i]

        def change(array, at, problem=problem):
            values = []
            for step in (h, -h):
                array[at] += step
                values.append(problem.value(problem.L, problem.raw))
                array[at] -= step
            return (values[0] - values[1]) / (2 * h)

        numeric = [change(problem.raw[i], k) for k in range(len(by_raw))]
        # truncation h^2 times third derivatives of up to 1e3, rounding 1e-14 / h
        np.testing.assert_allclose(by_raw, numeric, rtol=1e-6, atol=1e-6)
        for at in zip(*np.tril_indices(len(by_L)), strict=True):
            assert by_L[at] == pytest.approx(change(problem.L[i], at), rel=1e-6, abs=1e-6)


def test_variables_are_standard_normal_where_the_data_are():
    """The posterior of ``u`` under the normal likelihood itself is that of independent ``raw``."""
    rng = np.random.default_rng(3)
    problem = Problem(2)
    known, L = problem.known[0], problem.L[0]
    alone = PartlyCentred(problem.factors[0], Information(known.W, known.s))

    def log_posterior(raw):
        prior = alone.effects(L, raw, [])
        b = alone.b
        return prior + np.sum(known.s * b) - 0.5 * np.einsum("gc,gcd,gd->", b, known.W, b)

    points = rng.standard_normal((5, alone.size))
    found = [log_posterior(raw) + 0.5 * raw @ raw for raw in points]
    np.testing.assert_allclose(found, found[0], rtol=1e-10)
