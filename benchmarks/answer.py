"""What a fit answered, and how far two answers are apart."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Answer:
    """Estimates of one fit, keyed by names that are the same for every package.

    ``beta`` and ``se`` are on the link scale; ``sd`` holds the standard deviation of each
    group's intercepts; ``loglik`` has all constants, and is None where there is none.
    """

    beta: Mapping[str, float]
    se: Mapping[str, float]
    sd: Mapping[str, float] = field(default_factory=dict)
    loglik: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tolerance:
    """How far a peer's answer may be from ours for its time to be quoted.

    Peers keep their own stopping rules. Most agree to five digits or more; lme4's defaults
    can stop at two, which moves nothing that a user reports.
    """

    beta: float = 0.05  # in our standard errors
    se: float = 0.05  # relative
    sd: float = 0.05  # relative
    loglik: float = 0.05  # absolute

    def __str__(self) -> str:
        """State it as the results do."""
        return (
            f"estimates within {self.beta:g} standard errors, standard errors and standard "
            f"deviations within {100 * self.se:g} %, log-likelihood within {self.loglik:g}"
        )


@dataclass(frozen=True)
class Agreement:
    """Largest differences between two answers; None where one of them lacks the quantity."""

    beta: float
    se: float
    sd: float | None
    loglik: float | None

    def within(self, tolerance: Tolerance) -> bool:
        """Whether every difference that exists is within the tolerance."""
        pairs = [
            (self.beta, tolerance.beta),
            (self.se, tolerance.se),
            (self.sd, tolerance.sd),
            (self.loglik, tolerance.loglik),
        ]
        return all(difference <= limit for difference, limit in pairs if difference is not None)


def canonical(term: str) -> str:
    """Name a term alike for formulaic, patsy, Bambi and R: ``trt[T.drug+]`` is ``trtdrug+``."""
    if term in ("(Intercept)", "Intercept", "1"):
        return "Intercept"
    bare = re.sub(r"\[(?:T\.)?(.*?)\]", r"\1", term)
    return ":".join(sorted(bare.split(":")))


def named(names, values) -> dict[str, float]:
    """Key values by the canonical names of their terms."""
    return {canonical(str(n)): float(v) for n, v in zip(names, values, strict=True)}


def agreement(ours: Answer, peer: Answer) -> Agreement:
    """Compare a peer's answer with ours.

    Raises
    ------
    ValueError
        If the two have different terms or groups.
    """
    beta, beta_peer = aligned(ours.beta, peer.beta)
    se, se_peer = aligned(ours.se, peer.se)
    sd = None
    if ours.sd and peer.sd:
        mine, theirs = aligned(ours.sd, peer.sd)
        sd = float(np.max(np.abs(theirs / mine - 1)))
    loglik = None
    if ours.loglik is not None and peer.loglik is not None:
        loglik = abs(peer.loglik - ours.loglik)
    return Agreement(
        beta=float(np.max(np.abs(beta_peer - beta) / se)),
        se=float(np.max(np.abs(se_peer / se - 1))),
        sd=sd,
        loglik=loglik,
    )


def aligned(ours: Mapping[str, float], peer: Mapping[str, float]):
    """Return both as arrays in our order of names."""
    if set(ours) != set(peer):
        raise ValueError(f"it has the terms {sorted(peer)}, ours are {sorted(ours)}")
    return (np.array([values[name] for name in ours], float) for values in (ours, peer))
