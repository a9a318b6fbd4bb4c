"""Lower a map that reads along one axis and writes along another: square tiles turned in registers.

A nest has one vector axis, so an array that is contiguous along another one is read (or written) an
element at a time, each from a cache line of its own. Here both axes go by in squares. A square's
vectors are loaded along the axis they lie on and turned by rounds of interleaving, everything is
computed along one axis, and a result that lies the other way is turned back.

What takes no more than a few operations is computed in registers, on squares of full vectors: the
longer their lines, the more of them are on their way from memory at once. What takes more goes
through a tile on the stack, from which it is computed in full vectors. It is turned in squares of
16 bytes a line, which every machine interleaves in one instruction; LLVM is slow at longer ones.
Where all of it may outgrow the caches, results are stored past them, and what comes next, line by
line from far apart, is asked for beforehand. Squares whose lines are lines of cache are stored as
they are; smaller ones are put together on the stack to rows as long as a block.
Squares begin where what they read begins a line of cache, and the first and the last of a row of
them overlap their neighbours. What is left over at the far end of the axis of computation goes
element by element: vectors that gather are no faster, and LLVM is slow at them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from symgraph.dims import known_le, product

from ..affine import Strided
from ..irtext import BYTES
from ..loops import INDEX, Block, Buffer, Const, Kernel, LoopBlock, Store, Ty, Value
from ..packing import transposed
from ..targets import Target
from . import scalar, streaming
from .request import Built, Nest
from .tile_values import At, TileValues
from .tiling import LINE, Tiling, tiled

BLOCK = 256  # elements of a block along the axis of computation
#: what the lanes of a dtype are moved as, where shuffling it costs more
BITS = {"bool": "uint8", "float16": "uint16", "bfloat16": "uint16"}


def build(nest: Nest, target: Target) -> Built | None:
    """The kernel of a nest in tiles; None if it is none that gains by them."""
    tiling = tiled(nest, target)
    return None if tiling is None else _Tiles(nest, tiling, target).run()


class _Square(NamedTuple):
    """A square of a tile: the code in it, where it is in memory, and in the tile."""

    body: Block
    at: dict[int, Value]
    row: Value
    column: Value


class _Across(NamedTuple):
    """The axis across: its size, where the first tile begins (its rows before 0 are none), where
    the last one ends.
    """

    size: Value
    start: Value
    stop: Value


class _Group(NamedTuple):
    """Tiles of a block along: from `start` to `stop` there, in a group that begins at `row`."""

    at: dict[int, Value]
    row: Value
    start: Value
    stop: Value


class _Tiles(TileValues):
    """Emits the loops over tiles and what is done in one."""

    def __init__(self, nest: Nest, tiling: Tiling, target: Target):
        super().__init__(tiling)
        self.nest, self.target = nest, target
        self.block = Block()
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
        self.staged = tiling.group > tiling.side and len(self.results) == 1
        self.scratch: dict[tuple[str, int], Buffer] = {}
        self.streams: Value | None = None  # whether stores go past the caches, if they may

    def run(self) -> Built:
        if all(size != 0 for size in self.t.sizes):
            self.rows = self._across()
            self.streams = self._may_stream()
            self._allocate()
            self._outer(self.block, [], {})
        buffers = (*self.sources.values(), *self.results)
        name = "transpose" if self.nest.name == "map" else self.nest.name  # see backends.memory
        kernel = Kernel(name, buffers, tuple(self.dims.vars), tuple(self.block.stmts))
        work = product(self.t.sizes) * self.ops
        return Built(kernel, tuple(self.nodes), tuple(self.dims.sizes), work)

    def _allocate(self) -> None:
        """Tiles on the stack: lines that a loop reads or writes one by one."""
        if self.staged and self.streams is not None:
            dtype = self.results[0].dtype
            rows = self.block.alloc(BITS.get(dtype, dtype), self.t.group * BLOCK)
            self.scratch["stage", 0] = rows
        if self.t.light:
            return
        for i in self.turned_reads:
            self.scratch["read", i] = self._tile(str(self.t.entries[i].node.array_type.dtype))
        for k in self.turned_roots:
            self.scratch["write", k] = self._tile(self.results[k].dtype)

    def _tile(self, dtype: str) -> Buffer:
        return self.block.alloc(BITS.get(dtype, dtype), self.side * self.side)

    def _may_stream(self) -> Value | None:
        """Whether everything outgrows the caches, and vectors lie as such stores need."""
        writes = list(zip(self.results, self.t.writes))
        whole = self.staged or all(BYTES[buffer.dtype] * self.side == LINE for buffer, _ in writes)
        if self.target.arch != "x86-64" or self.turned_roots or not (self.t.light and whole):
            return None
        moved = sum(BYTES[buffer.dtype] for buffer in (*self.sources.values(), *self.results))
        size, limit = product(self.t.sizes), streaming.limit(self.target, moved)
        if known_le(size, limit) is True:
            return None
        lanes = self._wide() if self.staged else self.side
        aligned = streaming.aligned(self.block, self.dims, writes, lanes)
        if aligned is None or isinstance(size, int):
            return aligned
        return self.block.let(
            "and", aligned, self.block.let("gt", self.dims(size), Const(limit, Ty(INDEX)))
        )

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

    def _along(self) -> tuple[Value, Value]:
        """The size of the axis of computation, and where its last whole tile ends."""
        size = self.dims(self.t.sizes[self.t.along])
        if isinstance(size, Const):
            return size, Const(size.value // self.side * self.side, Ty(INDEX))
        return size, self.block.let("and", size, self.block.index(-self.side))

    def _across(self) -> _Across:
        """The size of the other axis and the run of its tiles, if it has room for one."""
        b, side, zero = self.block, self.side, self.block.index(0)
        size = self.dims(self.t.sizes[self.t.across])
        if isinstance(size, Const):
            room = size.value >= side
            return _Across(size, self._before(), size) if room else _Across(size, zero, zero)
        none = b.let("lt", size, b.index(side))
        start = b.let("select", none, zero, self._before())
        return _Across(size, start, b.let("select", none, zero, size))

    def _before(self) -> Value:
        """Minus the elements that a line of cache has before the first one of what is turned."""
        b, group = self.block, self.t.group
        turned = [
            (self.sources[id(self.t.entries[i].node)], self.t.reads[i]) for i in self.turned_reads
        ]
        turned += [(self.results[k], self.t.writes[k]) for k in self.turned_roots]
        buffer, access = max(turned, key=lambda x: BYTES[x[0].dtype])
        ahead = b.let("ahead", type=Ty(INDEX), attr=(buffer, group))
        inside = b.let("sub", self.dims(access.offset), ahead)
        return b.let("sub", b.index(0), b.let("and", inside, b.index(group - 1)))

    def _poll(self, b: Block, elements: int) -> None:
        if self.nest.pollable:
            b.poll(b.index(elements * self.ops))

    def _blocks(self, b: Block, index: dict[int, Value]) -> None:
        """Blocks along the axis of computation: whole tiles, then those at the edges."""
        size, whole = self._along()
        with b.loop(0, size, BLOCK, kind="parallel", hint="chunk") as chunk:
            stop = chunk.let("add", chunk.var, chunk.index(BLOCK))
            self._whole(chunk, index, chunk.let("min", stop, whole))
            if not (self._is_whole(self.t.along) and self._has_room(self.t.across)):
                self._edges(chunk, index, chunk.let("min", stop, size))

    def _whole(self, chunk: LoopBlock, index: dict[int, Value], stop: Value) -> None:
        """Groups of tiles, so that the lines of cache they touch are used up."""
        _, first, bottom = self.rows
        with chunk.loop(first, bottom, self.t.group, kind="parallel") as row:
            self._poll(row, BLOCK * self.t.group)
            group = _Group(index, row.var, chunk.var, stop)
            if self.streams is None or not self.staged:
                self._straight(row, group)
            else:
                row.branch(
                    self.streams,
                    lambda far: self._through_stage(far, group),
                    lambda near: self._straight(near, group),
                )

    def _straight(self, b: Block, group: _Group) -> tuple[()]:
        """Tile by tile."""
        index, row, start, stop = group
        with (
            b.loop(start, stop, self.t.group, kind="parallel") as near,
            self._inside(near, near.var, stop) as (columns, column),
            self._inside(columns, row, self.rows.stop) as (tile, line),
        ):
            at = {**index, self.t.along: column, self.t.across: self._top(tile, line)}
            (self._unrolled if self.t.light else self._looped)(tile, at)
        return ()

    def _top(self, b: Block, row: Value) -> Value:
        """Where a tile across begins: the first and the last one overlap their neighbours."""
        last = b.let("sub", self.rows.size, b.index(self.side))
        return b.let("max", b.let("min", row, last), b.index(0))

    def _through_stage(self, b: Block, group: _Group) -> tuple[()]:
        """Rows of a block, put together on the stack and then stored past the caches."""
        index, row, start, stop = group
        along, across, side = self.t.along, self.t.across, self.side
        below = b.let("add", row, b.index(self.t.group))
        end = b.let("min", below, self.rows.stop)
        with b.loop(start, stop, side, kind="parallel") as column:
            self._ask(column, {**index, along: column.var, across: below})
            near = column.let("sub", column.var, start)
            with column.loop(row, end, side, kind="parallel") as tile:
                at = {**index, along: column.var, across: self._top(tile, tile.var)}
                down = tile.let("mul", tile.let("sub", tile.var, row), tile.index(BLOCK))
                self._unrolled(tile, at, tile.let("add", down, near))
        with b.loop(row, end, side, kind="parallel") as tile:
            top, down = self._top(tile, tile.var), tile.let("sub", tile.var, row)
            with tile.loop(0, tile.index(side), kind="parallel") as line:
                here = {**index, along: start, across: line.let("add", top, line.var)}
                target = self.offset(line, self.t.writes[0], here)
                source = line.let("mul", line.let("add", down, line.var), line.index(BLOCK))
                self._copy(line, source, target, line.let("sub", stop, start))
        return ()

    def _copy(self, b: Block, source: Value, target: Value, length: Value) -> None:
        """A row from the stack: vectors past the caches, and what is left over."""
        wide, result = self._wide(), self.results[0]
        whole = b.let("and", length, b.index(-wide))
        for start, stop, lanes in ((b.index(0), whole, wide), (whole, length, self.side)):
            if lanes <= self.side and start is whole:
                continue  # tiles are vectors: nothing is left over
            with b.loop(start, stop, lanes, kind="parallel") as x:
                bits = x.load(self.scratch["stage", 0], x.let("add", source, x.var), lanes)
                value = _from_bits(x, bits, result.dtype)
                x.store(result, x.let("add", target, x.var), value, None, lanes == wide)

    def _wide(self) -> int:
        """Elements of a vector of the one result."""
        return self.target.vector_bytes // BYTES[self.results[0].dtype]

    @contextmanager
    def _inside(self, b: Block, start: Value, stop: Value) -> Iterator[tuple[Block, Value]]:
        """A loop over the tiles of the group at `start` along one axis; none where it is a tile."""
        if self.t.group == self.side:
            yield b, start
            return
        end = b.let("min", b.let("add", start, b.index(self.t.group)), stop)
        with b.loop(start, end, self.side, kind="parallel") as body:
            yield body, body.var

    def _edges(self, chunk: LoopBlock, index: dict[int, Value], stop: Value) -> None:
        """The last column of tiles, and all of them where there is no room for one."""
        along, across, side = self.t.along, self.t.across, self.side
        size, whole = self._along()
        height, _, bottom = self.rows
        with chunk.loop(chunk.var, stop, side, kind="parallel") as column:
            last = column.let("eq", column.var, whole)
            first = column.let("select", last, column.index(0), bottom)
            with column.loop(first, height, side, kind="parallel") as tile:
                self._poll(tile, side * side)
                at = {**index, along: column.var, across: tile.var}
                self._by_element(tile, at, (size, height))

    def _is_whole(self, axis: int) -> bool:
        size = self.t.sizes[axis]
        return isinstance(size, int) and size % self.side == 0

    def _has_room(self, axis: int) -> bool:
        return known_le(self.side, self.t.sizes[axis]) is True

    # --- one tile

    def _unrolled(self, b: Block, at: dict[int, Value], stage: Value | None = None) -> None:
        """Everything in registers; the result goes to the stack if there is a place for it."""
        across, side = self.t.across, self.side
        lines = {i: self._turn(b, self._lines(b, i, at)) for i in self.turned_reads}
        values: list[list[Value]] = [[] for _ in self.t.roots]
        for s in range(side):
            here = At({**at, across: b.let("add", at[across], b.index(s))}, side)
            given = self.values(b, here, {i: rows[s] for i, rows in lines.items()})
            for row, i in zip(values, self.t.roots):
                row.append(scalar.align(b, given[i], side))
        if stage is not None:
            for s, value in enumerate(values[0]):
                place = b.let("add", stage, b.index(s * BLOCK))
                b.store(self.scratch["stage", 0], place, _as_bits(b, value))
            return
        for k, row in enumerate(values):
            if k in self.turned_roots:
                self._store_lines(b, k, at, self._turn(b, row))
        plain = [k for k in range(len(values)) if k not in self.turned_roots]
        stores = [
            Store(self.results[k], place, value)
            for k in plain
            for place, value in zip(self._steps(b, self.t.writes[k], at, across), values[k])
        ]
        self._store_all(b, at, stores)

    def _store_all(self, b: Block, at: dict[int, Value], stores: Sequence[Store]) -> None:
        """Stores of a square: past the caches, or not."""
        if self.streams is None or self.staged:
            b.stmts.extend(stores)
            return

        def past(far: Block) -> tuple[()]:
            across = self.t.across
            self._ask(far, {**at, across: far.let("add", at[across], far.index(self.side))})
            far.stmts.extend(store._replace(stream=True) for store in stores)
            return ()

        def plain(near: Block) -> tuple[()]:
            near.stmts.extend(stores)
            return ()

        b.branch(self.streams, past, plain)

    def _ask(self, b: Block, at: dict[int, Value]) -> tuple[()]:
        """Prefetch the lines that what is turned has at a place."""
        for i in self.turned_reads:
            buffer = self.sources[id(self.t.entries[i].node)]
            for place in self._steps(b, self.t.reads[i], at, self.t.along):
                b.prefetch(buffer, place, level=2)
        return ()

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
            here = At({**at, across: line.let("add", at[across], line.var)}, side)
            place = line.let("mul", line.var, line.index(side))
            given = {i: self._kept(line, ("read", i), place, side) for i in self.turned_reads}
            for k, value in self._store(line, here, self.values(line, here, given)).items():
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

    def _by_element(self, b: Block, at: dict[int, Value], sizes: Sequence[Value]) -> None:
        """One element after the other."""
        along, across = self.t.along, self.t.across
        right, bottom = (
            b.let("min", b.let("add", at[a], b.index(self.side)), n)
            for n, a in zip(sizes, (along, across))
        )
        with b.loop(at[across], bottom) as line, line.loop(at[along], right) as column:
            self._plain(column, At({**at, across: line.var, along: column.var}, 1))

    def _plain(self, b: Block, at: At) -> None:
        """Values there from memory to memory, nothing turned."""
        values = self.values(b, at, {})
        for k, i in enumerate(self.t.roots):
            offset = self.places(b, self.t.writes[k], at)
            b.store(self.results[k], offset, scalar.align(b, values[i], at.lanes))

    # --- turning

    def _lines(self, b: Block, entry: int, at: dict[int, Value]) -> list[Value]:
        """A square as it lies, vectors across."""
        buffer = self.sources[id(self.t.entries[entry].node)]
        places = self._steps(b, self.t.reads[entry], at, self.t.along)
        return [b.load(buffer, place, self.t.square) for place in places]

    def _steps(self, b: Block, access: Strided, at: dict[int, Value], axis: int) -> list[Value]:
        """The offsets of a square's lines, which follow each other along an axis."""
        offsets = [self.offset(b, access, at)]
        for _ in range(self.t.square - 1):
            offsets.append(b.let("add", offsets[-1], self.dims(access.strides[axis])))
        return offsets

    def _turn(self, b: Block, lines: Sequence[Value]) -> list[Value]:
        dtype = lines[0].type.dtype
        turned = transposed(b, [_as_bits(b, line) for line in lines])
        return [_from_bits(b, line, dtype) for line in turned]

    # --- stores

    def _store(self, b: Block, at: At, values: Sequence[Value]) -> dict[int, Value]:
        """Store the roots that lie along; gives those that have to be turned."""
        turned: dict[int, Value] = {}
        for k, i in enumerate(self.t.roots):
            value = scalar.align(b, values[i], at.lanes)
            if k in self.turned_roots:
                turned[k] = value
            else:
                b.store(self.results[k], self.offset(b, self.t.writes[k], at.place), value)
        return turned

    def _store_lines(
        self, b: Block, root: int, at: dict[int, Value], lines: Sequence[Value]
    ) -> None:
        """A square of a root that lies across."""
        places = self._steps(b, self.t.writes[root], at, self.t.along)
        for place, line in zip(places, lines):
            b.store(self.results[root], place, line)


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
