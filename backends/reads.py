"""What each node of a graph reads, and which values have to lie in memory to be read so.

Movement, counters and cheap scalars are looked through: whoever reads them computes them at the
index it needs.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.arraytype import Array
from symgraph.expr import Expr, toposort
from symgraph.ops.gather import Gather

from .affine import View, broadcast, identity, resolve
from .classify import is_leaf, kind, operand_base, resolve_inside
from .lower.indirect import base_view, index_map
from .weights import weight

SCALAR_LIMIT = 60  # a one-element chain up to this weight is computed again by each reading kernel
FAR = SCALAR_LIMIT + 1  # of what is no such chain


class Reads:
    """The graph of `results`, its nodes in order.

    stored: nodes that lie in memory by their kind; forced: those that somebody reads in a way that
    needs it, and the results; inline: elementwise nodes that each reader computes.
    """

    def __init__(self, results: Sequence[Expr]):
        self.nodes = toposort(results)
        self.kinds = {id(n): kind(n) for n in self.nodes}
        self.stored: set[int] = {
            id(n) for n in self.nodes if self.kinds[id(n)] in ("leaf", "opaque", "pull")
        }
        self.forced: set[int] = {id(r) for r in results}
        self.inline: set[int] = set()
        self._force()
        self._mark_scalars()

    def is_stored(self, node: Expr) -> bool:
        """Whether a node's value lies in memory."""
        return id(node) in self.stored or id(node) in self.forced

    def _force(self) -> None:
        """Nodes that have to be in memory.

        Whole operands, strided operands' bases, arrays seen through a flat reshape.
        """
        changed = True
        while changed:
            before = len(self.forced)
            for node in self.nodes:
                k = self.kinds[id(node)]
                if k == "opaque":
                    self._force_operands(node)
                elif k == "move":
                    self._force_flat(resolve_inside(node, self.is_stored))
                elif k != "leaf":
                    if isinstance(node.op, Gather):
                        self._force_base(base_view(node, self.is_stored))
                    for x in _read_in_step(node):
                        self._force_flat(
                            resolve(x, identity(len(x.array_type.shape)), self.is_stored)
                        )
            changed = len(self.forced) != before

    def _force_flat(self, view: View) -> None:
        if view.is_flat:
            self._force_base(view)

    def _force_base(self, view: View) -> None:
        if not is_leaf(view.base):
            self.forced.add(id(view.base))

    def _force_operands(self, node: Expr) -> None:
        for x in node.inputs:
            if not isinstance(x.type, Array):
                continue
            base = operand_base(node, x, self.is_stored)
            if not is_leaf(base):
                self.forced.add(id(base))

    def _mark_scalars(self) -> None:
        """One-element chains that every reader recomputes."""
        cost: dict[int, int] = {}
        for node in self.nodes:
            k = self.kinds[id(node)]
            cheap = k == "compute" and not isinstance(node.op, Gather)
            if cheap and id(node) not in self.forced and node.array_type.size == 1:
                total = weight(node) + sum(cost.get(id(x), 0) for x in node.inputs)
                simple = all(
                    cost.get(id(x), FAR) < FAR or self.kinds[id(x)] != "compute"
                    for x in node.inputs
                )
                if total <= SCALAR_LIMIT and simple:
                    self.inline.add(id(node))
                    cost[id(node)] = total
                    continue
            cost[id(node)] = (
                cost.get(id(node.inputs[0]), 0)
                if k == "move" and node.inputs
                else 0
                if k != "compute"
                else FAR
            )

    def views(self, node: Expr) -> list[View]:
        """What a node reads from memory or from other members.

        Movement and inlined scalars are looked through.
        """
        stack = self._operand_views(node)
        found: list[View] = []
        while stack:
            view = stack.pop()
            if id(view.base) in self.inline and not self.is_stored(view.base):
                stack += self._through(view)
            elif self.kinds[id(view.base)] != "free" or self.is_stored(view.base):
                found.append(view)
        return found[::-1]

    def _operand_views(self, node: Expr) -> list[View]:
        k, shape = self.kinds[id(node)], node.array_type.shape
        if k == "move":
            return [resolve_inside(node, self.is_stored)]
        if k == "compute":
            return self._through(View(node, shape, identity(len(shape))))
        return [resolve(x, identity(len(x.array_type.shape)), self.is_stored) for x in node.inputs]

    def _through(self, view: View) -> list[View]:
        """The operands of an elementwise node or a gather that is read at a view."""
        node, shape = view.base, view.base.array_type.shape
        if isinstance(node.op, Gather):
            at = index_map(node, view.map)
            indices = [resolve(i, at, self.is_stored) for i in node.inputs[1:]]
            return [_anywhere(base_view(node, self.is_stored)), *indices]
        return [
            resolve(x, broadcast(x.array_type.shape, shape, view.map), self.is_stored)
            for x in node.inputs
        ]


def _read_in_step(node: Expr) -> Sequence[Expr]:
    """The operands that a loop nest reads at an index made of its own."""
    return node.inputs[1:] if isinstance(node.op, Gather) else node.inputs


def _anywhere(view: View) -> View:
    """A read of a stored array at places that only data tells: never at the reader's own index."""
    return View(view.base, (*view.base.array_type.shape, 1), ())
