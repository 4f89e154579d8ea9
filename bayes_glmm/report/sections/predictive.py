"""Posterior predictive checks: whether the model reproduces the data."""

from typing import Any

import numpy as np

from ...fit import Fit
from ..document import Block, Paragraph, Picture, Table, Text
from ..figures.canvas import STYLES
from ..figures.predictive import calibration, distribution, intervals, rootogram
from ..material import Material, attempt
from ..numbers import count, decimals_for, fixed, interval, percent

REPLICATES = 1000  # replicated data sets used
ROWS = 150  # of the figure of rows


def predictive(material: Material) -> list[Block]:
    """Draw the kind of response, and compare statistics observed and replicated."""
    if material.posterior is None:
        return [Paragraph("No posterior, so no posterior predictive check.", "warning")]
    label, fit = material.posterior
    try:
        observed, replicated, trials = _replicates(fit)
    except (KeyError, ValueError) as error:
        return [Paragraph(f"{label} kept no replicated responses ({error}).", "warning")]
    lead = (
        f"The posterior of {label} drew {len(replicated)} replicated data sets of the same rows "
        "and levels. The same data fitted the model, so small discrepancies already matter."
    )
    left_out = attempt("leave-one-out prediction", lambda: [_left_out(material, fit)])
    return [
        Paragraph(lead),
        *attempt(
            "predictive figure",
            lambda: [_figure(material, fit, observed, replicated, trials)],
        ),
        *left_out,
        *attempt(
            "predictive statistics", lambda: [_statistics(material, observed, replicated, trials)]
        ),
    ]


def _replicates(fit: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observed (n,), replicated (draws, n) and trials (n,), in the tree's order of rows."""
    tree = fit.draws
    name = next(iter(tree["observed_data"].data_vars))
    drawn = np.asarray(tree["posterior_predictive"][name], float)
    drawn = drawn.reshape(-1, drawn.shape[-1])
    chosen = np.linspace(0, len(drawn) - 1, min(REPLICATES, len(drawn))).astype(int)
    observed = np.asarray(tree["observed_data"][name], float)
    return observed, drawn[chosen], _trials(fit, observed)


def _trials(fit: Fit, observed: np.ndarray) -> np.ndarray:
    """Trials in the order of the observed data: the tree's rows are the user's or the design's."""
    design = fit.model.design
    if np.array_equal(observed, design.y):
        return design.trials
    return design.to_user(design.trials)


def misfits(material: Material) -> list[str]:
    """Name the statistics that fewer than 1 in 40 replicates reach: what the model misses."""
    if material.posterior is None:
        return []
    observed, replicated, trials = _replicates(material.posterior[1])
    return [
        name
        for name, value, values in _measures(material, observed, replicated, trials)
        if not 0.025 <= _above(value, values) <= 0.975
    ]


def _above(observed: Any, replicated: np.ndarray) -> float:
    """Share of replicates above the observed value, ties counted half."""
    return float(np.mean(replicated > observed) + 0.5 * np.mean(replicated == observed))


def _figure(material: Material, fit: Fit, observed, replicated, trials) -> Picture:
    m, color = material.model, STYLES["NUTS"].color
    if m.family.name == "bernoulli":
        rng = np.random.default_rng(material.about.seed or 0)
        image = calibration(observed, _probabilities(material, fit, observed), rng, color)
        caption = (
            "Calibration: among rows with a given predicted probability, how often was the "
            "response 1? Each row is predicted from all other rows (PSIS leave-one-out). The curve "
            "should stay in the band around the diagonal. Below: how many rows have each "
            "prediction, ones in colour."
        )
        return Picture(
            "predictive", image, "Observed frequency against predicted probability.", caption
        )
    if m.family.has_trials:
        return _shares(observed / trials, replicated / trials, color)
    axis = m.design.response_name
    if m.family.support.integer:
        image = rootogram(observed, replicated, color, axis)
        caption = (
            "Rootogram: bars count the rows with each response, the line and the band are what "
            "the model predicts. Look at zeros and at the largest counts."
        )
        return Picture(
            "predictive", image, "Observed and predicted frequencies of counts.", caption
        )
    image = distribution(observed, replicated, color, axis)
    caption = "Distribution functions of replicated data sets, with the observed one among them."
    return Picture("predictive", image, "Observed and replicated distribution functions.", caption)


def _left_out(material: Material, fit: Fit) -> Paragraph:
    """Put the expected log predictive density in words."""
    found = material.leave_one_out(fit)
    k = np.asarray(found.pareto_k)
    bad = int((k > found.good_k).sum())
    trust = (
        f"its k-hat is above {found.good_k:.2g} in {count(bad, 'row')} of {len(k)}, where the "
        "approximation is not to be relied on"
        if bad
        else "its k-hat is low in every row, so the approximation holds"
    )
    return Paragraph(
        f"Leave-one-out prediction (PSIS): expected log predictive density "
        f"{fixed(float(found.elpd), 1)} (SE {fixed(float(found.se), 1)}), effective number of "
        f"parameters {fixed(float(found.p), 1)}; {trust}.{_given(fit)}"
    )


def _given(fit: Fit) -> str:
    """Say what the log-likelihood of a row is given, where rows are correlated."""
    residual = fit.model.residual
    if residual is None:
        return ""
    return (
        f" Rows are correlated: the term of each is its density given the earlier rows of its "
        f"{residual.by}, so that it is predicted from these, and only the parameters leave it out."
    )


def _probabilities(material: Material, fit: Fit, observed: np.ndarray) -> np.ndarray:
    """Probability of a one in each row, predicted from all other rows.

    The leave-one-out density of an observed one is that probability; of an observed zero, one
    minus it.
    """
    density = np.exp(np.asarray(material.leave_one_out(fit).elpd_i))
    return np.clip(np.where(observed == 1, density, 1 - density), 0.0, 1.0)


def _shares(observed: np.ndarray, replicated: np.ndarray, color: str) -> Picture:
    """Rows with their predictive intervals, a regular selection where there are many."""
    low, high = np.quantile(replicated, [0.025, 0.975], axis=0)
    inside = np.mean((observed >= low) & (observed <= high))
    chosen = np.linspace(0, len(observed) - 1, min(ROWS, len(observed))).astype(int)
    image = intervals(observed[chosen], replicated[:, chosen], color, "share of successes")
    some = f" {ROWS} of {len(observed)} rows are shown." if len(observed) > ROWS else ""
    caption = (
        f"Share of successes in each row, with its 95 % predictive interval: {percent(inside)} of "
        f"the rows lie inside; 95 % or a little more are expected.{some}"
    )
    alt = f"Observed shares and predictive intervals; {percent(inside)} inside."
    return Picture("predictive", image, alt, caption)


def _statistics(material: Material, observed, replicated, trials) -> Table:
    """Statistics the model was not fitted to, observed and replicated."""
    measures = _measures(material, observed, replicated, trials)
    rows = [_statistic(*item) for item in measures if item[1] or np.any(item[2])]
    caption = (
        "Statistics of the observed data, and what replicated data sets give (median and 95 % "
        "range). The last column is the share of replicates above the observed value, ties "
        "counted half: near 0 or 1 the model misses that feature."
    )
    columns = ("statistic", "observed", "replicated", "95 % range", "share above")
    return Table(columns, rows, caption, frozenset({1, 2, 3, 4}))


def _measures(material: Material, observed, replicated, trials):
    """Name, observed value, replicated values."""
    family = material.model.family
    share, shares = observed / trials, replicated / trials
    if np.isfinite(family.support.high) or family.has_trials:
        yield "share of successes", observed.sum() / trials.sum(), replicated.sum(1) / trials.sum()
        yield from _extreme_levels(material, share, shares)
    elif family.support.integer:
        yield "zeros", (observed == 0).sum(), (replicated == 0).sum(1)
        yield "variance / mean", _dispersion(observed), _dispersion(replicated)
        yield "largest count", observed.max(), replicated.max(1)
    else:
        yield "smallest", observed.min(), replicated.min(1)
        yield "largest", observed.max(), replicated.max(1)
        yield "standard deviation", observed.std(), replicated.std(1)
    for group, index in _indices(material, observed):
        yield f"SD of means of {group}", _between(share, index), _between(shares, index)


def _extreme_levels(material: Material, share: np.ndarray, shares: np.ndarray):
    """Levels whose rows are all failures, or all successes: where groups differ much, many."""
    for group, index in _indices(material, share):
        yield f"levels of {group} without a success", *_levels(share, shares, index, 0.0)
        yield f"levels of {group} with successes only", *_levels(share, shares, index, 1.0)


def _levels(share: np.ndarray, shares: np.ndarray, index: np.ndarray, value: float):
    """Levels all of whose rows have that share, observed and replicated."""
    other = [_sums((y != value).astype(float), index) for y in (share, shares)]
    return (other[0] == 0).sum(), (other[1] == 0).sum(-1)


def _dispersion(y: np.ndarray):
    return y.var(-1) / np.maximum(y.mean(-1), 1e-12)


def _indices(material: Material, observed: np.ndarray):
    """Level of each row, for factors with several rows a level."""
    design = material.model.design
    same = np.array_equal(observed, design.y)
    for block in design.groups:
        if block.n_levels <= design.n / 2:
            yield block.group, block.index if same else design.to_user(block.index)


def _between(y: np.ndarray, index: np.ndarray):
    """SD between the levels' mean responses, along the last axis of ``y``."""
    return (_sums(y, index) / np.maximum(np.bincount(index), 1)).std(-1)


def _sums(y: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Sum over the rows of each level, along the last axis."""
    levels = int(index.max()) + 1
    return np.apply_along_axis(lambda row: np.bincount(index, row, levels), -1, y)


def _statistic(name: str, observed: Any, replicated: np.ndarray) -> tuple[Text, ...]:
    low, middle, high = np.quantile(replicated, [0.025, 0.5, 0.975])
    whole = float(observed).is_integer() and np.all(replicated == np.round(replicated))
    decimals = 0 if whole else max(decimals_for(float(np.std(replicated))) - 1, 1)
    share = _above(observed, replicated)
    return (
        name,
        fixed(float(observed), decimals),
        fixed(float(middle), decimals),
        interval(float(low), float(high), decimals),
        fixed(share, 2),
    )
