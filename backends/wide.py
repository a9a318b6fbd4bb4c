"""64-bit integer division and casts for 32-bit targets, without a library.

On Armv7 LLVM turns these into calls (`__aeabi_ldivmod`, `__aeabi_l2f`, `__aeabi_d2lz` ...), which
compiled code must not need. All results are those of the instruction on a 64-bit machine: casts to
float round once, to nearest even; casts to integer truncate and saturate, NaN -> 0.
"""

from __future__ import annotations

from .loops import Block, Const, Ty, Value

_TWO32 = 4294967296.0


def divide(b: Block, x: Value, y: Value) -> Value:
    """x / y of int64 or uint64, truncating; y is not zero."""
    return _signed(b, x, y)[0]


def remainder(b: Block, x: Value, y: Value) -> Value:
    """x % y of int64 or uint64, with the sign of x; y is not zero."""
    return _signed(b, x, y)[1]


def _signed(b: Block, x: Value, y: Value) -> tuple[Value, Value]:
    if x.type.dtype == "uint64":
        return _shift_subtract(b, x, y)
    zero = Const(0, x.type)
    x_negative, y_negative = b.let("lt", x, zero), b.let("lt", y, zero)
    magnitudes = (b.cast(b.let("abs", v), "uint64") for v in (x, y))
    quotient, rest = (b.cast(v, "int64") for v in _shift_subtract(b, *magnitudes))
    differ = b.let("xor", x_negative, y_negative)
    return (
        b.let("select", differ, b.let("neg", quotient), quotient),
        b.let("select", x_negative, b.let("neg", rest), rest),
    )


def _shift_subtract(b: Block, x: Value, y: Value) -> tuple[Value, Value]:
    """Restoring division, one bit each turn; a scalar skips the leading zeros of the dividend."""
    one, zero, top = (Const(v, x.type) for v in (1, 0, 63))
    steps: Value = b.index(64)
    dividend = x
    if x.type.lanes == 1:
        skipped = b.let("min", b.let("clz", x), top)
        dividend = b.let("shl", x, skipped)
        steps = b.let("sub", steps, b.cast(skipped, "index"))
    with b.loop(0, steps, carries=[dividend, zero]) as body:
        quotient, rest = body.carried
        next_bit = body.let("shr", quotient, top)
        lost = body.let("ne", body.let("shr", rest, top), zero)  # the bit that 64 bits cannot hold
        doubled = body.let("or", body.let("shl", rest, one), next_bit)
        fits = body.let("or", lost, body.let("ge", doubled, y))
        shifted = body.let("shl", quotient, one)
        body.next(
            body.let("select", fits, body.let("or", shifted, one), shifted),
            body.let("select", fits, body.let("sub", doubled, y), doubled),
        )
    return body.results[0], body.results[1]


def to_float(b: Block, x: Value, dtype: str) -> Value:
    """int64 or uint64 as a float: both halves are exact in float64 and their sum rounds once."""
    lanes = x.type.lanes
    high_type = "int32" if x.type.dtype == "int64" else "uint32"
    high = b.cast(b.cast(b.let("shr", x, Const(32, x.type)), high_type), "float64")
    low = b.cast(b.cast(x, "uint32"), "float64")
    high = b.let("mul", high, Const(_TWO32, Ty("float64", lanes)))
    total = b.let("add", high, low)
    if dtype == "float64":
        return total
    error = b.let("sub", low, b.let("sub", total, high))  # exact: |high| >= low, or high is zero
    return b.cast(_towards_odd(b, total, error), "float32")


def _towards_odd(b: Block, x: Value, error: Value) -> Value:
    """`x`, rounded from x + error, moved to the neighbour with an odd last bit if inexact."""
    zero = Const(0.0, x.type)
    bits = b.cast(x, "int64", op="bitcast")
    even = b.let("eq", b.let("and", bits, Const(1, bits.type)), Const(0, bits.type))
    adjust = b.let("and", b.let("ne", error, zero), even)
    inside = b.let("ne", b.let("lt", error, zero), b.let("lt", x, zero))
    step = b.let("select", inside, Const(-1, bits.type), Const(1, bits.type))
    moved = b.cast(b.let("add", bits, step), "float64", op="bitcast")
    return b.let("select", adjust, moved, x)


def to_integer(b: Block, x: Value, dtype: str) -> Value:
    """float32 or float64 as int64 or uint64, truncating and saturating."""
    x = b.cast(x, "float64")
    lanes = x.type.lanes
    f64, wanted = Ty("float64", lanes), Ty(dtype, lanes)
    magnitude = b.let("abs", x)
    high = b.cast(b.let("mul", magnitude, Const(1 / _TWO32, f64)), "uint32")
    above = b.let("mul", b.cast(high, "float64"), Const(_TWO32, f64))
    low = b.cast(b.let("sub", magnitude, above), "uint32")
    upper = b.let("shl", b.cast(high, dtype), Const(32, wanted))
    value: Value = b.let("or", upper, b.cast(low, dtype))
    negative = b.let("lt", x, Const(0.0, f64))
    flipped: Value
    if dtype == "uint64":
        limit, smallest, largest, flipped = 2.0**64, 0, 2**64 - 1, Const(0, wanted)
    else:
        limit, smallest, largest, flipped = 2.0**63, -(2**63), 2**63 - 1, b.let("neg", value)
    value = b.let("select", negative, flipped, value)
    too_low = b.let("le", x, Const(-limit, f64))
    value = b.let("select", too_low, Const(smallest, wanted), value)
    return b.let("select", b.let("ge", x, Const(limit, f64)), Const(largest, wanted), value)
