"""Wrong loop IR is refused, by the verifier and by the interpreter, and all of it prints."""

from __future__ import annotations

import numpy as np
import pytest

from symgraph.backends.interpret import interpret
from symgraph.backends.loops import Block, Buffer, Const, Kernel, Let, Ty, Var
from symgraph.backends.loops_text import to_text
from symgraph.backends.verify_loops import verify
from symgraph.errors import InternalError
from tests.backends.loop_kernels import BOOL, F32, I32, bounded_take, n, scale


def test_printed_form() -> None:
    assert to_text(bounded_take()) == (
        "kernel take(@x: float32 r, @w: int32 r, @y: float32 w; n, size)\n"
        "  fault 0: never\n"
        "  fault 1: index out of range\n"
        "  for i1 in 0..n:\n"
        "    v2: int32 = @w[i1]\n"
        "    t3 = cast(v2)\n"
        "    t4: bool = t3 < 0\n"
        "    t5: bool = t3 >= size\n"
        "    t6: bool = t4 | t5\n"
        "    fault 1 if t6 (v2, i1)\n"
        "    v7: float32 = @x[t3]\n"
        "    @y[i1] = v7\n"
    )


def test_every_statement_prints() -> None:
    b, y = Block(), Buffer("y", "float64", "rw")
    scratch = b.alloc("float64", 4)
    b.poll(b.index(3))
    b.prefetch(y, n)
    with b.loop_while([b.index(0)]) as body:
        after = body.let("add", body.carried[0], body.index(1))
        body.next(after)
        body.again(body.let("lt", after, n))
    cond = b.let("eq", body.results[0], b.index(2))
    (value,) = b.branch(
        cond, lambda a: [Const(1.0, Ty("float64"))], lambda a: [a.load(y, b.index(0))]
    )
    b.store(scratch, b.index(0), value, cond)
    with b.loop(0, n, 4, "reduce", [value]) as loop:
        loop.next(loop.let("call", loop.carried[0], type=Ty("float64"), attr="exp"))
    text = to_text(Kernel("all", (y,), (n,), tuple(b.stmts)))
    assert text.splitlines()[1:] == [
        "  alloc @stack1: float64[4]",
        "  poll 3",
        "  prefetch @y[n] to L1",
        "  do with c3 = 0:",
        "    t4 = c3 + 1",
        "    t5: bool = t4 < n",
        "    next t4 -> r6",
        "    while t5",
        "  t7: bool = r6 == 2",
        "  if t7:",
        "    give 1.0:float64 -> r9",
        "  else:",
        "    v8: float64 = @y[0]",
        "    give v8 -> r9",
        "  @stack1[0] = r9 where t7",
        "  for i10 in 0..n step 4 reduce with c11: float64 = r9:",
        "    t12: float64 = call[exp](c11)",
        "    next t12 -> r13",
    ]


def test_interpreter_refuses_what_would_corrupt() -> None:
    kernel = scale(lanes=4)
    with pytest.raises(InternalError, match="offset 3 is outside @x of 3 elements"):
        interpret(kernel, [np.zeros(3, "f"), np.zeros(8, "f")], [8])
    with pytest.raises(InternalError, match="takes 2 arrays and 1 dims, got 1 and 1"):
        interpret(kernel, [np.zeros(3, "f")], [3])
    with pytest.raises(InternalError, match=r"@x is float32\[\], got float64"):
        interpret(kernel, [np.zeros(3), np.zeros(3, "f")], [3])
    b, y = Block(), Buffer("y", "int32", "w")
    b.store(y, b.index(0), b.let("div", Const(1, I32), Const(0, I32)))
    with pytest.raises(InternalError, match="integer division by zero"):
        interpret(Kernel("k", (y,), (), tuple(b.stmts)), [np.zeros(1, np.int32)], [])


def _kernel(build) -> Kernel:
    b = Block()
    x, y = Buffer("x", "float32"), Buffer("y", "float32", "rw")
    build(b, x, y)
    return Kernel("k", (x, y), (n,), tuple(b.stmts), ("fault",))


def _scope_leak(b: Block, x: Buffer, y: Buffer) -> None:
    with b.loop(0, n) as body:
        value = body.load(x, body.var)
    b.store(y, b.index(0), value)


def _twice(b: Block, x: Buffer, y: Buffer) -> None:
    value = b.load(x, b.index(0))
    b.stmts.append(Let(value, "neg", (value,)))


def _big_frame(b: Block, x: Buffer, y: Buffer) -> None:
    for _ in range(5):
        b.alloc("float32", 4096)


def _bad_carry(b: Block, x: Buffer, y: Buffer) -> None:
    with b.loop(0, n, carries=[Const(0.0, F32)]) as body:
        body.next(body.var)


def _load(b: Block, x: Buffer) -> Var:
    return b.load(x, b.index(0))


BROKEN = {
    "v2 is used where it is not defined": _scope_leak,
    "v1 is defined twice": _twice,
    "at most 16384": lambda b, x, y: b.alloc("float32", 5000),
    r"81920 in all": _big_frame,
    "i1 is index, expected float32": _bad_carry,
    "@x is read only": lambda b, x, y: b.store(x, b.index(0), Const(0.0, F32)),
    "holds float32, not int32": lambda b, x, y: b.store(y, b.index(0), Const(0, I32)),
    "offset is float32": lambda b, x, y: b.load(x, Const(0.0, F32)),
    "@z is not declared here": lambda b, x, y: b.load(Buffer("z", "float32"), b.index(0)),
    "unknown op 'frobnicate'": lambda b, x, y: b.let("frobnicate", _load(b, x)),
    "add takes 2 args, got 1": lambda b, x, y: b.let("add", _load(b, x)),
    "arg is int32, expected float32": lambda b, x, y: b.let("add", _load(b, x), Const(1, I32)),
    "not an operation on float32": lambda b, x, y: b.let("and", _load(b, x), _load(b, x)),
    "not an operation on float16": lambda b, x, y: b.let("add", *[Const(1.0, Ty("float16"))] * 2),
    "result is float32, expected bool": lambda b, x, y: b.let(
        "lt", _load(b, x), _load(b, x), type=F32
    ),
    "1 is float32, expected bool": lambda b, x, y: b.fault(_load(b, x), 0),
    "level 4 of the caches": lambda b, x, y: b.prefetch(x, b.index(0), 4),
    "there are 1 faults": lambda b, x, y: b.fault(Const(True, BOOL), 1),
    "at most two payloads": lambda b, x, y: b.fault(Const(True, BOOL), 0, n, n, n),
    "300 is no uint8": lambda b, x, y: b.let("neg", Const(300, Ty("uint8"))),
    "3 lanes: expected a power of two": lambda b, x, y: b.load(x, b.index(0), 3),
    "unknown dtype 'float8'": lambda b, x, y: b.cast(_load(b, x), "float8"),
    "lanes of result is 2, expected 1": lambda b, x, y: b.let(
        "cast", _load(b, x), type=Ty("int32", 2)
    ),
    "size in bytes is 4, expected 8": lambda b, x, y: b.cast(_load(b, x), "int64", "bitcast"),
    "no lane 4 in float32x4": lambda b, x, y: b.let(
        "extract", b.load(x, b.index(0), 4), type=F32, attr=4
    ),
    "step is not positive": lambda b, x, y: b.loop(0, n, 0).__enter__() and _zero_step(b),
    "expected an integer": lambda b, x, y: b.fault(Const(True, BOOL), 0, _load(b, x)),
}


def _zero_step(b: Block) -> None:
    with b.loop(0, n, 0):
        pass


@pytest.mark.parametrize("message", BROKEN)
def test_verifier_refuses(message: str) -> None:
    with pytest.raises(InternalError, match=message):
        verify(_kernel(BROKEN[message]))
