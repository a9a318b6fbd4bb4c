"""Specialization: cheaper ops for special operands, when the general ones are matched no more."""

from __future__ import annotations

import math

from symgraph.expr import Expr

from ..conditions import above_one, absorbed, shrinking
from ..constants import nonnegative, number
from ..cost import cheaper
from ..pattern import const, wild
from ..rule import Rules, rule
from ..words import (
    abs,
    erfc,
    exp2,
    gelu,
    maximum,
    mul,
    pow,
    reciprocal,
    relu,
    rsqrt,
    sigmoid,
    silu,
    sqrt,
    square,
    where,
)

x, y, z = wild("x y z")
f, g = wild("f g", "f")
i = wild("i", "iu")
c, d = const("c d")
k = const("k", "iu")

LARGEST_POWER = 16


def chain(x: Expr, n: int) -> Expr:
    """x**n by squaring, n > 0."""
    result, square_of = None, x
    while n:
        if n & 1:
            result = square_of if result is None else result * square_of
        n >>= 1
        square_of = square(square_of) if n else square_of
    assert result is not None
    return result


def small_power(c: Expr) -> bool:
    """A whole number from 3 up to LARGEST_POWER."""
    return number(c) in range(3, LARGEST_POWER + 1)


def is_exact_power(k: Expr) -> bool:
    """A power of two that the dtype holds as a positive number."""
    value = number(k)
    return value > 0 and value & (value - 1) == 0


def log2_of(k: Expr) -> int:
    return int(number(k)).bit_length() - 1


def close_to(c: Expr, value: float) -> bool:
    """c is `value` as its dtype can say it, or the text of it to six digits."""
    return math.isclose(number(c), value, rel_tol=2e-6)


powers = [
    rule(f**c, lambda f, c: chain(f, int(number(c))), when=small_power,
         name="x**n -> x * x * ...", grade="rounds"),
    rule(i**k, lambda i, k: chain(i, int(number(k))), when=lambda k: small_power(k),
         name="i**n -> i * i * ..."),
    rule(f**-2, square(reciprocal(f)), grade="rounds"),
    rule(f**-0.5, rsqrt(f), when=lambda f: nonnegative(f), grade="rounds"),
    rule(f**1.5, f * sqrt(f), when=lambda f: nonnegative(f), grade="rounds"),
    rule(pow(2, f), exp2(f), grade="rounds"),
    rule(f / sqrt(g), f * rsqrt(g), when=cheaper, grade="rounds"),
    rule(f * reciprocal(g), f / g, when=cheaper, grade="stabler"),
]  # fmt: skip

constants = [
    rule(
        f / c,
        lambda f, c: f * (1 / number(c)),
        when=above_one,
        name="x / c -> x * (1/c)",
        grade="rounds",
    ),
    rule((f + c) + d, f + (c + d), when=absorbed, grade="rounds"),
    rule((f + c) - d, f + (c - d), when=absorbed, grade="rounds"),
    rule((f - c) + d, f + (d - c), when=absorbed, grade="rounds"),
    rule((f - c) - d, f - (c + d), when=absorbed, grade="rounds"),
    rule((c - f) + d, (c + d) - f, when=absorbed, grade="rounds"),
    rule((c - f) - d, (c - d) - f, when=absorbed, grade="rounds"),
    rule((f * c) * d, f * (c * d), when=shrinking, grade="rounds"),
]

integers = [
    rule(i // k, lambda i, k: i >> log2_of(k), when=is_exact_power, name="i // 2**n -> i >> n"),
    rule(
        i % k,
        lambda i, k: i & (int(number(k)) - 1),
        when=is_exact_power,
        name="i % 2**n -> i & (2**n - 1)",
    ),
    rule(where(i < 0, -i, i), abs(i)),
    rule(where(i > 0, i, -i), abs(i)),
    rule(where(i >= 0, i, -i), abs(i)),
]

activations = [
    rule(maximum(x, 0), relu(x)),
    rule(f * sigmoid(f), silu(f), grade="stabler"),
    rule(
        mul(f * 0.5, erfc(f * c)),
        gelu(f),
        when=lambda c: close_to(c, -math.sqrt(0.5)),
        grade="rounds",
    ),
    rule(
        mul(f, erfc(f * c)) * 0.5,
        gelu(f),
        when=lambda c: close_to(c, -math.sqrt(0.5)),
        grade="rounds",
    ),
    rule(
        mul(f * 0.5, erfc(f / c)),
        gelu(f),
        when=lambda c: close_to(c, -math.sqrt(2.0)),
        grade="rounds",
    ),
    rule(
        mul(f, erfc(f / c)) * 0.5,
        gelu(f),
        when=lambda c: close_to(c, -math.sqrt(2.0)),
        grade="rounds",
    ),
]

rules = Rules("specialize", "specialize", *powers, *constants, *integers, *activations)
