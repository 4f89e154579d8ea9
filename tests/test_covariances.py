"""The prior of a whole covariance matrix: density, draws, margins, assignment, propriety."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import log_expit

import bayes_glmm as bg
from bayes_glmm.bayesian.tree import log_prior
from bayes_glmm.priors import InverseGamma, InverseWishart, UniformShrinkageMatrix
from bayes_glmm.priors.covariances import CovariancePrior, ShrunkVariance
from bayes_glmm.priors.text import parse_prior, prior_text

S2 = ((1.2, 0.4), (0.4, 0.7))
S3 = ((1.0, 0.3, -0.2), (0.3, 0.8, 0.1), (-0.2, 0.1, 0.5))
CASES = [InverseWishart(3.5, S2), InverseWishart(4, 0.6), InverseWishart(5, S3)]
SHRINKAGE = [UniformShrinkageMatrix(S2), UniformShrinkageMatrix(0.6), UniformShrinkageMatrix(S3)]
RNG = np.random.default_rng(6)
N = 60
FRAME = pd.DataFrame(
    {
        "y": RNG.integers(0, 2, N),
        "x": RNG.normal(2, 1, N),
        "g": np.repeat(list("abcdefghij"), 6),
        "h": np.tile(list("uvw"), 20),
    }
)


def dimension(prior):
    rows = getattr(prior, prior.matrix_name)
    return 2 if isinstance(rows, float) else len(rows)


def test_every_kind_is_tested():
    assert set(CovariancePrior.__subclasses__()) == {type(p) for p in CASES + SHRINKAGE}


def glmm(formula="y ~ x + (x | g)", **priors):
    return bg.GLMM(formula, FRAME, family="bernoulli", priors=bg.Priors(**priors))


@pytest.mark.parametrize("prior", CASES, ids=str)
def test_log_density_is_scipys(prior):
    d = dimension(prior)
    twin = stats.invwishart(prior.df, prior.matrix(d))
    D = twin.rvs(20, random_state=3)
    expected = [twin.logpdf(one) for one in D]
    np.testing.assert_allclose(prior.logpdf(D), expected, rtol=1e-10, atol=1e-11)
    assert prior.logpdf(-np.eye(d)) == -np.inf


@pytest.mark.parametrize("prior", CASES + SHRINKAGE, ids=str)
def test_jacobian_from_sds_and_correlations(prior):
    """By differences of the map (sd, r) -> the lower triangle of D."""
    d = dimension(prior)
    lower = np.tril_indices(d)
    below = np.tril_indices(d, -1)
    D = stats.invwishart(d + 2, prior.matrix(d)).rvs(random_state=4)
    sd = np.sqrt(np.diag(D))
    R = D / np.outer(sd, sd)

    def image(point):
        R = np.eye(d)
        R[below] = point[d:]
        R = R + np.tril(R, -1).T
        return (R * np.outer(point[:d], point[:d]))[lower]

    at, h = np.r_[sd, R[below]], 1e-6
    J = [(image(at + e) - image(at - e)) / (2 * h) for e in h * np.eye(len(at))]
    # central differences of polynomials of degree 4: h^2 and rounding / h, 1e-10
    expected = prior.logpdf(D) + np.linalg.slogdet(np.array(J))[1]
    assert prior.logpdf_of_parts(sd, R) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("prior", CASES[:2] + SHRINKAGE[:2], ids=str)
@pytest.mark.parametrize("first", [0.3, 0.9, 2.5])
def test_one_sd_has_the_margin_that_integration_gives(prior, first):
    """So that the density of (sd, r) integrates to one: that of an inverse gamma does."""
    # r = tanh t: a smooth integrand that vanishes at the ends, where the trapezoidal rule
    # converges faster than any power of its step
    t, log_second = np.meshgrid(np.linspace(-14, 14, 500), np.linspace(-10, 14, 500))
    sd = np.stack([np.full(t.shape, first), np.exp(log_second)], axis=-1)
    R = np.zeros((*t.shape, 2, 2)) + np.eye(2)
    R[..., 0, 1] = R[..., 1, 0] = np.tanh(t)
    log_density = prior.logpdf_of_parts(sd, R) + log_second - 2 * np.log(np.cosh(t))
    found = np.exp(log_density).sum() * (28 / 499) * (24 / 499)
    # outside exp(-10) to exp(14) the density of the second SD has a mass below 1e-9,
    # and |r| beyond tanh(14) one of about exp(-28)
    assert found == pytest.approx(np.exp(prior.margin(0, 2).logpdf(first)), rel=1e-8)


@pytest.mark.parametrize("prior", CASES, ids=str)
def test_draws_follow_margins_and_moments(prior):
    d = dimension(prior)
    D = prior.rvs(np.random.default_rng(2), 8000, d)
    for k in range(d):
        margin = prior.margin(k, d)
        assert stats.kstest(np.sqrt(D[:, k, k]), margin.cdf).pvalue > 1e-3
    # the mean of D^-1, Wishart, is df S^-1; Var = df (v_jk^2 + v_jj v_kk) with v = S^-1
    precision = np.linalg.inv(D)
    v = np.linalg.inv(prior.matrix(d))
    error = np.sqrt(prior.df * (v**2 + np.outer(np.diag(v), np.diag(v))) / 8000)
    assert np.all(np.abs(precision.mean(0) - prior.df * v) < 5 * error)


def test_correlations_are_uniform_with_d_plus_one_degrees():
    D = InverseWishart(4, 0.5).rvs(np.random.default_rng(3), 8000, 3)
    r = D[:, 0, 2] / np.sqrt(D[:, 0, 0] * D[:, 2, 2])
    assert stats.kstest(r, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_the_default_scale_is_the_information_of_the_data():
    """Kass & Natarajan (2006): D^-1 has the mean sum_i Z_i' W_i Z_i / levels."""
    model = glmm("y ~ 1 + (x | g)", covariance=InverseWishart())
    prior = model.priors.covariance["g"]
    p = FRAME["y"].mean()  # the fit without random effects
    Z = np.column_stack([np.ones(N), FRAME["x"]])
    information = p * (1 - p) * Z.T @ Z / 10
    assert prior.df == 3
    np.testing.assert_allclose(prior.df * np.linalg.inv(prior.matrix(2)), information, rtol=1e-7)
    table = model.priors_table().set_index("parameter")
    assert "empirical Bayes" in table.why["covariance_g"]


def test_the_table_shows_the_margins():
    table = glmm(covariance=InverseWishart(4, S2)).priors_table().set_index("parameter")
    assert list(table.index[2:]) == ["sd_g[Intercept]", "sd_g[x]", "covariance_g"]
    margin = InverseGamma(1.5, 0.6)
    row = table.loc["sd_g[Intercept]"]
    assert row.prior == margin.describe()
    assert row.range_high == pytest.approx(margin.ppf(0.975))
    assert "follows from that of covariance_g" in row.why
    assert table.scale["covariance_g"] == "covariance"


def test_other_groups_keep_their_priors():
    model = glmm("y ~ x + (x | g) + (1 | h)", covariance=InverseWishart(4, 1), sd=bg.HalfNormal(1))
    assert model.priors.covariance == {"g": InverseWishart(4, 1), "h": None}
    assert model.priors.corr == {"g": None, "h": None}
    assert model.priors.sd["h"] == (bg.HalfNormal(1),)
    assert model.priors.proper


@pytest.mark.parametrize(
    ("formula", "priors", "match"),
    [
        ("y ~ x + (1 | g)", {"covariance": InverseWishart(4, 1)}, "no grouping factor has all"),
        ("y ~ x + (x || g)", {"covariance": InverseWishart(4, 1)}, "no grouping factor has all"),
        ("y ~ (x | g)", {"covariance_for": {"h": InverseWishart(4, 1)}}, "names 'h', which"),
        ("y ~ (x | g)", {"covariance": InverseWishart(1, 1)}, "more than 1 degrees of freedom"),
        ("y ~ (x | g)", {"covariance": InverseWishart(4, S3)}, "has a 3 x 3 scale, and g has 2"),
        ("y ~ (x | g)", {"covariance": InverseWishart(4, 1), "sd": bg.HalfNormal(1)}, r"\(sd=…\)"),
        ("y ~ (x | g)", {"covariance": InverseWishart(4, 1), "corr": bg.LKJ(2)}, r"\(corr=…\)"),
        (
            "y ~ (x | g)",
            {"covariance": InverseWishart(4, 1), "sd_for": {"g": bg.HalfNormal(1)}},
            "give one of the two",
        ),
        ("y ~ (x | g)", {"covariance": bg.LKJ(2)}, "is a covariance matrix"),
        ("y ~ (x | g)", {"sd": InverseWishart(4, 1)}, "is a prior for a covariance matrix"),
        ("y ~ (x | g)", {"beta": InverseWishart(4, 1)}, "nothing to apply to"),
    ],
)
def test_refused_by_the_model(formula, priors, match):
    with pytest.raises(ValueError, match=match):
        glmm(formula, **priors)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0, 1), "must be positive and finite"),
        ((np.inf, 1), "must be positive and finite"),
        (("3", 1), "must be a number"),
        ((3, -1), "must be positive"),
        ((3, "x"), "must be a number or the rows"),
        ((3, (1.0, 2.0)), "must be a finite number or the rows"),
        ((3, ((1.0, 2.0), (2.0, 1.0))), "symmetric positive definite"),
        ((3, ((1.0, 0.5), (0.2, 1.0))), "symmetric positive definite"),
        ((3, ((1.0, 2.0, 3.0), (2.0, 1.0, 2.0))), "symmetric positive definite"),
    ],
)
def test_refused_when_written(arguments, match):
    with pytest.raises(ValueError, match=match):
        InverseWishart(*arguments)


def test_written_in_a_file():
    for prior in (*CASES, InverseWishart(), InverseWishart(4)):
        assert parse_prior(prior_text(prior)) == prior
    assert parse_prior("InverseWishart(4, ((1, 0.2), (0.2, 1)))").scale == ((1, 0.2), (0.2, 1))


def test_model_files_and_saved_fits_keep_it(tmp_path):
    source = (
        'title = "t"\nquestion = "q"\nformula = "y ~ x + (x | g)"\nfamily = "bernoulli"\n'
        '[data]\nfile = "d.csv"\n[priors]\ncovariance = "InverseWishart(4, 2)"\n'
        '[priors.covariance_for]\ng = "InverseWishart(5, ((1, 0.5), (0.5, 2)))"\n'
        '[[methods]]\nname = "glm"\n'
    )
    FRAME.to_csv(tmp_path / "d.csv", index=False)
    (tmp_path / "m.toml").write_text(source, encoding="utf-8")
    model = bg.load_model(tmp_path / "m.toml").model()
    assert model.priors.covariance["g"] == InverseWishart(5, ((1, 0.5), (0.5, 2)))
    model.fit(bg.GLM()).save(tmp_path / "fit")
    again = bg.load_fit(tmp_path / "fit").model
    assert again.priors.covariance == model.priors.covariance


@pytest.mark.slow
def test_the_sampler_draws_the_posterior_under_it():
    """With almost no data the posterior is the prior: margins within Monte-Carlo error."""
    frame = FRAME.iloc[:4].assign(g=list("aabb"))
    model = bg.GLMM(
        "y ~ x + (x | g)",
        frame,
        family="bernoulli",
        priors=bg.Priors(
            covariance=InverseWishart(40, S2), beta=bg.Normal(0, 1e-3), intercept=bg.Normal(0, 1e-3)
        ),
    )
    fit = model.fit(bg.NUTS(draws=1000, seed=2))
    assert fit.converged
    tree = fit.to_datatree()
    assert "covariance_g" in tree["log_prior"]
    for k in range(2):
        drawn = np.asarray(tree["posterior"]["sd_g"])[..., k]
        prior = model.priors.sd["g"][k]
        # 40 degrees of freedom: the SD varies by a tenth, and four binary rows move it by less
        # than a tenth of that
        expected = float(prior.ppf(0.5))
        assert np.median(drawn) == pytest.approx(expected, rel=0.03)


def test_log_prior_is_one_number_for_the_matrix():
    model = glmm("y ~ x + (x | g) + (1 | h)", covariance=InverseWishart(4, S2))
    draws = {
        "beta": np.zeros((1, 2, 2)),
        "sd_g": np.array([[[0.5, 1.2], [0.9, 0.4]]]),
        "corr_g": np.array([[[0.3], [-0.6]]]),
        "sd_h": np.ones((1, 2, 1)),
    }
    found = log_prior(model, draws)
    assert set(found) == {"beta", "covariance_g", "sd_h"}
    for k, (a, b, r) in enumerate([(0.5, 1.2, 0.3), (0.9, 0.4, -0.6)]):
        D = np.array([[a * a, r * a * b], [r * a * b, b * b]])
        expected = stats.invwishart(4, np.array(S2)).logpdf(D) + np.log(4 * a**2 * b**2)
        assert found["covariance_g"].values[0, k] == pytest.approx(expected, abs=1e-10)


def test_the_prior_is_drawn_as_a_whole():
    model = glmm(covariance=InverseWishart(4, S2))
    tree = model.prior_predictive(4000)["prior"]
    sd, r = np.asarray(tree["sd_g"])[0], np.asarray(tree["corr_g"])[0, :, 0]
    for k in range(2):
        assert stats.kstest(sd[:, k], model.priors.sd["g"][k].cdf).pvalue > 1e-3
    D01 = r * sd[:, 0] * sd[:, 1]
    whole = InverseWishart(4, S2).rvs(np.random.default_rng(9), 4000, 2)[:, 0, 1]
    assert stats.ks_2samp(D01, whole).pvalue > 1e-3


@pytest.mark.parametrize("prior", SHRINKAGE, ids=str)
def test_shrinkage_has_the_density_of_a_mixture_of_inverse_wisharts(prior):
    """D | S ~ IW(d + 1, S), S ~ Wishart(d + 1, W^-1): by simulation, at a few matrices."""
    d = dimension(prior)
    W = prior.matrix(d)
    S = stats.wishart(d + 1, np.linalg.inv(W)).rvs(100_000, random_state=1)
    for D in stats.invwishart(d + 3, np.linalg.inv(W) * d).rvs(3, random_state=2):
        logdet = np.linalg.slogdet(S)[1] * (d + 1) / 2 - (d + 1) * np.linalg.slogdet(D)[1]
        trace = np.einsum("nij,ji->n", S, np.linalg.inv(D))
        one = stats.invwishart(d + 1, np.eye(d)).logpdf(np.eye(d)) + d / 2  # the constant
        weight = np.exp(logdet - 0.5 * trace + one)
        error = weight.std() / np.sqrt(len(weight))
        assert abs(weight.mean() - np.exp(prior.logpdf(D))) < 5 * error
        assert error < 0.05 * weight.mean()


@pytest.mark.parametrize("prior", SHRINKAGE, ids=str)
def test_shrinkage_draws_are_those_of_two_wisharts(prior):
    """E = chol(A) B^-1 chol(A)' with A, B ~ Wishart(d + 1, I) has the same law, and so D."""
    d, size = dimension(prior), 6000
    D = prior.rvs(np.random.default_rng(5), size, d)
    A, B = (stats.wishart(d + 1, np.eye(d)).rvs(size, random_state=k) for k in (6, 7))
    G, L = np.linalg.cholesky(A), np.linalg.cholesky(np.linalg.inv(prior.matrix(d)))
    twin = L @ (G @ np.linalg.inv(B) @ np.swapaxes(G, 1, 2)) @ L.T
    for part in (
        lambda m: m[:, 0, 1] / np.sqrt(m[:, 0, 0] * m[:, 1, 1]),
        lambda m: m[:, -1, 0] / np.sqrt(m[:, 0, 0] * m[:, -1, -1]),
        lambda m: np.linalg.eigvalsh(m)[:, 0],
        lambda m: np.linalg.eigvalsh(m)[:, -1],
    ):
        assert stats.ks_2samp(part(D), part(twin)).pvalue > 1e-3
    for k in range(d):
        assert stats.kstest(np.sqrt(D[:, k, k]), prior.margin(k, d).cdf).pvalue > 1e-3


def test_the_shrinkage_of_a_typical_level_is_uniform():
    """(I + C'D C)^-1 has the density of Lebesgue measure over 0 < B < I: by its determinants."""
    prior = UniformShrinkageMatrix(S2)
    C = np.linalg.cholesky(np.array(S2))
    D = prior.rvs(np.random.default_rng(5), 6000, 2)
    B = np.linalg.inv(np.eye(2) + C.T @ D @ C)
    # rejection from the cube that holds 0 < B < I
    a, b, c = np.random.default_rng(6).uniform([[0], [0], [-0.5]], [[1], [1], [0.5]], (3, 60_000))
    cube = np.stack([np.stack([a, c], -1), np.stack([c, b], -1)], -2)
    roots = np.linalg.eigvalsh(cube)
    inside = cube[(roots[:, 0] > 0) & (roots[:, 1] < 1)]
    for part in (lambda m: m[:, 0, 0], lambda m: m[:, 0, 1], np.linalg.det):
        assert stats.ks_2samp(part(B), part(inside)).pvalue > 1e-3


def test_margin_of_shrinkage():
    """One effect is UniformShrinkage; the density is that of the distribution function."""
    prior = UniformShrinkageMatrix(((2.5,),)).margin(0, 1)
    sd, q = np.array([0.1, 0.7, 3.0]), np.array([0.02, 0.5, 0.98])
    np.testing.assert_allclose(prior.logpdf(sd), bg.UniformShrinkage(2.5).logpdf(sd), atol=1e-12)
    margin = ShrunkVariance(0.4, 3)
    twin = stats.betaprime(2, 1, scale=0.4)
    np.testing.assert_allclose(margin.cdf(sd), twin.cdf(sd**2), rtol=1e-12)
    np.testing.assert_allclose(margin.logpdf(sd), twin.logpdf(sd**2) + np.log(2 * sd), atol=1e-12)
    np.testing.assert_allclose(margin.ppf(q), np.sqrt(twin.ppf(q)), rtol=1e-9)
    for at, power in ((1e6, -margin.tail), (1e-6, margin.origin)):
        slope = np.diff(margin.logpdf(np.array([at, 2 * at])))[0] / np.log(2)
        assert slope == pytest.approx(power, abs=1e-5)  # the next term is of order 1e-6


@pytest.mark.parametrize("prior", CASES + SHRINKAGE, ids=str)
def test_decay_is_the_power_of_the_density(prior):
    """m = d: density of s^2 D in log s; m = 1: tail of one SD."""
    d = dimension(prior)
    D, s = prior.rvs(np.random.default_rng(1), 1, d)[0], 1e4
    near, far = (prior.logpdf(k * k * D) + d * (d + 1) * np.log(k) for k in (s, 2 * s))
    assert (far - near) / np.log(2) == pytest.approx(-prior.decay(d, d), abs=1e-5)
    assert prior.margin(0, d).tail - 1 == pytest.approx(prior.decay(1, d))


def test_shrinkage_in_a_model():
    """The weight is the information of the data; graph, draws and log prior know it."""
    model = glmm("y ~ 1 + (x | g)", covariance=UniformShrinkageMatrix())
    prior = model.priors.covariance["g"]
    p = FRAME["y"].mean()
    Z = np.column_stack([np.ones(N), FRAME["x"]])
    np.testing.assert_allclose(prior.matrix(2), p * (1 - p) * Z.T @ Z / 10, rtol=1e-7)
    table = model.priors_table().set_index("parameter")
    assert "its weight is taken from the data" in table.why["covariance_g"]
    assert table.loc["sd_g[x]", "range_high"] == pytest.approx(prior.margin(1, 2).ppf(0.975))
    assert "BetaPrime(1.5, 1)" in table.loc["sd_g[x]", "prior"]
    tree = model.prior_predictive(3000)["prior"]
    sd = np.asarray(tree["sd_g"])[0]
    assert stats.kstest(sd[:, 1], model.priors.sd["g"][1].cdf).pvalue > 1e-3
    found = log_prior(model, {k: np.asarray(tree[k])[:, :2] for k in ("beta", "sd_g", "corr_g")})
    assert set(found) == {"beta", "covariance_g"}


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (0, "must be positive"),
        ("x", "must be a number or the rows"),
        (((1.0, 2.0), (2.0, 1.0)), "symmetric positive definite"),
    ],
)
def test_shrinkage_refuses_what_is_no_information(weight, match):
    with pytest.raises(ValueError, match=match):
        UniformShrinkageMatrix(weight)


def test_shrinkage_needs_a_matrix_of_the_right_size():
    with pytest.raises(ValueError, match="has a 3 x 3 weight, and g has 2 effects"):
        glmm(covariance=UniformShrinkageMatrix(S3))
    assert parse_prior("UniformShrinkageMatrix(2)") == UniformShrinkageMatrix(2.0)
    assert parse_prior(prior_text(SHRINKAGE[0])) == SHRINKAGE[0]


FLAT = {"intercept": bg.Flat(), "beta": bg.Flat(), "allow_improper": True}


def test_propriety():
    """Proper beside proper priors; beside p flat coefficients only with decay(1) > p."""
    cases = {
        (InverseWishart(4, S2), ()): "proper",
        (InverseWishart(4, S2), tuple(FLAT)): "likely proper",  # 4 - 2 + 1 = 3 > 2
        (InverseWishart(3, S2), tuple(FLAT)): "unknown",  # 2 = 2
        (UniformShrinkageMatrix(S2), ()): "proper",
        (UniformShrinkageMatrix(S2), ("intercept", "allow_improper")): "likely proper",  # 2 > 1
        (UniformShrinkageMatrix(S2), tuple(FLAT)): "unknown",  # 2 = 2
    }
    for (prior, chosen), verdict in cases.items():
        model = glmm(covariance=prior, **{k: FLAT[k] for k in chosen})
        assert bg.check_propriety(model).verdict == verdict
    heavy = glmm(
        "y ~ x + (x | g) + (1 | h)", covariance=InverseWishart(9, S2), sd=bg.HalfCauchy(1), **FLAT
    )
    assert bg.check_propriety(heavy).verdict == "unknown"
    frame = FRAME.assign(z=RNG.normal(size=N))
    gaussian = bg.GLMM(
        "z ~ x + (x | g)",
        frame,
        family="gaussian",
        priors=bg.Priors(covariance=InverseWishart(2.5, S2), **FLAT),
    )
    assert bg.check_propriety(gaussian).verdict == "proper"


def test_another_sd_with_an_improper_prior_decides_where_it_fails_alone():
    """Three groups under a flat variance, beside two flat coefficients: alpha -1 + kappa - p."""
    frame = FRAME.assign(k=RNG.poisson(3, N) + 1)
    priors = bg.Priors(
        covariance=InverseWishart(9, S2), sd=bg.Uniform(0, np.inf, on="variance"), **FLAT
    )
    model = bg.GLMM("k ~ x + (x | g) + (1 | h)", frame, family="poisson", priors=priors)
    found = bg.check_propriety(model)
    assert (found.verdict, found.subset) == ("improper", ("sd_h[Intercept]",))


# level a: any (v, w) with -v < w < v separates its rows; level b only says that the intercept is
# not far below zero. Its rows have no effect, so that the effects of a have a Student-t prior
ONE_SIDED = pd.DataFrame(
    {
        "y": [0, 0, 1, 1, 1],
        "v": [-2.0, -1.0, 1.0, 2.0, 0.0],
        "w": [1.0, 1.0, 1.0, 1.0, 0.0],
        "g": list("aaaab"),
    }
)


def shell(df: float, s: float) -> float:
    """Posterior mass at effects of size ``s``, in log s: flat intercept, IW(df, I)."""
    angle = np.linspace(-np.pi, np.pi, 2001)[:-1]
    b0 = np.arange(-40.0, 4 * s, s / 200)
    z = s * (np.outer(np.cos(angle), ONE_SIDED["v"]) + np.outer(np.sin(angle), ONE_SIDED["w"]))
    sign = np.where(ONE_SIDED["y"] > 0, 1.0, -1.0)
    log_likelihood = sum(
        log_expit(sign[i] * (b0[:, None] + z[:, i])) for i in range(len(ONE_SIDED))
    )
    # df - d + 1 degrees of freedom in two dimensions, up to a constant; s^2 d log s of the plane
    density = (1 + s * s) ** (-0.5 * (df + 1)) * s * s
    return float(np.exp(log_likelihood).sum() * (b0[1] - b0[0]) * density)


@pytest.mark.parametrize(
    ("df", "verdict"), [(1.5, "improper"), (2.0, "improper"), (2.5, "likely proper")]
)
def test_a_generic_direction_leaves_no_posterior(df, verdict):
    """Margin decay(1) + kappa - p = df - 1 + 0 - 1, and the integral has that power."""
    far = np.log([shell(df, s) for s in (1000.0, 2000.0)])
    # the intercept's ends are bounded parts of a range of order s, and its grid s / 200
    assert np.diff(far)[0] / np.log(2) == pytest.approx(2.0 - df, abs=0.01)
    priors = bg.Priors(covariance=InverseWishart(df, 1.0), intercept=bg.Flat(), allow_improper=True)
    model = bg.GLMM("y ~ 1 + (0 + v + w | g)", ONE_SIDED, family="bernoulli", priors=priors)
    found = bg.check_propriety(model)
    assert found.verdict == verdict
    assert verdict != "improper" or "along a direction of the correlated effects" in found.rule


def test_separated_data_stay_improper():
    frame = FRAME.assign(y=(FRAME["x"] > 2).astype(int))
    flat = {"intercept": bg.Flat(), "beta": bg.Flat(), "allow_improper": True}
    priors = bg.Priors(covariance=InverseWishart(9, S2), **flat)
    model = bg.GLMM("y ~ x + (x | g)", frame, family="bernoulli", priors=priors)
    assert bg.check_propriety(model).verdict == "improper"


def test_integrated_names_the_method_that_serves():
    with pytest.raises(bg.NotServedError, match=r"prior of a whole covariance matrix.*use NUTS"):
        glmm(covariance=InverseWishart(4, S2)).fit(bg.Integrated())
