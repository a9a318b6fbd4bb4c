"""Reductions whose innermost loop is over a reduced axis: what they carry is in registers.

Accuracy of float sums: a lane adds at most CHAIN values in a row, `ways` lanes are merged pairwise,
then all lanes by halves, and each such block is added to a total (float64 for float32). So the
error of a sum of n float32 is at most about (CHAIN + log2(ways * lanes)) * eps * sum(|x|), however
long it is; of n float64 (CHAIN + log2(ways * lanes) + n / block) * eps * sum(|x|).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from symgraph.dims import SizeLike, known_le, product
from symgraph.expr import Expr

from ..loops import Block, Const, Ty, Value
from ..weights import weight
from .accumulate import PLACE, Accumulator, Best, Fold, Partial, accumulator
from .axes import BLOCK, Axes
from .moments import WIDE, Around, Distance, Spread

UNROLL = 4  # interleaved accumulators of a contiguous reduction
SMALL = 12  # operations of a body that is done under a mask for all accumulators at once
LARGE = 2  # operations of one iteration for each register at most, if it is several bodies
CHAIN = 64  # additions in one float accumulator before it is merged

Phase = list[tuple[Expr, int]]  # reductions and the entries that feed them
States = list[list[Value]]


class Work(NamedTuple):
    """What one phase accumulates: plain kinds with the entries that feed them, then spreads.

    A spread comes with the entry it is taken of.
    """

    kinds: list[Accumulator]
    feeds: list[int]
    spreads: list[tuple[Spread, int]]

    def told(self) -> dict[int, int]:
        """Plain sums, by number, of what a spread is taken of: its distances tell them."""
        of = {(spread.working, x): number for number, (spread, x) in enumerate(self.spreads)}
        return {
            n: of[k.dtype, x]
            for n, (k, x) in enumerate(zip(self.kinds, self.feeds))
            if isinstance(k, Fold) and k.kind == "sum" and (k.dtype, x) in of
        }


class Rows(Axes):
    """Loops over the reduced axes that carry accumulators."""

    phases: list[Phase]
    distances: dict[int, Distance]

    def _split(self, number: int) -> tuple[Phase, Phase]:
        """The plain reductions of a phase, and the sums of squared distances."""
        phase = self.phases[number]
        plain = [(node, feed) for node, feed in phase if id(node) not in self.distances]
        return plain, [(node, feed) for node, feed in phase if id(node) in self.distances]

    def _reduce(self, number: int) -> None:
        """All reductions of a phase, finished."""
        self.pass_number = number
        plain, apart = self._split(number)
        kinds = [accumulator(node) for node, _ in plain]
        spreads = [(Spread(str(node.array_type.dtype)), x) for node, x in apart]
        work = Work(kinds, [feed for _, feed in plain], spreads)
        totals = [k.start_total(self.lanes) for k in kinds]
        totals += [spread.start_total(self.lanes) for spread, _ in spreads]
        totals = self._reduce_axes(self._first_reduced(), work, totals)
        b = self.blocks[-1]
        for (node, _), kind, total in zip(plain, kinds, totals):
            self.scopes[-1][id(node)] = kind.finish(b, total)
        for (node, _), (spread, _), total in zip(apart, spreads, totals[len(plain) :]):
            self.scopes[-1][id(node)] = self._finish_spread(node, spread, total)

    def _finish_spread(self, node: Expr, spread: Spread, total: list[Value]) -> Value:
        about = self._values([self.distances[id(node)].about])[0]
        reduced = (s for s, r in zip(self.space.sizes, self.space.reduced) if r)
        return spread.finish(self.blocks[-1], total, about, self.dims(product(reduced)))

    def _first_reduced(self) -> int:
        reduced = self.space.reduced
        return reduced.index(True) if True in reduced else len(reduced)

    def _reduce_axes(self, position: int, work: Work, totals: States) -> States:
        last = len(self.space.sizes) - 1
        zero = self.blocks[-1].index(0)
        if position > last:  # every reduced axis has size 1
            states = [k.start(self.lanes) for k in work.kinds]
            states = self._take(work.kinds, work.feeds, states, Const(0, Ty(PLACE)))
            return self._into_totals(work.kinds, totals, states, zero)
        if position == last:
            return self._last_axis(position, work, totals)
        stop = self.dims(self.space.sizes[position])
        with self._loop(position, zero, stop, 1, "reduce", carries=flat(totals)) as loop:
            self._poll_in(position)
            inner = self._reduce_axes(position + 1, work, unflat(loop.carried, totals))
            loop.next(*flat(inner))
        return unflat(loop.results, totals)

    def _into_totals(
        self, kinds: list[Accumulator], totals: States, states: States, start: Value
    ) -> States:
        b = self.blocks[-1]
        return [k.into_total(b, t, s, start) for k, t, s in zip(kinds, totals, states)]

    def _last_axis(self, axis: int, work: Work, totals: States) -> States:
        """The innermost reduced axis, in blocks whose results are merged into the totals.

        One block of all there is has nothing to be merged with.
        """
        size = self.space.sizes[axis]
        start, stop = self.blocks[-1].index(0), self.dims(size)
        length = self._chain(axis, work)
        alone = not work.spreads and axis == self._first_reduced()
        if alone and known_le(size, length) is True:
            return self._span(axis, start, stop, work.kinds, work.feeds)
        if work.spreads:
            totals = self._guess(axis, length, work, totals)
        if known_le(size, length) is True:
            return self._block(axis, start, stop, work, totals)
        return self._blocks_of(axis, start, stop, work, totals)

    def _chain(self, axis: int, work: Work) -> int:
        """Elements that partial results take before they are merged into the totals."""
        short = work.spreads or any(k.long_chains_lose for k in work.kinds)
        per_lane = CHAIN if short else BLOCK
        ways = self._ways(self.space.sizes[axis], work.kinds, work.feeds)
        return per_lane * (self.space.lanes * ways if axis == self.space.vector else 1)

    def _blocks_of(
        self, axis: int, start: Value, stop: Value, work: Work, totals: States
    ) -> States:
        """[start, stop) of an axis block by block."""
        length = self._chain(axis, work)
        with self.blocks[-1].loop(
            start, stop, length, kind="reduce", carries=flat(totals), hint="block"
        ) as loop:
            self._push(loop, None, loop.var)
            end = self._block_end(loop, length, stop)
            if self._long(self.space.sizes[axis]):
                self._poll(1, loop.let("sub", end, loop.var))
            after = self._block(axis, loop.var, end, work, unflat(loop.carried, totals))
            loop.next(*flat(after))
            self._pop()
        return unflat(loop.results, totals)

    def _guess(self, axis: int, length: int, work: Work, totals: States) -> States:
        """Totals in which the means of spreads are those of the first elements."""
        b = self.blocks[-1]
        stop = b.let("min", self.dims(self.space.sizes[axis]), b.index(length))
        sums = [Fold("sum", spread.working) for spread, _ in work.spreads]
        states = self._span(axis, b.index(0), stop, sums, [x for _, x in work.spreads])
        count = b.let("max", stop, b.index(1))
        guesses = []
        for (spread, _), (total,) in zip(work.spreads, states):
            number = b.splat(b.cast(count, spread.working), total.type.lanes)
            guess = b.cast(b.let("div", total, number), WIDE)
            guesses.append([guess, *spread.start_total(guess.type.lanes)[1:]])
        return totals[: len(work.kinds)] + guesses

    def _block(self, axis: int, start: Value, stop: Value, work: Work, totals: States) -> States:
        """The totals after [start, stop) of the last reduced axis."""
        b, plain = self.blocks[-1], len(work.kinds)
        around = [
            Around(spread, b.cast(mean, spread.working))
            for (spread, _), (mean, _) in zip(work.spreads, totals[plain:])
        ]
        told = work.told() if axis == self.space.vector else {}
        taken = [n for n in range(plain) if n not in told]
        feeds = [work.feeds[n] for n in taken] + [x for _, x in work.spreads]
        spans = self._span(axis, start, stop, [*(work.kinds[n] for n in taken), *around], feeds)
        found, spread = dict(zip(taken, spans)), spans[len(taken) :]
        for n, s in told.items():
            found[n] = [self._sum_told(axis, start, stop, work.feeds[n], around[s], spread[s])]
        states = [*(found[n] for n in range(plain)), *spread]
        b = self.blocks[-1]
        after = self._into_totals(work.kinds, totals, states, start)
        count = b.let("max", b.let("sub", stop, start), b.index(1)) if around else start
        return after + [
            k.spread.into_total(b, total, state, k.pivot, start, count)
            for k, total, state in zip(around, totals[plain:], states[plain:])
        ]

    def _sum_told(
        self, axis: int, start: Value, stop: Value, feed: int, around: Around, state: list[Value]
    ) -> Value:
        """The sum of a block, in float64: from the pivot, and the sum of distances from it.

        Where that is not finite, the elements are added after all.
        """
        b = self.blocks[-1]
        count = b.cast(b.let("sub", stop, start), WIDE)
        all_pivots = b.let("mul", b.cast(around.pivot, WIDE), count)
        total = b.let("add", b.cast(state[0], WIDE), all_pivots)
        finite = b.let("lt", b.let("abs", state[0]), Const(math.inf, state[0].type))
        fold = Fold("sum", WIDE)

        def again(arm: Block) -> list[Value]:
            self._push(arm, None, start)
            states = [fold.start(self.space.lanes if self._masks(axis) else 1)]
            with self._rest(axis, start, stop, "reduce", carries=flat(states)) as loop:
                self._step(loop, start, [fold], [feed], states)
            sums = fold.across_lanes(arm, loop.results)
            self._pop()
            return sums

        return b.branch(finite, lambda arm: [total], again)[0]

    def _before(self, start: Value) -> Value:
        """How many elements come before place `start` of the last reduced axis."""
        b, sizes = self.blocks[-1], self.space.sizes
        for axis in self.open_axes:
            if axis is not None and self.space.reduced[axis] and axis != len(sizes) - 1:
                each = self.dims(product(sizes[axis + 1 :]))
                start = b.let("add", start, b.let("mul", self.index[axis], each))
        return start

    def _span(
        self, axis: int, start: Value, stop: Value, kinds: Sequence[Partial], feeds: list[int]
    ) -> States:
        """Partial results over [start, stop) of the last reduced axis."""
        if axis != self.space.vector:
            states = [k.start(self.lanes) for k in kinds]
            with self._loop(axis, start, stop, 1, "reduce", carries=flat(states)) as loop:
                self._step(loop, start, kinds, feeds, states)
            return unflat(loop.results, states)
        lanes, size = self.space.lanes, self.space.sizes[axis]
        ways = self._ways(size, kinds, feeds)
        small = _slow(kinds) and self._body(feeds) <= SMALL and ways > 1 and self._masks(axis)
        parts = [k.start(lanes) for _ in range(ways) for k in kinds]
        middle = start
        if not (isinstance(size, int) and size < lanes):
            middle = self._whole(start, stop, lanes * ways, size)
            parts = self._interleaved(axis, start, (start, middle), parts, kinds, feeds)
        rest = not (isinstance(size, int) and size % (lanes * ways) == 0)
        if rest and small:
            parts = self._interleaved(axis, start, (middle, stop), parts, kinds, feeds, True)
        states = self._together(axis, kinds, parts)
        if rest and not small:
            if not self._masks(axis):
                states = [k.across_lanes(self.blocks[-1], s) for k, s in zip(kinds, states)]
            with self._rest(axis, middle, stop, "reduce", carries=flat(states)) as loop:
                self._step(loop, start, kinds, feeds, states)
            states = unflat(loop.results, states)
        return [k.across_lanes(self.blocks[-1], s) for k, s in zip(kinds, states)]

    def _ways(self, size: SizeLike, kinds: Sequence[Partial], feeds: list[int]) -> int:
        """How many accumulators take turns: enough to hide the latency of one."""
        carried = sum(len(k.start(1)) for k in kinds)
        ways = 2 * UNROLL if _slow(kinds) and 4 * UNROLL * carried <= self.registers else UNROLL
        body = self._body(feeds)
        while ways > 1 and ways * body > LARGE * self.registers:
            ways //= 2
        while isinstance(size, int) and ways > 1 and size < self.space.lanes * ways:
            ways //= 2
        return ways

    def _body(self, wanted: Iterable[int]) -> int:
        """About how many operations of this pass vary along the reduced axes."""
        seen = set(wanted)
        stack, total = list(seen), 0
        while stack:
            i = stack.pop()
            if not self._moving(i):
                continue
            e = self.entries[i]
            total += weight(e.node) if e.kind == "elementwise" else 1
            fresh = {a for a in e.args if a not in seen and not self._in_memory(i)}
            seen |= fresh
            stack.extend(fresh)
        return max(1, total)

    def _step(
        self, loop: Any, start: Value, kinds: Sequence[Partial], feeds: list[int], states: States
    ) -> None:
        """One iteration: take a vector (or an element) into the carried states."""
        place = self._place_in(loop, start, kinds)
        after = self._take(kinds, feeds, unflat(loop.carried, states), place)
        loop.next(*flat(after))

    def _place_in(self, loop: Any, start: Value, kinds: Sequence[Partial]) -> Value:
        """How far a loop is from the start of its span, if somebody counts places."""
        if not any(isinstance(k, Best) for k in kinds):
            return Const(0, Ty(PLACE))
        place = loop.cast(loop.let("sub", loop.var, start), PLACE)
        return loop.splat(place, self.lanes)

    def _interleaved(
        self,
        axis: int,
        start: Value,
        bounds: tuple[Value, Value],
        parts: States,
        kinds: Sequence[Partial],
        feeds: list[int],
        masked: bool = False,
    ) -> States:
        """Vectors of a range of the span that starts at `start`, dealt out to all the parts.

        masked: the range is the rest, and not all of them are full.
        """
        lanes, count = self._lanes_along(axis), len(kinds)
        ways = len(parts) // count
        with self._loop(axis, *bounds, lanes * ways, "reduce", lanes, carries=flat(parts)) as loop:
            carried = unflat(loop.carried, parts)
            place = self._place_in(loop, start, kinds)
            after = list(carried)
            pairs = [ways > 1 and self._in_pairs(k) for k in kinds]
            taken: States = []
            masks: list[Value | None] = []
            stores = []
            for way in range(ways):
                self._forget(axis)
                shift = loop.index(way * lanes)
                self.index[axis] = loop.let("add", loop.var, shift) if way else loop.var
                if masked:
                    self.mask = self._lanes_before(loop, self.index[axis], bounds[1])
                taken.append(self._values(feeds))
                masks.append(self.mask if axis == self.space.vector else None)
                for i, kind in enumerate(kinds):
                    at = way * count + i
                    if not pairs[i]:
                        after[at] = kind.take(loop, after[at], taken[-1][i], place, masks[-1])
                stores += self._hold()
            for i, kind in enumerate(kinds):
                if pairs[i] and isinstance(kind, Fold):
                    values = [of[i] for of in taken]
                    after[i::count] = kind.take_together(loop, after[i::count], values, masks)
            for store in stores:
                loop.store(*store)
            loop.next(*flat(after))
        return unflat(loop.results, parts)

    def _in_pairs(self, kind: Partial) -> bool:
        """Whether several values at once are less work: x86's own extremes may lose a NaN."""
        return self.target.is_x86 and isinstance(kind, Fold) and kind.beats_nan != ""

    def _lanes_along(self, axis: int) -> int:
        """How many places of an axis a vector takes."""
        return self.space.lanes if axis == self.space.vector else 1

    def _together(self, axis: int, kinds: Sequence[Partial], parts: States) -> States:
        """The parts of all ways along an axis merged pairwise."""
        b, count, lanes = self.blocks[-1], len(kinds), self._lanes_along(axis)
        ways = len(parts) // count
        groups = [
            [k.behind(b, s, way * lanes) for k, s in zip(kinds, parts[way * count :])]
            for way in range(ways)
        ]
        while len(groups) > 1:
            groups = [
                [k.merge(b, x, y) for k, x, y in zip(kinds, groups[i], groups[i + 1])]
                for i in range(0, len(groups), 2)
            ]
        return groups[0]

    def _take(
        self, kinds: Sequence[Partial], feeds: list[int], states: States, place: Value
    ) -> States:
        """States after the values at the open indices; stores what later passes need of them."""
        values = self._values(feeds)
        b = self.blocks[-1]
        axis = self.space.vector
        vector = axis is not None and self.space.reduced[axis] and self.lanes > 1
        mask = self.mask if vector else None
        for store in self._hold():
            b.store(*store)
        return [k.take(b, s, v, place, mask) for k, s, v in zip(kinds, states, values)]


def _slow(kinds: Sequence[Partial]) -> bool:
    """Whether one more value takes long: a comparison, then a selection."""
    return any(isinstance(k, Best) for k in kinds)


def flat(states: States) -> list[Value]:
    return [v for state in states for v in state]


def unflat(values: Sequence[Any], like: States) -> States:
    result, at = [], 0
    for state in like:
        result.append(list(values[at : at + len(state)]))
        at += len(state)
    return result
