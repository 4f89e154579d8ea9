"""GEE against gee::gee, geepack and statsmodels, and against dense algebra cluster by cluster."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.families import FAMILIES, get_link
from bayes_glmm.frequentist.gee.correlation import structure_of
from bayes_glmm.numerics.quasi_likelihood import quasi_score

# their dispersion is a factor of the variance, or there is none
SERVED = [
    (f, get_link(link, f))
    for f in FAMILIES.values()
    if f.dispersion_is_scale or not f.has_dispersion
    for link in f.links
]

EQUATION = {"association": "equation", "scale": "n"}
CORR = {"ind": "independence", "exch": "exchangeable", "ar1": "ar1", "unstr": "unstructured"}

# dataset, grouping factor, family, time column of AR(1) (None: row order), reference ids
SETS = [
    ("cbpp", "herd", "binomial", None, "gee_ind gee_exch gee_exch_gee"),
    ("bacteria", "id", "bernoulli", None, "gee_ind gee_exch gee_ind_gee gee_exch_gee"),
    ("toenail", "patient_id", "bernoulli", None, "gee_ind gee_exch gee_ind_gee gee_exch_gee"),
    ("epil", "subject", "poisson", None,
     "gee_ind gee_exch gee_ar1 gee_unstr gee_ind_gee gee_exch_gee gee_ar1_gee"),
    ("ohio", "id", "bernoulli", None,
     "gee_ind gee_exch gee_ar1 gee_unstr gee_ind_gee gee_exch_gee gee_ar1_gee gee_unstr_gee"),
    ("dietox", "pig", "gaussian", "time",
     "gee_ind gee_exch gee_ar1 gee_cubic_ind gee_cubic_exch gee_cubic_ar1 "
     "gee_ind_gee gee_exch_gee"),
    ("milk", "cow", "gaussian", "time",
     "quad_gee_ind quad_gee_exch quad_gee_ar1 "
     "linear_x_gee_ind linear_x_gee_exch linear_x_gee_ar1"),
]  # fmt: skip
CASES = [(*row[:4], one) for row in SETS for one in row[4].split()]


def r_name(term: str) -> frozenset[str]:
    """R's name of one of formulaic's terms, the order in an interaction forgotten."""
    plain = term.replace("[T.", "").replace("]", "").replace(" ** ", "^")
    return frozenset({"Intercept": "(Intercept)"}.get(plain, plain).split(":"))


def in_our_order(fit, entry: dict, key: str) -> np.ndarray:
    values = {frozenset(name.split(":")): v[key] for name, v in entry["fixed"].items()}
    return np.array([values[r_name(term)] for term in fit.terms])


@pytest.mark.parametrize(("dataset", "group", "family", "time", "identifier"), CASES)
def test_reference(reference, dataset, group, family, time, identifier):
    entry = reference(dataset, identifier)
    model = bg.GLMM(f"{entry['formula']} + (1 | {group})", bg.load_dataset(dataset), family=family)
    moment = identifier.endswith("_gee")
    corr = CORR[entry["gee"]["corstr"]]
    method = bg.GEE(corr=corr, time=time if corr == "ar1" else None, **({} if moment else EQUATION))
    fit = model.fit(method)
    assert fit.converged and fit.estimand == "population-averaged" and fit.loglik is None
    # gee::gee was run to 1e-8; geepack stops when no parameter moves by 1e-4, which leaves
    # 2e-5 SE here
    tolerance = 1e-6 if moment else 1e-4
    se = in_our_order(fit, entry, "se")
    assert np.max(np.abs(fit.beta - in_our_order(fit, entry, "est")) / se) < tolerance
    np.testing.assert_allclose(fit.se("robust"), se, rtol=tolerance)
    if (dataset, moment) != ("cbpp", False):  # geepack's scale there divides by the trials
        naive = in_our_order(fit, entry, "naive_se")
        np.testing.assert_allclose(fit.se("naive"), naive, rtol=tolerance)
        assert fit.details["scale"] == pytest.approx(entry["gee"]["scale"], rel=tolerance)
    if corr != "independence":
        alpha = entry["gee"]["alpha"]
        alpha = list(alpha.values()) if isinstance(alpha, dict) else [alpha]
        np.testing.assert_allclose(fit.details["alpha"], alpha, rtol=tolerance)


def test_ar1_by_moments_with_unequal_clusters():
    # R 4.2.2, gee 4.13: gee(y01 ~ trt + week_gt2, id, family = binomial, corstr = "AR-M", Mv = 1,
    # tol = 1e-10) on bacteria
    model = bg.GLMM("y01 ~ trt + week_gt2 + (1 | id)", bg.load_dataset("bacteria"), family="bernoulli")  # fmt: skip  # noqa: E501
    fit = model.fit(bg.GEE(corr="ar1"))
    assert fit.details["alpha"][0] == pytest.approx(0.150581022256, rel=1e-8)
    np.testing.assert_allclose(
        fit.beta, [2.785989089389, -1.066458504629, -0.563767082529, -1.292314689393], rtol=1e-8
    )
    np.testing.assert_allclose(
        fit.se(), [0.510661634943, 0.574461755768, 0.521473342566, 0.356018775405], rtol=1e-8
    )
    np.testing.assert_allclose(
        fit.se("naive"), [0.488915142787, 0.482246796555, 0.505889515888, 0.427492910692], rtol=1e-8
    )


MORE = [
    ("ohio_m_dependent", "ohio", "id", "bernoulli", "resp ~ age * smoke", {"m": 2}),
    ("bacteria_m_dependent", "bacteria", "id", "bernoulli", "y01 ~ trt + week_gt2", {"m": 1}),
    ("ohio_unstructured", "ohio", "id", "bernoulli", "resp ~ age * smoke", {}),
    ("ohio_fixed", "ohio", "id", "bernoulli", "resp ~ age * smoke", {}),
    ("epil_fixed", "epil", "subject", "poisson", "y ~ log_base4 + trt + log_age + v4", {}),
]


@pytest.fixture(scope="module")
def peers():
    return json.loads((Path(__file__).parents[1] / "reference" / "gee.json").read_text())


@pytest.mark.parametrize(("key", "dataset", "group", "family", "formula", "options"), MORE)
def test_other_structures_by_moments(peers, key, dataset, group, family, formula, options):
    entry = peers["moments"][key]
    corr = key.split("_", 1)[1].replace("_", "-")
    corr = entry["correlation"] if corr == "fixed" else corr
    model = bg.GLMM(f"{formula} + (1 | {group})", bg.load_dataset(dataset), family=family)
    fit = model.fit(bg.GEE(corr, **options))
    # gee::gee was run to 1e-10 and printed with 12 digits
    np.testing.assert_allclose(fit.beta, list(entry["beta"].values()), rtol=1e-7)
    np.testing.assert_allclose(fit.se("robust"), entry["se"], rtol=1e-7)
    np.testing.assert_allclose(fit.se("naive"), entry["naive"], rtol=1e-7)
    assert fit.details["scale"] == pytest.approx(entry["scale"], rel=1e-7)
    if "m" in options:
        found = fit.details["alpha"]
        np.testing.assert_allclose(found, entry["correlation"][0][1 : 1 + options["m"]], rtol=1e-7)
    else:
        np.testing.assert_allclose(fit.details["correlation"], entry["correlation"], rtol=1e-7)


def random_frame(family, rng, clusters=60, waves=9):
    """Unequal clusters in random row order with missing waves, an offset, and text labels."""
    size = rng.integers(1, min(waves, 6) + 1, clusters)
    code = np.repeat(np.arange(clusters), size)
    wave = np.concatenate([np.sort(rng.choice(waves, m, replace=False)) for m in size])
    x, shift = rng.normal(size=(2, len(code)))
    effect = 0.6 * rng.normal(size=clusters)[code]
    trials = rng.integers(2, 9, len(code)).astype(float)
    if not family.has_trials:
        trials = np.ones(len(code))
    mean = 1 / (1 + np.exp(-(0.2 + 0.4 * x + effect)))
    y = family.simulate(rng, mean, trials, 0.3)
    frame = pd.DataFrame({
        "y": y, "m": trials, "x": x, "shift": 0.1 * shift, "wave": wave,
        "g": [f"c{c}" for c in code],
    })  # fmt: skip
    return frame.sample(frac=1, random_state=1)


def model_of(family, link, frame):
    response = "p(y, m)" if family.has_trials else "y"
    formula = f"{response} ~ x + offset(shift) + (1 | g)"
    return bg.GLMM(formula, frame, family=family.name, link=link.name)


def dense_equations(model, fit, frame):
    """Estimating function, robust and naive covariance with one dense matrix per cluster."""
    beta, alpha = fit.beta, fit.details["alpha"]
    structure = structure_of(fit.method)
    link, family = model.link, model.family
    total, bread, meat = np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2))
    for _, rows in frame.groupby("g"):
        rows = rows.sort_values("wave")
        X = np.c_[np.ones(len(rows)), rows["x"]]
        mean, slope = link.inverse(X @ beta + rows["shift"].to_numpy())[:2]
        root = np.diag(np.sqrt(family.variance(mean, 1.0) / rows["m"]))
        V = root @ structure.matrix(alpha, rows["wave"].to_numpy()) @ root
        D = np.broadcast_to(slope, mean.shape)[:, None] * X
        score = D.T @ np.linalg.solve(V, rows["y"] / rows["m"] - mean)
        total += score
        bread += D.T @ np.linalg.solve(V, D)
        meat += np.outer(score, score)
    inverse = np.linalg.inv(bread)
    return total, inverse @ meat @ inverse, fit.details["scale"] * inverse


@pytest.mark.parametrize("association", ["moment", "equation"])
@pytest.mark.parametrize("corr", ["independence", "exchangeable", "ar1"])
@pytest.mark.parametrize(
    ("family", "link"),
    SERVED,
    ids=str,
)
def test_every_family_and_link_against_dense_algebra(family, link, corr, association):
    against_dense_algebra(family, link, bg.GEE(corr, association=association, time="wave"), 60, 9)


FIXED = 0.5 ** np.abs(np.subtract.outer(np.arange(5), np.arange(5)))


@pytest.mark.parametrize("association", ["moment", "equation"])
@pytest.mark.parametrize(
    ("corr", "m"), [("m-dependent", 2), ("unstructured", None), (FIXED, None)], ids=str
)
@pytest.mark.parametrize("name", ["gaussian", "binomial", "poisson", "gamma"])
def test_patterned_structures_against_dense_algebra(name, corr, m, association):
    family = FAMILIES[name]
    method = bg.GEE(corr, association=association, time="wave", m=m)
    against_dense_algebra(family, get_link(family.default_link, family), method, 150, 5)


def against_dense_algebra(family, link, method, clusters, waves):
    rng = np.random.default_rng(7)
    frame = random_frame(family, rng, clusters, waves)
    if link.name == "log":
        frame["y"] = np.abs(frame["y"]) + (0.05 if family.name == "gaussian" else 0)
    model = model_of(family, link, frame)
    fit = model.fit(method)
    assert fit.converged
    total, robust, naive = dense_equations(model, fit, frame)
    # the last step was below 1e-8 naive standard errors
    assert np.max(np.abs(naive @ total) / np.sqrt(np.diag(naive))) < 1e-6
    np.testing.assert_allclose(fit.vcov("robust"), robust, rtol=1e-7)
    np.testing.assert_allclose(fit.vcov("naive"), naive, rtol=1e-7)
    np.testing.assert_array_equal(fit.joint_cov, fit.vcov())
    d = model.design
    eta = d.X @ fit.beta + d.offset
    score, information = quasi_score_of(model, eta)
    pearson = np.sum(score**2 / information)
    assert fit.details["scale"] == pytest.approx(pearson / (d.n - d.p), rel=1e-6)


def quasi_score_of(model, eta):
    from bayes_glmm.numerics.bind import bind_numpy

    d = model.design
    return quasi_score(bind_numpy(model.family, model.link), d.y, d.trials, eta)


def test_statsmodels_agrees_on_exchangeable():
    sm = pytest.importorskip("statsmodels.api")
    frame = random_frame(FAMILIES["poisson"], np.random.default_rng(8)).sort_values(["g", "wave"])
    fit = bg.GLMM("y ~ x + offset(shift) + (1 | g)", frame, family="poisson").fit("gee")
    other = sm.GEE(
        frame["y"], sm.add_constant(frame[["x"]]), groups=frame["g"], offset=frame["shift"],
        family=sm.families.Poisson(), cov_struct=sm.cov_struct.Exchangeable(),
    ).fit(ctol=1e-10, maxiter=200, scale="X2")  # fmt: skip
    assert fit.details["alpha"][0] == pytest.approx(other.cov_struct.dep_params, rel=1e-6)
    np.testing.assert_allclose(fit.beta, other.params, rtol=1e-7)
    np.testing.assert_allclose(fit.se("robust"), other.standard_errors("robust"), rtol=1e-6)
    np.testing.assert_allclose(fit.se("naive"), other.standard_errors("naive"), rtol=1e-6)


@pytest.fixture
def epil():
    return bg.load_dataset("epil")


def test_a_given_dispersion_is_statsmodels_negative_binomial(epil):
    sm = pytest.importorskip("statsmodels.api")
    epil = epil.sort_values(["subject", "period"])
    model = bg.GLMM("y ~ log_base4 + v4 + (1 | subject)", epil, family="negative_binomial")
    fit = model.fit(bg.GEE(dispersion=2.5))
    other = sm.GEE(
        epil["y"], sm.add_constant(epil[["log_base4", "v4"]]), groups=epil["subject"],
        family=sm.families.NegativeBinomial(sm.families.links.Log(), alpha=1 / 2.5),
        cov_struct=sm.cov_struct.Exchangeable(),
    ).fit(ctol=1e-10, maxiter=200, scale="X2")  # fmt: skip
    assert fit.converged and fit.label == "GEE, exchangeable, dispersion=2.5"
    assert fit.details["alpha"][0] == pytest.approx(other.cov_struct.dep_params, rel=1e-6)
    np.testing.assert_allclose(fit.beta, other.params, rtol=1e-7)
    np.testing.assert_allclose(fit.se("robust"), other.standard_errors("robust"), rtol=1e-6)
    np.testing.assert_allclose(fit.se("naive"), other.standard_errors("naive"), rtol=1e-6)
    null = bg.GLMM("y ~ log_base4 + (1 | subject)", epil, family="negative_binomial")
    smaller = null.fit(bg.GEE(dispersion=2.5))
    criteria = bg.qic(smaller, fit, scale=1.0)

    def quasi(fit):  # the log-likelihood of the negative binomial, up to what depends on y
        mu, y = np.exp(fit.model.design.X @ fit.beta), fit.model.design.y
        return np.sum(y * np.log(mu / (mu + 2.5)) - 2.5 * np.log(mu + 2.5))

    difference = criteria["quasi_likelihood"].diff().iloc[1]
    assert difference == pytest.approx(quasi(fit) - quasi(smaller), rel=1e-9)
    assert len(bg.anova(smaller, fit)) == 2
    with pytest.raises(ValueError, match=r"different dispersions.*the same GEE\(dispersion"):
        bg.qic(fit, model.fit(bg.GEE(dispersion=3.0)))


def test_independence_at_a_given_dispersion_is_mass_negative_binomial(epil):
    path = Path(__file__).parents[1] / "reference/gee_negative_binomial.json"
    expected = json.loads(path.read_text(encoding="utf-8"))
    formula = "y ~ log_base4 + trt + log_age + v4 + (1 | subject)"
    model = bg.GLMM(formula, epil, family="negative_binomial")
    fit = model.fit(bg.GEE("independence", dispersion=3.0))
    names = {r_name(name): name for name in fit.terms}
    order = [names[frozenset([term])] for term in expected["beta"]]
    # glm's deviance to 1e-14 is 1e-7 of a coefficient
    np.testing.assert_allclose(fit.fixef()[order], list(expected["beta"].values()), rtol=1e-6)
    np.testing.assert_allclose(
        fit.se("robust")[order], list(expected["robust_se"].values()), rtol=1e-6
    )
    pearson = fit.details["scale"] * (fit.model.design.n - len(fit.beta))
    assert pearson == pytest.approx(expected["pearson"], rel=1e-6)


def test_a_given_dispersion_of_counts_of_trials():
    """The beta-binomial's equations of independent rows, written out."""
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    model = bg.GLMM(formula, bg.load_dataset("cbpp"), family="beta_binomial")
    fit, d = model.fit(bg.GEE("independence", dispersion=8.0)), model.design
    p = 1 / (1 + np.exp(-d.X @ fit.beta))
    inflation = 1 + (d.trials - 1) / (8.0 + 1)  # Var = m p (1 - p) (1 + (m - 1) / (a + b + 1))
    np.testing.assert_allclose(d.X.T @ ((d.y - d.trials * p) / inflation), 0, atol=1e-6)


def test_a_dispersion_is_given_where_there_is_one(epil):
    formula = "y ~ trt + (1 | subject)"
    with pytest.raises(bg.NotServedError, match=r"use GEE\(dispersion=…\), which holds it"):
        bg.GLMM(formula, epil, family="negative_binomial").fit("gee")
    with pytest.raises(bg.NotServedError, match=r"does not exist: use scale"):
        bg.GLMM(formula, epil, family="poisson").fit(bg.GEE(dispersion=2.0))
    with pytest.raises(bg.NotServedError, match="is a factor of the variance: use scale"):
        bg.GLMM(formula, epil, family="gaussian").fit(bg.GEE(dispersion=2.0))
    with pytest.raises(ValueError, match="must be a positive number"):
        bg.GEE(dispersion=-1.0)


def test_row_order_and_labels_do_not_matter(epil):
    formula, method = "y ~ trt + (1 | subject)", bg.GEE(corr="ar1", time="period")
    fit = bg.GLMM(formula, epil, family="poisson").fit(method)
    shuffled = epil.sample(frac=1, random_state=2)
    shuffled["subject"] = [f"s{(7 * s) % 59}" for s in shuffled["subject"].astype(int)]
    other = bg.GLMM(formula, shuffled, family="poisson").fit(method)
    # two orders of summation
    np.testing.assert_allclose(other.vcov(), fit.vcov(), rtol=1e-9)


def test_time_orders_rows_and_counts_lags(epil):
    model = bg.GLMM("y ~ trt + (1 | subject)", epil, family="poisson")
    by_row, by_time = (model.fit(bg.GEE(corr="ar1", time=t)) for t in (None, "period"))
    np.testing.assert_allclose(by_time.beta, by_row.beta, rtol=1e-12)
    gone = bg.GLMM("y ~ trt + (1 | subject)", epil[epil["period"] != 2], family="poisson")
    gap, no_gap = (gone.fit(bg.GEE(corr="ar1", time=t)) for t in ("period", None))
    assert abs(gap.details["alpha"][0] - no_gap.details["alpha"][0]) > 0.01


def test_ordered_categories_are_waves():
    cbpp = bg.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    numbered = cbpp.assign(wave=cbpp["period"].astype(int))
    a, b = (
        bg.GLMM(formula, numbered, family="binomial").fit(bg.GEE(corr="ar1", time=t))
        for t in ("period", "wave")
    )
    np.testing.assert_array_equal(a.beta, b.beta)


def test_fixed_scale_only_scales_the_naive_covariance_of_independent_rows(epil):
    model = bg.GLMM("y ~ trt + (1 | subject)", epil, family="poisson")
    one, four = (model.fit(bg.GEE(corr="independence", scale=s)) for s in (1.0, 4.0))
    np.testing.assert_allclose(4 * one.vcov("naive"), four.vcov("naive"), rtol=1e-12)
    np.testing.assert_allclose(one.vcov("robust"), four.vcov("robust"), rtol=1e-12)


def test_cluster_is_the_outermost_factor_or_the_column_named():
    ticks = bg.load_dataset("grouseticks")
    nested = bg.GLMM("ticks ~ year + (1 | location / brood)", ticks, family="poisson")
    fit = nested.fit(bg.GEE(corr="exchangeable"))
    assert fit.details["cluster"] == "location"
    assert fit.details["clusters"] == ticks["location"].nunique()
    assert "random-terms-ignored" in [m.code for m in fit.messages]
    brood = nested.fit(bg.GEE(cluster="brood"))  # a column of the data, no factor of the formula
    plain = bg.GLMM("ticks ~ year + (1 | brood)", ticks, family="poisson").fit("gee")
    np.testing.assert_allclose(brood.beta, plain.beta, rtol=1e-10)
    named = nested.fit(bg.GEE(cluster="location:brood"))
    np.testing.assert_allclose(named.beta, plain.beta, rtol=1e-10)


def test_few_clusters_are_said():
    fit = bg.GLMM(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        bg.load_dataset("cbpp"),
        family="binomial",
    ).fit("gee")
    (note,) = [m for m in fit.messages if m.code == "few-clusters"]
    assert "15 clusters" in note.happened and "t with 11 df" in note.happened
    assert fit.details["max_size"] == 4 and fit.details["iterations"] > 1
    assert list(fit.vcovs) == ["mancl-derouen", "robust", "kauermann-carroll", "naive"]
    assert fit.interval_kind == "Wald, mancl-derouen, t with 11 df"


def test_correlation_out_of_range_is_a_value_with_a_message():
    # one success in every triple: at scale 0.9 the estimate -12/(0.9 (24 - 1)) is below -1/2,
    # the least correlation three rows can share
    frame = pd.DataFrame({"y": [0, 1, 0] * 8, "g": np.repeat(np.arange(8), 3)})
    fit = bg.GLMM("y ~ 1 + (1 | g)", frame, family="bernoulli").fit(bg.GEE(scale=0.9))
    assert np.isfinite(fit.beta).all()
    (note,) = [m for m in fit.messages if m.code == "working-correlation-not-positive-definite"]
    assert "-0.580" in note.happened


def test_separation_is_not_convergence():
    frame = pd.DataFrame({"y": [0, 0, 0, 1, 1, 1] * 4, "x": [0, 1, 2, 3, 4, 5] * 4})
    frame["g"] = np.repeat(np.arange(8), 3)
    fit = bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli").fit("gee")
    assert not fit.converged and "not-converged" in [m.code for m in fit.messages]


def test_units_of_a_gaussian_response_do_not_matter():
    milk = bg.load_dataset("milk")
    small = bg.GLMM("protein ~ diet + (1 | cow)", milk, family="gaussian").fit("gee")
    milk["protein"] *= 1e9
    large = bg.GLMM("protein ~ diet + (1 | cow)", milk, family="gaussian").fit("gee")
    assert large.converged
    np.testing.assert_allclose(large.beta, 1e9 * small.beta, rtol=1e-9)
    np.testing.assert_allclose(large.se(), 1e9 * small.se(), rtol=1e-9)


def test_missing_waves_are_seen_in_the_time_column(epil):
    """A fixed correlation takes the rows of the waves that are there, by their labels."""
    epil["visit"] = 10 * epil["period"] - 5
    rng = np.random.default_rng(3)
    thin = epil[rng.random(len(epil)) < 0.7]
    labels = [5, 15, 25, 35]
    matrix = pd.DataFrame(FIXED[:4, :4] + 0.1 * (1 - np.eye(4)), labels, labels)
    model = bg.GLMM("y ~ trt + period + (1 | subject)", thin, family="poisson")
    fit = model.fit(bg.GEE(matrix, time="visit"))
    again = model.fit(bg.GEE(matrix.to_numpy(), time="visit"))
    np.testing.assert_array_equal(again.beta, fit.beta)
    turned = matrix.loc[labels[::-1], labels[::-1]]
    other = model.fit(bg.GEE(turned, time="visit"))
    np.testing.assert_allclose(other.beta, fit.beta, rtol=1e-10)
    assert fit.method.label == "GEE, fixed, time=visit"


def test_a_fixed_correlation_takes_names_of_categories():
    cbpp = bg.load_dataset("cbpp")
    model = bg.GLMM(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, family="binomial"
    )
    names = cbpp["period"].cat.categories
    matrix = pd.DataFrame(FIXED[:4, :4], names, names)
    fit = model.fit(bg.GEE(matrix, time="period"))
    other = model.fit(bg.GEE(FIXED[:4, :4], time="period"))
    np.testing.assert_array_equal(fit.beta, other.beta)
    assert fit.method == bg.GEE(FIXED[:4, :4].tolist(), waves=tuple(names), time="period")


def test_indefinite_unstructured_estimates_are_said():
    # waves 0 and 1 agree, 1 and 2 agree, 0 and 2 differ: no three variables are like that
    pairs = [
        ((0, 1), (1, 1)),
        ((0, 1), (0, 0)),
        ((1, 2), (1, 1)),
        ((1, 2), (0, 0)),
        ((0, 2), (1, 0)),
        ((0, 2), (0, 1)),
        ((0, 1, 2), (1, 1, 0)),
        ((0, 1, 2), (0, 0, 1)),
    ]
    rows = [(g, w, y) for g, (ws, ys) in enumerate(pairs * 6) for w, y in zip(ws, ys, strict=True)]
    frame = pd.DataFrame(rows, columns=["g", "w", "y"])
    model = bg.GLMM("y ~ 1 + (1 | g)", frame, family="bernoulli")
    fit = model.fit(bg.GEE("unstructured", time="w"))
    (note,) = [m for m in fit.messages if m.code == "working-correlation-not-positive-definite"]
    assert "unstructured" in note.happened and "fewer parameters" in note.remedy


@pytest.mark.parametrize("corr", ["ar1", "m-dependent", "unstructured", FIXED[:4, :4].tolist()])
def test_rows_taken_in_their_order_are_said(epil, corr):
    model = bg.GLMM("y ~ trt + (1 | subject)", epil, family="poisson")
    (note,) = [m for m in model.fit(bg.GEE(corr)).messages if m.code == "order-of-rows"]
    assert note.severity == "note" and "is taken as time" in note.happened
    codes = [m.code for m in model.fit(bg.GEE(corr, time="period")).messages]
    assert "order-of-rows" not in codes
    assert "order-of-rows" not in [m.code for m in model.fit("gee").messages]


def test_odds_ratios_by_lag_are_of_rows_in_their_order():
    model = bg.GLMM("resp ~ age + (1 | id)", bg.load_dataset("ohio"), family="bernoulli")
    assert "order-of-rows" in [m.code for m in model.fit(bg.GEE("log-odds-lag")).messages]
    assert "order-of-rows" not in [m.code for m in model.fit(bg.GEE("log-odds")).messages]


def test_long_clusters_are_said():
    milk = bg.load_dataset("milk").query("cow in ('B01', 'B02', 'B03', 'B04', 'B05')")
    fit = bg.GLMM("protein ~ time + (1 | cow)", milk, family="gaussian").fit("gee")
    (note,) = [m for m in fit.messages if m.code == "long-clusters"]
    assert "5 clusters of" in note.happened


OPTIONS = [
    ({"corr": "toeplitz"}, "not an option: use 'independence' or .* or a correlation matrix"),
    ({"corr": "AR1"}, r"a correlation matrix; did you mean 'ar1'\?"),
    ({"corr": "ar2"}, r"did you mean 'ar1'\?"),
    ({"corr": [[1, 0.9, 0], [0.9, 1, 0.9], [0, 0.9, 1]]}, "not positive definite.*shrink"),
    ({"corr": [[2, 0], [0, 2]]}, "ones on its diagonal"),
    ({"corr": [[1, 0]]}, "shape \\(1, 2\\)"),
    ({"corr": 3.0}, "square matrix"),
    ({"corr": object()}, "neither a name nor a matrix"),
    ({"corr": [[1, 0], [0, 1]], "waves": (1, 1)}, "each once"),
    ({"waves": (1, 2)}, "rows of a fixed correlation"),
    ({"m": 2}, "option of corr='m-dependent'"),
    ({"corr": "m-dependent", "m": 0}, "at least 1"),
    ({"cov": "hc3"}, "'mancl-derouen'"),
    ({"reference": "f"}, "'normal' or 't'"),
    ({"association": "alternating"}, "do not go together"),
    ({"corr": "log-odds", "association": "equation"}, "do not go together.*'alternating'"),
]


@pytest.mark.parametrize(("options", "match"), OPTIONS)
def test_options_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        bg.GEE(**options)


def test_labels_of_a_frame_must_agree():
    frame = pd.DataFrame(np.eye(2), ["a", "b"], ["b", "a"])
    with pytest.raises(ValueError, match="same labels"):
        bg.GEE(frame)


def test_a_fixed_correlation_survives_saving(epil, tmp_path):
    model = bg.GLMM("y ~ trt + (1 | subject)", epil, family="poisson")
    fit = model.fit(bg.GEE(FIXED[:4, :4], time="period", cov="kauermann-carroll", reference="t"))
    again = bg.load_fit(fit.save(tmp_path / "fit"))
    assert again.method == fit.method and again.interval_kind == fit.interval_kind
    assert again.df == 57
    np.testing.assert_array_equal(again.vcov("mancl-derouen"), fit.vcov("mancl-derouen"))
    pd.testing.assert_frame_equal(again.confint(), fit.confint())


REFUSALS = [
    ("y ~ trt", {}, r"without a grouping factor.*GEE\(cluster='column'\)"),
    ("y ~ trt + (1 | subject) + (1 | period)", {}, r"'subject' and 'period' are crossed.*cluster="),
    ("y ~ trt + (1 | subject)", {"cluster": "subjct"}, "no column 'subjct'"),
    ("y ~ trt + (1 | subject)", {"cluster": "log_base4"}, "floating-point"),
    ("y ~ trt + (1 | subject)", {"time": "when", "corr": "ar1"}, "no column 'when'"),
    ("y ~ trt + (1 | subject)", {"time": "visit", "corr": "ar1"}, "integer waves.*number the"),
    ("y ~ trt + (1 | subject)", {"time": "v4", "corr": "ar1"}, "same cluster of 'subject' at the"),
    ("y ~ trt + (1 | subject)", {"time": "words", "corr": "ar1"}, "text, which has no order"),
    ("y ~ trt + (1 | subject)", {"time": "decade", "corr": "ar1"}, "0 pairs of rows one wave"),
    ("y ~ trt + (1 | subject)", {"cluster": "obs"}, "0 pairs of rows within a cluster"),
    ("y ~ trt + (1 | subject)", {"cluster": "holes"}, "holes 1"),
    ("y ~ trt + (1 | subject)", {"corr": "m-dependent", "m": 4}, "0 pairs of rows 4 waves apart"),
    ("y ~ trt + (1 | subject)", {"corr": "unstructured", "time": "when0"}, "0 clusters with both"),
    ("y ~ trt + (1 | subject)", {"corr": np.eye(3)}, "3 by 3 correlation.*4 rows"),
    ("y ~ trt + (1 | subject)", {"corr": np.eye(3), "time": "period"}, "column has 4 values"),
    ("y ~ trt + (1 | subject)", {"corr": np.eye(4), "waves": (1, 2, 3, 5), "time": "period"},
     "no row of the correlation for period = 4"),
    ("y ~ trt + (1 | subject)", {"corr": np.eye(2), "waves": (1, 2)}, "must say where they are"),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "options", "match"), REFUSALS)
def test_refusals(epil, formula, options, match):
    epil["words"] = [f"t{t}" for t in epil["period"]]
    epil["decade"] = 10 * epil["period"]
    epil["when0"] = epil["subject"].astype(int) + epil["period"]
    epil["holes"] = epil["subject"].astype("Int64").mask(epil["obs"].astype(int) == 3)
    with pytest.raises(ValueError, match=match):
        bg.GLMM(formula, epil, family="poisson").fit(bg.GEE(**options))
