"""What numbers on a link scale mean, in words."""

from dataclasses import dataclass
from math import exp, isfinite

from ..estimands import median_factor
from .numbers import fixed, ratio_interval, significant


@dataclass(frozen=True)
class Scale:
    """A link's scale: its name on an axis, and what ``exp`` of a difference is.

    ``ratio`` is None where exponentiated differences mean nothing (identity, probit).
    """

    axis: str
    ratio: str | None = None
    of: str = ""  # what the ratio is a ratio of
    level: str = ""  # what the inverse link of an intercept is


SCALES = {
    "logit": Scale("log odds", "odds ratio", "odds", "probability"),
    "log": Scale("log mean", "ratio of means", "means", "mean"),
    "cloglog": Scale("complementary log-log scale", "hazard ratio", "hazards", "probability"),
    "probit": Scale("probit scale", level="probability"),
    "loglog": Scale("log-log scale", level="probability"),
    "cauchit": Scale("cauchit scale", level="probability"),
    "identity": Scale("units of the response", level="mean"),
    "sqrt": Scale("square root of the mean"),
    "inverse": Scale("reciprocal of the mean"),
}


def scale_of(model) -> Scale:
    """Give the scale of a model's linear predictor."""
    return SCALES[model.link.name]


def effect(model, low: float, high: float) -> str:
    """Say what a coefficient between two limits does: ``odds ratio 0.20 to 0.67``."""
    scale = scale_of(model)
    if scale.ratio is None:
        return f"{significant(low)} to {significant(high)} on the {scale.axis}"
    return f"{scale.ratio} {ratio_interval(_exp(low), _exp(high))}"


def level(model, low: float, high: float) -> str:
    """Mean response of an intercept between two limits: ``probability 0.01 to 0.99``."""
    if isfinite(model.link.lowest):  # limits of the predictor may lie where there is no mean
        return effect(model, low, high)
    limits = [float(model.link.inverse(value)[0]) for value in (low, high)]
    if scale_of(model).level == "probability":
        return f"probability {_probability(limits[0])} to {_probability(limits[1])}"
    return f"mean {ratio_interval(*limits)}"


def spread(model, low: float, high: float) -> str:
    """Say what an SD of group effects between two limits means for two random groups."""
    scale = scale_of(model)
    if scale.ratio is None:
        return f"groups differ by an SD of {significant(low)} to {significant(high)}"
    limits = ratio_interval(*(_median(value) for value in (low, high)))
    return f"two groups: {scale.of} differ by a median factor of {limits}"


def _exp(value: float) -> float:
    return exp(min(value, 700.0))


def _median(sd: float) -> float:
    return float(median_factor(min(sd, 700.0)))


def _probability(p: float) -> str:
    if p < 1e-4:
        return "< 0.0001"
    if p > 1 - 1e-4:
        return "> 0.9999"
    return fixed(p, 4) if min(p, 1 - p) < 0.005 else fixed(p, 2)
