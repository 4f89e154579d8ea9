"""How many quadrature nodes an integrated posterior needs, found at draws of it."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ..frequentist.likelihood import factors_of
from ..numerics.groups import by_size

LADDER = {1: (7, 11, 15, 21, 31, 45, 63, 91, 127, 201), 2: (5, 9, 17, 33), 3: (5, 9, 15)}
CHECKED = 20  # draws at which the nodes are checked
# SD, over these draws, of the change of the log density by more nodes: posterior means move
# by about as much, in posterior SDs
SPREAD = 0.01


def first_nodes(model) -> int:
    """Nodes the search for the mode starts with; one where the integrand is gaussian."""
    if model.family.name == "gaussian" and model.link.name == "identity":
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
