"""Ranking tables: expected ranks and probabilities of the top."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from standin import posterior_fit

import bayes_glmm as bg
from bayes_glmm.methods import NotServedError
from bayes_glmm.ranking import _ranked

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def cbpp():
    return bg.GLMM(CBPP, bg.load_dataset("cbpp"), family="binomial").fit(bg.ML(nodes=25))


def exchangeable():
    """Eight levels with the same counts, so that none is above another."""
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 4), "y": np.tile([1, 7, 2, 9], 8)})
    rng = np.random.default_rng(1)
    data["x"] = rng.permutation(np.repeat([0, 1], 16))
    return data


def test_exchangeable_levels_are_in_the_top_k_equally_often():
    """Probabilities k / G within 4.5 Monte Carlo errors; the SD is held away from zero."""
    fit = bg.GLMM("y ~ 1 + (1 | g)", exchangeable(), family="poisson", priors=bg.Priors()).fit("ml")
    # the data show no variation, so the distribution of the levels is set by hand
    effects = {"g": type(fit.effects["g"])(np.zeros((8, 1)), np.ones((8, 1)))}
    draws = 8000
    one = _with(fit, effects)
    for k in (1, 3, 8):
        table = bg.rank_levels(one, "g", top=k, draws=draws)
        p = k / 8
        assert (np.abs(table.p_top - p) <= 4.5 * np.sqrt(p * (1 - p) / draws)).all()
        assert table.p_top.sum() == pytest.approx(k)
    # ranks are uniform on 1 … 8: variance 63 / 12
    assert (np.abs(table.expected_rank - 4.5) < 4.5 * np.sqrt(63 / 12 / draws)).all()
    assert table.expected_rank.mean() == pytest.approx(4.5)


def _with(fit, effects):
    from dataclasses import replace

    details = {k: v for k, v in fit.details.items() if k != "theta"}
    return replace(fit, effects=effects, details=details)


def test_a_zero_standard_deviation_shares_every_place():
    data = exchangeable()
    fit = bg.GLMM("y ~ 1 + (1 | g)", data.assign(y=np.tile([2, 3, 4, 1], 8)), family="poisson")
    table = fit.fit("ml").rank_levels("g", top=2)
    assert (table.p_top == 0.25).all()
    assert (table.expected_rank == 4.5).all()
    assert (table[["rank_low", "rank_high"]] == 4.5).all(axis=None)


def test_independent_normal_effects_against_the_formula(cbpp):
    """PQL gives independent normals: E[R_j] = 1 + sum_i P(b_i > b_j), by the normal cdf.

    40,000 draws: a rank's SD is below 4, so the mean's Monte Carlo error is below .02.
    """
    fit = cbpp.model.fit("pql")
    e = fit.effects["herd"]
    m, s = e.estimate[:, 0], e.sd[:, 0]
    above = stats.norm.cdf((m[:, None] - m[None, :]) / np.hypot(s[:, None], s[None, :]))
    np.fill_diagonal(above, 0.0)
    expected = pd.Series(1 + above.sum(axis=0), fit.model.design.groups[0].levels)
    table = bg.rank_levels(fit, "herd", draws=40_000).set_index("level")
    assert (table.expected_rank - expected).abs().max() < 4.5 * 0.02


def test_a_posterior_is_ranked_draw_by_draw():
    fit = posterior_fit()
    b = fit.draws["posterior"]["b_g"].to_numpy().reshape(1000, 4, 2)[..., 1]
    table = bg.rank_levels(fit, "g", "x", top=2).set_index("level")
    ranks = 4 - b.argsort(axis=1).argsort(axis=1)
    for k, level in enumerate(fit.model.design.groups[0].levels):
        assert table.expected_rank[level] == pytest.approx(ranks[:, k].mean())
        assert table.p_top[level] == pytest.approx((ranks[:, k] <= 2).mean())
        assert table.estimate[level] == pytest.approx(b[:, k].mean())
        assert table.rank_low[level] >= 1 and table.rank_high[level] <= 4


def test_the_smallest_first_turns_the_ranks_round(cbpp):
    high = bg.rank_levels(cbpp, "herd").set_index("level")
    low = bg.rank_levels(cbpp, "herd", largest=False).set_index("level")
    assert (high.expected_rank + low.expected_rank[high.index]).to_numpy() == pytest.approx(16)
    assert high.index[0] == cbpp.ranef().set_index("level").estimate.idxmax()
    assert low.index[0] == cbpp.ranef().set_index("level").estimate.idxmin()


def test_the_seed_fixes_the_draws(cbpp):
    one = cbpp.rank_levels("herd", top=3, seed=4)
    pd.testing.assert_frame_equal(one, cbpp.rank_levels("herd", top=3, seed=4))
    assert (one.p_top != cbpp.rank_levels("herd", top=3, seed=5).p_top).any()


def test_ties_share_ranks_and_places():
    ranks, p_top = _ranked(np.array([[0.0, 0.0, 1.0, -1.0]]), 2)
    np.testing.assert_array_equal(ranks, [[2.5, 2.5, 4.0, 1.0]])
    np.testing.assert_array_equal(p_top, [0.5, 0.5, 0.0, 1.0])


def test_what_cannot_be_ranked_is_refused(cbpp):
    for top in (0, 16, 2.5, True):
        with pytest.raises(ValueError, match=r"whole number from 1 to 15"):
            bg.rank_levels(cbpp, "herd", top=top)
    with pytest.raises(ValueError, match="not a grouping factor"):
        bg.rank_levels(cbpp, "cow")
    with pytest.raises(ValueError, match="give term="):
        bg.rank_levels(posterior_fit(), "g")
    with pytest.raises(ValueError, match="between 0 and 1"):
        bg.rank_levels(cbpp, "herd", level=95)
    with pytest.raises(ValueError, match="at least 100"):
        bg.rank_levels(cbpp, "herd", draws=10)
    with pytest.raises(NotServedError, match="no group effects to rank"):
        bg.rank_levels(cbpp.model.fit("gee"), "herd")
