"""Generalized estimating equations."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from .base import Method, check_at_least, check_choice

GEE_CORR = (
    "independence",
    "exchangeable",
    "ar1",
    "m-dependent",
    "unstructured",
    "log-odds",
    "log-odds-lag",
    "random-effects",
)


GEE_COV = ("auto", "robust", "mancl-derouen", "kauermann-carroll", "naive")


@dataclass(frozen=True)
class GEE(Method):
    r"""Generalized estimating equations (Liang & Zeger 1986): population-averaged coefficients.

    Parameters
    ----------
    corr
        Working correlation within a cluster: "independence", "exchangeable", "ar1",
        "m-dependent" (one for each lag up to ``m``, zero beyond), "unstructured" (one for each
        pair of waves), or a matrix: a fixed correlation, with a row for each wave; the index
        of a DataFrame names the waves.
        For binary responses also "log-odds": association by odds ratios of pairs, one for all
        (Lipsitz, Laird & Harrington 1991; Liang, Zeger & Qaqish 1992), or "log-odds-lag": one
        for each lag below ``m``, and one for all others.
        "random-effects": the coefficients of the mixed model, conditional on its random effects
        (slopes and nested factors too), from the marginal means and covariances that they imply
        (Zeger, Liang & Albert 1988).
    association
        How alpha is estimated. Correlations: "moment" (Liang & Zeger) or "equation" (over all
        pairs, as geepack does). Log odds ratios: "moment" (products of pairs) or "alternating"
        (logistic regression of each response on each other of its cluster; Carey, Zeger &
        Diggle 1993).
    scale
        Divisor of the Pearson statistic: "n-p", "n", or a fixed scale. With odds ratios or
        random effects the variance is known and the scale is 1.
    dispersion
        Given value where it is no factor of the variance: theta of the negative binomial (as in
        ``MASS::negative.binomial(theta)``), a + b of the beta-binomial. It is taken as known.
    cov
        Default covariance of the coefficients; ``fit.vcov(kind)`` has all: "robust" (CR0),
        "mancl-derouen", "kauermann-carroll" (both corrected for few clusters), "naive". "auto"
        is "mancl-derouen" below 40 clusters and else "robust".
    reference
        Of intervals and tests: "normal", "t" with clusters less coefficients as degrees of
        freedom (tests of several coefficients: F), or "auto": t below 40 clusters.
    m
        Lags of "m-dependent" (default 1) and classes of "log-odds-lag" (default 2).
    waves
        Times of the rows of a fixed ``corr``.
    cluster
        Grouping column; None is the only factor, or the outermost of a nested chain.
    time
        Column that orders the rows of a cluster and says which waves are missing; None is row
        order, which a note says where it matters.
    """

    engine: ClassVar = "bayes_glmm.frequentist.gee:fit"
    name: ClassVar = "gee"
    serves_residual: ClassVar = True  # its working correlation is its own, and may be wrong
    corr: Any = "exchangeable"
    association: Literal["moment", "equation", "alternating"] = "moment"
    scale: Literal["n-p", "n"] | float = "n-p"
    cov: Literal["auto", "robust", "mancl-derouen", "kauermann-carroll", "naive"] = "auto"
    reference: Literal["auto", "normal", "t"] = "auto"
    m: int | None = None
    waves: tuple | None = None
    cluster: str | None = None
    time: str | None = None
    dispersion: float | None = None

    def __post_init__(self) -> None:
        if self.dispersion is not None and not 0 < self.dispersion < np.inf:
            raise ValueError(f"GEE(dispersion={self.dispersion!r}) must be a positive number.")
        if isinstance(self.corr, str):
            check_choice("GEE", "corr", self.corr, GEE_CORR, "a correlation matrix")
        else:
            corr, waves = _correlation(self.corr, self.waves)
            object.__setattr__(self, "corr", corr)
            object.__setattr__(self, "waves", waves)
        self._check_pairing()
        check_choice("GEE", "cov", self.cov, GEE_COV)
        check_choice("GEE", "reference", self.reference, ("auto", "normal", "t"))
        if isinstance(self.scale, str):
            check_choice("GEE", "scale", self.scale, ("n-p", "n"))
        elif not self.scale > 0:
            raise ValueError(f"GEE(scale={self.scale!r}) must be positive, 'n-p' or 'n'.")

    def _check_pairing(self) -> None:
        """Refuse options that do not go with ``corr``."""
        odds = self.is_odds_ratio
        if self.corr == "random-effects" and self.cov not in ("auto", "robust", "naive"):
            raise ValueError(
                f"GEE(corr='random-effects', cov={self.cov!r}) do not go together: use "
                "cov='robust' or 'naive'."
            )
        check_choice("GEE", "association", self.association, ("moment", "equation", "alternating"))
        allowed = ("moment", "alternating") if odds else ("moment", "equation")
        allowed = ("moment",) if self.corr == "random-effects" else allowed
        if self.association not in allowed:
            raise ValueError(
                f"GEE(corr={self.corr!r}, association={self.association!r}) do not go together: "
                f"use association={' or '.join(map(repr, allowed))}."
            )
        if self.corr in ("m-dependent", "log-odds-lag"):
            least = 1 if self.corr == "m-dependent" else 2
            if self.m is None:
                object.__setattr__(self, "m", least)
            check_at_least("GEE", "m", self.m, least)
        elif self.m is not None:
            raise ValueError(
                f"GEE(m={self.m!r}) is an option of corr='m-dependent' or 'log-odds-lag', not of "
                f"corr={self.corr_name!r}."
            )
        if self.waves is not None and isinstance(self.corr, str):
            raise ValueError(
                f"GEE(waves={self.waves!r}) names the rows of a fixed correlation matrix: give "
                "corr=[[…]], or leave waves out."
            )

    def serves_relatives(self, linear: bool) -> bool:
        """Unless implied by a random effect, a working correlation may be wrong."""
        return not (isinstance(self.corr, str) and self.corr == "random-effects")

    @property
    def is_odds_ratio(self) -> bool:
        """Whether the association is one of odds ratios."""
        return isinstance(self.corr, str) and self.corr.startswith("log-odds")

    @property
    def orders_rows(self) -> bool:
        """Whether the order of a cluster's rows matters to the association."""
        orderless = ("independence", "exchangeable", "log-odds", "random-effects")
        return not (isinstance(self.corr, str) and self.corr in orderless)

    def differs_in(self, other: "GEE") -> list[str]:
        """Options that lead to other estimating equations than ``other``'s."""
        options = [f.name for f in fields(self) if f.name != "cov"]
        if not self.orders_rows and not other.orders_rows:
            options.remove("time")
        return [name for name in options if getattr(self, name) != getattr(other, name)]

    @property
    def corr_name(self) -> str:
        """The working correlation in words: a matrix is "fixed"."""
        if not isinstance(self.corr, str):
            return "fixed"
        return f"{self.m}-dependent" if self.corr == "m-dependent" else self.corr

    @property
    def label(self) -> str:
        """``GEE, exchangeable``, with the options that are not the defaults."""
        extra = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if f.name
            in ("association", "scale", "cov", "reference", "cluster", "time", "dispersion")
            and getattr(self, f.name) != f.default
        ]
        if self.corr == "log-odds-lag" and self.m != 2:
            extra.insert(0, f"m={self.m}")
        return ", ".join(["GEE", self.corr_name, *extra])


def _correlation(corr, waves) -> tuple[tuple[tuple[float, ...], ...], tuple | None]:
    """Read a fixed correlation as tuples, with the times of its rows or None.

    Raises
    ------
    ValueError
        If it is no correlation matrix, is not positive definite, or its labels disagree.
    """
    if waves is None and hasattr(corr, "index") and hasattr(corr, "columns"):
        if list(corr.index) != list(corr.columns):
            raise ValueError("GEE(corr=frame) needs the same labels on rows and columns.")
        waves = corr.index.tolist()
    try:
        matrix = np.asarray(corr, float)
    except (TypeError, ValueError):
        raise ValueError(
            f"GEE(corr={corr!r}) is neither a name nor a matrix of numbers: use "
            f"{' or '.join(map(repr, GEE_CORR))}, or a correlation matrix."
        ) from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise ValueError(
            f"GEE(corr=…) got an array of shape {matrix.shape}, and a fixed correlation is a "
            "square matrix of finite numbers."
        )
    if not (np.allclose(matrix, matrix.T, atol=1e-10) and np.allclose(np.diag(matrix), 1.0)):
        raise ValueError(
            "GEE(corr=…) got a matrix that is not symmetric with ones on its diagonal: give "
            "correlations, not covariances."
        )
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least <= 1e-10:
        raise ValueError(
            "GEE(corr=…) got a matrix that is not positive definite (least eigenvalue "
            f"{least:.2g}): no responses have such correlations; shrink those off the diagonal."
        )
    if waves is not None:
        waves = tuple(waves)
        if len(set(waves)) != len(waves) or len(waves) != len(matrix):
            raise ValueError(
                f"GEE(waves={waves!r}) must name the {len(matrix)} rows of corr, each once."
            )
    return tuple(map(tuple, matrix.tolist())), waves
