r"""Wald tests of linear hypotheses about coefficients.

For :math:`H_0: L\beta = c` with :math:`q` rows,

.. math:: T = (L\hat\beta - c)'(L \hat V L')^{-1}(L\hat\beta - c),

:math:`\chi^2_q` for many clusters; with few, and for REML, :math:`T/q` is referred to an F
distribution.
"""

import numpy as np
import pandas as pd
from scipy.stats import chi2, f

from ..fit import Fit, check_fit
from ..formula import term_of
from .gee.solve import solve_or_nan
from .kenward_roger import KIND, has_small_sample, scaled_f
from .lmm_errors import denominator_df


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
        Names of coefficients or of terms of the formula (``"period"`` for all of its columns), or
        a matrix ``L`` with a column for each coefficient.
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
        If a name is no coefficient and no term, ``L`` has the wrong shape or dependent rows.
    """
    check_fit(fit, "wald_test")
    L = contrast(fit, hypothesis)
    if np.shape(value) not in ((), (len(L),)):
        raise ValueError(
            f"wald_test(value={value!r}) must be one number, or one for each of {len(L)} rows."
        )
    apart = L @ fit.beta - value
    V = L @ fit.vcov(cov).to_numpy() @ L.T
    statistic = float(apart @ solve_or_nan(V, apart))
    if has_small_sample(fit) and cov in ("default", KIND):
        scale, df = scaled_f(fit, L)
        found = tested(scale * statistic, len(L), df)
        return pd.concat([found, pd.Series({"scale": scale})]).rename(found.name)
    df = denominator_df(fit, L) if isinstance(fit.df, np.ndarray) else fit.df
    return tested(statistic, len(L), df)


def contrast(fit: Fit, hypothesis) -> np.ndarray:
    """Write a hypothesis as a matrix ``L``, shape ``(q, p)``; see ``wald_test``."""
    terms = list(fit.terms)
    names = [hypothesis] if isinstance(hypothesis, str) else hypothesis
    if all(isinstance(name, str) for name in names):
        columns = [k for name in names for k in _columns_of(name, terms)]
        if not columns:
            raise ValueError("The hypothesis is empty: name a coefficient or a term.")
        L = np.eye(len(terms))[list(dict.fromkeys(columns))]
    else:
        L = np.atleast_2d(np.asarray(hypothesis, float))
    if L.shape[1] != len(terms) or np.linalg.matrix_rank(L) < len(L):
        raise ValueError(
            f"The hypothesis is a matrix of shape {L.shape} and rank {np.linalg.matrix_rank(L)}: "
            f"it needs {len(terms)} columns, one for each coefficient, and independent rows."
        )
    return L


def _columns_of(name: str, terms: list[str]) -> list[int]:
    """Positions of a coefficient, or of all columns of a term: ``period`` for ``period[T.2]``."""
    found = [k for k, term in enumerate(terms) if name in (term, term_of(term))]
    if not found:
        raise ValueError(
            f"The hypothesis names {name!r}, which is no coefficient and no term: give names from "
            f"{', '.join(terms)}, whose coefficients are tested against value=0, or a matrix."
        )
    return found


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
