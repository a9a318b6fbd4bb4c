"""Kernels of the transforms around the products of a Winograd convolution: vectors of channels.

    image:   v[k, tile, c] = B^T x B       x [images, height, width, c] with its zeros
    result:  y = A^T p A                   p [k, tile, o]; through an epilogue

A tile is found by (row of tiles, column of tiles); rows count through all images. Every tile is
straight-line code: a pass down the columns, then one along the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from symgraph.ops.winograd import Matrix, matrices

from .loops import INDEX, Block, Buffer, Const, Kernel, LoopBlock, Ty, Value, Var
from .macrokernel import Epilogue, Position, across
from .microkernel import Tile, offset
from .targets import Target

IMAGE_DIMS = ("rows", "per_image", "columns", "channels", "image", "row", "plane")
RESULT_DIMS = (
    *("rows", "per_image", "columns", "channels", "plane"),
    *("height", "width", "limit", "image", "row", "pixel"),
)
WORK = 12  # operations for an element of a tile: both passes, with loads and stores

Edges = tuple[tuple[Tile, bool], ...]
Pass = Callable[[Block, Matrix, list[Value]], list[Value]]


class Crop(NamedTuple):
    """Whether tiles may reach beyond the last row, the last column of the result."""

    rows: bool
    columns: bool


def edges(channels: int, target: Target) -> Edges:
    """The vectors that channels are cut into, and which of them are masked."""
    lanes = max(1, target.lanes(4))
    whole = (Tile(1, 1, lanes), False)
    if channels % lanes == 0:
        return (whole,)
    if target.masked_memory(4):
        return (whole, (Tile(1, 1, lanes), True))
    return (whole, (Tile(1, 1, 1), False))


@lru_cache(maxsize=64)
def image_kernel(tile: int, cut: Edges) -> Kernel:
    """v[k, tile, c] = B^T x B.  Dims: IMAGE_DIMS; plane: elements from k to k + 1."""
    b = Block()
    x, v = Buffer("x", "float32"), Buffer("v", "float32", "w")
    d = {name: Var(name, Ty(INDEX)) for name in IMAGE_DIMS}
    side = tile + 2
    with b.loop(0, d["rows"], kind="parallel", hint="row") as r:
        item, at = _row_of_tiles(r, d, side)
        first = r.let("mul", item, d["image"])
        first = r.let("add", first, r.let("mul", r.let("mul", at, r.index(tile)), d["row"]))
        step = r.let("mul", d["channels"], r.index(tile))
        home = r.let("mul", r.let("mul", r.var, d["columns"]), d["channels"])
        with r.loop(0, d["columns"], hint="tile") as t:
            source = t.let("add", first, t.let("mul", t.var, step))
            goal = t.let("add", home, t.let("mul", t.var, d["channels"]))
            for e, vector, mask in across(t, cut, d["channels"]):
                begin = e.let("add", source, e.var)
                points = _grid(e, begin, (side, side), (d["row"], d["channels"]))
                image = [[e.load(x, p, vector.lanes, mask) for p in row] for row in points]
                down = _columns(e, matrices(tile).image, image, _analysed)
                values = [_analysed(e, matrices(tile).image, row) for row in down]
                where: Value = e.let("add", goal, e.var)
                for k, value in enumerate(value for row in values for value in row):
                    where = e.let("add", where, d["plane"]) if k else where
                    e.store(v, where, value, mask)
    return Kernel("winograd_image", (x, v), tuple(d.values()), tuple(b.stmts))


def result_kernel(
    tile: int,
    cut: Edges,
    crop: Crop,
    out: str = "float32",
    epilogue: Epilogue | None = None,
    extra_buffers: Sequence[Buffer] = (),
    extra_dims: Sequence[Var] = (),
) -> Kernel:
    """y = epilogue(A^T p A).  Dims: RESULT_DIMS, then extra_dims, to which the epilogue may add.

    height, width: of a result; limit: rows of an image that are written; image, row, pixel: strides
    of y. To the epilogue the results of all images are the rows of one matrix.
    """
    b = Block()
    p, y = Buffer("p", "float32"), Buffer("y", out, "w")
    d = {name: Var(name, Ty(INDEX)) for name in RESULT_DIMS}
    writer = _Writer(tile, crop, d, y, epilogue or (lambda _, values, __: values))
    side = tile + 2
    with b.loop(0, d["rows"], kind="parallel", hint="row") as r:
        item, at = _row_of_tiles(r, d, side)
        high = r.let("mul", at, r.index(tile))
        source = r.let("mul", r.let("mul", r.var, d["columns"]), d["channels"])
        with r.loop(0, d["columns"], hint="tile") as t:
            begin = t.let("add", source, t.let("mul", t.var, d["channels"]))
            wide = t.let("mul", t.var, t.index(tile))
            place = writer.place(t, item, high, wide)
            for e, vector, mask in across(t, cut, d["channels"]):
                where: Value = e.let("add", begin, e.var)
                products: list[list[Value]] = [[] for _ in range(side)]
                for k in range(side * side):
                    where = e.let("add", where, d["plane"]) if k else where
                    products[k // side].append(e.load(p, where, vector.lanes, mask))
                down = _columns(e, matrices(tile).result, products, _summed)
                writer.write(e, place, down, mask)
    dims = (*d.values(), *extra_dims)
    return Kernel("winograd_result", (p, y, *extra_buffers), dims, tuple(b.stmts))


@lru_cache(maxsize=64)
def plain_result_kernel(tile: int, cut: Edges, crop: Crop) -> Kernel:
    """y = A^T p A. Convolutions that have the same code get the same object."""
    return result_kernel(tile, cut, crop)


def _row_of_tiles(b: LoopBlock, d: dict[str, Var], side: int) -> tuple[Value, Value]:
    """The image and the row inside of it of row `b.var` of tiles; polls for its work."""
    elements = b.let("mul", d["columns"], d["channels"])
    b.poll(b.let("mul", elements, b.index(WORK * side * side)))
    item = b.let("div", b.var, d["per_image"])
    return item, b.let("sub", b.var, b.let("mul", item, d["per_image"]))


def _grid(
    b: Block, begin: Value, sizes: tuple[int, int], steps: tuple[Value, Value]
) -> list[list[Value]]:
    """Addresses of a block of elements."""
    found: list[list[Value]] = []
    for i in range(sizes[0]):
        begin = b.let("add", begin, steps[0]) if i else begin
        row = [begin]
        for _ in range(1, sizes[1]):
            row.append(b.let("add", row[-1], steps[1]))
        found.append(row)
    return found


class _Place(NamedTuple):
    """Of the results of a tile: which row of the image, of the epilogue's matrix, where in y."""

    high: Value
    wide: Value
    rows: list[list[Value]]
    homes: list[list[Value]]


class _Writer:
    """Writes the results of a tile, those that exist, through the epilogue."""

    def __init__(
        self, tile: int, crop: Crop, d: dict[str, Var], y: Buffer, epilogue: Epilogue
    ) -> None:
        self.tile, self.crop, self.d, self.y, self.epilogue = tile, crop, d, y, epilogue

    def place(self, b: Block, item: Value, high: Value, wide: Value) -> _Place:
        """The place of the tile whose first result is [item, high, wide]."""
        d, sizes = self.d, (self.tile, self.tile)
        line = b.let("add", b.let("mul", item, d["height"]), high)
        row = b.let("add", b.let("mul", line, d["width"]), wide)
        home = b.let("add", b.let("mul", item, d["image"]), b.let("mul", high, d["row"]))
        home = b.let("add", home, b.let("mul", wide, d["pixel"]))
        rows = _grid(b, row, sizes, (d["width"], b.index(1)))
        return _Place(high, wide, rows, _grid(b, home, sizes, (d["row"], d["pixel"])))

    def write(self, b: LoopBlock, at: _Place, down: list[list[Value]], mask: Value | None) -> None:
        """Sum along the rows what has been summed down the columns."""
        column = b.var
        for i in range(self.tile):

            def row(inner: Block, i: int = i) -> tuple[()]:
                values = _summed(inner, matrices(self.tile).result, down[i])
                for j, value in enumerate(values):
                    self._element(inner, at, (i, j), value, (column, mask))
                return ()

            if self.crop.rows and i:
                b.branch(b.let("lt", offset(b, at.high, i), self.d["limit"]), row)
            else:
                row(b)

    def _element(
        self,
        b: Block,
        at: _Place,
        point: tuple[int, int],
        value: Value,
        where: tuple[Value, Value | None],
    ) -> None:
        (i, j), (column, mask) = point, where

        def store(inner: Block) -> tuple[()]:
            position = Position(inner.index(0), at.rows[i][j], column, mask)
            done = self.epilogue(inner, value, position)
            home = inner.let("add", at.homes[i][j], column)
            inner.store(self.y, home, inner.cast(done, self.y.dtype), mask)
            return ()

        if self.crop.columns and j:
            b.branch(b.let("lt", offset(b, at.wide, j), self.d["width"]), store)
        else:
            store(b)


# -------------------------------------------------------------------------------- the arithmetic


def _columns(
    b: Block, matrix: Matrix, block: Sequence[Sequence[Value]], apply: Pass
) -> list[list[Value]]:
    """matrix @ block"""
    columns = [apply(b, matrix, list(column)) for column in zip(*block)]
    return [list(row) for row in zip(*columns)]


def _analysed(b: Block, matrix: Matrix, values: list[Value]) -> list[Value]:
    """matrix @ values, where rows 1 and 2, 3 and 4 ... are sum and difference of the same parts."""
    found = [_sum(b, zip(matrix[0], values))]
    for k in range(1, len(matrix) - 1, 2):
        terms = list(zip(matrix[k], matrix[k + 1], values))
        even = _sum(b, ((c, x) for c, other, x in terms if c == other))
        scale = next(c for c, other, _ in reversed(terms) if c != other)
        odd = _sum(b, ((c / scale, x) for c, other, x in terms if c != other))
        one = Fraction(1)
        found += [_sum(b, [(one, even), (sign * scale, odd)]) for sign in (1, -1)]
    return [*found, _sum(b, zip(matrix[-1], values))]


def _summed(b: Block, matrix: Matrix, values: list[Value]) -> list[Value]:
    """matrix @ values, where columns 1 and 2, 3 and 4 ... are equal or opposite."""
    pairs = range(1, len(values) - 1, 2)
    sums = {k: b.let("add", values[k], values[k + 1]) for k in pairs}
    differences = {k: b.let("sub", values[k], values[k + 1]) for k in pairs}
    found: list[Value] = []
    for row in matrix:
        terms = [(row[0], values[0])]
        terms += [(row[k], (sums if row[k] == row[k + 1] else differences)[k]) for k in pairs]
        found.append(_sum(b, [*terms, (row[-1], values[-1])]))
    return found


def _sum(b: Block, terms: Iterable[tuple[Fraction, Value]]) -> Value:
    """The sum of coefficients times values; at least one is not 0."""
    left = [(c, x) for c, x in terms if c != 0]
    left.sort(key=lambda term: term[0] != 1)
    coefficient, total = left[0]
    if coefficient != 1:
        total = b.let("mul", total, Const(float(coefficient), total.type))
    for coefficient, x in left[1:]:
        if abs(coefficient) == 1:
            total = b.let("add" if coefficient == 1 else "sub", total, x)
        else:
            total = b.let("fma", x, Const(float(coefficient), x.type), total)
    return total
