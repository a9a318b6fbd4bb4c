"""Means, variances, norms and other figures of an axis, built from the reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dims import SizeLike, dim_max, product
from ..dtypes import DType, bool_, default_float, float32, float64, inexact, int64
from ..dtypes import dtype as as_dtype
from ..errors import GraphError
from ..expr import Expr, user_site
from ..leaves import as_integer, constant, lift, size_value
from .define import cast, promote_operands
from .elementwise import abs as absolute
from .elementwise import neq, pow, sqrt
from .movement import reshape_to
from .reduce import computed_in, max, min, normalize_axes, sum
from .shaping import broadcast_arrays, squeeze


def mean_dtype(x: Expr, dtype: Any) -> DType:
    """The dtype of a mean: the given one, else that of x or the default float."""
    if dtype is not None:
        return as_dtype(dtype)
    return x.dtype if x.dtype.is_inexact else default_float()


def count(size: SizeLike, d: DType) -> Expr:
    """A size as a scalar of a float dtype."""
    real = {"complex64": float32, "complex128": float64}.get(d, d)
    return cast(size_value(size), real) if not isinstance(size, int) else constant(size, real)


def mean(
    x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, acc_dtype: Any = None
) -> Expr:
    """Mean over axes (all if None).

    Integers and bool in the default float, halves through float32; of nothing: NaN.
    """
    node = lift(x)
    result = mean_dtype(node, dtype)
    inner = computed_in(result) if acc_dtype is None else as_dtype(acc_dtype)
    axes = normalize_axes(axis, node.ndim, "mean")
    total = sum(cast(node, inner), axes, keepdims=keepdims)
    return cast(total / count(_number(node, axes), inner), result)


def _number(x: Expr, axes: Sequence[int]) -> SizeLike:
    return product(x.array_type.shape[a] for a in axes)


def var(x: Any, axis: Any = None, ddof: int = 0, dtype: Any = None, keepdims: bool = False) -> Expr:
    """Variance over axes: mean of |x - mean|^2 with divisor n - ddof.

    dtypes as mean, real for complex x.
    """
    node = lift(x)
    result = mean_dtype(node, dtype)
    inner = computed_in(result)
    values = cast(node, inner)
    axes = normalize_axes(axis, node.ndim, "var")
    offsets = values - mean(values, axes, keepdims=True)
    squares = offsets * offsets if inner.is_float else absolute(offsets) ** 2
    divisor = dim_max(_number(node, axes) - as_integer(ddof, "var: ddof"), 0)
    quotient = sum(squares, axes, keepdims=keepdims) / count(divisor, squares.dtype)
    return cast(quotient, result) if result.is_float else quotient


def std(x: Any, axis: Any = None, ddof: int = 0, dtype: Any = None, keepdims: bool = False) -> Expr:
    """Standard deviation: the square root of var."""
    node = lift(x)
    result = mean_dtype(node, dtype)
    spread = sqrt(var(node, axis, ddof, computed_in(result), keepdims))
    return cast(spread, result) if result.is_float else spread


def average(x: Any, axis: Any = None, weights: Any = None, keepdims: bool = False) -> Expr:
    """Mean over axes, each element as often as its weight says.

    weights: of the shape of x, or a vector along one axis; integers in the default float.
    """
    node = lift(x)
    if weights is None:
        return mean(node, axis, keepdims=keepdims)
    values, factors = promote_operands("average", [node, weights], frozenset(inexact))
    if factors.ndim == 1 and node.ndim > 1:
        if axis is None or isinstance(axis, (tuple, list)):
            raise GraphError("average: a vector of weights needs one axis", site=user_site())
        place = normalize_axes(axis, node.ndim, "average")[0]
        length = factors.array_type.shape[0]
        factors = reshape_to(factors, tuple(length if a == place else 1 for a in range(node.ndim)))
    result, inner = values.dtype, computed_in(values.dtype)
    values, factors = broadcast_arrays(cast(values, inner), cast(factors, inner))
    total = sum(values * factors, axis, keepdims=keepdims)
    return cast(total / sum(factors, axis, keepdims=keepdims), result)


def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """Largest minus smallest element over axes."""
    node = lift(x)
    return max(node, axis, keepdims) - min(node, axis, keepdims)


def count_nonzero(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """int64 number of elements that are not 0."""
    node = lift(x)
    return sum(node if node.dtype is bool_ else neq(node, 0), axis, int64, keepdims)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Expr:
    """Norm of vectors over one axis, of matrices over two, or of all elements (no axis, no ord).

    ord: for vectors None or 2 (Euclidean), 1, inf, -inf, 0 or any p; for matrices None or "fro"
    (Euclidean), 1, -1, inf, -inf. With an ord and no axis, x must be a vector or a matrix.
    Source: numpy.linalg.norm.
    """
    node = lift(x)
    node = node if node.dtype.is_inexact else cast(node, default_float())
    values = absolute(cast(node, computed_in(node.dtype)))
    result = node.dtype if node.dtype.is_float else values.dtype
    axes = normalize_axes(axis, node.ndim, "norm")
    if ord is None or (len(axes) == 1 and ord == 2) or (len(axes) == 2 and ord == "fro"):
        return cast(sqrt(sum(values * values, axes, keepdims=keepdims)), result)
    if len(axes) == 1:
        return cast(_vector_norm(values, ord, axes[0], keepdims), result)
    if len(axes) != 2 or ord not in (1, -1, float("inf"), float("-inf")):
        raise GraphError(
            f"norm: ord={ord!r} over {len(axes)} axes is not supported", site=user_site()
        )
    order = axis if isinstance(axis, (tuple, list)) else axes
    rows, columns = (a % node.ndim for a in order)
    return cast(_matrix_norm(values, ord, rows, columns, keepdims), result)


def _matrix_norm(x: Expr, ord: Any, rows: int, columns: int, keepdims: bool) -> Expr:
    """The largest (ord > 0) or smallest sum over columns (ord 1) or rows (inf)."""
    summed, other = (rows, columns) if abs(ord) == 1 else (columns, rows)
    result = (max if ord > 0 else min)(sum(x, summed, keepdims=True), other, keepdims=True)
    return result if keepdims else squeeze(result, (rows, columns))


def _vector_norm(x: Expr, ord: Any, axis: int, keepdims: bool) -> Expr:
    if not isinstance(ord, (int, float)):
        raise GraphError(f"norm: ord={ord!r} of vectors is not supported", site=user_site())
    if abs(ord) == float("inf"):
        return (max if ord > 0 else min)(x, axis, keepdims)
    if ord == 0:
        return sum(cast(neq(x, 0), x.dtype), axis, keepdims=keepdims)
    if ord == 1:
        return sum(x, axis, keepdims=keepdims)
    return pow(sum(pow(x, ord), axis, keepdims=keepdims), 1 / ord)


__all__ = [
    "mean",
    "var",
    "std",
    "ptp",
    "count_nonzero",
    "norm",
    "average",
]
