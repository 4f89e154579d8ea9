"""The search for a maximum, on functions whose maximum is known."""

import numpy as np
import pytest

from bayes_glmm.numerics import optimise


def quadratic(scale):
    """A concave quadratic with widely different curvatures."""
    centre = np.arange(1.0, len(scale) + 1)

    def objective(x):
        return -0.5 * np.sum(scale * (x - centre) ** 2), -scale * (x - centre)

    return objective, centre


def rosenbrock(x):
    """Curved ridge; its maximum is at ones."""
    value = -(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)
    ridge = 400 * x[0] * (x[1] - x[0] ** 2)
    return value, np.array([ridge + 2 * (1 - x[0]), -200 * (x[1] - x[0] ** 2)])


def test_a_quadratic_with_the_right_information_takes_one_step():
    scale = np.array([1.0, 1e4, 1e-4])
    objective, centre = quadratic(scale)
    found = optimise.bfgs(objective, np.zeros(3), np.diag(1 / scale))
    np.testing.assert_allclose(found.x, centre)
    assert found.converged and found.evaluations == 2


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_a_wrong_information_is_corrected(factor):
    objective, centre = quadratic(np.array([1.0, 3.0, 10.0]))
    optimum, covariance = optimise.maximise(objective, np.zeros(3), factor * np.eye(3))
    np.testing.assert_allclose(optimum.x, centre, atol=1e-6)
    np.testing.assert_allclose(covariance, np.diag([1.0, 1 / 3, 0.1]), rtol=1e-6, atol=1e-12)
    assert optimum.converged


def test_a_curved_ridge():
    optimum, covariance = optimise.maximise(rosenbrock, np.array([-1.2, 1.0]), np.eye(2) / 100)
    # standard errors are 0.7 and 1.4, and 1e-5 of them (TIGHT) is what is promised
    np.testing.assert_allclose(optimum.x, [1, 1], atol=1e-5)
    # error: the fourth derivative, 2400, times the squared step (0.01 to 0.03) over 6
    exact = np.array([[802.0, -400.0], [-400.0, 200.0]])
    np.testing.assert_allclose(np.linalg.inv(covariance), exact, rtol=1e-3)
    assert optimum.converged


def test_regions_without_a_value_are_stepped_around():
    def objective(x):
        if x[0] > 2:
            return -np.inf, np.full(1, np.nan)
        return np.log(2.0 - x[0]) + 2 * x[0] - x[0] ** 2, np.array([-1 / (2 - x[0]) + 2 - 2 * x[0]])

    optimum, _ = optimise.maximise(objective, np.array([-5.0]), np.array([[50.0]]))
    assert optimum.converged and abs(objective(optimum.x)[1][0]) < 1e-5


def test_an_unbounded_function_is_not_called_converged():
    optimum, covariance = optimise.maximise(
        lambda x: (float(x.sum()), np.ones(2)), np.zeros(2), np.eye(2)
    )
    assert covariance is None and not optimum.converged and optimum.reason


def test_a_saddle_is_not_called_a_maximum():
    def saddle(x):
        return 0.5 * (x[1] ** 2 - x[0] ** 2), np.array([-x[0], x[1]])

    optimum, covariance = optimise.maximise(saddle, np.array([1.0, 0.0]), np.eye(2))
    assert covariance is None and not optimum.converged


def test_no_value_at_the_start():
    optimum, covariance = optimise.maximise(
        lambda x: (-np.inf, np.full(1, np.nan)), np.zeros(1), np.eye(1)
    )
    assert not optimum.converged and "start" in optimum.reason and covariance is None


def test_hessian_of_a_quadratic():
    A = np.array([[2.0, 0.5], [0.5, 1.0]])
    found = optimise.hessian(lambda x: (-0.5 * x @ A @ x, -A @ x), np.ones(2), np.eye(2))
    np.testing.assert_allclose(found, A, rtol=1e-10)


def test_inverse_of_a_singular_matrix_is_none():
    assert optimise.inverse_of(np.ones((2, 2))) is None
    assert optimise.inverse_of(np.diag([1.0, -1.0])) is None
    np.testing.assert_allclose(optimise.inverse_of(np.diag([4.0, 1e-12])), np.diag([0.25, 1e12]))


def test_an_indefinite_inverse_serves_by_its_diagonal():
    """The Hessian of a quadratic by differences is exact whatever the steps are."""
    scale = np.array([2.0, 30.0])
    objective, centre = quadratic(scale)
    indefinite = np.array([[1.0, 2.0], [2.0, 1.0]])
    np.testing.assert_array_equal(optimise.root_of(indefinite), np.eye(2))
    found = optimise.hessian(objective, centre, indefinite)
    np.testing.assert_allclose(found, np.diag(scale), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(optimise.root_of(np.diag([4.0, 9.0])), np.diag([2.0, 3.0]))
