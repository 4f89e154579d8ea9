"""The metric against dense algebra, and on a normal density, where it is exact."""

import numpy as np
import pytest

from bayes_glmm.bayesian.metric import Layout, conditional_sds, find_metric, sound_metric
from bayes_glmm.numerics.triangular import inner_gradient, outer

LEVELS, REST = 6, 3
SIZES = [1, 2]


def precision(q: int, rng) -> np.ndarray:
    """A precision matrix whose first ``LEVELS * q`` rows are block-diagonal among themselves."""
    Z = rng.normal(size=(5 * LEVELS, LEVELS, q)) * (np.arange(5 * LEVELS) % LEVELS == np.arange(
        LEVELS)[:, None]).T[:, :, None]  # fmt: skip
    rows = np.hstack([Z.reshape(5 * LEVELS, -1), rng.normal(3, 1, (5 * LEVELS, REST))])
    return rows.T @ rows + np.eye(rows.shape[1])


def normal(H, mean):
    return lambda x: (-0.5 * (x - mean) @ H @ (x - mean), -H @ (x - mean))


def dense(metric) -> np.ndarray:
    """The matrix ``P' L^-T``, column by column."""
    d = len(metric.order)
    return np.array([outer(e, *metric.arrays) - metric.centre for e in np.eye(d)]).T


@pytest.mark.parametrize("q", SIZES)
def test_a_normal_density_becomes_standard(q):
    rng = np.random.default_rng(1)
    H = precision(q, rng)
    mean = rng.normal(size=len(H))
    layout = Layout(len(H), [np.arange(LEVELS * q).reshape(LEVELS, q)], np.zeros(0, int))
    metric = find_metric(normal(H, mean), np.zeros(len(H)), np.ones(len(H)), layout)
    # differences of a linear gradient are exact but for rounding; L-BFGS stops at 1e-5
    np.testing.assert_allclose(metric.centre, mean, atol=1e-4)
    M = dense(metric)
    np.testing.assert_allclose(M @ M.T, np.linalg.inv(H), atol=1e-8)
    np.testing.assert_allclose(conditional_sds(metric), np.diag(H) ** -0.5, rtol=1e-8)
    gradient = rng.normal(size=len(H))
    np.testing.assert_allclose(inner_gradient(gradient, *metric.arrays), M.T @ gradient, rtol=1e-10)
    assert len(metric.below[1]) < len(H) * (len(H) - 1) / 2  # sparse


def test_a_density_without_a_joint_mode_holds_what_has_none():
    """log density ``-log s - x'x / (2 s^2)`` in ``log s`` has its mode at minus infinity."""

    def f(at):
        x, t = at[:-1], at[-1]
        with np.errstate(all="ignore"):
            size = x @ x * np.exp(-2 * t)
            return -0.5 * size - 4 * t, np.r_[-x * np.exp(-2 * t), size - 4]

    layout = Layout(5, [np.arange(4)[:, None]], np.array([4]))
    start = np.r_[np.ones(4), 0.2]
    metric = sound_metric(f, start, np.ones(5), layout)
    assert metric.centre[-1] == 0.2
    np.testing.assert_allclose(metric.centre[:4], 0.0, atol=1e-4)
    np.testing.assert_allclose(dense(metric)[:4, :4], np.exp(0.2) * np.eye(4), rtol=1e-5)


def test_many_effects_of_other_factors_are_taken_as_uncoupled(monkeypatch):
    monkeypatch.setattr("bayes_glmm.bayesian.metric.MANY_OTHERS", 2)
    layout = Layout(9, [np.arange(4)[:, None], np.arange(4, 7)[:, None]], np.zeros(0, int))
    blocks, rest = layout.split()
    assert [len(at) for at in blocks] == [4, 3]
    assert rest.tolist() == [7, 8]
