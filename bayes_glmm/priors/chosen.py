"""The priors a user chooses, and what of a model they may name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from ..formula import term_of
from .base import Prior
from .correlations import LKJ
from .covariances import CovariancePrior
from .shrinkage import R2D2M2, RESERVED


@dataclass(frozen=True, kw_only=True)
class Priors:
    """The priors a user chooses; what is left out takes the package's default.

    Parameters
    ----------
    intercept, beta
        Prior of the intercept, and of every other coefficient, on the link scale and for
        the columns as they are.
    sd
        Prior of every standard deviation of a random effect, link scale.
    corr
        Prior of every correlation matrix of random effects.
    covariance
        Prior of the whole covariance matrix of correlated random effects, ``InverseWishart(…)`` or
        ``UniformShrinkageMatrix(…)``, instead of priors of their standard deviations and
        correlations; of every grouping factor whose effects are all correlated.
    joint
        Prior of all coefficients but the intercept, and of all standard deviations of random
        effects, together: ``R2D2M2(…)``, instead of ``beta``, ``sd`` and ``covariance``.
    dispersion
        Prior of the dispersion, as the family defines it: gaussian the residual standard
        deviation, negative_binomial theta, negative_binomial1 phi, gamma the coefficient of
        variation, beta_binomial a + b.
    residual
        Priors of the parameters of the residual correlation, ``{"half_life": …}`` or
        ``{"phi": …}``, ``{"nugget": …}``, ``{"rho": …}`` or ``{"corr": LKJ(…)}``.
    beta_for
        Prior by coefficient, more specific than the above: ``{"period[T.2]": …}`` for one
        column, ``{"period": …}`` for all columns of a term, ``{"Intercept": …}``.
    sd_for
        Prior by grouping factor, ``{"herd": …}``, or by effect, ``{"herd[Intercept]": …}``.
    covariance_for
        Prior of the covariance matrix by grouping factor.
    allow_improper
        Accept improper priors, such as ``Flat()``. The model can then be made and checked;
        it is sampled only if ``check_propriety`` finds that the posterior exists.
    """

    intercept: Prior | None = None
    beta: Prior | None = None
    sd: Prior | None = None
    corr: LKJ | None = None
    covariance: CovariancePrior | None = None
    joint: R2D2M2 | None = None
    dispersion: Prior | None = None
    residual: Mapping[str, Prior] = field(default_factory=dict, hash=False)
    beta_for: Mapping[str, Prior] = field(default_factory=dict, hash=False)
    sd_for: Mapping[str, Prior] = field(default_factory=dict, hash=False)
    covariance_for: Mapping[str, Prior] = field(default_factory=dict, hash=False)
    allow_improper: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no prior, before any model is there."""
        if not isinstance(self.allow_improper, bool):
            raise ValueError(
                f"Priors(allow_improper={self.allow_improper!r}) must be True or False."
            )
        slots = ("intercept", "beta", "sd", "corr", "covariance", "joint", "dispersion")
        named = {slot: getattr(self, slot) for slot in slots}
        for slot in ("residual", "beta_for", "sd_for", "covariance_for"):
            chosen = dict(getattr(self, slot))
            object.__setattr__(self, slot, chosen)
            named |= {f"{slot}[{key!r}]": prior for key, prior in chosen.items()}
            if None in chosen.values():
                raise ValueError(f"Priors({slot}=…) holds None: leave the key out instead.")
        for name, prior in named.items():
            if prior is not None and not isinstance(prior, Prior):
                raise ValueError(
                    f"Priors({name}={prior!r}) is not a prior: write one such as {_example(name)}."
                )


def _example(slot: str) -> str:
    """Give a prior that serves a slot, as a user writes it."""
    starts = {
        "sd": "HalfNormal(1)",
        "dispersion": "HalfNormal(1)",
        "corr": "LKJ(2)",
        "covariance": "InverseWishart()",
        "joint": "R2D2M2()",
        "residual['nugget']": "Beta(1, 3)",
        "residual['rho']": "Uniform(0, 1)",
        "residual": "LogNormal(1, 0.5)",
    }
    fits = (prior for start, prior in starts.items() if slot.startswith(start))
    return next(fits, "Normal(0, 1)")


def check_slots(chosen: Priors, design, family) -> None:
    """Refuse a choice for something the model does not have."""
    correlated = any(len(c) > 1 for block in design.groups for c in block.blocks)
    absent = {
        "intercept": "Intercept" not in design.terms and "the formula has no intercept",
        "beta": not set(design.terms) - {"Intercept"} and "the formula has no other coefficient",
        "sd": not design.groups and "the formula has no random effect",
        "corr": not correlated and "no random effects are correlated",
        "covariance": not any(is_whole(block) for block in design.groups)
        and "no grouping factor has all its effects correlated",
        "joint": not (set(design.terms) - {"Intercept"} or design.groups)
        and "the formula has neither a coefficient but the intercept nor a random effect",
        "dispersion": not family.has_dispersion and f"the {family.name} family has none",
    }
    for slot, why in absent.items():
        if why and getattr(chosen, slot) is not None:
            raise ValueError(f"Priors({slot}=…) has nothing to apply to: {why}. Leave it out.")
    _check_joint(chosen, design)
    _check_names("beta_for", chosen.beta_for, [k for t in design.terms for k in beta_keys(t)])
    keys = [k for block in design.groups for c in block.columns for k in sd_keys(block.group, c)]
    _check_names("sd_for", chosen.sd_for, keys)
    whole = [block.group for block in design.groups if is_whole(block)]
    _check_names("covariance_for", chosen.covariance_for, whole)
    governed = [b for b in design.groups if given_covariance(chosen, b) is not None]
    for block in governed:
        keys = [k for c in block.columns for k in sd_keys(block.group, c) if k in chosen.sd_for]
        if keys:
            raise ValueError(
                f"Priors(sd_for=…) names {keys[0]!r}, whose covariance matrix has a prior already, "
                "which includes its standard deviations: give one of the two."
            )
    others = [block for block in design.groups if block not in governed]
    free = {"sd": others, "corr": [b for b in others if any(len(c) > 1 for c in b.blocks)]}
    for slot, blocks in free.items():
        if governed and not blocks and getattr(chosen, slot) is not None:
            raise ValueError(
                f"Priors({slot}=…) has nothing to apply to: the prior of the covariance matrix "
                "includes standard deviations and correlations. Leave it out."
            )


def _check_joint(chosen: Priors, design) -> None:
    """Refuse what a joint prior includes already, and names that its variables take."""
    if chosen.joint is None:
        return
    slots = ("beta", "sd", "covariance", "sd_for", "covariance_for")
    others = {slot: getattr(chosen, slot) for slot in slots}
    others["beta_for"] = set(chosen.beta_for) - {"Intercept"}
    for slot, given in others.items():
        if given:
            raise ValueError(
                f"Priors({slot}=…) has nothing to apply to: Priors(joint=…) is the prior of all "
                "standard deviations and of all coefficients but the intercept. Leave one out."
            )
    for block in design.groups:
        if block.group in RESERVED:
            raise ValueError(
                f"The grouping factor {block.group!r} has the name of a variable of "
                "Priors(joint=…): rename the column."
            )


def _check_names(slot: str, mapping: Mapping[str, Prior], known: list[str]) -> None:
    for key in mapping:
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            names = ", ".join(map(repr, dict.fromkeys(known))) or "nothing"
            raise ValueError(
                f"Priors({slot}=…) names {key!r}, which the model does not have; "
                f"it has {names}.{hint}"
            )


def beta_keys(term: str) -> tuple[str, str]:
    """``period[T.2]`` is found by its own name, then as ``period``."""
    return term, term_of(term)


def sd_keys(group: str, column: str) -> tuple[str, str]:
    """``herd[Intercept]``, then ``herd``."""
    return f"{group}[{column}]", group


def is_whole(block) -> bool:
    """Whether all effects of a grouping factor, two or more, are correlated."""
    return len(block.blocks) == 1 and len(block.columns) > 1


def given_covariance(chosen: Priors, block) -> Prior | None:
    """Prior chosen for the covariance matrix of a group's effects, or None."""
    if not is_whole(block):
        return None
    return chosen.covariance_for.get(block.group, chosen.covariance)
