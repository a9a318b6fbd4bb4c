"""What users call to read and to add up at integer places along one axis: take, segment_sum, ..."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import DType, int64, numeric
from ..errors import DTypeError, GraphError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import as_dim, constant, lift, normalize_axis, size_value
from .define import broadcast_shapes, cast, promote_operands
from .elementwise import clip, maximum, mod
from .gather import Gather, Scatter, gather, require_constant_inside
from .movement import broadcast_by, reshape_to, transpose_by
from .reduce import computed_in

MODES = ("raise", "wrap", "clip")


def take(a: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Expr:
    """Elements of `a` at integer indices along an axis (of the flattened array without one).

    a: [before, n, after], indices: [...] -> [before, ..., after].
    mode: an index outside of [-n, n) is an error when the function runs ("raise"), is taken modulo
    n ("wrap"), or becomes the nearest in [0, n) ("clip"; negative ones become 0).

    Raises, when run: IndexFault, naming the index.
    """
    x, index = lift(a), as_index("take", indices)
    if mode not in MODES:
        raise GraphError(
            f"take: mode={mode!r}: expected one of {', '.join(MODES)}", site=user_site()
        )
    if axis is None:
        x, along = reshape_to(x, (x.array_type.size,)), 0
    else:
        along = normalize_axis(axis, x.ndim, "take")
    size = x.array_type.shape[along]
    if mode == "raise":
        require_constant_inside("take: ", x, index, size, along)
    else:
        length = cast(lift(size_value(size)), int64)
        wide = cast(index, int64)
        index = mod(wide, length) if mode == "wrap" else clip(wide, 0, length - 1)
    return gather(x, [index], along, [along])


def embedding(table: Any, ids: Any) -> Expr:
    """Rows of a table.   table: [n, ...], ids: integers [batch...] -> [batch..., ...].

    Its gradient adds up the rows of equal ids.   Raises, when run: IndexFault, naming the id.
    """
    rows, index = lift(table), as_index("embedding", ids)
    if not rows.ndim:
        raise ShapeError("embedding: the table has no rows: it is 0-d", site=user_site())
    require_constant_inside("embedding: ", rows, index, rows.array_type.shape[0], 0)
    return gather(rows, [index], 0, [0])


def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Expr:
    """Elements of each line along an axis at that line's own indices.

    arr: [before, n, after], indices: [before, k, after] -> [before, k, after]; the other sizes
    broadcast. axis None: of the flattened arrays.
    Raises, when run: IndexFault, naming the index.
    """
    x, index = lift(arr), as_index("take_along_axis", indices)
    if axis is None:
        x, index = (reshape_to(v, (v.array_type.size,)) for v in (x, index))
    along = _same_rank("take_along_axis", x, index, -1 if axis is None else axis)
    require_constant_inside("take_along_axis: ", x, index, x.array_type.shape[along], along)
    x, index = _last(x, along), _last(index, along)
    shapes = [v.array_type.shape[:-1] for v in (x, index)]
    try:
        lead = broadcast_shapes("take_along_axis", *shapes)
    except ShapeError as error:
        raise error.at(user_site(), (lift(arr), lift(indices))) from None
    x = broadcast_by(x, (*lead, x.array_type.shape[-1]))
    index = broadcast_by(index, (*lead, index.array_type.shape[-1]))
    result = apply(Gather(len(lead), (along,), True), x, index)
    return _back(result, along)


def scatter_add(x: Any, indices: Any, updates: Any, axis: int = -1) -> Expr:
    """x plus updates at the places that `take_along_axis` with these indices would read.

    x: [before, n, after], indices and updates: [before, k, after]; an index may come several times,
    the updates are added in C order.   Raises, when run: IndexFault, naming the index.
    """
    index = as_index("scatter_add", indices)
    base, values = promote_operands("scatter_add", [x, updates], frozenset(numeric))
    along = _same_rank("scatter_add", base, index, axis)
    require_constant_inside("scatter_add: ", base, index, base.array_type.shape[along], along)
    base, index, values = (
        _last(base, along),
        _last(index, along),
        _last(broadcast_by(values, index.array_type.shape), along),
    )
    lead = base.array_type.shape[:-1]
    places = (*lead, index.array_type.shape[-1])
    index, values = broadcast_by(index, places), broadcast_by(values, places)
    return _back(apply(Scatter(len(lead), (along,), True, "add"), base, values, index), along)


# ----------------------------------------------------------------------------------------- segments


def segment_sum(data: Any, segment_ids: Any, num_segments: Any) -> Expr:
    """Sums of the rows that have the same id, added in order; 0 where there is none.

    data: [ids..., ...], segment_ids: integers [ids...] in [0, num_segments) ->
    [num_segments, ...].   Raises, when run: IndexFault, naming an id that is out of range.
    """
    return _segments("segment_sum", data, segment_ids, num_segments, "add")


def segment_max(data: Any, segment_ids: Any, num_segments: Any) -> Expr:
    """As segment_sum: the largest of each segment, the lowest value of the dtype for none."""
    return _segments("segment_max", data, segment_ids, num_segments, "max")


def segment_min(data: Any, segment_ids: Any, num_segments: Any) -> Expr:
    """As segment_sum: the smallest of each segment, the highest value of the dtype for none."""
    return _segments("segment_min", data, segment_ids, num_segments, "min")


def segment_mean(data: Any, segment_ids: Any, num_segments: Any) -> Expr:
    """As segment_sum: the mean of each segment, 0 where there is none.   data: floats."""
    node = lift(data)
    if not node.dtype.is_inexact:
        raise DTypeError(
            f"segment_mean: expected floats, got {node.dtype}", site=user_site(), operands=(node,)
        )
    exact = computed_in(node.dtype)
    total = _segments("segment_mean", cast(node, exact), segment_ids, num_segments, "add")
    ids = as_index("segment_mean", segment_ids)
    one = broadcast_by(constant(1, exact), ids.array_type.shape)
    count = _segments("segment_mean", one, ids, num_segments, "add")
    ones = (1,) * (total.ndim - 1)
    count = reshape_to(maximum(count, 1), (*count.array_type.shape, *ones))
    return cast(total / count, node.dtype)


def bincount(x: Any, weights: Any = None, *, length: Any) -> Expr:
    """How often each of 0, 1, ..., length - 1 comes, or the sums of its weights.

    x: integers, of any shape; weights: of that shape.   int64[length], or the weights' dtype.
    length: NumPy makes it max(x) + 1; here it has to be known, and what does not fit is an error
    when the function runs.
    """
    ids = as_index("bincount", x)
    values = constant(1, int64) if weights is None else lift(weights)
    return _segments("bincount", broadcast_by(values, ids.array_type.shape), ids, length, "add")


def _segments(what: str, data: Any, segment_ids: Any, count: Any, kind: str) -> Expr:
    values, ids = lift(data), as_index(what, segment_ids)
    size = as_dim(count, f"{what}: number of segments")
    if values.dtype.kind == "b" and kind == "add":
        values = cast(values, int64)
    if ids.ndim > values.ndim:
        raise ShapeError(
            f"{what}: ids of rank {ids.ndim} for data of rank {values.ndim}",
            site=user_site(),
            operands=(values, ids),
        )
    shape = values.array_type.shape
    ids = broadcast_by(ids, shape[: ids.ndim])
    require_constant_inside(f"{what}: ", ids, ids, size, 0, from_end=False)
    start = constant(0 if kind == "add" else _extreme(kind, values.dtype), values.dtype)
    start = broadcast_by(start, (size, *shape[ids.ndim :]))
    return apply(Scatter(0, (0,), False, kind), start, values, ids)


def _extreme(kind: str, d: DType) -> Any:
    """What every value of the dtype replaces: the lowest for max, the highest for min."""
    if d.kind == "b":
        return kind == "min"
    if d.is_inexact:
        return -np.inf if kind == "max" else np.inf
    info = np.iinfo(d.np)
    return int(info.min if kind == "max" else info.max)


# ----------------------------------------------------------------------------------------- operands


def as_index(what: str, indices: Any) -> Expr:
    """Integers as an expression; an empty list counts as integers.  Raises: DTypeError."""
    index = lift(indices)
    if isinstance(indices, (list, tuple)) and index.array_type.size == 0:
        index = cast(index, int64)
    if not index.dtype.is_integer:
        hint = "indices.astype('int64') drops fractions" if index.dtype.is_inexact else None
        raise DTypeError(
            f"{what}: expected integer indices, got {index.dtype}",
            site=user_site(),
            operands=(index,),
            hint=hint,
        )
    return index


def _same_rank(what: str, x: Expr, index: Expr, axis: int) -> int:
    """The axis, counted from the start; indices have the rank of the array."""
    if x.ndim != index.ndim or not x.ndim:
        raise ShapeError(
            f"{what}: indices of rank {index.ndim} for an array of rank {x.ndim}",
            site=user_site(),
            operands=(x, index),
        )
    return normalize_axis(axis, x.ndim, what)


def _last(x: Expr, axis: int) -> Expr:
    """x with an axis moved to the end."""
    return transpose_by(x, [*(a for a in range(x.ndim) if a != axis), axis])


def _back(x: Expr, axis: int) -> Expr:
    """x with its last axis moved to where `_last` took it from."""
    order = list(range(x.ndim - 1))
    return transpose_by(x, [*order[:axis], x.ndim - 1, *order[axis:]])


__all__ = [
    "bincount",
    "embedding",
    "scatter_add",
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_sum",
    "take",
    "take_along_axis",
]
