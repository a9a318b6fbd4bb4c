"""Tails and quantiles of the normal distribution: erfcx, log_ndtr, ndtri."""

from __future__ import annotations

import math

import numpy as np

from symgraph.dtypes import floats

from ..define import Formula, elementwise, scipy_special, wide
from .compare import gt
from .exponential import exp, polynomial
from .select import where

# -sqrt(pi) x**2 erfcx'(x) in 1/x**2: 1, -1*3/2, 1*3*5/4, ...
_SLOPE_SERIES = tuple(math.prod(range(1, 2 * k + 2, 2)) / (-2.0) ** k for k in range(11))
_FAR = 12.0


@elementwise("erfcx", accepts=floats)
class erfcx(Formula):
    """exp(x*x) erfc(x), which neither vanishes nor loses digits for large x."""

    evaluate = scipy_special("erfcx")
    domain = (-1.0, 3.0)

    def vjp(x, y, dy):
        far = gt(x, _FAR)
        inverse = 1 / where(far, x, _FAR)
        square = inverse * inverse
        series = square * polynomial(square, _SLOPE_SERIES) * (-1 / math.sqrt(math.pi))
        return (dy * where(far, series, 2 * where(far, 0, x) * y - 2 / math.sqrt(math.pi)),)

    def lower(b, x):
        return b.call("erfcx", x)


def _log_ndtr(x):
    """SciPy's below 1; above, with a square that loses nothing (its top bits, and the rest)."""
    import scipy.special

    a = np.clip(x, 1.0, 40.0)
    top = np.trunc(a * 16) / 16
    square = np.exp(top * top * -0.5) * np.exp((a - top) * (a + top) * -0.5)
    above = np.log1p(square * scipy.special.erfcx(a * math.sqrt(0.5)) * -0.5)
    return np.where(x > 1, above, scipy.special.log_ndtr(x))


@elementwise("log_ndtr", accepts=floats)
class log_ndtr(Formula):
    """The logarithm of ndtr, accurate in both tails."""

    evaluate = wide(_log_ndtr)

    def vjp(x, y, dy):
        return (dy * (math.sqrt(2 / math.pi) / erfcx(x * -math.sqrt(0.5))),)

    def lower(b, x):
        return b.call("log_ndtr", x)


@elementwise("ndtri", accepts=floats)
class ndtri(Formula):
    """The quantile of the standard normal, the inverse of ndtr; NaN outside of [0, 1]."""

    evaluate = scipy_special("ndtri")
    domain = (0.2, 0.8)

    def vjp(p, y, dy):
        return (dy * (exp(y * y * 0.5) * math.sqrt(2 * math.pi)),)

    def lower(b, p):
        return b.call("ndtri", p)
