"""Integer division, remainder and power as branch-free scalar formulas that cannot trap."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from symgraph.dtypes import dtype
from symgraph.op import ScalarBuilder


class Division(NamedTuple):
    """x / y, with y replaced by 1 where the machine would trap: at 0, and at -1 (may overflow)."""

    quotient: Any  # truncated
    remainder: Any  # with the sign of x; 0 where y was replaced
    by_zero: Any
    by_minus_one: Any | None  # None for unsigned integers


def divide(b: ScalarBuilder, x: Any, y: Any) -> Division:
    """Truncating division with a divisor that is made safe first."""
    by_zero = unsafe = b.op("eq", y, b.const(0, y))
    by_minus_one = None
    if dtype(b.dtype(x)).is_signed:
        by_minus_one = b.op("eq", y, b.const(-1, y))
        unsafe = b.op("or", by_zero, by_minus_one)
    divisor = b.select(unsafe, b.const(1, y), y)
    quotient = b.op("div", x, divisor)
    return Division(quotient, b.op("sub", x, b.op("mul", quotient, divisor)), by_zero, by_minus_one)


def _crosses(b: ScalarBuilder, remainder: Any, y: Any) -> Any:
    """Whether the truncated remainder is non-zero and has not the sign of y (signed integers)."""
    zero = b.const(0, y)
    opposite = b.op("lt", b.op("xor", remainder, y), zero)
    return b.op("and", b.op("ne", remainder, zero), opposite)


def floor_divide(b: ScalarBuilder, x: Any, y: Any) -> Any:
    """floor(x / y); 0 where y == 0; the smallest integer divided by -1 is itself."""
    d = divide(b, x, y)
    quotient = d.quotient
    if d.by_minus_one is not None:
        lower = b.op("sub", quotient, b.const(1, x))
        quotient = b.select(_crosses(b, d.remainder, y), lower, quotient)
        quotient = b.select(d.by_minus_one, b.op("neg", x), quotient)
    return b.select(d.by_zero, b.const(0, x), quotient)


def mod(b: ScalarBuilder, x: Any, y: Any) -> Any:
    """x - floor(x / y) * y, with the sign of y; 0 where y == 0."""
    d = divide(b, x, y)
    if d.by_minus_one is None:
        return b.select(d.by_zero, b.const(0, x), d.remainder)
    return b.select(_crosses(b, d.remainder, y), b.op("add", d.remainder, y), d.remainder)


def fmod(b: ScalarBuilder, x: Any, y: Any) -> Any:
    """x - trunc(x / y) * y, with the sign of x; 0 where y == 0."""
    d = divide(b, x, y)
    return b.select(d.by_zero, b.const(0, x), d.remainder)


# Squarings for each width w, at least log2(w); the rest of the exponent goes into three terms
# of a binomial series.
_SQUARINGS = {8: 3, 16: 4, 32: 9, 64: 20}


def power(b: ScalarBuilder, x: Any, p: Any) -> Any:
    """x**p modulo 2**w without a loop.

    For negative p: 1 and -1 keep their powers, all else gives 0.

    p = low + 2**k h: the k low bits by squaring; then z = x**(2**k). For odd x, z = 1 + u where
    2**(k+2) divides u (x*x = 1 modulo 8), so u**3 = 0 modulo 2**w and z**h = 1 + h u + h (h-1)/2
    u*u. For even x, z = 0.
    """
    d = dtype(b.dtype(x))
    one, zero = b.const(1, x), b.const(0, x)
    result, z = one, x
    for bit in range(_SQUARINGS[d.bits]):
        is_set = b.op("ne", b.op("and", p, b.const(1 << bit, p)), zero)
        result = b.select(is_set, b.op("mul", result, z), result)
        z = b.op("mul", z, z)
    h = b.op("shr", p, b.const(_SQUARINGS[d.bits], p))
    u = b.op("sub", z, one)
    pairs = b.op("shr", b.op("mul", h, b.op("sub", h, one)), one)
    series = b.op("add", one, b.op("mul", u, b.op("add", h, b.op("mul", pairs, u))))
    odd = b.op("ne", b.op("and", x, one), zero)
    even_tail = b.select(b.op("eq", h, zero), one, zero)
    result = b.op("mul", result, b.select(odd, series, even_tail))
    return _negative_power(b, x, p, result) if d.is_signed else result


def _negative_power(b: ScalarBuilder, x: Any, p: Any, otherwise: Any) -> Any:
    one, zero, minus = b.const(1, x), b.const(0, x), b.const(-1, x)
    alternating = b.select(b.op("ne", b.op("and", p, one), zero), minus, one)
    unit = b.select(b.op("eq", x, minus), alternating, b.select(b.op("eq", x, one), one, zero))
    return b.select(b.op("lt", p, zero), unit, otherwise)


def numpy_power(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The meaning of `power`, in NumPy."""
    result = np.power(x, np.where(p < 0, 0, p).astype(p.dtype))
    alternating = np.where(p & 1, x, 1)
    return np.where(p < 0, np.where(np.abs(x) == 1, alternating, 0), result).astype(x.dtype)
