"""Methods that maximise a likelihood: without random effects, restricted, full, conditional."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Method, check_at_least, check_choice


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
        check_choice("OLS", "cov", self.cov, ("naive", "cluster"))
        if self.cluster is not None and self.cov == "naive":
            raise ValueError(
                f"OLS(cluster={self.cluster!r}) names clusters for cov='cluster', and cov is "
                "'naive': give both, or leave the cluster out; fit.se('naive') has the other."
            )

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
        check_choice("REML", "df", self.df, ("satterthwaite", "kenward-roger"))

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
            check_at_least("ML", "nodes", self.nodes, 1)
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
