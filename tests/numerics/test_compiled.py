"""Where compiled code is kept, and that it is found again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bayes_glmm.numerics import compiled

USE = """
import logging, sys
import numpy as np
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from bayes_glmm.families import FAMILIES, LINKS
from bayes_glmm.numerics import compiled
from bayes_glmm.numerics.bind import bind_numba
blocks = bind_numba(FAMILIES["gaussian"], LINKS["identity"])
out = np.zeros((4, 2))
blocks.density(np.ones(2), np.ones(2), np.zeros(2), 1.0, 0, 2, out)
assert out[0].tolist() == [-0.5, -0.5]
hits = blocks.density.compiled.stats.cache_hits
print("hits", sum(hits.values()), "folder", compiled.cache_folder())
"""


# two families whose functions have the same names, with the links that both have
MIX = """
import numpy as np
from bayes_glmm.families import FAMILIES, LINKS
from bayes_glmm.numerics.bind import bind_numba, bind_numpy
y, trials, eta = np.array([0.0, 2.0, 5.0]), np.full(3, 6.0), np.array([-0.4, 0.3, 1.1])
for family, link in [("negative_binomial", "log"), ("negative_binomial1", "log"),
                     ("negative_binomial", "sqrt"), ("beta_binomial", "loglog"),
                     ("binomial", "loglog"), ("beta_binomial", "cauchit")]:
    pair = FAMILIES[family], LINKS[link]
    out = np.zeros((4, 3))
    bind_numba(*pair).density(y, trials, eta, 2.5, 0, 3, out)
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = bind_numpy(*pair).log_density(y, trials, eta, 2.5)
    for mine, theirs in zip(out, exact):
        inside = np.isfinite(out[0])
        np.testing.assert_allclose(mine[inside], (theirs + 0 * eta)[inside], rtol=1e-12, atol=1e-12)
print("equal")
"""


# a kernel that another process compiles; and one of which the other process knows nothing
BESIDE = """
import numpy as np
from bayes_glmm.numerics.beside import compiled_beside
from bayes_glmm.numerics.compiled import Kernel, cache_folder
from bayes_glmm.numerics.partly_centred import add_to_rows
class Elsewhere(Kernel):
    address = "bayes_glmm.numerics.partly_centred:nothing"
unknown = Elsewhere(add_to_rows.python, add_to_rows.signature)
with compiled_beside([unknown]):
    pass
print("unknown", unknown.is_cached)
with compiled_beside([add_to_rows]):
    compiled_here = add_to_rows._compiled is not None
print("beside", add_to_rows.is_cached, "here", compiled_here, "folder", cache_folder() is not None)
eta = np.zeros(3)
add_to_rows(np.ones((1, 3)), np.array([0, 1, 1]), np.array([[2.0], [5.0]]), eta)
print(eta.tolist(), "hits", sum(add_to_rows.compiled.stats.cache_hits.values()))
"""


def start(home: Path, temporary: Path, code: str = USE) -> subprocess.Popen:
    """Start code in a fresh process with its own cache and temporary folders."""
    folders = {"XDG_CACHE_HOME": home, "HOME": home, "TMPDIR": temporary, "LOCALAPPDATA": home}
    environment = os.environ | {k: str(v) for k, v in folders.items()}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(home: Path, temporary: Path, code: str = USE) -> str:
    """Run code so, and return what it printed."""
    process = start(home, temporary, code)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return printed


def not_a_folder(path: Path) -> Path:
    """Make a file where a folder is wanted: unwritable for root too."""
    path.write_text("")
    return path


def test_compiled_code_is_kept_and_found_again(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    first = run(home, tmp_path)
    assert "compiling the numerical kernels" in first and "hits 0" in first
    second = run(home, tmp_path)
    assert "compiling" not in second and "hits 1" in second
    assert str(home) in second


def test_processes_may_fill_an_empty_folder_at_the_same_time(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    together = [start(home, tmp_path) for _ in range(4)]
    for process in together:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert "hits 1" in run(home, tmp_path)  # what they left is whole


def test_a_damaged_file_is_compiled_anew(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    run(home, tmp_path)
    kept = list(home.rglob("*.nbi"))
    assert kept
    for file in kept:
        file.write_bytes(b"")
    again = run(home, tmp_path)
    assert "cannot be used" in again and "hits 0" in again


def test_families_are_not_mixed_in_the_cache(tmp_path):
    """The second process loads every family from disk and gets the right one each time."""
    home = tmp_path / "home"
    home.mkdir()
    assert "equal" in run(home, tmp_path, MIX)
    assert "equal" in run(home, tmp_path, MIX)


def test_without_a_cache_folder_a_temporary_one_serves(tmp_path):
    home, temporary = not_a_folder(tmp_path / "home"), tmp_path / "tmp"
    temporary.mkdir()
    assert "are kept in" in run(home, temporary)
    assert "hits 1" in run(home, temporary)


def test_without_any_folder_it_is_compiled_anew(tmp_path):
    home, temporary = not_a_folder(tmp_path / "home"), tmp_path / "tmp"
    temporary.mkdir()
    code = USE.replace("import logging, sys", "import logging, sys\nimport tempfile").replace(
        "blocks = bind", f"tempfile.tempdir = {str(home)!r}\nblocks = bind"
    )
    out = run(home, temporary, code)
    assert "compiled anew" in out and "folder None" in out


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX systems")
def test_a_folder_that_others_may_write_is_not_trusted(tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert not compiled._private(open_to_all)
    open_to_all.chmod(0o700)
    assert compiled._private(open_to_all)


def test_the_hash_follows_the_sources(tmp_path, monkeypatch):
    before = compiled.source_hash()
    package = tmp_path / "package"
    for name in ("numerics", "families"):
        (package / name).mkdir(parents=True)
        (package / name / "a.py").write_text("x = 1")
    monkeypatch.setattr(compiled, "__file__", str(package / "numerics" / "compiled.py"))
    compiled.source_hash.cache_clear()
    first = compiled.source_hash()
    (package / "families" / "a.py").write_text("x = 2")
    compiled.source_hash.cache_clear()
    assert len({before, first, compiled.source_hash()}) == 3
    monkeypatch.undo()
    compiled.source_hash.cache_clear()
    assert compiled.source_hash() == before


def test_a_second_process_compiles_beside_and_may_fail(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    printed = run(home, tmp_path, BESIDE)
    assert "unknown False" in printed and "beside True here False folder True" in printed
    assert "[2.0, 5.0, 5.0] hits 1" in printed


def test_without_a_folder_nothing_is_compiled_beside(tmp_path):
    blocked, temporary = not_a_folder(tmp_path / "file"), tmp_path / "tmp"
    temporary.mkdir()
    code = f"import tempfile\ntempfile.tempdir = {str(blocked)!r}\n{BESIDE}"
    printed = run(blocked, temporary, code)
    assert "beside False here False folder False" in printed and "[2.0, 5.0, 5.0]" in printed
