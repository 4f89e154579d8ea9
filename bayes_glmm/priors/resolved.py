"""The priors of a model, resolved: one for each parameter, and their table."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .base import Prior
from .correlations import LKJ
from .covariances import CovariancePrior
from .implied import high_to_low, in_words, intraclass
from .shrinkage import R2D2M2, SharedVariance

HALF_LIFE = float(np.log(2.0))  # times a rate
# of the parameters of a residual correlation; that of phi may be the half-life
SCALES = {"residual_phi": "rate", "residual_nugget": "share", "residual_rho": "correlation"}
COLUMNS = [
    *("parameter", "prior", "scale", "default", "range_low", "range_high", "why"),
    *("ratio_low", "ratio_high", "icc_low", "icc_high", "means"),
]


class Assigned(NamedTuple):
    """One row of the table of priors: a parameter, its prior, and why that one."""

    parameter: str
    prior: Prior
    default: bool
    why: str
    dimension: int = 2  # of the correlation matrix

    def as_row(self, link: str) -> tuple:
        """Give the row of ``COLUMNS``."""
        extra = (self.dimension,) if isinstance(self.prior, LKJ) else ()
        low = high = np.nan  # an improper prior has no range
        if self.prior.proper and not isinstance(self.prior, CovariancePrior):
            low, high = (float(self.prior.ppf(q, *extra)) for q in (0.025, 0.975))
        scale = "variance" if self.prior.stated_on == "variance" else self._scale
        means: tuple = (np.nan, np.nan, np.nan, np.nan, "")
        if self.parameter.startswith("sd_") and self.prior.proper:
            pair = np.array([low, high])
            intercept = self.parameter.endswith("[Intercept]")
            shares = intraclass(pair, link if intercept else "")
            words = in_words(low, high, link, intercept)
            means = (*high_to_low(pair, link), *shares, words)
        if self.parameter == "residual_phi" and self.prior.proper:
            half_lives = HALF_LIFE / np.array([self.prior.ppf(q) for q in (0.5, 0.975, 0.025)])
            means = (*means[:4], "half-life {:.3g}, {:.2g} to {:.2g}".format(*half_lives))
        name = self.prior.describe()
        return (self.parameter, name, scale, self.default, low, high, self.why, *means)

    @property
    def _scale(self) -> str:
        if isinstance(self.prior, R2D2M2):
            return "share of variance"
        if self.parameter == "dispersion":
            return "response"
        if (found := SCALES.get(self.parameter)) is not None:
            return "half-life" if self.prior.roles == {"rate"} else found
        if isinstance(self.prior, CovariancePrior):
            return "covariance"
        return "correlation" if isinstance(self.prior, LKJ) else "link"


@dataclass(frozen=True, eq=False)
class ResolvedPriors:
    """Every parameter's prior, none left open.

    ``beta`` follows the design's terms; ``sd[group]`` the columns of the group; ``corr[group]``
    is None where nothing is correlated; ``dispersion`` is None where the family has none.
    ``residual`` has the priors of the parameters of the residual correlation, by name.
    ``covariance[group]`` is the prior of the whole matrix, or None; with one, ``sd[group]`` are
    its margins and ``corr[group]`` is None. ``joint`` is the prior of all coefficients but the
    intercept and all standard deviations, or None; with one, ``beta`` and ``sd`` are its margins.
    """

    beta: tuple[Prior, ...]
    sd: dict[str, tuple[Prior, ...]]
    corr: dict[str, LKJ | None]
    dispersion: Prior | None
    assigned: tuple[Assigned, ...]
    link: str = ""
    covariance: dict[str, CovariancePrior | None] = field(default_factory=dict)
    joint: SharedVariance | None = None
    residual: dict[str, Prior] = field(default_factory=dict)

    @property
    def proper(self) -> bool:
        """Whether every prior integrates to one."""
        return all(row.prior.proper for row in self.assigned)

    def table(self):
        """Frame with a row per parameter: prior, scale, default or chosen, 95 % range, reason.

        ``scale`` is where the density is stated; ``range_low`` and ``range_high`` are the
        2.5 % and 97.5 % quantiles of the parameter itself (a standard deviation, not a
        variance). For the standard deviations of random effects, ``ratio_low`` and
        ``ratio_high`` say what these mean as the odds ratio (ratio of means, of hazards) of a
        group at the 97.5 % quantile of the groups to one at the 2.5 % quantile, per unit of the
        column; ``icc_low`` and ``icc_high`` as the intraclass correlation of the latent
        variables, for random intercepts; ``means`` is both in words. NaN where a link has none.
        """
        import pandas as pd

        return pd.DataFrame([row.as_row(self.link) for row in self.assigned], columns=COLUMNS)
