"""Integrated(): its density against PyMC's, its draws against exact posteriors."""

import arviz_stats
import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import bayes_glmm as bg
from bayes_glmm.bayesian.density import IntegratedDensity
from bayes_glmm.frequentist.likelihood import Likelihood


def small(family="bernoulli", formula="y ~ x + (1 | g)", groups=3, size=4, seed=2, **options):
    """A model of few rows; the response suits the family."""
    rng = np.random.default_rng(seed)
    n = groups * size
    frame = pd.DataFrame({"g": np.repeat([f"L{i}" for i in range(groups)], size)})
    frame["x"] = rng.standard_normal(n)
    eta = 0.3 + 0.5 * frame["x"] + np.repeat(rng.standard_normal(groups), size)
    frame["y"] = {
        "bernoulli": lambda: (rng.random(n) < special.expit(eta)).astype(int),
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "gaussian": lambda: eta + 0.4 * rng.standard_normal(n),
        "gamma": lambda: np.exp(eta) * rng.gamma(3, 1 / 3, n),
        "negative_binomial": lambda: rng.poisson(np.exp(eta) * rng.gamma(2, 1 / 2, n)),
    }[family]()
    return bg.GLMM(formula, frame, family=family, **options)


# the density


CASES = {
    "scalar": small(),
    "dispersion": small("negative_binomial"),
    "bounded sd": small(priors=bg.Priors(sd=bg.Uniform(0.1, 3.0), beta=bg.StudentT(3, 0, 2))),
    "variance": small("poisson", priors=bg.Priors(sd=bg.InverseGamma(2, 1))),
    "correlated": small("poisson", "y ~ x + (x | g)", groups=6),
    "apart": small("gaussian", "y ~ x + (x || g)", groups=6),
    "three": small("poisson", "y ~ x + (1 + x + I(x**2) | g)", groups=8, size=6),
}


def spread_points(density, size: int, seed: int = 0) -> np.ndarray:
    start, _ = density.coordinates.start(*Likelihood.of(density.model).start)
    rng = np.random.default_rng(seed)
    return start + 0.3 * rng.standard_normal((size, len(start)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("nodes", [1, 5])
def test_gradient_is_exact(name, nodes):
    density = IntegratedDensity(CASES[name], nodes)
    h = 1e-4
    for x in spread_points(density, 2):
        numeric = [
            (density(x + h * e)[0] - density(x - h * e)[0]) / (2 * h) for e in np.eye(len(x))
        ]
        # modes are exact to 1e-10, and so is a value at one node: 1e-6 over 2e-4;
        # the third derivatives, of order 10, add h^2
        np.testing.assert_allclose(density(x)[1], numeric, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_many_points_as_one_by_one(name):
    density = IntegratedDensity(CASES[name], 9)
    points = spread_points(density, 7)
    density(points[0])
    arguments = density.arguments(points)
    by_group = density.many().by_group(*arguments)
    together = by_group.sum(axis=1) + density.log_scales(arguments[2]) + density.constant
    one_by_one = [density.likelihood(x)[0] for x in points]
    # modes to a Newton decrement of 1e-10 against 1e-20: half of it for each group
    np.testing.assert_allclose(together, one_by_one, atol=1e-7)
    levels = (by_group + density.log_constants(arguments[2])).sum(axis=1)
    np.testing.assert_allclose(levels, one_by_one, atol=1e-7)


def pymc_log_density(model):
    """PyMC's joint log density as a function of its value variables."""
    graph = bg.build_graph(model)
    names = [v.name for v in graph.value_vars]
    function = graph.compile_fn(graph.logp(), inputs=graph.value_vars, on_unused_input="ignore")
    return names, lambda **values: function(values)


@pytest.mark.parametrize("name", ["scalar", "dispersion", "bounded sd", "correlated"])
def test_density_is_the_graphs_with_the_effects_integrated(name):
    """Brute force: PyMC's joint density over a grid of each group's raw effects.

    Groups are independent given the parameters, so that the integral over all effects is the
    product over groups of integrals with the others held at zero, over the joint density there.
    """
    model = CASES[name]
    names, joint = pymc_log_density(model)
    density = IntegratedDensity(model, 41)
    c = density.coordinates
    block = model.design.groups[0]
    raw = [n for n in names if n.startswith("raw_b_")]
    wide = np.linspace(-20, 20, 101 if block.q == 2 else 401)
    cells = np.stack(np.meshgrid(*[wide] * block.q, indexing="ij"), -1).reshape(-1, block.q)
    volume = block.q * np.log(wide[1] - wide[0])

    def integrated(x) -> float:
        values = coordinates_of_graph(model, c, x)
        at_zero = {n: np.zeros(block.n_levels) for n in raw}
        origin = float(joint(**values, **at_zero))
        total = origin
        for level in range(block.n_levels):
            found = np.empty(len(cells))
            for i, cell in enumerate(cells):
                effects = {n: z.copy() for n, z in at_zero.items()}
                for n, value in zip(raw, cell, strict=True):
                    effects[n][level] = value
                found[i] = joint(**values, **effects)
            total += special.logsumexp(found) + volume - origin
        return total

    points = spread_points(density, 2, seed=5)
    ours = [density(x)[0] for x in points]
    theirs = [integrated(x) for x in points]
    # the trapezoidal rule of a smooth integrand of about unit width, spacing .1 or .4: 1e-8;
    # the 41 nodes are within 2e-8 of 21
    assert np.diff(ours) == pytest.approx(np.diff(theirs), abs=1e-6)


def coordinates_of_graph(model, c, x) -> dict[str, np.ndarray]:
    """PyMC's value variables at our coordinates."""
    values = {}
    named = {name: value[0] for name, value in c.named(x[None]).items()}
    group = model.design.groups[0].group
    beta, sd = named["beta"], named[f"sd_{group}"]
    kinds = {p.describe().split("(")[0] for p in model.priors.beta}
    if len(kinds) == 1:
        values["beta"] = beta
    else:
        values |= {f"raw_beta_{k}": value for k, value in enumerate(beta)}
    prior = model.priors.sd[group][0]
    low, high = prior.support
    if np.isfinite(high):
        values[f"sd_{group}_interval__"] = np.log(sd - low) - np.log(high - sd)
    else:
        values[f"sd_{group}_log__"] = np.log(sd)
    if model.design.groups[0].pairs:
        z = x[c.z_at[0]]
        values[f"raw_corr_{group}_logodds__"] = 2.0 * z  # logit((1 + tanh z) / 2)
    if "dispersion" in named:
        values["dispersion_log__"] = np.log(named["dispersion"])
    return values


# the draws, against a posterior of two dimensions on a grid


SEPARATE = {  # one coefficient, one standard deviation
    "ordinary": small(formula="y ~ 1 + (1 | g)", groups=12, size=5),
    "three groups": small("poisson", "y ~ 1 + (1 | g)", groups=3, size=4),
    "groups of one": small("poisson", "y ~ 1 + (1 | g)", groups=40, size=1),
    "near zero": small(
        "bernoulli", "y ~ 1 + (1 | g)", groups=10, priors=bg.Priors(sd=bg.HalfNormal(0.05))
    ),
}


def all_alike(ones=("3", "11")) -> bg.GLMM:
    """Every group all zero but for a few."""
    frame = pd.DataFrame({"g": np.repeat(np.arange(20), 6).astype(str), "y": 0})
    frame.loc[frame["g"].isin(ones), "y"] = 1
    return bg.GLMM("y ~ 1 + (1 | g)", frame, family="bernoulli")


SEPARATE["all of a group alike"] = all_alike()
SEPARATE["no success at all"] = all_alike(ones=())


def grid_posterior(model):
    """Weights over a grid of (intercept, log sd), and of one group's effect.

    Written from scratch: effects are integrated by the trapezoidal rule over 161 points of
    ``b / sd`` in +-8: spacing .1, and a group's integrand is at least .3 wide.
    """
    design = model.design
    index, y = design.groups[0].index, design.y
    u = np.linspace(-8.0, 8.0, 161)
    log_unit = stats.norm.logpdf(u) + np.log(u[1] - u[0])
    (prior,), (sd_prior,) = model.priors.beta, model.priors.sd["g"]
    bound = {
        "bernoulli": lambda e, y: y * e - np.logaddexp(0, e),
        "poisson": lambda e, y: y * e - np.exp(e) - special.gammaln(y + 1),
    }[model.family.name]
    kinds, which = np.unique(
        np.stack([np.bincount(index, y), np.bincount(index)]), axis=1, return_inverse=True
    )
    counts = np.bincount(np.ravel(which))

    def log_posterior(beta, log_sd):
        eta = beta[:, None, None] + np.exp(log_sd)[None, :, None] * u
        total = prior.logpdf(beta)[:, None] + sd_prior.logpdf(np.exp(log_sd)) + log_sd
        for (ones, rows), count in zip(kinds.T, counts, strict=True):
            if model.family.name == "bernoulli":
                inside = ones * bound(eta, 1.0) + (rows - ones) * bound(eta, 0.0)
            else:
                inside = ones * eta - rows * np.exp(eta)
            total = total + count * special.logsumexp(inside + log_unit, axis=2)
        return total

    return log_posterior


def exact_summaries(model, fit):
    """Means and SDs of the intercept and the sd, and the cdf of each, by the grid."""
    posterior = fit.draws["posterior"]
    beta = posterior["beta"].to_numpy().ravel()
    sd = posterior["sd_g"].to_numpy().ravel()
    # beyond the draws by half their range on either side: the rest has no weight
    reach = 0.5 * np.ptp(beta)
    b = np.linspace(beta.min() - reach, beta.max() + reach, 101)
    s = np.linspace(np.log(sd.min()) - 3.0, np.log(sd.max()) + 1.0, 101)
    weight = special.softmax(grid_posterior(model)(b, s))
    return {"beta": (b, weight.sum(axis=1), beta), "sd_g": (np.exp(s), weight.sum(axis=0), sd)}


@pytest.mark.parametrize("name", SEPARATE)
def test_draws_are_those_of_the_exact_posterior(name):
    model = SEPARATE[name]
    fit = model.fit(bg.Integrated(seed=3))
    posterior = fit.draws["posterior"]
    for variable, (values, weight, draws) in exact_summaries(model, fit).items():
        mean = weight @ values
        sd = np.sqrt(weight @ (values - mean) ** 2)
        errors = {
            kind: float(np.ravel(arviz_stats.mcse(posterior[variable], method=kind))[0])
            for kind in ("mean", "sd")
        }
        assert abs(draws.mean() - mean) < 4.5 * errors["mean"]
        assert abs(draws.std() - sd) < 4.5 * errors["sd"]
        size = fit.diagnostics["ess_tail"].iloc[:2].min()
        for q in (0.05, 0.5, 0.95):
            exact = np.interp(q, np.cumsum(weight) - 0.5 * weight, values)
            share = np.mean(draws <= exact)
            assert abs(share - q) < 4.5 * np.sqrt(q * (1 - q) / size)
    assert fit.converged


# the group effects


def exact_effect(model, points, level: int):
    """Mean and second moment of one level's effects, averaged over parameters, by brute force."""
    block, design = model.design.groups[0], model.design
    rows = block.index == level
    y, X, Z = design.y[rows], design.X[rows], block.Z[rows]
    wide = np.linspace(-9.0, 9.0, 181 if block.q == 1 else 61)
    u = np.stack(np.meshgrid(*[wide] * block.q, indexing="ij"), -1).reshape(-1, block.q)
    moments = []
    for beta, L in points:
        b = u @ L.T
        eta = X @ beta + b @ Z.T
        if model.family.name == "bernoulli":
            mean = model.link.inverse(eta)[0]
            inside = np.log(np.where(y == 1, mean, 1.0 - mean))
        else:
            inside = y * eta - np.exp(eta)
        weight = special.softmax(inside.sum(axis=1) - 0.5 * (u**2).sum(axis=1))
        moments.append((weight @ b, weight @ b**2))
    return np.mean(moments, axis=0)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("log-concave", small(groups=5, size=6)),
        ("all alike", all_alike()),
        ("cauchit", small(groups=5, size=6, link="cauchit")),
        ("vector", small("poisson", "y ~ x + (x | g)", groups=6)),
    ],
)
def test_effects_follow_their_conditional_distribution(name, model):
    """Given two parameter vectors, 4,000 draws each against sums over a grid."""
    density = IntegratedDensity(model, 41 if "vector" not in name else 21)
    points = spread_points(density, 2)
    density(points[0])
    repeated = np.repeat(points, 4000, axis=0)
    arguments = density.arguments(repeated)
    concave = density.concave(arguments[2])
    assert concave == (name != "cauchit")
    drawn = density.many().effects(*arguments, np.random.SeedSequence(1), concave)
    beta, factor = density.coordinates.beta(points), arguments[1][[0, -1]]
    for level in range(min(density.model.design.groups[0].n_levels, 4)):
        mean, square = exact_effect(model, list(zip(beta, factor, strict=True)), level)
        for found, exact in ((drawn[:, level], mean), (drawn[:, level] ** 2, square)):
            error = found.std(axis=0) / np.sqrt(len(found))
            assert np.all(np.abs(found.mean(axis=0) - exact) < 4.5 * error)


def test_rejection_and_metropolis_draw_from_one_distribution():
    """Kolmogorov-Smirnov of the two ways of drawing, on one level."""
    density = IntegratedDensity(all_alike(), 63)
    x = spread_points(density, 1)
    density(x[0])
    repeated = np.repeat(x, 6000, axis=0)
    arguments = density.arguments(repeated)
    many = density.many()
    exact, chain = (
        many.effects(*arguments, np.random.SeedSequence(k), concave)[:, 0, 0]
        for k, concave in ((1, True), (2, False))
    )
    assert stats.ks_2samp(exact, chain).pvalue > 1e-4


# reproducibility


def test_same_numbers_for_any_number_of_threads():
    density = IntegratedDensity(small(groups=40, size=10), 15)
    points = spread_points(density, 400)
    density(points[0])
    arguments = density.arguments(points)
    results = []
    for threads in (1, 2):
        many = density.many(threads)
        by_group = many.by_group(*arguments)
        effects = many.effects(*arguments, np.random.SeedSequence(1), True)
        results.append((by_group, effects))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_rows_in_any_order_give_one_posterior():
    frame = bg.load_dataset("cbpp")
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    shuffled = frame.sample(frac=1, random_state=2)
    one, other = (
        bg.GLMM(formula, f, family="binomial").fit("integrated") for f in (frame, shuffled)
    )
    # sums in another order: the mode moves by rounding, and no draw but by that
    for name in ("beta", "sd_herd"):
        a, b = (f.draws["posterior"][name].to_numpy() for f in (one, other))
        np.testing.assert_allclose(a, b, atol=1e-4)
    row = frame.index[7]
    a, b = (f.draws["log_likelihood"]["y"].sel(observation=row).mean() for f in (one, other))
    assert float(a) == pytest.approx(float(b), abs=0.02)


def test_seeds_differ(cbpp):
    one, again, other = (cbpp.fit(bg.Integrated(seed=s, draws=100)) for s in (1, 1, 2))
    beta = [f.draws["posterior"]["beta"].to_numpy() for f in (one, again, other)]
    np.testing.assert_array_equal(beta[0], beta[1])
    assert np.any(beta[0] != beta[2])


# the fit


def test_agrees_with_nuts(cbpp, cbpp_posterior):
    fit = cbpp.fit(bg.Integrated())
    assert fit.converged
    assert fit.details["sampler"] == "importance"
    assert fit.details["khat"] <= 0.5
    ours, theirs = fit.draws["posterior"].to_dataset(), cbpp_posterior.draws["posterior"]
    for name in ("beta", "sd_herd", "b_herd"):
        errors = [arviz_stats.mcse(p[name]).to_numpy() for p in (ours, theirs)]
        gap = (ours[name] - theirs[name]).mean(("chain", "draw")).to_numpy()
        assert np.all(np.abs(gap) < 4.5 * np.hypot(*errors))


def test_tree_has_the_contracts_groups(cbpp, cbpp_posterior):
    tree = cbpp.fit("integrated").draws
    assert set(cbpp_posterior.draws.children) <= set(tree.children)
    assert set(tree["posterior"].data_vars) == set(cbpp_posterior.draws["posterior"].data_vars)
    attributes = tree["sample_stats"].attrs
    assert attributes["sampler"] == "importance"
    assert {"khat", "nodes", "importance_ess"} <= set(attributes)


def test_integrated_log_likelihood_by_group():
    """At one draw, each level's integral over its own effects by SciPy's quadrature."""
    from scipy.integrate import quad

    model = small(groups=4, size=5)
    tree = model.fit(bg.Integrated(draws=50)).draws
    posterior = tree["posterior"].isel(chain=1, draw=7)
    found = tree["log_likelihood_by_group"]["y"].isel(chain=1, draw=7)
    beta, sd = posterior["beta"].to_numpy(), float(posterior["sd_g"][0])
    block, design = model.design.groups[0], model.design
    for level, label in enumerate(block.levels):
        rows = block.index == level

        def density(u, rows=rows):
            eta = design.X[rows] @ beta + sd * u
            return np.exp(np.sum(design.y[rows] * eta - np.logaddexp(0, eta))) * stats.norm.pdf(u)

        exact = np.log(quad(density, -10, 10, epsabs=1e-13)[0])
        # the nodes are chosen so that differences between draws are within .01
        assert float(found.sel(g=label)) == pytest.approx(exact, abs=0.01)


def test_nuts_where_importance_sampling_fails(monkeypatch):
    """The other sampler on the same density; it is taken where k-hat is too large."""
    from bayes_glmm.bayesian import integrated_importance

    model = SEPARATE["groups of one"]
    monkeypatch.setattr(integrated_importance, "COVERED", -9.0)
    fit = model.fit(bg.Integrated(draws=250, tune=150))
    assert fit.details["sampler"] == "nuts"
    assert "khat" in fit.details
    for variable, (values, weight, draws) in exact_summaries(model, fit).items():
        error = float(np.ravel(arviz_stats.mcse(fit.draws["posterior"][variable]))[0])
        assert abs(draws.mean() - weight @ values) < 4.5 * error


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ x", "without random effects"),
        ("y ~ 0 + (1 | g)", "without a coefficient"),
        ("y ~ x + (1 + x + I(x**2) + I(x**3) | g)", "4 effects per level"),
    ],
)
def test_refuses_naming_nuts(formula, words):
    model = small("gaussian", formula, groups=6, size=6)
    with pytest.raises(bg.NotServedError, match=f"{words}.*NUTS"):
        model.fit("integrated")


def test_too_few_nodes_are_told(monkeypatch):
    """All of a group alike: seven nodes are too few, and where no more are allowed it says so."""
    from bayes_glmm.bayesian import integrated_nodes

    monkeypatch.setitem(integrated_nodes.LADDER, 1, (5, 7))
    fit = all_alike().fit(bg.Integrated(draws=50))
    assert not fit.converged
    assert "integral-unsettled" in {m.code for m in fit.messages}


def one_binary_row_each(groups=300) -> bg.GLMM:
    rng = np.random.default_rng(5)
    x = rng.normal(size=groups)
    eta = 0.3 + 0.8 * x + rng.normal(size=groups)
    y = (rng.random(groups) < special.expit(eta)).astype(int)
    frame = pd.DataFrame({"y": y, "x": x, "g": [f"g{k}" for k in range(groups)]})
    return bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli")


def test_nodes_are_raised_until_they_make_no_mode_of_their_own():
    """A step under the normal density: at an SD of 80 eleven nodes find 15 too much."""
    from bayes_glmm.bayesian.density import log_density
    from bayes_glmm.bayesian.integrated_nodes import raise_nodes
    from bayes_glmm.bayesian.interpolation import Exact

    model = one_binary_row_each()
    density = IntegratedDensity(model, 11)
    beta = np.array([0.5, 1.5])
    c = density.coordinates
    inner = np.append(c.standard.inner(beta), 0.0)
    near = inner + np.random.default_rng(1).normal(0.0, 0.2, (200, 3))
    near[:, 2] += np.log(2.0)
    far = np.append(c.standard.inner(np.array([3.4, 7.1])), np.log(80.0))
    u = np.linspace(-9.0, 9.0, 40_001)
    eta = model.design.X @ np.array([3.4, 7.1])
    sign = 2.0 * model.design.y - 1.0
    normal = stats.norm.pdf(u)
    exact = sum(
        np.log(np.trapezoid(normal * special.expit(s * (e + 80.0 * u)), u))
        for s, e in zip(sign, eta, strict=True)
    ) + float(c.log_prior(far[None])[0])
    density(inner)
    assert log_density(density, far[None])[0][0] - exact > 15.0
    points = np.concatenate([near, far + np.random.default_rng(2).normal(0.0, 0.1, (200, 3))])
    before = log_density(density, points)[0]
    assert before[200:].max() > before[:200].max() - 2.0  # would often be drawn
    _, ratio, table = raise_nodes(
        lambda: Exact(density), points, np.zeros(400), np.random.default_rng(3)
    )
    assert density.nodes > 11
    assert table[-1]["change"] <= 0.01 < table[0]["change"]
    assert ratio[200:].max() < ratio[:200].max() - 5.0


def test_improper_priors_pass_the_gate():
    priors = bg.Priors(sd=bg.Power(1), allow_improper=True)
    with pytest.raises(bg.ImproperPosteriorError):
        small(priors=priors).fit("integrated")
    proper = small("poisson", groups=8, priors=bg.Priors(beta=bg.Flat(), allow_improper=True))
    assert proper.fit("integrated").converged


def test_no_method_is_integrated_where_it_serves(cbpp):
    fit = cbpp.fit()
    assert fit.label == "Integrated"
    (note,) = (m for m in fit.messages if m.code == "default-method")
    assert "Integrated()" in note.happened


def test_imports_neither_pymc_nor_nutpie():
    import subprocess
    import sys

    script = (
        "import sys, bayes_glmm as bg\n"
        "m = bg.GLMM('y ~ x + (1 | g)', {'y': [0, 1, 1, 0, 1, 0], 'x': [1., 2, 3, 4, 5, 6],\n"
        "    'g': list('aabbcc')}, family='bernoulli')\n"
        "m.fit(bg.Integrated(method='importance', draws=20))\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not {"pymc", "pytensor", "nutpie", "arviz_stats", "arviz"} & set(done.stdout.split())
