"""Peers written for R, called as their users call them."""

import json
from dataclasses import dataclass
from pathlib import Path

import bayes_glmm as bg

from .cases import Case, Problem
from .contender import Missing, Run
from .frames import factors, frame, write_csv
from .r_session import HINT, RSession, have_r

# package -> the whole job; standard errors are asked for where the fit leaves them for later
GLM = {"stats": "{{ m <- glm({marginal}, {family}, d); vcov(m); m }}"}
LAPLACE = {
    "lme4": "{{ m <- lme4::glmer({formula}, d, {family}); vcov(m); m }}",
    "glmmTMB": "{{ m <- glmmTMB::glmmTMB({formula}, d, {family}); vcov(m); m }}",
}
QUADRATURE = {"lme4": "{{ m <- lme4::glmer({formula}, d, {family}, nAGQ = {nodes}); vcov(m); m }}"}
PQL = {
    "MASS": "MASS::glmmPQL({marginal}, ~ 1 | {group}, {family}, d, verbose = FALSE, niter = 50, "
    "control = nlme::lmeControl(sigma = 1))"
}
MOMENTS = {"gee": "gee::gee({marginal}, {group}, d, family = {family}, corstr = '{corr}')"}
EQUATION = {"geepack": "geepack::geeglm({marginal}, {family}, d, id = {group}, corstr = '{corr}')"}
LMER = {"lme4": "{{ m <- lme4::lmer({formula}, d); vcov(m); m }}"}
LME = {"nlme": "nlme::lme({marginal}, d, ~ {slopes} | {group}, {correlation})"}
GLS = {"nlme": "nlme::gls({marginal}, d, {correlation})"}


@dataclass(frozen=True)
class RContender:
    """An R package timed in the case's R process."""

    name: str
    expression: str
    session: RSession
    formula: bool = True

    def run(self) -> Run:
        """Time the job once."""
        return self.session.time(self.expression)


def calls(case: Case) -> dict[str, str]:
    """Return the R packages that do the job of a case, and how."""
    method = case.method
    if isinstance(method, bg.REML):
        return linear(case.problem)
    if isinstance(method, bg.GEE):
        return EQUATION if method.association == "equation" else MOMENTS
    if isinstance(method, bg.ML):
        return LAPLACE if method.nodes == 1 else QUADRATURE
    return {bg.GLM: GLM, bg.PQL: PQL}.get(type(method), {})


def linear(problem: Problem) -> dict[str, str]:
    """Return those for a linear mixed model; crossed factors are cumbersome in nlme."""
    if not problem.groups:
        return GLS
    if problem.residual is not None:
        return LME
    return LMER | (LME if len(problem.groups) == 1 else {})


def correlation(problem: Problem) -> str:
    """Return nlme's argument for the residual correlation."""
    if problem.residual is None:
        return ""
    nugget = str(problem.residual.nugget).upper()
    residual = problem.residual
    form = f"~ {residual.time} | {residual.by}"
    return f"correlation = nlme::corExp(form = {form}, nugget = {nugget})"


def expression(template: str, case: Case) -> str:
    """Fill a call in for a case."""
    problem, method = case.problem, case.method
    return template.format(
        formula=problem.formula,
        marginal=problem.marginal,
        group=problem.groups[0] if problem.groups else "",
        slopes=problem.slopes,
        correlation=correlation(problem),
        family={"bernoulli": "binomial"}.get(problem.family, problem.family),
        nodes=getattr(method, "nodes", 1),
        corr=getattr(method, "corr", ""),
    )


def load(session: RSession, data: str, folder: Path) -> None:
    """Read a data set into R as ``d``, with the factors and level orders it has here."""
    path = json.dumps(write_csv(data, folder).as_posix())
    levels = factors(frame(data))
    text = ", ".join(f"{column} = 'character'" for column in levels)
    classes = f"c({text})" if levels else "NA"
    session.ask("load", f"d <- read.csv({path}, colClasses = {classes})")
    for column, names in levels.items():
        listed = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
        session.ask("load", f"d${column} <- factor(d${column}, levels = c({listed}))")


class RPeers:
    """The R peers of a case, in one R process that lives until ``close``."""

    def __init__(self, case: Case, folder: Path):
        self.session = None
        wanted = calls(case)
        if not have_r():
            self.contenders = [Missing(f"R {package}", HINT) for package in wanted]
            return
        self.session = RSession()
        try:
            load(self.session, case.problem.data, folder)
            self.contenders = [self._peer(p, template, case) for p, template in wanted.items()]
        except Exception:
            self.close()
            raise

    def _peer(self, package: str, template: str, case: Case) -> RContender | Missing:
        if self.session.package_version(package) is None:
            hint = f"apt install r-cran-{package.lower()}, or in R install.packages('{package}')"
            return Missing(f"R {package}", hint)
        return RContender(f"R {package}", expression(template, case), self.session)

    def close(self) -> None:
        """End the R process."""
        if self.session is not None:
            self.session.close()
