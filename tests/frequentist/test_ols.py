"""OLS(): R's lm and sandwiches, statsmodels, and the identity with GLS in balanced designs."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import bayes_glmm as bg
from bayes_glmm.methods import NotServedError

MILK = {
    "quad_ols": "protein ~ diet + time + I(time^2)",
    "factor_ols": "protein ~ diet + C(time)",
    "linear_x_ols": "protein ~ diet * time",
}
# our kinds -> columns of the reference (computed by hand in R)
KINDS = {
    "naive": "se",
    "robust": "se_cr0",
    "cluster": "se_cr1",
    "kauermann-carroll": "se_cr2",
}


@pytest.mark.parametrize("entry", MILK)
def test_errors_are_those_of_lm_and_the_sandwich_by_hand(entry, reference):
    expected = reference("milk", entry)
    fit = bg.GLMM(MILK[entry] + " + (1 | cow)", bg.load_dataset("milk"), family="gaussian").fit(
        bg.OLS(cov="cluster")
    )
    fixed = pd.DataFrame(expected["fixed"]).T
    np.testing.assert_allclose(np.sort(fit.beta), np.sort(fixed["est"]), rtol=1e-7)
    order = np.argsort(fit.beta), np.argsort(fixed["est"].to_numpy())
    for kind, column in KINDS.items():
        # least squares twice, by QR and by scaled normal equations
        np.testing.assert_allclose(
            fit.se(kind).to_numpy()[order[0]], fixed[column].to_numpy()[order[1]], rtol=1e-7
        )
    assert fit.loglik == pytest.approx(expected["loglik"], abs=1e-6)
    assert fit.dispersion == pytest.approx(expected["sigma"], rel=1e-8)
    assert fit.aic == pytest.approx(expected["aic"], abs=1e-5)
    pd.testing.assert_series_equal(fit.se(), fit.se("cluster"))
    assert fit.interval_kind == "Wald, cluster, t with 78 df"


def test_a_cluster_is_refused_where_it_would_not_be_used():
    with pytest.raises(ValueError, match=r"OLS\(cluster='cow'\) names clusters for cov='cluster'"):
        bg.OLS(cluster="cow")


def test_errors_are_those_of_statsmodels():
    data = bg.load_dataset("sleepstudy")
    fit = bg.GLMM("reaction ~ days", data, family="gaussian").fit(
        bg.OLS(cov="cluster", cluster="subject")
    )
    theirs = sm.OLS(data["reaction"], sm.add_constant(data["days"])).fit(
        cov_type="cluster", cov_kwds={"groups": data["subject"].astype(int)}, use_t=True
    )
    np.testing.assert_allclose(fit.beta, theirs.params, rtol=1e-10)
    np.testing.assert_allclose(fit.se(), theirs.bse, rtol=1e-9)
    limits = fit.confint()[["conf_low", "conf_high"]][:2]
    np.testing.assert_allclose(limits, theirs.conf_int(), rtol=1e-9)


def test_naive_is_the_default():
    data = bg.load_dataset("sleepstudy")
    fit = bg.GLMM("reaction ~ days", data, family="gaussian").fit("ols")
    assert fit.label == "OLS, naive" and not fit.messages
    assert fit.interval_kind == "Wald, naive, t with 178 df"
    with pytest.raises(ValueError, match="no 'cluster' covariance"):
        fit.se("cluster")


@pytest.mark.parametrize(
    "residual", [None, bg.residual.CompoundSymmetry(by="subject")], ids=["intercepts", "symmetry"]
)
def test_in_a_balanced_design_gls_is_ols(residual):
    """Columns that are constant, or alike, in every subject: V^{-1}X spans what X does."""
    random = "" if residual else " + (1 | subject)"
    m = bg.GLMM(
        "reaction ~ days" + random,
        bg.load_dataset("sleepstudy"),
        family="gaussian",
        residual=residual,
    )
    generalized, ordinary = m.fit("reml"), m.fit("ols")
    np.testing.assert_allclose(generalized.beta, ordinary.beta, rtol=1e-9)
    assert generalized.se()["days"] < 0.7 * ordinary.se()["days"]  # the naive one is too large
    assert {"random-terms-ignored", "residual-ignored"} & {x.code for x in ordinary.messages}


def test_in_an_unbalanced_design_gls_is_not_ols():
    data = bg.load_dataset("sleepstudy").iloc[:-7]
    m = bg.GLMM("reaction ~ days + (1 | subject)", data, family="gaussian")
    assert abs(m.fit("reml").beta[1] - m.fit("ols").beta[1]) > 0.01


def test_a_large_mean_costs_no_digits():
    """Against the same response without the mean: 1e8 has digits to 1.5e-8."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"x": np.linspace(0, 50, 200), "g": np.arange(200) % 20})
    data["y"] = 2.0 * data["x"] + rng.normal(size=200)
    near, far = (
        bg.GLMM("y ~ x", d, family="gaussian").fit(bg.OLS(cov="cluster", cluster="g"))
        for d in (data, data.assign(y=1e8 + data["y"]))
    )
    for kind in near.vcovs:
        np.testing.assert_allclose(far.vcov(kind), near.vcov(kind), rtol=1e-6)
    assert far.loglik == pytest.approx(near.loglik, abs=1e-5)
    np.testing.assert_allclose(far.beta - near.beta, [1e8, 0.0], atol=1e-7)


def test_clusters_come_from_the_residual_correlation():
    m = bg.GLMM(
        "protein ~ diet + time",
        bg.load_dataset("milk"),
        family="gaussian",
        residual=bg.residual.Exponential("time", by="cow"),
    )
    assert m.fit(bg.OLS(cov="cluster")).details["clusters"] == 79


def test_what_is_not_served_is_refused():
    data = bg.load_dataset("sleepstudy")
    with pytest.raises(NotServedError, match=r"OLS\(cluster='column'\)"):
        bg.GLMM("reaction ~ days", data, family="gaussian").fit(bg.OLS(cov="cluster"))
    with pytest.raises(ValueError, match=r"OLS\(cov='hc3'\)"):
        bg.OLS(cov="hc3")  # pyright: ignore[reportArgumentType]
    epil = bg.GLMM("y ~ trt", bg.load_dataset("epil"), family="poisson")
    with pytest.raises(NotServedError, match="OLS, naive serves family='gaussian'"):
        epil.fit("ols")
