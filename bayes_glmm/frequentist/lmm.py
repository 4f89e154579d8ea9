r"""REML(), and ML() of gaussian models with identity link: linear mixed models.

The likelihood is exact and profiled over beta and sigma (``numerics.linear_mixed``); the
variance parameters are found by ``lmm_search`` and their errors by ``lmm_errors``.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from time import perf_counter

import numpy as np

from ..fit import Fit, GroupEffects, Seconds, Variance, components_of
from ..messages import Message, message
from ..methods import ML, REML, NotServedError
from ..numerics.threads import one_blas_thread
from .clustering import is_nested
from .kenward_roger import KIND, SmallSample, independent_rows, small_sample
from .lmm_errors import VarianceErrors, satterthwaite, variance_errors
from .lmm_search import LinearMaximum, LinearSearch
from .notes import few_levels, on_the_boundary
from .working_variance import joint_covariance

# in the dense part: below, BLAS threads save little, and cost much where cores are shared
FEW_COLUMNS = 2000
LARGEST = 12_000  # effects beside the largest factor's: a dense matrix of about a gigabyte
NAMED = 3  # parameters of a lower maximum that a message names
EXACT = 1e-26  # residual sum of squares, relative to the response's, that is rounding alone


def fit(model, method: REML) -> Fit:
    """Fit a linear mixed model by restricted maximum likelihood.

    Raises
    ------
    NotServedError
        If the model is not gaussian with identity link, its clusters of correlated residuals
        cross the levels of a grouping factor, or Kenward & Roger's inference needs too large a
        matrix.
    ValueError
        If a variance cannot be told from the residual's, or the residual is zero.
    """
    return fit_linear(model, method, reml=True)


def fit_linear(model, method: ML | REML, reml: bool) -> Fit:
    """Fit by maximum likelihood, restricted or not; see ``fit``."""
    begin = perf_counter()
    check(model, method)
    search = LinearSearch.of(model, reml)
    adjusts = isinstance(method, REML) and method.df == KIND
    rows = independent_rows(search, method.label) if adjusts else None
    set_up = perf_counter()
    e = search.problem.equations
    small = e is None or e.n_rest < FEW_COLUMNS or e.sparsity is not None
    with one_blas_thread() if small else nullcontext():
        refuse_too_large(model, method, search)
        refuse_exact_fit(model.design, search.problem.left)
        maximum = search.maximise()
        sigma2 = maximum.state.variance(reml)
        errors = variance_errors(search, maximum, sigma2)
    small = None if rows is None else small_sample(search, maximum, sigma2, rows)
    found = assemble(model, search, maximum, errors, sigma2, small)
    return Fit(
        model=model,
        method=method,
        loglik=-0.5 * maximum.criterion,
        loglik_kind="restricted" if reml else "exact",
        npar=search.problem.p + search.problem.size + 1,
        converged=maximum.converged,
        messages=tuple(notes(model, maximum, errors, found["variance"], small)),
        seconds=Seconds(setup=set_up - begin, run=perf_counter() - set_up),
        **found,
    )


def check(model, method) -> None:
    """Refuse what is not served or cannot be told apart."""
    refuse_not_linear(model, method)
    d, repeated = model.design, model.repeated
    for g in d.groups:
        if repeated is not None and not is_nested(repeated.cluster, g.index):
            raise NotServedError(
                f"{method.label} got residuals correlated within levels of {model.residual.by!r}, "
                f"which cross those of the grouping factor {g.group!r}: with residual= every "
                "factor must contain the correlated clusters; leave out one of the two."
            )
        if repeated is not None and is_held(g, repeated):
            raise NotServedError(
                f"{method.label} cannot tell a random intercept of {g.group!r} from the "
                f"correlations of {model.residual}, which hold it: leave one of the two out, or "
                "use NUTS(), where the priors tell them apart."
            )
        if g.n_levels == d.n and repeated is None and not has_relatives(g):
            raise ValueError(
                f"The grouping factor {g.group!r} has one row in each of its {d.n} levels, so "
                "that its variance cannot be told from the residual variance: drop the term, or "
                "group the rows into fewer levels."
            )


def is_held(group, repeated) -> bool:
    """Whether the residual correlation holds the group's random intercept.

    Levels and clusters are then the same; clusters are known to lie within levels.
    """
    same = len(np.unique(repeated.cluster)) == len(np.unique(group.index))
    constant = bool(np.any(np.ptp(group.Z, axis=0) == 0.0))
    return repeated.correlation.holds_intercept and same and constant and not has_relatives(group)


def has_relatives(group) -> bool:
    """Whether levels are related, so that one row in each tells their variance apart."""
    A = group.covariance
    return A is not None and int(np.count_nonzero(A)) > len(A)


def refuse_too_large(model, method, search: LinearSearch) -> None:
    """Refuse a dense complement that would not fit into memory."""
    e = search.problem.equations
    if e is None or (e.sparsity is not None and model.residual is None):
        return
    if (rest := e.n_rest) > LARGEST:
        raise NotServedError(
            f"{method.label} got {rest:,} random effects beside those of the largest factor, not "
            f"nested in it, and serves {LARGEST:,}: use ML(nodes=1), whose factor is sparse, or "
            "drop a term."
        )


def effects_beside(model) -> int:
    """Count the random effects of all factors but the one with most levels."""
    groups = model.design.groups
    if not groups:
        return 0
    return sum(g.n_levels * g.q for k, g in enumerate(groups) if k != model.design.largest)


def refuse_not_linear(model, method) -> None:
    """Refuse other families and links.

    Raises
    ------
    NotServedError
        Naming what serves.
    """
    if not model.is_linear:
        raise NotServedError(
            f"{method.label} serves family='gaussian' with link='identity' and got "
            f"family={model.family.name!r} with link={model.link.name!r}: use ML() or PQL()."
        )


def refuse_exact_fit(design, left: np.ndarray) -> None:
    """Refuse a response of which least squares leaves nothing, ``left`` ``(n,)`` being rounding.

    Raises
    ------
    ValueError
        Naming the response.
    """
    y = design.y - design.offset
    if design.n <= design.p or left @ left <= EXACT * (y @ y):
        raise ValueError(
            f"The fixed effects fit {design.response_name!r} exactly, which leaves no residual "
            "variance to estimate: check the response, or drop terms."
        )


def assemble(
    model,
    search,
    maximum: LinearMaximum,
    errors: VarianceErrors,
    sigma2: float,
    small: SmallSample | None,
) -> dict:
    """Estimates, covariances, degrees of freedom and group effects as a Fit holds them."""
    state, reml = maximum.state, search.reml
    vcov = sigma2 * state.beta_covariance
    slopes, covariance = (
        (small.vcov_slopes, small.covariance) if small else (errors.vcov_slopes, errors.covariance)
    )
    estimate, jacobian = natural(search, maximum.x, sigma2)
    whole = np.zeros((len(maximum.x) + 1, len(maximum.x) + 1))
    kept = np.append(errors.positions, len(maximum.x))
    whole[np.ix_(kept, kept)] = errors.outer_covariance
    variance, joint = variance_of(model, maximum, estimate, jacobian, whole)
    covariances = state.conditional_covariance()
    sds = [np.sqrt(sigma2 * np.einsum("laa->la", c)) for c in covariances]
    groups = [g.group for g in model.design.groups]
    return {
        "beta": state.beta,
        "vcovs": ({KIND: small.vcov} if small else {}) | {"model": vcov},
        "variance": variance,
        "effects": {
            group: GroupEffects(b, sd)
            for group, b, sd in zip(groups, state.effects, sds, strict=True)
        },
        "joint_cov": joint_covariance(small.vcov if small else vcov, joint),
        "df": satterthwaite(np.eye(len(vcov)), vcov, slopes, covariance) if reml else None,
        "details": {"vcov_slopes": slopes, "variance_cov": covariance}
        | details(model, search, maximum, errors, sigma2, whole),
    }


def natural(search: LinearSearch, x: np.ndarray, sigma2: float) -> tuple[np.ndarray, np.ndarray]:
    """Natural variance parameters and their derivatives by ``(x, log sigma²)``.

    SDs and correlations by factor, parameters of the residual correlation, sigma; a zero SD
    has NaN derivatives.
    """
    sigma, m = np.sqrt(sigma2), len(x) + 1
    values, rows = [], []
    for factor, part in zip(search.problem.factors, search.problem.slices, strict=True):
        value, own = factor.components(x[part]), np.zeros((factor.size, m))
        own[:, part] = factor.jacobian(x[part])
        value[: factor.q] *= sigma
        own[: factor.q] *= sigma
        own[: factor.q, -1] = value[: factor.q] / 2
        values.append(value)
        rows.append(own)
    n_theta, alpha = search.problem.n_theta, search.alpha(x)
    own = np.zeros((len(alpha) + 1, m))
    own[:-1, n_theta:-1] = np.diag(search.slope(x)[n_theta:])
    own[-1, -1] = sigma / 2
    return np.concatenate([*values, alpha, [sigma]]), np.vstack([*rows, own])


def variance_of(model, maximum, estimate, jacobian, covariance) -> tuple[Variance, np.ndarray]:
    """Variance components with standard errors, and their covariance on the working scales.

    NaN for what is on a boundary: zero SDs, correlations of one, parameters at a limit.
    """
    components = components_of(model)
    held = np.append(~maximum.free, False)
    undefined = np.isnan(jacobian).any(axis=1)
    lost = undefined | (np.nan_to_num(jacobian)[:, held] != 0).any(axis=1)
    lost |= np.array([c.kind == "corr" for c in components]) & ~(np.abs(estimate) < 1 - 1e-8)
    known = np.nan_to_num(jacobian)
    errors = np.sqrt(np.diag(known @ covariance @ known.T))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.array(
            [float(c.scale.slope(x)) for c, x in zip(components, estimate, strict=True)]
        )
        known = np.where(lost[:, None], 0.0, known / slope[:, None])
    working = known @ covariance @ known.T
    working[lost] = working[:, lost] = np.nan
    return Variance(components, estimate, np.where(lost, np.nan, errors)), working


def details(model, search, maximum, errors: VarianceErrors, sigma2: float, covariance) -> dict:
    """Collect what only a linear mixed model has.

    ``prediction_sd`` are the corrected errors of the BLUPs. With independent residuals there are
    also the parameters by which profiles and likelihood-ratio tests go on.
    """
    with np.errstate(invalid="ignore"):
        corrected = [
            np.sqrt(sigma2 * np.einsum("laa->la", c) + errors.correction(k))
            for k, c in enumerate(maximum.state.prediction_covariance())
        ]
    groups = [g.group for g in model.design.groups]
    found = {
        "prediction_sd": dict(zip(groups, corrected, strict=True)),
        "optimiser": {"name": "Newton on the profile", "evaluations": maximum.evaluations},
    }
    if model.residual is None:
        found |= general_parameters(search, maximum, sigma2, covariance)
    return found


def general_parameters(search, maximum: LinearMaximum, sigma2: float, covariance) -> dict:
    """Give ``theta`` (absolute, and log sigma), and the covariance of beta and them."""
    x, sigma = maximum.x, np.sqrt(sigma2)
    sign = np.ones(len(x))
    for factor, part in zip(search.problem.factors, search.problem.slices, strict=True):
        sign[part] = factor.signs(x[part])
    theta = sign * x * sigma
    jacobian = np.zeros((len(x) + 1, len(x) + 1))
    jacobian[:-1, :-1] = np.diag(sign * sigma)
    jacobian[:-1, -1], jacobian[-1, -1] = theta / 2, 0.5
    own = jacobian @ covariance @ jacobian.T
    held = np.append(~maximum.free, False)
    own[held] = own[:, held] = np.nan
    return {
        "nodes": 1,
        "theta": np.append(theta, np.log(sigma)),
        "covariance": joint_covariance(sigma2 * maximum.state.beta_covariance, own),
    }


def notes(
    model,
    maximum: LinearMaximum,
    errors: VarianceErrors,
    variance,
    small: SmallSample | None,
) -> Iterator[Message]:
    """Say what a reader of the result has to know."""
    yield from few_levels(model)
    yield from on_the_boundary(model, variance)
    if not maximum.converged:
        yield message("not-converged", reason=f"no end after {maximum.evaluations} evaluations")
    if not errors.proper:
        yield message("information-not-positive-definite")
    if small is not None and small.rank < len(small.covariance):
        yield message("variances-not-told-apart", rank=small.rank, parameters=len(small.covariance))
    n_theta = sum(c.kind in ("sd", "corr") for c in variance.components)
    residual = [c for c in variance.components if c.is_residual]
    for k, c in enumerate(residual):
        if not maximum.free[n_theta + k]:
            value = variance.estimate[n_theta + k]
            yield message("residual-correlation-at-limit", parameter=str(c), value=value)
    if maximum.others:
        value, alpha = min(maximum.others, key=lambda other: other[0])
        said = [f"{c} {a:.3g}" for c, a in zip(residual, alpha, strict=True)]
        more = f" and {len(said) - NAMED} more" if len(said) > NAMED else ""
        where = ", ".join(said[:NAMED]) + more
        fall = (value - maximum.criterion) / 2
        yield message("other-maximum", fall=fall, where=where)
