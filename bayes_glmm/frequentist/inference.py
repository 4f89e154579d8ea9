"""Tests and intervals that are right where a variance may be zero."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from scipy.stats import chi2

from ..fit import Fit, Variance, datatree_name
from ..methods import NotServedError
from ..numerics.covariance import Covariance
from ..numerics.groups import Factor
from .profiles import Profile, likelihood_of


@dataclass(frozen=True)
class BoundaryTest:
    """Likelihood-ratio test of a standard deviation of zero.

    Attributes
    ----------
    group, term
        The random effect tested.
    statistic
        ``2 (loglik - loglik_null)``, not below zero.
    weights, df
        The reference distribution: a mixture of chi-squares (Self & Liang 1987; Stram & Lee
        1994); with 0 degrees of freedom it is a point at zero.
    p_value
        By that mixture.
    p_naive
        By the chi-square that ignores the boundary: too large.
    loglik, loglik_null
        With and without the effect, by the same quadrature rule.
    note
        What else is to be known; empty if nothing.
    """

    group: str
    term: str
    statistic: float
    weights: tuple[float, ...]
    df: tuple[int, ...]
    p_value: float
    p_naive: float
    loglik: float
    loglik_null: float
    note: str = ""

    def __repr__(self) -> str:
        """Say the test in words."""
        mixture = " + ".join(f"{w:g} chi2({d})" for w, d in zip(self.weights, self.df, strict=True))
        note = f"\n{self.note}" if self.note else ""
        return (
            f"Boundary test: is the standard deviation of {self.term} by {self.group} zero?\n"
            f"likelihood ratio {self.statistic:.4f} against {mixture}: p = {self.p_value:.4g} "
            f"(naive chi2({self.df[-1]}): p = {self.p_naive:.4g}){note}"
        )


def boundary_test(fit: Fit, group: str, term: str | None = None) -> BoundaryTest:
    """Test whether the standard deviation of a random effect is zero.

    The null model drops the effect with its ``q`` correlations and is refitted with the same
    quadrature rule; the reference is the mixture ``chi2(q) / 2 + chi2(q + 1) / 2``, for one
    uncorrelated effect ``chi2(0) / 2 + chi2(1) / 2``.

    Parameters
    ----------
    fit
        By ML.
    group
        Grouping factor.
    term
        Column of its random effects; may be left out where there is one.

    Raises
    ------
    ValueError
        If there is no such effect, or ``term`` is needed.
    NotServedError
        If the fit has no likelihood.
    """
    if fit.method.name == "glm":
        raise NotServedError(
            f"{fit.label} has no random effects to test: use a fit by ML() instead."
        )
    likelihood, x, _ = likelihood_of(fit)
    loglik = cast("float", fit.loglik)
    k, column = find_effect(fit.model.design.groups, group, term)
    partners = next(len(b) - 1 for b in likelihood.factors[k].covariance.blocks if column in b)
    factors, start = without_effect(likelihood, x, k, column)
    null = likelihood.with_factors(factors).maximise(start=start)
    statistic = max(0.0, 2.0 * (loglik - null.loglik))
    df = (partners, partners + 1)
    tails = [float(chi2.sf(statistic, d)) if d else float(statistic <= 0.0) for d in df]
    return BoundaryTest(
        group=group,
        term=fit.model.design.groups[k].columns[column],
        statistic=statistic,
        weights=(0.5, 0.5),
        df=df,
        p_value=0.5 * sum(tails),
        p_naive=tails[1],
        loglik=loglik,
        loglik_null=null.loglik,
        note=note_on(fit, null, group, fit.model.design.groups[k].columns[column]),
    )


def find_effect(groups, group: str, term: str | None) -> tuple[int, int]:
    """Position of a grouping factor and of a column of its random effects."""
    names = [g.group for g in groups]
    if group not in names:
        raise ValueError(f"{group!r} is not a grouping factor: use one of {', '.join(names)}.")
    g = groups[names.index(group)]
    if term is None and g.q > 1:
        raise ValueError(
            f"{group!r} has {g.q} random effects: give term=, one of {', '.join(g.columns)}."
        )
    if term is not None and term not in g.columns:
        raise ValueError(
            f"{term!r} is not a random effect of {group!r}: use one of {', '.join(g.columns)}."
        )
    return names.index(group), 0 if term is None else g.columns.index(term)


def without_effect(likelihood, x: np.ndarray, k: int, column: int):
    """Drop one random effect: the other factors, and the parameters without it."""
    layout = likelihood.layout
    beta, thetas = layout.split(x)[:2]
    factor = likelihood.factors[k]
    factors, thetas = list(likelihood.factors), list(thetas)
    if factor.q == 1:
        del factors[k], thetas[k]
    else:
        keep = [i for i in range(factor.q) if i != column]
        place = {old: new for new, old in enumerate(keep)}
        blocks = (tuple(place[i] for i in b if i != column) for b in factor.covariance.blocks)
        covariance = Covariance(tuple(b for b in blocks if b))
        L = factor.covariance.factor(thetas[k])[keep]
        factors[k] = Factor(factor.index, factor.Z[:, keep], factor.levels, covariance)
        thetas[k] = covariance.theta_of(L)
    tail = x[-1:] if layout.has_dispersion else x[:0]
    return factors, np.concatenate([beta, *thetas, tail])


def note_on(fit: Fit, null, group: str, term: str) -> str:
    """Say where the mixture is not justified, or the null fit failed."""
    notes = []
    variance = cast("Variance", fit.variance)
    others = [
        datatree_name(c)
        for c, value in zip(variance.components, variance.estimate, strict=True)
        if c.kind == "sd" and value == 0.0 and (c.group, c.term) != (group, term)
    ]
    if others:
        notes.append(
            f"{', '.join(others)} is zero too, so the mixture is only approximate: "
            "a parametric bootstrap would settle it."
        )
    if not null.optimum.converged:
        notes.append(f"The null model did not converge: {null.optimum.reason}.")
    return " ".join(notes)


def profile(fit: Fit, parameter: str, grid) -> np.ndarray:
    """Profile log-likelihood of a parameter.

    Parameters
    ----------
    fit
        By ML.
    parameter
        One of ``fit.parameter_names``, for example ``"sd_herd[Intercept]"``.
    grid
        Values of the parameter, any order; zero is allowed for an SD.

    Returns
    -------
    ndarray
        Log-likelihood maximised over all other parameters at each value.
    """
    return Profile(fit, parameter).along(grid)


def profile_confint(fit: Fit, level: float = 0.95) -> pd.DataFrame:
    """Profile-likelihood intervals of coefficients and variance components.

    Returns
    -------
    DataFrame
        ``term, conf_low, conf_high``; the lower limit of an SD is 0 where the profile does
        not fall by ``chi2(1)`` on the way to zero.
    """
    if not 0 < level < 1:
        raise ValueError(f"confint(level={level!r}) must lie between 0 and 1, e.g. 0.95.")
    rows = []
    for name in fit.parameter_names:
        p = Profile(fit, name)
        rows.append((name, p.limit(-1, level), p.limit(1, level)))
    return pd.DataFrame(rows, columns=["term", "conf_low", "conf_high"])


def profile_frame(
    fit: Fit, parameters: str | list[str] | None = None, points: int = 25
) -> pd.DataFrame:
    """Profile log-likelihoods on automatic grids, for plots.

    Parameters
    ----------
    fit
        By ML or GLM.
    parameters
        Some of ``fit.parameter_names``; None is all.
    points
        About how many values of each parameter; they reach ``|zeta| = 3`` or the end of the
        parameter's range.

    Returns
    -------
    DataFrame
        ``parameter, value, loglik, zeta``, values increasing within a parameter.
        ``zeta = sign(value - estimate) sqrt(2 (maximum - loglik))`` is a straight line where
        the log-likelihood is quadratic; ``|zeta| <= 1.96`` is the 95 % interval.

    Raises
    ------
    ValueError
        If a parameter is not known, or there are fewer than five points.
    NotServedError
        If the fit has no likelihood.
    """
    if isinstance(points, bool) or not isinstance(points, int) or points < 5:
        raise ValueError(f"profile(points={points!r}) must be an integer of at least 5.")
    names = [parameters] if isinstance(parameters, str) else parameters or fit.parameter_names
    tables = {name: Profile(fit, name).grid(points) for name in names}
    frame = pd.concat(tables, names=["parameter"]).reset_index("parameter")
    return frame.reset_index(drop=True)
