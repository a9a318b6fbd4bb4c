"""Entropies and divergences, element by element, with SciPy's values at the edges."""

from __future__ import annotations

import math

import numpy as np

from symgraph.dtypes import floats

from ..define import Formula, elementwise, scipy_special, wide
from .compare import eq, ge
from .exponential import log, log1p, ratio
from .logic import logical_and
from .select import where


def _log_ratio(x, y):
    """log(x / y) of positive numbers, accurate where they are close."""
    return where(ge(x, y), log1p((x - y) / y), -log1p((y - x) / x))


@elementwise("entr", accepts=floats)
class entr(Formula):
    """-x log(x), 0 at 0, -inf below."""

    evaluate = scipy_special("entr")
    domain = (0.2, 3.0)

    def vjp(x, y, dy):
        return (dy * (-log(x) - 1),)

    def lower(b, x):
        zero = b.const(0.0, x)
        inside = b.op("neg", b.op("mul", x, b.call("log", x)))
        beside = b.select(b.op("lt", x, zero), b.const(-math.inf, x), x)
        beside = b.select(b.op("eq", x, zero), zero, beside)
        return b.select(b.op("gt", x, zero), inside, beside)


def _positive_log_ratio(b, x, y):
    """log(x / y): log1p(|x - y| / min(x, y)) with the sign of x - y.

    Where that quotient overflows, through its square root, scaled by 2**-30.
    """
    least = b.op("min", x, y)
    distance = b.op("abs", b.op("sub", x, y))
    quotient = b.op("div", distance, least)
    beyond = b.op("gt", quotient, b.const(_LARGEST[b.dtype(x)], x))
    root = b.op(
        "div", b.op("sqrt", b.op("mul", distance, b.const(2.0**-60, x))), b.op("sqrt", least)
    )
    logarithm = b.call("log1p", b.select(beyond, root, quotient))
    doubled = b.op("add", b.op("add", logarithm, logarithm), b.const(60 * math.log(2), x))
    size = b.select(beyond, doubled, logarithm)
    return b.select(b.op("ge", x, y), size, b.op("neg", size))


_LARGEST = {"float32": (2.0**24 - 1) * 2.0**104, "float64": (2.0**53 - 1) * 2.0**971}


def _in_quadrant(b, x, y, inside, on_axis):
    """inside for x, y > 0; on_axis for x = 0 <= y; NaN for NaN; else inf."""
    zero = b.const(0.0, x)
    positive = b.op("and", b.op("gt", x, zero), b.op("gt", y, zero))
    axis = b.op("and", b.op("eq", x, zero), b.op("ge", y, zero))
    unordered = b.op("or", b.op("ne", x, x), b.op("ne", y, y))
    outside = b.select(unordered, b.const(math.nan, x), b.const(math.inf, x))
    return b.select(positive, inside, b.select(axis, on_axis, outside))


@elementwise("rel_entr", accepts=floats)
class rel_entr(Formula):
    """x log(x / y); 0 where x = 0 <= y; inf where x or y is negative, or y is 0 alone."""

    evaluate = scipy_special("rel_entr")
    domain = (0.3, 3.0)

    def vjp(x, y, out, dy):
        both = logical_and(eq(x, 0), eq(y, 0))
        return dy * where(both, 0, _log_ratio(x, y) + 1), dy * -ratio(x, y)

    def lower(b, x, y):
        inside = b.op("mul", x, _positive_log_ratio(b, x, y))
        return _in_quadrant(b, x, y, inside, b.const(0.0, x))


# 1/3, 1/5, 1/7, ...: atanh(s) = s + s**3 (1/3 + s**2/5 + ...)
_ATANH = tuple(1 / (2 * k + 3) for k in range(18))
_TERMS = {"float32": 8, "float64": 18}


def _near_divergence(x, y):
    """r - log(1 + r) with r = (y - x) / x between -1/2 and 1, where the difference cancels.

    log(1 + r) = 2 atanh(s) with s = r / (2 + r), and r - 2s = r s.
    """
    r = (y - x) / x
    s = r / (r + 2)
    z = s * s
    return r * s - 2 * s * z * np.polyval(_ATANH[::-1], z)


def _divergence(x, y):
    with np.errstate(all="ignore"):
        near = x * _near_divergence(x, y)
        far = x * (np.log(x / y) - 1) + y
        odd = (x / y == 0) | np.isinf(x / y)
        far = np.where(odd, x * (np.log(x) - np.log(y) - 1) + y, far)
        inside = np.where((x <= y * 2) & (y <= x * 2), near, np.where(np.isinf(x), np.nan, far))
        beside = np.where(np.isnan(x) | np.isnan(y), np.nan, np.inf)
        beside = np.where((x == 0) & (y >= 0), y, beside)
        return np.where((x > 0) & (y > 0), inside, beside)


@elementwise("kl_div", accepts=floats)
class kl_div(Formula):
    """x log(x / y) - x + y without cancellation; y where x = 0 <= y; inf where x or y is negative,
    or y is 0 alone."""

    evaluate = wide(_divergence)
    domain = (0.3, 3.0)

    def vjp(x, y, out, dy):
        both = logical_and(eq(x, 0), eq(y, 0))
        return dy * where(both, 0, _log_ratio(x, y)), dy * (1 - ratio(x, y))

    def lower(b, x, y):
        two = b.const(2.0, x)
        r = b.op("div", b.op("sub", y, x), x)
        s = b.op("div", r, b.op("add", r, two))
        z = b.op("mul", s, s)
        series = b.const(_ATANH[_TERMS[b.dtype(x)] - 1], x)
        for c in reversed(_ATANH[: _TERMS[b.dtype(x)] - 1]):
            series = b.op("fma", series, z, b.const(c, x))
        cubic = b.op("mul", b.op("mul", b.op("mul", two, s), z), series)
        near = b.op("mul", x, b.op("sub", b.op("mul", r, s), cubic))
        less = b.op("sub", _positive_log_ratio(b, x, y), b.const(1.0, x))
        far = b.op("add", b.op("mul", x, less), y)
        infinite = b.op("eq", x, b.const(math.inf, x))
        far = b.select(infinite, b.const(math.nan, x), far)
        below = b.op("le", x, b.op("mul", y, two))
        close = b.op("and", below, b.op("le", y, b.op("mul", x, two)))
        return _in_quadrant(b, x, y, b.select(close, near, far), y)
