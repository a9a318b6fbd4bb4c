"""Stability: the same function, never less accurate, and finite where the true value is.

What is not here on purpose: log(exp(x)), exp(log(x)), expm1(log1p(x)), x * log(y) and the like,
whose other forms give numbers where these give NaN or an infinity that the program may wait for.
"""

from __future__ import annotations

from symgraph.expr import Expr, apply
from symgraph.ops.movement import (
    BroadcastTo,
    Iota,
    Reshape,
    Slice,
    Transpose,
    broadcast_by,
    reshape_to,
)
from symgraph.ops.nnet import LogSoftmax, LogSumExp, Softmax
from symgraph.ops.reduce import Reduce, kept_shape

from ..conditions import is_ordinary, surely_nonempty
from ..constants import nonnegative
from ..match import find
from ..pattern import const, operator, wild
from ..rule import Rules, rule
from ..words import (
    abs,
    cos,
    cosh,
    eq,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log_sigmoid,
    logaddexp,
    logaddexp2,
    reciprocal,
    rsqrt,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    tanh,
    where,
    xlog1py,
    xlogy,
)

x, y, z, w = wild("x y z w")
f = wild("f", "f")
c = const("c")
total, top = operator("total top", Reduce)
kept = operator("kept", Reshape)
moved = operator("moved", Reshape, Transpose, Slice, BroadcastTo)
soft = operator("soft", Softmax)
log_soft = operator("log_soft", LogSoftmax)
places = operator("places", Iota)
x_minus_top = x - kept(top(x))

logarithms = [
    rule(log(1 + x), log1p(x), grade="stabler"),
    rule(log(1 - x), log1p(-x), grade="stabler"),
    rule(exp(x) - 1, expm1(x), grade="stabler"),
    rule(1 - exp(x), -expm1(x), grade="stabler"),
    rule(log1p(exp(x)), softplus(x), grade="stabler"),
    rule(log(exp(x) + exp(y)), logaddexp(x, y), grade="stabler"),
    rule(log2(exp2(x) + exp2(y)), logaddexp2(x, y), grade="stabler"),
    rule(log(sqrt(x)), log(x) * 0.5, grade="stabler"),
    rule(log(square(x)), log(abs(x)) * 2, grade="stabler"),
    rule(log(rsqrt(x)), log(x) * -0.5, grade="stabler"),
    rule(
        log(x**c), c * log(x), when=lambda x, c: is_ordinary(c) and nonnegative(x), grade="stabler"
    ),
    rule(log(reciprocal(x)), -log(x), when=lambda x: nonnegative(x), grade="stabler"),
]

logistic = [
    rule(log(sigmoid(x)), log_sigmoid(x), grade="stabler"),
    rule(log_sigmoid(-x), -softplus(x)),
    rule(log1p(-sigmoid(x)), -softplus(x), grade="stabler"),
    rule(1 - sigmoid(x), sigmoid(-x), grade="stabler"),
    rule(reciprocal(1 + exp(x)), sigmoid(-x), grade="stabler"),
    rule(exp(x) / (1 + exp(x)), sigmoid(x), grade="stabler"),
    rule(y / (1 + exp(x)), y * sigmoid(-x), grade="stabler"),
    rule(exp(x) * sigmoid(-x), sigmoid(x), grade="stabler"),
    rule(exp(-x) * sigmoid(x), sigmoid(-x), grade="stabler"),
    rule((y * sigmoid(x)) * exp(-x), y * sigmoid(-x), grade="stabler"),
    rule(exp(log_sigmoid(x)), sigmoid(x), grade="stabler"),
    rule(exp(-softplus(x)), sigmoid(-x), grade="stabler"),
    rule(
        xlogy(y, sigmoid(x)), where(eq(y, 0), sigmoid(x) * 0, y * log_sigmoid(x)), grade="stabler"
    ),
    rule(
        xlog1py(y, -sigmoid(x)),
        where(eq(y, 0), sigmoid(x) * 0, -(y * softplus(x))),
        grade="stabler",
    ),
    rule(tanh(x * 0.5) * 0.5 + 0.5, sigmoid(x), grade="stabler"),
    rule((tanh(x * 0.5) + 1) * 0.5, sigmoid(x), grade="stabler"),
]

hyperbolic = [
    rule((exp(x) - exp(-x)) * 0.5, sinh(x), grade="stabler"),
    rule((exp(x) + exp(-x)) * 0.5, cosh(x), grade="stabler"),
    rule((exp(x) - exp(-x)) / (exp(x) + exp(-x)), tanh(x), grade="stabler"),
    rule(expm1(x) / (exp(x) + 1), tanh(x * 0.5), grade="stabler"),
    rule(sigmoid(x) * 2 - 1, tanh(x * 0.5), grade="stabler"),
    rule(1 - cos(x), square(sin(x * 0.5)) * 2, grade="stabler"),
]

powers = [
    rule(1 - erf(x), erfc(x), grade="stabler"),
    rule(1 - erfc(x), erf(x), grade="stabler"),
    rule(1 + erf(x), erfc(-x), grade="stabler"),
    rule(sqrt(square(x)), abs(x), grade="stabler"),
    rule(reciprocal(sqrt(x)), rsqrt(x), grade="stabler"),
    rule(reciprocal(rsqrt(x)), sqrt(x), grade="stabler"),
    rule(x**2, square(x), grade="stabler"),
    rule(f**-1, reciprocal(f), grade="stabler"),
    rule(x**0.5, sqrt(x), when=lambda x: nonnegative(x), grade="stabler"),
]


def is_kept_sum(x: Expr, total: Reduce, kept: Reshape) -> bool:
    """A sum over one axis that stays with size 1."""
    return is_sum(x, total) and kept.shape == kept_shape(x.array_type.shape, total.axes)


def is_sum(x: Expr, total: Reduce) -> bool:
    """A sum over axes that are certainly not empty."""
    sizes = [x.array_type.shape[a] for a in total.axes]
    return total.kind == "sum" and len(sizes) > 0 and surely_nonempty(*sizes)


def is_open_sum(x: Expr, total: Reduce) -> bool:
    """is_sum, and x is not less its own maximum already, when nothing can overflow or vanish."""
    return is_sum(x, total) and not _is_shifted(x, total)


def _is_shifted(x: Expr, total: Reduce) -> bool:
    found = find(x_minus_top, x)
    return found is not None and is_top(found["x"], found["top"], total.axes, found["kept"])


def is_first_sum(x: Expr, total: Reduce) -> bool:
    """A sum over the first axis, which broadcasts back by itself."""
    return total.axes == (0,) and is_sum(x, total)


def is_top(x: Expr, top: Reduce, over: tuple[int, ...], kept: Reshape) -> bool:
    """The largest element over these axes, which stay with size 1."""
    return (
        top.kind == "max"
        and top.axes == over
        and kept.shape == kept_shape(x.array_type.shape, top.axes)
    )


def softmax_of(x: Expr, total: Reduce) -> Expr | None:
    return apply(Softmax(total.axes[0]), x) if len(total.axes) == 1 else None


def logsumexp_of(x: Expr, total: Reduce, node: Expr) -> Expr:
    return reshape_to(apply(LogSumExp(total.axes), x), node.array_type.shape)


def is_softmax_top(x: Expr, top: Reduce, soft: Softmax, kept: Reshape) -> bool:
    return is_top(x, top, (soft.axis,), kept)


def is_one_hot(x: Expr, y: Expr, soft: Softmax) -> bool:
    """eq(y, iota) has one hit at most along the softmax's axis: y has size 1 there, iota not."""
    last = y.ndim > 0 and y.array_type.shape[-1] == 1 and y.ndim <= x.ndim
    return last and soft.axis == x.ndim - 1


def picked(x: Expr, y: Expr, places: Iota, soft: Softmax, total: Reduce) -> Expr | None:
    """log of the softmax that an index picks -> the same of log_softmax; -inf for no index."""
    last = x.ndim - 1
    if not (is_one_hot(x, y, soft) and total.kind == "sum" and total.axes == (last,)):
        return None
    scores = where(eq(y, apply(places)), apply(LogSoftmax(last), x), float("-inf"))
    return apply(Reduce("max", (last,)), scores)


_hits = eq(y, places())
PICKED = where(_hits, kept(z / total(where(_hits, soft(x), 0))), 0) * soft(x)


def picked_gradient(x: Expr, w: Expr, soft: Softmax, total: Reduce) -> Expr | None:
    """The gradient of log(pick(softmax(x))) -> (one-hot - softmax) * z, without dividing by a 0.

    w: PICKED. Where no index hits, it is 0, as is the derivative of a constant.
    """
    found = find(PICKED, w)
    last = x.ndim - 1
    if found is None or found["x"] is not x or not total.axes == found["total"].axes == (last,):
        return None
    if not is_one_hot(x, found["y"], soft):
        return None
    shape = kept_shape(w.array_type.shape, (last,))
    if found["kept"].shape != shape:
        return None
    hits, chances = eq(found["y"], apply(found["places"])), apply(soft, x)
    hit = reshape_to(apply(Reduce("any", (last,)), broadcast_by(hits, w.array_type.shape)), shape)
    factor = reshape_to(broadcast_by(found["z"], shape[:-1]), shape)
    return where(hit, where(hits, 1 - chances, -chances) * factor, chances * 0)


softmaxes = [
    rule(w - soft(x) * kept(total(w)), picked_gradient, grade="stabler",
         name="gradient of log(pick(softmax(x)))"),
    rule((y / soft(x)) * soft(x), y + soft(x) * 0, grade="stabler",
         name="(y / softmax(x)) * softmax(x) -> y"),
    rule(exp(x) / kept(total(exp(x))), softmax_of, when=is_kept_sum,
         name="exp(x) / sum(exp(x)) -> softmax(x)", grade="stabler"),
    rule(exp(x) / total(exp(x)), softmax_of, when=is_first_sum,
         name="exp(x) / sum(exp(x), 0) -> softmax(x)", grade="stabler"),
    rule(soft(x - kept(top(x))), lambda x, soft: apply(soft, x), when=is_softmax_top,
         grade="stabler", name="softmax(x - max(x)) -> softmax(x)"),
    rule(log(soft(x)), lambda x, soft: apply(LogSoftmax(soft.axis), x), grade="stabler",
         name="log(softmax(x)) -> log_softmax(x)"),
    rule(log(moved(soft(x))), lambda x, soft, moved: apply(moved, apply(LogSoftmax(soft.axis), x)),
         name="log(part of softmax(x)) -> part of log_softmax(x)", grade="stabler"),
    rule(log(total(where(eq(y, places()), soft(x), 0))), picked, grade="stabler",
         name="log(pick(softmax(x))) -> pick(log_softmax(x))"),
    rule(exp(log_soft(x)), lambda x, log_soft: apply(Softmax(log_soft.axis), x), grade="stabler",
         name="exp(log_softmax(x)) -> softmax(x)"),
    rule(log(total(exp(x))), logsumexp_of, when=is_open_sum,
         name="log(sum(exp(x))) -> logsumexp(x)", grade="stabler"),
    rule(log(kept(total(exp(x)))), logsumexp_of, when=is_open_sum, grade="stabler",
         name="log(keepdims(sum(exp(x)))) -> logsumexp(x)"),
]  # fmt: skip

rules = Rules("stability", "stabilize", *logarithms, *logistic, *hyperbolic, *powers, *softmaxes)
