"""What becomes of operations that a target has no instruction for: loop IR in ones that it has.

Wherever LLVM would call a library (libm's floorf and fmod, libgcc's 64-bit helpers, half
conversions), an expansion stands here instead, so that compiled code needs no library. `emit`
applies it in place; the interpreter runs the expansions themselves in their tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from . import half, wide
from .irtext import BYTES, KIND
from .loops import Block, Const, Let, Ty, Value
from .targets import Target

Expansion = Callable[..., Value]  # (block, *args) -> the result


def expansion(stmt: Let, target: Target) -> Expansion | None:
    """How to build `stmt` from operations that `target` has, or None if it has this one."""
    choose = OPS.get(stmt.op)
    return choose(stmt, target) if choose is not None else None


def _cast(stmt: Let, target: Target) -> Expansion | None:
    source, wanted = stmt.args[0].type.dtype, stmt.var.type.dtype
    if source == wanted:
        return None
    kinds = KIND[source] + KIND[wanted]
    if "h" in kinds:
        direct = {source, wanted} == {"float16", "float32"} and target.f16_convert
        return None if direct else _half_cast(wanted, target)
    if target.pointer_bits == 64 or "f" not in kinds:
        return None
    if source in ("int64", "uint64"):
        return lambda b, x: wide.to_float(b, x, wanted)
    if wanted in ("int64", "uint64"):
        return lambda b, x: wide.to_integer(b, x, wanted)
    return None


def _round(stmt: Let, target: Target) -> Expansion | None:
    return None if target.has_rounding else _ROUND[stmt.op]


def _divide(stmt: Let, target: Target) -> Expansion | None:
    dtype, lanes = stmt.args[0].type
    if KIND[dtype] == "f":
        return _float_remainder(target) if stmt.op == "rem" else None
    size = BYTES.get(dtype, target.pointer_bits // 8)
    if size == 8:
        if target.pointer_bits == 64:
            return None
        return wide.divide if stmt.op == "div" else wide.remainder
    # no target divides vectors of integers: LLVM would go lane by lane
    fast = lanes > 1 and target.cheap_f64_vectors and (target.is_x86 or size <= 2)
    if target.has_i32_division and not fast:
        return None
    return divide_by_float if stmt.op == "div" else remainder_by_float


def divide_by_float(b: Block, x: Value, y: Value) -> Value:
    """x / y of integers up to 32 bits, truncating.

    A float quotient twice as wide is never rounded up to an integer.
    """
    wide_enough = "float32" if BYTES.get(x.type.dtype, 4) <= 2 else "float64"
    quotient = b.let("div", b.cast(x, wide_enough), b.cast(y, wide_enough))
    return b.cast(quotient, x.type.dtype, op="fastcast")


def remainder_by_float(b: Block, x: Value, y: Value) -> Value:
    """x % y of integers up to 32 bits, with the sign of x."""
    return b.let("sub", x, b.let("mul", divide_by_float(b, x, y), y))


def roundeven(b: Block, x: Value) -> Value:
    """Nearest integer, ties to even: adding 2**(p-1) leaves no bits for a fraction."""
    magnitude = b.let("abs", x)
    big = Const(2.0**23 if x.type.dtype == "float32" else 2.0**52, x.type)
    rounded = b.let("sub", b.let("add", magnitude, big), big)
    whole = b.let("select", b.let("lt", magnitude, big), rounded, magnitude)
    return b.let("copysign", whole, x)


def floor(b: Block, x: Value) -> Value:
    """Largest integer not above x."""
    near = roundeven(b, x)
    lower = b.let("sub", near, Const(1.0, x.type))
    return b.let("select", b.let("gt", near, x), lower, near)


def ceil(b: Block, x: Value) -> Value:
    """Smallest integer not below x; -0.0 for x in (-1, 0)."""
    near = roundeven(b, x)
    upper = b.let("add", near, Const(1.0, x.type))
    return b.let("copysign", b.let("select", b.let("lt", near, x), upper, near), x)


def trunc(b: Block, x: Value) -> Value:
    """Integer part of x, with its sign."""
    return b.let("copysign", floor(b, b.let("abs", x)), x)


def scaleb(b: Block, x: Value, y: Value) -> Value:
    """x * 2**floor(y) of float32: exact in float64, so that the last cast is the one rounding."""
    lanes = x.type.lanes
    low, high = (Const(v, Ty("float64", lanes)) for v in (-400.0, 400.0))
    wide_y = b.cast(y, "float64")
    near = b.let("select", b.let("lt", wide_y, low), low, wide_y)
    near = b.let("floor", b.let("select", b.let("gt", near, high), high, near))
    power = b.let("add", b.cast(b.cast(near, "int32"), "int64"), Const(1023, Ty("int64", lanes)))
    factor = b.let("shl", power, Const(52, Ty("int64", lanes)))
    factor = b.let("bitcast", factor, type=Ty("float64", lanes))
    scaled = b.cast(b.let("mul", b.cast(x, "float64"), factor), "float32")
    infinite = b.let("mul", x, y)  # infinity, or NaN for a zero
    scaled = b.let("select", b.let("eq", y, Const(math.inf, y.type)), infinite, scaled)
    return b.let("select", b.let("ne", y, y), y, scaled)


def _lookup(stmt: Let, target: Target) -> Expansion | None:
    return None if target.has_lookup else partial(lookup, stmt.attr)


def lookup(entries: Sequence[float], b: Block, index: Value) -> Value:
    """The entry at each index modulo their number, chosen bit by bit."""
    ty = Ty("float32", index.type.lanes)
    values: list[Value] = [Const(x, ty) for x in entries]
    bit = 1
    while len(values) > 1:
        one = b.let("and", index, Const(bit, index.type))
        odd = b.let("ne", one, Const(0, index.type))
        values = [b.let("select", odd, y, x) for x, y in zip(values[::2], values[1::2])]
        bit *= 2
    return values[0]


def _float_remainder(target: Target) -> Expansion:
    """C's fmod, which no target has an instruction for."""

    def expand(b: Block, x: Value, y: Value) -> Value:
        from . import vmath  # here: most kernels need none of its tables

        return vmath.expand(b, "fmod", x, y, target=target)

    return expand


def _half_cast(dtype: str, target: Target) -> Expansion:
    return lambda b, x: half.expand_cast(b, x, dtype, target)


_ROUND: dict[str, Expansion] = {
    "floor": floor,
    "ceil": ceil,
    "trunc": trunc,
    "roundeven": roundeven,
}
OPS = {
    "cast": _cast,
    "fastcast": _cast,
    "div": _divide,
    "rem": _divide,
    "scaleb": lambda stmt, target: None if target.has_scaleb else scaleb,
    "lookup": _lookup,
    **dict.fromkeys(_ROUND, _round),
}
