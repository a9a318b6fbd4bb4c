"""The C interface: what a caller reads and passes, what comes back, what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends import targets
from symgraph.backends.aot import compile_ahead
from symgraph.backends.objectfile import symbols
from tests import programs

from . import machine

HERE = [name for name in machine.MACHINES if name.startswith("x86")][:1]
RUNS = [*HERE, "cortex-a72", "cortex-a7"]


# --- running ---


@pytest.mark.emulator
@pytest.mark.parametrize("target", RUNS)
def test_faults_come_back_as_the_numbers_of_the_header(target: str, tmp_path: Path) -> None:
    machine.require(target, "link", "run")
    x, y = sg.array("x", ("n",)), sg.array("y", ("m",))
    checked = sg.assert_(x, x > 0, "x > 0 /* always */") + y.sum()
    ahead = compile_ahead([x, y], [checked, sg.assert_(y, y < 9, "y < 9")], target)
    faults = ahead.manifest["faults"]
    assert faults[0].startswith("AssertionFault: x > 0") and "y < 9" in faults[1]
    assert "1  AssertionFault: x > 0 / * always * /" in ahead.header
    small, large, minus = (np.full(3, v, np.float32) for v in (1, 10, -1))
    codes = [
        machine.run(ahead, arrays, [3, 3], tmp_path)[0]
        for arrays in ([small, small], [minus, small], [small, large], [minus, large])
    ]
    assert codes == [0, 1, 2, 1]


@pytest.mark.emulator
@pytest.mark.parametrize("target", RUNS)
def test_sizes_are_checked(target: str, tmp_path: Path) -> None:
    machine.require(target, "link", "run")
    x, y = sg.array("x", ("n",)), sg.array("y", ("m",))
    ahead = compile_ahead([x, y], [(x + y) * 2, sg.tile(sg.cumsum(x), 4)], target)
    faults = ahead.manifest["faults"]
    assert [f.split(":")[0] for f in faults] == ["ShapeError", "SizeError"]
    three = np.ones(3, np.float32)
    run = lambda n, m: machine.run(ahead, [three, three], [n, m], tmp_path)[0]
    assert [run(3, 3), run(3, 2), run(-1, -1), run(2**62, 2**62)] == [0, 1, 2, 2]
    if ahead.target.pointer_bits == 32:
        assert run(2**30, 2**30) == 2 and run(2**32 + 3, 2**32 + 3) == 2


@pytest.mark.emulator
@pytest.mark.parametrize("target", RUNS)
def test_a_size_may_be_the_value_of_an_input(target: str, tmp_path: Path) -> None:
    machine.require(target, "link", "run")
    x, count = sg.array("x", ("n",)), sg.scalar("count", "int32")
    ahead = compile_ahead([x, count], sg.tile(sg.exp(x)[:, None], (1, count)).sum(axis=0), target)
    assert [s["value_of_input"] for s in ahead.manifest["sizes"]] == [None, 1]
    assert "sizes[1]  count, the value of inputs[1]" in ahead.header
    arrays = [np.zeros(3, np.float32), np.array(5, np.int32)]
    code, got = machine.run(ahead, arrays, [3, 5], tmp_path)
    assert code == 0 and np.frombuffer(got[0], np.float32).tolist() == [3] * 5
    wrong, _ = machine.run(ahead, arrays, [3, 6], tmp_path)
    assert "not the value of the input" in ahead.manifest["faults"][wrong - 1]
    negative, _ = machine.run(ahead, [arrays[0], np.array(-1, np.int32)], [3, -1], tmp_path)
    assert "negative or too large" in ahead.manifest["faults"][negative - 1]


@pytest.mark.emulator
@pytest.mark.parametrize("target", RUNS)
def test_the_workspace_is_as_large_as_it_says(target: str, tmp_path: Path) -> None:
    """A temporary that fills it to the last byte; main.c looks at the border."""
    machine.require(target, "link", "run")
    x, square = sg.array("x", ("n", 16)), sg.constant(np.eye(16, dtype=np.float32))
    ahead = compile_ahead([x], (x @ square) @ square, target)
    for n in (1, 4, 33):
        array = np.arange(n * 16, dtype=np.float32)
        code, got = machine.run(ahead, [array], [n], tmp_path)
        assert code == 0 and got == [array.tobytes()]


@pytest.mark.emulator
@pytest.mark.parametrize("target", RUNS)
def test_empty_and_scalar_arrays(target: str, tmp_path: Path) -> None:
    machine.require(target, "link", "run")
    x, s = sg.array("x", ("n", 3)), sg.scalar("s")
    outputs = [x * s, x.sum(axis=0), s, s + 1, sg.softmax(x, axis=1) @ x.T]
    ahead = compile_ahead([x, s], outputs, target)
    for n in (0, 1, 5):
        arrays = [np.full((n, 3), 0.5, np.float32), np.float32(3)[()]]
        code, got = machine.run(ahead, arrays, [n], tmp_path)
        wanted = sg.evaluate(outputs, {x: arrays[0], s: np.asarray(arrays[1])})
        assert code == 0 and [len(g) for g in got] == [np.asarray(w).nbytes for w in wanted]
        for g, w in zip(got, wanted):
            np.testing.assert_allclose(np.frombuffer(g, np.float32), np.ravel(w), rtol=1e-6)


@pytest.mark.emulator
@pytest.mark.parametrize("target", RUNS)
@pytest.mark.parametrize("seed", range(2))
def test_random_programs(target: str, seed: int, tmp_path: Path) -> None:
    """Several random graphs in one function, to the same bounds as on this machine."""
    machine.require(target, "link", "run")
    rng = np.random.default_rng(seed)
    cases = [random_case(rng) for _ in range(6)]
    inputs = [x for c in cases for x in c.inputs]
    outputs = [x for c in cases for x in c.outputs]
    arrays = [a for c in cases for a in c.arrays]
    ahead = compile_ahead(inputs, outputs, target, on_unused_input="ignore")
    sizes = [programs.SIZES[s["name"]] for s in ahead.manifest["sizes"]]
    code, got = machine.run(ahead, arrays, sizes, tmp_path)
    assert code == 0
    for case in cases:
        wanted, _ = programs.reference(case)
        mine = [np.frombuffer(got.pop(0), w.dtype).reshape(w.shape) for w in wanted]
        programs.compare(case, mine)


def random_case(rng: np.random.Generator) -> programs.Case:
    draw = lambda *shape: rng.integers(0, 2**16, shape).tolist()
    return programs.build(draw(3), [tuple(s) for s in draw(25, 4)], int(rng.integers(2**16)))


@pytest.mark.emulator
def test_code_for_two_cpus_in_one_program(tmp_path: Path) -> None:
    """A program may hold the function for several CPUs and choose at run time; nothing mixes."""
    machine.require("x86-64-v3", "link", "run")
    x = sg.array("x", ("n",))
    both = [
        compile_ahead([x], sg.cumsum(x)[-1], target, name)
        for name, target in (("plain", "x86-64-v2"), ("wide", "x86-64-v3"))
    ]
    one, other = (
        set().union(*(symbols(data).defined for data in ahead.objects.values())) for ahead in both
    )
    assert not one & other
    for ahead in both:
        ahead.write(tmp_path)
    (tmp_path / "two.c").write_text(TWO)
    command = [
        "gcc",
        "-static",
        "-Wall",
        "-Werror",
        "two.c",
        "libplain.a",
        "libwide.a",
        "-o",
        "two",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    assert subprocess.run(["./two"], cwd=tmp_path, timeout=60).returncode == 0


TWO = """
#include "plain.h"
#include "wide.h"
int main(void) {
  const float x[] = {1, 4, 9};
  float a = 0, b = 0;
  const void *inputs[] = {x};
  void *one[] = {&a}, *other[] = {&b};
  const int64_t n = 3;
  char space[1024];
  if (plain_workspace_bytes(&n) > 1024 || wide_workspace_bytes(&n) > 1024) return 1;
  if (plain(inputs, one, &n, space) || wide(inputs, other, &n, space)) return 2;
  return a == 14 && b == 14 ? 0 : 3;
}
"""


# --- files ---


def test_what_is_written(tmp_path: Path) -> None:
    x = sg.array("x", ("n", 4), "float16")
    ahead = compile_ahead([x], {"p": sg.softmax(x)}, "cortex-a7", "net")
    paths = ahead.write(tmp_path / "new" / "folder")
    assert [p.name for p in paths] == ["libnet.a", "net.h", "net.json"]
    manifest = json.loads(paths[2].read_text())
    assert manifest == ahead.manifest
    assert manifest["inputs"] == [{"name": "x", "dtype": "float16", "shape": ["n", 4]}]
    assert manifest["outputs"] == [{"name": "p", "dtype": "float16", "shape": ["n", 4]}]
    assert manifest["target"]["triple"] == "armv7-unknown-linux-gnueabihf"
    header = paths[1].read_text()
    assert "inputs[0]  float16[n, 4]  x" in header and "outputs[0]  float16[n, 4]  p" in header
    assert "taken for zero" in header


@pytest.mark.emulator
def test_the_header_is_c_and_cpp(tmp_path: Path) -> None:
    machine.require("x86-64-v2", "link")
    compile_ahead([], sg.constant(np.ones(3)), "x86-64-v2", "three").write(tmp_path)
    for language in ("c", "c++"):
        command = ["gcc", f"-x{language}", "-Wall", "-Wextra", "-pedantic", "-Werror"]
        subprocess.run([*command, "-fsyntax-only", "three.h"], cwd=tmp_path, check=True, timeout=60)


@pytest.mark.emulator
@pytest.mark.parametrize("target", ["x86-64-v2", "cortex-a7"])
def test_the_library_has_an_index(target: str, tmp_path: Path) -> None:
    machine.require(target, "readelf")
    ahead = compile_ahead([], sg.constant(np.ones(3)), target)
    (library, *_) = ahead.write(tmp_path)
    command = [machine.MACHINES[target].readelf, "-c", str(library)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert all(name in shown for name in (*ahead.objects, "model_workspace_bytes", "model.run"))


# --- what is refused ---

x = sg.vector("x")
w = sg.shared(np.ones(2, np.float32), "w")
stream = sg.RandomStream(1)
REFUSED: list[tuple[Callable[[], Any], type, str]] = [
    (lambda: compile_ahead([x], sg.lgamma(x), "cortex-a72"), sg.HostCallError, "lgamma"),
    (lambda: compile_ahead([x], sg.Print(x), "cortex-a72"), sg.HostCallError, "print"),
    (lambda: compile_ahead([], stream.normal((3,)), "host"), sg.TargetError, "random_state"),
    (lambda: compile_ahead([x], x, "cortex-a27"), sg.TargetError, "unknown target 'cortex-a27'"),
    (lambda: compile_ahead([x], x, "host", "a-b"), sg.TargetError, "'a-b' is not a name in C"),
    (lambda: compile_ahead([x], x, "host", "naïve"), sg.TargetError, "is not a name in C"),
    (lambda: compile_ahead([x], x, "host", "int"), sg.TargetError, "'int' is not a name in C"),
    (lambda: compile_ahead([sg.In(x, value=[1.0])], x), sg.GraphError, "no default values: x"),
    (lambda: compile_ahead([], x), sg.MissingInputError, "1 input of the graph is not given"),
    (lambda: compile_ahead([x, sg.vector("y")], x), sg.UnusedInputError, "y"),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED)
def test_refused(call: Callable[[], Any], error: type, words: str) -> None:
    with pytest.raises(error, match="(?i)" + words):
        call()


def test_shared_variables_are_fixed(tmp_path: Path) -> None:
    a = sg.array("a", ("n", 2))
    weights = sg.shared(np.ones((2, 3), np.float32), "weights", shape=(None, None))
    ahead = compile_ahead([a], a @ weights, "host")
    assert ahead.manifest["outputs"][0]["shape"] == ["n", 3]
    assert [s["name"] for s in ahead.manifest["sizes"]] == ["n"]
    weights.set_value(np.zeros((2, 3), np.float32))
    assert compile_ahead([a], a @ weights, "host").library != ahead.library


def test_stages_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    compile_ahead([x], x * 2, "cortex-a72", show="plan,llvm,asm")
    shown = capsys.readouterr().err
    assert all(f"model: {stage}" in shown for stage in ("plan", "llvm", "asm")) and "fmul" in shown


def test_the_target_may_be_a_target() -> None:
    where = targets.target("cortex-a76,-dotprod")
    assert compile_ahead([x], x + 1, where).target is where
