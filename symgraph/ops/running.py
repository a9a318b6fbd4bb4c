"""Along an axis: running sums and products with a start, integrals by trapezoids."""

from __future__ import annotations

from typing import Any

from ..dtypes import default_float
from ..errors import AxisError
from ..expr import Expr, user_site
from ..leaves import as_flag, lift, normalize_axis
from .creation import full
from .define import cast
from .joining import concatenate
from .movement import reshape_to
from .names import diff
from .reduce import cumprod, cumsum, sum


def _cumulative(what: str, x: Any, axis: int | None, dtype: Any, include_initial: Any) -> Expr:
    node = lift(x)
    if axis is None and node.ndim != 1:
        raise AxisError(
            f"{what}: rank {node.ndim} needs an axis", site=user_site(), operands=(node,)
        )
    index = normalize_axis(0 if axis is None else axis, node.ndim, what)
    running = (cumprod if what == "cumulative_prod" else cumsum)(node, index, dtype)
    if not as_flag(include_initial, f"{what}: include_initial"):
        return running
    shape = running.array_type.shape
    start = 1 if what == "cumulative_prod" else 0
    first = full((*shape[:index], 1, *shape[index + 1 :]), start, running.dtype)
    return concatenate([first, running], index)


def cumulative_sum(
    x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Expr:
    """Running sums along an axis, which only a vector may leave out; dtypes as sum.

    include_initial: with a 0 before them.
    """
    return _cumulative("cumulative_sum", x, axis, dtype, include_initial)


def cumulative_prod(
    x: Any, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Expr:
    """Running products along an axis, which only a vector may leave out; dtypes as sum.

    include_initial: with a 1 before them.
    """
    return _cumulative("cumulative_prod", x, axis, dtype, include_initial)


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Expr:
    """The integral of samples y along an axis by trapezoids.

    x: where they were taken, a vector or of the rank of y; else they are dx apart. Integers are
    integrated in the default float.
    """
    node = lift(y)
    node = node if node.dtype.is_inexact else cast(node, default_float())
    index = normalize_axis(axis, node.ndim, "trapezoid")
    before = (slice(None),) * index
    pairs = node[(*before, slice(1, None))] + node[(*before, slice(None, -1))]
    return sum(pairs * (0.5 * _steps(x, dx, node.ndim, index)), index)


def _steps(x: Any, dx: Any, ndim: int, axis: int) -> Any:
    if x is None:
        return dx
    places = lift(x)
    if places.ndim != 1:
        return diff(places, axis=axis)
    steps = diff(places)
    shape = tuple(steps.array_type.shape[0] if a == axis else 1 for a in range(ndim))
    return reshape_to(steps, shape)


__all__ = ["cumulative_sum", "cumulative_prod", "trapezoid"]
