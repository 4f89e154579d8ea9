r"""What variance components mean: intraclass correlations, heritability, median ratios.

The intraclass correlation is that of two responses which share a level. Where the response
is a threshold of a latent variable (binary data, links logit, probit, cloglog) it is that of
the latent variables, whose residual variance the link fixes, or on request that of the
responses themselves, at a stated mean; for a normal response with identity link it is that of
the responses; for a log link it is too, at a stated mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtri, owens_t, roots_hermitenorm

from .fit import Component, Fit, Variance, check_fit, check_level, components_of
from .methods import NotServedError
from .numerics.population_mean import STRIP, nodes_for, population_mean
from .priors.implied import LATENT, RATIOS

NODES = 40  # of the average over a lognormal mean
SHARE = "share of a row's variance"  # scale of an ICC beside a residual correlation
MOST_APART = 0.5, 2.0  # mean diagonals of relationship matrices: inbreeding is below one
STEP = 1e-5  # of differences, on the log scale
ROUNDS = 60  # of Newton's search for the predictor of a mean


@dataclass(frozen=True, eq=False)
class Shares:
    """Which variances two responses share at each level.

    Attributes
    ----------
    groups
        Factors that are reported.
    shared
        Whether factor ``j`` is shared by two rows of one level of ``groups[i]``: itself, and
        the factors it is nested in; shape ``(reported, factors)`` of bool.
    """

    groups: tuple[str, ...]
    shared: np.ndarray


def icc(
    fit: Fit, *, mean: float | None = None, scale: str | None = None, level: float = 0.95
) -> pd.DataFrame:
    r"""Intraclass correlations: of two responses that share a level of a grouping factor.

    With :math:`\sigma^2_S` the variance of the random intercepts that the two share and
    :math:`\sigma^2_T` that of all,

    .. math:: \mathrm{ICC} = \frac{\sigma^2_S}{\sigma^2_T + \sigma^2_R}, \qquad
       \mathrm{ICC} = \frac{e^{\sigma^2_S} - 1}{e^{\sigma^2_T} - 1 + E[V(\mu e^{Z})]/\mu^2}

    on the latent scale (residual variance :math:`\sigma^2_R = \pi^2/3` for logit, 1 for
    probit, :math:`\pi^2/6` for cloglog and loglog) or for a normal response
    (:math:`\sigma^2_R` the residual variance), and for a log link at the marginal mean
    :math:`\mu`, :math:`V` the family's variance function and
    :math:`Z \sim N(-\sigma_T^2/2, \sigma_T^2)`.

    The correlation of binary responses themselves (``scale="response"``) at the marginal mean
    :math:`\mu` is, without simulation (Goldstein, Browne & Rasbash 2002 simulate it),

    .. math:: \mathrm{ICC} = \frac{E\,[\,E(\mu(\eta + b_S + b_{T \setminus S}) \mid b_S)^2\,]
       - \mu^2}{\mu(1 - \mu)}, \qquad b_S \sim N(0, \sigma_S^2),

    ``eta`` the predictor whose marginal mean is ``mu``; by quadrature, for the probit in closed
    form.

    Parameters
    ----------
    fit
        A fit of a mixed model.
    mean
        Marginal mean of the response at which the correlation on the response scale is given,
        taken as known. Default: the mean of the observed responses (per trial).
    scale
        Of binary responses: "latent" (the default) or "response"; other families have "response"
        alone.
    level
        Coverage.

    Returns
    -------
    DataFrame
        ``group, term, icc, std_error, conf_low, conf_high, scale``. The row of a nested factor
        counts the variance of the factors it is nested in, since its rows share them too. With
        random slopes the correlation is that where their variables are zero (``term`` says
        ``Intercept``). A factor with one row a level is residual variation: no row, unless its
        levels are relatives. With a residual correlation it is the share of a row's variance,
        the correlation of rows so far apart that the residual correlation has died away, and
        ``scale`` says so. By
        the delta method on the logit scale from the covariance of all variance parameters;
        posterior mean, SD and equal-tailed limits for draws. An SD of zero gives 0 without
        limits.

    Raises
    ------
    NotServedError
        If the fit has no variance components, or MQL's, or the family and link no such
        correlation.
    ValueError
        If a factor has no random intercept, or ``mean`` or ``level`` is out of range.
    """
    check_fit(fit, "icc")
    check_level("icc", level)
    variance_with_sds(fit, "intraclass correlation")
    residual, named = _residual(fit, mean, scale)
    if fit.model.residual is not None:
        named = SHARE
    shares = shares_of(fit.model.design, bool(np.any(fit.model.design.trials > 1)))
    intercepts = [_intercept(fit, g.group) for g in fit.model.design.groups]

    def correlations(values: np.ndarray) -> np.ndarray:
        """From components, shape ``(…, m)``, to correlations, ``(…, reported)``."""
        variances = values[..., intercepts] ** 2
        dispersion = values[..., -1] if fit.model.family.has_dispersion else np.ones(())
        return residual(variances, variances @ shares.shared.T.astype(float), dispersion)

    columns = _summary(fit, correlations, level, logit, expit)
    table = pd.DataFrame({"group": shares.groups, "term": "Intercept", "icc": columns[0]})
    limits = {"std_error": columns[1], "conf_low": columns[2], "conf_high": columns[3]}
    return table.assign(**limits, scale=named)


def variance_with_sds(fit: Fit, what: str) -> Variance:
    """Give a fit's variance, refusing one without SDs of effects or with a working model's.

    Raises
    ------
    NotServedError
        Naming what serves.
    """
    instead = "use a fit of a mixed model by ML() or NUTS()."
    if fit.variance is None or fit.varcorr().empty:
        raise NotServedError(
            f"{fit.label} estimates no variance components, so it has no {what}: {instead}"
        )
    if fit.estimand == "population-averaged" and fit.model.link.name != "identity":
        raise NotServedError(
            f"The standard deviations of {fit.label} are those of its working model, which have "
            f"no {what}: {instead}"
        )
    return fit.variance


def heritability(fit: Fit, group: str, multiple: float = 1.0, *, level: float = 0.95):
    r"""Heritability from the variance of one factor's effects and the residual's.

    .. math:: h^2 = m \frac{\sigma_g^2}{\sigma_g^2 + \sigma_e^2}

    ``m`` is 1 in an animal model, whose effects are breeding values, and 4 in a sire model, where
    half-sibs share a quarter of the additive variance (Falconer & Mackay 1996, ch. 10). Other
    factors, such as herds, are environments that animals are compared within: their variance
    is left out.

    Parameters
    ----------
    fit
        A fit of a gaussian mixed model with identity link.
    group
        Factor of the sires or animals, with a random intercept.
    multiple
        ``m``, positive.
    level
        Coverage.

    Returns
    -------
    DataFrame
        One row: ``group, multiple, heritability, std_error, conf_low, conf_high``; by the delta
        method on the logit scale of the share, which keeps the limits between 0 and ``m``;
        posterior mean, SD and equal-tailed limits for draws. An SD of zero gives 0 without limits.

    Raises
    ------
    NotServedError
        If the fit has no variance components, or the model is not linear.
    ValueError
        If there is no such factor, it has no random intercept, or an option is out of range.
    """
    check_fit(fit, "heritability")
    check_level("heritability", level)
    groups = [g.group for g in fit.model.design.groups]
    if not len(fit.varcorr()) or not fit.model.is_linear:
        raise NotServedError(
            f"heritability() got {fit.label} of family={fit.model.family.name!r}: it needs the "
            "variances of a gaussian mixed model with identity link, fitted by REML() or NUTS()."
        )
    if group not in groups:
        raise ValueError(f"{group!r} is not a grouping factor: use one of {', '.join(groups)}.")
    if isinstance(multiple, bool) or not isinstance(multiple, int | float) or not multiple > 0:
        raise ValueError(
            f"heritability(multiple={multiple!r}) must be a positive number: 1 for animals, 4 for "
            "sires."
        )
    position = _intercept(fit, group, "heritability() needs a random intercept")
    _check_relationships(fit.model.design.groups[groups.index(group)])

    def share(values: np.ndarray) -> np.ndarray:
        variances = values[..., [position]] ** 2
        return variances / (variances + values[..., [-1]] ** 2)

    columns = _summary(fit, share, level, logit, expit)
    names = ("heritability", "std_error", "conf_low", "conf_high")
    found = {name: multiple * column for name, column in zip(names, columns, strict=True)}
    return pd.DataFrame({"group": group, "multiple": multiple, **found})


def _check_relationships(block) -> None:
    """Refuse a known covariance that cannot be one of relationships, whose diagonal is 1 + F."""
    if block.covariance is None:
        return
    size = float(np.mean(np.diag(block.covariance)))
    if not MOST_APART[0] <= size <= MOST_APART[1]:
        raise ValueError(
            f"heritability() got covariance={{{block.group!r}: …}} with a mean diagonal of "
            f"{size:.3g}: the variance is one of breeding values where the matrix is one of "
            "relationships, with a diagonal of 1 plus the inbreeding; divide it by its scale."
        )


def median_ratio(fit: Fit, *, level: float = 0.95) -> pd.DataFrame:
    r"""Median ratio between two random levels, the higher to the lower.

    :math:`\exp(\sqrt2\,\sigma\,\Phi^{-1}(3/4)) = \exp(0.9539\,\sigma)`: for log odds the median
    odds ratio of Larsen & Merlo (2005), for a log link a ratio of means, for cloglog a hazard
    ratio; all else equal.

    Returns
    -------
    DataFrame
        ``group, term, ratio, estimate, std_error, conf_low, conf_high``, one row per SD (of a
        slope: the ratio per unit of its column); by the delta method, limits those of the SD on the
        log scale, or from the draws.

    Raises
    ------
    NotServedError
        If the fit has no variance components, or MQL's, or the link has no ratio.
    """
    check_fit(fit, "median_ratio")
    check_level("median_ratio", level)
    link = fit.model.link.name
    variance = variance_with_sds(fit, "median ratio")
    if link not in RATIOS:
        raise NotServedError(
            f"median_ratio() got a model with link {link!r}, where levels differ by no ratio: it "
            f"needs link {', '.join(RATIOS)}."
        )
    sds = [k for k, c in enumerate(variance.components) if c.kind == "sd"]
    components = [variance.components[k] for k in sds]
    columns = _summary(
        fit,
        lambda values: median_factor(values[..., sds]),
        level,
        lambda ratio: np.log(np.log(ratio)),
        lambda t: np.exp(np.exp(t)),
    )
    names = ("estimate", "std_error", "conf_low", "conf_high")
    labels = {"group": [c.group for c in components], "term": [c.term for c in components]}
    found = dict(zip(names, columns, strict=True))
    return pd.DataFrame({**labels, "ratio": RATIOS[link], **found})


def median_factor(sd):
    r"""``exp(sqrt(2) sd \Phi^{-1}(3/4))``: median ratio of two levels whose logs have this SD."""
    return np.exp(np.sqrt(2.0) * sd * ndtri(0.75))


def shares_of(design, many_trials: bool) -> Shares:
    """Which factors two rows (or two trials of one row) share that share a level."""
    blocks = design.groups
    kept = [
        g
        for g in blocks
        if many_trials or np.bincount(g.index).max() > 1 or g.covariance is not None
    ]
    shared = [[_constant_within(h, g) for h in blocks] for g in kept]
    return Shares(
        tuple(g.group for g in kept), np.array(shared, bool).reshape(len(kept), len(blocks))
    )


def _constant_within(outer, inner) -> bool:
    """Whether every level of ``inner`` lies in one level of ``outer``; true of itself."""
    first = np.empty(inner.n_levels, outer.index.dtype)
    first[inner.index] = outer.index
    return bool(np.all(first[inner.index] == outer.index))


def _intercept(
    fit: Fit, group: str, needs: str = "icc() needs a random intercept for every grouping factor"
) -> int:
    """Position of a factor's random intercept among the components."""
    wanted = Component("sd", group, "Intercept")
    components = components_of(fit.model)
    if wanted not in components:
        raise ValueError(
            f"{needs} and {group!r} has none: write (1 | {group}), or read the SDs in varcorr()."
        )
    return components.index(wanted)


Residual = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _residual(fit: Fit, mean: float | None, scale: str | None) -> tuple[Residual, str]:
    """How variances, shared variances and dispersion give the correlations, and their scale."""
    family, link = fit.model.family, fit.model.link
    binary = family.name in ("bernoulli", "binomial")
    if scale not in (None, "response", *(["latent"] if binary else [])):
        raise ValueError(
            f"icc(scale={scale!r}) is not an option of the {family.name} family: use "
            f"{'latent or response' if binary else 'response'}."
        )
    if binary and scale == "response":
        return _of_binary(link, _mean_of(fit, mean, 1.0))
    if link.name in LATENT and binary:
        _refuse_mean(mean, link.name)
        return _over(LATENT[link.name]), f"latent ({link.name})"
    if link.name == "identity" and family.name == "gaussian":
        _refuse_mean(mean, link.name)
        return _over(None), "response"
    if link.name == "log" and family.name != "gaussian":
        return _of_log_link(family, _mean_of(fit, mean))
    raise NotServedError(
        f"icc() is not defined for the {family.name} family with link {link.name!r}: it is for "
        f"binary data with link {', '.join(LATENT)}, the gaussian family with link identity, and "
        "counts or positive values with link log."
    )


def _refuse_mean(mean: float | None, link: str) -> None:
    if mean is not None:
        raise ValueError(
            f"icc(mean={mean!r}) is for correlations that depend on the mean, of log links and on "
            f"the response scale of binary data: with link {link!r} here leave it out."
        )


def _mean_of(fit: Fit, mean: float | None, below: float = np.inf) -> float:
    design = fit.model.design
    value = float(design.y.sum() / design.trials.sum()) if mean is None else mean
    if not 0 < value < below:
        what = "positive" if below == np.inf else "between 0 and 1"
        raise ValueError(f"icc(mean={value!r}) must be {what}: give a mean of the response.")
    return float(value)


def _over(residual: float | None) -> Residual:
    """Shares of the sum of variances; the residual is the dispersion's square where None."""

    def correlations(variances, shared, dispersion):
        rest = dispersion**2 if residual is None else residual
        return shared / (variances.sum(axis=-1) + rest)[..., None]

    return correlations


def _of_log_link(family, mean: float) -> tuple[Residual, str]:
    """Correlations of responses whose mean is lognormal with expectation ``mean``."""
    x, w = roots_hermitenorm(NODES)
    w = w / w.sum()

    def correlations(variances, shared, dispersion):
        total = variances.sum(axis=-1)[..., None]
        means = mean * np.exp(np.sqrt(total) * x - total / 2)
        spread = family.variance(means, np.asarray(dispersion)[..., None]) @ w / mean**2
        return np.expm1(shared) / (np.expm1(total) + spread[..., None])

    return correlations, f"response at mean {mean:.3g}"


def _of_binary(link, mean: float) -> tuple[Residual, str]:
    """Correlations of binary responses whose marginal mean is ``mean``."""

    def correlations(variances, shared, dispersion):
        total = variances.sum(axis=-1)
        if link.name == "probit":
            # P(both) = Phi_2(t, t; rho) = Phi(t) - 2 T(t, sqrt((1 - rho) / (1 + rho)))
            rho = shared / (1 + total)[..., None]
            both = mean - 2 * owens_t(ndtri(mean), np.sqrt((1 - rho) / (1 + rho)))
            return (both - mean**2) / (mean * (1 - mean))
        eta = predictor_of_mean(link, mean, total)
        z, w = nodes_for(STRIP[link.name], np.sqrt(shared).max(initial=0.0))
        at = eta[..., None, None] + np.sqrt(shared)[..., None] * z
        rest = np.maximum(total[..., None] - shared, 0.0)
        given = population_mean(link, at, rest[..., None])[0]
        return ((given - mean) ** 2 @ w) / (mean * (1 - mean))

    return correlations, f"response at mean {mean:.3g}"


def predictor_of_mean(link, mean: float, variance: np.ndarray) -> np.ndarray:
    """Find ``eta`` at which the mean over ``N(eta, variance)`` is ``mean``, by Newton's method.

    Steps are held to the spread of the predictor, so that none leaps into a tail.
    """
    spread = np.sqrt(1 + variance)
    eta = link.link(mean) * spread
    for _ in range(ROUNDS):
        value, slope, _ = population_mean(link, eta, variance)
        step = np.clip((mean - value) / slope, -spread, spread)
        eta = eta + step
        if np.all(np.abs(step) < 1e-12 * spread):
            break
    return eta


# --- estimate, error and limits of functions of the components ---------------------------


def _summary(fit: Fit, function, level: float, scale, back) -> list[np.ndarray]:
    """Estimate, standard error and limits of ``function(components)``.

    ``scale`` and ``back`` lead to the scale on which Wald limits are symmetric, and back.
    """
    if fit.draws is not None:
        values = function(fit._flat_draws[:, len(fit.beta) :])
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(values, tails, axis=0)
        return [values.mean(axis=0), values.std(axis=0, ddof=1), low, high]
    estimate = function(cast("Variance", fit.variance).estimate)
    error = _error(fit, function)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = ndtri(0.5 + level / 2) * _error(fit, lambda values: scale(function(values)))
        low, high = back(scale(estimate) - half), back(scale(estimate) + half)
    return [estimate, error, low, high]


def _error(fit: Fit, function) -> np.ndarray:
    """Give the standard error of each output by the delta method.

    In the log SDs and the log dispersion; correlations do not enter. Parameters on the
    boundary are taken as known, and an output that depends on no other has no error (NaN).
    """
    estimate, components = cast("Variance", fit.variance).estimate, components_of(fit.model)
    if fit.joint_cov is None:
        return np.full(np.shape(function(estimate)), np.nan)
    covariance = fit.joint_cov[len(fit.beta) :, len(fit.beta) :]
    known = np.isfinite(np.diag(covariance))
    moving = np.flatnonzero(known & [c.kind != "corr" for c in components])
    steps = STEP * np.eye(len(components))[moving]
    ends = [[function(estimate * np.exp(side * s)) for s in steps] for side in (1, -1)]
    slopes = (np.array(ends[0]) - np.array(ends[1])) / (2 * STEP)
    slopes = slopes.reshape(len(moving), len(function(estimate)))
    inside = covariance[np.ix_(moving, moving)]
    error = np.sqrt(np.einsum("ki,kl,li->i", slopes, inside, slopes))
    return np.where(error > 0, error, np.nan)
