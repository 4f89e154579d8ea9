"""Formula and data to arrays: against matrices written by hand and those of R and lme4."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_glmm.design import DataError, build_design
from bayes_glmm.formula import FormulaError, parse_formula

LME4 = json.loads((Path(__file__).parent / "reference" / "design.json").read_text(encoding="utf-8"))


def design(formula, data, **options):
    return build_design(parse_formula(formula), data, **options)


@pytest.fixture
def data():
    return pd.DataFrame(
        {
            "y": [0, 1, 0, 1, 1, 0, 1, 0],
            "s": [1, 2, 3, 4, 0, 1, 2, 3],
            "n": [4, 4, 4, 4, 5, 5, 5, 5],
            "x": [0.5, 1.0, -1.0, 2.0, 0.0, 3.0, 1.5, -2.0],
            "g": list("baccabca"),
            "f": list("uvwuvwuv"),
            "k": [10, 2, 2, 10, 33, 2, 33, 10],
        },
        index=[f"row{i}" for i in range(8)],
    )


def dense(block):
    """Z as lme4 writes it: one column per level and random-effect column, level by level."""
    Z = np.zeros((len(block.index), block.n_levels, block.q))
    Z[np.arange(len(block.index)), block.index] = block.Z
    return Z.reshape(len(block.index), -1)


def columns_sorted(matrix):
    """The columns of a matrix in an order that depends on nothing but their values."""
    matrix = np.round(np.asarray(matrix, dtype=float), 10) + 0.0
    return matrix[:, np.lexsort(matrix[::-1])]


# --- against R ------------------------------------------------------------------------

# a spline or polynomial basis is rounded differently at the last digits: values are of
# order one and the reference holds 15 digits, so 1e-12 is a thousand roundings
TOLERANCE = {"rtol": 0, "atol": 1e-12}


@pytest.mark.parametrize("case", LME4["fixed"], ids=lambda case: case["formula"])
def test_fixed_columns_are_those_of_model_matrix(case):
    built = design(case["formula"], LME4["data"])
    np.testing.assert_allclose(built.X, np.array(case["X"]), **TOLERANCE)


@pytest.mark.parametrize("case", LME4["random"], ids=lambda case: case["formula"])
def test_random_columns_are_those_of_lme4(case):
    built = design(case["formula"], LME4["data"]).in_user_order()
    ours = np.hstack([dense(block) for block in built.groups])
    theirs = np.hstack([np.array(Z) for Z in case["Z"]])
    np.testing.assert_array_equal(columns_sorted(ours), columns_sorted(theirs))
    parameters = sum(block.q + len(block.pairs) for block in built.groups)
    assert parameters == case["n_theta"]


# --- by hand --------------------------------------------------------------------------


def test_random_slope_by_hand(data):
    built = design("y ~ x + (x | g)", data)
    # g is b a c c a b c a: three rows of a (1, 4, 7), two of b (0, 5), three of c (2, 3, 6)
    order = [1, 4, 7, 0, 5, 2, 3, 6]
    assert built.order.tolist() == order
    assert built.y.tolist() == data["y"].to_numpy()[order].tolist()
    np.testing.assert_array_equal(built.X, np.c_[np.ones(8), data["x"]][order])
    (block,) = built.groups
    assert block.index.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    np.testing.assert_array_equal(block.Z, built.X)
    assert (block.group, block.levels, block.columns) == ("g", ("a", "b", "c"), ("Intercept", "x"))
    assert (block.blocks, block.pairs, block.pair_names) == (((0, 1),), ((1, 0),), ("Intercept~x",))
    assert (built.n, built.p, built.terms, built.largest) == (8, 2, ("Intercept", "x"), 0)


def test_arrays_are_float_contiguous_and_frozen(data):
    built = design("p(s, n) ~ 0 + f + offset(x) + (0 + f | g)", data)
    for array in (built.y, built.trials, built.offset, built.X, built.groups[0].Z):
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    for index in (built.order, built.groups[0].index):
        assert index.dtype == np.int64
        assert not index.flags.writeable


def test_the_users_data_are_left_alone(data):
    before = data.copy()
    built = design("y ~ x + (1 | g)", data)
    built.frame["x"] = 0.0
    pd.testing.assert_frame_equal(data, before)
    assert list(built.frame.index) == list(data.index)


@pytest.mark.parametrize("text", ["(1 | g) + (0 + x | g)", "(x || g)"])
def test_uncorrelated_columns_form_one_block(data, text):
    (block,) = design(f"y ~ x + {text}", data).groups
    assert block.columns == ("Intercept", "x")
    assert block.blocks == ((0,), (1,))
    assert block.pairs == ()


def test_formula_order_of_columns_is_kept(data):
    (block,) = design("y ~ (0 + x | g) + (1 | g)", data).groups
    assert block.columns == ("x", "Intercept")


def test_factor_under_double_bar_expands_as_in_lme4(data):
    (block,) = design("y ~ 1 + (x + f || g)", data).groups
    assert block.columns == ("Intercept", "x", "f[u]", "f[v]", "f[w]")
    assert block.blocks == ((0,), (1,), (2, 3, 4))
    assert block.pairs == ((3, 2), (4, 2), (4, 3))
    assert block.pair_names == ("f[u]~f[v]", "f[u]~f[w]", "f[v]~f[w]")


def test_blocks_of_several_parentheses_on_one_factor(data):
    (block,) = design("y ~ 1 + (x | g) + (0 + n + s | g)", data).groups
    assert block.columns == ("Intercept", "x", "n", "s")
    assert block.pairs == ((1, 0), (3, 2))


def test_nested_levels_are_the_observed_combinations(data):
    built = design("y ~ x + (1 | g/f)", data)
    outer, inner = built.groups
    assert (outer.group, inner.group) == ("g", "g:f")
    # rows: b:u a:v c:w c:u a:v b:w c:u a:v
    assert inner.levels == ("a:v", "b:u", "b:w", "c:u", "c:w")
    assert built.largest == 1
    labels = np.array(inner.levels)[built.to_user(inner.index)]
    assert labels.tolist() == (data["g"] + ":" + data["f"]).tolist()


def test_interaction_order_names_one_factor(data):
    (block,) = design("y ~ x + (1 | g:f) + (0 + x | f:g)", data).groups
    assert (block.group, block.columns) == ("g:f", ("Intercept", "x"))


def test_integer_levels_sort_by_size(data):
    (block,) = design("y ~ x + (1 | k)", data).groups
    assert block.levels == ("2", "10", "33")


def test_categorical_levels_keep_their_order_and_unused_ones_go(data):
    data["g"] = pd.Categorical(data["g"], categories=["z", "c", "b", "a"])
    data["f"] = pd.Categorical(data["f"], categories=["w", "none", "v", "u"])
    built = design("y ~ f + (1 | g)", data)
    assert built.groups[0].levels == ("c", "b", "a")
    assert built.terms == ("Intercept", "f[T.v]", "f[T.u]")


def test_logical_group_and_predictor(data):
    data["b"] = data["x"] > 0
    built = design("y ~ b + (1 | b)", data)
    assert built.groups[0].levels == ("False", "True")
    np.testing.assert_array_equal(built.in_user_order().X[:, 1], data["x"] > 0)


def test_coded_integers_need_c(data):
    assert design("y ~ k", data).terms == ("Intercept", "k")
    built = design("y ~ C(k)", data)
    assert built.terms == ("Intercept", "C(k)[T.10]", "C(k)[T.33]")
    both = design("y ~ x + C(k) + (0 + k | g)", data)
    assert both.groups[0].columns == ("k",)
    np.testing.assert_array_equal(both.in_user_order().groups[0].Z[:, 0], data["k"])


def test_a_column_may_be_a_factor_here_and_a_number_there(data):
    built = design("y ~ C(k) + x:k + (0 + k | g)", data).in_user_order()
    assert built.terms == ("Intercept", "C(k)[T.10]", "C(k)[T.33]", "x:k")
    np.testing.assert_array_equal(built.X[:, 3], data["x"] * data["k"])
    np.testing.assert_array_equal(built.groups[0].Z[:, 0], data["k"])
    np.testing.assert_array_equal(built.new_data(data.iloc[[2]])[0], built.X[[2]])
    with pytest.raises(DataError, match="'k' has the level 11, which"):
        built.new_data(data.iloc[[2]].assign(k=11))
    data["half"] = data["k"] / 4
    halves = design("y ~ C(half) + half:x", data)
    assert halves.terms == ("Intercept", "C(half)[T.2.5]", "C(half)[T.8.25]", "half:x")


def test_integer_powers_do_not_wrap_around(data):
    data["big"] = np.arange(1, 9) * 10**5
    built = design("y ~ I(big^6)", data)
    np.testing.assert_allclose(built.X[:, 1], (np.arange(1, 9) * 1e5) ** 6, rtol=1e-14)


def test_power_in_i_is_a_power_not_an_exclusive_or(data):
    np.testing.assert_array_equal(design("y ~ I(k^2)", data).X[:, 1], data["k"] ** 2)


def test_supplied_functions(data):
    built = design("y ~ log1p(n) + expit(x) + np.exp(x) + I(x > 0)", data)
    x, n = data["x"].to_numpy(), data["n"].to_numpy()
    expected = np.c_[np.ones(8), np.log1p(n), 1 / (1 + np.exp(-x)), np.exp(x), x > 0]
    np.testing.assert_allclose(built.X, expected, rtol=1e-15)


def test_unused_columns_may_have_any_name(data):
    data["C"], data["log"] = 1.0, 2.0
    assert design("y ~ log(n) + C(k)", data).p == 4
    assert design("y ~ x", data.rename(columns={"x": "class", "f": "x"})).p == 3
    assert design("y ~ class", data.rename(columns={"x": "class"})).terms == ("Intercept", "class")


def test_offsets_add_up(data):
    built = design("y ~ x + offset(log(n)) + offset(2 * x)", data)
    np.testing.assert_allclose(built.offset, np.log(data["n"]) + 2 * data["x"], rtol=1e-15)


def test_model_without_groups(data):
    built = design("y ~ x", data)
    assert built.groups == ()
    assert built.order.tolist() == list(range(8))


def test_model_without_fixed_effects(data):
    built = design("y ~ 0 + (1 | g)", data)
    assert built.X.shape == (8, 0)
    assert built.terms == ()


# --- response -------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["cbind(s, n - s)", "p(s, n)"])
def test_successes_and_trials(data, left):
    built = design(f"{left} ~ x", data)
    assert built.y.tolist() == data["s"].tolist()
    assert built.trials.tolist() == data["n"].tolist()
    assert built.response_name == left


def test_constant_number_of_trials(data):
    assert design("p(s, 10) ~ x", data).trials.tolist() == [10.0] * 8


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (["no", "yes"] * 4, ("no", "yes")),
        (pd.Categorical(["no", "yes"] * 4, categories=["yes", "no"]), ("yes", "no")),
        (pd.Categorical(["no"] * 8, categories=["no", "yes"]), ("no", "yes")),
        (pd.Categorical(["no", "yes"] * 4, categories=["a", "no", "yes"]), ("no", "yes")),
        ([False, True] * 4, ("False", "True")),
    ],
)
def test_two_level_responses(data, values, levels):
    data["r"] = values
    built = design("r ~ x", data)
    assert built.response_levels == levels
    expected = (pd.Series(values).astype(str) == levels[1]).astype(float)
    assert built.y.tolist() == expected.tolist()


def test_transformed_responses(data):
    np.testing.assert_allclose(design("log(n) ~ x", data).y, np.log(data["n"]), rtol=1e-15)
    np.testing.assert_allclose(design("s / n ~ x", data).y, data["s"] / data["n"], rtol=1e-15)
    assert design("I(f == 'u') ~ x", data).y.tolist() == (data["f"] == "u").tolist()
    assert design("y ~ x", data).response_levels == ()


# --- forms of data --------------------------------------------------------------------


class Polars:
    """Whatever has to_pandas(), as polars and pyarrow frames do."""

    def __init__(self, frame):
        self.frame = frame

    def to_pandas(self):
        return self.frame


@pytest.mark.parametrize(
    "form",
    [
        lambda d: d.to_dict("list"),
        lambda d: d.to_dict("records"),
        lambda d: {name: column.to_numpy() for name, column in d.items()},
        Polars,
        lambda d: d.convert_dtypes(),
        lambda d: d.astype({"g": "category", "f": object, "x": "float32"}),
    ],
)
def test_forms_of_data_give_the_same_design(data, form):
    expected = design("y ~ x + f + (x | g)", data)
    found = design("y ~ x + f + (x | g)", form(data))
    np.testing.assert_array_equal(found.X, expected.X)
    np.testing.assert_array_equal(found.groups[0].index, expected.groups[0].index)
    assert found.groups[0].levels == expected.groups[0].levels


# --- order of rows --------------------------------------------------------------------


def test_user_order_is_restored(data):
    built = design("p(s, n) ~ x + offset(x) + (x | g)", data)
    plain = built.in_user_order()
    assert plain.order.tolist() == list(range(8))
    assert plain.y.tolist() == data["s"].tolist()
    np.testing.assert_array_equal(built.to_user(built.X), plain.X)
    np.testing.assert_array_equal(plain.to_user(plain.y), plain.y)
    assert np.array(plain.groups[0].levels)[plain.groups[0].index].tolist() == data["g"].tolist()


def test_to_user_refuses_other_lengths(data):
    with pytest.raises(ValueError, match="needed 8: pass one value per row"):
        design("y ~ x", data).to_user(np.ones(3))


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(8)))
def test_row_order_changes_nothing_but_the_order_of_rows(rows):
    data = pd.DataFrame(LME4["data"]).head(8)
    formula = "y ~ x + f + (x | g) + (1 | h/f)"
    one = design(formula, data).in_user_order()
    two = design(formula, data.iloc[list(rows)]).in_user_order()
    np.testing.assert_array_equal(one.X[list(rows)], two.X)
    np.testing.assert_array_equal(one.y[list(rows)], two.y)
    for a, b in zip(one.groups, two.groups, strict=True):
        assert a.levels == b.levels
        np.testing.assert_array_equal(a.index[list(rows)], b.index)
        np.testing.assert_array_equal(a.Z[list(rows)], b.Z)


@settings(max_examples=40, deadline=None)
@given(st.permutations(["p", "q", "r", "s"]))
def test_relabelling_groups_permutes_levels_only(names):
    data = pd.DataFrame(LME4["data"])
    renamed = data.assign(g=data["g"].map(dict(zip("pqrs", names, strict=True))))
    one, two = (design("y ~ x + (x | g)", d).in_user_order() for d in (data, renamed))
    np.testing.assert_array_equal(one.X, two.X)
    a, b = one.groups[0], two.groups[0]
    moved = dict(zip("pqrs", names, strict=True))
    assert [moved[a.levels[i]] for i in a.index] == [b.levels[i] for i in b.index]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2), st.booleans()), min_size=2))
def test_any_grouping_has_dense_levels_and_sorted_rows(rows):
    frame = pd.DataFrame(rows, columns=["g", "k", "b"]).assign(y=0.5)
    try:
        built = design("y ~ 1 + (1 | g/k/b)", frame)
    except DataError as error:
        assert "one level" in str(error)
        return
    deepest = built.groups[built.largest]
    assert (np.diff(deepest.index) >= 0).all()
    for block, columns in zip(built.groups, (["g"], ["g", "k"], ["g", "k", "b"]), strict=True):
        assert sorted(set(block.index)) == list(range(block.n_levels))
        expected = frame[columns].astype(str).agg(":".join, axis=1)
        assert [block.levels[i] for i in built.to_user(block.index)] == expected.tolist()
    same_level = np.diff(deepest.index) == 0
    assert (np.diff(built.order)[same_level] > 0).all()


# --- missing values -------------------------------------------------------------------


@pytest.fixture
def gaps(data):
    data = data.astype({"y": float, "n": float})
    data.loc["row0", "x"] = np.nan
    data.loc["row2", "g"] = None
    data.loc["row3", ["x", "y"]] = np.nan
    data.loc["row5", "n"] = np.nan
    data["other"] = np.nan
    return data


def test_missing_values_are_refused_with_their_count(gaps):
    with pytest.raises(
        DataError,
        match=r"4 of 8 rows have missing values \(by column: y 1, n 1, x 2, g 1\): fill them "
        "in, or drop these rows with missing='drop'",
    ):
        design("y ~ x + offset(n) + (1 | g)", gaps)


def test_missing_rows_drop_jointly(gaps):
    built = design("y ~ x + offset(log(n)) + (1 | g)", gaps, missing="drop")
    assert (built.n, built.n_dropped) == (4, 4)
    assert set(built.dropped_columns) == {"y", "x", "n", "g"}
    assert list(built.frame.index) == ["row1", "row4", "row6", "row7"]
    assert design("y ~ 1 + (1 | k)", gaps, missing="drop").n_dropped == 1


def test_levels_that_leave_with_missing_rows_leave_the_model(data):
    data.loc[data["f"] == "w", "x"] = np.nan
    assert design("y ~ x + f", data, missing="drop").terms == ("Intercept", "x", "f[T.v]")
    data.loc[data["f"] == "v", "x"] = np.nan
    with pytest.raises(DataError, match=r"factor 'f' has one level \('u'\) in the rows used: drop"):
        design("y ~ x + f", data, missing="drop")


def test_nothing_left(data):
    data["x"] = np.nan
    with pytest.raises(DataError, match="so none is left: fill values in"):
        design("y ~ x", data, missing="drop")


def test_missing_option_is_checked(data):
    with pytest.raises(ValueError, match="missing is 'omit': use 'raise' or 'drop'"):
        design("y ~ x", data, missing="omit")


# --- errors of data -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "column", "message"),
    [
        ("y ~ qqq", None, "no column 'qqq': the columns are y, s, n, x, g, f, k, period"),
        ("y ~ perio", None, "no column 'perio', did you mean 'period'"),
        ("y ~ X + (1 | g)", None, "no column 'X', did you mean 'x'"),
        ("z ~ x", None, "no column 'z'"),
        ("y ~ (1 | q)", None, "no column 'q'"),
        ("y ~ np", None, "no column 'np'"),
        ("y ~ I(contr)", None, "no column 'contr'"),
        ("y ~ x + (1 | new)", [1] * 8, r"grouping factor 'new' has one level \('1'\)"),
        ("y ~ (1 | new)", [1.0, 2.0] * 4, r"'new' holds floating-point .*astype\('Int64'\)"),
        ("y ~ (1 | new)", [1.5, "a"] * 4, "'new' holds floating-point numbers"),
        ("y ~ (1 | new)", pd.date_range("2020", periods=8), r"type datetime64.*astype\(str\)"),
        ("y ~ (1 | new)", [1, "a"] * 4, "'new' mixes types"),
        ("y ~ (1 | new)", pd.Categorical([1, "1"] * 4), "Two levels of 'new' both read '1'"),
        ("y ~ new", pd.date_range("2020", periods=8), "in a unit, such as days, .*dt.days"),
        ("y ~ new", [[1]] * 8, "neither numbers nor levels"),
        ("y ~ new", [1, "a"] * 4, "neither numbers nor levels"),
        ("y ~ new", [1j] * 8, "neither numbers nor levels"),
        ("y ~ new", [np.inf, *range(7)], "'new' is infinite in row row0: correct"),
        ("new ~ x", [1.0, -np.inf, *range(6)], "'new' is infinite in row row1"),
        ("y ~ new", ["a"] * 8, r"factor 'new' has one level \('a'\)"),
        ("y ~ log(x)", None, r"'log\(x\)' are not finite in rows row2, row4, row7: correct"),
        ("y ~ offset(log(x))", None, r"'log\(x\)' are not finite in rows row2"),
        ("log(x) ~ 1", None, r"'log\(x\)' are not finite"),
        ("y ~ (log(x) | g)", None, r"'log\(x\)' are not finite"),
        ("y ~ I(x / (0 * x))", None, "are not finite in rows row0, row1, row2, row3, row4, … "),
        ("y ~ log(g)", None, r"columns of '1 \+ log\(g\)' cannot be computed"),
        ("y ~ bs(x, df=2)", None, r"cannot be computed \(Invalid value for `df`"),
        ("y ~ I(1/0 * x)", None, r"cannot be computed \(division by zero\)"),
        ("I(y * (1/0)) ~ x", None, "arithmetic needs numbers"),
        ("g + 1 ~ x", None, "'g [+] 1' cannot be computed: arithmetic needs numbers"),
        ("y ~ offset(g)", None, "'g' cannot be computed"),
        ("f ~ x", None, r"response 'f' has levels \(u, v, w\), 3 of them, where a response"),
        ("new ~ x", ["a"] * 8, r"response 'new' has levels \(a\), 1 of them"),
        ("p(n, s) ~ x", None, r"In p\(n, s\) there are fewer trials than successes in rows row0"),
        ("cbind(s, n - 5) ~ x", None, "fewer trials than successes in rows row0, row1, row2, row3"),
        ("cbind(s - 1, n) ~ x", None, "fewer than 0 successes in row row4"),
        ("p(0 * s, n - 4) ~ x", None, "no trials in rows row0, .*so correct or drop"),
        ("p(x, n) ~ x", None, "count 'x' is not whole in rows row0, row6: "),
        ("p(s, n / 2) ~ x", None, "count 'n / 2' is not whole in rows row4"),
        ("y ~ (1 | g) + (x | g)", None, r"'Intercept' stands twice on 'g': write \(0 \+ x \| g\)"),
        ("y ~ (x | g) + (0 + x | g)", None, "'x' stands twice on 'g': write each column once"),
    ],
)
def test_data_errors_say_what_to_do(data, formula, column, message):
    data["period"] = 1
    if column is not None:
        data["new"] = column
    with pytest.raises(DataError, match=message):
        design(formula, data)


@pytest.mark.parametrize(
    "name",
    ["chain", "draw", "term", "observation", "beta", "dispersion", "a_term", "a_pair", "sd_g"],
)
def test_reserved_grouping_names(data, name):
    data[name] = list("aabbccdd")
    with pytest.raises(DataError, match=f"'{name}' has a name that the results use: rename"):
        design(f"y ~ x + (1 | g) + (1 | {name})", data)
    assert design(f"y ~ {name}", data).p == 4


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ("x + I(2 * x)", r"rank 2 in 8 rows: 'I\(2 \* x\)' is a combination of 'x'; drop terms"),
        ("x + I(x + 1)", r"'I\(x \+ 1\)' is a combination of 'Intercept', 'x'"),
        ("x + one", "'one' is a combination of 'Intercept'"),
        ("x + I(3 * x) + I(x - 5)", r"'I\(3 \* x\)' is .*'x'; 'I\(x - 5\)' is .*; drop terms"),
        ("cr(x, df=3)", "give the cubic spline constraints='center'"),
        ("poly(x, 7) + n", "rank 8 in 8 rows"),
        ("zero", "'zero' is zero in every row"),
        ("f * k3", r"'f\[T.v\]:k3\[T.b\]' is zero in every row.*combine levels"),
    ],
)
def test_dependent_columns_are_named(data, terms, message):
    data["one"], data["zero"] = 1, 0
    data["k3"] = list("abaaaaba")
    data.loc[data["f"] == "v", "k3"] = "a"
    data.loc["row3", "k3"] = "b"
    with pytest.raises(DataError, match=message):
        design(f"y ~ {terms}", data)


def test_badly_scaled_columns_are_not_called_dependent():
    year = np.arange(2000.0, 2012)
    data = pd.DataFrame({"y": year % 2, "year": year})
    assert design("y ~ year + I(year^2)", data).p == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pd.DataFrame({"y": [], "x": []}), "0 rows and 2 columns: give at least one row"),
        ({}, "0 rows and 0 columns"),
        ([], "0 rows"),
        (3, "of type int: give a pandas or polars DataFrame"),
        (np.ones((2, 2)), "of type ndarray"),
        ({"y": [1, 2], "x": [1]}, "do not form a table .* give columns of one length"),
        (pd.DataFrame(np.ones((2, 2)), columns=["y", "y"]), "more than one column 'y': rename"),
    ],
)
def test_data_that_are_no_table(data, message):
    with pytest.raises(DataError, match=message):
        design("y ~ x", data)


def test_labels_that_read_alike_are_refused(data):
    data["a"], data["b"] = ["p:q", "p"] * 4, ["r", "q:r"] * 4
    with pytest.raises(DataError, match="Two levels of 'a:b' both read 'p:q:r': rename one"):
        design("y ~ (1 | a:b)", data)


def test_errors_are_value_errors():
    assert issubclass(DataError, ValueError)
    assert issubclass(FormulaError, ValueError)


# --- new data -------------------------------------------------------------------------


RICH = "p(s, n) ~ poly(x, 2) + scale(n):f + C(k) + offset(log(n)) + (x | g) + (0 + f | g:f)"


def test_new_data_reproduce_the_design(data):
    data = pd.concat([data, data.assign(x=data["x"] + 0.3, k=[2, 2, 10, 33, 10, 33, 2, 10])])
    built = design(RICH, data).in_user_order()
    X, offset, groups = built.new_data(data.drop(columns="s"))
    np.testing.assert_array_equal(X, built.X)
    np.testing.assert_array_equal(offset, built.offset)
    for block, (index, Z) in zip(built.groups, groups, strict=True):
        np.testing.assert_array_equal(index, block.index)
        np.testing.assert_array_equal(Z, block.Z)


def test_one_new_row_has_the_columns_of_its_old_twin(data):
    built = design("y ~ scale(x) + f + C(k) + (f | g)", data).in_user_order()
    X, _, [(index, Z)] = built.new_data(data.iloc[[5]])
    np.testing.assert_array_equal(X, built.X[[5]])
    np.testing.assert_array_equal(Z, built.groups[0].Z[[5]])
    assert index.tolist() == [built.groups[0].index[5]]


def test_new_levels_of_groups(data):
    built = design("y ~ x + (1 | g) + (1 | g:f)", data)
    new = pd.DataFrame({"x": [1.0, 2.0, 3.0], "g": ["a", "zz", "b"], "f": ["v", "v", "v"]})
    with pytest.raises(
        DataError, match=r"level zz of 'g' was not in the data .* new_levels='zero'"
    ):
        built.new_data(new)
    _, _, [(outer, _), (inner, _)] = built.new_data(new, new_levels="zero")
    assert outer.tolist() == [0, -1, 1]
    assert inner.tolist() == [0, -1, -1]  # b:v was never seen, though b and v were
    with pytest.raises(ValueError, match="new_levels is 'skip': use 'raise' or 'zero'"):
        built.new_data(new, new_levels="skip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"f": "q"}, "column 'f' has the level 'q', which the data of the model do not have"),
        ({"f": pd.Categorical(["q"])}, "the level 'q'"),
        ({"k": 11}, "column 'k' has the level 11"),
        ({"x": np.nan}, "1 of 1 rows have missing values"),
        ({"x": "a"}, "'x' holds text where numbers are needed"),
        ({"x": np.inf}, "'x' is infinite"),
        ({"x": -1.0}, r"'sqrt\(x\)' are not finite"),
    ],
)
def test_unusable_new_data(data, change, message):
    built = design("y ~ f + C(k) + sqrt(x)", data.assign(x=np.arange(8.0)))
    new = pd.DataFrame({"f": ["u"], "k": [2], "x": [1.0]}).assign(**change)
    with pytest.raises(DataError, match=message):
        built.new_data(new)


def test_new_data_need_every_predictor(data):
    with pytest.raises(DataError, match="no column 'f'"):
        design("y ~ x + f", data).new_data({"x": [1.0]})


def test_integer_and_text_codes_are_different_levels(data):
    built = design("y ~ (1 | k)", data)
    with pytest.raises(DataError, match="level 2 of 'k'"):
        built.new_data({"k": ["2"]})


def test_a_design_survives_pickling(data):
    built = design("y ~ poly(x, 2) + f + (x | g)", data)
    again = pickle.loads(pickle.dumps(built))
    np.testing.assert_array_equal(again.X, built.X)
    np.testing.assert_array_equal(again.new_data(data)[0], built.new_data(data)[0])


def test_a_column_with_the_name_of_the_intercept_is_refused(data):
    """Its coefficient could not be told from the intercept: profiles and priors took both."""
    renamed = data.rename(columns={"x": "Intercept"})
    with pytest.raises(DataError, match="Two columns of the model are called 'Intercept'"):
        design("y ~ Intercept + (1 | g)", renamed)
    assert design("y ~ 0 + Intercept", renamed).terms == ("Intercept",)


def test_levels_of_another_type_are_not_called_new(data):
    made = design("y ~ x + (1 | g)", data.assign(g=data["k"].astype(str)))
    with pytest.raises(DataError, match="level 10 of 'g' is of another type"):
        made.new_data(data.assign(g=data["k"]))
