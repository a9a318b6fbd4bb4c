"""Choices between operands: where, maximum, minimum and clip."""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.dtypes import bool_, every
from symgraph.expr import Expr
from symgraph.leaves import lift

from ..define import Formula, elementwise
from .compare import ge, isnan, le, ordered
from .logic import logical_or


@elementwise("where", accepts=every, fixed={0: bool_})
class where(Formula):
    """x where the condition is true (non-zero), else y.

    condition: any dtype; x, y: promoted together.

    Each branch gets the cotangent where it was taken and an exact 0 elsewhere; a NaN that is made
    further down in the branch that was not taken (0 times an infinite slope) is the caller's to
    avoid, by guarding its operand.
    """

    evaluate = np.where

    def vjp(c, x, y, out, dy):
        return None, where(c, dy, 0), where(c, 0, dy)

    def lower(b, c, x, y):
        if b.dtype(x) != "bool":
            return b.select(c, x, y)
        return b.op("or", b.op("and", c, x), b.op("and", b.op("not", c), y))


def _shared(take_first, dy):
    """The whole cotangent to the operand that was taken."""
    return where(take_first, dy, 0), where(take_first, 0, dy)


@elementwise("maximum", accepts=ordered)
class maximum(Formula):
    """The larger of x and y; NaN if either is NaN.

    At a tie the first operand takes the whole cotangent.
    """

    evaluate = np.maximum
    apart = True

    def vjp(x, y, out, dy):
        return _shared(ge(x, y), dy)

    def lower(b, x, y):
        return b.op("or" if b.dtype(x) == "bool" else "max", x, y)


@elementwise("minimum", accepts=ordered)
class minimum(Formula):
    """The smaller of x and y; NaN if either is NaN.

    At a tie the first operand takes the whole cotangent.
    """

    evaluate = np.minimum
    apart = True

    def vjp(x, y, out, dy):
        return _shared(le(x, y), dy)

    def lower(b, x, y):
        return b.op("and" if b.dtype(x) == "bool" else "min", x, y)


def _ignoring_nan(b, chosen, x, y):
    if not b.dtype(x).startswith("float"):
        return chosen
    return b.select(b.op("ne", x, x), y, b.select(b.op("ne", y, y), x, chosen))


@elementwise("fmax", accepts=ordered)
class fmax(Formula):
    """The larger of x and y; where one is NaN, the other.

    At a tie the first operand takes the cotangent.
    """

    evaluate = np.fmax
    apart = True

    def vjp(x, y, out, dy):
        return _shared(logical_or(ge(x, y), isnan(y)), dy)

    def lower(b, x, y):
        return _ignoring_nan(b, b.op("or" if b.dtype(x) == "bool" else "max", x, y), x, y)


@elementwise("fmin", accepts=ordered)
class fmin(Formula):
    """The smaller of x and y; where one is NaN, the other.

    At a tie the first operand takes the cotangent.
    """

    evaluate = np.fmin
    apart = True

    def vjp(x, y, out, dy):
        return _shared(logical_or(le(x, y), isnan(y)), dy)

    def lower(b, x, y):
        return _ignoring_nan(b, b.op("and" if b.dtype(x) == "bool" else "min", x, y), x, y)


def clip(x: Any, low: Any = None, high: Any = None) -> Expr:
    """minimum(maximum(x, low), high); None leaves a side open.

    The gradient at both edges is that of x: 1.
    """
    result = lift(x)
    if low is not None:
        result = maximum(result, low)
    return result if high is None else minimum(result, high)
