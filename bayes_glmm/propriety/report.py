"""What a check of propriety says."""

from dataclasses import dataclass
from typing import Literal

from ..messages import message
from .separation import Separation

Verdict = Literal["proper", "improper", "likely proper", "unknown"]


@dataclass(frozen=True, eq=False)
class ProprietyReport:
    """Whether the posterior exists for this model and these data.

    Attributes
    ----------
    verdict
        "proper", "improper", "likely proper" (by power counting) or "unknown".
    rule
        The argument that gives the verdict.
    source
        Where the argument comes from.
    remedy
        What to do, or an empty string.
    separation
        The separating direction of the fixed effects, if there is one.
    subset
        The standard deviations, and the coefficients with Student-t priors, whose way to
        infinity decides.
    kappa, p, alpha
        Of the decisive tail: the posterior falls as ``s^-(sum alpha + kappa - p)`` in the common
        size ``s`` of the subset; None where no tail was needed. ``p`` counts the coefficients
        with flat priors, ``alpha`` has one power per standard deviation.
    certificate
        The direction along which the likelihood does not fall, in words, or an empty string.
    """

    verdict: Verdict
    rule: str
    source: str
    remedy: str = ""
    separation: Separation | None = None
    subset: tuple[str, ...] = ()
    kappa: int | None = None
    p: int | None = None
    alpha: tuple[float, ...] = ()
    certificate: str = ""

    @property
    def exists(self) -> bool:
        """Whether the posterior may be sampled: it exists, or is likely to."""
        return self.verdict in ("proper", "likely proper")

    def __str__(self) -> str:
        """Say the verdict and why, one sentence a line."""
        lines = [f"posterior: {self.verdict}. {self.rule}"]
        lines += [f"{self.certificate}."] if self.certificate else []
        lines += [f"Source: {self.source}."]
        lines += [self.remedy] if self.remedy else []
        if self.separation and self.separation.words != self.certificate:
            lines.append(str(message("separation", direction=self.separation.words)))
        return "\n".join(lines)
