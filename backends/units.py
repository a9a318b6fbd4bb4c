"""What a partition is made of: groups and opaque nodes, and an order in which they can run."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from symgraph.dims import Shape
from symgraph.expr import Expr


class Group(NamedTuple):
    """One loop nest. members in graph order; roots are the members that are stored."""

    space: Shape
    reduced: tuple[int, ...]
    members: tuple[Expr, ...]
    roots: tuple[Expr, ...]
    reason: str


class Opaque(NamedTuple):
    """A node with a kernel, a sub-program or a host call of its own."""

    node: Expr


Unit = Group | Opaque


class Partition(NamedTuple):
    """Units in an order in which they can run, and the ids of the nodes stored in memory."""

    units: tuple[Unit, ...]
    stored: frozenset[int]


def schedule(
    units: Sequence[Unit], keys: Sequence[tuple[bool, int]], owner: dict[int, int]
) -> list[int]:
    """Numbers of the units, each after those it needs; by `keys` where there is a choice.

    owner: id of a node -> number of the unit that computes it.   Source: Kahn, 1962.
    """
    needs = [_needs(unit, owner) - {i} for i, unit in enumerate(units)]
    users: list[list[int]] = [[] for _ in units]
    for i, needed in enumerate(needs):
        for j in needed:
            users[j].append(i)
    waiting = [len(needed) for needed in needs]
    ready = [(keys[i], i) for i, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, i = heapq.heappop(ready)
        order.append(i)
        for j in users[i]:
            waiting[j] -= 1
            if waiting[j] == 0:
                heapq.heappush(ready, (keys[j], j))
    assert len(order) == len(units), "the partition has a cycle"
    return order


def _needs(unit: Unit, owner: dict[int, int]) -> set[int]:
    """The units whose stored results a unit reads, through movement and inlined nodes."""
    found: set[int] = set()
    stack = list(unit.members if isinstance(unit, Group) else unit.node.inputs)
    seen: set[int] = set()
    inside = {id(m) for m in unit.members} if isinstance(unit, Group) else set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in owner and id(node) not in inside:
            found.add(owner[id(node)])
        else:
            stack.extend(node.inputs)
    return found
