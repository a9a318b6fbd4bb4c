"""Values in a tile of a map: those of a vector or an element, from memory or what was turned."""

from __future__ import annotations

from typing import NamedTuple

from symgraph.leaves import Constant, DimValue
from symgraph.ops.define import Cast, Elementwise

from ..affine import Strided
from ..loops import INDEX, Block, Buffer, Const, Ty, Value
from . import scalar
from .request import Dims
from .tiling import Tiling
from .trace import Entry


class At(NamedTuple):
    """Where a vector of values is computed: index by axis, and lanes."""

    place: dict[int, Value]
    lanes: int


class TileValues:
    """What a map computes, wherever in a tile."""

    def __init__(self, tiling: Tiling):
        self.t, self.side = tiling, tiling.side
        self.dims = Dims()
        nodes = {id(e.node): e.node for e in tiling.entries if e.kind == "load"}
        self.nodes = list(nodes.values())
        self.sources = {
            id(n): Buffer(f"x{i}", str(n.array_type.dtype), "r") for i, n in enumerate(self.nodes)
        }

    def offset(self, b: Block, access: Strided, index: dict[int, Value]) -> Value:
        offset: Value = self.dims(access.offset)
        for axis in sorted(index, key=lambda a: a in (self.t.along, self.t.across)):
            stride = access.strides[axis]
            if stride != 0:
                step = index[axis]
                step = step if stride == 1 else b.let("mul", step, self.dims(stride))
                zero = isinstance(offset, Const) and offset.value == 0
                offset = step if zero else b.let("add", offset, step)
        return offset

    def values(self, b: Block, at: At, given: dict[int, Value]) -> list[Value]:
        """Every entry there; `given` are those that have been read already."""
        values: list[Value] = []
        for i, entry in enumerate(self.t.entries):
            args = [values[a] for a in entry.args]
            values.append(given[i] if i in given else self.value(b, i, entry, args, at))
        return values

    def value(self, b: Block, i: int, entry: Entry, args: list[Value], at: At) -> Value:
        node, op = entry.node, entry.node.op
        dtype = str(node.array_type.dtype)
        if isinstance(op, Constant) and entry.kind == "const":
            value = op.value.reshape(())
            return Const(float(value) if dtype == "bfloat16" else value.item(), Ty(dtype))
        if isinstance(op, DimValue) and entry.kind == "size":
            return b.cast(self.dims(op.dim), "int64")
        if entry.kind == "load":
            return self.read(b, i, at)
        if entry.kind == "iota":
            return b.cast(self.count(b, self.t.reads[i], at), dtype)
        if isinstance(op, Cast):
            return scalar.cast(b, op, args[0])
        assert isinstance(op, Elementwise), entry.kind
        lanes = max(a.type.lanes for a in args)
        return scalar.elementwise(b, op, [b.splat(a, lanes) for a in args], dtype)

    def read(self, b: Block, entry: int, at: At) -> Value:
        access, buffer = self.t.reads[entry], self.sources[id(self.t.entries[entry].node)]
        offset = self.places(b, access, at)
        if access.strides[self.t.along] == 0:
            return b.load(buffer, offset)
        return b.load(buffer, offset, at.lanes)

    def places(self, b: Block, access: Strided, at: At) -> Value:
        """The offset of the first lane where they are neighbours or the same, or of every lane."""
        offset = self.offset(b, access, at.place)
        step = access.strides[self.t.along]
        if at.lanes == 1 or step in (0, 1):
            return offset
        iota = b.let("iota", type=Ty(INDEX, at.lanes))
        steps = b.let("mul", iota, b.splat(self.dims(step), at.lanes))
        return b.let("add", b.splat(offset, at.lanes), steps)

    def count(self, b: Block, access: Strided, at: At) -> Value:
        """The value of a counter in every lane."""
        first = self.places(b, access, at)
        if access.strides[self.t.along] != 1 or at.lanes == 1:
            return first
        return b.let("add", b.splat(first, at.lanes), b.let("iota", type=Ty(INDEX, at.lanes)))
