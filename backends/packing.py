"""Copies a panel of B into the order in which a register tile reads it: row by row of the panel.

    target[start + k * columns + n] = B (k, n) as the dtype of the sums, for k < steps, n < columns

What lands in columns beyond the last one of B is not specified, and never used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .loops import INDEX, Block, Buffer, LoopBlock, Ty, Value
from .microkernel import Tile, offset

# Side of the blocks that are transposed in registers. With 8 a product of 512 x 512 is 3 % faster,
# but LLVM, slow at long shuffles, takes 13 ms longer over the kernel.
SQUARE = 4


class Source(NamedTuple):
    """Where the panel is: element (k, n) at `buffer[start + k * row + n * column]`.

    unit: the axis that is known to be contiguous, "n", "k" or None; left: columns from `start` to
    the end of B; masks: whether masked loads are cheap.
    """

    buffer: Buffer
    start: Value
    row: Value
    column: Value
    unit: str | None
    left: Value
    masks: bool


class Destination(NamedTuple):
    """Where it goes: `steps` rows, from `start` on; index_dtype: the integer dtype of an index."""

    buffer: Buffer
    start: Value
    steps: Value
    index_dtype: str


def pack(b: Block, tile: Tile, source: Source, target: Destination) -> None:
    """Emit the copy of one panel, `tile.columns` wide."""
    _PACK[source.unit if tile.lanes > 1 else None](b, tile, source, target)


def _rows(b: Block, tile: Tile, source: Source, target: Destination) -> None:
    """Columns are contiguous: vector copies; without masks a narrow panel goes by elements."""
    if source.masks:
        _copy(b, tile, source, target, masked=True)
        return
    whole = b.let("ge", source.left, b.index(tile.columns))
    b.branch(
        whole,
        lambda t: _copy(t, tile, source, target, masked=False),
        lambda t: _gather(t, tile, source, target),
    )


def _copy(b: Block, tile: Tile, source: Source, target: Destination, masked: bool) -> tuple[()]:
    masks: list[Value | None] = [None] * tile.vectors
    if masked:
        iota = b.let("iota", type=Ty(INDEX, tile.lanes))
        for j in range(tile.vectors):
            left = b.splat(offset(b, source.left, -j * tile.lanes), tile.lanes)
            masks[j] = b.let("lt", iota, left)
    with b.loop(0, target.steps, carries=[source.start, target.start], hint="k") as k:
        at, to = k.carried
        for j, mask in enumerate(masks):
            x = k.load(source.buffer, offset(k, at, j * tile.lanes), tile.lanes, mask)
            to_vector = offset(k, to, j * tile.lanes)
            k.store(target.buffer, to_vector, k.cast(x, target.buffer.dtype))
        k.next(k.let("add", at, source.row), offset(k, to, tile.columns))
    return ()


def _gather(b: Block, tile: Tile, source: Source, target: Destination) -> tuple[()]:
    """Any strides: element by element; beyond the last column, the last again."""
    last = offset(b, source.left, -1)
    with b.loop(0, target.steps, carries=[source.start, target.start], hint="k") as k:
        at, to = k.carried
        with k.loop(0, k.index(tile.columns), hint="n") as n:
            column = n.let("mul", n.let("min", n.var, last), source.column)
            x = n.load(source.buffer, n.let("add", at, column))
            n.store(target.buffer, n.let("add", to, n.var), n.cast(x, target.buffer.dtype))
        k.next(k.let("add", at, source.row), offset(k, to, tile.columns))
    return ()


def _columns(b: Block, tile: Tile, source: Source, target: Destination) -> None:
    """Columns of B run along k: square blocks turned in registers, then the last k one by one.

    The addresses of a block's lines wait in a table on the stack, as in macrokernel.
    """
    side = min(tile.lanes, SQUARE)
    whole = b.let("sub", target.steps, b.let("rem", target.steps, b.index(side)))
    last = offset(b, source.left, -1)
    table = b.alloc(target.index_dtype, side)
    with b.loop(0, b.index(tile.columns), side, hint="n") as n:
        lines = column_starts(n, source, last, table, side)
        start = n.let("add", target.start, n.var)
        with n.loop(0, whole, side, carries=[start], hint="k") as k:
            rows = []
            for line in lines:
                x = k.load(source.buffer, k.let("add", line, k.var), side)
                rows.append(k.cast(x, target.buffer.dtype))
            for s, row in enumerate(transposed(k, rows)):
                k.store(target.buffer, offset(k, k.carried[0], s * tile.columns), row)
            k.next(offset(k, k.carried[0], side * tile.columns))
    to = b.let("add", target.start, b.let("mul", whole, b.index(tile.columns)))
    rest = target._replace(start=to, steps=b.let("sub", target.steps, whole))
    _gather(b, tile, source._replace(start=b.let("add", source.start, whole)), rest)


def column_starts(
    n: LoopBlock, source: Source, last: Value, table: Buffer, side: int
) -> list[Value]:
    """Where `side` columns from n.var on begin (beyond the last, that one), by way of a table."""
    with n.loop(0, n.index(side), hint="i") as i:
        column = i.let("min", i.let("add", n.var, i.var), last)
        start = i.let("add", source.start, i.let("mul", column, source.column))
        i.store(table, i.var, i.cast(start, table.dtype))
    return [n.cast(n.load(table, n.index(s)), INDEX) for s in range(side)]


def transposed(b: Block, rows: list[Value]) -> list[Value]:
    """The transpose of a square of vectors, by log2(lanes) rounds of interleaving.

    A round interleaves vector i with vector i + lanes / 2, which turns the bits of an element's
    flat index by one place; after log2(lanes) rounds row and lane have changed places.
    """
    half = len(rows) // 2
    for _ in range(half.bit_length()):
        pairs = list(zip(rows[:half], rows[half:]))
        rows = [b.let(op, x, y) for x, y in pairs for op in ("ziplo", "ziphi")]
    return rows


_PACK: dict[str | None, Callable[[Block, Tile, Source, Destination], object]] = {
    "n": _rows,
    "k": _columns,
    None: _gather,
}
