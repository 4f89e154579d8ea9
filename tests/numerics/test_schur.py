"""The two forms of the Schur complement against dense algebra, and when each is taken."""

import numpy as np
import pytest

from bayes_glmm.numerics import cholesky
from bayes_glmm.numerics.cholesky import BlockedCholesky, make_pattern
from bayes_glmm.numerics.covariance import Covariance
from bayes_glmm.numerics.groups import Factor
from bayes_glmm.numerics.schur import DenseSchur, SparseSchur


def sorted_factor(index, Z, levels):
    q = Z.shape[1]
    return Factor(index, Z, levels, Covariance(tuple((d,) for d in range(q))))


def nested(rng, regions=6, towns=15, houses=4, rows=2, q=1):
    """Houses in towns in regions; ``q`` effects of a town."""
    town_of = np.repeat(np.arange(regions * towns), houses)
    house = np.repeat(np.arange(len(town_of)), rows)
    town = town_of[house]
    Z = np.c_[np.ones(len(house)), rng.normal(size=(len(house), q - 1))]
    ones = np.ones((len(house), 1))
    return [
        sorted_factor(house, ones, len(town_of)),
        sorted_factor(town, Z, regions * towns),
        sorted_factor(town // towns, ones, regions),
    ]


def loosely_crossed(rng, q=1):
    """Pupils who change school once or twice along a ring of 90 schools: some fill, not much."""
    pupils, schools = 400, 90
    home = rng.integers(schools, size=pupils)
    pupil = np.repeat(np.arange(pupils), 3)
    school = (home[pupil] + rng.integers(3, size=len(pupil))) % schools
    shuffle = rng.permutation(schools)  # so that the natural order is a bad one
    Z = np.c_[np.ones(len(pupil)), rng.normal(size=(len(pupil), q - 1))]
    ones = np.ones((len(pupil), 1))
    return [sorted_factor(pupil, ones, pupils), sorted_factor(shuffle[school], Z, schools)]


def crossed(rng):
    """Every pair of a large and a middling factor meets somewhere: a full complement."""
    first, second = np.repeat(np.arange(300), 20), rng.integers(70, size=6000)
    ones = np.ones((6000, 1))
    return [sorted_factor(first, ones, 300), sorted_factor(second, ones, 70)]


def dense_matrix(factors, w, a, c):
    """``I + A'WA`` in the natural order of the effects."""
    parts, low = [], 0
    for k, f in enumerate(factors):
        directions = a if k == 0 else c[low : low + f.q]
        low += f.q if k else 0
        full = np.zeros((len(f.index), f.levels, f.q))
        full[np.arange(len(f.index)), f.index] = directions.T
        parts.append(full.reshape(len(f.index), -1))
    A = np.concatenate(parts, axis=1)
    return np.eye(A.shape[1]) + A.T @ (w[:, None] * A)


@pytest.mark.parametrize("q", [1, 2])
@pytest.mark.parametrize(("make", "kind"), [(nested, SparseSchur), (loosely_crossed, SparseSchur)])
def test_sparse_complement_is_the_dense_one(make, kind, q):
    rng = np.random.default_rng(3)
    factors = make(rng, q=q)
    pattern = make_pattern(factors)
    chol = BlockedCholesky(pattern, factors[0].q)
    assert isinstance(chol.schur, kind)
    n, s = pattern.columns.shape
    w, a, c = rng.uniform(0.1, 2.0, n), rng.normal(size=(1, n)), rng.normal(size=(s, n))
    assert chol.factorise(w, a, c)
    H = dense_matrix(factors, w, a, c)
    np.testing.assert_allclose(chol.log_determinant(), np.linalg.slogdet(H)[1], rtol=1e-12)

    # a solve, mapped to the natural order of the other effects
    right = rng.normal(size=len(H))
    levels = factors[0].levels
    z = np.empty(pattern.size)
    z[pattern.position] = right[levels:]
    x, z = chol.solve(right[:levels, None], z)
    solved = np.linalg.solve(H, right)
    np.testing.assert_allclose(np.r_[x[:, 0], z[pattern.position]], solved, atol=1e-11)

    # R^{-T} R^{-1} = H^{-1}, column by column
    order = np.r_[np.arange(levels), levels + pattern.position]
    root = np.empty_like(H)
    for k, unit in enumerate(np.eye(len(H))):
        x, z = chol.scatter(unit[:levels, None], unit[levels:])
        root[:, k] = np.r_[x[:, 0], z][order]
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(H), atol=1e-11)

    # the selected inverse
    inverse = np.linalg.inv(H)
    chol.select_inverse(a, c)
    np.testing.assert_allclose(chol.first[:, 0, 0], np.diag(inverse)[:levels], rtol=1e-11)
    low = 0
    for f in factors[1:]:
        place = levels + low + np.arange(f.levels * f.q).reshape(f.levels, f.q)
        blocks = inverse[place[:, :, None], place[:, None, :]]
        np.testing.assert_allclose(chol.other_blocks(low, f.levels, f.q), blocks, atol=1e-12)
        low += f.levels * f.q


def test_sparse_and_full_complements_give_the_same_rows(monkeypatch):
    """``h, along, across`` do not depend on how the complement is stored."""
    rng = np.random.default_rng(4)
    factors = loosely_crossed(rng, q=2)
    sparse = make_pattern(factors)
    monkeypatch.setattr(
        cholesky, "choose_order", lambda begins, others, size: (np.arange(size), None)
    )
    full = make_pattern(factors)
    n, s = sparse.columns.shape
    w, a, c = rng.uniform(0.1, 2.0, n), rng.normal(size=(1, n)), rng.normal(size=(s, n))
    found = []
    for pattern, kind in ((sparse, SparseSchur), (full, DenseSchur)):
        chol = BlockedCholesky(pattern, 1)
        assert isinstance(chol.schur, kind)
        assert chol.factorise(w, a, c)
        chol.select_inverse(a, c)
        found.append(np.concatenate([chol.h[None], chol.along, chol.across]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-13)


def test_nested_factors_have_no_fill_and_crossed_ones_are_full():
    rng = np.random.default_rng(5)
    pattern = make_pattern(nested(rng))
    # towns and regions: each town meets itself and its region, nothing else
    assert len(pattern.sparse.rows) == 90 + 90 + 6
    assert make_pattern(crossed(rng)).sparse is None


def test_not_positive_definite_is_told():
    factors = nested(np.random.default_rng(6))
    pattern = make_pattern(factors)
    chol = BlockedCholesky(pattern, 1)
    n, s = pattern.columns.shape
    a, c = np.full((1, n), 0.1), np.full((s, n), 3.0)
    assert not chol.factorise(np.full(n, -0.2), a, c)
    assert chol.factorise(np.full(n, 0.2), a, c)


def test_a_full_matrix_beyond_memory_is_refused_in_words():
    with pytest.raises(MemoryError, match="full matrix of order 50,000"):
        DenseSchur(50_000)


def test_empty_complement():
    """One factor alone leaves nothing."""
    schur = DenseSchur(0)
    schur.clear()
    assert schur.factorise()
    assert schur.log_root() == 0.0
    assert schur.solve(np.zeros(0)).size == 0
