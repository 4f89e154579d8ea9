"""The one result contract: every method, Bayesian or not, returns a ``Fit``.

A Fit holds arrays in the model's order (``design.terms``; variance components in group
order, SDs before correlations, the dispersion last) and gives them out as labelled pandas
objects, under lme4's and broom.mixed's names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import expit, ndtri, stdtrit

from .messages import Message

Estimand = Literal["conditional", "population-averaged"]

# verbs that need more than the arrays of a Fit -> where they are written
HEAVY = {
    "confint_profile": "bayes_glmm.frequentist.inference:profile_confint",
    "confint_boot": "bayes_glmm.frequentist.bootstrap:boot_confint",
    "bootstrap": "bayes_glmm.frequentist.bootstrap:bootstrap",
    "profile": "bayes_glmm.frequentist.inference:profile_frame",
    "contrast_df": "bayes_glmm.frequentist.lmm_errors:contrast_df",
    "ranef": "bayes_glmm.frequentist.prediction:ranef",
    "rank_levels": "bayes_glmm.ranking:rank_levels",
    "predict": "bayes_glmm.predict:predict",
    "population_averaged": "bayes_glmm.population.averaged:population_averaged",
    "simulate": "bayes_glmm.predict:simulate",
    "to_datatree": "bayes_glmm.datatree:asymptotic_datatree",
    "save": "bayes_glmm.storage:save_fit",
}

TIDY = ["effect", "group", "level", "term", "estimate", "std_error", "conf_low", "conf_high"]


def heavy(verb: str):
    """Import the function behind a heavy verb."""
    module, function = HEAVY[verb].split(":")
    return getattr(import_module(module), function)


def check_fit(fit, function: str) -> None:
    """Refuse what is no fit, such as a model that has not been fitted."""
    if not isinstance(fit, Fit):
        raise ValueError(
            f"{function}() got a {type(fit).__name__}: give a fit, as model.fit('ml')."
        )


def check_level(function: str, level) -> None:
    """Refuse a coverage that is no number between 0 and 1."""
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise ValueError(f"{function}(level={level!r}) must lie between 0 and 1, e.g. 0.95.")


def load_fit(path):
    """Read a fit that ``Fit.save`` wrote."""
    return import_module("bayes_glmm.storage").load_fit(path)


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds of a fit by stage."""

    setup: float = 0.0
    compile: float = 0.0
    run: float = 0.0

    @property
    def total(self) -> float:
        """All stages together."""
        return self.setup + self.compile + self.run


@dataclass(frozen=True)
class WorkingScale:
    """A scale without bounds: where intervals are symmetric and searches are free.

    ``slope`` is the derivative of ``natural``, by the natural value.
    """

    working: Callable
    natural: Callable
    slope: Callable


def _logit(x):
    return np.log(x) - np.log1p(-np.asarray(x, float))


def _same(x):
    return x


WORKING_SCALES = {
    "log": WorkingScale(np.log, np.exp, _same),
    "logit": WorkingScale(_logit, expit, lambda x: x * (1 - x)),
    "atanh": WorkingScale(np.arctanh, np.tanh, lambda x: 1 - x**2),
}
# kind of a component -> the scale of its intervals; "rate", "share" and "serial" are parameters
# of the residual correlation: a rate of decay, the share of a nugget, a correlation
SCALE_OF = {
    "sd": "log",
    "corr": "atanh",
    "rate": "log",
    "share": "logit",
    "serial": "atanh",
    "dispersion": "log",
}


@dataclass(frozen=True)
class Component:
    """Which variance parameter a number is.

    An SD or a correlation of random effects, a parameter of the residual correlation ("rate",
    "share", "serial"; ``group`` is then the column of its clusters), or the dispersion.
    """

    kind: Literal["sd", "corr", "rate", "share", "serial", "dispersion"]
    group: str = ""
    term: str = ""
    term2: str = ""

    @property
    def is_residual(self) -> bool:
        """Whether it belongs to the residual correlation."""
        return self.kind in ("rate", "share", "serial")

    @property
    def scale(self) -> WorkingScale:
        """The scale without bounds."""
        return WORKING_SCALES[SCALE_OF[self.kind]]

    def __str__(self) -> str:
        """Name it as tables do: ``sd(Intercept)``, ``corr(Intercept, x)``, ``dispersion``."""
        if self.kind == "dispersion":
            return "dispersion"
        if self.is_residual:
            return f"residual {self.term}" + (f"({self.term2})" if self.term2 else "")
        inside = self.term if self.kind == "sd" else f"{self.term}, {self.term2}"
        return f"{self.kind}({inside})"


def components_of(model) -> tuple[Component, ...]:
    """List a model's variance parameters in the contract's order."""
    found = []
    for g in model.design.groups:
        found += [Component("sd", g.group, term) for term in g.columns]
        found += [Component("corr", g.group, g.columns[j], g.columns[i]) for i, j in g.pairs]
    if model.repeated is not None:
        by = model.residual.by
        found += [Component(p.kind, by, p.name, p.pair) for p in model.repeated.parameters]
    return (*found, *([Component("dispersion")] if model.family.has_dispersion else []))


@dataclass(frozen=True, eq=False)
class Variance:
    """Variance components on the natural scale.

    ``estimate`` and ``std_error`` have shape ``(m,)`` along ``components``; SDs are on the
    link scale (the gaussian dispersion on the response scale). An unknown standard error is
    NaN.
    """

    components: tuple[Component, ...]
    estimate: np.ndarray
    std_error: np.ndarray

    def of(self, group: str) -> tuple[np.ndarray, np.ndarray]:
        """SDs and correlations of one grouping factor."""
        mine = [c.kind if c.group == group else "" for c in self.components]
        kinds = np.array(mine, dtype="U10")
        return self.estimate[kinds == "sd"], self.estimate[kinds == "corr"]

    @property
    def residual(self) -> np.ndarray:
        """Parameters of the residual correlation."""
        return self.estimate[np.array([c.is_residual for c in self.components], bool)]

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Wald limits: log scale for SDs and rates, Fisher's z for correlations, logit for shares.

        NaN on the boundary.
        """
        z = ndtri(0.5 + level / 2)
        limits = np.full((2, len(self.components)), np.nan)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for i, c in enumerate(self.components):
                value, scale = self.estimate[i], c.scale
                if SCALE_OF[c.kind] == "atanh" and not abs(value) < 1.0 - 1e-8:
                    continue
                half = z * self.std_error[i] / scale.slope(value)
                limits[:, i] = scale.natural(scale.working(value) + np.array([-half, half]))
        return limits[0], limits[1]


@dataclass(frozen=True, eq=False)
class GroupEffects:
    """Group effects of one factor: ``estimate`` and ``sd``, shape ``(levels, columns)``.

    Conditional modes or posterior means, and conditional or posterior SDs, link scale.
    """

    estimate: np.ndarray
    sd: np.ndarray


@dataclass(frozen=True, eq=False)
class Fit:
    """What a method found.

    Attributes
    ----------
    model, method
        What was fitted, and how.
    beta
        Coefficients, shape ``(p,)``, link scale; NaN where the method estimates none.
    vcovs
        Covariance matrices of ``beta`` by kind; the first is the default.
    variance
        Variance components, or None where the method has none.
    effects
        Group effects by group.
    loglik, loglik_kind
        Log-likelihood with all constants and how it was computed ("quadrature", "Laplace",
        "exact", "conditional"), or None where the method has none.
    npar
        Parameters counted by AIC.
    estimand
        Whether ``beta`` is conditional on the random effects or population-averaged.
    converged, messages, seconds
        How it went.
    df
        Degrees of freedom of the t distribution that Wald limits of ``beta`` refer to: one for
        all, or one for each coefficient, shape ``(p,)``; None is the normal distribution.
    draws
        Posterior draws as a DataTree, for methods that have them.
    joint_cov
        Covariance of ``beta`` and the variance components on their working scales (log SDs,
        atanh correlations, log dispersion; ``Component.scale``), shape ``(p + m, p + m)``, of
        methods with an asymptotic distribution; NaN rows and columns for parameters on the
        boundary.
    diagnostics
        ``rhat, ess_bulk, ess_tail`` indexed by ``effect, group, level, term``, for draws.
    details
        What only this method has: node table, working correlation, optimiser record.
    """

    model: Any
    method: Any
    beta: np.ndarray
    vcovs: Mapping[str, np.ndarray]
    variance: Variance | None = None
    effects: Mapping[str, GroupEffects] = field(default_factory=dict)
    loglik: float | None = None
    loglik_kind: str | None = None
    npar: int | None = None
    estimand: Estimand = "conditional"
    converged: bool = True
    messages: tuple[Message, ...] = ()
    seconds: Seconds = Seconds()
    df: float | np.ndarray | None = None
    draws: Any = None
    joint_cov: np.ndarray | None = None
    diagnostics: pd.DataFrame | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Key of this fit in tables: the method's label."""
        return self.method.label

    @property
    def terms(self) -> pd.Index:
        """Names of the coefficients."""
        return pd.Index(self.model.design.terms, name="term")

    @property
    def aic(self) -> float | None:
        """``2 npar - 2 loglik``, or None where there is no log-likelihood of the data.

        A conditional log-likelihood is of other data, the responses given the clusters' totals.
        """
        if self.loglik is None or self.npar is None or self.loglik_kind == "conditional":
            return None
        return 2 * self.npar - 2 * self.loglik

    @property
    def interval_kind(self) -> str:
        """What ``confint()`` gives by default."""
        if self.draws is not None:
            return "equal-tailed posterior"
        kind = next(iter(self.vcovs), "model")
        which = "" if kind == "model" else f", {kind}"
        if self.df is None:
            return f"Wald{which}"
        if kind == "kenward-roger":
            return "Wald, t with Kenward & Roger's errors and df"
        if np.ndim(self.df):
            return f"Wald{which}, t with Satterthwaite's df"
        if not self.df > 0:
            return f"Wald{which}: none, t has no degrees of freedom"
        return f"Wald{which}, t with {self.df:g} df"

    def critical(self, level: float, contrasts: np.ndarray | None = None):
        """Give the multiple of a standard error that a two-sided Wald interval extends.

        One for all; where coefficients have degrees of freedom of their own one for each, or
        one for each of ``contrasts`` ``(k, p)``. NaN where there are no degrees of freedom.
        """
        if self.df is None:
            return float(ndtri(0.5 + level / 2))
        df = np.asarray(self.df, float)
        if df.ndim and contrasts is not None:
            df = heavy("contrast_df")(self, contrasts)
        quantile = stdtrit(np.where(df > 0, df, np.nan), 0.5 + level / 2)
        return quantile if np.ndim(self.df) else float(quantile)

    def fixef(self) -> pd.Series:
        """Coefficients by term (posterior means for draws), link scale."""
        return pd.Series(self.beta, self.terms, name="estimate")

    def vcov(self, kind: str = "default") -> pd.DataFrame:
        """Covariance matrix of the coefficients.

        Raises
        ------
        ValueError
            If the method has no covariance of that kind.
        """
        if kind == "default":
            kind = next(iter(self.vcovs))
        if kind not in self.vcovs:
            have = " or ".join(map(repr, self.vcovs))
            raise ValueError(f"{self.label} has no {kind!r} covariance: use {have}.")
        return pd.DataFrame(self.vcovs[kind], self.terms, self.terms)

    def se(self, kind: str = "default") -> pd.Series:
        """Give standard errors of the coefficients (posterior SDs for draws)."""
        variances = np.diag(self.vcov(kind))
        return pd.Series(np.sqrt(variances), self.terms, name="std_error")

    def varcorr(self) -> pd.DataFrame:
        """Give one row per SD and per correlated pair: ``group, term, term2, sd, corr``."""
        columns = ["group", "term", "term2", "sd", "corr"]
        if self.variance is None:
            return pd.DataFrame(columns=columns)
        rows = [
            (c.group, c.term, c.term2, *((x, np.nan) if c.kind == "sd" else (np.nan, x)))
            for c, x in zip(self.variance.components, self.variance.estimate, strict=True)
            if c.kind in ("sd", "corr")
        ]
        return pd.DataFrame(rows, columns=columns)

    @property
    def dispersion(self) -> float | None:
        """The family's dispersion parameter as estimated, or None where there is none."""
        if self.variance is None or self.variance.components[-1:] != (Component("dispersion"),):
            return None
        return float(self.variance.estimate[-1])

    def ranef(self, kind: str = "default", error: str = "default") -> pd.DataFrame:
        r"""Group effects: ``group, level, term, estimate, sd`` (link scale).

        Parameters
        ----------
        kind
            "mode": the conditional modes, as lme4's ``ranef``; "mean": :math:`E[b \mid y]` by
            quadrature, the predictor with the least mean squared error. Default: modes, for
            draws posterior means.
        error
            "conditional": SD of :math:`b \mid y` with the parameters at their estimates;
            "corrected": the root of :math:`\mathrm{Var}(b \mid y) + c'I^{-1}c`, ``c`` the
            derivative of the predictor by the parameters, which allows for their being
            estimated (Booth & Hobert 1998; computed when asked for). Parameters on the
            boundary, an SD of zero, add nothing to it, so that it is too small there. Default:
            conditional; for draws the posterior SD, which is "corrected" by its nature; for PQL
            Henderson's prediction error of its last working model.

        Raises
        ------
        NotServedError
            If the fit has no such prediction.
        """
        effects = self.effects
        if not effects or (kind, error) != ("default", "default"):
            effects = heavy("ranef")(self, kind, error)  # refuses where there are none
        return self._effects_table(effects)

    def _effects_table(self, effects: Mapping[str, GroupEffects]) -> pd.DataFrame:
        """Give ``group, level, term, estimate, sd``; no rows where a method has no effects."""
        tables = [
            pd.DataFrame(
                {
                    "group": g.group,
                    "level": np.repeat(np.asarray(g.levels, object), g.q),
                    "term": np.tile(np.asarray(g.columns, object), g.n_levels),
                    "estimate": effects[g.group].estimate.ravel(),
                    "sd": effects[g.group].sd.ravel(),
                }
            )
            for g in self.model.design.groups
            if g.group in effects
        ]
        if not tables:
            return pd.DataFrame(columns=["group", "level", "term", "estimate", "sd"])
        return pd.concat(tables, ignore_index=True)

    def confint(
        self, level: float = 0.95, method: str | None = None, **options: Any
    ) -> pd.DataFrame:
        """Intervals for coefficients and variance components.

        Parameters
        ----------
        level
            Coverage.
        method
            "wald" (SDs on the log scale), "profile" or "boot" (parametric bootstrap; methods
            with a likelihood), or "posterior" (equal-tailed; methods with draws). Default:
            posterior for draws, else wald.
        **options
            Of "boot": ``replicates, seed, workers, progress`` and ``kind`` ("percentile" or
            "basic"); see ``bootstrap``.

        Returns
        -------
        DataFrame
            Columns ``term, conf_low, conf_high``; SDs are named ``sd_<group>[<term>]``.
        """
        method = method or ("wald" if self.draws is None else "posterior")
        if options and method != "boot":
            raise ValueError(
                f"confint(method={method!r}) has no options, got {', '.join(options)}: they are "
                "of method='boot'."
            )
        if method in ("profile", "boot"):
            return heavy(f"confint_{method}")(self, level, **options)
        low, high = self._interval(level, method)
        return pd.DataFrame({"term": self.parameter_names, "conf_low": low, "conf_high": high})

    def profile(self, parameters=None, points: int = 25) -> pd.DataFrame:
        """Profile log-likelihoods for plots: ``parameter, value, loglik, zeta``.

        See ``bayes_glmm.frequentist.inference.profile_frame``.
        """
        return heavy("profile")(self, parameters, points)

    def bootstrap(self, replicates: int = 500, seed: int = 1, **options):
        """Refit simulated data sets; see ``bayes_glmm.frequentist.bootstrap.bootstrap``."""
        return heavy("bootstrap")(self, replicates, seed, **options)

    @property
    def parameter_names(self) -> list[str]:
        """Coefficients, then variance components, as the DataTree names them."""
        return [*self.terms, *(datatree_name(c) for c in self._components)]

    @property
    def _components(self) -> tuple[Component, ...]:
        return () if self.variance is None else self.variance.components

    def _interval(self, level: float, method: str) -> tuple[np.ndarray, np.ndarray]:
        check_level("confint", level)
        if method == "posterior" and self.draws is not None:
            tails = [(1 - level) / 2, (1 + level) / 2]
            low, high = np.quantile(self._flat_draws, tails, axis=0)
            return low, high
        if method != "wald":
            have = "'wald', 'profile' or 'boot'" if self.draws is None else "'posterior' or 'wald'"
            raise ValueError(f"confint(method={method!r}) is not had by {self.label}: use {have}.")
        half = self.critical(level) * self.se().to_numpy()
        low, high = self.beta - half, self.beta + half
        if self.variance is not None:
            below, above = self.variance.interval(level)
            low, high = np.r_[low, below], np.r_[high, above]
        return low, high

    @cached_property
    def _flat_draws(self) -> np.ndarray:
        """Posterior draws of coefficients and components, shape ``(draws, p + m)``."""
        posterior = self.draws["posterior"]
        arrays = [np.asarray(posterior[name]) for name in ("beta", *variables_of(self.model))]
        return np.concatenate([a.reshape(a.shape[0] * a.shape[1], -1) for a in arrays], axis=1)

    def tidy(self, effects: tuple[str, ...] = ("fixed", "ran_pars"), level: float = 0.95):
        """One row per parameter, broom.mixed's columns; ``df`` where each coefficient has its own.

        Parameters
        ----------
        effects
            Any of "fixed", "ran_pars" (variance components) and "ran_vals" (group effects,
            with normal limits; equal-tailed posterior ones for draws).
        level
            Coverage of ``conf_low, conf_high``.
        """
        low, high = self._interval(level, "wald" if self.draws is None else "posterior")
        p = len(self.beta)
        rows = []
        if "fixed" in effects:
            se = self.se().to_numpy()
            rows += [
                ("fixed", "", "", t, self.beta[i], se[i], low[i], high[i])
                for i, t in enumerate(self.terms)
            ]
        if "ran_pars" in effects and self.variance is not None:
            v = self.variance
            rows += [
                ("ran_pars", c.group, "", str(c), x, s, low[p + k], high[p + k])
                for k, (c, x, s) in enumerate(
                    zip(v.components, v.estimate, v.std_error, strict=True)
                )
            ]
        table = pd.DataFrame(rows, columns=TIDY)
        if "ran_vals" in effects:
            table = pd.concat([table, self._tidy_effects(level)], ignore_index=True)
        if self.df is not None and np.ndim(self.df):
            of_term = dict(zip(self.terms, np.asarray(self.df), strict=True))
            names = zip(table["effect"], table["term"], strict=True)
            table["df"] = [of_term[t] if e == "fixed" else np.nan for e, t in names]
        if self.diagnostics is not None:
            table = table.join(self.diagnostics, on=TIDY[:4])
        return table

    def _tidy_effects(self, level: float) -> pd.DataFrame:
        table = self._effects_table(self.effects).rename(columns={"sd": "std_error"})
        table.insert(0, "effect", "ran_vals")
        if self.draws is None:
            half = ndtri(0.5 + level / 2) * table["std_error"]
            return table.assign(
                conf_low=table["estimate"] - half, conf_high=table["estimate"] + half
            )
        tails = [(1 - level) / 2, (1 + level) / 2]
        limits = [
            np.quantile(self.draws["posterior"][f"b_{g.group}"], tails, axis=(0, 1)).reshape(2, -1)
            for g in self.model.design.groups
        ]
        low, high = np.concatenate(limits, axis=1)
        return table.assign(conf_low=low, conf_high=high)

    def glance(self) -> pd.DataFrame:
        """One row: what was fitted, the log-likelihood, whether it converged, seconds."""
        design = self.model.design
        row = {
            "label": self.label,
            "estimand": self.estimand,
            "family": self.model.family.name,
            "link": self.model.link.name,
            "nobs": design.n,
            "npar": self.npar,
            "loglik": self.loglik,
            "loglik_kind": self.loglik_kind,
            "aic": self.aic,
            "converged": self.converged,
            "seconds": self.seconds.total,
        }
        return pd.DataFrame([row])

    def to_datatree(self):
        """Draws as an ArviZ-ready DataTree; of the asymptotic distribution where there are none."""
        return self.draws if self.draws is not None else heavy("to_datatree")(self)

    def predict(self, data=None, **options):
        """Predict means or linear predictors; see ``bayes_glmm.predict.predict``."""
        return heavy("predict")(self, data, **options)

    def population_averaged(self, **options):
        """Average over the random effects: coefficients, means, differences and ratios.

        See ``bayes_glmm.population.averaged.population_averaged``.
        """
        return heavy("population_averaged")(self, **options)

    def simulate(self, **options):
        """Simulate new responses from the fitted model; see ``bayes_glmm.predict.simulate``."""
        return heavy("simulate")(self, **options)

    def rank_levels(self, group: str, term: str | None = None, **options):
        """Rank the levels of a factor, with probabilities; see ``bayes_glmm.rank_levels``."""
        return heavy("rank_levels")(self, group, term, **options)

    def save(self, path):
        """Write the fit to one file that ``load_fit`` reads; see ``bayes_glmm.storage``."""
        return heavy("save")(self, path)

    def __repr__(self) -> str:
        """Show the model in one line, then the tidy table."""
        head = f"{self.label} of {self.model.formula} ({self.estimand})"
        if self.loglik is not None:
            aic = "" if self.aic is None else f", AIC {self.aic:.2f}"
            head += f"\nlog-likelihood {self.loglik:.4f} ({self.loglik_kind}){aic}"
        notes = "".join(f"\n{m}" for m in self.messages)
        return f"{head}\n{self.tidy().to_string(index=False)}{notes}"


def datatree_name(c: Component) -> str:
    """Name a component as the DataTree does: ``sd_herd[Intercept]``."""
    if c.kind == "dispersion":
        return "dispersion"
    if c.is_residual:
        return f"residual_{c.term}" + (f"[{c.term2}]" if c.term2 else "")
    inside = c.term if c.kind == "sd" else f"{c.term}~{c.term2}"
    return f"{c.kind}_{c.group}[{inside}]"


def variables_of(model) -> list[str]:
    """Variables of the DataTree that hold the variance parameters, in the contract's order."""
    names = (datatree_name(c).split("[")[0] for c in components_of(model))
    return list(dict.fromkeys(names))
