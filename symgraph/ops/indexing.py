"""Indexing x[...]: integers, slices, None, Ellipsis and integer arrays; bounds may be symbolic.

A bound counts from the end where it is negative and is clamped to the axis, as in NumPy. What a
symbolic bound may be:
    a known sign (n, n + 1, 2*m)          nothing to decide
    an integer input (i, i*4 + 4)         its sign is decided at call time
    a difference of sizes (n - 3, n - m)  must not be negative at call time (a guard), so that
                                          x[2 : n-2] has n - 4 elements
Integer arrays, and scalars that are computed, are gathered; where several meet and where their axes
go is NumPy's rule.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import dims
from ..dims import Dim, Shape, SizeLike, ceildiv, dim_max, dim_min, known_le
from ..errors import AxisError, DTypeError, GraphError, SymgraphError
from ..expr import Expr, apply, user_site
from ..leaves import as_dim_any, lift
from .gather import Gather, require_constant_inside, spread_indices
from .movement import Slice, reshape_to, transpose_by


class Selection(NamedTuple):
    """What a key selects of an array: basic cuts first, then elements at integer arrays.

    starts, sizes, steps: of the cuts, one entry per axis; shape: of what they leave, integers
    dropped and Nones put in; order: that with the indexed axes brought together; indices: the
    arrays for these axes, which follow `lead` others.
    """

    starts: tuple[SizeLike, ...]
    sizes: Shape
    steps: tuple[int, ...]
    shape: Shape
    order: tuple[int, ...] = ()
    gather: Gather | None = None
    indices: tuple[Expr, ...] = ()

    def equals(self, other: Selection) -> bool:
        """The same cuts, and the same expressions as indices."""
        return self[:-1] == other[:-1] and list(map(id, self.indices)) == list(
            map(id, other.indices)
        )

    def takes_all(self, x: Expr) -> bool:
        """The cuts leave every element, in order."""
        return (
            self.sizes == x.array_type.shape
            and all(s == 0 for s in self.starts)
            and all(s == 1 for s in self.steps)
        )

    def cut(self, x: Expr) -> Expr:
        """The basic part of x, its indexed axes brought together."""
        part = x
        if not self.takes_all(x):
            part = apply(Slice(self.starts, self.sizes, self.steps), x)
        part = reshape_to(part, self.shape)
        return transpose_by(part, self.order) if self.order else part

    def read(self, x: Expr) -> Expr:
        """x[key]."""
        part = self.cut(x)
        return part if self.gather is None else apply(self.gather, part, *self.indices)


def getitem(x: Expr, key: Any) -> Expr:
    """x[key].

    Raises: AxisError for too many indices or one that is out of range, DTypeError for an index that
    is no integer, GraphError for masks. When run: IndexFault for an index that data decides.
    """
    selection = select(x, key)
    result = selection.read(x)
    _remember(result, x, selection)
    return result


def select(x: Expr, key: Any) -> Selection:
    """What x[key] means."""
    keys = tuple(map(_entry, key if isinstance(key, tuple) else (key,)))
    entries = _entries(x, keys)
    shape: list[SizeLike] = []
    cuts: list[tuple[SizeLike, SizeLike, int]] = []
    arrays: list[tuple[int, int, Expr]] = []  # axis of the cut array, axis of x, index
    for entry in entries:
        if entry is None:
            shape.append(1)
            continue
        axis = len(cuts)
        size = x.array_type.shape[axis]
        if isinstance(entry, Expr):
            require_constant_inside("", x, entry, size, axis)
            arrays.append((len(shape), axis, entry))
            entry = slice(None)
        if isinstance(entry, slice):
            cuts.append(_slice(entry, size, f"index of axis {axis}"))
            shape.append(cuts[-1][1])
        else:
            cuts.append((_position(x, entry, axis, size), 1, 1))
    starts, sizes, steps = zip(*cuts) if cuts else ((), (), ())
    basic = Selection(starts, sizes, steps, tuple(shape))
    return _gathered(basic, keys, arrays) if arrays else basic


def _gathered(
    basic: Selection, keys: Sequence[Any], arrays: Sequence[tuple[int, int, Expr]]
) -> Selection:
    """The selection with integer arrays: their axes go to the place of the first of them.

    If something stands between them, integers not counting, they go to the front, as in NumPy.
    """
    own = [place for place, _, _ in arrays]
    apart = _are_apart(keys)
    rest = [a for a in range(len(basic.shape)) if a not in own]
    lead = 0 if apart else sum(a < own[0] for a in rest)
    order = (*rest[:lead], *own, *rest[lead:])
    op = Gather(lead, tuple(axis for _, axis, _ in arrays), True)
    before = tuple(basic.shape[a] for a in order[:lead])
    indices = spread_indices(before, [index for _, _, index in arrays])
    return basic._replace(order=order, gather=op, indices=tuple(indices))


def _are_apart(keys: Sequence[Any]) -> bool:
    """Whether a slice, None or Ellipsis stands between integer arrays (or integers)."""
    advanced = [i for i, k in enumerate(keys) if not _is_plain(k)]
    return len(advanced) <= advanced[-1] - advanced[0]


def _is_plain(entry: Any) -> bool:
    return entry is None or entry is Ellipsis or isinstance(entry, slice)


def _entries(x: Expr, key: tuple[Any, ...]) -> list[Any]:
    """One slice, integer or array for each axis, and the Nones, in order.

    The Ellipsis is spelled out.
    """
    used = sum(entry is not None and entry is not Ellipsis for entry in key)
    dots = [i for i, entry in enumerate(key) if entry is Ellipsis]
    if len(dots) > 1:
        raise AxisError("index: only one '...' can be used", site=user_site())
    if used > x.ndim:
        raise AxisError(f"index: {used} indices for rank {x.ndim}", site=user_site(), operands=(x,))
    place = dots[0] if dots else len(key)
    rest = [slice(None)] * (x.ndim - used)
    return [*key[:place], *rest, *key[place + 1 :]]


def _entry(entry: Any) -> Any:
    """An entry of a key: what is basic as it is, arrays and computed scalars as expressions."""
    if _is_plain(entry) or isinstance(entry, Dim):
        return entry
    is_array = isinstance(entry, (Expr, list, tuple, np.ndarray))
    if not is_array:
        if isinstance(entry, (bool, np.bool_)):
            raise _mask_error()
        if hasattr(entry, "__index__"):
            return entry
        raise DTypeError(
            f"index: expected integers, slices, None or ..., got {entry!r}", site=user_site()
        )
    index = lift(entry)
    if index.dtype.kind == "b":
        raise _mask_error()
    if isinstance(entry, (list, tuple)) and index.array_type.size == 0:
        return lift(np.zeros(index.array_type.shape, np.int64))
    if not index.dtype.is_integer:
        raise DTypeError(
            f"index: expected integers, got {index.dtype}", site=user_site(), operands=(index,)
        )
    return index if index.ndim else _scalar(entry, index)


def _mask_error() -> GraphError:
    return GraphError(
        "index: boolean masks are not supported: the size of the result would depend on the data",
        site=user_site(),
        hint="where(mask, x, 0) keeps the shape; sum(where(mask, x, 0)) and count_nonzero(mask) "
        "reduce it",
    )


def _scalar(entry: Any, index: Expr) -> SizeLike | Expr:
    """An integer scalar: a basic index if it is made of sizes and integer inputs alone."""
    try:
        return as_dim_any(entry)
    except SymgraphError:
        return index


# ------------------------------------------------------------------------------- what was indexed

_origins: dict[int, tuple[weakref.ref[Expr], Expr | None, Selection]] = {}


def _remember(view: Expr, x: Expr, selection: Selection) -> None:
    """Note that `view` is x[selection].

    The same node may come of two keys (x[:] is x): then it is not known what was indexed.
    """
    if view is x:
        if id(view) not in _origins:
            return
    known = _origins.get(id(view))
    if known is not None and known[0]() is view:
        if known[1] is not x or not selection.equals(known[2]):
            _origins[id(view)] = (known[0], None, selection)
        return
    key = id(view)
    _origins[key] = (weakref.ref(view, lambda ref: _forget(key, ref)), x, selection)


def _forget(key: int, ref: weakref.ref[Expr]) -> None:
    if _origins and key in _origins and _origins[key][0] is ref:
        del _origins[key]


def origin(view: Expr) -> tuple[Expr, Selection] | None:
    """(x, selection) if `view` was made as x[key], by one key only."""
    known = _origins.get(id(view))
    if known is None or known[0]() is not view or known[1] is None:
        return None
    return known[1], known[2]


# --------------------------------------------------------------------------------------- bounds


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
