r"""Which parameter has which prior: the user's choices, the defaults, and their reasons.

The defaults are proper, weakly informative and equivariant: a change of the units of a
column, of a continuous response or of an exposure changes the fit by that change only.
With ``s`` the SD of the response for the identity link, what that is on the link scale at the
mean response for the inverse and square root, and 1 for every other, and
``spread`` the SD of a column (about zero where its part of the formula has no intercept):

================  ======================================================================
coefficient       ``Normal(0, 2.5 s / spread)``: a column's SD moves the linear predictor
                  by less than 5 s with probability .95 (Gelman et al. 2008 argue for this
                  scale on the logit; rstanarm and Bambi take it for all)
intercept         ``Normal(m, 2.5 s sqrt(1 + sum (mean / spread)^2))``. Columns are not
                  centred, so that the intercept stands at their zero, maybe far from the
                  data: the width is that of an intercept ``Normal(m, 2.5 s)`` at the
                  columns' means, seen from zero. ``m`` is the link of the mean response
                  for identity and log, which have the response's units, and 0 for the
                  links of a probability
sd of an effect   ``HalfStudentT(4, 2.5 s / spread)``: the coefficient's scale, a mode at
                  zero, and a tail that yields to data (Gelman 2006)
correlation       ``LKJ(2)``: weakly away from the edge of perfect correlation
residual sd       ``HalfStudentT(4, SD of the response)``
gamma's CV        ``HalfStudentT(4, SD of the response / its mean)``
theta, a + b      ``InverseGamma(0.4, 0.3)`` on the value, for the negative binomial's size and
                  the beta-binomial's ``a + b``: close to the penalised-complexity prior with
                  the Poisson as its base, which it lets come near, and every moment of
                  ``1 / theta`` is finite (Vehtari 2024, the default of brms)
NB1's phi         ``HalfStudentT(4, variance / mean of the response - 1)``, the scale at least
                  1: a mode at the Poisson
================  ======================================================================

Those of a residual correlation are in ``priors.residual``.

Priors are independent and are those of the coefficients as the formula has them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from .base import ImproperPriorError, Prior
from .coefficients import Flat, Normal, Uniform
from .correlations import LKJ
from .covariances import CovariancePrior, InverseWishart
from .deviations import HalfStudentT, InverseGamma, UniformShrinkage
from .residual import residual_priors
from .resolved import Assigned, ResolvedPriors
from .shrinkage import R2D2M2, RESERVED, SharedMargin, SharedVariance, residual_scale

REASON = {
    "coefficient": "where the data are separated a flat coefficient has no posterior",
    "sd": (
        "a variance component under such a prior may have no posterior although every full "
        "conditional distribution exists, and a sampler does not notice (Natarajan & "
        "McCulloch 1995)"
    ),
    "corr": "correlations near one have infinite weight",
    "rate": (
        "with a half-life of zero, and with an endless one beside a nugget, the likelihood is that "
        "of a simpler model, which is positive, and infinite weight there leaves no posterior"
    ),
    "share": "a share of zero or one has infinite weight, where the likelihood may be positive",
    "serial": "an end of the range has infinite weight, where the likelihood may be positive",
}
NOUN = {
    "coefficient": "a coefficient",
    "sd": "a standard deviation",
    "corr": "a correlation",
    "covariance": "a covariance matrix",
    "joint": "all coefficients and standard deviations together",
    "rate": "a rate",
    "share": "a share",
    "serial": "a serial correlation",
}


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
                    f"Priors({name}={prior!r}) is not a prior: write one such as Normal(0, 1)."
                )


def resolve_priors(priors: Priors | None, design, family, link, repeated=None) -> ResolvedPriors:
    """Give every parameter of a model its prior.

    ``repeated`` are the rows as the residual correlation sees them, or None.

    Raises
    ------
    ImproperPriorError
        If a prior does not integrate to one and improper priors are not allowed.
    ValueError
        If a prior is for another kind of parameter, or names a parameter that is not there.
    """
    chosen = Priors() if priors is None else priors
    if not isinstance(chosen, Priors):
        raise ValueError(f"priors={priors!r} must be a Priors object: write Priors(sd=…).")
    _check_slots(chosen, design, family)
    if chosen.residual and repeated is None:
        raise ValueError(
            "Priors(residual=…) has nothing to apply to: the model has no residual correlation. "
            "Leave it out."
        )
    units = _response_units(design, link)
    dispersion = _dispersion(chosen, design, family) if family.has_dispersion else []
    beta = _coefficients(chosen, design, link, units)
    sd = {block.group: _deviations(chosen, block, units) for block in design.groups}
    sd = {g: [_from_data(row, k, g, design, family, link) for k, row in enumerate(found)]
          for g, found in sd.items()}  # fmt: skip
    corr = {block.group: _correlations(chosen, block) for block in design.groups}
    covariance = {
        block.group: _covariance(chosen, block, design, family, link) for block in design.groups
    }
    for block in design.groups:
        if (matrix := covariance[block.group]) is not None:
            sd[block.group], corr[block.group] = _margins(matrix, block, chosen), [matrix]
    shared = _shared(chosen, design, family, link)
    if shared is not None:
        beta, sd = _margins_of_shared(shared[1], dispersion, beta, sd, design)
    rows = [*(shared[:1] if shared else ()), *beta]
    for block in design.groups:
        rows += [*sd[block.group], *corr[block.group]]
    residual = residual_priors(chosen, repeated, _assign) if repeated is not None else []
    return ResolvedPriors(
        beta=tuple(row.prior for row in beta),
        sd={group: tuple(row.prior for row in found) for group, found in sd.items()},
        corr={group: _lkj(found) for group, found in corr.items()},
        dispersion=dispersion[0].prior if dispersion else None,
        assigned=(*rows, *residual, *dispersion),
        link=link.name,
        covariance={g: None if row is None else _matrix_of(row) for g, row in covariance.items()},
        joint=shared[1] if shared else None,
        residual={row.parameter.removeprefix("residual_"): row.prior for row in residual},
    )


def _matrix_of(row: Assigned) -> CovariancePrior:
    assert isinstance(row.prior, CovariancePrior)
    return row.prior


def _lkj(rows: list[Assigned]) -> LKJ | None:
    prior = rows[0].prior if rows else None
    return prior if isinstance(prior, LKJ) else None


def _check_slots(chosen: Priors, design, family) -> None:
    """Refuse a choice for something the model does not have."""
    correlated = any(len(c) > 1 for block in design.groups for c in block.blocks)
    absent = {
        "intercept": "Intercept" not in design.terms and "the formula has no intercept",
        "beta": not set(design.terms) - {"Intercept"} and "the formula has no other coefficient",
        "sd": not design.groups and "the formula has no random effect",
        "corr": not correlated and "no random effects are correlated",
        "covariance": not any(_whole(block) for block in design.groups)
        and "no grouping factor has all its effects correlated",
        "joint": not (set(design.terms) - {"Intercept"} or design.groups)
        and "the formula has neither a coefficient but the intercept nor a random effect",
        "dispersion": not family.has_dispersion and f"the {family.name} family has none",
    }
    for slot, why in absent.items():
        if why and getattr(chosen, slot) is not None:
            raise ValueError(f"Priors({slot}=…) has nothing to apply to: {why}. Leave it out.")
    _check_joint(chosen, design)
    _check_names("beta_for", chosen.beta_for, [k for t in design.terms for k in _beta_keys(t)])
    keys = [k for block in design.groups for c in block.columns for k in _sd_keys(block.group, c)]
    _check_names("sd_for", chosen.sd_for, keys)
    whole = [block.group for block in design.groups if _whole(block)]
    _check_names("covariance_for", chosen.covariance_for, whole)
    governed = [b for b in design.groups if _given_covariance(chosen, b) is not None]
    for block in governed:
        keys = [k for c in block.columns for k in _sd_keys(block.group, c) if k in chosen.sd_for]
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


def _beta_keys(term: str) -> tuple[str, str]:
    """``period[T.2]`` is found by its own name, then as ``period``."""
    return term, re.sub(r"\[[^\]]*\]", "", term)


def _sd_keys(group: str, column: str) -> tuple[str, str]:
    """``herd[Intercept]``, then ``herd``."""
    return f"{group}[{column}]", group


def _assign(
    parameter: str, role: str, options, default: Prior, why: str, improper: bool, dimension=2
) -> Assigned:
    """Take the first option that is given, or the default; check role and propriety."""
    given = next((prior for prior in options if prior is not None), None)
    if given is None:
        return Assigned(parameter, default, True, why, dimension)
    if not _serves(given, role):
        fits = " or ".join(NOUN[r] for r in sorted(given.roles))
        raise ValueError(
            f"{given.describe()} is a prior for {fits}, and {parameter} is {NOUN[role]}: "
            f"use one such as {default.describe()}."
        )
    if not given.proper and not improper:
        raise ImproperPriorError(
            f"The prior {given.describe()} of {parameter} is improper: {REASON[role]}. "
            f"Use a proper prior such as {default.describe()}, or Priors(..., "
            "allow_improper=True) to have it sampled only if the posterior is shown to exist."
        )
    if role in ("sd", "rate") and isinstance(given, Flat):
        given = Uniform(0, np.inf)
    if role in ("sd", "rate") and given.support[0] < 0:
        raise ValueError(
            f"{given.describe()} reaches below zero, and {parameter} is {NOUN[role]}: "
            "start it at 0."
        )
    if role == "coefficient" and given.stated_on == "variance":
        raise ValueError(f"{given.describe()} is stated on a variance; {parameter} has none.")
    return Assigned(parameter, given, False, "chosen", dimension)


def _serves(prior: Prior, role: str) -> bool:
    """Whether a prior is for that role; those of SDs, on the value, serve any positive quantity."""
    if role == "rate":
        return "sd" in prior.roles and prior.stated_on == "value"
    return role in prior.roles


class _Units(NamedTuple):
    """What one unit of the linear predictor is: ``scale``, and the level ``location``."""

    scale: float
    location: float


def _sd(x: np.ndarray) -> float:
    """SD with divisor n - 1; 1 where it is zero or a single row."""
    spread = float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
    return spread if spread > 0 else 1.0


def _response_units(design, link) -> _Units:
    """Scale and level of the linear predictor, from the link and the response."""
    mean = design.y / design.trials
    if link.name == "identity":
        return _Units(_sd(mean), float(np.mean(mean - design.offset)))
    if link.name == "log":
        # half an event keeps the level finite where every count is zero
        level = max(float(np.sum(design.y)), 0.5)
        return _Units(1.0, float(np.log(level / np.sum(design.trials * np.exp(design.offset)))))
    if link.name in ("inverse", "sqrt"):
        level = max(float(np.mean(mean)), 0.5 / len(mean)) if np.any(mean) else 0.5 / len(mean)
        slope = abs(float(link.inverse(link.link(level))[1]))
        return _Units(_sd(mean) / slope, float(link.link(level) - np.mean(design.offset)))
    return _Units(1.0, 0.0)


def _spreads(X: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """SD of each column about its mean, or about zero where there is no intercept; 1 for it."""
    if "Intercept" not in columns:
        return np.sqrt(np.mean(np.square(X), axis=0))
    return np.array([1.0 if c == "Intercept" else _sd(X[:, k]) for k, c in enumerate(columns)])


def _coefficients(chosen: Priors, design, link, units: _Units) -> list[Assigned]:
    spreads = _spreads(design.X, design.terms)
    centred = "Intercept" in design.terms
    scale = units.scale if centred else float(np.hypot(units.scale, units.location))
    rows = []
    for k, term in enumerate(design.terms):
        specific = [chosen.beta_for.get(key) for key in _beta_keys(term)]
        if term == "Intercept":
            options = [*specific, chosen.intercept]
            default, why = _default_intercept(design, link, units, spreads)
        else:
            options = [*specific, chosen.beta]
            default = Normal(0.0, 2.5 * scale / spreads[k])
            kind = "SD" if centred else "root mean square (no intercept)"
            why = f"2.5 {_of_response(link, scale)}/ {kind} of the column, {spreads[k]:.4g}"
        rows.append(
            _assign(f"beta[{term}]", "coefficient", options, default, why, chosen.allow_improper)
        )
    return rows


def _default_intercept(design, link, units: _Units, spreads) -> tuple[Normal, str]:
    others = [k for k, term in enumerate(design.terms) if term != "Intercept"]
    distance = np.mean(design.X[:, others], axis=0) / spreads[others]
    width = float(np.sqrt(1.0 + distance @ distance))
    why = (
        f"2.5 {_of_response(link, units.scale)}* {width:.4g}, the distance of the columns' "
        "means from zero in SDs"
    )
    if units.location != 0:
        why += f"; about the {link.name} of the mean response"
    return Normal(units.location, 2.5 * units.scale * width), why


def _of_response(link, scale: float) -> str:
    if link.name == "identity":
        return f"SDs of the response ({scale:.4g}) "
    if link.name in ("inverse", "sqrt"):
        return f"SDs of the response on the link scale ({scale:.4g}) "
    return ""


def _deviations(chosen: Priors, block, units: _Units) -> list[Assigned]:
    rows = []
    for column, spread in zip(block.columns, _spreads(block.Z, block.columns), strict=True):
        options = [chosen.sd_for.get(key) for key in _sd_keys(block.group, column)] + [chosen.sd]
        default = HalfStudentT(4.0, 2.5 * units.scale / float(spread))
        why = f"2.5 * {units.scale:.4g} / spread of the column, {spread:.4g}"
        name = f"sd_{block.group}[{column}]"
        rows.append(_assign(name, "sd", options, default, why, chosen.allow_improper))
    return rows


def _from_data(row: Assigned, column: int, group: str, design, family, link) -> Assigned:
    """Give a uniform-shrinkage prior the weight that the data say, and say so."""
    if not isinstance(row.prior, UniformShrinkage) or row.prior.weight is not None:
        return row
    weights = _null_weights(design, family, link)
    block = next(b for b in design.groups if b.group == group)
    typical = float(weights @ block.Z[:, column] ** 2) / block.n_observed
    if not typical > 1e-8:
        raise ValueError(
            f"UniformShrinkage() of {row.parameter} finds no information in the fit without "
            "random effects, as where the data are separated: give it a weight, or another prior."
        )
    why = "chosen; its weight is taken from the data (empirical Bayes)"
    return row._replace(prior=UniformShrinkage(typical), why=why)


def _null_weights(design, family, link) -> np.ndarray:
    """Weights of the rows at the fit without random effects, shape (n,)."""
    from ..numerics.bind import bind_numpy
    from ..numerics.groups import Rows
    from ..numerics.irls import expected_weights, fit_glm

    bound = bind_numpy(family, link)
    found = fit_glm(bound, Rows(design.y, design.trials, design.offset, design.X))
    return expected_weights(bound, found.eta, design.trials, found.dispersion)


def _whole(block) -> bool:
    """Whether all effects of a grouping factor, two or more, are correlated."""
    return len(block.blocks) == 1 and len(block.columns) > 1


def _given_covariance(chosen: Priors, block) -> Prior | None:
    if not _whole(block):
        return None
    return chosen.covariance_for.get(block.group, chosen.covariance)


def _covariance(chosen: Priors, block, design, family, link) -> Assigned | None:
    """Prior of the covariance matrix of a group, its scale from the data where it has none."""
    given = _given_covariance(chosen, block)
    if given is None:
        return None
    name, d = f"covariance_{block.group}", len(block.columns)
    row = _assign(name, "covariance", [given], InverseWishart(d + 1, 1.0), "", False, d)
    prior = _matrix_of(row)
    prior.check(d, block.group)
    if prior.complete:
        return row
    if getattr(prior, prior.matrix_name) is not None:  # but the degrees of freedom are not given
        return row._replace(prior=prior.resolved(np.eye(d)))
    weights = _null_weights(design, family, link)
    information = block.Z.T @ (weights[:, None] * block.Z) / block.n_observed
    size = np.sqrt(np.diag(information))
    if not (size.min() > 1e-4 and np.linalg.cond(information / np.outer(size, size)) < 1e10):
        raise ValueError(
            f"{type(prior).__name__}() of {block.group} finds no information about some effect in "
            f"the fit without random effects: give it a {prior.matrix_name}, or another prior."
        )
    why = f"chosen; its {prior.matrix_name} is taken from the data (empirical Bayes)"
    return row._replace(prior=prior.resolved(information), why=why)


def _margins(row: Assigned, block, chosen: Priors) -> list[Assigned]:
    """Priors of the single variances that follow from that of the matrix."""
    prior, why = _matrix_of(row), f"follows from that of {row.parameter}"
    return [
        Assigned(f"sd_{block.group}[{column}]", prior.margin(k, len(block.columns)), False, why)
        for k, column in enumerate(block.columns)
    ]


def _shared(chosen: Priors, design, family, link) -> tuple[Assigned, SharedVariance] | None:
    """Row and structure of the prior of all coefficients and standard deviations together."""
    if chosen.joint is None:
        return None
    residual = residual_scale(design, family, link)
    row = _assign("r2", "joint", [chosen.joint], R2D2M2(), "", False)
    row = row._replace(why=f"chosen; {residual.why}")
    at = tuple(k for k, term in enumerate(design.terms) if term != "Intercept")
    names = [design.terms[k] for k in at]
    spreads = [_spreads(design.X, design.terms)[list(at)]]
    effects = {}
    for block in design.groups:
        effects[block.group] = slice(len(names), len(names) + len(block.columns))
        names += [f"{block.group}[{column}]" for column in block.columns]
        spreads.append(_spreads(block.Z, block.columns))
    unit = residual.value / np.concatenate(spreads)
    assert isinstance(row.prior, R2D2M2)
    shared = SharedVariance(row.prior, tuple(names), unit, residual.by_dispersion, at, effects)
    return row, shared


def _margins_of_shared(shared: SharedVariance, dispersion, beta, sd, design):
    """Priors of single coefficients and standard deviations that follow from the joint one."""
    scale = dispersion[0].prior if shared.by_dispersion else None

    def margin(row: Assigned, component: int, coefficient: bool) -> Assigned:
        unit, count = float(shared.unit[component]), len(shared.components)
        prior = SharedMargin(shared.prior, count, unit, scale, coefficient)
        return row._replace(prior=prior, default=False, why="follows from that of r2")

    beta = list(beta)
    for component, k in enumerate(shared.coefficients):
        beta[k] = margin(beta[k], component, True)
    for group, at in shared.effects.items():
        positions = range(at.start, at.stop)
        sd[group] = [margin(row, k, False) for row, k in zip(sd[group], positions, strict=True)]
    return beta, sd


def _correlations(chosen: Priors, block) -> list[Assigned]:
    dimension = max(map(len, block.blocks), default=1)
    if dimension < 2:
        return []
    why = "away from perfect correlation"
    name = f"corr_{block.group}"
    improper = chosen.allow_improper
    return [_assign(name, "corr", [chosen.corr], LKJ(2.0), why, improper, dimension)]


def _dispersion(chosen: Priors, design, family) -> list[Assigned]:
    default, why = _default_dispersion(design.y, family.name)
    improper = chosen.allow_improper
    return [_assign("dispersion", "sd", [chosen.dispersion], default, why, improper)]


def _default_dispersion(y: np.ndarray, family: str) -> tuple[Prior, str]:
    spread, mean = _sd(y), float(np.mean(y))
    if family in ("negative_binomial", "beta_binomial"):
        limit = "Poisson" if family == "negative_binomial" else "binomial"
        return InverseGamma(0.4, 0.3, on="value"), f"away from zero, the {limit} in reach"
    if family == "negative_binomial1":
        scale = max(spread**2 / max(mean, 0.5 / len(y)) - 1.0, 1.0)
        return HalfStudentT(4.0, scale), f"variance / mean of the response - 1, {scale:.4g}"
    if family == "gamma":
        scale = spread / mean
        return HalfStudentT(4.0, scale), f"SD / mean of the response, {scale:.4g}"
    return HalfStudentT(4.0, spread), f"SD of the response, {spread:.4g}"
