"""Residuals of a linear model: correlation in time, variogram, what independence would claim."""

from dataclasses import dataclass

import numpy as np

from ...fit import Component, Fit
from ...semivariance import variogram
from ..document import Block, Code, Paragraph, Picture
from ..figures.canvas import drawn
from ..figures.variogram import residuals_figure, variogram_figure
from ..material import Material, attempt, tidy_fixed
from ..numbers import interval, listing, percent, significant
from ..residual_plots import standardised

WORTH_SAYING = 1.2  # ratio of standard errors


def residuals(material: Material) -> list[Block]:
    """Say how residuals are correlated, and draw them; nothing for other families."""
    m = material.model
    if not m.is_linear or material.reference is None:
        return []
    label, fit = material.reference
    blocks = attempt("standard errors", lambda: _claims(material, label, fit))
    if m.residual is not None:
        blocks += attempt("residual correlation", lambda: _correlation(material, label, fit))
        if m.residual.time is not None:
            blocks += attempt("variogram", lambda: [_variogram(fit)])
    return blocks + attempt("residual plots", lambda: [_plots(fit)])


# --- the correlation -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """A parameter of the residual correlation: estimate and limits, as text."""

    value: float
    text: str


def _correlation(material: Material, label: str, fit: Fit) -> list[Block]:
    """Put the parameters of the correlation into words."""
    residual = material.model.residual
    found = {c.term: _of(material, fit, c) for c in material.components if c.is_residual}
    said = []
    if "phi" in found:
        phi = found["phi"]
        said.append(
            f"the correlation of two rows of one {residual.by} falls by half in "
            f"{significant(np.log(2) / phi.value)} units of {residual.time} (phi = {phi.text})"
        )
    if "rho" in found:
        apart = " next to each other" if residual.time else ""
        rho = f"(rho = {found['rho'].text})"
        said.append(f"two rows of one {residual.by}{apart} are correlated {rho}")
    if "nugget" in found:
        nugget = found["nugget"]
        said.append(
            f"measurement error is {percent(nugget.value)} of the residual variance (share "
            f"{nugget.text})"
        )
    if not said:
        said.append(f"every pair of {residual.time} has a correlation of its own, in the table")
    text = f": {listing(said)}.{_beside(material, fit)}"
    return [Paragraph((material.key(label), text))]


def _of(material: Material, fit: Fit, component: Component) -> _Found:
    value, low, high = material.sd_estimate(fit, component)
    limits = f", {interval(low, high, 2)}" if np.isfinite([low, high]).all() else ""
    return _Found(value, f"{significant(value)}{limits}")


def _beside(material: Material, fit: Fit) -> str:
    """Say which of the factors' variances are zero beside the correlation."""
    zero = [c.group for c in material.sds() if material.sd_estimate(fit, c)[0] == 0.0]
    if not zero:
        return ""
    return (
        f" Beside it the variance between levels of {listing(zero)} is estimated as zero: what "
        "levels have in common is what neighbouring rows have in common."
    )


# --- what independence would claim -----------------------------------------------------------


def _claims(material: Material, label: str, fit: Fit) -> list[Block]:
    """Compare the standard errors of naive least squares with those of a mixed model."""
    averaged = material.averaged.items()
    naive = [k for k, f in averaged if f.method.name == "ols" and f.method.cov == "naive"]
    if not naive:
        return []
    known, claimed = (tidy_fixed(f).std_error for f in (fit, material.averaged[naive[0]]))
    ratio = (known / claimed).drop("Intercept", errors="ignore")
    if ratio.empty:
        return []
    term = str(ratio.idxmax())
    words = [
        " takes all rows as independent: its standard error of ",
        Code(term),
        f" is {significant(claimed[term])}, that of ",
        material.key(label),
        f" {significant(known[term])}, {significant(ratio[term])} times as large.",
    ]
    least = str(ratio.idxmin())
    if ratio[least] < 1 / WORTH_SAYING:
        words += [
            " For ",
            Code(least),
            ", which is compared within levels, it errs the other way: "
            f"{significant(claimed[least])} instead of {significant(known[least])}.",
        ]
    return [Paragraph((material.key(naive[0]), *words))]


# --- figures ---------------------------------------------------------------------------------


def _variogram(fit: Fit) -> Picture:
    found = variogram(fit)
    caption = (
        "Variogram of y − Xβ: half the mean squared difference of two rows by their distance; the "
        "area of a disc goes by the number of pairs. Where it starts is measurement error, its "
        f"rise is correlation that fades, and what it stays below the dashed line is variance "
        f"between levels of {found.by}. The curve is what the fit implies."
    )
    alt = f"Semivariance of residuals against the distance in {found.time}."
    return Picture("variogram", drawn(variogram_figure)(found), alt, caption)


def _plots(fit: Fit) -> Picture:
    caption = (
        "Residuals, group effects at their predictions: along the fitted values, where neither "
        "trend nor a change of spread should show, and against normal quantiles with the range of "
        "each in 95 % of normal samples of independent rows."
    )
    image = drawn(residuals_figure)(*standardised(fit))
    return Picture(
        "residuals", image, "Residuals along fitted values, and their quantiles.", caption
    )
