"""How to read the report: the few ideas that a learner needs, fitted to what is in it."""

from ..document import Block, Bullets, Strong, Text
from ..material import Material
from ..scales import scale_of


def reading(material: Material) -> list[Block]:
    """Write notes on the estimands and on each kind of method that is present."""
    present = {type(fit.method).__name__ for fit in material.fits.values()}
    present |= {"Laplace" for fit in material.fits.values() if fit.loglik_kind == "Laplace"}
    notes = [
        (need, title, text) for need, title, text in _notes(material) if need in present | {""}
    ]
    items: list[Text] = [(Strong(title), f" {text}") for _, title, text in notes]
    return [Bullets(items)]


def _notes(material: Material):
    averaged = (
        "On the log link the two slopes agree, only the intercept differs."
        if material.model.link.name == "log"
        else "On the identity link they agree."
        if material.model.link.name == "identity"
        else "They are closer to zero than conditional ones, the more so the larger the SD of "
        "the groups; neither is wrong."
    )
    unit = scale_of(material.model).axis
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
            "ML",
            "ML",
            "maximises the likelihood, the group effects integrated out by adaptive quadrature. "
            "Its SD of the groups tends to be a little low with few levels.",
        ),
        (
            "Laplace",
            "Laplace",
            "is that integral with a single node: exact for a normal response, good with many "
            "observations per level, biased with few binary ones.",
        ),
        (
            "PQL",
            "PQL",
            "replaces the data by a linearised normal response. With binary or sparse data per "
            "level it draws SDs and coefficients towards zero; it has no likelihood.",
        ),
        (
            "GEE",
            "GEE",
            "models the mean over the population, treats correlation as a nuisance, and takes "
            "robust standard errors, which need many clusters (about 40 or more).",
        ),
        (
            "GLM",
            "GLM",
            "ignores the groups: its standard errors treat rows of one level as independent, "
            f"and its coefficients ({unit}) are those of a model without group effects.",
        ),
    )
