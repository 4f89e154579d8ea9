"""The prior of a whole covariance matrix of correlated random effects."""

from dataclasses import dataclass
from math import isfinite, log, pi
from numbers import Real
from typing import ClassVar

import numpy as np
from scipy.special import gammaln

from .base import Prior
from .deviations import InverseGamma

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class InverseWishart(Prior):
    r"""Inverse-Wishart prior of the covariance matrix ``D`` of correlated random effects.

    .. math:: p(D) \propto |D|^{-(\nu + d + 1)/2} \exp(-\tfrac12 \operatorname{tr} S D^{-1}),
       \quad D^{-1} \sim \mathrm{Wishart}(\nu, S^{-1})

    with ``df`` the degrees of freedom, above ``d - 1``, and ``scale`` the matrix ``S``: rows in
    the order of the effects, or one number for that multiple of the identity. The variance of
    effect ``k`` is ``InverseGamma((df - d + 1) / 2, S_kk / 2)``; with ``df = d + 1`` and a
    diagonal ``S`` each correlation is uniform. SDs and correlations are not independent: large
    SDs come with strong correlations, and SDs near zero are ruled out.

    What is left out is Kass & Natarajan's (2006) default, taken from the data (empirical Bayes):
    ``df = d + 1`` and ``S = df I^-1``, ``I = sum_i Z_i' W_i Z_i / levels`` the average
    information about the effects of a level in the fit without random effects, so that the
    mean of ``D^-1`` is ``I``.
    """

    roles: ClassVar = frozenset({"covariance"})
    df: float | None = None
    scale: float | Matrix | None = None

    def __post_init__(self) -> None:
        """Turn what was given into floats, and refuse what is no covariance matrix."""
        if self.df is not None:
            if isinstance(self.df, bool) or not isinstance(self.df, Real):
                raise ValueError(f"InverseWishart(df={self.df!r}) must be a number.")
            if not (self.df > 0 and isfinite(self.df)):
                raise ValueError(f"InverseWishart(df={self.df:g}) must be positive and finite.")
            object.__setattr__(self, "df", float(self.df))
        if self.scale is not None:
            object.__setattr__(self, "scale", _read_scale(self.scale))

    @property
    def tail(self) -> float:
        """That of one SD, ``df - d + 2``, depends on the dimension: see ``margin``."""
        raise TypeError("The tail of InverseWishart depends on the dimension: use margin(k, d).")

    def matrix(self, dimension: int) -> np.ndarray:
        """``S`` for that many effects, shape (d, d)."""
        if isinstance(self.scale, float):
            return self.scale * np.eye(dimension)
        return np.array(self.scale, float)

    def check(self, dimension: int, where: str) -> None:
        """Refuse degrees of freedom or a matrix that do not go with ``dimension`` effects.

        Raises
        ------
        ValueError
            Naming ``where``, what was got and what is needed.
        """
        if self.df is not None and self.df <= dimension - 1:
            raise ValueError(
                f"{self.describe()} of {where} needs more than {dimension - 1} degrees of freedom "
                f"for {dimension} effects: {dimension + 1} is usual."
            )
        if isinstance(self.scale, tuple) and len(self.scale) != dimension:
            raise ValueError(
                f"{self.describe()} of {where} has a {len(self.scale)} x {len(self.scale)} scale, "
                f"and {where} has {dimension} effects: give a {dimension} x {dimension} matrix, or "
                "one number."
            )

    def resolved(self, information: np.ndarray) -> "InverseWishart":
        """Give what was left out its value from the information of a level, (d, d)."""
        d = len(information)
        df = d + 1.0 if self.df is None else self.df
        if self.scale is not None:
            return InverseWishart(df, self.scale)
        S = df * np.linalg.inv(information)
        return InverseWishart(df, tuple(tuple(map(float, row)) for row in 0.5 * (S + S.T)))

    def margin(self, k: int, dimension: int) -> InverseGamma:
        """Prior of the variance of effect ``k`` alone."""
        shape = 0.5 * (self._df - dimension + 1.0)
        return InverseGamma(shape, 0.5 * float(self.matrix(dimension)[k, k]))

    @property
    def _df(self) -> float:
        assert self.df is not None, "degrees of freedom are set when the model is made"
        return self.df

    def logpdf(self, value):
        """Log density of covariance matrices ``value``, shape (..., d, d); -inf if not one."""
        D = np.asarray(value, float)
        d, df = D.shape[-1], self._df
        S = self.matrix(d)
        inside = np.all(np.linalg.eigvalsh(D) > 0, axis=-1)
        safe = np.where(inside[..., None, None], D, np.eye(d))
        logdet = np.linalg.slogdet(safe)[1]
        trace = np.trace(np.linalg.solve(safe, np.broadcast_to(S, safe.shape)), axis1=-2, axis2=-1)
        normaliser = 0.5 * df * (d * log(2.0) - np.linalg.slogdet(S)[1]) + _log_gamma(0.5 * df, d)
        density = -0.5 * (df + d + 1.0) * logdet - 0.5 * trace - normaliser
        return np.where(inside, density, -np.inf)[()]

    def logpdf_of_parts(self, sd, correlation):
        r"""Log density of SDs (..., d) and correlations (..., d, d), as ``D`` is made of them.

        ``D_jk = sd_j sd_k R_jk`` has the Jacobian :math:`2^d \prod_k \mathrm{sd}_k^d`.
        """
        sd = np.asarray(sd, float)
        d = sd.shape[-1]
        with np.errstate(divide="ignore"):
            jacobian = d * (log(2.0) + np.sum(np.log(sd), axis=-1))
        return self.logpdf(correlation * sd[..., :, None] * sd[..., None, :]) + jacobian

    def rvs(self, rng: np.random.Generator, size: int = 1, dimension: int = 2) -> np.ndarray:
        """Draw covariance matrices, shape (size, d, d)."""
        squares = rng.chisquare(self.degrees(dimension), (size, dimension))
        normals = rng.standard_normal((size, dimension * (dimension - 1) // 2))
        root = self.root(dimension)
        factors = np.array(
            [factor_rows(root, np.sqrt(a), b) for a, b in zip(squares, normals, strict=True)]
        )
        return factors @ np.swapaxes(factors, -1, -2)

    def degrees(self, dimension: int) -> np.ndarray:
        """Degrees of freedom of the squared diagonal of ``factor_rows``, shape (d,)."""
        return self._df - dimension + 1.0 + np.arange(dimension)

    def root(self, dimension: int) -> np.ndarray:
        """Cholesky factor of ``S``."""
        return np.linalg.cholesky(self.matrix(dimension))


def factor_rows(root: np.ndarray, diagonal, below) -> list[list]:
    """Lower triangular ``F = root B^-1``, with ``F F' = D`` (Bartlett's decomposition).

    ``B`` is lower triangular: the squares of its ``diagonal`` chi-square with
    ``InverseWishart.degrees``, the entries ``below``, in the order of ``correlations.pairs``,
    standard normal; then ``B'B`` is Wishart with scale ``I``. Entries may be numbers or symbols.
    """
    d = len(root)
    order = [(i, j) for j in range(d) for i in range(j + 1, d)]
    B = {pair: below[k] for k, pair in enumerate(order)}
    inverse: list[list] = [[0.0] * d for _ in range(d)]
    for j in range(d):
        inverse[j][j] = 1.0 / diagonal[j]
        for i in range(j + 1, d):
            left = sum(B[i, m] * inverse[m][j] for m in range(j, i))
            inverse[i][j] = -left / diagonal[i]
    return [
        [sum(root[i, m] * inverse[m][j] for m in range(j, i + 1)) if j <= i else 0.0
         for j in range(d)]
        for i in range(d)
    ]  # fmt: skip


def _read_scale(scale) -> float | Matrix:
    """Read a positive number, or a symmetric positive definite matrix as a tuple of rows."""
    got = f"InverseWishart(scale={scale!r})"
    try:
        found = np.array(scale, float)
    except (TypeError, ValueError):
        raise ValueError(f"{got} must be a number or the rows of a matrix.") from None
    if isinstance(scale, bool) or found.ndim not in (0, 2) or not np.all(np.isfinite(found)):
        raise ValueError(f"{got} must be a finite number or the rows of a matrix.")
    if found.ndim == 0:
        if found <= 0:
            raise ValueError(f"{got} must be positive.")
        return float(found)
    square = found.shape[0] == found.shape[1] and np.array_equal(found, found.T)
    if not square or np.any(np.linalg.eigvalsh(found) <= 0):
        raise ValueError(f"{got} must be a symmetric positive definite matrix.")
    return tuple(tuple(map(float, row)) for row in found)


def _log_gamma(a: float, d: int) -> float:
    """Log of the multivariate gamma function of dimension ``d``."""
    return 0.25 * d * (d - 1) * log(pi) + float(np.sum(gammaln(a - 0.5 * np.arange(d))))
