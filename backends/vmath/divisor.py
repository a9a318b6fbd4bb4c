"""gcd of unsigned integers."""

from __future__ import annotations

from .number import Num, where
from .registry import integer_function


@integer_function("gcd", arity=2)
def gcd(x: Num, y: Num) -> Num:
    """The greatest common divisor, by Stein's binary method; gcd(0, y) = y.

    Of two odd numbers the larger becomes their difference without its factors of 2: at least one
    bit less each turn, so twice the width bounds the turns.
    """
    some = x.ne(0) & y.ne(0)
    a, b = odd_part(where(some, x, x.const(1))), odd_part(where(some, y, y.const(1)))

    def step(a: Num, b: Num) -> tuple[Num, list[Num]]:
        swap = a < b
        least = where(swap, a, b)
        difference = where(swap, b, a) - least
        differs = difference.ne(0)
        next_odd = odd_part(where(differs, difference, least))
        return differs.any(), [next_odd, least]

    odd, _ = x.at.repeat([a, b], step)
    both = x | y
    return where(some, odd << where(some, both, both.const(1)).trailing_zeros(), both)


def odd_part(x: Num) -> Num:
    """x without its factors of 2, x not 0."""
    return x >> x.trailing_zeros()
