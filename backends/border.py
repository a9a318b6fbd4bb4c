"""The kernel that writes a constant around a block inside of an array, and nothing of the block.

Axes of a border are listed outermost first; what lies inside of the last one is one run of memory.

    border(axis, base):  elements [0, low) and [size - high, size) of the axis, whole;
                         then border(axis + 1, ...) at each index between them
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from symgraph.dims import Shape, SizeLike, product
from symgraph.dtypes import DType

from .affine import row_strides
from .loops import INDEX, Block, Buffer, Const, Kernel, Ty, Value, Var
from .targets import Target


class Edge(NamedTuple):
    """One axis.

    low, high: indices of the border; inside: those between them; stride: of one, in memory.
    """

    low: SizeLike
    inside: SizeLike
    high: SizeLike
    stride: SizeLike

    @property
    def is_free(self) -> bool:
        """The block fills the axis."""
        return self.low == 0 and self.high == 0


def edges(shape: Shape, starts: Sequence[SizeLike], block: Shape) -> list[Edge]:
    """The axes around a block at `starts` in an array, those it fills joined to one another."""
    found: list[Edge] = []
    for size, start, length, stride in zip(shape, starts, block, row_strides(shape)):
        edge = Edge(start, length, size - start - length, stride)
        if found and edge.is_free and found[-1].is_free:
            found[-1] = edge._replace(inside=found[-1].inside * length)
        else:
            found.append(edge)
    return found[:-1] if found and found[-1].is_free else found


def dims(around: Sequence[Edge]) -> tuple[SizeLike, ...]:
    """The values of the dims of `border`."""
    return tuple(size for edge in around for size in edge)


def border(dtype: DType, value: Any, around: Sequence[Edge], target: Target) -> Kernel:
    """The kernel that writes `value` around a block.  Dims: `dims(around)`."""
    b, out = Block(), Buffer("out", str(dtype), "w")
    sizes = [
        [Var(f"{name}{j}", Ty(INDEX)) for name in ("low", "inside", "high", "stride")]
        for j in range(len(around))
    ]
    lanes = max(1, target.lanes(dtype.bytes))
    bordered = [not edge.is_free for edge in around]
    _axis(_Writer(out, Const(value, Ty(str(dtype))), lanes, bordered, sizes), b, 0, b.index(0))
    names = tuple(size for axis in sizes for size in axis)
    return Kernel("fill", (out,), names, tuple(b.stmts))


class _Writer(NamedTuple):
    out: Buffer
    value: Const
    lanes: int
    bordered: list[bool]
    sizes: list[list[Var]]


def _axis(w: _Writer, b: Block, axis: int, base: Value) -> None:
    low, inside, high, stride = w.sizes[axis]
    first: Value = b.index(0)
    if w.bordered[axis]:
        first = b.let("mul", low, stride)
        _run(w, b, base, first)
        after = b.let("add", base, b.let("mul", b.let("add", low, inside), stride))
        _run(w, b, after, b.let("mul", high, stride))
    if axis + 1 < len(w.sizes):
        with b.loop(0, inside, hint="at") as i:
            at = i.let("add", i.let("add", base, first), i.let("mul", i.var, stride))
            _axis(w, i, axis + 1, at)


def _run(w: _Writer, b: Block, start: Value, count: Value) -> None:
    """`count` elements from `start` on: whole vectors, then one by one."""
    b.poll(b.let("div", count, b.index(8)))
    whole = b.let("sub", count, b.let("rem", count, b.index(w.lanes)))
    with b.loop(0, whole, w.lanes, hint="e") as e:
        e.store(w.out, e.let("add", start, e.var), e.splat(w.value, w.lanes))
    with b.loop(whole, count, hint="e") as e:
        e.store(w.out, e.let("add", start, e.var), w.value)


def elements(around: Sequence[Edge]) -> SizeLike:
    """About how many elements are written."""
    total: SizeLike = 0
    for j, edge in enumerate(around):
        times = product(e.inside for e in around[:j])
        total = total + times * (edge.low + edge.high) * edge.stride
    return total
