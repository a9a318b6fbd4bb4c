"""The driver: exact sizes, every kind of step, faults, and the C interface on other machines."""

from __future__ import annotations

import ctypes
import operator
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import symgraph as sg
from symgraph import dims, relations
from symgraph.backends import jit, targets
from symgraph.backends.aot import compile_ahead
from symgraph.backends.blocks import CONTEXT_BYTES
from symgraph.backends.driver import CHUNK_STEPS
from symgraph.backends.irtext import Text
from symgraph.backends.sizes import SizeTable, emit_sizes

from .emulator import require

# --- sizes ---

ATOMS = tuple(dims.Size(name) for name in "abc")
BAD = 7


def size_function(sizes: list[Any], guards: list[Any], work: Any) -> tuple[SizeTable, Any]:
    """The table, and call(values) -> (code, entries)."""
    table = SizeTable(ATOMS)
    for s in sizes:
        table.add(s, shape=True)
    text = emit_sizes("f", table, guards, work, BAD, 64)
    body = "\n".join([*text.slots, *text.lines])
    module = (
        f"define i32 @f(ptr %context, ptr %atoms, ptr %table) {{\nentry:\n{body}\n}}\n"
        + "\n".join(text.declarations.values())
    )
    library = jit.load([jit.compile_object(module, targets.host())], ["f"])
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)(library.address("f"))

    def call(values: list[int]) -> tuple[int, list[int], list[int]]:
        context = (ctypes.c_int64 * (CONTEXT_BYTES // 8))()
        entries = (ctypes.c_int64 * len(table))()
        code = function(context, (ctypes.c_int64 * len(values))(*values), entries)
        return code, list(entries), list(context)[2:4]

    call.library = library  # type: ignore[attr-defined]
    return table, call


COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda x, y: dims.floordiv(x, y if isinstance(y, int) else 7),
    "<": dims.dim_min,
    ">": dims.dim_max,
}


@st.composite
def sizes(draw: st.DrawFn) -> Any:
    """A size over a, b, c: sums, products, floor divisions by positive numbers, extremes."""
    x: Any = draw(st.one_of(st.sampled_from([dims.dim(n) for n in "abc"]), st.integers(0, 9)))
    for _ in range(draw(st.integers(0, 5))):
        y: Any = draw(
            st.one_of(st.sampled_from([dims.dim(n) for n in "abc"]), st.integers(1, 2**20))
        )
        op = draw(st.sampled_from(sorted(COMBINE)))
        x = COMBINE[op](x, y)
    return x


values = st.one_of(st.integers(0, 50), st.integers(0, 2**31), st.integers(0, 2**62))


@given(
    st.lists(sizes(), min_size=1, max_size=4),
    st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=6),
)
def test_sizes_are_exact_or_refused(asked: list[Any], calls: list[list[int]]) -> None:
    table, call = size_function(asked, [], 0)
    for given_values in calls:
        env = dict(zip(ATOMS, given_values))
        want = {s: int(dims.substitute(s, env)) for s in table.entries}
        code, entries, _ = call(given_values)
        if code == 0:
            assert {s: entries[table[s]] for s in want} == want
        else:
            # exact arithmetic may still fit where a part of it did not
            assert code == BAD and any(v < 0 or v >= 2**31 for v in (*want.values(), *given_values))


def test_guards_tell_both_sides() -> None:
    a, b = dims.dim("a"), dims.dim("b")
    guards = [(relations.Guard(a, b * 2, "==", ""), 3), (relations.Guard(a, b * 5, "<=", ""), 4)]
    _, call = size_function([a + b], guards, 0)
    assert call([4, 2, 0])[0] == 0
    assert call([5, 2, 0])[::2] == (3, [5, 4])
    _, call = size_function([a + b], guards[1:], 0)
    assert call([11, 2, 0])[::2] == (4, [11, 10]) and call([10, 2, 0])[0] == 0


@pytest.mark.parametrize(("value", "work"), [(3, 27), (2**20, 2**60), (2**40, 2**63 - 1)])
def test_work_saturates(value: int, work: int) -> None:
    a = dims.dim("a")
    _, call = size_function([a], [], a * a * a)
    assert call([value, 0, 0])[:2] == (0, [work, value])


def test_a_divisor_that_is_zero_is_refused() -> None:
    a, b = dims.dim("a"), dims.dim("b")
    _, call = size_function([dims.floordiv(a, b)], [], 0)
    assert call([7, 2, 0])[:2] == (0, [0, 3]) and call([7, 0, 0])[0] == BAD


def test_text_is_deterministic() -> None:
    a = dims.dim("a")
    texts = []
    for _ in range(2):
        table = SizeTable(ATOMS)
        table.add(a * a + 1)
        text = emit_sizes("f", table, [], a, BAD, 64)
        assert isinstance(text, Text)
        texts.append(text.lines)
    assert texts[0] == texts[1]


# --- steps ---


@pytest.mark.parametrize("n", [0, 1, 2, 7])
@pytest.mark.parametrize("backwards", [False, True])
def test_loops(n: int, backwards: bool) -> None:
    xs = sg.array("xs", ("n", 3))
    h = sg.scan(
        lambda x, h: sg.tanh(h * 0.5 + x),
        sequences=xs,
        outputs_info=sg.zeros(3),
        go_backwards=backwards,
    )[0]
    value = np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32)
    got = sg.function([xs], h)(value)
    want = sg.function([xs], h, mode="reference")(value)
    assert got.shape == want.shape and np.allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("flag", [0.0, 1.0])
def test_branches(flag: float) -> None:
    c, x = sg.scalar("c"), sg.vector("x")
    f = sg.function([c, x], sg.cond(c > 0, lambda: x.sum() * 2, lambda: sg.exp(x).max()))
    value = np.array([1, 2, 3], np.float32)
    assert float(f(flag, value)) == pytest.approx(12 if flag else np.exp(3), rel=1e-6)


def test_a_host_call_between_kernels() -> None:
    x = sg.vector("x")
    f = (
        sg.function([x], sg.gammaln(x * 1.0) + x.sum())
        if hasattr(sg, "gammaln")
        else sg.function([x], sg.lgamma(x * 1.0) + x.sum())
    )
    from scipy.special import gammaln

    value = np.array([0.5, 3.0, 7.5], np.float32)
    before = f.profile().host_entries
    assert np.allclose(f(value), gammaln(value) + value.sum(), rtol=1e-5)
    assert f.profile().host_entries == before + 1
    assert "host call: " in f.explain()
    with pytest.raises(sg.HostCallError):
        sg.function([x], sg.lgamma(x), host_calls="forbid")


def test_what_a_host_call_prints_and_raises(capfd: pytest.CaptureFixture[str]) -> None:
    x = sg.vector("x")
    f = sg.function([x], sg.Print("x is")(x) + 1)
    f([1, 2])
    assert capfd.readouterr().out == "x is [1. 2.]\n"


def test_no_python_runs_between_kernels() -> None:
    x = sg.matrix("x")
    w = sg.shared(np.eye(20, dtype=np.float32), "w")
    y = sg.softmax(sg.tanh(x @ w) @ w).sum()
    f = sg.function([x], y, updates={w: w - 0.1 * sg.grad(y, w)})
    value = np.ones((30, 20), np.float32)
    f(value)
    before = f.profile()
    for _ in range(10):
        f(value)
    after = f.profile()
    assert (
        after.calls == before.calls + 10
        and after.host_entries == before.host_entries
        and after.copies == 0
    )


def test_more_steps_than_one_function_holds() -> None:
    x = sg.matrix("x")
    y = x
    for i in range(CHUNK_STEPS + 20):
        y = sg.cumsum(y, axis=i % 2) * 0.5
    f = sg.function([x], y, optimize="none")
    assert f.source("llvm").count("f.part1(") >= 2
    value = np.array([[1, 2], [3, 4]], np.float32)
    assert (
        f(value).tolist() == sg.function([x], y, mode="reference", optimize="none")(value).tolist()
    )


def test_faults_carry_message_and_line() -> None:
    x, y = sg.vector("x"), sg.vector("y")
    f = sg.function(
        [x, y], [sg.assert_(x, x > 0, "x > 0").sum(), sg.assert_(y, y > 0, "y > 0").sum()]
    )
    one, minus = np.ones(2, np.float32), -np.ones(2, np.float32)
    assert [float(v) for v in f(one, one)] == [2, 2]
    for a, b, text in ((minus, one, "x > 0"), (one, minus, "y > 0")):
        with pytest.raises(sg.AssertionFault, match=text) as error:
            f(a, b)
        assert "test_driver.py" in str(error.value)


def test_the_profile_counts_each_kernel() -> None:
    x = sg.vector("x")
    f = sg.function([x], [sg.exp(x).sum(), x * 2], profile=True)
    for _ in range(3):
        f(np.ones(1000, np.float32))
    p = f.profile()
    assert p.calls == 3 and p.rows and all(r.calls == 3 and r.seconds > 0 for r in p.rows)
    assert "share" in str(p)


# --- the C interface ---

MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "f.h"
static void *take(size_t n) {{
  void *p = malloc(n + 1);
  if (fread(p, 1, n, stdin) != n) exit(9);
  return p;
}}
int main(void) {{
  const void *inputs[] = {{ {inputs} 0 }};
  int64_t sizes[] = {{ {sizes} 0 }};
  size_t space = f_workspace_bytes(sizes);
  void *outputs[] = {{ {outputs} 0 }};
  int32_t code = f(inputs, outputs, sizes, malloc(space));
  fwrite(&code, 4, 1, stdout);
  {writes}
  return 0;
}}
"""


def run_elsewhere(
    target: targets.Target,
    tools: tuple[str, str],
    folder: Path,
    inputs: list[Any],
    outputs: list[Any],
    arrays: list[np.ndarray],
) -> Any:
    """Compile ahead of time, link with a C program, run it under the emulator: code and outputs."""
    ahead = compile_ahead(inputs, outputs, target, "f")
    for name, data in ahead.objects.items():
        (folder / name).write_bytes(data)
    (folder / "f.h").write_text(ahead.header)
    want = [
        np.asarray(v)
        for v in sg.function(inputs, outputs, mode="reference", optimize="none")(*arrays)
    ]
    source = MAIN.format(
        inputs="".join(f"take({a.nbytes})," for a in arrays),
        sizes=f"{len(arrays[0])},",
        outputs="".join(f"malloc({w.nbytes + 1})," for w in want),
        writes=" ".join(
            f"fwrite(outputs[{i}], 1, {w.nbytes}, stdout);" for i, w in enumerate(want)
        ),
    )
    (folder / "main.c").write_text(source)
    linker, *emulator = [t for t in tools if t]
    subprocess.run(
        [linker, "-static", "-O1", "-Wall", "-Werror", "main.c", *ahead.objects, "-o", "main"],
        cwd=folder,
        check=True,
        timeout=120,
    )
    done = subprocess.run(
        [*emulator, "./main"],
        cwd=folder,
        input=b"".join(a.tobytes() for a in arrays),
        capture_output=True,
        check=True,
        timeout=120,
    )
    code, at = int.from_bytes(done.stdout[:4], "little", signed=True), 4
    got = []
    for w in want:
        got.append(np.frombuffer(done.stdout, w.dtype, w.size, at).reshape(w.shape))
        at += w.nbytes
    return code, got, want


def elsewhere(name: str) -> Any:
    """A target and its tools; the host needs only a C compiler."""
    target = targets.target(name)
    if target.is_x86:
        import shutil

        if shutil.which("gcc") is None or not targets.detect().is_x86:
            pytest.skip("needs gcc on x86-64")
        return target, ("gcc", "")
    return target, require(target)


@pytest.mark.emulator
@pytest.mark.parametrize("name", ["x86-64-v2", "cortex-a72", "cortex-a7"])
def test_objects_run_on_other_machines(name: str, tmp_path: Path) -> None:
    target, tools = elsewhere(name)
    random = np.random.default_rng(0)
    x, w = sg.array("x", ("n", 7)), sg.constant(random.standard_normal((7, 5)).astype(np.float32))
    scale = sg.shared(np.float32(0.5), "scale")
    h = sg.tanh(x @ w) * scale
    value = random.standard_normal((9, 7)).astype(np.float32)
    code, got, want = run_elsewhere(
        target, tools, tmp_path, [x], [sg.softmax(h, axis=1), h.sum()], [value]
    )
    assert code == 0
    for g, w_ in zip(got, want):
        assert np.allclose(g, w_, rtol=1e-5, atol=1e-6)


@pytest.mark.emulator
@pytest.mark.parametrize("name", ["x86-64-v2", "cortex-a7"])
def test_faults_come_back_as_numbers(name: str, tmp_path: Path) -> None:
    target, tools = elsewhere(name)
    x = sg.array("x", ("n",))
    y = sg.assert_(x, x > 0, "positive") * 2
    code, got, want = run_elsewhere(target, tools, tmp_path, [x], [y], [np.ones(3, np.float32)])
    assert code == 0 and got[0].tolist() == [2, 2, 2]
    assert "1  AssertionFault: positive" in (tmp_path / "f.h").read_text()
