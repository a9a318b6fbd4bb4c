"""The gradient of attention in blocks, from the totals: weights are computed once more.

    for item in batch
      for block of queries           q^T and slope^T are packed, q and slope copied
        for block of keys
          weights    = exp(scores - total)                             [keys x queries]
          slopes     = weights * (v @ slope^T - delta) * scale         [keys x queries]
          dv        += weights @ slope         dk += slopes @ q        [keys x features]
          dq^T      += k^T @ slopes                                    [features x queries]
        dq^T, turned back, to dq
      dk, dv of the item to their places

One walk, five products. The sums of dk and dv wait in the workspace, that of dq in one of its
blocks; an item is the work of one thread, so that their order is the same for any number of them.

Source: Dao et al. 2022, algorithm 4, with queries outside.
"""

from __future__ import annotations

from typing import NamedTuple

from symgraph.dims import SizeLike

from .attention_kernel import (
    AttentionSpec,
    Blocks,
    Operand,
    Place,
    Result,
    exponential,
    keys,
    queries,
)
from .loops import INDEX, Block, Buffer, Const, Kernel, Ty, Value
from .macrokernel import times
from .microkernel import OuterProduct, Panel, Stream, offset
from .packing import Destination, Source, pack
from .targets import Target


def gradient_workspace(
    spec: AttentionSpec, target: Target, m: SizeLike, d: SizeLike, e: SizeLike
) -> SizeLike:
    """Elements of the workspace of the gradient's kernel: see Parts."""
    tile = queries(spec, target)
    width = tile.columns
    fixed = width * keys(tile) * (3 if spec.mask else 2) + width * (2 * width + tile.rows)
    wide = d + e + 2 * width  # at least as long as rows of dk and dv, rounded up
    return fixed + width * (3 * d + 2 * e) + (m + tile.rows) * wide


class Parts(NamedTuple):
    """Where the parts of the workspace begin.

    weights, slopes, mask: of a block; q_turned, s_turned: q^T and slope^T; dq: dq^T; q_rows,
    s_rows: q and slope, panel by panel of columns; dk, dv: of an item, rows of d_wide and e_wide.
    """

    weights: Value
    slopes: Value
    mask: Value
    q_turned: Value
    s_turned: Value
    dq: Value
    q_rows: Value
    s_rows: Value
    dk: Value
    dv: Value
    d_wide: Value
    e_wide: Value


class Sums(NamedTuple):
    """dk or dv: its buffer, where it is summed, its columns and those of a line there."""

    buffer: Buffer
    home: Value
    columns: Value
    wide: Value


class Gradient(Blocks):
    """The kernel of AttentionGradient."""

    def __init__(self, spec: AttentionSpec, target: Target):
        super().__init__(spec, target, ("slope",))
        self.slope = self.operands["slope"]
        self.total, self.delta = Buffer("total", spec.dtype), Buffer("delta", spec.dtype)
        self.dq, self.dk, self.dv = (Buffer(x, spec.dtype, "w") for x in ("dq", "dk", "dv"))

    def kernel(self) -> Kernel:
        spec, b = self.spec, Block()
        self.parts = self._parts(b)
        with b.loop(0, self.dims["batch"], hint="item") as item:
            self._item(item, item.var)
        given = [x.buffer for x in self.operands.values()]
        results = (self.dq, self.dk, self.dv)
        buffers = (*given, self.total, self.delta, *results, self.workspace)
        name = f"attention_gradient_{spec.dtype}_{self.tile.rows}x{self.width}"
        return Kernel(name, buffers, tuple(self.dims.values()), tuple(b.stmts))

    def _parts(self, b: Block) -> Parts:
        width, block = b.index(self.width), self.keys * self.width
        by = [times(b, x, width) for x in (self.d, self.e)]
        wide = [self._rounded(b, x) for x in (self.d, self.e)]
        rows = b.let("add", self.m, b.index(self.tile.rows))
        sizes = [
            *(by[0], by[1], b.let("add", by[0], b.index(self.width * self.tile.rows))),
            *(times(b, x, width) for x in wide),
            times(b, rows, wide[0]),
        ]
        at: Value = b.index(block * (3 if self.spec.mask else 2))
        starts = [at]
        for size in sizes:
            at = b.let("add", at, size)
            starts.append(at)
        return Parts(b.index(0), b.index(block), b.index(2 * block), *starts, *wide)

    def _rounded(self, b: Block, x: Value) -> Value:
        """Up to whole panels."""
        more = offset(b, x, self.width - 1)
        return b.let("sub", more, b.let("rem", more, b.index(self.width)))

    # ------------------------------------------------------------------------------------- blocks

    def _item(self, b: Block, item: Value) -> None:
        parts = self.parts
        sums = (
            Sums(self.dk, parts.dk, self.d, parts.d_wide),
            Sums(self.dv, parts.dv, self.e, parts.e_wide),
        )
        lines = b.let("add", self.m, b.index(self.tile.rows))
        end = b.let("add", parts.dv, times(b, lines, parts.e_wide))
        with b.loop(parts.dk, end, self.tile.lanes, hint="zero") as z:
            z.store(self.workspace, z.var, self.number(0.0, self.tile.lanes))
        with b.loop(0, self.n, self.width, hint="first") as first:
            self._block(first, Place(item, first.var, first.index(0)), sums)
        for x in sums:
            self._give(b, item, x)

    def _block(self, b: Block, place: Place, sums: tuple[Sums, Sums]) -> None:
        """All keys for one block of queries."""
        parts, tile = self.parts, self.tile
        count = b.let("min", b.let("sub", self.n, place.first), b.index(self.width))
        self.pack_queries(b, self.q, place, parts.q_turned, self.d)
        self.pack_queries(b, self.slope, place, parts.s_turned, self.e)
        self._copy(b, self.q, place, count, parts.q_rows, self.d)
        self._copy(b, self.slope, place, count, parts.s_rows, self.e)
        self.clear(b, parts.dq, b.let("add", self.d, b.index(tile.rows)))
        totals = [self._statistic(b, self.total, place, j) for j in range(tile.vectors)]
        shifts = totals if self.spec.strict else [self.shift(b, x) for x in totals]
        deltas = [self._statistic(b, self.delta, place, j) for j in range(tile.vectors)]
        seen = self.seen(b, place)
        with b.loop(0, seen, self.keys, hint="key") as k:
            here = place._replace(key=k.var)
            height = k.let("min", k.let("sub", seen, k.var), k.index(self.keys))
            features = k.let("add", self.d, self.e)
            k.poll(times(k, k.let("mul", height, features), k.index(max(1, self.width // 4))))
            self._slopes(k, here, height, shifts, deltas)
            with k.loop(0, k.index(2), hint="of") as both:  # their code is written once
                self._add_rows(both, here, (height, count), *self._chosen(both, both.var, sums))
            self._add_queries(k, here, height)
        factor = b.alloc(self.spec.dtype, self.width)
        for j in range(tile.vectors):
            b.store(factor, b.index(j * tile.lanes), self.number(1.0, tile.lanes))
        item = times(b, self.n, self.d)
        self.turn_back(b, place, parts.dq, self.d, Result(self.dq, item, self.d, factor))

    def _copy(
        self, b: Block, x: Operand, place: Place, count: Value, to: Value, columns: Value
    ) -> None:
        """Rows of a block, panel by panel of columns."""
        base = b.let("add", times(b, place.item, x.item), times(b, place.first, x.row))
        unit = {"k": "n", "n": "k", None: None}[x.unit]  # as rows of a panel see it
        with b.loop(0, columns, self.width, hint="panel") as p:
            start = p.let("add", base, times(p, p.var, x.column))
            left = p.let("sub", columns, p.var)
            source = Source(x.buffer, start, x.row, x.column, unit, left, self.masks)
            home = p.let("add", to, times(p, p.var, p.index(self.width)))
            target = Destination(self.workspace, home, count, self.index_dtype)
            pack(p, self.tile, source, target)

    def _statistic(self, b: Block, x: Buffer, place: Place, j: int) -> Value:
        """A number for each query of vector j of a block; beyond the last one, 0."""
        left = b.let("sub", self.n, place.first)
        mask = self.lane_mask(b, left, j)
        line = b.let("add", times(b, place.item, self.n), place.first)
        at = offset(b, line, j * self.tile.lanes)
        if self.tile.lanes > 1:
            return b.load(x, at, self.tile.lanes, mask)
        zero = self.number(0.0)
        return b.branch(mask, lambda t: [t.load(x, at)], lambda t: [zero])[0]

    # ----------------------------------------------------------------------------------- products

    def _slopes(
        self, b: Block, place: Place, count: Value, shifts: list[Value], deltas: list[Value]
    ) -> None:
        """Weights and slopes of a block; zeros in the lines that fill its last tile."""
        tile, parts = self.tile, self.parts
        scale = self.number(self.spec.scale, tile.lanes)
        self.pack_mask(b, place, count, parts.mask)
        with b.loop(0, count, tile.rows, hint="row") as r:
            scores = self.scores(r, place, r.var, count, parts.q_turned, parts.mask)
            for s, (at, x) in enumerate(zip(self.each(r, r.var, parts.weights), scores)):
                r.store(self.workspace, at, r.let("sub", x, shifts[s % tile.vectors]))
            keys_of_v = self.key_rows(r, self.v, place, r.var, count)
            pulled = self.product(r, keys_of_v, parts.s_turned, self.e)
            for s, (at, x) in enumerate(zip(self.each(r, r.var, parts.slopes), pulled)):
                less = r.let("sub", x, deltas[s % tile.vectors])
                r.store(self.workspace, at, r.let("mul", less, scale))
        with b.loop(0, count, hint="row") as r:
            line = times(r, r.var, r.index(self.width))
            for j in range(tile.vectors):
                at = offset(r, line, j * tile.lanes)
                score = r.load(self.workspace, r.let("add", parts.weights, at), tile.lanes)
                weight = exponential(r, score)
                r.store(self.workspace, r.let("add", parts.weights, at), weight)
                there = r.let("add", parts.slopes, at)
                slope = r.load(self.workspace, there, tile.lanes)
                r.store(self.workspace, there, r.let("mul", weight, slope))
        for part in (parts.weights, parts.slopes):
            start = b.let("add", part, times(b, count, b.index(self.width)))
            rest = b.let("rem", b.let("sub", b.index(self.keys), count), b.index(tile.rows))
            self.clear(b, start, rest)

    def _chosen(
        self, b: Block, number: Value, sums: tuple[Sums, Sums]
    ) -> tuple[Value, Value, Sums]:
        """What dk (number 0) and dv (1) are made of, and where they are summed."""
        parts, first = self.parts, b.let("eq", number, b.index(0))

        def either(x: Value, y: Value) -> Value:
            return b.let("select", first, x, y)

        scalars = either(parts.slopes, parts.weights)
        panels = either(parts.q_rows, parts.s_rows)
        places = (either(x, y) for x, y in zip(sums[0][1:], sums[1][1:]))
        return scalars, panels, Sums(self.workspace, *places)

    def _add_rows(
        self,
        b: Block,
        place: Place,
        sizes: tuple[Value, Value],
        scalars: Value,
        panels: Value,
        sums: Sums,
    ) -> None:
        """sums [keys x features] += [keys x queries] @ [queries x features]"""
        tile, one = self.tile, Const(1, Ty(INDEX))
        height, count = sizes
        with b.loop(0, sums.columns, self.width, hint="panel") as p:
            start = p.let("add", panels, times(p, p.var, p.index(self.width)))
            source = Panel(self.workspace, start, p.index(self.width), True)
            with p.loop(0, height, tile.rows, hint="row") as r:
                at = r.let("add", scalars, times(r, r.var, r.index(self.width)))
                starts = tuple(offset(r, at, i * self.width) for i in range(tile.rows))
                stream = Stream(self.workspace, starts, one)
                found = OuterProduct(self.arithmetic, tile, stream, source, None, (count,)).write(r)
                key = r.let("add", place.key, r.var)
                home: Value = r.let("add", sums.home, p.var)
                home = r.let("add", home, times(r, key, sums.wide))
                for i in range(tile.rows):
                    for j in range(tile.vectors):
                        to = offset(r, home, j * tile.lanes)
                        before = r.load(self.workspace, to, tile.lanes)
                        total = r.let("add", before, found[i * tile.vectors + j])
                        r.store(self.workspace, to, total)
                    home = r.let("add", home, sums.wide)

    def _add_queries(self, b: Block, place: Place, count: Value) -> None:
        """dq^T += k^T @ slopes"""
        parts, tile = self.parts, self.tile
        with b.loop(0, self.d, tile.rows, hint="feature") as f:
            stream = self.feature_rows(f, self.k, place, f.var, self.d)
            found = self.product(f, stream, parts.slopes, count)
            for at, x in zip(self.each(f, f.var, parts.dq), found):
                before = f.load(self.workspace, at, tile.lanes)
                f.store(self.workspace, at, f.let("add", before, x))

    def _give(self, b: Block, item: Value, sums: Sums) -> None:
        """The sums of an item to where they belong, without what rounds their lines up."""
        lanes = self.tile.lanes
        whole = b.let("sub", sums.columns, b.let("rem", sums.columns, b.index(lanes)))
        base = times(b, item, b.let("mul", self.m, sums.columns))
        with b.loop(0, self.m, hint="row") as r:
            source = r.let("add", sums.home, times(r, r.var, sums.wide))
            target = r.let("add", base, times(r, r.var, sums.columns))
            start: Value = r.index(0)
            for end, step in ((whole, lanes), (sums.columns, 1)):
                with r.loop(start, end, step, hint="feature") as f:
                    x = f.load(self.workspace, f.let("add", source, f.var), step)
                    f.store(sums.buffer, f.let("add", target, f.var), x)
                start = end


def gradient_kernel(spec: AttentionSpec, target: Target) -> Kernel:
    """The kernel of AttentionGradient.

    Buffers: q, k, v, the mask if there is one, slope; total, delta, dq, dk, dv, all without gaps;
    the workspace. Dims: batch, n, m, d, e; item, row and column stride of each operand up to slope.
    """
    return Gradient(spec, target).kernel()
