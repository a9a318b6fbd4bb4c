"""Casts as LLVM instructions, from any dtype to any; float to integer truncates and saturates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .irtext import KIND, lanes_of, mangled, signed, splat
from .loops import Const, Let

if TYPE_CHECKING:
    from .emit import Emitter


def cast(e: Emitter, stmt: Let) -> str:
    """Emit a numeric conversion that the target has (`fallback` has taken the others)."""
    (x,) = stmt.args
    source, wanted = x.type.dtype, stmt.var.type.dtype
    if source == wanted:
        return e.operand(x)
    return _CASTS[KIND[source], KIND[wanted]](e, stmt)


def convert(e: Emitter, stmt: Let, instruction: str) -> str:
    """One conversion instruction from the arg's type to the result's."""
    return e.text.value(f"{instruction} {e.typed(stmt.args[0])} to {e.spell.types[stmt.var.type]}")


def _to_bool(e: Emitter, stmt: Let) -> str:
    (x,) = stmt.args
    is_float = KIND[x.type.dtype] == "f"
    zero = "zeroinitializer" if x.type.lanes > 1 else "0.0" if is_float else "0"
    return e.text.value(f"{'fcmp une' if is_float else 'icmp ne'} {e.typed(x)}, {zero}")


def _integer_to_integer(e: Emitter, stmt: Let) -> str:
    (x,) = stmt.args
    have, want = e.spell.bits(x.type.dtype), e.spell.bits(stmt.var.type.dtype)
    if have == want:
        return e.operand(x)
    extend = "sext" if KIND[x.type.dtype] == "i" else "zext"
    return convert(e, stmt, "trunc" if have > want else extend)


def _float_to_integer(e: Emitter, stmt: Let) -> str:
    """Truncate and saturate. Narrow results go through 32 bits, which every target has."""
    (x,) = stmt.args
    dtype, lanes = stmt.var.type
    if e.target.is_x86 and lanes > 1:
        return _clamp_to_integer(e, stmt)
    sign = "u" if KIND[dtype] == "u" else "s"
    bits = e.spell.bits(dtype)
    width = max(bits, 32)
    type, scalar = lanes_of(f"i{width}", lanes), e.spell.scalar[x.type.dtype]
    name = f"llvm.fpto{sign}i.sat.{mangled(f'i{width}', lanes)}.{mangled(scalar, lanes)}"
    wide = e.text.call(type, name, (e.spell.types[x.type], e.operand(x)))
    if bits == width:
        return wide
    low, high = _limits(dtype, bits)
    suffix = mangled("i32", lanes)
    for bound, clamp in ((high, "min"), (low, "max")):
        if not (sign == "u" and clamp == "max"):
            limit = splat("i32", lanes, str(bound))
            wide = e.text.call(type, f"llvm.{sign}{clamp}.{suffix}", (type, wide), (type, limit))
    return e.text.value(f"trunc {type} {wide} to {e.spell.types[stmt.var.type]}")


def _limits(dtype: str, bits: int) -> tuple[int, int]:
    """Smallest and largest integer of a dtype."""
    if KIND[dtype] == "u":
        return 0, (1 << bits) - 1
    return -(1 << bits - 1), (1 << bits - 1) - 1


def _clamp_to_integer(e: Emitter, stmt: Let) -> str:
    """A saturating vector cast on x86, where LLVM goes lane by lane: clamp, convert, mend.

    `select(x > bound, x, bound)` is one instruction there and gives the bound for NaN. Where the
    largest integer is no float, what is above the largest float below it is mended after the
    conversion.
    """
    (x,) = stmt.args
    dtype, lanes = stmt.var.type
    bits, unsigned = e.spell.bits(dtype), KIND[dtype] == "u"
    low, high = _limits(dtype, bits)
    precision = 24 if x.type.dtype == "float32" else 53
    below = high >> max(0, high.bit_length() - precision) << max(0, high.bit_length() - precision)
    float_type, mask = e.spell.types[x.type], lanes_of("i1", lanes)
    name = given = e.operand(x)
    for order, bound in (("ogt", low), ("olt", below)):
        limit = e.operand(Const(float(bound), x.type))
        inside = e.text.value(f"fcmp {order} {float_type} {name}, {limit}")
        name = e.text.value(f"select {mask} {inside}, {float_type} {name}, {float_type} {limit}")
    width = max(bits, 32)
    wide = lanes_of(f"i{width}", lanes)
    convert = "fptoui" if unsigned and bits >= 32 else "fptosi"
    name = e.text.value(f"{convert} {float_type} {name} to {wide}")
    mends = [] if below == high else [("oge", e.operand(Const(float(high + 1), x.type)), high)]
    mends += [] if unsigned else [("uno", given, 0)]
    for order, other, result in mends:
        wrong = e.text.value(f"fcmp {order} {float_type} {given}, {other}")
        value = splat(f"i{width}", lanes, str(signed(result, width)))
        name = e.text.value(f"select {mask} {wrong}, {wide} {value}, {wide} {name}")
    if bits == width:
        return name
    return e.text.value(f"trunc {wide} {name} to {e.spell.types[stmt.var.type]}")


def _float_to_float(e: Emitter, stmt: Let) -> str:
    return convert(e, stmt, "fpext" if stmt.var.type.dtype == "float64" else "fptrunc")


def _half_to_float(e: Emitter, stmt: Let) -> str:
    """float16 bits to float32 by the target's instruction; `fallback` has taken the other cases."""
    lanes = stmt.var.type.lanes
    half = lanes_of("half", lanes)
    bits = e.text.value(f"bitcast {e.typed(stmt.args[0])} to {half}")
    return e.text.value(f"fpext {half} {bits} to {e.spell.types[stmt.var.type]}")


def _float_to_half(e: Emitter, stmt: Let) -> str:
    half = lanes_of("half", stmt.var.type.lanes)
    rounded = e.text.value(f"fptrunc {e.typed(stmt.args[0])} to {half}")
    return e.text.value(f"bitcast {half} {rounded} to {e.spell.types[stmt.var.type]}")


_CASTS: dict[tuple[str, str], Callable[[Emitter, Let], str]] = {
    ("b", "f"): lambda e, s: convert(e, s, "uitofp"),
    ("i", "f"): lambda e, s: convert(e, s, "sitofp"),
    ("u", "f"): lambda e, s: convert(e, s, "uitofp"),
    ("f", "f"): _float_to_float,
    ("f", "b"): _to_bool,
    ("h", "f"): _half_to_float,
    ("f", "h"): _float_to_half,
}
for _integer in "iu":
    _CASTS["b", _integer] = lambda e, s: convert(e, s, "zext")
    _CASTS["f", _integer] = _float_to_integer
    _CASTS[_integer, "b"] = _to_bool
    for _other in "iu":
        _CASTS[_integer, _other] = _integer_to_integer


def fastcast(e: Emitter, stmt: Let) -> str:
    """Emit a truncation of floats that fit."""
    return convert(e, stmt, "fptoui" if KIND[stmt.var.type.dtype] == "u" else "fptosi")
