r"""Simulated responses of a linear mixed model, refits, and nested pairs of such models.

.. math:: b^* \sim N(0, A \otimes \hat D), \quad e^* \sim N(0, \hat\sigma^2 R(\hat\alpha)), \quad
   y^* = X\hat\beta + Zb^* + e^*

Refits are by the same (restricted) likelihood as the fit, from its estimates.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from ..design import put_rows
from ..fit import Fit
from ..methods import NotServedError
from ..numerics.correlated_rows import simulate_rows
from ..numerics.level_blocks import indicator
from ..numerics.relationship import Relationship
from ..numerics.threads import one_blas_thread
from ..progress import Progress
from .chi_bar import Reference, reference
from .lmm import natural
from .lmm_search import LinearMaximum, LinearSearch, rows_of
from .replicates import LIFT, Failed, likelihood_ratios

SINGULAR = 1e6  # condition number of the new variances' information
MOST_ROWS = 4000  # of a dense information


@dataclass(frozen=True, eq=False)
class Fitted:
    """A linear mixed model at its estimates.

    Attributes
    ----------
    model
        The GLMM that has the data.
    search
        Its likelihood, perhaps without some effects.
    maximum
        The estimates.
    """

    model: Any
    search: LinearSearch
    maximum: LinearMaximum

    @property
    def loglik(self) -> float:
        """Maximised (restricted) log-likelihood."""
        return -0.5 * self.maximum.criterion

    @cached_property
    def sigma2(self) -> float:
        """Residual variance."""
        return self.maximum.state.variance(self.search.reml)

    @cached_property
    def estimates(self) -> np.ndarray:
        """Coefficients and variance parameters, in the order of a fit's ``parameter_names``."""
        variance = natural(self.search, self.maximum.x, self.sigma2)[0]
        return np.concatenate([self.maximum.state.beta, variance])

    @cached_property
    def _roots(self) -> list[np.ndarray] | None:
        """Cholesky factors of the residual correlation, by pattern of the clusters."""
        repeated = self.search.repeated
        if repeated is None:
            return None
        alpha = self.search.alpha(self.maximum.x)
        correlation = repeated.correlation
        return list(rows_of(repeated).whiten(lambda g: correlation.correlation(alpha, g)).roots)

    def simulate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw responses less the offset, with new random effects."""
        problem = self.search.problem
        sigma = np.sqrt(self.sigma2)
        y = self.model.design.X @ self.maximum.state.beta
        for g, factor, part in zip(problem.effects, problem.factors, problem.slices, strict=True):
            u = rng.standard_normal((g.n_levels, g.q))
            if g.root is not None:
                u = g.root @ u
            b = sigma * u @ factor.factor(self.maximum.x[part]).T
            y = y + np.einsum("nq,nq->n", g.Z, b[g.index])
        noise = rng.standard_normal(len(y))
        repeated = self.search.repeated
        if repeated is not None and self._roots is not None:
            noise = simulate_rows(rows_of(repeated), self._roots, noise)
        return y + sigma * noise

    def scatter(self, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
        r"""Draw the errors of the predicted effects, ``b - b^``, jointly: beta estimated.

        With ``W`` the whitened ``[Z Lambda, X]`` they have the covariance of Henderson's
        equations, :math:`\sigma^2 (W'W + \mathrm{diag}(A^{-1} \otimes I, 0))^{-1}`.

        Returns
        -------
        list of ndarray
            One of shape ``(draws, levels, q)`` per factor.
        """
        problem, state = self.search.problem, self.maximum.state
        groups = problem.inner_effects if state.white is None else state.white.effects
        X = problem.standard.columns if state.white is None else state.white.X
        columns, precisions, loads = [], [], []
        of_factors = zip(groups, state.solution.lower, problem.factors, problem.slices, strict=True)
        for g, inner, factor, part in of_factors:
            columns.append(indicator([replace(g, Z=g.Z @ inner)]).toarray())
            K = sparse.eye_array(g.n_levels)
            if g.covariance is not None:
                K = Relationship.of(g.covariance).precision
            precisions.append(sparse.kron(K, sparse.eye_array(g.q)))
            loads.append(factor.factor(self.maximum.x[part]))
        W = np.hstack([*columns, X])
        C = W.T @ W
        r = len(C) - X.shape[1]
        C[:r, :r] += sparse.block_diag(precisions).toarray()
        root = np.linalg.cholesky(C)
        noise = np.sqrt(self.sigma2) * rng.standard_normal((len(C), draws))
        v = solve_triangular(root, noise, lower=True, trans=1)[:r].T
        ends = np.cumsum([g.n_levels * g.q for g in groups])
        parts = np.split(v, ends[:-1], axis=1)
        return [
            part.reshape(draws, g.n_levels, g.q) @ L.T
            for part, g, L in zip(parts, groups, loads, strict=True)
        ]

    def refit(self, y: np.ndarray, start: np.ndarray) -> "Fitted":
        """Maximise the likelihood of another response from ``start``.

        Raises
        ------
        RuntimeError
            If the search does not converge.
        """
        problem = self.search.problem.with_response(y)
        search = LinearSearch(problem, self.search.reml, self.search.repeated)
        maximum = search.maximise([start])
        if not maximum.converged:
            maximum = search.maximise()
        if not maximum.converged:
            raise RuntimeError(f"no end after {maximum.evaluations} evaluations")
        return Fitted(self.model, search, maximum)

    def from_every_start(self, y: np.ndarray) -> float:
        """Maximised log-likelihood for another response, searched anew."""
        search = self.search
        again = LinearSearch(search.problem.with_response(y), search.reml, search.repeated)
        return -0.5 * again.maximise().criterion

    @cached_property
    def lifted(self) -> np.ndarray:
        """The estimates with SDs of zero moved off it, where every search would stay."""
        x, unit = self.maximum.x.copy(), self.search.unit
        size = np.zeros_like(x)
        size[: len(unit)] = LIFT * np.abs(unit)
        return np.where((np.abs(x) < size) & (size > 0), size, x)


def fitted(fit: Fit) -> Fitted:
    """Put a fit's estimates into its likelihood."""
    from .profiles import parameters_of

    if fit.method.name == "glm":  # leaves the random effects out, and has nothing to search
        search = LinearSearch.of(fit.model, False, ())
        return Fitted(fit.model, search, search.maximise())
    search = LinearSearch.of(fit.model, fit.method.name == "reml")
    x = parameters_of(fit)[:-1]
    x[: search.problem.n_theta] /= fit.dispersion
    low, high = search.limits
    x = np.clip(x, low, high)
    state = search.state(x)
    free = (x > low) & (x < high) & (x != 0.0)
    maximum = LinearMaximum(x, state, free, state.criterion(search.reml), fit.converged)
    return Fitted(fit.model, search, maximum)


@dataclass(frozen=True, eq=False)
class LinearPair:
    """A linear mixed model and one inside it, both at their maxima.

    Attributes
    ----------
    small, large
        The models; their rows are the same.
    kept
        For each factor of the large model the columns that the small one has too.
    share
        Whether the small model has a share of the residual variance at zero, and no effect less.
    """

    small: Fitted
    large: Fitted
    kept: list[list[int]]
    share: bool = False

    @property
    def df(self) -> int:
        """Parameters that the large model has more."""
        return self.large.search.problem.size - self.small.search.problem.size

    @cached_property
    def new(self) -> list[tuple[int, list[int]]]:
        """New columns of each block that has some: factor and columns."""
        found = []
        for k, factor in enumerate(self.large.search.problem.factors):
            for block in factor.blocks:
                fresh = [c for c in block if c not in self.kept[k]]
                if fresh:
                    found.append((k, fresh))
        return found

    @property
    def cones(self) -> tuple[int, ...]:
        """Sizes of the covariance matrices that are zero under the null; 1 for a share."""
        return (1,) if self.share else tuple(len(fresh) for _, fresh in self.new)

    @property
    def free(self) -> int:
        """New parameters without a boundary: covariances of new with old effects."""
        return self.df - sum(k * (k + 1) // 2 for k in self.cones)

    @property
    def irregular(self) -> bool:
        """Whether the null itself is on a boundary."""
        return not bool(np.all(self.small.maximum.free))

    @property
    def on_boundary(self) -> str:
        """Say what of the null is on a boundary."""
        return "a parameter at the end of its range"

    def reference(self, stream: np.random.SeedSequence) -> Reference | None:
        """Give what the likelihood ratio is compared with; None where only a bootstrap can tell."""
        if self.cones == (1,):
            return reference(self.free, self.cones, None)
        if self.large.search.problem.n > MOST_ROWS:
            return None
        information = self.information()
        size = np.sqrt(np.diag(information))
        if not np.linalg.cond(information / np.outer(size, size)) < SINGULAR:
            return None
        return reference(self.free, self.cones, information, np.random.default_rng(stream))

    def information(self) -> np.ndarray:
        r"""Information of the new covariance matrices at zero given all else.

        Expected, :math:`\mathrm{tr}(Q\,dV_i\,Q\,dV_j) / 2` with Q of the null: P for REML,
        :math:`V^{-1}` for ML. In the order of the entries of the lower triangles.
        """
        V = covariance_of(self.small)
        Q = np.linalg.inv(V)
        if self.large.search.reml:
            X = self.small.model.design.X
            QX = Q @ X
            Q = Q - QX @ np.linalg.solve(X.T @ QX, QX.T)
        turned = [Q @ derivative for derivative in self._derivatives(V)]
        whole = np.array([[np.sum(a * b.T) / 2 for b in turned] for a in turned])
        cone = len(whole) - sum(k * (k + 1) // 2 for k in self.cones)
        known, new = slice(0, cone), slice(cone, None)
        size = np.sqrt(np.diag(whole)[known])
        used = np.flatnonzero(size > 1e-6 * size.max())
        given = np.linalg.lstsq(whole[known, known][np.ix_(used, used)], whole[used, new])[0]
        return whole[new, new] - whole[used, new].T @ given

    def _derivatives(self, V: np.ndarray):
        """Yield the derivatives of V by the parameters: nuisance ones, then the new matrices'."""
        sigma2, small = self.small.sigma2, self.small
        yield V  # by the log of a common factor
        if small.search.repeated is not None:
            alpha = small.search.alpha(small.maximum.x)
            yield from residual_derivatives(small.search.repeated, alpha, sigma2)
        last = []
        for k, g in enumerate(self.large.search.problem.effects):
            A = np.eye(g.n_levels) if g.covariance is None else g.covariance
            A = A[np.ix_(g.index, g.index)]
            for block in self.large.search.problem.factors[k].blocks:
                old = [c for c in block if c in self.kept[k]]
                fresh = [c for c in block if c not in self.kept[k]]
                pairs = [(i, j) for a, j in enumerate(old) for i in [*old[a:], *fresh]]
                yield from (entry(g.Z, A, i, j) for i, j in pairs)
                last += [(g.Z, A, i, j) for a, j in enumerate(fresh) for i in fresh[a:]]
        yield from (entry(*where) for where in last)

    def bootstrap(
        self,
        replicates: int,
        stream: np.random.SeedSequence,
        workers=None,
        progress: Progress = False,
    ) -> tuple[np.ndarray, list[Failed]]:
        """Likelihood ratios of data simulated from the small model, both models refitted."""
        same = np.arange(self.small.search.problem.n)
        return bootstrapped(self.small, self.large, same, replicates, stream, workers, progress)


def bootstrapped(
    small: Fitted,
    large: Fitted,
    rows: np.ndarray,
    replicates: int,
    stream: np.random.SeedSequence,
    workers=None,
    progress: Progress = False,
) -> tuple[np.ndarray, list[Failed]]:
    """Likelihood ratios of data simulated from the small model, both models refitted.

    ``rows`` are those of the small model for each row of the large one.
    """

    def refits(rng: np.random.Generator):
        y = small.simulate(rng)
        less = small.refit(y, small.lifted).loglik
        more = large.refit(y[rows], large.lifted).loglik
        return less, more, lambda: large.from_every_start(y[rows])

    return likelihood_ratios(refits, stream, replicates, workers, progress)


def covariance_of(at: Fitted) -> np.ndarray:
    """Marginal covariance of the responses, dense, ``(n, n)``."""
    problem, repeated = at.search.problem, at.search.repeated
    V = np.eye(problem.n)
    if repeated is not None:
        alpha = at.search.alpha(at.maximum.x)
        for rows, geometry in clusters_of(repeated):
            V[np.ix_(rows, rows)] = repeated.correlation.correlation(alpha, geometry)
    for g, factor, part in zip(problem.effects, problem.factors, problem.slices, strict=True):
        L = factor.factor(at.maximum.x[part])
        A = np.eye(g.n_levels) if g.covariance is None else g.covariance
        V += (g.Z @ L @ L.T @ g.Z.T) * A[np.ix_(g.index, g.index)]
    return at.sigma2 * V


def residual_derivatives(repeated, alpha: np.ndarray, sigma2: float):
    """Yield the derivatives of the marginal covariance by the residual parameters."""
    n = len(repeated.cluster)
    found = np.zeros((len(alpha), n, n))
    for rows, geometry in clusters_of(repeated):
        found[np.ix_(np.arange(len(alpha)), rows, rows)] = repeated.correlation.derivatives(
            alpha, geometry
        )
    yield from sigma2 * found


def clusters_of(repeated):
    """Yield the rows of each cluster in the order of their times, and the geometry of these."""
    order = np.lexsort((repeated.time, repeated.cluster))
    starts = np.flatnonzero(np.diff(repeated.cluster[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        yield rows, repeated.correlation.geometry(repeated.time[rows])


def entry(Z: np.ndarray, A: np.ndarray, i: int, j: int) -> np.ndarray:
    """Differentiate the marginal covariance by the entry ``(i, j)`` of a factor's covariance."""
    one = np.outer(Z[:, i], Z[:, j])
    return A * (one if i == j else one + one.T)


def without_effects(fit: Fit, dropped: dict[int, list[int]]) -> LinearPair:
    """Refit without some effects."""
    large = fitted(fit)
    groups, kept = [], []
    for k, g in enumerate(fit.model.design.groups):
        keep = [c for c in range(g.q) if c not in dropped.get(k, [])]
        kept.append(keep)
        if keep:
            blocks = [tuple(keep.index(c) for c in b if c in keep) for b in g.blocks]
            names = tuple(g.columns[c] for c in keep)
            blocks = tuple(b for b in blocks if b)
            groups.append(replace(g, columns=names, Z=g.Z[:, keep].copy(), blocks=blocks))
    search = LinearSearch.of(fit.model, large.search.reml, tuple(groups))
    with one_blas_thread():
        return LinearPair(Fitted(fit.model, search, search.maximise()), large, kept)


def without_nugget(fit: Fit, term: str | None) -> LinearPair:
    """Refit without the nugget of the residual correlation.

    Raises
    ------
    NotServedError
        If the parameter has no value at the end of its range that a smaller model has.
    """
    residual = fit.model.residual
    names = [p.name for p in fit.model.repeated.parameters]
    if term not in names:
        raise ValueError(
            f"{term!r} is not a parameter of {residual}: use term='nugget', where there is one."
        )
    if term != "nugget":
        raise NotServedError(
            f"boundary_test('residual', {term!r}) has no null inside the model: as a rate tends to "
            "infinity the correlation vanishes and a nugget loses its meaning, and a correlation "
            "of zero is inside its range; compare with a fit without residual= by AIC."
        )
    large = fitted(fit)
    repeated = put_rows(replace(residual, nugget=False), fit.model.design)
    search = LinearSearch.of(fit.model, large.search.reml, repeated=repeated)
    kept = [list(range(g.q)) for g in fit.model.design.groups]
    with one_blas_thread():
        return LinearPair(Fitted(fit.model, search, search.maximise()), large, kept, share=True)
