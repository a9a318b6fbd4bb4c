"""Gives a kernel a range: `begin` and `end` as two more dims, so that parts of it run on threads.

A kernel can be cut if its outermost loops are "parallel" and together go once over one axis: the
first starts at 0, each further one where the one before stops (full vectors, then what they leave
over).

    for i in 0..m step 16: A           for i in begin..min(m, end) step 16: A
    for i in m..n step 16: B     -->   for i in max(m, begin)..min(n, end) step 16: B

Ranges begin at multiples of the grain, a multiple of every step, so that each iteration runs in
exactly one range, and as it would in the whole. A loop over blocks may begin its blocks anywhere.
"""

from __future__ import annotations

from math import lcm
from typing import NamedTuple

from symgraph.dims import SizeLike

from .loops import INDEX, Alloc, Const, For, Kernel, Let, Load, Stmt, Ty, Value, Var

LINE = 64  # elements: whole cache lines, whatever the dtype
FLOOR = 1 << 16  # element-operations below which nobody asks for threads


class Slice(NamedTuple):
    """How a kernel without a range does a part of its work: as the whole of moved buffers.

    size: the dim that says how much there is; moves: elements from one unit to the next in each
    buffer; scratch: the buffer that each thread has to itself, and its bytes (-1, 0: there is
    none). before: the dim that says how many units lie before the part (-1: none asks).
    """

    size: int
    moves: tuple[SizeLike, ...]
    scratch: int = -1
    bytes: int = 0
    before: int = -1


class Split(NamedTuple):
    """How a launch may be cut: into ranges of [0, extent) that begin at multiples of `grain`.

    The kernel's last two dims are the range, unless there is a `slice`. merges: once all ranges are
    done, the one from `extent` to `extent` + 1 puts their partial results together, `parts` at
    most.
    """

    extent: SizeLike
    grain: SizeLike
    parts: int = 0
    slice: Slice | None = None

    @property
    def merges(self) -> bool:
        return self.parts > 0


def may_pay(work: SizeLike) -> bool:
    """Whether there may be work for threads."""
    return not (isinstance(work, int) and work < FLOOR)


class Ranged(NamedTuple):
    """A kernel with a range: `extent` is a number, or one of its other dims."""

    kernel: Kernel
    extent: int | Var
    grain: int


def ranged(kernel: Kernel) -> Ranged | None:
    """The kernel with a range; None if its loops do not go over one axis, or not in parallel."""
    loops = [s for s in kernel.body if isinstance(s, For)]
    if not loops or not _covers(kernel, loops):
        return None
    extent = loops[-1].stop
    if isinstance(extent, Var) and extent not in kernel.dims:
        return None
    begin, end = Var("begin", Ty(INDEX)), Var("end", Ty(INDEX))
    body: list[Stmt] = []
    grain = 1
    for stmt in kernel.body:
        if isinstance(stmt, For):
            step, stmts = _narrowed(stmt, begin, end)
            grain = lcm(grain, step)
            body += stmts
        else:
            body.append(stmt)
    if grain > 1:
        grain = lcm(grain, LINE)
    dims = (*kernel.dims, begin, end)
    size = extent if isinstance(extent, Var) else int(extent.value)
    return Ranged(kernel._replace(dims=dims, body=tuple(body)), size, grain)


def _covers(kernel: Kernel, loops: list[For]) -> bool:
    """Whether the outermost loops are parallel and follow each other on one axis from 0 on."""
    if not all(isinstance(s, (For, Let, Load, Alloc)) for s in kernel.body):
        return False
    at: Value = Const(0, Ty(INDEX))
    for loop in loops:
        if loop.kind != "parallel" or loop.carries or loop.start != at:
            return False
        if not isinstance(loop.step, Const):
            return False
        at = loop.stop
    return True


def _narrowed(loop: For, begin: Var, end: Var) -> tuple[int, list[Stmt]]:
    """The loop over its part of the range, and what its ranges have to be multiples of."""
    first, last = Var("first", Ty(INDEX)), Var("last", Ty(INDEX))
    lets = [Let(first, "max", (loop.start, begin)), Let(last, "min", (loop.stop, end))]
    narrow = loop._replace(start=first, stop=last)
    body = _blocked(loop, last)
    if body is None:
        return loop.step.value, [*lets, narrow]  # type: ignore[union-attr]
    return LINE, [*lets, narrow._replace(body=body)]


def _blocked(loop: For, stop: Value) -> tuple[Stmt, ...] | None:
    """If the loop goes over blocks, its body with blocks that end at `stop`.

    for i in ..n step B: e = min(i + B, n); what is in i..e      (i + B is read nowhere else)
    """
    body = list(loop.body)
    for k, stmt in enumerate(body):
        if isinstance(stmt, Let) and stmt.op == "add" and stmt.args == (loop.var, loop.step):
            ends = (stmt.var, loop.stop)
            for j in range(k + 1, len(body)):
                end = body[j]
                if isinstance(end, Let) and end.op == "min" and end.args == ends:
                    body[j] = end._replace(args=(stmt.var, stop))
                    once = _mentions(loop.body, stmt.var) == 2  # where it is made, and here
                    return tuple(body) if once else None
    return None


def _mentions(stmts: tuple[Stmt, ...], var: Var) -> int:
    """How often a variable stands in statements: they are tuples all the way down."""
    waiting: list[object] = [stmts]
    count = 0
    while waiting:
        item = waiting.pop()
        count += item is var
        if isinstance(item, tuple):
            waiting.extend(item)
    return count
