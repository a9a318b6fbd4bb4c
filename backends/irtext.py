"""Writes textual LLVM IR: spellings of types and constants, and a function as a list of lines."""

from __future__ import annotations

import math
import struct
from typing import Any

from symgraph.errors import InternalError

from .loops import INDEX, Const, Ty

# kind: "b" bool, "i" signed, "u" unsigned, "f" float, "h" a 16-bit float, which stays in its bits
# (an i16): loads, selects and shuffles of it are integer operations everywhere, and only `half`
# turns it into a float.
KIND = {
    "bool": "b",
    **{f"int{n}": "i" for n in (8, 16, 32, 64)},
    **{f"uint{n}": "u" for n in (8, 16, 32, 64)},
    "float16": "h",
    "bfloat16": "h",
    "float32": "f",
    "float64": "f",
    INDEX: "i",
}
BYTES = {
    "bool": 1,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    **{f"{sign}int{n}": n // 8 for n in (8, 16, 32, 64) for sign in ("", "u")},
}
_SCALAR = {"bool": "i1", "float32": "float", "float64": "double"} | {
    name: f"i{8 * size}" for name, size in BYTES.items() if KIND[name] in "iuh"
}
_MANGLED = {"float": "f32", "double": "f64"}
QUIET_NAN = 0x7FF8000000000000


def float16_bits(value: float) -> int:
    """The binary16 bits nearest to `value` (ties to even); too large is infinite."""
    if math.isnan(value):
        return 0x7E00
    try:
        return struct.unpack("<H", struct.pack("<e", value))[0]
    except OverflowError:
        return 0x7C00 | (0x8000 if value < 0 else 0)


def float32_bits(value: float) -> int:
    """The binary32 bits nearest to `value` (ties to even); too large is infinite."""
    try:
        return struct.unpack("<I", struct.pack("<f", value))[0]
    except OverflowError:
        return 0x7F800000 | (0x80000000 if value < 0 else 0)


def bfloat16_bits(value: float) -> int:
    """The bfloat16 bits of `value`, rounded to float32 and then to bfloat16 as a cast is."""
    if math.isnan(value):
        return 0x7FC0
    bits = float32_bits(value)
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def _double_hex(value: float) -> str:
    if math.isnan(value):
        return f"0x{QUIET_NAN:016X}"
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _float32_hex(value: float) -> str:
    """LLVM spells a float constant as the hexadecimal double of the same value."""
    if math.isnan(value):
        return f"0x{QUIET_NAN:016X}"
    return _double_hex(struct.unpack("<f", struct.pack("<I", float32_bits(value)))[0])


def signed(value: int, bits: int) -> int:
    """`value` wrapped to `bits` bits, as a signed number (the one spelling LLVM always accepts)."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class _Types(dict[Ty, str]):
    """LLVM types by loop-IR type, spelled when first asked for."""

    def __init__(self, scalar: dict[str, str]):
        super().__init__()
        self._scalar = scalar

    def __missing__(self, ty: Ty) -> str:
        text = self[ty] = lanes_of(self._scalar[ty.dtype], ty.lanes)
        return text


class Spelling:
    """How types and constants are spelled for one pointer width."""

    def __init__(self, pointer_bits: int):
        self.pointer_bits = pointer_bits
        self.scalar = dict(_SCALAR) | {INDEX: f"i{pointer_bits}"}
        self.types: dict[Ty, str] = _Types(self.scalar)  # of values in registers
        self._literals: dict[tuple[type, Any, Ty], str] = {}

    def bits(self, dtype: str) -> int:
        """Width of one element in a register (bool: 1)."""
        if dtype == INDEX:
            return self.pointer_bits
        return 1 if dtype == "bool" else 8 * BYTES[dtype]

    def memory(self, dtype: str) -> str:
        """The LLVM type of one element in memory (bool: a byte)."""
        return "i8" if dtype == "bool" else self.scalar[dtype]

    def literal(self, const: Const) -> str:
        """A constant operand, splatted if its type is a vector."""
        value, ty = const
        if not value:  # 0.0 and -0.0 are equal as keys
            return self._spell(value, ty)
        key = (type(value), value, ty)
        text = self._literals.get(key)
        if text is None:
            text = self._literals[key] = self._spell(value, ty)
        return text

    def _spell(self, value: Any, ty: Ty) -> str:
        text = self._scalar_literal(value, ty.dtype)
        return text if ty.lanes == 1 else f"splat ({self.scalar[ty.dtype]} {text})"

    def _scalar_literal(self, value: Any, dtype: str) -> str:
        kind = KIND[dtype]
        if kind == "b":
            return "true" if value else "false"
        if kind in "iu":
            return str(signed(int(value), self.bits(dtype)))
        value = float(value)
        if dtype == "float32":
            return _float32_hex(value)
        if dtype == "float64":
            return _double_hex(value)
        return str(signed(float16_bits(value) if dtype == "float16" else bfloat16_bits(value), 16))


def lanes_of(scalar: str, lanes: int) -> str:
    """The LLVM type of `lanes` elements."""
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def splat(scalar: str, lanes: int, value: str) -> str:
    """The operand of `value` in every lane."""
    if lanes == 1:
        return value
    return "zeroinitializer" if value == "0" else f"splat ({scalar} {value})"


def mangled(scalar: str, lanes: int) -> str:
    """The suffix of an overloaded intrinsic: `f32`, `v8i16`."""
    name = _MANGLED.get(scalar, scalar)
    return name if lanes == 1 else f"v{lanes}{name}"


class Text:
    """One function under construction: lines in order, values and blocks numbered."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.slots: list[str] = []  # allocas, which belong in the entry block
        self.declarations: dict[str, str] = {}
        self.block = "entry"
        self._count = 0

    def value(self, instruction: str) -> str:
        """Append an instruction that gives a value; return its name."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Append an instruction that gives nothing."""
        self.lines.append("  " + instruction)

    def label(self, hint: str) -> str:
        """A fresh block name."""
        self._count += 1
        return f"{hint}{self._count}"

    def start(self, label: str) -> None:
        """Begin the block `label`; the one before must have ended."""
        self.lines.append(f"{label}:")
        self.block = label

    def jump(self, label: str) -> None:
        self.lines.append(f"  br label %{label}")

    def fork(self, cond: str, then: str, orelse: str, note: str = "") -> None:
        self.lines.append(f"  br i1 {cond}, label %{then}, label %{orelse}{note}")

    def reserve(self) -> str:
        """A fresh name whose defining line is added later (phis)."""
        self._count += 1
        return f"%v{self._count}"

    def slot(self, type: str, count: int, align: int) -> str:
        """A stack array in the entry block, so that a loop never grows the stack."""
        name = self.reserve()
        self.slots.append(f"  {name} = alloca {type}, i32 {count}, align {align}")
        return name

    def call(self, result: str, name: str, *args: tuple[str, str]) -> str:
        """Append a call to a function declared on first use; args are (type, operand)."""
        if name not in self.declarations:
            self.declarations[name] = f"declare {result} @{name}({', '.join(t for t, _ in args)})"
        operands = ", ".join(f"{t} {v}" for t, v in args)
        if result == "void":
            self.do(f"call void @{name}({operands})")
            return ""
        return self.value(f"call {result} @{name}({operands})")


def unsupported(what: str) -> InternalError:
    """The error for loop IR that the emitter has no instruction for."""
    return InternalError(f"emit: {what}")
