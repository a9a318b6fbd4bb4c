"""A value that is also needed inside of zeros lies there alone: its other readers read it there.

Convolutions take their image with its padding stored around it. If somebody else reads the image
too (the gradient of a weight, a residual sum, the gradient of an activation), it would lie in
memory twice, and be copied once.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.expr import Expr, apply, rebuild, toposort
from symgraph.ops.movement import Place, Slice

from .classify import is_leaf


def read_inside(results: Sequence[Expr]) -> list[Expr]:
    """The graph in which every reader of a value that is placed reads a slice of the place.

    Rewrite: place(x), f(x) --> place(x), f(slice(place(x)))
    """
    order = toposort(results)
    placed = _placed(order, {id(r) for r in results})
    if not placed:
        return list(results)
    done: dict[int, Expr] = {}
    inside: dict[int, Expr] = {}  # what readers of a value that is placed read instead
    for node in order:
        if id(node) in done:  # a place, made as soon as what it holds
            continue
        made = rebuild(node, [inside.get(id(x), done[id(x)]) for x in node.inputs])
        done[id(node)] = made
        place = placed.get(id(node))
        if place is not None:
            assert isinstance(place.op, Place)
            done[id(place)] = rebuild(place, [made])
            block = Slice(place.op.starts, node.array_type.shape, place.op.steps)
            inside[id(node)] = apply(block, done[id(place)], site=node.site)
    return [done[id(r)] for r in results]


def _placed(order: Sequence[Expr], results: set[int]) -> dict[int, Expr]:
    """By the ids of values with several readers, the first place that holds them as one block.

    Leaves and results have memory of their own.
    """
    readers: dict[int, int] = {}
    places: dict[int, Expr] = {}
    for node in order:
        for x in node.inputs:
            readers[id(x)] = readers.get(id(x), 0) + 1
        if isinstance(node.op, Place) and all(step == 1 for step in node.op.steps):
            x = node.inputs[0]
            if not is_leaf(x) and id(x) not in results:
                places.setdefault(id(x), node)
    return {x: place for x, place in places.items() if readers[x] > 1}
