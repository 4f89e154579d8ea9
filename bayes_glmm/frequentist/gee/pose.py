"""From a model and its options to the problem that is solved."""

import numpy as np

from ...methods import GEE
from ...numerics.bind import bind_numpy
from ..clustering import arrange
from ..quasi import refuse_dispersion
from .correlation import Correlation, structure_of
from .odds_ratio import OddsRatio, refuse_not_binary
from .problem import Problem, Rows
from .random_effects import RandomEffects, refuse_not_one_effect


def pose(model, method: GEE) -> Problem:
    """Arrange a model's rows by cluster and choose the association.

    Raises
    ------
    NotServedError, DataError
        See ``fit``.
    """
    if method.is_odds_ratio:
        refuse_not_binary(model, method)
        rows = rows_of(model, method, "none" if method.corr == "log-odds" else "lags")
        return Problem(rows, OddsRatio(rows, method))
    if method.corr == "random-effects":
        refuse_not_one_effect(model, method)
        rows = rows_of(model, method, "none")
        return Problem(rows, RandomEffects(rows, model.design.groups[0].Z[rows.order, 0]))
    refuse_dispersion(model.family, method.label)
    structure = structure_of(method)
    rows = rows_of(model, method, structure.waves)
    return Problem(rows, Correlation(rows, method, structure))


def rows_of(model, method: GEE, waves: str) -> Rows:
    """Put the arrays of a model in the order of its clusters."""
    d = model.design
    arranged = arrange(d, "GEE", method.cluster, method.time, waves, method.waves)
    order = arranged.rows
    return Rows(
        bind_numpy(model.family, model.link),
        d.y[order],
        d.trials[order],
        d.offset[order],
        np.ascontiguousarray(d.X[order].T),
        arranged.clusters,
        arranged.name,
        arranged.labels,
        order,
    )
