"""Which maps gain by tiles: those that read along one axis and write along another; and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from symgraph.dims import Shape, SizeLike, known_equal
from symgraph.ops.movement import Transpose

from ..affine import Strided
from ..targets import Target
from . import scalar
from .request import Nest, Root
from .trace import Entry, Tracer

SQUARE = 16  # bytes of a line that is turned in registers, if it is not a full vector
WIDE = 4  # bytes from which on elements are turned in full vectors
LINE = 64  # bytes of a cache line: squares go by in groups that use up those they touch
LIGHT = 4.0  # cost of the operations up to which an element is computed without the stack
KINDS = frozenset("load const iota size cast elementwise".split())  # of entries that may take part


class Tiling(NamedTuple):
    """How a nest goes by in tiles.

    entries, roots: its values in order, and the ones to store; sizes: of the merged axes; reads,
    writes: strides and offset of each access over them, reads by entry; along: the axis of
    computation; across: the other axis of the tiles; square: elements turned in registers at once;
    side: of a tile, the lanes of the computation; group: elements of a cache line.
    """

    entries: Sequence[Entry]
    roots: Sequence[int]
    sizes: Shape
    reads: dict[int, Strided]
    writes: Sequence[Strided]
    along: int
    across: int
    square: int
    side: int
    group: int

    @property
    def light(self) -> bool:
        """Whether squares are computed where they are turned."""
        return self.side == self.square

    def turned(self, access: Strided) -> bool:
        return access.strides[self.along] not in (0, 1) and access.strides[self.across] == 1


def tiled(nest: Nest, target: Target) -> Tiling | None:
    """The tiling of a nest; None where all agree on one axis, or tiles would be slivers."""
    if nest.reductions or nest.cumulative or nest.ordered or not all(map(_plain, nest.roots)):
        return None
    if not _transposes(nest):
        return None
    tracer = Tracer(len(nest.space), nest.stored)
    roots = [tracer.want(root.node, root.map) for root in nest.roots]
    entries = tracer.entries
    if not target.vector_bytes or not all(_movable(e) for e in entries):
        return None
    reads = {i: e.address for i, e in enumerate(entries) if e.address is not None}
    sizes, merged = _merged(nest.space, [*reads.values(), *(r.target for r in nest.roots)])
    reads = dict(zip(reads, merged))
    writes = merged[len(reads) :]
    axes = _axes(sizes, [reads[i] for i in reads if entries[i].kind == "load"], writes)
    if axes is None:
        return None
    sides = _sides(entries, target)
    if any(_sliver(sizes[a], sides[1]) for a in axes):
        return None
    ways = [Tiling(entries, roots, sizes, reads, writes, *w, *sides) for w in (axes, axes[::-1])]
    return min(ways, key=_turns)


def _transposes(nest: Nest) -> bool:
    """Whether any axes change places at all: most nests need no closer look."""
    stack, seen = [root.node for root in nest.roots], set()
    while stack:
        node = stack.pop()
        if id(node) in seen or nest.stored(node):
            continue
        if isinstance(node.op, Transpose):
            return True
        seen.add(id(node))
        stack.extend(node.inputs)
    return False


def _sides(entries: Sequence[Entry], target: Target) -> tuple[int, int, int]:
    """Elements of a square, of a tile and of a group.  Half floats are computed in float32."""
    work = sum(e.cost for e in entries if e.kind != "load")
    types = [e.node.array_type.dtype for e in entries if e.kind not in ("const", "size")]
    widest = max(4 if work and str(t) in scalar.HALF else t.bytes for t in types)
    square = SQUARE // widest
    side = max(square, target.vector_bytes // widest)
    if work > LIGHT:
        return square, side, side
    square = side if widest >= WIDE else square
    return square, square, max(square, LINE // widest)


def _turns(tiling: Tiling) -> int:
    """How many accesses have to be turned."""
    loads = [i for i in tiling.reads if tiling.entries[i].kind == "load"]
    return sum(map(tiling.turned, [*(tiling.reads[i] for i in loads), *tiling.writes]))


def _axes(
    sizes: Shape, loads: Sequence[Strided], writes: Sequence[Strided]
) -> tuple[int, int] | None:
    """The axis that everything is written along, and the one that something is read along instead.

    None if there are no two such, or more.
    """
    common = [a for a in range(len(sizes)) if all(w.strides[a] == 1 for w in writes)]
    if len(common) != 1:
        return None
    along = common[0]
    others = {
        axis
        for load in loads
        for axis, stride in enumerate(load.strides)
        if stride == 1 and load.strides[along] not in (0, 1)
    }
    return (along, others.pop()) if len(others) == 1 else None


def _sliver(size: SizeLike, side: int) -> bool:
    """Whether there is known to be no room for a tile along an axis."""
    return isinstance(size, int) and size < side


def _plain(root: Root) -> bool:
    return not root.check and root.combine == "set" and root.scatter is None


def _movable(entry: Entry) -> bool:
    return entry.kind in KINDS and entry.node.array_type.dtype.bytes <= 8


def _merged(shape: Shape, accesses: Sequence[Strided]) -> tuple[Shape, list[Strided]]:
    """Neighbouring axes that every access steps through as one become one; those of size 1 none."""
    sizes: list[SizeLike] = []
    source: list[int] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if source and all(
            known_equal(a.strides[source[-1]], a.strides[axis] * size) is True for a in accesses
        ):
            sizes[-1], source[-1] = sizes[-1] * size, axis
        else:
            sizes.append(size)
            source.append(axis)
    return tuple(sizes), [
        Strided(a.offset, tuple(a.strides[axis] for axis in source)) for a in accesses
    ]
