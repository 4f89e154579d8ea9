"""What estimating equations are made of: rows by cluster, their association, the equations."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ...numerics.bind import Bound
from ...numerics.clusters import Clusters

KINDS = ("robust", "mancl-derouen", "kauermann-carroll", "naive")  # of covariance


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a model in the order of its clusters; ``X`` is transposed, ``(p, n)``.

    ``y, trials, offset`` have shape ``(n,)``; ``labels`` are the times that the waves stand
    for, or None; ``order`` are rows of the design.
    """

    bound: Bound
    y: np.ndarray
    trials: np.ndarray
    offset: np.ndarray
    X: np.ndarray
    clusters: Clusters
    cluster: str
    labels: tuple | None
    order: np.ndarray

    @property
    def p(self) -> int:
        """Coefficients."""
        return len(self.X)


@dataclass(frozen=True, eq=False)
class Equations:
    """The estimating equations at one point, in standardised rows.

    ``r`` (n,) are residuals of variance ``scale``, ``columns`` (p, n) the derivative of the
    mean in the same units, ``solved`` (p, n) these multiplied by the inverse working
    correlation.
    """

    r: np.ndarray
    columns: np.ndarray
    solved: np.ndarray
    clusters: Clusters

    @cached_property
    def scores(self) -> np.ndarray:
        r"""Each cluster's :math:`s_i = X_i^{*\prime} R_i^{-1} r_i`, shape ``(p, K)``."""
        return self.clusters.total(self.solved * self.r)

    @cached_property
    def information(self) -> np.ndarray:
        r""":math:`B = \sum_i X_i^{*\prime} R_i^{-1} X_i^*`, shape ``(p, p)``."""
        return self.columns @ self.solved.T

    def blocks(self) -> np.ndarray:
        """Each cluster's part of ``B``, shape ``(K, p, p)``."""
        p = len(self.columns)
        blocks = np.empty((self.clusters.count, p, p))
        for i in range(p):
            blocks[:, i, i:] = self.clusters.total(self.columns[i] * self.solved[i:]).T
            blocks[:, i:, i] = blocks[:, i, i:]
        return blocks


class Association(Protocol):
    """How rows of a cluster hang together: what ``solve`` asks of it."""

    @property
    def name(self) -> str:
        """Name it as tables do."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of covariance that there are."""
        ...

    def robust(self, solution: Any) -> np.ndarray | None:
        """Give the robust covariance where it is not that of beta's equations alone."""
        ...

    def on(self, rows: Rows) -> "Association":
        """Give the same association of rows with other columns or offsets."""
        ...

    def start(self) -> np.ndarray:
        """Give alpha before the first step."""
        ...

    def state(self, beta: np.ndarray, alpha: np.ndarray) -> Any:
        """Work out what the next two need."""
        ...

    def estimate(self, state: Any, alpha: np.ndarray) -> np.ndarray:
        """Estimate alpha."""
        ...

    def equations(self, state: Any, alpha: np.ndarray) -> Equations:
        """Give the equations of beta."""
        ...

    def scale(self, state: Any) -> float:
        """Estimate the scale, or give the fixed one."""
        ...

    def least_eigenvalue(self, solution: Any) -> float:
        """Give the least eigenvalue of all clusters' working correlations."""
        ...

    def details(self, solution: Any) -> Mapping[str, Any]:
        """Give what else there is to say of a solution."""
        ...


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows with their association."""

    rows: Rows
    association: Association

    @property
    def clusters(self) -> Clusters:
        """The clusters of the rows."""
        return self.rows.clusters

    @property
    def cluster(self) -> str:
        """The clustering column."""
        return self.rows.cluster
