"""Exponentials and logarithms."""

from __future__ import annotations

import math

import numpy as np

from symgraph.dtypes import floats, inexact

from ..define import Formula, elementwise, scipy_special, wide
from .compare import eq, lt
from .logic import logical_and
from .select import maximum, where

LN2 = math.log(2.0)
LN10 = math.log(10.0)


@elementwise("exp", accepts=inexact)
class exp(Formula):
    """e**x."""

    evaluate = wide(np.exp)

    def vjp(x, y, dy):
        return (dy * y,)

    def lower(b, x):
        return b.call("exp", x)


@elementwise("exp2", accepts=inexact)
class exp2(Formula):
    """2**x."""

    evaluate = wide(np.exp2)

    def vjp(x, y, dy):
        return (dy * (y * LN2),)

    def lower(b, x):
        return b.call("exp2", x)


@elementwise("exp10", accepts=floats)
class exp10(Formula):
    """10**x."""

    evaluate = scipy_special("exp10")
    domain = (-2.0, 1.0)

    def vjp(x, y, dy):
        return (dy * (y * LN10),)

    def lower(b, x):
        return b.call("exp10", x)


@elementwise("expm1", accepts=inexact)
class expm1(Formula):
    """e**x - 1, accurate near 0."""

    evaluate = wide(np.expm1)

    def vjp(x, y, dy):
        return (dy * (y + 1),)

    def lower(b, x):
        return b.call("expm1", x)


def polynomial(x, coefficients):
    """A polynomial as an expression, lowest coefficient first."""
    result = x * coefficients[-1] + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        result = result * x + c
    return result


def _exprel(x):
    top = np.minimum(x, 700)
    quotient = np.expm1(top) / np.where(x == 0, 1, top)
    half = np.exp(x * 0.5)
    return np.where(x == 0, 1, np.where(x > 700, half * (half / np.minimum(x, 1e4)), quotient))


# exprel'(x) = 1/2 + x/3 + x**2/8 + ...
_EXPREL_SLOPE = tuple((k + 1) / math.factorial(k + 2) for k in range(15))


def exprel_slope(x):
    """The derivative of exprel: a series near 0, where (exp(x) - exprel(x)) / x cancels."""
    small, negative = lt(maximum(x, -x), 0.5), lt(x, 0)
    away = where(small, 1, x)
    y = exprel(away)
    below = (exp(where(negative, away, 0)) - y) / away
    above = y * (1 - 1 / away) + 1 / away
    return where(
        small, polynomial(where(small, x, 0), _EXPREL_SLOPE), where(negative, below, above)
    )


@elementwise("exprel", accepts=floats)
class exprel(Formula):
    """(exp(x) - 1) / x, and 1 at 0."""

    evaluate = wide(_exprel)

    def vjp(x, y, dy):
        return (dy * exprel_slope(x),)

    def lower(b, x):
        return b.call("exprel", x)


@elementwise("log", accepts=inexact)
class log(Formula):
    """Natural logarithm; -inf at 0, NaN below."""

    evaluate = wide(np.log)
    domain = (0.2, 3.0)

    def vjp(x, y, dy):
        return (dy / x,)

    def lower(b, x):
        return b.call("log", x)


@elementwise("log2", accepts=inexact)
class log2(Formula):
    """Logarithm to base 2; -inf at 0, NaN below."""

    evaluate = wide(np.log2)
    domain = (0.2, 3.0)

    def vjp(x, y, dy):
        return (dy / (x * LN2),)

    def lower(b, x):
        return b.call("log2", x)


@elementwise("log10", accepts=inexact)
class log10(Formula):
    """Logarithm to base 10; -inf at 0, NaN below."""

    evaluate = wide(np.log10)
    domain = (0.2, 3.0)

    def vjp(x, y, dy):
        return (dy / (x * LN10),)

    def lower(b, x):
        return b.call("log10", x)


@elementwise("log1p", accepts=inexact)
class log1p(Formula):
    """log(1 + x), accurate near 0."""

    evaluate = wide(np.log1p)
    domain = (-0.8, 3.0)

    def vjp(x, y, dy):
        return (dy / (x + 1),)

    def lower(b, x):
        return b.call("log1p", x)


def ratio(x, y):
    """x / y, but 0 where both are 0."""
    return x / where(logical_and(eq(x, 0), eq(y, 0)), 1, y)


def _times_log(b, x, y, logarithm):
    """x * logarithm, but 0 where x is 0 and y is not NaN."""
    zero = b.const(0.0, x)
    vanishes = b.op("and", b.op("eq", x, zero), b.op("eq", y, y))
    return b.select(vanishes, zero, b.op("mul", x, logarithm))


@elementwise("xlogy", accepts=floats)
class xlogy(Formula):
    """x * log(y), and 0 where x is 0 unless y is NaN."""

    evaluate = scipy_special("xlogy")
    domain = (0.2, 3.0)

    def vjp(x, y, out, dy):
        return dy * log(y), dy * ratio(x, y)

    def lower(b, x, y):
        return _times_log(b, x, y, b.call("log", y))


@elementwise("xlog1py", accepts=floats)
class xlog1py(Formula):
    """x * log(1 + y), and 0 where x is 0 unless y is NaN."""

    evaluate = scipy_special("xlog1py")
    domain = (-0.8, 3.0)

    def vjp(x, y, out, dy):
        return dy * log1p(y), dy * ratio(x, y + 1)

    def lower(b, x, y):
        return _times_log(b, x, y, b.call("log1p", y))
