"""Random expressions for the rules whose left sides leave their operands open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symgraph.dims import dim
from symgraph.dtypes import int64
from symgraph.expr import Expr, apply
from symgraph.leaves import DimValue, array, constant
from symgraph.ops.branch import cond
from symgraph.ops.contract import MatMul
from symgraph.ops.define import REGISTRY, call, cast
from symgraph.ops.effects import assert_
from symgraph.ops.elementwise import eq, exp, log, logical_not, where
from symgraph.ops.gradient import grad_clip, grad_scale, stop_gradient, surrogate_gradient
from symgraph.ops.loop import build
from symgraph.ops.movement import (
    BroadcastTo,
    Concatenate,
    Iota,
    Place,
    Slice,
    Transpose,
    slice_axis,
)
from symgraph.ops.nnet import LogSoftmax, Softmax
from symgraph.ops.reduce import Reduce
from symgraph.optim.samples import draw_dtype, draw_shape

from .layout_examples import LAYOUT

Random = np.random.Generator
OPS = ["add", "mul", "sub", "maximum", "where", "tanh", "neg", "lt", "isnan", "true_div"]


def _operand(rng: Random, name: str, shape: Any, kinds: str = "f") -> Expr:
    return array(name, shape, draw_dtype(rng, kinds))


def _elementwise(rng: Random, operands: list[Expr]) -> Expr:
    """An op of as many of the operands as it takes."""
    op = REGISTRY[str(rng.choice(OPS))]
    return call(op, operands[: op.spec.arity] + operands[:1] * (op.spec.arity - len(operands)))


def folding(rng: Random) -> Expr:
    shape = tuple(int(n) for n in rng.integers(1, 4, rng.integers(0, 3)))
    operands = [constant(rng.normal(size=shape).astype("float32")) for _ in range(3)]
    choice = rng.integers(4)
    if choice == 0 and shape:
        return apply(Reduce("sum", (0,)), operands[0])
    if choice == 1 and shape:
        return apply(Softmax(0), operands[0])
    if choice == 2 and len(shape) == 2:
        return apply(MatMul(), operands[0], apply(Transpose((1, 0)), operands[1]))
    return _elementwise(rng, operands)


def sizes(rng: Random) -> Expr:
    n, m = apply(DimValue(dim("n"))), apply(DimValue(dim("m") * 2 + 1))
    other = [m, constant(int(rng.integers(-3, 7)), int64)][rng.integers(2)]
    name = str(rng.choice(["add", "sub", "mul", "maximum", "minimum", "floor_divide", "mod"]))
    return call(REGISTRY[name], [n, other])


def size_comparisons(rng: Random) -> Expr:
    n = dim("n")
    other = [n, n + int(rng.integers(-2, 3)), int(rng.integers(-2, 2)), dim("m")][rng.integers(4)]
    name = str(rng.choice(["lt", "le", "gt", "ge", "eq", "neq"]))
    operands = [
        apply(DimValue(n)),
        constant(other) if isinstance(other, int) else apply(DimValue(other)),
    ]
    return call(REGISTRY[name], operands if rng.random() < 0.5 else operands[::-1])


def broadcasts(rng: Random) -> Expr | None:
    x = _operand(rng, "x", [(1,), (), (3, 1), ("n",)][rng.integers(4)])
    y = array("y", [(3, "n"), ("n",), (), (2, 3, "n")][rng.integers(4)], x.dtype)
    return _elementwise(rng, [apply(BroadcastTo((3, dim("n"))), x), y])


def transposes(rng: Random) -> Expr:
    x, y = _operand(rng, "x", (2, "n", 4)), array("y", (), "float32")
    axes = tuple(int(a) for a in rng.permutation(3))
    back = tuple(int(a) for a in np.argsort(axes))
    inner = apply(Transpose(axes), x)
    return apply(
        Transpose(back if rng.random() < 0.7 else axes),
        _elementwise(rng, [inner, [y, inner][rng.integers(2)]]),
    )


def joined(rng: Random) -> list[Expr]:
    d = draw_dtype(rng, "biuf")
    rows: list[Any] = [2, "n", 0, 3, 1]
    return [array(f"x{i}", (rows[rng.integers(5)], 2), d) for i in range(rng.integers(1, 4))]


def joins(rng: Random) -> Expr:
    return apply(Concatenate(0), *joined(rng))


def nested_joins(rng: Random) -> Expr:
    d = draw_dtype(rng, "biuf")
    a, b, c = (array(name, (rows, 2), d) for name, rows in zip("abc", (2, "n", 3)))
    inner = apply(Concatenate(0), b, c)
    return apply(Concatenate(0), *([inner, a] if rng.random() < 0.5 else [a, inner]))


def joined_slices(rng: Random) -> Expr:
    x = _operand(rng, "x", (6, 2), "biuf")
    cut = int(rng.integers(1, 6))
    left, right = slice_axis(x, 0, 0, cut), slice_axis(x, 0, cut, int(rng.integers(1, 7 - cut)))
    return apply(Concatenate(0), *([left, right] if rng.random() < 0.7 else [x, left, right]))


def slices_of_joins(rng: Random) -> Expr | None:
    node = joins(rng)
    size = node.array_type.shape[0]
    if size == 0:
        return None
    if not isinstance(size, int):
        return slice_axis(node, 0, 0, 1) if rng.random() < 0.5 else slice_axis(node, 0, size - 1, 1)
    start = int(rng.integers(size))
    step = int(rng.choice([1, -1, 2]))
    room = (size - 1 - start) // step + 1 if step > 0 else start + 1
    return slice_axis(node, 0, start, int(rng.integers(1, min(room, 2) + 1)), step)


def work_on_joins(rng: Random) -> Expr:
    return _with_numbers(rng, joins(rng))


def work_on_places(rng: Random) -> Expr:
    x = _operand(rng, "x", (3, 2), "biuf")
    fill = {"b": True, "f": float(rng.normal())}.get(x.dtype.kind, 3)
    return _with_numbers(rng, apply(Place((2, 1), (1, 2), (7, 4), fill), x))


def _with_numbers(rng: Random, x: Expr) -> Expr:
    """An op or a cast of an array, with numbers for its other operands."""
    if rng.random() < 0.2:
        return cast(x, draw_dtype(rng, "biuf"))
    op = REGISTRY[str(rng.choice(OPS if x.dtype.kind != "b" else ["logical_not", "where"]))]
    numbers = [constant(int(rng.integers(2)), x.dtype) for _ in range(op.spec.arity)]
    if op.name == "where":
        return where(x, *numbers[1:]) if x.dtype.kind == "b" else where(True, x, numbers[2])
    at = int(rng.integers(op.spec.arity))
    return call(op, [*numbers[:at], x, *numbers[at + 1 :]])


def slices_of_places(rng: Random) -> Expr:
    x = _operand(rng, "x", (3, 2), "biuf")
    placed = apply(Place((2, 1), (1, 1), (7, 4), 0 if x.dtype.kind != "b" else False), x)
    start, count = int(rng.integers(7)), int(rng.integers(1, 3))
    if rng.random() < 0.3:
        return apply(Slice((2, 1), (3, 2), (1, 1)), placed)
    return apply(Slice((min(start, 7 - count), 1), (count, 1), (1, 1)), placed)


def products(rng: Random) -> Expr:
    a, b = _operand(rng, "a", ("n", 3)), _operand(rng, "b", (3, 2))
    b = array("b", (3, 2), a.dtype)
    left, right = (apply(Transpose((1, 0)), apply(Transpose((1, 0)), x)) for x in (a, b))
    left = apply(Transpose((1, 0)), array("at", (3, "n"), a.dtype))
    return apply(Transpose((1, 0)), apply(MatMul(), left, b if rng.random() < 0.5 else right))


def columns(rng: Random) -> Expr:
    a = _operand(rng, "a", ("n", 1))
    return apply(MatMul(), a, array("b", (1, 4), a.dtype))


def softmaxes(rng: Random) -> Expr:
    x = array("x", (3, 4), ["float32", "float64"][rng.integers(2)])
    powers, axis = exp(x), int(rng.integers(2))
    return powers / apply(Reduce("sum", (axis,)), powers).reshape((3, 1) if axis else (1, 4))


def shifted_softmaxes(rng: Random) -> Expr:
    x = array("x", (3, 4), ["float32", "float64"][rng.integers(2)])
    axis = int(rng.integers(2))
    top = apply(Reduce("max", (axis,)), x).reshape((3, 1) if axis else (1, 4))
    return apply(Softmax(axis), x - top)


def attentions(rng: Random) -> Expr:
    dtype = ["float32", "float64"][rng.integers(2)]
    q, k, v = (array(x, s, dtype) for x, s in zip("qkv", (("n", 2), (3, 2), (3, 4))))
    scores = apply(MatMul(), q, apply(Transpose((1, 0)), k))
    scores = [scores, scores * 0.5, scores / 3][rng.integers(3)]
    if rng.random() < 0.6:
        mask = array("mask", ((3,), ("n", 3), ("n", 1))[rng.integers(3)], dtype)
        scores = scores + mask if rng.random() < 0.5 else where(mask > 0, scores, -np.inf)
    return apply(MatMul(), apply(Softmax(1), scores), v)


def picks(rng: Random) -> Expr:
    x = array("x", ("n", 4), ["float32", "float64"][rng.integers(2)])
    labels = array("labels", ("n", 1), "int64")
    hits = eq(labels, apply(Iota(4, int64)))
    return log(apply(Reduce("sum", (1,)), where(hits, apply(Softmax(1), x), 0)))


WIDTH = 50  # of rows that are long enough to be worth not reading


def _labels(rng: Random) -> tuple[Expr, Expr]:
    """Some labels, one for each row, and the mask of the places that they name."""
    d = ["int64", "int32", "uint8"][rng.integers(3)]
    labels = array("labels", [("n", 1), (1, 1), (1,)][rng.integers(3)], d)
    return labels, eq(labels, apply(Iota(WIDTH, int64)))


def repeated_picks(rng: Random) -> Expr:
    labels, hits = _labels(rng)
    z = array("z", [("n", 1), (1,), ()][rng.integers(3)], draw_dtype(rng, "fi"))
    masked = where(hits, z, 0)
    return apply(Reduce("sum", (masked.ndim - 1,)), masked)


def picked_scores(rng: Random) -> Expr:
    x = array("x", ("n", WIDTH), ["float32", "float64"][rng.integers(2)])
    _, hits = _labels(rng)
    return apply(Reduce("sum", (1,)), where(hits, apply(LogSoftmax(1), x), 0))


def pick_gradients(rng: Random) -> Expr:
    x = array("x", ("n", 4), ["float32", "float64"][rng.integers(2)])
    labels, z = (
        array("labels", ("n", 1), "int64"),
        array("z", [("n",), (1,), ()][rng.integers(3)], x.dtype),
    )
    hits, chances = eq(labels, apply(Iota(4, int64))), apply(Softmax(1), x)
    share = z / apply(Reduce("sum", (1,)), where(hits, chances, 0))
    w = where(hits, share.reshape((x.shape[0], 1)), 0) * chances
    return w - chances * apply(Reduce("sum", (1,)), w).reshape((x.shape[0], 1))


def marks(rng: Random) -> Expr:
    x = _operand(rng, "x", draw_shape(rng))
    return [
        stop_gradient(x),
        grad_scale(x, 2.0),
        grad_clip(x, -1, 1),
        surrogate_gradient(x, x * 2),
    ][rng.integers(4)]


def decided_choices(rng: Random) -> Expr:
    x, p = _operand(rng, "x", draw_shape(rng)), array("p", (), "bool")
    if rng.random() < 0.3:
        return cond(p, x + 1, 1 + x - 0) if rng.random() < 0.1 else cond(p, x * 2, x * 2)
    return cond(constant(bool(rng.integers(2))), x * 2, -x)


def turned_choices(rng: Random) -> Expr:
    x, p = _operand(rng, "x", draw_shape(rng)), array("p", (), "bool")
    return cond(logical_not(p), x * 2, -x).inputs[0]


def short_loops(steps: int) -> Callable[[Random], Expr]:
    def make(rng: Random) -> Expr:
        x = _operand(rng, "x", (steps, *draw_shape(rng, 0, 2)))
        start, factor = (
            array("start", x.array_type.shape[1:], x.dtype),
            array("factor", (), x.dtype),
        )
        built = build(
            "loop", lambda xs, hs: ([xs[0] + hs[0] * factor], [hs[0] * 2], {}), [x], [start], steps,
            reverse=bool(rng.integers(2)),
        )  # fmt: skip
        return [built.final[0], built.stacked[0], built.outputs[0]][rng.integers(3)]

    return make


def true_assertions(rng: Random) -> Expr:
    return assert_(_operand(rng, "x", draw_shape(rng)), constant(True))


EXAMPLES: dict[str, Callable[[Random], Expr | None]] = {
    "constants -> constant": folding,
    "sizes -> size": sizes,
    "sizes compare -> truth": size_comparisons,
    "op(broadcast_to(x)) -> op(x)": broadcasts,
    "transpose(op(transpose(x)))": transposes,
    "slice(concatenate(...))": slices_of_joins,
    "slice(place(x))": slices_of_places,
    "concatenate(x) -> x": joins,
    "op(concatenate(x, y))": work_on_joins,
    "op(place(x))": work_on_places,
    "concatenate(concatenate(x, y), z)": nested_joins,
    "concatenate(x[a:b], x[b:c])": joined_slices,
    "transpose(a @ b) -> transpose(b) @ transpose(a)": products,
    "column @ row -> column * row": columns,
    "exp(x) / sum(exp(x)) -> softmax(x)": softmaxes,
    "softmax(x - max(x)) -> softmax(x)": shifted_softmaxes,
    "softmax(q @ k * scale + mask) @ v -> attention": attentions,
    "gradient of log(pick(softmax(x)))": pick_gradients,
    "sum(where(i == iota, z, 0)) -> where(i inside, z, 0)": repeated_picks,
    "sum(where(i == iota, log_softmax(x), 0)) -> log_softmax(x) at i": picked_scores,
    "stop_gradient(x) -> x": marks,
    "cond(constant, a, b) -> a or b": decided_choices,
    "cond(not p, a, b) -> cond(p, b, a)": turned_choices,
    "scan of 0 steps": short_loops(0),
    "scan of 1 step": short_loops(1),
    "assert(x, True) -> x": true_assertions,
    "log(pick(softmax(x))) -> pick(log_softmax(x))": picks,
    **LAYOUT,
}
