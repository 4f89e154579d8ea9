"""Figures: what is computed for them, and that drawing them gives the same bytes twice."""

import numpy as np
import pytest
from scipy import stats

import bayes_glmm as bg
from bayes_glmm.report.figures.canvas import method_styles
from bayes_glmm.report.figures.caterpillar import NAMED, Effects, caterpillar
from bayes_glmm.report.figures.component import density, relative
from bayes_glmm.report.figures.forest import Mark, Panel, forest
from bayes_glmm.report.figures.predictive import (
    bin_names,
    calibration,
    count_edges,
    distribution,
    rootogram,
)
from bayes_glmm.report.figures.ranks import BINS, rank_counts, ranks
from bayes_glmm.report.html import LARGEST_SVG, source

STYLES = method_styles({"NUTS": bg.NUTS(), "PQL": bg.PQL(), "PQL, ML": bg.PQL(likelihood="ml")})


def is_image(image) -> bool:
    return image.png.startswith(b"\x89PNG") and b"<svg" in image.svg


def test_methods_of_a_kind_share_a_colour_and_differ_in_filling():
    first, second = STYLES["PQL"], STYLES["PQL, ML"]
    assert first.color == second.color
    assert first.filled
    assert not second.filled
    assert STYLES["NUTS"].color != first.color


def test_a_kernel_density_integrates_to_one_above_zero():
    draws = np.abs(np.random.default_rng(1).normal(0, 0.4, 4000))
    grid = np.linspace(0, 3, 2000)
    height = density(draws, grid)
    # all mass is above zero by reflection; the grid ends 7 SDs out
    assert np.trapezoid(height, grid) == pytest.approx(1.0, abs=2e-3)
    # half-normal at zero is 2 phi(0) / 0.4 = 1.995; kernel smoothing and 4,000 draws: 5 %
    assert height[0] == pytest.approx(2 * stats.norm.pdf(0) / 0.4, rel=0.08)


def test_a_profile_is_scaled_to_one():
    assert relative((np.arange(3.0), np.array([-5.0, -3.0, -4.0]))).max() == 1.0


def test_ranks_of_independent_chains_are_flat():
    draws = np.random.default_rng(4).normal(size=(4, 1000))
    counts = rank_counts(draws)
    assert counts.sum(axis=1).tolist() == [1000] * 4
    assert counts.sum(axis=0).tolist() == [200] * BINS
    assert counts.min() > stats.binom.ppf(1e-5, 1000, 1 / BINS)


def test_bins_of_counts_keep_zero_apart_and_cover_all():
    observed = np.array([0, 0, 1, 7, 90])
    edges = count_edges(observed, observed[None, :])
    assert edges[0] == -0.5
    assert edges[1] == 0.5
    assert np.histogram(observed, edges)[0].sum() == 5
    assert bin_names(edges)[:3] == ["0", "1", "4"]
    assert bin_names(edges)[-1].endswith("+")
    assert len(edges) <= 33


def test_drawing_twice_gives_the_same_bytes():
    marks = [Mark("NUTS", STYLES["NUTS"], 0.3, 0.1, 0.5), Mark("PQL", STYLES["PQL"], 0.2, 0.0, 0.4)]
    first, second = (forest([Panel("x", marks)], "log odds") for _ in range(2))
    assert first == second
    assert is_image(first)


def test_labels_are_not_read_as_formulas():
    marks = [Mark("$x$_{", STYLES["NUTS"], 0.3, float("nan"), float("nan"))]
    assert is_image(forest([Panel("$\\frac", marks, zero=False, floor=True)], "log odds"))


@pytest.mark.parametrize("levels", [3, NAMED + 1])
def test_caterpillars_of_few_and_of_many_levels(levels):
    middle = np.sin(np.arange(levels))
    one = Effects("NUTS", STYLES["NUTS"], middle, middle - 1, middle + 1)
    assert is_image(caterpillar([f"level {i}" for i in range(levels)], [one, one], "log odds"))


def test_predictive_figures():
    rng = np.random.default_rng(6)
    p = rng.uniform(0.1, 0.9, 80)
    assert is_image(calibration((rng.random(80) < p).astype(float), p, rng, "#0072B2"))
    counts = rng.poisson(3, (50, 80)).astype(float)
    assert is_image(rootogram(counts[0], counts, "#0072B2", "count"))
    assert is_image(distribution(counts[0], counts, "#0072B2", "y"))


def test_dense_drawings_go_into_the_page_as_png():
    rng = np.random.default_rng(7)
    image = ranks({f"x{i}": rng.normal(size=(4, 100)) for i in range(12)})
    kind = "svg+xml" if len(image.svg) <= LARGEST_SVG else "png"
    assert source(image).startswith(f"data:image/{kind};base64,")
