"""Gather and Scatter: elements at places that integer arrays say, read and written.

Both see an array as [lead..., indexed..., rest...]. One integer array for each indexed axis, all of
one shape [lead..., places...], says where; values have the shape [lead..., places..., rest...]:

    gather   result[l, p, r] = x[l, i[l, p], j[l, p], ..., r]
    scatter  result[l, i[l, p], j[l, p], ..., r] = y[l, p, r], or plus y, or the larger or smaller

Each is the other's derivative. An index counts from the end where it is negative, and is checked
when the function runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arraytype import Array
from ..dims import Shape, SizeLike, product
from ..dtypes import int64
from ..errors import AxisError, DTypeError, IndexFault, ShapeError
from ..expr import Expr, apply, user_site
from ..leaves import Constant, constant
from ..op import Op
from ..relations import require_equal
from .define import broadcast_shapes, cast
from .elementwise import eq, where
from .movement import Iota, broadcast_by, reshape_to, show
from .reduce import computed_in

KINDS: dict[str, Callable[[np.ndarray, Any, np.ndarray], None]] = {
    "set": lambda x, places, y: x.__setitem__(places, y),
    "add": np.add.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


class Indexed(Op, abstract=True):
    """What Gather and Scatter have in common.

    lead: how many axes come before the indexed ones. axes: what the user calls the indexed axes,
    for messages. from_end: negative indices count from the end (else they are out of range).
    """

    lead: int
    axes: tuple[int, ...]
    from_end: bool

    def places(self, indices: Sequence[Array]) -> Shape:
        """The axes of an index behind the leading ones."""
        return indices[0].shape[self.lead :]

    def check(self, x: Array, indices: Sequence[Array]) -> None:
        """One integer array for each indexed axis, all of one shape that begins like x's."""
        name, lead = self.name, self.lead
        if not indices or len(indices) != len(self.axes):
            raise ShapeError(f"{name}: expected {len(self.axes)} indices, got {len(indices)}")
        if lead + len(indices) > x.ndim:
            raise AxisError(f"{name}: {lead + len(indices)} axes of an array of rank {x.ndim}")
        for i in indices:
            if not i.dtype.is_integer:
                raise DTypeError(f"{name}: expected integer indices, got {i.dtype}")
            if i.ndim < lead or i.ndim != indices[0].ndim:
                raise ShapeError(f"{name}: indices of shapes {show(indices[0].shape)}, {i.shape}")
            for axis, size in enumerate((*x.shape[:lead], *self.places(indices))):
                require_equal(size, i.shape[axis], f"{name}: axis {axis} of an index")

    def selection(self, x: np.ndarray, indices: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """NumPy's index for the places.  Raises: IndexFault for one that is out of range."""
        rank = indices[0].ndim
        grid = [
            np.arange(size).reshape([-1 if a == axis else 1 for a in range(rank)])
            for axis, size in enumerate(x.shape[: self.lead])
        ]
        sizes = x.shape[self.lead :]
        checked = [
            require_inside(i, size, axis, self.from_end)
            for i, size, axis in zip(indices, sizes, self.axes)
        ]
        return (*grid, *checked)


class Gather(Indexed):
    """Elements of x at the places that indices say."""

    name = "gather"

    def infer(self, x: Array, *indices: Array) -> Array:
        self.check(x, indices)
        lead = self.lead
        rest = x.shape[lead + len(indices) :]
        return Array(x.dtype, (*x.shape[:lead], *self.places(indices), *rest))

    def evaluate(self, x: np.ndarray, *indices: np.ndarray) -> np.ndarray:
        return np.asarray(x[self.selection(x, indices)])

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        x, *indices = inputs
        zero = broadcast_by(constant(0, cotangent.dtype), x.array_type.shape)
        return [apply(self.inverse("add"), zero, cotangent, *indices), *[None] * len(indices)]

    def jvp(self, inputs: Sequence[Expr], output: Expr, tangents: Sequence[Any]) -> Expr | None:
        return None if tangents[0] is None else apply(self, tangents[0], *inputs[1:])

    def inverse(self, kind: str) -> Scatter:
        """The scatter to the places that this gathers from."""
        return Scatter(self.lead, self.axes, self.from_end, kind)


class Scatter(Indexed):
    """x with y written to the places that indices say, in C order of y.

    kind: "set" (of several values for one place the last one stays), "add", "max", "min".
    """

    name = "scatter"
    kind: str

    def infer(self, x: Array, y: Array, *indices: Array) -> Array:
        self.check(x, indices)
        if y.dtype is not x.dtype:
            raise DTypeError(f"scatter: dtypes differ: {x.dtype} and {y.dtype}")
        if self.kind == "add" and x.dtype.kind == "b":
            raise DTypeError("scatter: bool values cannot be added")
        if self.kind in ("max", "min") and x.dtype.kind == "c":
            raise DTypeError("scatter: complex numbers have no order")
        lead = self.lead
        want = (*x.shape[:lead], *self.places(indices), *x.shape[lead + len(indices) :])
        if len(want) != y.ndim:
            raise ShapeError(f"scatter: expected values of shape {show(want)}, got {show(y.shape)}")
        for axis, (size, have) in enumerate(zip(want, y.shape)):
            require_equal(size, have, f"scatter: axis {axis} of the values")
        return x

    def evaluate(self, x: np.ndarray, y: np.ndarray, *indices: np.ndarray) -> np.ndarray:
        result = np.array(x, order="C")
        with np.errstate(all="ignore"):
            KINDS[self.kind](result, self.selection(x, indices), y)
        return result

    def vjp(self, inputs: Sequence[Expr], output: Expr, cotangent: Expr) -> list[Expr | None]:
        x, y, *indices = inputs
        pair = _SCATTER_VJP[self.kind](self, x, y, indices, output, cotangent)
        return [*pair, *[None] * len(indices)]

    @property
    def inverse(self) -> Gather:
        """The gather from the places that this writes."""
        return Gather(self.lead, self.axes, self.from_end)


Pair = tuple[Expr, Expr]


def _add_vjp(op: Scatter, x: Expr, y: Expr, indices: list[Expr], out: Expr, dout: Expr) -> Pair:
    return dout, apply(op.inverse, dout, *indices)


def _set_vjp(op: Scatter, x: Expr, y: Expr, indices: list[Expr], out: Expr, dout: Expr) -> Pair:
    """Nothing flows to what was overwritten, neither elements of x nor values before the last."""
    zero = broadcast_by(constant(0, dout.dtype), y.array_type.shape)
    kept = apply(op, dout, zero, *indices)
    shape = indices[0].array_type.shape
    places = shape[op.lead :]
    number = apply(Iota(product(places), int64))
    number = broadcast_by(reshape_to(number, places), shape)
    table = x.array_type.shape[: op.lead + len(indices)]
    blank = broadcast_by(constant(0, int64), table)
    last = eq(apply(op.inverse, apply(op, blank, number, *indices), *indices), number)
    return kept, where(_over_rest(last, y), apply(op.inverse, dout, *indices), 0)


def _extreme_vjp(op: Scatter, x: Expr, y: Expr, indices: list[Expr], out: Expr, dout: Expr) -> Pair:
    """Split evenly among all that attain the extreme."""
    exact = computed_in(x.dtype)
    stayed, came = eq(x, out), eq(y, apply(op.inverse, out, *indices))
    add = Scatter(op.lead, op.axes, op.from_end, "add")
    count = apply(add, cast(stayed, exact), cast(came, exact), *indices)
    share = cast(cast(dout, exact) / count, dout.dtype)
    return where(stayed, share, 0), where(came, apply(op.inverse, share, *indices), 0)


_SCATTER_VJP: dict[str, Callable[..., Pair]] = {
    "add": _add_vjp,
    "set": _set_vjp,
    "max": _extreme_vjp,
    "min": _extreme_vjp,
}


def _over_rest(x: Expr, y: Expr) -> Expr:
    """x repeated over the trailing axes that y has more."""
    shape = x.array_type.shape
    ones = (1,) * (y.ndim - len(shape))
    return broadcast_by(reshape_to(x, (*shape, *ones)), y.array_type.shape)


# ----------------------------------------------------------------------------------------- checking


def out_of_range(index: Any, axis: int, size: Any) -> str:
    """What an IndexFault says; the reference and native code say the same."""
    return f"index {index} is out of range for axis {axis} with size {size}"


def require_inside(index: np.ndarray, size: int, axis: int, from_end: bool) -> np.ndarray:
    """Indices as NumPy takes them.  Raises: IndexFault for the first one that is out of range."""
    low = -size if from_end else 0
    wrong = (index < low) | (index >= size)
    if wrong.any():
        raise IndexFault(out_of_range(index[wrong].flat[0], axis, size))
    return index.astype(np.int64, copy=False)


def require_constant_inside(
    what: str, x: Expr, index: Expr, size: SizeLike, axis: int, from_end: bool = True
) -> None:
    """Refuse an index at the user's line if it is a constant and the size is known."""
    if not isinstance(index.op, Constant) or not isinstance(size, int):
        return
    try:
        require_inside(index.op.value, size, axis, from_end)
    except IndexFault as fault:
        text = fault.message.replace(" with size", f" of {x.label} with size")
        raise AxisError(what + text, site=user_site(), operands=(x,)) from None


# ----------------------------------------------------------------------------------------- building


def gather(x: Expr, indices: Sequence[Expr], lead: int, axes: Sequence[int]) -> Expr:
    """x at indices that broadcast against each other, the same for all leading axes."""
    spread = spread_indices(x.array_type.shape[:lead], indices)
    return apply(Gather(lead, tuple(axes), True), x, *spread)


def spread_indices(lead: Shape, indices: Sequence[Expr]) -> list[Expr]:
    """Indices of one shape, repeated over leading axes of these sizes."""
    try:
        places = broadcast_shapes("index", *[i.array_type.shape for i in indices])
    except ShapeError as error:
        raise error.at(user_site(), indices) from None
    return [broadcast_by(broadcast_by(i, places), (*lead, *places)) for i in indices]


__all__ = [
    "Gather",
    "Scatter",
    "gather",
    "out_of_range",
    "require_constant_inside",
    "spread_indices",
]
