"""The study of the boundary test's size: it runs, and its committed result is what was asked."""

from pathlib import Path

import pandas as pd
import pytest

from studies import boundary_size

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
