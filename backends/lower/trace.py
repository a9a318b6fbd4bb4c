"""Flatten what a loop nest computes into a list of entries, operands first: its own small SSA form.

Starting from (node, map) pairs the tracer walks through movement and elementwise nodes down to
stored arrays, constants, counters and reductions of the same nest. One entry is one value at one
index map; nothing is traced twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from symgraph.dims import SizeLike
from symgraph.expr import Expr
from symgraph.leaves import Constant, DimValue
from symgraph.ops.define import Cast, Elementwise
from symgraph.ops.gather import Gather, Indexed
from symgraph.ops.movement import Iota
from symgraph.ops.reduce import ArgReduce, Reduce

from ...optim.cost import element_cost
from ..affine import Map, Strided, View, broadcast, resolve, strided
from .indirect import base_view, gathered_address, index_map
from .request import Bound


class Entry(NamedTuple):
    """One value of a loop nest.

    kind: "load", "const", "iota", "size", "cast", "elementwise", "reduction", "index", "gather";
    args: earlier entries; address: for loads the place read, for iota its index as a linear form of
    the loop indices.
    index: an integer (args[0]) as a checked offset along an axis of size `steps[0]`. gather: a load
    from `address` plus each index (args) times its step.
    """

    kind: str
    node: Expr
    args: tuple[int, ...] = ()
    address: Strided | None = None
    steps: tuple[SizeLike, ...] = ()
    bound: Bound | None = None

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
        self._bounds: dict[tuple[int, Any], int] = {}

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

    def want_indices(self, node: Expr, map: Map) -> tuple[int, ...]:
        """The checked indices of a Gather or Scatter whose values are read at `map`."""
        assert isinstance(node.op, Indexed)
        places = node.inputs[-len(node.op.axes) :]
        found = tuple(self.want(i, index_map(node, map)) for i in places)
        return self._checked(node, found)

    def _checked(self, node: Expr, indices: tuple[int, ...]) -> tuple[int, ...]:
        """Entries for indices of a node, checked; one for each index, wherever it is read."""
        op = node.op
        assert isinstance(op, Indexed)
        sizes = node.inputs[0].array_type.shape[op.lead :]
        result = []
        for number, (index, size) in enumerate(zip(indices, sizes)):
            key = (index, (size, op.axes[number], op.from_end))
            if key not in self._bounds:
                bound = Bound(node, number)
                self.entries.append(Entry("index", node, (index,), None, (size,), bound))
                self._bounds[key] = len(self.entries) - 1
            result.append(self._bounds[key])
        return tuple(result)

    def _view(self, node: Expr, map: Map) -> View:
        return resolve(node, map, self._stored)

    def _operands(self, view: View) -> list[View]:
        node = view.base
        if self._stored(node) or not isinstance(node.op, (Elementwise, Cast, Gather)):
            return []
        if isinstance(node.op, Gather):
            return [self._view(i, index_map(node, view.map)) for i in node.inputs[1:]]
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
        if isinstance(op, Gather):
            checked = self._checked(node, args)
            base = base_view(node, self._stored)
            address, steps = gathered_address(node, base, view.map, self.rank)
            return Entry("gather", base.base, checked, address, steps)
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
        if entry.kind == "reduction":
            masks.append(reduction_mask)
        else:
            bits = 0 if entry.address is None else axes(entry.address)
            for a in entry.args:
                bits |= masks[a]
            masks.append(bits)
    return masks
