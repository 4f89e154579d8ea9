"""Residual correlations: matrices, derivatives, and what their columns must hold."""

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.design import DataError
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


def test_methods_without_it_say_which_have_it():
    m = model(bg.residual.AR1("visit", by="g"), formula="y ~ t + (1 | g)")
    for method in ("pql", "glm", "nuts", None):
        with pytest.raises(NotServedError, match=r"use REML\(\) or ML\(\)"):
            m.fit(method)
    with pytest.raises(NotServedError, match="takes residuals as independent"):
        m.prior_predictive(10)
    with pytest.raises(NotServedError, match="takes residuals as independent"):
        bg.check_propriety(m)


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
