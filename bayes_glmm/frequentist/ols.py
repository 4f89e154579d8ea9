"""OLS(): least squares, with the naive and the cluster-robust covariance side by side."""

from time import perf_counter

import numpy as np

from ..fit import Component, Fit, Seconds, Variance
from ..messages import message
from ..methods import OLS
from ..numerics.clusters import Clusters
from ..numerics.linear_mixed import LinearMixed
from .clustering import cluster_code
from .gee.covariance import covariance
from .gee.problem import Equations
from .lmm import refuse_not_linear
from .working_variance import joint_covariance

SANDWICHES = ("robust", "kauermann-carroll", "mancl-derouen")


def fit(model, method: OLS) -> Fit:
    """Fit by least squares.

    The residual SD has the divisor ``n - p``; the log-likelihood, as R's ``lm`` prints it, is at
    the maximum-likelihood one.

    Raises
    ------
    NotServedError
        If the model is not gaussian with identity link, or no clusters are named where the
        covariance needs them.
    """
    begin = perf_counter()
    refuse_not_linear(model, method)
    d = model.design
    problem = LinearMixed(d.y - d.offset, d.X, ())
    state = problem.at(np.zeros(0), np.zeros(0))
    variance = state.variance(reml=True)
    naive = variance * state.beta_covariance
    vcovs, df, clusters = {"naive": naive}, float(d.n - d.p), None
    if (code := clusters_of(model, method)) is not None:
        sandwiches, clusters = sandwiches_of(d, problem.left, code)
        kinds = {"naive": naive, **sandwiches}
        vcovs = {k: kinds[k] for k in sorted(kinds, key=lambda kind: kind != method.cov)}
        df = float(clusters - 1) if method.cov == "cluster" else df
    error = np.sqrt(variance / (2 * (d.n - d.p)))
    return Fit(
        model=model,
        method=method,
        beta=state.beta,
        vcovs=vcovs,
        variance=Variance((Component("dispersion"),), np.sqrt([variance]), np.array([error])),
        joint_cov=joint_covariance(next(iter(vcovs.values())), np.array([[0.5 / (d.n - d.p)]])),
        loglik=-0.5 * state.criterion(reml=False),
        loglik_kind="exact",
        npar=d.p + 1,
        estimand="population-averaged" if d.groups else "conditional",
        df=df,
        messages=tuple(left_out(model, method)),
        seconds=Seconds(run=perf_counter() - begin),
        details={"clusters": clusters},
    )


def clusters_of(model, method: OLS) -> np.ndarray | None:
    """Cluster of each row of the design; None where none is named and none is needed."""
    d, name = model.design, method.cluster
    if name is None and model.repeated is not None:
        return model.repeated.cluster
    if name is None and method.cov == "naive":
        return d.groups[0].index if len(d.groups) == 1 else None
    return cluster_code(d, "OLS", name)[1]


def sandwiches_of(design, left: np.ndarray, code: np.ndarray) -> tuple[dict, int]:
    """Give the cluster-robust covariances by kind, and the number of clusters.

    ``left`` are the residuals, shape ``(n,)``.
    """
    order = np.argsort(code, kind="stable")
    sorted_code = np.cumsum(np.diff(code[order], prepend=code[order[0]]) != 0)
    clusters = Clusters.from_labels(sorted_code)
    columns = np.ascontiguousarray(design.X[order].T)
    equations = Equations(left[order], columns, columns, clusters)
    found = {kind: covariance(equations, 1.0, kind) for kind in SANDWICHES}
    K, n, p = clusters.count, design.n, design.p
    return {"cluster": found["robust"] * K / (K - 1) * (n - 1) / (n - p), **found}, K


def left_out(model, method: OLS) -> list:
    """Say which random terms and which correlation are left out."""
    found, groups = [], model.design.groups
    if groups:
        terms = ", ".join(f"({' + '.join(g.columns)} | {g.group})" for g in groups)
        naive = "rows of one level are taken as independent, so its standard errors are wrong"
        robust = "the estimate weighs all rows alike, the standard errors allow for the clusters"
        consequence = naive if method.cov == "naive" else robust
        found.append(
            message(
                "random-terms-ignored", method=method.label, terms=terms, consequence=consequence
            )
        )
    if model.residual is not None:
        found.append(message("residual-ignored", method=method.label, residual=model.residual))
    return found
