"""Whether two posteriors agree: the statistic, what is compared, and what it says."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from standin import asymptotic_fit, posterior_fit, slope_model

import bayes_glmm as bg
from bayes_glmm.agreement import agreement, compared, worst
from bayes_glmm.datatree import draws_of


def shifted(fit, by: float):
    """The same fit with all coefficients moved."""
    posterior = fit.draws["posterior"].to_dataset()
    posterior["beta"] = posterior["beta"] + by
    return replace(fit, draws=xr.DataTree.from_dict({"posterior": posterior}))


def test_the_difference_is_in_monte_carlo_standard_errors():
    fit = posterior_fit()
    table = agreement({"a": fit, "b": shifted(fit, 0.5)})
    assert list(table["parameter"]) == fit.parameter_names
    beta = table.iloc[:2]
    assert beta["difference"].to_numpy() == pytest.approx([-0.5, -0.5])
    # independent draws: SD / sqrt(1,000) for each mean; the estimated effective size of a chain
    # of 500 is within 20 % of its length, its root within 10 %
    sds = [draws_of(fit)[name].std() for name in fit.parameter_names[:2]]
    errors = np.sqrt(2 / 1000) * np.array(sds)
    assert beta["mcse"].to_numpy() == pytest.approx(errors, rel=0.1)
    assert beta["z"].to_numpy() == pytest.approx(-0.5 / beta["mcse"].to_numpy())
    assert table["sd_ratio"].to_numpy() == pytest.approx(1.0)
    assert table["z"].iloc[2:].to_numpy() == pytest.approx(0.0)


def test_ratios_of_sds_have_their_monte_carlo_error():
    """Of normal draws an SD is known to 1 / sqrt(2 n); of draws with 5 df the kurtosis is 9."""
    rng = np.random.default_rng(1)
    first = {"normal": rng.standard_normal((4, 5000)), "t": rng.standard_t(5, (4, 5000))}
    second = {"normal": 2.0 * rng.standard_normal((4, 1250)), "t": rng.standard_t(5, (4, 1250))}
    table = compared(first, second)
    errors = table["sd_ratio_mcse"] / table["sd_ratio"]
    # the fourth moment of 5,000 normal draws is known to 5 %, the effective sizes to about 10 %
    assert errors[0] == pytest.approx(np.sqrt(1 / 40_000 + 1 / 10_000), rel=0.15)
    assert errors[1] > 1.3 * errors[0]
    assert abs(table["sd_ratio"][0] - 0.5) < 4 * table["sd_ratio_mcse"][0]


def test_the_worst_of_a_pair_is_said_in_words():
    fit = posterior_fit()
    (same,) = worst(agreement({"a": fit, "b": fit}))
    assert same.agree
    (apart,) = worst(agreement({"a": fit, "b": shifted(fit, 0.5)}))
    assert not apart.agree
    assert str(apart).startswith("a and b DISAGREE: posterior means differ by at most")
    assert apart.parameter in fit.parameter_names[:2]


def test_only_posteriors_of_one_model_and_priors_are_compared():
    fit = posterior_fit()
    data = slope_model().design.frame
    other_priors = bg.GLMM(
        "y ~ x + (1 + x | g)", data, family="gaussian", priors=bg.Priors(sd=bg.HalfNormal(9))
    )
    assert agreement({"a": fit, "ml": asymptotic_fit()}).empty
    assert agreement({"a": fit, "b": replace(fit, model=other_priors)}).empty
    assert len(agreement({"a": fit, "b": fit, "c": fit})) == 3 * len(fit.parameter_names)


def test_a_comparison_says_it():
    fit = posterior_fit()
    text = repr(bg.compare({"a": fit, "b": fit, "ml": asymptotic_fit()}))
    assert "a and b agree: posterior means differ by at most 0.0 Monte Carlo" in text
    assert "SDs within 0 %" in text
