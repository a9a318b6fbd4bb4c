"""Random instances of a rule's left side: dtypes, shapes, ops and values for its variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from symgraph.dims import Dim, Size, dim, evaluate_dim, product
from symgraph.dtypes import DType, bool_, complexes, floats, integers
from symgraph.errors import SymgraphError
from symgraph.expr import Expr, apply, toposort
from symgraph.leaves import Input, array, constant
from symgraph.op import Op
from symgraph.ops.define import REGISTRY, Cast, call
from symgraph.ops.movement import BroadcastTo, Place, Reshape, Slice, Transpose, fill_value
from symgraph.ops.nnet import LogSoftmax, LogSumExp, Softmax
from symgraph.ops.reduce import ArgReduce, Cumulative, Reduce, kept_shape

from .pattern import Const, Key, Node, Number, Operator, Pattern, Wild
from .rule import Rule, variables

Random = np.random.Generator
SIZES = {"n": 3, "m": 5}  # symbolic sizes and what they are
NUMBERS: dict[Any, Any] = {Size(name): n for name, n in SIZES.items()}
ROOMS: list[Any] = [1, 1, 2, 3, 4, "n", "m"]
DTYPES: dict[str, tuple[DType, ...]] = {
    "b": (bool_,),
    "i": tuple(d for d in integers if d.is_signed),
    "u": tuple(d for d in integers if not d.is_signed),
    "f": floats,
    "c": complexes,
}
CONSTANTS = [0, -0.0, 1, -1, 2, 3, -2, 0.5, -0.5, 5, 7, 0.1, 8, 16, -4, 100.0, 1e-3, 0.25,
             math.pi, 1e30, 1e-30, 255, 127,
             -math.sqrt(0.5), -math.sqrt(2.0), math.inf, -math.inf]  # fmt: skip


class Instance(NamedTuple):
    """An expression that is a left side, and values for its inputs."""

    node: Expr
    values: dict[Expr, np.ndarray]


def instance(rule: Rule, rng: Random) -> Instance | None:
    """A random expression of the form of a rule's left side; None if the draw fits no op."""
    try:
        node = grow(rule, rng)
    except SymgraphError:
        return None
    return None if node is None else with_values(node, rng)


def with_values(node: Expr, rng: Random) -> Instance:
    """An expression with random values for its inputs, of one style."""
    style = rng.choice(["ordinary", "extreme", "special"])
    inputs = [x for x in toposort([node]) if isinstance(x.op, Input)]
    return Instance(node, {x: values(x, rng, style) for x in inputs})


def concrete(node: Expr, values: dict[Expr, np.ndarray]) -> tuple[Expr, dict[Expr, np.ndarray]]:
    """The expression with numbers for its sizes, and the values of its inputs."""
    done: dict[int, Expr] = {}
    new_values: dict[Expr, np.ndarray] = {}
    for x in toposort([node]):
        if x in values:
            done[id(x)] = array(x.name, values[x].shape, x.dtype)
            new_values[done[id(x)]] = values[x]
        else:
            done[id(x)] = apply(x.op.with_sizes(NUMBERS), *[done[id(i)] for i in x.inputs])
    return done[id(node)], new_values


def grow(rule: Rule, rng: Random) -> Expr | None:
    """The left side with random expressions for its variables."""
    names = variables(rule.lhs)
    kinds = [v.kinds for v in names if isinstance(v, (Wild, Const))]
    main = draw_dtype(rng, kinds[0] if kinds else "f")
    base = draw_shape(rng)
    found: dict[str, Any] = {}
    for v in names:
        if isinstance(v, Operator):
            continue
        d = main if main.kind in v.kinds else draw_dtype(rng, v.kinds)
        found[v.name] = (
            draw_operand(rng, v.name, thinned(rng, base), d)
            if isinstance(v, Wild)
            else draw_constant(rng, d)
        )
    return _grown(rule.lhs, found, rng)


def _grown(pattern: Pattern, found: dict[str, Any], rng: Random) -> Any:
    if isinstance(pattern, (Wild, Const)):
        return found[pattern.name]
    if isinstance(pattern, Number):
        return pattern.value
    assert isinstance(pattern, Node)
    args = [_grown(a, found, rng) for a in pattern.args]
    if any(a is None for a in args):
        return None
    if isinstance(pattern.head, str):
        return call(REGISTRY[pattern.head], args)
    op = found.get(pattern.head.name)
    if op is None:
        op = found[pattern.head.name] = draw_op(rng, pattern.head.keys, args)
    return None if op is None else apply(op, *args)


# ------------------------------------------------------------------------------------------- types


def draw_dtype(rng: Random, kinds: str) -> DType:
    """A dtype of one of the kinds, single precision often."""
    pool = [d for k in kinds for d in DTYPES[k]]
    common = [d for d in pool if d in ("float32", "float64", "int32")]
    pick = common if common and rng.random() < 0.5 else pool
    return pick[rng.integers(len(pick))]


def draw_shape(rng: Random, low: int = 0, high: int = 3) -> tuple[Any, ...]:
    """Up to three sizes, some 1, some symbolic."""
    return tuple(ROOMS[rng.integers(len(ROOMS))] for _ in range(rng.integers(low, high + 1)))


def thinned(rng: Random, shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """A shape that broadcasts to this one, axes dropped or of size 1; often the same."""
    if rng.random() < 0.6:
        return shape
    start = rng.integers(len(shape) + 1)
    return tuple(1 if rng.random() < 0.4 else s for s in shape[start:])


def draw_operand(rng: Random, name: str, shape: tuple[Any, ...], d: DType) -> Expr:
    """An input; now and then its absolute value, for rules about what is never negative."""
    x = array(name, shape, d)
    return x if d.kind != "f" or rng.random() < 0.85 else call(REGISTRY["abs"], [x])


def draw_constant(rng: Random, d: DType) -> Expr:
    """A constant that the dtype holds, now and then repeated."""
    while True:
        value = CONSTANTS[rng.integers(len(CONSTANTS))]
        if d.kind == "b":
            value = bool(value)
        elif d.is_integer:
            info = np.iinfo(d.np)
            if not math.isfinite(value) or value != int(value) or not info.min <= value <= info.max:
                continue
            value = [int(value), info.max, info.min][rng.choice(3, p=[0.8, 0.1, 0.1])]
        x = constant(value, d)
        return x if rng.random() < 0.8 else apply(BroadcastTo((2, 1)), x)


def values(x: Expr, rng: Random, style: str) -> np.ndarray:
    """An array for an input."""
    shape = tuple(evaluate_dim(s, NUMBERS) for s in x.array_type.shape)
    d = x.dtype
    if d.kind == "b":
        return rng.random(shape) < 0.5
    if d.is_integer:
        info = np.iinfo(d.np)
        small = rng.integers(max(info.min, -9), 10, shape)
        wide = rng.integers(info.min, info.max, shape, dtype=d.np, endpoint=True)
        ends = rng.choice(np.array([info.min, info.max, 0, 1], d.np), shape)
        return np.where(
            rng.random(shape) < 0.5,
            small.astype(d.np),
            np.where(rng.random(shape) < 0.7, wide, ends),
        ).astype(d.np)
    real = _reals(rng, shape, style, d)
    if d.kind != "c":
        return real
    whole = np.empty(shape, d.np)
    whole.real, whole.imag = real, _reals(rng, shape, style, d)
    return whole


def _reals(rng: Random, shape: tuple[int, ...], style: str, d: DType) -> np.ndarray:
    x = np.asarray(rng.normal(size=shape) * 3)
    if style == "extreme":
        span = {"float16": 4.5, "float64": 300.0}.get(d, 37.0)
        x = rng.choice([-1.0, 1.0], shape) * 10 ** rng.uniform(-span, span, shape)
    elif style == "special":
        pool = [
            np.nan,
            np.inf,
            -np.inf,
            np.inf,
            -np.inf,
            0.0,
            -0.0,
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            1e-7,
            -1e-9,
            20.0,
            -30.0,
            90.0,
            -100.0,
            700.0,
            -745.0,
        ]
        x = np.where(rng.random(shape) < 0.8, rng.choice(pool, shape), x)
    with np.errstate(all="ignore"):
        return np.asarray(x).astype(d.np if d.kind == "f" else np.float32)


# --------------------------------------------------------------------------------------------- ops


def draw_op(rng: Random, keys: tuple[Key, ...], args: list[Expr]) -> Op | None:
    """An op of one of the keys that fits the operands."""
    key = keys[rng.integers(len(keys))]
    if isinstance(key, str):
        return REGISTRY[key]
    draw = _DRAW.get(key)
    return None if draw is None or not args else draw(rng, args[0])


def _axes(rng: Random, rank: int) -> tuple[int, ...]:
    return tuple(a for a in range(rank) if rng.random() < 0.5) or (
        (int(rng.integers(rank)),) if rank else ()
    )


def _axis(rng: Random, x: Expr) -> int | None:
    return int(rng.integers(x.ndim)) if x.ndim else None


def _reshape(rng: Random, x: Expr) -> Op:
    shape = x.array_type.shape
    if isinstance(x.op, Reduce) and rng.random() < 0.6:
        return Reshape(kept_shape(x.inputs[0].array_type.shape, x.op.axes))
    choice = rng.integers(4)
    if choice == 0:
        return Reshape((product(shape),))
    if choice == 1:
        return Reshape(tuple(s for s in shape if s != 1))
    at = int(rng.integers(len(shape) + 1))
    return Reshape(shape if choice == 2 else (*shape[:at], 1, *shape[at:]))


def _broadcast(rng: Random, x: Expr) -> Op:
    new = draw_shape(rng, 0, 2)
    pick = [1, 2, 3, dim("n")]
    grown = tuple(
        pick[rng.integers(4)] if s == 1 and rng.random() < 0.7 else s for s in x.array_type.shape
    )
    return BroadcastTo((*(dim(s) if isinstance(s, str) else s for s in new), *grown))


def _slice(rng: Random, x: Expr) -> Op:
    starts, sizes, steps = [], [], []
    for size in x.array_type.shape:
        step = int(rng.choice([1, 1, -1, 2]))
        if isinstance(size, Dim) or rng.random() < 0.3:
            step = step if step < 2 else 1
            start, count = (size - 1 if step < 0 else 0), size
        else:
            start = int(rng.integers(max(size, 1)))
            room = (size - 1 - start) // step + 1 if step > 0 else start // -step + 1
            count = int(rng.integers(room + 1)) if size else 0
        starts.append(start)
        sizes.append(count)
        steps.append(step)
    return Slice(tuple(starts), tuple(sizes), tuple(steps))


def _place(rng: Random, x: Expr) -> Op:
    starts, steps, shape = [], [], []
    for size in x.array_type.shape:
        step = int(rng.choice([1, 1, 2])) if isinstance(size, int) else 1
        start, after = int(rng.integers(3)), int(rng.integers(3))
        starts.append(start)
        steps.append(step)
        shape.append(start + (size - 1) * step + 1 + after if size != 0 else start + after)
    return Place(
        tuple(starts), tuple(steps), tuple(shape), fill_value(int(rng.integers(2)), x.dtype)
    )


def _reduce(rng: Random, x: Expr) -> Op:
    kinds = {"b": ["any", "all", "max", "min"], "c": ["sum"]}.get(
        x.dtype.kind, ["sum", "max", "min", "prod", "sum"]
    )
    return Reduce(str(rng.choice(kinds)), _axes(rng, x.ndim) if rng.random() < 0.9 else ())


def _cast(rng: Random, x: Expr) -> Op:
    return Cast(x.dtype if rng.random() < 0.2 else draw_dtype(rng, "biuf"))


def _on_axis(make: Callable[[int], Op]) -> Callable[[Random, Expr], Op | None]:
    def draw(rng: Random, x: Expr) -> Op | None:
        axis = _axis(rng, x)
        return None if axis is None else make(axis)

    return draw


_DRAW: Mapping[type, Callable[[Random, Expr], Op | None]] = {
    Transpose: lambda rng, x: Transpose(tuple(int(a) for a in rng.permutation(x.ndim))),
    Reshape: _reshape,
    BroadcastTo: _broadcast,
    Slice: _slice,
    Place: _place,
    Reduce: _reduce,
    Cast: _cast,
    Softmax: _on_axis(Softmax),
    LogSoftmax: _on_axis(LogSoftmax),
    LogSumExp: lambda rng, x: LogSumExp(_axes(rng, x.ndim)),
    ArgReduce: lambda rng, x: (
        None if not x.ndim else ArgReduce(str(rng.choice(["argmax", "argmin"])), _axis(rng, x))
    ),
    Cumulative: lambda rng, x: (
        None if not x.ndim else Cumulative(str(rng.choice(["sum", "prod"])), _axis(rng, x))
    ),
}

__all__ = [
    "NUMBERS",
    "Instance",
    "concrete",
    "draw_constant",
    "draw_dtype",
    "draw_shape",
    "grow",
    "instance",
    "with_values",
]
