"""Residuals of a linear model: correlation in time, variogram, what independence would claim."""

from dataclasses import dataclass
from typing import NamedTuple

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
LITTLE = 0.25  # share of the variance of a row


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
    """A parameter of the residual correlation: estimate and limits, also as text."""

    value: float
    text: str
    limits: tuple[float, float]


def _correlation(material: Material, label: str, fit: Fit) -> list[Block]:
    """Put the parameters of the correlation into words, and what is left beside it."""
    found = Paragraph((material.key(label), f": {correlation_in_words(material, fit)}."))
    return [found, *(_survival(material, group) for group in _intercepts(material))]


def correlation_in_words(material: Material, fit: Fit) -> str:
    """Give half-life, nugget or correlation of neighbours by a fit, with 95 % limits."""
    residual = material.model.residual
    found = {c.term: _of(material, fit, c) for c in material.components if c.is_residual}
    said = []
    if "phi" in found:
        phi = found["phi"]
        said.append(
            f"the correlation of two rows of one {residual.by} falls by half in "
            f"{significant(np.log(2) / phi.value)} units of {residual.time}{_range(phi)} "
            f"(phi = {phi.text})"
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
    return listing(said)


def _of(material: Material, fit: Fit, component: Component) -> _Found:
    value, low, high = material.sd_estimate(fit, component)
    limits = f", {interval(low, high, 2)}" if np.isfinite([low, high]).all() else ""
    return _Found(value, f"{significant(value)}{limits}", (low, high))


def _range(phi: _Found) -> str:
    """Limits of the half-life; nothing where they are not known."""
    if not np.isfinite(phi.limits).all():
        return ""
    low, high = (significant(np.log(2) / x) for x in reversed(phi.limits))
    return f", {low} to {high}"


def _intercepts(material: Material) -> list[Component]:
    """Random intercepts of the factor whose rows are correlated: what both may stand for."""
    by = material.model.residual.by
    return [c for c in material.sds() if c.term == "Intercept" and c.group == by]


def _survival(material: Material, component: Component) -> Paragraph:
    """Say whether the variance between levels survives beside the correlation, by every fit."""
    words: list = [
        f"Does the variance between levels of {component.group} survive beside the correlation? "
    ]
    for label, fit in material.mixed.items():
        if fit.loglik_kind != "restricted" and fit.draws is None and _restricted(material):
            continue  # REML speaks for the likelihood
        words += [material.key(label), f" {_share(fit, component)}. "]
    shares = [_upper(fit, component) for fit in material.mixed.values()]
    small = np.nanmax(shares) < LITTLE if np.isfinite(shares).any() else False
    if small:
        words.append(
            "So little of it does, or nothing: what the rows of a level have in common is what "
            "neighbouring rows have in common, and it fades."
        )
    return Paragraph(tuple(words))


def _restricted(material: Material) -> bool:
    return any(fit.loglik_kind == "restricted" for fit in material.mixed.values())


def _share(fit: Fit, component: Component) -> str:
    """Share of the variance that is between levels, in words."""
    if fit.draws is None:
        sd, residual = _pair(fit, component)
        if sd == 0.0:
            return "estimates it as zero"
        share = percent(sd**2 / (sd**2 + residual**2))
        return f"puts it at {share} of the variance of a row (SD {significant(sd)})"
    share = _posterior_share(fit, component)
    low, middle, high = np.quantile(share, [0.025, 0.5, 0.975])
    return (
        f"puts it at {percent(middle)} of the variance of a row (posterior median; 95 % interval "
        f"{percent(low)} to {percent(high)})"
    )


def _pair(fit: Fit, component: Component) -> tuple[float, float]:
    """SD between levels and residual SD."""
    assert fit.variance is not None and fit.dispersion is not None
    at = fit.variance.components.index(component)
    return float(fit.variance.estimate[at]), float(fit.dispersion)


def _posterior_share(fit: Fit, component: Component) -> np.ndarray:
    posterior = fit.draws["posterior"]
    term = f"{component.group}_term"
    sd = posterior[f"sd_{component.group}"].sel({term: component.term}).to_numpy()
    return sd**2 / (sd**2 + posterior["dispersion"].to_numpy() ** 2)


def _upper(fit: Fit, component: Component) -> float:
    """Largest share that a fit allows: that of the posterior's upper limit, or the estimate."""
    if fit.draws is not None:
        return float(np.quantile(_posterior_share(fit, component), 0.975))
    sd, residual = _pair(fit, component)
    return sd**2 / (sd**2 + residual**2)


# --- what independence would claim -----------------------------------------------------------


def _claims(material: Material, label: str, fit: Fit) -> list[Block]:
    """Compare the standard errors of naive least squares with those of a mixed model."""
    found = naive_errors(material, fit)
    if found is None:
        return []
    known, claimed, ratio = found.known, found.claimed, found.ratios
    term = max(ratio, key=ratio.__getitem__)
    words = [
        " takes all rows as independent: its standard error of ",
        Code(term),
        f" is {significant(claimed[term])}, that of ",
        material.key(label),
        f" {significant(known[term])}, {significant(ratio[term])} times as large.",
    ]
    least = min(ratio, key=ratio.__getitem__)
    if ratio[least] < 1 / WORTH_SAYING:
        words += [
            " For ",
            Code(least),
            ", which is compared within levels, it errs the other way: "
            f"{significant(claimed[least])} instead of {significant(known[least])}.",
        ]
    return [Paragraph((material.key(found.label), *words))]


class NaiveErrors(NamedTuple):
    """Standard errors of all coefficients but the intercept, on the response's scale."""

    label: str  # of the fit by least squares
    known: dict[str, float]  # of the mixed model
    claimed: dict[str, float]  # of least squares on rows taken as independent

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as large the known ones are."""
        return {term: known / self.claimed[term] for term, known in self.known.items()}


def naive_errors(material: Material, fit: Fit) -> NaiveErrors | None:
    """Give both, where the report has a fit by naive least squares."""
    averaged = material.averaged
    naive = [k for k, f in averaged.items() if f.method.name == "ols" and f.method.cov == "naive"]
    if not naive:
        return None
    tables = (tidy_fixed(f).drop("Intercept", errors="ignore") for f in (fit, averaged[naive[0]]))
    known, claimed = (
        {str(t): float(table.loc[t, "std_error"]) for t in table.index} for table in tables
    )
    return NaiveErrors(naive[0], known, claimed) if known else None


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
