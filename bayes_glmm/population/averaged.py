r"""Population averages of any fit: what the conditional model says about the whole population.

A mixed model's coefficients compare rows of one level, the random effects held fixed. With the
effects integrated out the mean of row ``i`` over the population is

.. math:: m_i = \int g^{-1}(x_i'\beta + o_i + z_i'b)\, N(b; 0, D)\, db
   = E\,g^{-1}(x_i'\beta + o_i + \sqrt{v_i}\,Z), \qquad v_i = z_i'Dz_i,

``v_i`` summed over grouping factors. Means, differences and ratios of means are functions of
``m``. **Population-averaged coefficients** are those of the generalized linear model that is
nearest to these means,

.. math:: \sum_i w_i\,x_i\,\frac{g^{-1\prime}(\eta_i)}{V(\mu_i)}\,(m_i - \mu_i) = 0,
   \qquad \mu_i = g^{-1}(\eta_i),\; \eta_i = x_i'\beta^{pa} + o_i,

``w`` the trials: what a GLM, and GEE with independent rows, tend to as clusters become many if
the mixed model is true (the minimum of the Kullback-Leibler divergence, White 1982). Where the
marginal means are linear on the link scale (identity; log and probit with random intercepts;
a saturated model) every GEE tends to them; where they are nearly so, as for the logit, GEE with
another working correlation weighs the rows a little differently.

Beside them stands the attenuation formula of Zeger, Liang & Albert (1988), for random intercepts.

Errors: of a maximum-likelihood or quasi-likelihood fit by the delta method from
``fit.joint_cov``, with exact derivatives (those of the coefficients by the implicit function
theorem); of draws by transforming every draw.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..choices import choose
from ..fit import Fit
from ..methods import NotServedError
from ..numerics.bind import Bound, bind_numpy
from ..numerics.population_mean import population_mean
from ..predict import refuse_missing
from .nearest import nearest, score_per_mean, working_family
from .rows import Rows, row_variances, slopes_of_variances

CHUNK = 2_000_000  # draws times rows worked on at a time
# (16 sqrt(3) / (15 pi))^2: the normal distribution nearest to the logistic
LOGISTIC = (16 * np.sqrt(3) / (15 * np.pi)) ** 2
ATTENUATION = {"logit": LOGISTIC, "probit": 1.0, "identity": 0.0, "log": 0.0}


def population_averaged(fit: Fit, *, draws: int = 1000, level: float = 0.95):
    """Average a fit over its random effects.

    Parameters
    ----------
    fit
        Any fit with all coefficients. One whose coefficients are population-averaged already
        (GEE, GLM) gives its own, so that means and contrasts compare.
    draws
        Posterior draws used, at most, evenly spaced.
    level
        Coverage of intervals.

    Returns
    -------
    PopulationAveraged

    Raises
    ------
    NotServedError
        If coefficients are missing, or the link has no mean on part of the line (sqrt, inverse).
    """
    if not 0 < level < 1:
        raise ValueError(f"population_averaged(level={level!r}) must lie between 0 and 1.")
    if draws < 2:
        raise ValueError(f"population_averaged(draws={draws!r}) must be at least 2.")
    refuse_missing(fit, "population_averaged")
    found = PopulationAveraged(fit, level, draws)
    if np.isfinite(fit.model.link.lowest) and np.any(found.components > 0):
        raise NotServedError(
            f"population_averaged() got link {fit.model.link.name!r}, whose mean exists on part of "
            "the line only, so that the average over normal random effects does not: use link "
            "'log'."
        )
    return found


class PopulationAveraged:
    """A fit averaged over its random effects.

    Attributes
    ----------
    fit
        Where it comes from.
    level
        Coverage of intervals.
    beta
        The parameters: one row for a fit without draws; shape ``(draws, p)``.
    components
        SDs and correlations of the random effects by factor, shape ``(draws, m)``; of
        width 0 where the method has none.
    """

    def __init__(self, fit: Fit, level: float, draws: int):
        self.fit, self.level = fit, level
        p = len(fit.beta)
        effects = 0 if fit.estimand != "conditional" else _random_parameters(fit)
        if fit.draws is not None:
            every = fit._flat_draws
            keep = np.linspace(0, len(every) - 1, min(draws, len(every))).round().astype(int)
            values = every[keep]
        else:
            tail = np.zeros(0) if fit.variance is None else fit.variance.estimate
            values = np.concatenate([fit.beta, tail])[None, :]
        self.beta, self.components = values[:, :p], values[:, p : p + effects]

    # --- what is asked for -----------------------------------------------------------------

    def coefficients(self) -> pd.DataFrame:
        """Population-averaged coefficients: ``term, estimate, std_error, conf_low, conf_high``.

        Of the generalized linear model nearest to the marginal means; see the module. Compare
        them with GEE's, never with conditional ones.
        """
        return _by_term(self.fit, self._summary(self.beta_pa, self._slopes_of_beta))

    def attenuated(self) -> pd.DataFrame:
        r"""Coefficients by the attenuation formula (Zeger, Liang & Albert 1988).

        .. math:: \beta^{pa} \approx \beta\,(1 + c^2 v)^{-1/2}

        with ``v`` the variance of the random effects, ``c = 16 sqrt(3) / (15 pi)`` for the logit
        (an approximation, a few per cent high) and ``c = 1`` for the probit (exact); for the log
        link ``v / 2`` is added to the intercept, and for the identity nothing changes (exact).

        Raises
        ------
        NotServedError
            For other links, or where the variance of ``z'b`` differs between rows (random
            slopes), so that no one factor exists.
        """
        link = self.fit.model.link.name
        if self._is_averaged or link == "identity":
            return self.coefficients()
        if link not in ATTENUATION:
            raise NotServedError(
                f"The attenuation formula is known for {', '.join(ATTENUATION)}, not for link "
                f"{link!r}: use coefficients()."
            )
        v, by_theta = self._one_variance()
        if link == "log":
            return self._shifted(v, by_theta)
        factor = (1 + ATTENUATION[link] * v) ** -0.5
        by_v = -0.5 * ATTENUATION[link] * factor**3

        def slopes():
            first = factor[0] * np.eye(len(self.fit.beta))
            return np.hstack([first, np.outer(self.beta[0] * by_v[0], by_theta)])

        return _by_term(self.fit, self._summary(self.beta * factor[:, None], slopes))

    def means(self, data: Any = None) -> pd.DataFrame:
        """Mean response (per trial) of rows, averaged over the random effects.

        Parameters
        ----------
        data
            Rows with the columns of the formula's predictor; None is the rows that were fitted.

        Returns
        -------
        DataFrame
            ``estimate, std_error, conf_low, conf_high`` with the index of ``data``; Wald limits
            are symmetric on the link scale.
        """
        rows, index = self._rows(data)
        few, where = rows.distinct()
        values = self._means(few)
        columns = self._summary(values, lambda: self._slopes_of_means(few), *self._link_scale())
        return pd.DataFrame({k: v[where] for k, v in columns.items()}, index=index)

    def compare(self, column: str, low: Any, high: Any, data: Any = None) -> pd.DataFrame:
        """Compare the population's mean with a column at one value and at another.

        All rows are given the value ``low``, then ``high``, other columns as they are, and
        their means averaged (standardisation, g-computation); rows of counts weigh by their
        trials.

        Parameters
        ----------
        column
            Of the formula's predictor.
        low, high
            Two values of it.
        data
            Rows to average over; None is the rows that were fitted.

        Returns
        -------
        DataFrame
            ``quantity, contrast, estimate, std_error, conf_low, conf_high``: the two means,
            their ``difference`` (high less low), ``ratio``, and for probabilities the
            ``odds ratio``. Wald limits of means are symmetric on the link scale, those of
            ratios on the log scale.
        """
        self._check_column(column)
        pair = [self._average(self._with(column, value, data)) for value in (low, high)]
        (a, by_a), (b, by_b) = pair
        found = [
            ("mean", f"{low}", a, by_a, *self._link_scale()),
            ("mean", f"{high}", b, by_b, *self._link_scale()),
            ("difference", f"{high} - {low}", b - a, lambda: by_b() - by_a(), *_PLAIN),
        ]
        family, mean_range = self.fit.model.family, self.fit.model.link.mean_range
        if family.support.low >= 0:
            ratio = (b / a, lambda: by_b() / a - b / a**2 * by_a(), *_LOG)
            found.append(("ratio", f"{high} / {low}", *ratio))
        if mean_range.high == 1:
            odds = b / (1 - b) * (1 - a) / a

            def slope():
                return odds * (by_b() / (b * (1 - b)) - by_a() / (a * (1 - a)))

            found.append(("odds ratio", f"{high} / {low}", odds, slope, *_LOG))
        table = [
            {"quantity": quantity, "contrast": contrast}
            | {k: v[0] for k, v in self._summary(x[:, None], slopes, *scale).items()}
            for quantity, contrast, x, slopes, *scale in found
        ]
        return pd.DataFrame(table)

    @cached_property
    def beta_pa(self) -> np.ndarray:
        """Population-averaged coefficients, one row per draw; shape ``(draws, p)``."""
        if self._is_averaged:
            return self.beta
        return self._in_chunks(lambda part: nearest(self._bound, self._few, part._means(self._few)))

    def __repr__(self) -> str:
        """Show the coefficients."""
        how = "" if self._is_averaged else ", averaged over the random effects"
        return f"{self.fit.label}{how}\n{self.coefficients().to_string(index=False)}"

    # --- rows ------------------------------------------------------------------------------

    @property
    def _is_averaged(self) -> bool:
        """Whether there is nothing to integrate out."""
        return self.components.shape[1] == 0

    @cached_property
    def _few(self) -> Rows:
        return self._rows(None)[0].distinct()[0]

    @cached_property
    def _bound(self) -> Bound:
        return bind_numpy(working_family(self.fit.model.family), self.fit.model.link)

    def _rows(self, data) -> tuple[Rows, pd.Index]:
        design = self.fit.model.design
        if data is None:
            d = design.in_user_order()
            return Rows(d.X, d.offset, tuple(g.Z for g in d.groups), d.trials), d.frame.index
        frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
        X, offset, Z = design.new_columns(frame)
        return Rows(X, offset, tuple(Z), np.ones(len(X))), frame.index

    def _with(self, column: str, value, data) -> Rows:
        """Rows with one column set to a value."""
        own = data is None
        frame = self.fit.model.design.frame if own else pd.DataFrame(data)
        X, offset, Z = self.fit.model.design.new_columns(frame.assign(**{column: value}))
        weight = self.fit.model.design.in_user_order().trials if own else np.ones(len(X))
        return Rows(X, offset, tuple(Z), weight)

    def _check_column(self, column: str) -> None:
        variables = self.fit.model.design.formula.variables
        if column not in variables:
            raise ValueError(
                f"compare(column={column!r}) is not a column of the predictor: "
                f"{choose(str(column), variables)}"
            )

    # --- means and their derivatives -------------------------------------------------------

    def _in_chunks(self, function: Callable[["PopulationAveraged"], np.ndarray]) -> np.ndarray:
        """Apply a function to a few draws at a time and stack what comes."""
        size = max(1, CHUNK // max(len(self._few.offset), 1))
        parts = []
        for start in range(0, len(self.beta), size):
            part = object.__new__(PopulationAveraged)
            part.__dict__ |= {"fit": self.fit, "level": self.level}
            part.beta = self.beta[start : start + size]
            part.components = self.components[start : start + size]
            parts.append(function(part))
        return np.concatenate(parts)

    def _variances(self, rows: Rows) -> np.ndarray:
        """``v = z'Dz`` of rows, shape ``(draws, n)``."""
        if self._is_averaged:
            return np.zeros((len(self.beta), len(rows.offset)))
        return row_variances(self.fit.model.design.groups, self.components, rows.Z)

    def _means(self, rows: Rows) -> np.ndarray:
        """Marginal means of rows, shape ``(draws, n)``."""
        eta = self.beta @ rows.X.T + rows.offset
        return population_mean(self.fit.model.link, eta, self._variances(rows))[0]

    def _slopes_of_means(self, rows: Rows) -> np.ndarray:
        """Differentiate the means by coefficients and components, shape ``(n, p + m)``."""
        eta = self.beta[0] @ rows.X.T + rows.offset
        _, by_eta, by_v = population_mean(self.fit.model.link, eta, self._variances(rows)[0])
        by_beta = by_eta[:, None] * rows.X
        if self._is_averaged:
            return by_beta
        groups = self.fit.model.design.groups
        by_theta = slopes_of_variances(groups, self.components[0], rows.Z)
        return np.hstack([by_beta, by_v[:, None] * by_theta])

    def _slopes_of_beta(self) -> np.ndarray:
        """Differentiate the averaged coefficients, shape ``(p, p + m)``.

        By the implicit function theorem on the equations that they solve.
        """
        if self._is_averaged:
            return np.eye(len(self.fit.beta))
        rows = self._few
        eta = self.beta_pa[0] @ rows.X.T + rows.offset
        one = np.ones_like(eta)
        gain = score_per_mean(self._bound, eta)
        curvature = -self._bound.log_density(self._means(rows)[0], one, eta)[2]
        A = rows.X.T @ ((rows.weight * curvature)[:, None] * rows.X)
        moved = (rows.weight * gain)[:, None] * self._slopes_of_means(rows)
        return np.linalg.solve(A, rows.X.T @ moved)

    def _average(self, rows: Rows):
        """Weighted mean over rows, shape ``(draws,)``, and how to get its derivatives."""
        few, _ = rows.distinct()
        share = few.weight / few.weight.sum()
        mean = self._in_chunks(lambda part: part._means(few) @ share)
        return mean, cache(lambda: share @ self._slopes_of_means(few))

    def _one_variance(self) -> tuple[np.ndarray, np.ndarray]:
        """Variance of ``z'b`` by draw, ``(draws,)``, and its derivatives ``(m,)`` at the first."""
        rows = self._few
        first = replace(rows, X=rows.X[:1], offset=rows.offset[:1], Z=tuple(z[:1] for z in rows.Z))
        if any(np.ptp(z, axis=0).any() for z in rows.Z):
            raise NotServedError(
                "The attenuation formula needs random intercepts alone: with random slopes the "
                "variance differs from row to row; use coefficients()."
            )
        groups = self.fit.model.design.groups
        slopes = slopes_of_variances(groups, self.components[0], first.Z)[0]
        return self._variances(first)[:, 0], slopes

    def _shifted(self, v: np.ndarray, by_theta: np.ndarray) -> pd.DataFrame:
        """Log link: the intercept rises by half the variance."""
        unit = (self.fit.terms == "Intercept").astype(float)
        if not unit.any():
            raise NotServedError(
                "The attenuation formula of a log link moves the intercept, and the formula has "
                "none: use coefficients()."
            )

        def slopes():
            return np.hstack([np.eye(len(unit)), np.outer(unit / 2, by_theta)])

        return _by_term(self.fit, self._summary(self.beta + np.outer(v / 2, unit), slopes))

    # --- errors ----------------------------------------------------------------------------

    def _link_scale(self):
        link = self.fit.model.link
        return (
            link.link,
            lambda t: link.inverse(t)[0],
            lambda m: 1.0 / link.inverse(link.link(m))[1],
        )

    def _summary(self, values, slopes, scale=None, back=None, slope=None) -> dict[str, np.ndarray]:
        """Estimate, error and limits of each column of ``values (draws, k)``.

        ``slopes`` gives their derivatives ``(k, p + m)``; ``scale``, ``back`` and ``slope`` the
        scale on which Wald limits are symmetric, its inverse and its derivative.
        """
        if scale is None or back is None or slope is None:
            scale, back, slope = _PLAIN
        if self.fit.draws is not None:
            tails = [(1 - self.level) / 2, (1 + self.level) / 2]
            low, high = np.quantile(values, tails, axis=0)
            return _named(values.mean(axis=0), values.std(axis=0, ddof=1), low, high)
        estimate = values[0]
        derivatives = np.atleast_2d(slopes())
        error = self._errors(derivatives)
        critical = self.fit.critical(self.level, derivatives[:, : len(self.fit.beta)])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            half = critical * error * np.abs(slope(estimate))
            low, high = back(scale(estimate) - half), back(scale(estimate) + half)
        return _named(estimate, error, low, high)

    def _errors(self, slopes: np.ndarray) -> np.ndarray:
        """Delta method; parameters on the boundary are taken as known."""
        p, size = len(self.fit.beta), slopes.shape[1]
        covariance = np.asarray(self.fit.vcov()) if self._is_averaged else self.fit.joint_cov
        if covariance is None:  # a method without errors of its variance components
            covariance = np.full((size, size), np.nan)
            covariance[:p, :p] = self.fit.vcov()
        covariance = covariance[:size, :size]
        known = np.isfinite(np.diag(covariance))
        if not known[:p].all():
            return np.full(len(slopes), np.nan)
        used = slopes[:, known]
        return np.sqrt(np.einsum("ki,ij,kj->k", used, covariance[np.ix_(known, known)], used))


def _random_parameters(fit: Fit) -> int:
    """Give the number of SDs and correlations among the components."""
    if fit.variance is None:
        return 0
    return sum(c.kind in ("sd", "corr") for c in fit.variance.components)


def _named(estimate, error, low, high) -> dict[str, np.ndarray]:
    return {"estimate": estimate, "std_error": error, "conf_low": low, "conf_high": high}


def _by_term(fit: Fit, columns: dict[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({"term": list(fit.terms)} | columns)


def _same(x):
    return x


_PLAIN = (_same, _same, np.ones_like)
_LOG = (np.log, np.exp, lambda x: 1.0 / x)
