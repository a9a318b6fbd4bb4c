"""The loops around a register tile: batch, blocks of rows, panels of columns, blocks of k, edges.

    for item in batch
      for block of rows
        for panel of columns            `main.columns` wide
          for block of k                at most `depth` long
            pack the panel of B, if it has to be
            for tile of rows            register tile, then row by row through the epilogue to C,
                                        or, where k goes on, to the workspace

A narrower last panel is done vector by vector, under a mask or, where masks are slow, by elements
at the end. A tile that sticks out of C at the bottom reads the last row again and drops it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .loops import INDEX, Block, Buffer, Const, LoopBlock, Ty, Value, Var
from .microkernel import Panel, Stream, Tile, arithmetic, offset, outer_product
from .packing import Destination, Source, pack
from .targets import Target

SHORT_EPILOGUE = 4  # statements up to which an epilogue is repeated for each vector of a row
FEW_VECTORS = 4  # in a row of a tile, up to which they are unrolled on their way to C

DIMS = (
    *("batch", "M", "N", "K", "a_batch", "a_row", "a_col"),
    *("b_batch", "b_row", "b_col", "c_batch", "c_row"),
)


class Position(NamedTuple):
    """Where values belong: C[batch, row, column + lane]; mask: for which lanes (None: all)."""

    batch: Value
    row: Value
    column: Value
    mask: Value | None


Epilogue = Callable[[Block, Value, Position], Value]


class Form(enum.Enum):
    """How sums are held while k advances.

    TILES: register tiles, rows by vectors along n. STREAMS: a row of C on the stack, to which rows
    of B are added as they stream by. DOTS: vectors along k.
    """

    TILES = enum.auto()
    STREAMS = enum.auto()
    DOTS = enum.auto()


class Blocking(NamedTuple):
    """How one nest walks over C.

    main: the tile of whole panels (STREAMS: a piece of a row of C; DOTS: rows by columns of dot
    products); edges: the tiles of a narrower panel from left to right, one vector wide, and which
    of them is masked. rows: in a block; narrow: C has less columns than a panel; turned: A and B
    trade places, vectors run along m; packed: B lies in panels already; kept: elements of the
    workspace for sums (0: k is one block); packs: a panel is packed behind them; masks: masked
    loads are cheap.
    """

    form: Form
    main: Tile
    edges: tuple[tuple[Tile, bool], ...]
    rows: int
    narrow: bool = False
    turned: bool = False
    packed: bool = False
    kept: int = 0
    packs: bool = False
    masks: bool = False

    def workspace(self, depth: int) -> int:
        """Elements of the workspace, if a block of k is at most `depth` long."""
        return self.kept + (depth * self.main.columns if self.packs else 0)


class Product:
    """What all nests of a kernel share: buffers, sizes, strides, arithmetic, epilogue.

    units: the axis with stride 1 of A ("k", "m", None) and of B ("n", "k", None); sizes: M, N, K
    where known. depth: the length of a block of k.
    """

    def __init__(
        self,
        dtypes: tuple[str, str],
        units: tuple[str | None, str | None],
        sizes: tuple[int | None, int | None, int | None],
        target: Target,
        epilogue: Epilogue | None,
    ):
        dtype, out = dtypes
        self.arithmetic = arithmetic(dtype, target.has_fma)
        self.units = units
        self.index_dtype = target.index_dtype
        self.dims = {name: Var(name, Ty(INDEX)) for name in DIMS}
        self.m, self.n, self.k = (
            self.dims[name] if size is None else Const(size, Ty(INDEX))
            for name, size in zip("MNK", sizes)
        )
        self.depth: Value = self.k
        self.a, self.b, self.c = Buffer("A", dtype), Buffer("B", dtype), Buffer("C", out, "w")
        self.workspace = Buffer("workspace", self.arithmetic.accumulate, "rw")
        self.epilogue: Epilogue = epilogue or (lambda b, sums, at: sums)
        self.short = self._epilogue_length() <= SHORT_EPILOGUE

    def _epilogue_length(self) -> int:
        trial, zero = Block(), Const(0, Ty(INDEX))
        sums = trial.fresh(Ty(self.arithmetic.accumulate))
        self.epilogue(trial, sums, Position(zero, zero, zero, None))
        return len(trial.stmts)

    def divide_depth(self, b: Block, longest: int) -> None:
        """Choose the length of a block of k: as few blocks as `longest` allows, about equal."""
        k = b.let("max", self.k, b.index(1))
        count = b.let("div", offset(b, k, longest - 1), b.index(longest))
        self.depth = b.let("div", b.let("add", k, offset(b, count, -1)), count)

    def operands(self) -> tuple[Operand, Operand]:
        """A and B, strides that are known to be 1 as constants."""
        d, one, (a_unit, b_unit) = self.dims, Const(1, Ty(INDEX)), self.units
        a_row = one if a_unit == "m" else d["a_row"]
        a_col = one if a_unit == "k" else d["a_col"]
        b_row = one if b_unit == "k" else d["b_row"]
        b_col = one if b_unit == "n" else d["b_col"]
        return (
            Operand(self.a, d["a_batch"], a_row, a_col, a_unit),
            Operand(self.b, d["b_batch"], b_col, b_row, b_unit),
        )


class Operand(NamedTuple):
    """A or B as a nest sees it: strides from item to item, along its axis of C, along k."""

    buffer: Buffer
    batch: Value
    along: Value
    depth: Value
    unit: str | None


class Rows(NamedTuple):
    """Rows `start` up to `stop` of one item of the batch."""

    item: Value
    start: Value
    stop: Value


class Nest:
    """One walk over C; `left` is read as scalars, `right` as vectors (Form.DOTS: both along k)."""

    def __init__(self, product: Product, blocking: Blocking, rows: Value):
        self.product, self.blocking = product, blocking
        self.left, self.right = product.operands()
        self.rows, self.columns = rows, product.n
        if blocking.turned:
            self.left, self.right = self.right, self.left._replace(unit="n")
            self.rows, self.columns = self.columns, self.rows
        self.arithmetic = product.arithmetic

    def write(self, b: Block) -> tuple[()]:
        """Emit the whole product."""
        high = self.blocking.rows
        with b.loop(0, self.product.dims["batch"], hint="item") as item:
            with item.loop(0, self.rows, high, hint="block") as block:
                stop = block.let("min", offset(block, block.var, high), self.rows)
                self.block(block, Rows(item.var, block.var, stop))
        return ()

    def block(self, b: Block, rows: Rows) -> None:
        """Emit all columns of a block of rows."""
        raise NotImplementedError

    def store(
        self, b: Block, item: Value, row: Value, column: Value, sums: Value, mask: Value | None
    ) -> None:
        """Sums of one row of the nest from `column` on, through the epilogue, to C."""
        if self.blocking.turned:
            row, column = column, row
        product = self.product
        value = product.epilogue(b, sums, Position(item, row, column, mask))
        where = b.let("add", times(b, item, product.dims["c_batch"]), column)
        where = b.let("add", where, times(b, row, product.dims["c_row"]))
        b.store(product.c, where, b.cast(value, product.c.dtype), mask)


class _Place(NamedTuple):
    """A block of rows and of k of a panel of C; `left`: columns from its first to C's last."""

    rows: Rows
    column: Value
    left: Value
    first_k: Value
    steps: Value


class _Strip(NamedTuple):
    """The columns of one tile: from `shift` on in a place's panel; scratch: a tile on the stack."""

    place: _Place
    tile: Tile
    shift: Value
    mask: Value | None
    scratch: Buffer


class Tiles(Nest):
    """Form.TILES."""

    def block(self, b: Block, rows: Rows) -> None:
        product = self.product
        with b.loop(0, self.columns, self.blocking.main.columns, hint="column") as p:
            left = p.let("sub", self.columns, p.var)
            if not self.blocking.kept:
                self._panel(p, _Place(rows, p.var, left, p.index(0), product.k))
            else:  # one block even for K = 0: C is to be written
                end = p.let("max", product.k, p.index(1))
                with p.loop(0, end, product.depth, hint="depth") as d:
                    count = d.let("min", d.let("sub", product.k, d.var), product.depth)
                    self._panel(d, _Place(rows, p.var, left, d.var, count))

    def _panel(self, b: Block, place: _Place) -> None:
        """A block of k of one panel, whole or narrower."""
        main = self.blocking.main
        height = b.let("sub", place.rows.stop, place.rows.start)
        work = b.let("mul", height, place.steps)
        b.poll(times(b, work, b.index(max(1, main.columns // 8))))
        source = self._source(b, place)

        def whole(t: Block) -> tuple[()]:
            return self._strip(t, place, source, main, t.index(0), None)

        def narrow(t: Block) -> tuple[()]:
            for e, tile, mask in across(t, self.blocking.edges, place.left):
                self._strip(e, place, source, tile, e.var, mask)
            return ()

        if not self.blocking.edges:
            whole(b)
        elif self.blocking.narrow:
            narrow(b)
        else:
            b.branch(b.let("ge", place.left, b.index(main.columns)), whole, narrow)

    def _source(self, b: Block, place: _Place) -> Panel:
        """Where the panel of the vector operand is: in place, packed before, or packed here."""
        blocking, right, product = self.blocking, self.right, self.product
        width = b.index(blocking.main.columns)
        start = times(b, place.rows.item, right.batch)
        if blocking.packed:
            start = b.let("add", start, times(b, place.column, product.k))
            start = b.let("add", start, times(b, place.first_k, width))
            return Panel(right.buffer, start, width, True)
        start = b.let("add", start, times(b, place.first_k, right.depth))
        start = b.let("add", start, times(b, place.column, right.along))
        if not blocking.packs:
            return Panel(right.buffer, start, right.depth, False)
        source = Source(
            *(right.buffer, start, right.depth, right.along, right.unit),
            *(place.left, blocking.masks),
        )
        to = b.index(blocking.kept)
        target = Destination(product.workspace, to, place.steps, product.index_dtype)
        pack(b, blocking.main, source, target)
        return Panel(product.workspace, to, width, True)

    def _strip(
        self, b: Block, place: _Place, source: Panel, tile: Tile, shift: Value, mask: Value | None
    ) -> tuple[()]:
        """All rows of the block over the columns of one tile.

        Addresses go through a table on the stack: a loop computes those of a tile's rows, and
        LLVM's strength reduction, which takes sums of products apart, finds nothing to try.
        """
        product, left = self.product, self.left
        scratch = b.alloc(self.arithmetic.accumulate, tile.rows * tile.columns)
        strip = _Strip(place, tile, shift, mask, scratch)
        table, at_source = b.alloc(product.index_dtype, tile.rows + 1), b.index(tile.rows)
        b.store(table, at_source, b.cast(b.let("add", source.start, shift), product.index_dtype))
        source = source._replace(start=b.cast(b.load(table, at_source), INDEX))
        base = times(b, place.rows.item, left.batch)
        base = b.let("add", base, times(b, place.first_k, left.depth))
        last = offset(b, self.rows, -1)
        with b.loop(place.rows.start, place.rows.stop, tile.rows, hint="row") as r:
            with r.loop(0, r.index(tile.rows), hint="i") as i:
                row = i.let("min", i.let("add", r.var, i.var), last)
                start = i.let("add", base, times(i, row, left.along))
                i.store(table, i.var, i.cast(start, product.index_dtype))
            starts = [r.cast(r.load(table, r.index(i)), INDEX) for i in range(tile.rows)]
            rows = Stream(left.buffer, tuple(starts), left.depth)
            reach = None if source.padded else mask
            sums = outer_product(r, self.arithmetic, tile, rows, source, reach, place.steps)
            for s, x in enumerate(sums):
                r.store(scratch, r.index(s * tile.lanes), x)
            self._results(r, strip, r.var)
        return ()

    def _results(self, b: Block, strip: _Strip, first_row: Value) -> None:
        """A tile from the stack row by row, cut off where C ends; the epilogue is written once."""
        tile, place = strip.tile, strip.place
        height = b.let("min", b.let("sub", place.rows.stop, first_row), b.index(tile.rows))
        few = tile.vectors == 1 or (tile.vectors <= FEW_VECTORS and self.product.short)
        with b.loop(0, height, hint="i") as i:
            row = i.let("add", first_row, i.var)
            start = times(i, i.var, i.index(tile.columns))
            if self.blocking.turned:  # a row of the tile is a piece of a column of C
                rest = i.let("sub", place.left, strip.shift)
                width = i.let("min", rest, i.index(tile.columns))
                with i.loop(0, width, hint="j") as j:
                    self._pieces(j, strip, row, start, [j.var], 1)
            elif few:
                pieces = [i.index(j * tile.lanes) for j in range(tile.vectors)]
                self._pieces(i, strip, row, start, pieces, tile.lanes)
            else:
                with i.loop(0, i.index(tile.columns), tile.lanes, hint="j") as j:
                    self._pieces(j, strip, row, start, [j.var], tile.lanes)

    def _pieces(
        self,
        b: Block,
        strip: _Strip,
        row: Value,
        start: Value,
        pieces: Sequence[Value],
        lanes: int,
    ) -> None:
        """Vectors of a tile's row, which begins at `start` in the scratch: to C, or kept."""
        place, workspace, join = strip.place, self.product.workspace, self.arithmetic.join
        mask = strip.mask if lanes > 1 else None
        columns = [b.let("add", strip.shift, piece) for piece in pieces]
        scratch = strip.scratch
        xs: list[Value] = [b.load(scratch, b.let("add", start, p), lanes) for p in pieces]

        def store(t: Block) -> tuple[()]:
            for column, sums in zip(columns, xs):
                where = t.let("add", place.column, column)
                self.store(t, place.rows.item, row, where, sums, mask)
            return ()

        if not self.blocking.kept:
            store(b)
            return
        width = b.index(self.blocking.main.columns)
        line = times(b, b.let("sub", row, place.rows.start), width)
        homes = [b.let("add", line, column) for column in columns]

        def joined(t: Block) -> list[Value]:
            return [join(t, t.load(workspace, w, lanes), x) for w, x in zip(homes, xs)]

        def keep(t: Block) -> tuple[()]:
            for home, sums in zip(homes, xs):
                t.store(workspace, home, sums)
            return ()

        xs = list(b.branch(b.let("gt", place.first_k, b.index(0)), joined, lambda t: xs))
        last = b.let("ge", b.let("add", place.first_k, place.steps), self.product.k)
        b.branch(last, store, keep)


def across(
    b: Block, tiles: Sequence[tuple[Tile, bool]], width: Value
) -> Iterator[tuple[LoopBlock, Tile, Value | None]]:
    """Loops over `width` columns by vectors, one loop for each tile: yields (body, tile, mask)."""
    begin: Value = b.index(0)
    for tile, masked in tiles:
        end = width if masked or tile.lanes == 1 else round_down(b, width, tile.lanes)
        with b.loop(begin, end, tile.lanes, hint="across") as e:
            mask = None
            if masked:
                left = e.splat(e.let("sub", width, e.var), tile.lanes)
                mask = e.let("lt", e.let("iota", type=Ty(INDEX, tile.lanes)), left)
            yield e, tile, mask
        begin = end


def times(b: Block, x: Value, y: Value) -> Value:
    """x * y; nothing is emitted where both are known or one is 0 or 1."""
    known = [v.value for v in (x, y) if isinstance(v, Const)]
    if len(known) == 2:
        return b.index(known[0] * known[1])
    if 0 in known:
        return b.index(0)
    if 1 in known:
        return y if isinstance(x, Const) else x
    return b.let("mul", x, y)


def round_down(b: Block, x: Value, to: int) -> Value:
    """The largest multiple of `to` that is not above x."""
    return b.let("sub", x, b.let("rem", x, b.index(to)))
