r"""Prediction of group effects: modes or means, and their error with estimated parameters.

With ``x`` the parameters and ``b(x)`` a predictor of the effects, ``E[b | y; x]`` or the
conditional mode, the conditional mean squared error of prediction is (Booth & Hobert 1998)

.. math:: \mathrm{CMSEP} = \mathrm{Var}(b \mid y; \hat x) + c' V c, \qquad
   c = \partial b(\hat x) / \partial x, \quad V = I(\hat x)^{-1}.

The second term is the correction for estimated parameters. With ``V = R R'`` it is the sum
of the squared derivatives of ``b`` along the columns of ``R``, which are steps of one standard
error whatever the units: they are taken by central differences of the predictor itself, so
that every way in which ``b = L u`` depends on the parameters is in them, for every structure.
For a normal response with known variances it is Henderson's prediction error variance.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..fit import Fit, GroupEffects
from ..methods import NotServedError
from .likelihood import Likelihood
from .lmm_likelihood import by_equations
from .lmm_refits import fitted
from .profiles import likelihood_of

KINDS = ("default", "mode", "mean")
ERRORS = ("default", "conditional", "corrected")
# of a central difference, in standard errors: its error is of the order of the square, modes
# are found to about 1e-6
STEP = 0.01
MOST_EFFECTS = 3000  # whose joint covariance is written out


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted effects of one factor.

    Attributes
    ----------
    estimate, conditional_sd
        Modes or means of ``b`` and the SDs of ``b`` given the data and the estimated
        parameters, shape ``(levels, q)``.
    slopes
        Derivatives of ``estimate`` along the columns of ``R``, shape ``(m, levels, q)`` for
        ``m`` parameters that are neither fixed nor on the boundary.
    """

    estimate: np.ndarray
    conditional_sd: np.ndarray
    slopes: np.ndarray

    @property
    def corrected_sd(self) -> np.ndarray:
        """Root of the CMSEP, ``(levels, q)``."""
        return np.sqrt(self.conditional_sd**2 + (self.slopes**2).sum(axis=0))


def ranef(fit: Fit, kind: str = "default", error: str = "default") -> Mapping[str, GroupEffects]:
    """Group effects of the kind and with the error asked for; see ``Fit.ranef``.

    Raises
    ------
    ValueError
        If an option is unknown.
    NotServedError
        If the fit does not have it; the message says what to use.
    """
    _check_options(kind, error)
    if not fit.effects:
        served = "a fit by ML(), PQL() or NUTS()"
        instead = served if fit.model.design.groups else "a formula with a random term"
        raise NotServedError(f"{fit.label} has no group effects: use {instead} instead.")
    if fit.draws is not None:
        return _posterior(fit, kind, error)
    if "prediction_sd" in fit.details and by_equations(fit):
        return _linear(fit, error)
    likelihood_of(fit)  # refuses methods without one
    kind = "mode" if kind == "default" else kind
    if error != "corrected":
        return dict(zip(fit.effects, _stored(fit, kind), strict=True))
    return {k: GroupEffects(p.estimate, p.corrected_sd) for k, p in predict(fit, kind).items()}


def _check_options(kind: str, error: str) -> None:
    for name, value, allowed in (("kind", kind, KINDS), ("error", error, ERRORS)):
        if value not in allowed:
            have = " or ".join(map(repr, allowed))
            raise ValueError(f"ranef({name}={value!r}) is not an option: use {have}.")


def _linear(fit: Fit, error: str) -> Mapping[str, GroupEffects]:
    """BLUPs of a linear mixed model: modes are means, the corrected errors are at hand."""
    if error != "corrected":
        return fit.effects
    corrected = fit.details["prediction_sd"]
    return {k: GroupEffects(e.estimate, corrected[k]) for k, e in fit.effects.items()}


def _posterior(fit: Fit, kind: str, error: str) -> Mapping[str, GroupEffects]:
    """Posterior means and SDs, which allow for not knowing the parameters."""
    if kind == "mode" or error == "conditional":
        asked = "kind='mode'" if kind == "mode" else "error='conditional'"
        raise NotServedError(
            f"ranef({asked}) is not had by {fit.label}: its effects are posterior means and SDs, "
            "use kind='mean' and error='corrected'."
        )
    return fit.effects


def has_means(fit: Fit) -> bool:
    """Tell whether ``E[b | y]`` is had: by quadrature, or as the mode of a normal density."""
    return "posterior_means" in fit.details or _is_normal(fit)


def _is_normal(fit: Fit) -> bool:
    return fit.model.is_linear


def _stored(fit: Fit, kind: str) -> list[GroupEffects]:
    """Modes or means of every factor at the estimates, as the fit holds them."""
    groups = [g.group for g in fit.model.design.groups]
    if kind == "mode" or _is_normal(fit):
        return [fit.effects[name] for name in groups]
    if not has_means(fit):
        raise NotServedError(
            f"{fit.label} has conditional modes only, since it integrates by Laplace: use "
            "kind='mode', a fit by ML() with more nodes where it serves, or NUTS()."
        )
    means = fit.details["posterior_means"]
    return [GroupEffects(means[name]["estimate"], means[name]["sd"]) for name in groups]


def predict(fit: Fit, kind: str) -> dict[str, Prediction]:
    """Predicted effects by group, with their derivatives; ``kind`` is "mode" or "mean".

    The cost is that of two searches of the conditional modes per parameter.
    """
    likelihood, x, covariance = likelihood_of(fit)
    by_means = kind == "mean" and not _is_normal(fit)
    slopes = derivatives(likelihood, x, root_of(covariance), by_means)
    found = _stored(fit, kind)
    groups = fit.model.design.groups
    return {
        g.group: Prediction(e.estimate, e.sd, s)
        for g, e, s in zip(groups, found, slopes, strict=True)
    }


def root_of(covariance: np.ndarray) -> np.ndarray:
    """``R`` with ``V = R R'``, shape ``(size, m)``; unknown rows and columns of ``V`` are zero."""
    known = np.flatnonzero(np.isfinite(np.diag(covariance)))
    root = np.zeros((len(covariance), len(known)))
    if known.size:
        root[known] = np.linalg.cholesky(covariance[np.ix_(known, known)])
    return root


def derivatives(
    likelihood: Likelihood, x: np.ndarray, root: np.ndarray, means: bool
) -> list[np.ndarray]:
    """Differentiate the predicted effects along the columns of ``root``.

    Parameters
    ----------
    likelihood
        At the nodes of the fit.
    x
        The user's parameters, shape ``(size,)``.
    root
        Directions, shape ``(size, m)``.
    means
        Whether the predictor is ``E[b | y]`` by quadrature; else the conditional mode.

    Returns
    -------
    list of ndarray
        One of shape ``(m, levels, q)`` per factor.
    """

    def predictor(at: np.ndarray) -> list[np.ndarray]:
        if not means:
            return [pair[0].copy() for pair in likelihood.conditional(at)]
        with likelihood.blas_threads():
            found = likelihood.marginal.posterior_means(likelihood.inner(at))
        assert found is not None  # the fit has more than one node
        return [pair[0].copy() for pair in found]

    ends = [(predictor(x + STEP * r), predictor(x - STEP * r)) for r in root.T]
    out = []
    for k, factor in enumerate(likelihood.factors):
        rows = [(up[k] - down[k]) / (2 * STEP) for up, down in ends]
        out.append(np.array(rows).reshape(len(ends), factor.levels, factor.q))
    return out


def draw_effects(fit: Fit, group: str, draws: int, rng: np.random.Generator) -> np.ndarray:
    r"""Draw the effects of one factor from their approximate distribution, parameters estimated.

    .. math:: b^* = \hat b + \sum_k z_k c_k + e, \qquad z_k \sim N(0, 1),

    ``c_k`` the derivatives along the columns of ``R`` and ``e`` normal with the conditional
    covariance given the data: independent between the levels of one factor, jointly normal by
    Laplace where there are several. The centre is ``E[b | y]`` where it is had, else the
    mode. Linear mixed models that only Henderson's equations serve (REML, related levels) draw
    by these. Methods without a likelihood (PQL) give independent draws with their own SDs.

    Returns
    -------
    ndarray
        Shape ``(draws, levels, q)``.
    """
    if "prediction_sd" in fit.details and by_equations(fit):
        return _draw_linear(fit, group, draws, rng)
    if "theta" not in fit.details:
        e = fit.effects[group]
        return e.estimate + rng.standard_normal((draws, *e.estimate.shape)) * e.sd
    found = predict(fit, "mean" if has_means(fit) else "mode")[group]
    z = rng.standard_normal((draws, len(found.slopes)))
    centre = found.estimate + np.tensordot(z, found.slopes, axes=1)
    return centre + _noise(fit, group, found, draws, rng)


def _draw_linear(fit: Fit, group: str, draws: int, rng) -> np.ndarray:
    """Draw BLUPs' targets: jointly by Henderson's equations, spread to the corrected errors.

    Each level's errors where the equations are too large to be written out.
    """
    e, sd = fit.effects[group], fit.details["prediction_sd"][group]
    groups = fit.model.design.groups
    if sum(g.n_levels * g.q for g in groups) > MOST_EFFECTS:
        return e.estimate + rng.standard_normal((draws, *e.estimate.shape)) * sd
    errors = fitted(fit).scatter(draws, rng)[[g.group for g in groups].index(group)]
    errors = errors - errors.mean(axis=0)  # so that the draws' mean is the prediction itself
    own = np.sqrt(np.mean(errors**2, axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        wider = np.where(own > 0, np.maximum(np.nan_to_num(sd) / own, 1.0), 1.0)
    return e.estimate + errors * wider


def _noise(fit: Fit, group: str, found: Prediction, draws: int, rng) -> np.ndarray:
    """Deviations from the predictor given the parameters, ``(draws, levels, q)``."""
    names = [g.group for g in fit.model.design.groups]
    if len(names) == 1:
        return rng.standard_normal((draws, *found.estimate.shape)) * found.conditional_sd
    likelihood = Likelihood.of(fit.model)
    x = np.concatenate([fit.beta, fit.details["theta"]])
    with likelihood.blas_threads():
        return likelihood.marginal.scatter(likelihood.inner(x), draws, rng)[names.index(group)]
