"""Constant folding: what is made of constants alone is computed now; arithmetic of sizes becomes a size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from symgraph.arraytype import Array
from symgraph.dims import Dim, SizeLike, ValueOf, atoms, dim_max, dim_min, floordiv
from symgraph.errors import SymgraphError
from symgraph.evaluate import compute
from symgraph.expr import Expr, apply
from symgraph.leaves import Constant, DimValue
from symgraph.ops.contract import MatMul
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.movement import Concatenate, Place, Reshape, Slice, Transpose
from symgraph.ops.nnet import LogSoftmax, LogSumExp, Softmax
from symgraph.ops.reduce import ArgReduce, Cumulative, Reduce

from .pattern import operator
from .rule import Rules, rule

MAX_BYTES = 1 << 20  # results may also be as large as their operands
MAX_PRODUCTS = 1 << 26  # multiplications in a matrix product

#: what is computed ahead; a broadcast, an iota or a draw is smaller as it stands
_FOLDABLE = (
    Elementwise, Cast, Reduce, ArgReduce, Cumulative, MatMul, Reshape, Transpose, Slice, Place, Concatenate, Softmax,
    LogSoftmax, LogSumExp,
)  # fmt: skip


def fold(node: Expr) -> Expr | None:
    """A node of constants -> a constant, if it is small enough."""
    if not all(type(x.op) is Constant for x in node.inputs) or not node.array_type.is_static:
        return None
    size = math.prod(node.array_type.shape) * node.dtype.bytes
    given = sum(x.op.value.nbytes for x in node.inputs)  # type: ignore[attr-defined]
    if size > max(MAX_BYTES, given):
        return None
    if isinstance(node.op, MatMul) and math.prod(node.array_type.shape) * node.inputs[0].array_type.shape[-1] > MAX_PRODUCTS:
        return None
    try:
        value = compute(node, [x.op.value for x in node.inputs], {})  # type: ignore[attr-defined]
    except SymgraphError:  # it would fail when run, at the user's line
        return None
    return apply(Constant(value, node.dtype))


_SIZES: dict[str, Callable[[Any, Any], SizeLike]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "maximum": dim_max,
    "minimum": dim_min,
}
_SAFE_FACTOR = 1 << 20


def fold_sizes(node: Expr) -> Expr | None:
    """int64 arithmetic of sizes -> a size, where it cannot wrap around."""
    if node.type != Array(node.inputs[0].dtype, ()) or str(node.dtype) != "int64":
        return None
    sizes = [_size(x) for x in node.inputs]
    if any(s is None for s in sizes):
        return None
    if node.op.name == "floor_divide":
        result = floordiv(*sizes) if isinstance(sizes[1], int) and sizes[1] > 0 else None  # type: ignore[arg-type]
    elif node.op.name == "mod":
        a, b = sizes
        result = a - b * floordiv(a, b) if isinstance(b, int) and b > 0 else None  # type: ignore[arg-type, operator]
    else:
        result = _SIZES[node.op.name](*sizes)
    if result is None or not _small(result):
        return None
    return apply(DimValue(result))


def _size(x: Expr) -> SizeLike | None:
    """What an int64 scalar is as a size."""
    if isinstance(x.op, DimValue):
        return x.op.dim if not any(isinstance(a, ValueOf) for a in atoms(x.op.dim)) else None
    if isinstance(x.op, Constant) and x.op.value.ndim == 0:
        return int(x.op.value)
    return None


def _small(size: SizeLike) -> bool:
    """Whether int64 holds it for every array that memory holds: at most two factors, small coefficients."""
    if not isinstance(size, Dim):
        return abs(size) < 1 << 62
    return all(len(monomial) <= 2 and abs(k) <= _SAFE_FACTOR for monomial, k in size.terms)


def known_size(node: Expr) -> Expr | None:
    """A size that turned out to be a number -> a constant."""
    return node


_op = operator("op", *_FOLDABLE)
_size_op = operator("op", *_SIZES, "floor_divide", "mod")
rules = Rules(
    "fold",
    "fold",
    rule(_op.over(Constant), lambda node: fold(node), name="constants -> constant"),
    rule(_size_op.over(DimValue), lambda node: fold_sizes(node), name="sizes -> size"),
)
