"""Builds the kernel of a (batched) matrix product: what specialises it, its walk, tile and packing.

    C[b, m, n] = epilogue(sum over k of A[b, m, k] * B[b, k, n])

Error of floats: |C - exact| <= (S + 2) * eps * |A| |B|, where S is the longest chain of sums that
leads to an element: depth + K / depth with depth <= DEPTH in tiles, K / STREAMS + STREAMS where
rows of B stream by, K / lanes + DOTS in dot products. The order of the sum depends on the kernel,
on K and on whether M is 1; not on the place in C nor in the batch. Where k goes by words (see
`words`), depth counts those. bfloat16 by words takes subnormals for zeros, before and after: that
adds at most 2**-126 * (sum of |A| + sum of |B| + 2 K). Integers are exact modulo 2**bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from symgraph.dims import SizeLike, ceildiv, product

from .loops import Block, Buffer, Kernel, Value, Var
from .macrokernel import Blocking, Epilogue, Form, Nest, Position, Product
from .matvec import Dots, Streams
from .microkernel import BYTES, Tile, accumulate_of, tile_shapes
from .nested import DIMS, Shape
from .split import LINE, Slice, Split
from .targets import Target
from .tiles import Tiles
from .word_steps import WORD_LANES, is_whole, packed_steps, steps_of, words_of
from .words import Words

__all__ = [
    "DIMS",
    "ContractionSpec",
    "Epilogue",
    "Position",
    "build_contraction",
    "contraction",
    "packed_panel_columns",
    "packs",
    "product_split",
    "workspace_elements",
]

DEPTH = 1024  # longest run of products summed in one register
NEST_DEPTH = 1536  # the same where k is a nest: whole rows of a window, as many as fit
PACKED_DEPTH = 768  # and where its panels are packed: they wait in L2 beside the next one
ACROSS_DEPTH = 512  # and where A lies across k: a line of A serves several tiles while it is in L1
ROWS = 480  # rows that share a packed panel of B, at most: as many whole tiles as fit
WORD_ROWS = 2400  # where k goes by words: elements of A are smaller (of a nest: ACROSS_ROWS)
ACROSS_ROWS = 1920  # the same where A is a nest across k: it is read once for each of them
FEW_ROWS = 32  # rows up to which packing B costs more than it gives
THIN_BYTES = 32  # vectors up to this size make panels one cache line wide
THIN_ROWS = 192  # rows from which such panels are packed
EDGE_ROWS = 8  # rows of the tiles at the right edge of C: enough independent sums to hide latency
PIECE_BYTES = 16384  # of a row of C while B streams by: the most a stack array may have
WASTE = 0.02  # share of the rows of C that a last tile may compute in vain
FOOT_COST = 1.03  # how much better tiles with a foot have to be: it is more code to compile
SMALL = 129  # sizes below it are constants of the code; larger ones only choose tile and walk
SHARING = 1.04  # how much slower the tile that most large products share may be than the best one
TYPICAL = (64, 100, 128, 256, 500, 1000)  # what a size that is not known is taken for

_WALKS: dict[Form, type[Nest]] = {Form.TILES: Tiles, Form.STREAMS: Streams, Form.DOTS: Dots}


class ContractionSpec(NamedTuple):
    """What specialises a contraction's code; everything else is a run-time argument.

    dtype: of A in memory; b_dtype: of B; out: of C (None: the same). Sums are of dtype
    `accumulate`.
    a_unit: the axis of A with stride 1, "k", "m" or None; b_unit: that of B, "n", "k" or None. If
    both have it (a matrix with one row or column), "k" lets vectors run along k.
    m, n, k: the size where it is known: drops edges, picks the tile; a size of SMALL or more has no
    other influence, so that products of many sizes have the same code.
    packed_b: B lies in panels, see `packed_panel_columns`; b_unit, b_row and b_col are not read.
    shape: the axes that m and k are nests of. m and k are then the products of their sizes, and a
    choice of tile and walk, no more. innermost: the size of the innermost axis of k, if it is not
    k's, where known: it says whether words of several steps make it up.
    """

    dtype: str
    out: str | None = None
    a_unit: str | None = "k"
    b_unit: str | None = "n"
    m: int | None = None
    n: int | None = None
    k: int | None = None
    packed_b: bool = False
    shape: Shape = Shape()
    b_dtype: str | None = None
    innermost: int | None = None

    @property
    def dtypes(self) -> tuple[str, str]:
        """Of A and B in memory."""
        return self.dtype, self.b_dtype or self.dtype

    @property
    def accumulate(self) -> str:
        """The dtype of the sums, and of the workspace."""
        return accumulate_of(*self.dtypes)


def build_contraction(
    spec: ContractionSpec,
    target: Target,
    epilogue: Epilogue | None = None,
    extra_buffers: Sequence[Buffer] = (),
    extra_dims: Sequence[Var] = (),
    name: str | None = None,
) -> Kernel:
    """The kernel of C = epilogue(A @ B) for any batch, M, N, K and strides; sizes may be 0.

    Buffers: A, B (read, spec.dtype), C (written, spec.out), the workspace (spec.accumulate) unless
    `workspace_elements` is 0, then `extra_buffers`. Dims: DIMS, strides in elements; columns of C
    have stride 1. Sizes that the spec knows must agree with the arguments.

    epilogue: called with (block, sums, position), gives the values to store: vectors along n or
    scalars. The sums are of dtype spec.accumulate; the result is cast to that of C. It is called
    once for each piece of code that stores, and must not read C. extra_dims: dims behind all others
    that it needs; it may add to them while it is called.
    """
    blockings = _blockings(spec, target)
    extra = (extra_buffers, extra_dims)
    return _build(_coded(spec, blockings), blockings, target, epilogue, extra, name)


def contraction(spec: ContractionSpec, target: Target) -> Kernel:
    """The kernel of C = A @ B. Products that have the same code get the same object."""
    blockings = _blockings(spec, target)
    return _shared(_coded(spec, blockings), blockings, target)


@lru_cache(maxsize=256)
def _shared(spec: ContractionSpec, blockings: tuple[Blocking, ...], target: Target) -> Kernel:
    return _build(spec, blockings, target)


def _coded(spec: ContractionSpec, blockings: tuple[Blocking, ...]) -> ContractionSpec:
    """The spec with only those sizes that are constants of the code; to tiles K is but a count."""
    m, n, k = (s if s is not None and s < SMALL else None for s in (spec.m, spec.n, spec.k))
    inner = None
    if any(blocking.form is Form.TILES for blocking in blockings):
        k = None
        taken = blockings[-1].words
        inner = 0 if taken is not None and is_whole(spec, taken) else None
        if taken is not None and n is not None and n % WORD_LANES == 1:
            n = None  # a known mask of one lane: see _known_edge
    if not spec.shape.is_plain:
        m = None
    return spec._replace(m=m, n=n, k=k, innermost=inner)


def _build(
    spec: ContractionSpec,
    blockings: tuple[Blocking, ...],
    target: Target,
    epilogue: Epilogue | None = None,
    extra: tuple[Sequence[Buffer], Sequence[Var]] = ((), ()),
    name: str | None = None,
) -> Kernel:
    whole = Product(
        (*spec.dtypes, spec.out or spec.dtype),
        (spec.a_unit, spec.b_unit),
        (spec.m, spec.n, spec.k),
        spec.shape,
        target,
        epilogue,
    )
    b = Block()
    taken = blockings[-1].words
    if taken is not None and spec.packed_b:
        whole.b = Buffer("B", spec.accumulate)
    blocks = any(blocking.kept for blocking in blockings)
    whole.open(b, _depth(spec, target), blocks, taken, taken is None or is_whole(spec, taken))

    def nest(t: Block, blocking: Blocking, rows: Value) -> tuple[()]:
        return _WALKS[blocking.form](whole, blocking, rows).write(t)

    if len(blockings) == 1:
        nest(b, blockings[0], whole.m)
    else:
        b.branch(
            b.let("eq", whole.m, b.index(1)),
            lambda t: nest(t, blockings[0], t.index(1)),
            lambda t: nest(t, blockings[1], whole.m),
        )
    uses_workspace = any(blocking.workspace(1) for blocking in blockings)
    workspace = [whole.workspace] if uses_workspace else []
    buffers = (whole.a, whole.b, whole.c, *workspace, *extra[0])
    dims = (*whole.dims.values(), *extra[1])
    return Kernel(name or _name(spec, blockings[-1]), buffers, dims, tuple(b.stmts))


def _name(spec: ContractionSpec, blocking: Blocking) -> str:
    """dtype, walk, tile and access: "matmul_float32_tiles_6x64_pack"."""
    access = "panels" if blocking.packed else "pack" if blocking.packs else "direct"
    tile = f"{blocking.main.rows}x{blocking.main.columns}"
    what = "matmul" if spec.shape.is_plain else "convolve"
    dtypes = "_".join(dict.fromkeys(spec.dtypes))
    return f"{what}_{dtypes}_{blocking.form.name.lower()}_{tile}_{access}"


def workspace_elements(spec: ContractionSpec, target: Target) -> int:
    """Elements of dtype spec.accumulate that the kernel's workspace needs, whatever the sizes."""
    longest = _depth(spec, target)
    depth = min(longest, steps_of(spec, target) or longest)
    return max(blocking.workspace(depth) for blocking in _blockings(spec, target))


def lead_axes(spec: ContractionSpec, target: Target, sizes: Sequence[SizeLike]) -> int:
    """Shape.lead for axes of k of these sizes: as few as leave blocks of k that fit."""
    longest, taken = _depth(spec, target), words_of(spec, target)
    if taken is not None:
        sizes = [*sizes[:-1], ceildiv(sizes[-1], taken.group)]
    for lead in range(len(sizes) - 1):
        inner = product(sizes[lead + 1 :])
        if isinstance(inner, int) and inner <= longest:
            return lead
    return len(sizes) - 1


def _depth(spec: ContractionSpec, target: Target) -> int:
    """The most steps of a block of k."""
    if spec.shape.is_plain:
        return DEPTH
    if _lies_across(spec):
        return ACROSS_DEPTH
    return PACKED_DEPTH if packs(spec, target) else NEST_DEPTH


def product_split(
    spec: ContractionSpec,
    target: Target,
    sizes: Sequence[SizeLike],
    more: Sequence[Sequence[SizeLike]] = (),
) -> Split | None:
    """How a product may be cut: by items of the batch, by columns, or by rows; None: it may not.

    sizes: the values of the dims. Columns are best, each thread then packs only panels of its own;
    rows are for products with few columns, by their outermost axis. A size that is a constant of
    the code cannot be cut. more: how far each extra buffer moves by item, by row, by column.
    """
    blocking, at = _blockings(spec, target)[-1], dict(zip(spec.shape.dims(), sizes))
    tiles = blocking.form is Form.TILES and not blocking.turned
    nested = spec.shape.rows > 1
    if at["batch"] != 1:
        axis, grain = "batch", 1
    elif not _is_long(spec.n, 4 * blocking.main.columns if tiles else SMALL):
        axis, grain = "M", 1 if nested else blocking.main.rows if tiles else LINE
    else:
        axis, grain = "N", blocking.main.columns if tiles else LINE
    if axis == "M" and not nested and not _is_long(spec.m, SMALL):
        return None
    moves = {
        "batch": (at["a_batch"], at["b_batch"], at["c_batch"]),
        "M": _moves_by_row(spec, at),
        "N": (0, packed_steps(spec, target, at) if spec.packed_b else at["b_col"], 1),
    }[axis]
    space = workspace_elements(spec, target) * BYTES[spec.accumulate]
    scratch = len(moves) if space else -1
    place, unit = ("batch", "M", "N").index(axis), _inner_rows(spec, at) if axis == "M" else 1
    beside = [by[place] * unit for by in more]
    whole = (*moves, *([0] if space else []), *beside)
    return Split(at[axis], grain, slice=Slice(DIMS.index(axis), whole, scratch, space))


def _moves_by_row(spec: ContractionSpec, at: Mapping[str, SizeLike]) -> tuple[SizeLike, ...]:
    """How far A, B and C move from one to the next of the outermost axis of rows."""
    a_move = at["a_m0"] if spec.shape.rows > 1 else at["a_row"]
    c_move = at["c_m0"] if spec.shape.scattered else at["c_row"] * _inner_rows(spec, at)
    return a_move, 0, c_move


def _inner_rows(spec: ContractionSpec, at: Mapping[str, SizeLike]) -> SizeLike:
    """Rows that one of the outermost axis stands for."""
    return product(at[f"m{j}"] for j in range(1, spec.shape.rows))


def _is_long(size: int | None, least: int) -> bool:
    """Whether a size is an argument of the code, and may be so much."""
    return size is None or size >= max(SMALL, least)


def packed_panel_columns(spec: ContractionSpec, target: Target) -> int:
    """Columns of a panel of a packed B.

    Panel p holds columns [p * w, (p + 1) * w) as an array [K, w], zeros beyond the last column; the
    panels of a matrix follow each other. K counts words, see `packed_group`. The width does not
    depend on spec.m.
    """
    return _main_tile(spec._replace(packed_b=True), target).columns


@lru_cache(maxsize=1024)
def _blockings(spec: ContractionSpec, target: Target) -> tuple[Blocking, ...]:
    """How the kernel walks over C; two ways where M is unknown: the first for M = 1."""
    if not spec.shape.is_plain:
        return (_tiles(spec, target),)
    if spec.n == 1 and spec.a_unit == "m" and not spec.packed_b:
        # the matrix comes transposed: take the vector for A and the matrix for B
        turned = spec._replace(m=1, n=spec.m, a_unit=None, b_unit="n")
        return (_blocking(turned, target)._replace(turned=True),)
    if spec.m is not None or words_of(spec, target) is not None:
        return (_blocking(spec, target),)
    many = _blocking(spec, target)
    return (many,) if spec.n == 1 else (_blocking(spec._replace(m=1), target), many)


def _blocking(spec: ContractionSpec, target: Target) -> Blocking:
    if not spec.packed_b and 1 in (spec.m, spec.n):
        if spec.a_unit == spec.b_unit == "k":
            return _dots(spec, target)
        wide = spec.n is None or spec.n >= target.lanes(BYTES[spec.accumulate])
        if spec.m == 1 and spec.b_unit == "n" and wide and not _stays_in_l2(spec, target):
            return _streams(spec, target)
    return _tiles(spec, target)


def _tiles(spec: ContractionSpec, target: Target) -> Blocking:
    """Register tiles; blocks of rows are whole tiles, so that only the last one has a rest."""
    main, taken = _main_tile(spec, target), words_of(spec, target)
    nested = ACROSS_ROWS if taken or _lies_across(spec) else ROWS
    most = WORD_ROWS if taken and spec.shape.is_plain else nested
    rows = most // main.rows * main.rows
    height = rows if spec.m is None else min(rows, -(-spec.m // main.rows) * main.rows)
    masks = target.masked_memory(BYTES[spec.accumulate])
    steps = steps_of(spec, target)
    blocks = steps is None or steps > _depth(spec, target)
    panels = 1 if spec.n is None else -(-spec.n // main.columns)
    sums = height * main.columns * BYTES[spec.accumulate]
    deep = blocks and panels > 1 and 0 < panels * sums <= target.l2 // 2
    return Blocking(
        Form.TILES,
        main,
        _edges(spec, main, target),
        rows,
        narrow=spec.n is not None and spec.n < main.columns,
        packed=spec.packed_b,
        kept=height * main.columns * (panels if deep else 1) if blocks else 0,
        packs=packs(spec, target),
        masks=masks,
        foot=_foot(spec.m, main.rows),
        words=taken,
        deep=deep,
        height=height,
    )


def _lies_across(spec: ContractionSpec) -> bool:
    """Whether steps are long strides through a nest, as in the gradient of a kernel."""
    return spec.a_unit == "m" and not spec.shape.is_plain


def _foot(m: int | None, rows: int) -> int:
    """Rows of the last tile, if one of `rows` rows wasted too much; 0: it does not."""
    left = 0 if m is None else m % rows
    return left if m and left and rows - left > WASTE * m else 0


def _dots(spec: ContractionSpec, target: Target) -> Blocking:
    """Both operands run along k and C is one row or one column: four dot products at a time."""
    lanes = target.lanes(BYTES[spec.accumulate])
    size = spec.m if spec.n == 1 else spec.n
    many = 4 if size is None else max(1, min(4, size))
    tile = Tile(many, 1, lanes) if spec.n == 1 else Tile(1, many, lanes)
    return Blocking(Form.DOTS, tile, (), ROWS)


def _streams(spec: ContractionSpec, target: Target) -> Blocking:
    """One row times a large matrix, which is read once, from left to right."""
    lanes = target.lanes(BYTES[spec.accumulate])
    masks = target.masked_memory(BYTES[spec.accumulate])
    vector, rest = Tile(1, 1, lanes), Tile(1, 1, lanes if masks else 1)
    piece = Tile(1, PIECE_BYTES // target.vector_bytes, lanes)
    return Blocking(Form.STREAMS, piece, ((vector, False), (rest, masks)), ROWS)


def _edges(spec: ContractionSpec, main: Tile, target: Target) -> tuple[tuple[Tile, bool], ...]:
    """Tiles for a panel narrower than `main`, from left to right, and which of them is masked."""
    rows = EDGE_ROWS if spec.m is None else max(1, min(EDGE_ROWS, spec.m))
    vector, element = Tile(rows, 1, main.lanes), Tile(rows, 1, 1)
    taken = words_of(spec, target)
    masks = taken is not None or target.masked_memory(BYTES[spec.accumulate])
    if spec.n is None:
        return ((vector, True),) if masks else ((vector, False), (element, False))
    left = spec.n % main.columns
    if masks and left:
        return _known_edge(left, main.lanes, rows, target, taken)
    tiles = ((vector, left >= main.lanes), (element, left % main.lanes > 0))
    return tuple((tile, False) for tile, needed in tiles if needed)


def _known_edge(
    left: int, lanes: int, rows: int, target: Target, taken: Words | None
) -> tuple[tuple[Tile, bool], ...]:
    """`left` columns: whole vectors, and what is left of them beside those or, if short, apart.

    A known mask is never of one lane: LLVM 22 then stores a whole word of a narrower element.
    """
    vectors, rest = divmod(left, lanes)
    short = 1 << max(rest - 1, 0).bit_length()
    if taken is not None:
        short = max(short, WORD_LANES)
    high = min(rows, _edge_rows(max(vectors, 1), target, taken))
    whole = (Tile(high, vectors, lanes), False) if vectors else None
    if not rest:
        return (whole,) if whole else ()
    if not vectors or short <= lanes // 2:
        last = (Tile(rows, 1, short), rest < short)
        return (whole, last) if whole else (last,)
    high = min(rows, _edge_rows(vectors + 1, target, taken))
    return ((Tile(high, vectors + 1, lanes), True),)


def _edge_rows(vectors: int, target: Target, taken: Words | None) -> int:
    """Rows of a tile at the right edge: as many as fit beside a mask."""
    free = target.vector_registers - 2 - (taken.spare if taken else not target.has_fma)
    return max(1, min(EDGE_ROWS, free // vectors - 1))


def _main_tile(spec: ContractionSpec, target: Target) -> Tile:
    """The tile with the least work for the sizes that are known, edges counted.

    That of products of unknown size is taken where it is about as good: their code is then shared.
    """
    lanes = target.lanes(BYTES[spec.accumulate])
    m_known = None if spec.packed_b else spec.m  # the layout of B must not depend on m
    heights = TYPICAL if m_known is None else (max(1, m_known),)
    widths = TYPICAL if spec.n is None else (max(1, spec.n),)
    taken = words_of(spec, target)
    masks = taken is not None or target.masked_memory(BYTES[spec.accumulate])

    def edge(m: int, left: int) -> float:
        """A panel of `left` columns."""
        if not masks or spec.n is None:
            vectors = -(-left // lanes)
            return -(-m // EDGE_ROWS) * vectors * _step(min(EDGE_ROWS, *heights), 1)
        tiles = _known_edge(left, lanes, min(m, EDGE_ROWS), target, taken)
        return sum(-(-m // t.rows) * _step(t.rows, t.vectors) * t.lanes / lanes for t, _ in tiles)

    def cost(shape: tuple[int, int]) -> float:
        rows, vectors = shape
        total = 0.0
        for n in widths:
            panels, left = divmod(n, vectors * lanes)
            for m in heights:
                foot = _foot(m, rows)
                whole = -(-(m - foot) // rows) * _step(rows, vectors)
                whole += _step(foot, vectors) if foot else 0
                rest = edge(m, left)
                code = FOOT_COST if foot else 1.0
                total += code * (whole * panels + rest) / (m * n)
        return total

    widest = max(1, -(-widths[0] // lanes)) if spec.n is not None else 99
    shapes = [
        (rows, min(vectors, widest))
        for rows, vectors in tile_shapes(target, taken)
        if rows <= max(heights)
    ]
    best = min(shapes, key=cost)
    if spec.m is not None or spec.n is not None:
        common = _main_tile(spec._replace(m=None, n=None), target)
        shape = (common.rows, common.vectors)
        best = shape if shape in shapes and cost(shape) <= SHARING * cost(best) else best
    rows, vectors = best
    return Tile(rows if spec.m is None else max(1, min(rows, spec.m)), vectors, lanes)


def _step(rows: int, vectors: int) -> float:
    """Cost of a step of a tile over k: its products, at least the latency of one, and its loads."""
    return max(rows * vectors, 4) + 0.25 * (rows + vectors)


def packs(spec: ContractionSpec, target: Target) -> bool:
    """Whether B is copied panel by panel before it is used.

    B with contiguous columns is read in place if few rows use it, or if it stays in L2 and need not
    be cast for each tile of rows. Panels of one cache line's width are packed rather: in place
    their rows lie a stride apart, and put each other out of L1.
    """
    if spec.packed_b:
        return False
    if spec.b_unit != "n" or words_of(spec, target) is not None:
        return True
    if spec.m is not None and spec.m <= FEW_ROWS:
        return False
    if target.vector_bytes <= THIN_BYTES and (spec.m is None or spec.m >= THIN_ROWS):
        return True
    return spec.accumulate != spec.dtype or not _stays_in_l2(spec, target)


def _stays_in_l2(spec: ContractionSpec, target: Target) -> bool:
    """Whether B is known to be small."""
    if spec.n is None or spec.k is None:
        return False
    return spec.n * spec.k * BYTES[spec.accumulate] <= target.l2
