"""Elementary functions as expansions in the loop IR: any lanes, no table, no math library.

`expand(block, "exp", x)` appends the statements that compute exp of every lane of x and returns
the value. Error bounds are in FUNCTIONS; benchmarks/vmath_ulp.py measures them.
"""

from __future__ import annotations

from typing import Any

from ..loops import Block, Value
from . import (
    bessel,
    circular,
    divisor,
    error_function,
    exponential,
    inverse,
    logarithm,
    normal,
    power,
    remainder,
)
from .number import Formula
from .registry import FUNCTIONS, MathFunction


def expand(b: Block, name: str, *args: Value, target: Any = None) -> Value:
    """Append the statements of one elementary function to `b` and return its value.

    args: float32 or float64 (unsigned integers for gcd), all of one type. target: a record with
    `has_fma`; None stands for a target that has it.

    Raises KeyError for a name that is not in FUNCTIONS.
    """
    formula = Formula(b, target)
    return FUNCTIONS[name].build(*map(formula.number, args)).value
