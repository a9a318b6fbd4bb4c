"""The primitives that move elements without computing, from reshape to concatenate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dims
from ..arraytype import Array
from ..dims import Shape, SizeLike, dim_max, known_le, product
from ..dtypes import DType
from ..errors import AxisError, DTypeError, ShapeError
from ..expr import Expr, apply
from ..op import Op
from ..relations import require_equal, require_le


class Reshape(Op):
    """The same elements in C order under another shape."""

    name = "reshape"
    shape: Any

    def infer(self, x: Array) -> Array:
        for axis, size in enumerate(self.shape):
            require_le(0, size, f"reshape: size of axis {axis}")
        have, want = x.size, product(self.shape)
        if dims.known_equal(have, want) is False:
            raise ShapeError(
                f"reshape: {show(x.shape)} has {have} elements, {show(self.shape)} has {want}"
            )
        require_equal(
            have, want, f"reshape of {show(x.shape)} to {show(self.shape)}: number of elements"
        )
        return Array(x.dtype, self.shape)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self.shape)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        return [apply(Reshape(inputs[0].array_type.shape), cotangent)]


class Transpose(Op):
    """Axes in another order: axis i of the result is axis axes[i] of x."""

    name = "transpose"
    axes: tuple[int, ...]

    def infer(self, x: Array) -> Array:
        if sorted(self.axes) != list(range(x.ndim)):
            raise AxisError(
                f"transpose: axes {self.axes} are no permutation of the {x.ndim} axes of x"
            )
        return Array(x.dtype, tuple(x.shape[a] for a in self.axes))

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        return x.transpose(self.axes)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return [apply(Transpose(tuple(inverse)), cotangent)]


class BroadcastTo(Op):
    """x repeated along new leading axes and along axes of size 1.

    A symbolic size of x equals its target, it is never 1.
    """

    name = "broadcast_to"
    shape: Any

    def infer(self, x: Array) -> Array:
        new = len(self.shape) - x.ndim
        if new < 0:
            raise ShapeError(f"broadcast_to: {show(x.shape)} has more axes than {show(self.shape)}")
        for axis, target in enumerate(self.shape):
            have = 1 if axis < new else x.shape[axis - new]
            if have == 1:
                require_le(0, target, f"broadcast_to: size of axis {axis}")
            elif dims.known_equal(have, target) is False:
                raise ShapeError(
                    f"broadcast_to: {show(x.shape)} does not broadcast to {show(self.shape)}: "
                    f"expected 1 or {target} on axis {axis - new} of x, got {have}"
                )
            else:
                require_equal(have, target, f"broadcast_to: axis {axis - new} of x")
        return Array(x.dtype, self.shape)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x, self.shape)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        x = inputs[0].array_type
        new = len(self.shape) - x.ndim
        repeated = tuple(
            a for a, t in enumerate(self.shape) if a < new or (x.shape[a - new] == 1 and t != 1)
        )
        return [cotangent.sum(axis=repeated).reshape(x.shape) if repeated else cotangent]


class Slice(Op):
    """result[i] = x[starts + i * steps] for i below sizes, one entry per axis.

    Steps may be negative. Whoever builds one with symbolic sizes that may be 0 makes it in range by
    construction; the rest is checked.
    """

    name = "slice"
    starts: Any
    sizes: Any
    steps: tuple[int, ...]

    def infer(self, x: Array) -> Array:
        require_rank("slice", x.ndim, self.starts, self.sizes, self.steps)
        for axis in range(x.ndim):
            require_in_range(
                "slice", axis, self.starts[axis], self.sizes[axis], self.steps[axis], x.shape[axis]
            )
        return Array(x.dtype, self.sizes)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        return x[slices(self.starts, self.sizes, self.steps)]

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        return [
            apply(
                Place(
                    self.starts,
                    self.steps,
                    inputs[0].array_type.shape,
                    fill_value(0, cotangent.dtype),
                ),
                cotangent,
            )
        ]


class Place(Op):
    """An array of `shape` full of `fill`, with x written at starts + i * steps: undoes Slice.

    fill: a Python number of the dtype's kind.
    """

    name = "place"
    starts: Any
    steps: tuple[int, ...]
    shape: Any
    fill: Any

    def __eq__(self, other: object) -> bool:  # 0.0 == -0.0, but they are different fills
        return super().__eq__(other) and repr(self.fill) == repr(other.fill)  # type: ignore[attr-defined]

    __hash__ = Op.__hash__

    def infer(self, x: Array) -> Array:
        require_rank("place", x.ndim, self.starts, self.steps, self.shape)
        for axis, size in enumerate(self.shape):
            require_le(0, size, f"place: size of axis {axis}")
            require_in_range(
                "place", axis, self.starts[axis], x.shape[axis], self.steps[axis], size
            )
        return Array(x.dtype, self.shape)

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        result = np.full(self.shape, self.fill, x.dtype)
        result[slices(self.starts, x.shape, self.steps)] = x
        return result

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        return [apply(Slice(self.starts, inputs[0].array_type.shape, self.steps), cotangent)]


class Concatenate(Op):
    """Arrays of one dtype one after another along an axis; their other sizes are equal."""

    name = "concatenate"
    axis: int

    def infer(self, *types: Array) -> Array:
        if not types:
            raise ShapeError("concatenate: expected at least one array")
        first = types[0]
        if not 0 <= self.axis < first.ndim:
            raise AxisError(f"concatenate: axis {self.axis} is out of range for rank {first.ndim}")
        for t in types[1:]:
            if t.dtype is not first.dtype:
                raise DTypeError(f"concatenate: dtypes differ: {first.dtype} and {t.dtype}")
            if t.ndim != first.ndim:
                raise ShapeError(
                    f"concatenate: ranks differ: {show(first.shape)} and {show(t.shape)}"
                )
        shape = [self._size(axis, [t.shape[axis] for t in types]) for axis in range(first.ndim)]
        return Array(first.dtype, tuple(shape))

    def _size(self, axis: int, sizes: list[SizeLike]) -> SizeLike:
        if axis == self.axis:
            total: SizeLike = 0
            for s in sizes:
                total = total + s
            return total
        chosen = next((s for s in sizes if isinstance(s, int)), sizes[0])
        for s in sizes:
            require_equal(chosen, s, f"concatenate: axis {axis}")
        return chosen

    def evaluate(self, *arrays: np.ndarray) -> np.ndarray:
        return np.concatenate(arrays, self.axis)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        parts = []
        start: SizeLike = 0
        for x in inputs:
            shape = x.array_type.shape
            starts = tuple(start if a == self.axis else 0 for a in range(len(shape)))
            parts.append(apply(Slice(starts, shape, (1,) * len(shape)), cotangent))
            start = start + shape[self.axis]
        return parts


class Iota(Op):
    """0, 1, ..., size - 1."""

    name = "iota"
    size: Any
    dtype: DType

    def infer(self) -> Array:
        require_le(0, self.size, "arange: size")
        return Array(self.dtype, (self.size,))

    def evaluate(self) -> np.ndarray:
        return np.arange(self.size).astype(self.dtype.np)

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> tuple[()]:
        return ()


# ----------------------------------------------------------------------------------------- building


def reshape_to(x: Expr, shape: Shape) -> Expr:
    """x under `shape` (sizes, no -1); x itself if it has that shape."""
    return x if x.array_type.shape == shape else apply(Reshape(shape), x)


def transpose_by(x: Expr, axes: Sequence[int]) -> Expr:
    """x with its axes in the given order; x itself if that is its own."""
    axes = tuple(axes)
    return x if axes == tuple(range(len(axes))) else apply(Transpose(axes), x)


def broadcast_by(x: Expr, shape: Shape) -> Expr:
    """x broadcast to `shape`; x itself if it has that shape."""
    return x if x.array_type.shape == shape else apply(BroadcastTo(shape), x)


def slice_axis(x: Expr, axis: int, start: SizeLike, size: SizeLike, step: int = 1) -> Expr:
    """`size` elements of one axis from `start` on, every `step`-th, all of the others.

    In range by construction.
    """
    shape = x.array_type.shape
    if step == 1 and start == 0 and size == shape[axis]:
        return x
    axes = range(len(shape))
    starts = tuple(start if a == axis else 0 for a in axes)
    sizes = tuple(size if a == axis else shape[a] for a in axes)
    return apply(Slice(starts, sizes, tuple(step if a == axis else 1 for a in axes)), x)


def place_axis(x: Expr, axis: int, start: SizeLike, total: SizeLike, fill: Any = 0) -> Expr:
    """x inside an axis of size `total`, from `start` on, the rest filled."""
    shape = x.array_type.shape
    starts = tuple(start if a == axis else 0 for a in range(len(shape)))
    target = tuple(total if a == axis else s for a, s in enumerate(shape))
    if target == shape:
        return x
    return apply(Place(starts, (1,) * len(shape), target, fill_value(fill, x.dtype)), x)


def flip_axes(x: Expr, axes: Sequence[int]) -> Expr:
    """x reversed along the given axes."""
    shape = x.array_type.shape
    if not axes:
        return x
    starts = tuple(s - 1 if a in axes else 0 for a, s in enumerate(shape))
    return apply(Slice(starts, shape, tuple(-1 if a in axes else 1 for a in range(len(shape)))), x)


def shift_axis(x: Expr, axis: int, fill: Any) -> Expr:
    """x moved one place up along an axis: `fill` comes first and the last element falls off."""
    size = x.array_type.shape[axis]
    kept = slice_axis(x, axis, 0, dim_max(size - 1, 0))
    return place_axis(kept, axis, 1, size, fill)


def fill_value(value: Any, d: DType) -> Any:
    """A Python scalar of the kind of dtype `d`, as Place keeps it.

    Raises DTypeError if it does not fit.
    """
    number = value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    if isinstance(number, complex) and d.kind != "c":
        raise DTypeError(f"fill value {value} does not fit {d}")
    if d.kind == "b":
        return bool(number)
    if d.is_integer:
        info = np.iinfo(d.np)
        if not math.isfinite(number) or int(number) != number or not info.min <= number <= info.max:
            raise DTypeError(f"fill value {value} does not fit {d}")
        return int(number)
    if d.kind == "c":
        return complex(number)
    return math.nan if number != number else float(number)  # one NaN, so that equal ops are equal


# ----------------------------------------------------------------------------------------- checking


def require_rank(what: str, ndim: int, *parts: Sequence[Any]) -> None:
    """One entry for each axis in every part."""
    for part in parts:
        if len(part) != ndim:
            raise ShapeError(f"{what}: expected {ndim} entries, one per axis, got {len(part)}")


def require_in_range(
    what: str, axis: int, start: SizeLike, size: SizeLike, step: int, total: SizeLike
) -> None:
    """start + i * step lies in [0, total) for all i < size, or a guard says so.

    What may be empty and may start behind the end is trusted at its end.
    """
    if not isinstance(step, int) or step == 0:
        raise ShapeError(f"{what}: step of axis {axis} must be a non-zero integer, got {step}")
    place = f"{'index' if what == 'slice' and size == 1 else what} of axis {axis}"
    require_le(0, size, f"{place}: size")
    if size == 0:
        return
    last = start + (size - 1) * step
    low, high = (start, last) if step > 0 else (last, start)
    some = known_le(1, size) is True
    if some or step > 0:
        require_le(0, low, place, index=True)
    if some or (step > 0 and known_le(start, total) is True):  # holds too where size is 0
        require_le(high + 1, total, place, index=True)


def slices(starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> tuple[slice, ...]:
    """The Python slices of numeric starts, sizes and steps."""
    return tuple(_slice(*axis) for axis in zip(starts, sizes, steps))


def _slice(start: int, size: int, step: int) -> slice:
    stop = start + size * step
    return slice(0, 0) if size == 0 else slice(start, None if stop < 0 else stop, step)


def show(shape: Shape) -> str:
    """[n, 784]"""
    return f"[{', '.join(map(str, shape))}]"
