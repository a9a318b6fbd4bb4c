"""Basic indexing x[...] with integers, slices, None and Ellipsis; bounds may be symbolic.

A bound counts from the end where it is negative and is clamped to the axis, as in NumPy. What a
symbolic bound may be:
    a known sign (n, n + 1, 2*m)          nothing to decide
    an integer input (i, i*4 + 4)         its sign is decided at call time
    a difference of sizes (n - 3, n - m)  must not be negative at call time (a guard), so that
                                          x[2 : n-2] has n - 4 elements
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dims
from ..dims import Dim, SizeLike, ceildiv, dim_max, dim_min, known_le
from ..errors import AxisError, DTypeError, GraphError
from ..expr import Expr, apply, user_site
from ..leaves import as_dim_any
from .movement import Slice, reshape_to


def getitem(x: Expr, key: Any) -> Expr:
    """x[key].

    Raises: AxisError for too many indices or one that is out of range, GraphError for array indices
    and masks.
    """
    entries = _entries(x, key if isinstance(key, tuple) else (key,))
    shape: list[SizeLike] = []
    cuts: list[tuple[SizeLike, SizeLike, int]] = []
    for entry in entries:
        if entry is None:
            shape.append(1)
            continue
        axis = len(cuts)
        size = x.array_type.shape[axis]
        if isinstance(entry, slice):
            cuts.append(_slice(entry, size, f"index of axis {axis}"))
            shape.append(cuts[-1][1])
        else:
            cuts.append((_position(x, entry, axis, size), 1, 1))
    starts, sizes, steps = zip(*cuts) if cuts else ((), (), ())
    whole = (
        sizes == x.array_type.shape and all(s == 0 for s in starts) and all(s == 1 for s in steps)
    )
    return reshape_to(x if whole else apply(Slice(starts, sizes, steps), x), tuple(shape))


def _entries(x: Expr, key: tuple[Any, ...]) -> list[Any]:
    """One slice or integer for each axis, and the Nones, in order; the Ellipsis is spelled out."""
    for entry in key:
        _require_basic(entry)
    used = sum(entry is not None and entry is not Ellipsis for entry in key)
    dots = [i for i, entry in enumerate(key) if entry is Ellipsis]
    if len(dots) > 1:
        raise AxisError("index: only one '...' can be used", site=user_site())
    if used > x.ndim:
        raise AxisError(f"index: {used} indices for rank {x.ndim}", site=user_site(), operands=(x,))
    place = dots[0] if dots else len(key)
    rest = [slice(None)] * (x.ndim - used)
    return [*key[:place], *rest, *key[place + 1 :]]


def _require_basic(entry: Any) -> None:
    if entry is None or entry is Ellipsis or isinstance(entry, (slice, Dim)):
        return
    if isinstance(entry, Expr):
        if entry.ndim == 0 and entry.dtype.is_integer:
            return
        what = "boolean masks" if entry.dtype.kind == "b" else "array indices"
    elif isinstance(entry, (bool, np.bool_)):
        what = "boolean masks"
    elif isinstance(entry, (list, tuple)) or np.ndim(entry):
        what = "boolean masks" if np.asarray(entry).dtype.kind == "b" else "array indices"
    elif hasattr(entry, "__index__"):
        return
    else:
        raise DTypeError(
            f"index: expected integers, slices, None or ..., got {entry!r}", site=user_site()
        )
    raise GraphError(
        f"index: {what} are not supported yet: only basic slicing",
        site=user_site(),
        hint="where(mask, x, 0) keeps the shape; one_hot(index, depth) @ x takes rows",
    )


def _position(x: Expr, entry: Any, axis: int, size: SizeLike) -> SizeLike:
    """Where an integer index points; what cannot be decided here is a guard of Slice."""
    index = as_dim_any(entry, f"index of axis {axis}")
    if isinstance(index, int) and isinstance(size, int) and not -size <= index < size:
        raise AxisError(
            f"index {index} is out of range for axis {axis} of {x.label} with size {size}",
            site=user_site(),
            operands=(x,),
        )
    return _from_end(index, size)


def _from_end(bound: SizeLike, size: SizeLike, always: bool = False) -> SizeLike:
    """bound, or size + bound where it is negative.

    A difference of sizes whose sign is open stays as it is (a guard refuses negative ones) unless
    `always`.
    """
    if known_le(0, bound) is True or bound == size - 1:
        return bound
    if known_le(bound, -1) is True:
        return size + bound
    if not (always or _has_input(bound)):
        return bound
    return bound + size * dim_min(1, dim_max(0 - bound, 0))


def _has_input(bound: SizeLike) -> bool:
    return any(isinstance(a, dims.ValueOf) for a in dims.atoms(bound))


def _slice(entry: slice, size: SizeLike, what: str) -> tuple[SizeLike, SizeLike, int]:
    """start, number of elements and step of a slice of an axis."""
    step = 1 if entry.step is None else _bound(entry.step, f"step {what}")
    if not isinstance(step, int):
        raise GraphError(f"{what}: the step must be a number, got {step}", site=user_site())
    if step == 0:
        raise AxisError(f"{what}: the step of a slice cannot be 0", site=user_site())
    start = None if entry.start is None else _bound(entry.start, what)
    stop = None if entry.stop is None else _bound(entry.stop, what)
    return (_upwards if step > 0 else _downwards)(start, stop, step, size)


def _bound(value: Any, what: str) -> SizeLike:
    """A bound or step of a slice; for a number beyond every size the largest one does the same."""
    bound = as_dim_any(value, what)
    limit = dims.MAX_SIZE - 1
    return max(-limit, min(bound, limit)) if isinstance(bound, int) else bound


def _upwards(
    start: SizeLike | None, stop: SizeLike | None, step: int, size: SizeLike
) -> tuple[SizeLike, SizeLike, int]:
    low: SizeLike = 0 if start is None else _from_end(start, size)
    high = size if stop is None else dim_min(_from_end(stop, size), size)
    count = high - low
    if (
        start is not None
        and known_le(0, low) is not True
        and (known_le(start, -1) is True or _has_input(start))
    ):
        low, count = dim_max(low, 0), dim_min(count, high)  # clamped at 0: high - max(low, 0)
    if not (stop is not None and _refused_if_negative(stop, size)):
        count = dim_max(count, 0)
    return low, ceildiv(count, step), step


def _refused_if_negative(bound: SizeLike, size: SizeLike) -> bool:
    """A difference of sizes of open sign: the count is not clamped, so that its guard speaks."""
    open_sign = known_le(0, bound) is None and known_le(bound, -1) is not True
    return open_sign and bound != size - 1 and not _has_input(bound)


def _downwards(
    start: SizeLike | None, stop: SizeLike | None, step: int, size: SizeLike
) -> tuple[SizeLike, SizeLike, int]:
    high = size - 1 if start is None else dim_min(_from_end(start, size, always=True), size - 1)
    low: SizeLike = -1 if stop is None else dim_max(_from_end(stop, size, always=True), -1)
    return high, ceildiv(dim_max(high - low, 0), -step), step
