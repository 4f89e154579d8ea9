"""GEE of a conditionally specified model against closed forms, maximum likelihood, simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

import bayes_glmm as bg
from bayes_glmm.frequentist.gee.pose import pose

METHOD = bg.GEE("random-effects")


def frame_of(seed, clusters=80, size=5, sd=0.6, family="poisson"):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(clusters), rng.integers(1, size + 1, clusters))
    x = rng.normal(size=len(g))
    eta = -0.2 + 0.5 * x + sd * rng.normal(size=clusters)[g]
    y = rng.poisson(np.exp(eta)) if family == "poisson" else rng.random(len(g)) < ndtr(eta)
    return pd.DataFrame({"y": y.astype(float), "x": x, "g": g}).sample(frac=1, random_state=1)


class ClosedForm:
    """Counts with a log link, whose moments are known: cluster by cluster."""

    def __init__(self, frame):
        self.clusters = [
            (np.c_[np.ones(len(rows)), rows["x"]], rows["y"].to_numpy())
            for _, rows in frame.groupby("g")
        ]

    def moments(self, X, theta):
        mu = np.exp(X @ theta[:2] + theta[2] / 2)
        C = np.outer(mu, mu) * np.expm1(theta[2])
        return mu, C, np.diag(mu) + C, np.outer(mu, mu) * np.exp(theta[2]) + C

    def score(self, X, theta, mean, products):
        """Equations for a response with this mean and these products of residuals."""
        mu, C, V, by_variance = self.moments(X, theta)
        beta = (mu[:, None] * X).T @ np.linalg.solve(V, mean - mu)
        j, k = np.triu_indices(len(mu), 1)
        weight = by_variance[j, k] / (V[j, j] * V[k, k])
        return np.r_[beta, np.sum(weight * (products(mu)[j, k] - C[j, k]))]

    def scores(self, theta):
        return np.array([
            self.score(X, theta, y, lambda mu, y=y: np.outer(y - mu, y - mu))
            for X, y in self.clusters
        ])  # fmt: skip

    def expected(self, theta, truth):
        """The sum of the equations at ``theta`` if ``truth`` holds."""
        total = 0
        for X, _ in self.clusters:
            mean, C, _, _ = self.moments(X, truth)
            total = total + self.score(
                X, theta, mean, lambda mu, m=mean, C=C: C + np.outer(m - mu, m - mu)
            )
        return total


def test_closed_forms_of_counts():
    frame = frame_of(1)
    fit = bg.GLMM("y ~ x + (1 | g)", frame, family="poisson").fit(METHOD)
    assert fit.converged and fit.variance is not None
    theta = np.r_[fit.beta, fit.details["alpha"]]
    form = ClosedForm(frame)
    scores = form.scores(theta)
    size = np.sqrt(np.sum(scores**2, axis=0))
    np.testing.assert_allclose(scores.sum(axis=0) / size, 0, atol=1e-7)
    step = 1e-6
    J = -np.column_stack(
        [
            (form.expected(theta + step * e, theta) - form.expected(theta - step * e, theta))
            / (2 * step)
            for e in np.eye(3)
        ]
    )
    half = np.linalg.solve(J, scores.T)
    covariance = half @ half.T
    np.testing.assert_allclose(fit.vcov("robust"), covariance[:2, :2], rtol=1e-6)
    sd = np.sqrt(theta[2])
    assert fit.variance.estimate[0] == pytest.approx(sd)
    error = np.sqrt(covariance[2, 2]) / (2 * sd)
    assert fit.variance.std_error[0] == pytest.approx(error, rel=1e-6)
    assert np.sqrt(fit.joint_cov[2, 2]) == pytest.approx(error / sd, rel=1e-6)


def test_means_of_a_probit_model_are_its_closed_form():
    frame = frame_of(2, family="probit")
    model = bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli", link="probit")
    problem = pose(model, METHOD)
    beta, variance = np.array([0.3, -0.8]), 2.2
    state = problem.association.state(beta, np.array([variance]))
    mean = ndtr(beta @ problem.rows.X / np.sqrt(1 + variance))
    # a residual of a binary response tells its mean; 41 nodes integrate this to 1e-7
    found = problem.rows.y - state.r * state.root
    np.testing.assert_allclose(found, mean, atol=1e-6)
    np.testing.assert_allclose(state.root**2, mean * (1 - mean), atol=1e-6)


def test_columns_of_the_random_effect_count():
    """A slope whose variable is 2 everywhere has half the SD of an intercept."""
    frame = frame_of(3).assign(two=2.0)
    one, half = (
        bg.GLMM(f"y ~ x + ({z} | g)", frame, family="poisson").fit(METHOD) for z in ("1", "0 + two")
    )
    np.testing.assert_allclose(half.beta, one.beta, rtol=1e-6)
    np.testing.assert_allclose(half.vcov(), one.vcov(), rtol=1e-5)
    assert half.varcorr()["sd"][0] == pytest.approx(one.varcorr()["sd"][0] / 2, rel=1e-6)


def test_ohio_is_near_maximum_likelihood(reference):
    """Both estimate the same coefficients: a fifth of a standard error apart here."""
    exact = reference("ohio", "exact")
    model = bg.GLMM("resp ~ age * smoke + (1 | id)", bg.load_dataset("ohio"), family="bernoulli")
    fit = model.fit(METHOD)
    ml = np.array([v["est"] for v in exact["fixed"].values()])
    assert np.max(np.abs(fit.beta - ml) / fit.se()) < 0.2
    assert fit.estimand == "conditional"
    assert fit.varcorr()["sd"][0] == pytest.approx(2.166, abs=0.2)
    assert list(fit.vcovs) == ["robust", "naive"] and fit.label == "GEE, random-effects"
    assert {"sd_id[Intercept]"} < set(fit.confint()["term"])
    averaged = model.fit("gee")
    assert np.all(np.abs(fit.beta) > np.abs(averaged.beta))


def test_no_variance_between_clusters():
    frame = frame_of(4, sd=0.0)
    frame["y"] = np.arange(len(frame)) % 2  # as many ones as zeros in every cluster
    frame = frame.sort_values("g").assign(y=np.arange(len(frame)) % 2)
    fit = bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli").fit(METHOD)
    assert fit.varcorr()["sd"][0] == 0 and np.isfinite(fit.se()).all()
    assert "zero-variance" in [m.code for m in fit.messages]
    plain = bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli").fit(bg.GEE("independence"))
    np.testing.assert_allclose(fit.beta, plain.beta, atol=1e-6)
    np.testing.assert_allclose(fit.vcov("robust"), plain.vcov("robust"), rtol=1e-5)


def test_few_clusters_have_t_but_no_correction():
    fit = bg.GLMM(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)",
        bg.load_dataset("cbpp"),
        family="binomial",
    ).fit(METHOD)
    assert fit.interval_kind == "Wald, robust, t with 11 df" and fit.converged


def test_saving(tmp_path):
    fit = bg.GLMM("y ~ x + (1 | g)", frame_of(1), family="poisson").fit(METHOD)
    again = bg.load_fit(fit.save(tmp_path / "fit"))
    pd.testing.assert_frame_equal(again.tidy(), fit.tidy())
    assert again.estimand == "conditional"


@pytest.mark.slow
def test_conditional_coefficients_are_found():
    """Over 200 logistic data sets of 200 clusters: no bias, and honest standard errors.

    The mean of 200 estimates has an error of SD/sqrt(200), their SD one of 5 %; the variance's
    estimate is skewed, so that only beta's is held to four errors.
    """
    found, errors = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        g = np.repeat(np.arange(200), 5)
        x = rng.normal(size=1000)
        eta = -0.5 + 0.8 * x + rng.normal(size=200)[g]
        y = (rng.random(1000) < 1 / (1 + np.exp(-eta))).astype(float)
        frame = pd.DataFrame({"y": y, "x": x, "g": g})
        fit = bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli").fit(METHOD)
        assert fit.converged and fit.variance is not None
        found.append([*fit.beta, fit.variance.estimate[0]])
        errors.append([*fit.se(), fit.variance.std_error[0]])
    found, errors = np.array(found), np.array(errors)
    spread = found.std(axis=0, ddof=1)
    apart = (found.mean(axis=0) - [-0.5, 0.8, 1.0]) / (spread / np.sqrt(200))
    assert np.max(np.abs(apart[:2])) < 4
    assert found[:, 2].mean() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(errors.mean(axis=0), spread, rtol=0.2)


def test_refusals():
    epil = bg.load_dataset("epil")
    for formula, family, match in (
        ("y ~ trt + (v4 | subject)", "poisson", "one random effect of one grouping factor"),
        ("y ~ trt", "poisson", "one random effect of one grouping factor"),
        ("y ~ trt + (1 | subject)", "negative_binomial", "dispersion it does not estimate"),
    ):
        with pytest.raises(ValueError, match=match):
            bg.GLMM(formula, epil, family=family).fit(METHOD)
    with pytest.raises(ValueError, match=r"do not go together: use\s+cov='robust'"):
        bg.GEE("random-effects", cov="mancl-derouen")
    with pytest.raises(ValueError, match="do not go together"):
        bg.GEE("random-effects", association="equation")
    fit = bg.GLMM("y ~ trt + (1 | subject)", epil, family="poisson").fit(METHOD)
    with pytest.raises(ValueError, match="conditional on the random effects"):
        bg.qic(fit)
    with pytest.raises(ValueError, match="use wald_test"):
        bg.score_test(fit, "trt[T.progabide]")
    assert 0 < bg.wald_test(fit, "trt[T.progabide]")["p_value"] < 1
