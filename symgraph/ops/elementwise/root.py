"""Powers and roots."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.dtypes import complex128, float64, floats, inexact, numeric
from symgraph.expr import Expr
from symgraph.leaves import Constant, lift

from ..define import Formula, cast, elementwise, wide
from . import integer
from .compare import eq, isinf
from .exponential import log
from .logic import logical_and
from .select import where


def _power(x, p):
    if x.dtype.kind in "iu":
        return integer.numpy_power(x, p)
    y = wide(np.power)(x, p)
    if x.dtype.kind == "c":
        return y
    # newer NumPy takes sqrt where all elements share the exponent 0.5: NaN at -inf, -0 at -0
    return np.where((p == 0.5) & ((x == 0) | np.isneginf(x)), np.abs(x), y)


def _slope(x, p):
    """d(x**p)/dx = p x**(p - 1); where p is 0 and 1/x infinite it is 0."""
    if isinstance(p.op, Constant) and p.op.value.ndim == 0 and p.dtype.is_float:
        exponent = float(p.op.value)
        if exponent == 1.0:
            return exponent
        if exponent:
            return exponent * (x if exponent == 2.0 else x ** (exponent - 1.0))
    singular = logical_and(eq(p, 0), isinf(1 / x))
    return p * x ** where(singular, 0, p - 1)


@elementwise("pow", accepts=numeric)
class pow(Formula):
    """x**p. Integers wrap; to a negative power, 1 and -1 keep their powers and all else gives 0.

    The gradient has no NaN at x = 0: with respect to p it is 0 there (x**p is constant for p > 0).
    For x < 0 the gradient with respect to p is NaN.
    """

    evaluate = _power
    domain = (0.3, 3.0)

    def vjp(x, p, y, dy):
        return dy * _slope(x, p), dy * (y * log(where(eq(x, 0), 1, x)))

    def lower(b, x, p):
        return b.call("pow", x, p) if b.dtype(x).startswith("float") else integer.power(b, x, p)


def float_power(x: Any, p: Any) -> Expr:
    """x**p in float64, complex128 for complex operands, as NumPy."""
    base, exponent = lift(x), lift(p)
    wide_dtype = complex128 if "c" in (base.dtype.kind, exponent.dtype.kind) else float64
    return pow(cast(base, wide_dtype), cast(exponent, wide_dtype))


def _powm1(x, p):
    power, z = np.power(x, p), p * np.log(np.abs(x))
    return np.where((np.abs(z) < 0.5) & (power > 0), np.expm1(z), power - 1)


@elementwise("powm1", accepts=floats)
class powm1(Formula):
    """x**p - 1, accurate where the power is near 1; the edges are those of pow.

    Gradient as of pow.
    """

    evaluate = wide(_powm1)
    domain = (0.3, 3.0)

    def vjp(x, p, y, dy):
        return dy * _slope(x, p), dy * ((y + 1) * log(where(eq(x, 0), 1, x)))

    def lower(b, x, p):
        power = b.call("pow", x, p)
        z = b.op("mul", p, b.call("log", b.op("abs", x)))
        near = b.op("lt", b.op("abs", z), b.const(0.5, z))
        near = b.op("and", near, b.op("gt", power, b.const(0.0, z)))
        return b.select(near, b.call("expm1", z), b.op("sub", power, b.const(1.0, z)))


@elementwise("sqrt", accepts=inexact)
class sqrt(Formula):
    """Square root; NaN below 0. The derivative at 0 is infinite."""

    evaluate = np.sqrt
    domain = (0.2, 3.0)

    def vjp(x, y, dy):
        return (dy / (y * 2),)

    def lower(b, x):
        return b.op("sqrt", x)


@elementwise("cbrt", accepts=floats)
class cbrt(Formula):
    """Cube root, of negative numbers too. The derivative at 0 is infinite."""

    evaluate = wide(np.cbrt)
    kinks = (0.0,)

    def vjp(x, y, dy):
        return (dy / (y * y * 3),)

    def lower(b, x):
        return b.call("cbrt", x)


@elementwise("rsqrt", accepts=floats)
class rsqrt(Formula):
    """1 / sqrt(x); infinite at 0, NaN below."""

    evaluate = wide(lambda x: 1 / np.sqrt(x))
    domain = (0.2, 3.0)

    def vjp(x, y, dy):
        return (dy * (y * y * y * -0.5),)

    def lower(b, x):
        return b.call("rsqrt", x)


@elementwise("hypot", accepts=floats)
class hypot(Formula):
    """sqrt(x*x + y*y) without overflow; infinite if either is. The derivative at (0, 0) is 0."""

    evaluate = wide(np.hypot)

    def vjp(x, y, r, dy):
        safe = where(eq(r, 0), 1, r)
        return dy * (x / safe), dy * (y / safe)

    def lower(b, x, y):
        return b.call("hypot", x, y)
