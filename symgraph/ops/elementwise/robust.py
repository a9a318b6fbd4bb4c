"""Huber's losses: squares of small residuals, absolute values of large ones."""

from __future__ import annotations

import math

import numpy as np

from symgraph.dtypes import floats

from ..define import Formula, elementwise
from .compare import eq, le
from .parts import abs
from .root import hypot
from .select import clip, where


def _huber(delta, r):
    size = np.abs(r)
    loss = np.where(size <= delta, 0.5 * r * r, delta * (size - 0.5 * delta))
    return np.where(delta < 0, np.inf, loss)


@elementwise("huber", accepts=floats)
class huber(Formula):
    """r*r / 2 where |r| <= delta, else delta (|r| - delta/2); inf where delta is negative.

    delta, r: floats.
    """

    evaluate = _huber
    domain = (0.3, 3.0)
    apart = True

    def vjp(delta, r, out, dy):
        excess = where(le(abs(r), delta), 0, abs(r) - delta)
        return dy * excess, dy * clip(r, -delta, delta)

    def lower(b, delta, r):
        half, size = b.const(0.5, r), b.op("abs", r)
        square = b.op("mul", b.op("mul", half, r), r)
        line = b.op("mul", delta, b.op("sub", size, b.op("mul", half, delta)))
        loss = b.select(b.op("le", size, delta), square, line)
        negative = b.op("lt", delta, b.const(0.0, delta))
        return b.select(negative, b.const(math.inf, r), loss)


def _pseudo_huber(delta, r):
    a = np.abs(r)
    within = a <= delta
    least, most = np.minimum(a, delta), np.maximum(a, delta)
    t = least / most
    root = np.sqrt(1 + t * t)
    loss = least * (a / (root + np.where(within, 1, t) + (delta - delta)))
    loss = np.where((delta == 0) | (r == 0), 0, loss)
    return np.where(delta < 0, np.inf, loss)


@elementwise("pseudo_huber", accepts=floats)
class pseudo_huber(Formula):
    """delta**2 (sqrt(1 + (r / delta)**2) - 1); 0 where delta or r is 0, inf where delta is
    negative, NaN where it is infinite.

    delta, r: floats. Computed as a product that neither cancels nor overflows on the way.
    """

    evaluate = _pseudo_huber
    domain = (0.3, 3.0)

    def vjp(delta, r, out, dy):
        safe = where(eq(delta, 0), 1, delta)
        root = where(eq(delta, 0), 1, hypot(delta, r))
        part = out / safe
        return dy * (part * (part / root)), dy * (safe * (r / root)) * where(eq(delta, 0), 0, 1)

    def lower(b, delta, r):
        zero, one, size = b.const(0.0, r), b.const(1.0, r), b.op("abs", r)
        least, most = b.op("min", size, delta), b.op("max", size, delta)
        t = b.op("div", least, most)
        root = b.op("sqrt", b.op("add", one, b.op("mul", t, t)))
        within = b.op("le", size, delta)
        # delta - delta: NaN where it is infinite
        rest = b.op("add", b.select(within, one, t), b.op("sub", delta, delta))
        loss = b.op("mul", least, b.op("div", size, b.op("add", root, rest)))
        none = b.op("or", b.op("eq", delta, zero), b.op("eq", r, zero))
        loss = b.select(none, zero, loss)
        return b.select(b.op("lt", delta, zero), b.const(math.inf, r), loss)
