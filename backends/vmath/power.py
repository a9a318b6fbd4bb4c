"""pow, cbrt, rsqrt, hypot."""

from __future__ import annotations

import math

from . import tables
from .double import Double, product_error, quick_two_sum, two_product, two_sum
from .exponential import LIMITS, exp_of_sum, power_of_two
from .logarithm import Split, split
from .number import Num, at_least, at_most, copysign, fma, polynomial, sqrt, where
from .registry import function

INF = math.inf


@function("rsqrt", float32=(1.5, 1.5), float64=(1.5, 1.5))
def rsqrt(x: Num) -> Num:
    """1 / sqrt(x): two correctly rounded operations."""
    return 1.0 / sqrt(x)


def product(a: Double, b: Double) -> Double:
    """a * b to nearly twice the precision."""
    high = two_product(a.high, b.high)
    return Double(high.high, high.low + fma(a.high, b.low, a.low * b.high))


def log_double(parts: Split) -> Double:
    """k ln(2) + log(1 + f) of float64 with a relative error of about 2**-66.

    log(1 + f) = 2 s + s**3 (2/3 + s**2 P(s**2)) with s = f / (2 + f), all but P in two parts.
    """
    k, f = parts
    divisor = f + 2.0
    inverse = 1.0 / divisor
    s_high = f * inverse
    back = two_product(s_high, divisor)
    divisor_lost = f - (divisor - 2.0)
    rest = ((f - back.high) - back.low) - s_high * divisor_lost
    s = Double(s_high, rest * inverse)
    square = product(s, s)
    two_thirds, two_thirds_low = tables.TWO_THIRDS["float64"]
    series = square.high * polynomial(square.high, tables.ATANH_5["float64"]) + two_thirds_low
    cubic = product(product(square, s), quick_two_sum(f.const(two_thirds), series))
    ln2_high, ln2_low = tables.LN2["float64"]
    head = two_sum(k * ln2_high, s.high + s.high)
    total = two_sum(head.high, cubic.high)
    low = fma(k, ln2_low, head.low + total.low + fma(s.low, 2.0, cubic.low))
    return quick_two_sum(total.high, low)


def is_odd(y: Num) -> tuple[Num, Num]:
    """(y is an integer, y is an odd integer); infinities count as even integers."""
    form = y.format
    a = abs(y)
    whole = 2.0**form.mant  # from here on every number is an integer, and from twice that on, even
    shifted = a + whole
    large = a >= whole
    integer = large | (shifted - whole).eq(a)
    low_bit = (where(large, a, shifted).bits() & 1).ne(0)
    return integer, integer & low_bit & (a < 2.0 * whole)


@function("pow", float32=(1.0, 1.0), float64=(1.5, 1.5), arity=2)
def pow(x: Num, y: Num) -> Num:
    """x**y; special cases as C99 F.9.4.4."""
    magnitude = _magnitude32(abs(x), y) if x.format.dtype == "float32" else _magnitude64(abs(x), y)
    integer, odd = is_odd(y)
    signed = where(odd, copysign(magnitude, x), magnitude)
    undefined = ((x < 0.0) & (x > -INF) & ~integer) | x.ne(x)
    result = where(undefined, x.const(math.nan), signed)
    return where(x.eq(1.0) | y.eq(0.0), x.const(1.0), result)


def bounded(y: Num) -> Num:
    """y, or so large a number that no finite |x| but 1 has a logarithm for which y would matter."""
    bound = 2.0 ** (y.format.mant + 12)
    return at_least(at_most(y, bound), -bound)


def _magnitude32(a: Num, y: Num) -> Num:
    """2**(y log2(a)) of float32 in float64, whose range needs no care and whose digits suffice."""
    parts = split(a)
    k = where(a.eq(0.0), a.const(-INF), where(a.eq(INF), a, parts.k))
    f = parts.f.to("float64")
    logarithm = fma(f, polynomial(f, tables.LOG2_RATIO["float64"]), k.to("float64"))
    exponent = at_least(at_most(bounded(y).to("float64") * logarithm, 130.0), -152.0)
    magic = f.format.magic + f.format.bias
    shifted = exponent + magic
    r = exponent - (shifted - magic)
    power = power_of_two(shifted.bits(), r)
    return (polynomial(r, tables.EXP2_SHORT["float64"]) * power).to("float32")


def _magnitude64(a: Num, y: Num) -> Num:
    """exp(y log(a)) of float64, the logarithm and the product in two parts."""
    logarithm = log_double(split(a))
    clamped = bounded(y)
    high = clamped * logarithm.high
    low = fma(clamped, logarithm.low, product_error(clamped, logarithm.high, high))
    limits = LIMITS["float64"]
    inside = at_least(at_most(high, limits.overflow), limits.underflow)
    magnitude = exp_of_sum(inside, where(inside.eq(high), low, 0.0))
    # Where log(a) or y is infinite (NaN stays).
    extreme = where((a > 1.0).eq(y > 0.0), a.const(INF), 0.0)
    edge = a.eq(0.0) | a.eq(INF) | (abs(y).eq(INF) & a.ne(1.0))
    return where(edge & y.eq(y), extreme, magnitude)


@function("cbrt", float32=(1.5, 1.5), float64=(1.5, 1.5))
def cbrt(x: Num) -> Num:
    """x = w 8**n with 1/2 <= w < 4.

    Two steps of third order towards w**(-1/3), one of Newton's towards w**(1/3).
    """
    form = x.format
    a = abs(x)
    subnormal = a < form.tiny
    thirds = form.mant // 3 + 1
    bits = where(subnormal, a * 2.0 ** (3 * thirds), a).bits()
    padding = -form.bias % 3
    exponent = (bits >> form.mant) + padding  # of 2, plus a multiple of 3
    magic_bits = x.const(form.magic).bits()
    whole = (exponent | x.const(2.0**form.mant).bits()).float() - 2.0**form.mant
    n = fma(whole, 1.0 / 3.0, form.magic).bits() - magic_bits
    rest = exponent - n - (n << 1)
    w = ((bits & form.mant_mask) | ((rest + form.bias) << form.mant)).float()
    y = polynomial(w, tables.CBRT_START[form.dtype])
    for _ in range(2):
        h = 1.0 - w * y * (y * y)
        y = fma(y * h, fma(h, 2.0 / 9.0, 1.0 / 3.0), y)
    c = w * y * y
    c = fma(fma(-(c * c), c, w), y * y * (1.0 / 3.0), c)
    power = power_of_two(n + (form.bias - (form.bias + padding) // 3), x)
    root = copysign(c * where(subnormal, power * 2.0**-thirds, power), x)
    return where((a > 0.0) & (a < INF), root, x)


# Scaling of hypot, (above, factor) and (below, factor): squares neither overflow nor vanish.
HYPOT = {
    "float32": ((2.0**60, 2.0**-70), (2.0**-40, 2.0**90)),
    "float64": ((2.0**500, 2.0**-600), (2.0**-400, 2.0**700)),
}


@function("hypot", float32=(1.5, 1.5), float64=(1.5, 1.5), arity=2)
def hypot(x: Num, y: Num) -> Num:
    """sqrt(x*x + y*y) without overflow on the way; infinite if either is, even beside NaN."""
    ax, ay = abs(x), abs(y)
    swap = ax < ay
    large, small = where(swap, ay, ax), where(swap, ax, ay)
    (above, down), (below, up) = HYPOT[x.format.dtype]
    high, low = large > above, large < below
    factor = where(high, x.const(down), where(low, x.const(up), 1.0))
    back = where(high, x.const(1.0 / down), where(low, x.const(1.0 / up), 1.0))
    large, small = large * factor, small * factor
    result = sqrt(fma(large, large, small * small)) * back
    return where(ax.eq(INF) | ay.eq(INF), x.const(INF), result)
