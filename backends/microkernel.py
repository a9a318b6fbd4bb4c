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
    """How products of one dtype are made and summed."""

    accumulate: str  # the dtype of sums
    dot: Callable[[Block, Value, Value, Value], Value]  # (block, a, b, sum) -> sum + a * b
    join: Callable[[Block, Value, Value], Value]  # (block, sum, sum) -> their sum
    horizontal: str  # the loop IR's op that sums a vector

    def zeros(self, lanes: int) -> Const:
        """Where sums start."""
        return Const(0.0 if "float" in self.accumulate else 0, Ty(self.accumulate, lanes))


def arithmetic(dtype: str, fused: bool) -> Arithmetic:
    """The arithmetic of matmul for operands of `dtype`; fused: the target has multiply-add."""
    accumulate = ACCUMULATE[dtype]
    if dtype == "bool":
        return Arithmetic(accumulate, _and_or, lambda b, x, y: b.let("or", x, y), "hor")
    dot = _fused if fused and "float" in dtype else _multiply_add
    return Arithmetic(accumulate, dot, lambda b, x, y: b.let("add", x, y), "hsum")


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


def tile_shapes(target: Target) -> list[tuple[int, int]]:
    """(rows, vectors) of the tiles worth considering: for each row count as many vectors as fit.

    Sums, one row of B and one splat stay in registers, and the product where there is no fused
    multiply-add. In a single row each vector of B is used once, as it comes from memory.
    """
    free = target.vector_registers - 1 - (not target.has_fma)
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
    other. outer: else, the steps of the axes around k, outermost first.
    """

    buffer: Buffer
    start: Value
    step: Value
    padded: bool
    outer: tuple[Value, ...] = ()


class Ahead(NamedTuple):
    """Memory that is wanted after this product: at step k the line at `start` + k * `step`."""

    buffer: Buffer
    start: Value
    step: Value


class OuterProduct(NamedTuple):
    """Sums over all steps of rows[i] * panel[j]: `tile.rows * tile.vectors` vectors, row by row.

    mask: of the panel's last vector, for what may not be read. counts: sizes of the axes of steps,
    outermost first; the sums stay in registers throughout.
    """

    arith: Arithmetic
    tile: Tile
    rows: Stream
    panel: Panel
    mask: Value | None
    counts: tuple[Value, ...]
    ahead: Ahead | None = None

    def write(self, b: Block) -> list[Value]:
        """Emit the loops; gives the sums."""
        tile = self.tile
        sums: list[Value] = [self.arith.zeros(tile.lanes)] * (tile.rows * tile.vectors)
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
        unit = isinstance(step, Const) and step.value == 1
        first: Value = b.index(0)
        stop = count
        if unit:  # how far A has moved is the loop's index
            first, stop = at.along, _sum(b, at.along, count)
        carries = [*([] if unit else [at.along]), at.panel, *at.ahead, *sums]
        with b.loop(first, stop, kind="reduce", carries=carries, hint="k") as k:
            here, held = _At.of([k.var, *k.carried] if unit else k.carried, at)
            total = self._step(k, here, held)
            after: list[Value] = [] if unit else [k.let("add", here.along, step)]
            after.append(k.let("add", here.panel, self.panel.step))
            for line in here.ahead:
                assert self.ahead is not None
                k.prefetch(self.ahead.buffer, line)
                after.append(k.let("add", line, self.ahead.step))
            k.next(*after, *total)
        return _At.of([stop, *k.results] if unit else k.results, at)

    def _step(self, k: Block, at: _At, sums: list[Value]) -> list[Value]:
        """One row of the panel times one element of each row of the tile."""
        tile, arith = self.tile, self.arith
        vectors = []
        for j in range(tile.vectors):
            where = offset(k, at.panel, j * tile.lanes)
            mask = self.mask if j + 1 == tile.vectors else None
            line = k.load(self.panel.buffer, where, tile.lanes, mask)
            vectors.append(k.cast(line, arith.accumulate))
        for i, start in enumerate(self.rows.starts):
            element = k.load(self.rows.buffer, k.let("add", start, at.along))
            x = k.splat(k.cast(element, arith.accumulate), tile.lanes)
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
