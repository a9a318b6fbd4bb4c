"""Rows that a gather or scatter will come to, asked for before their turn.

Where data decides which row is next, no hardware foresees it. The index of a row some turns later
is there already, so the row's first lines are fetched meanwhile; the hardware follows on from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from symgraph.dims import SizeLike, known_le, product
from symgraph.dtypes import dtype
from symgraph.expr import Expr

from ..affine import Strided
from ..loops import INDEX, Buffer
from .indirect import scatter_steps

if TYPE_CHECKING:
    from .values import Values

TURNS = 8  # how far ahead, for rows of several lines
LINES = 16  # of a row that are asked for, at most
FLIGHT = 16  # lines on their way: narrower rows are asked for more turns ahead
LINE = 64  # bytes
NEAR = 1 << 18  # an array of so many bytes is in cache anyway


class _Use(NamedTuple):
    """An array whose rows an index chooses: row k starts at address + k * step."""

    array: Expr
    buffer: Buffer
    address: Strided
    step: SizeLike

    @property
    def bytes(self) -> int:
        """Of an element."""
        return dtype(self.buffer.dtype).bytes

    def lines(self, size: SizeLike) -> int:
        """How many lines of a row of so many elements are asked for."""
        return min(LINES, -(-size * self.bytes // LINE)) if isinstance(size, int) else LINES


def rows_ahead(v: Values, number: int, level: int) -> None:
    """Prefetch what entry `number`, an index made in open loop `level`, will say in some turns.

    Only for an index that is read from memory as it is, one of each turn of its loop, and that
    chooses rows the lanes go along.
    """
    raw = v.entries[v.entries[number].args[0]]
    axis = v.open_axes[level - 1] if level else None
    vector = v.space.vector
    if raw.kind != "load" or axis is None or vector is None or axis == vector:
        return
    assert raw.address is not None
    stride = v.space.strides(raw.address)[axis]
    uses = [use for use in _uses(v, number) if v.space.strides(use.address)[vector] == 1]
    if stride == 0 or not uses:
        return
    b = v.blocks[level]
    turn = v.index[axis]
    widest = max(use.lines(v.space.sizes[vector]) for use in uses)
    last = b.let("sub", v.dims(v.space.sizes[axis]), b.index(1))
    later = b.let("min", b.let("add", turn, b.index(max(TURNS, FLIGHT // widest))), last)
    here, _ = v._address(raw.address, level)
    ahead = b.let("mul", b.let("sub", later, turn), v.dims(stride))
    index = b.load(v.read_buffers[id(raw.node)], b.let("add", here, ahead))
    for use in uses:
        start, _ = v._address(use.address, level)
        row = b.let("mul", b.cast(index, INDEX), v.dims(use.step))
        row = b.let("add", start, row)
        step = LINE // use.bytes
        stop = b.let("min", v.dims(v.space.sizes[vector]), b.index(LINES * step))
        with b.loop(0, stop, step, hint="line") as loop:
            loop.prefetch(use.buffer, loop.let("add", row, loop.var))


def _uses(v: Values, number: int) -> Iterator[_Use]:
    """Arrays that are large, and whose rows this index alone chooses."""
    for e in v.entries:
        if e.kind == "gather" and e.args == (number,) and not _is_near(e.node):
            assert e.address is not None
            yield _Use(e.node, v.read_buffers[id(e.node)], e.address, e.steps[0])
    for k, root in enumerate(v.nest.roots):
        node = root.scatter
        if node is not None and v.root_indices[k] == (number,) and not _is_near(node):
            yield _Use(node, v.write_buffers[k], root.target, scatter_steps(node)[0])


def _is_near(array: Expr) -> bool:
    type = array.array_type
    return known_le(product(type.shape) * type.dtype.bytes, NEAR) is True
