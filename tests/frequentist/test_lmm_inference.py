"""Profiles, bootstrap and boundary tests of linear mixed models by REML or with dependent rows.

The independent evaluation is a dense normal density whose other parameters SciPy maximises.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

import bayes_glmm as bg
from bayes_glmm.frequentist.inference import profile
from bayes_glmm.frequentist.lmm_refits import covariance_of, fitted, without_effects
from bayes_glmm.frequentist.profiles import Profile
from bayes_glmm.methods import NotServedError
from bayes_glmm.numerics.threads import one_blas_thread


@pytest.fixture(scope="module")
def sleepstudy():
    data = bg.load_dataset("sleepstudy")
    return bg.GLMM("reaction ~ days + (days | subject)", data, family="gaussian")


@pytest.fixture(scope="module")
def milk():
    data = bg.load_dataset("milk")
    some = data[data["cow"].isin(data["cow"].unique()[::6])]
    residual = bg.residual.Exponential("time", by="cow", nugget=True)
    return bg.GLMM("protein ~ diet + time + (1 | cow)", some, family="gaussian", residual=residual)


@pytest.fixture(scope="module")
def related():
    """Three records each of forty animals by eight sires."""
    rng = np.random.default_rng(1)
    book = pd.DataFrame({"individual": [f"a{k}" for k in range(40)]})
    book["sire"], book["dam"] = [f"s{k % 8}" for k in range(40)], None
    A = bg.relationship_matrix(book)
    names = list(book.individual)
    b = np.linalg.cholesky(A.loc[names, names]) @ rng.normal(size=40)
    animal = np.repeat(np.arange(40), 3)
    x = rng.normal(size=120)
    y = 2.0 + 0.3 * x + b[animal] + rng.normal(size=120)
    frame = pd.DataFrame({"y": y, "x": x, "animal": np.array(names)[animal]})
    given = {"family": "gaussian", "covariance": {"animal": A}}
    return bg.GLMM("y ~ x + (1 | animal)", frame, **given)


def dense_covariance(model, variance: np.ndarray) -> np.ndarray:
    """V from SDs, correlations, residual parameters and the residual SD, written out."""
    d, at = model.design, 0
    V = np.eye(d.n)
    if (r := model.repeated) is not None:
        values = variance[-1 - len(r.parameters) : -1]
        V = r.correlation.correlation(values, np.abs(r.time[:, None] - r.time))
        V = np.where(r.cluster[:, None] == r.cluster, V, 0.0)
    V = variance[-1] ** 2 * V
    for g in d.groups:
        D = np.diag(variance[at : at + g.q] ** 2)
        for k, (i, j) in enumerate(g.pairs):
            size = variance[at + i] * variance[at + j]
            D[i, j] = D[j, i] = variance[at + g.q + k] * size
        at += g.q + len(g.pairs)
        A = np.eye(g.n_levels) if g.covariance is None else g.covariance
        V = V + (g.Z @ D @ g.Z.T) * A[np.ix_(g.index, g.index)]
    return V


def dense_loglik(model, variance, reml: bool, held: dict[int, float]) -> float:
    """Log-likelihood at variance parameters, coefficients maximised out but for ``held``."""
    d = model.design
    V = dense_covariance(model, variance)
    rest = [k for k in range(d.p) if k not in held]
    y = d.y - sum((value * d.X[:, k] for k, value in held.items()), np.zeros(d.n))
    X = d.X[:, rest]
    root = np.linalg.cholesky(V)
    white = solve_triangular(root, np.column_stack([X, y]), lower=True)
    X, y = white[:, :-1], white[:, -1]
    information = X.T @ X
    left = y - X @ np.linalg.solve(information, X.T @ y)
    value = -0.5 * (left @ left + d.n * np.log(2 * np.pi)) - np.log(np.diag(root)).sum()
    if reml:
        value += 0.5 * d.p * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(information)[1]
    return float(value)


def dense_profile(fit, parameter: str, value: float) -> float:
    """Maximise over the other variance parameters on scales without bounds."""
    names, p = fit.parameter_names, len(fit.beta)
    k = names.index(parameter)
    held = {k: value} if k < p else {}
    components = fit.variance.components
    free = [i for i in range(len(components)) if i != k - p]
    # SDs of either sign in units of their size, off zero where the gradient vanishes
    unit = np.maximum(fit.variance.estimate, 0.1 * fit.dispersion)
    start = np.array(
        [
            1.0 if c.kind == "sd" else c.scale.working(x)
            for c, x in zip(components, fit.variance.estimate, strict=True)
        ]
    )[free]

    def objective(working: np.ndarray) -> float:
        variance = fit.variance.estimate.copy()
        for i, w in zip(free, working, strict=True):
            is_sd = components[i].kind == "sd"
            variance[i] = abs(w) * unit[i] if is_sd else components[i].scale.natural(w)
        if k >= p:
            variance[k - p] = value
        try:
            return -dense_loglik(fit.model, variance, fit.method.name == "reml", held)
        except (np.linalg.LinAlgError, ValueError):
            return np.inf

    with one_blas_thread():
        return -minimize(objective, start, method="BFGS", options={"gtol": 1e-4}).fun


CASES = [
    ("sleepstudy", "reml", "sd_subject[days]", 1.4),
    ("sleepstudy", "reml", "corr_subject[Intercept~days]", -4.0),
    ("sleepstudy", "reml", "dispersion", 0.93),
    ("milk", "ml", "diet[T.lupins]", 1.3),
    ("milk", "ml", "residual_phi", 1.5),
    ("milk", "reml", "residual_nugget", 0.8),
    ("milk", "reml", "dispersion", 1.15),
    ("related", "reml", "sd_animal[Intercept]", 0.7),
    ("related", "ml", "x", 1.5),
    ("related", "ml", "Intercept", 1.1),
]


@pytest.fixture(scope="module")
def fits(sleepstudy, milk, related):
    models = {"sleepstudy": sleepstudy, "milk": milk, "related": related}
    return {(name, m): models[name].fit(m) for name in models for m in ("reml", "ml")}


@pytest.mark.parametrize(("name", "method", "parameter", "times"), CASES)
def test_profiles_are_those_of_the_dense_density(fits, name, method, parameter, times):
    fit = fits[name, method]
    estimate = [*fit.beta, *fit.variance.estimate][fit.parameter_names.index(parameter)]
    found = profile(fit, parameter, [times * estimate])[0]
    # BFGS ends at a gradient of 1e-4, 1e-7 below its maximum; the inner searches within 1e-9
    assert found == pytest.approx(dense_profile(fit, parameter, times * estimate), abs=1e-5)
    assert found < fit.loglik


@pytest.mark.parametrize(("name", "method", "parameter", "times"), CASES)
def test_interval_ends_are_where_the_profile_has_fallen(fits, name, method, parameter, times):
    fit = fits[name, method]
    held = Profile(fit, parameter)
    for side in (-1, 1):
        end = held.limit(side, 0.95)
        fall = 2 * (fit.loglik - held.along(np.array([end]))[0])
        # Newton's step on zeta ends within 1e-5 standard errors, 4e-5 of chi-square
        assert fall == pytest.approx(3.841459, abs=2e-4) or (end == 0.0 and fall < 3.84)


def test_full_likelihood_profiles_agree_with_those_by_quadrature_nodes(sleepstudy):
    """The other way to profile, checked against lme4, serves plain ML fits."""
    plain = sleepstudy.fit("ml").confint(method="profile").set_index("term")
    names = list(sleepstudy.design.groups[0].levels)
    identity = pd.DataFrame(np.eye(18), index=names, columns=names)
    data = sleepstudy.design.frame
    given = {"family": "gaussian", "covariance": {"subject": identity}}
    other = bg.GLMM("reaction ~ days + (days | subject)", data, **given).fit("ml")
    found = other.confint(method="profile").set_index("term")
    pd.testing.assert_frame_equal(found, plain, rtol=1e-4)  # searches end within 1e-5 errors


def test_a_restricted_likelihood_has_no_coefficients(fits):
    fit = fits["sleepstudy", "reml"]
    table = fit.confint(method="profile")
    assert list(table.term) == fit.parameter_names[2:]
    assert list(fit.profile(points=7).parameter.unique()) == fit.parameter_names[2:]
    with pytest.raises(NotServedError, match=r"integrates the coefficients out.*use a fit by ML"):
        profile(fit, "days", [10.0])


def test_limits_of_residual_parameters_end_their_ranges():
    """Without serial correlation in the data the nugget may be all of the residual variance."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat(np.arange(12), 5), "t": np.tile(np.arange(5.0), 12)})
    frame["y"] = rng.normal(size=60)
    residual = bg.residual.Exponential("t", by="g")
    fit = bg.GLMM("y ~ 1", frame, family="gaussian", residual=residual).fit("ml")
    assert Profile(fit, "residual_phi").limit(1, 0.95) == np.inf


# the bootstrap


@pytest.mark.parametrize("name", ["milk", "related", "sleepstudy"])
def test_simulated_responses_have_the_fitted_moments(fits, name):
    fit = fits[name, "reml"]
    at = fitted(fit)
    V = dense_covariance(fit.model, fit.variance.estimate)
    np.testing.assert_allclose(covariance_of(at), V, atol=1e-10 * V.max())
    rng = np.random.default_rng(1)
    d = fit.model.design
    y = np.array([at.simulate(rng) for _ in range(4000)]) - d.X @ fit.beta
    # sums over rows and over the first cluster: their variances, six standard errors of each
    for weight in (np.ones(d.n), d.X[:, -1], (d.groups[0].index == 0) * 1.0):
        expected = weight @ V @ weight
        assert abs(np.var(y @ weight) / expected - 1) < 6 * np.sqrt(2 / 4000)
        assert abs(np.mean(y @ weight)) < 6 * np.sqrt(expected / 4000)


@pytest.mark.parametrize("name", ["milk", "related", "sleepstudy"])
def test_drawn_errors_of_predictions_have_their_covariance(fits, name):
    """``A x D - C'PC``, ``C`` the covariance of responses and effects, written out."""
    fit = fits[name, "reml"]
    d, g = fit.model.design, fit.model.design.groups[0]
    V = dense_covariance(fit.model, fit.variance.estimate)
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ d.X @ np.linalg.solve(d.X.T @ inverse @ d.X, d.X.T @ inverse)
    sd, corr = fit.variance.of(g.group)
    D = np.diag(sd**2)
    for (i, j), r in zip(g.pairs, corr, strict=True):
        D[i, j] = D[j, i] = r * sd[i] * sd[j]
    A = np.eye(g.n_levels) if g.covariance is None else g.covariance
    C = np.einsum("il,ia,ab->ilb", A[g.index], g.Z, D).reshape(d.n, -1)
    expected = np.kron(A, D) - C.T @ P @ C
    errors = fitted(fit).scatter(20_000, np.random.default_rng(1))[0].reshape(20_000, -1)
    size = np.sqrt(np.diag(expected))
    if not np.any(size):
        assert not np.any(errors)
        return
    # entries of a correlation matrix by 20,000 draws: errors up to .01; five of them
    scale = np.outer(size, size)
    np.testing.assert_allclose(np.cov(errors.T) / scale, expected / scale, atol=0.05)


def test_refits_of_the_data_are_the_fit(fits):
    for fit in fits.values():
        at = fitted(fit)
        again = at.refit(fit.model.design.y, at.lifted)
        assert again.loglik == pytest.approx(fit.loglik, abs=1e-6)
        np.testing.assert_allclose(again.estimates[: len(fit.beta)], fit.beta, rtol=1e-4)


def test_bootstrap_errors_are_about_those_of_the_information(fits):
    """A ratio of standard deviations of 100 refits has an error of 7 %; four of them, and bias."""
    fit = fits["related", "reml"]
    found = fit.bootstrap(100, seed=2)
    assert not found.failures
    expected = np.r_[fit.se(), fit.variance.std_error]
    assert np.all(np.abs(found.std_error / expected - 1) < 0.35)
    again = fit.bootstrap(4, seed=2, workers=1)
    pd.testing.assert_frame_equal(again.estimates, found.estimates.iloc[:4])
    table = fit.confint(method="boot", replicates=4, seed=2, kind="basic")
    assert np.all(table.conf_low[2:] >= 0)


def test_basic_limits_stay_inside_the_range(fits):
    table = fits["milk", "ml"].bootstrap(6, workers=1).confint(kind="basic").set_index("term")
    for name, (low, high) in {"residual_phi": (0, np.inf), "residual_nugget": (0, 1)}.items():
        assert low <= table.conf_low[name] <= table.conf_high[name] <= high


# boundary tests


def test_a_restricted_test_drops_effects_under_the_same_fixed_part(sleepstudy, fits):
    fit = fits["sleepstudy", "reml"]
    less = sleepstudy.design.frame
    null = bg.GLMM("reaction ~ days + (1 | subject)", less, family="gaussian").fit("reml")
    test = bg.boundary_test(fit, "subject", "days")
    assert test.statistic == pytest.approx(2 * (fit.loglik - null.loglik), abs=1e-6)
    assert test.df == (1, 2) and test.weights == (0.5, 0.5)
    assert test.loglik_null == pytest.approx(null.loglik, abs=1e-7)
    none = bg.boundary_test(null, "subject")
    plain = sleepstudy.design
    residuals = plain.y - plain.X @ np.linalg.lstsq(plain.X, plain.y, rcond=None)[0]
    s2 = residuals @ residuals / 178
    ols = -0.5 * (178 * np.log(2 * np.pi * s2) + 178)
    ols -= 0.5 * np.linalg.slogdet(plain.X.T @ plain.X)[1]
    assert none.loglik_null == pytest.approx(ols, abs=1e-8)
    assert none.df == (0, 1)


def test_weights_of_several_variances_are_those_by_simulated_scores(fits):
    """Without correlation, the exact information against the simulated one of plain ML fits."""
    data = bg.load_dataset("sleepstudy")
    model = bg.GLMM("reaction ~ days + (days || subject)", data, family="gaussian")
    exact = bg.boundary_test(model.fit("reml"), ["subject"])
    simulated = bg.boundary_test(model.fit("ml"), ["subject"])
    assert exact.df == simulated.df == (0, 1, 2)
    # a correlation from 1,000 scores has an error of .03, its angle / 2 pi one of .005
    np.testing.assert_allclose(exact.weights, simulated.weights, atol=0.02)


def test_information_is_that_of_simulated_scores(related):
    """Two variances in one model of relatives: covariance of the restricted scores at the null."""
    frame = related.design.frame.assign(block=np.tile(np.arange(12), 10))
    A = related.design.groups[0]
    covariance = {"animal": pd.DataFrame(A.covariance, A.levels, A.levels)}
    model = bg.GLMM(
        "y ~ x + (1 | animal) + (1 | block)", frame, family="gaussian", covariance=covariance
    )
    pair = without_effects(model.fit("reml"), {0: [0], 1: [0]})
    information = pair.information()
    d, s2 = model.design, pair.small.sigma2
    X = d.X
    P = (np.eye(d.n) - X @ np.linalg.solve(X.T @ X, X.T)) / s2
    dV = [
        (np.eye(g.n_levels) if g.covariance is None else g.covariance)[np.ix_(g.index, g.index)]
        for g in d.groups
    ]
    rng = np.random.default_rng(1)
    Py = P @ (np.sqrt(s2) * rng.normal(size=(d.n, 20_000)))
    scores = np.array([0.5 * np.einsum("ns,nm,ms->s", Py, K, Py) for K in [*dV, np.eye(d.n)]])
    S = np.cov(scores)
    expected = S[:2, :2] - np.outer(S[:2, 2], S[2, :2]) / S[2, 2]
    size = np.sqrt(np.diag(expected))
    # a covariance of 20,000 draws: errors of .007, or .01 for a variance, of the sizes; four
    np.testing.assert_allclose(
        information / np.outer(size, size), expected / np.outer(size, size), atol=0.04
    )


def test_the_size_of_the_restricted_test_is_its_level(related):
    """By the bootstrap: the share of ratios beyond the mixture's 10 % point."""
    fit = related.fit("reml")
    test = bg.boundary_test(fit, "animal", bootstrap=200, seed=3)
    assert test.failed == 0 and test.p_boot == pytest.approx(1 / 201)
    # with 40 animals half of the ratios are zero or a little more: four errors of 200 draws
    assert 0.5 - 4 * 0.035 < test.zero_share < 0.5 + 4 * 0.035 + 0.1


def test_a_nugget_is_tested_on_the_boundary(fits, milk):
    fit = fits["milk", "reml"]
    residual = bg.residual.Exponential("time", by="cow")
    null = bg.GLMM(milk.formula, milk.design.frame, family="gaussian", residual=residual).fit(
        "reml"
    )
    test = bg.boundary_test(fit, "residual", "nugget")
    assert test.statistic == pytest.approx(2 * (fit.loglik - null.loglik), abs=1e-5)
    assert test.weights == (0.5, 0.5) and test.df == (0, 1)
    assert "is the nugget of the residual correlation zero?" in repr(test)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_rounding_is_no_likelihood_ratio(method):
    """Of a variance that is estimated as zero the p-value is 1, whatever its last digits say."""
    data = bg.load_dataset("milk")
    residual = bg.residual.Exponential("time", by="cow", nugget=True)
    formula = "protein ~ diet + C(time) + (1 | cow)"
    fit = bg.GLMM(formula, data, family="gaussian", residual=residual).fit(method)
    test = bg.boundary_test(fit, "cow")
    assert fit.variance.estimate[0] == 0.0
    assert test.statistic == 0.0 and test.p_value == 1.0 and test.p_naive == 1.0


def test_other_residual_parameters_have_no_null_inside_the_model(fits):
    fit = fits["milk", "ml"]
    with pytest.raises(NotServedError, match=r"no null inside the model.*by AIC"):
        bg.boundary_test(fit, "residual", "phi")
    with pytest.raises(ValueError, match="'rho' is not a parameter"):
        bg.boundary_test(fit, "residual", "rho")
