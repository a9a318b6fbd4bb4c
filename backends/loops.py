"""The loop IR on one screen: typed loop nests over flat buffers, and the builder that makes them.

A kernel is a tree of statements. Values are in A-normal form: every `Let` names one operation on
atoms (`Var` or `Const`), so printing, checking, interpreting and emitting are one case per
statement and nothing is recomputed by accident. Types are `Ty(dtype, lanes)`: `lanes == 1` is a
scalar, more is a vector; dtypes are the language's own names (signedness is part of the type) plus
"index", an integer of the target's pointer width.

    kernel   = Kernel(name, buffers, dims, body, faults)
               -> i32: 0, or 1 + the index of the fault that stopped it
    stmt     = Let | Load | Store | Prefetch | For | If | While | Alloc | Fault | Poll
    value    = Var | Const
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

INDEX = "index"


class Ty(NamedTuple):
    """Type of a value: element dtype and number of lanes."""

    dtype: str
    lanes: int = 1

    def __str__(self) -> str:
        return self.dtype if self.lanes == 1 else f"{self.dtype}x{self.lanes}"


class Var:
    """One named value; identity is the object, the name is for people."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: Ty):
        self.name = name
        self.type = type

    def __repr__(self) -> str:
        return f"%{self.name}"


class Const(NamedTuple):
    """A literal, splatted to every lane. `value` is a Python bool, int, float."""

    value: Any
    type: Ty

    def __repr__(self) -> str:
        return f"{self.value!r}"


Value = Var | Const


class Buffer:
    """A flat array argument of a kernel, or a small stack array (`Alloc`).

    Offsets count elements, not bytes.

    access: "r" read only, "w" written before it is read, "rw" both.
    """

    __slots__ = ("name", "dtype", "access")

    def __init__(self, name: str, dtype: str, access: str = "r"):
        self.name = name
        self.dtype = dtype
        self.access = access

    def __repr__(self) -> str:
        return f"@{self.name}"


class Let(NamedTuple):
    """var = op(*args).

    `attr` is the name for `call` and `dot`, the lane for `extract` and `insert`, the entries for
    `lookup`, the buffer and a number of lanes for `ahead`, else None.
    """

    var: Var
    op: str
    args: tuple[Value, ...]
    attr: Any = None


class Load(NamedTuple):
    """var = buffer[offset].

    A vector var with a scalar offset reads `lanes` consecutive elements; with a vector offset it
    gathers. `mask` (bool, same lanes) leaves masked-off elements untouched in memory and zero in
    the register. A bool in memory is one byte, 0 or 1.
    """

    var: Var
    buffer: Buffer
    offset: Value
    mask: Value | None = None


class Store(NamedTuple):
    """buffer[offset] = value, the same addressing as Load (a vector offset scatters).

    stream: past the caches; a whole vector in order, at an address that is a multiple of its size.
    """

    buffer: Buffer
    offset: Value
    value: Value
    mask: Value | None = None
    stream: bool = False


class Prefetch(NamedTuple):
    """A hint that the cache line of buffer[offset] is wanted soon, in the cache of a level.

    level 1: so soon, and so few of them, that the first cache has room. Any offset is harmless.
    """

    buffer: Buffer
    offset: Value
    level: int = 1


class Carry(NamedTuple):
    """A value carried around a loop.

    `init` before the loop, `var` inside the body, `next` at its end, `result` after the loop.
    """

    var: Var
    init: Value
    next: Value
    result: Var


class For(NamedTuple):
    """for var in range(start, stop, step): a counted loop.

    It runs zero times if stop <= start; step is positive.

    `kind`: "serial", "parallel" (iterations are independent, may be vectorized or split), "reduce"
    (iterations only combine through carries whose `next` is an associative update). A parallel loop
    that ends a block at min(var + step, stop), and reads var + step nowhere else, may begin its
    blocks anywhere.
    """

    var: Var
    start: Value
    stop: Value
    step: Value
    body: tuple[Stmt, ...]
    carries: tuple[Carry, ...] = ()
    kind: str = "serial"


class Yield(NamedTuple):
    """A value that both arms of an `If` give: `result` after it."""

    result: Var
    then: Value
    orelse: Value


class If(NamedTuple):
    """if cond: body else: orelse. `cond` is a scalar bool."""

    cond: Value
    body: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()
    yields: tuple[Yield, ...] = ()


class While(NamedTuple):
    """do: body while cond. `cond` is computed in the body; carries as in For."""

    body: tuple[Stmt, ...]
    cond: Value
    carries: tuple[Carry, ...] = ()


class Alloc(NamedTuple):
    """A stack array of `elements` (a Python int, at most 16 KiB); contents undefined."""

    buffer: Buffer
    elements: int


class Fault(NamedTuple):
    """if cond: payload -> context, return 1 + index of this fault in the kernel's `faults`.

    `cond` is a scalar bool.
    """

    cond: Value
    fault: int
    payload: tuple[Value, ...] = ()  # at most two, index or integer


class Poll(NamedTuple):
    """Charge `cost` to the context (index: about one per element-operation).

    When the budget is used up, ask the host whether to go on (signals); a refusal returns
    INTERRUPTED.
    """

    cost: Value


Stmt = Let | Load | Store | Prefetch | For | If | While | Alloc | Fault | Poll

INTERRUPTED = -1  # returned by a kernel whose Poll was refused


class Kernel(NamedTuple):
    """One compiled unit: buffers by pointer, dims as index arguments; both in call order.

    faults: one string per fault, for printing; the meaning is the caller's.
    """

    name: str
    buffers: tuple[Buffer, ...]
    dims: tuple[Var, ...]
    body: tuple[Stmt, ...]
    faults: tuple[str, ...] = ()


# What each `Let` op takes and gives: T any numeric type, F float, I integer, B bool; all args of
# the same lanes.
#   arithmetic  add sub mul (wrap for ints) · neg abs
#               div rem (F: IEEE, C fmod; I: truncating, neither by 0 nor with overflow)
#               fma (F: one rounding where the target has it, see legalize)
#               sqrt floor ceil trunc roundeven copysign (F)
#               min max (NaN wins, as numpy.minimum)
#               scaleb (float32: x * 2**floor(y), rounded once; x finite where y is infinite)
#   bits        and or xor not (I, B) · popcount clz ctz (I)
#               shl shr (I: count in [0, bits); shr is arithmetic if signed)
#   compare     eq ne lt le gt ge -> B (F: IEEE: only ne is true of NaN)
#   select      select(B, T, T)
#   convert     cast (C rules; F->I truncates and saturates, NaN -> 0; B->T is 0 or 1; T->B is != 0)
#               fastcast (F->I truncates; the value must fit) · bitcast (same bits)
#   lanes       splat (scalar -> vector) · iota (-> index vector 0..lanes-1; no args)
#               extract (attr = lane) · insert(vector, scalar) (attr = lane) · reverse
#               swap (neighbours change places: a1 a0 a3 a2 ...)
#               ziplo ziphi (a0 b0 a1 b1 ... of the lower, upper halves of two vectors)
#               hsum hprod hmin hmax hand hor (vector -> scalar)
#   tables      lookup (attr = up to 16 floats, a power of two: the float32 at each uint32 index
#               modulo their number)
#   memory      ahead (elements from a buffer's start to where full vectors lie aligned; no args)
#   dot         attr names an instruction of backends.isa: dot(sums, x, y) is sums + the sums of
#               groups of products of x and y; legalize expands it where the target lacks it
#   call        attr names a function of backends.vmath; all args of the result's type; legalize
#               expands it
ARITY: dict[str, int] = (
    dict.fromkeys(
        "neg abs sqrt floor ceil trunc roundeven not popcount clz ctz cast fastcast bitcast splat "
        "extract reverse swap lookup hsum hprod hmin hmax hand hor".split(),
        1,
    )
    | dict.fromkeys(
        "add sub mul div rem copysign scaleb min max and or xor shl shr eq ne lt le gt ge insert "
        "ziplo ziphi".split(),
        2,
    )
    | {"fma": 3, "select": 3, "dot": 3, "iota": 0, "ahead": 0}
)  # "call" takes as many as its function

COMPARE = frozenset("eq ne lt le gt ge".split())


class Block:
    """Builds a statement list; every method appends and returns the named value.

    >>> b = Block(); x = Var("x", Ty("float32")); b.let("add", x, x).type
    Ty(dtype='float32', lanes=1)
    """

    def __init__(self, names: list[int] | None = None):
        self.stmts: list[Stmt] = []
        self._names = names if names is not None else [0]

    def fresh(self, type: Ty, hint: str = "t") -> Var:
        self._names[0] += 1
        return Var(f"{hint}{self._names[0]}", type)

    def let(self, op: str, *args: Value, type: Ty | None = None, attr: Any = None) -> Var:
        """Append one operation.

        The type follows from the args, except for casts, splat, extract, call, iota.
        """
        if type is None:
            first = args[1].type if op == "select" else args[0].type
            type = Ty("bool", first.lanes) if op in COMPARE else first
        var = self.fresh(type)
        self.stmts.append(Let(var, op, args, attr))
        return var

    def cast(self, x: Value, dtype: str, op: str = "cast") -> Value:
        """x as dtype, lanes kept; nothing is emitted if it is one already."""
        if x.type.dtype == dtype:
            return x
        return self.let(op, x, type=Ty(dtype, x.type.lanes))

    def splat(self, x: Value, lanes: int) -> Value:
        if x.type.lanes == lanes:
            return x
        if isinstance(x, Const):
            return Const(x.value, Ty(x.type.dtype, lanes))
        return self.let("splat", x, type=Ty(x.type.dtype, lanes))

    def const(self, value: Any, like: Ty | str) -> Const:
        return Const(value, Ty(like) if isinstance(like, str) else like)

    def index(self, value: int) -> Const:
        return Const(value, Ty(INDEX))

    def load(self, buffer: Buffer, offset: Value, lanes: int = 1, mask: Value | None = None) -> Var:
        var = self.fresh(Ty(buffer.dtype, lanes), "v")
        self.stmts.append(Load(var, buffer, offset, mask))
        return var

    def store(
        self,
        buffer: Buffer,
        offset: Value,
        value: Value,
        mask: Value | None = None,
        stream: bool = False,
    ) -> None:
        self.stmts.append(Store(buffer, offset, value, mask, stream))

    def prefetch(self, buffer: Buffer, offset: Value, level: int = 1) -> None:
        self.stmts.append(Prefetch(buffer, offset, level))

    def alloc(self, dtype: str, count: int) -> Buffer:
        self._names[0] += 1
        buffer = Buffer(f"stack{self._names[0]}", dtype, "rw")
        self.stmts.append(Alloc(buffer, count))
        return buffer

    def fault(self, cond: Value, fault: int, *payload: Value) -> None:
        self.stmts.append(Fault(cond, fault, payload))

    def poll(self, cost: Value) -> None:
        self.stmts.append(Poll(cost))

    @contextmanager
    def loop(
        self,
        start: Any,
        stop: Value,
        step: Any = 1,
        kind: str = "serial",
        carries: Sequence[Value] = (),
        hint: str = "i",
    ) -> Iterator[LoopBlock]:
        """`with b.loop(0, n, carries=[zero]) as body:` builds in `body`.

        `body.var` is the index, `body.carried` the carried values; give their next values with
        `body.next(...)`; after the block `body.results` holds the results.
        """
        body = LoopBlock(self, Ty(INDEX), carries, hint)
        yield body
        if len(body._next) != len(carries):
            raise ValueError(
                f"loop carries {len(carries)} values but next() was given {len(body._next)}"
            )
        body.results = [self.fresh(c.type, "r") for c in carries]
        self.stmts.append(
            For(
                body.var,
                _as_index(start),
                stop,
                _as_index(step),
                tuple(body.stmts),
                tuple(Carry(*c) for c in zip(body.carried, carries, body._next, body.results)),
                kind,
            )
        )

    @contextmanager
    def loop_while(self, carries: Sequence[Value]) -> Iterator[LoopBlock]:
        """Do-while: like `loop`, and the body ends with `body.again(cond)`."""
        body = LoopBlock(self, Ty(INDEX), carries, "w")
        yield body
        body.results = [self.fresh(c.type, "r") for c in carries]
        triples = zip(body.carried, carries, body._next, body.results)
        self.stmts.append(While(tuple(body.stmts), body.cond, tuple(Carry(*c) for c in triples)))

    def branch(
        self,
        cond: Value,
        then: Callable[[Block], Sequence[Value]],
        orelse: Callable[[Block], Sequence[Value]] | None = None,
    ) -> list[Var]:
        """If with results.

        Both callables build in the Block they get and return the same number of values.
        """
        arms = [Block(self._names), Block(self._names)]
        values = [list(then(arms[0]) or ()), list(orelse(arms[1]) or ()) if orelse else []]
        results = [self.fresh(a.type, "r") for a in values[0]]
        yields = tuple(Yield(r, a, c) for r, a, c in zip(results, *values, strict=True))
        self.stmts.append(If(cond, tuple(arms[0].stmts), tuple(arms[1].stmts), yields))
        return results


class LoopBlock(Block):
    """The body of a loop under construction; see Block.loop."""

    def __init__(self, parent: Block, index_type: Ty, carries: Sequence[Value], hint: str):
        super().__init__(parent._names)
        self.var = self.fresh(index_type, hint)
        self.carried = [self.fresh(c.type, "c") for c in carries]
        self.results: list[Var] = []
        self._next: list[Value] = []
        self.cond: Value = Const(False, Ty("bool"))

    def next(self, *values: Value) -> None:
        self._next = list(values)

    def again(self, cond: Value) -> None:
        self.cond = cond


def _as_index(value: Any) -> Value:
    return Const(value, Ty(INDEX)) if isinstance(value, int) else value
