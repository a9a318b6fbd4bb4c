"""Movement: what only rearranges is composed, dropped, or done on less. Everything here is exact.

Directions, so that no rule undoes another: slices sink below transposes and broadcasts,
broadcasts rise above everything, transposes only cancel (but see `layout`), joins are
flattened.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.dims import SizeLike, known_equal, known_le
from symgraph.expr import Expr, apply
from symgraph.leaves import constant
from symgraph.ops.define import Cast, Elementwise, cast
from symgraph.ops.movement import (
    BroadcastTo,
    Concatenate,
    Place,
    Reshape,
    Slice,
    Transpose,
    broadcast_by,
    reshape_to,
    transpose_by,
)

from ..pattern import operator, wild
from ..rule import Match, Rules, rule

ANY = "biufc"
x, y = wild("x y", ANY)
outer_t, inner_t = operator("outer inner", Transpose)
outer_r, inner_r = operator("outer inner", Reshape)
outer_b, inner_b = operator("outer inner", BroadcastTo)
outer_s, inner_s = operator("outer inner", Slice)
outer_p, inner_p = operator("outer inner", Place)
join = operator("join", Concatenate)
any_op = operator("op", Elementwise)
to = operator("to", Cast)


def unchanged(x: Expr, node: Expr) -> bool:
    """The movement moves nothing: same type, and whoever asks knows that order is kept."""
    return x.type == node.type


# -------------------------------------------------------------------------------------- broadcasts


def without_broadcasts(node: Expr) -> Expr:
    """op(broadcast(x), y) -> op(x, y), broadcast afterwards if the result needs it."""
    return apply(
        node.op, *[x.inputs[0] if isinstance(x.op, BroadcastTo) else x for x in node.inputs]
    )


def transpose_inside(x: Expr, outer: Transpose, inner: BroadcastTo) -> Expr:
    """transpose(broadcast(x)) -> broadcast(transpose(x)), all axes of x made explicit."""
    rank = len(inner.shape)
    full = reshape_to(x, (1,) * (rank - x.ndim) + x.array_type.shape)
    return broadcast_by(transpose_by(full, outer.axes), tuple(inner.shape[a] for a in outer.axes))


def slice_inside(x: Expr, outer: Slice, inner: BroadcastTo) -> Expr:
    """slice(broadcast(x)) -> broadcast(slice(x)): what is repeated is not cut."""
    new = len(inner.shape) - x.ndim
    shape = x.array_type.shape
    repeated = [s == 1 for s in shape]
    starts = tuple(0 if r else s for r, s in zip(repeated, outer.starts[new:]))
    sizes = tuple(1 if r else s for r, s in zip(repeated, outer.sizes[new:]))
    steps = tuple(1 if r else s for r, s in zip(repeated, outer.steps[new:]))
    whole = sizes == shape and all(s == 0 for s in starts) and all(s == 1 for s in steps)
    return broadcast_by(x if whole else apply(Slice(starts, sizes, steps), x), outer.sizes)


def is_single(x: Expr) -> bool:
    """x has one element whatever the call brings."""
    return all(s == 1 for s in x.array_type.shape)


# --------------------------------------------------------------------------------------- transposes


def moves_only_ones(x: Expr, outer: Transpose) -> bool:
    """The axes that are not of size 1 keep their order: a reshape says the same."""
    real = [a for a in outer.axes if x.array_type.shape[a] != 1]
    return real == sorted(real) and outer.axes != tuple(range(x.ndim))


def cancel_transposes(node: Expr, outer: Transpose, match: Match) -> Expr | None:
    """transpose(op(transpose(x), y)) -> op(x, transpose(y)), if fewer transposes are left."""
    (inner,) = node.inputs
    if match.users(inner) > 1 or not any(isinstance(x.op, Transpose) for x in inner.inputs):
        return None
    if not all(x.ndim in (0, inner.ndim) for x in inner.inputs):
        return None
    moved = [_transposed(x, outer.axes) for x in inner.inputs]
    before = 1 + sum(isinstance(x.op, Transpose) for x in inner.inputs)
    return (
        apply(inner.op, *moved)
        if sum(isinstance(x.op, Transpose) for x in moved) < before
        else None
    )


def _transposed(x: Expr, axes: Sequence[int]) -> Expr:
    if not x.ndim:
        return x
    if isinstance(x.op, Transpose):
        return transpose_by(x.inputs[0], [x.op.axes[a] for a in axes])
    return transpose_by(x, axes)


# ------------------------------------------------------------------------------------------ slices


def slice_of_slice(x: Expr, outer: Slice, inner: Slice) -> Expr:
    """x[a::s][b::t] -> x[a + b*s::s*t]"""
    starts = tuple(a + b * s for a, b, s in zip(inner.starts, outer.starts, inner.steps))
    steps = tuple(s * t for s, t in zip(inner.steps, outer.steps))
    return apply(Slice(starts, outer.sizes, steps), x)


def slice_of_transpose(x: Expr, outer: Slice, inner: Transpose) -> Expr:
    """The slice first: less is transposed."""
    back = sorted(range(x.ndim), key=inner.axes.__getitem__)
    cut = Slice(
        *(tuple(part[a] for a in back) for part in (outer.starts, outer.sizes, outer.steps))
    )
    return transpose_by(apply(cut, x), inner.axes)


def slice_of_join(node: Expr, outer: Slice, join: Concatenate) -> Expr | None:
    """A slice that lies in one part of a concatenation -> a slice of that part."""
    axis = join.axis
    start, count, step = outer.starts[axis], outer.sizes[axis], outer.steps[axis]
    last = start + (count - 1) * step
    low, high = (start, last) if step > 0 else (last, start)
    if known_le(1, count) is not True:
        return None
    offset: SizeLike = 0
    for part in node.inputs[0].inputs:
        size = part.array_type.shape[axis]
        if known_le(offset, low) is True and known_le(high + 1, offset + size) is True:
            starts = tuple(s - offset if a == axis else s for a, s in enumerate(outer.starts))
            return apply(Slice(starts, outer.sizes, outer.steps), part)
        offset = offset + size
    return None


def slice_of_place(x: Expr, outer: Slice, inner: Place) -> Expr | None:
    """A slice of a placed array: all of it, a part of it, or nothing but fill."""
    shape = x.array_type.shape
    if (outer.starts, outer.steps, outer.sizes) == (inner.starts, inner.steps, shape):
        return x
    inside = True
    for axis, (start, count, step) in enumerate(zip(outer.starts, outer.sizes, outer.steps)):
        if known_le(1, count) is not True or inner.steps[axis] != 1:
            return None
        last = start + (count - 1) * step
        low, high = (start, last) if step > 0 else (last, start)
        begin, end = inner.starts[axis], inner.starts[axis] + shape[axis]
        if known_le(high + 1, begin) is True or known_le(end, low) is True:
            return constant(inner.fill, x.dtype)
        inside = inside and known_le(begin, low) is True and known_le(high + 1, end) is True
    starts = tuple(a - b for a, b in zip(outer.starts, inner.starts))
    return apply(Slice(starts, outer.sizes, outer.steps), x) if inside else None


def place_of_place(x: Expr, outer: Place, inner: Place) -> Expr | None:
    """Placed twice among the same number -> placed once."""
    if repr(outer.fill) != repr(inner.fill):
        return None
    starts = tuple(a + b * s for a, b, s in zip(outer.starts, inner.starts, outer.steps))
    steps = tuple(s * t for s, t in zip(outer.steps, inner.steps))
    return apply(Place(starts, steps, outer.shape, outer.fill), x)


def takes_all(x: Expr, outer: Slice) -> bool:
    """The slice is the whole array in order."""
    return _is_whole(outer.starts, outer.steps) and outer.sizes == x.array_type.shape


def fills_all(x: Expr, outer: Place) -> bool:
    """Nothing of the fill is left."""
    return _is_whole(outer.starts, outer.steps) and outer.shape == x.array_type.shape


def _is_whole(starts: Sequence[SizeLike], steps: Sequence[int]) -> bool:
    return all(s == 0 for s in starts) and all(s == 1 for s in steps)


# ------------------------------------------------------------------------------------------- joins


def flatten_join(node: Expr, match: Match) -> Expr | None:
    """concatenate(a, concatenate(b, c)) -> concatenate(a, b, c), if b, c have no other user."""
    parts: list[Expr] = []
    for x in node.inputs:
        parts += x.inputs if x.op == node.op and match.users(x) <= 1 else [x]
    return apply(node.op, *parts) if len(parts) > len(node.inputs) else None


def join_of_some(node: Expr, join: Concatenate) -> Expr | None:
    """Parts that are empty are left out; one part is the whole."""
    parts = [x for x in node.inputs if x.array_type.shape[join.axis] != 0] or node.inputs[:1]
    if len(parts) == len(node.inputs) and len(parts) > 1:
        return None
    return parts[0] if len(parts) == 1 else apply(join, *parts)


def join_of_slices(node: Expr, join: Concatenate) -> Expr | None:
    """concatenate(x[a:b], x[b:c]) -> x[a:c]"""
    for at, (left, right) in enumerate(zip(node.inputs, node.inputs[1:])):
        joined = _adjacent(left, right, join.axis)
        if joined is not None:
            parts = [*node.inputs[:at], joined, *node.inputs[at + 2 :]]
            return parts[0] if len(parts) == 1 else apply(join, *parts)
    return None


def _adjacent(left: Expr, right: Expr, axis: int) -> Expr | None:
    a, b = left.op, right.op
    if not (isinstance(a, Slice) and isinstance(b, Slice)) or left.inputs[0] is not right.inputs[0]:
        return None
    follows = a.starts[axis] + a.sizes[axis] * a.steps[axis]
    if a.steps != b.steps or known_equal(follows, b.starts[axis]) is not True:
        return None
    if any(
        i != axis and (a.starts[i], a.sizes[i]) != (b.starts[i], b.sizes[i])
        for i in range(left.ndim)
    ):
        return None
    sizes = tuple(s + b.sizes[i] if i == axis else s for i, s in enumerate(a.sizes))
    return apply(Slice(a.starts, sizes, a.steps), left.inputs[0])


broadcasts = [
    rule(outer_b(x), x, when=unchanged, name="broadcast_to(x) -> x"),
    rule(outer_b(inner_b(x)), lambda x, outer: broadcast_by(x, outer.shape),
         name="broadcast_to(broadcast_to(x))"),
    rule(any_op.over(BroadcastTo), without_broadcasts, name="op(broadcast_to(x)) -> op(x)"),
    rule(to(inner_b(x)), lambda x, to, inner: broadcast_by(cast(x, to.dtype), inner.shape),
         name="cast(broadcast_to(x))"),
    rule(outer_t(inner_b(x)), transpose_inside, name="transpose(broadcast_to(x))"),
    rule(outer_r(inner_b(x)), lambda x, outer: broadcast_by(reshape_to(x, ()), outer.shape),
         when=lambda x: is_single(x), name="reshape(broadcast_to(1 element))"),
    rule(outer_s(inner_b(x)), slice_inside, name="slice(broadcast_to(x))"),
]  # fmt: skip

orders = [
    rule(outer_t(x), x, when=lambda x, outer: outer.axes == tuple(range(x.ndim)),
         name="transpose(x) -> x"),
    rule(outer_t(inner_t(x)),
         lambda x, outer, inner: transpose_by(x, [inner.axes[a] for a in outer.axes]),
         name="transpose(transpose(x))"),
    rule(outer_t(x), lambda x, node: reshape_to(x, node.array_type.shape), when=moves_only_ones,
         name="transpose(x) -> reshape(x)"),
    rule(outer_t.over(Elementwise), cancel_transposes, name="transpose(op(transpose(x)))"),
]  # fmt: skip

shapes = [
    rule(outer_r(x), x, when=unchanged, name="reshape(x) -> x"),
    rule(
        outer_r(inner_r(x)), lambda x, outer: reshape_to(x, outer.shape), name="reshape(reshape(x))"
    ),
]

cuts = [
    rule(outer_s(x), x, when=takes_all, name="slice(x) -> x"),
    rule(outer_s(inner_s(x)), slice_of_slice, name="slice(slice(x))"),
    rule(outer_s(inner_t(x)), slice_of_transpose, name="slice(transpose(x))"),
    rule(outer_s(join()), slice_of_join, name="slice(concatenate(...))"),
    rule(outer_s(inner_p(x)), slice_of_place, name="slice(place(x))"),
    rule(outer_p(x), x, when=fills_all, name="place(x) -> x"),
    rule(outer_p(inner_p(x)), place_of_place, name="place(place(x))"),
]

joins = [
    rule(join(), join_of_some, name="concatenate(x) -> x"),
    rule(join.over(Concatenate), flatten_join, name="concatenate(concatenate(x, y), z)"),
    rule(join.over(Slice), join_of_slices, name="concatenate(x[a:b], x[b:c])"),
]

rules = Rules("movement", "canonicalize", *broadcasts, *orders, *shapes, *cuts, *joins)
