"""ML finds the parameters that data were simulated from: every family with every link."""

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.families import FAMILIES, LINKS

pytestmark = pytest.mark.slow

SEEDS, LEVELS, PER = 20, 60, 8
DISPERSION = {
    "gaussian": 0.6,
    "gamma": 0.4,
    "negative_binomial": 3.0,
    "negative_binomial1": 0.8,
    "beta_binomial": 6.0,
}
# beta and the SD of the effects: means well inside the link's range
TRUTH = {
    "sqrt": ((4.0, 0.4), 0.5),
    "inverse": ((4.0, 0.4), 0.5),
    "log": ((1.0, 0.4), 0.5),
}
USUAL = ((-0.2, 0.5), 0.7)
PAIRS = [(f.name, link) for f in FAMILIES.values() for link in f.links]
# formula's random part, and its SDs; correlations are .4
STRUCTURES = {
    "slopes": ("(x | g)", (0.7, 0.5)),
    "nested": ("(1 | a) + (1 | a:g)", (0.6, 0.5)),
    "crossed": ("(1 | g) + (1 | h)", (0.6, 0.5)),
}


def data_of(family, link, beta, effects, dispersion, rng, index):
    """A frame with the response of ``eta = X beta + effects(x)``."""
    n = len(index)
    x = rng.normal(size=n)
    eta = beta[0] + beta[1] * x + effects(x)
    trials = np.full(n, 10.0) if family.has_trials else np.ones(n)
    y = family.simulate(rng, link.inverse(eta)[0], trials, dispersion)
    return pd.DataFrame({"y": y, "n": trials.astype(int), "x": x, "g": index.astype(str)})


def errors(model, nodes, beta, sds, dispersion):
    """Errors of coefficients, of log SDs above zero and of the log dispersion, in SEs."""
    fit = model.fit(bg.ML(nodes=nodes))
    assert fit.converged
    z = list((fit.beta - beta) / fit.se())
    kinds = [c.kind for c in fit.variance.components]
    true = iter(sds)
    for kind, value, error in zip(
        kinds, fit.variance.estimate, fit.variance.std_error, strict=True
    ):
        truth = {"sd": lambda: next(true), "dispersion": lambda: dispersion}.get(kind, lambda: 0)()
        if kind != "corr":
            z.append(np.log(value / truth) * value / error if value > 0 else np.nan)
    return z


def check(z):
    """The mean error of each parameter over seeds is zero within chance and the ML bias.

    Each error has about unit SD, its mean one of 1 / sqrt(20); 4 of those leave a false alarm
    in 16,000. The ML SD of 60 levels is low by about half a degree of freedom a coefficient,
    1 / (2 * 60) relative, or a tenth of its SE of 1 / sqrt(2 * 60): .3 is allowed for that and
    for the curvature of the logarithm.

    Single errors are to be within 4 SE. Two in the 2,000 of this module are not, by chance: both
    log SDs, 4.5 (gaussian, inverse link) and 4.3 (gamma, log link, whose 60 effects were drawn
    with an SD of .38 where .5 is true, and where glmmTMB gives the same .31).
    """
    z = np.array(z)
    assert np.sum(np.abs(z) > 4) <= 1 and np.nanmax(np.abs(z)) < 5
    centre = np.nanmean(z, axis=0)
    assert np.all(np.abs(centre) < 4 / np.sqrt(len(z)) + 0.3), centre


@pytest.mark.parametrize(("family", "link"), PAIRS)
def test_one_intercept(family, link):
    beta, sd = TRUTH.get(link, USUAL)
    dispersion, found = DISPERSION.get(family, 1.0), []
    family, link = FAMILIES[family], LINKS[link]
    index = np.repeat(np.arange(LEVELS), PER)
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, 7])
        b = rng.normal(scale=sd, size=LEVELS)
        frame = data_of(family, link, beta, lambda x, b=b: b[index], dispersion, rng, index)
        response = "p(y, n)" if family.has_trials else "y"
        model = bg.GLMM(f"{response} ~ x + (1 | g)", frame, family=family, link=link)
        found.append(errors(model, 9, beta, [sd], dispersion))
    check(found)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("family", ["binomial", "poisson"])
def test_structures(family, structure):
    formula, sds = STRUCTURES[structure]
    family, found = FAMILIES[family], []
    link = LINKS[family.default_link]
    beta, _ = TRUTH.get(link.name, USUAL)
    index = np.repeat(np.arange(LEVELS), PER)
    other = np.tile(np.arange(30), LEVELS * PER // 30)
    outer = index // 3
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, 8])
        inner, rest = rng.normal(size=(2, LEVELS))
        if structure == "slopes":
            slope = sds[1] * (0.4 * inner + np.sqrt(1 - 0.16) * rest)

            def effects(x, inner=inner, slope=slope):
                return sds[0] * inner[index] + slope[index] * x

        else:
            # components stand in the formula's order: the outer factor first, or g then h
            first, second = (outer, index) if structure == "nested" else (index, other)

            def effects(x, inner=inner, rest=rest, first=first, second=second):
                return sds[0] * inner[first] + sds[1] * rest[second]

        frame = data_of(family, link, beta, effects, 1.0, rng, index)
        frame["h"], frame["a"] = other.astype(str), outer.astype(str)
        response = "p(y, n)" if family.has_trials else "y"
        model = bg.GLMM(f"{response} ~ x + {formula}", frame, family=family, link=link)
        # ten trials a row, or counts of about three, eight a level: Laplace is near enough
        found.append(errors(model, 9 if structure == "slopes" else 1, beta, sds, 1.0))
    check(found)
