"""Every prior against SciPy, quadrature and PyMC; the defaults and the refusals."""

import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import integrate, stats

from bayes_glmm.families import get_family, get_link
from bayes_glmm.priors import (
    LKJ,
    PC,
    R2D2M2,
    Beta,
    Cauchy,
    Exponential,
    Flat,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfStudentT,
    ImproperPriorError,
    InverseGamma,
    LogNormal,
    Normal,
    Power,
    Prior,
    Priors,
    StudentT,
    Uniform,
    UniformShrinkage,
    resolve_priors,
)
from bayes_glmm.priors.correlations import cholesky_factor, pairs
from bayes_glmm.priors.covariances import CovariancePrior, ShrunkVariance
from bayes_glmm.priors.residual import HalfLife
from bayes_glmm.priors.shrinkage import SharedMargin

# each prior and its twin in SciPy, on the scale on which the density is stated
TWINS = [
    (Normal(-1, 2.5), stats.norm(-1, 2.5)),
    (StudentT(3, 1, 2), stats.t(3, 1, 2)),
    (Cauchy(0.5, 2), stats.cauchy(0.5, 2)),
    (Uniform(-2, 5), stats.uniform(-2, 7)),
    (Uniform(0, 5), stats.uniform(0, 5)),
    (Uniform(1, 5, on="variance"), stats.uniform(1, 4)),
    (HalfNormal(1.5), stats.halfnorm(0, 1.5)),
    (HalfStudentT(4, 2.5), stats.t(4, 0, 2.5)),  # folded: handled by _twin_*
    (HalfCauchy(2.5), stats.halfcauchy(0, 2.5)),
    (Exponential(3), stats.expon(0, 1 / 3)),
    (PC(upper=3, prob=0.05), stats.expon(0, -3 / np.log(0.05))),
    (Gamma(2, 0.7), stats.gamma(2, 0, 1 / 0.7)),
    (Gamma(0.5, 1), stats.gamma(0.5, 0, 1)),
    (LogNormal(-0.5, 0.8), stats.lognorm(0.8, 0, np.exp(-0.5))),
    (InverseGamma(2, 1.5), stats.invgamma(2, 0, 1.5)),
    (InverseGamma(3, 1.5, on="value"), stats.invgamma(3, 0, 1.5)),
    (R2D2M2(0.3, 4), stats.beta(1.2, 2.8)),
    (Beta(2, 3), stats.beta(2, 3)),
    (UniformShrinkage(2.5), stats.betaprime(1, 1, 0, 1 / 2.5)),
]
PROBABILITIES = np.array([0.001, 0.02, 0.3, 0.5, 0.77, 0.98, 0.999])
each_prior = pytest.mark.parametrize(("prior", "twin"), TWINS, ids=lambda p: str(p)[:40])


def subclasses(cls):
    return {s for c in cls.__subclasses__() for s in {c, *subclasses(c)}}


def quantiles(prior, twin):
    """Points of the stated scale, from SciPy."""
    half = isinstance(prior, HalfStudentT)
    return twin.ppf((1 + PROBABILITIES) / 2 if half else PROBABILITIES)


def test_every_proper_kind_has_a_twin():
    kinds = {k for k in subclasses(Prior) if not k.__name__.startswith("_")}
    kinds -= {ShrunkVariance, CovariancePrior, *subclasses(CovariancePrior)}
    assert kinds - {type(p) for p, _ in TWINS} == {LKJ, SharedMargin, Flat, Power, HalfLife}


@each_prior
def test_log_density_is_scipys(prior, twin):
    x = quantiles(prior, twin)
    expected = twin.logpdf(x) + (np.log(2) if isinstance(prior, HalfStudentT) else 0)
    value = x
    if prior.stated_on == "variance":
        value = np.sqrt(x)
        expected = expected + np.log(2 * value)
    # a dozen roundings of numbers below 20
    np.testing.assert_allclose(prior.logpdf(value), expected, rtol=0, atol=2e-13)


@each_prior
def test_density_integrates_to_one(prior, twin):
    ends = [prior.ppf(q) for q in (1e-4, 0.1, 0.5, 0.9, 1 - 1e-4)]
    total = sum(
        integrate.quad(lambda v: np.exp(prior.logpdf(v)), a, b, epsabs=1e-12, epsrel=1e-10)[0]
        for a, b in pairwise(ends)
    )
    # the two tails hold 1e-4 each; quad is asked for 1e-10 on four pieces
    assert total == pytest.approx(1 - 2e-4, abs=1e-9)


@each_prior
def test_quantile_undoes_distribution_function(prior, twin):
    # SciPy's Student-t quantile is good to about 1e-14 in probability, the others to 1e-16
    np.testing.assert_allclose(
        prior.cdf(prior.ppf(PROBABILITIES)), PROBABILITIES, rtol=1e-12, atol=1e-13
    )
    x = quantiles(prior, twin)
    value = np.sqrt(x) if prior.stated_on == "variance" else x
    np.testing.assert_allclose(prior.ppf(PROBABILITIES), value, rtol=1e-9, atol=1e-12)


@each_prior
def test_outside_the_support(prior, twin):
    low, high = prior.support
    beyond = [v for v in (low - 0.1, high + 0.1) if np.isfinite(v)]
    assert np.all(prior.logpdf(np.array(beyond)) == -np.inf)
    assert np.all(np.isin(prior.cdf(np.array(beyond)), [0, 1]))
    assert np.isnan(prior.logpdf(np.nan))


@pytest.mark.parametrize("prior", [p for p, _ in TWINS if p.roles & {"coefficient", "sd"}], ids=str)
def test_tail_power(prior):
    if not np.isfinite(prior.tail):
        far = [min(prior.support[1], 1e3), min(prior.support[1], 2e3)]
        slope = np.diff(prior.logpdf(far * np.array([1, 1.0001])))[0] / np.log(2)
        assert slope < -5 or np.isnan(slope)
    else:
        slope = np.diff(prior.logpdf([1e6, 2e6]))[0] / np.log(2)
        # the next term of the tail is of order (location / 1e6)
        assert slope == pytest.approx(-prior.tail, abs=1e-5)


@pytest.mark.parametrize("prior", [p for p, _ in TWINS if "sd" in p.roles] + [
    Uniform(0, np.inf), Uniform(0, np.inf, on="variance"), Uniform(1, np.inf), Gamma(2, 0),
    Gamma(0, 1), Power(-1), Power(1), HalfCauchy(np.inf), InverseGamma(0, 1), InverseGamma(0, 0),
    InverseGamma(0.5, 0), LogNormal(0, np.inf), Exponential(0),
], ids=str)  # fmt: skip
def test_power_at_zero(prior):
    """``origin``: the slope of the log density in log sd at zero; inf where it vanishes faster."""
    if prior.support[0] < 0:
        return  # a prior for coefficients only
    low, high = prior.logpdf(np.array([1e-6, 2e-6]))
    if np.isinf(prior.origin):
        assert low == -np.inf or (high - low) / np.log(2) > 5
    else:
        slope = (high - low) / np.log(2)
        assert slope == pytest.approx(prior.origin, abs=1e-5)  # the next term is of order 1e-6


@each_prior
def test_draws(prior, twin):
    draws = prior.rvs(np.random.default_rng(1), (4, 1000))
    assert draws.shape == (4, 1000)
    below = np.mean(draws < prior.ppf(0.3))
    assert abs(below - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)  # four standard errors
    np.testing.assert_array_equal(draws, prior.rvs(np.random.default_rng(1), (4, 1000)))


@pytest.fixture(scope="module")
def pymc():
    return pytest.importorskip("pymc")


@each_prior
def test_pymc_has_the_same_log_density(prior, twin, pymc):
    name, parameters = prior.pymc
    x = quantiles(prior, twin)
    as_float64 = {key: np.float64(value) for key, value in parameters.items()}
    ours = prior.logpdf(np.sqrt(x)) - np.log(2 * np.sqrt(x)) if "var" in prior.stated_on else None
    if isinstance(prior, UniformShrinkage):  # a formula of a uniform variable
        unit = prior.cdf(np.sqrt(x))
        np.testing.assert_allclose(prior.of_pymc(unit), x, rtol=1e-9)
        slope = prior.weight * (1 + prior.weight * x) ** -2  # d unit / d variance
        np.testing.assert_allclose(ours, np.log(slope), rtol=0, atol=1e-12)
        return
    logp = pymc.logp(getattr(pymc, name).dist(**as_float64), x)
    difference = logp.eval(mode="FAST_COMPILE") - (prior.logpdf(x) if ours is None else ours)
    assert np.ptp(difference) < 1e-12  # a dozen roundings of numbers below 20
    # PyMC takes log(2) of its folded densities in single precision: 1.9e-9
    assert np.abs(difference).max() < 4e-9


# ---- correlations


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("d", [2, 3, 4])
def test_lkj_density_is_that_of_its_partial_correlations(eta, d):
    """Change of variables from independent Beta partials, the Jacobian by differences."""
    prior = LKJ(eta)
    rng = np.random.default_rng(d)
    partial = rng.uniform(-0.7, 0.7, len(pairs(d)))

    def below(p):
        factor = cholesky_factor(p, d)
        return np.array([(factor @ factor.T)[ij] for ij in pairs(d)])

    h = 1e-6
    jacobian = np.array(
        [(below(partial + h * e) - below(partial - h * e)) / (2 * h) for e in np.eye(len(partial))]
    )
    shape = prior.partial_shapes(d)
    density = stats.beta(shape, shape).logpdf((partial + 1) / 2).sum() - len(partial) * np.log(2)
    factor = cholesky_factor(partial, d)
    # central differences: error h^2 plus rounding / h, about 1e-9
    assert prior.logpdf(factor @ factor.T) == pytest.approx(
        density - np.linalg.slogdet(jacobian)[1], abs=1e-7
    )


def test_lkj_of_two_is_a_beta():
    prior, r = LKJ(2), np.linspace(-0.95, 0.95, 9)
    twin = stats.beta(2, 2, -1, 2)
    matrices = np.array([[[1, x], [x, 1]] for x in r])
    np.testing.assert_allclose(prior.logpdf(matrices), twin.logpdf(r), atol=1e-12)
    np.testing.assert_allclose(prior.cdf(r), twin.cdf(r), atol=1e-12)
    np.testing.assert_allclose(prior.ppf(prior.cdf(r)), r, atol=1e-12)


def test_lkj_draws_have_the_marginal_distribution_of_one_correlation():
    prior = LKJ(1.5)
    draws = prior.rvs(np.random.default_rng(4), 4000, dimension=3)
    assert np.all(np.linalg.eigvalsh(draws) > 0)
    for i, j in pairs(3):  # every pair, though the partials are not exchangeable
        assert stats.kstest(draws[:, i, j], lambda r: prior.cdf(r, 3)).pvalue > 1e-3


def test_lkj_outside():
    assert LKJ(2).logpdf([[1, 1.2], [1.2, 1]]) == -np.inf


def test_pymc_has_the_same_lkj(pymc):
    """PyMC's is the density of the Cholesky factor: dR = prod L_ii^(d - i) dL, i from 1."""
    factor = cholesky_factor([0.3, -0.2, 0.1], 3)
    logp = pymc.logp(pymc.LKJCorr.dist(n=3, eta=np.float64(2)), factor)
    jacobian = np.log(np.diag(factor)) @ [2, 1, 0]
    assert LKJ(2).logpdf(factor @ factor.T) == pytest.approx(
        float(logp.eval(mode="FAST_COMPILE")) - jacobian, abs=1e-12
    )


# ---- hyperparameters


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(0, -1), r"Normal\(sd=-1\) must be positive"),
        (lambda: Normal(np.nan, 1), r"Normal\(mean=nan\) must be finite"),
        (lambda: Normal(0, 0), "must be positive"),
        (lambda: Normal(0, "a"), r"sd='a'\) must be a number"),
        (lambda: Normal(0, True), "must be a number"),
        (lambda: HalfNormal(np.nan), r"HalfNormal\(scale=nan\)"),
        (lambda: HalfStudentT(np.inf, 1), r"df=inf\) must be positive and finite"),
        (lambda: StudentT(0, 0, 1), "df=0"),
        (lambda: PC(3, 1.5), r"PC\(prob=1.5\) must be between 0 and 1"),
        (lambda: Exponential(-1), "at least 0"),
        (lambda: Uniform(3, 1), "lower bound below its upper"),
        (lambda: Uniform(-1, 1, on="variance"), "below zero, which no variance"),
        (lambda: Uniform(0, 1, on="precision"), "'value' or 'variance'"),
        (lambda: LKJ(-1), r"LKJ\(eta=-1\)"),
        (lambda: Priors(sd=2.5), r"Priors\(sd=2.5\) is not a prior"),
        (lambda: Priors(beta_for={"x": None}), "holds None"),
    ],
)
def test_wrong_hyperparameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


IMPROPER = [
    Flat(),
    Power(1),
    Power(0),
    Normal(0, np.inf),
    StudentT(3, 0, np.inf),
    Cauchy(0, np.inf),
    Uniform(0, np.inf),
    Uniform(0, np.inf, on="variance"),
    HalfNormal(np.inf),
    HalfStudentT(4, np.inf),
    HalfCauchy(np.inf),
    Exponential(0),
    PC(np.inf, 0.05),
    Gamma(0, 0),
    Gamma(2, 0),
    LogNormal(0, np.inf),
    InverseGamma(0, 0),
    InverseGamma(1, 0),
    LKJ(0),
]


@pytest.mark.parametrize("prior", IMPROPER, ids=str)
def test_improper_priors_have_no_quantiles_and_no_graph(prior):
    assert not prior.proper
    for use in (lambda: prior.ppf(0.5), lambda: prior.cdf(0.5), lambda: prior.pymc):
        with pytest.raises(ImproperPriorError, match="improper"):
            use()


def test_flat_and_power_have_a_kernel():
    assert Flat().logpdf(3.0) == 0
    assert Power(2).logpdf(3.0) == pytest.approx(-2 * np.log(3))
    assert (Flat().tail, Power(2).tail) == (0, 2)
    assert Uniform(0, np.inf, on="variance").tail == -1
    assert (Gamma(2, 0).tail, InverseGamma(0, 0).tail, LogNormal(0, np.inf).tail) == (-1, 1, 1)


def test_descriptions():
    assert HalfStudentT(4, 2.5).describe() == "HalfStudentT(df=4, scale=2.5)"
    assert Uniform(0, 5, on="variance").describe() == "Uniform(lower=0, upper=5, on='variance')"
    assert hash(Normal(0, 1)) == hash(Normal(0.0, 1.0))
    assert isinstance(hash(Priors(beta_for={"x": Normal(0, 1)})), int)


# ---- assignment


def design(**changes):
    """Stand-in for a design: two columns beside the intercept, a correlated slope by herd."""
    rng = np.random.default_rng(0)
    n = 40
    X = np.column_stack([np.ones(n), 10 + 2 * rng.normal(size=n), np.arange(n) % 2])
    herd = SimpleNamespace(group="herd", columns=("Intercept", "x"), Z=X[:, :2], blocks=((0, 1),))
    year = SimpleNamespace(group="year", columns=("Intercept",), Z=X[:, :1], blocks=((0,),))
    fields = {
        "terms": ("Intercept", "x", "period[T.2]"),
        "X": X,
        "y": rng.poisson(3, n).astype(float),
        "trials": np.ones(n),
        "offset": np.zeros(n),
        "groups": (herd, year),
    }
    return SimpleNamespace(**fields | changes)


def resolve(priors=None, family="poisson", link=None, **changes):
    family = get_family(family)
    return resolve_priors(priors, design(**changes), family, get_link(link, family))


def test_defaults_on_the_log_link():
    d, priors = design(), resolve()
    sd = d.X[:, 1:].std(axis=0, ddof=1)
    intercept, *slopes = priors.beta
    np.testing.assert_allclose([p.sd for p in slopes], 2.5 / sd, rtol=1e-12)
    assert [p.mean for p in slopes] == [0, 0]
    assert intercept.mean == pytest.approx(np.log(d.y.mean()))
    width = np.sqrt(1 + np.sum((d.X[:, 1:].mean(axis=0) / sd) ** 2))
    assert intercept.sd == pytest.approx(2.5 * width)
    assert priors.sd["herd"][0] == HalfStudentT(4, 2.5)
    assert priors.sd["herd"][1].scale == pytest.approx(2.5 / sd[0])
    assert priors.sd["year"] == (HalfStudentT(4, 2.5),)
    assert priors.corr == {"herd": LKJ(2), "year": None}
    assert priors.dispersion is None


def test_default_intercept_is_never_narrower_at_the_data_than_stated():
    """At the columns' means the intercept's prior variance is at least (2.5)^2."""
    d, priors = design(), resolve()
    at_means = np.r_[1, d.X[:, 1:].mean(axis=0)]
    variance = np.sum((at_means * [p.sd for p in priors.beta]) ** 2)
    assert variance >= 2.5**2


def test_defaults_on_the_logit_have_no_data_in_the_intercept_without_columns():
    d = design()
    priors = resolve(family="bernoulli", y=d.y % 2, X=d.X[:, :1], terms=("Intercept",), groups=())
    assert priors.beta == (Normal(0, 2.5),)


def test_defaults_follow_the_units():
    """Gaussian: y in thousandths and x in hundredths move every default accordingly."""
    d = design()
    base = resolve(family="gaussian")
    moved = resolve(family="gaussian", y=1000 * d.y, X=d.X * [1, 100, 1], groups=d.groups)
    np.testing.assert_allclose(
        [p.sd for p in moved.beta],
        [1000 * p.sd / s for p, s in zip(base.beta, [1, 100, 1], strict=True)],
    )
    assert moved.beta[0].mean == pytest.approx(1000 * base.beta[0].mean)
    assert moved.dispersion.scale == pytest.approx(1000 * base.dispersion.scale)
    assert moved.sd["year"][0].scale == pytest.approx(1000 * base.sd["year"][0].scale)
    assert base.dispersion == HalfStudentT(4, d.y.std(ddof=1))


def test_exposure_moves_the_default_intercept():
    base, moved = resolve(), resolve(offset=np.full(40, np.log(100)))
    assert base.beta[0].mean - moved.beta[0].mean == pytest.approx(np.log(100))


def test_default_without_an_intercept_is_scaled_about_zero():
    d = design()
    cells = np.column_stack([1 - d.X[:, 2], d.X[:, 2]])
    priors = resolve(family="gaussian", X=cells, terms=("period[1]", "period[2]"))
    level = np.hypot(d.y.std(ddof=1), d.y.mean())
    assert priors.beta[0] == Normal(0, 2.5 * level / np.sqrt(0.5))


def test_degenerate_data_still_get_proper_defaults():
    for family in ("poisson", "gaussian"):
        for prior in resolve(family=family, y=np.zeros(40)).beta:
            assert prior.proper


def test_the_most_specific_choice_wins():
    chosen = Priors(
        intercept=Normal(0, 5),
        beta=Normal(0, 1),
        sd=HalfNormal(1),
        corr=LKJ(1),
        beta_for={"period": StudentT(3, 0, 1)},
        sd_for={"herd": Exponential(1), "herd[x]": PC(3, 0.05)},
    )
    priors = resolve(chosen)
    assert priors.beta == (Normal(0, 5), Normal(0, 1), StudentT(3, 0, 1))
    assert priors.sd == {"herd": (Exponential(1), PC(3, 0.05)), "year": (HalfNormal(1),)}
    assert priors.corr["herd"] == LKJ(1)
    one_column = Priors(beta_for={"period[T.2]": Normal(0, 2), "period": Normal(0, 3)})
    assert resolve(one_column).beta[2] == Normal(0, 2)


def test_table_prints_every_prior():
    chosen = Priors(sd_for={"year": InverseGamma(2, 1)}, beta_for={"x": Normal(1, 2)})
    table = resolve(chosen, family="gaussian").table().set_index("parameter")
    assert list(table.index) == [
        "beta[Intercept]",
        "beta[x]",
        "beta[period[T.2]]",
        "sd_herd[Intercept]",
        "sd_herd[x]",
        "corr_herd",
        "sd_year[Intercept]",
        "dispersion",
    ]
    assert list(table.loc["beta[x]", ["default", "why", "scale"]]) == [False, "chosen", "link"]
    assert table.loc["sd_year[Intercept]", "scale"] == "variance"
    # the range is of the SD, whatever the scale of the density
    assert table.loc["sd_year[Intercept]", "range_high"] == pytest.approx(
        np.sqrt(stats.invgamma(2, scale=1).ppf(0.975))
    )
    assert table.loc["corr_herd", "range_low"] == pytest.approx(
        -table.loc["corr_herd", "range_high"]
    )
    assert (table.range_low < table.range_high).all()
    assert table.default.sum() == 6


@pytest.mark.parametrize("prior", [p for p in IMPROPER if "sd" in p.roles], ids=str)
def test_an_improper_prior_of_a_standard_deviation_is_refused(prior):
    with pytest.raises(ImproperPriorError) as caught:
        resolve(Priors(sd_for={"year": prior}))
    message = str(caught.value)
    assert prior.describe() in message
    assert "sd_year[Intercept]" in message
    assert "Natarajan & McCulloch 1995" in message
    assert "HalfStudentT(df=4, scale=2.5)" in message


@pytest.mark.parametrize("prior", [p for p in IMPROPER if "coefficient" in p.roles], ids=str)
def test_an_improper_prior_of_a_coefficient_is_refused(prior):
    with pytest.raises(ImproperPriorError, match=r"beta\[x\] is improper: where the data are sep"):
        resolve(Priors(beta_for={"x": prior}))


def test_other_improper_priors_are_refused():
    with pytest.raises(ImproperPriorError, match=r"corr_herd is improper.*LKJ"):
        resolve(Priors(corr=LKJ(0)))
    with pytest.raises(ImproperPriorError, match="dispersion is improper"):
        resolve(Priors(dispersion=Power(1)), family="gaussian")
    with pytest.raises(ImproperPriorError, match=r"beta\[Intercept\] is improper"):
        resolve(Priors(intercept=Flat()))


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        (Priors(sd=Normal(0, 1)), "is a prior for a coefficient, and sd_herd[Intercept] is"),
        (Priors(beta=HalfNormal(1)), "beta[x] is a coefficient"),
        (Priors(corr=HalfNormal(1)), "corr_herd is a correlation"),  # type: ignore
        (Priors(sd=Uniform(-1, 5)), "reaches below zero"),
        (Priors(beta=Uniform(0, 5, on="variance")), "stated on a variance"),
        (Priors(beta_for={"perod": Normal(0, 1)}), "Did you mean 'period'?"),
        (Priors(sd_for={"herd[y]": HalfNormal(1)}), "Did you mean 'herd[x]'?"),
        (Priors(sd_for={"farm": HalfNormal(1)}), "which the model does not have"),
        (Priors(dispersion=HalfNormal(1)), "the poisson family has none"),
    ],
)
def test_misplaced_priors_are_refused(priors, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve(priors)


def test_a_choice_for_what_is_not_there_is_refused():
    d = design()
    with pytest.raises(ValueError, match="no random effect"):
        resolve(Priors(sd=HalfNormal(1)), groups=())
    with pytest.raises(ValueError, match="no random effects are correlated"):
        resolve(Priors(corr=LKJ(1)), groups=d.groups[1:])
    with pytest.raises(ValueError, match="no intercept"):
        resolve(Priors(intercept=Normal(0, 1)), X=d.X[:, 1:], terms=("x", "period[T.2]"))
    with pytest.raises(ValueError, match="no other coefficient"):
        resolve(Priors(beta=Normal(0, 1)), X=d.X[:, :1], terms=("Intercept",))
    with pytest.raises(ValueError, match="must be a Priors object"):
        resolve(HalfNormal(1))


def test_improper_priors_pass_where_they_are_allowed():
    chosen = Priors(intercept=Flat(), sd=Flat(), corr=LKJ(1), allow_improper=True)
    priors = resolve(chosen)
    assert not priors.proper
    assert priors.beta[0] == Flat()
    assert priors.sd["year"] == (Uniform(0, np.inf),)  # the flat prior of a standard deviation
    row = priors.table().set_index("parameter").loc["sd_year[Intercept]"]
    assert np.isnan([row.range_low, row.range_high]).all()
    assert resolve().proper
    with pytest.raises(ValueError, match=r"allow_improper='yes'\) must be True or False"):
        Priors(allow_improper="yes")  # type: ignore


@pytest.mark.parametrize(
    ("ratio", "df", "shape", "rate"),
    [(10, 1, 0.5, 0.0164), (10, 2, 1, 0.2864), (2, 1, 0.5, 0.0015), (2, 2, 1, 0.0260)],
)
def test_inverse_gamma_from_a_range_of_odds_ratios(ratio, df, shape, rate):
    """Fong, Rue & Wakefield's (2010) choices, to the printed digits; and what they mean."""
    prior = InverseGamma.from_odds_ratio(ratio, df)
    assert prior.shape == shape
    assert prior.scale == pytest.approx(rate, abs=5e-5)
    variance = integrate.quad(
        lambda p: stats.norm.cdf(np.log(ratio) / prior.ppf(p)), 0, 1, epsabs=1e-9, limit=400
    )[0]
    assert variance == pytest.approx(0.975, abs=1e-6)
    with pytest.raises(ValueError, match="ratio above 1"):
        InverseGamma.from_odds_ratio(0.5)


def test_uniform_shrinkage_takes_its_weight_from_the_data():
    """Balanced binary data, no columns: w = n p (1 - p), the information of one group."""
    d = design()
    block = SimpleNamespace(
        group="herd", columns=("Intercept",), Z=d.X[:, :1], blocks=((0,),),
        index=np.arange(40) % 8, n_observed=8,
    )  # fmt: skip
    given = dict(
        y=np.arange(40) % 4 // 3 * 1.0, X=d.X[:, :1], terms=("Intercept",), groups=(block,)
    )
    found = resolve(Priors(sd=UniformShrinkage()), "bernoulli", **given)
    (prior,) = found.sd["herd"]
    assert prior.weight == pytest.approx(5 * 0.25 * 0.75, rel=1e-9)
    row = found.table().set_index("parameter").loc["sd_herd[Intercept]"]
    assert "taken from the data" in row.why
    with pytest.raises(ValueError, match="takes its weight from a model's data"):
        UniformShrinkage().ppf(0.5)
    with pytest.raises(ValueError, match="must be positive and finite"):
        UniformShrinkage(0)


def test_table_says_what_a_standard_deviation_means():
    d = design()
    table = resolve(Priors(sd=HalfNormal(1)), "bernoulli", y=d.y % 2).table()
    row = table.set_index("parameter").loc["sd_year[Intercept]"]
    low, high = stats.halfnorm.ppf([0.025, 0.975])
    apart = stats.norm.ppf(0.975) - stats.norm.ppf(0.025)
    np.testing.assert_allclose(
        [row.ratio_low, row.ratio_high], np.exp(apart * np.array([low, high]))
    )
    np.testing.assert_allclose(row.icc_high, high**2 / (high**2 + np.pi**2 / 3))
    assert row.means == "odds ratio of a high to a low group 1.13 to 6.5e+03, ICC 0.0003 to 0.6"
    slope = table.set_index("parameter").loc["sd_herd[x]"]
    assert np.isnan(slope.icc_high)
    assert slope.ratio_high == pytest.approx(row.ratio_high)
    assert table.set_index("parameter").loc["beta[x]", "means"] == ""
