r"""The decision: does the posterior exist?  Rules are tried in order; the first that fits decides.

Each rule takes the specification and gives a report, or None. What is not decided by a rule is
"unknown". The rules and their derivations are in ``docs/propriety.md``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from .cones import NotDecidedError, rank
from .correlated import bounded_at_limits, infinite_weight
from .report import ProprietyReport, Verdict
from .separation import find_separation, in_words
from .specification import Specification
from .tails import Deviation, Tail

OWN = "derived in docs/propriety.md and checked by quadrature; not from a publication"
BOUNDED = "a likelihood that is bounded times priors that integrate to one"
ZERO = "Hobert & Casella 1996; Natarajan & McCulloch 1995"
SEPARATED = "Albert & Anderson 1984, with the argument of docs/propriety.md"
HELP = "Use a proper prior with a light tail, such as HalfNormal or PC, on {sd}"
NORMAL = "a proper prior such as Normal on the coefficients"


def check_propriety(model) -> ProprietyReport:
    """Check that the posterior of ``model`` exists, for its priors and its data.

    Returns
    -------
    ProprietyReport
        Its ``verdict`` is "proper", "improper", "likely proper" (where the argument is power
        counting over several standard deviations) or "unknown".
    """
    spec = Specification(model)
    found = find_separation(model)
    try:
        report = next(r for rule in RULES if (r := rule(spec)) is not None)
    except NotDecidedError as doubt:
        report = _unknown(f"{doubt}", "Rescale or drop columns that are nearly dependent.")
    return replace(report, separation=found)


def _unknown(rule: str, remedy: str = "", source: str = OWN) -> ProprietyReport:
    return ProprietyReport("unknown", rule, source, remedy)


# ---- 1 to 4: priors alone, and proper priors ------------------------------------------------


def not_integrable_at_zero(spec: Specification) -> ProprietyReport | None:
    """Rule 1: a prior with infinite mass near a standard deviation of zero."""
    alone = spec.priors.joint is None  # else SDs are small only with the residual SD
    found = [d for d in spec.deviations if alone and d.prior.origin <= -1]
    if found:
        one = found[0]
        rule = (
            f"The prior {one.prior.describe()} of {one.name} has infinite mass near zero, where "
            "the likelihood is that of the model without the effect, which is positive: there is "
            "no posterior, whatever the data."
        )
        remedy = HELP.format(sd=one.name) + "."
        return ProprietyReport("improper", rule, ZERO, remedy, subset=(one.name,))
    loose = [g for g, prior in spec.priors.corr.items() if prior is not None and not prior.proper]
    if loose:
        rule = (
            f"The prior of corr_{loose[0]} has infinite mass near perfect correlation, where the "
            "likelihood is positive."
        )
        return ProprietyReport("improper", rule, OWN, "Use LKJ(2).", subset=(f"corr_{loose[0]}",))
    return None


def dispersion_not_proper(spec: Specification) -> ProprietyReport | None:
    """Rule 2: an improper prior of the dispersion, but for gaussian responses (rule 15)."""
    prior = spec.priors.dispersion
    if prior is None or prior.proper or spec.family.name == "gaussian":
        return None
    rule = (
        f"The prior {prior.describe()} of the dispersion is improper, and the likelihood does "
        "not bound the dispersion."
    )
    return _unknown(rule, "Use a proper prior on the dispersion.")


def residual_not_proper(spec: Specification) -> ProprietyReport | None:
    """Rule 2a: an improper prior of a parameter of the residual correlation."""
    found = infinite_weight(spec)
    if found is None:
        return None
    name, prior, where = found
    remedy = f"Use a proper prior on {name}, such as the package's default."
    if where:
        rule = (
            f"The prior {prior.describe()} of {name} has infinite mass {where} and the likelihood "
            "is positive: there is no posterior, whatever the data."
        )
        return ProprietyReport("improper", rule, OWN, remedy, subset=(name,))
    rule = (
        f"The prior {prior.describe()} of {name} has infinite mass at an end of its range, and the "
        "check does not know whether the likelihood vanishes there fast enough."
    )
    return _unknown(rule, remedy)


def all_proper(spec: Specification) -> ProprietyReport | None:
    """Rules 3 and 4: every prior is proper."""
    if not spec.priors.proper:
        return None
    if spec.discrete:
        rule = "All priors are proper and the likelihood of a discrete response is at most 1."
        return ProprietyReport("proper", rule, BOUNDED)
    if spec.family.name not in ("gaussian", "gamma"):
        return _unknown(
            f"The check does not know whether the {spec.family.name} density is bounded."
        )
    if spec.leaves_residual() and not bounded_at_limits(spec):
        return _exact_fit_at_limit()
    if spec.leaves_residual():
        rule = "All priors are proper and the columns of X and Z do not fit the data exactly."
        return ProprietyReport("proper", rule, BOUNDED)
    return _exact_fit()


def _exact_fit() -> ProprietyReport:
    rule = "The columns of X and Z fit the data exactly, so the likelihood is unbounded."
    remedy = "Drop random terms with one observation per level, or use a prior on dispersion "
    return _unknown(rule, remedy + "that keeps away from zero.")


def _exact_fit_at_limit() -> ProprietyReport:
    rule = (
        "Where the residual correlation reaches an end of its range, the columns of X and Z may "
        "fit the data exactly, and the check does not know whether the likelihood is bounded there."
    )
    remedy = "Use a prior of the residual correlation that keeps away from the ends, or drop "
    return _unknown(rule, remedy + "random terms that the correlation stands for.")


# ---- 5 to 9: flat coefficients, slow tails, joint priors ------------------------------------


def separated(spec: Specification) -> ProprietyReport | None:
    """Rule 5: flat coefficients along a direction in which the likelihood does not fall."""
    p = len(spec.flat)
    if not p:
        return None
    cone = spec.flat_cone()
    if cone.kappa == p:
        return None
    d = spec.design
    gamma = np.zeros(d.p)
    gamma[list(spec.flat)] = cone.direction
    names = ", ".join(d.terms[k] for k in spec.flat)
    words = ""
    if cone.rises.any():
        gamma = np.where(np.abs(gamma) > 1e-7 * np.abs(gamma).max(), gamma, 0.0)
        gamma = gamma / np.abs(gamma).max()
        sign = np.full(d.n, np.nan)
        sign[spec.used] = spec.problem.sign[: spec.used.sum()]
        rises = np.zeros(d.n, bool)
        rises[spec.used] = cone.rises[: spec.used.sum()]
        words = in_words(d, sign, gamma, rises)
    rule = (
        f"The coefficients with flat priors ({names}) can go to infinity along a direction in "
        "which the likelihood does not fall, so there is no posterior, whatever the priors of "
        "the standard deviations."
    )
    remedy = f"Use {NORMAL}."
    return ProprietyReport(
        "improper", rule, SEPARATED, remedy, kappa=cone.kappa, p=p, certificate=words
    )


def unknown_size(spec: Specification) -> ProprietyReport | None:
    """Rule 6: averaging over an unknown size of a negative binomial slows its tails."""
    if spec.family.name not in ("negative_binomial", "negative_binomial1"):
        return None
    prior = spec.priors.dispersion
    d = spec.design
    needed = rank(d.X, spec.effects)
    low, high = prior.support
    bounded = low > 0 and np.isfinite(high)
    moments = prior.origin + 1.0 > needed and spec.family.name == "negative_binomial"
    if bounded or moments:
        return None
    rule = (
        "With an unknown dispersion the likelihood of a negative binomial, averaged over its "
        f"prior {prior.describe()}, falls as a power of the linear predictor only, so the tail "
        "theorem does not apply."
    )
    remedy = f"Use proper priors throughout: {NORMAL}, HalfNormal or PC on standard deviations."
    return _unknown(rule, remedy)


def slow_tails(spec: Specification) -> ProprietyReport | None:
    """Rule 7: links whose likelihood falls as a power of the linear predictor."""
    if spec.light:
        return None
    link = spec.model.link.name
    rule = (
        f"With family {spec.family.name} and link {link} the likelihood is not known to fall "
        "exponentially in the linear predictor, so the tail theorem does not apply."
    )
    return _unknown(rule, f"Use {NORMAL} and on standard deviations, or another link.")


def shared_variance(spec: Specification) -> ProprietyReport | None:
    """Rule 8: one prior of all coefficients and standard deviations, by the share of variance."""
    if spec.priors.joint is None:
        return None
    family, p = spec.family.name, len(spec.flat)
    if not spec.discrete:
        covered = family == "gaussian" or (family == "gamma" and spec.model.link.name == "log")
        if covered and spec.priors.dispersion.proper:
            return None  # the rules of continuous responses need no more than proper priors
        return _unknown(
            "The check does not know this family with a joint prior beside an improper one.",
            "Use proper priors on the intercept and the dispersion.",
        )
    having = 2.0 * spec.priors.joint.prior.shapes[1]
    if having > p:
        rule = (
            "The columns with flat priors are overlapped (a maximum-likelihood estimate exists), "
            f"and the joint prior has more moments of the standard deviations ({having:g}) than "
            f"there are flat coefficients ({p})."
        )
        return ProprietyReport("proper", rule, OWN, p=p)
    kappa = spec.shared_cone().kappa
    if kappa:
        rule = (
            "Some row holds the linear predictor whatever the coefficients and effects, and the "
            "likelihood integrated over the flat intercept is bounded."
        )
        return ProprietyReport("proper", rule, OWN, kappa=kappa, p=p)
    rule = (
        "There is no posterior: with these data all coefficients and effects can grow together at "
        "no loss of likelihood, the flat intercept with them, and the joint prior has only "
        f"{having:g} moments of the standard deviations (more than {p} are needed)."
    )
    remedy = f"Use a smaller mean or a larger precision of R2, or {NORMAL}."
    subset = tuple(spec.priors.joint.components)
    return ProprietyReport("improper", rule, OWN, remedy, subset=subset, kappa=kappa, p=p)


def joint_covariance(spec: Specification) -> ProprietyReport | None:
    """Rule 9: priors of covariance matrices beside flat coefficients or improper priors.

    A subspace of ``m`` effects has the margin ``decay(m) + kappa - p``, which is positive for
    every data set where ``decay(1) > p``. Where a generic one is not positive, or a margin of the
    other standard deviations, there is no posterior.
    """
    matrices = {g: m for g, m in spec.priors.covariance.items() if m is not None}
    if not matrices:
        return None
    others = [d for d in spec.deviations if d.group not in matrices]
    scale = spec.priors.dispersion
    if spec.family.name == "gaussian" and scale.proper and all(d.prior.proper for d in others):
        return None  # rule 14 needs no more than proper priors
    p = len(spec.flat)
    having = min(m.decay(1, len(spec.priors.sd[g])) for g, m in matrices.items())
    heavy = spec.problem.heavy or any(np.isfinite(d.alpha) for d in others)
    if spec.discrete and not heavy and having > p:
        rule = (
            "The columns with flat priors are overlapped, and the prior of the covariance matrix "
            f"has more moments of its standard deviations ({having:g}) than there are flat "
            f"coefficients ({p}). This is power counting."
        )
        return ProprietyReport("likely proper", rule, OWN, p=p)
    worst = _worst_beside(spec, matrices) if spec.discrete else None
    if worst is not None and worst.margin <= 0:
        return _improper(spec, worst)
    rule = (
        "The tails of the prior of a covariance matrix are heavy, and with so few moments of its "
        f"standard deviations ({having:g}; flat coefficients {p}) the check does not know whether "
        "the posterior exists."
    )
    return _unknown(rule, f"Use {NORMAL}, or HalfNormal or PC on standard deviations with LKJ(2).")


def _worst_beside(spec: Specification, matrices) -> Tail | None:
    """Tail of the smallest margin of one matrix alone, or of the other standard deviations."""
    found: list[Tail] = []
    for group, prior in matrices.items():
        d = len(spec.priors.sd[group])
        found += spec.problem.along_subspaces(group, lambda m, prior=prior, d=d: prior.decay(m, d))
    rest = spec.problem.without(matrices)
    if not rest.too_many:
        found += rest.tails()
    return min(found, key=lambda tail: tail.margin, default=None)


# ---- 10 to 13: discrete responses, by the tails ---------------------------------------------


def by_tails(spec: Specification) -> ProprietyReport | None:
    """Rules 10 to 13: every way to infinity must have a positive margin."""
    if not spec.discrete:
        return None
    problem = spec.problem
    if not problem.heavy_tailed and not (problem.heavy and spec.flat):
        rule = (
            "The columns with flat priors are overlapped (a maximum-likelihood estimate exists), "
            "and the priors of the standard deviations have all moments."
        )
        return ProprietyReport("proper", rule, OWN, kappa=len(spec.flat), p=len(spec.flat))
    if problem.too_many:
        return _too_many()
    tails = problem.tails()
    if tails[0].margin <= 0:
        return _improper(spec, tails[0])
    one = len(problem.heavy_tailed) == 1 or (not problem.heavy_tailed and len(problem.heavy) == 1)
    if one and _alone(problem.deviations):
        return _exists("proper", spec, tails)
    return _exists("likely proper", spec, tails)


def _alone(deviations: Sequence[Deviation]) -> bool:
    """Whether no effect whose SD has a heavy tail is correlated with another."""
    return all(len(d.correlated) == 1 for d in deviations if np.isfinite(d.alpha))


def _too_many() -> ProprietyReport:
    return _unknown(
        "There are too many standard deviations and coefficients with heavy tails to try every "
        "subset of them.",
        "Use " + NORMAL + " and HalfNormal or PC on standard deviations.",
    )


def _exists(verdict: Verdict, spec: Specification, tails: list[Tail]) -> ProprietyReport:
    tail = next((t for t in tails if t.cone is not None), tails[0])
    names = " and ".join((*tail.deviations, *tail.terms))
    how = (
        "The posterior falls fast enough in every direction: slowest as "
        f"{names} {'go' if ' and ' in names else 'goes'} to infinity"
        f"{_arithmetic(spec, tail)}."
    )
    if verdict == "likely proper":
        how += " With several of them, correlated effects or residuals, this is power counting."
    return _report(verdict, how, spec, tail)


def _improper(spec: Specification, tail: Tail) -> ProprietyReport:
    names = " and ".join((*tail.deviations, *tail.terms))
    rule = (
        f"There is no posterior: with these data it does not fall fast enough as {names} "
        f"{'go' if len(tail.deviations) + len(tail.terms) > 1 else 'goes'} to infinity"
        f"{' along a direction of the correlated effects' if tail.generic else ''}"
        f"{_arithmetic(spec, tail)}."
    )
    remedy = HELP.format(sd=", ".join(tail.deviations) or "every standard deviation")
    remedy += f", or {NORMAL}." if spec.flat else "."
    return _report("improper", rule, spec, tail, remedy)


def _arithmetic(spec: Specification, tail: Tail) -> str:
    """``(alpha 0 + kappa 2 - p 1 = 1, more than 1 is needed)``."""
    p, alphas = len(spec.flat), _alphas(spec, tail)
    if tail.cone is None or tail.terms or tail.generic or len(alphas) != 1:
        return f" (margin {tail.margin:g}; more than 0 is needed)"
    flat = f" - p {p}" if p else ""
    total = alphas[0] + tail.cone.kappa - p
    return (
        f" (alpha {alphas[0]:g} + kappa {tail.cone.kappa}{flat} = {total:g}; more than 1 is needed)"
    )


def _alphas(spec: Specification, tail: Tail) -> tuple[float, ...]:
    return tuple(d.alpha for d in spec.deviations if d.name in tail.deviations)


def _report(verdict, rule, spec, tail: Tail, remedy="") -> ProprietyReport:
    return ProprietyReport(
        verdict,
        rule,
        OWN,
        remedy,
        subset=(*tail.deviations, *tail.terms),
        kappa=None if tail.cone is None else tail.cone.kappa,
        p=len(spec.flat),
        alpha=_alphas(spec, tail),
        certificate=_loose_levels(spec, tail) if verdict == "improper" else "",
    )


def _loose_levels(spec: Specification, tail: Tail) -> str:
    """Name the levels whose effects can go to infinity at no loss of likelihood."""
    if tail.cone is None:
        return ""
    rises = tail.cone.rises[: spec.used.sum()]
    heavy = [d for d in spec.deviations if d.name in tail.deviations]
    return "; ".join(dict.fromkeys(_levels_in_words(spec, d, rises) for d in heavy))


def _levels_in_words(spec: Specification, d: Deviation, rises: np.ndarray) -> str:
    block = next(g for g in spec.design.groups if g.group == d.group)
    index = d.index[: len(rises)]
    free = np.array([rises[index == level].all() for level in range(d.n_levels)])
    if not free.any():
        return f"The data hold the effects of all {d.n_levels} levels of {d.group}"
    names = ", ".join(name for name, yes in zip(block.levels, free, strict=True) if yes)
    shown = f" ({names})" if len(names) <= 60 else ""
    response = spec.design.response_name
    return (
        f"In {int(free.sum())} of {d.n_levels} levels of {d.group}{shown} {response} is at its "
        "lowest or highest value in such a way that their effects can go to infinity and the "
        "likelihood does not fall"
    )


# ---- 14 to 16: continuous responses ---------------------------------------------------------


def gaussian(spec: Specification) -> ProprietyReport | None:
    """Rules 14 and 15: gaussian responses with the identity link."""
    if spec.family.name != "gaussian":
        return None
    if not spec.leaves_residual():
        return _exact_fit()
    if not bounded_at_limits(spec):
        return _exact_fit_at_limit()
    problem, dispersion = spec.problem, spec.priors.dispersion
    improper = [k for k in problem.heavy_tailed if not problem.deviations[k].prior.proper]
    if not improper and dispersion.proper:
        rule = (
            "The columns with flat priors are independent, the priors of all standard deviations "
            "are proper, and the columns of X and Z do not fit the data exactly, so that the "
            "likelihood integrated over the coefficients is bounded."
        )
        return ProprietyReport("proper", rule, OWN, p=len(spec.flat))
    if problem.too_many:
        return _too_many()
    tails = [t for t in problem.tails() if t.deviations and not t.terms]
    tails = sorted([*tails, *_with_residual(spec)], key=lambda tail: tail.margin)
    if tails[0].margin <= 0:
        return _improper(spec, tails[0])
    sure = _alone(problem.deviations) and spec.model.residual is None
    return _exists("proper" if sure else "likely proper", spec, tails)


def _with_residual(spec: Specification) -> list[Tail]:
    """Let the residual SD go to infinity too, with every SD whose prior grows."""
    alpha = spec.priors.dispersion.tail
    if not np.isfinite(alpha):
        return []
    n, p = spec.design.n, len(spec.flat)
    rising = [d for d in spec.deviations if d.alpha < 1]
    margin = sum(d.alpha - 1.0 for d in rising) + alpha - 1.0 + n - p
    return [Tail((*(d.name for d in rising), "dispersion"), (), margin, None)]


def gamma(spec: Specification) -> ProprietyReport | None:
    """Rule 16: gamma responses, log link: flat coefficients under otherwise proper priors."""
    if spec.family.name != "gamma":
        return None
    if not spec.leaves_residual():
        return _exact_fit()
    link = spec.model.link.name
    proper = all(d.prior.proper for d in spec.deviations)
    if proper and link == "log":
        rule = (
            "The columns with flat priors are independent, the other priors are proper, and the "
            "columns of X and Z do not fit the data exactly: integrated over the coefficients "
            "the likelihood is bounded."
        )
        return ProprietyReport("proper", rule, OWN, p=len(spec.flat))
    if not spec.problem.too_many:
        tails = [t for t in spec.problem.tails() if t.deviations]
        if tails and tails[0].margin <= 0:
            return _improper(spec, tails[0])
    return None


def not_covered(spec: Specification) -> ProprietyReport:
    """Rule 17: anything else."""
    return _unknown(
        "No rule covers these priors and this family.",
        f"Use proper priors throughout: {NORMAL}, HalfNormal or PC on standard deviations.",
    )


RULES: tuple[Callable[[Specification], ProprietyReport | None], ...] = (
    not_integrable_at_zero,
    dispersion_not_proper,
    residual_not_proper,
    all_proper,
    separated,
    unknown_size,
    slow_tails,
    shared_variance,
    joint_covariance,
    by_tails,
    gaussian,
    gamma,
    not_covered,
)
