"""Stores past the caches: where they are made, and the same numbers wherever the result begins."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends import jit, targets
from symgraph.backends.emit import CONTEXT_BYTES, FAR, emit
from symgraph.backends.interpret import interpret
from symgraph.backends.legalize import legalize
from symgraph.backends.loops import For, If, Kernel, Let, Store
from symgraph.backends.lower import streaming
from symgraph.backends.plan import plan
from symgraph.backends.program import Launch
from symgraph.backends.verify_loops import verify
from symgraph.dims import atoms, evaluate_dim

NAMES = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
LIMIT = 100  # elements above which a nest outgrows the last cache, here


@pytest.fixture(autouse=True)
def small_caches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if "real_caches" not in request.fixturenames:
        monkeypatch.setattr(streaming, "limit", lambda target, bytes: LIMIT)
    yield


@pytest.fixture
def real_caches() -> None:
    """Thresholds as they are."""


def launch(inputs: list[Any], value: Any, name: str) -> Launch:
    program = plan(inputs, [value], target=targets.target(name))
    (step,) = program.steps
    assert isinstance(step, Launch)
    return step


def streams(kernel: Kernel) -> int:
    """How many stores go past the caches."""
    waiting, count = list(kernel.body), 0
    while waiting:
        s = waiting.pop()
        count += isinstance(s, Store) and s.stream
        waiting += s.body if isinstance(s, For) else ()
        waiting += [*s.body, *s.orelse] if isinstance(s, If) else ()
    return count


SIZES = [0, 1, 15, 16, 17, LIMIT, LIMIT + 1, 300, 16384 + 5, 40_000]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint16", "bool"])
@pytest.mark.parametrize("name", NAMES)
def test_results_begin_anywhere(name: str, dtype: str) -> None:
    x, y = sg.array("x", ("n",), dtype), sg.array("y", ("n",), dtype)
    value = sg.logical_or(x, y) if dtype == "bool" else x * 3 + y
    step = launch([x, y], value, name)
    assert streams(step.kernel) == 1
    verify(step.kernel)
    legal = legalize(step.kernel, targets.target(name))
    verify(legal)
    native = compiled(legal, name)
    rng = np.random.default_rng(0)
    for n in SIZES:
        a, b = ((rng.normal(size=n) * 5).astype(dtype) for _ in "xy")
        want = np.logical_or(a, b) if dtype == "bool" else (a * 3 + b).astype(dtype)
        shifts = range(0, 64 // want.itemsize, 3) if n < 1000 else (1,)
        for shift in shifts:
            check(step, legal, [a, b], want, shift, native)


def check(
    step: Launch, legal: Kernel, arrays: list[Any], want: np.ndarray, shift: int, native: Any
) -> None:
    n, dtype = len(want), want.dtype
    work = {d: 1 for d in step.dims}
    dims = [n if str(d) == "n" else work[d] for d in step.dims] + [0, n]
    for run in (lambda *a: interpret(legal, *a), native):
        if run is None or (run is not native and n > 400):
            continue
        memory = np.ones(n + 160, dtype)
        out = memory[shift + 64 : shift + 64 + n]
        assert run([*arrays, out], dims) == 0
        np.testing.assert_array_equal(out, want)
        assert (memory[: shift + 64] == 1).all() and (memory[shift + 64 + n :] == 1).all()


@pytest.mark.parametrize("columns", [300, 512])
@pytest.mark.parametrize("kind", ["map", "part", "norm", "cube"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_begin_anywhere(name: str, kind: str, columns: int) -> None:
    """In each row the vectors begin where they lie aligned; what is around it is as before."""
    shape: tuple[Any, ...] = ("n", columns)
    if kind == "cube":
        shape = ("n", 3, 2 * columns)
    x, scale = sg.array("x", shape), sg.array("scale", shape[-1:])
    value, reference = {
        "map": lambda: (x * scale + 1, lambda a, s: a * s + 1),
        "part": lambda: (x + scale, lambda a, s: a + s),
        "norm": lambda: (x - sg.max(x, 1, keepdims=True), lambda a, s: a - a.max(1, keepdims=True)),
        "cube": lambda: (x[:, :, ::2] * 2, lambda a, s: a[:, :, ::2] * 2),
    }[kind]()
    inputs = [x, scale] if kind in ("map", "part") else [x]
    step = launch(inputs, value, name)
    assert streams(step.kernel) == 1
    verify(step.kernel)
    legal = legalize(step.kernel, targets.target(name))
    native = compiled(legal, name)
    rng = np.random.default_rng(0)
    for rows, shift in [(0, 0), (1, 0), (1, 3), (2, 5), (7, 1), (7, 16)]:
        arrays = [rng.normal(size=(rows, *shape[1:])), rng.normal(size=shape[-1])][: len(inputs)]
        arrays = [a.astype("float32") for a in arrays]
        want = reference(*arrays, None) if len(arrays) == 1 else reference(*arrays)
        numbers = [evaluate_dim(d, {atom: rows for atom in atoms(d)}) for d in step.dims]
        for run in (lambda *a: interpret(legal, *a), native):
            if run is None or (run is not native and (rows, shift) != (1, 3)):
                continue
            memory = np.ones(want.size + 160, "float32")
            out = memory[shift + 64 : shift + 64 + want.size]
            assert run([*(a.reshape(-1) for a in arrays), out], [*numbers, 0, 10**6]) == 0
            np.testing.assert_array_equal(out.reshape(want.shape), want)
            assert (memory[: shift + 64] == 1).all()
            assert (memory[shift + 64 + want.size :] == 1).all()


def compiled(kernel: Kernel, name: str) -> Any:
    """The kernel as a function of arrays and dims, if this machine can run it."""
    target = targets.target(name)
    if not targets.detect().covers(target):
        return None
    library = jit.load([jit.compile_object(emit(kernel, target), target)], [kernel.name])
    pointers = [ctypes.c_void_p] * (1 + len(kernel.buffers))
    words = [ctypes.c_int64] * len(kernel.dims)
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *pointers, *words)(library.address(kernel.name))

    def call(arrays: list[np.ndarray], dims: list[int]) -> int:
        context = (ctypes.c_int64 * (CONTEXT_BYTES // 8))(FAR)
        return function(context, *(a.ctypes.data for a in arrays), *dims)

    call.library = library  # type: ignore[attr-defined]
    return call


def test_what_streams() -> None:
    """Cheap maps to one array in order, and long enough."""
    x, y = sg.array("x", ("n",)), sg.array("y", ("n", "m"))
    for value, count in [
        (x * 2, 1),
        (y + 1, 1),
        (x.astype("float64"), 1),
        (sg.tanh(x), 0),  # not memory is what it waits for
        (y.T + 1, 16),  # the lines of a square
        (y[:, ::2] + 1, 0),  # rows that may be short
        (sg.array("s", ("n", 513))[:, ::2] + 1, 1),
        (sg.array("s", ("n", 129))[:, ::2] + 1, 0),
        (sg.sum(y, axis=1), 0),
        (x.astype("float16"), 0),
        (sg.array("s", (50,)) * 2, 0),
    ]:
        inputs = [i for i in (x, y, *sg_inputs(value)) if i is not None]
        program = plan(inputs, [value], target=targets.target("x86-64-v4"))
        assert sum(streams(s.kernel) for s in program.steps if isinstance(s, Launch)) == count
    assert streams(launch([x], x * 2, "cortex-a72").kernel) == 0


def sg_inputs(value: Any) -> list[Any]:
    leaves, waiting = [], [value]
    while waiting:
        node = waiting.pop()
        leaves += [node] if node.label == "s" else []
        waiting += node.inputs
    return leaves


def test_a_known_size_needs_no_second_version(real_caches: None) -> None:
    x, small = sg.array("x", (10**8,)), sg.array("x", (10**5,))
    text = emit_for(x)
    assert text.count("!nontemporal") == 1 and "fence seq_cst" in text
    assert sum(isinstance(s, If) for s in launch([x], x * 2, "x86-64-v4").kernel.body) == 0
    assert "nontemporal" not in emit_for(small) and "fence" not in emit_for(small)


def test_only_what_streams_waits_for_its_stores(real_caches: None) -> None:
    """The fence takes as long as the call of a short kernel."""
    x = sg.array("x", ("n",))
    assert isinstance(launch([x], x * 2, "x86-64-v4").kernel.body[0], Let)
    text = emit_for(x)
    assert text.count("fence") == 1
    large, drain = re.search(r"br i1 (%v\d+), label %(drain\d+), ", text).groups()  # type: ignore[union-attr]
    assert re.search(rf"\n{drain}:\n  fence seq_cst\n", text)
    assert re.search(rf"entry:\n  {large} = icmp sgt i64 %d0, \d+\n", text)
    assert text.count(f"br i1 {large},") == 2


def emit_for(x: Any) -> str:
    target = targets.target("x86-64-v4")
    return emit(legalize(launch([x], x * 2, "x86-64-v4").kernel, target), target)


@pytest.mark.parametrize("name", NAMES)
def test_the_instruction(name: str) -> None:
    x, target = sg.array("x", ("n",)), targets.target(name)
    kernel = legalize(launch([x], x * 2, name).kernel, target)
    assert "movnt" in jit.compile_assembly(emit(kernel, target), target)
