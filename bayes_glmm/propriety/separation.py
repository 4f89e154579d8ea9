r"""Separation: whether the likelihood of the fixed effects has a maximum.

A direction ``gamma`` of the coefficients along which no row's likelihood falls
and some row's rises, so that no maximum-likelihood estimate exists (Albert & Anderson 1984)
and a flat prior on the coefficients leaves no posterior. With
``s_i = +1`` for rows of successes only, ``-1`` for rows of failures only (or zero counts) and
equality for the rest, it is a ray of the cone

.. math:: \{\gamma : s_i x_i'\gamma \ge 0,\; x_j'\gamma = 0\}

found by one linear program (Konis 2007).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import null_space
from scipy.special import expit

from .rows import is_discrete, row_signs


@dataclass(frozen=True, eq=False)
class Separation:
    """A direction in which the fixed-effects likelihood rises or stays level for ever.

    Attributes
    ----------
    terms
        Names of the coefficients.
    direction
        ``gamma``, shape ``(p,)``, largest entry 1 in absolute value.
    rows
        Rows (user's order) whose likelihood rises along it, shape ``(n,)``, boolean.
    undetermined
        Coefficients that the other rows do not determine, shape ``(p,)``, boolean.
    complete
        Whether every row's does (complete separation) or only some (quasi-complete).
    words
        The direction in words.
    """

    terms: tuple[str, ...]
    direction: np.ndarray
    rows: np.ndarray
    undetermined: np.ndarray
    complete: bool
    words: str


def find_separation(model) -> Separation | None:
    """Look for separation of the fixed effects; None if the estimate exists.

    The random effects are left out: they only widen the likelihood's ridge.
    """
    d = model.design
    sign = model.family.recession(d.y, d.trials)
    if is_discrete(model.family):
        sign = row_signs(model.family, model.link, d.y, d.trials)
    scale = np.abs(d.X).max(axis=0)
    X = d.X / scale
    basis = _directions_left(X[sign == 0])
    if basis.shape[1] == 0:
        return None
    signed = sign[np.abs(sign) == 1, None] * (X[np.abs(sign) == 1] @ basis)
    if _maximum_exists(signed):
        return None
    ray = _ray(np.unique(np.round(signed, 12), axis=0))
    if ray is None:
        return None
    gamma = basis @ ray / scale
    gamma = gamma / np.abs(gamma).max()
    gamma[np.abs(gamma) < 1e-7] = 0.0
    rises = sign * (d.X @ gamma) > 1e-7 * np.abs(d.X).max()
    words = in_words(d, sign, gamma, rises)
    undetermined = _undetermined(X[~rises])
    return Separation(d.terms, gamma, d.to_user(rises), undetermined, bool(rises.all()), words)


def _undetermined(rest: np.ndarray) -> np.ndarray:
    """Tell which coefficients some direction moves that no row of ``rest`` sees, shape ``(p,)``."""
    return np.abs(_directions_left(rest)).max(axis=1, initial=0.0) > 1e-7


def _directions_left(equalities: np.ndarray) -> np.ndarray:
    """Basis ``(p, k)`` of the directions that rows with bounded ``eta`` leave free."""
    if len(equalities) == 0:
        return np.eye(equalities.shape[1])
    return null_space(np.linalg.qr(equalities, mode="r"), rcond=1e-10)


def _maximum_exists(cone: np.ndarray, tolerance: float = 1e-8) -> bool:
    """Certify cheaply that no ray exists, by a stationary point of a logistic loss.

    At a minimum of ``sum log(1 + exp(-a_i v))`` the residuals ``r_i > 0`` give
    ``sum r_i a_i = 0``; a ray would make that sum positive. False means: not certified.
    """
    v = np.zeros(cone.shape[1])
    for _ in range(30):
        r = expit(-cone @ v)
        gradient = cone.T @ r
        if np.linalg.norm(gradient) <= tolerance * r.min():
            return True
        hessian = (cone.T * (r * (1 - r))) @ cone
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        v = v + step / max(1.0, np.abs(cone @ step).max() / 4)
    return False


def _ray(cone: np.ndarray) -> np.ndarray | None:
    """Solve ``max sum t, cone w >= t, 0 <= t <= 1``; a ray has some ``t`` at 1."""
    from scipy.optimize import linprog  # most models need none: a quarter second

    m, k = cone.shape
    solution = linprog(
        np.r_[np.zeros(k), -np.ones(m)],
        A_ub=sparse.hstack([-cone, sparse.eye(m)], format="csr"),
        b_ub=np.zeros(m),
        bounds=[(None, None)] * k + [(0, 1)] * m,
        method="highs",
    )
    found = solution.status == 0 and (solution.x[k:] > 0.5).any()
    return solution.x[:k] if found else None


def in_words(design, sign, gamma, rises) -> str:
    """Describe a separating direction by its terms and the rows it predicts perfectly."""
    kind = "Complete" if rises.all() else "Quasi-complete"
    moved = np.flatnonzero(gamma)
    if len(moved) == 1 and set(np.unique(design.X[:, moved[0]])) <= {0.0, 1.0}:
        column = design.X[:, moved[0]] == 1
        if (sign[column] == sign[column][0]).all():
            extreme = "at its highest value" if sign[column][0] > 0 else "at its lowest value"
            term = design.terms[moved[0]]
            where = "" if term == "Intercept" else f" with {term} = 1"
            return (
                f"{kind} separation: {design.response_name} is {extreme} in all "
                f"{int(column.sum())} rows{where}"
                f"{_whole_levels(design, column)}"
            )
    path = " ".join(f"{gamma[j]:+.3g}·{design.terms[j]}" for j in moved)
    return (
        f"{kind} separation along {path}: {int(rises.sum())} of {design.n} rows are predicted "
        "perfectly"
    )


def _whole_levels(design, rows) -> str:
    """Say so where rows are all those of some levels of a grouping factor."""
    for g in design.groups:
        inside = np.unique(g.index[rows])
        if np.isin(g.index, inside).sum() == rows.sum() and len(inside) < g.n_levels:
            return f", that is in all {len(inside)} levels of {g.group} there"
    return ""
