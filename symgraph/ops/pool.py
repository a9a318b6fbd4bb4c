"""Pooling as users call it: maxima and means of sliding windows, of all of an image, of bins.

x: [n, c, *spatial] with one to three spatial axes, or channels-last with layout "NWC", "NHWC" or
"NDHWC"; windows, strides and padding are numbers for all axes or one entry per spatial axis.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from ..dims import Shape, SizeLike, ceildiv, dim_max, dim_min, known_le
from ..dtypes import bool_, default_float, int64, reals
from ..errors import DTypeError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import as_flag, constant, lift, size_value
from .conv import SPATIAL, Layout, Pairs, layout_of, paddings, per_axis
from .define import cast
from .elementwise import maximum, minimum
from .movement import Concatenate, Iota, Place, fill_value, reshape_to, slice_axis
from .pooling import MaxPool, SumPool, lowest
from .reduce import computed_in, max
from .statistics import mean
from .take import take
from .windows import Windows


def max_pool(
    x: Any,
    window: Any,
    stride: Any = None,
    padding: Any = "valid",
    dilation: Any = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> Expr:
    """The largest element of each window; NaN wins, what is put around the image loses.

    x: [n, c, *image] -> [n, c, *positions], of (size + padding - dilation * (window - 1) - 1) //
    stride + 1 positions, rounded up with ceil_mode (a last window that only meets padding is left
    out). stride: the window's size unless given. padding: as conv2d's.
    The gradient goes to the first largest element of a window in row-major order.
    Raises: ShapeError if the window exceeds the padded image.
    """
    what = "max_pool"
    node, place = _image(what, x, layout)
    windows, _ = _windows(what, node, place, window, stride, padding, dilation, ceil_mode)
    return apply(MaxPool(_known(windows)), _around(windows, node, lowest(node.dtype)))


def avg_pool(
    x: Any,
    window: Any,
    stride: Any = None,
    padding: Any = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str | None = None,
) -> Expr:
    """The mean of each window; arguments as max_pool's.

    count_include_pad: whether zeros that `padding` puts around count as elements (those of a window
    that ceil_mode lets reach further never do). Integers are averaged in the default float.
    """
    what = "avg_pool"
    node, place = _image(what, x, layout)
    node = node if node.dtype.is_float else cast(node, default_float())
    windows, pairs = _windows(what, node, place, window, stride, padding, 1, ceil_mode)
    included = as_flag(count_include_pad, f"{what}: count_include_pad")
    wide = cast(_around(windows, node, 0), computed_in(node.dtype))
    total = apply(SumPool(_known(windows)), wide)
    for i, axis in enumerate(windows.axes):
        total = total / _counts(windows, i, pairs[i], included, total, axis)
    return cast(total, node.dtype)


def global_max_pool(x: Any, keepdims: bool = False, layout: str | None = None) -> Expr:
    """The largest element of each channel.   x: [n, c, *image] -> [n, c], or with axes of size 1.

    Equal largest elements share the gradient, as in max.
    """
    node, place = _image("global_max_pool", x, layout)
    return max(node, tuple(place.spatial), keepdims=keepdims)


def global_avg_pool(x: Any, keepdims: bool = False, layout: str | None = None) -> Expr:
    """The mean of each channel.   x: [n, c, *image] -> [n, c], or with axes of size 1."""
    node, place = _image("global_avg_pool", x, layout)
    return mean(node, tuple(place.spatial), keepdims=keepdims)


def adaptive_max_pool(x: Any, size: Any, layout: str | None = None) -> Expr:
    """The largest element of each of `size` bins per axis, as adaptive_avg_pool's.

    The gradient goes to the first largest element of a bin in row-major order.
    """
    node, place = _image("adaptive_max_pool", x, layout)
    for axis, bins in _bins("adaptive_max_pool", node, place, size):
        node = _padded_bins(node, axis, bins)
        longest = _longest(bins)
        tile = Windows((axis,), (longest,), (0,), (0,), (1,), (longest * len(bins),), (longest,))
        node = apply(MaxPool(tile), node)
    return node


def adaptive_avg_pool(x: Any, size: Any, layout: str | None = None) -> Expr:
    """The mean of each of `size` bins per axis.

    x: [n, c, *image], of known sizes -> [n, c, *size].   size: an int for all axes or one per axis.
    Bin i of an axis of m elements goes from floor(i * m / size) to ceil((i + 1) * m / size), so
    that bins may overlap by one.
    """
    node, place = _image("adaptive_avg_pool", x, layout)
    node = node if node.dtype.is_float else cast(node, default_float())
    wide = cast(node, computed_in(node.dtype))
    for axis, bins in _bins("adaptive_avg_pool", wide, place, size):
        wide = _mean_of_bins(wide, axis, bins)
    return cast(wide, node.dtype)


# ---------------------------------------------------------------------------------------- arguments


def _image(what: str, x: Any, layout: str | None) -> tuple[Expr, Layout]:
    node = lift(x)
    rank = node.ndim - 2
    if rank not in SPATIAL:
        raise ShapeError(
            f"{what}: expected x of rank 3 to 5 ([n, c, *spatial]), got {node.type}",
            site=user_site(),
            operands=(node,),
        )
    if node.dtype is not bool_ and node.dtype not in reals:
        raise DTypeError(
            f"{what}: dtype {node.dtype} is not accepted", site=user_site(), operands=(node,)
        )
    return node, layout_of(what, rank, f"NC{SPATIAL[rank]}" if layout is None else layout)


def _windows(
    what: str,
    x: Expr,
    place: Layout,
    window: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
) -> tuple[Any, Pairs]:
    """The windows over the image, and the padding the user asked for."""
    axes = tuple(place.spatial)
    sizes = per_axis(f"{what}: window", window, place.rank, 1)
    strides = sizes if stride is None else per_axis(f"{what}: stride", stride, place.rank, 1)
    dilations = per_axis(f"{what}: dilation", dilation, place.rank, 1)
    image = tuple(x.array_type.shape[a] for a in axes)
    reach: Shape = tuple(d * (k - 1) + 1 for d, k in zip(dilations, sizes))
    pairs = paddings(what, padding, image, reach, strides)
    low, high = zip(*pairs)
    windows: Any = Windows(axes, strides, low, high, dilations, image, sizes)
    if as_flag(ceil_mode, f"{what}: ceil_mode"):
        windows = _rounded_up(windows)
    for axis, (size, span, pair) in enumerate(zip(windows.padded, reach, pairs)):
        if known_le(span, size) is False:
            _refuse(
                what,
                x,
                f"the window spans {span} on spatial axis {axis}, the padded image has {size}",
            )
        if any(known_le(span, n) is True for n in pair):
            _refuse(what, x, f"padding {pair} is not below the window, which spans {span}")
    return windows, pairs


def _refuse(what: str, x: Expr, reason: str) -> NoReturn:
    raise ShapeError(f"{what}({x.label}): {reason}", site=user_site(), operands=(x,))


def _rounded_up(windows: Any) -> Any:
    """As many elements more after the image as a last, partial window needs."""
    high = []
    fields = zip(windows.padded, windows.reach, windows.strides, windows.high)
    for size, reach, stride, after in fields:
        count = ceildiv(size - reach, stride) + 1
        inside = ceildiv(size - after, stride)  # that start before the padding after the image
        count = dim_min(count, inside)
        high.append(dim_max(after, after + (count - 1) * stride + reach - size))
    return windows._replace(high=tuple(high))


def _known(windows: Any) -> Windows:
    """The windows over what `_around` gives."""
    if _all_known(windows):
        return windows
    zeros = (0,) * len(windows.axes)
    return windows._replace(image=windows.padded, low=zeros, high=zeros)


def _all_known(windows: Any) -> bool:
    return all(isinstance(n, int) for n in (*windows.low, *windows.high))


def _around(windows: Any, x: Expr, fill: Any) -> Expr:
    """x with what is put around it, where the call decides how much."""
    if _all_known(windows):
        return x
    place = Place(
        windows.spread(windows.low, x.ndim, 0),
        (1,) * x.ndim,
        windows.shaped(x.array_type.shape, windows.padded),
        fill_value(fill, x.dtype),
    )
    return apply(place, x)


def _counts(
    windows: Windows, i: int, pair: tuple[SizeLike, SizeLike], included: bool, x: Expr, axis: int
) -> Expr:
    """How many elements the windows of each position count along an axis, in x's dtype."""
    before, after = pair
    size, window = windows.image[i], windows.known[i]
    if windows.high[i] == after and (included or (before == 0 and after == 0)):
        return constant(window, x.dtype)
    positions = windows.positions[i]
    start = apply(Iota(positions, int64)) * windows.strides[i] - lift(size_value(before))
    stop = start + window
    last = lift(size_value(size + after if included else size))
    first = start if included else maximum(start, 0)
    counts = cast(minimum(stop, last) - first, x.dtype)
    return reshape_to(counts, tuple(positions if a == axis else 1 for a in range(x.ndim)))


# --------------------------------------------------------------------------------------------- bins


def _bins(what: str, x: Expr, place: Layout, size: Any) -> list[tuple[int, list[tuple[int, int]]]]:
    """For each spatial axis that changes, the last first, where its bins start and stop."""
    counts = per_axis(f"{what}: size", size, place.rank, 1)
    found = []
    for axis, count in zip(place.spatial, counts):
        length = x.array_type.shape[axis]
        if not isinstance(length, int) or length < 1:
            _refuse(what, x, f"expected a known size of at least 1 on axis {axis}, got {length}")
        if length == count:
            continue
        bins = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        found.append((axis, bins))
    return found[::-1]


def _longest(bins: Sequence[tuple[int, int]]) -> int:
    """The size of the longest bin."""
    return builtins.max(stop - start for start, stop in bins)


def _padded_bins(x: Expr, axis: int, bins: Sequence[tuple[int, int]]) -> Expr:
    """The bins one after another, their last element repeated up to the longest."""
    length = _longest(bins)
    places = [min(start + k, stop - 1) for start, stop in bins for k in range(length)]
    if places == list(range(bins[-1][1])):
        return x
    return take(x, constant(np.array(places, np.int64)), axis)


def _mean_of_bins(x: Expr, axis: int, bins: Sequence[tuple[int, int]]) -> Expr:
    shape, count = x.array_type.shape, len(bins)
    if bins[-1][1] % count == 0:  # side by side
        apart = reshape_to(x, (*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :]))
        return mean(apart, axis + 1)
    parts = [
        mean(slice_axis(x, axis, start, stop - start), axis, keepdims=True) for start, stop in bins
    ]
    return parts[0] if count == 1 else apply(Concatenate(axis), *parts)


__all__ = [
    "max_pool",
    "avg_pool",
    "global_max_pool",
    "global_avg_pool",
    "adaptive_max_pool",
    "adaptive_avg_pool",
]
