"""Conditional logistic regression against R's survival and against enumeration."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime, minimize

import bayes_glmm as bg
from bayes_glmm.methods import NotServedError

REFERENCE = Path(__file__).parents[1] / "reference" / "conditional_logit.json"
ENTRIES = {m["id"]: m for m in json.loads(REFERENCE.read_text(encoding="utf-8"))["models"]}
FAMILY = {"ohio": "bernoulli", "toenail": "bernoulli", "cbpp": "binomial"}


def rows(n=30, seed=2, **more) -> pd.DataFrame:
    """Rows of six clusters of five, one of which has successes alone."""
    rng = np.random.default_rng(seed)
    g = np.repeat(list("abcdef"), n // 6)
    x, w = rng.normal(size=n).round(2), rng.normal(size=n).round(2)
    y = (rng.random(n) < 0.5).astype(float)
    y[g == "c"] = 1.0
    frame = pd.DataFrame({"y": y, "x": x, "w": w, "g": g, "arm": np.isin(g, list("abd")) * 1.0})
    return frame.assign(**more)


def model(formula="y ~ x + w + arm + (1 | g)", frame=None) -> bg.GLMM:
    return bg.GLMM(formula, rows() if frame is None else frame, family="bernoulli")


def enumerated(beta, frame, columns, offset=0.0) -> float:
    """Log conditional likelihood, the denominator a sum over all subsets of a cluster."""
    total, eta = 0.0, frame[columns].to_numpy() @ beta + offset
    for _, at in frame.reset_index(drop=True).groupby("g").groups.items():
        e, y = eta[at], frame["y"].to_numpy()[at]
        subsets = combinations(range(len(at)), int(y.sum()))
        total += e @ y - np.log(sum(np.exp(e[list(s)].sum()) for s in subsets))
    return total


@pytest.mark.parametrize("name", ENTRIES)
def test_against_survival(name):
    """Estimates in standard errors, and errors.

    clogit stops at a change of 1e-9 of a log-likelihood of about -300, which is 1e-3 of a
    standard error and the square of it after Newton's last step; differences of the score
    leave about 1e-7.
    """
    entry = ENTRIES[name]
    made = bg.GLMM(entry["formula"], bg.load_dataset(name), family=FAMILY[name])
    fit = made.fit("conditional_logit")
    kept = fit.fixef().dropna()
    expected = list(entry["fixed"].values())
    errors = np.array([e["se"] for e in expected])
    distance = (kept.to_numpy() - [e["est"] for e in expected]) / errors
    assert np.max(np.abs(distance)) < 1e-4
    assert list(fit.se().dropna()) == pytest.approx(errors, rel=1e-5)
    assert fit.loglik == pytest.approx(entry["loglik"], abs=1e-6)
    assert fit.converged and fit.estimand == "conditional"


@pytest.mark.parametrize("formula", ["y ~ x + w + (1 | g)", "y ~ x + w + offset(o) + (1 | g)"])
def test_against_enumeration(formula):
    frame = rows(o=np.linspace(-1, 2, 30))
    fit = model(formula, frame).fit(bg.ConditionalLogit())
    offset = frame["o"].to_numpy() if "offset" in formula else 0.0

    def minus(beta):
        return -enumerated(beta, frame, ["x", "w"], offset)

    best = minimize(minus, np.zeros(2), tol=1e-12)
    # a minimum found from values is flat to 1e-8 in them, 1e-4 of a standard error
    assert list(fit.fixef().dropna()) == pytest.approx(best.x, abs=1e-4)
    assert fit.loglik == pytest.approx(-best.fun, abs=1e-7)
    hessian = approx_fprime(fit.beta[1:], lambda b: approx_fprime(b, minus, 1e-5), 1e-4)
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    assert list(fit.se().dropna()) == pytest.approx(errors, rel=2e-3)  # differences of differences


def test_what_drops_out_is_said():
    fit = model().fit("conditional_logit")
    assert list(fit.fixef()[fit.fixef().isna()].index) == ["Intercept", "arm"]
    assert fit.se().isna().tolist() == [True, False, False, True]
    said = {m.code: m.happened for m in fit.messages}
    assert "conditional logit does not estimate Intercept, arm" in said["not-estimated"]
    assert "1 of 6 levels of g, with 5 of 30 trials" in said["clusters-without-variation"]
    assert fit.details["trials_used"] == 25
    without = rows()
    same = model(frame=without[without.g != "c"]).fit("conditional_logit")
    assert list(same.beta[1:3]) == pytest.approx(fit.beta[1:3], rel=1e-12)


def test_a_column_that_varies_in_dropped_clusters_alone_is_not_estimated():
    frame = rows()
    frame["z"] = np.where(frame.g == "c", frame.x, 0.5)
    fit = model("y ~ x + z + (1 | g)", frame).fit("conditional_logit")
    assert fit.fixef().isna().tolist() == [True, False, True]


def test_counts_are_their_trials():
    rng = np.random.default_rng(7)
    frame = rows(n=24).assign(n=rng.integers(1, 5, 24))
    frame["s"] = rng.binomial(frame.n, 0.4)
    each = frame.loc[np.repeat(np.arange(24), frame.n)].reset_index(drop=True)
    within = np.concatenate([np.arange(n) for n in frame.n])
    each["y"] = (within < each.s).astype(float)
    counts = bg.GLMM("cbind(s, n - s) ~ x + w + (1 | g)", frame, family="binomial")
    one = counts.fit("conditional_logit")
    other = model("y ~ x + w + (1 | g)", each).fit("conditional_logit")
    assert list(one.beta[1:]) == pytest.approx(other.beta[1:], rel=1e-7)
    assert one.loglik == pytest.approx(other.loglik, rel=1e-9)


def test_the_innermost_factor_is_conditioned_on():
    frame = rows(h=np.repeat(list("ppppppppppppppprrrrrrrrrrrrrrr"), 1))
    nested = model("y ~ x + w + (1 | h) + (1 | g)", frame).fit("conditional_logit")
    assert nested.details["cluster"] == "g"
    named = model("y ~ x + w + (1 | h)", frame).fit(bg.ConditionalLogit(cluster="g"))
    assert list(named.beta[1:]) == pytest.approx(nested.beta[1:], rel=1e-12)
    assert named.label == "conditional logit, cluster=g"
    slope = model("y ~ x + w + (x | g)").fit("conditional_logit")
    assert "random-terms-ignored" in [m.code for m in slope.messages]


def test_separation_within_clusters_is_not_converged():
    frame = rows()
    frame["y"] = (frame.x > frame.groupby("g").x.transform("median")).astype(float)
    fit = model("y ~ x + (1 | g)", frame).fit("conditional_logit")
    assert not fit.converged
    assert "not-converged" in [m.code for m in fit.messages]


def test_its_likelihood_is_compared_with_no_other():
    made = model()
    fit, ml = made.fit("conditional_logit"), made.fit("laplace")
    assert fit.loglik_kind == "conditional" and fit.aic is None
    with pytest.raises(ValueError, match="no likelihood that can be compared"):
        bg.anova(fit, ml)
    assert "log-likelihood" in repr(fit) and "AIC" not in repr(fit)
    both = bg.compare([ml, fit])
    assert list(both.by_estimand("conditional")) == ["Laplace", "conditional logit"]
    assert "nan" not in repr(both)


def test_what_needs_every_coefficient_is_refused():
    fit = model().fit("conditional_logit")
    for verb in (fit.predict, fit.simulate, fit.population_averaged):
        with pytest.raises(NotServedError, match="does not estimate Intercept, arm"):
            verb()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bg.GLMM("y ~ x + (1 | g)", rows(), family="bernoulli", link="probit"), "'probit'"),
        (lambda: bg.GLMM("y ~ x + (1 | g)", rows(), family="poisson"), "family='poisson'"),
        (lambda: model("y ~ x"), "without a grouping factor"),
        (lambda: model("y ~ arm + (1 | g)"), "no column that varies within"),
        (lambda: model("y ~ x + (1 | g) + (1 | k)", rows(k=np.tile([1, 2], 15))), "crossed"),
        (lambda: model("y ~ x + w + z + (1 | g)", sums()), "some are sums of others"),
        (lambda: model("y ~ x + (1 | g)", many()), "serves up to 500"),
    ],
)
def test_what_it_does_not_serve_is_refused(make, words):
    with pytest.raises(NotServedError, match=words):
        make().fit("conditional_logit")


def sums() -> pd.DataFrame:
    """Within clusters ``z`` is ``x + w``; between them it is not."""
    frame = rows()
    return frame.assign(z=frame.x + frame.w + frame.arm)


def many() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    y, x = rng.integers(0, 2, 1200).astype(float), rng.normal(size=1200)
    return pd.DataFrame({"y": y, "x": x, "g": np.repeat(["a", "b"], 600)})


def test_it_is_saved_and_read_back(tmp_path):
    fit = model().fit("conditional_logit")
    path = fit.save(tmp_path / "fit.zip")
    back = bg.load_fit(tmp_path / "fit.zip" if path is None else path)
    np.testing.assert_array_equal(back.beta, fit.beta)
    assert back.label == fit.label and back.messages == fit.messages
