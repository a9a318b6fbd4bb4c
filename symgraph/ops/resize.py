"""Resizing of images: the nearest element, or linear between neighbours along each axis.

Places are exact fractions: integers of the sizes decide which elements are read, and weights are
rounded once.
"""

from __future__ import annotations

from typing import Any

from ..dims import SizeLike, floordiv, known_le
from ..dtypes import DType, default_float, floats, int64
from ..errors import ArgumentError, DTypeError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import as_dim, as_flag, lift, size_value
from .conv import SPATIAL, layout_of
from .define import cast
from .elementwise import maximum, minimum
from .movement import Iota, broadcast_by, reshape_to
from .reduce import computed_in
from .take import take

MODES = ("nearest", "linear")


def resize(
    x: Any,
    size: Any,
    mode: str = "nearest",
    align_corners: bool = False,
    layout: str | None = None,
) -> Expr:
    """An image of another size.   x: [n, c, *image] -> [n, c, *size], one to three spatial axes.

    size: per spatial axis, or one for all; sizes may be symbolic, as 2 * x.shape[2].
    mode: "nearest" reads element floor(i * old / new); "linear" (of two axes: bilinear) reads
    between the neighbours of (i + 1/2) * old / new - 1/2, or with align_corners of i * (old - 1) /
    (new - 1), beyond the outermost elements these; integers become the default float.
    layout: "NCHW" and its kin unless "NHWC" or its kin is given.
    Raises: ShapeError for sizes that do not fit the rank or are below 1.
    """
    node = lift(x)
    rank = node.ndim - 2
    if rank not in SPATIAL:
        raise ShapeError(
            f"resize: expected x of rank 3 to 5 ([n, c, *spatial]), got {node.type}",
            site=user_site(),
            operands=(node,),
        )
    place = layout_of("resize", rank, f"NC{SPATIAL[rank]}" if layout is None else layout)
    aligned = as_flag(align_corners, "resize: align_corners")
    sizes = _sizes(node, size, rank)
    if mode not in MODES:
        raise ArgumentError(
            f"resize: mode {mode!r}: expected {' or '.join(MODES)}", site=user_site()
        )
    if mode == "nearest" and aligned:
        raise ArgumentError('resize: align_corners needs mode="linear"', site=user_site())
    dtype = node.dtype if mode == "nearest" else _interpolated(node)
    # channels-last, as convolutions are computed: whole rows of channels are read
    image = place.channels_last(node if mode == "nearest" else cast(node, computed_in(dtype)))
    for axis, new in enumerate(sizes, 1):
        if image.array_type.shape[axis] != new:
            image = (
                _nearest(image, axis, new)
                if mode == "nearest"
                else _linear(image, axis, new, aligned)
            )
    return cast(place.restored(image), dtype)


def _sizes(x: Expr, size: Any, rank: int) -> list[SizeLike]:
    given = list(size) if isinstance(size, (tuple, list)) else [size] * rank
    if len(given) != rank:
        raise ShapeError(
            f"resize: expected one size or {rank} of them, got {len(given)}",
            site=user_site(),
            operands=(x,),
        )
    sizes = [as_dim(s, "resize: size") for s in given]
    for s in (*sizes, *x.array_type.shape[-rank:]):
        if known_le(1, s) is False:
            raise ShapeError(
                "resize: an empty image has nothing to read or show",
                site=user_site(),
                operands=(x,),
            )
    return sizes


def _interpolated(x: Expr) -> DType:
    """The dtype of a mean of neighbours."""
    if x.dtype.kind == "c":
        raise DTypeError(
            f"resize: dtype {x.dtype} is not accepted with mode 'linear'",
            site=user_site(),
            operands=(x,),
            hint="resize the real and the imaginary part",
        )
    return x.dtype if x.dtype in floats else default_float()


def _value(size: SizeLike) -> Expr:
    return cast(lift(size_value(size)), int64)


def _nearest(x: Expr, axis: int, new: SizeLike) -> Expr:
    """Element floor(i * old / new) at each i."""
    shape = x.array_type.shape
    old = shape[axis]
    times = floordiv(new, old)
    if isinstance(times, int) and times * old == new:  # each element some times
        rows = reshape_to(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
        repeated = broadcast_by(rows, (*shape[: axis + 1], times, *shape[axis + 1 :]))
        return reshape_to(repeated, (*shape[:axis], new, *shape[axis + 1 :]))
    places = apply(Iota(new, int64)) * _value(old) // _value(new)
    return take(x, places, axis)


def _linear(x: Expr, axis: int, new: SizeLike, aligned: bool) -> Expr:
    """Between the neighbours of a place, as a fraction, at each i."""
    old = x.array_type.shape[axis]
    i, m, n = apply(Iota(new, int64)), _value(old), _value(new)
    under = maximum(n - 1, 1) if aligned else 2 * n
    over = i * (m - 1) if aligned else maximum((2 * i + 1) * m - n, 0)
    before = over // under
    after = minimum(before + 1, m - 1)
    shape = tuple(new if a == axis else 1 for a in range(x.ndim))
    share = reshape_to(cast(over - before * under, x.dtype) / cast(under, x.dtype), shape)
    left, right = take(x, before, axis), take(x, after, axis)
    return left * (1 - share) + right * share


__all__ = ["resize"]
