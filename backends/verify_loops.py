"""Checks a kernel: types, arity, lanes, scopes, access, stack size, fault numbers.

LLVM aborts the process on invalid input, so what leaves the loop IR must be right; every stage that
makes or changes a kernel is checked here in tests and in debug mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from symgraph.errors import InternalError

from .irtext import BYTES, KIND
from .isa import INSTRUCTIONS
from .loops import (
    ARITY,
    COMPARE,
    INDEX,
    Alloc,
    Buffer,
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
from .loops_text import statement

MAX_LANES = 256
STACK_BYTES = 16 * 1024  # one Alloc
FRAME_BYTES = 64 * 1024  # all of a kernel: worker threads have small stacks
_LOOP_KINDS = ("serial", "parallel", "reduce")
_INDEX, _BOOL = Ty(INDEX), Ty("bool")

# Kinds (see irtext.KIND) of the args of ops whose args all have one type.
_KINDS = {
    op: kinds
    for kinds, ops in {
        "iuf": "add sub mul div rem min max",
        "iufh": "neg abs",
        "f": "fma sqrt floor ceil trunc roundeven copysign",
        "iub": "and or xor not",
        "iu": "shl shr popcount clz ctz",
        "iubf": "eq ne lt le gt ge",
    }.items()
    for op in ops.split()
}
_REDUCE_KINDS = dict.fromkeys("hsum hprod hmin hmax".split(), "iuf") | {"hand": "iub", "hor": "iub"}


def verify(kernel: Kernel) -> None:
    """Check a kernel.

    Raises: InternalError that shows the statement and what is wrong with it.
    """
    _Checker(kernel).run()


class _Fail(Exception):
    """What is wrong with a statement."""


class _Checker:
    """Walks a kernel once; `defined` holds what is in scope."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.defined: set[Var | Buffer] = set()
        self.frame = 0

    def run(self) -> None:
        kernel = self.kernel
        for buffer in kernel.buffers:
            if buffer.access not in ("r", "w", "rw") or buffer.dtype not in BYTES:
                self.fail(f"{buffer}: {buffer.dtype} {buffer.access}", "unknown dtype or access")
            self.define(buffer)
        for dim in kernel.dims:
            if dim.type != _INDEX:
                self.fail(repr(dim), f"a dim is an index, not {dim.type}")
            self.define(dim)
        self.scope(kernel.body)

    def fail(self, where: str, what: str) -> NoReturn:
        raise InternalError(f"verify {self.kernel.name}: {where}: {what}")

    def scope(
        self,
        body: Sequence[Stmt],
        variables: Iterable[Var] = (),
        leave: Callable[[], None] | None = None,
    ) -> None:
        """Check a body with `variables` in scope; `leave` runs while its values are still there."""
        before = set(self.defined)
        for var in variables:
            self.define(var)
        for stmt in body:
            check = _CHECKS.get(type(stmt))
            if check is None:
                self.fail(repr(stmt), "not a statement")
            try:
                check(self, stmt)
            except _Fail as fault:
                self.fail(statement(stmt), str(fault))
        if leave is not None:
            leave()
        self.defined = before

    def define(self, name: Var | Buffer) -> None:
        if name in self.defined:
            raise _Fail(f"{name} is defined twice")
        if isinstance(name, Var):
            _check_type(name.type)
        self.defined.add(name)

    def use(self, value: Value, wanted: Ty | None = None) -> Ty:
        """The type of an atom in scope, compared with `wanted`."""
        if isinstance(value, Const):
            _check_const(value)
        elif not isinstance(value, Var):
            raise _Fail(f"{value!r} is not a value")
        elif value not in self.defined:
            raise _Fail(f"{value} is used where it is not defined")
        if wanted is not None and value.type != wanted:
            raise _Fail(f"{value!r} is {value.type}, expected {wanted}")
        return value.type

    def let(self, stmt: Let) -> None:
        var, op, args, attr = stmt
        if op != "call" and op not in ARITY:
            raise _Fail(f"unknown op {op!r}")
        if op != "call" and len(args) != ARITY[op]:
            raise _Fail(f"{op} takes {ARITY[op]} args, got {len(args)}")
        types = [self.use(a) for a in args]
        if op in _KINDS:
            _check_uniform(op, types, var.type)
        else:
            _LET_CHECKS[op](types, var.type, attr)
        self.define(var)

    def load(self, stmt: Load) -> None:
        self.address(stmt.buffer, stmt.offset, stmt.mask, stmt.var.type)
        self.define(stmt.var)

    def store(self, stmt: Store) -> None:
        if stmt.buffer.access == "r":
            raise _Fail(f"{stmt.buffer} is read only")
        self.address(stmt.buffer, stmt.offset, stmt.mask, self.use(stmt.value))
        whole = stmt.mask is None and stmt.offset.type.lanes == 1 and stmt.value.type.lanes > 1
        if stmt.stream and not whole:
            raise _Fail("only whole vectors in order go past the caches")

    def address(self, buffer: Buffer, offset: Value, mask: Value | None, ty: Ty) -> None:
        if buffer not in self.defined:
            raise _Fail(f"{buffer} is not declared here")
        if ty.dtype != buffer.dtype:
            raise _Fail(f"{buffer} holds {buffer.dtype}, not {ty.dtype}")
        where = self.use(offset)
        if where.dtype != INDEX or where.lanes not in (1, ty.lanes):
            raise _Fail(f"offset is {where}, expected index with 1 or {ty.lanes} lanes")
        if mask is not None:
            self.use(mask, Ty("bool", ty.lanes))

    def for_(self, stmt: For) -> None:
        for bound in (stmt.start, stmt.stop, stmt.step):
            self.use(bound, _INDEX)
        if isinstance(stmt.step, Const) and stmt.step.value < 1:
            raise _Fail("step is not positive")
        if stmt.kind not in _LOOP_KINDS:
            raise _Fail(f"unknown kind {stmt.kind!r}")
        if stmt.var.type != _INDEX:
            raise _Fail(f"the loop variable is {stmt.var.type}, expected index")
        self.loop(stmt.body, [stmt.var], stmt.carries)

    def while_(self, stmt: While) -> None:
        self.loop(stmt.body, [], stmt.carries, stmt.cond)

    def loop(
        self,
        body: Sequence[Stmt],
        variables: list[Var],
        carries: Sequence[Carry],
        cond: Value | None = None,
    ) -> None:
        for carry in carries:
            self.use(carry.init, carry.var.type)
            if carry.result.type != carry.var.type:
                raise _Fail(f"{carry.result} is {carry.result.type}, carried {carry.var.type}")

        def leave() -> None:
            for carry in carries:
                self.use(carry.next, carry.var.type)
            if cond is not None:
                self.use(cond, _BOOL)

        self.scope(body, [*variables, *(c.var for c in carries)], leave)
        for carry in carries:
            self.define(carry.result)

    def if_(self, stmt: If) -> None:
        self.use(stmt.cond, _BOOL)

        def leave(arm: str) -> None:
            for y in stmt.yields:
                self.use(getattr(y, arm), y.result.type)

        self.scope(stmt.body, leave=lambda: leave("then"))
        self.scope(stmt.orelse, leave=lambda: leave("orelse"))
        for y in stmt.yields:
            self.define(y.result)

    def alloc(self, stmt: Alloc) -> None:
        dtype, access = stmt.buffer.dtype, stmt.buffer.access
        if dtype not in BYTES or access != "rw":
            raise _Fail(f"{dtype} {access} cannot be on the stack")
        size = stmt.elements * BYTES[dtype]
        self.frame += size
        if not 0 < size <= STACK_BYTES or self.frame > FRAME_BYTES:
            raise _Fail(
                f"{size} bytes ({self.frame} in all): at most {STACK_BYTES} ({FRAME_BYTES})"
            )
        self.define(stmt.buffer)

    def fault(self, stmt: Fault) -> None:
        self.use(stmt.cond, _BOOL)
        if not 0 <= stmt.fault < len(self.kernel.faults):
            raise _Fail(f"there are {len(self.kernel.faults)} faults")
        if len(stmt.payload) > 2:
            raise _Fail("at most two payloads")
        for value in stmt.payload:
            ty = self.use(value)
            if ty.lanes != 1 or KIND[ty.dtype] not in "iu":
                raise _Fail(f"payload {value!r} is {ty}, expected an integer")

    def prefetch(self, stmt: Prefetch) -> None:
        self.address(stmt.buffer, stmt.offset, None, Ty(stmt.buffer.dtype))
        if not 1 <= stmt.level <= 3:
            raise _Fail(f"level {stmt.level} of the caches: 1 to 3")

    def poll(self, stmt: Poll) -> None:
        self.use(stmt.cost, _INDEX)


def _check_type(ty: Ty) -> None:
    if ty.dtype not in KIND:
        raise _Fail(f"unknown dtype {ty.dtype!r}")
    if not 1 <= ty.lanes <= MAX_LANES or ty.lanes & (ty.lanes - 1):
        raise _Fail(f"{ty.lanes} lanes: expected a power of two up to {MAX_LANES}")


def _check_const(const: Const) -> None:
    _check_type(const.type)
    kind, value = KIND[const.type.dtype], const.value
    if kind == "b":
        fits = value in (0, 1)
    elif kind in "iu":
        bits = 8 * BYTES.get(const.type.dtype, 8)
        fits = value == int(value) and -(1 << bits - 1) <= value < 1 << bits
    else:
        fits = isinstance(value, (int, float))
    if not fits:
        raise _Fail(f"{value!r} is no {const.type.dtype}")


def _expect(got: Any, wanted: Any, what: str) -> None:
    if got != wanted:
        raise _Fail(f"{what} is {got}, expected {wanted}")


def _check_kind(ty: Ty, kinds: str) -> None:
    if KIND[ty.dtype] not in kinds:
        raise _Fail(f"not an operation on {ty.dtype}")


def _check_uniform(op: str, types: list[Ty], result: Ty) -> None:
    """All args of one type; the result too, or bool for a comparison."""
    _check_kind(types[0], _KINDS[op])
    for ty in types[1:]:
        _expect(ty, types[0], "arg")
    _expect(result, Ty("bool", types[0].lanes) if op in COMPARE else types[0], "result")


def _select(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(types, [Ty("bool", result.lanes), result, result], "args")


def _cast(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(result.lanes, types[0].lanes, "lanes of result")


def _fastcast(types: list[Ty], result: Ty, attr: Any) -> None:
    _cast(types, result, attr)
    _check_kind(types[0], "f")
    _check_kind(result, "iu")


def _bitcast(types: list[Ty], result: Ty, attr: Any) -> None:
    for ty in (types[0], result):
        if ty.dtype not in BYTES or ty.dtype == "bool":
            raise _Fail(f"{ty.dtype} has no fixed bits")
    have, want = (ty.lanes * BYTES[ty.dtype] for ty in (types[0], result))
    _expect(have, want, "size in bytes")


def _splat(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(types[0], Ty(result.dtype), "arg")


def _ahead(types: list[Ty], result: Ty, attr: Any) -> None:
    buffer, lanes = attr if isinstance(attr, tuple) and len(attr) == 2 else (None, 0)
    if result != _INDEX or not isinstance(buffer, Buffer) or not 1 <= lanes <= MAX_LANES:
        raise _Fail(f"ahead takes a buffer and lanes and gives an index, not {attr} and {result}")


def _iota(types: list[Ty], result: Ty, attr: Any) -> None:
    _check_kind(result, "iu")


def _extract(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(result, Ty(types[0].dtype), "result")
    _check_lane(attr, types[0])


def _insert(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(types, [result, Ty(result.dtype)], "args")
    _check_lane(attr, result)


def _check_lane(lane: Any, ty: Ty) -> None:
    if not isinstance(lane, int) or not 0 <= lane < ty.lanes or ty.lanes == 1:
        raise _Fail(f"no lane {lane!r} in {ty}")


def _scaleb(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(result.dtype, "float32", "result")
    _expect(types, [result, result], "args")


def _lookup(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(types, [Ty("uint32", result.lanes)], "args")
    _expect(result.dtype, "float32", "result")
    entries = attr if isinstance(attr, tuple) else ()
    if len(entries) not in (1, 2, 4, 8, 16) or not all(isinstance(x, float) for x in entries):
        raise _Fail(f"no table: {attr!r}")


def _zip(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(types, [result, result], "args")
    if result.lanes == 1:
        raise _Fail("a scalar has no halves")


def _reverse(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(result, types[0], "result")


def _swap(types: list[Ty], result: Ty, attr: Any) -> None:
    _expect(result, types[0], "result")
    if result.lanes % 2:
        raise _Fail(f"the lanes of {result} are no pairs")


def _horizontal(kinds: str) -> Callable[[list[Ty], Ty, Any], None]:
    def check(types: list[Ty], result: Ty, attr: Any) -> None:
        _check_kind(types[0], kinds)
        _expect(result, Ty(types[0].dtype), "result")

    return check


def _call(types: list[Ty], result: Ty, attr: Any) -> None:
    if not isinstance(attr, str) or not types:
        raise _Fail("a call names a function and has args")
    for ty in types:
        _expect(ty, result, "arg")


def _dot(types: list[Ty], result: Ty, attr: Any) -> None:
    kind = INSTRUCTIONS.get(attr)
    if kind is None:
        raise _Fail(f"no instruction {attr!r}")
    wide = kind.group * result.lanes
    _expect(types, [Ty(kind.total, result.lanes), Ty(kind.x, wide), Ty(kind.y, wide)], "args")
    _expect(result, types[0], "result")


_LET_CHECKS: dict[str, Callable[[list[Ty], Ty, Any], None]] = {
    "select": _select,
    "cast": _cast,
    "fastcast": _fastcast,
    "bitcast": _bitcast,
    "splat": _splat,
    "iota": _iota,
    "ahead": _ahead,
    "extract": _extract,
    "insert": _insert,
    "reverse": _reverse,
    "swap": _swap,
    "scaleb": _scaleb,
    "lookup": _lookup,
    "ziplo": _zip,
    "ziphi": _zip,
    "call": _call,
    "dot": _dot,
    **{op: _horizontal(kinds) for op, kinds in _REDUCE_KINDS.items()},
}

_CHECKS: dict[type, Callable[[_Checker, Any], None]] = {
    Let: _Checker.let,
    Load: _Checker.load,
    Store: _Checker.store,
    For: _Checker.for_,
    While: _Checker.while_,
    If: _Checker.if_,
    Alloc: _Checker.alloc,
    Fault: _Checker.fault,
    Prefetch: _Checker.prefetch,
    Poll: _Checker.poll,
}
