r"""What the data say about each level's effects, other factors' effects eliminated.

With working weights ``w`` at a joint mode, and ``A`` the rows ``L'z_j`` of the factors whose
effects are eliminated, what is left of the rows' information is

.. math:: V = w - w A (I + A' w A)^{-1} A' w ,

and the information about two factors' effects, ``Z_k' V Z_p``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from ..numerics.groups import Factor, is_nested, parents
from ..numerics.partly_centred import Information

CHUNK = 256  # levels worked on at a time: bounds the memory


@dataclass(frozen=True, eq=False)
class AtMode:
    """Rows and effects at a joint mode.

    Attributes
    ----------
    weights, scores
        Expected information about ``eta``, and the derivative of the log density by it, ``(n,)``.
    factors
        Grouping factors.
    L, effects
        Of each factor: ``b = L u``, and ``b`` at the mode, ``(levels, q)``.
    """

    weights: np.ndarray
    scores: np.ndarray
    factors: list[Factor]
    L: list[np.ndarray]
    effects: list[np.ndarray]


def information(mode: AtMode, largest: int, others: list[int]) -> list[Information]:
    """Information about the effects of each of ``others``.

    The largest factor's effects are eliminated, and those of factors that lie within the one
    in question. Each level is taken by itself: what couples the levels of crossed factors is
    left out, and what couples a level to those it lies within is ``Information.above``.
    """
    found = []
    for k in others:
        f = mode.factors[k]
        rest = [j for j in others if j != k]
        gone = [largest, *(j for j in rest if lies_within(mode.factors[j], f))]
        left = Eliminated(mode.weights, [(mode.factors[j], mode.L[j]) for j in gone])
        W = left.blocks(f, f, np.arange(f.levels))
        s = f.sum_by_level(mode.scores[:, None] * f.Z) + np.einsum("gcd,gd->gc", W, mode.effects[k])
        above = []
        for j in rest:
            if lies_within(f, mode.factors[j]):
                parent = parents(f, mode.factors[j])
                C = np.ascontiguousarray(left.blocks(f, mode.factors[j], parent))
                s += np.einsum("gcd,gd->gc", C, mode.effects[j][parent])
                above.append((others.index(j), C, parent))
        found.append(Information(W, s, tuple(above)))
    return found


def lies_within(finer: Factor, coarser: Factor) -> bool:
    """Tell whether each level of the first lies within one of the second."""
    return finer.levels > coarser.levels and is_nested([finer, coarser])


class Eliminated:
    """Information of rows with some factors' effects eliminated.

    ``w - w A (I + A'wA)^{-1} A'w``, ``A`` the rows ``L'z_j`` of the eliminated factors.
    """

    def __init__(self, weights, gone):
        self.weights = weights
        A: Any = sparse.hstack([columns_of(f, f.Z @ L) for f, L in gone], format="csc")
        self.weighted = A.multiply(weights[:, None]).tocsc()
        H = sparse.eye_array(A.shape[1]) + A.T @ self.weighted
        self.solver = splu(sparse.csc_array(H))

    def blocks(self, left: Factor, right: Factor, partner: np.ndarray) -> np.ndarray:
        """Blocks between the levels of ``left`` and those of ``right`` that they lie within.

        ``partner`` is that level of ``right``; the result has shape ``(levels, q, q')``.
        """
        found = left.sum_by_level(
            self.weights[:, None, None] * left.Z[:, :, None] * right.Z[:, None, :]
        )
        ours = self.weighted.T @ columns_of(left, left.Z)
        theirs = ours if left is right else self.weighted.T @ columns_of(right, right.Z)
        for first in range(0, left.levels, CHUNK):
            levels = np.arange(first, min(first + CHUNK, left.levels))
            a = dense_columns(ours, levels, left.q)
            b = self.solver.solve(a.reshape(len(a), -1)).reshape(a.shape)
            c = dense_columns(theirs, partner[levels], right.q)
            found[levels] -= np.einsum("egc,egd->gcd", b, c)
        return found


def columns_of(factor: Factor, Z: np.ndarray):
    """``Z`` spread over the levels' columns, sparse, ``(n, levels q)``."""
    n, q = Z.shape
    column = factor.index[:, None] * q + np.arange(q)
    row = np.repeat(np.arange(n), q)
    return sparse.csc_matrix((Z.ravel(), (row, column.ravel())), shape=(n, factor.levels * q))


def dense_columns(matrix, levels: np.ndarray, q: int) -> np.ndarray:
    """Columns of some levels' effects, ``(rows, levels, q)``."""
    at = levels[:, None] * q + np.arange(q)
    return matrix[:, at.ravel()].toarray().reshape(-1, len(levels), q)
