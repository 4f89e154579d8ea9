r"""One factor's effects at many parameter vectors: integrated out, and drawn given the data.

The integral is that of ``quadrature``, its value only; every draw's searches start from the
same modes, so that no number depends on how draws are shared among threads.

**Draws of one log-concave effect** are exact, by rejection from the hull of three tangents
(Gilks & Wild 1992): to the left and to the right of the conditional mode ``m``, and a horizontal
one, ``f(u) <= f(m) + f'(m)^2 / 2`` since ``f'' <= -1``. The mode need not be exact.

**Other effects** (several on a level, or a family that is not log-concave in ``eta``) take
``STEPS`` steps of an independence Metropolis chain, whose proposals have the multivariate t
distribution at the conditional mode. With ``M`` the largest ratio of target to proposal, both
normalised, the total variation distance to the target is at most ``(1 - 1/M)^STEPS``
(Mengersen & Tweedie 1996): 1e-9 for ``M = 2``, 3e-4 for ``M = 4``.
"""

from collections.abc import Callable

import numpy as np

from .draws_scalar import draw_scalar_effects, integrate_scalar_draws
from .draws_vector import draw_vector_effects, integrate_vector_draws
from .groups import Alike, Factor, Rows, chunks_of
from .pieces import available_cores, in_threads
from .quadrature import CHUNK_ROWS, gauss_hermite
from .random_numbers import streams
from .scalar_integral import find_modes
from .small import NEWTON_ROUNDS

DECREMENT = 1e-8  # the value is stationary in the modes' errors: it moves by half of this
# of modes that a hull is built on: it is valid anywhere, and for this its top lies higher by at
# most a thousandth of the curvature
ROUGHLY = 2e-3
STEPS = 30
BLOCK = 4_000_000  # elements of eta held at a time


class ManyDraws:
    """Integrals over one factor's effects, and draws of them, at many parameter vectors.

    Parameters
    ----------
    blocks
        The family (``bind.bind_numba``).
    rows, factor
        The data, sorted by level.
    nodes
        Nodes per effect.
    start
        Modes of ``u`` that searches start from, shape ``(levels, q)``.
    threads
        The most to use; None is one for each core.
    alike
        Levels with the same rows, found before (``groups.alike_levels``): what they share is
        computed once, unless other factors add to ``eta``. None takes all to differ.
    """

    def __init__(
        self, blocks, rows: Rows, factor: Factor, nodes: int, start, threads=None,
        alike: Alike | None = None,
    ):  # fmt: skip
        self.blocks, self.nodes = blocks, nodes
        self.threads = available_cores() if threads is None else threads
        every = np.arange(factor.levels, dtype=np.int64)
        self.whole = Alike(rows, factor, every)
        self.sets = self.whole if alike is None else alike
        self.start = np.array(start, float, order="C")
        self.levels, self.q = factor.levels, factor.q
        self.rule = gauss_hermite(nodes, factor.q)

    def by_group(self, beta, L, dispersion, others: Callable | None = None) -> np.ndarray:
        """``log L_g`` without the family's constants, shape ``(draws, levels)``.

        Parameters
        ----------
        beta, L, dispersion
            Of each draw: shapes ``(draws, p)``, ``(draws, q, q)``, ``(draws,)``.
        others
            ``others(a, b)`` gives what other factors add to ``eta`` in draws ``a:b``.

        Returns
        -------
        -inf where a conditional mode was not found, or ``eta`` is not finite.
        """
        sets = self.sets if others is None else self.whole
        value = np.empty((len(beta), sets.factor.levels))
        data = _Arrays(sets, self.start)

        def run(at, base, phi, scales):
            def part(first: int, last: int) -> int:
                self._integrate(data, first, last, base, phi, scales, value[at])
                return 0

            return part

        self._over_blocks(run, data, beta, L, dispersion, others, value)
        return value if sets.factor.levels == self.levels else value[:, sets.of]

    def effects(
        self, beta, L, dispersion, sequence, concave: bool, others: Callable | None = None
    ) -> np.ndarray:
        """Draw ``b = L u`` given the data at each draw's parameters, ``(draws, levels, q)``.

        ``concave`` says whether the family is log-concave in ``eta``.
        """
        u = np.empty((len(beta), self.levels, self.q))
        arguments = (beta, L, dispersion, sequence, others)
        if not (concave and self.q == 1 and self._reject(u, *arguments)):
            self._walk(u, *arguments)
        if self.q == 1:
            u *= L  # in place: these are the largest arrays of a fit
            return u
        return u @ L.swapaxes(1, 2)

    def _reject(self, u, beta, L, dispersion, sequence, others) -> bool:
        """Fill ``u`` by rejection; False if a hull failed."""
        states = streams(sequence, len(beta))
        sets = self.sets if others is None else self.whole
        data, members = _Arrays(sets, self.start), sets.members()

        def run(at, base, phi, scales):
            scale = np.ascontiguousarray(scales[:, 0, 0])

            def part(first: int, last: int) -> int:
                b = self.blocks
                return draw_scalar_effects(
                    find_modes.pointer, b.density, b.score, data.y, data.trials, base, phi,
                    data.Z[0], scale, data.starts, data.chunks, *members, first, last,
                    ROUGHLY, NEWTON_ROUNDS, data.start[:, 0].copy(), states[at], u[at, :, 0],
                )  # fmt: skip

            return part

        return self._over_blocks(run, data, beta, L, dispersion, others) == 0

    def _walk(self, u, beta, L, dispersion, sequence, others) -> None:
        """Fill ``u`` by Metropolis steps."""
        states = streams(sequence, len(beta))
        data = _Arrays(self.whole, self.start)

        def run(at, base, phi, scales):
            def part(first: int, last: int) -> int:
                b = self.blocks
                return draw_vector_effects(
                    b.density, b.score, data.y, data.trials, base, phi, data.Z, scales,
                    data.starts, first, last, DECREMENT, NEWTON_ROUNDS, data.start, STEPS,
                    states[at], u[at],
                )  # fmt: skip

            return part

        self._over_blocks(run, data, beta, L, dispersion, others)

    def _over_blocks(self, run, data, beta, L, dispersion, others, value=None) -> int:
        """Work through the draws, holding ``eta`` of some of them at a time; sum the returns."""
        n, size, total = len(data.y), len(beta), 0
        L = np.ascontiguousarray(L)
        step = max(1, BLOCK // max(n, 1))
        for a in range(0, size, step):
            at = slice(a, min(a + step, size))
            base = beta[at] @ data.X.T + data.offset
            if others is not None:
                base += others(at.start, at.stop)
            good = np.isfinite(base).all(axis=1) & np.isfinite(L[at]).all(axis=(1, 2))
            good &= (dispersion[at] > 0) & np.isfinite(dispersion[at])
            base[~good] = 0.0
            scales = np.where(good[:, None, None], L[at], 0.0)
            phi = np.where(good, dispersion[at], 1.0)
            wanted = self.threads if base.size * len(self.rule[1]) > 100_000 else 1
            part = run(at, np.ascontiguousarray(base), phi, scales)
            total += sum(in_threads(part, len(base), wanted))
            if value is not None:
                value[at][~good] = -np.inf
        return total

    def _integrate(self, data, first, last, base, dispersion, L, value) -> None:
        b, (x, log_factor) = self.blocks, self.rule
        if self.q == 1:
            integrate_scalar_draws(
                find_modes.pointer, b.density, b.score, data.y, data.trials, base, dispersion,
                data.Z[0], np.ascontiguousarray(L[:, 0, 0]), data.starts, data.chunks,
                first, last, np.ascontiguousarray(x[:, 0]), log_factor, DECREMENT,
                NEWTON_ROUNDS, data.start[:, 0].copy(), value,
            )  # fmt: skip
        else:
            integrate_vector_draws(
                b.density, b.score, data.y, data.trials, base, dispersion,
                data.Z, L, data.starts, first, last, x, log_factor, DECREMENT, NEWTON_ROUNDS,
                data.start, value,
            )  # fmt: skip


class _Arrays:
    """The data as kernels take them, of one level for each set of alike ones."""

    def __init__(self, sets: Alike, start: np.ndarray):
        rows, factor = sets.rows, sets.factor
        self.y, self.trials, self.offset, self.X = rows.y, rows.trials, rows.offset, rows.X
        self.starts = factor.starts()
        self.chunks = chunks_of(self.starts, CHUNK_ROWS)
        self.Z = np.array(factor.Z.T, float, order="C")
        members, first = sets.members()
        self.start = np.ascontiguousarray(start[members[first[:-1]]])


def log_concave(bound, y: np.ndarray, trials: np.ndarray, dispersions) -> bool:
    """Tell whether every row's log density is concave in ``eta``, on a grid from -30 to 30.

    Rows are represented by at most 200 of their responses.
    """
    order = np.lexsort([trials, y])
    some = order[np.unique(np.linspace(0, len(y) - 1, 200).astype(int))]
    eta = np.linspace(-30.0, 30.0, 241)
    eta = eta[eta > bound.link.lowest][:, None]
    for dispersion in dispersions:
        with np.errstate(all="ignore"):
            second = bound.log_density(y[some], trials[some], eta, dispersion)[2]
        second = np.broadcast_to(second, (len(eta), len(some)))
        if np.any(second > 1e-9):
            return False
    return True
