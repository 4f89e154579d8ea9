"""What priors say before the data, as figures for a notebook and for the report.

>>> plot_priors(model).savefig("priors.png")

Each function returns a matplotlib Figure, which a notebook shows and ``savefig`` writes.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ..priors import ImproperPriorError, Prior
from ..priors.covariances import CovariancePrior
from ..priors.implied import LATENT, RATIOS, intraclass
from .figures import prior as figures
from .figures.canvas import styled
from .numbers import listing
from .scales import scale_of

POINTS = 400  # of a drawn density
FARTHEST = 10.0  # end of the axis of an SD: there odds ratios are of the order 10^17
PROBABILITIES = (0.05, 0.5, 0.95)


def plot_priors(model) -> Figure:
    """Draw the prior of every parameter: density, median and central 90 %.

    Parameters that have the same prior share a panel. Priors are drawn on the scale of the
    parameter itself: a coefficient on the link scale, a standard deviation (not a variance), one
    correlation, the dispersion. An improper prior has no distribution, and its panel says so.

    Parameters
    ----------
    model
        The GLMM.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels a row, in the order of ``model.priors_table()``.
    """
    return styled(figures.priors_figure)([_single(row, names) for row, names in _alike(model)])


def plot_implied(model) -> Figure:
    """Draw what the priors of standard deviations mean for groups.

    On the left the prior density of each SD, with the odds ratio (ratio of means, of hazards) of a
    high to a low group on the axis above; on the right, for random intercepts under links of a
    probability, the density of the intraclass correlation that it implies.

    Parameters
    ----------
    model
        The GLMM, with random effects.

    Returns
    -------
    matplotlib.figure.Figure
        One row for each distinct prior of an SD.

    Raises
    ------
    ImproperPriorError
        If the prior of an SD is improper: it implies nothing.
    ValueError
        If the model has no random effects.
    """
    shared = shared_deviations(model)
    if not shared:
        raise ValueError("plot_implied() needs a model with random effects.")
    _need_proper([(f"sd_{s.groups[0]}[{s.term}]", s.prior) for s in shared], "implies nothing")
    rows = [(density_of(model, s), _share_density(model, s)) for s in shared]
    return styled(figures.implied_figure)(rows, scale_of(model).axis)


def plot_prior_predictive(model, draws: int = 1000, seed: int = 1) -> Figure:
    """Draw the means that the priors expect, of all rows and of single groups, with those observed.

    Parameters
    ----------
    model
        The GLMM.
    draws, seed
        Data sets drawn from the priors, and the seed of their stream.

    Returns
    -------
    matplotlib.figure.Figure
        Histograms of the means; marks below them are the observed values.

    Raises
    ------
    ImproperPriorError
        If a prior is improper: nothing can be drawn from it.
    """
    tree = model.prior_predictive(draws, seed)
    y = np.asarray(tree["prior_predictive"]["y"])[0]
    panels = panels_of(model, model.design.in_user_order(), y[np.all(np.isfinite(y), axis=1)])
    scale, edges = axis_of(model, panels)
    drawn = [figures.Means(label, d, o, edges) for label, d, o in panels]
    return styled(figures.means_figure)(drawn, axis_label(model), scale)


def _need_proper(named, what: str) -> None:
    for name, prior in named:
        if not prior.proper:
            raise ImproperPriorError(
                f"The prior {prior.describe()} of {name} is improper, so it {what}: "
                "give it a proper prior."
            )


# ---- single priors


def _alike(model) -> list[tuple]:
    """Rows of the table of priors with the names that share each; whole matrices left out."""
    rows: dict[tuple, list] = {}
    for row in model.priors.assigned:
        if not isinstance(row.prior, CovariancePrior):
            rows.setdefault((row.prior, row.parameter.split("[")[0], row.dimension), []).append(row)
    return [(found[0], [r.parameter for r in found]) for found in rows.values()]


def _single(row, names: list[str]) -> figures.Density:
    """Density of one prior on a grid that holds nearly all of it."""
    label = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    prior = row.prior
    if not prior.proper:
        nothing = np.array([0.0, 1.0])
        return figures.Density(label, nothing, np.zeros(2), (0.0, 0.0, 0.0), 0.0, prior.describe())
    extra = (row.dimension,) if "corr" in prior.roles else ()
    low, middle, high = (float(prior.ppf(p, *extra)) for p in PROBABILITIES)
    start, end = _span(prior, low, middle, high)
    step = (end - start) / POINTS
    grid = np.linspace(start + step, end - step, POINTS)
    if "corr" in prior.roles:  # the density of one correlation, by its distribution function
        height = prior.cdf(grid + 0.5 * step, *extra) - prior.cdf(grid - 0.5 * step, *extra)
    else:
        height = np.exp(prior.logpdf(grid))
    quantiles, span = (low, middle, high), (start, end)
    return figures.Density(label, grid, height, quantiles, 0.0, prior.describe(), span)


def _span(prior: Prior, low: float, middle: float, high: float) -> tuple[float, float]:
    """Give the axis its ends: a short support whole, else where heavy tails leave the middle."""
    floor, ceiling = prior.support
    if ceiling - floor <= 2.0:
        return floor, ceiling
    if floor == 0.0:
        return 0.0, min(float(prior.ppf(0.975)), 8.0 * middle)
    return max(floor, middle - 2.0 * (middle - low)), min(ceiling, middle + 2.0 * (high - middle))


# ---- standard deviations


class SharedDeviation(NamedTuple):
    """A prior of an SD, the factors that have it, and the column it scales."""

    prior: Prior
    groups: tuple[str, ...]
    term: str

    @property
    def label(self) -> str:
        """``SD of brood and location``."""
        slope = "" if self.term == "Intercept" else f", {self.term}"
        return f"SD of {listing(list(self.groups))}{slope}"


def shared_deviations(model) -> list[SharedDeviation]:
    """List the priors of SDs; factors that share all but their name are in one."""
    factors: dict[tuple[Prior, str], list[str]] = {}
    for block in model.design.groups:
        for prior, term in zip(model.priors.sd[block.group], block.columns, strict=True):
            factors.setdefault((prior, term), []).append(block.group)
    return [SharedDeviation(p, tuple(names), term) for (p, term), names in factors.items()]


def density_of(model, shared: SharedDeviation) -> figures.Density:
    """Density of an SD up to where it means something, with its quantiles."""
    prior, term = shared.prior, shared.term
    low, middle, high = (float(prior.ppf(p)) for p in PROBABILITIES)
    end = min(float(prior.ppf(0.975)), _farthest(model, middle))
    grid = np.linspace(end / POINTS, end, POINTS)
    ratio = RATIOS.get(model.link.name, "")
    return figures.Density(
        shared.label,
        grid,
        np.exp(prior.logpdf(grid)),
        (low, middle, high),
        1.0 - float(prior.cdf(end)),
        f"{ratio}{per_unit(term)}" if ratio else "",
    )


def _share_density(model, shared: SharedDeviation) -> figures.Density | None:
    """Density of the intraclass correlation: that of the SD, by ``d ICC / d sd``."""
    link = model.link.name
    if link not in LATENT or shared.term != "Intercept":
        return None
    share = np.linspace(0.0, 1.0, POINTS + 2)[1:-1]
    sd = np.sqrt(LATENT[link] * share / (1.0 - share))
    slope = 2.0 * LATENT[link] * sd / (LATENT[link] + sd * sd) ** 2
    quantiles = (float(shared.prior.ppf(p)) for p in PROBABILITIES)
    low, middle, high = (float(intraclass(q, link)) for q in quantiles)
    height = np.exp(shared.prior.logpdf(sd)) / slope
    label = f"ICC of {listing(list(shared.groups))}"
    return figures.Density(label, share, height, (low, middle, high), 0.0)


def per_unit(term: str) -> str:
    """``per unit of x`` where an SD is that of a slope."""
    return "" if term == "Intercept" else f" per unit of {term}"


def _farthest(model, middle: float) -> float:
    """Largest SD worth drawing: on a scale of ratios 10, else in units of the response."""
    if model.link.name == "identity":
        return FARTHEST * max(float(np.std(model.design.y)), np.finfo(float).tiny)
    return FARTHEST if model.link.name in {*RATIOS, *LATENT} else 20.0 * middle


# ---- responses


def panels_of(m, design, y: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Label, means drawn (draws, levels) and means observed (levels,): all rows, then levels."""
    trials = design.trials
    found = [
        ("mean of all rows", y.sum(1, keepdims=True) / trials.sum(), design.y.sum() / trials.sum())
    ]
    for block in design.groups:
        if block.n_levels <= design.n / 2:
            levels = int(block.index.max()) + 1  # relatives without rows come after them
            total = np.bincount(block.index, trials, levels)
            observed = np.bincount(block.index, design.y, levels) / total
            replicated = np.array([np.bincount(block.index, r, levels) for r in y]) / total
            found.append((f"means of levels of {block.group}", replicated, observed))
    return [(label, d, np.atleast_1d(o)) for label, d, o in found]


def axis_label(m) -> str:
    """Name the means on their axis."""
    if np.isfinite(m.family.support.high) or m.family.has_trials:
        return "share of successes"
    return f"mean of {m.design.response_name}"


def axis_of(m, panels) -> tuple[str, np.ndarray]:
    """Scale and bins: the middle 95 % of the prior, never far beyond the data."""
    drawn = np.concatenate([d.ravel() for _, d, _ in panels])
    seen = np.concatenate([o for _, _, o in panels])
    if np.isfinite(m.family.support.high) or m.family.has_trials:
        return "linear", np.linspace(0.0, 1.0, figures.BINS + 1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    if m.family.support.integer:
        end = max(min(high, 1e4 * max(seen.max(), 1.0)), 1.5 * seen.max(), 2.0)
        return "log1p", np.expm1(np.linspace(0.0, np.log1p(end), figures.BINS + 1))
    if m.family.support.low == 0:
        start = min(max(low, 1e-4 * seen.min()), seen.min() / 1.5)
        end = max(min(high, 1e4 * seen.max()), 1.5 * seen.max())
        return "log", np.geomspace(start, end, figures.BINS + 1)
    middle, far = float(np.mean(m.design.y)), 50.0 * float(np.std(m.design.y))
    start, end = max(low, middle - far), min(high, middle + far)
    margin = 0.05 * max(end - start, np.ptp(seen))
    return "linear", np.linspace(
        min(start, seen.min() - margin), max(end, seen.max() + margin), figures.BINS + 1
    )
