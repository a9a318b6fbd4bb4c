"""Copies a panel of B into the order the register tile reads: for each k one row of the panel's columns, contiguous."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .loops import INDEX, Block, Buffer, Ty, Value
from .microkernel import ACCUMULATE, Tile, offset

SQUARE = 4  # side of the blocks transposed in registers; 8 is 2 % faster in a product, and 13 ms slower to compile


class Source(NamedTuple):
    """A block of B in memory: element (k, n) is `buffer[start + k * row + n * column]`.

    unit: which axis is known to be contiguous, "n", "k" or None (its stride argument is then not read).
    columns: how many there are from `start` on (index); beyond are masked off or read from the last one.
    """

    buffer: Buffer
    start: Value
    row: Value
    column: Value
    unit: str | None
    columns: Value
    masks: bool  # whether masked loads are cheap
    index_dtype: str  # the integer dtype of an index


def pack(
    b: Block, dtype: str, tile: Tile, source: Source, target: Buffer, start: Value, count: Value
) -> None:
    """target[start + k * tile.columns + n] = source (k, n) for k < count, cast to the dtype of the sums.

    What lands in columns beyond the source's last is not specified, and never used.
    """
    _PACK[source.unit if tile.lanes > 1 else None](b, dtype, tile, source, target, start, count)


def _copy(b, dtype, tile, source, target, start, count) -> None:
    """Columns are contiguous: vector copies, masked in a narrow panel; without masks that one goes by elements."""

    def copy(t: Block, masked: bool) -> tuple[()]:
        masks = [_inside(t, source, tile, j) if masked else None for j in range(tile.vectors)]
        with t.loop(0, count, carries=[source.start, start], hint="k") as k:
            at, to = k.carried
            for j, mask in enumerate(masks):
                x = k.load(source.buffer, offset(k, at, j * tile.lanes), tile.lanes, mask)
                k.store(target, offset(k, to, j * tile.lanes), k.cast(x, ACCUMULATE[dtype]))
            k.next(k.let("add", at, source.row), offset(k, to, tile.columns))
        return ()

    def gather(t: Block) -> tuple[()]:
        _gather(t, dtype, tile, source, target, start, count)
        return ()

    if source.masks:
        copy(b, True)
    else:
        whole = b.let("ge", source.columns, b.index(tile.columns))
        b.branch(whole, lambda t: copy(t, False), gather)


def _inside(b: Block, source: Source, tile: Tile, j: int) -> Value:
    """Which lanes of the panel's vector j the source has."""
    left = offset(b, source.columns, -j * tile.lanes)
    return b.let("lt", b.let("iota", type=Ty(INDEX, tile.lanes)), b.splat(left, tile.lanes))


def _gather(b, dtype, tile, source, target, start, count) -> None:
    """Any strides: element by element."""
    last = b.let("sub", source.columns, b.index(1))
    with b.loop(0, count, hint="k") as k:
        row = k.let("add", source.start, k.let("mul", k.var, source.row))
        to = k.let("add", start, k.let("mul", k.var, k.index(tile.columns)))
        with k.loop(0, k.index(tile.columns), hint="n") as n:
            column = n.let("mul", n.let("min", n.var, last), source.column)
            x = n.load(source.buffer, n.let("add", row, column))
            n.store(target, n.let("add", to, n.var), n.cast(x, ACCUMULATE[dtype]))


def _transpose(b, dtype, tile, source, target, start, count) -> None:
    """Rows are contiguous along k: square blocks turned in registers, then the last k one by one.

    The addresses of a block's rows wait in a table on the stack, see macrokernel.
    """
    side, accumulate = min(tile.lanes, SQUARE), ACCUMULATE[dtype]
    whole = b.let("sub", count, b.let("rem", count, b.index(side)))
    last = offset(b, source.columns, -1)
    table = b.alloc(source.index_dtype, side)
    with b.loop(0, b.index(tile.columns), side, hint="n") as n:
        with n.loop(0, n.index(side), hint="i") as i:
            column = i.let("min", i.let("add", n.var, i.var), last)
            line = i.let("add", source.start, i.let("mul", column, source.column))
            i.store(table, i.var, i.cast(line, source.index_dtype))
        lines = [n.cast(n.load(table, n.index(i)), INDEX) for i in range(side)]
        with n.loop(0, whole, side, carries=[n.let("add", start, n.var)], hint="k") as k:
            rows: list[Value] = [
                k.cast(k.load(source.buffer, k.let("add", line, k.var), side), accumulate)
                for line in lines
            ]
            for i, row in enumerate(transposed(k, rows)):
                k.store(target, offset(k, k.carried[0], i * tile.columns), row)
            k.next(offset(k, k.carried[0], side * tile.columns))
    rest = source._replace(start=b.let("add", source.start, whole), row=b.index(1))
    to = b.let("add", start, b.let("mul", whole, b.index(tile.columns)))
    _gather(b, dtype, tile, rest, target, to, b.let("sub", count, whole))


def transposed(b: Block, rows: list[Value]) -> list[Value]:
    """The transpose of a square of vectors: log2(lanes) rounds of interleaving halves.

    Each round interleaves vector i with vector i + n/2, a perfect shuffle of the square's flat index; after
    log2(lanes) of them row and column bits have changed places.
    """
    half = len(rows) // 2
    for _ in range(half.bit_length()):
        rows = [
            b.let(op, x, y) for x, y in zip(rows[:half], rows[half:]) for op in ("ziplo", "ziphi")
        ]
    return rows


_PACK: dict[str | None, Callable[..., None]] = {"n": _copy, "k": _transpose, None: _gather}
