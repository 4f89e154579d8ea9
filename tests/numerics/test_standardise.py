"""Orthogonal columns of one scale."""

from fractions import Fraction

import numpy as np
import pytest

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
