"""Circular and hyperbolic functions, their inverses, sinc and degrees."""

from __future__ import annotations

import math

import numpy as np

from symgraph.dtypes import floats, inexact

from ..define import Formula, elementwise, wide
from .compare import eq, lt
from .parts import abs
from .root import hypot, sqrt
from .select import where


@elementwise("sin", accepts=inexact)
class sin(Formula):
    """Sine of x radians."""

    evaluate = wide(np.sin)

    def vjp(x, y, dy):
        return (dy * cos(x),)

    def lower(b, x):
        return b.call("sin", x)


@elementwise("cos", accepts=inexact)
class cos(Formula):
    """Cosine of x radians."""

    evaluate = wide(np.cos)

    def vjp(x, y, dy):
        return (-dy * sin(x),)

    def lower(b, x):
        return b.call("cos", x)


@elementwise("cosm1", accepts=floats)
class cosm1(Formula):
    """cos(x) - 1 = -2 sin(x/2)**2, accurate near 0."""

    evaluate = wide(lambda x: 0.0 - 2 * np.sin(x / 2) ** 2)

    def vjp(x, y, dy):
        return (dy * -sin(x),)

    def lower(b, x):
        s = b.call("sin", b.op("mul", x, b.const(0.5, x)))
        return b.op("sub", b.const(0.0, x), b.op("mul", s, b.op("add", s, s)))


@elementwise("tan", accepts=inexact)
class tan(Formula):
    """Tangent of x radians."""

    evaluate = wide(np.tan)
    domain = (-1.2, 1.2)

    def vjp(x, y, dy):
        return (dy * (y * y + 1),)

    def lower(b, x):
        return b.call("tan", x)


@elementwise("asin", accepts=inexact)
class asin(Formula):
    """Inverse sine, in [-pi/2, pi/2]; NaN outside [-1, 1]."""

    evaluate = wide(np.arcsin)
    domain = (-0.8, 0.8)

    def vjp(x, y, dy):
        return (dy / sqrt((1 - x) * (1 + x)),)

    def lower(b, x):
        return b.call("asin", x)


@elementwise("acos", accepts=inexact)
class acos(Formula):
    """Inverse cosine, in [0, pi]; NaN outside [-1, 1]."""

    evaluate = wide(np.arccos)
    domain = (-0.8, 0.8)

    def vjp(x, y, dy):
        return (-dy / sqrt((1 - x) * (1 + x)),)

    def lower(b, x):
        return b.call("acos", x)


@elementwise("atan", accepts=inexact)
class atan(Formula):
    """Inverse tangent, in [-pi/2, pi/2]."""

    evaluate = wide(np.arctan)

    def vjp(x, y, dy):
        return (dy / (x * x + 1),)

    def lower(b, x):
        return b.call("atan", x)


@elementwise("atan2", accepts=floats)
class atan2(Formula):
    """The angle of the point (x, y) from the x axis, in [-pi, pi]; note the order: atan2(y, x).

    Gradient 0 at (0, 0).
    """

    evaluate = wide(np.arctan2)
    domain = (0.3, 3.0)

    def vjp(y, x, out, dy):
        r = hypot(x, y)
        safe = where(eq(r, 0), 1, r)
        return dy * (x / safe / safe), -dy * (y / safe / safe)

    def lower(b, y, x):
        return b.call("atan2", y, x)


@elementwise("sinh", accepts=inexact)
class sinh(Formula):
    """Hyperbolic sine."""

    evaluate = wide(np.sinh)

    def vjp(x, y, dy):
        return (dy * cosh(x),)

    def lower(b, x):
        return b.call("sinh", x)


@elementwise("cosh", accepts=inexact)
class cosh(Formula):
    """Hyperbolic cosine."""

    evaluate = wide(np.cosh)

    def vjp(x, y, dy):
        return (dy * sinh(x),)

    def lower(b, x):
        return b.call("cosh", x)


@elementwise("tanh", accepts=inexact)
class tanh(Formula):
    """Hyperbolic tangent."""

    evaluate = wide(np.tanh)

    def vjp(x, y, dy):
        return (dy * (1 - y * y),)

    def lower(b, x):
        return b.call("tanh", x)


@elementwise("asinh", accepts=inexact)
class asinh(Formula):
    """Inverse hyperbolic sine."""

    evaluate = wide(np.arcsinh)

    def vjp(x, y, dy):
        return (dy / sqrt(x * x + 1),)

    def lower(b, x):
        return b.call("asinh", x)


@elementwise("acosh", accepts=inexact)
class acosh(Formula):
    """Inverse hyperbolic cosine, not negative; NaN below 1."""

    evaluate = wide(np.arccosh)
    domain = (1.2, 4.0)

    def vjp(x, y, dy):
        return (dy / (sqrt(x - 1) * sqrt(x + 1)),)

    def lower(b, x):
        return b.call("acosh", x)


@elementwise("atanh", accepts=inexact)
class atanh(Formula):
    """Inverse hyperbolic tangent; infinite at -1 and 1, NaN outside."""

    evaluate = wide(np.arctanh)
    domain = (-0.8, 0.8)

    def vjp(x, y, dy):
        return (dy / ((1 - x) * (1 + x)),)

    def lower(b, x):
        return b.call("atanh", x)


# d(sin t / t)/dt = t * polynomial in t*t: the Taylor coefficients, lowest first.
_SINC_SLOPE = [(-1) ** k * 2 * k / math.factorial(2 * k + 1) for k in range(1, 10)]


def _sinc_slope(x, y):
    """d sinc/dx = (cos(pi x) - y) / x; near 0, where that cancels, by its series."""
    near = lt(abs(x), 0.25)
    t = x * math.pi
    square = t * t
    series = _SINC_SLOPE[-1]
    for coefficient in reversed(_SINC_SLOPE[:-1]):
        series = series * square + coefficient
    safe = where(near, 1, x)
    return where(near, series * t * math.pi, (cos(t) - y) / safe)


def _sinc(x: np.ndarray) -> np.ndarray:
    """np.sinc, but with the sine of x less its whole part, so that it is 0 at whole numbers."""
    whole = np.rint(x)
    wave = np.sin((x - whole) * math.pi) * np.where(np.fmod(whole, 2) == 0, 1.0, -1.0)
    return np.where(x == 0, 1.0, wave / (np.where(x == 0, 1.0, x) * math.pi))


@elementwise("sinc", accepts=floats)
class sinc(Formula):
    """sin(pi x) / (pi x), and 1 at 0."""

    evaluate = wide(_sinc)

    def vjp(x, y, dy):
        return (dy * _sinc_slope(x, y),)

    def lower(b, x):
        zero, one, pi = b.const(0.0, x), b.const(1.0, x), b.const(math.pi, x)
        whole = b.op("roundeven", x)
        half = b.op("mul", whole, b.const(0.5, x))
        wave = b.call("sin", b.op("mul", b.op("sub", x, whole), pi))
        wave = b.select(b.op("eq", b.op("floor", half), half), wave, b.op("neg", wave))
        at_zero = b.op("eq", x, zero)
        ratio = b.op("div", wave, b.op("mul", b.select(at_zero, one, x), pi))
        return b.select(at_zero, one, ratio)


@elementwise("deg2rad", accepts=floats)
class deg2rad(Formula):
    """Degrees to radians."""

    def evaluate(x):
        return x * (math.pi / 180)

    def vjp(x, y, dy):
        return (dy * (math.pi / 180),)

    def lower(b, x):
        return b.op("mul", x, b.const(math.pi / 180, x))


@elementwise("rad2deg", accepts=floats)
class rad2deg(Formula):
    """Radians to degrees."""

    def evaluate(x):
        return x * (180 / math.pi)

    def vjp(x, y, dy):
        return (dy * (180 / math.pi),)

    def lower(b, x):
        return b.op("mul", x, b.const(180 / math.pi, x))
