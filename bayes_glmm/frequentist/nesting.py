r"""One model inside another: is it, what is tested between them, and against what.

A random-effects block of the smaller model is contained in one of the larger if both have
the same levels and its columns are combinations of the other's, ``Z_0 = Z_1 A``: then
``D_1 = A D_0 A'`` for every ``D_0``. Where ``D_1`` so made has rank ``r < k``, the ``k - r``
new directions have a covariance matrix of zero under the null, on the boundary.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..fit import Fit
from ..numerics.threads import one_blas_thread
from ..progress import Progress
from .bootstrap import lifted, refit, simulate
from .chi_bar import RESOLUTION, Reference, reference
from .likelihood import Likelihood
from .profiles import likelihood_of
from .replicates import Failed, likelihood_ratios

SPAN = 1e-7  # distance of a column from a span, relative to its length
SCORES = 1000  # simulated to have the information of variances at zero
STEP = 0.1  # of the start's SD: where the derivative by a variance of zero is taken
SINGULAR = 1e6  # condition number of the new variances' information


@dataclass(frozen=True, eq=False)
class Pair:
    """Two nested models at their maxima.

    Attributes
    ----------
    small, x_small
        Likelihood and parameters under the null.
    large, x_large, covariance
        The same without it, and the covariance of the parameters.
    places
        For each factor of the small model the position of its factor in the large one, and
        ``A``, shape ``(q_large, q_small)``.
    rows
        Row of the small model's data for each row of the large one's.
    """

    small: Likelihood
    x_small: np.ndarray
    large: Likelihood
    x_large: np.ndarray
    covariance: np.ndarray
    places: list[tuple[int, np.ndarray]]
    rows: np.ndarray

    @cached_property
    def known(self) -> list[np.ndarray]:
        """For each factor of the large model the columns of all ``A`` side by side."""
        found = [[np.zeros((f.q, 0))] for f in self.large.factors]
        for k, A in self.places:
            found[k].append(A)
        return [np.hstack(parts) for parts in found]

    @cached_property
    def new(self) -> list[tuple[int, tuple[int, ...], int]]:
        """Blocks with new directions: ``(factor, columns, number of directions)``."""
        found = []
        for k, factor in enumerate(self.large.factors):
            for block in factor.covariance.blocks:
                part = self.known[k][list(block)]
                rank = np.linalg.matrix_rank(part) if part.size else 0
                if rank < len(block):
                    found.append((k, block, len(block) - int(rank)))
        return found

    @property
    def cones(self) -> tuple[int, ...]:
        """Sizes of the covariance matrices that are zero under the null."""
        return tuple(size for _, _, size in self.new)

    @property
    def df(self) -> int:
        """Parameters that the large model has more."""
        return self.large.layout.size - self.small.layout.size

    @property
    def on_boundary(self) -> str:
        """Say what of the null is on a boundary where it is ``irregular``."""
        return "an SD of zero or a correlation of one"

    @property
    def free(self) -> int:
        """Number of new parameters without a boundary: coefficients and covariances."""
        bounded = sum(k * (k + 1) // 2 for k in self.cones)
        return self.df - bounded

    @property
    def irregular(self) -> bool:
        """Whether the null itself is on the boundary: an SD of zero or a correlation of one."""
        for k, factor in enumerate(self.small.factors):
            part = self.small.layout.theta_slice(k)
            L = factor.covariance.factor(self.x_small[part])
            scale = np.sqrt((L**2).sum(axis=1))
            if np.any(np.abs(np.diag(L)) <= 1e-5 * np.maximum(scale, 1e-300)):
                return True
        return False

    def embedded(self, large: Likelihood) -> np.ndarray:
        """Parameters of the large model that say what the small one's do."""
        beta, thetas, _ = self.small.layout.split(self.x_small)
        eta = self.small.rows.X[self.rows] @ beta
        X = large.rows.X
        parts = [np.linalg.lstsq(X, eta, rcond=None)[0] if X.shape[1] else beta]
        for k, factor in enumerate(large.factors):
            pieces = [np.zeros((factor.q, factor.q))]
            for (where, A), small, theta in zip(
                self.places, self.small.factors, thetas, strict=True
            ):
                if where == k:
                    pieces.append(A @ small.covariance.factor(theta))
            parts.append(factor.covariance.theta_of(np.hstack(pieces)))
        tail = self.x_small[-1:] if large.layout.has_dispersion else []
        return np.concatenate([*parts, tail])

    # the reference distribution

    def reference(self, stream: np.random.SeedSequence) -> Reference | None:
        """Give what the likelihood ratio is compared with; None where only a bootstrap can tell."""
        if len(self.cones) == 0 or self.cones == (1,):
            return reference(self.free, self.cones, None)
        if not all(np.all(np.isin(A, (0.0, 1.0))) for _, A in self.places):
            return None  # effects in other coordinates: the scores below are not theirs
        score, draws = (np.random.default_rng(child) for child in stream.spawn(2))
        information = self.information(score)
        if np.linalg.cond(information / np.outer(*2 * [np.sqrt(np.diag(information))])) > SINGULAR:
            return None  # the data cannot tell the new effects apart
        return reference(self.free, self.cones, information, draws)

    def information(self, rng: np.random.Generator) -> np.ndarray:
        """Information of the new covariance matrices at zero given all else, by simulation.

        The score of a variance at zero is ``lim l'(s) / 2s``, ``s`` its SD; that of a
        covariance of two new effects is the derivative by the Cholesky entry over ``s``.
        """
        large, at = self._new_last()
        cone, unit = self._lift(large, at)
        scores = np.empty((SCORES, len(at)))
        with one_blas_thread():
            for score in scores:
                y = simulate(self.small, self.x_small, rng)[self.rows]
                score[:] = large.with_rows(replace(large.rows, y=y))(at)[1]
        scores = scores[np.all(np.isfinite(scores), axis=1)]
        other = np.setdiff1d(np.arange(len(at)), cone)
        S = np.cov(scores.T)
        other = other[np.diag(S)[other] > 1e-12 * np.diag(S).max()]
        given = np.linalg.solve(S[np.ix_(other, other)], S[np.ix_(other, cone)])
        efficient = S[np.ix_(cone, cone)] - S[np.ix_(cone, other)] @ given
        return efficient / np.outer(unit, unit)

    def _new_last(self) -> tuple[Likelihood, np.ndarray]:
        """Put new columns last in their blocks: those of the null then are a factor themselves."""
        large = self.large
        x = self.x_large
        for k, factor in enumerate(large.factors):
            old = np.abs(self.known[k]).sum(axis=1) > 0
            blocks = tuple(
                tuple(sorted(b, key=lambda c: not old[c])) for b in factor.covariance.blocks
            )
            if blocks != factor.covariance.blocks:
                large, x = large.reordered(k, blocks, x)
        return large, self.embedded(large)

    def _lift(self, large: Likelihood, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Set the new SDs to a small value in ``at``; positions of the new entries, their units."""
        cone, unit = [], []
        for k, columns, _ in self.new:
            covariance = large.factors[k].covariance
            rows, cols = covariance.entries
            offset = large.layout.theta_slice(k).start
            old = np.abs(self.known[k]).sum(axis=1) > 0
            fresh = [c for c in columns if not old[c]]
            for j, column in enumerate(fresh):
                entry = {int(r): offset + i for i, r in enumerate(rows) if cols[i] == column}
                step = STEP * abs(large.start[0][entry[column]])
                at[entry[column]] = step
                for row in fresh[j:]:
                    cone.append(entry[row])
                    unit.append(2.0 * step if row == column else step)
        return np.array(cone), np.array(unit)

    # the bootstrap

    def bootstrap(
        self,
        replicates: int,
        stream: np.random.SeedSequence,
        workers=None,
        progress: Progress = False,
    ) -> tuple[np.ndarray, list[Failed]]:
        """Likelihood ratios of data simulated from the small model, both models refitted."""
        low = lifted(self.small, self.x_small)
        high = lifted(self.large, self.embedded(self.large))

        def refits(rng: np.random.Generator):
            y = simulate(self.small, self.x_small, rng)
            less = refit(self.small, y, low).loglik
            y = y[self.rows]
            more = refit(self.large, y, high, self.covariance).loglik
            return less, more, lambda: refit(self.large, y).loglik

        return likelihood_ratios(refits, stream, replicates, workers, progress)


def bootstrap_p(ratios: np.ndarray, statistic: float) -> float:
    """``(1 + #{LR* >= LR}) / (1 + B)`` (Davison & Hinkley 1997, section 4.2.5)."""
    return float((1 + np.sum(ratios >= statistic - RESOLUTION)) / (1 + len(ratios)))


# nested fits


def pair_of(small: Fit, large: Fit) -> Pair:
    """Set two fits of the same data one in the other.

    Raises
    ------
    ValueError
        If the smaller model is not contained in the larger; the message says in which part.
    """
    check_fixed(small, large)
    places = [place_of(small, k, large) for k in range(len(effects_of(small)))]
    low, x_low, _ = likelihood_of(small, restricted=True)
    high, x_high, covariance = likelihood_of(large, restricted=True)
    return Pair(low, x_low, high, x_high, covariance, places, same_rows(small, large))


def same_rows(small: Fit, large: Fit) -> np.ndarray:
    """Row of the small model's data for each row of the large one's: each sorts its own."""
    a, b = small.model.design, large.model.design
    inverse = np.empty(a.n, int)
    inverse[a.order] = np.arange(a.n)
    return inverse[b.order]


def effects_of(fit: Fit) -> tuple:
    """Random effects that the fit has: none for a GLM."""
    return () if fit.method.name == "glm" else fit.model.design.groups


def check_fixed(small: Fit, large: Fit) -> None:
    """Refuse if a fixed-effect column of the small model is not in the large one's span."""
    a, b = small.model.design, large.model.design
    missing = outside(a.to_user(a.X), b.to_user(b.X))
    if missing.size:
        raise ValueError(
            f"{small.model.formula!r} has the fixed effect {a.terms[missing[0]]!r}, which "
            f"{large.model.formula!r} has not: anova() needs nested models; compare their AIC, "
            "or fit a model that contains both."
        )


def outside(columns: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Positions of the columns that are no combination of those of ``span``."""
    scale = np.abs(span).max(axis=0, initial=0.0)
    basis = span / np.where(scale > 0, scale, 1.0)
    left = columns - (basis @ np.linalg.lstsq(basis, columns, rcond=None)[0] if basis.size else 0.0)
    length = np.linalg.norm(columns, axis=0)
    return np.flatnonzero(np.linalg.norm(left, axis=0) > SPAN * np.maximum(length, 1e-300))


def place_of(small: Fit, k: int, large: Fit) -> tuple[int, np.ndarray]:
    """Find the factor of the large model that contains the ``k``-th of the small one."""
    a, b = small.model.design, large.model.design
    group = effects_of(small)[k]
    for where, candidate in enumerate(effects_of(large)):
        if not same_levels(a.to_user(group.index), b.to_user(candidate.index)):
            continue
        Z, target = a.to_user(group.Z), b.to_user(candidate.Z)
        A = np.zeros((candidate.q, group.q))
        if all(put(Z, block, target, candidate.blocks, A) for block in group.blocks):
            return where, A
    columns = " + ".join(group.columns)
    raise ValueError(
        f"{small.model.formula!r} has the random effects ({columns} | {group.group}), which "
        f"{large.model.formula!r} does not contain: anova() needs nested models; compare their "
        "AIC, or fit a model that contains both."
    )


def same_levels(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two groupings put the same rows together, whatever their labels."""
    pairs = np.unique(np.column_stack([one, other]), axis=0)
    return len(pairs) == len(np.unique(one)) == len(np.unique(other))


def put(Z: np.ndarray, block, target: np.ndarray, blocks, A: np.ndarray) -> bool:
    """Express a block's columns in one of ``blocks`` of ``target``; fills their part of ``A``."""
    columns = Z[:, list(block)]
    for other in blocks:
        span = target[:, list(other)]
        if not outside(columns, span).size:
            found = np.linalg.lstsq(span, columns, rcond=None)[0]
            whole = np.round(found)
            found = np.where(np.abs(found - whole) < 1e-9, whole, found)
            A[np.ix_(other, block)] = found
            return True
    return False
