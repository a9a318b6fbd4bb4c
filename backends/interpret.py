"""Runs a kernel of loop IR in Python and NumPy: the oracle that needs no later stage.

Every value is an array of its lanes. An offset outside its buffer or a division that would trap
raises InternalError, so a test through the interpreter also proves that generated code stays inside
its buffers; stack arrays begin as NaN or a bit pattern that shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgraph.dtypes import dtype as as_dtype
from symgraph.errors import InternalError

from .irtext import KIND, signed
from .isa import INSTRUCTIONS
from .loops import (
    INDEX,
    INTERRUPTED,
    Alloc,
    Block,
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
    Ty,
    Value,
    Var,
    While,
)


class Context:
    """What a run leaves behind (fault payloads) and what `Poll` consumes, as the native context."""

    def __init__(self, poll: Callable[[], bool] | None = None, budget: int = 1 << 62):
        self.payload = [0, 0]
        self.budget = budget
        self.poll = poll  # asked when the budget is used up; True goes on


class _Stop(Exception):
    """Leaves the kernel with a status."""


def interpret(
    kernel: Kernel,
    arrays: Sequence[np.ndarray],
    dims: Sequence[int],
    context: Context | None = None,
    origins: Sequence[int] = (),
) -> int:
    """Run `kernel` on flat arrays, one for each buffer, and dim values; writes in place.

    origins: the element of each array that the kernel's offset 0 stands for (0 unless given).
    Returns: what the compiled kernel returns: 0, 1 + the index of a fault, or INTERRUPTED.
    Raises: InternalError where compiled code would touch memory it must not, or trap.
    """
    run = _Run(kernel, arrays, dims, context or Context(), origins or [0] * len(arrays))
    try:
        with np.errstate(all="ignore"):
            run.body(kernel.body)
    except _Stop as stop:
        return stop.args[0]
    return 0


def numpy_dtype(dtype: str) -> np.dtype:
    """The NumPy dtype of a loop-IR dtype ("index" is int64 here)."""
    return np.dtype(np.int64) if dtype == INDEX else as_dtype(dtype).np


def evaluate_let(op: str, args: Sequence[np.ndarray], result: Ty, attr: Any = None) -> np.ndarray:
    """One operation on arrays of lanes."""
    if op in _LANES:
        return _LANES[op](args, result, attr)
    function = _OPS.get(op)
    if function is None:
        raise InternalError(f"interpret: no meaning for {op}")
    return function(*args)


class _Run:
    """The state of one run: values of variables, arrays of buffers."""

    def __init__(
        self,
        kernel: Kernel,
        arrays: Sequence[np.ndarray],
        dims: Sequence[int],
        context: Context,
        origins: Sequence[int],
    ):
        self.values: dict[Var, np.ndarray] = {}
        # by id: the kernel and the expansions keep their constants and statements alive
        self.constants: dict[int, np.ndarray] = {}
        self.expansions: dict[int, tuple[list[Stmt], Value]] = {}
        self.buffers: dict[Buffer, np.ndarray] = {}
        self.context = context
        if len(arrays) != len(kernel.buffers) or len(dims) != len(kernel.dims):
            raise InternalError(
                f"interpret {kernel.name}: takes {len(kernel.buffers)} arrays and "
                f"{len(kernel.dims)} dims, got {len(arrays)} and {len(dims)}"
            )
        self.origins = dict(zip(kernel.buffers, origins))
        for buffer, array in zip(kernel.buffers, arrays):
            if array.ndim != 1 or array.dtype != numpy_dtype(buffer.dtype):
                raise InternalError(
                    f"interpret {kernel.name}: {buffer} is {buffer.dtype}[], "
                    f"got {array.dtype}{array.shape}"
                )
            self.buffers[buffer] = array
        for dim, value in zip(kernel.dims, dims):
            self.values[dim] = np.array([value], np.int64)

    def body(self, stmts: Sequence[Stmt]) -> None:
        for stmt in stmts:
            _RUN[type(stmt)](self, stmt)

    def value(self, value: Value) -> np.ndarray:
        if type(value) is Const:
            known = self.constants.get(id(value))
            if known is None:
                known = self.constants[id(value)] = constant(value)
            return known
        return self.values[value]  # type: ignore[index]

    def integer(self, value: Value) -> int:
        return int(self.value(value)[0])

    def let(self, stmt: Let) -> None:
        if stmt.op in ("call", "dot"):
            self._expanded(stmt)
            return
        if stmt.op == "ahead":
            self._ahead(stmt)
            return
        args = [self.value(a) for a in stmt.args]
        self.values[stmt.var] = evaluate_let(stmt.op, args, stmt.var.type, stmt.attr)

    def _ahead(self, stmt: Let) -> None:
        buffer, lanes = stmt.attr
        array = self.buffers[buffer]
        start = array.ctypes.data // array.itemsize + self.origins.get(buffer, 0)
        self.values[stmt.var] = np.array([-start % lanes], np.int64)

    def _expanded(self, stmt: Let) -> None:
        """A function of vmath or an instruction of isa: run what it means."""
        from .vmath import expand  # here: most kernels call none, and its tables take time to load

        expansion = self.expansions.get(id(stmt))
        if expansion is None:
            block = Block()
            meaning = INSTRUCTIONS[stmt.attr].meaning if stmt.op == "dot" else None
            if meaning is not None:
                result = meaning(block, *stmt.args)
            else:
                result = expand(block, stmt.attr, *stmt.args)
            expansion = self.expansions[id(stmt)] = (block.stmts, result)
        self.body(expansion[0])
        self.values[stmt.var] = self.value(expansion[1])

    def load(self, stmt: Load) -> None:
        lanes, memory = stmt.var.type.lanes, self.buffers[stmt.buffer]
        where, active = self._where(stmt.buffer, stmt.offset, lanes, stmt.mask)
        if active is None:
            self.values[stmt.var] = memory[where].copy()
            return
        result = np.zeros(lanes, memory.dtype)
        result[active] = memory[where[active]]
        self.values[stmt.var] = result

    def store(self, stmt: Store) -> None:
        value, memory = self.value(stmt.value), self.buffers[stmt.buffer]
        where, active = self._where(stmt.buffer, stmt.offset, len(value), stmt.mask)
        if active is None:
            memory[where] = value
            return
        for lane in np.flatnonzero(active):  # in lane order, as a scatter
            memory[where[lane]] = value[lane]

    def _where(self, buffer: Buffer, offset: Value, lanes: int, mask: Value | None) -> Any:
        """What to index the array with, and which lanes are active (None: a slice, all of it).

        Raises: InternalError if an active lane is outside the buffer.
        """
        where = self.value(offset) + self.origins.get(buffer, 0)
        size = len(self.buffers[buffer])
        first = int(where[0])
        if len(where) == 1 and mask is None:
            if first < 0 or first + lanes > size:
                raise _outside(buffer, first if first < 0 else max(first, size), size)
            return slice(first, first + lanes), None
        if len(where) != lanes:
            where = first + np.arange(lanes)
        active = np.ones(lanes, bool) if mask is None else self.value(mask)
        outside = active & ((where < 0) | (where >= size))
        if outside.any():
            raise _outside(buffer, int(where[outside][0]), size)
        return where, active

    def for_(self, stmt: For) -> None:
        start, stop, step = (self.integer(v) for v in (stmt.start, stmt.stop, stmt.step))
        if step <= 0:
            raise InternalError(f"interpret: loop over {stmt.var} steps by {step}")
        carried = [self.value(c.init) for c in stmt.carries]
        for i in range(start, stop, step):
            self.values[stmt.var] = np.array([i], np.int64)
            carried = self._turn(stmt, carried)
        for carry, value in zip(stmt.carries, carried):
            self.values[carry.result] = value

    def while_(self, stmt: While) -> None:
        carried = [self.value(c.init) for c in stmt.carries]
        again = True
        while again:
            carried = self._turn(stmt, carried)
            again = bool(self.value(stmt.cond)[0])
        for carry, value in zip(stmt.carries, carried):
            self.values[carry.result] = value

    def _turn(self, stmt: For | While, carried: list[np.ndarray]) -> list[np.ndarray]:
        for carry, value in zip(stmt.carries, carried):
            self.values[carry.var] = value
        self.body(stmt.body)
        return [self.value(c.next) for c in stmt.carries]

    def if_(self, stmt: If) -> None:
        taken = bool(self.value(stmt.cond)[0])
        self.body(stmt.body if taken else stmt.orelse)
        for result, then, orelse in stmt.yields:
            self.values[result] = self.value(then if taken else orelse)

    def alloc(self, stmt: Alloc) -> None:
        """Contents are undefined: filled with values that show up in a result if they are read."""
        array = np.empty(stmt.elements, numpy_dtype(stmt.buffer.dtype))
        array.view(np.uint8)[:] = 1 if stmt.buffer.dtype == "bool" else 0xA5
        if KIND[stmt.buffer.dtype] in "fh":
            array[:] = np.nan
        self.buffers[stmt.buffer] = array

    def fault(self, stmt: Fault) -> None:
        if self.value(stmt.cond)[0]:
            for i, value in enumerate(stmt.payload):
                self.context.payload[i] = signed(self.integer(value), 64)
            raise _Stop(1 + stmt.fault)

    def prefetch(self, stmt: Prefetch) -> None:
        self.integer(stmt.offset)

    def poll(self, stmt: Poll) -> None:
        context = self.context
        context.budget -= self.integer(stmt.cost)
        if context.budget < 0 and context.poll is not None and not context.poll():
            raise _Stop(INTERRUPTED)


def _outside(buffer: Buffer, offset: int, size: int) -> InternalError:
    return InternalError(f"interpret: offset {offset} is outside {buffer} of {size} elements")


def constant(const: Const) -> np.ndarray:
    """The lanes of a literal; integers wrap to their width."""
    dtype, lanes = const.type
    kind, numpy = KIND[dtype], numpy_dtype(dtype)
    if kind in "iu":
        bits = 8 * numpy.itemsize
        value = int(const.value)
        value = signed(value, bits) if kind == "i" else value % (1 << bits)
        return np.full(lanes, value, numpy)
    with np.errstate(all="ignore"):
        return np.full(lanes, const.value).astype(numpy)


def _integer_division(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """C's quotient; a divisor of zero, or one that overflows, traps on some machines."""
    if not y.all():
        raise InternalError("interpret: integer division by zero")
    if x.dtype.kind == "u":
        return x // y
    if ((y == -1) & (x == np.iinfo(x.dtype).min)).any():
        raise InternalError("interpret: integer division overflows")
    quotient = x // y
    return quotient + ((quotient * y != x) & ((x < 0) != (y < 0))).astype(x.dtype)


def _div(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _integer_division(x, y) if x.dtype.kind in "iu" else x / y


def _rem(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x - _integer_division(x, y) * y if x.dtype.kind in "iu" else np.fmod(x, y)


def _fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x * y + z rounded once, by way of rationals."""
    single = x.dtype == np.float32
    lanes = [_fma_float(float(a), float(b), float(c), single) for a, b, c in zip(x, y, z)]
    return np.array(lanes, x.dtype)


def _fma_float(x: float, y: float, z: float, single: bool) -> float:
    from fractions import Fraction

    if not np.isfinite(x) or not np.isfinite(y):
        return x * y + z
    if not np.isfinite(z):
        return z  # even where x * y by itself would overflow
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    if exact == 0:
        return x * y + z  # the sign of zero
    try:
        near = float(exact)
    except OverflowError:
        return np.inf if exact > 0 else -np.inf
    if single and Fraction(near) != exact and not np.float64(near).view(np.int64) & 1:
        # to odd, so that the second rounding does not see a tie that is none
        near = float(np.nextafter(near, np.inf if exact > Fraction(near) else -np.inf))
    return near


def _scaleb(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x * 2**floor(y): beyond some hundreds, the power only says whether it is 0 or infinite."""
    finite = np.isfinite(y)
    power = np.clip(np.floor(np.where(finite, y, 0.0)), -400, 400).astype(np.int32)
    return np.where(finite, np.ldexp(x, power), x * np.exp2(y))


def _bit_count(x: np.ndarray) -> np.ndarray:
    return np.array([int(v).bit_count() for v in _unsigned(x)], x.dtype)


def _unsigned(x: np.ndarray) -> np.ndarray:
    return x.view(f"u{x.dtype.itemsize}")


def _clz(x: np.ndarray) -> np.ndarray:
    bits = 8 * x.dtype.itemsize
    return np.array([bits - int(v).bit_length() for v in _unsigned(x)], x.dtype)


def _ctz(x: np.ndarray) -> np.ndarray:
    bits = 8 * x.dtype.itemsize
    lowest = ((int(v) & -int(v)).bit_length() - 1 if v else bits for v in _unsigned(x))
    return np.array(list(lowest), x.dtype)


_OPS: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _div,
    "rem": _rem,
    "neg": np.negative,
    "abs": np.abs,
    "fma": _fma,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "roundeven": np.rint,
    "copysign": np.copysign,
    "scaleb": _scaleb,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "shl": np.left_shift,
    "shr": np.right_shift,
    "popcount": _bit_count,
    "clz": _clz,
    "ctz": _ctz,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "select": np.where,
}


def cast(x: np.ndarray, dtype: str) -> np.ndarray:
    """Numeric conversion: float to integer truncates and saturates, NaN to 0."""
    wanted = numpy_dtype(dtype)
    if wanted.kind in "iu" and x.dtype.kind not in "iub":
        return _saturate(x.astype(np.float64), wanted)
    if wanted.kind == "b":
        return x != 0
    return x.astype(wanted)


def _saturate(x: np.ndarray, wanted: np.dtype) -> np.ndarray:
    info = np.iinfo(wanted)
    x = np.trunc(np.where(np.isnan(x), 0.0, x))
    # 2.0**63 is a float, 2**63 - 1 is not: compare with the first value that is too large
    high, low = (
        x >= float(info.max) + 1 if wanted.itemsize < 8 else x >= float(info.max),
        x <= info.min,
    )
    inside = np.where(high | low, 0.0, x).astype(wanted)
    return np.where(high, info.max, np.where(low, info.min, inside)).astype(wanted)


def _halves(combine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    """Reduce by combining lane i with lane i + n/2, as `emit` does."""

    def reduce(args: Sequence[np.ndarray], result: Ty, attr: Any) -> np.ndarray:
        x = args[0]
        while len(x) > 1:
            x = combine(x[: len(x) // 2], x[len(x) // 2 :])
        return x

    return reduce


def _insert(args: Sequence[np.ndarray], result: Ty, attr: Any) -> np.ndarray:
    vector = args[0].copy()
    vector[attr] = args[1][0]
    return vector


def _zip(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x, y], axis=1).reshape(-1)


# Operations that need the type of the result or look across lanes.
_LANES: dict[str, Callable[[Sequence[np.ndarray], Ty, Any], np.ndarray]] = {
    "cast": lambda args, result, attr: cast(args[0], result.dtype),
    "fastcast": lambda args, result, attr: cast(args[0], result.dtype),
    "bitcast": lambda args, result, attr: np.ascontiguousarray(args[0]).view(
        numpy_dtype(result.dtype)
    ),
    "splat": lambda args, result, attr: np.repeat(args[0], result.lanes),
    "iota": lambda args, result, attr: np.arange(result.lanes, dtype=numpy_dtype(result.dtype)),
    "extract": lambda args, result, attr: args[0][attr : attr + 1],
    "insert": _insert,
    "reverse": lambda args, result, attr: args[0][::-1],
    "swap": lambda args, result, attr: args[0].reshape(-1, 2)[:, ::-1].reshape(-1),
    "lookup": lambda args, result, attr: np.array(attr, np.float32)[args[0] % len(attr)],
    "ziplo": lambda args, result, attr: _zip(*(x[: len(x) // 2] for x in args)),
    "ziphi": lambda args, result, attr: _zip(*(x[len(x) // 2 :] for x in args)),
    "hsum": _halves(np.add),
    "hprod": _halves(np.multiply),
    "hmin": _halves(np.minimum),
    "hmax": _halves(np.maximum),
    "hand": _halves(np.bitwise_and),
    "hor": _halves(np.bitwise_or),
}

_RUN: dict[type, Callable[[_Run, Any], None]] = {
    Let: _Run.let,
    Load: _Run.load,
    Store: _Run.store,
    For: _Run.for_,
    If: _Run.if_,
    While: _Run.while_,
    Alloc: _Run.alloc,
    Fault: _Run.fault,
    Prefetch: _Run.prefetch,
    Poll: _Run.poll,
}
