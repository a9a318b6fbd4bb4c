"""Convolutions as users call them: strides, padding, layouts; transposes around one primitive.

Layouts are named as the axes of the image: "NCHW" (the default, with kernels [out, in / groups,
height, width] as in PyTorch and Theano) or "NHWC" (kernels [height, width, in / groups, out]); W
alone for one spatial axis, D H W for three. Kernels may have an order of their own. Computed is
channels-last in either case, with kernels of that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..dims import Shape, SizeLike, ceildiv, dim_max, floordiv, known_equal, known_le
from ..dtypes import DType, bool_, complexes, reals
from ..errors import ArgumentError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import as_integer
from .convolve import ConvForm, Convolve
from .define import cast, promote_operands
from .movement import Place, fill_value, transpose_by
from .product_dtypes import fitted, lifted

_REFUSED = {
    bool_: 'cast an operand, as in x.astype("int8")',
    **dict.fromkeys(complexes, "convolve the real and the imaginary part"),
}
SPATIAL = {1: "W", 2: "HW", 3: "DHW"}
Pairs = list[tuple[SizeLike, SizeLike]]


def conv1d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCW",
    kernel: str | None = None,
    dtype: Any = None,
) -> Expr:
    """Convolution (no kernel is flipped) along one axis; see conv2d.

    x: [n, in, width], w: [out, in / groups, k] -> [n, out, positions]
    """
    options = (stride, padding, dilation, groups, layout, kernel)
    return _convolution("conv1d", 1, x, w, *options, dtype)


def conv2d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCHW",
    kernel: str | None = None,
    dtype: Any = None,
) -> Expr:
    """Convolution of images, as networks know it: no kernel is flipped.

    x: [n, in, h, w], w: [out, in / groups, kh, kw] -> [n, out, positions, positions], of
    (size + padding - dilation * (k - 1) - 1) // stride + 1 positions. Real dtypes but bool,
    promoted; halves are summed in float32, integers wrap.
    stride, dilation: an int or one per axis. groups: channels meet those of their own group only;
    groups = in is a depthwise convolution.
    padding: zeros around the image: "valid" (none), "same" (ceil(size / stride) positions, what is
    odd comes after), "full" (every overlap), an int, one int per axis, or one (before, after) per
    axis.
    layout: "NCHW", or "NHWC" with w [kh, kw, in / groups, out].   kernel: w's own order, "OIHW" or
    "HWIO", where it is not the layout's.
    dtype: what x and w are multiplied and summed as, as matmul's.
    Raises: ShapeError if channels, groups or ranks do not fit or the window exceeds the image.
    """
    options = (stride, padding, dilation, groups, layout, kernel)
    return _convolution("conv2d", 2, x, w, *options, dtype)


def conv3d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCDHW",
    kernel: str | None = None,
    dtype: Any = None,
) -> Expr:
    """Convolution of volumes; see conv2d.

    x: [n, in, d, h, w], w: [out, in / groups, kd, kh, kw] -> [n, out, positions of each axis]
    """
    options = (stride, padding, dilation, groups, layout, kernel)
    return _convolution("conv3d", 3, x, w, *options, dtype)


def conv_transpose1d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCW",
    kernel: str | None = None,
) -> Expr:
    """Transposed convolution along one axis; see conv_transpose2d."""
    options = (stride, padding, output_padding, dilation, groups, layout, kernel)
    return _transposed("conv_transpose1d", 1, x, w, *options)


def conv_transpose2d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCHW",
    kernel: str | None = None,
) -> Expr:
    """The gradient of conv2d with respect to its image, as a layer that enlarges.

    x: [n, in, h, w], w: [in, out / groups, kh, kw] -> [n, out, height, width], of
    (size - 1) * stride - padding + dilation * (k - 1) + 1 + output_padding places.
    padding: what is cut off the result: as conv2d's, and "same" gives size * stride places.
    output_padding: places added after the last, below the stride.
    layout: "NCHW", or "NHWC" with w [kh, kw, out / groups, in].   kernel: w's own order, "IOHW" or
    "HWOI", where it is not the layout's.
    Raises: ShapeError as conv2d.
    """
    options = (stride, padding, output_padding, dilation, groups, layout, kernel)
    return _transposed("conv_transpose2d", 2, x, w, *options)


def conv_transpose3d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCDHW",
    kernel: str | None = None,
) -> Expr:
    """Transposed convolution of volumes; see conv_transpose2d."""
    options = (stride, padding, output_padding, dilation, groups, layout, kernel)
    return _transposed("conv_transpose3d", 3, x, w, *options)


# ---------------------------------------------------------------------------------------- arguments


class Layout(NamedTuple):
    """Where channels stand: after the batch, or last."""

    rank: int
    last: bool
    kernel_last: bool = False

    def channels_last(self, x: Expr) -> Expr:
        """[n, c, *spatial] or [n, *spatial, c] as the latter."""
        n = self.rank
        return x if self.last else transpose_by(x, (0, *range(2, n + 2), 1))

    def restored(self, x: Expr) -> Expr:
        """The user's order of a channels-last array."""
        n = self.rank
        return x if self.last else transpose_by(x, (0, n + 1, *range(1, n + 1)))

    def kernel(self, w: Expr) -> Expr:
        """[first, second, *window] as [*window, second, first]; channels-last kernels stay."""
        return w if self.kernel_last else transpose_by(w, (*range(2, self.rank + 2), 1, 0))

    @property
    def spatial(self) -> range:
        """The spatial axes."""
        return range(1, self.rank + 1) if self.last else range(2, self.rank + 2)


def layout_of(what: str, rank: int, layout: Any) -> Layout:
    """The layout of a name as "NCHW" or "NHWC"."""
    first, last = f"NC{SPATIAL[rank]}", f"N{SPATIAL[rank]}C"
    if layout not in (first, last):
        raise ArgumentError(
            f'{what}: layout {layout!r}: expected "{first}" or "{last}"', site=user_site()
        )
    return Layout(rank, layout == last, layout == last)


def _layouts(what: str, rank: int, layout: Any, kernel: Any, pair: str) -> Layout:
    """The layouts of an image and of a kernel, whose channels are a pair as "OI"."""
    place = layout_of(what, rank, layout)
    first, last = pair + SPATIAL[rank], SPATIAL[rank] + pair[::-1]
    if kernel not in (None, first, last):
        raise ArgumentError(
            f'{what}: kernel {kernel!r}: expected "{first}" or "{last}"', site=user_site()
        )
    return place if kernel is None else place._replace(kernel_last=kernel == last)


def per_axis(what: str, value: Any, rank: int, least: int) -> tuple[int, ...]:
    """An int for each spatial axis, from one for all or a sequence."""
    given = list(value) if isinstance(value, (tuple, list)) else [value] * rank
    if len(given) != rank:
        raise ShapeError(
            f"{what}: expected an int or {rank} of them, got {value}", site=user_site()
        )
    numbers = tuple(as_integer(v, what) for v in given)
    if min(numbers) < least:
        raise ShapeError(f"{what}: expected at least {least}, got {value}", site=user_site())
    return numbers


def paddings(what: str, padding: Any, image: Shape, reach: Shape, strides: Sequence[int]) -> Pairs:
    """Zeros before and after each axis, from any of the ways to say it.

    reach: how much of an axis a window spans.
    """
    if isinstance(padding, str):
        if padding not in _NAMED:
            raise ArgumentError(
                f"{what}: padding {padding!r}: expected {', '.join(_NAMED)} or numbers",
                site=user_site(),
            )
        return [_NAMED[padding](*axis) for axis in zip(image, reach, strides)]
    return explicit_pairs(f"{what}: padding", padding, len(image))


def explicit_pairs(what: str, padding: Any, rank: int) -> Pairs:
    """(before, after) of each axis, from an int, ints or pairs."""
    given = list(padding) if isinstance(padding, (tuple, list)) else [padding] * rank
    if len(given) != rank:
        raise ShapeError(
            f"{what}: expected an int, or {rank} ints or pairs, got {padding}", site=user_site()
        )
    pairs = [tuple(p) if isinstance(p, (tuple, list)) else (p, p) for p in given]
    if any(len(p) != 2 for p in pairs):
        raise ShapeError(f"{what}: expected pairs (before, after), got {padding}", site=user_site())
    numbers: Pairs = [(as_integer(a, what), as_integer(b, what)) for a, b in pairs]
    if any(known_le(0, n) is False for pair in numbers for n in pair):
        raise ShapeError(
            f"{what}: expected at least 0, got {padding}",
            site=user_site(),
            hint="x[:, :, 1:-1] takes a part of the image",
        )
    return numbers


def _same(size: SizeLike, reach: SizeLike, stride: int) -> tuple[SizeLike, SizeLike]:
    """Zeros for ceil(size / stride) positions, the odd one after."""
    total = reach - 1 if stride == 1 else (ceildiv(size, stride) - 1) * stride + reach - size
    total = dim_max(total, 0)
    before = floordiv(total, 2)
    return before, total - before


_NAMED = {
    "valid": lambda size, reach, stride: (0, 0),
    "same": _same,
    "full": lambda size, reach, stride: (reach - 1, reach - 1),
}


def _operands(what: str, x: Any, w: Any, rank: int) -> list[Expr]:
    return _require_rank(what, promote_operands(what, (x, w), frozenset(reals), _REFUSED), rank)


def _operands_in(
    what: str, x: Any, w: Any, rank: int, dtype: Any
) -> tuple[Sequence[Expr], DType | None]:
    """Image and kernel, and the dtype of their sums where they are narrower."""
    if dtype is None:
        return _operands(what, x, w, rank), None
    (a, b), wanted = lifted(what, (x, w), dtype)
    if wanted not in reals:
        return _operands(what, cast(a, wanted), cast(b, wanted), rank), None  # which refuses it
    a, b, given = fitted(a, b, wanted)
    return _require_rank(what, [a, b], rank), given


def _require_rank(what: str, nodes: list[Expr], rank: int) -> list[Expr]:
    for node, name in zip(nodes, ("x", "w")):
        if node.ndim != rank + 2:
            raise ShapeError(
                f"{what}: expected {name} of rank {rank + 2}, got {node.type}",
                site=user_site(),
                operands=nodes,
                hint="x is [n, channels, *image], w [out, in / groups, *window]",
            )
    return nodes


def _require_channels(
    what: str, x: Expr, w: Expr, groups: int, have: SizeLike, want: SizeLike, cut: SizeLike
) -> None:
    """The channels that meet are as many, and the groups divide those that are cut."""
    if known_equal(have, want) is False:
        of = f" ({groups} groups)" if groups > 1 else ""
        raise ShapeError(
            f"{what}({x.label}, {w.label}): channels differ: x has {have}, w takes {want}{of}",
            site=user_site(),
            operands=(x, w),
        )
    if isinstance(cut, int) and cut % groups:
        raise ShapeError(
            f"{what}: {groups} groups do not divide {cut} channels",
            site=user_site(),
            operands=(x, w),
        )


# --------------------------------------------------------------------------------------- convolving


def _convolution(
    what: str,
    rank: int,
    x: Any,
    w: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    layout: Any,
    kernel: Any,
    dtype: Any,
) -> Expr:
    place = _layouts(what, rank, layout, kernel, "OI")
    (a, b), wanted = _operands_in(what, x, w, rank, dtype)
    (groups,) = per_axis(f"{what}: groups", groups, 1, 1)
    strides = per_axis(f"{what}: stride", stride, rank, 1)
    dilations = per_axis(f"{what}: dilation", dilation, rank, 1)
    image, weights = place.channels_last(a), place.kernel(b)
    *window, inner, outer = weights.array_type.shape
    _require_channels(what, a, b, groups, image.array_type.shape[-1], inner * groups, outer)
    sizes = image.array_type.shape[1:-1]
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, window))
    pairs = paddings(what, padding, sizes, reach, strides)
    _require_room(what, a, b, sizes, reach, pairs)
    image, pairs = _with_symbolic_zeros(image, pairs)
    low, high = zip(*pairs)
    form = ConvForm(
        strides, low, high, dilations, groups, image.array_type.shape[1:-1], tuple(window)
    )
    return place.restored(apply(Convolve(form, "output", wanted), image, weights))


def _require_room(what: str, x: Expr, w: Expr, sizes: Shape, reach: Shape, pairs: Pairs) -> None:
    """The window lies on the padded image at least once, where that is known."""
    for axis, (size, span, (a, b)) in enumerate(zip(sizes, reach, pairs)):
        if known_le(span, size + a + b) is False:
            raise ShapeError(
                f"{what}({x.label}, {w.label}): the window spans {span} on spatial axis {axis}, "
                f"the padded image has {size + a + b}",
                site=user_site(),
                operands=(x, w),
            )


def _with_symbolic_zeros(x: Expr, pairs: Pairs) -> tuple[Expr, Pairs]:
    """Zeros whose number the call decides, put around the image; the form keeps the others."""
    if all(isinstance(n, int) for pair in pairs for n in pair):
        return x, pairs
    shape = x.array_type.shape
    sizes = tuple(s + a + b for s, (a, b) in zip(shape[1:-1], pairs))
    starts = (0, *(a for a, _ in pairs), 0)
    place = Place(starts, (1,) * x.ndim, (shape[0], *sizes, shape[-1]), fill_value(0, x.dtype))
    return apply(place, x), [(0, 0)] * len(pairs)


def _transposed(
    what: str,
    rank: int,
    x: Any,
    w: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
    layout: Any,
    kernel: Any,
) -> Expr:
    place = _layouts(what, rank, layout, kernel, "IO")
    a, b = _operands(what, x, w, rank)
    (groups,) = per_axis(f"{what}: groups", groups, 1, 1)
    strides = per_axis(f"{what}: stride", stride, rank, 1)
    dilations = per_axis(f"{what}: dilation", dilation, rank, 1)
    extra = per_axis(f"{what}: output_padding", output_padding, rank, 0)
    y, weights = place.channels_last(a), place.kernel(b)
    *window, _, inner = weights.array_type.shape
    _require_channels(what, a, b, groups, y.array_type.shape[-1], inner, inner)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, window))
    cuts, added = _cuts(what, padding, reach, strides, extra)
    for e, s in zip(extra, strides):
        if e >= s and e:
            raise ShapeError(
                f"{what}: output_padding {e} is not below the stride {s}", site=user_site()
            )
    image = tuple(
        (size - 1) * s + span - p - q + e
        for size, s, span, (p, q), e in zip(y.array_type.shape[1:-1], strides, reach, cuts, added)
    )
    for size in image:
        if known_le(0, size) is False:
            raise ShapeError(
                f"{what}: the padding cuts off more than there is: {size} places are left",
                site=user_site(),
                operands=(a, b),
            )
    low = tuple(p for p, _ in cuts)
    high = tuple(q - e for (_, q), e in zip(cuts, added))
    form = ConvForm(strides, low, high, dilations, groups, image, tuple(window))
    return place.restored(apply(Convolve(form, "input"), weights, y))


def _cuts(
    what: str, padding: Any, reach: Shape, strides: Sequence[int], extra: Sequence[int]
) -> tuple[Any, Sequence[Any]]:
    """What is cut off before and after each axis of the result, and what is added after."""
    if padding != "same":
        return paddings(what, padding, reach, reach, strides), extra
    cuts = []
    for span, stride in zip(reach, strides):
        total = dim_max(span - stride, 0)
        before = floordiv(total, 2)
        cuts.append((before, total - before))
    added = [e + dim_max(s - span, 0) for e, s, span in zip(extra, strides, reach)]
    return cuts, added


__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]
