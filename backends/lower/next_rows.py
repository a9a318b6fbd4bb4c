"""The rows that a reduction into columns comes to next, asked for while it reads these.

Rows that are read together are as many streams, and each of them ends soon: hardware foresees that
badly. So where vectors of some rows are read, there are hints for the same columns of the next.

The hints go to the second-level cache: the rows of two turns would overflow the first. Where all
that is read may lie in a cache since the last call, they are passed over, for they take the time
of a load each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from symgraph.dims import known_le, product

from ..affine import Strided
from ..irtext import BYTES
from ..loops import Block, Buffer, Value
from .ahead import LINE

if TYPE_CHECKING:
    from .values import Values

LEVEL = 2  # of the cache that rows are asked into
SHARE = 4  # the part of the last-level cache that an array may still be in, in the next call


class Stream(NamedTuple):
    """What is read row by row."""

    buffer: Buffer
    address: Strided

    @property
    def bytes(self) -> int:
        """Of an element."""
        return BYTES[self.buffer.dtype]


class NextRows:
    """The hints of one turn of the loop over an axis, which takes `turn` rows."""

    def __init__(self, v: Values, axis: int, turn: int, wanted: Iterable[int]):
        self.v, self.axis, self.turn = v, axis, turn
        self.rows: list[tuple[Stream, Value]] = []
        self.streams = [s for s in streams(v, axis, wanted) if 2 * v.lanes * s.bytes >= LINE]
        self.size = product(v.space.sizes) * sum(s.bytes for s in self.streams)
        self.near = max(v.target.l2, v.target.l3 // SHARE)
        if known_le(self.size, self.near) is True:
            self.streams = []

    def note(self) -> None:
        """The open row is one of the turn."""
        level = self.v.open_axes.index(self.axis) + 1
        self.rows += [(s, self.v._address(s.address, level)[0]) for s in self.streams]

    def ask(self) -> None:
        """For the open columns of all rows of the next turn, if there is one and it may be far."""
        if not self.rows:
            return
        v, axis = self.v, self.axis
        turn = v.blocks[v.open_axes.index(axis) + 1]
        conditions = []
        if known_le(self.size, self.near) is None:
            conditions.append(v.blocks[0].let("gt", v.dims(self.size), turn.index(self.near)))
        if v.space.reduced.index(True) == axis:  # else the rows of another outer index follow
            after = turn.let("add", v.index[axis], turn.index(1))
            conditions.append(turn.let("lt", after, v.dims(v.space.sizes[axis])))
        if not conditions:
            self._hints(v.blocks[-1])
            return
        likely = conditions[0] if len(conditions) == 1 else turn.let("and", *conditions)
        v.blocks[-1].branch(likely, self._hints)

    def _hints(self, b: Block) -> Sequence[Value]:
        lines = {s: self._lines(s, b) for s in self.streams}
        for stream, row in self.rows:
            for line in lines[stream]:
                b.prefetch(stream.buffer, b.let("add", row, line), LEVEL)
        return ()

    def _lines(self, stream: Stream, b: Block) -> list[Value]:
        """Offsets from a row to the lines of the open columns, a turn later."""
        top, vector = self.v.blocks[0], self.v.space.vector
        assert vector is not None
        stride = self.v.dims(self.v.space.strides(stream.address)[self.axis])
        step = top.let("mul", stride, top.index(self.turn))
        starts = range(0, self.v.lanes * stream.bytes, LINE)
        shifts = [top.let("add", step, top.index(at // stream.bytes)) for at in starts]
        return [b.let("add", self.v.index[vector], shift) for shift in shifts]


def streams(v: Values, axis: int, wanted: Iterable[int]) -> list[Stream]:
    """What these entries read from memory in vectors, another row in each turn of an axis."""
    found: dict[Stream, None] = {}
    seen = set(wanted)
    stack = sorted(seen)
    while stack:
        i = stack.pop()
        e = v.entries[i]
        if not v._moving(i) or v._in_memory(i):
            continue
        if e.kind == "load" and e.address is not None and _goes_along(v, e.address, axis):
            found[Stream(v.read_buffers[id(e.node)], e.address)] = None
        fresh = [a for a in e.args if a not in seen]
        seen.update(fresh)
        stack.extend(fresh)
    return list(found)


def _goes_along(v: Values, address: Strided, axis: int) -> bool:
    strides, vector = v.space.strides(address), v.space.vector
    return vector is not None and strides[axis] != 0 and strides[vector] == 1
