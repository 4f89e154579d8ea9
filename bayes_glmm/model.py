"""GLMM: one specification that every method reads.

Formula, data, family, link and priors meet here. Every default is resolved when the model
is made, and bad input is refused here, so that no method checks data again.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from typing import Any, Literal

import numpy as np

from .design import Design, RepeatedRows, build_design, put_rows, relate
from .families import Family, Link, get_family, get_link
from .fit import Fit
from .formula import parse_formula
from .messages import Message, message
from .methods import Method, NotServedError, get_method
from .priors import Priors, ResolvedPriors, resolve_priors
from .residual import ResidualCorrelation

RATES = ("half-life", "rate")  # scales of priors that are not read easily


class GLMM:
    r"""A generalized linear mixed model with its data and priors; immutable.

    .. math:: g(E[y_i \mid b]) = x_i'\beta + z_i'b + \mathrm{offset}_i, \quad b = \Lambda u,
       \quad u \sim N(0, I)

    Parameters
    ----------
    formula
        lme4 syntax: ``"y ~ x + (1 + x | g) + (1 | a/b) + offset(log(t))"``;
        ``cbind(successes, failures)`` or ``p(successes, trials)`` for binomial counts.
    data
        A DataFrame, or what makes one (a dict of columns, a list of records).
    family
        "gaussian", "bernoulli", "binomial", "beta_binomial", "poisson", "negative_binomial"
        (Var = mu + mu^2 / theta), "negative_binomial1" (Var = mu (1 + phi)) or "gamma".
    link
        "logit", "probit", "cloglog", "loglog" or "cauchit" of a probability, "log" or "sqrt" of
        a count's mean, "log" or "inverse" of gamma's, "identity", "log" or "inverse" of
        gaussian's; None is the family's default, the first of these.
    priors
        ``bg.Priors(...)``; None takes the package's proper defaults (``priors_table()``).
    covariance
        Known covariances between levels, grouping factor -> DataFrame labelled by level on both
        axes, as ``relationship_matrix`` makes it: ``b ~ N(0, A x D)`` instead of independent
        levels. With a diagonal of one the standard deviation of the factor is that of a level.
        Relatives in it that have no rows are predicted too, levels after those of the data.
    residual
        Correlation of a gaussian model's residuals within clusters, such as
        ``bg.residual.Exponential("time", by="cow", nugget=True)``; None is independence.
    missing
        "raise" refuses missing values, "drop" leaves the rows out and says how many.

    Raises
    ------
    ValueError
        If formula, data, family, link, priors or residual are not valid, or do not go together;
        the message says what was got, what is needed and what to do.
    """

    design: Design
    family: Family
    formula: str
    link: Link
    messages: tuple[Message, ...]
    priors: ResolvedPriors
    repeated: RepeatedRows | None  # the rows as the residual correlation sees them
    residual: ResidualCorrelation | None
    stated: Priors

    def __init__(
        self,
        formula: str,
        data: Any,
        *,
        family: str | Family,
        link: str | Link | None = None,
        priors: Priors | None = None,
        covariance: Mapping[str, Any] | None = None,
        residual: ResidualCorrelation | None = None,
        missing: Literal["raise", "drop"] = "raise",
    ) -> None:
        parsed = parse_formula(formula)
        kind = get_family(family)
        scale = get_link(link, kind)
        check_residual(residual, kind)
        also = residual.columns if residual is not None else ()
        design = relate(build_design(parsed, data, missing=missing, also=also), covariance)
        repeated = put_rows(residual, design) if residual is not None else None
        object.__setattr__(self, "residual", residual)
        object.__setattr__(self, "repeated", repeated)
        self._settle(formula, design, kind, scale, priors)

    def _settle(self, formula, design, family, link, priors) -> None:
        """Check the response, resolve the priors and set every attribute, once."""
        check_residual(self.residual, family)
        check_response(design, family)
        stated = Priors() if priors is None else priors
        resolved = resolve_priors(stated, design, family, link, self.repeated)
        notes = dropped_message(design)
        values = (formula, design, family, link, stated, resolved, notes)
        names = ("formula", "design", "family", "link", "stated", "priors", "messages")
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name, value):
        """Refuse: a model is immutable."""
        raise AttributeError(
            f"A GLMM is immutable, so {name!r} cannot be set: use with_priors(…), "
            "with_family(…) or make a new GLMM."
        )

    def _with(self, family=None, link=None, priors=None) -> "GLMM":
        twin = object.__new__(GLMM)
        object.__setattr__(twin, "residual", self.residual)
        object.__setattr__(twin, "repeated", self.repeated)
        twin._settle(
            self.formula,
            self.design,
            family or self.family,
            link or self.link,
            self.stated if priors is None else priors,
        )
        return twin

    @property
    def related(self) -> list[str]:
        """Grouping factors whose levels have a known covariance."""
        return [g.group for g in self.design.groups if g.covariance is not None]

    @property
    def is_linear(self) -> bool:
        """Whether it is a linear mixed model: gaussian responses with identity link."""
        return self.family.name == "gaussian" and self.link.name == "identity"

    def with_priors(self, priors: Priors | None = None, **changes) -> "GLMM":
        """Return the same model under other priors, sharing the design.

        ``with_priors(sd=bg.HalfNormal(1))`` is short for ``with_priors(bg.Priors(sd=…))``.
        """
        if priors is not None and changes:
            raise ValueError("with_priors() got a Priors and keywords: give one of the two.")
        return self._with(priors=priors or Priors(**changes))

    def with_family(self, family, link=None) -> "GLMM":
        """Return the same formula and data under another family or link, sharing the design."""
        family = get_family(family)
        return self._with(family=family, link=get_link(link, family))

    @cached_property
    def _separation(self):
        """Direction in which the fixed-effects likelihood has no maximum, or None; sought once."""
        return import_module("bayes_glmm.propriety").find_separation(self)

    def fit(self, method: str | Method | None = None) -> Fit:
        """Fit the model.

        Parameters
        ----------
        method
            A method object such as ``bg.ML(nodes=25)``, or its string: "integrated", "nuts",
            "ml", "laplace", "reml", "pql", "mql", "gee", "conditional_logit", "glm", "ols". None
            samples the posterior: by ``Integrated()`` where it serves, otherwise by ``NUTS()``; a
            note says which.

        Raises
        ------
        ValueError
            If the method is unknown.
        NotServedError
            If the method cannot serve this model; the message names one that can.
        """
        if method is None:
            fit = import_module("bayes_glmm.bayesian.default").fit(self)
        else:
            chosen = get_method(method)
            refuse_relatives(self, chosen)
            if not chosen.serves_residual:
                refuse_residual(self, f"{chosen.label}")
            fit = chosen.load()(self, chosen)
        fit = import_module("bayes_glmm.identification").marked(fit, self._separation)
        return replace(fit, messages=(*self.messages, *fit.messages))

    def prior_predictive(self, draws: int = 1000, seed: int = 1):
        """Draw parameters, and responses to the rows of the data, from the priors alone.

        What the priors say before the data; see ``bayes_glmm.bayesian.prior.prior_predictive``.

        Parameters
        ----------
        draws, seed
            Independent draws, and the seed of their stream.

        Returns
        -------
        DataTree
            Groups ``prior``, ``prior_predictive`` and ``observed_data``.

        Raises
        ------
        ImproperPriorError
            If a prior is improper: nothing can be drawn from it.
        """
        engine = import_module("bayes_glmm.bayesian.prior")
        return engine.prior_predictive(self, draws, seed)

    def priors_table(self):
        """Show every prior the model uses, with its 95 % range; defaults are marked."""
        return self.priors.table()

    def __repr__(self) -> str:
        """Give the model in words: formula, family, data, groups and priors."""
        d = self.design
        related = {g.group: in_words(g) for g in d.groups}
        groups = [f"{g.group} ({g.n_observed} levels{related[g.group]})" for g in d.groups]
        residual = "" if self.residual is None else f"; residual correlation: {self.residual}"
        table = self.priors_table()
        means = table["means"].where(table["scale"].isin(RATES), "")
        rows = zip(table["parameter"], table["prior"], means, strict=True)
        priors = "\n".join(f"  {p} ~ {q}" + (f": {words}" if words else "") for p, q, words in rows)
        return (
            f"GLMM {self.formula}\n"
            f"family {self.family.name}, link {self.link.name}; {d.n} rows, "
            f"{d.p} coefficients; grouping factors: {', '.join(groups) or 'none'}{residual}\n"
            f"priors\n{priors}"
        )


def in_words(block) -> str:
    """Say of a grouping factor whether its levels are related, and how many have no rows."""
    if block.covariance is None:
        return ""
    others = block.n_levels - block.n_observed
    return f", related{f', and {others} relatives without rows' if others else ''}"


def check_residual(residual, family: Family) -> None:
    """Refuse what is no residual correlation, and families without residuals.

    Raises
    ------
    ValueError
        Saying what to give instead.
    """
    if residual is None:
        return
    if not isinstance(residual, ResidualCorrelation):
        raise ValueError(
            f"GLMM(residual={residual!r}) is no residual correlation: give one of bg.residual, as "
            "in residual=bg.residual.Exponential('time', by='subject')."
        )
    if family.name != "gaussian":
        raise ValueError(
            f"GLMM(residual={residual}) got family={family.name!r}, which has no residuals beside "
            "its mean: correlated residuals are served for family='gaussian'; for other families "
            "add a random effect, or use GEE(corr=…)."
        )


def refuse_residual(model: GLMM, what: str) -> None:
    """Refuse a model with correlated residuals where they are not served.

    Raises
    ------
    NotServedError
        Naming the methods that serve them.
    """
    if model.residual is not None:
        raise NotServedError(
            f"{what} takes residuals as independent and the model has {model.residual}: use "
            "REML(), ML() or NUTS(), or a model without residual=."
        )


def check_response(design: Design, family: Family) -> None:
    """Refuse responses outside the family's support, naming the rows.

    Raises
    ------
    ValueError
        Naming the response, the first offending rows, the support and what to do.
    """
    if design.formula.response.kind != "plain" and not family.has_trials:
        raise ValueError(
            f"family={family.name!r} got successes and trials in {design.response_name!r}: use "
            "family='binomial' or 'beta_binomial', or give a single response column."
        )
    if family.has_trials and family.has_dispersion and np.all(design.trials == 1):
        raise ValueError(
            f"family={family.name!r} got one trial in every row of {design.response_name!r}, "
            "which says nothing about its dispersion: write cbind(successes, failures) or "
            "p(successes, trials), or use family='bernoulli'."
        )
    outside = np.flatnonzero(design.to_user(family.outside(design.y, design.trials)))
    if outside.size:
        labels = ", ".join(str(design.frame.index[i]) for i in outside[:5])
        values = ", ".join(f"{v:g}" for v in design.to_user(design.y)[outside[:5]])
        more = f" and {outside.size - 5} more" if outside.size > 5 else ""
        plain_counts = family.has_trials and design.formula.response.kind == "plain"
        needed = (
            "0 or 1; for counts write cbind(successes, failures) or p(successes, trials)"
            if plain_counts
            else f"{family.support}; mend those rows or choose another family"
        )
        raise ValueError(
            f"The response {design.response_name!r} is outside the support of "
            f"family={family.name!r} in {outside.size} of {design.n} rows (row {labels}{more}: "
            f"{values}): it needs {needed}."
        )


def refuse_relatives(model: GLMM, method: Method) -> None:
    """Refuse a method that takes levels as independent where the model relates them."""
    related = model.related
    if related and not method.serves_relatives(model.is_linear):
        instead = "REML(), ML() or NUTS()" if model.is_linear else "NUTS() or PQL()"
        raise NotServedError(
            f"{method.label} takes the levels of a grouping factor as independent, and covariance= "
            f"relates those of {', '.join(related)}: use {instead}."
        )


def dropped_message(design: Design) -> tuple[Message, ...]:
    """Say how many rows were left out for missing values."""
    if not design.n_dropped:
        return ()
    total = design.n + design.n_dropped
    columns = ", ".join(getattr(design, "dropped_columns", ())) or "model columns"
    return (message("rows-dropped", count=design.n_dropped, total=total, columns=columns),)
