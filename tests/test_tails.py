"""Verdicts about tails against likelihoods integrated by brute force (``studies/tails.py``).

Slopes are ``d log I / d log s`` at standard deviations of 5 to 20, extrapolated in ``1 / s``; what
is left of the approach to the limit is below a few tenths, and limits are integers.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import log_expit

import bayes_glmm as bg
from bayes_glmm.propriety.specification import Specification
from studies.propriety import Case, contradictions, sweep
from studies.tails import Small, diverges, slope

ONES, ZEROS, MIXED = [1, 1, 1], [0, 0, 0], [0, 1, 1]
NEAR = 0.3  # see above; the next integers are 1 away


def small(groups, x=None, **options) -> Small:
    y = np.concatenate(groups).astype(float)
    group = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    x = np.ones(len(y)) if x is None else np.asarray(x, float)
    return Small(y, x, group, **options)


def model(design: Small, **priors) -> bg.GLMM:
    priors = {"allow_improper": True, **priors}
    kind = {"family": design.family, "link": design.link}
    frame = pd.DataFrame(design.columns)
    return bg.GLMM(design.formula, frame, priors=bg.Priors(**priors), **kind)


def flat(design: Small) -> dict:
    chosen = {"intercept": bg.Flat()} if "1" in design.fixed else {}
    return chosen | ({"beta": bg.Flat()} if "x" in design.fixed else {})


def predicted(design: Small, **priors) -> int:
    """``p - kappa`` of all random effects."""
    problem = Specification(model(design, **priors)).problem
    cone = problem.cone(range(len(problem.deviations)))
    return problem.X_flat.shape[1] - cone.kappa


WITHIN = np.tile([-1.0, 0.0, 1.0], 4)
DESIGNS = {
    "all groups extreme": (small([ONES] * 3 + [ZEROS] * 2), 1, 0),
    "one group mixed": (small([MIXED] + [ONES] * 2 + [ZEROS] * 2), 0, -1),
    "three groups mixed": (small([MIXED] * 3 + [ONES, ZEROS]), -2, -3),
    "four groups mixed": (small([MIXED] * 4), -3, -4),
    "probit, two mixed": (small([MIXED] * 2 + [ONES, ZEROS], link="probit"), -1, -2),
    "cloglog, two mixed": (small([MIXED] * 2 + [ONES, ZEROS], link="cloglog"), -1, -2),
    "counts, two positive": (
        small([[1, 2], [3, 1], [0, 0], [0, 0]], family="poisson", link="log"),
        -1,
        -2,
    ),
    "binomial rows, one inside": (
        small([[2], [1], [0], [0]], family="binomial", trials=np.full(4, 2.0)),
        0,
        -1,
    ),
    "slope by group": (small([MIXED, ONES, ZEROS, ONES], WITHIN, random=("x",)), None, None),
    "covariate without intercept": (
        small([[0, 1], [1, 0], [1, 1]], [1, 2, 1, 2, 1, -1], fixed=("x",)),
        None,
        None,
    ),
    "covariate within groups": (
        small([[0, 1, 1], [0, 1, 0], [1, 0, 1]], WITHIN[:9], fixed=("1", "x")),
        None,
        None,
    ),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_likelihood_falls_with_the_power_that_the_cone_gives(name):
    design, under_flat, under_normal = DESIGNS[name]
    power = predicted(design, **flat(design))
    assert slope(design) == pytest.approx(power, abs=NEAR)
    assert under_flat in (None, power)
    power = predicted(design)
    assert slope(design, normal=2.0) == pytest.approx(power, abs=NEAR)
    assert under_normal in (None, power)


@pytest.mark.parametrize("subset", [("1",), ("x",), ("1", "x")])
def test_each_set_of_effects_has_its_own_power(subset):
    x = [-1, 0, 1, -1, 0, 1, 0, 1, 2]
    design = small([[0, 1, 1], [1, 0, 1], [0, 0, 1]], x, random=("1", "x"))
    problem = Specification(model(design, **flat(design))).problem
    cone = problem.cone([("1", "x").index(c) for c in subset])
    assert slope(design, subset) == pytest.approx(1 - cone.kappa, abs=NEAR)


# (flat intercept?, prior of the SD) -> least number of mixed groups, of five, for a posterior
LEAST_MIXED = [
    (True, bg.Flat(), 3),
    (False, bg.Flat(), 2),
    (True, bg.Uniform(0, np.inf, on="variance"), 4),
    (False, bg.Uniform(0, np.inf, on="variance"), 3),
    (True, bg.HalfCauchy(1), 1),
    (True, bg.InverseGamma(0.01, 0.01), 1),
    (True, bg.InverseGamma(1, 1), 0),
    (True, bg.HalfStudentT(0.5, 1), 1),
    (True, bg.HalfStudentT(3, 1), 0),
    (True, bg.HalfNormal(1), 0),
    (True, bg.PC(3, 0.05), 0),
    (True, bg.Gamma(2, 0), 4),
]


@pytest.mark.parametrize(("free", "prior", "least"), LEAST_MIXED, ids=str)
def test_how_many_mixed_groups_a_prior_needs(free, prior, least):
    for mixed in range(6):
        groups = [MIXED] * mixed + [ONES, ZEROS, ONES, ZEROS, ONES][: 5 - mixed]
        design = small(groups)
        if mixed == 4:
            groups[-1] = ZEROS
        found = bg.check_propriety(model(design, sd=prior, **(flat(design) if free else {})))
        assert found.verdict == ("proper" if mixed >= least else "improper"), (mixed, str(found))


@pytest.mark.parametrize("mixed", range(6))
@pytest.mark.parametrize(
    "prior", [bg.Power(1), bg.InverseGamma(0, 0), bg.LogNormal(0, np.inf), bg.Gamma(0, 1)], ids=str
)
def test_infinite_mass_at_zero_is_improper_for_all_data(prior, mixed):
    groups = [MIXED] * mixed + [ONES, ZEROS, ONES, ZEROS, ONES][: 5 - mixed]
    found = bg.check_propriety(model(small(groups), sd=prior))
    assert found.verdict == "improper"
    assert "near zero" in found.rule


def test_inverse_gamma_without_shape_is_integrable_at_zero():
    """IG(0, b): the density of the SD is exp(-b / sd^2) / sd; only its tail is improper."""
    prior = bg.InverseGamma(0, 1)
    assert (prior.origin, prior.tail) == (np.inf, 1)
    assert bg.check_propriety(model(small([MIXED] * 4), sd=prior)).verdict == "proper"
    assert bg.check_propriety(model(small([ONES, ZEROS]), sd=prior)).verdict == "improper"


def test_a_coefficient_with_a_cauchy_prior_can_follow_the_effects():
    """Where x separates every group, beta_x ~ s meets the data: slope -1, not -4."""
    x = np.tile([-1.0, 1.0], 4)
    design = small([[0, 1]] * 4, x, fixed=("x",))
    sigma = np.array([8.0, 16.0, 32.0])
    grid = np.sinh(np.linspace(-13, 13, 3001))  # beta, out to 2e5
    b = np.arange(-12 * 32, 12 * 32 + 1) * 0.5
    values = []
    for s in sigma:
        weight = 0.5 * np.exp(-0.5 * (b / s) ** 2) / (s * np.sqrt(2 * np.pi))
        one = np.exp(log_expit(grid[:, None] + b) + log_expit(grid[:, None] - b)) @ weight
        density = 1 / (np.pi * (1 + grid**2)) * np.sqrt(1 + grid**2)  # d beta = cosh dt
        values.append(np.log(np.sum(one**4 * density)))
    first, second = np.diff(values) / np.log(2)
    assert 2 * second - first == pytest.approx(-1, abs=0.1)
    under = {"sd": bg.Flat()}
    cauchy = bg.check_propriety(model(design, beta=bg.Cauchy(0, 1), **under))
    assert (cauchy.verdict, cauchy.subset) == ("improper", ("sd_g[Intercept]", "x"))
    assert bg.check_propriety(model(design, beta=bg.Normal(0, 1), **under)).verdict == "proper"
    light = bg.check_propriety(model(design, beta=bg.StudentT(1.5, 0, 1), **under))
    assert light.verdict == "proper"


def test_a_flat_intercept_needs_a_mean_of_what_it_stands_beside():
    """Rows beta_0 + beta_1 >= 0 and beta_0 - beta_1 <= 0: beta_0 ranges over 2 |beta_1|."""
    design = small([[1, 0]] * 3, np.tile([1.0, -1.0], 3), fixed=("1", "x"))
    base = {"intercept": bg.Flat(), "sd": bg.HalfNormal(1)}
    found = bg.check_propriety(model(design, beta=bg.Cauchy(0, 1), **base))
    assert (found.verdict, found.subset) == ("improper", ("x",))
    assert bg.check_propriety(model(design, beta=bg.StudentT(2, 0, 1), **base)).verdict == "proper"
    # d/d beta_1 of the integral over beta_0, with no random effect: it grows like 2 beta_1
    b0 = np.arange(-4000, 4000, 0.5)
    over = [np.exp(3 * (log_expit(b0 + b1) + log_expit(b1 - b0))).sum() for b1 in (500, 1000)]
    assert over[1] / over[0] == pytest.approx(2, abs=0.01)  # the ends' width over 1000


def test_a_half_line_lets_a_coefficient_go_one_way_only():
    design = small([[0, 0, 1]] * 2, [0, 1, 1] * 2)  # y = 1 has x = 1: beta_x may grow
    frame, base = pd.DataFrame(design.columns), {"allow_improper": True, "sd": bg.HalfNormal(1)}

    def verdict(prior):
        m = bg.GLMM("s ~ 0 + x + (1 | g)", frame.assign(x=frame.s - 0.5), family="bernoulli",
                    priors=bg.Priors(beta=prior, **base))  # fmt: skip
        return bg.check_propriety(m).verdict

    assert verdict(bg.Uniform(0, np.inf)) == "improper"
    assert verdict(bg.Uniform(-np.inf, 0)) == "proper"


def test_correlated_effects_are_checked_along_generic_directions():
    """Each group is separated along some direction of (intercept, slope), but along no axis."""
    rng = np.random.default_rng(3)
    x = np.tile([-1.0, 0.0, 1.0, 2.0], 6)
    y = (np.tile([0, 0, 1, 1], 6) + rng.integers(0, 1, 24)) % 2
    frame = pd.DataFrame({"y": y, "x": x, "g": np.repeat(list("abcdef"), 4)})
    chosen = {"intercept": bg.Flat(), "beta": bg.Normal(0, 1), "allow_improper": True}

    def check(sd, eta=1.0):
        priors = bg.Priors(sd=sd, corr=bg.LKJ(eta), **chosen)
        return bg.check_propriety(
            bg.GLMM("y ~ x + (x | g)", frame, family="bernoulli", priors=priors)
        )

    assert check(bg.Flat()).verdict == "improper"
    assert check(bg.HalfNormal(1)).verdict == "proper"
    assert check(bg.HalfStudentT(4, 1)).verdict == "likely proper"


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_hypothesis_small_designs_have_no_contradiction(data):
    groups = data.draw(
        st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=3), min_size=2, max_size=4)
    )
    prior = data.draw(
        st.sampled_from([bg.Uniform(0, np.inf), bg.HalfCauchy(1), bg.Power(0.5), bg.HalfNormal(1)])
    )
    normal = data.draw(st.sampled_from([None, 2.0]))
    case = Case(small(groups), (prior,), normal)
    verdict = bg.check_propriety(case.model()).verdict
    said = {"proper": "exists", "improper": "does not exist"}[verdict]
    assert case.numerically() in (said, "not decided")


def test_separation_of_flat_coefficients_is_divergence():
    for groups in ([ONES] * 3, [MIXED, ONES], [ZEROS, ONES]):
        design = small(groups)
        report = bg.check_propriety(model(design, sd=bg.HalfNormal(1), **flat(design)))
        assert (report.verdict == "improper") == diverges(design)


@pytest.mark.slow
def test_sweep_has_no_contradiction():
    table = sweep(200, seed=2)
    assert contradictions(table).empty
    assert (table.numerically != "not decided").mean() > 0.8


# ---- the steps of the derivations that are particular to a family


def counts(**options):
    frame = pd.DataFrame({"y": [0, 3, 0, 0, 2, 1, 0, 0, 0, 4], "g": np.repeat(list("abcde"), 2)})
    frame["n"] = 4
    priors = bg.Priors(allow_improper=True, intercept=bg.Flat(), **options.pop("priors", {}))
    formula = "p(y, n) ~ 1 + (1 | g)" if options["family"] == "beta_binomial" else "y ~ 1 + (1 | g)"
    return bg.check_propriety(bg.GLMM(formula, frame, priors=priors, **options))


def test_negative_binomial_of_unknown_size_is_decided_only_with_inverse_moments():
    bad = {"dispersion": bg.HalfNormal(1), "sd": bg.HalfNormal(1)}
    found = counts(family="negative_binomial", priors=bad)
    assert (found.verdict, "power of the linear predictor" in found.rule) == ("unknown", True)
    good = {"dispersion": bg.LogNormal(0, 1), "sd": bg.HalfNormal(1)}
    assert counts(family="negative_binomial", priors=good).verdict == "proper"
    many = {"dispersion": bg.Gamma(6, 1), "sd": bg.Flat()}  # E theta^-5 exists; the rank is 5
    assert counts(family="negative_binomial", priors=many).verdict == "proper"
    few = {"dispersion": bg.Gamma(5, 1), "sd": bg.Flat()}
    assert counts(family="negative_binomial", priors=few).verdict == "unknown"
    assert counts(family="negative_binomial1", priors=bad).verdict == "unknown"
    improper = {"dispersion": bg.Power(1), "sd": bg.HalfNormal(1)}
    assert counts(family="negative_binomial", priors=improper).verdict == "unknown"


def test_a_zero_count_of_unknown_size_falls_as_a_power():
    """E (1 + mu / theta)^-theta under a half-normal theta is about 1 / eta, not exponential."""
    theta = np.exp(np.linspace(-16, 3, 20001))
    weight = np.sqrt(2 / np.pi) * np.exp(-0.5 * theta**2) * theta  # d theta = theta d log theta
    eta = np.array([400.0, 800.0])
    chance = [np.sum(weight * np.exp(-theta * (e - np.log(theta)))) for e in eta]
    # the next factor is log(eta)-slow: (eta + log eta)^-1
    assert np.log(chance[1] / chance[0]) / np.log(2) == pytest.approx(-1, abs=0.03)


@pytest.mark.parametrize("total", [1e-3, 0.1, 1.0, 30.0, 1e4])
def test_a_beta_binomial_count_inside_is_bounded_by_its_mean(total):
    """P(y) <= n mu for y > 0 and <= n (1 - mu) for y < n, whatever a + b: exponential tails."""
    mu = 1 / (1 + np.exp(-np.linspace(-30, 30, 61)))
    mu = np.clip(mu, 1e-12, 1 - 1e-12)
    for y in range(5):
        chance = stats.betabinom.pmf(y, 4, total * mu, total * (1 - mu))
        # pmf and the bound round at 1e-12 where 1 - mu does
        assert y == 0 or np.all(chance <= 4 * mu * (1 + 1e-6) + 1e-12)
        assert y == 4 or np.all(chance <= 4 * (1 - mu) * (1 + 1e-6) + 1e-12)
    dispersed = {"dispersion": bg.HalfNormal(1), "sd": bg.Flat()}
    assert counts(family="beta_binomial", priors=dispersed).verdict == "proper"


@pytest.mark.parametrize("shape", [0.05, 1.0, 40.0])
def test_a_gamma_density_integrates_over_the_linear_predictor_to_one_over_y(shape):
    eta = np.linspace(-60, 400, 400_001)
    density = stats.gamma.pdf(2.5, shape, scale=np.exp(eta) / shape)
    # the right end of shape 0.05 is exp(-20) of the whole
    assert np.sum(density) * (eta[1] - eta[0]) == pytest.approx(1 / 2.5, rel=1e-5)


def test_gamma_responses():
    frame = pd.DataFrame({"y": [0.5, 3, 1, 2, 2.5, 1.2], "g": list("aabbcc")})

    def verdict(sd, link="log"):
        priors = bg.Priors(intercept=bg.Flat(), sd=sd, allow_improper=True)
        m = bg.GLMM("y ~ 1 + (1 | g)", frame, family="gamma", link=link, priors=priors)
        return bg.check_propriety(m).verdict

    assert verdict(bg.HalfCauchy(1)) == "proper"
    assert verdict(bg.Flat()) == "unknown"
    assert verdict(bg.Power(-3)) == "improper"
    assert verdict(bg.HalfNormal(1), "inverse") == "unknown"


def test_links_with_tails_of_a_power_are_not_decided():
    design = small([MIXED] * 4)
    frame = pd.DataFrame(design.columns)
    priors = bg.Priors(intercept=bg.Flat(), sd=bg.HalfNormal(1), allow_improper=True)
    m = bg.GLMM("s ~ 1 + (1 | g)", frame, family="bernoulli", link="cauchit", priors=priors)
    assert bg.check_propriety(m).verdict == "unknown"
    assert bg.check_propriety(m.with_priors(bg.Priors())).verdict == "proper"


def test_a_count_holds_eta_under_the_square_root():
    """mu = eta^2: a zero count keeps eta near zero, so that the flat intercept is held."""
    frame = pd.DataFrame({"y": [0, 0, 0, 0], "g": list("aabb")})
    priors = bg.Priors(intercept=bg.Flat(), sd=bg.HalfNormal(1), allow_improper=True)
    for link, verdict in (("sqrt", "proper"), ("log", "improper")):
        m = bg.GLMM("y ~ 1 + (1 | g)", frame, family="poisson", link=link, priors=priors)
        assert bg.check_propriety(m).verdict == verdict


def test_the_restricted_likelihood_falls_with_the_power_of_the_rank():
    """Gaussian, one factor, flat mean: d log L / d log sd -> -(q - 1), integrated over sd_e."""
    rng = np.random.default_rng(2)
    y = rng.normal(size=(4, 3))
    between, within = 3 * np.var(y.mean(1)) * 4, np.sum((y - y.mean(1, keepdims=True)) ** 2)

    def log_integral(s):
        e = np.exp(np.linspace(-4, 3, 2001))  # residual SD under a half-normal prior
        b = e**2 + 3 * s**2
        value = -8 * np.log(e) - within / (2 * e**2) - 1.5 * np.log(b) - between / (2 * b)
        return np.log(np.sum(np.exp(value - 0.5 * e**2) * e))

    slope_far = (log_integral(2000.0) - log_integral(1000.0)) / np.log(2)
    assert slope_far == pytest.approx(-3, abs=1e-3)
    frame = pd.DataFrame({"y": y.ravel(), "g": np.repeat(list("abcd"), 3)})
    for k, exists in ((-1.9, True), (-2.0, False)):  # alpha + 3 > 1
        priors = bg.Priors(intercept=bg.Flat(), sd=bg.Power(k), allow_improper=True)
        m = bg.GLMM("y ~ 1 + (1 | g)", frame, family="gaussian", priors=priors)
        report = bg.check_propriety(m)
        assert report.verdict == ("proper" if exists else "improper")
        assert (report.kappa, report.p) == (4, 1)


# four groups that hold intercept and slope, flat variances and coefficients: margins are
# -4 + 8 - 2 = 2 for both effects at large, -2 + 5 - 2 = 1 for each alone, and along a generic
# direction of the two -4 + 2 eta + 5 - 2 = 2 eta - 1, the smallest
@pytest.mark.parametrize("eta", [0.3, 0.7, 0.9])
def test_correlated_effects_leave_along_directions_that_no_coordinate_shows(eta):
    """The restricted likelihood of four balanced groups is |A + D|^(-3/2): its far integral."""

    def shell(s):
        angle = np.linspace(0.4, 1.1, 41)
        t = np.linspace(-40, 40, 8001)  # r = tanh t; dr = (1 - r^2) dt
        one, two = s * np.cos(angle)[:, None], s * np.sin(angle)[:, None]
        outside = 4 * np.exp(-2 * np.abs(t)) / (1 + np.exp(-2 * np.abs(t))) ** 2  # 1 - r^2
        det = 1 + one**2 + two**2 + outside * (one * two) ** 2
        return np.sum(s**2 * one * two * det**-1.5 * outside**eta)

    slope_far = np.log(shell(2e5) / shell(1e5)) / np.log(2)
    # the region of full rank adds s^-2, at these sizes at most s^-(2 - 2 eta + 1) of the whole
    assert slope_far == pytest.approx(1 - 2 * eta, abs=0.01)

    frame = pd.DataFrame(
        {"s": 1, "n": 2, "x": np.tile([0.0, 1, 2], 4), "g": np.repeat(list("abcd"), 3)}
    )
    priors = bg.Priors(
        intercept=bg.Flat(), beta=bg.Flat(), sd=bg.Power(-1), corr=bg.LKJ(eta), allow_improper=True
    )
    report = bg.check_propriety(
        bg.GLMM("p(s, n) ~ x + (x | g)", frame, family="binomial", priors=priors)
    )
    assert report.verdict == ("improper" if eta <= 0.5 else "likely proper")
    assert eta > 0.5 or "along a direction of the correlated effects" in report.rule
