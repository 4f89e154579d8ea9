r"""The working linear mixed model of a generalized one, renewed until it stands still.

At a linear predictor :math:`\eta` the working response
:math:`z = \eta - \mathrm{offset} + (y - \mu)g'(\mu)` has weights
:math:`w = m/(V(\mu)g'(\mu)^2)`; the linear mixed model

.. math:: z = X\beta + \sum_g Z_g b_g + e, \qquad e \sim N(0, \phi W^{-1})

is fitted to it by REML or ML, :math:`\phi` being 1 or estimated, and :math:`\eta` is renewed: from
:math:`X\hat\beta + Z\hat b` (penalised quasi-likelihood) or from the fixed part
:math:`X\hat\beta` alone (marginal quasi-likelihood).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..numerics.mixed_model_equations import CrossProducts, MixedModelEquations
from ..numerics.mixed_model_solution import Solution
from ..numerics.newton import minimise
from ..numerics.quasi_likelihood import quasi_score, start_predictor
from ..numerics.standardise import Standardised

LIMIT = 200  # working models
TOLERANCE = 1e-9
START_SD = 0.7  # of every effect, on the scale of the linear predictor
REVIVED = 0.03  # smaller SDs start here: at zero the gradient vanishes whatever the data say
UNSETTLED = 1e-4  # as long as the linear predictor moves by more
EXACT = 1e-14  # share of the response's sum of squares that rounding leaves as residual
ZERO_SD = 1e-4  # smaller ones are zero in the result


@dataclass(frozen=True, eq=False)
class Problem:
    """A response with the structure of its working models.

    Attributes
    ----------
    bound
        Family with link, from ``bind_numpy``.
    y, trials, offset
        Shape ``(n,)``.
    centred, equations
        The fixed-effect columns centred, and the structure of these and the random effects:
        coefficients within are those of the centred columns.
    reml
        Whether working models are fitted by REML, else ML.
    phi
        The dispersion, or None where it is estimated.
    marginal
        Whether the expansion is at the fixed part alone.
    level
        Coefficients whose part of a linear model's response is taken off ``y``: a large one would
        cost digits.
    """

    bound: Any
    y: np.ndarray
    trials: np.ndarray
    offset: np.ndarray
    centred: Standardised
    equations: MixedModelEquations
    reml: bool
    phi: float | None
    marginal: bool
    level: np.ndarray

    def with_response(self, y: np.ndarray) -> "Problem":
        """Give the same for other responses."""
        return replace(self, y=y)

    def products(self, eta: np.ndarray) -> CrossProducts:
        """Give the cross-products of the working model at a linear predictor."""
        score, weight = quasi_score(self.bound, self.y, self.trials, eta)
        return self.equations.cross_products(eta - self.offset + score / weight, weight)

    def predictor(self, solution: Solution) -> np.ndarray:
        """``X beta + Z b + offset``, marginally without ``Z b``; shape ``(n,)``."""
        eta = self.equations.X @ solution.beta + self.offset
        return eta if self.marginal else eta + self.random_part(solution.effects)

    def random_part(self, effects) -> np.ndarray:
        """``Z b``, shape ``(n,)``."""
        blocks = zip(self.equations.effects, effects, strict=True)
        parts = [np.einsum("ia,ia->i", g.Z, b[g.index]) for g, b in blocks]
        return np.sum(parts, axis=0)

    def dispersion(self, solution: Solution) -> float:
        """Give phi, or the residual variance of the working model where it is estimated."""
        if self.phi is not None:
            return self.phi
        return solution.rss / solution.degrees_of_freedom(self.reml)


class Criterion:
    """Minus twice the working log-likelihood, by the theta of standardised effects, and gradient.

    ``last`` is the solution of the last evaluation.
    """

    def __init__(self, problem: Problem, products: CrossProducts):
        self.problem, self.products = problem, products
        self.outer = problem.equations.outer_jacobian
        self.last: Solution | None = None

    def __call__(self, inner: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the value, infinite where the equations cannot be solved, and the gradient."""
        reml, phi = self.problem.reml, self.problem.phi
        try:
            self.last = self.products.solve(self.outer @ inner)
        except np.linalg.LinAlgError:
            return np.inf, np.full_like(inner, np.nan)
        return self.last.criterion(reml, phi), self.last.gradient(reml, phi) @ self.outer

    def solution(self, theta: np.ndarray) -> Solution:
        """Solve at the user's ``theta``, or give the last solution if it was there."""
        if self.last is not None and np.array_equal(self.last.theta, theta):
            return self.last
        return self.products.solve(theta)


@dataclass(frozen=True, eq=False)
class WorkingFit:
    """The last working linear mixed model.

    Attributes
    ----------
    problem, eta
        The response, and the linear predictor of the expansion, shape ``(n,)``.
    products
        Its cross-products.
    theta, solution
        Entries of the Lambdas, exactly zero for variances on the boundary, and the equations
        solved there.
    change
        Last relative change of the linear predictor.
    """

    problem: Problem
    eta: np.ndarray
    products: CrossProducts
    theta: np.ndarray
    solution: Solution
    iterations: int
    change: float
    converged: bool

    @cached_property
    def weight(self) -> np.ndarray:
        """Working weights, shape ``(n,)``."""
        p = self.problem
        return quasi_score(p.bound, p.y, p.trials, self.eta)[1]


def iterate(
    problem: Problem, start: np.ndarray | None = None, tolerance: float = TOLERANCE
) -> WorkingFit:
    """Renew the working model until the linear predictor stands still.

    Where its changes grow, it swings, and the next steps are halved. ``start`` is a first theta,
    ``tolerance`` the last change of the linear predictor, relative to 1 + its size.

    Raises
    ------
    ExactFitError
        If the dispersion is to be estimated and nothing is left to estimate it from.
    """
    equations, lowest = problem.equations, problem.bound.link.lowest
    unit = np.concatenate([f.diagonal.astype(float) for f in equations.factors])
    size = np.ones_like(unit)
    inner, hessian = START_SD * unit if start is None else equations.inner_jacobian @ start, None
    eta, change, damping = start_predictor(problem.bound, problem.y, problem.trials), np.inf, 1.0
    for iteration in range(1, LIMIT + 1):  # noqa: B007
        at, products = eta, problem.products(eta)
        refuse_exact_fit(problem, products, equations.outer_jacobian @ inner)
        if change > UNSETTLED and (low := np.abs(inner) < REVIVED * unit).any():
            inner, hessian = np.where(low, REVIVED * unit, inner), None
        # no finer than the working model itself is known
        accuracy = max(0.5 * min(change, 1.0), tolerance)
        criterion = Criterion(problem, products)
        minimum = minimise(criterion, inner, size, hessian, accuracy, one_sided=True)
        inner, hessian = minimum.x, minimum.hessian
        theta = equations.outer_jacobian @ inner
        step = problem.predictor(criterion.solution(theta)) - eta
        previous, change = change, float(np.max(np.abs(step)) / (1 + np.max(np.abs(eta))))
        damping = damping / 2 if change > previous else min(1.0, 2 * damping)
        move = damping * step
        while not np.all(eta + move > lowest) and np.isfinite(change):
            move = move / 2
        eta = eta + move
        # a predictor may stand still because its theta was found too roughly to move
        if (change < tolerance and accuracy < UNSETTLED) or not np.isfinite(change):
            break
    theta = at_boundary(equations, theta)
    solution = criterion.solution(theta)
    return WorkingFit(problem, at, products, theta, solution, iteration, change, change < tolerance)


def conditional_effects(problem: Problem, beta: np.ndarray, theta: np.ndarray) -> Solution:
    """Find the modes of the random effects given the parameters: working models of ``b`` alone.

    For families without a dispersion. ``beta`` are the coefficients of the centred columns,
    ``theta`` the user's. The solution is that of the last working model.
    """
    fixed = problem.equations.X @ beta + problem.offset
    none = MixedModelEquations(np.empty((len(fixed), 0)), problem.equations.effects)
    known = replace(problem, equations=none, offset=fixed)
    eta, change, damping = fixed, np.inf, 1.0
    for _ in range(LIMIT):
        solution = known.products(eta).solve(theta)
        step = fixed + known.random_part(solution.effects) - eta
        previous, change = change, float(np.max(np.abs(step)) / (1 + np.max(np.abs(eta))))
        if change < TOLERANCE:
            break
        damping = damping / 2 if change > previous else min(1.0, 2 * damping)
        move = damping * step
        while not np.all(eta + move > problem.bound.link.lowest) and np.isfinite(change):
            move = move / 2
        eta = eta + move
    return solution


class ExactFitError(ValueError):
    """The fixed effects leave no residual variance to estimate."""


def refuse_exact_fit(problem: Problem, products: CrossProducts, theta: np.ndarray) -> None:
    """Refuse a response whose residual variance cannot be estimated because it is zero.

    So it is too where rows are predicted so perfectly that no working weights are left.

    Raises
    ------
    ExactFitError
        Without the response's name, which is not known here.
    """
    if problem.phi is not None:
        return
    try:
        residual = products.solve(theta).rss
    except np.linalg.LinAlgError:
        raise ExactFitError from None
    if residual <= EXACT * products.columns[-1, -1]:
        raise ExactFitError


def at_boundary(equations: MixedModelEquations, theta: np.ndarray) -> np.ndarray:
    """Make SDs that are zero to the accuracy of the iterations exactly zero."""
    theta, scale = theta.copy(), equations.theta_scale
    for factor, part in zip(equations.factors, equations.slices, strict=True):
        sd = np.linalg.norm(factor.factor(theta[part]), axis=1)
        rows = factor.entries[0]
        theta[part] = np.where(sd[rows] < ZERO_SD * scale[part], 0.0, theta[part])
    return theta
