"""Peers written for Python: glmm (a Rust engine) and statsmodels."""

import warnings
from functools import partial
from importlib.util import find_spec

import bayes_glmm as bg

from .answer import Answer, named
from .cases import Case
from .contender import InProcess, Missing
from .frames import frame


def contenders(case: Case) -> list[InProcess | Missing]:
    """Give the Python peers that serve a case."""
    found = []
    if isinstance(case.method, bg.GLM | bg.ML):
        found.append(_if_installed("glmm", rust, case))
    if isinstance(case.method, bg.GLM):
        found.append(_if_installed("statsmodels", statsmodels_glm, case))
    if case.method == bg.GEE("exchangeable") and not case.problem.grouped:
        found.append(_if_installed("statsmodels", statsmodels_gee, case))
    one = len(case.problem.groups) == 1 and case.problem.residual is None
    if isinstance(case.method, bg.REML) and one:
        found.append(_if_installed("statsmodels", statsmodels_mixed, case))
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


def statsmodels_family(problem):
    """Return statsmodels' family of a problem."""
    from statsmodels.api import families

    return families.Poisson() if problem.family == "poisson" else families.Binomial()


def statsmodels_glm(case: Case):
    """``GLM.from_formula``; binomial counts are written as a sum there."""
    from statsmodels.api import GLM

    problem, data = case.problem, frame(case.problem.data)
    formula = problem.marginal.replace("cbind(incidence, healthy)", "incidence + healthy")

    def fit():
        return GLM.from_formula(formula, data, family=statsmodels_family(problem)).fit()

    return fit, lambda fitted: read_statsmodels(fitted, float(fitted.llf))


def statsmodels_gee(case: Case):
    """``GEE.from_formula`` with an exchangeable working correlation."""
    from statsmodels.api import GEE, cov_struct

    problem, data = case.problem, frame(case.problem.data)
    (group,) = problem.groups

    def fit():
        family, correlation = statsmodels_family(problem), cov_struct.Exchangeable()
        return GEE.from_formula(
            problem.marginal, group, data, family=family, cov_struct=correlation
        ).fit()

    return fit, read_statsmodels


def statsmodels_mixed(case: Case):
    """``MixedLM.from_formula``, by REML."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    problem, data = case.problem, frame(case.problem.data)
    (group,) = problem.groups

    def fit():
        slopes = f"~ {problem.slopes}"
        model = MixedLM.from_formula(problem.marginal, data, re_formula=slopes, groups=group)
        with warnings.catch_warnings(record=True) as caught:
            return model.fit(), caught

    return fit, lambda found: read_mixed(*found, group)


def read_mixed(fit, caught, group: str) -> Answer:
    """Read statsmodels' linear mixed model; it warns of every optimiser that it tries."""
    terms = fit.fe_params.index
    return Answer(
        beta=named(terms, fit.fe_params),
        se=named(terms, fit.bse_fe),
        sd={group: float(fit.cov_re.iloc[0, 0]) ** 0.5},
        loglik=float(fit.llf),
        notes=tuple(dict.fromkeys(str(w.message) for w in caught))[-1:],
    )


def read_statsmodels(fit, loglik: float | None = None) -> Answer:
    """Read a statsmodels result; the standard errors of GEE are the robust ones."""
    terms = fit.params.index
    return Answer(beta=named(terms, fit.params), se=named(terms, fit.bse), loglik=loglik)
