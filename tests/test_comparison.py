"""Comparison tables: what is in them, and what never is."""

from dataclasses import replace

import pandas as pd
import pytest
from standin import asymptotic_fit, posterior_fit, slope_model

import bayes_glmm as bg
from bayes_glmm.comparison import Failure, fit_all
from bayes_glmm.methods import GLM, Method


class Broken(GLM):
    """A method whose engine fails."""

    engine = "standin:no_such_engine"


def test_a_row_per_method_and_parameter():
    frame = bg.compare([asymptotic_fit(), posterior_fit()]).to_frame()
    assert list(frame["label"].value_counts()) == [6, 6]
    first = frame.groupby("label", sort=False).first()
    assert list(first["interval_kind"]) == ["95 % Wald", "95 % equal-tailed posterior"]
    assert first.loc["NUTS", "divergences"] == 0


def test_population_averaged_rows_say_so_and_stand_apart():
    model = bg.GLMM("y ~ x + (1 | g)", _binary(), family="bernoulli")
    both = bg.compare([model.fit(m) for m in ("laplace", "gee", "glm")])
    frame = both.to_frame()
    marginal = set(frame.loc[frame["estimand"] == "population-averaged", "label"])
    # a GLM that leaves the random terms out estimates the marginal mean, as GEE does
    assert marginal == {
        "GEE, exchangeable", "GLM", "Laplace, averaged", "Laplace, attenuation formula",
    }  # fmt: skip
    assert list(both.by_estimand("conditional")) == ["Laplace"]
    conditional, averaged = repr(both).split("population-averaged coefficients")
    assert "GEE" not in conditional
    assert "Laplace, averaged" in averaged and "Laplace, averaged" not in conditional


def test_averaged_rows_are_those_of_the_fits():
    model = bg.GLMM("y ~ x + (1 | g)", _binary(), family="bernoulli")
    both = bg.compare([model.fit(m) for m in ("laplace", "pql", "gee")])
    table = both.averaged()
    # the formula stands beside the first fit with a likelihood alone
    labels = ["Laplace, averaged", "Laplace, attenuation formula", "PQL, averaged"]
    assert list(dict.fromkeys(table["label"])) == labels
    for label, fit in both.by_estimand("conditional").items():
        rows = table[table["label"] == f"{label}, averaged"]
        expected = fit.population_averaged().coefficients()
        assert list(rows["estimate"]) == list(expected["estimate"])
    frame = both.to_frame().set_index("label").loc["PQL, averaged"]
    assert set(frame["estimand"]) == {"population-averaged"}
    assert set(frame["interval_kind"]) == {"95 % Wald"}
    assert both.averaged() is table  # computed once
    assert both.averaged(0.5)["conf_low"][0] > table["conf_low"][0]


def test_without_a_marginal_method_nothing_is_averaged_in_the_table():
    model = bg.GLMM("y ~ x + (1 | g)", _binary(), family="bernoulli")
    alone = bg.compare([model.fit("laplace")])
    assert set(alone.to_frame()["estimand"]) == {"conditional"}
    assert not alone.averaged().empty


def test_fits_that_cannot_be_averaged_are_left_out():
    frame = _binary().assign(y=[3, 1, 4, 1, 5, 2, 6, 5, 3, 15, 12, 17])
    model = bg.GLMM("y ~ x + (1 | g)", frame, family="poisson", link="sqrt")
    both = bg.compare([model.fit("laplace"), model.fit("gee")])
    assert both.fits["Laplace"].variance.estimate[0] > 0.5
    assert set(both.to_frame()["label"]) == {"Laplace", "GEE, exchangeable"}


def test_a_failed_method_is_a_row_and_the_rest_goes_on():
    model = bg.GLMM("y ~ x + (1 | g)", _binary(), family="bernoulli")
    started: list[str] = []
    results = fit_all(model, [Broken(), "gee"], started.append)
    assert started == ["Broken", "GEE, exchangeable"]
    assert isinstance(results[0], Failure)
    frame = bg.compare(results).to_frame()
    failed = frame[frame["label"] == "Broken"].iloc[0]
    assert not failed["converged"]
    assert "no_such_engine" in failed["message"]


def test_a_method_that_does_not_serve_says_it_in_its_own_words():
    model = bg.GLMM("y ~ x", _binary(), family="bernoulli")
    (failure,) = fit_all(model, ["ml"])
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("ML")
    assert "GLM()" in failure.reason


@pytest.mark.parametrize(
    ("fits", "words"),
    [
        (lambda: [], "got no fits"),
        (lambda: [asymptotic_fit(), asymptotic_fit()], "two fits labelled 'Laplace': give a dict"),
        (lambda: [asymptotic_fit(), _other_rows()], "different responses"),
        (lambda: [asymptotic_fit(), _other_link()], "one family and one link"),
        (lambda: asymptotic_fit().model, r"compare\(\) got a GLMM: give a fit"),
        (lambda: [asymptotic_fit().model], r"compare\(\) got a GLMM: give a fit"),
    ],
)
def test_what_does_not_compare_is_refused(fits, words):
    with pytest.raises(ValueError, match=words):
        bg.compare(fits())


def test_fits_one_by_one_are_a_list_of_them():
    fit, other = asymptotic_fit(), replace(asymptotic_fit(), method=bg.ML(nodes=5))
    assert list(bg.compare(fit, other).fits) == list(bg.compare([fit, other]).fits)


def test_a_fit_without_an_end_is_marked():
    lost = replace(asymptotic_fit(), converged=False)
    assert f"{lost.label} has not converged" in repr(bg.compare([lost]))
    assert "not converged" not in repr(bg.compare([asymptotic_fit()]))


def test_a_dict_gives_labels_of_its_own():
    both = bg.compare({"first": asymptotic_fit(), "second": asymptotic_fit()})
    assert list(both.to_frame()["label"].unique()) == ["first", "second"]


def test_methods_are_looked_up_by_name_with_a_hint():
    with pytest.raises(ValueError, match="did you mean 'laplace'"):
        slope_model().fit("laplase")
    with pytest.raises(ValueError, match=r"is a class: write ML\(\)"):
        slope_model().fit(bg.ML)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bg.ML(nodes=0), "integer of at least 1"),
        (lambda: bg.NUTS(chains=1), "integer of at least 2"),
        (lambda: bg.GEE(corr="toeplitz"), "'independence' or 'exchangeable' or 'ar1' or"),
        (lambda: bg.GEE(scale=0.0), "must be positive"),
        (lambda: bg.NUTS(target_accept=1.0), "between 0.5 and 1"),
    ],
)
def test_options_are_checked_when_a_method_is_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_labels_tell_methods_apart():
    labels = [m.label for m in (bg.ML(), bg.ML(nodes=1), bg.ML(nodes=9), bg.GEE(scale="n"))]
    assert labels == ["ML", "Laplace", "ML, 9 nodes", "GEE, exchangeable, scale=n"]


def test_a_stream_depends_on_seed_and_label_only():
    states = [m.stream(1).generate_state(2).tolist() for m in (bg.ML(), bg.ML(), bg.PQL())]
    assert states[0] == states[1] != states[2]


def test_every_method_names_an_engine_that_exists():
    for method in Method.__subclasses__():
        assert callable(method().load())


def _binary() -> pd.DataFrame:
    y = [0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0]
    return pd.DataFrame({"y": y, "x": [0.0, 1, 2] * 4, "g": list("aaabbbcccddd")})


def _other_rows():
    model = slope_model()
    frame = model.design.frame.assign(y=range(12))
    return asymptotic_fit(bg.GLMM(model.formula, frame, family="gaussian"), bg.ML(nodes=9))


def _other_link():
    model = slope_model()
    frame = model.design.frame.assign(y=model.design.frame["y"].abs())
    log = bg.GLMM(model.formula, frame, family="gaussian", link="log")
    return asymptotic_fit(log, bg.ML(nodes=9))


def test_several_gees_are_compared_by_their_criteria():
    model = bg.GLMM("y ~ x + (1 | g)", _binary(), family="bernoulli")
    fits = [model.fit(m) for m in ("gee", bg.GEE("independence"), "glm", "laplace")]
    both = bg.compare(fits)
    pd.testing.assert_frame_equal(both.qic(), bg.qic(fits[0], fits[1]))
    assert "criteria of the working correlations" in repr(both)
    one = bg.compare(fits[1:])
    assert one.qic().empty and "criteria" not in repr(one)
