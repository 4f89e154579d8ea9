"""How many quadrature nodes an integrated posterior needs, found at draws of it."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ..frequentist.likelihood import factors_of
from ..numerics.groups import by_size
from .density import log_density
from .importance import without_replacement

LADDER = {1: (7, 11, 15, 21, 31, 45, 63, 91, 127, 201), 2: (5, 9, 17, 33), 3: (5, 9, 15)}
CHECKED = 20  # draws at which the nodes are checked
# SD, over these draws, of the change of the log density by more nodes: posterior means move
# by about as much, in posterior SDs
SPREAD = 0.01
# twice what the nodes were chosen for: their choice and its check are at different draws
STILL_ENOUGH = 2.0 * SPREAD


def first_nodes(model) -> int:
    """Nodes the search for the mode starts with; one where the integrand is gaussian."""
    if model.is_linear:
        return 1
    return LADDER[by_size(factors_of(model))[0].q][0]


def choose_nodes(density, value: Callable[[], np.ndarray]) -> tuple[list[dict], bool]:
    """Raise the nodes until more of them change the log density alike at posterior draws.

    The first are those in use.

    Parameters
    ----------
    density
        An ``IntegratedDensity``, whose nodes are set.
    value
        Gives the log density at ``CHECKED`` draws with the nodes of the moment.

    Returns
    -------
    table, settled
        Rows ``nodes, more, change``: ``change`` is the SD, over the draws, of the difference
        between the log densities with ``more`` and with ``nodes`` nodes.
    """
    if density.nodes == 1:
        return [{"nodes": 1, "more": 1, "change": 0.0}], True
    table: list[dict] = []
    before = value()
    for nodes, more in pairwise((density.nodes, *more_nodes(density))):
        density.use_nodes(more)
        finer = value()
        change = change_between(before, finer)
        table.append({"nodes": nodes, "more": more, "change": change})
        if change <= SPREAD:
            density.use_nodes(nodes)
            return table, True
        before = finer
    return table, False


def raise_nodes(make_target: Callable, points: np.ndarray, proposed: np.ndarray, rng) -> tuple:
    """Raise the nodes until they are enough where they themselves put the posterior.

    Too few nodes may put a mode where the posterior has none, far from the draws that they were
    chosen at: binary responses and a standard deviation of 100 make the integrand a step, which
    11 nodes integrate so badly that 400 levels of one row together add 30 to the log density.

    Parameters
    ----------
    make_target
        Gives the log posterior with the nodes of the moment; its ``density``'s are raised.
    points, proposed
        Wide proposals ``(size, d)`` and their log densities.
    rng
        Takes the draws at which the nodes are checked.

    Returns
    -------
    target, log_ratio, table
        The log posterior with the nodes there are now, log importance ratios of the points, and
        the rows of ``choose_nodes``'s table, one for each check.
    """
    table: list[dict] = []
    while True:
        target = make_target()
        density = target.density
        log_ratio = target(points)[0] - proposed
        if not more_nodes(density):
            return target, log_ratio, table
        some = points[without_replacement(log_ratio, rng, CHECKED)]
        table.append(check_nodes(density, at_draws(density, some)))
        if table[-1]["change"] <= SPREAD:
            return target, log_ratio, table
        density.use_nodes(table[-1]["more"])


def at_draws(density, draws: np.ndarray) -> Callable[[], np.ndarray]:
    """Give the log density at fixed draws with the nodes of the moment."""
    return lambda: log_density(density, draws)[0]


def check_nodes(density, value: Callable[[], np.ndarray]) -> dict:
    """Give the row of ``choose_nodes``'s table for the nodes in use, which stay."""
    nodes = density.nodes
    more = next(iter(more_nodes(density)), nodes)
    if nodes == 1:
        return {"nodes": 1, "more": 1, "change": 0.0}
    before = value()
    density.use_nodes(more)
    change = change_between(before, value())
    density.use_nodes(nodes)
    return {"nodes": nodes, "more": more, "change": change}


def more_nodes(density) -> tuple[int, ...]:
    """Rungs of the ladder above the nodes in use."""
    return tuple(k for k in LADDER[density.factors[density.largest].q] if k > density.nodes)


def change_between(before: np.ndarray, after: np.ndarray) -> float:
    """SD of the change, over the draws where there is a density."""
    change = (after - before)[np.isfinite(before) & np.isfinite(after)]
    return float(np.std(change)) if len(change) else np.inf
