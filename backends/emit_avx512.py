"""What only AVX-512 has an instruction for: scaling by powers of two, tables in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .irtext import lanes_of
from .loops import Const, Let, Ty

if TYPE_CHECKING:
    from .emit import Emitter

WIDE, NARROW = 16, 8  # float32 lanes of the registers that are used
_ALL = "-1"  # lanes that a mask leaves on
_IN_FORCE = ("i32", "4")  # the rounding


def scaleb(e: Emitter, stmt: Let) -> str:
    """One vscalefps for each register."""

    def one(lanes: int, operands: Sequence[str]) -> str:
        vector, name = f"<{lanes} x float>", f"llvm.x86.avx512.mask.scalef.ps.{32 * lanes}"
        args = [(vector, x) for x in (*operands, "zeroinitializer")]
        rounding = [_IN_FORCE] if lanes == WIDE else []
        return e.text.call(vector, name, *args, (f"i{lanes}", _ALL), *rounding)

    lanes = stmt.var.type.lanes
    return _by_registers(e, lanes, [("float", e.operand(x)) for x in stmt.args], one)


def lookup(e: Emitter, stmt: Let) -> str:
    """One vpermps of a table that fills a register, or vpermi2ps of one that fills two."""
    entries = stmt.attr * (WIDE // len(stmt.attr))
    table = [f"float {e.spell.literal(Const(x, Ty('float32')))}" for x in entries]

    def one(lanes: int, operands: Sequence[str]) -> str:
        vector, index = f"<{lanes} x float>", (f"<{lanes} x i32>", operands[0])
        low, *high = (
            (vector, f"<{', '.join(table[i : i + lanes])}>") for i in range(0, WIDE, lanes)
        )
        name = "permvar.sf.512" if lanes == WIDE else "vpermi2var.ps.256"
        return e.text.call(vector, f"llvm.x86.avx512.{name}", low, index, *high)

    return _by_registers(e, stmt.var.type.lanes, [("i32", e.operand(stmt.args[0]))], one)


def _by_registers(
    e: Emitter,
    lanes: int,
    operands: Sequence[tuple[str, str]],
    one: Callable[[int, Sequence[str]], str],
) -> str:
    """A vector of float made register by register; fewer lanes than one has are its lowest.

    operands: (element type, name).
    """
    if lanes in (NARROW, WIDE):
        return one(lanes, [name for _, name in operands])
    if lanes == 1:
        wide = [_widened(e, scalar, name) for scalar, name in operands]
        return e.text.value(f"extractelement <{NARROW} x float> {one(NARROW, wide)}, i32 0")
    if lanes < NARROW:
        wide = [_part(e, scalar, lanes, name, 0, NARROW) for scalar, name in operands]
        return _part(e, "float", NARROW, one(NARROW, wide), 0, lanes)
    half = lanes // 2
    low, high = (
        _by_registers(e, half, [(s, _part(e, s, lanes, x, at, half)) for s, x in operands], one)
        for at in (0, half)
    )
    type = lanes_of("float", half)
    return e.text.value(f"shufflevector {type} {low}, {type} {high}, {_mask(range(lanes))}")


def _widened(e: Emitter, scalar: str, name: str) -> str:
    return e.text.value(f"insertelement {lanes_of(scalar, NARROW)} poison, {scalar} {name}, i32 0")


def _part(e: Emitter, scalar: str, lanes: int, name: str, start: int, count: int) -> str:
    """Lanes from `start` on; those behind the last one are anything."""
    type = lanes_of(scalar, lanes)
    mask = _mask([start + i if start + i < lanes else "poison" for i in range(count)])
    return e.text.value(f"shufflevector {type} {name}, {type} poison, {mask}")


def _mask(lanes: Sequence[int | str]) -> str:
    return f"<{len(lanes)} x i32> <{', '.join(f'i32 {i}' for i in lanes)}>"
