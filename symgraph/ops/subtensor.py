"""Arrays with a part replaced or added to: set_subtensor, inc_subtensor and x.at[key]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arraytype import Array
from ..dims import known_equal
from ..dtypes import KINDS as LADDER
from ..errors import DTypeError, GraphError, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import lift
from ..op import Op
from .define import cast
from .elementwise import maximum, minimum
from .indexing import Selection, origin, select
from .movement import (
    Slice,
    broadcast_by,
    require_in_range,
    require_rank,
    reshape_to,
    show,
    slices,
    transpose_by,
)


class Overwrite(Op):
    """x with y written at starts + i * steps, or added there: undoes Slice and keeps the rest.

    kind: "set" or "add".
    """

    name = "overwrite"
    starts: Any
    steps: tuple[int, ...]
    kind: str

    def infer(self, x: Array, y: Array) -> Array:
        require_rank("overwrite", x.ndim, self.starts, self.steps, y.shape)
        if y.dtype is not x.dtype:
            raise DTypeError(f"overwrite: dtypes differ: {x.dtype} and {y.dtype}")
        for axis, size in enumerate(x.shape):
            require_in_range(
                "slice", axis, self.starts[axis], y.shape[axis], self.steps[axis], size
            )
        return x

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        result = np.array(x, order="C")
        part = slices(self.starts, y.shape, self.steps)
        with np.errstate(all="ignore"):
            result[part] = y if self.kind == "set" else result[part] + y
        return result

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr]:
        y = inputs[1].array_type
        part = apply(Slice(self.starts, y.shape, self.steps), cotangent)
        if self.kind == "add":
            return [cotangent, part]
        zero = broadcast_by(lift(0, cotangent.dtype), y.shape)
        return [apply(self, cotangent, zero), part]


def set_subtensor(x: Any, y: Any) -> Expr:
    """Given a[key] and y: the array `a` with y there; of several values for a place the last stays.

    y: broadcasts to a[key]; it takes the dtype of `a`.
    Raises: GraphError if x is no a[key]; see also a.at[key].set(y), which cannot be mistaken.
    """
    return _written("set_subtensor", x, y, "set")


def inc_subtensor(x: Any, y: Any) -> Expr:
    """Given a[key] and y: the array `a` with y added there, each time a place comes.

    y: broadcasts to a[key]; it takes the dtype of `a`.
    Raises: GraphError if x is no a[key]; see also a.at[key].add(y), which cannot be mistaken.
    """
    return _written("inc_subtensor", x, y, "add")


def _written(what: str, x: Any, y: Any, kind: str) -> Expr:
    view = lift(x)
    found = origin(view)
    if found is None:
        raise GraphError(
            f"{what}: expected an indexed expression a[key], got {view.label}",
            site=user_site(),
            operands=(view,),
            hint=f"a.at[key].{kind}(y) says what is indexed",
        )
    return write(what, *found, y, kind)


class At:
    """x.at: parts of x to replace or to add to."""

    def __init__(self, x: Expr):
        self._x = x

    def __getitem__(self, key: Any) -> Part:
        return Part(self._x, select(self._x, key))


class Part:
    """x.at[key]: each method gives x with this part changed; y broadcasts to x[key].

    A place that comes several times gets every value, in C order.
    """

    def __init__(self, x: Expr, selection: Selection):
        self._x, self._selection = x, selection

    def get(self) -> Expr:
        """x[key]."""
        return self._selection.read(self._x)

    def set(self, y: Any) -> Expr:
        """x with y in this part."""
        return write("set", self._x, self._selection, y, "set")

    def add(self, y: Any) -> Expr:
        """x with y added to this part."""
        return write("add", self._x, self._selection, y, "add")

    def max(self, y: Any) -> Expr:
        """x with the larger of x and y in this part."""
        return write("max", self._x, self._selection, y, "max")

    def min(self, y: Any) -> Expr:
        """x with the smaller of x and y in this part."""
        return write("min", self._x, self._selection, y, "min")


def write(what: str, x: Expr, selection: Selection, y: Any, kind: str) -> Expr:
    """x with y combined into a selection of it."""
    value = _value(what, x, selection.read(x), y)
    if kind == "add" and x.dtype.kind == "b":
        raise DTypeError(f"{what}: bool values cannot be added", site=user_site(), operands=(x,))
    if selection.gather is None:
        return _overwrite(x, selection, value, kind)
    part = selection.cut(x)
    scatter = selection.gather.inverse(kind)
    part = apply(scatter, part, value, *selection.indices)
    inverse = sorted(range(len(selection.order)), key=selection.order.__getitem__)
    return _overwrite(x, selection, transpose_by(part, inverse), "set")


def _overwrite(x: Expr, selection: Selection, value: Expr, kind: str) -> Expr:
    """value, in the shape of the selection's basic part, combined into that part."""
    value = reshape_to(value, selection.sizes)
    if kind in ("max", "min"):
        here = reshape_to(selection.cut(x), selection.sizes)
        value, kind = (maximum if kind == "max" else minimum)(here, value), "set"
    if selection.takes_all(x):
        return value if kind == "set" else x + value
    return apply(Overwrite(selection.starts, selection.steps, kind), x, value)


def _value(what: str, x: Expr, place: Expr, y: Any) -> Expr:
    """y in the dtype of x, broadcast to the place it goes to."""
    given = lift(y, x.dtype)
    if _rank(given) > _rank(x):
        raise DTypeError(
            f"{what}: values of {given.dtype} do not go into {x.dtype}",
            site=user_site(),
            operands=(x, given),
            hint=f"y.astype('{x.dtype}') says that they may",
        )
    value = cast(given, x.dtype)
    have, want = value.array_type.shape, place.array_type.shape
    lead = len(want) - len(have)
    if lead < 0 or any(h != 1 and known_equal(h, w) is False for h, w in zip(have, want[lead:])):
        raise ShapeError(
            f"{what}: y of shape {show(have)} does not broadcast to {show(want)}",
            site=user_site(),
            operands=(x, value),
        )
    return broadcast_by(value, want)


def _rank(x: Expr) -> int:
    """Where the kind of a dtype stands: bool, integer, float, complex."""
    return LADDER.index("i" if x.dtype.kind == "u" else x.dtype.kind)


__all__ = ["Overwrite", "inc_subtensor", "set_subtensor"]
