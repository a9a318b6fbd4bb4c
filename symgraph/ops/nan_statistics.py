"""Reductions that leave NaN out: sums, extremes, positions, means and spreads."""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import int64
from ..expr import Expr
from ..leaves import as_integer, lift
from .define import cast
from .elementwise import abs as absolute
from .elementwise import invert, isnan, le, sqrt, where
from .reduce import all, argmax, argmin, computed_in, max, min, normalize_axes, prod, sum
from .statistics import count, mean, mean_dtype, std, var


def _instead(x: Any, value: float) -> Expr:
    """x with NaN replaced."""
    node = lift(x)
    return where(isnan(node), value, node) if node.dtype.is_inexact else node


def nansum(x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Expr:
    """Sum over axes of what is not NaN; dtypes as sum."""
    return sum(_instead(x, 0), axis, dtype, keepdims)


def nanprod(x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Expr:
    """Product over axes of what is not NaN; dtypes as sum."""
    return prod(_instead(x, 1), axis, dtype, keepdims)


def _extreme(reduction: Any, x: Any, axis: Any, keepdims: bool, least: float) -> Expr:
    node = lift(x)
    if not node.dtype.is_float:
        return reduction(node, axis, keepdims)
    nothing = all(isnan(node), axis, keepdims)
    return where(nothing, math.nan, reduction(_instead(node, least), axis, keepdims))


def nanmax(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """Largest element over axes of what is not NaN; NaN where there is nothing else."""
    return _extreme(max, x, axis, keepdims, -math.inf)


def nanmin(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """Smallest element over axes of what is not NaN; NaN where there is nothing else."""
    return _extreme(min, x, axis, keepdims, math.inf)


def nanargmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Expr:
    """int64 position of the first largest element that is not NaN; 0 where all are NaN."""
    return argmax(_instead(x, -math.inf), axis, keepdims)


def nanargmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Expr:
    """int64 position of the first smallest element that is not NaN; 0 where all are NaN."""
    return argmin(_instead(x, math.inf), axis, keepdims)


def nanmean(x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Expr:
    """Mean over axes of what is not NaN; dtypes as mean; NaN where there is nothing else."""
    node = lift(x)
    if not node.dtype.is_inexact:
        return mean(node, axis, dtype, keepdims)
    result = mean_dtype(node, dtype)
    inner = computed_in(result)
    total = nansum(cast(node, inner), axis, None, keepdims)
    return cast(total / _numbers(node, axis, keepdims, inner), result)


def _numbers(x: Expr, axis: Any, keepdims: bool, d: Any) -> Expr:
    """How many elements are not NaN, as a float of the parts of dtype d."""
    some = sum(invert(isnan(x)), axis, int64, keepdims)
    return cast(some, count(1, d).dtype)


def nanvar(
    x: Any, axis: Any = None, ddof: int = 0, dtype: Any = None, keepdims: bool = False
) -> Expr:
    """Variance over axes of what is not NaN, with divisor n - ddof; NaN where that is not positive.

    dtypes as var.
    """
    node = lift(x)
    if not node.dtype.is_inexact:
        return var(node, axis, ddof, dtype, keepdims)
    result = mean_dtype(node, dtype)
    values = cast(node, computed_in(result))
    axes = normalize_axes(axis, node.ndim, "nanvar")
    offsets = where(isnan(node), 0, values - nanmean(values, axes, keepdims=True))
    squares = offsets * offsets if offsets.dtype.is_float else absolute(offsets) ** 2
    freedom = _numbers(node, axes, keepdims, values.dtype) - as_integer(ddof, "nanvar: ddof")
    spread = sum(squares, axes, keepdims=keepdims) / where(le(freedom, 0), math.nan, freedom)
    return cast(spread, result) if result.is_float else spread


def nanstd(
    x: Any, axis: Any = None, ddof: int = 0, dtype: Any = None, keepdims: bool = False
) -> Expr:
    """Standard deviation of what is not NaN: the square root of nanvar."""
    node = lift(x)
    if not node.dtype.is_inexact:
        return std(node, axis, ddof, dtype, keepdims)
    result = mean_dtype(node, dtype)
    spread = sqrt(nanvar(node, axis, ddof, computed_in(result), keepdims))
    return cast(spread, result) if result.is_float else spread


__all__ = [
    "nansum",
    "nanprod",
    "nanmax",
    "nanmin",
    "nanargmax",
    "nanargmin",
    "nanmean",
    "nanvar",
    "nanstd",
]
