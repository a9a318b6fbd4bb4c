"""NumPy-like functions that change shape or order of axes, built from the movement primitives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dims
from ..dims import Shape, SizeLike, floordiv, product
from ..errors import AxisError, GraphError, ShapeError
from ..expr import Expr, user_site
from ..leaves import as_dim, as_dim_any, as_integer, lift, normalize_axis
from .define import broadcast_shapes
from .movement import broadcast_by, flip_axes, reshape_to, show, transpose_by


def sizes(shape: Any, what: str) -> tuple[SizeLike, ...]:
    """Sizes from an int, a Dim, an integer expression or a sequence of them; none negative."""
    entries = shape if isinstance(shape, (tuple, list)) else (shape,)
    return tuple(as_dim(s, f"{what}: size of axis {i}") for i, s in enumerate(entries))


def axes_of(axis: Any, ndim: int, what: str) -> tuple[int, ...]:
    """Axes in [0, ndim), in the given order, from an int or a sequence.

    Raises AxisError, also if one comes twice.
    """
    given = axis if isinstance(axis, (tuple, list, range)) else (axis,)
    axes = tuple(normalize_axis(a, ndim, what) for a in given)
    if len(set(axes)) != len(axes):
        raise AxisError(f"{what}: {axis} names an axis twice", site=user_site())
    return axes


# ------------------------------------------------------------------------------------------ reshape


def reshape(x: Any, shape: Any, ndim: int | None = None) -> Expr:
    """The same elements in C order under another shape.

    shape: ints, sizes (x.shape[i]) and at most one -1, which takes what is left.
    ndim: checked if given.
    Raises: ShapeError if the numbers of elements differ.
    """
    node = lift(x)
    entries = shape if isinstance(shape, (tuple, list)) else (shape,)
    wanted = [as_dim_any(s, f"reshape: size of axis {i}") for i, s in enumerate(entries)]
    if ndim is not None and ndim != len(wanted):
        raise ShapeError(f"reshape: ndim={ndim} but {len(wanted)} sizes", site=user_site())
    free = [i for i, s in enumerate(wanted) if s == -1]
    if len(free) > 1:
        raise ShapeError("reshape: only one size can be -1", site=user_site(), operands=(node,))
    if free:
        wanted[free[0]] = _left_over(node, [s for s in wanted if s != -1])
    for s in wanted:
        if isinstance(s, int) and s < 0:
            raise ShapeError(
                f"reshape: a size cannot be negative, got {s}",
                site=user_site(),
                hint="-1 stands for what is left",
                operands=(node,),
            )
    return reshape_to(node, tuple(wanted))


def _left_over(x: Expr, others: Sequence[SizeLike]) -> SizeLike:
    total, rest = x.array_type.size, product(others)
    if rest == 0 or (isinstance(total, int) and isinstance(rest, int) and total % rest):
        raise ShapeError(
            f"reshape: {show(x.array_type.shape)} has {total} elements, "
            f"which {rest} does not divide",
            site=user_site(),
            operands=(x,),
        )
    return floordiv(total, rest)


def flatten(x: Any, ndim: int = 1) -> Expr:
    """The first ndim - 1 axes kept, the rest made one, in C order."""
    node, ndim = lift(x), as_integer(ndim, "flatten: ndim")
    if not 1 <= ndim <= max(node.ndim, 1):
        raise AxisError(f"flatten: ndim={ndim} of rank {node.ndim}", site=user_site())
    shape = node.array_type.shape
    return reshape_to(node, (*shape[: ndim - 1], product(shape[ndim - 1 :])))


def ravel(x: Any, order: str = "C") -> Expr:
    """All elements in one axis, in C order (the only one)."""
    if not isinstance(order, str) or order != "C":
        raise GraphError(
            f"ravel: order {order!r} is not supported, only 'C'",
            site=user_site(),
            hint="x.T.ravel() is Fortran order",
        )
    return flatten(x)


def expand_dims(x: Any, axis: Any) -> Expr:
    """New axes of size 1 at the given places of the result."""
    node = lift(x)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    new = axes_of(axis, node.ndim + count, "expand_dims")
    old = iter(node.array_type.shape)
    return reshape_to(node, tuple(1 if i in new else next(old) for i in range(node.ndim + count)))


def squeeze(x: Any, axis: Any = None) -> Expr:
    """Axes of size 1 dropped: all known ones, or the given (symbolic ones are 1 at run time)."""
    node = lift(x)
    shape = node.array_type.shape
    axes = (
        tuple(i for i, s in enumerate(shape) if s == 1)
        if axis is None
        else axes_of(axis, node.ndim, "squeeze")
    )
    for i in axes:
        if dims.known_equal(shape[i], 1) is False:
            raise ShapeError(
                f"squeeze: axis {i} has size {shape[i]}, not 1", site=user_site(), operands=(node,)
            )
    ones = broadcast_by(node, tuple(1 if i in axes else s for i, s in enumerate(shape)))
    return reshape_to(ones, tuple(s for i, s in enumerate(shape) if i not in axes))


def atleast_1d(x: Any) -> Expr:
    """x, a 0-d one as [1]."""
    return shape_padleft(x, max(0, 1 - lift(x).ndim))


def atleast_2d(x: Any) -> Expr:
    """x with leading axes of size 1 up to rank 2."""
    return shape_padleft(x, max(0, 2 - lift(x).ndim))


def atleast_3d(x: Any) -> Expr:
    """x with axes of size 1 up to rank 3: [1, n, 1] of a vector, [n, m, 1] of a matrix."""
    node = lift(x)
    if node.ndim > 2:
        return node
    before = (1,) * (node.ndim < 2)
    after = (1,) * (3 - node.ndim - len(before))
    return reshape_to(node, before + node.array_type.shape + after)


def shape_padleft(x: Any, n_ones: int = 1) -> Expr:
    """x with n_ones leading axes of size 1."""
    node = lift(x)
    return reshape_to(node, _ones("shape_padleft", n_ones) + node.array_type.shape)


def shape_padright(x: Any, n_ones: int = 1) -> Expr:
    """x with n_ones trailing axes of size 1."""
    node = lift(x)
    return reshape_to(node, node.array_type.shape + _ones("shape_padright", n_ones))


def _ones(what: str, count: Any) -> tuple[int, ...]:
    n = as_integer(count, what)
    if not 0 <= n <= 64:
        raise ShapeError(f"{what}: expected 0 to 64 axes, got {n}", site=user_site())
    return (1,) * n


# ------------------------------------------------------------------------------------ order of axes


def transpose(x: Any, axes: Any = None) -> Expr:
    """Axes in the given order, reversed if None."""
    node = lift(x)
    order = (
        tuple(reversed(range(node.ndim))) if axes is None else axes_of(axes, node.ndim, "transpose")
    )
    if len(order) != node.ndim:
        raise AxisError(
            f"transpose: expected {node.ndim} axes, got {axes}", site=user_site(), operands=(node,)
        )
    return transpose_by(node, order)


def swapaxes(x: Any, axis1: int, axis2: int) -> Expr:
    """Two axes exchanged."""
    node = lift(x)
    i, j = (normalize_axis(a, node.ndim, "swapaxes") for a in (axis1, axis2))
    order = list(range(node.ndim))
    order[i], order[j] = j, i
    return transpose_by(node, order)


def moveaxis(x: Any, source: Any, destination: Any) -> Expr:
    """Axes moved to new places, the others kept in order."""
    node = lift(x)
    old, new = (axes_of(a, node.ndim, "moveaxis") for a in (source, destination))
    if len(old) != len(new):
        raise AxisError(f"moveaxis: {source} and {destination} do not pair", site=user_site())
    order = [a for a in range(node.ndim) if a not in old]
    for place, axis in sorted(zip(new, old)):
        order.insert(place, axis)
    return transpose_by(node, order)


def dimshuffle(x: Any, *pattern: Any) -> Expr:
    """Axes in the given order, "x" for a new axis of size 1; axes left out must have size 1."""
    node = lift(x)
    if len(pattern) == 1 and isinstance(pattern[0], (tuple, list)):
        pattern = tuple(pattern[0])
    new = [isinstance(p, str) and p == "x" for p in pattern]
    kept = axes_of([p for p, x in zip(pattern, new) if not x], node.ndim, "dimshuffle")
    dropped = [a for a in range(node.ndim) if a not in kept]
    without = squeeze(node, dropped) if dropped else node
    place = {axis: i for i, axis in enumerate(sorted(kept))}
    moved = transpose_by(without, [place[a] for a in kept])
    old = iter(moved.array_type.shape)
    return reshape_to(moved, tuple(1 if x else next(old) for x in new))


def flip(x: Any, axis: Any = None) -> Expr:
    """Reversed along the given axes, along all if None."""
    node = lift(x)
    return flip_axes(node, range(node.ndim) if axis is None else axes_of(axis, node.ndim, "flip"))


def flipud(x: Any) -> Expr:
    """Reversed along axis 0."""
    return flip(x, 0)


def fliplr(x: Any) -> Expr:
    """Reversed along axis 1."""
    return flip(x, 1)


def rot90(x: Any, k: int = 1, axes: Any = (0, 1)) -> Expr:
    """Turned k times by 90 degrees, from the first towards the second axis."""
    node = lift(x)
    plane = axes_of(axes, node.ndim, "rot90")
    if len(plane) != 2:
        raise AxisError(f"rot90: expected two axes, got {axes}", site=user_site())
    first, second = plane
    turns = as_integer(k, "rot90: k") % 4
    if turns == 2:
        return flip_axes(node, [first, second])
    if turns == 1:
        node = flip_axes(node, [second])
    order = list(range(node.ndim))
    order[first], order[second] = second, first
    turned = transpose_by(node, order) if turns else node
    return flip_axes(turned, [second]) if turns == 3 else turned


# ---------------------------------------------------------------------------------------- broadcast


def broadcast_to(x: Any, shape: Any) -> Expr:
    """x repeated along new leading axes and along axes of size 1."""
    return broadcast_by(lift(x), sizes(shape, "broadcast_to"))


def broadcast_arrays(*arrays: Any) -> list[Expr]:
    """All operands broadcast to their common shape.  Raises ShapeError if there is none."""
    nodes = [lift(a) for a in arrays]
    try:
        shape = broadcast_shapes("broadcast_arrays", *[n.array_type.shape for n in nodes])
    except ShapeError as error:
        raise error.at(user_site(), nodes) from None
    return [broadcast_by(n, shape) for n in nodes]


def sum_to(x: Expr, shape: Shape) -> Expr:
    """x summed over the axes along which `shape` was broadcast to its own.

    The adjoint of broadcast_to. Symbolic sizes that differ in form are taken to be equal (a guard
    checks).
    """
    have = x.array_type.shape
    new = len(have) - len(shape)
    if new < 0:
        raise ShapeError(
            f"sum_to: {show(have)} has fewer axes than {show(shape)}", site=user_site()
        )
    axes = tuple(a for a, s in enumerate(have) if a < new or (shape[a - new] == 1 and s != 1))
    summed = x.sum(axis=axes, dtype=x.dtype) if axes else x
    return reshape_to(summed, tuple(shape)) if axes else broadcast_by(summed, tuple(shape))


def mT(x: Any) -> Expr:  # noqa: N802
    """Last two axes exchanged."""
    node = lift(x)
    if node.ndim < 2:
        raise AxisError(
            f"mT: expected rank >= 2, got {node.ndim}", site=user_site(), operands=(node,)
        )
    return swapaxes(node, -1, -2)


__all__ = [
    "reshape",
    "flatten",
    "ravel",
    "expand_dims",
    "squeeze",
    "atleast_1d",
    "atleast_2d",
    "shape_padleft",
    "shape_padright",
    "transpose",
    "swapaxes",
    "moveaxis",
    "dimshuffle",
    "flip",
    "flipud",
    "fliplr",
    "broadcast_to",
    "broadcast_arrays",
    "sum_to",
    "mT",
    "atleast_3d",
    "rot90",
]
