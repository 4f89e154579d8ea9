"""What the report says of the residuals of linear models."""

import numpy as np
import pytest

import bayes_glmm as bg
from bayes_glmm.report import About
from bayes_glmm.report.document import Bullets, Paragraph, Picture, spans
from bayes_glmm.report.folder import make_document
from bayes_glmm.report.material import Material
from bayes_glmm.report.sections.answer import answer
from bayes_glmm.report.sections.residuals import residuals


def words(block) -> str:
    return "".join(str(getattr(p, "text", getattr(p, "label", p))) for p in spans(block.text))


def material_of(fits) -> Material:
    return Material(About("Milk"), bg.compare(fits), fits[0].model)


@pytest.fixture(scope="module")
def milk():
    model = bg.GLMM(
        "protein ~ diet + time + (1 | cow)",
        bg.load_dataset("milk"),
        family="gaussian",
        residual=bg.residual.Exponential("time", by="cow", nugget=True),
    )
    return material_of([model.fit("reml"), model.fit("ml"), model.fit("ols")])


def test_the_correlation_stands_in_words(milk):
    claims, correlation, survival, variogram, plots = residuals(milk)
    tidy = milk.fits["REML"].tidy(("ran_pars",)).set_index("term").estimate
    half_life = np.log(2) / tidy["residual phi"]
    assert f"falls by half in {half_life:.2g} units of time, " in words(correlation)
    (bullets,) = [block for block in answer(milk) if isinstance(block, Bullets)]
    said = [spans(item) for item in bullets.items]
    assert any("falls by half" in str(part) for item in said for part in item)
    assert f"error is {100 * tidy['residual nugget']:.0f}" in words(correlation)
    assert milk.fits["REML"].varcorr().sd[0] == 0
    assert "REML estimates it as zero. So little of it" in words(survival)
    assert "ML estimates" not in words(survival).replace("REML", "")  # REML speaks for both
    assert isinstance(variogram, Picture) and isinstance(plots, Picture)
    assert isinstance(claims, Paragraph)


def test_what_independence_would_claim_is_computed(milk):
    claims = words(residuals(milk)[0])
    known, claimed = (milk.fits[k].se() for k in ("REML", "OLS, naive"))
    ratio = (known / claimed)[1:]
    assert f"error of {ratio.idxmax()} is {claimed[ratio.idxmax()]:.2g}"[:40] in claims
    assert f"{ratio.max():.2g} times as large" in claims
    assert ratio.idxmin() in claims  # time is compared within cows, and errs the other way


def test_other_families_have_no_such_section():
    model = bg.GLMM("y ~ trt + (1 | subject)", bg.load_dataset("epil"), family="poisson")
    material = material_of([model.fit("laplace")])
    assert residuals(material) == []
    document = make_document(About("Seizures"), material.comparison)
    assert "residuals" not in [section.slug for section in document.sections]
    assert "variance" in [section.slug for section in document.sections]
