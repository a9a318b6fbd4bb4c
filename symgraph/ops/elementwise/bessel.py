"""Modified Bessel functions of the first kind, orders 0 and 1, plain and times exp(-|x|)."""

from __future__ import annotations

import numpy as np

from symgraph.dtypes import floats

from ..define import Formula, elementwise, scipy_special
from .compare import eq
from .parts import sign
from .select import where


def _with_infinities(name, order):
    """SciPy's function, which is NaN at the infinities."""
    function = scipy_special(name)

    def evaluate(x):
        size = np.where(np.isinf(x), np.inf, np.abs(function(x)))
        return np.copysign(size, x) if order else size

    return evaluate


def _over(y, x):
    """y / x for y = 0 where x = 0, whose limit there is 1/2."""
    origin = eq(x, 0)
    return where(origin, 0.5, y / where(origin, 1, x))


@elementwise("i0", accepts=floats)
class i0(Formula):
    """The modified Bessel function of order 0."""

    evaluate = _with_infinities("i0", 0)

    def vjp(x, y, dy):
        return (dy * i1(x),)

    def lower(b, x):
        return b.call("i0", x)


@elementwise("i1", accepts=floats)
class i1(Formula):
    """The modified Bessel function of order 1."""

    evaluate = _with_infinities("i1", 1)

    def vjp(x, y, dy):
        return (dy * (i0(x) - _over(y, x)),)

    def lower(b, x):
        return b.call("i1", x)


@elementwise("i0e", accepts=floats)
class i0e(Formula):
    """exp(-|x|) i0(x). The derivative at 0 is taken as 0."""

    evaluate = scipy_special("i0e")
    kinks = (0.0,)

    def vjp(x, y, dy):
        return (dy * (i1e(x) - sign(x) * y),)

    def lower(b, x):
        return b.call("i0e", x)


@elementwise("i1e", accepts=floats)
class i1e(Formula):
    """exp(-|x|) i1(x)."""

    evaluate = scipy_special("i1e")
    kinks = (0.0,)

    def vjp(x, y, dy):
        return (dy * (i0e(x) - sign(x) * y - _over(y, x)),)

    def lower(b, x):
        return b.call("i1e", x)
