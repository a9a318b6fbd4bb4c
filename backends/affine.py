"""Index maps: how a point of a loop space reads an operand through movement ops.

A Map gives, for every axis of a source, offset + sum(coefs[j] * index[j]) over the axes of the loop
space. Movement ops compose into it; `resolve` walks an operand down to the first node that is not
movement. A C-order reshape of a stored array only renames its linear index, so a reshape that has
no affine form ends the walk with a View of the array under it: that array must then be stored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from symgraph.dims import Shape, SizeLike, known_equal, product
from symgraph.expr import Expr
from symgraph.ops.movement import BroadcastTo, Reshape, Slice, Transpose


class Axis(NamedTuple):
    """Index along one source axis: offset + sum(coefs[j] * i_j), coefficients left out being 0."""

    offset: SizeLike
    coefs: tuple[SizeLike, ...]


Map = tuple[Axis, ...]


class View(NamedTuple):
    """A read of `base` seen with shape `shape` (its own, or a C-order reshape of it) at `map`."""

    base: Expr
    shape: Shape
    map: Map

    @property
    def is_flat(self) -> bool:
        """The base is seen with another shape than its own, so it has to be stored."""
        return self.shape != self.base.array_type.shape


class Strided(NamedTuple):
    """An address: offset + sum(strides[j] * i_j) elements from the start of a C-order array."""

    offset: SizeLike
    strides: tuple[SizeLike, ...]


def unit(rank: int, axis: int) -> tuple[SizeLike, ...]:
    return tuple(1 if j == axis else 0 for j in range(rank))


@cache
def identity(rank: int) -> Map:
    return tuple(Axis(0, unit(rank, axis)) for axis in range(rank))


def project(rank: int, kept: tuple[int, ...]) -> Map:
    """The map that reads an array over the axes `kept` of a space of the given rank."""
    return tuple(Axis(0, unit(rank, axis)) for axis in kept)


def is_identity(view: View, shape: Shape) -> bool:
    """The view reads its base at the loop index itself."""
    return not view.is_flat and view.shape == shape and view.map == identity(len(shape))


def never(node: Expr) -> bool:
    return False


def resolve(node: Expr, map: Map, stored: Callable[[Expr], bool] = never) -> View:
    """Walk from `node`, read at `map`, through movement to what holds the values or is stored."""
    while not stored(node):
        op = node.op
        if isinstance(op, Transpose):
            inverse = sorted(range(len(op.axes)), key=op.axes.__getitem__)
            map = tuple(map[i] for i in inverse)
        elif isinstance(op, BroadcastTo):
            map = broadcast(node.inputs[0].array_type.shape, op.shape, map)
        elif isinstance(op, Slice):
            map = tuple(
                Axis(start + _times(step, axis.offset), tuple(_times(step, c) for c in axis.coefs))
                for start, step, axis in zip(op.starts, op.steps, map)
            )
        elif isinstance(op, Reshape):
            source = node.inputs[0]
            composed = _reshape(source.array_type.shape, node.array_type.shape, map)
            if composed is None:
                return View(source, node.array_type.shape, map)
            map = composed
        else:
            break
        node = node.inputs[0]
    return View(node, node.array_type.shape, map)


def _times(k: SizeLike, x: SizeLike) -> SizeLike:
    return 0 if x == 0 else k * x


def broadcast(source: Shape, target: Shape, map: Map) -> Map:
    """The map over `source` of an operand broadcast to `target`, read at `map` over `target`."""
    if source == target:
        return map
    lead = len(target) - len(source)
    rank = max((len(axis.coefs) for axis in map), default=0)
    zero = Axis(0, (0,) * rank)
    return tuple(
        zero if s == 1 and t != 1 else map[lead + i]
        for i, (s, t) in enumerate(zip(source, target[lead:]))
    )


def _reshape(source: Shape, target: Shape, map: Map) -> Map | None:
    """The map over `source` of a reshape read at `map` over `target`; None if it needs division."""
    rank = max((len(axis.coefs) for axis in map), default=0)
    result: list[Axis] = []
    t = 0
    for _s, size in enumerate(source):
        if size == 1:
            result.append(Axis(0, (0,) * rank))
            continue
        block: list[int] = []
        have: SizeLike = 1
        while t < len(target) and known_equal(have, size) is not True:
            have = have * target[t]
            block.append(t)
            t += 1
        if known_equal(have, size) is not True or not block:
            return None
        result.append(_linear([target[i] for i in block], [map[i] for i in block], rank))
    rest = target[t:]
    return tuple(result) if all(x == 1 for x in rest) else None


def _linear(sizes: list[SizeLike], axes: list[Axis], rank: int) -> Axis:
    offset: SizeLike = 0
    coefs: list[SizeLike] = [0] * rank
    for i, axis in enumerate(axes):
        stride = product(sizes[i + 1 :])
        offset = offset + _times(stride, axis.offset)
        for j, c in enumerate(axis.coefs):
            coefs[j] = coefs[j] + _times(stride, c)
    return Axis(offset, tuple(coefs))


def row_strides(shape: Shape) -> tuple[SizeLike, ...]:
    """Element strides of a C-order array."""
    return tuple(product(shape[i + 1 :]) for i in range(len(shape)))


def strided(view: View, rank: int) -> Strided:
    """The address a view reads in its stored C-order base."""
    offset: SizeLike = 0
    strides: list[SizeLike] = [0] * rank
    for stride, axis in zip(row_strides(view.shape), view.map):
        offset = offset + _times(stride, axis.offset)
        for j, c in enumerate(axis.coefs):
            strides[j] = strides[j] + _times(stride, c)
    return Strided(offset, tuple(strides))
