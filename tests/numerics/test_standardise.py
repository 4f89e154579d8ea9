"""Orthogonal columns of one scale."""

import numpy as np

from bayes_glmm.numerics.standardise import standardise


def test_columns_are_orthogonal_and_coefficients_go_back_and_forth():
    rng = np.random.default_rng(1)
    X = np.c_[np.ones(50), 1e9 + 1e3 * rng.normal(size=50), 1e-6 * rng.normal(size=50)]
    s = standardise(X)
    np.testing.assert_allclose(s.columns.T @ s.columns, 50 * np.eye(3), atol=1e-8)
    beta = np.array([1.0, -2e-9, 3e6])
    np.testing.assert_allclose(s.columns @ s.inner(beta), X @ beta, rtol=1e-9)
    np.testing.assert_allclose(s.outer(s.inner(beta)), beta, rtol=1e-6)
    np.testing.assert_allclose(s.outer_jacobian(4)[:3, :3] @ s.R, np.eye(3), atol=1e-6)


def test_no_columns():
    s = standardise(np.zeros((5, 0)))
    assert s.inner(np.zeros(0)).size == 0 and s.outer_jacobian(2).shape == (2, 2)
