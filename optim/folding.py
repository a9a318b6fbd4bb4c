"""Folding: what is made of constants is computed now; arithmetic of sizes becomes a size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symgraph.arraytype import Array
from symgraph.dims import (
    Dim,
    SizeLike,
    ValueOf,
    atoms,
    dim_max,
    dim_min,
    floordiv,
    known_equal,
    known_le,
)
from symgraph.errors import SymgraphError
from symgraph.evaluate import compute
from symgraph.expr import Expr, apply
from symgraph.leaves import Constant, DimValue, constant
from symgraph.op import Op
from symgraph.ops.contract import MatMul
from symgraph.ops.convolve import Convolve

from .cost import GENERIC, elements
from .pattern import operator
from .rule import Rules, rule

MAX_BYTES = 1 << 20  # results may also be as large as their operands
MAX_PRODUCTS = 1 << 26  # multiplications in a product or a convolution

#: what is smaller as it stands, does something when it runs, or has several outputs
_KEPT = frozenset("broadcast_to iota print assert scan while cond get".split())


def is_draw(op: Op) -> bool:
    """A random draw: its numbers belong to the call."""
    return hasattr(op, "batched")


def fold(node: Expr) -> Expr | None:
    """A node of constants -> a constant, if it is small enough."""
    if not all(type(x.op) is Constant for x in node.inputs):
        return None
    if node.op.name in _KEPT or node.op.effect or is_draw(node.op):
        return None
    if not isinstance(node.type, Array) or not node.type.is_static:
        return None
    given = sum(x.op.value.nbytes for x in node.inputs)  # type: ignore[attr-defined]
    count = elements(node)
    if count * node.dtype.bytes > max(MAX_BYTES, given):
        return None
    if isinstance(node.op, (MatMul, Convolve)) and GENERIC.weight(node) > MAX_PRODUCTS:
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
    """Whether int64 holds it for every array in memory: at most two factors, small numbers."""
    if not isinstance(size, Dim):
        return abs(size) < 1 << 62
    return all(len(monomial) <= 2 and abs(k) <= _SAFE_FACTOR for monomial, k in size.terms)


_COMPARE: dict[str, Callable[[Any, Any], bool | None]] = {
    "eq": known_equal,
    "neq": lambda a, b: _negated(known_equal(a, b)),
    "le": known_le,
    "ge": lambda a, b: known_le(b, a),
    "gt": lambda a, b: _negated(known_le(a, b)),
    "lt": lambda a, b: _negated(known_le(b, a)),
}


def _negated(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def compare_sizes(node: Expr) -> Expr | None:
    """A comparison of sizes that is the same for every call -> its truth."""
    a, b = map(_size, node.inputs)
    if node.array_type.shape != () or a is None or b is None:
        return None
    truth = _COMPARE[node.op.name](a, b)
    return None if truth is None else constant(truth)


_op = operator("op", Op)
_comparison = operator("op", *_COMPARE)
_size_op = operator("op", *_SIZES, "floor_divide", "mod")
rules = Rules(
    "fold",
    "fold",
    rule(_op.over(Constant), lambda node: fold(node), name="constants -> constant"),
    rule(_size_op.over(DimValue), lambda node: fold_sizes(node), name="sizes -> size"),
    rule(
        _comparison.over(DimValue), lambda node: compare_sizes(node), name="sizes compare -> truth"
    ),
)
