"""What is timed: a case is one data set, one model, one method."""

from dataclasses import dataclass, replace

import bayes_glmm as bg
from bayes_glmm.residual import Exponential

from .frames import COMPLETE, CROSSED, NESTED, RATINGS, SIMULATED


@dataclass(frozen=True)
class Problem:
    """A data set with a model: ``slopes`` vary between the levels of each of ``groups``.

    ``residual`` correlates rows exponentially in time, with or without nugget.
    """

    data: str
    response: str
    fixed: str
    groups: tuple[str, ...]
    family: str
    slopes: str = "1"
    residual: Exponential | None = None

    @property
    def name(self) -> str:
        """Name it for ``--only`` and the tables."""
        if self.residual is None:
            return self.data
        nugget = " and nugget" if self.residual.nugget else ""
        alone = "" if self.groups else ", no random effects"
        return f"{self.data}, residuals correlated exponentially{nugget}{alone}"

    @property
    def formula(self) -> str:
        """Return the model in lme4's syntax."""
        return " + ".join([self.marginal, *(f"({self.slopes} | {g})" for g in self.groups)])

    @property
    def marginal(self) -> str:
        """Return the formula without random effects."""
        return f"{self.response} ~ {self.fixed}"

    @property
    def grouped(self) -> bool:
        """Whether a row counts successes among several trials."""
        return self.response.startswith("cbind")


@dataclass(frozen=True)
class Case:
    """One problem and one method of ours; the peers follow from both."""

    problem: Problem
    method: bg.Method

    @property
    def name(self) -> str:
        """Name it for ``--only`` and the tables."""
        return f"{self.problem.name}: {self.method.label}"


CBPP = Problem("cbpp", "cbind(incidence, healthy)", "period", ("herd",), "binomial")
BACTERIA = Problem("bacteria", "y01", "trt + week_gt2", ("id",), "bernoulli")
TOENAIL = Problem("toenail", "y01", "treatment * time", ("patient_id",), "bernoulli")
EPIL = Problem("epil", "y", "log_base4 * trt + log_age + v4", ("subject",), "poisson")
OHIO = Problem("ohio", "resp", "age * smoke", ("id",), "bernoulli")
GROUSE = Problem(
    "grouseticks", "ticks", "year + height_scaled", ("index", "brood", "location"), "poisson"
)
SLEEP = Problem("sleepstudy", "reaction", "days", ("subject",), "gaussian", slopes="days")
PENICILLIN = Problem("penicillin", "diameter", "1", ("plate", "sample"), "gaussian")
DIETOX = Problem("dietox", "weight", "cu * time", ("pig",), "gaussian", slopes="time")
MILK = Problem("milk", "protein", "diet + time + time2", ("cow",), "gaussian")
DECAY = replace(MILK, residual=Exponential("time", by="cow"))
NUGGET = replace(MILK, residual=Exponential("time", by="cow", nugget=True))
NUGGET_ALONE = replace(NUGGET, groups=())  # generalized least squares, no random effects

LAPLACE = bg.ML(nodes=1)
PQL = bg.PQL(likelihood="ml")  # the form that MASS::glmmPQL has
MOMENTS = bg.GEE("exchangeable")
PAIRS = bg.GEE("exchangeable", association="equation", scale="n")  # geepack's form


def simulated(groups: int) -> Problem:
    """Return the simulated problem with that many groups."""
    return Problem(f"{SIMULATED}-{groups}", "y", "x + z", ("g",), "bernoulli")


def crossed(rows: int) -> Problem:
    """Return the problem of two crossed factors with that many rows."""
    return Problem(f"{CROSSED}-{rows}", "y", "x", ("g", "h"), "bernoulli")


def complete(levels: int) -> Problem:
    """Return the problem of so many levels, each crossed once with each of 24 others."""
    return Problem(f"{COMPLETE}-{levels}", "y", "x", ("g", "h"), "bernoulli")


def nested(rows: int) -> Problem:
    """Return the problem of three nested factors with that many rows."""
    return Problem(f"{NESTED}-{rows}", "y", "x", ("g", "h", "k"), "bernoulli")


def ratings(rows: int) -> Problem:
    """Return the linear problem of raters crossed with those they rate, that many rows."""
    return Problem(f"{RATINGS}-{rows}", "y", "service", ("rater", "rated"), "gaussian")


def cases(quick: bool) -> list[Case]:
    """List what is timed with maximum likelihood, quasi-likelihood and estimating equations."""
    return quick_cases() if quick else all_cases()


def all_cases() -> list[Case]:
    """List the cases of a full run."""
    large = simulated(20_000)
    small = (CBPP, BACTERIA, TOENAIL, EPIL, OHIO)
    return [
        Case(CBPP, bg.GLM()),
        Case(large, bg.GLM()),
        *[
            Case(problem, LAPLACE)
            for problem in (*small, GROUSE, large, crossed(10_000), nested(10_000))
        ],
        *[Case(problem, bg.ML(nodes=25)) for problem in (CBPP, BACTERIA, EPIL, OHIO)],
        Case(TOENAIL, bg.ML(nodes=21)),
        Case(large, bg.ML(nodes=9)),
        *[Case(problem, PQL) for problem in small],
        *[Case(problem, MOMENTS) for problem in (*small, large, simulated(100_000))],
        *[Case(problem, PAIRS) for problem in (OHIO, large, simulated(100_000))],
        Case(OHIO, bg.GEE("ar1", association="equation", scale="n")),
        *[
            Case(problem, bg.REML())
            for problem in (SLEEP, PENICILLIN, DIETOX, MILK, DECAY, NUGGET, NUGGET_ALONE)
        ],
        Case(ratings(70_000), bg.REML()),
    ]


def quick_cases() -> list[Case]:
    """List the cases of a quick run: each method once or twice, the simulated data smaller."""
    large = simulated(2_000)
    return [
        Case(CBPP, bg.GLM()),
        *[Case(problem, LAPLACE) for problem in (CBPP, TOENAIL, GROUSE, crossed(10_000))],
        Case(TOENAIL, bg.ML(nodes=21)),
        Case(large, bg.ML(nodes=9)),
        Case(EPIL, PQL),
        *[Case(problem, MOMENTS) for problem in (OHIO, large)],
        Case(OHIO, PAIRS),
        *[Case(problem, bg.REML()) for problem in (SLEEP, NUGGET, ratings(7_000))],
    ]


def posteriors(quick: bool) -> list[Problem]:
    """List the problems whose posterior is sampled."""
    return [CBPP] if quick else [CBPP, BACTERIA, TOENAIL, OHIO, GROUSE, complete(316)]
