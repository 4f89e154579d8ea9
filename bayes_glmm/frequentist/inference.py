"""Tests and intervals that are right where a variance may be zero."""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd
from scipy.stats import chi2

from ..fit import Fit, Variance, check_fit, check_level, datatree_name
from ..methods import NotServedError
from ..numerics.covariance import Covariance
from ..progress import Progress
from .bootstrap import lifted
from .chi_bar import likelihood_ratio
from .lmm_likelihood import by_equations
from .lmm_refits import LinearPair, without_effects, without_nugget
from .nesting import Pair, bootstrap_p
from .profiles import Profile, likelihood_of


@dataclass(frozen=True)
class BoundaryTest:
    """Likelihood-ratio test of standard deviations of zero.

    Attributes
    ----------
    group, term
        The random effects tested; several are joined by commas.
    statistic
        ``2 (loglik - loglik_null)``, not below zero; zero where it is rounding.
    weights, df
        The reference distribution: a mixture of chi-squares (Self & Liang 1987; Stram & Lee
        1994); with 0 degrees of freedom it is a point at zero. Empty where the distribution
        was simulated as a whole.
    p_value
        By that distribution.
    p_naive
        By the chi-square that ignores the boundary: too large.
    loglik, loglik_null
        With and without the effects, by the same quadrature rule.
    note
        What else is to be known; empty if nothing.
    p_boot, zero_share, failed
        With ``bootstrap``: the p-value by simulated likelihood ratios, the share of them
        that are zero, and the number of refits that failed.
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
    p_boot: float | None = None
    zero_share: float | None = None
    failed: int = 0
    reference: str = ""

    def __repr__(self) -> str:
        """Say the test in words."""
        several = "are the standard deviations" if "," in self.term else "is the standard deviation"
        what = f"{several} of {self.term} by {self.group}"
        if ", " in self.group:
            groups = self.group.replace(", ", " and ")
            what = f"are the standard deviations of all effects of {groups}"
        if self.group == "residual":
            what = f"is the {self.term} of the residual correlation"
        boot = "" if self.p_boot is None else f"\nparametric bootstrap: p = {self.p_boot:.4g}"
        note = f"\n{self.note}" if self.note else ""
        naive = self.df[-1] if self.df else "all parameters"
        return (
            f"Boundary test: {what} zero?\n"
            f"likelihood ratio {self.statistic:.4f} against {self.reference}: "
            f"p = {self.p_value:.4g} (naive chi2({naive}): p = {self.p_naive:.4g}){boot}{note}"
        )


def boundary_test(
    fit: Fit,
    group: str | list[str] | tuple[str, ...],
    term: str | None = None,
    *,
    bootstrap: int = 0,
    seed: int = 1,
    workers: int | None = None,
    progress: Progress = False,
) -> BoundaryTest:
    """Test whether standard deviations of random effects are zero.

    The null model drops the effects with their correlations and is refitted by the same
    likelihood, restricted or not, with the same quadrature rule. For one effect with ``q``
    correlations the reference is the mixture ``chi2(q) / 2 + chi2(q + 1) / 2``, for one
    uncorrelated effect ``chi2(0) / 2 + chi2(1) / 2``;
    for several the weights follow from the information at the null.

    Parameters
    ----------
    fit
        By ML, or by REML, whose null model has the same fixed part.
    group
        Grouping factor; a list tests all effects of the factors in it at once. "residual", with
        ``term="nugget"``, tests the nugget of a residual correlation.
    term
        Column of the factor's random effects; may be left out where there is one, or where
        ``group`` is a list.
    bootstrap
        Data sets simulated from the null, both models refitted, for ``p_boot``; 0 is none.
    seed, workers, progress
        Of the simulations; see ``bootstrap``.

    Raises
    ------
    ValueError
        If there is no such effect, or ``term`` is needed.
    NotServedError
        If the fit has no likelihood with random effects.
    """
    check_fit(fit, "boundary_test")
    if fit.method.name == "glm":
        raise NotServedError(
            f"{fit.label} has no random effects to test: use a fit by ML() instead."
        )
    groups = fit.model.design.groups
    of_share = group == "residual" and fit.model.residual is not None
    dropped = {} if of_share else effects_dropped(groups, group, term)
    pair, null = without_share(fit, term) if of_share else without(fit, dropped)
    statistic = likelihood_ratio(null.loglik, cast("float", fit.loglik))
    of_weights, of_ratios = np.random.SeedSequence(seed).spawn(2)
    reference = pair.reference(of_weights)
    df = pair.df
    notes = notes_on(fit, pair, null, dropped)
    if reference is None:
        notes.append("The data cannot tell the effects apart: give bootstrap=500 for a p-value.")
    elif reference.error(statistic) > 0:
        notes.append(f"Monte Carlo error of the p-value {reference.error(statistic):.1g}.")
    simulated = {}
    if bootstrap:
        simulated, said = by_bootstrap(pair, statistic, bootstrap, of_ratios, workers, progress)
        notes += said
    terms = [groups[k].columns[c] for k, columns in dropped.items() for c in columns]
    return BoundaryTest(
        group="residual" if of_share else ", ".join(groups[k].group for k in dropped),
        term=str(term) if of_share else ", ".join(terms),
        statistic=statistic,
        weights=reference.weights if reference else (),
        df=reference.df if reference else (),
        p_value=reference.p_value(statistic) if reference else np.nan,
        p_naive=float(chi2.sf(statistic, df)),
        loglik=cast("float", fit.loglik),
        loglik_null=null.loglik,
        note=" ".join(notes),
        reference=str(reference or "the bootstrap only"),
        **simulated,
    )


def effects_dropped(groups, group, term: str | None) -> dict[int, list[int]]:
    """Columns to drop by factor."""
    if isinstance(group, str):
        k, column = find_effect(groups, group, term)
        return {k: [column]}
    if term is not None:
        raise ValueError(
            f"boundary_test(group={list(group)!r}, term={term!r}) got both: a list of factors "
            "tests all their effects; leave out term=, or give one factor as text."
        )
    if not group:
        raise ValueError("boundary_test(group=[]) got no factor: give at least one.")
    names = [g.group for g in groups]
    for name in group:
        if name not in names:
            raise ValueError(f"{name!r} is not a grouping factor: use one of {', '.join(names)}.")
    return {k: list(range(g.q)) for k, g in enumerate(groups) if g.group in group}


def find_effect(groups, group: str, term: str | None) -> tuple[int, int]:
    """Position of a grouping factor and of a column of its random effects."""
    names = [g.group for g in groups]
    if group not in names:
        raise ValueError(f"{group!r} is not a grouping factor: use one of {', '.join(names)}.")
    g = groups[names.index(group)]
    if term is None and g.q > 1:
        raise ValueError(
            f"{group!r} has {g.q} random effects: give term=, one of {', '.join(g.columns)}; "
            f"or group=[{group!r}] for all of them."
        )
    if term is not None and term not in g.columns:
        raise ValueError(
            f"{term!r} is not a random effect of {group!r}: use one of {', '.join(g.columns)}."
        )
    return names.index(group), 0 if term is None else g.columns.index(term)


@dataclass(frozen=True)
class Null:
    """How the fit of the null model ended."""

    loglik: float
    reason: str = ""


def without_share(fit: Fit, term: str | None) -> tuple[LinearPair, Null]:
    """Refit without the nugget of the residual correlation."""
    pair = without_nugget(fit, term)
    return pair, null_of(pair)


def null_of(pair: LinearPair) -> Null:
    """Say how the fit of a linear null model ended."""
    maximum = pair.small.maximum
    reason = "" if maximum.converged else f"no end after {maximum.evaluations} evaluations"
    return Null(pair.small.loglik, reason)


def without(fit: Fit, dropped: dict[int, list[int]]) -> tuple[Pair | LinearPair, Null]:
    """Refit without some effects: the pair of models, and how the smaller one's fit ended."""
    if by_equations(fit):
        pair = without_effects(fit, dropped)
        return pair, null_of(pair)
    likelihood, x, covariance = likelihood_of(fit)
    beta, thetas, _ = likelihood.layout.split(x)
    factors, starts, places = [], [], []
    for k, factor in enumerate(likelihood.factors):
        keep = [i for i in range(factor.q) if i not in dropped.get(k, [])]
        if not keep:
            continue
        blocks = [tuple(keep.index(i) for i in b if i in keep) for b in factor.covariance.blocks]
        structure = Covariance(tuple(b for b in blocks if b))
        factors.append(replace(factor, Z=factor.Z[:, keep], covariance=structure))
        starts.append(structure.theta_of(factor.covariance.factor(thetas[k])[keep]))
        places.append((k, np.eye(factor.q)[:, keep]))
    tail = x[-1:] if likelihood.layout.has_dispersion else x[:0]
    small = likelihood.with_factors(factors)
    null = small.maximise(start=lifted(small, np.concatenate([beta, *starts, tail])))
    rows = np.arange(fit.model.design.n)
    pair = Pair(small, null.x, likelihood, x, covariance, places, rows)
    return pair, Null(null.loglik, "" if null.optimum.converged else null.optimum.reason)


def notes_on(fit: Fit, pair: Pair | LinearPair, null: Null, dropped) -> list[str]:
    """Say where the mixture is not justified, or the null fit failed."""
    notes, variance = [], cast("Variance", fit.variance)
    groups = fit.model.design.groups
    tested = {(groups[k].group, groups[k].columns[c]) for k, cs in dropped.items() for c in cs}
    others = [
        datatree_name(c)
        for c, value in zip(variance.components, variance.estimate, strict=True)
        if c.kind == "sd" and value == 0.0 and (c.group, c.term) not in tested
    ]
    if others:
        notes.append(
            f"{', '.join(others)} is zero too, so the mixture is only approximate: "
            "a parametric bootstrap (bootstrap=500) would settle it."
        )
    elif pair.irregular:
        notes.append(
            f"The null model has {pair.on_boundary}, so the mixture is only approximate: a "
            "parametric bootstrap (bootstrap=500) would settle it."
        )
    if null.reason:
        notes.append(f"The null model did not converge: {null.reason}.")
    return notes


def by_bootstrap(pair: Pair | LinearPair, statistic, replicates, stream, workers, progress):
    """p-value by simulated likelihood ratios, and what is to be said of them."""
    ratios, failed = pair.bootstrap(replicates, stream, workers, progress)
    share = float(np.mean(ratios == 0.0)) if len(ratios) else np.nan
    found = {"p_boot": bootstrap_p(ratios, statistic), "zero_share": share, "failed": len(failed)}
    said = [f"{share:.1%} of {len(ratios)} simulated likelihood ratios are zero."]
    clearly = share > 0.5 + 2.0 * np.sqrt(0.25 / max(len(ratios), 1))
    if clearly and pair.cones == (1,) and not pair.free:
        said.append("With more than half the mixture's p-value is too large (few groups).")
    if failed:
        said.append(f"{len(failed)} refits failed, such as: {failed[0].reason}.")
    return found, said


def profile(fit: Fit, parameter: str, grid) -> np.ndarray:
    """Profile log-likelihood of a parameter.

    Parameters
    ----------
    fit
        By ML, GLM or REML.
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
        not fall by ``chi2(1)`` on the way to zero. By REML the variance parameters alone, since
        the restricted likelihood has no coefficients.
    """
    check_level("confint", level)
    rows = []
    for name in with_profiles(fit):
        p = Profile(fit, name)
        rows.append((name, p.limit(-1, level), p.limit(1, level)))
    return pd.DataFrame(rows, columns=["term", "conf_low", "conf_high"])


def with_profiles(fit: Fit) -> list[str]:
    """Parameters that the likelihood has: by REML it has no coefficients."""
    names = fit.parameter_names
    return names[len(fit.beta) :] if fit.method.name == "reml" else names


def profile_frame(
    fit: Fit, parameters: str | list[str] | None = None, points: int = 25
) -> pd.DataFrame:
    """Profile log-likelihoods on automatic grids, for plots.

    Parameters
    ----------
    fit
        By ML, GLM or REML.
    parameters
        Some of ``fit.parameter_names``; None is all that the likelihood has: by REML the
        variance parameters.
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
    names = [parameters] if isinstance(parameters, str) else parameters or with_profiles(fit)
    tables = {name: Profile(fit, name).grid(points) for name in names}
    frame = pd.concat(tables, names=["parameter"]).reset_index("parameter")
    return frame.reset_index(drop=True)
