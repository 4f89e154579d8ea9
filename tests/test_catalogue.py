"""Every prior of the catalogue by every way in: Python, model file, table, graph, Integrated."""

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.bayesian.coordinates import Coordinates
from bayes_glmm.bayesian.integrated import refusal
from bayes_glmm.numerics.standardise import standardise
from bayes_glmm.priors.text import PRIORS

RNG = np.random.default_rng(1)
FRAME = pd.DataFrame(
    {"y": RNG.integers(0, 2, 60), "x": RNG.normal(size=60), "g": np.repeat(list("abcdef"), 10)}
)
ONE, SLOPES = "y ~ x + (1 | g)", "y ~ x + (x | g)"
# text of the prior -> slot, formula, whether Integrated takes it
CATALOGUE = {
    "HalfNormal(1)": ("sd", ONE, True),
    "HalfStudentT(4, 2.5)": ("sd", ONE, True),
    "HalfCauchy(2.5)": ("sd", ONE, True),
    "Exponential(1)": ("sd", ONE, True),
    "PC(upper=3, prob=0.05)": ("sd", ONE, True),
    "Gamma(2, 0.5)": ("sd", ONE, True),
    "LogNormal(0, 1)": ("sd", ONE, True),
    "Uniform(0, 5)": ("sd", ONE, True),
    "Uniform(0, 25, on='variance')": ("sd", ONE, True),
    "InverseGamma(2, 1)": ("sd", ONE, True),
    "UniformShrinkage()": ("sd", ONE, True),
    "InverseWishart()": ("covariance", SLOPES, False),
    "UniformShrinkageMatrix()": ("covariance", SLOPES, False),
    "LKJ(2)": ("corr", SLOPES, True),
    "R2D2M2()": ("joint", SLOPES, False),
    "Normal(0, 2)": ("beta", ONE, True),
    "StudentT(3, 0, 2)": ("beta", ONE, True),
    "Cauchy(0, 2)": ("beta", ONE, True),
    "Flat()": ("beta", ONE, True),
    "Power(0)": ("sd", ONE, True),
}
IMPROPER = ("Flat()", "Power(0)")


def test_the_catalogue_is_complete():
    assert {text.split("(")[0] for text in CATALOGUE} | {"Beta"} == set(PRIORS)
    assert set(PRIORS) <= set(bg.__all__)


@pytest.mark.parametrize("text", CATALOGUE)
def test_every_prior_works_by_every_way_in(text, tmp_path):
    slot, formula, integrated = CATALOGUE[text]
    allowed = text in IMPROPER
    FRAME.to_csv(tmp_path / "d.csv", index=False)
    (tmp_path / "m.toml").write_text(
        f'title = "t"\nquestion = "q"\nformula = "{formula}"\nfamily = "bernoulli"\n'
        f'[data]\nfile = "d.csv"\n[priors]\n{slot} = "{text}"\n'
        f"allow_improper = {str(allowed).lower()}\n",
        encoding="utf-8",
    )
    model = bg.load_model(tmp_path / "m.toml").model()
    name, _, arguments = text.partition("(")
    prior = eval(f"bg.{name}({arguments}")  # as a user writes it
    same = bg.GLMM(formula, FRAME, family="bernoulli",
                   priors=bg.Priors(**{slot: prior}, allow_improper=allowed))  # fmt: skip
    assert same.stated == model.stated
    table = model.priors_table()
    assert (~table["default"]).any()
    graph = bg.build_graph(model)
    logp = graph.compile_logp(mode="FAST_COMPILE")(graph.initial_point())
    assert np.isfinite(logp)
    assert bg.check_propriety(model).exists
    assert (refusal(model) == "") == integrated
    if integrated:
        density = Coordinates(model, standardise(model.design.X))
        assert np.isfinite(density.log_prior(np.zeros((1, density.size))))
    else:
        with pytest.raises(bg.NotServedError, match=r"use NUTS\(\)"):
            model.fit("integrated")


def test_a_prior_of_a_share_works_by_every_way_in(tmp_path):
    """``Beta`` serves residual correlations alone, which binary responses do not have."""
    frame = FRAME.assign(y=RNG.normal(size=60), t=np.tile(np.arange(10.0), 6))
    frame.to_csv(tmp_path / "d.csv", index=False)
    (tmp_path / "m.toml").write_text(
        'title = "t"\nquestion = "q"\nformula = "y ~ x"\nfamily = "gaussian"\n'
        '[data]\nfile = "d.csv"\n[residual]\nkind = "exponential"\ntime = "t"\nby = "g"\n'
        'nugget = true\n[priors.residual]\nnugget = "Beta(2, 3)"\n',
        encoding="utf-8",
    )
    model = bg.load_model(tmp_path / "m.toml").model()
    assert model.stated == bg.Priors(residual={"nugget": bg.Beta(2, 3)})
    assert list(model.priors_table().query("~default")["parameter"]) == ["residual_nugget"]
    graph = bg.build_graph(model)
    assert np.isfinite(graph.compile_logp(mode="FAST_COMPILE")(graph.initial_point()))
    assert bg.check_propriety(model).exists


def test_elicited_from_a_range_of_odds_ratios():
    prior = bg.InverseGamma.from_odds_ratio(10)
    model = bg.GLMM(ONE, FRAME, family="bernoulli", priors=bg.Priors(sd=prior))
    assert model.priors.sd["g"] == (prior,)
