"""What a reduction carries around its loops: how it starts, takes a value, merges and ends.

An accumulator is a list of loop-IR values (one for sums and extremes, value and index for
arg-reductions), so nests carry any of them without knowing which.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from symgraph.dtypes import bool_
from symgraph.dtypes import dtype as as_dtype
from symgraph.expr import Expr
from symgraph.ops.reduce import ArgReduce, Reduce

from ..loops import INDEX, Block, Const, Ty, Value
from .scalar import HALF

BOOL_KINDS = {"max": "any", "min": "all"}
COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and"}
HORIZONTAL = {
    "sum": "hsum",
    "prod": "hprod",
    "max": "hmax",
    "min": "hmin",
    "any": "hor",
    "all": "hand",
}


class Accumulator(Protocol):
    """What a reduction carries: partial results per lane, and totals they are merged into.

    long_chains_lose: a long sum in one partial result loses digits, so it is cut into blocks.
    """

    @property
    def long_chains_lose(self) -> bool: ...
    def start(self, lanes: int) -> list[Value]: ...
    def start_total(self, lanes: int) -> list[Value]: ...
    def take(
        self, b: Block, state: list[Value], value: Value, index: Value, mask: Value | None
    ) -> list[Value]: ...
    def merge(self, b: Block, left: list[Value], right: list[Value]) -> list[Value]: ...
    def across_lanes(self, b: Block, state: list[Value]) -> list[Value]: ...
    def into_total(self, b: Block, total: list[Value], partial: list[Value]) -> list[Value]: ...
    def finish(self, b: Block, total: list[Value]) -> Value: ...


def accumulator(node: Expr) -> Accumulator:
    """The accumulator of a Reduce or ArgReduce node."""
    source = node.inputs[0].array_type.dtype
    if isinstance(node.op, ArgReduce):
        return Best(node.op.kind, "float32" if source in HALF else str(source))
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

    def start(self, lanes: int) -> list[Value]:
        return [Const(identity(self.kind, self.working), Ty(self.working, lanes))]

    def start_total(self, lanes: int) -> list[Value]:
        return [Const(identity(self.kind, self.working), Ty(self.total_dtype, lanes))]

    def take(
        self, b: Block, state: list[Value], value: Value, index: Value, mask: Value | None
    ) -> list[Value]:
        x = b.splat(b.cast(value, self.working), state[0].type.lanes)
        if mask is not None:
            x = b.let("select", mask, x, Const(identity(self.kind, self.working), x.type))
        return [b.let(COMBINE[self.kind], state[0], x)]

    def merge(self, b: Block, left: list[Value], right: list[Value]) -> list[Value]:
        return [b.let(COMBINE[self.kind], left[0], right[0])]

    def across_lanes(self, b: Block, state: list[Value]) -> list[Value]:
        x = state[0]
        return (
            state if x.type.lanes == 1 else [b.let(HORIZONTAL[self.kind], x, type=Ty(x.type.dtype))]
        )

    def into_total(self, b: Block, total: list[Value], partial: list[Value]) -> list[Value]:
        return self.merge(b, total, [b.cast(partial[0], self.total_dtype)])

    def finish(self, b: Block, total: list[Value]) -> Value:
        return b.cast(b.cast(total[0], self.working), self.dtype)


class Best(NamedTuple):
    """argmax, argmin: the best value and its index; the first wins, a NaN beats every number."""

    kind: str
    working: str

    @property
    def long_chains_lose(self) -> bool:
        return False

    @property
    def _worst(self) -> Any:
        return identity("max" if self.kind == "argmax" else "min", self.working)

    def start(self, lanes: int) -> list[Value]:
        return [Const(self._worst, Ty(self.working, lanes)), Const(0, Ty(INDEX, lanes))]

    def start_total(self, lanes: int) -> list[Value]:
        return self.start(lanes)

    def take(
        self, b: Block, state: list[Value], value: Value, index: Value, mask: Value | None
    ) -> list[Value]:
        best, where = state
        lanes = best.type.lanes
        x = b.splat(b.cast(value, self.working), lanes)
        wins = self._beats(b, x, best)
        if mask is not None:
            wins = b.let("and", wins, mask)
        return [b.let("select", wins, x, best), b.let("select", wins, b.splat(index, lanes), where)]

    def merge(self, b: Block, left: list[Value], right: list[Value]) -> list[Value]:
        (x, i), (y, j) = left, right
        same = b.let("not", b.let("or", self._beats(b, x, y), self._beats(b, y, x)))
        earlier = b.let("and", same, b.let("lt", j, i))
        wins = b.let("or", self._beats(b, y, x), earlier)
        return [b.let("select", wins, y, x), b.let("select", wins, j, i)]

    def across_lanes(self, b: Block, state: list[Value]) -> list[Value]:
        lanes = state[0].type.lanes
        parts = [
            [
                b.let("extract", s, type=Ty(s.type.dtype), attr=lane) if lanes > 1 else s
                for s in state
            ]
            for lane in range(lanes)
        ]
        while len(parts) > 1:
            parts = [
                self.merge(b, parts[k], parts[k + 1]) if k + 1 < len(parts) else parts[k]
                for k in range(0, len(parts), 2)
            ]
        return parts[0]

    def into_total(self, b: Block, total: list[Value], partial: list[Value]) -> list[Value]:
        return self.merge(b, total, partial)

    def finish(self, b: Block, total: list[Value]) -> Value:
        return b.cast(total[1], "int64")

    def _beats(self, b: Block, x: Value, y: Value) -> Value:
        if self.working == "bool":
            x, y = b.cast(x, "uint8"), b.cast(y, "uint8")
        wins = b.let("gt" if self.kind == "argmax" else "lt", x, y)
        if self.working not in ("float32", "float64"):
            return wins
        nan = b.let("and", b.let("ne", x, x), b.let("eq", y, y))
        return b.let("or", wins, nan)


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


Accumulators = list[Fold | Best]
