"""The parametric bootstrap: seeds, workers, failures, and agreement with other errors."""

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.frequentist.bootstrap import lifted, simulate
from bayes_glmm.frequentist.likelihood import Likelihood
from bayes_glmm.frequentist.profiles import likelihood_of
from bayes_glmm.methods import NotServedError
from bayes_glmm.numerics.pieces import available_cores

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def cbpp():
    return bg.GLMM(CBPP, bg.load_dataset("cbpp"), family="binomial").fit(bg.ML(nodes=5))


@pytest.fixture(scope="module")
def found(cbpp):
    return cbpp.bootstrap(200, seed=3)


def spread(estimates):
    """Half the distance of the 16 % and 84 % quantiles: an SD that outliers do not move."""
    low, high = (estimates.quantile(q) for q in (0.1587, 0.8413))
    return (high - low) / 2


def test_errors_agree_with_wald_on_cbpp(cbpp, found):
    """The spread of 200 normal draws has a relative Monte Carlo error of 6.5 %.

    Bootstrap and Wald are equal to first order only; 15 herds are allowed 10 % more. In some
    simulated data sets a period has no case at all, which an SD would not survive.
    """
    ratio = spread(found.estimates)[:4] / cbpp.se().to_numpy()
    np.testing.assert_allclose(ratio, 1, atol=3 * 0.065 + 0.1)
    assert list(found.std_error.index) == cbpp.parameter_names
    shares = found.far_share
    assert shares["period[T.4]"] > 0 == shares["Intercept"]
    assert "period[T.4] is at infinity (separation) in" in repr(found)


def test_errors_agree_with_wald_with_many_groups():
    """With 80 groups of 6 counts the first order is all; SDs of 200 draws err by 5 %."""
    rng = np.random.default_rng(5)
    g, x = np.repeat(np.arange(80), 6), rng.normal(size=480)
    y = rng.poisson(np.exp(0.5 + 0.3 * x + 0.7 * rng.normal(size=80)[g]))
    data = pd.DataFrame({"y": y, "x": x, "g": g})
    fit = bg.GLMM("y ~ x + (1 | g)", data, family="poisson").fit(bg.ML(nodes=5))
    result = fit.bootstrap(200)
    wald = np.r_[fit.se().to_numpy(), fit.variance.std_error]
    np.testing.assert_allclose(result.std_error / wald, 1, atol=4 * 0.05)
    # means: 4 Monte Carlo errors; the SD's bias of order 1 / groups adds less than a fifth
    assert np.all(np.abs(result.bias) < (4 / np.sqrt(200) + 0.2) * wald)


def test_intervals_are_percentiles(cbpp, found):
    table = found.confint(0.9)
    assert list(table.columns) == ["term", "conf_low", "conf_high"]
    column = found.estimates["sd_herd[Intercept]"]
    assert table.conf_low.iloc[-1] == np.quantile(column, (1 - 0.9) / 2)
    basic = found.confint(0.9, "basic")
    own = cbpp.variance.estimate[0]
    assert basic.conf_low.iloc[-1] == pytest.approx(max(0, 2 * own - table.conf_high.iloc[-1]))
    same = cbpp.confint(0.9, method="boot", replicates=20, seed=3)
    pd.testing.assert_frame_equal(same, cbpp.bootstrap(20, seed=3).confint(0.9))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_numbers_depend_on_the_seed_alone(cbpp, found, workers):
    again = cbpp.bootstrap(8, seed=3, workers=workers)
    np.testing.assert_array_equal(again.estimates, found.estimates[:8])
    np.testing.assert_array_equal(again.loglik, found.loglik[:8])
    assert not np.array_equal(cbpp.bootstrap(2, seed=4).estimates, again.estimates[:2])


def test_a_replicate_is_a_fit_of_the_simulated_response(cbpp, found):
    """By hand: simulate with the replicate's stream, fit a new model to it."""
    likelihood, x, _ = likelihood_of(cbpp)
    child = cbpp.method.stream(3).spawn(2)[1]
    y = simulate(likelihood, x, np.random.default_rng(child))
    data = bg.load_dataset("cbpp").assign(incidence=cbpp.model.design.to_user(y))
    fit = bg.GLMM(CBPP, data, family="binomial").fit(bg.ML(nodes=5))
    # both searches end with a Newton decrement below 1e-8: within 1e-4 standard errors
    np.testing.assert_allclose(
        found.estimates.iloc[1], [*fit.beta, *fit.variance.estimate], 0, 1e-4
    )
    assert found.loglik[1] == pytest.approx(fit.loglik, abs=1e-7)


def test_failed_refits_are_kept_and_counted(cbpp, monkeypatch):
    real, calls = Likelihood.maximise, []

    def failing(self, **options):
        calls.append(1)
        if len(calls) in (2, 5, 6):
            raise np.linalg.LinAlgError("made to fail")
        return real(self, **options)

    monkeypatch.setattr(Likelihood, "maximise", failing)
    result = cbpp.bootstrap(10, workers=1)
    # call 2 is mended by a search from scratch (call 3); 5 and its repetition 6 are not
    assert list(result.failures) == [3] and "made to fail" in result.failures[3]
    assert result.estimates.isna().all(axis=1).tolist() == [r == 3 for r in range(10)]
    assert len(result.good) == 9 and np.isfinite(result.std_error).all()
    codes = [m.code for m in result.messages]
    assert codes == ["bootstrap-few", "bootstrap-failures"]
    assert "1 refits failed" in repr(result)
    assert "1 of 10" in str(result.messages[1])


def test_a_refit_that_does_not_converge_has_failed(cbpp, monkeypatch):
    from dataclasses import replace

    real = Likelihood.maximise

    def stopped(self, **options):
        maximum = real(self, **options)
        optimum = replace(maximum.optimum, converged=False, reason="stopped by the test")
        return replace(maximum, optimum=optimum)

    monkeypatch.setattr(Likelihood, "maximise", stopped)
    result = cbpp.bootstrap(3)
    assert result.failures == dict.fromkeys(range(3), "stopped by the test")


def test_too_few_replicates_for_a_level_are_said(found):
    (note,) = found.messages
    assert note.code == "bootstrap-few" and "about 400" in note.happened
    assert found.messages_at(0.9) == ()  # ten beyond each limit
    assert found.confint(0.9).attrs["messages"] == ()
    assert found.confint(0.95).attrs["messages"] == (note,)


def zero_variance():
    g = np.repeat(np.arange(12), 5)
    data = pd.DataFrame({"y": np.tile([1, 0, 0, 1, 0], 12), "g": g})
    return bg.GLMM("y ~ 1 + (1 | g)", data, family="bernoulli").fit(bg.ML(nodes=5))


def test_share_of_zero_variances():
    """From a fit with an SD of zero: a refit must be able to leave it."""
    fit = zero_variance()
    assert fit.variance.estimate[0] == 0
    result = fit.bootstrap(60)
    share = result.zero_share["sd_g[Intercept]"]
    assert share == np.mean(result.estimates["sd_g[Intercept]"] == 0)
    # half or more in theory; 4 Monte Carlo errors of 0.065 around 0.6
    assert 0.3 < share < 0.9
    assert f"sd_g[Intercept] is zero in {share:.1%}" in repr(result)


def test_refits_do_not_start_at_zero():
    likelihood, x, _ = likelihood_of(zero_variance())
    assert x[-1] == 0 and lifted(likelihood, x)[-1] > 0.05


def test_simulated_responses_have_the_models_moments():
    """Crossed factors and a slope: variance of y by hand, over 4,000 draws."""
    rng = np.random.default_rng(1)
    g, h = np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6)
    t = np.linspace(-1, 1, 30)
    data = pd.DataFrame({"y": rng.normal(size=30), "g": g, "h": h, "t": t})
    model = bg.GLMM("y ~ t + (t | g) + (1 | h)", data, family="gaussian")
    likelihood = Likelihood.of(model)
    L = np.array([[1.0, 0.0], [0.5, 0.8]])
    x = np.array([2.0, -1.0, *L[np.tril_indices(2)], 0.7, np.log(0.4)])
    x[2:5] = L[0, 0], L[1, 0], L[1, 1]
    y = np.array([simulate(likelihood, x, rng) for _ in range(4000)])
    rows = likelihood.rows
    Zg, Zh = likelihood.factors[0], likelihood.factors[1]
    block = np.einsum("ni,ij,mj->nm", Zg.Z, L @ L.T, Zg.Z) * (Zg.index[:, None] == Zg.index)
    expected = block + 0.49 * (Zh.index[:, None] == Zh.index) + 0.16 * np.eye(30)
    # standard errors: sd / sqrt(4000) of means, at most sqrt(2) var / sqrt(4000) of covariances
    sd = np.sqrt(np.diag(expected))
    np.testing.assert_array_less(np.abs(y.mean(0) - rows.X @ x[:2]), 5 * sd / np.sqrt(4000))
    error = np.sqrt(2 / 4000) * np.outer(sd, sd)
    np.testing.assert_array_less(np.abs(np.cov(y.T) - expected), 5 * error)


def test_crossed_factors_and_a_glm(cbpp):
    rng = np.random.default_rng(2)
    g, h = np.repeat(np.arange(8), 10), np.tile(np.arange(10), 8)
    y = rng.poisson(np.exp(0.6 * rng.normal(size=8)[g] + 0.5 * rng.normal(size=10)[h]))
    data = pd.DataFrame({"y": y, "g": g, "h": h})
    fit = bg.GLMM("y ~ 1 + (1 | g) + (1 | h)", data, family="poisson").fit("laplace")
    result = fit.bootstrap(12, workers=2)
    assert not result.failures and result.estimates.shape == (12, 3)
    glm = cbpp.model.fit("glm")
    assert glm.bootstrap(4).estimates.shape == (4, 4)
    rng = np.random.default_rng(3)
    gaussian = pd.DataFrame({"y": rng.normal(size=50), "x": rng.normal(size=50)})
    fit = bg.GLMM("y ~ x", gaussian, family="gaussian").fit("glm")
    # SDs of 200 draws err by 5 %; the dispersion is the ML one, sqrt(48/50) of the residual SD
    ratio = fit.bootstrap(200).std_error.to_numpy() / [*fit.se(), *fit.variance.std_error]
    np.testing.assert_allclose(ratio, [np.sqrt(48 / 50)] * 2 + [1], atol=4 * 0.05)


def test_progress_is_told(cbpp, capsys):
    told = []
    cbpp.bootstrap(3, workers=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert capsys.readouterr() == ("", "")
    cbpp.bootstrap(2, progress=True)
    out, err = capsys.readouterr()
    assert out == "" and err == "2 bootstrap refits ...\n"


def test_options_are_checked(cbpp, found):
    with pytest.raises(ValueError, match="replicates=1"):
        cbpp.bootstrap(1)
    with pytest.raises(ValueError, match="workers=0"):
        cbpp.bootstrap(5, workers=0)
    with pytest.raises(ValueError, match="kind='bca'"):
        found.confint(kind="bca")
    with pytest.raises(ValueError, match="level=95"):
        found.confint(95)
    with pytest.raises(ValueError, match="has no options, got seed"):
        cbpp.confint(method="wald", seed=1)
    with pytest.raises(NotServedError, match="use a fit by ML"):
        cbpp.model.fit("pql").bootstrap()


def test_workers_leave_the_threads_of_blas_as_they_were(cbpp):
    from threadpoolctl import threadpool_info

    before = [p["num_threads"] for p in threadpool_info()]
    cbpp.bootstrap(6, workers=2)
    assert [p["num_threads"] for p in threadpool_info()] == before
    assert available_cores() >= 1
