"""NumPy-like functions that join, cut, repeat, shift and pad, from the movement primitives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dims import SizeLike, dim_max, floordiv
from ..dtypes import every
from ..errors import AxisError, GraphError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import as_dim, as_dim_any, lift, normalize_axis
from .define import promote_operands
from .movement import (
    Concatenate,
    Place,
    broadcast_by,
    fill_value,
    flip_axes,
    reshape_to,
    slice_axis,
)
from .shaping import atleast_1d, atleast_2d, atleast_3d, expand_dims, flatten


def concatenate(arrays: Any, axis: int | None = 0) -> Expr:
    """Arrays one after another along an axis, flattened if None; dtypes are promoted.

    Raises: ShapeError if ranks or other sizes differ.
    """
    nodes = _operands("concatenate", arrays)
    if axis is None:
        nodes, axis = [flatten(n) for n in nodes], 0
    if not nodes[0].ndim:
        raise ShapeError(
            "concatenate: a 0-d array has no axis: use stack", site=user_site(), operands=nodes
        )
    index = normalize_axis(axis, nodes[0].ndim, "concatenate")
    return nodes[0] if len(nodes) == 1 else apply(Concatenate(index), *nodes)


def _operands(what: str, arrays: Any) -> list[Expr]:
    if isinstance(arrays, Expr) or not isinstance(arrays, (tuple, list)):
        raise GraphError(f"{what}: expected a list of arrays, got {arrays!r}", site=user_site())
    if not arrays:
        raise ShapeError(f"{what}: expected at least one array", site=user_site())
    return promote_operands(what, arrays, frozenset(every))


def stack(arrays: Any, axis: int = 0) -> Expr:
    """Arrays of one shape along a new axis."""
    nodes = _operands("stack", arrays)
    index = normalize_axis(axis, nodes[0].ndim + 1, "stack")
    if any(n.ndim != nodes[0].ndim for n in nodes):
        raise ShapeError("stack: ranks differ", site=user_site(), operands=nodes)
    return concatenate([expand_dims(n, index) for n in nodes], index)


def vstack(arrays: Any) -> Expr:
    """Arrays one below another (vectors as rows)."""
    return concatenate([atleast_2d(a) for a in _operands("vstack", arrays)], 0)


def hstack(arrays: Any) -> Expr:
    """Arrays side by side (vectors one after another)."""
    nodes = [atleast_1d(a) for a in _operands("hstack", arrays)]
    return concatenate(nodes, 0 if nodes and nodes[0].ndim == 1 else 1)


def dstack(arrays: Any) -> Expr:
    """Arrays one behind another, along axis 2 (vectors and matrices get one)."""
    return concatenate([atleast_3d(a) for a in _operands("dstack", arrays)], 2)


def column_stack(arrays: Any) -> Expr:
    """Vectors as the columns of a matrix, matrices side by side."""
    nodes = [atleast_1d(a) for a in _operands("column_stack", arrays)]
    return concatenate([expand_dims(a, 1) if a.ndim == 1 else a for a in nodes], 1)


# ------------------------------------------------------------------------------------------ cutting


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Expr]:
    """Equal parts (an int, which must divide the size) or parts that end at the given indices."""
    node = lift(x)
    index = normalize_axis(axis, node.ndim, "split")
    if isinstance(indices_or_sections, (tuple, list)):
        return _cut_at(node, [as_dim_any(i, "split") for i in indices_or_sections], index)
    count = _sections("split", indices_or_sections)
    size = node.array_type.shape[index]
    part = floordiv(size, count)
    if isinstance(size, int) and size % count:
        raise ShapeError(
            f"split: {count} parts of size {size} on axis {axis} are not equal",
            site=user_site(),
            operands=(node,),
        )
    shape = node.array_type.shape
    rows = reshape_to(
        node, (*shape[:index], count, part, *shape[index + 1 :])
    )  # its guard: count divides size
    parts = [slice_axis(rows, index, i, 1) for i in range(count)]
    return [reshape_to(p, (*shape[:index], part, *shape[index + 1 :])) for p in parts]


def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Expr]:
    """As split, but the first parts are one longer where the size does not divide."""
    node = lift(x)
    index = normalize_axis(axis, node.ndim, "array_split")
    if isinstance(indices_or_sections, (tuple, list)):
        return split(node, indices_or_sections, axis)
    count = _sections("array_split", indices_or_sections)
    size = node.array_type.shape[index]
    if not isinstance(size, int):
        raise ShapeError(
            "array_split: the size must be known; split needs no known size",
            site=user_site(),
            operands=(node,),
        )
    part, longer = divmod(size, count)
    ends = [(i + 1) * part + min(i + 1, longer) for i in range(count - 1)]
    return _cut_at(node, ends, index)


def _split_along(what: str, x: Any, parts: Any, axis: int) -> list[Expr]:
    node = lift(x)
    if node.ndim <= axis:
        raise AxisError(
            f"{what}: expected rank >= {axis + 1}, got {node.ndim}",
            site=user_site(),
            operands=(node,),
        )
    return split(node, parts, axis)


def hsplit(x: Any, indices_or_sections: Any) -> list[Expr]:
    """split by columns; of a vector along its only axis."""
    return _split_along("hsplit", x, indices_or_sections, min(1, max(lift(x).ndim - 1, 0)))


def vsplit(x: Any, indices_or_sections: Any) -> list[Expr]:
    """split by rows, of rank 2 and more."""
    _split_along("vsplit", x, [], 1)
    return split(x, indices_or_sections, 0)


def dsplit(x: Any, indices_or_sections: Any) -> list[Expr]:
    """split along axis 2, of rank 3 and more."""
    return _split_along("dsplit", x, indices_or_sections, 2)


def unstack(x: Any, axis: int = 0) -> list[Expr]:
    """The slices along an axis of known size."""
    node = lift(x)
    index = normalize_axis(axis, node.ndim, "unstack")
    size = node.array_type.shape[index]
    if not isinstance(size, int):
        raise ShapeError(
            f"unstack: the size of axis {axis} must be known", site=user_site(), operands=(node,)
        )
    return [node[(*(slice(None),) * index, i)] for i in range(size)]


def _sections(what: str, count: Any) -> int:
    number = as_dim(count, f"{what}: number of parts")
    if not isinstance(number, int) or number < 1:
        raise ShapeError(
            f"{what}: expected a positive number of parts, got {number}", site=user_site()
        )
    return number


def _cut_at(x: Expr, ends: Sequence[SizeLike], axis: int) -> list[Expr]:
    bounds = [None, *ends, None]
    before = (slice(None),) * axis
    return [x[(*before, slice(a, b))] for a, b in zip(bounds, bounds[1:])]


# ---------------------------------------------------------------------------------------- repeating


def repeat(x: Any, repeats: int, axis: int | None = None) -> Expr:
    """Every element `repeats` times in a row along an axis, of the flattened array if None."""
    node = lift(x)
    if isinstance(repeats, (tuple, list)) or (isinstance(repeats, Expr) and repeats.ndim):
        raise GraphError(
            "repeat: one number of repeats for all elements is supported, got several",
            site=user_site(),
        )
    count = as_dim(repeats, "repeat: repeats")
    if axis is None:
        node, axis = flatten(node), 0
    index = normalize_axis(axis, node.ndim, "repeat")
    shape = node.array_type.shape
    head, tail = shape[: index + 1], shape[index + 1 :]
    spread = broadcast_by(reshape_to(node, (*head, 1, *tail)), (*head, count, *tail))
    return reshape_to(spread, (*head[:-1], head[-1] * count, *tail))


def tile(x: Any, reps: Any) -> Expr:
    """The whole array repeated reps[i] times along each axis; reps and shape align on the right."""
    node = lift(x)
    counts = [
        as_dim(r, "tile: reps") for r in (reps if isinstance(reps, (tuple, list)) else (reps,))
    ]
    rank = max(node.ndim, len(counts))
    counts = [*[1] * (rank - len(counts)), *counts]
    shape = (1,) * (rank - node.ndim) + node.array_type.shape
    pairs = [p for count, size in zip(counts, shape) for p in (count, size)]
    apart = reshape_to(node, tuple(p for size in shape for p in (1, size)))
    return reshape_to(
        broadcast_by(apart, tuple(pairs)), tuple(c * s for c, s in zip(counts, shape))
    )


def roll(x: Any, shift: Any, axis: Any = None) -> Expr:
    """Elements moved `shift` places up along axes (of the flattened array if None).

    Those that fall off come in again.
    """
    node = lift(x)
    if axis is None:
        return reshape_to(
            _roll(flatten(node), as_dim_any(shift, "roll: shift"), 0), node.array_type.shape
        )
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts = list(shift) if isinstance(shift, (tuple, list)) else [shift] * len(axes)
    if len(shifts) != len(axes):
        raise AxisError(f"roll: {len(shifts)} shifts for {len(axes)} axes", site=user_site())
    for s, a in zip(shifts, axes):
        node = _roll(node, as_dim_any(s, "roll: shift"), normalize_axis(a, node.ndim, "roll"))
    return node


def _roll(x: Expr, shift: SizeLike, axis: int) -> Expr:
    size = x.array_type.shape[axis]
    period = dim_max(size, 1)
    moved = shift - period * floordiv(shift, period)
    if size == 0 or moved == 0:
        return x
    parts = [slice_axis(x, axis, size - moved, moved), slice_axis(x, axis, 0, size - moved)]
    return apply(Concatenate(axis), *parts)


# ------------------------------------------------------------------------------------------ padding


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Expr:
    """Elements put before and after each axis, as NumPy's pad.

    pad_width: n, (before, after) or one such pair per axis; sizes for "constant", else ints.
    mode: constant, edge, reflect, symmetric, wrap.   constant_values: numbers, paired as pad_width.
    """
    node = lift(x)
    widths = [
        tuple(as_dim(w, "pad: width") for w in pair)
        for pair in _pairs("pad_width", pad_width, node.ndim)
    ]
    if mode == "constant":
        return _pad_constant(node, widths, _pairs("constant_values", constant_values, node.ndim))
    if mode not in _EXTENDED:
        raise GraphError(
            f"pad: mode {mode!r}: expected constant, {', '.join(_EXTENDED)}", site=user_site()
        )
    for axis, (before, after) in enumerate(widths):
        node = _pad_extended(node, axis, before, after, mode)
    return node


def _pairs(what: str, given: Any, ndim: int) -> list[tuple[Any, Any]]:
    entries = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(entries, (tuple, list)):
        return [(entries, entries)] * ndim
    rows = [tuple(e) if isinstance(e, (tuple, list)) else e for e in entries]
    if len(rows) == 2 and not any(isinstance(r, tuple) for r in rows):
        return [(rows[0], rows[1])] * ndim
    pairs = [(r * 2)[:2] if isinstance(r, tuple) else (r, r) for r in rows]
    if len(pairs) not in (1, ndim) or any(len(p) != 2 for p in pairs):
        raise ShapeError(f"pad: {what} {given} does not fit rank {ndim}", site=user_site())
    return pairs * ndim if len(pairs) == 1 else pairs


def _pad_constant(x: Expr, widths: list[Any], values: list[tuple[Any, Any]]) -> Expr:
    """One Place if there is one value, else one for each side and axis, in NumPy's order."""
    fills = [fill_value(v, x.dtype) for pair in values for v in pair]
    sides = [(axis, side, widths[axis][side]) for axis in range(x.ndim) for side in (0, 1)]
    steps = [sides] if len({repr(f) for f in fills}) <= 1 else [[s] for s in sides]
    for number, step in enumerate(steps):
        starts, shape = [0] * x.ndim, list(x.array_type.shape)
        for axis, side, width in step:
            shape[axis] = shape[axis] + width
            starts[axis] = starts[axis] if side else width
        if tuple(shape) != x.array_type.shape:
            x = apply(Place(tuple(starts), (1,) * x.ndim, tuple(shape), fills[number]), x)
    return x


def _pad_extended(x: Expr, axis: int, before: SizeLike, after: SizeLike, mode: str) -> Expr:
    if not (isinstance(before, int) and isinstance(after, int)):
        raise ShapeError(f"pad: mode {mode!r} needs widths known in advance", site=user_site())
    if not before and not after:
        return x
    if x.array_type.shape[axis] == 0:
        raise ShapeError(
            f"pad: axis {axis} is empty: mode {mode!r} has nothing to repeat",
            site=user_site(),
            operands=(x,),
        )
    extend = _EXTENDED[mode]
    right = extend(x, axis, after)
    left = [flip_axes(p, [axis]) for p in reversed(extend(flip_axes(x, [axis]), axis, before))]
    return apply(Concatenate(axis), *left, x, *right)


def _edge(x: Expr, axis: int, width: int) -> list[Expr]:
    shape = x.array_type.shape
    last = slice_axis(x, axis, shape[axis] - 1, 1)
    target = (*shape[:axis], width, *shape[axis + 1 :])
    return [broadcast_by(last, target)] if width else []


def _mirror(x: Expr, axis: int, width: int, repeat_edge: bool) -> list[Expr]:
    """What follows the end if it is a mirror: runs down and up again, the edge repeated or not."""
    size = x.array_type.shape[axis]
    skip = 0 if repeat_edge else 1
    if size == 1 and skip:
        return _edge(x, axis, width)
    parts, backwards = [], True
    while width:
        run = width if not isinstance(size, int) else min(width, size - skip)
        start = size - 1 - skip if backwards else skip
        parts.append(slice_axis(x, axis, start, run, -1 if backwards else 1))
        width, backwards = width - run, not backwards
    return parts


def _wrap(x: Expr, axis: int, width: int) -> list[Expr]:
    size = x.array_type.shape[axis]
    if not isinstance(size, int):
        return [slice_axis(x, axis, 0, width)] if width else []
    whole, rest = divmod(width, size)
    return [x] * whole + ([slice_axis(x, axis, 0, rest)] if rest else [])


_EXTENDED = {
    "edge": _edge,
    "reflect": lambda x, axis, width: _mirror(x, axis, width, False),
    "symmetric": lambda x, axis, width: _mirror(x, axis, width, True),
    "wrap": _wrap,
}


__all__ = [
    "concatenate",
    "stack",
    "vstack",
    "hstack",
    "split",
    "array_split",
    "repeat",
    "tile",
    "roll",
    "pad",
    "dstack",
    "column_stack",
    "hsplit",
    "vsplit",
    "dsplit",
    "unstack",
]
