"""The population-averaged block of the report, and what it says of PQL."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.report import About
from bayes_glmm.report.document import Heading, Paragraph, Table, spans
from bayes_glmm.report.figures.canvas import OTHER, STYLES
from bayes_glmm.report.figures.forest import Mark, Panel, aligned
from bayes_glmm.report.folder import make_document
from bayes_glmm.report.markdown import write_markdown
from bayes_glmm.report.material import Material
from bayes_glmm.report.sections.comparison import comparison
from bayes_glmm.report.sections.population import (
    contrast_pairs,
    contrasts,
    derived,
    shrinkage,
    what_is_what,
)


def words(text) -> str:
    return "".join(str(getattr(p, "text", getattr(p, "label", p))) for p in spans(text))


def data() -> pd.DataFrame:
    """A hundred levels of five binary rows, an SD of 3 and an interaction."""
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(100), 5)
    arm, time = np.where(g % 2 == 0, "a", "b"), np.tile(np.arange(5.0), 100)
    eta = -1 + 3.0 * rng.normal(size=100)[g] + 0.3 * time - 0.5 * time * (arm == "b")
    y = (rng.random(500) < 1 / (1 + np.exp(-eta))).astype(float)
    return pd.DataFrame({"y": y, "arm": arm, "time": time, "g": [f"g{i}" for i in g]})


@pytest.fixture(scope="module")
def fits():
    model = bg.GLMM("y ~ arm * time + (1 | g)", data(), family="bernoulli")
    methods = ("ml", "pql", "gee", "conditional_logit")
    return [model.fit(m) for m in methods]


def material_of(fits) -> Material:
    return Material(About("Arms"), bg.compare(fits), fits[0].model)


def test_the_averaged_rows_stand_in_the_block_of_gee(fits):
    material = material_of(fits)
    found = derived(material)
    assert list(found) == ["ML, averaged", "ML, attenuation formula", "PQL, averaged"]
    assert set(found["ML, averaged"]["kind"]) == {"delta method"}
    said = words(what_is_what(material)[0].text)
    assert "GEE, exchangeable estimate these coefficients themselves" in said
    assert "√(1 + 0.346 σ²)" in said
    assert material.style("ML, averaged") == material.style("ML")
    assert not material.style("ML, attenuation formula").filled
    assert material.style("nobody, averaged") == OTHER


def test_no_block_mixes_the_estimands(fits):
    blocks = comparison(material_of(fits))
    tables = [b for b in blocks if isinstance(b, Table)]
    labels = [
        {words(row[0]) for row in t.rows if not isinstance(row, Heading)} for t in tables[1:4]
    ]
    conditional, averaged, means = labels
    assert conditional == {"ML", "PQL", "conditional logit"}
    assert averaged == {"GEE, exchangeable", *derived(material_of(fits))}
    assert means == {"GEE, exchangeable", "ML, averaged"}


def test_what_conditional_logit_does_not_estimate_is_no_row(fits):
    blocks = comparison(material_of(fits))
    table = [b for b in blocks if isinstance(b, Table)][1]
    heading, rows = "", {}
    for row in table.rows:
        if isinstance(row, Heading):
            heading = words(row.text)
        elif words(row[0]) == "conditional logit":
            rows[heading] = row
    assert list(rows) == ["time", "arm[T.b]:time"]
    text = write_markdown(make_document(About("Arms"), bg.compare(fits)))
    assert "compares with no other" in text and "Not shown" not in text and "nan" not in text


def test_what_pql_does_is_computed(fits):
    ml, pql = fits[0], fits[1]
    (note,) = shrinkage(material_of(fits))
    assert isinstance(note, Paragraph)
    said = words(note.text)
    sds = [float(f.variance.estimate[0]) for f in (pql, ml)]
    assert sds[0] < 0.8 * sds[1]
    below = f"{100 - 100 * sds[0] / sds[1]:.0f}\u202f% below the {sds[1]:.1f}"
    assert f"at {sds[0]:.1f}, {below}" in said
    term = "arm[T.b]:time"
    ratio = pql.fixef()[term] / ml.fixef()[term]
    assert f"{term} is" in said and f"a factor of {ratio:.2g}" in said
    averages = [f.population_averaged().coefficients().set_index("term") for f in (pql, ml)]
    again = averages[0].estimate[term] / averages[1].estimate[term]
    assert f"a factor of {again:.3g}; what differs most" in said


def test_where_pql_is_not_far_below_nothing_is_said(fits):
    ml, pql = fits[0], fits[1]
    near = replace(pql, variance=replace(pql.variance, estimate=0.9 * ml.variance.estimate))
    assert shrinkage(material_of([ml, near])) == []
    assert shrinkage(material_of([pql])) == []  # no likelihood to compare with


def test_contrasts_are_of_factors_and_columns_of_two_values(fits):
    material = material_of(fits)
    assert contrast_pairs(material) == [("arm", "a", "b")]
    (table,) = contrasts(material)
    expected = fits[2].population_averaged().compare("arm", "a", "b")
    first = next(row for row in table.rows if not isinstance(row, Heading))
    assert words(first[1]) == f"{expected.estimate[0]:.3f}"
    coded = data().assign(arm=lambda d: (d.arm == "b") * 1.0)
    model = bg.GLMM("y ~ arm * time + (1 | g)", coded, family="bernoulli")
    assert contrast_pairs(material_of([model.fit("laplace")])) == [("arm", 0.0, 1.0)]


def test_the_mean_at_the_first_level_of_a_factor_is_shown_once():
    model = bg.GLMM(
        "y01 ~ trt + week_gt2 + (1 | id)", bg.load_dataset("bacteria"), family="bernoulli"
    )
    (table,) = contrasts(material_of([model.fit("laplace")]))
    headings = [words(row.text) for row in table.rows if isinstance(row, Heading)]
    means = [text for text in headings if text.startswith("trt: mean")]
    assert means == ["trt: mean, placebo", "trt: mean, drug", "trt: mean, drug+"]
    assert sum(text.startswith("trt: ratio") for text in headings) == 2


def test_panels_side_by_side_have_the_same_methods():
    ml, gee = Mark("ML", STYLES["ML"], 1.0, 0.5, 1.5), Mark("GEE", STYLES["GEE"], 2.0, 1.0, 3.0)
    one, two = aligned([Panel("a", [ml, gee]), Panel("b", [gee])])
    assert [m.label for m in two.marks] == [m.label for m in one.marks] == ["ML", "GEE"]
    assert np.isnan(two.marks[0].estimate) and two.marks[1] == gee


def test_criteria_stand_where_there_are_several_gees(fits):
    model = fits[0].model
    both = [fits[0], fits[2], model.fit(bg.GEE("independence"))]
    text = write_markdown(make_document(About("Arms"), bg.compare(both)))
    assert "Which working correlation" in text
    cic = bg.qic(*both[1:])["cic"]
    assert all(f"{value:.3f}" in text for value in cic)
    text = write_markdown(make_document(About("Arms"), bg.compare(fits)))
    assert "Which working correlation" not in text


def test_the_correlation_of_the_responses_stands_beside_the_latent_one(fits):
    text = write_markdown(make_document(About("Arms"), bg.compare(fits[1:2])))
    own = bg.icc(fits[1], scale="response")["icc"].iloc[0]
    assert "ICC, latent" in text and "ICC, responses" in text and f"| {own:.3f} |" in text
