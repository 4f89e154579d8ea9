"""How many quadrature nodes an integrated posterior needs, found at draws of it."""

from itertools import pairwise

import numpy as np

from ..frequentist.likelihood import factors_of
from ..numerics.groups import by_size
from .density import log_density
from .importance import resample

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


def choose_nodes(density, pilot, pilot_density, rng) -> tuple[list[dict], bool]:
    """Raise the nodes until more of them change the log density alike at posterior draws.

    Returns
    -------
    table, settled
        Rows ``nodes, more, change``: ``change`` is the SD, over ``CHECKED`` draws, of the
        difference between the log densities with ``more`` and with ``nodes`` nodes.
    """
    if density.nodes == 1:
        return [{"nodes": 1, "more": 1, "change": 0.0}], True
    table: list[dict] = []
    ladder = LADDER[density.factors[density.largest].q]
    ratio = log_density(density, pilot)[0] - pilot_density
    points = pilot[resample(ratio, rng, CHECKED)]
    value = log_density(density, points)[0]
    for nodes, more in pairwise(ladder):
        density.use_nodes(more)
        finer = log_density(density, points)[0]
        change = float(np.std(finer - value))
        table.append({"nodes": nodes, "more": more, "change": change})
        if change <= SPREAD:
            density.use_nodes(nodes)
            return table, True
        value = finer
    return table, False
