"""Lower one fused group to a loop nest.

Kept loops are outside, reductions in phases inside, vector lanes have masked tails.

The nest reads stored arrays, computes in registers and writes its roots. Per point of the kept axes
it runs the phases in order (each one loop over the reduced axes that feeds its reductions), then
stores the roots that live there (outer roots), then runs the reduced loops once more for the roots
that live on the whole space (inner roots). Values are emitted at the outermost loop they depend on,
so nothing invariant is computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.dims import known_le, product

from ..loops import INDEX, Alloc, Const, Kernel, Ty, Value
from ..targets import Target
from . import scalar
from .accumulate import COMBINE, Fold
from .axes import BLOCK
from .columns import FEW_ROWS, Columns
from .moments import NEAR, distances
from .partial import Parts, in_parts
from .passes import Keeper
from .request import Built, Nest
from .rows import Phase
from .streaming import Streaming, may_stream


def build(nest: Nest, target: Target) -> Built:
    """The kernel of a nest, in vectors of the target's width.

    A Target of vector_bytes 0 gives scalar code.
    """
    return Emitter(nest, target).run()


class Emitter(Columns):
    """The loops of a nest around its values."""

    # ----------------------------------------------------------------------------- the whole kernel

    def run(self) -> Built:
        self.distances = distances(self.entries, self.feeds, self._moving) if self._far() else {}
        self.phases = self._phases()
        roots = range(len(self.nest.roots))
        self.inner = [k for k in roots if self.nest.reduced and self.nest.roots[k].inner]
        self.outer = [k for k in roots if k not in self.inner]
        self.passes = [[feed for _, feed in phase] for phase in self.phases]
        if self.inner:
            self.passes.append([self.root_entries[k] for k in self.inner])
        self.ops = self._cost()
        self._keep()
        self._plan_columns()
        self.streaming = Streaming(self, self.target) if may_stream(self, self.target) else None
        parts = Parts(self) if in_parts(self) else None
        if parts is not None:
            parts.write()
        elif not self._is_empty():
            self._kept(0)
        writes = [b for b, r in zip(self.write_buffers, self.nest.roots) if r.stores]
        buffers = tuple(self.read_buffers[id(n)] for n in self.read_nodes) + tuple(writes)
        faults = [f"check of {r.node.label}" for r in self.nest.roots if r.check]
        faults += [f"index {b.number} of {b.node.label}" for b in self.bounds]
        dims = tuple(self.dims.vars)
        if parts is not None:
            buffers += tuple(sum(parts.buffers, []))
            dims += (parts.begin, parts.end)
        body = tuple(self.blocks[0].stmts)
        kernel = Kernel(self.nest.name, buffers, dims, body, tuple(faults))
        return Built(
            kernel,
            tuple(self.read_nodes),
            tuple(self.dims.sizes),
            product(self.nest.space) * self.ops,
            tuple(self.bounds),
            None if parts is None else parts.split,
        )

    def _cost(self) -> int:
        """About how many operations an element costs, with its share of what is done of results."""
        each = sum(e.cost for i, e in enumerate(self.entries) if self._moving(i))
        once = sum(e.cost for e in self.entries) - each
        size = product(s for s, r in zip(self.space.sizes, self.space.reduced) if r)
        return max(1, round(each + once / max(1, size if isinstance(size, int) else FEW_ROWS)))

    def _far(self) -> bool:
        """Whether a second pass over the reduced axes would go to memory again."""
        sizes, reduced = self.space.sizes, self.space.reduced
        if self._has_columns():
            return True
        vector = self.space.vector
        if vector is None or not reduced[vector] or sum(reduced) > 1:
            return False
        return known_le(sizes[vector], NEAR) is not True

    def _keep(self) -> None:
        """Decide which values one pass stores for the next ones."""
        if len(self.passes) < 2 or self.nest.cumulative:
            return
        keeper = Keeper(self.nest, self.space, self.entries, self._moving, self.write_buffers)
        self.held = keeper.run(self.passes)
        for held in self.held.values():
            if held.scratch:
                self.blocks[0].stmts.append(Alloc(held.buffer, held.scratch))

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

    def _phases(self) -> list[Phase]:
        """Reductions grouped so that each needs only those of earlier groups."""
        level: dict[int, int] = {}
        depth = [0] * len(self.entries)
        at = 0
        result: list[Phase] = []
        for node, own_feed in self.feeds:
            apart = self.distances.get(id(node))
            feed = own_feed if apart is None else apart.x
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
        elif position == self.space.vector and self.chunk_columns:
            self._chunks(position, self.outer, self.inner)
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
            end = self._block_end(chunk, BLOCK, stop)
            self._poll(1, chunk.let("sub", end, chunk.var))
            with self._loop(position, chunk.var, end, 1):
                self._kept(position + 1)
            self._pop()

    # ------------------------------------------------------------------- one point of the kept axes

    def _point(self) -> None:
        if self.nest.cumulative:
            self._running()
            return
        for number in range(len(self.phases)):
            self._reduce(number)
        self.pass_number = len(self.phases)
        self._store(self.outer)
        if self.inner:
            self._inner(self._first_reduced(), self.inner)

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
            end = self._block_end(loop, BLOCK, stop)
            self._poll(1, loop.let("sub", end, loop.var))
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
