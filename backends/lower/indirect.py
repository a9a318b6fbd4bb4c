"""Addresses that data decides: where gathers read and scatters write.

An element lies at address + index * step for each indexed axis; the address is linear in the loops
over the leading and trailing axes, the index comes from another array and is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symgraph.dims import SizeLike
from symgraph.expr import Expr
from symgraph.ops.gather import Gather, Indexed

from ..affine import Map, Strided, View, identity, resolve, row_strides, strided
from ..loops import INDEX, Block, Const, Ty, Value
from .scalar import HALF


def index_map(node: Expr, map: Map) -> Map:
    """Where the indices of a Gather or Scatter are read when its values are read at `map`."""
    return map[: len(node.inputs[-1].array_type.shape)]


def base_view(node: Expr, stored: Callable[[Expr], bool]) -> View:
    """The stored array that a Gather reads, seen through movement."""
    x = node.inputs[0]
    return resolve(x, identity(len(x.array_type.shape)), stored)


def gathered_address(
    node: Expr, base: View, map: Map, rank: int
) -> tuple[Strided, tuple[SizeLike, ...]]:
    """The linear part of where a Gather read at `map` finds its elements, and each index's step."""
    op = node.op
    assert isinstance(op, Gather)
    source = strided(base, node.inputs[0].ndim)
    lead, indexed = op.lead, len(op.axes)
    places = len(node.inputs[1].array_type.shape)
    axes = (*map[:lead], *map[places:])
    strides = (*source.strides[:lead], *source.strides[lead + indexed :])
    offset: SizeLike = source.offset
    coefs: list[SizeLike] = [0] * rank
    for stride, axis in zip(strides, axes):
        offset = offset + _times(stride, axis.offset)
        for j, c in enumerate(axis.coefs):
            coefs[j] = coefs[j] + _times(stride, c)
    return Strided(offset, tuple(coefs)), source.strides[lead : lead + indexed]


def scattered_address(node: Expr) -> tuple[Strided, tuple[int, ...]]:
    """Where a Scatter writes, over the axes of its values, and which of them are places."""
    op = node.op
    assert isinstance(op, Indexed)
    strides = row_strides(node.array_type.shape)
    rank, places = len(node.inputs[1].array_type.shape), len(node.inputs[2].array_type.shape)
    rest = strides[op.lead + len(op.axes) :]
    along = (*strides[: op.lead], *[0] * (places - op.lead), *rest)
    assert len(along) == rank
    return Strided(0, along), tuple(range(op.lead, places))


def scatter_steps(node: Expr) -> tuple[SizeLike, ...]:
    """How far each index of a Scatter reaches in its result."""
    op = node.op
    assert isinstance(op, Indexed)
    return row_strides(node.array_type.shape)[op.lead : op.lead + len(op.axes)]


def _times(k: SizeLike, x: SizeLike) -> SizeLike:
    return 0 if k == 0 or x == 0 else k * x


# ------------------------------------------------------------------------------------------ code


def inside(
    b: Block, raw: Value, size: Value, from_end: bool, mask: Value | None, fault: int | None
) -> Value:
    """An index as an offset from the start of its axis.

    Fault `fault` with the index and the size if it is outside (None: it cannot be).
    """
    lanes = raw.type.lanes
    wide = Ty("uint64" if raw.type.dtype == "uint64" else "int64", lanes)
    index = b.cast(raw, wide.dtype)
    limit = b.splat(b.cast(size, wide.dtype), lanes)
    if wide.dtype == "int64":
        negative = b.let("lt", index, Const(0, wide))
        if from_end and not raw.type.dtype.startswith("u"):
            index = b.let("select", negative, b.let("add", index, limit), index)
        wrong = b.let("or", b.let("lt", index, Const(0, wide)), b.let("ge", index, limit))
    else:
        wrong = b.let("ge", index, limit)
    if fault is None:
        return b.cast(index, INDEX)
    if mask is not None:
        wrong = b.let("and", wrong, mask)
    any_wrong = b.let("hor", wrong, type=Ty("bool")) if lanes > 1 else wrong

    def report(then: Block) -> list[Value]:
        then.fault(Const(True, Ty("bool")), fault, _first(then, raw, wrong), size)
        return []

    b.branch(any_wrong, report)
    return b.cast(index, INDEX)


def _first(b: Block, raw: Value, wrong: Value) -> Value:
    """The first of the lanes that are wrong."""
    lanes = raw.type.lanes
    if lanes == 1:
        return raw
    found = b.let("extract", raw, type=Ty(raw.type.dtype), attr=lanes - 1)
    for lane in reversed(range(lanes - 1)):
        here = b.let("extract", raw, type=Ty(raw.type.dtype), attr=lane)
        flag = b.let("extract", wrong, type=Ty("bool"), attr=lane)
        found = b.let("select", flag, here, found)
    return found


def moved(
    b: Block, offset: Value, lanes: int, indices: Sequence[Value], steps: Sequence[Value]
) -> tuple[Value, int]:
    """An element offset, of `lanes` neighbours if it is a scalar, moved by indices times steps."""
    for index, step in zip(indices, steps):
        one = isinstance(step, Const) and step.value == 1
        term = index if one else b.let("mul", index, b.splat(step, index.type.lanes))
        width = max(term.type.lanes, offset.type.lanes)
        if term.type.lanes > 1 and lanes > 1 and offset.type.lanes == 1:
            offset = b.let("add", b.splat(offset, lanes), b.let("iota", type=Ty(INDEX, lanes)))
        offset = b.let("add", b.splat(offset, width), b.splat(term, width))
        lanes = max(lanes, width)
    return offset, lanes


def combined(b: Block, kind: str, old: Value, new: Value) -> Value:
    """What a scatter leaves at a place; half floats are computed in float32 and rounded."""
    dtype = old.type.dtype
    if dtype == "bool":
        return b.let({"max": "or", "min": "and"}[kind], old, new)
    if dtype in HALF:
        old, new = b.cast(old, "float32"), b.cast(new, "float32")
    return b.cast(b.let(kind, old, new), dtype)
