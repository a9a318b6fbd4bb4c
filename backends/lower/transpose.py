"""Lower a map that reads along one axis and writes along another: square tiles turned in registers.

A nest has one vector axis, so an array that is contiguous along another one is read (or written) an
element at a time, each from a cache line of its own. Here both axes go by in squares. A square's
vectors are loaded along the axis they lie on and turned by rounds of interleaving, everything is
computed along one axis, and a result that lies the other way is turned back.

What takes no more than a few operations is computed in registers, on squares of full vectors: the
longer their lines, the more of them are on their way from memory at once. What takes more goes
through a tile on the stack, from which it is computed in full vectors. It is turned in squares of
16 bytes a line, which every machine interleaves in one instruction; LLVM is slow at longer ones.
What is left over at the far edges goes by masked vectors that gather, or element by element where
there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from symgraph.dims import product
from symgraph.leaves import Constant, DimValue
from symgraph.ops.define import Cast, Elementwise

from ..affine import Strided
from ..loops import INDEX, Block, Buffer, Const, Kernel, LoopBlock, Ty, Value
from ..packing import transposed
from ..targets import Target
from . import scalar
from .request import Built, Dims, Nest
from .tiling import Tiling, has_masks, tiled
from .trace import Entry

BLOCK = 256  # elements of a block along the axis of computation
#: what the lanes of a dtype are moved as, where shuffling it costs more
BITS = {"bool": "uint8", "float16": "uint16", "bfloat16": "uint16"}


def build(nest: Nest, target: Target) -> Built | None:
    """The kernel of a nest in tiles; None if it is none that gains by them."""
    tiling = tiled(nest, target)
    return None if tiling is None else _Tiles(nest, tiling, target).run()


class _At(NamedTuple):
    """Where a vector of values is computed: index by axis, lanes, and which of them count."""

    place: dict[int, Value]
    lanes: int
    mask: Value | None = None


class _Square(NamedTuple):
    """A square of a tile: the code in it, where it is in memory, and in the tile."""

    body: Block
    at: dict[int, Value]
    row: Value
    column: Value


class _Tiles:
    """Emits the loops over tiles and what is done in one."""

    def __init__(self, nest: Nest, tiling: Tiling, target: Target):
        self.nest, self.t = nest, tiling
        self.side = tiling.side
        self.masked = has_masks(target, tiling.entries)
        self.dims = Dims()
        self.block = Block()
        nodes = {id(e.node): e.node for e in tiling.entries if e.kind == "load"}
        self.nodes = list(nodes.values())
        self.sources = {
            id(n): Buffer(f"x{i}", str(n.array_type.dtype), "r") for i, n in enumerate(self.nodes)
        }
        self.results = [
            Buffer(f"y{k}", str(r.node.array_type.dtype), "w") for k, r in enumerate(nest.roots)
        ]
        self.ops = max(1, sum(e.kind in ("elementwise", "load") for e in tiling.entries))
        self.turned_reads = [
            i
            for i, e in enumerate(tiling.entries)
            if e.kind == "load" and tiling.turned(tiling.reads[i])
        ]
        self.turned_roots = [k for k, w in enumerate(tiling.writes) if tiling.turned(w)]
        self.scratch: dict[tuple[str, int], Buffer] = {}

    def run(self) -> Built:
        if all(size != 0 for size in self.t.sizes):
            self._allocate()
            self._outer(self.block, [], {})
        buffers = (*self.sources.values(), *self.results)
        kernel = Kernel(self.nest.name, buffers, tuple(self.dims.vars), tuple(self.block.stmts))
        work = product(self.t.sizes) * self.ops
        return Built(kernel, tuple(self.nodes), tuple(self.dims.sizes), work)

    def _allocate(self) -> None:
        """Tiles on the stack: lines that a loop reads or writes one by one."""
        if self.t.light:
            return
        for i in self.turned_reads:
            self.scratch["read", i] = self._tile(str(self.t.entries[i].node.array_type.dtype))
        for k in self.turned_roots:
            self.scratch["write", k] = self._tile(self.results[k].dtype)

    def _tile(self, dtype: str) -> Buffer:
        return self.block.alloc(BITS.get(dtype, dtype), self.side * self.side)

    # --- loops

    def _outer(self, b: Block, done: list[int], index: dict[int, Value]) -> None:
        """Loops over the axes that are not of the tiles, then the tiles."""
        rest = [
            a
            for a in range(len(self.t.sizes))
            if a not in (self.t.along, self.t.across) and a not in done
        ]
        if not rest:
            self._blocks(b, index)
            return
        axis = rest[0]
        with b.loop(0, self.dims(self.t.sizes[axis]), kind="parallel") as body:
            self._outer(body, [*done, axis], {**index, axis: body.var})

    def _stop(self, axis: int) -> tuple[Value, Value]:
        """The size of an axis, and where its last whole tile ends."""
        size = self.dims(self.t.sizes[axis])
        if isinstance(size, Const):
            return size, Const(size.value // self.side * self.side, Ty(INDEX))
        return size, self.block.let("and", size, self.block.index(-self.side))

    def _poll(self, b: Block, elements: int) -> None:
        if self.nest.pollable:
            b.poll(b.index(elements * self.ops))

    def _blocks(self, b: Block, index: dict[int, Value]) -> None:
        """Blocks along the axis of computation: whole tiles, then those at the edges."""
        size, whole = self._stop(self.t.along)
        with b.loop(0, size, BLOCK, kind="parallel", hint="chunk") as chunk:
            stop = chunk.let("add", chunk.var, chunk.index(BLOCK))
            self._whole(chunk, index, chunk.let("min", stop, whole))
            if not (self._divides(self.t.along) and self._divides(self.t.across)):
                self._edges(chunk, index, chunk.let("min", stop, size))

    def _whole(self, chunk: LoopBlock, index: dict[int, Value], stop: Value) -> None:
        """Groups of tiles, so that the lines of cache they touch are used up."""
        along, across, side, group = self.t.along, self.t.across, self.side, self.t.group
        _, bottom = self._stop(across)
        with chunk.loop(0, bottom, group, kind="parallel") as row:
            self._poll(row, BLOCK * group)
            below = row.let("min", row.let("add", row.var, row.index(group)), bottom)
            with row.loop(chunk.var, stop, group, kind="parallel") as near:
                end = near.let("min", near.let("add", near.var, near.index(group)), stop)
                with (
                    near.loop(near.var, end, side, kind="parallel") as column,
                    column.loop(row.var, below, side, kind="parallel") as tile,
                ):
                    at = {**index, along: column.var, across: tile.var}
                    (self._unrolled if self.t.light else self._looped)(tile, at)

    def _edges(self, chunk: LoopBlock, index: dict[int, Value], stop: Value) -> None:
        """The last tile of each column of tiles, and all of the last column."""
        along, across, side = self.t.along, self.t.across, self.side
        size, whole = self._stop(along)
        height, bottom = self._stop(across)
        with chunk.loop(chunk.var, stop, side, kind="parallel") as column:
            last = column.let("eq", column.var, whole)
            first = column.let("select", last, column.index(0), bottom)
            with column.loop(first, height, side, kind="parallel") as tile:
                self._poll(tile, side * side)
                at = {**index, along: column.var, across: tile.var}
                (self._by_line if self.masked else self._by_element)(tile, at, (size, height))

    def _divides(self, axis: int) -> bool:
        size = self.t.sizes[axis]
        return isinstance(size, int) and size % self.side == 0

    # --- one tile

    def _unrolled(self, b: Block, at: dict[int, Value]) -> None:
        """Everything in registers."""
        across, side = self.t.across, self.side
        lines = {i: self._turn(b, self._lines(b, i, at)) for i in self.turned_reads}
        turned: dict[int, list[Value]] = {k: [] for k in self.turned_roots}
        for s in range(side):
            here = _At({**at, across: b.let("add", at[across], b.index(s))}, side)
            values = self._values(b, here, {i: rows[s] for i, rows in lines.items()})
            for k, value in self._store(b, here, values).items():
                turned[k].append(value)
        for k, rows in turned.items():
            self._store_lines(b, k, at, self._turn(b, rows))

    def _looped(self, b: Block, at: dict[int, Value]) -> None:
        """Through the stack, line by line: the code of one line is long."""
        across, side = self.t.across, self.side
        for i in self.turned_reads:
            with self._squares(b, at) as square:
                lines = self._turn(square.body, self._lines(square.body, i, square.at))
                for s, vector in enumerate(lines):
                    bits = _as_bits(square.body, vector)
                    square.body.store(self.scratch["read", i], self._stack(square, s), bits)
        with b.loop(0, b.index(side)) as line:
            here = _At({**at, across: line.let("add", at[across], line.var)}, side)
            place = line.let("mul", line.var, line.index(side))
            given = {i: self._kept(line, ("read", i), place, side) for i in self.turned_reads}
            for k, value in self._store(line, here, self._values(line, here, given)).items():
                line.store(self.scratch["write", k], place, _as_bits(line, value))
        for k in self.turned_roots:
            with self._squares(b, at) as square:
                kept = [
                    self._kept(square.body, ("write", k), self._stack(square, s), self.t.square)
                    for s in range(self.t.square)
                ]
                self._store_lines(square.body, k, square.at, self._turn(square.body, kept))

    @contextmanager
    def _squares(self, b: Block, at: dict[int, Value]) -> Iterator[_Square]:
        """A loop over the squares of a tile."""
        along, across, side, step = self.t.along, self.t.across, b.index(self.side), self.t.square
        with b.loop(0, side, step) as column, column.loop(0, side, step) as row:
            near = row.let("add", at[along], column.var)
            below = row.let("add", at[across], row.var)
            yield _Square(row, {**at, along: near, across: below}, row.var, column.var)

    def _stack(self, square: _Square, line: int) -> Value:
        """Where a line of a square lies in a tile on the stack."""
        b = square.body
        row = b.let("add", square.row, b.index(line))
        return b.let("add", b.let("mul", row, b.index(self.side)), square.column)

    def _kept(self, b: Block, tile: tuple[str, int], place: Value, lanes: int) -> Value:
        kind, i = tile
        line = b.load(self.scratch[tile], place, lanes)
        dtype = self.results[i].dtype if kind == "write" else ""
        return _from_bits(b, line, dtype or str(self.t.entries[i].node.array_type.dtype))

    def _by_line(self, b: Block, at: dict[int, Value], sizes: Sequence[Value]) -> None:
        """Masked vectors that gather and scatter what lies across."""
        along, across = self.t.along, self.t.across
        columns, rows = (b.let("sub", n, at[a]) for n, a in zip(sizes, (along, across)))
        iota = b.let("iota", type=Ty(INDEX, self.side))
        mask = b.let("lt", iota, b.splat(columns, self.side))
        with b.loop(0, b.let("min", rows, b.index(self.side))) as line:
            index = {**at, across: line.let("add", at[across], line.var)}
            self._plain(line, _At(index, self.side, mask))

    def _by_element(self, b: Block, at: dict[int, Value], sizes: Sequence[Value]) -> None:
        """One element after the other."""
        along, across = self.t.along, self.t.across
        right, bottom = (
            b.let("min", b.let("add", at[a], b.index(self.side)), n)
            for n, a in zip(sizes, (along, across))
        )
        with b.loop(at[across], bottom) as line, line.loop(at[along], right) as column:
            self._plain(column, _At({**at, across: line.var, along: column.var}, 1))

    def _plain(self, b: Block, at: _At) -> None:
        """Values there from memory to memory, nothing turned."""
        values = self._values(b, at, {})
        for k, i in enumerate(self.t.roots):
            offset = self._places(b, self.t.writes[k], at)
            b.store(self.results[k], offset, scalar.align(b, values[i], at.lanes), at.mask)

    # --- turning

    def _lines(self, b: Block, entry: int, at: dict[int, Value]) -> list[Value]:
        """A square as it lies, vectors across."""
        access, buffer = self.t.reads[entry], self.sources[id(self.t.entries[entry].node)]
        offset = self._offset(b, access, at)
        lines: list[Value] = [b.load(buffer, offset, self.t.square)]
        for _ in range(self.t.square - 1):
            offset = b.let("add", offset, self.dims(access.strides[self.t.along]))
            lines.append(b.load(buffer, offset, self.t.square))
        return lines

    def _turn(self, b: Block, lines: Sequence[Value]) -> list[Value]:
        dtype = lines[0].type.dtype
        turned = transposed(b, [_as_bits(b, line) for line in lines])
        return [_from_bits(b, line, dtype) for line in turned]

    # --- values

    def _offset(self, b: Block, access: Strided, index: dict[int, Value]) -> Value:
        offset: Value = self.dims(access.offset)
        for axis in sorted(index, key=lambda a: a in (self.t.along, self.t.across)):
            stride = access.strides[axis]
            if stride != 0:
                step = index[axis]
                step = step if stride == 1 else b.let("mul", step, self.dims(stride))
                zero = isinstance(offset, Const) and offset.value == 0
                offset = step if zero else b.let("add", offset, step)
        return offset

    def _values(self, b: Block, at: _At, given: dict[int, Value]) -> list[Value]:
        """Every entry there; `given` are those that have been read already."""
        values: list[Value] = []
        for i, entry in enumerate(self.t.entries):
            args = [values[a] for a in entry.args]
            values.append(given[i] if i in given else self._value(b, i, entry, args, at))
        return values

    def _value(self, b: Block, i: int, entry: Entry, args: list[Value], at: _At) -> Value:
        node, op = entry.node, entry.node.op
        dtype = str(node.array_type.dtype)
        if isinstance(op, Constant) and entry.kind == "const":
            value = op.value.reshape(())
            return Const(float(value) if dtype == "bfloat16" else value.item(), Ty(dtype))
        if isinstance(op, DimValue) and entry.kind == "size":
            return b.cast(self.dims(op.dim), "int64")
        if entry.kind == "load":
            return self._read(b, i, at)
        if entry.kind == "iota":
            return b.cast(self._count(b, self.t.reads[i], at), dtype)
        if isinstance(op, Cast):
            return scalar.cast(b, op, args[0])
        assert isinstance(op, Elementwise), entry.kind
        lanes = max(a.type.lanes for a in args)
        return scalar.elementwise(b, op, [b.splat(a, lanes) for a in args], dtype)

    def _read(self, b: Block, entry: int, at: _At) -> Value:
        access, buffer = self.t.reads[entry], self.sources[id(self.t.entries[entry].node)]
        offset = self._places(b, access, at)
        if access.strides[self.t.along] == 0:
            return b.load(buffer, offset)
        return b.load(buffer, offset, at.lanes, at.mask)

    def _places(self, b: Block, access: Strided, at: _At) -> Value:
        """The offset of the first lane where they are neighbours or the same, or of every lane."""
        offset = self._offset(b, access, at.place)
        step = access.strides[self.t.along]
        if at.lanes == 1 or step in (0, 1):
            return offset
        iota = b.let("iota", type=Ty(INDEX, at.lanes))
        steps = b.let("mul", iota, b.splat(self.dims(step), at.lanes))
        return b.let("add", b.splat(offset, at.lanes), steps)

    def _count(self, b: Block, access: Strided, at: _At) -> Value:
        """The value of a counter in every lane."""
        first = self._places(b, access, at)
        if access.strides[self.t.along] != 1 or at.lanes == 1:
            return first
        return b.let("add", b.splat(first, at.lanes), b.let("iota", type=Ty(INDEX, at.lanes)))

    def _store(self, b: Block, at: _At, values: Sequence[Value]) -> dict[int, Value]:
        """Store the roots that lie along; gives those that have to be turned."""
        turned: dict[int, Value] = {}
        for k, i in enumerate(self.t.roots):
            value = scalar.align(b, values[i], at.lanes)
            if k in self.turned_roots:
                turned[k] = value
            else:
                b.store(self.results[k], self._offset(b, self.t.writes[k], at.place), value)
        return turned

    def _store_lines(
        self, b: Block, root: int, at: dict[int, Value], lines: Sequence[Value]
    ) -> None:
        """A square of a root that lies across."""
        access = self.t.writes[root]
        offset = self._offset(b, access, at)
        for s, line in enumerate(lines):
            if s:
                offset = b.let("add", offset, self.dims(access.strides[self.t.along]))
            b.store(self.results[root], offset, line)


def _as_bits(b: Block, x: Value) -> Value:
    """A value as it is shuffled and kept on the stack."""
    dtype = x.type.dtype
    if dtype not in BITS:
        return x
    if dtype == "bool":
        return b.cast(x, "uint8")
    return b.let("bitcast", x, type=Ty(BITS[dtype], x.type.lanes))


def _from_bits(b: Block, x: Value, dtype: str) -> Value:
    if x.type.dtype == dtype:
        return x
    if dtype == "bool":
        return b.cast(x, "bool")
    return b.let("bitcast", x, type=Ty(dtype, x.type.lanes))
