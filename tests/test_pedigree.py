"""Relationship matrices, against a printed example and against genes dropped down a pedigree."""

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg

# Mrode (2014), Linear Models for the Prediction of Animal Breeding Values, example 2.1
MRODE = pd.DataFrame({"individual": [3, 4, 5, 6], "sire": [1, 1, 4, 5], "dam": [2, None, 3, 2]})
PRINTED = np.array(
    [
        [1.0, 0.0, 0.5, 0.5, 0.5, 0.25],
        [0.0, 1.0, 0.5, 0.0, 0.25, 0.625],
        [0.5, 0.5, 1.0, 0.25, 0.625, 0.5625],
        [0.5, 0.0, 0.25, 1.0, 0.625, 0.3125],
        [0.5, 0.25, 0.625, 0.625, 1.125, 0.6875],
        [0.25, 0.625, 0.5625, 0.3125, 0.6875, 1.125],
    ]
)


def test_the_printed_example():
    A = bg.relationship_matrix(MRODE)
    order = [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(A.loc[order, order], PRINTED)


def test_rows_may_come_in_any_order():
    A = bg.relationship_matrix(MRODE.iloc[::-1])
    order = [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(A.loc[order, order], PRINTED)


def test_against_genes_dropped_down_the_pedigree():
    """``a_ij`` is twice the chance that genes drawn of i and j are copies of one founder's."""
    rng = np.random.default_rng(1)
    pedigree = {
        "a": (),
        "b": (),
        "c": ("a", "b"),
        "d": ("a", "c"),
        "e": ("d", "c"),
        "f": ("e", "a"),
    }
    drops = 100_000
    genes = {}
    for k, (name, parents) in enumerate(pedigree.items()):
        own = np.tile([2 * k, 2 * k + 1], (drops, 1))  # new genes of a founder
        for side, parent in enumerate(parents):
            pick = rng.integers(0, 2, drops)
            own[:, side] = genes[parent][np.arange(drops), pick]
        genes[name] = own
    frame = pd.DataFrame(
        [(n, *p) for n, p in pedigree.items() if p], columns=["who", "father", "mother"]
    )
    A = bg.relationship_matrix(frame, individual="who", sire="father", dam="mother")
    for i in pedigree:
        for j in pedigree:
            same = (genes[i][:, :, None] == genes[j][:, None, :]).mean(axis=(1, 2))
            error = 2.0 * same.std() / np.sqrt(drops)
            assert abs(2.0 * same.mean() - A.loc[i, j]) <= 4.5 * error + 1e-12, (i, j)


def test_sires_alone():
    A = bg.relationship_matrix({"individual": ["s", "t"], "sire": ["f", "f"]}, dam=None)
    assert A.loc["s", "t"] == 0.25 and A.loc["s", "f"] == 0.5 and A.loc["s", "s"] == 1.0


@pytest.mark.parametrize(
    ("pedigree", "words"),
    [
        ({"individual": [1], "sire": [2]}, "no column 'dam'"),
        ({"individual": [1, 1], "sire": [2, 3], "dam": [4, 4]}, "1 has two rows"),
        ({"individual": [1, None], "sire": [2, 3], "dam": [4, 4]}, "without a name"),
        ({"individual": [1, 2], "sire": [2, 1], "dam": [None, None]}, "its own ancestor"),
        ({"individual": [1, 2], "sire": [0, 0], "dam": [0, 1]}, "'sire' holds 0, .* unknown"),
        ({"individual": ["a"], "sire": [None], "dam": [""]}, "'dam' holds '', .* unknown"),
    ],
)
def test_pedigrees_that_cannot_be(pedigree, words):
    with pytest.raises(ValueError, match=words):
        bg.relationship_matrix(pedigree)
