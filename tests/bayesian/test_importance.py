"""Proposals, the level that candidates are kept by, and the chain over them."""

import numpy as np
import pytest
from scipy import stats

from bayes_glmm.bayesian.importance import (
    Proposal,
    effective_weights,
    level_of,
    metropolis,
    refitted,
    upper_root,
)


@pytest.mark.parametrize("proposals", [1.25, 2.0, 5.0])
def test_level_keeps_the_share_asked_for(proposals):
    ratio = np.random.default_rng(1).normal(scale=2.0, size=500) + 700.0
    level = level_of(ratio, proposals)
    assert np.mean(np.minimum(1.0, np.exp(ratio - level))) == pytest.approx(1.0 / proposals)


def test_level_of_ratios_that_vanish_or_are_equal():
    assert level_of(np.zeros(10), 2.0) == pytest.approx(np.log(2.0))
    few = np.array([-np.inf, -np.inf, 0.0, 0.0])
    assert level_of(few, 4.0) == pytest.approx(np.log(2.0))


@pytest.mark.parametrize("proposals", [1.25, 3.0])
def test_chain_over_candidates_has_the_target(proposals):
    """A gamma target, skewed and with another tail, under a t proposal."""
    rng = np.random.default_rng(2)
    size = 400_000
    x, proposed = Proposal(np.array([3.0]), np.array([[4.0]])).draw(rng, size)
    ratio = stats.gamma.logpdf(x[:, 0], 4.0) - proposed
    level = level_of(ratio[:400], proposals)
    kept = np.flatnonzero(np.log(rng.random(size)) <= ratio - level)
    # the first 400 give 400 +- 20 * sqrt(.25) of the share; the rest follows it
    assert len(kept) / size == pytest.approx(1.0 / proposals, rel=0.15)
    position, moved = metropolis(np.maximum(ratio[kept], level)[None], rng)
    draws = x[kept][position[0], 0]
    assert moved.mean() > 2 / 3
    # so that at least a third of the draws are effective
    error = 4.5 / np.sqrt(len(draws) / 3.0)
    for q in (0.01, 0.1, 0.5, 0.9, 0.99):
        assert abs(stats.gamma.cdf(np.quantile(draws, q), 4.0) - q) < error * np.sqrt(q * (1.0 - q))
    assert position[0, 0] == 0


def test_chain_stays_where_the_ratio_is_large():
    ratio = np.array([[0.0, 50.0, 0.0, 0.0, 60.0]])
    position, moved = metropolis(ratio, np.random.default_rng(1))
    np.testing.assert_array_equal(position, [[0, 1, 1, 1, 4]])
    np.testing.assert_array_equal(moved, [[True, True, False, False, True]])


def test_the_split_density_is_that_of_its_draws():
    """Ratios of a normalised density to it average to one, on either side of an axis too."""
    rng = np.random.default_rng(3)
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    split = Proposal(
        np.array([1.0, -1.0]), covariance, np.array([1.0, 3.0]), np.array([0.7, 1.2]), 5
    )
    x, proposed = split.draw(rng, 400_000)
    target = stats.multivariate_normal([1.5, -1.5], covariance)
    ratio = np.exp(target.logpdf(x) - proposed)
    below = stats.norm.cdf(-1.0, -1.5, np.sqrt(0.5))  # exact share of the target, second axis
    for side, exact in ((x[:, 1] < -1.0, below), (x[:, 1] >= -1.0, 1.0 - below)):
        part = ratio * side
        assert part.mean() == pytest.approx(exact, abs=4.5 * part.std() / np.sqrt(len(x)))
    assert ratio.mean() == pytest.approx(1.0, abs=4.5 * ratio.std() / np.sqrt(len(x)))


def test_a_refitted_proposal_follows_a_long_tail():
    """The log of a gamma variable: an exponential tail below, a short one above."""
    rng = np.random.default_rng(4)
    x, proposed = Proposal(np.array([-1.0]), np.array([[4.0]]), df=3).draw(rng, 20_000)
    log_density = stats.gamma.logpdf(np.exp(x[:, 0]), 0.5) + x[:, 0]
    split = refitted(x, log_density - proposed, Proposal(np.array([-1.0]), np.array([[4.0]])))
    assert split.left > 1.2 * split.right
    moments = stats.loggamma(0.5)
    # 20,000 proposals, a third of them effective: errors of 1 %, of tails 3 %
    assert split.centre[0] == pytest.approx(moments.mean(), abs=0.05 * moments.std())
    assert split.covariance[0, 0] == pytest.approx(moments.var(), rel=0.1)


def test_a_refitted_proposal_of_many_coordinates_keeps_its_covariance():
    """Of 41 normal coordinates: a t of 5 df with their covariance has an efficiency of .44.

    With the covariance of the 2,700 weighted draws alone it is .14.
    """
    rng = np.random.default_rng(5)
    d = 41
    root = np.eye(d) + 0.2 * rng.standard_normal((d, d))
    target = stats.multivariate_normal(np.zeros(d), root @ root.T)
    wide = Proposal(np.zeros(d), 1.1 * root @ root.T, df=3)
    x, proposed = wide.draw(rng, 2700)
    better = refitted(x, target.logpdf(x) - proposed, wide)
    x, proposed = better.draw(rng, 4000)
    assert effective_weights(target.logpdf(x) - proposed) > 0.3 * 4000


def test_the_upper_root():
    matrix = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 0.7]])
    root = upper_root(matrix)
    np.testing.assert_allclose(root @ root.T, matrix, atol=1e-14)
    np.testing.assert_array_equal(root, np.triu(root))
