"""Reductions of rows into columns: the vector axis is kept, and rows stream by.

Where the lanes run along a kept axis, going down one vector of columns at a time would touch one
cache line of every row. So a chunk of columns has its accumulators in stack arrays (in the
first-level cache), the reduced axes are outside, and the loop over the columns is innermost: every
row is read from end to end, a few rows together, so that accumulators are loaded and stored once
for several elements. What a pass needs of the columns (finished reductions and what is computed
from them) is computed once between the passes and lies in stack arrays too.

Accuracy of float sums: a column adds at most CHAIN values in a row before the sum goes into its
total (float64 for float32), as in `rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from symgraph.dims import known_le, product
from symgraph.expr import Expr

from ..irtext import BYTES
from ..loops import Block, Buffer, Const, Ty, Value
from .accumulate import PLACE, Accumulator, Best, Fold, Partial, accumulator
from .axes import BLOCK
from .moments import WIDE, Around, Spread
from .next_rows import NextRows
from .rows import CHAIN, Rows, States, flat, unflat

CHUNK_BYTES = 40 * 1024  # of stack arrays at most
CHUNK = 2048  # columns at most
FEW_ROWS = 16  # so few are carried in registers instead: each row is one stream
ROWS = 8  # rows taken together in a small body
FIRST = 16  # rows whose mean is the first pivot of a variance
MANY = 4  # accumulators from which on they are fewer
BODY = 96  # operations of one iteration at most, if it is several rows


class Sums(NamedTuple):
    """The accumulators of one reduction: stack arrays of totals and of partial results."""

    kind: Accumulator | Spread
    totals: tuple[Buffer, ...]
    partials: tuple[Buffer, ...]


class Columns(Rows):
    """Chunks of columns, the passes over the rows inside them."""

    passes: list[list[int]]

    def _plan_columns(self) -> None:
        """Whether the nest is done in columns, and how many at a time (0: not)."""
        self.columns: dict[int, Buffer] = {}
        self.sums: dict[int, Sums] = {}
        self.between = [self._frontier(p) for p in self.passes]
        self.chunk_columns = 0
        if not self._has_columns():
            return
        columns = CHUNK
        while columns * self._column_bytes() > CHUNK_BYTES:
            columns //= 2
        self.chunk_columns = columns if columns >= 4 * self.space.lanes else 0

    def _has_columns(self) -> bool:
        """Whether the lanes are columns and there are more than a few rows."""
        vector, space = self.space.vector, self.space
        if vector is None or space.reduced[vector] or not self.feeds or self.nest.cumulative:
            return False
        rows = product(s for s, r in zip(space.sizes, space.reduced) if r)
        return known_le(rows, FEW_ROWS) is not True

    def _column_bytes(self) -> int:
        """Bytes of stack arrays for each column."""
        kinds = [self._kind(node) for node, _ in self.feeds]
        accumulators = [
            v.type.dtype
            for k in kinds
            for v in k.start_total(1) + ([] if k.resumes else k.start(1))
        ] + [k.working for k in kinds if isinstance(k, Spread)]
        computed = {i for frontier in self.between for i in frontier}
        values = [str(self.entries[i].node.array_type.dtype) for i in computed]
        return sum(BYTES[d] for d in accumulators + values)

    def _frontier(self, wanted: Iterable[int]) -> list[int]:
        """Computed values of the columns alone that a pass needs."""
        found: set[int] = set()
        seen: set[int] = set(wanted)
        stack = list(seen)
        while stack:
            i = stack.pop()
            e = self.entries[i]
            if not self._moving(i):
                if self._is_column(i):
                    found.add(i)
                continue
            fresh = [a for a in e.args if a not in seen]
            seen.update(fresh)
            stack.extend(fresh)
        return sorted(found)

    def _is_column(self, i: int) -> bool:
        vector = self.space.vector
        computed = self.entries[i].kind in ("elementwise", "cast", "reduction")
        return computed and vector is not None and bool(self.bits[i] >> vector & 1)

    # ------------------------------------------------------------------------------------ chunks

    def _chunks(self, position: int, outer: list[int], inner: list[int]) -> None:
        """All columns: in each chunk every pass, then the roots."""
        stop, width = self.dims(self.space.sizes[position]), self.chunk_columns
        with self.blocks[-1].loop(0, stop, width, kind="parallel", hint="chunk") as chunk:
            self._push(chunk, None, chunk.var)
            end = self._block_end(chunk, width, stop)
            self.chunk = (chunk.var, end)
            self.before_chunk = chunk.let("sub", chunk.index(0), chunk.var)
            for number in range(len(self.phases)):
                self._between(number)
                self._stream(number)
            if outer:
                self._each_column(lambda: self._store(outer))
            if inner:
                self._between(len(self.phases))
                self._inner_rows(self._first_reduced(), inner)
            self._pop()

    def _width(self, b: Block) -> Value:
        return b.let("sub", self.chunk[1], self.chunk[0])

    def _each_column(self, body: Callable[[], None], often: bool = False) -> None:
        """A loop over the chunk's columns; often: for every row.

        What is done seldom is done under a mask throughout where masks cost nothing: half the code.
        """
        axis = self.space.vector
        assert axis is not None
        if often or not (self._masks(axis) and self.target.masked_memory(1)):
            self._lanes_loop(axis, *self.chunk, body)
            return
        with self._rest(axis, *self.chunk, "parallel"):
            body()

    def _each_stacked(self, body: Callable[[], None]) -> None:
        """Full vectors over what lies in stack arrays alone, as far as the last one reaches."""
        axis, lanes = self.space.vector, self.space.lanes
        assert axis is not None
        with self._loop(axis, *self.chunk, lanes, "parallel", lanes):
            body()

    def _between(self, number: int) -> None:
        """Compute the columns that a pass needs and no earlier one had."""
        self.pass_number = number
        new = [i for i in self.between[number] if self._key(i) not in self.columns]
        if not new:
            return
        chunk = self.blocks[-1]
        width = self.chunk_columns
        buffers = [chunk.alloc(str(self.entries[i].node.array_type.dtype), width) for i in new]

        def compute() -> None:
            for value, buffer in zip(self._values(new), buffers):
                self._put(buffer, value)

        self._each_column(compute)
        for i, buffer in zip(new, buffers):
            self.columns[self._key(i)] = buffer

    def _in_memory(self, i: int) -> bool:
        return super()._in_memory(i) or self._key(i) in self.columns

    def _column(self, i: int, b: Block) -> Value | None:
        """The value of an entry from its stack array, finished now if it is still a total."""
        key = self._key(i)
        if key in self.columns:
            return self._get(b, self.columns[key])
        if key in self.sums:
            kind, buffers, _ = self.sums[key]
            totals = [self._get(b, t) for t in buffers]
            if isinstance(kind, Spread):
                return self._finish_spread(self.entries[i].node, kind, totals)
            return kind.finish(b, totals)
        return None

    def _in_chunk(self, b: Block) -> Value:
        axis = self.space.vector
        assert axis is not None
        return b.let("add", self.index[axis], self.before_chunk)

    def _get(self, b: Block, buffer: Buffer) -> Value:
        return b.load(buffer, self._in_chunk(b), self.lanes)

    def _put(self, buffer: Buffer, value: Value) -> None:
        b = self.blocks[-1]
        b.store(buffer, self._in_chunk(b), b.splat(value, self.lanes))

    # ------------------------------------------------------------------------------------ passes

    def _stream(self, number: int) -> None:
        """One phase: accumulators of the chunk's columns, all rows into them."""
        plain, apart = self._split(number)
        chunk, width = self.blocks[-1], self.chunk_columns
        mine: list[Sums] = []
        for node, _ in plain + apart:
            k = self._kind(node)
            totals, partials = k.start_total(1), [] if k.resumes else k.start(1)
            if isinstance(k, Spread):
                partials = [*partials, partials[0]]  # the pivot
            buffers = [chunk.alloc(v.type.dtype, width) for v in totals + partials]
            mine.append(Sums(k, tuple(buffers[: len(totals)]), tuple(buffers[len(totals) :])))
        feeds = [feed for _, feed in plain + apart]

        def start() -> None:
            for k, totals, partials in mine:
                self._put_all(totals, k.start_total(self.lanes))
                self._put_all(partials, k.start(self.lanes))
                if isinstance(k, Spread):
                    self._put(partials[-1], k.start(self.lanes)[0])

        self._each_stacked(start)
        if apart:
            self._guess_columns(mine[len(plain) :], [x for _, x in apart])
        self._stream_axes(self._first_reduced(), mine, feeds)
        for (node, _), sums in zip(plain + apart, mine):
            self.sums[id(node)] = sums

    def _guess_columns(self, mine: list[Sums], feeds: list[int]) -> None:
        """The mean of the first rows, if there are any, as the means and pivots of spreads."""
        b, axis = self.blocks[-1], len(self.space.sizes) - 1
        rows = self.dims(product(s for s, r in zip(self.space.sizes, self.space.reduced) if r))
        stop = b.let("min", self.dims(self.space.sizes[axis]), b.index(FIRST))
        stop = b.let("min", rows, stop)  # none if an outer axis is empty

        def add() -> None:
            b = self.blocks[-1]
            for sums, value in zip(mine, self._values(feeds)):
                pivot = self._get(b, sums.partials[-1])
                self._put(sums.partials[-1], b.let("add", pivot, b.splat(value, self.lanes)))

        def divide() -> None:
            b = self.blocks[-1]
            for _, totals, partials in mine:
                pivot = self._get(b, partials[-1])
                count = b.cast(b.let("max", stop, b.index(1)), pivot.type.dtype)
                guess = b.let("div", pivot, b.splat(count, self.lanes))
                self._put(partials[-1], guess)
                self._put(totals[0], b.cast(guess, WIDE))

        with self._loop(axis, b.index(0), stop, 1):
            self._each_column(add)
        self._each_stacked(divide)

    def _kind(self, node: Expr) -> Accumulator | Spread:
        if id(node) in self.distances:
            return Spread(str(node.array_type.dtype))
        return accumulator(node)

    def _put_all(self, buffers: Iterable[Buffer], values: Iterable[Value]) -> None:
        for buffer, value in zip(buffers, values):
            self._put(buffer, value)

    def _stream_axes(self, position: int, mine: list[Sums], feeds: list[int]) -> None:
        last = len(self.space.sizes) - 1
        start, stop = self.blocks[-1].index(0), self.dims(self.space.sizes[position])
        if position < last:
            with self._loop(position, start, stop, 1):
                self._poll_in(position)
                self._stream_axes(position + 1, mine, feeds)
            return
        length = CHAIN if any(s.kind.long_chains_lose for s in mine) else BLOCK
        with self.blocks[-1].loop(start, stop, length, hint="block") as block:
            self._push(block, None, block.var)
            end = self._block_end(block, length, stop)
            if self._long(self.space.sizes[position] * self.chunk_columns):
                self._poll(
                    1, block.let("mul", block.let("sub", end, block.var), self._width(block))
                )
            self._rows(position, block.var, end, mine, feeds)
            if any(s.partials for s in mine):
                self._each_stacked(lambda: self._settle(block.var, end, mine))
            self._pop()

    def _settle(self, start: Value, stop: Value, mine: list[Sums]) -> None:
        """Partial results of rows [start, stop) go into the totals and begin again."""
        b = self.blocks[-1]
        for k, totals, partials in mine:
            before = [self._get(b, t) for t in totals]
            state = [self._get(b, p) for p in partials]
            if isinstance(k, Spread):
                count, done = b.let("sub", stop, start), self._before(start)
                after = k.into_total(b, before, state[:2], state[2], done, count)
                self._put_all(partials, [*k.start(self.lanes), b.cast(after[0], k.working)])
            elif partials:
                after = k.into_total(b, before, state, start)
                self._put_all(partials, k.start(self.lanes))
            else:
                continue
            self._put_all(totals, after)

    def _rows(
        self, axis: int, start: Value, stop: Value, mine: list[Sums], feeds: list[int]
    ) -> None:
        """Rows [start, stop): full vectors of columns, then the rest while it is near."""
        if any(s.kind.long_chains_lose for s in mine):
            self._near_rows(axis, start, (start, stop), mine, feeds)
            return
        with self.blocks[-1].loop(start, stop, CHAIN, hint="near") as near:
            self._push(near, None, near.var)
            end = self._block_end(near, CHAIN, stop)
            self._near_rows(axis, start, (near.var, end), mine, feeds)
            self._pop()

    def _near_rows(
        self,
        axis: int,
        origin: Value,
        bounds: tuple[Value, Value],
        mine: list[Sums],
        feeds: list[int],
    ) -> None:
        """So few rows that they stay in a cache; places are counted from `origin`."""
        vector = self.space.vector
        assert vector is not None
        (first, end), lanes, columns = self.chunk, self.space.lanes, self.space.sizes[vector]
        together = self._rows_together(mine, feeds)
        size = self.space.sizes[axis]
        middle, below = self._whole(*bounds, together, size), bounds[1]
        full = self._whole(first, end, lanes, columns)
        b = self.blocks[-1]
        if not (isinstance(columns, int) and columns >= lanes):
            some = b.let("lt", first, full)  # or no row is worth a turn
            middle, below = (b.let("select", some, x, bounds[0]) for x in (middle, below))
        steps = [(together, bounds[0], middle)]
        rows_left = not (isinstance(size, int) and size % together == 0)
        columns_left = not (isinstance(columns, int) and columns % lanes == 0)
        at_once = rows_left and columns_left and self._masks(vector)  # one loop for both rests
        if rows_left and not at_once:
            steps.append((1, middle, below))
        for rows, begin, stop in steps:
            with self._loop(axis, begin, stop, rows) as loop:
                places = [loop.let("add", loop.var, loop.index(r)) for r in range(rows)]
                with self._loop(vector, first, full, lanes, "parallel", lanes):
                    self._take_rows(axis, origin, places, mine, feeds)
        if not columns_left:
            return
        start = full
        if at_once:
            start = b.let("select", b.let("lt", middle, below), first, full)
        with self._rest(vector, start, end, "parallel") as rest:
            top = bounds[0]
            if at_once:
                top = rest.let("select", rest.let("lt", rest.var, full), middle, top)
            self._take_down(axis, origin, (top, bounds[1]), mine, feeds)

    def _rows_together(self, mine: list[Sums], feeds: list[int]) -> int:
        """How many rows share one access to the accumulators.

        Many accumulators and many rows would push each other out of the first-level cache.
        """
        carried = sum(len(s.partials or s.totals) for s in mine)
        most = ROWS if carried < MANY else ROWS // 2
        together = max(1, min(most, BODY // self._body(feeds)))
        return 1 << (together.bit_length() - 1)

    def _open(self, mine: list[Sums]) -> tuple[list[Partial], list[tuple[Buffer, ...]], States]:
        """What takes values, where its states lie, and the states of the open columns."""
        b = self.blocks[-1]
        places = [(s.partials or s.totals)[: len(s.kind.start(1))] for s in mine]
        kinds: list[Partial] = [
            Around(s.kind, self._get(b, s.partials[-1])) if isinstance(s.kind, Spread) else s.kind
            for s in mine
        ]
        return kinds, places, [[self._get(b, buffer) for buffer in buffers] for buffers in places]

    def _take_rows(
        self, axis: int, origin: Value, rows: list[Value], mine: list[Sums], feeds: list[int]
    ) -> None:
        """Several rows into the open columns."""
        b = self.blocks[-1]
        kinds, places, states = self._open(mine)
        following = NextRows(self, axis, len(rows), feeds if len(rows) > 1 else [])
        pairs = [self._in_pairs(k) and len(rows) > 1 for k in kinds]
        taken: States = []
        stores = []
        for row in rows:
            self._forget(axis)
            self.index[axis] = row
            following.note()
            place: Value = Const(0, Ty(PLACE))
            if any(isinstance(k, Best) for k in kinds):
                place = b.splat(b.cast(b.let("sub", row, origin), PLACE), self.lanes)
            taken.append(self._values(feeds))
            for i, kind in enumerate(kinds):
                if not pairs[i]:
                    states[i] = kind.take(b, states[i], taken[-1][i], place, None)
            stores += self._hold()
        following.ask()
        for i, kind in enumerate(kinds):
            if pairs[i] and isinstance(kind, Fold):
                column = [values[i] for values in taken]
                (states[i],) = kind.take_together(b, [states[i]], column, [None] * len(rows))
        for buffers, state in zip(places, states):
            self._put_all(buffers, state)
        for store in stores:
            b.store(*store)

    def _take_down(
        self,
        axis: int,
        origin: Value,
        bounds: tuple[Value, Value],
        mine: list[Sums],
        feeds: list[int],
    ) -> None:
        """All these rows into the open columns, whose states stay in registers.

        Where these are all the columns there are, rows are dealt out to several states.
        """
        kinds, places, states = self._open(mine)
        if self.mask is not None:  # a comparison alone LLVM would move into the loop
            b = self.blocks[-1]
            self.mask = b.let("not", b.let("not", self.mask))
        if self._is_narrow() and (ways := self._ways(CHAIN * self.space.lanes, kinds, feeds)) > 1:
            parts = states + [k.start(self.lanes) for _ in range(ways - 1) for k in kinds]
            middle = self._whole(*bounds, ways, self.space.sizes[axis])
            parts = self._interleaved(axis, origin, (bounds[0], middle), parts, kinds, feeds)
            states, bounds = self._together(axis, kinds, parts), (middle, bounds[1])
        with self._loop(axis, *bounds, 1, "reduce", carries=flat(states)) as loop:
            self._step(loop, origin, kinds, feeds, states)
        for buffers, state in zip(places, unflat(loop.results, states)):
            self._put_all(buffers, state)

    def _is_narrow(self) -> bool:
        """Whether there are fewer columns than lanes."""
        vector = self.space.vector
        assert vector is not None
        columns = self.space.sizes[vector]
        return isinstance(columns, int) and columns < self.space.lanes

    def _inner_rows(self, position: int, inner: list[int]) -> None:
        """The roots that live on the whole space, row by row."""
        if position == len(self.space.sizes):
            self._each_column(lambda: self._store(inner), often=True)
            return
        start, stop = self.blocks[-1].index(0), self.dims(self.space.sizes[position])
        with self._loop(position, start, stop, 1):
            if self._long(self.space.sizes[position] * self.chunk_columns):
                self._poll(1, self._width(self.blocks[-1]))
            self._inner_rows(position + 1, inner)
