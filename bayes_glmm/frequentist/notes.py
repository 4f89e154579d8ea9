"""What a maximum-likelihood fit has to say about itself: the coded messages of ``messages``."""

from dataclasses import replace

import numpy as np

from ..design import GroupBlock
from ..fit import Component, Variance
from ..messages import Message, message
from ..numerics.standardise import standardise_effects
from .likelihood import Likelihood, Maximum

FEW_LEVELS = 5  # below it a variance between levels is hardly estimated
NEAR_ONE = 1e-4  # distance of a correlation from one that is called one
FLAT = 0.25  # fall of the log-likelihood that is called flat


def notes_on(model, likelihood: Likelihood, maximum: Maximum, variance: Variance) -> list[Message]:
    """List what is wrong, on a boundary or weakly determined."""
    return [
        *few_levels(model),
        *on_the_boundary(model, variance),
        *at_the_limit(model, maximum),
        *without_limit(likelihood, maximum),
        *of_the_search(maximum),
    ]


def few_levels(model) -> list[Message]:
    """Tell which grouping factors have fewer than ``FEW_LEVELS`` levels."""
    return [
        message("few-levels", group=g.group, levels=g.n_observed)
        for g in model.design.groups
        if g.n_observed < FEW_LEVELS
    ]


def on_the_boundary(model, variance: Variance) -> list[Message]:
    """Tell which standard deviations are zero and which correlations are one or minus one."""
    notes, groups = [], {g.group: g for g in model.design.groups}
    values = dict(zip(variance.components, variance.estimate, strict=True))
    for c, value in values.items():
        if c.kind == "sd" and value == 0.0:
            notes.append(message("zero-variance", component=f"{c.term} by {c.group}"))
        if c.kind == "corr" and abs(value) > 1.0 - NEAR_ONE:
            sd = np.array([values[replace(c, kind="sd", term=t, term2="")] for t in terms_of(c)])
            if is_singular(groups[c.group], terms_of(c), sd, value):
                pair = f"{c.term} and {c.term2} by {c.group}"
                notes.append(message("correlation-at-limit", component=pair, value=value))
    return notes


def terms_of(c: Component) -> tuple[str, str]:
    """Give the two terms of a correlation."""
    return c.term, c.term2


def is_singular(group: GroupBlock, terms: tuple[str, str], sd: np.ndarray, corr: float) -> bool:
    """Tell whether two effects are one, rather than those of a column far from zero.

    The covariance of a slope and an intercept tends to a correlation of one as the origin moves
    away, but that of the effects of orthogonal columns, which span the same, does not.
    """
    Z = group.Z[:, [group.columns.index(t) for t in terms]]
    pair = standardise_effects(replace(group, columns=terms, Z=Z, blocks=((0, 1),)))
    rest = np.sqrt(max(1.0 - corr**2, 0.0))
    L = pair.inner(sd[:, None] * np.array([[1.0, 0.0], [corr, rest]]))
    first, second = np.linalg.norm(L, axis=1)
    return bool(abs(L[0] @ L[1]) > (1.0 - NEAR_ONE) * first * second)


def at_the_limit(model, maximum: Maximum) -> list[Message]:
    """Tell whether the dispersion is where the family becomes a simpler one."""
    if not maximum.dispersion_at_limit:
        return []
    f = model.family
    return [message("dispersion-at-limit", family=f.name, simpler=f.limit[0])]


def without_limit(likelihood: Likelihood, maximum: Maximum) -> list[Message]:
    """Tell whether the likelihood stays nearly level as all parameters grow together.

    Where every row's likelihood rises along some direction of coefficients and effects, it
    tends to a positive limit as both are scaled up, and the maximum lies far out or nowhere.
    """
    layout = likelihood.layout
    theta = maximum.x[layout.p : layout.size - layout.has_dispersion]
    if not np.any(theta):
        return []
    doubled = maximum.x.copy()
    doubled[: layout.size - layout.has_dispersion] *= 2.0
    fall = maximum.loglik - likelihood(doubled)[0]
    return [message("variance-without-limit", fall=fall)] if fall < FLAT else []


def of_the_search(maximum: Maximum) -> list[Message]:
    """Tell how the search ended, where not at a plain maximum."""
    o, notes = maximum.optimum, []
    if not o.converged:
        notes.append(message("not-converged", reason=o.reason))
    elif o.first_failure:
        notes.append(message("second-optimiser", reason=o.first_failure, optimiser=o.optimiser))
    if not maximum.proper:
        notes.append(message("information-not-positive-definite"))
    return notes
