"""Kernels that are no plain nest: permutations, from counters alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from symgraph.dims import SizeLike, product
from symgraph.expr import Expr
from symgraph.ops.random import Permutation

from ..loops import INDEX, Block, Buffer, Const, Kernel, Ty, Value
from ..targets import Target
from ..vmath.philox import philox4x32
from .request import Dims

PHILOX_COST = 100  # operations of a turn: one block of four words
MISS_COST = 200  # of an element somewhere in memory: it waits for its line and its page
TOUCH_COST = 16  # of an element of fresh memory, whose pages the system has to find and clear
TOUCHED = 1 << 12  # elements between polls while memory is touched for the first time


class Special(NamedTuple):
    """kernel buffers: the node's operands (whole arrays), then its result."""

    kernel: Kernel
    dims: tuple[SizeLike, ...]
    work: SizeLike


def permutation(node: Expr, target: Target) -> Special:
    """Fisher and Yates from the last place down; one shuffle after the other."""
    op = node.op
    assert isinstance(op, Permutation)
    state, out = Buffer("state", "uint64", "r"), Buffer("order", "int64", "w")
    out.access = "rw"
    dims = Dims()
    size, rows = dims(op.size), dims(product(op.batch))
    b = Block()
    generator = _Generator(b, state, op.stream, 1)
    with b.loop(0, rows) as row:
        start = row.let("mul", row.var, size)
        with row.loop(0, size, TOUCHED, hint="chunk") as chunk:
            chunk.poll(chunk.index(TOUCH_COST * TOUCHED))
            end = chunk.let("min", chunk.let("add", chunk.var, chunk.index(TOUCHED)), size)
            with chunk.loop(chunk.var, end) as fill:
                fill.store(out, fill.let("add", start, fill.var), fill.cast(fill.var, "int64"))
        with row.loop(1, size) as turn:
            turn.poll(turn.index(PHILOX_COST + MISS_COST))
            i = turn.let("sub", size, turn.var)
            j = _partner(turn, generator, turn.let("add", start, i), i)
            _exchange(turn, out, turn.let("add", start, i), turn.let("add", start, j))
    kernel = Kernel("permutation", (state, out), tuple(dims.vars), tuple(b.stmts))
    return Special(kernel, tuple(dims.sizes), node.array_type.size * PHILOX_COST)


class _Generator:
    """Philox blocks of one draw: the key and the call come from the state, once."""

    def __init__(self, b: Block, state: Buffer, stream: int, lanes: int):
        key, call = (b.load(state, b.index(i)) for i in (0, 1))
        self.key0, self.key1 = (b.splat(x, lanes) for x in _halves(b, key))
        self.call = b.splat(_halves(b, call)[0], lanes)
        self.stream = Const(stream & 0xFFFFFFFF, Ty("uint32", lanes))

    def words(self, b: Block, block: Value) -> list[Value]:
        """The four words of each block number (uint64)."""
        low, high = _halves(b, block)
        return list(philox4x32(b, self.key0, self.key1, low, high, self.call, self.stream))


def _halves(b: Block, x: Value) -> tuple[Value, Value]:
    high = b.let("shr", x, Const(32, x.type))
    return b.cast(x, "uint32"), b.cast(high, "uint32")


def _pairs(b: Block, words: list[Value]) -> list[Value]:
    """Words two by two as uint64, the low half first."""
    wide = [b.cast(w, "uint64") for w in words]
    return [
        b.let("or", low, b.let("shl", high, Const(32, high.type)))
        for low, high in zip(wide[::2], wide[1::2])
    ]


def _partner(b: Block, generator: _Generator, number: Value, i: Value) -> Value:
    """The place to exchange with: the high half of (i + 1) times the draw's 64-bit number."""
    n = b.cast(number, "uint64")
    words = _pairs(b, generator.words(b, b.let("shr", n, Const(1, n.type))))
    odd = b.let("ne", b.let("and", n, Const(1, n.type)), Const(0, n.type))
    drawn = b.let("select", odd, words[1], words[0])
    count = b.let("add", b.cast(i, "uint64"), Const(1, n.type))
    return b.cast(_multiply_high(b, drawn, count), INDEX)


def _multiply_high(b: Block, x: Value, y: Value) -> Value:
    """The high 64 bits of a product of uint64."""
    low, half = Const(0xFFFFFFFF, x.type), Const(32, x.type)
    x_low, y_low = b.let("and", x, low), b.let("and", y, low)
    x_high, y_high = b.let("shr", x, half), b.let("shr", y, half)
    first = b.let(
        "add", b.let("mul", x_high, y_low), b.let("shr", b.let("mul", x_low, y_low), half)
    )
    second = b.let("add", b.let("mul", x_low, y_high), b.let("and", first, low))
    carries = b.let("add", b.let("shr", first, half), b.let("shr", second, half))
    return b.let("add", b.let("mul", x_high, y_high), carries)


def _exchange(b: Block, out: Buffer, i: Value, j: Value) -> None:
    x, y = b.load(out, i), b.load(out, j)
    b.store(out, i, y)
    b.store(out, j, x)


SPECIAL: dict[type, Callable[[Expr, Target], Special]] = {
    Permutation: permutation,
}

__all__ = ["SPECIAL", "Special", "permutation"]
