"""symgraph as a user gets it: bare checkout, `pip install -e .`, and a wheel used from elsewhere.

Nothing is downloaded: the environments see this interpreter's packages through a path file and
build with its setuptools.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.test_house import MODULES, ROOT

pytestmark = pytest.mark.slow

#: prints where symgraph and its floors come from, and compiles one function
PROBE = """
import numpy as np, symgraph as sg, symgraph.optim, symgraph.backends, symgraph.nn
x, y = sg.vector("x"), sg.vector("y")
add = sg.function([x, y], x + y)
got = add(np.float32([1, 2]), np.float32([3, 5]))
assert got.dtype == np.float32 and got.tolist() == [4, 7], got
for module in (sg, sg.optim, sg.backends, sg.nn):
    print(module.__name__, module.__file__)
"""


def run(*command: object, cwd: Path, **env: str) -> str:
    """Output of a command that must succeed, without this process's Python variables."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env={**clean, **env}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def build_tools() -> None:
    version = importlib.metadata.version("setuptools")
    if int(version.split(".")[0]) < 77:
        pytest.skip(f"building needs setuptools 77 or newer, this environment has {version}")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout as git gives it, so that builds leave no trace in the real one."""
    copy = tmp_path_factory.mktemp("source") / "checkout"
    rubbish = shutil.ignore_patterns(
        ".git", "__pycache__", "*.egg-info", "build", ".*_cache", "out"
    )
    shutil.copytree(ROOT, copy, symlinks=True, ignore=rubbish)
    return copy


def make_environment(folder: Path) -> Path:
    """A new virtual environment that sees this one's packages, symgraph excepted; its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    ours = [Path(path) for path in sys.path if path.endswith("-packages")]
    for entry in (entry for path in ours for entry in path.iterdir()):
        link = borrowed / entry.name  # the first of a name wins, as in sys.path
        if "symgraph" not in entry.name and entry.suffix != ".pth" and not link.is_symlink():
            link.symlink_to(entry)
    Path(site.strip(), "borrowed.pth").write_text(f"{borrowed}\n")
    return python


def pip_install(python: Path, *what: object, cwd: Path) -> None:
    flags = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    run(python, "-m", "pip", "install", *flags, *what, cwd=cwd)


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    flags = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *flags, "-w", folder, ".", cwd=source)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_every_module_once_and_nothing_else(wheel: Path) -> None:
    expected = {"symgraph/py.typed"}
    for module, path in MODULES.items():
        inside = module.replace(".", "/")
        expected.add(f"{inside}/__init__.py" if path.name == "__init__.py" else f"{inside}.py")
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if ".dist-info/" not in n]
        licenses = [n for n in archive.namelist() if n.endswith("licenses/LICENSE")]
    assert sorted(names) == sorted(expected)
    assert len(licenses) == 1


def test_wheel_used_from_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env")
    pip_install(python, wheel, cwd=tmp_path)
    for line in run(python, "-c", PROBE, cwd=tmp_path).splitlines():
        name, file = line.split(maxsplit=1)
        assert file.startswith(str(tmp_path / "env")), f"{name} came from {file}"
    assert "symgraph" in run(tmp_path / "env" / "bin" / "symgraph", "info", cwd=tmp_path)


def test_editable_install(source: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env")
    pip_install(python, "-e", source, cwd=tmp_path)
    for line in run(python, "-c", PROBE, cwd=tmp_path).splitlines():
        name, file = line.split(maxsplit=1)
        assert file.startswith(str(source)), f"{name} came from {file}"


def test_bare_checkout(source: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env")
    for line in run(python, "-c", PROBE, cwd=source).splitlines():
        name, file = line.split(maxsplit=1)
        assert file.startswith(str(source)), f"{name} came from {file}"
