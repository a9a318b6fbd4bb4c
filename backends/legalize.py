"""Rewrites a kernel into operations its target has, so that nothing would be a library call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import fallback, isa, vmath
from .irtext import BYTES, KIND
from .known import Known
from .loops import (
    Block,
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
    Ty,
    Value,
    Var,
    While,
)
from .simplify_loops import simplify
from .targets import Target


def legalize(kernel: Kernel, target: Target) -> Kernel:
    """The kernel in operations that `target` has, simplified.

    Rewrite: `call` --> the function's expansion; `fma` --> mul and add where there is no
    instruction; float `rem` --> an exact expansion; what `fallback` knows (half casts, rounding,
    division) --> its expansion; `dot` --> its meaning, where there is no such instruction.
    """
    return simplify(kernel._replace(body=_Legalizer(target).body(kernel.body)))


class _Legalizer:
    """Rebuilds statements; `renamed` maps what an expansion has replaced to its value."""

    def __init__(self, target: Target):
        self.target = target
        self.renamed: dict[Var, Value] = {}
        self.names = [0]
        self.known = Known()

    def atom(self, value: Value) -> Value:
        return self.renamed.get(value, value) if isinstance(value, Var) else value

    def atoms(self, values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(map(self.atom, values))

    def body(self, stmts: Sequence[Stmt]) -> tuple[Stmt, ...]:
        out: list[Stmt] = []
        for stmt in stmts:
            if isinstance(stmt, Let):
                self.let(stmt, out)
            else:
                rebuild = _REBUILD.get(type(stmt))
                out.append(rebuild(self, stmt) if rebuild else stmt)
        return tuple(out)

    def let(self, stmt: Let, out: list[Stmt]) -> None:
        stmt = stmt._replace(args=self.atoms(stmt.args))
        block = Block(self.names)
        value = self.expansion(stmt, block)
        if value is None:
            self.known.note(stmt)
            out.append(stmt)
            return
        out.extend(self.body(block.stmts))
        self.renamed[stmt.var] = self.atom(value)

    def expansion(self, stmt: Let, b: Block) -> Value | None:
        """Build in `b` what stands for the statement; None if it may stay."""
        op, args = stmt.op, stmt.args
        if op == "call":
            return vmath.expand(b, stmt.attr, *args, target=self.target, known=self.known)
        if op == "dot":
            has = isa.form(stmt.attr, stmt.var.type.lanes, self.target)
            return None if has else isa.INSTRUCTIONS[stmt.attr].meaning(b, *args)
        if op in ("eq", "ne") and BYTES.get(args[0].type.dtype) == 8:
            x, y = args
            return self.narrow(op, x, y, b) or self.narrow(op, y, x, b)
        if op == "fma" and not self.target.has_fma:
            return b.let("add", b.let("mul", args[0], args[1]), args[2])
        if op == "rem" and KIND[args[0].type.dtype] == "f":
            return vmath.expand(b, "fmod", *args, target=self.target)
        build = fallback.expansion(stmt, self.target)
        return None if build is None else build(b, *args)

    def narrow(self, op: str, same: Value, counted: Value, b: Block) -> Value | None:
        """A 64-bit number compared with lanes that count up from another, in 32 bits.

        What is compared is how far apart the two are, or the number of lanes if that is more.
        """
        lanes = same.type.lanes
        number, first = self.known.uniform(same), self.known.consecutive(counted, wide=True)
        if lanes == 1 or number is None or first is None or KIND[same.type.dtype] == "f":
            return None
        apart = b.let("sub", b.cast(number, "uint64"), b.cast(first, "uint64"))
        apart = b.let("min", apart, Const(lanes, Ty("uint64")))
        near = b.splat(b.cast(apart, "uint32"), lanes)
        return b.let(op, near, b.let("iota", type=Ty("uint32", lanes)))

    def load(self, stmt: Load) -> Load:
        mask = None if stmt.mask is None else self.atom(stmt.mask)
        return stmt._replace(offset=self.atom(stmt.offset), mask=mask)

    def store(self, stmt: Store) -> Store:
        mask = None if stmt.mask is None else self.atom(stmt.mask)
        return stmt._replace(offset=self.atom(stmt.offset), value=self.atom(stmt.value), mask=mask)

    def for_(self, stmt: For) -> For:
        start, stop, step = map(self.atom, (stmt.start, stmt.stop, stmt.step))
        carries = [c._replace(init=self.atom(c.init)) for c in stmt.carries]
        self.known.loop(stmt.var, start, step)
        body = self.body(stmt.body)
        carried = tuple(c._replace(next=self.atom(c.next)) for c in carries)
        return For(stmt.var, start, stop, step, body, carried, stmt.kind)

    def while_(self, stmt: While) -> While:
        carries = [c._replace(init=self.atom(c.init)) for c in stmt.carries]
        body = self.body(stmt.body)
        carried = tuple(c._replace(next=self.atom(c.next)) for c in carries)
        return While(body, self.atom(stmt.cond), carried)

    def if_(self, stmt: If) -> If:
        body, orelse = self.body(stmt.body), self.body(stmt.orelse)
        yields = tuple(
            y._replace(then=self.atom(y.then), orelse=self.atom(y.orelse)) for y in stmt.yields
        )
        return If(self.atom(stmt.cond), body, orelse, yields)

    def fault(self, stmt: Fault) -> Fault:
        return Fault(self.atom(stmt.cond), stmt.fault, self.atoms(stmt.payload))

    def prefetch(self, stmt: Prefetch) -> Prefetch:
        return stmt._replace(offset=self.atom(stmt.offset))

    def poll(self, stmt: Poll) -> Poll:
        return Poll(self.atom(stmt.cost))


_REBUILD: dict[type, Callable[[_Legalizer, Any], Stmt]] = {
    Load: _Legalizer.load,
    Store: _Legalizer.store,
    For: _Legalizer.for_,
    While: _Legalizer.while_,
    If: _Legalizer.if_,
    Fault: _Legalizer.fault,
    Prefetch: _Legalizer.prefetch,
    Poll: _Legalizer.poll,
}
