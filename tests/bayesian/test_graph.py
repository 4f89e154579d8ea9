"""The graph's names, its log density against dense NumPy, and its use on new data."""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
from scipy import stats

import bayes_glmm as bg
from bayes_glmm.bayesian.graph import _draw
from bayes_glmm.numerics.bind import bind_numpy

RNG = np.random.default_rng(7)
N = 48
FRAME = pd.DataFrame(
    {
        "y": RNG.poisson(2, N),
        "x": RNG.normal(5, 2, N),
        "w": RNG.normal(0, 1, N),
        "t": RNG.uniform(1, 3, N),
        "a": RNG.permutation(np.repeat(list("pqrs"), N // 4)),
        "b": RNG.permutation(np.tile(list("uvw"), N // 3)),
    },
    index=[f"row{k}" for k in RNG.permutation(N)],
)
MIXED = bg.Priors(
    beta_for={"x": bg.StudentT(3, 0, 1)},
    sd_for={"a[Intercept]": bg.InverseGamma(2, 1), "a[x]": bg.PC(2, 0.05)},
)
MATRIX = ((1.0, 0.3, -0.2), (0.3, 0.8, 0.1), (-0.2, 0.1, 0.5))
MODELS = {
    "no random effect": ("y ~ x + w", {}),
    "no columns": ("y ~ 1 + (1 | a)", {}),
    "scalar, offset": ("y ~ x + (1 | a) + offset(log(t))", {}),
    "crossed": ("y ~ x + (1 | a) + (1 | b)", {}),
    "nested": ("y ~ x + (1 | a/b)", {}),
    "slope": ("y ~ x + (x | a) + (1 | b)", {}),
    "uncorrelated": ("y ~ x + (x || a)", {}),
    "two sets": ("y ~ x + (x | a) + (0 + w | a)", {}),
    "several kinds of prior": ("y ~ x + (x | a)", {"priors": MIXED}),
    "uniform variance": (
        "y ~ x + (1 | a)",
        {"priors": bg.Priors(sd=bg.Uniform(0, 9, on="variance"))},
    ),
    "covariance matrix": (
        "y ~ x + (x + w | a) + (1 | b)",
        {"priors": bg.Priors(covariance=bg.InverseWishart(5, MATRIX))},
    ),
    "shrinkage of a matrix": (
        "y ~ x + (x + w | a) + (1 | b)",
        {"priors": bg.Priors(covariance=bg.UniformShrinkageMatrix(MATRIX))},
    ),
    "joint": ("y ~ x + w + (x | a) + (1 | b)", {"priors": bg.Priors(joint=bg.R2D2M2(0.4, 3, 0.7))}),
    "joint, gaussian": (
        "y ~ x + (x || a)",
        {"family": "gaussian", "priors": bg.Priors(joint=bg.R2D2M2(), dispersion=bg.Gamma(2, 1))},
    ),
    "joint, one component": ("y ~ 1 + (1 | a)", {"priors": bg.Priors(joint=bg.R2D2M2())}),
    "gaussian": (
        "y ~ x + (x | a)",
        {"family": "gaussian", "priors": bg.Priors(dispersion=bg.InverseGamma(2, 1))},
    ),
}
each_model = pytest.mark.parametrize("name", MODELS)


def glmm(name):
    formula, options = MODELS[name]
    return bg.GLMM(formula, FRAME, **{"family": "poisson", **options})


def random_point(graph):
    rng = np.random.default_rng(11)
    return {k: v + rng.normal(0, 0.3, np.shape(v)) for k, v in graph.initial_point().items()}


def evaluate(graph, names, point):
    """Values of variables at a point of the unconstrained space."""
    outputs = graph.replace_rvs_by_values([graph[name] for name in names])
    function = graph.compile_fn(outputs, inputs=graph.value_vars, mode="FAST_COMPILE")
    return dict(zip(names, function(point), strict=True))


def stated_density(model, values) -> float:
    """Log density of coefficients, SDs, correlations, b and y as the model states it."""
    design, priors = model.design.in_user_order(), model.priors
    if priors.joint is None:
        total = sum(p.logpdf(x) for p, x in zip(priors.beta, values["beta"], strict=True))
    else:
        total = stated_joint(priors, values)
    eta = design.X @ values["beta"] + design.offset
    for block in design.groups:
        sd, b = values[f"sd_{block.group}"], values[f"b_{block.group}"]
        R = np.eye(block.q)
        for k, (i, j) in enumerate(block.pairs):
            R[i, j] = R[j, i] = values[f"corr_{block.group}"][k]
        if (matrix := priors.covariance[block.group]) is not None:
            total += matrix.logpdf_of_parts(sd, R)
        else:
            if priors.joint is None:
                total += sum(p.logpdf(x) for p, x in zip(priors.sd[block.group], sd, strict=True))
            total += sum(
                priors.corr[block.group].logpdf(R[np.ix_(c, c)]) for c in block.blocks if c[1:]
            )
        total += stats.multivariate_normal(cov=R * np.outer(sd, sd)).logpdf(b).sum()
        eta = eta + np.sum(block.Z * b[block.index], axis=1)
    dispersion = values.get("dispersion", 1.0)
    if priors.dispersion is not None:
        total += priors.dispersion.logpdf(dispersion)
    bound = bind_numpy(model.family, model.link)
    return total + bound.log_likelihood(design.y, design.trials, eta, dispersion).sum()


def stated_joint(priors, values) -> float:
    """Log density of r2, of phi but its last share, and of the coefficients given both."""
    joint, a = priors.joint, priors.joint.prior.concentration
    r2, phi = values["r2"], values["phi"]
    total = stats.beta(*joint.prior.shapes).logpdf(r2)
    total += stats.dirichlet(np.full(len(phi), a)).logpdf(phi) if len(phi) > 1 else 0.0
    scale = values.get("dispersion", 1.0) if joint.by_dispersion else 1.0
    sd = scale * joint.unit * np.sqrt(r2 / (1 - r2) * phi)
    for component, k in enumerate(joint.coefficients):
        total += stats.norm(0, sd[component]).logpdf(values["beta"][k])
    for group, at in joint.effects.items():
        np.testing.assert_allclose(values[f"sd_{group}"], sd[at], rtol=1e-12)
    others = set(range(len(priors.beta))) - set(joint.coefficients)
    return total + sum(priors.beta[k].logpdf(values["beta"][k]) for k in others)


def log_jacobian(graph, model, point) -> float:
    """Log determinant from the free variables to (beta, SDs, correlations, b), by differences."""
    joint = model.priors.joint
    names = ["beta"] if joint is None else ["beta", "r2", "phi"]
    for block in model.design.groups:
        names += [f"sd_{block.group}"] * (joint is None) + [f"corr_{block.group}"] * bool(
            block.pairs
        )
        names += [f"b_{block.group}"]
    names += ["dispersion"] * model.family.has_dispersion
    outputs = graph.replace_rvs_by_values([graph[name] for name in names])
    function = graph.compile_fn(outputs, inputs=graph.value_vars, mode="FAST_COMPILE")
    start = pm.blocking.DictToArrayBijection.map(point)

    def image(x):
        raised = pm.blocking.RaveledVars(x, start.point_map_info)
        found = function(pm.blocking.DictToArrayBijection.rmap(raised))
        if joint is not None:
            found[2] = found[2][:-1]  # shares add up to one
        return np.concatenate([np.ravel(v) for v in found])

    h = 1e-5
    steps = h * np.eye(len(start.data))
    J = np.array([(image(start.data + e) - image(start.data - e)) / (2 * h) for e in steps])
    return np.linalg.slogdet(J)[1]


@each_model
def test_log_density_is_the_one_stated(name):
    """The graph's, Jacobians included, is the stated density after a change of variables."""
    model = glmm(name)
    graph = bg.build_graph(model)
    point = random_point(graph)
    logp = graph.compile_logp(mode="FAST_COMPILE")(point)
    names = [v.name for v in (*graph.free_RVs, *graph.deterministics) if "raw_" not in v.name]
    expected = stated_density(model, evaluate(graph, names, point))
    expected += log_jacobian(graph, model, point)
    # central differences: h^2 + rounding / h for each of up to 30 rows of the Jacobian;
    # PyMC takes log(2) of a half-Student-t in single precision, 2e-9 a prior
    assert logp == pytest.approx(expected, abs=1e-6)


@each_model
def test_names_and_dims(name):
    model = glmm(name)
    graph = bg.build_graph(model)
    design = model.design
    expected = {"beta": ("term",)}
    for block in design.groups:
        group = block.group
        expected[f"sd_{group}"] = (f"{group}_term",)
        expected[f"b_{group}"] = (group, f"{group}_term")
        if block.pairs:
            expected[f"corr_{group}"] = (f"{group}_pair",)
        assert graph.coords[group] == tuple(block.levels)
    if model.family.has_dispersion:
        expected["dispersion"] = ()
    if model.priors.joint is not None:
        expected |= {"r2": (), "phi": ("component",)}
    dims = {v.name: graph.named_vars_to_dims.get(v.name, ()) for v in graph.unobserved_RVs}
    assert {k: tuple(v) for k, v in dims.items() if "raw_" not in k} == expected
    assert graph.coords["term"] == design.terms
    assert graph.coords["observation"] == tuple(FRAME.index)
    np.testing.assert_array_equal(graph["y_data"].get_value(), FRAME["y"])
    if design.p > 1:
        np.testing.assert_allclose(graph["X_data"].get_value()[:, 1], FRAME["x"])


def test_correlation_names_follow_the_columns():
    graph = bg.build_graph(glmm("two sets"))
    assert graph.coords["a_term"] == ("Intercept", "x", "w")
    assert graph.coords["a_pair"] == ("Intercept~x",)


def test_labels_that_repeat_become_positions():
    frame = FRAME.set_axis(["same"] * N)
    graph = bg.build_graph(bg.GLMM("y ~ x", frame, family="poisson"))
    assert graph.coords["observation"] == tuple(range(N))


def test_constants_are_double_precision():
    """A float such as 5.0 handed to PyTensor would become single precision."""
    graph = bg.build_graph(glmm("several kinds of prior"))
    for variable in graph.basic_RVs:
        for parameter in variable.owner.op.dist_params(variable.owner):
            assert parameter.dtype in ("float64", "int64")


def test_a_standard_deviation_of_zero_is_harmless():
    graph = bg.build_graph(glmm("slope"))
    point = graph.initial_point()
    point["sd_a_log__"] = np.full(2, -400.0)
    assert np.all(np.isfinite(graph.compile_dlogp(mode="FAST_COMPILE")(point)))


def test_posterior_prediction_on_new_rows():
    model = glmm("scalar, offset")
    graph = bg.build_graph(model)
    X, offset, [(index, _)] = model.design.new_data(FRAME.head(3))
    point = {"beta": np.array([0.1, 0.2]), "raw_b_a_0": np.full(4, 0.3), "sd_a": np.array([0.5])}
    with graph:
        pm.set_data(
            {"X_data": X, "offset_data": offset, "index_a": index, "y_data": np.zeros(3)},
            coords={"observation": range(3)},
        )
        drawn = pm.sample_posterior_predictive(
            [point] * 2,
            var_names=["y"],
            freeze_vars=list(point),
            random_seed=1,
            progressbar=False,
            compile_kwargs={"mode": "FAST_COMPILE"},
            return_inferencedata=False,
        )
    assert drawn["y"].shape[-1] == 3


IMPROPER = [
    bg.Flat(),
    bg.Power(-1),
    bg.Power(0.5),
    bg.Uniform(0, np.inf, on="variance"),
    bg.Uniform(1, np.inf),
    bg.Uniform(-np.inf, 2),
    bg.Gamma(2, 0),
    bg.InverseGamma(0, 0.5),
    bg.HalfCauchy(np.inf),
]


@pytest.mark.parametrize("prior", IMPROPER, ids=str)
def test_an_improper_prior_has_its_kernel_in_the_graph(prior):
    with pm.Model() as graph:
        value = pm.Deterministic("value", _draw("x", prior))
    (free,) = graph.value_vars
    both = pytensor.function(
        [free], [graph.logp(jacobian=False), graph.replace_rvs_by_values([value])[0]],
        mode="FAST_COMPILE",
    )  # fmt: skip
    for point in (-0.7, 0.3, 1.1):
        density, x = both(point)
        # the kernels are sums of two or three logarithms
        assert density == pytest.approx(float(prior.logpdf(x)), abs=1e-12)


def test_a_model_with_improper_priors_has_a_graph_only_where_its_posterior_exists(cbpp):
    flat = bg.Priors(intercept=bg.Flat(), beta=bg.Flat(), sd=bg.Flat(), allow_improper=True)
    graph = bg.build_graph(cbpp.with_priors(flat))
    assert {"beta", "sd_herd", "b_herd"} <= set(graph.named_vars)
    with pytest.raises(bg.ImproperPosteriorError, match="infinite mass near zero"):
        bg.build_graph(cbpp.with_priors(bg.Priors(sd=bg.Power(1), allow_improper=True)))
