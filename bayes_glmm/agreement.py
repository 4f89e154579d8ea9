r"""Whether posteriors of one model, sampled in different ways, agree.

Two samplers of one posterior differ by Monte Carlo error alone. For each parameter

.. math:: z = \frac{m_1 - m_2}{\sqrt{e_1^2 + e_2^2}},

``m`` the posterior means and ``e`` their Monte Carlo standard errors (SD over the root of the
effective sample size, from ArviZ), is about standard normal. Four is the usual limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from .datatree import draws_of
from .fit import Fit

LIMIT = 4.0  # |z| that chance does not explain for the dozens of parameters of a model
COLUMNS = ["label", "other", "parameter", "difference", "mcse", "z", "sd_ratio"]


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
        ``sd_ratio``. Empty without a pair.
    """
    sampled = {label: fit for label, fit in fits.items() if fit.draws is not None}
    tables = [
        _pair(a, sampled[a], b, sampled[b])
        for a, b in combinations(sampled, 2)
        if _same_posterior(sampled[a], sampled[b])
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


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
    )


def _pair(label: str, fit: Fit, other: str, second: Fit) -> pd.DataFrame:
    (mean, sd, error), (mean2, sd2, error2) = map(_moments, (fit, second))
    both = np.hypot(error, error2)
    table = {
        "label": label,
        "other": other,
        "parameter": list(fit.parameter_names),
        "difference": mean - mean2,
        "mcse": both,
        "z": (mean - mean2) / both,
        "sd_ratio": sd / sd2,
    }
    return pd.DataFrame(table, columns=COLUMNS)


def _moments(fit: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posterior means, SDs and Monte Carlo standard errors of the means."""
    from arviz_stats.base.array import array_stats

    draws = np.stack(list(draws_of(fit).values()), axis=-1)
    error = array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="mean")
    return draws.mean(axis=(0, 1)), draws.std(axis=(0, 1), ddof=1), np.asarray(error)
