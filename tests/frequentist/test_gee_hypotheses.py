"""QIC and tests of estimating equations against geepack, statsmodels and brute force."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import chi2, f

import bayes_glmm as bg
from bayes_glmm.families import FAMILIES, get_link

EQUATION = {"association": "equation", "scale": "n"}
STRUCTURES = ["independence", "exchangeable", "ar1"]


@pytest.fixture(scope="module")
def peers():
    return json.loads((Path(__file__).parents[1] / "reference" / "gee.json").read_text())


def model_of(dataset, fixed):
    group, family = {"ohio": ("id", "bernoulli"), "epil": ("subject", "poisson"),
                     "dietox": ("pig", "gaussian")}[dataset]  # fmt: skip
    return bg.GLMM(f"{fixed} + (1 | {group})", bg.load_dataset(dataset), family=family)


QIC_SETS = [
    ("ohio", "resp ~ age * smoke"),
    ("epil", "y ~ log_base4 + trt + log_age + v4"),
    ("dietox", "weight ~ time"),
]


@pytest.mark.parametrize(("dataset", "fixed"), QIC_SETS)
def test_qic_against_geepack(peers, dataset, fixed):
    model = model_of(dataset, fixed)
    fits = {corr: model.fit(bg.GEE(corr, **EQUATION)) for corr in STRUCTURES}
    table = bg.qic(*fits.values(), scale=1.0).set_index("corr")
    independent = np.linalg.inv(fits["independence"].vcov("naive"))
    for corr, fit in fits.items():
        theirs = peers["qic"][dataset][corr]
        # geepack, to 1e-10: no scale in its quasi-likelihood
        quasi = table.loc[corr, "quasi_likelihood"]
        # families leave out other constants of the data
        if dataset != "ohio":
            base = table.loc["independence", "quasi_likelihood"]
            quasi = quasi - base + peers["qic"][dataset]["independence"]["Quasi Lik"]
        assert quasi == pytest.approx(theirs["Quasi Lik"], rel=1e-8)
        # its trace takes the information of the fit with independent rows
        trace = np.sum(independent * fit.vcov("robust").to_numpy())
        assert trace == pytest.approx(theirs["CIC"], rel=1e-6)
    own = bg.qic(fits["independence"]).iloc[0]
    theirs = peers["qic"][dataset]["independence"]
    assert own["scale"] == pytest.approx(theirs["phi"], rel=1e-8)
    assert own["cic"] == pytest.approx(theirs["CIC"], rel=1e-7)
    assert own["qic"] == pytest.approx(-2 * own["quasi_likelihood"] + 2 * theirs["CIC"], rel=1e-9)
    assert own["qicu"] == pytest.approx(-2 * own["quasi_likelihood"] + 2 * len(fit.beta))


def test_qic_differences_against_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    ohio, dietox = bg.load_dataset("ohio"), bg.load_dataset("dietox")
    ohio["inter"], dietox["square"] = ohio["age"] * ohio["smoke"], dietox["time"] ** 2
    cases = [
        (ohio, "resp", "id", "bernoulli", sm.families.Binomial, ["age", "smoke", "inter"]),
        (dietox, "weight", "pig", "gaussian", sm.families.Gaussian, ["time", "square"]),
    ]
    for frame, y, group, family, kind, columns in cases:
        ours, theirs = [], []
        for chosen in (columns[:1], columns):
            model = bg.GLMM(f"{y} ~ {' + '.join(chosen)} + (1 | {group})", frame, family=family)
            ours.append(model.fit("gee"))
            fit = sm.GEE(
                frame[y], sm.add_constant(frame[chosen]), groups=frame[group],
                family=kind(), cov_struct=sm.cov_struct.Exchangeable(),
            ).fit(ctol=1e-10, maxiter=200)  # fmt: skip
            theirs.append(np.array(fit.qic(scale=2.0, n_step=2000)))
        found = bg.qic(*ours, scale=2.0)[["qic", "qicu"]].diff().iloc[1].to_numpy()
        expected = theirs[1] - theirs[0]
        # its integral starts 1e-5 short of the response, by the trapezoid rule
        assert found[1] == pytest.approx(expected[1], rel=1e-3)
        if family == "gaussian":  # its trace leaves out the variance function, 1 for this family
            assert found[0] == pytest.approx(expected[0], rel=1e-3)


@pytest.mark.parametrize("name", ["poisson", "binomial", "gamma", "gaussian"])
def test_quasi_likelihood_is_wedderburns_integral(name):
    """Differences of Q are integrals of ``m (y - t) / V(t)`` from one mean to the other."""
    family = FAMILIES[name]
    link = get_link(family.default_link, family)
    rng = np.random.default_rng(4)
    m = rng.integers(2, 6, 30).astype(float) if family.has_trials else np.ones(30)
    y = family.simulate(rng, np.full(30, 0.4), m, 0.5)
    frame = pd.DataFrame({"y": y, "m": m, "x": rng.normal(size=30), "g": np.arange(30) // 3})
    response = "p(y, m)" if family.has_trials else "y"
    fits = [
        bg.GLMM(f"{response} ~ {right} + (1 | g)", frame, family=name).fit(bg.GEE("independence"))
        for right in ("1", "x")
    ]
    low, high = (link.inverse(f.model.design.in_user_order().X @ f.beta)[0] for f in fits)
    y = y / m if family.has_trials else y
    expected = sum(
        m[i] * quad(lambda u, i=i: (y[i] - u) / family.variance(u, 1.0), low[i], high[i])[0]
        for i in range(30)
    )
    found = bg.qic(*fits, scale=1.0)["quasi_likelihood"].diff().iloc[1]
    assert found == pytest.approx(expected, rel=1e-7)


def test_the_default_scale_is_that_of_most_coefficients():
    small, large = (model_of("epil", f"y ~ {x}").fit("gee") for x in ("v4", "log_base4 + v4"))
    table = bg.qic(small, large)
    assert (table["scale"] == large.details["scale"]).all() and table["npar"].tolist() == [2, 3]
    assert table["label"].tolist() == ["GEE, exchangeable"] * 2


def test_qic_refusals():
    epil = model_of("epil", "y ~ v4")
    gee = epil.fit("gee")
    with pytest.raises(ValueError, match="no fits"):
        bg.qic()
    with pytest.raises(ValueError, match=r"got PQL.*AIC"):
        bg.qic(gee, epil.fit("pql"))
    with pytest.raises(ValueError, match="different responses"):
        bg.qic(gee, model_of("ohio", "resp ~ age").fit("gee"))
    with pytest.raises(ValueError, match="must be positive"):
        bg.qic(gee, scale=0.0)


def test_anova_is_geepacks_wald_test(peers):
    for dataset, small, large in (
        ("ohio", "resp ~ age", "resp ~ age * smoke"),
        ("epil", "y ~ log_base4 + v4", "y ~ log_base4 * trt + log_age + v4"),
    ):
        fits = [model_of(dataset, x).fit(bg.GEE(**EQUATION)) for x in (large, small)]
        table = bg.anova(*fits)
        assert table["npar"].tolist() == sorted(len(fit.beta) for fit in fits)
        last, theirs = table.iloc[1], peers["wald"][dataset]
        assert last["statistic"] == pytest.approx(theirs["statistic"], rel=1e-7)
        assert last["df"] == theirs["df"] and last["reference"] == f"chi2({theirs['df']})"
        assert last["p_value"] == pytest.approx(chi2.sf(theirs["statistic"], theirs["df"]))
        assert np.isnan(table["statistic"].iloc[0]) and table["note"].tolist() == ["", ""]


def test_score_test_against_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    epil = bg.load_dataset("epil").assign(treated=lambda d: (d["trt"] == "progabide") * 1.0)
    columns = ["log_base4", "v4", "treated", "log_age"]

    def theirs(chosen):
        return sm.GEE(
            epil["y"], sm.add_constant(epil[chosen]), groups=epil["subject"],
            family=sm.families.Poisson(), cov_struct=sm.cov_struct.Exchangeable(),
        )  # fmt: skip

    null = theirs(columns[:2]).fit(ctol=1e-10, maxiter=200)
    expected = theirs(columns).compare_score_test(null)
    large, small = (
        bg.GLMM(f"y ~ {' + '.join(c)} + (1 | subject)", epil, family="poisson").fit("gee")
        for c in (columns, columns[:2])
    )
    table = bg.anova(small, large)
    assert table["score_statistic"].iloc[1] == pytest.approx(expected["statistic"], rel=1e-6)
    assert table["score_p_value"].iloc[1] == pytest.approx(expected["p-value"], rel=1e-6)
    alone = bg.score_test(large, ["treated", "log_age"])
    assert alone["statistic"] == pytest.approx(expected["statistic"], rel=1e-6)


def test_tests_of_a_matrix_do_not_depend_on_its_form():
    fit = model_of("epil", "y ~ log_base4 + v4 + log_age").fit("gee")
    L = np.array([[0.0, 1, 0, -1], [0, 0, 1, 1]])
    mixed = np.array([[2.0, 1], [-1, 3]]) @ L
    c = np.array([0.2, -0.4])
    for test in (bg.wald_test, bg.score_test):
        one = test(fit, L, c)
        other = test(fit, mixed, np.array([[2.0, 1], [-1, 3]]) @ c)
        assert one["statistic"] == pytest.approx(other["statistic"], rel=1e-6)
        assert one["df"] == 2 and 0 < one["p_value"] < 1


def test_score_statistic_is_zero_at_the_estimate():
    fit = model_of("ohio", "resp ~ age + smoke").fit("gee")
    found = bg.score_test(fit, "smoke", fit.fixef()["smoke"])
    # alpha is estimated there as with one coefficient less
    assert found["statistic"] == pytest.approx(0, abs=1e-8)


def test_few_clusters_refer_to_f():
    cbpp = bg.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ {} + (1 | herd)"
    fits = [bg.GLMM(formula.format(x), cbpp, family="binomial").fit("gee") for x in ("1", "period")]
    last = bg.anova(*fits).iloc[1]
    assert last["reference"] == "3 F(3, 11)"
    assert last["p_value"] == pytest.approx(f.sf(last["statistic"] / 3, 3, 11))
    single = bg.wald_test(fits[1], "period[T.2]")
    z = fits[1].fixef()["period[T.2]"] / fits[1].se()["period[T.2]"]
    assert single["statistic"] == pytest.approx(z**2)
    plain = bg.wald_test(fits[1], "period[T.2]", cov="robust")
    assert plain["statistic"] > single["statistic"]


def test_a_term_stands_for_all_its_columns():
    fit = bg.GLMM(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        bg.load_dataset("cbpp"),
        family="binomial",
    ).fit("gee")
    columns = [term for term in fit.terms if term.startswith("period")]
    assert len(columns) == 3
    pd.testing.assert_series_equal(bg.wald_test(fit, "period"), bg.wald_test(fit, columns))
    with pytest.raises(ValueError, match="'perod', which is no coefficient and no term"):
        bg.wald_test(fit, "perod")
    with pytest.raises(ValueError, match="one number, or one for each of 3 rows"):
        bg.wald_test(fit, "period", [1, 2])


def test_wald_test_serves_other_methods():
    fit = model_of("epil", "y ~ v4 + log_base4").fit("glm")
    found = bg.wald_test(fit, "v4")
    assert found["statistic"] == pytest.approx((fit.fixef()["v4"] / fit.se()["v4"]) ** 2)


def test_options_that_change_no_equation_are_no_difference():
    """The order of rows is nothing to an exchangeable correlation, but to one by lags."""
    base, more = (model_of("epil", f"y ~ {x}") for x in ("v4", "v4 + log_base4"))
    same = bg.anova(base.fit("gee"), more.fit("gee"))
    other = bg.anova(base.fit(bg.GEE(cluster="subject")), more.fit(bg.GEE(time="period")))
    np.testing.assert_allclose(other["statistic"], same["statistic"], rtol=1e-6)
    with pytest.raises(bg.NotServedError, match=r"time=None\), GEE\(time='period'\).*same time"):
        bg.anova(base.fit(bg.GEE("ar1")), more.fit(bg.GEE("ar1", time="period")))


def test_refusals():
    base, more = (model_of("epil", f"y ~ {x}") for x in ("v4", "v4 + log_base4"))
    small, large = base.fit("gee"), more.fit("gee")
    apart = model_of("epil", "y ~ log_age").fit("gee")
    for fits, match in (
        ((small,), "at least two"),
        ((apart, large), "not nested"),
        ((small, base.fit("gee")), "same coefficients"),
        (
            (small, more.fit(bg.GEE("ar1"))),
            r"'exchangeable'\), GEE\(corr='ar1'.*same corr.*qic",
        ),
        ((small, more.fit(bg.GEE(scale="n"))), r"GEE\(scale='n-p'\), GEE\(scale='n'\)"),
        ((small, model_of("ohio", "resp ~ age").fit("gee")), "rows"),
        ((small, more.fit("glm")), "both by GEE"),
    ):
        with pytest.raises(ValueError, match=match):
            bg.anova(*fits)
    with pytest.raises(ValueError, match="no distribution to simulate"):
        bg.anova(small, large, bootstrap=10)
    with pytest.raises(ValueError, match="names 'v5'"):
        bg.wald_test(small, ["v5"])
    with pytest.raises(ValueError, match="independent rows"):
        bg.wald_test(small, np.ones((2, 2)))
    with pytest.raises(ValueError, match="estimating equations, GEE"):
        bg.score_test(base.fit("glm"), "v4")
