"""Random programs: graphs of up to N ops, inputs, and how exactly a stage must reproduce them.

A program is drawn as a list of integers, so hypothesis can shrink it. Ops that jump (floor,
comparisons, argmax, casts to integers) are only applied to values that every stage computes bit for
bit; everything else may differ by what rounding can do: the reference is run again with each
inexact result disturbed by a few units in the last place, and the spread of the results is the
tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from symgraph.backends.rounding import distance
from symgraph.dims import dim
from symgraph.dtypes import dtype
from symgraph.evaluate import bind_sizes, compute
from symgraph.expr import Expr, apply, toposort
from symgraph.leaves import array, constant
from symgraph.ops import elementwise as ew
from symgraph.ops.branch import cond
from symgraph.ops.contract import MatMul
from symgraph.ops.conv import conv1d
from symgraph.ops.convolve import Convolve
from symgraph.ops.define import cast
from symgraph.ops.joining import concatenate, pad, roll
from symgraph.ops.loop import Scan, loop
from symgraph.ops.movement import BroadcastTo, Slice
from symgraph.ops.nnet import log_softmax, logsumexp, softmax
from symgraph.ops.pool import max_pool
from symgraph.ops.reduce import ArgReduce, Cumulative, Reduce
from symgraph.ops.shaping import expand_dims, reshape, transpose

SHAPES: list[tuple[Any, ...]] = [
    (),
    (1,),
    ("n",),
    (7,),
    ("n", 5),
    (3, "n"),
    (4, 1, 6),
    (0, 3),
    ("n", "m"),
    (33,),
]
DTYPES = ["float32", "float64", "int32", "int64", "bool", "int8", "uint8", "float16", "uint32"]
SIZES = {"n": 5, "m": 9}
NOISE = 4.0  # units in the last place
EXACT_UNARY = ["neg", "abs", "square", "sqrt", "reciprocal", "sign"]
EXACT_BINARY = ["add", "sub", "mul", "maximum", "minimum"]
JUMPS_UNARY = ["floor", "ceil", "trunc", "rint", "isnan", "isfinite", "logical_not"]
JUMPS_BINARY = ["lt", "le", "eq", "neq", "gt", "ge", "floor_divide", "mod"]
#: ops on floats whose rounding a rewrite may change
ROUNDS = {"add", "sub", "mul", "square", "sqrt", "reciprocal", "true_div", "floor_divide", "mod"}
#: the logarithm of a sum near 1, whose last place is worth that of 1
LOGARITHMS = ("log_softmax", "logsumexp")
SMOOTH = "tanh sigmoid exp sin cos log1p expm1 softplus erf atan asinh log gelu".split()


class Case(NamedTuple):
    inputs: tuple[Expr, ...]
    outputs: tuple[Expr, ...]
    arrays: tuple[np.ndarray, ...]
    exact: frozenset[int]  # ids of nodes that are computed bit for bit


def cases(max_ops: int = 50, rounding: bool = False) -> st.SearchStrategy[Case]:
    """Programs with inputs' values.

    rounding: a stage may change how arithmetic on floats rounds (optimize="full"), so that only
    what never rounds counts as computed bit for bit.
    """
    number = st.integers(0, 2**16)
    step = st.tuples(number, number, number, number)
    leaves = st.lists(number, min_size=2, max_size=4)
    steps = st.lists(step, min_size=max_ops // 2, max_size=max_ops)
    return st.builds(build, leaves, steps, number, st.just(rounding))


def build(
    leaves: Sequence[int],
    steps: Sequence[tuple[int, int, int, int]],
    seed: int,
    rounding: bool = False,
) -> Case:
    """The program that a list of integers stands for."""
    rng = np.random.default_rng(seed)
    inputs = []
    for i, k in enumerate(leaves):
        shape = SHAPES[k % len(SHAPES)]
        inputs.append(array(f"x{i}", shape, DTYPES[k // len(SHAPES) % len(DTYPES)]))
    arrays = tuple(values(x, rng) for x in inputs)
    grower = _Grower(inputs, rounding)
    for s in steps:
        grower.grow(*s)
    used = {id(x) for node in toposort(grower.nodes) for x in node.inputs}
    outputs = [x for x in grower.nodes if id(x) not in used][-8:] or grower.nodes[-1:]
    return Case(tuple(inputs), tuple(outputs), arrays, frozenset(grower.exact))


def values(x: Expr, rng: np.random.Generator) -> np.ndarray:
    """Values for an input: small integers and floats, a few special ones."""
    shape = tuple(s if isinstance(s, int) else SIZES[str(s)] for s in x.array_type.shape)
    d = x.array_type.dtype
    if d.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if d.is_integer:
        return rng.integers(0 if d.kind == "u" else -9, 10, shape).astype(d.np)
    result = np.asarray(rng.normal(size=shape) * 2)
    special = rng.random(shape) < 0.03
    result = np.where(
        special, rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30], shape), result
    )
    with np.errstate(all="ignore"):
        return result.astype(d.np)


class _Grower:
    """Adds one op a step; a step that fits nothing adds nothing."""

    def __init__(self, inputs: Sequence[Expr], rounding: bool):
        self.rounding = rounding
        self.nodes = list(inputs)
        self.exact = {id(x) for x in inputs}

    def grow(self, kind: int, first: int, second: int, choice: int) -> None:
        x = (
            self.nodes[-1 - first % min(len(self.nodes), 6)]
            if first % 3
            else self.nodes[first % len(self.nodes)]
        )
        node = FAMILIES[kind % len(FAMILIES)](self, x, second, choice)
        if node is not None and node.dtype.kind != "c":
            self.nodes.append(node)

    def partner(self, x: Expr, k: int) -> Expr:
        """Another operand that broadcasts with x without a guard, or a constant."""
        fitting = [y for y in self.nodes if broadcasts(x, y)]
        return (
            fitting[k % len(fitting)]
            if fitting and k % 4
            else constant(k % 7 - 2, x.dtype if x.dtype.kind not in "bu" else None)
        )

    def mark(self, node: Expr, exact: bool, *operands: Expr) -> Expr:
        """Record whether the node is bit for bit: its op is, and so is all it reads."""
        if self.rounding and node.dtype.kind == "f" and node.op.name in ROUNDS:
            return node
        if exact and all(id(x) in self.exact or not x.inputs for x in operands):
            for inner in toposort([node], blockers=operands):
                self.exact.add(id(inner))
        return node

    def is_exact(self, *operands: Expr) -> bool:
        return all(id(x) in self.exact for x in operands)


def broadcasts(x: Expr, y: Expr) -> bool:
    a, b = x.array_type.shape, y.array_type.shape
    n = min(len(a), len(b))
    return all(s == t or s == 1 or t == 1 for s, t in zip(a[len(a) - n :], b[len(b) - n :])) and {
        x.dtype.kind,
        y.dtype.kind,
    } != {"u", "i"}


def _exact_unary(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    if x.dtype.kind == "b":
        return g.mark(ew.logical_not(x), True, x)
    name = EXACT_UNARY[choice % len(EXACT_UNARY)]
    if name in ("sqrt", "reciprocal") and x.dtype.kind != "f":
        return None
    return g.mark(getattr(ew, name)(x), True, x)


def _exact_binary(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    y = g.partner(x, second)
    name = EXACT_BINARY[choice % len(EXACT_BINARY)]
    if x.dtype.kind == "b" and y.dtype.kind == "b" and name == "sub":
        return None
    return g.mark(getattr(ew, name)(x, y), True, x, y)


def _smooth(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    return getattr(ew, SMOOTH[choice % len(SMOOTH)])(x) if x.dtype.kind == "f" else None


def _divide(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    y = g.partner(x, second)
    if choice % 3 == 0 and x.dtype.kind == "f" and y.dtype.kind == "f":
        return ew.pow(ew.abs(x) + 1, ew.tanh(y))
    return g.mark(ew.true_div(x, y), x.dtype.kind == "f" and y.dtype.kind == "f", x, y)


def _jump(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    if not g.is_exact(x):
        return None
    if choice % 2:
        name = JUMPS_UNARY[choice // 2 % len(JUMPS_UNARY)]
        if x.dtype.kind != "f" and name != "logical_not":
            return None
        return g.mark(getattr(ew, name)(x), True, x)
    y = g.partner(x, second)
    name = JUMPS_BINARY[choice // 2 % len(JUMPS_BINARY)]
    if not (g.is_exact(y) or not y.inputs) or (
        x.dtype.kind == "b" and name in ("floor_divide", "mod")
    ):
        return None
    if x.dtype.kind == "b" or y.dtype.kind == "b":
        return None
    return g.mark(getattr(ew, name)(x, y), True, x, y)


def _choose(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    masks = [m for m in g.nodes if m.dtype.kind == "b" and broadcasts(m, x)]
    if not masks:
        return None
    mask, y = masks[second % len(masks)], g.partner(x, choice)
    if not broadcasts(mask, y):
        return None
    return g.mark(ew.where(mask, x, y), True, mask, x, y)


def _cast(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    d = dtype(DTYPES[choice % len(DTYPES)])
    if not g.is_exact(x) and (d.kind in "biu" or d.bits < x.dtype.bits):
        return None
    return g.mark(cast(x, d), True, x)


def _reduce(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    if not x.ndim:
        return None
    axes = tuple(a for a in range(x.ndim) if second >> a & 1) or (x.ndim - 1,)
    if x.dtype.kind == "b":
        return g.mark(apply(Reduce(("any", "all")[choice % 2], axes), x), True, x)
    kind = ("sum", "max", "min", "sum", "prod")[choice % 5]
    if kind in ("max", "min") and any(x.array_type.shape[a] == 0 for a in axes):
        return None
    node = apply(Reduce(kind, axes), x)
    return g.mark(node, kind in ("max", "min") or x.dtype.is_integer, x)


def _spread(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    """A reduction brought back to the shape it came from, as normalizations do."""
    if not x.ndim or x.dtype.kind != "f":
        return None
    axis = second % x.ndim
    total = expand_dims(apply(Reduce("sum", (axis,)), x), axis)
    return ew.sub(x, apply(BroadcastTo(x.array_type.shape), ew.tanh(total)))


def _arg(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    if not x.ndim or not g.is_exact(x):
        return None
    axis = second % x.ndim
    if x.array_type.shape[axis] == 0:
        return None
    return g.mark(apply(ArgReduce(("argmax", "argmin")[choice % 2], axis), x), True, x)


def _cumulative(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    if not x.ndim or x.dtype.kind == "b":
        return None
    return g.mark(apply(Cumulative("sum", second % x.ndim), x), x.dtype.is_integer, x)


def _move(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    kind = choice % 7
    shape = x.array_type.shape
    if kind == 0 and x.ndim > 1:
        return g.mark(transpose(x), True, x)
    if kind == 1 and x.ndim:
        return g.mark(reshape(x, (-1,)) if x.array_type.size != 0 else x, True, x)
    if kind == 2:
        return g.mark(expand_dims(x, second % (x.ndim + 1)), True, x)
    if kind == 3 and x.ndim:
        steps = tuple(-1 if second >> a & 1 else 1 for a in range(x.ndim))
        starts = tuple(s - 1 if k < 0 else 0 for s, k in zip(shape, steps))
        return g.mark(apply(Slice(starts, shape, steps), x), True, x)
    if kind == 4 and x.ndim <= 2:
        return g.mark(apply(BroadcastTo((3, *shape)), x), True, x)
    if kind == 5 and x.ndim:
        return g.mark(roll(x, second % 3, second % x.ndim), True, x)
    if kind == 6 and x.ndim:
        return g.mark(x[second % 2 :: 2] if shape[0] not in (0, 1) else x, True, x)
    return None


def _join(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    if not x.ndim or x.dtype.kind == "b":
        return None
    axis = second % x.ndim
    if choice % 2:
        widths = [(1, 2) if a == axis else (0, 0) for a in range(x.ndim)]
        return g.mark(pad(x, widths), True, x)
    return g.mark(concatenate([x, ew.neg(x)], axis), True, x)


def _matmul(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    if x.ndim != 2 or x.dtype.kind == "b":
        return None
    y = transpose(x)
    left = (x, y) if choice % 2 else (y, x)
    node = apply(MatMul(), *left)
    return g.mark(node, x.dtype.is_integer, x)


def _image(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    """Windows along the last axis: a convolution by small integers, or a pool."""
    if x.ndim not in (2, 3) or x.dtype.kind == "b":
        return None
    image = x if x.ndim == 3 else expand_dims(x, 1)
    if choice % 3 == 0:
        return g.mark(max_pool(image, 2, second % 2 + 1, 1), True, x)
    channels = image.array_type.shape[1]
    if not isinstance(channels, int) or channels > 8:
        return None
    window = np.arange(2 * channels * 2).reshape(2, channels, 2) % 3
    w = constant(window - (x.dtype.kind != "u"), x.dtype)
    node = conv1d(image, w, second % 2 + 1, "full" if choice % 3 == 1 else 2, 1 + second // 2 % 2)
    return g.mark(node, x.dtype.is_integer, x)


def _normalize(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    if not x.ndim or x.dtype.kind != "f" or x.array_type.shape[-1] == 0:
        return None
    return (softmax, log_softmax, logsumexp)[choice % 3](x, -1)


def _loop(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    """A loop over the leading axis: its last state or what it stacks."""
    if not x.ndim or x.dtype.kind == "b":
        return None
    start = apply(BroadcastTo(x.array_type.shape[1:]), constant(0, x.dtype))
    decay = 0.5 if x.dtype.kind == "f" else 3

    def step(state: Expr, row: Expr) -> tuple[Expr, Expr]:
        return ew.add(ew.mul(state, decay), row), ew.maximum(state, row)

    final, stacked = loop(step, start, x, reverse=bool(second % 2))
    return g.mark(final if choice % 2 else stacked, x.dtype.is_integer, x)


def _branch(g: _Grower, x: Expr, second: int, choice: int) -> Expr | None:
    masks = [m for m in g.nodes if m.dtype.kind == "b" and g.is_exact(m)]
    if not masks or x.dtype.kind == "b":
        return None
    mask = masks[second % len(masks)]
    predicate = apply(Reduce("any", tuple(range(mask.ndim))), mask) if mask.ndim else mask
    return g.mark(cond(predicate, ew.neg, lambda y: ew.maximum(y, 1), x), True, mask, x)


FAMILIES: list[Callable[[_Grower, Expr, int, int], Expr | None]] = [
    _exact_unary, _exact_binary, _exact_binary, _smooth, _smooth, _divide, _jump, _choose, _cast,
    _reduce, _spread, _arg, _cumulative, _move, _move, _join, _matmul, _image, _normalize, _loop,
    _branch,
]  # fmt: skip


# --- comparing ---


def reference(case: Case) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values of the outputs, and how far each may be off."""
    exact = _run(case, None)
    spread = [np.zeros(v.shape) for v in exact]
    for seed in range(3):
        for s, v, w in zip(spread, _run(case, np.random.default_rng(seed)), exact):
            np.maximum(s, distance(v, w), out=s)
    return exact, [
        _tolerance(node, v, s, id(node) in case.exact)
        for node, v, s in zip(case.outputs, exact, spread)
    ]


def _tolerance(node: Expr, value: np.ndarray, spread: np.ndarray, exact: bool) -> np.ndarray:
    if exact or node.dtype.kind != "f":
        return np.zeros(value.shape)
    eps = float(np.finfo(node.dtype.np).eps)
    size = np.where(np.isfinite(value), np.abs(np.asarray(value, float)), 0.0)
    with np.errstate(over="ignore"):
        return 16 * spread + eps * (8 * size + size.max(initial=0.0)) + 1e-300


def _run(case: Case, noise: np.random.Generator | None) -> list[np.ndarray]:
    given = dict(zip(case.inputs, case.arrays))
    env = bind_sizes(given)
    done: dict[int, Any] = {id(x): v for x, v in given.items()}
    for node in toposort(case.outputs):
        if id(node) in done:
            continue
        operands = [done[id(x)] for x in node.inputs]
        value = compute(node, operands, env)
        if noise is not None and id(node) not in case.exact:
            value = _disturbed(node, value, operands, env, noise)
        done[id(node)] = value
    return [done[id(x)] for x in case.outputs]


def _disturbed(
    node: Expr,
    value: Any,
    operands: Sequence[np.ndarray],
    env: Any,
    noise: np.random.Generator,
) -> Any:
    """The value moved by a few units in its last place; a sum by those of its terms' magnitudes.

    So is each result of a loop, whose steps add; a branch hands on what it takes.
    """
    size = value
    with np.errstate(all="ignore"):
        if (
            isinstance(node.op, (Reduce, Cumulative, MatMul, Convolve, Scan))
            and node.op.name != "prod"
        ):
            size = compute(node, [np.abs(x) for x in operands], env)
        elif node.op.name in LOGARITHMS:
            size = 1 + np.abs(value)
    if isinstance(value, tuple):
        moved = isinstance(node.op, Scan)
        return tuple(_moved(v, s, noise) if moved else v for v, s in zip(value, size))
    return _moved(value, size, noise)


def _moved(value: np.ndarray, size: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """A float value moved by a few units in the last place of `size`; others as they are."""
    if not np.issubdtype(value.dtype, np.floating):
        return value
    signs = noise.choice([-1.0, 1.0], value.shape)  # no draw so small that it rounds to nothing
    step = NOISE * float(np.finfo(value.dtype).eps) * signs * noise.uniform(0.5, 1, value.shape)
    with np.errstate(all="ignore"):
        return np.asarray(value + step * size).astype(value.dtype)


def compare(case: Case, got: Sequence[np.ndarray]) -> None:
    """Assert that `got` equals the reference as exactly as the program allows."""
    expected, tolerances = reference(case)
    for node, value, want, tolerance in zip(case.outputs, got, expected, tolerances, strict=True):
        assert (value.dtype, value.shape) == (want.dtype, want.shape), node.op
        with np.errstate(all="ignore"):
            close = np.abs(np.asarray(value, float) - np.asarray(want, float)) <= tolerance
        loose = ~np.isfinite(tolerance)
        same = (value == want) | (
            np.isnan(np.asarray(value, float)) & np.isnan(np.asarray(want, float))
        )
        if not np.all(close | same | loose):
            bad = tuple(np.argwhere(~(close | same | loose))[0])
            allowed = f"{want[bad]} +- {np.asarray(tolerance)[bad]}"
            raise AssertionError(f"{node.op}: at {bad}: got {value[bad]}, expected {allowed}")


__all__ = ["Case", "build", "cases", "compare", "dim", "reference"]
