"""Philox4x32-10 in the loop IR: the same words as symgraph.philox, on every target."""

from __future__ import annotations

from symgraph.philox import KEY_STEPS, MULTIPLIERS, ROUNDS

from ..loops import Block, Value
from .number import Formula, Num


def philox4x32(
    b: Block, key0: Value, key1: Value, c0: Value, c1: Value, c2: Value, c3: Value
) -> tuple[Value, Value, Value, Value]:
    """The four words of the block that each lane's key and counter give. All uint32, equal lanes.

    Source: Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
    """
    at = Formula(b)
    k0, k1, w0, w1, w2, w3 = map(at.number, (key0, key1, c0, c1, c2, c3))
    for turn in range(ROUNDS):
        high0, low0 = _product(w0, MULTIPLIERS[0])
        high1, low1 = _product(w2, MULTIPLIERS[1])
        step0, step1 = (turn * step & 0xFFFFFFFF for step in KEY_STEPS)
        w0, w1 = high1 ^ w1 ^ (k0 + step0), low1
        w2, w3 = high0 ^ w3 ^ (k1 + step1), low0
    return w0.value, w1.value, w2.value, w3.value


def _product(x: Num, multiplier: int) -> tuple[Num, Num]:
    """High and low halves of the 64-bit product."""
    wide = x.to("uint64") * multiplier
    return (wide >> 32).to("uint32"), wide.to("uint32")
