"""Known covariances between the levels of a grouping factor, matched to its levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import get_lapack_funcs

from ..choices import choose
from .build import Design, sort_rows
from .columns import DataError
from .grouping import GroupBlock

_potrf, _pocon = get_lapack_funcs(("potrf", "pocon"), dtype=float)
SYMMETRIC = 1e-8  # of the largest entry: what rounding in a file leaves
DEFINITE = 1e-10  # least eigenvalue by the largest; below it two levels are one


def relate(design: Design, covariance: Mapping[str, Any] | None) -> Design:
    """Give grouping factors their known covariances.

    Parameters
    ----------
    design
        The design.
    covariance
        Grouping factor -> labelled matrix: a DataFrame whose index and columns name the
        levels. Relatives that have no rows become levels after those of the data, with effects
        that are predicted from their relatives'; of a factor of several columns they are left
        out. Leave them out of the matrix, which is the distribution of the rest, to have none.

    Raises
    ------
    DataError
        For a factor that the model does not have, a matrix without labels, levels that it
        lacks, and one that is not symmetric or not positive definite.
    """
    if covariance is None:
        return design
    if not isinstance(covariance, Mapping):
        raise DataError(
            f"covariance got a {type(covariance).__name__}: it needs a dict of grouping factor and "
            'labelled matrix, as in covariance={"sire": A}.'
        )
    names = [block.group for block in design.groups]
    for group in covariance:
        if group not in names:
            raise DataError(f"covariance names {group!r}: {choose(str(group), names)}")
    blocks, random = list(design.groups), list(design.recipe.random)
    for k, block in enumerate(blocks):
        if block.group in covariance:
            grouping, pieces = random[k]
            A, others = matched(block, covariance[block.group], len(grouping.columns) == 1)
            levels = (*block.levels, *map(str, others))
            blocks[k] = replace(block, covariance=A, levels=levels)
            random[k] = grouping.with_relatives(others), pieces
    recipe = replace(design.recipe, random=tuple(random))
    return sort_rows(replace(design, groups=tuple(blocks), recipe=recipe))


def matched(block: GroupBlock, matrix: Any, whole: bool) -> tuple[np.ndarray, list]:
    """Put a labelled matrix into the order of the levels, and check it.

    Returns
    -------
    A, others
        The matrix, and the labels beside the block's levels, whose rows come last; none of them
        unless ``whole``.
    """
    group = block.group
    if not isinstance(matrix, pd.DataFrame):
        raise DataError(
            f"covariance[{group!r}] got {type(matrix).__name__}: it needs a DataFrame whose index "
            "and columns name the levels, as relationship_matrix() makes it."
        )
    labels = [[str(label) for label in axis] for axis in (matrix.index, matrix.columns)]
    if sorted(labels[0]) != sorted(labels[1]) or len(set(labels[0])) < len(labels[0]):
        raise DataError(
            f"covariance[{group!r}] needs the same distinct labels in its rows and columns: give "
            "a DataFrame with index and columns equal."
        )
    have = set(labels[0])
    lacking = [level for level in block.levels if level not in have]
    if lacking:
        raise DataError(
            f"covariance[{group!r}] lacks {len(lacking)} of the {block.n_levels} levels of "
            f"{group!r} in the data ({', '.join(lacking[:5])}{', …' * (len(lacking) > 5)}): add "
            "their rows and columns, or leave their rows out of the data."
        )
    known = set(block.levels)
    others = [label for label in matrix.index if whole and str(label) not in known]
    order = [*block.levels, *map(str, others)]
    positions = [{label: k for k, label in enumerate(axis)} for axis in labels]
    A = matrix.to_numpy(float)[np.ix_(*([at[label] for label in order] for at in positions))]
    check_covariance(group, A)
    A = 0.5 * (A + A.T)
    A.setflags(write=False)
    return A, others


def check_covariance(group: str, A: np.ndarray) -> None:
    """Refuse a matrix that is no covariance of distinct levels."""
    if not np.isfinite(A).all():
        raise DataError(f"covariance[{group!r}] holds values that are not finite: mend them.")
    apart = np.max(np.abs(A - A.T))
    if apart > SYMMETRIC * np.max(np.abs(A)):
        raise DataError(
            f"covariance[{group!r}] is not symmetric, entries differ by up to {apart:.3g}: give "
            "the whole matrix, not a triangle."
        )
    if is_well_conditioned(A):
        return
    values = np.linalg.eigvalsh(0.5 * (A + A.T))
    if values[0] < DEFINITE * values[-1]:
        raise DataError(
            f"covariance[{group!r}] is not positive definite, its least eigenvalue is "
            f"{values[0]:.3g}: levels that are copies of one another are one level, and a matrix "
            "that was estimated or rounded needs mending."
        )


def is_well_conditioned(A: np.ndarray) -> bool:
    """Tell, at the price of a Cholesky factor, whether the eigenvalues need no closer look."""
    root, info = _potrf(A, lower=1)
    if info:
        return False
    reciprocal, _ = _pocon(root, np.abs(A).sum(axis=0).max(), uplo="L")
    # in the 1-norm, which is within the order of the matrix of the ratio of eigenvalues
    return reciprocal > DEFINITE * len(A)
