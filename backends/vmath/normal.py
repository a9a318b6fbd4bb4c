"""The normal distribution's tails and quantiles: erfcx, log_ndtr, ndtri."""

from __future__ import annotations

import math
from typing import NamedTuple

from symgraph.ops.normal import PPND7, PPND16, Rational

from . import tables
from .double import product_error
from .error_function import ERFC_UNDERFLOW, erf_small
from .exponential import LIMITS, exp_between, exp_careful, exp_times
from .logarithm import Split, log_of, split, split_sum
from .number import Num, at_least, at_most, copysign, fma, horner, polynomial, sqrt, where
from .registry import function

INF, NAN = math.inf, math.nan
# a sqrt(pi) erfcx(a) in 1/a**2 for large a: 1, -1/2, 1*3/4, -1*3*5/8, ...
ASYMPTOTIC = tuple(math.prod(range(1, 2 * k, 2)) / (-2.0) ** k for k in range(8))
TERMS = {"float32": 5, "float64": 8}
ERFCX_OVERFLOW = {"float32": 9.5, "float64": 26.7}  # erfcx of minus this is infinite


def tail(a: Num) -> Num:
    """exp(a*a) erfc(a) for a >= 1/2: g(a) / (1 + 2a) as in erfc, the asymptotic series beyond."""
    dtype = a.format.dtype
    end = ERFC_UNDERFLOW[dtype]
    inside = at_most(a, end)
    constant_lost, constant, *others = tables.ERFCX[dtype]
    variable = (inside - 4.0) / (inside + 4.0)
    g = fma(variable, polynomial(variable, others), constant_lost) + constant
    inverse = 1.0 / a
    far = horner(inverse * inverse, ASYMPTOTIC[: TERMS[dtype]]) * (1.0 / math.sqrt(math.pi))
    return where(a < end, g / fma(inside, 2.0, 1.0), far * inverse)


def near(x: Num) -> Num:
    """exp(x*x) (1 - erf(x)) for |x| <= 1/2."""
    inside = at_least(at_most(x, 0.5), -0.5)
    exp_of = exp_careful if x.format.dtype == "float64" else exp_between
    return exp_of(inside * inside) * (1.0 - erf_small(inside))


@function("erfcx", float32=(3.5, 3.5), float64=(3.5, 3.5))
def erfcx(x: Num) -> Num:
    """exp(x*x) erfc(x); 2 exp(x*x) - erfcx(-x) for negative x."""
    a = abs(x)
    large = tail(a)
    b = at_most(a, ERFCX_OVERFLOW[x.format.dtype])
    square, two = b * b, b.const(2.0)
    twice = exp_times(square, product_error(b, b, square), two, b.const(0.0))
    return where(a > 0.5, where(x < 0.0, twice - large, large), near(x))


@function("log_ndtr", float32=(4.0, 5.0), float64=(4.0, 4.0))
def log_ndtr(x: Num) -> Num:
    """One logarithm of log(1 + u) or of y, and what is added to it.

    With t = |x| / sqrt(2) up to 1/2: log(1 + erf(x / sqrt(2))) - log(2). Below:
    log(erfcx(t) / 2) - x*x/2. Above: log(1 - exp(-x*x/2) erfcx(t) / 2), whose exponent takes what
    the rounding of x*x lost; near 1 log(1 - (1 - erf(t)) / 2) is more exact.
    """
    a = abs(x)
    t = a * math.sqrt(0.5)
    centre, negative = t < 0.5, x < 0.0
    half = tail(t) * 0.5
    square = a * (a * 0.5)
    b = at_most(a, math.sqrt(-2.0 * LIMITS[x.format.dtype].underflow))
    twice = b * b
    exact = twice * -0.5
    above = exp_times(exact, product_error(b, b, twice) * -0.5, half, half.const(0.0))
    erf = erf_small(at_most(t, 1.0))
    above = where(t < 0.68, fma(erf, -0.5, 0.5), above)
    u = where(centre, copysign(erf, x), -above)
    from_sum, from_y = split_sum(u), split(half)
    below = negative & ~centre
    parts = Split(where(below, from_y.k, from_sum.k), where(below, from_y.f, from_sum.f))
    result = log_of(parts) - where(centre, x.const(math.log(2.0)), where(below, square, 0.0))
    result = where(below | centre | (above > 2.0 ** -(x.format.mant + 2)), result, -above)
    return where(x.eq(x), result, x)


class Quantile(NamedTuple):
    """AS 241 for one format: the rational functions near 1/2, in the tail and far out."""

    centre: Rational
    tail: Rational
    far: Rational


# PPND7's far form, which the generator of normal numbers does not need.
# Source: Wichura, Applied Statistics 37 (1988).
PPND7_FAR = Rational(
    (6.6579051150e0, 3.0812263860e0, 4.2868294337e-1, 1.7337203997e-2),
    (1.0, 2.4197894225e-1, 1.2258202635e-2),
    5.0,
)
assert PPND16.far is not None
QUANTILE = {
    "float32": Quantile(PPND7.centre, PPND7.tail, PPND7_FAR),
    "float64": Quantile(PPND16.centre, PPND16.tail, PPND16.far),
}


@function("ndtri", float32=(3.0, 3.0), float64=(6.0, 6.0))
def ndtri(p: Num) -> Num:
    """The quantile of the standard normal by AS 241.

    With q = p - 1/2 near 1/2, else r = sqrt(-log(min(p, 1 - p))). float32 takes its short form, in
    float64: the form itself is good to 2 units.
    """
    dtype = p.format.dtype
    method = QUANTILE[dtype]
    p = p.to("float64")
    q = p - 0.5
    centre = q * _quotient(fma(-q, q, 0.180625), method.centre)
    least = where(q < 0.0, p, 1.0 - p)
    r = sqrt(-log_of(split(least)))
    beyond = where(r > 5.0, _quotient(r, method.far), _quotient(r, method.tail))
    result = where(abs(q) <= 0.425, centre, copysign(beyond, q))
    result = where(least > 0.0, result, copysign(p.const(INF), q))
    return where((p >= 0.0) & (p <= 1.0), result, p.const(NAN)).to(dtype)


def _quotient(x: Num, ratio: Rational) -> Num:
    """A rational function in x - shift."""
    y = x - ratio.shift if ratio.shift else x
    return horner(y, ratio.above) / horner(y, ratio.below)
