"""The kernels of ``quadrature`` and ``nested`` in plain NumPy: their twin in the tests.

Written from the formulas of the docstring of ``quadrature``, for any number of effects of one
group; a group of two nested levels is one group with the effects of all its inner levels.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag

from .quadrature import gauss_hermite


@dataclass(frozen=True, eq=False)
class GroupIntegral:
    """``log L_g`` of one group and its derivatives.

    Attributes
    ----------
    value
        Without the family's constant.
    t, gamma, dispersion
        By ``eta`` (rows), by ``L`` and by log dispersion.
    mode
        Of ``u``, ``(q,)``.
    """

    value: float
    t: np.ndarray
    gamma: np.ndarray
    dispersion: float
    mode: np.ndarray


def mode_of(density, base: np.ndarray, a: np.ndarray, rounds: int = 200) -> np.ndarray:
    """Mode of ``sum_j l_j(o_j + a_j'u) - u'u / 2`` by damped Newton steps; ``a`` is (rows, q)."""
    u, best = np.zeros(a.shape[1]), -np.inf
    step = np.zeros_like(u)
    trial = u
    for _ in range(rounds):
        value, l1, l2, _ = density(base + a @ trial)
        f = value.sum() - 0.5 * trial @ trial
        if not f >= best - 1e-9 * (1 + abs(best)):
            step = step / 2
            trial = u + step
            continue
        u, best = trial, f
        gradient = a.T @ l1 - u
        step = np.linalg.solve(np.eye(len(u)) + (a.T * np.maximum(-l2, 0)) @ a, gradient)
        if gradient @ step < 1e-20:
            break
        trial = u + step
    return u


def integrate_group(bound, y, trials, base, dispersion, Z, L, nodes: int) -> GroupIntegral:
    """Integrate one group.

    Parameters
    ----------
    bound
        Family and link (``bind.bind_numpy``).
    y, trials, base
        Response, trials and fixed part of ``eta``, ``(rows,)``.
    Z, L
        Columns of the effects, ``(rows, q)``, and the factor of their covariance, ``(q, q)``.
    nodes
        Per dimension.
    """

    def density(eta):
        return [
            np.broadcast_to(d, eta.shape) for d in bound.log_density(y, trials, eta, dispersion)
        ]

    def spread(eta):
        if not bound.family.has_dispersion:
            return np.zeros((3, len(eta)))
        parts = bound.dispersion_derivatives(y, trials, eta, dispersion)
        return np.array([np.broadcast_to(d, eta.shape) for d in parts])

    q = Z.shape[1]
    a = Z @ L
    m = mode_of(density, base, a)
    value, l1, l2, l3 = density(base + a @ m)
    f_mode = value.sum() - 0.5 * m @ m
    R = np.linalg.cholesky(np.eye(q) - (a.T * l2) @ a)
    x, log_factor = gauss_hermite(nodes, q)
    u = m + np.linalg.solve(R.T, x.T).T
    eta = base + u @ a.T
    at_nodes = [density(e) for e in eta]
    f = np.array([d[0].sum() for d in at_nodes]) - 0.5 * (u**2).sum(axis=1)
    omega = np.exp(f - f_mode + log_factor)
    value = f_mode - np.log(np.diag(R)).sum() + np.log(omega.sum())
    omega /= omega.sum()

    score = np.array([d[1] for d in at_nodes])
    slopes = score @ a - u
    G = omega @ slopes
    C = np.einsum("k,kd,ke->de", omega, x, np.linalg.solve(R, slopes.T).T)
    P = 0.5 * (np.tril(C) + np.tril(C).T) - 0.5 * np.diag(np.diag(C))
    Q = -np.linalg.solve(R.T, np.linalg.solve(R.T, 0.5 * np.eye(q) + P).T)
    form = np.einsum("jd,de,je->j", a, Q, a)
    r = -l3 * form
    v = np.linalg.solve(R @ R.T, G + r @ a)
    net = r + l2 * (a @ v)
    gamma = np.einsum("k,kj,jd,ke->de", omega, score, Z, u)
    gamma += Z.T @ (np.outer(net, m) - 2 * l2[:, None] * (a @ Q) + np.outer(l1, v))
    d_mode = spread(base + a @ m)
    by_dispersion = omega @ np.array([spread(e)[0].sum() for e in eta])
    by_dispersion += d_mode[1] @ (a @ v) - d_mode[2] @ form
    return GroupIntegral(float(value), omega @ score + net, gamma, float(by_dispersion), m)


def integrate_nested_group(
    bound, y, trials, base, dispersion, inner, Z, L, nodes: int
) -> tuple[GroupIntegral, list[np.ndarray]]:
    """Integrate one outer group over the full product rule, ``nodes^(m q + p)`` nodes.

    Parameters
    ----------
    bound, y, trials, base, dispersion, nodes
        As in ``integrate_group``.
    inner
        Inner level of each row, ``0 .. m - 1``, ``(rows,)``.
    Z, L
        Columns and factor of the inner and of the outer effects: pairs.

    Returns
    -------
    integral, gammas
        The derivatives by the two factors are sums of blocks of ``integral.gamma``.
    """
    (Z_inner, Z_outer), (L_inner, L_outer) = Z, L
    m, q = int(inner.max()) + 1, Z_inner.shape[1]
    own = np.arange(m)[:, None] == inner
    spread_out = [np.where(mine[:, None], Z_inner, 0.0) for mine in own]
    wide = np.concatenate([*spread_out, Z_outer], axis=1)
    factor = block_diag(*[L_inner] * m, L_outer)
    found = integrate_group(bound, y, trials, base, dispersion, wide, factor, nodes)
    blocks = [found.gamma[i * q : (i + 1) * q, i * q : (i + 1) * q] for i in range(m)]
    return found, [np.sum(blocks, axis=0), found.gamma[m * q :, m * q :]]
