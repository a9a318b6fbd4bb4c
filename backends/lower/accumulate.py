"""What a reduction carries around its loops: how it starts, takes a value, merges and ends.

An accumulator is a list of loop-IR values (one for sums and extremes, value and index for
arg-reductions), so nests carry any of them without knowing which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from symgraph.dtypes import bool_
from symgraph.dtypes import dtype as as_dtype
from symgraph.expr import Expr
from symgraph.ops.reduce import ArgReduce, Reduce

from ..loops import INDEX, Block, Const, Ty, Value
from .scalar import HALF

PLACE, PLACES = "int32", "int64"  # the place of an element in one span, in all of them
BOOL_KINDS = {"max": "any", "min": "all"}
COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and"}
BETTER = {"max": "gt", "min": "lt"}
HORIZONTAL = {
    "sum": "hsum",
    "prod": "hprod",
    "max": "hmax",
    "min": "hmin",
    "any": "hor",
    "all": "hand",
}


class Partial(Protocol):
    """What a reduction carries along one span of the innermost reduced axis, in each lane.

    long_chains_lose: a long sum in one partial result loses digits, so spans are short.
    """

    @property
    def long_chains_lose(self) -> bool: ...
    def start(self, lanes: int) -> list[Value]: ...
    def take(
        self, b: Block, state: list[Value], value: Value, place: Value, mask: Value | None
    ) -> list[Value]: ...
    def behind(self, b: Block, state: list[Value], places: int) -> list[Value]: ...
    def merge(self, b: Block, left: list[Value], right: list[Value]) -> list[Value]: ...
    def across_lanes(self, b: Block, state: list[Value]) -> list[Value]: ...


class Accumulator(Partial, Protocol):
    """Partial results and the totals they are merged into.

    resumes: the elements of a span may as well go into the total directly.
    """

    @property
    def resumes(self) -> bool: ...
    def start_total(self, lanes: int) -> list[Value]: ...
    def into_total(
        self, b: Block, total: list[Value], partial: list[Value], start: Value
    ) -> list[Value]: ...
    def finish(self, b: Block, total: list[Value]) -> Value: ...  # or the one partial result


def accumulator(node: Expr) -> Accumulator:
    """The accumulator of a Reduce or ArgReduce node."""
    source = node.inputs[0].array_type.dtype
    if isinstance(node.op, ArgReduce):
        working = {"float16": "float32", "bfloat16": "float32", "bool": "uint8"}
        return Best(node.op.kind, working.get(str(source), str(source)))
    assert isinstance(node.op, Reduce)
    kind = BOOL_KINDS.get(node.op.kind, node.op.kind) if source is bool_ else node.op.kind
    return Fold(kind, str(source))


class Fold(NamedTuple):
    """sum, prod, max, min, any, all.

    Halves accumulate in float32; float32 sums add blocks in float64.
    """

    kind: str
    dtype: str

    @property
    def working(self) -> str:
        return "float32" if self.dtype in HALF else self.dtype

    @property
    def total_dtype(self) -> str:
        return "float64" if self.kind == "sum" and self.dtype == "float32" else self.working

    @property
    def long_chains_lose(self) -> bool:
        return self.kind == "sum" and self.working in ("float32", "float64")

    @property
    def resumes(self) -> bool:
        return not self.long_chains_lose

    def start(self, lanes: int) -> list[Value]:
        return [Const(identity(self.kind, self.working), Ty(self.working, lanes))]

    def start_total(self, lanes: int) -> list[Value]:
        return [Const(identity(self.kind, self.working), Ty(self.total_dtype, lanes))]

    def take(
        self, b: Block, state: list[Value], value: Value, place: Value, mask: Value | None
    ) -> list[Value]:
        return [b.let(COMBINE[self.kind], state[0], self._ready(b, value, state[0], mask))]

    def _ready(self, b: Block, value: Value, like: Value, mask: Value | None) -> Value:
        """A value to be taken: what changes nothing in the lanes that are masked off."""
        x = b.splat(b.cast(value, self.working), like.type.lanes)
        if mask is not None:
            x = b.let("select", mask, x, Const(identity(self.kind, self.working), x.type))
        return x

    @property
    def beats_nan(self) -> str:
        """The comparison that alone decides between numbers; empty if NaN is no matter."""
        extreme = as_dtype(self.working).is_float and self.kind in BETTER
        return BETTER[self.kind] if extreme else ""

    def take_together(
        self,
        b: Block,
        states: Sequence[list[Value]],
        values: Sequence[Value],
        masks: Sequence[Value | None],
    ) -> list[list[Value]]:
        """An even number of values, dealt out to the states in turn, if `beats_nan`.

        A comparison with NaN is false, so what is carried stays what it is: only NaN among the
        values is to be looked for, and one comparison does it for two of them. The first state
        takes it.
        """
        new = [self._ready(b, v, states[0][0], mask) for v, mask in zip(values, masks)]
        best = [state[0] for state in states]
        numbers: Value | None = None
        for x, y in zip(new[::2], new[1::2]):
            # LLVM makes one test for being ordered of the two
            ordered = b.let("or", b.let("le", x, y), b.let("gt", x, y))
            numbers = ordered if numbers is None else b.let("and", numbers, ordered)
        for n, x in enumerate(new):
            old = best[n % len(best)]
            best[n % len(best)] = b.let("select", b.let(self.beats_nan, x, old), x, old)
        assert numbers is not None
        best[0] = b.let("select", numbers, best[0], Const(float("nan"), best[0].type))
        return [[x] for x in best]

    def behind(self, b: Block, state: list[Value], places: int) -> list[Value]:
        return state

    def merge(self, b: Block, left: list[Value], right: list[Value]) -> list[Value]:
        return [b.let(COMBINE[self.kind], left[0], right[0])]

    def across_lanes(self, b: Block, state: list[Value]) -> list[Value]:
        x = state[0]
        return (
            state if x.type.lanes == 1 else [b.let(HORIZONTAL[self.kind], x, type=Ty(x.type.dtype))]
        )

    def into_total(
        self, b: Block, total: list[Value], partial: list[Value], start: Value
    ) -> list[Value]:
        return self.merge(b, total, [b.cast(partial[0], self.total_dtype)])

    def finish(self, b: Block, total: list[Value]) -> Value:
        return b.cast(b.cast(total[0], self.working), self.dtype)


class Best(NamedTuple):
    """argmax, argmin: the best value and its index; the first wins, a NaN beats every number.

    A partial result counts places from the start of its span in 32 bits (the lane's own number is
    added when the lanes are merged); totals hold indices.
    """

    kind: str
    working: str

    @property
    def long_chains_lose(self) -> bool:
        return False

    @property
    def resumes(self) -> bool:
        return False

    @property
    def _worst(self) -> Any:
        return identity(self._extreme, self.working)

    @property
    def _extreme(self) -> str:
        return self.kind.removeprefix("arg")

    @property
    def _has_nan(self) -> bool:
        return self.working in ("float32", "float64")

    def start(self, lanes: int) -> list[Value]:
        return [Const(self._worst, Ty(self.working, lanes)), Const(0, Ty(PLACE, lanes))]

    def start_total(self, lanes: int) -> list[Value]:
        return [Const(self._worst, Ty(self.working, lanes)), Const(0, Ty(PLACES, lanes))]

    def take(
        self, b: Block, state: list[Value], value: Value, place: Value, mask: Value | None
    ) -> list[Value]:
        best, where = state
        lanes = best.type.lanes
        x = b.splat(b.cast(value, self.working), lanes)
        wins = self._beats(b, x, best)
        if mask is not None:
            wins = b.let("and", wins, mask)
        return [b.let("select", wins, x, best), b.let("select", wins, b.splat(place, lanes), where)]

    def behind(self, b: Block, state: list[Value], places: int) -> list[Value]:
        """A partial result whose places began so many later."""
        best, where = state
        return [best, b.let("add", where, Const(places, where.type))] if places else state

    def merge(self, b: Block, left: list[Value], right: list[Value]) -> list[Value]:
        (x, i), (y, j) = left, right
        same = b.let("eq", x, y)
        if self._has_nan:
            both = b.let("and", b.let("ne", x, x), b.let("ne", y, y))
            same = b.let("or", same, both)
        earlier = b.let("and", same, b.let("lt", j, i))
        wins = b.let("or", self._beats(b, y, x), earlier)
        return [b.let("select", wins, y, x), b.let("select", wins, j, i)]

    def across_lanes(self, b: Block, state: list[Value]) -> list[Value]:
        """The best of all lanes, and the first place where a lane holds it."""
        best, where = state
        lanes = best.type.lanes
        if lanes == 1:
            return state
        top = b.let("h" + self._extreme, best, type=Ty(self.working))
        attains = b.let("eq", best, b.splat(top, lanes))
        if self._has_nan:
            attains = b.let("or", attains, b.let("ne", best, best))
        iota = b.cast(b.let("iota", type=Ty(INDEX, lanes)), PLACE)
        never = Const(np.iinfo(PLACE).max, where.type)
        places = b.let("select", attains, b.let("add", where, iota), never)
        return [top, b.let("hmin", places, type=Ty(PLACE))]

    def into_total(
        self, b: Block, total: list[Value], partial: list[Value], start: Value
    ) -> list[Value]:
        best, where = partial
        first = b.splat(b.cast(start, PLACES), where.type.lanes)
        return self.merge(b, total, [best, b.let("add", first, b.cast(where, PLACES))])

    def finish(self, b: Block, total: list[Value]) -> Value:
        return b.cast(total[1], PLACES)

    def _beats(self, b: Block, x: Value, y: Value) -> Value:
        """x is better than y: beyond it, or the first NaN (both are one unordered comparison)."""
        if not self._has_nan:
            return b.let("gt" if self.kind == "argmax" else "lt", x, y)
        beyond = b.let("not", b.let("le" if self.kind == "argmax" else "ge", x, y))
        return b.let("and", beyond, b.let("eq", y, y))


def identity(kind: str, dtype: str) -> Any:
    """The value that changes nothing: 0 for sum, 1 for prod, the lowest value for max, ..."""
    if kind in ("sum", "prod"):
        one = kind == "prod"
        return (
            float(one) if dtype.startswith("float") else bool(one) if dtype == "bool" else int(one)
        )
    if kind in ("any", "all") or dtype == "bool":
        return kind in ("all", "min")
    if as_dtype(dtype).is_float:
        return float("-inf") if kind == "max" else float("inf")
    info = np.iinfo(dtype)
    return int(info.min if kind == "max" else info.max)
