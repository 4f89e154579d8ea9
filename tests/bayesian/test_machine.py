"""What is compiled once serves every graph that differs in its numbers only."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest

import bayes_glmm as bg
from bayes_glmm.bayesian import machine, nuts
from bayes_glmm.bayesian.graph import number
from bayes_glmm.bayesian.machine import Expression

RNG = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {"y": RNG.poisson(2, 30), "x": RNG.normal(5, 2, 30), "g": np.repeat(list("abcdef"), 5)}
)
PRIORS = {
    "normal": bg.Priors(),
    "other numbers": bg.Priors(beta=bg.Normal(0.3, 5.0), sd=bg.HalfStudentT(4, 0.7)),
}


def model(frame=FRAME, **options):
    return bg.GLMM("y ~ x + (1 | g)", frame, family="poisson", **options)


def expression(given):
    graph = bg.build_graph(given)
    return Expression.of(graph, ["beta", "sd_g", "b_g"])


@pytest.fixture(scope="module")
def prepared():
    return nuts.prepare(model())[0]


def other_data():
    return FRAME.assign(y=np.array(FRAME["y"])[::-1], x=FRAME["x"] + 2.0)


@pytest.mark.parametrize(
    "other",
    [
        model(priors=PRIORS["other numbers"]),
        model(other_data()),
    ],
    ids=["priors", "data"],
)
def test_other_numbers_are_served_by_the_same_code(prepared, other):
    found = nuts.prepare(other)[0]
    assert found.machine is prepared.machine
    graph = bg.build_graph(other)
    logp = graph.compile_logp(mode="FAST_COMPILE")
    slope = graph.compile_dlogp(mode="FAST_COMPILE")
    f = found.machine.gradient(found.data)
    x = np.random.default_rng(1).normal(0, 0.3, found.sampler.n_dim)
    ends = np.cumsum([int(np.prod(s)) for s in found.machine.shapes.values()])[:-1]
    parts = zip(found.machine.shapes.items(), np.split(x, ends), strict=True)
    point = {name: part.reshape(shape) for (name, shape), part in parts}
    value, gradient = f(x)
    assert value == pytest.approx(float(logp(point)), rel=1e-12)
    expected = slope(point)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "other",
    [
        model(priors=bg.Priors(sd=bg.Exponential(1.0))),
        model(FRAME.head(25)),
        bg.GLMM("y ~ x + (1 | g)", FRAME, family="negative_binomial"),
    ],
    ids=["kind of prior", "levels", "family"],
)
def test_another_expression_is_not(prepared, other):
    assert not prepared.machine.expression.same_as(expression(other))


def test_the_same_expression_is_known_again(prepared):
    assert prepared.machine.expression.same_as(expression(model()))


def test_a_point_without_density_is_not_a_number(prepared):
    f = prepared.machine.gradient(prepared.data)
    value, gradient = f(np.full(prepared.sampler.n_dim, 1e6))
    assert np.isnan(value) and np.all(np.isnan(gradient))


def test_containers_of_one_name_are_refused():
    with pm.Model() as graph:
        a, b = (number("same", k) for k in (1, 2))
        pm.Normal("x", a, b)
    with pytest.raises(ValueError, match="two containers"):
        Expression.of(graph, ["x"])


def test_only_the_last_used_are_kept(prepared, monkeypatch):
    monkeypatch.setattr(machine, "_machines", [prepared.machine])
    found, _, fresh = machine.machine_of(bg.build_graph(model()), prepared.shapes)
    assert found is prepared.machine and not fresh
