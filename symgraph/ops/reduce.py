"""Reductions over axes, arg-reductions and running sums: primitives and NumPy-like functions.

Accuracy of the reference: sums of floats accumulate in float64 and are rounded once (complex in
complex128); products are computed in their own dtype (halves in float32), so that they overflow
where compiled code does. Integers wrap.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arraytype import Array
from ..dims import Shape, SizeLike, product
from ..dtypes import DType, bool_, every, float32, int64, uint64
from ..dtypes import dtype as as_dtype
from ..errors import AxisError, DTypeError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import as_flag, lift, normalize_axis
from ..op import Op
from ..relations import require_le
from .define import cast, kinds_of
from .elementwise import eq, neq, where
from .movement import (
    Iota,
    broadcast_by,
    flip_axes,
    place_axis,
    reshape_to,
    shift_axis,
    slice_axis,
    transpose_by,
)


def _sum_dtype(x: np.ndarray) -> np.dtype:
    if x.dtype.kind in "iu":
        return x.dtype
    return np.dtype(np.complex128 if x.dtype.kind == "c" else np.float64)


def _float32_if_half(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x


_KINDS: dict[str, Callable[[np.ndarray, tuple[int, ...]], Any]] = {
    "sum": lambda x, axes: np.sum(x, axis=axes, dtype=_sum_dtype(x)),
    "prod": lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype),
    "max": lambda x, axes: np.max(x, axis=axes),
    "min": lambda x, axes: np.min(x, axis=axes),
    "any": lambda x, axes: np.any(x, axis=axes),
    "all": lambda x, axes: np.all(x, axis=axes),
}
_ACCEPTS = {"sum": "iufc", "prod": "iufc", "max": "biuf", "min": "biuf", "any": "b", "all": "b"}


class Reduce(Op):
    """One number for each slice over `axes` (sorted, none negative), which leave the shape.

    kind: sum prod max min any all; the dtype stays. NaN wins in max and min; their cotangent is
    split evenly among the elements that attain it.
    """

    name = "reduce"
    kind: str
    axes: tuple[int, ...]

    def __init__(self, *values: Any, **named: Any):
        super().__init__(*values, **named)
        object.__setattr__(self, "name", self.kind)

    def __repr__(self) -> str:
        return f"{self.kind}{{axes={self.axes}}}"

    def infer(self, x: Array) -> Array:
        require_kind(self.kind, x, _ACCEPTS[self.kind])
        if list(self.axes) != sorted(set(self.axes)) or builtins.any(
            not 0 <= a < x.ndim for a in self.axes
        ):
            raise AxisError(f"{self.kind}: axes {self.axes} do not fit rank {x.ndim}")
        if self.kind in ("max", "min"):
            for axis in self.axes:
                require_some(self.kind, axis, x.shape[axis])
        return Array(x.dtype, tuple(s for a, s in enumerate(x.shape) if a not in self.axes))

    def evaluate(self, x: np.ndarray) -> Any:
        with np.errstate(all="ignore"):
            result = np.asarray(_KINDS[self.kind](_float32_if_half(x), self.axes))
            return result.astype(x.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        (x,) = inputs
        if not x.dtype.is_inexact:
            return [None]
        return [_REDUCE_VJP[self.kind](x, self.axes, output, cotangent)]


def _spread(y: Expr, x: Expr, axes: Sequence[int]) -> Expr:
    """A reduction's result or cotangent repeated to the shape of x."""
    shape = x.array_type.shape
    return broadcast_by(reshape_to(y, kept_shape(shape, axes)), shape)


def _extreme_vjp(x: Expr, axes: tuple[int, ...], y: Expr, dy: Expr) -> Expr:
    ties = eq(x, _spread(y, x, axes))
    exact = computed_in(x.dtype)  # a half cannot count far
    share = cast(cast(dy, exact) / apply(Reduce("sum", axes), cast(ties, exact)), dy.dtype)
    return where(ties, _spread(share, x, axes), 0)


def _prod_vjp(x: Expr, axes: tuple[int, ...], y: Expr, dy: Expr) -> Expr:
    """Products of all the others, left times right: no division, so zeros are no exception."""
    rest = tuple(a for a in range(x.ndim) if a not in axes)
    order = rest + axes
    moved = transpose_by(x, order)
    shape = moved.array_type.shape
    flat = reshape_to(moved, (*shape[: len(rest)], product(shape[len(rest) :])))
    last = len(rest)
    left = _product_before(flat, last)
    right = flip_axes(_product_before(flip_axes(flat, [last]), last), [last])
    others = transpose_by(reshape_to(left * right, shape), np.argsort(order).tolist())
    return _spread(dy, x, axes) * others


def _product_before(x: Expr, axis: int) -> Expr:
    """The product of the elements before each one."""
    return shift_axis(apply(Cumulative("prod", axis), x), axis, 1)


_REDUCE_VJP: dict[str, Callable[[Expr, tuple[int, ...], Expr, Expr], Expr]] = {
    "sum": lambda x, axes, y, dy: _spread(dy, x, axes),
    "prod": _prod_vjp,
    "max": _extreme_vjp,
    "min": _extreme_vjp,
}


class ArgReduce(Op):
    """The int64 position along `axis` of the first largest (argmax) or smallest (argmin) element.

    NaN wins.
    """

    name = "argreduce"
    kind: str
    axis: int

    def __init__(self, *values: Any, **named: Any):
        super().__init__(*values, **named)
        object.__setattr__(self, "name", self.kind)

    def __repr__(self) -> str:
        return f"{self.kind}{{axis={self.axis}}}"

    def infer(self, x: Array) -> Array:
        require_kind(self.kind, x, "biuf")
        require_axis(self.kind, self.axis, x.ndim)
        require_some(self.kind, self.axis, x.shape[self.axis])
        return Array(int64, x.shape[: self.axis] + x.shape[self.axis + 1 :])

    def evaluate(self, x: np.ndarray) -> Any:
        find = np.argmax if self.kind == "argmax" else np.argmin
        return find(_float32_if_half(x), axis=self.axis).astype(np.int64)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        return [None]


class Cumulative(Op):
    """Running sums or products along an axis; the dtype stays."""

    name = "cumulative"
    kind: str
    axis: int

    def __init__(self, *values: Any, **named: Any):
        super().__init__(*values, **named)
        object.__setattr__(self, "name", "cum" + self.kind)

    def __repr__(self) -> str:
        return f"cum{self.kind}{{axis={self.axis}}}"

    def infer(self, x: Array) -> Array:
        require_kind(self.name, x, "iufc")
        require_axis(self.name, self.axis, x.ndim)
        return x

    def evaluate(self, x: np.ndarray) -> Any:
        with np.errstate(all="ignore"):
            exact = _float32_if_half(x)
            if self.kind == "sum":
                result = np.cumsum(exact, axis=self.axis, dtype=_sum_dtype(exact))
            else:
                result = np.cumprod(exact, axis=self.axis, dtype=exact.dtype)
            return result.astype(x.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        (x,) = inputs
        if not x.dtype.is_inexact:
            return [None]
        if self.kind == "sum":
            backwards = apply(self, flip_axes(cotangent, [self.axis]))
            return [flip_axes(backwards, [self.axis])]
        static = isinstance(x.array_type.shape[self.axis], int)
        follow = _follow_by_doubling if static else _follow_by_matrix
        before = _product_before(x, self.axis)
        return [before * follow(x, cotangent, self.axis)]


def _follow_by_doubling(x: Expr, dy: Expr, axis: int) -> Expr:
    """s[i] = dy[i] + x[i+1] * s[i+1], in log2(n) rounds of doubling reach; zeros may occur."""
    size = x.array_type.shape[axis]
    assert isinstance(size, int)

    def ahead(y: Expr, reach: int) -> Expr:
        return place_axis(slice_axis(y, axis, reach, size - reach), axis, 0, size, 0)

    factor, total, reach = ahead(x, builtins.min(1, size)), dy, 1
    while reach < size:
        total = total + factor * ahead(total, reach)
        factor = factor * ahead(factor, reach)
        reach *= 2
    return total


def _follow_by_matrix(x: Expr, dy: Expr, axis: int) -> Expr:
    """The same where the size is symbolic: rows i, columns k of products x[i+1] ...

    x[k], quadratic in the size.
    """
    order = [a for a in range(x.ndim) if a != axis] + [axis]
    row_major = transpose_by(x, order)
    shape = row_major.array_type.shape
    n = shape[-1]
    square = (*shape, n)
    index = apply(Iota(n, int64))
    i, k = reshape_to(index, (n, 1)), reshape_to(index, (1, n))

    def rows(y: Expr) -> Expr:
        return broadcast_by(reshape_to(y, (*shape[:-1], 1, n)), square)

    products = apply(Cumulative("prod", x.ndim), where(k > i, rows(row_major), 1))
    terms = where(k >= i, products * rows(transpose_by(dy, order)), 0)
    return transpose_by(apply(Reduce("sum", (x.ndim,)), terms), np.argsort(order).tolist())


# ----------------------------------------------------------------------------------------- checking


def require_kind(what: str, x: Array, kinds: str) -> None:
    """The dtype is of one of the kinds (letters of dtypes.KINDS)."""
    if x.dtype.kind not in kinds:
        accepted = kinds_of(d for d in every if d.kind in kinds)
        raise DTypeError(f"{what}: dtype {x.dtype} is not accepted", hint=f"it takes {accepted}")


def require_axis(what: str, axis: int, ndim: int) -> None:
    """The axis exists."""
    if not 0 <= axis < ndim:
        raise AxisError(f"{what}: axis {axis} is out of range for rank {ndim}")


def require_some(what: str, axis: int, size: SizeLike) -> None:
    """The axis is not empty: an extreme of nothing does not exist."""
    if size == 0:
        raise ShapeError(f"{what}: axis {axis} is empty: nothing to take the {what} of")
    require_le(1, size, f"{what}: axis {axis} is empty")


def normalize_axes(axis: Any, ndim: int, what: str) -> tuple[int, ...]:
    """Sorted axes in [0, ndim) from None (all), an int or a sequence.

    Raises AxisError, also if one comes twice.
    """
    if axis is None:
        return tuple(range(ndim))
    if hasattr(axis, "__index__") and not isinstance(axis, Expr):
        return (normalize_axis(axis, ndim, what),)
    if not isinstance(axis, (tuple, list)):
        raise AxisError(
            f"{what}: axis must be an integer or a tuple of them, got {axis!r}", site=user_site()
        )
    axes = sorted(normalize_axis(a, ndim, what) for a in axis)
    if len(set(axes)) != len(axes):
        raise AxisError(f"{what}: axis {axis} names an axis twice", site=user_site())
    return tuple(axes)


def kept_shape(shape: Shape, axes: Sequence[int]) -> Shape:
    """The shape with 1 for each of the axes."""
    return tuple(1 if a in axes else s for a, s in enumerate(shape))


# ---------------------------------------------------------------------------------------- functions


def reduce_by(kind: str, x: Expr, axis: Any, keepdims: bool) -> Expr:
    """A Reduce over user-given axes, with the reduced axes kept as 1 if asked."""
    axes = normalize_axes(axis, x.ndim, kind)
    result = apply(Reduce(kind, axes), x) if axes else x
    if not as_flag(keepdims, f"{kind}: keepdims"):
        return result
    return reshape_to(result, kept_shape(x.array_type.shape, axes))


def widened(d: DType) -> DType:
    """The dtype a sum of `d` is taken in: 64 bits for bool and integers, else its own."""
    if d.kind == "u":
        return uint64
    return int64 if d.kind in "bi" else d


def computed_in(d: DType) -> DType:
    """What means and counts are computed in: halves in float32, as their sums may overflow."""
    return float32 if d.is_float and d.bits == 16 else d


def _total(kind: str, x: Any, axis: Any, dtype: Any, keepdims: bool, acc_dtype: Any) -> Expr:
    node = lift(x)
    result = as_dtype(dtype) if dtype is not None else widened(node.dtype)
    inner = cast(node, result if acc_dtype is None else acc_dtype)
    return cast(reduce_by(kind, inner, axis, keepdims), result)


def sum(
    x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, acc_dtype: Any = None
) -> Expr:
    """Sum over axes (all if None).

    bool and integers are summed in 64 bits, floats keep their dtype.
    """
    return _total("sum", x, axis, dtype, keepdims, acc_dtype)


def prod(
    x: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False, acc_dtype: Any = None
) -> Expr:
    """Product over axes (all if None).

    dtypes as sum; the gradient is right where elements are 0.
    """
    return _total("prod", x, axis, dtype, keepdims, acc_dtype)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """Largest element over axes; NaN wins. Its gradient is split evenly among ties.

    Raises ShapeError if there is none.
    """
    return reduce_by("max", lift(x), axis, keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """Smallest element over axes; NaN wins. Its gradient is split evenly among ties.

    Raises ShapeError if there is none.
    """
    return reduce_by("min", lift(x), axis, keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """Whether some element is not 0 -> bool."""
    return reduce_by("any", _truth(lift(x)), axis, keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """Whether every element is not 0 -> bool."""
    return reduce_by("all", _truth(lift(x)), axis, keepdims)


def _truth(x: Expr) -> Expr:
    return x if x.dtype is bool_ else neq(x, 0)


def _position(kind: str, x: Any, axis: Any, keepdims: bool) -> Expr:
    node = lift(x)
    shape, keep = node.array_type.shape, as_flag(keepdims, f"{kind}: keepdims")
    if axis is None:
        result = apply(ArgReduce(kind, 0), reshape_to(node, (product(shape),)))
        return reshape_to(result, (1,) * node.ndim) if keep else result
    index = normalize_axis(axis, node.ndim, kind)
    result = apply(ArgReduce(kind, index), node)
    return reshape_to(result, kept_shape(shape, [index])) if keep else result


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Expr:
    """int64 position of the first largest element along an axis, in the flattened array if None.

    NaN wins.
    """
    return _position("argmax", x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Expr:
    """int64 position of the first smallest element along an axis, in the flattened array if None.

    NaN wins.
    """
    return _position("argmin", x, axis, keepdims)


def _running(kind: str, x: Any, axis: int | None, dtype: Any) -> Expr:
    node = lift(x)
    node = cast(node, widened(node.dtype) if dtype is None else dtype)
    if axis is None:
        node, axis = reshape_to(node, (node.array_type.size,)), 0
    return apply(Cumulative(kind, normalize_axis(axis, node.ndim, f"cum{kind}")), node)


def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Expr:
    """Running sums along an axis, of the flattened array if None; dtypes as sum."""
    return _running("sum", x, axis, dtype)


def cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Expr:
    """Running products along an axis, of the flattened array if None; dtypes as sum.

    The gradient is right at zeros.
    """
    return _running("prod", x, axis, dtype)


__all__ = [
    "sum",
    "prod",
    "max",
    "min",
    "any",
    "all",
    "argmax",
    "argmin",
    "cumsum",
    "cumprod",
]
