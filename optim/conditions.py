"""Conditions that rules ask for by the names of their variables: numbers, signs, shapes, dtypes."""

from __future__ import annotations

import math
from typing import Any

from symgraph.dims import SizeLike, known_le
from symgraph.dtypes import DType
from symgraph.expr import Expr

from .constants import number

_PRECISION = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
_EXPONENT = {"float16": 15, "bfloat16": 127, "float32": 127, "float64": 1023}


def precision(d: DType) -> int:
    """Significant bits of a float dtype, the hidden one included."""
    return _PRECISION[d]


def is_normal(value: float, d: DType) -> bool:
    """Whether a number is neither 0 nor subnormal nor too large in a float dtype."""
    return (
        math.isfinite(value)
        and value != 0
        and 1 - _EXPONENT[d] <= math.frexp(value)[1] - 1 <= _EXPONENT[d]
    )


def power_of_two(c: Expr) -> bool:
    """c is plus or minus a power of 2 whose reciprocal is a normal number too."""
    value = number(c)
    return (
        abs(math.frexp(value)[0]) == 0.5
        and is_normal(value, c.dtype)
        and is_normal(1 / value, c.dtype)
    )


def above_one(c: Expr) -> bool:
    """|c| > 1 with a normal reciprocal: neither x / c nor x * (1/c) overflows."""
    value = number(c)
    return abs(value) > 1 and math.isfinite(value) and is_normal(1 / value, c.dtype)


def shrinking(c: Expr, d: Expr) -> bool:
    """|c| <= 1 and |c d| <= 1, all normal: neither x*c*d nor x*(c*d) overflows."""
    first, both = number(c), number(c) * number(d)
    return (
        abs(first) <= 1
        and abs(both) <= 1
        and all(is_normal(v, c.dtype) for v in (first, number(d), both))
    )


def absorbed(c: Expr, d: Expr) -> bool:
    """|c| + |d| is below half a step at the largest number: no sum with them overflows."""
    bound = math.ldexp(1.0, _EXPONENT[c.dtype] - precision(c.dtype) - 1)
    return abs(number(c)) + abs(number(d)) < bound


def is_ordinary(c: Expr) -> bool:
    """c is finite and not 0."""
    value = number(c)
    return math.isfinite(value) and value != 0


def nonzero(c: Expr) -> bool:
    """c is not 0 and not NaN."""
    value = number(c)
    return value == value and value != 0


def lossless(a: DType, b: DType) -> bool:
    """Whether b holds every value of a (real dtypes)."""
    if a is b or a.kind == "b":
        return b.kind != "c"
    if a.kind == "f":
        return b.kind == "f" and b.bits > a.bits
    if b.kind == "f":
        return a.bits - a.is_signed <= precision(b)
    if a.kind == "u":
        return b.is_integer and b.bits > a.bits
    return b.kind == "i" and b.bits >= a.bits


def casts_merge(x: Expr, inner: Any, outer: Any) -> bool:
    """Whether cast(cast(x, inner), outer) is cast(x, outer) for every value."""
    a, m, d = x.dtype, inner.dtype, outer.dtype
    if a.is_integer and m.is_integer and d.is_integer and d.bits <= m.bits:
        return True  # integers wrap: the low bits are what counts
    if "c" in (a.kind + m.kind + d.kind) or not lossless(a, m):
        return False
    if a.is_integer and m.kind == "f" and d.is_integer:
        return lossless(a, d)  # floats saturate where integers wrap
    return not (a.is_integer and d.kind == "f" and d.bits == 16) or a.bits <= 16


def same_shape(x: Expr, node: Expr) -> bool:
    """x is not broadcast in node."""
    return x.array_type.shape == node.array_type.shape


def surely_nonempty(*sizes: SizeLike) -> bool:
    """Every size is at least 1 whatever the call brings."""
    return all(known_le(1, s) is True for s in sizes)
