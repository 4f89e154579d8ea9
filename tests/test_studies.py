"""The studies run, and their committed results are what was asked."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayes_glmm as bg
from studies import agreement, boundary_size, calibration

ROOT = Path(__file__).parents[1]


def test_a_small_study_runs_and_is_reported(capsys):
    row = boundary_size.study(6, 12, seed=1, workers=2)
    assert row["datasets"] == 12 and row["failed"] == 0
    assert row["naive_5"] <= row["mixture_5"] <= row["mixture_10"] <= 1
    assert boundary_size.study(6, 12, seed=1, workers=1) == row
    text = boundary_size.report(pd.DataFrame([row]), "the command")
    assert "| 6 | 12 | 0 |" in text and "Written by `the command`." in text
    assert capsys.readouterr().out == ""


def test_shares_have_monte_carlo_errors():
    assert boundary_size.percent(0.05, 2000) == "5.0 ± 0.5"


def test_the_committed_study_holds_the_size():
    """With 100 groups 4 to 6.5 %; with fewer the mixture is conservative, the bootstrap is not."""
    table = pd.read_csv(ROOT / "studies/results/boundary_size.csv").set_index("groups")
    assert (table.datasets == 2000).all() and (table.failed == 0).all()
    assert 0.04 <= table.mixture_5[100] <= 0.065
    few = table.loc[[10, 20, 30]]
    assert (few.zero_share > 0.55).all()
    # 2 to 4 %, with two Monte Carlo errors of 0.45 % above
    assert few.mixture_5.between(0.02, 0.049).all()
    # the error of a warp-speed rate is sqrt(2) times 0.5 %; three of them
    assert table.bootstrap_5.between(0.05 - 0.021, 0.05 + 0.021).all()
    rates = [c for c in table if c.startswith(("mixture", "bootstrap"))]
    assert table[rates].to_numpy().max() < 0.13
    text = (ROOT / "studies/results/boundary_size.md").read_text(encoding="utf-8")
    assert f"| 100 | 2000 | 0 | {100 * table.zero_share[100]:.1f} ±" in text


def test_the_study_refuses_nonsense():
    with pytest.raises(ValueError, match="replicates=1"):
        boundary_size.study(6, 1, seed=1, workers=1)


def test_the_envelope_holds_uniform_ranks_and_no_others():
    rng = np.random.default_rng(1)
    uniform = rng.integers(0, calibration.DRAWS + 1, 250)
    assert calibration.Envelope.of(uniform, seed=1).outside <= 0
    assert calibration.Envelope.of(uniform // 2 + 25, seed=1).outside > 0  # too narrow a spread
    assert calibration.Envelope.of(np.minimum(uniform, uniform[::-1]), seed=1).outside > 0


def test_calibration_of_a_few_simulations(tmp_path):
    ranks, counts = calibration.calibrate("gaussian", 3, seed=2)
    assert counts["fits"] == 3 and counts["failed"] == 0
    assert {"beta[w]", "sd_g[Intercept]", "dispersion", "log-likelihood"} <= set(ranks)
    assert ranks.to_numpy().min() >= 0 and ranks.to_numpy().max() <= calibration.DRAWS
    long = ranks.melt(var_name="quantity", value_name="rank").assign(structure="gaussian")
    path = tmp_path / "ranks.csv"
    calibration.update(path, long)
    calibration.update(path, long.assign(rank=7))
    again = pd.read_csv(path)
    assert (again["rank"] == 7).all() and len(again) == len(long)


def test_the_committed_calibration_is_inside_its_envelopes():
    """At 95 % one quantity in twenty leaves its envelope by chance, by a little."""
    ranks = pd.read_csv(ROOT / "studies/results/calibration.csv")
    fits = pd.read_csv(ROOT / "studies/results/calibration_fits.csv")
    assert (fits.fits >= 200).all() and (fits.failed == 0).all()
    found = calibration.envelopes_of(ranks)
    worst = [e.outside for quantities in found.values() for e in quantities.values()]
    assert np.mean(np.array(worst) > 0) <= 0.1
    assert max(worst) < 0.3


def agreement_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    folder = ROOT / "studies/results"
    return pd.read_csv(folder / "agreement.csv"), pd.read_csv(folder / "agreement_runs.csv")


def test_the_two_samplers_of_the_committed_study_agree():
    """Means within 4 Monte Carlo standard errors, SDs within 5 %.

    Some 150 quantities: a chance of 1 % that right samplers leave one mean outside 4, and no
    allowance is needed. The Monte Carlo error of a ratio of SDs is 1.4 % and less for normal
    quantities at the length asked for; at 2 % the 5 % are 2.5 errors.
    """
    table, _ = agreement_tables()
    assert set(table["case"]) == set(agreement.CASES)
    assert table["z"].abs().max() <= agreement.LIMIT
    assert (table["sd_ratio"] - 1).abs().max() <= agreement.SDS
    assert table["sd_ratio_mcse"].max() <= 0.02
    # were the errors too small, more of them would be beyond two: 4.6 % by chance, twice that
    # is beyond three of its own errors
    assert (table["z"].abs() > 2).mean() < 0.1


def test_the_committed_runs_of_both_samplers_were_long_and_sound():
    table, runs = agreement_tables()
    assert set(runs["case"]) == set(table["case"])
    assert table[["rhat_nuts", "rhat_integrated"]].to_numpy().max() <= 1.01
    sizes = [f"{of}_{by}" for of in ("ess", "ess_squares") for by in ("nuts", "integrated")]
    assert table[sizes].to_numpy().min() >= agreement.WANTED
    assert (runs["divergences"] == 0).all()
    text = (ROOT / "studies/results/agreement.md").read_text(encoding="utf-8")
    assert all(f"| {agreement.CASES[name].title} |" in text for name in runs["case"])


def test_a_wrong_posterior_is_seen_by_the_study(tmp_path, monkeypatch):
    """Draws of two samplers that differ by .2 SDs, and by 10 % in their SDs."""
    rng = np.random.default_rng(1)

    def sampled(model, method, wanted, rounds):
        scale, shift = (1.1, 0.2) if method is agreement.NUTS else (1.0, 0.0)
        draws = {name: shift + scale * rng.standard_normal((4, 4000)) for name in "ab"}
        details = {"sampler": "importance", "nodes": 7, "khat": 0.1}
        return agreement.Long(draws, 1, 0, (), details)

    monkeypatch.setattr(agreement, "sample_long", sampled)
    table, run = agreement.compare(agreement.CASES["cbpp"].model)
    assert table["z"].abs().min() > agreement.LIMIT
    assert (table["sd_ratio"] - 1).abs().min() > agreement.SDS
    for name, rows in (("agreement.csv", table), ("agreement_runs.csv", pd.DataFrame([run]))):
        agreement.update(tmp_path / name, rows.assign(case="cbpp"))
        agreement.update(tmp_path / name, rows.assign(case="cbpp"))
    agreement.write(tmp_path, "the command")
    assert len(pd.read_csv(tmp_path / "agreement.csv")) == 2
    text = (tmp_path / "agreement.md").read_text(encoding="utf-8")
    assert "cbpp: binomial counts" in text and "Written by `the command`." in text


def test_rounds_go_on_until_there_are_enough_draws():
    method = bg.Integrated(draws=100)
    long = agreement.sample_long(agreement.CASES["cbpp"].model, method, 500.0, rounds=5)
    assert long.rounds == 2 or long.least < 500.0
    assert all(draws.shape == (4 * long.rounds, 100) for draws in long.draws.values())
    assert {"sd_herd[Intercept]", "Intercept of herd 1"} <= set(long.draws)
    assert long.effective["rhat"].max() < 1.1
