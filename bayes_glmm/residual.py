r"""Residual correlations of gaussian models: what remains between rows of one subject.

.. math:: \mathrm{Var}(y_i \mid b) = \sigma^2 R_i(\alpha), \qquad R_{jj} = 1

``sigma`` is the model's dispersion, the total residual SD. A correlation names its columns and
its parameters; the rows are put to it when a model is made. It knows the correlation matrix of
one cluster and its derivatives, in NumPy, for times in increasing order.

A parameter has a kind, which says on which scale it has no bounds and what prior it takes:
"rate" (log scale), "share" (logit) or "serial", a correlation (Fisher's z).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np


@dataclass(frozen=True)
class ResidualParameter:
    """A parameter of a residual correlation.

    Attributes
    ----------
    name
        In tables, and after ``residual_`` in draws and graphs.
    kind
        "rate", "share" or "serial".
    pair
        For one of many correlations: the two times, ``"1~2"``.
    """

    name: str
    kind: Literal["rate", "share", "serial"]
    pair: str = ""


@dataclass(frozen=True)
class ResidualCorrelation:
    """What all residual correlations share.

    Parameters
    ----------
    time
        Column of the times; None where they do not matter.
    by
        Column of the clusters (subjects), or several joined by ':'. Rows of different clusters
        are uncorrelated given the random effects.
    """

    name: ClassVar[str]
    # what the rows of two clusters must share to have one correlation matrix: the times since
    # the first row, the times themselves, or the number of rows
    alike: ClassVar[Literal["lags", "times", "size"]]
    whole_times: ClassVar[bool] = False
    labelled_times: ClassVar[bool] = False
    # whether a random intercept of the clusters beside it makes a correlation of the same form
    holds_intercept: ClassVar[bool] = False

    time: str | None
    by: str

    def __post_init__(self) -> None:
        for name in ("time", "by"):
            value = getattr(self, name)
            if value is None and name == "time" and self.alike == "size":
                continue
            if not isinstance(value, str) or not value:
                raise ValueError(
                    f"{type(self).__name__}({name}={value!r}) needs the name of a column of the "
                    "data, as text."
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that it reads."""
        return (*self.by.split(":"), *([self.time] if self.time else []))

    @property
    def repeats_allowed(self) -> bool:
        """Whether two rows of a cluster may have the same time."""
        return self.alike == "size"

    def parameters(self, times: Sequence) -> tuple[ResidualParameter, ...]:
        """List the parameters, given the distinct times of the data (or their labels)."""
        raise NotImplementedError

    def geometry(self, time: np.ndarray) -> np.ndarray:
        """Give what the correlation depends on, of ascending times ``(m,)``: the lags."""
        return np.abs(time[:, None] - time)

    def distances(self, geometry: np.ndarray, parameters: int) -> np.ndarray:
        """Give what the correlation of each two rows depends on, shape ``(m, m)``: their lag.

        The diagonal has no meaning. ``parameters`` is how many there are.
        """
        return geometry

    def between(self, values: Any, distance: Any, exp=np.exp) -> Any:
        """Correlations of two different rows, by their ``distances``, elementwise.

        The one formula of a kind: numbers and symbols serve, the latter with their own ``exp``.
        """
        raise NotImplementedError

    def correlation(self, values: np.ndarray, geometry: np.ndarray) -> np.ndarray:
        """Correlation matrix of a cluster's rows, shape ``(m, m)``.

        Parameters
        ----------
        values
            Of the parameters, shape ``(k,)``.
        geometry
            Of the cluster's times.
        """
        R = self.between(values, self.distances(geometry, len(values)))
        R.ravel()[:: len(R) + 1] = 1.0
        return R

    def derivatives(self, values: np.ndarray, geometry: np.ndarray) -> np.ndarray:
        """Differentiate ``correlation`` by the parameters, shape ``(k, m, m)``."""
        raise NotImplementedError

    def curvature(
        self, values: np.ndarray, geometry: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        r"""Sum the second derivatives of ``correlation``, shape ``(m, m)``.

        .. math:: \sum_{kl} w_{kl}\, \partial^2 R / \partial\alpha_k \partial\alpha_l

        Zero where the correlation is linear in its parameters. ``weights`` is symmetric, shape
        ``(k, k)``.
        """
        return np.zeros((len(geometry), len(geometry)))

    def serial_range(self, largest: int) -> tuple[float, float]:
        """Bounds of a serial correlation, with ``largest`` rows in the largest cluster."""
        return -1.0, 1.0

    def starts(self, gaps: np.ndarray, times: int) -> list[np.ndarray]:
        """Parameter values from which to search.

        Parameters
        ----------
        gaps
            Times between a row and the next of its cluster.
        times
            Number of distinct times.
        """
        raise NotImplementedError

    def __str__(self) -> str:
        """Write it as the user does."""
        options = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(options)})"


@dataclass(frozen=True)
class Exponential(ResidualCorrelation):
    r"""Correlation that decays exponentially with the distance in time, at any real times.

    .. math:: R_{jk} = (1 - \nu) e^{-\phi |t_j - t_k|}, \quad j \ne k

    ``phi`` is the rate (the range of nlme's ``corExp`` is ``1 / phi``, the half-life
    ``log(2) / phi``); ``nu``, the nugget, is the share of the residual variance that belongs to
    single rows, measurement error, and is zero without ``nugget``.

    Parameters
    ----------
    time
        Column of the times, numbers.
    by
        Column of the clusters.
    nugget
        Whether there is one; with it rows of a cluster may share a time.
    """

    name: ClassVar = "exponential"
    alike: ClassVar = "lags"

    nugget: bool = False

    @property
    def repeats_allowed(self) -> bool:
        """With a nugget two rows at one time are not perfectly correlated."""
        return self.nugget

    def parameters(self, times: Sequence) -> tuple[ResidualParameter, ...]:
        """``phi`` and, with a nugget, ``nugget``."""
        found = [ResidualParameter("phi", "rate")]
        return (*found, *([ResidualParameter("nugget", "share")] if self.nugget else []))

    def between(self, values: Any, distance: Any, exp=np.exp) -> Any:
        """See the class."""
        decay = exp(-values[0] * distance)
        return (1.0 - values[1]) * decay if self.nugget else decay

    def derivatives(self, values: np.ndarray, geometry: np.ndarray) -> np.ndarray:
        """By ``phi`` and the nugget."""
        found = np.empty((1 + self.nugget, *geometry.shape))
        decay = np.exp(-values[0] * geometry)
        found[0] = -geometry * decay
        if self.nugget:
            found[0] *= 1.0 - values[1]
            decay.ravel()[:: len(decay) + 1] = 0.0
            found[1] = -decay
        return found

    def curvature(
        self, values: np.ndarray, geometry: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Twice by ``phi``, and by ``phi`` and the nugget."""
        slope = geometry * np.exp(-values[0] * geometry)  # zero on the diagonal
        if not self.nugget:
            return weights[0, 0] * geometry * slope
        return (weights[0, 0] * (1.0 - values[1]) * geometry + 2.0 * weights[0, 1]) * slope

    def starts(self, gaps: np.ndarray, times: int) -> list[np.ndarray]:
        """Ranges from one gap to sixteen, with small and large nuggets: there are local maxima."""
        ranges = np.median(gaps) * np.array([1.0, 4.0, 16.0])
        nuggets = (0.1, 0.4) if self.nugget else (None,)
        return [np.array([1.0 / r] if n is None else [1.0 / r, n]) for r in ranges for n in nuggets]


@dataclass(frozen=True)
class AR1(ResidualCorrelation):
    r"""First-order autoregression at whole-numbered times: ``R_jk = rho^|t_j - t_k|``.

    Parameters
    ----------
    time
        Column of the times: whole numbers, gaps allowed.
    by
        Column of the clusters.
    """

    name: ClassVar = "ar1"
    alike: ClassVar = "lags"
    whole_times: ClassVar = True

    def parameters(self, times: Sequence) -> tuple[ResidualParameter, ...]:
        """``rho``, between -1 and 1."""
        return (ResidualParameter("rho", "serial"),)

    def between(self, values: Any, distance: Any, exp=np.exp) -> Any:
        """See the class."""
        return values[0] ** distance

    def derivatives(self, values: np.ndarray, geometry: np.ndarray) -> np.ndarray:
        """By ``rho``."""
        return (geometry * np.power(values[0], np.maximum(geometry - 1.0, 0.0)))[None]

    def curvature(
        self, values: np.ndarray, geometry: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Twice by ``rho``."""
        power = np.power(values[0], np.maximum(geometry - 2.0, 0.0))
        return weights[0, 0] * geometry * (geometry - 1.0) * power

    def starts(self, gaps: np.ndarray, times: int) -> list[np.ndarray]:
        """Weak, strong and negative correlations of neighbours.

        None is negative where all distances are even, which do not tell the sign.
        """
        weak, strong = (np.array([rho]) ** (1.0 / np.median(gaps)) for rho in (0.3, 0.8))
        return [weak, strong, *([-weak] if np.any(gaps % 2.0 == 1.0) else [])]


@dataclass(frozen=True)
class CompoundSymmetry(ResidualCorrelation):
    """The same correlation, ``rho``, between any two rows of a cluster; it may be negative.

    Parameters
    ----------
    by
        Column of the clusters.
    """

    name: ClassVar = "compound_symmetry"
    alike: ClassVar = "size"
    holds_intercept: ClassVar = True

    time: None = field(default=None, init=False)
    by: str = ""

    def parameters(self, times: Sequence) -> tuple[ResidualParameter, ...]:
        """``rho``, above ``-1 / (m - 1)`` for clusters of ``m`` rows."""
        return (ResidualParameter("rho", "serial"),)

    def between(self, values: Any, distance: Any, exp=np.exp) -> Any:
        """Give all the same."""
        return values[0] + 0.0 * distance

    def derivatives(self, values: np.ndarray, geometry: np.ndarray) -> np.ndarray:
        """By ``rho``."""
        return (1.0 - np.eye(len(geometry)))[None]

    def serial_range(self, largest: int) -> tuple[float, float]:
        """From ``-1 / (largest - 1)``, where the rows of the largest cluster sum to zero."""
        return -1.0 / (largest - 1), 1.0

    def starts(self, gaps: np.ndarray, times: int) -> list[np.ndarray]:
        """Weak and strong."""
        return [np.array([rho]) for rho in (0.1, 0.6)]


@dataclass(frozen=True)
class Unstructured(ResidualCorrelation):
    """A correlation of its own for every pair of times; one variance for all.

    Parameters
    ----------
    time
        Column of the times, numbers or categories: few, and each at most once in a cluster.
    by
        Column of the clusters.
    """

    name: ClassVar = "unstructured"
    alike: ClassVar = "times"
    labelled_times: ClassVar = True
    holds_intercept: ClassVar = True

    def parameters(self, times: Sequence) -> tuple[ResidualParameter, ...]:
        """One for each pair of times, column by column of the lower triangle."""
        k = len(times)
        return tuple(
            ResidualParameter("corr", "serial", f"{times[j]}~{times[i]}")
            for j in range(k)
            for i in range(j + 1, k)
        )

    def geometry(self, time: np.ndarray) -> np.ndarray:
        """Numbers of the times, 0, 1, 2, …."""
        return time.astype(np.int64)

    def distances(self, geometry: np.ndarray, parameters: int) -> np.ndarray:
        """Give the number of the parameter."""
        row, column, k = self._places(parameters)
        number = np.zeros((k, k), np.int64)
        number[row, column] = number[column, row] = np.arange(parameters)
        return number[np.ix_(geometry, geometry)]

    def between(self, values: Any, distance: Any, exp=np.exp) -> Any:
        """See the class."""
        return values[distance]

    def derivatives(self, values: np.ndarray, geometry: np.ndarray) -> np.ndarray:
        """One where the pair stands."""
        row, column, _ = self._places(len(values))
        left, right = geometry[:, None], geometry
        one = (left == row[:, None, None]) & (right == column[:, None, None])
        return (one | one.transpose(0, 2, 1)).astype(float)

    def _places(self, parameters: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Rows and columns of the parameters in the matrix of all ``k`` times, and ``k``."""
        k = round((1 + np.sqrt(1 + 8 * parameters)) / 2)
        column, row = np.triu_indices(k, 1)
        return row, column, k

    def starts(self, gaps: np.ndarray, times: int) -> list[np.ndarray]:
        """Independence, and correlations that decay with the distance in order."""
        row, column, _ = self._places(times * (times - 1) // 2)
        return [np.full(len(row), 0.05), 0.6 ** np.abs(row - column).astype(float)]


KINDS = {kind.name: kind for kind in (Exponential, AR1, CompoundSymmetry, Unstructured)}
