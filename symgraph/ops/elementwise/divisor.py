"""Greatest common divisors and least common multiples of integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.dtypes import dtype, integers

from ..define import Formula, elementwise


def _magnitude(b: Any, x: Any) -> Any:
    """|x| as an unsigned integer, in which the smallest integer's fits."""
    d = dtype(b.dtype(x))
    return b.cast(b.op("abs", x), f"uint{d.bits}") if d.is_signed else x


@elementwise("gcd", accepts=integers)
class gcd(Formula):
    """The greatest common divisor of |x| and |y|; gcd(0, y) is |y|.

    x, y: integers. What does not fit (the magnitude of the smallest integer) wraps.
    """

    evaluate = np.gcd
    vjp = None

    def lower(b, x, y):
        return b.cast(b.call("gcd", _magnitude(b, x), _magnitude(b, y)), b.dtype(x))


@elementwise("lcm", accepts=integers)
class lcm(Formula):
    """The least common multiple of |x| and |y|, 0 if one is 0. It wraps.  x, y: integers."""

    evaluate = np.lcm
    vjp = None

    def lower(b, x, y):
        first, second = _magnitude(b, x), _magnitude(b, y)
        shared = b.call("gcd", first, second)
        divisor = b.op("max", shared, b.const(1, shared))
        multiple = b.op("mul", b.op("div", first, divisor), second)
        return b.cast(multiple, b.dtype(x))
