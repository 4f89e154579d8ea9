"""Population averages: what a conditional model says of means over all levels."""

from .averaged import LOGISTIC, PopulationAveraged, population_averaged

__all__ = ["LOGISTIC", "PopulationAveraged", "population_averaged"]
