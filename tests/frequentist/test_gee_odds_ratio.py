"""Odds-ratio GEE and alternating logistic regressions against ordgee, brute force, simulation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import root_scalar

import bayes_glmm as bg
from bayes_glmm.frequentist.gee.odds_ratio import plackett
from bayes_glmm.frequentist.gee.pose import pose


@pytest.fixture(scope="module")
def ohio():
    return bg.GLMM("resp ~ age * smoke + (1 | id)", bg.load_dataset("ohio"), family="bernoulli")


@pytest.mark.parametrize("alpha", [-6.0, -0.4, 0.0, 1e-9, 2.0, 9.0])
@pytest.mark.parametrize(("mu1", "mu2"), [(0.5, 0.5), (0.03, 0.8), (0.97, 0.9), (0.2, 0.001)])
def test_plackett_has_the_margins_and_the_odds_ratio(mu1, mu2, alpha):
    one, two = np.array([mu1]), np.array([mu2])
    pair = plackett(one, two, np.array([alpha]))
    assert pair.p11 + pair.p10 == pytest.approx(mu1) and pair.p11 + pair.p01 == pytest.approx(mu2)
    assert sum(pair[:4]) == pytest.approx(1) and min(pair[:4]) > 0
    ratio = np.log(pair.p11 * pair.p00 / (pair.p10 * pair.p01))
    # cells of 1e-6 are differences of numbers near 1
    assert ratio == pytest.approx(alpha, abs=1e-7)
    step = 1e-5
    up, down = (plackett(one, two, np.array([alpha + s])).p11 for s in (step, -step))
    # rounding of p11 is 1e-16, over 2e-5
    assert pair.by_alpha == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-10)


def test_ordgee(ohio):
    """geepack::ordgee solves another equation for alpha (Heagerty & Zeger 1996), near to ours."""
    path = Path(__file__).parents[1] / "reference" / "gee.json"
    theirs = json.loads(path.read_text())["ordgee"]
    fit = ohio.fit(bg.GEE("log-odds", association="alternating"))
    np.testing.assert_allclose(fit.beta, theirs["beta"], rtol=1e-4)
    apart = fit.details["alpha"][0] - theirs["alpha"]
    assert abs(apart) < 1e-3 * theirs["alpha_se"]
    # its robust covariance of both takes beta and alpha together in another way
    np.testing.assert_allclose(fit.se("robust"), theirs["se"], rtol=2e-3)
    assert fit.details["alpha_std_error"][0] == pytest.approx(theirs["alpha_se"], rel=1e-2)


def joint(mu1, mu2, psi) -> float:
    """P(1, 1) by root finding."""
    if psi == 1:
        return mu1 * mu2
    low, high = max(0, mu1 + mu2 - 1), min(mu1, mu2)
    edge = 1e-14 * (high - low)
    return root_scalar(
        lambda p: np.log(p * (1 - mu1 - mu2 + p)) - np.log(psi * (mu1 - p) * (mu2 - p)),
        bracket=(low + edge, high - edge),
        xtol=1e-16,
    ).root


class Dense:
    """The stacked equations of beta and alpha, written pair by pair and cluster by cluster."""

    def __init__(self, frame, association, kinds):
        frame = frame.sort_values(["g", "w"])
        self.association, self.kinds = association, kinds
        self.clusters = [
            (np.c_[np.ones(len(rows)), rows["x"]], rows["y"].to_numpy(), rows["w"].to_numpy())
            for _, rows in frame.groupby("g")
        ]

    def means(self, X, beta):
        return 1 / (1 + np.exp(-(X @ beta)))

    def cells(self, mu, wave, alpha):
        for j in range(len(mu)):
            for k in range(j + 1, len(mu)):
                kind = min(wave[k] - wave[j], self.kinds) - 1
                yield j, k, kind, joint(mu[j], mu[k], np.exp(alpha[kind]))

    def scores(self, beta, alpha):
        """Each cluster's part of the equations, shape ``(K, 2 + kinds)``."""
        found = []
        for X, y, wave in self.clusters:
            mu = self.means(X, beta)
            V = np.diag(mu * (1 - mu))
            association = np.zeros(self.kinds)
            for j, k, kind, p in self.cells(mu, wave, alpha):
                V[j, k] = V[k, j] = p - mu[j] * mu[k]
                shift = np.eye(self.kinds)[kind] * 1e-5
                (_, _, _, up), (_, _, _, down) = (
                    next(c for c in self.cells(mu, wave, alpha + s) if c[:2] == (j, k))
                    for s in (shift, -shift)
                )
                by_alpha = (up - down) / 2e-5
                if self.association == "moment":
                    mean, of, slope = p, y[j] * y[k], by_alpha
                elif y[k] == 1:
                    mean, of, slope = p / mu[k], y[j], by_alpha / mu[k]
                else:
                    mean, of, slope = (mu[j] - p) / (1 - mu[k]), y[j], -by_alpha / (1 - mu[k])
                association[kind] += slope * (of - mean) / (mean * (1 - mean))
            D = (mu * (1 - mu))[:, None] * X
            found.append(np.r_[D.T @ np.linalg.solve(V, y - mu), association])
        return np.array(found)


def binary_frame(seed, clusters, waves=4, alpha=1.2):
    """Clusters of 1 to ``waves`` binary responses with a common odds ratio of pairs.

    By Qaqish's (2003) conditional linear family with the pairs' covariances: the means and
    pairwise odds ratios are exact.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for g in range(clusters):
        size = rng.integers(1, waves + 1)
        wave = np.sort(rng.choice(waves, size, replace=False))
        x = rng.normal(size=size)
        mu = 1 / (1 + np.exp(-(-0.3 + 0.5 * x)))
        y = np.zeros(size)
        for i in range(size):
            before = np.arange(i)
            V = np.diag(mu[:i] * (1 - mu[:i]))
            c = np.zeros(i)
            for j in before:
                c[j] = joint(mu[i], mu[j], np.exp(alpha)) - mu[i] * mu[j]
                for k in before[:j]:
                    V[j, k] = V[k, j] = joint(mu[j], mu[k], np.exp(alpha)) - mu[j] * mu[k]
            given = mu[i] + (c @ np.linalg.solve(V, y[:i] - mu[:i]) if i else 0)
            assert 0 <= given <= 1
            y[i] = rng.random() < given
        rows += [(f"c{g}", *row) for row in zip(wave, x, y, strict=True)]
    return pd.DataFrame(rows, columns=["g", "w", "x", "y"]).sample(frac=1, random_state=1)


@pytest.mark.parametrize("association", ["moment", "alternating"])
@pytest.mark.parametrize("corr", ["log-odds", "log-odds-lag"])
def test_dense_algebra(corr, association):
    frame = binary_frame(5, 80, waves=3, alpha=0.8)
    model = bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli")
    fit = model.fit(bg.GEE(corr, association=association, time="w"))
    assert fit.converged and fit.details["scale"] == 1
    alpha = fit.details["alpha"]
    dense = Dense(frame, association, len(alpha))
    scores = dense.scores(fit.beta, alpha)
    # differences of step 1e-5 inside, a last step of 1e-8 standard errors
    size = np.sqrt(np.sum(scores**2, axis=0))
    np.testing.assert_allclose(scores.sum(axis=0) / size, 0, atol=1e-5)
    beta_scores = scores[:, :2]
    bread = sum(
        (D := (mu * (1 - mu))[:, None] * X).T @ np.linalg.solve(covariance(dense, mu, w, alpha), D)
        for X, _, w in dense.clusters
        for mu in [dense.means(X, fit.beta)]
    )
    inverse = np.linalg.inv(bread)
    robust = inverse @ beta_scores.T @ beta_scores @ inverse
    np.testing.assert_allclose(fit.vcov("robust"), robust, rtol=1e-6)


def covariance(dense, mu, wave, alpha):
    V = np.diag(mu * (1 - mu))
    for j, k, _, p in dense.cells(mu, wave, alpha):
        V[j, k] = V[k, j] = p - mu[j] * mu[k]
    return V


@pytest.mark.slow
@pytest.mark.parametrize("association", ["moment", "alternating"])
def test_known_odds_ratio_is_found_with_its_standard_error(association):
    """Over 200 data sets of 150 clusters: no bias, and standard errors as large as the spread.

    The mean of 200 estimates has an error of SD/sqrt(200), their SD one of 5 %.
    """
    found, errors = [], []
    for seed in range(200):
        model = bg.GLMM("y ~ x + (1 | g)", binary_frame(seed, 150), family="bernoulli")
        fit = model.fit(bg.GEE("log-odds", association=association, time="w"))
        assert fit.converged
        found.append([*fit.beta, *fit.details["alpha"]])
        errors.append([*fit.se("robust"), *fit.details["alpha_std_error"]])
    found, errors = np.array(found), np.array(errors)
    spread = found.std(axis=0, ddof=1)
    apart = (found.mean(axis=0) - [-0.3, 0.5, 1.2]) / (spread / np.sqrt(200))
    assert np.max(np.abs(apart)) < 4
    np.testing.assert_allclose(errors.mean(axis=0), spread, rtol=0.2)


@pytest.mark.parametrize("association", ["moment", "alternating"])
def test_expected_derivatives_of_the_equation_of_alpha(association):
    """Differentiate its expectation, the four outcomes of a pair weighted by their probability."""
    method = bg.GEE("log-odds", association=association)
    frame = pd.DataFrame({
        "y": [1, 1, 1, 0, 0, 1, 0, 0], "x": [0.3, -0.9] * 4, "g": np.repeat(np.arange(4), 2)
    })  # fmt: skip
    problem = pose(bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli"), method)
    pairs: Any = problem.association
    (block,) = pairs.blocks
    beta, alpha = np.array([-0.4, 0.7]), np.array([1.3])
    mu = pairs.state(beta, alpha).mu
    probability = np.ravel(plackett(mu[:1], mu[1:2], alpha)[:4])

    def expected(at):
        state = pairs.state(at[:2], at[2:])
        return probability @ pairs.terms(state, at[2:], block).score[:, 0]

    at = np.r_[beta, alpha]
    assert expected(at) == pytest.approx(0, abs=1e-14)
    step = 1e-5
    slopes = [(expected(at + step * e) - expected(at - step * e)) / (2 * step) for e in np.eye(3)]
    terms = pairs.terms(pairs.state(beta, alpha), alpha, block)
    by_row = np.array([probability @ by[:, 0] for by in (terms.by_first, terms.by_second)])
    found = [*(problem.rows.X[:, :2] @ by_row), probability @ terms.information[:, 0]]
    # of pairs' likelihoods the derivative in beta is zero: the odds ratio is orthogonal to means
    np.testing.assert_allclose(found, -np.array(slopes), rtol=1e-7, atol=1e-10)


def test_classes_of_lags(ohio):
    fit = ohio.fit(bg.GEE("log-odds-lag", m=3))
    assert fit.details["alpha_names"] == ["lag 1", "lag 2", "lag 3 or more"]
    assert len(fit.details["alpha_std_error"]) == 3
    assert ohio.fit(bg.GEE("log-odds")).details["alpha_names"] == ["all pairs"]
    assert fit.label == "GEE, log-odds-lag, m=3"


def test_independent_pairs_have_the_independence_estimate():
    frame = pd.DataFrame({"y": [1, 1, 0, 0, 1, 0, 1, 0], "g": np.repeat(np.arange(4), 2)})
    model = bg.GLMM("y ~ 1 + (1 | g)", frame, family="bernoulli")
    fit = model.fit(bg.GEE("log-odds"))
    np.testing.assert_allclose(fit.details["alpha"], 0, atol=1e-8)
    plain = model.fit(bg.GEE("independence"))
    np.testing.assert_allclose(fit.se("robust"), plain.se("robust"), rtol=1e-8)


def test_pairs_that_always_agree_do_not_converge():
    frame = pd.DataFrame({"y": [1, 1, 0, 0] * 5, "g": np.repeat(np.arange(10), 2)})
    fit = bg.GLMM("y ~ 1 + (1 | g)", frame, family="bernoulli").fit(bg.GEE("log-odds"))
    assert not fit.converged and "not-converged" in [m.code for m in fit.messages]


def test_saved_fits_keep_the_odds_ratios(ohio, tmp_path):
    fit = ohio.fit(bg.GEE("log-odds-lag", m=2))
    again = bg.load_fit(fit.save(tmp_path / "fit"))
    assert list(again.details["alpha_names"]) == fit.details["alpha_names"]


def test_refusals():
    epil, cbpp = bg.load_dataset("epil"), bg.load_dataset("cbpp")
    with pytest.raises(ValueError, match=r"binary responses, got family='poisson'.*exchangeable"):
        bg.GLMM("y ~ trt + (1 | subject)", epil, family="poisson").fit(bg.GEE("log-odds"))
    counts = bg.GLMM(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, family="binomial"
    )
    with pytest.raises(ValueError, match=r"several trials a row.*one row for each trial"):
        counts.fit(bg.GEE("log-odds"))
    ohio = bg.GLMM("resp ~ age + (1 | id)", bg.load_dataset("ohio"), family="bernoulli")
    with pytest.raises(ValueError, match="no pairs of rows within a cluster 4 waves apart"):
        ohio.fit(bg.GEE("log-odds-lag", m=5))
    with pytest.raises(ValueError, match="cluster 4 or more waves apart"):
        ohio.fit(bg.GEE("log-odds-lag", m=4))
