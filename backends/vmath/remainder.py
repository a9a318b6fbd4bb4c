"""fmod: the exact remainder of floats, of any size."""

from __future__ import annotations

from .double import two_product
from .exponential import power_of_two, scale
from .number import Num, bits_of, copysign, where
from .registry import function


@function("fmod", float32=(0.0, 0.0), float64=(0.0, 0.0), arity=2)
def fmod(x: Num, y: Num) -> Num:
    """x - trunc(x / y) y, exactly, with the sign of x (C fmod).

    A quotient of few bits takes one division; if any lane has a larger one, the lanes divide their
    significands digit by digit, mant - 3 bits at a time.
    """
    form = x.format
    ax, ay = abs(x), abs(y)
    quotient = ax / ay
    # Away from the ends of the range, where products overflow or (Dekker's) lose their low parts.
    plain = (quotient < 2.0 ** (form.mant - 2)) & (ax < 2.0 ** (form.bias - form.mant))
    if not x.at.has_fma:
        plain = plain & (ax > 2.0 ** (3 * form.mant - form.bias))
    below = ax < ay
    far = (ax <= form.max) & (ay > 0.0) & ~plain & ~below
    near = reduce_once(ax, ay)
    (rest,) = x.at.branch(far.any(), lambda: [where(far, _long(ax, ay), near)], lambda: [near])
    return copysign(where(below, ax, rest), x)


def reduce_once(a: Num, b: Num) -> Num:
    """a mod b for a >= 0 and a / b below 2**(mant - 2), by the nearest multiple of b."""
    whole = 2.0**a.format.mant
    multiple = (a / b + whole) - whole
    product = two_product(multiple, b)
    rest = (a - product.high) - product.low
    return where(rest < 0.0, rest + b, rest)


def _long(ax: Num, ay: Num) -> Num:
    """ax mod ay by long division of the significands; lanes with ax < ay give any number."""
    form = ax.format
    x_exponent, x_digits = _significand(ax)
    y_exponent, divisor = _significand(ay)
    # not "ax < ay": a NaN must not make a gap that takes billions of turns
    gap = where(ax >= ay, x_exponent - y_exponent, x_exponent.const(0))
    most = form.mant - 3

    def step(rest: Num, gap: Num) -> tuple[Num, list[Num]]:
        taken = where(gap < most, gap, most)
        rest = reduce_once(rest * power_of_two(taken + form.bias, rest), divisor)
        left = gap - taken
        return left.ne(0).any(), [rest, left]

    rest, _ = ax.at.repeat([x_digits, gap], step)
    # divisor = ay 2**(mant - exponent), biased exponents; `scale` wants twice the bias.
    return scale(rest, y_exponent + (form.bias - form.mant))


def _significand(a: Num) -> tuple[Num, Num]:
    """(biased exponent, wrapping below 0 for subnormals; significand from 2**mant, a float)."""
    form = a.format
    subnormal = a < form.tiny
    up = form.mant + 1
    bits = where(subnormal, a * 2.0**up, a).bits()
    exponent = bits >> form.mant
    exponent = exponent - where(subnormal, exponent.const(up), 0)
    return exponent, ((bits & form.mant_mask) | bits_of(2.0**form.mant, form.dtype)).float()
