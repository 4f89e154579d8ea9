"""PQL against R (dense working models), nlme's linear mixed models, and its own fixed point."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayes_glmm as bg
from bayes_glmm.families import FAMILIES, get_link
from bayes_glmm.numerics.bind import bind_numpy
from bayes_glmm.numerics.quasi_likelihood import quasi_score

# their dispersion is a factor of the variance, or there is none
SERVED = [
    (f, get_link(link, f))
    for f in FAMILIES.values()
    if f.dispersion_is_scale or not f.has_dispersion
    for link in f.links
]

FAMILY = {
    "cbpp": "binomial",
    "bacteria": "bernoulli",
    "toenail": "bernoulli",
    "ohio": "bernoulli",
    "epil": "poisson",
}
CASES = [
    ("cbpp", "pql_reml_phi1"), ("cbpp", "pql_ml_phi1"),
    ("bacteria", "pql_reml_phi1"), ("bacteria", "pql_ml_phi1"),
    ("toenail", "pql_reml_phi1"), ("toenail", "pql_ml_phi1"),
    ("ohio", "pql_ml_phi1"),
    ("epil", "bc2_pql_reml_phi1"), ("epil", "bc2_pql_ml_phi1"),
    ("epil", "bc3_pql_reml_phi1"),
    ("epil", "bc4_pql_reml_phi1"), ("epil", "bc4_pql_ml_phi1"),
    ("cbpp", "pql_ml_phifree"), ("bacteria", "pql_ml_phifree"), ("toenail", "pql_ml_phifree"),
]  # fmt: skip


def r_name(term: str) -> frozenset[str]:
    """R's name of one of formulaic's terms, the order in an interaction forgotten."""
    plain = term.replace("[T.", "").replace("[", "").replace("]", "")
    return frozenset({"Intercept": "(Intercept)"}.get(plain, plain).split(":"))


def fit_entry(entry, data, family):
    likelihood = "reml" if "reml" in entry["id"] else "ml"
    dispersion = "estimated" if "phifree" in entry["id"] else "fixed"
    model = bg.GLMM(entry["formula"], data, family=family)
    return model.fit(bg.PQL(likelihood=likelihood, dispersion=dispersion))


def assert_matches(fit, entry):
    # the reference iterates to 1e-9 in eta, and finds each working variance to about 1e-5 of
    # itself (nlminb's function tolerance of 1e-13 is 3e-7 of an argument, then amplified)
    fixed = {frozenset(k.split(":")): v for k, v in entry["fixed"].items()}
    est, se = (np.array([fixed[r_name(t)][key] for t in fit.terms]) for key in ("est", "se"))
    assert fit.converged and fit.loglik is None and fit.aic is None
    assert np.max(np.abs(fit.beta - est) / se) < 1e-4
    np.testing.assert_allclose(fit.se(), se, rtol=1e-4)
    assert np.sqrt(fit.details["scale"]) == pytest.approx(entry["sigma"], rel=1e-4)
    for c, value in zip(fit.variance.components, fit.variance.estimate, strict=True):
        group = entry["random"][c.group]
        if c.kind == "sd":
            expected = group["sd"]["(Intercept)" if c.term == "Intercept" else c.term]
            assert value == pytest.approx(expected, rel=1e-4)
        else:
            (expected,) = group["corr"].values()
            assert value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("dataset", "identifier"), CASES)
def test_reference(reference, dataset, identifier):
    entry = reference(dataset, identifier)
    fit = fit_entry(entry, bg.load_dataset(dataset), FAMILY[dataset])
    assert_matches(fit, entry)


SALAMANDER = Path(os.environ.get("BAYES_GLMM_DATA") or Path(__file__).parents[3] / "shared/data")


@pytest.mark.skipif(
    not (SALAMANDER / "salamander_mating.csv").exists(),
    reason="needs salamander_mating.csv of the shared folder if present",
)
@pytest.mark.parametrize(
    "identifier", ["pql_reml_phi1", "pql_ml_phi1", "pql_reml_phi1_kz", "pql_ml_phifree"]
)
def test_crossed_salamanders(reference, identifier):
    entry = reference("salamander_mating", identifier)
    data = pd.read_csv(SALAMANDER / "salamander_mating.csv")
    assert_matches(fit_entry(entry, data, "bernoulli"), entry)


@pytest.fixture(scope="module")
def nlme():
    path = Path(__file__).parents[1] / "reference/mql.json"
    return json.loads(path.read_text(encoding="utf-8"))["models"]


MARGINAL = {
    "bacteria": ("y01 ~ trt + week_gt2 + (1 | id)", "bernoulli"),
    "cbpp": ("cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial"),
    "epil": ("y ~ trt + visit + (1 | subject)", "poisson"),
}


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [(d, k) for d in MARGINAL for k in ("ml_phifree", "reml_phifree")]
    + [("cbpp", "ml_phi1"), ("epil", "ml_phi1")],
)
def test_marginal_quasi_likelihood_is_iterated_nlme(nlme, dataset, kind):
    expected, (formula, family) = nlme[dataset][kind], MARGINAL[dataset]
    dispersion = "fixed" if kind.endswith("phi1") else "estimated"
    model = bg.GLMM(formula, bg.load_dataset(dataset), family=family)
    fit = model.fit(bg.MQL(likelihood=kind.split("_")[0], dispersion=dispersion))
    assert fit.converged and fit.loglik is None and fit.estimand == "population-averaged"
    assert not fit.effects
    # optim's relative tolerance of 1e-14 of the criterion is 1e-7 of an argument, amplified
    est, se = np.array(list(expected["beta"].values())), np.array(expected["se"])
    assert np.max(np.abs(fit.beta - est) / se) < 2e-6
    np.testing.assert_allclose(fit.se(), se, rtol=2e-6)
    assert fit.variance.estimate[0] == pytest.approx(expected["sd"], rel=2e-6)
    assert fit.details["scale"] == pytest.approx(expected["sigma"] ** 2, rel=2e-6)


@pytest.mark.parametrize("likelihood", ["reml", "ml"])
def test_marginal_quasi_likelihood_ends_where_its_working_model_does(likelihood):
    """Crossed factors; dense covariances, the SDs by a search, at the fixed part found."""
    rng = np.random.default_rng(8)
    g, h, x = np.repeat(np.arange(10), 8), np.tile(np.arange(8), 10), rng.normal(size=80)
    eta = 0.3 + 0.6 * x + 1.5 * rng.normal(size=10)[g] + 1.3 * rng.normal(size=8)[h]
    y = (rng.random(80) < 1 / (1 + np.exp(-eta))).astype(float)
    frame = pd.DataFrame({"y": y, "x": x, "g": g, "h": h})
    model = bg.GLMM("y ~ x + (1 | g) + (1 | h)", frame, family="bernoulli")
    fit = model.fit(bg.MQL(likelihood=likelihood))
    X, same = np.c_[np.ones(80), x], [g[:, None] == g, h[:, None] == h]
    mu = 1 / (1 + np.exp(-X @ fit.beta))
    w = mu * (1 - mu)
    z = X @ fit.beta + (y - mu) / w

    def solved(sds):
        V = np.diag(1 / w) + sum(s**2 * m for s, m in zip(sds, same, strict=True))
        A = X.T @ np.linalg.solve(V, X)
        return V, A, np.linalg.solve(A, X.T @ np.linalg.solve(V, z))

    def criterion(sds):
        V, A, beta = solved(sds)
        r = z - X @ beta
        extra = np.linalg.slogdet(A)[1] if likelihood == "reml" else 0.0
        return np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r) + extra

    sds = minimize(criterion, [0.5, 0.5], tol=1e-9).x
    _, A, beta = solved(sds)
    # the search takes differences of a criterion near 200: 1e-6 of an argument
    assert np.all(sds > 0.2)
    np.testing.assert_allclose(fit.varcorr()["sd"], sds, rtol=1e-5)
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-5)
    np.testing.assert_allclose(fit.se(), np.sqrt(np.diag(np.linalg.inv(A))), rtol=1e-5)


def test_marginal_coefficients_lie_nearer_to_gee_than_to_the_mixed_model():
    ohio = bg.load_dataset("ohio")
    model = bg.GLMM("resp ~ age * smoke + (1 | id)", ohio, family="bernoulli")
    mql, gee, pql = (model.fit(m).beta for m in ("mql", "gee", "pql"))
    assert np.abs(mql - gee).max() < 0.03 < 0.1 < np.abs(pql - gee).max()


def test_nothing_is_simulated_where_there_is_no_distribution():
    model = bg.GLMM("y ~ trt + (1 | subject)", bg.load_dataset("epil"), family="poisson")
    with pytest.raises(bg.NotServedError, match="that no poisson distribution has"):
        model.fit(bg.PQL(dispersion="estimated")).simulate()
    with pytest.raises(bg.NotServedError, match=r"MQL has no distribution.*'pql'"):
        model.fit("mql").simulate()


def test_labels_and_options():
    assert bg.PQL().label == "PQL" and bg.MQL(likelihood="ml").label == "MQL, ML working model"
    assert bg.PQL(dispersion="estimated").label == "PQL, dispersion estimated"
    with pytest.raises(ValueError, match=r"PQL\(dispersion='free'\) is not an option"):
        bg.PQL(dispersion="free")
    with pytest.raises(ValueError, match=r"MQL\(likelihood='REML'\) is not an option"):
        bg.MQL(likelihood="REML")
    with pytest.raises(ValueError, match=r"do not go together.*use dispersion='fixed'"):
        bg.PQL(dispersion="estimated", bias_correct="bootstrap")


def test_nested_factors_are_solved_sparsely_and_alike(monkeypatch):
    rng = np.random.default_rng(6)
    o, i, x = np.repeat(np.arange(60), 6), np.repeat(np.arange(120), 3), rng.normal(size=360)
    eta = 0.5 * x + 0.8 * rng.normal(size=60)[o] + 0.6 * rng.normal(size=120)[i]
    y = rng.poisson(np.exp(eta)).astype(float)
    frame = pd.DataFrame({"y": y, "x": x, "o": o, "i": i})
    model = bg.GLMM("y ~ x + (x | o / i)", frame, family="poisson")
    fit = model.fit("pql")
    monkeypatch.setattr("bayes_glmm.numerics.mixed_model_equations.FEW", 10**9)
    dense = model.fit("pql")
    np.testing.assert_allclose(fit.beta, dense.beta, rtol=1e-7)
    np.testing.assert_allclose(fit.variance.estimate, dense.variance.estimate, rtol=1e-6)
    np.testing.assert_allclose(fit.variance.std_error, dense.variance.std_error, rtol=1e-5)
    for group, effects in fit.effects.items():
        np.testing.assert_allclose(effects.estimate, dense.effects[group].estimate, atol=1e-6)
        np.testing.assert_allclose(effects.sd, dense.effects[group].sd, rtol=1e-6)


def test_standard_error_of_the_sd_is_the_curvature_of_the_working_reml(reference):
    entry = reference("epil", "bc2_pql_reml_phi1")
    fit = fit_entry(entry, bg.load_dataset("epil"), "poisson")
    d = fit.model.design
    index = d.groups[0].index
    eta = d.X @ fit.beta + fit.effects["subject"].estimate[index, 0]
    score, weight = quasi_score(bind_numpy(fit.model.family, fit.model.link), d.y, d.trials, eta)
    z, same = eta + score / weight, index[:, None] == index

    def minus_loglik(sd):
        V = np.diag(1 / weight) + sd**2 * same
        solved = np.linalg.solve(V, np.c_[d.X, z])
        information = d.X.T @ solved[:, :-1]
        r = z - d.X @ np.linalg.solve(information, d.X.T @ solved[:, -1])
        dets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
        return (dets + r @ np.linalg.solve(V, r)) / 2

    sd, h = fit.variance.estimate[0], 1e-3
    curvature = (minus_loglik(sd + h) - 2 * minus_loglik(sd) + minus_loglik(sd - h)) / h**2
    # rounding 1e-13 of a value near 100 over h^2, truncation h^2
    assert fit.variance.std_error[0] == pytest.approx(curvature**-0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("family", "link"),
    SERVED,
    ids=str,
)
def test_every_family_and_link_ends_at_the_joint_mode(family, link):
    """At the fixed point beta and b maximise the penalised quasi-likelihood."""
    rng = np.random.default_rng(5)
    g, h = np.repeat(np.arange(30), 8), np.tile(np.arange(8), 30)
    x = rng.normal(size=240)
    mean = 1 / (1 + np.exp(-(0.2 + 0.5 * x + 0.7 * rng.normal(size=30)[g])))
    trials = np.full(240, 6.0 if family.has_trials else 1.0)
    y = family.simulate(rng, mean, trials, 0.1)
    y = np.abs(y) + 0.01 if link.name == "log" and family.name == "gaussian" else y
    frame = pd.DataFrame({"y": y, "m": trials, "x": x, "o": 0.1 * x**2, "g": g, "h": h})
    response = "p(y, m)" if family.has_trials else "y"
    formula = f"{response} ~ x + offset(o) + (1 | g) + (1 | h)"
    fit = bg.GLMM(formula, frame, family=family.name, link=link.name).fit("pql")
    assert fit.converged
    d, effects = fit.model.design, list(fit.effects.values())
    eta = d.X @ fit.beta + d.offset
    for block, e in zip(d.groups, effects, strict=True):
        eta = eta + e.estimate[block.index, 0]
    phi = 1.0 if fit.dispersion is None else fit.dispersion**2
    score = quasi_score(bind_numpy(family, link), d.y, d.trials, eta)[0] / phi
    # what the last change of eta, 1e-9 of its size, leaves of a sum of 240 scores
    assert np.max(np.abs(d.X.T @ score)) < 1e-5 * max(1, np.abs(score).max())
    for block, e, sd in zip(d.groups, effects, fit.variance.estimate, strict=False):
        total = np.bincount(block.index, score)
        np.testing.assert_allclose(sd**2 * total, e.estimate[:, 0], atol=1e-6)


def test_gaussian_identity_is_the_linear_mixed_model(reference):
    data = bg.load_dataset("penicillin")
    fit = bg.GLMM("diameter ~ 1 + (1 | plate) + (1 | sample)", data, family="gaussian").fit("pql")
    entry = reference("penicillin", "reml")
    (only,) = entry["fixed"].values()
    assert fit.beta[0] == pytest.approx(only["est"], rel=1e-7)
    assert fit.se().iloc[0] == pytest.approx(only["se"], rel=1e-4)
    for group, sd in zip(("plate", "sample"), fit.varcorr()["sd"], strict=True):
        assert sd == pytest.approx(entry["random"][group]["sd"]["(Intercept)"], rel=1e-4)
    assert fit.dispersion == pytest.approx(entry["sigma"], rel=1e-4)
    assert np.isfinite(fit.variance.std_error).all()


@pytest.mark.parametrize("method", ["pql", "mql"])
def test_a_large_mean_of_gaussian_responses_costs_no_digits(method):
    data = bg.load_dataset("milk")
    near, far = (
        bg.GLMM("protein ~ diet + time + (1 | cow)", d, family="gaussian").fit(method)
        for d in (data, data.assign(protein=data["protein"] + 1e8))
    )
    # 1e8 has digits to 1.5e-8, a ten-millionth of the residual SD
    np.testing.assert_allclose(far.se(), near.se(), rtol=1e-5)
    np.testing.assert_allclose(far.variance.estimate, near.variance.estimate, rtol=1e-5)
    np.testing.assert_allclose(far.beta - near.beta, [1e8, 0, 0, 0], atol=1e-6)


def test_zero_variance_is_exactly_zero_and_said():
    rng = np.random.default_rng(3)
    # counts that vary less between levels than Poisson counts do
    frame = pd.DataFrame({"y": np.tile([3, 4, 5, 6], 12), "g": np.repeat(np.arange(12), 4)})
    frame["x"] = rng.normal(size=48)
    fit = bg.GLMM("y ~ x + (1 | g)", frame, family="poisson").fit("pql")
    assert fit.converged and fit.variance.estimate[0] == 0
    assert np.isnan(fit.variance.std_error[0]) and np.isnan(fit.joint_cov[-1]).all()
    assert np.isfinite(fit.joint_cov[:-1, :-1]).all()
    (note,) = [m for m in fit.messages if m.code == "zero-variance"]
    assert "Intercept by g" in note.happened
    assert (fit.ranef()[["estimate", "sd"]] == 0).all(axis=None)


def test_one_zero_variance_leaves_the_others_their_standard_errors():
    rng = np.random.default_rng(4)
    g, h = np.repeat(np.arange(12), 10), np.tile(np.arange(10), 12)
    rate = np.exp(1 + 0.6 * rng.normal(size=12))[g]
    frame = pd.DataFrame({"y": np.round(rate), "g": g, "h": h})  # h adds nothing
    fit = bg.GLMM("y ~ 1 + (1 | g) + (1 | h)", frame, family="poisson").fit("pql")
    assert fit.variance.estimate[1] == 0 and fit.variance.estimate[0] > 0.3
    assert np.isfinite(fit.variance.std_error[0]) and np.isnan(fit.variance.std_error[1])


def test_row_order_does_not_matter():
    epil = bg.load_dataset("epil")
    formula = "y ~ trt + visit + (visit | subject)"
    one = bg.GLMM(formula, epil, family="poisson").fit("pql")
    other = bg.GLMM(formula, epil.sample(frac=1, random_state=1), family="poisson").fit("pql")
    np.testing.assert_allclose(other.beta, one.beta, rtol=1e-7)
    np.testing.assert_allclose(other.variance.estimate, one.variance.estimate, rtol=1e-6)
    a, b = (f.ranef().set_index(["level", "term"])["estimate"] for f in (one, other))
    np.testing.assert_allclose(b.loc[a.index], a, atol=1e-6)


def test_joint_covariance_has_beta_then_the_working_scales():
    model = bg.GLMM(
        "y ~ trt + visit + (visit | subject)", bg.load_dataset("epil"), family="poisson"
    )
    fit = model.fit("pql")
    assert fit.joint_cov.shape == (6, 6)
    np.testing.assert_array_equal(fit.joint_cov[:3, :3], fit.vcov())
    se = np.sqrt(np.diag(fit.joint_cov))[3:]
    sd, corr = fit.variance.estimate[:2], fit.variance.estimate[2]
    np.testing.assert_allclose(fit.variance.std_error, se * np.r_[sd, 1 - corr**2], rtol=1e-12)


def test_without_random_effects_it_refuses():
    model = bg.GLMM("y ~ trt", bg.load_dataset("epil"), family="poisson")
    with pytest.raises(bg.NotServedError, match=r"without random effects.*use GLM\(\)"):
        model.fit("pql")


def test_an_exact_fit_is_refused():
    frame = pd.DataFrame({"y": np.full(12, 3.5), "g": np.repeat(np.arange(4), 3)})
    with pytest.raises(ValueError, match=r"fit 'y' exactly.*check the response"):
        bg.GLMM("y ~ 1 + (1 | g)", frame, family="gaussian").fit("pql")


def test_separation_is_not_convergence():
    frame = pd.DataFrame({"y": [0, 0, 0, 1, 1, 1] * 4, "x": [0, 1, 2, 3, 4, 5] * 4})
    frame["g"] = np.repeat(np.arange(8), 3)
    fit = bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli").fit("pql")
    assert not fit.converged and "not-converged" in [m.code for m in fit.messages]


def test_variances_the_data_cannot_tell_apart_have_no_standard_error():
    y = np.random.default_rng(1).normal(size=24)
    frame = pd.DataFrame({"y": y, "i": np.arange(24)})  # one row a level
    fit = bg.GLMM("y ~ 1 + (1 | i)", frame, family="gaussian").fit("pql")
    assert "information-not-positive-definite" in [m.code for m in fit.messages]
    assert np.isnan(fit.variance.std_error).all()
