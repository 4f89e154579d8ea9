"""What the report says of the priors before the data."""

import numpy as np
import pytest
from test_report_sections import cells, text_of

import bayes_glmm as bg
from bayes_glmm.report import About
from bayes_glmm.report.document import Heading, Paragraph, Picture, Table
from bayes_glmm.report.material import Material, TooLargeError
from bayes_glmm.report.prior_plots import axis_of, panels_of
from bayes_glmm.report.sections.model import model as model_section
from bayes_glmm.report.sections.prior import prior


def blocks_of(model) -> list:
    found = prior(Material(About("x"), None, model))
    assert not [b for b in found if isinstance(b, Paragraph) and "Not shown" in text_of(b.text)]
    return found


def of(blocks, kind) -> list:
    return [block for block in blocks if isinstance(block, kind)]


def test_quantiles_and_what_follows_from_them(model):
    """HalfNormal(1): quantiles .0627, .674, 1.96; odds ratio exp(3.92 sd), ICC sd^2/(sd^2+3.29)."""
    table, _ = of(blocks_of(model.with_priors(sd=bg.HalfNormal(1))), Table)
    assert cells(table) == [
        ["SD", "0.063", "0.67", "2.0"],
        ["odds ratio, high to low level", "1.3", "14", "2\u202f200"],
        ["intraclass correlation", "0.0012", "0.12", "0.54"],
    ]


def test_factors_with_the_same_prior_are_one_panel():
    frame = bg.load_dataset("grouseticks")
    model = bg.GLMM("ticks ~ 1 + (1 | brood) + (1 | location)", frame, family="poisson")
    table, _ = of(blocks_of(model), Table)
    headings = [text_of(row.text) for row in table.rows if isinstance(row, Heading)]
    assert headings == ["SD of brood and location"]


@pytest.mark.parametrize(
    ("family", "link", "scale"),
    [("gaussian", None, "linear"), ("gamma", "log", "log"), ("poisson", None, "log1p")],
)
def test_axes_hold_the_data_and_say_what_they_leave_out(family, link, scale):
    frame = bg.load_dataset("sleepstudy")
    frame["n"] = frame["reaction"].round()
    response = "n" if family == "poisson" else "reaction"
    formula = f"{response} ~ days + (days | subject)"
    wide = bg.Priors(sd=bg.HalfCauchy(5), intercept=bg.Cauchy(0, 5))
    model = bg.GLMM(formula, frame, family=family, link=link, priors=wide)
    material = Material(About("x"), None, model)
    drawn = np.asarray(material.prior_predictive()["prior_predictive"]["y"])[0]
    panels = panels_of(model, model.design.in_user_order(), drawn)
    found, edges = axis_of(model, panels)
    assert found == scale
    assert np.all(np.diff(edges) > 0)
    for _, _, observed in panels:
        assert np.all((observed >= edges[0]) & (observed <= edges[-1]))
    *_, picture = of(blocks_of(model), Picture)
    assert "The axis leaves out" in text_of(picture.caption)


def test_means_of_levels_are_those_of_the_rows(model):
    design = model.design.in_user_order()
    y = np.vstack([design.y, np.zeros(design.n)])
    panels = panels_of(model, design, y)
    frame = model.design.frame
    herds = frame.groupby("herd")[["cases", "size"]].sum().loc[list(design.groups[0].levels)]
    assert panels[1][2] == pytest.approx(herds["cases"] / herds["size"])
    assert np.array_equal(panels[1][1][0], panels[1][2])
    assert np.all(panels[1][1][1] == 0)
    assert panels[0][2] == pytest.approx(frame["cases"].sum() / frame["size"].sum())


def test_draws_without_a_mean_are_counted():
    model = bg.GLMM(
        "reaction ~ days + (1 | subject)",
        bg.load_dataset("sleepstudy"),
        family="gamma",
        link="inverse",
        priors=bg.Priors(intercept=bg.Normal(0.01, 0.01)),
    )
    said = " ".join(text_of(b.text) for b in of(blocks_of(model), Paragraph))
    assert "the link inverse has no mean; they are left out" in said


def test_an_improper_prior_says_nothing(model):
    flat = model.with_priors(sd=bg.Flat(), allow_improper=True)
    (only,) = blocks_of(flat)
    assert "says nothing before the data" in text_of(only.text)


def test_without_random_effects_only_responses_are_shown(model):
    frame = model.design.frame
    plain = bg.GLMM("cbind(cases, size - cases) ~ period", frame, family="binomial")
    assert [p.name for p in of(blocks_of(plain), Picture)] == ["prior-predictive"]


def test_large_data_are_not_drawn(model, monkeypatch):
    monkeypatch.setattr("bayes_glmm.report.material.RESPONSES", 24 * 49)
    with pytest.raises(TooLargeError, match="24 rows are too many to draw often"):
        Material(About("x"), None, model).prior_predictive()


def test_a_covariance_matrix_is_shown_by_its_margins():
    priors = bg.Priors(covariance=bg.InverseWishart(4, 900.0))
    frame = bg.load_dataset("sleepstudy")
    formula = "reaction ~ days + (days | subject)"
    m = bg.GLMM(formula, frame, family="gaussian", priors=priors)
    table, _ = of(blocks_of(m), Table)
    headings = [text_of(row.text) for row in table.rows if isinstance(row, Heading)]
    assert headings == ["SD of subject", "SD of subject, days"]
    stated, *_ = of(model_section(Material(About("x"), None, m)), Table)
    (row,) = [row for row in cells(stated) if row[0] == "covariance_subject"]
    assert row[2:4] == ["–", "the standard deviations above, and correlations"]


def test_a_joint_prior_is_said_by_its_share_and_its_margins(model):
    m = model.with_priors(joint=bg.R2D2M2(precision=4))  # Beta(2, 2)
    table, _ = of(blocks_of(m), Table)
    assert cells(table)[0][0] == "SD"
    stated, *_ = of(model_section(Material(About("x"), None, m)), Table)
    (row,) = [row for row in cells(stated) if row[0] == "r2"]
    assert row[3] == "variance explained, as a share: 0.09 to 0.91"
