r"""Generalised score tests of linear hypotheses about coefficients of estimating equations.

For :math:`H_0: L\beta = c` with :math:`q` rows,

.. math:: T = U' B^{-1} L' (L B^{-1} M B^{-1} L')^{-1} L B^{-1} U

at the estimate under :math:`H_0` with :math:`U = \sum_i s_i`, :math:`M = \sum_i s_i
s_i'` and the working correlation estimated there (Rotnitzky & Jewell 1990; Boos 1992). It is
:math:`\chi^2_q` for many clusters; with few, :math:`T/q` is referred to :math:`F_{q, K-p}`.
"""

from dataclasses import replace
from itertools import pairwise
from typing import cast

import numpy as np
import pandas as pd

from ...fit import Fit, check_fit
from ...methods import NotServedError
from ..hypotheses import contrast, tested, wald_test
from .covariance import covariance
from .pose import pose
from .problem import Equations, Problem
from .solve import solve, solve_or_nan

COLUMNS = ["label", "npar", "statistic", "reference", "p_value", "df"]
SCORE = ["score_statistic", "score_p_value"]
TINY = 1e-8  # a column outside the span of others, relative to its length


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
    check_fit(fit, "score_test")
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
