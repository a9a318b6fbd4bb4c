"""The readable form of a kernel: a line for each statement, types where a value is born."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .loops import (
    INDEX,
    Alloc,
    Carry,
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

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "rem": "%",
    "and": "&",
    "or": "|",
    "xor": "^",
    "shl": "<<",
    "shr": ">>",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}


def to_text(kernel: Kernel) -> str:
    """The kernel as text.

    Example:
        kernel scale(@x: float32 r, @y: float32 w; n)
          for i1 in 0..n step 8 parallel:
            v2: float32x8 = @x[i1]
            t3 = v2 * 2.0
            @y[i1] = t3
    """
    buffers = ", ".join(f"{b}: {b.dtype} {b.access}" for b in kernel.buffers)
    dims = ", ".join(d.name for d in kernel.dims)
    lines = [f"kernel {kernel.name}({buffers}; {dims})"]
    lines += [f"  fault {i}: {message}" for i, message in enumerate(kernel.faults)]
    lines += _body(kernel.body, "  ")
    return "\n".join(lines) + "\n"


def statement(stmt: Stmt) -> str:
    """The first line of one statement, without what is nested in it."""
    return next(_lines(stmt, ""))


def _body(stmts: Sequence[Stmt], indent: str) -> Iterator[str]:
    for stmt in stmts:
        yield from _lines(stmt, indent)


def _lines(stmt: Stmt, indent: str) -> Iterator[str]:
    if isinstance(stmt, For):
        step = "" if _is(stmt.step, 1) else f" step {_atom(stmt.step)}"
        kind = "" if stmt.kind == "serial" else f" {stmt.kind}"
        span = f"{_atom(stmt.start)}..{_atom(stmt.stop)}"
        yield f"{indent}for {stmt.var.name} in {span}{step}{kind}{_carried(stmt.carries)}:"
        yield from _nested(stmt.body, stmt.carries, indent)
    elif isinstance(stmt, While):
        yield f"{indent}do{_carried(stmt.carries)}:"
        yield from _nested(stmt.body, stmt.carries, indent, f"while {_atom(stmt.cond)}")
    elif isinstance(stmt, If):
        yield from _if(stmt, indent)
    else:
        yield indent + _SIMPLE[type(stmt)](stmt)


def _nested(
    body: Sequence[Stmt], carries: Sequence[Carry], indent: str, last: str = ""
) -> Iterator[str]:
    yield from _body(body, indent + "  ")
    if carries:
        results = ", ".join(c.result.name for c in carries)
        nexts = ", ".join(_atom(c.next) for c in carries)
        yield f"{indent}  next {nexts} -> {results}"
    if last:
        yield f"{indent}  {last}"


def _if(stmt: If, indent: str) -> Iterator[str]:
    yield f"{indent}if {_atom(stmt.cond)}:"
    arms = [
        (stmt.body, [y.then for y in stmt.yields]),
        (stmt.orelse, [y.orelse for y in stmt.yields]),
    ]
    for i, (body, values) in enumerate(arms):
        if i == 1 and (body or values):
            yield f"{indent}else:"
        yield from _body(body, indent + "  ")
        if values:
            results = ", ".join(y.result.name for y in stmt.yields)
            yield f"{indent}  give {', '.join(map(_atom, values))} -> {results}"


def _carried(carries: Sequence[Carry]) -> str:
    if not carries:
        return ""
    return " with " + ", ".join(f"{_typed(c.var)} = {_atom(c.init)}" for c in carries)


def _is(value: Value, number: int) -> bool:
    return isinstance(value, Const) and value.value == number


def _atom(value: Value) -> str:
    if isinstance(value, Var):
        return value.name
    if value.type.dtype in (INDEX, "bool", "float32"):  # the types that need no saying
        return repr(value.value)
    return f"{value.value!r}:{Ty(value.type.dtype)}"


def _typed(var: Var) -> str:
    return var.name if var.type == Ty(INDEX) else f"{var.name}: {var.type}"


def _let(stmt: Let) -> str:
    args = [_atom(a) for a in stmt.args]
    if stmt.op in _INFIX and len(args) == 2:
        right = f"{args[0]} {_INFIX[stmt.op]} {args[1]}"
    else:
        name = stmt.op if stmt.attr is None else f"{stmt.op}[{stmt.attr}]"
        right = f"{name}({', '.join(args)})"
    return f"{_typed(stmt.var)} = {right}"


def _masked(mask: Value | None) -> str:
    return "" if mask is None else f" where {_atom(mask)}"


_SIMPLE = {
    Let: _let,
    Load: lambda s: f"{_typed(s.var)} = {s.buffer}[{_atom(s.offset)}]{_masked(s.mask)}",
    Store: lambda s: (
        f"{s.buffer}[{_atom(s.offset)}] = {_atom(s.value)}{_masked(s.mask)}"
        + (" past the caches" if s.stream else "")
    ),
    Alloc: lambda s: f"alloc {s.buffer}: {s.buffer.dtype}[{s.elements}]",
    Fault: lambda s: f"fault {s.fault} if {_atom(s.cond)} ({', '.join(map(_atom, s.payload))})",
    Prefetch: lambda s: f"prefetch {s.buffer}[{_atom(s.offset)}] to L{s.level}",
    Poll: lambda s: f"poll {_atom(s.cost)}",
}
