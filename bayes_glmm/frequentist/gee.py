r"""Generalized estimating equations: population-averaged coefficients of clustered data.

With marginal mean :math:`\mu`, variance :math:`\phi A` and working correlation
:math:`R(\alpha)`, beta solves (Liang & Zeger 1986)

.. math:: \sum_i D_i' V_i^{-1} (y_i - \mu_i) = 0, \qquad
   V_i = \phi A_i^{1/2} R(\alpha) A_i^{1/2}, \quad D_i = \partial\mu_i/\partial\beta'.

In standardised rows :math:`X^*_{ij} = \sqrt{w_{ij}}\,x_{ij}` and Pearson residuals
:math:`r_{ij}` this is :math:`\sum_i X_i^{*\prime} R_i^{-1} r_i = 0`, whatever the family.
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from ..fit import Fit, Seconds
from ..messages import Message, message
from ..methods import GEE, NotServedError
from ..numerics.bind import Bound, bind_numpy
from ..numerics.clusters import Clusters
from ..numerics.quasi_likelihood import fisher_scoring, quasi_score
from ..numerics.working_correlation import STRUCTURES, WorkingCorrelation
from .clustering import ClusteredRows, arrange
from .quasi import refuse_dispersion

FEW_CLUSTERS = 40
LIMIT = 100  # iterations
TOLERANCE = 1e-8  # last step, in naive standard errors
SETTLED = 1e-3  # last change of the linear predictor, relative to 1 + its size
START = 1.0  # last step of the start with independent rows, in standard errors


@dataclass(frozen=True, eq=False)
class Problem:
    """The arrays of the estimating equations, rows sorted by cluster.

    ``y, trials, offset`` have shape ``(n,)``; ``X`` is transposed, ``(p, n)``.
    """

    bound: Bound
    y: np.ndarray
    trials: np.ndarray
    offset: np.ndarray
    X: np.ndarray
    clusters: Clusters
    structure: type[WorkingCorrelation]

    def residuals(self, beta) -> tuple[np.ndarray, np.ndarray]:
        """Give Pearson residuals ``r`` (n,) and standardised columns ``X*`` (p, n) at ``beta``."""
        score, information = quasi_score(
            self.bound, self.y, self.trials, beta @ self.X + self.offset
        )
        root = np.sqrt(information)
        return score / root, self.X * root

    def equations(self, r, columns, alpha) -> tuple[np.ndarray, np.ndarray]:
        """Give every cluster's estimating function (p, K) and the information ``B`` (p, p)."""
        solved = self.structure.solve(alpha, columns, self.clusters)
        return self.clusters.total(solved * r), columns @ solved.T


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the iterations ended."""

    beta: np.ndarray
    alpha: np.ndarray
    scale: float
    iterations: int
    converged: bool


def fit(model, method: GEE) -> Fit:
    """Solve the estimating equations of a model.

    Parameters
    ----------
    model
        A GLMM; its random terms say only what the clusters are.
    method
        Options; see ``GEE``.

    Raises
    ------
    NotServedError
        If no independent clusters are named, they hold too few pairs of rows, or the family's
        dispersion is more than a factor of the variance.
    DataError
        If the cluster or time column cannot serve.
    """
    begin = perf_counter()
    refuse_dispersion(model.family, method.label)
    structure = STRUCTURES[method.corr]
    arranged = arrange(model.design, "GEE", method.cluster, method.time, structure.uses_waves)
    problem = pose(model, arranged, structure)
    refuse_too_few_pairs(problem, method)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        solution = solve(problem, method)
        vcovs = covariances(problem, solution)
    return Fit(
        model=model,
        method=method,
        beta=solution.beta,
        vcovs=vcovs,
        joint_cov=vcovs["robust"],
        estimand="population-averaged",
        converged=solution.converged,
        messages=notes(model, problem, solution, arranged.name),
        seconds=Seconds(run=perf_counter() - begin),
        details={
            "cluster": arranged.name,
            "corr": structure.name,
            "alpha": solution.alpha,
            "scale": solution.scale,
            "clusters": problem.clusters.count,
            "max_size": problem.clusters.largest,
            "iterations": solution.iterations,
        },
    )


def pose(model, arranged: ClusteredRows, structure: type[WorkingCorrelation]) -> Problem:
    """Put the arrays of a model in the order of its clusters."""
    d, rows = model.design, arranged.rows
    return Problem(
        bind_numpy(model.family, model.link),
        d.y[rows],
        d.trials[rows],
        d.offset[rows],
        np.ascontiguousarray(d.X[rows].T),
        arranged.clusters,
        structure,
    )


def refuse_too_few_pairs(problem: Problem, method: GEE) -> None:
    """Refuse a working correlation that the clusters cannot inform.

    Raises
    ------
    NotServedError
        Saying how many pairs of rows there are, and what serves instead.
    """
    clusters, p = problem.clusters, len(problem.X)
    if problem.structure.n_parameters == 0:
        return
    pairs, of = clusters.n_pairs, "pairs of rows within a cluster"
    needed = p + 1 if problem.structure.name == "exchangeable" else 1
    if method.association == "equation":
        needed = 1
    elif problem.structure.uses_waves and pairs:
        pairs, of = int(np.sum(clusters.gap == 1)), "pairs of rows one wave apart"
    if pairs < needed:
        raise NotServedError(
            f"GEE(corr={method.corr!r}) got {pairs} {of} and needs at least {needed}: use "
            "corr='independence', or a cluster or time column with more."
        )


def solve(problem: Problem, method: GEE) -> Solution:
    """Alternate Fisher scoring steps for beta with estimates of alpha and the scale.

    It starts from independent rows and stops when beta moves by less than ``TOLERANCE``
    standard errors and alpha by less than that.
    """
    p = problem
    beta = fisher_scoring(p.bound, p.y, p.trials, p.offset, p.X.T, tolerance=START).beta
    alpha = np.zeros(p.structure.n_parameters)
    for iteration in range(1, LIMIT + 1):
        r, columns = p.residuals(beta)
        alpha, previous = associate(r, p, method), alpha
        scores, information = p.equations(r, columns, alpha)
        total = scores.sum(axis=1)
        step = solve_or_nan(information, total)
        if not np.isfinite(step).all():
            return Solution(beta, alpha, scale_of(r, p, method), iteration, False)
        beta = beta + step
        scale = scale_of(r, p, method)
        moved = np.sqrt(abs(step @ total) / scale) + np.max(np.abs(alpha - previous), initial=0)
        # under separation the score vanishes while the predictor still grows
        settled = np.max(np.abs(step @ p.X)) <= SETTLED * (1 + np.max(np.abs(beta @ p.X)))
        if moved < TOLERANCE and settled:
            return Solution(beta, alpha, scale, iteration, True)
    return Solution(beta, alpha, scale_of(r, p, method), LIMIT, False)


def solve_or_nan(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve linear equations; NaN where the matrix is singular."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.full_like(right, np.nan)


def associate(r: np.ndarray, problem: Problem, method: GEE) -> np.ndarray:
    """Estimate alpha from Pearson residuals by the convention asked for."""
    structure, clusters, weight = problem.structure, problem.clusters, problem.trials
    if method.association == "moment":
        return structure.moment(r, scale_of(r, problem, method), len(problem.X), clusters)
    # geepack's residuals are those of proportions, and its scale divides by the trials
    scale = np.sum(r * r) / weight.sum() if isinstance(method.scale, str) else method.scale
    return structure.equation(r / np.sqrt(weight * scale), weight, clusters)


def scale_of(r: np.ndarray, problem: Problem, method: GEE) -> float:
    """Pearson's statistic over N - p or N (rows), or the fixed scale."""
    if not isinstance(method.scale, str):
        return float(method.scale)
    lost = len(problem.X) if method.scale == "n-p" else 0
    return float(np.sum(r * r) / (len(r) - lost))


def covariances(problem: Problem, solution: Solution) -> dict[str, np.ndarray]:
    r"""Robust (CR0) and naive covariance of beta.

    :math:`B^{-1} (\sum_i s_i s_i') B^{-1}` and :math:`\phi B^{-1}` with
    :math:`B = \sum_i X_i^{*\prime} R_i^{-1} X^*_i`; NaN where B is singular.
    """
    scores, information = problem.equations(*problem.residuals(solution.beta), solution.alpha)
    bread = solve_or_nan(information, np.eye(len(information)))
    half = bread @ scores
    return {"robust": half @ half.T, "naive": solution.scale * bread}


def notes(model, problem: Problem, solution: Solution, name: str) -> tuple[Message, ...]:
    """Say what a reader of the result has to know."""
    found = []
    terms = [f"({', '.join(g.columns)} | {g.group})" for g in model.design.groups]
    if len(terms) > 1 or any(g.q > 1 for g in model.design.groups):
        found.append(
            message(
                "random-terms-ignored",
                method="GEE",
                terms=", ".join(terms),
                consequence=f"the formula's grouping only names the clusters, {name}",
            )
        )
    if not problem.structure.is_positive_definite(solution.alpha, problem.clusters):
        found.append(
            message("working-correlation-not-positive-definite", alpha=float(solution.alpha[0]))
        )
    if not solution.converged:
        reason = (
            f"{solution.iterations} iterations did not settle the coefficients"
            if solution.iterations == LIMIT
            else f"the estimating equations became singular in iteration {solution.iterations}"
        )
        found.append(message("not-converged", reason=reason))
    if problem.clusters.count < FEW_CLUSTERS:
        found.append(message("few-clusters", clusters=problem.clusters.count))
    return tuple(found)
