"""One small kernel for every operation, dtype and number of lanes, with inputs at its edges."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from symgraph.backends.interpret import numpy_dtype
from symgraph.backends.loops import ARITY, COMPARE, INDEX, Block, Buffer, Kernel, Ty, Var
from symgraph.backends.targets import Target
from symgraph.backends.verify_loops import _KINDS, _REDUCE_KINDS

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
FLOATS = ("float32", "float64")
HALVES = ("float16", "bfloat16")
EVERY = ("bool", *INTEGERS, *FLOATS, *HALVES)
BY_KIND = {"i": SIGNED, "u": UNSIGNED, "f": FLOATS, "h": HALVES, "b": ("bool",)}


class Case(NamedTuple):
    """`out = op(inputs)`: dtypes of the inputs and of the output."""

    op: str
    inputs: tuple[str, ...]
    output: str
    lanes: int
    scalar_output: bool = False

    @property
    def name(self) -> str:
        return "_".join([self.op, *self.inputs, "to", self.output, str(self.lanes)])


def cases(lanes: int, fma: bool = True) -> Iterator[Case]:
    """Every operation on every dtype it takes, at `lanes` lanes."""
    for op, kinds in _KINDS.items():
        if op == "fma" and not fma:
            continue
        for dtype in (d for kind in kinds for d in BY_KIND[kind]):
            output = "bool" if op in COMPARE else dtype
            yield Case(op, (dtype,) * ARITY[op], output, lanes)
    for dtype in EVERY:
        yield Case("select", ("bool", dtype, dtype), dtype, lanes)
        for wanted in EVERY:
            yield Case("cast", (dtype,), wanted, lanes)
            if dtype in FLOATS and wanted in INTEGERS:
                yield Case("fastcast", (dtype,), wanted, lanes)
    yield Case("scaleb", ("float32", "float32"), "float32", lanes)
    yield Case("lookup", ("uint32",), "float32", lanes)
    for source, wanted in BITCASTS:
        yield Case("bitcast", (source,), wanted, lanes)
    if lanes > 1:
        yield from _vector_cases(lanes)


BITCASTS = [
    (a, b)
    for group in (
        ("float32", "int32", "uint32"),
        ("float64", "int64", "uint64"),
        ("float16", "bfloat16", "int16", "uint16"),
        ("int8", "uint8"),
    )
    for a in group
    for b in group
]


def _vector_cases(lanes: int) -> Iterator[Case]:
    for op, kinds in _REDUCE_KINDS.items():
        for dtype in (d for kind in kinds for d in BY_KIND[kind]):
            yield Case(op, (dtype,), dtype, lanes, scalar_output=True)
    for dtype in EVERY:
        yield Case("reverse", (dtype,), dtype, lanes)
        yield Case("swap", (dtype,), dtype, lanes)
        yield Case("ziplo", (dtype, dtype), dtype, lanes)
        yield Case("ziphi", (dtype, dtype), dtype, lanes)
        yield Case("extract", (dtype,), dtype, lanes, scalar_output=True)
        yield Case("insert", (dtype, dtype), dtype, lanes)
        yield Case("splat", (dtype,), dtype, lanes)


#: entries of lookups: a full table and shorter ones
TABLES = [tuple(map(float, range(100, 100 + 2**k))) for k in (4, 3, 0)]


def kernel_of(case: Case) -> Kernel:
    """for i in range(0, n, lanes): out[i] = op(inputs[i])."""
    b = Block()
    inputs = [Buffer(f"in{i}", dtype) for i, dtype in enumerate(case.inputs)]
    out, n = Buffer("out", case.output, "w"), Var("n", Ty(INDEX))
    with b.loop(0, n, case.lanes, "parallel") as body:
        args = [body.load(x, body.var, case.lanes) for x in inputs]
        where = body.var
        if case.op == "splat":
            args = [body.let("extract", args[0], type=Ty(case.inputs[0]), attr=1)]
        if case.op == "insert":
            args[1] = body.let("extract", args[1], type=Ty(case.inputs[1]), attr=0)
        if case.scalar_output:
            where = body.let("div", body.var, body.index(case.lanes))
        attr = case.lanes - 1 if case.op in ("extract", "insert") else None
        if case.op == "lookup":
            attr = TABLES[case.lanes.bit_length() % len(TABLES)]
        ty = Ty(case.output, 1 if case.scalar_output else case.lanes)
        body.store(out, where, body.let(case.op, *args, type=ty, attr=attr))
    return Kernel(case.name, (*inputs, out), (n,), tuple(b.stmts))


def arrays_of(case: Case, rng: np.random.Generator, count: int = 96) -> list[np.ndarray]:
    """Inputs full of special values that keep the operation's contract, and an output."""
    inputs = [samples(dtype, rng, count) for dtype in case.inputs]
    if case.op in ("div", "rem") and case.inputs[0] in INTEGERS:
        y = inputs[1]
        y[y == 0] = 1
        if y.dtype.kind == "i":
            y[(y == -1) & (inputs[0] == np.iinfo(y.dtype).min)] = 1
    if case.op in ("shl", "shr"):
        inputs[1] = (inputs[1].astype(np.int64) % (8 * inputs[1].itemsize)).astype(inputs[1].dtype)
    if case.op == "scaleb":
        x, power = inputs
        near = rng.random(count) < 0.7
        power[near] = rng.uniform(-300, 300, near.sum()).astype(np.float32)
        x[~np.isfinite(x) & np.isinf(power)] = 1
    if case.op == "fastcast":
        info, x = np.iinfo(case.output), inputs[0]
        with np.errstate(invalid="ignore"):
            fits = (x > float(info.min) - 0.5) & (x < float(info.max) / 1.01)
        x[~fits] = 7.75
    size = count // case.lanes if case.scalar_output else count
    return [*inputs, np.zeros(size, numpy_dtype(case.output))]


def samples(dtype: str, rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` values: edges of the dtype mixed with random ones of every magnitude."""
    numpy = numpy_dtype(dtype)
    if dtype == "bool":
        return rng.random(count) < 0.5
    if dtype in INTEGERS:
        info = np.iinfo(numpy)
        edges = [
            0,
            1,
            2,
            3,
            info.max,
            info.max - 1,
            info.max // 2,
            info.min,
            info.min + 1,
            info.min // 2,
        ]
        random = rng.integers(info.min, info.max, count, numpy, endpoint=True)
        small = rng.integers(max(info.min, -20), 20, count).astype(numpy)
        values = np.where(rng.random(count) < 0.5, random, small)
        pick = rng.random(count) < 0.3
        values[pick] = np.array(edges, numpy)[rng.integers(0, len(edges), pick.sum())]
        return values
    with np.errstate(all="ignore"):
        return _float_samples(dtype, rng, count).astype(numpy)


def _float_samples(dtype: str, rng: np.random.Generator, count: int) -> np.ndarray:
    tiny, huge = _EXTREMES[dtype]
    edges = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -0.5, -2.5, 0.49999997, np.inf, -np.inf, np.nan]
    edges += [tiny, -tiny, 3 * tiny, huge, -huge, 2.0**23, 2.0**52 + 1, 2.0**31, -(2.0**31)]
    edges += [2.0**63, 2.0**64, 65504.0, 65519.9, 65520.0, 127.5, 255.9, -128.9, 2.0**-14, 2.0**-24]
    scales = np.exp2(rng.uniform(-30, 70, count))
    values = rng.standard_normal(count) * np.where(rng.random(count) < 0.5, 3.0, scales)
    pick = rng.random(count) < 0.5
    values[pick] = np.array(edges)[rng.integers(0, len(edges), pick.sum())]
    return values


_EXTREMES = {
    "float32": (2.0**-149, 3.4028234663852886e38),
    "float64": (5e-324, 1.7976931348623157e308),
    "float16": (2.0**-24, 65504.0),
    "bfloat16": (2.0**-133, 3.3895313892515355e38),
}


def native(address: int, kernel: Kernel, target: Target):
    """A Python callable (arrays, dims, context=None) -> status for a loaded kernel."""
    index = ctypes.c_int64 if target.pointer_bits == 64 else ctypes.c_int32
    pointers = [ctypes.c_void_p] * (1 + len(kernel.buffers))
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *pointers, *[index] * len(kernel.dims))(address)

    def call(arrays: list[np.ndarray], dims: list[int], context: np.ndarray | None = None) -> int:
        if context is None:
            context = np.array([1 << 62, 0, 0, 0], np.int64)
        return function(context.ctypes.data, *(a.ctypes.data for a in arrays), *dims)

    return call


def differences(got: np.ndarray, wanted: np.ndarray, signed_zero: bool = True) -> np.ndarray:
    """Positions where two results differ: bits for integers; for floats any NaN equals any NaN."""
    if got.dtype.kind in "biu":
        return np.flatnonzero(got != wanted)
    g, w = got.astype(np.float64), wanted.astype(np.float64)
    same = (g == w) | (np.isnan(g) & np.isnan(w))
    if signed_zero:
        same &= (np.signbit(g) == np.signbit(w)) | np.isnan(w)
    return np.flatnonzero(~same)
