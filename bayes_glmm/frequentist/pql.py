r"""Penalised and marginal quasi-likelihood: a mixed model by iterated linear mixed models.

``working_model`` renews the linear mixed model of a working response until its linear predictor
stands still (Schall 1991; Breslow & Clayton 1993). Penalised quasi-likelihood expands at
:math:`X\beta + Zb`, and estimates coefficients conditional on the random effects. Marginal
quasi-likelihood expands at :math:`X\beta`: its equations of beta are those of a marginal model
:math:`E(y) = h(X\beta)` whose working covariance is :math:`W^{-1} + ZDZ'`, so that its
coefficients are population-averaged (Breslow & Clayton 1993). Neither maximises a
likelihood: ``loglik`` is None.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter

import numpy as np

from ..fit import Fit, GroupEffects, Seconds, Variance
from ..messages import Message, message
from ..methods import MQL, PQL, NotServedError
from ..numerics.bind import bind_numpy
from ..numerics.mixed_model_equations import MixedModelEquations
from ..numerics.standardise import centre, standardise
from ..numerics.threads import one_blas_thread
from .lmm import refuse_exact_fit
from .notes import NEAR_ONE, on_the_boundary
from .pql_bias import of_bias
from .quasi import refuse_dispersion
from .working_model import ExactFitError, Problem, WorkingFit, iterate
from .working_variance import joint_covariance, variance_of

FEW_COLUMNS = 300  # in the dense part: below, BLAS threads cost more than they save


def fit(model, method: PQL | MQL) -> Fit:
    """Fit a model by penalised or marginal quasi-likelihood.

    Parameters
    ----------
    model
        A GLMM with random effects, nested or crossed, correlated or not. The dispersion of the
        gaussian and gamma families is always estimated, so that a gaussian model with identity
        link is the linear mixed model itself; that of the others is 1 or estimated.
    method
        Options; see ``PQL`` and ``MQL``.

    Raises
    ------
    NotServedError
        If the model has no random effects, or the family's dispersion is more than a factor
        of the variance.
    ValueError
        If the dispersion is estimated and the response leaves no residual.
    """
    begin = perf_counter()
    problem = pose(model, method)
    equations = problem.equations
    small = equations.n_rest < FEW_COLUMNS or equations.sparsity is not None
    with (
        np.errstate(over="ignore", divide="ignore", invalid="ignore"),
        one_blas_thread() if small else nullcontext(),
    ):
        try:
            working = iterate(problem)
        except ExactFitError:
            raise ValueError(
                f"The fixed effects fit {model.design.response_name!r} exactly, which leaves no "
                "residual variance to estimate: check the response, or drop terms."
            ) from None
        found = result(model, method, working)
        if isinstance(method, PQL) and method.bias_correct is not None:
            from .bias_correction import corrected  # only here is it needed

            found = corrected(found, working)
    return replace(found, seconds=Seconds(run=perf_counter() - begin))


def pose(model, method: PQL | MQL) -> Problem:
    """Arrange what the working models need.

    Raises
    ------
    NotServedError, ValueError
        See ``fit``.
    """
    refuse_dispersion(model.family, method.label)
    d = model.design
    if not d.groups:
        raise NotServedError(
            f"{method.label} got a formula without random effects and needs at least one: add "
            "(1 | g), or use GLM()."
        )
    estimated = model.family.has_dispersion or method.dispersion == "estimated"
    y, offset, level = d.y, d.offset, np.zeros(d.X.shape[1])
    centred = centre(d.X)
    if model.is_linear:
        standard = standardise(centred.columns)
        inner, y = standard.least_squares(d.y - d.offset)
        refuse_exact_fit(d, y)
        offset, level = np.zeros(d.n), standard.outer(inner)
    return Problem(
        bound=bind_numpy(model.family, model.link),
        y=y,
        trials=d.trials,
        offset=offset,
        centred=centred,
        equations=MixedModelEquations(centred.columns, d.groups),
        reml=method.likelihood == "reml",
        phi=None if estimated else 1.0,
        marginal=isinstance(method, MQL),
        level=level,
    )


def result(model, method: PQL | MQL, working: WorkingFit) -> Fit:
    """Put the last working model into a Fit."""
    problem, solution = working.problem, working.solution
    phi = problem.dispersion(solution)
    J = problem.centred.outer_jacobian(len(solution.beta))
    beta_cov = phi * J @ solution.beta_covariance() @ J.T
    variance, variance_cov = variance_of(model, working)
    return Fit(
        model=model,
        method=method,
        beta=problem.centred.outer(problem.level + solution.beta),
        vcovs={"model": beta_cov},
        variance=variance,
        effects={} if problem.marginal else effects_of(model, working, phi),
        npar=len(solution.beta) + len(working.theta) + (problem.phi is None),
        estimand="population-averaged" if problem.marginal else "conditional",
        converged=working.converged,
        messages=tuple(notes(model, method, working, variance)),
        joint_cov=joint_covariance(beta_cov, variance_cov),
        details={
            "likelihood": method.likelihood,
            "scale": phi,
            "iterations": working.iterations,
            "change": working.change,
        },
    )


def effects_of(model, working: WorkingFit, phi: float) -> dict[str, GroupEffects]:
    """Give best linear unbiased predictions in the working model, with Henderson's errors."""
    solution = working.solution
    return {
        g.group: GroupEffects(b, np.sqrt(phi * np.einsum("laa->la", cov)))
        for g, b, cov in zip(
            model.design.groups, solution.effects, solution.prediction_covariance(), strict=True
        )
    }


def notes(model, method: PQL | MQL, working: WorkingFit, variance: Variance) -> Iterator[Message]:
    """Say what a reader of the result has to know."""
    if not working.converged:
        reason = (
            f"after {working.iterations} working models the linear predictor still moved by "
            f"{working.change:.1e} of its size"
        )
        yield message("not-converged", reason=reason)
    yield from on_the_boundary(model, variance)
    inside = [
        not (c.kind == "corr" and abs(value) > 1 - NEAR_ONE)
        for c, value in zip(variance.components, variance.estimate, strict=True)
    ]
    unknown = np.isnan(variance.std_error) & ~np.isnan(variance.estimate)
    if np.any(unknown & (variance.estimate != 0) & inside):
        yield message("information-not-positive-definite")
    if isinstance(method, PQL) and working.converged:
        yield from of_bias(model, method, working, variance)
    elif isinstance(method, MQL) and model.link.name != "identity":
        yield message("sd-of-working-model")
