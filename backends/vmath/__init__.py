"""Elementary functions and random words as expansions in the loop IR: any lanes, no library.

`expand(block, "exp", x)` appends the statements that compute exp of every lane of x and returns
the value. Error bounds are in FUNCTIONS; benchmarks/vmath_ulp.py measures them.
"""

from __future__ import annotations

from typing import Any

from ..known import Known
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
from .philox import DRAWS
from .registry import FUNCTIONS, MathFunction


def expand(
    b: Block, name: str, *args: Value, target: Any = None, known: Known | None = None
) -> Value:
    """Append the statements of one function to `b` and return its value.

    args: float32 or float64 (unsigned integers for gcd), all of one type; those of random words as
    `philox` says. target: a record with `has_fma`; None stands for a target that has it. known:
    facts of the args.

    Raises KeyError for a name that is neither in FUNCTIONS nor in DRAWS.
    """
    if name in DRAWS:
        return DRAWS[name](b, known or Known(), *args)
    formula = Formula(b, target)
    return FUNCTIONS[name].build(*map(formula.number, args)).value
