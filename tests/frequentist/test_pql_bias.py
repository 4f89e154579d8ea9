"""The warning of PQL's bias against the study behind it, and the correction against ML."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.frequentist import bias_correction, pql_bias
from bayes_glmm.frequentist.pql import pose
from bayes_glmm.frequentist.working_model import conditional_effects
from studies import pql_bias as study

RESULTS = Path(study.__file__).parent / "results"


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(RESULTS / "pql_bias.csv")


def said(fit):
    return [m.happened for m in fit.messages if m.code == "bias-likely"]


def test_the_formulas_are_those_of_the_committed_study(table):
    binary, counts = study.fit_formulas(table)
    # the constants have three decimals, the numbers of the study six digits
    np.testing.assert_allclose(binary, pql_bias.BINARY, atol=6e-4)
    np.testing.assert_allclose(counts, pql_bias.COUNTS, atol=6e-4)


def test_the_stated_range_holds_in_the_study(table):
    assert (table.failed == 0).all() and len(table) >= 100
    predicted = np.array([study.prediction(row) for row in table.itertuples()])
    clear = (table.sd_bias < -pql_bias.LEAST) & (table.sd_bias_error < 0.02)
    ratio = (table.sd_bias / predicted)[clear]
    assert clear.sum() > 50 and ratio.between(1 - pql_bias.SPREAD, 1 + pql_bias.SPREAD).all()
    # where nothing is said there is little to say: the threshold, and the formula's error
    silent = predicted > -pql_bias.LEAST
    assert (table.sd_bias + 2 * table.sd_bias_error)[silent].min() > -1.3 * pql_bias.LEAST
    text = (RESULTS / "pql_bias.md").read_text(encoding="utf-8")
    assert "100 % of the designs within" in text


def test_a_small_study_runs_and_is_reported(monkeypatch, table):
    monkeypatch.setattr(study, "LEVELS", 60)
    row = study.study(study.Cell("binomial", 2, 5, 0, 1.0), 4, seed=1)
    assert row["datasets"] == 4 and row["failed"] == 0
    assert -0.5 < row["sd_bias"] < 0.4 and 1.0 < row["information"] < 2.6
    assert "| bernoulli | 2 | 1 | 0 | 4 |" in study.report(table, "the command")


def test_bias_is_said_with_numbers_where_it_is_known():
    toenail = bg.load_dataset("toenail")
    formula = "y01 ~ treatment * time + (1 | patient_id)"
    (note,) = said(bg.GLMM(formula, toenail, family="bernoulli").fit("pql"))
    assert "SD of Intercept by patient_id, 2.17 from 7 binary trials" in note
    low, high = (int(word) for word in note.split("is ")[2].split(" %")[0].split(" to "))
    # ML's SD is 4.0: 46 per cent are lost
    assert low <= 46 <= high and high < 2 * low
    epil = bg.GLMM("y ~ trt + (1 | subject)", bg.load_dataset("epil"), family="poisson")
    assert not said(epil.fit("pql")) and not said(epil.fit("mql"))


def test_no_size_is_claimed_where_none_was_studied():
    """Simulated from ML's fit, an estimated dispersion leaves 1 %, MQL of toenail loses 59 %."""
    bacteria = bg.load_dataset("bacteria")
    model = bg.GLMM("y01 ~ trt + I(week > 2) + (1 | id)", bacteria, family="bernoulli")
    assert said(model.fit("pql"))
    for likelihood in ("ml", "reml"):
        fit = model.fit(bg.PQL(likelihood=likelihood, dispersion="estimated"))
        (note,) = fit.messages
        assert note.code == "bias-possible" and note.severity == "note"
        assert "from 5 binary trials in the median level." in note.happened
        assert "%" not in str(note) and "too low" not in str(note)
    (note,) = model.fit("mql").messages
    assert note.code == "sd-of-working-model" and "bias_correct" not in str(note)


@pytest.mark.parametrize(("link", "notes"), [("identity", []), ("log", ["sd-of-working-model"])])
def test_with_identity_link_the_working_model_is_the_model(link, notes):
    dietox = bg.load_dataset("dietox")
    model = bg.GLMM("weight ~ time + (1 | pig)", dietox, family="gaussian", link=link)
    assert [m.code for m in model.fit("mql").messages] == notes


def test_sds_of_mql_are_not_those_of_the_effects():
    """With a log link sqrt(exp(sigma^2) - 1), as the docstring says: 1.31 of 1."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(2000), 5)
    frame = pd.DataFrame({"y": rng.poisson(np.exp(1 + rng.normal(size=2000)[g])), "g": g})
    (sd,) = bg.GLMM("y ~ 1 + (1 | g)", frame, family="poisson").fit("mql").variance.estimate
    # the variance of exp(b) in 2,000 levels: a relative error of about sqrt(kurtosis / 2000)
    # with a kurtosis of 111, half of that for its root
    assert sd == pytest.approx(np.sqrt(np.expm1(1.0)), rel=0.12)


def test_the_warning_does_not_depend_on_the_scale_of_a_column_or_on_grouping():
    rng = np.random.default_rng(2)
    g, x = np.repeat(np.arange(60), 4), rng.normal(size=240)
    eta = 1.5 * rng.normal(size=60)[g] + (0.5 + rng.normal(size=60)[g]) * x
    y = (rng.random(240) < 1 / (1 + np.exp(-eta))).astype(float)
    frame = pd.DataFrame({"y": y, "x": x, "long": 10 * x, "g": g})
    one, other = (
        said(bg.GLMM(f"y ~ {c} + ({c} || g)", frame, family="bernoulli").fit("pql"))
        for c in ("x", "long")
    )
    ranges = [[part.split("is ")[1] for part in note[0].split("; ")] for note in (one, other)]
    assert len(ranges[0]) == 2 and ranges[0] == ranges[1]
    counts = frame.groupby("g", as_index=False).agg(y=("y", "sum"), m=("y", "size"))
    single = said(bg.GLMM("y ~ 1 + (1 | g)", frame, family="bernoulli").fit("pql"))
    grouped = said(bg.GLMM("p(y, m) ~ 1 + (1 | g)", counts, family="binomial").fit("pql"))
    assert single == grouped and len(single) == 1


def test_links_are_put_on_one_scale():
    """A probit's SD is nearly the logit's over 1.6; the bias is the same share."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(200), 5)
    y = (rng.random(1000) < 1 / (1 + np.exp(-2 * rng.normal(size=200)[g]))).astype(float)
    frame = pd.DataFrame({"y": y, "g": g})
    ranges = []
    for link in ("logit", "probit"):
        note = said(bg.GLMM("y ~ 1 + (1 | g)", frame, family="bernoulli", link=link).fit("pql"))[0]
        words = note.split("is ")[2].split(" %")[0].split(" to ")
        ranges.append([int(word) for word in words])
    np.testing.assert_allclose(*ranges, atol=3)


# --- the correction ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def binary():
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(120), 4), rng.normal(size=480)
    eta = 0.5 + x + 1.8 * rng.normal(size=120)[g]
    y = (rng.random(480) < 1 / (1 + np.exp(-eta))).astype(int)
    return bg.GLMM("y ~ x + (1 | g)", pd.DataFrame({"y": y, "x": x, "g": g}), family="bernoulli")


@pytest.fixture(scope="module")
def corrected(binary):
    return binary.fit(bg.PQL(bias_correct="bootstrap", simulations=60))


def test_the_corrected_sd_is_that_of_ml(binary, corrected):
    ml, pql = binary.fit(bg.ML(nodes=25)), binary.fit("pql")
    (sd,), (error,) = corrected.variance.estimate, corrected.variance.std_error
    monte_carlo = corrected.details["correction"]["monte_carlo_error"]
    assert corrected.converged and said(pql) and not said(corrected)
    # PQL's SD is far from ML's, in ML's standard errors of it
    far = (ml.variance.estimate[0] - pql.variance.estimate[0]) / ml.variance.std_error[0]
    assert far > 1.5
    # two consistent estimators of one parameter: half a standard error, and Monte Carlo error
    allowed = 0.5 * ml.variance.std_error[0] + 3 * monte_carlo.iloc[-1]
    assert abs(sd - ml.variance.estimate[0]) < allowed < far * ml.variance.std_error[0]
    assert np.all(
        np.abs(corrected.beta - ml.beta) < 0.5 * ml.se() + 3 * monte_carlo[list(ml.terms)]
    )
    # a covariance of 60 estimates through a derivative from 60 scores: a quarter
    assert error == pytest.approx(ml.variance.std_error[0], rel=0.35)
    np.testing.assert_allclose(corrected.se(), ml.se(), rtol=0.35)


def test_what_the_correction_says_of_itself(corrected):
    table = corrected.details["correction"]
    assert list(table.index) == ["Intercept", "x", "sd_g[Intercept]"]
    assert corrected.label == "PQL, bootstrap-corrected"
    assert list(corrected.vcovs) == ["bootstrap"] and corrected.details["simulations"] == 60
    assert table["uncorrected"].iloc[-1] < corrected.variance.estimate[0]
    # of 60 simulations: a root 60th of the standard error
    expected = np.r_[corrected.se(), corrected.variance.std_error] / np.sqrt(60)
    np.testing.assert_allclose(table["monte_carlo_error"], expected, rtol=1e-6)
    assert np.isfinite(corrected.joint_cov).all()


def test_the_seed_decides(binary, corrected):
    few = [bg.PQL(bias_correct="bootstrap", simulations=20, seed=seed) for seed in (2, 2)]
    other, again = map(binary.fit, few)
    np.testing.assert_array_equal(again.beta, other.beta)
    both = [f.details["correction"]["monte_carlo_error"].iloc[-1] for f in (corrected, other)]
    difference = other.variance.estimate[0] - corrected.variance.estimate[0]
    # each stops inside a 90 % ellipsoid and takes one more step
    assert 0 < abs(difference) < 4 * np.hypot(*both)


def test_group_effects_are_the_modes_at_the_corrected_parameters(binary, corrected):
    d, sd = binary.design, corrected.variance.estimate[0]
    b = corrected.effects["g"].estimate[:, 0]
    index = d.groups[0].index
    mu = 1 / (1 + np.exp(-(d.X @ corrected.beta + b[index])))
    np.testing.assert_allclose(np.bincount(index, d.y - mu), b / sd**2, atol=1e-7)
    curvature = np.bincount(index, mu * (1 - mu)) + 1 / sd**2
    # weights of the last working model, whose predictor moved by 1e-9 after it
    np.testing.assert_allclose(corrected.effects["g"].sd[:, 0], curvature**-0.5, rtol=1e-6)


def test_modes_of_crossed_effects_given_the_parameters():
    rng = np.random.default_rng(5)
    g, h = np.repeat(np.arange(15), 6), np.tile(np.arange(6), 15)
    frame = pd.DataFrame({"y": rng.poisson(2.0, 90), "g": g, "h": h})
    model = bg.GLMM("y ~ 1 + (1 | g) + (1 | h)", frame, family="poisson")
    problem = pose(model, bg.PQL())
    beta = problem.centred.inner(np.array([0.6]))
    solution = conditional_effects(problem, beta, np.array([0.5, 0.4]))
    first, second = (e[:, 0] for e in solution.effects)
    rest = model.design.y - np.exp(0.6 + first[g] + second[h])
    np.testing.assert_allclose(np.bincount(g, rest), first / 0.25, atol=1e-7)
    np.testing.assert_allclose(np.bincount(h, rest), second / 0.16, atol=1e-7)


@pytest.mark.slow
def test_the_derivative_from_scores_is_that_of_the_mean(binary):
    """By differences of h over a step, with the same random numbers on both sides."""
    problem, psi = pose(binary, bg.PQL()), np.array([0.4, 0.8, 1.2])

    def drawn(point):
        return bias_correction.simulate_and_refit(problem, point, np.random.SeedSequence(5), 150)

    there = drawn(psi)
    H, q = bias_correction.derivative(there), 3
    steps = 0.3 * np.sqrt(np.diag(there.covariance))
    for k in range(q):
        ends = [drawn(psi + sign * steps[k] * np.eye(q)[k]).mean for sign in (1, -1)]
        # entries of H have an error of about sd(estimate) sd(score) / sqrt(150)
        scale = np.sqrt(np.diag(there.covariance)) * there.scores[:, k].std() / np.sqrt(150)
        numeric = (ends[0] - ends[1]) / (2 * steps[k])
        assert np.all(np.abs(H[:, k] - numeric) < 4 * scale)


def test_an_sd_of_zero_stays():
    frame = pd.DataFrame({"y": np.tile([3, 4, 5, 6], 12), "g": np.repeat(np.arange(12), 4)})
    fit = bg.GLMM("y ~ 1 + (1 | g)", frame, family="poisson").fit(
        bg.PQL(bias_correct="bootstrap", simulations=20)
    )
    assert fit.variance.estimate[0] == 0 and np.isnan(fit.variance.std_error[0])
    assert np.isfinite(fit.se()).all()
    assert "zero-variance" in [m.code for m in fit.messages]


def test_sds_out_of_reach_are_not_convergence(monkeypatch, binary):
    monkeypatch.setattr(bias_correction, "FAR", 1.05)
    fit = binary.fit(bg.PQL(bias_correct="bootstrap", simulations=20))
    assert not fit.converged
    (note,) = [m for m in fit.messages if m.code == "not-converged"]
    assert "no standard deviations within reach" in note.happened and said(fit)


def test_a_family_with_a_dispersion_is_refused():
    frame = pd.DataFrame({"y": np.arange(1.0, 13), "g": np.repeat(np.arange(4), 3)})
    with pytest.raises(bg.NotServedError, match=r"family='gamma' and serves those.*use PQL\(\)"):
        bg.GLMM("y ~ 1 + (1 | g)", frame, family="gamma", link="log").fit(
            bg.PQL(bias_correct="bootstrap")
        )
