"""log, log2, log10, log1p and what is built on them: softplus, logaddexp, asinh, acosh, atanh.

x = 2**k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2); log(1 + f) = f + tail(f), where float32 takes
the tail from one polynomial in f and float64 from one in s = f / (2 + f) (fdlibm's e_log.c: half
the degree for one division).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from . import tables
from .double import two_sum
from .exponential import LIMITS, exp_between, exp_careful, exp_significand, reduce, times_power
from .number import Num, at_least, bits_of, copysign, fma, horner, polynomial, sqrt, where
from .registry import function

INF = math.inf
NAN = math.nan
ROOT_HALF = math.sqrt(0.5)


class Split(NamedTuple):
    """x = 2**k (1 + f); k is a float with an integer value."""

    k: Num
    f: Num


def split(x: Num) -> Split:
    """The exponent and fraction of a positive finite x, subnormal or not."""
    form = x.format
    subnormal = x < form.tiny
    x = where(subnormal, x * 2.0 ** (form.mant + 1), x)
    half = bits_of(ROOT_HALF, form.dtype)
    moved = x.bits() + (bits_of(1.0, form.dtype) - half)
    # The biased exponent in the low bits of 2**mant reads as 2**mant + bias + k.
    offset = 2.0**form.mant + form.bias
    k = ((moved >> form.mant) | bits_of(2.0**form.mant, form.dtype)).float()
    k = k - where(subnormal, x.const(offset + form.mant + 1), x.const(offset))
    return Split(k, ((moved & form.mant_mask) + half).float() - 1.0)


def tail(f: Num) -> Num:
    """log(1 + f) - f."""
    if f.format.dtype == "float32":
        z = f * f
        return fma(z, -0.5, f * z * polynomial(f, tables.LOG1P["float32"]))
    half_square = f * f * 0.5
    s = f / (f + 2.0)
    z = s * s
    return s * fma(z, polynomial(z, tables.ATANH["float64"]), half_square) - half_square


def log_of(parts: Split, low: Num | None = None) -> Num:
    """k ln(2) + log(1 + f) + low."""
    ln2_high, ln2_low = tables.LN2[parts.f.format.dtype]
    rest = fma(parts.k, ln2_low, tail(parts.f))
    if low is not None:
        rest = rest + low
    return fma(parts.k, ln2_high, parts.f + rest)


def at_edges(x: Num, result: Num) -> Num:
    """The result, or what a logarithm is at 0 (-inf), +inf, negative numbers and NaN."""
    beside = where(x.eq(0.0), x.const(-INF), NAN)
    return where(x.eq(INF), x, where(x > 0.0, result, beside))


@function("log", float32=(1.5, 1.5), float64=(1.5, 1.5))
def log(x: Num) -> Num:
    return at_edges(x, log_of(split(x)))


@function("log2", float32=(1.5, 2.0), float64=(1.5, 2.0))
def log2(x: Num) -> Num:
    """Exact for powers of two."""
    parts = split(x)
    high, low = tables.LOG2_E[x.format.dtype]
    rest = fma(tail(parts.f), high, parts.f * low)
    return at_edges(x, fma(parts.f, high, rest) + parts.k)


@function("log10", float32=(1.5, 2.0), float64=(1.5, 2.0))
def log10(x: Num) -> Num:
    parts = split(x)
    high, low = tables.LOG10_E[x.format.dtype]
    two_high, two_low = tables.LOG10_2[x.format.dtype]
    rest = fma(tail(parts.f), high, fma(parts.f, low, parts.k * two_low))
    return at_edges(x, fma(parts.k, two_high, fma(parts.f, high, rest)))


def split_sum(x: Num) -> Split:
    """1 + x = 2**k (1 + f) with f rounded once: exact where k is 0."""
    form = x.format
    total = x + 1.0
    half = bits_of(ROOT_HALF, form.dtype)
    exponent = (total.bits() + (bits_of(1.0, form.dtype) - half)) >> form.mant
    offset = 2.0**form.mant + form.bias
    k = (exponent | bits_of(2.0**form.mant, form.dtype)).float() - offset
    four = ((2 * form.bias + 2 - exponent) << form.mant).float()  # 4 * 2**-k, normal for every k
    return Split(k, fma(x * 0.25, four, fma(four, 0.25, -1.0)))


@function("log1p", float32=(1.5, 1.5), float64=(1.5, 1.5))
def log1p(x: Num) -> Num:
    result = log_of(split_sum(x))
    tiny = abs(x) < 2.0 ** -(x.format.mant + 2)  # also keeps -0
    return where(tiny, x, at_edges(x + 1.0, result))


def split_one_plus_exp(x: Num) -> Split:
    """1 + exp(x) for x <= 0."""
    x = at_least(x, LIMITS[x.format.dtype].underflow)
    e = exp_careful(x) if x.format.dtype == "float64" else exp_between(x)
    halve = e > math.sqrt(2.0) - 1.0
    f = where(halve, fma(e, 0.5, -0.5), e)
    return Split(where(halve, e.const(1.0), 0.0), f)


@function("softplus", float32=(2.5, 2.5), float64=(2.0, 2.0))
def softplus(x: Num) -> Num:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)); float32 has one polynomial for log1p."""
    base = at_least(x, 0.0)
    if x.format.dtype == "float64":
        return base + log_of(split_one_plus_exp(-abs(x)))
    # e times 2**64 first, whose exponent stays a normal number's; a NaN comes through the base
    reduced = reduce(at_least(-abs(x), LIMITS["float32"].underflow), 64)
    e = times_power(exp_significand(reduced), reduced.code) * 2.0**-64
    bend = horner(e, tables.LOG1P_UNIT["float32"])
    if x.at.has_fma:
        return fma(e, fma(e, bend, 1.0), base)
    return base + (e + e * e * bend)


@function("log_sigmoid", float32=(2.5, 2.5), float64=(2.0, 2.0))
def log_sigmoid(x: Num) -> Num:
    return -softplus(-x)


@function("logaddexp", float32=(2.5, 2.5), float64=(2.0, 2.0), arity=2)
def logaddexp(x: Num, y: Num) -> Num:
    """log(exp(x) + exp(y)); its bound is in units of the larger argument, or result if larger."""
    swap = x < y
    high, low = where(swap, y, x), where(swap, x, y)
    gap = where(x.eq(y), x.const(0.0), low - high)  # equal infinities: no inf - inf
    parts = split_one_plus_exp(gap)
    ln2_high, ln2_low = tables.LN2[x.format.dtype]
    inner = two_sum(parts.k * ln2_high, parts.f)
    total = two_sum(high, inner.high)
    rest = fma(parts.k, ln2_low, tail(parts.f))
    result = total.high + (total.low + (inner.low + rest))
    return where(abs(high).eq(INF), high + inner.high, result)


@function("asinh", float32=(2.5, 2.5), float64=(2.0, 2.0))
def asinh(x: Num) -> Num:
    """log1p(a + a**2 / (1 + sqrt(1 + a**2))), a = |x|; log(a) + log(2) where a is huge."""
    a = abs(x)
    huge = a >= 2.0 ** (x.format.mant + 5)
    inside = where(huge, a.const(1.0), a)
    square = inside * inside
    argument = inside + square / (sqrt(square + 1.0) + 1.0)
    parts = split_sum(where(huge, a * 0.5, argument))
    k = where(huge, parts.k + 2.0, parts.k)
    result = where(a < INF, log_of(Split(k, parts.f)), a)
    return copysign(where(a < 2.0 ** -(x.format.mant // 2 + 2), a, result), x)


@function("acosh", float32=(2.5, 2.5), float64=(2.0, 2.0))
def acosh(x: Num) -> Num:
    """log1p(t + sqrt(2t + t**2)) with t = x - 1; log(x) + log(2) where x is huge."""
    huge = x >= 2.0 ** (x.format.mant + 5)
    t = where(huge, x.const(1.0), x) - 1.0
    root = sqrt(fma(t, t, t + t))
    argument = root + t
    lost = (t - (argument - root)) / (argument + 1.0)
    parts = split_sum(where(huge, x * 0.5, argument))
    k = where(huge, parts.k + 2.0, parts.k)
    result = log_of(Split(k, parts.f), lost)
    return where(x < 1.0, x.const(NAN), where(x < INF, result, x))


@function("atanh", float32=(2.5, 2.5), float64=(2.0, 2.0))
def atanh(x: Num) -> Num:
    """log1p(2a / (1 - a)) / 2 with a = |x|."""
    a = abs(x)
    parts = split_sum((a + a) / (1.0 - a))
    result = log_of(parts) * 0.5
    result = where(a < 2.0 ** -(x.format.mant // 2 + 2), a, result)
    result = where(a < 1.0, result, where(a.eq(1.0), a.const(INF), NAN))
    return copysign(result, x)
