"""Flatten what a loop nest computes into a list of entries, operands first: its own small SSA form.

Starting from (node, map) pairs the tracer walks through movement and elementwise nodes down to
stored arrays, constants, counters and reductions of the same nest. One entry is one value at one
index map; nothing is traced twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from symgraph.expr import Expr
from symgraph.leaves import Constant, DimValue
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.movement import Iota
from symgraph.ops.reduce import ArgReduce, Reduce

from ...optim.cost import element_cost
from ..affine import Map, Strided, View, broadcast, resolve, strided


class Entry(NamedTuple):
    """One value of a loop nest.

    kind: "load", "const", "iota", "size", "cast", "elementwise", "reduction"; args: earlier
    entries; address: for loads the place read, for iota its index as a linear form of the loop
    indices.
    """

    kind: str
    node: Expr
    args: tuple[int, ...] = ()
    address: Strided | None = None

    @property
    def cost(self) -> float:
        """Operations for each point."""
        if self.kind in ("elementwise", "cast"):
            return element_cost(self.node.op)
        return float(self.kind == "load")


class Tracer:
    """Collects entries over one loop space of rank `rank`.

    `stored(node)` says whether a node is read from memory.
    """

    def __init__(self, rank: int, stored: Callable[[Expr], bool]):
        self.rank = rank
        self.entries: list[Entry] = []
        self._stored = stored
        self._index: dict[tuple[int, Any], int] = {}

    def want(self, node: Expr, map: Map) -> int:
        """The entry for `node` read at `map`, tracing what it needs.

        Iteratively: chains may be long.
        """
        stack = [self._view(node, map)]
        while stack:
            view = stack[-1]
            key = _key(view)
            if key in self._index:
                stack.pop()
                continue
            operands = self._operands(view)
            missing = [v for v in operands if _key(v) not in self._index]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            self.entries.append(self._entry(view, tuple(self._index[_key(v)] for v in operands)))
            self._index[key] = len(self.entries) - 1
        return self._index[_key(self._view(node, map))]

    def _view(self, node: Expr, map: Map) -> View:
        return resolve(node, map, self._stored)

    def _operands(self, view: View) -> list[View]:
        node = view.base
        if self._stored(node) or not isinstance(node.op, (Elementwise, Cast)):
            return []
        shape = node.array_type.shape
        return [self._view(x, broadcast(x.array_type.shape, shape, view.map)) for x in node.inputs]

    def _entry(self, view: View, args: tuple[int, ...]) -> Entry:
        node, op = view.base, view.base.op
        if isinstance(op, Constant) and op.value.size == 1:
            return Entry("const", node)
        if self._stored(node):
            return Entry("load", node, (), strided(view, self.rank))
        if isinstance(op, Elementwise):
            return Entry("elementwise", node, args)
        if isinstance(op, Cast):
            return Entry("cast", node, args)
        if isinstance(op, Iota):
            return Entry("iota", node, (), strided(view, self.rank))
        if isinstance(op, DimValue):
            return Entry("size", node)
        if isinstance(op, (Reduce, ArgReduce)):
            return Entry("reduction", node)
        raise AssertionError(f"{op.name} must be stored before a loop nest can read it")


def _key(view: View) -> tuple[int, Any]:
    return (id(view.base), view.map if not view.is_flat else (view.shape, view.map))


def depends(
    entries: Iterable[Entry], axes: Callable[[Strided], int], reduction_mask: int
) -> list[int]:
    """For each entry the bit set of loop axes it varies with; axes(address): the bits of a load."""
    masks: list[int] = []
    for entry in entries:
        if entry.address is not None:
            masks.append(axes(entry.address))
        elif entry.kind == "reduction":
            masks.append(reduction_mask)
        else:
            bits = 0
            for a in entry.args:
                bits |= masks[a]
            masks.append(bits)
    return masks
