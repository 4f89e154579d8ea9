"""Methods that draw from the posterior."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Method, check_at_least, check_choice


@dataclass(frozen=True)
class NUTS(Method):
    """Markov chain Monte Carlo on the PyMC graph by the no-U-turn sampler.

    Parameters
    ----------
    draws, tune
        Draws kept and discarded per chain.
    chains
        Independent chains; at least two, so that R-hat exists.
    target_accept
        Mean acceptance the step size is tuned to; nearer 1 is slower and safer.
    seed
        Of the method's own random stream.
    """

    engine: ClassVar = "bayes_glmm.bayesian.nuts:fit"
    name: ClassVar = "nuts"
    serves_residual: ClassVar = True
    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    target_accept: float = 0.9
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("draws", 4), ("tune", 10), ("chains", 2), ("seed", 0)):
            check_at_least("NUTS", name, getattr(self, name), least)
        if not 0.5 <= self.target_accept < 1:
            raise ValueError(
                f"NUTS(target_accept={self.target_accept!r}) must lie between 0.5 and 1."
            )

    def serves_relatives(self, linear: bool) -> bool:
        """Say yes: the graph has them."""
        return True


@dataclass(frozen=True)
class Integrated(Method):
    """The posterior with the random effects of the largest factor integrated out.

    The integral is the adaptive Gauss-Hermite quadrature of ``ML``; what is left, coefficients
    and standard deviations, has few dimensions. The integrated effects are then drawn from
    their exact conditional distribution. The effects of other factors, crossed or nested, are
    sampled together with the parameters, by "nuts". With one factor and so much data that
    the integrals would take longer than half a second, polynomials in the parameters stand for
    them where the posterior is, if these are right at posterior draws to a hundredth.

    Parameters
    ----------
    method
        "importance": proposals from a multivariate t distribution at the posterior mode;
        "nuts": the no-U-turn sampler on the integrated density; "auto": the first where its
        Pareto k-hat is at most 0.7.
    draws
        Draws kept per chain.
    tune
        Draws discarded per chain by "nuts".
    chains
        Independent chains; at least two, so that R-hat exists.
    target_accept
        Of "nuts".
    seed
        Of the method's own random stream.
    """

    engine: ClassVar = "bayes_glmm.bayesian.integrated:fit"
    name: ClassVar = "integrated"
    method: Literal["auto", "importance", "nuts"] = "auto"
    draws: int = 1000
    tune: int = 300
    chains: int = 4
    target_accept: float = 0.9
    seed: int = 1

    def __post_init__(self) -> None:
        check_choice("Integrated", "method", self.method, ("auto", "importance", "nuts"))
        for name, least in (("draws", 4), ("tune", 10), ("chains", 2), ("seed", 0)):
            check_at_least("Integrated", name, getattr(self, name), least)
        if not 0.5 <= self.target_accept < 1:
            raise ValueError(
                f"Integrated(target_accept={self.target_accept!r}) must lie between 0.5 and 1."
            )
