"""Integrated() for several grouping factors: the largest is integrated out, NUTS does the rest."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ..messages import Message, message
from .integrated_nodes import CHECKED, STILL_ENOUGH, check_nodes, choose_nodes
from .integrated_nuts import run
from .joint import JointDensity
from .joint_start import LaplacePosterior, joint_density
from .sampled import Sampled
from .tree import thinning
from .whitening import whiten

FEWEST = 5  # nodes that are tried first: they cost in every step of the sampler
PILOT_DF = 8  # of the approximate draws the nodes are chosen at: tails are not forgotten


def sample_several(
    laplace: LaplacePosterior, method, mode: np.ndarray, covariance: np.ndarray, stream
) -> tuple[Sampled, list[Message]]:
    """Sample the coordinates and the effects of all factors but the largest.

    Parameters
    ----------
    laplace
        Posterior of the coordinates by Laplace's approximation.
    method
        An ``Integrated``.
    mode, covariance
        Of ``laplace``: the mode and the inverse Hessian there.
    stream
        Seed sequence.

    Returns
    -------
    sampled, notes
        The nodes are chosen at approximate draws and checked at the posterior's.
    """
    rng = np.random.default_rng(stream)
    density = laplace.density
    joint = joint_density(laplace, mode)
    joint(np.concatenate([mode, np.zeros(joint.size - len(mode))]))  # modes to start from
    whitening = whiten(joint, mode, covariance)
    density.use_nodes(min(density.nodes, FEWEST))
    points = whitening.unknowns(rng.standard_t(PILOT_DF, (CHECKED, joint.size)))
    table, settled = choose_nodes(density, at_points(joint, points))
    x, statistics = run(joint.copy, whitening, method, stream)
    flat = x.reshape(-1, joint.size)
    some = flat[rng.choice(len(flat), CHECKED, replace=False)]
    checked = check_nodes(density, at_points(joint, some))
    worst = checked if settled else table[-1]
    enough = settled and checked["change"] <= STILL_ENOUGH
    notes = [] if enough else [message("integral-unsettled", **worst)]
    effects = joint.effects(flat)
    by_group = joint.log_likelihoods(flat, effects)
    sampled = Sampled(
        xi=x[..., : density.size],
        by_group=by_group.reshape(*x.shape[:2], -1)[:, :: thinning(*by_group.shape)],
        statistics=statistics,
        details={
            "integrated": density.group,
            "sampler": "nuts",
            "nodes": density.nodes,
            "node_table": pd.DataFrame(table),
        },
        others=effects,
    )
    return sampled, notes


def at_points(joint: JointDensity, points: np.ndarray) -> Callable[[], np.ndarray]:
    """Give the log density at fixed points, but for what nodes do not change."""
    effects = joint.effects(points)
    return lambda: joint.log_likelihoods(points, effects).sum(axis=1)
