"""Lower one fused group to a loop nest.

Kept loops are outside, reductions in phases inside, vector lanes have masked tails.

The nest reads stored arrays, computes in registers and writes its roots. Per point of the kept axes
it runs the phases in order (each one loop over the reduced axes that feeds its reductions), then
stores the roots that live there (outer roots), then runs the reduced loops once more for the roots
that live on the whole space (inner roots). Values are emitted at the outermost loop they depend on,
so nothing invariant is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.dims import SizeLike, known_le, product
from symgraph.expr import Expr
from symgraph.ops.reduce import ArgReduce

from ..loops import INDEX, Const, Kernel, Ty, Value
from ..targets import Target
from . import scalar
from .accumulate import COMBINE, Accumulator, Fold, accumulator
from .request import Built, Nest
from .values import Values

UNROLL = 4  # interleaved accumulators of a contiguous reduction
CHAIN = 64  # additions in one float accumulator before it is merged
BLOCK = 1 << 14  # elements between polls in a single long loop
POLL_BELOW = 1 << 16  # a nest of at most this many elements never polls


def build(nest: Nest, target: Target) -> Built:
    """The kernel of a nest, in vectors of the target's width.

    A Target of vector_bytes 0 gives scalar code.
    """
    return _Emitter(nest, target).run()


class _Emitter(Values):
    """The loops of a nest around its values."""

    # ----------------------------------------------------------------------------- the whole kernel

    def run(self) -> Built:
        self.phases = self._phases()
        self.ops = max(1, sum(e.kind in ("elementwise", "load", "gather") for e in self.entries))
        if not self._is_empty():
            self._kept(0)
        writes = [b for b, r in zip(self.write_buffers, self.nest.roots) if r.stores]
        buffers = tuple(self.read_buffers[id(n)] for n in self.read_nodes) + tuple(writes)
        faults = [f"check of {r.node.label}" for r in self.nest.roots if r.check]
        faults += [f"index {b.number} of {b.node.label}" for b in self.bounds]
        kernel = Kernel(
            self.nest.name,
            buffers,
            tuple(self.dims.vars),
            tuple(self.blocks[0].stmts),
            tuple(faults),
        )
        work = product(self.nest.space) * self.ops
        dims, bounds = tuple(self.dims.sizes), tuple(self.bounds)
        return Built(kernel, tuple(self.read_nodes), dims, work, bounds)

    def _is_empty(self) -> bool:
        """Nothing is stored, so nothing runs.

        The strides of an empty array say nothing about its axes.
        """
        stored = [
            s
            for s, reduced in zip(self.space.sizes, self.space.reduced)
            if self.nest.cumulative or not reduced
        ]
        return any(s == 0 for s in stored)

    def _phases(self) -> list[list[tuple[Expr, int]]]:
        """Reductions grouped so that each needs only those of earlier groups."""
        level: dict[int, int] = {}
        depth = [0] * len(self.entries)
        at = 0
        result: list[list[tuple[Expr, int]]] = []
        for node, feed in self.feeds:
            for i in range(at, feed + 1):
                e = self.entries[i]
                own = level[id(e.node)] + 1 if e.kind == "reduction" else 0
                depth[i] = max([own, *(depth[a] for a in e.args)])
            at = max(at, feed + 1)
            level[id(node)] = depth[feed]
            while len(result) <= depth[feed]:
                result.append([])
            result[depth[feed]].append((node, feed))
        return result

    # -------------------------------------------------------------------------------- loops

    def _kept(self, position: int) -> None:
        """Loops over the kept axes from `position` on, then the point's work."""
        if position == len(self.space.sizes) or self.space.reduced[position]:
            self._point()
        elif position == self.space.vector:
            self._over_lanes(position, lambda: self._kept(position + 1))
        elif self.space.ordered[position]:
            self._one_by_one(position)
        else:
            with self._loop(
                position, Const(0, Ty(INDEX)), self.dims(self.space.sizes[position]), 1, "parallel"
            ):
                self._poll_in(position)
                self._kept(position + 1)

    def _one_by_one(self, position: int) -> None:
        """A loop over an axis whose order counts; in blocks, to poll, where it is the innermost."""
        size = self.space.sizes[position]
        start, stop = self.blocks[-1].index(0), self.dims(size)
        if position + 1 < len(self.space.sizes) or not self._long(size):
            with self._loop(position, start, stop, 1):
                self._poll_in(position)
                self._kept(position + 1)
            return
        with self.blocks[-1].loop(start, stop, BLOCK, hint="chunk") as chunk:
            self._push(chunk, None, chunk.var)
            self._poll(BLOCK)
            end = chunk.let("min", chunk.let("add", chunk.var, chunk.index(BLOCK)), stop)
            with self._loop(position, chunk.var, end, 1):
                self._kept(position + 1)
            self._pop()

    def _over_lanes(self, position: int, body: Callable[[], None]) -> None:
        """The vector loop over an axis, in blocks where it may be long, so that it can poll."""
        size = self.space.sizes[position]
        start, stop = self.blocks[-1].index(0), self.dims(size)
        if self._long(size):
            block = self.blocks[-1]
            with block.loop(start, stop, BLOCK, kind="parallel", hint="chunk") as chunk:
                self._push(chunk, None, chunk.var)
                self._poll(product(self.space.sizes[position + 1 :]) * BLOCK)
                end = chunk.let("min", chunk.let("add", chunk.var, chunk.index(BLOCK)), stop)
                self._lanes_loop(position, chunk.var, end, body)
                self._pop()
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
    ) -> _Loop:
        return _Loop(self, axis, start, stop, step, kind, lanes, masked_by, carries)

    def _masks(self, axis: int) -> bool:
        """Whether the rest of an axis is done under a mask."""
        size = self.space.sizes[axis]
        return self.masked and not (isinstance(size, int) and size % self.space.lanes == 1)

    def _rest(
        self, axis: int, start: Value, stop: Value, kind: str, carries: Sequence[Value] = ()
    ) -> _Loop:
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

    def _poll(self, elements: SizeLike) -> None:
        """Ask for signals, charging the work on so many elements."""
        self.blocks[-1].poll(self.dims(elements * self.ops * self.lanes))

    def _poll_in(self, position: int) -> None:
        """Poll in the loop over an axis (the innermost ones do so in blocks)."""
        inner = product(self.space.sizes[position + 1 :])
        if self._long(self.space.sizes[position] * inner) and (position == 0 or inner != 1):
            self._poll(inner)

    def _long(self, size: SizeLike) -> bool:
        """Whether so many elements may take a user's time."""
        return self.nest.pollable and known_le(size, POLL_BELOW) is not True

    # ------------------------------------------------------------------- one point of the kept axes

    def _point(self) -> None:
        if self.nest.cumulative:
            self._running()
            return
        for phase in self.phases:
            self._reduce(phase)
        inner = [k for k, r in enumerate(self.nest.roots) if self.nest.reduced and r.inner]
        outer = [k for k in range(len(self.nest.roots)) if k not in inner]
        self._store(outer)
        if inner:
            self._inner(
                self.space.reduced.index(True)
                if True in self.space.reduced
                else len(self.space.sizes),
                inner,
            )

    def _inner(self, position: int, roots: list[int]) -> None:
        """Loops over the reduced axes that store the inner roots."""
        if position == len(self.space.sizes):
            self._store(roots)
        elif position == self.space.vector:
            self._over_lanes(position, lambda: self._inner(position + 1, roots))
        else:
            start, stop = self.blocks[-1].index(0), self.dims(self.space.sizes[position])
            with self._loop(position, start, stop, 1, "parallel"):
                self._poll_in(position)
                self._inner(position + 1, roots)

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

    def _check(self, value: Value) -> None:
        b = self.blocks[-1]
        wrong = b.let("not", value)
        if value.type.lanes > 1:
            wrong = wrong if self.mask is None else b.let("and", wrong, self.mask)
            wrong = b.let("hor", wrong, type=Ty("bool"))
        b.fault(wrong, 0)

    # -------------------------------------------------------------------------------- reductions

    def _reduce(self, phase: list[tuple[Expr, int]]) -> None:
        kinds = [accumulator(node) for node, _ in phase]
        feeds = [feed for _, feed in phase]
        totals = [k.start_total(self.lanes) for k in kinds]
        first = (
            self.space.reduced.index(True) if True in self.space.reduced else len(self.space.sizes)
        )
        totals = self._reduce_axes(first, kinds, feeds, totals)
        b = self.blocks[-1]
        for (node, _), kind, total in zip(phase, kinds, totals):
            self.scopes[-1][id(node)] = kind.finish(b, total)

    def _reduce_axes(
        self, position: int, kinds: list[Accumulator], feeds: list[int], totals: list[list[Value]]
    ) -> list[list[Value]]:
        last = len(self.space.sizes) - 1
        if position > last:  # every reduced axis has size 1
            states = self._take(
                kinds, feeds, [k.start(self.lanes) for k in kinds], self.blocks[-1].index(0)
            )
            return [k.into_total(self.blocks[-1], t, s) for k, t, s in zip(kinds, totals, states)]
        if position == last:
            return self._last_axis(position, kinds, feeds, totals)
        with self._loop(
            position,
            self.blocks[-1].index(0),
            self.dims(self.space.sizes[position]),
            1,
            "reduce",
            carries=_flat(totals),
        ) as loop:
            self._poll_in(position)
            inner = self._reduce_axes(position + 1, kinds, feeds, _unflat(loop.carried, totals))
            loop.next(*_flat(inner))
        return _unflat(loop.results, totals)

    def _last_axis(
        self, axis: int, kinds: list[Accumulator], feeds: list[int], totals: list[list[Value]]
    ) -> list[list[Value]]:
        """The innermost reduced axis, in blocks whose results are merged into the totals."""
        size = self.space.sizes[axis]
        per_lane = CHAIN if any(k.long_chains_lose for k in kinds) else BLOCK
        length = per_lane * (self.space.lanes * UNROLL if axis == self.space.vector else 1)
        stop = self.dims(size)
        if known_le(size, length) is True:
            states = self._span(axis, self.blocks[-1].index(0), stop, kinds, feeds)
            return [k.into_total(self.blocks[-1], t, s) for k, t, s in zip(kinds, totals, states)]
        with self.blocks[-1].loop(
            0, stop, length, kind="reduce", carries=_flat(totals), hint="block"
        ) as loop:
            self._push(loop, None, loop.var)
            if self._long(size):
                self._poll(length)
            end = loop.let("min", loop.let("add", loop.var, loop.index(length)), stop)
            states = self._span(axis, loop.var, end, kinds, feeds)
            merged = [
                k.into_total(loop, t, s)
                for k, t, s in zip(kinds, _unflat(loop.carried, totals), states)
            ]
            loop.next(*_flat(merged))
            self._pop()
        return _unflat(loop.results, totals)

    def _span(
        self, axis: int, start: Value, stop: Value, kinds: list[Accumulator], feeds: list[int]
    ) -> list[list[Value]]:
        """Partial results over [start, stop) of the last reduced axis."""
        if axis != self.space.vector:
            states = [k.start(self.lanes) for k in kinds]
            with self._loop(axis, start, stop, 1, "reduce", carries=_flat(states)) as loop:
                loop.next(*_flat(self._take(kinds, feeds, _unflat(loop.carried, states), loop.var)))
            return _unflat(loop.results, states)
        lanes, size = self.space.lanes, self.space.sizes[axis]
        ways = (
            UNROLL
            if not (isinstance(size, int) and size < lanes * UNROLL) and len(self.entries) < 40
            else 1
        )
        states = [k.start(lanes) for k in kinds]
        middle = start
        if not (isinstance(size, int) and size < lanes):
            middle = self._whole(start, stop, lanes * ways, size)
            states = self._interleaved(axis, start, middle, ways, kinds, feeds)
        if not (isinstance(size, int) and size % (lanes * ways) == 0):
            if not self._masks(axis):
                states = [k.across_lanes(self.blocks[-1], s) for k, s in zip(kinds, states)]
            with self._rest(axis, middle, stop, "reduce", carries=_flat(states)) as loop:
                loop.next(*_flat(self._take(kinds, feeds, _unflat(loop.carried, states), loop.var)))
            states = _unflat(loop.results, states)
        return [k.across_lanes(self.blocks[-1], s) for k, s in zip(kinds, states)]

    def _interleaved(
        self,
        axis: int,
        start: Value,
        stop: Value,
        ways: int,
        kinds: list[Accumulator],
        feeds: list[int],
    ) -> list[list[Value]]:
        """Full vectors, `ways` independent accumulators, merged pairwise at the end."""
        lanes = self.space.lanes
        starts = [[k.start(lanes) for k in kinds] for _ in range(ways)]
        with self._loop(
            axis, start, stop, lanes * ways, "reduce", lanes, carries=_flat(sum(starts, []))
        ) as loop:
            carried = _unflat(loop.carried, sum(starts, []))
            after: list[list[Value]] = []
            for way in range(ways):
                self.scopes[-1] = {}
                self.index[axis] = (
                    loop.let("add", loop.var, loop.index(way * lanes)) if way else loop.var
                )
                after += self._take(
                    kinds,
                    feeds,
                    carried[way * len(kinds) : (way + 1) * len(kinds)],
                    self.index[axis],
                )
            loop.next(*_flat(after))
        parts = _unflat(loop.results, sum(starts, []))
        groups = [parts[way * len(kinds) : (way + 1) * len(kinds)] for way in range(ways)]
        b = self.blocks[-1]
        while len(groups) > 1:
            groups = [
                [k.merge(b, x, y) for k, x, y in zip(kinds, groups[i], groups[i + 1])]
                for i in range(0, len(groups), 2)
            ]
        return groups[0]

    def _take(
        self, kinds: list[Accumulator], feeds: list[int], states: list[list[Value]], index: Value
    ) -> list[list[Value]]:
        values = self._values(feeds)
        b = self.blocks[-1]
        axis = self.space.vector
        vector = axis is not None and self.space.reduced[axis] and self.lanes > 1
        if vector and any(isinstance(node.op, ArgReduce) for node in self.nest.reductions):
            index = b.let(
                "add", b.splat(index, self.lanes), b.let("iota", type=Ty(INDEX, self.lanes))
            )
        mask = self.mask if vector else None
        return [k.take(b, s, v, index, mask) for k, s, v in zip(kinds, states, values)]

    def _running(self) -> None:
        """A running fold: every step of the reduced axis stores what is carried so far.

        float32 sums carry float64.
        """
        fold = Fold(self.nest.cumulative, str(self.nest.roots[0].node.array_type.dtype))
        total = fold.start_total(self.lanes)
        if True not in self.space.reduced:
            self._store_running(fold, total)
            return
        axis = self.space.reduced.index(True)
        start, stop = self.blocks[-1].index(0), self.dims(self.space.sizes[axis])
        if not self._long(self.space.sizes[axis]):
            self._run_along(axis, start, stop, fold, total)
            return
        with self.blocks[-1].loop(start, stop, BLOCK, carries=total, hint="block") as loop:
            self._push(loop, None, loop.var)
            self._poll(BLOCK)
            end = loop.let("min", loop.let("add", loop.var, loop.index(BLOCK)), stop)
            loop.next(*self._run_along(axis, loop.var, end, fold, loop.carried))
            self._pop()

    def _run_along(
        self, axis: int, start: Value, stop: Value, fold: Fold, total: Sequence[Value]
    ) -> Sequence[Value]:
        with self._loop(axis, start, stop, 1, carries=total) as loop:
            loop.next(*self._store_running(fold, loop.carried))
        return loop.results

    def _store_running(self, fold: Fold, total: list[Value]) -> list[Value]:
        b = self.blocks[-1]
        root = self.nest.roots[0]
        x = b.cast(b.cast(self._values([self.root_entries[0]])[0], fold.working), fold.total_dtype)
        after: list[Value] = [b.let(COMBINE[fold.kind], total[0], b.splat(x, total[0].type.lanes))]
        offset, lanes = self._address(root.target)
        b.store(
            self.write_buffers[0],
            offset,
            scalar.align(b, fold.finish(b, after), lanes),
            self.mask if lanes > 1 else None,
        )
        return after


class _Loop:
    """A loop over one axis as a context: opens the block, the scope, the lanes and the mask."""

    def __init__(
        self,
        emitter: _Emitter,
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
                left = body.let("sub", self.masked_by, body.var)
                iota = body.let("iota", type=Ty(INDEX, self.lanes))
                e.mask = body.let("lt", iota, body.splat(left, self.lanes))
        return body

    def __exit__(self, *error: Any) -> Any:
        self.e.lanes, self.e.mask = self.before
        self.e._pop()
        return self.context.__exit__(*error)


def _flat(states: list[list[Value]]) -> list[Value]:
    return [v for state in states for v in state]


def _unflat(values: Sequence[Any], like: list[list[Value]]) -> list[list[Value]]:
    result, at = [], 0
    for state in like:
        result.append(list(values[at : at + len(state)]))
        at += len(state)
    return result
