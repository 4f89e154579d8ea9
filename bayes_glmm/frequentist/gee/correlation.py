r"""Association by correlations of the residuals: Liang & Zeger (1986).

In standardised rows :math:`X^*_{ij} = \sqrt{w_{ij}}\,x_{ij}` and Pearson residuals
:math:`r_{ij}` the equations are :math:`\sum_i X_i^{*\prime} R_i^{-1} r_i = 0`, whatever the
family.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ...methods import GEE, NotServedError
from ...numerics.quasi_likelihood import quasi_score
from ...numerics.working_correlation import STRUCTURES, Fixed, MDependent, WorkingCorrelation
from .problem import KINDS, Equations, Rows


class Residuals(NamedTuple):
    """Pearson residuals ``r`` (n,) and standardised columns ``X*`` (p, n)."""

    r: np.ndarray
    columns: np.ndarray


def structure_of(method: GEE) -> WorkingCorrelation:
    """Make the working correlation that a method names."""
    if not isinstance(method.corr, str):
        return Fixed(method.corr)
    if method.corr == "m-dependent":
        return MDependent(method.m or 1)
    return STRUCTURES[method.corr]()


@dataclass(frozen=True, eq=False)
class Correlation:
    """A working correlation of the Pearson residuals; see ``problem.Association``.

    Raises
    ------
    NotServedError
        If the clusters cannot inform it, or it has no row for a wave.
    """

    rows: Rows
    method: GEE
    structure: WorkingCorrelation

    def __post_init__(self) -> None:
        refuse_too_few_pairs(self)
        if isinstance(self.structure, Fixed):
            refuse_misfit(self.structure, self.rows)

    @property
    def name(self) -> str:
        """That of the structure."""
        return self.structure.name

    def on(self, rows: Rows) -> "Correlation":
        """Give the same of rows with other columns or offsets."""
        return replace(self, rows=rows)

    kinds = KINDS

    def robust(self, solution) -> None:
        """Give none: how alpha is estimated does not matter to first order."""
        return

    def start(self) -> np.ndarray:
        """Zeros."""
        return np.zeros(self.structure.count(self.rows.clusters))

    def state(self, beta, alpha) -> Residuals:
        """Give Pearson residuals and standardised columns."""
        rows = self.rows
        score, information = quasi_score(
            rows.bound, rows.y, rows.trials, beta @ rows.X + rows.offset
        )
        root = np.sqrt(information)
        return Residuals(score / root, rows.X * root)

    def estimate(self, state: Residuals, alpha) -> np.ndarray:
        """Estimate alpha from Pearson residuals by the convention asked for."""
        r, rows = state.r, self.rows
        if self.method.association == "moment":
            return self.structure.moment(r, self.scale(state), rows.p, rows.clusters)
        # geepack's residuals are those of proportions, and its scale divides by the trials
        given = self.method.scale
        scale = np.sum(r * r) / rows.trials.sum() if isinstance(given, str) else given
        weighted = r / np.sqrt(rows.trials * scale)
        return self.structure.equation(weighted, rows.trials, rows.clusters)

    def equations(self, state: Residuals, alpha) -> Equations:
        """Multiply by the inverse working correlation."""
        solved = self.structure.solve(alpha, state.columns, self.rows.clusters)
        return Equations(state.r, state.columns, solved, self.rows.clusters)

    def scale(self, state: Residuals) -> float:
        """Pearson's statistic over N - p or N (rows), or the fixed scale."""
        if not isinstance(self.method.scale, str):
            return float(self.method.scale)
        lost = self.rows.p if self.method.scale == "n-p" else 0
        return float(np.sum(state.r**2) / (len(state.r) - lost))

    def least_eigenvalue(self, solution) -> float:
        """Give that of all clusters' matrices."""
        return self.structure.least_eigenvalue(solution.alpha, self.rows.clusters)

    def details(self, solution) -> dict:
        """Give the matrix over all waves where each wave has its row."""
        if self.structure.waves != "labels":
            return {}
        waves = np.arange(int(self.rows.clusters.wave.max()) + 1)
        return {"correlation": self.structure.matrix(solution.alpha, waves)}


def refuse_too_few_pairs(association: Correlation) -> None:
    """Refuse a working correlation that the clusters cannot inform.

    Raises
    ------
    NotServedError
        Saying how many pairs of rows there are, and what serves instead.
    """
    method, structure = association.method, association.structure
    clusters, p = association.rows.clusters, association.rows.p
    if structure.name in ("independence", "fixed"):
        return
    found = structure.informed(clusters)
    pairs = int(found.min()) if found.size else 0
    of, instead = "pairs of rows within a cluster", "corr='independence'"
    # only the exchangeable estimator loses p pairs
    needed = p + 1 if (structure.name, method.association) == ("exchangeable", "moment") else 1
    if structure.name == "ar1":
        if method.association == "equation":
            pairs = clusters.n_pairs
        elif clusters.n_pairs:
            of = "pairs of rows one wave apart"
    if structure.name == "m-dependent" and clusters.n_pairs:
        of = f"pairs of rows {int(np.argmin(found)) + 1} waves apart"
        instead = "a smaller m or corr='independence'"
    if structure.name == "unstructured" and clusters.n_pairs:
        of = "clusters with both rows of some pair of waves"
        instead = "corr='exchangeable' or 'm-dependent'"
    if pairs < needed:
        raise NotServedError(
            f"GEE(corr={method.corr!r}) got {pairs} {of} and needs at least {needed}: use "
            f"{instead}, or a cluster or time column with more."
        )


def refuse_misfit(structure: Fixed, rows: Rows) -> None:
    """Refuse a fixed correlation whose rows are not the waves of the data.

    Raises
    ------
    NotServedError
        Saying how many rows each has.
    """
    given, needed = len(structure.given), int(rows.clusters.wave.max()) + 1
    if rows.labels is not None:
        needed = len(rows.labels)
    if given != needed:
        what = (
            f"the largest cluster has {needed} rows"
            if rows.labels is None
            else f"the time column has {needed} values"
        )
        raise NotServedError(
            f"GEE(corr=…) got a {given} by {given} correlation, but {what}: give one row for "
            "each, or name the times of its rows by waves=[…]."
        )
