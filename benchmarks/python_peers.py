"""Peers written for Python: glmm (a Rust engine) and statsmodels."""

import warnings
from functools import partial
from importlib.util import find_spec

import bayes_glmm as bg

from .answer import Answer, named
from .cases import Case
from .contender import InProcess, Missing
from .frames import frame

MAX_NODES = 25  # of the package glmm


def contenders(case: Case) -> list[InProcess | Missing]:
    """Give the Python peers that serve a case."""
    found = []
    if isinstance(case.method, bg.GLM | bg.ML):
        found.append(_if_installed("glmm", rust, case))
    marginal = case.method == bg.GEE(case.method.corr) if isinstance(case.method, bg.GEE) else False
    exchangeable = marginal and case.method.corr == "exchangeable" and not case.problem.grouped
    if isinstance(case.method, bg.GLM) or exchangeable:
        found.append(_if_installed("statsmodels", statsmodels, case))
    return found


def _if_installed(package: str, build, case: Case) -> InProcess | Missing:
    if find_spec(package) is None:
        return Missing(package, f"pip install {package}")
    return InProcess(package, *build(case))


def rust(case: Case):
    """``glmm.fit``; its Wald tests cannot be turned off, its likelihood-ratio refits are."""
    import glmm

    problem = case.problem
    formula = problem.formula if isinstance(case.method, bg.ML) else problem.marginal
    nodes = getattr(case.method, "nodes", 1)
    family = "binomial" if problem.family == "bernoulli" else problem.family
    fit = partial(glmm.fit, frame(problem.data), formula, family, nagq=nodes, anova_test="Wald")
    return fit, read_rust


def read_rust(fit) -> Answer:
    """Read a fit of the package glmm."""
    groups = [name for name, _ in fit.re_groups] if fit.re_groups else []
    return Answer(
        beta=named(fit.names, fit.beta),
        se=named(fit.names, fit.se),
        sd={g: float(fit.stddev_corr(i)[0][0]) for i, g in enumerate(groups)},
        loglik=fit.loglik,
        notes=tuple(str(w) for w in fit.warnings),
    )


def statsmodels(case: Case):
    """``statsmodels`` GLM, or GEE with an exchangeable working correlation."""
    import statsmodels.api as sm

    problem, data = case.problem, frame(case.problem.data)
    family = {"poisson": sm.families.Poisson}.get(problem.family, sm.families.Binomial)
    if isinstance(case.method, bg.GLM):
        formula = problem.marginal.replace("cbind(incidence, healthy)", "incidence + healthy")
        return lambda: sm.GLM.from_formula(formula, data, family=family()).fit(), read_statsmodels

    def fit():
        exchangeable = sm.cov_struct.Exchangeable()
        (group,) = problem.groups
        return sm.GEE.from_formula(
            problem.marginal, group, data, family=family(), cov_struct=exchangeable
        ).fit()

    return fit, read_statsmodels


def read_statsmodels(fit) -> Answer:
    """Read a statsmodels result; GEE has no likelihood."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loglik = getattr(fit, "llf", None) if not hasattr(fit, "cov_robust") else None
    return Answer(
        beta=named(fit.params.index, fit.params),
        se=named(fit.params.index, fit.bse),
        loglik=None if loglik is None else float(loglik),
    )
