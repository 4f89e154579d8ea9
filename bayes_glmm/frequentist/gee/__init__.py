r"""Generalized estimating equations: population-averaged coefficients of clustered data.

With marginal mean :math:`\mu`, variance :math:`\phi A` and working correlation
:math:`R(\alpha)`, beta solves (Liang & Zeger 1986)

.. math:: \sum_i D_i' V_i^{-1} (y_i - \mu_i) = 0, \qquad
   V_i = \phi A_i^{1/2} R(\alpha) A_i^{1/2}, \quad D_i = \partial\mu_i/\partial\beta'.

``solve`` alternates steps for beta with estimates of alpha; what alpha is, and what it makes of
the covariance of a cluster, is said by an *association*: correlations of the residuals
(``correlation``), odds ratios of pairs of binary responses (``odds_ratio``), or the random effects
of the mixed model, whose conditional coefficients are then estimated (``random_effects``).
``covariance`` has the standard errors, ``criteria`` QIC, ``hypotheses`` the Wald and score tests.
"""

from time import perf_counter

import numpy as np

from ...fit import Fit, Seconds
from ...methods import GEE
from .covariance import Covariances, degrees_of_freedom
from .notes import notes
from .pose import pose
from .random_effects import RandomEffects
from .solve import solve


def fit(model, method: GEE) -> Fit:
    """Solve the estimating equations of a model.

    Parameters
    ----------
    model
        A GLMM; its random terms say only what the clusters are.
    method
        Options; see ``GEE``.

    Raises
    ------
    NotServedError
        If no independent clusters are named, they hold too few pairs of rows, or the family's
        dispersion is more than a factor of the variance.
    DataError
        If the cluster or time column cannot serve.
    """
    begin = perf_counter()
    problem = pose(model, method)
    association = problem.association
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        solution = solve(problem)
        vcovs = Covariances(model, method, solution, problem)
        details = association.details(solution)
        parts = {"joint_cov": vcovs[next(iter(vcovs))], "estimand": "population-averaged"}
        if isinstance(association, RandomEffects):
            parts = association.conditional_parts(model, solution)
    return Fit(
        model=model,
        method=method,
        beta=solution.beta,
        vcovs=vcovs,
        **parts,
        df=degrees_of_freedom(method, problem),
        converged=solution.converged,
        messages=notes(model, method, problem, solution, vcovs, parts.get("variance")),
        seconds=Seconds(run=perf_counter() - begin),
        details={
            "cluster": problem.cluster,
            "corr": association.name,
            "alpha": solution.alpha,
            **details,
            "scale": solution.scale,
            "clusters": problem.clusters.count,
            "max_size": problem.clusters.largest,
            "iterations": solution.iterations,
        },
    )
