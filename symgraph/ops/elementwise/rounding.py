"""Rounding to whole numbers; integers and bools are whole already.

No derivative (zero almost everywhere).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgraph.errors import DTypeError
from symgraph.expr import Expr, user_site
from symgraph.leaves import as_integer, lift

from ..define import Formula, cast, elementwise
from .compare import ordered


def _of_floats(function):
    return lambda x: x if x.dtype.kind in "biu" else function(x)


def _whole(b, name, x):
    return b.op(name, x) if b.dtype(x).startswith("float") else x


@elementwise("floor", accepts=ordered)
class floor(Formula):
    """Largest whole number not above x, in the dtype of x."""

    evaluate = _of_floats(np.floor)
    vjp = None

    def lower(b, x):
        return _whole(b, "floor", x)


@elementwise("ceil", accepts=ordered)
class ceil(Formula):
    """Smallest whole number not below x, in the dtype of x."""

    evaluate = _of_floats(np.ceil)
    vjp = None

    def lower(b, x):
        return _whole(b, "ceil", x)


@elementwise("trunc", accepts=ordered)
class trunc(Formula):
    """x with its fraction cut off, in the dtype of x."""

    evaluate = _of_floats(np.trunc)
    vjp = None

    def lower(b, x):
        return _whole(b, "trunc", x)


@elementwise("rint", accepts=ordered)
class rint(Formula):
    """Nearest whole number, ties to even, in the dtype of x."""

    evaluate = _of_floats(np.rint)
    vjp = None

    def lower(b, x):
        return _whole(b, "roundeven", x)


def round(x: Any, decimals: int = 0) -> Expr:
    """x to `decimals` places, ties to even, in the dtype of x.

    Negative decimals round to tens, hundreds, ...

    As in NumPy the number is scaled by a power of ten, so decimal ties are those of the scaled
    binary number.
    """
    node, decimals = lift(x), as_integer(decimals, "round: decimals")
    if node.dtype.kind == "c":
        raise DTypeError(f"round: dtype {node.dtype} is not accepted", site=user_site())
    if not decimals or (not node.dtype.is_float and decimals > 0):
        return rint(node)
    scale = 10.0 ** min(abs(decimals), 308)
    wide = node if node.dtype.is_float else cast(node, "float64")
    rounded = rint(wide * scale) / scale if decimals > 0 else rint(wide / scale) * scale
    return cast(rounded, node.dtype)
