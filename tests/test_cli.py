"""The command line: what each command prints, where, and with which exit code."""

import io
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import bayes_glmm as bg
from bayes_glmm import cli, report
from bayes_glmm.methods import GEE, GLM, ML, NUTS, PQL
from bayes_glmm.modelfile import load_model

CBPP = str(Path(__file__).parents[1] / "models" / "cbpp.toml")

CROSSED = """
title = "Plates and samples"
question = "Which differ more?"
formula = "diameter > 23 ~ 1 + (1 | plate) + (1 | sample)"
family = "bernoulli"
[data]
dataset = "penicillin"
[[methods]]
name = "ml"
nodes = 25
[[methods]]
name = "glm"
"""


def run(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def refused(result, code=2):
    """Expect an exit code and one sentence on stderr, no traceback."""
    assert result.exit_code == code
    assert "Traceback" not in result.stderr
    (sentence,) = result.stderr.strip().splitlines()
    return sentence


@pytest.fixture
def written(monkeypatch):
    """Stand in for the report; gives the arguments of every call."""
    calls = []

    def write_report(about, comparison, out, command, progress):
        progress("report: a stage")
        calls.append((about, comparison, out, command))
        return out / "index.html"

    monkeypatch.setattr(report, "write_report", write_report)
    monkeypatch.setattr(report, "write_index", lambda folder: calls.append(folder))
    return calls


@pytest.mark.parametrize(
    "command", [(), ("fit",), ("compare",), ("anova",), ("check",), ("datasets",)]
)
def test_help_has_an_example(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"bayes-glmm {command[0] if command else 'fit'} " in result.stdout


def test_datasets_lists_all_and_describes_one():
    listed = run("datasets").stdout
    assert all(name in listed for name in ("cbpp", "toenail", "salamander"))
    described = run("datasets", "cbpp").stdout
    assert "Does the incidence fall" in described
    assert "GPL-2.0-or-later" in described
    assert 'load_dataset("cbpp")' in described


def test_an_unknown_data_set_is_bad_input():
    assert "did you mean 'cbpp'?" in refused(run("datasets", "cbp"))


def test_version_names_the_package_and_what_it_computes_with():
    lines = dict(line.split(" ", 1) for line in run("version").stdout.splitlines())
    assert lines["bayes_glmm"] == bg.__version__
    assert lines["pymc"] == metadata.version("pymc")
    assert lines["Python"] == sys.version.split()[0]


def test_check_says_model_design_priors_and_verdict():
    text = run("check", CBPP).stdout
    for part in ("(1 | herd)", "period[T.4]", "sd_herd", "HalfStudentT", "posterior: proper"):
        assert part in text


def test_check_answers_a_model_that_cannot_be_made_with_file_and_reason(tmp_path):
    path = tmp_path / "wrong.toml"
    text = Path(CBPP).read_text(encoding="utf-8").replace("~ period", "~ perod")
    path.write_text(text, encoding="utf-8")
    sentence = refused(run("check", path))
    assert sentence.startswith(f"{path}: ")
    assert "perod" in sentence


def test_a_missing_file_is_bad_input_and_debug_shows_where(tmp_path):
    assert "there is no such model file" in refused(run("fit", tmp_path / "none.toml"))
    result = run("fit", tmp_path / "none.toml", "--debug")
    assert isinstance(result.exception, ValueError)


def test_wrong_usage_is_bad_input():
    assert run("fit").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_fit_prints_the_tidy_table_and_progress_goes_to_stderr():
    result = run("fit", CBPP, "--method", "glm", "-m", "gee")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[:2] == ["[1/2] GLM ...", "[2/2] GEE, exchangeable ..."]
    for part in ("GLM", "population-averaged", "period[T.4]", "std_error", "95 %"):
        assert part in result.stdout


def test_fit_gives_csv_with_all_digits():
    result = run("fit", CBPP, "--method", "glm", "--csv")
    table = pd.read_csv(io.StringIO(result.stdout))
    direct = load_model(CBPP).model().fit("glm").fixef()
    assert table["label"].unique().tolist() == ["GLM"]
    # the CSV has the shortest text that reads back to the same double
    assert table["estimate"].tolist() == direct.tolist()


def test_an_unknown_method_is_bad_input():
    assert "did you mean 'pql'?" in refused(run("fit", CBPP, "--method", "pqll"))


def test_an_option_outside_its_range_is_bad_input():
    assert "must be an integer of at least" in refused(run("fit", CBPP, "--chains", 1))


def test_a_method_that_fails_is_named_and_the_rest_is_printed(tmp_path):
    path = tmp_path / "crossed.toml"
    path.write_text(CROSSED, encoding="utf-8")
    result = run("fit", path)
    assert result.exit_code == 1
    assert "ML, 25 nodes failed: " in result.stderr
    assert "GLM" in result.stdout


def test_methods_are_those_of_the_file_or_named_with_its_options(tmp_path):
    text = Path(CBPP).read_text(encoding="utf-8")
    text = text.replace('name = "ml"', 'name = "ml"\nnodes = 11')
    text = text.replace('corr = "exchangeable"', 'corr = "ar1"')
    path = tmp_path / "cbpp.toml"
    path.write_text(text, encoding="utf-8")
    loaded = load_model(path)
    assert cli._chosen(loaded, None) == loaded.methods
    assert cli._chosen(loaded, ["ml", "gee"]) == (ML(nodes=11), GEE(corr="ar1"))
    assert cli._chosen(loaded, ["laplace", " PQL "]) == (ML(nodes=1), PQL())
    path.write_text(text.split("[[methods]]")[0] + '[[methods]]\nname = "glm"', encoding="utf-8")
    assert cli._chosen(load_model(path), ["glm", "pql"]) == (GLM(), PQL())


def test_options_reach_the_methods_that_have_them():
    options = {"draws": 50, "tune": None, "chains": 2, "seed": 3}
    changed = cli._with_options((NUTS(tune=70), GLM()), options)
    assert changed == [NUTS(draws=50, tune=70, chains=2, seed=3), GLM()]


def test_compare_writes_the_report_and_says_where(written, tmp_path):
    out = tmp_path / "a report"
    result = run("compare", CBPP, "--methods", "glm,pql", "--out", out, "--seed", "2")
    assert result.exit_code == 0
    ((loaded, comparison, folder, command),) = written
    assert loaded.name == "cbpp"
    assert list(comparison.fits) == ["GLM", "PQL"]
    assert folder == out
    assert command.startswith("bayes-glmm compare ")
    assert command.endswith(f"cbpp.toml --out '{out}' --methods glm,pql --seed 2")
    assert f"The report is in {out / 'index.html'}" in result.stdout
    assert "[1] report: a stage ..." in result.stderr


def test_compare_takes_several_models_and_one_that_fails_does_not_stop_the_rest(
    written, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "crossed.toml"
    other.write_text(CROSSED, encoding="utf-8")
    result = run("compare", other, CBPP, "--methods", "glm")
    assert result.exit_code == 0
    folders = [call if isinstance(call, Path) else call[2] for call in written]
    reports = Path("reports")
    assert folders == [reports / "crossed", reports, reports / "cbpp", reports]

    def broken(about, comparison, out, command, progress):
        if about.name == "crossed":
            raise OSError("no space left.")
        return out / "index.html"

    monkeypatch.setattr(report, "write_report", broken)
    result = run("compare", other, CBPP, "--methods", "glm")
    assert result.exit_code == 1
    assert "no space left." in result.stderr
    assert str(Path("reports/cbpp/index.html")) in result.stdout


def test_a_failed_method_gives_exit_code_1_with_the_report_written(written, tmp_path):
    path = tmp_path / "crossed.toml"
    path.write_text(CROSSED, encoding="utf-8")
    result = run("compare", path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert len(written) == 1
    assert list(written[0][1].failures) == ["ML, 25 nodes"]


def test_one_folder_for_several_reports_is_bad_input(written, tmp_path):
    result = run("compare", CBPP, CBPP, "--out", tmp_path)
    assert "--out names the folder of one report" in refused(result)
    assert not written


def test_a_bad_model_file_is_refused_before_anything_is_fitted(written, tmp_path):
    assert "there is no such" in refused(run("compare", CBPP, tmp_path / "none.toml"))
    assert not written


def test_an_error_of_ours_is_one_sentence_unless_debug(monkeypatch):
    def broken(path):
        raise KeyError("herd")

    monkeypatch.setattr(cli, "_load", broken)
    sentence = refused(run("check", CBPP), code=1)
    assert sentence.startswith("KeyError: 'herd'.")
    assert "--debug" in sentence
    assert isinstance(run("check", CBPP, "--debug").exception, KeyError)


def test_the_module_and_the_console_script_are_the_same_program():
    (script,) = metadata.entry_points(group="console_scripts", name="bayes-glmm")
    assert script.load() is cli.main
    done = subprocess.run(
        [sys.executable, "-m", "bayes_glmm", "datasets", "zzz"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("there is no data set 'zzz'")


INCIDENCE = """
title = "Incidence"
question = "Does it depend on the period?"
formula = "cbind(incidence, size - incidence) ~ {fixed}"
family = "binomial"
[data]
dataset = "cbpp"
[[methods]]
name = "ml"
"""


@pytest.fixture
def nested(tmp_path):
    """Model files from small to large: no random effects, a herd's, and a period's beside."""
    paths = []
    for i, fixed in enumerate(("1", "1 + (1 | herd)", "period + (1 | herd)")):
        paths.append(tmp_path / f"m{i}.toml")
        paths[-1].write_text(INCIDENCE.format(fixed=fixed), encoding="utf-8")
    return paths


def test_anova_prints_tests_of_nested_models(nested):
    result = run("anova", *nested, "--method", "laplace", "--bootstrap", 9)
    assert result.exit_code == 0, result.stderr
    assert "0.5 chi2(0) + 0.5 chi2(1)" in result.stdout and "chi2(3)" in result.stdout
    assert "p_boot" in result.stdout
    assert "9 simulated likelihood ratios ..." in result.stderr
    table = pd.read_csv(io.StringIO(run("anova", *nested, "--csv").stdout))
    assert list(table.npar) == [1, 2, 5]
    assert table.statistic[2] == pytest.approx(25.551, abs=1e-2)


def test_anova_tests_estimating_equations(nested):
    result = run("anova", *nested[1:], "--method", "gee", "--csv")
    assert result.exit_code == 0, result.stderr
    assert {"score_p_value", "p_value"} <= set(pd.read_csv(io.StringIO(result.stdout)))
    assert "score_p_value" in run("anova", *nested[1:], "--method", "gee").stdout


def test_anova_refuses_models_that_are_not_nested(nested):
    herd = nested[1].read_text(encoding="utf-8").replace("1 + (1 | herd)", "1 + (1 | period)")
    nested[1].write_text(herd, encoding="utf-8")
    result = run("anova", *nested[1:])
    assert result.exit_code == 2
    assert "does not contain: anova() needs nested models" in result.stderr
    assert "give at least two nested" in run("anova", nested[0]).stderr
