"""Variance components of a working linear mixed model, with standard errors."""

import numpy as np

from ..fit import Variance, components_of
from ..numerics.newton import difference_hessian, inverse_information
from .working_model import WorkingFit


def variance_of(model, working: WorkingFit) -> tuple[Variance, np.ndarray]:
    """Variance components with standard errors, and their covariance on the working scales.

    Working scales are log SD, atanh correlation and log dispersion. Standard errors come from
    the observed information of the working (restricted) likelihood, NaN at the boundary; an
    estimated dispersion that is none of the family's is allowed for and left out.

    Returns
    -------
    Variance
        Natural scale, components in the contract's order.
    ndarray of shape (m, m)
        Covariance on the working scales.
    """
    problem = working.problem
    phi, m = problem.dispersion(working.solution), len(working.theta)
    components = components_of(model)
    estimate, by_theta = on_working_scales(problem.equations, components[:m], working.theta)
    information = information_inverse(working, phi)
    jacobian = np.zeros((len(components), len(information)))
    jacobian[:m, :m] = by_theta
    corr = np.array([c.kind == "corr" for c in components], bool)
    estimate = np.where(corr[:m], estimate, estimate * np.sqrt(phi))  # theta is relative to it
    jacobian[~corr, m:] = 0.5
    if model.family.has_dispersion:
        estimate = np.r_[estimate, np.sqrt(phi)]
    covariance = jacobian @ information @ jacobian.T
    slope = np.where(corr, 1 - estimate**2, estimate)
    return Variance(components, estimate, slope * np.sqrt(np.diag(covariance))), covariance


def on_working_scales(equations, components, theta) -> tuple[np.ndarray, np.ndarray]:
    """SDs and correlations, and derivatives of log SD and atanh correlation by theta."""
    estimate, jacobian = np.empty(len(theta)), np.zeros((len(theta), len(theta)))
    for factor, part in zip(equations.factors, equations.slices, strict=True):
        estimate[part] = factor.components(theta[part])
        jacobian[part, part] = factor.jacobian(theta[part])
    corr = np.array([c.kind == "corr" for c in components], bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate, jacobian / np.where(corr, 1 - estimate**2, estimate)[:, None]


def information_inverse(working: WorkingFit, phi: float) -> np.ndarray:
    """Covariance of theta (and log phi where it is estimated): zero at boundary entries.

    NaN for all others where the information is not positive definite. It is that of the
    standardised effects, turned.
    """
    reml, free = working.problem.reml, working.problem.phi is None
    m, inside = len(working.theta), np.flatnonzero(working.theta)
    kept = np.r_[inside, m] if free else inside
    turn = working.products.equations.directions(inside)
    outer = np.eye(len(kept))
    outer[: len(inside), : len(inside)] = turn

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        theta = working.theta.copy()
        theta[inside] = turn @ x[: len(inside)]
        solution = working.products.solve(theta)
        value = np.exp(x[-1]) if free else phi
        slope = solution.gradient(reml, value)[inside] @ turn
        if free:
            slope = np.r_[slope, solution.degrees_of_freedom(reml) - solution.rss / value]
        return solution.criterion(reml, value), slope

    x = np.linalg.solve(outer, np.r_[working.theta, np.log(phi)][kept])
    information = difference_hessian(objective, x, np.ones_like(x)) / 2
    covariance = np.zeros((m + free, m + free))
    covariance[np.ix_(kept, kept)] = outer @ inverse_information(information)[0] @ outer.T
    return covariance


def joint_covariance(beta_cov: np.ndarray, variance_cov: np.ndarray) -> np.ndarray:
    """Put the two on one diagonal, NaN in the rows and columns of boundary parameters."""
    p = len(beta_cov)
    whole = np.zeros((p + len(variance_cov), p + len(variance_cov)))
    whole[:p, :p], whole[p:, p:] = beta_cov, variance_cov
    boundary = np.isnan(np.diag(whole))
    whole[boundary] = whole[:, boundary] = np.nan
    return whole
