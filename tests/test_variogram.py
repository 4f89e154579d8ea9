"""The variogram against sums over all pairs, and its expectation against a dense covariance."""

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from bayes_glmm.methods import NotServedError


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Subjects of one to six rows at irregular times, rows shuffled, in three places."""
    rng = np.random.default_rng(2)
    subject = np.repeat(np.arange(12), [1, 2, 3, 4, 5, 6] * 2)
    n = len(subject)
    time = rng.permutation(40)[: n % 40].tolist() + rng.integers(0, 40, n - n % 40).tolist()
    data = pd.DataFrame({"id": [f"s{k}" for k in subject], "time": np.array(time) + 0.25 * subject})
    data["x"] = rng.normal(size=n)
    data["y"] = 1 + data.x + rng.normal(size=12)[subject] + rng.normal(size=n)
    data["time"] += np.linspace(0, 0.1, n)  # distinct within subjects
    return data.sample(frac=1, random_state=1).reset_index(drop=True)


def by_hand(data, residual):
    """Lags and semivariances of all pairs, within and between subjects."""
    within, between = [], []
    for i in range(len(data)):
        for j in range(i):
            half = 0.5 * (residual[i] - residual[j]) ** 2
            if data.id[i] == data.id[j]:
                within.append((abs(data.time[i] - data.time[j]), half, i, j))
            else:
                between.append(half)
    return pd.DataFrame(within, columns=["lag", "half", "i", "j"]), np.mean(between)


@pytest.mark.parametrize("nugget", [False, True])
def test_against_sums_over_all_pairs_and_a_dense_covariance(frame, nugget):
    correlation = bg.residual.Exponential("time", by="id", nugget=nugget)
    model = bg.GLMM("y ~ x + (x | id)", frame, family="gaussian", residual=correlation)
    fit = model.fit("reml")
    found = bg.variogram(fit, bins=4)
    residual = (frame.y - fit.fixef()["Intercept"] - fit.fixef()["x"] * frame.x).to_numpy()
    pairs, total = by_hand(frame, residual)
    assert found.table["pairs"].sum() == len(pairs)
    # means over classes of other sizes add up to the mean over all pairs
    weight = found.table["pairs"] / len(pairs)
    assert weight @ found.table["semivariance"] == pytest.approx(pairs.half.mean(), rel=1e-12)
    assert weight @ found.table["lag"] == pytest.approx(pairs.lag.mean(), rel=1e-12)
    assert found.total == pytest.approx(total, rel=1e-12)
    V = dense(frame, fit, nugget)
    i, j = pairs.i, pairs.j
    expected = 0.5 * (V[i, i] + V[j, j]) - V[i, j]
    assert weight @ found.table["fitted"] == pytest.approx(expected.mean(), rel=1e-10)
    assert found.total_fitted == pytest.approx(np.trace(V) / len(V), rel=1e-10)


def dense(data, fit, nugget) -> np.ndarray:
    """Covariance matrix of the rows from the printed estimates."""
    table = fit.varcorr()
    sd = table[table.sd.notna()].set_index("term").sd
    corr = table.loc[table.term2 == "x", "corr"].item()
    D = np.array([[sd["Intercept"] ** 2, 0], [0, sd["x"] ** 2]])
    D[0, 1] = D[1, 0] = corr * sd["Intercept"] * sd["x"]
    tidy = fit.tidy(("ran_pars",)).set_index("term").estimate
    lag = np.abs(data.time.to_numpy()[:, None] - data.time.to_numpy())
    R = np.exp(-tidy["residual phi"] * lag)
    if nugget:
        R = np.where(np.eye(len(data)) == 1, 1.0, (1 - tidy["residual nugget"]) * R)
    Z = np.column_stack([np.ones(len(data)), data.x])
    same = data.id.to_numpy()[:, None] == data.id.to_numpy()
    return same * (Z @ D @ Z.T + fit.dispersion**2 * R)


def test_each_lag_alone_where_they_are_few():
    fit = bg.GLMM(
        "reaction ~ days + (days | subject)", bg.load_dataset("sleepstudy"), family="gaussian"
    ).fit("reml")
    table = bg.variogram(fit, time="days").table
    assert table.lag.tolist() == list(range(1, 10))
    assert table.pairs.tolist() == [18 * (10 - lag) for lag in range(1, 10)]
    # a random slope's part of the variogram is a parabola in the lag
    rise = np.diff(table.fitted, 2)
    np.testing.assert_allclose(rise, fit.varcorr().sd[1] ** 2, rtol=1e-9)


def test_least_squares_implies_none(frame):
    fit = bg.GLMM("y ~ x + (1 | id)", frame, family="gaussian").fit("glm")
    found = bg.variogram(fit, time="time")
    assert found.table.fitted.isna().all() and np.isnan(found.total_fitted)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs the columns of the times"),
        ({"time": "tyme"}, "allowed are .*did you mean 'time'"),
        ({"time": "id"}, "holds no numbers"),
        ({"time": "time", "bins": 0}, "at least 1"),
        ({"time": "time", "by": "x"}, "one row in each subject"),
    ],
)
def test_what_it_refuses(frame, options, words):
    fit = bg.GLMM("y ~ x + time + (1 | id)", frame, family="gaussian").fit("glm")
    with pytest.raises(ValueError, match=words):
        bg.variogram(fit, **options)


def test_other_families_are_refused():
    fit = bg.GLMM("y ~ trt + (1 | subject)", bg.load_dataset("epil"), family="poisson").fit("glm")
    with pytest.raises(NotServedError, match="serves gaussian models"):
        bg.variogram(fit, time="visit")
    with pytest.raises(NotServedError, match="serves gaussian models"):
        bg.plot_residuals(fit)


def test_figures_show_what_was_computed(frame):
    model = bg.GLMM("y ~ x + (1 | id)", frame, family="gaussian")
    fit = model.fit("reml")
    axes = bg.plot_variogram(fit, time="time").axes[0]
    found = bg.variogram(fit, time="time")
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 1], found.table.semivariance)
    assert axes.get_xlabel() == "distance in time, within id"
    left, right = bg.plot_residuals(fit).axes
    level = fit.effects["id"].estimate[model.design.in_user_order().groups[0].index, 0]
    expected = (frame.y - fit.fixef()["Intercept"] - fit.fixef()["x"] * frame.x - level).to_numpy()
    np.testing.assert_allclose(left.lines[1].get_ydata() * fit.dispersion, expected, atol=1e-12)
    np.testing.assert_allclose(right.lines[1].get_ydata(), np.sort(expected) / fit.dispersion)
