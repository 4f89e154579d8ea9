r"""Maximising a log-likelihood with its exact gradient; the Hessian by differences of it.

BFGS started from an approximate information matrix: 5-14 evaluations where a start from the
identity takes 30-145. What it finds is then checked, and polished, with the Hessian itself,
so that convergence means a small gradient *and* a negative definite Hessian.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]

# Newton decrements: squared distances to the maximum in standard errors
LOOSE = 1e-6  # where BFGS stops: the step with the Hessian itself does the rest
CLOSE = 1e-4  # near enough for the Hessian taken there to be that at the maximum
TIGHT = 1e-8  # what must be reached
ROUNDING = 1e-14  # below it no step is worth its evaluation
ARMIJO, WOLFE = 1e-4, 0.9
NOISE = 1e-10  # of the log-likelihood, relative: a smaller change tells nothing
DIFFERENCE = 1e-2  # step of the Hessian's differences, in standard errors


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where a search ended.

    Attributes
    ----------
    x, value, gradient
        Parameters, log-likelihood and its gradient there.
    inverse
        Approximate inverse information, from BFGS.
    decrement
        ``g' inverse g``: squared distance to the maximum in standard errors, estimated.
    evaluations
        Calls of the objective.
    converged, reason
        Whether the decrement is below the tolerance; if not, why the search stopped.
    optimiser
        Which search it was.
    path
        Log-likelihood after each step.
    first_failure
        Why an earlier search stopped short, where this one took over.
    """

    x: np.ndarray
    value: float
    gradient: np.ndarray
    inverse: np.ndarray
    decrement: float
    evaluations: int
    converged: bool
    reason: str = ""
    optimiser: str = "BFGS from model information"
    path: tuple[float, ...] = ()
    first_failure: str = ""


def line_search(objective, x, value, gradient, step, longest=8.0):
    """Step length along ``step`` that raises the objective enough (Wolfe's conditions).

    Where the rise to be had drowns in the rounding of the objective, a smaller slope at the
    end of the step counts instead (Hager & Zhang 2005).

    Returns
    -------
    tuple of (x, value, gradient, evaluations), or None if no step raises it.
    """
    slope = gradient @ step
    noise = NOISE * (1.0 + abs(value))
    low, high = 0.0, np.inf  # brackets of the step length
    low_value, low_slope = value, slope
    length, best, calls = 1.0, None, 0
    for calls in range(1, 26):
        there = x + length * step
        f, g = objective(there)
        flatter = length * slope < noise and f >= value - noise and abs(g @ step) <= WOLFE * slope
        if not (f >= value + ARMIJO * length * slope or flatter):
            high = length
            curvature = (low_value + low_slope * (length - low) - f) / (length - low) ** 2
            quadratic = low_slope / (2 * curvature) if np.isfinite(curvature) else 0.0
            span = high - low
            length = low + min(max(quadratic, 0.1 * span), 0.5 * span)
        else:
            new_slope = g @ step
            if best is None or f >= best[1]:
                best = (there, f, g)
            if abs(new_slope) <= WOLFE * slope or calls > 8:
                break
            if new_slope < 0:
                high = length
            else:
                low, low_value, low_slope = length, f, new_slope
            if low >= longest:
                break
            length = min(2.5 * low, longest) if np.isinf(high) else 0.5 * (low + high)
        if (high - low) * np.abs(step).max() < 1e-14 * (1 + np.abs(x).max()):
            break
    return None if best is None else (*best, calls)


def bfgs(objective: Objective, x, inverse, *, tolerance=LOOSE, limit=200) -> Optimum:
    """Maximise by BFGS from ``x`` with the approximate inverse information ``inverse``."""
    value, gradient = objective(x)
    if not np.isfinite(value):
        nothing = np.full_like(x, np.nan)
        return Optimum(x, value, nothing, inverse, np.inf, 1, False, "no finite value at the start")
    evaluations, path, reason = 1, [value], f"{limit} iterations were not enough"
    fresh = inverse.copy()
    restarted = False
    for _ in range(limit):
        step = inverse @ gradient
        decrement = gradient @ step
        if decrement < tolerance:
            reason = ""
            break
        found = line_search(objective, x, value, gradient, step)
        if found is None:
            if restarted:
                reason = "no step raises the log-likelihood"
                break
            inverse, restarted = fresh.copy(), True
            continue
        restarted = False
        new, value, new_gradient, calls = found
        evaluations += calls
        path.append(value)
        inverse = update(inverse, new - x, gradient - new_gradient)
        x, gradient = new, new_gradient
    decrement = float(gradient @ inverse @ gradient)
    converged = decrement < tolerance
    return Optimum(
        x, value, gradient, inverse, decrement, evaluations, converged, reason, path=tuple(path)
    )  # fmt: skip


def update(inverse: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """BFGS update of the inverse information by a step ``s`` that lowered the gradient by ``y``.

    Skipped where the curvature along the step is not positive.
    """
    sy = s @ y
    if sy <= 1e-10 * np.sqrt((s @ s) * (y @ y)):
        return inverse
    left = np.eye(len(s)) - np.outer(s, y) / sy
    return left @ inverse @ left.T + np.outer(s, s) / sy


def root_of(inverse: np.ndarray) -> np.ndarray:
    """Cholesky factor; the root of the diagonal where rounding has made ``inverse`` indefinite.

    BFGS on a surface that is flat towards infinity (separation) may end with such a matrix.
    """
    try:
        return np.linalg.cholesky(inverse)
    except np.linalg.LinAlgError:
        return np.diag(np.sqrt(np.maximum(np.abs(np.diag(inverse)), np.finfo(float).tiny)))


def second_search(objective: Objective, x, inverse) -> Optimum:
    """SciPy's L-BFGS-B in the coordinates whitened by ``inverse``: another road to the top."""
    root = root_of(inverse)
    bad = 1e15

    from scipy.optimize import minimize  # a quarter second, which few fits need

    def negative(z):
        value, gradient = objective(x + root @ z)
        if not np.isfinite(value):
            return bad, np.zeros_like(z)
        return -value, -root.T @ gradient

    result = minimize(
        negative, np.zeros_like(x), jac=True, method="L-BFGS-B",
        options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-6, "maxcor": 30},
    )  # fmt: skip
    there = x + root @ result.x
    value, gradient = objective(there)
    decrement = float(gradient @ inverse @ gradient)
    return Optimum(
        there, value, gradient, inverse, decrement, int(result.nfev), bool(result.success),
        "" if result.success else str(result.message), "SciPy L-BFGS-B",
    )  # fmt: skip


def hessian(objective: Objective, x: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Observed information: central differences of the exact gradient.

    Steps are a hundredth of a standard error along the columns of the Cholesky factor of
    ``inverse``, in whose coordinates the information is near the identity, so that the
    relative error is of order 1e-4 times the fourth derivative. NaN where the objective
    has no value.
    """
    root = root_of(inverse)
    columns = []
    for direction in root.T:
        above = objective(x + DIFFERENCE * direction)[1]
        below = objective(x - DIFFERENCE * direction)[1]
        columns.append((below - above) / (2 * DIFFERENCE))
    whitened = np.array(columns) @ root
    inverse_root = np.linalg.inv(root)
    information = inverse_root.T @ (0.5 * (whitened + whitened.T)) @ inverse_root
    return information


def inverse_of(information: np.ndarray) -> np.ndarray | None:
    """Inverse of a positive definite matrix, or None if it is not one."""
    scale = np.sqrt(np.abs(np.diag(information)))
    if not (np.all(np.isfinite(information)) and np.all(scale > 0)):
        return None
    try:
        factor = cho_factor(information / np.outer(scale, scale), lower=True)
    except np.linalg.LinAlgError:
        return None
    if np.diag(factor[0]).min() < 1e-7:
        return None
    return cho_solve(factor, np.eye(len(scale))) / np.outer(scale, scale)


def maximise(objective: Objective, x, inverse) -> tuple[Optimum, np.ndarray | None]:
    """Maximise, and verify the maximum by its Hessian.

    BFGS, then Newton steps with the Hessian by differences until the decrement is below
    ``TIGHT``; where that fails SciPy's search takes over, and the better end is kept.

    Returns
    -------
    optimum, covariance
        ``optimum.converged`` is False, with the reason, where the maximum could not be
        verified. ``covariance`` is the inverse observed information, or None where that is
        not positive definite.
    """
    if not len(x):  # nothing to search
        value, gradient = objective(x)
        return Optimum(x, value, gradient, inverse, 0.0, 1, bool(np.isfinite(value))), inverse
    first = polish(objective, bfgs(objective, x, inverse))
    if first[0].converged:
        return first
    found = second_search(objective, x, inverse)
    second = polish(objective, bfgs(objective, found.x, inverse))
    names = {"optimiser": f"{found.optimiser}, then BFGS", "first_failure": first[0].reason}
    second = (replace(second[0], **names), second[1])
    better = second[0].value > first[0].value + 1e-8
    return second if better or second[0].converged else first


def polish(objective: Objective, optimum: Optimum, rounds: int = 4):
    """Take Newton steps with the Hessian by differences; see ``maximise``."""
    covariance = None
    for _ in range(rounds):
        if not np.isfinite(optimum.value):
            return optimum, None
        covariance = inverse_of(hessian(objective, optimum.x, optimum.inverse))
        if covariance is None:
            reason = optimum.reason or "the Hessian is not negative definite"
            return settle(objective, optimum, reason), None
        before = float(optimum.gradient @ covariance @ optimum.gradient)
        optimum = newton_step(objective, optimum, covariance)
        if before < CLOSE:
            break
    reason = "" if optimum.decrement < TIGHT else "the gradient does not vanish"
    return settle(objective, optimum, reason), covariance


def newton_step(objective: Objective, optimum: Optimum, covariance: np.ndarray) -> Optimum:
    """Take one step with the inverse information ``covariance``, if it raises the objective."""
    o = optimum
    step = covariance @ o.gradient
    decrement = float(o.gradient @ step)
    found = None
    if decrement > ROUNDING:
        found = line_search(objective, o.x, o.value, o.gradient, step)
    if found is None:
        return replace(o, inverse=covariance, decrement=decrement)
    x, value, gradient, calls = found
    return replace(
        o, x=x, value=value, gradient=gradient, inverse=covariance,
        decrement=float(gradient @ covariance @ gradient), evaluations=o.evaluations + calls,
    )  # fmt: skip


def settle(objective: Objective, optimum: Optimum, reason: str) -> Optimum:
    """Evaluate once more at the optimum, so that the objective's state belongs to it."""
    value, gradient = objective(optimum.x)
    return replace(
        optimum, value=value, gradient=gradient, converged=not reason, reason=reason
    )  # fmt: skip
