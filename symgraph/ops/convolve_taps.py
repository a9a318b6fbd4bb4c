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
from typing import Any

from ..dims import Shape, SizeLike, product
from ..expr import Expr, apply
from ..leaves import constant
from .contract import MatMul, swapped
from .define import cast
from .movement import (
    Concatenate,
    Reshape,
    Slice,
    Transpose,
    broadcast_by,
    flip_axes,
    reshape_to,
    slice_axis,
    transpose_by,
)
from .reduce import computed_in, sum
from .windows import ConvForm, Phase, excess, interleaved, padded, phase_counts, phases, view


def expanded(op: Any, a: Expr, b: Expr) -> Expr:
    """The convolution `op` of two operands in smaller ops.  Halves are summed in float32."""
    given = op.dtype or a.dtype
    wide = computed_in(given)
    left, right = cast(a, wide), cast(b, wide)
    if op.role == "input":
        return cast(_input(op, left, right), given)
    result = (_output if op.role == "output" else _kernel)(op.form, left, right)
    return cast(result, given)


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
    image = padded(form.windows, x)
    alone = _depthwise(form, x.array_type.shape[-1])
    multiply = _channelwise if alone else _by_matrices
    kernel = _in_rows(w) if alone else w
    terms = [
        multiply(form, view(form.windows, image, tap), tap_of(kernel, tap))
        for tap in form.windows.points
    ]
    return _total(terms)


def _in_rows(x: Expr) -> Expr:
    """x, stored in its own order if it is a view of another one: every tap reads it again."""
    return apply(Concatenate(0), x) if isinstance(x.op, (Transpose, Reshape)) else x


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
    image = padded(form.windows, x)
    channels, outputs = x.array_type.shape[-1], y.array_type.shape[-1]
    shape = (_per_group(channels, form), outputs)
    alone = _depthwise(form, channels)
    sums = _sum_channelwise if alone else _sum_by_matrices
    y = _in_rows(y) if alone else y
    parts = [
        reshape_to(sums(form, view(form.windows, image, tap), y), (1, *shape))
        for tap in form.windows.points
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


def _input(op: Any, w: Expr, y: Expr) -> Expr:
    windows = op.form.windows
    parts = points(*(phases(windows, axis) for axis in range(op.form.rank)))
    return interleaved(windows, [_phase(op, w, y, p) for p in parts])


def _phase(op: Any, w: Expr, y: Expr, axes: Sequence[Phase]) -> Expr:
    """The positions of one phase of every axis.  [n, *ceil(image / stride), c]"""
    form: ConvForm = op.form
    counts = phase_counts(form.windows)
    channels = w.array_type.shape[-2] * form.groups
    if not all(p.taps for p in axes):
        return broadcast_by(constant(0, y.dtype), (y.array_type.shape[0], *counts, channels))
    part = ConvForm(
        strides=(1,) * form.rank,
        low=tuple(p.low for p in axes),
        high=tuple(excess(form.windows, i) + p.shift for i, p in enumerate(axes)),
        dilations=tuple(p.spread for p in axes),
        groups=form.groups,
        image=y.array_type.shape[1:-1],
        window=tuple(len(p.taps) for p in axes),
    )
    result = apply(type(op)(part, "output"), y, _turned(form, w, axes))
    for axis, size in enumerate(counts, 1):
        result = slice_axis(result, axis, 0, size)
    return result


def _turned(form: ConvForm, w: Expr, axes: Sequence[Phase]) -> Expr:
    """The taps of a phase in reverse, the channels of each group exchanged."""
    shape, rank = w.array_type.shape, form.rank
    sizes = (*(len(p.taps) for p in axes), *shape[-2:])
    starts = (*(p.taps.start for p in axes), 0, 0)
    cut = Slice(starts, sizes, (*(p.taps.step for p in axes), 1, 1))
    taps = flip_axes(apply(cut, w), range(rank))
    inner, outer = shape[-2], _per_group(shape[-1], form)
    split = reshape_to(taps, (*sizes[:rank], inner, form.groups, outer))
    order = (*range(rank), rank + 2, rank + 1, rank)
    return reshape_to(transpose_by(split, order), (*sizes[:rank], outer, form.groups * inner))
