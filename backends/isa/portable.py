"""The meanings of instructions, in loop IR.

Vectors of narrow elements are taken apart as words: element j of a group is the j-th from the low
end.
"""

from __future__ import annotations

from collections.abc import Callable

from ..irtext import BYTES, KIND
from ..loops import Block, Const, Ty, Value
from .instruction import Instruction

WORD = 32  # bits
SMALLEST = 2.0**-126  # the smallest normal float32


def integer_dot(b: Block, total: Value, x: Value, y: Value) -> Value:
    """Exact products, sums modulo 2**32."""
    group = x.type.lanes // total.type.lanes
    for j in range(group):
        product = b.let("mul", _element(b, x, j, total), _element(b, y, j, total))
        total = b.let("add", total, product)
    return total


def _element(b: Block, x: Value, j: int, total: Value) -> Value:
    """Element j of each group, as the dtype of the sums: shifted up, and down with its sign."""
    bits, signed = 8 * BYTES[x.type.dtype], KIND[x.type.dtype] == "i"
    word = Ty("int32" if signed else "uint32", total.type.lanes)
    value: Value = b.let("bitcast", x, type=word)
    above = WORD - bits * (j + 1)
    if above:
        value = b.let("shl", value, Const(above, word))
    value = b.let("shr", value, Const(WORD - bits, word))
    return b.cast(value, total.type.dtype)


def bfloat16_dot(b: Block, total: Value, x: Value, y: Value) -> Value:
    """Two fused multiply-adds, the odd product first; subnormals are zeros, before and after."""
    for j in (1, 0):
        factors = [_flushed(b, _half(b, v, j)) for v in (x, y)]
        total = _flushed(b, b.let("fma", *factors, _flushed(b, total)))
    return total


def _half(b: Block, x: Value, j: int) -> Value:
    """Element j of each pair of bfloat16 as float32."""
    word = Ty("uint32", x.type.lanes // 2)
    bits = b.let("bitcast", x, type=word)
    moved = (
        b.let("and", bits, Const(0xFFFF0000, word)) if j else b.let("shl", bits, Const(16, word))
    )
    return b.let("bitcast", moved, type=Ty("float32", word.lanes))


def _flushed(b: Block, x: Value) -> Value:
    small = b.let("lt", b.let("abs", x), Const(SMALLEST, x.type))
    return b.let("select", small, b.let("copysign", Const(0.0, x.type), x), x)


def _dot(name: str, x: str, y: str, total: str = "int32") -> Instruction:
    meaning: Callable[[Block, Value, Value, Value], Value] = integer_dot
    if x == "bfloat16":
        meaning = bfloat16_dot
    return Instruction(name, total, x, y, WORD // (8 * BYTES[x]), meaning)


INSTRUCTIONS = (
    _dot("dot_u8s8", "uint8", "int8"),
    _dot("dot_s8u8", "int8", "uint8"),
    _dot("dot_s8s8", "int8", "int8"),
    _dot("dot_u8u8", "uint8", "uint8", "uint32"),
    _dot("dot_s16s16", "int16", "int16"),
    _dot("dot_bf16bf16", "bfloat16", "bfloat16", "float32"),
)
