"""What every section draws on: the comparison, the fits it leans on, and costly tests, once."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from ..comparison import AVERAGED as AVERAGE
from ..comparison import FORMULA, Comparison
from ..fit import Component, Fit, components_of, datatree_name
from ..ranking import rank_levels
from .document import Block, Key, Paragraph
from .figures.canvas import OTHER, MethodStyle, hollow, method_styles

log = logging.getLogger(__name__)

CONDITIONAL, AVERAGED = "conditional", "population-averaged"
MOST_WORK = 3e8  # rows times nodes of all evaluations of a profile: about half a minute
EVALUATIONS = 120  # of the likelihood, for one parameter's profile
RANKED = 20_000_000  # draws times levels of a ranking
RESPONSES = 20_000_000  # drawn from the prior
FEWEST = 50  # draws from the prior that still show a distribution


class TooLargeError(ValueError):
    """A computation is left out of the report because it would take long."""


@dataclass(frozen=True)
class About:
    """What a report is about, for those who have no model file.

    Attributes
    ----------
    title, question
        Its headings.
    seed
        Seed of the methods that draw, as printed; None leaves it out.
    notes
        A paragraph below the question.
    heritability
        Grouping factor -> multiple of its share of the variance; see ``heritability``.
    """

    title: str
    question: str = ""
    seed: int | None = None
    notes: str = ""
    heritability: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Any) -> "About":
        """Read it off a model file; an About passes through."""
        if isinstance(source, About):
            return source
        r = source.report
        return cls(source.title, source.question, source.seed, r.notes, r.heritability)


@dataclass(frozen=True, eq=False)
class Material:
    """A comparison with its model, styles and derived results."""

    about: About
    comparison: Comparison
    model: Any
    command: str = ""
    progress: Callable[[str], None] = lambda stage: None
    memory: dict = field(default_factory=dict)
    tables: dict[str, dict] = field(default_factory=dict)

    def keep(self, file: str, part: str, table: pd.DataFrame) -> None:
        """Put a table among those written as CSV beside the report, part by part of a file."""
        self.tables.setdefault(file, {})[part] = table

    @property
    def fits(self) -> dict[str, Fit]:
        """Fits by label."""
        return self.comparison.fits

    @cached_property
    def conditional(self) -> dict[str, Fit]:
        """Fits whose coefficients are conditional on the group effects."""
        return self.comparison.by_estimand(CONDITIONAL)

    @cached_property
    def averaged(self) -> dict[str, Fit]:
        """Fits whose coefficients are population-averaged."""
        return self.comparison.by_estimand(AVERAGED)

    @cached_property
    def mixed(self) -> dict[str, Fit]:
        """Conditional fits that estimate the random effects' SDs."""
        return {k: f for k, f in self.conditional.items() if f.varcorr().shape[0]}

    @cached_property
    def styles(self) -> Mapping[str, MethodStyle]:
        """Colour and marker of each label."""
        return method_styles({label: fit.method for label, fit in self.fits.items()})

    @cached_property
    def averages(self) -> pd.DataFrame:
        """Conditional fits averaged over their random effects; see ``Comparison.averaged``."""
        self.progress("averages over the population")
        return self.comparison.averaged()

    def style(self, label: str) -> MethodStyle:
        """Style of a label; failed methods have one too, averaged fits that of their method."""
        if label in self.styles:
            return self.styles[label]
        for name, style in self.styles.items():
            if label == f"{name}, {AVERAGE}":
                return style
            if label == f"{name}, {FORMULA}":
                return hollow(style)
        return OTHER

    def key(self, label: str) -> Key:
        """Label with its colour and marker."""
        style = self.style(label)
        return Key(label, style.color, style.character)

    @cached_property
    def posterior(self) -> tuple[str, Fit] | None:
        """The first fit with posterior draws."""
        return next(iter(self.posteriors.items()), None)

    @cached_property
    def posteriors(self) -> dict[str, Fit]:
        """All fits with posterior draws, those of mixed models where there are any."""
        every = self.mixed or self.conditional
        return {label: fit for label, fit in every.items() if fit.draws is not None}

    @cached_property
    def likelihood(self) -> tuple[str, Fit] | None:
        """The fit whose likelihood is nearest to exact: quadrature, then Laplace, then REML."""
        having = {k: f for k, f in self.mixed.items() if f.loglik is not None}
        return (
            _first(having, lambda f: f.loglik_kind not in ("Laplace", "restricted"))
            or _first(having, lambda f: f.loglik_kind != "restricted")
            or _first(having, lambda f: True)
        )

    @cached_property
    def reference(self) -> tuple[str, Fit] | None:
        """The fit that sentences quote: the posterior if it converged, else REML or ML."""
        if self.posterior and self.posterior[1].converged:
            return self.posterior
        every = self.mixed or self.conditional
        restricted = _first(self.mixed, lambda f: f.loglik_kind == "restricted")
        return restricted or self.likelihood or self.posterior or _first(every, lambda f: True)

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Variance parameters of the model."""
        return components_of(self.model)

    def sds(self) -> list[Component]:
        """List the standard deviations of the random effects."""
        return [c for c in self.components if c.kind == "sd"]

    def sd_estimate(self, fit: Fit, component: Component) -> tuple[float, float, float]:
        """Estimate and 95 % limits of a component in a fit; NaN where it has none."""
        if fit.variance is None or component not in fit.variance.components:
            return np.nan, np.nan, np.nan
        k = fit.variance.components.index(component)
        limits = fit.confint().iloc[len(fit.beta) + k]
        return float(fit.variance.estimate[k]), float(limits.conf_low), float(limits.conf_high)

    def boundary(self, component: Component):
        """Test of a zero variance by the likelihood's fit; raises what the test raises."""
        fit = self._likelihood_fit()
        run = inference().boundary_test
        return self._once(
            f"boundary test of {datatree_name(component)}",
            lambda: run(fit, component.group, component.term),
        )

    def profile(self, component: Component, grid: np.ndarray) -> np.ndarray:
        """Profile log-likelihood of a component on a grid, by the likelihood's fit."""
        fit = self._likelihood_fit()
        refuse_large(fit, 1)
        run = inference().profile
        name = datatree_name(component)
        return self._once(f"profile likelihood of {name}", lambda: run(fit, name, grid))

    def profiles(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Profiles of all parameters of the likelihood's fit, and their 95 % intervals.

        Raises
        ------
        TooLargeError
            If they would take long.
        NotServedError
            If the fit has no likelihood to profile.
        """
        fit = self._likelihood_fit()
        refuse_large(fit, len(fit.parameter_names))
        run = inference()
        return self._once(
            "profiles of all parameters",
            lambda: (run.profile_frame(fit), run.profile_confint(fit)),
        )

    def ranking(self, label: str, group: str, term: str, top: int) -> pd.DataFrame:
        """Ranks of a factor's levels by the fit of that label."""
        levels = next(g.n_levels for g in self.model.design.groups if g.group == group)
        draws = min(4000, max(500, RANKED // levels))
        return self._once(
            f"ranks of {group} ({term}) by {label}",
            lambda: rank_levels(self.fits[label], group, term, top=top, draws=draws),
        )

    def prior_predictive(self):
        """Responses drawn from the priors, at most 1,000 data sets; fewer where data are large.

        Raises
        ------
        TooLargeError
            If the data are too large for even a few.
        """
        size = int(min(1000, RESPONSES // self.model.design.n))
        if size < FEWEST:
            raise TooLargeError(
                f"{self.model.design.n} rows are too many to draw often; "
                "model.prior_predictive() draws them."
            )
        seed = self.about.seed or 1
        return self._once(
            "responses under the prior", lambda: self.model.prior_predictive(size, seed)
        )

    def leave_one_out(self, fit: Fit):
        """Pareto-smoothed leave-one-out cross-validation of a fit with draws (ArviZ)."""
        from arviz_stats.loo import loo

        def quietly():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # high k-hats are said in the report's words
                return loo(fit.draws, pointwise=True)

        return self._once(f"leave-one-out prediction of {fit.label}", quietly)

    def _likelihood_fit(self) -> Fit:
        if self.likelihood is None:
            raise ValueError("no method with a likelihood gave a fit")
        return self.likelihood[1]

    def _once(self, what: str, compute: Callable[[], Any]):
        """Compute a costly result the first time it is asked for; an error is remembered too."""
        if what not in self.memory:
            self.progress(what)
            try:
                self.memory[what] = compute()
            except Exception as error:
                self.memory[what] = error
        found = self.memory[what]
        if isinstance(found, Exception):
            raise found
        return found


def refuse_large(fit: Fit, parameters: int) -> None:
    """Leave profiles out where they would hold up the report.

    Judged by rows, nodes and the dense part of the factorisation, not by the clock, so that a
    report is the same on every machine.

    Raises
    ------
    TooLargeError
        If the likelihood takes too long.
    """
    design, nodes = fit.model.design, fit.details.get("nodes", 1)
    effects = [g.n_levels * g.q for g in design.groups]
    dense = sum(effects) - max(effects, default=0)
    per_row = nodes ** sum(g.q for g in design.groups)
    work = (design.n * per_row + dense**3 / 100) * EVALUATIONS * parameters
    if work > MOST_WORK:
        raise TooLargeError(
            f"they would take long here ({design.n} rows, {parameters} parameters); "
            "fit.profile() computes them."
        )


def inference():
    """Import the tests and profiles of the likelihood methods, when they are first needed."""
    return import_module("bayes_glmm.frequentist.inference")


def _first(fits: Mapping[str, Fit], wanted: Callable[[Fit], bool]) -> tuple[str, Fit] | None:
    return next(((label, fit) for label, fit in fits.items() if wanted(fit)), None)


def attempt(what: str, build: Callable[[], Sequence[Block]]) -> list[Block]:
    """Build blocks; a failure becomes a sentence that says so, and the report goes on."""
    try:
        return list(build())
    except Exception as error:  # any failure of one part must leave the others standing
        log.debug("%s failed", what, exc_info=True)
        return [Paragraph(f"Not shown: {what} ({type(error).__name__}: {error}).", "warning")]


def tidy_fixed(fit: Fit) -> pd.DataFrame:
    """Tidy rows of the coefficients, indexed by term."""
    return fit.tidy(("fixed",)).set_index("term")
