"""REML and ML of linear mixed models whose levels have a known covariance."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import bayes_glmm as bg
from bayes_glmm.frequentist.lmm_search import LinearSearch

# Mrode (2014), Linear Models for the Prediction of Animal Breeding Values, example 3.1:
# weaning weight gain of calves, variances 20 (animals) and 40 (residual)
PEDIGREE = pd.DataFrame(
    {"individual": [4, 5, 6, 7, 8], "sire": [1, 3, 1, 4, 3], "dam": [None, 2, 2, 5, 6]}
)
CALVES = pd.DataFrame(
    {"animal": [4, 5, 6, 7, 8], "sex": list("MFFMM"), "gain": [4.5, 2.9, 3.9, 3.5, 5.0]}
)
PRINTED = {
    "1": 0.098, "2": -0.019, "3": -0.041, "4": -0.009,
    "5": -0.186, "6": 0.177, "7": -0.249, "8": 0.183,
}  # fmt: skip
# diagonal of the inverse of the mixed model equations, times 40 the prediction error variance
ERRORS = {
    "1": 0.471, "2": 0.492, "3": 0.456, "4": 0.428,
    "5": 0.428, "6": 0.442, "7": 0.442, "8": 0.422,
}  # fmt: skip


def test_an_animal_model_as_printed():
    A = bg.relationship_matrix(PEDIGREE)
    given = {"family": "gaussian", "covariance": {"animal": A}}
    model = bg.GLMM("gain ~ 0 + sex + (1 | animal)", CALVES, **given)
    state = LinearSearch.of(model, True).state(np.sqrt([20 / 40]))
    # half a unit of the printed digits
    np.testing.assert_allclose(state.beta, [3.404, 4.358], atol=6e-4)
    levels = model.design.groups[0].levels
    (effects,), (errors,) = state.effects, state.prediction_covariance()
    np.testing.assert_allclose(effects[:, 0], [PRINTED[k] for k in levels], atol=6e-4)
    np.testing.assert_allclose(errors[:, 0, 0], [ERRORS[k] for k in levels], atol=6e-4)


def herd_book(generations: int, size: int, seed: int) -> pd.DataFrame:
    """Animals in generations, parents drawn of the one before."""
    rng = np.random.default_rng(seed)
    rows: list[tuple] = [(f"a0_{k}", None, None) for k in range(size)]
    for g in range(1, generations):
        males, females = rng.integers(0, size // 2, size), rng.integers(size // 2, size, size)
        rows += [
            (f"a{g}_{k}", f"a{g - 1}_{m}", f"a{g - 1}_{f}")
            for k, (m, f) in enumerate(zip(males, females, strict=True))
        ]
    return pd.DataFrame(rows, columns=["individual", "sire", "dam"])


@pytest.fixture(scope="module")
def relatives() -> pd.DataFrame:
    return bg.relationship_matrix(herd_book(3, 24, 1))


@pytest.fixture(scope="module")
def records(relatives) -> pd.DataFrame:
    """Two records each of the animals of the last two generations, in six herds; slopes too."""
    rng = np.random.default_rng(2)
    names = [a for a in relatives.index if not a.startswith("a0")]
    root = np.linalg.cholesky(relatives.loc[names, names])
    b = root @ rng.normal(size=(len(names), 2)) * [1.0, 0.6]
    animal = np.repeat(np.arange(len(names)), 2)
    x, herd = rng.normal(size=len(animal)), rng.integers(0, 6, len(animal))
    y = 10 + 0.5 * x + b[animal, 0] + b[animal, 1] * x + 0.7 * rng.normal(size=6)[herd]
    y = y + 0.8 * rng.normal(size=len(animal))
    frame = {"y": y, "x": x, "herd": [f"h{k}" for k in herd], "animal": np.array(names)[animal]}
    return pd.DataFrame(frame).sample(frac=1, random_state=1, ignore_index=True)


FORMULAS = {
    "alone": "y ~ x + (1 | animal)",
    "beside herds": "y ~ x + (1 | herd) + (1 | animal)",
    "slopes": "y ~ x + (x | animal)",
}


def dense(model, theta, reml: bool):
    """Log-likelihood at ``theta`` (absolute lower triangles, then the residual SD), beta, BLUPs."""
    d = model.design
    V, known = theta[-1] ** 2 * np.eye(d.n), []
    start = 0
    for g in d.groups:
        L = np.zeros((g.q, g.q))
        entries = [(r, c) for c in range(g.q) for r in range(c, g.q)]
        for r, c in entries:
            L[r, c], start = theta[start], start + 1
        A = np.eye(g.n_levels) if g.covariance is None else g.covariance
        V += (g.Z @ L @ L.T @ g.Z.T) * A[np.ix_(g.index, g.index)]
        known.append((g, A, L @ L.T))
    inverse = np.linalg.inv(V)
    information = d.X.T @ inverse @ d.X
    beta = np.linalg.solve(information, d.X.T @ inverse @ d.y)
    value = multivariate_normal(d.X @ beta, V).logpdf(d.y)
    if reml:
        value += 0.5 * d.p * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(information)[1]
    left = inverse @ (d.y - d.X @ beta)
    P = inverse - inverse @ d.X @ np.linalg.solve(information, d.X.T @ inverse)
    found = {}
    for g, A, D in known:
        C = np.einsum("il,ia,ab->lib", A[g.index], g.Z, D)
        errors = [A[k, k] * D - C[k].T @ P @ C[k] for k in range(g.n_levels)]
        found[g.group] = np.einsum("lib,i->lb", C, left), np.array(errors)
    return value, beta, found


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", FORMULAS)
def test_against_the_dense_marginal_density(name, reml, records, relatives):
    given = {"family": "gaussian", "covariance": {"animal": relatives}}
    model = bg.GLMM(FORMULAS[name], records, **given)
    fit = model.fit(bg.REML() if reml else bg.ML())
    assert fit.converged and fit.loglik_kind == ("restricted" if reml else "exact")
    theta = fit.details["theta"].copy()
    theta[-1] = np.exp(theta[-1])
    value, beta, effects = dense(model, theta, reml)
    # rounding of a determinant of order 96
    assert fit.loglik == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-7)
    for g in model.design.groups:
        np.testing.assert_allclose(
            fit.effects[g.group].estimate, effects[g.group][0], rtol=1e-6, atol=1e-8
        )
    # a maximum: the value falls whichever variance parameter moves by a tenth
    for step in np.r_[np.eye(len(theta)), -np.eye(len(theta))] * 0.1:
        assert dense(model, theta + step, reml)[0] < value


def test_errors_of_prediction_allow_for_the_variances(records, relatives):
    """Henderson's for known variances, plus a delta-method term by differences of dense BLUPs."""
    given = {"family": "gaussian", "covariance": {"animal": relatives}}
    model = bg.GLMM(FORMULAS["alone"], records, **given)
    fit = model.fit("reml")
    at = np.log([fit.details["theta"][0], np.exp(fit.details["theta"][1])])

    def of(where):
        value, _, effects = dense(model, np.exp(where), True)
        return value, effects["animal"][0][:, 0]

    h, steps = 1e-3, 1e-3 * np.eye(2)
    information = np.empty((2, 2))
    for i, s in enumerate(steps):
        for j, t in enumerate(steps):
            corners = [of(at + a * s + b * t)[0] for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
            information[i, j] = -(corners[0] - corners[1] - corners[2] + corners[3]) / (4 * h * h)
    slopes = np.array([(of(at + s)[1] - of(at - s)[1]) / (2 * h) for s in steps])
    extra = np.einsum("ml,mn,nl->l", slopes, np.linalg.inv(information), slopes)
    known = dense(model, np.exp(at), True)[2]["animal"][1][:, 0, 0]
    corrected = fit.ranef("mode", "corrected")["sd"].to_numpy()
    # differences of second order with h = .001: about 1e-6 of the information
    np.testing.assert_allclose(corrected**2, known + extra, rtol=1e-4)


def test_animals_without_records_are_predicted_from_their_relatives(records, relatives):
    """``b_0 = A_01 A_11^{-1} b_1``, and new rows of theirs."""
    given = {"family": "gaussian", "covariance": {"animal": relatives}}
    fit = bg.GLMM(FORMULAS["alone"], records, **given).fit("reml")
    b = fit.ranef().set_index("level")["estimate"]
    assert list(b.index[-24:]) == [f"a0_{k}" for k in range(24)]
    own, parents = b.index[:-24], b.index[-24:]
    expected = relatives.loc[parents, own] @ np.linalg.solve(relatives.loc[own, own], b[own])
    np.testing.assert_allclose(b[parents], expected, atol=1e-9)
    new = fit.predict(pd.DataFrame({"x": [0.0], "animal": ["a0_3"]}))
    assert new["estimate"][0] == pytest.approx(fit.beta[0] + b["a0_3"])
    with pytest.raises(ValueError, match="a9"):
        fit.predict(pd.DataFrame({"x": [0.0], "animal": ["a9"]}))


def test_the_identity_is_independence(records):
    names = sorted(set(records.animal))
    identity = pd.DataFrame(np.eye(len(names)), names, names)
    formula = FORMULAS["beside herds"]
    plain = bg.GLMM(formula, records, family="gaussian").fit("reml")
    given = {"family": "gaussian", "covariance": {"animal": identity}}
    fit = bg.GLMM(formula, records, **given).fit("reml")
    # the same maximum by other eliminations: the search stops within 1e-8 standard errors
    assert fit.loglik == pytest.approx(plain.loglik, abs=1e-9)
    np.testing.assert_allclose(fit.beta, plain.beta, rtol=1e-8)
    np.testing.assert_allclose(fit.variance.estimate, plain.variance.estimate, rtol=1e-6)
    np.testing.assert_allclose(fit.df, plain.df, rtol=1e-4)  # by differences
    for group in ("herd", "animal"):
        one, other = fit.effects[group], plain.effects[group]
        np.testing.assert_allclose(one.estimate, other.estimate, atol=1e-6)
        np.testing.assert_allclose(one.sd, other.sd, rtol=1e-6)


def test_one_record_an_animal_is_enough_with_relatives_and_not_without(records, relatives):
    once = records.drop_duplicates("animal")
    formula = FORMULAS["alone"]
    given = {"family": "gaussian", "covariance": {"animal": relatives}}
    assert bg.GLMM(formula, once, **given).fit("reml").converged
    names = list(once.animal)
    identity = pd.DataFrame(np.eye(len(names)), names, names)
    with pytest.raises(ValueError, match="one row in each of its"):
        bg.GLMM(formula, once, family="gaussian", covariance={"animal": identity}).fit("reml")


def test_with_residual_correlation(records, relatives):
    """Dense marginal density again, residuals of an animal's two records correlated."""
    timed = records.assign(time=records.groupby("animal").cumcount() * 1.0)
    given = {"family": "gaussian", "covariance": {"animal": relatives}}
    residual = bg.residual.CompoundSymmetry(by="animal")
    model = bg.GLMM(FORMULAS["alone"], timed, residual=residual, **given)
    fit = model.fit("ml")
    d = model.design
    sd, rho, sigma = fit.variance.estimate
    g = d.groups[0]
    same = g.index[:, None] == g.index
    V = sd**2 * g.covariance[np.ix_(g.index, g.index)]
    V += sigma**2 * ((1 - rho) * np.eye(d.n) + rho * same)
    assert fit.loglik == pytest.approx(multivariate_normal(d.X @ fit.beta, V).logpdf(d.y), abs=1e-8)


def test_quasi_likelihood_of_counts(records, relatives):
    """With the working response of the last step PQL is the linear model's solution."""
    rng = np.random.default_rng(4)
    counts = records.assign(y=rng.poisson(np.exp(0.1 * records.y)))
    given = {"family": "poisson", "covariance": {"animal": relatives}}
    model = bg.GLMM(FORMULAS["alone"], counts, **given)
    fit = model.fit("pql")
    assert fit.converged
    d, g = model.design, model.design.groups[0]
    (sd,), b = fit.variance.estimate, fit.effects["animal"].estimate[:, 0]
    mean = np.exp(d.X @ fit.beta + b[g.index])
    # the score of the penalised quasi-likelihood is zero
    np.testing.assert_allclose(d.X.T @ (d.y - mean), 0.0, atol=1e-6)
    sums = np.bincount(g.index, d.y - mean, g.n_levels)
    np.testing.assert_allclose(sd**2 * g.covariance @ sums, b, atol=1e-7)


def test_a_large_herd_book_is_sparse():
    """Two thousand animals: the inverse has Henderson's entries, and the fit the true variances."""
    book = herd_book(5, 400, 3)
    A = bg.relationship_matrix(book)
    rng = np.random.default_rng(5)
    b = np.linalg.cholesky(A) @ rng.normal(size=len(A))
    frame = pd.DataFrame({"animal": A.index, "y": 3.0 + b + rng.normal(size=len(A))})
    model = bg.GLMM("y ~ 1 + (1 | animal)", frame, family="gaussian", covariance={"animal": A})
    relationship = model.design.groups[0].relationship
    at = {label: k for k, label in enumerate(model.design.groups[0].levels)}
    expected = np.zeros((len(A), len(A)))  # Henderson's rules, with inbreeding
    F = pd.Series(np.diag(A) - 1.0, A.index)
    for animal, *known in book.itertuples(index=False):
        parents = [p for p in known if isinstance(p, str)]
        ids, weights = [at[animal], *(at[p] for p in parents)], [1.0, *(-0.5 for _ in parents)]
        inside = 1.0 - sum(0.25 * (1.0 + F[p]) for p in parents)
        expected[np.ix_(ids, ids)] += np.outer(weights, weights) / inside
    # Cholesky and inverse of a matrix of condition 1,000
    np.testing.assert_allclose(relationship.precision.toarray(), expected, atol=1e-10)
    assert relationship.precision.nnz == np.count_nonzero(np.abs(expected) > 1e-9)
    fit = model.fit("reml")
    # each within four of its standard errors
    assert np.all(np.abs(fit.variance.estimate - 1.0) < 4 * fit.variance.std_error)
    assert np.all(fit.variance.std_error < 0.15)
