r"""Priors of the parameters of a residual correlation, and their defaults.

The default of a rate ``phi`` is stated on the half-life ``log(2) / phi`` and knows nothing but the
times: log-normal, with 95 % between half the typical gap of neighbouring rows, where these are
nearly uncorrelated (1/4), and twice the longest time that a cluster was followed, where its
rows are correlated all along (0.7). Below and above the data cannot tell the half-life. The default
of a nugget, a share, and of a serial correlation is uniform over all that is possible; that of
an unstructured matrix is uniform over the correlation matrices, ``LKJ(1)``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Prior
from .coefficients import Uniform
from .correlations import LKJ
from .deviations import LogNormal
from .resolved import HALF_LIFE, Assigned

LEAST_SDLOG = 1.0  # where clusters are followed for a gap or two
MIDDLE = 2 * 1.96  # SDs of a normal distribution that hold its middle 95 %
# parameter -> what its prior may be given for
KEYS = {"phi": ("half_life", "phi"), "nugget": ("nugget",), "rho": ("rho",), "corr": ("corr",)}


@dataclass(frozen=True)
class HalfLife(Prior):
    """Prior of a rate by that of its half-life, ``log(2) / rate``."""

    roles: ClassVar = frozenset({"rate"})
    half_life: Prior

    @property
    def proper(self) -> bool:
        """Whether that of the half-life is."""
        return self.half_life.proper

    @property
    def support(self) -> tuple[float, float]:
        """That of the half-life turned round."""
        low, high = self.half_life.support
        return HALF_LIFE / high, HALF_LIFE / low if low > 0 else np.inf

    @property
    def tail(self) -> float:
        """``c + 2`` where the density of the half-life is of the order ``c`` at zero."""
        return self.half_life.origin + 2.0

    @property
    def origin(self) -> float:
        """``alpha - 2`` where that of the half-life falls with the power ``alpha``."""
        return self.half_life.tail - 2.0

    def describe(self) -> str:
        """``log(2) / LogNormal(meanlog=1.4, sdlog=1)``."""
        return f"log(2) / {self.half_life.describe()}"

    def _logpdf(self, x):
        return self.half_life.logpdf(HALF_LIFE / x) + np.log(HALF_LIFE) - 2.0 * np.log(x)

    def _logkernel(self, x, log=np.log):
        return self.half_life.log_kernel(HALF_LIFE / x, log) - 2.0 * log(x)

    def _cdf(self, x):
        return 1.0 - self.half_life.cdf(HALF_LIFE / x)

    def _ppf(self, q):
        return HALF_LIFE / self.half_life.ppf(1.0 - q)

    def _pymc(self):
        return self.half_life.pymc

    def of_pymc(self, variable):
        """Rate of a half-life."""
        return HALF_LIFE / self.half_life.of_pymc(variable)

    def to_pymc(self, value):
        """Undo ``of_pymc``."""
        return self.half_life.to_pymc(HALF_LIFE / value)


def residual_priors(chosen, repeated, assign) -> list[Assigned]:
    """Give every parameter of a residual correlation its prior.

    Parameters
    ----------
    chosen
        The user's ``Priors``.
    repeated
        Rows of the design as the correlation sees them.
    assign
        ``(parameter, role, options, default, why, allow_improper, dimension) -> Assigned``.

    Raises
    ------
    ImproperPriorError
        If a prior does not integrate to one and improper priors are not allowed.
    ValueError
        If a prior is for another kind of parameter, or reaches beyond what is possible.
    """
    kinds = {parameter.name: parameter.kind for parameter in repeated.parameters}
    _check_keys(chosen.residual, [key for name in kinds for key in KEYS[name]])
    improper = chosen.allow_improper
    rows = []
    for name, kind in kinds.items():
        given = {key: chosen.residual[key] for key in KEYS[name] if key in chosen.residual}
        option = next(iter(given.values()), None)
        if name == "corr":
            size = len(repeated.labels)
            default = LKJ(1.0), "uniform over the correlation matrices"
            rows.append(assign("residual_corr", "corr", [option], *default, improper, size))
        elif kind == "rate":
            rows.append(_rate(given, repeated, assign, improper))
        else:
            low, high = (0.0, 1.0) if kind == "share" else repeated.serial_range
            why = "any share" if kind == "share" else f"all that is possible, {low:.4g} to {high:g}"
            parameter = f"residual_{name}"
            row = assign(parameter, kind, [option], Uniform(low, high), why, improper)
            _check_range(row, low, high)
            rows.append(row)
    return rows


def _rate(given, repeated, assign, improper: bool) -> Assigned:
    """Prior of ``phi`` as given, or by that of its half-life."""
    half_life, why = _default_half_life(repeated)
    if "phi" in given:
        same = LogNormal(np.log(HALF_LIFE) - half_life.meanlog, half_life.sdlog)
        return assign("residual_phi", "rate", [given["phi"]], same, why, improper)
    option = given.get("half_life")
    row = assign("residual half-life", "rate", [option], half_life, why, improper)
    return row._replace(parameter="residual_phi", prior=HalfLife(row.prior))


def _default_half_life(repeated) -> tuple[LogNormal, str]:
    """Prior of the half-life, and why that one."""
    gap, span = repeated.gap, max(repeated.span, repeated.gap)
    ends = np.log([0.5 * gap, 2.0 * span])
    prior = LogNormal(float(ends.mean()), max(float(np.diff(ends)[0]) / MIDDLE, LEAST_SDLOG))
    why = (
        f"half-life between half the typical gap of rows ({gap:.4g}) and twice the longest time "
        f"of a cluster ({span:.4g})"
    )
    return prior, why


def _check_keys(given, known: list[str]) -> None:
    for key in given:
        if key not in known:
            names = " or ".join(map(repr, known))
            raise ValueError(
                f"Priors(residual=…) names {key!r}, which the residual correlation does not have: "
                f"it has {names}."
            )
    if "half_life" in given and "phi" in given:
        raise ValueError(
            "Priors(residual=…) has priors of 'half_life' and of 'phi', which are one quantity, "
            "half_life = log(2) / phi: give one of the two."
        )


def _check_range(row: Assigned, low: float, high: float) -> None:
    start, end = row.prior.support
    if start < low or end > high:
        raise ValueError(
            f"{row.prior.describe()} of {row.parameter} reaches beyond {low:.4g} to {high:g}, all "
            "that is possible with these clusters: give it bounds within."
        )
