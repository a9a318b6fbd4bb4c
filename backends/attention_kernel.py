"""Attention in blocks: queries are the lanes of vectors, keys their rows; nothing of n x m is kept.

    for item in batch
      for block of queries           as wide as a register tile; its transpose is packed
        for block of keys
          scores                     register tiles [keys x queries], scaled and masked on their way
          weights                    exp(score - largest so far), summed lane by lane
          result^T                   tiles [features x queries]: rescaled, plus v^T times weights
        result / sum, turned back, to o; log of the sum to total

Statistics of a query lie in a lane, so that none is ever summed across a vector, and neither keys
nor values are packed: they are read as scalars. Blocks of keys that no query of a block sees are
not computed if `causal` says so.

Source: Milakov and Gimelshein 2018 (the sum is rescaled as the maximum grows), Dao et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from symgraph.dims import SizeLike

from .loops import INDEX, Block, Buffer, Const, Kernel, Ty, Value, Var
from .macrokernel import times
from .microkernel import BYTES, OuterProduct, Panel, Stream, Tile, arithmetic, offset, tile_shapes
from .packing import Destination, Source, pack, transposed
from .targets import Target

KEYS = 256  # in a block, about: its weights stay in L1 or close to it
SQUARE = 4  # side of the blocks in which results are turned back
VECTORS = 2  # of queries in a block; more of them see more keys in vain if causal


class AttentionSpec(NamedTuple):
    """What specialises the code of attention and of its gradient.

    units: for each operand the axis with stride 1: "k" its features, "n" its rows, None neither
    (of a mask: "k" its keys). mask: its dtype in memory, "" if there is none; by_key: it is the
    same for all queries. strict: a query that sees no key gives NaN, not zeros. total: whether the
    second result is wanted. n: if it is known, blocks of queries need not be wider: narrow vectors
    do the work of a few queries in less time.
    """

    dtype: str
    causal: bool
    scale: float
    units: tuple[str | None, ...]
    mask: str = ""
    by_key: bool = False
    strict: bool = False
    total: bool = False
    n: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Operands that are read through strides, in the order of `units`."""
        return ("q", "k", "v", *(("mask",) if self.mask else ()))


class Operand(NamedTuple):
    """An operand [item, row, column]: memory, strides, the axis with stride 1."""

    buffer: Buffer
    item: Value
    row: Value
    column: Value
    unit: str | None


def queries(spec: AttentionSpec, target: Target) -> Tile:
    """The register tile: its columns are the queries of a block."""
    lanes, vectors = target.lanes(BYTES[spec.dtype]), VECTORS
    if spec.n is not None:
        vectors = max(1, min(VECTORS, -(-spec.n // lanes)))
        lanes = min(lanes, max(SQUARE, 1 << max(spec.n - 1, 0).bit_length()))
    return Tile(max(r for r, v in tile_shapes(target) if v >= vectors), vectors, lanes)


def workspace_elements(spec: AttentionSpec, target: Target, d: SizeLike, e: SizeLike) -> SizeLike:
    """Elements of the workspace of the forward kernel."""
    tile = queries(spec, target)
    height = keys(tile) * (2 if spec.mask else 1)
    return tile.columns * (height + d + e + tile.rows)


def keys(tile: Tile) -> int:
    """Keys of a block: whole tiles."""
    return KEYS // tile.rows * tile.rows


class Blocks:
    """What both kernels share: operands, the block at hand, scores and masks."""

    def __init__(self, spec: AttentionSpec, target: Target, more: Sequence[str] = ()):
        self.spec, self.target = spec, target
        self.arithmetic = arithmetic(spec.dtype, spec.dtype, target.has_fma)
        self.tile = queries(spec, target)
        self.width, self.keys = self.tile.columns, keys(self.tile)
        self.index_dtype = target.index_dtype
        names = (*spec.names, *more)
        strides = [f"{x}_{axis}" for x in names for axis in ("item", "row", "column")]
        self.dims = {x: Var(x, Ty(INDEX)) for x in (*"batch n m d e".split(), *strides)}
        self.n, self.m, self.d, self.e = (self.dims[x] for x in "nmde")
        self.operands = {x: self._operand(x, unit) for x, unit in zip(names, spec.units)}
        self.q, self.k, self.v = (self.operands[x] for x in "qkv")
        self.workspace = Buffer("workspace", spec.dtype, "rw")
        self.masks = target.masked_memory(BYTES[spec.dtype])
        self.before: Value = Const(0, Ty(INDEX))  # queries that lie before the first one

    def _operand(self, name: str, unit: str | None) -> Operand:
        one, dims = Const(1, Ty(INDEX)), self.dims
        row = one if unit == "n" else dims[f"{name}_row"]
        column = one if unit == "k" else dims[f"{name}_column"]
        dtype = self.spec.mask if name == "mask" else self.spec.dtype
        return Operand(Buffer(name, dtype), dims[f"{name}_item"], row, column, unit)

    def number(self, value: float, lanes: int = 1) -> Const:
        return Const(value, Ty(self.spec.dtype, lanes))

    # ------------------------------------------------------------------------------------ queries

    def pack_queries(self, b: Block, x: Operand, place: Place, to: Value, steps: Value) -> None:
        """Rows of a block, transposed: feature by feature, lanes along the queries."""
        start = b.let("add", times(b, place.item, x.item), times(b, place.first, x.row))
        left = b.let("sub", self.n, place.first)
        source = Source(x.buffer, start, x.column, x.row, x.unit, left, self.masks)
        pack(b, self.tile, source, Destination(self.workspace, to, steps, self.index_dtype))

    def seen(self, b: Block, place: Place) -> Value:
        """How many keys the queries of a block see together."""
        if not self.spec.causal:
            return self.m
        end = b.let("add", self.number_of(b, place), b.index(self.width))
        return b.let("min", self.m, end)

    def number_of(self, b: Block, place: Place) -> Value:
        """The number of a block's first query among all, of which there may be some before."""
        return (
            place.first
            if isinstance(self.before, Const)
            else b.let("add", self.before, place.first)
        )

    def lane_mask(self, b: Block, left: Value, j: int) -> Value:
        """Which lanes of vector j belong to a query."""
        lanes = self.tile.lanes
        if lanes == 1:
            return b.let("lt", b.index(j), left)
        iota = b.let("iota", type=Ty(INDEX, lanes))
        return b.let("lt", iota, b.splat(offset(b, left, -j * lanes), lanes))

    # ------------------------------------------------------------------------------------- tiles

    def product(self, b: Block, rows: Stream, panel: Value, count: Value) -> list[Value]:
        """A register tile: scalars of an operand times the block's vectors."""
        source = Panel(self.workspace, panel, b.index(self.width), True)
        tile = self.tile._replace(rows=len(rows.starts))
        return OuterProduct(self.arithmetic, tile, rows, source, None, (count,)).write(b)

    def key_rows(self, b: Block, x: Operand, place: Place, first: Value, count: Value) -> Stream:
        """Features of some keys of a block; beyond the last one, the last again."""
        base = b.let("add", times(b, place.item, x.item), times(b, place.key, x.row))
        return self._stream(b, x.buffer, (base, x.row, x.column), first, count)

    def feature_rows(self, b: Block, x: Operand, place: Place, first: Value, end: Value) -> Stream:
        """Some features of all keys of a block; beyond the last one, the last again."""
        base = b.let("add", times(b, place.item, x.item), times(b, place.key, x.row))
        return self._stream(b, x.buffer, (base, x.column, x.row), first, end)

    def _stream(
        self, b: Block, buffer: Buffer, moves: tuple[Value, Value, Value], first: Value, end: Value
    ) -> Stream:
        """Lines from `first` on, before `end`, of an operand.

        moves: where it begins, how far lines and steps lie apart. Where lines begin goes through a
        table on the stack, so that LLVM's strength reduction finds nothing to try.
        """
        base, along, step = moves
        rows, last = self.tile.rows, offset(b, end, -1)
        table = b.alloc(self.index_dtype, rows)
        with b.loop(0, b.index(rows), hint="i") as i:
            line = i.let("min", i.let("add", first, i.var), last)
            start = i.let("add", base, times(i, line, along))
            i.store(table, i.var, i.cast(start, self.index_dtype))
        starts = [b.cast(b.load(table, b.index(i)), INDEX) for i in range(rows)]
        return Stream(buffer, tuple(starts), step)

    def local_rows(self, b: Block, first: Value, count: Value) -> list[Value]:
        """The keys of a tile in its block; beyond the last one, the last again."""
        last = offset(b, count, -1)
        return [b.let("min", offset(b, first, i), last) for i in range(self.tile.rows)]

    def each(self, b: Block, first: Value, to: Value) -> list[Value]:
        """Where the vectors of a tile lie in a part of the workspace."""
        at = b.let("add", to, times(b, first, b.index(self.width)))
        count, lanes = self.tile.rows * self.tile.vectors, self.tile.lanes
        return [offset(b, at, s * lanes) for s in range(count)]

    # ------------------------------------------------------------------------------------- scores

    def scores(
        self, b: Block, place: Place, first: Value, count: Value, panel: Value, mask: Value
    ) -> list[Value]:
        """Scores of a tile of keys, scaled, masked.  mask: where the block's mask is packed."""
        raw = self.product(b, self.key_rows(b, self.k, place, first, count), panel, self.d)
        scale = self.number(self.spec.scale, self.tile.lanes)
        locals = self.local_rows(b, first, count)
        found: list[Value] = [b.let("mul", x, scale) for x in raw]
        if self.spec.mask:
            found = self._masked(b, found, place, locals, mask)
        if not self.spec.causal:
            return found
        end = b.let("add", place.key, locals[-1])
        meets = b.let("gt", end, self.number_of(b, place))
        return list(
            b.branch(meets, lambda t: self._later(t, found, place, locals), lambda t: found)
        )

    def _later(
        self, b: Block, found: list[Value], place: Place, locals: Sequence[Value]
    ) -> list[Value]:
        """No query sees a key behind it."""
        tile, result = self.tile, list[Value]()
        hidden = self.number(float("-inf"), tile.lanes)
        iota: Value = b.index(0)
        if tile.lanes > 1:
            iota = b.let("iota", type=Ty(INDEX, tile.lanes))
        iota, first = b.cast(iota, "int32"), self.number_of(b, place)
        for i, local in enumerate(locals):
            ahead = b.let("sub", b.let("add", place.key, local), first)
            ahead = b.let("max", ahead, b.index(-1))  # what is not needed may be far behind
            line = b.splat(b.cast(ahead, "int32"), tile.lanes)
            for j in range(tile.vectors):
                lane = b.let("add", iota, Const(j * tile.lanes, Ty("int32", tile.lanes)))
                seen = b.let("ge", lane, line)
                result.append(b.let("select", seen, found[i * tile.vectors + j], hidden))
        return result

    def shift(self, b: Block, top: Value) -> Value:
        """What scores are taken less, from their maximum or total: 0 if nothing is seen."""
        lanes = self.tile.lanes
        none = b.let("eq", top, self.number(float("-inf"), lanes))
        return b.let("select", none, self.number(0.0, lanes), top)

    def pack_mask(self, b: Block, place: Place, count: Value, to: Value) -> None:
        """A block of the mask, key by key, lanes along the queries."""
        if not self.spec.mask or self.spec.by_key:
            return
        x = self.operands["mask"]
        start = b.let("add", times(b, place.item, x.item), times(b, place.first, x.row))
        start = b.let("add", start, times(b, place.key, x.column))
        left = b.let("sub", self.n, place.first)
        source = Source(x.buffer, start, x.column, x.row, x.unit, left, self.masks)
        pack(b, self.tile, source, Destination(self.workspace, to, count, self.index_dtype))

    def _masked(
        self, b: Block, found: list[Value], place: Place, locals: Sequence[Value], at: Value
    ) -> list[Value]:
        tile, result = self.tile, list[Value]()
        x, hidden = self.operands["mask"], self.number(float("-inf"), tile.lanes)
        for i, local in enumerate(locals):
            for j in range(tile.vectors):
                score = found[i * tile.vectors + j]
                if self.spec.by_key:
                    key = times(b, b.let("add", place.key, local), x.column)
                    where = b.let("add", times(b, place.item, x.item), key)
                    line = b.splat(b.cast(b.load(x.buffer, where), self.spec.dtype), tile.lanes)
                else:
                    where = b.let("add", at, times(b, local, b.index(self.width)))
                    line = b.load(self.workspace, offset(b, where, j * tile.lanes), tile.lanes)
                if self.spec.mask == "bool":
                    seen = b.let("ne", line, self.number(0.0, tile.lanes))
                    result.append(b.let("select", seen, score, hidden))
                else:
                    result.append(b.let("add", score, line))
        return result

    # ------------------------------------------------------------------------------------- results

    def clear(self, b: Block, start: Value, count: Value) -> None:
        """Zeros: `count` lines of the block's width."""
        width, lanes = self.width, self.tile.lanes
        end = b.let("add", start, times(b, count, b.index(width)))
        with b.loop(start, end, lanes, hint="zero") as z:
            z.store(self.workspace, z.var, self.number(0.0, lanes))

    def turn_back(
        self, b: Block, place: Place, source: Value, features: Value, result: Result
    ) -> None:
        """[features x queries] of the workspace times a factor for each query, to its rows."""
        side = min(self.tile.lanes, SQUARE)
        count = b.let("min", b.let("sub", self.n, place.first), b.index(self.width))
        base = b.let("add", times(b, place.item, result.item), times(b, place.first, result.row))
        done = [b.let("sub", x, b.let("rem", x, b.index(side))) for x in (count, features)]
        with b.loop(0, done[0], side, hint="query") as q:
            factor = q.load(result.factor, q.var, side)
            with q.loop(0, done[1], side, hint="feature") as f:
                lines: list[Value] = []
                for s in range(side):
                    at = f.let("add", source, times(f, offset(f, f.var, s), f.index(self.width)))
                    x = f.load(self.workspace, f.let("add", at, q.var), side)
                    lines.append(f.let("mul", x, factor))
                for s, line in enumerate(transposed(f, lines)):
                    at = f.let("add", base, times(f, offset(f, q.var, s), result.row))
                    f.store(result.buffer, f.let("add", at, f.var), line)
        with b.loop(0, count, hint="query") as q:
            whole = q.let("lt", q.var, done[0])
            first = q.let("select", whole, done[1], q.index(0))
            factor = q.load(result.factor, q.var)
            line = q.let("add", base, times(q, q.var, result.row))
            with q.loop(first, features, hint="feature") as f:
                at = f.let("add", source, times(f, f.var, f.index(self.width)))
                x = f.load(self.workspace, f.let("add", at, q.var))
                f.store(result.buffer, f.let("add", line, f.var), f.let("mul", x, factor))


class Place(NamedTuple):
    """The block at hand: an item of the batch, its first query, its first key."""

    item: Value
    first: Value
    key: Value


class Result(NamedTuple):
    """Where a result goes, its columns in a row; factor: a number for each query, on the stack."""

    buffer: Buffer
    item: Value
    row: Value
    factor: Buffer


class Forward(Blocks):
    """The kernel of attention. Its parts of the workspace: weights, mask, q^T, result^T."""

    def __init__(self, spec: AttentionSpec, target: Target):
        super().__init__(spec, target)
        self.o, self.total = Buffer("o", spec.dtype, "w"), Buffer("total", spec.dtype, "w")
        for name in ("o_item", "o_row", "before"):
            self.dims[name] = Var(name, Ty(INDEX))
        self.before = self.dims["before"]

    def kernel(self) -> Kernel:
        spec, b = self.spec, Block()
        high = self.keys * self.width
        self.weights, self.mask = b.index(0), b.index(high)
        self.queries = b.index(high * (2 if spec.mask else 1))
        self.result = b.let("add", self.queries, times(b, self.d, b.index(self.width)))
        with b.loop(0, self.dims["batch"], hint="item") as item:
            with item.loop(0, self.n, self.width, hint="first") as first:
                self._block(first, Place(item.var, first.var, first.index(0)))
        given = [self.operands[x].buffer for x in spec.names]
        results = [self.o, *([self.total] if spec.total else [])]
        buffers = (*given, *results, self.workspace)
        name = f"attention_{spec.dtype}_{self.tile.rows}x{self.width}"
        return Kernel(name, buffers, tuple(self.dims.values()), tuple(b.stmts))

    def _block(self, b: Block, place: Place) -> None:
        """All keys for one block of queries."""
        tile = self.tile
        self.pack_queries(b, self.q, place, self.queries, self.d)
        self.clear(b, self.result, b.let("add", self.e, b.index(tile.rows)))
        seen = self.seen(b, place)
        hidden, zero = self.number(float("-inf"), tile.lanes), self.number(0.0, tile.lanes)
        start: list[Value] = [*[hidden] * tile.vectors, *[zero] * tile.vectors]
        with b.loop(0, seen, self.keys, carries=start, hint="key") as k:
            count = k.let("min", k.let("sub", seen, k.var), k.index(self.keys))
            here = place._replace(key=k.var)
            features = k.let("add", self.d, self.e)
            k.poll(times(k, k.let("mul", count, features), k.index(max(1, self.width // 8))))
            tops, sums = _halves(k.carried)
            k.next(*self._keys(k, here, count, tops, sums))
        tops, sums = _halves(k.results)
        self._finish(b, place, tops, sums)

    def _keys(
        self, b: Block, place: Place, count: Value, tops: list[Value], sums: list[Value]
    ) -> list[Value]:
        """One block of keys: largest scores and sums of powers after it."""
        tile = self.tile
        self.pack_mask(b, place, count, self.mask)
        with b.loop(0, count, tile.rows, carries=tops, hint="row") as r:
            scores = self.scores(r, place, r.var, count, self.queries, self.mask)
            found: list[Value] = list(r.carried)
            for s, (at, x) in enumerate(zip(self.each(r, r.var, self.weights), scores)):
                r.store(self.workspace, at, x)
                found[s % tile.vectors] = larger(r, found[s % tile.vectors], x)
            r.next(*found)
        after: list[Value] = list(r.results)
        shifts = [self.shift(b, x) for x in after]
        shrink = [exponential(b, b.let("sub", old, x)) for old, x in zip(tops, shifts)]
        before = [b.let("mul", x, by) for x, by in zip(sums, shrink)]
        with b.loop(0, count, carries=before, hint="row") as r:
            at = r.let("add", self.weights, times(r, r.var, r.index(self.width)))
            totals: list[Value] = []
            for j, (shift, x) in enumerate(zip(shifts, r.carried)):
                home = offset(r, at, j * tile.lanes)
                score = r.load(self.workspace, home, tile.lanes)
                power = exponential(r, r.let("sub", score, shift))
                r.store(self.workspace, home, power)
                totals.append(r.let("add", x, power))
            r.next(*totals)
        self._accumulate(b, place, count, shrink)
        return [*after, *r.results]

    def _accumulate(self, b: Block, place: Place, count: Value, shrink: list[Value]) -> None:
        """result^T = result^T * shrink + v^T @ weights"""
        tile = self.tile
        with b.loop(0, self.e, tile.rows, hint="feature") as f:
            stream = self.feature_rows(f, self.v, place, f.var, self.e)
            sums = self.product(f, stream, self.weights, count)
            for s, (at, x) in enumerate(zip(self.each(f, f.var, self.result), sums)):
                before = f.load(self.workspace, at, tile.lanes)
                f.store(
                    self.workspace, at, self.arithmetic.dot(f, before, shrink[s % tile.vectors], x)
                )

    def _finish(self, b: Block, place: Place, tops: list[Value], sums: list[Value]) -> None:
        tile = self.tile
        factor = b.alloc(self.spec.dtype, self.width)
        one, zero = self.number(1.0, tile.lanes), self.number(0.0, tile.lanes)
        # without keys there is nothing to be NaN of: a sum of no terms
        empty = b.cast(b.let("eq", self.m, b.index(0)), self.spec.dtype)
        left = b.let("sub", self.n, place.first)
        line = b.let("add", times(b, place.item, self.n), place.first)
        for j, (top, total) in enumerate(zip(tops, sums)):
            if self.spec.strict:
                safe = b.let("add", total, b.splat(empty, tile.lanes))
            else:
                safe = b.let("select", b.let("eq", total, zero), one, total)
            inverse = b.let("div", one, safe)
            b.store(factor, b.index(j * tile.lanes), inverse)
            if self.spec.total:
                log = b.let("call", total, type=total.type, attr="log")
                value = b.let("add", log, self.shift(b, top))
                mask = self.lane_mask(b, left, j)
                self._store_lanes(b, offset(b, line, j * tile.lanes), value, mask)
        result = Result(self.o, self.dims["o_item"], self.dims["o_row"], factor)
        self.turn_back(b, place, self.result, self.e, result)

    def _store_lanes(self, b: Block, at: Value, value: Value, mask: Value) -> None:
        if self.tile.lanes > 1:
            b.store(self.total, at, value, mask)
            return

        def write(t: Block) -> tuple[()]:
            t.store(self.total, at, value)
            return ()

        b.branch(mask, write)


def _halves(values: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    half = len(values) // 2
    return list(values[:half]), list(values[half:])


def larger(b: Block, x: Value, y: Value) -> Value:
    """The larger one; x where y is no number: what is then summed is none either."""
    return b.let("select", b.let("lt", x, y), y, x)


def exponential(b: Block, x: Value) -> Value:
    return b.let("call", x, type=x.type, attr="exp")


def attention_kernel(spec: AttentionSpec, target: Target) -> Kernel:
    """The kernel of Attention.

    Buffers: q, k, v, the mask if there is one, o, total if it is wanted, the workspace. Dims:
    batch, n, m, d, e; item, row and column stride of each operand; item and row stride of o, whose
    columns have stride 1, as has total; queries that lie before the first one, for `causal`.
    """
    return Forward(spec, target).kernel()
