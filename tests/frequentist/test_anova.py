"""Analysis of deviance, tests of several variances, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2
from scipy.stats import f as f_distribution

import bayes_glmm as bg
from bayes_glmm.frequentist.lmm_refits import Fitted
from bayes_glmm.frequentist.nesting import pair_of

FOLDER = Path(__file__).parents[1] / "reference"
CASES = json.loads((FOLDER / "anova.json").read_text(encoding="utf-8"))["tests"]
INCIDENCE = "cbind(incidence, size - incidence) ~ "
TICKS = "(1 | index) + (1 | brood) + (1 | location)"
# id of the reference -> data set, family, method, formulas from small to large
MODELS = {
    "sleepstudy": (
        "sleepstudy",
        "gaussian",
        "ml",
        [f"reaction ~ days + {r}" for r in ("(1|subject)", "(days||subject)", "(days|subject)")],
    ),
    "cbpp": (
        "cbpp",
        "binomial",
        "laplace",
        [INCIDENCE + f"{x} + (1 | herd)" for x in ("1", "period")],
    ),
    "grouseticks": (
        "grouseticks",
        "poisson",
        "laplace",
        [f"ticks ~ {x} + {TICKS}" for x in ("year", "year + height_scaled")],
    ),
    "cbpp_glm": ("cbpp", "binomial", "glm", [INCIDENCE + x for x in ("1", "period")]),
}


def fitted(dataset, family, method, formulas):
    data = bg.load_dataset(dataset)
    return [bg.GLMM(f, data, family=family).fit(method) for f in formulas]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_against_lme4(case):
    fits = fitted(*MODELS[case["id"]])
    table = bg.anova(*reversed(fits))
    assert list(table.columns[:7]) == [
        "label",
        "npar",
        "loglik",
        "aic",
        "statistic",
        "reference",
        "p_value",
    ]
    assert list(table.npar) == case["npar"]
    # lme4's Laplace log-likelihood may be off by 3.4e-5 (tests/reference/README.md)
    np.testing.assert_allclose(table.loglik, case["loglik"], atol=1e-4)
    np.testing.assert_allclose(table.statistic[1:], case["chisq"][1:], atol=3e-4)
    np.testing.assert_allclose(table.df[1:], case["df"][1:])
    # a relative error of the p-value is half that of the statistic times its size, at most
    np.testing.assert_allclose(table.p_naive[1:], case["p"][1:], rtol=1e-3)
    np.testing.assert_allclose(table.deviance, -2 * table.loglik)
    if case["what"] == "fixed effects":
        np.testing.assert_array_equal(table.p_value[1:], table.p_naive[1:])
        assert table.reference[1] == f"chi2({case['df'][1]})"


def test_boundaries_and_correlations_of_sleepstudy():
    """From nothing to correlated slopes, each against its own reference distribution."""
    fits = fitted(*MODELS["sleepstudy"])
    glm = fits[0].model.fit("glm")
    table = bg.anova(*fits, glm)
    assert list(table.reference) == ["", *["0.5 chi2(0) + 0.5 chi2(1)"] * 2, "chi2(1)"]
    expected = [chi2.sf(table.statistic[i], 1) / 2 for i in (1, 2)]
    np.testing.assert_allclose(table.p_value[1:3], expected)
    assert table.label[0] == "GLM: reaction ~ days + (1|subject)"
    assert table.label.is_unique
    # a slope and its covariance in one step
    assert bg.anova(fits[0], fits[2]).reference[1] == "0.5 chi2(1) + 0.5 chi2(2)"


def test_fixed_effects_and_a_variance_in_one_step():
    small, _ = fitted("cbpp", "binomial", "glm", [INCIDENCE + "1", INCIDENCE + "period"])
    (large,) = fitted("cbpp", "binomial", "laplace", [INCIDENCE + "period + (1 | herd)"])
    table = bg.anova(small, large)
    assert table.reference[1] == "0.5 chi2(3) + 0.5 chi2(4)"
    assert list(table.label) == ["GLM", "Laplace"]


def crossed(family="gaussian", seed=1):
    rng = np.random.default_rng(seed)
    g, h = np.repeat(np.arange(12), 8), np.tile(np.arange(8), 12)
    x = rng.normal(size=96)
    eta = 0.5 * x + 0.5 * rng.normal(size=12)[g] + 0.4 * rng.normal(size=8)[h]
    y = eta + rng.normal(size=96) if family == "gaussian" else rng.poisson(np.exp(eta))
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


def test_two_variances_of_balanced_crossed_factors():
    """Balanced crossed factors: with the grand mean fitted, the scores are exactly uncorrelated.

    A variance's score is a quadratic form in the group means, and those of rows and columns
    of a balanced table are independent: weights 1/4, 1/2, 1/4 but for the error variance's
    part, of order 1 / groups.
    """
    data = crossed()
    model = bg.GLMM("y ~ 1 + (1 | g) + (1 | h)", data, family="gaussian")
    test = bg.boundary_test(model.fit("ml"), ["g", "h"])
    # the correlation from 1,000 scores errs by 0.03, a weight by 0.03 / 2 pi; order 1/n as above
    np.testing.assert_allclose(test.weights, (0.25, 0.5, 0.25), atol=4 * 0.005 + 0.02)
    assert test.df == (0, 1, 2) and test.term == "Intercept, Intercept" and test.group == "g, h"
    assert "are the standard deviations of all effects of g and h zero?" in repr(test)
    table = bg.anova(model.fit("glm"), model.fit("ml"))
    assert table.statistic[1] == pytest.approx(test.statistic)
    assert table.p_value[1] == pytest.approx(test.p_value, rel=0.1)  # other simulated scores


def test_all_effects_of_a_factor():
    """An intercept and a slope at once: a covariance matrix of zero."""
    data = crossed("poisson")
    fit = bg.GLMM("y ~ x + (x | g)", data, family="poisson").fit("laplace")
    test = bg.boundary_test(fit, ["g"])
    assert test.df == (0, 1, 2, 3) and sum(test.weights) == pytest.approx(1)
    assert test.weights[0] + test.weights[2] == pytest.approx(0.5)
    naive, halves = chi2.sf(test.statistic, 3), chi2.sf(test.statistic, [1, 2]).mean()
    assert halves / 4 < test.p_value < naive
    assert "Monte Carlo error" in test.note


def test_bootstrap_against_the_exact_null_distribution(reference):
    """RLRsim's simulated null of the same test: P(LR = 0) and the 95 % point."""
    exact = json.loads((FOLDER / "sleepstudy.json").read_text(encoding="utf-8"))
    null = exact["boundary_tests"]["RLRsim_null_ri"]
    (fit,) = fitted("sleepstudy", "gaussian", "ml", ["reaction ~ days + (1 | subject)"])
    small = fit.model.fit("glm")
    ratios, failed = pair_of(small, fit).bootstrap(300, np.random.SeedSequence(1))
    assert not failed
    # four Monte Carlo errors of shares of 300
    share = null["lrt_prob_zero"]
    assert np.mean(ratios < 1e-6) == pytest.approx(
        share, abs=4 * np.sqrt(share * (1 - share) / 300)
    )
    beyond = np.mean(ratios > null["lrt_quantiles"]["95%"])
    assert beyond == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 300))


def test_bootstrap_beside_the_mixture():
    (fit,) = fitted("cbpp", "binomial", bg.ML(nodes=5), [INCIDENCE + "period + (1 | herd)"])
    glm = fit.model.fit("glm")
    table = bg.anova(glm, fit, bootstrap=19, seed=4)
    assert table.p_boot[1] == 1 / 20 and table.failed[1] == 0
    assert 0.2 < table.zero_share[1] < 1
    again = bg.anova(glm, fit, bootstrap=19, seed=4, workers=1)
    pd.testing.assert_frame_equal(table, again)
    test = bg.boundary_test(fit, "herd", bootstrap=19)
    assert test.p_boot == 1 / 20 and "parametric bootstrap: p = 0.05" in repr(test)
    assert "of 19 simulated likelihood ratios are zero" in test.note


def test_failures_of_the_bootstrap_are_counted(monkeypatch):
    from bayes_glmm.frequentist.likelihood import Likelihood

    (fit,) = fitted("cbpp", "binomial", bg.ML(nodes=5), [INCIDENCE + "period + (1 | herd)"])
    glm, real, calls = fit.model.fit("glm"), Likelihood.maximise, []

    def failing(self, **options):
        calls.append(1)
        if len(calls) in (1, 2):
            raise np.linalg.LinAlgError("made to fail")
        return real(self, **options)

    monkeypatch.setattr(Likelihood, "maximise", failing)
    table = bg.anova(glm, fit, bootstrap=5, workers=1)
    assert table.failed[1] == 1 and table.p_boot[1] == 1 / 5  # (1 + 0) / (1 + 4)


def test_a_null_on_the_boundary_is_said():
    g, h = np.repeat(np.arange(15), 6), np.random.default_rng(1).integers(0, 10, 90)
    data = pd.DataFrame({"y": np.tile([1, 0, 0, 1, 0, 1], 15), "g": g, "h": h})
    models = [bg.GLMM(f"y ~ 1 + {r}", data, family="bernoulli") for r in ("(1|g)", "(1|g) + (1|h)")]
    table = bg.anova(*(m.fit("laplace") for m in models))
    assert "only approximate: give bootstrap=500" in table.note[1]


def test_containment_is_of_spans_not_of_names():
    data = crossed().assign(z=lambda d: 2 * d.x - 3, label=lambda d: "level " + d.g.astype(str))
    data["f"] = np.where(data.h % 2, "a", "b")

    def fit(formula):
        return bg.GLMM(formula, data, family="gaussian").fit("ml")

    one, other = fit("y ~ x + (1 | g)"), fit("y ~ z + f + (1 | label)")
    assert bg.anova(one, other).reference[1] == "chi2(1)"
    # (0 + f | g) and (1 + f | g) are one model; (1 | g) lies in both, of rank one in two
    assert bg.anova(one, fit("y ~ x + (0 + f | g)")).reference[1] == "0.5 chi2(1) + 0.5 chi2(2)"
    # not told apart by the data: the covariance of (0 + f | g) has room for the intercept
    table = bg.anova(fit("y ~ x + (1 | h)"), fit("y ~ x + (0 + f | g) + (1 | g) + (1 | h)"))
    assert table.reference[1] == "bootstrap only" and np.isnan(table.p_value[1])
    assert "give bootstrap=500" in table.note[1]


def refused(match, *fits):
    with pytest.raises(ValueError, match=match):
        bg.anova(*fits)


def test_refusals():
    data = crossed()

    def fit(formula, rows=data, method="laplace", family="gaussian"):
        return bg.GLMM(formula, rows, family=family).fit(method)

    base = fit("y ~ 1 + (1 | g)")
    refused("got 1 fit: give at least two", base)
    refused("models of 96 and 95 rows", base, fit("y ~ x + (1 | g)", data[1:]))
    refused("different responses", base, fit("y ~ x + (1 | g)", data.assign(y=data.y + 1)))
    refused("different offsets", base, fit("y ~ x + offset(x) + (1 | g)"))
    refused("has the fixed effect 'x'", fit("y ~ x + (1 | g)"), fit("y ~ 1 + (1 | g) + (1 | h)"))
    refused(r"random effects \(Intercept \| g\)", base, fit("y ~ x + (1 | h)"))
    refused("different .*parameters each|have 3 parameters each", base, fit("y ~ 1 + (1 | g)"))
    refused("no likelihood that can be compared", base, fit("y ~ x + (1 | g)", method="pql"))
    refused("Wald statistics", base, fit("y ~ x + (1 | g)", method="gee"))
    refused("got a str", base, "ml")


def test_refusals_of_other_likelihoods():
    data = crossed("poisson")

    def fit(formula, method, **options):
        return bg.GLMM(formula, data, family="poisson", **options).fit(method)

    base = fit("y ~ 1 + (1 | g)", bg.ML(nodes=5))
    refused(
        r"refit both with the same nodes, ML\(nodes=1\)", base, fit("y ~ x + (1 | g)", "laplace")
    )
    refused(r"ML\(nodes=5\)", base, fit("y ~ x + (1 | g)", bg.ML(nodes=7)))
    gaussian = bg.GLMM("y ~ 1 + (1 | g)", data, family="gaussian").fit("ml")
    refused("need one family and one link", base, gaussian)
    # without random effects there is nothing to approximate
    assert len(bg.anova(base, fit("y ~ 1 + (1 | g)", "glm"))) == 2
    # "auto" settles each to 1e-5
    auto = [fit(f, "ml") for f in ("y ~ 1 + (1 | g)", "y ~ x + (1 | g)")]
    assert len(bg.anova(*auto)) == 2


def test_several_factors_are_named_as_such():
    fit = bg.GLMM("y ~ x + (x | g)", crossed(), family="gaussian").fit("ml")
    with pytest.raises(ValueError, match=r"or group=\['g'\] for all of them"):
        bg.boundary_test(fit, "g")
    with pytest.raises(ValueError, match="leave out term="):
        bg.boundary_test(fit, ["g"], "x")
    with pytest.raises(ValueError, match="'k' is not a grouping factor"):
        bg.boundary_test(fit, ["g", "k"])
    with pytest.raises(ValueError, match="got no factor"):
        bg.boundary_test(fit, [])


@pytest.mark.slow
def test_bootstrap_p_values_are_uniform_under_the_null():
    """Sixty data sets without a slope effect on x: mean and share below 0.2 of p_boot."""
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(8), 4)
    p = []
    for _ in range(60):
        x = rng.normal(size=32)
        y = rng.poisson(np.exp(0.5 + 0.7 * rng.normal(size=8)[g]))
        data = pd.DataFrame({"y": y, "x": x, "g": g})
        models = [bg.GLMM(f"y ~ {t} + (1 | g)", data, family="poisson") for t in ("1", "x")]
        table = bg.anova(*(m.fit(bg.ML(nodes=3)) for m in models), bootstrap=39)
        p.append(table.p_boot[1])
    # uniform on 1/40, …, 1: mean 0.5125, SD 0.289; four Monte Carlo errors of 60
    assert np.mean(p) == pytest.approx(0.5125, abs=4 * 0.289 / np.sqrt(60))
    assert np.mean(np.array(p) <= 0.2) == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 60))


def test_bootstrap_of_correlated_residuals_has_the_exact_level():
    """In balanced data with compound symmetry the ratio is a monotone function of an F ratio.

    The likelihood factors into strata, and only that within clusters tells of the columns:
    ``LR = G (m - 1) log(RSS_0 / RSS_1)``.
    """
    rng = np.random.default_rng(12)
    G, m, B = 12, 6, 399
    g, t = np.repeat(np.arange(G), m), np.tile(np.arange(m), G)
    y = rng.normal(size=G)[g] + rng.normal(size=G * m) + 0.1 * t
    rows = rng.permutation(G * m)  # no model is to rely on the rows' order
    data = pd.DataFrame({"y": y, "t": t, "g": g}).iloc[rows]
    residual = bg.residual.CompoundSymmetry(by="g")
    small, large = (
        bg.GLMM(f, data, family="gaussian", residual=residual).fit("ml")
        for f in ("y ~ 1", "y ~ t + I(t**2)")
    )
    table = bg.anova(small, large, bootstrap=B)
    within = y - np.bincount(g, y)[g] / m
    X = np.c_[t - t.mean(), t**2 - np.mean(t**2)]
    rss = [within @ within, np.sum((within - X @ np.linalg.lstsq(X, within)[0]) ** 2)]
    df = G * (m - 1) - 2
    assert table.statistic[1] == pytest.approx(G * (m - 1) * np.log(rss[0] / rss[1]), rel=1e-6)
    p = f_distribution.sf((rss[0] - rss[1]) / 2 / (rss[1] / df), 2, df)
    assert 0.02 < p < 0.5 and table.failed[1] == 0
    # four standard errors of a share of B replicates
    assert table.p_boot[1] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / B))


def test_bootstrap_of_restricted_likelihoods_is_that_of_the_boundary_test():
    data = bg.load_dataset("sleepstudy").assign(x=lambda d: np.sin(3 * d["days"]))
    small, large = (
        bg.GLMM(f, data, family="gaussian").fit("reml")
        for f in ("reaction ~ x + (1 | subject)", "reaction ~ x + (x || subject)")
    )
    table = bg.anova(small, large, bootstrap=199)
    test = bg.boundary_test(large, "subject", "x", bootstrap=199)
    p = table.p_value[1]
    assert table.statistic[1] == pytest.approx(test.statistic, abs=1e-6)
    # both are shares of 199 replicates, around the mixture with its small-sample error
    assert table.p_boot[1] == pytest.approx(test.p_boot, abs=4 * np.sqrt(2 * 0.25 / 199))
    assert table.p_boot[1] == pytest.approx(p, abs=0.15)
    assert table.zero_share[1] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("method", ["ml", "glm"])
def test_bootstrap_refits_related_levels_as_related(monkeypatch, method):
    """The ratio of the data themselves, refitted as simulated ones are, is the statistic."""
    data = bg.load_dataset("sires")
    A = bg.relationship_matrix(bg.load_dataset("sires_pedigree"), dam=None)
    small = bg.GLMM("weight ~ sex + (1 | herd)", data, family="gaussian").fit(method)
    formula = "weight ~ sex + (1 | herd) + (1 | sire)"
    large = bg.GLMM(formula, data, family="gaussian", covariance={"sire": A}).fit("ml")
    y = small.model.design.y
    monkeypatch.setattr(Fitted, "simulate", lambda self, rng: y)
    table = bg.anova(small, large, bootstrap=3, workers=1)
    statistic = 2 * (large.loglik - small.loglik)
    assert table.statistic[1] == pytest.approx(statistic, abs=1e-6) and statistic > 5
    # every replicate has the statistic itself, up to the searches' error
    assert table.p_boot[1] == 1.0 and table.zero_share[1] == 0.0 and table.failed[1] == 0
