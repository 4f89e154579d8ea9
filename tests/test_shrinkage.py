"""One prior of all coefficients and SDs by the variance they explain: R2D2M2."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from scipy.special import log_expit

import bayes_glmm as bg
from bayes_glmm.bayesian.tree import log_prior, prior_draws
from bayes_glmm.datatree import dims_and_coords
from bayes_glmm.priors import R2D2M2
from bayes_glmm.priors.shrinkage import SharedMargin
from bayes_glmm.priors.text import parse_prior, prior_text

RNG = np.random.default_rng(8)
N = 60
FRAME = pd.DataFrame(
    {
        "y": RNG.integers(0, 2, N),
        "k": RNG.poisson(3, N),
        "v": RNG.normal(5, 2, N),
        "x": RNG.normal(2, 3, N),
        "g": np.repeat(list("abcdefghij"), 6),
        "t": RNG.uniform(1, 4, N),
    }
)
MARGINS = {
    "default": SharedMargin(R2D2M2(), 5, 2.0, None, False),
    "alone": SharedMargin(R2D2M2(0.3, 3), 1, 0.5, None, False),
    "few explain most": SharedMargin(R2D2M2(0.3, 3, 0.2), 4, 2.0, None, False),
    "even": SharedMargin(R2D2M2(0.6, 1.0, 3.0), 3, 1.0, None, False),
    "coefficient": SharedMargin(R2D2M2(), 5, 2.0, None, True),
    "times a dispersion": SharedMargin(R2D2M2(), 4, 2.0, bg.HalfStudentT(4, 3.0), False),
    "all": SharedMargin(R2D2M2(0.4, 4, 1.0), 3, 0.7, bg.Gamma(3, 1), True),
}
each_margin = pytest.mark.parametrize("name", MARGINS)


def glmm(formula="y ~ x + (x | g)", family="bernoulli", link=None, joint=None, **priors):
    chosen = bg.Priors(joint=joint or R2D2M2(), **priors)
    return bg.GLMM(formula, FRAME, family=family, link=link, priors=chosen)


def drawn(margin, size) -> np.ndarray:
    """Draws of a margin by its definition."""
    rng, joint = np.random.default_rng(1), margin.joint
    r2 = rng.beta(*joint.shapes, size)
    phi = rng.dirichlet(np.full(margin.count, joint.concentration), size)[:, 0]
    sd = margin.unit * np.sqrt(r2 / (1 - r2) * phi)
    sd = sd if margin.scale is None else sd * margin.scale.rvs(rng, size)
    return sd * rng.standard_normal(size) if margin.coefficient else sd


# ---- the margins


@pytest.mark.parametrize("name", ["default", "few explain most", "even"])
def test_the_margin_of_an_sd_is_that_of_numeric_integration(name):
    """Density of sd at a point: over phi, of the beta prime density of tau^2 at sd^2 / phi."""
    m = MARGINS[name]
    a = m.joint.concentration
    share = stats.beta(a, (m.count - 1) * a)
    prime = stats.betaprime(*m.joint.shapes)

    for sd in (0.05, 0.7, 3.0, 20.0):
        v = (sd / m.unit) ** 2

        def integrand(t, v=v):  # phi = expit(t)
            phi, other = 1 / (1 + np.exp(-t)), 1 / (1 + np.exp(t))
            return share.pdf(phi) * phi * other * prime.pdf(v / phi) / phi

        density = integrate.quad(integrand, -100, 30, limit=400, epsabs=0, epsrel=1e-9)[0]
        density *= 2 * sd / m.unit**2
        # the margin's grid is good to 1e-6 (its docstring); quad was asked for 1e-9
        assert np.exp(m.logpdf(sd)) == pytest.approx(density, rel=1e-5)


@each_margin
def test_margins_follow_their_definition(name):
    m = MARGINS[name]
    assert stats.kstest(drawn(m, 20_000), m.cdf).pvalue > 1e-3


@each_margin
def test_margins_are_consistent(name):
    """Density, distribution function and quantiles say the same."""
    m, q = MARGINS[name], np.array([0.01, 0.2, 0.6, 0.9, 0.999])
    np.testing.assert_allclose(m.cdf(m.ppf(q)), q, rtol=1e-5)
    low, high = m.ppf(0.6), m.ppf(0.9)
    mass = integrate.quad(lambda x: np.exp(m.logpdf(x)), low, high, epsrel=1e-9)[0]
    assert mass == pytest.approx(0.3, abs=3e-6)  # ten times the error of the grid
    assert m.cdf(m.support[0]) == 0
    assert m.ppf(0.0) == m.support[0]


@each_margin
def test_tail_and_power_at_zero(name):
    m = MARGINS[name]
    far = m.logpdf(np.array([1e5, 2e5]))
    # a logarithm where two powers meet (b = .5 and so on) is not among the cases
    assert np.diff(far)[0] / np.log(2) == pytest.approx(-m.tail, abs=0.02)
    if not m.coefficient and name != "times a dispersion":  # there two powers are equal
        near = m.logpdf(np.array([1e-9, 2e-9]))
        assert np.diff(near)[0] / np.log(2) == pytest.approx(m.origin, abs=0.02)


# ---- in a model


def test_scales_and_names_of_the_components():
    model = glmm("k ~ x + (x | g) + offset(log(t))", "poisson")
    joint = model.priors.joint
    assert joint.components == ("x", "g[Intercept]", "g[x]")
    dims, coords = dims_and_coords(model)
    assert (dims["r2"], dims["phi"], coords["component"]) == (
        [],
        ["component"],
        list(joint.components),
    )
    spread = FRAME["x"].std()
    sigma = 1 / np.sqrt(FRAME["k"].mean())  # sqrt(Var) |g'(mu)| at the mean
    np.testing.assert_allclose(joint.unit, sigma / np.array([spread, 1, spread]))


@pytest.mark.parametrize(
    ("formula", "family", "link", "sigma"),
    [
        ("y ~ x", "bernoulli", "logit", np.pi / np.sqrt(3)),
        ("y ~ x", "bernoulli", "probit", 1),
        ("y ~ x", "bernoulli", "cloglog", np.pi / np.sqrt(6)),
        ("v ~ x", "gaussian", "identity", 1),  # times the dispersion
        ("t ~ x", "gamma", "log", 1),  # times the coefficient of variation
    ],
)
def test_residual_scale(formula, family, link, sigma):
    joint = glmm(formula, family, link).priors.joint
    assert joint.unit[0] == pytest.approx(sigma / FRAME["x"].std())
    assert joint.by_dispersion == (family in ("gaussian", "gamma"))


def test_residual_scale_of_an_unknown_size():
    """Negative binomial, log link: Var / mu^2 = 1 / mu + 1 / theta, theta a rough estimate."""
    joint = glmm("k ~ x", "negative_binomial").priors.joint
    assert joint.unit[0] * FRAME["x"].std() >= 1 / np.sqrt(FRAME["k"].mean())


def test_the_explained_share_of_variance_is_beta():
    """Gaussian, one factor of many levels: var(b) / (var(b) + sd^2) of each prior draw."""
    levels = 600
    frame = pd.DataFrame({"v": RNG.normal(size=2 * levels), "g": np.repeat(np.arange(levels), 2)})
    frame["g"] = frame["g"].astype(str)
    prior = R2D2M2(0.4, 3)
    model = bg.GLMM("v ~ 1 + (1 | g)", frame, family="gaussian", priors=bg.Priors(joint=prior))
    tree = model.prior_predictive(1500, seed=4)["prior"]
    effects = np.asarray(tree["b_g"])[0, :, :, 0]
    explained = effects.var(axis=1)
    share = explained / (explained + np.asarray(tree["dispersion"])[0] ** 2)
    # var(b) of 600 levels has a relative SD of 6 %, against a factor of about 5 of the prior's
    assert stats.kstest(share, stats.beta(*prior.shapes).cdf).pvalue > 1e-3


def test_more_terms_share_the_same_variance():
    """Independent priors expect more variance of more terms; this one does not."""
    for formula in ("v ~ x + (1 | g)", "v ~ x + t + k + (x || g)"):
        model = glmm(formula, "gaussian")
        found = prior_draws(model, np.random.default_rng(3), 4000)
        joint = model.priors.joint
        sd = found["sd_g"][0] / joint.unit[joint.effects["g"]] / found["dispersion"][0][:, None]
        shares = found["phi"][0][:, joint.effects["g"]]
        r2 = found["r2"][0]
        np.testing.assert_allclose(sd**2, (r2 / (1 - r2))[:, None] * shares, rtol=1e-9)
        assert stats.kstest(r2, "uniform").pvalue > 1e-3


def test_prior_draws_follow_the_margins():
    model = glmm("v ~ x + (x | g)", "gaussian")
    found = prior_draws(model, np.random.default_rng(3), 8000)
    assert stats.kstest(found["beta"][0, :, 1], model.priors.beta[1].cdf).pvalue > 1e-3
    for k in range(2):
        assert stats.kstest(found["sd_g"][0, :, k], model.priors.sd["g"][k].cdf).pvalue > 1e-3


def test_log_prior_is_that_of_the_parts():
    model = glmm("v ~ x + (1 | g)", "gaussian", joint=R2D2M2(0.4, 3, 0.7))
    found = prior_draws(model, np.random.default_rng(3), 5)
    density = log_prior(model, found)
    assert set(density) == {"r2", "phi", "beta", "dispersion"}
    np.testing.assert_allclose(density["r2"][0], stats.beta(1.2, 1.8).logpdf(found["r2"][0]))
    phi = [stats.dirichlet([0.7, 0.7]).logpdf(p) for p in found["phi"][0]]
    np.testing.assert_allclose(density["phi"][0], phi)
    r2 = found["r2"][0]
    sd = np.sqrt(r2 / (1 - r2) * found["phi"][0, :, 0]) * found["dispersion"][0] / FRAME["x"].std()
    expected = stats.norm(0, sd).logpdf(found["beta"][0, :, 1])
    np.testing.assert_allclose(density["beta"][0, :, 1], expected)


def test_variances_have_the_density_of_r2_and_phi():
    prior = R2D2M2(0.4, 3, 0.7)
    phi, r2 = np.array([0.2, 0.5, 0.3]), 0.35
    v = r2 / (1 - r2) * phi
    total = v.sum()
    # (v) -> (tau^2, phi_1, phi_2): tau^4; tau^2 -> r2: (1 + tau^2)^-2
    jacobian = -2 * np.log(total) - 2 * np.log1p(total)
    expected = prior.logpdf(r2) + prior.log_density_of_shares(phi) + jacobian
    assert prior.log_density_of_variances(v, 3) == pytest.approx(expected, abs=1e-12)
    assert prior.log_density_of_shares(phi) == pytest.approx(stats.dirichlet([0.7] * 3).logpdf(phi))


def test_table_and_words():
    model = glmm("v ~ x + (1 | g)", "gaussian")
    table = model.priors_table().set_index("parameter")
    assert list(table.index) == [
        "r2",
        "beta[Intercept]",
        "beta[x]",
        "sd_g[Intercept]",
        "dispersion",
    ]
    assert table.loc["r2", "scale"] == "share of variance"
    assert table.loc["r2", "range_high"] == pytest.approx(0.975)
    assert table.loc["r2", "why"] == "chosen; residual SD is the dispersion"
    assert "dispersion sqrt(phi R2 / (1 - R2))" in table.loc["beta[x]", "prior"]
    assert table.loc["beta[x]", "range_low"] == -table.loc["beta[x]", "range_high"]
    assert "r2 ~ R2D2M2(mean=0.5, precision=2, concentration=0.5)" in repr(model)


def test_written_in_a_file_and_in_a_saved_fit(tmp_path):
    prior = R2D2M2(0.4, precision=3)
    assert parse_prior(prior_text(prior)) == prior
    source = (
        'title = "t"\nquestion = "q"\nformula = "y ~ x + (1 | g)"\nfamily = "bernoulli"\n'
        '[data]\nfile = "d.csv"\n[priors]\njoint = "R2D2M2(0.4, 3)"\nintercept = "Normal(0, 2)"\n'
        '[[methods]]\nname = "glm"\n'
    )
    FRAME.to_csv(tmp_path / "d.csv", index=False)
    (tmp_path / "m.toml").write_text(source, encoding="utf-8")
    loaded = bg.load_model(tmp_path / "m.toml")
    assert loaded.model().priors.joint.prior == prior
    assert 'joint = "R2D2M2(mean=0.4, precision=3.0, concentration=0.5)"' in loaded.to_toml()
    loaded.model().fit(bg.GLM()).save(tmp_path / "fit")
    assert bg.load_fit(tmp_path / "fit").model.priors.joint.prior == prior


@pytest.mark.parametrize(
    ("formula", "priors", "match"),
    [
        ("y ~ x + (1 | g)", {"beta": bg.Normal(0, 1)}, r"Priors\(beta=…\) has nothing to apply to"),
        ("y ~ x + (1 | g)", {"sd": bg.HalfNormal(1)}, r"Priors\(sd=…\) has nothing"),
        ("y ~ x + (1 | g)", {"sd_for": {"g": bg.HalfNormal(1)}}, r"Priors\(sd_for=…\) has nothing"),
        ("y ~ x + (1 | g)", {"beta_for": {"x": bg.Normal(0, 1)}}, r"Priors\(beta_for=…\) has not"),
        ("y ~ x + (x | g)", {"covariance": bg.InverseWishart()}, r"Priors\(covariance=…\) has not"),
        ("y ~ 1", {}, "neither a coefficient but the intercept nor"),
        ("y ~ x", {"joint": bg.Normal(0, 1)}, "is a prior for a coefficient, and r2 is all coef"),
    ],
)
def test_refused_by_the_model(formula, priors, match):
    with pytest.raises(ValueError, match=match):
        glmm(formula, **priors)


def test_refused_elsewhere():
    with pytest.raises(ValueError, match=r"R2D2M2\(mean=1\) must be between 0 and 1"):
        R2D2M2(1)
    with pytest.raises(ValueError, match=r"R2D2M2\(concentration=0\) must be positive"):
        R2D2M2(concentration=0)
    with pytest.raises(ValueError, match="is a prior for all coefficients and standard"):
        bg.GLMM("y ~ x", FRAME, family="bernoulli", priors=bg.Priors(beta=R2D2M2()))
    frame = FRAME.rename(columns={"g": "phi"})
    with pytest.raises(ValueError, match="'phi' has the name of a variable"):
        bg.GLMM("y ~ x + (1 | phi)", frame, family="bernoulli", priors=bg.Priors(joint=R2D2M2()))
    with pytest.raises(bg.NotServedError, match=r"a joint prior of coefficients and SDs.*use NUTS"):
        glmm().fit(bg.Integrated())


# ---- does the posterior exist?


def separated(b: float, mixed: bool = False, intercept=None):
    """Return the verdict where y = 1 if x > 0, but for a mixed pair of rows at x = 0."""
    x = np.tile([-1.0, 1.0, -1.0, 1.0, 0.0, 0.0], 3) if mixed else np.tile([-1.0, 1.0], 9)
    y = np.where(x == 0, np.arange(18) % 2, x > 0).astype(int)
    frame = pd.DataFrame({"y": y, "x": x, "g": np.repeat(list("abc"), 6)})
    priors = bg.Priors(
        joint=R2D2M2(0.5, 2 * b), intercept=intercept or bg.Flat(), allow_improper=True
    )
    model = bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli", priors=priors)
    return bg.check_propriety(model)


def test_a_flat_intercept_needs_a_mean_of_the_sds_or_a_row_that_holds_it():
    assert separated(1.0).verdict == "proper"
    assert "more moments of the standard deviations (2)" in separated(1.0).rule
    assert separated(0.5).verdict == "improper"
    assert separated(0.5).subset == ("x", "g[Intercept]")
    assert separated(0.4).verdict == "improper"
    assert separated(0.4, intercept=bg.Normal(0, 3)).verdict == "proper"
    # two rows at x = 0, one success and one failure, in every group: beta_0 + b_g is held
    held = separated(0.4, mixed=True)
    assert (held.verdict, held.kappa) == ("proper", 3)


@pytest.mark.parametrize("b", [0.4, 0.6])
def test_the_integral_beside_a_flat_intercept_by_quadrature(b):
    """One coefficient: E over beta_1 of the integral over beta_0, which grows as 2 |beta_1|."""
    margin = SharedMargin(R2D2M2(0.5, 2 * b), 1, 1.0, None, True)
    beta = np.array([500.0, 1000.0, 2000.0])
    b0 = np.arange(-8000, 8000, 0.5)
    inside = [np.exp(3 * (log_expit(b0 + s) + log_expit(s - b0))).sum() * 0.5 for s in beta]
    shell = np.log(inside * np.exp(margin.logpdf(beta)) * beta)
    # converges where a shell of twice the size holds less: power 1 - 2 b; the ends of the range
    # of beta_0 are a thousandth of it
    assert np.diff(shell)[1] / np.log(2) == pytest.approx(1 - 2 * b, abs=5e-3)
    verdict = "improper" if b <= 0.5 else "proper"
    frame = pd.DataFrame({"y": [1, 0] * 3, "x": [1.0, -1.0] * 3})
    priors = bg.Priors(joint=R2D2M2(0.5, 2 * b), intercept=bg.Flat(), allow_improper=True)
    model = bg.GLMM("y ~ x", frame, family="bernoulli", priors=priors)
    assert bg.check_propriety(model).verdict == verdict


def test_continuous_responses_under_a_joint_prior():
    flat = {"intercept": bg.Flat(), "allow_improper": True}
    assert bg.check_propriety(glmm("v ~ x + (1 | g)", "gaussian", **flat)).verdict == "proper"
    assert bg.check_propriety(glmm("t ~ x + (1 | g)", "gamma", "log", **flat)).verdict == "proper"
    improper = glmm("v ~ x + (1 | g)", "gaussian", dispersion=bg.Power(1), allow_improper=True)
    assert bg.check_propriety(improper).verdict == "unknown"
    assert np.isnan(improper.priors_table().set_index("parameter").loc["beta[x]", "range_low"])


@pytest.mark.slow
def test_the_sampler_draws_the_prior_where_data_say_little():
    frame = FRAME.iloc[:4].assign(g=list("aabb"))
    priors = bg.Priors(joint=R2D2M2(0.3, 12, 2.0), intercept=bg.Normal(0, 1e-3))
    model = bg.GLMM("y ~ x + (1 | g)", frame, family="bernoulli", priors=priors)
    fit = model.fit(bg.NUTS(draws=2000, seed=2))
    posterior = fit.to_datatree()["posterior"]
    # SD of r2 .13; four binary rows move its mean by a tenth of that, and 8,000 draws of
    # effective size above 1,000 have an MCSE of .004
    assert float(posterior["r2"].mean()) == pytest.approx(0.3, abs=0.03)
    assert float(posterior["phi"].mean(("chain", "draw"))[0]) == pytest.approx(0.5, abs=0.06)
    assert {"r2", "phi"} <= set(fit.to_datatree()["log_prior"])
