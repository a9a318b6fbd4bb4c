"""The kernel that writes a constant around a block inside of an array, and nothing of the block.

Axes are listed outermost first; what lies inside of the last one is one run of memory. The runs of
the block are gone through in order, and what lies between two of them is filled at once.
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
    writer = _Writer(out, Const(value, Ty(str(dtype))), lanes, sizes)
    done = _axis(writer, b, 0, b.index(0), b.index(0))
    low, inside, high, stride = sizes[0]
    whole = b.let("add", b.let("add", low, inside), high)
    _run(writer, b, done, b.let("mul", whole, stride))
    names = tuple(size for axis in sizes for size in axis)
    return Kernel("fill", (out,), names, tuple(b.stmts))


class _Writer(NamedTuple):
    out: Buffer
    value: Const
    lanes: int
    sizes: list[list[Var]]


def _axis(w: _Writer, b: Block, axis: int, base: Value, done: Value) -> Value:
    """Fill what lies before each run of the block; `done`: where the last one ended."""
    low, inside, _, stride = w.sizes[axis]
    first = b.let("add", base, b.let("mul", low, stride))
    if axis + 1 == len(w.sizes):
        _run(w, b, done, first)
        return b.let("add", first, b.let("mul", inside, stride))
    with b.loop(0, inside, carries=[done], hint="at") as i:
        at = i.let("add", first, i.let("mul", i.var, stride))
        i.next(_axis(w, i, axis + 1, at, i.carried[0]))
    return i.results[0]


def _run(w: _Writer, b: Block, start: Value, stop: Value) -> None:
    """Elements from `start` to `stop`: whole vectors, then one by one."""
    count = b.let("sub", stop, start)
    b.poll(b.let("div", count, b.index(8)))
    whole = b.let("sub", stop, b.let("rem", count, b.index(w.lanes)))
    with b.loop(start, whole, w.lanes, hint="e") as e:
        e.store(w.out, e.var, e.splat(w.value, w.lanes))
    with b.loop(whole, stop, hint="e") as e:
        e.store(w.out, e.var, w.value)


def elements(around: Sequence[Edge]) -> SizeLike:
    """About how many elements are written."""
    total: SizeLike = 0
    for j, edge in enumerate(around):
        times = product(e.inside for e in around[:j])
        total = total + times * (edge.low + edge.high) * edge.stride
    return total
