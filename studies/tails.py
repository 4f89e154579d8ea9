r"""The likelihood of small designs integrated by brute force, for standard deviations far out.

.. math:: I(\sigma) = \int \pi(\beta) \prod_g \int \prod_{i \in g} f(y_i \mid x_i'\beta + z_i b)
   \, \varphi(b / \sigma) / \sigma \, db \, d\beta

on plain grids, written without the package: the columns are at most an intercept and one
covariate, and one of the two varies by group. The step of the grids resolves the likelihood of
a row (whose Fourier transform falls like ``exp(-pi^2 / step)`` or faster, for every family
here), and the grids are wide enough if their outer parts hold nothing.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.special import log_expit, log_ndtr

STEP = 0.6
WIDTH = 9.0  # half-width of the grids in units of sigma
EDGE = 1e-3  # share of an integral in the outer tenth of its grid that makes it too narrow
SIGMAS = (5.0, 10.0, 20.0)


LOG_PROBABILITIES = {  # of success and of failure
    "logit": (log_expit, lambda eta: log_expit(-eta)),
    "probit": (log_ndtr, lambda eta: log_ndtr(-eta)),
    "cloglog": (
        lambda eta: np.log(-np.expm1(-np.exp(np.clip(eta, -690.0, 50.0)))),
        lambda eta: -np.exp(np.minimum(eta, 50.0)),
    ),
}


def log_density(family: str, link: str, y: float, trials: float, eta: np.ndarray) -> np.ndarray:
    """Log probability of one response up to a constant."""
    if family == "poisson":
        return y * eta - np.exp(np.minimum(eta, 50.0))
    success, failure = LOG_PROBABILITIES[link]
    one = y * success(eta) if y else 0.0
    return one + ((trials - y) * failure(eta) if trials - y else 0.0)


type Column = Literal["1", "x"]


@dataclass(frozen=True, eq=False)
class Small:
    """A design of one grouping factor: fixed and random columns among "1" and "x"."""

    y: np.ndarray
    x: np.ndarray
    group: np.ndarray
    fixed: tuple[Column, ...] = ("1",)
    random: tuple[Column, ...] = ("1",)
    family: str = "bernoulli"
    link: str = "logit"
    trials: np.ndarray | None = None

    @property
    def formula(self) -> str:
        """The model's formula for the columns ``s`` (successes), ``n`` (trials), ``x``, ``g``."""
        words = {("1",): "1", ("1", "x"): "1 + x", ("x",): "0 + x"}
        response = "p(s, n)" if self.family == "binomial" else "s"
        bar = "||" if len(self.random) > 1 else "|"
        return f"{response} ~ {words[self.fixed]} + ({words[self.random]} {bar} g)"

    @property
    def columns(self) -> dict:
        """Data of the formula."""
        groups = [f"g{k}" for k in self.group]
        return {"s": self.y, "n": self.sizes, "x": self.x, "g": groups}

    @property
    def sizes(self) -> np.ndarray:
        """Trials of each row."""
        return np.ones(len(self.y)) if self.trials is None else self.trials


def log_integral(
    small: Small, sigma: dict[Column, float], normal: float | None = None, width: float = WIDTH
) -> float:
    """``log I`` under flat coefficients, or normal ones of that SD; NaN off the grid.

    ``sigma`` has the standard deviation of each random column; ``width`` is the half-width of
    the grids in units of the largest.
    """
    used: list[Column] = [a for a in ("1", "x") if a in small.fixed or a in small.random]
    half = int(np.ceil(width * max(sigma.values()) / STEP))
    sizes = {"1": 1.0, "x": np.abs(small.x).max()}
    steps = [STEP / sizes[a] for a in used]
    shape = (2 * half + 1,) * len(used)
    product = np.zeros([2 * half + 1 if a in small.fixed else 1 for a in used])
    for level in np.unique(small.group):
        product = product + np.log(_group(small, level, used, steps, shape, sigma))
    grid = np.arange(-half, half + 1)
    for axis, (column, step) in enumerate(zip(used, steps, strict=True)):
        if column in small.fixed:
            weight = np.full(len(grid), np.log(step))
            if normal is not None:
                weight = weight - 0.5 * (grid * step / normal) ** 2
            product = product + weight.reshape([-1 if a == axis else 1 for a in range(len(used))])
    top = product.max()
    inside = np.exp(product - top)
    if _edge(inside) > EDGE * inside.sum():
        return np.nan
    return float(top + np.log(inside.sum()))


def _group(small: Small, level: int, used, steps, shape, sigma) -> np.ndarray:
    """Integral over the effects of one group, on the grid of the coefficients."""
    half = shape[0] // 2
    mesh = np.meshgrid(*(np.arange(-half, half + 1) * s for s in steps), indexing="ij")
    total = np.zeros(shape)
    for i in np.flatnonzero(small.group == level):
        eta = sum(m if a == "1" else small.x[i] * m for a, m in zip(used, mesh, strict=True))
        total += log_density(small.family, small.link, small.y[i], small.sizes[i], eta)
    likelihood = np.exp(total)
    for axis, (column, step) in enumerate(zip(used, steps, strict=True)):
        if column in small.random:
            kernel = _kernel(half, step / sigma[column], column in small.fixed)
            moved = np.tensordot(kernel, np.moveaxis(likelihood, axis, 0), axes=1)
            likelihood = np.moveaxis(moved, 0, axis)
    return np.maximum(likelihood, 1e-300)


@lru_cache(maxsize=8)
def _kernel(half: int, step: float, convolve: bool) -> np.ndarray:
    """Give normal weights: a convolution where the coefficient varies too, else one integral."""
    grid = np.arange(-half, half + 1)
    away = grid[:, None] - grid[None, :] if convolve else grid[None, :]
    return step / np.sqrt(2 * np.pi) * np.exp(-0.5 * (step * away) ** 2)


def _edge(inside: np.ndarray) -> float:
    """Mass in the outer tenth of any axis."""
    worst = 0.0
    for axis, n in enumerate(inside.shape):
        outer = np.r_[0 : n // 20, n - n // 20 : n] if n > 1 else np.zeros(0, int)
        worst = max(worst, float(np.take(inside, outer, axis=axis).sum()))
    return worst


def slope(
    small: Small, scaled: tuple[Column, ...] | None = None, normal: float | None = None
) -> float:
    """``d log I / d log s`` far out, the standard deviations ``scaled`` being ``s``, others 1.

    Slopes over two doublings, extrapolated in ``1 / s``.
    """
    scaled = small.random if scaled is None else scaled
    values = [
        log_integral(small, {c: s if c in scaled else 1.0 for c in small.random}, normal)
        for s in SIGMAS
    ]
    first, second = np.diff(values) / np.log(2.0)
    return float(2.0 * second - first)


def diverges(small: Small) -> bool:
    """Whether the integral over flat coefficients grows with the grid, at bounded SDs."""
    values = []
    for width in (25.0, 50.0):
        with_edge = log_integral(small, dict.fromkeys(small.random, 1.0), width=width)
        values.append(with_edge)
    return bool(np.isnan(values).any())
