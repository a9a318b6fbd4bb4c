"""Loads of evenly spaced elements: whole vectors of all that lies between, then the lanes wanted.

An offset `splat(first) + iota * step` with a small constant step reaches over few vectors. To read
them and to pick the lanes takes a shuffle for each vector but the first; a gather takes an
instruction or more for each lane. Nothing is read but from the first to the last of the elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .irtext import BYTES, lanes_of
from .loops import Buffer, Const, Let, Value, Var

if TYPE_CHECKING:
    from .emit import Emitter


class Spaced(NamedTuple):
    """The offsets first, first + step, first + 2 * step, ..."""

    first: Value
    step: int


def spaced(offset: Value, lets: dict[Var, Let]) -> Spaced | None:
    """What a vector of offsets is, if it is a scalar and multiples of a constant."""
    terms = _arguments(offset, "add", lets)
    if len(terms) != 2:
        return None
    for x, y in (terms, terms[::-1]):
        first, factors = _arguments(x, "splat", lets), _arguments(y, "mul", lets)
        if not first or not factors:
            continue
        for number, step in (factors, factors[::-1]):
            iota = number in lets and lets[number].op == "iota"
            if iota and isinstance(step, Const):
                return Spaced(first[0], int(step.value))
    return None


def _arguments(value: Value, op: str, lets: dict[Var, Let]) -> Sequence[Value]:
    """The arguments of the operation that gives a value, if it is `op`."""
    made = lets.get(value) if type(value) is Var else None
    return made.args if made is not None and made.op == op else ()


def load(e: Emitter, buffer: Buffer, offset: Value) -> str | None:
    """The elements at a vector of offsets as whole vectors; None where that is not better."""
    found, lanes = spaced(offset, e.lets), offset.type.lanes
    size = BYTES[buffer.dtype]
    if found is None or not 1 <= abs(found.step) <= max(1, e.target.spaced(lanes, size)):
        return None
    step, span = abs(found.step), (lanes - 1) * abs(found.step) + 1
    places = [i * step for i in range(lanes)][:: 1 if found.step > 0 else -1]
    starts = [min(at, span - lanes) for at in range(0, span, lanes)]
    scalar = e.spell.memory(buffer.dtype)
    type = lanes_of(scalar, lanes)
    lowest = _plus(e, e.operand(found.first), min(0, found.step) * (lanes - 1))
    base = e.text.value(f"getelementptr {scalar}, ptr {e.buffers[buffer]}, {e.index} {lowest}")
    result, done = "", [False] * lanes
    for start in starts:
        address = e.text.value(f"getelementptr {scalar}, ptr {base}, {e.index} {start}")
        part = e.text.value(f"load {type}, ptr {address}, align {size}")
        wanted = [at - start if 0 <= at - start < lanes else None for at in places]
        result = _picked(e, type, result, part, done, wanted)
        done = [was or at is not None for was, at in zip(done, wanted)]
    return result


def _plus(e: Emitter, offset: str, more: int) -> str:
    return e.text.value(f"add {e.index} {offset}, {more}") if more else offset


def _picked(
    e: Emitter, type: str, before: str, part: str, done: list[bool], wanted: list[int | None]
) -> str:
    """The lanes done so far, and from `part` those that are wanted of it."""
    lanes = len(wanted)
    if not before:
        before, part, move = part, "poison", 0
    else:
        move = lanes
    mask = [
        "i32 poison" if at is None and not was else f"i32 {lane if at is None else at + move}"
        for lane, (at, was) in enumerate(zip(wanted, done))
    ]
    return e.text.value(
        f"shufflevector {type} {before}, {type} {part}, <{lanes} x i32> <{', '.join(mask)}>"
    )
