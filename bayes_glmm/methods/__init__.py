"""The methods of estimation: frozen objects that hold options and name their engine as text.

An engine is a function ``fit(model, method) -> Fit`` found by ``Method.load``; this module
imports none, so that naming a method costs nothing. Options are checked here, once.
"""

from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar, Literal
from zlib import crc32

import numpy as np


class NotServedError(ValueError):
    """A method cannot serve a model; the message names the method that can."""


def _choice(owner: str, name: str, value, allowed) -> None:
    if value not in allowed:
        raise ValueError(
            f"{owner}({name}={value!r}) is not an option: use {' or '.join(map(repr, allowed))}."
        )


def _at_least(owner: str, name: str, value, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{owner}({name}={value!r}) must be an integer of at least {least}.")


@dataclass(frozen=True)
class Method:
    """What all methods share: an engine, a name, a label for tables."""

    engine: ClassVar[str]  # "package.module:function"
    name: ClassVar[str]  # the string that stands for the method with its defaults
    serves_residual: ClassVar[bool] = False  # whether residuals may be correlated

    @property
    def label(self) -> str:
        """Key of the method's fit in tables and dicts."""
        return type(self).__name__

    def serves_relatives(self, linear: bool) -> bool:
        """Whether levels of a grouping factor may have a known covariance.

        ``linear`` says that the model is gaussian with identity link.
        """
        return False

    def stream(self, seed: int) -> np.random.SeedSequence:
        """Give the method's own random stream: it depends on the seed and the label only.

        So adding, failing or reordering methods changes no other method's numbers.
        """
        return np.random.SeedSequence(seed, spawn_key=(crc32(self.label.encode()),))

    def load(self):
        """Import the engine and return it."""
        module, function = self.engine.split(":")
        return getattr(import_module(module), function)


@dataclass(frozen=True)
class GLM(Method):
    """Maximum likelihood without random effects: what is lost when clustering is ignored.

    Random terms of the formula are left out and the result says so. Standard errors are
    model-based (inverse Fisher information).
    """

    engine: ClassVar = "bayes_glmm.frequentist.glm:fit"
    name: ClassVar = "glm"

    def serves_relatives(self, linear: bool) -> bool:
        """Say yes: group effects are left out anyway."""
        return True


@dataclass(frozen=True)
class OLS(Method):
    """Ordinary least squares: gaussian responses with identity link, rows taken as independent.

    Random terms and residual correlation are left out of the estimate; they say what the
    clusters are.

    Parameters
    ----------
    cov
        Of the standard errors: "naive", ``s² (X'X)^{-1}`` with ``n - p`` degrees of freedom,
        or "cluster", the sandwich of the clusters' scores times
        ``K / (K - 1) · (n - 1) / (n - p)`` with ``K - 1`` degrees of freedom (Stata's). Where
        there are clusters ``fit.se(kind)`` has both, and "robust" (without the factor),
        "kauermann-carroll" (Bell & McCaffrey's) and "mancl-derouen".
    cluster
        Column of the clusters; None is that of the residual correlation, the only factor, or
        the outermost of a nested chain.
    """

    engine: ClassVar = "bayes_glmm.frequentist.ols:fit"
    name: ClassVar = "ols"
    serves_residual: ClassVar = True
    cov: Literal["naive", "cluster"] = "naive"
    cluster: str | None = None

    def __post_init__(self) -> None:
        _choice("OLS", "cov", self.cov, ("naive", "cluster"))

    @property
    def label(self) -> str:
        """``OLS, naive`` or ``OLS, cluster``."""
        return f"OLS, {self.cov}" + (f"={self.cluster}" if self.cluster else "")

    def serves_relatives(self, linear: bool) -> bool:
        """Say yes: group effects are left out anyway."""
        return True


@dataclass(frozen=True)
class REML(Method):
    """Restricted maximum likelihood of a linear mixed model (Patterson & Thompson 1971).

    Gaussian responses with identity link; any random effects, and residual correlation.
    Standard errors are those of generalized least squares at the estimated variances. The
    log-likelihood is that of ``n - p`` contrasts of the responses: it compares models with the same
    fixed part only.

    Parameters
    ----------
    df
        Of intervals and tests of coefficients: "satterthwaite", degrees of freedom for each, or
        "kenward-roger", which also widens the standard errors by what the estimation of the
        variances adds and scales F tests (Kenward & Roger 1997, 2009; as pbkrtest, the choice
        for few levels). ``fit.se("model")`` stays the unadjusted one. Rows that crossed or related
        levels connect are served up to 4,000, or as many effects.
    """

    engine: ClassVar = "bayes_glmm.frequentist.lmm:fit"
    name: ClassVar = "reml"
    serves_residual: ClassVar = True
    df: Literal["satterthwaite", "kenward-roger"] = "satterthwaite"

    def __post_init__(self) -> None:
        _choice("REML", "df", self.df, ("satterthwaite", "kenward-roger"))

    @property
    def label(self) -> str:
        """``REML`` or ``REML, Kenward-Roger``."""
        return "REML" + (", Kenward-Roger" if self.df == "kenward-roger" else "")

    def serves_relatives(self, linear: bool) -> bool:
        """Say yes: the mixed model equations have them."""
        return True


@dataclass(frozen=True)
class ML(Method):
    """Maximum likelihood by adaptive Gauss-Hermite quadrature; one node is Laplace.

    A gaussian model with identity link needs no quadrature: its likelihood is exact, also
    with residual correlation, and is profiled over the coefficients and the residual SD.

    Parameters
    ----------
    nodes
        Nodes per random effect, or "auto": raised until two successive rises leave the
        log-likelihood within ``tolerance``, as far as the data are not too large for it.
        Served for one grouping factor, or two of which one is nested in the other
        (``(1 | a/b)``), with up to three effects together; other models are served with one
        node.
    tolerance
        Change of the log-likelihood accepted by "auto".
    """

    engine: ClassVar = "bayes_glmm.frequentist.ml:fit"
    name: ClassVar = "ml"
    serves_residual: ClassVar = True
    nodes: int | Literal["auto"] = "auto"
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.nodes != "auto":
            _at_least("ML", "nodes", self.nodes, 1)
        if not self.tolerance > 0:
            raise ValueError(f"ML(tolerance={self.tolerance!r}) must be a positive number.")

    def serves_relatives(self, linear: bool) -> bool:
        """Only without quadrature: the mixed model equations have them."""
        return linear and self.nodes in ("auto", 1)

    @property
    def label(self) -> str:
        """``ML``, ``ML, 25 nodes`` or ``Laplace``."""
        if self.nodes == "auto":
            return "ML"
        return "Laplace" if self.nodes == 1 else f"ML, {self.nodes} nodes"


@dataclass(frozen=True)
class PQL(Method):
    """Penalised quasi-likelihood (Breslow & Clayton 1993): REML working model, dispersion 1.

    It is biased where levels carry little information and effects are large, which a warning
    says with numbers; coefficients and standard deviations are then too near zero.

    Parameters
    ----------
    likelihood
        Of the working linear mixed model: "reml" (Breslow & Clayton) or "ml".
    dispersion
        Of binomial and Poisson responses: "fixed" at 1, or "estimated" as a factor of the
        variance, which with ``likelihood="ml"`` is ``MASS::glmmPQL`` and with "reml" the
        pseudo-likelihood of Wolfinger & O'Connell (1993). ``fit.details["scale"]`` has it; there
        is no distribution of such responses, so that ``simulate`` refuses.
    bias_correct
        "bootstrap": Kuk's (1995) correction, the parameters at which simulated responses have
        the estimates that the data have. For ``dispersion="fixed"`` and families without a
        dispersion.
    simulations
        Data sets simulated in each iteration of the correction.
    seed
        Of their random stream.
    """

    engine: ClassVar = "bayes_glmm.frequentist.pql:fit"
    name: ClassVar = "pql"
    likelihood: Literal["reml", "ml"] = "reml"
    dispersion: Literal["fixed", "estimated"] = "fixed"
    bias_correct: Literal["bootstrap"] | None = None
    simulations: int = 200
    seed: int = 1

    def __post_init__(self) -> None:
        _choice("PQL", "likelihood", self.likelihood, ("reml", "ml"))
        _choice("PQL", "dispersion", self.dispersion, ("fixed", "estimated"))
        _choice("PQL", "bias_correct", self.bias_correct, (None, "bootstrap"))
        _at_least("PQL", "simulations", self.simulations, 20)
        _at_least("PQL", "seed", self.seed, 0)
        if self.bias_correct and self.dispersion == "estimated":
            raise ValueError(
                "PQL(dispersion='estimated', bias_correct='bootstrap') do not go together: there "
                "is no distribution to simulate from; use dispersion='fixed'."
            )

    def serves_relatives(self, linear: bool) -> bool:
        """Unless corrected: the equations of the working model have them."""
        return self.bias_correct is None

    @property
    def label(self) -> str:
        """``PQL``, with the options that are not the defaults."""
        corrected = "bootstrap-corrected" if self.bias_correct else ""
        return ", ".join(filter(None, [_working_label("PQL", self), corrected]))


@dataclass(frozen=True)
class MQL(Method):
    """Marginal quasi-likelihood: the working model expands at the fixed part, not at the levels.

    Its equations are those of ``E(y) = h(X beta)`` with the working covariance
    ``phi / w + Z D Z'``, and its coefficients population-averaged; the standard deviations are
    those of the working model. Read as conditional ones, as programs for multilevel models do
    (MQL of first order), both are too near zero. There are no predictions of levels.

    Parameters
    ----------
    likelihood
        Of the working linear mixed model: "reml" or "ml".
    dispersion
        "fixed" at 1, or "estimated"; see ``PQL``.
    """

    engine: ClassVar = "bayes_glmm.frequentist.pql:fit"
    name: ClassVar = "mql"
    likelihood: Literal["reml", "ml"] = "reml"
    dispersion: Literal["fixed", "estimated"] = "fixed"

    def __post_init__(self) -> None:
        _choice("MQL", "likelihood", self.likelihood, ("reml", "ml"))
        _choice("MQL", "dispersion", self.dispersion, ("fixed", "estimated"))

    def serves_relatives(self, linear: bool) -> bool:
        """Say yes: the equations of the working model have them."""
        return True

    @property
    def label(self) -> str:
        """``MQL``, with the options that are not the defaults."""
        return _working_label("MQL", self)


def _working_label(name: str, method: PQL | MQL) -> str:
    working = "" if method.likelihood == "reml" else "ML working model"
    dispersion = "" if method.dispersion == "fixed" else "dispersion estimated"
    return ", ".join(filter(None, [name, working, dispersion]))


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
        order.
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
            _choice("GEE", "corr", self.corr, GEE_CORR)
        else:
            corr, waves = _correlation(self.corr, self.waves)
            object.__setattr__(self, "corr", corr)
            object.__setattr__(self, "waves", waves)
        self._check_pairing()
        _choice("GEE", "cov", self.cov, GEE_COV)
        _choice("GEE", "reference", self.reference, ("auto", "normal", "t"))
        if isinstance(self.scale, str):
            _choice("GEE", "scale", self.scale, ("n-p", "n"))
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
        _choice("GEE", "association", self.association, ("moment", "equation", "alternating"))
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
            _at_least("GEE", "m", self.m, least)
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


@dataclass(frozen=True)
class NUTS(Method):
    """Markov chain Monte Carlo on the PyMC graph by the no-U-turn sampler.

    Parameters
    ----------
    draws, tune
        Draws kept and discarded per chain.
    chains
        Independent chains; at least two, so that R-hat exists.
    target_accept
        Mean acceptance the step size is tuned to; nearer 1 is slower and safer.
    seed
        Of the method's own random stream.
    """

    engine: ClassVar = "bayes_glmm.bayesian.nuts:fit"
    name: ClassVar = "nuts"
    serves_residual: ClassVar = True
    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    target_accept: float = 0.9
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("draws", 4), ("tune", 10), ("chains", 2), ("seed", 0)):
            _at_least("NUTS", name, getattr(self, name), least)
        if not 0.5 <= self.target_accept < 1:
            raise ValueError(
                f"NUTS(target_accept={self.target_accept!r}) must lie between 0.5 and 1."
            )

    def serves_relatives(self, linear: bool) -> bool:
        """Say yes: the graph has them."""
        return True


@dataclass(frozen=True)
class Integrated(Method):
    """The posterior with the random effects of the largest factor integrated out.

    The integral is the adaptive Gauss-Hermite quadrature of ``ML``; what is left, coefficients
    and standard deviations, has few dimensions. The integrated effects are then drawn from
    their exact conditional distribution. The effects of other factors, crossed or nested, are
    sampled together with the parameters, by "nuts". With one factor and so much data that
    the integrals would take longer than half a second, polynomials in the parameters stand for
    them where the posterior is, if these are right at posterior draws to a hundredth.

    Parameters
    ----------
    method
        "importance": proposals from a multivariate t distribution at the posterior mode;
        "nuts": the no-U-turn sampler on the integrated density; "auto": the first where its
        Pareto k-hat is at most 0.7.
    draws
        Draws kept per chain.
    tune
        Draws discarded per chain by "nuts".
    chains
        Independent chains; at least two, so that R-hat exists.
    target_accept
        Of "nuts".
    seed
        Of the method's own random stream.
    """

    engine: ClassVar = "bayes_glmm.bayesian.integrated:fit"
    name: ClassVar = "integrated"
    method: Literal["auto", "importance", "nuts"] = "auto"
    draws: int = 1000
    tune: int = 300
    chains: int = 4
    target_accept: float = 0.9
    seed: int = 1

    def __post_init__(self) -> None:
        _choice("Integrated", "method", self.method, ("auto", "importance", "nuts"))
        for name, least in (("draws", 4), ("tune", 10), ("chains", 2), ("seed", 0)):
            _at_least("Integrated", name, getattr(self, name), least)
        if not 0.5 <= self.target_accept < 1:
            raise ValueError(
                f"Integrated(target_accept={self.target_accept!r}) must lie between 0.5 and 1."
            )


@dataclass(frozen=True)
class ConditionalLogit(Method):
    """Conditional logistic regression: the likelihood given every cluster's number of successes.

    Binary data with link logit. Each cluster has an intercept of its own that drops out,
    whatever its distribution and however it goes with the columns; so do the columns that are
    constant within clusters, and the clusters whose responses are all alike.

    Parameters
    ----------
    cluster
        Grouping column; None is the only factor, or the innermost of a nested chain.
    """

    engine: ClassVar = "bayes_glmm.frequentist.conditional_logit:fit"
    name: ClassVar = "conditional_logit"
    cluster: str | None = None

    def serves_relatives(self, linear: bool) -> bool:
        """Say yes: intercepts of clusters drop out, whatever their distribution."""
        return True

    @property
    def label(self) -> str:
        """``conditional logit``, with the cluster where it is named."""
        return "conditional logit" + (f", cluster={self.cluster}" if self.cluster else "")


SHORTHAND = {
    m.name: m
    for m in (
        GLM(),
        OLS(),
        ML(),
        REML(),
        PQL(),
        MQL(),
        GEE(),
        ConditionalLogit(),
        NUTS(),
        Integrated(),
    )
} | {"laplace": ML(nodes=1)}


def get_method(method: str | Method) -> Method:
    """Return the method a string stands for; a Method passes through.

    Raises
    ------
    ValueError
        If the string names no method.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, type) and issubclass(method, Method):
        raise ValueError(f"method={method.__name__} is a class: write {method.__name__}().")
    if not isinstance(method, str) or method not in SHORTHAND:
        close = get_close_matches(str(method), SHORTHAND, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ValueError(
            f"method={method!r} is not known: give one of {', '.join(map(repr, SHORTHAND))}, "
            f"or an object such as bg.ML(nodes=25){hint}"
        )
    return SHORTHAND[method]
