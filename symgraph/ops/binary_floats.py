"""Floats taken apart: frexp (mantissa and exponent) and modf (fraction and whole part)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..dtypes import default_float, floats, int32
from ..expr import Expr
from ..leaves import lift
from .define import Formula, cast, elementwise
from .elementwise import ldexp, trunc
from .elementwise.floating import LAYOUT


class _Parts(NamedTuple):
    """A float's mantissa in [1/2, 1) with its sign, and its exponent of 2."""

    mantissa: Any
    exponent: Any


def _frexp(b, x):
    """Zeros, infinities and NaN are their own mantissa, with exponent 0."""
    layout = LAYOUT[b.dtype(x)]
    field = 2 * layout.bias + 1
    size = b.op("abs", x)
    subnormal = b.op("lt", size, b.const(2.0 ** (1 - layout.bias), x))
    up = b.const(2.0 ** (layout.fraction + 1), x)
    bits = b.bitcast(b.select(subnormal, b.op("mul", x, up), x), layout.integer)
    shift, mask = b.const(layout.fraction, bits), b.const(field, bits)
    biased = b.op("and", b.op("shr", bits, shift), mask)
    rest = b.op("and", bits, b.const(~(field << layout.fraction), bits))
    half = b.op("or", rest, b.const((layout.bias - 1) << layout.fraction, bits))
    zero, scaled = b.const(0, bits), b.const(layout.bias + layout.fraction, bits)
    offset = b.select(subnormal, scaled, b.const(layout.bias - 1, bits))
    plain = b.op("lt", size, b.const(float("inf"), x))
    plain = b.op("and", plain, b.op("gt", size, b.const(0.0, x)))
    mantissa = b.select(plain, b.bitcast(half, b.dtype(x)), x)
    return _Parts(mantissa, b.select(plain, b.op("sub", biased, offset), zero))


@elementwise("mantissa", accepts=floats)
class _mantissa(Formula):
    """The first part of frexp."""

    evaluate = lambda x: np.frexp(x)[0]
    kinks = (-2.0, -1.0, -0.5, -0.25, -0.125, 0.0, 0.125, 0.25, 0.5, 1.0, 2.0)

    def vjp(x, out, dy):
        return (ldexp(dy, -_exponent(x)),)

    def lower(b, x):
        return _frexp(b, x).mantissa


@elementwise("exponent", accepts=floats, result=int32)
class _exponent(Formula):
    """The second part of frexp."""

    evaluate = lambda x: np.where(np.isfinite(x), np.frexp(x)[1], 0)
    vjp = None

    def lower(b, x):
        return b.cast(_frexp(b, x).exponent, "int32")


def frexp(x: Any) -> tuple[Expr, Expr]:
    """(mantissa, exponent) with x = mantissa * 2**exponent and 1/2 <= |mantissa| < 1.

    Zeros, infinities and NaN are their own mantissa, with exponent 0. x: floats -> the dtype of x,
    int32.
    """
    node = _as_float(x)
    return _mantissa(node), _exponent(node)


@elementwise("fraction", accepts=floats)
class _fraction(Formula):
    """The first part of modf."""

    evaluate = lambda x: np.modf(x)[0]
    kinks = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)

    def vjp(x, out, dy):
        return (dy,)

    def lower(b, x):
        infinite = b.op("eq", b.op("abs", x), b.const(float("inf"), x))
        rest = b.op("sub", x, b.op("trunc", x))
        return b.op("copysign", b.select(infinite, b.const(0.0, x), rest), x)


def modf(x: Any) -> tuple[Expr, Expr]:
    """(fraction, whole part) of floats, both with the sign of x; the fraction of inf is 0.

    The fraction has the derivative of x, the whole part none.
    """
    node = _as_float(x)
    return _fraction(node), trunc(node)


def _as_float(x: Any) -> Expr:
    node = lift(x)
    return node if node.dtype.is_inexact else cast(node, default_float())


__all__ = ["frexp", "modf"]
