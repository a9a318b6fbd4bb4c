"""The four operations, floor division and remainders, squares and reciprocals.

Integers wrap around. Integer division by zero gives 0 and never traps. Bools: add is or, mul is
and.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.dtypes import bool_, inexact, numeric, reals
from symgraph.expr import Expr

from ..define import Formula, elementwise, promote_operands
from . import integer
from .compare import lt
from .rounding import trunc
from .select import where


@elementwise("add")
class add(Formula):
    """x + y. Integers wrap; bools: or.  x, y: any dtype, promoted together."""

    evaluate = np.add

    def vjp(x, y, out, dy):
        return dy, dy

    def lower(b, x, y):
        return b.op("or" if b.dtype(x) == "bool" else "add", x, y)


@elementwise("sub", accepts=numeric, refuses={bool_: "use x ^ y, or cast to a number first"})
class sub(Formula):
    """x - y. Integers wrap.  x, y: numbers, promoted together."""

    evaluate = np.subtract

    def vjp(x, y, out, dy):
        return dy, -dy

    def lower(b, x, y):
        return b.op("sub", x, y)


@elementwise("mul")
class mul(Formula):
    """x * y. Integers wrap; bools: and.  x, y: any dtype, promoted together."""

    evaluate = np.multiply

    def vjp(x, y, out, dy):
        return dy * y, dy * x

    def lower(b, x, y):
        return b.op("and" if b.dtype(x) == "bool" else "mul", x, y)


@elementwise("true_div", accepts=inexact)
class true_div(Formula):
    """x / y; integers are divided in the default float.  x, y: any dtype, promoted together."""

    evaluate = np.true_divide
    domain = (0.3, 3.0)

    def vjp(x, y, out, dy):
        return dy / y, -(dy * out) / y

    def lower(b, x, y):
        return b.op("div", x, y)


@elementwise("neg", accepts=numeric, refuses={bool_: "use ~x, or cast to a number first"})
class neg(Formula):
    """-x. Integers wrap (unsigned too).  x: numbers."""

    evaluate = np.negative

    def vjp(x, out, dy):
        return (-dy,)

    def lower(b, x):
        return b.op("neg", x)


def positive(x: Any) -> Expr:
    """x itself.  x: numbers."""
    refuses = {bool_: "cast to a number first"}
    return promote_operands("positive", [x], frozenset(numeric), refuses)[0]


@elementwise("square", accepts=numeric)
class square(Formula):
    """x * x. Integers wrap."""

    evaluate = np.square

    def vjp(x, out, dy):
        return (dy * (x * 2),)

    def lower(b, x):
        return b.op("mul", x, x)


@elementwise("reciprocal", accepts=inexact)
class reciprocal(Formula):
    """1 / x; integers are taken in the default float."""

    evaluate = np.reciprocal
    domain = (0.3, 3.0)

    def vjp(x, out, dy):
        return (-dy * (out * out),)

    def lower(b, x):
        return b.op("div", b.const(1.0, x), x)


def _float_mod(b, x, y):
    """NumPy's steps: C's remainder, whether it moves by a divisor, the remainder signed as y."""
    zero = b.const(0.0, x)
    rest = b.op("rem", x, y)
    moves = b.op(
        "and", b.op("ne", rest, zero), b.op("ne", b.op("lt", rest, zero), b.op("lt", y, zero))
    )
    moved = b.select(moves, b.op("add", rest, y), rest)
    signed = b.select(b.op("eq", rest, zero), b.op("copysign", zero, y), moved)
    return rest, moves, signed


def _float_floor_divide(b, x, y):
    zero, one = b.const(0.0, x), b.const(1.0, x)
    rest, moves, _ = _float_mod(b, x, y)
    quotient = b.op("div", b.op("sub", x, rest), y)
    quotient = b.select(moves, b.op("sub", quotient, one), quotient)
    whole = b.op("floor", quotient)
    too_low = b.op("gt", b.op("sub", quotient, whole), b.const(0.5, x))
    whole = b.select(too_low, b.op("add", whole, one), whole)
    ratio = b.op("div", x, y)
    whole = b.select(b.op("eq", quotient, zero), b.op("copysign", zero, ratio), whole)
    return b.select(b.op("eq", y, zero), ratio, whole)


@elementwise("floor_divide", accepts=reals)
class floor_divide(Formula):
    """floor(x / y), as Python's //.

    Integers divided by 0 give 0; the smallest by -1 gives itself.
    """

    evaluate = np.floor_divide
    vjp = None
    domain = (0.5, 3.0)

    def lower(b, x, y):
        is_float = b.dtype(x).startswith("float")
        return _float_floor_divide(b, x, y) if is_float else integer.floor_divide(b, x, y)


@elementwise("mod", accepts=reals)
class mod(Formula):
    """x - floor(x / y) * y, with the sign of y, as Python's %.

    Integers modulo 0 give 0, floats NaN.
    """

    evaluate = np.remainder
    domain = (0.5, 3.0)

    def vjp(x, y, out, dy):
        return dy, -dy * floor_divide(x, y)

    def lower(b, x, y):
        is_float = b.dtype(x).startswith("float")
        return _float_mod(b, x, y)[2] if is_float else integer.mod(b, x, y)


@elementwise("fmod", accepts=reals)
class fmod(Formula):
    """x - trunc(x / y) * y, with the sign of x, as C's fmod.

    Integers modulo 0 give 0, floats NaN.
    """

    evaluate = np.fmod
    domain = (0.5, 3.0)

    def vjp(x, y, out, dy):
        return dy, -dy * trunc(x / y)

    def lower(b, x, y):
        return b.op("rem", x, y) if b.dtype(x).startswith("float") else integer.fmod(b, x, y)


def divmod(x: Any, y: Any) -> tuple[Expr, Expr]:
    """(floor_divide(x, y), mod(x, y))."""
    return floor_divide(x, y), mod(x, y)


def lerp(start: Any, stop: Any, weight: Any) -> Expr:
    """start + weight * (stop - start), exact at weight 0 and at weight 1."""
    span = sub(stop, start)
    return where(
        lt(weight, 0.5), add(start, mul(weight, span)), sub(stop, mul(sub(1, weight), span))
    )
