"""Numbers as unevaluated sums of two: error-free sums and products, with or without an FMA."""

from __future__ import annotations

from typing import NamedTuple

from .number import Num, fma


class Double(NamedTuple):
    """high + low, where low is at most half a unit in the last place of high."""

    high: Num
    low: Num


def halves(x: Num) -> Double:
    """x as the sum of two numbers of half the digits (Veltkamp); overflows near the largest."""
    scaled = x * (2.0 ** ((x.format.mant + 2) // 2) + 1.0)
    high = scaled - (scaled - x)
    return Double(high, x - high)


def product_error(a: Num, b: Num, product: Num) -> Num:
    """a * b - product, exactly: one fma, or Dekker's product."""
    if a.at.has_fma:
        return fma(a, b, -product)
    x, y = halves(a), halves(b)
    return x.low * y.low - (((product - x.high * y.high) - x.low * y.high) - x.high * y.low)


def two_product(a: Num, b: Num) -> Double:
    """a * b, exactly."""
    product = a * b
    return Double(product, product_error(a, b, product))


def two_sum(a: Num, b: Num) -> Double:
    """a + b, exactly (Knuth)."""
    total = a + b
    shadow = total - a
    return Double(total, (a - (total - shadow)) + (b - shadow))


def quick_two_sum(a: Num, b: Num) -> Double:
    """a + b, exactly, if |a| >= |b| or a is zero."""
    total = a + b
    return Double(total, b - (total - a))
