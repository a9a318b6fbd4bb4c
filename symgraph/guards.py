"""Sizes at a call: what the given arrays say they are, and every complaint about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import dims
from .arraytype import Array
from .dims import Atom, SizeLike
from .errors import IndexFault, ShapeError
from .expr import Expr
from .leaves import Input
from .relations import Guard
from .sites import Site


def bind(
    nodes: Sequence[Expr], arrays: Sequence[Any], sizes: Mapping[Atom, Any] | None = None
) -> dict[Atom, int]:
    """Values of the named sizes that arrays show when they are given for nodes.

    sizes: values known beforehand.   Raises: ShapeError naming both places where a size has two
    values, or where a compound size is not what it must be.
    """
    env: dict[Atom, int] = dict(sizes or {})
    shapes = [np.shape(a) if isinstance(x.type, Array) else () for x, a in zip(nodes, arrays)]
    for node, array, shape in zip(nodes, arrays, shapes):
        for atom, axis in _shown(node):
            env.setdefault(atom, int(array) if axis is None else shape[axis])
    for node, shape in zip(nodes, shapes):
        if isinstance(node.type, Array):
            for axis, (declared, size) in enumerate(zip(node.type.shape, shape)):
                expected = dims.substitute(declared, env)
                if isinstance(expected, int) and expected != size:
                    raise _disagreement(node, axis, expected, size, nodes)
    return env


def places(nodes: Iterable[Expr]) -> dict[Atom, str]:
    """Where each named size is first shown: "axis 0 of x", "the value of n"."""
    found: dict[Atom, str] = {}
    for node in nodes:
        for atom, axis in _shown(node):
            found.setdefault(atom, _place(node, axis))
    return found


def _shown(node: Expr) -> Iterable[tuple[Atom, int | None]]:
    """The named sizes that a value given for the node shows, each with its axis.

    None instead of an axis: the size is the value.
    """
    if not isinstance(node.type, Array):
        return
    for axis, size in enumerate(node.type.shape):
        atom = dims.single_atom(size)
        if atom is not None and not isinstance(atom, dims.Fn):
            yield atom, axis
    if isinstance(node.op, Input) and not node.type.shape and node.type.dtype.is_integer:
        yield dims.ValueOf(node.label, node.op.uid), None


def _place(node: Expr, axis: int | None) -> str:
    return f"axis {axis} of {node.label}" if axis is not None else f"the value of {node.label}"


def _disagreement(
    node: Expr, axis: int, expected: int, size: int, nodes: Sequence[Expr]
) -> ShapeError:
    declared = node.array_type.shape[axis]
    here, atom = _place(node, axis), dims.single_atom(declared)
    there = places(nodes).get(atom) if atom is not None else None
    if there is not None:
        return ShapeError(
            f"size {declared} is {expected} on {there}, but {size} on {here}", site=node.site
        )
    known = f"{declared} = {expected}" if isinstance(declared, dims.Dim) else str(expected)
    return ShapeError(f"{here}: expected {known}, got {size}", site=node.site)


def check(guard: Guard, env: Mapping[Atom, Any], nodes: Iterable[Expr], site: Site | None) -> None:
    """Raise what a guard says if it does not hold; one with sizes of no known value is passed over.

    nodes: what was given, to say where a size comes from.
    """
    left, right = (dims.substitute(s, env) for s in (guard.left, guard.right))
    if isinstance(left, dims.Dim) or isinstance(right, dims.Dim):
        return
    if left == right if guard.relation == "==" else left <= right:
        return
    if guard.of_index:
        raise IndexFault(_index_text(guard, left, right), site=site)
    expected = f"{guard.left} {guard.relation} {guard.right}"
    shown = places(nodes)
    got = [
        f"{value}{_from(size, shown)}"
        for size, value in ((guard.left, left), (guard.right, right))
        if isinstance(size, dims.Dim)
    ]
    raise ShapeError(f"{guard.what}: expected {expected}, got {' and '.join(got)}", site=site)


def _index_text(guard: Guard, left: int, right: int) -> str:
    if isinstance(guard.left, int) and guard.left == 0:  # 0 <= index
        return f"{guard.what}: there is no element {right}"
    last = f"the last is {right - 1}" if right > 0 else "the axis is empty"
    return f"{guard.what}: there is no element {left - 1}, {last}"  # index + 1 <= size


def _from(size: SizeLike, shown: Mapping[Atom, str]) -> str:
    """Where a size comes from, if one input shows just that."""
    atom = dims.single_atom(size)
    return f" ({shown[atom]})" if atom is not None and atom in shown else ""
