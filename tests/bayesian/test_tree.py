"""Log-likelihood, log prior, predictive and prior draws of a DataTree, against dense formulas."""

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import bayes_glmm as bg
from bayes_glmm.bayesian import tree as tree_module
from bayes_glmm.bayesian.summary import summarise
from bayes_glmm.bayesian.tree import posterior_tree, predictive, prior_draws

N = 36
RNG = np.random.default_rng(5)
FRAME = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.normal(size=N),
        "w": RNG.normal(size=N),
        "g": RNG.permutation(np.repeat(list("abcdef"), 6)),  # not sorted
        "h": RNG.permutation(np.repeat(list("uvw"), 12)),
    },
    index=RNG.permutation(N) + 100,
)
PRIORS = bg.Priors(
    sd_for={"g[x]": bg.InverseGamma(2, 1)},
    beta_for={"x": bg.Cauchy(0, 1)},
    dispersion=bg.HalfNormal(2),
)
CHAINS, DRAWS = 2, 200


@pytest.fixture(scope="module")
def model():
    return bg.GLMM(
        "y ~ x + (x | g) + (0 + w | g) + (1 | h)", FRAME, family="gaussian", priors=PRIORS
    )


def some_draws(model, shift=0.0):
    rng = np.random.default_rng(2)
    shape = (CHAINS, DRAWS)
    draws = {"beta": rng.normal(size=(*shape, model.design.p))}
    for block in model.design.groups:
        draws[f"sd_{block.group}"] = rng.uniform(0.5, 2, (*shape, block.q))
        draws[f"b_{block.group}"] = rng.normal(size=(*shape, block.n_levels, block.q))
        if block.pairs:
            draws[f"corr_{block.group}"] = rng.uniform(-0.8, 0.8, (*shape, len(block.pairs)))
    if model.family.has_dispersion:
        draws["dispersion"] = rng.uniform(0.5, 2, shape)
    draws["beta"][1] += shift
    return draws


def tree_of(model, draws, divergences=0):
    diverging = np.zeros((CHAINS, DRAWS), bool)
    diverging[0, :divergences] = True
    sampler = xr.Dataset({"diverging": (("chain", "draw"), diverging)})
    return posterior_tree(model, draws, sampler, np.random.default_rng(3))


@pytest.fixture(scope="module")
def tree(model):
    return tree_of(model, some_draws(model))


def test_groups_and_row_labels(tree):
    assert set(tree.children) == {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "log_prior",
        "posterior_predictive",
        "prior",
        "observed_data",
        "constant_data",
    }
    for group in ("observed_data", "log_likelihood", "posterior_predictive", "constant_data"):
        np.testing.assert_array_equal(tree[group]["observation"], FRAME.index)
    np.testing.assert_array_equal(tree["observed_data"]["y"], FRAME["y"])
    np.testing.assert_array_equal(tree["constant_data"]["X_data"].sel(term="x"), FRAME["x"])


def test_log_likelihood_row_by_row(tree):
    """One draw, the linear predictor summed by hand in the user's order."""
    draw = tree["posterior"].to_dataset().isel(chain=1, draw=17)
    for label, row in FRAME.iterrows():
        b = draw["b_g"].sel(g=row.g)
        mean = draw["beta"].sel(term="Intercept") + draw["beta"].sel(term="x") * row.x
        mean = mean + b.sel(g_term="Intercept") + b.sel(g_term="x") * row.x
        mean = mean + b.sel(g_term="w") * row.w + draw["b_h"].sel(h=row.h, h_term="Intercept")
        expected = stats.norm(float(mean), float(draw["dispersion"])).logpdf(row.y)
        found = tree["log_likelihood"]["y"].isel(chain=1, draw=17).sel(observation=label)
        assert float(found) == pytest.approx(expected, abs=1e-12)


def test_log_prior_has_one_entry_per_prior(model, tree):
    found = tree["log_prior"].to_dataset().isel(chain=0, draw=3)
    draw = tree["posterior"].to_dataset().isel(chain=0, draw=3)
    assert set(found.data_vars) == {"beta", "sd_g", "corr_g", "sd_h", "dispersion"}
    assert found["beta"].dims == ("term",)
    assert found["corr_g"].dims == ()
    expected = stats.cauchy(0, 1).logpdf(draw["beta"].sel(term="x"))
    np.testing.assert_allclose(found["beta"][1], expected)
    sd = float(draw["sd_g"].sel(g_term="x"))
    np.testing.assert_allclose(found["sd_g"][1], stats.invgamma(2).logpdf(sd**2) + np.log(2 * sd))
    r = float(draw["corr_g"].sel(g_pair="Intercept~x"))
    np.testing.assert_allclose(found["corr_g"], stats.beta(2, 2, -1, 2).logpdf(r))


def test_replicated_responses_follow_the_family(tree):
    """Standardised replicates are standard normal: mean and SD within five standard errors."""
    draws = tree["posterior"].to_dataset()
    y = tree["posterior_predictive"]["y"].to_numpy()
    eta = (tree["constant_data"]["X_data"] * draws["beta"]).sum("term").to_dataset(name="eta")
    residual = y - eta["eta"].transpose("chain", "draw", "observation").to_numpy()
    for block, name in (("g", "b_g"), ("h", "b_h")):
        index = tree["constant_data"][f"index_{block}"].to_numpy()
        b = draws[name].to_numpy()[:, :, index]
        Z = np.ones((N, 1)) if block == "h" else np.c_[np.ones(N), FRAME.x, FRAME.w]
        residual -= (b * Z).sum(-1)
    z = residual / draws["dispersion"].to_numpy()[..., None]
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert abs(z.std() - 1) < 5 / np.sqrt(2 * z.size)


def test_prior_draws_follow_the_priors(model):
    drawn = prior_draws(model, np.random.default_rng(1), size=2000)
    sd = drawn["sd_g"][0, :, 1]
    assert stats.kstest(sd**2, stats.invgamma(2).cdf).pvalue > 1e-3
    assert stats.kstest(drawn["beta"][0, :, 1], stats.cauchy.cdf).pvalue > 1e-3
    assert stats.kstest(drawn["corr_g"][0, :, 0], stats.beta(2, 2, -1, 2).cdf).pvalue > 1e-3
    assert stats.kstest(drawn["dispersion"][0], stats.halfnorm(0, 2).cdf).pvalue > 1e-3


def test_estimates_are_means_and_sds_of_the_draws(model, tree):
    fit = summarise(model, bg.NUTS(), tree)
    posterior = tree["posterior"]
    np.testing.assert_allclose(fit.fixef(), posterior["beta"].mean(("chain", "draw")))
    np.testing.assert_allclose(fit.se(), posterior["beta"].std(("chain", "draw"), ddof=1))
    table = fit.varcorr().set_index(["group", "term", "term2"])
    mean = posterior.mean(("chain", "draw"))
    assert table.loc[("g", "w", ""), "sd"] == pytest.approx(float(mean["sd_g"][2]))
    assert table.loc[("g", "Intercept", "x"), "corr"] == pytest.approx(float(mean["corr_g"][0]))
    assert fit.dispersion == pytest.approx(float(mean["dispersion"]))
    effects = fit.ranef().set_index(["group", "level", "term"])
    expected = mean["b_g"].sel(g="c", g_term="x")
    assert effects.loc[("g", "c", "x"), "estimate"] == pytest.approx(float(expected))
    tidy = fit.tidy(("fixed", "ran_pars", "ran_vals"))
    assert tidy[["rhat", "ess_bulk", "ess_tail"]].notna().all().all()
    assert fit.loglik is None
    assert fit.aic is None


def test_diagnostics_become_messages(model):
    fit = summarise(
        model, bg.NUTS(draws=DRAWS, chains=CHAINS), tree_of(model, some_draws(model, 3.0), 4)
    )
    messages = {m.code: str(m) for m in fit.messages}
    assert not fit.converged
    assert "4 of 400" in messages["divergences"]
    assert "for Intercept;" in messages["rhat-high"] or "for x;" in messages["rhat-high"]
    assert "ess-low" in messages
    calm = summarise(model, bg.NUTS(draws=DRAWS, chains=CHAINS), tree_of(model, some_draws(model)))
    assert "divergences" not in {m.code for m in calm.messages}
    # independent draws: R-hat is 1 up to its noise with 400 draws
    assert calm.diagnostics["rhat"].max() < 1.05 < fit.diagnostics["rhat"].max()


def test_a_model_without_random_effects():
    model = bg.GLMM("h2 ~ x", FRAME.assign(h2=(FRAME.y > 0) * 1), family="bernoulli")
    fit = summarise(model, bg.NUTS(), tree_of(model, some_draws(model)))
    assert fit.variance is None
    assert list(fit.tidy()["term"]) == ["Intercept", "x"]


def test_a_model_without_coefficients_is_not_served():
    model = bg.GLMM("y ~ 0 + (1 | g)", FRAME, family="gaussian")
    with pytest.raises(bg.NotServedError, match="needs a coefficient"):
        model.fit(bg.NUTS())


def plain_statistics():
    return xr.Dataset({"lp": (("chain", "draw"), np.zeros((CHAINS, DRAWS)))})


def test_pointwise_groups_are_thinned_where_they_would_be_large(model, monkeypatch):
    """With room for a third of the draws, every third is kept, under its own number."""
    monkeypatch.setattr(tree_module, "HELD", CHAINS * DRAWS * N // 3)
    draws = some_draws(model)
    whole = np.random.default_rng(1)
    found = posterior_tree(model, draws, plain_statistics(), whole)
    kept = np.arange(0, DRAWS, 3)
    some = {name: values[:, ::3] for name, values in draws.items()}
    expected, _ = predictive(model, model.design.in_user_order(), some, np.random.default_rng(1))
    for name in ("log_likelihood", "posterior_predictive"):
        group = found[name]
        assert group.sizes == {"chain": CHAINS, "draw": len(kept), "observation": N}
        np.testing.assert_array_equal(group["draw"], kept)
    np.testing.assert_array_equal(found["log_likelihood"]["y"], expected)
    assert found["posterior"].sizes["draw"] == DRAWS
    fit = summarise(model, bg.NUTS(draws=DRAWS, chains=CHAINS), found)
    (note,) = [m for m in fit.messages if m.code == "draws-thinned"]
    assert "log_likelihood, posterior_predictive hold one of every 3, 3 draws" in str(note)


def test_replicates_are_the_same_in_any_number_of_threads(model, monkeypatch):
    draws, design = some_draws(model), model.design.in_user_order()
    found = []
    for many in (0, 10**9):
        monkeypatch.setattr(tree_module, "MANY", many)
        found.append(predictive(model, design, draws, np.random.default_rng(1)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_chains_and_draws_are_numbered_in_every_group(model, monkeypatch):
    """ArviZ's trace plots tell chains apart by their numbers, and fail without."""
    monkeypatch.setattr(tree_module, "HELD", CHAINS * DRAWS * N // 2)  # every second draw by row
    tree = tree_of(model, some_draws(model))
    for name, group in tree.children.items():
        for dim in {"chain", "draw"} & set(group.dims):
            assert dim in group.coords, f"{dim} of {name}"
    assert tree["log_likelihood"]["draw"].values.tolist() == list(range(0, DRAWS, 2))
    az.plot_trace(tree, var_names=["beta"], backend="none")
