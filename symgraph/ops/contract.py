"""Contractions: the matmul primitive and the NumPy-like products that are said with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dims
from ..arraytype import Array
from ..dims import Shape, SizeLike, product
from ..dtypes import DType, bool_, every, int32
from ..errors import AxisError, DTypeError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import normalize_axis
from ..op import Op
from ..relations import require_equal
from .define import broadcast_shapes, cast, promote_operands
from .elementwise import conj, neq
from .movement import Concatenate, broadcast_by, reshape_to, show, transpose_by
from .product_dtypes import fitted, lifted, summed_in


class MatMul(Op):
    """a[..., m, k] @ b[..., k, n] -> [..., m, n].

    Equal ranks >= 2, equal batch sizes, one dtype; integers wrap.
    dtype: of the sums, for operands that are narrower; see product_dtypes.
    """

    name = "matmul"
    optional = ("dtype",)
    dtype: DType | None

    def infer(self, a: Array, b: Array) -> Array:
        result = summed_in("matmul", a.dtype, b.dtype, self.dtype)
        if result is bool_:
            raise DTypeError("matmul: dtype bool is not accepted")
        if a.ndim != b.ndim or a.ndim < 2:
            raise ShapeError(
                f"matmul: expected equal ranks >= 2, got {show(a.shape)} and {show(b.shape)}"
            )
        for axis, (s, t) in enumerate(zip(a.shape[:-2], b.shape[:-2])):
            require_equal(s, t, f"matmul: batch axis {axis}")
        require_equal(a.shape[-1], b.shape[-2], "matmul: inner sizes")
        batch = tuple(s if isinstance(s, int) else t for s, t in zip(a.shape[:-2], b.shape[:-2]))
        return Array(result, (*batch, a.shape[-2], b.shape[-1]))

    def evaluate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        dtype = a.dtype if self.dtype is None else self.dtype.np
        a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
        if dtype.itemsize == 2 and dtype.kind not in "iu":
            a, b = a.astype(np.float32), b.astype(np.float32)
        with np.errstate(all="ignore"):
            return np.matmul(a, b).astype(dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        a, b = inputs
        if not a.dtype.is_inexact:
            return [None, None]
        wide_a, wide_b = (cast(x, cotangent.dtype) for x in inputs)
        by_a = apply(MatMul(), cotangent, swapped(wide_b))
        by_b = apply(MatMul(), swapped(wide_a), cotangent)
        return [cast(by_a, a.dtype), cast(by_b, b.dtype)]


def swapped(x: Expr) -> Expr:
    """x with its last two axes exchanged."""
    n = x.ndim
    return transpose_by(x, (*range(n - 2), n - 1, n - 2))


# ---------------------------------------------------------------------------------------- functions


def operands(what: str, *values: Any) -> list[Expr]:
    """Operands of a product, lifted and cast to one dtype."""
    return promote_operands(what, values, frozenset(every))


def operands_in(what: str, values: Sequence[Any], dtype: Any) -> tuple[list[Expr], DType | None]:
    """Operands of a product that a dtype may be given for; without one, as `operands`."""
    return (operands(what, *values), None) if dtype is None else lifted(what, values, dtype)


def require_inner(what: str, a: Expr, b: Expr, axis_a: int, axis_b: int) -> None:
    """The contracted sizes agree, or an error in the user's words."""
    k, got = a.array_type.shape[axis_a], b.array_type.shape[axis_b]
    if dims.known_equal(k, got) is False:
        raise ShapeError(
            f"{what}({a.label}, {b.label}): inner sizes differ: "
            f"expected {k} (axis {axis_a % a.ndim} of {a.label}), "
            f"got {got} (axis {axis_b % b.ndim} of {b.label})",
            site=user_site(),
            operands=(a, b),
        )


def multiply_matrices(a: Expr, b: Expr, dtype: DType | None = None) -> Expr:
    """MatMul of operands of equal batch; bool as `any(a and b)`, which has no kernel of its own."""
    if dtype is not None:
        a, b, dtype = fitted(a, b, dtype)
    if a.dtype is bool_:
        return neq(apply(MatMul(), cast(a, int32), cast(b, int32)), 0)
    return apply(MatMul(dtype), a, b)


def matmul(a: Any, b: Any, dtype: Any = None) -> Expr:
    """Matrix product as NumPy's `@`.

    Vectors are rows on the left and columns on the right; leading axes broadcast.
    dtype: what the operands are multiplied and summed as; they need not have one dtype then.
    Integers of 8 and 16 bits into int32, and halves into float32, are never widened in memory.
    Raises: ShapeError if the inner sizes differ or an operand is 0-d; DTypeError for an operand
    that `dtype` cannot hold.
    """
    (x, y), wanted = operands_in("matmul", (a, b), dtype)
    if not x.ndim or not y.ndim:
        raise ShapeError(
            "matmul: expected ranks of 1 or more, got a 0-d operand",
            site=user_site(),
            operands=(x, y),
            hint="use x * y",
        )
    require_inner("matmul", x, y, -1, -2 if y.ndim > 1 else -1)
    left = reshape_to(x, (1, *x.array_type.shape)) if x.ndim == 1 else x
    right = reshape_to(y, (*y.array_type.shape, 1)) if y.ndim == 1 else y
    result = _batched(left, right, wanted)
    shape = result.array_type.shape
    if y.ndim == 1:
        shape = shape[:-1]
    if x.ndim == 1:
        shape = shape[: len(shape) - 1 - (y.ndim > 1)] + shape[len(shape) - (y.ndim > 1) :]
    return reshape_to(result, shape)


def _batched(a: Expr, b: Expr, dtype: DType | None = None) -> Expr:
    """Product of operands of rank >= 2.

    One matrix on the right takes all rows of a at once, else batches broadcast.
    """
    rows, columns = a.array_type.shape, b.array_type.shape
    if b.ndim == 2:
        flat = reshape_to(a, (product(rows[:-1]), rows[-1]))
        return reshape_to(multiply_matrices(flat, b, dtype), (*rows[:-1], columns[-1]))
    try:
        batch = broadcast_shapes("matmul: batch", rows[:-2], columns[:-2])
    except ShapeError as error:
        raise error.at(user_site(), (a, b)) from None
    left, right = broadcast_by(a, (*batch, *rows[-2:])), broadcast_by(b, (*batch, *columns[-2:]))
    return multiply_matrices(left, right, dtype)


def dot(a: Any, b: Any, dtype: Any = None) -> Expr:
    """NumPy's dot: last axis of a with the last but one of b; 0-d operands multiply.

    dtype: as matmul's.
    [..., k] . [..., k, n] -> [..., ..., n]
    """
    (x, y), wanted = operands_in("dot", (a, b), dtype)
    if not x.ndim or not y.ndim:
        return x * y if wanted is None else cast(x, wanted) * cast(y, wanted)
    inner = -2 if y.ndim > 1 else -1
    require_inner("dot", x, y, -1, inner)
    return _contract(x, y, (x.ndim - 1,), (y.ndim + inner,), wanted)


def tensordot(a: Any, b: Any, axes: Any = 2, dtype: Any = None) -> Expr:
    """Sum of products over axes of both, as NumPy.

    axes: n (the last n of a with the first n of b), or two lists of axes.
    dtype: as matmul's.
    """
    (x, y), wanted = operands_in("tensordot", (a, b), dtype)
    if hasattr(axes, "__index__"):
        count = int(axes)
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise AxisError(
                f"tensordot: expected axes from 0 to {min(x.ndim, y.ndim)}, got {count}",
                site=user_site(),
                operands=(x, y),
            )
        pairs: Any = (range(x.ndim - count, x.ndim), range(count))
    else:
        pairs = [[p] if hasattr(p, "__index__") else p for p in axes]
    over_x = tuple(normalize_axis(i, x.ndim, "tensordot") for i in pairs[0])
    over_y = tuple(normalize_axis(i, y.ndim, "tensordot") for i in pairs[1])
    if (
        len(over_x) != len(over_y)
        or len(set(over_x)) != len(over_x)
        or len(set(over_y)) != len(over_y)
    ):
        raise AxisError(
            f"tensordot: axes {over_x} and {over_y} do not pair", site=user_site(), operands=(x, y)
        )
    for i, j in zip(over_x, over_y):
        require_inner("tensordot", x, y, i, j)
    return _contract(x, y, over_x, over_y, wanted)


def _contract(
    x: Expr,
    y: Expr,
    over_x: Sequence[int],
    over_y: Sequence[int],
    dtype: DType | None = None,
) -> Expr:
    """One 2-d product: kept axes of x as rows, kept axes of y as columns."""
    rows = [i for i in range(x.ndim) if i not in over_x]
    columns = [i for i in range(y.ndim) if i not in over_y]
    kept_x, kept_y = _sizes(x, rows), _sizes(y, columns)
    inner = product(_sizes(x, over_x))
    left = reshape_to(transpose_by(x, (*rows, *over_x)), (product(kept_x), inner))
    right = reshape_to(
        transpose_by(y, (*over_y, *columns)), (product(_sizes(y, over_y)), product(kept_y))
    )
    return reshape_to(multiply_matrices(left, right, dtype), kept_x + kept_y)


def _sizes(x: Expr, axes: Sequence[int]) -> Shape:
    sizes: list[SizeLike] = [x.array_type.shape[i] for i in axes]
    return tuple(sizes)


def outer(a: Any, b: Any) -> Expr:
    """Products of all elements of a (flattened) with all of b.   [m], [n] -> [m, n]"""
    x, y = operands("outer", a, b)
    return reshape_to(x, (x.array_type.size, 1)) * reshape_to(y, (1, y.array_type.size))


def inner(a: Any, b: Any) -> Expr:
    """Sum of products over the last axes of both.   [..., k], [..., k] -> [..., ...]"""
    x, y = operands("inner", a, b)
    if not x.ndim or not y.ndim:
        return x * y
    require_inner("inner", x, y, -1, -1)
    return _contract(x, y, (x.ndim - 1,), (y.ndim - 1,))


def vdot(a: Any, b: Any) -> Expr:
    """Sum of conj(a) * b over all elements, flattened."""
    x, y = operands("vdot", a, b)
    left = conj(x) if x.dtype.kind == "c" else x
    return dot(reshape_to(left, (x.array_type.size,)), reshape_to(y, (y.array_type.size,)))


def vecdot(a: Any, b: Any, axis: int = -1) -> Expr:
    """Sum of conj(a) * b along an axis; the others broadcast.   [..., k], [..., k] -> [...]"""
    x, y = operands("vecdot", a, b)
    places = [normalize_axis(axis, node.ndim, "vecdot") for node in (x, y)]
    require_inner("vecdot", x, y, *places)
    if axis >= 0 and x.ndim != y.ndim:
        raise AxisError(
            "vecdot: operands of different ranks need an axis from the end, as -1",
            site=user_site(),
            operands=(x, y),
        )
    last = axis if axis < 0 else axis - x.ndim
    if x.dtype is bool_:
        return (x & y).any(axis=last)
    return (_conjugate(x) * y).sum(axis=last, dtype=x.dtype)


def _conjugate(x: Expr) -> Expr:
    return conj(x) if x.dtype.kind == "c" else x


def matvec(a: Any, b: Any) -> Expr:
    """Matrices times vectors; leading axes broadcast.   [..., m, k], [..., k] -> [..., m]"""
    x, y = operands("matvec", a, b)
    _require_ranks("matvec", (x, 2), (y, 1))
    require_inner("matvec", x, y, -1, -1)
    shape = y.array_type.shape
    product_ = _batched(x, reshape_to(y, (*shape, 1)))
    return reshape_to(product_, product_.array_type.shape[:-1])


def vecmat(a: Any, b: Any) -> Expr:
    """Conjugated vectors times matrices; leading axes broadcast.

    [..., k], [..., k, n] -> [..., n]
    """
    x, y = operands("vecmat", a, b)
    _require_ranks("vecmat", (x, 1), (y, 2))
    require_inner("vecmat", x, y, -1, -2)
    shape = x.array_type.shape
    rows = reshape_to(_conjugate(x), (*shape[:-1], 1, shape[-1]))
    product_ = _batched(rows, y)
    whole = product_.array_type.shape
    return reshape_to(product_, (*whole[:-2], whole[-1]))


def _require_ranks(what: str, *wanted: tuple[Expr, int]) -> None:
    for node, rank in wanted:
        if node.ndim < rank:
            raise ShapeError(
                f"{what}: expected rank >= {rank}, got {node.ndim}",
                site=user_site(),
                operands=(node,),
            )


def cross(a: Any, b: Any, axis: int = -1) -> Expr:
    """Cross products of vectors of 3 along an axis of both; the others broadcast."""
    x, y = operands("cross", a, b)
    parts = []
    for node in (x, y):
        index = normalize_axis(axis, node.ndim, "cross")
        size = node.array_type.shape[index]
        if dims.known_equal(size, 3) is not True:
            raise ShapeError(
                f"cross: axis {axis} has size {size}, not 3", site=user_site(), operands=(node,)
            )
        before = (slice(None),) * index
        parts.append([node[(*before, slice(i, i + 1))] for i in range(3)])
    (x0, x1, x2), (y0, y1, y2) = parts
    found = [x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0]
    return apply(Concatenate(normalize_axis(axis, found[0].ndim, "cross")), *found)


def batched_dot(a: Any, b: Any) -> Expr:
    """dot of each a[i] with b[i].   [b, ..., k], [b, k, ...] -> [b, ..., ...]"""
    return batched_tensordot(
        a, b, 0 if min(_rank(a), _rank(b)) < 2 else [[_rank(a) - 1], [max(_rank(b) - 2, 1)]]
    )


def _rank(x: Any) -> int:
    return x.ndim if isinstance(x, Expr) else np.ndim(x)


def batched_tensordot(a: Any, b: Any, axes: Any = 2) -> Expr:
    """tensordot of each a[i] with b[i].

    Axes count from the whole operands (axis 0 is the batch), an int as tensordot.
    """
    x, y = operands("batched_tensordot", a, b)
    if not x.ndim or not y.ndim:
        raise ShapeError(
            "batched_tensordot: both operands need a batch axis", site=user_site(), operands=(x, y)
        )
    if hasattr(axes, "__index__"):
        axes = [list(range(x.ndim - int(axes), x.ndim)), list(range(1, 1 + int(axes)))]
    over_x, over_y = (
        tuple(
            normalize_axis(i, n, "batched_tensordot")
            for i in ([p] if hasattr(p, "__index__") else p)
        )
        for p, n in zip(axes, (x.ndim, y.ndim))
    )
    for i, j in zip(over_x, over_y):
        require_inner("batched_tensordot", x, y, i, j)
    batch = x.array_type.shape[:1]
    rows = [i for i in range(1, x.ndim) if i not in over_x]
    columns = [i for i in range(1, y.ndim) if i not in over_y]
    kept_x, kept_y = _sizes(x, rows), _sizes(y, columns)
    k = product(_sizes(x, over_x))
    left = reshape_to(transpose_by(x, (0, *rows, *over_x)), (*batch, product(kept_x), k))
    right = reshape_to(
        transpose_by(y, (0, *over_y, *columns)), (*y.array_type.shape[:1], k, product(kept_y))
    )
    return reshape_to(multiply_matrices(left, right), (*batch, *kept_x, *kept_y))


__all__ = [
    "matmul",
    "dot",
    "tensordot",
    "outer",
    "inner",
    "vdot",
    "batched_dot",
    "batched_tensordot",
    "vecdot",
    "matvec",
    "vecmat",
    "cross",
]
