"""Trends: splines keep their basis, bands are right, typical and average groups are told apart."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayes_glmm as bg
from bayes_glmm.design.columns import DataError
from tests.standin import posterior_fit

REFERENCE = json.loads((Path(__file__).parent / "reference" / "trend.json").read_text("utf-8"))
ENTRIES = REFERENCE["entries"]
TERMS = {
    "bs": "bs(time, df=4)",
    # another basis of the same functions; its own choice of knots is not R's
    "ns": "cr(time, knots=[4, 8, 13], constraints='center')",
    "poly": "poly(time, 2)",
}


def milk(term: str, **options):
    data = bg.load_dataset("milk")
    return bg.GLMM(f"protein ~ diet * {term} + (1 | cow)", data, family="gaussian", **options)


@pytest.fixture(scope="module")
def fits():
    return {kind: milk(term).fit("reml") for kind, term in TERMS.items()}


@pytest.fixture(scope="module")
def toenail():
    model = bg.GLMM(
        "y01 ~ treatment * poly(time, 2) + (1 | patient_id)",
        bg.load_dataset("toenail"),
        family="bernoulli",
    )
    return model.fit(bg.ML(nodes=9))


# --- the basis ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TERMS)
def test_predictions_of_new_rows_are_those_of_r(fits, kind):
    entry, fit = ENTRIES[kind], fits[kind]
    new = pd.DataFrame({"time": entry["time"], "diet": entry["diet"]})
    found = fit.predict(new, effects="zero")
    # lme4 ends its search within about 1e-6 of the variance ratio; predictions follow it weakly
    np.testing.assert_allclose(found["estimate"], entry["fit"], rtol=1e-6)
    np.testing.assert_allclose(found["std_error"], entry["se"], rtol=1e-5)
    if kind != "ns":  # the restricted likelihood depends on the basis
        assert fit.loglik == pytest.approx(entry["loglik"], abs=1e-6)


@pytest.mark.parametrize("kind", ["poisson", "bernoulli"])
def test_bands_on_the_response_are_those_of_r(kind):
    entry = ENTRIES[kind]
    formula, data = {
        "poisson": ("ticks ~ year + bs(height, df=5)", "grouseticks"),
        "bernoulli": ("y01 ~ treatment * poly(time, 2)", "toenail"),
    }[kind]
    fit = bg.GLMM(formula, bg.load_dataset(data), family=kind).fit("glm")
    new = pd.DataFrame({k: v for k, v in entry.items() if k not in ("fit", "low", "high")})
    found = fit.predict(new)
    for column, name in (("estimate", "fit"), ("conf_low", "low"), ("conf_high", "high")):
        np.testing.assert_allclose(found[column], entry[name], rtol=1e-7)


@pytest.mark.parametrize("kind", TERMS)
def test_any_part_of_the_rows_is_predicted_as_among_all(fits, kind):
    # a basis made anew from three rows would have other knots
    fit = fits[kind]
    rows = fit.model.design.frame.iloc[[3, 400, 901]]
    pd.testing.assert_frame_equal(
        fit.predict(rows, effects="zero"), fit.predict(effects="zero").loc[rows.index]
    )


def test_b_splines_end_where_the_data_do_and_say_so(fits):
    beyond = pd.DataFrame({"diet": ["lupins"], "time": [30.0]})
    with pytest.raises(
        DataError, match=r"bs\(time, df=4\) is known from 1 to 19\): give rows with"
    ):
        fits["bs"].predict(beyond, effects="zero")
    with pytest.raises(DataError, match="wider bounds in the formula"):
        milk("bs(time, df=4, lower_bound=5)")
    wider = milk("bs(time, df=4, upper_bound=40)").fit("reml")
    assert np.isfinite(wider.predict(beyond, effects="zero")["estimate"]).all()


def test_natural_splines_go_on_as_straight_lines(fits):
    times = [19.0, 22.0, 25.0, 28.0]
    new = pd.DataFrame({"diet": "lupins", "time": times})
    steps = np.diff(fits["ns"].predict(new, effects="zero")["estimate"])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)


# --- the band -------------------------------------------------------------------------------


def test_the_band_of_a_linear_model_by_hand(fits):
    fit = fits["bs"]
    table = bg.trend(fit, "time", "diet", points=7)
    assert list(table.columns[:2]) == ["time", "diet"] and len(table) == 21
    X, _ = fit.model.design.new_fixed(table)
    se = np.sqrt(np.diag(X @ fit.vcov().to_numpy() @ X.T))
    half = fit.critical(0.95, X) * se  # Satterthwaite's t, row by row
    np.testing.assert_allclose(table["estimate"], X @ fit.beta, rtol=1e-10)
    np.testing.assert_allclose(table["std_error"], se, rtol=1e-8)
    np.testing.assert_allclose(table["conf_high"], X @ fit.beta + half, rtol=1e-8)
    pd.testing.assert_frame_equal(table, bg.trend(fit, "time", "diet", points=7, effects="zero"))


def test_the_band_of_correlated_residuals(fits):
    residual = bg.residual.Exponential("time", by="cow", nugget=True)
    fit = milk("bs(time, df=4)", residual=residual).fit("reml")
    table = bg.trend(fit, "time", "diet", points=5)
    X, _ = fit.model.design.new_fixed(table)
    se = np.sqrt(np.einsum("np,pq,nq->n", X, fit.vcov(), X))
    np.testing.assert_allclose(table["std_error"], se, rtol=1e-8)


def test_a_typical_group_has_the_band_of_the_link_scale(toenail):
    table = bg.trend(toenail, "time", "treatment", effects="zero", points=5)
    X, _ = toenail.model.design.new_fixed(table)
    eta = X @ toenail.beta
    half = norm.ppf(0.975) * np.sqrt(np.einsum("np,pq,nq->n", X, toenail.vcov(), X))
    for name, value in (("estimate", eta), ("conf_low", eta - half), ("conf_high", eta + half)):
        np.testing.assert_allclose(table[name], 1 / (1 + np.exp(-value)), rtol=1e-9)


def test_the_average_group_integrates_the_random_effects_out(toenail):
    table = bg.trend(toenail, "time", "treatment", points=3)
    X, _ = toenail.model.design.new_fixed(table)
    sd = toenail.varcorr().sd[0]
    b = sd * np.linspace(-9, 9, 4001)  # a trapezoid rule, exact to rounding for smooth integrands
    density = norm.pdf(b, 0, sd)
    means = [np.trapezoid(density / (1 + np.exp(-(eta + b))), b) for eta in X @ toenail.beta]
    np.testing.assert_allclose(table["estimate"], means, rtol=1e-8)
    typical = bg.trend(toenail, "time", "treatment", points=3, effects="zero")
    assert (np.abs(table["estimate"] - 0.5) < np.abs(typical["estimate"] - 0.5)).all()


@pytest.mark.parametrize("effects", ["zero", "averaged"])
def test_the_band_of_draws_holds_their_middle(effects):
    fit = posterior_fit()
    table = bg.trend(fit, "x", points=3, effects=effects, level=0.9)
    beta = fit.draws["posterior"]["beta"].to_numpy().reshape(-1, 2)
    values = beta @ np.array([[1, 0.0], [1, 1.0], [1, 2.0]]).T
    np.testing.assert_allclose(table["estimate"], values.mean(0), rtol=1e-10)
    np.testing.assert_allclose(table["conf_low"], np.quantile(values, 0.05, axis=0), rtol=1e-10)


# --- rows -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(4)
    n = 90
    data = pd.DataFrame(
        {
            "t": rng.uniform(0, 10, n),
            "dose": rng.uniform(1, 4, n),
            "arm": pd.Categorical(rng.choice(["a", "b"], n)),
            "wave": rng.integers(1, 4, n),
            "hours": rng.uniform(0.5, 3, n),
        }
    )
    data.loc[data.arm == "b", "t"] /= 2
    data["y"] = rng.poisson(data.hours * np.exp(0.1 * data.t))
    return bg.GLMM("y ~ t + dose + arm + C(wave) + offset(log(hours))", data, family="poisson")


def test_other_columns_stay_where_they_are_typical(counts):
    data = counts.design.frame
    table = bg.trend(counts.fit("glm"), "t", "arm", points=4)
    assert (table["dose"] == data["dose"].mean()).all()
    assert (table["hours"] == data["hours"].mean()).all()
    assert (table["wave"] == 1).all()
    for arm in "ab":  # each within its own range
        mine = table["t"][table["arm"] == arm]
        ends = data["t"][data["arm"] == arm].agg(["min", "max"])
        assert list(mine.iloc[[0, -1]]) == list(ends)
    other = bg.trend(counts.fit("glm"), "t", "arm", at={"hours": 1, "arm": "b"}, points=4)
    assert set(other["arm"]) == {"b"} and set(other["hours"]) == {1}


def test_curves_by_a_number_are_at_its_quartiles(counts):
    fit = counts.fit("glm")
    quartiles = np.quantile(counts.design.frame["dose"], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(bg.trend(fit, "t", "dose", points=2)["dose"][::2], quartiles)
    assert list(bg.trend(fit, "t", "dose", at={"dose": [1, 2]}, points=2)["dose"]) == [1, 1, 2, 2]


def test_a_factor_of_numbers_runs_through_its_levels(counts):
    assert list(bg.trend(counts.fit("glm"), "wave")["wave"]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("time",), {}, "'time', not a column of the predictor: allowed are"),
        (("t", "t"), {}, "takes 't' along the curve"),
        (("t",), {"at": {"t": 1}}, "takes 't' along the curve"),
        (("arm",), {}, "levels such as 'a', which have no places on an axis"),
        (("t",), {"effects": "conditional"}, "use 'averaged' or 'zero'"),
        (("t",), {"points": 1}, "must be at least 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(counts, arguments, options, words):
    with pytest.raises(ValueError, match=words):
        bg.trend(counts.fit("glm"), *arguments, **options)


# --- the figure -----------------------------------------------------------------------------


def marks(figure) -> list[np.ndarray]:
    """Places of the scattered means, curve by curve."""
    (axes,) = figure.axes
    found = [c.get_offsets() for c in axes.collections if len(c.get_offsets()) > 1]
    return [np.asarray(f) for f in found if len(f)]


def test_the_figure_shows_curves_bands_and_observed_means(fits):
    figure = bg.plot_trend(fits["bs"], "time", by="diet")
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == [
        "diet barley",
        "diet barley+lupins",
        "diet lupins",
    ]
    data = fits["bs"].model.design.frame
    means = data[data.diet == "barley"].groupby("time")["protein"].mean()
    np.testing.assert_allclose(marks(figure)[0], np.c_[means.index, means])
    assert axes.get_xlabel() == "time" and axes.get_ylabel() == "mean of protein"


def test_observed_means_are_put_at_the_offset_of_the_curve(counts):
    figure = bg.plot_trend(counts.fit("glm"), "wave")
    data, frame = marks(figure)[0], counts.design.frame
    rate = frame.groupby("wave")["y"].sum() / frame.groupby("wave")["hours"].sum()
    np.testing.assert_allclose(data[:, 1], rate * frame["hours"].mean())


def test_no_data_beside_a_typical_group(toenail):
    figure = bg.plot_trend(toenail, "time", by="treatment", effects="zero")
    assert not marks(figure)
    assert figure.axes[0].get_ylabel().endswith("typical group")
    assert marks(bg.plot_trend(toenail, "time", by="treatment"))
    assert not marks(bg.plot_trend(toenail, "time", by="treatment", data=False))
