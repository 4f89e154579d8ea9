r"""The search for the maximum of a linear mixed model's profiled (restricted) likelihood.

The coordinates are ``theta``, entries of the Lambdas relative to the residual SD, of either sign
so that a variance of zero is an ordinary point, and the parameters of the residual correlation on
scales without bounds. With residual correlation there are local maxima (a slow decay, a random
effect and a nugget can stand for each other), so that several starts are taken.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from ..design import RepeatedRows
from ..fit import SCALE_OF, WORKING_SCALES
from ..numerics.correlated_rows import CorrelatedRows
from ..numerics.linear_mixed import LinearMixed, LinearState, ResidualStructure
from ..numerics.newton import Minimum, descent, minimise

# SDs of effects on the linear predictor over the residual's: where to start with correlation
RATIOS = (0.2, 1.0)
STARTS = 3  # searches with residual correlation: from the best of the starts
ZERO_GAIN = 2e-7  # of twice the log-likelihood, given up by setting a variance to zero
SMALL = 0.05  # an SD is tried at zero where it is smaller, relative to the residual's
TOLERANCE = 1e-8  # decrement of the search: of the step, in standard errors
ROUGH = 0.03  # of searches from several starts, of which the best goes on
# rates times the median gap between rows: adjacent rows are independent, or perfectly correlated
RATES = (1e-6, 20.0)
SHARES = (1e-6, 1 - 1e-6)
NEAR_LIMIT = 8.0  # working distance within which a limit is tried
SETTLED = 1e-6  # squared decrement of a search that counts as converged
ANOTHER = 0.02  # of twice the log-likelihood: farther apart two ends are two maxima


@dataclass(frozen=True, eq=False)
class LinearMaximum:
    """The maximum of a (restricted) likelihood.

    Attributes
    ----------
    x
        ``(theta, working alpha)``.
    state
        The model there.
    free
        Which entries are not on a boundary.
    criterion
        Minus twice the log-likelihood.
    converged, evaluations, hessian
        How the search went, and the curvature as far as it was followed.
    others
        Criteria and parameters ``alpha`` of lower maxima.
    """

    x: np.ndarray
    state: LinearState
    free: np.ndarray
    criterion: float
    converged: bool
    evaluations: int = 0
    hessian: np.ndarray | None = None
    others: tuple[tuple[float, np.ndarray], ...] = ()


class LinearSearch:
    """A linear mixed model's criterion as a function of free coordinates.

    Parameters
    ----------
    problem
        The model.
    reml
        Which likelihood.
    repeated
        Rows and parameters of the residual correlation, or None.
    """

    def __init__(self, problem: LinearMixed, reml: bool, repeated: RepeatedRows | None) -> None:
        self.problem, self.reml, self.repeated = problem, reml, repeated
        parameters = repeated.parameters if repeated else ()
        self.scales = [WORKING_SCALES[SCALE_OF[p.kind]] for p in parameters]
        self.evaluations = 0
        self._last: tuple[np.ndarray, Any] = (np.array([np.nan]), None)

    @classmethod
    def of(cls, model, reml: bool, groups=None, repeated=None) -> "LinearSearch":
        """Pose the search of a GLMM, perhaps with other effects or another residual correlation."""
        d, repeated = model.design, repeated or model.repeated
        groups = d.groups if groups is None else groups
        problem = LinearMixed(d.y - d.offset, d.X, groups, structure_of(repeated))
        return cls(problem, reml, repeated)

    def alpha(self, x: np.ndarray) -> np.ndarray:
        """Parameters of the residual correlation."""
        working = x[self.problem.n_theta :]
        return np.array([float(s.natural(w)) for s, w in zip(self.scales, working, strict=True)])

    def slope(self, x: np.ndarray) -> np.ndarray:
        """Differentiate the natural parameters by the working ones: 1 for ``theta``."""
        found = [float(s.slope(a)) for s, a in zip(self.scales, self.alpha(x), strict=True)]
        return np.concatenate([np.ones(self.problem.n_theta), found])

    def state(self, x: np.ndarray) -> LinearState:
        """Solve the model at ``x``; LinAlgError where ``R`` is not positive definite."""
        if not np.array_equal(x, self._last[0]):  # a search ends where it looked last
            self.evaluations += 1
            found = self.problem.at(x[: self.problem.n_theta], self.alpha(x))
            self._last = (x.copy(), found)
        return self._last[1]

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Profiled criterion and gradient; infinite where ``R`` is not positive definite.

        Beyond a limit of a residual parameter it goes on as it is there.
        """
        low, high = self.limits
        inside = np.clip(x, low, high)
        try:
            with np.errstate(all="ignore"):
                state = self.state(inside)
                value = state.criterion(self.reml)
                gradient = state.gradient(self.reml) * self.slope(inside)
        except np.linalg.LinAlgError:
            return np.inf, np.full_like(x, np.nan)
        outwards = ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))
        gradient[outwards | (x != inside)] = 0.0
        good = np.isfinite(value) and np.isfinite(gradient).all()
        return (value, gradient) if good else (np.inf, np.full_like(x, np.nan))

    @cached_property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the working values where rates and shares are as good as at their limits."""
        low, high = np.full((2, self.problem.size), np.inf)
        low = -low
        if self.repeated is not None:
            of_kind = {"rate": np.array(RATES) / self.repeated.gap, "share": np.array(SHARES)}
            for k, p in enumerate(self.repeated.parameters, start=self.problem.n_theta):
                if p.kind in of_kind:
                    low[k], high[k] = self.scales[k - self.problem.n_theta].working(of_kind[p.kind])
        return low, high

    def value(self, x: np.ndarray) -> float:
        """Profiled criterion alone."""
        try:
            with np.errstate(all="ignore"):
                value = self.state(x).criterion(self.reml)
        except np.linalg.LinAlgError:
            return np.inf
        return value if np.isfinite(value) else np.inf

    @cached_property
    def unit(self) -> np.ndarray:
        """``theta`` of uncorrelated effects as large as the residuals."""
        factors = self.problem.factors
        diagonal = np.concatenate([np.zeros(0, bool), *(f.diagonal for f in factors)])
        return np.where(diagonal, self.scale[: self.problem.n_theta], 0.0)

    @cached_property
    def scale(self) -> np.ndarray:
        """Usual size of each coordinate."""
        e = self.problem.equations
        theta = e.theta_scale if e else np.zeros(0)
        return np.concatenate([theta, np.ones(len(self.scales))])

    def directions(self, free: np.ndarray) -> np.ndarray:
        """Give steps of the free entries as columns, ones of the theta of standardised effects."""
        n_theta, turn = self.problem.n_theta, np.eye(int(free.sum()))
        if self.problem.equations:
            inside = np.flatnonzero(free[:n_theta])
            turn[: len(inside), : len(inside)] = self.problem.equations.directions(inside)
        return turn

    def starts(self) -> list[np.ndarray]:
        """Points to search from, the best first."""
        if self.repeated is None:
            return [self.problem.likely_theta()]
        ratios = RATIOS if self.problem.n_theta else (1.0,)
        e, points = self.problem.equations, []
        unit = e.unit_theta if e else np.zeros(0)
        for ratio, alpha in product(ratios, self.repeated.starts):
            working = [float(s.working(a)) for s, a in zip(self.scales, alpha, strict=True)]
            points.append(np.concatenate([ratio * unit, working]))
        values = [self.value(x) for x in points]
        order = np.argsort(values)
        good = [points[i] for i in order if np.isfinite(values[i])]
        return good[:STARTS]

    def maximise(self, starts: list[np.ndarray] | None = None) -> LinearMaximum:
        """Search from every start, then settle what lies on a boundary."""
        if not self.problem.size:
            state = self.state(np.zeros(0))
            value = state.criterion(self.reml)
            return LinearMaximum(np.zeros(0), state, np.zeros(0, bool), value, True, 1)
        starts = self.starts() if starts is None else starts
        free = np.ones(self.problem.size, bool)
        rough = ROUGH if len(starts) > 1 else TOLERANCE
        first, *rest = sorted((self._descend(x, free, rough) for x in starts), key=by_criterion)
        if rest:
            first = self._descend(first.x, free, hessian=first.hessian)
        apart = [
            self._descend(end.x, free, hessian=end.hessian)
            for end in rest
            if end.criterion > first.criterion + ANOTHER
        ]
        first, *rest = sorted([first, *apart], key=by_criterion)
        best = self._settled(first)
        others = [
            (end.criterion, self.alpha(end.x))
            for end in rest
            if end.converged and end.criterion > best.criterion + ANOTHER
        ]
        return replace(best, evaluations=self.evaluations, others=tuple(others))

    def _descend(
        self, x: np.ndarray, free: np.ndarray, tolerance: float = TOLERANCE, hessian=None
    ) -> LinearMaximum:
        """Minimise over the free coordinates."""
        turn = self.directions(free)

        def objective(moved: np.ndarray) -> tuple[float, np.ndarray]:
            at = x.copy()
            at[free] += turn @ moved
            value, gradient = self(at)
            return value, turn.T @ gradient[free]

        start = np.zeros(int(free.sum()))
        if free.any():
            unit = np.ones_like(start)
            found = minimise(objective, start, unit, hessian, tolerance, one_sided=True)
        else:
            found = Minimum(start, np.zeros((0, 0)), True)
        end = x.copy()
        end[free] += turn @ found.x
        end = np.clip(end, *self.limits)
        state = self.state(end)
        value = state.criterion(self.reml)
        converged = found.converged
        if not converged:  # on a ridge the last digits of the gradient are noise
            gradient = turn.T @ self(end)[1][free]
            converged = bool(-gradient @ descent(found.hessian, gradient) < SETTLED)
        return LinearMaximum(end, state, free, value, converged, hessian=found.hessian)

    def _settled(self, end: LinearMaximum) -> LinearMaximum:
        """Set SDs to zero, and correlations to one, where that costs nothing; then the rest.

        Residual parameters at their limits are held there.
        """
        x, free = end.x.copy(), end.free.copy()
        for held, end_point in self._candidates(x):
            trial = np.where(held, end_point, x)
            if self.value(trial) <= self.value(x) + ZERO_GAIN:
                x, free = trial, free & ~held
        free &= ~self._at_limits(x)
        if np.array_equal(free, end.free):
            return end
        again = self._descend(x, free)
        return replace(again, converged=again.converged or end.converged)

    def _at_limits(self, x: np.ndarray) -> np.ndarray:
        """Tell which residual parameters are at a limit, and which have no meaning there.

        Without correlation (a high rate) the nugget has none, and a nugget that is all leaves
        none to the rate.
        """
        low, high = self.limits
        at = (x <= low) | (x >= high)
        kinds = [p.kind for p in self.repeated.parameters] if self.repeated else []
        kind = np.array([""] * self.problem.n_theta + kinds)
        high_rate, all_nugget = (np.any((kind == k) & (x >= high)) for k in ("rate", "share"))
        return at | ((kind == "share") & high_rate) | ((kind == "rate") & all_nugget)

    def _candidates(self, x: np.ndarray):
        """Yield masks of entries that may be on a boundary, and their value there.

        A row of a Lambda or its diagonal entry is zero; a residual parameter is at a limit.
        """
        for factor, part in zip(self.problem.factors, self.problem.slices, strict=True):
            rows, columns = factor.entries
            L = factor.factor(x[part])
            scale = self.scale[part][rows == columns]
            for j, size in enumerate(np.linalg.norm(L, axis=1)):
                for entries, small in (
                    (rows == j, size < SMALL * scale[j]),
                    ((rows == j) & (columns == j), abs(L[j, j]) < SMALL * scale[j]),
                ):
                    if small:
                        mask = np.zeros(len(x), bool)
                        mask[part] = entries
                        yield mask, 0.0
        for limit in self.limits:
            for k in np.flatnonzero(np.isfinite(limit) & (np.abs(x - limit) < NEAR_LIMIT)):
                yield np.arange(len(x)) == k, limit[k]


def by_criterion(maximum: LinearMaximum) -> float:
    """Order maxima, the highest first."""
    return maximum.criterion


def structure_of(repeated: RepeatedRows | None) -> ResidualStructure | None:
    """Put a residual correlation into the terms of the algebra."""
    if repeated is None:
        return None
    correlation = repeated.correlation
    rows = rows_of(repeated)
    return ResidualStructure(
        rows, correlation.correlation, correlation.derivatives, len(repeated.parameters)
    )


def rows_of(repeated: RepeatedRows) -> CorrelatedRows:
    """Find the clusters that share a correlation matrix."""
    kind = repeated.correlation
    return CorrelatedRows(repeated.cluster, repeated.time, kind.alike, kind.geometry)
