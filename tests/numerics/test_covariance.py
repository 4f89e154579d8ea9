"""Covariances through signed Cholesky entries."""

import numpy as np
import pytest

from bayes_glmm.numerics.covariance import Covariance

BLOCKS = [((0,),), ((0, 1),), ((0,), (1,)), ((0, 2), (1,)), ((1, 0),), ((2, 0, 1),)]


@pytest.mark.parametrize("blocks", BLOCKS)
def test_theta_of_inverts_factor(blocks):
    covariance = Covariance(blocks)
    theta = np.random.default_rng(1).normal(size=covariance.size)
    L = covariance.factor(theta)
    again = covariance.theta_of(L)
    np.testing.assert_allclose(
        covariance.factor(again) @ covariance.factor(again).T, L @ L.T, atol=1e-12
    )
    np.testing.assert_allclose(again, theta * covariance.signs(theta), atol=1e-12)
    assert np.all(again[covariance.diagonal] >= 0)


@pytest.mark.parametrize("blocks", BLOCKS)
def test_components_and_their_jacobian(blocks):
    covariance = Covariance(blocks)
    theta = np.random.default_rng(2).normal(size=covariance.size)
    sigma = covariance.factor(theta) @ covariance.factor(theta).T
    sd = np.sqrt(np.diag(sigma))
    corr = [sigma[i, j] / sd[i] / sd[j] for i, j in covariance.pairs]
    np.testing.assert_allclose(covariance.components(theta), [*sd, *corr], rtol=1e-12)
    h = 1e-6
    for k in range(covariance.size):
        e = h * np.eye(covariance.size)[k]
        slope = (covariance.components(theta + e) - covariance.components(theta - e)) / (2 * h)
        np.testing.assert_allclose(covariance.jacobian(theta)[:, k], slope, atol=1e-8)


def test_a_zero_standard_deviation_has_no_correlation():
    covariance = Covariance(((0, 1),))
    components = covariance.components(np.array([1.0, 0.0, 0.0]))
    assert components[1] == 0 and np.isnan(components[2])
    assert np.isnan(covariance.jacobian(np.array([1.0, 0.0, 0.0]))[1:]).any(axis=1).all()
