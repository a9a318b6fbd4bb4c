"""The loop IR end to end: interpreter against compiled code, for every operation and statement."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest

from symgraph.backends import fallback, jit, targets
from symgraph.backends.emit import emit, emit_module
from symgraph.backends.half import expand_cast
from symgraph.backends.interpret import Context, interpret, numpy_dtype
from symgraph.backends.loops import INTERRUPTED, Block, Buffer, Const, Kernel, Let, Ty, Var
from symgraph.backends.verify_loops import verify
from symgraph.errors import InternalError
from tests.backends.loop_cases import (
    EVERY,
    INTEGERS,
    arrays_of,
    cases,
    differences,
    kernel_of,
    native,
    samples,
)
from tests.backends.loop_kernels import (
    F32,
    I32,
    IDX,
    bounded_take,
    check,
    compiled,
    indirect,
    masked_copy,
    n,
    polling,
    prefetching,
    scale,
)

COUNT = 96


@pytest.mark.parametrize(
    "name, lanes",
    [("host", 1), ("host", 16), ("x86-64-v3", 8), ("x86-64", 4)]
    + [
        pytest.param(name, n, marks=pytest.mark.slow) for name, n in (("host", 2), ("x86-64-v2", 4))
    ],
)
def test_every_operation(name: str, lanes: int) -> None:
    target = targets.target(name)
    if not targets.detect().covers(target):
        pytest.skip(f"this machine cannot run {name}")
    every = list(cases(lanes, target.has_fma))
    kernels = [kernel_of(c) for c in every]
    for kernel in kernels:
        verify(kernel)
    obj = jit.compile_object(emit_module(kernels, target), target)
    library = jit.load([obj], [k.name for k in kernels])
    rng, wrong = np.random.default_rng(lanes), []
    for case, kernel in zip(every, kernels):
        arrays = arrays_of(case, rng, COUNT)
        mine = [a.copy() for a in arrays]
        assert interpret(kernel, mine, [COUNT]) == 0
        assert native(library.address(kernel.name), kernel, target)(arrays, [COUNT]) == 0
        zeros = case.op not in ("min", "max", "hmin", "hmax")  # the sign of a zero is open there
        at = differences(arrays[-1], mine[-1], zeros)
        if len(at):
            wrong.append((case.name, int(at[0]), arrays[-1][at[0]], mine[-1][at[0]]))
    assert not wrong


@pytest.mark.parametrize("name", ["x86-64", "cortex-a9"])
@pytest.mark.parametrize("lanes", [1, 4])
def test_expansions_mean_what_they_replace(name: str, lanes: int) -> None:
    """Each fallback, interpreted, equals the interpreted operation itself."""
    target, rng, seen = targets.target(name), np.random.default_rng(7), set()
    for case in cases(lanes, fma=False):
        kernel = kernel_of(case)
        loop = kernel.body[0]
        (let,) = (s for s in loop.body if isinstance(s, Let) and s.op == case.op)
        expand = fallback.expansion(let, target)
        if expand is None:
            continue
        seen.add(case.op)
        b = Block([1000])
        result = expand(b, *let.args)
        body = [s for s in loop.body if s is not let]
        store = body.pop()._replace(value=result)
        expanded = kernel._replace(body=(loop._replace(body=(*body, *b.stmts, store)),))
        verify(expanded)
        arrays = arrays_of(case, rng, COUNT)
        mine = [a.copy() for a in arrays]
        assert interpret(kernel, arrays, [COUNT]) == interpret(expanded, mine, [COUNT]) == 0
        assert not len(differences(mine[-1], arrays[-1])), case.name
    assert {"cast", "rem", "floor", "ceil", "trunc", "roundeven", "scaleb", "lookup"} <= seen


def test_conversions_to_half_round_once() -> None:
    """Exhaustive over the float16 values, their midpoints and the neighbours of those."""
    halves = np.arange(0, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middles = (halves[:-1] + halves[1:]) / 2
    points = np.concatenate([halves, middles, np.nextafter(middles, 0), np.nextafter(middles, 1e9)])
    points = np.concatenate([points, -points])
    for dtype in ("float32", "float64"):
        b, x, y = Block(), Buffer("x", dtype), Buffer("y", "float16", "w")
        lanes = 1 << 8
        with b.loop(0, n, lanes) as body:
            value = body.load(x, body.var, lanes)
            body.store(y, body.var, expand_cast(body, value, "float16", targets.target("x86-64")))
        kernel = Kernel("k", (x, y), (n,), tuple(b.stmts))
        given = np.resize(points, -(-len(points) // lanes) * lanes).astype(dtype)
        got = np.zeros(len(given), np.float16)
        interpret(kernel, [given, got], [len(given)])
        assert not len(differences(got, given.astype(np.float16)))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 41])
def test_vectors_and_tail(size: int) -> None:
    check(scale(), [np.arange(size, dtype="f"), np.zeros(size, "f")], [size])


@pytest.mark.parametrize("dtype", EVERY)
@pytest.mark.parametrize("name", ["host", "x86-64"])
def test_masked_off_memory_is_not_touched(dtype: str, name: str) -> None:
    """Both arrays end where an unmapped page begins."""
    target = targets.target(name)
    if not targets.detect().covers(target):
        pytest.skip(f"this machine cannot run {name}")
    kernel, lanes = masked_copy(dtype, 16), 16
    call = compiled(kernel, target)
    rng = np.random.default_rng(1)
    for size in (1, 5, lanes - 1, lanes, lanes + 3):
        with GuardedArray(size, dtype) as x, GuardedArray(size, dtype) as y:
            x.array[:] = samples(dtype, rng, size)
            assert call([x.array, y.array], [size]) == 0
            assert not len(differences(y.array, x.array))


class GuardedArray:
    """An array whose end is the end of the mapped memory."""

    def __init__(self, size: int, dtype: str):
        page = mmap.PAGESIZE
        self._memory = mmap.mmap(-1, 2 * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._protect = lambda flag: ctypes.CDLL(None).mprotect(
            ctypes.c_void_p(address + page), ctypes.c_size_t(page), flag
        )
        self.array = np.frombuffer(self._memory, np.uint8)[:page][
            page - size * numpy_dtype(dtype).itemsize :
        ].view(numpy_dtype(dtype))

    def __enter__(self) -> GuardedArray:
        assert self._protect(0) == 0
        return self

    def __exit__(self, *_: object) -> None:
        assert self._protect(3) == 0


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int32", "float32", "int64", "float64", "float16"]
)
@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_gather_and_scatter(dtype: str, lanes: int, masked: bool, scatter: bool) -> None:
    rng, size = np.random.default_rng(3), 48
    where = rng.integers(0, size, size)
    wanted = rng.random(size) < 0.6
    if masked:
        where[~wanted] = rng.choice([-(1 << 40), 1 << 40], (~wanted).sum())
    arrays = [samples(dtype, rng, size), where, wanted, samples(dtype, rng, size)]
    check(indirect(dtype, lanes, masked, scatter), arrays, [size])


def test_carries_nested_loops_and_reductions() -> None:
    """Row sums with a vector carry, and a running total across rows."""
    b, x, out = Block(), Buffer("x", "float32"), Buffer("out", "float32", "w")
    rows, columns, lanes = Var("rows", IDX), Var("columns", IDX), 4
    with b.loop(0, rows, carries=[Const(0.0, F32)]) as row:
        base = row.let("mul", row.var, columns)
        zero = Const(0.0, Ty("float32", lanes))
        with row.loop(0, columns, lanes, "reduce", [zero]) as body:
            value = body.load(x, body.let("add", base, body.var), lanes)
            body.next(body.let("add", body.carried[0], value))
        total = row.let("hsum", body.results[0], type=F32)
        row.store(out, row.var, total)
        row.next(row.let("add", row.carried[0], total))
    b.store(out, rows, row.results[0])
    kernel = Kernel("sums", (x, out), (rows, columns), tuple(b.stmts))
    x_array = np.random.default_rng(0).standard_normal(24).astype("f")
    for shape in ((3, 8), (1, 4), (2, 0), (0, 4)):
        check(kernel, [x_array, np.zeros(shape[0] + 1, "f")], list(shape))


@pytest.mark.parametrize(
    "start, stop, step", [(0, 0, 1), (3, 2, 1), (0, 1, 1), (2, 5, 4), (0, 7, 3), (-3, 3, 2)]
)
def test_constant_trip_counts(start: int, stop: int, step: int) -> None:
    b, out = Block(), Buffer("out", "int64", "w")
    with b.loop(start, b.index(stop), step, carries=[b.index(5), b.index(0)]) as body:
        body.next(body.let("add", body.carried[0], body.var), body.carried[0])
    for i, result in enumerate(body.results):
        b.store(out, b.index(i), b.cast(result, "int64"))
    check(Kernel("trips", (out,), (), tuple(b.stmts)), [np.zeros(2, np.int64)], [])


def test_carries_that_swap() -> None:
    """The next values of one carry are the old values of another: phis are parallel."""
    b, out = Block(), Buffer("out", "int32", "w")
    with b.loop(0, n, carries=[Const(1, I32), Const(2, I32), Const(3, I32)]) as body:
        first, second, third = body.carried
        body.next(second, third, first)
    for i, result in enumerate(body.results):
        b.store(out, b.index(i), result)
    for turns in range(5):
        check(Kernel("swap", (out,), (n,), tuple(b.stmts)), [np.zeros(3, np.int32)], [turns])


def test_if_with_results_and_inside_loops() -> None:
    b, x, y = Block(), Buffer("x", "int32"), Buffer("y", "int32", "rw")
    with b.loop(0, n) as body:
        value = body.load(x, body.var)
        negative = body.let("lt", value, Const(0, I32))

        def flip(arm: Block, value=value) -> list:
            return [arm.let("neg", value), Const(1, I32)]

        def inner(arm: Block, value=value) -> list:
            odd = arm.let("ne", arm.let("and", value, Const(1, I32)), Const(0, I32))
            (chosen,) = arm.branch(odd, lambda a: [a.let("mul", value, value)], lambda a: [value])
            return [chosen, Const(2, I32)]

        result, which = body.branch(negative, flip, inner)
        body.store(y, body.var, body.let("add", result, which))
        body.branch(negative, lambda arm, at=body.var: arm.store(y, at, Const(7, I32)) or [])
    kernel = Kernel("branches", (x, y), (n,), tuple(b.stmts))
    x_array = np.array([3, -4, 0, 8, -1, 5], np.int32)
    check(kernel, [x_array, np.zeros(6, np.int32)], [6])


def test_while() -> None:
    """Collatz: how many steps to 1."""
    b, x, y = Block(), Buffer("x", "int64"), Buffer("y", "int64", "w")
    i64 = Ty("int64")
    with b.loop(0, n) as outer:
        with outer.loop_while([outer.load(x, outer.var), Const(0, i64)]) as body:
            value, steps = body.carried
            odd = body.let("ne", body.let("and", value, Const(1, i64)), Const(0, i64))
            half = body.let("shr", value, Const(1, i64))
            tripled = body.let("add", body.let("mul", value, Const(3, i64)), Const(1, i64))
            after = body.let("select", odd, tripled, half)
            body.next(after, body.let("add", steps, Const(1, i64)))
            body.again(body.let("ne", after, Const(1, i64)))
        outer.store(y, outer.var, body.results[1])
    kernel = Kernel("collatz", (x, y), (n,), tuple(b.stmts))
    given, got = np.array([2, 3, 7, 27], np.int64), np.zeros(4, np.int64)
    check(kernel, [given, got], [4])
    assert got.tolist() == [1, 7, 16, 111]


@pytest.mark.parametrize("dtype", EVERY)
def test_stack_arrays(dtype: str) -> None:
    """Reverse blocks of 8 by way of the stack."""
    b, x, y = Block(), Buffer("x", dtype), Buffer("y", dtype, "w")
    with b.loop(0, n, 8) as body:
        scratch = body.alloc(dtype, 8)
        body.store(scratch, body.index(0), body.load(x, body.var, 8))
        with body.loop(0, body.index(8)) as inner:
            value = inner.load(scratch, inner.let("sub", inner.index(7), inner.var))
            inner.store(y, inner.let("add", body.var, inner.var), value)
    given = samples(dtype, np.random.default_rng(5), 24)
    got = np.zeros_like(given)
    check(Kernel("stack", (x, y), (n,), tuple(b.stmts)), [given, got], [24])
    assert not len(differences(got, given.reshape(3, 8)[:, ::-1].ravel()))


def test_a_stack_array_in_a_loop_does_not_grow_the_stack() -> None:
    b, y = Block(), Buffer("y", "int32", "w")
    with b.loop(0, n) as body:
        scratch = body.alloc("int32", 4096)
        body.store(scratch, body.index(9), Const(3, I32))
        body.store(y, body.index(0), body.load(scratch, body.index(9)))
    got = np.zeros(1, np.int32)
    assert compiled(Kernel("stack", (y,), (n,), tuple(b.stmts)))([got], [100_000]) == 0
    assert got[0] == 3


def test_fault() -> None:
    kernel = bounded_take()
    x, y = np.arange(4, dtype="f"), np.zeros(4, "f")
    good, bad = np.array([3, 0, 2, 1], np.int32), np.array([3, 0, -5, 9], np.int32)
    check(kernel, [x, good, y], [4, 4])
    context, native_context = Context(), np.array([1 << 60, 0, 0, 0], np.int64)
    assert interpret(kernel, [x, bad, y.copy()], [4, 4], context) == 2
    assert compiled(kernel)([x, bad, y], [4, 4], native_context) == 2
    assert context.payload == native_context[2:].tolist() == [-5, 2]


def test_a_prefetch_of_anything_is_harmless() -> None:
    for run in (lambda *a: compiled(prefetching())(*a), lambda *a: interpret(prefetching(), *a)):
        y = np.zeros(9, np.int64)
        assert run([y], [9]) == 0 and y.tolist() == list(range(9))


def test_poll_without_a_host_goes_on() -> None:
    y, context = np.zeros(1, np.int64), np.array([35, 0, 0, 0], np.int64)
    assert compiled(polling())([y], [1000], context) == 0
    assert y[0] == 1000 and context[0] > 1 << 60


def test_poll_asks_and_obeys() -> None:
    kernel, asked = polling(), []
    signature = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(ctypes.c_int64))

    @signature
    def host(context) -> int:
        asked.append(context[0])
        context[0] = 95
        return len(asked) == 3

    address = ctypes.cast(host, ctypes.c_void_p).value
    y, context = np.zeros(1, np.int64), np.array([35, address, 0, 0], np.int64)
    assert compiled(kernel)([y], [1000], context) == INTERRUPTED
    assert asked == [-5, -5, -5]
    assert y[0] == 3 + 10 + 10  # what 35 and then twice 95 pay for, the asking ones included
    mine, state = np.zeros(1, np.int64), Context(poll=lambda: False, budget=35)
    assert interpret(kernel, [mine], [1000], state) == INTERRUPTED
    assert mine[0] == 3


def test_equal_kernels_have_equal_text() -> None:
    """The text, hence the cache key, does not depend on names."""
    first, second = scale(), scale()
    host = targets.host()
    renamed = second._replace(buffers=tuple(second.buffers))
    for buffer in renamed.buffers:
        buffer.name = "user's own\n name"
    assert emit(first, host) == emit(renamed, host)


def test_constants() -> None:
    """Every kind of literal arrives bit for bit."""
    values: list[tuple[str, object]] = [("bool", True), ("bool", False)]
    for dtype in INTEGERS:
        info = np.iinfo(dtype)
        values += [(dtype, int(info.min)), (dtype, int(info.max)), (dtype, 0), (dtype, 1)]
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        values += [(dtype, v) for v in (0.0, -0.0, 1.0, -1.5, 0.1, 1e-45, 1e39, -1e39)]
        values += [(dtype, float(v)) for v in ("inf", "-inf", "nan")]
    for lanes in (1, 4):
        kernels, arrays = [], []
        for i, (dtype, value) in enumerate(values):
            b, out = Block(), Buffer("out", dtype, "w")
            b.store(out, b.index(0), Const(value, Ty(dtype, lanes)))
            kernels.append(Kernel(f"k{i}", (out,), (), tuple(b.stmts)))
            arrays.append(np.zeros(lanes, numpy_dtype(dtype)))
        host = targets.host()
        obj = jit.compile_object(emit_module(kernels, host), host)
        library = jit.load([obj], [k.name for k in kernels])
        for kernel, array, (dtype, value) in zip(kernels, arrays, values):
            assert native(library.address(kernel.name), kernel, host)([array], []) == 0
            with np.errstate(all="ignore"):
                wanted = np.full(lanes, value).astype(array.dtype)
            assert not len(differences(array, wanted)), (dtype, value)


def test_calls_run_through_the_function_library() -> None:
    b, x, y = Block(), Buffer("x", "float32"), Buffer("y", "float32", "w")
    b.store(y, b.index(0), b.let("call", b.load(x, b.index(0), 4), attr="exp"))
    kernel = Kernel("k", (x, y), (), tuple(b.stmts))
    verify(kernel)
    given, got = np.array([0.0, 1.0, -2.0, 3.5], "f"), np.zeros(4, "f")
    assert interpret(kernel, [given, got], []) == 0
    np.testing.assert_allclose(got, np.exp(given), rtol=3e-7)
    with pytest.raises(InternalError, match="must be expanded by legalize first"):
        emit(kernel, targets.host())
