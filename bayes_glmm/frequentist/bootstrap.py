r"""The parametric bootstrap of a likelihood fit: simulate from it, refit by the same likelihood.

.. math:: b^* \sim N(0, \hat D), \qquad y^* \mid b^* \sim f(\cdot \mid \hat\beta, b^*, \hat\phi)

Every refit has a likelihood object of its own. Linear mixed models that only the mixed model
equations serve (REML, residual correlation, related levels) are simulated and refitted by these.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Literal

import numpy as np
import pandas as pd

from ..fit import Fit, check_level
from ..messages import Message, message
from ..progress import Progress
from .likelihood import Likelihood, Maximum
from .lmm_likelihood import by_equations
from .lmm_refits import fitted
from .ml import natural
from .profiles import likelihood_of
from .replicates import LIFT, Failed, replicated

RANGES = {
    **dict.fromkeys(("sd", "dispersion", "rate"), (0.0, np.inf)),
    **dict.fromkeys(("corr", "serial"), (-1.0, 1.0)),
    "share": (0.0, 1.0),
}
BEYOND = 10  # replicates that should lie beyond a percentile limit
FAR = 10.0  # standard errors from the estimate: a coefficient that is infinite
FAILED_SHARE = 0.05  # of the refits: more are worth a message


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Refits of data sets simulated from a fit.

    Attributes
    ----------
    fit
        What was simulated from.
    seed
        Of the replicates.
    estimates
        One row per replicate, one column per parameter (``fit.parameter_names``): the scale
        of the tables. NaN in the rows of failed refits, and for correlations with an SD of
        zero.
    loglik
        Maximised log-likelihood by replicate, shape ``(replicates,)``.
    failures
        Replicate -> reason, for refits that failed or did not converge.
    seconds
        Wall-clock time.
    """

    fit: Fit
    seed: int
    estimates: pd.DataFrame
    loglik: np.ndarray
    failures: dict[int, str]
    seconds: float

    @cached_property
    def good(self) -> pd.DataFrame:
        """The rows of refits that succeeded."""
        return self.estimates.drop(index=list(self.failures))

    @property
    def zero_share(self) -> pd.Series:
        """Share of refits in which a standard deviation is exactly zero, by SD."""
        sds = [name for name in self.estimates if name.startswith("sd_")]
        return (self.good[sds] == 0.0).mean().rename("zero_share")

    @property
    def one_share(self) -> pd.Series:
        """Share of refits in which a correlation is one or minus one, by correlation."""
        correlations = [name for name in self.estimates if name.startswith("corr_")]
        return (self.good[correlations].abs() > 1.0 - 1e-6).mean().rename("one_share")

    @property
    def far_share(self) -> pd.Series:
        """Share of refits in which a coefficient is more than ten standard errors away.

        These are simulated responses with separation, where the maximum lies at infinity:
        they spoil ``bias`` and ``std_error``, but not percentile intervals.
        """
        se = self.fit.se()
        away = (self.good[se.index] - self._own[se.index]).abs() > FAR * se
        return away.mean().rename("far_share")

    @property
    def std_error(self) -> pd.Series:
        """Standard deviation of the estimates over the refits; see ``far_share``."""
        return self.good.std().rename("std_error")

    @property
    def bias(self) -> pd.Series:
        """Mean of the refits' estimates minus the fit's own."""
        return (self.good.mean() - self._own).rename("bias")

    @property
    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the range of every parameter."""
        components = self.fit.variance.components if self.fit.variance else ()
        ranges = [(-np.inf, np.inf)] * len(self.fit.beta) + [RANGES[c.kind] for c in components]
        least, most = np.array(ranges, float).reshape(-1, 2).T
        return least, most

    @cached_property
    def _own(self) -> pd.Series:
        sds = self.fit.variance.estimate if self.fit.variance else []
        return pd.Series([*self.fit.beta, *sds], self.estimates.columns)

    def confint(
        self, level: float = 0.95, kind: Literal["percentile", "basic"] = "percentile"
    ) -> pd.DataFrame:
        """Bootstrap intervals.

        Parameters
        ----------
        level
            Coverage.
        kind
            "percentile", or "basic": ``2 estimate - percentile``, kept inside the range of
            SDs and correlations.

        Returns
        -------
        DataFrame
            ``term, conf_low, conf_high``; ``attrs["messages"]`` holds ``messages_at(level)``.
        """
        check_level("confint", level)
        if kind not in ("percentile", "basic"):
            raise ValueError(f"confint(kind={kind!r}) is not known: use 'percentile' or 'basic'.")
        low, high = (self.good.quantile(q) for q in ((1 - level) / 2, (1 + level) / 2))
        if kind == "basic":
            low, high = 2 * self._own - high, 2 * self._own - low
            least, most = self._range
            low, high = low.clip(lower=least), high.clip(upper=most)
        table = pd.DataFrame(
            {"term": low.index, "conf_low": low.to_numpy(), "conf_high": high.to_numpy()}
        )
        table.attrs["messages"] = self.messages_at(level)
        return table

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is to be known before 95 % intervals are read."""
        return self.messages_at(0.95)

    def messages_at(self, level: float) -> tuple[Message, ...]:
        """Say where replicates are too few for the level, or many refits failed."""
        notes, total = [], len(self.estimates)
        wanted = int(np.ceil(2 * BEYOND / (1 - level) - 1e-9))
        if len(self.good) < wanted:
            notes.append(
                message(
                    "bootstrap-few", replicates=len(self.good), level=100 * level, wanted=wanted
                )
            )
        if len(self.failures) > FAILED_SHARE * total:
            reason = pd.Series(self.failures).mode()[0]
            notes.append(
                message("bootstrap-failures", failed=len(self.failures), total=total, reason=reason)
            )
        return tuple(notes)

    def __repr__(self) -> str:
        """Say in words what was done, then estimates, errors and intervals."""
        head = (
            f"Parametric bootstrap of {self.fit.label}: {len(self.estimates)} data sets simulated "
            f"from the fit (seed {self.seed}), {len(self.failures)} refits failed"
        )
        table = self.confint().set_index("term")
        table.insert(0, "estimate", self._own)
        table.insert(1, "bias", self.bias)
        table.insert(2, "std_error", self.std_error)
        shares = {
            "is zero": self.zero_share,
            "is one or minus one": self.one_share,
            "is undefined (an SD is zero)": self.good.isna().mean(),
            "is at infinity (separation)": self.far_share,
        }
        lines = [
            f"{name} {what} in {share:.1%}"
            for what, by_name in shares.items()
            for name, share in by_name.items()
            if share > 0
        ]
        return "\n".join([head, table.to_string(), *lines, *map(str, self.messages)])


def bootstrap(
    fit: Fit,
    replicates: int = 500,
    seed: int = 1,
    workers: int | None = None,
    progress: Progress = False,
) -> Bootstrap:
    """Refit data sets simulated from a fit.

    Parameters
    ----------
    fit
        By ML, REML or GLM.
    replicates
        Number of data sets; percentile limits at 95 % want 400.
    seed
        The same seed gives the same numbers whatever the number of workers.
    workers
        Threads; None is one for each core.
    progress
        True shows it on stderr; or a function of ``(done, total)``.

    Raises
    ------
    NotServedError
        If the fit has no likelihood.
    ValueError
        If an option is not valid.
    """
    started = perf_counter()
    names = fit.parameter_names
    one = replicate_by_equations(fit) if by_equations(fit) else replicate_by_quadrature(fit)
    found = replicated(one, fit.method.stream(seed), replicates, workers, progress)
    failures = {r: f.reason for r, f in enumerate(found) if isinstance(f, Failed)}
    nothing = np.full(len(names), np.nan), np.nan
    rows, logliks = zip(*(nothing if isinstance(f, Failed) else f for f in found), strict=True)
    return Bootstrap(
        fit=fit,
        seed=seed,
        estimates=pd.DataFrame(np.array(rows), columns=names).rename_axis("replicate"),
        loglik=np.array(logliks),
        failures=failures,
        seconds=perf_counter() - started,
    )


def replicate_by_quadrature(fit: Fit):
    """Give the function of a random stream that simulates, refits and returns estimates."""
    likelihood, x, covariance = likelihood_of(fit)
    begin = lifted(likelihood, x)

    def one(rng: np.random.Generator) -> tuple[np.ndarray, float]:
        maximum = refit(likelihood, simulate(likelihood, x, rng), begin, covariance)
        return natural(likelihood, maximum.x)[0], maximum.loglik

    return one


def replicate_by_equations(fit: Fit):
    """Give the same for a linear mixed model."""
    at = fitted(fit)
    begin = at.lifted

    def one(rng: np.random.Generator) -> tuple[np.ndarray, float]:
        again = at.refit(at.simulate(rng), begin)
        return again.estimates, again.loglik

    return one


def boot_confint(fit: Fit, level: float = 0.95, kind: str = "percentile", **options):
    """Bootstrap intervals of a fit; see ``bootstrap`` and ``Bootstrap.confint``."""
    return bootstrap(fit, **options).confint(level, kind)  # pyright: ignore[reportArgumentType]


def simulate(likelihood: Likelihood, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw responses at parameters ``x``, with new random effects; in the order of the rows."""
    beta, thetas, dispersion = likelihood.layout.split(x)
    rows = likelihood.rows
    eta = rows.X @ beta + rows.offset
    for factor, theta in zip(likelihood.factors, thetas, strict=True):
        u = rng.standard_normal((factor.levels, factor.q))
        b = u @ factor.covariance.factor(theta).T
        eta = eta + np.einsum("nq,nq->n", factor.Z, b[factor.index])
    mean = likelihood.link.inverse(eta)[0]
    y = likelihood.family.simulate(rng, mean, rows.trials, dispersion)
    return np.asarray(y, float)


def lifted(likelihood: Likelihood, x: np.ndarray) -> np.ndarray:
    """Move diagonal Cholesky entries off zero, where every search would stay at them."""
    x, inside = x.copy(), likelihood.start[0]
    for k, factor in enumerate(likelihood.factors):
        part = likelihood.layout.theta_slice(k)
        for i in part.start + np.flatnonzero(factor.covariance.diagonal):
            x[i] = max(abs(x[i]), LIFT * abs(inside[i]))
    return x


def refit(likelihood: Likelihood, y: np.ndarray, start=None, inverse=None) -> Maximum:
    """Maximise the likelihood of another response: from ``start``, if that fails from scratch.

    Raises
    ------
    RuntimeError
        If neither search converges; the message is the reason.
    """
    again = likelihood.with_rows(replace(likelihood.rows, y=y))
    try:
        maximum = again.maximise(start=start, inverse=inverse)
    except np.linalg.LinAlgError:
        maximum = None
    if maximum is None or not maximum.optimum.converged:
        maximum = again.maximise()
    if not maximum.optimum.converged:
        raise RuntimeError(maximum.optimum.reason)
    return maximum
