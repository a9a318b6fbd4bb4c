"""Cheap exact simplification of a kernel: folding, sharing, hoisting, removal of dead code.

No LLVM pass runs after this, so what a kernel repeats it pays for. One walk forward folds, shares
and hoists; one walk backward removes what nothing uses. Both are linear. Floating-point operations
are never reassociated, and loads never move: buffers may alias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .irtext import BYTES, KIND
from .loops import (
    COMPARE,
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
    Value,
    Var,
    While,
)


def simplify(kernel: Kernel) -> Kernel:
    """The same function of the same buffers and dims in fewer operations.

    Rewrite:
        integer operation on constants --> its value
        operation already done in this body or one around it --> its value
        operation on loop invariants --> in front of the loop; never out of an If, and never a
            division that might trap
        If on a constant --> the arm; For of no or one iteration --> nothing, or its body
        cast to integer, which saturates, of a minimum or maximum with what its range excludes
            --> the cast alone
        what has no effect and no use --> nothing
    """
    forward = _Forward()
    body = forward.scope(kernel.body, loop=False)[0]
    return kernel._replace(body=tuple(_Backward().body(body)))


class _Scope:
    """A body under construction: its statements, and the keys of `shared` that end with it."""

    __slots__ = ("out", "keys", "floor")

    def __init__(self, floor: int):
        self.out: list[Stmt] = []
        self.keys: list[Any] = []
        self.floor = floor  # the outermost level that a value of this scope may be hoisted to


class _Forward:
    """Folds, shares and hoists. A value's level is the index in `scopes` of the defining body."""

    def __init__(self) -> None:
        self.scopes: list[_Scope] = []
        self.level: dict[Var, int] = {}
        self.renamed: dict[Var, Value] = {}
        self.shared: dict[Any, Var] = {}
        self.limited: dict[Value, tuple[Value, str, float]] = {}  # x, "min" or "max", a number

    def atom(self, value: Value) -> Value:
        return self.renamed.get(value, value) if isinstance(value, Var) else value

    def open(self, loop: bool, variables: Sequence[Var] = ()) -> None:
        """Begin a body; values may leave a loop's, but not an If's."""
        here = len(self.scopes)
        self.scopes.append(_Scope(self.scopes[-1].floor if loop else here))
        self.define(variables)

    def close(self) -> tuple[Stmt, ...]:
        scope = self.scopes.pop()
        for key in scope.keys:
            del self.shared[key]
        return tuple(scope.out)

    def define(self, variables: Sequence[Var]) -> None:
        here = len(self.scopes) - 1
        for var in variables:
            self.level[var] = here

    def walk(self, stmts: Sequence[Stmt]) -> None:
        for stmt in stmts:
            _FORWARD[type(stmt)](self, stmt)

    def scope(
        self, stmts: Sequence[Stmt], loop: bool, variables: Sequence[Var] = ()
    ) -> tuple[tuple[Stmt, ...], int]:
        """A rebuilt body, and how many statements it has."""
        self.open(loop, variables)
        self.walk(stmts)
        body = self.close()
        return body, len(body)

    def emit(self, stmt: Stmt) -> None:
        self.scopes[-1].out.append(stmt)

    def let(self, stmt: Let) -> None:
        var, op, args, attr = stmt
        renamed, shared = self.renamed, self.shared
        args = tuple([renamed.get(a, a) if isinstance(a, Var) else a for a in args])
        if op in _FOLDS:
            value = _fold(op, args, var)
            if value is not None:
                renamed[var] = value
                return
        if op == "cast" and args[0] in self.limited:
            args = (self.unlimited(args[0], var.type.dtype),)
        key = (op, var.type, attr, *[a if isinstance(a, Var) else _key(a) for a in args])
        known = shared.get(key)
        if known is not None:
            renamed[var] = known
            return
        target = self.target(op, args)
        scope = self.scopes[target]
        scope.out.append(Let(var, op, args, attr))
        scope.keys.append(key)
        shared[key] = var
        self.level[var] = target
        if op in ("min", "max") and var.type.dtype == "float32":
            self.note_limit(var, op, args)

    def note_limit(self, var: Var, op: str, args: tuple[Value, ...]) -> None:
        """Remember a minimum or maximum with a number."""
        x, y = args if isinstance(args[1], Const) else reversed(args)
        if isinstance(y, Const) and y.value == y.value:
            self.limited[var] = (x, op, y.value)

    def unlimited(self, value: Value, dtype: str) -> Value:
        """The value without limits that a cast to an integer dtype sets as well."""
        while value in self.limited and KIND[dtype] in "iu":
            x, op, bound = self.limited[value]
            low, high = _range(dtype)
            if not (bound <= low if op == "max" else bound >= high - 1):
                break
            value = x
        return value

    def target(self, op: str, args: tuple[Value, ...]) -> int:
        """The outermost body the operation may move to."""
        here = len(self.scopes) - 1
        if op in ("div", "rem") and _may_trap(args):
            return here
        level = self.level
        outermost = self.scopes[here].floor
        for a in args:
            if isinstance(a, Var):
                depth = level.get(a, 0)
                if depth > outermost:
                    outermost = depth
        return outermost

    def load(self, stmt: Load) -> None:
        mask = None if stmt.mask is None else self.atom(stmt.mask)
        self.define([stmt.var])
        self.emit(Load(stmt.var, stmt.buffer, self.atom(stmt.offset), mask))

    def store(self, stmt: Store) -> None:
        mask = None if stmt.mask is None else self.atom(stmt.mask)
        offset, value = self.atom(stmt.offset), self.atom(stmt.value)
        self.emit(stmt._replace(offset=offset, value=value, mask=mask))

    def alloc(self, stmt: Alloc) -> None:
        self.emit(stmt)

    def fault(self, stmt: Fault) -> None:
        cond = self.atom(stmt.cond)
        if not (isinstance(cond, Const) and not cond.value):
            self.emit(Fault(cond, stmt.fault, tuple(map(self.atom, stmt.payload))))

    def prefetch(self, stmt: Prefetch) -> None:
        self.emit(stmt._replace(offset=self.atom(stmt.offset)))

    def poll(self, stmt: Poll) -> None:
        self.emit(Poll(self.atom(stmt.cost)))

    def for_(self, stmt: For) -> None:
        start, stop, step = map(self.atom, (stmt.start, stmt.stop, stmt.step))
        inits = [self.atom(c.init) for c in stmt.carries]
        turns = _turns(start, stop, step)
        if turns == 0:
            self.renamed.update((c.result, init) for c, init in zip(stmt.carries, inits))
        elif turns == 1:
            self.renamed[stmt.var] = start
            self.renamed.update((c.var, init) for c, init in zip(stmt.carries, inits))
            self.walk(stmt.body)
            self.renamed.update((c.result, self.atom(c.next)) for c in stmt.carries)
        else:
            body, carries = self.loop(stmt, [stmt.var], inits)
            self.emit(For(stmt.var, start, stop, step, body, carries, stmt.kind))

    def while_(self, stmt: While) -> None:
        inits = [self.atom(c.init) for c in stmt.carries]
        body, carries = self.loop(stmt, [], inits)
        self.emit(While(body, self.atom(stmt.cond), carries))

    def loop(
        self, stmt: For | While, variables: list[Var], inits: list[Value]
    ) -> tuple[tuple[Stmt, ...], tuple[Carry, ...]]:
        """The rebuilt body and carries of a loop; its results are defined in the body around it."""
        body, _ = self.scope(stmt.body, True, [*variables, *(c.var for c in stmt.carries)])
        self.define([c.result for c in stmt.carries])
        carries = tuple(
            Carry(c.var, init, self.atom(c.next), c.result) for c, init in zip(stmt.carries, inits)
        )
        return body, carries

    def if_(self, stmt: If) -> None:
        cond = self.atom(stmt.cond)
        if isinstance(cond, Const):
            self.walk(stmt.body if cond.value else stmt.orelse)
            self.renamed.update(
                (y.result, self.atom(y.then if cond.value else y.orelse)) for y in stmt.yields
            )
            return
        body, _ = self.scope(stmt.body, loop=False)
        orelse, _ = self.scope(stmt.orelse, loop=False)
        yields = tuple(
            y._replace(then=self.atom(y.then), orelse=self.atom(y.orelse)) for y in stmt.yields
        )
        self.define([y.result for y in yields])
        self.emit(If(cond, body, orelse, yields))


_FORWARD: dict[type, Callable[[_Forward, Any], None]] = {
    Let: _Forward.let,
    Load: _Forward.load,
    Store: _Forward.store,
    Alloc: _Forward.alloc,
    Fault: _Forward.fault,
    Prefetch: _Forward.prefetch,
    Poll: _Forward.poll,
    For: _Forward.for_,
    While: _Forward.while_,
    If: _Forward.if_,
}


def _key(value: Const) -> Any:
    """A constant as part of a key, equal only if the bits are: 0.0 == -0.0, but not here."""
    if type(value.value) is float:
        return (value.value.hex(), value.type)
    return value


def _may_trap(args: tuple[Value, ...]) -> bool:
    """Whether a division might: integers, by anything but a constant other than 0 and -1."""
    divisor = args[1]
    if KIND[divisor.type.dtype] == "f":
        return False
    return not (isinstance(divisor, Const) and divisor.value not in (0, -1))


def _turns(start: Value, stop: Value, step: Value) -> int | None:
    """0 or 1 for a loop known to run so many times, else None."""
    if not (isinstance(start, Const) and isinstance(stop, Const)):
        return None
    if stop.value <= start.value:
        return 0
    if isinstance(step, Const) and start.value + step.value >= stop.value:
        return 1
    return None


_INTEGER_FOLD: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "min": min,
    "max": max,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}
_COMPARE_FOLD: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
# op -> the right operand that changes nothing
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1, "or": 0, "xor": 0, "shl": 0, "shr": 0}
_COMMUTES = frozenset(("add", "mul", "or", "xor"))
_FOLDS = frozenset(("select", *_INTEGER_FOLD, *_COMPARE_FOLD, *_NEUTRAL))


def _fold(op: str, args: tuple[Value, ...], var: Var) -> Value | None:
    """What an operation on integers or bools is, if that is plain; None if it has to be done."""
    if op == "select":
        cond, yes, no = args
        if isinstance(cond, Const):
            return yes if cond.value else no
        return yes if yes is no else None
    if len(args) != 2 or KIND[args[0].type.dtype] not in "iub":
        return None
    x, y = args
    if isinstance(y, Const):
        if isinstance(x, Const):
            return _fold_constants(op, x, y, var)
        return _fold_neutral(op, x, y)
    if isinstance(x, Const) and op in _COMMUTES:
        return _fold_neutral(op, y, x)
    return None


def _fold_constants(op: str, x: Const, y: Const, var: Var) -> Const | None:
    if op in COMPARE:
        return Const(_COMPARE_FOLD[op](x.value, y.value), var.type)
    fold = _INTEGER_FOLD.get(op)
    if fold is None:
        return None
    value = fold(int(x.value), int(y.value))
    return Const(value, var.type) if _fits(value, var.type.dtype) else None


def _fold_neutral(op: str, x: Value, y: Const) -> Value | None:
    if op in _NEUTRAL and y.value == _NEUTRAL[op] and KIND[y.type.dtype] != "b":
        return x
    if op == "mul" and y.value == 0:
        return y
    return None


def _fits(value: int, dtype: str) -> bool:
    """Whether an integer of the dtype holds the value; an index may be as narrow as 32 bits."""
    if dtype == "bool":
        return value in (0, 1)
    low, high = _range(dtype)
    return low <= value < high


def _range(dtype: str) -> tuple[int, int]:
    """The smallest integer of a dtype, and the first that is too large."""
    bits = 32 if dtype == INDEX else 8 * BYTES[dtype]
    return (0, 1 << bits) if dtype[0] == "u" else (-(1 << bits - 1), 1 << bits - 1)


class _Backward:
    """Removes what has no effect and no use; `used` grows from the end of the kernel backward."""

    def __init__(self) -> None:
        self.used: set[Value] = set()

    def use(self, *values: Value | None) -> None:
        self.used.update(v for v in values if isinstance(v, Var))

    def body(self, stmts: Sequence[Stmt]) -> list[Stmt]:
        kept: list[Stmt] = []
        used = self.used
        for stmt in reversed(stmts):
            if isinstance(stmt, Let):
                if stmt.var in used:
                    used.update([a for a in stmt.args if isinstance(a, Var)])
                    kept.append(stmt)
            else:
                rebuilt = _BACKWARD[type(stmt)](self, stmt)
                if rebuilt is not None:
                    kept.append(rebuilt)
        kept.reverse()
        return kept

    def load(self, stmt: Load) -> Stmt | None:
        if stmt.var not in self.used:
            return None
        self.use(stmt.offset, stmt.mask)
        return stmt

    def store(self, stmt: Store) -> Stmt:
        self.use(stmt.offset, stmt.value, stmt.mask)
        return stmt

    def alloc(self, stmt: Alloc) -> Stmt:
        return stmt

    def fault(self, stmt: Fault) -> Stmt:
        self.use(stmt.cond, *stmt.payload)
        return stmt

    def prefetch(self, stmt: Prefetch) -> Stmt:
        self.use(stmt.offset)
        return stmt

    def poll(self, stmt: Poll) -> Stmt:
        self.use(stmt.cost)
        return stmt

    def for_(self, stmt: For) -> Stmt | None:
        body = self.loop(stmt)
        if body is None:
            return None
        self.use(stmt.start, stmt.stop, stmt.step)
        return stmt._replace(body=body)

    def while_(self, stmt: While) -> Stmt | None:
        body = self.loop(stmt, stmt.cond)
        return None if body is None else stmt._replace(body=body)

    def loop(self, stmt: For | While, cond: Value | None = None) -> tuple[Stmt, ...] | None:
        """The body without what is dead in it, or None if the whole loop is."""
        if not (_acts(stmt.body) or any(c.result in self.used for c in stmt.carries)):
            return None
        self.use(cond, *(c.next for c in stmt.carries))
        body = tuple(self.body(stmt.body))
        self.use(*(c.init for c in stmt.carries))
        return body

    def if_(self, stmt: If) -> Stmt | None:
        yields = tuple(y for y in stmt.yields if y.result in self.used)
        arms = (*stmt.body, *stmt.orelse)
        hints = any(isinstance(inner, Prefetch) for inner in arms)
        if not (yields or hints or _acts(arms)):
            return None
        self.use(stmt.cond)
        for y in yields:
            self.use(y.then, y.orelse)
        return If(stmt.cond, tuple(self.body(stmt.body)), tuple(self.body(stmt.orelse)), yields)


def _acts(stmts: Sequence[Stmt]) -> bool:
    """Whether a body writes memory or may leave the kernel."""
    waiting = [stmts]
    while waiting:
        for stmt in waiting.pop():
            if isinstance(stmt, (Store, Fault, Poll)):
                return True
            if isinstance(stmt, (For, While)):
                waiting.append(stmt.body)
            elif isinstance(stmt, If):
                waiting += [stmt.body, stmt.orelse]
    return False


_BACKWARD: dict[type, Callable[[_Backward, Any], Stmt | None]] = {
    Load: _Backward.load,
    Store: _Backward.store,
    Alloc: _Backward.alloc,
    Fault: _Backward.fault,
    Prefetch: _Backward.prefetch,
    Poll: _Backward.poll,
    For: _Backward.for_,
    While: _Backward.while_,
    If: _Backward.if_,
}
