"""exp, exp2, expm1 and what is built on them: sigmoid, sinh, cosh, tanh.

x = n ln(2) + r with |r| <= ln(2)/2; exp(r) = 1 + r + r**2 EXPM1(r); the result is scaled by 2**n
through the exponent bits. n comes from adding a magic number, which leaves n (plus a multiple of
the bias) in the low bits of the sum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from . import tables
from .number import (
    Num,
    at_least,
    at_most,
    copysign,
    fma,
    horner,
    lookup,
    polynomial,
    rounded,
    scaleb,
    where,
)
from .registry import function


class Limits(NamedTuple):
    """Where the functions of one format end."""

    overflow: float  # exp of this is infinite, and of anything above
    underflow: float  # exp of this is zero, and of anything below
    saturation: float  # tanh of this is 1


LIMITS = {"float32": Limits(89.0, -104.5, 9.02), "float64": Limits(710.0, -746.0, 20.0)}


class Reduced(NamedTuple):
    """x = n ln(2) + r: `code` holds n + offset in its low bits; the rest falls off when shifted."""

    n: Num
    coarse: Num  # x - n times the high part of ln(2), exact
    r: Num
    code: Num

    def lost(self) -> Num:
        """What the rounding of r lost."""
        return fma(self.n, -tables.LN2[self.r.format.dtype][1], self.coarse - self.r)


def reduce(x: Num, offset: int) -> Reduced:
    """Split a clamped x; `offset` biases the exponent code."""
    high, low = tables.LN2[x.format.dtype]
    magic = x.format.magic + offset
    shifted = fma(x, tables.LOG2_E[x.format.dtype][0], magic)
    n = shifted - magic
    coarse = fma(n, -high, x)
    return Reduced(n, coarse, fma(n, -low, coarse), shifted.bits())


def power_of_two(code: Num, like: Num) -> Num:
    """2**(code - bias), for codes of normal numbers."""
    return (code << like.format.mant).float()


def scale(x: Num, code: Num) -> Num:
    """x * 2**(code - 2 bias) in two steps: one rounding into the subnormals, no early overflow."""
    half = code >> 1
    return x * power_of_two(half, x) * power_of_two(code - half, x)


def times_power(x: Num, code: Num) -> Num:
    """x * 2**n, n the integer in the low bits of the code, if x and the product are normal.

    One addition to the exponent; a NaN may become a number.
    """
    return (x.bits() + (code << x.format.mant)).float()


def exp_significand(reduced: Reduced) -> Num:
    """exp(r)."""
    r = reduced.r
    return fma(r * r, polynomial(r, tables.EXPM1[r.format.dtype]), r) + 1.0


def exp_between(x: Num, shift: int = 0) -> Num:
    """2**shift * exp(x) for x within the limits, to 1.1 ulp."""
    reduced = reduce(x, 2 * x.format.bias + shift)
    return scale(exp_significand(reduced), reduced.code)


def expm1_tail(reduced: Reduced) -> Num:
    """exp(r + lost) - 1 - r."""
    r = reduced.r
    return fma(r * r, polynomial(r, tables.EXPM1[r.format.dtype]), reduced.lost())


def exp_careful(x: Num) -> Num:
    """exp(x) for x within the limits, to 0.9 ulp."""
    reduced = reduce(x, 2 * x.format.bias)
    return scale(reduced.r + expm1_tail(reduced) + 1.0, reduced.code)


def core_of_sum(reduced: Reduced, low: Num) -> Num:
    """exp(r + lost + low) - 1."""
    core = reduced.r + expm1_tail(reduced)
    return core + fma(low, core, low)


def exp_of_sum(x: Num, low: Num) -> Num:
    """exp(x + low) for x within the limits and |low| within a few units in the last place of x."""
    reduced = reduce(x, 2 * x.format.bias)
    return scale(core_of_sum(reduced, low) + 1.0, reduced.code)


def exp_times(x: Num, low: Num, high_factor: Num, low_factor: Num) -> Num:
    """(high + low factor) exp(x + low), x and low as for `exp_of_sum`."""
    reduced = reduce(x, 2 * x.format.bias)
    core = core_of_sum(reduced, low)
    return scale(high_factor + fma(core, high_factor, low_factor), reduced.code)


#: 2**(j/16), rounded to float32
SIXTEENTHS = tuple(rounded(2.0 ** (j / 16), "float32") for j in range(16))


def exp_by_table(x: Num) -> Num:
    """exp of any float32 to 1.1 ulp, where tables and scaling are one instruction each.

    x = n ln(2) + r with n = i + j/16: exp(x) = 2**i 2**(j/16) exp(r), |r| <= ln(2)/32. Adding the
    magic number leaves j in the low bits. No limits are needed: where |x| is so large that the
    result is infinite, or 0, r may be anything; without its top exponent bit, which no proper r
    has, it is below 2, and what is scaled is a number other than 0, of whatever sign.
    """
    high, low = tables.LN2["float32"]
    magic = x.format.magic / 16
    shifted = fma(x, tables.LOG2_E["float32"][0], magic)
    n = shifted - magic
    r = fma(n, -low, fma(n, -high, x))
    r = (r.bits() & ~(1 << 30) % (1 << 32)).float()
    power = lookup(SIXTEENTHS, shifted.bits())
    core = fma(power * r, horner(r, tables.EXPM1_SIXTEENTH["float32"]), power)
    return abs(scaleb(core, n))


@function("exp", float32=(1.5, 1.5), float64=(1.5, 1.5))
def exp(x: Num) -> Num:
    if x.format.dtype == "float32" and x.at.has_scaleb and x.at.has_lookup:
        return exp_by_table(x)
    limits = LIMITS[x.format.dtype]
    return exp_between(at_least(at_most(x, limits.overflow), limits.underflow))


@function("exp2", float32=(1.5, 1.5), float64=(1.5, 1.5))
def exp2(x: Num) -> Num:
    """Exact for integers."""
    form = x.format
    x = at_least(at_most(x, form.bias + 1.0), -float(form.bias + form.mant + 1))
    magic = form.magic + 2 * form.bias
    shifted = x + magic
    r = x - (shifted - magic)
    return scale(fma(r, horner(r, tables.EXP2M1[form.dtype]), 1.0), shifted.bits())


LOG2_10, LN10 = math.log2(10.0), math.log(10.0)
EXP10_ENDS = {"float32": (39.0, -46.0), "float64": (309.0, -325.0)}  # infinite above, 0 below


@function("exp10", float32=(1.5, 1.5), float64=(1.5, 1.5))
def exp10(x: Num) -> Num:
    """x = n log10(2) + r; then exp(r ln(10)), |r ln(10)| <= ln(2)/2."""
    form = x.format
    overflow, underflow = EXP10_ENDS[form.dtype]
    x = at_least(at_most(x, overflow), underflow)
    high, low = tables.LOG10_2[form.dtype]
    magic = form.magic + 2 * form.bias
    shifted = fma(x, LOG2_10, magic)
    n = shifted - magic
    r = fma(n, -low, fma(n, -high, x)) * LN10
    core = fma(r * r, polynomial(r, tables.EXPM1[form.dtype]), r)
    return scale(core + 1.0, shifted.bits())


def expm1_scaled(reduced: Reduced, power: Num, one: float = 1.0) -> Num:
    """power * exp(r) - one, for power = one * 2**n, with two large roundings."""
    return fma(expm1_tail(reduced), power, fma(reduced.r, power, power - one))


@function("expm1", float32=(2.0, 2.0), float64=(2.0, 2.0))
def expm1(x: Num) -> Num:
    form = x.format
    floor = -(form.mant + 3.0) * math.log(2.0)  # -1 from here down
    inside = at_least(at_most(x, LIMITS[form.dtype].overflow), floor)
    reduced = reduce(
        inside, form.bias - 1
    )  # halved: the power of two for the largest results would overflow
    result = expm1_scaled(reduced, power_of_two(reduced.code, x), 0.5) * 2.0
    return where(abs(x) < 2.0 ** -(form.mant + 2), x, result)


EXPREL_OVERFLOW = {"float32": 94.0, "float64": 718.0}  # infinite from here up
EXPREL_SHIFT = 24  # powers of two by which its numerator is kept small


@function("exprel", float32=(3.0, 3.0), float64=(3.0, 3.0))
def exprel(x: Num) -> Num:
    """(exp(x) - 1) / x, and 1 at 0; the numerator may overflow where the quotient does not."""
    form = x.format
    top = at_most(x, EXPREL_OVERFLOW[form.dtype])
    reduced = reduce(at_least(top, -(form.mant + 3.0) * math.log(2.0)), form.bias - EXPREL_SHIFT)
    small = expm1_scaled(reduced, power_of_two(reduced.code, x), 2.0**-EXPREL_SHIFT)
    large, up = x > 1.0, 2.0**EXPREL_SHIFT
    quotient = where(large, small, small * up) / top
    result = where(large, quotient * up, quotient)
    return where(abs(x) < 2.0 ** -(form.mant + 2), x.const(1.0), result)


@function("sigmoid", float32=(2.5, 2.5), float64=(2.0, 2.0))
def sigmoid(x: Num) -> Num:
    """1 / (1 + exp(-x)); float64 from exp(-|x|), which loses no digits that can be put back."""
    if x.format.dtype == "float32":
        return _sigmoid_single(x)
    e = exp_careful(at_least(-abs(x), LIMITS["float64"].underflow))
    d = e + 1.0
    s = where(x < 0.0, e, e.const(1.0)) / d
    lost = e - (
        d - 1.0
    )  # what the rounding of d lost; 1 / d = 1 - s where x < 0, and no less elsewhere
    return fma(s * lost, s - 1.0, s)


def _sigmoid_single(x: Num) -> Num:
    """Above and below times 2**-40, so that exp(105) is in range and the subnormals are reached."""
    one = 2.0**-40
    reduced = reduce(at_least(at_most(-x, 105.0), -58.0), x.format.bias - 40)
    return one / fma(exp_significand(reduced), power_of_two(reduced.code, x), one)


@function("tanh", float32=(2.5, 2.5), float64=(2.0, 2.0))
def tanh(x: Num) -> Num:
    """e / (e + 2) with e = expm1(2|x|): division dampens the error of e where it is largest."""
    a = at_most(abs(x), LIMITS[x.format.dtype].saturation)
    if x.format.dtype == "float32":
        return copysign(_tanh_single(a), x)
    reduced = reduce(a + a, x.format.bias)
    return copysign(_tanh_careful(reduced, power_of_two(reduced.code, x)), x)


def _tanh_single(a: Num) -> Num:
    """The same; n is so small that one part of ln(2) is enough."""
    twice = a + a
    magic = a.format.magic + a.format.bias
    shifted = fma(twice, tables.LOG2_E["float32"][0], magic)
    r = fma(shifted - magic, -math.log(2.0), twice)
    power = power_of_two(shifted.bits(), a)
    core = fma(r * r, polynomial(r, tables.EXPM1["float32"]), r)
    e = fma(core, power, power - 1.0)
    return e / (e + 2.0)


def _tanh_careful(reduced: Reduced, power: Num) -> Num:
    """The same; what the roundings of e and e + 2 lost is put back, 1 / (e + 2) = (1 - t) / 2."""
    tail = expm1_tail(reduced)
    head = fma(reduced.r, power, power - 1.0)
    e = fma(tail, power, head)
    e_lost = fma(tail, power, head - e)
    d = e + 2.0
    d_lost = where(e < 2.0, e - (d - 2.0), 0.0) + e_lost
    t = e / d
    return fma(fma(-t, d_lost, e_lost), fma(t, -0.5, 0.5), t)


def half_exp(x: Num) -> Num:
    """exp(|x|) / 2, which overflows only where sinh and cosh do."""
    return exp_between(at_most(abs(x), LIMITS[x.format.dtype].overflow + 1.0), shift=-1)


@function("sinh", float32=(2.5, 2.5), float64=(2.0, 2.0))
def sinh(x: Num) -> Num:
    """An odd polynomial up to 1, (exp(|x|) - exp(-|x|)) / 2 above."""
    a = abs(x)
    z = x * x
    small = fma(z * x, polynomial(z, tables.SINH[x.format.dtype]), x)
    half = half_exp(x)
    large = copysign(half - 0.25 / half, x)
    return where(a < 1.0, small, large)


@function("cosh", float32=(2.5, 2.5), float64=(2.0, 2.0))
def cosh(x: Num) -> Num:
    half = half_exp(x)
    return half + 0.25 / half
