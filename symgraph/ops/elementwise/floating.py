"""Numbers as sign, exponent and fraction; closeness; replacement of NaN."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from symgraph.dtypes import bfloat16, bool_, float16, float32, float64, floats, int32
from symgraph.expr import Expr
from symgraph.leaves import lift

from ..define import Formula, cast, elementwise
from .arithmetic import add, mul, sub
from .compare import eq, isfinite, isnan, isneginf, isposinf, le
from .logic import logical_and, logical_or
from .parts import abs
from .select import clip, where


@elementwise("signbit", accepts=floats, result=bool_)
class signbit(Formula):
    """Whether the sign bit is set: True for -0.0, and for NaN by its bit."""

    evaluate = np.signbit
    vjp = None

    def lower(b, x):
        return b.op("lt", b.op("copysign", b.const(1.0, x), x), b.const(0.0, x))


@elementwise("copysign", accepts=floats)
class copysign(Formula):
    """The magnitude of x with the sign bit of y."""

    evaluate = np.copysign
    kinks = (0.0,)

    def vjp(x, y, out, dy):
        return where(eq(signbit(x), signbit(y)), dy, -dy), None

    def lower(b, x, y):
        return b.op("copysign", x, y)


@elementwise("heaviside", accepts=floats)
class heaviside(Formula):
    """0 where x < 0, `at_zero` where x == 0, 1 where x > 0, NaN for NaN."""

    evaluate = np.heaviside
    kinks = (0.0,)

    def vjp(x, at_zero, out, dy):
        return None, where(eq(x, 0), dy, 0)

    def lower(b, x, at_zero):
        zero = b.const(0.0, x)
        step = b.select(b.op("gt", x, zero), b.const(1.0, x), zero)
        step = b.select(b.op("eq", x, zero), at_zero, step)
        return b.select(b.op("ne", x, x), x, step)


class Layout(NamedTuple):
    """The integer type of a float format's width, its fraction bits and its exponent bias."""

    integer: str
    fraction: int
    bias: int


#: by name of the dtype
LAYOUT = {"float32": Layout("int32", 23, 127), "float64": Layout("int64", 52, 1023)}


_TOO_SHORT = "cast to float32 first"


@elementwise(
    "nextafter",
    accepts=(float32, float64),
    refuses={float16: _TOO_SHORT, bfloat16: _TOO_SHORT},
)
class nextafter(Formula):
    """The next number after x in the direction of y.  x, y: float32 or float64."""

    evaluate = np.nextafter
    vjp = None

    def lower(b, x, y):
        dtype, word = b.dtype(x), LAYOUT[b.dtype(x)].integer
        zero, bits = b.const(0.0, x), b.bitcast(x, word)
        outward = b.op("eq", b.op("lt", x, y), b.op("gt", x, zero))
        step = b.select(outward, b.const(1, bits), b.const(-1, bits))
        moved = b.bitcast(b.op("add", bits, step), dtype)
        smallest = b.op("copysign", b.bitcast(b.const(1, bits), dtype), y)
        moved = b.select(b.op("eq", x, zero), smallest, moved)
        moved = b.select(b.op("eq", x, y), y, moved)
        unordered = b.op("or", b.op("ne", x, x), b.op("ne", y, y))
        return b.select(unordered, b.op("add", x, y), moved)


@elementwise(
    "spacing",
    accepts=(float32, float64),
    refuses={float16: _TOO_SHORT, bfloat16: _TOO_SHORT},
)
class spacing(Formula):
    """From x to the next number away from 0, with the sign of x; NaN for infinities.

    x: float32 or float64.
    """

    evaluate = np.spacing
    vjp = None

    def lower(b, x):
        dtype = b.dtype(x)
        size = b.op("abs", x)
        bits = b.bitcast(size, LAYOUT[dtype].integer)
        following = b.bitcast(b.op("add", bits, b.const(1, bits)), dtype)
        gap = b.op("sub", following, size)
        signed = b.op("copysign", gap, x)
        return b.select(b.op("eq", size, b.const(0.0, x)), gap, signed)


def _pre_scale(b, x, n, limit, factor, step):
    """Where n is beyond `limit`, x times `factor` and n moved by `step`."""
    beyond = b.op("gt" if limit > 0 else "lt", n, b.const(limit, n))
    scaled = b.select(beyond, b.op("mul", x, b.const(factor, x)), x)
    return scaled, b.select(beyond, b.op("add", n, b.const(step, n)), n)


@elementwise("ldexp", accepts=floats, fixed={1: int32})
class _ldexp(Formula):
    """x * 2**n with one rounding.

    Source: musl's scalbn (two pre-scalings keep n in the exponent's range).
    """

    evaluate = np.ldexp

    def vjp(x, n, out, dy):
        return ldexp(dy, n), None

    def lower(b, x, n):
        layout = LAYOUT[b.dtype(x)]
        top, bottom = layout.bias, 1 - layout.bias
        # Room for the fraction, so that nothing is rounded before the last product.
        up = bottom + layout.fraction + 1
        for _ in range(2):
            x, n = _pre_scale(b, x, n, top, 2.0**top, -top)
            x, n = _pre_scale(b, x, n, bottom, 2.0**up, -up)
        n = b.op("max", b.op("min", n, b.const(top, n)), b.const(bottom, n))
        biased = b.cast(b.op("add", n, b.const(layout.bias, n)), layout.integer)
        power = b.bitcast(b.op("shl", biased, b.const(layout.fraction, biased)), b.dtype(x))
        return b.op("mul", x, power)


def ldexp(x: Any, n: Any) -> Expr:
    """x * 2**n with one rounding.  x: floats; n: integers."""
    exponent = lift(n)
    if exponent.dtype.is_integer and exponent.dtype.bits > 32:
        exponent = cast(clip(exponent, 0 if exponent.dtype.kind == "u" else -(2**20), 2**20), int32)
    return _ldexp(x, exponent)


def isclose(x: Any, y: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Expr:
    """|x - y| <= atol + rtol * |y|; equal infinities are close, NaN only with equal_nan."""
    x, y = lift(x), lift(y)
    if not y.dtype.is_inexact:
        y = cast(y, "float64")  # differences of integers must not wrap
    bound = add(atol, mul(rtol, abs(y)))
    near = logical_and(le(abs(sub(x, y)), bound), isfinite(y))
    close = logical_or(eq(x, y), near)
    return logical_or(close, logical_and(isnan(x), isnan(y))) if equal_nan else close


_LARGEST = {
    float16: 65504.0,
    bfloat16: 255.0 * 2.0**120,
    float32: (2.0**24 - 1) * 2.0**104,
    float64: (2.0**53 - 1) * 2.0**971,
}


def nan_to_num(x: Any, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Expr:
    """x with NaN and infinities replaced.

    Infinities by the largest numbers of the dtype unless given.
    """
    node = lift(x)
    if not node.dtype.is_float:
        return node
    largest = _LARGEST[node.dtype]
    result = where(isnan(node), nan, node)
    result = where(isposinf(node), largest if posinf is None else posinf, result)
    return where(isneginf(node), -largest if neginf is None else neginf, result)
