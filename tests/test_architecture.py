"""The layers of the package and who may import what: read from the source, nothing is run.

ARCHITECTURE: imports run one way at module level, and heavy libraries have one home each. A
module may import from layers above its own in the table below, and from its own package.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import bayes_glmm
from bayes_glmm import fit, methods

ROOT = Path(bayes_glmm.__file__).parent
PACKAGE = "bayes_glmm"

# from what everything may use to what nothing may use; a folder stands for all in it
LAYERS = (
    {"choices", "toml", "messages", "methods", "datasets", "numerics", "progress", "pedigree"},
    {"formula", "families", "priors", "residual", "fit"},
    {"design"},
    {"model", "modelfile"},
    {"bayesian", "frequentist", "identification", "propriety", "datatree", "agreement"},
    {
        "storage",
        "estimands",
        "population",
        "predict",
        "ranking",
        "semivariance",
        "trends",
        "comparison",
        "sensitivity",
        "study",
    },
    {"report"},
    {"cli"},
    {"__main__"},
)
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}
# these import nothing of ours but each other's plain names
BASE = {
    "choices": set(),
    "methods": {"choices"},
    "messages": set(),
    "datasets": set(),
    "fit": {"messages"},
}

# library -> the units that may import it, at any depth of the code
HOMES = {
    "pymc": {"bayesian"},
    "pytensor": {"bayesian"},
    "nutpie": {"bayesian"},
    "matplotlib": {"report"},
    "arviz_plots": {"report"},
    "jinja2": {"report"},
    "great_tables": {"report"},
    "dask": {"study"},
    "typer": {"cli"},
    "rich": {"cli", "progress"},
    "pydantic": {"modelfile"},
    "pooch": {"datasets"},
    "rdata": {"datasets"},
    "formulaic": {"design", "formula"},
    "statsmodels": {"frequentist"},
    "bambi": set(),
    "rpy2": set(),
}
ARRAYS_ONLY = ("pandas", "pymc", "pytensor", "xarray", "arviz")  # never in numerics


def modules():
    return sorted(path for path in ROOT.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The first name below the package: a module or a folder."""
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(body, deep: bool):
    """Import statements at module level, or at any depth; never those for type checkers only."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse, deep)
        elif deep or not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield from statements(ast.iter_child_nodes(node), deep)


def imported(path: Path, deep: bool) -> set[str]:
    """Absolute names of the modules a file imports."""
    package = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in statements(tree_of(path).body, deep):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        base = package[: len(package) + 1 - node.level] if node.level else []
        name = ".".join([*base, *([node.module] if node.module else [])])
        if name == PACKAGE:  # from . import design
            found |= {f"{PACKAGE}.{alias.name}" for alias in node.names}
        else:
            found.add(name)
    return found


def ours(names: set[str]) -> set[str]:
    """Units of this package among the imported names; its version is not one."""
    units = {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}.")}
    return {unit for unit in units if not unit.startswith("__version")}


def libraries(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_every_module_has_a_layer():
    assert {unit_of(path) for path in modules()} - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path):
    unit = unit_of(path)
    if unit == "__init__":
        assert not ours(imported(path, deep=False)), "the public names are resolved lazily"
        return
    for other in ours(imported(path, deep=False)) - {unit}:
        if other not in BASE.get(unit, {other}):
            pytest.fail(f"{unit} imports {other}: it may import nothing of ours but {BASE[unit]}")
        same = LEVEL[other] == LEVEL[unit] and not ours_cyclic(unit, other)
        assert LEVEL[other] < LEVEL[unit] or same, f"{unit} imports {other} at module level"


def ours_cyclic(unit: str, other: str) -> bool:
    """Whether two units of one layer import each other."""
    files = (path for path in modules() if unit_of(path) == other)
    return any(unit in ours(imported(path, deep=False)) for path in files)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_library_is_imported_only_in_its_home(path):
    unit = unit_of(path)
    used = libraries(imported(path, deep=True))
    strays = {library for library in used & set(HOMES) if unit not in HOMES[library]}
    assert not strays, f"{unit} imports {strays}"
    if unit == "numerics":
        assert not used & set(ARRAYS_ONLY)


def late_names() -> dict[str, str]:
    """Every "module:function" that is imported late: engines of methods and verbs of Fit."""
    engines = {kind.name: kind.engine for kind in methods.Method.__subclasses__()}
    return engines | fit.HEAVY


@pytest.mark.parametrize("name", late_names())
def test_a_late_import_names_a_function_that_exists(name):
    module, function = late_names()[name].split(":")
    relative = module.removeprefix(f"{PACKAGE}.").replace(".", "/")
    paths = [ROOT / f"{relative}.py", ROOT / relative / "__init__.py"]
    (path,) = (path for path in paths if path.is_file())
    defined = {n.name for n in tree_of(path).body if isinstance(n, ast.FunctionDef)}
    assert function in defined


def test_every_public_name_is_defined_in_its_home():
    for name in bayes_glmm.__all__:
        if name in ("build_graph", "__version__"):  # a PyMC import; see the test of the graph
            continue
        assert getattr(bayes_glmm, name) is not None


HEAVY = ("pymc", "pytensor", "numba", "arviz", "arviz_base", "matplotlib", "nutpie")


def loaded_by(*arguments: str) -> set[str]:
    """Modules that a fresh Python holds after running the command line with these arguments."""
    script = (
        "import sys\n"
        "sys.argv = ['bayes-glmm', *sys.argv[1:]]\n"
        "from bayes_glmm.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as done:\n    assert not done.code, done.code\n"
        "print('\\n', *sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        cwd=ROOT.parent,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [("--help",), ("datasets",), ("datasets", "cbpp")], ids=str)
def test_help_and_datasets_load_nothing_heavy(arguments):
    assert not loaded_by(*arguments) & {*HEAVY, "pandas", "scipy", "numpy"}


def test_check_needs_neither_pymc_nor_numba_nor_arviz():
    assert not loaded_by("check", "models/cbpp.toml") & set(HEAVY)


def test_importing_the_package_loads_none_of_its_modules():
    script = "import sys, bayes_glmm; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    held = set(done.stdout.split())
    assert not held & {*HEAVY, "pandas", "numpy", "scipy"}
    assert {name for name in held if name.startswith(f"{PACKAGE}.")} == set()
