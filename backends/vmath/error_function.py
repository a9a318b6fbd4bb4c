"""erf, erfc and gelu."""

from __future__ import annotations

import math

from . import quotient_tables, tables
from .double import product_error, two_product
from .exponential import exp_between, exp_times, times_power
from .number import Num, at_most, copysign, fma, horner, polynomial, where
from .registry import function

ERF_SATURATION = {"float32": 4.0, "float64": 6.0}  # erf of this is 1
ERFC_UNDERFLOW = {"float32": 10.1, "float64": 27.3}  # erfc of this is 0


def erf_small(x: Num) -> Num:
    """erf(x) for |x| <= 1."""
    return fma(x, polynomial(x * x, tables.ERF[x.format.dtype]), x)


@function("erf", float32=(2.5, 2.5), float64=(2.0, 2.0))
def erf(x: Num) -> Num:
    """An odd polynomial up to 1; 1 - exp(L) above, L = log(erfc|x|) a polynomial in |x| - 2."""
    dtype = x.format.dtype
    a = abs(x)
    t = at_most(a, ERF_SATURATION[dtype]) - 2.0
    large = 1.0 - exp_between(horner(t, tables.LOG_ERFC[dtype]))
    return where(a > 1.0, copysign(large, x), erf_small(x))


@function("erfc", float32=(2.5, 2.5), float64=(2.0, 2.0))
def erfc(x: Num) -> Num:
    """1 - erf(x) for |x| <= 1/2; above, exp(-a*a) g(a) / (1 + 2a) with a = |x|, or 2 minus that.

    g is a polynomial in (a - 4)/(a + 4); what the rounding of a*a lost goes into the exponential.
    """
    dtype = x.format.dtype
    a = at_most(abs(x), ERFC_UNDERFLOW[dtype])
    square = a * a
    constant_lost, constant, *others = tables.ERFCX[dtype]
    variable = (a - 4.0) / (a + 4.0)
    slope = polynomial(variable, others)
    g = fma(variable, slope, constant)
    g_lost = fma(variable, slope, constant - g) + constant_lost
    divisor = fma(a, 2.0, 1.0)
    inverse = 1.0 / divisor
    quotient = g * inverse
    product = two_product(quotient, divisor)
    divisor_lost = 1.0 - (divisor - (a + a))
    rest = (g - product.high) + (g_lost - fma(quotient, divisor_lost, product.low))
    e = exp_times(-square, -product_error(a, a, square), quotient, rest * inverse)
    large = where(x < 0.0, 2.0 - e, e)
    return where(a > 0.5, large, 1.0 - erf_small(x))


GELU_UNDERFLOW = 14.45  # from here on the float32 tail of the normal distribution times a is 0


@function("gelu", float32=(5.5, 6.5), float64=(6.0, 6.0))
def gelu(x: Num) -> Num:
    """x times the normal distribution's share below x: max(x, 0) - |x| Q(|x|), Q the tail.

    float32 takes log2(Q) from a quotient of polynomials. Its bound is in units of the result's last
    place times max(1, x*x) where x is negative: a unit in x moves the tail by about x*x units.
    """
    if x.format.dtype == "float64":
        return x * (erfc(x * -math.sqrt(0.5)) * 0.5)
    a = at_most(abs(x), GELU_UNDERFLOW)
    above = horner(a, quotient_tables.LOG2_TAIL_ABOVE["float32"])
    exponent = above / horner(a, quotient_tables.LOG2_TAIL_BELOW["float32"])
    magic = x.format.magic + 64  # Q times 2**64, so that a * Q rounds once into the subnormals
    shifted = exponent + magic
    r = exponent - (shifted - magic)
    tail = times_power(fma(r, horner(r, tables.EXP2M1["float32"]), 1.0), shifted.bits())
    positive = where(x < 0.0, x * 0.0, x)
    return fma(a * tail, -(2.0**-64), positive)
