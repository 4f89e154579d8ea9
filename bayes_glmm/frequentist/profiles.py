r"""Profile likelihoods: one parameter held, the others maximised.

A held parameter restricts the parameter vector to ``x = origin + basis @ free``:

- a coefficient or a standard deviation is one entry of ``x`` (the set of correlated columns
  is reordered so that the column comes first: its SD is then one Cholesky entry);
- a correlation of the first two columns of a set ties two entries to one free SD,
  ``(L_21, L_22) = sd (rho, sqrt(1 - rho^2))``.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy.special import ndtri

from ..fit import Component, Fit, Variance
from ..methods import NotServedError
from ..numerics.optimise import bfgs
from .likelihood import Likelihood

PRECISION = 1e-10  # Newton decrement of the inner searches: twice the error of a profile
CLOSE = 1e-5  # of the end points, in standard errors
STEPS = 60


def likelihood_of(fit: Fit) -> tuple[Likelihood, np.ndarray, np.ndarray]:
    """Rebuild the likelihood that a fit maximised, its parameters and their covariance.

    Raises
    ------
    NotServedError
        If the method has no likelihood with random effects.
    """
    if "theta" not in fit.details:
        raise NotServedError(
            f"{fit.label} has no likelihood that could be profiled or tested here: use a fit "
            "by ML() instead."
        )
    likelihood = Likelihood.of(fit.model, fit.details["nodes"])
    x = np.concatenate([fit.beta, fit.details["theta"]])
    return likelihood, x, np.asarray(fit.details["covariance"])


@dataclass(frozen=True, eq=False)
class Held:
    """The parameter vector ``x = origin + basis @ free`` with one parameter held."""

    origin: np.ndarray
    basis: np.ndarray


class Profile:
    """The profile log-likelihood of one parameter of a fit.

    Parameters
    ----------
    fit
        By ML.
    parameter
        One of ``fit.parameter_names``.

    Raises
    ------
    ValueError
        If there is no such parameter.
    NotServedError
        If the fit has no likelihood.
    """

    def __init__(self, fit: Fit, parameter: str):
        names = fit.parameter_names
        if parameter not in names:
            raise ValueError(f"{parameter!r} is not a parameter: use one of {', '.join(names)}.")
        self.likelihood, self.x, covariance = likelihood_of(fit)
        k, p = names.index(parameter), self.likelihood.layout.p
        variance = cast("Variance", fit.variance)
        components = variance.components
        self.kind = "coefficient" if k < p else components[k - p].kind
        self.estimate = float(np.concatenate([fit.beta, variance.estimate])[k])
        self.loglik = cast("float", fit.loglik)
        self.position, self.partner = k, -1
        if self.kind == "dispersion":
            self.position = len(self.x) - 1
        elif self.kind != "coefficient":
            covariance = self._put_first(fit.model.design.groups, components[k - p], covariance)
        self.information = self._information(covariance)
        error = np.concatenate([fit.se().to_numpy(), variance.std_error])[k]
        rough = self.information[self.position, self.position] ** -0.5
        self.std_error = float(error) if error > 0 else float(rough)
        self.start = self.x

    def _put_first(self, groups, c: Component, covariance: np.ndarray) -> np.ndarray:
        """Reorder the columns of a set so that the component's come first."""
        k = next(i for i, g in enumerate(groups) if g.group == c.group)
        wanted = [groups[k].columns.index(term) for term in (c.term, c.term2) if term]
        blocks = self.likelihood.factors[k].covariance.blocks
        new = tuple(
            (*wanted, *(i for i in b if i not in wanted)) if wanted[0] in b else b for b in blocks
        )
        if new != blocks:
            self.likelihood, x = self.likelihood.reordered(k, new, self.x)
            maximum = self.likelihood.maximise(start=x)
            self.x, covariance = maximum.x, maximum.covariance
        offset = self.likelihood.layout.theta_slice(k).start
        rows, columns = self.likelihood.factors[k].covariance.entries
        entry = {(r, s): offset + i for i, (r, s) in enumerate(zip(rows, columns, strict=True))}
        self.position = entry[wanted[0], wanted[0]]
        if c.kind == "corr":
            self.position, self.partner = entry[wanted[1], wanted[0]], entry[wanted[1], wanted[1]]
        return covariance

    def _information(self, covariance: np.ndarray) -> np.ndarray:
        """Approximate information of ``x``; from the start where there is no covariance."""
        known = np.flatnonzero(np.isfinite(np.diag(covariance)))
        jacobian = self.likelihood.outer_jacobian
        rough = jacobian @ self.likelihood.start[1] @ jacobian.T
        information = np.diag(1.0 / np.diag(rough))
        if known.size:
            inside = np.ix_(known, known)
            information[inside] = np.linalg.inv(covariance[inside])
        return information

    def _restrict(self, value: float) -> Held:
        size = len(self.x)
        if self.partner >= 0:
            basis = np.eye(size)
            basis[self.position, self.partner] = value
            basis[self.partner, self.partner] = np.sqrt(1.0 - value * value)
            return Held(np.zeros(size), np.delete(basis, self.position, axis=1))
        held = np.log(value) if self.kind == "dispersion" else value
        origin = held * np.eye(size)[self.position]
        return Held(origin, np.delete(np.eye(size), self.position, axis=1))

    def _slope(self, value: float, x: np.ndarray, gradient: np.ndarray) -> float:
        """``dx/dvalue`` times the gradient: the profile's own slope (the rest is maximised)."""
        if self.partner < 0:
            scale = 1.0 / value if self.kind == "dispersion" else 1.0
            return float(scale * gradient[self.position])
        sd = np.hypot(x[self.position], x[self.partner])
        tilt = value / np.sqrt(1.0 - value * value)
        return float(sd * (gradient[self.position] - tilt * gradient[self.partner]))

    def __call__(self, value: float) -> tuple[float, float]:
        """Profile log-likelihood at ``value`` and its derivative; the search starts at the last."""
        held = self._restrict(value)
        basis = held.basis
        free = np.linalg.lstsq(basis, self.start - held.origin, rcond=None)[0]
        information = basis.T @ self.information @ basis
        if self.partner < 0:  # move the others along the quadratic approximation
            shift = held.origin[self.position] - self.start[self.position]
            coupling = basis.T @ self.information[:, self.position]
            free = free - np.linalg.solve(information, coupling * shift)

        def objective(part):
            likelihood, gradient = self.likelihood(held.origin + basis @ part)
            return likelihood, basis.T @ gradient

        inverse = np.linalg.inv(information)
        with self.likelihood.blas_threads():
            found = bfgs(objective, free, inverse, tolerance=PRECISION)
            if not np.isfinite(found.value):  # the extrapolated start has no likelihood
                free = np.linalg.lstsq(basis, self.x - held.origin, rcond=None)[0]
                found = bfgs(objective, free, inverse, tolerance=PRECISION)
            x = held.origin + basis @ found.x
            value_there, gradient = self.likelihood(x)
        self.start = x
        return value_there, self._slope(value, x, gradient)

    def along(self, grid: np.ndarray) -> np.ndarray:
        """Profile log-likelihood at each value of ``grid``, outwards from the estimate."""
        grid = np.asarray(grid, float)
        out = np.full(grid.shape, np.nan)
        order = np.argsort(np.abs(grid - self.estimate), kind="stable")
        for side in (grid[order] >= self.estimate, grid[order] < self.estimate):
            self.start = self.x
            for i in order[side]:
                out[i] = self(float(grid[i]))[0]
        return out

    def limit(self, side: int, level: float) -> float:
        r"""End point of the interval: where :math:`\zeta = \pm z`.

        ``zeta(value) = sign(value - estimate) sqrt(2 (loglik - profile))`` is nearly linear,
        so that Newton steps on it, kept inside a bracket, need few evaluations. An SD whose
        profile stays within reach down to zero has the lower limit 0; a limit that does not
        exist is infinite (or the end of the parameter's range).
        """
        z = float(ndtri(0.5 + level / 2))
        self.start = self.x
        edge = {"sd": (0.0, np.inf), "dispersion": (0.0, np.inf), "corr": (-1.0, 1.0)}.get(
            self.kind, (-np.inf, np.inf)
        )[side > 0]
        if self.kind == "sd" and side < 0:
            if self.estimate <= 0.0 or self._zeta(0.0)[0] < z:
                return 0.0
            self.start = self.x
        inside, outside = self.estimate, edge
        value = self._first_step(side, z, edge)
        for _ in range(STEPS):
            zeta, slope = self._zeta(value)
            if zeta < z:
                inside = value
            else:
                outside = value
            step = (z - zeta) / slope if slope * side > 0 and np.isfinite(zeta) else side * np.inf
            if abs(step) < CLOSE * self.std_error:
                return value + step
            value = self._within(value, value + step, inside, outside, side)
            if abs(outside - inside) < CLOSE * self.std_error:
                return value
            if abs(value - self.estimate) > 1e4 * self.std_error:
                return side * np.inf
        return edge

    def _first_step(self, side: int, z: float, edge: float) -> float:
        value = self.estimate + side * z * self.std_error
        if self.kind in ("sd", "dispersion") and self.estimate > 0:
            value = self.estimate * np.exp(side * min(z * self.std_error / self.estimate, 3.0))
        if side * (value - edge) >= 0:
            value = 0.5 * (self.estimate + edge)
        return value

    def _within(self, old, new, inside, outside, side) -> float:
        """Keep a step inside the bracket, and at most doubling the distance where it is open."""
        if np.isfinite(outside):
            good = min(inside, outside) < new < max(inside, outside)
            return new if good else 0.5 * (inside + outside)
        farthest = self.estimate + 2.0 * (old - self.estimate) + side * 1e-12
        return min(new, farthest) if side > 0 else max(new, farthest)

    def _zeta(self, value: float) -> tuple[float, float]:
        """``|zeta|`` and its derivative by the value."""
        profile, slope = self(value)
        zeta = np.sqrt(max(2.0 * (self.loglik - profile), 0.0))
        return zeta, -slope / max(zeta, 1e-12)
