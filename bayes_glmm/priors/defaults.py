r"""The default priors, and the scales of response and columns they are made from.

The defaults are proper, weakly informative and equivariant: a change of the units of a
column, of a continuous response or of an exposure changes the fit by that change only.
With ``s`` the SD of the response for the identity link, what that is on the link scale at the
mean response for the inverse and square root, and 1 for every other, and
``spread`` the SD of a column (about zero where its part of the formula has no intercept):

================  ======================================================================
coefficient       ``Normal(0, 2.5 s / spread)``: a column's SD moves the linear predictor
                  by less than 5 s with probability .95 (Gelman et al. 2008 argue for this
                  scale on the logit; rstanarm and Bambi take it for all)
intercept         ``Normal(m, 2.5 s sqrt(1 + sum (mean / spread)^2))``. Columns are not
                  centred, so that the intercept stands at their zero, maybe far from the
                  data: the width is that of an intercept ``Normal(m, 2.5 s)`` at the
                  columns' means, seen from zero. ``m`` is the link of the mean response
                  for identity and log, which have the response's units, and 0 for the
                  links of a probability
sd of an effect   ``HalfStudentT(4, 2.5 s / spread)``: the coefficient's scale, a mode at
                  zero, and a tail that yields to data (Gelman 2006)
correlation       ``LKJ(2)``: weakly away from the edge of perfect correlation
residual sd       ``HalfStudentT(4, SD of the response)``
gamma's CV        ``HalfStudentT(4, SD of the response / its mean)``
theta, a + b      ``InverseGamma(0.4, 0.3)`` on the value, for the negative binomial's size and
                  the beta-binomial's ``a + b``: close to the penalised-complexity prior with
                  the Poisson as its base, which it lets come near, and every moment of
                  ``1 / theta`` is finite (Vehtari 2024, the default of brms)
NB1's phi         ``HalfStudentT(4, variance / mean of the response - 1)``, the scale at least
                  1: a mode at the Poisson
================  ======================================================================

Those of a residual correlation are in ``priors.residual``.

Priors are independent and are those of the coefficients as the formula has them.
"""

from typing import NamedTuple

import numpy as np

from .base import Prior
from .coefficients import Normal
from .deviations import HalfStudentT, InverseGamma


class Units(NamedTuple):
    """What one unit of the linear predictor is: ``scale``, and the level ``location``."""

    scale: float
    location: float


def _sd(x: np.ndarray) -> float:
    """SD with divisor n - 1; 1 where it is zero or a single row."""
    spread = float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
    return spread if spread > 0 else 1.0


def response_units(design, link) -> Units:
    """Scale and level of the linear predictor, from the link and the response."""
    mean = design.y / design.trials
    if link.name == "identity":
        return Units(_sd(mean), float(np.mean(mean - design.offset)))
    if link.name == "log":
        # half an event keeps the level finite where every count is zero
        level = max(float(np.sum(design.y)), 0.5)
        return Units(1.0, float(np.log(level / np.sum(design.trials * np.exp(design.offset)))))
    if link.name in ("inverse", "sqrt"):
        level = max(float(np.mean(mean)), 0.5 / len(mean)) if np.any(mean) else 0.5 / len(mean)
        slope = abs(float(link.inverse(link.link(level))[1]))
        return Units(_sd(mean) / slope, float(link.link(level) - np.mean(design.offset)))
    return Units(1.0, 0.0)


def spreads_of(X: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """SD of each column about its mean, or about zero where there is no intercept; 1 for it."""
    if "Intercept" not in columns:
        return np.sqrt(np.mean(np.square(X), axis=0))
    return np.array([1.0 if c == "Intercept" else _sd(X[:, k]) for k, c in enumerate(columns)])


def default_intercept(design, link, units: Units, spreads) -> tuple[Normal, str]:
    """Give the intercept's default and its reason; ``spreads`` are those of the columns."""
    others = [k for k, term in enumerate(design.terms) if term != "Intercept"]
    distance = np.mean(design.X[:, others], axis=0) / spreads[others]
    width = float(np.sqrt(1.0 + distance @ distance))
    why = (
        f"2.5 {of_response(link, units.scale)}* {width:.4g}, the distance of the columns' "
        "means from zero in SDs"
    )
    if units.location != 0:
        why += f"; about the {link.name} of the mean response"
    return Normal(units.location, 2.5 * units.scale * width), why


def of_response(link, scale: float) -> str:
    """Name the response's scale in a reason, where it has one."""
    if link.name == "identity":
        return f"SDs of the response ({scale:.4g}) "
    if link.name in ("inverse", "sqrt"):
        return f"SDs of the response on the link scale ({scale:.4g}) "
    return ""


def null_weights(design, family, link) -> np.ndarray:
    """Weights of the rows at the fit without random effects, shape (n,)."""
    from ..numerics.bind import bind_numpy
    from ..numerics.groups import Rows
    from ..numerics.irls import expected_weights, fit_glm

    bound = bind_numpy(family, link)
    found = fit_glm(bound, Rows(design.y, design.trials, design.offset, design.X))
    return expected_weights(bound, found.eta, design.trials, found.dispersion)


def default_dispersion(y: np.ndarray, family: str) -> tuple[Prior, str]:
    """Give the dispersion's default and its reason."""
    spread, mean = _sd(y), float(np.mean(y))
    if family in ("negative_binomial", "beta_binomial"):
        limit = "Poisson" if family == "negative_binomial" else "binomial"
        return InverseGamma(0.4, 0.3, on="value"), f"away from zero, the {limit} in reach"
    if family == "negative_binomial1":
        scale = max(spread**2 / max(mean, 0.5 / len(y)) - 1.0, 1.0)
        return HalfStudentT(4.0, scale), f"variance / mean of the response - 1, {scale:.4g}"
    if family == "gamma":
        scale = spread / mean
        return HalfStudentT(4.0, scale), f"SD / mean of the response, {scale:.4g}"
    return HalfStudentT(4.0, spread), f"SD of the response, {spread:.4g}"
