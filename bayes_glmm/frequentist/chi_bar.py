r"""Chi-bar-squares: likelihood ratios of hypotheses on the boundary of the parameter space.

At the null the larger model's parameters may move in a cone: freely in some directions, in
others such that new variances are not negative and new covariance matrices positive
semidefinite. With the information ``J`` of the latter (given all free ones) and
``Z ~ N(0, J^{-1})`` the likelihood ratio tends to

.. math:: \chi^2_{m} + \lVert Z\rVert_J^2 - \min_{c \in C} \lVert Z - c\rVert_J^2,

``m`` the number of free new parameters (Chernoff 1954; Self & Liang 1987; Shapiro 1988,
*International Statistical Review* 56).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

DRAWS = 100_000
ROUNDS = 200  # of the projection; it ends before where nothing moves
STILL = 1e-7
RESOLUTION = 1e-6  # of a likelihood ratio: the searches find maxima no better


def likelihood_ratio(less: float, more: float) -> float:
    """Twice the difference of two maximised log-likelihoods, the smaller model's first.

    Zero where it is negative, or no more than the error of the maxima: at zero a reference
    distribution may have a point of probability, so that rounding must not count.
    """
    ratio = 2.0 * (more - less)
    return ratio if not ratio <= RESOLUTION else 0.0


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of chi-squares: ``weights`` on degrees of freedom ``df``; 0 is a point at zero.

    ``simulated`` says that the weights have Monte Carlo error.
    """

    weights: tuple[float, ...]
    df: tuple[int, ...]
    simulated: bool = False

    def p_value(self, statistic: float) -> float:
        """Probability of a value of at least ``statistic``."""
        tails = [float(chi2.sf(statistic, d)) if d else float(statistic <= 0.0) for d in self.df]
        return float(np.dot(self.weights, tails))

    def error(self, statistic: float) -> float:
        """Monte Carlo standard error of the p-value."""
        if not self.simulated:
            return 0.0
        tails = np.array([chi2.sf(statistic, d) if d else statistic <= 0.0 for d in self.df])
        variance = np.dot(self.weights, tails**2) - np.dot(self.weights, tails) ** 2
        return float(np.sqrt(max(variance, 0.0) / DRAWS))

    def __str__(self) -> str:
        """Write it as a sum: ``0.5 chi2(0) + 0.5 chi2(1)``."""
        if self.weights == (1.0,):
            return f"chi2({self.df[0]})"
        digits = "{:.3f}" if self.simulated else "{:.3g}"
        pairs = zip(self.weights, self.df, strict=True)
        return " + ".join(f"{digits.format(w)} chi2({d})" for w, d in pairs)


@dataclass(frozen=True, eq=False)
class Simulated:
    """Draws of the cone's part of the likelihood ratio, and ``free`` parameters beside it."""

    draws: np.ndarray
    free: int
    weights: tuple[float, ...] = ()
    df: tuple[int, ...] = ()

    def _tails(self, statistic: float) -> np.ndarray:
        if self.free:
            return chi2.sf(statistic - self.draws, self.free)
        return (self.draws >= statistic).astype(float)

    def p_value(self, statistic: float) -> float:
        """Probability of a value of at least ``statistic``."""
        return 1.0 if statistic <= 0.0 else float(self._tails(statistic).mean())

    def error(self, statistic: float) -> float:
        """Monte Carlo standard error of the p-value."""
        return float(self._tails(statistic).std() / np.sqrt(len(self.draws)))

    def __str__(self) -> str:
        """Say what it is."""
        beside = f" and chi2({self.free})" if self.free else ""
        return f"chi-bar-square of a cone{beside}, {len(self.draws)} draws"


Reference = Mixture | Simulated


def reference(free: int, cones: tuple[int, ...], information: np.ndarray | None, seed: Any = 1):
    """Give the reference distribution of a likelihood ratio.

    Parameters
    ----------
    free
        New parameters without a boundary.
    cones
        Sizes of the new covariance matrices whose null value is zero; 1 is a variance.
    information
        Of the cones' coordinates (lower triangles, column by column) given all free
        parameters; not needed for one variance or none.
    seed
        Of the draws, where there are any.
    """
    if not cones:
        return Mixture((1.0,), (free,))
    if cones == (1,):
        return Mixture((0.5, 0.5), (free, free + 1))
    if information is None:
        raise ValueError("Several variances need the information of their scores.")
    if cones == (1, 1):
        correlation = information[0, 1] / np.sqrt(information[0, 0] * information[1, 1])
        both = float(np.arccos(np.clip(correlation, -1.0, 1.0)) / (2.0 * np.pi))
        return Mixture((0.5 - both, 0.5, both), (free, free + 1, free + 2))
    points, at = projections(information, cones, seed)
    if set(cones) == {1}:
        counts = np.bincount((at > 0).sum(axis=1), minlength=len(cones) + 1) / DRAWS
        df = tuple(range(free, free + len(cones) + 1))
        return Mixture(tuple(map(float, counts)), df, simulated=True)
    drawn = np.einsum("ni,ij,nj->n", at, information, 2.0 * points - at)
    drawn = np.maximum(drawn, 0.0)
    if cones == (2,):
        return _matrix_of_two(drawn, points, at, free)
    return Simulated(drawn, free)


def _matrix_of_two(drawn, points, at, free: int) -> Mixture:
    """Weights of a cone in three dimensions: even and odd ones sum to a half each."""
    nothing = float((drawn < STILL).mean())
    inside = float((np.abs(points - at).max(axis=1) < STILL * np.abs(points).max()).mean())
    weights = (nothing, 0.5 - inside, 0.5 - nothing, inside)
    return Mixture(weights, tuple(range(free, free + 4)), simulated=True)


def projections(information: np.ndarray, cones: tuple[int, ...], seed, draws: int = DRAWS):
    """Draw ``Z ~ N(0, J^{-1})`` and project it on the cone in the metric of ``J``.

    Accelerated projected gradient (Beck & Teboulle 2009) for all draws at once; coordinates
    in which the sum of squares is Frobenius' norm, so that the step's projection is that of
    the eigenvalues.

    Returns
    -------
    points, projected
        Shape ``(draws, dimension)``, in the coordinates of ``information``.
    """
    scale = np.concatenate([_frobenius(k) for k in cones])
    J = information / np.outer(scale, scale)
    scale = scale * np.sqrt(np.diag(J).mean())  # the same unit for all: only ratios matter
    J = J / np.diag(J).mean()
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(np.linalg.inv(J))
    points = rng.standard_normal((draws, len(J))) @ root.T
    at = _on_cone(points, cones)
    outside = np.flatnonzero(np.abs(at - points).max(axis=1) > 0.0)
    at[outside] = _nearest(points[outside], at[outside], J, cones)
    return points / scale, at / scale


def _nearest(points: np.ndarray, at: np.ndarray, J: np.ndarray, cones: tuple[int, ...]):
    """Minimise ``(c - z)'J(c - z)`` over the cone, from ``at``."""
    step = 1.0 / np.linalg.eigvalsh(J)[-1]
    ahead, momentum = at, 1.0
    for _ in range(ROUNDS):
        new = _on_cone(ahead - step * (ahead - points) @ J, cones)
        faster = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = new + (momentum - 1.0) / faster * (new - at)
        moved = np.abs(new - at).max()
        at, momentum = new, faster
        if moved < STILL:
            break
    return at


def _frobenius(k: int) -> np.ndarray:
    """Weights of a lower triangle: an off-diagonal entry stands for two."""
    return np.array([1.0 if i == j else np.sqrt(2.0) for j in range(k) for i in range(j, k)])


def _on_cone(points: np.ndarray, cones: tuple[int, ...]) -> np.ndarray:
    """Project on the product of the cones, in Frobenius' norm."""
    out, start = np.empty_like(points), 0
    for k in cones:
        size = k * (k + 1) // 2
        part = points[:, start : start + size]
        nearest = {1: _positive_number, 2: _positive_two}.get(k, _positive)
        out[:, start : start + size] = nearest(part, k)
        start += size
    return out


def _positive_number(part: np.ndarray, k: int) -> np.ndarray:
    return np.maximum(part, 0.0)


def _positive_two(part: np.ndarray, k: int) -> np.ndarray:
    """Do the same for two rows: ``v v' = (M - lambda_2 I) / (lambda_1 - lambda_2)``."""
    a, b, c = part.T
    centre = 0.5 * (a + c)
    radius = np.hypot(0.5 * (a - c), b / np.sqrt(2.0))
    low, high = centre - radius, centre + radius
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(high <= 0.0, 0.0, high / (2.0 * radius))
    one = np.column_stack([share * (a - low), share * b, share * (c - low)])
    return np.where((low >= 0.0)[:, None], part, one)


def _positive(part: np.ndarray, k: int) -> np.ndarray:
    """Nearest positive semidefinite matrices, as scaled lower triangles."""
    entries = [(i, j) for j in range(k) for i in range(j, k)]
    rows, columns = (list(t) for t in zip(*entries, strict=True))
    matrix = np.zeros((len(part), k, k))
    matrix[:, rows, columns] = matrix[:, columns, rows] = part / _frobenius(k)
    values, vectors = np.linalg.eigh(matrix)
    matrix = np.einsum("nik,nk,njk->nij", vectors, np.maximum(values, 0.0), vectors)
    return matrix[:, rows, columns] * _frobenius(k)
