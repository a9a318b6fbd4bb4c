"""A convolution in smaller ops: sums over the taps of the window, phases of strides.

    output: y = sum over taps k of padded x[k*dilation :: stride] * w[k]
    kernel: w[k] = sum over positions of padded x[k*dilation :: stride] * y
    input:  position i of x meets taps k with (i + low - k*dilation) a multiple of the stride: the
            positions of one phase, i = q*stride + phase, are an output of stride 1 of y, with the
            taps of that phase in reverse

A product of a tap is elementwise where each channel is a group of its own (depthwise), so that the
sum over taps is one fused loop; else it is a product of matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as points
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

from ..dims import Shape, SizeLike, ceildiv, dim_max, dim_min, product
from ..errors import ShapeError
from ..expr import Expr, apply
from ..leaves import constant
from .contract import MatMul, swapped
from .define import cast
from .movement import (
    Concatenate,
    Place,
    Slice,
    broadcast_by,
    fill_value,
    flip_axes,
    reshape_to,
    slice_axis,
    transpose_by,
)
from .reduce import computed_in, sum

if TYPE_CHECKING:
    from .convolve import ConvForm


def expanded(form: ConvForm, role: str, a: Expr, b: Expr) -> Expr:
    """The convolution of two operands in smaller ops.  Halves are summed in float32."""
    wide = computed_in(a.dtype)
    result = _EXPANSIONS[role](form, cast(a, wide), cast(b, wide))
    return cast(result, a.dtype)


def window_points(form: ConvForm) -> list[tuple[int, ...]]:
    """All points of the window, in row-major order; its sizes must be known."""
    if not all(isinstance(k, int) for k in form.window):
        raise ShapeError(f"convolve: a window of {form.window} has no native form: sizes unknown")
    return list(points(*map(range, form.window)))


def padded_image(form: ConvForm, x: Expr) -> Expr:
    """The image with its zeros, and without what negative widths cut off."""
    for axis, (low, high) in enumerate(zip(form.low, form.high), 1):
        size = x.array_type.shape[axis]
        kept = dim_max(size + min(low, 0) + min(high, 0), 0)
        x = slice_axis(x, axis, max(-low, 0), kept)
    shape = x.array_type.shape
    starts = tuple(dim_min(max(a, 0), whole) for a, whole in zip(form.low, form.padded))
    target = (shape[0], *form.padded, shape[-1])
    if target == shape:
        return x
    place = Place((0, *starts, 0), (1,) * len(shape), target, fill_value(0, x.dtype))
    return apply(place, x)


def at_tap(form: ConvForm, image: Expr, tap: Sequence[int]) -> Expr:
    """What one tap meets of the padded image at all positions.  [n, *positions, c]"""
    shape = image.array_type.shape
    starts = (0, *(k * d for k, d in zip(tap, form.dilations)), 0)
    cut = Slice(starts, (shape[0], *form.positions, shape[-1]), (1, *form.strides, 1))
    return apply(cut, image)


def _depthwise(form: ConvForm, channels: SizeLike) -> bool:
    """Each channel is a group: nothing is summed over channels."""
    return channels == form.groups


def tap_of(w: Expr, tap: Sequence[int]) -> Expr:
    """The matrix of one tap.  [c / groups, o]"""
    shape = w.array_type.shape
    rank = len(tap)
    cut = Slice((*tap, 0, 0), (1,) * rank + shape[rank:], (1,) * len(shape))
    return reshape_to(apply(cut, w), shape[rank:])


# ------------------------------------------------------------------------------------------- output


def _output(form: ConvForm, x: Expr, w: Expr) -> Expr:
    image = padded_image(form, x)
    multiply = _channelwise if _depthwise(form, x.array_type.shape[-1]) else _by_matrices
    terms = [
        multiply(form, at_tap(form, image, tap), tap_of(w, tap)) for tap in window_points(form)
    ]
    return _total(terms)


def _total(terms: list[Expr]) -> Expr:
    result = terms[0]
    for term in terms[1:]:
        result = result + term
    return result


def _channelwise(form: ConvForm, view: Expr, matrix: Expr) -> Expr:
    """x[..., c] * w[c, m] -> [..., c * m]"""
    *rows, channels = view.array_type.shape
    outputs = matrix.array_type.shape[-1]
    if outputs == channels:
        return view * matrix
    times = reshape_to(matrix, (channels, _per_group(outputs, form)))
    wide = reshape_to(view, (*rows, channels, 1)) * times
    return reshape_to(wide, (*rows, outputs))


def _per_group(channels: SizeLike, form: ConvForm) -> SizeLike:
    return channels // form.groups


def grouped(form: ConvForm, x: Expr) -> Expr:
    """[..., c] as [groups, rows, c / groups], or [rows, c] where there is one group."""
    *rows, channels = x.array_type.shape
    if form.groups == 1:
        return reshape_to(x, (product(rows), channels))
    split = reshape_to(x, (product(rows), form.groups, _per_group(channels, form)))
    return transpose_by(split, (1, 0, 2))


def _joined(form: ConvForm, x: Expr, shape: Shape) -> Expr:
    """Undoes `grouped`."""
    return reshape_to(x if form.groups == 1 else transpose_by(x, (1, 0, 2)), shape)


def _by_matrices(form: ConvForm, view: Expr, matrix: Expr) -> Expr:
    rows, outputs = view.array_type.shape[:-1], matrix.array_type.shape[-1]
    result = apply(MatMul(), grouped(form, view), grouped(form, matrix))
    return _joined(form, result, (*rows, outputs))


# ------------------------------------------------------------------------------------------- kernel


def _kernel(form: ConvForm, x: Expr, y: Expr) -> Expr:
    image = padded_image(form, x)
    channels, outputs = x.array_type.shape[-1], y.array_type.shape[-1]
    shape = (_per_group(channels, form), outputs)
    sums = _sum_channelwise if _depthwise(form, channels) else _sum_by_matrices
    parts = [
        reshape_to(sums(form, at_tap(form, image, tap), y), (1, *shape))
        for tap in window_points(form)
    ]
    whole = parts[0] if len(parts) == 1 else apply(Concatenate(0), *parts)
    return reshape_to(whole, (*form.window, *shape))


def _sum_channelwise(form: ConvForm, view: Expr, y: Expr) -> Expr:
    """sum over rows of x[..., c] * y[..., c * m] -> [c * m]"""
    *rows, channels = view.array_type.shape
    outputs = y.array_type.shape[-1]
    axes = tuple(range(len(rows)))
    if outputs == channels:
        return sum(view * y, axes, dtype=y.dtype)
    wide = reshape_to(y, (*rows, channels, _per_group(outputs, form)))
    return sum(reshape_to(view, (*rows, channels, 1)) * wide, axes, dtype=y.dtype)


def _sum_by_matrices(form: ConvForm, view: Expr, y: Expr) -> Expr:
    result = apply(MatMul(), swapped(grouped(form, view)), grouped(form, y))
    shape = (_per_group(view.array_type.shape[-1], form), y.array_type.shape[-1])
    return _joined(form, result, shape)


# -------------------------------------------------------------------------------------------- input


class Phase(NamedTuple):
    """The positions i = q*stride + phase of one axis of the image, as an output of stride 1 of y.

    taps: `many` of them, every `step`-th from `first` on.   low, high: zeros around y.
    """

    first: int
    step: int
    many: int
    dilation: int
    low: int
    high: int


def phases(form: ConvForm, axis: int) -> list[Phase]:
    """The phases of one axis; together they give ceil(image / stride) * stride positions."""
    stride, dilation = form.strides[axis], form.dilations[axis]
    size, window = form.image[axis], form.window[axis]
    low, reach = form.low[axis], form.reach[axis]
    assert isinstance(window, int) and isinstance(reach, int)
    common = gcd(stride, dilation)
    step, spread = stride // common, dilation // common
    # ceil(image / stride) exceeds the number of positions by at most this
    excess = ceildiv(stride - 1 - low - form.high[axis] + reach, stride) - 1
    if isinstance(size, int):
        positions = form.positions[axis]
        excess = ceildiv(size, stride) - positions
    assert isinstance(excess, int)
    found = []
    for phase in range(stride):
        first = next((k for k in range(step) if not (phase + low - k * dilation) % stride), window)
        count = len(range(first, window, step))
        shift = (phase + low - first * dilation) // stride
        before = (count - 1) * spread - shift
        found.append(Phase(first, step, count, spread, before, excess + shift))
    return found


def _input(form: ConvForm, w: Expr, y: Expr) -> Expr:
    window_points(form)
    if form.strides == (1,) * form.rank:
        return _phase(form, w, y, [phases(form, axis)[0] for axis in range(form.rank)])
    parts = [_phase(form, w, y, p) for p in points(*(phases(form, a) for a in range(form.rank)))]
    return _interleaved(form, parts)


def _phase(form: ConvForm, w: Expr, y: Expr, axes: Sequence[Phase]) -> Expr:
    """The positions of one phase of every axis.  [n, *ceil(image / stride), c]"""
    from .convolve import ConvForm, Convolve

    counts = tuple(ceildiv(s, t) for s, t in zip(form.image, form.strides))
    channels = w.array_type.shape[-2] * form.groups
    shape = (y.array_type.shape[0], *counts, channels)
    if not all(p.many for p in axes):
        return broadcast_by(constant(0, y.dtype), shape)
    kernel = _turned(form, w, axes)
    part = ConvForm(
        strides=(1,) * form.rank,
        low=tuple(p.low for p in axes),
        high=tuple(p.high for p in axes),
        dilations=tuple(p.dilation for p in axes),
        groups=form.groups,
        image=y.array_type.shape[1:-1],
        window=tuple(p.many for p in axes),
    )
    result = apply(Convolve(part, "output"), y, kernel)
    for axis, size in enumerate(counts, 1):
        result = slice_axis(result, axis, 0, size)
    return result


def _turned(form: ConvForm, w: Expr, axes: Sequence[Phase]) -> Expr:
    """The taps of a phase in reverse, the channels of each group exchanged."""
    shape = w.array_type.shape
    starts = (*(p.first for p in axes), 0, 0)
    sizes = (*(p.many for p in axes), *shape[-2:])
    cut = Slice(starts, sizes, (*(p.step for p in axes), 1, 1))
    taps = flip_axes(apply(cut, w), range(form.rank))
    inner, outer = shape[-2], _per_group(shape[-1], form)
    rank = form.rank
    split = reshape_to(taps, (*sizes[:rank], inner, form.groups, outer))
    order = (*range(rank), rank + 2, rank + 1, rank)
    return reshape_to(transpose_by(split, order), (*sizes[:rank], outer, form.groups * inner))


def _interleaved(form: ConvForm, parts: Sequence[Expr]) -> Expr:
    """The positions of all phases, in order."""
    rank = form.rank
    batch, *counts, channels = parts[0].array_type.shape
    stacked = apply(Concatenate(0), *[reshape_to(p, (1, *p.array_type.shape)) for p in parts])
    apart = reshape_to(stacked, (*form.strides, batch, *counts, channels))
    order = [rank]  # n, then each count before its phase, then the channels
    for axis in range(rank):
        order += [rank + 1 + axis, axis]
    together = transpose_by(apart, (*order, 2 * rank + 1))
    whole = tuple(q * s for q, s in zip(counts, form.strides))
    result = reshape_to(together, (batch, *whole, channels))
    for axis, size in enumerate(form.image, 1):
        result = slice_axis(result, axis, 0, size)
    return result


_EXPANSIONS = {"output": _output, "kernel": _kernel, "input": _input}
