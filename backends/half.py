"""Casts to and from float16 and bfloat16 in integer arithmetic, where there is no instruction.

LLVM would call a library (`__extendhfsf2`, `__truncsfhf2`), which compiled code must not need.
Rounding is to nearest, ties to even; NaN stays NaN, infinities and subnormals are right; what is
too large becomes infinite. A cast that goes through float32 rounds once: float64 -> float16 takes
the way of rounding to odd, and an integer too large for float32 to hold exactly is infinite in
float16. (float64 or integer -> bfloat16 rounds to float32 first, as ml_dtypes does.)
"""

from __future__ import annotations

from .loops import Block, Const, Ty, Value
from .targets import Target

HALVES = ("float16", "bfloat16")


def expand_cast(b: Block, x: Value, dtype: str, target: Target) -> Value:
    """`x` as `dtype`, one of them float16 or bfloat16, in operations that `target` has."""
    source = x.type.dtype
    if source == dtype:
        return x
    if source in HALVES and dtype == "bool":
        magnitude = b.let("abs", x)
        return b.cast(_bits(b, magnitude, "uint16"), "bool")
    if source in HALVES:
        single = _to_single(b, x, target)
        return expand_cast(b, single, dtype, target) if dtype in HALVES else b.cast(single, dtype)
    if source == "float64" and dtype == "float16":
        single = round_to_odd(b, x)
    else:
        single = b.cast(x, "float32")
    if dtype == "bfloat16":
        return _single_to_bfloat16(b, single)
    return b.cast(single, dtype) if target.f16_convert else _single_to_float16(b, single)


def _to_single(b: Block, x: Value, target: Target) -> Value:
    if x.type.dtype == "bfloat16":
        wide = b.cast(_bits(b, x, "uint16"), "uint32")
        return _bits(b, b.let("shl", wide, _u32(16, wide)), "float32")
    return b.cast(x, "float32") if target.f16_convert else _float16_to_single(b, x)


def _float16_to_single(b: Block, x: Value) -> Value:
    """Shift the fields into place, rebias the exponent; a subnormal is an integer * 2**-24."""
    bits = b.cast(_bits(b, x, "uint16"), "uint32")
    magnitude = b.let("and", bits, _u32(0x7FFF, bits))
    sign = b.let("shl", b.let("and", bits, _u32(0x8000, bits)), _u32(16, bits))
    shifted = b.let("shl", magnitude, _u32(13, bits))
    normal = b.let("add", shifted, _u32(112 << 23, bits))
    special = b.let("or", shifted, _u32(0x7F800000, bits))
    scale = Const(2.0**-24, Ty("float32", x.type.lanes))
    small = _bits(b, b.let("mul", b.cast(b.cast(magnitude, "int32"), "float32"), scale), "uint32")
    is_special = b.let("ge", magnitude, _u32(0x7C00, bits))
    is_small = b.let("lt", magnitude, _u32(0x0400, bits))
    value = b.let("select", is_special, special, b.let("select", is_small, small, normal))
    return _bits(b, b.let("or", value, sign), "float32")


def _single_to_float16(b: Block, x: Value) -> Value:
    """Round in integers; a float addition at the right magnitude rounds subnormal results."""
    bits = _bits(b, x, "uint32")
    magnitude = b.let("and", bits, _u32(0x7FFFFFFF, bits))
    sign = b.let("shr", b.let("and", bits, _u32(0x80000000, bits)), _u32(16, bits))
    odd = b.let("and", b.let("shr", magnitude, _u32(13, bits)), _u32(1, bits))
    rebias = _u32(0xFFF - (112 << 23), bits)
    rounded = b.let("add", b.let("add", magnitude, rebias), odd)
    normal = b.let("shr", rounded, _u32(13, bits))
    half = Const(0.5, Ty("float32", x.type.lanes))  # its last bit is worth 2**-24, as a subnormal's
    sum = b.let("add", _bits(b, magnitude, "float32"), half)
    small = b.let("sub", _bits(b, sum, "uint32"), _u32(0x3F000000, bits))
    payload = b.let("and", b.let("shr", magnitude, _u32(13, bits)), _u32(0x1FF, bits))
    nan = b.let("or", payload, _u32(0x7E00, bits))
    is_nan = b.let("gt", magnitude, _u32(0x7F800000, bits))
    is_large = b.let("ge", magnitude, _u32(0x47800000, bits))
    is_small = b.let("lt", magnitude, _u32(0x38800000, bits))
    large = b.let("select", is_nan, nan, _u32(0x7C00, bits))
    value = b.let("select", is_large, large, b.let("select", is_small, small, normal))
    return _bits(b, b.cast(b.let("or", value, sign), "uint16"), "float16")


def _single_to_bfloat16(b: Block, x: Value) -> Value:
    bits = _bits(b, x, "uint32")
    odd = b.let("and", b.let("shr", bits, _u32(16, bits)), _u32(1, bits))
    rounded = b.let("add", b.let("add", bits, _u32(0x7FFF, bits)), odd)
    quiet = b.let("or", bits, _u32(0x00400000, bits))
    value = b.let("select", b.let("ne", x, x), quiet, rounded)
    return _bits(b, b.cast(b.let("shr", value, _u32(16, bits)), "uint16"), "bfloat16")


def round_to_odd(b: Block, x: Value) -> Value:
    """float64 -> float32 so that rounding once more, to a narrower type, rounds `x` once.

    An inexact result takes the neighbour with an odd last bit (Boldo and Melquiond, IEEE Trans.
    Computers 57, 2008).
    """
    nearest = b.cast(x, "float32")
    back = b.cast(nearest, "float64")
    bits = _bits(b, nearest, "uint32")
    even = b.let("eq", b.let("and", bits, _u32(1, bits)), _u32(0, bits))
    adjust = b.let("and", b.let("ne", back, x), even)
    outside = b.let("gt", b.let("abs", back), b.let("abs", x))
    step = b.let("select", outside, _u32(0xFFFFFFFF, bits), _u32(1, bits))
    moved = b.let("add", bits, step)
    return _bits(b, b.let("select", adjust, moved, bits), "float32")


def _bits(b: Block, x: Value, dtype: str) -> Value:
    return b.cast(x, dtype, op="bitcast")


def _u32(value: int, like: Value) -> Const:
    return Const(value & 0xFFFFFFFF, Ty("uint32", like.type.lanes))
