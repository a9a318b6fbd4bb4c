"""The innermost loops of a contraction, in registers, and the shapes of tiles that fit there.

`OuterProduct` holds rows x vectors sums while k advances; each step loads a row of the B panel as
vectors and splats one scalar of A for each row. `inner_product` runs vectors along k. `row_sums`
adds a few rows of B, each times a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .loops import INDEX, Block, Buffer, Const, Ty, Value
from .targets import Target
from .words import Words

# dtype in memory -> dtype of the sums. Small integers wrap when they are stored: arithmetic modulo
# 2**32 covers modulo 2**8. A bool product is "any of all": an `or` of 0s and 1s.
ACCUMULATE = {
    "bool": "int32",
    "int8": "int32",
    "int16": "int32",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint32",
    "uint16": "uint32",
    "uint32": "uint32",
    "uint64": "uint64",
    "float16": "float32",
    "bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
}
BYTES = {"int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8}
MOST_ROWS = 8  # of a tile: more need more addresses than targets have registers


class Arithmetic(NamedTuple):
    """How products are made and summed; words: several steps at a time."""

    accumulate: str  # the dtype of sums
    dot: Callable[[Block, Value, Value, Value], Value]  # (block, a, b, sum) -> sum + a * b
    join: Callable[[Block, Value, Value], Value]  # (block, sum, sum) -> their sum
    horizontal: str  # the loop IR's op that sums a vector
    words: Words | None = None

    def zeros(self, lanes: int) -> Const:
        """Where sums start."""
        return Const(0.0 if "float" in self.accumulate else 0, Ty(self.accumulate, lanes))

    def column(self, b: Block, line: Value) -> Value:
        """A vector of B's panel as `dot` takes it."""
        return self.words.across(b, line) if self.words else b.cast(line, self.accumulate)

    def element(self, b: Block, buffer: Buffer, where: Value, lanes: int) -> Value:
        """What A has at an offset, for every lane, as `dot` takes it."""
        if self.words:
            return self.words.down(b, self.words.load(b, buffer, where), lanes)
        return b.splat(b.cast(b.load(buffer, where), self.accumulate), lanes)


def accumulate_of(a: str, b: str) -> str:
    """The dtype of sums of products of two dtypes; of unequal ones, both are short integers."""
    return ACCUMULATE[a] if a == b else "uint32" if a[0] == b[0] == "u" else "int32"


def arithmetic(a: str, b: str, fused: bool) -> Arithmetic:
    """The arithmetic of matmul for operands of two dtypes; fused: the target has multiply-add."""
    accumulate = accumulate_of(a, b)
    if a == "bool":
        return Arithmetic(accumulate, _and_or, lambda b, x, y: b.let("or", x, y), "hor")
    dot = _fused if fused and "float" in a else _multiply_add
    return Arithmetic(accumulate, dot, lambda b, x, y: b.let("add", x, y), "hsum")


def arithmetic_of_words(words: Words) -> Arithmetic:
    """The arithmetic of a dot instruction."""
    join = lambda b, x, y: b.let("add", x, y)  # noqa: E731
    return Arithmetic(words.accumulate, words.dot, join, "hsum", words)


def _fused(b: Block, x: Value, y: Value, total: Value) -> Value:
    return b.let("fma", x, y, total)


def _multiply_add(b: Block, x: Value, y: Value, total: Value) -> Value:
    return b.let("add", total, b.let("mul", x, y))


def _and_or(b: Block, x: Value, y: Value, total: Value) -> Value:
    return b.let("or", total, b.let("and", x, y))


class Tile(NamedTuple):
    """`rows` x (`vectors` * `lanes`) sums."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Columns of C that the tile covers."""
        return self.vectors * self.lanes


def tile_shapes(target: Target, words: Words | None = None) -> list[tuple[int, int]]:
    """(rows, vectors) of the tiles worth considering: for each row count as many vectors as fit.

    Sums, one row of B and one splat stay in registers, and the product where there is no fused
    multiply-add. In a single row each vector of B is used once, as it comes from memory.
    """
    free = target.vector_registers - 1 - (words.spare if words else not target.has_fma)
    tall = [(rows, free // (rows + 1)) for rows in range(2, MOST_ROWS + 1) if free > rows]
    return [(1, vectors) for vectors in range(4, free - 1)] + tall


class Stream(NamedTuple):
    """Values read at step k: `buffer[start + k * step]` for each of `starts`.

    outer: the steps of the axes around k, outermost first, where k is a nest.
    """

    buffer: Buffer
    starts: tuple[Value, ...]
    step: Value
    outer: tuple[Value, ...] = ()


class Panel(NamedTuple):
    """Vectors read at step k: `buffer[start + j * lanes + k * step]` for each vector j of a tile.

    padded: the memory goes on beyond the last column, no mask is needed, and all steps follow each
    other. outer: else, the steps of the axes around k, outermost first. sums: where the values are
    that a row's sums start with, unless those are zeros.
    """

    buffer: Buffer
    start: Value
    step: Value
    padded: bool
    outer: tuple[Value, ...] = ()
    sums: tuple[Buffer, Value] | None = None


class Rest(NamedTuple):
    """The last word of a run of k, which A has not all of.

    there: whether the block reaches it; size: its elements; starts: the addresses of the rows, in
    memory; words: room for a word of each row.
    """

    there: Value
    size: Value
    starts: Buffer
    words: Buffer


class Ahead(NamedTuple):
    """Memory that is wanted after this product: at step k the line at `start` + k * `step`."""

    buffer: Buffer
    start: Value
    step: Value


class OuterProduct(NamedTuple):
    """Sums over all steps of rows[i] * panel[j]: `tile.rows * tile.vectors` vectors, row by row.

    mask: of the panel's last vector, for what may not be read. counts: sizes of the axes of steps,
    outermost first, in steps; the sums stay in registers throughout. rest: what the last step along
    the innermost one may be.
    """

    arith: Arithmetic
    tile: Tile
    rows: Stream
    panel: Panel
    mask: Value | None
    counts: tuple[Value, ...]
    ahead: Ahead | None = None
    rest: Rest | None = None

    def write(self, b: Block) -> list[Value]:
        """Emit the loops; gives the sums."""
        tile = self.tile
        sums: list[Value] = [self.arith.zeros(tile.lanes)] * (tile.rows * tile.vectors)
        if self.panel.sums is not None:
            buffer, first = self.panel.sums
            places = (offset(b, first, j * tile.lanes) for j in range(tile.vectors))
            sums = [*(b.load(buffer, at, tile.lanes) for at in places)] * tile.rows
        start = _At(b.index(0), self.panel.start, () if self.ahead is None else (self.ahead.start,))
        return self._axis(b, 0, start, sums)[1]

    def _axis(self, b: Block, axis: int, at: _At, sums: list[Value]) -> tuple[_At, list[Value]]:
        """The loops from an axis on: where they end, and the sums."""
        if axis + 1 == len(self.counts):
            return self._run(b, at, sums)
        carries = [at.along, at.panel, *at.ahead, *sums]
        with b.loop(0, self.counts[axis], kind="reduce", carries=carries, hint="s") as s:
            here, held = _At.of(s.carried, at)
            end, total = self._axis(s, axis + 1, here, held)
            along = s.let("add", here.along, self.rows.outer[axis])
            panel = end.panel
            if not self.panel.padded:
                panel = s.let("add", here.panel, self.panel.outer[axis])
            s.next(along, panel, *end.ahead, *total)
        return _At.of(s.results, at)

    def _run(self, b: Block, at: _At, sums: list[Value]) -> tuple[_At, list[Value]]:
        """The innermost axis."""
        step, count = self.rows.step, self.counts[-1]
        if self.rest is not None:
            cut = b.let("select", self.rest.there, b.index(1), b.index(0))
            count = b.let("sub", count, cut)
        by = step.value if isinstance(step, Const) else 0
        first: Value = b.index(0)
        stop = count
        if by:  # how far A has moved is the loop's index
            length = count if by == 1 else b.let("mul", count, step)
            first, stop = at.along, _sum(b, at.along, length)
        carries = [*([] if by else [at.along]), at.panel, *at.ahead, *sums]
        with b.loop(first, stop, by or 1, kind="reduce", carries=carries, hint="k") as k:
            here, held = _At.of([k.var, *k.carried] if by else k.carried, at)
            total = self._step(k, here, held, None)
            after: list[Value] = [] if by else [k.let("add", here.along, step)]
            after.append(k.let("add", here.panel, self.panel.step))
            for line in here.ahead:
                assert self.ahead is not None
                k.prefetch(self.ahead.buffer, line)
                after.append(k.let("add", line, self.ahead.step))
            k.next(*after, *total)
        end, total = _At.of([stop, *k.results] if by else k.results, at)
        return (end, total) if self.rest is None else self._last(b, self.rest, end, total)

    def _last(self, b: Block, rest: Rest, at: _At, sums: list[Value]) -> tuple[_At, list[Value]]:
        """The word at the end of a run, if it is there: the rows' words by way of memory."""
        arith = self.arith
        assert arith.words is not None
        take = arith.words.load

        def then(t: Block) -> list[Value]:
            with t.loop(0, t.index(self.tile.rows), hint="i") as i:
                where = i.let("add", i.cast(i.load(rest.starts, i.var), INDEX), at.along)
                i.store(rest.words, i.var, take(i, self.rows.buffer, where, rest.size))
            total = self._step(t, at, sums, rest.words)
            return [t.let("add", at.panel, self.panel.step), *total]

        panel, *total = b.branch(rest.there, then, lambda t: [at.panel, *sums])
        return at._replace(panel=panel), list(total)

    def _step(self, k: Block, at: _At, sums: list[Value], words: Buffer | None) -> list[Value]:
        """One row of the panel times one element of each row of the tile, or its word."""
        tile, arith = self.tile, self.arith
        vectors = []
        for j in range(tile.vectors):
            where = offset(k, at.panel, j * tile.lanes)
            mask = self.mask if j + 1 == tile.vectors else None
            line = k.load(self.panel.buffer, where, tile.lanes, mask)
            vectors.append(arith.column(k, line))
        sums = list(sums)
        for i, start in enumerate(self.rows.starts):
            if words is not None and arith.words is not None:
                x = arith.words.down(k, k.load(words, k.index(i)), tile.lanes)
            else:
                where = k.let("add", start, at.along)
                x = arith.element(k, self.rows.buffer, where, tile.lanes)
            for j, y in enumerate(vectors):
                s = i * tile.vectors + j
                sums[s] = arith.dot(k, x, y, sums[s])
        return sums


class _At(NamedTuple):
    """Where a step of k reads: how far A has moved; a row of the panel; a line asked for ahead."""

    along: Value
    panel: Value
    ahead: tuple[Value, ...]

    @staticmethod
    def of(values: Sequence[Value], like: _At) -> tuple[_At, list[Value]]:
        """What a loop carries, apart: the places, and the sums."""
        along, panel, *rest = values
        lines = len(like.ahead)
        return _At(along, panel, tuple(rest[:lines])), rest[lines:]


def _sum(b: Block, x: Value, y: Value) -> Value:
    """x + y, nothing emitted where x is 0."""
    return y if x == b.index(0) else b.let("add", x, y)


def inner_product(
    b: Block,
    arith: Arithmetic,
    lanes: int,
    unroll: int,
    rows: Stream,
    columns: Stream,
    count: Value,
) -> list[Value]:
    """Sums over k < count of rows[i] * columns[j], as scalars, row by row; the streams' step is 1.

    unroll: independent vector sums for each result. The last count % (lanes * unroll) elements are
    read under masks.
    """
    width, results = lanes * unroll, len(rows.starts) * len(columns.starts)
    whole = b.let("sub", count, b.let("rem", count, b.index(width)))
    iota = b.let("iota", type=Ty(INDEX, lanes))

    def step(k: Block, at: Value, before: list[Value], masked: bool) -> list[Value]:
        sums = list(before)
        for u in range(unroll):
            here, mask = offset(k, at, u * lanes), None
            if masked:
                mask = k.let("lt", iota, k.splat(k.let("sub", count, here), lanes))
            xs, ys = (
                [
                    k.cast(
                        k.load(s.buffer, k.let("add", start, here), lanes, mask), arith.accumulate
                    )
                    for start in s.starts
                ]
                for s in (rows, columns)
            )
            pairs = [(x, y) for x in xs for y in ys]
            for s, (x, y) in enumerate(pairs, u * results):
                sums[s] = arith.dot(k, x, y, sums[s])
        return sums

    zeros: list[Value] = [arith.zeros(lanes)] * (results * unroll)
    with b.loop(0, whole, width, kind="reduce", carries=zeros, hint="k") as k:
        k.next(*step(k, k.var, list(k.carried), False))
    sums: list[Value] = list(k.results)
    rest = b.let("lt", whole, count)
    sums = list(b.branch(rest, lambda t: step(t, whole, sums, True), lambda t: sums))
    while len(sums) > results:
        half = len(sums) // 2
        sums = [arith.join(b, x, y) for x, y in zip(sums[:half], sums[half:])]
    return [b.let(arith.horizontal, s, type=Ty(arith.accumulate)) for s in sums]


def row_sums(
    b: Block, arith: Arithmetic, lanes: int, factors: list[Value], rows: Stream, mask: Value | None
) -> Value:
    """The sum over u of factors[u] * (the vector at rows.starts[u])."""
    total: Value = arith.zeros(lanes)
    for factor, start in zip(factors, rows.starts):
        x = b.cast(b.load(rows.buffer, start, lanes, mask), arith.accumulate)
        total = arith.dot(b, b.splat(factor, lanes), x, total)
    return total


def offset(b: Block, x: Value, by: int) -> Value:
    """x + by, nothing emitted for 0."""
    return b.let("add", x, b.index(by)) if by else x
