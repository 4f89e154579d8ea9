"""Innovations of correlated rows against dense normal densities, and their derivatives."""

import numpy as np
import pytest
from scipy import stats

from bayes_glmm.numerics.innovations import correlate, innovations, pull_back

# two patterns: three clusters of three rows in two of which rows are mixed up, two of one row
SIZE = np.array([[3, 3], [1, 2]])
ROWS = np.array([4, 0, 9, 1, 2, 3, 10, 5, 7, 6, 8])
PLACE = np.array([0, 1, 2])  # r10, r20, r21
ARRANGED = (SIZE, PLACE, ROWS)
VALUES = np.array([0.6, -0.2, 0.3])


def matrix(values):
    R = np.eye(3)
    R[1, 0] = R[0, 1] = values[0]
    R[2, 0] = R[0, 2] = values[1]
    R[2, 1] = R[1, 2] = values[2]
    return R


def residuals():
    return np.random.default_rng(3).normal(size=len(ROWS))


def test_rows_have_the_density_given_the_earlier_ones():
    e, R = residuals(), matrix(VALUES)
    white, log_scale = innovations(VALUES, e, *ARRANGED)
    by_row = stats.norm.logpdf(white) - log_scale
    for at in ROWS[:9].reshape(3, 3):
        for j in range(1, 4):
            joint = stats.multivariate_normal(np.zeros(j), R[:j, :j]).logpdf(e[at[:j]])
            # a few roundings of numbers below ten
            assert by_row[at[:j]].sum() == pytest.approx(joint, abs=1e-13)
    np.testing.assert_array_equal(white[ROWS[9:]], e[ROWS[9:]])
    np.testing.assert_array_equal(log_scale[ROWS[9:]], 0.0)


def test_derivatives_are_those_by_differences():
    e = residuals()
    by_white, by_scale = np.random.default_rng(4).normal(size=(2, len(e)))

    def total(values, e):
        white, log_scale = innovations(values, e, *ARRANGED)
        return by_white @ white + by_scale @ log_scale

    white, _ = innovations(VALUES, e, *ARRANGED)
    by_values, by_residuals = pull_back(VALUES, white, by_white, by_scale, *ARRANGED)
    h = 1e-5  # truncation h^2 times third derivatives of order ten, rounding 1e-15 / h
    for found, k in [(by_values[k], k) for k in range(3)]:
        step = h * np.eye(3)[k]
        difference = (total(VALUES + step, e) - total(VALUES - step, e)) / (2 * h)
        assert found == pytest.approx(difference, abs=1e-8)
    for k in range(len(e)):
        step = h * np.eye(len(e))[k]
        difference = (total(VALUES, e + step) - total(VALUES, e - step)) / (2 * h)
        assert by_residuals[k] == pytest.approx(difference, abs=1e-8)


def test_correlating_undoes_whitening():
    e = residuals()
    white, _ = innovations(VALUES, e, *ARRANGED)
    np.testing.assert_allclose(correlate(VALUES, white, *ARRANGED), e, atol=1e-14)


@pytest.mark.parametrize("values", [[0.9, -0.9, 0.9], [1.0, 1.0, 1.0]], ids=["no", "singular"])
def test_a_matrix_that_is_not_positive_definite_gives_no_density_and_no_error(values):
    e, values = residuals(), np.array(values)
    white, log_scale = innovations(values, e, *ARRANGED)
    assert np.all(log_scale[ROWS[:9]] == np.inf) and np.all(log_scale[ROWS[9:]] == 0.0)
    by_values, by_residuals = pull_back(values, white, white, np.ones(len(e)), *ARRANGED)
    assert np.all(by_values == 0.0) and np.all(by_residuals[ROWS[:9]] == 0.0)
    assert np.all(np.isnan(correlate(values, e, *ARRANGED)[ROWS[:9]]))
