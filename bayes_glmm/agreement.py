r"""Whether posteriors of one model, sampled in different ways, agree.

Two samplers of one posterior differ by Monte Carlo error alone. For each parameter

.. math:: z = \frac{m_1 - m_2}{\sqrt{e_1^2 + e_2^2}},

``m`` the posterior means and ``e`` their Monte Carlo standard errors (SD over the root of the
effective sample size, from ArviZ), is about standard normal. Four is the usual limit.
The ratio of SDs has a Monte Carlo error too, which for heavy tails is large.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from .datatree import draws_of
from .fit import Fit

LIMIT = 4.0  # |z| that chance does not explain for the dozens of parameters of a model
PAIR = ["label", "other"]
COLUMNS = ["parameter", "difference", "mcse", "z", "sd_ratio", "sd_ratio_mcse"]


@dataclass(frozen=True)
class Agreement:
    """The worst of a pair of posteriors.

    Attributes
    ----------
    label, other
        The two fits.
    parameter, z
        Where the means are farthest apart, in Monte Carlo standard errors.
    sd_ratio
        The ratio of posterior SDs farthest from one.
    """

    label: str
    other: str
    parameter: str
    z: float
    sd_ratio: float

    @property
    def agree(self) -> bool:
        """Whether every mean is within the limit."""
        return abs(self.z) <= LIMIT

    def __str__(self) -> str:
        """Say it in a sentence."""
        verdict = "agree" if self.agree else "DISAGREE"
        ratio = f"SDs within {100 * abs(np.expm1(abs(np.log(self.sd_ratio)))):.0f} %"
        return (
            f"{self.label} and {self.other} {verdict}: posterior means differ by at most "
            f"{abs(self.z):.1f} Monte Carlo standard errors ({self.parameter}), {ratio}"
        )


def agreement(fits: Mapping[str, Fit]) -> pd.DataFrame:
    """Compare the posteriors of one model and priors pair by pair.

    Parameters
    ----------
    fits
        Fits by label; those without draws are passed over, and pairs whose formulas or priors
        differ, which sample different posteriors.

    Returns
    -------
    DataFrame
        One row per pair and parameter: ``label, other, parameter, difference`` (of the
        posterior means, ``label`` minus ``other``), ``mcse`` (of that difference), ``z``,
        ``sd_ratio``, ``sd_ratio_mcse``. Empty without a pair.
    """
    sampled = {label: fit for label, fit in fits.items() if fit.draws is not None}
    tables = [
        compared(draws_of(sampled[a]), draws_of(sampled[b])).assign(label=a, other=b)
        for a, b in combinations(sampled, 2)
        if _same_posterior(sampled[a], sampled[b])
    ]
    if not tables:
        return pd.DataFrame(columns=PAIR + COLUMNS)
    return pd.concat(tables, ignore_index=True).reindex(columns=PAIR + COLUMNS)


def compared(draws: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Compare draws of the same parameters, ``(chains, draws)`` each, by name.

    Returns
    -------
    DataFrame
        The rows of ``agreement``, without the labels.
    """
    (mean, sd, error, sd_error), (mean2, sd2, error2, sd_error2) = map(_moments, (draws, others))
    both = np.hypot(error, error2)
    table = {
        "parameter": list(draws),
        "difference": mean - mean2,
        "mcse": both,
        "z": (mean - mean2) / both,
        "sd_ratio": sd / sd2,
        "sd_ratio_mcse": sd / sd2 * np.hypot(sd_error / sd, sd_error2 / sd2),
    }
    return pd.DataFrame(table, columns=COLUMNS)


def worst(table: pd.DataFrame) -> list[Agreement]:
    """Reduce the table of ``agreement`` to the worst of each pair."""
    found = []
    for pair in dict.fromkeys(zip(table["label"], table["other"], strict=True)):
        rows = table.loc[(table["label"] == pair[0]) & (table["other"] == pair[1])]
        z, ratio = rows["z"].to_numpy(), rows["sd_ratio"].to_numpy()
        at = int(np.argmax(np.abs(z)))
        farthest = float(ratio[np.argmax(np.abs(np.log(ratio)))])
        found.append(
            Agreement(*pair, str(rows["parameter"].to_numpy()[at]), float(z[at]), farthest)
        )
    return found


def _same_posterior(a: Fit, b: Fit) -> bool:
    return (
        a.parameter_names == b.parameter_names
        and a.model.priors.assigned == b.model.priors.assigned
        and a.model.residual == b.model.residual
    )


def _moments(draws: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Posterior means and SDs, and the Monte Carlo standard errors of both."""
    from arviz_stats.base.array import array_stats

    values = np.stack(list(draws.values()), axis=-1)
    axes: Any = {"chain_axis": 0, "draw_axis": 1}
    errors = [array_stats.mcse(values, method=of, **axes) for of in ("mean", "sd")]
    return values.mean(axis=(0, 1)), values.std(axis=(0, 1), ddof=1), *map(np.array, errors)
