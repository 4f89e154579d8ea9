r"""Conditional logistic regression: effects within clusters, free of the clusters' distribution.

Given the number of successes :math:`s_i` of cluster ``i``, its intercept drops out of the
likelihood of its binary responses (Andersen 1970; Breslow & Day 1980, section 7.1):

.. math:: L(\beta) = \prod_i \frac{\exp(\sum_j y_{ij}\,x_{ij}'\beta)}
   {\sum_{d \in \{0,1\}^{n_i},\; \sum_j d_j = s_i} \exp(\sum_j d_j\,x_{ij}'\beta)} .

The effects are conditional ones, as a mixed model's, but need no normal distribution of
the intercepts nor their independence of the columns: where the two differ by more than
chance, that assumption of the mixed model is in doubt (Neuhaus & McCulloch 2006). Computed by
statsmodels. Rows of counts are taken apart into their trials.
"""

import warnings
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from ..design import Design, GroupBlock
from ..fit import Fit, Seconds
from ..messages import Message, message
from ..methods import ConditionalLogit, NotServedError
from .clustering import cluster_code, is_nested

LIMIT = 100  # Newton steps
LARGEST = 500  # trials of a cluster: the sum is a recursion over them
SEPARATED = 30.0  # linear predictor within a cluster that only separation reaches
WITHIN = 1e-9  # spread within clusters, relative to the column's size, that is none


@dataclass(frozen=True, eq=False)
class Trials:
    """Single trials of the clusters that inform, and what was left out.

    Attributes
    ----------
    y, X, offset, cluster
        Shape ``(n,)``, ``(n, k)``, ``(n,)`` and ``(n,)`` of the trials kept.
    estimated
        Which of the model's columns vary within clusters, shape ``(p,)`` of bool.
    clusters, dropped
        All clusters, and those left out.
    all_rows
        Trials before any was left out.
    """

    y: np.ndarray
    X: np.ndarray
    offset: np.ndarray
    cluster: np.ndarray
    estimated: np.ndarray
    clusters: int
    dropped: int
    all_rows: int


def fit(model, method: ConditionalLogit) -> Fit:
    """Maximise the conditional likelihood of a model's binary data.

    Parameters
    ----------
    model
        A GLMM; its random terms say only what the clusters are.
    method
        Options; see ``ConditionalLogit``.

    Raises
    ------
    NotServedError
        If the data are not binary with link logit, no clusters are named, nothing varies within
        clusters, columns cannot be told apart within them, or a cluster is too large.
    """
    begin = perf_counter()
    refuse_other(model)
    name, code = clusters_of(model.design, method)
    trials = informative(model.design, code, name)
    refuse_unserved(model.design, trials, name)
    beta, covariance, loglik, converged = maximise(trials)
    p, at = model.design.p, np.flatnonzero(trials.estimated)
    whole, vcov = np.full(p, np.nan), np.full((p, p), np.nan)
    whole[at], vcov[np.ix_(at, at)] = beta, covariance
    return Fit(
        model=model,
        method=method,
        beta=whole,
        vcovs={"model": vcov},
        joint_cov=vcov,
        loglik=loglik,
        loglik_kind="conditional",
        npar=len(at),
        converged=converged,
        messages=notes(model, method, trials, name, converged),
        seconds=Seconds(run=perf_counter() - begin),
        details={
            "cluster": name,
            "clusters": trials.clusters,
            "dropped": trials.dropped,
            "trials": trials.all_rows,
            "trials_used": len(trials.y),
        },
    )


def refuse_other(model) -> None:
    """Refuse what has no conditional likelihood free of the intercepts.

    Raises
    ------
    NotServedError
        Naming family and link.
    """
    if model.family.name not in ("bernoulli", "binomial") or model.link.name != "logit":
        raise NotServedError(
            f"ConditionalLogit() got family={model.family.name!r} with link {model.link.name!r} "
            "and is for binary data with link 'logit', where the clusters' intercepts drop out: "
            "use ML() or NUTS()."
        )


def clusters_of(design: Design, method: ConditionalLogit) -> tuple[str, np.ndarray]:
    """Give the name of the clusters and the cluster of each row of the design, shape ``(n,)``."""
    if method.cluster is not None:
        return cluster_code(design, "ConditionalLogit", method.cluster)
    inner = innermost(design)
    return inner.group, inner.index


def innermost(design: Design) -> GroupBlock:
    """Give the grouping factor that is nested in all others: all intercepts drop out with its.

    Raises
    ------
    NotServedError
        If there is none.
    """
    if not design.groups:
        raise NotServedError(
            "ConditionalLogit() got a formula without a grouping factor: add (1 | g), or name the "
            "clusters by ConditionalLogit(cluster='column')."
        )
    inner = design.groups[design.largest]
    for g in design.groups:
        if not is_nested(inner.index, g.index):
            raise NotServedError(
                f"ConditionalLogit() needs one factor that is nested in all others, but "
                f"{inner.group!r} and {g.group!r} are crossed: choose one by "
                "ConditionalLogit(cluster=…), whose intercepts drop out and the other's do not, "
                "or use ML() or NUTS()."
            )
    return inner


def informative(design: Design, code: np.ndarray, name: str) -> Trials:
    """Take rows apart into trials and leave out what says nothing about effects within clusters.

    Clusters with responses of one kind drop out first, then the columns that are constant
    within all clusters left.
    """
    successes, totals = np.bincount(code, design.y), np.bincount(code, design.trials)
    mixed = (successes > 0) & (successes < totals)
    rows = np.flatnonzero(mixed[code])
    X = design.X[rows]
    spread = np.abs(X - _means(X, code[rows])[code[rows]]) if len(rows) else np.zeros((1, design.p))
    estimated = spread.max(axis=0) > WITHIN * (1 + np.abs(design.X).max(axis=0))
    hits = design.y[rows].astype(int)
    misses = design.trials[rows].astype(int) - hits
    each = np.concatenate([np.repeat(rows, hits), np.repeat(rows, misses)])
    y = np.repeat([1.0, 0.0], [hits.sum(), misses.sum()])
    return Trials(
        y,
        design.X[each][:, estimated],
        design.offset[each],
        code[each],
        estimated,
        len(mixed),
        int(np.sum(~mixed)),
        int(design.trials.sum()),
    )


def _means(X: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Mean of every column by cluster, shape ``(clusters, p)``."""
    count = np.maximum(np.bincount(code), 1)
    return np.array([np.bincount(code, column) / count for column in X.T]).T


def refuse_unserved(design: Design, trials: Trials, name: str) -> None:
    """Refuse data that say nothing within clusters, or too large ones.

    Raises
    ------
    NotServedError
        Saying what is missing.
    """
    if not trials.estimated.any() or len(trials.y) == 0:
        raise NotServedError(
            f"ConditionalLogit() got no column that varies within those levels of {name!r} whose "
            "responses differ, so that nothing is left to estimate: use ML() or NUTS()."
        )
    largest = int(np.bincount(trials.cluster).max())
    if largest > LARGEST:
        raise NotServedError(
            f"ConditionalLogit() got {largest} trials in one level of {name!r} and serves up to "
            f"{LARGEST}: with so many, ML() or GLM() with the levels as a fixed factor estimates "
            "the same effects."
        )
    within = trials.X - _means(trials.X, trials.cluster)[trials.cluster]
    scaled = within / np.sqrt(np.mean(within**2, axis=0))
    if np.linalg.matrix_rank(scaled, tol=1e-8 * np.sqrt(len(scaled))) < scaled.shape[1]:
        terms = ", ".join(np.asarray(design.terms)[trials.estimated])
        raise NotServedError(
            f"ConditionalLogit() cannot tell the effects of {terms} apart: within levels of "
            f"{name!r} some are sums of others; drop one of them."
        )


def maximise(trials: Trials) -> tuple[np.ndarray, np.ndarray, float, bool]:
    """Estimates, their covariance (inverse observed information), log-likelihood, converged."""
    from statsmodels.discrete.conditional_models import ConditionalLogit as Engine

    columns = trials.X.std(axis=0)  # of size one for Newton's steps
    k = len(columns)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what they say stands in our messages
        offset: dict[str, Any] = {"offset": trials.offset} if np.any(trials.offset) else {}
        engine = Engine(trials.y, trials.X / columns, groups=trials.cluster, **offset)
        try:
            found = engine.fit(method="newton", maxiter=LIMIT, disp=False, skip_hessian=True)
            beta = np.asarray(found.params)
            information = -symmetric(engine.hessian(beta))
            covariance, loglik = np.linalg.inv(information), float(engine.loglike(beta))
        except (np.linalg.LinAlgError, ValueError, ZeroDivisionError):
            return np.full(k, np.nan), np.full((k, k), np.nan), np.nan, False
        score = np.asarray(engine.score(beta))
    within = (trials.X / columns) @ beta
    far = within - _means(within[:, None], trials.cluster)[trials.cluster, 0]
    proper = bool(np.all(np.diag(covariance) > 0)) and np.abs(far).max() < SEPARATED
    settled = float(score @ covariance @ score) < 1e-8  # squared, in standard errors
    beta, covariance = beta / columns, covariance / np.outer(columns, columns)
    return beta, covariance, loglik, proper and settled


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """Give the symmetric part: differences of the score leave an error of 1e-8."""
    return 0.5 * (matrix + matrix.T)


def notes(model, method, trials: Trials, name: str, converged: bool) -> tuple[Message, ...]:
    """Say what is not estimated, which clusters drop out, and how the search ended."""
    found = []
    absent = [t for t, kept in zip(model.design.terms, trials.estimated, strict=True) if not kept]
    if absent:
        terms = ", ".join(absent)
        found.append(message("not-estimated", method=method.label, terms=terms, group=name))
    if trials.dropped:
        found.append(
            message(
                "clusters-without-variation",
                dropped=trials.dropped,
                total=trials.clusters,
                group=name,
                rows=trials.all_rows - len(trials.y),
                all_rows=trials.all_rows,
            )
        )
    slopes = [f"({', '.join(g.columns)} | {g.group})" for g in model.design.groups if g.q > 1]
    if slopes:
        consequence = "only the levels' intercepts drop out, effects that vary between levels stay"
        facts = {"method": method.label, "terms": ", ".join(slopes), "consequence": consequence}
        found.append(message("random-terms-ignored", **facts))
    if not converged:
        reason = "Newton's steps did not settle, or the responses are separated within levels"
        found.append(message("not-converged", reason=reason))
    return tuple(found)
