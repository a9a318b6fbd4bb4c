"""The loops around a register tile: batch, blocks of rows, panels of columns, blocks of k, edges, epilogue.

    for item in batch
      for block of rows
        for panel of columns                       one panel of B, `main.columns` wide
          for block of k                           at most `depth` long
            pack the panel of B, if it has to be
            for tile of rows: register tile; row by row through the epilogue to C, or, where k goes
              on, to the workspace

The last panel, if narrower, is done vector by vector, with masks or, where those are slow, element by
element at the end. A tile that sticks out of C at the bottom reads its last row again and drops it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .loops import INDEX, Block, Buffer, Const, LoopBlock, Ty, Value, Var
from .microkernel import (
    ACCUMULATE,
    Panel,
    Stream,
    Tile,
    arithmetic,
    inner_product,
    offset,
    outer_product,
    row_sums,
    zeros,
)
from .packing import Source, pack

STREAMS = 8  # rows of B added at a time
SHORT_EPILOGUE = 4  # statements up to which an epilogue is repeated for each vector of a row

DIMS = (
    *("batch", "M", "N", "K", "a_batch", "a_row", "a_col"),
    *("b_batch", "b_row", "b_col", "c_batch", "c_row"),
)


class Position(NamedTuple):
    """Where values belong: C[batch, row, column ... column + lanes - 1]; `mask`: which do (None: all)."""

    batch: Value
    row: Value
    column: Value
    mask: Value | None


Epilogue = Callable[[Block, Value, Position], Value]


class Form(enum.Enum):
    """How sums are held while k advances.

    TILES: register tiles, rows by vectors along n. STREAMS: a row of C on the stack, to which rows of
    B are added as they stream by (few rows of A, a large B). DOTS: vectors along k.
    """

    TILES = enum.auto()
    STREAMS = enum.auto()
    DOTS = enum.auto()


class Blocking(NamedTuple):
    """How one nest walks over C.

    main: the tile of whole panels (STREAMS: a piece of a row of C; DOTS: rows by columns of dot
    products); edges: the tiles of a narrower panel from left to right, one vector wide, and which of
    them is masked. rows: in a block; turned: A and B trade places, so vectors run along m; packed: B
    lies in panels already; kept, packs: elements of the workspace for sums (0: k is one block) and
    for a packed panel (0: none); masks: the target has masked loads.
    """

    form: Form
    main: Tile
    edges: tuple[tuple[Tile, bool], ...]
    rows: int
    turned: bool = False
    packed: bool = False
    kept: int = 0
    packs: int = 0
    masks: bool = False

    @property
    def workspace(self) -> int:
        """Elements of the workspace."""
        return self.kept + self.packs


class _Operand(NamedTuple):
    """A or B as a nest sees it: strides from one batch item, row (column) and k to the next."""

    buffer: Buffer
    batch: Value
    along: Value
    depth: Value
    unit: str | None


class _Nest(NamedTuple):
    """What stays the same in one nest: `left` is read as scalars, `right` as vectors."""

    blocking: Blocking
    left: _Operand
    right: _Operand
    rows: Value
    columns: Value


class _Place(NamedTuple):
    """A block of rows of one panel of C, and the block of k at hand."""

    item: Value
    start: Value  # rows
    stop: Value
    column: Value  # the panel's first
    first_k: Value
    count: Value


class _Strip(NamedTuple):
    """What one register tile at a time covers: the columns from `shift` on of a panel."""

    tile: Tile
    shift: Value
    mask: Value | None
    scratch: Buffer


class MacroKernel:
    """Writes the nests of one kernel.

    dtypes of the operands and of C, units (of A, of B), sizes (M, N, K where known), the integer
    dtype of an index, the epilogue (None: the sums themselves).
    """

    def __init__(
        self,
        dtype: str,
        out: str,
        units: tuple[str | None, str | None],
        sizes: tuple[int | None, int | None, int | None],
        index_dtype: str,
        epilogue: Epilogue | None,
    ):
        self.dtype = dtype
        self.accumulate = ACCUMULATE[dtype]
        self.units = units
        self.index_dtype = index_dtype
        self.dims = {name: Var(name, Ty(INDEX)) for name in DIMS}
        self.m, self.n, self.k = (
            self.dims[name] if size is None else Const(size, Ty(INDEX))
            for name, size in zip("MNK", sizes)
        )
        self.depth: Value = self.k
        self.a, self.b = Buffer("A", dtype), Buffer("B", dtype)
        self.c = Buffer("C", out, "w")
        self.workspace = Buffer("workspace", self.accumulate, "rw")
        self.epilogue: Epilogue = epilogue or (lambda b, sums, at: sums)
        self.short = self._epilogue_length() <= SHORT_EPILOGUE

    def _epilogue_length(self) -> int:
        trial, zero = Block(), Const(0, Ty(INDEX))
        self.epilogue(trial, trial.fresh(Ty(self.accumulate)), Position(zero, zero, zero, None))
        return len(trial.stmts)

    def prepare(self, b: Block, depth: int) -> None:
        """Compute what all nests share: the length of a block of k, as few blocks as `depth` allows."""
        if isinstance(self.k, Const):
            blocks = max(1, -(-self.k.value // depth))
            self.depth = b.index(max(1, -(-self.k.value // blocks)))
        else:
            k = b.let("max", self.k, b.index(1))
            blocks = b.let("div", offset(b, k, depth - 1), b.index(depth))
            self.depth = b.let("div", b.let("add", k, offset(b, blocks, -1)), blocks)

    def _operands(self, blocking: Blocking) -> tuple[_Operand, _Operand]:
        d, one, (a_unit, b_unit) = self.dims, Const(1, Ty(INDEX)), self.units
        a_row = one if a_unit == "m" else d["a_row"]
        a_col = one if a_unit == "k" else d["a_col"]
        b_row = one if b_unit == "k" else d["b_row"]
        b_col = one if b_unit == "n" else d["b_col"]
        a = _Operand(self.a, d["a_batch"], a_row, a_col, a_unit)
        b = _Operand(self.b, d["b_batch"], b_col, b_row, b_unit)
        return (b, a._replace(unit="n")) if blocking.turned else (a, b)

    # --- loops, from the outside in ---

    def nest(self, b: Block, blocking: Blocking, rows: Value) -> Sequence[Value]:
        """The whole product, walked over one way; `rows`: M, or what is known of it."""
        columns: Value = self.n
        if blocking.turned:
            rows, columns = columns, rows
        nest = _Nest(blocking, *self._operands(blocking), rows, columns)
        walk = {
            Form.TILES: self._panels,
            Form.STREAMS: self._streams,
            Form.DOTS: self._dot_products,
        }[blocking.form]
        with b.loop(0, self.dims["batch"], hint="item") as item:
            with item.loop(0, rows, blocking.rows, hint="block") as block:
                stop = block.let("min", offset(block, block.var, blocking.rows), rows)
                walk(block, nest, item.var, block.var, stop)
        return ()

    def _panels(self, b: Block, nest: _Nest, item: Value, start: Value, stop: Value) -> None:
        with b.loop(0, nest.columns, nest.blocking.main.columns, hint="column") as p:
            if not nest.blocking.kept:
                zero = p.index(0)
                self._panel(p, nest, _Place(item, start, stop, p.var, zero, self.k))
                return
            # one block even for K = 0: C is to be written
            with p.loop(0, p.let("max", self.k, p.index(1)), self.depth, hint="depth") as d:
                count = d.let("min", d.let("sub", self.k, d.var), self.depth)
                self._panel(d, nest, _Place(item, start, stop, p.var, d.var, count))

    def _panel(self, b: Block, nest: _Nest, place: _Place) -> None:
        """One block of k of one panel, whole or narrower."""
        main, edges = nest.blocking.main, nest.blocking.edges
        height = b.let("sub", place.stop, place.start)
        work = _times(b, b.let("mul", height, place.count), b.index(max(1, main.columns // 8)))
        b.poll(work)
        left = b.let("sub", nest.columns, place.column)
        source = self._right(b, nest, place, left)
        never = isinstance(nest.columns, Const) and nest.columns.value < main.columns

        def whole(t: Block) -> Sequence[Value]:
            self._strip(t, nest, place, source, main, t.index(0), None)
            return ()

        def narrow(t: Block) -> Sequence[Value]:
            self._edge(t, nest, place, source, left)
            return ()

        if never:
            narrow(b)
        elif edges:
            b.branch(b.let("ge", left, b.index(main.columns)), whole, narrow)
        else:
            whole(b)

    def _edge(self, b: Block, nest: _Nest, place: _Place, source: Panel, left: Value) -> None:
        """The last panel: vector by vector, then, without masks, element by element."""
        for e, tile, mask in _across(b, nest.blocking.edges, left):
            self._strip(e, nest, place, source, tile, e.var, mask)

    def _right(self, b: Block, nest: _Nest, place: _Place, left: Value) -> Panel:
        """Where the panel of the vector operand is: in place, packed before, or packed here."""
        blocking, right = nest.blocking, nest.right
        width = b.index(blocking.main.columns)
        start = _times(b, place.item, right.batch)
        if blocking.packed:
            start = b.let("add", start, _times(b, place.column, self.k))
            start = b.let("add", start, _times(b, place.first_k, width))
            return Panel(right.buffer, start, width, True)
        start = b.let("add", start, _times(b, place.first_k, right.depth))
        start = b.let("add", start, _times(b, place.column, right.along))
        if not blocking.packs:
            return Panel(right.buffer, start, right.depth, False)
        source = Source(
            *(right.buffer, start, right.depth, right.along, right.unit, left, blocking.masks),
            self.index_dtype,
        )
        to = b.index(blocking.kept)
        pack(b, self.dtype, blocking.main, source, self.workspace, to, place.count)
        return Panel(self.workspace, to, width, True)

    def _strip(
        self,
        b: Block,
        nest: _Nest,
        place: _Place,
        source: Panel,
        tile: Tile,
        shift: Value,
        mask: Value | None,
    ) -> None:
        """All rows of the block over the columns of one tile.

        The addresses of a tile's rows go through a table on the stack: they are computed by a loop,
        and LLVM's strength reduction, which takes sums of products apart, finds nothing to try.
        """
        strip = _Strip(tile, shift, mask, b.alloc(self.accumulate, tile.rows * tile.columns))
        table = b.alloc(self.index_dtype, tile.rows + 1)
        left, at_panel = nest.left, b.index(tile.rows)
        b.store(table, at_panel, b.cast(b.let("add", source.start, shift), self.index_dtype))
        source = source._replace(start=b.cast(b.load(table, at_panel), INDEX))
        base = b.let("add", _times(b, place.item, left.batch), _times(b, place.first_k, left.depth))
        last = b.let("sub", nest.rows, b.index(1))
        with b.loop(place.start, place.stop, tile.rows, hint="row") as r:
            with r.loop(0, r.index(tile.rows), hint="i") as i:
                row = i.let("min", i.let("add", r.var, i.var), last)
                start = i.let("add", base, _times(i, row, left.along))
                i.store(table, i.var, i.cast(start, self.index_dtype))
            starts = [r.cast(r.load(table, r.index(i)), INDEX) for i in range(tile.rows)]
            rows = Stream(left.buffer, tuple(starts), left.depth)
            in_place = mask if not source.padded else None
            sums = outer_product(r, self.dtype, tile, rows, source, in_place, place.count)
            for s, x in enumerate(sums):
                r.store(strip.scratch, r.index(s * tile.lanes), x)
            self._results(r, nest, place, strip, r.var)

    # --- results ---

    def _results(self, b: Block, nest: _Nest, place: _Place, strip: _Strip, row: Value) -> None:
        """A tile from the stack, row by row, cut off where C ends: to C, or kept in the workspace.

        A loop, so that the epilogue is written once; its vectors are unrolled if few and short.
        """
        tile = strip.tile
        height = b.let("min", b.let("sub", place.stop, row), b.index(tile.rows))
        unrolled = not nest.blocking.turned and (
            tile.vectors == 1 or (tile.vectors <= 4 and self.short)
        )
        with b.loop(0, height, hint="i") as i:
            here = i.let("add", row, i.var)
            start = _times(i, i.var, i.index(tile.columns))
            if unrolled:
                pieces = [i.index(j * tile.lanes) for j in range(tile.vectors)]
                self._pieces(i, nest, place, strip, here, start, pieces, tile.lanes)
            else:
                self._rolled(i, nest, place, strip, here, start)

    def _rolled(
        self, b: Block, nest: _Nest, place: _Place, strip: _Strip, row: Value, start: Value
    ) -> None:
        """A row of a tile as a loop; over elements if the tile is turned."""
        lanes, stop = strip.tile.lanes, b.index(strip.tile.columns)
        if nest.blocking.turned:
            rest = b.let("sub", nest.columns, b.let("add", place.column, strip.shift))
            lanes, stop = 1, b.let("min", rest, stop)
        with b.loop(0, stop, lanes, hint="j") as j:
            self._pieces(j, nest, place, strip, row, start, [j.var], lanes)

    def _pieces(
        self,
        b: Block,
        nest: _Nest,
        place: _Place,
        strip: _Strip,
        row: Value,
        start: Value,
        pieces: Sequence[Value],
        lanes: int,
    ) -> None:
        """Vectors of one row of a tile, at columns `pieces` of it."""
        width = nest.blocking.main.columns
        at = [b.let("add", strip.shift, piece) for piece in pieces]  # columns of the panel
        xs: list[Value] = [
            b.load(strip.scratch, b.let("add", start, piece), lanes) for piece in pieces
        ]
        mask = strip.mask if lanes > 1 else None

        def store(t: Block) -> Sequence[Value]:
            for column, x in zip(at, xs):
                self._store(t, nest, place, row, t.let("add", place.column, column), x, mask)
            return ()

        if not nest.blocking.kept:
            store(b)
            return
        join = arithmetic(self.dtype).join
        kept = _times(b, b.let("sub", row, place.start), b.index(width))
        where = [b.let("add", kept, column) for column in at]

        def joined(t: Block) -> Sequence[Value]:
            return [join(t, t.load(self.workspace, w, lanes), x) for w, x in zip(where, xs)]

        def keep(t: Block) -> Sequence[Value]:
            for w, x in zip(where, xs):
                t.store(self.workspace, w, x)
            return ()

        xs = list(b.branch(b.let("gt", place.first_k, b.index(0)), joined, lambda t: xs))
        last = b.let("ge", b.let("add", place.first_k, place.count), self.k)
        b.branch(last, store, keep)

    def _store(
        self,
        b: Block,
        nest: _Nest,
        place: _Place,
        row: Value,
        column: Value,
        sums: Value,
        mask: Value | None,
    ) -> None:
        """Through the epilogue to C."""
        if nest.blocking.turned:
            row, column = column, row
        at = Position(place.item, row, column, mask)
        value = b.cast(self.epilogue(b, sums, at), self.c.dtype)
        where = b.let("add", _times(b, at.batch, self.dims["c_batch"]), column)
        where = b.let("add", where, _times(b, row, self.dims["c_row"]))
        b.store(self.c, where, value, mask)

    # --- rows of B streaming by ---

    def _streams(self, b: Block, nest: _Nest, item: Value, start: Value, stop: Value) -> None:
        """Row after row of C, in pieces that fit on the stack."""
        piece = nest.blocking.main.columns
        scratch = b.alloc(self.accumulate, piece)
        many = b.let("sub", self.k, b.let("rem", self.k, b.index(STREAMS)))
        with (
            b.loop(start, stop, hint="row") as r,
            r.loop(0, nest.columns, piece, hint="column") as c,
        ):
            width = c.let("min", c.let("sub", nest.columns, c.var), c.index(piece))
            c.poll(c.let("mul", self.k, c.index(piece // 8)))
            lanes = nest.blocking.main.lanes
            with c.loop(0, c.index(piece), lanes, hint="across") as e:
                e.store(scratch, e.var, zeros(self.accumulate, lanes))
            with c.loop(0, many, STREAMS, hint="k") as k:
                self._stream(k, nest, item, r.var, c.var, width, scratch, STREAMS)
            with c.loop(many, self.k, hint="k") as k:
                self._stream(k, nest, item, r.var, c.var, width, scratch, 1)
            place = _Place(item, start, stop, c.var, c.index(0), self.k)
            tiles = ((Tile(1, 1, 1), False),) if nest.blocking.turned else nest.blocking.edges
            for e, tile, mask in _across(c, tiles, width):
                x = e.load(scratch, e.var, tile.lanes)
                self._store(e, nest, place, r.var, e.let("add", c.var, e.var), x, mask)

    def _stream(
        self,
        k: LoopBlock,
        nest: _Nest,
        item: Value,
        row: Value,
        column: Value,
        width: Value,
        scratch: Buffer,
        many: int,
    ) -> None:
        """Add `many` rows of B, each times its element of A."""
        left, right = nest.left, nest.right
        at_a = k.let("add", _times(k, item, left.batch), _times(k, row, left.along))
        at_b = k.let("add", _times(k, item, right.batch), _times(k, column, right.along))
        factors: list[Value] = []
        starts: list[Value] = []
        for u in range(many):
            step = offset(k, k.var, u)
            x = k.load(left.buffer, k.let("add", at_a, _times(k, step, left.depth)))
            factors.append(k.cast(x, self.accumulate))
            starts.append(k.let("add", at_b, _times(k, step, right.depth)))
        for e, tile, mask in _across(k, nest.blocking.edges, width):
            here = Stream(right.buffer, tuple(e.let("add", s, e.var) for s in starts), e.index(1))
            total = row_sums(e, self.dtype, tile.lanes, factors, here, mask)
            total = arithmetic(self.dtype).join(e, e.load(scratch, e.var, tile.lanes), total)
            e.store(scratch, e.var, total)

    # --- dot products ---

    def _dot_products(self, b: Block, nest: _Nest, item: Value, start: Value, stop: Value) -> None:
        """Some rows by some columns of dot products along k at a time."""
        tile, zero = nest.blocking.main, b.index(0)
        scratch = b.alloc(self.accumulate, tile.rows * tile.vectors)
        unroll = max(1, 8 // (tile.rows * tile.vectors))
        with b.loop(0, nest.columns, tile.vectors, hint="column") as c:
            width = c.let("min", c.let("sub", nest.columns, c.var), c.index(tile.vectors))
            columns = self._lines(c, nest.right, item, c.var, tile.vectors, nest.columns)
            with c.loop(start, stop, tile.rows, hint="row") as r:
                height = r.let("min", r.let("sub", stop, r.var), r.index(tile.rows))
                r.poll(self.k)
                rows = self._lines(r, nest.left, item, r.var, tile.rows, nest.rows)
                for i, x in enumerate(
                    inner_product(r, self.dtype, tile.lanes, unroll, rows, columns, self.k)
                ):
                    r.store(scratch, r.index(i), x)
                place = _Place(item, start, stop, c.var, zero, self.k)
                with r.loop(0, height, hint="i") as i, i.loop(0, width, hint="j") as j:
                    line = _times(j, i.var, j.index(tile.vectors))
                    x = j.load(scratch, j.let("add", line, j.var))
                    row, column = j.let("add", r.var, i.var), j.let("add", c.var, j.var)
                    self._store(j, nest, place, row, column, x, None)

    def _lines(
        self, b: Block, operand: _Operand, item: Value, first: Value, many: int, size: Value
    ) -> Stream:
        """`many` lines of an operand along k; beyond the last line, the last again."""
        base, last = _times(b, item, operand.batch), b.let("sub", size, b.index(1))
        starts = []
        for i in range(many):
            line = b.let("min", offset(b, first, i), last)
            starts.append(b.let("add", base, _times(b, line, operand.along)))
        return Stream(operand.buffer, tuple(starts), b.index(1))


def _across(
    b: Block, tiles: Sequence[tuple[Tile, bool]], width: Value
) -> Iterator[tuple[LoopBlock, Tile, Value | None]]:
    """Loops over `width` columns, one for each of `tiles`, a vector at a time: (body, tile, mask)."""
    begin: Value = b.index(0)
    for tile, masked in tiles:
        end = width if masked or tile.lanes == 1 else _round_down(b, width, tile.lanes)
        with b.loop(begin, end, tile.lanes, hint="across") as e:
            mask = None
            if masked:
                left = e.splat(e.let("sub", width, e.var), tile.lanes)
                mask = e.let("lt", e.let("iota", type=Ty(INDEX, tile.lanes)), left)
            yield e, tile, mask
        begin = end


def _times(b: Block, x: Value, y: Value) -> Value:
    """x * y; nothing is emitted where both are known or one is 0 or 1."""
    known = [v.value for v in (x, y) if isinstance(v, Const)]
    if len(known) == 2:
        return b.index(known[0] * known[1])
    if 0 in known:
        return b.index(0)
    if 1 in known:
        return y if isinstance(x, Const) else x
    return b.let("mul", x, y)


def _round_down(b: Block, x: Value, to: int) -> Value:
    """The largest multiple of `to` that is not above x."""
    return b.let("sub", x, b.let("rem", x, b.index(to)))
