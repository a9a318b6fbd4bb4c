"""Comparisons and tests of single numbers; all give bool and have no derivative."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgraph.dtypes import bool_, every, floats, integers
from symgraph.expr import Expr

from ..define import Formula, elementwise

ordered = (bool_, *integers, *floats)


@elementwise("eq", result=bool_)
class eq(Formula):
    """x == y; False where either is NaN.  x, y: any dtype, promoted together -> bool[...]."""

    evaluate = np.equal
    vjp = None

    def lower(b, x, y):
        return b.op("eq", x, y)


@elementwise("neq", result=bool_)
class neq(Formula):
    """x != y; True where either is NaN.  x, y: any dtype, promoted together -> bool[...]."""

    evaluate = np.not_equal
    vjp = None

    def lower(b, x, y):
        return b.op("ne", x, y)


def _compare(b, name, x, y):
    """An order of bools is that of 0 and 1."""
    if b.dtype(x) == "bool":
        x, y = b.cast(x, "uint8"), b.cast(y, "uint8")
    return b.op(name, x, y)


@elementwise("lt", accepts=ordered, result=bool_)
class lt(Formula):
    """x < y; False where either is NaN.  x, y: real or bool, promoted together -> bool[...]."""

    evaluate = np.less
    vjp = None

    def lower(b, x, y):
        return _compare(b, "lt", x, y)


@elementwise("le", accepts=ordered, result=bool_)
class le(Formula):
    """x <= y; False where either is NaN.  x, y: real or bool, promoted together -> bool[...]."""

    evaluate = np.less_equal
    vjp = None

    def lower(b, x, y):
        return _compare(b, "le", x, y)


@elementwise("gt", accepts=ordered, result=bool_)
class gt(Formula):
    """x > y; False where either is NaN.  x, y: real or bool, promoted together -> bool[...]."""

    evaluate = np.greater
    vjp = None

    def lower(b, x, y):
        return _compare(b, "gt", x, y)


@elementwise("ge", accepts=ordered, result=bool_)
class ge(Formula):
    """x >= y; False where either is NaN.  x, y: real or bool, promoted together -> bool[...]."""

    evaluate = np.greater_equal
    vjp = None

    def lower(b, x, y):
        return _compare(b, "ge", x, y)


def _has_infinities(b, x):
    return b.dtype(x).startswith("float")


@elementwise("isnan", accepts=every, result=bool_)
class isnan(Formula):
    """Whether x is NaN; False for integers and bools."""

    evaluate = np.isnan
    vjp = None

    def lower(b, x):
        return b.op("ne", x, x)


@elementwise("isinf", accepts=every, result=bool_)
class isinf(Formula):
    """Whether x is infinite, of either sign; False for integers and bools."""

    evaluate = np.isinf
    vjp = None

    def lower(b, x):
        if not _has_infinities(b, x):
            return b.op("ne", x, x)
        return b.op("eq", b.op("abs", x), b.const(math.inf, x))


@elementwise("isfinite", accepts=every, result=bool_)
class isfinite(Formula):
    """Whether x is neither NaN nor infinite; True for integers and bools."""

    evaluate = np.isfinite
    vjp = None

    def lower(b, x):
        if not _has_infinities(b, x):
            return b.op("eq", x, x)
        return b.op("lt", b.op("abs", x), b.const(math.inf, x))


def isposinf(x: Any) -> Expr:
    """Whether x is +infinity."""
    return eq(x, math.inf)


def isneginf(x: Any) -> Expr:
    """Whether x is -infinity."""
    return eq(x, -math.inf)
