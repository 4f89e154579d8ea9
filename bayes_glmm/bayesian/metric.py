r"""A linear map after which a log density is nearly standard normal about a centre.

.. math:: x = \hat x + P' L^{-T} z, \qquad P H P' = L L'

``H`` is the negative Hessian at the mode. The joint mode of standard deviations and effects may be
at a standard deviation of zero, with several factors above all; then standard deviations,
correlations and dispersion are held where the likelihood puts them, on scales of their own, and
``H`` is that of the coefficients and effects at their mode given these. ``P`` puts the effects of
the largest factor first, so that ``L`` is sparse: their block of ``H`` is block-diagonal.
Sampling ``z`` instead of ``x`` is sampling standardised, centred columns and centred effects at
once, whatever columns the user gave; the density changes by the constant ``|det L|`` only. The
map is right for any ``H``: what depends on it is how well a sampler mixes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import block_diag
from scipy.optimize import minimize
from scipy.sparse import csc_array, hstack, tril, vstack

from ..numerics.triangular import inner_gradient, outer

Gradient = Callable[[np.ndarray], tuple[float, np.ndarray]]

DIFFERENCE = 1e-3  # in conditional SDs: truncation 1e-6, rounding 1e-10 of the gradient
SEARCHES = 3  # for the mode, each in the metric found by the one before
STEPS = 60  # of each search
NEAR = 0.5  # distance from the mode, in posterior SDs, at which its metric serves
# of eigenvalues of the Hessian with unit diagonal
SINGULAR = 1e-10  # below it the Hessian is taken for indefinite
LEAST = 0.05  # kept then
LARGEST = 1e100  # curvature that is taken for a number
HELD_SD = 0.3  # of a log SD before warm-up
FAR = 1.0  # logarithms of an SD between the likelihood's estimate and a joint mode that serves
MANY_OTHERS = 1500  # effects outside the largest factor that are differentiated one by one


@dataclass(frozen=True, eq=False)
class Metric:
    """``x = centre + P' L^-T z``.

    Attributes
    ----------
    centre
        Shape ``(d,)``.
    order
        Coordinate of each row of ``L``, ``(d,)``.
    diagonal
        Of ``L``, ``(d,)``.
    below
        ``L`` below its diagonal by columns: ``(start, row, value)``, with the entries of
        column ``j`` at ``start[j]:start[j + 1]``.
    """

    centre: np.ndarray
    order: np.ndarray
    diagonal: np.ndarray
    below: tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """What ``outer`` and ``inner_gradient`` take after their first argument."""
        return (self.centre, self.order, self.diagonal, *self.below)


@dataclass(frozen=True, eq=False)
class Layout:
    """Which coordinates are effects.

    Attributes
    ----------
    size
        Number of coordinates.
    effects
        For each factor the coordinates of its effects, ``(levels, q)``.
    held
        Coordinates that stay where they are and have no part in ``H``.
    """

    size: int
    effects: list[np.ndarray]
    held: np.ndarray

    def split(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Give the factors taken as block-diagonal, and all other coordinates in order.

        The largest factor only, unless the others are many: then all of them, and what
        couples them is left to the sampler.
        """
        ranked = sorted(self.effects, key=lambda at: -len(at))
        others = sum(at.size for at in ranked[1:])
        blocks = ranked if others > MANY_OTHERS else ranked[:1]
        later = [at.ravel() for at in ranked[len(blocks) :]]
        known = np.concatenate([self.held, *(at.ravel() for at in ranked)])
        rest = np.concatenate([*later, np.setdiff1d(np.arange(self.size), known)])
        return blocks, rest.astype(int)


def metric_at(f: Gradient, x: np.ndarray, steps: np.ndarray, layout: Layout) -> Metric:
    """Factor the negative Hessian at ``x``, taken by central differences of the gradient.

    Parameters
    ----------
    f
        ``x -> (log density, gradient)``.
    x
        Shape ``(d,)``.
    steps
        Of the differences, ``(d,)``.
    layout
        Which coordinates are effects.
    """
    blocks, rest = layout.split()

    def curvature(direction):
        return (f(x - direction)[1] - f(x + direction)[1]) / 2.0

    C = np.array([curvature(steps[i] * unit(i, len(x))) / steps[i] for i in rest])
    C = C.reshape(len(rest), len(x))
    C = np.where(np.abs(C) < LARGEST, C, 0.0)  # not differentiable there: as if uncoupled
    L_blocks, couplings, order = [], [], []
    S = C[:, rest]
    for at in blocks:
        L = positive(block_diagonal(curvature, steps, at))  # (levels, q, q)
        B = C[:, at.ravel()].reshape(len(rest), *at.shape)
        W = np.linalg.solve(L, np.moveaxis(B, 0, 2))  # (levels, q, rest)
        W = W.reshape(at.size, len(rest))
        W[np.abs(W) < 1e-10 * max(float(np.max(np.abs(W), initial=0.0)), 1e-300)] = 0.0
        S = S - W.T @ W
        L_blocks.append(L)
        couplings.append(W.T)
        order.append(at.ravel())
    L_rest = block_diag(positive(S[None])[0], np.eye(len(layout.held)) / HELD_SD)
    couplings = [np.vstack([W, np.zeros((len(layout.held), W.shape[1]))]) for W in couplings]
    return assemble(x, L_blocks, couplings, L_rest, np.concatenate([*order, rest, layout.held]))


def unit(i: int, size: int) -> np.ndarray:
    """Give a unit vector."""
    e = np.zeros(size)
    e[i] = 1.0
    return e


def block_diagonal(curvature, steps, at: np.ndarray) -> np.ndarray:
    """Blocks of the negative Hessian for a factor's effects, ``(levels, q, q)``.

    Levels of one factor do not meet in the density, so that all are moved at once.
    """
    found = np.empty((*at.shape, at.shape[1]))
    for j in range(at.shape[1]):
        direction = np.zeros(len(steps))
        direction[at[:, j]] = steps[at[:, j]]
        found[:, :, j] = curvature(direction)[at] / steps[at[:, j]][:, None]
    return found


def positive(matrices: np.ndarray) -> np.ndarray:
    """Cholesky factors of symmetric matrices ``(m, q, q)``; indefinite ones are changed.

    Of these, eigenvalues of the matrix with unit diagonal are taken in absolute value, at
    least ``LEAST``.
    """
    matrices = (matrices + np.swapaxes(matrices, 1, 2)) / 2.0
    diagonal = np.abs(np.diagonal(matrices, axis1=1, axis2=2))
    scale = np.sqrt(np.where((diagonal < LARGEST) & (diagonal > 0.0), diagonal, 1.0))
    units = matrices / (scale[:, :, None] * scale[:, None, :])
    units = np.where(np.isfinite(units), units, 0.0)
    values, vectors = np.linalg.eigh(units)
    bad = np.min(values, axis=1, initial=1.0) < SINGULAR
    raised = np.maximum(np.abs(values[bad]), LEAST)
    units[bad] = (vectors[bad] * raised[:, None]) @ np.swapaxes(vectors[bad], 1, 2)
    return scale[:, :, None] * np.linalg.cholesky(units)


def assemble(x, L_blocks, couplings, L_rest, order) -> Metric:
    """Put the blocks of ``L`` together in sparse form."""
    rest, size = len(L_rest), len(x)
    parts, done = [], 0
    for block, W in zip(L_blocks, couplings, strict=True):
        inside = block_diag_of(block)
        width = block.shape[0] * block.shape[1]
        gap: Any = csc_array((size - rest - done - width, width))
        parts.append(vstack([csc_array((done, width)), inside, gap, csc_array(W)]))
        done += width
    parts.append(vstack([csc_array((size - rest, rest)), csc_array(np.tril(L_rest))]))
    L = csc_array(hstack(parts))
    diagonal = L.diagonal()
    below = csc_array(tril(L, -1))
    below.sort_indices()
    return Metric(
        np.array(x, float),
        order.astype(np.int64),
        np.ascontiguousarray(diagonal),
        (below.indptr.astype(np.int64), below.indices.astype(np.int64), below.data),
    )


def block_diag_of(blocks: np.ndarray) -> csc_array:
    """Sparse block-diagonal matrix of ``(m, q, q)``."""
    m, q, _ = blocks.shape
    rows = np.arange(m * q).reshape(m, q, 1) + np.zeros((1, 1, q), int)
    columns = np.arange(m * q).reshape(m, 1, q) + np.zeros((1, q, 1), int)
    return csc_array((blocks.ravel(), (rows.ravel(), columns.ravel())), shape=(m * q, m * q))


def sound_metric(f: Gradient, x: np.ndarray, scale: np.ndarray, layout: Layout) -> Metric:
    """Find the metric at the joint mode, or with ``layout.held`` held where that is far off."""
    nothing = np.zeros(0, int)
    with np.errstate(all="ignore"):  # the search may run to where nothing is a number
        metric = find_metric(f, x, scale, replace(layout, held=nothing))
    moved = np.abs(metric.centre - x)[layout.held]
    wide = conditional_sds(metric)[layout.held]
    if np.all(moved < FAR) and np.all(wide < FAR):
        return metric
    return find_metric(f, x, scale, layout)


def find_metric(f: Gradient, x: np.ndarray, scale: np.ndarray, layout: Layout) -> Metric:
    """Find the mode of a log density, and its metric.

    Parameters
    ----------
    f
        ``x -> (log density, gradient)``; the value is not finite outside its domain.
    x
        Where the search starts, ``(d,)``.
    scale
        Rough size of a change of each coordinate that matters, ``(d,)``.
    layout
        Which coordinates are effects.
    """
    metric = metric_at(f, x, DIFFERENCE * scale, layout)
    for _ in range(SEARCHES):
        z = climb(f, metric, len(layout.held))
        x = outer(z, *metric.arrays)
        steps = DIFFERENCE * conditional_sds(metric)
        metric = metric_at(f, x, steps, layout)
        if np.max(np.abs(z), initial=0.0) < NEAR:
            break
    return metric


def conditional_sds(metric: Metric) -> np.ndarray:
    """``1 / sqrt(H_ii)``, shape ``(d,)``."""
    _, row, value = metric.below
    H = metric.diagonal**2
    np.add.at(H, row, value**2)
    found = np.empty_like(H)
    found[metric.order] = 1.0 / np.sqrt(H)
    return found


def climb(f: Gradient, metric: Metric, held: int) -> np.ndarray:
    """Search the mode in ``z``, its last ``held`` held; where ``f`` has no value it steps back."""
    size = len(metric.order)
    z = np.zeros(size)
    free = size - held

    def objective(part):
        z[:free] = part
        value, gradient = f(outer(z, *metric.arrays))
        if not (np.isfinite(value) and np.all(np.isfinite(gradient))):
            return 1e300, np.zeros(free)
        return -value, -inner_gradient(gradient, *metric.arrays)[:free]

    found = minimize(
        objective, np.zeros(free), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    )
    z[:free] = found.x
    return z
