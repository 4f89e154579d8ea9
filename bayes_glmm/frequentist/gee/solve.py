"""Steps for beta and estimates of alpha by turns."""

from dataclasses import dataclass

import numpy as np

from ...numerics.quasi_likelihood import fisher_scoring
from .problem import Problem

LIMIT = 100  # iterations
TOLERANCE = 1e-8  # last step, in naive standard errors
SETTLED = 1e-3  # last change of the linear predictor, relative to 1 + its size
START = 1.0  # last step of the start with independent rows, in standard errors


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the iterations ended."""

    beta: np.ndarray
    alpha: np.ndarray
    scale: float
    iterations: int
    converged: bool


def solve(problem: Problem) -> Solution:
    """Alternate Fisher scoring steps for beta with estimates of alpha and the scale.

    It starts from independent rows and stops when beta moves by less than ``TOLERANCE``
    standard errors and alpha by less than that.
    """
    rows, association = problem.rows, problem.association
    start = fisher_scoring(rows.bound, rows.y, rows.trials, rows.offset, rows.X.T, tolerance=START)
    beta, alpha = start.beta, association.start()
    for iteration in range(1, LIMIT + 1):
        state = association.state(beta, alpha)
        scale = association.scale(state)
        alpha, previous = association.estimate(state, alpha), alpha
        equations = association.equations(state, alpha)
        total = equations.scores.sum(axis=1)
        step = solve_or_nan(equations.information, total)
        if not np.isfinite(step).all():
            return Solution(beta, alpha, scale, iteration, False)
        beta = beta + step
        moved = np.sqrt(abs(step @ total) / scale) + np.max(np.abs(alpha - previous), initial=0)
        # under separation the score vanishes while the predictor still grows
        settled = np.max(np.abs(step @ rows.X)) <= SETTLED * (1 + np.max(np.abs(beta @ rows.X)))
        if moved < TOLERANCE and settled:
            return Solution(beta, alpha, scale, iteration, True)
    return Solution(beta, alpha, scale, LIMIT, False)


def solve_or_nan(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve linear equations; NaN where the matrix is singular."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.full_like(right, np.nan)
