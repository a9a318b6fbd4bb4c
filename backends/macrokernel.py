"""What every walk over C has in common: its blocking, its operands, the way of sums to C.

for item in batch
  for block of rows
    the walk's own loops over columns and k
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .loops import INDEX, Block, Buffer, Const, LoopBlock, Ty, Value, Var
from .microkernel import Tile, arithmetic, arithmetic_of_words, offset
from .nested import RowTable, Shape, StepAxis, fill
from .targets import Target
from .words import Words

SHORT_EPILOGUE = 4  # statements up to which an epilogue is repeated for each vector of a row
MODERATE_EPILOGUE = 24  # and up to which it is where k goes by words: a requantization is


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
    products); edges: the tiles of a narrower panel from left to right, and of which the last vector
    is masked; those that repeat are one vector wide. rows: in a block; narrow: C has less columns
    than a panel; turned: A and B trade places, vectors run along m; packed: B lies in panels
    already; kept: elements of the workspace for sums (0: k is one block); packs: a panel is packed
    behind them; masks: masked loads are cheap; foot: rows that have a tile of their own where just
    so many are left at the bottom (0: there is none); deep: blocks of k lie outside of the panels,
    whose sums are all kept, `height` rows each. words: k goes by words.
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
    foot: int = 0
    deep: bool = False
    height: int = 0
    words: Words | None = None

    def workspace(self, depth: int) -> int:
        """Elements of the workspace, if a block of k is at most `depth` long."""
        lines = (depth if self.packs else 0) + self.starts
        return self.kept + lines * self.main.columns

    @property
    def starts(self) -> bool:
        """Sums start with values of their own, one line of a panel."""
        return self.words is not None and self.words.flips


class Product:
    """What all nests of a kernel share: buffers, sizes, strides, arithmetic, epilogue.

    units: the axis with stride 1 of A ("k", "m", None) and of B ("n", "k", None); sizes: M, N, K
    where known. steps: the axes of k, outermost first; depth: the length of a block of axis
    `shape.lead` of them; total: how many steps there are. rest: elements of the last word along the
    innermost axis if it may not be whole (0: it is).
    """

    def __init__(
        self,
        dtypes: tuple[str, str, str],
        units: tuple[str | None, str | None],
        sizes: tuple[int | None, int | None, int | None],
        shape: Shape,
        target: Target,
        epilogue: Epilogue | None,
    ):
        a, b, out = dtypes
        self.arithmetic = arithmetic(a, b, target.has_fma)
        self.units = units
        self.shape = shape
        self.index_dtype = target.index_dtype
        self.dims = {name: Var(name, Ty(INDEX)) for name in shape.dims()}
        self.m, self.n, self.k = (
            self.dims[name] if size is None else Const(size, Ty(INDEX))
            for name, size in zip("MNK", sizes)
        )
        self.total: Value = self.k
        self.rest: Value | None = None
        self.a, self.b, self.c = Buffer("A", a), Buffer("B", b), Buffer("C", out, "w")
        self.workspace = Buffer("workspace", self.arithmetic.accumulate, "rw")
        self.plain = epilogue is None
        self.epilogue: Epilogue = epilogue or (lambda b, sums, at: sums)
        length = self._epilogue_length()
        self.short, self.moderate = length <= SHORT_EPILOGUE, length <= MODERATE_EPILOGUE
        self.steps = self._steps()
        self.depth: Value = self.steps[shape.lead].size
        self.runs: list[Value] = []  # steps that one of an axis stands for

    def _epilogue_length(self) -> int:
        trial, zero = Block(), Const(0, Ty(INDEX))
        sums = trial.fresh(Ty(self.arithmetic.accumulate))
        self.epilogue(trial, sums, Position(zero, zero, zero, None))
        return len(trial.stmts)

    def _steps(self) -> list[StepAxis]:
        d, last = self.dims, self.shape.steps - 1
        left, right = self.operands()
        if not last:
            return [StepAxis(self.k, left.depth, right.depth)]
        outer = [StepAxis(d[f"k{j}"], d[f"a_k{j}"], d[f"b_k{j}"]) for j in range(last)]
        return [*outer, StepAxis(d[f"k{last}"], left.depth, right.depth)]

    def row_axes(self) -> tuple[list[Value], list[Value], list[Value]]:
        """Sizes of all axes of rows but the outermost; how far A and C move along each axis."""
        d, (left, _) = self.dims, self.operands()
        outer = range(self.shape.rows - 1)
        sizes: list[Value] = [d[f"m{j + 1}"] for j in outer]
        a_steps = [*(d[f"a_m{j}"] for j in outer), left.along]
        if not self.shape.scattered:
            return sizes, a_steps, []
        return sizes, a_steps, [*(d[f"c_m{j}"] for j in outer), d["c_row"]]

    def open(self, b: Block, longest: int, blocks: bool, words: Words | None, whole: bool) -> None:
        """Emit what the kernel starts with.

        The number of rows; how many steps each axis of k stands for; the length of a block of k, if
        there are blocks: as few as `longest` steps allow, about equal. whole: the innermost axis
        has no rest.
        """
        for size in self.row_axes()[0]:
            self.m = b.let("mul", self.m, size)
        if words is not None:
            self._take_words(b, words.group, whole)
        run: Value = b.index(1)
        for axis in reversed(self.steps):
            self.runs.insert(0, run)
            run = times(b, run, axis.size)
        self.total = self.k if words is None else run
        if not blocks:
            return
        size, inner = self.steps[self.shape.lead].size, self.runs[self.shape.lead]
        most: Value = b.index(longest)
        if inner != b.index(1):
            most = b.let("max", b.let("div", most, b.let("max", inner, b.index(1))), b.index(1))
        size = b.let("max", size, b.index(1))
        count = b.let("div", b.let("add", size, offset(b, most, -1)), most)
        self.depth = b.let("div", b.let("add", size, offset(b, count, -1)), count)

    def _take_words(self, b: Block, group: int, whole: bool) -> None:
        """Steps of the innermost axis of k are words from here on."""
        last, by = self.steps[-1], b.index(group)
        count = b.let("div", offset(b, last.size, group - 1), by)
        self.steps[-1] = StepAxis(count, times(b, last.a, by), times(b, last.b, by))
        self.rest = None if whole else b.let("rem", last.size, by)

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
    """Rows `start` up to `stop` of one item of the batch; where they lie if they are a nest."""

    item: Value
    start: Value
    stop: Value
    table: RowTable | None = None


class Nest:
    """One walk over C; `left` is read as scalars, `right` as vectors (Form.DOTS: both along k)."""

    def __init__(self, product: Product, blocking: Blocking, rows: Value):
        self.product, self.blocking = product, blocking
        self.left, self.right = product.operands()
        self.rows, self.columns, self.steps = rows, product.n, product.steps
        if blocking.turned:
            self.steps = [axis._replace(a=axis.b, b=axis.a) for axis in self.steps]
            self.left, self.right = self.right, self.left._replace(unit="n")
            self.rows, self.columns = self.columns, self.rows
        words = blocking.words
        self.arithmetic = arithmetic_of_words(words) if words else product.arithmetic

    def write(self, b: Block) -> tuple[()]:
        """Emit the whole product."""
        high = self.blocking.rows
        with b.loop(0, self.product.dims["batch"], hint="item") as item:
            with item.loop(0, self.rows, high, hint="block") as block:
                stop = block.let("min", offset(block, block.var, high), self.rows)
                rows = Rows(item.var, block.var, stop)
                self.block(block, rows._replace(table=self._table(block, rows)))
        return ()

    def _table(self, b: Block, rows: Rows) -> RowTable | None:
        """The addresses of the rows of a block, on the stack, if rows are a nest."""
        product = self.product
        if product.shape.rows == 1:
            return None
        sizes, a_steps, c_steps = product.row_axes()
        high, dtype = self.blocking.rows, product.index_dtype
        a = b.alloc(dtype, high)
        c = b.alloc(dtype, high) if c_steps else None
        pairs = [(a_steps, a), *([(c_steps, c)] if c is not None else [])]
        fill(b, sizes, [s for s, _ in pairs], [t for _, t in pairs], (rows.start, rows.stop))
        return RowTable(rows.start, a, c)

    def block(self, b: Block, rows: Rows) -> None:
        """Emit all columns of a block of rows."""
        raise NotImplementedError

    def store(
        self, b: Block, rows: Rows, row: Value, column: Value, sums: Value, mask: Value | None
    ) -> None:
        """Sums of one row of the nest from `column` on, through the epilogue, to C."""
        if self.blocking.turned:
            row, column = column, row
        product, item = self.product, rows.item
        value = product.epilogue(b, sums, Position(item, row, column, mask))
        where = b.let("add", times(b, item, product.dims["c_batch"]), column)
        if rows.table is not None and rows.table.c is not None:
            home = b.load(rows.table.c, b.let("sub", row, rows.table.start))
            where = b.let("add", where, b.cast(home, INDEX))
        else:
            where = b.let("add", where, times(b, row, product.dims["c_row"]))
        b.store(product.c, where, b.cast(value, product.c.dtype), mask)


def across(
    b: Block, tiles: Sequence[tuple[Tile, bool]], width: Value
) -> Iterator[tuple[LoopBlock, Tile, Value | None]]:
    """Loops over `width` columns, one for each tile: yields (body, tile, mask of its last vector).

    A tile of several vectors is for just so many columns.
    """
    begin: Value = b.index(0)
    for tile, masked in tiles:
        end = width
        if tile.vectors > 1 and not masked:
            end = offset(b, begin, tile.columns)
        elif tile.lanes > 1 and not masked:
            end = round_down(b, width, tile.lanes)
        with b.loop(begin, end, tile.columns, hint="across") as e:
            mask = None
            if masked:
                rest = offset(e, e.let("sub", width, e.var), -(tile.vectors - 1) * tile.lanes)
                mask = first_lanes(e, rest, tile.lanes)
            yield e, tile, mask
        begin = end


def first_lanes(b: Block, count: Value, lanes: int) -> Value:
    """A mask of the first `count` lanes."""
    return b.let("lt", b.let("iota", type=Ty(INDEX, lanes)), b.splat(count, lanes))


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
