"""Integrals at many parameter vectors, and draws of one effect, against sums over a grid."""

import numpy as np
import pytest
from scipy import special, stats

from bayes_glmm.numerics.bind import bind_numba, bind_numpy
from bayes_glmm.numerics.covariance import Covariance
from bayes_glmm.numerics.draws import ManyDraws
from bayes_glmm.numerics.groups import Factor, Rows, alike_levels

from .problems import pair


def repeating(levels: int = 40, seed: int = 4):
    """Groups of zero to three binary rows that often agree, in another order of their rows."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, levels)
    sizes[5] = 0
    index = np.repeat(np.arange(levels), sizes)
    n = len(index)
    X = np.c_[np.ones(n), rng.integers(0, 2, n)]
    y = rng.integers(0, 2, n).astype(float)
    factor = Factor(index, np.ones((n, 1)), levels, Covariance(((0,),)))
    return Rows(y, np.ones(n), np.zeros(n), X), factor


def arguments(draws: int):
    rng = np.random.default_rng(1)
    return rng.normal(size=(draws, 2)), rng.uniform(0.2, 3.0, (draws, 1, 1)), np.ones(draws)


def test_alike_levels_have_the_same_rows():
    rows, factor = repeating()
    alike = alike_levels(rows, factor)
    table, kept = np.c_[rows.y, rows.X], np.c_[alike.rows.y, alike.rows.X]
    assert alike.factor.levels < factor.levels
    for level, of in enumerate(alike.of):
        ours, theirs = table[factor.index == level], kept[alike.factor.index == of]
        assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))
    sets = [tuple(sorted(map(tuple, kept[alike.factor.index == k]))) for k in set(alike.of)]
    assert len(set(sets)) == alike.factor.levels
    members, starts = alike.members()
    for k in range(alike.factor.levels):
        assert set(members[starts[k] : starts[k + 1]]) == set(np.flatnonzero(alike.of == k))


def test_rows_that_differ_in_one_column_are_not_alike():
    rows, factor = repeating()
    for name in ("y", "trials", "offset"):
        moved = np.arange(len(rows.y), dtype=float)
        assert alike_levels(Rows(**(vars(rows) | {name: moved})), factor).factor.levels == 40
    other = Factor(
        factor.index, np.arange(len(rows.y), dtype=float)[:, None], 40, factor.covariance
    )
    assert alike_levels(rows, other).factor.levels == 40


def test_integrals_of_alike_levels_are_those_of_each():
    rows, factor = repeating()
    blocks = bind_numba(*pair("bernoulli-logit"))
    given = blocks, rows, factor, 15, np.zeros((40, 1))
    plain, shared = ManyDraws(*given), ManyDraws(*given, alike=alike_levels(rows, factor))
    found = [many.by_group(*arguments(30)) for many in (plain, shared)]
    # the same sums, rows in another order
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12, atol=1e-13)
    added = np.linspace(-1.0, 1.0, len(rows.y))

    def others(a, b):
        return np.tile(added, (b - a, 1))

    # what other factors add makes alike levels differ
    found = [many.by_group(*arguments(30), others) for many in (plain, shared)]
    np.testing.assert_array_equal(found[0], found[1])


def grid_cdf(bound, y, eta0, scale):
    """Distribution function of ``u`` given one group's rows, by the trapezoidal rule."""
    u = np.linspace(-12.0, 12.0, 4801)
    inside = bound.log_density(y[:, None], np.ones((len(y), 1)), eta0[:, None] + scale * u)[0]
    weight = special.softmax(inside.sum(axis=0) - 0.5 * u**2)
    return lambda x: np.interp(x, u, np.cumsum(weight) - 0.5 * weight)


@pytest.mark.parametrize("scale", [0.05, 1.0, 6.0])
@pytest.mark.parametrize("name", ["bernoulli-logit", "poisson-log"])
def test_one_effect_by_rejection_from_the_hull(name, scale):
    """Alike levels get draws of their own, with the distribution that a grid gives."""
    family, link = pair(name)
    y = np.repeat([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], [6, 2, 2], axis=0)
    if name.startswith("poisson"):
        y *= 40.0  # far more informative than the prior
    levels, draws = len(y), 2000
    index = np.repeat(np.arange(levels), 3)
    factor = Factor(index, np.ones((3 * levels, 1)), levels, Covariance(((0,),)))
    rows = Rows(y.ravel(), np.ones(3 * levels), np.zeros(3 * levels), np.ones((3 * levels, 1)))
    many = ManyDraws(
        bind_numba(family, link), rows, factor, 15, np.zeros((levels, 1)),
        alike=alike_levels(rows, factor),
    )  # fmt: skip
    assert many.sets.factor.levels == 3
    given = np.full((draws, 1), 0.3), np.full((draws, 1, 1), scale), np.ones(draws)
    u = many.effects(*given, np.random.SeedSequence(2), True)[..., 0] / scale
    for group in (0, 6, 8):
        cdf = grid_cdf(bind_numpy(family, link), y[group], np.full(3, 0.3), scale)
        same = u[:, (y == y[group]).all(axis=1)]
        # of 18 tests
        assert stats.kstest(same.ravel(), cdf).pvalue > 1e-4
        assert abs(np.corrcoef(same[:, :2].T)[0, 1]) < 4.5 / np.sqrt(draws)
