"""asin, acos, atan, atan2."""

from __future__ import annotations

import math

from . import tables
from .double import product_error, two_product
from .number import Num, at_most, copysign, fma, polynomial, sqrt, where
from .registry import function


def arcsine_parts(x: Num) -> tuple[Num, Num, Num]:
    """(big, s, tail) with asin|x| = s + tail, or pi/2 - 2 (s + tail) where big: |x| > 1/2."""
    a = abs(x)
    big = a > 0.5
    z = where(big, (1.0 - a) * 0.5, a * a)
    root = sqrt(z)
    s = where(big, root, a)
    tail = z * s * polynomial(z, tables.ASIN[x.format.dtype])
    if x.format.dtype == "float64":
        lost = (z - root * root) - product_error(root, root, root * root)
        tail = tail + where(big, lost / (root + root + x.format.tiny), 0.0)
    return big, s, tail


@function("asin", float32=(2.5, 2.5), float64=(2.0, 2.0))
def asin(x: Num) -> Num:
    big, s, tail = arcsine_parts(x)
    high, low = (part / 2 for part in tables.PI[x.format.dtype])
    reflected = (high - (s + s)) - fma(tail, 2.0, -low)
    return copysign(where(big, reflected, s + tail), x)


@function("acos", float32=(2.5, 2.5), float64=(2.0, 2.0))
def acos(x: Num) -> Num:
    big, s, tail = arcsine_parts(x)
    high, low = (part / 2 for part in tables.PI[x.format.dtype])
    negative = x < 0.0
    inner = high - (copysign(s, x) + (copysign(tail, x) - low))
    twice = (s + tail) * 2.0
    outer = where(negative, (high - s) * 2.0 - fma(tail, 2.0, -2.0 * low), twice)
    return where(big, outer, inner)


def ratio_angle(small: Num, large: Num) -> tuple[Num, Num]:
    """(k, t) with atan(small / large) = k pi/4 + t, for 0 <= small <= large; NaN stays."""
    if small.format.dtype == "float32":
        k, ratio = small.const(0.0), small / large
        return k, _arctangent(ratio, k)
    shift = small > large * (math.sqrt(2.0) - 1.0)
    k = where(shift, small.const(1.0), 0.0)
    return k, _arctangent(*_precise_ratio(shift, small, large))


def _arctangent(ratio: Num, low: Num) -> Num:
    """atan(ratio + low), within the interval of the polynomial."""
    z = ratio * ratio
    return ratio + fma(z * ratio, polynomial(z, tables.ATAN[ratio.format.dtype]), low)


def _precise_ratio(shift: Num, small: Num, large: Num) -> tuple[Num, Num]:
    """(small - large) / (small + large) where shift, small / large elsewhere; in two parts."""
    factor = where(large > 2.0**900, large.const(2.0**-200), 1.0)
    factor = where(large < 2.0**-500, large.const(2.0**500), factor)
    small, large = small * factor, large * factor
    faint = small < 2.0**-600  # its product with a quotient would lose digits
    small = where(faint, small * 2.0**300, small)
    top = where(shift, small - large, small)
    bottom = where(shift, small + large, large)
    top_lost = where(shift, small - (top + large), 0.0)
    bottom_lost = where(shift, small - (bottom - large), 0.0)
    inverse = 1.0 / bottom
    ratio = top * inverse
    back = two_product(ratio, bottom)
    rest = ((top - back.high) - back.low) + (top_lost - ratio * bottom_lost)
    back_down = where(faint, ratio.const(2.0**-300), 1.0)
    return ratio * back_down, rest * inverse * back_down


def eighths(k: Num, t: Num) -> Num:
    """k pi/4 + t for k up to 4."""
    high, low = (part / 4 for part in tables.PI[t.format.dtype])
    return fma(k, high, fma(k, low, t))


@function("atan", float32=(2.0, 2.0), float64=(2.0, 2.0))
def atan(x: Num) -> Num:
    a = abs(x)
    steep = a > 1.0
    one = a.const(1.0)
    a = at_most(a, 2.0 ** (x.format.bias - 20))  # infinity over infinity must not be met
    k, t = ratio_angle(where(steep, one, a), where(steep, a, one))
    return copysign(eighths(where(steep, 2.0 - k, k), where(steep, -t, t)), x)


@function("atan2", float32=(2.5, 2.5), float64=(2.0, 2.0), arity=2)
def atan2(y: Num, x: Num) -> Num:
    """The angle of the point (x, y); zeros and infinities as C99 F.9.1.4."""
    ay, ax = abs(y), abs(x)
    steep = ay > ax
    small, large = where(steep, ax, ay), where(steep, ay, ax)
    infinite = large.eq(math.inf)
    small = where(infinite, where(small.eq(math.inf), small.const(1.0), small * 0.0), small)
    large = where(infinite | large.eq(0.0), large.const(1.0), large)
    k, t = ratio_angle(small, large)
    k, t = where(steep, 2.0 - k, k), where(steep, -t, t)
    left = copysign(x.const(1.0), x) < 0.0
    k, t = where(left, 4.0 - k, k), where(left, -t, t)
    return copysign(eighths(k, t), y)
