"""GEE of a conditionally specified model against closed forms, maximum likelihood, simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, ndtr
from scipy.stats import norm

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


def with_slopes_and_halves(seed):
    """Counts whose clusters have correlated intercepts and slopes, and halves of their own."""
    frame = frame_of(seed, clusters=150, size=6)
    rng = np.random.default_rng(seed + 1)
    frame["half"] = frame["g"] * 2 + rng.integers(0, 2, len(frame))
    b = rng.multivariate_normal([0, 0], [[0.3, 0.1], [0.1, 0.2]], 150)[frame["g"]]
    u = 0.5 * rng.normal(size=300)[frame["half"]]
    eta = -0.2 + 0.5 * frame["x"] + b[:, 0] + b[:, 1] * frame["x"] + u
    return frame.assign(y=rng.poisson(np.exp(eta)).astype(float))


def one(rows):
    return [np.ones((len(rows), len(rows)))]


def slopes(rows):
    x = rows["x"].to_numpy()
    return [np.ones((len(x), len(x))), np.outer(x, x), x[:, None] + x]


def halves(rows):
    half = rows["half"].to_numpy()
    return [*one(rows), 1.0 * (half[:, None] == half)]


class ClosedForm:
    """Counts with a log link, whose moments are known: cluster by cluster.

    ``parts`` gives the matrices of which ``alpha`` makes the covariance of the predictors.
    """

    def __init__(self, frame, parts=one):
        self.clusters = [
            (np.c_[np.ones(len(rows)), rows["x"]], rows["y"].to_numpy(), np.array(parts(rows)))
            for _, rows in frame.groupby("g")
        ]

    def moments(self, X, parts, theta):
        c = np.tensordot(theta[2:], parts, 1)
        mu = np.exp(X @ theta[:2] + np.diag(c) / 2)
        C, product = np.outer(mu, mu) * np.expm1(c), np.outer(mu, mu) * np.exp(c)
        own = np.array([np.diag(part) for part in parts]) / 2
        return mu, C, np.diag(mu) + C, (own[:, :, None] + own[:, None]) * C + parts * product

    def score(self, X, parts, theta, mean, products):
        """Equations for a response with this mean and these products of residuals."""
        mu, C, V, by_alpha = self.moments(X, parts, theta)
        beta = (mu[:, None] * X).T @ np.linalg.solve(V, mean - mu)
        j, k = np.triu_indices(len(mu), 1)
        weight = by_alpha[:, j, k] / (V[j, j] * V[k, k])
        return np.r_[beta, weight @ (products(mu)[j, k] - C[j, k])]

    def scores(self, theta):
        return np.array([
            self.score(X, parts, theta, y, lambda mu, y=y: np.outer(y - mu, y - mu))
            for X, y, parts in self.clusters
        ])  # fmt: skip

    def expected(self, theta, truth):
        """The sum of the equations at ``theta`` if ``truth`` holds."""
        total = 0
        for X, _, parts in self.clusters:
            mean, C, _, _ = self.moments(X, parts, truth)
            total = total + self.score(
                X, parts, theta, mean, lambda mu, m=mean, C=C: C + np.outer(m - mu, m - mu)
            )
        return total

    def sandwich(self, theta):
        """Robust covariance of all parameters, the derivative by differences."""
        step = 1e-6
        J = -np.column_stack(
            [
                (self.expected(theta + step * e, theta) - self.expected(theta - step * e, theta))
                / (2 * step)
                for e in np.eye(len(theta))
            ]
        )
        half = np.linalg.solve(J, self.scores(theta).T)
        return half @ half.T


def test_closed_forms_of_counts():
    frame = frame_of(1)
    fit = bg.GLMM("y ~ x + (1 | g)", frame, family="poisson").fit(METHOD)
    assert fit.converged and fit.variance is not None
    theta = np.r_[fit.beta, fit.details["alpha"]]
    form = ClosedForm(frame)
    scores = form.scores(theta)
    size = np.sqrt(np.sum(scores**2, axis=0))
    np.testing.assert_allclose(scores.sum(axis=0) / size, 0, atol=1e-7)
    covariance = form.sandwich(theta)
    np.testing.assert_allclose(fit.vcov("robust"), covariance[:2, :2], rtol=1e-6)
    sd = np.sqrt(theta[2])
    assert fit.variance.estimate[0] == pytest.approx(sd)
    error = np.sqrt(covariance[2, 2]) / (2 * sd)
    assert fit.variance.std_error[0] == pytest.approx(error, rel=1e-6)
    assert np.sqrt(fit.joint_cov[2, 2]) == pytest.approx(error / sd, rel=1e-6)


@pytest.mark.parametrize(
    ("formula", "parts"), [("y ~ x + (x | g)", slopes), ("y ~ x + (1 | g / half)", halves)]
)
def test_closed_forms_with_several_effects(formula, parts):
    """Correlated slopes, and a factor within the clusters: equations, covariance, components."""
    frame = with_slopes_and_halves(1)
    fit = bg.GLMM(formula, frame, family="poisson").fit(METHOD)
    assert fit.converged and fit.variance is not None and not fit.messages
    alpha = fit.details["alpha"]
    theta, form = np.r_[fit.beta, alpha], ClosedForm(frame, parts)
    scores = form.scores(theta)
    size = np.sqrt(np.sum(scores**2, axis=0))
    np.testing.assert_allclose(scores.sum(axis=0) / size, 0, atol=1e-7)
    covariance = form.sandwich(theta)
    np.testing.assert_allclose(fit.vcov("robust"), covariance[:2, :2], rtol=1e-6)

    def working(alpha):
        sd = np.sqrt(alpha[:2])
        return np.r_[np.log(sd), [np.arctanh(c / sd.prod()) for c in alpha[2:]]]

    step = 1e-6
    jacobian = np.column_stack(
        [
            (working(alpha + step * e) - working(alpha - step * e)) / (2 * step)
            for e in np.eye(len(alpha))
        ]
    )
    np.testing.assert_allclose(
        fit.joint_cov[2:, 2:], jacobian @ covariance[2:, 2:] @ jacobian.T, rtol=1e-6, atol=1e-9
    )
    natural = np.r_[np.sqrt(alpha[:2]), np.tanh(working(alpha)[2:])]
    np.testing.assert_allclose(fit.variance.estimate, natural)


def test_covariances_of_two_binary_rows_by_brute_force():
    """Mehler's series against an integral over both effects."""
    frame = pd.DataFrame(
        {"y": [0.0, 1, 1, 0, 1, 0], "x": [0.7, -1.6, 0.2] * 2, "g": [0, 0, 0, 1, 1, 1]}
    )
    association = pose(bg.GLMM("y ~ x + (x | g)", frame, family="bernoulli"), METHOD).association
    beta, D = np.array([-0.4, 0.9]), np.array([[1.1, -0.5], [-0.5, 0.8]])
    rows = np.arange(3)[None]
    state = association.state(beta, np.array([D[0, 0], D[1, 1], D[0, 1]]))
    found = association.correlations(state, rows)[0]
    L, X = np.linalg.cholesky(D), association.rows.X[:, :3].T

    # trapezoids on a smooth function that vanishes at the ends: exact to rounding
    u, v = np.meshgrid(*[np.linspace(-9, 9, 361)] * 2)
    eta = np.einsum("ja,ab,bst->jst", X, L, [u, v]) + (X @ beta)[:, None, None]
    weight = norm.pdf(u) * norm.pdf(v) * (18 / 360) ** 2

    def expected(*powers):
        return np.sum(weight * np.prod(expit(eta) ** np.reshape(powers, (3, 1, 1)), axis=0))

    mean = [expected(*row) for row in np.eye(3)]
    # 41 nodes integrate a logistic curve with an SD of 1.9 to 1e-7
    np.testing.assert_allclose(
        association.rows.y[:3] - state.r[:3] * state.root[:3], mean, atol=1e-6
    )
    for j, k in ((0, 1), (1, 2)):
        pair = [1.0 * (i in (j, k)) for i in range(3)]
        spread = np.sqrt(mean[j] * (1 - mean[j]) * mean[k] * (1 - mean[k]))
        exact = (expected(*pair) - mean[j] * mean[k]) / spread
        assert found[j, k] == pytest.approx(exact, abs=2e-6)


def test_nearest_covariance_in_the_metric_of_the_information():
    """The step into the cone against a search over Cholesky factors."""
    frame = with_slopes_and_halves(2)
    model = bg.GLMM("y ~ x + (x | g) + (1 | half)", frame, family="poisson")
    effects = pose(model, METHOD).association.effects
    rng = np.random.default_rng(5)
    for _ in range(5):
        A = rng.normal(size=(6, 4))
        information, score = A.T @ A + 0.1 * np.eye(4), 3 * rng.normal(size=4)
        alpha = np.array([0.3, 0.2, 0.1, 0.4])
        assert effects.exists(alpha)

        def entries(x):
            L = np.array([[x[0], 0.0], [x[1], x[2]]])
            D = L @ L.T
            return np.array([D[0, 0], D[1, 1], D[0, 1], x[3] ** 2])

        def value(delta, information=information, score=score):
            return delta @ information @ delta / 2 - score @ delta

        searched = min(
            minimize(lambda x, a=alpha: value(entries(x) - a), rng.normal(size=4), tol=1e-12).fun
            for _ in range(10)
        )
        found = effects.nearest(alpha, score, information)
        assert np.linalg.eigvalsh(found[[[0, 2], [2, 1]]])[0] > -1e-12 and found[3] >= 0
        assert value(found - alpha) == pytest.approx(searched, abs=1e-7)


def test_a_slope_that_does_not_vary():
    """Counts with intercepts only: where the slope's variance is zero its matrix is held."""
    held = 0
    for seed in range(6):
        frame = frame_of(seed, clusters=60)
        fit = bg.GLMM("y ~ x + (x || g)", frame, family="poisson").fit(METHOD)
        assert fit.converged and np.isfinite(fit.se()).all() and fit.variance is not None
        sd, error = fit.variance.estimate, fit.variance.std_error
        assert np.isnan(error[1]) == (sd[1] == 0)
        if sd[1] == 0:
            held += 1
            plain = bg.GLMM("y ~ x + (1 | g)", frame, family="poisson").fit(METHOD)
            np.testing.assert_allclose(fit.beta, plain.beta, rtol=1e-6)
            np.testing.assert_allclose(fit.vcov(), plain.vcov(), rtol=1e-5)
            assert "zero-variance" in [m.code for m in fit.messages]
    assert held  # half of such data sets, about


def test_a_correlation_at_its_limit_satisfies_the_equations_within_the_boundary():
    frame = frame_of(3, clusters=60)  # intercepts only: slopes hardly vary
    fit = bg.GLMM("y ~ x + (x | g)", frame, family="poisson").fit(METHOD)
    assert fit.converged and np.isfinite(fit.se()).all() and fit.variance is not None
    assert abs(fit.variance.estimate[2]) == pytest.approx(1.0, abs=1e-8)
    assert "correlation-at-limit" in [m.code for m in fit.messages]
    alpha = fit.details["alpha"]
    score = ClosedForm(frame, slopes).scores(np.r_[fit.beta, alpha]).sum(axis=0)
    scale = np.sqrt(np.sum(ClosedForm(frame, slopes).scores(np.r_[fit.beta, alpha]) ** 2, axis=0))
    np.testing.assert_allclose(score[:2] / scale[:2], 0, atol=1e-7)
    # the score of D points out of the cone: S is negative semidefinite, and S D = 0
    S = np.array([[score[2], score[4] / 2], [score[4] / 2, score[3]]])
    D = np.array([[alpha[0], alpha[2]], [alpha[2], alpha[1]]])
    assert np.linalg.eigvalsh(S)[-1] < 1e-5 * np.abs(S).max()
    assert np.abs(S @ D).max() < 1e-5 * np.abs(S).max() * np.abs(D).max()
    assert np.isnan(fit.variance.std_error).all()


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
    epil["obs"] = np.arange(len(epil))
    for formula, family, match in (
        ("y ~ trt", "poisson", "without a grouping factor"),
        ("y ~ trt + (1 | subject) + (1 | period)", "poisson", "are crossed"),
        ("y ~ trt + (1 | subject) + (1 | obs)", "poisson", "'obs' has one row in each level"),
        ("y ~ trt + (1 | subject)", "negative_binomial", "dispersion it does not estimate"),
    ):
        with pytest.raises(ValueError, match=match):
            bg.GLMM(formula, epil, family=family).fit(METHOD)
    crossed = bg.GLMM("y ~ trt + (1 | subject) + (1 | period)", epil, family="poisson")
    with pytest.raises(ValueError, match="'period' reaches over several clusters of 'subject'"):
        crossed.fit(bg.GEE("random-effects", cluster="subject"))
    with pytest.raises(ValueError, match="has no random effects"):
        bg.GLMM("y ~ trt", epil, family="poisson").fit(bg.GEE("random-effects", cluster="subject"))
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
