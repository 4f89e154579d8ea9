"""What data leave undetermined is said by every method, and has no standard error by any."""

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.identification import unidentified_groups
from bayes_glmm.propriety import find_separation

RNG = np.random.default_rng(1)
G = np.repeat(np.arange(30), 5)
X = RNG.normal(size=150)
COIN = RNG.binomial(1, 1 / (1 + np.exp(-(0.3 + 0.5 * X + RNG.normal(size=30)[G]))))
ROWS = pd.DataFrame({"g": G, "x": X, "y": COIN, "row": np.arange(150)})
WITHOUT_PRIOR = [bg.GEE(), bg.PQL(), bg.MQL(), bg.ML(nodes=5), bg.GLM()]
SHORT = {"draws": 50, "chains": 2}


def fitted(formula, method, family="bernoulli", rows=ROWS, **columns):
    fit = bg.GLMM(formula, rows.assign(**columns), family=family).fit(method)
    return fit, [m.code for m in fit.messages]


# --- separation ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", WITHOUT_PRIOR, ids=lambda m: m.label)
@pytest.mark.parametrize("y", [np.ones(150, int), (X > 0).astype(int)], ids=["constant", "by x"])
def test_where_all_rows_are_separated_nothing_has_a_standard_error(method, y):
    fit, found = fitted("y ~ x + (1 | g)", method, y=y)
    assert found.count("separation") == 1
    assert not {"bias-likely", "cluster-decides-a-coefficient"} & set(found)
    assert all(np.isnan(fit.se(kind)).all() for kind in fit.vcovs)
    assert np.isnan(fit.joint_cov).all()
    assert fit.variance is None or np.isnan(fit.variance.std_error).all()
    assert np.isnan(bg.wald_test(fit, "x")["p_value"])


@pytest.mark.parametrize("method", [bg.PQL, bg.MQL], ids=["PQL", "MQL"])
@pytest.mark.parametrize("seed", [3, 4])
def test_separation_with_an_estimated_dispersion_ends_in_a_sentence(method, seed):
    """Working weights vanish, until the equations are singular or nothing is left to fit."""
    x = np.random.default_rng(seed).normal(size=150)
    model = bg.GLMM("y ~ x + (1 | g)", ROWS.assign(x=x, y=(x > 0) * 1), family="bernoulli")
    try:
        fit = model.fit(method(dispersion="estimated"))
    except ValueError as refusal:
        assert "fit 'y' exactly" in str(refusal)
    else:
        assert not fit.converged and np.isnan(fit.se()).all()


def quasi():
    """Rows of five levels are separated by ``f``; ``z`` differs among these only."""
    f = (G < 5) * 1.0
    return {"f": f, "z": f * np.tile(np.arange(5.0), 30), "y": np.where(f == 1, 1, COIN)}


def test_what_the_other_rows_determine_is_told_from_what_they_do_not():
    model = bg.GLMM("y ~ x + f + z + (1 | g)", ROWS.assign(**quasi()), family="bernoulli")
    found = find_separation(model)
    assert found is not None and not found.complete and found.rows.sum() == 25
    assert dict(zip(found.terms, found.undetermined, strict=True)) == {
        "Intercept": False, "x": False, "f": True, "z": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "method", [bg.GEE("independence", cov="robust"), *WITHOUT_PRIOR[1:]], ids=lambda m: m.label
)
def test_the_other_coefficients_are_those_of_the_rows_that_are_not_separated(method):
    columns = quasi()
    fit, _ = fitted("y ~ x + f + (1 | g)", method, **columns)
    rest = ROWS.assign(**columns).query("f == 0")
    part = bg.GLMM("y ~ x + (1 | g)", rest, family="bernoulli").fit(method)
    assert np.isnan(fit.se()["f"]) and np.isnan(fit.joint_cov[2]).all()
    # ML stops where the likelihood is flat to 1e-6 or so, its quadrature at 5 nodes
    close = {"rtol": 2e-3, "atol": 2e-4}
    np.testing.assert_allclose(fit.beta[:2], part.beta, **close)
    np.testing.assert_allclose(fit.se().iloc[:2], part.se(), **close)
    draws = next(iter(fit.to_datatree()["posterior"].data_vars.values()))
    assert list(np.isnan(draws).all(("chain", "draw"))) == [False, False, True]
    if "ran_pars" in set(part.tidy().effect):
        np.testing.assert_allclose(fit.variance.estimate, part.variance.estimate, **close)


def test_moments_of_random_effects_have_no_errors_where_no_solution_was_found():
    fit, found = fitted("y ~ x + f + (1 | g)", bg.GEE("random-effects"), **quasi())
    assert not fit.converged and "separation" in found
    if "working-correlation-not-positive-definite" in found:
        assert np.isnan(fit.se()).all() and np.isnan(fit.joint_cov).all()
    else:
        assert np.isnan(fit.se()["f"])


def test_a_posterior_keeps_its_spread_under_separation():
    fit, found = fitted("y ~ x + (1 | g)", bg.Integrated(**SHORT), y=(X > 0) * 1)
    assert "separation" in found and np.isfinite(fit.se()).all()


# --- one binary response a level -------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [bg.ML(nodes=5), bg.ML(nodes=1), bg.PQL(), bg.MQL(), bg.Integrated(**SHORT)],
    ids=lambda m: m.label,
)
def test_one_binary_response_a_level_is_said_by_all_that_estimate_the_variance(method):
    fit, found = fitted("y ~ x + (1 | row)", method)
    assert found.count("variance-not-identified") == 1 and "bias-likely" not in found
    (note,) = [m for m in fit.messages if m.code == "variance-not-identified"]
    assert "factor row" in note.happened and "its posterior is little else" in note.why


def test_methods_without_that_variance_say_nothing_of_it():
    assert "variance-not-identified" not in fitted("y ~ x + (1 | row)", "glm")[1]


def test_only_independent_levels_of_binary_responses_are_meant():
    def groups(formula, family="bernoulli", **options):
        return unidentified_groups(bg.GLMM(formula, ROWS, family=family, **options))

    both = "y ~ x + (1 | g) + (1 | row)"
    assert groups(both) == ["row"]
    assert groups("y ~ x + (1 | g)") == [] == groups(both, "poisson")
    # relatives share what one record each shows
    half = pd.DataFrame(0.5 + 0.5 * np.eye(150), range(150), range(150))
    assert groups("y ~ x + (1 | row)", covariance={"row": half}) == []


@pytest.mark.parametrize(
    ("effects", "method", "code"),
    [
        ("(year | subject)", "reml", "distant-origin"),
        ("(year | subject)", "ml", "distant-origin"),
        ("(year || subject)", "reml", "distant-origin-decides"),
        ("(year | subject)", bg.Integrated(draws=100), "distant-origin-decides"),
        ("(1 | subject)", "reml", None),
        ("(0 + year | subject)", "reml", None),
        ("(I(year - 2004) | subject)", "reml", None),
        ("(year | subject)", bg.GEE("exchangeable"), None),
    ],
)
def test_intercepts_far_from_all_rows_are_said(effects, method, code):
    data = bg.load_dataset("sleepstudy").assign(year=lambda d: 2000 + d["days"])
    fit = bg.GLMM(f"reaction ~ year + {effects}", data, family="gaussian").fit(method)
    (found,) = [m for m in fit.messages if m.code.startswith("distant")] or [None]
    assert (found and found.code) == code
    if found:
        # days 0 to 9 of each subject: mean 4.5, standard deviation sqrt(99 / 12)
        assert f"{2004.5 / np.sqrt(8.25):.0f} standard deviations of year" in str(found)
        assert "I(year - 2004.5)" in str(found)
