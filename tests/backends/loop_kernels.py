"""Hand-written kernels of every kind of statement, and how to compile and compare one."""

from __future__ import annotations

import numpy as np

from symgraph.backends import jit, targets
from symgraph.backends.emit import emit
from symgraph.backends.interpret import interpret
from symgraph.backends.loops import INDEX, Block, Buffer, Const, Kernel, Ty, Var
from symgraph.backends.verify_loops import verify
from tests.backends.loop_cases import differences, native

I32, F32, BOOL, IDX = Ty("int32"), Ty("float32"), Ty("bool"), Ty(INDEX)
n = Var("n", IDX)


def compiled(kernel: Kernel, target: targets.Target | None = None):
    """Verify, emit, compile and load; the result keeps its library alive."""
    target = target or targets.host()
    verify(kernel)
    library = jit.load([jit.compile_object(emit(kernel, target), target)], [kernel.name])
    call = native(library.address(kernel.name), kernel, target)
    call.library = library
    return call


def check(kernel: Kernel, arrays: list[np.ndarray], dims: list[int], status: int = 0) -> None:
    """Interpreter and compiled code give the same status and the same arrays."""
    mine, theirs = [a.copy() for a in arrays], arrays
    assert interpret(kernel, mine, dims) == status
    assert compiled(kernel)(theirs, dims) == status
    for buffer, got, wanted in zip(kernel.buffers, theirs, mine):
        assert not len(differences(got, wanted)), buffer


def scale(lanes: int = 8, access: str = "w") -> Kernel:
    """y = 2 x, vectors and a scalar tail."""
    b, x, y = Block(), Buffer("x", "float32"), Buffer("y", "float32", access)
    full = b.let("sub", n, b.let("rem", n, b.index(lanes)))
    for start, stop, width in ((b.index(0), full, lanes), (full, n, 1)):
        with b.loop(start, stop, width, "parallel") as body:
            value = body.load(x, body.var, width)
            body.store(y, body.var, body.let("mul", value, Const(2.0, Ty("float32", width))))
    return Kernel("scale", (x, y), (n,), tuple(b.stmts))


def masked_copy(dtype: str, lanes: int) -> Kernel:
    """Copy with a masked last vector."""
    b, x, y = Block(), Buffer("x", dtype), Buffer("y", dtype, "w")
    with b.loop(0, n, lanes, "parallel") as body:
        left = body.let("sub", n, body.var)
        counter = body.let("iota", type=Ty(INDEX, lanes))
        mask = body.let("lt", counter, body.splat(left, lanes))
        body.store(y, body.var, body.load(x, body.var, lanes, mask), mask)
    return Kernel("masked", (x, y), (n,), tuple(b.stmts))


def indirect(dtype: str, lanes: int, masked: bool, scatter: bool) -> Kernel:
    """y[i] = x[where[i]] or y[where[i]] = x[i]; masked lanes have indices far outside."""
    b = Block()
    x, y = Buffer("x", dtype), Buffer("y", dtype, "w")
    where, wanted = Buffer("where", "int64"), Buffer("wanted", "bool")
    with b.loop(0, n, lanes) as body:
        index = body.cast(body.load(where, body.var, lanes), INDEX)
        mask = body.load(wanted, body.var, lanes) if masked else None
        if scatter:
            body.store(y, index, body.load(x, body.var, lanes), mask)
        else:
            body.store(y, body.var, body.load(x, index, lanes, mask))
    return Kernel("indirect", (x, where, wanted, y), (n,), tuple(b.stmts))


def bounded_take() -> Kernel:
    """y[i] = x[where[i]], with a fault that reports index and position."""
    b, x, where, y = (
        Block(),
        Buffer("x", "float32"),
        Buffer("w", "int32"),
        Buffer("y", "float32", "w"),
    )
    size = Var("size", IDX)
    with b.loop(0, n) as body:
        index = body.load(where, body.var)
        wide = body.cast(index, INDEX)
        low = body.let("lt", wide, body.index(0))
        body.fault(body.let("or", low, body.let("ge", wide, size)), 1, index, body.var)
        body.store(y, body.var, body.load(x, wide))
    faults = ("never", "index out of range")
    return Kernel("take", (x, where, y), (n, size), tuple(b.stmts), faults)


def prefetching() -> Kernel:
    """y[i] = i, with hints far outside of y."""
    b, y = Block(), Buffer("y", "int64", "w")
    with b.loop(0, n) as body:
        body.prefetch(y, body.let("mul", body.var, body.index(1 << 40)))
        body.store(y, body.var, body.cast(body.var, "int64"))
    return Kernel("prefetching", (y,), (n,), tuple(b.stmts))


def polling() -> Kernel:
    b, y = Block(), Buffer("y", "int64", "rw")
    with b.loop(0, n) as body:
        body.poll(body.index(10))
        count = body.load(y, body.index(0))
        body.store(y, body.index(0), body.let("add", count, Const(1, Ty("int64"))))
    return Kernel("polling", (y,), (n,), tuple(b.stmts))
