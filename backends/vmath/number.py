"""Loop IR values with Python's operators, so that formulas read as formulas."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Union

from ..loops import Block, Const, Ty, Value


class Format(NamedTuple):
    """An IEEE binary format: the integer types of its width, its field sizes and its landmarks."""

    dtype: str
    signed: str
    unsigned: str
    width: int  # bits in all
    mant: int  # explicit significand bits
    bias: int

    @property
    def magic(self) -> float:
        """1.5 * 2**mant: adding it rounds to an integer, which then sits in the low bits."""
        return 1.5 * 2.0**self.mant

    @property
    def tiny(self) -> float:
        """Smallest normal number."""
        return 2.0 ** (1 - self.bias)

    @property
    def max(self) -> float:
        """Largest finite number."""
        return (2.0 - 2.0**-self.mant) * 2.0**self.bias

    @property
    def sign_bit(self) -> int:
        return 1 << (self.width - 1)

    @property
    def abs_mask(self) -> int:
        return self.sign_bit - 1

    @property
    def mant_mask(self) -> int:
        return (1 << self.mant) - 1


FORMATS = {
    "float32": Format("float32", "int32", "uint32", 32, 23, 127),
    "float64": Format("float64", "int64", "uint64", 64, 52, 1023),
}


@lru_cache(maxsize=4096)
def rounded(value: float, dtype: str) -> float:
    """`value` rounded to the dtype, as a Python float."""
    if dtype == "float32" and math.isfinite(value):
        return struct.unpack("<f", struct.pack("<f", value))[0]
    return value


def bits_of(value: float, dtype: str) -> int:
    """The bit pattern of a float of the dtype, as an unsigned integer."""
    codes = ("<f", "<I") if dtype == "float32" else ("<d", "<Q")
    return struct.unpack(codes[1], struct.pack(codes[0], value))[0]


class Formula:
    """Where numbers are built: the block that grows, and what the target can do.

    `target` is a record with `has_fma`, and `has_scaleb` and `has_lookup` if it has these; None
    stands for a target that has the first one alone.
    """

    __slots__ = ("block", "has_fma", "has_lookup", "has_scaleb")

    def __init__(self, block: Block, target: Any = None):
        self.block = block
        self.has_fma = target is None or bool(target.has_fma)
        self.has_scaleb = bool(getattr(target, "has_scaleb", False))
        self.has_lookup = bool(getattr(target, "has_lookup", False))

    def number(self, value: Value) -> Num:
        return Num(self, value)

    def branch(
        self,
        cond: Num,
        then: Callable[[], Sequence[Num]],
        orelse: Callable[[], Sequence[Num]],
    ) -> list[Num]:
        """If on a scalar condition; both arms return the same number of numbers."""

        def arm(build: Callable[[], Sequence[Num]]) -> Callable[[Block], list[Value]]:
            def run(block: Block) -> list[Value]:
                outer, self.block = self.block, block
                try:
                    return [n.value for n in build()]
                finally:
                    self.block = outer

            return run

        return [Num(self, v) for v in self.block.branch(cond.value, arm(then), arm(orelse))]

    def turns(
        self, count: int, init: Sequence[Num], step: Callable[..., Sequence[Num]]
    ) -> list[Num]:
        """`step(*carried)` so many times; it returns the next carried numbers."""
        outer = self.block
        with outer.loop(0, outer.index(count), carries=[n.value for n in init]) as body:
            self.block = body
            try:
                carried = step(*(Num(self, c) for c in body.carried))
            finally:
                self.block = outer
            body.next(*(n.value for n in carried))
        return [Num(self, r) for r in body.results]

    def repeat(
        self, init: Sequence[Num], step: Callable[..., tuple[Num, Sequence[Num]]]
    ) -> list[Num]:
        """Do-while: `step(*carried)` returns (again: a scalar bool, the next carried numbers)."""
        outer = self.block
        with outer.loop_while([n.value for n in init]) as body:
            self.block = body
            try:
                again, carried = step(*(Num(self, c) for c in body.carried))
            finally:
                self.block = outer
            body.next(*(n.value for n in carried))
            body.again(again.value)
        return [Num(self, r) for r in body.results]


Operand = Union["Num", float, int]


class Num:
    """One value in a formula; a Python number beside it becomes a constant of its type."""

    __slots__ = ("at", "value")

    def __init__(self, at: Formula, value: Value):
        self.at = at
        self.value = value

    @property
    def type(self) -> Ty:
        return self.value.type

    @property
    def format(self) -> Format:
        """The binary format of a floating number."""
        return FORMATS[self.value.type.dtype]

    def const(self, value: Any) -> Num:
        """A constant of this number's type, rounded to it."""
        ty = self.value.type
        if ty.dtype in FORMATS:
            value = rounded(float(value), ty.dtype)
        return Num(self.at, Const(value, ty))

    def _lift(self, other: Operand) -> Value:
        return other.value if isinstance(other, Num) else self.const(other).value

    def _op(self, op: str, *others: Operand) -> Num:
        values = [self._lift(o) for o in others]
        return Num(self.at, self.at.block.let(op, self.value, *values))

    def _flipped(self, op: str, other: Operand) -> Num:
        return Num(self.at, self.at.block.let(op, self._lift(other), self.value))

    def __add__(self, other: Operand) -> Num:
        return self._op("add", other)

    def __radd__(self, other: Operand) -> Num:
        return self._flipped("add", other)

    def __sub__(self, other: Operand) -> Num:
        return self._op("sub", other)

    def __rsub__(self, other: Operand) -> Num:
        return self._flipped("sub", other)

    def __mul__(self, other: Operand) -> Num:
        return self._op("mul", other)

    def __rmul__(self, other: Operand) -> Num:
        return self._op("mul", other)

    def __truediv__(self, other: Operand) -> Num:
        return self._op("div", other)

    def __rtruediv__(self, other: Operand) -> Num:
        return self._flipped("div", other)

    def __neg__(self) -> Num:
        return self._op("neg")

    def __abs__(self) -> Num:
        return self._op("abs")

    def __and__(self, other: Operand) -> Num:
        return self._op("and", other)

    def __or__(self, other: Operand) -> Num:
        return self._op("or", other)

    def __xor__(self, other: Operand) -> Num:
        return self._op("xor", other)

    def __invert__(self) -> Num:
        return self._op("not")

    def __lshift__(self, other: Operand) -> Num:
        return self._op("shl", other)

    def __rshift__(self, other: Operand) -> Num:
        return self._op("shr", other)

    def __lt__(self, other: Operand) -> Num:
        return self._op("lt", other)

    def __le__(self, other: Operand) -> Num:
        return self._op("le", other)

    def __gt__(self, other: Operand) -> Num:
        return self._op("gt", other)

    def __ge__(self, other: Operand) -> Num:
        return self._op("ge", other)

    def eq(self, other: Operand) -> Num:
        return self._op("eq", other)

    def ne(self, other: Operand) -> Num:
        return self._op("ne", other)

    def trailing_zeros(self) -> Num:
        """How many low bits of an integer are 0; the width for 0."""
        return self._op("ctz")

    def any(self) -> Num:
        """Whether any lane of a bool is true, as a scalar."""
        if self.type.lanes == 1:
            return self
        return Num(self.at, self.at.block.let("hor", self.value, type=Ty("bool")))

    def to(self, dtype: str) -> Num:
        """Converted by the rules of `cast`."""
        return Num(self.at, self.at.block.cast(self.value, dtype))

    def bits(self) -> Num:
        """The bits of a float, as the unsigned integer of its width."""
        return self._bitcast(self.format.unsigned)

    def float(self) -> Num:
        """The float of the same width that has these bits."""
        return self._bitcast({"32": "float32", "64": "float64"}[self.type.dtype[-2:]])

    def _bitcast(self, dtype: str) -> Num:
        ty = Ty(dtype, self.type.lanes)
        return Num(self.at, self.at.block.let("bitcast", self.value, type=ty))


def where(cond: Num, yes: Num, no: Operand) -> Num:
    """yes where cond, else no; a Python number takes the type of `yes`."""
    return Num(cond.at, cond.at.block.let("select", cond.value, yes.value, yes._lift(no)))


def fma(a: Num, b: Operand, c: Operand) -> Num:
    """a * b + c; one rounding where the target has the instruction."""
    return a._op("fma", b, c)


def sqrt(x: Num) -> Num:
    return x._op("sqrt")


def scaleb(x: Num, power: Num) -> Num:
    """x * 2**floor(power), rounded once."""
    return x._op("scaleb", power)


def lookup(entries: Sequence[float], index: Num) -> Num:
    """The entry at an unsigned index modulo their number."""
    ty = Ty("float32", index.type.lanes)
    return Num(index.at, index.at.block.let("lookup", index.value, type=ty, attr=tuple(entries)))


def copysign(magnitude: Num, sign: Num) -> Num:
    return magnitude._op("copysign", sign)


def at_most(x: Num, limit: float) -> Num:
    """x, or the limit where x is above it; NaN stays."""
    bound = x.const(limit)
    return where(bound < x, bound, x)


def at_least(x: Num, limit: float) -> Num:
    """x, or the limit where x is below it; NaN stays."""
    bound = x.const(limit)
    return where(bound > x, bound, x)


LONG = 11  # coefficients: beyond what a core can look ahead past the end of one formula


def horner(x: Num, coefficients: Sequence[float]) -> Num:
    """A polynomial, lowest coefficient first, with the fewest operations and roundings."""
    result = x.const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = fma(result, x, c)
    return result


def polynomial(x: Num, coefficients: Sequence[float]) -> Num:
    """A polynomial, lowest coefficient first, whose last rounding does not matter.

    A long one is taken as two chains, two operations more for half the latency.
    """
    if len(coefficients) < LONG:
        return horner(x, coefficients)
    z = x * x
    return fma(horner(z, coefficients[1::2]), x, horner(z, coefficients[::2]))
