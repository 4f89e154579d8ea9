"""What the check needs to know of a model: its priors sorted by kind, and its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from .cones import Cone, Effects, cone_of, rank
from .rows import has_light_tails, is_discrete, row_signs
from .tails import Deviation, TailProblem

DENSE = 2e7  # entries of a matrix that is factored rather than iterated on


@dataclass(frozen=True, eq=False)
class Specification:
    """A model as the decision table sees it."""

    model: Any

    @property
    def design(self):
        """The design."""
        return self.model.design

    @property
    def family(self):
        """The family."""
        return self.model.family

    @property
    def priors(self):
        """The resolved priors."""
        return self.model.priors

    @property
    def discrete(self) -> bool:
        """Whether the likelihood is at most one."""
        return is_discrete(self.family)

    @property
    def light(self) -> bool:
        """Whether the likelihood falls at least exponentially."""
        return has_light_tails(self.family, self.model.link)

    @cached_property
    def flat(self) -> tuple[int, ...]:
        """Columns whose coefficient has a flat prior."""
        return tuple(k for k, prior in enumerate(self.priors.beta) if not prior.proper)

    @cached_property
    def deviations(self) -> tuple[Deviation, ...]:
        """All standard deviations of random effects."""
        found: list[Deviation] = []
        for block in self.design.groups:
            start = len(found)
            lkj = self.priors.corr[block.group]
            for k, column in enumerate(block.columns):
                together = next(tuple(start + j for j in b) for b in block.blocks if k in b)
                found.append(
                    Deviation(
                        f"sd_{block.group}[{column}]",
                        block.group,
                        self.priors.sd[block.group][k],
                        block.index[self.used],
                        block.Z[self.used, k],
                        block.n_levels,
                        together,
                        1.0 if lkj is None else lkj.eta,
                    )
                )
        return tuple(found)

    @cached_property
    def _sign(self) -> np.ndarray:
        d = self.design
        return row_signs(self.family, self.model.link, d.y, d.trials)

    @cached_property
    def used(self) -> np.ndarray:
        """Rows that say something of large ``eta``."""
        return ~np.isnan(self._sign) & (self.design.trials > 0)

    @cached_property
    def problem(self) -> TailProblem:
        """Rows and columns for the tail theorem.

        A flat prior on a half-line is one more row, which lets its coefficient go one way.
        """
        beta, X, sign = self.priors.beta, self.design.X[self.used], self._sign[self.used]
        heavy = [k for k, prior in enumerate(beta) if prior.proper and np.isfinite(prior.tail)]
        bounds = [(k, *beta[k].support) for k in self.flat if np.isfinite(beta[k].support).any()]
        extra = np.zeros((len(bounds), self.design.p))
        for row, (k, _, _) in enumerate(bounds):
            extra[row, k] = 1.0
        ways = [1.0 if np.isfinite(low) else -1.0 for _, low, _ in bounds]
        X = np.vstack([X, extra])
        deviations = self.deviations
        if bounds:
            deviations = tuple(_longer(d, len(bounds)) for d in deviations)
        return TailProblem(
            np.r_[sign, ways],
            X[:, list(self.flat)],
            X[:, heavy],
            tuple((self.design.terms[k], beta[k].tail - 1.0) for k in heavy),
            deviations,
        )

    def flat_cone(self) -> Cone:
        """Recession cone of the columns with flat coefficients."""
        return cone_of(self.problem.sign, self.problem.X_flat)

    def shared_cone(self) -> Cone:
        """Recession cone of all columns: coefficients and effects under a joint prior."""
        problem, rows = self.problem, len(self.problem.sign)
        at = [k for k in range(self.design.p) if k not in self.flat]
        X = np.zeros((rows, len(at)))
        X[: self.used.sum()] = self.design.X[self.used][:, at]
        effects = [Effects(d.index, d.z[:, None], d.n_levels) for d in problem.deviations]
        return cone_of(problem.sign, np.hstack([problem.X_flat, X]), effects)

    @cached_property
    def effects(self) -> tuple[Effects, ...]:
        """Random-effect columns, all rows."""
        return tuple(Effects(g.index, g.Z, g.n_levels) for g in self.design.groups)

    def leaves_residual(self, others: Sequence[Effects] = ()) -> bool:
        """Tell whether the response leaves the span of the columns of X and Z, and ``others``.

        Rows whose response is a limit of the mean, which no finite ``eta`` fits, are left out.
        """
        d = self.design
        with np.errstate(all="ignore"):
            target = self.model.link.link(d.y) - d.offset
        if np.isnan(target).any():
            return True
        rows = np.isfinite(target)
        target, X = target[rows], d.X[rows]
        effects = [e.take(rows) for e in (*self.effects, *others)]
        if len(target) * (d.p + sum(e.width for e in effects)) < DENSE:
            return rank(np.column_stack([X, target]), effects) > rank(X, effects)
        from scipy.sparse.linalg import lsmr  # a tenth of a second, which few models need

        M = sparse.hstack([sparse.csr_array(X), *(e.columns() for e in effects)], format="csr")
        fitted = M @ lsmr(M, target, atol=1e-13, btol=1e-13, maxiter=10 * d.n)[0]
        return bool(np.linalg.norm(target - fitted) > 1e-8 * np.linalg.norm(target))


def _longer(d: Deviation, rows: int) -> Deviation:
    """Add rows in which the effect does not appear."""
    index = np.r_[d.index, np.zeros(rows, d.index.dtype)]
    z = np.r_[d.z, np.zeros(rows)]
    return Deviation(d.name, d.group, d.prior, index, z, d.n_levels, d.correlated, d.eta)
