"""Known covariances between levels: from the data to the posterior."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import bayes_glmm as bg
from bayes_glmm.bayesian.prior import prior_predictive

PRIORS = bg.Priors(intercept=bg.Normal(0, 2), sd=bg.HalfNormal(1), dispersion=bg.HalfNormal(1))


@pytest.fixture(scope="module")
def kinship() -> pd.DataFrame:
    """Eight bulls by two grandsires and two sires of theirs."""
    rows = {f"s{k}": ("p" if k < 4 else "q", "m" if k % 2 else None) for k in range(8)}
    rows |= {"p": ("g", None), "q": ("g", None)}
    frame = pd.DataFrame(
        [(n, *of) for n, of in rows.items()], columns=["individual", "sire", "dam"]
    )
    return bg.relationship_matrix(frame)


@pytest.fixture(scope="module")
def frame(kinship) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    levels = [f"s{k}" for k in range(8)]
    sire = rng.permutation(np.repeat(levels, 4))
    b = pd.Series(
        np.linalg.cholesky(kinship.loc[levels, levels]) @ rng.normal(size=8), index=levels
    )
    return pd.DataFrame({"y": 1.0 + np.asarray(b[sire]) + 0.7 * rng.normal(size=32), "sire": sire})


@pytest.fixture(scope="module")
def model(kinship, frame) -> bg.GLMM:
    given = {"family": "gaussian", "priors": PRIORS, "covariance": {"sire": kinship}}
    return bg.GLMM("y ~ 1 + (1 | sire)", frame, **given)


def by_hand(model, kinship, frame):
    """Posterior moments by brute force: a grid of both SDs, the rest is normal given these."""
    levels = list(model.design.groups[0].levels)
    Z = (frame.sire.to_numpy()[:, None] == np.array(levels)).astype(float)  # four have no rows
    K = kinship.loc[levels, levels].to_numpy()
    y, one = frame.y.to_numpy(), np.ones(len(frame))
    sds, sigmas = np.linspace(0.01, 3.5, 90), np.linspace(0.3, 1.6, 70)
    weight = np.empty((90, 70))
    effects = np.empty((90, 70, len(levels)))
    for i, sd in enumerate(sds):
        for j, sigma in enumerate(sigmas):
            V = 4.0 * np.outer(one, one) + sd**2 * Z @ K @ Z.T + sigma**2 * np.eye(len(y))
            weight[i, j] = multivariate_normal.logpdf(y, cov=V) - sd**2 / 2 - sigma**2 / 2
            effects[i, j] = sd**2 * K @ Z.T @ np.linalg.solve(V, y)
    weight = np.exp(weight - weight.max())
    weight /= weight.sum()
    mean_sd, mean_sigma = (weight.sum(1) * sds).sum(), (weight.sum(0) * sigmas).sum()
    return mean_sd, mean_sigma, (weight[:, :, None] * effects).sum((0, 1))


def test_the_posterior_against_brute_force(model, kinship, frame):
    sd, sigma, effects = by_hand(model, kinship, frame)
    # with eight sires an SD near zero is likely: one run in ten has a divergence or two
    fit = model.fit(bg.NUTS(draws=2000, seed=3))
    posterior = fit.draws["posterior"]
    table = fit.diagnostics
    assert fit.converged
    found = posterior["sd_sire"].to_numpy().ravel(), posterior["dispersion"].to_numpy().ravel()
    for draws, exact in zip(found, (sd, sigma), strict=True):
        # 4 Monte Carlo errors at 1,500 effective draws, which the SDs exceed here
        assert abs(draws.mean() - exact) < 4.0 * draws.std() / np.sqrt(1500)
    assert table["ess_bulk"].min() > 1500
    b = posterior["b_sire"].to_numpy()[..., 0].reshape(-1, 12)
    assert np.all(np.abs(b.mean(0) - effects) < 4.0 * b.std(0) / np.sqrt(1500))


def test_effects_under_the_prior_have_the_covariance(model, kinship):
    drawn = prior_predictive(model, draws=40_000, seed=1)["prior"]
    levels = list(model.design.groups[0].levels)
    b = drawn["b_sire"].to_numpy()[0, :, :, 0] / drawn["sd_sire"].to_numpy()[0]
    # the error of a covariance of unit normals is below sqrt(2 / 40,000) = .007; four of them
    np.testing.assert_allclose(np.cov(b.T), kinship.loc[levels, levels], atol=0.03)


def test_binary_responses(kinship, frame):
    binary = frame.assign(y=(frame.y > 1.0) * 1)
    model = bg.GLMM("y ~ 1 + (1 | sire)", binary, family="bernoulli", covariance={"sire": kinship})
    fit = model.fit()
    assert fit.method.name == "nuts"
    assert any("known covariance" in m.happened for m in fit.messages)


def test_the_identity_is_independence(frame):
    levels = sorted(set(frame.sire))
    given = {"family": "gaussian", "priors": PRIORS}
    alone = bg.GLMM("y ~ 1 + (1 | sire)", frame, **given)
    identity = pd.DataFrame(np.eye(8), levels, levels)
    related = bg.GLMM("y ~ 1 + (1 | sire)", frame, covariance={"sire": identity}, **given)
    point = bg.build_graph(alone).initial_point()
    one, other = (bg.build_graph(m).compile_logp()(point) for m in (alone, related))
    assert one == pytest.approx(other, rel=1e-12)


@pytest.mark.parametrize(
    "method",
    [bg.ML(nodes=5), "integrated", bg.PQL(bias_correct="bootstrap"), bg.GEE("random-effects")],
)
def test_methods_of_independent_levels_refuse(model, method):
    with pytest.raises(bg.NotServedError, match=r"(?s)covariance.*use REML\(\), ML\(\) or NUTS"):
        model.fit(method)


def test_likelihoods_of_other_families_refuse(kinship, frame):
    binary = frame.assign(y=(frame.y > 1.0) * 1)
    model = bg.GLMM("y ~ 1 + (1 | sire)", binary, family="bernoulli", covariance={"sire": kinship})
    with pytest.raises(bg.NotServedError, match=r"(?s)covariance.*use NUTS\(\) or PQL\(\)"):
        model.fit("ml")


def test_methods_without_effects_serve(model):
    assert model.fit("glm").converged and model.fit("gee").converged


def test_a_saved_fit_keeps_it(model, tmp_path):
    fit = model.fit("glm")
    again = bg.load_fit(fit.save(tmp_path / "a.fit"))
    kept = again.model.design.groups[0].covariance
    np.testing.assert_array_equal(kept, model.design.groups[0].covariance)
    assert again.model.design.groups[0].levels == model.design.groups[0].levels
    assert "8 levels, related, and 4 relatives without rows" in repr(again.model)


def test_relatives_without_rows_are_levels_after_the_others(model, kinship):
    block = model.design.groups[0]
    assert block.levels == (*(f"s{k}" for k in range(8)), "g", "m", "p", "q")
    assert block.n_levels == 12 and block.n_observed == 8
    order = list(block.levels)
    np.testing.assert_array_equal(block.covariance, kinship.loc[order, order])


def test_rows_stay_sorted_where_relatives_make_another_factor_the_largest(kinship, frame):
    frame = frame.assign(herd=np.arange(32) % 10)
    given = {"family": "gaussian", "covariance": {"sire": kinship}}
    design = bg.GLMM("y ~ 1 + (1 | herd) + (1 | sire)", frame, **given).design
    assert [g.n_levels for g in design.groups] == [10, 12]
    assert np.all(np.diff(design.groups[1].index) >= 0)
    np.testing.assert_array_equal(design.to_user(design.y), frame.y)


def test_labels_that_are_numbers_match_integer_columns(kinship, frame):
    numbered = frame.assign(sire=frame.sire.str[1:].astype(int) + 1)
    A = kinship.rename(lambda s: int(s[1:]) + 1 if len(s) > 1 else {"m": 20, "g": 21}.get(s, s))
    A.columns = A.index
    design = bg.GLMM(
        "y ~ 1 + (1 | sire)", numbered, family="gaussian", covariance={"sire": A}
    ).design
    new = pd.DataFrame({"sire": [21, 1, 3]})
    assert [design.groups[0].levels[i] for i in design.new_data(new)[2][0][0]] == ["21", "1", "3"]


def spoiled(kinship, how):
    if how == "lacking":
        return kinship.drop(index="s3", columns="s3")
    if how == "triangle":
        return kinship * np.tri(len(kinship))
    if how == "copies":
        B = kinship.copy()
        B.loc["s1"] = B.loc["s3"]
        B["s1"] = B["s3"]
        return B
    if how == "labels":
        return kinship.rename(columns={"s1": "other"})
    return (
        kinship.to_numpy() if how == "array" else kinship.mask(kinship == kinship.loc["s1", "s3"])
    )


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("lacking", r"lacks 1 of the 8 levels of 'sire' in the data \(s3\)"),
        ("triangle", "not symmetric"),
        ("copies", "not positive definite"),
        ("labels", "same distinct labels"),
        ("array", "needs a DataFrame"),
        ("missing", "not finite"),
    ],
)
def test_matrices_that_cannot_be(kinship, frame, how, words):
    with pytest.raises(ValueError, match=words):
        bg.GLMM(
            "y ~ 1 + (1 | sire)",
            frame,
            family="gaussian",
            covariance={"sire": spoiled(kinship, how)},
        )


def test_a_factor_that_is_not_there(kinship, frame):
    with pytest.raises(ValueError, match="names 'bull': allowed are sire"):
        bg.GLMM("y ~ 1 + (1 | sire)", frame, family="gaussian", covariance={"bull": kinship})
    with pytest.raises(ValueError, match="needs a dict"):
        bg.GLMM("y ~ 1 + (1 | sire)", frame, family="gaussian", covariance=kinship)
