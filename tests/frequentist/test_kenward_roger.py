"""Kenward & Roger's inference against pbkrtest, dense algebra, exact designs and simulation."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_glmm as bg
from bayes_glmm.frequentist.kenward_roger import match_f
from bayes_glmm.methods import NotServedError
from bayes_glmm.numerics.row_blocks import connected_rows

KR = bg.REML(df="kenward-roger")
PATH = Path(__file__).parents[1] / "reference" / "kenward_roger.json"
ENTRIES = json.loads(PATH.read_text(encoding="utf-8"))["entries"]
DATASETS = ("sleepstudy", "penicillin", "dietox", "sires")


def model(formula, data, **options):
    return bg.GLMM(formula, data, family="gaussian", **options)


@cache
def data_of(entry: str) -> pd.DataFrame:
    """Data of a reference entry, with R's reference levels."""
    name = entry.split("_")[0]
    if name not in DATASETS:
        return pd.DataFrame(ENTRIES[entry]["data"])
    data = bg.load_dataset(name)
    if entry == "sleepstudy_few":
        number = data["subject"].astype("category").cat.codes + 1
        data = data[(data.days % 3 == 0) & ~((number % 4 == 0) & (data.days > 3))]
    return data


@cache
def fit_of(entry: str, df: str = "kenward-roger"):
    return model(ENTRIES[entry]["formula"], data_of(entry)).fit(bg.REML(df=df))


def places(entry: str) -> np.ndarray:
    """Positions of R's coefficients among ours, whose interactions are in another order."""
    known = np.atleast_1d(ENTRIES[entry]["beta"])  # R writes one number as a scalar
    found = np.empty(len(known), int)
    found[np.argsort(known)] = np.argsort(fit_of(entry).beta)
    return found


@pytest.mark.parametrize("entry", ENTRIES)
def test_covariance_and_degrees_of_freedom_are_those_of_pbkrtest(entry):
    """Standard errors scale the comparison; lmer, restarted, ends within 1e-7 of them."""
    fit, expected, at = fit_of(entry), ENTRIES[entry], places(entry)
    assert fit.loglik == pytest.approx(expected["loglik"], abs=1e-7)
    error = np.sqrt(np.diag(np.atleast_2d(expected["vcov"])))
    np.testing.assert_allclose(fit.beta[at], expected["beta"], atol=1e-6 * error.min())
    for kind, name in (("model", "vcov"), ("kenward-roger", "vcov_adjusted")):
        ours = fit.vcov(kind).to_numpy()[np.ix_(at, at)]
        np.testing.assert_allclose(
            ours / np.outer(error, error), expected[name] / np.outer(error, error), atol=1e-6
        )
    np.testing.assert_allclose(fit.df[at], np.atleast_1d(expected["df"]), rtol=1e-6)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if ENTRIES[e]["tests"]])
def test_joint_tests_are_those_of_pbkrtest_and_lmertest(entry):
    """The reference is written with six digits."""
    fit, plain, at = fit_of(entry), fit_of(entry, "satterthwaite"), places(entry)
    for test in ENTRIES[entry]["tests"]:
        L = np.eye(len(fit.beta))[at[[ENTRIES[entry]["terms"].index(t) for t in test["terms"]]]]
        found, expected = bg.wald_test(fit, L), test["kenward_roger"]
        assert found.scale == pytest.approx(expected["scale"], rel=1e-7)
        assert found.statistic / len(L) == pytest.approx(expected["F"], rel=1e-6)
        assert found.p_value == pytest.approx(expected["p"], rel=1e-5)
        assert denominator(found) == pytest.approx(expected["ddf"], rel=6e-6)
        found, expected = bg.wald_test(plain, L), test["satterthwaite"]
        assert "scale" not in found
        assert found.statistic / len(L) == pytest.approx(expected["F"], rel=1e-6)
        # lmerTest takes its derivatives by differences, and so do we
        assert denominator(found) == pytest.approx(expected["ddf"], rel=1e-5)


def denominator(test: pd.Series) -> float:
    return float(test.reference.split(", ")[1][:-1])


def paper(V, first, second, X):
    """Write Kenward & Roger (1997, 2009) with dense matrices, term by term.

    ``first`` are derivatives of V, ``second`` a dict of second ones. The bias of the parameters'
    estimates is Cox & Snell's for the restricted likelihood.
    """
    r, inverse = len(first), np.linalg.inv(V)
    phi = np.linalg.inv(X.T @ inverse @ X)
    projection = inverse - inverse @ X @ phi @ X.T @ inverse
    moved = [projection @ one for one in first]
    information = np.array([[np.trace(a @ b) / 2 for b in moved] for a in moved])
    W = np.linalg.inv(information)
    P = [-X.T @ inverse @ one @ inverse @ X for one in first]
    bracket, bend = np.zeros_like(phi), np.zeros_like(V)
    for i in range(r):
        for j in range(r):
            Q = X.T @ inverse @ first[i] @ inverse @ first[j] @ inverse @ X
            twice = second.get((min(i, j), max(i, j)), np.zeros_like(V))
            R = X.T @ inverse @ twice @ inverse @ X
            bracket += W[i, j] * (Q - P[i] @ phi @ P[j] - R / 4)
            bend += W[i, j] * twice
    bias = -W @ [np.trace(projection @ bend @ one) / 4 for one in moved]
    slopes = [-phi @ one @ phi for one in P]
    adjusted = phi + 2 * phi @ bracket @ phi - sum(b * s for b, s in zip(bias, slopes, strict=True))
    df = [
        2 * phi[k, k] ** 2 / (g @ W @ g)
        for k, g in enumerate(np.array(slopes).diagonal(axis1=1, axis2=2).T)
    ]
    return adjusted, np.array(df), W, P, phi


def parts(fit):
    """Give V of a fit and its derivatives by covariances, variance and residual parameters."""
    d = fit.model.design
    sigma2, same, first, V = fit.dispersion**2, np.eye(d.n), [], 0.0
    for g in d.groups:
        sd, corr = fit.variance.of(g.group)
        C = np.eye(g.q)
        for (i, j), value in zip(g.pairs, corr, strict=True):
            C[i, j] = C[j, i] = value
        D = C * np.outer(sd, sd)
        A = np.eye(g.n_levels) if g.covariance is None else g.covariance
        A = A[np.ix_(g.index, g.index)]
        V = V + A * (g.Z @ D @ g.Z.T)
        for block in g.blocks:
            for at, j in enumerate(block):
                for i in block[at:]:
                    one = np.outer(g.Z[:, i], g.Z[:, j])
                    first.append(A * (one if i == j else one + one.T))
    rows, second = fit.model.repeated, {}
    if rows is not None:
        same = (rows.cluster[:, None] == rows.cluster) * 1.0
        lag = np.abs(rows.time[:, None] - rows.time)
        R, slopes, bends = written_out(fit.model.residual, fit.variance.residual, lag, rows.time)
        R, s = same * R, len(first)
        first += [R, *(sigma2 * same * slope for slope in slopes)]
        for k, slope in enumerate(slopes):
            second[s, s + 1 + k] = same * slope
        for (k, j), bend in bends.items():
            second[s + 1 + k, s + 1 + j] = sigma2 * same * bend
    else:
        R = np.eye(d.n)
        first.append(R)
    return V + sigma2 * R, first, second, d.X


def written_out(kind, alpha, lag, time):
    """Correlation of two rows, and its first and second derivatives, each kind by itself."""
    off = 1.0 - np.eye(len(lag))
    if kind.name == "exponential":
        phi, nu = alpha[0], alpha[1] if kind.nugget else 0.0
        decay = np.exp(-phi * lag)
        R = np.eye(len(lag)) + off * (1 - nu) * decay
        slopes = [-(1 - nu) * lag * decay, -off * decay][: 1 + kind.nugget]
        bends = {(0, 0): (1 - nu) * lag**2 * decay}
        return R, slopes, bends | ({(0, 1): lag * decay} if kind.nugget else {})
    if kind.name == "ar1":
        (rho,) = alpha
        slope = np.where(lag > 0, lag * rho ** np.maximum(lag - 1, 0), 0.0)
        bend = np.where(lag > 1, lag * (lag - 1) * rho ** np.maximum(lag - 2, 0), 0.0)
        return rho**lag, [slope], {(0, 0): bend}
    if kind.name == "compound_symmetry":
        return np.eye(len(lag)) + alpha[0] * off, [off], {}
    slopes, k, times = [], 0, int(time.max()) + 1
    R = np.eye(len(lag))
    for j in range(times):
        for i in range(j + 1, times):
            met = (time[:, None] == i) & (time == j)
            slopes.append((met | met.T) * 1.0)
            R = R + alpha[k] * slopes[-1]
            k += 1
    return R, slopes, {}


def milk(last: int) -> pd.DataFrame:
    """The first weeks of some cows, rows lost here and there."""
    data = bg.load_dataset("milk")
    cows = data["cow"].astype(str).unique()[::3]
    data = data[data["cow"].astype(str).isin(cows) & (data["time"] <= last)]
    return data.iloc[np.arange(len(data)) % 7 != 3].reset_index(drop=True)


def pedigree() -> pd.DataFrame:
    return bg.relationship_matrix(bg.load_dataset("sires_pedigree"), dam=None)


R = bg.residual
DENSE = {
    "slopes, rotated": ("reaction ~ days + (days | subject)", {}),
    "uncorrelated": ("reaction ~ days + (days || subject)", {}),
    "no effects": ("reaction ~ days", {}),
    "crossed": ("weight ~ sex + (1 | sire) + (1 | herd)", {}),
    "related": ("weight ~ sex + (1 | sire) + (1 | herd)", {"covariance": {"sire": pedigree()}}),
    "nested": ("weight ~ time + cu + (1 | litter) + (time | pig)", {}),
    "exponential": ("protein ~ diet + time", {"residual": R.Exponential("time", "cow")}),
    "exponential, nugget": (
        "protein ~ diet + time + I(time^2)",
        {"residual": R.Exponential("time", "cow", nugget=True)},
    ),
    "ar1 beside effects": (
        "protein ~ diet + time + (1 | cow)",
        {"residual": R.AR1("time", "cow")},
    ),
    "compound symmetry": ("protein ~ diet + time", {"residual": R.CompoundSymmetry(by="cow")}),
    "unstructured": ("protein ~ diet + time", {"residual": R.Unstructured("time", "cow")}),
}


def rows_of(case: str) -> pd.DataFrame:
    response = DENSE[case][0].split()[0]
    if response == "protein":
        return milk(4 if case == "unstructured" else 14)
    if response == "weight" and case != "nested":
        return bg.load_dataset("sires")
    name = "dietox" if case == "nested" else "sleepstudy"
    data = bg.load_dataset(name)
    return data[(data["time"] <= 3) & (data["evit"] == "Evit000")] if case == "nested" else data


@cache
def dense_fit(case: str):
    formula, options = DENSE[case]
    return model(formula, rows_of(case), **options).fit(KR)


@pytest.mark.parametrize("case", DENSE)
def test_the_papers_written_out_densely(case):
    """At the fit's parameters; the information's condition number leaves eight digits."""
    fit = dense_fit(case)
    adjusted, df, W, P, phi = paper(*parts(fit))
    error = np.sqrt(np.diag(phi))
    scale = np.outer(error, error)
    np.testing.assert_allclose(fit.vcov("model") / scale, phi / scale, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(fit.vcov() / scale, adjusted / scale, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(fit.df, df, rtol=1e-7)
    L = np.eye(len(df))[-2:]
    found = bg.wald_test(fit, L)
    scale, m = joint(L, phi, W, P)
    assert found.scale == pytest.approx(scale, rel=1e-7)
    apart = L @ fit.beta
    statistic = apart @ np.linalg.solve(L @ adjusted @ L.T, apart)
    assert found.statistic == pytest.approx(scale * statistic, rel=1e-6)
    assert found.p_value == pytest.approx(stats.f.sf(scale * statistic / 2, 2, m), rel=1e-5)


def joint(L, phi, W, P):
    """Scale and denominator df with the sums of Kenward & Roger (1997) as loops."""
    q, theta = len(L), L.T @ np.linalg.inv(L @ phi @ L.T) @ L
    A1 = A2 = 0.0
    for i, p in enumerate(P):
        for j, other in enumerate(P):
            one, two = theta @ phi @ p @ phi, theta @ phi @ other @ phi
            A1 += W[i, j] * np.trace(one) * np.trace(two)
            A2 += W[i, j] * np.trace(one @ two)
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c = np.array([g, q - g, q + 2 - g]) / (3 * q + 2 * (1 - g))
    E = 1 / (1 - A2 / q)
    variance = 2 / q * (1 + c[0] * B) / ((1 - c[1] * B) ** 2 * (1 - c[2] * B))
    rho = variance / (2 * E**2)
    m = 4 + (q + 2) / (q * rho - 1)
    return m / (E * (m - 2)), m


@pytest.mark.parametrize("case", ["exponential, nugget", "ar1 beside effects"])
def test_other_parameters_give_the_same(case):
    """Logs, logits and Fisher's z: differences of V take the place of its derivatives.

    Without the second derivatives the result would depend on the parameters.
    """
    fit = dense_fit(case)
    components, rows = fit.variance.components, fit.model.repeated
    same, lag = rows.cluster[:, None] == rows.cluster, np.abs(rows.time[:, None] - rows.time)

    def covariance(psi):
        values = [float(c.scale.natural(x)) for c, x in zip(components, psi, strict=True)]
        alpha = [x for c, x in zip(components, values, strict=True) if c.is_residual]
        R = written_out(fit.model.residual, alpha, lag, rows.time)[0]
        sds = [x for c, x in zip(components, values, strict=True) if c.kind == "sd"]
        return same * (values[-1] ** 2 * R + sum(sd**2 for sd in sds))

    estimates = zip(components, fit.variance.estimate, strict=True)
    psi = np.array([float(c.scale.working(x)) for c, x in estimates])
    h, m = 1e-3, len(psi)
    steps = h * np.eye(m)
    first = [(covariance(psi + s) - covariance(psi - s)) / (2 * h) for s in steps]
    signs = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
    second = {
        (i, j): sum(w * covariance(psi + a * steps[i] + b * steps[j]) for a, b, w in signs)
        / (4 * h**2)
        for i in range(m)
        for j in range(i, m)
    }
    adjusted, df, _, _, phi = paper(covariance(psi), first, second, fit.model.design.X)
    error = np.sqrt(np.diag(phi))
    scale = np.outer(error, error)
    # differences with steps of 1e-3: relative errors of 1e-6
    np.testing.assert_allclose(fit.vcov() / scale, adjusted / scale, atol=2e-5)
    np.testing.assert_allclose(fit.df, df, rtol=2e-5)
    without, *_ = paper(covariance(psi), first, {}, fit.model.design.X)
    assert np.max(np.abs(without - adjusted) / scale) > 1e-3


KINDS = (
    R.Exponential("t", "g"),
    R.Exponential("t", "g", nugget=True),
    R.AR1("t", "g"),
    R.CompoundSymmetry(by="g"),
    R.Unstructured("t", "g"),
)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_second_derivatives_of_correlations(kind):
    """Against central differences of the first: errors of the order of 1e-9."""
    time = np.array([0.0, 1.0, 2.0, 4.0])
    geometry = kind.geometry(time if not kind.labelled_times else np.arange(4.0))
    size = len(kind.parameters(range(4)))
    values = np.linspace(0.3, 0.6, size)
    weights = np.random.default_rng(1).normal(size=(size, size))
    weights, h = weights + weights.T, 1e-5
    expected = np.zeros((4, 4))
    for k in range(size):
        step = h * np.eye(size)[k]
        up, down = (kind.derivatives(values + s * step, geometry) for s in (1, -1))
        expected += np.tensordot(weights[k], (up - down) / (2 * h), 1)
    found = kind.curvature(values, geometry, weights)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_compound_symmetry_is_a_random_intercept():
    """The same covariance by other parameters, one of which is not linear."""
    sleep = bg.load_dataset("sleepstudy")
    one = fit_of("sleepstudy_ri")
    other = model("reaction ~ days", sleep, residual=R.CompoundSymmetry(by="subject")).fit(KR)
    np.testing.assert_allclose(other.vcov(), one.vcov(), rtol=1e-5)
    np.testing.assert_allclose(other.df, one.df, rtol=1e-5)


def test_hotellings_t_squared_is_exact():
    """Balanced random slopes: the F test of both means is Hotelling's, with 2 and 16 df."""
    fit, data = fit_of("sleepstudy_slope"), bg.load_dataset("sleepstudy")
    lines = np.array([np.polyfit(s.days, s.reaction, 1)[::-1] for _, s in data.groupby("subject")])
    apart = lines.mean(axis=0) - [240.0, 10.0]
    squared = 18 * apart @ np.linalg.solve(np.cov(lines.T), apart)
    found = bg.wald_test(fit, ["Intercept", "days"], [240.0, 10.0])
    assert found.reference == "2 F(2, 16)"
    assert found.scale == pytest.approx(16 / 17, rel=1e-6)
    assert found.statistic / 2 == pytest.approx(16 / (2 * 17) * squared, rel=1e-5)


def split_plot() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame([(p, b) for p in range(8) for b in range(3)], columns=["plot", "b"])
    frame["a"] = np.where(frame["plot"] < 4, "a1", "a2")
    frame["y"] = rng.normal(size=8)[frame["plot"]] * 1.5 + rng.normal(size=24)
    return frame.assign(plot=frame["plot"].astype(str), b="b" + frame["b"].astype(str))


def test_a_balanced_split_plot_is_the_analysis_of_variance():
    """Errors between plots have 6 degrees of freedom, those within 12; no scale."""
    fit = model("y ~ a + b + a:b + (1 | plot)", split_plot()).fit(KR)
    assert fit.variance.estimate[0] > 0
    within = np.array([["b[T." in t for t in fit.terms]])
    both = np.eye(6)[[i for i, t in enumerate(fit.terms) if t.count("b[T.") == 1 and "a[" not in t]]
    found = bg.wald_test(fit, both)
    assert within.sum() == 4
    assert found.reference == "2 F(2, 12)"
    assert found.scale == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(fit.vcov(), fit.vcov("model"), rtol=1e-6)
    # means of plots: the effect of a averaged over b
    L = np.array([["a[T." in t for t in fit.terms]]) / [
        1 if "b[" not in t else 3 for t in fit.terms
    ]
    assert bg.wald_test(fit, L).reference == "1 F(1, 6)"


def test_least_squares_need_no_adjustment():
    fit = dense_fit("no effects")
    np.testing.assert_allclose(fit.df, 178.0, rtol=1e-9)
    np.testing.assert_allclose(fit.vcov(), fit.vcov("model"), rtol=1e-9)
    assert bg.wald_test(fit, ["Intercept", "days"]).reference == "2 F(2, 178)"
    assert bg.wald_test(fit, ["Intercept", "days"]).scale == pytest.approx(1.0, abs=1e-9)


def test_a_variance_of_zero_is_a_parameter_as_in_pbkrtest():
    fit = fit_of("split_plot_zero")
    assert fit.variance.estimate[0] == 0.0
    assert "zero-variance" in [m.code for m in fit.messages]
    assert np.isfinite(fit.df).all() and np.isfinite(fit.se()).all()


def test_two_rows_for_two_effects_cannot_be_told_apart_and_need_not():
    """Slopes beside a residual at two times: the mean of differences has its own t test."""
    data = bg.load_dataset("sleepstudy").query("days == 0 or days == 9")
    fit = model("reaction ~ days + (days | subject)", data).fit(KR)
    assert "variances-not-told-apart" in [m.code for m in fit.messages]
    wide = data.pivot_table("reaction", "subject", "days", observed=True).to_numpy()
    slope = (wide[:, 1] - wide[:, 0]) / 9
    assert fit.beta[1] == pytest.approx(slope.mean(), rel=1e-6)
    assert fit.se()["days"] == pytest.approx(slope.std(ddof=1) / np.sqrt(18), rel=1e-4)
    np.testing.assert_allclose(fit.df, 17.0, rtol=1e-6)


def test_what_the_design_does_not_tell_is_nan():
    """Fixed effects of the levels leave no information on their variance."""
    data = bg.load_dataset("sleepstudy")
    fit = model("reaction ~ 0 + subject + (1 | subject)", data).fit(KR)
    assert "variances-not-told-apart" in [m.code for m in fit.messages]
    assert np.isnan(fit.df).all() and np.isnan(fit.se()).all()
    assert np.isfinite(fit.se("model")).all()


def test_intervals_predictions_and_tests_are_of_one_kind():
    fit, plain = fit_of("split_plot"), fit_of("split_plot", "satterthwaite")
    assert fit.label == "REML, Kenward-Roger" and plain.label == "REML"
    assert fit.interval_kind == "Wald, t with Kenward & Roger's errors and df"
    assert list(fit.vcovs) == ["kenward-roger", "model"]
    pd.testing.assert_series_equal(fit.se("model"), plain.se())
    assert (fit.se() > plain.se()).all()
    table = fit.tidy(("fixed",))
    half = stats.t.ppf(0.975, table.df) * fit.se().to_numpy()
    np.testing.assert_allclose(table.conf_high - table.estimate, half, rtol=1e-12)
    name, df = fit.terms[1], fit.df[1]
    test = bg.wald_test(fit, [name])
    assert test.reference == f"1 F(1, {df:g})" and test.scale == 1.0
    assert test.statistic == pytest.approx((fit.beta[1] / fit.se()[name]) ** 2, rel=1e-12)
    rows = fit.predict(effects="zero")
    X = fit.model.design.in_user_order().X
    errors = np.sqrt(np.einsum("np,pq,nq->n", X, fit.vcov().to_numpy(), X))
    np.testing.assert_allclose(rows.std_error, errors, rtol=1e-12)
    unadjusted = bg.wald_test(fit, [name], cov="model")
    assert "scale" not in unadjusted and unadjusted.reference == test.reference


def test_a_comparison_says_which_it_is():
    m = fit_of("split_plot").model
    frame = bg.compare([m.fit("reml"), m.fit(KR)]).to_frame()
    kinds = frame.groupby("label").interval_kind.first()
    assert kinds["REML"] == "95 % Wald, t with Satterthwaite's df"
    assert kinds["REML, Kenward-Roger"] == "95 % Wald, t with Kenward & Roger's errors and df"


def test_a_saved_fit_tests_as_before(tmp_path):
    fit = fit_of("split_plot")
    again = bg.load_fit(fit.save(tmp_path / "kr.fit"))
    assert again.method == KR
    L = np.eye(len(fit.beta))[1:3]
    pd.testing.assert_series_equal(bg.wald_test(again, L), bg.wald_test(fit, L))


def test_a_model_file_names_it(tmp_path):
    (tmp_path / "m.toml").write_text(
        'title = "t"\nquestion = "q"\nformula = "reaction ~ days + (1 | subject)"\n'
        'family = "gaussian"\n[data]\ndataset = "sleepstudy"\n'
        '[[methods]]\nname = "reml"\n[[methods]]\nname = "reml"\ndf = "kenward-roger"\n',
        encoding="utf-8",
    )
    assert bg.load_model(tmp_path / "m.toml").methods == (bg.REML(), KR)


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"df='kr'.*'satterthwaite' or 'kenward-roger'"):
        bg.REML(df="kr")


def test_a_block_too_large_is_refused():
    """6,000 rows of 2,500 crossed with 2,500 levels; with fewer levels more rows are served."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"a": rng.integers(0, 2500, 6000), "b": rng.integers(0, 2500, 6000)})
    data = data.astype(str).assign(y=rng.normal(size=6000))
    with pytest.raises(NotServedError, match=r"serves 4,000.*df='satterthwaite'"):
        model("y ~ 1 + (1 | a) + (1 | b)", data).fit(KR)


def test_many_rows_of_few_crossed_levels():
    """Copies of rows: the rotated block is as the dense one, whose test this is."""
    rng = np.random.default_rng(5)
    cells = pd.DataFrame([(a, b) for a in range(5) for b in range(6)], columns=["a", "b"])
    data = pd.concat([cells] * 12, ignore_index=True).iloc[:-37]
    effect = rng.normal(size=5)[data.a] + rng.normal(size=6)[data.b]
    data = data.assign(x=data.a % 2, y=effect + rng.normal(size=len(data)))
    fit = model("y ~ x + (1 | a) + (1 | b)", data.astype({"a": str, "b": str})).fit(KR)
    adjusted, df, *_ = paper(*parts(fit))
    np.testing.assert_allclose(fit.vcov(), adjusted, rtol=1e-7)
    np.testing.assert_allclose(fit.df, df, rtol=1e-7)


def test_blocks_are_what_levels_connect():
    class Factor:
        def __init__(self, index, covariance=None):
            self.index, self.covariance = np.array(index), covariance
            self.n_levels = max(index) + 1 if covariance is None else len(covariance)

    g, h = Factor([0, 0, 1, 1, 2, 2]), Factor([0, 1, 2, 3, 3, 4])
    assert connected_rows(6, (g,), None).tolist() == [0, 0, 1, 1, 2, 2]
    assert connected_rows(6, (g, h), None).tolist() == [0, 0, 1, 1, 1, 1]
    assert connected_rows(6, (), None).tolist() == list(range(6))
    together = connected_rows(6, (), np.array([4, 4, 1, 1, 4, 0]))
    assert [together[0] == k for k in together] == [True, True, False, False, True, False]
    A = np.eye(4)
    A[0, 2] = A[2, 0] = 0.5
    assert len(set(connected_rows(6, (Factor([0, 0, 1, 1, 2, 2], A),), None))) == 2


def test_an_f_distribution_without_a_mean_is_not_matched():
    assert match_f(0.1, 0.1, 1) == (1.0, 20.0)
    assert np.isnan(match_f(2.5, 2.5, 2)).all()


@pytest.mark.slow
def test_size_of_the_test_with_six_groups():
    """A contrast of groups of unequal size: Wald's z rejects far too often, KR's t as it should."""
    rng, replicates = np.random.default_rng(11), 600
    g = np.repeat(np.arange(6), [2, 3, 5, 8, 4, 6])
    frame = pd.DataFrame({"g": g.astype(str), "x": (g % 2).astype(float)})
    rejected = np.zeros(2)
    for _ in range(replicates):
        frame["y"] = 1.5 * rng.normal(size=6)[g] + rng.normal(size=len(g))
        fit = model("y ~ x + (1 | g)", frame).fit(KR)
        z = abs(fit.beta[1]) / fit.se("model")["x"]
        rejected += [z > 1.96, bg.wald_test(fit, ["x"]).p_value < 0.05]
    wald, kr = rejected / replicates
    # standard errors of the rates: 0.9 % at 5 %, 1.3 % at 11 %
    assert wald > 0.08
    assert abs(kr - 0.05) < 0.02


def serial(subjects: int, rate: float, rng) -> pd.DataFrame:
    """Five rows a subject with exponentially decaying correlation, half with x = 1."""
    time = np.tile(np.arange(5.0), subjects)
    code = np.repeat(np.arange(subjects), 5)
    root = np.linalg.cholesky(np.exp(-rate * np.abs(np.arange(5.0)[:, None] - np.arange(5.0))))
    y = (rng.normal(size=(subjects, 5)) @ root.T).ravel()
    return pd.DataFrame({"g": code.astype(str), "time": time, "x": code % 2.0, "y": y})


def test_a_parameter_at_its_limit_is_taken_as_known():
    """A nugget of next to nothing: as without it; the limit is a share of a millionth."""
    data = serial(8, 0.3, np.random.default_rng(2))
    with_nugget, without = (
        model("y ~ x + time", data, residual=R.Exponential("time", "g", nugget=nugget)).fit(KR)
        for nugget in (True, False)
    )
    assert "residual-correlation-at-limit" in [m.code for m in with_nugget.messages]
    np.testing.assert_allclose(with_nugget.vcov(), without.vcov(), rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(with_nugget.df, without.df, rtol=1e-4)


@pytest.mark.slow
def test_the_adjusted_variance_is_unbiased_where_the_covariance_is_not_linear():
    """The variance of the slope in time of eight subjects, 400 samples.

    It is that of generalised least squares at the true covariance and of what the estimation adds,
    which are independent (Kackar & Harville 1984): only the second is simulated.
    """
    rng, rate, found = np.random.default_rng(7), 0.4, []
    for _ in range(400):
        data = serial(8, rate, rng)
        fit = model("y ~ x + time", data, residual=R.Exponential("time", "g")).fit(KR)
        if not any(m.code == "residual-correlation-at-limit" for m in fit.messages):
            found.append(components(fit, rate))
    known, added, plain, adjusted = np.mean(found, axis=0)
    variance = known + added
    # standard error of the ratios 1.5 %; unadjusted it is 5 % too small
    assert plain / variance < 0.98
    assert abs(adjusted / variance - 1) < 0.04


def components(fit, rate: float) -> list[float]:
    """Variance at the true covariance, squared distance from that estimate, both estimates."""
    d, rows = fit.model.design, fit.model.repeated
    same = rows.cluster[:, None] == rows.cluster
    inverse = np.linalg.inv(same * np.exp(-rate * np.abs(rows.time[:, None] - rows.time)))
    phi = np.linalg.inv(d.X.T @ inverse @ d.X)
    apart = fit.beta - phi @ d.X.T @ inverse @ d.y
    return [phi[2, 2], apart[2] ** 2, fit.vcov("model").iloc[2, 2], fit.vcov().iloc[2, 2]]
