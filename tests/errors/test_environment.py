"""Environment variables, folders, disks and forks give a message or the right numbers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends import cache, targets

ROOT = Path(sg.__file__).parent.parent


def build() -> None:
    """Compile a function and check its numbers."""
    x, w = sg.matrix("x"), sg.shared(np.full((3, 2), 0.5, np.float32), "w")
    f = sg.function([x], sg.exp(x @ w), updates={w: w + 1})
    x_value = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(f(x_value), np.exp(x_value @ np.full((3, 2), 0.5)), rtol=1e-6)
    np.testing.assert_allclose(f(x_value), np.exp(x_value @ np.full((3, 2), 1.5)), rtol=1e-6)


# --- variables with a wrong value ---

SPEAK = {
    "an unknown CPU": (
        {"SYMGRAPH_CPU": "x86-64-v9"},
        sg.TargetError,
        "unknown target 'x86-64-v9'\n  hint: did you mean x86-64-v4 or x86-64-v3 or x86-64-v2?",
    ),
    "an unknown feature": (
        {"SYMGRAPH_CPU": "host,+avx513f"},
        sg.TargetError,
        "target 'host': unknown feature '+avx513f'\n"
        "  hint: did you mean +avx512f or -avx512f or +avx512ifma?",
    ),
    "a feature without a sign": (
        {"SYMGRAPH_CPU": "x86-64,avx2"},
        sg.TargetError,
        "target 'x86-64': unknown feature 'avx2'\n  hint: write +avx2 or -avx2",
    ),
    "an unknown stage": (
        {"SYMGRAPH_SHOW": "loops,assembly"},
        sg.GraphError,
        "show: no stage is called assembly\n  SITE\n"
        "  hint: stages: graph, rewrites, plan, loops, llvm, asm, times",
    ),
    "a folder to dump into that is a file": (
        {"SYMGRAPH_DUMP": "FILE"},
        sg.GraphError,
        "SYMGRAPH_DUMP=FILE: File exists\n  SITE\n"
        "  hint: name a folder that can be written, or unset it",
    ),
}


@pytest.mark.parametrize("case", SPEAK)
def test_variables_with_a_wrong_value(
    case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables, kind, text = SPEAK[case]
    file = tmp_path / "file"
    file.write_text("")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("FILE", str(file)))
    with pytest.raises(kind) as error:
        build()
    lines = str(error.value).replace(str(file), "FILE").split("\n")
    shown = ["  SITE" if "test_environment.py:" in line else line for line in lines]
    assert "\n".join(shown) == text
    monkeypatch.undo()
    build()


def test_a_cpu_that_this_machine_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = "cortex-a53" if targets.detect().arch != "aarch64" else "x86-64"
    monkeypatch.setenv("SYMGRAPH_CPU", foreign)
    with pytest.raises(sg.TargetError) as error:
        build()
    first, hint = str(error.value).split("\n")
    assert first.startswith(f"SYMGRAPH_CPU={foreign}: this machine (")
    assert hint == "  hint: ahead-of-time compilation accepts any target"


# --- a cache that does not work: one warning, and the right numbers ---


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """As in a new process, with an empty cache."""

    def forget() -> None:
        cache._memory.clear()
        cache._memory_bytes, cache._warned = 0, False

    forget()
    monkeypatch.setenv("SYMGRAPH_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    forget()


def warned(during: Callable[[], None]) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        during()
    return [str(w.message) for w in found]


PLACES = {
    "a file in place of the folder": lambda p: str(p / "file"),
    "a folder inside a file": lambda p: str(p / "file" / "cache"),
    "a place that does not exist and cannot": lambda p: "/proc/nowhere/cache",
    "a name that is too long": lambda p: str(p / ("x" * 5000)),
}


@pytest.mark.parametrize("case", PLACES)
def test_an_unusable_cache_folder(
    case: str, fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYMGRAPH_CACHE", PLACES[case](tmp_path))
    (message,) = warned(lambda: (build(), build()))
    assert message.startswith("symgraph's cache on disk is off: ")
    assert message.endswith(" (set SYMGRAPH_CACHE to a folder, or to off)")


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_no_home(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SYMGRAPH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    (message,) = warned(lambda: (build(), build()))
    assert message == (
        "symgraph's cache on disk is off: Could not determine home directory. "
        "(set SYMGRAPH_CACHE to a folder, or to off)"
    )


@pytest.mark.parametrize("call", ["os.replace", "tempfile.mkstemp", "os.stat"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_is_full_broken_or_read_only(
    call: str, code: int, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    if call == "os.stat":  # only the cache's own look at its folder
        monkeypatch.setattr(cache, "_check_owner", fail)
    else:
        monkeypatch.setattr(call, fail)
    (message,) = warned(lambda: (build(), build()))
    assert os.strerror(code) in message and message.startswith("symgraph's cache on disk is off")
    assert not [p for p in fresh.rglob("*") if p.is_file()]  # nothing half written is left


def test_a_cache_switched_off(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYMGRAPH_CACHE", "0")
    assert warned(build) == [] and not fresh.exists() and cache.info()["folder"] is None


def test_a_cache_that_vanishes_meanwhile(fresh: Path) -> None:
    import shutil

    build()
    shutil.rmtree(fresh)
    cache._memory.clear()
    assert warned(build) == [] and fresh.exists()


# --- processes ---


def run(code: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_after_compile() -> None:
    """A child calls what its parent compiled, updates its own copy, and compiles more."""
    code = (
        "import os, sys, threading, numpy as np, symgraph as sg\n"
        "x, w = sg.vector('x'), sg.shared(np.zeros(3, 'f'), 'w')\n"
        "f = sg.function([x], x + w, updates={w: w + x})\n"
        "g = sg.function([x], sg.digamma(x))\n"
        "a = np.ones(3, 'f'); f(a); g(a)\n"
        "busy = threading.Thread(target=lambda: [f(a * 0) for _ in range(300)]); busy.start()\n"
        "children = []\n"
        "for n in range(4):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        ok = f(a).tolist() == [2] * 3 and w.get_value().tolist() == [2] * 3\n"
        "        h = sg.function([x], sg.tanh(x) * n + g.copy()(a).sum())\n"
        "        ok = ok and h(a).shape == (3,)\n"
        "        os._exit(0 if ok else 1)\n"
        "    children.append(pid)\n"
        "print([os.waitpid(pid, 0)[1] for pid in children])\n"
        "busy.join(); print(f(a).tolist(), w.get_value().tolist())"
    )
    assert run(code) == "[0, 0, 0, 0]\n[2.0, 2.0, 2.0] [2.0, 2.0, 2.0]"


def test_a_locale_without_letters() -> None:
    code = (
        "import symgraph as sg\n"
        "x = sg.vector('gr\\u00f6sse')\n"
        "f = sg.function([x], x + 1, name='\\u015d', show='graph')\n"
        "print(f([1]))"
    )
    assert run(code, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0") == "[2.]"


def test_errors_travel_between_processes() -> None:
    import pickle

    x, y = sg.array("x", (3,)), sg.array("y", (4,))
    with pytest.raises(sg.ShapeError) as error:
        x + y
    again = pickle.loads(pickle.dumps(error.value))
    assert type(again) is sg.ShapeError and str(again) == str(error.value)
    assert again.site == error.value.site


def test_expressions_do_not_travel() -> None:
    import copy
    import pickle

    x = sg.vector("x")
    for value in (x, x + 1, sg.shared(1.0, "w")):
        with pytest.raises(TypeError, match="an expression cannot be pickled"):
            pickle.dumps(value)
        assert copy.copy(value) is copy.deepcopy(value) is value


def test_a_million_arguments() -> None:
    """The generated entry puts the arguments it declines on the heap, not on the stack."""
    x = sg.scalar("x")
    f = sg.function([x], x)
    with pytest.raises(sg.ArgumentError) as error:
        f(*[1.0] * 3_000_000)
    assert str(error.value) == "function(x): expected at most 1 argument, got 3000000"
    with pytest.raises(sg.ArgumentError, match="no argument is called 'k0'"):
        f(**{f"k{i}": 1.0 for i in range(300_000)})


def test_a_function_called_from_inside_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that runs inside a call may read what the call updates; it gets no half of it."""
    x, w = sg.vector("x"), sg.shared(np.zeros(2, np.float32), "w")
    f = sg.function([x], sg.Print("p")(x) * 2, updates={w: w + x})
    seen: list[object] = []

    class Out:
        def write(self, text: str) -> None:
            seen.append(w.get_value().tolist())
            for wrong in (lambda: f([1, 2]), lambda: w.set_value(np.ones(2, np.float32))):
                with pytest.raises(sg.GraphError) as error:
                    wrong()
                seen.append(str(error.value))
            if len(seen) > 3:
                raise KeyError("from inside")

    monkeypatch.setattr(sys, "stdout", Out())
    assert f([1, 2]).tolist() == [2, 4]
    with pytest.raises(KeyError, match="from inside"):
        f([1, 2])
    monkeypatch.undo()
    assert seen[:3] == [
        [0, 0],
        "function: cannot run inside a call, of the same thread, that updates w",
        "w: cannot be set inside a call of a function that uses it",
    ]
    assert w.get_value().tolist() == [1, 2]  # the second call raised: nothing was stored
