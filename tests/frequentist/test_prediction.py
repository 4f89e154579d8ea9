"""Predicted group effects: against TMB, brute-force integrals, Henderson's equations."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from scipy.special import expit

import bayes_glmm as bg
from bayes_glmm.frequentist.likelihood import Likelihood
from bayes_glmm.frequentist.prediction import derivatives, draw_effects, predict, root_of
from bayes_glmm.frequentist.profiles import likelihood_of
from bayes_glmm.methods import NotServedError

REFERENCE = Path(__file__).parents[1] / "reference" / "prediction.json"
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
MODELS = {
    "cbpp_tmb": ("cbpp", CBPP, "binomial"),
    "epil_bc4_tmb": (
        "epil",
        "y ~ log_base4 * trt + log_age + visit + (1 + visit | subject)",
        "poisson",
    ),
    "grouseticks_tmb": (
        "grouseticks",
        "ticks ~ year + height_scaled + (1 | brood) + (1 | index) + (1 | location)",
        "poisson",
    ),
}


def binary(levels=6, rows=4, sd=1.5, seed=11):
    """A few levels of binary rows with an intercept and one covariate."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), rows)
    x = rng.normal(size=g.size)
    eta = 0.3 + 0.5 * x + rng.normal(0, sd, levels)[g]
    return pd.DataFrame({"y": rng.binomial(1, expit(eta)), "x": x, "g": g.astype(str)})


@pytest.fixture(scope="module")
def cbpp():
    return bg.GLMM(CBPP, bg.load_dataset("cbpp"), family="binomial").fit(bg.ML(nodes=25))


@pytest.mark.parametrize("entry", MODELS)
def test_the_corrected_error_of_modes_is_that_of_tmb(entry):
    """TMB's sdreport gives H^-1 + c'Vc by automatic differentiation.

    Maxima agree to 1e-4 standard errors of the parameters, so modes to about 1e-4 SDs; the
    errors are differences of steps of .01 standard errors, good to 1e-4, and observed
    informations agree to 1e-3 (tests/reference/README.md).
    """
    name, formula, family = MODELS[entry]
    expected = next(
        m for m in json.loads(REFERENCE.read_text(encoding="utf-8"))["models"] if m["id"] == entry
    )
    fit = bg.GLMM(formula, bg.load_dataset(name), family=family).fit("laplace")
    table = fit.ranef("mode", "corrected").set_index(["group", "level", "term"])
    for group, part in expected["groups"].items():
        terms = [part["term"]] if isinstance(part["term"], str) else part["term"]
        for i, level in enumerate(part["level"]):
            for k, term in enumerate(terms):
                row = table.loc[(group, level, term.replace("(Intercept)", "Intercept"))]
                sd = part["sd"][i][k]
                assert abs(row.estimate - part["mode"][i][k]) < 5e-4 * sd
                assert row.sd == pytest.approx(sd, rel=1e-3)


def test_means_and_variances_are_the_integrals():
    """E[b | y] and Var(b | y) by scipy.integrate at the estimates, level by level.

    41 nodes leave an error far below 1e-6 for four binary rows at a level.
    """
    data = binary()
    fit = bg.GLMM("y ~ x + (1 | g)", data, family="bernoulli").fit(bg.ML(nodes=41))
    sd = fit.variance.estimate[0]
    assert sd > 0.3  # a test at a zero SD would compare zeros
    table = fit.ranef("mean", "conditional").set_index("level")
    for level, rows in data.groupby("g"):
        eta, y = fit.beta[0] + fit.beta[1] * rows.x.to_numpy(), rows.y.to_numpy()

        def weight(b, power, y=y, eta=eta):
            p = expit(eta + b)
            return b**power * np.prod(np.where(y == 1, p, 1 - p)) * stats.norm.pdf(b, 0, sd)

        moments = [
            integrate.quad(weight, -12 * sd, 12 * sd, (k,), epsabs=1e-14)[0] for k in range(3)
        ]
        mean = moments[1] / moments[0]
        variance = moments[2] / moments[0] - mean**2
        assert table.estimate[level] == pytest.approx(mean, abs=1e-6)
        assert table.sd[level] == pytest.approx(np.sqrt(variance), abs=1e-6)


def test_derivatives_of_means_are_those_of_the_integrals():
    """c by differences of scipy integrals in beta and sigma; steps of 1e-4 leave 1e-7."""
    data = binary()
    fit = bg.GLMM("y ~ x + (1 | g)", data, family="bernoulli").fit(bg.ML(nodes=41))
    likelihood, x, _ = likelihood_of(fit)
    (found,) = derivatives(likelihood, x, np.eye(3) * 0.05, means=True)  # steps of 5e-4

    def mean(parameters, rows):
        eta = parameters[0] + parameters[1] * rows.x.to_numpy()
        y = rows.y.to_numpy()

        def weight(u, power):
            p = expit(eta + parameters[2] * u)
            return u**power * np.prod(np.where(y == 1, p, 1 - p)) * stats.norm.pdf(u)

        below, above = (integrate.quad(weight, -12, 12, (k,), epsabs=1e-14)[0] for k in (0, 1))
        return parameters[2] * above / below

    levels = list(fit.model.design.groups[0].levels)
    for level, rows in data.groupby("g"):
        for k, step in enumerate(1e-4 * np.eye(3)):
            slope = (mean(x + step, rows) - mean(x - step, rows)) / 2e-4
            # central differences over 5e-4: relative error of the order of 1e-7 or less
            assert found[k, levels.index(level), 0] / 0.05 == pytest.approx(slope, abs=2e-6)


def henderson(design, factors, sigma):
    """C22 of the mixed model equations: prediction variances of all effects, by dense algebra."""
    parts = [
        np.einsum("nq,nl->nlq", g.Z, np.eye(g.n_levels)[g.index]).reshape(design.n, -1)
        for g in design.groups
    ]
    Z = np.hstack(parts)
    blocks = [
        np.kron(np.eye(g.n_levels), L @ L.T) for g, L in zip(design.groups, factors, strict=True)
    ]
    size = sum(map(len, blocks))
    G, cut = np.zeros((size, size)), 0
    for block in blocks:
        G[cut : cut + len(block), cut : cut + len(block)] = block
        cut += len(block)
    X = design.X
    top = np.hstack([X.T @ X, X.T @ Z]) / sigma**2
    bottom = np.hstack([Z.T @ X / sigma**2, Z.T @ Z / sigma**2 + np.linalg.inv(G)])
    inverse = np.linalg.inv(np.vstack([top, bottom]))
    V = Z @ G @ Z.T + sigma**2 * np.eye(design.n)
    return np.diag(inverse)[X.shape[1] :], np.linalg.inv(X.T @ np.linalg.solve(V, X))


@pytest.mark.parametrize(
    ("dataset", "formula"),
    [
        ("sleepstudy", "reaction ~ days + (days | subject)"),
        ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    ],
)
def test_known_variances_of_a_normal_response_give_hendersons_c22(dataset, formula):
    """With theta known, Var(b | y) + c'Vc is the prediction error variance (C22 block).

    The predictor is linear in beta, so that differences have no error but rounding.
    """
    fit = bg.GLMM(formula, bg.load_dataset(dataset), family="gaussian").fit("ml")
    likelihood, x, _ = likelihood_of(fit)
    design = fit.model.design
    thetas = likelihood.layout.split(x)[1]
    factors = [f.covariance.factor(t) for f, t in zip(likelihood.factors, thetas, strict=True)]
    expected, beta_covariance = henderson(design, factors, fit.dispersion)
    p = len(fit.beta)
    covariance = np.full((len(x), len(x)), np.nan)
    covariance[:p, :p] = beta_covariance
    slopes = derivatives(likelihood, x, root_of(covariance), means=False)
    found = [
        (fit.effects[g.group].sd ** 2 + (s**2).sum(axis=0)).ravel()
        for g, s in zip(design.groups, slopes, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-6)


def test_estimated_variances_add_to_the_error_of_a_normal_response():
    fit = bg.GLMM(
        "reaction ~ days + (days | subject)", bg.load_dataset("sleepstudy"), family="gaussian"
    ).fit("ml")
    np.testing.assert_array_equal(
        fit.ranef("mean", "conditional").sd, fit.ranef("mode", "conditional").sd
    )
    assert (fit.ranef("mean", "corrected").sd > fit.ranef("mean", "conditional").sd).all()


def test_defaults_are_the_modes_with_conditional_sds(cbpp):
    pd.testing.assert_frame_equal(cbpp.ranef(), cbpp.ranef("mode", "conditional"))
    means = cbpp.ranef("mean")
    assert (means.estimate != cbpp.ranef().estimate).all()
    np.testing.assert_array_equal(
        means.estimate, cbpp.details["posterior_means"]["herd"]["estimate"].ravel()
    )


def test_a_zero_standard_deviation_adds_nothing():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 6), "y": rng.poisson(3, 48)})
    data["y"] = np.tile([2, 3, 4, 1, 3, 2], 8)  # the same in every level: no variance
    fit = bg.GLMM("y ~ 1 + (1 | g)", data, family="poisson").fit("ml")
    assert fit.variance.estimate[0] == 0
    table = fit.ranef("mode", "corrected")
    assert (table.sd == 0).all() and (table.estimate == 0).all()


def test_options_are_checked(cbpp):
    with pytest.raises(ValueError, match=r"ranef\(kind='median'\) is not an option"):
        cbpp.ranef("median")
    with pytest.raises(ValueError, match=r"ranef\(error='naive'\) is not an option"):
        cbpp.ranef(error="naive")
    laplace = cbpp.model.fit("laplace")
    with pytest.raises(NotServedError, match="conditional modes only"):
        laplace.ranef("mean")
    with pytest.raises(NotServedError, match="use a fit by ML"):
        cbpp.model.fit("pql").ranef("mode", "corrected")
    with pytest.raises(NotServedError, match="no group effects"):
        cbpp.model.fit("glm").ranef("mode")


def test_a_posterior_has_means_and_their_own_error():
    from standin import posterior_fit

    fit = posterior_fit()
    pd.testing.assert_frame_equal(fit.ranef("mean", "corrected"), fit.ranef())
    with pytest.raises(NotServedError, match=r"ranef\(kind='mode'\)"):
        fit.ranef("mode")
    with pytest.raises(NotServedError, match="error='conditional'"):
        fit.ranef(error="conditional")


def test_draws_have_the_predictions_moments(cbpp):
    """Means and SDs of 20,000 draws within 4.5 Monte Carlo standard errors of the formula."""
    n = 20_000
    draws = draw_effects(cbpp, "herd", n, np.random.default_rng(1))[..., 0]
    table = cbpp.ranef("mean", "corrected")
    assert (np.abs(draws.mean(axis=0) - table.estimate) < 4.5 * table.sd / np.sqrt(n)).all()
    assert (np.abs(draws.std(axis=0) / table.sd - 1) < 4.5 / np.sqrt(2 * n)).all()


def nested():
    """Normal rows of levels of b within a, their labels in an order of their own."""
    rng = np.random.default_rng(9)
    a, b = np.repeat(np.arange(5), 9), np.repeat(rng.permutation(15), 3)
    y = rng.normal(0, 1, 5)[a] + rng.normal(0, 1, 15)[b] + rng.normal(0, 0.7, 45)
    return pd.DataFrame({"y": y, "a": a.astype(str), "b": [f"{k:02d}" for k in b]})


@pytest.mark.parametrize(
    ("formula", "data"),
    [
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", lambda: bg.load_dataset("penicillin")),
        ("y ~ 1 + (1 | a) + (1 | b)", nested),
    ],
    ids=["crossed", "nested"],
)
def test_draws_of_several_factors_have_the_joint_covariance(formula, data):
    """Covariance of the draws of one factor against the dense inverse of H, plus c'Vc.

    With a normal response H = I + A'A / sigma^2; 40,000 draws leave a correlation with a Monte
    Carlo error below .005.
    """
    fit = bg.GLMM(formula, data(), family="gaussian").fit("ml")
    design, sds = fit.model.design, fit.variance.estimate[:2]
    A = np.hstack(
        [s * np.eye(g.n_levels)[g.index] for g, s in zip(design.groups, sds, strict=True)]
    )
    H = np.eye(A.shape[1]) + A.T @ A / fit.dispersion**2
    scale = np.repeat(sds, [g.n_levels for g in design.groups])
    given = np.linalg.inv(H) * np.outer(scale, scale)
    cut = design.groups[0].n_levels
    for group, part in zip(design.groups, (slice(0, cut), slice(cut, None)), strict=True):
        slopes = predict(fit, "mode")[group.group].slopes[..., 0]
        expected = given[part, part] + slopes.T @ slopes
        draws = draw_effects(fit, group.group, 40_000, np.random.default_rng(3))[..., 0]
        error = np.cov(draws.T) - expected
        sd = np.sqrt(np.diag(expected))
        assert np.abs(error / np.outer(sd, sd)).max() < 4.5 * np.sqrt(2 / 40_000)


@pytest.mark.slow
def test_the_corrected_error_covers_better_with_few_groups():
    """Coverage of b in 8 levels of 6 counts over 200 data sets, at a nominal 95 %.

    Levels of one data set are dependent through its estimates, so the Monte Carlo error is
    that over data sets: below .02. Conditional SDs ignore the estimation of mean and SD and
    cover in about three of four cases. The correction closes at least three quarters of the
    gap; not all of it, since the ML estimate of an SD is low with eight levels and predictions
    are not normal.
    """
    rng = np.random.default_rng(77)
    g = np.repeat(np.arange(8), 6)
    frame = pd.DataFrame({"y": 0.0, "g": g.astype(str)})
    inside: dict[str, list] = {"conditional": [], "corrected": []}
    for _ in range(200):
        b = rng.normal(0, 0.8, 8)
        frame["y"] = rng.poisson(np.exp(1.0 + b[g])).astype(float)
        fit = bg.GLMM("y ~ 1 + (1 | g)", frame, family="poisson").fit(bg.ML(nodes=9))
        for error, kept in inside.items():
            table = fit.ranef("mean", error)
            kept.append(np.mean(np.abs(b - table.estimate) < 1.96 * table.sd))
    naive, corrected = np.mean(inside["conditional"]), np.mean(inside["corrected"])
    assert naive < 0.81
    assert abs(0.95 - corrected) < (0.95 - naive) / 4


def test_the_likelihood_of_a_fit_is_left_at_its_nodes(cbpp):
    likelihood, x, covariance = likelihood_of(cbpp)
    derivatives(likelihood, x, root_of(covariance), means=True)
    assert likelihood.marginal.integral.nodes == 25
    assert isinstance(likelihood, Likelihood)
    assert root_of(covariance) @ root_of(covariance).T == pytest.approx(covariance, rel=1e-8)


def test_nested_means_by_quadrature_and_their_error():
    """Two nested factors: c'Vc by the chain rule from derivatives by each parameter apart."""
    rng = np.random.default_rng(5)
    data = nested()
    data["y"] = rng.poisson(np.exp(1 + 0.6 * data["y"]))
    fit = bg.GLMM("y ~ 1 + (1 | a) + (1 | b)", data, family="poisson").fit(bg.ML(nodes=9))
    likelihood, x, covariance = likelihood_of(fit)
    one_by_one = derivatives(likelihood, x, 0.1 * np.eye(3), means=True)
    table = fit.ranef("mean", "corrected")
    given = fit.ranef("mean", "conditional")
    for group, c in zip(fit.model.design.groups, one_by_one, strict=True):
        c = c[..., 0] / 0.1
        extra = np.einsum("kl,km,ml->l", c, covariance, c)
        kept = (table.group == group.group).to_numpy()
        # both are central differences over .01 of a standard error or less: equal to 1e-4
        np.testing.assert_allclose(table.sd[kept] ** 2 - given.sd[kept] ** 2, extra, rtol=1e-3)
    ranks = bg.rank_levels(fit, "b", top=2)
    assert ranks.p_top.sum() == pytest.approx(2)


@pytest.mark.parametrize("options", [(), ("mode", "conditional")], ids=["default", "asked"])
def test_a_fit_without_group_effects_refuses(options):
    cbpp = bg.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period"
    gee = bg.GLMM(f"{formula} + (1 | herd)", cbpp, family="binomial").fit("gee")
    with pytest.raises(bg.NotServedError, match=r"GEE, exchangeable has no group effects.*ML"):
        gee.ranef(*options)
    assert gee.tidy(effects=("ran_vals",)).empty
    with pytest.raises(bg.NotServedError, match="use a formula with a random term"):
        bg.GLMM(formula, cbpp, family="binomial").fit("glm").ranef(*options)
