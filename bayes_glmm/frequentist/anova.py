"""anova(): tests of nested models by likelihood ratios; of GEE by Wald and score statistics."""

from functools import partial
from itertools import pairwise
from typing import cast

import numpy as np
import pandas as pd
from scipy.stats import chi2

from ..fit import Fit, check_fit
from ..progress import Progress
from .chi_bar import likelihood_ratio
from .gee.hypotheses import compare_nested
from .lmm_likelihood import by_equations
from .lmm_refits import bootstrapped, fitted
from .nesting import Pair, bootstrap_p, check_fixed, effects_of, pair_of, same_rows
from .replicates import BELOW, Failed

COLUMNS = ["label", "npar", "loglik", "aic", "statistic", "reference", "p_value", "df", "p_naive"]
BOOTSTRAP = ["p_boot", "zero_share", "failed"]


def anova(
    *fits: Fit,
    bootstrap: int = 0,
    seed: int = 1,
    workers: int | None = None,
    progress: Progress = False,
) -> pd.DataFrame:
    r"""Compare nested models, each with the next smaller one: likelihood ratios, or GEE's tests.

    Parameters
    ----------
    *fits
        At least two, by ML (the same nodes) or GLM, of the same data; all by REML, with the same
        fixed part; or all by GEE with the same options.
    bootstrap
        Data sets simulated from the smaller model of each pair, both models refitted; 0 is
        none. ``p_boot = (1 + #{LR* >= LR}) / (1 + bootstrap)``.
    seed
        Of all that is simulated.
    workers, progress
        Of the bootstrap; see ``bootstrap``.

    Returns
    -------
    DataFrame
        Models by number of parameters: ``label, npar, loglik, aic, statistic, reference,
        p_value``, then ``df`` and ``p_naive`` (the chi-square that ignores boundaries),
        ``bic, deviance`` (``-2 loglik``), with ``bootstrap`` ``p_boot, zero_share`` (share of
        simulated ratios that are zero) and ``failed`` (refits), and ``note``. The reference
        of a test of fixed effects is a chi-square; of one variance with its ``q``
        covariances ``chi2(q) / 2 + chi2(q + 1) / 2``; of several variances a mixture with
        weights from the information at the null, by simulation where no closed form exists.
        For GEE: ``label, npar, statistic, reference, p_value, df`` by Wald's statistic with the
        larger fit's default covariance, ``score_statistic, score_p_value`` by the generalised
        score test, and ``note``.

    Raises
    ------
    ValueError
        If data, family, link or nodes differ, models are not nested, or a method has no
        likelihood.
    """
    if fits and all(isinstance(fit, Fit) and fit.method.name == "gee" for fit in fits):
        return equations_anova(fits, bootstrap)
    check(fits)
    ordered = sorted(fits, key=lambda f: (f.npar, len(effects_of(f))))
    labels = labelled(ordered)
    rows = [row(label, fit) for label, fit in zip(labels, ordered, strict=True)]
    for i, (small, large) in enumerate(pairwise(ordered), start=1):
        statistic = likelihood_ratio(cast("float", small.loglik), cast("float", large.loglik))
        of_weights, of_ratios = np.random.SeedSequence(seed, spawn_key=(i,)).spawn(2)
        if small.model.residual is not None or large.model.residual is not None:
            rows[i] |= fixed_parts(small, large, statistic)
            pair = None
        else:
            pair = pair_of(small, large)
            if pair.large.layout.size == pair.small.layout.size:
                raise ValueError(
                    f"anova() got {labels[i - 1]!r} and {labels[i]!r}, which have {small.npar} "
                    "parameters each: give models that differ."
                )
            rows[i] |= tested(pair, statistic, of_weights)
            rows[i]["note"] = " ".join(notes(pair, small, large, rows[i]))
        if bootstrap:
            if pair is None or by_equations(small) or by_equations(large):
                simulate = partial(linear_bootstrap, small, large)
            else:
                simulate = pair.bootstrap
            ratios, failed = simulate(bootstrap, of_ratios, workers, progress)
            rows[i] |= simulated(ratios, failed, statistic)
    extra = [*COLUMNS, "bic", "deviance", *(BOOTSTRAP if bootstrap else []), "note"]
    return pd.DataFrame(rows).reindex(columns=extra)


def equations_anova(fits: tuple[Fit, ...], bootstrap: int) -> pd.DataFrame:
    """Test nested estimating equations; they have no likelihood, so nothing to simulate from."""
    at_least_two(fits)
    if bootstrap:
        raise ValueError(
            f"anova(bootstrap={bootstrap}) got fits by GEE, which have no distribution to simulate "
            "from: leave bootstrap out."
        )
    for other in fits[1:]:
        same_data(fits[0], other)
        same_family(fits[0], other)
    return compare_nested(fits, labelled)


def row(label: str, fit: Fit) -> dict:
    """Say of a model what stands by itself."""
    loglik, npar = cast("float", fit.loglik), cast("int", fit.npar)
    return {
        "label": label,
        "npar": npar,
        "loglik": loglik,
        "aic": fit.aic,
        "bic": npar * np.log(fit.model.design.n) - 2 * loglik,
        "deviance": -2 * loglik,
        "reference": "",
        "note": "",
    }


def tested(pair: Pair, statistic: float, stream: np.random.SeedSequence) -> dict:
    """Statistic and p-values of one comparison."""
    df = pair.large.layout.size - pair.small.layout.size
    out = {"statistic": statistic, "df": df, "p_naive": chi2.sf(statistic, df)}
    found = pair.reference(stream)
    if found is None:
        return out | {"reference": "bootstrap only", "p_value": np.nan}
    return out | {
        "reference": str(found),
        "p_value": found.p_value(statistic),
        "error": found.error(statistic),
    }


def fixed_parts(small: Fit, large: Fit, statistic: float) -> dict:
    """Compare fixed parts under the same random effects and residual correlation.

    Raises
    ------
    ValueError
        If anything else differs.
    """
    same = small.model.residual == large.model.residual
    a, b = effects_of(small), effects_of(large)
    same &= [(g.group, g.columns, g.blocks) for g in a] == [
        (g.group, g.columns, g.blocks) for g in b
    ]
    df = cast("int", large.npar) - cast("int", small.npar)
    if not same or not df:
        raise ValueError(
            f"anova() got {small.model.formula!r} and {large.model.formula!r} with residual "
            "correlation: it tests fixed parts under the same random effects and the same "
            "residual=; compare others by their AIC."
        )
    check_fixed(small, large)
    p = float(chi2.sf(statistic, df))
    return {
        "statistic": statistic,
        "df": df,
        "p_naive": p,
        "reference": f"chi2({df})",
        "p_value": p,
    }


def notes(pair: Pair, small: Fit, large: Fit, found: dict) -> list[str]:
    """Say what limits a comparison."""
    said = []
    fall = cast("float", small.loglik) - cast("float", large.loglik)
    if -2.0 * fall < BELOW:
        said.append(
            f"The larger model has the lower log-likelihood by {fall:.2g}: it was not maximised."
        )
    if found["reference"] == "bootstrap only":
        said.append(
            "The reference cannot be worked out (random effects in other coordinates, or that the "
            "data cannot tell apart): give bootstrap=500 for a p-value."
        )
    if pair.irregular and pair.cones:
        said.append(
            "The smaller model has an SD of zero or a correlation of one itself, so that the "
            "reference is only approximate: give bootstrap=500."
        )
    if found.get("error"):
        said.append(f"Monte Carlo error of p_value {found['error']:.1g}.")
    bad = [f.model.formula for f in (small, large) if not f.converged]
    if bad:
        said.append(f"Not converged: {', '.join(bad)}.")
    return said


def linear_bootstrap(small: Fit, large: Fit, replicates: int, stream, workers, progress):
    """Likelihood ratios of linear mixed models that only the mixed model equations serve."""
    rows = same_rows(small, large)
    return bootstrapped(fitted(small), fitted(large), rows, replicates, stream, workers, progress)


def simulated(ratios: np.ndarray, failed: list[Failed], statistic: float) -> dict:
    """Bootstrap p-value, share of ratios of zero, number of failures."""
    return {
        "p_boot": bootstrap_p(ratios, statistic),
        "zero_share": float(np.mean(ratios == 0.0)) if len(ratios) else np.nan,
        "failed": len(failed),
    }


def labelled(fits: list[Fit]) -> list[str]:
    """Label by method; where labels collide, by method and formula."""
    labels = [f.label for f in fits]
    if len(set(labels)) == len(labels):
        return labels
    return [f"{f.label}: {f.model.formula}" for f in fits]


# what may be compared


def at_least_two(fits: tuple[Fit, ...]) -> None:
    """Refuse a single fit."""
    if len(fits) < 2:
        raise ValueError(
            f"anova() got {len(fits)} fit{'s' * (len(fits) != 1)}: give at least two nested "
            "models, as in anova(fit0, fit1)."
        )


def check(fits: tuple[Fit, ...]) -> None:
    """Refuse fits whose likelihoods are not of one kind, or of different data."""
    at_least_two(fits)
    for fit in fits:
        check_fit(fit, "anova")
        if fit.method.name not in ("ml", "glm", "reml"):
            raise ValueError(
                f"anova() got a fit by {fit.label}, which has no likelihood that can be compared: "
                "fit the models by ML() or GLM()" + instead(fit) + "."
            )
    first = fits[0]
    for other in fits[1:]:
        same_data(first, other)
        same_family(first, other)
    same_nodes([f for f in fits if f.method.name == "ml"])
    restricted = [f for f in fits if f.method.name == "reml"]
    for fit in fits if restricted else ():
        same_restriction(restricted[0], fit)


def same_restriction(one: Fit, other: Fit) -> None:
    """Refuse a restricted likelihood beside a full one, or beside that of other contrasts.

    A restricted likelihood is that of the responses less their fixed part.
    """
    if other.method.name != "reml":
        raise ValueError(
            f"anova() got fits by {one.label} and by {other.label}, whose likelihoods are of "
            "different data: fit all by REML(), or all by ML()."
        )
    a, b = one.model.design, other.model.design
    if a.p != b.p or not np.array_equal(a.to_user(a.X), b.to_user(b.X)):
        raise ValueError(
            f"{one.model.formula!r} and {other.model.formula!r} are fits by REML with different "
            "fixed parts, whose likelihoods cannot be compared: refit both by ML(), or test "
            "coefficients of the larger one by wald_test(fit, …)."
        )


def instead(fit: Fit) -> str:
    """Name what else serves the method's question."""
    return {
        "gee": ", or both by GEE(), or test coefficients by Wald statistics, wald_test(fit, …)",
        "conditional_logit": ", or test coefficients by Wald statistics from vcov()",
        "nuts": ", or read the posterior intervals",
    }.get(fit.method.name, "")


def same_data(one: Fit, other: Fit) -> None:
    """Refuse different rows, responses, trials or offsets."""
    a, b = one.model.design, other.model.design
    if a.n != b.n:
        raise ValueError(
            f"anova() got models of {a.n} and {b.n} rows: fit both to the same rows (drop rows "
            "with missing values first)."
        )
    for name, what in (("y", "responses"), ("trials", "numbers of trials"), ("offset", "offsets")):
        if not np.array_equal(a.to_user(getattr(a, name)), b.to_user(getattr(b, name))):
            raise ValueError(
                f"{one.model.formula!r} and {other.model.formula!r} have different {what}: "
                "anova() needs models of the same data, in the same order."
            )


def same_family(one: Fit, other: Fit) -> None:
    """Refuse different families or links."""
    a, b = one.model, other.model
    if (a.family, a.link) != (b.family, b.link):
        raise ValueError(
            f"anova() got family {a.family} with link {a.link} and family {b.family} with link "
            f"{b.link}: likelihood ratios need one family and one link; compare AIC instead."
        )


def same_nodes(fits: list[Fit]) -> None:
    """Refuse log-likelihoods by different rules, unless each was raised until it settled."""
    kinds = {str(f.loglik_kind): f for f in fits}
    settled = all(
        f.method.nodes == "auto"
        and f.loglik_kind != "Laplace"
        and "nodes-too-few" not in [m.code for m in f.messages]
        for f in fits
    )
    if len(kinds) > 1 and not settled:
        (one, a), (other, b), *_ = kinds.items()
        few = min(int(np.max(f.details["nodes"])) for f in (a, b))
        raise ValueError(
            f"{a.model.formula!r} has a log-likelihood by {one} and {b.model.formula!r} by "
            f"{other}: refit both with the same nodes, ML(nodes={few})."
        )
