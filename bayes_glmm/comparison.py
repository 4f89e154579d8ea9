"""All answers to one question side by side.

Conditional and population-averaged coefficients are different quantities: every row says
which it is, and no table here averages, ranks or aligns one with the other. Where methods of
both kinds are present, the conditional fits are averaged over their random effects, which
gives one scale on which all compare.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from .agreement import agreement, worst
from .fit import Fit, check_fit
from .methods import NotServedError, get_method

log = logging.getLogger(__name__)

DIAGNOSTICS = ["rhat", "ess_bulk", "ess_tail"]
AVERAGED, FORMULA = "averaged", "attenuation formula"
# posterior draws times rows that are averaged over the random effects, and the fewest draws
MOST_VALUES, FEWEST_DRAWS = 2_000_000, 100


@dataclass(frozen=True)
class Failure:
    """A method that gave no fit, and why."""

    label: str
    reason: str


class Comparison:
    """Fits of one model by several methods, keyed by label, failures kept as rows.

    Attributes
    ----------
    fits
        Label -> Fit, in the order given.
    failures
        Label -> reason.
    """

    def __init__(self, fits: Mapping[str, Fit], failures: Mapping[str, str]):
        self.fits = dict(fits)
        self.failures = dict(failures)
        self._averages: dict[float, pd.DataFrame] = {}

    def by_estimand(self, estimand: str) -> dict[str, Fit]:
        """Fits whose coefficients are that quantity."""
        return {k: f for k, f in self.fits.items() if f.estimand == estimand}

    def to_frame(self, effects=("fixed", "ran_pars"), level: float = 0.95) -> pd.DataFrame:
        """One row per method and parameter.

        Returns
        -------
        DataFrame
            ``label, estimand``, the tidy columns (``effect … conf_high``),
            ``interval_kind, rhat, ess_bulk, ess_tail, divergences, converged, seconds,
            message``. A failed method is one row with its reason in ``message``. Beside
            population-averaged methods stand the conditional ones ``averaged()``.
        """
        tables = [self._rows(label, fit, effects, level) for label, fit in self.fits.items()]
        if "fixed" in effects and self.by_estimand("population-averaged"):
            tables.append(self._averaged_rows(level))
        tables += [
            pd.DataFrame([{"label": label, "converged": False, "message": reason}])
            for label, reason in self.failures.items()
        ]
        frame = pd.concat(tables, ignore_index=True)
        return frame.reindex(columns=[c for c in _COLUMNS if c in frame])

    def averaged(self, level: float = 0.95) -> pd.DataFrame:
        """Population-averaged coefficients of the mixed-model fits, computed once.

        Every conditional fit with random effects, averaged over them (``<label>, averaged``),
        and the attenuation formula (``<label>, attenuation formula``) for the first that has a
        likelihood, else the first; see ``Fit.population_averaged``. Under the identity link
        coefficients are averages as they stand. Fits that cannot be averaged (links without a
        mean on part of the line) are left out.

        Returns
        -------
        DataFrame
            ``label, of`` (the label of the fit)``, how, term, estimate, std_error, conf_low,
            conf_high, interval_kind``.
        """
        if level not in self._averages:
            self._averages[level] = averaged_rows(self.by_estimand("conditional"), level)
        return self._averages[level]

    def _averaged_rows(self, level: float) -> pd.DataFrame:
        """Give the rows of ``averaged()`` under the columns of a method's rows."""
        table = self.averaged(level)
        went = [self.fits[label].converged for label in table["of"]]
        return table.drop(columns=["of", "how"]).assign(
            estimand="population-averaged",
            effect="fixed",
            group="",
            level="",
            **{c: float("nan") for c in DIAGNOSTICS},
            converged=went,
            message="",
        )

    def agreement(self) -> pd.DataFrame:
        """Differences of posterior means in Monte Carlo standard errors, pair by pair.

        Returns
        -------
        DataFrame
            See ``agreement.agreement``: for every pair of fits that sample one posterior.
        """
        return agreement(self.fits)

    def qic(self) -> pd.DataFrame:
        """Criteria of the population-averaged fits by GEE, at one scale; empty for fewer than two.

        Returns
        -------
        DataFrame
            See ``bayes_glmm.qic``: CIC compares their working correlations, and so does QIC,
            since they have one mean structure.
        """
        from .frequentist.gee.criteria import qic

        found = self.by_estimand("population-averaged").items()
        fits = {k: fit for k, fit in found if fit.method.name == "gee" and fit.converged}
        if len({fit.method.dispersion for fit in fits.values()}) > 1 or len(fits) < 2:
            return pd.DataFrame()
        return qic(*fits.values()).assign(label=list(fits))

    @staticmethod
    def _rows(label: str, fit: Fit, effects, level: float) -> pd.DataFrame:
        table = fit.tidy(effects, level)
        return table.assign(
            label=label,
            estimand=fit.estimand,
            interval_kind=f"{100 * level:g} % {fit.interval_kind}",
            **{c: table[c] if c in table else float("nan") for c in DIAGNOSTICS},
            divergences=fit.details.get("divergences"),
            converged=fit.converged,
            seconds=fit.seconds.total,
            message="; ".join(m.code for m in fit.messages),
        )

    def __repr__(self) -> str:
        """Show estimates with standard errors by estimand, and whether posteriors agree."""
        blocks = []
        for estimand in ("conditional", "population-averaged"):
            fits = self.by_estimand(estimand)
            if fits:
                tables = {label: fit.tidy() for label, fit in fits.items()}
                if estimand == "population-averaged":
                    rows = self._averaged_rows(0.95)
                    tables |= {str(k): t for k, t in rows.groupby("label", sort=False)}
                blocks.append(f"{estimand} coefficients: estimate (SE)\n{_wide(tables)}")
        if len(criteria := self.qic()):
            shown = criteria[["label", "qic", "qicu", "cic"]].round(2)
            blocks.append(f"criteria of the working correlations\n{shown.to_string(index=False)}")
        blocks += [
            f"{label} has not converged: its numbers are no estimates."
            for label, fit in self.fits.items()
            if not fit.converged
        ]
        blocks += [f"{pair}." for pair in worst(self.agreement())]
        blocks += [f"{label} failed: {reason}" for label, reason in self.failures.items()]
        return "\n\n".join(blocks)


_COLUMNS = [
    "label",
    "estimand",
    "effect",
    "group",
    "level",
    "term",
    "estimate",
    "std_error",
    "conf_low",
    "conf_high",
    "interval_kind",
    *DIAGNOSTICS,
    "divergences",
    "converged",
    "seconds",
    "message",
]


def averaged_rows(fits: Mapping[str, Fit], level: float) -> pd.DataFrame:
    """Average each fit that has random effects; see ``Comparison.averaged``."""
    mixed = {label: fit for label, fit in fits.items() if len(fit.varcorr())}
    formula = next((label for label, fit in mixed.items() if fit.loglik is not None), None)
    formula = formula or next(iter(mixed), None)
    tables = []
    for label, fit in mixed.items():
        for how, table in _averages_of(fit, level, label == formula):
            kind = f"{100 * level:g} % {fit.interval_kind}"
            names = {"label": f"{label}, {how}", "of": label, "how": how}
            tables.append(table.assign(**names, interval_kind=kind))
    columns = ["label", "of", "how", "term", "estimate", "std_error", "conf_low", "conf_high"]
    empty = pd.DataFrame(columns=[*columns, "interval_kind"])
    if not tables:
        return empty
    return pd.concat(tables, ignore_index=True).reindex(columns=empty.columns)


def _averages_of(fit: Fit, level: float, formula: bool) -> Iterator[tuple[str, pd.DataFrame]]:
    """Give a fit's averaged coefficients, and those by the attenuation formula where wanted."""
    if fit.model.link.name == "identity":  # coefficients are averages as they stand
        yield AVERAGED, fit.tidy(("fixed",), level)
        return
    try:
        population = fit.population_averaged(level=level, draws=affordable_draws(fit))
    except NotServedError as error:
        log.debug("%s is not averaged: %s", fit.label, error)
        return
    for how, verb in [(AVERAGED, "coefficients")] + [(FORMULA, "attenuated")] * formula:
        try:
            yield how, getattr(population, verb)()
        except NotServedError as error:
            log.debug("no %s for %s: %s", how, fit.label, error)


def affordable_draws(fit: Fit) -> int:
    """Give the posterior draws to average without being asked: fewer where the data are large."""
    return max(FEWEST_DRAWS, min(1000, MOST_VALUES // fit.model.design.n))


def _wide(tables: Mapping[str, pd.DataFrame]) -> str:
    columns = {}
    for label, table in tables.items():
        keys = pd.MultiIndex.from_arrays([table["group"], table["term"]])
        cells = [
            "" if e != e else f"{e:.3f} ({s:.3f})" if s == s else f"{e:.3f}"
            for e, s in zip(table["estimate"], table["std_error"], strict=True)
        ]
        columns[label] = pd.Series(cells, keys)
    return pd.concat(columns, axis=1, sort=False).fillna("").to_string()


def compare(
    fits: Fit | Iterable[Fit | Failure] | Mapping[str, Fit | Failure], *more: Fit
) -> Comparison:
    """Set fits of one model side by side.

    Parameters
    ----------
    fits, more
        Fits of the same data, family and link by different methods, as a list or one by one; a
        dict gives them labels of its own (two priors, two seeds).

    Raises
    ------
    ValueError
        If there is nothing to compare, two fits share a label, or their data, family or
        link differ.
    """
    entries = _labelled([fits, *more] if isinstance(fits, Fit) else fits)
    if not entries:
        raise ValueError("compare() got no fits: give a list such as [model.fit('ml')].")
    _unique_labels([label for label, _ in entries])
    done = {label: f for label, f in entries if isinstance(f, Fit)}
    _same_question(done)
    return Comparison(done, {k: f.reason for k, f in entries if isinstance(f, Failure)})


def _labelled(fits) -> list[tuple[str, Fit | Failure]]:
    if isinstance(fits, Mapping):
        return [(str(label), fit) for label, fit in fits.items()]
    found = list(fits) if isinstance(fits, Iterable) else [fits]
    for fit in found:
        if not isinstance(fit, Failure):
            check_fit(fit, "compare")
    return [(fit.label, fit) for fit in found]


def _unique_labels(labels: list[str]) -> None:
    twice = sorted({x for x in labels if labels.count(x) > 1})
    if twice:
        raise ValueError(
            f"compare() got two fits labelled {twice[0]!r}: give a dict, "
            "{'vague prior': fit1, 'tight prior': fit2}."
        )


def _same_question(fits: Mapping[str, Fit]) -> None:
    """Refuse fits whose responses, family or link differ: their numbers do not compare."""
    if not fits:
        return
    (first_label, first), *rest = fits.items()
    a = first.model
    for label, fit in rest:
        b = fit.model
        if (a.family, a.link) != (b.family, b.link):
            raise ValueError(
                f"{first_label!r} has {a.family} with link {a.link} and {label!r} has {b.family} "
                f"with link {b.link}: compare() needs one family and one link."
            )
        same_rows = a.design.n == b.design.n and bool(
            (a.design.to_user(a.design.y) == b.design.to_user(b.design.y)).all()
        )
        if not same_rows:
            raise ValueError(
                f"{first_label!r} and {label!r} were fitted to different responses: compare() "
                "needs fits of the same rows."
            )


def fit_all(
    model, methods: Iterable, progress: Callable[[str], None] | None = None
) -> list[Fit | Failure]:
    """Fit a model by each method; one that fails becomes a Failure and the rest goes on.

    Parameters
    ----------
    model
        The GLMM.
    methods
        Method objects or strings.
    progress
        Called with the label before each method starts.
    """
    results: list[Fit | Failure] = []
    for method in map(get_method, methods):
        if progress:
            progress(method.label)
        try:
            results.append(model.fit(method))
        except Exception as error:  # any engine's failure must leave the others standing
            log.debug("%s failed", method.label, exc_info=True)
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            results.append(Failure(method.label, f"{kind}{error}"))
    return results
