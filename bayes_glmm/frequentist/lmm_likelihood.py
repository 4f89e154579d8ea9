r"""The (restricted) likelihood of a linear mixed model by its variance parameters, for profiles.

Profiles hold one parameter of ``x``: the entries of the Lambdas (absolute, not relative to
sigma), the parameters of the residual correlation on their working scales, and the log of
sigma. The coefficients are maximised out, or integrated out by REML, in closed form; of a full
likelihood one of them may be held, which then comes first in ``x``.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..fit import Fit
from ..numerics.covariance import Covariance
from ..numerics.linear_mixed import LinearMixed
from ..numerics.newton import difference_hessian, inverse_information
from ..numerics.threads import one_blas_thread
from .lmm_search import LinearSearch, structure_of

USUAL = 0.5  # of its usual size: error of a variance parameter where nothing is known


def by_equations(fit: Fit) -> bool:
    """Whether only the mixed model equations have the fit's likelihood: no quadrature does."""
    special = fit.model.residual is not None or bool(fit.model.related)
    return fit.method.name == "reml" or (special and fit.method.name == "ml")


@dataclass(frozen=True)
class Structure:
    """Covariance structure of one factor's effects."""

    covariance: Covariance


@dataclass(frozen=True, eq=False)
class Point:
    """Parameters and their covariance, NaN on the boundary."""

    x: np.ndarray
    covariance: np.ndarray


class LinearLikelihood:
    """Log-likelihood of a linear mixed model.

    Parameters
    ----------
    model
        A gaussian GLMM with identity link.
    reml
        Whether it is the restricted likelihood.
    groups
        Random effects, in place of the model's.
    column
        Coefficient that is a parameter, held or moved; None where all are maximised out.

    Attributes
    ----------
    search
        The problem with all coefficients in closed form.
    factors
        Structure of each factor's effects.
    """

    def __init__(self, model, reml: bool, groups=None, column: int | None = None) -> None:
        self.model, self.reml, self.column = model, reml, column
        self.groups = model.design.groups if groups is None else groups
        d, structure = model.design, structure_of(model.repeated)
        whole = LinearMixed(d.y - d.offset, d.X, self.groups, structure)
        self.search = LinearSearch(whole, reml, model.repeated)
        self.factors = [Structure(c) for c in whole.factors]
        self._others = None
        if column is not None:
            rest = np.delete(d.X, column, axis=1)
            self._others = LinearMixed(whole.y, rest, self.groups, structure)

    @property
    def layout(self) -> "LinearLikelihood":
        """Where the parameters stand: it knows itself."""
        return self

    @property
    def size(self) -> int:
        """Number of parameters in ``x``."""
        return self.first + self.search.problem.size + 1

    @property
    def first(self) -> int:
        """Entries of ``x`` before the variance parameters."""
        return int(self.column is not None)

    def theta_slice(self, k: int) -> slice:
        """Entries of factor ``k``."""
        part = self.search.problem.slices[k]
        return slice(part.start + self.first, part.stop + self.first)

    def residual_position(self, k: int) -> int:
        """Entry of the ``k``-th parameter of the residual correlation."""
        return self.first + self.search.problem.n_theta + k

    def inside(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """Coordinates of the search, effects relative to sigma, and sigma."""
        sigma = float(np.exp(x[-1]))
        found = x[self.first : -1].copy()
        found[: self.search.problem.n_theta] /= sigma
        return np.clip(found, *self.search.limits), sigma

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log-likelihood and gradient; minus infinity where the covariance is not one."""
        try:
            with np.errstate(all="ignore"):
                return self._evaluate(x)
        except (np.linalg.LinAlgError, ArithmeticError):
            return -np.inf, np.full_like(x, np.nan)

    def _evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        at, sigma = self.inside(x)
        n_theta, variance = self.search.problem.n_theta, sigma**2
        search = self.search if self._others is None else self._moved(x[0])
        state = search.state(at)
        value = state.criterion(self.reml, variance)
        inner = state.gradient(self.reml, variance) * search.slope(at)
        inner[n_theta:][at[n_theta:] != x[self.first + n_theta : -1]] = 0.0  # beyond a limit
        nu = search.problem.degrees_of_freedom(self.reml)
        by_log = 2 * (nu - state.solution.rss / variance) - inner[:n_theta] @ at[:n_theta]
        gradient = np.concatenate([inner[:n_theta] / sigma, inner[n_theta:], [by_log]])
        if self._others is not None:
            whole = self.search.state(at)
            k = self.column
            error = variance * whole.beta_covariance[k, k]
            gradient = np.concatenate([[2 * (x[0] - whole.beta[k]) / error], gradient])
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return -np.inf, np.full_like(x, np.nan)
        return -0.5 * value, -0.5 * gradient

    def _moved(self, coefficient: float) -> LinearSearch:
        """Pose the problem with the coefficient held: its column is an offset."""
        assert self._others is not None
        design = self.model.design
        y = self.search.problem.y - coefficient * design.X[:, self.column]
        return LinearSearch(self._others.with_response(y), self.reml, self.model.repeated)

    def reordered(self, k: int, blocks, x: np.ndarray) -> tuple["LinearLikelihood", np.ndarray]:
        """Put the columns of factor ``k`` in another order within their correlated sets."""
        groups = list(self.groups)
        groups[k] = replace(groups[k], blocks=blocks)
        twin = LinearLikelihood(self.model, self.reml, tuple(groups), self.column)
        part, x = self.theta_slice(k), x.copy()
        x[part] = twin.factors[k].covariance.theta_of(self.factors[k].covariance.factor(x[part]))
        return twin, x

    def maximise(self, start: np.ndarray) -> Point:
        """Give the curvature at the maximum, where the start already is."""
        return Point(start, self.covariance(start))

    def covariance(self, x: np.ndarray) -> np.ndarray:
        """Inverse of the observed information, NaN for what is on the boundary or unknown."""
        low, high = self.search.limits
        at, _ = self.inside(x)
        inner = (at > low) & (at < high)
        inner[: self.search.problem.n_theta] &= at[: self.search.problem.n_theta] != 0.0
        free = np.concatenate([np.ones(self.first, bool), inner, [True]])

        def objective(part: np.ndarray) -> tuple[float, np.ndarray]:
            whole = x.copy()
            whole[free] = part
            value, gradient = self(whole)
            return -value, -gradient[free]

        found = np.full((len(x), len(x)), np.nan)
        with self.blas_threads():
            hessian = difference_hessian(objective, x[free], self.sizes(x)[free])
        found[np.ix_(free, free)] = inverse_information(hessian)[0]
        return found

    def sizes(self, x: np.ndarray) -> np.ndarray:
        """Give usual sizes of the parameters' errors."""
        sigma = float(np.exp(x[-1]))
        found = USUAL * self.search.scale
        found[: self.search.problem.n_theta] *= sigma
        nu = self.search.problem.degrees_of_freedom(self.reml)
        parts = [found, [np.sqrt(0.5 / nu)]]
        if self.column is not None:
            parts.insert(0, [sigma / np.linalg.norm(self.model.design.X[:, self.column])])
        return np.concatenate(parts)

    @cached_property
    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """Effects as large as the residuals, and rough variances there."""
        search = self.search
        usual = np.concatenate([search.unit, np.zeros(len(search.scales))])
        sigma = np.sqrt(search.state(np.clip(usual, *search.limits)).variance(self.reml))
        usual[: search.problem.n_theta] *= sigma
        x = np.concatenate([np.zeros(self.first), usual, [np.log(sigma)]])
        return x, np.diag(self.sizes(x) ** 2)

    @property
    def outer_jacobian(self) -> np.ndarray:
        """The parameters are the user's."""
        return np.eye(self.size)

    def blas_threads(self):
        """One BLAS thread: the matrices are small."""
        return one_blas_thread()
