r"""Covariances of the coefficients: robust, corrected for few clusters, and naive.

With cluster scores :math:`s_i`, their information :math:`B_i` and :math:`B = \sum_i B_i`,

.. math:: B^{-1} \Bigl(\sum_i \tilde s_i \tilde s_i'\Bigr) B^{-1},

where :math:`\tilde s_i = s_i` is Liang & Zeger's (1986) robust covariance (CR0). A residual is
pulled towards zero by its own leverage :math:`H_i = D_i B^{-1} D_i' V_i^{-1}`; Mancl & DeRouen
(2001) use :math:`(I - H_i)^{-1} e_i` in its place and Kauermann & Carroll (2001)
:math:`(I - H_i)^{-1/2} e_i`. Both are functions of :math:`p \times p` matrices only:

.. math:: \tilde s_i = (I - B_i B^{-1})^{-1} s_i, \qquad
   \tilde s_i = L (I - L^{-1} B_i L^{-\prime})^{-1/2} L^{-1} s_i, \quad LL' = B,

since :math:`D_i' V_i^{-1} f(H_i) = f(B_i B^{-1}) D_i' V_i^{-1}`.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ...methods import GEE
from .pose import pose
from .problem import Equations, Problem
from .solve import Solution, solve_or_nan

FEW_CLUSTERS = 40
CHUNK = 4_000_000  # numbers in the blocks that are held at once
FULL_LEVERAGE = 1e-10  # of 1 less the largest eigenvalue of a cluster's leverage


def default_kind(method: GEE, problem: Problem) -> str:
    """Give the covariance of the standard errors: corrected where clusters are few."""
    if method.cov != "auto":
        return method.cov
    few = problem.clusters.count < FEW_CLUSTERS
    return "mancl-derouen" if few and "mancl-derouen" in problem.association.kinds else "robust"


def degrees_of_freedom(method: GEE, problem: Problem) -> float | None:
    """Give ``K - p`` of the t reference, NaN if that is none, or None for the normal one."""
    few = problem.clusters.count < FEW_CLUSTERS
    if method.reference == "normal" or (method.reference == "auto" and not few):
        return None
    df = problem.clusters.count - problem.rows.p
    return float(df) if df > 0 else np.nan


class Covariances(Mapping[str, np.ndarray]):
    """The covariances by kind, the default first, each worked out when it is first asked for.

    The corrected ones take a decomposition for each cluster, which is seconds where there are
    very many.
    """

    def __init__(self, model, method: GEE, solution: Solution, problem: Problem):
        self._of = model, method, solution
        default = default_kind(method, problem)
        self._order = sorted(problem.association.kinds, key=lambda kind: kind != default)
        self._found = {default: covariance_at(problem, solution, default)}

    def __iter__(self) -> Iterator[str]:
        """Kinds, the default first."""
        return iter(self._order)

    def __len__(self) -> int:
        """Count the kinds."""
        return len(self._order)

    def __getitem__(self, kind: str) -> np.ndarray:
        """Give one kind, shape ``(p, p)``."""
        if kind not in self._order:
            raise KeyError(kind)
        if kind not in self._found:
            model, method, solution = self._of
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                self._found[kind] = covariance_at(pose(model, method), solution, kind)
        return self._found[kind]


def covariance_at(problem: Problem, solution: Solution, kind: str) -> np.ndarray:
    """Give one kind of covariance at a solution, shape ``(p, p)``."""
    found = problem.association.robust(solution) if kind == "robust" else None
    if found is None:
        return covariance(equations_at(problem, solution), solution.scale, kind)
    return found


def equations_at(problem: Problem, solution: Solution) -> Equations:
    """Give the estimating equations at a solution."""
    association = problem.association
    state = association.state(solution.beta, solution.alpha)
    return association.equations(state, solution.alpha)


def covariance(equations: Equations, scale: float, kind: str) -> np.ndarray:
    """Give one kind of covariance, shape ``(p, p)``; NaN where it does not exist."""
    bread = solve_or_nan(equations.information, np.eye(len(equations.information)))
    if kind == "naive":
        return scale * bread
    half = bread @ influence(equations, kind)
    return half @ half.T


def influence(equations: Equations, kind: str) -> np.ndarray:
    """Give the cluster scores that a kind takes, shape ``(p, K)``; NaN at a leverage of one."""
    scores, B = equations.scores, equations.information
    if kind == "robust":
        return scores
    if not np.isfinite(B).all() or np.linalg.eigvalsh(B)[0] <= 0:
        return np.full_like(scores, np.nan)
    L = np.linalg.cholesky(B)
    power = -1.0 if kind == "mancl-derouen" else -0.5
    blocks = equations.blocks()
    standard = np.linalg.solve(L, scores)  # (p, K)
    out = np.empty_like(standard)
    step = max(1, CHUNK // len(B) ** 2)
    for low in range(0, len(blocks), step):
        at = slice(low, low + step)
        half = np.linalg.solve(L, blocks[at])
        leverage = np.linalg.solve(L, half.swapaxes(1, 2))
        left, vectors = np.linalg.eigh(np.eye(len(B)) - leverage)
        left = np.where(left > FULL_LEVERAGE, left, np.nan) ** power
        along = np.einsum("kij,ik->kj", vectors, standard[:, at])
        out[:, at] = np.einsum("kij,kj->ik", vectors, left * along)
    return L @ out
