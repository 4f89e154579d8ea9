r"""Where penalised quasi-likelihood is biased, and by how much.

The study ``studies/pql_bias.py`` simulates it over a grid of designs. What the estimate
:math:`s` of a standard deviation loses is well described by what a user sees: with ``N`` trials and
the information ``I`` (the sum of the working weights) of a level, the true one is
:math:`(1 + k)\,s` with

.. math:: \log k = c_0 + c_1 \log s + c_2 \log N + c_3 (\log N)^2 + c_4 \log\frac{N}{4 I}

for binary and binomial responses with link logit, and :math:`c_0 + c_1 \log s + c_2 \log I` for
Poisson responses with link log. The coefficients here are fitted to the committed results of the
study. Gamma responses show no such bias in the SD, other families and links were not studied.

All this is of the dispersion held at 1. One that is estimated takes up some of the bias, more of
it with few trials in a level, so that nothing is said of its size there; nor of levels whose
standard deviation the data do not identify at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..fit import Component, Variance
from ..identification import unidentified_groups
from ..messages import Message, message
from ..methods import PQL
from .working_model import WorkingFit

BINARY = (1.100, 0.975, -1.793, 0.171, 0.467)
COUNTS = (-1.924, 0.851, -0.479)
MOST_TRIALS = 100.0  # of a level in the study: beyond, k falls no slower than 1 / N
LEAST = 0.1  # relative bias of an SD that is worth a warning
MOST = 0.8  # that is stated: the study has no design with more
SPREAD = 0.25  # of the study's designs about the formula, as a share of the bias


@dataclass(frozen=True)
class Bias:
    """Of a standard deviation: ``share`` of the true one that is lost, dispersion 1.

    ``what`` says which responses of the median level it is estimated from.
    """

    component: Component
    estimate: float
    what: str
    share: float

    @property
    def of_what(self) -> str:
        """Name the SD, its estimate and what it is from."""
        c = self.component
        return f"the SD of {c.term} by {c.group}, {self.estimate:.2f} from {self.what}"

    @property
    def by_how_much(self) -> str:
        """Give the range of the study."""
        low, high = (100 * min((1 + side) * self.share, MOST) for side in (-SPREAD, SPREAD))
        return f"{self.of_what}, is {low:.0f} to {high:.0f} % too low"


def of_bias(model, method: PQL, working: WorkingFit, variance: Variance) -> Iterator[Message]:
    """Warn of standard deviations that are likely to be too low, with numbers where known."""
    found = list(biases(model, working, variance))
    if found and method.dispersion == "fixed":
        facts = "; ".join(b.by_how_much for b in found)
        yield message("bias-likely", method=method.label, facts=facts)
    elif found:
        facts = "; ".join(b.of_what for b in found)
        yield message("bias-possible", method=method.label, facts=facts)


def biases(model, working: WorkingFit, variance: Variance) -> Iterator[Bias]:
    """Give the SDs that lose at least ``LEAST`` with the dispersion held at 1."""
    sd = dict(zip(variance.components, variance.estimate, strict=True))
    unknown = unidentified_groups(model)
    unit = binary_unit(model)
    if unit is None and (model.family.name, model.link.name) != ("poisson", "log"):
        return
    for g in model.design.groups:
        if g.group in unknown:
            continue
        distant = {i for pair in g.distant_origins for i in pair[:2]}  # not in the study
        for k, (column, term) in enumerate(zip(g.Z.T, g.columns, strict=True)):
            if k in distant:
                continue
            share = column**2 / np.mean(column**2)
            information = median_by_level(g.index, working.weight * share)
            trials = median_by_level(g.index, model.design.trials * share)
            component = Component("sd", g.group, term)
            size = sd[component] * np.sqrt(np.mean(column**2))
            if unit is None:
                bias, what = bias_of_counts(size, information), f"counts of {information:.2g}"
            else:
                bias = bias_of_binary(size * unit, trials, information / unit**2)
                what = f"{trials:.3g} binary trials"
            if bias >= LEAST:
                yield Bias(component, sd[component], f"{what} in the median level", bias)


def binary_unit(model) -> float | None:
    """Slope of a binary mean at one half relative to the logit's; None for other responses."""
    if model.family.name not in ("bernoulli", "binomial"):
        return None
    link = model.link
    return float(4 * link.inverse(np.atleast_1d(link.link(0.5)))[1][0])


def median_by_level(index: np.ndarray, values: np.ndarray) -> float:
    """Sum by level, and take the median."""
    return float(np.median(np.bincount(index, values)))


def bias_of_binary(sd: float, trials: float, information: float) -> float:
    """Share of the true SD that is lost; link logit, or the scale of it."""
    few, c = min(trials, MOST_TRIALS), BINARY
    log_n = np.log(few)
    with np.errstate(divide="ignore"):
        log_k = c[0] + c[1] * np.log(sd) + c[2] * log_n + c[3] * log_n**2
        log_k = log_k + c[4] * np.log(trials / (4 * information)) - np.log(trials / few)
    return lost(log_k)


def bias_of_counts(sd: float, information: float) -> float:
    """Share of the true SD that is lost; link log."""
    with np.errstate(divide="ignore"):
        return lost(COUNTS[0] + COUNTS[1] * np.log(sd) + COUNTS[2] * np.log(information))


def lost(log_k: float) -> float:
    """``k / (1 + k)``."""
    return float(1 / (1 + np.exp(-log_k)))
