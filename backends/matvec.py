"""Walks over C for one row or one column of it: rows of B streaming by, and dot products.

Here each element of the matrix is used once, so memory sets the pace: it is read in order.
"""

from __future__ import annotations

from .loops import Block, Buffer, LoopBlock, Value
from .macrokernel import Nest, Operand, Rows, across, times
from .microkernel import Stream, Tile, inner_product, offset, row_sums

STREAMS = 4  # rows of B added at a time
DOTS = 8  # vector sums, over all dot products at hand, that hide the latency of an addition
ELEMENT = ((Tile(1, 1, 1), False),)


class Streams(Nest):
    """Form.STREAMS: row after row of C, in pieces that fit on the stack."""

    def block(self, b: Block, rows: Rows) -> None:
        piece, lanes = self.blocking.main.columns, self.blocking.main.lanes
        k = self.product.k
        scratch = b.alloc(self.arithmetic.accumulate, piece)
        many = b.let("sub", k, b.let("rem", k, b.index(STREAMS)))
        with (
            b.loop(rows.start, rows.stop, hint="row") as r,
            r.loop(0, self.columns, piece, hint="column") as c,
        ):
            width = c.let("min", c.let("sub", self.columns, c.var), c.index(piece))
            c.poll(c.let("mul", k, c.index(piece // 8)))
            with c.loop(0, c.index(piece), lanes, hint="across") as e:
                e.store(scratch, e.var, self.arithmetic.zeros(lanes))
            at_a = c.let(
                "add", times(c, rows.item, self.left.batch), times(c, r.var, self.left.along)
            )
            at_b = c.let("add", times(c, rows.item, self.right.batch), c.var)
            rest = self._masked_only()
            with c.loop(0, many, STREAMS, hint="k") as step:
                self._add(step, at_a, at_b, width, scratch, STREAMS, self.blocking.edges)
            with c.loop(many, k, hint="k") as step:
                self._add(step, at_a, at_b, width, scratch, 1, rest)
            for e, tile, mask in across(c, ELEMENT if self.blocking.turned else rest, width):
                x = e.load(scratch, e.var, tile.lanes)
                self.store(e, rows, r.var, e.let("add", c.var, e.var), x, mask)

    def _masked_only(self) -> tuple[tuple[Tile, bool], ...]:
        """For code that is run once: masked vectors alone, where the target has them."""
        edges = self.blocking.edges
        return edges[-1:] if edges[-1][1] else edges

    def _add(
        self,
        k: LoopBlock,
        at_a: Value,
        at_b: Value,
        width: Value,
        scratch: Buffer,
        many: int,
        tiles: tuple[tuple[Tile, bool], ...],
    ) -> None:
        """Add `many` rows of B, each times its element of A, to the piece of C."""
        arith = self.arithmetic
        factors: list[Value] = []
        starts: list[Value] = []
        for u in range(many):
            step = offset(k, k.var, u)
            x = k.load(self.left.buffer, k.let("add", at_a, times(k, step, self.left.depth)))
            factors.append(k.cast(x, arith.accumulate))
            starts.append(k.let("add", at_b, times(k, step, self.right.depth)))
        for e, tile, mask in across(k, tiles, width):
            here = tuple(e.let("add", start, e.var) for start in starts)
            rows = Stream(self.right.buffer, here, e.index(1))
            total = row_sums(e, arith, tile.lanes, factors, rows, mask)
            before = e.load(scratch, e.var, tile.lanes)
            e.store(scratch, e.var, arith.join(e, before, total))


class Dots(Nest):
    """Form.DOTS: some rows by some columns of dot products along k at a time."""

    def block(self, b: Block, rows: Rows) -> None:
        tile, k = self.blocking.main, self.product.k
        scratch = b.alloc(self.arithmetic.accumulate, tile.rows * tile.vectors)
        unroll = max(1, DOTS // (tile.rows * tile.vectors))
        with b.loop(0, self.columns, tile.vectors, hint="column") as c:
            width = c.let("min", c.let("sub", self.columns, c.var), c.index(tile.vectors))
            ys = self._lines(c, self.right, rows.item, c.var, tile.vectors, self.columns)
            with c.loop(rows.start, rows.stop, tile.rows, hint="row") as r:
                r.poll(k)
                height = r.let("min", r.let("sub", rows.stop, r.var), r.index(tile.rows))
                xs = self._lines(r, self.left, rows.item, r.var, tile.rows, self.rows)
                sums = inner_product(r, self.arithmetic, tile.lanes, unroll, xs, ys, k)
                for s, x in enumerate(sums):
                    r.store(scratch, r.index(s), x)
                with r.loop(0, height, hint="i") as i, i.loop(0, width, hint="j") as j:
                    at = j.let("add", times(j, i.var, j.index(tile.vectors)), j.var)
                    row, column = j.let("add", r.var, i.var), j.let("add", c.var, j.var)
                    self.store(j, rows, row, column, j.load(scratch, at), None)

    def _lines(
        self, b: Block, operand: Operand, item: Value, first: Value, many: int, size: Value
    ) -> Stream:
        """`many` lines of an operand along k; beyond the last line, the last again."""
        base, last = times(b, item, operand.batch), offset(b, size, -1)
        starts = []
        for i in range(many):
            line = b.let("min", offset(b, first, i), last)
            starts.append(b.let("add", base, times(b, line, operand.along)))
        return Stream(operand.buffer, tuple(starts), b.index(1))
