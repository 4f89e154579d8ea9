"""Model files: what they say, what they refuse, and that they come back the same."""

from pathlib import Path

import numpy as np
import pytest

from bayes_glmm.methods import GEE, GLM, ML, NUTS, OLS, PQL, REML
from bayes_glmm.modelfile import ModelFile, ModelFileError, load_model
from bayes_glmm.priors import LKJ, Beta, HalfStudentT, LogNormal, Normal, Priors, Uniform
from bayes_glmm.residual import CompoundSymmetry, Exponential

EXAMPLES = sorted((Path(__file__).parents[1] / "models").glob("*.toml"))

MINIMAL = """
title = "A title"
question = "A question?"
formula = "y ~ x + period + (1 | g)"
family = "poisson"
{top}
[data]
{data}
{tables}
"""

CSV = """y,x,period,g
1,0.5,2,10
0,0.1,1,10
2,0.2,10,9
3,0.9,2,9
1,0.3,1,8
0,0.8,10,8
"""


@pytest.fixture
def write(tmp_path):
    """Write a model file, beside a small CSV."""
    (tmp_path / "counts.csv").write_text(CSV, encoding="utf-8")

    def writer(top="", data='file = "counts.csv"', tables="", name="counts.toml") -> Path:
        path = tmp_path / name
        path.write_text(MINIMAL.format(top=top, data=data, tables=tables), encoding="utf-8")
        return path

    return writer


def refused(path, match):
    """Expect a one-sentence refusal that names the file."""
    with pytest.raises(ModelFileError, match=match) as caught:
        load_model(path)
    for sentence in str(caught.value).splitlines():
        assert sentence.startswith(f"{path}: ")
    return str(caught.value)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_gives_its_model_and_methods(path):
    loaded = load_model(path)
    model = loaded.model()
    assert loaded.name == path.stem
    assert loaded.question.endswith("?")
    assert model.design.n == len(loaded.frame())
    linear = loaded.family == "gaussian"
    usual = {REML, ML, GEE, OLS} if linear else {NUTS, PQL, GEE, GLM}
    if loaded.covariance:  # related levels
        usual = {NUTS, REML, OLS}
    assert usual <= {type(method) for method in loaded.methods}
    assert linear or ML(nodes=1) in loaded.methods


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_comes_back_the_same_from_its_own_text(path, tmp_path):
    loaded = load_model(path)
    copy = tmp_path / path.name
    copy.write_text(loaded.to_toml(), encoding="utf-8")
    assert_same(load_model(copy), loaded)


def assert_same(one, other):
    for name in ModelFile.model_fields:
        assert getattr(one, name) == getattr(other, name), name


def test_the_examples_are_the_six_of_the_readme():
    names = {path.stem for path in EXAMPLES}
    assert {"cbpp", "toenail", "bacteria", "epil", "ohio", "grouseticks"} <= names


def test_everything_a_file_can_say_survives_the_round_trip(write, tmp_path):
    path = write(
        top='link = "log"\nseed = 7',
        data="\n".join(
            (
                'file = "counts.csv"',
                'factors = ["period", "g"]',
                "levels = { period = [10, 1, 2] }",
                'missing = "drop"',
            )
        ),
        tables="\n".join(
            (
                "[priors]",
                'beta = "Normal(0, 2.5)"',
                'sd = "HalfStudentT(4, scale=0.1)"',
                'corr = "LKJ(2)"',
                "[priors.beta_for]",
                '"period[T.2]" = "Normal(0, 1)"',
                "[priors.sd_for]",
                "g = \"Uniform(0, 5, on='variance')\"",
                "[report]",
                'notes = "A \\"quoted\\" note, größer."',
                '[[methods]]\nname = "nuts"\ndraws = 200',
                '[[methods]]\nname = "ml"\nnodes = 11',
                '[[methods]]\nname = "gee"\nscale = 1.0\ncluster = "g"',
                '[[methods]]\nname = "gee"\ncorr = [[1, 0.5], [0.5, 1]]\nwaves = [1, 2]\n'
                'time = "x"\ncov = "kauermann-carroll"\nreference = "t"',
                '[[methods]]\nname = "gee"\ncorr = "m-dependent"\nm = 2',
            )
        ),
    )
    loaded = load_model(path)
    assert loaded.priors == Priors(
        beta=Normal(0, 2.5),
        sd=HalfStudentT(4, 0.1),
        corr=LKJ(2),
        beta_for={"period[T.2]": Normal(0, 1)},
        sd_for={"g": Uniform(0, 5, on="variance")},
    )
    assert loaded.methods == (
        NUTS(draws=200, seed=7),
        ML(nodes=11),
        GEE(scale=1.0, cluster="g"),
        GEE(np.eye(2) / 2 + 0.5, waves=(1, 2), time="x", cov="kauermann-carroll", reference="t"),
        GEE("m-dependent", m=2),
    )
    assert loaded.data.levels == {"period": ("10", "1", "2")}
    assert loaded.report.notes == 'A "quoted" note, größer.'
    copy = tmp_path / "copy.toml"
    copy.write_text(loaded.to_toml(), encoding="utf-8")
    assert_same(load_model(copy), loaded)


def test_without_methods_all_are_compared_with_the_file_s_seed(write):
    loaded = load_model(write(top="seed = 5"))
    assert loaded.methods == (NUTS(seed=5), ML(), ML(nodes=1), PQL(seed=5), GEE(), GLM())


def test_a_method_s_own_seed_goes_before_the_file_s(write):
    loaded = load_model(write(top="seed = 5", tables='[[methods]]\nname = "nuts"\nseed = 9'))
    assert loaded.methods == (NUTS(seed=9),)


def test_the_data_file_is_found_from_anywhere(write, monkeypatch, tmp_path):
    path = write()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(load_model(path).frame()) == 6


def test_codes_are_numbers_unless_they_are_named_as_factors(write):
    plain = load_model(write()).frame()
    coded = load_model(write(data='file = "counts.csv"\nfactors = ["period"]')).frame()
    assert plain["period"].dtype == "int64"
    assert list(coded["period"].cat.categories) == ["1", "2", "10"]  # numeric, not as text
    stated = write(data='file = "counts.csv"\nlevels = { period = [2, 1, 10] }')
    assert list(load_model(stated).frame()["period"].cat.categories) == ["2", "1", "10"]


def test_a_factor_of_an_example_data_set_can_be_reordered(write):
    path = write(data='dataset = "cbpp"\nlevels = { period = [4, 3, 2, 1] }')
    frame = load_model(path).frame()
    assert list(frame["period"].cat.categories) == ["4", "3", "2", "1"]
    assert frame["period"].tolist()[:4] == ["1", "2", "3", "4"]


def test_missing_values_of_a_factor_stay_missing(write, tmp_path):
    (tmp_path / "holes.csv").write_text("y,period\n1,2\n0,\n", encoding="utf-8")
    frame = load_model(write(data='file = "holes.csv"\nfactors = ["period"]')).frame()
    assert frame["period"].isna().tolist() == [False, True]
    assert list(frame["period"].cat.categories) == ["2"]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ('factors = ["periode"]', r"the factor 'periode' is no column: .*did you mean 'period'\?"),
        ("levels = { period = [1, 2] }", r"levels of 'period' lack '10'.*needed all of"),
    ],
)
def test_factors_that_do_not_fit_the_data_are_refused(data, match, write):
    loaded = load_model(write(data=f'file = "counts.csv"\n{data}'))
    with pytest.raises(ValueError, match=match):
        loaded.frame()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"top": 'familly = "poisson"'}, r"'familly' is not a key: .*did you mean 'family'\?"),
        ({"top": 'link = "logitt"'}, r"link: link='logitt' is not known: .*'logit'"),
        ({"top": 'link = "logit"'}, r"link: link='logit' does not go with family='poisson'"),
        ({"top": "seed = -1"}, r"seed = -1: input should be greater than or equal to 0"),
        ({"top": 'seed = "one"'}, r"seed = 'one': input should be a valid integer"),
        ({"data": ""}, r"data: give either dataset = .* or file ="),
        ({"data": 'dataset = "cbpp"\nfile = "counts.csv"'}, "data: give either .* one of them"),
        ({"data": 'dataset = "cbp"'}, r"data.dataset: there is no data set 'cbp'.*'cbpp'\?"),
        ({"data": 'file = "other.csv"'}, r"data.file: there is no file 'other.csv' in "),
        ({"data": 'dataset = "cbpp"\nfactor = []'}, r"'data.factor' is not a key.*'factors'\?"),
        ({"data": 'dataset = "cbpp"\nmissing = "no"'}, r"data.missing = 'no': .*'raise' or 'drop'"),
        ({"tables": "[report]\nnote = 1"}, r"'report.note' is not a key: allowed are notes"),
        ({"tables": '[priors]\nsds = "HalfNormal(1)"'}, r"priors: 'sds' is not a key.*'sd'\?"),
        ({"tables": '[priors]\nsd = "HalfNorml(1)"'}, r"priors: sd: 'HalfNorml' .*'HalfNormal'\?"),
        ({"tables": "[priors]\nsd = 1"}, r"priors: sd: 1 is not a prior: write one such as"),
        ({"tables": '[priors]\nsd_for = "Exponential(1)"'}, r"sd_for = .* must be a table"),
        ({"tables": '[priors.sd_for]\ng = "PC(1)"'}, r"sd_for\.g: 'PC\(1\)' .*upper, prob"),
        ({"tables": "[[methods]]\nnodes = 3"}, r"methods\.1: .*a table with a name: name is one"),
        ({"tables": '[[methods]]\nname = "mll"'}, r"methods\.1: 'mll' is not a method.*'ml'\?"),
        ({"tables": '[[methods]]\nname = "ml"\nnods = 3'}, r"'nods' is not .*'nodes'\?"),
        ({"tables": '[[methods]]\nname = "glm"\nx = 3'}, r"'x' is not an option of 'glm': it has"),
        ({"tables": '[[methods]]\nname = "ml"\nnodes = 0'}, r"methods\.1: ML\(nodes=0\) must be"),
        ({"tables": '[[methods]]\nname = "ml"\n' * 2}, r"methods: 'ML' is listed twice"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_what_is_allowed(change, match, write):
    refused(write(**change), match)


def test_a_missing_key_is_named(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text('title = "x"\nquestion = "?"\nfamily = "poisson"\n', encoding="utf-8")
    text = refused(path, "the key 'formula' is missing")
    assert "the key 'data' is missing" in text
    assert len(text.splitlines()) == 2


def test_a_wrong_method_is_one_sentence(write):
    """Not that the list of methods is empty besides, which it is for the wrong one alone."""
    text = refused(write(tables='[[methods]]\nname = "gee"\ncorrr = "ar1"'), "did you mean 'corr'")
    assert len(text.splitlines()) == 1


def test_a_formula_that_calls_code_is_refused(tmp_path, write):
    path = write()
    attack = path.read_text(encoding="utf-8").replace("y ~ x", "y ~ {__import__('os')} + x")
    path.write_text(attack, encoding="utf-8")
    refused(path, "formula: ")


def test_files_that_cannot_be_read_are_named(tmp_path):
    refused(tmp_path / "none.toml", "there is no such model file")
    (tmp_path / "broken.toml").write_text("title = ", encoding="utf-8")
    refused(tmp_path / "broken.toml", "is not valid TOML")
    (tmp_path / "latin.toml").write_bytes('title = "größer"'.encode("latin-1"))
    refused(tmp_path / "latin.toml", "cannot be read as UTF-8 text")
    refused(tmp_path, "cannot be read")


def test_improper_priors_are_allowed_by_a_key_and_survive_the_round_trip(write, tmp_path):
    tables = '[priors]\nsd = "Uniform(0, 40)"\nallow_improper = true\n[priors.sd_for]\n'
    tables += '"farm" = "Power(-1)"\n'
    loaded = load_model(write(tables=tables))
    assert loaded.priors.allow_improper
    copy = tmp_path / "copy.toml"
    copy.write_text(loaded.to_toml(), encoding="utf-8")
    assert load_model(copy).priors == loaded.priors
    refused(write(tables='[priors]\nallow_improper = "yes"\n'), r"must be True or False")


PEDIGREE = "individual,sire\n8,7\n9,7\n10,\n"


def test_a_pedigree_makes_the_covariance_of_levels(write, tmp_path):
    (tmp_path / "pedigree.csv").write_text(PEDIGREE, encoding="utf-8")
    path = write(tables='[covariance]\ng = { pedigree = "pedigree.csv" }')
    loaded = load_model(path)
    block = loaded.model().design.groups[0]
    assert block.levels == ("8", "9", "10", "7")  # the sire has no rows
    expected = np.eye(4)
    expected[[0, 1], [1, 0]] = 0.25
    expected[[0, 1, 3, 3], [3, 3, 0, 1]] = 0.5
    np.testing.assert_array_equal(block.covariance, expected)
    again = tmp_path / "again.toml"
    again.write_text(loaded.to_toml(), encoding="utf-8")
    assert load_model(again).covariance == loaded.covariance


def test_a_matrix_in_a_file_is_the_covariance_of_levels(write, tmp_path):
    (tmp_path / "matrix.csv").write_text(",9,10,8\n9,1,0,0.5\n10,0,1,0\n8,0.5,0,1\n")
    model = load_model(write(tables='[covariance]\ng = { file = "matrix.csv" }')).model()
    np.testing.assert_array_equal(
        model.design.groups[0].covariance, [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('g = { file = "none.csv" }', "there is no file 'none.csv'"),
        ("g = { }", "give one of file"),
        ('g = { peddigree = "counts.csv" }', "did you mean 'pedigree'"),
    ],
)
def test_a_covariance_that_is_not_there(write, table, words):
    refused(write(tables=f"[covariance]\n{table}"), words)


RESIDUAL = """
title = "A title"
question = "A question?"
formula = "x ~ 1 + (1 | g)"
family = "gaussian"

[data]
file = "counts.csv"

[residual]
{residual}
"""


def with_residual(tmp_path, residual) -> Path:
    path = tmp_path / "residual.toml"
    path.write_text(RESIDUAL.format(residual=residual), encoding="utf-8")
    return path


def test_a_residual_correlation_comes_and_goes(write, tmp_path):
    text = 'kind = "exponential"\ntime = "y"\nby = "g"\nnugget = true'
    loaded = load_model(with_residual(tmp_path, text))
    assert loaded.residual == Exponential("y", by="g", nugget=True)
    assert loaded.model().residual == loaded.residual
    again = tmp_path / "again.toml"
    again.write_text(loaded.to_toml(), encoding="utf-8")
    assert load_model(again).residual == loaded.residual
    compound = load_model(with_residual(tmp_path, 'kind = "compound_symmetry"\nby = "g"'))
    assert compound.residual == CompoundSymmetry(by="g")
    again.write_text(compound.to_toml(), encoding="utf-8")
    assert load_model(again).residual == compound.residual


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('time = "y"', "a table with a kind: kind is one of exponential, ar1"),
        ('kind = "exponental"', "did you mean 'exponential'"),
        ('kind = "ar1"\ntimes = "y"', "'times' is not an option of 'ar1'.*did you mean 'time'"),
        ('kind = "ar1"\nby = "g"', "'ar1' needs time"),
    ],
)
def test_a_residual_correlation_that_cannot_be(write, tmp_path, text, words):
    refused(with_residual(tmp_path, text), words)


def test_priors_of_a_residual_correlation_come_and_go(write, tmp_path):
    text = 'kind = "exponential"\ntime = "y"\nby = "g"\nnugget = true\n[priors.residual]\n'
    given = 'half_life = "LogNormal(1, 0.5)"\nnugget = "Beta(2, 4)"'
    loaded = load_model(with_residual(tmp_path, text + given))
    wanted = {"half_life": LogNormal(1, 0.5), "nugget": Beta(2, 4)}
    assert loaded.priors == Priors(residual=wanted)
    assert loaded.model().priors.residual["nugget"] == Beta(2, 4)
    again = tmp_path / "again.toml"
    again.write_text(loaded.to_toml(), encoding="utf-8")
    assert load_model(again).priors == loaded.priors
    wrong = with_residual(tmp_path, text + 'nugget = "Beta(2)"')
    refused(wrong, r"residual.nugget: 'Beta\(2\)' does not fit: Beta takes \(a, b, lower, upper\)")
    refused(with_residual(tmp_path, text[:-18] + '[priors]\nresidual = "Beta(1, 1)"'), "a table")
