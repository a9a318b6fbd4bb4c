"""The logistic family: sigmoid, its inverse, their logarithms, and sums of exponentials."""

from __future__ import annotations

import math

import numpy as np

from symgraph.dtypes import floats

from ..define import Formula, elementwise, scipy_special, wide
from .compare import eq, isinf
from .exponential import LN2
from .logic import logical_and
from .select import where


@elementwise("sigmoid", accepts=floats)
class sigmoid(Formula):
    """1 / (1 + exp(-x))."""

    evaluate = scipy_special("expit")

    def vjp(x, y, dy):
        return (dy * (y * (1 - y)),)

    def lower(b, x):
        return b.call("sigmoid", x)


@elementwise("log_sigmoid", accepts=floats)
class log_sigmoid(Formula):
    """log(sigmoid(x)) = -softplus(-x), without overflow or loss."""

    evaluate = wide(lambda x: -np.logaddexp(0.0, -x))

    def vjp(x, y, dy):
        return (dy * sigmoid(-x),)

    def lower(b, x):
        return b.call("log_sigmoid", x)


@elementwise("softplus", accepts=floats)
class softplus(Formula):
    """log(1 + exp(x)), without overflow or loss."""

    evaluate = wide(lambda x: np.logaddexp(0.0, x))

    def vjp(x, y, dy):
        return (dy * sigmoid(x),)

    def lower(b, x):
        return b.call("softplus", x)


def _logit(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        centre = np.log1p((x - 0.5) * 2 / (1 - x))
        return np.where(np.abs(x - 0.5) < 0.25, centre, np.log(x / (1 - x)))


@elementwise("logit", accepts=floats)
class logit(Formula):
    """log(x / (1 - x)), the inverse of sigmoid, accurate near 1/2 too; NaN outside [0, 1]."""

    evaluate = wide(_logit)
    domain = (0.1, 0.9)

    def vjp(x, y, dy):
        return (dy / (x * (1 - x)),)

    def lower(b, x):
        half, one = b.const(0.5, x), b.const(1.0, x)
        rest, offset = b.op("sub", one, x), b.op("sub", x, half)
        centre = b.call("log1p", b.op("div", b.op("add", offset, offset), rest))
        near = b.op("lt", b.op("abs", offset), b.const(0.25, x))
        return b.select(near, centre, b.call("log", b.op("div", x, rest)))


def _difference(x, y):
    """x - y, but 0 for two equal infinities."""
    return where(logical_and(isinf(x), eq(x, y)), 0, x - y)


@elementwise("logaddexp", accepts=floats)
class logaddexp(Formula):
    """log(exp(x) + exp(y)), without overflow."""

    evaluate = wide(np.logaddexp)

    def vjp(x, y, out, dy):
        d = _difference(x, y)
        return dy * sigmoid(d), dy * sigmoid(-d)

    def lower(b, x, y):
        return b.call("logaddexp", x, y)


@elementwise("logaddexp2", accepts=floats)
class logaddexp2(Formula):
    """log2(2**x + 2**y), without overflow."""

    evaluate = wide(np.logaddexp2)

    def vjp(x, y, out, dy):
        d = _difference(x, y) * LN2
        return dy * sigmoid(d), dy * sigmoid(-d)

    def lower(b, x, y):
        gap = b.op("neg", b.op("abs", b.op("sub", x, y)))
        excess = b.op("mul", b.call("log1p", b.call("exp2", gap)), b.const(1.0 / LN2, x))
        total = b.op("add", b.op("max", x, y), excess)
        is_infinite = b.op("eq", b.op("abs", x), b.const(math.inf, x))
        return b.select(b.op("and", is_infinite, b.op("eq", x, y)), x, total)
