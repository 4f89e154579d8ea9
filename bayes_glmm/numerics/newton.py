"""Newton's method for few parameters, from an exact gradient.

The Hessian comes from differences of the gradient once and follows by BFGS updates, so that
a sequence of similar problems (iterated working models) costs a few evaluations each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]

FLAT = 1e-6  # least eigenvalue of a scaled information that differences can tell from zero


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where a minimisation ended.

    Attributes
    ----------
    x, hessian
        The point, and the Hessian as far as it was followed, shapes ``(m,)`` and ``(m, m)``.
    converged
        Whether the decrement fell below the tolerance.
    """

    x: np.ndarray
    hessian: np.ndarray
    converged: bool


def minimise(
    objective: Objective,
    x: np.ndarray,
    scale: np.ndarray,
    hessian: np.ndarray | None = None,
    tolerance: float = 1e-9,
    limit: int | None = None,
    one_sided: bool = False,
) -> Minimum:
    r"""Minimise a smooth function.

    Parameters
    ----------
    objective
        Gives value and gradient; an infinite value marks a point out of bounds.
    x
        Start, shape ``(m,)``, where the value is finite.
    scale
        Usual size of each parameter, for the differences, shape ``(m,)``.
    hessian
        At the start; None takes differences of the gradient.
    tolerance
        Accepted decrement :math:`\sqrt{g'H^{-1}g}`: the last step in units of the curvature.
    limit
        Most steps; None is 100, or ten per parameter, each of which BFGS has to learn.
    one_sided
        Whether the differences at the start may be, for half the evaluations.
    """
    value, gradient = objective(x)
    if hessian is None:
        hessian = difference_hessian(objective, x, scale, gradient if one_sided else None)
    for _ in range(max(100, 10 * len(x)) if limit is None else limit):
        step = descent(hessian, gradient)
        slope = gradient @ step
        if -slope <= tolerance**2:
            return Minimum(x, hessian, True)
        for _ in range(40):
            new, new_gradient = objective(x + step)
            if new <= value + 1e-4 * slope + 1e-11 * abs(value):
                break
            step, slope = step / 2, slope / 2
        else:
            return Minimum(x, hessian, bool(-slope < 1e-8))
        hessian = follow(hessian, step, new_gradient - gradient)
        x, value, gradient = x + step, new, new_gradient
    return Minimum(x, hessian, False)


def descent(hessian: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Give the Newton step with negative curvature turned round, so that it descends."""
    if len(gradient) == 1:
        return -gradient / np.maximum(np.abs(hessian[0]), 1e-300)
    curvature, axes = np.linalg.eigh(hessian)
    curvature = np.abs(curvature)
    curvature = np.maximum(curvature, 1e-8 * curvature.max(initial=0.0) + 1e-300)
    return -axes @ ((axes.T @ gradient) / curvature)


def follow(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Update the Hessian by BFGS; where the curvature along the step is not positive, by SR1."""
    along = hessian @ step
    curvature = step @ change
    if curvature > 0 and step @ along > 0:
        return (
            hessian + np.outer(change, change) / curvature - np.outer(along, along) / (step @ along)
        )
    rest = change - along
    if abs(rest @ step) < 1e-8 * np.linalg.norm(rest) * np.linalg.norm(step):
        return hessian
    return hessian + np.outer(rest, rest) / (rest @ step)


def difference_hessian(
    objective: Objective, x: np.ndarray, scale: np.ndarray, gradient: np.ndarray | None = None
) -> np.ndarray:
    """Take differences of the gradient, symmetrised, shape ``(m, m)``.

    Steps are 1e-4 of the value, or of a tenth of its usual size ``scale`` where that is more;
    central, or one-sided from the ``gradient`` at ``x``.
    """
    steps = 1e-4 * np.maximum(np.abs(x), 0.1 * scale)
    rows = [
        (objective(x + h)[1] - objective(x - h)[1]) / (2 * d)
        if gradient is None
        else (objective(x + h)[1] - gradient) / d
        for d, h in zip(steps, np.diag(steps), strict=True)
    ]
    hessian = np.array(rows).reshape(len(x), len(x))
    return (hessian + hessian.T) / 2


def inverse_information(information: np.ndarray) -> tuple[np.ndarray, bool]:
    """Invert an information found by differences; NaN and False where not positive definite."""
    size = np.sqrt(np.abs(np.diag(information)))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = information / np.outer(size, size)
    if np.isfinite(relative).all() and np.linalg.eigvalsh(relative)[:1].min(initial=1) > FLAT:
        return np.linalg.inv(information), True
    return np.full_like(information, np.nan), False
