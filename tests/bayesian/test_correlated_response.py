"""Correlated residuals in the graph: density, gradient, draws, and posteriors against a grid."""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from scipy import stats
from scipy.special import logsumexp

import bayes_glmm as bg
from bayes_glmm.bayesian.arrangement import (
    Arrangement,
    log_density,
    partials_of,
    simulate,
    usual_values,
    values_of,
)
from bayes_glmm.bayesian.correlated_normal import Innovations
from bayes_glmm.bayesian.correlated_response import correlations_of
from bayes_glmm.bayesian.graph import level_information
from bayes_glmm.bayesian.integrated import refusal
from bayes_glmm.bayesian.nuts import reml_scales
from bayes_glmm.bayesian.tree import log_prior, predictive, prior_draws
from bayes_glmm.methods import NotServedError
from bayes_glmm.residual import AR1, CompoundSymmetry, Exponential, Unstructured

KINDS = {
    "exponential": (Exponential("t", by="g"), {"residual_phi": 0.4}),
    "nugget": (
        Exponential("t", by="g", nugget=True),
        {"residual_phi": 0.4, "residual_nugget": 0.2},
    ),
    "ar1": (AR1("visit", by="g"), {"residual_rho": -0.35}),
    "compound_symmetry": (CompoundSymmetry(by="g"), {"residual_rho": 0.25}),
    "unstructured": (
        Unstructured("visit", by="g"),
        {"residual_corr": np.array([0.5, 0.1, -0.2, 0.4, 0.1, 0.3])},
    ),
}
each_kind = pytest.mark.parametrize("name", KINDS)


def frame(clusters=7):
    """Shuffled rows at irregular times; some clusters lack a visit, one has a single row."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "g": np.repeat([f"c{k}" for k in range(clusters)], 4),
            "visit": np.tile([1, 2, 3, 4], clusters),
            "t": np.tile([0.0, 1.0, 2.5, 6.0], clusters) + np.repeat(np.arange(clusters) % 2, 4),
            "x": rng.normal(size=4 * clusters),
            "y": rng.normal(size=4 * clusters),
        }
    )
    return table.drop([2, 7, 9, 10, 11]).sample(frac=1.0, random_state=1)


def model(name, formula="y ~ x", data=None, **options):
    residual = KINDS[name][0]
    data = frame() if data is None else data
    return bg.GLMM(formula, data, family="gaussian", residual=residual, **options)


def dense(m, values):
    """Correlation matrix of all rows in the user's order, pair by pair."""
    kind, d = m.residual, m.design
    cluster, time = (d.to_user(a) for a in (m.repeated.cluster, m.repeated.time))
    R = np.eye(d.n)
    for i in range(d.n):
        for j in range(i):
            if cluster[i] == cluster[j]:
                pair = np.array([time[i], time[j]])
                R[i, j] = R[j, i] = kind.correlation(values, kind.geometry(np.sort(pair)))[0, 1]
    return R


def draws_at(name, sd=0.8):
    given = KINDS[name][1]
    drawn = {k: np.asarray(v, float)[None, None] for k, v in given.items()}
    beta = np.array([0.3, -0.5])[None, None]
    return drawn | {"beta": beta, "dispersion": np.full((1, 1), sd)}


def raw_point(m, graph, name, sd=0.8):
    """The same parameters in the graph's own coordinates."""
    given = KINDS[name][1]
    point = {"beta": np.array([0.3, -0.5]), "dispersion": sd}
    if "residual_phi" in given:
        point["raw_residual_phi"] = np.log(2) / given["residual_phi"]
    if "residual_corr" in given:
        point["raw_residual_corr"] = 0.5 * (partials_of(given["residual_corr"], 4) + 1.0)
    if "residual_rho" in given:
        stretched = "raw_residual_rho" in {v.name for v in graph.free_RVs}
        rho = given["residual_rho"]
        point |= {"raw_residual_rho": 0.5 * (rho + 1.0)} if stretched else {"residual_rho": rho}
    if "residual_nugget" in given:
        point["residual_nugget"] = given["residual_nugget"]
    return pm.initial_point.make_initial_point_fn(
        model=graph, overrides=point, return_transformed=True
    )(None)


# ---- density


@each_kind
def test_graph_and_tree_have_the_multivariate_normal_density(name):
    m = model(name)
    graph, d = bg.build_graph(m), m.design.in_user_order()
    drawn = draws_at(name)
    values = values_of(m, drawn)[0, 0]
    mean = d.X @ drawn["beta"][0, 0]
    joint = stats.multivariate_normal(mean, 0.64 * dense(m, values)).logpdf(d.y)
    y = graph["y"]
    by_row = graph.compile_logp([y], jacobian=False, sum=False, mode="FAST_COMPILE")
    found = by_row(raw_point(m, graph, name))[0]
    assert found.shape == (d.n,)
    # the matrices have condition numbers below 100: some hundred roundings of numbers near ten
    assert found.sum() == pytest.approx(joint, abs=1e-11)
    ours, _ = predictive(m, d, drawn, np.random.default_rng(1))
    np.testing.assert_allclose(ours[0, 0], found, atol=1e-12)


@each_kind
def test_terms_are_conditional_on_the_earlier_rows(name):
    m = model(name)
    d, drawn = m.design.in_user_order(), draws_at(name)
    e = d.y - d.X @ drawn["beta"][0, 0]
    V = 0.64 * dense(m, values_of(m, drawn)[0, 0])
    ours = predictive(m, d, drawn, np.random.default_rng(1))[0][0, 0]
    cluster = m.design.to_user(m.repeated.cluster)
    time = np.asarray(d.frame["t"])
    for i in range(d.n):
        before = np.flatnonzero((cluster == cluster[i]) & (time < time[i]))
        weights = np.linalg.solve(V[np.ix_(before, before)], V[before, i])
        mean, variance = weights @ e[before], V[i, i] - weights @ V[before, i]
        if name == "compound_symmetry":  # no times: in the order of the rows as they are
            continue
        assert ours[i] == pytest.approx(stats.norm(mean, np.sqrt(variance)).logpdf(e[i]), abs=1e-12)


@pytest.mark.parametrize("mode", ["FAST_COMPILE", pytest.param("NUMBA", marks=pytest.mark.slow)])
def test_gradient_of_the_operation(mode):
    m = model("nugget")
    arrays = [pt.constant(a) for a in Arrangement.of(m).arrays]
    arrangement = Arrangement.of(m)
    weight = np.random.default_rng(2).normal(size=(2, m.design.n))

    def total(phi, nugget, e):
        values = arrangement.correlation.between([phi, nugget], arrangement.distance, pt.exp)
        white, log_scale = Innovations()(values, e, *arrays)
        return (weight[0] * white + weight[1] * log_scale).sum()

    inputs = [pt.dscalar("phi"), pt.dscalar("nugget"), pt.dvector("e")]
    value = total(*inputs)
    f = pytensor.function(inputs, [value, *pytensor.grad(value, inputs)], mode=mode)
    at = [np.array(0.4), np.array(0.2), np.asarray(m.design.in_user_order().y)]
    slopes = f(*at)[1:]
    h = 1e-5  # truncation of the order h^2, rounding 1e-15 / h
    for k, slope in enumerate(slopes):
        for j in np.ndindex(slope.shape):
            ends = [[a.copy() for a in at] for _ in range(2)]
            ends[0][k][j] -= h
            ends[1][k][j] += h
            difference = (f(*ends[1])[0] - f(*ends[0])[0]) / (2 * h)
            assert slope[j] == pytest.approx(difference, abs=1e-8)


@each_kind
def test_gradient_of_the_graph(name):
    m = model(name, "y ~ x + (1 | g)")
    graph = bg.build_graph(m)
    point = graph.initial_point()
    rng = np.random.default_rng(8)
    point = {k: v + 0.3 * rng.normal(size=np.shape(v)) for k, v in point.items()}
    logp = graph.compile_logp(mode="FAST_COMPILE")
    slope = graph.compile_dlogp(mode="FAST_COMPILE")(point)
    direction = {k: rng.normal(size=np.shape(v)) for k, v in point.items()}
    along = np.concatenate([np.ravel(direction[v.name]) for v in graph.continuous_value_vars])
    h = 1e-5
    ends = [logp({k: v + s * h * direction[k] for k, v in point.items()}) for s in (-1, 1)]
    # truncation h^2 times a third derivative of at most 1e3, rounding 1e-14 / h
    assert slope @ along == pytest.approx((ends[1] - ends[0]) / (2 * h), rel=1e-6, abs=1e-6)


def test_a_lost_matrix_is_no_density_and_no_error():
    m = model("compound_symmetry")
    arrangement = Arrangement.of(m)
    e = np.asarray(m.design.in_user_order().y)
    found = log_density(e, 1.0, arrangement.correlations([-0.5]), arrangement.arrays)
    assert found.sum() == -np.inf  # clusters of four allow -1/3


# ---- parameters


def test_partial_correlations_make_the_matrix():
    rng = np.random.default_rng(2)
    for times in (2, 3, 5):
        prior = bg.LKJ(1.0)
        R = prior.rvs(rng, 1, times)[0]
        column, row = np.triu_indices(times, 1)
        partial = partials_of(R[row, column], times)
        found = correlations_of(pt.constant(partial), times).eval(mode="FAST_COMPILE")
        np.testing.assert_allclose(found, R[row, column], atol=1e-12)


def test_the_graph_has_the_priors_density():
    """Graph and tree agree on the density of each parameter, up to constants."""
    for name in ("nugget", "ar1"):
        m = model(name, priors=bg.Priors(residual=STATED[name]))
        graph = bg.build_graph(m)
        free = [v for v in graph.free_RVs if "residual" in v.name]
        logp = graph.compile_logp(free, jacobian=False, sum=False, mode="FAST_COMPILE")
        found = sum(float(np.sum(x)) for x in logp(raw_point(m, graph, name)))
        ours = log_prior(m, draws_at(name))
        total = sum(ours[k].item() for k in KINDS[name][1])
        if "residual_phi" in KINDS[name][1]:  # the half-life's density is that of phi times this
            total += 2 * np.log(0.4) - np.log(np.log(2))
        if name == "ar1":  # stretched from (0, 1) to (-1, 1)
            total += np.log(2)
        assert found == pytest.approx(total, abs=1e-8)


STATED = {
    "nugget": {"half_life": bg.Gamma(2, 0.5), "nugget": bg.Beta(2, 3)},
    "ar1": {"rho": bg.Beta(3, 2, -1, 1)},
}


def test_information_about_effects_is_that_of_correlated_rows():
    m = model("nugget", "y ~ x + (1 + x | g)")
    d, values = m.design.in_user_order(), usual_values(m)
    block = d.groups[0]
    inverse = np.linalg.inv(dense(m, values))
    found = level_information(block, np.ones(d.n), m)
    for level in range(block.n_levels):
        Z = block.Z * (block.index == level)[:, None]
        np.testing.assert_allclose(found[level], Z.T @ inverse @ Z, atol=1e-12)


@each_kind
def test_chains_start_at_the_restricted_likelihoods_estimates(name):
    found = reml_scales(model(name))
    reml = model(name).fit("reml")
    assert found["dispersion"] == reml.dispersion
    if name == "nugget":
        low, high = (float(np.log(2) / m) for m in (0.1, 10.0))
        assert high < found["raw_residual_phi"] or found["raw_residual_phi"] < low
    if name in ("ar1", "compound_symmetry"):
        assert found["residual_rho"] == pytest.approx(reml.variance.residual[0])


def test_chains_start_where_neighbours_are_correlated_in_fine_units_of_time():
    """The likelihood is flat in a correlation whose power at one gap is zero."""
    data = bg.load_dataset("milk").assign(time=lambda d: 1000 * d["time"])
    m = bg.GLMM("protein ~ diet", data, family="gaussian", residual=AR1("time", by="cow"))
    start = reml_scales(m)["residual_rho"]
    assert start**1000 == pytest.approx(0.6719, abs=1e-3)  # of the restricted likelihood


# ---- draws


@each_kind
def test_simulated_residuals_have_the_correlation(name):
    m = model(name)
    drawn = draws_at(name)
    values = values_of(m, drawn)[0, 0]
    arrangement, rng = Arrangement.of(m), np.random.default_rng(4)
    held = arrangement.correlations(values), arrangement.arrays
    many = np.array([simulate(rng, 0.8, *held) for _ in range(4000)])
    error = np.cov(many.T) - 0.64 * dense(m, values)
    # five standard errors of a variance, 0.64 sqrt(2 / 4000), over some 500 entries
    assert np.abs(error).max() < 5 * 0.64 * np.sqrt(2 / 4000)


@pytest.mark.slow
def test_pymc_draws_predictions_with_the_correlation():
    m = model("ar1")
    graph = bg.build_graph(m)
    draws = {k: np.broadcast_to(v, (1, 3000, *v.shape[2:])) for k, v in draws_at("ar1").items()}
    dims = {"beta": ("chain", "draw", "term")}
    posterior = xr.Dataset({k: (dims.get(k, ("chain", "draw")), v) for k, v in draws.items()})
    with graph:
        tree = pm.sample_posterior_predictive(
            xr.DataTree.from_dict({"posterior": posterior}),
            freeze_vars=["beta", "residual_rho", "dispersion"],
            random_seed=1,
            progressbar=False,
        )
    y = np.asarray(tree["posterior_predictive"]["y"])[0]
    assert tree["posterior_predictive"]["y"].dims == ("chain", "draw", "observation")
    error = np.cov(y.T) - 0.64 * dense(m, np.array([-0.35]))
    assert np.abs(error).max() < 5 * 0.64 * np.sqrt(2 / 3000)  # as above


def test_the_prior_predictive_distribution_has_the_correlation():
    """Responses of one cluster, less their mean, at the rho of the same draw."""
    m = model("ar1", priors=bg.Priors(residual={"rho": bg.Uniform(0.6, 0.8)}))
    tree = m.prior_predictive(3000)
    prior, d = tree["prior"], m.design.in_user_order()
    mean = np.asarray(prior["beta"])[0] @ d.X.T
    z = (np.asarray(tree["prior_predictive"]["y"])[0] - mean) / np.asarray(prior["dispersion"]).T
    cluster, visit = np.asarray(d.frame["g"]), np.asarray(d.frame["visit"])
    pairs = [
        (i, j)
        for i in range(d.n)
        for j in range(d.n)
        if cluster[i] == cluster[j] and visit[j] == visit[i] + 1
    ]
    product = np.mean([z[:, i] * z[:, j] for i, j in pairs])
    # E rho = 0.7; a product has variance 1 + rho^2, and neighbouring pairs share rows
    assert product == pytest.approx(0.7, abs=5 * np.sqrt(2 * 2 / (3000 * len(pairs))))


def test_prior_draws_of_unstructured_correlations_are_matrices():
    m = model("unstructured")
    drawn = prior_draws(m, np.random.default_rng(1), 500)["residual_corr"][0]
    assert drawn.shape == (500, 6)
    # uniform over matrices of four: (r + 1) / 2 ~ Beta(2, 2), variance 4 / 20
    assert drawn.var() == pytest.approx(0.2, abs=5 * 0.2 * np.sqrt(2 / 3000))


# ---- posteriors


TINY = pd.DataFrame(
    {
        "y": [1.2, 0.9, 0.3, -0.8, -1.1, -0.2, 0.4, 0.9, 1.6],
        "t": [0.0, 1.0, 3.0, 0.0, 1.5, 3.0, 0.0, 1.0, 2.0],
        "g": list("aaabbbccc"),
    }
)


def tiny(**options):
    priors = bg.Priors(intercept=bg.Normal(0, 1), dispersion=bg.HalfNormal(1.5), **options)
    residual = Exponential("t", by="g", nugget=True)
    return bg.GLMM("y ~ 1", TINY, family="gaussian", residual=residual, priors=priors)


def on_a_grid(m):
    """Posterior means and SDs by brute force: intercept integrated out, the rest on a grid."""
    z = (np.arange(60) + 0.5) / 60  # quantiles of the priors, so that weights are equal
    phi, nugget, sd = (p.ppf(z) for p in (*m.priors.residual.values(), m.priors.dispersion))
    log_weight = np.empty((60, 60, 60))
    mean = np.empty((60, 60, 60))
    variance = np.empty((60, 60, 60))
    one, y = np.ones(9), m.design.to_user(m.design.y)
    for a, rate in enumerate(phi):
        for b, share in enumerate(nugget):
            R = dense(m, np.array([rate, share]))
            half = np.linalg.solve(np.linalg.cholesky(R), np.column_stack([one, y]))
            xx, xy, yy = half[:, 0] @ half[:, 0], half[:, 0] @ half[:, 1], half[:, 1] @ half[:, 1]
            precision = xx / sd**2 + 1.0
            mean[a, b], variance[a, b] = xy / sd**2 / precision, 1.0 / precision
            log_weight[a, b] = (
                -9 * np.log(sd)
                - 0.5 * np.linalg.slogdet(R)[1]
                - 0.5 * np.log(precision)
                - 0.5 * (yy / sd**2 - (xy / sd**2) ** 2 / precision)
            )
    weight = np.exp(log_weight - logsumexp(log_weight))
    grids = np.meshgrid(phi, nugget, sd, indexing="ij")
    found = {}
    for name, values in zip(("residual_phi", "residual_nugget", "dispersion"), grids, strict=True):
        centre = np.sum(weight * np.log(values))
        found[name] = centre, np.sqrt(np.sum(weight * (np.log(values) - centre) ** 2))
    centre = np.sum(weight * mean)
    found["beta"] = centre, np.sqrt(np.sum(weight * (variance + (mean - centre) ** 2)))
    return found


@pytest.fixture(scope="module")
def sampled():
    return tiny().fit(bg.NUTS(draws=1500, tune=800, seed=2))


@pytest.mark.slow
def test_nuts_has_the_posterior_of_a_grid(sampled):
    expected, posterior = on_a_grid(sampled.model), sampled.draws["posterior"]
    assert sampled.converged and sampled.details["divergences"] == 0
    for name, (centre, sd) in expected.items():
        values = np.asarray(posterior[name]).reshape(4, 1500)
        values = values if name == "beta" else np.log(values)
        # four Monte Carlo standard errors at 1,500 effective draws of each, of mean and SD; the
        # grid's own error, 60 equal steps of probability, is a third of that
        assert values.mean() == pytest.approx(centre, abs=4 * sd / np.sqrt(1500))
        assert values.std() == pytest.approx(sd, rel=4 / np.sqrt(1500))


@pytest.mark.slow
def test_a_posterior_is_whole(sampled, tmp_path):
    tree = sampled.draws
    assert set(tree["posterior"]) == {"beta", "residual_phi", "residual_nugget", "dispersion"}
    assert set(tree["log_prior"]) == set(tree["posterior"])
    assert tree["log_likelihood"].attrs["given"] == "earlier rows of the same g"
    assert list(sampled.tidy()["term"])[-3:] == ["residual phi", "residual nugget", "dispersion"]
    again = bg.load_fit(sampled.save(tmp_path / "tiny.fit"))
    xr.testing.assert_equal(again.draws["posterior"].to_dataset(), tree["posterior"].to_dataset())
    assert again.model.priors.assigned == sampled.model.priors.assigned
    simulated = sampled.simulate(n=3)
    assert simulated.shape == (9, 3) and np.isfinite(simulated.to_numpy()).all()


@pytest.mark.slow
def test_predictions_have_the_autocorrelation_of_the_data():
    """Replicates of a fit to AR(1) data are as correlated at lag one as the data are."""
    rng = np.random.default_rng(6)
    rows = pd.DataFrame({"g": np.repeat(np.arange(40), 8), "t": np.tile(np.arange(8), 40)})
    e = rng.normal(size=(40, 8))
    for k in range(1, 8):
        e[:, k] = 0.7 * e[:, k - 1] + np.sqrt(1 - 0.49) * e[:, k]
    rows["y"] = 2.0 + e.ravel()
    fit = bg.GLMM("y ~ 1", rows, family="gaussian", residual=AR1("t", by="g")).fit(bg.NUTS(seed=3))
    assert fit.converged

    def lag_one(y):
        y = y.reshape(-1, 40, 8) - y.mean(axis=-1)[..., None, None]
        return np.sum(y[..., 1:] * y[..., :-1], axis=(1, 2)) / np.sum(y**2, axis=(1, 2))

    replicated = lag_one(np.asarray(fit.draws["posterior_predictive"]["y"]).reshape(-1, 320))
    assert 0.02 < np.mean(replicated < lag_one(rows["y"].to_numpy()[None])[0]) < 0.98
    rho = fit.draws["posterior"]["residual_rho"]
    assert abs(rho.mean().item() - 0.7) < 3 * rho.std().item()


@pytest.mark.slow
def test_simulated_truths_rank_uniformly():
    """Parameters drawn from the prior rank uniformly in their posteriors (Talts et al. 2018)."""
    design = frame(12)
    base = model("nugget", data=design, priors=SHARP)
    rng = np.random.default_rng(11)
    ranks = []
    for k in range(40):
        tree = base.prior_predictive(1, seed=1000 + k)
        truth = tree["prior"].to_dataset().isel(chain=0, draw=0)
        data = design.assign(y=np.asarray(tree["prior_predictive"]["y"])[0, 0])
        fit = model("nugget", data=data, priors=SHARP).fit(
            bg.NUTS(draws=300, tune=400, chains=2, seed=k)
        )
        drawn = fit.draws["posterior"].isel(draw=slice(None, None, 6))
        names = ("residual_phi", "residual_nugget", "dispersion")
        ranks.append([float((drawn[n] < truth[n]).mean()) for n in names])
    ranks = np.array(ranks) + rng.uniform(-0.005, 0.005, (40, 3))  # no ties
    for column in ranks.T:
        assert stats.kstest(np.clip(column, 0, 1), "uniform").pvalue > 1e-3  # of three tests


SHARP = bg.Priors(
    intercept=bg.Normal(0, 1),
    beta=bg.Normal(0, 1),
    dispersion=bg.LogNormal(0, 0.4),
    residual={"half_life": bg.LogNormal(0.7, 0.7), "nugget": bg.Beta(2, 4)},
)


@pytest.mark.slow
def test_sleepstudy_with_autoregression_within_subjects():
    """Posterior and REML agree where the data say much."""
    m = bg.GLMM(
        "reaction ~ days + (1 | subject)",
        bg.load_dataset("sleepstudy"),
        family="gaussian",
        residual=AR1("days", by="subject"),
    )
    fit, reml = m.fit(bg.NUTS(seed=4)), m.fit("reml")
    assert fit.converged and fit.details["divergences"] == 0
    draws = np.asarray(fit.draws["posterior"]["residual_rho"]).ravel()
    below = np.mean(draws < reml.variance.residual[0])
    assert 0.05 < below < 0.95
    beta = np.asarray(fit.draws["posterior"]["beta"]).reshape(-1, 2)
    within = np.abs(beta.mean(axis=0) - reml.beta) / beta.std(axis=0)
    assert within.max() < 0.25  # priors are wide: a quarter of a posterior SD


# ---- which method


def test_integrated_names_nuts():
    m = model("ar1", "y ~ x + (1 | g)")
    with pytest.raises(NotServedError, match=r"Integrated takes.*NUTS\(\)"):
        m.fit("integrated")
    assert "correlated within clusters" in refusal(m)  # why fit() without a method takes NUTS
