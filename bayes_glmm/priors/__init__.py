"""Priors: each kind written once, with its scale, its propriety, its tail and its PyMC form.

>>> PC(upper=3, prob=0.05).describe()
'PC(upper=3, prob=0.05)'
"""

from .assignment import resolve_priors
from .base import ImproperPosteriorError, ImproperPriorError, Prior
from .chosen import Priors
from .coefficients import Cauchy, Flat, Normal, StudentT, Uniform
from .correlations import LKJ
from .covariances import InverseWishart, UniformShrinkageMatrix
from .deviations import (
    PC,
    Exponential,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfStudentT,
    InverseGamma,
    LogNormal,
    Power,
    UniformShrinkage,
)
from .resolved import ResolvedPriors
from .shares import Beta
from .shrinkage import R2D2M2

__all__ = [
    "LKJ",
    "PC",
    "R2D2M2",
    "Beta",
    "Cauchy",
    "Exponential",
    "Flat",
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "HalfStudentT",
    "ImproperPosteriorError",
    "ImproperPriorError",
    "InverseGamma",
    "InverseWishart",
    "LogNormal",
    "Normal",
    "Power",
    "Prior",
    "Priors",
    "ResolvedPriors",
    "StudentT",
    "Uniform",
    "UniformShrinkage",
    "UniformShrinkageMatrix",
    "resolve_priors",
]
