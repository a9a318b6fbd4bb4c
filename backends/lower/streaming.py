"""Stores past the caches, for results that outgrow them: memory is not read to be written.

The loop over lanes gets a second version, which begins where the result lies at a multiple of a
vector, as such stores need; which one runs is decided by the size at the call. It gains nothing in
fresh memory, where the system has just written zeros that are still in the caches, but large
results lie in recycled memory from the second call on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from symgraph.dims import known_le

from ..loops import INDEX, Block, Const, Ty, Value
from ..targets import Target
from .scalar import HALF

if TYPE_CHECKING:
    from .axes import Axes

MOST_WORK = 12  # operations for each element above which memory is not what a loop waits for
LEAST_BYTES = 16  # of a vector in memory


def may_stream(e: Axes, target: Target) -> bool:
    """Whether a nest is a cheap map to one array in order that may be larger than the caches."""
    nest, space = e.nest, e.space
    # AArch64 has such stores for pairs of vectors only, and this loop makes one at a time
    if target.arch != "x86-64" or space.lanes == 1 or e.ops > MOST_WORK:
        return False
    if nest.reduced or nest.cumulative or not nest.pollable:
        return False
    root = nest.roots[0]
    stores = not root.check and root.scatter is None and root.combine == "set"
    if len(nest.roots) != 1 or len(space.sizes) != 1 or not stores:
        return False
    dtype = root.node.array_type.dtype
    in_order = space.strides(root.target) == (1,) and root.target.offset == 0
    wide = space.lanes * dtype.bytes >= LEAST_BYTES and dtype not in HALF
    return in_order and wide and known_le(space.sizes[0], _limit(e, target)) is not True


def _limit(e: Axes, target: Target) -> int:
    """Elements that the last cache holds."""
    return max(target.l2, target.l3) // e.nest.roots[0].node.array_type.dtype.bytes


class Streaming:
    """Writes the two versions of a nest's loop over lanes."""

    def __init__(self, emitter: Axes, target: Target):
        self.e = emitter
        size, limit = emitter.space.sizes[0], _limit(emitter, target)
        self.large: Value | None = None  # known to be, if None
        if not (isinstance(size, int) and size > limit):
            top = emitter.blocks[0]
            self.large = top.let("gt", emitter.dims(size), Const(limit, Ty(INDEX)))

    def loops(self, start: Value, stop: Value, body: Callable[[], None]) -> None:
        """Over [start, stop); `start` is a multiple of the lanes."""
        e, here = self.e, self.e.blocks[-1]
        if self.large is None:
            self._streaming(start, stop, body)
            return

        def arm(write: Callable[[], None]) -> Callable[[Block], tuple[()]]:
            def inside(block: Block) -> tuple[()]:
                e._push(block, None, start)
                write()
                e._pop()
                return ()

            return inside

        here.branch(
            self.large,
            arm(lambda: self._streaming(start, stop, body)),
            arm(lambda: e._lanes_loop(0, start, stop, body)),
        )

    def _streaming(self, start: Value, stop: Value, body: Callable[[], None]) -> None:
        e, b, lanes = self.e, self.e.blocks[-1], self.e.space.lanes
        ahead = b.let("ahead", type=Ty(INDEX), attr=(e.write_buffers[0], lanes))
        first = b.let("min", b.let("add", start, ahead), stop)
        with e._rest(0, start, first, "parallel"):
            body()
        whole = b.let("and", b.let("sub", stop, first), b.index(-lanes))
        middle = b.let("add", first, whole)
        with e._loop(0, first, middle, lanes, "parallel", lanes):
            e.streams = True
            body()
            e.streams = False
        with e._rest(0, middle, stop, "parallel"):
            body()
