"""One `Let` as LLVM instructions: tables from (op, kind), and the few ops that need a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import emit_avx512, fallback, isa
from .emit_casts import cast, convert, fastcast
from .irtext import BYTES, KIND, lanes_of, mangled, signed, splat, unsupported
from .loops import INDEX, Block, Const, Let, Ty, Value

if TYPE_CHECKING:
    from .emit import Emitter

# (op, kind) -> instruction of two operands of one type
_BINARY = {
    (op, kind): instruction
    for op, kinds in {
        "add": {"iu": "add", "f": "fadd"},
        "sub": {"iu": "sub", "f": "fsub"},
        "mul": {"iu": "mul", "f": "fmul"},
        "div": {"i": "sdiv", "u": "udiv", "f": "fdiv"},
        "rem": {"i": "srem", "u": "urem"},
        "and": {"iub": "and"},
        "or": {"iub": "or"},
        "xor": {"iub": "xor"},
        "shl": {"iu": "shl"},
        "shr": {"i": "ashr", "u": "lshr"},
        "eq": {"iub": "icmp eq", "f": "fcmp oeq"},
        "ne": {"iub": "icmp ne", "f": "fcmp une"},
        "lt": {"i": "icmp slt", "ub": "icmp ult", "f": "fcmp olt"},
        "le": {"i": "icmp sle", "ub": "icmp ule", "f": "fcmp ole"},
        "gt": {"i": "icmp sgt", "ub": "icmp ugt", "f": "fcmp ogt"},
        "ge": {"i": "icmp sge", "ub": "icmp uge", "f": "fcmp oge"},
    }.items()
    for group, instruction in kinds.items()
    for kind in group
}
# (op, kind) -> intrinsic whose operands and result share one type, and a flag it takes besides
_INTRINSIC = {
    ("abs", "f"): ("llvm.fabs", ""),
    ("abs", "i"): ("llvm.abs", "false"),
    ("sqrt", "f"): ("llvm.sqrt", ""),
    ("floor", "f"): ("llvm.floor", ""),
    ("ceil", "f"): ("llvm.ceil", ""),
    ("trunc", "f"): ("llvm.trunc", ""),
    ("roundeven", "f"): ("llvm.roundeven", ""),
    ("copysign", "f"): ("llvm.copysign", ""),
    ("fma", "f"): ("llvm.fma", ""),
    ("min", "i"): ("llvm.smin", ""),
    ("max", "i"): ("llvm.smax", ""),
    ("min", "u"): ("llvm.umin", ""),
    ("max", "u"): ("llvm.umax", ""),
    ("popcount", "i"): ("llvm.ctpop", ""),
    ("popcount", "u"): ("llvm.ctpop", ""),
    ("clz", "i"): ("llvm.ctlz", "false"),
    ("clz", "u"): ("llvm.ctlz", "false"),
    ("ctz", "i"): ("llvm.cttz", "false"),
    ("ctz", "u"): ("llvm.cttz", "false"),
}
# (op, kind) -> reduction of a vector whose order does not matter
_REDUCE = {
    ("hsum", "i"): "add",
    ("hsum", "u"): "add",
    ("hprod", "i"): "mul",
    ("hprod", "u"): "mul",
    ("hmin", "i"): "smin",
    ("hmax", "i"): "smax",
    ("hmin", "u"): "umin",
    ("hmax", "u"): "umax",
    ("hand", "b"): "and",
    ("hor", "b"): "or",
    ("hand", "i"): "and",
    ("hor", "i"): "or",
    ("hand", "u"): "and",
    ("hor", "u"): "or",
}


def let(e: Emitter, stmt: Let) -> None:
    """Emit one operation and name its result."""
    var, op, args, _ = stmt
    if var.type.lanes > 1 and var.type.dtype == INDEX:
        e.lets[var] = stmt
    if op in _FOLD and var.type == _SCALAR_INDEX and _fold(e, stmt):
        return
    if op in fallback.OPS and _expand(e, stmt):
        return
    dtype = args[0].type.dtype if args else ""
    instruction = _BINARY_OF.get((op, dtype))
    if instruction is not None:
        type, a, b = e.spell.types[args[0].type], e.operand(args[0]), e.operand(args[1])
        e.names[var] = e.text.value(f"{instruction} {type} {a}, {b}")
        return
    intrinsic = _INTRINSIC.get((op, KIND.get(dtype, "")))
    if intrinsic is not None and not (op == "fma" and not e.target.has_fma):
        e.names[var] = _call(e, intrinsic[0], args, intrinsic[1])
        return
    special = _SPECIAL.get(op)
    if special is None:
        raise unsupported(f"no instruction for {op} on {args[0].type if args else var.type}")
    e.names[var] = special(e, stmt)


def _expand(e: Emitter, stmt: Let) -> bool:
    """Emit what the target has no instruction for as operations that it has."""
    expand = fallback.expansion(stmt, e.target)
    if expand is None:
        return False
    block = Block()
    result = expand(block, *stmt.args)
    e.body(block.stmts)
    e.bind(stmt.var, result)
    return True


_BINARY_OF = {
    (op, dtype): instruction
    for (op, kind), instruction in _BINARY.items()
    for dtype, its_kind in KIND.items()
    if its_kind == kind
}
_SCALAR_INDEX = Ty(INDEX)
_FOLD: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "min": min,
    "max": max,
}
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1}


def _fold(e: Emitter, stmt: Let) -> bool:
    """Index arithmetic that is decided, or does nothing, costs no instruction."""
    var, op, (x, y), _ = stmt
    a, b = e.integer(x), e.integer(y)
    if a is not None and b is not None:
        e.bind(var, Const(signed(_FOLD[op](a, b), e.target.pointer_bits), var.type))
    elif b is not None and _NEUTRAL.get(op) == b:
        e.bind(var, x)
    elif a is not None and op != "sub" and _NEUTRAL.get(op) == a:
        e.bind(var, y)
    elif op == "mul" and 0 in (a, b):
        e.bind(var, Const(0, var.type))
    else:
        return False
    return True


def _call(e: Emitter, name: str, args: tuple[Value, ...], flag: str = "") -> str:
    """A call of an intrinsic overloaded on the one type of its operands and result."""
    dtype, lanes = args[0].type
    type = e.spell.types[args[0].type]
    operands = [(type, e.operand(a)) for a in args]
    if flag:
        operands.append(("i1", flag))
    return e.text.call(type, f"{name}.{mangled(e.spell.scalar[dtype], lanes)}", *operands)


def _neg(e: Emitter, stmt: Let) -> str:
    (x,) = stmt.args
    kind, type = KIND[x.type.dtype], e.spell.types[x.type]
    if kind == "f":
        return e.text.value(f"fneg {type} {e.operand(x)}")
    if kind == "h":
        return e.text.value(f"xor {type} {e.operand(x)}, {splat('i16', x.type.lanes, '-32768')}")
    return e.text.value(f"sub {type} {splat('', x.type.lanes, '0')}, {e.operand(x)}")


def _abs(e: Emitter, stmt: Let) -> str:
    (x,) = stmt.args
    if KIND[x.type.dtype] == "h":
        mask = splat("i16", x.type.lanes, "32767")
        return e.text.value(f"and {e.typed(x)}, {mask}")
    return e.operand(x)  # unsigned


def _not(e: Emitter, stmt: Let) -> str:
    (x,) = stmt.args
    dtype, lanes = x.type
    ones = "true" if dtype == "bool" else "-1"
    return e.text.value(f"xor {e.typed(x)}, {splat(e.spell.scalar[dtype], lanes, ones)}")


def _select(e: Emitter, stmt: Let) -> str:
    return e.text.value("select " + ", ".join(e.typed(a) for a in stmt.args))


def _minmax(e: Emitter, stmt: Let) -> str:
    a, b = stmt.args
    if isinstance(
        a, Const
    ):  # the constant first lets one compare-and-select pass the other's NaN on
        a, b = b, a
    number = isinstance(b, Const) and b.value == b.value
    return minmax(e, stmt.op, a.type, e.operand(a), e.operand(b), number)


def minmax(e: Emitter, op: str, ty: Ty, a: str, b: str, b_is_number: bool = False) -> str:
    """Float minimum or maximum in which NaN wins.

    x86's own instructions are `select(a < b, a, b)`, which gives b if either is NaN: right by
    itself if b may be NaN and a is a number; otherwise a NaN in a is put back. Arm's instructions
    propagate NaN.
    """
    type = e.spell.types[ty]
    if not e.target.is_x86 and (ty.dtype == "float32" or e.target.cheap_f64_vectors):
        name = f"llvm.{op}imum.{mangled(e.spell.scalar[ty.dtype], ty.lanes)}"
        return e.text.call(type, name, (type, a), (type, b))
    less = "olt" if op == "min" else "ogt"
    condition = lanes_of("i1", ty.lanes)
    if b_is_number:
        a, b = b, a
    better = e.text.value(f"fcmp {less} {type} {a}, {b}")
    best = e.text.value(f"select {condition} {better}, {type} {a}, {type} {b}")
    if b_is_number:
        return best
    bad = e.text.value(f"fcmp uno {type} {a}, {a}")
    return e.text.value(f"select {condition} {bad}, {type} {a}, {type} {best}")


def _bitcast(e: Emitter, stmt: Let) -> str:
    (x,) = stmt.args
    if e.spell.types[x.type] == e.spell.types[stmt.var.type]:
        return e.operand(x)
    return convert(e, stmt, "bitcast")


def _splat(e: Emitter, stmt: Let) -> str:
    (x,), lanes = stmt.args, stmt.var.type.lanes
    type = e.spell.types[stmt.var.type]
    if isinstance(x, Const):
        return e.operand(Const(x.value, stmt.var.type))
    first = e.text.value(f"insertelement {type} poison, {e.typed(x)}, i32 0")
    mask = f"<{lanes} x i32> zeroinitializer"
    return e.text.value(f"shufflevector {type} {first}, {type} poison, {mask}")


def _ahead(e: Emitter, stmt: Let) -> str:
    """The bytes up to the next multiple of a vector, as elements."""
    buffer, lanes = stmt.attr
    size = BYTES[buffer.dtype]
    address = e.text.value(f"ptrtoint ptr {e.buffers[buffer]} to {e.index}")
    below = e.text.value(f"sub {e.index} 0, {address}")
    bytes = e.text.value(f"and {e.index} {below}, {lanes * size - 1}")
    return e.text.value(f"lshr {e.index} {bytes}, {size.bit_length() - 1}")


def _iota(e: Emitter, stmt: Let) -> str:
    scalar = e.spell.scalar[stmt.var.type.dtype]
    if stmt.var.type.lanes == 1:
        return "0"
    return "<" + ", ".join(f"{scalar} {i}" for i in range(stmt.var.type.lanes)) + ">"


def _extract(e: Emitter, stmt: Let) -> str:
    return e.text.value(f"extractelement {e.typed(stmt.args[0])}, i32 {stmt.attr}")


def _insert(e: Emitter, stmt: Let) -> str:
    vector, scalar = stmt.args
    return e.text.value(f"insertelement {e.typed(vector)}, {e.typed(scalar)}, i32 {stmt.attr}")


def shuffle(e: Emitter, type: str, x: str, lanes: list[int]) -> str:
    """The named lanes of a vector, in that order."""
    mask = ", ".join(f"i32 {i}" for i in lanes)
    return e.text.value(f"shufflevector {type} {x}, {type} poison, <{len(lanes)} x i32> <{mask}>")


def _reverse(e: Emitter, stmt: Let) -> str:
    (x,) = stmt.args
    return shuffle(e, e.spell.types[x.type], e.operand(x), list(range(x.type.lanes))[::-1])


def _swap(e: Emitter, stmt: Let) -> str:
    """Neighbouring lanes exchanged."""
    (x,) = stmt.args
    order = [lane ^ 1 for lane in range(x.type.lanes)]
    return shuffle(e, e.spell.types[x.type], e.operand(x), order)


def _zip(e: Emitter, stmt: Let) -> str:
    """The lower or the upper halves of two vectors, lanes in turn."""
    x, y = stmt.args
    lanes = x.type.lanes
    first = lanes // 2 if stmt.op == "ziphi" else 0
    mask = ", ".join(f"i32 {first + i}, i32 {lanes + first + i}" for i in range(lanes // 2))
    return e.text.value(f"shufflevector {e.typed(x)}, {e.typed(y)}, <{lanes} x i32> <{mask}>")


def _reduce(e: Emitter, stmt: Let) -> str:
    """A vector to a scalar; floats by halves (lane i with lane i + n/2), a fixed short order."""
    (x,) = stmt.args
    dtype, lanes = x.type
    scalar, kind = e.spell.scalar[dtype], KIND[dtype]
    if lanes == 1:
        return e.operand(x)
    order_free = _REDUCE.get((stmt.op, kind))
    if order_free is not None:
        name = f"llvm.vector.reduce.{order_free}.{mangled(scalar, lanes)}"
        return e.text.call(scalar, name, (e.spell.types[x.type], e.operand(x)))
    if kind != "f":
        raise unsupported(f"no instruction for {stmt.op} on {x.type}")
    name, type = e.operand(x), e.spell.types[x.type]
    while lanes > 2:
        lanes //= 2
        low = shuffle(e, type, name, list(range(lanes)))
        high = shuffle(e, type, name, list(range(lanes, 2 * lanes)))
        name, type = _combine(e, stmt.op, Ty(dtype, lanes), low, high), lanes_of(scalar, lanes)
    first, second = (e.text.value(f"extractelement {type} {name}, i32 {i}") for i in (0, 1))
    return _combine(e, stmt.op, Ty(dtype), first, second)


def _combine(e: Emitter, op: str, ty: Ty, a: str, b: str) -> str:
    if op in ("hmin", "hmax"):
        return minmax(e, op[1:], ty, a, b)
    instruction = "fadd" if op == "hsum" else "fmul"
    return e.text.value(f"{instruction} {e.spell.types[ty]} {a}, {b}")


def _dot(e: Emitter, stmt: Let) -> str:
    """A dot product by the instruction that the target has for it."""
    total, x, y = stmt.args
    form = isa.form(stmt.attr, total.type.lanes, e.target)
    if form is None:
        raise unsupported(f"{stmt.attr} on {total.type} must be expanded by legalize first")
    operands = [(e.spell.types[v.type], e.operand(v)) for v in (x, y)]
    if form.operand:
        type = form.operand
        operands = [(type, e.text.value(f"bitcast {t} {v} to {type}")) for t, v in operands]
    if form.swapped:
        operands.reverse()
    type, sums = e.spell.types[total.type], e.operand(total)
    if not form.product:
        return e.text.call(type, form.intrinsic, (type, sums), *operands)
    products = e.text.call(type, form.intrinsic, *operands)
    return e.text.value(f"add {type} {sums}, {products}")


def _unlegal(e: Emitter, stmt: Let) -> str:
    raise unsupported(f"call of {stmt.attr!r} must be expanded by legalize first")


_SPECIAL: dict[str, Callable[[Emitter, Let], str]] = {
    "neg": _neg,
    "abs": _abs,
    "not": _not,
    "min": _minmax,
    "max": _minmax,
    "select": _select,
    "cast": cast,
    "fastcast": fastcast,
    "bitcast": _bitcast,
    "splat": _splat,
    "iota": _iota,
    "ahead": _ahead,
    "extract": _extract,
    "insert": _insert,
    "reverse": _reverse,
    "swap": _swap,
    "scaleb": emit_avx512.scaleb,
    "lookup": emit_avx512.lookup,
    "ziplo": _zip,
    "ziphi": _zip,
    **dict.fromkeys("hsum hprod hmin hmax hand hor".split(), _reduce),
    "dot": _dot,
    "call": _unlegal,
}
