"""Figures of what priors say: panels, densities, and what is refused."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import bayes_glmm as bg
from bayes_glmm.report import prior_plots as plots

SLEEP = bg.load_dataset("sleepstudy")
TICKS = bg.load_dataset("grouseticks")


def slopes(**priors) -> bg.GLMM:
    formula = "reaction ~ days + (days | subject)"
    return bg.GLMM(formula, SLEEP, family="gaussian", priors=bg.Priors(**priors))


def panels(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.axison]


@pytest.mark.parametrize(
    "priors",
    [{}, {"joint": bg.R2D2M2()}, {"covariance": bg.InverseWishart(4, ((900.0, 0.0), (0.0, 25.0)))}],
    ids=["default", "joint", "covariance"],
)
def test_one_panel_per_prior_in_the_order_of_the_table(priors):
    model = slopes(**priors)
    figure = bg.plot_priors(model)
    table = model.priors_table()
    single = table[~table["parameter"].str.startswith("covariance_")]
    titles = [axes.get_title(loc="left") for axes in panels(figure)]
    assert titles == list(single["parameter"])
    for axes, row in zip(panels(figure), single.itertuples(index=False), strict=True):
        low, high = axes.get_xlim()
        assert low < high
        if row.parameter.startswith("sd_"):
            assert low == 0


def test_parameters_of_the_same_prior_share_a_panel(model):
    figure = bg.plot_priors(model.with_priors(intercept=bg.Normal(0, 2), beta=bg.Normal(0, 2)))
    titles = [axes.get_title(loc="left") for axes in panels(figure)]
    assert titles == ["beta[Intercept] and 1 more", "sd_herd[Intercept]"]


def test_an_improper_prior_has_a_panel_that_says_so(model):
    figure = bg.plot_priors(model.with_priors(sd=bg.Flat(), allow_improper=True))
    (text,) = panels(figure)[-1].texts
    assert text.get_text() == "improper: no distribution"


@pytest.mark.parametrize("sd", [bg.HalfNormal(1), bg.HalfCauchy(2), bg.Uniform(0, 3)], ids=str)
def test_densities_are_those_of_the_prior(model, sd):
    (shared,) = plots.shared_deviations(model.with_priors(sd=sd))
    d = plots.density_of(model, shared)
    # a trapezoidal rule over 400 points of a smooth density; the first cell is left out
    inside = np.trapezoid(d.height, d.grid) + d.height[0] * d.grid[0]
    assert inside == pytest.approx(1 - d.beyond, abs=2e-4)
    assert d.quantiles[1] == sd.ppf(0.5)


def test_the_intraclass_correlation_has_the_density_of_a_function_of_the_sd(model):
    sd = bg.Gamma(3, 2)  # vanishes at zero, so that the density of the ICC is bounded
    (shared,) = plots.shared_deviations(model.with_priors(sd=sd))
    d = plots._share_density(model, shared)
    below = np.cumsum(d.height) * (d.grid[1] - d.grid[0])
    for k in (100, 200, 300):
        point = np.sqrt(np.pi**2 / 3 * d.grid[k] / (1 - d.grid[k]))
        # the sum of cells of 1/400, half a cell of heights below 3
        assert below[k] == pytest.approx(sd.cdf(point), abs=5e-3)


def test_implied_has_a_second_column_where_there_is_an_icc(model):
    assert len(panels(bg.plot_implied(model))) == 2
    counts = bg.GLMM("ticks ~ 1 + (1 | brood) + (1 | location)", TICKS, family="poisson")
    assert len(panels(bg.plot_implied(counts))) == 1  # one prior for both factors
    assert len(panels(bg.plot_implied(slopes()))) == 2  # intercept and slope, no ICC


def test_prior_predictive_is_drawn_with_the_means_of_every_factor(model):
    figure = bg.plot_prior_predictive(model, draws=50, seed=2)
    titles = [axes.get_title(loc="left") for axes in panels(figure)]
    assert titles == ["mean of all rows", "means of levels of herd"]


def test_figures_are_shown_by_a_notebook_and_saved(model, tmp_path):
    figure = bg.plot_implied(model)
    assert figure._repr_png_().startswith(b"\x89PNG")
    figure.savefig(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_refusals(model):
    flat = model.with_priors(sd=bg.Flat(), allow_improper=True)
    with pytest.raises(
        bg.ImproperPriorError, match=r"sd_herd\[Intercept\] is improper, so it impl"
    ):
        bg.plot_implied(flat)
    with pytest.raises(bg.ImproperPriorError, match="improper, so nothing can be drawn"):
        bg.plot_prior_predictive(flat)
    with pytest.raises(ValueError, match="needs a model with random effects"):
        bg.plot_implied(bg.GLMM("reaction ~ days", SLEEP, family="gaussian"))
