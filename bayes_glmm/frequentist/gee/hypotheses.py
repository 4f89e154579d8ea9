r"""Wald and generalised score tests of linear hypotheses about population-averaged coefficients.

For :math:`H_0: L\beta = c` with :math:`q` rows,

.. math:: T_W = (L\hat\beta - c)'(L \hat V L')^{-1}(L\hat\beta - c), \qquad
   T_S = U' B^{-1} L' (L B^{-1} M B^{-1} L')^{-1} L B^{-1} U,

the second at the estimate under :math:`H_0` with :math:`U = \sum_i s_i`, :math:`M = \sum_i s_i
s_i'` and the working correlation estimated there (Rotnitzky & Jewell 1990; Boos 1992). Both are
:math:`\chi^2_q` for many clusters; with few, :math:`T/q` is referred to :math:`F_{q, K-p}`.
"""

from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np
import pandas as pd
from scipy.stats import chi2, f

from ...fit import Fit
from ...methods import NotServedError
from ..kenward_roger import KIND, has_small_sample, scaled_f
from ..lmm_errors import denominator_df
from .covariance import covariance
from .pose import pose
from .problem import Equations, Problem
from .solve import solve, solve_or_nan

COLUMNS = ["label", "npar", "statistic", "reference", "p_value", "df"]
SCORE = ["score_statistic", "score_p_value"]
TINY = 1e-8  # a column outside the span of others, relative to its length


def wald_test(fit: Fit, hypothesis, value=0.0, *, cov: str = "default") -> pd.Series:
    r"""Test linear hypotheses about coefficients by Wald's statistic.

    The reference is the chi-square of the rows' number ``q``, or ``q F(q, df)`` where intervals
    have t limits. For REML ``df`` is Fai & Cornelius's (1996), as in lmerTest, or Kenward &
    Roger's, whose scale multiplies the statistic, as in pbkrtest.

    Parameters
    ----------
    fit
        Any fit with a covariance of its coefficients.
    hypothesis
        Names of coefficients (all zero), or a matrix ``L`` with a column for each coefficient.
    value
        ``c`` in ``L beta = c``.
    cov
        Kind of covariance; see ``Fit.vcov``.

    Returns
    -------
    Series
        ``statistic, df, reference, p_value``, and by Kenward & Roger ``scale``.

    Raises
    ------
    ValueError
        If a name is no coefficient, ``L`` has the wrong shape or dependent rows.
    """
    L = contrast(fit, hypothesis)
    apart = L @ fit.beta - value
    V = L @ fit.vcov(cov).to_numpy() @ L.T
    statistic = float(apart @ solve_or_nan(V, apart))
    if has_small_sample(fit) and cov in ("default", KIND):
        scale, df = scaled_f(fit, L)
        found = tested(scale * statistic, len(L), df)
        return pd.concat([found, pd.Series({"scale": scale})]).rename(found.name)
    df = denominator_df(fit, L) if isinstance(fit.df, np.ndarray) else fit.df
    return tested(statistic, len(L), df)


def score_test(fit: Fit, hypothesis, value=0.0) -> pd.Series:
    """Test linear hypotheses about coefficients of a GEE by the generalised score statistic.

    Parameters
    ----------
    fit
        By GEE; the equations are solved once more under the hypothesis.
    hypothesis, value
        As ``wald_test`` takes them.

    Returns
    -------
    Series
        ``statistic, df, reference, p_value``. Its size holds better than Wald's where clusters
        are few. NaN where the equations under the hypothesis do not converge.

    Raises
    ------
    ValueError
        If the fit is not by GEE, or the hypothesis is not one.
    """
    if fit.method.name != "gee":
        raise ValueError(
            f"score_test() got a fit by {fit.label}: it tests estimating equations, GEE(); use "
            "anova() for likelihood ratios or wald_test()."
        )
    if fit.estimand == "conditional":
        raise NotServedError(
            f"score_test() got {fit.label}, whose mean depends on the variance of the random "
            "effect, which the score statistic takes as known: use wald_test()."
        )
    L = contrast(fit, hypothesis)
    c = np.broadcast_to(np.asarray(value, float), (len(L),))
    problem = pose(fit.model, fit.method)
    free = np.linalg.qr(L.T, mode="complete")[0][:, len(L) :]
    shift = np.linalg.lstsq(L, c, rcond=None)[0]
    rows = problem.rows
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        null = replace(rows, X=free.T @ rows.X, offset=rows.offset + shift @ rows.X)
        solution = solve(Problem(null, problem.association.on(null)))
        beta = shift + free @ solution.beta
        association = problem.association
        state = association.state(beta, solution.alpha)
        equations = association.equations(state, solution.alpha)
        statistic = score_statistic(equations, L)
    if not solution.converged:
        statistic = np.nan
    df = cast("float | None", fit.df)
    return tested(statistic, len(L), df)


def score_statistic(equations: Equations, L: np.ndarray) -> float:
    """Give the generalised score statistic from the equations at the null estimate."""
    total = equations.scores.sum(axis=1)
    along = L @ solve_or_nan(equations.information, total)
    spread = L @ covariance(equations, 1.0, "robust") @ L.T
    return float(along @ solve_or_nan(spread, along))


def contrast(fit: Fit, hypothesis) -> np.ndarray:
    """Write a hypothesis as a matrix ``L``, shape ``(q, p)``."""
    terms = list(fit.terms)
    names = [hypothesis] if isinstance(hypothesis, str) else hypothesis
    if all(isinstance(name, str) for name in names):
        strange = [name for name in names if name not in terms]
        if strange or not len(names):
            raise ValueError(
                f"The hypothesis names {strange[0] if strange else 'nothing'!r}, and the "
                f"coefficients are {', '.join(terms)}."
            )
        L = np.eye(len(terms))[[terms.index(name) for name in names]]
    else:
        L = np.atleast_2d(np.asarray(hypothesis, float))
    if L.shape[1] != len(terms) or np.linalg.matrix_rank(L) < len(L):
        raise ValueError(
            f"The hypothesis is a matrix of shape {L.shape} and rank {np.linalg.matrix_rank(L)}: "
            f"it needs {len(terms)} columns, one for each coefficient, and independent rows."
        )
    return L


def tested(statistic: float, q: int, df: float | None) -> pd.Series:
    """Statistic with its reference: chi-square, or F where the fit refers to t."""
    reference, p_value = reference_of(statistic, q, df)
    return pd.Series(
        {"statistic": statistic, "df": q, "reference": reference, "p_value": p_value}, name="test"
    )


def reference_of(statistic: float, q: int, df: float | None) -> tuple[str, float]:
    """Name the reference distribution of a statistic and give the upper tail."""
    if df is None:
        return f"chi2({q})", float(chi2.sf(statistic, q))
    if not df > 0:
        return "none: no degrees of freedom", float("nan")
    return f"{q} F({q}, {df:g})", float(f.sf(statistic / q, q, df))


def compare_nested(fits: tuple[Fit, ...], labels) -> pd.DataFrame:
    """Test each fit against the next larger one; see ``anova``.

    Returns
    -------
    DataFrame
        ``label, npar, statistic, reference, p_value, df`` by Wald's statistic at the larger
        fit, ``score_statistic, score_p_value`` by the generalised score statistic at the
        smaller, and ``note``.
    """
    ordered = sorted(fits, key=lambda fit: len(fit.beta))
    rows = [
        {"label": label, "npar": len(fit.beta), "reference": "", "note": ""}
        for label, fit in zip(labels(ordered), ordered, strict=True)
    ]
    for i, (small, large) in enumerate(pairwise(ordered), start=1):
        L = restriction(small, large)
        wald = wald_test(large, L)
        score = score_test(large, L)
        rows[i] |= wald.to_dict() | {
            "score_statistic": score["statistic"],
            "score_p_value": score["p_value"],
        }
        bad = [fit.model.formula for fit in (small, large) if not fit.converged]
        rows[i]["note"] = f"Not converged: {', '.join(bad)}." if bad else ""
    return pd.DataFrame(rows).reindex(columns=[*COLUMNS, *SCORE, "note"])


def restriction(small: Fit, large: Fit) -> np.ndarray:
    r"""Give ``L`` with :math:`L\beta = 0` wherever the larger model is the smaller one.

    Raises
    ------
    ValueError
        If the models are not nested, or do not differ.
    NotServedError
        If their working correlations, clusters or scales differ.
    """
    one, other = (replace(f.method, cluster=f.details["cluster"]) for f in (small, large))
    if names := one.differs_in(other):
        values = (
            ", ".join(f"{name}={getattr(method, name)!r}" for name in names)
            for method in (one, other)
        )
        raise NotServedError(
            f"anova() got fits by GEE({'), GEE('.join(values)}), and tests of estimating "
            f"equations need the same {' and '.join(names)}: refit one of them, or compare "
            "working correlations by qic()."
        )
    X0, X1 = (f.model.design.to_user(f.model.design.X) for f in (small, large))
    within = np.linalg.lstsq(X1, X0, rcond=None)[0]
    outside = np.linalg.norm(X1 @ within - X0, axis=0) > TINY * np.linalg.norm(X0, axis=0)
    if outside.any():
        raise ValueError(
            f"{small.model.formula!r} is not nested in {large.model.formula!r}: its column "
            f"{small.terms[int(np.argmax(outside))]!r} is no combination of the other's."
        )
    if X0.shape[1] == X1.shape[1]:
        raise ValueError(
            f"anova() got {small.model.formula!r} and {large.model.formula!r}, which have the same "
            "coefficients: give models that differ."
        )
    return np.linalg.qr(within, mode="complete")[0][:, X0.shape[1] :].T
