"""Penalised and marginal quasi-likelihood."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Method, check_at_least, check_choice


@dataclass(frozen=True)
class PQL(Method):
    """Penalised quasi-likelihood (Breslow & Clayton 1993): REML working model, dispersion 1.

    It is biased where levels carry little information and effects are large; coefficients and
    standard deviations are then too near zero. A warning says by how much, from simulations with
    the dispersion held at 1.

    Parameters
    ----------
    likelihood
        Of the working linear mixed model: "reml" (Breslow & Clayton) or "ml".
    dispersion
        Of binomial and Poisson responses: "fixed" at 1, or "estimated" as a factor of the
        variance, which with ``likelihood="ml"`` is ``MASS::glmmPQL`` and with "reml" the
        pseudo-likelihood of Wolfinger & O'Connell (1993). ``fit.details["scale"]`` has it; there
        is no distribution of such responses, so that ``simulate`` refuses. By "ml" standard
        errors are those of maximum likelihood, without the factor ``sqrt(n / (n - p))`` by which
        ``summary`` of ``glmmPQL`` enlarges them.
    bias_correct
        "bootstrap": Kuk's (1995) correction, the parameters at which simulated responses have
        the estimates that the data have. For ``dispersion="fixed"`` and families without a
        dispersion.
    simulations
        Data sets simulated in each iteration of the correction.
    seed
        Of their random stream.
    """

    engine: ClassVar = "bayes_glmm.frequentist.pql:fit"
    name: ClassVar = "pql"
    likelihood: Literal["reml", "ml"] = "reml"
    dispersion: Literal["fixed", "estimated"] = "fixed"
    bias_correct: Literal["bootstrap"] | None = None
    simulations: int = 200
    seed: int = 1

    def __post_init__(self) -> None:
        check_choice("PQL", "likelihood", self.likelihood, ("reml", "ml"))
        check_choice("PQL", "dispersion", self.dispersion, ("fixed", "estimated"))
        check_choice("PQL", "bias_correct", self.bias_correct, (None, "bootstrap"))
        check_at_least("PQL", "simulations", self.simulations, 20)
        check_at_least("PQL", "seed", self.seed, 0)
        if self.bias_correct and self.dispersion == "estimated":
            raise ValueError(
                "PQL(dispersion='estimated', bias_correct='bootstrap') do not go together: there "
                "is no distribution to simulate from; use dispersion='fixed'."
            )

    def serves_relatives(self, linear: bool) -> bool:
        """Unless corrected: the equations of the working model have them."""
        return self.bias_correct is None

    @property
    def label(self) -> str:
        """``PQL``, with the options that are not the defaults."""
        corrected = "bootstrap-corrected" if self.bias_correct else ""
        return ", ".join(filter(None, [_working_label("PQL", self), corrected]))


@dataclass(frozen=True)
class MQL(Method):
    r"""Marginal quasi-likelihood: the working model expands at the fixed part, not at the levels.

    Its equations are those of ``E(y) = h(X beta)`` with the working covariance
    ``phi / w + Z D Z'``, and its coefficients population-averaged; the standard deviations are
    those of the working model. Read as conditional ones, as programs for multilevel models do
    (MQL of first order), both are too near zero for binary responses; with a log link the
    standard deviation :math:`\sigma` is nearly :math:`(e^{\sigma^2} - 1)^{1/2}` instead. So
    ``icc`` and ``median_ratio`` refuse, and there are no predictions of levels.

    Parameters
    ----------
    likelihood
        Of the working linear mixed model: "reml" or "ml".
    dispersion
        "fixed" at 1, or "estimated"; see ``PQL``.
    """

    engine: ClassVar = "bayes_glmm.frequentist.pql:fit"
    name: ClassVar = "mql"
    likelihood: Literal["reml", "ml"] = "reml"
    dispersion: Literal["fixed", "estimated"] = "fixed"

    def __post_init__(self) -> None:
        check_choice("MQL", "likelihood", self.likelihood, ("reml", "ml"))
        check_choice("MQL", "dispersion", self.dispersion, ("fixed", "estimated"))

    def serves_relatives(self, linear: bool) -> bool:
        """Say yes: the equations of the working model have them."""
        return True

    @property
    def label(self) -> str:
        """``MQL``, with the options that are not the defaults."""
        return _working_label("MQL", self)


def _working_label(name: str, method: PQL | MQL) -> str:
    working = "" if method.likelihood == "reml" else "ML working model"
    dispersion = "" if method.dispersion == "fixed" else "dispersion estimated"
    return ", ".join(filter(None, [name, working, dispersion]))
