"""Symbolic sizes inside a graph: which ones its ops name, and the same graph with others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from symgraph import dims
from symgraph.arraytype import Array
from symgraph.dims import Atom, Dim, SizeLike
from symgraph.expr import Expr, apply, rebuild, toposort
from symgraph.leaves import Constant, Input, Leaf, SharedOp
from symgraph.op import Op
from symgraph.region import Region


def atoms_of(node: Expr) -> Iterator[Atom]:
    """The named sizes and input values that an op's fields mention (none for leaves)."""
    if isinstance(node.op, Leaf):
        return
    stack: list[Any] = list(node.op._values)
    while stack:
        value = stack.pop()
        if isinstance(value, Dim):
            yield from dims.atoms(value)
        elif isinstance(value, tuple):
            stack.extend(value)
        elif isinstance(value, Region):
            yield from _free_atoms(value)


def _free_atoms(region: Region) -> set[Atom]:
    """Sizes that a region takes from outside: those it mentions and its parameters do not show."""
    shown = {a for t in region.params for s in t.shape if isinstance(s, Dim) for a in dims.atoms(s)}
    return {a for x in toposort(region.results) for a in atoms_of(x)} - shown


def resize_graph(outputs: Sequence[Expr], sizes: Mapping[Atom, SizeLike]) -> list[Expr]:
    """The outputs with named sizes replaced in every op; inputs and shared variables stay."""
    done: dict[int, Expr] = {}
    for node in toposort(outputs):
        inputs = [done[id(x)] for x in node.inputs]
        op = _resized_op(node.op, sizes)
        if op is node.op:
            done[id(node)] = rebuild(node, inputs)
        else:
            done[id(node)] = apply(op, *inputs, site=node.site)
    return [done[id(x)] for x in outputs]


def _resized_op(op: Op, sizes: Mapping[Atom, SizeLike]) -> Op:
    if isinstance(op, (Input, SharedOp, Constant)):
        return op
    values = tuple(_resized(v, sizes) for v in op._values)
    return op if values == op._values else type(op)(*values)


def _resized(value: Any, sizes: Mapping[Atom, SizeLike]) -> Any:
    if isinstance(value, Dim):
        return dims.substitute(value, sizes)
    if isinstance(value, Array):
        return Array(value.dtype, _resized(value.shape, sizes))
    if isinstance(value, tuple):
        parts = [_resized(v, sizes) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, Region):
        return Region(_resized(value.params, sizes), resize_graph(value.results, sizes))
    return value
