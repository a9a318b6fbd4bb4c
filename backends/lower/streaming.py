"""Stores past the caches, for nests that outgrow them: memory is not read to be written.

The loop over lanes gets a second version, which begins where the result lies at a multiple of a
vector, as such stores need; which one runs is decided by the size at the call. It gains nothing in
fresh memory, where the system has just written zeros that are still in the caches, but large
results lie in recycled memory from the second call on. In each row of several the loop begins anew.

What counts is all that a nest reads and writes. Of 12 MB copied to 12 MB by a core whose last cache
holds 32 MB nothing is lost even if the copy is read again at once, and twice the speed is gained if
it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from symgraph.dims import known_le, product

from ..affine import Strided
from ..loops import INDEX, Block, Buffer, Const, Ty, Value
from ..targets import Target
from .request import Dims
from .scalar import HALF

if TYPE_CHECKING:
    from .axes import Axes

MOST_WORK = 12  # operations for each element above which memory is not what a loop waits for
ROW = 16  # vectors of a row at least: two of them may not be whole
LEAST_BYTES = 16  # of a vector in memory
UNKNOWN = 1 << 23  # bytes of the last cache where a target names none: few machines have less
SHARE = 4, 3  # a nest outgrows the last cache if it moves more than so many quarters of its size


def limit(target: Target, bytes: int) -> int:
    """Elements above which a nest that moves `bytes` for each outgrows the last cache."""
    return (target.l3 or UNKNOWN) // SHARE[0] * SHARE[1] // bytes


def aligned(
    b: Block, dims: Dims, writes: Sequence[tuple[Buffer, Strided]], lanes: int
) -> Value | None:
    """Whether vectors of `lanes` lie aligned that begin at multiples of them along the unit axis.

    None if they never do.
    """
    odd: list[Value] = []
    for buffer, access in writes:
        steps = [access.offset, *(s for s in access.strides if s != 1)]
        if any(isinstance(s, int) and s % lanes for s in steps):
            return None
        odd.append(b.let("ahead", type=Ty(INDEX), attr=(buffer, lanes)))
        odd += [dims(s) for s in steps if not isinstance(s, int)]
    bits = odd[0]
    for more in odd[1:]:
        bits = b.let("or", bits, more)
    return b.let("eq", b.let("and", bits, b.index(lanes - 1)), b.index(0))


def may_stream(e: Axes, target: Target) -> bool:
    """Whether a nest is cheap and writes one array in rows, and may be larger than the caches.

    The rows are read before in passes of the nest's own, or not at all.
    """
    nest, space = e.nest, e.space
    # AArch64 has such stores for pairs of vectors only, and this loop makes one at a time
    if target.arch != "x86-64" or space.lanes == 1 or e.ops > MOST_WORK:
        return False
    if nest.cumulative or not nest.pollable or space.vector != len(space.sizes) - 1 or e.held:
        return False
    root, reduced = nest.roots[0], space.reduced[space.vector]
    stores = not root.check and root.scatter is None and root.combine == "set"
    if len(nest.roots) != 1 or not stores or (bool(nest.reduced) and not (reduced and root.inner)):
        return False
    dtype, strides = root.node.array_type.dtype, space.strides(root.target)
    in_order = strides[space.vector] == 1 and all(s != 0 for s in strides)
    wide = space.lanes * dtype.bytes >= LEAST_BYTES and dtype not in HALF
    near = known_le(product(space.sizes), _limit(e, target)) is True
    long = len(space.sizes) == 1 or known_le(ROW * space.lanes, space.sizes[-1]) is True
    return in_order and wide and long and not near


def _limit(e: Axes, target: Target) -> int:
    """Elements above which a nest outgrows the last cache."""
    read = {
        id(entry.node): entry.node.array_type.dtype.bytes
        for entry in e.entries
        if entry.kind == "load"
        and entry.address is not None
        and all(s != 0 for s in e.space.strides(entry.address))
    }
    return limit(target, sum(read.values()) + e.nest.roots[0].node.array_type.dtype.bytes)


class Streaming:
    """Writes the two versions of a nest's loop over lanes."""

    def __init__(self, emitter: Axes, target: Target):
        self.e = emitter
        size, limit = product(emitter.space.sizes), _limit(emitter, target)
        self.axis = len(emitter.space.sizes) - 1
        self.large: Value | None = None  # known to be, if None
        if not (isinstance(size, int) and size > limit):
            top = emitter.blocks[0]
            self.large = top.let("gt", emitter.dims(size), Const(limit, Ty(INDEX)))

    def loops(self, start: Value, stop: Value, body: Callable[[], None]) -> None:
        """Over [start, stop) of the last axis; `start` is a multiple of the lanes."""
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
            arm(lambda: e._lanes_loop(self.axis, start, stop, body)),
        )

    def _streaming(self, start: Value, stop: Value, body: Callable[[], None]) -> None:
        e, b, lanes, axis = self.e, self.e.blocks[-1], self.e.space.lanes, self.axis
        ahead: Value = b.let("ahead", type=Ty(INDEX), attr=(e.write_buffers[0], lanes))
        row, _ = e._address(e.nest.roots[0].target)
        if not (isinstance(row, Const) and row.value % lanes == 0):
            ahead = b.let("and", b.let("sub", ahead, row), b.index(lanes - 1))
        first = b.let("min", b.let("add", start, ahead), stop)
        with e._rest(axis, start, first, "parallel"):
            body()
        whole = b.let("and", b.let("sub", stop, first), b.index(-lanes))
        middle = b.let("add", first, whole)
        with e._loop(axis, first, middle, lanes, "parallel", lanes):
            e.streams = True
            body()
            e.streams = False
        with e._rest(axis, middle, stop, "parallel"):
            body()
