"""Loads and stores as LLVM IR; masked-off memory is never touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from . import emit_spaced
from .irtext import BYTES, lanes_of, mangled
from .loops import INDEX, Buffer, If, Let, Load, Prefetch, Stmt, Store, Ty, Value, Var

if TYPE_CHECKING:
    from .emit import Emitter


NONTEMPORAL = ", !nontemporal !1"
_ADDRESSED = (Load, Store, Prefetch)


def load(e: Emitter, stmt: Load) -> None:
    """Emit a Load; bool comes from bytes, anything but zero being true."""
    var, buffer, offset, mask = stmt
    dtype, lanes = var.type
    if lanes == 1 and mask is not None:
        name = _select_load(e, buffer, [e.operand(offset)], [e.operand(mask)])
    elif offset.type.lanes > 1:
        whole = emit_spaced.load(e, buffer, offset) if mask is None else None
        name = _gather(e, buffer, offset, mask) if whole is None else whole
    elif mask is not None:
        name = _masked_load(e, buffer, offset, mask)
    else:
        memory = lanes_of(e.spell.memory(dtype), lanes)
        address = _place(e, buffer, offset)
        name = e.text.value(f"load {memory}, ptr {address}, align {BYTES[dtype]}")
    if dtype == "bool":
        name = e.text.value(
            f"icmp ne {lanes_of('i8', lanes)} {name}, zeroinitializer"
            if lanes > 1
            else f"icmp ne i8 {name}, 0"
        )
    e.names[var] = name


def store(e: Emitter, stmt: Store) -> None:
    """Emit a Store; bool goes to memory as a byte, 0 or 1."""
    buffer, offset, value, mask, _ = stmt
    dtype, lanes = value.type
    memory = lanes_of(e.spell.memory(dtype), lanes)
    name = e.operand(value)
    if dtype == "bool":
        name = e.text.value(f"zext {lanes_of('i1', lanes)} {name} to {memory}")
    if lanes == 1 and mask is not None:
        _select_store(e, buffer, [e.operand(offset)], [name], [e.operand(mask)])
    elif offset.type.lanes > 1:
        _scatter(e, buffer, offset, name, mask)
    elif mask is not None:
        address = _place(e, buffer, offset)
        e.text.call(
            "void",
            f"llvm.masked.store.{mangled(e.spell.memory(dtype), lanes)}.p0",
            (memory, name),
            ("ptr", address),
            ("i32", str(BYTES[dtype])),
            (lanes_of("i1", lanes), e.operand(mask)),
        )
    else:
        address, align, note = _place(e, buffer, offset), BYTES[dtype], ""
        if stmt.stream:
            align, note = lanes * align, NONTEMPORAL
            e.streamed()
        e.text.do(f"store {memory} {name}, ptr {address}, align {align}{note}")


def prefetch(e: Emitter, stmt: Prefetch) -> None:
    """Emit a Prefetch, for what is read or written alike."""
    address = _place(e, stmt.buffer, stmt.offset)
    words = (("i32", "0"), ("i32", str(4 - stmt.level)), ("i32", "1"))  # to read, how near, data
    e.text.call("void", "llvm.prefetch.p0", ("ptr", address), *words)


def hoist(e: Emitter, body: Sequence[Stmt]) -> None:
    """In front of a loop: the fixed part of its addresses, where an offset is fixed + moving.

    What is left in the loop is one addressing mode, without LLVM's strength reduction, which takes
    a fifth of the time of a compilation to find the same.
    """
    sums: dict[Value, tuple[Value, ...]] = {}
    starts: dict[tuple[Buffer, Value], str] = {}
    for stmt in _straight(body):
        if type(stmt) is Let:
            if stmt.op == "add" and stmt.var.type == Ty(INDEX):
                sums[stmt.var] = stmt.args
        elif (
            isinstance(stmt, (Load, Store, Prefetch))
            and stmt.offset in sums
            and stmt.buffer in e.buffers
        ):
            buffer, offset = stmt.buffer, stmt.offset
            fixed, moving = sorted(sums[offset], key=lambda x: x not in e.names)
            if fixed in e.names and moving not in e.names and type(moving) is Var:
                start = (buffer, fixed)
                if start not in starts:
                    starts[start] = _address(e, e.buffers[buffer], buffer, e.operand(fixed))
                e.moved[buffer, offset] = (starts[start], moving)


def _straight(body: Sequence[Stmt]) -> Iterator[Stmt]:
    """Statements of a loop's body and of both arms of its branches, but of no loop inside."""
    for stmt in body:
        yield stmt
        if type(stmt) is If:
            yield from _straight(stmt.body)
            yield from _straight(stmt.orelse)


def _place(e: Emitter, buffer: Buffer, offset: Value) -> str:
    """The address of an element, by way of what was hoisted."""
    if e.integer(offset) == 0:
        return e.buffers[buffer]
    start, moving = e.moved.get((buffer, offset), (e.buffers[buffer], offset))
    return _address(e, start, buffer, e.operand(moving))


def _address(e: Emitter, start: str, buffer: Buffer, offset: str) -> str:
    memory = e.spell.memory(buffer.dtype)
    return e.text.value(f"getelementptr {memory}, ptr {start}, {e.index} {offset}")


def _masked_load(e: Emitter, buffer: Buffer, offset: Value, mask: Value) -> str:
    lanes = mask.type.lanes
    scalar = e.spell.memory(buffer.dtype)
    memory = lanes_of(scalar, lanes)
    return e.text.call(
        memory,
        f"llvm.masked.load.{mangled(scalar, lanes)}.p0",
        ("ptr", _place(e, buffer, offset)),
        ("i32", str(BYTES[buffer.dtype])),
        (lanes_of("i1", lanes), e.operand(mask)),
        (memory, "zeroinitializer"),
    )


def _gather(e: Emitter, buffer: Buffer, offset: Value, mask: Value | None) -> str:
    lanes, size = offset.type.lanes, BYTES[buffer.dtype]
    if not e.target.gather(size):
        return _select_load(e, buffer, _elements(e, offset), _elements(e, mask))
    scalar = e.spell.memory(buffer.dtype)
    memory, pointers = lanes_of(scalar, lanes), lanes_of("ptr", lanes)
    return e.text.call(
        memory,
        f"llvm.masked.gather.{mangled(scalar, lanes)}.v{lanes}p0",
        (pointers, _addresses(e, buffer, offset)),
        ("i32", str(size)),
        (lanes_of("i1", lanes), "splat (i1 true)" if mask is None else e.operand(mask)),
        (memory, "zeroinitializer"),
    )


def _scatter(e: Emitter, buffer: Buffer, offset: Value, name: str, mask: Value | None) -> None:
    lanes, size = offset.type.lanes, BYTES[buffer.dtype]
    scalar = e.spell.memory(buffer.dtype)
    memory = lanes_of(scalar, lanes)
    if not e.target.scatter(size):
        values = [e.text.value(f"extractelement {memory} {name}, i32 {i}") for i in range(lanes)]
        _select_store(e, buffer, _elements(e, offset), values, _elements(e, mask))
        return
    e.text.call(
        "void",
        f"llvm.masked.scatter.{mangled(scalar, lanes)}.v{lanes}p0",
        (memory, name),
        (lanes_of("ptr", lanes), _addresses(e, buffer, offset)),
        ("i32", str(size)),
        (lanes_of("i1", lanes), "splat (i1 true)" if mask is None else e.operand(mask)),
    )


def _addresses(e: Emitter, buffer: Buffer, offset: Value) -> str:
    return e.text.value(
        f"getelementptr {e.spell.memory(buffer.dtype)}, ptr {e.buffers[buffer]}, {e.typed(offset)}"
    )


def _elements(e: Emitter, vector: Value | None) -> list[str]:
    if vector is None:
        return []
    typed = e.typed(vector)
    return [
        e.text.value(f"extractelement {typed}, i32 {lane}") for lane in range(vector.type.lanes)
    ]


def _select_load(e: Emitter, buffer: Buffer, offsets: list[str], masks: list[str]) -> str:
    """One scalar load for each lane, without branches: a masked-off one reads a stack zero."""
    text, dtype = e.text, buffer.dtype
    scalar = e.spell.memory(dtype)
    memory = lanes_of(scalar, len(offsets))
    zero = e.zero_slot(dtype) if masks else ""
    result = "poison"
    for lane, offset in enumerate(offsets):
        address = _address(e, e.buffers[buffer], buffer, offset)
        if masks:
            address = text.value(f"select i1 {masks[lane]}, ptr {address}, ptr {zero}")
        name = text.value(f"load {scalar}, ptr {address}, align {BYTES[dtype]}")
        if len(offsets) == 1:
            return name
        result = text.value(f"insertelement {memory} {result}, {scalar} {name}, i32 {lane}")
    return result


def _select_store(
    e: Emitter, buffer: Buffer, offsets: list[str], values: list[str], masks: list[str]
) -> None:
    """One scalar store for each lane, in lane order; a masked-off one writes to the stack."""
    text, dtype = e.text, buffer.dtype
    spare = e.spare_slot(dtype) if masks else ""
    for lane, (offset, value) in enumerate(zip(offsets, values)):
        address = _address(e, e.buffers[buffer], buffer, offset)
        if masks:
            address = text.value(f"select i1 {masks[lane]}, ptr {address}, ptr {spare}")
        text.do(f"store {e.spell.memory(dtype)} {value}, ptr {address}, align {BYTES[dtype]}")
