r"""Profile likelihoods: one parameter held, the others maximised.

A held parameter restricts the parameter vector to ``x = origin + basis @ free``:

- a coefficient or a standard deviation is one entry of ``x`` (the set of correlated columns
  is reordered so that the column comes first: its SD is then one Cholesky entry);
- a correlation of the first two columns of a set ties two entries to one free SD,
  ``(L_21, L_22) = sd (cos a, sin a)``, ``rho = cos a``.

The coordinate held is the one in which the likelihood stays smooth to the end of the range
and beyond (where it is mirrored): the coefficient, the SD, the angle ``a`` of a correlation,
the log of a dispersion.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.special import ndtri

from ..fit import WORKING_SCALES, Component, Fit, Variance, datatree_name
from ..methods import NotServedError
from ..numerics.covariance import Covariance
from ..numerics.groups import Rows
from ..numerics.optimise import bfgs
from .likelihood import AT_LIMIT, Likelihood
from .lmm_likelihood import LinearLikelihood, by_equations

PRECISION = 1e-10  # Newton decrement of the inner searches: twice the error of a profile
CLOSE = 1e-5  # of the end points, in standard errors (or distances, where those are less)
STEPS = 60
DISTANT = 50.0  # log-likelihood below the maximum: no start for other values
ITERATIONS = 60  # of an inner search; 5-15 are usual
REACH = 3.0  # of the automatic grid, in zeta
LIFT = 0.3  # of the start's SD: where inner searches start from a Cholesky entry of zero
FLAT = 20.0  # standard errors from the estimate: where the grid of a flat profile ends
INFINITE = 1e4  # standard errors from the estimate: a limit farther away does not exist


def likelihood_of(fit: Fit, restricted: bool = False) -> tuple[Likelihood, np.ndarray, np.ndarray]:
    """Rebuild the likelihood that a fit maximised, its parameters and their covariance.

    Parameters
    ----------
    fit
        By ML or GLM.
    restricted
        Whether the full likelihood serves for a fit by REML: it has nearly the same shape.

    Raises
    ------
    NotServedError
        If the method has no likelihood, or another one.
    """
    if by_equations(fit) and not restricted:
        raise NotServedError(
            f"{fit.label} of this model has a likelihood that only the mixed model equations have: "
            "profile it, or use a fit by ML() of a model without residual= and covariance=."
        )
    if fit.method.name == "glm":
        d = fit.model.design
        rows = Rows(d.y, d.trials, d.offset, d.X)
        likelihood = Likelihood(fit.model.family, fit.model.link, rows, [])
        tail = [] if fit.dispersion is None else [np.log(fit.dispersion)]
        return likelihood, np.concatenate([fit.beta, tail]), fit.details["covariance"]
    if "theta" not in fit.details:
        raise NotServedError(
            f"{fit.label} has no likelihood that could be profiled or tested here: use a fit "
            "by ML() instead."
        )
    likelihood = Likelihood.of(fit.model, fit.details["nodes"])
    x = np.concatenate([fit.beta, fit.details["theta"]])
    return likelihood, x, np.asarray(fit.details["covariance"])


def profiled(fit: Fit, parameter: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """Give the likelihood in which a parameter is profiled, its parameters, their covariance.

    Raises
    ------
    ValueError
        If there is no such parameter.
    NotServedError
        If the method has no likelihood, or a restricted one for a coefficient.
    """
    names = fit.parameter_names
    if parameter not in names:
        raise ValueError(f"{parameter!r} is not a parameter: use one of {', '.join(names)}.")
    if not by_equations(fit):
        return likelihood_of(fit)
    k = names.index(parameter)
    reml, column = fit.method.name == "reml", k if k < len(fit.beta) else None
    if reml and column is not None:
        raise NotServedError(
            f"{fit.label} integrates the coefficients out, so that {parameter!r} has no profile: "
            "use a fit by ML(), or confint(method='wald') with Satterthwaite's t."
        )
    likelihood = LinearLikelihood(fit.model, reml, column=column)
    x = parameters_of(fit)
    x = x if column is None else np.append(fit.beta[column], x)
    return likelihood, x, likelihood.covariance(x)


def parameters_of(fit: Fit) -> np.ndarray:
    """Variance parameters of a linear mixed model as ``LinearLikelihood`` has them."""
    variance = cast("Variance", fit.variance)
    parts = []
    for g in fit.model.design.groups:
        sd, corr = variance.of(g.group)
        R = np.eye(g.q)
        for (i, j), r in zip(g.pairs, corr, strict=True):
            R[i, j] = R[j, i] = np.nan_to_num(r)
        values, vectors = np.linalg.eigh(R)  # a correlation may be one
        root = sd[:, None] * vectors * np.sqrt(np.maximum(values, 0.0))
        parts.append(Covariance(g.blocks).theta_of(root))
    residual = [c for c in variance.components if c.is_residual]
    working = [c.scale.working(v) for c, v in zip(residual, variance.residual, strict=True)]
    return np.concatenate([*parts, np.array(working, float), [np.log(variance.estimate[-1])]])


def same(value):
    """Return the value itself."""
    return value


@dataclass(frozen=True)
class Coordinate:
    """A kind of parameter: the coordinate that is held, its inverse, and the coordinate's range."""

    inside: Callable = same
    outside: Callable = same
    low: float = -np.inf
    high: float = np.inf


COORDINATES = {
    "coefficient": Coordinate(),
    "sd": Coordinate(low=0.0),
    "corr": Coordinate(np.arccos, np.cos, 0.0, np.pi),
    "dispersion": Coordinate(np.log, np.exp),
    "rate": Coordinate(np.log, np.exp),
    "share": Coordinate(WORKING_SCALES["logit"].working, WORKING_SCALES["logit"].natural),
    "serial": Coordinate(np.arctanh, np.tanh),
}
ENDS = {"rate": (0.0, np.inf), "share": (0.0, 1.0)}  # what their limits stand for


class Profile:
    """The profile log-likelihood of one parameter of a fit.

    Parameters
    ----------
    fit
        By ML, GLM, or by REML, whose restricted likelihood has the variance parameters alone.
    parameter
        One of ``fit.parameter_names``.

    Raises
    ------
    ValueError
        If there is no such parameter.
    NotServedError
        If the fit has no likelihood, or the likelihood not the parameter.

    Notes
    -----
    A Cholesky entry that is zero (a variance of zero, a correlation of one) is a stationary
    point of the likelihood whatever the other parameters are, since its sign does not matter.
    Every inner search therefore starts with those entries lifted off zero.

    With one of its SDs at zero a correlation may have any value, so its profile nowhere falls
    below the likelihood there (``floor``). A search that passes through zero, where the
    correlation changes its sign, ends at the floor.
    """

    def __init__(self, fit: Fit, parameter: str):
        self.likelihood, self.x, covariance = profiled(fit, parameter)
        k, p = fit.parameter_names.index(parameter), len(fit.beta)
        components = fit.variance.components if fit.variance else ()
        self.kind = "coefficient" if k < p else components[k - p].kind
        self.coordinate = COORDINATES[self.kind]
        self.loglik = cast("float", fit.loglik)
        self.has_limit = fit.model.family.limit is not None
        self.position, self.partner, self.first, self.below = k, -1, -1, []
        if self.kind == "dispersion":
            self.position = len(self.x) - 1
        elif self.kind == "coefficient":
            self.position = 0 if by_equations(fit) else k
        elif components[k - p].is_residual:
            self._put_residual(sum(c.is_residual for c in components[: k - p]))
        else:
            covariance = self._put_first(fit.model.design.groups, components[k - p], covariance)
        self.information = self._information(covariance)
        value = fit.beta[k] if k < p else cast("Variance", fit.variance).estimate[k - p]
        self.at = self.coordinate.inside(np.clip(value, -1, 1) if self.partner >= 0 else value)
        self.at = np.clip(self.at, self.coordinate.low, self.coordinate.high)
        self.scale = self._scale(covariance)
        self.lifted = self._near_zero()
        self.start = self.x
        self.floor = -np.inf
        if self.partner >= 0:
            c = components[k - p]
            ends = [datatree_name(Component("sd", c.group, term)) for term in (c.term, c.term2)]
            self.floor = max(Profile(fit, end)(0.0)[0] for end in ends)

    def _put_residual(self, which: int) -> None:
        """Hold a parameter of the residual correlation, between the limits of the search."""
        low, high = self.likelihood.search.limits
        inside = self.likelihood.search.problem.n_theta + which
        self.position = self.likelihood.residual_position(which)
        self.coordinate = replace(self.coordinate, low=low[inside], high=high[inside])

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
        self.position = self.first = entry[wanted[0], wanted[0]]
        self.below = [i for (r, s), i in entry.items() if s == wanted[0] != r]
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

    def _scale(self, covariance: np.ndarray) -> float:
        """Give the standard error of the coordinate; a rough one where there is none."""
        direction = np.eye(len(self.x))[self.position]
        if self.partner >= 0:
            sd = np.hypot(self.x[self.position], self.x[self.partner])
            direction *= -np.sin(self.at) / sd if sd > 0 else 0.0
            direction[self.partner] = np.cos(self.at) / sd if sd > 0 else 0.0
        used = np.flatnonzero(direction)
        variance = direction[used] @ covariance[np.ix_(used, used)] @ direction[used]
        if self.partner >= 0:
            return float(np.sqrt(variance)) if 0.0 < variance < 1.0 else 1.0
        return float(np.sqrt(variance) if variance > 0 else self.information[used, used][0] ** -0.5)

    def _near_zero(self) -> dict[int, float]:
        """Diagonal Cholesky entries that are zero at the estimate, and where to lift them."""
        found = {}
        inside = self.likelihood.start[0]
        for k, factor in enumerate(self.likelihood.factors):
            part = self.likelihood.layout.theta_slice(k)
            for i in part.start + np.flatnonzero(factor.covariance.diagonal):
                held = i in (self.position, self.partner)
                if not held and abs(self.x[i]) < LIFT * abs(inside[i]):
                    found[int(i)] = LIFT * abs(inside[i])
        return found

    def _restrict(self, at: float) -> tuple[np.ndarray, np.ndarray]:
        """``origin`` and ``basis`` of ``x = origin + basis @ free`` with the coordinate held."""
        size = len(self.x)
        basis = np.eye(size)
        if self.partner >= 0:
            basis[self.position, self.partner] = np.cos(at)
            basis[self.partner, self.partner] = np.sin(at)
            return np.zeros(size), np.delete(basis, self.position, axis=1)
        held = [self.position]
        if self.kind == "sd" and at == 0.0:  # the column stands for nothing: no rotation of u
            held += self.below
        return at * basis[self.position], np.delete(basis, held, axis=1)

    def _slope(self, at: float, x: np.ndarray, gradient: np.ndarray) -> float:
        """``dx/dcoordinate`` times the gradient: the profile's slope (the rest is maximised)."""
        if self.partner < 0:
            return float(gradient[self.position])
        sd = np.cos(at) * x[self.position] + np.sin(at) * x[self.partner]  # signed, as searched
        return float(
            sd * (np.cos(at) * gradient[self.partner] - np.sin(at) * gradient[self.position])
        )

    def _starts(self, origin: np.ndarray, basis: np.ndarray, information: np.ndarray):
        """Yield where to start: from the last search along the quadratic, and as it stands."""
        start = self.start.copy()
        for i, size in self.lifted.items():
            start[i] = max(abs(start[i]), size)
        free = np.linalg.lstsq(basis, start - origin, rcond=None)[0]
        if self.partner < 0:
            shift = origin[self.position] - start[self.position]
            coupling = basis.T @ self.information[:, self.position]
            yield free - np.linalg.solve(information, coupling * shift)
        yield free

    def __call__(self, at: float) -> tuple[float, float]:
        """Profile log-likelihood at a coordinate and its slope; the search starts at the last."""
        origin, basis = self._restrict(at)
        information = basis.T @ self.information @ basis
        inverse = np.linalg.inv(information)

        def objective(part):
            likelihood, gradient = self.likelihood(origin + basis @ part)
            return likelihood, basis.T @ gradient

        with self.likelihood.blas_threads():
            trials = []
            for free in self._starts(origin, basis, information):
                trials.append(bfgs(objective, free, inverse, tolerance=PRECISION, limit=ITERATIONS))
                if trials[-1].converged:
                    break
            found = max(trials, key=lambda trial: trial.value)
            x = origin + basis @ found.x
            value, gradient = self.likelihood(x)
        if self.partner >= 0:
            sd = np.cos(at) * x[self.position] + np.sin(at) * x[self.partner]
            if sd * x[self.first] <= 0 or value < self.floor:
                return self.floor, 0.0
        if found.converged and value > self.loglik - DISTANT:
            self.start = x
        return value, self._slope(at, x, gradient)

    def _zeta(self, at: float) -> tuple[float, float]:
        """``|zeta|`` and its derivative by the coordinate."""
        profile, slope = self(at)
        zeta = np.sqrt(max(2.0 * (self.loglik - profile), 0.0))
        return zeta, -slope / max(zeta, 1e-12)

    def along(self, grid: np.ndarray) -> np.ndarray:
        """Profile log-likelihood at each value of ``grid``, outwards from the estimate."""
        grid = np.asarray(grid, float)
        out = np.full(grid.shape, np.nan)
        where = np.array([self.coordinate.inside(value) for value in grid])
        order = np.argsort(np.abs(where - self.at), kind="stable")
        for side in (where[order] >= self.at, where[order] < self.at):
            self.start = self.x
            for i in order[side]:
                out[i] = self(float(where[i]))[0]
        return out

    def grid(self, points: int) -> pd.DataFrame:
        r"""Profile on values about equally spaced in ``zeta`` over ``|zeta| <= 3``.

        Returns
        -------
        DataFrame
            ``value, loglik, zeta`` by increasing value; ``zeta = sign(value - estimate)
            sqrt(2 (loglik - profile))``. A side ends where the parameter's range does; where
            the profile is flat, it ends 20 standard errors from the estimate.
        """
        if np.isnan(self.at):  # a correlation with an SD of zero: every value serves
            rows = [(self.coordinate.low, 0.0), (self.coordinate.high, 0.0)]
        else:
            step = 2.0 * REACH / (points - 1)
            rows = [(self.at, 0.0), *self._outwards(-1, step), *self._outwards(1, step)]
        at, zeta = np.array(rows).T
        sign = -1.0 if self.kind == "corr" else 1.0
        table = {"value": self.coordinate.outside(at), "loglik": self.loglik - 0.5 * zeta**2}
        return pd.DataFrame(table | {"zeta": sign * zeta}).sort_values("value", ignore_index=True)

    def _outwards(self, side: int, step: float) -> list[tuple[float, float]]:
        """Walk to one side until ``zeta`` is reached or the range ends: coordinates and zeta."""
        edge = self._edge(side)
        self.start = self.x
        at, zeta, slope, rows = self.at, 0.0, side / self.scale, []
        while zeta < REACH - 1e-3 and abs(at - self.at) < FLAT * self.scale:
            if side * (edge - at) < 1e-3 * self.scale:
                break
            longest = 2.0 * step * self.scale + abs(at - self.at)
            wanted = min(step, REACH - zeta) / (slope * side) if slope * side > 0 else np.inf
            at += side * min(wanted, longest)
            at = edge if side * (at - edge) > 0 else at
            zeta, slope = self._zeta(at)
            if not np.isfinite(zeta):
                break
            rows.append((at, side * zeta))
        return rows

    def _edge(self, side: int) -> float:
        return self.coordinate.high if side > 0 else self.coordinate.low

    def limit(self, side: int, level: float) -> float:
        r"""End point of the interval: where :math:`\zeta = \pm z`.

        ``zeta`` is nearly linear, so that Newton steps on it, kept inside a bracket, need few
        evaluations. Where the profile stays within reach down to an SD of zero, or up to a
        correlation of one, that end of the range is the limit; a limit that does not exist is
        infinite.
        """
        if self.kind == "corr":
            return float(np.cos(self._limit(-side, level)))
        at = self._limit(side, level)
        if self.kind == "dispersion" and self.has_limit and abs(at) >= AT_LIMIT:
            return np.inf if at > 0 else 0.0  # the simpler family is within reach
        if self.kind in ENDS and at in (self.coordinate.low, self.coordinate.high):
            return ENDS[self.kind][int(at == self.coordinate.high)]
        return float(self.coordinate.outside(at))

    def _limit(self, side: int, level: float) -> float:
        """Give the end point in the coordinate; see ``limit``."""
        z = float(ndtri(0.5 + level / 2))
        edge = self._edge(side)
        if np.isnan(self.at) or side * (self.at - edge) >= 0:
            return edge  # a correlation with an SD of zero is free; or nothing lies beyond
        if 2.0 * (self.loglik - self.floor) < z * z:
            return edge
        if np.isfinite(edge):
            self.start = self.x
            if self._zeta(edge)[0] < z:
                return edge
        self.start = self.x
        inside, outside = self.at, edge
        at = self._first_step(side, z, edge)
        for _ in range(STEPS):
            zeta, slope = self._zeta(at)
            if zeta < z:
                inside = at
            else:
                outside = at
            step = (z - zeta) / slope if slope * side > 0 and np.isfinite(zeta) else side * np.inf
            close = CLOSE * min(self.scale, abs(at - self.at))
            if abs(step) < close:
                return at + step
            at = self._within(at, at + step, inside, outside, side)
            if abs(outside - inside) < close:
                return at
            if abs(at - self.at) > INFINITE * self.scale:
                return side * np.inf
        return edge

    def _first_step(self, side: int, z: float, edge: float) -> float:
        """Wald's limit, for an SD on the log scale, or half-way to the end of the range."""
        at = self.at + side * z * self.scale
        if self.kind == "sd" and self.at > 0:
            at = self.at * np.exp(side * min(z * self.scale / self.at, 3.0))
        return 0.5 * (self.at + edge) if side * (at - edge) >= 0 else at

    def _within(self, old, new, inside, outside, side) -> float:
        """Keep a step inside the bracket, and at most doubling the distance where it is open."""
        if np.isfinite(outside):
            good = min(inside, outside) < new < max(inside, outside)
            return new if good else 0.5 * (inside + outside)
        farthest = self.at + 2.0 * (old - self.at) + side * 1e-12
        return min(new, farthest) if side > 0 else max(new, farthest)
