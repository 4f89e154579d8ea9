"""From a model and its options to the problem that is solved."""

import numpy as np

from ...methods import GEE, NotServedError
from ...numerics.bind import Bound, bind_numpy
from ..clustering import arrange
from ..quasi import refuse_dispersion
from .correlation import Correlation, structure_of
from .odds_ratio import OddsRatio, refuse_not_binary
from .problem import Problem, Rows
from .random_effects import pose_effects

GIVEN = "GEE(dispersion=…), which holds it at a given value such as ML()'s"


def pose(model, method: GEE) -> Problem:
    """Arrange a model's rows by cluster and choose the association.

    Raises
    ------
    NotServedError, DataError
        See ``fit``.
    """
    refuse_given_dispersion(model, method)
    if method.is_odds_ratio:
        refuse_not_binary(model, method)
        rows = rows_of(model, method, "none" if method.corr == "log-odds" else "lags")
        return Problem(rows, OddsRatio(rows, method))
    if method.corr == "random-effects":
        rows = rows_of(model, method, "none")
        return Problem(rows, pose_effects(model, method, rows))
    if method.dispersion is None:
        refuse_dispersion(model.family, method.label, GIVEN)
    structure = structure_of(method)
    rows = rows_of(model, method, structure.waves)
    return Problem(rows, Correlation(rows, method, structure))


def rows_of(model, method: GEE, waves: str) -> Rows:
    """Put the arrays of a model in the order of its clusters."""
    d = model.design
    arranged = arrange(d, "GEE", method.cluster, method.time, waves, method.waves)
    order = arranged.rows
    return Rows(
        bound_of(model, method),
        d.y[order],
        d.trials[order],
        d.offset[order],
        np.ascontiguousarray(d.X[order].T),
        arranged.clusters,
        arranged.name,
        arranged.labels,
        order,
    )


def bound_of(model, method: GEE) -> Bound:
    """Bind the family to its link, at the given dispersion."""
    given = 1.0 if method.dispersion is None else method.dispersion
    return bind_numpy(model.family, model.link, given)


def refuse_given_dispersion(model, method: GEE) -> None:
    """Refuse a given dispersion where there is none, or where it is a factor of the variance.

    Raises
    ------
    NotServedError
        Naming what to give instead.
    """
    family = model.family
    if method.dispersion is None or (family.has_dispersion and not family.dispersion_is_scale):
        return
    has = "is a factor of the variance" if family.has_dispersion else "does not exist"
    raise NotServedError(
        f"GEE(dispersion={method.dispersion:g}) got family={family.name!r}, whose dispersion "
        f"{has}: use scale=… for a fixed factor."
    )
