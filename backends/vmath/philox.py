"""Philox4x32-10 in the loop IR: the same words as symgraph.philox, on every target.

Source: Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011).

Words travel in the low halves of 64-bit lanes, so that a product is one multiplication; what the
high halves hold does not matter until the end. The rounds are a loop: unrolled, they take LLVM
longer than everything else in a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from symgraph.philox import KEY_STEPS, MULTIPLIERS, ROUNDS

from ..known import Known
from ..loops import Block, Const, Ty, Value
from .number import Formula, Num, where

LOW = 0xFFFFFFFF


class Draw(NamedTuple):
    """What the words of one draw depend on besides their index: uint32 numbers."""

    key0: Num
    key1: Num
    call: Num
    stream: Num


def philox4x32(
    b: Block, key0: Value, key1: Value, c0: Value, c1: Value, c2: Value, c3: Value
) -> tuple[Value, Value, Value, Value]:
    """The words of the block that each lane's key and counter give. All uint32, equal lanes."""
    at = Formula(b)
    k0, k1, *counter = (at.number(x).to("uint64") for x in (key0, key1, c0, c1, c2, c3))
    return tuple(w.to("uint32").value for w in _rounds(k0, k1, counter))  # type: ignore[return-value]


def _rounds(k0: Num, k1: Num, counter: list[Num]) -> list[Num]:
    """The four words in the low halves of uint64 lanes."""

    def turn(w0: Num, w1: Num, w2: Num, w3: Num, k0: Num, k1: Num) -> list[Num]:
        first, second = ((w & LOW) * m for w, m in zip((w0, w2), MULTIPLIERS))
        words = [(second >> 32) ^ w1 ^ k0, second, (first >> 32) ^ w3 ^ k1, first]
        return [*words, k0 + KEY_STEPS[0], k1 + KEY_STEPS[1]]

    return k0.at.turns(ROUNDS, [*counter, k0, k1], turn)[:4]


def random32(b: Block, known: Known, *args: Value) -> Value:
    """uint32 word number `index` of a draw: key0, key1, call, stream, index low and high."""
    low, high = args[4:]
    lanes = low.type.lanes
    at = Formula(b)

    def each(lane: Formula) -> Num:
        index = lane.number(low).to("uint64") | (lane.number(high).to("uint64") << 32)
        w0, w1, w2, w3 = _each(Draw(*map(lane.number, args[:4])), index >> 2)
        odd, second = (index & 1).ne(0), (index & 2).ne(0)
        return where(second, where(odd, w3, w2), where(odd, w1, w0)).to("uint32")

    def together(lane: Formula, draw: Draw, start: Num) -> Num:
        pairs = _together(draw, start >> 2, lanes // 2)
        ty = Ty("uint32", lanes)
        return lane.number(lane.block.let("bitcast", pairs.value, type=ty))

    if lanes < 4:
        return each(at).value
    return _choose(at, known, args[:4], low, 4, each, together).value


def random64(b: Block, known: Known, *args: Value) -> Value:
    """uint64 number `index` of a draw, two words each: key, call, stream, index (all uint64)."""
    key, call, stream, index = args
    at = Formula(b)

    def draw_of(f: Formula, k: Value, c: Value, s: Value) -> Draw:
        key, call, stream = map(f.number, (k, c, s))
        return Draw(
            key.to("uint32"), (key >> 32).to("uint32"), call.to("uint32"), stream.to("uint32")
        )

    def each(lane: Formula) -> Num:
        number = lane.number(index)
        w0, w1, w2, w3 = _each(draw_of(lane, key, call, stream), number >> 1)
        first, second = ((low & LOW) | (high << 32) for low, high in ((w0, w1), (w2, w3)))
        return where((number & 1).ne(0), second, first)

    def together(lane: Formula, draw: Draw, start: Num) -> Num:
        return _together(draw, start >> 1, index.type.lanes)

    if index.type.lanes < 2:
        return each(at).value
    return _choose(at, known, args[:3], index, 2, each, together, draw_of).value


def _each(draw: Draw, block: Num) -> list[Num]:
    """The words of a block for each lane, however the lanes are numbered."""
    k0, k1, call, stream = (x.to("uint64") for x in draw)
    return _rounds(k0, k1, [block, block >> 32, call, stream])


def _choose(
    at: Formula,
    known: Known,
    fixed: tuple[Value, ...],
    index: Value,
    group: int,
    each: Callable[[Formula], Num],
    together: Callable[[Formula, Draw, Num], Num],
    draw_of: Callable[..., Draw] | None = None,
) -> Num:
    """Whole blocks side by side where lanes are consecutive and start with a block, else `each`.

    Nothing is asked at run time if the start is known to be a multiple of the group.
    """
    start = known.consecutive(index)
    uniform = [known.uniform(x) for x in fixed]
    if start is None or None in uniform:
        return each(at)
    scalars = [x for x in uniform if x is not None]
    draw = draw_of(at, *scalars) if draw_of else Draw(*map(at.number, scalars))
    first = at.number(start)
    if known.multiple(start) % group == 0:
        return together(at, draw, first.to("uint64"))
    whole = (first & (group - 1)).eq(0)
    return at.branch(whole, lambda: [together(at, draw, first.to("uint64"))], lambda: [each(at)])[0]


def _together(draw: Draw, block: Num, lanes: int) -> Num:
    """The words of lanes / 2 blocks from `block` on, in order, two in each uint64 lane.

    A pair of lanes is a block: one multiplies words 0 and 2 in turn, the other 2 and 0.
    """
    at = block.at
    wide = Ty("uint64", lanes)

    def spread(x: Num) -> Num:
        return at.number(at.block.splat(x.to("uint64").value, lanes))

    iota = at.number(at.block.let("iota", type=wide))
    odd = (iota & 1).ne(0)
    blocks = spread(block) + (iota >> 1)
    k0, k1, call, stream = map(spread, draw)
    m0, m1 = (at.number(Const(m, wide)) for m in MULTIPLIERS)
    products = [where(odd, m1, m0), where(odd, m0, m1)]
    keys = [where(odd, k0, k1), where(odd, k1, k0)]
    steps = [where(odd, *map(iota.const, ks)) for ks in (KEY_STEPS, KEY_STEPS[::-1])]
    a, c = where(odd, call, blocks), where(odd, blocks >> 32, stream)

    twice = [step * 2 for step in steps]

    def two(a: Num, c: Num, *keys: Num) -> list[Num]:
        for product, key in zip(products, keys):
            both = (a & LOW) * product
            a, c = (both >> 32) ^ c ^ key, both._op("swap")
        return [a, c, *(key + step for key, step in zip(keys, twice))]

    a, c, *_ = at.turns(ROUNDS // 2, [a, c, keys[0], keys[1] + steps[1]], two)
    return (a & LOW) | (c._op("swap") << 32)


# Name -> expansion(block, known, *args): what a `call` may name besides elementary functions.
DRAWS: dict[str, Callable[..., Value]] = {"random32": random32, "random64": random64}

__all__ = ["DRAWS", "philox4x32", "random32", "random64"]
