"""Modified Bessel functions of the first kind, orders 0 and 1, plain and times exp(-|x|).

Up to TURN a polynomial in x*x; above, exp(|x|) / sqrt(|x|) times a polynomial in 1 / |x|.
"""

from __future__ import annotations

import math

from . import bessel_tables as tables
from .double import product_error
from .exponential import LIMITS, exp_between, exp_times
from .number import Num, at_least, at_most, copysign, fma, horner, sqrt, where
from .registry import function

# infinite from here up (a little beyond exp, as the quotient by sqrt(2 pi x) is finite longer)
OVERFLOW = {"float32": 92.0, "float64": 715.0}
ORDERS = ((tables.I0, tables.I0_TAIL), (tables.I1, tables.I1_TAIL))


def series(a: Num, order: int) -> Num:
    """I0(a), or I1(a) for order 1, for 0 <= a <= TURN.

    What the rounding of a*a lost comes back by the slope: it would be up to TURN / 2 units.
    """
    inside, coefficients = at_most(a, tables.TURN), ORDERS[order][0][a.format.dtype]
    z = inside * inside
    slope = horner(z, [k * c for k, c in enumerate(coefficients, 1)])
    start = fma(product_error(inside, inside, z), slope, 1.0)
    ratio = fma(z, horner(z, coefficients), start)
    return ratio * (inside * 0.5) if order else ratio


def tail(a: Num, order: int) -> Num:
    """exp(-a) I(a) for a >= TURN."""
    inside = at_least(a, tables.TURN)
    t = fma(1.0 / inside, 2.0 * tables.TURN, -1.0)
    return horner(t, ORDERS[order][1][a.format.dtype]) / sqrt(inside)


def plain(x: Num, order: int) -> Num:
    """I0(x) or I1(x)."""
    a = at_most(abs(x), OVERFLOW[x.format.dtype])
    zero = a.const(0.0)
    result = where(a > tables.TURN, exp_times(a, zero, tail(a, order), zero), series(a, order))
    result = where(a < OVERFLOW[x.format.dtype], result, where(a.eq(a), a.const(math.inf), a))
    return copysign(result, x) if order else result


def scaled(x: Num, order: int) -> Num:
    """exp(-|x|) I0(x) or exp(-|x|) I1(x)."""
    a = abs(x)
    decay = exp_between(at_least(-a, LIMITS[x.format.dtype].underflow))
    result = where(a > tables.TURN, tail(a, order), series(a, order) * decay)
    return copysign(result, x) if order else result


@function("i0", float32=(4.5, 5.0), float64=(4.0, 4.0))
def i0(x: Num) -> Num:
    return plain(x, 0)


@function("i1", float32=(4.5, 5.0), float64=(4.0, 4.0))
def i1(x: Num) -> Num:
    return plain(x, 1)


@function("i0e", float32=(4.5, 4.5), float64=(4.0, 4.0))
def i0e(x: Num) -> Num:
    return scaled(x, 0)


@function("i1e", float32=(4.0, 4.5), float64=(4.0, 4.0))
def i1e(x: Num) -> Num:
    return scaled(x, 1)
