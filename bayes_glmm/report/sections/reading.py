"""How to read the report: the few ideas that a learner needs, fitted to what is in it."""

from math import sqrt

from ...fit import Fit
from ...population import LOGISTIC
from ..document import Block, Bullets, Strong, Text
from ..material import Material
from ..numbers import significant

# population-averaged = conditional / sqrt(1 + shrinkage * variance): Zeger, Liang & Albert
# (1988), approximate for the logit, exact for the probit
SHRINKAGE = {"logit": LOGISTIC, "probit": 1.0}


def reading(material: Material) -> list[Block]:
    """Write notes on the estimands and on each kind of method that is present."""
    present = {_kind(fit) for fit in material.fits.values()}
    notes = [
        (need, title, text) for need, title, text in _notes(material) if need in present | {""}
    ]
    items: list[Text] = [(Strong(title), f" {text}") for _, title, text in notes]
    return [Bullets(items)]


def _kind(fit: Fit) -> str:
    return "Laplace" if "Laplace" in str(fit.loglik_kind) else type(fit.method).__name__


def _notes(material: Material):
    averaged = _attenuation(material)
    return (
        (
            "",
            "Conditional or population-averaged?",
            "A conditional coefficient compares rows of one level (one patient, one herd); a "
            f"population-averaged one compares means over the whole population. {averaged}",
        ),
        (
            "",
            "Intervals.",
            "A posterior interval holds the parameter with probability .95, given model and "
            "prior; a confidence interval comes from a procedure that covers the true value in "
            "95 % of data sets, if its approximation holds.",
        ),
        (
            "NUTS",
            "NUTS",
            "samples the posterior: all parameters together, prior included, no approximation "
            "of the integral over group effects. It is as good as its diagnostics.",
        ),
        (
            "Integrated",
            "Integrated",
            "samples the same posterior in a fraction of the time: the effects of one grouping "
            "factor are integrated out by quadrature while the rest is sampled, and drawn "
            "afterwards given each draw. Besides its diagnostics, look at its nodes and k-hat.",
        ),
        (
            "ML",
            "ML",
            "maximises the likelihood, the group effects integrated out by adaptive quadrature. "
            "Its SD of the groups tends to be a little low with few levels.",
        ),
        (
            "Laplace",
            "Laplace",
            "maximises the likelihood too, but takes the integral over the group effects as if its "
            "integrand were a normal density: exact for a normal response, good with many "
            "observations per level, biased with few binary ones.",
        ),
        (
            "PQL",
            "PQL",
            "replaces the data by a linearised normal response. With binary or sparse data per "
            "level it draws SDs and coefficients towards zero; it has no likelihood.",
        ),
        (
            "MQL",
            "MQL",
            "linearises the response at the fixed part: its coefficients are those of the mean "
            "over the population, its SDs those of the linearised response.",
        ),
        (
            "GEE",
            "GEE",
            "models the mean over the population, treats correlation as a nuisance, and takes "
            "robust standard errors, which need many clusters (with fewer than 40: corrected, "
            "with a t distribution).",
        ),
        (
            "ConditionalLogit",
            "conditional logit",
            "conditions on every level's number of successes, so that nothing is assumed of the "
            "levels' effects: it should agree with the mixed model on what varies within levels, "
            "with larger standard errors; the rest it cannot estimate.",
        ),
        (
            "GLM",
            "GLM",
            "ignores the groups: its standard errors take rows of one level as independent, "
            "which makes most intervals too short; its coefficients are population-averaged.",
        ),
    )


def _attenuation(material: Material) -> str:
    """How population-averaged coefficients relate to conditional ones on this link."""
    link, variance = material.model.link.name, _variance(material)
    if link == "identity":
        return "On the identity link they agree."
    if link == "log":
        return (
            "On the log link random intercepts move only the intercept, by half their variance: "
            "slopes agree."
        )
    general = (
        "They are closer to zero, the more so the larger the SD of the groups; neither is wrong."
    )
    if variance is None or link not in SHRINKAGE:
        return general
    factor = 1.0 / sqrt(1.0 + SHRINKAGE[link] * variance)
    total = f"an SD of {significant(sqrt(variance))}"
    return f"{general} With {total}, expect about {significant(factor)} times the conditional ones."


def _variance(material: Material) -> float | None:
    """Sum of the variances of random intercepts, or None where slopes vary too."""
    if material.reference is None or any(c.term != "Intercept" for c in material.sds()):
        return None
    fit = material.reference[1]
    return sum(material.sd_estimate(fit, c)[0] ** 2 for c in material.sds())
