"""Small data sets with grouping factors, for the tests of the integrals."""

import numpy as np

from bayes_glmm.families import FAMILIES, LINKS
from bayes_glmm.numerics.covariance import Covariance
from bayes_glmm.numerics.groups import Factor, Rows


def pair(name):
    """``"binomial-logit"`` to family and link."""
    family, link = name.split("-")
    return FAMILIES[family], LINKS[link]


def responses(family, link, eta, trials, rng):
    """Responses drawn from the family at ``eta``."""
    return family.simulate(rng, link.inverse(eta)[0], trials, 0.8)


def one_factor(name, q=1, levels=9, per=4, seed=1, blocks=None):
    """Rows sorted by one factor with ``q`` effects."""
    family, link = pair(name)
    rng = np.random.default_rng(seed)
    n = levels * per
    index = np.repeat(np.arange(levels), per)
    X = np.c_[np.ones(n), rng.normal(size=n)]
    Z = np.c_[np.ones(n), rng.normal(size=(n, 2))][:, :q]
    trials = rng.integers(1, 6, n).astype(float) if family.has_trials else np.ones(n)
    offset = rng.normal(scale=0.1, size=n)
    eta = offset + X @ [0.2, -0.4] + (Z * rng.normal(scale=0.7, size=(levels, q))[index]).sum(1)
    y = responses(family, link, eta, trials, rng)
    covariance = Covariance(blocks or (tuple(range(q)),))
    return Rows(y, trials, offset, X), [Factor(index, Z, levels, covariance)]


def several_factors(name, structure, seed=2, n=90):
    """Rows over several factors: "crossed", "nested", "three", "vector"."""
    family, link = pair(name)
    rng = np.random.default_rng(seed)
    inner = rng.permutation(np.r_[np.arange(18), rng.integers(0, 18, n - 18)])
    middle = inner // 3 if structure == "nested" else rng.integers(0, 6, n)
    ones, slope = np.ones((n, 1)), rng.normal(size=(n, 1))
    scalar, both = Covariance(((0,),)), Covariance(((0, 1),))
    factors = {
        "crossed": [Factor(middle, ones, 6, scalar), Factor(inner, ones, 18, scalar)],
        "nested": [Factor(middle, ones, 6, scalar), Factor(inner, ones, 18, scalar)],
        "three": [
            Factor(inner, ones, 18, scalar),
            Factor(np.arange(n), ones, n, scalar),
            Factor(middle, ones, 6, scalar),
        ],
        "vector": [
            Factor(middle, np.c_[ones, slope], 6, both),
            Factor(inner, np.c_[ones, slope], 18, Covariance(((0,), (1,)))),
        ],
    }[structure]
    X = np.c_[np.ones(n), slope]
    trials = rng.integers(1, 6, n).astype(float) if family.has_trials else np.ones(n)
    eta = X @ [0.2, -0.3]
    for f in factors:
        eta = eta + (f.Z * rng.normal(scale=0.6, size=(f.levels, f.q))[f.index]).sum(axis=1)
    y = responses(family, link, eta, trials, rng)
    return Rows(y, trials, np.zeros(n), X), factors


def nested(name, q=1, p=1, sizes=((3, 2), (4, 3), (1,)), seed=3, labels=True):
    """Rows over two nested factors, the outer one first; ``sizes`` of inner levels by group.

    With ``labels`` the rows and the labels of the levels are in no order.
    """
    family, link = pair(name)
    rng = np.random.default_rng(seed)
    outer = np.repeat(np.arange(len(sizes)), [sum(s) for s in sizes])
    inner = np.repeat(np.arange(sum(map(len, sizes))), [k for s in sizes for k in s])
    n, G, M = len(outer), len(sizes), inner[-1] + 1
    if labels:
        order = rng.permutation(n)
        outer = rng.permutation(G)[outer][order]
        inner = rng.permutation(M)[inner][order]
    X = np.c_[np.ones(n), rng.normal(size=n)]
    Z_outer = np.c_[np.ones(n), rng.normal(size=n)][:, :p]
    factors = [
        Factor(outer, Z_outer, G, Covariance((tuple(range(p)),))),
        Factor(inner, X[:, :q].copy(), M, Covariance((tuple(range(q)),))),
    ]
    trials = rng.integers(1, 6, n).astype(float) if family.has_trials else np.ones(n)
    offset = rng.normal(scale=0.1, size=n)
    eta = offset + X @ [0.2, -0.4]
    for f in factors:
        eta = eta + (f.Z * rng.normal(scale=0.7, size=(f.levels, f.q))[f.index]).sum(axis=1)
    return Rows(responses(family, link, eta, trials, rng), trials, offset, X), factors


def central_differences(function, x, h=1e-4):
    """Five-point differences of a function: error ``h^4 / 30`` times its fifth derivative."""
    out = []
    for e in np.eye(len(x)) * h:
        values = [function(x + k * e) for k in (-2, -1, 1, 2)]
        out.append((values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h))
    return np.array(out)
