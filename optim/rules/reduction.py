"""Reductions and products over moved, repeated or already reduced operands.

Sums of floats may be taken in another order (grade "rounds"), products of floats may not: they
could overflow on the way. Everything else here is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from symgraph.dims import Shape
from symgraph.expr import Expr, apply
from symgraph.ops.contract import MatMul, swapped
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.movement import BroadcastTo, Reshape, Transpose, reshape_to, transpose_by
from symgraph.ops.nnet import LogSoftmax, Softmax
from symgraph.ops.reduce import ArgReduce, Cumulative, Reduce

from ..conditions import precision, same_shape
from ..pattern import const, operator, wild
from ..rule import Match, Rule, Rules, rule
from ..words import logical_not, neg

x, y = wild("x y")
f = wild("f", "f")
i = wild("i", "iu")
k = const("k", "iu")
p = wild("p", "b")
outer, inner = operator("outer inner", Reduce)
moved = operator("moved", Transpose)
shaped = operator("shaped", Reshape)
spread = operator("spread", BroadcastTo)
running = operator("running", Cumulative)
find = operator("find", ArgReduce)
along = operator("along", Softmax, LogSoftmax)
product = operator("product", MatMul)
turned_a, turned_b = operator("turned_a turned_b", Transpose)


def any_order(op: Reduce, x: Expr) -> bool:
    """The order of the elements does not matter: all but sums and products of floats."""
    return op.kind not in ("sum", "prod") or not x.dtype.is_inexact


def float_sum(op: Reduce, x: Expr) -> bool:
    """The result depends on the order by rounding only."""
    return op.kind == "sum" and x.dtype.is_inexact


def in_both_grades(
    lhs: Any, rhs: Callable[..., Any], name: str, applies: Callable[..., bool] | None = None
) -> list[Rule]:
    """The rule for reductions in any order (exact), and for sums of floats (rounds)."""
    when = applies or (lambda x: True)
    asks = when.__code__.co_varnames[: when.__code__.co_argcount]

    def exact(outer: Reduce, x: Expr, match: Match) -> bool:
        return any_order(outer, x) and when(*map(match.get, asks))

    def rounds(outer: Reduce, x: Expr, match: Match) -> bool:
        return float_sum(outer, x) and when(*map(match.get, asks))

    return [
        rule(lhs, rhs, name=name, when=exact),
        rule(lhs, rhs, name=f"{name} (float sum)", when=rounds, grade="rounds"),
    ]


def sum_axes(outer: Reduce, inner: Reduce, rank: int) -> tuple[int, ...]:
    """The axes of x over which both reduce."""
    left = [a for a in range(rank) if a not in inner.axes]
    return tuple(sorted([*inner.axes, *(left[a] for a in outer.axes)]))


def merge(x: Expr, outer: Reduce, inner: Reduce) -> Expr:
    return apply(Reduce(outer.kind, sum_axes(outer, inner, x.ndim)), x)


def under_transpose(x: Expr, outer: Reduce, moved: Transpose) -> Expr:
    """reduce(transpose(x)) -> transpose(reduce(x))"""
    axes = {moved.axes[a] for a in outer.axes}
    kept = [a for a in range(x.ndim) if a not in axes]
    rest = [moved.axes[a] for a in range(x.ndim) if a not in outer.axes]
    return transpose_by(
        apply(Reduce(outer.kind, tuple(sorted(axes))), x), [kept.index(a) for a in rest]
    )


def real_axes(shape: Shape) -> list[int]:
    """The axes that are not known to have size 1."""
    return [a for a, s in enumerate(shape) if s != 1]


def only_ones_differ(x: Expr, shaped: Reshape) -> bool:
    """The reshape adds or drops axes of size 1 and nothing else."""
    a, b = x.array_type.shape, shaped.shape
    return [a[i] for i in real_axes(a)] == [b[i] for i in real_axes(b)]


def reduces_something(x: Expr, outer: Reduce, shaped: Reshape) -> bool:
    return only_ones_differ(x, shaped) and any(shaped.shape[a] != 1 for a in outer.axes)


def under_reshape(x: Expr, outer: Reduce, shaped: Reshape, node: Expr) -> Expr:
    """reduce(keepdims or squeeze of x) -> reshape(reduce(x))"""
    place = dict(zip(real_axes(shaped.shape), real_axes(x.array_type.shape)))
    axes = tuple(sorted(place[a] for a in outer.axes if a in place))
    if axes == tuple(real_axes(x.array_type.shape)):
        axes = tuple(range(x.ndim))  # axes of size 1 go too: nothing is left to be reshaped
    return reshape_to(apply(Reduce(outer.kind, axes), x), node.array_type.shape)


def only_ones(x: Expr, outer: Reduce) -> bool:
    """Every reduced axis has size 1; or there is none."""
    return all(x.array_type.shape[a] == 1 for a in outer.axes)


def drop(x: Expr, node: Expr) -> Expr:
    return reshape_to(x, node.array_type.shape)


def repeated_axes(x: Expr, spread: BroadcastTo) -> list[int]:
    """The axes of the result along which x is repeated."""
    new = len(spread.shape) - x.ndim
    return [
        a
        for a, s in enumerate(spread.shape)
        if a < new or (x.array_type.shape[a - new] == 1 and s != 1)
    ]


def split_repeated(x: Expr, outer: Reduce, spread: BroadcastTo) -> tuple[Expr, int] | None:
    """reduce(broadcast(x)) as a reduction of x over its axes, and how often elements count.

    None where a count is not a known number above 0.
    """
    repeated = set(repeated_axes(x, spread))
    counts = [spread.shape[a] for a in outer.axes if a in repeated]
    if not all(isinstance(n, int) and n > 0 for n in counts) or not counts:
        return None
    new = len(spread.shape) - x.ndim
    own = tuple(a - new for a in outer.axes if a not in repeated)
    return (apply(Reduce(outer.kind, own), x) if own else x), prod(counts)


def once(x: Expr, outer: Reduce, spread: BroadcastTo, node: Expr) -> Expr | None:
    """max(broadcast(x)) -> max(x) over what x has; broadcast where it still is."""
    found = split_repeated(x, outer, spread)
    return None if found is None else _spread_rest(found[0], x, outer, spread, node)


def _spread_rest(reduced: Expr, x: Expr, outer: Reduce, spread: BroadcastTo, node: Expr) -> Expr:
    """The reduction of x repeated along the axes of the result that x has not."""
    new = len(spread.shape) - x.ndim
    shape = tuple(
        1 if a < new else x.array_type.shape[a - new]
        for a in range(len(spread.shape))
        if a not in outer.axes
    )
    return apply(BroadcastTo(node.array_type.shape), reshape_to(reduced, shape))


def counted(x: Expr, outer: Reduce, spread: BroadcastTo, node: Expr) -> Expr | None:
    """sum(broadcast(x)) -> sum(x) * n"""
    found = split_repeated(x, outer, spread)
    if found is None or (x.dtype.is_float and found[1] > 2 ** precision(x.dtype)):
        return None
    total, count = found
    if x.dtype.is_integer and count >= 2 ** (x.dtype.bits - x.dtype.is_signed):
        return None
    return _spread_rest(total * count, x, outer, spread, node)


def is_idempotent(outer: Reduce) -> bool:
    return outer.kind in ("max", "min", "any", "all")


def one_pass(x: Expr, outer: Reduce, inner: Reduce) -> bool:
    """Both are one reduction, and it is better taken at once.

    Of what is computed slice by slice (a softmax), the inner one is taken along with the slice,
    and nothing but its results has to be stored.
    """
    return outer.kind == inner.kind and not _by_slices(x, inner.axes)


SEARCHED = 32  # nodes looked at


def _by_slices(x: Expr, axes: Sequence[int]) -> bool:
    """Whether elements of x come from all the elements along these axes, as far as it is seen."""
    stack, seen = [x], {x}
    while stack and len(seen) <= SEARCHED:
        node = stack.pop()
        if isinstance(node.op, (Softmax, LogSoftmax)) and node.op.axis in axes:
            return True
        if isinstance(node.op, (Elementwise, Cast)):
            fresh = {i for i in node.inputs if i.array_type.shape == x.array_type.shape} - seen
            seen |= fresh
            stack.extend(fresh)
    return False


def opposite(outer: Reduce) -> Reduce:
    """The reduction that gives the negated result of the negated operand."""
    return Reduce(
        {"max": "min", "min": "max", "any": "all", "all": "any", "sum": "sum"}[outer.kind],
        outer.axes,
    )


def opposite_place(find: ArgReduce) -> ArgReduce:
    """Where the negated operand is largest, the operand is smallest."""
    return ArgReduce("argmin" if find.kind == "argmax" else "argmax", find.axis)


def swapped_product(
    x: Expr, y: Expr, moved: Transpose, product: MatMul, match: Match
) -> Expr | None:
    """transpose(a @ b) -> transpose(b) @ transpose(a), where a transpose of an operand cancels."""
    (inner,) = match.node.inputs
    n = len(moved.axes)
    exchanged = moved.axes == (*range(n - 2), n - 1, n - 2)
    some = any(isinstance(z.op, Transpose) and z.op.axes == moved.axes for z in (x, y))
    if not exchanged or not some or match.users(inner) > 1:
        return None
    return apply(product, _turned(y, moved.axes), _turned(x, moved.axes))


def _turned(x: Expr, axes: Sequence[int]) -> Expr:
    return x.inputs[0] if isinstance(x.op, Transpose) and x.op.axes == tuple(axes) else swapped(x)


reductions = [
    *in_both_grades(outer(x), drop, "reduce over axes of size 1 -> reshape", only_ones),
    *in_both_grades(outer(inner(x)), merge, "reduce(reduce(x))", one_pass),
    *in_both_grades(outer(moved(x)), under_transpose, "reduce(transpose(x))"),
    *in_both_grades(outer(shaped(x)), under_reshape, "reduce(reshape of ones)", reduces_something),
    rule(outer(spread(x)), once, when=is_idempotent, name="max(broadcast_to(x))"),
    rule(outer(spread(i)), lambda i, outer, spread, node: counted(i, outer, spread, node),
         when=lambda outer: outer.kind == "sum", name="sum(broadcast_to(integers)) -> sum * n"),
    rule(outer(spread(f)), lambda f, outer, spread, node: counted(f, outer, spread, node),
         when=lambda outer: outer.kind == "sum", name="sum(broadcast_to(floats)) -> sum * n",
         grade="rounds"),
    rule(outer(neg(f)), lambda f, outer: -apply(opposite(outer), f),
         when=lambda outer: outer.kind in ("max", "min", "sum"), name="reduce(-x) -> -reduce(x)",
         grade="rounds"),
    rule(outer(logical_not(p)), lambda p, outer: logical_not(apply(opposite(outer), p)),
         name="any(not p) -> not all(p)"),
    rule(outer(i * k), lambda i, k, outer: apply(outer, i) * k,
         when=lambda i, outer, node: outer.kind == "sum" and same_shape(i, node.inputs[0]),
         name="sum(i * k) -> sum(i) * k"),
    rule(find(-f), lambda f, find: apply(opposite_place(find), f), name="argmax(-x) -> argmin(x)"),
    rule(running(i), i, when=lambda i, running: i.array_type.shape[running.axis] == 1,
         name="cumsum over size 1 -> x"),
    rule(running(f), f, when=lambda f, running: f.array_type.shape[running.axis] == 1,
         name="cumsum over size 1 -> x (floats)", grade="rounds"),
]  # fmt: skip

products = [
    rule(moved(product(x, y)), swapped_product,
         name="transpose(a @ b) -> transpose(b) @ transpose(a)", grade="rounds"),
    rule(product(x, y), lambda x, y: x * y,
         when=lambda x, y: x.array_type.shape[-1] == 1 and x.dtype.is_inexact,
         name="column @ row -> column * row", grade="rounds"),
]  # fmt: skip

rules = Rules("reduction", "canonicalize", *reductions, *products)
