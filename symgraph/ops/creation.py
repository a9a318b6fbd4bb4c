"""Expressions made from sizes and numbers: zeros, full, arange, eye, diagonals and triangles."""

from __future__ import annotations

import math
from typing import Any

from ..dims import Dim, SizeLike, ceildiv, dim_max, dim_min
from ..dtypes import DType, bool_, default_float, float64, int64
from ..dtypes import dtype as as_dtype
from ..errors import AxisError, DTypeError, GraphError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import (
    as_dim,
    as_dim_any,
    as_flag,
    as_integer,
    constant,
    lift,
    normalize_axis,
    size_value,
)
from .define import cast
from .elementwise import eq, ge, where
from .movement import (
    Iota,
    Place,
    Slice,
    broadcast_by,
    fill_value,
    place_axis,
    reshape_to,
    slice_axis,
    transpose_by,
)
from .shaping import flatten, sizes


def _dtype(d: Any) -> DType:
    return default_float() if d is None else as_dtype(d)


# ------------------------------------------------------------------------------------------- filled


def full(shape: Any, fill: Any, dtype: Any = None) -> Expr:
    """An array of one value, a number or an expression that broadcasts to the shape.

    dtype: the value's unless given.
    """
    value = lift(fill) if dtype is None else cast(lift(fill, as_dtype(dtype)), dtype)
    return broadcast_by(value, sizes(shape, "shape"))


def zeros(shape: Any = (), dtype: Any = None) -> Expr:
    """An array of zeros.   dtype: default float unless given."""
    return full(shape, constant(0, _dtype(dtype)))


def ones(shape: Any = (), dtype: Any = None) -> Expr:
    """An array of ones.   dtype: default float unless given."""
    return full(shape, constant(1, _dtype(dtype)))


def full_like(x: Any, fill: Any, dtype: Any = None) -> Expr:
    """An array of one value with the shape and dtype of x."""
    node = lift(x)
    return full(node.array_type.shape, fill, node.dtype if dtype is None else dtype)


def zeros_like(x: Any, dtype: Any = None) -> Expr:
    """An array of zeros with the shape and dtype of x."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Expr:
    """An array of ones with the shape and dtype of x."""
    return full_like(x, 1, dtype)


def empty(shape: Any = (), dtype: Any = None) -> Expr:
    """An array of zeros: a value that is never read costs nothing here.   dtype as zeros."""
    return zeros(shape, dtype)


def empty_like(x: Any, dtype: Any = None) -> Expr:
    """An array of zeros with the shape and dtype of x."""
    return zeros_like(x, dtype)


def alloc(value: Any, *shape: Any) -> Expr:
    """The value broadcast to the sizes."""
    return full(
        shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape, value
    )


# ------------------------------------------------------------------------------------------- ranges


def iota(size: Any, dtype: Any = int64) -> Expr:
    """0, 1, ..., size - 1."""
    return apply(Iota(as_dim(size, "arange: size"), as_dtype(dtype)))


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Expr:
    """start, start + step, ... below stop.

    Bounds are numbers, or sizes and integer inputs; the step is a number.
    dtype: int64, the default float if a bound is a Python float.
    """
    low, high = (0, start) if stop is None else (start, stop)
    if any(isinstance(v, float) for v in (low, high, step)):
        return _float_range(low, high, step, _dtype(dtype))
    first, last = as_dim_any(low, "arange: start"), as_dim_any(high, "arange: stop")
    stride = as_dim_any(step, "arange: step")
    if isinstance(stride, Dim):
        raise GraphError("arange: the step must be a number", site=user_site())
    if stride == 0:
        raise ShapeError("arange: the step cannot be 0", site=user_site())
    span = last - first if stride > 0 else first - last
    index = iota(ceildiv(dim_max(span, 0), abs(stride)))
    values = index if stride == 1 else index * stride
    values = values if first == 0 else values + size_value(first)
    return cast(values, int64 if dtype is None else dtype)


def _float_range(start: Any, stop: Any, step: Any, d: DType) -> Expr:
    if any(isinstance(v, (Expr, Dim)) for v in (start, stop, step)):
        raise GraphError(
            "arange: floats and symbolic sizes do not mix",
            site=user_site(),
            hint="use arange(n) * step + start",
        )
    for v in (start, stop, step):
        if not isinstance(v, (int, float)) or not math.isfinite(v):
            raise DTypeError(f"arange: expected finite numbers, got {v!r}", site=user_site())
    if step == 0:
        raise ShapeError("arange: the step cannot be 0", site=user_site())
    count = max(math.ceil((stop - start) / step), 0)
    return cast(cast(iota(count), float64) * float(step) + float(start), d)


def linspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None
) -> Expr:
    """num evenly spaced values from start to stop, with or without stop itself.

    start, stop: numbers or 0-d expressions.
    """
    count = as_dim(num, "linspace: num")
    first, last = (cast(lift(v, float64), float64) for v in (start, stop))
    if first.ndim or last.ndim:
        raise ShapeError(
            "linspace: start and stop must be 0-d", site=user_site(), operands=(first, last)
        )
    index = iota(count)
    gaps = dim_max(count - as_flag(endpoint, "linspace: endpoint"), 1)
    values = cast(index, float64) * ((last - first) / cast(lift(size_value(gaps)), float64)) + first
    if endpoint:
        values = where(ge(index, lift(size_value(dim_max(count - 1, 1)))), last, values)
    return cast(values, _dtype(dtype))


# ---------------------------------------------------------------------------------------- diagonals


def eye(rows: Any, columns: Any = None, k: int = 0, dtype: Any = None) -> Expr:
    """Ones on the k-th diagonal, zeros elsewhere.

    [rows, columns or rows], dtype: default float unless given.
    """
    n = as_dim(rows, "eye: rows")
    m = n if columns is None else as_dim(columns, "eye: columns")
    return cast(eq(_column(n, as_integer(k, "eye: k")), _row(m)), _dtype(dtype))


def identity(n: Any, dtype: Any = None) -> Expr:
    """The n x n identity matrix."""
    return eye(n, dtype=dtype)


def tri(rows: Any, columns: Any = None, k: int = 0, dtype: Any = None) -> Expr:
    """Ones on and below the k-th diagonal, zeros above it."""
    n = as_dim(rows, "tri: rows")
    m = n if columns is None else as_dim(columns, "tri: columns")
    return cast(ge(_column(n, as_integer(k, "tri: k")), _row(m)), _dtype(dtype))


def _column(n: SizeLike, shift: int) -> Expr:
    index = iota(n)
    return reshape_to(index if shift == 0 else index + shift, (n, 1))


def _row(m: SizeLike) -> Expr:
    return reshape_to(iota(m), (1, m))


def tril(x: Any, k: int = 0) -> Expr:
    """The last two axes' triangle on and below the k-th diagonal; zeros above it."""
    node = _at_least_matrix("tril", x)
    return where(_below(node, as_integer(k, "tril: k")), node, 0)


def triu(x: Any, k: int = 0) -> Expr:
    """The last two axes' triangle on and above the k-th diagonal; zeros below it."""
    node = _at_least_matrix("triu", x)
    return where(_below(node, as_integer(k, "triu: k") - 1), 0, node)


def _below(x: Expr, k: int) -> Expr:
    """bool: on or below the k-th diagonal of the last two axes."""
    rows, columns = x.array_type.shape[-2:]
    return tri(rows, columns, k, bool_)


def _at_least_matrix(what: str, x: Any) -> Expr:
    node = lift(x)
    if node.ndim < 2:
        raise AxisError(
            f"{what}: expected rank >= 2, got {node.ndim}", site=user_site(), operands=(node,)
        )
    return node


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expr:
    """The offset-th diagonal over two axes, as a new last axis."""
    node = _at_least_matrix("diagonal", x)
    i, j = (normalize_axis(a, node.ndim, "diagonal") for a in (axis1, axis2))
    if i == j:
        raise AxisError("diagonal: axis1 and axis2 are the same", site=user_site())
    rest = [a for a in range(node.ndim) if a not in (i, j)]
    matrix = transpose_by(node, (*rest, i, j))
    rows, columns = matrix.array_type.shape[-2:]
    shift = as_integer(offset, "diagonal: offset")
    top, left = max(-shift, 0), max(shift, 0)
    size = dim_max(dim_min(rows - top, columns - left), 0)
    square = slice_axis(slice_axis(matrix, len(rest), top, size), len(rest) + 1, left, size)
    return _main_diagonal(square, len(rest))


def _main_diagonal(square: Expr, axis: int) -> Expr:
    """[..., n, n] -> [..., n].

    Of the flat elements every (n+1)-th, by a reshape to rows of n + 1.
    """
    shape = square.array_type.shape
    head, n = shape[:axis], shape[axis]
    flat = reshape_to(square, (*head, n * n))
    rows = reshape_to(place_axis(flat, axis, 0, n * n + n), (*head, n, n + 1))
    starts, steps = (0,) * (axis + 2), (1,) * (axis + 2)
    return reshape_to(apply(Slice(starts, (*head, n, 1), steps), rows), (*head, n))


def diag(x: Any, k: int = 0) -> Expr:
    """A vector as the k-th diagonal of a matrix of zeros, or a matrix's k-th diagonal."""
    node = lift(x)
    if node.ndim == 2:
        return diagonal(node, k)
    if node.ndim != 1:
        raise AxisError(
            f"diag: expected rank 1 or 2, got {node.ndim}", site=user_site(), operands=(node,)
        )
    n, k = node.array_type.shape[0], as_integer(k, "diag: k")
    flat = reshape_to(place_axis(reshape_to(node, (n, 1)), 1, 0, n + 1), (n * (n + 1),))
    square = reshape_to(slice_axis(flat, 0, 0, n * n), (n, n))
    side = n + abs(k)
    if k == 0:
        return square
    return apply(
        Place((max(-k, 0), max(k, 0)), (1, 1), (side, side), fill_value(0, node.dtype)), square
    )


def diagflat(x: Any, k: int = 0) -> Expr:
    """All elements, in C order, as the k-th diagonal of a matrix of zeros."""
    return diag(flatten(x), k)


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Expr:
    """Sum of a diagonal over two axes; dtypes as sum."""
    return diagonal(x, offset, axis1, axis2).sum(axis=-1, dtype=dtype)


__all__ = [
    "full",
    "zeros",
    "ones",
    "full_like",
    "zeros_like",
    "ones_like",
    "alloc",
    "iota",
    "arange",
    "linspace",
    "eye",
    "identity",
    "tri",
    "tril",
    "triu",
    "diagonal",
    "diag",
    "trace",
    "empty",
    "empty_like",
    "diagflat",
]
