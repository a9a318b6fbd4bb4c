"""Loop IR to textual LLVM IR, one statement at a time: functions, control flow, faults and polls.

Every kernel becomes
    i32 NAME(ptr context, ptr buffer..., index dim...)
where index is an integer of pointer width and the context begins with
    byte 0   i64   poll budget, counted down by `Poll`
    byte 8   ptr   poll function, i32 (ptr context), or null; 8 bytes on 32-bit targets too
    byte 16  i64   first payload of the fault that stopped the kernel
    byte 24  i64   second payload
Buffers may alias (a plan may compute in place), so no parameter is `noalias`. A loop is emitted
rotated (one branch for each iteration) with its carries as phis; no LLVM pass has to clean up after
us.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .emit_memory import hoist, load, prefetch, store
from .emit_ops import let
from .irtext import BYTES, KIND, Spelling, Text, unsupported
from .loops import (
    INDEX,
    INTERRUPTED,
    Alloc,
    Buffer,
    Const,
    Fault,
    For,
    If,
    Kernel,
    Let,
    Load,
    Poll,
    Prefetch,
    Stmt,
    Store,
    Value,
    Var,
    While,
)
from .targets import Target

BUDGET, POLL, PAYLOAD = 0, 8, (16, 24)  # byte offsets in the context
CONTEXT_BYTES = 32
FAR = (1 << 63) - 1  # the budget where nobody is to be asked

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.$]*\Z")
_UNLIKELY = ", !prof !0"
_WEIGHTS = '!0 = !{!"branch_weights", i32 1, i32 4000}'
_STREAMS = "!1 = !{i32 1}"


def emit(kernel: Kernel, target: Target) -> str:
    """The LLVM module of one kernel, as text, for `target`.

    The kernel must have passed `verify` and `legalize`. The text depends on the kernel's structure
    only, not on the names of its values, so that equal kernels have equal text.

    Raises: InternalError for an operation that has no instruction here.
    """
    return emit_module([kernel], target)


def emit_module(kernels: Sequence[Kernel], target: Target) -> str:
    """One LLVM module with several kernels; their names must differ."""
    functions, declarations, notes = [], {}, []
    for kernel in kernels:
        emitter = Emitter(kernel, target)
        functions.append(emitter.function())
        if emitter.streams is not None:
            notes = [_STREAMS]
        declarations.update(emitter.text.declarations)
    header = f'target triple = "{target.triple}"\n'
    return "\n".join([header, *functions, *declarations.values(), _WEIGHTS, *notes, ""])


class Emitter:
    """The state while one kernel is emitted: names of values, decided integers, text so far."""

    def __init__(self, kernel: Kernel, target: Target):
        if not _NAME.match(kernel.name):
            raise unsupported(f"kernel name {kernel.name!r} is not an identifier")
        self.kernel = kernel
        self.target = target
        self.text = Text()
        self.spell = Spelling(target.pointer_bits)
        self.index = self.spell.scalar[INDEX]
        self.names: dict[Var, str] = {}
        self.known: dict[Var, int] = {}  # scalar integers whose value is decided
        self.buffers: dict[Buffer, str] = {}
        self.moved: dict[tuple[Buffer, Value], tuple[str, Value]] = {}  # see emit_memory.hoist
        self.lets: dict[Var, Let] = {}  # of vectors of offsets
        self._slots: dict[tuple[str, str], str] = {}
        self.held: list[Value | None] = []  # conditions of the arms that are open
        self.streams: list[Value | None] | None = None  # see `streamed`
        self._exits: list[str] = []  # blocks that leave the kernel, kept out of the hot path

    def function(self) -> str:
        """The text of the kernel's function."""
        kernel, text = self.kernel, self.text
        parameters = ["ptr %context"]
        for i, buffer in enumerate(kernel.buffers):
            self.buffers[buffer] = f"%b{i}"
            parameters.append(f"ptr %b{i}")
        for i, dim in enumerate(kernel.dims):
            self.names[dim] = f"%d{i}"
            parameters.append(f"{self.index} %d{i}")
        self.body(kernel.body)
        self._drain()
        text.do("ret i32 0")
        lines = [
            f"define i32 @{kernel.name}({', '.join(parameters)}) nounwind {{",
            "entry:",
            *text.slots,
            *text.lines,
            *self._exits,
            "}",
        ]
        return "\n".join(lines) + "\n"

    def body(self, stmts: Sequence[Stmt]) -> None:
        """Emit statements in order."""
        for stmt in stmts:
            _EMIT[type(stmt)](self, stmt)

    def streamed(self) -> None:
        """A store goes past the caches here; keeps the conditions under which all of them do."""
        held = self.held if self.streams is None else self.streams
        self.streams = [cond for cond in held if cond in self.held]

    def _drain(self) -> None:
        """What went past the caches is there before anybody is told so.

        The fence takes as long as the call of a short kernel: it is left out where the size, which
        is compared before any loop, says that nothing went.
        """
        if self.streams is None:
            return
        text, first = self.text, {stmt.var for stmt in self.kernel.body if type(stmt) is Let}
        cond = next((cond for cond in self.streams if cond in first), None)
        if cond is None:
            text.do("fence seq_cst")
            return
        wait, over = text.label("drain"), text.label("drained")
        text.fork(self.operand(cond), wait, over)
        text.start(wait)
        text.do("fence seq_cst")
        text.jump(over)
        text.start(over)

    def operand(self, value: Value) -> str:
        """The text of an atom as an operand, without its type."""
        if type(value) is Const:
            return self.spell.literal(value)
        return self.names[value]  # type: ignore[index]

    def typed(self, value: Value) -> str:
        """The text of an atom with its type."""
        return f"{self.spell.types[value.type]} {self.operand(value)}"

    def integer(self, value: Value) -> int | None:
        """The value of a scalar integer atom if it is decided, else None."""
        if type(value) is Const:
            return int(value.value)
        return self.known.get(value)  # type: ignore[arg-type]

    def bind(self, var: Var, value: Value) -> None:
        """`var` is another name of `value`."""
        self.names[var] = self.operand(value)
        if KIND[var.type.dtype] in "iu" and var.type.lanes == 1:
            known = self.integer(value)
            if known is not None:
                self.known[var] = known

    def context(self, byte: int) -> str:
        """The address of a field of the context."""
        if byte == 0:
            return "%context"
        return self.text.value(f"getelementptr i8, ptr %context, i32 {byte}")

    def wide(self, value: Value) -> str:
        """An integer atom extended to i64."""
        bits, text = self.spell.bits(value.type.dtype), self.operand(value)
        if bits == 64:
            return text
        extend = "sext" if KIND[value.type.dtype] == "i" else "zext"
        return self.text.value(f"{extend} i{bits} {text} to i64")

    def for_(self, loop: For) -> None:
        """A counted loop: guarded unless it surely runs, straight-line if it runs once."""
        start, stop, step = (self.integer(v) for v in (loop.start, loop.stop, loop.step))
        if start is None or stop is None:
            self._loop(loop, certain=False)
        elif start >= stop:
            for carry in loop.carries:
                self.bind(carry.result, carry.init)
        elif step is not None and start + step >= stop:
            self._once(loop)
        else:
            self._loop(loop, certain=True)

    def _once(self, loop: For) -> None:
        self.bind(loop.var, loop.start)
        for carry in loop.carries:
            self.bind(carry.var, carry.init)
        self.body(loop.body)
        for carry in loop.carries:
            self.bind(carry.result, carry.next)

    def _loop(self, loop: For, certain: bool) -> None:
        text, index = self.text, self.index
        start, stop, step = (self.operand(v) for v in (loop.start, loop.stop, loop.step))
        hoist(self, loop.body)
        before, body, after = text.block, text.label("loop"), text.label("done")
        if certain:
            text.jump(body)
        else:
            text.fork(text.value(f"icmp slt {index} {start}, {stop}"), body, after)
        text.start(body)
        phis = self._open_phis([loop.var, *(c.var for c in loop.carries)])
        self.body(loop.body)
        again = text.value(f"add {index} {self.names[loop.var]}, {step}")
        more = text.value(f"icmp slt {index} {again}, {stop}")
        latch = text.block
        text.fork(more, body, after)
        inits = [start, *(self.operand(c.init) for c in loop.carries)]
        nexts = [again, *(self.operand(c.next) for c in loop.carries)]
        self._close_phis(phis, before, inits, latch, nexts)
        text.start(after)
        for carry, init, next in zip(loop.carries, inits[1:], nexts[1:]):
            if certain:
                self.names[carry.result] = next
            else:
                type = self.spell.types[carry.result.type]
                self.names[carry.result] = text.value(
                    f"phi {type} [ {init}, %{before} ], [ {next}, %{latch} ]"
                )

    def while_(self, loop: While) -> None:
        """A loop that tests at its end."""
        text = self.text
        before, body, after = text.block, text.label("loop"), text.label("done")
        text.jump(body)
        text.start(body)
        phis = self._open_phis([c.var for c in loop.carries])
        self.body(loop.body)
        latch = text.block
        text.fork(self.operand(loop.cond), body, after)
        inits = [self.operand(c.init) for c in loop.carries]
        nexts = [self.operand(c.next) for c in loop.carries]
        self._close_phis(phis, before, inits, latch, nexts)
        text.start(after)
        for carry, next in zip(loop.carries, nexts):
            self.names[carry.result] = next

    def _open_phis(self, variables: list[Var]) -> list[tuple[int, str, str]]:
        """Name the loop's variables and leave a line for each, filled when the latch is known."""
        phis = []
        for var in variables:
            self.names[var] = name = self.text.reserve()
            phis.append((len(self.text.lines), name, self.spell.types[var.type]))
            self.text.lines.append("")
        return phis

    def _close_phis(
        self,
        phis: list[tuple[int, str, str]],
        before: str,
        inits: list[str],
        latch: str,
        nexts: list[str],
    ) -> None:
        for (line, name, type), init, next in zip(phis, inits, nexts):
            self.text.lines[line] = (
                f"  {name} = phi {type} [ {init}, %{before} ], [ {next}, %{latch} ]"
            )

    def if_(self, stmt: If) -> None:
        """Two arms that meet in phis."""
        text = self.text
        before, then, after = text.block, text.label("then"), text.label("meet")
        orelse = text.label("else") if stmt.orelse else after
        text.fork(self.operand(stmt.cond), then, orelse)
        ends = [before, before]
        for i, (label, body) in enumerate([(then, stmt.body), (orelse, stmt.orelse)]):
            if label is not after:
                text.start(label)
                self.held.append(None if i else stmt.cond)
                self.body(body)
                self.held.pop()
                ends[i] = text.block
                text.jump(after)
        text.start(after)
        for result, then_value, else_value in stmt.yields:
            self.names[result] = text.value(
                f"phi {self.spell.types[result.type]} [ {self.operand(then_value)}, %{ends[0]} ], "
                f"[ {self.operand(else_value)}, %{ends[1]} ]"
            )

    def alloc(self, stmt: Alloc) -> None:
        """A stack array, aligned for full vectors."""
        dtype = stmt.buffer.dtype
        align = max(16, self.target.vector_bytes)
        self.buffers[stmt.buffer] = self.text.slot(self.spell.memory(dtype), stmt.elements, align)

    def fault(self, stmt: Fault) -> None:
        """Leave the kernel with 1 + fault if the condition holds, storing the payloads."""
        text = self.text
        cond, leave, go_on = self.operand(stmt.cond), text.label("fault"), text.label("go")
        text.fork(cond, leave, go_on, _UNLIKELY)
        hot, text.lines = text.lines, self._exits
        text.start(leave)
        for byte, value in zip(PAYLOAD, stmt.payload):
            text.do(f"store i64 {self.wide(value)}, ptr {self.context(byte)}, align 8")
        text.do(f"ret i32 {1 + stmt.fault}")
        text.lines = hot
        text.start(go_on)

    def poll(self, stmt: Poll) -> None:
        """Charge the budget; ask when it is used up; leave if the answer is no."""
        text = self.text
        budget = text.value("load i64, ptr %context, align 8")
        left = text.value(f"sub i64 {budget}, {self.wide(stmt.cost)}")
        text.do(f"store i64 {left}, ptr %context, align 8")
        ask, go_on = text.label("ask"), text.label("go")
        text.fork(text.value(f"icmp slt i64 {left}, 0"), ask, go_on, _UNLIKELY)
        hot, text.lines = text.lines, self._exits
        text.start(ask)
        self._ask(go_on)
        text.lines = hot
        text.start(go_on)

    def _ask(self, go_on: str) -> None:
        """Call the poll function, if there is one: it renews the budget and may refuse."""
        text = self.text
        call, nobody, leave = text.label("call"), text.label("nobody"), text.label("stop")
        host = text.value(f"load ptr, ptr {self.context(POLL)}, align 8")
        text.fork(text.value(f"icmp eq ptr {host}, null"), nobody, call)
        text.start(call)
        answer = text.value(f"call i32 {host}(ptr %context)")
        text.fork(text.value(f"icmp eq i32 {answer}, 0"), go_on, leave)
        text.start(nobody)
        text.do(f"store i64 {FAR}, ptr %context, align 8")
        text.jump(go_on)
        text.start(leave)
        text.do(f"ret i32 {INTERRUPTED}")

    def zero_slot(self, dtype: str) -> str:
        """The address of a zero element on the stack: where masked-off lanes read."""
        key = ("zero", dtype)
        if key not in self._slots:
            memory = self.spell.memory(dtype)
            slot = self._slots[key] = self.text.slot(memory, 1, BYTES[dtype])
            zero = "0.0" if KIND[dtype] == "f" else "0"
            self.text.slots.append(f"  store {memory} {zero}, ptr {slot}, align {BYTES[dtype]}")
        return self._slots[key]

    def spare_slot(self, dtype: str) -> str:
        """The address of a stack element that nobody reads: where masked-off lanes write."""
        key = ("spare", dtype)
        if key not in self._slots:
            self._slots[key] = self.text.slot(self.spell.memory(dtype), 1, BYTES[dtype])
        return self._slots[key]


_EMIT: dict[type, Callable[[Emitter, Any], None]] = {
    Let: let,
    Load: load,
    Store: store,
    Prefetch: prefetch,
    For: Emitter.for_,
    If: Emitter.if_,
    While: Emitter.while_,
    Alloc: Emitter.alloc,
    Fault: Emitter.fault,
    Poll: Emitter.poll,
}
