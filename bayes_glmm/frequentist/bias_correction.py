r"""Kuk's (1995) correction of penalised quasi-likelihood by iterated simulation.

With :math:`\psi = (\beta, \theta)`, theta the entries of the Lambdas, and :math:`h(\psi)` the mean
of PQL's estimates of responses simulated at :math:`\psi`, the corrected estimate solves

.. math:: h(\psi) = \hat\psi.

Each iteration simulates anew, refits, and moves by :math:`\hat\psi - \bar\psi^*`, standard
deviations by the factor :math:`\hat\theta / \bar\theta^*` (which settles in fewer iterations where
the bias is large). It stops when the difference lies inside its Monte Carlo error: a 90 % ellipsoid
of the mean. One Newton step with

.. math:: H = \partial h / \partial \psi' = \mathrm{Cov}(\hat\psi^*, s^*)

ends it, :math:`s^*` the score of a simulated response given the standardised effects that it was
simulated with: :math:`E(\hat\psi^* s^{*\prime})` is the derivative of
:math:`E(\hat\psi^*)` whatever the estimator. With :math:`S` the covariance of the simulated
estimates and M simulations, :math:`H^{-1} S H^{-\prime} / M` is the Monte Carlo covariance of the
corrected estimate and :math:`H^{-1} S H^{-\prime}` its sampling covariance, from which the
standard errors come.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import chdtri

from ..fit import Fit, GroupEffects, Variance
from ..messages import Message, message
from ..methods import NotServedError
from .bootstrap import FAILED_SHARE
from .replicates import Failed, replicated
from .working_model import Problem, WorkingFit, conditional_effects, iterate
from .working_variance import on_working_scales

LIMIT = 30  # iterations
INSIDE = 0.10  # share of differences that chance alone puts outside the ellipsoid
FAR = 8.0  # times the uncorrected SD: no parameters within reach give such estimates
REFIT = 1e-5  # tolerance of refits: far inside their Monte Carlo error
LARGEST_FACTOR = 2.0  # of an SD in one iteration


@dataclass(frozen=True, eq=False)
class Simulated:
    """Refits of responses simulated at one point, and the scores there.

    Attributes
    ----------
    estimates, scores
        Shape ``(M, p + m)``, of the refits that converged.
    failures
        Reasons of the others.
    """

    estimates: np.ndarray
    scores: np.ndarray
    failures: list[str]

    @property
    def mean(self) -> np.ndarray:
        """Mean of the estimates."""
        return self.estimates.mean(axis=0)

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the estimates."""
        return np.cov(self.estimates.T).reshape(2 * (self.estimates.shape[1],))


@dataclass(frozen=True, eq=False)
class Corrected:
    """Where the iterations ended.

    Attributes
    ----------
    psi
        Coefficients and entries of the Lambdas.
    covariance, monte_carlo
        Sampling covariance of ``psi``, and that of its simulation.
    trace
        ``psi`` by iteration.
    failures, total
        Reasons of refits that failed, and the number of all refits.
    reason
        Why it did not converge; empty where it did.
    """

    psi: np.ndarray
    covariance: np.ndarray
    monte_carlo: np.ndarray
    trace: np.ndarray
    failures: list[str]
    total: int
    reason: str


def corrected(fit: Fit, working: WorkingFit) -> Fit:
    """Correct a fit by PQL.

    Parameters
    ----------
    fit, working
        The fit to be corrected, and its last working model.

    Returns
    -------
    Fit
        ``details["correction"]`` has by parameter the uncorrected estimate and the Monte Carlo
        error of the corrected one, ``details["trace"]`` the iterations. Group effects are
        conditional modes at the corrected parameters.

    Raises
    ------
    NotServedError
        If the family has a dispersion.
    """
    if fit.model.family.has_dispersion:
        raise NotServedError(
            f"PQL(bias_correct='bootstrap') got family={fit.model.family.name!r} and serves those "
            "without a dispersion (bernoulli, binomial, poisson): use PQL() or ML()."
        )
    if not fit.converged:  # there is no estimate to be corrected, which its messages say
        return fit
    found = iterate_correction(fit, working)
    equations, p = working.problem.equations, len(fit.beta)
    beta, theta = found.psi[:p], found.psi[p:]
    components = fit.variance.components if fit.variance is not None else ()
    estimate, jacobian = on_working_scales(equations, components, theta)
    outer = working.problem.centred.outer_jacobian(len(found.psi))
    turn = outer.copy()
    turn[p:, p:] = jacobian
    corr = np.array([c.kind == "corr" for c in components])
    slope = np.where(corr, 1 - estimate**2, estimate)
    covariance, monte_carlo = (turn @ c @ turn.T for c in (found.covariance, found.monte_carlo))
    boundary = np.isnan(np.diag(covariance))
    covariance[boundary] = covariance[:, boundary] = np.nan
    return replace(
        fit,
        beta=outer[:p, :p] @ beta,
        vcovs={"bootstrap": covariance[:p, :p]},
        variance=Variance(components, estimate, slope * root_diagonal(covariance[p:, p:])),
        effects=effects_at(fit, working.problem, beta, theta),
        converged=not found.reason,
        messages=tuple(notes(fit, found)),
        joint_cov=covariance,
        details={
            **fit.details,
            "correction": pd.DataFrame(
                {
                    "uncorrected": [*fit.beta, *(fit.variance.estimate if fit.variance else ())],
                    "monte_carlo_error": root_diagonal(monte_carlo) * np.r_[np.ones(p), slope],
                },
                index=pd.Index(fit.parameter_names, name="term"),
            ),
            "trace": found.trace @ outer.T,
            "simulations": fit.method.simulations,
        },
    )


def root_diagonal(covariance: np.ndarray) -> np.ndarray:
    """Square roots of a diagonal."""
    return np.sqrt(np.diag(covariance))


def iterate_correction(fit: Fit, working: WorkingFit) -> Corrected:
    """Move the parameters until simulated responses have the estimates that the data have.

    Entries of the Lambdas that the data put at zero stay there.
    """
    problem, method = working.problem, fit.method
    p = len(fit.beta)
    target = parameters(problem, working.solution.beta, working.theta)
    free = np.r_[np.ones(p, bool), target[p:] != 0]
    diagonal = np.concatenate([np.zeros(p, bool), *(f.diagonal for f in problem.equations.factors)])
    psi, trace, failures, total = target.copy(), [target], [], 0
    H = np.zeros(2 * (len(target),))
    reason = f"after {LIMIT} iterations simulated estimates still differed from the data's"
    streams = method.stream(method.seed).spawn(LIMIT)
    for k, stream in enumerate(streams, 1):
        drawn = simulate_and_refit(problem, psi, stream, method.simulations)
        total += method.simulations
        failures += drawn.failures
        # over the iterations H changes little: their average has the least noise
        H += (derivative(drawn) - H) / k
        difference = target - drawn.mean
        active = np.flatnonzero(free & ~(diagonal & (psi == 0) & (difference < 0)))
        if is_inside(drawn, difference, active):
            reason = ""
            break
        psi = np.where(free, moved(psi, target, drawn.mean, diagonal), target)
        trace.append(psi)
        if np.any(np.abs(psi[p:]) > FAR * np.max(np.abs(target[p:]))):
            reason = "no standard deviations within reach give simulated estimates like the data's"
            break
    inverse, part = np.zeros_like(H), np.ix_(active, active)
    inverse[part] = np.linalg.pinv(H[part], rcond=1e-8)
    if not reason:
        psi = kept_inside(psi + inverse @ difference, diagonal)
    sampling = inverse @ drawn.covariance @ inverse.T
    return Corrected(
        psi, sampling, sampling / len(drawn.estimates), np.array(trace), failures, total, reason
    )


def is_inside(drawn: Simulated, difference: np.ndarray, active: np.ndarray) -> bool:
    """Tell whether chance alone explains the difference of the active parameters."""
    covariance, rest = drawn.covariance[np.ix_(active, active)], difference[active]
    distance = rest @ np.linalg.lstsq(covariance, rest, rcond=1e-10)[0]
    return bool(len(drawn.estimates) * distance <= chdtri(len(active), INSIDE))


def parameters(problem: Problem, beta: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """``(beta, theta)``, the diagonals of the Lambdas not negative."""
    equations = problem.equations
    parts = zip(equations.factors, equations.slices, strict=True)
    return np.concatenate([beta, *(f.signs(theta[s]) * theta[s] for f, s in parts)])


def simulate_and_refit(
    problem: Problem, psi: np.ndarray, stream: np.random.SeedSequence, simulations: int
) -> Simulated:
    """Draw responses with new effects at ``psi``, and estimate from each.

    Raises
    ------
    RuntimeError
        If fewer than half of the refits converge.
    """
    equations = problem.equations
    p = equations.p
    beta, theta = psi[:p], psi[p:]
    fixed = equations.X @ beta + problem.offset
    parts = zip(equations.factors, equations.slices, strict=True)
    lower = [f.factor(theta[s]) for f, s in parts]

    def one(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        us = [rng.standard_normal((g.n_levels, f.q)) for g, f in pairs(equations)]
        effects = [u @ L.T for u, L in zip(us, lower, strict=True)]
        eta = fixed + problem.random_part(effects)
        mean = problem.bound.link.inverse(eta)[0]
        y = problem.bound.family.simulate(rng, mean, problem.trials, 1.0)
        again = iterate(problem.with_response(np.asarray(y, float)), theta, REFIT)
        if not again.converged:
            raise RuntimeError("the working models did not settle")
        estimate = parameters(problem, again.solution.beta, again.theta)
        return estimate, score(problem, np.asarray(y, float), eta, us)

    with np.errstate(all="ignore"):
        found = replicated(one, stream, simulations, 1, False)
    good = [f for f in found if not isinstance(f, Failed)]
    failures = [f.reason for f in found if isinstance(f, Failed)]
    if len(good) < simulations / 2:
        raise RuntimeError(
            f"{len(failures)} of {simulations} refits of simulated responses failed, most often: "
            f"{max(set(failures), key=failures.count)}. Use ML() or a Bayesian fit."
        )
    estimates, scores = (np.array(part) for part in zip(*good, strict=True))
    return Simulated(estimates, scores, failures)


def pairs(equations):
    """Effects of each factor with the entries of its Lambda."""
    return zip(equations.effects, equations.factors, strict=True)


def score(problem: Problem, y: np.ndarray, eta: np.ndarray, us: list[np.ndarray]) -> np.ndarray:
    """Differentiate ``log f(y | u)`` in beta and in the entries of the Lambdas."""
    slope = problem.bound.log_density(y, problem.trials, eta)[1]
    parts = [problem.equations.X.T @ slope]
    for (g, f), u in zip(pairs(problem.equations), us, strict=True):
        parts.append(f.gradient((g.Z * slope[:, None]).T @ u[g.index]))
    return np.concatenate(parts)


def derivative(drawn: Simulated) -> np.ndarray:
    """``Cov(estimates, scores)``; the scores have mean zero."""
    centred = drawn.estimates - drawn.mean
    return centred.T @ (drawn.scores - drawn.scores.mean(axis=0)) / (len(centred) - 1)


def moved(psi: np.ndarray, target: np.ndarray, mean: np.ndarray, diagonal) -> np.ndarray:
    """Move by the difference; diagonal entries of the Lambdas by their ratio."""
    by_ratio = diagonal & (psi > 0) & (mean > 0)
    ratio = np.where(by_ratio, target / np.where(by_ratio, mean, 1.0), 1.0)
    ratio = np.clip(ratio, 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    return kept_inside(np.where(by_ratio, psi * ratio, psi + target - mean), diagonal)


def kept_inside(psi: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """Let no diagonal entry of a Lambda fall below zero."""
    return np.where(diagonal & (psi < 0), 0.0, psi)


def effects_at(fit: Fit, problem: Problem, beta, theta) -> dict[str, GroupEffects]:
    """Give conditional modes and their SDs, the parameters known."""
    solution = conditional_effects(problem, beta, theta)
    return {
        g.group: GroupEffects(b, np.sqrt(np.einsum("laa->la", cov)))
        for g, b, cov in zip(
            fit.model.design.groups,
            solution.effects,
            solution.prediction_covariance(),
            strict=True,
        )
    }


def notes(fit: Fit, found: Corrected) -> Iterator[Message]:
    """Say how the correction went; what was known to be biased is corrected."""
    yield from (m for m in fit.messages if m.code != "bias-likely" or found.reason)
    if found.reason:
        yield message("not-converged", reason=f"Kuk's correction: {found.reason}")
    if len(found.failures) > FAILED_SHARE * found.total:
        yield message(
            "bootstrap-failures",
            failed=len(found.failures),
            total=found.total,
            reason=max(set(found.failures), key=found.failures.count),
        )
