"""The Box-Cox transformation, its inverse, and both of 1 + x.

The transformations take their power from pow and are good to a few units; the inverses are
exp(log(1 + lmbda y) / lmbda), where one unit in the exponent is as many units of the result as the
exponent is large. float32 is computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from symgraph.dtypes import floats

from ..define import Formula, elementwise, wide
from .compare import isinf, lt
from .exponential import exprel_slope, log, log1p, polynomial
from .parts import abs
from .select import where

NO_POWER = 1e-19  # below this |lmbda| the power is the logarithm
HALVED = 700.0  # logarithms of powers that are taken as squares of their roots
LARGEST = 1.79e308


def _in_float64(b: Any, formula: Callable[..., Any], x: Any, y: Any) -> Any:
    """The scalar formula on float64 operands, its result in the operands' own dtype."""
    return b.cast(formula(b, b.cast(x, "float64"), b.cast(y, "float64")), b.dtype(x))


class _Numpy:
    """The scalar builder's words over arrays, so that a formula is written once."""

    def const(self, value, like):
        return np.float64(value)

    def call(self, name, *args):
        return (np.power if name == "pow" else getattr(np, name))(*args)

    def select(self, condition, x, y):
        return np.where(condition, x, y)

    def op(self, name, *args):
        return _WORDS[name](*args)


_WORDS: dict[str, Callable[..., Any]] = {
    "mul": np.multiply,
    "div": np.divide,
    "add": np.add,
    "sub": np.subtract,
    "abs": np.abs,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "gt": np.greater,
    "and": np.logical_and,
    "or": np.logical_or,
}


def _meaning(formula: Callable[..., Any]) -> Callable[..., Any]:
    return wide(lambda x, y: formula(_Numpy(), x, y))


def _below(b, x, limit):
    return b.op("lt", b.op("abs", x), b.const(limit, x))


def _transformed(b, logarithm, lmbda, power, as_logarithm):
    """(exp(lmbda logarithm) - 1) / lmbda, or the logarithm itself.

    power(p): exp(p logarithm). Where it could overflow before it is divided it is the square of a
    root.
    """
    one, z = b.const(1.0, lmbda), b.op("mul", lmbda, logarithm)
    moderate = b.op("lt", z, b.const(HALVED, z))
    p = power(b.select(moderate, lmbda, b.op("mul", lmbda, b.const(0.5, lmbda))))
    less_one = b.select(_below(b, z, 0.5), b.call("expm1", z), b.op("sub", p, one))
    huge = b.op("mul", p, b.op("div", p, lmbda))
    result = b.select(moderate, b.op("div", less_one, lmbda), huge)
    result = b.select(b.op("ne", z, z), z, result)
    return b.select(as_logarithm, logarithm, result)


def _boxcox(b, x, lmbda):
    undefined = b.op("lt", x, b.const(0.0, x))
    none = b.op("or", _below(b, lmbda, NO_POWER), undefined)
    return _transformed(b, b.call("log", x), lmbda, lambda p: b.call("pow", x, p), none)


def _boxcox1p(b, x, lmbda):
    one, zero = b.const(1.0, x), b.const(0.0, x)
    total = b.op("add", x, one)
    shadow = b.op("sub", total, one)
    lost = b.op("add", b.op("sub", one, b.op("sub", total, shadow)), b.op("sub", x, shadow))
    some = b.op("gt", b.op("abs", lost), zero)

    def power(p):
        """(total + lost)**p."""
        rest = b.call("exp", b.op("mul", p, b.op("div", lost, total)))
        return b.op("mul", b.call("pow", total, p), b.select(some, rest, one))

    logarithm = b.call("log1p", x)
    tiny = b.op("and", _below(b, logarithm, 1e-289), _below(b, lmbda, 1e273))
    undefined = b.op("lt", total, zero)
    none = b.op("or", b.op("or", _below(b, lmbda, NO_POWER), tiny), undefined)
    return _transformed(b, logarithm, lmbda, power, none)


def _log_of_inverse(b, y, lmbda):
    """log(1 + lmbda y) / lmbda, y where the product is small."""
    u = b.op("mul", lmbda, y)
    shifted = b.op("add", y, b.op("div", b.const(1.0, y), lmbda))
    factors = [b.call("log", b.op("abs", x)) for x in (shifted, lmbda)]
    inside = b.op("lt", u, b.const(LARGEST, u))
    logarithm = b.select(inside, b.call("log1p", u), b.op("add", *factors))
    none = b.op("or", _below(b, u, 1e-17), b.op("eq", lmbda, b.const(0.0, y)))
    return b.select(none, y, b.op("div", logarithm, lmbda))


def _inv_boxcox(b, y, lmbda):
    return b.call("exp", _log_of_inverse(b, y, lmbda))


def _inv_boxcox1p(b, y, lmbda):
    return b.call("expm1", _log_of_inverse(b, y, lmbda))


def _slope_by_power(logarithm, lmbda):
    """The slope of (exp(lmbda L) - 1) / lmbda by lmbda: L**2 exprel'(lmbda L).

    1 / lmbda**2 where L is infinite.
    """
    edge = isinf(logarithm)
    safe = where(edge, 0, logarithm)
    return where(edge, 1 / (lmbda * lmbda), safe * safe * exprel_slope(lmbda * safe))


# u/(1 + u) - log(1 + u) = u**2 (-1/2 + 2u/3 - 3u**2/4 + ...)
_INVERSE_SERIES = tuple((-1.0) ** (k + 1) * (k + 1) / (k + 2) for k in range(17))


def _inverse_slope(y, lmbda):
    """d(log(1 + u) / lmbda)/dlmbda, u = lmbda y."""
    u = lmbda * y
    small = lt(abs(u), 0.1)
    safe = where(small, 1, lmbda)
    series = y * y * polynomial(where(small, u, 0), _INVERSE_SERIES)
    v = safe * y
    return where(small, series, (v / (v + 1) - log1p(v)) / (safe * safe))


@elementwise("boxcox", accepts=floats)
class boxcox(Formula):
    """(x**lmbda - 1) / lmbda; log(x) where lmbda is 0; NaN for negative x.  x, lmbda: floats."""

    evaluate = _meaning(_boxcox)
    domain = (0.3, 3.0)

    def vjp(x, lmbda, out, dy):
        return dy * x ** (lmbda - 1), dy * _slope_by_power(log(x), lmbda)

    def lower(b, x, lmbda):
        return _in_float64(b, _boxcox, x, lmbda)


@elementwise("boxcox1p", accepts=floats)
class boxcox1p(Formula):
    """((1 + x)**lmbda - 1) / lmbda; log(1 + x) where lmbda is 0; NaN for x < -1.

    x, lmbda: floats.
    """

    evaluate = _meaning(_boxcox1p)
    domain = (-0.6, 2.0)

    def vjp(x, lmbda, out, dy):
        return dy * (x + 1) ** (lmbda - 1), dy * _slope_by_power(log1p(x), lmbda)

    def lower(b, x, lmbda):
        return _in_float64(b, _boxcox1p, x, lmbda)


@elementwise("inv_boxcox", accepts=floats)
class inv_boxcox(Formula):
    """(1 + lmbda y)**(1 / lmbda), exp(y) where lmbda is 0: what boxcox takes to y.

    y, lmbda: floats; NaN where lmbda y < -1.
    """

    evaluate = _meaning(_inv_boxcox)
    domain = (-0.5, 1.2)

    def vjp(y, lmbda, out, dy):
        share = dy * out
        return share / (lmbda * y + 1), share * _inverse_slope(y, lmbda)

    def lower(b, y, lmbda):
        return _in_float64(b, _inv_boxcox, y, lmbda)


@elementwise("inv_boxcox1p", accepts=floats)
class inv_boxcox1p(Formula):
    """inv_boxcox(y, lmbda) - 1, accurate near 0: what boxcox1p takes to y.  y, lmbda: floats."""

    evaluate = _meaning(_inv_boxcox1p)
    domain = (-0.5, 1.2)

    def vjp(y, lmbda, out, dy):
        share = dy * (out + 1)
        return share / (lmbda * y + 1), share * _inverse_slope(y, lmbda)

    def lower(b, y, lmbda):
        return _in_float64(b, _inv_boxcox1p, y, lmbda)
