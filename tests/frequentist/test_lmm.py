"""REML() and ML() of linear mixed models against lme4 and nlme, and against dense algebra."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import bayes_glmm as bg
from bayes_glmm.frequentist.lmm import assemble, notes
from bayes_glmm.frequentist.lmm_errors import variance_errors
from bayes_glmm.frequentist.lmm_search import LinearSearch
from bayes_glmm.methods import NotServedError
from bayes_glmm.numerics.threads import one_blas_thread

MILK = {
    "quad": "protein ~ diet + time + I(time^2)",
    "factor": "protein ~ diet + C(time)",
    "linear_x": "protein ~ diet * time",
}
TIME = "weight ~ time + evit + cu"
OTHERS = {
    ("sleepstudy", "slope"): "reaction ~ days + (days | subject)",
    ("sleepstudy", "uncor"): "reaction ~ days + (days || subject)",
    ("sleepstudy", "ri"): "reaction ~ days + (1 | subject)",
    ("penicillin", ""): "diameter ~ 1 + (1 | plate) + (1 | sample)",
    ("dietox", "ri"): TIME + " + (1 | pig)",
    ("dietox", "slope"): TIME + " + (time | pig)",
    ("dietox", "cubic_ri"): "weight ~ cu * (time + I(time^2) + I(time^3)) + (1 | pig)",
    ("dietox", "nested"): TIME + " + (1 | litter) + (1 | pig)",
}


def model(dataset, formula, **options):
    return bg.GLMM(formula, bg.load_dataset(dataset), family="gaussian", **options)


def milk(entry):
    """Give the model of an entry such as ``quad_ri_exp_nugget_reml``."""
    fixed = next(formula for name, formula in MILK.items() if entry.startswith(name))
    residual = None
    if "_exp" in entry:
        residual = bg.residual.Exponential("time", by="cow", nugget="nugget" in entry)
    return model("milk", fixed + " + (1 | cow)" * ("_ri" in entry), residual=residual)


def milk_entries():
    for name in MILK:
        for structure in ("ri", "ri_exp", "ri_exp_nugget", "gls_exp_nugget"):
            for method in ("reml", "ml"):
                late = method == "ml" and name != "quad"
                yield pytest.param(
                    f"{name}_{structure}_{method}", marks=[pytest.mark.slow] if late else []
                )


def agree(fit, expected, printed=1.0):
    """Log-likelihood to 1e-4, estimates to 1e-3 SE, SEs and variances to 1e-3 relative.

    ``printed`` is the factor between the errors that the reference prints and ours.
    """
    fixed = pd.DataFrame(expected["fixed"]).T
    assert fit.converged
    assert fit.loglik == pytest.approx(expected["loglik"], abs=1e-4)
    assert fit.aic == pytest.approx(expected["aic"], abs=2e-4)
    assert fit.npar == expected["df"]
    # formulaic puts an interaction's columns in another order than R: compare by value
    order = np.argsort(fit.beta), np.argsort(fixed["est"].to_numpy())
    found, known = fit.beta[order[0]], fixed["est"].to_numpy()[order[1]]
    error = fixed["se"].to_numpy()[order[1]] / printed
    assert np.max(np.abs(found - known) / error) < 1e-3
    np.testing.assert_allclose(fit.se().to_numpy()[order[0]], error, rtol=1e-3)
    assert fit.dispersion == pytest.approx(expected["sigma"], rel=1e-3)
    table = fit.varcorr()
    for group, parts in expected.get("random", {}).items():
        for term, value in parts["sd"].items():
            name = "Intercept" if term == "(Intercept)" else term
            rows = (table.group == group.split(".")[0]) & (table.term == name) & table.sd.notna()
            # where nlme's SD is next to zero its optimiser stopped on the way there: ours is zero
            assert table[rows].sd.item() == pytest.approx(value, rel=1e-3, abs=2e-4)


@pytest.mark.parametrize("entry", list(milk_entries()))
def test_milk_is_that_of_nlme(entry, reference):
    expected = reference("milk", entry)
    fit = milk(entry).fit(entry.rsplit("_", 1)[1])
    n, p = fit.model.design.X.shape
    # under ML nlme prints errors times sqrt(N / (N - p))
    agree(fit, expected, np.sqrt(n / (n - p)) if entry.endswith("_ml") else 1.0)
    if "corr_struct" in expected:
        values = {
            c.term: x
            for c, x in zip(fit.variance.components, fit.variance.estimate, strict=True)
            if c.is_residual
        }
        # nlme's own convergence leaves the range of flat surfaces about 2e-5 off
        assert 1 / values["phi"] == pytest.approx(expected["corr_struct"]["range"], rel=1e-3)
        if "nugget" in values:
            assert values["nugget"] == pytest.approx(expected["corr_struct"]["nugget"], rel=1e-3)


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize(("dataset", "name"), OTHERS)
def test_fits_are_those_of_lme4(dataset, name, method, reference):
    expected = reference(dataset, f"{name}_{method}".strip("_"))
    fit = model(dataset, OTHERS[dataset, name]).fit(method)
    agree(fit, expected)
    for group, levels in expected["ranef_head"].items():
        if "." in group:
            continue
        effects = fit.ranef().query("group == @group").set_index(["level", "term"])
        for level, terms in levels.items():
            for term, value in terms.items():
                at = effects.loc[(level, "Intercept" if term == "(Intercept)" else term)]
                scale = effects["sd"].max()
                assert at.estimate == pytest.approx(value["mode"], abs=1e-3 * scale)
                if value["sd"] is not None:
                    assert at.sd == pytest.approx(value["sd"], rel=1e-3)


@pytest.mark.parametrize("residual", ["AR1", "CompoundSymmetry", "Unstructured"])
def test_log_likelihood_is_that_of_the_normal_density(residual):
    """Dense covariance at the estimates, SciPy's density; a higher value nowhere nearby."""
    data = bg.load_dataset("dietox").query("time <= 4").reset_index(drop=True)
    data["week"] = data["time"].astype(int)
    options = {"by": "pig"} | ({} if residual == "CompoundSymmetry" else {"time": "week"})
    m = bg.GLMM(
        "weight ~ time + cu",
        data,
        family="gaussian",
        residual=getattr(bg.residual, residual)(**options),
    )
    fit = m.fit("ml")
    assert fit.converged and not fit.messages
    correlation, rows = m.residual, m.repeated
    start = fit.variance.estimate[:-1]

    def density(alpha):
        V = np.eye(m.design.n)
        for level in np.unique(rows.cluster):
            (at,) = np.nonzero(rows.cluster == level)
            at = at[np.argsort(rows.time[at])]
            V[np.ix_(at, at)] = correlation.correlation(alpha, correlation.geometry(rows.time[at]))
        return multivariate_normal(m.design.X @ fit.beta, fit.dispersion**2 * V).logpdf(m.design.y)

    with one_blas_thread():
        # rounding of a determinant of order 290
        assert fit.loglik == pytest.approx(density(start), abs=1e-7)
        for step in np.r_[np.eye(len(start)), -np.eye(len(start))] * 0.01:
            assert density(start + step) < fit.loglik


def test_satterthwaite_of_balanced_slopes_is_subjects_less_one():
    """lmerTest's summary of this model prints 17 for both coefficients."""
    fit = model("sleepstudy", OTHERS["sleepstudy", "slope"]).fit("reml")
    # differences of the covariance with steps of 1e-4: relative error 1e-6
    np.testing.assert_allclose(fit.tidy().df[:2], 17.0, rtol=1e-5)
    t = 2.1098155778331806  # 97.5 % point of t with 17 degrees of freedom
    days = fit.confint().set_index("term").loc["days"]
    assert days.conf_high - days.conf_low == pytest.approx(2 * t * fit.se()["days"], rel=1e-6)
    assert fit.interval_kind == "Wald, t with Satterthwaite's df"


def test_satterthwaite_in_classical_designs():
    """Random intercepts, balanced: within-subject contrasts have (J - 1)(T - 1) + … rows' df.

    With J = 18 subjects of 10 rows and one slope, a within-subject coefficient has
    J T - J - 1 degrees of freedom; without random effects all have n - p.
    """
    fit = model("sleepstudy", "reaction ~ days + (1 | subject)").fit("reml")
    assert fit.tidy().df[1] == pytest.approx(180 - 18 - 1, rel=1e-5)
    least_squares = model("sleepstudy", "reaction ~ days").fit("reml")
    np.testing.assert_allclose(least_squares.df, 178.0, rtol=1e-9)


def test_satterthwaite_against_differences_of_the_likelihood():
    """From the criterion and Var(beta) in other coordinates: log SDs, correlation as an angle.

    Degrees of freedom do not depend on the coordinates at the maximum. Second differences
    with steps of 2e-3 have relative errors of about 1e-4.
    """
    m = model("dietox", OTHERS["dietox", "slope"])
    fit = m.fit("reml")
    search = LinearSearch.of(m, True)
    sd0, sd1, rho, sigma = fit.variance.estimate

    def at(psi):
        s0, s1, s = np.exp(psi[[0, 1, 3]])
        r = np.cos(psi[2])
        L = np.linalg.cholesky([[s0**2, r * s0 * s1], [r * s0 * s1, s1**2]]) / s
        state = search.problem.at(np.array([L[0, 0], L[1, 0], L[1, 1]]), np.zeros(0))
        return state.criterion(True, s**2), s**2 * np.diag(state.beta_covariance)

    psi = np.array([np.log(sd0), np.log(sd1), np.arccos(rho), np.log(sigma)])
    h = 2e-3
    steps = h * np.eye(4)
    information = np.array(
        [
            [
                (
                    at(psi + a + b)[0] - at(psi + a - b)[0]
                    - at(psi - a + b)[0] + at(psi - a - b)[0]
                ) / (8 * h * h)
                for b in steps
            ]
            for a in steps
        ]
    )  # fmt: skip
    slopes = np.array([(at(psi + a)[1] - at(psi - a)[1]) / (2 * h) for a in steps])
    spread = np.einsum("mk,mn,nk->k", slopes, np.linalg.inv(information), slopes)
    np.testing.assert_allclose(fit.df, 2 * np.diag(fit.vcov()) ** 2 / spread, rtol=1e-3)


def test_prediction_errors_hold_hendersons_and_the_correction():
    """Balanced one-way model: everything in closed form.

    With K groups of m rows, s = sigma² + m tau², the shrinkage is w = m tau² / s and
    Henderson's error is tau² (1 - w) + w² s / (m K). Of the variance parameters the prediction
    depends on w only: the correction is (mean - grand mean)² Var(w), Var(w) by the delta method
    from the independent mean squares.
    """
    rng = np.random.default_rng(5)
    K, m = 12, 5
    group = np.repeat(np.arange(K), m)
    y = rng.normal(size=K)[group] * 1.5 + rng.normal(size=K * m)
    data = pd.DataFrame({"y": y, "g": group})
    fit = bg.GLMM("y ~ 1 + (1 | g)", data, family="gaussian").fit("reml")
    means = y.reshape(K, m).mean(axis=1)
    within = np.sum((y - means[group]) ** 2) / (K * (m - 1))
    between = m * np.var(means, ddof=1)
    tau2 = (between - within) / m
    assert fit.variance.estimate == pytest.approx([np.sqrt(tau2), np.sqrt(within)], rel=1e-6)
    w = 1 - within / between
    henderson = tau2 * (1 - w) + w**2 * between / (m * K)
    # 1 - w = within / between, whose log has variance 2/(K(m-1)) + 2/(K-1)
    variance_of_w = (1 - w) ** 2 * (2 / (K * (m - 1)) + 2 / (K - 1))
    expected = np.sqrt(henderson + (means - means.mean()) ** 2 * variance_of_w)
    # differences with relative steps of 1e-4
    np.testing.assert_allclose(fit.ranef(error="corrected").sd, expected, rtol=1e-6)
    conditional = np.sqrt(tau2 * (1 - w))
    np.testing.assert_allclose(fit.ranef().sd, conditional, rtol=1e-6)


def test_a_variance_of_zero_is_found_and_said():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"g": np.repeat(np.arange(8), 6), "x": rng.normal(size=48)})
    noise = rng.normal(size=(8, 6))
    data["y"] = (noise - noise.mean(axis=1, keepdims=True)).ravel()
    fit = bg.GLMM("y ~ x + (1 | g)", data, family="gaussian").fit("reml")
    assert fit.variance.estimate[0] == 0.0 and np.isnan(fit.variance.std_error[0])
    assert {m.code for m in fit.messages} == {"zero-variance"}
    plain = bg.GLMM("y ~ x", data, family="gaussian").fit("reml")
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-8)
    np.testing.assert_allclose(fit.df, 46.0, rtol=1e-6)


def test_a_correlation_of_one_is_found():
    """The slope of every group is twice its intercept."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(15), 8)
    x = np.tile(np.linspace(-1, 1, 8), 15)
    b = rng.normal(size=15)[g]
    data = pd.DataFrame({"y": b + 2 * b * x + 0.8 * rng.normal(size=120), "x": x, "g": g})
    fit = bg.GLMM("y ~ x + (x | g)", data, family="gaussian").fit("reml")
    better = bg.GLMM("y ~ x + (1 | g)", data, family="gaussian").fit("reml")
    assert fit.loglik > better.loglik + 10
    assert fit.varcorr()["corr"].dropna().item() == pytest.approx(1.0, abs=1e-9)
    assert "correlation-at-limit" in {m.code for m in fit.messages}
    assert np.isnan(fit.variance.std_error[2]) and np.isfinite(fit.variance.std_error[:2]).all()


def series(seed, wander=0.0):
    """Twelve subjects with six rows of noise each, and a random walk of ``wander`` a step."""
    rng = np.random.default_rng(seed)
    group, time = np.repeat(np.arange(12), 6), np.tile(np.arange(6.0), 12)
    y = rng.normal(size=72) + wander * np.cumsum(rng.normal(size=(12, 6)), axis=1).ravel()
    return pd.DataFrame({"y": y, "t": time, "g": group})


def short_series(seed, wander=0.0, formula="y ~ t"):
    residual = bg.residual.Exponential("t", by="g", nugget=True)
    return bg.GLMM(formula, series(seed, wander), family="gaussian", residual=residual)


@pytest.mark.parametrize(("seed", "wander"), [(1, 0.7), (2, 0.0), (3, 0.7), (4, 0.0), (6, 0.0)])
def test_the_highest_of_several_maxima_is_found(seed, wander):
    """Nowhere on a fine grid of phi and nugget is the restricted likelihood higher."""
    m = short_series(seed, wander)
    fit = m.fit("reml")
    assert fit.converged
    search = LinearSearch.of(m, True)
    with one_blas_thread():
        grid = [
            search.value(np.array([log_phi, logit]))
            for log_phi in np.linspace(np.log(1e-6), np.log(20.0), 40)
            for logit in np.linspace(-13.0, 13.0, 27)
        ]
    # to the accuracy with which a parameter is set to its limit
    assert fit.loglik >= -0.5 * min(grid) - 1e-6


def test_a_lower_maximum_and_a_limit_are_said():
    found = {seed: short_series(seed).fit("reml") for seed in range(12)}
    codes = {seed: {m.code for m in fit.messages} for seed, fit in found.items()}
    assert all(fit.converged for fit in found.values())
    two = [seed for seed in found if "other-maximum" in codes[seed]]
    limits = [seed for seed in found if "residual-correlation-at-limit" in codes[seed]]
    assert two and limits  # noise has no correlation: most of these are at a limit
    (said,) = [m for m in found[two[0]].messages if m.code == "other-maximum"]
    assert "residual phi" in said.happened and "residual nugget" in said.happened
    for seed in limits:
        low, high = found[seed].confint()[["conf_low", "conf_high"]].to_numpy()[2:4].T
        assert np.isnan(low).any() and np.isnan(high).any()


def test_a_ridge_is_called_what_it_is():
    """Of two rows in each group no correlation can be told from a random intercept."""
    rng = np.random.default_rng(2)
    data = series(1).assign(y=lambda d: d["y"] + rng.normal(size=12)[d["g"]]).query("t < 2")
    residual = bg.residual.AR1("t", by="g")
    fit = bg.GLMM("y ~ t + (1 | g)", data, family="gaussian", residual=residual).fit("reml")
    assert "information-not-positive-definite" in {m.code for m in fit.messages}
    plain = bg.GLMM("y ~ t + (1 | g)", data, family="gaussian").fit("reml")
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-6)


def test_columns_of_any_scale_and_place_give_the_same_fit():
    """The restricted log-likelihood changes by the log of the scale, nothing else."""
    data = bg.load_dataset("sleepstudy").assign(year=lambda d: 2000 + d["days"] / 1000)
    fit = bg.GLMM("reaction ~ days + (days | subject)", data, family="gaussian").fit("reml")
    far = bg.GLMM("reaction ~ year + (days | subject)", data, family="gaussian").fit("reml")
    # |X'V^{-1}X| is scaled by 1000^-2
    assert far.loglik == pytest.approx(fit.loglik + np.log(1000), abs=1e-5)
    np.testing.assert_allclose(far.beta[1], 1000 * fit.beta[1], rtol=1e-6)
    assert far.variance.estimate == pytest.approx(fit.variance.estimate, rel=1e-5)


def far_from_zero(method, shift):
    """Fits of a slope whose column starts at zero, and far away."""
    near = bg.load_dataset("sleepstudy")
    far = near.assign(days=near["days"] + shift)
    formula = "reaction ~ days + (days | subject)"
    models = [bg.GLMM(formula, data, family="gaussian") for data in (near, far)]
    return models, [model.fit(method) for model in models]


@pytest.mark.parametrize("shift", [2000, 20_000])  # years; days since 1970
@pytest.mark.parametrize(
    "method",
    [bg.REML(), bg.ML(), bg.REML(df="kenward-roger"), bg.PQL(), bg.MQL()],
    ids=["reml", "ml", "kenward-roger", "pql", "mql"],
)
def test_slopes_of_a_column_far_from_zero_are_those_of_one_near_it(method, shift):
    """The same model: the intercepts are those at zero, all else stays.

    What rounds are the user's own parameters: an intercept and its variance at zero lose
    ``shift`` and ``shift^2`` times the precision of a double to the cancellation of their parts.
    """
    models, (near, far) = far_from_zero(method, shift)
    if near.loglik is not None:
        assert far.loglik == pytest.approx(near.loglik, abs=1e-7)
    assert near.converged and far.converged
    codes = [[m.code for m in fit.messages] for fit in (near, far)]
    assert codes[1] == ["distant-origin", *codes[0]]
    sd, slope, corr, sigma = near.variance.estimate
    at_zero = np.sqrt(sd**2 - 2 * shift * corr * sd * slope + (shift * slope) ** 2)
    found = far.variance.estimate
    np.testing.assert_allclose(found[[0, 1, 3]], [at_zero, slope, sigma], rtol=1e-5)
    np.testing.assert_allclose(far.beta[1], near.beta[1], rtol=1e-6)
    np.testing.assert_allclose(far.se().iloc[1], near.se().iloc[1], rtol=1e-5)
    if method.name == "mql":
        return
    rows = [model.design.frame.iloc[:20] for model in models]
    predicted = [
        fit.predict(frame)["estimate"] for fit, frame in zip((near, far), rows, strict=True)
    ]
    np.testing.assert_allclose(predicted[1], predicted[0], rtol=1e-6)


def test_a_correlation_of_one_is_told_from_a_distant_origin():
    rng = np.random.default_rng(7)
    g, t = np.repeat(np.arange(40), 6), np.tile(np.arange(6.0), 40)
    b = rng.normal(size=40)
    y = 3 * b[g] + b[g] * t + rng.normal(size=240)  # the intercept at t = 0 is 3 times the slope
    for shift, codes in (
        (0, {"correlation-at-limit"}),
        (2000, {"correlation-at-limit", "distant-origin"}),
    ):
        data = pd.DataFrame({"y": y, "t": t + shift, "g": g})
        fit = bg.GLMM("y ~ t + (t | g)", data, family="gaussian").fit("reml")
        assert {m.code for m in fit.messages} == codes


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize(
    "residual", [bg.residual.CompoundSymmetry(by="g"), bg.residual.Unstructured("t", by="g")]
)
def test_a_random_intercept_beside_correlations_that_hold_it_is_refused(residual, method):
    data = series(1).assign(site=lambda d: d["g"] // 3, h=lambda d: 7 - d["g"])
    for effects in ("(1 | g)", "(t | g)", "(1 | h)"):
        m = bg.GLMM(f"y ~ t + {effects}", data, family="gaussian", residual=residual)
        with pytest.raises(NotServedError, match=r"cannot tell a random intercept of '[gh]' from"):
            m.fit(method)
    # levels of several clusters, and effects that are no intercepts, can be told
    for effects in ("(1 | site)", "(0 + t | g)"):
        bg.GLMM(f"y ~ t + {effects}", data, family="gaussian", residual=residual).fit(method)


@pytest.mark.parametrize(("method", "loglik"), [("reml", -821.8608), ("ml", -825.2768)])
def test_many_correlations_are_found_as_by_gls(method, loglik):
    """R 4.2.2, nlme 3.1: gls(Reaction ~ Days, correlation = corSymm(form = ~ 1 | Subject))."""
    residual = bg.residual.Unstructured("days", by="subject")
    fit = model("sleepstudy", "reaction ~ days", residual=residual).fit(method)
    error, sigma, first = {
        "reml": ([5.65743904, 0.90999792], 51.126138, [0.87459192, 0.74473082, 0.68858839]),
        "ml": ([5.22791846, 0.89227817], 50.536957, [0.87195144, 0.74153453, 0.68243380]),
    }[method]
    assert fit.converged and fit.loglik == pytest.approx(loglik, abs=1e-4)
    # gls ends where its criterion is level to 1e-7 of itself, 1e-2 standard errors; its errors by
    # ML have the divisor n - p
    divisor = 1.0 if method == "reml" else np.sqrt(178 / 180)
    np.testing.assert_allclose(fit.se(), divisor * np.array(error), rtol=1e-3)
    assert fit.dispersion == pytest.approx(sigma, rel=1e-3)
    np.testing.assert_allclose(fit.variance.residual[:3], first, atol=1e-3)
    assert not fit.messages  # both starts lead to one maximum


def test_a_message_names_few_of_many_parameters():
    residual = bg.residual.Unstructured("t", by="g")
    m = bg.GLMM("y ~ t", series(1), family="gaussian", residual=residual)
    search = LinearSearch.of(m, True)
    maximum = replace(search.maximise(), others=((1e3, np.linspace(0.1, 0.2, 15)),))
    sigma2 = maximum.state.variance(True)
    errors = variance_errors(search, maximum, sigma2)
    variance = assemble(m, search, maximum, errors, sigma2, None)["variance"]
    (said,) = [n for n in notes(m, maximum, errors, variance, None) if n.code == "other-maximum"]
    assert said.happened.endswith("residual corr(0~3) 0.114 and 12 more.")


RESIDUALS = {"independent": None, "exponential": bg.residual.Exponential("time", by="cow")}


@pytest.mark.parametrize("method", ["reml", "ml", bg.REML(df="kenward-roger")], ids=str)
@pytest.mark.parametrize("residual", RESIDUALS)
def test_what_the_columns_span_may_be_added_to_the_response(residual, method):
    """Adding a combination of the columns of X moves the coefficients by it, and nothing else."""
    data = bg.load_dataset("milk")
    columns = 1e8 * (1.0 + (data["diet"] == "lupins")) + 1e6 * data["time"]
    moved = data.assign(protein=data["protein"] + columns)
    near, far = (
        bg.GLMM(
            "protein ~ diet + time + (1 | cow)", d, family="gaussian", residual=RESIDUALS[residual]
        ).fit(method)
        for d in (data, moved)
    )
    # 2e8 has digits to 3e-8, a ten-millionth of the residual SD: what 1,337 rows make of it
    assert far.converged
    assert far.loglik == pytest.approx(near.loglik, abs=1e-4)
    np.testing.assert_allclose(far.se(), near.se(), rtol=1e-5)
    np.testing.assert_allclose(far.variance.estimate, near.variance.estimate, rtol=1e-5)
    # what least squares loses of 2e8, whose columns have this condition
    lost = np.linalg.cond(near.model.design.X) * np.finfo(float).eps * 2e8
    assert lost < 1e-5
    np.testing.assert_allclose(far.beta - near.beta, [1e8, 0, 1e8, 1e6], rtol=0, atol=lost)
    np.testing.assert_allclose(far.ranef()["estimate"], near.ranef()["estimate"], atol=1e-6)
    if near.df is not None:
        np.testing.assert_allclose(far.df, near.df, rtol=1e-4)


def test_a_large_mean_is_fitted_as_by_lme4():
    """R 4.2, lme4 1.1-31: lmer(protein + 1e8 ~ diet + time + (1 | cow), nlme's Milk)."""
    data = bg.load_dataset("milk").assign(protein=lambda d: d["protein"] + 1e8)
    fit = bg.GLMM("protein ~ diet + time + (1 | cow)", data, family="gaussian").fit("reml")
    assert fit.loglik == pytest.approx(-252.970, abs=1e-3)
    assert fit.se()["diet[T.barley+lupins]"] == pytest.approx(0.0500, abs=5e-5)
    assert fit.variance.estimate[0] == pytest.approx(0.1673, abs=5e-5)


def test_profiles_and_tests_do_not_see_the_mean():
    data = bg.load_dataset("sleepstudy")
    ends, statistics = [], []
    for mean in (0.0, 1e7):
        d = data.assign(reaction=data["reaction"] + mean)
        fit = bg.GLMM("reaction ~ days + (1 | subject)", d, family="gaussian").fit("reml")
        ends.append(fit.confint(method="profile")[["conf_low", "conf_high"]].to_numpy())
        statistics.append(bg.boundary_test(fit, "subject").statistic)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-6)
    assert statistics[1] == pytest.approx(statistics[0], rel=1e-6)


@pytest.mark.parametrize("unit", [7, 168, 1000])
def test_autoregression_is_found_in_any_unit_of_time(unit):
    """rho^unit and the likelihood are those of time in weeks (nlme: gls with corAR1, -81.977)."""
    data = bg.load_dataset("milk")
    residual = bg.residual.AR1("time", by="cow")
    for formula, loglik in (("protein ~ diet", -81.9773), ("protein ~ diet + (1 | cow)", -80.1872)):
        week, fine = (
            bg.GLMM(formula, d, family="gaussian", residual=residual).fit("reml")
            for d in (data, data.assign(time=unit * data["time"]))
        )
        assert week.loglik == pytest.approx(loglik, abs=1e-4)
        assert fine.loglik == pytest.approx(week.loglik, abs=1e-7) and fine.converged
        np.testing.assert_allclose(fine.variance.residual**unit, week.variance.residual, rtol=1e-6)
        np.testing.assert_allclose(fine.se(), week.se(), rtol=1e-6)


@pytest.mark.parametrize("unit", [1, 7])
def test_negative_autoregression_is_found(unit):
    rng = np.random.default_rng(3)
    e = np.empty((40, 8))
    e[:, 0] = rng.normal(size=40)
    for j in range(1, 8):
        e[:, j] = -0.6 * e[:, j - 1] + 0.8 * rng.normal(size=40)
    time = unit * np.tile(np.arange(8), 40)
    data = pd.DataFrame({"y": e.ravel(), "t": time, "g": np.repeat(np.arange(40), 8)})
    residual = bg.residual.AR1("t", by="g")
    fit = bg.GLMM("y ~ 1", data, family="gaussian", residual=residual).fit("reml")
    rho = fit.variance.residual[0]
    # of 320 rows the standard error of a correlation of -0.6 is about 0.045
    assert fit.converged and rho < 0 and -(np.abs(rho) ** unit) == pytest.approx(-0.6, abs=0.18)


def test_rows_may_come_in_any_order():
    data = bg.load_dataset("milk")
    shuffled = data.sample(frac=1, random_state=1)
    options = {
        "family": "gaussian",
        "residual": bg.residual.Exponential("time", by="cow", nugget=True),
    }
    one, two = (
        bg.GLMM("protein ~ diet + time + (1 | cow)", rows, **options).fit("ml")
        for rows in (data, shuffled)
    )
    assert one.loglik == pytest.approx(two.loglik, abs=1e-7)
    np.testing.assert_allclose(one.beta, two.beta, rtol=1e-6)


# what REML is compared with


def test_anova_compares_random_parts_of_reml_fits():
    expected = boundary_tests()["slope_corr_vs_ri_reml"]
    fits = [model("sleepstudy", OTHERS["sleepstudy", name]).fit("reml") for name in ("ri", "slope")]
    table = bg.anova(*fits)
    assert table.statistic[1] == pytest.approx(expected["lrt"], abs=1e-4)
    assert table.p_value[1] == pytest.approx(expected["p_mixture_chi2_1_chi2_2"], rel=1e-3)


def boundary_tests():
    path = Path(__file__).parents[1] / "reference" / "sleepstudy.json"
    return json.loads(path.read_text(encoding="utf-8"))["boundary_tests"]


def test_anova_refuses_reml_fits_with_different_fixed_parts():
    small = model("sleepstudy", "reaction ~ 1 + (1 | subject)")
    large = model("sleepstudy", "reaction ~ days + (1 | subject)")
    with pytest.raises(ValueError, match=r"different fixed parts.*refit both by ML\(\)"):
        bg.anova(small.fit("reml"), large.fit("reml"))
    with pytest.raises(ValueError, match=r"all by REML\(\), or all by ML\(\)"):
        bg.anova(small.fit("reml"), large.fit("ml"))
    assert bg.anova(small.fit("ml"), large.fit("ml")).p_value[1] < 1e-10


def test_anova_tests_fixed_parts_under_one_residual_correlation():
    residual = bg.residual.AR1("time", by="cow")
    fits = [
        model("milk", f"protein ~ {fixed} + (1 | cow)", residual=residual).fit("ml")
        for fixed in ("time", "time + diet")
    ]
    table = bg.anova(*fits)
    assert table.df[1] == 2
    assert table.statistic[1] == pytest.approx(2 * (fits[1].loglik - fits[0].loglik))
    other = model("milk", "protein ~ time + diet").fit("glm")
    with pytest.raises(ValueError, match=r"same\s+residual="):
        bg.anova(fits[0], other)


# what is refused


def test_other_families_are_named():
    data = bg.load_dataset("epil")
    with pytest.raises(NotServedError, match=r"REML serves family='gaussian'.*'poisson'"):
        bg.GLMM("y ~ trt + (1 | subject)", data, family="poisson").fit("reml")


def test_one_row_in_every_level_is_refused():
    data = bg.load_dataset("sleepstudy").assign(row=np.arange(180))
    with pytest.raises(ValueError, match="one row in each of its 180 levels"):
        bg.GLMM("reaction ~ days + (1 | row)", data, family="gaussian").fit("reml")


def test_an_exact_fit_is_refused():
    data = pd.DataFrame({"y": np.arange(12.0), "x": np.arange(12.0), "g": np.repeat([1, 2, 3], 4)})
    with pytest.raises(ValueError, match="fit 'y' exactly"):
        bg.GLMM("y ~ x + (1 | g)", data, family="gaussian").fit("reml")


def test_a_fit_is_saved_with_its_correlation_and_degrees_of_freedom(tmp_path):
    m = model(
        "milk",
        "protein ~ time + (1 | cow)",
        residual=bg.residual.Exponential("time", by="cow", nugget=True),
    )
    fit = m.fit("reml")
    again = bg.load_fit(fit.save(tmp_path / "milk.fit"))
    assert again.model.residual == m.residual
    pd.testing.assert_frame_equal(again.tidy(), fit.tidy())
    pd.testing.assert_frame_equal(again.ranef(error="corrected"), fit.ranef(error="corrected"))


def test_predictions_of_contrasts_have_their_own_degrees_of_freedom():
    """A balanced random-slopes model has 17 for every row."""
    fit = model("sleepstudy", OTHERS["sleepstudy", "slope"]).fit("reml")
    rows = fit.predict(effects="zero")
    half = (rows.conf_high - rows.conf_low) / 2 / rows.std_error
    np.testing.assert_allclose(half, 2.1098155778331806, rtol=1e-5)


def test_a_wald_test_of_several_coefficients_has_denominator_df():
    """Balanced: both coefficients have 17, so has the F test of the two together."""
    fit = model("sleepstudy", OTHERS["sleepstudy", "slope"]).fit("reml")
    assert bg.wald_test(fit, ["days"]).reference == "1 F(1, 17)"
    assert bg.wald_test(fit, ["Intercept", "days"]).reference == "2 F(2, 17)"


def test_simulated_residuals_have_the_fitted_correlation():
    """Variogram of 300 simulated data sets: mean products of rows one time apart."""
    m = model("milk", "protein ~ time", residual=bg.residual.AR1("time", by="cow"))
    fit = m.fit("ml")
    rho, sigma = fit.variance.estimate
    frame = m.design.frame
    left = fit.simulate(n=300, seed=3).sub(fit.predict(effects="zero").estimate, axis=0)
    order = np.lexsort((frame["time"], frame["cow"].astype(str)))
    values, cow = left.to_numpy()[order], frame["cow"].astype(str).to_numpy()[order]
    time = frame["time"].to_numpy()[order]
    next_to = (cow[1:] == cow[:-1]) & (np.diff(time) == 1)
    product = (values[1:] * values[:-1])[next_to].mean() / sigma**2
    # 300 sets of 79 subjects, some 15 pairs each: standard error below .005
    assert product == pytest.approx(rho, abs=0.02)
