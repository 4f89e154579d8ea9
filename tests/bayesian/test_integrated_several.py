"""Integrated() for several factors: its density against PyMC's, its draws against others'."""

import arviz_stats
import numpy as np
import pandas as pd
import pytest
from scipy import special

import bayes_glmm as bg
import bayes_glmm.bayesian.whitening as whitening_module
from bayes_glmm.bayesian.density import IntegratedDensity
from bayes_glmm.bayesian.graph import level_information, null_weights
from bayes_glmm.bayesian.integrated import find_mode, refusal
from bayes_glmm.bayesian.joint_start import LaplacePosterior, joint_density
from bayes_glmm.bayesian.level_information import Eliminated
from bayes_glmm.bayesian.whitening import whiten
from bayes_glmm.numerics.groups import parents


def frame(seed: int = 2) -> pd.DataFrame:
    """Sixty rows in 12 ``g``, nested in 4 ``k`` and crossed with 3 ``h``; labels are words."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 5)})
    data["k"], data["h"] = data["g"] // 3, rng.integers(0, 3, 60)
    data["x"] = rng.standard_normal(60)
    sizes = {"g": 12, "k": 4, "h": 3}
    eta = 0.3 + 0.5 * data["x"]
    for name, size in sizes.items():
        eta += 0.7 * rng.standard_normal(size)[data[name]]
        data[name] = [f"{name}{i}" for i in data[name]]
    data["y"] = (rng.random(60) < special.expit(eta)).astype(int)
    data["count"] = rng.poisson(np.exp(eta))
    data["amount"] = eta + 0.5 * rng.standard_normal(60)
    return data.sample(frac=1.0, random_state=1)


def model(formula: str, family: str = "bernoulli", **options) -> bg.GLMM:
    return bg.GLMM(formula, frame(), family=family, **options)


CASES = {
    "crossed": model("y ~ x + (1 | g) + (1 | h)"),
    "nested": model("count ~ x + (1 | k/g)", "poisson"),
    "three": model("count ~ x + (1 | h) + (1 | k) + (1 | g)", "poisson"),
    "vector among the others": model("y ~ x + (1 | g) + (1 + x | k)"),
    "vectors, dispersion": model("count ~ x + (x | g) + (x || h)", "negative_binomial"),
    "gaussian": model("amount ~ x + (1 | g) + (1 | h)", "gaussian"),
}


def prepared(model, nodes: int = 7):
    """Joint density and its whitening, as the sampler has them."""
    density = IntegratedDensity(model, nodes)
    laplace = LaplacePosterior(density)
    mode, covariance = find_mode(density, laplace)
    joint = joint_density(laplace, mode)
    return joint, whiten(joint, mode, covariance)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_exact(name):
    joint, whitening = prepared(CASES[name])
    rng = np.random.default_rng(4)
    h = 1e-4
    for nodes in (1, 3, 7):
        joint.integrated.use_nodes(nodes)
        x = whitening.unknowns(0.5 * rng.standard_normal(joint.size))
        _, gradient = joint(x)
        numeric = [
            (joint(x + h * e)[0] - joint(x - h * e)[0]) / (2 * h) for e in np.eye(joint.size)
        ]
        # as in test_integrated: values to 1e-10 over 2e-4, and h^2 times third derivatives
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_laplace_gradient_is_exact(name):
    density = IntegratedDensity(CASES[name], 1)
    laplace = LaplacePosterior(density)
    mode, _ = find_mode(density, laplace)
    h = 1e-4
    x = mode + 0.2 * np.random.default_rng(1).standard_normal(len(mode))
    numeric = [(laplace(x + h * e)[0] - laplace(x - h * e)[0]) / (2 * h) for e in np.eye(len(x))]
    np.testing.assert_allclose(laplace(x)[1], numeric, rtol=1e-6, atol=2e-6)  # as above


@pytest.mark.parametrize("name", CASES)
def test_many_points_as_one_by_one(name):
    joint, whitening = prepared(CASES[name])
    rng = np.random.default_rng(5)
    x = whitening.unknowns(0.5 * rng.standard_normal((6, joint.size)))
    effects = joint.effects(x)
    density = joint.integrated
    arguments = density.arguments(x[:, : density.size])
    together = joint.log_likelihoods(x, effects).sum(axis=1) + density.log_scales(arguments[2])
    for point, value in zip(x, together, strict=True):
        joint(point)
        eta = np.zeros(len(density.rows.y))
        for centred in joint.centred:
            centred.add_to(eta)
        one = density.likelihood(point[: density.size], eta)[0]
        # modes to a Newton decrement of 1e-10 against 1e-20
        assert value + density.constant == pytest.approx(one, abs=1e-7)


@pytest.mark.parametrize("name", ["crossed", "vectors, dispersion"])
def test_whitened_variables_of_the_others_are_independent_of_unit_scale(name):
    """At the centre: the Hessian is minus the identity, and has nothing beside it."""
    joint, whitening = prepared(CASES[name])
    d, h = joint.coordinate_count, 1e-3
    for i, e in enumerate(np.eye(joint.size)[d:]):
        slopes = [whitening.gradient(joint(whitening.unknowns(z))[1]) for z in (h * e, -h * e)]
        row = (slopes[0] - slopes[1]) / (2 * h)
        expected = -np.eye(joint.size)[d + i]
        # differences of third order, h^2 here and 1e-4 in the map itself
        np.testing.assert_allclose(row, expected, atol=2e-3)


@pytest.mark.parametrize("dense", [0, 600])
def test_whitening_carries_gradients(dense, monkeypatch):
    """With and without a root for the other factors' effects."""
    monkeypatch.setattr(whitening_module, "DENSE", dense)
    joint, whitening = prepared(CASES["three"])
    assert (whitening.rest is None) == (dense == 0)
    z = 0.5 * np.random.default_rng(8).standard_normal(joint.size)
    found = whitening.gradient(joint(whitening.unknowns(z))[1])
    h = 1e-4
    values = [
        [joint(whitening.unknowns(z + step * e))[0] for step in (h, -h)] for e in np.eye(joint.size)
    ]
    numeric = np.array([(a - b) / (2 * h) for a, b in values])
    np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=2e-6)  # as for the gradients


def test_information_of_levels_is_the_dense_formula():
    """``Z'(w - wA(I + A'wA)^{-1}A'w)Z`` for levels, and for levels with those above them."""
    rng = np.random.default_rng(3)
    crossed, outer, inner = IntegratedDensity(CASES["three"], 1).factors
    weights = rng.random(60)
    A = 0.8 * np.eye(3)[crossed.index]
    H = np.eye(3) + A.T @ (weights[:, None] * A)
    V = np.diag(weights) - (weights[:, None] * A) @ np.linalg.solve(H, A.T * weights)
    found = Eliminated(weights, [(crossed, np.array([[0.8]]))])
    above = parents(inner, outer)
    own, shared = found.blocks(inner, inner, np.arange(12)), found.blocks(inner, outer, above)
    for level in range(12):
        z, y = inner.index == level, outer.index == above[level]
        assert own[level, 0, 0] == pytest.approx(z @ V @ z, rel=1e-9)
        assert shared[level, 0, 0] == pytest.approx(z @ V @ y, rel=1e-9)


def test_density_is_the_graphs_with_the_largest_factor_integrated():
    """Brute force over a grid of each level's effect of the largest factor.

    Both densities are carried to the other factors' ``u``: raw variables are ``K'u`` there,
    and ``u sqrt(1 + w sd^2)`` in the graph.
    """
    model = CASES["three"]
    graph = bg.build_graph(model)
    joint_logp = graph.compile_fn(graph.logp(), inputs=graph.value_vars, on_unused_input="ignore")
    joint, whitening = prepared(model, 41)
    c = joint.coordinates
    design = model.design.in_user_order()
    weights = null_weights(model, design)
    w = {g.group: level_information(g, weights)[:, 0, 0] for g in design.groups}
    wide = np.linspace(-20.0, 20.0, 401)

    def theirs(x) -> float:
        named = {key: value[0] for key, value in c.named(x[None, : joint.integrated.size]).items()}
        values = {"beta": named["beta"]}
        jacobian = 0.0
        for i, k in enumerate(joint.integrated.others):
            group = model.design.groups[k].group
            h = np.sqrt(1.0 + w[group] * named[f"sd_{group}"] ** 2)
            values[f"raw_b_{group}_0"] = h * joint.centred[i].u[:, 0]
            jacobian += np.log(h).sum()
        for g in design.groups:
            values[f"sd_{g.group}_log__"] = np.log(named[f"sd_{g.group}"])
        raw = "raw_b_g_0"
        zero = np.zeros(12)
        origin = float(joint_logp({**values, raw: zero}))
        total = origin + jacobian
        for level in range(12):
            cells = np.empty(len(wide))
            for i, value in enumerate(wide):
                effect = zero.copy()
                effect[level] = value
                cells[i] = joint_logp({**values, raw: effect})
            total += special.logsumexp(cells) + np.log(wide[1] - wide[0]) - origin
        return total

    rng = np.random.default_rng(7)
    pairs = []
    for _ in range(2):
        x = whitening.unknowns(0.5 * rng.standard_normal(joint.size))
        ours = joint(x)[0]
        ours += sum(np.log(np.diagonal(k.K, axis1=1, axis2=2)).sum() for k in joint.centred)
        pairs.append((ours, theirs(x)))
    (a, b), (d, e) = pairs
    # the trapezoidal rule over integrands of about unit width, spacing .1: 1e-8
    assert a - d == pytest.approx(b - e, abs=1e-6)


# the draws


TINY = bg.Priors(intercept=bg.Normal(0, 1), sd=bg.HalfNormal(0.7))


def by_prior_draws(model, size: int = 400_000, seed: int = 1):
    """Weighted draws of everything: from the prior, weighted by the likelihood.

    Nothing of the package is used but the design's columns.
    """
    rng = np.random.default_rng(seed)
    design = model.design.in_user_order()
    draws = {"beta": rng.normal(0, 1, (size, 1))}
    eta = draws["beta"] @ np.ones((1, design.n))
    for block in design.groups:
        sd = np.abs(rng.normal(0, 0.7, (size, 1)))
        b = sd * rng.standard_normal((size, block.n_levels))
        draws |= {f"sd_{block.group}": sd, f"b_{block.group}": b}
        eta += b[:, block.index]
    logs = np.where(design.y == 1, -np.logaddexp(0, -eta), -np.logaddexp(0, eta))
    return draws, special.softmax(logs.sum(axis=1))


def tiny(order=None) -> bg.GLMM:
    """Twenty binary rows, two crossed factors whose labels sort unlike they appear."""
    data = pd.DataFrame({"g": list("dbca") * 5, "h": list("zzzzzyyyyyxxxxxzzyyx")})
    data["y"] = [1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 0]
    data = data if order is None else data.iloc[order]
    return bg.GLMM("y ~ 1 + (1 | g) + (1 | h)", data, family="bernoulli", priors=TINY)


def test_draws_are_those_of_the_exact_posterior():
    """Means and SDs of every parameter and effect, by its label; rows in another order."""
    model = tiny(np.random.default_rng(2).permutation(20))
    fit = model.fit(bg.Integrated(seed=2))
    assert "integral-unsettled" not in {m.code for m in fit.messages}
    exact, weight = by_prior_draws(tiny())
    posterior = fit.draws["posterior"]
    effective = 1.0 / np.sum(weight**2)
    assert effective > 20_000
    for block in tiny().design.groups:
        labels = [str(label) for label in block.levels]
        ours = posterior[f"b_{block.group}"].sel({block.group: labels})
        compare(ours, exact[f"b_{block.group}"], weight, effective)
        compare(posterior[f"sd_{block.group}"], exact[f"sd_{block.group}"], weight, effective)
    compare(posterior["beta"], exact["beta"], weight, effective)


def compare(draws, values, weight, effective: float) -> None:
    """Agreement within four and a half standard errors of both Monte Carlo means."""
    for kind, moment in (("mean", lambda a: a), ("sd", lambda a: a**2)):
        found = moment(draws)
        mean = weight @ moment(values)
        spread = np.sqrt(weight @ (moment(values) - mean) ** 2)
        error = np.ravel(arviz_stats.mcse(found, method="mean"))
        error = np.sqrt(error**2 + spread**2 / effective)
        away = np.ravel(found.mean(("chain", "draw"))) - mean
        assert np.all(np.abs(away) < 4.5 * error), kind


def test_integrated_likelihood_of_groups_is_given_the_others():
    fit = tiny().fit(bg.Integrated(draws=50, tune=100))
    held = fit.draws["log_likelihood_by_group"]
    assert held["y"].dims == ("chain", "draw", "g")
    assert "b_h" in held.attrs["given"].split(", ")
    posterior = fit.draws["posterior"].isel(chain=1, draw=7)
    design = tiny().design.in_user_order()
    g, h = design.groups
    level = list(g.levels).index("b")
    rows = g.index == level
    base = float(posterior["beta"][0]) + posterior["b_h"].to_numpy()[h.index[rows], 0]
    grid = np.linspace(-8, 8, 400)
    eta = base + float(posterior["sd_g"][0]) * grid[:, None]
    logs = np.where(design.y[rows] == 1, -np.logaddexp(0, -eta), -np.logaddexp(0, eta))
    inside = logs.sum(axis=1) - 0.5 * grid**2 - 0.5 * np.log(2 * np.pi)
    exact = special.logsumexp(inside) + np.log(grid[1] - grid[0])
    found = held["y"].sel(g="b").isel(chain=1, draw=7)
    assert float(found) == pytest.approx(exact, abs=0.01)  # the nodes settle within .01


def test_same_seed_same_draws():
    first, again = (tiny().fit(bg.Integrated(draws=40, tune=60, seed=9)) for _ in range(2))
    for name, values in first.draws["posterior"].data_vars.items():
        np.testing.assert_array_equal(values, again.draws["posterior"][name])


def test_a_matrix_too_large_to_hold_is_refused(monkeypatch):
    """Crossed effects beyond what a full matrix serves, as if six were too many."""
    from bayes_glmm.bayesian import integrated
    from bayes_glmm.numerics import schur

    for module in (schur, integrated):
        monkeypatch.setattr(module, "LARGEST", 6)
    words = r"7 effects besides those of g, .* serves up to 6: use NUTS\(\)"
    with pytest.raises(bg.NotServedError, match=words):
        CASES["three"].fit("integrated")


def test_importance_sampling_is_refused():
    with pytest.raises(bg.NotServedError, match=r"2 grouping factors \(g, h\).*use Integrated\(\)"):
        tiny().fit(bg.Integrated(method="importance"))


def test_a_model_without_a_method_is_integrated():
    assert not refusal(tiny())
    assert not refusal(CASES["vectors, dispersion"])


# against long runs of NUTS on the graph


def simulated_crossed() -> bg.GLMM:
    rng = np.random.default_rng(5)
    g, h = np.repeat(np.arange(60), 12), np.tile(np.arange(12), 60)
    x = rng.standard_normal(720)
    eta = -0.5 + 0.5 * x + rng.standard_normal(60)[g] + 0.7 * rng.standard_normal(12)[h]
    y = (rng.random(720) < special.expit(eta)).astype(int)
    data = pd.DataFrame({"y": y, "x": x, "g": g, "h": h})
    return bg.GLMM("y ~ x + (1 | g) + (1 | h)", data, family="bernoulli")


def grouseticks() -> bg.GLMM:
    formula = "ticks ~ year + height_scaled + (1 | index) + (1 | brood) + (1 | location)"
    return bg.GLMM(formula, bg.load_dataset("grouseticks"), family="poisson")


@pytest.mark.slow
@pytest.mark.parametrize("make", [simulated_crossed, grouseticks])
def test_agrees_with_long_runs_of_nuts(make):
    """Means within four MCSE of the difference, SDs within five per cent and four MCSE."""
    model = make()
    ours = model.fit(bg.Integrated(draws=4000)).draws["posterior"]
    theirs = model.fit(bg.NUTS(draws=4000, tune=2000)).draws["posterior"]
    for name in theirs.data_vars:
        if name.startswith("b_"):
            continue
        a, b = ours[name], theirs[name]
        for kind in ("mean", "sd"):
            errors = [np.ravel(arviz_stats.mcse(part, method=kind)) for part in (a, b)]
            error = np.sqrt(errors[0] ** 2 + errors[1] ** 2)
            reduce = {"mean": "mean", "sd": "std"}[kind]
            values = [np.ravel(getattr(part, reduce)(("chain", "draw"))) for part in (a, b)]
            away = np.abs(values[0] - values[1])
            assert np.all(away < 4.0 * error), (name, kind)
            if kind == "sd":
                assert np.all(away < 0.05 * values[1]), name
