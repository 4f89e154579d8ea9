r"""Pedigrees: how alike relatives are by descent.

The numerator relationship ``a_ij`` is twice the probability that a gene drawn of ``i`` and one of
``j`` are copies of one ancestor's; ``a_ii = 1 + F_i`` with ``F_i`` the inbreeding coefficient.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from .choices import choose

UNKNOWN = ("", "0", ".", "*", "NA")  # codes of unknown parents in the files of other programs


def relationship_matrix(
    pedigree: Any, *, individual: str = "individual", sire: str = "sire", dam: str | None = "dam"
) -> pd.DataFrame:
    r"""Numerator relationship matrix of a pedigree, for ``GLMM(…, covariance={"animal": A})``.

    By the tabular method, parents before offspring:

    .. math:: a_{ij} = (a_{j s_i} + a_{j d_i}) / 2 \; (j \text{ before } i), \qquad
       a_{ii} = 1 + a_{s_i d_i} / 2

    with ``a = 0`` for an unknown parent.

    Parameters
    ----------
    pedigree
        A DataFrame or what makes one: a row an individual, in any order. Missing values are
        unknown parents; unknown parents are taken as unrelated and not inbred. A parent without
        a row of its own is a founder.
    individual, sire, dam
        Columns. ``dam=None`` for a pedigree of sires and their sires only.

    Returns
    -------
    DataFrame
        Shape (m, m), labelled by individual on both axes, ancestors before descendants; no unit.

    Raises
    ------
    ValueError
        For absent columns, an individual that has two rows or no name, one that would be its own
        ancestor, or a parent such as 0 without a row, the code of an unknown one elsewhere.

    References
    ----------
    Henderson (1976), *Biometrics* 32; Mrode (2014), *Linear Models for the Prediction of Animal
    Breeding Values*, ch. 2.
    """
    frame = pd.DataFrame(pedigree)
    columns = [individual, sire] + ([] if dam is None else [dam])
    for column in columns:
        if column not in frame:
            raise ValueError(f"The pedigree has no column {column!r}: {choose(column, frame)}")
    parents = _parents(frame, columns)
    order = _ancestors_first(parents)
    at = {label: k for k, label in enumerate(order)}
    A = np.zeros((len(order), len(order)))
    for i, label in enumerate(order):
        known = [at[parent] for parent in parents[label] if parent is not None]
        A[i, :i] = A[:i, i] = 0.5 * A[known, :i].sum(axis=0)
        A[i, i] = 1.0 + (0.5 * A[known[0], known[1]] if len(known) == 2 else 0.0)
    return pd.DataFrame(A, index=order, columns=order)


def _parents(frame: pd.DataFrame, columns: list[str]) -> dict[Hashable, tuple]:
    """Return the parents of each individual, None where unknown; founders included."""
    known: dict[Hashable, tuple] = {}
    for label, *of in frame[columns].itertuples(index=False):
        if pd.isna(label):
            raise ValueError(
                f"The pedigree has a row without a name in {columns[0]!r}: name it or drop it."
            )
        label = whole(label)
        if label in known:
            raise ValueError(f"The individual {label!r} has two rows in the pedigree: keep one.")
        known[label] = tuple(None if pd.isna(parent) else whole(parent) for parent in of)
    _refuse_codes_of_unknown(known, columns)
    founders = {p for of in known.values() for p in of if p is not None and p not in known}
    return {p: () for p in sorted(founders, key=str)} | known


def _refuse_codes_of_unknown(known: dict[Hashable, tuple], columns: list[str]) -> None:
    """Refuse a parent 0 or "" without a row, which would make its offspring sibs."""
    for of in known.values():
        for column, parent in zip(columns[1:], of, strict=True):
            if str(parent).strip() in UNKNOWN and parent not in known:
                raise ValueError(
                    f"The pedigree's {column!r} holds {parent!r}, which has no row and is the "
                    "usual code of an unknown parent: write unknown parents as missing values, "
                    f"frame.replace({{{column!r}: {{{parent!r}: None}}}})."
                )


def whole(label: Any) -> Any:
    """Write a number that missing values in its column made a float as the integer it was."""
    return int(label) if isinstance(label, float) and label.is_integer() else label


def _ancestors_first(parents: dict[Hashable, tuple]) -> list:
    """Order individuals so that parents stand before their offspring."""
    order: dict[Hashable, None] = {}
    waiting = list(parents)
    while waiting:
        ready = [i for i in waiting if all(p is None or p in order for p in parents[i])]
        if not ready:
            raise ValueError(
                f"The pedigree goes round in a circle: {waiting[0]!r} or one of its ancestors is "
                "its own ancestor, so mend the parents of "
                f"{', '.join(repr(i) for i in waiting[:5])}{', …' * (len(waiting) > 5)}."
            )
        order |= dict.fromkeys(ready)
        waiting = [i for i in waiting if i not in order]
    return list(order)
