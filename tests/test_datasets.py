"""The shipped data sets against their level file, and the downloader against a local server."""

import hashlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from bayes_glmm.datasets import dataset_info, dataset_names, load_dataset, salamander

FOLDER = Path(load_dataset.__code__.co_filename).parent
FIXTURES = Path(__file__).parent / "fixtures"
SHIPPED = tuple(name for name in dataset_names() if name != "salamander")
STATED = json.loads((FOLDER / "levels.json").read_text(encoding="utf-8"))
SHARED_SALAMANDER = Path(__file__).parents[2] / "shared" / "data" / "salamander_mating.csv"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_data_set_is_as_its_level_file_says(name):
    frame, stated = load_dataset(name), STATED[name]
    assert len(frame) == stated["n"]
    assert list(frame.columns) == stated["columns"] == list(dataset_info(name).columns)
    for column, levels in stated["factor_levels"].items():
        assert list(frame[column].cat.categories) == levels
        assert frame[column].notna().all()


@pytest.mark.parametrize("name", SHIPPED)
def test_grouping_columns_are_labels_in_order_of_appearance(name):
    frame, info = load_dataset(name), dataset_info(name)
    for column in info.groups:
        assert frame[column].dtype == "category"
        assert all(isinstance(level, str) for level in frame[column].cat.categories)
        if column not in info.levels:
            assert list(frame[column].cat.categories) == list(frame[column].unique())


@pytest.mark.parametrize("name", dataset_names())
def test_every_data_set_is_described(name):
    info = dataset_info(name)
    assert info.question.endswith("?")
    assert all((info.title, info.description, info.source, info.licence))
    assert {*info.groups, *info.levels} <= set(info.columns)


def test_every_shipped_file_is_listed_with_its_licence():
    sources = (FOLDER / "SOURCES.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in sources.splitlines() if line.startswith("| `")}
    assert set(rows) == {path.name for path in FOLDER.glob("*.csv")}
    assert set(rows) == {f"{name}.csv" for name in SHIPPED}
    for name in SHIPPED:
        assert f"| {dataset_info(name).licence} |" in rows[f"{name}.csv"]


def test_only_the_feed_of_the_first_week_is_missing():
    assert [name for name in SHIPPED if load_dataset(name).isna().any(axis=None)] == ["dietox"]
    dietox = load_dataset("dietox")
    assert (dietox["feed"].isna() == (dietox["time"] == 1)).all()


def test_each_call_gives_a_fresh_copy():
    first = load_dataset("cbpp")
    first["incidence"] = 0
    assert load_dataset("cbpp")["incidence"].sum() > 0


def test_an_unknown_name_is_answered_with_the_list_and_a_close_match():
    with pytest.raises(ValueError, match=r"no data set 'cbp'.*toenail.*did you mean 'cbpp'\?"):
        load_dataset("cbp")
    with pytest.raises(ValueError, match=r"no data set 'zzz': the data sets are cbpp.*choose"):
        dataset_info("zzz")


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Serve a small file of the salamander layout, of made-up numbers, to the downloader."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=FIXTURES))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    content = (FIXTURES / "pairings_layout.rda").read_bytes()
    monkeypatch.delenv("BAYES_GLMM_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr(salamander, "SHA256", hashlib.sha256(content).hexdigest())
    address = f"http://127.0.0.1:{server.server_port}/pairings_layout.rda"
    monkeypatch.setattr(salamander, "URL", address)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_download_is_mapped_to_our_columns_and_cached(served, monkeypatch, tmp_path):
    frame = load_dataset("salamander")
    assert list(frame.columns) == list(dataset_info("salamander").columns)
    assert frame["mate"].tolist() == [1, 0, 0, 1]
    assert frame["female"].tolist() == ["f01", "f01", "f22", "f03"]
    assert frame["male"].tolist() == ["m01", "m02", "m21", "m14"]
    assert frame["cross"].tolist() == ["RR", "RW", "WR", "WW"]
    assert frame["type_f"].tolist() == ["R", "R", "W", "W"]
    assert frame["type_m"].tolist() == ["R", "W", "R", "W"]
    assert frame["season"].tolist() == ["summer", "summer", "fall", "fall"]
    monkeypatch.setattr(salamander, "URL", "http://127.0.0.1:9/unreachable.rda")
    pd.testing.assert_frame_equal(load_dataset("salamander"), frame)


def test_a_file_that_is_not_the_pinned_one_is_refused(served, monkeypatch):
    monkeypatch.setattr(salamander, "SHA256", "0" * 64)
    with pytest.raises(OSError, match=r"hash.*BAYES_GLMM_DATA"):
        load_dataset("salamander")


def test_without_network_one_sentence_says_how_to_supply_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("BAYES_GLMM_DATA", str(tmp_path))  # a folder without the file
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr(salamander, "URL", "http://127.0.0.1:9/salamander.rda")
    with pytest.raises(OSError, match=r"could not be downloaded.*salamander\.rda.*BAYES_GLMM_DATA"):
        load_dataset("salamander")


@pytest.mark.parametrize("supplied", ["salamander.rda", "salamander_mating.csv"])
def test_a_supplied_file_is_read_without_network(supplied, monkeypatch, tmp_path):
    layout = FIXTURES / "pairings_layout.rda"
    if supplied.endswith(".rda"):
        (tmp_path / supplied).write_bytes(layout.read_bytes())
    else:
        salamander._read_rda(layout).to_csv(tmp_path / supplied, index=False)
    monkeypatch.setenv("BAYES_GLMM_DATA", str(tmp_path))
    monkeypatch.setattr(salamander, "URL", "http://127.0.0.1:9/salamander.rda")
    frame = load_dataset("salamander")
    assert list(frame["cross"].cat.categories) == ["RR", "RW", "WR", "WW"]
    assert frame["male"].tolist() == ["m01", "m02", "m21", "m14"]


@pytest.mark.skipif(
    not SHARED_SALAMANDER.is_file(),
    reason="the salamander data are not shipped: needs the shared folder beside the checkout",
)
def test_the_salamander_data_are_three_balanced_experiments(monkeypatch):
    monkeypatch.setenv("BAYES_GLMM_DATA", str(SHARED_SALAMANDER.parent))
    frame = load_dataset("salamander")
    assert frame.groupby("cross", observed=True)["mate"].agg(["sum", "size"]).to_dict("list") == {
        "sum": [60, 50, 19, 60],
        "size": [90] * 4,
    }
    assert frame["female"].nunique() == frame["male"].nunique() == 60
    assert (frame.groupby("female", observed=True).size() == 6).all()


def test_the_simulated_sires_are_as_their_program_draws_them():
    from studies import sires

    for name, drawn in (("sires", sires.simulate()), ("sires_pedigree", sires.pedigree())):
        pd.testing.assert_frame_equal(drawn, pd.read_csv(sires.FOLDER / f"{name}.csv"), rtol=1e-15)


def test_the_simulated_data_set_is_as_its_program_draws_it():
    from studies.ten_clusters import FILE, simulate

    written = pd.read_csv(FILE)
    pd.testing.assert_frame_equal(simulate(), written, rtol=1e-15)
