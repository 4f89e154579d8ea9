"""Priors of a whole covariance matrix of correlated random effects."""

from dataclasses import dataclass
from math import isfinite, log, pi
from numbers import Real
from typing import ClassVar

import numpy as np
from scipy.special import gammaln

from .base import Prior
from .correlations import pairs
from .deviations import InverseGamma

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class CovariancePrior(Prior):
    """A prior of a covariance matrix ``D``, as one density.

    A kind of it states ``logpdf``; its ``margin`` of one standard deviation; how fast the tail of
    several falls; and how ``D = F F'``, ``F`` lower triangular, is made of independent variables:
    ``pieces`` of the diagonal and below it, PyMC's distributions as data, and ``factor_rows`` of
    their values. Draws and the graph use this form.
    """

    roles: ClassVar = frozenset({"covariance"})
    matrix_name: ClassVar[str]  # the hyperparameter that is a matrix

    @property
    def complete(self) -> bool:
        """Whether no hyperparameter is to be taken from the data."""
        return getattr(self, self.matrix_name) is not None

    @property
    def tail(self) -> float:
        """That of one SD depends on the dimension: see ``margin``."""
        kind = type(self).__name__
        raise TypeError(f"The tail of {kind} depends on the dimension: use margin(k, d).")

    def check(self, dimension: int, where: str) -> None:
        """Refuse hyperparameters that do not go with ``dimension`` effects.

        Raises
        ------
        ValueError
            Naming ``where``, what was got and what is needed.
        """
        rows = getattr(self, self.matrix_name)
        if isinstance(rows, tuple) and len(rows) != dimension:
            raise ValueError(
                f"{self.describe()} of {where} has a {len(rows)} x {len(rows)} "
                f"{self.matrix_name}, and {where} has {dimension} effects: give a {dimension} x "
                f"{dimension} matrix, or one number."
            )

    def matrix(self, dimension: int) -> np.ndarray:
        """Give the matrix hyperparameter for that many effects, shape (d, d)."""
        rows = getattr(self, self.matrix_name)
        return rows * np.eye(dimension) if isinstance(rows, float) else np.array(rows, float)

    def resolved(self, information: np.ndarray) -> "CovariancePrior":
        """Give what was left out its value from the information of a level, (d, d)."""
        raise NotImplementedError

    def margin(self, k: int, dimension: int) -> Prior:
        """Prior of the standard deviation of effect ``k`` alone."""
        raise NotImplementedError

    def decay(self, m: int, dimension: int) -> float:
        """Power at which the probability of ``m`` large SDs falls in their common size."""
        raise NotImplementedError

    def pieces(self, dimension: int) -> tuple[tuple[str, dict], tuple[str, dict]]:
        """Distributions of the diagonal (d,) and of ``correlations.pairs``, as PyMC names them."""
        raise NotImplementedError

    def factor_rows(self, diagonal, below, dimension: int, sqrt=np.sqrt) -> list[list]:
        """Lower triangular ``F``, ``F F' = D``, of numbers or symbols with their ``sqrt``."""
        raise NotImplementedError

    def rvs(self, rng: np.random.Generator, size: int = 1, dimension: int = 2) -> np.ndarray:
        """Draw covariance matrices, shape (size, d, d)."""
        shapes = (size, dimension), (size, len(pairs(dimension)))
        diagonal, below = (
            _SAMPLED[name](rng, shape, **parameters)
            for (name, parameters), shape in zip(self.pieces(dimension), shapes, strict=True)
        )
        factors = np.array(
            [self.factor_rows(a, b, dimension) for a, b in zip(diagonal, below, strict=True)]
        )
        return factors @ np.swapaxes(factors, -1, -2)

    def logpdf_of_parts(self, sd, correlation):
        r"""Log density of SDs (..., d) and correlations (..., d, d), as ``D`` is made of them.

        ``D_jk = sd_j sd_k R_jk`` has the Jacobian :math:`2^d \prod_k \mathrm{sd}_k^d`.
        """
        sd = np.asarray(sd, float)
        d = sd.shape[-1]
        with np.errstate(divide="ignore"):
            jacobian = d * (log(2.0) + np.sum(np.log(sd), axis=-1))
        return self.logpdf(correlation * sd[..., :, None] * sd[..., None, :]) + jacobian


# how the pieces are drawn in NumPy
_SAMPLED = {
    "ChiSquared": lambda rng, shape, nu: rng.chisquare(nu, shape),
    "Normal": lambda rng, shape, mu, sigma: rng.normal(mu, sigma, shape),
    "Beta": lambda rng, shape, alpha, beta: rng.beta(alpha, beta, shape),
    "StudentT": lambda rng, shape, nu, mu, sigma: mu + sigma * rng.standard_t(nu, shape),
}


@dataclass(frozen=True)
class InverseWishart(CovariancePrior):
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

    matrix_name: ClassVar = "scale"
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
            object.__setattr__(self, "scale", _read_matrix("InverseWishart(scale", self.scale))

    @property
    def complete(self) -> bool:
        """Whether neither ``df`` nor ``scale`` is to be taken from the data."""
        return self.df is not None and self.scale is not None

    def check(self, dimension: int, where: str) -> None:
        """Refuse degrees of freedom or a matrix that do not go with ``dimension`` effects."""
        if self.df is not None and self.df <= dimension - 1:
            raise ValueError(
                f"{self.describe()} of {where} needs more than {dimension - 1} degrees of freedom "
                f"for {dimension} effects: {dimension + 1} is usual."
            )
        super().check(dimension, where)

    def resolved(self, information: np.ndarray) -> "InverseWishart":
        """Give what was left out its value from the information of a level, (d, d)."""
        d = len(information)
        df = d + 1.0 if self.df is None else self.df
        if self.scale is not None:
            return InverseWishart(df, self.scale)
        return InverseWishart(df, _as_rows(df * np.linalg.inv(information)))

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

    def decay(self, m: int, dimension: int) -> float:
        """``m (df - d + m)``: ``m`` effects have an inverse-Wishart margin, ``df - d + m``."""
        return m * (self._df - dimension + m)

    def pieces(self, dimension: int) -> tuple[tuple[str, dict], tuple[str, dict]]:
        """Bartlett's: chi-square with ``df - d + 1, …, df`` degrees of freedom, and normal."""
        degrees = self._df - dimension + 1.0 + np.arange(dimension)
        return ("ChiSquared", {"nu": degrees}), ("Normal", {"mu": 0.0, "sigma": 1.0})

    def factor_rows(self, diagonal, below, dimension: int, sqrt=np.sqrt) -> list[list]:
        """``F = root B^-1``, ``root root' = S`` and ``B'B`` Wishart with scale ``I``.

        ``B`` is lower triangular, its diagonal squared and its entries below as in ``pieces``.
        """
        B = dict(zip(pairs(dimension), below, strict=True))
        inverse: list[list] = [[0.0] * dimension for _ in range(dimension)]
        for j in range(dimension):
            inverse[j][j] = 1.0 / sqrt(diagonal[j])
            for i in range(j + 1, dimension):
                left = sum(B[i, m] * inverse[m][j] for m in range(j, i))
                inverse[i][j] = -left / sqrt(diagonal[i])
        return _product(np.linalg.cholesky(self.matrix(dimension)), inverse)


@dataclass(frozen=True)
class UniformShrinkageMatrix(CovariancePrior):
    r"""Uniform-shrinkage prior of a covariance matrix (Natarajan & Kass 2000).

    .. math:: p(D) = \frac{\Gamma_d(d + 1)}{\Gamma_d(\frac{d+1}2)^2}
       |W|^{(d+1)/2} \, |I + W D|^{-(d+1)}

    The shrinkage ``(I + C'D C)^-1``, ``C C' = W``, of a typical level towards the mean is uniform
    over the symmetric matrices between 0 and ``I``; ``C'D C`` has a matrix beta distribution of
    the second kind with both parameters ``(d + 1) / 2``. These are above ``(d - 1) / 2``, so it is
    proper, with moments of SDs below the second. The variance of effect ``k`` over ``V_kk``,
    ``V = W^-1``, is ``BetaPrime((d + 1) / 2, 1)``; one effect alone is ``UniformShrinkage``.

    ``weight`` is ``W``, the information that the data of a typical level hold about its effects:
    rows, or one number for that multiple of the identity. None takes it from the data, as
    ``sum_i Z_i' W_i Z_i / levels`` with the weights of the fit without random effects (empirical
    Bayes: the prior then depends on the response).
    """

    matrix_name: ClassVar = "weight"
    weight: float | Matrix | None = None

    def __post_init__(self) -> None:
        """Refuse what is no information matrix."""
        if self.weight is not None:
            got = _read_matrix("UniformShrinkageMatrix(weight", self.weight)
            object.__setattr__(self, "weight", got)

    def resolved(self, information: np.ndarray) -> "UniformShrinkageMatrix":
        """Take ``W`` from the information of a level, (d, d)."""
        return self if self.complete else UniformShrinkageMatrix(_as_rows(information))

    def margin(self, k: int, dimension: int) -> "ShrunkVariance":
        """Prior of the standard deviation of effect ``k`` alone."""
        return ShrunkVariance(float(np.linalg.inv(self.matrix(dimension))[k, k]), dimension)

    def decay(self, m: int, dimension: int) -> float:
        """``m (m + 1)``, as of an inverse Wishart with ``d + 1`` degrees of freedom."""
        return m * (m + 1.0)

    def logpdf(self, value):
        """Log density of covariance matrices ``value``, shape (..., d, d); -inf if not one."""
        D = np.asarray(value, float)
        d = D.shape[-1]
        W = self.matrix(d)
        inside = np.all(np.linalg.eigvalsh(D) > 0, axis=-1)
        # symmetric, so that its determinant is that of a positive definite matrix
        C = np.linalg.cholesky(W)
        logdet = np.linalg.slogdet(np.eye(d) + C.T @ D @ C)[1]
        a = 0.5 * (d + 1.0)
        constant = _log_gamma(2.0 * a, d) - 2.0 * _log_gamma(a, d) + a * np.linalg.slogdet(W)[1]
        return np.where(inside, constant - 2.0 * a * logdet, -np.inf)[()]

    def pieces(self, dimension: int) -> tuple[tuple[str, dict], tuple[str, dict]]:
        """Beta of ``e / (1 + e)``, ``e`` effect ``i`` given those before, and Student-t.

        Effect ``i`` is ``BetaPrime((d + 1 - i) / 2, 1 + i / 2)``; the column below it, divided by
        ``factor_rows``' Cholesky factor, is spherical Student-t with ``d + 3`` degrees of freedom,
        so that entry ``k`` given those above it is Student-t with ``d + 3 + k``.
        """
        i = np.arange(dimension)
        first = "Beta", {"alpha": 0.5 * (dimension + 1.0 - i), "beta": 1.0 + 0.5 * i}
        nu = np.array([dimension + 3.0 + (row - column - 1) for row, column in pairs(dimension)])
        return first, ("StudentT", {"nu": nu, "mu": 0.0, "sigma": 1.0})

    def factor_rows(self, diagonal, below, dimension: int, sqrt=np.sqrt) -> list[list]:
        """``F = root T``, ``root root' = W^-1``, ``T T'`` of the matrix beta distribution.

        From the last effect to the first, with ``e`` its variance given those before and ``z`` the
        column below it,

            T = [ sqrt(e)              0  ]     M = [ sqrt(1 + e)          0            ]
                [ sqrt(1 + e) M' z     T' ]         [ sqrt(e) M' z     M' chol(I + zz') ]

        where ``T'`` and ``M'``, ``M M' = I + T T'``, are those of the later effects.
        """
        nu = self.pieces(dimension)[1][1]["nu"]
        column: dict[int, list] = {j: [] for j in range(dimension)}
        for (_, j), t, degrees in zip(pairs(dimension), below, nu, strict=True):
            length = 1.0 + sum(z * z for z in column[j])
            column[j].append(t * sqrt(length / degrees))
        T: list[list] = []
        M: list[list] = []
        for j in reversed(range(dimension)):
            one, e = 1.0 / (1.0 - diagonal[j]), diagonal[j] / (1.0 - diagonal[j])
            z = column[j]
            Mz = [sum(row[k] * z[k] for k in range(len(z))) for row in M]
            M = _product(M, _unit_update(z, sqrt))
            M = _bordered(sqrt(one), [sqrt(e) * x for x in Mz], M)
            T = _bordered(sqrt(e), [sqrt(one) * x for x in Mz], T)
        return _product(np.linalg.cholesky(np.linalg.inv(self.matrix(dimension))), T)


@dataclass(frozen=True)
class ShrunkVariance(Prior):
    """What ``UniformShrinkageMatrix`` says of one SD alone.

    ``sd^2 / variance`` is ``BetaPrime((effects + 1) / 2, 1)``: distribution function
    ``(x / (1 + x))^((effects + 1) / 2)``.
    """

    roles: ClassVar = frozenset({"sd"})
    variance: float
    effects: int

    @property
    def stated_on(self) -> str:
        """The variance."""
        return "variance"

    @property
    def tail(self) -> float:
        """3."""
        return 3.0

    @property
    def origin(self) -> float:
        """``effects``."""
        return float(self.effects)

    def describe(self) -> str:
        """``BetaPrime(1.5, 1) * 0.4``."""
        return f"{self.variance:.4g} * BetaPrime({self._shape:.4g}, 1)"

    @property
    def _shape(self) -> float:
        return 0.5 * (self.effects + 1.0)

    def _logpdf(self, x):
        a, x = self._shape, x / self.variance
        return log(a) + (a - 1.0) * np.log(x) - (a + 1.0) * np.log1p(x) - log(self.variance)

    def _cdf(self, x):
        return (x / (self.variance + x)) ** self._shape

    def _ppf(self, q):
        share = q ** (1.0 / self._shape)
        return self.variance * share / (1.0 - share)


def _product(left, right) -> list[list]:
    """Product of lower triangular matrices, given as rows of numbers or symbols."""
    d = len(right)
    return [
        [sum(left[i][m] * right[m][j] for m in range(j, i + 1)) if j <= i else 0.0
         for j in range(d)]
        for i in range(d)
    ]  # fmt: skip


def _bordered(corner, column: list, rest: list[list]) -> list[list]:
    """Lower triangular matrix with one more row and column before the others."""
    first = [corner, *[0.0] * len(rest)]
    return [first, *([x, *row] for x, row in zip(column, rest, strict=True))]


def _unit_update(z: list, sqrt) -> list[list]:
    """Cholesky factor of ``I + z z'``, as rows."""
    length = [1.0]  # 1 + z_0^2 + … + z_{k-1}^2
    for entry in z:
        length.append(length[-1] + entry * entry)
    return [
        [sqrt(length[k + 1] / length[k]) if i == k else
         z[i] * z[k] / sqrt(length[k + 1] * length[k]) if k < i else 0.0
         for k in range(len(z))]
        for i in range(len(z))
    ]  # fmt: skip


def _as_rows(matrix: np.ndarray) -> Matrix:
    """Rows of a symmetric matrix, rounding removed."""
    return tuple(tuple(map(float, row)) for row in 0.5 * (matrix + matrix.T))


def _read_matrix(what: str, scale) -> float | Matrix:
    """Read a positive number, or a symmetric positive definite matrix as a tuple of rows."""
    got = f"{what}={scale!r})"
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
