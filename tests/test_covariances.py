"""The prior of a whole covariance matrix: density, draws, margins, assignment, propriety."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayes_glmm as bg
from bayes_glmm.bayesian.tree import log_prior
from bayes_glmm.priors import InverseGamma, InverseWishart
from bayes_glmm.priors.text import parse_prior, prior_text

S2 = ((1.2, 0.4), (0.4, 0.7))
S3 = ((1.0, 0.3, -0.2), (0.3, 0.8, 0.1), (-0.2, 0.1, 0.5))
CASES = [InverseWishart(3.5, S2), InverseWishart(4, 0.6), InverseWishart(5, S3)]
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
    return 2 if isinstance(prior.scale, float) else len(prior.scale)


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


@pytest.mark.parametrize("prior", CASES, ids=str)
def test_jacobian_from_sds_and_correlations(prior):
    """By differences of the map (sd, r) -> the lower triangle of D."""
    d = dimension(prior)
    lower = np.tril_indices(d)
    below = np.tril_indices(d, -1)
    D = stats.invwishart(prior.df, prior.matrix(d)).rvs(random_state=4)
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


@pytest.mark.parametrize("prior", CASES[:2], ids=str)
@pytest.mark.parametrize("first", [0.3, 0.9, 2.5])
def test_one_sd_has_the_margin_that_integration_gives(prior, first):
    """So that the density of (sd, r) integrates to one: that of an inverse gamma does."""
    # r = tanh t: a smooth integrand that vanishes at the ends, where the trapezoidal rule
    # converges faster than any power of its step
    t, log_second = np.meshgrid(np.linspace(-8, 8, 400), np.linspace(-8, 14, 500))
    sd = np.stack([np.full(t.shape, first), np.exp(log_second)], axis=-1)
    R = np.zeros((*t.shape, 2, 2)) + np.eye(2)
    R[..., 0, 1] = R[..., 1, 0] = np.tanh(t)
    log_density = prior.logpdf_of_parts(sd, R) + log_second - 2 * np.log(np.cosh(t))
    found = np.exp(log_density).sum() * (16 / 399) * (22 / 499)
    # beyond exp(14) the density of the second SD has a mass below 1e-10 in every case
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


def test_propriety():
    """Proper beside proper priors; beside p flat coefficients only with df - d + 1 > p."""
    flat = {"intercept": bg.Flat(), "beta": bg.Flat(), "allow_improper": True}
    cases = {
        (4, ()): "proper",
        (4, tuple(flat)): "likely proper",  # 4 - 2 + 1 = 3 > 2
        (3, tuple(flat)): "unknown",  # 2 = 2
    }
    for (df, chosen), verdict in cases.items():
        model = glmm(covariance=InverseWishart(df, S2), **{k: flat[k] for k in chosen})
        assert bg.check_propriety(model).verdict == verdict
    heavy = glmm(
        "y ~ x + (x | g) + (1 | h)", covariance=InverseWishart(9, S2), sd=bg.HalfCauchy(1), **flat
    )
    assert bg.check_propriety(heavy).verdict == "unknown"
    frame = FRAME.assign(z=RNG.normal(size=N))
    gaussian = bg.GLMM(
        "z ~ x + (x | g)",
        frame,
        family="gaussian",
        priors=bg.Priors(covariance=InverseWishart(2.5, S2), **flat),
    )
    assert bg.check_propriety(gaussian).verdict == "proper"


def test_separated_data_stay_improper():
    frame = FRAME.assign(y=(FRAME["x"] > 2).astype(int))
    flat = {"intercept": bg.Flat(), "beta": bg.Flat(), "allow_improper": True}
    priors = bg.Priors(covariance=InverseWishart(9, S2), **flat)
    model = bg.GLMM("y ~ x + (x | g)", frame, family="bernoulli", priors=priors)
    assert bg.check_propriety(model).verdict == "improper"


def test_integrated_names_the_method_that_serves():
    with pytest.raises(bg.NotServedError, match=r"prior of a whole covariance matrix.*use NUTS"):
        glmm(covariance=InverseWishart(4, S2)).fit(bg.Integrated())
