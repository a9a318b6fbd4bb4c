"""The loops around a register tile: panels of columns, blocks of k, tiles of rows, edges.

    for panel of columns            `main.columns` wide
      for block of k                some axes of k one by one, the next one in pieces; outside of
                                    the panels if the block's sums are few
        pack the panel of B, if it has to be
        for tile of rows            register tile, then row by row through the epilogue to C,
                                    or, where k goes on, to the workspace

A narrower last panel of known width has a tile of its own; others are done vector by vector, under
a mask or, where masks are slow, by elements at the end. A tile that sticks out of C at the bottom
reads the last row again and drops it, unless the rows that are left have a tile of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from .loops import INDEX, Block, Buffer, Value
from .macrokernel import Nest, Rows, across, first_lanes, times
from .microkernel import Ahead, OuterProduct, Panel, Rest, Stream, Tile, offset
from .packing import Destination, Source, pack
from .word_packing import pack_words

FEW_VECTORS = 4  # in a row of a tile, up to which they are unrolled on their way to C


class _Place(NamedTuple):
    """A block of rows and of k of a panel of C; `left`: columns from its first to C's last.

    first_k, steps: the block of k, as if k were one axis; at_a, at_b: how far A and B have moved to
    its first step; counts: its sizes along the axes of k that run in registers. rest: whether the
    last word of its runs of k is not whole (None: it always is). later: where the panel that is
    packed next begins, if it is worth asking for.
    """

    rows: Rows
    column: Value
    left: Value
    first_k: Value
    steps: Value
    at_a: Value
    at_b: Value
    counts: tuple[Value, ...]
    rest: Value | None = None
    later: Value | None = None


_Walk = Callable[[Block, _Place], object]


class _Strip(NamedTuple):
    """The columns of one tile: from `shift` on in a place's panel, which is read at `source`.

    scratch: a tile on the stack; table: where its rows lie in A, on the stack.
    """

    place: _Place
    source: Panel
    tile: Tile
    shift: Value
    mask: Value | None
    scratch: Buffer
    table: Buffer


class Tiles(Nest):
    """Form.TILES."""

    def block(self, b: Block, rows: Rows) -> None:
        counts, zero = tuple(axis.size for axis in self.steps), b.index(0)
        total, rest = self.product.total, self._rest(b)
        place = _Place(rows, zero, self.columns, zero, total, zero, zero, counts, rest)
        if self.blocking.deep:
            self._blocks(b, place, 0, self._panels)
            return
        inside = self._panel
        if self.blocking.kept:
            inside = partial(self._blocks, axis=0, inside=self._panel)
        self._panels(b, place, inside)

    def _panels(self, b: Block, place: _Place, inside: _Walk | None = None) -> None:
        """A loop over panels of columns."""
        with b.loop(0, self.columns, self.blocking.main.columns, hint="column") as p:
            left = p.let("sub", self.columns, p.var)
            (inside or self._panel)(p, place._replace(column=p.var, left=left))

    def _rest(self, b: Block) -> Value | None:
        """Whether runs of k end within a word."""
        rest = self.product.rest
        return None if rest is None else b.let("gt", rest, b.index(0))

    def _blocks(self, b: Block, place: _Place, axis: int, inside: _Walk) -> None:
        """Loops over blocks of k, axis by axis; one block even for K = 0: C is to be written."""
        product, step = self.product, self.steps[axis]
        size, lead = step.size, axis < product.shape.lead
        end, by = b.let("max", size, b.index(1)), b.index(1) if lead else product.depth
        with b.loop(0, end, by, hint="depth") as d:
            here = place._replace(
                first_k=_moved(d, place.first_k, d.var, product.runs[axis]),
                at_a=_moved(d, place.at_a, d.var, step.a),
                at_b=_moved(d, place.at_b, d.var, step.b),
            )
            if lead:
                self._blocks(d, here, axis + 1, inside)
                return
            if product.shape.lead:  # an axis outside may be empty
                none = d.let("eq", product.total, d.index(0))
                size = d.let("select", none, d.index(0), size)
            count = d.let("min", d.let("sub", size, d.var), product.depth)
            counts = (count, *(inner.size for inner in self.steps[axis + 1 :]))
            steps = times(d, count, product.runs[axis])
            if here.rest is not None and len(counts) == 1:  # the innermost axis itself is cut
                ends = d.let("eq", d.let("add", d.var, count), size)
                here = here._replace(rest=d.let("and", here.rest, ends))
            inside(d, here._replace(steps=steps, counts=counts))

    def _panel(self, b: Block, place: _Place) -> None:
        """A block of k of one panel, whole or narrower."""
        main = self.blocking.main
        height = b.let("sub", place.rows.stop, place.rows.start)
        work = b.let("mul", height, place.steps)
        b.poll(times(b, work, b.index(max(1, main.columns // 8))))
        source = self._source(b, place)
        if self.blocking.packs and self.right.unit == "n":
            place = place._replace(later=self._later(b, place))

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
            start = b.let("add", start, times(b, place.column, product.total))
            start = b.let("add", start, times(b, place.first_k, width))
            return self._with_starts(b, place, Panel(right.buffer, start, width, True))
        start = b.let("add", start, place.at_b)
        start = b.let("add", start, times(b, place.column, right.along))
        if not blocking.packs:
            return Panel(right.buffer, start, right.depth, False, self._outer(place, "b"))
        source = Source(
            *(right.buffer, start, right.depth, right.along, right.unit),
            *(place.left, blocking.masks),
        )
        to = b.index(blocking.kept)
        target = Destination(product.workspace, to, place.counts[-1], product.index_dtype)
        self._pack(b, place, source, target, 0)
        return self._with_starts(b, place, Panel(product.workspace, to, width, True))

    def _with_starts(self, b: Block, place: _Place, panel: Panel) -> Panel:
        """The panel with what a row's sums start with, written to the workspace, behind it."""
        words, main, workspace = self.blocking.words, self.blocking.main, self.product.workspace
        if words is None or not self.blocking.starts:
            return panel
        zeros: list[Value] = [self.arithmetic.zeros(main.lanes)] * main.vectors
        with b.loop(0, place.steps, carries=[panel.start, *zeros], hint="k") as k:
            at, *sums = k.carried
            lines = [
                k.load(panel.buffer, offset(k, at, j * main.lanes), main.lanes)
                for j in range(main.vectors)
            ]
            added = [words.start(k, line, x) for line, x in zip(lines, sums)]
            k.next(offset(k, at, main.columns), *added)
        sums = list(k.results[1:])
        end: Value = b.index(self.blocking.kept) if self.blocking.packed else k.results[0]
        for j, x in enumerate(sums):
            b.store(workspace, offset(b, end, j * main.lanes), b.let("neg", x))
        return panel._replace(sums=(workspace, end))

    def _later(self, b: Block, place: _Place) -> Value:
        """Where B goes on: after this block of k, or in the next columns."""
        right, step = self.right, self.steps[-1].b
        item = times(b, place.rows.item, right.batch)
        column = b.let("add", item, times(b, place.column, right.along))
        below = b.let("add", place.first_k, place.steps)
        further = b.let("add", column, times(b, below, step))
        width = b.index(self.blocking.main.columns)
        if self.blocking.deep:
            beside = b.let("add", place.column, width)
            wraps = b.let("ge", beside, self.columns)
            first_k = b.let("select", wraps, below, place.first_k)
            beside = b.let("select", wraps, b.index(0), beside)
            at = b.let("add", item, times(b, beside, right.along))
            return b.let("add", at, times(b, first_k, step))
        beside = b.let("add", column, times(b, width, right.along))
        return b.let("select", b.let("ge", below, self.product.total), beside, further)

    def _outer(self, place: _Place, operand: str) -> tuple[Value, ...]:
        """How far A or B moves along the axes of a block's steps, but for the innermost."""
        inside = self.steps[len(self.steps) - len(place.counts) : -1]
        return tuple(getattr(axis, operand) for axis in inside)

    def _pack(
        self, b: Block, place: _Place, source: Source, target: Destination, axis: int
    ) -> None:
        """Pack the panel: the axes of k from `axis` on."""
        main = self.blocking.main
        if axis + 1 == len(place.counts):
            if self.blocking.words is None:
                pack(b, main, source, target)
            else:
                self._pack_words(b, place, source, target)
            return
        first = len(self.steps) - len(place.counts)
        length = times(b, self.product.runs[first + axis], b.index(main.columns))
        by = self._outer(place, "b")[axis]
        with b.loop(0, place.counts[axis], carries=[source.start, target.start], hint="s") as s:
            here, to = s.carried
            self._pack(s, place, source._replace(start=here), target._replace(start=to), axis + 1)
            s.next(s.let("add", here, by), s.let("add", to, length))

    def _pack_words(self, b: Block, place: _Place, source: Source, target: Destination) -> None:
        """Pack a run of k by words."""
        words, rest = self.blocking.words, self.product.rest
        assert words is not None
        elements = None
        if place.rest is not None and rest is not None:
            cut = b.let("select", place.rest, b.index(1), b.index(0))
            whole = b.let("sub", target.steps, cut)
            elements = b.let("mul", whole, b.index(words.group))
            elements = b.let("add", elements, b.let("mul", cut, rest))
            target = target._replace(steps=whole)
        pack_words(b, words, self.blocking.main, source, target, elements)

    def _strip(
        self, b: Block, place: _Place, source: Panel, tile: Tile, shift: Value, mask: Value | None
    ) -> tuple[()]:
        """All rows of the block over the columns of one tile.

        Addresses go through a table on the stack: a loop computes those of a tile's rows, and
        LLVM's strength reduction, which takes sums of products apart, finds nothing to try.
        """
        product, rows, foot = self.product, place.rows, self.blocking.foot
        scratch = b.alloc(self.arithmetic.accumulate, tile.rows * tile.columns)
        table, at_source = b.alloc(product.index_dtype, tile.rows + 1), b.index(tile.rows)
        b.store(table, at_source, b.cast(b.let("add", source.start, shift), product.index_dtype))
        source = source._replace(start=b.cast(b.load(table, at_source), INDEX))
        if source.sums is not None:
            buffer, first = source.sums
            source = source._replace(sums=(buffer, b.let("add", first, shift)))
        strip = _Strip(place, source, tile, shift, mask, scratch, table)
        stop, whole = rows.stop, rows.stop
        if foot and tile == self.blocking.main:
            left = b.let("rem", b.let("sub", stop, rows.start), b.index(tile.rows))
            fits = b.let("eq", left, b.index(foot))
            whole = b.let("select", fits, b.let("sub", stop, left), stop)
        with b.loop(rows.start, whole, tile.rows, hint="row") as r:
            self._tile(r, strip, r.var)
        if foot and tile == self.blocking.main:
            with b.loop(whole, stop, foot, hint="row") as r:
                self._tile(r, strip._replace(tile=tile._replace(rows=foot)), r.var)
        return ()

    def _tile(self, b: Block, strip: _Strip, first_row: Value) -> None:
        """One tile: its sums, then row by row on their way."""
        product, left, place, tile = self.product, self.left, strip.place, strip.tile
        rows, table = place.rows, strip.table
        base = b.let("add", times(b, rows.item, left.batch), place.at_a)
        last = offset(b, rows.stop, -1)
        with b.loop(0, b.index(tile.rows), hint="i") as i:
            row = i.let("min", i.let("add", first_row, i.var), last)
            if rows.table is None:
                along = times(i, row, left.along)
            else:
                there = i.load(rows.table.a, i.let("sub", row, rows.start))
                along = i.cast(there, INDEX)
            start = i.let("add", base, along)
            i.store(table, i.var, i.cast(start, product.index_dtype))
        starts = [b.cast(b.load(table, b.index(i)), INDEX) for i in range(tile.rows)]
        stream = Stream(left.buffer, tuple(starts), self.steps[-1].a, self._outer(place, "a"))
        reach = None if strip.source.padded else strip.mask
        micro = OuterProduct(self.arithmetic, tile, stream, strip.source, reach, place.counts)
        if place.rest is not None and product.rest is not None:
            room = b.alloc("uint32", tile.rows)
            micro = micro._replace(rest=Rest(place.rest, product.rest, table, room))
        if place.later is not None and tile == self.blocking.main:
            micro = micro._replace(ahead=self._ahead(b, place, tile, first_row))
        sums = micro.write(b)
        if not self._goes_at_once(strip):
            self._by_rows(b, strip, first_row, sums)
            return
        stop = offset(b, first_row, tile.rows)
        b.branch(
            b.let("le", stop, rows.stop),
            lambda t: self._at_once(t, strip, first_row, sums),
            lambda t: self._by_rows(t, strip, first_row, sums),
        )

    def _goes_at_once(self, strip: _Strip) -> bool:
        """Whether whole tiles go from registers to C.

        Words are so few steps that the way there counts, through moderate epilogues as well.
        """
        if self.blocking.kept or self.blocking.turned:
            return False
        wide = self.blocking.words is not None and strip.tile.vectors == self.blocking.main.vectors
        return self.product.plain or (wide and self.product.moderate)

    def _at_once(
        self, b: Block, strip: _Strip, first_row: Value, sums: Sequence[Value]
    ) -> tuple[()]:
        """A whole tile from registers to C."""
        tile, column = strip.tile, b.let("add", strip.place.column, strip.shift)
        for i in range(tile.rows):
            row = offset(b, first_row, i)
            for j in range(tile.vectors):
                mask = strip.mask if j + 1 == tile.vectors else None
                x = sums[i * tile.vectors + j]
                self.store(b, strip.place.rows, row, offset(b, column, j * tile.lanes), x, mask)
        return ()

    def _by_rows(
        self, b: Block, strip: _Strip, first_row: Value, sums: Sequence[Value]
    ) -> tuple[()]:
        """A tile over the stack, row by row."""
        for s, x in enumerate(sums):
            b.store(strip.scratch, b.index(s * strip.tile.lanes), x)
        self._results(b, strip, first_row)
        return ()

    def _ahead(self, b: Block, place: _Place, tile: Tile, first_row: Value) -> Ahead:
        """A line of each step of the panel that is packed next; lines, and rows, take turns."""
        assert place.later is not None
        words = self.blocking.words
        group = 1 if words is None else words.group
        long = tile.lanes * group  # elements of a line
        number = b.let("div", b.let("sub", first_row, place.rows.start), b.index(tile.rows))
        row: Value = b.index(0)
        line = b.let("rem", number, b.index(-(-tile.columns // long)))
        if group > 1:
            row = b.let(
                "rem", b.let("div", number, b.index(-(-tile.columns // long))), b.index(group)
            )
        start = b.let("add", place.later, times(b, line, b.index(long)))
        start = b.let("add", start, times(b, row, self.right.depth))
        return Ahead(self.right.buffer, start, self.steps[-1].b)

    def _results(self, b: Block, strip: _Strip, first_row: Value) -> None:
        """A tile from the stack row by row, cut off where C ends; the epilogue is written once."""
        tile, place = strip.tile, strip.place
        height = b.let("min", b.let("sub", place.rows.stop, first_row), b.index(tile.rows))
        product = self.product
        repeats = product.short if self.blocking.words is None else product.moderate
        few = tile.vectors == 1 or (tile.vectors <= FEW_VECTORS and repeats)
        with b.loop(0, height, hint="i") as i:
            row = i.let("add", first_row, i.var)
            start = times(i, i.var, i.index(tile.columns))
            if self.blocking.turned:  # a row of the tile is a piece of a column of C
                rest = i.let("sub", place.left, strip.shift)
                width = i.let("min", rest, i.index(tile.columns))
                with i.loop(0, width, hint="j") as j:
                    self._pieces(j, strip, row, start, [(j.var, None)], 1)
            elif few:
                pieces = [i.index(j * tile.lanes) for j in range(tile.vectors)]
                masks = [*[None] * (tile.vectors - 1), strip.mask]
                self._pieces(i, strip, row, start, list(zip(pieces, masks)), tile.lanes)
            else:
                with i.loop(0, i.index(tile.columns), tile.lanes, hint="j") as j:
                    mask = None
                    if strip.mask is not None:
                        rest = j.let("sub", j.let("sub", place.left, strip.shift), j.var)
                        mask = first_lanes(j, rest, tile.lanes)
                    self._pieces(j, strip, row, start, [(j.var, mask)], tile.lanes)

    def _pieces(
        self,
        b: Block,
        strip: _Strip,
        row: Value,
        start: Value,
        pieces: Sequence[tuple[Value, Value | None]],
        lanes: int,
    ) -> None:
        """Vectors of a tile's row, which begins at `start` in the scratch: to C, or kept.

        pieces: where they begin in the row, and masks.
        """
        place, workspace, join = strip.place, self.product.workspace, self.arithmetic.join
        columns = [b.let("add", strip.shift, piece) for piece, _ in pieces]
        scratch = strip.scratch
        xs: list[Value] = [b.load(scratch, b.let("add", start, p), lanes) for p, _ in pieces]

        def store(t: Block) -> tuple[()]:
            for column, sums, (_, mask) in zip(columns, xs, pieces):
                where = t.let("add", place.column, column)
                self.store(t, place.rows, row, where, sums, mask)
            return ()

        if not self.blocking.kept:
            store(b)
            return
        width = b.index(self.blocking.main.columns)
        line = times(b, b.let("sub", row, place.rows.start), width)
        if self.blocking.deep:  # all panels of the block are kept, one after the other
            line = b.let("add", line, times(b, place.column, b.index(self.blocking.height)))
        homes = [b.let("add", line, column) for column in columns]

        def joined(t: Block) -> list[Value]:
            return [join(t, t.load(workspace, w, lanes), x) for w, x in zip(homes, xs)]

        def keep(t: Block) -> tuple[()]:
            for home, sums in zip(homes, xs):
                t.store(workspace, home, sums)
            return ()

        xs = list(b.branch(b.let("gt", place.first_k, b.index(0)), joined, lambda t: xs))
        last = b.let("ge", b.let("add", place.first_k, place.steps), self.product.total)
        b.branch(last, store, keep)


def _moved(b: Block, at: Value, index: Value, step: Value) -> Value:
    """at + index * step, nothing added to 0."""
    by = times(b, index, step)
    return by if at == b.index(0) else b.let("add", at, by)
