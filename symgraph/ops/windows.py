"""Windows that slide over axes of an array: geometry, views, padding, phases of strides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product as points
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from ..dims import Shape, ceildiv, dim_max, dim_min, floordiv
from ..errors import ShapeError
from ..expr import Expr, apply
from ..relations import require_equal, require_le
from .movement import Concatenate, Place, Slice, fill_value, reshape_to, show, slice_axis

Point = tuple[int, ...]


def _geometry(form: Any) -> str:
    """[3, 3] on [56, 56], strides [2, 2], padding [1, 1] + [1, 1]"""
    parts = [f"{show(form.window)} on {show(form.image)}"]
    if any(s != 1 for s in form.strides):
        parts.append(f"strides {show(form.strides)}")
    if any((*form.low, *form.high)):
        parts.append(f"padding {show(form.low)} + {show(form.high)}")
    if any(d != 1 for d in form.dilations):
        parts.append(f"dilations {show(form.dilations)}")
    return ", ".join(parts)


class Windows(NamedTuple):
    """A window that slides over some axes of x: one entry per axis in every field.

    Position p meets with its point k the element p * stride + k * dilation - low.
    axes: of x, rising. low, high: how many elements are put before and after (negative: cut off).
    image, window: the sizes of those axes and of the window, which may be symbolic.
    """

    axes: tuple[int, ...]
    strides: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilations: tuple[int, ...]
    image: Shape
    window: Shape

    def __str__(self) -> str:
        return f"{_geometry(self)}, axes {show(self.axes)}"

    @property
    def reach(self) -> Shape:
        """How many elements a dilated window spans."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilations, self.window))

    @property
    def padded(self) -> Shape:
        """The sizes of the axes with what is put around them."""
        return tuple(s + a + b for s, a, b in zip(self.image, self.low, self.high))

    @property
    def positions(self) -> Shape:
        """How often the window fits."""
        places = zip(self.padded, self.reach, self.strides)
        return tuple(floordiv(size - reach, stride) + 1 for size, reach, stride in places)

    @property
    def known(self) -> tuple[int, ...]:
        """The sizes of the window, which must be known to take it apart."""
        for size in self.window:
            if not isinstance(size, int):
                raise ShapeError(f"a window of unknown size {size} has no native form")
        return tuple(size for size in self.window if isinstance(size, int))

    @property
    def points(self) -> list[Point]:
        """All points of the window in row-major order."""
        return list(points(*map(range, self.known)))

    def shaped(self, shape: Shape, sizes: Shape) -> Shape:
        """`shape` with these sizes along the axes."""
        given = dict(zip(self.axes, sizes))
        return tuple(given.get(a, s) for a, s in enumerate(shape))

    def spread(self, values: Sequence[Any], rank: int, other: Any) -> tuple[Any, ...]:
        """Values of the axes among `rank` axes, `other` for the rest."""
        given = dict(zip(self.axes, values))
        return tuple(given.get(a, other) for a in range(rank))

    def require(self, what: str, shape: Shape) -> None:
        """They slide over an array of this shape: fields agree and the window fits at least once.

        Raises ShapeError, or leaves guards.
        """
        if any(len(part) != len(self.axes) for part in self):
            raise ShapeError(f"{what}: expected an entry per axis in every field, got {self}")
        if any(n < 1 for n in (*self.strides, *self.dilations)):
            raise ShapeError(f"{what}: strides and dilations start at 1, got {self}")
        for axis, (reach, size) in enumerate(zip(self.reach, self.padded)):
            require_le(1, self.window[axis], f"{what}: window of axis {axis}")
            require_le(reach, size, f"{what}: window on the padded image, axis {axis}")
        self.require_sizes(what, shape, self.image)

    def require_sizes(self, what: str, shape: Shape, sizes: Shape) -> None:
        """The axes of an array of this shape have these sizes."""
        for axis, size in zip(self.axes, sizes):
            require_equal(size, shape[axis], f"{what}: size of axis {axis}")


class ConvForm(NamedTuple):
    """The geometry of a convolution: one entry per spatial axis, but for the groups.

    low, high: how many zeros stand before and after the image (negative: so much is cut off).
    image, window: the spatial sizes of x and w, which may be symbolic.
    """

    strides: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    image: Shape
    window: Shape

    def __str__(self) -> str:
        return _geometry(self) + (f", {self.groups} groups" if self.groups > 1 else "")

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.strides)

    @property
    def windows(self) -> Windows:
        """The window that slides over the spatial axes of x."""
        axes = tuple(range(1, self.rank + 1))
        return Windows(
            axes, self.strides, self.low, self.high, self.dilations, self.image, self.window
        )

    @property
    def reach(self) -> Shape:
        """How many places of the image a dilated window spans, per axis."""
        return self.windows.reach

    @property
    def padded(self) -> Shape:
        """The sizes of the image with its zeros."""
        return self.windows.padded

    @property
    def positions(self) -> Shape:
        """How often the window fits: the spatial sizes of y."""
        return self.windows.positions


# ----------------------------------------------------------------------------------------- in NumPy
# (the sizes of windows are numbers by then)


def array_views(windows: Any, padded: np.ndarray) -> Iterator[tuple[Point, np.ndarray]]:
    """Each point of the window with the view of the padded array that it meets."""
    whole = (slice(None),) * padded.ndim
    for tap in points(*map(range, windows.window)):
        cut = list(whole)
        places = zip(tap, windows.dilations, windows.positions, windows.strides)
        for axis, (k, d, p, s) in zip(windows.axes, places):
            cut[axis] = slice(k * d, k * d + (p - 1) * s + 1, s)
        yield tap, padded[tuple(cut)]


def array_overlap(windows: Any, rank: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the array lies in the padded one, and what of it lies there."""
    inside, kept = [], []
    for size, low, whole in zip(windows.image, windows.low, windows.padded):
        start, stop = max(low, 0), min(low + size, whole)
        stop = max(start, stop)
        inside.append(slice(start, stop))
        kept.append(slice(start - low, stop - low))
    return windows.spread(inside, rank, slice(None)), windows.spread(kept, rank, slice(None))


def padded_array(windows: Any, x: np.ndarray, fill: Any) -> np.ndarray:
    """x with `fill` around it along the axes."""
    result = np.full(windows.shaped(x.shape, windows.padded), fill, x.dtype)
    inside, kept = array_overlap(windows, x.ndim)
    result[inside] = x[kept]
    return result


# ----------------------------------------------------------------------------------- in expressions


def padded(windows: Windows, x: Expr, fill: Any = 0) -> Expr:
    """x with `fill` around it along the axes, without what negative widths cut off."""
    for axis, low, high in zip(windows.axes, windows.low, windows.high):
        kept = dim_max(x.array_type.shape[axis] + min(low, 0) + min(high, 0), 0)
        x = slice_axis(x, axis, max(-low, 0), kept)
    starts = [dim_min(max(a, 0), size) for a, size in zip(windows.low, windows.padded)]
    target = windows.shaped(x.array_type.shape, windows.padded)
    if target == x.array_type.shape:
        return x
    number = fill_value(fill, x.dtype)
    return apply(Place(windows.spread(starts, x.ndim, 0), (1,) * x.ndim, target, number), x)


def view(windows: Windows, image: Expr, tap: Sequence[int]) -> Expr:
    """What one point of the window meets of the padded array at all positions."""
    starts = [k * d for k, d in zip(tap, windows.dilations)]
    shape = windows.shaped(image.array_type.shape, windows.positions)
    steps = windows.spread(windows.strides, image.ndim, 1)
    return apply(Slice(windows.spread(starts, image.ndim, 0), shape, steps), image)


class Phase(NamedTuple):
    """The elements i = q*stride + phase of one axis, and the positions whose window meets them.

    taps: the points that meet them, in order; the j-th does so from position q + shift - j*spread.
    """

    taps: range
    shift: int
    spread: int

    @property
    def low(self) -> int:
        """How many positions before the first are asked for."""
        return (len(self.taps) - 1) * self.spread - self.shift


def phases(windows: Windows, axis: int) -> list[Phase]:
    """The phases of the axis-th axis."""
    stride, dilation = windows.strides[axis], windows.dilations[axis]
    size, low = windows.known[axis], windows.low[axis]
    common = gcd(stride, dilation)
    step = stride // common
    found = []
    for phase in range(stride):
        first = next((k for k in range(step) if not (phase + low - k * dilation) % stride), size)
        shift = (phase + low - first * dilation) // stride
        found.append(Phase(range(first, size, step), shift, dilation // common))
    return found


def phase_counts(windows: Windows) -> Shape:
    """How many elements a phase of each axis has, the last of them perhaps behind the end."""
    return tuple(ceildiv(s, t) for s, t in zip(windows.image, windows.strides))


def excess(windows: Windows, axis: int) -> int:
    """How many more elements of a phase there are than positions, at most."""
    size, positions = windows.image[axis], windows.positions[axis]
    stride = windows.strides[axis]
    if isinstance(size, int) and isinstance(positions, int):
        return -(-size // stride) - positions
    reach = windows.dilations[axis] * (windows.known[axis] - 1) + 1
    return -(-(stride - 1 - windows.low[axis] - windows.high[axis] + reach) // stride) - 1


def interleaved(windows: Windows, parts: Sequence[Expr]) -> Expr:
    """The elements of all phases (row-major), in order and without what is behind the end."""
    for axis, stride, size in reversed(list(zip(windows.axes, windows.strides, windows.image))):
        alone = [parts[i : i + stride] for i in range(0, len(parts), stride)]
        parts = [slice_axis(_alternating(p, axis), axis, 0, size) for p in alone]
    return parts[0]


def _alternating(parts: Sequence[Expr], axis: int) -> Expr:
    """Elements of arrays of one shape in turns along an axis."""
    if len(parts) == 1:
        return parts[0]
    shape = parts[0].array_type.shape
    apart = [reshape_to(p, (*shape[: axis + 1], 1, *shape[axis + 1 :])) for p in parts]
    joined = apply(Concatenate(axis + 1), *apart)
    return reshape_to(joined, (*shape[:axis], shape[axis] * len(parts), *shape[axis + 1 :]))
