"""Copies a panel of B into words: `group` neighbours along k together, column by column.

    target[start + k * columns + n] = B (k * group ... + group - 1, n)    for k < steps, n < columns

Elements beyond the last step are zeros; what lands in columns beyond the last one of B is not
specified, and never used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .loops import INDEX, Block, Const, Ty, Value
from .microkernel import Tile, offset
from .packing import SQUARE, Destination, Source, column_starts, transposed
from .words import SIZE, Words


def pack_words(
    b: Block, words: Words, tile: Tile, source: Source, target: Destination, elements: Value | None
) -> None:
    """Emit the copy of one panel, `tile.columns` wide.

    target.steps: its whole words; elements: the steps of k, if there may be more of them.
    """
    _PACK[source.unit if tile.lanes > 1 else None](b, words, tile, source, target)
    if elements is None:
        return
    done = b.let("mul", target.steps, b.index(words.group))
    rest = b.let("sub", elements, done)
    start = b.let("add", target.start, b.let("mul", target.steps, b.index(tile.columns)))
    at = b.let("add", source.start, b.let("mul", done, source.row))
    more = b.let("gt", rest, b.index(0))
    b.branch(
        more,
        lambda t: _row(
            t, words, tile, source._replace(start=at), target._replace(start=start), rest
        ),
    )


def _rows(b: Block, words: Words, tile: Tile, source: Source, target: Destination) -> tuple[()]:
    """Columns are contiguous: rows of a word are joined; without masks, of whole panels."""
    if source.masks:
        return _joins(b, words, tile, source, target, True)
    whole = b.let("ge", source.left, b.index(tile.columns))
    b.branch(
        whole,
        lambda t: _joins(t, words, tile, source, target, False),
        lambda t: _words(t, words, tile, source, target),
    )
    return ()


def _joins(
    b: Block, words: Words, tile: Tile, source: Source, target: Destination, masked: bool
) -> tuple[()]:
    lanes, pieces = tile.lanes, range(0, tile.columns, tile.lanes)
    masks: list[Value | None] = [None] * len(pieces)
    if masked:
        iota = b.let("iota", type=Ty(INDEX, lanes))
        masks = [b.let("lt", iota, b.splat(offset(b, source.left, -p), lanes)) for p in pieces]
    with b.loop(0, target.steps, carries=[source.start, target.start], hint="k") as k:
        at, to = k.carried
        starts = [at]
        for _ in range(words.group):
            starts.append(k.let("add", starts[-1], source.row))
        for piece, mask in zip(pieces, masks):
            rows = [
                k.load(source.buffer, offset(k, start, piece), lanes, mask) for start in starts[:-1]
            ]
            word = k.let("bitcast", _joined(k, rows), type=Ty(target.buffer.dtype, lanes))
            k.store(target.buffer, offset(k, to, piece), word)
        k.next(starts[-1], offset(k, to, tile.columns))
    return ()


def _joined(b: Block, elements: Sequence[Value]) -> Value:
    """Elements as words, the first in the low bits; scalars or vectors."""
    bits = 8 * SIZE // len(elements)
    word: Value | None = None
    for j, x in enumerate(elements):
        plain = b.let("bitcast", x, type=Ty(f"uint{bits}", x.type.lanes))
        wide = b.cast(plain, "uint32")
        moved = b.let("shl", wide, Const(j * bits, wide.type)) if j else wide
        word = moved if word is None else b.let("or", word, moved)
    assert word is not None
    return word


def _turned(b: Block, words: Words, tile: Tile, source: Source, target: Destination) -> tuple[()]:
    """Columns of B run along k: squares of words turned in registers, the last words one by one.

    The addresses of a square's lines wait in a table on the stack, as in `packing`.
    """
    side = min(tile.lanes, SQUARE)
    whole = b.let("sub", target.steps, b.let("rem", target.steps, b.index(side)))
    last = offset(b, source.left, -1)
    table = b.alloc(target.index_dtype, side)
    line_type = Ty(target.buffer.dtype, side)
    with b.loop(0, b.index(tile.columns), side, hint="n") as n:
        lines = column_starts(n, source, last, table, side)
        start = n.let("add", target.start, n.var)
        with n.loop(0, whole, side, carries=[start], hint="k") as k:
            by = k.let("mul", k.var, k.index(words.group))
            rows: list[Value] = []
            for line in lines:
                x = k.load(source.buffer, k.let("add", line, by), side * words.group)
                rows.append(k.let("bitcast", x, type=line_type))
            for s, row in enumerate(transposed(k, rows)):
                k.store(target.buffer, offset(k, k.carried[0], s * tile.columns), row)
            k.next(offset(k, k.carried[0], side * tile.columns))
    done = b.let("mul", whole, b.index(words.group))
    rest = target._replace(
        start=b.let("add", target.start, b.let("mul", whole, b.index(tile.columns))),
        steps=b.let("sub", target.steps, whole),
    )
    at = b.let("add", source.start, b.let("mul", done, source.row))
    return _words(b, words, tile, source._replace(start=at), rest)


def _words(b: Block, words: Words, tile: Tile, source: Source, target: Destination) -> tuple[()]:
    """Any strides: word by word."""
    step = b.let("mul", source.row, b.index(words.group))
    with b.loop(0, target.steps, carries=[source.start, target.start], hint="k") as k:
        at, to = k.carried
        here = source._replace(start=at)
        _row(k, words, tile, here, target._replace(start=to), k.index(words.group))
        k.next(k.let("add", at, step), offset(k, to, tile.columns))
    return ()


def _row(
    b: Block, words: Words, tile: Tile, source: Source, target: Destination, left: Value
) -> tuple[()]:
    """A word of each column, of `left` elements; beyond the last column, the last again."""
    last = offset(b, source.left, -1)
    with b.loop(0, b.index(tile.columns), hint="n") as n:
        column = n.let("mul", n.let("min", n.var, last), source.column)
        at: Value = n.let("add", source.start, column)
        elements: list[Value] = []
        for j in range(words.group):
            elements.append(n.load(source.buffer, at, 1, n.let("lt", n.index(j), left)))
            at = n.let("add", at, source.row)
        word = _joined(n, elements)
        value = n.let("bitcast", word, type=Ty(target.buffer.dtype))
        n.store(target.buffer, n.let("add", target.start, n.var), value)
    return ()


_PACK: dict[str | None, Callable[[Block, Words, Tile, Source, Destination], object]] = {
    "n": _rows,
    "k": _turned,
    None: _words,
}
