"""Convolutions by Winograd's tiles: when that pays, and their launches, block by block of tiles.

Under precision="fast". A block of tiles is transformed, multiplied matrix by matrix, and summed to
results, whose readers take them from registers as they do those of other products. Blocks are so
small that what waits between these steps stays in L2, unless the kernels would be read again too
often for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from symgraph.arraytype import Array
from symgraph.dims import SizeLike, ceildiv, dim_max, dim_min, floordiv, product
from symgraph.dtypes import float32
from symgraph.expr import Expr
from symgraph.leaves import Constant
from symgraph.ops.convolve import Convolve
from symgraph.ops.winograd import POINTS, TAPS, Winograd, amplification, error_factor

from . import winograd_kernels
from .contraction import ContractionSpec
from .convolution import home
from .epilogue import Epilogue, Frame
from .prepacked import prepacked
from .product import Finish, contract
from .program import Group, Launch, Ref, Repeat, Step
from .targets import Target
from .winograd_kernels import Crop, edges, image_kernel, result_kernel

if TYPE_CHECKING:
    from .body import Body

# ----------------------------------------------------------------------------------- when it pays

# Costs are counted in vector operations of a float32 product, of which a core does two in a cycle.
GAIN = 1.1  # how much less than the direct convolution it must cost
FEWEST = 16  # channels, in and out: less than a vector of them is not worth a transform
TYPICAL = 56  # a spatial size that is not known
CARRIED = {2: 130, 4: 560}  # of the transforms of a tile, there and back, with loads and stores
STREAMED = 9.0  # bytes of a constant kernel, in panels, that come from beyond L2 meanwhile
FETCHED = (
    4.0  # the same of one that is transformed in each call, as it is written and as it is read
)


def chosen_tile(node: Expr, fast: Target | None) -> int | None:
    """The tile of a convolution that is cheaper by Winograd's method, None for the others.

    fast: the machine, None where results have to be exact.
    """
    op = node.op
    if fast is None or not isinstance(op, Convolve) or not _is_eligible(node, op):
        return None
    costs = {tile: _cost(node, tile, fast) for tile in POINTS}
    best = min(costs, key=costs.__getitem__)
    return best if costs[best] * GAIN < _direct(node, fast) else None


def _is_eligible(node: Expr, op: Convolve) -> bool:
    form = op.form
    return (
        op.role == "output"
        and node.array_type.dtype is float32
        and form.window == (TAPS, TAPS)
        and form.strides == form.dilations == (1, 1)
        and form.groups == 1
        and all(isinstance(n, int) and n >= FEWEST for n in _channels(node))
    )


def _channels(node: Expr) -> tuple[SizeLike, SizeLike]:
    return node.inputs[0].array_type.shape[-1], node.array_type.shape[-1]


def _sizes(node: Expr, target: Target) -> tuple[list[int], list[int], int]:
    """Batch and positions, channels, all of them numbers; lanes."""
    assert isinstance(node.op, Convolve)
    n, *places = node.array_type.shape[:-1]
    known = [n if isinstance(n, int) else 1]
    known += [p if isinstance(p, int) else TYPICAL for p in places]
    channels = [c if isinstance(c, int) else FEWEST for c in _channels(node)]
    return known, channels, max(1, target.lanes(4))


def _direct(node: Expr, target: Target) -> float:
    (n, high, wide), (c, o), lanes = _sizes(node, target)
    return n * high * wide * TAPS**2 * c * o / lanes


def _cost(node: Expr, tile: int, target: Target) -> float:
    (n, high, wide), (c, o), lanes = _sizes(node, target)
    tiles = n * -(-high // tile) * -(-wide // tile)
    many = (tile + 2) ** 2
    total = tiles * many * c * o / lanes
    total += tiles * CARRIED[tile] * (c + o) / 2 / lanes
    kernel = many * c * o * 4
    is_constant = isinstance(node.inputs[1].op, Constant)
    if not is_constant:
        total += many * TAPS**2 * c * o / lanes + kernel / FETCHED
    if kernel > target.l2 // 2:
        total += kernel / (STREAMED if is_constant else FETCHED)
    return total


# ------------------------------------------------------------------------------------- its launches


class Blocks(NamedTuple):
    """What is done at a time: `images` whole images, or (0 of them) `rows` rows of tiles."""

    images: SizeLike
    rows: SizeLike


class Part(NamedTuple):
    """Rows of tiles that are done together.

    loops: for each Repeat around it, how many images and rows it goes on. image, row: where it
    starts. rows: of tiles; limit: rows of an image's results up to which it writes.
    """

    loops: tuple[tuple[SizeLike, SizeLike], ...]
    image: SizeLike
    row: SizeLike
    rows: SizeLike
    limit: SizeLike


def launch(body: Body, node: Expr, finish: Finish | None = None) -> str:
    """Add the launches of a Winograd; gives the name of the kernel that writes its results.

    Raises: Unfit if `finish` cannot be its epilogue.
    """
    stage = _Stage(body, node, finish)
    body.steps += stage.steps()
    return stage.result.name


class _Stage:
    """The three kernels of a node, and where its arrays lie."""

    def __init__(self, body: Body, node: Expr, finish: Finish | None):
        op = node.op
        assert isinstance(op, Winograd)
        self.body, self.node, self.tile = body, node, op.tile
        self.n, self.high, self.wide, self.outputs = node.array_type.shape
        *_, self.channels = node.inputs[0].array_type.shape
        self.tall, self.long = ceildiv(self.high, self.tile), ceildiv(self.wide, self.tile)
        self.home, self.strides, _ = home(body, node, finish)
        self.chain: Epilogue | None = None
        if finish is not None:
            self.chain = finish.chain(Frame(product((self.n, self.high, self.wide)), self.outputs))
        self.blocks = _blocks(self, body.p.target)
        tiles = self.long * (self.blocks.rows + self.blocks.images * self.tall)
        many = (self.tile + 2) ** 2
        self.planes = [plane(tiles * c) for c in (self.channels, self.outputs)]
        self.between = [body.p.temp(Array(float32, (many * size,))) for size in self.planes]
        self._kernels(body.p.target)

    def _kernels(self, target: Target) -> None:
        c, o = self.channels, self.outputs
        assert isinstance(c, int) and isinstance(o, int)
        crop = Crop(self.high % self.tile != 0, self.wide % self.tile != 0)
        self.image = image_kernel(self.tile, edges(c, target))
        cut = edges(o, target)
        if self.chain is None:
            self.result = winograd_kernels.plain_result_kernel(self.tile, cut, crop)
            return
        out = str(self.chain.roots[0].array_type.dtype)
        extra = (self.chain.buffers, self.chain.dims.vars)
        self.result = result_kernel(self.tile, cut, crop, out, self.chain, *extra)

    def steps(self) -> list[Step]:
        """All blocks: in loops, then what is left over."""
        images, rows = self.blocks
        if images != 0:
            full = floordiv(self.n, images)
            left = self.n - full * images
            found = self._repeat(full, [(images, 0)], images * self.tall, self.high)
            if left != 0:
                found += self._part(Part((), full * images, 0, left * self.tall, self.high))
            return found
        full = floordiv(floordiv(self.high, self.tile), rows)
        left = self.tall - full * rows
        inner = self._repeat(full, [(1, 0), (0, rows)], rows, rows * self.tile)
        if left != 0:
            limit = self.high - full * rows * self.tile
            inner += self._part(Part(((1, 0),), 0, full * rows, left, limit))
        return [Repeat(self.n, tuple(inner), False, self.node)]

    def _repeat(
        self,
        times: SizeLike,
        loops: list[tuple[SizeLike, SizeLike]],
        rows: SizeLike,
        limit: SizeLike,
    ) -> list[Step]:
        """Full blocks."""
        if times == 0:
            return []
        part = Part(tuple(loops), 0, 0, rows, limit)
        return [Repeat(times, tuple(self._part(part)), False, self.node)]

    def _part(self, part: Part) -> list[Step]:
        """The three launches for some rows of tiles."""
        body, node, tile = self.body, self.node, self.tile
        tiles, many = part.rows * self.long, (tile + 2) ** 2
        x, u = node.inputs
        _, tall, long, c = x.array_type.shape
        before, body.steps = body.steps, []
        source = self._moved(body.whole(x), part, tall * long * c, tile * long * c)
        size = (part.rows, self.tall, self.long)
        dims: tuple[SizeLike, ...] = (*size, c, tall * long * c, long * c, self.planes[0])
        work = many * winograd_kernels.WORK * tiles
        body.launch(self.image, [source, self.between[0]], dims, work * c, node)
        body.steps.append(self._products(u, tiles))
        extra, more = self._extra(part)
        goal = self._moved(self.home, part, self.strides[0], tile * self.strides[1])
        dims = (*size, self.outputs, self.planes[1], self.high, self.wide, part.limit)
        dims = (*dims, *self.strides[:3], *more)
        args = [self.between[1], goal, *extra]
        body.launch(self.result, args, dims, work * self.outputs, node)
        found, body.steps = body.steps, before
        return found

    def _moved(self, ref: Ref, part: Part, image: SizeLike, row: SizeLike) -> Ref:
        """Where a part begins in an array with these strides."""
        steps = tuple(i * image + r * row for i, r in part.loops)
        return ref.moved(part.image * image + part.row * row, self.body.depth, steps)

    def _extra(self, part: Part) -> tuple[list[Ref], list[SizeLike]]:
        """The epilogue's arrays and sizes."""
        chain = self.chain
        if chain is None:
            return [], []
        refs = [*map(self.body.where, chain.reads), *map(self.body.home, chain.roots[1:])]
        moves = [
            (m.row * self.high * self.wide, m.row * self.tile * self.wide) for m in chain.moves
        ]
        return [self._moved(r, part, *m) for r, m in zip(refs, moves)], chain.dims.sizes

    def _products(self, u: Expr, tiles: SizeLike) -> Launch:
        """The product of each matrix of the transformed image with its one of the kernel."""
        body, node, many = self.body, self.node, (self.tile + 2) ** 2
        c, o = self.channels, self.outputs
        assert isinstance(c, int) and isinstance(o, int)
        m = tiles if isinstance(tiles, int) else None
        spec = ContractionSpec("float32", None, "k", "n", m, o, c)
        dims: dict[str, SizeLike] = {"batch": many, "M": tiles, "N": o, "K": c}
        dims |= {"a_batch": self.planes[0], "a_row": c, "a_col": 1}
        dims |= {"b_batch": c * o, "b_row": o, "b_col": 1}
        dims |= {"c_batch": self.planes[1], "c_row": o}
        # panels come from beyond L2 in one stream; where all matrices stay there, rows do as well
        large = many * c * o * 4
        packed = prepacked(body, spec, u, 0, dims, always=large > body.p.target.l2)
        if packed is not None:
            spec, kernel, dims["b_batch"] = packed
        else:
            kernel = body.whole(u)
        launched = contract(body, node, spec, [self.between[0], kernel, self.between[1]], dims)
        return launched._replace(work=many * tiles * c * o)


def plane(size: SizeLike) -> SizeLike:
    """Elements from one matrix to the next: an odd number of cache lines, so that all of them do
    not fall into the same few sets of a cache."""
    line = 16
    return ceildiv(size, 2 * line) * 2 * line + line


def _blocks(stage: _Stage, target: Target) -> Blocks:
    """What is done at a time.

    A block of B tiles reads the kernels once: c o elements of each matrix from beyond L2. What
    waits between the steps, (c + o) B elements, would be fetched, written back and read again.
    """
    c, o = stage.channels, stage.outputs
    many = (stage.tile + 2) ** 2
    assert isinstance(c, int) and isinstance(o, int)
    tiles = target.l2 // (many * 4 * (c + o))
    if tiles * 3 * (c + o) < c * o:
        tiles = max(target.l3 // 2, target.l2) // (many * 4 * (c + o))
    tall, long = stage.tall, stage.long
    if not isinstance(tall, int) or not isinstance(long, int):
        return Blocks(1, 0)
    image = tall * long
    if image <= tiles * 3 // 2:
        return Blocks(dim_max(1, dim_min(max(1, tiles // image), stage.n)), 0)
    full = max(1, tall - bool(stage.high % stage.tile))  # rows that no result is missing from
    rows = min(full, max(1, tiles // long))
    even = (r for r in range(rows, (rows - 1) // 2, -1) if full % r == 0)
    return Blocks(0, next(even, rows))


# ----------------------------------------------------------------------------------- explain()


def explained(groups: Iterable[Group]) -> Iterator[str]:
    """A line for each convolution that is computed by Winograd's method, with its bound."""
    for group in groups:
        for node in group.nodes:
            if isinstance(node.op, Winograd):
                tile, c = node.op.tile, node.inputs[0].array_type.shape[-1]
                assert isinstance(c, int)
                yield (
                    f"winograd F({tile}x{tile}, 3x3), {c} channels: error <= "
                    f"{error_factor(tile, c):.1e} * sum over c of max |x| of a tile * sum |w| "
                    f"(amplification {float(amplification(tile)):.0f})"
                )
