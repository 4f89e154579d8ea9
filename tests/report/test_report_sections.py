"""What the sections say, on fits whose numbers are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from standin import asymptotic_fit, posterior_fit

import bayes_glmm as bg
from bayes_glmm.datatree import draws_of
from bayes_glmm.report import About
from bayes_glmm.report.document import Heading, Table, spans
from bayes_glmm.report.figures.canvas import STYLES
from bayes_glmm.report.figures.caterpillar import Effects
from bayes_glmm.report.folder import make_document
from bayes_glmm.report.markdown import write_markdown
from bayes_glmm.report.material import Material, attempt
from bayes_glmm.report.sections import predictive as checks
from bayes_glmm.report.sections.answer import answer
from bayes_glmm.report.sections.comparison import _tidy
from bayes_glmm.report.sections.groups import _extremes
from bayes_glmm.report.sections.model import equations
from bayes_glmm.report.sections.predictive import _between, _probabilities, predictive
from bayes_glmm.report.sections.sampling import sampling
from bayes_glmm.report.sections.variance import variance


def text_of(content) -> str:
    """All words of a text or of blocks."""
    if isinstance(content, str):
        return content
    words = []
    for piece in spans(content) if not hasattr(content, "items") else ():
        words.append(getattr(piece, "text", getattr(piece, "label", piece)))
    return "".join(map(str, words))


def tables(document, slug):
    (section,) = (s for s in document.sections if s.slug == slug)
    return [block for block in section.blocks if isinstance(block, Table)]


def cells(table) -> list[list[str]]:
    return [[text_of(c) for c in row] for row in table.rows if not isinstance(row, Heading)]


def test_every_section_is_there_and_none_failed(document):
    slugs = [section.slug for section in document.sections]
    assert slugs[:4] == ["answer", "data", "model", "prior"]
    assert len(slugs) == 13
    assert all(section.blocks for section in document.sections)
    assert "Not shown" not in write_markdown(document)


def test_figures_are_the_promised_ones_and_described(document):
    names = [picture.name for picture in document.pictures()]
    assert names == [
        "data",
        "prior-sd",
        "prior-predictive",
        "forest-conditional",
        "forest-population-averaged",
        "sd-herd-intercept",
        "effects-herd-intercept",
        "predictive",
        "ranks",
    ]
    for picture in document.pictures():
        assert len(picture.alt) > 20
        assert len(text_of(picture.caption)) > 40


def test_a_failed_method_is_a_row_that_says_why(document):
    (methods, *_) = tables(document, "comparison")
    row = cells(methods)[-1]
    assert row[:3] == [
        "Broken",
        "failed",
        "Broken does <b>not</b> serve this | model: use ML() instead.",
    ]


def test_estimands_have_tables_of_their_own(document):
    _, conditional, averaged, contrasts, likelihoods = tables(document, "comparison")
    assert {row[0] for row in cells(conditional)} == {"NUTS", "ML", "PQL"}
    derived = {"NUTS, averaged", "ML, averaged", "ML, attenuation formula", "PQL, averaged"}
    assert {row[0] for row in cells(averaged)} == {"GEE, exchangeable", *derived}
    assert {row[0] for row in cells(contrasts)} == {
        "GEE, exchangeable", "NUTS, averaged", "ML, averaged",
    }  # fmt: skip
    assert [row[:3] for row in cells(likelihoods)] == [["ML", "quadrature", "−31.400"]]


def test_estimates_are_the_fits_numbers(document, comparison):
    conditional = tables(document, "comparison")[1]
    (ml,) = [row for row in cells(conditional)[:3] if row[0] == "ML"]
    # SE 0.2236: two digits; Wald limits -1.4 -+ 1.96 * 0.2236
    assert ml[1:5] == ["−1.40", "0.22", "−1.84 to −0.96", "Wald"]
    nuts = cells(conditional)[0]
    assert nuts[4:] == ["equal-tailed", "1.002", "1\u202f234"]


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger"])
def test_an_interval_by_t_says_its_degrees_of_freedom(df):
    """A balanced random-slopes model has 17 for both coefficients."""
    data = bg.load_dataset("sleepstudy")
    slopes = bg.GLMM("reaction ~ days + (days | subject)", data, family="gaussian")
    fit = slopes.fit(bg.REML(df=df))
    kinds = _tidy({fit.label: fit})[fit.label].kind.tolist()
    assert kinds[:3] == ["Wald, t with 17.0 df", "Wald, t with 17.0 df", "Wald, log scale"]


def test_the_answer_quotes_the_posterior_and_compares(material):
    lead, bullets = answer(material)
    said = [text_of(item) for item in bullets.items]
    assert "NUTS" in text_of(lead.text)
    (effect,) = [s for s in said if s.startswith("period[T.2]")]
    assert "odds ratio 0.38" in effect  # exp(-1.0 + 0.02)
    # PQL: -0.7 + 1.96 * 0.3 < 0, so all three exclude 1
    assert "all 3 mixed-model methods' intervals exclude 1" in effect
    (spread,) = [s for s in said if s.startswith("Levels of herd")]
    assert "PQL 34\u202f% below" in spread  # 0.42 / 0.64 - 1
    (agreement,) = [s for s in said if s.startswith("Agreement")]
    # |0.3 - 0.02| / sqrt(0.05) = 1.25 standard errors of the intercept
    assert "PQL differs by up to 1.3 standard errors (Intercept)" in agreement
    assert any(s.startswith("Averaged over the population") for s in said)
    assert any("Failed" in s and "Broken" in s for s in said)


def test_without_a_posterior_the_likelihood_is_quoted(about, comparison, model):
    fits = {k: f for k, f in comparison.fits.items() if f.draws is None}
    material = Material(about, bg.compare(list(fits.values())), model)
    assert "ML" in text_of(answer(material)[0].text)
    assert "No posterior" in text_of(predictive(material)[0].text)
    assert "No method drew" in text_of(sampling(material)[0].text)


def test_random_slopes_gaussian_and_correlations_are_reported():
    document = make_document(
        About("Slopes"), bg.compare({"ML": asymptotic_fit(), "NUTS": posterior_fit()})
    )
    names = [picture.name for picture in document.pictures()]
    assert {"sd-g-intercept", "sd-g-x", "effects-g-intercept", "effects-g-x"} <= set(names)
    conditional = tables(document, "comparison")[1]
    headings = [text_of(r.text) for r in conditional.rows if isinstance(r, Heading)]
    assert {"SD of g", "SD of g, x"} <= set(headings)
    assert "corr(Intercept, x) of g" in headings


def test_equations_name_columns_and_groups(model):
    lines = equations(model)
    assert lines[0].startswith(r"y_i \mid b \sim \mathrm{Binomial}")
    assert r"\beta_{1}\,\mathrm{period[T.2]}_i" in lines[1]
    assert lines[2] == r"b_{\mathrm{herd}} \sim \mathrm{N}(0, \sigma_{\mathrm{herd}}^2)"


def test_a_long_predictor_is_broken_before_plus_signs():
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(30, 6)))
    frame.columns = ["y", *(f"a_rather_long_name_{k}" for k in range(5))]
    model = bg.GLMM("y ~ " + " + ".join(frame.columns[1:]), frame, family="gaussian")
    lines = equations(model)[1:]
    assert len(lines) > 2
    assert all(line.startswith(r"\quad {} + ") for line in lines[1:])
    written = " + ".join(line.removeprefix(r"\quad {} + ") for line in lines)
    assert [
        term for term in model.design.terms[1:] if term.replace("_", r"\_") not in written
    ] == []


def test_misfits_are_statistics_no_replicate_reaches(material, monkeypatch):
    replicated = np.random.default_rng(3).normal(size=400)
    measures = [("inside", 0.1, replicated), ("beyond", 9.0, replicated)]
    monkeypatch.setattr(checks, "_measures", lambda *_: measures)
    assert checks.misfits(material) == ["beyond"]


def test_the_boundary_test_and_the_profile_are_asked_for_once(
    about, comparison, model, monkeypatch
):
    calls = []

    def boundary_test(fit, group, term=None):
        calls.append((group, term))
        return SimpleNamespace(
            statistic=14.09,
            weights=(0.5, 0.5),
            df=(0, 1),
            p_value=8.7e-5,
            p_naive=1.7e-4,
            note="A note.",
        )

    def profile(fit, parameter, grid):
        calls.append(parameter)
        return -31.4 - (np.asarray(grid) - 0.6) ** 2 / 0.06

    stages = []
    fake = SimpleNamespace(boundary_test=boundary_test, profile=profile)
    monkeypatch.setattr("bayes_glmm.report.material.inference", lambda: fake)
    material = Material(about, comparison, model, progress=stages.append)
    answer(material)
    blocks = variance(material)
    _, test = (block for block in blocks if isinstance(block, Table))
    assert cells(test)[0][1:] == [
        "14.09",
        "½ χ²(0) + ½ χ²(1)",
        *["8.7\u202f×\u202f10⁻⁵"],
        "0.00017",
    ]
    assert sorted(map(str, calls)) == ["('herd', 'Intercept')", "sd_herd[Intercept]"]
    assert any("profile" in stage for stage in stages)


def test_a_part_that_fails_is_a_sentence():
    def broken():
        raise KeyError("no such draws")

    (sentence,) = attempt("rank plots", broken)
    assert sentence.kind == "warning"
    assert "rank plots" in sentence.text
    assert "no such draws" in sentence.text


def test_leave_one_out_probabilities_of_ones(about, comparison, model):
    """Density exp(elpd) of what was seen: itself for a one, the complement for a zero."""
    material = Material(about, comparison, model)
    (fit,) = (f for f in comparison.fits.values() if f.draws is not None)
    observed = np.tile([0.0, 1.0], 12)
    p = _probabilities(material, fit, observed)
    seen = np.where(observed == 1, p, 1 - p)
    # the stand-in's log densities are N(-2, 0.1): each leave-one-out density is near exp(-2)
    np.testing.assert_allclose(seen, np.exp(-2.0), rtol=0.05)
    assert len([k for k in material.memory if "leave-one-out" in k]) == 1


def test_draws_keep_their_names(comparison):
    draws = draws_of(comparison.fits["NUTS"])
    assert list(draws) == ["Intercept", "period[T.2]", "sd_herd[Intercept]"]
    expected = comparison.fits["NUTS"].draws["posterior"]["sd_herd"][..., 0]
    np.testing.assert_array_equal(draws["sd_herd[Intercept]"], expected)


def test_spread_of_group_means_by_hand():
    y = np.array([[1.0, 3.0, 5.0, 5.0]])
    assert _between(y, np.array([0, 0, 1, 1]))[0] == pytest.approx(1.5)


def test_extremes_of_a_long_list_of_levels():
    middle = np.arange(50.0)
    one = Effects("NUTS", STYLES["NUTS"], middle, middle - 1, middle + 1)
    rows = _extremes("herd", [f"level {i}" for i in range(50)], one).blocks[0].rows
    assert [row[0] for row in rows] == [f"level {i}" for i in (*range(5), *range(45, 50))]
    assert rows[0][1:] == ("0.00", "−1.00 to 1.00")
