r"""Rows to average over, and the variance of the random effects in each.

In row ``i`` the random effects add :math:`z_i'b` to the linear predictor, normal with variance
:math:`v_i = z_i'Dz_i` summed over grouping factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Rows:
    """Covariates of rows, whatever their level.

    ``X (n, p)``, ``offset (n,)``, ``Z`` one ``(n, q)`` per grouping factor, ``weight (n,)``.
    """

    X: np.ndarray
    offset: np.ndarray
    Z: tuple[np.ndarray, ...]
    weight: np.ndarray

    def distinct(self) -> tuple["Rows", np.ndarray]:
        """Merge equal rows, weights added; give also where each row went, shape ``(n,)``."""
        table = np.column_stack([self.X, self.offset, *self.Z])
        _, first, where = np.unique(table, axis=0, return_index=True, return_inverse=True)
        where = where.ravel()
        weight = np.bincount(where, self.weight)
        Z = tuple(z[first] for z in self.Z)
        return Rows(self.X[first], self.offset[first], Z, weight), where


def covariances(groups: Sequence, components: np.ndarray) -> list[np.ndarray]:
    """Covariance matrices of the effects by factor, shape ``(draws, q, q)``.

    Parameters
    ----------
    groups
        Blocks of the design.
    components
        SDs and correlations, factor by factor, shape ``(draws, m)``.
    """
    found, at = [], 0
    for g in groups:
        sd = components[:, at : at + g.q]
        R = np.zeros((len(sd), g.q, g.q)) + np.eye(g.q)
        for k, (i, j) in enumerate(g.pairs):
            R[:, i, j] = R[:, j, i] = components[:, at + g.q + k]
        found.append(sd[:, :, None] * R * sd[:, None, :])
        at += g.q + len(g.pairs)
    return found


def row_variances(groups: Sequence, components: np.ndarray, Z: Sequence[np.ndarray]) -> np.ndarray:
    """``v = z'Dz`` of rows, shape ``(draws, n)``."""
    every = zip(covariances(groups, components), Z, strict=True)
    return np.sum([np.einsum("na,dab,nb->dn", z, D, z, optimize=True) for D, z in every], axis=0)


def slopes_of_variances(
    groups: Sequence, components: np.ndarray, Z: Sequence[np.ndarray]
) -> np.ndarray:
    r"""Differentiate ``v`` by log SDs and atanh correlations, at ``components (m,)``: ``(n, m)``.

    :math:`\partial v/\partial\log\sigma_a = 2 z_a (Dz)_a` and
    :math:`\partial v/\partial\operatorname{atanh}\rho_{ab} =
    2 z_a z_b \sigma_a\sigma_b (1 - \rho_{ab}^2)`.
    """
    columns, at = [], 0
    for g, D, z in zip(groups, covariances(groups, components[None, :]), Z, strict=True):
        columns += list((2 * z * (z @ D[0])).T)
        sd = components[at : at + g.q]
        for k, (i, j) in enumerate(g.pairs):
            rho = components[at + g.q + k]
            columns.append(2 * z[:, i] * z[:, j] * sd[i] * sd[j] * (1 - rho**2))
        at += g.q + len(g.pairs)
    return np.array(columns).T
