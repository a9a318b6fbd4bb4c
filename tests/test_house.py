"""The house rules a machine can check: floors, cycles, light imports, packages, sizes, names."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: import name -> folder; the order is the order of the floors, lowest first
FLOORS = {
    "symgraph": ROOT / "symgraph",
    "symgraph.optim": ROOT / "optim",
    "symgraph.backends": ROOT / "backends",
    "symgraph.nn": ROOT / "nn",
}
FILE_LINES = 520  # about 500: a file that outgrows it owns two ideas
FUNCTION_LINES = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "stuff", "tools"}
#: standard or third-party modules that `import symgraph` must not load
LAZY_MODULES = ("scipy", "sympy", "llvmlite", "ml_dtypes", "matplotlib", "sklearn")


def floor_files(folder: Path) -> Iterator[Path]:
    """The Python files of one floor, without the other floors that are linked into it."""
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        yield from (Path(top, name) for name in sorted(files) if name.endswith(".py"))


def module_files() -> dict[str, Path]:
    """Import name of every module -> its file."""
    found = {}
    for floor, folder in FLOORS.items():
        for path in floor_files(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((floor, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


MODULES = module_files()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def floor_of(module: str) -> str:
    return max((f for f in FLOORS if module == f or module.startswith(f + ".")), key=len)


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "symgraph"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def import_nodes(tree: ast.AST, inside_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run; those for type checkers alone are left out."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif is_type_checking(node):
            waiting.extend(node.orelse)
        elif inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting.extend(ast.iter_child_nodes(node))


def targets(module: str, node: ast.Import | ast.ImportFrom) -> list[str]:
    """Absolute names of the modules that one import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        base = f"{package}.{base}" if base else package
    submodules = [f"{base}.{alias.name}" for alias in node.names]
    named = [name for name in submodules if name in MODULES]
    return named if len(named) == len(submodules) else [*named, base]


def imports_of(module: str, inside_functions: bool = True) -> list[tuple[str, int]]:
    nodes = import_nodes(TREES[module], inside_functions)
    return [(target, node.lineno) for node in nodes for target in targets(module, node)]


# --- floors and cycles ---


@pytest.mark.parametrize("module", [m for m in MODULES if m != "symgraph"])  # the door: see below
def test_floor_imports_only_what_is_below(module: str) -> None:
    order = list(FLOORS)
    mine = order.index(floor_of(module))
    for target, line in imports_of(module):
        if is_ours(target):
            theirs = floor_of(target)
            assert order.index(theirs) <= mine, f"{MODULES[module]}:{line} imports {target}"
        assert target.split(".")[0] not in ("optim", "backends", "nn", "tests", "benchmarks"), (
            f"{MODULES[module]}:{line} imports {target} by its bare name"
        )


def test_door_loads_no_upper_floor() -> None:
    loaded = [t for t, _ in imports_of("symgraph", inside_functions=False) if is_ours(t)]
    assert loaded and {floor_of(target) for target in loaded} == {"symgraph"}


def test_no_module_imports_itself_in_a_circle() -> None:
    edges = {
        module: sorted(
            {target for target, _ in imports_of(module, inside_functions=module != "symgraph")}
            & MODULES.keys() - {module}
        )
        for module in MODULES
    }
    assert find_cycle(edges) is None


def find_cycle(edges: dict[str, list[str]]) -> list[str] | None:
    """One cycle as a list of nodes that ends where it starts, or None."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        waiting: list[tuple[str, bool]] = [(start, False)]
        while waiting:
            node, leaving = waiting.pop()
            if leaving:
                path.pop()
                done.add(node)
            elif node in path:
                return [*path[path.index(node) :], node]
            elif node not in done:
                path.append(node)
                waiting.append((node, True))
                waiting.extend((target, False) for target in edges[node])
    return None


def test_find_cycle_finds_one() -> None:
    assert find_cycle({"a": ["b"], "b": ["c"], "c": []}) is None
    assert find_cycle({"a": ["b", "c"], "b": ["c"], "c": []}) is None
    assert find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]


@pytest.mark.slow
def test_import_linter_contracts_hold() -> None:
    pytest.importorskip("importlinter")
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["optim", "backends", "nn"])
def test_folder_refuses_its_bare_name(folder: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {folder}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: import symgraph.{folder}, not {folder}: the folder has no bare name"
    )


def test_import_is_light() -> None:
    names = (*LAZY_MODULES, "symgraph.optim", "symgraph.backends", "symgraph.nn")
    code = f"import sys, symgraph; print([m for m in {names!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# --- packages, sizes, names ---


def declared_packages() -> list[str]:
    """The `packages` list of pyproject.toml (read by pattern: tomllib came with Python 3.11)."""
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^packages = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    assert listed is not None
    return re.findall(r'"([^"]+)"', listed.group(1))


def test_packages_list_equals_the_tree() -> None:
    in_tree = {m for m, path in MODULES.items() if path.name == "__init__.py"}
    assert sorted(declared_packages()) == sorted(in_tree)
    folders = {path.parent for path in MODULES.values()}
    bare = [str(f) for f in folders if not (f / "__init__.py").exists()]
    assert bare == [], "a folder with modules and no __init__.py would not be installed"


def test_links_give_sister_folders_their_import_name() -> None:
    for name in ("optim", "backends", "nn"):
        link = ROOT / "symgraph" / name
        assert link.is_symlink() and os.readlink(link) == f"../{name}"


def every_python_file() -> list[Path]:
    folders = [*FLOORS.values(), ROOT / "tests", ROOT / "benchmarks"]
    return [path for folder in folders for path in floor_files(folder)]


@pytest.mark.parametrize("path", every_python_file(), ids=lambda p: str(p.relative_to(ROOT)))
def test_file_owns_one_idea_and_says_which(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= FILE_LINES, f"{lines} lines: split by topic"
    if path.name != "__init__.py" or text:
        caption = ast.get_docstring(ast.parse(text))
        assert caption, "the first line says in one sentence what the file owns"
    parts = set(path.relative_to(ROOT).with_suffix("").parts)
    assert not parts & VAGUE_NAMES


def test_long_functions_are_reported() -> None:
    long = {}
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long[f"{MODULES[module].relative_to(ROOT)}:{node.lineno} {node.name}"] = lines
    if long:
        rows = "".join(f"\n  {where}: {lines} lines" for where, lines in long.items())
        warnings.warn(f"functions over a screen:{rows}", stacklevel=1)
    assert all(lines <= 2 * FUNCTION_LINES for lines in long.values()), long
