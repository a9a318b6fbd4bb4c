"""Pooling primitives: what a sliding window gives of the elements it meets, and the adjoints.

    max_pool    x -> y              its gradient goes to the first maximum in row-major order
    argmax_pool x -> index          which point of the window that is
    pick        (index, x) -> y     the element at that point
    unpick      (index, y) -> x     its adjoint: each y added to the element it was picked from
    sum_pool    x -> y
    unsum       y -> x              its adjoint: each y added to all elements of its window

All are sums or maxima over the points of the window of strided views of the padded array; the
adjoints take, phase by phase of the strides, the positions whose windows meet an element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product as points
from math import inf
from typing import Any

import numpy as np

from ..arraytype import Array
from ..dims import Shape, SizeLike
from ..dtypes import DType, bool_, int32, numeric
from ..dtypes import dtype as as_dtype
from ..errors import DTypeError, ShapeError
from ..expr import Expr, apply
from ..leaves import constant
from ..op import Op
from ..relations import require_equal
from .define import cast
from .elementwise import eq, ge, isnan, logical_or, maximum, where
from .movement import Iota, broadcast_by, place_axis, reshape_to, show, slice_axis
from .reduce import Reduce, computed_in
from .windows import (
    Phase,
    Point,
    Windows,
    array_overlap,
    array_views,
    excess,
    interleaved,
    padded,
    padded_array,
    phase_counts,
    phases,
    view,
)


class Sliding(Op, abstract=True):
    """An op of sliding windows; `windows` are those of the large array."""

    windows: Windows

    def small(self, x: Array, dtype: DType) -> Array:
        """The type of one element per position."""
        self.windows.require(self.name, x.shape)
        return Array(dtype, self.windows.shaped(x.shape, self.windows.positions))

    def large(self, y: Array) -> Array:
        """The type of the array that the windows slide over."""
        image = self.windows.shaped(y.shape, self.windows.image)
        self.windows.require(self.name, image)
        self.windows.require_sizes(self.name, y.shape, self.windows.positions)
        return Array(y.dtype, image)

    def require_index(self, index: Array, y: Array) -> None:
        """The index is int32 and has an entry for each position."""
        if index.dtype is not int32:
            raise DTypeError(f"{self.name}: expected an index of int32, got {index.dtype}")
        if index.ndim != y.ndim:
            raise ShapeError(
                f"{self.name}: the index {show(index.shape)} does not fit {show(y.shape)}"
            )
        for axis, (have, want) in enumerate(zip(index.shape, y.shape)):
            require_equal(want, have, f"{self.name}: axis {axis} of the index")

    def number(self, tap: Point) -> int:
        """The place of a point among all in row-major order."""
        place = 0
        for k, size in zip(tap, self.windows.known):
            place = place * size + k
        return place


class MaxPool(Sliding):
    """The largest element under each position of the window; NaN wins, what is put around loses."""

    name = "max_pool"

    def infer(self, x: Array) -> Array:
        if x.dtype.kind == "c":
            raise DTypeError(f"max_pool: dtype {x.dtype} is not accepted")
        return self.small(x, x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        image = padded_array(self.windows, x, lowest(as_dtype(x.dtype)))
        with np.errstate(all="ignore"):
            found = reduce(np.maximum, (v for _, v in array_views(self.windows, image)))
            return np.array(found, x.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        if not cotangent.dtype.is_inexact:
            return [None]
        index = apply(ArgmaxPool(self.windows), inputs[0])
        return [apply(Unpick(self.windows), index, cotangent)]

    def jvp(self, inputs: Sequence[Expr], output: Expr, tangents: Sequence[Expr | None]) -> Any:
        (x,), (dx,) = inputs, tangents
        index = apply(ArgmaxPool(self.windows), x)
        return None if dx is None else apply(Pick(self.windows), index, dx)

    def expand(self, x: Expr) -> Expr:
        if tiles(self.windows) and keeps_rows(self.windows, x):
            return reduce_tiles("max", self.windows, x)
        image = padded(self.windows, x, lowest(x.dtype))
        return _axis_by_axis(self.windows, image, maximum)


class ArgmaxPool(Sliding):
    """The number, in row-major order, of the first point of the window with the largest element.

    NaN counts as largest, as in max_pool.
    """

    name = "argmax_pool"
    vjp = None

    def infer(self, x: Array) -> Array:
        return self.small(x, int32)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        image = padded_array(self.windows, x, lowest(as_dtype(x.dtype)))
        (_, first), *views = array_views(self.windows, image)
        best, index = np.array(first), np.zeros(first.shape, np.int32)
        with np.errstate(all="ignore"):
            for tap, v in views:
                better = (v > best) | ((v != v) & (best == best))
                best, index = np.where(better, v, best), np.where(better, self.number(tap), index)
        return index.astype(np.int32)

    def expand(self, x: Expr) -> Expr:
        image = padded(self.windows, x, lowest(x.dtype))
        *before, last = self.windows.points  # from the last to the first, which so wins ties
        best = view(self.windows, image, last)
        index = broadcast_by(constant(self.number(last), int32), best.array_type.shape)
        for tap in reversed(before):
            v = view(self.windows, image, tap)
            better = logical_or(ge(v, best), isnan(v)) if x.dtype.is_float else ge(v, best)
            index = where(better, constant(self.number(tap), int32), index)
            best = where(better, v, best)
        return index


class Pick(Sliding):
    """The element of x at each position's point."""

    name = "pick"

    def infer(self, index: Array, x: Array) -> Array:
        result = self.small(x, x.dtype)
        self.require_index(index, result)
        return result

    def evaluate(self, index: np.ndarray, x: np.ndarray) -> np.ndarray:
        image = padded_array(self.windows, x, 0)
        result = np.zeros(index.shape, x.dtype)
        for tap, v in array_views(self.windows, image):
            result = np.where(index == self.number(tap), v, result)
        return result.astype(x.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        return [None, apply(Unpick(self.windows), inputs[0], cotangent)]

    def jvp(self, inputs: Sequence[Expr], output: Expr, tangents: Sequence[Expr | None]) -> Any:
        return None if tangents[1] is None else apply(self, inputs[0], tangents[1])

    def expand(self, index: Expr, x: Expr) -> Expr:
        image = padded(self.windows, x)
        result = broadcast_by(constant(0, x.dtype), index.array_type.shape)
        for tap in self.windows.points:
            here = eq(index, constant(self.number(tap), int32))
            result = where(here, view(self.windows, image, tap), result)
        return result


class Unpick(Sliding):
    """Each y added to the element of its window that the index names, in a field of zeros."""

    name = "unpick"

    def infer(self, index: Array, y: Array) -> Array:
        self.require_index(index, y)
        return self.large(y)

    def evaluate(self, index: np.ndarray, y: np.ndarray) -> np.ndarray:
        return _collected(
            self.windows, y, lambda tap: np.where(index == self.number(tap), y, y.dtype.type(0))
        )

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        return [None, apply(Pick(self.windows), inputs[0], cotangent)]

    def jvp(self, inputs: Sequence[Expr], output: Expr, tangents: Sequence[Expr | None]) -> Any:
        return None if tangents[1] is None else apply(self, inputs[0], tangents[1])

    def expand(self, index: Expr, y: Expr) -> Expr:
        if tiles(self.windows):  # each element lies in one window at most
            number = constant(0, int32)
            for i, size in enumerate(self.windows.known):
                number = number * size + along_tile(self.windows, i, y.ndim)
            hit = eq(one_per_tile(self.windows, index), number)
            return over_tiles(self.windows, where(hit, one_per_tile(self.windows, y), 0))
        wide = cast(y, computed_in(y.dtype))

        def term(tap: Point, views: Sequence[Expr]) -> Expr:
            return where(eq(views[0], constant(self.number(tap), int32)), views[1], 0)

        return cast(_by_phases(self.windows, [(index, -1), (wide, 0)], term), y.dtype)


class SumPool(Sliding):
    """The sum of the elements under each position of the window; zeros are put around."""

    name = "sum_pool"

    def infer(self, x: Array) -> Array:
        if x.dtype not in numeric:
            raise DTypeError(f"sum_pool: dtype {x.dtype} is not accepted")
        return self.small(x, x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        image = padded_array(self.windows, _wide(x), 0)
        with np.errstate(all="ignore"):
            total: Any = sum(v for _, v in array_views(self.windows, image))
            return np.asarray(total).astype(x.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        return [apply(Unsum(self.windows), cotangent)]

    def expand(self, x: Expr) -> Expr:
        wide = cast(x, computed_in(x.dtype))
        if tiles(self.windows) and keeps_rows(self.windows, x):
            return cast(reduce_tiles("sum", self.windows, wide), x.dtype)
        image = padded(self.windows, wide)
        return cast(_axis_by_axis(self.windows, image, lambda a, b: a + b), x.dtype)


class Unsum(Sliding):
    """Each y added to all elements of its window, in a field of zeros."""

    name = "unsum"

    def infer(self, y: Array) -> Array:
        return self.large(y)

    def evaluate(self, y: np.ndarray) -> np.ndarray:
        wide = _wide(y)
        return _collected(self.windows, wide, lambda tap: wide).astype(y.dtype)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        return [apply(SumPool(self.windows), cotangent)]

    def expand(self, y: Expr) -> Expr:
        if tiles(self.windows):
            return over_tiles(self.windows, one_per_tile(self.windows, y))
        wide = cast(y, computed_in(y.dtype))
        total = _by_phases(self.windows, [(wide, 0)], lambda tap, views: views[0])
        return cast(total, y.dtype)


# -------------------------------------------------------------------------------- meaning in NumPy


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x


def _collected(windows: Any, y: np.ndarray, part: Callable[[Point], np.ndarray]) -> np.ndarray:
    """What the positions give to the elements at each point of their window, added up."""
    wide = _wide(y)
    total = np.zeros(windows.shaped(y.shape, windows.padded), wide.dtype)
    with np.errstate(all="ignore"):
        for tap, v in array_views(windows, total):
            v += part(tap)
    result = np.zeros(windows.shaped(y.shape, windows.image), wide.dtype)
    inside, kept = array_overlap(windows, y.ndim)
    result[kept] = total[inside]
    return result.astype(y.dtype)


def lowest(d: DType) -> Any:
    """What loses against every element."""
    if d is bool_:
        return False
    return int(np.iinfo(d.np).min) if d.is_integer else -inf


# ---------------------------------------------------------------------------------- in smaller ops


def tiles(windows: Windows) -> bool:
    """The windows lie side by side: nothing between them, nothing put around."""
    return (
        windows.strides == windows.window
        and not any((*windows.low, *windows.high))
        and all(d == 1 for d in windows.dilations)
    )


def keeps_rows(windows: Windows, x: Expr) -> bool:
    """The last axis is none of the windows': a reduction of tiles adds up whole rows.

    Else its loops would be as short as a tile, and taking every other element is faster.
    """
    return windows.axes[-1] != x.ndim - 1


def reduce_tiles(kind: str, windows: Windows, x: Expr) -> Expr:
    """A reduction of each tile; what is left over at the end of an axis is cut off."""
    for axis, count, size in zip(windows.axes, windows.positions, windows.window):
        x = slice_axis(x, axis, 0, count * size)
    apart = reshape_to(
        x, tile_shape(windows, x.array_type.shape, windows.positions, windows.window)
    )
    return apply(Reduce(kind, within_tiles(windows)), apart)


def tile_shape(windows: Windows, shape: Shape, counts: Shape, sizes: Shape) -> Shape:
    """`shape` with each of the windows' axes as two: which tile, and where in it."""
    pairs = dict(zip(windows.axes, zip(counts, sizes)))
    return tuple(s for a, other in enumerate(shape) for s in pairs.get(a, (other,)))


def within_tiles(windows: Windows) -> tuple[int, ...]:
    """The axes of a tile_shape that lie within tiles."""
    return tuple(a + i + 1 for i, a in enumerate(windows.axes))


def one_per_tile(windows: Windows, y: Expr) -> Expr:
    """y with axes of size 1 for the places within its tile."""
    ones = (1,) * len(windows.axes)
    return reshape_to(y, tile_shape(windows, y.array_type.shape, windows.positions, ones))


def along_tile(windows: Windows, i: int, rank: int) -> Expr:
    """The place within a tile along the i-th of the windows' axes, for arrays of `rank` axes."""
    axis = within_tiles(windows)[i]
    shape = tuple(windows.window[i] if a == axis else 1 for a in range(rank + len(windows.axes)))
    return reshape_to(apply(Iota(windows.window[i], int32)), shape)


def over_tiles(windows: Windows, x: Expr) -> Expr:
    """The image of tiles x (which may broadcast along them), with zeros after the last."""
    pairs = dict(zip((a - 1 for a in within_tiles(windows)), windows.window))
    shape = list(x.array_type.shape)
    for axis, size in pairs.items():
        shape[axis + 1] = size
    whole = broadcast_by(x, tuple(shape))
    merged: list[SizeLike] = []
    for axis, size in enumerate(shape):
        if axis - 1 in pairs:
            merged[-1] = merged[-1] * size
        else:
            merged.append(size)
    image = reshape_to(whole, tuple(merged))
    for axis, size in zip(windows.axes, windows.image):
        image = place_axis(image, axis, 0, size)
    return image


def _axis_by_axis(windows: Windows, image: Expr, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    """The views of all points combined along one axis after the other, the last one first."""
    for i in reversed(range(len(windows.axes))):
        axis = (windows.axes[i],)
        along = Windows(
            axis,
            windows.strides[i : i + 1],
            (0,),
            (0,),
            windows.dilations[i : i + 1],
            (image.array_type.shape[axis[0]],),
            windows.window[i : i + 1],
        )
        image = reduce(combine, [view(along, image, tap) for tap in along.points])
    return image


def _by_phases(
    windows: Windows,
    arrays: Sequence[tuple[Expr, Any]],
    term: Callable[[Point, Sequence[Expr]], Expr],
) -> Expr:
    """For each element the sum of a term over the points and positions that meet it.

    arrays: what there is for each position, and what stands for none.
    """
    found = [phases(windows, i) for i in range(len(windows.axes))]
    low = [max(0, *(p.low for p in ways if p.taps)) for ways in found]
    high = [
        max(0, *(excess(windows, i) + p.shift for p in ways if p.taps))
        for i, ways in enumerate(found)
    ]
    around = _stepping(windows, low, high, [1] * len(low), windows.positions)
    wide = [padded(around, x, fill) for x, fill in arrays]
    parts = [_phase(windows, wide, low, axes, term) for axes in points(*found)]
    return interleaved(windows, parts)


def _stepping(
    windows: Windows, low: Sequence[int], high: Sequence[int], window: Any, image: Any
) -> Windows:
    """Windows of stride 1 over the positions."""
    ones = (1,) * len(windows.axes)
    return Windows(windows.axes, ones, tuple(low), tuple(high), ones, image, tuple(window))


def _phase(
    windows: Windows,
    arrays: Sequence[Expr],
    low: Sequence[int],
    axes: Sequence[Phase],
    term: Callable[[Point, Sequence[Expr]], Expr],
) -> Expr:
    """The elements of one phase of every axis."""
    counts = phase_counts(windows)
    total: Expr | None = None
    for places in points(*(enumerate(p.taps) for p in axes)):
        starts = [n + p.shift - j * p.spread for n, p, (j, _) in zip(low, axes, places)]
        views = [_part(windows, x, starts, counts) for x in arrays]
        part = term(tuple(k for _, k in places), views)
        total = part if total is None else total + part
    if total is not None:
        return total
    last = arrays[-1]
    return broadcast_by(constant(0, last.dtype), windows.shaped(last.array_type.shape, counts))


def _part(windows: Windows, x: Expr, starts: Sequence[int], counts: Any) -> Expr:
    for axis, start, count in zip(windows.axes, starts, counts):
        x = slice_axis(x, axis, start, count)
    return x
