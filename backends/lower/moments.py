"""Sums of squared distances from a mean, taken in the pass that takes the mean.

sum((x - c)**2) where c is computed from sum(x) needs c before the first distance: two passes over
memory. Here each span of x is taken about a pivot, the mean of all spans before it: its sum of
distances and their squares. Spans are merged as means and squares about them, and what was asked
for is m2 + n * (mean - c)**2 at the end, for any c.

Accuracy: a span's own squares are a difference that loses eps * n * (its mean - pivot)**2, and the
merge adds at least half of n * (its mean - pivot)**2, so the loss is of the order of eps of the
result. Before the first span the pivot is the mean of the first k elements in it. Their own squares
are at least k * (their mean - the span's)**2, so of n elements eps * n / k of the result is lost.

Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances", 1979; the correction by the sum of distances is their "corrected two-pass" formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from symgraph.expr import Expr
from symgraph.ops.define import Elementwise
from symgraph.ops.reduce import Reduce

from ..loops import Block, Const, Ty, Value
from ..weights import CALL, weight
from .trace import Entry

WIDE = "float64"
NEAR = 4096  # elements of a row that surely stays in the first-level cache


class Spread(NamedTuple):
    """Means and squares about them, in float64: what spans of one reduction are merged into."""

    working: str

    @property
    def long_chains_lose(self) -> bool:
        return True

    @property
    def resumes(self) -> bool:
        return False

    def start(self, lanes: int) -> list[Value]:
        """No sum of distances from a pivot, no sum of their squares."""
        return [Const(0.0, Ty(self.working, lanes))] * 2

    def start_total(self, lanes: int) -> list[Value]:
        return [Const(0.0, Ty(WIDE, lanes))] * 2

    def take(
        self, b: Block, state: list[Value], value: Value, pivot: Value, mask: Value | None
    ) -> list[Value]:
        lanes = state[0].type.lanes
        off = b.let("sub", b.splat(value, lanes), b.splat(pivot, lanes))
        if mask is not None:
            off = b.let("select", mask, off, Const(0.0, off.type))
        return [b.let("add", state[0], off), b.let("fma", off, off, state[1])]

    def merge(self, b: Block, left: list[Value], right: list[Value]) -> list[Value]:
        return [b.let("add", x, y) for x, y in zip(left, right)]

    def across_lanes(self, b: Block, state: list[Value]) -> list[Value]:
        if state[0].type.lanes == 1:
            return state
        return [b.let("hsum", x, type=Ty(self.working)) for x in state]

    def into_total(
        self,
        b: Block,
        total: list[Value],
        state: list[Value],
        pivot: Value,
        before: Value,
        count: Value,
    ) -> list[Value]:
        """The total of `before` values and a span of `count` (indices, count at least 1)."""
        lanes = total[0].type.lanes
        n, more = b.cast(before, WIDE), b.cast(count, WIDE)
        share = b.let("div", more, b.let("add", n, more))
        each = b.splat(b.let("div", Const(1.0, Ty(WIDE)), more), lanes)
        off, squares, at = (b.cast(x, WIDE) for x in (*state, b.splat(pivot, lanes)))
        off_mean = b.let("mul", off, each)
        own = b.let("sub", squares, b.let("mul", off, off_mean))
        apart = b.let("sub", b.let("add", at, off_mean), total[0])
        moved = b.let("mul", apart, b.splat(share, lanes))
        between = b.let("mul", b.let("mul", apart, moved), b.splat(n, lanes))
        return [b.let("add", total[0], moved), b.let("add", total[1], b.let("add", own, between))]

    def finish(self, b: Block, total: list[Value], about: Value, count: Value) -> Value:
        """The sum of squares of the distances from `about`; count: of all values, an index."""
        lanes = total[0].type.lanes
        n = b.splat(b.cast(count, WIDE), lanes)
        away = b.let("sub", total[0], b.splat(b.cast(about, WIDE), lanes))
        squares = b.let("add", total[1], b.let("mul", n, b.let("mul", away, away)))
        none = b.let("eq", n, Const(0.0, n.type))
        result = b.let("select", none, Const(0.0, squares.type), squares)
        return b.cast(result, self.working)


class Around(NamedTuple):
    """The accumulator of one span about its pivot."""

    spread: Spread
    pivot: Value

    @property
    def long_chains_lose(self) -> bool:
        return True

    def start(self, lanes: int) -> list[Value]:
        return self.spread.start(lanes)

    def take(
        self, b: Block, state: list[Value], value: Value, place: Value, mask: Value | None
    ) -> list[Value]:
        return self.spread.take(b, state, value, self.pivot, mask)

    def behind(self, b: Block, state: list[Value], places: int) -> list[Value]:
        return state

    def merge(self, b: Block, left: list[Value], right: list[Value]) -> list[Value]:
        return self.spread.merge(b, left, right)

    def across_lanes(self, b: Block, state: list[Value]) -> list[Value]:
        return self.spread.across_lanes(b, state)


class Distance(NamedTuple):
    """A reduction sum((x - c)**2): the entries of x and c, and the sum of x it is taken with."""

    x: int
    about: int
    total: Expr


def distances(
    entries: Sequence[Entry],
    feeds: Sequence[tuple[Expr, int]],
    moving: Callable[[int], bool],
) -> dict[int, Distance]:
    """The reductions of a nest, by id, that are sums of squared distances from what a sum gives.

    x has to be cheap: it is computed twice.
    """
    sums = {feed: node for node, feed in feeds if _is_sum(node)}
    found: dict[int, Distance] = {}
    cost: list[int] = []
    needs: list[frozenset[int]] = []  # the reductions that each entry is computed from
    for e in entries:
        own = weight(e.node) if e.kind == "elementwise" else 1
        cost.append(min(own + sum(cost[a] for a in e.args), CALL))
        here = frozenset({id(e.node)} if e.kind == "reduction" else ())
        needs.append(here.union(*(needs[a] for a in e.args)))
    for node, feed in feeds:
        square = entries[feed]
        if not _is_sum(node) or not (_is(square, "square") or _is(square, "mul")):
            continue
        difference = entries[square.args[0]]
        if not _is(difference, "sub") or len(set(square.args)) > 1:
            continue
        x, about = difference.args
        if not moving(x) or moving(about) or cost[x] >= CALL or x not in sums:
            continue
        if needs[about] == {id(sums[x])}:
            found[id(node)] = Distance(x, about, sums[x])
    return found


def _is(entry: Entry, name: str) -> bool:
    op = entry.node.op
    return isinstance(op, Elementwise) and entry.kind == "elementwise" and op.spec.name == name


def _is_sum(node: Expr) -> bool:
    op = node.op
    floating = str(node.array_type.dtype) in ("float32", "float64")
    return isinstance(op, Reduce) and op.kind == "sum" and floating
