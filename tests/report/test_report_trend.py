"""The fitted trend in a report: which column, whose mean, and nothing without a numeric one."""

import pytest

import bayes_glmm as bg
from bayes_glmm.report import About
from bayes_glmm.report.document import Picture
from bayes_glmm.report.material import Material
from bayes_glmm.report.sections.trend import choose_columns, trend


def material_of(fit) -> Material:
    return Material(About("Trend"), bg.compare([fit]), fit.model)


@pytest.mark.parametrize("term", ["C(time)", "bs(time, df=4)", "time + I(time**2)"])
def test_the_trend_of_each_diet(term):
    data = bg.load_dataset("milk")
    model = bg.GLMM(f"protein ~ diet + {term} + (1 | cow)", data, family="gaussian")
    assert choose_columns(model) == ("time", "diet")
    _, picture = trend(material_of(model.fit("reml")))
    assert isinstance(picture, Picture)
    assert "along time, by diet, averaged over the group effects" in picture.caption
    assert "diet lupins from 3." in picture.alt


def test_no_average_where_the_link_has_none():
    model = bg.GLMM(
        "y ~ trt + age + (1 | subject)", bg.load_dataset("epil"), family="poisson", link="sqrt"
    )
    fit = model.fit("laplace")
    assert "of a typical group" in trend(material_of(fit))[1].caption


def test_nothing_without_a_numeric_column():
    model = bg.GLMM(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        bg.load_dataset("cbpp"),
        family="binomial",
    )
    assert choose_columns(model) == (None, None)
    plain = bg.GLMM("y01 ~ trt + (1 | id)", bg.load_dataset("bacteria"), family="bernoulli")
    assert choose_columns(plain) == (None, None)
    assert trend(material_of(plain.fit("laplace"))) == []
