"""bayes_glmm, with and without formula and data handling."""

import bayes_glmm as bg

from .answer import Answer, named
from .cases import Case
from .contender import InProcess
from .frames import frame

NAME = "bayes_glmm"


def contenders(case: Case) -> list[InProcess]:
    """Give our two contenders: from formula and data, and from a model kept between fits."""
    problem, data = case.problem, frame(case.problem.data)

    def model():
        return bg.GLMM(problem.formula, data, family=problem.family, residual=problem.residual)

    kept = model()
    return [
        InProcess(NAME, lambda: finished(model().fit(case.method)), read),
        InProcess(
            f"{NAME}, model kept", lambda: finished(kept.fit(case.method)), read, formula=False
        ),
    ]


def finished(fit: bg.Fit) -> bg.Fit:
    """Ask for what the peers are asked for, in case a fit leaves it for later."""
    fit.se()
    return fit


def read(fit: bg.Fit) -> Answer:
    """Read our answer."""
    components = fit.varcorr()
    components = components[(components["term"] == "Intercept") & components["sd"].notna()]
    return Answer(
        beta=named(fit.terms, fit.fixef()),
        se=named(fit.terms, fit.se()),
        sd=dict(zip(components["group"], components["sd"].astype(float), strict=True)),
        loglik=fit.loglik,
        notes=tuple(m.code for m in fit.messages),
    )
