"""Every operation on every target: LLVM selects it, no library is needed, an emulator agrees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from symgraph.backends import jit, targets
from symgraph.backends.emit import emit, emit_module
from symgraph.backends.interpret import interpret
from symgraph.backends.loops import INDEX, Block, Buffer, Const, Kernel, Ty, Var
from symgraph.backends.objectfile import symbols
from symgraph.errors import InternalError
from tests.backends import emulator
from tests.backends.loop_cases import EVERY, arrays_of, cases, differences, kernel_of
from tests.backends.loop_kernels import bounded_take, indirect, masked_copy, polling

OTHERS = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "sapphirerapids", "aarch64", "cortex-a72"]
OTHERS += ["cortex-a76", "neoverse-v1", "armv7", "cortex-a15"]


def compile_everything(name: str, lanes: int) -> frozenset[str]:
    """Compile every operation and memory access for a target; the symbols the object asks for."""
    target = targets.target(name)
    kernels = [kernel_of(c) for c in cases(lanes, target.has_fma)]
    for dtype in EVERY:
        kernels.append(masked_copy(dtype, lanes)._replace(name=f"masked_{dtype}"))
        for scatter in (False, True):
            kernel = indirect(dtype, lanes, True, scatter)
            kernels.append(kernel._replace(name=f"indirect_{dtype}_{scatter}"))
    kernels += [polling(), bounded_take()]
    return symbols(jit.compile_object(emit_module(kernels, target), target)).undefined


@pytest.mark.parametrize(
    "name, lanes",
    [("x86-64", 4), ("cortex-a53", 4), ("cortex-a7", 1), ("cortex-a7", 4), ("cortex-a9", 4)]
    + [pytest.param(name, n, marks=pytest.mark.slow) for name in OTHERS for n in (1, 4, 16)],
)
def test_every_operation_selects_without_libraries(name: str, lanes: int) -> None:
    """In a process of its own: LLVM aborts where it cannot select an instruction."""
    code = (
        "from tests.backends.test_emission import compile_everything\n"
        f"print(sorted(compile_everything({name!r}, {lanes})))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=280, cwd=root
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


@pytest.mark.emulator
@pytest.mark.parametrize(
    "name, lanes",
    [("cortex-a53", 4), ("cortex-a7", 4), ("cortex-a9", 1)]
    + [
        pytest.param(name, lanes, marks=pytest.mark.slow)
        for name, lanes in (("cortex-a53", 1), ("cortex-a7", 1), ("cortex-a9", 4))
    ],
)
def test_every_operation_under_the_emulator(name: str, lanes: int, tmp_path: Path) -> None:
    target = targets.target(name)
    emulator.require(target)
    every = list(cases(lanes, target.has_fma))
    kernels = [kernel_of(c) for c in every]
    rng, count = np.random.default_rng(lanes), 96
    given = [[flushed(a, target) for a in arrays_of(c, rng, count)] for c in every]
    got = [[a.copy() for a in arrays] for arrays in given]
    obj = jit.compile_object(emit_module(kernels, target), target)
    calls = [(k, arrays, [count]) for k, arrays in zip(kernels, got)]
    assert set(emulator.run(obj, calls, target, tmp_path)) == {0}
    wrong = []
    for case, kernel, mine, theirs in zip(every, kernels, given, got):
        assert interpret(kernel, mine, [count]) == 0
        signs = case.op not in ("min", "max", "hmin", "hmax") and not target.flushes_subnormals
        pair = (flushed(theirs[-1], target), flushed(mine[-1], target))
        if len(differences(*pair, signs)):
            wrong.append(case.name)
    assert not wrong


def flushed(array: np.ndarray, target: targets.Target) -> np.ndarray:
    """float32 subnormals as zeros where the target's vectors treat them so."""
    if target.flushes_subnormals and array.dtype == np.float32:
        array[np.abs(array) < 2.0**-126] = 0
    return array


@pytest.mark.emulator
@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a7"])
def test_faults_and_polls_under_the_emulator(name: str, tmp_path: Path) -> None:
    target = targets.target(name)
    emulator.require(target)
    take, poll = bounded_take(), polling()
    arrays = [np.arange(4, dtype="f"), np.array([3, 0, -5, 9], np.int32), np.zeros(4, "f")]
    count = [np.zeros(1, np.int64)]
    obj = jit.compile_object(emit_module([take, poll], target), target)
    calls = [(take, arrays, [4, 4]), (poll, count, [100])]
    assert emulator.run(obj, calls, target, tmp_path) == [2, 0]
    assert arrays[2].tolist() == [3, 0, 0, 0] and count[0][0] == 100


def test_fused_multiply_add_is_refused_where_it_would_be_a_call() -> None:
    b, y, f32 = Block(), Buffer("y", "float32", "w"), Ty("float32")
    b.store(y, b.index(0), b.let("fma", *[Const(2.0, f32)] * 3))
    kernel = Kernel("k", (y,), (), tuple(b.stmts))
    with pytest.raises(InternalError, match="no instruction for fma on float32"):
        emit(kernel, targets.target("cortex-a9"))


def test_index_arithmetic_that_is_decided_costs_nothing() -> None:
    b, x, y = Block(), Buffer("x", "float32"), Buffer("y", "float32", "w")
    n = Var("n", Ty(INDEX))
    at = b.let("add", b.let("mul", n, b.index(1)), b.let("mul", b.index(3), b.index(0)))
    b.store(y, b.let("sub", at, b.index(0)), b.load(x, b.let("add", b.index(2), b.index(3))))
    text = emit(Kernel("k", (x, y), (n,), tuple(b.stmts)), targets.target("cortex-a9"))
    assert " = add" not in text and " = mul" not in text and " = sub" not in text
    assert "ptr %b0, i32 5" in text and "ptr %b1, i32 %d0" in text


def test_kernel_names_are_checked() -> None:
    with pytest.raises(InternalError, match="is not an identifier"):
        emit(Kernel('f"() {', (), (), ()), targets.target("x86-64"))
