"""Node table, profile plots, ranks and intraclass correlations of real fits."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.fit import Variance, components_of
from bayes_glmm.report import About
from bayes_glmm.report.document import Document, Heading, Paragraph, Picture, Table, spans
from bayes_glmm.report.figures.zeta import Curve, zeta
from bayes_glmm.report.folder import write_document
from bayes_glmm.report.material import Material, TooLargeError, refuse_large
from bayes_glmm.report.sections.answer import answer
from bayes_glmm.report.sections.groups import _with_limits, groups
from bayes_glmm.report.sections.likelihood import _wald, likelihood
from bayes_glmm.report.sections.provenance import messages
from bayes_glmm.report.sections.variance import variance

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


def said(text) -> str:
    return "".join(str(getattr(s, "text", getattr(s, "label", s))) for s in spans(text))


def cells(table) -> list[list[str]]:
    return [[said(c) for c in row] for row in table.rows if not isinstance(row, Heading)]


def of(blocks, kind):
    return [block for block in blocks if isinstance(block, kind)]


def material_of(*fits) -> Material:
    return Material(About("A report"), bg.compare(list(fits)), fits[0].model)


@pytest.fixture(scope="module")
def cbpp():
    model = bg.GLMM(CBPP, bg.load_dataset("cbpp"), family="binomial")
    return material_of(model.fit("ml"), model.fit("laplace"), model.fit("gee"))


def flat(sd_of_zero=True):
    """Counts of levels with (next to) no variation between them."""
    y = np.tile([2, 3, 4, 1, 3, 2], 8)
    if not sd_of_zero:
        y = y + np.repeat([0, 1, 0, 2, 0, 0, 1, 1], 6)
    frame = pd.DataFrame({"y": y, "g": np.repeat(list("abcdefgh"), 6)})
    return bg.GLMM("y ~ 1 + (1 | g)", frame, family="poisson").fit("ml")


def test_the_node_table_is_the_fits_own_after_laplace(cbpp):
    (nodes, _) = of(likelihood(cbpp), Table)
    ml, laplace = cbpp.fits["ML"], cbpp.fits["Laplace"]
    rows = cells(nodes)
    assert [r[0] for r in rows] == ["1 (Laplace)", *map(str, ml.details["node_table"].nodes)]
    assert rows[0][1] == f"{laplace.loglik:.4f}".replace("-", "\N{MINUS SIGN}")
    assert rows[0][2] == "\N{EN DASH}"
    assert rows[1][2] == f"{ml.details['node_table'].loglik[0] - laplace.loglik:.3f}"
    assert rows[-1][3] == f"{ml.variance.estimate[0]:.4f}"
    assert "two changes in a row were below 1" in said(nodes.caption)


def test_one_node_is_said_to_be_one(cbpp):
    (text, *_) = of(likelihood(material_of(cbpp.fits["Laplace"])), Paragraph)
    assert "Laplace's approximation" in said(text.text)


def test_a_normal_response_needs_no_nodes():
    fit = bg.GLMM(
        "diameter ~ 1 + (1 | plate)", bg.load_dataset("penicillin"), family="gaussian"
    ).fit("ml")
    (text, *_) = of(likelihood(material_of(fit)), Paragraph)
    assert "exact" in said(text.text)


def test_profiles_are_drawn_and_their_limits_stand_beside_walds(cbpp):
    blocks = likelihood(cbpp)
    assert "profiles" in [p.name for p in of(blocks, Picture)]
    table = of(blocks, Table)[-1]
    fit = cbpp.fits["ML"]
    limits = fit.confint(method="profile")
    rows = cells(table)
    assert [r[0] for r in rows] == fit.parameter_names
    for row, low, high in zip(rows, limits.conf_low, limits.conf_high, strict=True):
        assert row[3] == f"{low:.2f} to {high:.2f}".replace("-", "\N{MINUS SIGN}")
    frame = cbpp.tables["profiles.csv"]["ML"]
    assert set(frame.parameter) == set(fit.parameter_names)
    assert frame.zeta.abs().max() > 2.5  # they reach beyond the interval's 1.96


def test_an_sd_whose_profile_reaches_zero_is_marked_one_sided():
    table = of(likelihood(material_of(flat(sd_of_zero=False))), Table)[-1]
    row = cells(table)[-1]
    assert row[0] == "sd_g[Intercept]"
    assert row[3].startswith("0 (one-sided) to")
    assert "sd_g[Intercept] the data do not exclude zero" in said(table.caption)


def test_a_zero_sd_has_profiles_but_no_wald_curve():
    blocks = likelihood(material_of(flat()))
    assert "profiles" in [p.name for p in of(blocks, Picture)]
    assert cells(of(blocks, Table)[-1])[-1][2] == "\N{EN DASH}"


def test_the_answer_at_a_zero_sd_says_so():
    fit = flat()
    other = replace(fit, variance=Variance(fit.variance.components, np.array([0.2]), np.zeros(1)))
    fits = bg.compare({"ML": fit, "other": other})
    (_, bullets) = answer(Material(About("A report"), fits, fit.model))
    (spread,) = [said(i) for i in bullets.items if said(i).startswith("Levels of g")]
    assert "SD 0, the edge of what it can be" in spread
    assert spread.endswith("Others: other 0.20.")


def test_the_figure_of_a_zero_sd_reaches_its_profile_limit():
    material = material_of(flat())
    (picture,) = of(variance(material), Picture)
    limit = material.profiles()[1].conf_high.iloc[-1]
    assert f"95 % interval 0 to {limit:.2g}" in said(picture.caption)


def test_few_levels_are_pointed_to_the_bootstrap(cbpp):
    test = of(variance(cbpp), Table)[-1]
    assert "bootstrap=500" in said(test.caption)


def test_walds_curves_meet_the_interval():
    """At the ends of the Wald interval its own zeta is -1.96 and 1.96, on every scale."""
    fit = bg.GLMM(
        "reaction ~ days + (days | subject)", bg.load_dataset("sleepstudy"), family="gaussian"
    ).fit("ml")
    limits = fit.confint()
    values = np.concatenate([fit.beta, fit.variance.estimate])
    errors = np.concatenate([fit.se(), fit.variance.std_error])
    kinds = ["", "", *(c.kind for c in fit.variance.components)]
    for k, kind in enumerate(kinds):
        ends = np.array([limits.conf_low[k], limits.conf_high[k]])
        assert _wald(kind, ends, values[k], errors[k]) == pytest.approx([-1.959964, 1.959964])


def test_large_models_are_spared_profiles(cbpp, monkeypatch):
    fit = cbpp.fits["ML"]
    refuse_large(fit, 5)
    monkeypatch.setattr("bayes_glmm.report.material.MOST_WORK", 1e5)
    with pytest.raises(TooLargeError, match=r"56 rows, 5 parameters"):
        refuse_large(fit, 5)
    material = Material(About("A report"), cbpp.comparison, cbpp.model)
    (text,) = of(likelihood(material), Paragraph)
    assert said(text.text).startswith("No profiles: they would take long here")


def test_a_curve_can_be_drawn_on_its_own():
    value = np.linspace(-1.0, 1.0, 9)
    curve = Curve("x", value, 3 * value, 3 * value, 0.0, -0.65, 0.65)
    style = material_of(flat()).style("ML")
    assert zeta([curve], style).svg.startswith(b"<?xml")


def test_ranks_stand_below_the_effects(cbpp):
    table = next(t for t in of(groups(cbpp), Table) if "Who is highest" in said(t.caption))
    expected = bg.rank_levels(cbpp.fits["ML"], "herd", top=3)
    rows = cells(table)
    assert [r[0] for r in rows] == list(expected.level[:10])
    assert [r[3] for r in rows][:3] == [f"{p:.2f}" for p in expected.p_top[:3]]
    assert rows[0][4] == f"{expected.rank_low[0]:.0f} to {expected.rank_high[0]:.0f}"
    kept = pd.concat(cbpp.tables["ranking.csv"].values())
    assert set(kept.level) == set(cbpp.model.design.groups[0].levels)


def test_effects_have_the_corrected_error(cbpp):
    fit = cbpp.fits["ML"]
    table = _with_limits(fit)
    sd = fit.ranef("mode", "corrected").sd
    np.testing.assert_allclose(table.conf_high - table.estimate, 1.959964 * sd, rtol=1e-6)
    pql = cbpp.model.fit("pql")
    np.testing.assert_array_equal(_with_limits(pql).sd, pql.ranef().sd)


def test_intraclass_correlations_stand_in_the_variance_section(cbpp):
    table = next(t for t in of(variance(cbpp), Table) if "Intraclass" in said(t.caption))
    (ml, laplace) = cells(table)
    row = bg.icc(cbpp.fits["ML"]).iloc[0]
    assert ml[:3] == ["ML", f"{row.icc:.3f}", f"{row.conf_low:.3f} to {row.conf_high:.3f}"]
    response = bg.icc(cbpp.fits["ML"], scale="response").iloc[0]
    assert ml[3] == f"{response.icc:.3f}"
    assert f"{bg.median_ratio(cbpp.fits['ML']).estimate[0]:.2f}" in ml[4:]
    assert laplace[0] == "Laplace"


def test_where_there_is_no_intraclass_correlation_a_sentence_says_why():
    model = bg.GLMM(
        "y ~ 1 + (0 + x | g)",
        pd.DataFrame({"y": [0, 1, 1, 0] * 6, "x": np.arange(24.0), "g": list("abcdef") * 4}),
        family="bernoulli",
    )
    fit = replace(flat(), model=model, details={})  # another model's: no profile to draw
    fit = replace(
        fit, variance=Variance(components_of(model), np.array([0.5]), np.array([0.1])), effects={}
    )
    words = [said(p.text) for p in of(variance(material_of(fit)), Paragraph)]
    assert any("No intraclass correlation: icc() needs a random intercept" in w for w in words)


def test_every_fit_is_named_among_the_messages(cbpp):
    (bullets,) = messages(cbpp)
    items = [said(item) for item in bullets.items]
    (gee,) = [i for i in items if "few-clusters" in i]
    assert gee.startswith("GEE, exchangeable few-clusters (warning): There are only 15 clusters;")
    assert "Why:" in gee and "What to try:" in gee
    assert items[-1] == "ML and Laplace: nothing to report."


def test_tables_are_written_beside_the_report_and_stale_ones_removed(tmp_path, cbpp):
    document = Document("A report", "", "", tables={"ranking.csv": "level\n1\n"})
    write_document(document, cbpp.comparison, tmp_path)
    assert (tmp_path / "ranking.csv").read_text(encoding="utf-8") == "level\n1\n"
    write_document(replace(document, tables={}), cbpp.comparison, tmp_path)
    assert not (tmp_path / "ranking.csv").exists()
    assert (tmp_path / "comparison.csv").exists()


def test_effects_that_are_all_zero_are_said_and_not_drawn():
    blocks = groups(material_of(flat()))
    assert any("estimated as zero" in said(b.text) for b in blocks if isinstance(b, Paragraph))
    assert not any(isinstance(b, Picture | Table) for b in blocks)
