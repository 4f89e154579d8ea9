"""R-hat, effective sample sizes and k-hat are ArviZ's."""

import numpy as np
import pytest
from arviz_stats.base import array_stats

from bayes_glmm.numerics.convergence import diagnostics, pareto_k

AXES = {"chain_axis": 0, "draw_axis": 1}


def chains(correlation: float, draws: int = 501, levels: int | None = None) -> np.ndarray:
    """Four autoregressive chains; with ``levels``, rounded, so that ranks tie."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((4, draws))
    x = noise.copy()
    for t in range(1, draws):
        x[:, t] = correlation * x[:, t - 1] + noise[:, t]
    return x if levels is None else np.round(levels * x)


SERIES = {
    "independent": chains(0.0),
    "slow": chains(0.98),
    "antithetic": chains(-0.6),
    "ties": chains(0.5, levels=1),
    "shifted": chains(0.3) + np.arange(4)[:, None],
    "short": chains(0.3, draws=10),
}


@pytest.mark.parametrize("name", SERIES)
def test_as_arviz(name):
    x = SERIES[name]
    found = diagnostics(x[:, :, None])
    wanted = {
        "rhat": array_stats.rhat(x, **AXES),
        "ess_bulk": array_stats.ess(x, method="bulk", **AXES),
        "ess_tail": array_stats.ess(x, method="tail", prob=(0.05, 0.95), **AXES),
    }
    for key, value in wanted.items():  # the same sums in another order
        np.testing.assert_allclose(found[key][0], value, rtol=1e-9)


def test_parameters_are_worked_on_apart():
    """In one call as in several, and where there are too many to hold at a time."""
    x = np.stack([chains(r, 400) for r in np.linspace(0, 0.9, 150)], axis=2)
    together = diagnostics(x)
    for k in (0, 77, 149):
        alone = diagnostics(x[:, :, k : k + 1])
        for key, value in alone.items():
            np.testing.assert_allclose(together[key][k], value[0], rtol=1e-12)


def test_a_constant_has_no_rhat():
    found = diagnostics(np.ones((4, 100, 1)))
    assert np.isnan(found["rhat"][0])
    assert found["ess_bulk"][0] == 400


@pytest.mark.parametrize("size", [100, 4000])
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_k_hat_as_arviz(size, spread):
    log_ratio = spread * np.random.default_rng(1).standard_normal(size)
    _, wanted = array_stats.psislw(-log_ratio, r_eff=1.0)
    assert pareto_k(log_ratio) == pytest.approx(wanted, rel=1e-9)


def test_equal_ratios_have_no_k_hat():
    assert np.isnan(pareto_k(np.zeros(1000)))
