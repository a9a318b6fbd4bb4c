"""Logic of truth values and of bits; shifts; none has a derivative."""

from __future__ import annotations

import numpy as np

from symgraph.dtypes import bool_, dtype, integers, uint8

from ..define import Formula, elementwise

bitwise = (bool_, *integers)
two_truths = {0: bool_, 1: bool_}


@elementwise("logical_and", result=bool_, fixed=two_truths)
class logical_and(Formula):
    """Whether x and y are both non-zero; NaN counts as non-zero."""

    evaluate = np.logical_and
    vjp = None

    def lower(b, x, y):
        return b.op("and", x, y)


@elementwise("logical_or", result=bool_, fixed=two_truths)
class logical_or(Formula):
    """Whether x or y is non-zero; NaN counts as non-zero."""

    evaluate = np.logical_or
    vjp = None

    def lower(b, x, y):
        return b.op("or", x, y)


@elementwise("logical_xor", result=bool_, fixed=two_truths)
class logical_xor(Formula):
    """Whether exactly one of x and y is non-zero; NaN counts as non-zero."""

    evaluate = np.logical_xor
    vjp = None

    def lower(b, x, y):
        return b.op("xor", x, y)


@elementwise("logical_not", result=bool_, fixed={0: bool_})
class logical_not(Formula):
    """Whether x is zero; NaN counts as non-zero."""

    evaluate = np.logical_not
    vjp = None

    def lower(b, x):
        return b.op("not", x)


@elementwise("bitwise_and", accepts=bitwise)
class bitwise_and(Formula):
    """Bits set in both.  x, y: integers or bools."""

    evaluate = np.bitwise_and
    vjp = None

    def lower(b, x, y):
        return b.op("and", x, y)


@elementwise("bitwise_or", accepts=bitwise)
class bitwise_or(Formula):
    """Bits set in either.  x, y: integers or bools."""

    evaluate = np.bitwise_or
    vjp = None

    def lower(b, x, y):
        return b.op("or", x, y)


@elementwise("bitwise_xor", accepts=bitwise)
class bitwise_xor(Formula):
    """Bits set in exactly one.  x, y: integers or bools."""

    evaluate = np.bitwise_xor
    vjp = None

    def lower(b, x, y):
        return b.op("xor", x, y)


@elementwise("invert", accepts=bitwise)
class invert(Formula):
    """Every bit turned over: -x - 1 for signed integers, `not` for bools."""

    evaluate = np.invert
    vjp = None

    def lower(b, x):
        return b.op("not", x)


def _in_width(b, count):
    """Whether a shift count is in [0, width), and the width less one."""
    d = dtype(b.dtype(count))
    below = b.op("lt", count, b.const(d.bits, count))
    if d.is_signed:
        below = b.op("and", below, b.op("ge", count, b.const(0, count)))
    return below, b.const(d.bits - 1, count)


@elementwise("left_shift", accepts=integers)
class left_shift(Formula):
    """x * 2**n with the high bits lost; 0 if n is negative or not below the width.

    x, n: integers.
    """

    evaluate = np.left_shift
    vjp = None

    def lower(b, x, n):
        valid, last = _in_width(b, n)
        return b.select(valid, b.op("shl", x, b.select(valid, n, last)), b.const(0, x))


@elementwise("right_shift", accepts=integers)
class right_shift(Formula):
    """floor(x / 2**n); 0, or -1 for negative x, if n is negative or not below the width.

    x, n: integers.
    """

    evaluate = np.right_shift
    vjp = None

    def lower(b, x, n):
        valid, last = _in_width(b, n)
        shifted = b.op("shr", x, b.select(valid, n, last))
        if dtype(b.dtype(x)).is_signed:
            return shifted
        return b.select(valid, shifted, b.const(0, x))


@elementwise("bitwise_count", accepts=integers, result=uint8)
class bitwise_count(Formula):
    """Number of set bits of abs(x), as NumPy counts.  x: integers -> uint8[...]."""

    evaluate = np.bitwise_count
    vjp = None

    def lower(b, x):
        magnitude = b.op("abs", x) if dtype(b.dtype(x)).is_signed else x
        return b.cast(b.op("popcount", magnitude), "uint8")
