"""PQL against R (dense working models), nlme's linear mixed models, and its own fixed point."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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
]  # fmt: skip


def r_name(term: str) -> frozenset[str]:
    """R's name of one of formulaic's terms, the order in an interaction forgotten."""
    plain = term.replace("[T.", "").replace("[", "").replace("]", "")
    return frozenset({"Intercept": "(Intercept)"}.get(plain, plain).split(":"))


def fit_entry(entry, data, family):
    likelihood = "reml" if "reml" in entry["id"] else "ml"
    model = bg.GLMM(entry["formula"], data, family=family)
    return model.fit(bg.PQL(likelihood=likelihood))


def assert_matches(fit, entry):
    # the reference iterates to 1e-9 in eta, and finds each working variance to about 1e-5 of
    # itself (nlminb's function tolerance of 1e-13 is 3e-7 of an argument, then amplified)
    fixed = {frozenset(k.split(":")): v for k, v in entry["fixed"].items()}
    est, se = (np.array([fixed[r_name(t)][key] for t in fit.terms]) for key in ("est", "se"))
    assert fit.converged and fit.loglik is None and fit.aic is None
    assert np.max(np.abs(fit.beta - est) / se) < 1e-4
    np.testing.assert_allclose(fit.se(), se, rtol=1e-4)
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
@pytest.mark.parametrize("identifier", ["pql_reml_phi1", "pql_ml_phi1", "pql_reml_phi1_kz"])
def test_crossed_salamanders(reference, identifier):
    entry = reference("salamander_mating", identifier)
    data = pd.read_csv(SALAMANDER / "salamander_mating.csv")
    assert_matches(fit_entry(entry, data, "bernoulli"), entry)


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


def test_bias_is_said_with_numbers_where_it_is_known():
    toenail = bg.GLMM(
        "y01 ~ treatment * time + (1 | patient_id)", bg.load_dataset("toenail"), family="bernoulli"
    ).fit("pql")
    (note,) = [m for m in toenail.messages if m.code == "bias-likely"]
    assert "median of 7 rows" in note.happened and "2.17 for Intercept" in note.happened
    epil = bg.GLMM("y ~ trt + (1 | subject)", bg.load_dataset("epil"), family="poisson").fit("pql")
    assert not [m for m in epil.messages if m.code == "bias-likely"]


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
