"""Numbers, formulas and scales as they are written."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayes_glmm.estimands import median_factor
from bayes_glmm.families import LINKS
from bayes_glmm.report.mathml import mathml, upright
from bayes_glmm.report.numbers import (
    decimals_for,
    duration,
    fixed,
    interval,
    listing,
    p_value,
    percent,
    significant,
    with_error,
)
from bayes_glmm.report.scales import SCALES, effect, spread


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (-0.9923, 0.3066, ("−0.99", "0.31")),
        (1234.5, 33.0, ("1\u202f234", "33")),
        (0.00012, 0.0000345, ("0.000120", "0.000034")),
        (0.5, float("nan"), ("0.500", "–")),
        (-0.001, 0.5, ("0.00", "0.50")),  # no minus before a zero
    ],
)
def test_an_estimate_has_the_digits_its_error_supports(value, error, shown):
    assert with_error(value, error) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0999, "0.10"),
        (74189.0, "74\u202f000"),
        (9.1e-5, "9.1\u202f×\u202f10⁻⁵"),
        (0.999, "1.0"),
        (0.0, "0"),
        (float("inf"), "∞"),
        (float("nan"), "–"),
    ],
)
def test_two_significant_digits(value, shown):
    assert significant(value) == shown


@given(st.floats(1e-4, 1e5), st.integers(2, 5))
def test_significant_digits_lose_no_more_than_half_a_unit(value, digits):
    text = significant(value, digits).replace("\u202f", "").replace("−", "-")
    if "×" not in text:
        assert float(text) == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits) * 1.0001)


def test_words_of_numbers():
    assert p_value(0.03123) == "p = 0.031"
    assert p_value(1e-12) == "p < 10⁻¹⁰"
    assert percent(0.123) == "12\u202f%"
    assert percent(0.0012) == "0.1\u202f%"
    assert duration(200) == "3\u202fmin 20\u202fs"
    assert duration(0.001) == "< 0.01\u202fs"
    assert interval(float("nan"), 1.0, 2) == "–"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert fixed(12345.6, 1) == "12\u202f345.6"
    assert decimals_for(0.0) == 2


def test_mathml_has_the_structure_of_the_formula():
    tree = ElementTree.fromstring(mathml(r"\sigma_{\mathrm{herd}}^2 + \log x"))
    subsup = tree.find("mrow/msubsup")
    assert [child.tag for child in subsup] == ["mi", "mrow", "mn"]
    assert subsup[0].text == "σ"
    assert "".join(tree.itertext()) == "σherd2+logx"


@given(st.text(max_size=30))
def test_any_name_is_well_formed_mathml_that_shows_it(name):
    characters = "".join(c for c in name if c.isprintable())
    shown = "".join(ElementTree.fromstring(mathml(upright(characters))).itertext())
    plain = {"`": "'", "\N{NO-BREAK SPACE}": " "}
    expected = "".join(plain.get(c, c) for c in characters)
    assert "".join(shown.split()).replace("\N{NO-BREAK SPACE}", "") == "".join(expected.split())


@given(st.text(r"\{}_^ab1 <&", max_size=20))
def test_any_latex_gives_well_formed_mathml(latex):
    ElementTree.fromstring(mathml(latex, display=True))


@pytest.mark.parametrize("link", sorted(LINKS))
def test_every_link_has_a_scale(link):
    assert SCALES[link].axis
    ElementTree.fromstring(mathml(LINKS[link].latex.format(r"\mu_i")))


def test_a_median_odds_ratio_by_simulation():
    # 200,000 pairs: standard error of the median of |difference| about 0.003 sd
    b = np.random.default_rng(2).normal(0, 0.65, (2, 200_000))
    assert median_factor(0.65) == pytest.approx(np.exp(np.median(np.abs(b[0] - b[1]))), rel=0.01)


def test_effects_in_words(model):
    assert effect(model, np.log(0.2), np.log(0.67)) == "odds ratio 0.20 to 0.67"
    assert spread(model, 0.0, 1.0).startswith("two groups: odds differ by a median factor of 1.0")
