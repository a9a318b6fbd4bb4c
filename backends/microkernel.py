"""Register tiles of a contraction: the two inner loops over k, and the choice of a tile for a target.

`outer_product` keeps rows x vectors accumulators; each step loads a row of the B panel as vectors and splats one scalar
of A for each row. `inner_product` is for operands that are both contiguous along k: vectors run along k and each
result is a horizontal sum at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from .loops import INDEX, Block, Buffer, Const, Ty, Value
from .targets import Target

# dtype in memory -> dtype of the sums. Sums of small integers wrap at the end: arithmetic modulo 2**32 covers modulo
# 2**8; a bool matmul is "any", so its sum is an `or` of 0/1.
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

Dot = Callable[[Block, Value, Value, Value], Value]
Join = Callable[[Block, Value, Value], Value]


class Arithmetic(NamedTuple):
    """How products are made and summed; `horizontal` is the loop IR's op that sums a vector."""

    dot: Dot  # (block, a, b, sum) -> sum + a * b
    join: Join  # (block, sum, sum) -> sum
    horizontal: str


_FLOAT = Arithmetic(
    lambda b, x, y, total: b.let("fma", x, y, total), lambda b, x, y: b.let("add", x, y), "hsum"
)
_INTEGER = Arithmetic(
    lambda b, x, y, total: b.let("add", total, b.let("mul", x, y)),
    lambda b, x, y: b.let("add", x, y),
    "hsum",
)
_BOOL = Arithmetic(
    lambda b, x, y, total: b.let("or", total, b.let("and", x, y)),
    lambda b, x, y: b.let("or", x, y),
    "hor",
)


def arithmetic(dtype: str) -> Arithmetic:
    """The arithmetic of matmul for operands of `dtype`."""
    if dtype == "bool":
        return _BOOL
    return _FLOAT if "float" in dtype else _INTEGER


class Tile(NamedTuple):
    """`rows` x (`vectors` * `lanes`) results, held in registers."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes


def tile_shapes(target: Target) -> list[tuple[int, int]]:
    """(rows, vectors) of the tiles worth considering: for each row count as many vectors as fit.

    Accumulators, one row of B and one splat stay in registers, and the product where there is no
    fused multiply-add. More than 8 rows need more addresses than most targets have registers. In
    a single row each vector of B is used once, as it comes from memory.
    """
    free = target.vector_registers - 1 - (not target.has_fma)
    tall = [(rows, free // (rows + 1)) for rows in range(2, 9) if free > rows]
    return [(1, vectors) for vectors in range(4, free - 1)] + tall


class Stream(NamedTuple):
    """Values read at step k: `buffer[start + k * step]` for each of `starts`, `step` in elements."""

    buffer: Buffer
    starts: tuple[Value, ...]
    step: Value


class Panel(NamedTuple):
    """Vectors read at step k: `buffer[start + j * lanes + k * step]` for each vector j of a tile.

    padded: the panel's memory goes on beyond the last column, no mask is needed.
    """

    buffer: Buffer
    start: Value
    step: Value
    padded: bool


def zeros(dtype: str, lanes: int) -> Const:
    """Where sums of `dtype` start."""
    return Const(0.0 if "float" in dtype else 0, Ty(dtype, lanes))


def outer_product(
    b: Block,
    dtype: str,
    tile: Tile,
    rows: Stream,
    panel: Panel,
    mask: Value | None,
    count: Value,
) -> list[Value]:
    """Sums over k < count of rows[i] * panel[j], as `tile.rows * tile.vectors` vectors, row by row.

    dtype: of the operands in memory; the sums are of ACCUMULATE[dtype]. mask: of the panel's
    vectors where they may not be read.
    """
    dot, accumulate = arithmetic(dtype).dot, ACCUMULATE[dtype]
    sums: list[Value] = [zeros(accumulate, tile.lanes)] * (tile.rows * tile.vectors)
    unit = isinstance(rows.step, Const) and rows.step.value == 1
    moving = [panel.start] if unit else [panel.start, b.index(0)]
    with b.loop(0, count, kind="reduce", carries=[*moving, *sums], hint="k") as k:
        at, sums = k.carried[0], list(k.carried[len(moving) :])
        along = k.var if unit else k.carried[1]
        vectors = [
            k.cast(
                k.load(panel.buffer, offset(k, at, j * tile.lanes), tile.lanes, mask), accumulate
            )
            for j in range(tile.vectors)
        ]
        for i, start in enumerate(rows.starts):
            x = k.load(rows.buffer, k.let("add", start, along))
            x = k.splat(k.cast(x, accumulate), tile.lanes)
            for j, y in enumerate(vectors):
                s = i * tile.vectors + j
                sums[s] = dot(k, x, y, sums[s])
        steps = [k.let("add", at, panel.step)]
        if not unit:
            steps.append(k.let("add", along, rows.step))
        k.next(*steps, *sums)
    return k.results[len(moving) :]


def inner_product(
    b: Block, dtype: str, lanes: int, unroll: int, rows: Stream, columns: Stream, count: Value
) -> list[Value]:
    """Sums over k < count of rows[i][k] * columns[j][k], as scalars, row by row; both are contiguous along k.

    unroll: independent vector sums for each result. The last count % (lanes * unroll) elements are read under masks.
    """
    arith, accumulate = arithmetic(dtype), ACCUMULATE[dtype]
    width = lanes * unroll
    results = len(rows.starts) * len(columns.starts)
    whole = b.let("sub", count, b.let("rem", count, b.index(width)))
    iota = b.let("iota", type=Ty(INDEX, lanes))

    def step(k: Block, at: Value, sums: list[Value], rest: Value | None) -> list[Value]:
        for u in range(unroll):
            mask = None
            if rest is not None:
                left = k.let("sub", rest, offset(k, at, u * lanes))
                mask = k.let("lt", iota, k.splat(left, lanes))

            def vector(stream: Stream, start: Value, shift: int = u * lanes, mask=mask) -> Value:
                place = offset(k, k.let("add", start, at), shift)
                return k.cast(k.load(stream.buffer, place, lanes, mask), accumulate)

            ys = [vector(columns, start) for start in columns.starts]
            for i, start in enumerate(rows.starts):
                x = vector(rows, start)
                for j, y in enumerate(ys):
                    s = u * results + i * len(ys) + j
                    sums[s] = arith.dot(k, x, y, sums[s])
        return sums

    sums: list[Value] = [zeros(accumulate, lanes)] * (results * unroll)
    with b.loop(0, whole, width, kind="reduce", carries=sums, hint="k") as k:
        k.next(*step(k, k.var, list(k.carried), None))
    sums = list(k.results)
    sums = b.branch(
        b.let("lt", whole, count), lambda t: step(t, whole, list(sums), count), lambda t: sums
    )
    while len(sums) > results:
        half = len(sums) // 2
        sums = [arith.join(b, x, y) for x, y in zip(sums[:half], sums[half:])]
    return [b.let(arith.horizontal, s, type=Ty(accumulate)) for s in sums]


def offset(b: Block, x: Value, by: int) -> Value:
    """x + by, nothing emitted for 0."""
    return b.let("add", x, b.index(by)) if by else x


def row_sums(
    b: Block, dtype: str, lanes: int, factors: list[Value], rows: Stream, mask: Value | None
) -> Value:
    """The sum over u of factors[u] * (the vector at rows.starts[u])."""
    dot, accumulate = arithmetic(dtype).dot, ACCUMULATE[dtype]
    total: Value = zeros(accumulate, lanes)
    for factor, start in zip(factors, rows.starts):
        x = b.cast(b.load(rows.buffer, start, lanes, mask), accumulate)
        total = dot(b, b.splat(factor, lanes), x, total)
    return total
