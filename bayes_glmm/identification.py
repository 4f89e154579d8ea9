"""What the data leave undetermined, whatever the method.

Two things depend on the responses and the design alone: coefficients without a finite estimate
(``propriety.separation``), and the variance between levels that have one binary response each. A
third depends on the design: whether intercepts are those of a place far from all rows.
``GLMM.fit`` passes every fit through ``marked``, so that all methods say the same about them.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .fit import Fit
from .messages import Message, message
from .propriety import Separation


def marked(fit: Fit, separation: Separation | None) -> Fit:
    """Say what the data do not determine, and take away the standard errors it has not.

    Parameters
    ----------
    fit
        By any method.
    separation
        Of the model's fixed effects, if there is one.

    Returns
    -------
    Fit
        With the messages first. Without a prior the coefficients that only separated rows
        could determine have NaN standard errors, all parameters if these are all rows.
    """
    notes = [*one_binary_response(fit), *distant_origins(fit)]
    if separation is not None:
        notes.insert(0, message("separation", direction=separation.words))
        if fit.draws is None:
            fit = without_errors(fit, separation.undetermined)
    return replace(fit, messages=(*notes, *fit.messages))


def without_errors(fit: Fit, undetermined: np.ndarray) -> Fit:
    """Make covariances NaN in the undetermined coefficients ``(p,)``, or wholly if all are.

    The other coefficients keep theirs: in the limit their estimates are those of the rows that
    are not separated (Geyer 2009, "Likelihood inference in exponential families and directions
    of recession").
    """

    def hidden(covariance: np.ndarray) -> np.ndarray:
        rest = np.full(len(covariance) - len(undetermined), undetermined.all())
        lost = np.concatenate([undetermined, rest])
        return np.where(np.logical_or.outer(lost, lost), np.nan, covariance)

    variance = fit.variance
    if variance is not None and undetermined.all():
        variance = replace(variance, std_error=np.full_like(variance.std_error, np.nan))
    return replace(
        fit,
        vcovs={kind: hidden(covariance) for kind, covariance in fit.vcovs.items()},
        joint_cov=None if fit.joint_cov is None else hidden(fit.joint_cov),
        variance=variance,
    )


def one_binary_response(fit: Fit) -> Iterator[Message]:
    """Say which estimated SDs are those of levels with one binary response each."""
    estimated = estimated_groups(fit)
    for group in unidentified_groups(fit.model):
        if group in estimated:
            yield message("variance-not-identified", group=group)


def estimated_groups(fit: Fit) -> set[str]:
    """Name the factors whose standard deviations a fit has."""
    components = () if fit.variance is None else fit.variance.components
    return {c.group for c in components if c.kind == "sd"}


def distant_origins(fit: Fit) -> Iterator[Message]:
    """Say which random intercepts belong to a place far from all rows, and whether it matters.

    A likelihood does not depend on the origin of a column whose slopes are correlated with the
    intercepts; one without the correlation does, and so do priors.
    """
    estimated = estimated_groups(fit)
    for g in fit.model.design.groups if estimated else ():
        for i, j, distance in g.distant_origins:
            correlated = any({i, j} <= set(block) for block in g.blocks)
            decides = "" if correlated else "the independence of effects"
            if fit.draws is not None:
                decides = "the prior on standard deviations and correlations"
            yield message(
                "distant-origin-decides" if decides else "distant-origin",
                intercept=g.columns[i],
                group=g.group,
                column=g.columns[j],
                distance=distance,
                middle=g.Z[:, j].mean(),
                decides=decides,
            )


def unidentified_groups(model) -> list[str]:
    """Name the factors of independent levels that have one binary response each.

    Related levels, such as animals with one record, show their variance in their relatives.
    """
    d = model.design
    if model.family.has_dispersion or not np.all(model.family.recession(d.y, d.trials)):
        return []
    if np.any(d.trials != 1.0) or not np.any(d.y == 1.0):
        return []
    return [g.group for g in d.groups if g.covariance is None and g.n_levels == d.n]
