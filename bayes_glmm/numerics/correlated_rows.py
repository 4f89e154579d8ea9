r"""Rows correlated within clusters: one Cholesky factor for each distinct pattern of times.

Clusters whose rows lie at the same times have one correlation matrix ``R = L L'``. Columns of
the data multiplied by ``L^{-1}`` cluster by cluster, *whitened*, have independent rows, so that
the algebra of uncorrelated residuals serves.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .clusters import Clusters
from .level_blocks import triangular

Correlation = Callable[[Any], np.ndarray]  # geometry of a cluster -> (m, m), or (k, m, m)


@dataclass(frozen=True, eq=False)
class AlikeClusters:
    """Clusters with one correlation matrix.

    ``rows`` are positions of rows, times ascending, shape ``(clusters, m)``; ``geometry`` is
    what the correlation is a function of.
    """

    rows: np.ndarray
    geometry: Any


class CorrelatedRows:
    """Rows in clusters, in any order.

    Parameters
    ----------
    cluster
        Of each row, integers, shape ``(n,)``.
    time
        Of each row, shape ``(n,)``.
    alike
        Which clusters have one correlation matrix: those with the same "times", with the same
        times since their first row ("lags"), or with as many rows ("size").
    geometry
        What of the times, ``(m,)`` and ascending, the correlation is a function of.

    Attributes
    ----------
    patterns
        The distinct patterns.
    """

    def __init__(
        self,
        cluster: np.ndarray,
        time: np.ndarray,
        alike: Literal["times", "lags", "size"],
        geometry: Callable[[np.ndarray], Any],
    ) -> None:
        self.n = len(cluster)
        order = np.lexsort((time, cluster))
        code = np.cumsum(np.diff(cluster[order], prepend=cluster[order][:1]) != 0)
        found = Clusters(code, time[order])
        kinds = {
            "times": lambda: found.patterns,
            "lags": lambda: found.lag_patterns,
            "size": lambda: found.size_patterns,
        }
        self.patterns = [
            AlikeClusters(order[p.rows], geometry(np.asarray(p.wave, float)))
            for p in kinds[alike]()
        ]

    def whiten(self, correlation: Correlation) -> "Whitening":
        """Factor the correlation matrices.

        Raises
        ------
        numpy.linalg.LinAlgError
            If one is not positive definite.
        """
        roots = [np.linalg.cholesky(correlation(p.geometry)) for p in self.patterns]
        return Whitening(self, roots)


class Whitening:
    """The Cholesky factors ``L`` of the correlation matrices, pattern by pattern."""

    def __init__(self, rows: CorrelatedRows, roots: list[np.ndarray]) -> None:
        self.rows, self.roots = rows, roots
        self.inverses = [triangular(L, np.eye(len(L))) for L in roots]

    @property
    def log_det(self) -> float:
        """``log|R|`` over all clusters."""
        pairs = zip(self.rows.patterns, self.roots, strict=True)
        return 2.0 * sum(len(p.rows) * float(np.log(np.diag(L)).sum()) for p, L in pairs)

    def __call__(self, columns: np.ndarray) -> np.ndarray:
        """Multiply columns ``(n, k)`` by ``L^{-1}``, cluster by cluster."""
        out = np.empty_like(columns)
        for pattern, inverse in zip(self.rows.patterns, self.inverses, strict=True):
            out[pattern.rows] = inverse @ columns[pattern.rows]
        return out

    def slopes(self, derivatives: Correlation, loaded: np.ndarray, left: np.ndarray) -> np.ndarray:
        r"""Traces :math:`\sum_i \mathrm{tr}\{D_{ik}(I - F_iF_i' - e_ie_i')\}` by parameter.

        Parameters
        ----------
        derivatives
            Geometry to ``dR/dalpha``, shape ``(k, m, m)``; ``D = L^{-1} dR L^{-T}``.
        loaded, left
            Whitened ``F``, shape ``(n, c)``, and ``e``, shape ``(n,)``.

        Returns
        -------
        ndarray of shape (k,)
        """
        whole = np.column_stack([loaded, left])
        total: np.ndarray | float = 0.0
        for pattern, inverse in zip(self.rows.patterns, self.inverses, strict=True):
            block = whole[pattern.rows].transpose(1, 0, 2).reshape(len(inverse), -1)
            middle = -block @ block.T
            middle.ravel()[:: len(inverse) + 1] += len(pattern.rows)
            # tr(L^{-1} dR L^{-T} M) is the sum of the entries of dR times those of L^{-T} M L^{-1}
            outer = inverse.T @ middle @ inverse
            total = total + np.tensordot(derivatives(pattern.geometry), outer)
        return np.atleast_1d(total)


def simulate_rows(
    rows: CorrelatedRows, roots: Iterable[np.ndarray], noise: np.ndarray
) -> np.ndarray:
    """Correlate standard normal ``noise`` (n,): the inverse of whitening."""
    out = np.empty_like(noise)
    for pattern, L in zip(rows.patterns, roots, strict=True):
        out[pattern.rows] = noise[pattern.rows] @ L.T
    return out
