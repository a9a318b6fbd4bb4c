"""Special functions: the error function's family and the gamma function's family."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgraph.dtypes import floats, int32
from symgraph.expr import Expr

from ..define import Formula, elementwise, scipy_special, wide
from .arithmetic import add, sub
from .exponential import exp

_NO_FORMULA = "it has no vector form; SciPy computes it"


@elementwise("erf", accepts=floats)
class erf(Formula):
    """The error function 2/sqrt(pi) * integral of exp(-t*t) from 0 to x."""

    evaluate = scipy_special("erf")

    def vjp(x, y, dy):
        return (dy * (exp(-x * x) * (2 / math.sqrt(math.pi))),)

    def lower(b, x):
        return b.call("erf", x)


@elementwise("erfc", accepts=floats)
class erfc(Formula):
    """1 - erf(x), accurate for large x."""

    evaluate = scipy_special("erfc")

    def vjp(x, y, dy):
        return (dy * (exp(-x * x) * (-2 / math.sqrt(math.pi))),)

    def lower(b, x):
        return b.call("erfc", x)


@elementwise("ndtr", accepts=floats)
class ndtr(Formula):
    """The cumulative distribution of the standard normal: erfc(-x / sqrt(2)) / 2."""

    evaluate = scipy_special("ndtr")

    def vjp(x, y, dy):
        return (dy * (exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))),)

    def lower(b, x):
        tail = b.call("erfc", b.op("mul", x, b.const(-math.sqrt(0.5), x)))
        return b.op("mul", tail, b.const(0.5, x))


@elementwise("erfinv", accepts=floats)
class erfinv(Formula):
    """The inverse of erf; infinite at -1 and 1, NaN outside."""

    evaluate = scipy_special("erfinv")
    host = _NO_FORMULA
    domain = (-0.8, 0.8)

    def vjp(x, y, dy):
        return (dy * (exp(y * y) * (math.sqrt(math.pi) / 2)),)


@elementwise("gamma", accepts=floats)
class gamma(Formula):
    """The gamma function."""

    evaluate = scipy_special("gamma")
    host = _NO_FORMULA
    domain = (0.5, 4.0)

    def vjp(x, y, dy):
        return (dy * (y * digamma(x)),)


@elementwise("lgamma", accepts=floats)
class lgamma(Formula):
    """log |gamma(x)|."""

    evaluate = scipy_special("gammaln")
    host = _NO_FORMULA
    domain = (0.5, 4.0)

    def vjp(x, y, dy):
        return (dy * digamma(x),)


@elementwise("digamma", accepts=floats)
class digamma(Formula):
    """The logarithmic derivative of the gamma function."""

    evaluate = scipy_special("psi")
    host = _NO_FORMULA
    domain = (0.5, 4.0)

    def vjp(x, y, dy):
        return (dy * polygamma(1, x),)


@elementwise("gammasgn", accepts=floats)
class gammasgn(Formula):
    """The sign of gamma: 1, or -1 between -2k - 1 and -2k; NaN at negative integers."""

    evaluate = scipy_special("gammasgn")
    vjp = None

    def lower(b, x):
        one, zero = b.const(1.0, x), b.const(0.0, x)
        whole = b.op("floor", x)
        half = b.op("mul", whole, b.const(0.5, x))
        odd = b.op("ne", half, b.op("floor", half))
        sign = b.select(odd, b.op("neg", one), one)
        sign = b.select(b.op("eq", whole, x), b.const(math.nan, x), sign)
        sign = b.select(b.op("gt", x, zero), one, sign)
        sign = b.select(b.op("eq", x, zero), b.op("copysign", one, x), sign)
        return b.select(b.op("ne", x, x), x, sign)


def _polygamma(order: np.ndarray, x: np.ndarray) -> Any:
    from scipy.special import polygamma as function

    return function(order, x)


@elementwise("polygamma", accepts=floats, fixed={0: int32})
class polygamma(Formula):
    """Derivative number `order` of digamma.  order: integers >= 0; x: floats."""

    evaluate = wide(_polygamma)
    host = _NO_FORMULA
    domain = (0.5, 4.0)

    def vjp(order, x, y, dy):
        return None, dy * polygamma(order + 1, x)


def betaln(x: Any, y: Any) -> Expr:
    """log |beta(x, y)| = lgamma(x) + lgamma(y) - lgamma(x + y)."""
    return sub(add(lgamma(x), lgamma(y)), lgamma(add(x, y)))
