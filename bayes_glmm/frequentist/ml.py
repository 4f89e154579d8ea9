r"""ML(): maximum likelihood by adaptive Gauss-Hermite quadrature; one node is Laplace.

Gaussian models with identity link go to ``lmm``, whose likelihood is exact.

One factor, or two nested ones, with up to three effects together are integrated by
quadrature, other factors by Laplace.
Standard errors come from the observed information, by differences of the exact gradient.
"""

from time import perf_counter

import numpy as np
import pandas as pd
from scipy.linalg import block_diag

from ..fit import Fit, GroupEffects, Seconds, Variance, components_of, datatree_name
from ..messages import Message, message
from ..methods import ML, NotServedError
from ..numerics.groups import by_size, is_nested
from ..numerics.marginal import dimensions, nodes_allowed
from .likelihood import Likelihood, Maximum, factors_of
from .lmm import LARGEST, effects_beside, fit_linear
from .notes import notes_on

# nodes per effect tried by "auto", by dimensions (effects of one level of each factor
# together); odd, so that the mode is a node
LADDERS = {
    1: (9, 15, 25, 35, 51, 71, 101, 151, 201),
    2: (5, 9, 15, 21, 31, 41, 61, 81),
    3: (5, 7, 9, 11, 15),
}
MOST_DENSITIES = 2e8  # rows times nodes of one likelihood by "auto": about a second


def fit(model, method: ML) -> Fit:
    """Fit a model by maximum likelihood.

    Raises
    ------
    NotServedError
        If the model has no random term, or more nodes than one are asked for where only
        Laplace serves; the message says what to use.
    """
    check(model, method)
    if is_linear(model, method):
        return fit_linear(model, method, reml=False)
    started = perf_counter()
    compile_kernels(model)
    compiled = perf_counter()
    likelihood = Likelihood.of(model)
    set_up = perf_counter()
    maximum, nodes, table, notes = search(model, method, likelihood)
    seconds = Seconds(set_up - compiled, compiled - started, 0.0)
    parts = assemble(model, likelihood, maximum)
    notes = [*notes, *notes_on(model, likelihood, maximum, parts["variance"])]
    return Fit(
        model=model,
        method=method,
        loglik=maximum.loglik,
        loglik_kind=loglik_kind(model, nodes),
        npar=likelihood.layout.size,
        converged=maximum.optimum.converged,
        messages=tuple(notes),
        seconds=Seconds(seconds.setup, seconds.compile, perf_counter() - set_up),
        details={"nodes": nodes, "node_table": table, **record(model, likelihood, maximum)},
        **parts,
    )


def check(model, method: ML) -> None:
    """Refuse what is not served, naming what is."""
    groups = model.design.groups
    if not groups and model.residual is None:
        raise NotServedError(
            "ML() got a model without random terms: it maximises an integral over random "
            "effects; use GLM() instead."
        )
    if model.residual is not None:
        return
    if method.nodes not in ("auto", 1) and not quadrature_serves(model):
        raise NotServedError(
            f"ML(nodes={method.nodes}) got {several(model)}: more than one node is offered for "
            "one grouping factor or two nested ones, with up to three effects together; use "
            "ML(nodes=1) (Laplace) or NUTS()."
        )


def is_linear(model, method: ML) -> bool:
    """Tell whether the exact likelihood of a linear mixed model serves, and is wanted."""
    if model.residual is not None:
        return True
    served = bool(model.related) or effects_beside(model) <= LARGEST
    return model.is_linear and method.nodes in ("auto", 1) and served


def several(model) -> str:
    """Say why only Laplace serves."""
    groups, factors = model.design.groups, factors_of(model)
    names = ", ".join(g.group for g in groups)
    if len(groups) == 1:
        return f"{groups[0].q} effects per level of {groups[0].group!r}"
    if is_nested(by_size(factors)):
        return f"2 nested grouping factors ({names}) with {dimensions(factors)} effects together"
    crossed = ", neither nested in the other" if len(groups) == 2 else ""
    return f"{len(groups)} grouping factors ({names}){crossed}"


def quadrature_serves(model) -> bool:
    """Tell whether more than one node can be used."""
    factors = factors_of(model)
    return nodes_allowed(factors) and dimensions(factors) in LADDERS


def ladder(model) -> tuple[int, ...]:
    """Nodes per effect that "auto" may try; empty where only one node is served."""
    if not quadrature_serves(model) or model.is_linear:
        return ()
    effects = dimensions(factors_of(model))
    rows = len(model.design.y)
    return tuple(k for k in LADDERS[effects] if rows * k**effects <= MOST_DENSITIES)


def compile_kernels(model) -> None:
    """Compile the family and the kernels, or load them from disk."""
    from ..numerics.bind import bind_numba

    bind_numba(model.family, model.link)
    factors = factors_of(model)
    if not nodes_allowed(factors):
        from ..numerics.laplace import compile_all

        compile_all()
    elif len(factors) == 2:
        from ..numerics.nested_integral import integrate_nested

        integrate_nested.compiled  # noqa: B018
    else:
        from ..numerics.quadrature import integrate_scalar, integrate_vector

        kernel = integrate_scalar if factors[0].q == 1 else integrate_vector
        kernel.compiled  # noqa: B018


def search(model, method: ML, likelihood: Likelihood):
    """Maximise at the nodes asked for, or raise them until the answer settles.

    Returns
    -------
    maximum, nodes, table, messages
        ``table`` has one row a fit: nodes, log-likelihood, SDs.
    """
    rungs = ladder(model)
    if method.nodes != "auto" or not rungs:
        nodes = 1 if method.nodes == "auto" else method.nodes
        likelihood.use_nodes(nodes)
        maximum = likelihood.maximise()
        return (
            maximum,
            nodes,
            node_table(model, likelihood, [(nodes, maximum)]),
            laplace_note(model, method),
        )
    tried: list[tuple[int, Maximum]] = []
    for nodes in rungs:
        likelihood.use_nodes(nodes)
        warm = {}
        if tried and tried[-1][1].proper:
            last = tried[-1][1]
            warm = {"start": last.x, "inverse": last.covariance}
        tried.append((nodes, likelihood.maximise(**warm)))
        changes = np.abs(np.diff([m.loglik for _, m in tried[-3:]]))
        if len(changes) == 2 and np.all(changes < method.tolerance):
            return tried[-1][1], nodes, node_table(model, likelihood, tried), []
    note = unsettled(model, rungs, changes)
    return tried[-1][1], rungs[-1], node_table(model, likelihood, tried), [note]


def unsettled(model, rungs: tuple[int, ...], changes: np.ndarray) -> Message:
    """Say that the log-likelihood still moves, or was not followed further for its cost."""
    effects = dimensions(factors_of(model))
    if rungs == LADDERS[effects]:
        return message("nodes-too-few", change=changes[-1], nodes=rungs[-1])
    moved = "no other rule was tried"
    if len(changes):
        moved = f"from the rule before, the log-likelihood moved by {changes[-1]:.1e}"
    after = LADDERS[effects][len(rungs)]
    return message("nodes-too-costly", nodes=rungs[-1], after=after, moved=moved)


def laplace_note(model, method: ML) -> list[Message]:
    """Say that "auto" came down to one node, where that is an approximation."""
    if method.nodes != "auto" or model.is_linear:
        return []
    reason = f"the model has {several(model)}"
    if quadrature_serves(model):
        reason = f"{len(model.design.y):,} rows are too many for more nodes unasked"
    return [message("laplace-only", reason=reason)]


def node_table(model, likelihood: Likelihood, tried: list[tuple[int, Maximum]]) -> pd.DataFrame:
    """One row a fit: nodes, log-likelihood, variance components under the DataTree's names."""
    names = [datatree_name(c) for c in components_of(model)]
    rows = []
    for nodes, maximum in tried:
        values = natural(likelihood, maximum.x)[0][likelihood.layout.p :]
        rows.append((nodes, maximum.loglik, *values))
    return pd.DataFrame(rows, columns=["nodes", "loglik", *names])


def loglik_kind(model, nodes: int) -> str:
    """How the log-likelihood was computed."""
    if model.is_linear:
        return "exact"
    return "Laplace" if nodes == 1 else f"adaptive quadrature, {nodes} nodes"


def assemble(model, likelihood: Likelihood, maximum: Maximum) -> dict:
    """Estimates, covariances and group effects as a Fit holds them."""
    p = likelihood.layout.p
    estimate, jacobian = natural(likelihood, maximum.x)
    covariance = maximum.covariance
    known = np.nan_to_num(covariance)
    std_error = np.sqrt(np.diag(jacobian @ known @ jacobian.T))[p:]
    held = np.isnan(np.diag(covariance))
    lost = held_components(jacobian, held)[p:]
    std_error[lost] = np.nan
    return {
        "beta": estimate[:p],
        "vcovs": {"model": covariance[:p, :p]},
        "variance": Variance(components_of(model), estimate[p:], std_error),
        "effects": effects(model, likelihood, maximum),
        "joint_cov": joint_covariance(model, likelihood, maximum),
    }


def natural(likelihood: Likelihood, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(beta, SDs and correlations, dispersion)`` and their derivatives by ``x``."""
    layout = likelihood.layout
    beta, thetas, dispersion = layout.split(x)
    estimates, blocks = [beta], [np.eye(len(beta))]
    for factor, theta in zip(likelihood.factors, thetas, strict=True):
        estimates.append(factor.covariance.components(theta))
        blocks.append(factor.covariance.jacobian(theta))
    if layout.has_dispersion:
        estimates.append(np.array([dispersion]))
        blocks.append(np.array([[dispersion]]))
    return np.concatenate(estimates), np.asarray(block_diag(*blocks))


def held_components(jacobian: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Which natural parameters have no standard error: zero SDs and what depends on them."""
    undefined = np.isnan(jacobian).any(axis=1)
    return undefined | (np.nan_to_num(jacobian)[:, held] != 0).any(axis=1)


def joint_covariance(model, likelihood: Likelihood, maximum: Maximum) -> np.ndarray:
    """Covariance of ``(beta, log SDs and atanh correlations, log dispersion)``."""
    estimate, jacobian = natural(likelihood, maximum.x)
    p = likelihood.layout.p
    scale = np.ones(len(estimate))
    with np.errstate(divide="ignore"):
        for i, c in enumerate(components_of(model), start=p):
            scale[i] = 1 / (1 - estimate[i] ** 2) if c.kind == "corr" else 1 / estimate[i]
    held = held_components(jacobian, np.isnan(np.diag(maximum.covariance))) | ~np.isfinite(scale)
    jacobian = np.nan_to_num(jacobian) * np.where(held, 0.0, scale)[:, None]
    joint = jacobian @ np.nan_to_num(maximum.covariance) @ jacobian.T
    joint[held] = np.nan
    joint[:, held] = np.nan
    return joint


def effects(model, likelihood: Likelihood, maximum: Maximum) -> dict[str, GroupEffects]:
    """Conditional modes and their SDs at the estimates."""
    found = likelihood.conditional(maximum.x)
    return {
        g.group: GroupEffects(*pair) for g, pair in zip(model.design.groups, found, strict=True)
    }


def record(model, likelihood: Likelihood, maximum: Maximum) -> dict:
    """Collect what only ML has: parameters inside, posterior means, the optimiser's record.

    ``posterior_means`` maps a group to ``estimate`` and ``sd``, ``(levels, q)`` each.
    """
    o = maximum.optimum
    means = likelihood.marginal.posterior_means(likelihood.inner(maximum.x))
    out = {
        "theta": maximum.x[likelihood.layout.p :],
        "covariance": maximum.covariance,
        "optimiser": {
            "name": o.optimiser,
            "evaluations": likelihood.marginal.evaluations,
            "decrement": o.decrement,
            "reason": o.reason,
            "path": np.array(o.path),
        },
    }
    if means is not None:
        out["posterior_means"] = {
            g.group: {"estimate": mean, "sd": sd}
            for g, (mean, sd) in zip(model.design.groups, means, strict=True)
        }
    return out
