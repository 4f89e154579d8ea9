"""The answer in short: sentences derived from the fits, never written by hand."""

from collections import Counter

import numpy as np
import pandas as pd

from ...estimands import heritability, median_factor
from ...fit import Component, Fit
from ...formula import term_of
from ..document import Block, Bullets, Code, Paragraph, Strong, Text
from ..material import Material, tidy_fixed
from ..numbers import (
    THIN,
    count,
    decimals_for,
    fixed,
    interval,
    listing,
    p_value,
    percent,
    ratio_interval,
    significant,
    with_error,
)
from ..scales import scale_of
from .predictive import misfits
from .residuals import correlation_in_words, naive_errors

MOST = 8  # coefficients written out
MANY = 5  # columns of one term: a factor of many levels, a spline
SAMPLER = ("divergences", "rhat-high", "ess-low")  # codes of messages on sampling


def answer(material: Material) -> list[Block]:
    """Effects, group differences, agreement between the methods, and what to trust."""
    if material.reference is None:
        return [Paragraph("No method for the mixed model gave a fit; the reasons are below.")]
    label, fit = material.reference
    items: list[Text] = [
        *_effects(material, fit),
        *_claims(material, label, fit),
        *_spreads(material, label, fit),
        *_residual(material, fit),
        *_heritabilities(material, fit),
        *_agreement(material, label, fit),
        *_averages(material),
        *_trust(material),
    ]
    lead = Paragraph(
        (
            "Numbers are by ",
            material.key(label),
            f" with 95 % intervals ({fit.interval_kind}), each effect given the others and the "
            "group effects.",
        )
    )
    return [lead, Bullets(items)]


def _effects(material: Material, fit: Fit) -> list[Text]:
    """One sentence per coefficient: size, interval, and which methods' intervals leave zero."""
    table = tidy_fixed(fit)
    terms, many = _told_apart(table)
    found: list[Text] = [_effect(material, table, term) for term in terms[:MOST]]
    found += [(Code(name), f": its {n} coefficients are in the tables below.") for name, n in many]
    if len(terms) > MOST:
        found.append(f"{len(terms) - MOST} more coefficients are in the tables below.")
    return found


def _told_apart(table: pd.DataFrame) -> tuple[list[str], list[tuple[str, int]]]:
    """Coefficients that say something each, and terms with many columns with their number."""
    names = {t: term_of(t) for t in table.index if t != "Intercept"}
    sizes = Counter(names.values())
    many = [(name, n) for name, n in sizes.items() if n >= MANY]
    return [term for term, name in names.items() if sizes[name] < MANY], many


def _claims(material: Material, label: str, fit: Fit) -> list[Text]:
    """Say what least squares on rows taken as independent makes of the standard errors."""
    found = naive_errors(material, fit)
    if found is None:
        return []
    ratios = found.ratios
    terms = _told_apart(tidy_fixed(fit))[0][:MOST]
    words = [f"{term} {significant(1 / ratios[term])}" for term in terms]
    return (
        [
            (
                Strong("Rows taken as independent"),
                f" ({found.label}): standard errors as multiples of those of {label}: "
                f"{', '.join(words)}.",
            )
        ]
        if words
        else []
    )


def _effect(material: Material, table: pd.DataFrame, term: str) -> Text:
    unit = " per unit" if _is_slope(material, term) else ""
    return (Code(term), f": {_size(material, table, term)}{unit}; {_clear(material, term)}.")


def _size(material: Material, table: pd.DataFrame, term: str) -> str:
    """``odds ratio 0.31 (0.17 to 0.58)``, or the coefficient itself where that means more."""
    row = table.loc[term]
    scale = scale_of(material.model)
    if scale.ratio is not None:
        limits = ratio_interval(*np.exp([row.conf_low, row.conf_high]))
        return f"{scale.ratio} {significant(np.exp(row.estimate))} ({limits})"
    decimals = decimals_for(row.std_error, row.estimate)
    shown = fixed(row.estimate, decimals)
    return f"{shown} ({interval(row.conf_low, row.conf_high, decimals)}), {scale.axis}"


def _is_slope(material: Material, term: str) -> bool:
    """Whether a column takes more values than the two of an indicator."""
    column = material.model.design.X[:, list(material.model.design.terms).index(term)]
    return len(np.unique(column)) > 2


def _clear(material: Material, term: str) -> str:
    """Say which mixed-model fits' intervals exclude no effect."""
    fits = material.mixed or material.conditional
    rows = {label: tidy_fixed(fit).loc[term] for label, fit in fits.items()}
    clear = [k for k, r in rows.items() if r.conf_low > 0 or r.conf_high < 0]
    nothing = "0" if scale_of(material.model).ratio is None else "1"
    if len(rows) == 1:
        return f"the interval {'excludes' if clear else 'includes'} {nothing}"
    if len(clear) == len(rows):
        return f"{_all(len(rows))} mixed-model methods' intervals exclude {nothing}"
    if not clear:
        return f"none of the {len(rows)} mixed-model methods' intervals excludes {nothing}"
    return f"{nothing} is outside the intervals of {listing(clear)} only"


def _all(number: int) -> str:
    return "both" if number == 2 else f"all {number}"


def _heritabilities(material: Material, fit: Fit) -> list[Text]:
    """One sentence for each factor that the report names as inherited."""
    found: list[Text] = []
    for group, multiple in material.about.heritability.items():
        row = heritability(fit, group, multiple).iloc[0]
        limits = interval(row.conf_low, row.conf_high, 2)
        size = f": {fixed(row.heritability, 2)} ({limits}), from the variance of {group}."
        found.append((Strong("Heritability"), size))
    return found


def _spreads(material: Material, label: str, fit: Fit) -> list[Text]:
    return [_spread(material, label, fit, c) for c in material.sds()]


def _spread(material: Material, label: str, fit: Fit, component: Component) -> Text:
    """SD of one component, what it means, its test, and what the other methods say."""
    estimate, low, high = material.sd_estimate(fit, component)
    scale = scale_of(material.model)
    what = "" if component.term == "Intercept" else f", effect of {component.term}"
    shown, _ = with_error(estimate, (high - low) / 4)
    decimals = len(shown.partition(".")[2])
    text = f"{what}: SD {shown} ({interval(low, high, decimals)}), {scale.axis}"
    if estimate == 0:
        text = f"{what}: SD 0, the edge of what it can be"
    elif scale.ratio is not None and component.term == "Intercept":
        factor = significant(float(median_factor(min(estimate, 100.0))))
        text += f"; two random ones differ by a median factor of {factor} in {scale.of}"
    try:
        test = material.boundary(component)
        text += f"; test of a zero SD: {p_value(test.p_value)}"
    except Exception:  # said where the test stands
        pass
    return (Strong(f"Levels of {component.group}"), f"{text}.{_apart(material, label, component)}")


def _apart(material: Material, label: str, component: Component) -> str:
    """How far the other methods' SDs are from the quoted one, in per cent of it."""
    estimates = {k: material.sd_estimate(f, component)[0] for k, f in material.mixed.items()}
    base = estimates.pop(label, np.nan)
    if base == 0:
        words = [f"{k} {significant(x)}" for k, x in estimates.items() if x > 0]
        return f" Others: {', '.join(words)}." if words else ""
    ratios = {k: x / base - 1 for k, x in estimates.items() if np.isfinite(x / base)}
    close = [k for k, r in ratios.items() if abs(r) < 0.05]
    zero = [k for k, r in ratios.items() if r == -1]
    words = [f"{listing(close)} within 5{THIN}% of that"] if close else []
    words += [f"{listing(zero)} zero"] if zero else []
    words += [
        f"{k} {percent(abs(r))} {'above' if r > 0 else 'below'}"
        for k, r in ratios.items()
        if k not in close + zero
    ]
    return f" {'; '.join(words)}." if words else ""


def _residual(material: Material, fit: Fit) -> list[Text]:
    """Say how residuals are correlated, where they are and the fit knows it."""
    known = fit.variance is not None and fit.variance.residual.size
    if material.model.residual is None or not known:
        return []
    return [(Strong("Residual correlation"), f": {correlation_in_words(material, fit)}.")]


def _agreement(material: Material, label: str, fit: Fit) -> list[Text]:
    """Largest distance of each mixed-model fit from the quoted one, in its standard errors."""
    error = fit.se().to_numpy()
    far = {k: _farthest(fit, f, error) for k, f in material.mixed.items() if k != label}
    if not far:
        return []
    close = [k for k, (distance, _) in far.items() if distance < 0.25]
    words = [f"{listing(close)} within 0.25 standard errors of {label}"] if close else []
    words += [
        f"{k} differs by up to {significant(distance)} standard errors ({term})"
        for k, (distance, term) in far.items()
        if k not in close
    ]
    return [(Strong("Agreement on the coefficients"), f": {'; '.join(words)}.")]


def _farthest(fit: Fit, other: Fit, error: np.ndarray) -> tuple[float, str]:
    distance = np.abs(other.beta - fit.beta) / error
    k = int(np.argmax(distance))
    return float(distance[k]), fit.terms[k]


def _averages(material: Material) -> list[Text]:
    """Population-averaged effects, said to be another quantity where they are."""
    gee = {k: f for k, f in material.averaged.items() if type(f.method).__name__ == "GEE"}
    if not gee:
        return []
    label, fit = next(iter(gee.items()))
    table = tidy_fixed(fit)
    terms = _told_apart(table)[0][:MOST]
    if not terms:
        return []
    words = [f"{term} {_size(material, table, term)}" for term in terms]
    same = material.model.link.name == "identity"
    what = "the same quantity here" if same else "another quantity, not to be ranked with the above"
    return [(Strong("Averaged over the population"), f" ({label}; {what}): {'; '.join(words)}.")]


def _trust(material: Material) -> list[Text]:
    """Failures, convergence and the sampler's diagnostics."""
    found: list[Text] = []
    failed = list(material.comparison.failures)
    stuck = [k for k, f in material.fits.items() if not f.converged and f.draws is None]
    if failed:
        found.append((Strong("Failed"), f": {listing(failed)}; the reasons are in the table."))
    if stuck:
        found.append((Strong("Not converged"), f": {listing(stuck)}."))
    if material.posterior is not None:
        found.append(_sampler(*material.posterior))
        found += _misfit(material)
    return found


def _misfit(material: Material) -> list[Text]:
    """Say which features of the data the model does not reproduce."""
    try:
        missed = misfits(material)
    except (KeyError, ValueError):  # said where the check stands
        return []
    if missed:
        return [(Strong("The model misses"), f": {listing(missed)}; see the predictive check.")]
    return [(Strong("The model reproduces"), " every statistic of the predictive check.")]


def _sampler(label: str, fit: Fit) -> Text:
    if fit.diagnostics is None:
        return f"{label} has no diagnostics."
    table = fit.diagnostics
    diverged = count(int(fit.details.get("divergences") or 0), "divergence")
    ess = min(table["ess_bulk"].min(), table["ess_tail"].min())
    warned = [m.code for m in fit.messages if m.code in SAMPLER]
    went = f"sampled{f', with warnings ({listing(warned)})' if warned else ' well'}"
    went = went if fit.converged else "did not converge; read it with care"
    return (
        Strong(f"{label} {went}"),
        f": R-hat at most {table['rhat'].max():.3f}, effective sample size at least "
        f"{ess:.0f} and {diverged}.",
    )
