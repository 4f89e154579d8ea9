r"""Rows correlated within clusters as the kernels take them, and their density in NumPy.

.. math:: \log p(y) = \sum_j \log N(w_j; 0, \sigma^2) - \log L_{jj}, \quad w = L^{-1}(y - \mu)

The term of a row is its log density given the earlier rows of its cluster
(``numerics.innovations``). ``correlated_response`` has the same in the graph.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..frequentist.lmm_search import rows_of
from ..numerics import innovations as kernels
from ..numerics.correlated_rows import AlikeClusters

LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Clusters and distances of a model's rows, in the user's order.

    Attributes
    ----------
    correlation
        The residual correlation.
    patterns
        Clusters that share a correlation matrix.
    distance
        Distinct distances of two rows of a cluster, which correlations are functions of.
    place
        Which of them each pair of rows has, as ``numerics.innovations`` takes it.
    """

    correlation: Any
    patterns: list[AlikeClusters]
    distance: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, model) -> "Arrangement":
        """Arrange the rows of a model with residual correlation."""
        repeated, order = model.repeated, model.design.order
        kind, count = repeated.correlation, len(repeated.parameters)
        patterns = [AlikeClusters(order[p.rows], p.geometry) for p in rows_of(repeated).patterns]
        matrices = [kind.distances(p.geometry, count) for p in patterns]
        between = np.concatenate([D[np.tril_indices(len(D), -1)] for D in matrices])
        distance, place = np.unique(between, return_inverse=True)
        return cls(kind, patterns, distance, place.ravel().astype(np.int64))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the kernels take last: ``size, place, rows``."""
        size = np.array([p.rows.shape[::-1] for p in self.patterns], np.int64)
        rows = np.concatenate([p.rows.ravel() for p in self.patterns])
        return size, self.place, rows.astype(np.int64)

    def correlations(self, values) -> np.ndarray:
        """Correlations of the distinct distances at the values of the parameters."""
        return np.asarray(self.correlation.between(values, self.distance), float)

    def information(self, values: np.ndarray, block, weights: np.ndarray) -> np.ndarray:
        """``Z' W^1/2 R^-1 W^1/2 Z`` of each level of a grouping factor, (levels, q, q).

        What couples the levels that rows of one cluster are in is left out.
        """
        found = np.zeros((block.n_levels, block.q, block.q))
        weighted = np.sqrt(weights)[:, None] * block.Z
        for p in self.patterns:
            inverse = np.linalg.inv(self.correlation.correlation(values, p.geometry))
            level, Z = block.index[p.rows], weighted[p.rows]
            same = (level[:, :, None] == level[:, None, :]) * inverse
            np.add.at(found, level, np.einsum("cja,cjk,ckb->cjab", Z, same, Z))
        return found


def usual_values(model) -> np.ndarray:
    """Values of the parameters that their priors, or else the data's times, make usual."""
    repeated, priors = model.repeated, model.priors.residual
    if not all(prior.proper for prior in priors.values()):
        return repeated.starts[0]
    if "corr" in priors:
        return np.zeros(len(repeated.parameters))
    return np.array([float(priors[p.name].ppf(0.5)) for p in repeated.parameters])


def values_of(model, draws) -> np.ndarray:
    """Parameters of the residual correlation of each draw, shape (…, parameters)."""
    parts = {name: np.asarray(draws[f"residual_{name}"]) for name in model.priors.residual}
    return parts["corr"] if "corr" in parts else np.stack(list(parts.values()), axis=-1)


def log_normal(z, log_scale):
    """Log density of ``z`` times a scale, ``z`` standard normal."""
    return -0.5 * z * z - log_scale - 0.5 * LOG_2PI


def simulate(rng: np.random.Generator, scale: float, correlations, arrays) -> np.ndarray:
    """Draw residuals, ``(n,)``; ``correlations`` and ``arrays`` are those of an ``Arrangement``."""
    noise = rng.standard_normal(len(arrays[2]))
    return scale * kernels.correlate(correlations, noise, *arrays)


def log_density(residuals, scale: float, correlations, arrays) -> np.ndarray:
    """Log density of each row given the earlier ones of its cluster, ``(n,)``.

    Parameters
    ----------
    residuals
        ``y - mu``, ``(n,)``.
    scale
        Residual SD.
    correlations, arrays
        Of an ``Arrangement``.
    """
    white, log_scale = kernels.innovations(correlations, np.array(residuals), *arrays)
    return log_normal(white / scale, log_scale + np.log(scale))


def partials_of(values: np.ndarray, times: int) -> np.ndarray:
    """Undo ``correlations_of``, in numbers."""
    column, row = np.triu_indices(times, 1)
    R = np.eye(times)
    R[row, column] = R[column, row] = values
    L = np.linalg.cholesky(R)
    left = 1.0 - np.cumsum(L**2, axis=1) + L**2
    return L[row, column] / np.sqrt(left[row, column])
