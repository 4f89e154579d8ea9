r"""Which parameter has which prior: the user's choices, else the defaults, and their reasons.

The defaults are in ``priors.defaults``; those of a residual correlation in ``priors.residual``.
"""

import numpy as np

from .base import ImproperPriorError, Prior
from .chosen import Priors, beta_keys, check_slots, given_covariance, sd_keys
from .coefficients import Flat, Normal, Uniform
from .correlations import LKJ
from .covariances import CovariancePrior, InverseWishart
from .defaults import (
    Units,
    default_dispersion,
    default_intercept,
    null_weights,
    of_response,
    response_units,
    spreads_of,
)
from .deviations import HalfStudentT, UniformShrinkage
from .residual import residual_priors
from .resolved import Assigned, ResolvedPriors
from .shrinkage import R2D2M2, SharedMargin, SharedVariance, residual_scale

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
    check_slots(chosen, design, family)
    if chosen.residual and repeated is None:
        raise ValueError(
            "Priors(residual=…) has nothing to apply to: the model has no residual correlation. "
            "Leave it out."
        )
    units = response_units(design, link)
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


def _coefficients(chosen: Priors, design, link, units: Units) -> list[Assigned]:
    spreads = spreads_of(design.X, design.terms)
    centred = "Intercept" in design.terms
    scale = units.scale if centred else float(np.hypot(units.scale, units.location))
    rows = []
    for k, term in enumerate(design.terms):
        specific = [chosen.beta_for.get(key) for key in beta_keys(term)]
        if term == "Intercept":
            options = [*specific, chosen.intercept]
            default, why = default_intercept(design, link, units, spreads)
        else:
            options = [*specific, chosen.beta]
            default = Normal(0.0, 2.5 * scale / spreads[k])
            kind = "SD" if centred else "root mean square (no intercept)"
            why = f"2.5 {of_response(link, scale)}/ {kind} of the column, {spreads[k]:.4g}"
        rows.append(
            _assign(f"beta[{term}]", "coefficient", options, default, why, chosen.allow_improper)
        )
    return rows


def _deviations(chosen: Priors, block, units: Units) -> list[Assigned]:
    rows = []
    for column, spread in zip(block.columns, spreads_of(block.Z, block.columns), strict=True):
        options = [chosen.sd_for.get(key) for key in sd_keys(block.group, column)] + [chosen.sd]
        default = HalfStudentT(4.0, 2.5 * units.scale / float(spread))
        why = f"2.5 * {units.scale:.4g} / spread of the column, {spread:.4g}"
        name = f"sd_{block.group}[{column}]"
        rows.append(_assign(name, "sd", options, default, why, chosen.allow_improper))
    return rows


def _from_data(row: Assigned, column: int, group: str, design, family, link) -> Assigned:
    """Give a uniform-shrinkage prior the weight that the data say, and say so."""
    if not isinstance(row.prior, UniformShrinkage) or row.prior.weight is not None:
        return row
    weights = null_weights(design, family, link)
    block = next(b for b in design.groups if b.group == group)
    typical = float(weights @ block.Z[:, column] ** 2) / block.n_observed
    if not typical > 1e-8:
        raise ValueError(
            f"UniformShrinkage() of {row.parameter} finds no information in the fit without "
            "random effects, as where the data are separated: give it a weight, or another prior."
        )
    why = "chosen; its weight is taken from the data (empirical Bayes)"
    return row._replace(prior=UniformShrinkage(typical), why=why)


def _covariance(chosen: Priors, block, design, family, link) -> Assigned | None:
    """Prior of the covariance matrix of a group, its scale from the data where it has none."""
    given = given_covariance(chosen, block)
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
    weights = null_weights(design, family, link)
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
    spreads = [spreads_of(design.X, design.terms)[list(at)]]
    effects = {}
    for block in design.groups:
        effects[block.group] = slice(len(names), len(names) + len(block.columns))
        names += [f"{block.group}[{column}]" for column in block.columns]
        spreads.append(spreads_of(block.Z, block.columns))
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
    default, why = default_dispersion(design.y, family.name)
    improper = chosen.allow_improper
    return [_assign("dispersion", "sd", [chosen.dispersion], default, why, improper)]
