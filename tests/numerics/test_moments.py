"""The starting values from moments: unbiased, and exact in complete balanced designs."""

from types import SimpleNamespace

import numpy as np

import bayes_glmm as bg
from bayes_glmm.frequentist.lmm_search import LinearSearch
from bayes_glmm.numerics.moments import moment_variances
from bayes_glmm.numerics.standardise import standardise

N = 60


def factor(rng, levels: int, q: int) -> SimpleNamespace:
    index = rng.permutation(np.r_[np.arange(levels), rng.integers(0, levels, N - levels)])
    return SimpleNamespace(index=index, Z=rng.normal(size=(N, q)), n_levels=levels)


def test_unbiased_whatever_the_columns_and_coefficients():
    # what is estimated is linear in yy', so the estimates from the columns of a root of E[yy'],
    # added up, are the expectation; beta shifts nothing, which a last column shows
    rng = np.random.default_rng(1)
    effects = [factor(rng, 12, 2), factor(rng, 5, 1)]
    X = np.c_[np.ones(N), rng.normal(size=(N, 2))]
    variances = np.array([0.7, 0.2, 1.5, 0.9])
    columns = [(e, a) for e in effects for a in range(e.Z.shape[1])]
    V = variances[-1] * np.eye(N)
    for v, (e, a) in zip(variances, columns, strict=False):
        V += v * np.outer(e.Z[:, a], e.Z[:, a]) * (e.index[:, None] == e.index)
    Q = standardise(X).columns
    rows = [*np.linalg.cholesky(V).T, X @ rng.normal(size=3)]
    found = np.sum([moment_variances(row, Q, effects) for row in rows], axis=0)
    # rounding: sums of some 10^4 products of order one
    np.testing.assert_allclose(found, variances, rtol=1e-9)


def test_they_are_the_reml_estimates_of_a_complete_balanced_design():
    # every plate has every sample once: analysis of variance is REML (Searle et al. 1992, 4.7)
    model = bg.GLMM(
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        bg.load_dataset("penicillin"),
        family="gaussian",
    )
    search = LinearSearch.of(model, reml=True)
    start = search.problem.likely_theta()
    best = search.maximise()
    # the search ends within about 1e-8 standard errors of the maximum, which are of order one
    np.testing.assert_allclose(np.abs(best.x), start, rtol=1e-6)


def test_a_guess_is_never_zero_nor_far_from_usual():
    rng = np.random.default_rng(2)
    index = np.repeat(np.arange(10), 6)
    y = np.tile(rng.normal(size=6), 10)  # level means all alike: the estimate is negative
    data = {"y": y, "g": index}
    guess = LinearSearch.of(
        bg.GLMM("y ~ 1 + (1 | g)", data, family="gaussian"), reml=True
    ).problem.likely_theta()
    np.testing.assert_allclose(guess, [0.1])
