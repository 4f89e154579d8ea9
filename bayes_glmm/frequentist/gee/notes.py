"""What a reader of estimating equations has to know."""

from collections.abc import Iterable

import numpy as np

from ...fit import Variance
from ...messages import Message, message
from ...methods import GEE
from ..notes import on_the_boundary
from .covariance import FEW_CLUSTERS, Covariances, degrees_of_freedom
from .problem import Problem
from .random_effects import RandomEffects
from .solve import LIMIT, Solution

SHOWN = 6  # parameters of the working correlation in a message


def notes(
    model,
    method: GEE,
    problem: Problem,
    solution: Solution,
    vcovs: Covariances,
    variance: Variance | None,
) -> tuple[Message, ...]:
    """Collect the messages of a solution."""
    return tuple(
        found
        for found in (
            *ignored_terms(model, problem),
            *of_order(method, problem),
            *of_association(problem, solution),
            *of_convergence(solution),
            *(on_the_boundary(model, variance) if variance is not None else ()),
            *of_clusters(method, problem, solution, vcovs),
        )
    )


def ignored_terms(model, problem: Problem) -> Iterable[Message]:
    """Say that the random terms only name the clusters."""
    if isinstance(problem.association, RandomEffects):
        return
    terms = [f"({', '.join(g.columns)} | {g.group})" for g in model.design.groups]
    if len(terms) > 1 or any(g.q > 1 for g in model.design.groups):
        yield message(
            "random-terms-ignored",
            method="GEE",
            terms=", ".join(terms),
            consequence=f"the formula's grouping only names the clusters, {problem.cluster}",
        )


def of_order(method: GEE, problem: Problem) -> Iterable[Message]:
    """Say that rows are taken in their order where it matters and no time says what it is."""
    if method.orders_rows and method.time is None:
        yield message("order-of-rows", corr=f"corr={problem.association.name!r}")


def of_association(problem: Problem, solution: Solution) -> Iterable[Message]:
    """Say that no such correlation exists."""
    least = problem.association.least_eigenvalue(solution)
    if least > 0:
        return
    alpha = ", ".join(f"{a:.3f}" for a in solution.alpha[:SHOWN])
    more = ", …" if len(solution.alpha) > SHOWN else ""
    yield message(
        "working-correlation-not-positive-definite",
        alpha=f"{alpha}{more}",
        least=least,
        corr=problem.association.name,
    )


def of_convergence(solution: Solution) -> Iterable[Message]:
    """Say where the iterations failed."""
    if not solution.converged:
        reason = (
            f"{solution.iterations} iterations did not settle the coefficients"
            if solution.iterations == LIMIT
            else f"the estimating equations became singular in iteration {solution.iterations}"
        )
        yield message("not-converged", reason=reason)


def of_clusters(
    method: GEE, problem: Problem, solution: Solution, vcovs: Covariances
) -> Iterable[Message]:
    """Say that clusters are few, long, or decide a coefficient alone."""
    clusters, p = problem.clusters, problem.rows.p
    kind = next(iter(vcovs))
    if p < clusters.count < FEW_CLUSTERS:
        df = degrees_of_freedom(method, problem)
        yield message(
            "few-clusters",
            clusters=clusters.count,
            kind=kind,
            reference="the normal distribution" if df is None else f"t with {df:g} df",
        )
    if clusters.count <= p:
        yield message("clusters-fewer-than-coefficients", clusters=clusters.count, p=p)
    elif (
        solution.converged
        and kind != "naive"
        and not np.isfinite(vcovs[kind]).all()
        and np.isfinite(vcovs["robust"]).all()
    ):
        yield message("cluster-decides-a-coefficient", kind=kind)
    size = len(clusters.of_row) / clusters.count
    if size > clusters.count:
        yield message("long-clusters", clusters=clusters.count, size=size)
