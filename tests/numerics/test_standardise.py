"""Orthogonal columns of one scale."""

from fractions import Fraction

import numpy as np
import pytest

from bayes_glmm.design import GroupBlock
from bayes_glmm.numerics.standardise import centre, standardise, standardise_effects


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


def test_what_least_squares_leaves_keeps_its_digits():
    """Against exact fractions: a line through a response of 1e10 with deviations of 1e-3."""
    rng = np.random.default_rng(2)
    x = 2000 + np.arange(30.0)
    y = 1e10 + 3.0 * x + 1e-3 * rng.normal(size=30)
    s = standardise(np.c_[np.ones(30), x])
    found, left = s.least_squares(y)
    v, w = ([Fraction(value) for value in column] for column in (x, y))
    xc, yc = ([e - sum(column) / 30 for e in column] for column in (v, w))
    slope = sum(a * b for a, b in zip(xc, yc, strict=True)) / sum(a * a for a in xc)
    exact = [float(b - slope * a) for a, b in zip(xc, yc, strict=True)]
    # the fit of 1e10 has digits to 2e-6, and those of the columns, which are as good
    np.testing.assert_allclose(left, exact, atol=1e-5)
    assert np.max(np.abs(s.columns.T @ left)) < 1e-9
    assert s.outer(found)[1] == pytest.approx(float(slope), abs=1e-6)


def test_effects_go_back_and_forth():
    rng = np.random.default_rng(3)
    Z = np.c_[np.ones(60), 2000 + rng.normal(size=60), rng.normal(size=60), 3 * rng.normal(size=60)]
    levels = tuple(map(str, range(12)))
    group = GroupBlock("g", tuple("abcd"), levels, np.arange(60) % 12, Z, ((0, 1, 2), (3,)))
    s = standardise_effects(group)
    inner = s.effects.Z
    np.testing.assert_allclose(inner @ s.T, Z, rtol=1e-11)
    np.testing.assert_allclose(inner[:, :3].T @ inner[:, :3], 60 * np.eye(3), atol=1e-9)
    assert not np.triu(s.T, 1).any() and np.all(np.diag(s.T) > 0) and not s.T[3, :3].any()
    L = np.tril(rng.normal(size=(4, 4)))
    np.testing.assert_allclose(inner @ s.inner(L), Z @ L, rtol=1e-8, atol=1e-8)
    b = rng.normal(size=(12, 4))
    np.testing.assert_allclose(s.outer(b @ s.T.T), b, rtol=1e-8)
    C = np.array([np.cov(rng.normal(size=(4, 9))) for _ in range(12)])
    np.testing.assert_allclose(s.outer_covariance(s.T @ C @ s.T.T), C, rtol=1e-6, atol=1e-9)


def test_dependent_columns_of_effects_are_scaled():
    Z = np.c_[np.ones(8), np.full(8, 2.0), np.zeros(8)]
    group = GroupBlock("g", tuple("abc"), ("1", "2"), np.arange(8) % 2, Z, ((0, 1, 2),))
    s = standardise_effects(group)
    np.testing.assert_array_equal(s.T, np.diag([1.0, 2.0, 1.0]))
    np.testing.assert_array_equal(s.effects.Z @ s.T, Z)


def test_columns_far_from_zero_are_centred_where_there_is_an_intercept():
    rng = np.random.default_rng(4)
    X = np.c_[np.ones(30), 2000 + rng.normal(size=30), rng.normal(size=30), np.full(30, 5.0)]
    c = centre(X)
    np.testing.assert_array_equal(c.columns[:, [0, 2, 3]], X[:, [0, 2, 3]])
    assert abs(c.columns[:, 1].mean()) < 1e-12
    beta = rng.normal(size=4)
    np.testing.assert_allclose(c.columns @ c.inner(beta), X @ beta, rtol=1e-12)
    np.testing.assert_allclose(c.outer(c.inner(beta)), beta, rtol=1e-9)
    np.testing.assert_array_equal(centre(X[:, 1:]).columns, X[:, 1:])
    assert centre(np.zeros((5, 0))).columns.shape == (5, 0)
