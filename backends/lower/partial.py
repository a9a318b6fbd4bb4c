"""Reductions of everything to one value, in parts that threads may share.

How many parts there are, and so how the sum is taken, depends on the size alone. The kernel has a
range: it reduces the parts in it, each to a place of its own, and if the range goes beyond the last
element it merges all parts in order and stores what is made of the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from symgraph.dims import SizeLike, ceildiv, dim_max, known_le

from ..loops import INDEX, Block, Buffer, LoopBlock, Ty, Value, Var
from ..split import Split
from .accumulate import Accumulator, accumulator
from .rows import Work

if TYPE_CHECKING:
    from .nest import Emitter

PART = 1 << 14  # elements of a part at least, and what its length is a multiple of
PARTS = 64  # at most: their results fit on the stack


class Parts:
    """The kernel of one nest that has a single reduced axis and a single phase."""

    def __init__(self, emitter: Emitter):
        self.e = emitter
        self.begin, self.end = Var("begin", Ty(INDEX)), Var("end", Ty(INDEX))
        (self.phase,) = emitter.phases
        self.kinds: list[Accumulator] = [accumulator(node) for node, _ in self.phase]
        starts = [kind.start_total(1) for kind in self.kinds]
        self.types = [[value.type.dtype for value in start] for start in starts]
        self.buffers = [
            [
                Buffer(f"part{i}_{j}", "int64" if t == INDEX else t, "rw")
                for j, t in enumerate(types)
            ]
            for i, types in enumerate(self.types)
        ]
        (self.size,) = emitter.space.sizes
        self.length: SizeLike = dim_max(1, ceildiv(self.size, PARTS * PART)) * PART

    @property
    def split(self) -> Split:
        return Split(self.size, self.length, PARTS)

    def write(self) -> None:
        """Emit the kernel's body."""
        e = self.e
        b, stop, length = e.blocks[-1], e.dims(self.size), e.dims(self.length)
        last = b.let("min", stop, self.end)
        with b.loop(self.begin, last, length, kind="parallel", hint="part") as part:
            self._part(part, stop, length)
        b.branch(b.let("gt", self.end, stop), lambda t: self._merge(t, stop, length))

    def _part(self, part: LoopBlock, stop: Value, length: Value) -> None:
        e = self.e
        e._push(part, None, part.var)
        end = part.let("min", part.let("add", part.var, length), stop)
        work = Work(self.kinds, [feed for _, feed in self.phase], [])
        totals = [kind.start_total(1) for kind in self.kinds]
        totals = e._blocks_of(0, part.var, end, work, totals)
        place = part.let("div", part.var, length)
        for buffers, values in zip(self.buffers, totals):
            for buffer, value in zip(buffers, values):
                part.store(buffer, place, part.cast(value, buffer.dtype))
        e._pop()

    def _merge(self, t: Block, stop: Value, length: Value) -> tuple[()]:
        """All parts in order; then what depends on the results, computed in this arm alone."""
        e = self.e
        starts = [kind.start_total(1) for kind in self.kinds]
        shape = [len(start) for start in starts]
        short = t.let("sub", t.let("add", stop, length), t.index(1))
        count = t.let("div", short, length)
        with t.loop(0, count, kind="reduce", carries=sum(starts, []), hint="part") as part:
            merged: list[Value] = []
            for kind, buffers, types, left in zip(
                self.kinds, self.buffers, self.types, _groups(part.carried, shape)
            ):
                right = [part.cast(part.load(p, part.var), d) for p, d in zip(buffers, types)]
                merged += kind.merge(part, left, right)
            part.next(*merged)
        before = (e.blocks, e.scopes, e.open_axes)
        e.blocks, e.scopes, e.open_axes = [t], [{}], []
        for (node, _), kind, total in zip(self.phase, self.kinds, _groups(part.results, shape)):
            e.scopes[-1][id(node)] = kind.finish(t, total)
        e._store(list(range(len(e.nest.roots))))
        e.blocks, e.scopes, e.open_axes = before
        return ()


def in_parts(e: Emitter) -> bool:
    """Whether a nest is a reduction of everything that may be long, and nothing else."""
    nest, space = e.nest, e.space
    return (
        not nest.cumulative
        and space.reduced == (True,)
        and len(e.phases) == 1
        and not e.distances
        and not any(root.check or (nest.reduced and root.inner) for root in nest.roots)
        and known_le(space.sizes[0], PART) is not True
    )


def _groups(values: list[Var], shape: list[int]) -> list[list[Value]]:
    result: list[list[Value]] = []
    at = 0
    for n in shape:
        result.append(list(values[at : at + n]))
        at += n
    return result
