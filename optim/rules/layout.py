"""Layout: what a convolution gives stays channels-last until something needs the other order.

A convolution in the user's order (n, c, h, w) is a channels-last one between two transposes. Those
behind a convolution rise through elementwise work, pools, joins, fills and casts (slices and
reductions do so anyway), so that they meet those of the next convolution and cancel: a chain runs
channels-last inside, with one transpose at either end. They rise where no transpose is added: every
other operand is transposed alike, has one element, or has its elements in the same order either
way, as a bias. Transposes of anything else stay where the user put them. Everything here is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from symgraph.expr import Expr, apply, toposort
from symgraph.leaves import Constant, constant
from symgraph.ops.convolve import GIVES, OPERANDS, Convolve
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.gather import Gather
from symgraph.ops.movement import (
    BroadcastTo,
    Concatenate,
    Place,
    Reshape,
    Slice,
    Transpose,
    reshape_to,
    transpose_by,
)
from symgraph.ops.pooling import (
    ArgmaxPool,
    MaxPool,
    Pick,
    Sliding,
    SumPool,
    Unpick,
    Unsum,
)
from symgraph.sites import show_site

from ..pattern import operator, wild
from ..rule import Rules, rule

x = wild("x")
outer_t, inner_t = operator("outer inner", Transpose)
any_op = operator("op", Elementwise)
to = operator("to", Cast)
pool = operator("pool", MaxPool, ArgmaxPool, Pick, Unpick, SumPool, Unsum)
join = operator("join", Concatenate)
place = operator("place", Place)

#: what computes in the order of its operands
THROUGH = (Elementwise, Cast, Sliding, Concatenate, Place, Slice, Reshape, BroadcastTo, Gather)
LOOKED_AT = 256  # nodes below a transpose among which a convolution is looked for


def behind_convolution(x: Expr) -> bool:
    """x is a convolution, or made of one without a change of order."""
    seen: set[int] = set()
    stack = [x]
    while stack and len(seen) < LOOKED_AT:
        node = stack.pop()
        if isinstance(node.op, Convolve):
            return True
        if id(node) not in seen and isinstance(node.op, THROUGH):
            seen.add(id(node))
            stack.extend(reversed(node.inputs))
    return False


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The order that undoes an order."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def common_order(node: Expr) -> tuple[int, ...] | None:
    """The one order in which transposed operands are, if a convolution lies behind one of them."""
    moved = [z for z in node.inputs if isinstance(z.op, Transpose) and z.ndim == node.ndim]
    orders = {z.op.axes for z in moved if isinstance(z.op, Transpose)}
    if len(orders) != 1 or not any(behind_convolution(z.inputs[0]) for z in moved):
        return None
    return orders.pop()


def without(z: Expr, axes: Sequence[int]) -> Expr | None:
    """z as it is before it is transposed to `axes`, if that is free."""
    if isinstance(z.op, Transpose) and z.op.axes == tuple(axes):
        return z.inputs[0]
    shape = z.array_type.shape
    full = (1,) * (len(axes) - len(shape)) + shape
    back = inverse(axes)
    real = [a for a in back if full[a] != 1]
    if not real:
        return z
    if real == sorted(real):
        return reshape_to(z, tuple(full[a] for a in back))
    if isinstance(z.op, Constant):
        return constant(z.op.value.reshape(full).transpose(back), z.dtype)
    return None


def above_work(node: Expr) -> Expr | None:
    """op(transpose(x), transpose(y), bias) -> transpose(op(x, y, bias))"""
    axes = common_order(node)
    if axes is None:
        return None
    operands = [z for z in (without(z, axes) for z in node.inputs) if z is not None]
    if len(operands) < len(node.inputs):
        return None
    return transpose_by(apply(node.op, *operands), axes)


def below_shared_work(node: Expr, outer: Transpose) -> Expr | None:
    """transpose(op(transpose(x), y)) -> op(x, transpose(y)), if fewer transposes are left.

    Where op has other users too it is done twice, which is less than to transpose its result.
    """
    (work,) = node.inputs
    axes = common_order(work)
    if axes is None or inverse(axes) != outer.axes:
        return None
    free = [without(z, axes) for z in work.inputs]
    operands = [z if z is not None else _moved(y, outer.axes) for z, y in zip(free, work.inputs)]
    added = sum(z is None and not isinstance(y.op, Transpose) for z, y in zip(free, work.inputs))
    return apply(work.op, *operands) if added < 2 else None


def _moved(z: Expr, axes: Sequence[int]) -> Expr:
    """z with all axes made explicit, in another order."""
    shape = z.array_type.shape
    return transpose_by(reshape_to(z, (1,) * (len(axes) - len(shape)) + shape), axes)


def above_pool(node: Expr, pool: Sliding) -> Expr | None:
    """pool(transpose(x)) -> transpose(pool(x)), windows over the axes as they were before."""
    axes = common_order(node)
    if axes is None:
        return None
    along = tuple(axes[a] for a in pool.windows.axes)
    if along != tuple(sorted(along)):  # the points of a window would be in another order
        return None
    back = inverse(axes)
    operands = [
        _moved(z, back) if w is None else w for z in node.inputs for w in [without(z, axes)]
    ]
    return transpose_by(apply(type(pool)(pool.windows._replace(axes=along)), *operands), axes)


def above_join(node: Expr, join: Concatenate) -> Expr | None:
    """concatenate(transpose(x), transpose(y)) -> transpose(concatenate(x, y))"""
    axes = common_order(node)
    if axes is None or not all(isinstance(z.op, Transpose) for z in node.inputs):
        return None
    parts = [z.inputs[0] for z in node.inputs]
    return transpose_by(apply(Concatenate(axes[join.axis]), *parts), axes)


def above_place(x: Expr, place: Place, inner: Transpose) -> Expr:
    """place(transpose(x)) -> transpose(place(x))"""
    back = inverse(inner.axes)
    starts, steps, shape = (
        tuple(part[a] for a in back) for part in (place.starts, place.steps, place.shape)
    )
    return transpose_by(apply(Place(starts, steps, shape, place.fill), x), inner.axes)


def chosen(outputs: Sequence[Expr]) -> Iterator[str]:
    """A line for each convolution of a rewritten graph: what of it is read or left transposed."""
    nodes = toposort(outputs)
    turned = {id(x.inputs[0]): x for x in nodes if isinstance(x.op, Transpose)}
    for node in nodes:
        if not isinstance(node.op, Convolve):
            continue
        parts = [
            f"{name} {z.type}{' transposed' if isinstance(z.op, Transpose) else ''}"
            for name, z in zip(OPERANDS[node.op.role], node.inputs)
        ]
        after = turned.get(id(node))
        then = f", then transposed to {after.type}" if after is not None else ""
        where = f"   {show_site(node.site)}" if node.site else ""
        result = f"{GIVES[node.op.role]} {node.type}"
        yield f"convolution, channels last: {', '.join(parts)} -> {result}{then}{where}"


rules = Rules(
    "layout",
    "canonicalize",
    rule(any_op.over(Transpose), above_work, name="op(transpose(x)) -> transpose(op(x))"),
    rule(outer_t.over(Elementwise), below_shared_work,
         name="transpose(op(transpose(x), y)) -> op(x, transpose(y))"),
    rule(to(inner_t(x)), lambda x, to, inner: transpose_by(apply(to, x), inner.axes),
         when=lambda x: behind_convolution(x), name="cast(transpose(x))"),
    rule(pool.over(Transpose), above_pool, name="pool(transpose(x)) -> transpose(pool(x))"),
    rule(join.over(Transpose), above_join, name="concatenate(transpose(x), transpose(y))"),
    rule(place(inner_t(x)), above_place, when=lambda x: behind_convolution(x),
         name="place(transpose(x)) -> transpose(place(x))"),
)  # fmt: skip
