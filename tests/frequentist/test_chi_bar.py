"""Chi-bar-squares against closed forms and direct simulation."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.stats import chi2

from bayes_glmm.frequentist.chi_bar import DRAWS, likelihood_ratio, projections, reference


def critical(distribution, level=0.05):
    return brentq(lambda c: distribution.p_value(c) - level, 0.5, 30)


def test_critical_values():
    """Stram & Lee (1994), Self & Liang (1987): 5 % points of the usual mixtures."""
    assert critical(reference(0, (1,), None)) == pytest.approx(2.706, abs=5e-4)
    assert critical(reference(1, (1,), None)) == pytest.approx(5.138, abs=5e-4)
    assert critical(reference(0, (1, 1), np.eye(2))) == pytest.approx(4.231, abs=5e-4)
    assert critical(reference(3, (), None)) == pytest.approx(chi2.ppf(0.95, 3))


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.6])
def test_two_variances_by_projection(correlation):
    """The arccos formula against projections of the same normal draws on the quadrant."""
    J = np.array([[2.0, correlation * np.sqrt(6)], [correlation * np.sqrt(6), 3.0]])
    mixture = reference(0, (1, 1), J)
    assert mixture.weights[2] == pytest.approx(np.arccos(correlation) / (2 * np.pi))
    _, at = projections(J, (1, 1), 1)
    counts = np.bincount((at > 0).sum(axis=1), minlength=3) / DRAWS
    # four standard errors of a share, at most 0.5 / sqrt(1e5)
    np.testing.assert_allclose(counts, mixture.weights, atol=4 * 0.5 / np.sqrt(DRAWS))


def test_three_variances():
    """Weights of an orthant in three dimensions: angles of its faces (Shapiro 1988, eq. 5.6)."""
    J = np.array([[2, 0.5, 0.3], [0.5, 1, 0.2], [0.3, 0.2, 3.0]])
    mixture = reference(2, (1, 1, 1), J)
    V = np.linalg.inv(J)  # P(Z > 0) and P(the polar cone), by the formula for orthants

    def positive(C):
        r = C / np.sqrt(np.outer(np.diag(C), np.diag(C)))
        angles = np.arcsin(r[np.triu_indices(3, 1)]).sum()
        return 1 / 8 + angles / (4 * np.pi)

    inside, nothing = positive(V), positive(J)
    expected = [nothing, 0.5 - inside, 0.5 - nothing, inside]
    np.testing.assert_allclose(mixture.weights, expected, atol=4 * 0.5 / np.sqrt(DRAWS))
    assert mixture.df == (2, 3, 4, 5) and mixture.simulated
    assert 0 < mixture.error(5.0) < 0.002
    assert "chi2(5)" in str(mixture)


def test_projection_on_matrices_against_a_general_search():
    J = np.array([[2, 0.5, 0.3, 0.1], [0.5, 1, 0.2, 0.0], [0.3, 0.2, 3.0, 0.4], [0.1, 0, 0.4, 1]])
    for z, found in zip(*projections(J, (2, 1), 3, draws=8), strict=True):

        def distance(free, z=z):
            a, b, c, d = free
            left = np.array([a * a, a * b, b * b + c * c, d * d]) - z
            return left @ J @ left

        starts = [(1, 0.5, 1, 1), (1, -0.5, 0.3, 0.1), (0.1, 1, 1, 1)]
        best = min(minimize(distance, s, tol=1e-10).fun for s in starts)
        assert (found - z) @ J @ (found - z) == pytest.approx(best, abs=1e-5)
        assert found[0] * found[2] - found[1] ** 2 > -1e-9 and found[3] >= 0


def test_a_covariance_matrix_of_zero():
    """In Frobenius' metric the ratio is the sum of squares of the positive eigenvalues."""
    mixture = reference(0, (2,), np.diag([1.0, 2.0, 1.0]))
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 200_000)) * np.array([[1], [np.sqrt(0.5)], [1]])
    M = np.array([[a, b], [b, c]]).transpose(2, 0, 1)
    values = np.maximum(np.linalg.eigvalsh(M), 0)
    ratio = (values**2).sum(axis=1)
    error = 4 * np.sqrt(0.25 / DRAWS + 0.25 / 200_000)
    assert mixture.weights[0] == pytest.approx(np.mean(values.max(1) == 0), abs=error)
    assert mixture.weights[3] == pytest.approx(np.mean(values.min(1) > 0), abs=error)
    for statistic in (1.0, 3.0, 6.0):
        assert mixture.p_value(statistic) == pytest.approx(np.mean(ratio > statistic), abs=error)


def test_a_matrix_and_a_variance_at_once():
    """Independent parts: the ratio is the sum of the two."""
    found = reference(1, (2, 1), np.diag([1.0, 2.0, 1.0, 5.0]))
    matrix = reference(0, (2,), np.diag([1.0, 2.0, 1.0]))
    both = {}
    for w, d in zip(matrix.weights, matrix.df, strict=True):
        for v, e in ((0.5, 0), (0.5, 1)):
            both[d + e + 1] = both.get(d + e + 1, 0) + w * v
    for statistic in (2.0, 6.0):
        expected = sum(w * chi2.sf(statistic, d) for d, w in both.items())
        # Monte Carlo errors of the draws and of the weights
        assert found.p_value(statistic) == pytest.approx(expected, abs=5e-3)
        assert 0 < found.error(statistic) < 0.5 / np.sqrt(DRAWS)
    assert found.p_value(0.0) == 1 and "chi-bar-square" in str(found)


def test_a_ratio_within_the_error_of_the_maxima_is_zero():
    assert likelihood_ratio(-100.0, -100.0 + 4e-7) == 0.0
    assert likelihood_ratio(-100.0, -100.5) == 0.0
    assert likelihood_ratio(-100.0, -100.0 + 6e-7) == pytest.approx(1.2e-6)
    assert np.isnan(likelihood_ratio(-100.0, np.nan))


def test_information_is_asked_for_where_it_is_needed():
    with pytest.raises(ValueError, match="need the information"):
        reference(0, (1, 1), None)
