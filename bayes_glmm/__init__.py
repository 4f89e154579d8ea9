"""Generalized linear mixed models, written once and fitted by every method.

>>> import bayes_glmm as bg
>>> model = bg.GLMM(
...     "cbind(incidence, size - incidence) ~ period + (1 | herd)",
...     bg.load_dataset("cbpp"),
...     family="binomial",
... )
>>> fit = model.fit(bg.ML(nodes=25))

Public names are resolved on first use (PEP 562), so that ``import bayes_glmm`` and
the command line start without PyMC, Numba or pandas.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> module that defines it
_HOME = {
    "GLMM": "model",
    "load_dataset": "datasets",
    "relationship_matrix": "pedigree",
    "load_model": "modelfile",
    "load_fit": "fit",
    "build_graph": "bayesian.graph",
    "check_propriety": "propriety",
    "compare": "comparison",
    "anova": "frequentist.anova",
    "qic": "frequentist.gee.criteria",
    "wald_test": "frequentist.hypotheses",
    "score_test": "frequentist.gee.hypotheses",
    "boundary_test": "frequentist.inference",
    "rank_levels": "ranking",
    "variogram": "semivariance",
    "trend": "trends",
    "plot_trend": "report.trend_plots",
    **dict.fromkeys(("plot_variogram", "plot_residuals"), "report.residual_plots"),
    **dict.fromkeys(("plot_priors", "plot_implied", "plot_prior_predictive"), "report.prior_plots"),
    **dict.fromkeys(("icc", "heritability", "median_ratio"), "estimands"),
    **dict.fromkeys(
        (
            "GLM",
            "OLS",
            "ML",
            "REML",
            "PQL",
            "MQL",
            "GEE",
            "ConditionalLogit",
            "NUTS",
            "Integrated",
            "Method",
            "NotServedError",
        ),
        "methods",
    ),
    **dict.fromkeys(("Fit", "Message"), "fit"),
    **dict.fromkeys(
        (
            "Priors",
            "ImproperPriorError",
            "ImproperPosteriorError",
            "Normal",
            "StudentT",
            "Cauchy",
            "HalfNormal",
            "HalfStudentT",
            "HalfCauchy",
            "Exponential",
            "PC",
            "Gamma",
            "LogNormal",
            "Uniform",
            "UniformShrinkage",
            "UniformShrinkageMatrix",
            "InverseGamma",
            "InverseWishart",
            "LKJ",
            "R2D2M2",
            "Beta",
            "Flat",
            "Power",
        ),
        "priors",
    ),
}

_MODULES = ("residual",)  # public names in a space of their own: bg.residual.Exponential

__all__ = sorted([*_HOME, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    """Import the home of a public name when the name is first used."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
