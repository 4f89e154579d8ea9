"""Residual correlations: matrices, derivatives, and what their columns must hold."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_glmm as bg
from bayes_glmm.design import DataError
from bayes_glmm.frequentist.lmm_search import rows_of
from bayes_glmm.methods import NotServedError
from bayes_glmm.residual import KINDS, ResidualCorrelation

VALUES = {
    "exponential": (bg.residual.Exponential("t", by="g"), [0.7]),
    "nugget": (bg.residual.Exponential("t", by="g", nugget=True), [0.7, 0.2]),
    "ar1": (bg.residual.AR1("t", by="g"), [-0.4]),
    "compound_symmetry": (bg.residual.CompoundSymmetry(by="g"), [0.3]),
    "unstructured": (bg.residual.Unstructured("t", by="g"), [0.5, 0.1, 0.4]),
}


def test_every_kind_is_here():
    assert {type(spec) for spec, _ in VALUES.values()} == set(ResidualCorrelation.__subclasses__())
    assert set(KINDS.values()) == set(ResidualCorrelation.__subclasses__())


@pytest.mark.parametrize("name", VALUES)
def test_matrix_and_derivatives(name):
    spec, values = VALUES[name]
    values = np.array(values)
    geometry = spec.geometry(np.array([0.0, 1.0, 2.0]))
    R = spec.correlation(values, geometry)
    np.testing.assert_array_equal(R, R.T)
    np.testing.assert_array_equal(np.diag(R), 1.0)
    assert np.linalg.eigvalsh(R)[0] > 0
    assert len(spec.parameters((0, 1, 2))) == len(values)
    h = 1e-6
    for k, derivative in enumerate(spec.derivatives(values, geometry)):
        step = h * np.eye(len(values))[k]
        difference = spec.correlation(values + step, geometry) - spec.correlation(
            values - step, geometry
        )
        np.testing.assert_allclose(derivative, difference / (2 * h), atol=1e-9)


def test_correlations_are_what_they_say():
    time = np.array([0.0, 0.5, 3.0])
    spec = bg.residual.Exponential("t", by="g", nugget=True)
    R = spec.correlation(np.array([0.4, 0.25]), spec.geometry(time))
    assert R[0, 2] == pytest.approx(0.75 * np.exp(-0.4 * 3))
    ar1 = bg.residual.AR1("t", by="g")
    R = ar1.correlation(np.array([-0.5]), ar1.geometry(np.array([1.0, 2.0, 4.0])))
    assert (R[0, 1], R[0, 2], R[1, 2]) == pytest.approx((-0.5, -0.125, 0.25))
    free = bg.residual.Unstructured("t", by="g")
    R = free.correlation(np.array([0.1, 0.2, 0.3]), free.geometry(np.array([0.0, 2.0])))
    assert R[0, 1] == 0.2
    names = [p.pair for p in free.parameters(("a", "b", "c"))]
    assert names == ["a~b", "a~c", "b~c"]


def frame():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "y": rng.normal(size=24),
            "t": np.tile([0.0, 1.0, 2.5, 4.0], 6),
            "visit": np.tile([1, 2, 3, 4], 6),
            "g": np.repeat(list("abcdef"), 4),
            "h": np.tile(list("pqrs"), 6),
        }
    )


def model(residual, data=None, formula="y ~ t", family="gaussian"):
    data = frame() if data is None else data
    return bg.GLMM(formula, data, family=family, residual=residual)


def test_an_unknown_column_is_named():
    with pytest.raises(DataError, match="no column 'time'"):
        model(bg.residual.Exponential("time", by="g"))
    with pytest.raises(DataError, match="no column 'subject'"):
        model(bg.residual.CompoundSymmetry(by="subject"))


def test_missing_times_are_refused_or_dropped():
    data = frame()
    data.loc[3, "t"] = np.nan
    residual = bg.residual.Exponential("t", by="g")
    with pytest.raises(DataError, match=r"1 of 24 rows have missing values \(by column: t 1\)"):
        model(residual, data, "y ~ 1")
    dropped = bg.GLMM("y ~ 1", data, family="gaussian", residual=residual, missing="drop")
    assert dropped.design.n == 23 and len(dropped.repeated.time) == 23


def test_repeated_times_are_refused_unless_there_is_a_nugget():
    data = frame()
    data.loc[1, "t"] = 0.0
    with pytest.raises(DataError, match=r"Rows 0 and 1 have the same 't'.*nugget=True"):
        model(bg.residual.Exponential("t", by="g"), data)
    assert model(bg.residual.Exponential("t", by="g", nugget=True), data).fit("ml").converged
    data.loc[1, "visit"] = 1
    with pytest.raises(DataError, match=r"Rows 0 and 1 have the same 'visit'.*AR1\(\) needs"):
        model(bg.residual.AR1("visit", by="g"), data)


def test_times_must_suit_the_correlation():
    with pytest.raises(DataError, match=r"needs whole-numbered times and got 2\.5"):
        model(bg.residual.AR1("t", by="g"))
    with pytest.raises(DataError, match="column of labels, which have no distances"):
        model(bg.residual.Exponential("h", by="g"))
    with pytest.raises(DataError, match="clusters of one row each"):
        model(bg.residual.CompoundSymmetry(by="row"), frame().assign(row=np.arange(24)))


def test_too_many_times_for_a_correlation_of_each_pair_are_refused():
    data = pd.DataFrame({"y": np.arange(64.0), "t": np.arange(64) % 32, "g": np.arange(64) // 32})
    residual = bg.residual.Unstructured("t", by="g")
    with pytest.raises(DataError, match=r"got 32 distinct times.*496 correlations.*serves 30"):
        bg.GLMM("y ~ 1", data, family="gaussian", residual=residual)
    few = data.query("t < 30")
    assert bg.GLMM("y ~ 1", few, family="gaussian", residual=residual).repeated is not None


def test_what_is_no_correlation_is_refused():
    with pytest.raises(ValueError, match=r"give one of bg\.residual"):
        model("ar1")
    with pytest.raises(ValueError, match="family='poisson', which has no residuals"):
        model(
            bg.residual.CompoundSymmetry(by="g"),
            frame().assign(y=np.arange(24)),
            family="poisson",
        )
    with pytest.raises(ValueError, match="needs the name of a column"):
        bg.residual.AR1(None, by="g")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="needs the name of a column"):
        bg.residual.CompoundSymmetry()


def test_compound_symmetry_is_named_by_its_clusters_alone():
    """Times do not matter for it, so that a single name is that of the clusters."""
    assert bg.residual.CompoundSymmetry("g") == bg.residual.CompoundSymmetry(by="g")


def test_methods_without_it_say_which_have_it():
    m = model(bg.residual.AR1("visit", by="g"), formula="y ~ t + (1 | g)")
    for method in ("pql", "glm", "integrated"):
        with pytest.raises(NotServedError, match=r"use REML\(\), ML\(\) or NUTS\(\)"):
            m.fit(method)


def test_clusters_must_lie_within_the_levels_of_every_factor():
    m = model(bg.residual.AR1("visit", by="g"), formula="y ~ t + (1 | h)")
    with pytest.raises(NotServedError, match=r"cross those of the grouping factor 'h'"):
        m.fit("reml")


def test_a_model_keeps_its_correlation_and_says_it():
    residual = bg.residual.Exponential("t", by="g", nugget=True)
    m = model(residual)
    assert "residual correlation: Exponential(time='t', by='g', nugget=True)" in repr(m)
    assert m.with_priors(dispersion=bg.HalfNormal(1)).residual == residual
    with pytest.raises(ValueError, match="has no residuals"):
        model(residual, frame().assign(y=np.arange(24))).with_family("poisson")
    names = m.fit("reml").parameter_names
    assert names == ["Intercept", "t", "residual_phi", "residual_nugget", "dispersion"]
    assert model(bg.residual.Unstructured("h", by="g")).fit("ml").parameter_names[2:4] == [
        "residual_corr[p~q]",
        "residual_corr[p~r]",
    ]


# ---- priors


def parameters(residual, **given):
    """Priors of the residual correlation by name, with their rows of the table."""
    m = bg.GLMM(
        "y ~ t",
        frame(),
        family="gaussian",
        residual=residual,
        priors=bg.Priors(residual=given) if given else None,
    )
    table = m.priors_table().set_index("parameter")
    return m.priors.residual, table.filter(like="residual_", axis=0)


def test_the_default_of_a_rate_is_stated_on_the_half_life_by_the_times():
    weeks = pd.DataFrame({"t": np.tile(np.arange(1, 20), 2), "g": np.repeat(["a", "b"], 19)})
    m = model(EXPONENTIAL, weeks.assign(y=np.random.default_rng(1).normal(size=38)))
    priors, row = m.priors.residual, m.priors_table().set_index("parameter").loc["residual_phi"]
    # half a week and twice eighteen; the median is their geometric mean
    low, high = (np.log(2) / priors["phi"].ppf(q) for q in (0.975, 0.025))
    assert (low, high) == pytest.approx((0.5, 36.0), rel=1e-3)  # 1.96 for the quantile
    assert row["means"] == "half-life 4.24, 0.5 to 36" and row["means"] in repr(m)
    assert row["scale"] == "half-life" and row["default"]
    assert "typical gap of rows (1)" in row["why"] and "a cluster (18)" in row["why"]
    assert priors["nugget"] == bg.Uniform(0, 1)


def test_the_default_of_a_rate_has_the_unit_of_the_times():
    hours = frame().assign(t=24 * frame()["t"])
    m = model(bg.residual.Exponential("t", by="g"), hours)
    days = parameters(bg.residual.Exponential("t", by="g"))[0]["phi"]
    assert m.priors.residual["phi"].ppf(0.3) == pytest.approx(days.ppf(0.3) / 24, rel=1e-12)


def test_a_short_series_has_a_wide_prior():
    pairs = frame()[frame()["visit"] < 3]
    m = model(bg.residual.Exponential("t", by="g"), pairs)
    assert m.priors.residual["phi"].half_life == bg.LogNormal(0.0, 1.0)


def test_defaults_of_serial_correlations_are_uniform():
    assert parameters(bg.residual.AR1("visit", by="g"))[0]["rho"] == bg.Uniform(-1, 1)
    prior = parameters(bg.residual.CompoundSymmetry(by="g"))[0]["rho"]
    assert prior == bg.Uniform(-1 / 3, 1)
    assert parameters(bg.residual.Unstructured("visit", by="g"))[0]["corr"] == bg.LKJ(1.0)


def test_a_half_life_and_its_rate_have_one_distribution():
    half = parameters(bg.residual.Exponential("t", by="g"), half_life=bg.LogNormal(0.5, 0.8))[0]
    rate = parameters(
        bg.residual.Exponential("t", by="g"), phi=bg.LogNormal(np.log(np.log(2)) - 0.5, 0.8)
    )[0]
    x = np.array([0.05, 0.4, 3.0])
    np.testing.assert_allclose(half["phi"].logpdf(x), rate["phi"].logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(half["phi"].cdf(x), rate["phi"].cdf(x), rtol=1e-12)
    np.testing.assert_allclose(half["phi"].ppf([0.1, 0.9]), rate["phi"].ppf([0.1, 0.9]), rtol=1e-12)
    assert half["phi"].describe() == "log(2) / LogNormal(meanlog=0.5, sdlog=0.8)"


EXPONENTIAL = bg.residual.Exponential("t", by="g", nugget=True)


@pytest.mark.parametrize(
    "given",
    [
        {"half_life": bg.Flat()},
        {"half_life": bg.LogNormal(0, np.inf)},
        {"phi": bg.Flat()},
        {"phi": bg.Power(1)},
        {"phi": bg.HalfNormal(np.inf)},
        {"nugget": bg.Beta(0, 1)},
    ],
    ids=str,
)
def test_improper_priors_are_refused_by_name(given):
    (prior,) = given.values()
    with pytest.raises(bg.ImproperPriorError, match="infinite weight") as caught:
        parameters(EXPONENTIAL, **given)
    assert prior.describe() in str(caught.value)


@pytest.mark.parametrize(
    ("residual", "given", "words"),
    [
        (EXPONENTIAL, {"rho": bg.Uniform(0, 1)}, "names 'rho'.*it has 'half_life' or 'phi' or"),
        (EXPONENTIAL, {"half_life": bg.HalfNormal(1), "phi": bg.HalfNormal(1)}, "one quantity"),
        (EXPONENTIAL, {"half_life": bg.Normal(0, 1)}, "residual half-life is a rate"),
        (EXPONENTIAL, {"half_life": bg.UniformShrinkage(1.0)}, "is a rate"),
        (EXPONENTIAL, {"nugget": bg.HalfNormal(1)}, "residual_nugget is a share"),
        (EXPONENTIAL, {"nugget": bg.Uniform(0, 2)}, "reaches beyond 0 to 1"),
        (bg.residual.AR1("visit", by="g"), {"rho": bg.LKJ(2)}, "is a serial correlation"),
        (bg.residual.CompoundSymmetry(by="g"), {"rho": bg.Uniform(-1, 1)}, "beyond -0.3333 to 1"),
        (bg.residual.Unstructured("visit", by="g"), {"corr": bg.Beta(1, 1)}, "is a correlation"),
        (None, {"rho": bg.Uniform(0, 1)}, "no residual correlation"),
    ],
    ids=str,
)
def test_priors_that_do_not_fit_are_refused(residual, given, words):
    with pytest.raises(ValueError, match=words):
        parameters(residual, **given)


def test_a_beta_prior_is_that_of_scipy_stretched():
    prior, twin = bg.Beta(2, 3, -1, 1), stats.beta(2, 3, -1, 2)
    x = np.array([-0.9, 0.0, 0.7])
    np.testing.assert_allclose(prior.logpdf(x), twin.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(prior.cdf(x), twin.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(prior.ppf(prior.cdf(x)), x, rtol=1e-12, atol=1e-12)
    assert bg.Beta(1, 1, -1, 1).logpdf(-1.0) == pytest.approx(-np.log(2))
    with pytest.raises(ValueError, match="lower bound below"):
        bg.Beta(1, 1, 1, 0)


def test_priors_survive_storage(tmp_path):
    given = {"half_life": bg.Gamma(2, 0.5), "nugget": bg.Beta(2, 3)}
    m = bg.GLMM(
        "y ~ t",
        frame(),
        family="gaussian",
        residual=EXPONENTIAL,
        priors=bg.Priors(residual=given),
    )
    again = bg.load_fit(m.fit("ml").save(tmp_path / "a.fit")).model
    assert again.priors.assigned == m.priors.assigned and again.stated == m.stated


# ---- does the posterior exist?


def check(correlation, formula="y ~ t", data=None, **given):
    priors = bg.Priors(allow_improper=True, **given)
    data = frame() if data is None else data
    m = bg.GLMM(formula, data, family="gaussian", residual=correlation, priors=priors)
    return bg.check_propriety(m)


ORDINAL = bg.residual.AR1("visit", by="g")
SYMMETRIC = bg.residual.CompoundSymmetry(by="g")
FREE = bg.residual.Unstructured("visit", by="g")


@pytest.mark.parametrize("residual", [EXPONENTIAL, ORDINAL, SYMMETRIC, FREE], ids=str)
def test_with_the_default_priors_there_is_a_posterior(residual):
    data = pd.concat([frame(), frame().assign(g=list("mnopqr" * 4), y=np.arange(24.0) ** 0.5)])
    data = data.sort_values(["g", "visit"]).assign(visit=np.tile([1, 2, 3, 4], 12))
    data["t"] = data["visit"] * 1.0
    assert check(residual, data=data).verdict == "proper"
    flat = {"intercept": bg.Flat(), "beta": bg.Flat()}
    assert check(residual, data=data, **flat).verdict == "proper"


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({"phi": bg.Flat()}, "improper"),
        ({"phi": bg.Power(1)}, "improper"),
        ({"half_life": bg.LogNormal(0, np.inf)}, "improper"),
        ({"half_life": bg.Flat()}, "improper"),
        ({"nugget": bg.Beta(1, 0)}, "improper"),
        ({"nugget": bg.Beta(0, 1)}, "unknown"),
    ],
    ids=str,
)
def test_improper_priors_of_the_correlation_leave_no_posterior(given, verdict):
    report = check(EXPONENTIAL, residual=given)
    assert report.verdict == verdict and "infinite mass" in report.rule
    m = bg.GLMM(
        "y ~ t",
        frame(),
        family="gaussian",
        residual=EXPONENTIAL,
        priors=bg.Priors(residual=given, allow_improper=True),
    )
    with pytest.raises(
        bg.ImproperPosteriorError, match=report.subset[0] if report.subset else "unknown"
    ):
        m.fit("nuts")


def test_a_flat_half_life_without_a_nugget_is_not_decided():
    alone = bg.residual.Exponential("t", by="g")
    assert check(alone, residual={"half_life": bg.Flat()}).verdict == "unknown"


def integrated(m, values):
    """Log likelihood with the residual SD integrated out under ``1 / sd``, no constants."""
    d, rows = m.design, rows_of(m.repeated)
    whitening = rows.whiten(lambda g: m.residual.correlation(np.array(values), g))
    white = whitening(np.column_stack([d.X, d.y]))
    left = white[:, -1] - white[:, :-1] @ np.linalg.lstsq(white[:, :-1], white[:, -1])[0]
    log_det = np.linalg.slogdet(white[:, :-1].T @ white[:, :-1])[1]
    n = d.n - d.p
    return -0.5 * (whitening.log_det + log_det) - 0.5 * n * np.log(left @ left)


def test_the_likelihood_is_that_of_independence_as_the_rate_grows():
    """A flat prior of phi has infinite mass there: this is why it leaves no posterior."""
    m = model(bg.residual.Exponential("t", by="g"))
    plain = bg.GLMM("y ~ t", frame(), family="gaussian")
    X, y = plain.design.X, plain.design.y
    left = y - X @ np.linalg.lstsq(X, y)[0]
    expected = -0.5 * np.linalg.slogdet(X.T @ X)[1] - 0.5 * 22 * np.log(left @ left)
    found = [integrated(m, [rate]) for rate in (50.0, 500.0)]  # exp(-50): nothing is left
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_likelihood_is_bounded_at_the_limits_where_the_check_says_so():
    """As phi falls to zero, unless the differences within clusters are fitted exactly."""
    alone = bg.residual.Exponential("t", by="g")
    small = 10.0 ** -np.arange(3, 9)
    heavy = {"residual": {"half_life": bg.HalfCauchy(3.0)}}
    bounded = [integrated(model(alone), [phi]) for phi in small]
    # six clusters, one start fitted: the likelihood falls as phi^(5 / 2)
    np.testing.assert_allclose(np.diff(bounded), -2.5 * np.log(10), rtol=0.02)
    assert check(alone, **heavy).verdict == "proper"
    of_cluster = frame()["g"].map({"a": 3.0, "b": 1.0, "c": 4.0, "d": 1.5, "e": 5.0, "f": 9.0})
    exact = frame().assign(y=frame()["t"] + of_cluster)
    growing = [integrated(model(alone, exact), [phi]) for phi in small]
    assert np.all(np.diff(growing) > 1.0)
    assert check(alone, data=exact, **heavy).verdict == "unknown"
    assert check(alone, data=exact).verdict == "proper"  # the log-normal tail outweighs it
    # AR1 and alternating signs
    turning = frame().assign(y=(-1.0) ** frame()["visit"] * of_cluster)
    assert check(ORDINAL, "y ~ 1", turning).verdict == "unknown"
    # compound symmetry and sums of zero
    sums = frame()
    sums["y"] -= sums.groupby("g")["y"].transform("mean")
    assert check(SYMMETRIC, "y ~ 1", sums).verdict == "unknown"
    bounds = {"residual": {"rho": bg.Uniform(0, 1)}}
    assert check(SYMMETRIC, "y ~ 1", sums, **bounds).verdict == "proper"
    # unstructured, fewer clusters than times and columns
    assert check(FREE, data=frame()[frame()["g"] < "d"]).verdict == "unknown"
