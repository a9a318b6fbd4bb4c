"""One-hot masks: what a mask picks from a row is read at its place, without going along the row."""

from __future__ import annotations

from symgraph.dims import SizeLike
from symgraph.dtypes import int64
from symgraph.expr import Expr
from symgraph.leaves import size_value
from symgraph.ops.define import cast
from symgraph.ops.movement import Iota, broadcast_by, reshape_to
from symgraph.ops.nnet import LogSoftmax
from symgraph.ops.reduce import Reduce
from symgraph.ops.reduce import max as largest
from symgraph.ops.reduce import sum as total_of
from symgraph.ops.take import take_along_axis

from ..conditions import surely_nonempty
from ..pattern import operator, wild
from ..rule import Rules, rule
from ..words import eq, exp, ge, log, logical_and, lt, maximum, minimum, where

x, z = wild("x z")
i = wild("i", "iu")
total = operator("total", Reduce)
places = operator("places", Iota)
log_soft = operator("log_soft", LogSoftmax)


def is_pick(i: Expr, total: Reduce, node: Expr) -> bool:
    """The sum is over the last axis, along which i does not change."""
    last = node.ndim
    return total.kind == "sum" and total.axes == (last,) and 0 < i.ndim and _last(i) == 1


def _last(x: Expr) -> SizeLike:
    return x.array_type.shape[-1]


def _inside(i: Expr, size: SizeLike) -> Expr:
    return logical_and(ge(i, 0), lt(i, cast(size_value(size), int64)))


def is_repeated(z: Expr, i: Expr, places: Iota, total: Reduce, node: Expr) -> bool:
    """z does not change along the last axis either, which the mask has."""
    return is_pick(i, total, node) and (z.ndim == 0 or _last(z) == 1) and places.size != 1


def _summed(x: Expr, node: Expr) -> Expr:
    """x, which has size 1 along the last axis, as large as the sum."""
    shape = node.array_type.shape
    return reshape_to(broadcast_by(x, (*shape, 1)), shape)


def repeated(z: Expr, i: Expr, places: Iota, node: Expr) -> Expr:
    """sum(where(i == iota, z, 0)) -> z where i is a place, else 0"""
    return _summed(where(_inside(cast(i, int64), places.size), z, 0), node)


def is_picked_score(x: Expr, i: Expr, log_soft: LogSoftmax, total: Reduce, node: Expr) -> bool:
    """The softmax is along the axis the mask picks from; each row of the mask has its scores."""
    return (
        is_pick(i, total, node)
        and log_soft.axis == x.ndim - 1 == node.ndim
        and surely_nonempty(_last(x))
    )


def picked_score(x: Expr, i: Expr, log_soft: LogSoftmax, node: Expr) -> Expr:
    """sum(where(i == iota, log_softmax(x), 0)) -> log_softmax(x) at i, as its definition has it."""
    last, size, place = log_soft.axis, _last(x), cast(i, int64)
    nearest = minimum(maximum(place, 0), cast(size_value(size), int64) - 1)
    top = largest(x, last, keepdims=True)
    offset = take_along_axis(x, nearest, last) - top
    score = offset - log(total_of(exp(x - top), last, keepdims=True))
    return _summed(where(_inside(place, size), score, 0), node)


_hits = eq(i, places())

rules = Rules(
    "one_hot",
    "specialize",
    rule(total(where(_hits, z, 0)), repeated, when=is_repeated, grade="rounds",
         name="sum(where(i == iota, z, 0)) -> where(i inside, z, 0)"),
    rule(total(where(_hits, log_soft(x), 0)), picked_score, when=is_picked_score, grade="rounds",
         name="sum(where(i == iota, log_softmax(x), 0)) -> log_softmax(x) at i"),
)  # fmt: skip
