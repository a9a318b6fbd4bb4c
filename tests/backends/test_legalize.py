"""Legalizing and simplifying kernels: what is replaced, what is kept, and that nothing changes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symgraph.backends import targets
from symgraph.backends.interpret import interpret
from symgraph.backends.legalize import legalize
from symgraph.backends.loops import (
    INDEX,
    Block,
    Buffer,
    Const,
    Fault,
    For,
    If,
    Kernel,
    Let,
    Stmt,
    Ty,
    Var,
    While,
)
from symgraph.backends.simplify_loops import simplify
from symgraph.backends.verify_loops import verify
from tests.backends.loop_cases import differences, samples
from tests.backends.loop_kernels import compiled
from tests.backends.test_random_loops import random_kernel

F32, F64, I32, IDX, BOOL = (Ty(d) for d in ("float32", "float64", "int32", INDEX, "bool"))
X, Y, N = Buffer("x", "float32"), Buffer("y", "float32", "w"), Var("n", IDX)
U, V = Buffer("u", "int32"), Buffer("v", "int32", "w")


def statements(body: Sequence[Stmt]) -> Iterator[Stmt]:
    """Every statement of a body and of the bodies in it."""
    for stmt in body:
        yield stmt
        if isinstance(stmt, (For, While)):
            yield from statements(stmt.body)
        elif isinstance(stmt, If):
            yield from statements(stmt.body)
            yield from statements(stmt.orelse)


def ops(body: Sequence[Stmt]) -> list[str]:
    return [s.op for s in statements(body) if isinstance(s, Let)]


def of(kernel: Kernel, kind: type) -> list:
    return [s for s in statements(kernel.body) if isinstance(s, kind)]


def kernel_of(build, buffers=(X, Y), name: str = "k") -> Kernel:
    b = Block()
    build(b)
    kernel = Kernel(name, tuple(buffers), (N,), tuple(b.stmts), ("wrong",))
    verify(kernel)
    return kernel


def simplified(build, buffers=(X, Y)) -> Kernel:
    kernel = simplify(kernel_of(build, buffers))
    verify(kernel)
    return kernel


# --- legalize ---


def fused(b: Block) -> None:
    with b.loop(0, N) as body:
        x = body.load(X, body.var)
        body.store(Y, body.var, body.let("fma", x, x, Const(1.0, F32)))


def test_fma_stays_where_it_is_an_instruction() -> None:
    with_fma, without = targets.target("x86-64-v3"), targets.target("x86-64-v2")
    assert ops(legalize(kernel_of(fused), with_fma).body) == ["fma"]
    assert ops(legalize(kernel_of(fused), without).body) == ["mul", "add"]


def everything(b: Block, dtype: str = "float32", lanes: int = 4) -> None:
    """Calls, a float remainder and a half cast, in a loop, a branch and a carry."""
    with b.loop(0, N, lanes, carries=[Const(0.0, Ty(dtype, lanes))]) as body:
        x = body.load(X, body.var, lanes)
        wave = body.let("call", x, type=x.type, attr="sin")
        rest = body.let("rem", wave, body.let("call", x, type=x.type, attr="exp"))
        half = body.cast(body.cast(rest, "float16"), dtype)
        positive = body.let("hand", body.let("gt", x, Const(0.0, x.type)), type=BOOL)
        (picked,) = body.branch(
            positive,
            lambda block: [block.let("call", half, x, type=x.type, attr="pow")],
            lambda block: [half],
        )
        total = body.let("add", body.carried[0], picked)
        body.store(Y, body.var, total)
        body.next(total)


@pytest.mark.parametrize("name", ["host", "x86-64", "x86-64-v3", "cortex-a7", "cortex-a9"])
def test_nothing_is_left_to_expand(name: str) -> None:
    target = targets.target(name)
    legal = legalize(kernel_of(everything), target)
    verify(legal)
    left = set(ops(legal.body))
    assert "call" not in left and "rem" not in left
    assert "fma" not in left or target.has_fma
    assert ops(legalize(legal, target).body) == ops(legal.body)


@pytest.mark.parametrize("name", ["host", "x86-64-v2"])
def test_expansions_compute_what_the_calls_mean(name: str) -> None:
    legal = legalize(kernel_of(everything), targets.target(name))
    x = np.linspace(-6, 6, 40).astype("f").reshape(-1, 4)
    x[3] = abs(x[3])
    out = np.zeros(40, "f")
    assert compiled(legal, targets.target(name))([x.ravel(), out], [40]) == 0
    half = np.fmod(np.sin(x), np.exp(x)).astype(np.float16).astype("f")
    with np.errstate(invalid="ignore"):
        picked = np.where((x > 0).all(axis=1, keepdims=True), np.power(half, x), half)
    np.testing.assert_allclose(out.reshape(-1, 4), np.cumsum(picked, axis=0), rtol=2e-3)


# --- simplify ---


NUMBERS = st.one_of(st.integers(-40, 140), st.integers(-(2**63), 2**63 - 1))
LABELS = Buffer("labels", "int64")


@given(
    NUMBERS,
    st.sampled_from([INDEX, "int64", "float32", "int32"]),
    st.sampled_from(["eq", "ne"]),
    st.booleans(),
    st.sampled_from([0, 3, 2**24, 2**32]),
)
def test_numbers_are_compared_with_counters_in_32_bits(
    number: int, by_way_of: str, op: str, turned: bool, start: int
) -> None:
    """As in 64 bits, whatever the number; and in 64 where a conversion may have rounded."""
    lanes = 8

    def build(b: Block) -> None:
        label = b.splat(b.load(LABELS, b.index(0)), lanes)
        with b.loop(0, N, lanes) as loop:
            counter = loop.let("iota", type=Ty(INDEX, lanes))
            first = loop.let("add", loop.var, loop.index(start))
            counter = loop.let("add", loop.splat(first, lanes), counter)
            counter = loop.cast(loop.cast(counter, by_way_of), "int64")
            pair = (counter, label) if turned else (label, counter)
            hit = loop.let(op, *pair)
            loop.store(Y, loop.var, loop.cast(hit, "float32"))

    kernel = kernel_of(build, (LABELS, Y))
    legal = legalize(kernel, targets.target("x86-64-v3"))
    verify(legal)
    compared = [s.args[0].type.dtype for s in of(legal, Let) if s.op == op]
    assert compared == ["uint32" if by_way_of in (INDEX, "int64") else "int64"]
    arrays = [np.array([number], np.int64), np.zeros(96, "f")]
    mine = [a.copy() for a in arrays]
    assert interpret(kernel, arrays, [96]) == interpret(legal, mine, [96]) == 0
    np.testing.assert_array_equal(mine[1], arrays[1])


@given(st.data())
def test_simplify_changes_no_result(data: st.DataObject) -> None:
    """Random programs with loops, branches, dead values and repeats."""
    lanes = data.draw(st.sampled_from([1, 4]))
    kernel = random_kernel(data, lanes)
    better = simplify(kernel)
    verify(better)
    assert len(ops(better.body)) <= len(ops(kernel.body))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    size = 3 * lanes
    given_arrays = [samples(d, rng, size) for d in ("int32", "float32")]
    runs = []
    for k in (kernel, better):
        arrays = [a.copy() for a in given_arrays] + [np.zeros(size, d) for d in ("i4", "f4")]
        assert interpret(k, arrays, [size]) == 0
        runs.append(arrays)
    for got, want in zip(*runs):
        assert not len(differences(got, want))


def test_common_operations_are_shared() -> None:
    def build(b: Block) -> None:
        with b.loop(0, N) as body:
            x = body.load(X, body.var)
            first, second = (body.let("mul", x, x) for _ in range(2))
            body.store(Y, body.var, body.let("add", first, second))

    assert ops(simplified(build).body) == ["mul", "add"]


def test_zeros_of_both_signs_are_two_constants() -> None:
    def build(b: Block) -> None:
        with b.loop(0, N) as body:
            x = body.load(X, body.var)
            plus, minus = (body.let("add", x, Const(z, F32)) for z in (0.0, -0.0))
            body.store(Y, body.var, body.let("div", plus, minus))

    assert ops(simplified(build).body) == ["add", "add", "div"]


def test_a_branch_does_not_share_with_what_follows() -> None:
    def build(b: Block) -> None:
        x = b.load(X, b.index(0))

        def arm(block: Block) -> list:
            return [block.let("mul", x, x)]

        (r,) = b.branch(b.let("lt", x, Const(0.0, F32)), arm, arm)
        b.store(Y, b.index(0), b.let("add", r, b.let("mul", x, x)))

    assert ops(simplified(build).body).count("mul") == 3


def test_invariants_leave_loops_but_not_branches() -> None:
    def build(b: Block) -> None:
        scale = b.load(X, b.index(0))
        with b.loop(0, N) as rows:
            with rows.loop(0, N) as body:
                twice = body.let("add", scale, scale)
                row = body.let("mul", rows.var, N)
                x = body.load(X, body.let("add", row, body.var))
                (r,) = body.branch(
                    body.let("lt", x, Const(0.0, F32)),
                    lambda block: [block.let("sqrt", scale)],
                    lambda block: [twice],
                )
                body.store(Y, body.var, r)

    kernel = simplified(build)
    assert ops(s for s in kernel.body if not isinstance(s, For)) == ["add"]
    (outer, inner) = of(kernel, For)
    assert ops(s for s in outer.body if not isinstance(s, For)) == ["mul"]
    assert ops(inner.body) == ["add", "lt", "sqrt"]


def test_divisions_that_might_trap_stay_behind_their_guard() -> None:
    def build(b: Block) -> None:
        d = b.load(U, b.index(0))
        with b.loop(0, N) as body:
            body.fault(body.let("eq", d, Const(0, I32)), 0)
            by_value = body.let("div", Const(100, I32), d)
            by_seven = body.let("div", d, Const(7, I32))
            body.store(V, body.var, body.let("add", by_value, by_seven))

    kernel = kernel_of(build, (U, V))
    better = simplify(kernel)
    verify(better)
    (loop,) = of(better, For)
    assert ops(loop.body) == ["div", "add"]
    for k in (kernel, better):
        assert interpret(k, [np.zeros(1, "i4"), np.zeros(3, "i4")], [0]) == 0
        assert interpret(k, [np.zeros(1, "i4"), np.zeros(3, "i4")], [3]) == 1


def test_index_arithmetic_folds() -> None:
    def build(b: Block) -> None:
        offset = b.let("add", b.let("mul", b.index(3), b.index(4)), b.index(0))
        b.store(Y, b.let("mul", offset, b.index(1)), Const(1.0, F32))

    kernel = simplified(build)
    assert not ops(kernel.body)
    assert kernel.body[0].offset == Const(12, IDX)


NUMBERS = np.float32(
    [-np.inf, -1e9, -129, -128.5, -0.5, 0.5, 126.9, 127.5, 255.5, 1e9, np.inf, np.nan]
)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-128.0, 127.0), (-40000.0, 40000.0)])
def test_limits_that_a_cast_sets_as_well_are_left_out(dtype: str, low: float, high: float) -> None:
    out, lanes = Buffer("y", dtype, "w"), len(NUMBERS)

    def build(b: Block) -> None:
        with b.loop(0, N) as body:
            x = body.let("max", body.load(X, body.var), Const(low, F32))
            body.store(out, body.var, body.cast(body.let("min", Const(high, F32), x), dtype))

    kernel = kernel_of(build, (X, out))
    better = simplify(kernel)
    info, (before, after) = np.iinfo(dtype), (np.zeros(lanes, dtype) for _ in range(2))
    gone = {"max"} if low <= info.min else set()
    gone |= {"min"} if high >= info.max else set()
    if "min" not in gone:  # a minimum that stays hides the maximum
        gone = set()
    assert {"max", "min"} - set(ops(better.body)) == gone
    assert interpret(kernel, [NUMBERS, before], [lanes]) == 0
    assert interpret(better, [NUMBERS, after], [lanes]) == 0
    assert np.array_equal(before, after)


def test_a_fold_that_would_wrap_is_left() -> None:
    def build(b: Block) -> None:
        total = b.let("add", Const(2**31 - 1, I32), Const(1, I32))
        b.store(V, b.index(0), total)

    assert ops(simplified(build, (U, V)).body) == ["add"]


def test_decided_loops_and_branches_dissolve() -> None:
    def build(b: Block) -> None:
        for count in (0, 1):
            with b.loop(0, b.index(count), carries=[Const(2.0, F32)]) as body:
                body.next(body.let("sqrt", body.carried[0]))
            b.store(Y, b.index(count), body.results[0])
        (r,) = b.branch(
            Const(False, BOOL),
            lambda block: [block.let("sqrt", Const(1.0, F32))],
            lambda _: [Const(5.0, F32)],
        )
        b.store(Y, b.index(2), r)

    kernel = simplified(build)
    assert not of(kernel, For) and not of(kernel, If)
    assert ops(kernel.body) == ["sqrt"]
    out = np.zeros(3, "f")
    assert interpret(kernel, [np.zeros(1, "f"), out], [0]) == 0
    np.testing.assert_array_equal(out, np.array([2, np.sqrt(np.float32(2)), 5], "f"))


def test_dead_code_goes_and_faults_stay() -> None:
    def build(b: Block) -> None:
        with b.loop(0, N, carries=[Const(0.0, F32)]) as body:
            body.next(body.let("add", body.carried[0], body.load(X, body.var)))
        with b.loop_while([Const(0, I32)]) as again:
            following = again.let("add", again.carried[0], Const(1, I32))
            again.next(following)
            again.again(again.let("lt", following, Const(9, I32)))
        b.fault(b.let("gt", N, b.index(100)), 0)
        b.fault(Const(False, BOOL), 0)

    kernel = simplified(build)
    assert [type(s) for s in kernel.body] == [Let, Fault]


def test_time_is_linear() -> None:
    def chain(length: int) -> Kernel:
        def build(b: Block) -> None:
            with b.loop(0, N) as body:
                x = body.load(X, body.var)
                for k in range(length):
                    x = body.let("add", x, Const(float(k), F32))
                body.store(Y, body.var, x)

        return kernel_of(build)

    def seconds(kernel: Kernel) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            simplify(kernel)
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(chain(16000)) < 12 * seconds(chain(4000))
