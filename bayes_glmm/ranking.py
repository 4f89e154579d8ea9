r"""Which level is highest: expected ranks, rank intervals, the probability of the top ``k``.

Sorting estimates tells who came first, not how sure that is: levels with little data are
shrunk, and close estimates change places from draw to draw. Here every draw of the effects
is ranked, and the ranks are summarised. The expected rank,
:math:`E[R_j] = \sum_{i \ne j} P(b_i > b_j) + 1`, is the rank with the least mean squared error
(Laird & Louis 1989).
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from .fit import Fit, check_fit, check_level
from .frequentist.inference import find_effect
from .frequentist.prediction import draw_effects
from .methods import NotServedError

CELLS = 2_000_000  # draws times levels ranked at a time


def rank_levels(
    fit: Fit,
    group: str,
    term: str | None = None,
    *,
    top: int = 1,
    largest: bool = True,
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 1,
) -> pd.DataFrame:
    r"""Rank the levels of a grouping factor by their effects.

    Parameters
    ----------
    fit
        Any fit with group effects.
    group, term
        Grouping factor and column of its effects; the column may be left out where there is
        one.
    top
        Size ``k`` of the top for ``p_top``.
    largest
        Whether rank 1 is the largest effect, or the smallest.
    level
        Coverage of the rank interval.
    draws, seed
        Of a fit without draws of its own: from the approximate distribution of the effects
        given the data, normal around :math:`E[b \mid y]` (modes under Laplace) with the
        conditional covariance, and moved together by the estimation error of the parameters
        (Booth & Hobert 1998). Fits by PQL give independent draws with their own SDs. A
        posterior is used as it is.

    Returns
    -------
    DataFrame
        One row per level, by expected rank: ``group, term, level, estimate, sd`` (mean and SD
        of the draws, link scale), ``expected_rank, rank_low, rank_high`` (equal-tailed) and
        ``p_top``, the probability of being among the ``k`` highest. Ties (all effects zero at
        an SD of zero) share their ranks and their places in the top.

    Raises
    ------
    ValueError
        If there is no such effect, or ``top``, ``level`` or ``draws`` is out of range.
    NotServedError
        If the fit has no group effects.
    """
    check_fit(fit, "rank_levels")
    if not fit.effects:
        raise NotServedError(
            f"{fit.label} has no group effects to rank: use a fit by ML() or NUTS() instead."
        )
    groups = fit.model.design.groups
    position, column = find_effect(groups, group, term)
    block = groups[position]
    _check(top, level, draws, block)
    values = _draws(fit, group, draws, seed)[..., column]
    ranks, p_top = _ranked(-values if largest else values, top)
    low, high = np.quantile(
        ranks, [(1 - level) / 2, (1 + level) / 2], axis=0, method="inverted_cdf"
    )
    table = pd.DataFrame(
        {
            "group": group,
            "term": block.columns[column],
            "level": np.asarray(block.levels, object),
            "estimate": values.mean(axis=0),
            "sd": values.std(axis=0, ddof=1),
            "expected_rank": ranks.mean(axis=0, dtype=float),
            "rank_low": low.astype(float),
            "rank_high": high.astype(float),
            "p_top": p_top,
        }
    )
    return table.sort_values("expected_rank", kind="stable", ignore_index=True)


def _check(top: int, level: float, draws: int, block) -> None:
    whole = isinstance(top, int | np.integer) and not isinstance(top, bool)
    if not whole or not 1 <= top <= block.n_levels:
        raise ValueError(
            f"rank_levels(top={top!r}) must be a whole number from 1 to {block.n_levels}, the "
            f"number of levels of {block.group!r}."
        )
    check_level("rank_levels", level)
    if not isinstance(draws, int | np.integer) or draws < 100:
        raise ValueError(f"rank_levels(draws={draws!r}) must be a whole number of at least 100.")


def _draws(fit: Fit, group: str, draws: int, seed: int) -> np.ndarray:
    """Draws of a factor's effects, shape ``(draws, levels, q)``."""
    if fit.draws is None:
        return draw_effects(fit, group, draws, np.random.default_rng(fit.method.stream(seed)))
    values = fit.draws["posterior"][f"b_{group}"].to_numpy()
    return values.reshape(-1, *values.shape[2:])


def _ranked(values: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks from the lowest of each row, ties sharing them, and each level's share of the top.

    Returns
    -------
    ranks, p_top
        Shapes ``(draws, levels)`` and ``(levels,)``.
    """
    draws, levels = values.shape
    ranks, inside = np.empty((draws, levels), np.float32), np.zeros(levels)
    rows = max(1, CELLS // levels)
    for start in range(0, draws, rows):
        part = values[start : start + rows]
        middle = rankdata(part, axis=1)
        first = rankdata(part, method="min", axis=1)
        ties = 2 * (middle - first) + 1
        inside += np.clip((top - first + 1) / ties, 0.0, 1.0).sum(axis=0)
        ranks[start : start + rows] = middle
    return ranks, inside / draws
