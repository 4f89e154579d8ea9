"""GLM(): maximum likelihood without random effects, as R's ``glm`` computes it."""

from time import perf_counter

import numpy as np
from scipy.linalg import block_diag

from ..fit import Component, Fit, Seconds, Variance
from ..messages import message
from ..numerics.bind import bind_numpy
from ..numerics.groups import Rows
from ..numerics.irls import expected_weights, fit_glm
from ..numerics.optimise import inverse_of

FAR = 16.0  # log dispersion beyond which the family is its limit to the last digits shown


def fit(model, method) -> Fit:
    """Fit the fixed part of a model; random terms are left out, with a message.

    The covariance is the inverse *expected* information. Where the dispersion only scales it
    (gaussian, gamma) it is estimated for that by Pearson's statistic over ``n - p``, as R
    prints it. Any other dispersion is estimated jointly, and the covariance is the inverse of
    the joint *observed* information, as glmmTMB's. The log-likelihood is at the
    maximum-likelihood dispersion: for the gaussian family the reported residual SD has the
    divisor ``n``.
    """
    started = perf_counter()
    design, family = model.design, model.family
    bound = bind_numpy(family, model.link)
    rows = Rows(design.y, design.trials, design.offset, design.X)
    setup = perf_counter() - started
    optimum = fit_glm(bound, rows)
    information = information_of(bound, rows, optimum)
    limit = at_limit(family, optimum)
    joint_cov, singular = covariance(information[: design.p, : design.p] if limit else information)
    if limit:  # the simpler family's information, and none of the dispersion
        joint_cov = np.pad(joint_cov, (0, 1), constant_values=np.nan)
    vcov = joint_cov[: design.p, : design.p]
    messages = [*ignored(design, method), *limit, *singular]
    if not optimum.converged:
        reason = f"{optimum.iterations} iterations were not enough"
        messages.append(message("not-converged", reason=reason))
    return Fit(
        model=model,
        method=method,
        beta=optimum.beta,
        vcovs={"model": vcov},
        variance=dispersion_component(optimum, joint_cov) if family.has_dispersion else None,
        loglik=optimum.loglik,
        loglik_kind="exact",
        npar=design.p + family.has_dispersion,
        # with the random terms left out the coefficients are those of the marginal mean
        estimand="population-averaged" if design.groups else "conditional",
        converged=optimum.converged,
        messages=tuple(messages),
        seconds=Seconds(setup=setup, run=perf_counter() - started - setup),
        joint_cov=joint_cov,
        details={"iterations": optimum.iterations, "covariance": joint_cov},
    )


def at_limit(family, optimum) -> list:
    """Say that the dispersion ran to where the family is a simpler one, if it did."""
    if family.limit is None:
        return []
    simpler, direction = family.limit
    if direction * np.log(optimum.dispersion) < FAR:
        return []
    return [message("dispersion-at-limit", family=family.name, simpler=simpler)]


def information_of(bound, rows: Rows, optimum) -> np.ndarray:
    """Information of ``(beta, log dispersion)`` that standard errors come from."""
    family, X = bound.family, rows.X
    if family.has_dispersion and not family.dispersion_is_scale:
        return optimum.observed
    dispersion = pearson_dispersion(bound, rows, optimum) if family.has_dispersion else 1.0
    weights = expected_weights(bound, optimum.eta, rows.trials, dispersion)
    expected = X.T @ (weights[:, None] * X)
    if not family.has_dispersion:
        return expected
    return np.asarray(block_diag(expected, optimum.observed[-1, -1]))


def pearson_dispersion(bound, rows: Rows, optimum) -> float:
    """``sqrt(Pearson / (n - p))``-type estimate for standard errors, as R's summary prints.

    The root of ``sum (y - mu)^2 / V(mu)`` over ``n - p``, ``V`` the variance at dispersion 1.
    """
    n, p = rows.X.shape
    mu = bound.mean(optimum.eta)
    pearson = np.sum((rows.y - mu) ** 2 / bound.family.variance(mu, 1.0))
    return float(np.sqrt(pearson / max(n - p, 1)))


def covariance(information: np.ndarray) -> tuple[np.ndarray, list]:
    """Invert the information, or give NaN and say so where it is singular."""
    vcov = inverse_of(information) if information.size else information
    if vcov is None:
        return np.full_like(information, np.nan), [message("information-not-positive-definite")]
    return vcov, []


def dispersion_component(optimum, joint_cov: np.ndarray) -> Variance:
    """Maximum-likelihood dispersion, its standard error from that of its logarithm."""
    phi = optimum.dispersion
    std_error = phi * np.sqrt(joint_cov[-1, -1])
    return Variance((Component("dispersion"),), np.array([phi]), np.array([std_error]))


def ignored(design, method) -> list:
    """Say which random terms are left out."""
    if not design.groups:
        return []
    terms = ", ".join(f"({' + '.join(g.columns)} | {g.group})" for g in design.groups)
    consequence = "rows of one level are taken as independent, so its standard errors are wrong"
    return [
        message("random-terms-ignored", method=method.label, terms=terms, consequence=consequence)
    ]
