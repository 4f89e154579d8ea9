r"""Penalised quasi-likelihood: a generalized linear mixed model by iterated linear ones.

At the current linear predictor the working response
:math:`z = \eta - \mathrm{offset} + (y - \mu)g'(\mu)` follows, nearly, a linear mixed model with
weights :math:`w = m/(V(\mu)g'(\mu)^2)`; its variances are estimated by REML or ML, its
equations solved for beta and b, and eta renewed until it stands still (Schall 1991; Breslow &
Clayton 1993). It is no likelihood method: its ``loglik`` is None.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from ..fit import Component, Fit, GroupEffects, Seconds, Variance, components_of
from ..messages import Message, message
from ..methods import PQL, NotServedError
from ..numerics.bind import bind_numpy
from ..numerics.mixed_model_equations import CrossProducts, MixedModelEquations, Solution
from ..numerics.newton import difference_hessian, minimise
from ..numerics.quasi_likelihood import quasi_score, start_predictor
from ..numerics.threads import one_blas_thread
from .quasi import refuse_dispersion

LIMIT = 200  # working models
TOLERANCE = 1e-9  # last change of the linear predictor, relative to 1 + its size
FEW_COLUMNS = 300  # in the dense part: below, BLAS threads cost more than they save
START_SD = 0.7  # of every effect, on the scale of the linear predictor
REVIVED = 0.03  # smaller SDs start here: at zero the gradient vanishes whatever the data say
UNSETTLED = 1e-4  # as long as the linear predictor moves by more
ZERO_SD = 1e-4  # smaller ones are zero in the result
FLAT = 1e-6  # least eigenvalue of a scaled information that differences can tell from zero
# the expansion is poor where a level carries little information and effects are large
LITTLE_INFORMATION, LARGE_SD = 4.0, 0.5


@dataclass(frozen=True, eq=False)
class WorkingFit:
    """The last working linear mixed model.

    Attributes
    ----------
    products
        Its cross-products at the final weights.
    theta
        Entries of the Lambdas, exactly zero for variances on the boundary.
    weight
        Working weights, shape ``(n,)``.
    change
        Last relative change of the linear predictor.
    """

    products: CrossProducts
    theta: np.ndarray
    weight: np.ndarray
    iterations: int
    change: float
    converged: bool


def fit(model, method: PQL) -> Fit:
    """Fit a model by penalised quasi-likelihood.

    Parameters
    ----------
    model
        A GLMM with random effects, nested or crossed, correlated or not. Families without a
        dispersion have it fixed at 1; that of the gaussian and gamma families is estimated with
        the others, so that a gaussian model with identity link is the linear mixed model itself.
    method
        Options; see ``PQL``.

    Raises
    ------
    NotServedError
        If the model has no random effects, or the family's dispersion is more than a factor
        of the variance.
    ValueError
        If a gaussian response leaves no residual.
    """
    begin = perf_counter()
    refuse_dispersion(model.family, method.label)
    if not model.design.groups:
        raise NotServedError(
            f"{method.label} got a formula without random effects and needs at least one: add "
            "(1 | g), or use GLM()."
        )
    equations = MixedModelEquations(model.design.X, model.design.groups)
    small = equations.n_rest < FEW_COLUMNS or equations.sparsity is not None
    with (
        np.errstate(over="ignore", divide="ignore", invalid="ignore"),
        one_blas_thread() if small else nullcontext(),
    ):
        return result(model, method, iterate(model, equations, method.likelihood == "reml"), begin)


def result(model, method: PQL, working: WorkingFit, begin: float) -> Fit:
    """Put the last working model into a Fit."""
    reml = method.likelihood == "reml"
    solution = working.products.solve(working.theta)
    phi = dispersion_of(model, solution, reml)
    beta_cov = phi * solution.beta_covariance()
    variance, variance_cov = variance_of(model, working, phi, reml)
    predicted = solution.prediction_covariance()
    return Fit(
        model=model,
        method=method,
        beta=solution.beta,
        vcovs={"model": beta_cov},
        variance=variance,
        effects={
            g.group: GroupEffects(b, np.sqrt(phi * np.einsum("laa->la", cov)))
            for g, b, cov in zip(model.design.groups, solution.effects, predicted, strict=True)
        },
        npar=len(solution.beta) + len(variance.components),
        converged=working.converged,
        messages=tuple(notes(model, method, working, variance)),
        joint_cov=joint_covariance(beta_cov, variance_cov),
        seconds=Seconds(run=perf_counter() - begin),
        details={
            "likelihood": method.likelihood,
            "iterations": working.iterations,
            "change": working.change,
        },
    )


def iterate(model, equations: MixedModelEquations, reml: bool) -> WorkingFit:
    """Renew the working model until the linear predictor stands still.

    Where its changes grow, it swings, and the next steps are halved.
    """
    d, bound = model.design, bind_numpy(model.family, model.link)
    scale, unit = equations.theta_scale(), equations.unit_theta()
    theta, hessian = START_SD * unit, None
    eta, change, damping = start_predictor(bound, d.y, d.trials), np.inf, 1.0
    for iteration in range(1, LIMIT + 1):  # noqa: B007
        score, weight = quasi_score(bound, d.y, d.trials, eta)
        products = equations.cross_products(eta - d.offset + score / weight, weight)
        refuse_exact_fit(model, products, theta)
        if change > UNSETTLED and (low := np.abs(theta) < REVIVED * unit).any():
            theta, hessian = np.where(low, REVIVED * unit, theta), None
        criterion = working_criterion(model, products, reml)
        # no finer than the working model itself is known
        accuracy = max(1e-2 * min(change, 1.0), TOLERANCE)
        minimum = minimise(criterion, theta, scale, hessian, accuracy)
        theta, hessian = minimum.x, minimum.hessian
        step = predictor(model, products.solve(theta)) - eta
        previous, change = change, float(np.max(np.abs(step)) / (1 + np.max(np.abs(eta))))
        damping = damping / 2 if change > previous else min(1.0, 2 * damping)
        move = damping * step
        while not np.all(eta + move > model.link.lowest) and np.isfinite(change):
            move = move / 2
        eta = eta + move
        if change < TOLERANCE or not np.isfinite(change):
            break
    theta = at_boundary(equations, theta)
    return WorkingFit(products, theta, weight, iteration, change, change < TOLERANCE)


def refuse_exact_fit(model, products: CrossProducts, theta: np.ndarray) -> None:
    """Refuse a response whose residual variance cannot be estimated because it is zero.

    Raises
    ------
    ValueError
        Naming the response.
    """
    total = products.columns[-1, -1]
    if model.family.has_dispersion and products.solve(theta).rss <= 1e-22 * total:
        raise ValueError(
            f"The fixed effects fit {model.design.response_name!r} exactly, which leaves no "
            "residual variance to estimate: check the response, or drop terms."
        )


def working_criterion(model, products: CrossProducts, reml: bool):
    """Minus twice the working log-likelihood and its gradient, as a function of theta."""
    phi = None if model.family.has_dispersion else 1.0

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            solution = products.solve(theta)
        except np.linalg.LinAlgError:
            return np.inf, np.full_like(theta, np.nan)
        return solution.criterion(reml, phi), solution.gradient(reml, phi)

    return objective


def predictor(model, solution: Solution) -> np.ndarray:
    """``X beta + Z b + offset``, shape ``(n,)``."""
    d = model.design
    eta = d.X @ solution.beta + d.offset
    for g, b in zip(d.groups, solution.effects, strict=True):
        eta = eta + np.einsum("ia,ia->i", g.Z, b[g.index])
    return eta


def at_boundary(equations: MixedModelEquations, theta: np.ndarray) -> np.ndarray:
    """Make SDs that are zero to the accuracy of the iterations exactly zero."""
    theta, scale = theta.copy(), equations.theta_scale()
    for factor, part in zip(equations.factors, equations.slices, strict=True):
        sd = np.linalg.norm(factor.factor(theta[part]), axis=1)
        rows = factor.entries[0]
        theta[part] = np.where(sd[rows] < ZERO_SD * scale[part], 0.0, theta[part])
    return theta


def dispersion_of(model, solution: Solution, reml: bool) -> float:
    """Residual variance of the working model: 1 where the family fixes it."""
    if not model.family.has_dispersion:
        return 1.0
    return solution.rss / solution.degrees_of_freedom(reml)


def variance_of(model, working: WorkingFit, phi: float, reml: bool):
    """Variance components with standard errors, and their covariance on the working scales.

    Working scales are log SD, atanh correlation and log dispersion. Standard errors come from
    the observed information of the working (restricted) likelihood, NaN at the boundary.

    Returns
    -------
    Variance
        Natural scale, components in the contract's order.
    ndarray of shape (m, m)
        Covariance on the working scales.
    """
    equations, free = working.products.equations, model.family.has_dispersion
    m = len(working.theta) + free
    estimate, jacobian = np.full(m, np.sqrt(phi)), np.zeros((m, m))
    components = components_of(model)
    corr = np.array([c.kind == "corr" for c in components])
    for factor, part in zip(equations.factors, equations.slices, strict=True):
        sds = slice(part.start, part.start + factor.q)
        estimate[part] = factor.components(working.theta[part])
        jacobian[part, part] = factor.jacobian(working.theta[part])
        slope = np.where(corr[part], 1 - estimate[part] ** 2, estimate[part])
        jacobian[part, part] /= slope[:, None]  # of log SD and atanh correlation
        estimate[sds] *= np.sqrt(phi)  # theta is relative to the residual SD
        jacobian[sds, len(working.theta) :] = 0.5
    jacobian[len(working.theta) :, len(working.theta) :] = 0.5
    covariance = jacobian @ information_inverse(working, phi, reml, free) @ jacobian.T
    slope = np.where(corr, 1 - estimate**2, estimate)
    return Variance(components, estimate, slope * np.sqrt(np.diag(covariance))), covariance


def information_inverse(working: WorkingFit, phi: float, reml: bool, free: bool) -> np.ndarray:
    """Covariance of theta (and log phi where it is free): zero at boundary entries.

    NaN for all others where the information is not positive definite.
    """
    m, inside = len(working.theta), np.flatnonzero(working.theta)
    kept = np.r_[inside, m] if free else inside

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        theta = working.theta.copy()
        theta[inside] = x[: len(inside)]
        solution = working.products.solve(theta)
        value = np.exp(x[-1]) if free else phi
        slope = solution.gradient(reml, value)[inside]
        if free:
            slope = np.r_[slope, solution.degrees_of_freedom(reml) - solution.rss / value]
        return solution.criterion(reml, value), slope

    x = np.r_[working.theta, np.log(phi)][kept]
    scale = np.r_[working.products.equations.theta_scale(), 1.0][kept]
    information = difference_hessian(objective, x, scale) / 2
    size = np.sqrt(np.abs(np.diag(information)))
    covariance = np.zeros((m + free, m + free))
    covariance[np.ix_(kept, kept)] = np.nan
    with np.errstate(invalid="ignore"):
        relative = information / np.outer(size, size)
    if np.isfinite(relative).all() and np.linalg.eigvalsh(relative)[:1].min(initial=1) > FLAT:
        covariance[np.ix_(kept, kept)] = np.linalg.inv(information)
    return covariance


def joint_covariance(beta_cov: np.ndarray, variance_cov: np.ndarray) -> np.ndarray:
    """Put the two on one diagonal, NaN in the rows and columns of boundary parameters."""
    p = len(beta_cov)
    whole = np.zeros((p + len(variance_cov), p + len(variance_cov)))
    whole[:p, :p], whole[p:, p:] = beta_cov, variance_cov
    boundary = np.isnan(np.diag(whole))
    whole[boundary] = whole[:, boundary] = np.nan
    return whole


def notes(model, method: PQL, working: WorkingFit, variance: Variance) -> Iterator[Message]:
    """Say what a reader of the result has to know."""
    if not working.converged:
        reason = (
            f"after {working.iterations} working models the linear predictor still moved by "
            f"{working.change:.1e} of its size"
        )
        yield message("not-converged", reason=reason)
    settled = False
    for c, value, se in zip(
        variance.components, variance.estimate, variance.std_error, strict=True
    ):
        if c.kind == "sd" and value == 0:
            yield message("zero-variance", component=f"{c.term} by {c.group}")
        elif c.kind == "corr" and abs(value) > 1 - 1e-6:
            which = (
                f"a combination of {c.term} and {c.term2} by {c.group} (correlation {value:.2f})"
            )
            yield message("zero-variance", component=which)
        else:
            settled |= bool(np.isnan(se) and not np.isnan(value))
    if settled:
        yield message("information-not-positive-definite")
    facts = "; ".join(bias_facts(model, working, variance.components, variance.estimate))
    if facts:
        yield message("bias-likely", method=method.label, facts=facts)


def bias_facts(
    model, working: WorkingFit, components: tuple[Component, ...], estimate: np.ndarray
) -> Iterator[str]:
    """Describe the effects whose levels carry little information for their size.

    The information of a level is the sum of its working weights, the curvature of its
    log-likelihood: the expansion around the mode takes that for a normal one.
    """
    if model.family.has_dispersion and model.link.name == "identity":
        return
    sd = {(c.group, c.term): x for c, x in zip(components, estimate, strict=True) if c.kind == "sd"}
    for g in model.design.groups:
        for column, term in zip(g.Z.T, g.columns, strict=True):
            size = sd[g.group, term] * np.sqrt(np.mean(column**2))
            level = np.bincount(g.index, working.weight * column**2) / np.mean(column**2)
            information = float(np.median(level))
            if information < LITTLE_INFORMATION and size > LARGE_SD:
                yield (
                    f"{model.family.name} responses, a median of "
                    f"{np.median(np.bincount(g.index)):g} rows and of information "
                    f"{information:.2g} per level of {g.group}, and a standard deviation of "
                    f"{sd[g.group, term]:.2f} for {term}"
                )
