"""Loops over the axes of a nest's space: full vectors, masked rests, polls; stores in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.dims import SizeLike, known_le, product

from ..loops import INDEX, Block, Const, LoopBlock, Ty, Value
from . import scalar
from .indirect import combined, scatter_steps
from .streaming import Streaming
from .values import Values

BLOCK = 1 << 14  # elements between polls in a single long loop
POLL_BELOW = 1 << 16  # a nest of at most this many elements never polls


class Axes(Values):
    """Opens loops around the values of a nest and stores its roots inside them."""

    ops = 1  # about how many operations an element costs
    streaming: Streaming | None = None  # how the loop over lanes stores past the caches, if it may

    def _over_lanes(self, position: int, body: Callable[[], None]) -> None:
        """The vector loop over an axis, in blocks where it may be long, so that it can poll."""
        size = self.space.sizes[position]
        start, stop = self.blocks[-1].index(0), self.dims(size)
        if self._long(size):
            block = self.blocks[-1]
            with block.loop(start, stop, BLOCK, kind="parallel", hint="chunk") as chunk:
                self._push(chunk, None, chunk.var)
                end = self._block_end(chunk, BLOCK, stop)
                self._poll(
                    product(self.space.sizes[position + 1 :]), chunk.let("sub", end, chunk.var)
                )
                if self.streaming is not None:
                    self.streaming.loops(chunk.var, end, body)
                else:
                    self._lanes_loop(position, chunk.var, end, body)
                self._pop()
        elif self.streaming is not None:
            self.streaming.loops(start, stop, body)
        else:
            self._lanes_loop(position, start, stop, body)

    def _lanes_loop(
        self, position: int, start: Value, stop: Value, body: Callable[[], None]
    ) -> None:
        lanes, size = self.space.lanes, self.space.sizes[position]
        middle = self._whole(start, stop, lanes, size)
        if not (isinstance(size, int) and size < lanes):
            with self._loop(position, start, middle, lanes, "parallel", lanes):
                body()
        if not (isinstance(size, int) and size % lanes == 0):
            with self._rest(position, middle, stop, "parallel"):
                body()

    def _whole(self, start: Value, stop: Value, step: int, size: SizeLike) -> Value:
        """The last multiple of `step` from `start` that does not pass `stop`."""
        if isinstance(size, int) and size % step == 0:  # `start` is a multiple of it as well
            return stop
        if isinstance(start, Const) and isinstance(stop, Const):
            return Const(start.value + (stop.value - start.value) // step * step, Ty(INDEX))
        b = self.blocks[-1]
        length = b.let("sub", stop, start)
        return b.let("add", start, b.let("and", length, b.index(-step)))

    def _loop(
        self,
        axis: int,
        start: Value,
        stop: Value,
        step: int,
        kind: str = "serial",
        lanes: int = 1,
        masked_by: Value | None = None,
        carries: Sequence[Value] = (),
    ) -> Loop:
        return Loop(self, axis, start, stop, step, kind, lanes, masked_by, carries)

    def _masks(self, axis: int) -> bool:
        """Whether the rest of an axis is done under a mask."""
        size = self.space.sizes[axis]
        return self.masked and not (isinstance(size, int) and size % self.space.lanes == 1)

    def _rest(
        self, axis: int, start: Value, stop: Value, kind: str, carries: Sequence[Value] = ()
    ) -> Loop:
        """What full vectors leave over.

        One masked vector, or element by element where masks are slow or it is one.

        (A store under a constant mask of one lane is also miscompiled by LLVM 22 if it narrows.)
        """
        if self._masks(axis):
            return self._loop(
                axis,
                start,
                stop,
                self.space.lanes,
                kind,
                self.space.lanes,
                masked_by=stop,
                carries=carries,
            )
        return self._loop(axis, start, stop, 1, kind, carries=carries)

    def _lanes_before(self, b: Block, first: Value, stop: Value) -> Value:
        """The mask of the lanes of a vector of indices from `first` that are below `stop`.

        They are not far apart: what is left is compared as integers that fill one register.
        """
        lanes = self.space.lanes
        dtype = f"int{max(16, min(64, 8 * self.target.vector_bytes // lanes))}"
        left = b.splat(b.cast(b.let("sub", stop, first), dtype), lanes)
        return b.let("lt", b.let("iota", type=Ty(dtype, lanes)), left)

    def _block_end(self, loop: LoopBlock, length: int, stop: Value) -> Value:
        """Where the block of so many that a loop is at ends."""
        return loop.let("min", loop.let("add", loop.var, loop.index(length)), stop)

    def _poll(self, elements: SizeLike, times: Value | None = None) -> None:
        """Ask for signals, charging the work on so many elements (so many times)."""
        b = self.blocks[-1]
        cost = self.dims(elements * self.ops * self.lanes)
        b.poll(cost if times is None else b.let("mul", times, cost))

    def _poll_in(self, position: int) -> None:
        """Poll in the loop over an axis (the innermost ones do so in blocks)."""
        inner = product(self.space.sizes[position + 1 :])
        if self._long(self.space.sizes[position] * inner) and (position == 0 or inner != 1):
            self._poll(inner)

    def _long(self, size: SizeLike) -> bool:
        """Whether so many elements may take a user's time."""
        return self.nest.pollable and known_le(size, POLL_BELOW) is not True

    # -------------------------------------------------------------------------------- roots

    def _store(self, roots: list[int]) -> None:
        values = self._values([self.root_entries[k] for k in roots])
        for k, value in zip(roots, values):
            if self.nest.roots[k].check:
                self._check(value)
                continue
            if self.nest.roots[k].bounds:
                self._values(list(self.root_indices[k]))
                continue
            self._write(k, value)

    def _write(self, k: int, value: Value) -> None:
        """Store a root's value, or combine it with what lies at its place."""
        b, root, buffer = self.blocks[-1], self.nest.roots[k], self.write_buffers[k]
        offset, lanes = self._address(root.target)
        if root.scatter is not None:
            indices = self._values(list(self.root_indices[k]))
            offset, lanes = self._indirect(root.target, indices, scatter_steps(root.scatter))
        mask = self.mask if lanes > 1 else None
        value = scalar.align(b, value, lanes)
        if root.combine != "set":
            value = combined(b, root.combine, b.load(buffer, offset, lanes, mask), value)
        b.store(buffer, offset, value, mask, self.streams)

    def _check(self, value: Value) -> None:
        b = self.blocks[-1]
        wrong = b.let("not", value)
        if value.type.lanes > 1:
            wrong = wrong if self.mask is None else b.let("and", wrong, self.mask)
            wrong = b.let("hor", wrong, type=Ty("bool"))
        b.fault(wrong, 0)


class Loop:
    """A loop over one axis as a context: opens the block, the scope, the lanes and the mask."""

    def __init__(
        self,
        emitter: Axes,
        axis: int,
        start: Value,
        stop: Value,
        step: int,
        kind: str,
        lanes: int,
        masked_by: Value | None,
        carries: Sequence[Value],
    ):
        self.e, self.axis, self.lanes, self.masked_by = emitter, axis, lanes, masked_by
        self.context = emitter.blocks[-1].loop(start, stop, step, kind=kind, carries=carries)

    def __enter__(self) -> Any:
        e = self.e
        body = self.context.__enter__()
        e._push(body, self.axis, body.var)
        self.before = (e.lanes, e.mask)
        if self.lanes > 1:
            e.lanes = self.lanes
            e.mask = None
            if self.masked_by is not None:
                e.mask = e._lanes_before(body, body.var, self.masked_by)
        return body

    def __exit__(self, *error: Any) -> Any:
        self.e.lanes, self.e.mask = self.before
        self.e._pop()
        return self.context.__exit__(*error)
