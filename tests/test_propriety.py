"""Separation against the definition, and verdicts under proper priors."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayes_glmm as bg
from bayes_glmm.propriety import find_separation

GROUPS = ["a", "b", "c", "d"]


def model(y, x, family="bernoulli", **columns):
    frame = pd.DataFrame({"y": y, "x": x, "g": (GROUPS * len(y))[: len(y)], **columns})
    return bg.GLMM("y ~ x + (1 | g)", frame, family=family)


def likelihood_rises_for_ever(m) -> bool:
    """Brute force: the GLM's maximiser runs away (|gamma'x| > 15) when the penalty vanishes."""
    d = m.design
    sign = np.where(d.y > 0, 1.0, -1.0)

    def loss(beta):
        return np.logaddexp(0, -sign * (d.X @ beta)).sum() + 1e-9 * beta @ beta

    best = minimize(loss, np.zeros(d.p), method="BFGS", options={"gtol": 1e-9}).x
    return bool(np.abs(d.X @ best).max() > 9)


def test_complete_separation_is_found_with_its_direction():
    found = find_separation(model([0, 0, 0, 1, 1, 1], [0.0, 1, 2, 3, 4, 5]))
    assert found is not None
    assert found.complete
    X = np.c_[np.ones(6), np.arange(6)]
    assert (np.array([-1, -1, -1, 1, 1, 1]) * (X @ found.direction) > 0).all()


def test_quasi_separation_by_an_indicator_is_said_in_words():
    m = model([0, 1, 0, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1])
    found = find_separation(m)
    assert found is not None
    assert not found.complete
    assert found.words == (
        "Quasi-complete separation: y is at its highest value in all 2 rows with x = 1"
    )
    assert list(np.flatnonzero(found.rows)) == [6, 7]


def test_rows_are_in_the_users_order():
    frame = pd.DataFrame(
        {"y": [1, 0, 1, 0, 1, 0, 1, 0], "x": [1, 0, 1, 0, 0, 0, 0, 0], "g": list("babababa")}
    )
    found = find_separation(bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli"))
    assert found is not None
    assert list(np.flatnonzero(found.rows)) == [0, 2]


def test_overlap_is_no_separation():
    assert find_separation(model([0, 1, 0, 1, 0, 1], [0.0, 1, 2, 3, 4, 5])) is None


@pytest.mark.parametrize("seed", range(60))
def test_random_designs_agree_with_a_maximiser(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 14))
    m = model(rng.integers(0, 2, n), rng.integers(0, 3, n) + 0.25 * np.arange(n))
    assert (find_separation(m) is not None) == likelihood_rises_for_ever(m)


def test_zero_counts_in_one_level_separate_a_poisson_model():
    found = find_separation(model([3, 0, 1, 0, 2, 0], [0, 1, 0, 1, 0, 1], "poisson"))
    assert found is not None
    assert found.words.startswith("Quasi-complete separation: y is at its lowest value in all 3")


def test_poisson_with_positive_counts_everywhere_is_not_separated():
    assert find_separation(model([3, 1, 1, 2, 2, 4], [0, 1, 0, 1, 0, 1], "poisson")) is None


def test_grouped_binomial_rows_with_both_outcomes_hold_the_direction():
    frame = pd.DataFrame({"s": [0, 3, 2, 2], "n": [5, 5, 5, 5], "x": [1, 1, 0, 0], "g": GROUPS})
    assert find_separation(bg.GLMM("p(s, n) ~ x + (1 | g)", frame, family="binomial")) is None


def test_every_fit_carries_the_warning():
    fit = model([0, 1, 0, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1]).fit("glm")
    assert "separation" in [m.code for m in fit.messages]


def test_discrete_families_with_proper_priors_are_proper():
    report = bg.check_propriety(bg.GLMM(**cbpp()))
    assert report.verdict == "proper"
    assert report.separation is None


def test_gaussian_is_proper_when_something_is_left_to_explain():
    m = bg.GLMM(
        "reaction ~ days + (days | subject)", bg.load_dataset("sleepstudy"), family="gaussian"
    )
    assert bg.check_propriety(m).verdict == "proper"


def test_saturated_gaussian_is_not_decided():
    frame = pd.DataFrame({"y": [1.0, 2.5, 2.0, 4.0], "unit": list("abcd")})
    report = bg.check_propriety(bg.GLMM("y ~ 1 + (1 | unit)", frame, family="gaussian"))
    assert report.verdict == "unknown"
    assert "fit the data exactly" in str(report)


def cbpp():
    return {
        "formula": "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        "data": bg.load_dataset("cbpp"),
        "family": "binomial",
    }


# ---- improper priors: allowed, checked, and sampled only where the posterior exists


def groups(*patterns, **priors):
    rows = [(value, f"g{k}") for k, pattern in enumerate(patterns) for value in pattern]
    frame = pd.DataFrame(rows, columns=["y", "g"])
    priors = bg.Priors(allow_improper=True, **priors)
    return bg.GLMM("y ~ 1 + (1 | g)", frame, family="bernoulli", priors=priors)


def test_a_model_without_a_posterior_is_not_sampled():
    m = groups([1, 1], [0, 0], [1, 1], sd=bg.Flat())
    with pytest.raises(bg.ImproperPosteriorError, match="improper") as caught:
        m.fit(bg.NUTS(seed=1))
    assert "In 3 of 3 levels of g (g0, g1, g2) y is at its lowest or highest value" in str(
        caught.value
    )
    assert "HalfNormal or PC" in str(caught.value)


def test_a_model_whose_posterior_is_not_decided_is_not_sampled():
    m = groups([1, 0], [0, 1], intercept=bg.Flat())
    unknown = bg.GLMM(
        "y ~ 1 + (1 | g)", m.design.frame, family="gaussian",
        priors=bg.Priors(sd=bg.Flat(), allow_improper=True),
    )  # fmt: skip
    assert bg.check_propriety(unknown).verdict == "proper"
    saturated = pd.DataFrame({"y": [1.0, 2.5, 2.0], "g": list("abc")})
    unknown = bg.GLMM(
        "y ~ 1 + (1 | g)", saturated, family="gaussian",
        priors=bg.Priors(intercept=bg.Flat(), allow_improper=True),
    )  # fmt: skip
    with pytest.raises(bg.ImproperPosteriorError, match="unknown"):
        unknown.fit(bg.NUTS(seed=1))


def test_the_report_holds_its_numbers():
    found = bg.check_propriety(groups([1, 0], [0, 1], [1, 1], intercept=bg.Flat(), sd=bg.Flat()))
    assert (found.verdict, found.kappa, found.p, found.alpha) == ("improper", 2, 1, (0.0,))
    assert found.subset == ("sd_g[Intercept]",)
    assert "alpha 0 + kappa 2 - p 1 = 1; more than 1 is needed" in str(found)
    assert "not from a publication" in str(found)


def test_separation_of_a_level_is_said_with_its_groups():
    frame = pd.DataFrame(
        {"y": [1, 0, 1, 0, 0, 0, 0, 0], "type": list("AAAABBBB"), "herd": list("aabbccdd")}
    )
    m = bg.GLMM(
        "y ~ type + (1 | herd)", frame, family="bernoulli",
        priors=bg.Priors(beta=bg.Flat(), sd=bg.PC(3, 0.05), allow_improper=True),
    )  # fmt: skip
    found = bg.check_propriety(m)
    assert found.verdict == "improper"
    assert found.certificate == (
        "Quasi-complete separation: y is at its lowest value in all 4 rows with type[T.B] = 1, "
        "that is in all 2 levels of herd there"
    )
    assert bg.check_propriety(m.with_priors(bg.Priors())).verdict == "proper"


GAUSSIAN = [  # levels, prior of the SD, posterior?  (Gelman 2006: uniform SD needs 3, variance 4)
    (2, bg.Flat(), False),
    (3, bg.Flat(), True),
    (3, bg.Power(-1), False),
    (4, bg.Power(-1), True),
    (2, bg.HalfCauchy(1), True),
    (5, bg.Power(1), False),
]


@pytest.mark.parametrize(("levels", "prior", "exists"), GAUSSIAN, ids=str)
def test_gaussian_needs_as_many_groups_as_gelman_says(levels, prior, exists):
    rng = np.random.default_rng(levels)
    frame = pd.DataFrame(
        {"y": rng.normal(size=4 * levels), "g": np.repeat(list("abcdefg")[:levels], 4)}
    )
    priors = bg.Priors(intercept=bg.Flat(), sd=prior, allow_improper=True)
    m = bg.GLMM("y ~ 1 + (1 | g)", frame, family="gaussian", priors=priors)
    assert bg.check_propriety(m).verdict == ("proper" if exists else "improper")
    both = m.with_priors(
        bg.Priors(intercept=bg.Flat(), sd=prior, dispersion=bg.Power(1), allow_improper=True)
    )
    assert bg.check_propriety(both).verdict == ("proper" if exists else "improper")


def test_gaussian_residual_with_a_growing_prior_needs_rows():
    """sd_e^k: proper while k < n - p - 1."""
    frame = pd.DataFrame({"y": [0.1, 1.0, 0.4, 2.0, 1.1, 0.3], "g": list("aabbcc")})

    def verdict(k):
        priors = bg.Priors(intercept=bg.Flat(), dispersion=bg.Power(-k), allow_improper=True)
        m = bg.GLMM("y ~ 1 + (1 | g)", frame, family="gaussian", priors=priors)
        return bg.check_propriety(m).verdict

    assert verdict(3) == "proper"
    assert verdict(4) == "improper"


def test_a_saved_fit_keeps_that_improper_priors_were_allowed(tmp_path):
    m = groups([1, 0], [0, 1], [1, 1], intercept=bg.Flat(), sd=bg.Flat())
    path = tmp_path / "fit.zip"
    m.fit("glm").save(path)
    assert bg.load_fit(path).model.stated == m.stated
    assert bg.check_propriety(bg.load_fit(path).model).verdict == "improper"
