"""Argument reduction of the circular functions: x = n pi/2 + r, right for every finite x.

Moderate arguments take Cody and Waite's way: pi/2 in parts, subtracted one after the other. Large
ones take Payne and Hanek's: the product of the significand with just those bits of 2/pi that
matter, in integers, float32 as float64. That way is a branch, taken if any lane is large.
"""

from __future__ import annotations

from typing import NamedTuple

from . import tables
from .double import product_error, quick_two_sum, two_sum
from .number import Num, fma, where


class Reduced(NamedTuple):
    """|x| = n pi/2 + r + low with |r| <= pi/4; the low two bits of `quadrant` are those of n."""

    quadrant: Num
    r: Num
    low: Num


# Up to here n is small enough for the parts of pi/2: (with FMA, without).
MODERATE = {"float32": (2.0**16, 2.0**12), "float64": (2.0**28, 2.0**20)}
# How many parts are subtracted without a rounding error: (with FMA, without).
EXACT_PARTS = {"float32": (1, 2), "float64": (1, 1)}


def reduce(a: Num, careful: bool) -> Reduced:
    """The reduction of a = |x|; infinity and NaN give NaN. `low` is 0 unless careful."""
    dtype, has_fma = a.format.dtype, a.at.has_fma
    near = moderate(a, careful)
    large = (a > MODERATE[dtype][not has_fma]) & (a <= a.format.max)

    def both() -> list[Num]:
        far = any_size(a)
        return [where(large, f, n) for f, n in zip(far, near)]

    return Reduced(*a.at.branch(large.any(), both, lambda: list(near)))


def moderate(a: Num, careful: bool) -> Reduced:
    """Cody and Waite: n times each of the first parts is exact, and so are the differences."""
    dtype, has_fma = a.format.dtype, a.at.has_fma
    shifted = fma(a, 2.0 / tables.PI[dtype][0], a.format.magic)
    n = shifted - a.format.magic
    parts = (tables.HALF_PI if has_fma else tables.HALF_PI_SHORT)[dtype]
    exact = EXACT_PARTS[dtype][not has_fma] if careful else len(parts)
    for part in parts[:exact]:
        a = fma(n, -part, a)
    if not careful:
        return Reduced(shifted.bits(), a, a.const(0.0))
    product = n * parts[exact]
    high, low = two_sum(a, -product)
    if has_fma:
        low = low - product_error(n, n.const(parts[exact]), product)
    for part in parts[exact + 1 :]:
        low = fma(n, -part, low)
    return Reduced(shifted.bits(), *quick_two_sum(high, low))


def any_size(a: Num) -> Reduced:
    """Payne and Hanek, for 2**-10 <= a < infinity."""
    if a.format.dtype == "float64":
        return _payne_hanek(a)
    quadrant, r, _ = _payne_hanek(a.to("float64"))
    rounded = r.to("float32")
    return Reduced(quadrant.to("uint32"), rounded, (r - rounded.to("float64")).to("float32"))


def _payne_hanek(a: Num) -> Reduced:
    """a = m 2**e with a 53-bit integer m: 2 a / pi is 4 frac(m frac(2**(e - 2) 2/pi)) modulo 4."""
    bits = a.bits()
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    start = (bits >> 52) - 1013  # of the window, among the bits of TWO_OVER_PI
    high, low = _top_of_product(mantissa, _window(start))
    fraction = (high << 2) | (low >> 62)
    nearest = fraction >> 63  # 1 if the fraction is 1/2 or more: then the next quadrant is nearer
    flip = 0 - nearest
    magnitude = _as_double(fraction ^ flip, (low << 2) ^ flip)
    pi_high, pi_low = tables.PI["float64"]
    product = magnitude[0] * (pi_high / 2)
    rest = product_error(magnitude[0], magnitude[0].const(pi_high / 2), product)
    rest = fma(magnitude[0], pi_low / 2, fma(magnitude[1], pi_high / 2, rest))
    r = quick_two_sum(product, rest)
    sign = nearest << 63
    return Reduced(
        (high >> 62) + nearest,
        (r.high.bits() ^ sign).float(),
        (r.low.bits() ^ sign).float(),
    )


def _window(start: Num) -> list[Num]:
    """192 bits of TWO_OVER_PI from bit `start`, as three words, highest first: a barrel shifter."""
    words = [start.const(w) for w in tables.TWO_OVER_PI]
    for step in (16, 8, 4, 2, 1):
        taken = (start & (64 * step)).ne(0)
        kept = min(step - 1, 16) + 4  # words that a later step, or the result, may still ask for
        words = [
            where(taken, words[i + step], words[i]) if i + step < len(words) else words[i]
            for i in range(min(kept, len(words)))
        ]
    shift = start & 63
    return [(words[i] << shift) | ((words[i + 1] >> 1) >> (63 - shift)) for i in range(3)]


def _top_of_product(mantissa: Num, window: list[Num]) -> tuple[Num, Num]:
    """The upper 128 of the lower 192 bits of mantissa * window, by 32-bit digits in 64 bits."""
    mask = (1 << 32) - 1
    m0, m1 = mantissa & mask, mantissa >> 32
    digits = [d for word in reversed(window) for d in (word & mask, word >> 32)]
    carry = (m0 * digits[0]) >> 32
    result = []
    for below, digit in zip(digits, digits[1:]):
        first = m0 * digit + carry
        second = m1 * below + (first & mask)
        result.append(second & mask)
        carry = (first >> 32) + (second >> 32)
    _, d2, d3, d4, d5 = result
    return (d5 << 32) | d4, (d3 << 32) | d2


def _as_double(high: Num, low: Num) -> tuple[Num, Num]:
    """(high 2**64 + low) 2**-128 as the sum of two float64, from four exact 32-bit pieces."""
    pieces = [
        _integer(piece) * 2.0**-weight
        for piece, weight in (
            (high >> 32, 32),
            (high & 0xFFFFFFFF, 64),
            (low >> 32, 96),
            (low & 0xFFFFFFFF, 128),
        )
    ]
    upper = quick_two_sum(pieces[0], pieces[1])
    return quick_two_sum(upper.high, upper.low + (pieces[2] + pieces[3]))


def _integer(bits: Num) -> Num:
    """An integer below 2**32 in 64 bits, as a float64."""
    return (bits | (0x433 << 52)).float() - 2.0**52
