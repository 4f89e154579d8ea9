"""Proposals, the level that candidates are kept by, and the chain over them."""

import numpy as np
import pytest
from scipy import stats

from bayes_glmm.bayesian.importance import Proposal, level_of, metropolis


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
