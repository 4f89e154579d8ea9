"""Data on which samplers go wrong: NUTS on the graph against the integrated posterior.

Two roads to one density: PyMC's graph with every effect sampled, and quadrature over them. Means
agree within 4 Monte Carlo standard errors of their difference, over up to 41 parameters a chance of
.3 % that one is outside. With an effective size of at least 1,000 in each the SD of a normal
parameter is known to 1 / sqrt(2 * 1000) = 2.2 %, the ratio of two to 3.2 %; the SDs of heavy
tails (separation, three groups) to about twice that, so that 8 % is 2.5 and more of its errors
where the size is the least allowed, and 4 where it is usual.
"""

from typing import Any

import arviz_stats.base
import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg


def binary(rng, groups, each, sd, intercept=0.0):
    g = np.repeat(np.arange(groups), each)
    x = rng.normal(size=len(g))
    eta = intercept + 0.5 * x + sd * rng.normal(size=groups)[g]
    frame = {"y": (rng.random(len(g)) < 1 / (1 + np.exp(-eta))).astype(int), "x": x}
    return pd.DataFrame({**frame, "g": [f"g{k}" for k in g]})


def separated():
    """A group-level covariate that parts the responses."""
    frame = binary(np.random.default_rng(1), 20, 6, 1.0)
    treated = frame["g"].str[1:].astype(int) < 8
    return frame.assign(w=treated.astype(float), y=np.where(treated, 0, frame["y"]))


def all_zero():
    """Most groups have no event."""
    return binary(np.random.default_rng(2), 40, 5, 2.0, intercept=-4.0)


def three_groups():
    return binary(np.random.default_rng(3), 3, 30, 1.0)


def no_variation():
    """The standard deviation is near zero."""
    return binary(np.random.default_rng(4), 30, 8, 0.0)


def one_row_each():
    """400 groups of one count: the effects are overdispersion."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=400)
    y = rng.poisson(np.exp(0.3 + 0.4 * x + 0.7 * rng.normal(size=400)))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{k}" for k in range(400)]})


def many_columns():
    """40 coefficients for 600 rows."""
    frame = binary(np.random.default_rng(6), 30, 20, 1.0)
    columns = np.random.default_rng(7).normal(2.0, 1.0, (600, 38))
    return frame.join(pd.DataFrame(columns, columns=[f"v{k}" for k in range(38)]))


array_stats: Any = vars(arviz_stats.base)["array_stats"]  # its types are not exported

HARD = {
    "separation by group": (separated, "y ~ x + w + (1 | g)", "bernoulli"),
    "all-zero groups": (all_zero, "y ~ x + (1 | g)", "bernoulli"),
    "three groups": (three_groups, "y ~ x + (1 | g)", "bernoulli"),
    "sd near zero": (no_variation, "y ~ x + (1 | g)", "bernoulli"),
    "groups of one": (one_row_each, "y ~ x + (1 | g)", "poisson"),
    "p = 40": (
        many_columns,
        "y ~ x + " + " + ".join(f"v{k}" for k in range(38)) + " + (1 | g)",
        "bernoulli",
    ),
}


def parameters(fit) -> np.ndarray:
    """Coefficients and SD, ``(parameters, chains, draws)``."""
    posterior = fit.draws["posterior"]
    both = [posterior["beta"].to_numpy(), posterior["sd_g"].to_numpy()]
    return np.moveaxis(np.concatenate(both, axis=2), 2, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", HARD)
def test_two_roads_to_one_posterior(name):
    make, formula, family = HARD[name]
    model = bg.GLMM(formula, make(), family=family)
    exact = model.fit(bg.Integrated(draws=4000))
    sampled = model.fit(bg.NUTS(draws=4000, tune=1000, target_accept=0.99))
    assert sampled.diagnostics["rhat"].max() <= 1.01
    assert sampled.details["divergences"] == 0
    axes = {"chain_axis": 0, "draw_axis": 1}
    for mine, theirs in zip(parameters(sampled), parameters(exact), strict=True):
        for draws in (mine, theirs):
            assert array_stats.ess(draws, method="bulk", **axes) > 1000
        error = np.hypot(*(array_stats.mcse(d, method="mean", **axes) for d in (mine, theirs)))
        assert abs(mine.mean() - theirs.mean()) < 4 * error
        assert mine.std() == pytest.approx(theirs.std(), rel=0.08)
