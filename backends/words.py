"""Narrow operands several steps of k at a time: a word of A's row times a word of each column of B.

A word holds `group` neighbours along k. A's words are read in place, its rows being contiguous
along k; B's panels are packed so that the words of a row's columns follow each other, with zeros
where the last word of a run of k goes on beyond it. What A has there is masked off.

Where the instruction takes A with the other sign only, the top bit of each element is flipped,
which moves it by half its range, and the sums start at what that changes: with A' = A + shift,

    A @ B = A' @ B - shift * (column sums of B)
"""

from __future__ import annotations

from typing import NamedTuple

from . import isa
from .irtext import BYTES
from .isa import Instruction
from .loops import Block, Buffer, Const, Ty, Value
from .targets import Target

SIZE = 4  # bytes of a word
_SHORT = {
    "uint8": "u8",
    "int8": "s8",
    "int16": "s16",
    "bfloat16": "bf16",
}
_OTHER_SIGN = {"uint8": "int8", "int8": "uint8"}


class Words(NamedTuple):
    """How words are multiplied.

    accumulate: the dtype of sums. flips: A has the other sign in memory. spare: vector registers
    that a step needs besides its operands.
    """

    instruction: Instruction
    accumulate: str
    flips: bool
    spare: int

    @property
    def group(self) -> int:
        """Elements in a word."""
        return self.instruction.group

    def dot(self, b: Block, x: Value, y: Value, total: Value) -> Value:
        """total + x * y, group by group."""
        kind = self.instruction
        sums = b.let("dot", b.cast(total, kind.total), x, y, attr=kind.name)
        return b.cast(sums, self.accumulate)

    def across(self, b: Block, words: Value) -> Value:
        """A vector of words of B as the instruction takes it."""
        kind = self.instruction
        return b.let("bitcast", words, type=Ty(kind.y, kind.group * words.type.lanes))

    def load(self, b: Block, buffer: Buffer, where: Value, left: Value | None = None) -> Value:
        """The word of A at an offset; left: how many of its elements are there."""
        mask = None
        if left is not None:
            lane = b.let("iota", type=Ty("index", self.group))
            mask = b.let("lt", lane, b.splat(left, self.group))
        return b.let("bitcast", b.load(buffer, where, self.group, mask), type=Ty("uint32"))

    def down(self, b: Block, word: Value, lanes: int) -> Value:
        """A word of A for every lane, as the instruction takes it."""
        kind = self.instruction
        words = b.splat(word, lanes)
        if self.flips:
            words = b.let("xor", words, Const(self._top_bits, words.type))
        return b.let("bitcast", words, type=Ty(kind.x, kind.group * lanes))

    def start(self, b: Block, words: Value, total: Value) -> Value:
        """Add what flipping A's bits adds for one row of a panel."""
        kind = self.instruction
        shift = 1 << 8 * BYTES[kind.x] - 1
        value = shift if kind.x.startswith("u") else -shift
        x = Const(value, Ty(kind.x, kind.group * words.type.lanes))
        return self.dot(b, x, self.across(b, words), total)

    @property
    def _top_bits(self) -> int:
        bits = 8 * BYTES[self.instruction.x]
        return sum(1 << (j + 1) * bits - 1 for j in range(self.group))


def words(a: str, b: str, accumulate: str, target: Target) -> Words | None:
    """How the target multiplies words of two dtypes; None: it does not."""
    for flips, x in ((False, a), (True, _OTHER_SIGN.get(a, ""))):
        name = f"dot_{_SHORT.get(x)}{_SHORT.get(b)}"
        form = isa.form(name, target.lanes(SIZE), target) if name in isa.INSTRUCTIONS else None
        if form is not None:
            return Words(isa.INSTRUCTIONS[name], accumulate, flips, int(flips or form.product))
    return None
