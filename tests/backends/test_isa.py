"""Declared instructions: their meaning against NumPy, and the hardware against their meaning."""

from __future__ import annotations

import numpy as np
import pytest

from symgraph.backends import isa, jit, targets
from symgraph.backends.emit import emit
from symgraph.backends.interpret import interpret, numpy_dtype
from symgraph.backends.legalize import legalize
from symgraph.backends.loops import INDEX, Block, Buffer, Kernel, Ty, Var
from symgraph.backends.verify_loops import verify
from symgraph.errors import InternalError
from tests.backends.loop_cases import native

LANES = (1, 2, 4, 8, 16)
TARGETS = (
    "x86-64",
    "x86-64-v3",
    "x86-64-v4",
    "cascadelake",
    "alderlake,+avxvnniint8",
    "znver4",
    "cortex-a53",
    "cortex-a76",
    "neoverse-v1",
    "cortex-a7",
)
ROWS = 64


def kernel_of(name: str, lanes: int) -> Kernel:
    """sums[i] = dot(sums[i], x[i], y[i]) for each vector."""
    kind, b = isa.INSTRUCTIONS[name], Block()
    x, y, sums = Buffer("x", kind.x), Buffer("y", kind.y), Buffer("sums", kind.total, "rw")
    n = Var("n", Ty(INDEX))
    with b.loop(0, n, lanes) as body:
        at = body.let("mul", body.var, body.index(kind.group))
        operands = [body.load(v, at, kind.group * lanes) for v in (x, y)]
        total = body.load(sums, body.var, lanes)
        body.store(sums, body.var, body.let("dot", total, *operands, attr=name))
    return Kernel(f"{name}_{lanes}", (x, y, sums), (n,), tuple(b.stmts))


def arrays(name: str) -> list[np.ndarray]:
    kind, rng = isa.INSTRUCTIONS[name], np.random.default_rng(3)
    if kind.total == "float32":
        return [_floats(rng, d, n) for d, n in ((kind.x, 2), (kind.y, 2), ("float32", 1))]
    found = []
    for dtype, size in ((kind.x, kind.group), (kind.y, kind.group), (kind.total, 1)):
        info = np.iinfo(dtype)
        data = rng.integers(info.min, info.max, ROWS * size, dtype, endpoint=True)
        data[: 4 * size] = np.repeat([info.min, info.max, info.min, info.max], size)
        found.append(data)
    return found


def _floats(rng: np.random.Generator, dtype: str, size: int) -> np.ndarray:
    """Numbers of all magnitudes, and some that are none."""
    with np.errstate(over="ignore"):
        data = rng.standard_normal(ROWS * size) * 2.0 ** rng.integers(-130, 60, ROWS * size)
        data[rng.integers(0, data.size, 12)] = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-39] * 2
        return data.astype(numpy_dtype(dtype))


def meant(name: str) -> np.ndarray:
    """The sums by the interpreter."""
    x, y, sums = arrays(name)
    assert interpret(kernel_of(name, 4), [x, y, sums], [ROWS]) == 0
    return sums


@pytest.mark.parametrize("name", [n for n, i in isa.INSTRUCTIONS.items() if "int" in i.total])
def test_meaning_of_integers(name: str) -> None:
    x, y, sums = arrays(name)
    groups = [v.astype(np.int64).reshape(ROWS, -1) for v in (x, y)]
    assert np.array_equal(meant(name), (sums + (groups[0] * groups[1]).sum(1)).astype(sums.dtype))


def test_meaning_of_bfloat16() -> None:
    """Without subnormals at hand: exact products, the odd one added first, two roundings."""
    x, y, sums = arrays("dot_bf16bf16")
    a, b = (v.astype(np.float64).reshape(ROWS, 2) for v in (x, y))
    with np.errstate(all="ignore"):
        first = (sums + a[:, 1] * b[:, 1]).astype(np.float32)
        want = (first + a[:, 0] * b[:, 0]).astype(np.float32)
    parts = [abs(a), abs(b), abs(sums)[:, None], abs(first)[:, None], abs(want)[:, None]]
    normal = np.logical_and.reduce([((p == 0) | ~(p < 2.0**-126)).all(1) for p in parts])
    assert normal.sum() > ROWS // 2
    # float64 holds a product exactly, not always its sum with the total: a tie may be missed
    got = meant("dot_bf16bf16")[normal]
    with np.errstate(all="ignore"):
        near = abs(got - want[normal]) <= 2.0**-23 * abs(want[normal])
    assert (near | (got == want[normal]) | (np.isnan(got) & np.isnan(want[normal]))).all()


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("name", isa.INSTRUCTIONS)
@pytest.mark.parametrize("mask", ["host", "x86-64-v4", "x86-64-v3", "x86-64"])
def test_hardware(name: str, lanes: int, mask: str) -> None:
    """By the instruction where there is one, else by its expansion: the same bits."""
    target = targets.target(mask)
    if not targets.detect().covers(target):
        pytest.skip(f"this machine is no {mask}")
    kernel = kernel_of(name, lanes)
    verify(kernel)
    kernel = legalize(kernel, target)
    library = jit.load([jit.compile_object(emit(kernel, target), target)], [kernel.name])
    x, y, sums = arrays(name)
    assert native(library.address(kernel.name), kernel, target)([x, y, sums], [ROWS]) == 0
    want = meant(name)
    if isa.INSTRUCTIONS[name].total == "float32" and not target.has_fma:
        with np.errstate(all="ignore"):
            near = abs(sums - want) <= 2.0**-22 * (abs(want) + abs(arrays(name)[2]))
        assert (near | (sums == want) | ~np.isfinite(want)).all()
        return
    assert np.array_equal(sums, want, equal_nan=want.dtype.kind == "f")


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_selects(name: str) -> None:
    """What is legal compiles, for every target: none is asked for an instruction it lacks."""
    target = targets.target(name)
    for instruction in isa.INSTRUCTIONS:
        for lanes in LANES:
            kernel = legalize(kernel_of(instruction, lanes), target)
            assert jit.compile_object(emit(kernel, target), target)


def test_instruction_that_is_not_there_is_refused() -> None:
    with pytest.raises(InternalError, match="must be expanded by legalize"):
        emit(kernel_of("dot_u8s8", 16), targets.target("x86-64-v4"))


@pytest.mark.parametrize(
    ("target", "name", "word"),
    [
        ("znver4", "dot_u8s8", "vpdpbusd"),
        ("alderlake", "dot_u8s8", "vpdpbusd"),
        ("alderlake,+avxvnniint8", "dot_s8s8", "vpdpbssd"),
        ("x86-64-v3", "dot_s16s16", "vpmaddwd"),
        ("x86-64", "dot_s16s16", "pmaddwd"),
        ("znver4", "dot_bf16bf16", "vdpbf16ps"),
        ("cortex-a76", "dot_s8s8", "sdot"),
        ("cortex-a76", "dot_u8u8", "udot"),
        ("neoverse-v1", "dot_u8s8", "usdot"),
        ("neoverse-v1", "dot_s8u8", "usdot"),
    ],
)
def test_instruction_is_used(target: str, name: str, word: str) -> None:
    machine = targets.target(target)
    kernel = legalize(kernel_of(name, machine.lanes(4)), machine)
    assert word in jit.compile_assembly(emit(kernel, machine), machine)
